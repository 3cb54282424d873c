//! Calls led by an application in virtual time: what the caller sees and what the application is asked and told (RFC 3261 §13.3,
//! 3262, 3264, 3311, 3515, 4028).

mod common;

use common::assert_ladder;
use referee::command::{CallSelector, Command, Refusal, Reply};
use referee::sim::application::{Answer, Posted};
use referee::sim::peer::script::{Act, Manners, Steps, notify, request, request_with, respond, steps};
use referee::sim::peer::text::Text;
use referee::sim::peer::Peer;
use referee::sim::scene::{CARRIER, PUBLIC, config};
use referee::sim::{PeerId, World};
use referee::timer::Instant;
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
        at.into_iter().map(|at| at.since(Instant::START).as_millis() as u64).collect()
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
        finals.next().unwrap_or_else(|| panic!("no answer\n{}", self.world.ladder()))
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
}
