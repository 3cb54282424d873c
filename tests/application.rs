//! Calls led by an application in virtual time: what the caller sees and what the application is asked and told (RFC 3261 §13.3,
//! 3262, 3264, 3311, 3515, 4028).

mod common;

use common::assert_ladder;
use referee::command::{CallSelector, Command, Refusal, Reply};
use referee::sim::application::{Answer, Posted};
use referee::sim::peer::Peer;
use referee::sim::peer::gate::Gate;
use referee::sim::peer::script::{Act, Manners, Steps, notify, request, request_with, respond, respond_with, steps};
use referee::sim::peer::text::Text;
use referee::sim::scene::{CARRIER, PUBLIC, config};
use referee::sim::{PeerId, World};
use referee::timer::Instant;
use referee::transport::Transport;
use referee::webhook::HookKind;
use serde_json::{Value, json};
use std::time::Duration;

const CONFIG: &str = r#"
[[listen]]
name = "public"
bind = ["udp:203.0.113.7:5060", "tcp:203.0.113.7:5060"]
[[trunk]]
name = "carrier"
side = "carrier"
listen = "public"
addresses = ["udp:198.51.100.10:5060"]
sources = ["198.51.100.0/24"]
[trunk.refer]
bare_number = "sip:{number}@trunk.example.net"
destinations = ["*"]
[[application]]
name = "ivr"
call_hook = "https://app.example.com/call"
call_status_hook = "/status"
[[route]]
from = "carrier"
application = "ivr"
"#;

const URI: &str = "sip:+4930123456@203.0.113.7";
const TERMINATED: &str = "terminated;reason=noresource";
const ACTIVE: &str = "active;expires=60";

/// referee between a carrier and an application.
struct Scene {
    world: World,
    carrier: PeerId,
}

fn carrier() -> Manners {
    Manners {
        calls_applications: true,
        ..manners()
    }
}

fn manners() -> Manners {
    Manners::new(PUBLIC, "\"Alice\" <sip:+4917012345@carrier.example>")
}

impl Scene {
    fn new() -> Scene {
        Scene::with(CONFIG, carrier())
    }

    fn with(text: &str, manners: Manners) -> Scene {
        let mut world = World::new(1, 1, config(text), None);
        let carrier = world.add(Peer::new("carrier", CARRIER, manners));
        Scene { world, carrier }
    }

    /// A further key of the application.
    fn set(key: &str) -> Scene {
        let text = CONFIG.replace("call_status_hook", &format!("{key}\ncall_status_hook"));
        Scene::with(&text, carrier())
    }

    /// The call hook is answered so.
    fn list(&mut self, list: Value) {
        self.world.application.answer_question(Answer {
            reply: Some(list),
            ..Answer::default()
        });
    }

    fn call(&mut self) -> String {
        self.call_with(&[])
    }

    fn call_with(&mut self, headers: &[(&str, &str)]) -> String {
        self.world.call(self.carrier, URI, headers)
    }

    /// A call whose hook is answered so, after two seconds.
    fn after(list: Value) -> (Scene, String) {
        let mut scene = Scene::new();
        scene.list(list);
        let call = scene.call();
        scene.run(2_000);
        (scene, call)
    }

    fn run(&mut self, millis: u64) {
        self.world.run_for(Duration::from_millis(millis));
    }

    fn does(&mut self, call: &str, act: Act) {
        self.world.act(self.carrier, call, act);
    }

    fn on(&mut self, method: &str, steps: Steps) {
        self.world.peer_mut(self.carrier).on(method, steps);
    }

    fn heard(&self, label: &str) -> Vec<&Text> {
        self.world.peer(self.carrier).heard(label)
    }

    fn heard_at(&self, label: &str) -> Vec<u64> {
        let at = self.world.peer(self.carrier).heard_at(label);
        at.into_iter()
            .map(|at| at.since(Instant::START).as_millis() as u64)
            .collect()
    }

    fn verbs(&mut self, call: &str, verbs: Value) -> Reply {
        let ticket = self.world.verbs(call, &verbs).unwrap_or_else(|error| panic!("{error}"));
        self.world.reply(ticket).cloned().expect("a reply")
    }

    fn posted(&self, kind: HookKind) -> Vec<&Posted> {
        let posted = self.world.application.posted().iter();
        posted.filter(|posted| posted.kind == kind).collect()
    }

    fn actions(&self) -> Vec<&Posted> {
        self.posted(HookKind::Action)
    }

    /// The call's statuses and the verbs' events, in order.
    fn told(&self) -> Vec<String> {
        let of = self.posted(HookKind::Event).into_iter();
        let of = of.filter(|posted| posted.subject.ends_with("-status"));
        let text = |posted: &Posted| match posted.body["event"].as_str() {
            Some(event) => format!("{event} {}", posted.body["verb"].as_str().unwrap()),
            None => posted.body["call_status"].as_str().unwrap().to_owned(),
        };
        of.map(text).collect()
    }

    /// The final response to its INVITE, with its reason phrase.
    fn answer(&self) -> &Text {
        let invites = self.heard("");
        let mut finals = invites
            .into_iter()
            .filter(|text| !text.is_request() && text.method() == "INVITE" && text.code() >= 200);
        finals
            .next()
            .unwrap_or_else(|| panic!("no answer\n{}", self.world.ladder()))
    }

    fn end(&mut self) {
        self.world.finish();
    }
}

fn refer() -> Value {
    json!({"verb": "sip:refer", "id": "t1", "referTo": "+4930111", "actionHook": "/action", "eventHook": "/event"})
}

fn course(last: &str, millis: u64) -> Steps {
    steps([
        (10, respond(202)),
        (20, notify("100 Trying", ACTIVE)),
        (millis, notify(last, TERMINATED)),
    ])
}

fn refused(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

// ---- a call, from its hook to its end ----

#[test]
fn a_call_is_answered_and_hung_up() {
    let (mut scene, _) = Scene::after(json!([{"verb": "answer"}, {"verb": "hangup", "headers": {"X-Why": "done"}}]));
    scene.end();
    assert_ladder("application", &scene.world);
    assert_eq!(scene.heard("BYE")[0].header("X-Why"), Some("done"));
    assert_eq!(scene.told(), ["trying", "in-progress", "completed"]);
}

/// RFC 3261 §17.2.2: also where there is room for no more than the INVITE.
#[test]
fn a_bye_whose_200_is_lost_gets_it_again_though_the_table_is_full() {
    let mut scene = Scene::with(&format!("{CONFIG}\n[limits]\ntransactions_max = 1\n"), carrier());
    scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
    let call = scene.call();
    scene.run(2_000);
    scene.world.network.lose("referee", "carrier", "200 OK (BYE)", 1);
    scene.does(&call, request("BYE"));
    scene.end();
    assert_eq!(scene.world.peer(scene.carrier).outcomes("BYE"), [200]);
    assert_eq!(scene.heard("481").len(), 0);
}

#[test]
fn a_call_is_answered_and_transferred() {
    let mut scene = Scene::new();
    scene.on("REFER", course("200 OK", 3_000));
    scene.list(json!([{"verb": "answer"}, refer(), {"verb": "hangup"}]));
    scene.call();
    scene.end();
    assert_ladder("application_transfer", &scene.world);
    let [action] = scene.actions()[..] else { panic!() };
    assert_eq!(action.body["refer_result"], "success");
    assert_eq!(action.body["application_sid"], "ivr");
    assert_eq!(action.url, "https://app.example.com/action");
    assert_eq!(scene.heard("BYE").len(), 1);
    let refer = scene.heard("REFER")[0];
    assert_eq!(refer.header("Refer-To"), Some("<sip:+4930111@trunk.example.net>"));
    assert_eq!(refer.cseq(), (1, "REFER"));
    assert_eq!(refer.header("Contact"), Some("<sip:+4930123456@203.0.113.7:5060>"));
    assert_eq!(refer.header("Supported"), Some("100rel, timer, replaces"));
}

/// RFC 3261 §12.1.1: the Record-Routes of the INVITE are in every response that makes the dialog, and the route set in their order.
#[test]
fn the_record_routes_of_the_caller_are_copied_and_are_the_route_set_in_their_order() {
    let routes = [
        "<sip:198.51.100.10:5060;lr>;x=\"1, 2\"",
        "\"P2, p\" <sip:p2.example;lr>;y=1, <sip:p3.example;lr>",
    ];
    let in_order = [routes[0], "\"P2, p\" <sip:p2.example;lr>;y=1", "<sip:p3.example;lr>"];
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "pause", "length": 3}, {"verb": "answer"}, refer(), {"verb": "hangup"}]));
    scene.call_with(&[("Record-Route", routes[0]), ("Record-Route", routes[1])]);
    // The caller itself knows nothing of the proxies before it.
    scene.run(60_000);
    for label in ["180", "200 OK (INVITE)"] {
        let lines = &scene.heard(label)[0].headers;
        let copied = lines.iter().filter(|(name, _)| name == "Record-Route");
        let copied: Vec<&str> = copied.map(|(_, value)| value.as_str()).collect();
        assert_eq!(copied, routes, "{label}");
        let own = ["Contact", "Allow", "Supported"].map(|name| scene.heard(label)[0].header(name));
        let contact = "<sip:+4930123456@203.0.113.7:5060>";
        let allow = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, NOTIFY";
        assert_eq!(own, [Some(contact), Some(allow), Some("100rel, timer")], "{label}");
    }
    for label in ["REFER", "BYE"] {
        let own = scene.heard(label)[0];
        assert_eq!(own.list("Route"), in_order, "{label}");
        assert_eq!(own.request_uri(), "sip:user@198.51.100.10:5060", "{label}");
    }
    // No other response has them: none in a 100, none in a refusal.
    assert_eq!(scene.heard("100")[0].header("Record-Route"), None);
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "hangup"}]));
    scene.call_with(&[("Record-Route", routes[0])]);
    scene.end();
    assert_eq!(
        (scene.answer().code(), scene.answer().header("Record-Route")),
        (603, None)
    );
}

#[test]
fn the_call_hook_says_who_calls_and_with_what() {
    let mut scene = Scene::new();
    scene.call_with(&[
        ("X-Account", "a"),
        ("X-Account", "b"),
        ("Authorization", "Digest username=\"u\""),
    ]);
    scene.end();
    let [question] = scene.posted(HookKind::Question)[..] else {
        panic!()
    };
    assert_eq!(question.url, "https://app.example.com/call");
    let body = &question.body;
    let sid = body["call_sid"].as_str().unwrap();
    assert!(sid.starts_with("call-"));
    for (field, expected) in [
        ("direction", json!("inbound")),
        ("from", json!("+4917012345")),
        ("to", json!("+4930123456")),
        ("sip_status", json!(100)),
        ("call_status", json!("trying")),
        ("application_sid", json!("ivr")),
        ("originating_sip_ip", json!("198.51.100.10")),
        ("originating_sip_trunk_name", json!("carrier")),
        ("trace_id", json!(sid)),
        ("customerData", json!({})),
    ] {
        assert_eq!(body[field], expected, "{field}");
    }
    let sip = &body["sip"];
    assert_eq!((&sip["method"], &sip["uri"]), (&json!("INVITE"), &json!(URI)));
    assert!(sip["body"].as_str().unwrap().starts_with("v=0\r\n"));
    assert_eq!(sip["headers"]["X-Account"], "a, b");
    assert_eq!(sip["headers"]["call-id"], body["call_id"]);
    assert_eq!(
        sip["headers"].get("authorization"),
        None,
        "credentials are not the application's business"
    );
}

#[test]
fn a_call_whose_application_does_not_say_what_comes_next_is_refused_with_480() {
    let say = json!([{"verb": "answer"}, {"verb": "say", "text": "Hello"}]);
    for (status, reply, reason) in [
        (500, None, "the call hook failed"),
        (404, Some(json!([{"verb": "answer"}])), "the call hook failed"),
        (200, None, "the call hook answered without a list of verbs"),
        (200, Some(json!([])), "the call hook answered without a list of verbs"),
        (
            200,
            Some(json!([{"verb": "answer"}, {"verb": "sip:refer"}])),
            "the call hook's list: [1].referTo: is missing",
        ),
        (
            200,
            Some(say),
            "the call hook's list: [1].verb: `say` needs media or a second call, and referee has neither",
        ),
    ] {
        let mut scene = Scene::new();
        scene.world.application.answer_question(Answer {
            status,
            reply,
            ..Answer::default()
        });
        scene.call();
        scene.end();
        let answer = scene.answer();
        assert_eq!((answer.code(), answer.header("X-Reason")), (480, Some(reason)));
        assert!(answer.header("Reason").unwrap().starts_with("SIP;cause=480;text=\""));
        assert!(answer.tag("To").is_some());
        assert_eq!(scene.told(), ["trying", "failed"]);
    }
}

#[test]
fn a_caller_that_gives_up_while_the_application_thinks_gets_487_and_the_list_is_ignored() {
    let mut scene = Scene::new();
    scene.world.application.answer_question(Answer {
        after: Duration::from_secs(4),
        reply: Some(json!([{"verb": "answer"}, refer()])),
        ..Answer::default()
    });
    let call = scene.call();
    scene.run(1_000);
    scene.does(&call, Act::Cancel);
    scene.end();
    assert_ladder("application_cancel", &scene.world);
    assert_eq!(scene.told(), ["trying", "no-answer"]);
    // RFC 3261 §9.2: both have one tag.
    let tag = |label| scene.heard(label)[0].tag("To").unwrap();
    assert_eq!(tag("200 OK (CANCEL)"), tag("487"));
    assert!(scene.actions().is_empty());
}

#[test]
fn a_list_that_ends_without_an_answer_is_a_decline() {
    for list in [json!([{"verb": "tag", "data": {"a": 1}}]), json!([{"verb": "hangup"}])] {
        let (mut scene, _) = Scene::after(list);
        scene.end();
        assert_eq!(scene.answer().code(), 603);
        assert_eq!(scene.told(), ["trying", "failed"]);
    }
    let (mut scene, _) = Scene::after(json!([{"verb": "answer"}]));
    scene.end();
    assert_eq!(scene.heard("BYE").len(), 1);
}

#[test]
fn a_call_is_declined_as_the_application_says() {
    let (mut scene, _) = Scene::after(json!([
        {"verb": "sip:decline", "status": 486, "reason": "Off Today", "headers": {"X-Back": "tomorrow"}}
    ]));
    scene.end();
    let answer = scene.answer();
    assert_eq!((answer.code(), answer.header("X-Back")), (486, Some("tomorrow")));
    assert!(answer.first.ends_with("486 Off Today"), "{}", answer.first);
    assert_eq!(scene.told(), ["trying", "busy"]);
}

// ---- transfers ----

#[test]
fn a_refer_alone_answers_the_call_first() {
    let mut scene = Scene::new();
    scene.on("REFER", course("200 OK", 1_000));
    scene.list(json!([refer()]));
    scene.call();
    scene.end();
    assert_eq!(scene.told(), ["trying", "in-progress", "completed"]);
    assert_eq!(scene.actions().len(), 1);
    // Its REFER waits for the ACK.
    let said = scene.world.peer(scene.carrier).said("ACK").len();
    assert_eq!((said, scene.heard("REFER").len()), (1, 1));
}

#[test]
fn a_refer_of_a_call_without_an_answer_can_redirect_the_caller_or_fail() {
    let mut scene = Scene::set("on_unanswered = \"redirect\"");
    scene.list(json!([refer()]));
    scene.call();
    scene.end();
    let answer = scene.answer();
    assert_eq!(
        (answer.code(), answer.header("Contact")),
        (302, Some("<sip:+4930111@trunk.example.net>"))
    );
    let [action] = scene.actions()[..] else { panic!() };
    let verdict = |action: &Posted| {
        let of = |name: &str| action.body[name].clone();
        (
            of("refer_status"),
            of("refer_status_source"),
            of("refer_result"),
            of("refer_cause"),
        )
    };
    assert_eq!(
        verdict(action),
        (json!(302), json!("local"), json!("unknown"), json!("caller_redirected"))
    );

    let mut scene = Scene::set("on_unanswered = \"fail\"");
    scene.list(json!([refer(), {"verb": "answer"}]));
    scene.call();
    scene.run(100);
    let [action] = scene.actions()[..] else { panic!() };
    assert_eq!(
        verdict(action),
        (json!(481), json!("local"), json!("failed"), json!("not_answered"))
    );
    assert_eq!(scene.answer().code(), 200, "the next verb runs");
    scene.end();
}

#[test]
fn a_failed_transfer_runs_the_next_verb_or_what_the_reply_says() {
    let second = json!([{"verb": "sip:refer", "referTo": "sip:queue@backup.example", "actionHook": "/second"}]);
    for (reply, expected) in [
        (None, vec!["hangup"]),
        (Some(json!([])), vec!["hangup"]),
        (Some(json!([{"verb": "answr"}])), vec!["hangup"]),
        (Some(second), vec!["REFER", "BYE"]),
        (Some(json!([{"verb": "pause", "length": 1}])), vec!["pause"]),
    ] {
        let mut scene = Scene::new();
        scene.on("REFER", course("486 Busy Here", 1_000));
        scene.on("REFER", course("200 OK", 1_000));
        scene.list(json!([refer(), {"verb": "hangup", "headers": {"X-List": "first"}}]));
        scene.world.application.answer_action(Answer {
            reply,
            ..Answer::default()
        });
        scene.call();
        scene.end();
        let bye = scene.heard("BYE")[0];
        let is_first = bye.header("X-List").is_some();
        match expected[0] {
            "hangup" => assert!(is_first && scene.heard("REFER").len() == 1),
            "REFER" => assert!(!is_first && scene.heard("REFER").len() == 2),
            _ => assert!(!is_first && scene.heard("REFER").len() == 1),
        }
    }
}

#[test]
fn after_a_success_only_hangup_and_tag_count() {
    let mut scene = Scene::new();
    scene.on("REFER", course("200 OK", 1_000));
    scene.list(json!([refer()]));
    scene.world.application.answer_action(Answer {
        reply: Some(json!([
            {"verb": "pause", "length": 60},
            {"verb": "sip:request", "method": "INFO"},
            {"verb": "tag", "data": {"done": true}},
            {"verb": "hangup", "headers": {"X-Why": "transferred"}},
        ])),
        ..Answer::default()
    });
    scene.call();
    scene.end();
    assert!(scene.heard("INFO").is_empty());
    assert_eq!(scene.heard("BYE")[0].header("X-Why"), Some("transferred"));
    assert!(scene.heard_at("BYE")[0] < 2_000);
}

#[test]
fn after_a_success_that_the_application_says_nothing_to_the_rest_of_the_list_counts() {
    let rest = [
        json!({"verb": "tag", "data": {"from": "list"}}),
        json!({"verb": "hangup", "headers": {"X-Why": "done"}}),
    ];
    let empty = || Answer::default();
    let slow = Answer {
        after: Duration::from_secs(5),
        ..Answer::default()
    };
    let other = Answer {
        reply: Some(json!([{"verb": "tag", "data": {"from": "reply"}}])),
        ..Answer::default()
    };
    for (answer, from, header) in [
        (empty(), "list", Some("done")),
        (slow, "list", Some("done")),
        // A list in the reply takes its place.
        (other, "reply", None),
    ] {
        let mut scene = Scene::new();
        scene.on("REFER", course("200 OK", 1_000));
        scene.list(json!([{"verb": "answer"}, refer(), rest[0], rest[1]]));
        scene.world.application.answer_action(answer);
        scene.call();
        scene.end();
        assert_eq!(scene.heard("BYE")[0].header("X-Why"), header, "{from}");
        let events = scene.posted(HookKind::Event);
        let completed = events.iter().find(|posted| posted.body["call_status"] == "completed");
        assert_eq!(completed.unwrap().body["customerData"], json!({"from": from}));
    }
}

#[test]
fn hooks_of_a_transfer_say_how_its_call_stands_when_they_are_posted() {
    let mut scene = Scene::new();
    scene.on("REFER", course("486 Busy Here", 1_000));
    scene.list(json!([refer()]));
    scene.call();
    scene.end();
    let events = scene.posted(HookKind::Event);
    let states = events.iter().filter_map(|posted| posted.body["call_state"].as_str());
    assert_eq!(states.collect::<Vec<_>>(), ["in-progress", "in-progress"]);
    let [action] = scene.actions()[..] else { panic!() };
    let body = &action.body;
    let said = json!([body["call_status"], body["sip_status"], body["sip_reason"]]);
    assert_eq!(said, json!(["in-progress", 200, "OK"]));
}

#[test]
fn every_execution_has_its_action_whatever_ends_it() {
    // The list, what happens at half a second, the causes of the actions in order.
    type Case = (Value, Option<&'static str>, Vec<&'static str>);
    let bad = json!({"verb": "sip:refer", "referTo": "sip:", "actionHook": "/bad"});
    let cases: Vec<Case> = vec![
        (json!([bad, refer()]), Some("BYE"), vec!["invalid_target", "call_ended"]),
        (
            json!([{"verb": "answer"}, bad, {"verb": "hangup"}]),
            None,
            vec!["invalid_target"],
        ),
        (
            json!([{"verb": "answer"}, refer(), refer()]),
            Some("BYE"),
            vec!["call_ended"],
        ),
        (json!([refer(), refer()]), Some("hangup"), vec!["hangup"]),
        (json!([refer(), refer()]), Some("replace"), vec!["replaced"]),
        (json!([refer(), refer()]), None, vec!["timeout", "timeout"]),
    ];
    for (list, event, causes) in cases {
        let mut scene = Scene::new();
        // No response to REFERs.
        scene.world.network.lose("referee", "carrier", "REFER", 100);
        scene.list(list.clone());
        let call = scene.call();
        scene.run(500);
        match event {
            Some("BYE") => scene.does(&call, request("BYE")),
            Some("hangup") => {
                let call = CallSelector::SipCallId(call.clone().into_bytes());
                scene.world.command(Command::Hangup { call });
            }
            Some("replace") => {
                scene.verbs(&call, json!({"verb": "hangup"}));
            }
            _ => {}
        }
        scene.end();
        let found: Vec<_> = scene
            .actions()
            .iter()
            .map(|action| action.body["refer_cause"].clone())
            .collect();
        assert_eq!(found, causes, "{list} {event:?}\n{}", scene.world.ladder());
    }
}

#[test]
fn requests_of_a_list_that_was_replaced_are_told_of_as_well() {
    let (mut scene, call) = Scene::after(json!([
        {"verb": "answer"},
        {"verb": "sip:request", "id": "i", "method": "INFO", "actionHook": "/sent"},
        {"verb": "pause", "length": 60},
    ]));
    let before = scene.actions().len();
    assert_eq!(before, 1, "the first is answered at once");
    scene.on("INFO", steps([(3_000, respond(200))]));
    scene.on("MESSAGE", steps([(10, respond(200))]));
    for (id, method) in [("slow", "INFO"), ("fast", "MESSAGE")] {
        scene.verbs(
            &call,
            json!([{"verb": "sip:request", "id": id, "method": method, "actionHook": "/sent"}, {"verb": "pause", "length": 60}]),
        );
        scene.run(500);
    }
    scene.run(5_000);
    let told: Vec<_> = scene.actions()[before..]
        .iter()
        .map(|posted| (posted.body["id"].clone(), posted.body["sip_status"].clone()))
        .collect();
    assert_eq!(told, [(json!("fast"), json!(200)), (json!("slow"), json!(200))]);
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    scene.end();
}

/// RFC 3261 §12.2.1.2, RFC 5057 §5.1.
#[test]
fn a_caller_that_knows_the_call_no_more_ends_it() {
    for (answer, gone) in [
        (vec![(10, respond(481))], true),
        (vec![], true),
        (vec![(10, respond(603))], false),
    ] {
        let mut scene = Scene::new();
        scene.on("INFO", steps(answer));
        scene.list(json!([
            {"verb": "answer"},
            {"verb": "sip:request", "method": "INFO", "actionHook": "/sent"},
            {"verb": "pause", "length": 600},
        ]));
        scene.call();
        scene.run(90_000);
        assert_eq!(scene.heard("BYE").len(), usize::from(gone));
        assert_eq!(scene.told().last().unwrap() == "completed", gone);
        scene.end();
    }
}

#[test]
fn transfers_of_one_call_are_capped() {
    let text = CONFIG.to_owned() + "[transfer]\nper_call_max = 2\n";
    let mut scene = Scene::with(&text, carrier());
    scene.list(json!([refer(), refer(), refer(), {"verb": "hangup"}]));
    scene.call();
    scene.end();
    let causes: Vec<_> = scene
        .actions()
        .iter()
        .map(|action| action.body["refer_cause"].clone())
        .collect();
    assert_eq!(causes, ["rejected", "rejected", "busy"]);
    assert_eq!(scene.heard("REFER").len(), 2);
}

#[test]
fn a_bye_before_the_ack_of_the_answer_cancels_what_waits_for_it() {
    let mut scene = Scene::new();
    scene.world.network.lose("carrier", "referee", "ACK", 100);
    scene.list(json!([refer()]));
    let call = scene.call();
    scene.run(1_000);
    scene.does(&call, request("BYE"));
    scene.end();
    let [action] = scene.actions()[..] else { panic!() };
    assert_eq!(
        (&action.body["refer_result"], &action.body["refer_cause"]),
        (&json!("canceled"), &json!("call_ended"))
    );
    assert!(scene.heard("REFER").is_empty() && scene.heard("BYE").is_empty());
    assert_eq!(scene.told(), ["trying", "in-progress", "completed"]);
}

// ---- REST ----

#[test]
fn a_rest_list_replaces_the_one_that_runs() {
    let mut scene = Scene::new();
    scene.on(
        "REFER",
        steps([(10, respond(202)), (5_000, notify("200 OK", TERMINATED))]),
    );
    scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 600}, {"verb": "hangup"}]));
    let call = scene.call();
    scene.run(1_000);
    let reply = scene.verbs(&call, json!([refer(), {"verb": "pause", "length": 600}]));
    assert!(matches!(reply, Reply::Accepted { transfer: Some(_), .. }), "{reply:?}");
    scene.run(1_000);
    // Another takes its place; the REFER cannot be taken back, and its late success still ends the call.
    let reply = scene.verbs(
        &call,
        json!([{"verb": "tag", "data": {"a": 1}}, {"verb": "pause", "length": 600}]),
    );
    assert!(matches!(reply, Reply::Accepted { transfer: None, .. }), "{reply:?}");
    scene.end();
    assert_ladder("application_replaced", &scene.world);
    let [action] = scene.actions()[..] else { panic!() };
    assert_eq!(action.body["refer_cause"], "replaced");
    assert!(
        scene
            .world
            .application
            .posted()
            .iter()
            .any(|posted| posted.body.get("late").is_some())
    );
}

#[test]
fn a_rest_list_may_come_before_the_answer_and_bad_ones_are_refused() {
    let mut scene = Scene::new();
    scene.world.application.answer_question(Answer {
        after: Duration::from_secs(5),
        reply: Some(json!([{"verb": "sip:decline", "status": 486}])),
        ..Answer::default()
    });
    let call = scene.call();
    scene.run(100);
    for (verbs, field) in [
        (json!([{"verb": "answer"}, {"verb": "play", "url": "x"}]), "[1].verb"),
        (
            json!([{"verb": "answer"}, {"verb": "sip:decline", "status": 486}]),
            "[1].verb",
        ),
    ] {
        let refusal = refused(scene.verbs(&call, verbs));
        assert_eq!((refusal.status, refusal.field.as_deref()), (422, Some(field)));
    }
    scene.verbs(&call, json!([{"verb": "answer"}, {"verb": "pause", "length": 20}]));
    scene.run(10_000);
    assert_eq!(scene.answer().code(), 200, "what the hook answered late is ignored");
    scene.end();
    assert_eq!(scene.told(), ["trying", "in-progress", "completed"]);
}

#[test]
fn a_call_can_be_ended_before_and_after_its_answer() {
    for (list, expected) in [
        (
            json!([{"verb": "pause", "length": 600}]),
            vec!["trying", "ringing", "no-answer"],
        ),
        (
            json!([{"verb": "answer"}, {"verb": "pause", "length": 600}]),
            vec!["trying", "in-progress", "completed"],
        ),
    ] {
        let (mut scene, call) = Scene::after(list);
        let call = CallSelector::SipCallId(call.into_bytes());
        scene.world.command(Command::Hangup { call });
        scene.end();
        assert_eq!(scene.told(), expected);
        let ended = [scene.heard("487").len(), scene.heard("BYE").len()];
        assert_eq!(ended.iter().sum::<usize>(), 1);
    }
}

// ---- what the application is told and asked meanwhile ----

#[test]
fn the_verb_that_runs_when_the_call_ends_has_ended() {
    for (verb, name) in [
        (json!({"verb": "hangup", "id": "h"}), "hangup"),
        (json!({"verb": "pause", "length": 600}), "pause"),
        (json!({"verb": "sip:refer", "referTo": "+491"}), "sip:refer"),
        (json!({"verb": "sip:request", "method": "INFO"}), "sip:request"),
    ] {
        let mut scene = Scene::new();
        scene.list(json!([{"verb": "config", "notifyEvents": true}, {"verb": "answer"}, verb]));
        scene.world.peer_mut(scene.carrier).on(
            "REFER",
            steps([(10, respond(202)), (500, notify("200 OK", "terminated"))]),
        );
        scene.world.peer_mut(scene.carrier).on("INFO", steps([]));
        let call = scene.call();
        scene.run(3_000);
        if matches!(name, "pause" | "sip:request") {
            scene.world.act(scene.carrier, &call, request("BYE"));
        }
        scene.end();
        let told = scene.told();
        let expected = [
            format!("starting {name}"),
            format!("finished {name}"),
            "completed".to_owned(),
        ];
        assert_eq!(told[told.len() - 3..], expected, "{told:?}");
    }
}

#[test]
fn a_request_that_is_open_when_the_call_ends_is_told_of() {
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "answer"}, {"verb": "sip:request", "method": "INFO", "actionHook": "/result"}]));
    scene.world.peer_mut(scene.carrier).on("INFO", steps([]));
    let call = scene.call();
    scene.run(3_000);
    scene.world.act(scene.carrier, &call, request("BYE"));
    scene.end();
    let posted = scene.world.application.posted();
    let results: Vec<_> = posted.iter().filter(|posted| posted.url.ends_with("/result")).collect();
    assert_eq!(results.len(), 1);
    assert_eq!(
        (&results[0].body["result"], &results[0].body["err"]),
        (&json!("failed"), &json!("the call has ended"))
    );
}

#[test]
fn a_list_of_the_control_api_that_cannot_run_touches_nothing() {
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 600}]));
    let call = scene.call();
    scene.run(3_000);
    for (verb, field) in [
        (json!({"verb": "sip:refer", "referTo": "http://x"}), "referTo"),
        (
            json!({"verb": "sip:refer", "replaces": {"call": "nobody"}}),
            "replaces.call",
        ),
    ] {
        let ticket = scene.world.verbs(&call, &verb).unwrap();
        scene.run(100);
        let Some(Reply::Refused(refusal)) = scene.world.reply(ticket) else {
            panic!("{verb} is taken")
        };
        assert_eq!((refusal.status, refusal.field.as_deref()), (422, Some(field)));
    }
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    assert!(scene.posted(HookKind::Action).is_empty());
    scene.world.act(scene.carrier, &call, request("BYE"));
    scene.end();
}

#[test]
fn each_verb_is_told_where_the_application_wants_that() {
    let mut scene = Scene::new();
    scene.list(json!([
        {"verb": "tag", "data": {"a": 1}},
        {"verb": "config", "notifyEvents": true, "synthesizer": {"vendor": "none"}},
        {"verb": "answer", "id": "a"},
        {"verb": "pause", "id": "p", "length": 1},
        {"verb": "config", "notifyEvents": false},
        {"verb": "hangup"},
    ]));
    scene.call();
    scene.end();
    assert_eq!(
        scene.told(),
        [
            "trying",
            "starting config",
            "finished config",
            "starting answer",
            "in-progress",
            "finished answer",
            "starting pause",
            "finished pause",
            "completed"
        ]
    );
    let posted = scene.posted(HookKind::Event);
    let begun = posted.iter().find(|posted| posted.body["verb"] == "pause").unwrap();
    for (field, expected) in [
        ("event", json!("starting")),
        ("status", json!("begin")),
        ("id", json!("p")),
        ("name", json!("pause")),
        ("call_status", json!("in-progress")),
        ("customerData", json!({"a": 1})),
    ] {
        assert_eq!(begun.body[field], expected, "{field}");
    }
}

#[test]
fn a_completed_call_says_how_long_it_was_and_who_ended_it() {
    for (list, by) in [
        (json!([{"verb": "answer"}, {"verb": "pause", "length": 5}]), "referee"),
        (json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]), "caller"),
    ] {
        let mut scene = Scene::new();
        scene.list(list);
        let call = scene.call();
        scene.run(5_000);
        if by == "caller" {
            scene.does(&call, request("BYE"));
        }
        scene.end();
        let posted = scene.posted(HookKind::Event);
        let last = &posted.last().unwrap().body;
        assert_eq!(
            (&last["call_termination_by"], &last["call_status"]),
            (&json!(by), &json!("completed"))
        );
        assert!((4..=5).contains(&last["duration"].as_u64().unwrap()));
    }
}

#[test]
fn a_redirect_asks_another_url_which_is_the_base_from_then_on() {
    let mut scene = Scene::set("username = \"u\"\npassword = \"p\"");
    scene.on("REFER", course("200 OK", 1_000));
    scene.list(json!([{"verb": "redirect", "actionHook": "https://other.example/next", "statusHook": "/told"}]));
    scene.list(json!([{"verb": "answer"}, refer()]));
    scene.call();
    scene.end();
    let urls = |kind| -> Vec<String> { scene.posted(kind).iter().map(|posted| posted.url.clone()).collect() };
    assert_eq!(
        urls(HookKind::Question),
        ["https://app.example.com/call", "https://other.example/next"]
    );
    assert_eq!(urls(HookKind::Action), ["https://other.example/action"]);
    let statuses: Vec<String> = urls(HookKind::Event)
        .into_iter()
        .filter(|url| !url.ends_with("/event"))
        .collect();
    assert_eq!(
        statuses,
        [
            "https://app.example.com/status",
            "https://app.example.com/told",
            "https://app.example.com/told"
        ]
    );
    // The application's credentials go to its own origin and nowhere else.
    for posted in scene.world.application.posted() {
        assert_eq!(
            posted.has_credentials,
            posted.url.starts_with("https://app."),
            "{}",
            posted.url
        );
    }
}

#[test]
fn a_redirect_that_fails_before_the_answer_refuses_the_call_with_480() {
    for (status, reply, reason) in [
        (500, None, "the redirect hook failed"),
        (
            200,
            Some(json!([{"verb": "answr"}])),
            "the redirect hook's list: [0].verb: `answr` is no verb",
        ),
    ] {
        let answer = Answer {
            status,
            reply,
            ..Answer::default()
        };
        let redirect = json!({"verb": "redirect", "actionHook": "/next"});
        let mut scene = Scene::new();
        scene.list(json!([redirect]));
        scene.world.application.answer_question(answer.clone());
        scene.call();
        scene.end();
        assert_eq!(scene.answer().code(), 480);
        let told = scene.answer().header("X-Reason").unwrap();
        assert!(told.starts_with(reason), "{told}");
        assert_eq!(scene.told(), ["trying", "failed"]);

        // After the answer what is left of the list runs.
        let mut scene = Scene::new();
        scene.list(json!([{"verb": "answer"}, redirect, {"verb": "hangup", "headers": {"X-Why": "rest"}}]));
        scene.world.application.answer_question(answer);
        scene.call();
        scene.end();
        assert_eq!(scene.heard("BYE")[0].header("X-Why"), Some("rest"));
    }
}

#[test]
fn a_redirect_that_fails_while_the_call_is_being_ended_refuses_nothing() {
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "answer"}, {"verb": "redirect", "actionHook": "/next"}]));
    scene.world.application.answer_question(Answer {
        after: Duration::from_secs(3),
        status: 500,
        ..Answer::default()
    });
    let call = scene.call();
    scene.run(2_000);
    scene.world.network.lose("referee", "carrier", "BYE", 3);
    let selector = CallSelector::SipCallId(call.into_bytes());
    scene.world.command(Command::Hangup { call: selector });
    scene.end();
    assert_eq!(scene.told(), ["trying", "in-progress", "completed"]);
}

#[test]
fn media_verbs_are_left_out_where_the_application_says_so() {
    let mut scene = Scene::set("media_verbs = \"skip\"");
    scene.list(json!([{"verb": "answer"}, {"verb": "say", "text": "Hello"}, {"verb": "hangup"}]));
    scene.call();
    scene.end();
    assert_eq!(scene.answer().code(), 200);
    assert_eq!(scene.world.shard(0).counters().verbs_skipped_total, 1);
}

#[test]
fn a_request_of_the_application_is_sent_and_its_result_told() {
    let mut scene = Scene::new();
    scene.on("INFO", steps([(10, respond(200))]));
    scene.on("MESSAGE", steps([(10, respond(415))]));
    scene.list(json!([
        {"verb": "sip:request", "method": "INFO", "actionHook": "/early"},
        {"verb": "answer"},
        {"verb": "sip:request", "id": "i", "method": "INFO", "body": "a=b", "headers": {"Content-Type": "text/x", "X-A": "1"},
         "actionHook": "/info"},
        {"verb": "sip:request", "method": "MESSAGE", "body": "Hello", "actionHook": "/message"},
        {"verb": "sip:request", "method": "NOTIFY", "headers": {"Event": "x", "Subscription-State": "active"}},
        {"verb": "sip:request", "method": "FOO", "actionHook": "/foo"},
    ]));
    scene.call();
    scene.end();
    let results: Vec<_> = scene
        .actions()
        .iter()
        .map(|posted| {
            let of = |name: &str| posted.body[name].clone();
            (
                posted.url.rsplit('/').next().unwrap().to_owned(),
                of("result"),
                of("sip_status"),
                of("verb_id"),
            )
        })
        .collect();
    assert_eq!(
        results,
        [
            ("early".to_owned(), json!("failed"), json!(100), Value::Null),
            ("info".to_owned(), json!("success"), json!(200), json!("i")),
            ("message".to_owned(), json!("success"), json!(415), Value::Null),
            ("foo".to_owned(), json!("success"), json!(200), Value::Null),
        ]
    );
    assert_eq!(scene.actions()[0].body["err"], "the call is not answered");
    let info = scene.heard("INFO")[0];
    let said = (info.header("Content-Type"), info.header("X-A"), info.body.as_str());
    assert_eq!(said, (Some("text/x"), Some("1"), "a=b"));
    assert_eq!(
        scene.heard("MESSAGE")[0].header("Content-Type"),
        Some("text/plain;charset=UTF-8")
    );
    assert_eq!(scene.heard("NOTIFY")[0].header("Event"), Some("x"));
    // RFC 4028 §7.1.
    for label in ["INFO", "NOTIFY", "BYE"] {
        assert_eq!(
            scene.heard(label)[0].header("Supported"),
            Some("100rel, timer"),
            "{label}"
        );
    }
}

// ---- ringing and provisional responses ----

#[test]
fn a_call_that_is_not_answered_rings_on_and_has_its_time() {
    let mut scene = Scene::set("answer_timeout = \"150s\"");
    scene.list(json!([{"verb": "pause", "length": 600}, {"verb": "answer"}]));
    scene.call();
    scene.end();
    assert_eq!(scene.heard_at("180"), [3, 60_002, 120_002]);
    assert_eq!((scene.answer().code(), scene.heard_at("480")), (480, vec![150_002]));
    assert_eq!(scene.told(), ["trying", "ringing", "no-answer"]);
}

#[test]
fn a_caller_that_requires_it_gets_reliable_provisional_responses() {
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "pause", "length": 3}, {"verb": "answer"}]));
    scene.call_with(&[("Require", "100rel")]);
    scene.end();
    assert_ladder("application_prack", &scene.world);
    let ringing = scene.heard("180")[0];
    assert_eq!(
        (ringing.header("Require"), ringing.header("RSeq")),
        (Some("100rel"), Some("1"))
    );
    let tags: Vec<_> = [ringing, scene.answer()].map(|text| text.tag("To")).into();
    assert_eq!(tags[0], tags[1], "all responses have one tag");
}

/// RFC 3261 §13.2.1: the offer stands in the first reliable response, and that is the 2xx.
#[test]
fn no_reliable_response_without_an_offer_goes_before_the_answer() {
    let manners = Manners {
        offers: false,
        ..carrier()
    };
    let mut scene = Scene::with(CONFIG, manners);
    scene.list(json!([{"verb": "pause", "length": 2}, {"verb": "answer"}, {"verb": "pause", "length": 20}]));
    scene.call_with(&[("Require", "100rel")]);
    scene.run(10_000);
    assert!(scene.heard("180").is_empty());
    assert_eq!(scene.answer().header("Content-Type"), Some("application/sdp"));
    scene.end();
}

#[test]
fn a_caller_that_acknowledges_no_provisional_response_is_refused() {
    let mut scene = Scene::new();
    scene.world.network.lose("carrier", "referee", "PRACK", 100);
    scene.list(json!([{"verb": "pause", "length": 100}, {"verb": "answer"}]));
    scene.call_with(&[("Require", "100rel")]);
    scene.end();
    assert_eq!(scene.answer().code(), 504);
    assert_eq!(scene.heard_at("180"), [3, 503, 1_503, 3_503, 7_503, 15_503, 31_503]);
}

// ---- the answer and its ACK ----

#[test]
fn a_2xx_is_sent_again_until_its_ack_comes() {
    let mut scene = Scene::new();
    scene.world.network.lose("carrier", "referee", "ACK", 2);
    scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
    scene.call();
    scene.run(30_000);
    assert_eq!(scene.heard_at("200 OK (INVITE)"), [3, 503, 1_503]);
    scene.end();
}

#[test]
fn without_an_ack_the_call_is_ended_after_64_t1() {
    // RFC 3261 §13.3.1.4: over a stream as well, since the path to the caller may go on by UDP.
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut scene = Scene::with(CONFIG, Manners { transport, ..carrier() });
        scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
        let invite = raw("INVITE", "Contact: <sip:a@198.51.100.10:5060>\r\n", "");
        let invite = invite.replace("SIP/2.0/UDP", &format!("SIP/2.0/{}", transport.via_token()));
        scene.world.say(scene.carrier, &invite);
        scene.run(60_000);
        let answers = scene.heard_at("200 OK (INVITE)");
        let after: Vec<u64> = answers.iter().map(|at| at - answers[0]).collect();
        let repeats = [
            0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
        ];
        assert_eq!(after, repeats, "{transport}");
        assert_eq!(scene.heard_at("BYE"), [answers[0] + 32_000], "{transport}");
        assert_eq!(scene.told(), ["trying", "in-progress", "completed"]);
    }
}

// ---- offers and answers ----

#[test]
fn an_invite_without_an_offer_gets_ours_and_its_ack_has_the_answer() {
    for (answers_offers, byes) in [(true, 1), (false, 1)] {
        let manners = Manners {
            offers: false,
            answers_offers,
            ..carrier()
        };
        let mut scene = Scene::with(CONFIG, manners);
        scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 20}]));
        scene.call();
        scene.run(10_000);
        let answer = scene.answer();
        assert_eq!(answer.header("Content-Type"), Some("application/sdp"));
        assert!(answer.body.contains("m=audio 9 RTP/AVP 0 8 101\r\n") && answer.body.ends_with("a=inactive\r\n"));
        let early = scene.heard("BYE").len();
        assert_eq!(
            early,
            usize::from(!answers_offers),
            "without an answer there is no session"
        );
        scene.end();
        assert_eq!(scene.heard("BYE").len(), byes);
    }
}

const OFFER: &str =
    "v=0\r\no=- 9 9 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0\r\n";

#[test]
fn a_session_is_held_resumed_and_refreshed() {
    let mut scene = Scene::set("media_address = \"192.0.2.99:4000\"");
    scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
    let call = scene.call();
    scene.run(1_000);
    let hold = format!("{OFFER}a=sendonly\r\n");
    for (method, body) in [
        ("INVITE", hold.as_str()),
        ("INVITE", OFFER),
        ("UPDATE", &hold),
        ("UPDATE", ""),
        ("INVITE", ""),
    ] {
        scene.does(&call, request_with(method, &[], body));
        scene.run(1_000);
    }
    let answers: Vec<(&str, &str)> = scene
        .world
        .peer(scene.carrier)
        .heard("200 OK")
        .into_iter()
        .filter(|text| matches!(text.method(), "INVITE" | "UPDATE"))
        .map(|text| {
            let origin = text.body.lines().nth(1).unwrap_or_default();
            let version = origin.split(' ').nth(2).unwrap_or_default();
            (version, text.body.lines().last().unwrap_or_default())
        })
        .collect();
    assert_eq!(
        answers,
        [
            ("1", "a=sendrecv"),
            ("2", "a=recvonly"),
            ("3", "a=sendrecv"),
            ("4", "a=recvonly"),
            ("", ""),
            // An offer of ours is what holds.
            ("4", "a=recvonly"),
        ]
    );
    scene.end();
    assert_ladder("application_hold", &scene.world);
}

#[test]
fn an_offer_that_cannot_be_answered_is_refused_and_changes_nothing() {
    let secure = OFFER.replace("RTP/AVP", "RTP/SAVP");
    let (mut scene, call) = Scene::after(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
    for (headers, body) in [
        (vec![], secure.as_str()),
        (vec![], "v=1\r\n"),
        (vec![("Content-Type", "text/plain")], "Hello"),
        (vec![("Content-Encoding", "gzip")], OFFER),
    ] {
        scene.does(&call, request_with("INVITE", &headers, body));
        scene.run(1_000);
    }
    let outcomes = scene.world.peer(scene.carrier).outcomes("INVITE");
    assert_eq!(outcomes, [200, 488, 400, 415, 415]);
    assert_eq!(
        scene.heard("488")[0].header("Warning"),
        Some("302 ivr \"Incompatible transport protocol\"")
    );
    assert_eq!(scene.heard("415")[0].header("Accept"), Some("application/sdp"));
    assert_eq!(scene.heard("415")[1].header("Accept-Encoding"), Some("identity"));
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    // Who asks what holds gets the description of the first answer, of the same version.
    let first = scene.answer().body.clone();
    scene.does(&call, request_with("INVITE", &[], ""));
    scene.run(1_000);
    let answers = scene.heard("200 OK (INVITE)");
    assert_eq!((answers.len(), &answers[1].body), (2, &first));
    scene.end();
}

/// An INVITE of another agent, put on the wire as it is.
fn raw(method: &str, lines: &str, body: &str) -> String {
    format!(
        "{method} {URI} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK-raw-{method}-{}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@carrier.example>;tag=raw\r\nTo: <{URI}>\r\nCall-ID: raw\r\nCSeq: 1 {method}\r\n{lines}\
         Content-Length: {}\r\n\r\n{body}",
        lines.len() + body.len(),
        body.len()
    )
}

#[test]
fn what_a_user_agent_must_refuse_is_refused_before_anybody_is_asked() {
    let contact = "Contact: <sip:a@198.51.100.10:5060>\r\n";
    let sdp = format!("{contact}Content-Type: application/sdp\r\n");
    let secure = OFFER.replace("RTP/AVP", "RTP/SAVP");
    let allow = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, NOTIFY";
    for (method, lines, body, code, header) in [
        (
            "INVITE",
            sdp.clone(),
            secure.as_str(),
            488,
            ("Warning", "302 ivr \"Incompatible transport protocol\""),
        ),
        ("INVITE", contact.replace("Contact", "X"), "", 400, ("X", "")),
        (
            "INVITE",
            format!("{contact}Require: 100rel, foo, bar\r\n"),
            "",
            420,
            ("Unsupported", "foo, bar"),
        ),
        (
            "INVITE",
            format!("{contact}Content-Type: text/plain\r\n"),
            "x",
            415,
            ("Accept", "application/sdp"),
        ),
        (
            "INVITE",
            format!("{contact}Supported: timer\r\nSession-Expires: 60\r\n"),
            "",
            422,
            ("Min-SE", "90"),
        ),
        ("MESSAGE", String::new(), "", 405, ("Allow", allow)),
        ("SUBSCRIBE", contact.to_owned(), "", 405, ("Allow", allow)),
        ("FOO", String::new(), "", 501, ("Allow", allow)),
        ("OPTIONS", String::new(), "", 200, ("Allow", allow)),
        (
            "OPTIONS",
            "Require: foo\r\n".to_owned(),
            "",
            420,
            ("Unsupported", "foo"),
        ),
        ("OPTIONS", String::new(), "", 200, ("Accept", "application/sdp")),
        ("OPTIONS", String::new(), "", 200, ("Supported", "100rel, timer")),
        ("REFER", format!("{contact}Refer-To: <sip:x@y>\r\n"), "", 603, ("X", "")),
    ] {
        let mut scene = Scene::new();
        scene.world.say(scene.carrier, &raw(method, &lines, body));
        scene.run(100);
        let answers = scene.heard(&format!("{code} "));
        let [answer] = answers[..] else {
            panic!("{method} {lines}: {}", scene.world.ladder())
        };
        if header.0 != "X" {
            assert_eq!(answer.header(header.0), Some(header.1), "{method}");
        }
        assert!(scene.world.application.posted().is_empty());
    }
    // With somebody who takes the media, encryption is theirs to speak.
    let mut scene = Scene::set("media_address = \"192.0.2.99:4000\"");
    scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
    scene.world.say(scene.carrier, &raw("INVITE", &sdp, &secure));
    scene.run(100);
    assert_eq!(scene.answer().code(), 200);
}

#[test]
fn the_same_invite_by_another_way_is_refused() {
    let contact = "Contact: <sip:a@198.51.100.10:5060>\r\n";
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "pause", "length": 1}]));
    for lines in [contact.to_owned(), format!("{contact}X-Way: two\r\n")] {
        scene.world.say(scene.carrier, &raw("INVITE", &lines, ""));
    }
    scene.run(100);
    assert_eq!(scene.heard("482").len(), 1);
    assert_eq!(scene.posted(HookKind::Question).len(), 1);
}

// ---- within the dialog ----

#[test]
fn requests_within_the_dialog_are_answered_as_a_user_agent_does() {
    let (mut scene, call) = Scene::after(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
    for (method, headers, code) in [
        ("INFO", vec![], 200),
        ("INFO", vec![("Info-Package", "x")], 469),
        ("OPTIONS", vec![], 200),
        ("MESSAGE", vec![], 405),
        ("SUBSCRIBE", vec![("Event", "x")], 405),
        (
            "REFER",
            vec![("Refer-To", "<sip:x@y>"), ("Referred-By", "<sip:p@q>")],
            603,
        ),
        ("PRACK", vec![("RAck", "1 1 INVITE")], 481),
        ("FOO", vec![], 501),
        (
            "NOTIFY",
            vec![("Event", "presence"), ("Subscription-State", "active")],
            489,
        ),
        (
            "NOTIFY",
            vec![("Event", "refer"), ("Subscription-State", "active")],
            481,
        ),
        ("UPDATE", vec![("Require", "x")], 420),
    ] {
        let before = scene.world.peer(scene.carrier).outcomes(method).len();
        scene.does(&call, request_with(method, &headers, ""));
        scene.run(100);
        let outcomes = scene.world.peer(scene.carrier).outcomes(method);
        assert_eq!(outcomes.get(before), Some(&code), "{method} {headers:?}");
    }
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    scene.does(&call, request("BYE"));
    scene.end();
    assert_eq!(scene.world.peer(scene.carrier).outcomes("BYE"), [200]);
    assert_eq!(scene.told(), ["trying", "in-progress", "completed"]);
}

#[test]
fn requests_of_the_caller_are_told_in_order_where_the_application_asks_for_that() {
    let (mut scene, call) = Scene::after(json!([
        {"verb": "answer"},
        {"verb": "config", "sipRequestWithinDialogHook": {"url": "/said", "username": "u", "password": "p"}},
        {"verb": "config", "notifyEvents": false},
        {"verb": "pause", "length": 60},
    ]));
    let digits = [
        ("Content-Type", "application/dtmf-relay"),
        ("X-Seen", "yes"),
        ("Authorization", "Digest a=b"),
    ];
    for (method, headers, body, code) in [
        ("INFO", &digits[..], "Signal=1\r\n", 200),
        ("INFO", &digits[..], "Signal=2\r\n", 200),
        ("MESSAGE", &[("Content-Type", "text/plain")], "hello", 202),
        ("INFO", &[("Info-Package", "x")], "", 469),
        ("OPTIONS", &[], "", 200),
    ] {
        scene.does(&call, request_with(method, headers, body));
        scene.run(100);
        assert_eq!(scene.world.peer(scene.carrier).outcomes(method).last(), Some(&code));
    }
    let posted = scene.posted(HookKind::Event).into_iter();
    let said: Vec<_> = posted.filter(|posted| posted.url.ends_with("/said")).collect();
    let texts = said.iter().map(|posted| {
        assert!(posted.has_credentials);
        (
            posted.body["sip_method"].as_str().unwrap(),
            posted.body["sip_body"].as_str().unwrap(),
        )
    });
    assert_eq!(
        texts.collect::<Vec<_>>(),
        [("INFO", "Signal=1\r\n"), ("INFO", "Signal=2\r\n"), ("MESSAGE", "hello")]
    );
    let headers = &said[0].body["sip_headers"];
    assert_eq!(
        (&headers["X-Seen"], headers.get("authorization")),
        (&json!("yes"), None)
    );
    assert_eq!(said[0].body["call_status"], "in-progress");
    assert_eq!(said[0].body["call_id"], call);
    scene.end();
}

#[test]
fn an_invite_before_the_answer_waits() {
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "pause", "length": 5}, {"verb": "answer"}, {"verb": "pause", "length": 60}]));
    let call = scene.call();
    scene.run(1_000);
    // Put on the wire by hand: a peer that keeps the rules would not.
    let ringing = scene.heard("180")[0].clone();
    let tag = ringing.tag("To").unwrap();
    let from = ringing.header("From").unwrap().to_owned();
    let again = format!(
        "INVITE {URI} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK-second\r\nMax-Forwards: 70\r\nFrom: {from}\r\n\
         To: <{URI}>;tag={tag}\r\nCall-ID: {call}\r\nCSeq: 2 INVITE\r\nContact: <sip:a@198.51.100.10:5060>\r\n\
         Content-Length: 0\r\n\r\n"
    );
    scene.world.say(scene.carrier, &again);
    scene.run(100);
    let refused = scene.heard("500")[0];
    let wait: u32 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!(wait <= 10);
}

/// A request of the caller's in the dialog that a response of ours shows.
fn within(shown: &Text, method: &str, number: u32, body: &str) -> String {
    let (from, to) = (shown.header("From").unwrap(), shown.header("To").unwrap());
    let content_type = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/sdp\r\n"
    };
    format!(
        "{method} {URI} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK-within{number}\r\nMax-Forwards: 70\r\n\
         From: {from}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\nContact: <sip:a@198.51.100.10:5060>\r\n\
         {content_type}Content-Length: {}\r\n\r\n{body}",
        shown.call_id(),
        body.len()
    )
}

/// RFC 3261 §14.2, RFC 3311 §5.2: before the offer that is open has its answer there is no other one.
#[test]
fn what_offers_before_its_time_is_refused_and_what_offers_nothing_is_taken() {
    let says = |scene: &mut Scene, shown: &Text, method: &str, number: u32, body: &str| {
        scene.world.say(scene.carrier, &within(shown, method, number, body));
        scene.run(10);
        let answers = scene.heard("").into_iter().filter(|text| !text.is_request());
        let of_it = answers.filter(|text| text.cseq() == (number, method) && text.code() > 100);
        let [answer] = of_it.collect::<Vec<_>>()[..] else {
            panic!()
        };
        (answer.code(), answer.header("Retry-After").is_some())
    };
    // Before our answer to the offer of the INVITE.
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "pause", "length": 50}, {"verb": "answer"}]));
    scene.call();
    scene.run(1_000);
    let ringing = scene.heard("180")[0].clone();
    assert_eq!(says(&mut scene, &ringing, "UPDATE", 2, OFFER), (500, true));
    assert_eq!(says(&mut scene, &ringing, "UPDATE", 3, ""), (200, false));
    // Behind our answer, but before its ACK; and before the answer to an offer of ours, which the ACK has.
    for (offers, update) in [(true, 200), (false, 491)] {
        let mut scene = Scene::with(CONFIG, Manners { offers, ..carrier() });
        scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
        scene.world.network.lose("carrier", "referee", "ACK", 1);
        scene.call();
        scene.run(300);
        let answer = scene.answer().clone();
        assert_eq!(says(&mut scene, &answer, "INVITE", 2, OFFER), (491, false), "{offers}");
        assert_eq!(
            says(&mut scene, &answer, "UPDATE", 3, OFFER),
            (update, false),
            "{offers}"
        );
        assert_eq!(says(&mut scene, &answer, "UPDATE", 4, ""), (200, false), "{offers}");
        // The 2xx has come again by then, and its ACK.
        scene.run(1_000);
        assert_eq!(says(&mut scene, &answer, "UPDATE", 5, OFFER), (200, false), "{offers}");
        assert_eq!(says(&mut scene, &answer, "INVITE", 6, OFFER), (200, false), "{offers}");
    }
    // While a refresh of ours is open that offers nothing.
    let (mut scene, _) = timed("INVITE, ACK, BYE, UPDATE", OURS);
    scene.on("UPDATE", steps([(5_000, respond(200))]));
    scene.run(899_100);
    let answer = scene.answer().clone();
    assert_eq!(scene.heard("UPDATE").len(), 1);
    assert_eq!(says(&mut scene, &answer, "INVITE", 2, OFFER), (491, false));
}

/// RFC 3261 §12.2.2: a refresh that is refused moves nothing.
#[test]
fn our_requests_follow_the_contact_of_a_refresh_that_was_taken() {
    for (method, body, moves) in [
        ("INVITE", OFFER, true),
        ("UPDATE", "", true),
        ("INVITE", "v=1\r\n", false),
        ("INFO", "", false),
    ] {
        let (mut scene, call) = Scene::after(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
        let answer = scene.answer().clone();
        scene.world.say(scene.carrier, &within(&answer, method, 2, body));
        scene.run(10);
        scene.world.say(scene.carrier, &within(&answer, "ACK", 2, ""));
        scene.verbs(&call, json!([{"verb": "hangup"}]));
        scene.run(1_000);
        let target = if moves {
            "sip:a@198.51.100.10:5060"
        } else {
            "sip:user@198.51.100.10:5060"
        };
        assert_eq!(scene.heard("BYE")[0].request_uri(), target, "{method} {body}");
    }
}

/// RFC 3261 §13.3.1.4: the ACK is that of the INVITE with its number.
#[test]
fn an_ack_with_another_number_acknowledges_nothing() {
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
    scene.world.network.lose("carrier", "referee", "ACK", 1);
    scene.call();
    scene.run(300);
    let answer = scene.answer().clone();
    scene.world.say(scene.carrier, &within(&answer, "ACK", 2, ""));
    scene.run(600);
    assert_eq!(
        scene.heard("200 OK (INVITE)").len(),
        2,
        "it comes again, and gets its ACK"
    );
    scene.run(10_000);
    assert_eq!(scene.heard("200 OK (INVITE)").len(), 2);
}

/// RFC 3262 §3: a PRACK that names another response, or another INVITE, acknowledges nothing.
#[test]
fn a_prack_is_of_the_response_and_the_invite_that_it_names() {
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "pause", "length": 50}, {"verb": "answer"}]));
    scene.world.network.lose("carrier", "referee", "PRACK", 1);
    scene.call_with(&[("Require", "100rel")]);
    scene.run(100);
    let ringing = scene.heard("180")[0].clone();
    let rseq: u32 = ringing.header("RSeq").unwrap().parse().unwrap();
    let mut number = 1;
    let mut says = |scene: &mut Scene, rack: &str| {
        number += 1;
        let prack = within(&ringing, "PRACK", number, "");
        let prack = prack.replace("Content-Length", &format!("RAck: {rack}\r\nContent-Length"));
        scene.world.say(scene.carrier, &prack);
        scene.run(10);
        let answers = scene.heard("").into_iter().filter(|text| !text.is_request());
        answers
            .filter(|text| text.cseq() == (number, "PRACK"))
            .map(|text| text.code())
            .collect::<Vec<_>>()
    };
    assert_eq!(says(&mut scene, &format!("{} 1 INVITE", rseq + 1)), [481]);
    assert_eq!(says(&mut scene, &format!("{rseq} 2 INVITE")), [481]);
    scene.run(600);
    assert_eq!(scene.heard("180").len(), 2, "it comes again");
    assert_eq!(says(&mut scene, &format!("{rseq} 1 INVITE")), [200]);
    scene.run(10_000);
    assert_eq!(scene.heard("180").len(), 2);
}

/// Its requests to us would have the tags the other way round.
#[test]
fn nobody_speaks_in_a_dialog_with_the_tag_of_referee() {
    let (mut scene, call) = Scene::after(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
    let mut turned = scene.answer().clone();
    for (name, value) in &mut turned.headers {
        let other = match name.as_str() {
            "From" => scene.answer().header("To"),
            "To" => scene.answer().header("From"),
            _ => None,
        };
        *value = other.unwrap_or(value).to_owned();
    }
    for (number, method) in [(1, "BYE"), (2, "INFO"), (3, "INVITE")] {
        scene.world.say(scene.carrier, &within(&turned, method, number, ""));
        scene.run(10);
        assert_eq!(
            scene
                .heard(&format!("481 Call/Transaction Does Not Exist ({method})"))
                .len(),
            1
        );
    }
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    assert_eq!(scene.told(), ["trying", "in-progress"]);
}

/// RFC 3261 §9.2: it is answered, and changes nothing.
#[test]
fn a_cancel_that_comes_behind_the_answer_ends_no_call() {
    let (mut scene, call) = Scene::after(json!([{"verb": "answer"}, {"verb": "pause", "length": 60}]));
    let via = scene.answer().header("Via").unwrap().to_owned();
    let from = scene.answer().header("From").unwrap().to_owned();
    let cancel = format!(
        "CANCEL {URI} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: <{URI}>\r\nCall-ID: {call}\r\n\
         CSeq: 1 CANCEL\r\nContent-Length: 0\r\n\r\n"
    );
    scene.world.say(scene.carrier, &cancel);
    scene.run(1_000);
    assert_eq!(scene.heard("200 OK (CANCEL)").len(), 1);
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    assert_eq!(scene.told(), ["trying", "in-progress"]);
    scene.does(&call, request("BYE"));
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("BYE"), [200]);
    assert_eq!(scene.told(), ["trying", "in-progress", "completed"]);
}

#[test]
fn a_bye_before_the_answer_ends_the_invite_with_487() {
    let mut scene = Scene::new();
    scene.list(json!([{"verb": "pause", "length": 50}, {"verb": "answer"}]));
    let call = scene.call();
    scene.run(1_000);
    let ringing = scene.heard("180")[0].clone();
    let (tag, from) = (ringing.tag("To").unwrap(), ringing.header("From").unwrap().to_owned());
    let bye = format!(
        "BYE {URI} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK-bye\r\nMax-Forwards: 70\r\nFrom: {from}\r\n\
         To: <{URI}>;tag={tag}\r\nCall-ID: {call}\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n"
    );
    scene.world.say(scene.carrier, &bye);
    scene.end();
    assert_eq!((scene.heard("200 OK (BYE)").len(), scene.answer().code()), (1, 487));
    assert_eq!(scene.told(), ["trying", "ringing", "no-answer"]);
}

// ---- session timers ----

fn timed(allow: &str, headers: &[(&str, &str)]) -> (Scene, String) {
    let manners = Manners {
        headers: vec![("Allow".into(), allow.into())],
        ..carrier()
    };
    let mut scene = Scene::with(CONFIG, manners);
    scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 3600}]));
    let call = scene.call_with(headers);
    scene.run(1_000);
    (scene, call)
}

const OURS: &[(&str, &str)] = &[("Supported", "timer"), ("Session-Expires", "1800;refresher=uas")];

#[test]
fn a_session_that_is_ours_to_refresh_is_refreshed_halfway() {
    for (allow, label) in [
        ("INVITE, ACK, BYE, UPDATE", "UPDATE"),
        ("INVITE, ACK, BYE", "re-INVITE"),
    ] {
        let (mut scene, call) = timed(allow, OURS);
        assert_eq!(scene.answer().header("Session-Expires"), Some("1800;refresher=uas"));
        for _ in 0..2 {
            scene.on(
                label.trim_start_matches("re-"),
                steps([(
                    10,
                    Act::Respond {
                        code: 200,
                        headers: vec![
                            ("Session-Expires".into(), "1800;refresher=uac".into()),
                            ("Supported".into(), "timer".into()),
                        ],
                    },
                )]),
            );
        }
        scene.run(1_900_000);
        assert_eq!(scene.heard_at(label), [900_003, 1_800_015], "{label}");
        let refresh = scene.heard(label)[0];
        assert_eq!(refresh.header("Session-Expires"), Some("1800;refresher=uac"));
        assert_eq!(refresh.header("Supported"), Some("100rel, timer"));
        assert_eq!(refresh.header("Contact"), Some("<sip:+4930123456@203.0.113.7:5060>"));
        assert_eq!(refresh.body.is_empty(), label == "UPDATE");
        if label == "re-INVITE" {
            assert_eq!(scene.heard("ACK").len(), 2);
            assert_eq!(refresh.body, scene.answer().body, "it offers what holds");
        }
        assert!(scene.world.peer(scene.carrier).is_up(&call));
        scene.end();
    }
}

#[test]
fn a_2xx_to_our_refresh_that_comes_again_gets_its_ack_again() {
    // RFC 3261 §13.2.2.4: the caller repeats it after T1 and 3·T1, for two ACKs are lost.
    let (mut scene, call) = timed("INVITE, ACK, BYE", OURS);
    let refreshed = [("Session-Expires", "1800;refresher=uac"), ("Supported", "timer")];
    scene.on("INVITE", steps([(10, respond_with(200, &refreshed))]));
    scene.world.network.lose("referee", "carrier", "ACK", 2);
    scene.run(910_000);
    assert_eq!(scene.heard_at("re-INVITE"), [900_003]);
    assert_eq!(scene.heard_at("ACK"), [901_515]);
    assert_eq!(scene.heard("ACK")[0].cseq().0, scene.heard("re-INVITE")[0].cseq().0);
    assert_eq!(scene.world.shard(0).counters().session_refreshes_total, 1);
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    scene.end();
}

#[test]
fn a_refresh_that_is_challenged_and_its_ack_have_the_same_credentials() {
    let auth = "[trunk.auth]\nusername = \"referee\"\npassword = \"hush hush\"\n";
    let text = CONFIG.replace("[[application]]", &format!("{auth}[[application]]"));
    let manners = Manners {
        headers: vec![("Allow".into(), "INVITE, ACK, BYE".into())],
        ..carrier()
    };
    let mut scene = Scene::with(&text, manners);
    scene.list(json!([{"verb": "answer"}, {"verb": "pause", "length": 3600}]));
    let call = scene.call_with(OURS);
    scene.run(1_000);
    let gate = Gate::new(401, "carrier.example", "referee", "hush hush");
    scene.world.peer_mut(scene.carrier).gate = Some(gate);
    for _ in 0..2 {
        let refreshed = respond_with(
            200,
            &[("Session-Expires", "1800;refresher=uac"), ("Supported", "timer")],
        );
        scene.on("INVITE", steps([(10, refreshed)]));
    }
    scene.run(1_900_000);
    let credentials = |label: &str| -> Vec<(u32, Option<String>)> {
        let heard = scene.heard(label);
        let of_each = heard
            .iter()
            .map(|text| (text.cseq().0, text.header("Authorization").map(String::from)));
        of_each.collect()
    };
    let invites = credentials("re-INVITE");
    let [refused, first, second] = &invites[..] else {
        panic!("{invites:?}")
    };
    assert_eq!(refused.1, None);
    assert!(
        first.1.is_some() && second.1.is_some() && first.1 != second.1,
        "{invites:?}"
    );
    // The first ACK is that of the 401, in its transaction.
    assert_eq!(credentials("ACK")[1..], [first.clone(), second.clone()]);
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    scene.end();
}

/// RFC 3261 §12.2.1.2, §13.2.2.4.
#[test]
fn the_ack_of_a_refresh_goes_to_where_its_2xx_says_that_the_caller_is() {
    // A name would have to be looked up first; the ACK waits for nothing.
    for moved in ["sip:moved@198.51.100.10:5060", "sip:moved@elsewhere.example"] {
        let (mut scene, _) = timed("INVITE", OURS);
        let contact = format!("<{moved}>");
        scene.on("INVITE", steps([(10, Act::Move { contact }), (10, respond(200))]));
        scene.run(900_100);
        let uris: Vec<&str> = scene.heard("ACK").iter().map(|ack| ack.request_uri()).collect();
        assert_eq!(uris, [moved]);
    }
}

/// RFC 3261 §12.2.1.2, RFC 3311 §5.1.
#[test]
fn a_2xx_to_a_refresh_of_ours_moves_the_target_and_a_refusal_does_not() {
    let moved = "sip:moved@198.51.100.10:5060";
    for (allow, method) in [("INVITE", "INVITE"), ("INVITE, UPDATE", "UPDATE")] {
        for (code, moves) in [(200, true), (500, false)] {
            let (mut scene, call) = timed(allow, OURS);
            let contact = format!("<{moved}>");
            let says = vec![(10, Act::Move { contact }), (10, respond(code))];
            scene.on(method, steps(says));
            scene.run(899_100);
            assert_eq!(scene.heard(method).len() + scene.heard("re-INVITE").len(), 1);
            scene.verbs(&call, json!([{"verb": "hangup"}]));
            scene.run(100);
            assert_eq!(scene.heard("BYE")[0].request_uri() == moved, moves, "{method} {code}");
        }
    }
}

#[test]
fn a_refer_waits_for_the_answer_of_a_refresh() {
    let refreshed = respond_with(
        200,
        &[("Session-Expires", "1800;refresher=uac"), ("Supported", "timer")],
    );
    // With a final response, and for want of one after four seconds.
    for (answer, sent_at) in [
        (vec![(1_500, refreshed)], 901_505),
        (vec![(1_500, respond(180))], 904_101),
    ] {
        let (mut scene, call) = timed("INVITE", OURS);
        scene.on("INVITE", steps(answer));
        scene.on("REFER", course("200 OK", 500));
        scene.run(899_100);
        assert_eq!(scene.heard("re-INVITE").len(), 1);
        scene.verbs(&call, refer());
        scene.run(10_000);
        assert_eq!(scene.heard_at("REFER"), [sent_at]);
        assert_eq!(scene.actions().len(), 1);
        scene.end();
    }
}

#[test]
fn a_refresh_that_a_bye_overtakes_is_acknowledged_all_the_same() {
    // RFC 3261 §15.1.2: the caller answers what is open with 487, and repeats that until the ACK. Or it has answered before, and
    // that comes late.
    for says in [
        vec![(5_000, respond(487))],
        vec![(10, respond(100)), (5_000, respond(487))],
        vec![(5_000, respond(200))],
        vec![(10, respond(100)), (5_000, respond(200))],
    ] {
        let (mut scene, call) = timed("INVITE", OURS);
        scene.on("INVITE", steps(says));
        scene.run(899_100);
        assert_eq!(scene.heard("re-INVITE").len(), 1);
        scene.does(&call, request("BYE"));
        scene.end();
        let (acks, repeats) = (scene.heard("ACK").len(), scene.heard("re-INVITE").len());
        assert_eq!((acks, repeats), (1, 1));
    }
}

#[test]
fn an_invite_or_an_update_that_crosses_ours_gets_491() {
    for method in ["INVITE", "UPDATE"] {
        let (mut scene, call) = timed("INVITE", OURS);
        let refreshed = respond_with(
            200,
            &[("Session-Expires", "1800;refresher=uac"), ("Supported", "timer")],
        );
        scene.on("INVITE", steps([(5_000, refreshed)]));
        scene.run(899_100);
        assert_eq!(scene.heard("re-INVITE").len(), 1);
        scene.does(&call, request(method));
        scene.run(1_000);
        assert_eq!(scene.heard("491").len(), 1, "{method}");
        scene.run(10_000);
        scene.does(&call, request(method));
        scene.run(1_000);
        assert_eq!(scene.heard("491").len(), 1, "{method}: ours has its answer");
        scene.end();
    }
}

#[test]
fn a_session_that_the_caller_does_not_refresh_is_ended_before_its_end() {
    let theirs = [("Supported", "timer"), ("Session-Expires", "1800")];
    let (mut scene, _) = timed("INVITE", &theirs);
    let answer = scene.answer();
    assert_eq!(answer.header("Session-Expires"), Some("1800;refresher=uac"));
    assert_eq!(answer.header("Require"), Some("timer"));
    scene.end();
    assert_eq!(scene.heard_at("BYE"), [1_768_003]);
    assert_eq!(scene.told(), ["trying", "in-progress", "completed"]);
}

#[test]
fn a_refresh_of_the_caller_keeps_the_session() {
    let theirs = [("Supported", "timer"), ("Session-Expires", "1800")];
    let (mut scene, call) = timed("INVITE", &theirs);
    scene.run(899_000);
    scene.does(&call, request_with("UPDATE", &theirs, ""));
    scene.run(899_000);
    scene.does(&call, request_with("INVITE", &theirs, OFFER));
    scene.run(1_000_000);
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    assert!(scene.heard("BYE").is_empty());
    scene.end();
}

#[test]
fn a_422_to_our_refresh_makes_it_ask_for_more() {
    let (mut scene, _) = timed("INVITE, UPDATE", OURS);
    scene.on(
        "UPDATE",
        steps([(
            10,
            Act::Respond {
                code: 422,
                headers: vec![("Min-SE".into(), "3600".into())],
            },
        )]),
    );
    scene.on(
        "UPDATE",
        steps([(
            10,
            Act::Respond {
                code: 200,
                headers: vec![("Session-Expires".into(), "3600;refresher=uac".into())],
            },
        )]),
    );
    scene.run(950_000);
    let second = scene.heard("UPDATE")[1];
    assert_eq!(second.header("Session-Expires"), Some("3600;refresher=uac"));
    assert_eq!(second.header("Min-SE"), Some("3600"));
    // RFC 4028 §7.4: in all that follow.
    scene.run(1_800_000);
    let third = scene.heard("UPDATE")[2];
    assert_eq!(third.header("Session-Expires"), Some("3600;refresher=uac"));
    assert_eq!(third.header("Min-SE"), Some("3600"));
    scene.end();
}

/// RFC 4028 §10: what a 422 asks for is not agreed yet, so the session ends when it was to end.
#[test]
fn a_422_makes_no_session_longer_and_is_not_answered_for_ever() {
    let (mut scene, _) = timed("INVITE, UPDATE", OURS);
    for number in 0..300 {
        let headers = vec![("Min-SE".into(), (86_400 + number).to_string())];
        scene.on("UPDATE", steps([(10, Act::Respond { code: 422, headers })]));
    }
    scene.run(901_000);
    assert_eq!(scene.heard("UPDATE").len(), 4, "three times at once");
    scene.end();
    assert_eq!(scene.heard_at("BYE"), [1_768_003]);
}

#[test]
fn a_refresh_that_fails_is_tried_otherwise_or_ends_the_call() {
    // UPDATE is listed and not taken: an INVITE instead.
    let (mut scene, call) = timed("INVITE, UPDATE", OURS);
    scene.on("UPDATE", steps([(10, respond(405))]));
    scene.on(
        "INVITE",
        steps([(
            10,
            Act::Respond {
                code: 200,
                headers: vec![("Session-Expires".into(), "1800;refresher=uac".into())],
            },
        )]),
    );
    scene.run(910_000);
    assert_eq!(scene.heard("re-INVITE").len(), 1);
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    scene.end();
    // Glare: once more, within 2 s, for the Call-ID is the caller's (RFC 3261 §14.1).
    let (mut scene, call) = timed("INVITE, UPDATE", OURS);
    scene.on("UPDATE", steps([(10, respond(491))]));
    scene.on(
        "UPDATE",
        steps([(
            10,
            Act::Respond {
                code: 200,
                headers: vec![],
            },
        )]),
    );
    scene.run(901_030);
    assert_eq!(scene.heard("UPDATE").len(), 2);
    scene.run(10_000);
    assert_eq!(scene.heard("UPDATE").len(), 2);
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    scene.end();
    // RFC 3261 §14.1: we have not made the Call-ID up, and wait for 2 s at most.
    for (allow, label) in [("INVITE, UPDATE", "UPDATE"), ("INVITE", "re-INVITE")] {
        let (mut scene, _) = timed(allow, OURS);
        let glare = steps([(10, respond(491))]);
        for _ in 0..8 {
            scene.on(label.trim_start_matches("re-"), glare.clone());
        }
        scene.run(920_000);
        let sent = scene.heard_at(label);
        let waits: Vec<u64> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            waits.len() >= 8 && waits.iter().take(8).all(|wait| *wait <= 2_020),
            "{label} {waits:?}"
        );
        assert!(waits.iter().any(|wait| *wait != waits[0]), "by chance: {waits:?}");
        scene.end();
    }
    // The caller knows the call no more, or says nothing.
    for code in [Some(408), Some(481), None] {
        let (mut scene, _) = timed("INVITE, UPDATE", OURS);
        let answer = code.map_or(Vec::new(), |code| vec![(10, respond(code))]);
        scene.on("UPDATE", steps(answer));
        scene.run(950_000);
        assert_eq!(scene.heard("BYE").len(), 1);
        scene.end();
    }
    // One that rings for ever ends with the session.
    let (mut scene, _) = timed("INVITE", OURS);
    scene.on("INVITE", steps([(10, respond(180))]));
    scene.end();
    assert_eq!(scene.heard_at("BYE"), [1_768_003]);
}
