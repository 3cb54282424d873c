//! Random peers on a bad network: rules that hold at every step, and the quiet that must follow when the network heals.
//!
//! Each seed draws the whole setting. `REFEREE_SEED=n` replays one, `REFEREE_SEEDS=n` runs more than the usual number. A
//! failure prints the seed, the rules that were broken and the ladder.

use proptest::prelude::*;
use referee::command::{CallSelector, Command};
use referee::identifiers::Random;
use referee::sim::network::Weather;
use referee::sim::peer::Peer;
use referee::sim::peer::script::{Act, EventIds, Manners, Steps, notify, request, respond, respond_with};
use referee::sim::scene::{PRIVATE, PUBLIC, Scene, TWO_SIDES, carrier, config, platform};
use referee::sim::{PeerId, World};
use referee::timer::Instant;
use referee::transport::Transport;
use serde_json::json;
use std::time::Duration;

const BYE: &str = "BYE";
const SEEDS: u64 = 200;
/// Each of these found a fault once.
const KEPT: &[u64] = &[226];

#[test]
fn every_seed_keeps_the_rules_and_comes_to_rest() {
    if let Some(seed) = number_from("REFEREE_SEED") {
        println!("{}", run(seed).ladder());
        return;
    }
    let seeds = number_from("REFEREE_SEEDS").unwrap_or(SEEDS);
    let mut transfers = 0;
    let mut calls = 0;
    for seed in KEPT.iter().copied().chain(0..seeds) {
        let world = std::panic::catch_unwind(|| run(seed));
        let Ok(world) = world else {
            panic!("seed {seed} failed: REFEREE_SEED={seed} replays it");
        };
        for shard in 0..2 {
            let counters = world.shard(shard).counters();
            transfers += counters.transfers_total;
            calls += counters.calls_answered_total;
        }
    }
    // The dice must not avoid what is tested.
    assert!(
        calls > seeds && transfers > seeds / 2,
        "{calls} calls, {transfers} transfers"
    );
}

#[test]
fn a_seed_replays_to_the_letter() {
    for seed in [1, 7] {
        assert_eq!(run(seed).ladder().to_string(), run(seed).ladder().to_string());
    }
}

fn number_from(variable: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "which seeds to run is the tester's choice")]
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is `{text}`, no number")),
    )
}

/// Draws a setting from the seed, lets it happen, heals the network, hangs up and waits for silence.
fn run(seed: u64) -> World {
    let mut raw = [7; 16];
    raw[8..].copy_from_slice(&seed.to_be_bytes());
    let mut dice = Dice(Random::new(raw));
    let store = dice.one_in(4).then(|| Duration::from_millis(dice.below(80)));
    let side = if dice.one_in(3) {
        "tcp:10.0.0.5:5060"
    } else {
        "udp:10.0.0.5:5060"
    };
    let mut text = TWO_SIDES.replace("udp:10.0.0.5:5060", side);
    if dice.one_in(2) {
        text = text.replace("side = \"carrier\"", "side = \"carrier\"\ninbound_refer = \"relay\"");
    }
    let mut world = World::new(seed, 2, config(&text), store);
    let jitter = dice.below(60);
    let weather = Weather {
        loss: dice.below(301),
        duplication: dice.below(150),
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(1 + jitter),
    };
    let heals = Instant::from_millis(60_000);
    world.network.set_weather(weather, Some(heals));
    if dice.one_in(3) {
        let from = Instant::from_millis(dice.below(30_000));
        let until = from + Duration::from_millis(dice.below(20_000));
        world.network.part("referee", "carrier", from, until);
    }
    let carrier = world.add(member(&mut dice, "carrier", "198.51.100.10:5060", PUBLIC));
    let platform = world.add(member(&mut dice, "platform", "10.0.0.5:5060", PRIVATE));
    if side.starts_with("tcp") {
        world.peer_mut(platform).manners.transport = Transport::Tcp;
    }
    let mut calls = Vec::new();
    for _ in 0..2 + dice.below(5) {
        let caller = if dice.one_in(3) { platform } else { carrier };
        let callee = if caller == carrier { platform } else { carrier };
        let answer = dice.answer();
        world.peer_mut(callee).on("INVITE", answer);
        let uri = if caller == carrier {
            "sip:+4930123456@203.0.113.7"
        } else {
            "sip:+491701@10.0.0.1"
        };
        calls.push(world.call(caller, uri, &[]));
        if dice.one_in(8) {
            let call = calls.last().cloned().unwrap_or_default();
            let at = world.now() + Duration::from_millis(dice.below(2_000));
            world.peer_mut(caller).act_at(&call, Act::Cancel, at);
        }
        world.run_for(Duration::from_millis(dice.below(1_500)));
    }
    for peer in [carrier, platform] {
        for _ in 0..10 {
            let course = dice.course();
            world.peer_mut(peer).on("REFER", course);
        }
    }
    for _ in 0..30 {
        world.run_for(Duration::from_millis(dice.below(2_500)));
        let call = calls[dice.below(calls.len() as u64) as usize].clone();
        something_happens(&mut world, &mut dice, &call, [carrier, platform]);
    }
    world.run_until(heals);
    // Whoever takes a call for alive hangs up, until nobody does.
    for _ in 0..4 {
        for peer in [carrier, platform] {
            for call in world.peer(peer).live_calls() {
                world.act(peer, &call, Act::Cancel);
                world.act(peer, &call, request(BYE));
            }
        }
        world.run_for(Duration::from_secs(300));
    }
    world.finish();
    for peer in [carrier, platform] {
        assert!(
            world.peer(peer).live_calls().is_empty(),
            "seed {seed}\n{}",
            world.ladder()
        );
    }
    world
}

fn member(dice: &mut Dice, name: &str, address: &str, referee: &str) -> Peer {
    let mut manners = Manners::new(referee, &format!("\"{name}\" <sip:{name}@example.com>"));
    manners.in_order = false;
    manners.first_cseq = 1 + dice.below(3) as u32 * 1_000;
    manners.follows_routes = !dice.one_in(5);
    if dice.one_in(3) {
        manners.event_ids = EventIds::Always;
    }
    Peer::new(name, address, manners)
}

fn something_happens(world: &mut World, dice: &mut Dice, call: &str, peers: [PeerId; 2]) {
    let peer = peers[dice.below(2) as usize];
    match dice.below(14) {
        0..=3 => {
            let verb = json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/a", "eventHook": "/e"});
            // Most are refused: the call is not answered, or over, or a transfer runs.
            if let Err(error) = world.verbs(call, &verb) {
                panic!("{error}");
            }
        }
        4 => world.act(peer, call, request("INVITE")),
        5 | 6 => world.act(peer, call, request("INFO")),
        7 => world.act(peer, call, request("UPDATE")),
        8 | 12 | 13 => {
            let headers = [("Refer-To", "<sip:x@y>"), ("Referred-By", "<sip:p@example.com>")];
            let refer = referee::sim::peer::script::request_with("REFER", &headers, "");
            world.act(if dice.one_in(3) { peers[0] } else { peers[1] }, call, refer);
        }
        9 => world.act(peer, call, request(BYE)),
        10 if dice.one_in(4) => {
            let call = CallSelector::SipCallId(call.as_bytes().to_vec());
            world.command(Command::Hangup { call });
        }
        11 if dice.one_in(3) => world.close_connections(peer),
        _ => {}
    }
}

/// Random numbers as scripts need them.
struct Dice(Random);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn wait(&mut self, millis: u64) -> Duration {
        Duration::from_millis(self.below(millis))
    }

    /// How a callee takes an INVITE.
    fn answer(&mut self) -> Steps {
        let mut steps = Vec::new();
        if !self.one_in(4) {
            steps.push((self.wait(300), respond(180)));
        }
        let last = if self.one_in(6) {
            self.one_of(&[486, 404, 503, 603, 302])
        } else {
            200
        };
        steps.push((Duration::from_millis(300) + self.wait(2_000), respond(last)));
        steps
    }

    /// How a party takes a REFER.
    fn course(&mut self) -> Steps {
        let code = match self.below(10) {
            0 => self.one_of(&[403, 405, 481, 491, 500, 503, 603]),
            1 => 200,
            _ => 202,
        };
        let mut steps: Steps = vec![(self.wait(300), respond(code))];
        if self.one_in(12) {
            steps[0].1 = respond_with(503, &[("Retry-After", "2")]);
            return steps;
        }
        if code < 300 && self.one_in(10) {
            steps[0].1 = respond_with(code, &[("Refer-Sub", "false")]);
            return steps;
        }
        if code >= 300 {
            return steps;
        }
        let mut at = Duration::ZERO;
        // In one burst they overtake each other.
        let (between, last) = if self.one_in(3) { (20, 40) } else { (1_000, 5_000) };
        for status in ["100 Trying", "180 Ringing"] {
            at += self.wait(between);
            if !self.one_in(4) {
                steps.push((at, notify(status, "active;expires=60")));
            }
        }
        at += self.wait(last);
        match self.below(8) {
            0 => {}
            1 => steps.push((at, request(BYE))),
            2 => steps.push((at, notify("", "terminated;reason=giveup"))),
            3 => {
                steps.push((at, notify("200 OK", "terminated;reason=noresource")));
                steps.push((at, request(BYE)));
            }
            _ => {
                let status = self.one_of(&["200 OK", "486 Busy Here", "603 Decline"]);
                steps.push((at, notify(status, "terminated;reason=noresource")));
            }
        }
        steps
    }
}

/// One step of a dialog into which referee inserts requests.
#[derive(Clone, Copy, Debug)]
enum Step {
    Refer,
    Caller(&'static str),
    Callee(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let method = prop_oneof![Just("INFO"), Just("INVITE"), Just("UPDATE"), Just("MESSAGE")];
    prop_oneof![
        Just(Step::Refer),
        method.clone().prop_map(Step::Caller),
        method.prop_map(Step::Callee),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A naive model of what each end sees: the numbers of the other's requests in the order they were sent, those of
    /// referee counted in. The peers themselves check that every response has the number of its request.
    #[test]
    fn both_ends_see_numbers_that_rise_by_one(
        first in (1u32..3, 1u32..3),
        steps in proptest::collection::vec(step(), 0..14),
    ) {
        let (mut caller, mut callee) = (carrier(), platform());
        caller.manners.first_cseq = first.0 * 7;
        callee.manners.first_cseq = first.1;
        let text = TWO_SIDES.replace("[[trunk]]\nname = \"platform\"", "[[trunk]]\nname = \"platform\"\ninbound_refer = \"reject\"");
        let mut scene = Scene::with(&text, caller, callee);
        let call = scene.answered();
        // What the caller sees: the callee's numbers, from its first on, or from 1 where referee speaks first.
        let mut seen_by_caller: Vec<u32> = Vec::new();
        let mut seen_by_callee = vec![first.0 * 7];
        let mut said_by_callee = first.1 - 1;
        let mut refers = 0;
        for step in steps {
            match step {
                Step::Refer if refers < 5 => {
                    refers += 1;
                    scene.verbs(&call, json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/a"}));
                    let number = seen_by_caller.last().map_or(1, |last| last + 1);
                    seen_by_caller.push(number);
                }
                Step::Refer => {}
                Step::Caller(method) => {
                    scene.carrier_does(&call, request(method));
                    let number = seen_by_callee.last().map_or(0, |last| last + 1);
                    seen_by_callee.push(number);
                }
                Step::Callee(method) => {
                    scene.platform_does(&call, request(method));
                    let inserted_first = said_by_callee == first.1 - 1 && !seen_by_caller.is_empty();
                    said_by_callee += 1;
                    // Its first request keeps its number, shifted by what was inserted before it.
                    let number = match seen_by_caller.last() {
                        Some(last) if !inserted_first => last + 1,
                        _ => said_by_callee + seen_by_caller.len() as u32,
                    };
                    seen_by_caller.push(number);
                }
            }
            scene.run(200);
        }
        let numbers = |peer: PeerId| {
            let heard = scene.world.peer(peer).heard("");
            let requests = heard.iter().filter(|text| text.is_request() && text.method() != "ACK");
            requests.map(|text| text.cseq().0).collect::<Vec<_>>()
        };
        prop_assert_eq!(numbers(scene.carrier), seen_by_caller);
        prop_assert_eq!(numbers(scene.platform), seen_by_callee);
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
    }
}
