//! What those who watch are shown, in virtual time: events of calls, transfers, trunks and verbs.

use referee::command::{Command, Reply};
use referee::event::{LISTENED_FOR, What};
use referee::sim::peer::script::{notify, request, respond, steps};
use referee::sim::scene::{Scene, TWO_SIDES, carrier, platform};
use serde_json::{Value, json};

const ACTIVE: &str = "active;expires=60";
const TERMINATED: &str = "terminated;reason=noresource";

/// A transfer that succeeds.
fn transferred(scene: &mut Scene) {
    let course = steps([
        (10, respond(202)),
        (20, notify("180 Ringing", ACTIVE)),
        (1_000, notify("200 OK", TERMINATED)),
    ]);
    scene.world.peer_mut(scene.carrier).on("REFER", course);
}

fn listen(scene: &mut Scene) {
    let ticket = scene.world.command(Command::Listen);
    assert!(matches!(scene.world.reply(ticket), Some(Reply::Done)));
}

/// Each event in short, in order.
fn heard(scene: &Scene) -> Vec<String> {
    let heard = scene.world.heard().iter();
    heard
        .map(|event| match &event.what {
            What::Call(call) => format!("call {}", call.state),
            What::Transfer(stepped) => match stepped.status {
                Some(status) => format!("{:?} {status}", stepped.step),
                None => format!("{:?} {}", stepped.step, stepped.transfer.refer_result.unwrap_or("-")),
            },
            What::Trunk { trunk, address, state } => format!("{trunk} {address} {state}"),
            What::Verb(verb) => format!("{} {} {}", verb.verb, verb.id.as_deref().unwrap_or("-"), verb.event),
        })
        .collect()
}

#[test]
fn a_listener_hears_every_step_of_a_call_and_its_transfer() {
    let mut scene = Scene::default();
    transferred(&mut scene);
    listen(&mut scene);
    let call = scene.answered();
    let verbs = json!([
        {"verb": "tag", "id": "g", "data": {"a": 1}},
        {"verb": "pause", "length": 1},
        {"verb": "sip:refer", "id": "r", "referTo": "+491"},
    ]);
    scene.verbs(&call, verbs);
    scene.run(60_000);
    assert_eq!(
        heard(&scene),
        [
            "call trying",
            "call ringing",
            "call in-progress",
            "tag g starting",
            "tag g finished",
            "pause - starting",
            "pause - finished",
            "sip:refer r starting",
            "Sent -",
            "Accepted 202",
            "Event 180",
            "Event 200",
            "Verdict success",
            "sip:refer r finished",
            "call ending",
            "call completed",
        ]
    );
    // As JSON an event is what the control API shows of the same thing, and what has happened to it.
    let json: Vec<Value> = scene.world.heard().iter().map(|event| json!(event)).collect();
    assert_eq!(
        (&json[2]["type"], &json[2]["state"]),
        (&json!("call"), &json!("in-progress"))
    );
    assert!(json[2]["answered_at"].is_u64() && json[2]["at"].is_u64());
    assert_eq!(json[13]["type"], "verb:status");
    let verdict = &json[12];
    assert_eq!(
        (&verdict["type"], &verdict["step"], &verdict["refer_result"]),
        (&json!("transfer"), &json!("verdict"), &json!("success"))
    );
    assert_eq!((&verdict["call"], &verdict["call_id"]), (&json[2]["id"], &json!(call)));
}

#[test]
fn a_call_that_is_refused_or_given_up_is_heard_to_end() {
    for busy in [true, false] {
        let mut scene = Scene::default();
        listen(&mut scene);
        let answer = if busy { 486 } else { 180 };
        scene
            .world
            .peer_mut(scene.platform)
            .on("INVITE", steps([(10, respond(answer))]));
        let call = scene.call();
        scene.run(1_000);
        if !busy {
            scene.carrier_does(&call, referee::sim::peer::script::Act::Cancel);
        }
        scene.run(60_000);
        let expected: &[&str] = match busy {
            true => &["call trying", "call completed"],
            false => &["call trying", "call ringing", "call completed"],
        };
        assert_eq!(heard(&scene), expected);
    }
}

#[test]
fn events_of_calls_are_made_only_while_somebody_listens() {
    let mut scene = Scene::default();
    transferred(&mut scene);
    let call = scene.answered();
    assert_eq!(heard(&scene), [""; 0]);
    listen(&mut scene);
    scene.carrier_does(&call, request("BYE"));
    scene.run(1_000);
    assert_eq!(heard(&scene), ["call completed"]);
    scene.run(LISTENED_FOR.as_millis() as u64);
    let call = scene.answered();
    assert_eq!(heard(&scene).len(), 1);
    // Those of transfers are few: whoever comes later can still be told.
    scene.verbs(&call, json!({"verb": "sip:refer", "referTo": "+491"}));
    scene.run(60_000);
    assert_eq!(
        heard(&scene).iter().filter(|event| event.starts_with("call")).count(),
        1
    );
    assert!(heard(&scene).contains(&"Verdict success".to_owned()));
}

#[test]
fn without_a_control_listener_no_event_is_made() {
    let text = format!("[control]\nlisten = \"off\"\n{TWO_SIDES}");
    let mut scene = Scene::with(&text, carrier(), platform());
    transferred(&mut scene);
    let call = scene.answered();
    scene.verbs(&call, json!({"verb": "sip:refer", "referTo": "+491"}));
    scene.run(60_000);
    assert_eq!(heard(&scene), [""; 0]);
}

#[test]
fn a_final_status_after_the_verdict_is_heard_as_late() {
    let mut scene = Scene::default();
    let course = steps([
        (10, respond(202)),
        (20, notify("", "terminated;reason=timeout")),
        (5_000, notify("486 Busy Here", TERMINATED)),
    ]);
    scene.world.peer_mut(scene.carrier).on("REFER", course);
    let call = scene.answered();
    scene.verbs(&call, json!({"verb": "sip:refer", "referTo": "+491"}));
    scene.run(10_000);
    let steps: Vec<String> = heard(&scene)
        .into_iter()
        .filter(|event| !event.starts_with("sip:refer"))
        .collect();
    assert_eq!(steps, ["Sent -", "Accepted 202", "Verdict unknown", "Late 486"]);
}

#[test]
fn an_address_that_dies_is_heard_of() {
    let text = TWO_SIDES.replace(
        "sources = [\"198.51.100.0/24\"]",
        "sources = [\"198.51.100.0/24\"]\nhealth = {}",
    );
    let mut scene = Scene::with(&text, carrier(), platform());
    scene.run(1_000);
    for _ in 0..10 {
        scene.world.peer_mut(scene.carrier).on("OPTIONS", steps([]));
    }
    scene.run(120_000);
    let address = "carrier udp:198.51.100.10:5060";
    assert_eq!(heard(&scene), [format!("{address} alive"), format!("{address} dead")]);
}
