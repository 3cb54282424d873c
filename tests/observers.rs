//! What those who watch are shown, in virtual time: events of calls, transfers, trunks and verbs.

use referee::command::{CallSelector, Command, LadderOf, Reply};
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

fn ladder(scene: &mut Scene, of: LadderOf) -> Reply {
    let ticket = scene.world.command(Command::Ladder { of });
    scene.world.reply(ticket).cloned().unwrap()
}

fn by_call_id(call: &str) -> LadderOf {
    LadderOf::Call(CallSelector::SipCallId(call.as_bytes().to_vec()))
}

/// Each message as `from > to: label`.
fn drawn(reply: &Reply) -> Vec<String> {
    let Reply::Ladder(view) = reply else {
        panic!("{reply:?}")
    };
    let messages = view.messages.iter();
    let party = |column: usize| view.parties[column].as_str();
    messages
        .map(|message| format!("{} > {}: {}", party(message.from), party(message.to), message.label))
        .collect()
}

#[test]
fn a_ladder_shows_the_whole_transfer_with_its_hooks() {
    let mut scene = Scene::default();
    transferred(&mut scene);
    let call = scene.answered();
    let verb = json!({"verb": "sip:refer", "referTo": "+491", "actionHook": "/action?key=1", "eventHook": "/event"});
    let Reply::Accepted {
        transfer: Some(transfer),
        ..
    } = scene.verbs(&call, verb)
    else {
        panic!("not accepted")
    };
    scene.run(60_000);
    let expected = [
        "application > referee: sip:refer to +491",
        "referee > carrier: REFER #1",
        "carrier > referee: 202 Accepted · REFER #1",
        "carrier > referee: NOTIFY #2: 180 Ringing",
        "referee > application: POST /event · 180 Ringing",
        "referee > carrier: 200 OK · NOTIFY #2",
        "carrier > referee: NOTIFY #3: 200 OK",
        "referee > application: POST /event · 200 OK",
        "referee > application: POST /action · success: notify_final, 202 then 200",
        "referee > carrier: 200 OK · NOTIFY #3",
        "application > referee: taken",
        "referee > carrier: BYE #2",
        "referee > platform: BYE #4",
        "carrier > referee: 200 OK · BYE #2",
        "platform > referee: 200 OK · BYE #4",
    ];
    let of_transfer = ladder(&mut scene, LadderOf::Transfer(transfer));
    assert_eq!(drawn(&of_transfer), expected);
    // The call has been forgotten; its ladder has not.
    assert_eq!(drawn(&ladder(&mut scene, by_call_id(&call))), expected);
    let Reply::Ladder(view) = of_transfer else {
        unreachable!()
    };
    assert_eq!((view.call_id, view.left_out.is_none()), (call, true));
    let notify = json!(view.messages[3]);
    let facts = ["kind", "method", "cseq", "status", "repeat"].map(|name| notify[name].clone());
    assert_eq!(
        facts,
        [json!("request"), json!("NOTIFY"), json!(2), json!(180), json!(false)]
    );
    assert!(view.messages.windows(2).all(|pair| pair[0].at <= pair[1].at));
}

fn with_ladders(text: &str) -> Scene {
    Scene::with(&format!("[control]\n{text}\n{TWO_SIDES}"), carrier(), platform())
}

#[test]
fn all_calls_have_ladders_where_that_is_wanted_from_the_invite_to_its_end() {
    let mut scene = with_ladders("ladders = \"all\"");
    let call = scene.answered();
    scene.carrier_does(&call, request("BYE"));
    scene.run(60_000);
    assert_eq!(
        drawn(&ladder(&mut scene, by_call_id(&call))),
        [
            "carrier > referee: INVITE #1",
            "referee > carrier: 100 Trying · INVITE #1",
            "referee > platform: INVITE #1",
            "platform > referee: 180 Ringing · INVITE #1",
            "referee > carrier: 180 Ringing · INVITE #1",
            "platform > referee: 200 OK · INVITE #1",
            "referee > carrier: 200 OK · INVITE #1",
            "carrier > referee: ACK #1",
            "referee > platform: ACK #1",
            "carrier > referee: BYE #2",
            "referee > platform: BYE #2",
            "platform > referee: 200 OK · BYE #2",
            "referee > carrier: 200 OK · BYE #2",
        ]
    );
}

#[test]
fn what_is_sent_or_comes_again_is_told() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(1_200, respond(603))]));
    let call = scene.answered();
    scene.verbs(&call, json!({"verb": "sip:refer", "referTo": "+491"}));
    scene.run(10_000);
    let drawn = drawn(&ladder(&mut scene, by_call_id(&call)));
    assert_eq!(
        drawn[..4],
        [
            "application > referee: sip:refer to +491",
            "referee > carrier: REFER #1",
            "referee > carrier: again: REFER #1",
            "carrier > referee: 603 Decline · REFER #1",
        ]
    );
}

#[test]
fn ladders_are_bounded_each_and_in_number() {
    let mut scene = with_ladders("ladders = \"all\"\nladders_max = 2\nladder_messages_max = 6");
    let calls: Vec<String> = (0..3).map(|_| scene.answered()).collect();
    let Reply::Refused(refusal) = ladder(&mut scene, by_call_id(&calls[0])) else {
        panic!("the first is still there")
    };
    assert_eq!((refusal.status, refusal.code), (404, "not_found"));
    let reply = ladder(&mut scene, by_call_id(&calls[2]));
    assert_eq!(
        drawn(&reply),
        [
            "carrier > referee: INVITE #1",
            "referee > carrier: 100 Trying · INVITE #1",
            "referee > platform: INVITE #1",
            "referee > carrier: 200 OK · INVITE #1",
            "carrier > referee: ACK #1",
            "referee > platform: ACK #1",
        ]
    );
    let Reply::Ladder(view) = reply else { unreachable!() };
    let left_out = view.left_out.unwrap();
    assert_eq!((left_out.before, left_out.count), (3, 3));
    let counters = scene.world.shard(0).counters();
    assert_eq!(
        (
            counters.ladders_forgotten_total,
            counters.ladder_messages_left_out_total
        ),
        (1, 9)
    );
}

#[test]
fn ladders_that_are_not_kept_are_said_not_to_be() {
    let unknown = by_call_id("unknown");
    for (text, answered, unanswerable) in [
        ("ladders = \"off\"", "not_kept", "not_found"),
        ("ladders = \"transfers\"", "not_kept", "not_found"),
        ("listen = \"off\"", "not_kept", "not_found"),
    ] {
        let mut scene = with_ladders(text);
        let call = scene.answered();
        for (of, code) in [(by_call_id(&call), answered), (unknown.clone(), unanswerable)] {
            let Reply::Refused(refusal) = ladder(&mut scene, of) else {
                panic!("a ladder")
            };
            assert_eq!((refusal.status, refusal.code), (404, code), "{text}");
        }
    }
}
