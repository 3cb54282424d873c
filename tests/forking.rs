//! Routes with several targets, in virtual time: parallel, in turn, by weight; failover; loops (RFC 3261 §16, RFC 3263, RFC 5393).

mod common;

use common::assert_ladder;
use referee::command::{CallSelector, Command, Reply};
use referee::config::{RouteMode, RouteTarget, TrunkId};
use referee::sim::peer::Peer;
use referee::sim::peer::script::{Act, Manners, notify, request, respond, respond_as_other, respond_with, steps};
use referee::sim::scene::{PRIVATE, carrier, config};
use referee::sim::trouble::Troubles;
use referee::sim::{PeerId, World};
use serde_json::json;
use std::time::Duration;

const BYE: &str = "BYE";

/// A carrier, and three platforms behind one route; the first has two addresses.
struct Setting {
    world: World,
    carrier: PeerId,
    /// `a` at its first address and at its second, `b`, `c`.
    a: PeerId,
    a2: PeerId,
    b: PeerId,
    c: PeerId,
}

fn text(route: &str) -> String {
    format!(
        r#"
[[listen]]
name = "public"
bind = ["udp:203.0.113.7:5060", "tcp:203.0.113.7:5060"]
[[listen]]
name = "private"
bind = ["udp:10.0.0.1:5060", "tcp:10.0.0.1:5060"]
[hooks]
base_url = "https://app.example.com"
[[trunk]]
name = "carrier"
side = "carrier"
listen = "public"
addresses = ["udp:198.51.100.10:5060"]
[trunk.refer]
destinations = ["*"]
[[trunk]]
name = "a"
side = "platform"
listen = "private"
addresses = ["udp:10.0.0.10:5060", "udp:10.0.0.11:5060"]
[[trunk]]
name = "b"
side = "platform"
listen = "private"
addresses = ["udp:10.0.0.20:5060"]
[trunk.refer]
destinations = ["*"]
[[trunk]]
name = "c"
side = "platform"
listen = "private"
addresses = ["tcp:10.0.0.30:5060"]
[[route]]
from = "carrier"
{route}
[[route]]
from = "a"
to = "carrier"
[[route]]
from = "b"
to = "carrier"
[[route]]
from = "c"
to = "carrier"
"#
    )
}

impl Setting {
    fn new(route: &str) -> Setting {
        Setting::seeded(route, 1)
    }

    fn seeded(route: &str, seed: u64) -> Setting {
        Setting::of(&text(route), seed)
    }

    fn of(text: &str, seed: u64) -> Setting {
        let mut world = World::new(seed, 1, config(text), None);
        let platform = |name: &str, address: &str| {
            let mut manners = Manners::new(PRIVATE, &format!("<sip:{name}@platform.example>"));
            manners.first_cseq = 10;
            Peer::new(name, address, manners)
        };
        let carrier = world.add(carrier());
        let a = world.add(platform("a", "10.0.0.10:5060"));
        let a2 = world.add(platform("a2", "10.0.0.11:5060"));
        let b = world.add(platform("b", "10.0.0.20:5060"));
        let c = world.add(platform("c", "10.0.0.30:5060"));
        world.peer_mut(c).manners.transport = referee::transport::Transport::Tcp;
        Setting {
            world,
            carrier,
            a,
            a2,
            b,
            c,
        }
    }

    fn call(&mut self) -> String {
        self.world.call(self.carrier, "sip:+4930123456@203.0.113.7", &[])
    }

    fn call_with(&mut self, headers: &[(&str, &str)]) -> String {
        self.world.call(self.carrier, "sip:+4930123456@203.0.113.7", headers)
    }

    fn on(&mut self, peer: PeerId, acts: &[(u64, Act)]) {
        self.world.peer_mut(peer).on("INVITE", steps(acts.iter().cloned()));
    }

    fn run(&mut self, millis: u64) {
        self.world.run_for(Duration::from_millis(millis));
    }

    fn heard(&self, peer: PeerId, method: &str) -> usize {
        let heard = self.world.peer(peer).heard(method);
        // Repeats have the branch of the first.
        let mut branches: Vec<_> = heard
            .iter()
            .filter(|text| text.is_request())
            .map(|text| text.branch())
            .collect();
        branches.sort();
        branches.dedup();
        branches.len()
    }

    fn outcome(&self) -> Vec<u16> {
        self.world.peer(self.carrier).outcomes("INVITE")
    }

    fn hang_up(&mut self, call: &str) {
        self.world.act(self.carrier, call, request(BYE));
    }
}

// ---- parallel ----

#[test]
fn parallel_targets_ring_at_once_and_who_answers_has_the_call() {
    let mut setting = Setting::new("to = [\"a\", \"b\", \"c\"]\nmode = \"parallel\"");
    setting.on(setting.a, &[(50, respond(180))]);
    setting.on(setting.b, &[(80, respond(180)), (2_000, respond(200))]);
    setting.on(setting.c, &[(110, respond(183))]);
    let call = setting.call();
    setting.run(4_000);
    // RFC 3261 §16.7 step 5: all provisional responses go up, each with its own To tag.
    let heard = setting.world.peer(setting.carrier).heard("");
    let mut tags: Vec<_> = heard
        .iter()
        .filter(|text| !text.is_request() && (101..200).contains(&text.code()))
        .map(|text| text.tag("To").unwrap())
        .collect();
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3, "{tags:?}");
    for loser in [setting.a, setting.c] {
        let cancels = setting.world.peer(loser).heard("CANCEL");
        // RFC 3326 §2.
        let reason = "SIP;cause=200;text=\"Call completed elsewhere\"";
        assert_eq!(cancels.first().and_then(|cancel| cancel.header("Reason")), Some(reason));
    }
    assert_eq!(setting.heard(setting.b, "CANCEL"), 0);
    assert_eq!(setting.outcome(), [200]);
    setting.hang_up(&call);
    setting.world.finish();
    assert_ladder("fork_parallel", &setting.world);
}

#[test]
fn each_branch_has_a_branch_parameter_of_its_own() {
    let mut setting = Setting::new("to = [\"a\", \"b\", \"c\"]\nmode = \"parallel\"");
    let call = setting.call();
    setting.run(4_000);
    let mut branches: Vec<_> = [setting.a, setting.b, setting.c]
        .iter()
        .map(|peer| setting.world.peer(*peer).heard("INVITE")[0].branch())
        .collect();
    branches.sort();
    branches.dedup();
    assert_eq!(branches.len(), 3);
    setting.hang_up(&call);
    setting.world.finish();
}

#[test]
fn the_caller_hears_the_best_refusal_once_all_have_refused() {
    for (answers, expected) in [
        ([486, 404, 407], 407),
        ([503, 486, 503], 486),
        ([302, 486, 500], 302),
        ([503, 503, 503], 500),
        ([404, 484, 486], 484),
        ([500, 503, 501], 500),
    ] {
        let mut setting = Setting::new("to = [\"a\", \"b\", \"c\"]\nmode = \"parallel\"");
        setting.on(setting.a2, &[(10, respond(503))]);
        for (peer, code) in [setting.a, setting.b, setting.c].into_iter().zip(answers) {
            setting.on(peer, &[(20, respond(180)), (2 * u64::from(code), respond(code))]);
        }
        setting.call();
        setting.run(2 * u64::from(answers.into_iter().max().unwrap()));
        assert_eq!(
            setting.outcome(),
            Vec::<u16>::new(),
            "{answers:?}: not before all have answered"
        );
        setting.world.finish();
        assert_eq!(setting.outcome(), [expected], "{answers:?}");
    }
}

#[test]
fn a_6xx_ends_all_branches_and_is_passed_on_when_they_have_ended() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"parallel\"");
    setting.on(setting.a, &[(50, respond(180))]);
    setting.on(setting.b, &[(500, respond(603))]);
    setting.call();
    setting.world.finish();
    assert_eq!(setting.heard(setting.a, "CANCEL"), 1);
    assert_eq!(setting.outcome(), [603]);
    assert_ladder("fork_decline", &setting.world);
}

#[test]
fn a_2xx_that_crosses_a_6xx_wins() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"parallel\"");
    // The 603 has referee cancel `a`, whose 200 is on its way.
    setting.on(setting.a, &[(50, respond(180)), (501, respond(200))]);
    setting.on(setting.b, &[(500, respond(603))]);
    let call = setting.call();
    setting.run(3_000);
    assert_eq!(setting.outcome(), [200]);
    setting.hang_up(&call);
    setting.world.finish();
}

#[test]
fn the_challenges_of_all_branches_are_in_the_response() {
    let mut setting = Setting::new("to = [\"a\", \"b\", \"c\"]\nmode = \"parallel\"");
    let (a, b) = ("Digest realm=\"a\", nonce=\"1,2\"", "Digest realm=\"b\", nonce=\"3\"");
    setting.on(setting.a, &[(50, respond_with(407, &[("Proxy-Authenticate", a)]))]);
    setting.on(setting.b, &[(90, respond_with(401, &[("WWW-Authenticate", b)]))]);
    setting.on(setting.c, &[(300, respond(404))]);
    setting.call();
    setting.world.finish();
    let heard = setting.world.peer(setting.carrier).heard("407");
    let response = heard.first().expect("a 407");
    assert_eq!(response.header("Proxy-Authenticate"), Some(a));
    assert_eq!(response.header("WWW-Authenticate"), Some(b));
}

#[test]
fn both_2xx_of_two_targets_reach_the_caller_and_each_is_a_call() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"parallel\"");
    setting.on(setting.a, &[(50, respond(180)), (500, respond(200))]);
    setting.on(setting.b, &[(50, respond(180)), (501, respond(200))]);
    setting.world.peer_mut(setting.carrier).manners.hangs_up_on_forks = false;
    let call = setting.call();
    setting.run(2_000);
    assert_eq!(setting.heard(setting.a, "ACK"), 1);
    assert_eq!(setting.heard(setting.b, "ACK"), 1);
    let verb = json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/a"});
    // One Call-ID, two calls.
    let ticket = setting.world.verbs(&call, &verb).unwrap();
    let Some(Reply::Refused(refusal)) = setting.world.reply(ticket) else {
        panic!("{:?}", setting.world.reply(ticket));
    };
    assert_eq!((refusal.status, refusal.code), (409, "ambiguous"));
    assert_eq!(refusal.detail.matches("call-").count(), 2, "{}", refusal.detail);
    let second = format!("{call} b-tag1");
    setting.world.act(setting.carrier, &second, request(BYE));
    setting.run(500);
    // What is left is transferred as any call.
    setting.world.peer_mut(setting.carrier).on(
        "REFER",
        steps([
            (10, respond(202)),
            (200, notify("200 OK", "terminated;reason=noresource")),
        ]),
    );
    let ticket = setting.world.verbs(&call, &verb).unwrap();
    assert!(matches!(setting.world.reply(ticket), Some(Reply::Accepted { .. })));
    setting.world.finish();
    assert_eq!((setting.heard(setting.a, BYE), setting.heard(setting.b, BYE)), (1, 1));
    assert_eq!(setting.world.shard(0).counters().transfers_success_total, 1);
}

/// Both targets answer; the second one's 2xx is lost, and it hangs up before that comes again.
fn late_second_answer() -> (Setting, String) {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"parallel\"");
    setting.on(setting.a, &[(50, respond(180)), (500, respond(200))]);
    setting.on(
        setting.b,
        &[(50, respond(180)), (501, respond(200)), (600, request(BYE))],
    );
    setting.world.network.lose("b", "referee", "200 OK (INVITE)", 1);
    setting.world.peer_mut(setting.carrier).manners.hangs_up_on_forks = false;
    let call = setting.call();
    (setting, call)
}

#[test]
fn a_second_answer_that_comes_after_its_callees_bye_is_no_call() {
    let (mut setting, call) = late_second_answer();
    setting.run(2_000);
    assert_eq!(
        (setting.heard(setting.a, "ACK"), setting.heard(setting.b, "ACK")),
        (1, 1)
    );
    let counters = setting.world.shard(0).counters();
    assert_eq!((counters.calls, counters.calls_answered_total), (1, 1));
    setting.hang_up(&call);
    setting.world.finish();
}

#[test]
fn a_second_answer_that_comes_after_its_callees_bye_and_the_end_of_the_call_is_no_call() {
    let (mut setting, call) = late_second_answer();
    setting.run(550);
    let end = Command::Hangup {
        call: CallSelector::SipCallId(call.clone().into_bytes()),
    };
    setting.world.command(end);
    setting.run(1_450);
    assert_eq!((setting.heard(setting.a, BYE), setting.heard(setting.b, "ACK")), (1, 1));
    assert_eq!(setting.world.shard(0).counters().calls_answered_total, 1);
    setting.hang_up(&format!("{call} b-tag1"));
    setting.world.finish();
}

#[test]
fn each_of_two_answers_says_until_when_its_own_call_is_alive() {
    for (first, second) in [("1800", "90"), ("90", "1800")] {
        let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"parallel\"");
        let answer = |interval| respond_with(200, &[("Session-Expires", interval)]);
        setting.on(setting.a, &[(50, respond(180)), (500, answer(first))]);
        setting.on(setting.b, &[(50, respond(180)), (501, answer(second))]);
        setting.world.peer_mut(setting.carrier).manners.hangs_up_on_forks = false;
        let call = setting.call();
        setting.run(80_000);
        assert_eq!(setting.world.shard(0).counters().calls, 2);
        setting.run(20_000);
        let counters = setting.world.shard(0).counters();
        assert_eq!(
            (counters.calls, counters.calls_expired_total),
            (1, 1),
            "{first} {second}"
        );
        // RFC 4028 §8: a proxy says no BYE, and what the parties still say goes by its Route; the BYE of the other call ends it.
        let ends = [call.clone(), format!("{call} b-tag1")];
        let (of_first, of_second) = if first == "90" { (0, 1) } else { (1, 0) };
        setting.world.act(setting.carrier, &ends[of_first], request(BYE));
        setting.run(500);
        assert_eq!(setting.world.shard(0).counters().calls, 1, "{first} {second}");
        setting.world.act(setting.carrier, &ends[of_second], request(BYE));
        setting.run(500);
        assert_eq!(setting.world.shard(0).counters().calls, 0, "{first} {second}");
        setting.world.finish();
        assert_eq!((setting.heard(setting.a, BYE), setting.heard(setting.b, BYE)), (1, 1));
    }
}

#[test]
fn a_caller_that_hangs_up_on_the_second_answer_keeps_the_first() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"parallel\"");
    setting.on(setting.a, &[(50, respond(180)), (500, respond(200))]);
    setting.on(setting.b, &[(50, respond(180)), (501, respond(200))]);
    let call = setting.call();
    setting.run(2_000);
    assert_eq!((setting.heard(setting.a, BYE), setting.heard(setting.b, BYE)), (0, 1));
    assert_eq!(setting.world.shard(0).counters().calls, 1);
    setting.world.act(setting.a, &call, request("INFO"));
    setting.run(200);
    setting.hang_up(&call);
    setting.world.finish();
    assert_ladder("fork_two_answers", &setting.world);
}

#[test]
fn a_repeated_2xx_does_not_bring_back_a_second_call_that_has_ended() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"parallel\"");
    setting.on(setting.a, &[(50, respond(180)), (500, respond(200))]);
    setting.on(setting.b, &[(50, respond(180)), (501, respond(200))]);
    // Without its ACK the second goes on repeating its 2xx, beyond the BYE by which the caller gives it up.
    setting.world.network.lose("referee", "b", "ACK", 2);
    let call = setting.call();
    setting.run(5_000);
    assert_eq!(setting.heard(setting.b, BYE), 1);
    assert!(setting.world.peer(setting.b).said("200 OK (INVITE)").len() > 1);
    let counters = setting.world.shard(0).counters();
    assert_eq!(
        (counters.calls, counters.calls_total),
        (1, 2),
        "{}",
        setting.world.ladder()
    );
    setting.hang_up(&call);
    setting.world.finish();
}

#[test]
fn early_dialogs_of_a_fork_are_kept_apart() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"parallel\"");
    let reliable = [("Require", "100rel"), ("RSeq", "7")];
    setting.on(setting.a, &[(50, respond_with(183, &reliable))]);
    setting.on(setting.b, &[(150, respond_with(183, &reliable)), (900, respond(200))]);
    let call = setting.call();
    setting.run(3_000);
    assert_eq!(
        (setting.heard(setting.a, "PRACK"), setting.heard(setting.b, "PRACK")),
        (1, 1)
    );
    // Numbers of the early dialogs count: a request of referee's own comes after the PRACK.
    let verb = json!({"verb": "sip:refer", "referTo": "+4930111", "leg": "callee", "actionHook": "/a"});
    setting.world.verbs(&call, &verb).unwrap();
    setting.run(500);
    let numbers: Vec<_> = setting
        .world
        .peer(setting.b)
        .heard("")
        .iter()
        .filter(|text| text.is_request() && text.method() != "ACK")
        .map(|text| text.cseq().0)
        .collect();
    assert!(numbers.len() == 3 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    setting.hang_up(&call);
    setting.world.finish();
}

#[test]
fn an_early_dialog_that_is_left_behind_moves_neither_target_nor_numbers() {
    let mut setting = Setting::new("to = [\"b\", \"c\"]\nmode = \"parallel\"");
    // b rings and sends a request of its own; c answers before that has its response.
    setting.on(setting.b, &[(50, respond(180)), (100, request("UPDATE"))]);
    setting.on(setting.c, &[(200, respond(200))]);
    let late = steps([(300, respond(200))]);
    setting.world.peer_mut(setting.carrier).on("UPDATE", late);
    let accepted = steps([(5, respond(202))]);
    setting.world.peer_mut(setting.carrier).on("REFER", accepted);
    let call = setting.call();
    setting.run(1_000);
    assert_eq!(
        (setting.outcome(), setting.heard(setting.carrier, "UPDATE")),
        (vec![200], 1)
    );
    let verb = json!({"verb": "sip:refer", "referTo": "sip:x@example.com", "leg": "caller"});
    setting.world.verbs(&call, &verb).unwrap();
    setting.run(1_000);
    // c has sent nothing yet: the first request in its name is its first.
    let refers = setting.world.peer(setting.carrier).heard("REFER");
    assert_eq!(refers.iter().map(|refer| refer.cseq().0).collect::<Vec<_>>(), [1]);
    let end = Command::Hangup {
        call: CallSelector::SipCallId(call.into_bytes()),
    };
    setting.world.command(end);
    setting.world.finish();
    let byes = [setting.b, setting.c].map(|peer| setting.heard(peer, BYE));
    assert_eq!(byes, [0, 1]);
}

#[test]
fn no_more_calls_are_opened_by_further_answers_than_there_is_room_for() {
    let config = text("to = [\"b\"]") + "\n[limits]\ncalls_max = 2\n";
    let mut setting = Setting::of(&config, 1);
    let answers: Vec<_> = (1..5).map(|other| (50, respond_as_other(200, other))).collect();
    setting.on(setting.b, &answers);
    setting.world.peer_mut(setting.carrier).manners.hangs_up_on_forks = false;
    setting.call();
    setting.run(1_000);
    let counters = setting.world.shard(0).counters();
    assert_eq!((counters.calls, counters.shed_total), (2, 2));
    // Each is a dialog all the same.
    let acked = setting.world.peer(setting.b).heard("ACK");
    let tags: std::collections::BTreeSet<_> = acked.iter().filter_map(|ack| ack.tag("To")).collect();
    assert_eq!(tags.len(), 4, "{tags:?}");
    for name in setting.world.peer(setting.carrier).live_calls() {
        setting.world.act(setting.carrier, &name, request(BYE));
    }
    setting.world.finish();
}

#[test]
fn an_early_dialog_that_goes_on_behind_another_answer_keeps_its_numbers() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"parallel\"");
    setting.on(setting.a, &[(50, respond(180)), (499, respond(200))]);
    setting.on(setting.b, &[(50, respond(183)), (503, respond(200))]);
    setting.world.peer_mut(setting.carrier).manners.hangs_up_on_forks = false;
    setting
        .world
        .network
        .delay("referee", "b", "CANCEL", Duration::from_millis(200));
    let call = setting.call();
    // `a` has the call; `b` does not know yet, and says something before it answers too.
    setting.run(502);
    setting.world.act(setting.b, &call, request("UPDATE"));
    setting.run(2_000);
    let ticket = setting.world.command(Command::Calls { after: None, limit: 9 });
    let Some(Reply::Calls { calls, .. }) = setting.world.reply(ticket).cloned() else {
        panic!("no list of calls");
    };
    assert_eq!(calls.len(), 2);
    for call in calls {
        let call = CallSelector::Id(call.id.parse().unwrap());
        setting.world.command(Command::Hangup { call });
    }
    setting.run(500);
    // What referee says in the name of `b` comes behind what `b` has said itself.
    let heard = setting.world.peer(setting.carrier).heard("");
    let of_b = |method: &str| {
        let requests = heard.iter().filter(|text| text.is_request() && text.method() == method);
        let of_b = requests.filter(|text| text.tag("From").is_some_and(|tag| tag.starts_with("b-")));
        of_b.map(|text| text.cseq().0).next().expect(method)
    };
    assert_eq!((of_b("UPDATE"), of_b(BYE)), (10, 11));
    setting.world.finish();
}

#[test]
fn a_cancel_of_the_caller_ends_every_branch() {
    let mut setting = Setting::new("to = [\"a\", \"b\", \"c\"]\nmode = \"parallel\"");
    setting.on(setting.a, &[(50, respond(180))]);
    setting.on(setting.b, &[(50, respond(180))]);
    // It says nothing until the caller has given up: RFC 3261 §9.1.
    setting.on(setting.c, &[(1_500, respond(180))]);
    let call = setting.call();
    setting.run(1_000);
    setting.world.act(setting.carrier, &call, Act::Cancel);
    setting.run(200);
    assert_eq!(setting.heard(setting.c, "CANCEL"), 0);
    setting.world.finish();
    for peer in [setting.a, setting.b, setting.c] {
        assert_eq!(setting.heard(peer, "CANCEL"), 1);
    }
    assert_eq!(setting.outcome(), [487]);
    // RFC 3261 §16.7 step 6: a 6xx is the best there is, whoever has given up.
    let mut setting = Setting::new("to = [\"b\", \"c\"]\nmode = \"parallel\"");
    setting.on(setting.b, &[(50, respond(180))]);
    setting.on(setting.c, &[(1_500, respond(603))]);
    let call = setting.call();
    setting.run(1_000);
    setting.world.act(setting.carrier, &call, Act::Cancel);
    setting.world.finish();
    assert_eq!(setting.outcome(), [603]);
}

#[test]
fn a_target_that_cannot_be_reached_leaves_the_others_ringing() {
    // Nobody is at that address: the sends come back.
    let elsewhere = text("to = [\"b\", \"c\"]\nmode = \"parallel\"").replace("udp:10.0.0.20", "udp:10.0.0.29");
    let mut setting = Setting::of(&elsewhere, 1);
    setting.on(setting.c, &[(50, respond(180)), (3_000, respond(200))]);
    let call = setting.call();
    setting.run(5_000);
    assert_eq!(setting.outcome(), [200]);
    setting.hang_up(&call);
    setting.world.finish();
}

#[test]
fn a_target_that_rings_is_the_callee_though_the_name_of_the_first_is_found_later() {
    let named = text("to = [\"a\", \"b\"]\nmode = \"parallel\"")
        .replace(
            "\"udp:10.0.0.10:5060\", \"udp:10.0.0.11:5060\"",
            "\"udp:node.example:5060\"",
        )
        .replace(
            "listen = \"private\"\naddresses = [\"udp:node",
            "sources = [\"10.0.0.10/32\"]\nlisten = \"private\"\naddresses = [\"udp:node",
        );
    let mut setting = Setting::of(&named, 1);
    setting.world.name("node.example", &["10.0.0.10".parse().unwrap()]);
    setting.world.trouble(Troubles {
        lookup: [Duration::from_millis(200); 2],
        ..Troubles::with_store([Duration::ZERO; 2])
    });
    setting.on(setting.a, &[]);
    // b speaks within its early dialog when the call is on its way to a as well.
    setting.on(
        setting.b,
        &[(10, respond(180)), (400, request("UPDATE")), (900, respond(200))],
    );
    let call = setting.call();
    setting.run(2_000);
    assert_eq!(setting.world.peer(setting.b).outcomes("UPDATE"), [200]);
    setting.hang_up(&call);
    setting.world.finish();
}

// ---- in turn ----

#[test]
fn sequential_targets_are_tried_until_one_answers() {
    let mut setting = Setting::new("to = [\"a\", \"b\", \"c\"]\nmode = \"sequential\"");
    setting.on(setting.a, &[(50, respond(180)), (500, respond(486))]);
    setting.on(setting.b, &[(50, respond(404))]);
    let call = setting.call();
    setting.run(4_000);
    assert_eq!(
        setting.heard(setting.a2, "INVITE"),
        0,
        "a refusal is the trunk's, not the address's"
    );
    assert_eq!(setting.outcome(), [200]);
    assert_eq!(setting.heard(setting.c, "ACK"), 1);
    setting.hang_up(&call);
    setting.world.finish();
    assert_ladder("fork_sequential", &setting.world);
}

#[test]
fn a_target_that_says_nothing_is_left_for_the_next() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nresponse_timeout = \"2s\"");
    setting.on(setting.a, &[]);
    setting.on(setting.a2, &[]);
    let call = setting.call();
    setting.run(3_900);
    assert_eq!(
        (setting.heard(setting.a2, "INVITE"), setting.heard(setting.b, "INVITE")),
        (1, 0)
    );
    setting.run(3_000);
    assert_eq!(setting.outcome(), [200]);
    setting.hang_up(&call);
    setting.world.finish();
    assert_ladder("fork_silent", &setting.world);
    assert_eq!(setting.world.shard(0).counters().branches_given_up_total, 2);
}

#[test]
fn a_target_that_wakes_up_late_is_cancelled_or_has_the_call() {
    for (late, winner) in [(respond(180), false), (respond(200), true)] {
        let mut setting = Setting::new("to = [\"a\", \"b\"]\nresponse_timeout = \"1s\"");
        setting.on(setting.a, &[(1_500, late)]);
        setting.on(setting.a2, &[(50, respond(180)), (5_000, respond(200))]);
        let call = setting.call();
        setting.run(8_000);
        assert_eq!(setting.outcome(), [200]);
        assert_eq!(setting.heard(setting.a, "CANCEL"), usize::from(!winner));
        assert_eq!(setting.heard(setting.a2, "CANCEL"), usize::from(winner));
        assert!(setting.heard(setting.a, "ACK") > 0, "for the 200 or for the 487");
        setting.hang_up(&call);
        setting.world.finish();
    }
}

#[test]
fn a_503_leads_to_the_next_address_and_a_provisional_response_to_none() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"weighted\"\nweights = [1000, 1]");
    setting.on(setting.a, &[(20, respond(503))]);
    let call = setting.call();
    setting.run(3_000);
    assert_eq!((setting.outcome(), setting.heard(setting.a2, "ACK")), (vec![200], 1));
    setting.hang_up(&call);
    setting.world.finish();
    // RFC 3263 §4.3: once a target has said anything, another address is not tried for its silence.
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nresponse_timeout = \"1s\"");
    setting.on(setting.a, &[(20, respond(180)), (20_000, respond(200))]);
    let call = setting.call();
    setting.run(25_000);
    assert_eq!(
        (setting.heard(setting.a2, "INVITE"), setting.heard(setting.b, "INVITE")),
        (0, 0)
    );
    setting.hang_up(&call);
    setting.world.finish();
}

#[test]
fn a_target_that_does_not_answer_in_time_is_cancelled_for_the_next() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nanswer_timeout = \"5s\"");
    setting.on(setting.a, &[(50, respond(180))]);
    let call = setting.call();
    setting.run(8_000);
    assert_eq!(
        (setting.heard(setting.a, "CANCEL"), setting.heard(setting.a2, "INVITE")),
        (1, 0)
    );
    assert_eq!(setting.outcome(), [200]);
    setting.hang_up(&call);
    setting.world.finish();
    // The last one, too, and an only one: the caller hears 408.
    let mut setting = Setting::new("to = \"b\"\nanswer_timeout = \"5s\"");
    setting.on(setting.b, &[(50, respond(180))]);
    setting.call();
    setting.run(8_000);
    assert_eq!((setting.outcome(), setting.heard(setting.b, "CANCEL")), (vec![408], 1));
    setting.world.finish();
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nanswer_timeout = \"5s\"");
    setting.on(setting.a, &[(50, respond(180))]);
    setting.on(setting.b, &[(50, respond(180))]);
    setting.call();
    setting.world.finish();
    assert_eq!(setting.outcome(), [408]);
}

#[test]
fn a_challenge_ends_the_search() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]");
    setting.on(
        setting.a,
        &[(50, respond_with(407, &[("Proxy-Authenticate", "Digest realm=\"a\"")]))],
    );
    setting.call();
    setting.world.finish();
    assert_eq!((setting.outcome(), setting.heard(setting.b, "INVITE")), (vec![407], 0));
}

#[test]
fn a_target_that_says_nothing_does_not_go_on_with_a_search_that_is_over() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"parallel\"");
    setting.on(setting.a, &[]);
    setting.on(
        setting.b,
        &[(50, respond_with(407, &[("Proxy-Authenticate", "Digest realm=\"b\"")]))],
    );
    setting.call();
    setting.world.finish();
    assert_eq!((setting.outcome(), setting.heard(setting.a2, "INVITE")), (vec![407], 0));
}

#[test]
fn after_a_6xx_nobody_else_is_asked() {
    let mut setting = Setting::new("to = [\"a\", \"b\", \"c\"]");
    setting.on(setting.a, &[(50, respond(486))]);
    setting.on(setting.b, &[(50, respond(603))]);
    setting.call();
    setting.world.finish();
    assert_eq!((setting.outcome(), setting.heard(setting.c, "INVITE")), (vec![603], 0));
}

#[test]
fn when_nobody_says_anything_the_caller_hears_408() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]");
    for peer in [setting.a, setting.a2, setting.b] {
        setting.on(peer, &[]);
    }
    setting.call();
    setting.world.finish();
    assert_eq!(setting.outcome(), [408]);
}

#[test]
fn a_cancel_between_two_targets_asks_nobody_else() {
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nresponse_timeout = \"2s\"");
    setting.on(setting.a, &[]);
    let call = setting.call();
    setting.run(1_000);
    setting.world.act(setting.carrier, &call, Act::Cancel);
    setting.world.finish();
    assert_eq!(
        (setting.heard(setting.a2, "INVITE"), setting.heard(setting.b, "INVITE")),
        (0, 0)
    );
    assert_eq!(setting.outcome(), [487]);
}

// ---- by weight ----

#[test]
fn weights_share_the_calls() {
    let mut counts = [0usize; 2];
    for seed in 0..300 {
        let mut setting = Setting::seeded("to = [\"b\", \"a\"]\nmode = \"weighted\"\nweights = [3, 1]", seed);
        setting.on(setting.a, &[(20, respond(486))]);
        setting.on(setting.b, &[(20, respond(486))]);
        setting.call();
        setting.world.finish();
        // A refusal is the answer: nobody else is asked.
        assert_eq!(
            setting.heard(setting.a, "INVITE") + setting.heard(setting.b, "INVITE"),
            1
        );
        counts[0] += setting.heard(setting.b, "INVITE");
        counts[1] += setting.heard(setting.a, "INVITE");
    }
    // 225 to 75 with a deviation of 7.5.
    assert!((195..=255).contains(&counts[0]), "{counts:?}");
}

// ---- requests that open no call ----

#[test]
fn a_request_that_opens_no_call_is_never_forked_and_fails_over() {
    let message = "MESSAGE sip:+4930123456@203.0.113.7 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKmessage;rport\r\n\
                   Max-Forwards: 70\r\nFrom: <sip:x@carrier.example>;tag=m\r\nTo: <sip:+4930123456@203.0.113.7>\r\nCall-ID: m1\r\n\
                   CSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n";
    let mut setting = Setting::new("to = [\"a\", \"b\", \"c\"]\nmode = \"parallel\"");
    setting.world.say(setting.carrier, message);
    setting.world.run_for(Duration::from_secs(60));
    let heard = [setting.a, setting.a2, setting.b, setting.c].map(|peer| setting.heard(peer, "MESSAGE"));
    assert_eq!(heard, [1, 0, 0, 0]);
    let mut setting = Setting::new("to = [\"a\", \"b\", \"c\"]\nmode = \"parallel\"");
    setting
        .world
        .peer_mut(setting.a)
        .on("MESSAGE", steps([(10, respond(503))]));
    setting
        .world
        .peer_mut(setting.a2)
        .on("MESSAGE", steps([(10, respond(404))]));
    setting.world.say(setting.carrier, message);
    setting.world.run_for(Duration::from_secs(60));
    let heard = [setting.a, setting.a2, setting.b, setting.c].map(|peer| setting.heard(peer, "MESSAGE"));
    assert_eq!(heard, [1, 1, 0, 0]);
    assert_eq!(setting.world.peer(setting.carrier).heard("404").len(), 1);
    // RFC 4320 §4.2: no 408 to it, not one that a target gives either; a better response is passed on.
    for (codes, expected) in [([408, 503], 0), ([503, 408], 0)] {
        let mut setting = Setting::new("to = \"a\"");
        for (peer, code) in [setting.a, setting.a2].into_iter().zip(codes) {
            setting.world.peer_mut(peer).on("MESSAGE", steps([(10, respond(code))]));
        }
        setting.world.say(setting.carrier, message);
        setting.world.run_for(Duration::from_secs(60));
        let carrier = setting.world.peer(setting.carrier);
        assert_eq!(carrier.heard("408").len(), expected, "{codes:?}");
    }
    // RFC 4320 §4.1: who thinks about it says so after 3.5 s, and no sooner. RFC 3261 §9.1: it is cancelled in no case.
    for (first, expected) in [(3_500, [1, 0, 0, 0]), (4_500, [1, 1, 0, 0])] {
        let mut setting = Setting::new("to = [\"a\", \"b\", \"c\"]");
        let slow = steps([(first, respond(100)), (6_000, respond(200))]);
        setting.world.peer_mut(setting.a).on("MESSAGE", slow);
        setting.world.say(setting.carrier, message);
        setting.world.run_for(Duration::from_secs(60));
        let peers = [setting.a, setting.a2, setting.b, setting.c];
        assert_eq!(peers.map(|peer| setting.heard(peer, "MESSAGE")), expected);
        assert_eq!(peers.map(|peer| setting.heard(peer, "CANCEL")), [0; 4]);
        assert_eq!(setting.world.peer(setting.carrier).heard("200").len(), 1);
    }
}

// ---- breadth and loops ----

#[test]
fn max_breadth_is_added_lowered_and_divided() {
    for (came, expected) in [
        (None, "60"),
        (Some("10"), "10"),
        (Some("60"), "60"),
        (Some("61"), "60"),
        (Some("500"), "60"),
    ] {
        let mut setting = Setting::new("to = \"b\"");
        let headers: Vec<_> = came.map(|value| ("Max-Breadth", value)).into_iter().collect();
        let call = setting.call_with(&headers);
        setting.run(2_000);
        let invite = setting.world.peer(setting.b).heard("INVITE")[0].clone();
        assert_eq!(invite.header("Max-Breadth"), Some(expected), "{came:?}");
        setting.hang_up(&call);
        setting.world.finish();
    }
    // Two trunks with three addresses: a third each, and never more in all.
    let mut setting = Setting::new("to = [\"a\", \"b\"]\nmode = \"parallel\"");
    let call = setting.call_with(&[("Max-Breadth", "7")]);
    setting.run(2_000);
    for peer in [setting.a, setting.b] {
        let invite = setting.world.peer(peer).heard("INVITE")[0].clone();
        assert_eq!(invite.header("Max-Breadth"), Some("2"));
    }
    setting.hang_up(&call);
    setting.world.finish();
}

#[test]
fn without_breadth_for_all_targets_they_are_tried_in_turn() {
    let mut setting = Setting::new("to = [\"b\", \"c\"]\nmode = \"parallel\"");
    setting.on(setting.b, &[(50, respond(180)), (1_000, respond(486))]);
    let call = setting.call_with(&[("Max-Breadth", "1")]);
    setting.run(900);
    assert_eq!(
        (setting.heard(setting.b, "INVITE"), setting.heard(setting.c, "INVITE")),
        (1, 0)
    );
    setting.run(3_000);
    assert_eq!(setting.outcome(), [200]);
    setting.hang_up(&call);
    setting.world.finish();
    let mut setting = Setting::new("to = [\"b\", \"c\"]\nmode = \"parallel\"");
    setting.call_with(&[("Max-Breadth", "0")]);
    setting.world.finish();
    assert_eq!(setting.outcome(), [440]);
}

#[test]
fn a_request_that_comes_back_unchanged_is_a_loop_and_a_changed_one_a_spiral() {
    let mut setting = Setting::new("to = \"b\"");
    let call = setting.call();
    setting.run(2_000);
    let invite = setting.world.peer(setting.b).heard("INVITE")[0].clone();
    let own_via = invite.list("Via")[0].clone();
    let again = |uri: &str, call_id: &str| again_with(&own_via, uri, call_id);
    setting
        .world
        .say(setting.carrier, &again("sip:+4930123456@203.0.113.7", "same"));
    setting.run(1_000);
    assert!(!setting.world.peer(setting.carrier).heard("482").is_empty());
    assert_eq!(setting.heard(setting.b, "INVITE"), 1);
    setting.on(setting.b, &[(10, respond(404))]);
    setting
        .world
        .say(setting.carrier, &again("sip:+4930999@203.0.113.7", "other"));
    setting.run(1_000);
    assert_eq!(setting.heard(setting.b, "INVITE"), 2);
    assert_eq!(setting.world.shard(0).counters().loops_total, 1);
    setting.hang_up(&call);
    setting.run(60_000);
    // What leads it elsewhere this time may be a header that routes match on.
    let mut setting = Setting::new(
        "to = \"b\"\nmatch = { header = { name = \"X-Stage\", value = \"2\" } }\n[[route]]\nfrom = \"carrier\"\nto = \"c\"",
    );
    let call = setting.call();
    setting.run(2_000);
    let invite = setting.world.peer(setting.c).heard("INVITE")[0].clone();
    let own_via = invite.list("Via")[0].clone();
    let again = again_with(&own_via, "sip:+4930123456@203.0.113.7", "staged")
        .replace("Content-Length", "X-Stage: 2\r\nContent-Length");
    setting.on(setting.b, &[(10, respond(404))]);
    setting.world.say(setting.carrier, &again);
    setting.run(1_000);
    assert_eq!(
        (setting.heard(setting.b, "INVITE"), setting.heard(setting.c, "INVITE")),
        (1, 1)
    );
    setting.hang_up(&call);
    setting.run(60_000);
}

/// An INVITE that has been here, and comes back with this Via of referee's below another's.
fn again_with(own_via: &str, uri: &str, call_id: &str) -> String {
    format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{call_id}\r\nVia: {own_via}\r\n\
         Max-Forwards: 60\r\nFrom: <sip:x@carrier.example>;tag=m\r\nTo: <sip:+4930123456@203.0.113.7>\r\nCall-ID: {call_id}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:x@198.51.100.10>\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn a_cancel_and_an_ack_have_the_branch_of_their_invite() {
    let mut setting = Setting::new("to = [\"b\", \"c\"]\nmode = \"parallel\"");
    setting.on(setting.b, &[(50, respond(180))]);
    setting.on(setting.c, &[(50, respond(180)), (500, respond(200))]);
    let call = setting.call();
    setting.run(2_000);
    let peer = setting.world.peer(setting.b);
    let branch = peer.heard("INVITE")[0].branch();
    assert_eq!(peer.heard("CANCEL")[0].branch(), branch);
    assert_eq!(peer.heard("ACK")[0].branch(), branch);
    setting.hang_up(&call);
    setting.world.finish();
}

// ---- names, connections, configuration ----

#[test]
fn a_target_whose_name_is_unknown_fails_over_and_one_that_is_found_late_is_tried() {
    let named = |name: &str| {
        text("to = [\"a\", \"b\"]")
            .replace(
                "\"udp:10.0.0.10:5060\", \"udp:10.0.0.11:5060\"",
                &format!("\"udp:{name}:5060\""),
            )
            .replace(
                "listen = \"private\"\naddresses = [\"udp:node",
                "sources = [\"10.0.0.10/32\"]\nlisten = \"private\"\naddresses = [\"udp:node",
            )
    };
    for (name, found) in [("node.example", true), ("node.invalid", false)] {
        let mut world = World::new(1, 1, config(&named(name)), None);
        let carrier_id = world.add(carrier());
        let a = world.add(Peer::new("a", "10.0.0.10:5060", Manners::new(PRIVATE, "<sip:a@x>")));
        let b = world.add(Peer::new("b", "10.0.0.20:5060", Manners::new(PRIVATE, "<sip:b@x>")));
        world.name("node.example", &["10.0.0.10".parse().unwrap()]);
        let call = world.call(carrier_id, "sip:+4930123456@203.0.113.7", &[]);
        world.run_for(Duration::from_secs(4));
        assert_eq!(world.peer(a).heard("INVITE").len(), usize::from(found));
        assert_eq!(world.peer(b).heard("INVITE").len(), usize::from(!found));
        assert_eq!(world.peer(carrier_id).outcomes("INVITE"), [200]);
        world.act(carrier_id, &call, request(BYE));
        world.finish();
    }
}

#[test]
fn a_route_says_where_calls_go_and_how() {
    let config = config(&text(
        "to = [\"a\", \"b\"]\nmode = \"weighted\"\nweights = [3, 1]\nresponse_timeout = \"1s\"\nanswer_timeout = \"30s\"",
    ));
    let route = &config.routes[0];
    let target = |trunk, weight| RouteTarget {
        trunk: TrunkId(trunk),
        weight,
    };
    assert_eq!(route.to, [target(1, 3), target(2, 1)]);
    assert_eq!(route.mode, RouteMode::Weighted);
    assert_eq!(route.response_timeout, Duration::from_secs(1));
    assert_eq!(route.answer_timeout, Some(Duration::from_secs(30)));
}

#[test]
fn what_is_wrong_with_the_targets_of_a_route_is_said_with_its_place() {
    for (route, expected) in [
        ("to = []", "`to` is empty"),
        ("to = [\"a\", \"a\"]", "`a` is there already"),
        ("to = [\"a\", \"x\"]", "there is no `[[trunk]]` named `x`"),
        ("to = [\"a\", 7]", "each of `to` is an integer, must be a string"),
        (
            "to = [\"a\", \"b\"]\nmode = \"random\"",
            "`mode` is \"random\", must be \"parallel\" or \"sequential\" or \"weighted\"",
        ),
        (
            "to = [\"a\", \"b\"]\nweights = [1, 2]",
            "`weights` needs `mode = \"weighted\"`",
        ),
        (
            "to = [\"a\", \"b\"]\nmode = \"weighted\"\nweights = [1]",
            "`weights` has 1 for the 2 of `to`",
        ),
        (
            "to = [\"a\", \"b\"]\nmode = \"weighted\"\nweights = [0, 1]",
            "each of `weights` is 0, must be 1 to 1000",
        ),
        (
            "to = \"a\"\nanswer_timeout = \"1ms\"",
            "`answer_timeout` is 1ms, must be 1s to 1h",
        ),
    ] {
        let errors = referee::config::parse(&text(route), &|_| None).expect_err(route);
        let first = &errors[0];
        assert!(first.message.starts_with(expected), "{route}: {first}");
        assert!(first.line > 1 && first.column > 0);
    }
}
