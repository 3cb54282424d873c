//! Live calls changed in the form of jambonz (`PUT /v1/Accounts/{account}/Calls/{call}`), in virtual time: ended, or led by the
//! verbs that a hook answers.

use referee::command::{CallSelector, Command, Reply, Update};
use referee::sim::application::{Answer, Posted};
use referee::sim::peer::Peer;
use referee::sim::peer::script::{Manners, notify, respond, steps};
use referee::sim::scene::{CARRIER, PUBLIC, Scene, TWO_SIDES, carrier, platform};
use referee::verb::HookTarget;
use referee::webhook::HookKind;
use serde_json::{Value, json};
use std::time::Duration;

fn hook(url: &str) -> Update {
    Update::Hook(HookTarget {
        url: url.to_owned(),
        basic_auth: None,
    })
}

fn update(scene: &mut Scene, call: &str, update: Update) -> Reply {
    let call = CallSelector::SipCallId(call.as_bytes().to_vec());
    let ticket = scene.world.command(Command::Update { call, update });
    scene.world.reply(ticket).cloned().unwrap()
}

fn is_done(reply: &Reply) {
    assert!(matches!(reply, Reply::Done), "{reply:?}");
}

fn is_refused(reply: &Reply, status: u16, code: &str) {
    let Reply::Refused(refusal) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!((refusal.status, refusal.code), (status, code));
}

fn answers(scene: &mut Scene, after: u64, list: Value) {
    scene.world.application.answer_question(Answer {
        after: Duration::from_millis(after),
        reply: Some(list),
        ..Answer::default()
    });
}

fn questions(scene: &Scene) -> Vec<&Posted> {
    let posted = scene.world.application.posted().iter();
    posted.filter(|posted| posted.kind == HookKind::Question).collect()
}

fn referred(scene: &Scene) -> usize {
    scene.world.peer(scene.carrier).heard_at("REFER").len()
}

fn refuses(scene: &mut Scene, times: usize) {
    for _ in 0..times {
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", steps([(10, respond(603))]));
    }
}

#[test]
fn a_call_is_ended_by_the_status_that_fits_it() {
    let mut scene = Scene::default();
    let call = scene.answered();
    is_refused(&update(&mut scene, &call, Update::NoAnswer), 422, "answered");
    is_done(&update(&mut scene, &call, Update::Completed));
    is_refused(&update(&mut scene, &call, Update::Completed), 422, "ended");
    scene.run(60_000);
    assert_eq!(scene.world.peer(scene.carrier).heard_at("BYE").len(), 1);
    is_refused(&update(&mut scene, &call, Update::Completed), 404, "not_found");

    scene
        .world
        .peer_mut(scene.platform)
        .on("INVITE", steps([(10, respond(180))]));
    let call = scene.call();
    scene.run(1_000);
    is_refused(&update(&mut scene, &call, Update::Completed), 422, "not_answered");
    is_refused(&update(&mut scene, &call, hook("/next")), 422, "not_answered");
    is_done(&update(&mut scene, &call, Update::NoAnswer));
    scene.run(60_000);
    assert_eq!(scene.world.peer(scene.platform).heard_at("CANCEL").len(), 1);
    scene.world.assert_clean();
}

#[test]
fn the_verbs_that_a_hook_answers_run_on_a_relayed_call() {
    let mut scene = Scene::default();
    refuses(&mut scene, 1);
    let call = scene.answered();
    let list = json!([{"verb": "tag", "data": {"a": 1}}, {"verb": "sip:refer", "referTo": "+491"}]);
    answers(&mut scene, 50, list);
    is_done(&update(&mut scene, &call, hook("/next?x=1")));
    scene.run(5_000);
    assert_eq!(referred(&scene), 1);
    let [question] = questions(&scene)[..] else {
        panic!("{:?}", questions(&scene))
    };
    assert_eq!(question.url, "https://app.example.com/next?x=1");
    let facts = ["call_id", "call_status", "direction", "sip_status"].map(|name| question.body[name].clone());
    assert_eq!(facts, [json!(call), json!("in-progress"), json!("inbound"), json!(200)]);
    // What was tagged comes with the action of the transfer.
    let posted = scene.world.application.posted();
    assert_eq!(posted.last().unwrap().body["customerData"], json!({"a": 1}));
    scene.world.assert_clean();
}

#[test]
fn an_answered_list_takes_the_place_of_what_waits() {
    let mut scene = Scene::default();
    refuses(&mut scene, 1);
    let call = scene.answered();
    scene.verbs(&call, json!([{"verb": "pause", "length": 60}, {"verb": "hangup"}]));
    answers(&mut scene, 50, json!([{"verb": "sip:refer", "referTo": "+491"}]));
    is_done(&update(&mut scene, &call, hook("/next")));
    scene.run(1_000);
    assert_eq!(referred(&scene), 1);
    scene.run(120_000);
    assert_eq!(scene.world.peer(scene.carrier).heard_at("BYE").len(), 0);
    scene.world.assert_clean();
}

#[test]
fn a_list_waits_for_the_end_of_a_transfer_that_is_under_way() {
    let mut scene = Scene::default();
    let slow = steps([
        (10, respond(202)),
        (10_000, notify("486 Busy Here", "terminated;reason=noresource")),
    ]);
    scene.world.peer_mut(scene.carrier).on("REFER", slow);
    refuses(&mut scene, 1);
    let call = scene.answered();
    scene.verbs(&call, json!({"verb": "sip:refer", "referTo": "+491"}));
    answers(&mut scene, 50, json!([{"verb": "sip:refer", "referTo": "+492"}]));
    is_done(&update(&mut scene, &call, hook("/next")));
    scene.run(5_000);
    assert_eq!(referred(&scene), 1);
    scene.run(20_000);
    assert_eq!(referred(&scene), 2);
    scene.world.assert_clean();
}

#[test]
fn what_is_no_list_of_verbs_changes_nothing() {
    for (list, refused) in [
        (None, 0),
        (Some(json!([])), 0),
        (Some(json!([{"verb": "answer"}])), 1),
        (Some(json!([{"verb": "hangup"}, {"verb": "nonsense"}])), 1),
    ] {
        let mut scene = Scene::default();
        let call = scene.answered();
        scene.verbs(&call, json!([{"verb": "pause", "length": 30}, {"verb": "hangup"}]));
        let answer = Answer {
            reply: list,
            ..Answer::default()
        };
        scene.world.application.answer_question(answer);
        is_done(&update(&mut scene, &call, hook("/next")));
        scene.run(10_000);
        assert_eq!(scene.world.peer(scene.carrier).heard_at("BYE").len(), 0);
        assert_eq!(scene.world.shard(0).counters().replies_refused_total, refused);
        // What was to run before runs all the same.
        scene.run(60_000);
        assert_eq!(scene.world.peer(scene.carrier).heard_at("BYE").len(), 1);
        scene.world.assert_clean();
    }
}

#[test]
fn only_the_answer_to_the_last_update_counts() {
    let mut scene = Scene::default();
    refuses(&mut scene, 2);
    let call = scene.answered();
    answers(&mut scene, 3_000, json!([{"verb": "hangup"}]));
    answers(&mut scene, 10, json!([{"verb": "sip:refer", "referTo": "+491"}]));
    is_done(&update(&mut scene, &call, hook("/slow")));
    is_done(&update(&mut scene, &call, hook("/quick")));
    scene.run(60_000);
    assert_eq!(
        (referred(&scene), scene.world.peer(scene.carrier).heard_at("BYE").len()),
        (1, 0)
    );
    let ids: Vec<&str> = questions(&scene)
        .iter()
        .map(|posted| posted.webhook_id.as_str())
        .collect();
    assert!(
        ids[0].ends_with("-update-0") && ids[1].ends_with("-update-1"),
        "{ids:?}"
    );
    scene.world.assert_clean();
}

#[test]
fn a_hook_without_a_place_to_go_is_refused() {
    let text = TWO_SIDES.replace("base_url = \"https://app.example.com\"\n", "");
    let mut scene = Scene::with(&text, carrier(), platform());
    let call = scene.answered();
    let reply = update(&mut scene, &call, hook("/next"));
    is_refused(&reply, 422, "invalid");
    let Reply::Refused(refusal) = reply else { unreachable!() };
    assert_eq!(refusal.field.as_deref(), Some("call_hook"));
    is_done(&update(&mut scene, &call, hook("https://other.example.com/next")));
}

/// A carrier whose calls an application leads.
fn with_application() -> Scene {
    let application = "[[application]]\nname = \"ivr\"\ncall_hook = \"https://ivr.example.com/call\"\n\
                       [[route]]\nfrom = \"carrier\"\napplication = \"ivr\"";
    let text = TWO_SIDES.replace("[[route]]\nfrom = \"carrier\"\nto = \"platform\"", application);
    let manners = Manners {
        calls_applications: true,
        ..Manners::new(PUBLIC, "<sip:+4917012345@carrier.example>")
    };
    Scene::with(&text, Peer::new("carrier", CARRIER, manners), platform())
}

/// RFC 5589 §7: the person whom another call has reached; the ACK of ours is lost at first.
#[test]
fn a_list_that_names_another_call_may_come_before_the_ack() {
    let mut scene = with_application();
    let list = json!([{"verb": "answer"}, {"verb": "pause", "length": 600}]);
    answers(&mut scene, 10, list.clone());
    let other = scene.answered();
    answers(&mut scene, 10, list);
    scene.world.network.lose("carrier", "referee", "ACK", 2);
    let call = scene.world.call(scene.carrier, "sip:+4930123456@203.0.113.7", &[]);
    scene.run(100);
    refuses(&mut scene, 1);
    answers(
        &mut scene,
        10,
        json!([{"verb": "sip:refer", "replaces": {"call": other}, "actionHook": "/action"}, {"verb": "hangup"}]),
    );
    is_done(&update(&mut scene, &call, hook("/next")));
    scene.run(1_000);
    assert_eq!(referred(&scene), 0, "the ACK has not come");
    scene.run(2_000);
    let refers = scene.world.peer(scene.carrier).heard("REFER");
    let refer_to = refers[0].header("Refer-To").unwrap();
    assert!(
        refer_to.contains("?Replaces=") && refer_to.contains(&other.replace('@', "%40")),
        "{refer_to}"
    );
    assert_eq!(scene.world.shard(0).counters().replies_refused_total, 0);
    scene.world.finish();
}

#[test]
fn on_a_call_of_an_application_the_list_replaces_the_one_that_runs() {
    let mut scene = with_application();
    answers(
        &mut scene,
        10,
        json!([{"verb": "answer"}, {"verb": "pause", "length": 600}]),
    );
    let call = scene.answered();
    refuses(&mut scene, 1);
    answers(
        &mut scene,
        10,
        json!([{"verb": "sip:refer", "referTo": "+491"}, {"verb": "hangup"}]),
    );
    is_done(&update(&mut scene, &call, hook("/next")));
    scene.run(20_000);
    assert_eq!(
        (referred(&scene), scene.world.peer(scene.carrier).heard_at("BYE").len()),
        (1, 1)
    );
    assert_eq!(questions(&scene)[1].url, "https://ivr.example.com/next");
    assert_eq!(questions(&scene)[1].body["application_sid"], "ivr");
    scene.world.assert_clean();
}
