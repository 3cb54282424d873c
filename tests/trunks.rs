//! Which addresses of trunks get calls, and how many: OPTIONS, 503 with Retry-After, caps. In virtual time.

use referee::command::{AddressView, Command, Reply, TrunkView};
use referee::config::TrunkId;
use referee::identifiers::Random;
use referee::sim::network::Weather;
use referee::sim::peer::Peer;
use referee::sim::peer::script::{Act, Manners, request, respond, respond_with, steps};
use referee::sim::scene::{CARRIER, PRIVATE, carrier, config};
use referee::sim::{PeerId, REFEREE, World};
use referee::timer::Instant;
use serde_json::json;
use std::time::Duration;

/// A carrier in front of a trunk with two addresses; `{top}`, `{carrier}` and `{platform}` are put in.
fn text(top: &str, carrier: &str, platform: &str) -> String {
    format!(
        r#"
[[listen]]
name = "public"
bind = ["udp:203.0.113.7:5060"]
[[listen]]
name = "private"
bind = ["udp:10.0.0.1:5060", "tcp:10.0.0.1:5060"]
{top}
[[trunk]]
name = "carrier"
side = "carrier"
listen = "public"
sources = ["198.51.100.0/24"]
{carrier}
[[trunk]]
name = "platform"
side = "platform"
listen = "private"
{platform}
[[trunk]]
name = "spare"
side = "platform"
listen = "private"
addresses = ["udp:10.0.0.7:5060"]
[[route]]
from = "carrier"
to = ["platform", "spare"]
"#
    )
}

const TWO: &str = r#"addresses = ["udp:10.0.0.5:5060", "udp:10.0.0.6:5060"]"#;

const HEALTH: &str = "[trunk.health]\nperiod = \"10s\"\ntimeout = \"2s\"\nfailures = 2\nsuccesses = 3\n";

fn with_health() -> String {
    text("", "", &format!("{TWO}\n{HEALTH}"))
}

/// referee between a carrier and three peers of the platform.
struct Rig {
    world: World,
    carrier: PeerId,
    first: PeerId,
    second: PeerId,
    spare: PeerId,
}

impl Rig {
    fn new(text: &str, shards: u16) -> Rig {
        let mut world = World::new(7, shards, config(text), None);
        let mut platform = |name: &str, address: &str| {
            let manners = Manners::new(PRIVATE, "<sip:bot@platform.example>");
            world.add(Peer::new(name, address, manners))
        };
        let first = platform("first", "10.0.0.5:5060");
        let second = platform("second", "10.0.0.6:5060");
        let spare = platform("spare", "10.0.0.7:5060");
        let carrier = world.add(carrier());
        Rig {
            world,
            carrier,
            first,
            second,
            spare,
        }
    }

    fn run(&mut self, millis: u64) {
        self.world.run_for(Duration::from_millis(millis));
    }

    fn call(&mut self) -> String {
        self.world.call(self.carrier, "sip:+4930123456@203.0.113.7", &[])
    }

    /// Calls so many times at once.
    fn calls(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.call()).collect()
    }

    /// How many INVITEs each peer has been sent: first, second, spare.
    fn invites(&self) -> [usize; 3] {
        [self.first, self.second, self.spare].map(|peer| self.heard(peer, "INVITE"))
    }

    fn heard(&self, peer: PeerId, label: &str) -> usize {
        let mut branches: Vec<_> = self
            .world
            .peer(peer)
            .heard(label)
            .iter()
            .map(|text| text.branch())
            .collect();
        branches.sort();
        branches.dedup();
        branches.len()
    }

    fn is_up(&self, call: &str) -> bool {
        self.world.peer(self.carrier).is_up(call)
    }

    fn hang_up(&mut self, call: &str) {
        self.world.act(self.carrier, call, request("BYE"));
    }

    fn trunks(&mut self) -> Vec<TrunkView> {
        let ticket = self.world.command(Command::Trunks);
        match self.world.reply(ticket) {
            Some(Reply::Trunks(trunks)) => trunks.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// An address of the platform's.
    fn address(&mut self, place: usize) -> AddressView {
        self.trunks()[1].addresses[place].clone()
    }

    fn state(&mut self, place: usize) -> &'static str {
        self.address(place).state
    }

    /// Lets time pass until an address is in this state.
    fn run_until_state(&mut self, place: usize, state: &str, within_millis: u64) {
        let until = self.world.now() + Duration::from_millis(within_millis);
        while self.state(place) != state {
            assert!(
                self.world.now() < until,
                "not {state} in time:\n{}",
                self.world.ladder()
            );
            self.run(10);
        }
    }

    fn total(&self, count: impl Fn(&referee::shard::Counters) -> u64, shards: usize) -> u64 {
        (0..shards)
            .map(|shard| count(&self.world.shard(shard).counters()))
            .sum()
    }

    fn used(&self) -> [u32; 3] {
        [0, 1, 2].map(|trunk| self.world.usage().calls(TrunkId(trunk)))
    }

    /// Lets the first peer leave so many OPTIONS without an answer.
    fn first_is_silent(&mut self, times: usize) {
        for _ in 0..times {
            self.world.peer_mut(self.first).on("OPTIONS", Vec::new());
        }
    }

    /// Hangs up whatever is up, and lets all come to an end; probes end with a drain.
    fn finish(mut self) {
        self.run(3_000);
        for call in self.world.peer(self.carrier).live_calls() {
            if self.is_up(&call) {
                self.hang_up(&call);
            }
        }
        self.world.drain();
        self.world.finish();
    }
}

#[test]
fn a_peer_that_stops_answering_dies_by_the_count_and_comes_back_by_the_count() {
    let mut rig = Rig::new(&with_health(), 1);
    rig.run(1_500);
    assert_eq!((rig.state(0), rig.state(1)), ("alive", "alive"));
    let parted = [Instant::from_millis(15_000), Instant::from_millis(70_000)];
    rig.world.network.part(REFEREE, "first", parted[0], parted[1]);
    rig.run_until_state(0, "dead", 60_000);
    let counters = rig.world.shard(0).counters();
    assert_eq!((counters.probes_failed_total, counters.address_changes_total), (2, 3));
    // The second probe that is lost began 20 to 22 s after the first of all, and is waited for for 2 s.
    let died_at = rig.world.now().as_micros() / 1_000;
    assert!((32_000..=40_000).contains(&died_at), "{died_at}");
    assert_eq!(rig.address(0).probe_result.as_deref(), Some("timeout"));

    // A dead one gets no call while another lives; the other address is the first that is tried.
    rig.calls(5);
    rig.run(1_000);
    assert_eq!(rig.invites(), [0, 5, 0]);

    rig.world.run_until(parted[1]);
    let heard = rig.heard(rig.first, "OPTIONS");
    rig.run_until_state(0, "alive", 60_000);
    assert_eq!(rig.heard(rig.first, "OPTIONS"), heard + 3);
    rig.calls(2);
    rig.run(1_000);
    assert_eq!(rig.invites(), [2, 5, 0]);
    rig.finish();
}

#[test]
fn a_peer_that_answers_now_and_then_neither_dies_nor_comes_back() {
    let mut rig = Rig::new(&with_health(), 1);
    for _ in 0..4 {
        rig.first_is_silent(1);
        rig.world.peer_mut(rig.first).on("OPTIONS", steps([(10, respond(200))]));
    }
    for _ in 0..80 {
        rig.run(1_000);
        assert_ne!(rig.state(0), "dead");
    }
    rig.first_is_silent(2);
    rig.run_until_state(0, "dead", 40_000);
    for _ in 0..3 {
        for _ in 0..2 {
            rig.world.peer_mut(rig.first).on("OPTIONS", steps([(10, respond(200))]));
        }
        rig.first_is_silent(1);
    }
    for _ in 0..90 {
        rig.run(1_000);
        assert_eq!(rig.state(0), "dead");
    }
    rig.run_until_state(0, "alive", 60_000);
    assert_eq!(rig.world.shard(0).counters().address_changes_total, 4);
    rig.finish();
}

#[test]
fn probes_do_not_march_in_step_and_a_peer_behind_another_counts_as_it_says() {
    let mut rig = Rig::new(&with_health(), 1);
    // Any final response is an answer, but 408 and 503.
    for code in [404, 486, 501, 603, 301] {
        rig.world
            .peer_mut(rig.first)
            .on("OPTIONS", steps([(10, respond(100)), (30, respond(code))]));
    }
    rig.run(50_000);
    assert_eq!(
        (rig.state(0), rig.world.shard(0).counters().probes_failed_total),
        ("alive", 0)
    );
    let at = |peer: PeerId| rig.world.peer(peer).heard_at("OPTIONS");
    let (first, second) = (at(rig.first), at(rig.second));
    let waits: Vec<u64> = first
        .windows(2)
        .chain(second.windows(2))
        .map(|pair| pair[1].since(pair[0]).as_millis() as u64)
        .collect();
    assert!(
        waits.len() >= 6 && waits.iter().all(|wait| (10_000..=11_100).contains(wait)),
        "{waits:?}"
    );
    let mut distinct = waits.clone();
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() > waits.len() / 2, "{waits:?}");
    for code in [408, 503] {
        rig.world
            .peer_mut(rig.first)
            .on("OPTIONS", steps([(10, respond(code))]));
    }
    rig.run_until_state(0, "dead", 40_000);
    assert_eq!(rig.address(0).probe_result.as_deref(), Some("503"));
    rig.finish();
}

#[test]
fn an_options_of_ours_is_whole_and_what_is_known_is_shown() {
    let mut rig = Rig::new(&with_health(), 1);
    rig.run(2_000);
    let options = rig.world.peer(rig.first).heard("OPTIONS")[0].clone();
    assert_eq!(options.request_uri(), "sip:10.0.0.5:5060");
    assert_eq!(options.header("To"), Some("<sip:10.0.0.5:5060>"));
    assert!(options.header("From").unwrap().starts_with("<sip:10.0.0.1:5060>;tag="));
    assert_eq!(options.header("CSeq"), Some("1 OPTIONS"));
    assert_eq!(options.header("Max-Forwards"), Some("70"));
    let call = rig.call();
    rig.run(2_000);
    let shown = serde_json::to_value(rig.trunks()).unwrap();
    assert_eq!(
        shown[0],
        json!({"name": "carrier", "side": "carrier", "calls": 1, "refer": "unknown", "addresses": []})
    );
    assert_eq!(shown[2]["addresses"][0]["state"], "unknown");
    let address = &shown[1]["addresses"][0];
    assert_eq!(
        (&address["address"], &address["state"], &address["probe_result"]),
        (&json!("udp:10.0.0.5:5060"), &json!("alive"), &json!("200"))
    );
    assert_eq!(address["round_trip_ms"], json!(2.0));
    assert_eq!(address["since"], address["probed_at"]);
    assert_eq!(address.get("retry_after_until"), None);
    rig.hang_up(&call);
    rig.run(1_000);
    assert_eq!(rig.trunks()[0].calls, 0);
    rig.finish();
}

#[test]
fn where_all_are_dead_all_are_tried() {
    let text = with_health().replace("to = [\"platform\", \"spare\"]", "to = \"platform\"");
    let mut rig = Rig::new(&text, 1);
    for peer in ["first", "second"] {
        let (from, until) = (Instant::from_millis(5_000), Instant::from_millis(60_000));
        rig.world.network.part(REFEREE, peer, from, until);
    }
    rig.run_until_state(0, "dead", 60_000);
    rig.run_until_state(1, "dead", 60_000);
    // Nobody is there: it is tried all the same, one address after the other.
    rig.call();
    rig.run(8_000);
    let sent = rig.world.ladder().to_string();
    let invites = |peer: &str| {
        let of_peer = |line: &&str| line.contains(REFEREE) && line.contains("INVITE") && line.contains(peer);
        sent.lines().filter(of_peer).count()
    };
    assert!(invites("first") > 0 && invites("second") > 0, "{sent}");
    rig.world.run_until(Instant::from_millis(60_000));
    assert_eq!((rig.state(0), rig.state(1)), ("dead", "dead"));
    let call = rig.call();
    rig.run(2_000);
    assert!(rig.is_up(&call), "{}", rig.world.ladder());
    assert_eq!(rig.invites(), [1, 0, 0]);
    rig.finish();
}

#[test]
fn calls_that_get_no_response_count_as_failures_once_each() {
    let text = with_health().replace("10s", "40m");
    let mut rig = Rig::new(&text, 1);
    rig.run(2_000);
    let (from, until) = (rig.world.now(), Instant::from_millis(3_000_000));
    rig.world.network.part(REFEREE, "first", from, until);
    // After 3 s without a word the second address gets the call; Timer B fires at 32 s and says nothing new.
    let call = rig.call();
    rig.run(40_000);
    assert!(rig.is_up(&call));
    assert_eq!(rig.state(0), "alive");
    rig.call();
    rig.run(3_500);
    assert_eq!(rig.state(0), "dead");
    rig.call();
    rig.run(1_000);
    assert_eq!(rig.invites(), [0, 3, 0]);
    assert_eq!(rig.world.shard(0).counters().probes_failed_total, 0);
    rig.finish();
}

#[test]
fn a_503_with_retry_after_is_kept_to() {
    let mut rig = Rig::new(&text("[limits]\nretry_after_max = \"60s\"", "", TWO), 1);
    let busy = |seconds: &str| steps([(10, respond_with(503, &[("Retry-After", seconds)]))]);
    rig.world.peer_mut(rig.first).on("INVITE", busy("20 (full);duration=5"));
    let call = rig.call();
    rig.run(2_000);
    assert!(rig.is_up(&call), "the second address has it");
    assert_eq!(rig.invites(), [1, 1, 0]);
    assert!(rig.address(0).retry_after_until.is_some());
    for _ in 0..8 {
        rig.call();
        rig.run(2_200);
    }
    assert_eq!(rig.invites(), [1, 9, 0]);
    rig.run(1_000);
    assert_eq!(rig.address(0).retry_after_until, None);
    rig.call();
    rig.run(1_000);
    assert_eq!(rig.invites(), [2, 9, 0]);

    // A longer one than is kept to.
    rig.world.peer_mut(rig.first).on("INVITE", busy("86400"));
    rig.call();
    rig.run(59_000);
    rig.call();
    rig.run(2_000);
    assert_eq!(rig.invites(), [3, 11, 0]);
    rig.call();
    rig.run(1_000);
    assert_eq!(rig.invites(), [4, 11, 0]);
    let counters = rig.world.shard(0).counters();
    assert_eq!((counters.retry_after_total, counters.retry_after_cut_total), (2, 1));

    // Without Retry-After it says nothing of the next call.
    rig.world.peer_mut(rig.first).on("INVITE", steps([(10, respond(503))]));
    rig.calls(1);
    rig.run(1_000);
    rig.calls(1);
    rig.run(1_000);
    assert_eq!(rig.invites(), [6, 12, 0]);
    rig.finish();
}

#[test]
fn where_all_want_no_requests_the_caller_is_told_for_how_long() {
    let text = text("", "", TWO).replace("to = [\"platform\", \"spare\"]", "to = \"platform\"");
    let mut rig = Rig::new(&text, 1);
    for (peer, seconds) in [(rig.first, "30"), (rig.second, "20")] {
        let busy = steps([(0, respond_with(503, &[("Retry-After", seconds)]))]);
        rig.world.peer_mut(peer).on("INVITE", busy);
    }
    rig.call();
    rig.run(5_000);
    assert_eq!(rig.world.peer(rig.carrier).outcomes("INVITE"), [500]);
    rig.call();
    rig.run(1_000);
    assert_eq!(rig.invites(), [1, 1, 0]);
    let refusals = rig.world.peer(rig.carrier).heard("503");
    assert_eq!(refusals[0].header("Retry-After"), Some("16"));
    assert_eq!(rig.world.shard(0).counters().retry_after_refused_total, 1);
    rig.run(15_000);
    let call = rig.call();
    rig.run(2_000);
    assert!(rig.is_up(&call));
    assert_eq!(rig.invites(), [1, 2, 0]);
    rig.finish();
}

#[test]
fn a_peer_that_wants_no_requests_gets_no_options_either() {
    let mut rig = Rig::new(&with_health(), 1);
    let busy = steps([(10, respond_with(503, &[("Retry-After", "35")]))]);
    rig.world.peer_mut(rig.first).on("OPTIONS", busy);
    rig.run(34_500);
    assert_eq!(rig.heard(rig.first, "OPTIONS"), 1);
    rig.call();
    rig.run(500);
    assert_eq!(rig.invites(), [0, 1, 0]);
    rig.run(10_000);
    assert_eq!((rig.heard(rig.first, "OPTIONS") > 1, rig.state(0)), (true, "alive"));
    rig.finish();
}

#[test]
fn addresses_are_probed_over_tcp() {
    let health = HEALTH.replace("successes = 3", "successes = 1");
    let addresses = r#"addresses = ["tcp:10.0.0.5:5060", "tcp:10.0.0.66:5060"]"#;
    let mut rig = Rig::new(&text("", "", &format!("{addresses}\n{health}")), 1);
    rig.run(2_000);
    let options = rig.world.peer(rig.first).heard("OPTIONS")[0].clone();
    assert_eq!(options.request_uri(), "sip:10.0.0.5:5060;transport=tcp");
    assert_eq!(rig.state(0), "alive");
    // Nobody listens there.
    assert_eq!(rig.address(1).probe_result.as_deref(), Some("unreachable"));
    rig.run_until_state(1, "dead", 30_000);
    rig.first_is_silent(2);
    rig.run_until_state(0, "dead", 30_000);
    rig.world.close_connections(rig.first);
    rig.run_until_state(0, "alive", 30_000);
    rig.finish();
}

#[test]
fn an_address_given_by_name_is_looked_up_and_probed() {
    let addresses = r#"addresses = ["udp:a.example.net:5060", "udp:b.example.net:5060"]
sources = ["10.0.0.5", "10.0.0.6"]"#;
    let mut rig = Rig::new(&text("", "", &format!("{addresses}\n{HEALTH}")), 1);
    rig.world.name("a.example.net", &["10.0.0.5".parse().unwrap()]);
    rig.run(2_000);
    let options = rig.world.peer(rig.first).heard("OPTIONS")[0].clone();
    assert_eq!(options.request_uri(), "sip:a.example.net:5060");
    assert_eq!((rig.state(0), rig.state(1)), ("alive", "unknown"));
    assert_eq!(rig.address(1).probe_result.as_deref(), Some("unreachable"));
    // A name is remembered for a minute.
    rig.run(120_000);
    assert_eq!((rig.state(0), rig.state(1)), ("alive", "dead"));
    assert!(rig.heard(rig.first, "OPTIONS") > 10);
    // It moves.
    rig.world.name("a.example.net", &["10.0.0.6".parse().unwrap()]);
    rig.run(70_000);
    assert!(rig.heard(rig.second, "OPTIONS") > 0);
    rig.finish();
}

#[test]
fn what_one_shard_finds_out_all_shards_know() {
    const SHARDS: u16 = 4;
    let mut rig = Rig::new(&with_health(), SHARDS);
    rig.run(40_000);
    // One probes for all.
    assert!(
        (4..=5).contains(&rig.heard(rig.first, "OPTIONS")),
        "{}",
        rig.world.ladder()
    );
    let (from, until) = (rig.world.now(), Instant::from_millis(3_000_000));
    rig.world.network.part(REFEREE, "first", from, until);
    rig.run_until_state(0, "dead", 40_000);
    rig.run(10);
    rig.calls(40);
    rig.run(3_000);
    assert_eq!(rig.invites(), [0, 40, 0]);
    let calls: Vec<u64> = (0..usize::from(SHARDS))
        .map(|shard| rig.world.shard(shard).counters().calls_total)
        .collect();
    assert!(calls.iter().all(|calls| *calls > 0), "{calls:?}");
    // So is what a peer asks of any of them.
    rig.world
        .peer_mut(rig.second)
        .on("INVITE", steps([(0, respond_with(503, &[("Retry-After", "10")]))]));
    rig.call();
    rig.run(500);
    assert_eq!(rig.invites(), [0, 41, 1]);
    rig.calls(20);
    rig.run(3_000);
    assert_eq!(rig.invites(), [0, 41, 21]);
    rig.finish();
}

#[test]
fn failures_that_different_shards_see_add_up() {
    let text = with_health()
        .replace("10s", "40m")
        .replace("failures = 2", "failures = 6");
    let mut rig = Rig::new(&text, 4);
    rig.run(2_000);
    let (from, until) = (rig.world.now(), Instant::from_millis(3_000_000));
    rig.world.network.part(REFEREE, "first", from, until);
    rig.calls(6);
    rig.run(3_500);
    assert_eq!(rig.state(0), "dead");
    rig.calls(20);
    rig.run(2_000);
    assert_eq!(rig.invites(), [0, 26, 0]);
    rig.finish();
}

// ---- caps ----

#[test]
fn a_full_trunk_takes_no_call_until_one_ends() {
    let mut rig = Rig::new(&text("", "calls_max = 2", TWO), 1);
    let calls = rig.calls(3);
    rig.run(2_000);
    assert_eq!(rig.used(), [2, 2, 0]);
    assert_eq!(calls.iter().filter(|call| rig.is_up(call)).count(), 2);
    let refusals = rig.world.peer(rig.carrier).heard("503");
    assert_eq!(refusals[0].header("Retry-After"), Some("1"));
    // No call was opened for it.
    let counters = rig.world.shard(0).counters();
    assert_eq!((counters.calls_total, counters.trunk_calls_max_total), (2, 1));
    rig.hang_up(&calls[0]);
    rig.run(1_000);
    assert_eq!(rig.used(), [1, 1, 0]);
    let call = rig.call();
    rig.run(2_000);
    assert!(rig.is_up(&call));
    rig.finish();
}

#[test]
fn a_call_that_was_refused_stays_refused_though_a_place_becomes_free() {
    let mut rig = Rig::new(&text("", "calls_max = 1", TWO), 1);
    let first = rig.call();
    rig.run(2_000);
    rig.world.network.lose(REFEREE, "carrier", "503", 1);
    let second = rig.call();
    rig.run(100);
    rig.hang_up(&first);
    // The INVITE comes again at T1, and the trunk has room.
    rig.run(2_000);
    assert_eq!(rig.used(), [0, 0, 0]);
    assert!(!rig.is_up(&second));
    assert_eq!(rig.invites(), [1, 0, 0]);
    assert_eq!(rig.world.peer(rig.carrier).outcomes("INVITE"), [200, 503]);
    rig.finish();
}

#[test]
fn a_target_without_room_is_passed_over() {
    let mut rig = Rig::new(&text("", "", &format!("{TWO}\ncalls_max = 2")), 1);
    rig.calls(5);
    rig.run(2_000);
    assert_eq!((rig.invites(), rig.used()), ([2, 0, 3], [5, 2, 3]));
    rig.finish();

    // Where there is no other, the caller is told to come again.
    let text =
        text("", "", &format!("{TWO}\ncalls_max = 2")).replace("to = [\"platform\", \"spare\"]", "to = \"platform\"");
    let mut rig = Rig::new(&text, 1);
    rig.calls(3);
    rig.run(2_000);
    assert_eq!((rig.invites(), rig.used()), ([2, 0, 0], [2, 2, 0]));
    let refusals = rig.world.peer(rig.carrier).heard("503");
    assert_eq!(refusals[0].header("Retry-After"), Some("1"));
    rig.finish();
}

#[test]
fn caps_hold_over_all_shards() {
    const SHARDS: usize = 4;
    for (cap, passed) in [("calls_max = 10", 10), ("calls_per_second_max = 7", 7)] {
        for on_caller in [true, false] {
            let platform = format!("{TWO}\n{cap}");
            let text = match on_caller {
                true => text("", cap, TWO),
                false => text("", "", &platform),
            };
            let text = text.replace("to = [\"platform\", \"spare\"]", "to = \"platform\"");
            let mut rig = Rig::new(&text, SHARDS as u16);
            rig.calls(40);
            rig.run(3_000);
            let outcomes = rig.world.peer(rig.carrier).outcomes("INVITE");
            let of = |code| outcomes.iter().filter(|other| **other == code).count();
            assert_eq!((of(200), of(503)), (passed, 40 - passed), "{cap}, {on_caller}");
            assert_eq!(rig.used(), [passed as u32, passed as u32, 0]);
            let full = rig.total(
                |counters| counters.trunk_calls_max_total + counters.trunk_rate_max_total,
                SHARDS,
            );
            assert_eq!(full, 40 - passed as u64);
            rig.finish();
        }
    }
}

#[test]
fn each_source_has_its_rate_over_all_shards() {
    const SHARDS: usize = 8;
    let mut rig = Rig::new(&text("", "source_rate = 5", TWO), SHARDS as u16);
    let mut number = 0;
    let mut say = |rig: &mut Rig| {
        number += 1;
        let text = format!(
            "MESSAGE sip:+4930123456@203.0.113.7 SIP/2.0\r\nVia: SIP/2.0/UDP {CARRIER};branch=z9hG4bK{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:c@h>;tag=1\r\nTo: <sip:+4930123456@203.0.113.7>\r\nCall-ID: {number}\r\n\
             CSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
        );
        rig.world.say(rig.carrier, &text);
        text
    };
    let shed = |rig: &Rig| rig.total(|counters| counters.shed_source_rate_total, SHARDS);
    // Four a second, evenly; then five at once, as often as they may come.
    for _ in 0..40 {
        say(&mut rig);
        rig.run(250);
    }
    rig.run(1_000);
    for _ in 0..8 {
        let last = (0..5).map(|_| say(&mut rig)).last().unwrap();
        rig.run(500);
        // What is sent again is not new.
        rig.world.say(rig.carrier, &last);
        rig.run(500);
    }
    assert_eq!((shed(&rig), rig.heard(rig.first, "MESSAGE")), (0, 80));
    let busy = (0..SHARDS).filter(|shard| rig.world.shard(*shard).counters().taken_total > 0);
    assert_eq!(busy.count(), SHARDS);
    // Nine at once, and twenty more in two seconds.
    (0..9).for_each(|_| drop(say(&mut rig)));
    for _ in 0..20 {
        rig.run(100);
        say(&mut rig);
    }
    rig.run(3_000);
    assert_eq!((shed(&rig), rig.heard(rig.first, "MESSAGE")), (14, 95));
    assert_eq!(rig.total(|counters| counters.sources_full_total, SHARDS), 0);
    rig.finish();
}

#[test]
fn more_sources_than_are_remembered_are_not_limited() {
    let limits = "[limits]\nsources_max = 8";
    let mut rig = Rig::new(&text(limits, "source_rate = 1", TWO), 2);
    for round in 0..2 {
        for last in 10..30 {
            let mut peer = carrier();
            peer.address = format!("198.51.100.{last}:5060").parse().unwrap();
            let address = peer.address;
            let peer = rig.world.add(peer);
            let text = format!(
                "MESSAGE sip:+4930123456@203.0.113.7 SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK{round}-{last}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:c@h>;tag=1\r\nTo: <sip:+4930123456@203.0.113.7>\r\n\
                 Call-ID: {round}-{last}\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
            );
            rig.world.say(peer, &text);
        }
    }
    rig.run(900);
    let total = |count: fn(&referee::shard::Counters) -> u64| rig.total(count, 2);
    let counted = [
        total(|counters| counters.sources_full_total),
        total(|counters| counters.shed_source_rate_total),
        total(|counters| counters.taken_total),
    ];
    assert_eq!(counted, [24, 8, 32]);
}

#[test]
fn a_rate_has_room_again_as_time_goes_by() {
    let mut rig = Rig::new(&text("", "calls_per_second_max = 5", TWO), 2);
    let mut passed = 0;
    // Ten a second for ten seconds: five at once to begin with, and five each second.
    for _ in 0..100 {
        rig.call();
        rig.run(100);
    }
    rig.run(2_000);
    passed += rig.invites().iter().sum::<usize>();
    assert!((54..=55).contains(&passed), "{passed}");
    rig.finish();
}

#[test]
fn a_call_has_one_place_on_a_trunk_however_many_addresses_are_tried() {
    let mut rig = Rig::new(
        &text("", "", &format!("{TWO}\ncalls_max = 1\ncalls_per_second_max = 1")),
        1,
    );
    rig.world
        .network
        .part(REFEREE, "first", Instant::START, Instant::from_millis(3_000_000));
    let call = rig.call();
    rig.run(6_000);
    assert!(rig.is_up(&call), "{}", rig.world.ladder());
    assert_eq!((rig.invites(), rig.used()), ([0, 1, 0], [1, 1, 0]));
    rig.finish();
}

#[test]
fn places_follow_a_call_from_target_to_target() {
    let mut rig = Rig::new(&text("", "", TWO), 1);
    rig.world
        .peer_mut(rig.first)
        .on("INVITE", steps([(10, respond(100)), (1_000, respond(486))]));
    let ringing = steps([(10, respond(180)), (2_000, respond(200))]);
    rig.world.peer_mut(rig.spare).on("INVITE", ringing);
    let call = rig.call();
    rig.run(500);
    assert_eq!(rig.used(), [1, 1, 0]);
    rig.run(1_000);
    assert_eq!(rig.used(), [1, 0, 1]);
    rig.run(2_000);
    assert!(rig.is_up(&call), "{}", rig.world.ladder());
    assert_eq!(rig.used(), [1, 0, 1]);
    rig.hang_up(&call);
    rig.run(500);
    assert_eq!(rig.used(), [0, 0, 0]);
    rig.finish();
}

#[test]
fn parallel_targets_take_a_place_each_until_one_has_the_call() {
    let text = text("", "", TWO).replace(
        "to = [\"platform\", \"spare\"]",
        "to = [\"platform\", \"spare\"]\nmode = \"parallel\"",
    );
    let mut rig = Rig::new(&text, 1);
    let slow = steps([(10, respond(100)), (3_000, respond(200))]);
    rig.world.peer_mut(rig.first).on("INVITE", slow);
    let call = rig.call();
    rig.run(500);
    assert_eq!(rig.used(), [1, 1, 1]);
    rig.run(2_000);
    assert!(rig.is_up(&call), "{}", rig.world.ladder());
    assert_eq!(rig.used(), [1, 0, 1], "{}", rig.world.ladder());
    rig.finish();
}

#[test]
fn each_target_that_answers_keeps_its_place_and_the_caller_has_one() {
    let text = text("", "", TWO).replace(
        "to = [\"platform\", \"spare\"]",
        "to = [\"platform\", \"spare\"]\nmode = \"parallel\"",
    );
    let mut rig = Rig::new(&text, 1);
    for (peer, millis) in [(rig.first, 500), (rig.spare, 501)] {
        rig.world
            .peer_mut(peer)
            .on("INVITE", steps([(50, respond(180)), (millis, respond(200))]));
    }
    rig.world.peer_mut(rig.carrier).manners.hangs_up_on_forks = false;
    let call = rig.call();
    rig.run(3_000);
    assert_eq!(rig.used(), [1, 1, 1]);
    assert_eq!(rig.world.shard(0).counters().calls, 2);
    // Each dialog ends by itself.
    let second = format!("{call} spare-tag1");
    rig.world.act(rig.carrier, &second, request("BYE"));
    rig.run(1_000);
    assert_eq!(rig.used(), [1, 1, 0]);
    rig.hang_up(&call);
    rig.run(1_000);
    assert_eq!(rig.used(), [0, 0, 0]);
    rig.finish();
}

#[test]
fn an_answer_that_makes_no_call_for_want_of_room_keeps_no_place() {
    let text = text("[limits]\ncalls_max = 1", "", TWO).replace(
        "to = [\"platform\", \"spare\"]",
        "to = [\"platform\", \"spare\"]\nmode = \"parallel\"",
    );
    let mut rig = Rig::new(&text, 1);
    for (peer, millis) in [(rig.first, 500), (rig.spare, 501)] {
        rig.world.peer_mut(peer).on("INVITE", steps([(millis, respond(200))]));
    }
    rig.call();
    rig.run(3_000);
    assert_eq!(rig.world.shard(0).counters().calls, 1);
    assert_eq!(rig.used(), [1, 1, 0]);
    rig.finish();
}

#[test]
fn an_ended_call_has_no_place_though_it_is_remembered() {
    let top = "[hooks]\nbase_url = \"https://app.example.com\"";
    let mut rig = Rig::new(&text(top, "[trunk.refer]\ndestinations = [\"*\"]", TWO), 1);
    let call = rig.call();
    rig.run(2_000);
    let verb = json!({"verb": "sip:refer", "referTo": "sip:bob@example.com"});
    rig.world.verbs(&call, &verb).unwrap();
    rig.run(1_000);
    rig.hang_up(&call);
    rig.run(1_000);
    assert_eq!(rig.world.shard(0).counters().calls, 1, "a tombstone");
    assert_eq!(rig.used(), [0, 0, 0]);
    rig.finish();
}

#[test]
fn every_way_that_a_call_ends_gives_its_places_back() {
    type End = fn(&mut Rig, &str);
    type Reaction = Vec<(u64, Act)>;
    let cases: [(&str, Reaction, End); 8] = [
        ("refused", vec![(50, respond(603))], |_, _| {}),
        ("challenged", vec![(50, respond(407))], |_, _| {}),
        ("cancelled", vec![(50, respond(180))], |rig, call| {
            rig.world.act(rig.carrier, call, Act::Cancel);
        }),
        ("silent and cancelled", vec![], |rig, call| {
            rig.world.act(rig.carrier, call, Act::Cancel);
        }),
        ("silent", vec![], |_, _| {}),
        ("rings for ever", vec![(50, respond(180))], |_, _| {}),
        ("hung up before its answer", vec![(50, respond(180))], |rig, call| {
            let verbs = referee::command::CallSelector::SipCallId(call.as_bytes().to_vec());
            rig.world.command(Command::Hangup { call: verbs });
        }),
        (
            "hung up by the callee",
            vec![(50, respond(200)), (2_000, request("BYE"))],
            |_, _| {},
        ),
    ];
    for (name, reaction, end) in cases {
        let mut rig = Rig::new(&text("", "calls_max = 1", &format!("{TWO}\ncalls_max = 1")), 1);
        for peer in [rig.first, rig.second, rig.spare] {
            let steps = steps(reaction.iter().cloned());
            rig.world.peer_mut(peer).on("INVITE", steps);
        }
        let call = rig.call();
        rig.run(1_000);
        assert_eq!(
            rig.used()[0],
            u32::from(!matches!(name, "refused" | "challenged")),
            "{name}"
        );
        end(&mut rig, &call);
        rig.run(400_000);
        assert_eq!(rig.used(), [0, 0, 0], "{name}\n{}", rig.world.ladder());
        rig.finish();
    }
}

#[test]
fn whatever_happens_caps_hold_and_every_place_is_given_back() {
    for seed in 0..40u64 {
        let mut raw = [5; 16];
        raw[..8].copy_from_slice(&seed.to_be_bytes());
        let mut dice = Random::new(raw);
        let shards = 1 + dice.below(4) as u16;
        let (caller_max, callee_max) = (1 + dice.below(12) as u32, 1 + dice.below(8) as u32);
        let platform = format!("{TWO}\ncalls_max = {callee_max}\n{HEALTH}");
        let mode = ["parallel", "sequential", "weighted"][dice.below(3) as usize];
        let text = text("", &format!("calls_max = {caller_max}"), &platform).replace(
            "\"spare\"]",
            &format!("\"spare\"]\nmode = \"{mode}\"\nanswer_timeout = \"2s\""),
        );
        let mut rig = Rig::new(&text, shards);
        let weather = Weather {
            loss: dice.below(300),
            duplication: dice.below(100),
            delay_min: Duration::from_millis(1),
            delay_max: Duration::from_millis(1 + dice.below(40)),
        };
        rig.world
            .network
            .set_weather(weather, Some(Instant::from_millis(40_000)));
        for peer in [rig.first, rig.second, rig.spare] {
            for _ in 0..20 {
                let reaction = match dice.below(8) {
                    0 => Vec::new(),
                    1 => steps([(dice.below(500), respond(486))]),
                    2 => steps([(5, respond_with(503, &[("Retry-After", "3")]))]),
                    3 => steps([(20, respond(100)), (dice.below(4_000), respond(404))]),
                    _ => steps([(20, respond(100)), (50 + dice.below(3_000), respond(200))]),
                };
                rig.world.peer_mut(peer).on("INVITE", reaction);
            }
        }
        let mut calls = Vec::new();
        for _ in 0..60 {
            calls.push(rig.call());
            rig.run(dice.below(1_200));
            if dice.below(2) == 0 {
                let call = calls[dice.below(calls.len() as u64) as usize].clone();
                match dice.below(3) {
                    0 => rig.world.act(rig.carrier, &call, Act::Cancel),
                    _ => rig.hang_up(&call),
                }
            }
            let [from, to, _] = rig.used();
            assert!(from <= caller_max && to <= callee_max, "seed {seed}: {from} and {to}");
        }
        rig.run(400_000);
        rig.finish();
    }
}
