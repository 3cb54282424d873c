//! What crosses a transfer: a verdict before the response, what comes after it, and timers of waits that are over.

#[path = "common/transfer.rs"]
#[expect(dead_code, reason = "it is what all tests of transfers share")]
mod transfer;

use referee::command::{CallSelector, Command, Reply};
use referee::sim::application::Answer;
use referee::sim::peer::script::{Act, EventIds, notify, request, respond, steps};
use referee::sim::scene::{Scene, TWO_SIDES, carrier, platform};
use referee::timer::Instant;
use serde_json::{Value, json};
use std::time::Duration;
use transfer::{ACTIVE, BYE, TERMINATED, accepted, actions, course, events, goes_on, is, refer};

/// The verb of the shared tests with further properties.
fn refer_with(more: &[(&str, Value)]) -> Value {
    let mut verb = refer();
    for (name, value) in more {
        verb[*name] = value.clone();
    }
    verb
}

/// An answered call whose carrier does this with the REFERs, each in turn; the verb is accepted, at two seconds.
fn transferred(mut scene: Scene, verb: Value, refers: &[&[(u64, Act)]]) -> (Scene, String) {
    for script in refers {
        let peer = scene.world.peer_mut(scene.carrier);
        peer.on("REFER", steps(script.iter().cloned()));
    }
    let call = scene.answered();
    accepted(scene.verbs(&call, verb));
    (scene, call)
}

/// A carrier whose NOTIFYs have ids so, and an application that names a second target.
fn with_backup(ids: EventIds) -> Scene {
    let mut carrier = carrier();
    carrier.manners.event_ids = ids;
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    let second = json!([{"verb": "sip:refer", "id": "t2", "referTo": "+4930222", "actionHook": "/action"}]);
    scene.world.application.answer_action(Answer {
        reply: Some(second),
        ..Answer::default()
    });
    scene
}

/// `refer_result` and `refer_cause` of each action.
fn verdicts(scene: &Scene) -> Vec<(String, String)> {
    let text = |body: &Value, name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let actions = actions(scene).into_iter();
    actions
        .map(|action| (text(&action.body, "refer_result"), text(&action.body, "refer_cause")))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect()
}

// ---- a verdict before the response ----

#[test]
fn a_refer_that_was_given_up_takes_no_notifies_of_the_next() {
    // RFC 3515 §2.4.6 asks for ids from the second REFER on; this carrier says none.
    for limit in ["responseTimeout", "timeout"] {
        let mut scene = with_backup(EventIds::Never);
        scene.world.network.lose("referee", "carrier", "REFER", 3);
        scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
        let call = scene.answered();
        accepted(scene.verbs(&call, refer_with(&[(limit, json!(3))])));
        scene.world.finish();
        let expected = pairs(&[("failed", "timeout"), ("success", "notify_final")]);
        assert_eq!(verdicts(&scene), expected, "{limit}\n{}", scene.world.ladder());
    }
}

#[test]
fn a_refer_that_was_given_up_and_is_accepted_late_has_its_own_notifies() {
    let mut scene = with_backup(EventIds::FromTheSecond);
    let peer = scene.world.peer_mut(scene.carrier);
    peer.on(
        "REFER",
        steps([
            (4_000, respond(202)),
            (4_020, notify("100 Trying", ACTIVE)),
            (4_500, notify("486 Busy Here", TERMINATED)),
        ]),
    );
    peer.on(
        "REFER",
        steps([
            (2_500, respond(202)),
            (2_520, notify("100 Trying", ACTIVE)),
            (5_000, notify("200 OK", TERMINATED)),
        ]),
    );
    let call = scene.answered();
    accepted(scene.verbs(&call, refer_with(&[("responseTimeout", json!(3))])));
    scene.world.finish();
    let expected = pairs(&[("failed", "timeout"), ("success", "notify_final")]);
    assert_eq!(verdicts(&scene), expected, "\n{}", scene.world.ladder());
    // The first target is told of as late.
    assert_eq!(events(&scene), [486]);
}

#[test]
fn a_refer_is_not_sent_again_once_its_verdict_is_there() {
    // All that leave before the verdict are lost: at 2, 2.5 and 3.5 s.
    let lost = |limit: &str| {
        let mut scene = Scene::default();
        scene.world.network.lose("referee", "carrier", "REFER", 3);
        scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
        let call = scene.answered();
        accepted(scene.verbs(&call, refer_with(&[(limit, json!(3))])));
        (scene, call)
    };
    for limit in ["responseTimeout", "timeout"] {
        let (mut scene, call) = lost(limit);
        scene.run(60_000);
        is(&scene, 408, None, "failed", "timeout");
        assert!(scene.world.peer(scene.carrier).heard("REFER").is_empty(), "{limit}");
        goes_on(&mut scene, &call);
    }
    // Nor when the call is ended.
    let (mut scene, call) = lost("responseTimeout");
    scene.run(2_000);
    let selector = CallSelector::SipCallId(call.into_bytes());
    scene.world.command(Command::Hangup { call: selector });
    scene.world.finish();
    assert!(scene.world.peer(scene.carrier).heard("REFER").is_empty());
    is(&scene, 487, None, "canceled", "hangup");
}

#[test]
fn a_response_after_the_verdict_changes_nothing_of_it() {
    let late: &[_] = &[(4_000, respond(202)), (5_000, notify("486 Busy Here", TERMINATED))];
    let verb = refer_with(&[("responseTimeout", json!(3))]);
    let (mut scene, call) = transferred(Scene::default(), verb, &[late]);
    scene.run(20_000);
    is(&scene, 408, None, "failed", "timeout");
    // What a NOTIFY says is told as late.
    assert_eq!(events(&scene), [486]);
    let id = actions(&scene)[0].body["trace_id"].as_str().unwrap().parse().unwrap();
    let ticket = scene.world.command(Command::Transfer { id });
    let Some(Reply::Transfer(view)) = scene.world.reply(ticket) else {
        panic!("no transfer")
    };
    assert_eq!((view.refer_status, view.late_status), (Some(408), Some(486)));
    assert_eq!((view.refer_result, view.refer_cause), (Some("failed"), Some("timeout")));
    goes_on(&mut scene, &call);
}

/// Where a REFER without a response ends its call, with an INVITE of the carrier's under way for five seconds.
fn bye_on_timeout() -> (Scene, String) {
    let text = TWO_SIDES.replacen("bare_number =", "on_refer_timeout = \"bye\"\nbare_number =", 1);
    let mut scene = Scene::with(&text, carrier(), platform());
    let call = scene.answered();
    let slow = steps([(10, respond(180)), (5_000, respond(200))]);
    scene.world.peer_mut(scene.platform).on("INVITE", slow);
    scene.carrier_does(&call, request("INVITE"));
    scene.run(100);
    (scene, call)
}

#[test]
fn a_refer_that_never_left_ends_no_call() {
    let (mut scene, call) = bye_on_timeout();
    let verb = refer_with(&[("timeout", json!(3))]);
    accepted(scene.verbs(&call, verb));
    scene.run(20_000);
    assert!(scene.world.peer(scene.carrier).heard("REFER").is_empty());
    is(&scene, 408, None, "failed", "timeout");
    goes_on(&mut scene, &call);

    // One that did and has no response does.
    let (mut scene, call) = bye_on_timeout();
    let verb = refer_with(&[("timeout", json!(8)), ("queueTimeout", json!(1))]);
    scene.world.peer_mut(scene.carrier).on("REFER", steps([]));
    accepted(scene.verbs(&call, verb));
    scene.world.finish();
    is(&scene, 408, None, "failed", "timeout");
    assert_eq!(scene.world.peer(scene.platform).heard(BYE).len(), 1);
}

// ---- the first NOTIFY ----

#[test]
fn after_a_bye_of_the_platform_the_first_notify_is_waited_for_as_long_as_the_others() {
    for (last, expected) in [
        (Some("200 OK"), (Some(200), "success", "notify_final")),
        (None, (None, "unknown", "call_ended")),
    ] {
        let mut script = vec![(10, respond(202))];
        script.extend(last.map(|last| (20_000, notify(last, TERMINATED))));
        let verb = refer_with(&[("notifyTimeout", json!(5)), ("timeout", json!(60))]);
        let (mut scene, call) = transferred(Scene::default(), verb, &[&script]);
        scene.run(1_000);
        scene.platform_does(&call, request(BYE));
        scene.world.finish();
        let (last, result, cause) = expected;
        is(&scene, 202, last, result, cause);
    }
}

#[test]
fn a_notify_before_the_2xx_is_the_first_though_it_cannot_be_read() {
    let script: &[_] = &[
        (5, notify("", ACTIVE)),
        (100, respond(202)),
        (8_000, notify("486 Busy Here", TERMINATED)),
    ];
    let verb = refer_with(&[("notifyTimeout", json!(3))]);
    let (mut scene, call) = transferred(Scene::default(), verb, &[script]);
    scene.run(20_000);
    is(&scene, 202, Some(486), "failed", "notify_final");
    goes_on(&mut scene, &call);
}

#[test]
fn a_subscription_that_runs_out_before_the_response_has_run_out() {
    let short = || notify("180 Ringing", "active;expires=2");
    let verb = || refer_with(&[("responseTimeout", json!(6))]);
    // The verdict waits for the response, or for its time.
    for (response, at) in [(Some(respond(202)), 5_002), (None, 6_000)] {
        let mut script = vec![(5, short())];
        script.extend(response.map(|response| (5_000, response)));
        let (mut scene, call) = transferred(Scene::default(), verb(), &[&script]);
        scene.run(20_000);
        let [action] = actions(&scene)[..] else { panic!() };
        assert_eq!(action.body["refer_cause"], "subscription_expired");
        assert_eq!(action.at, Instant::from_millis(2_000 + at));
        goes_on(&mut scene, &call);
    }
    // A NOTIFY shows that it goes on after all.
    let script: &[_] = &[
        (5, short()),
        (4_000, notify("180 Ringing", ACTIVE)),
        (5_000, respond(202)),
        (8_000, notify("486 Busy Here", TERMINATED)),
    ];
    let (mut scene, call) = transferred(Scene::default(), verb(), &[script]);
    scene.run(20_000);
    is(&scene, 202, Some(486), "failed", "notify_final");
    goes_on(&mut scene, &call);
}

// ---- waits that are over ----

#[test]
fn a_wait_for_an_invite_lasts_as_long_as_it_says_whatever_was_waited_for_before() {
    let mut scene = Scene::default();
    let peer = scene.world.peer_mut(scene.carrier);
    peer.on("REFER", steps([(10, respond(603))]));
    peer.on("REFER", course("486 Busy Here", 2_000));
    let call = scene.answered();
    // The first REFER waits from 2.1 s on, for four seconds at most, and leaves at 3 s.
    let peer = scene.world.peer_mut(scene.platform);
    peer.on("INVITE", steps([(1_000, respond(200))]));
    peer.on("INVITE", steps([(10, respond(180)), (15_000, respond(200))]));
    scene.carrier_does(&call, request("INVITE"));
    scene.run(100);
    accepted(scene.verbs(&call, refer()));
    scene.run(2_000);
    assert_eq!(scene.world.peer(scene.carrier).heard("REFER").len(), 1);
    // The second waits from 4.2 s on.
    scene.carrier_does(&call, request("INVITE"));
    scene.run(100);
    accepted(scene.verbs(&call, refer_with(&[("id", json!("t2"))])));
    scene.run(20_000);
    let second = scene.world.peer(scene.carrier).heard_at("REFER")[1];
    assert_eq!(second, Instant::from_millis(8_201));
    goes_on(&mut scene, &call);
}

#[test]
fn late_notifies_find_their_way_for_the_longest_time_that_a_transfer_of_the_call_has_asked_for() {
    let first: &[_] = &[
        (10, respond(202)),
        (500, notify("486 Busy Here", TERMINATED)),
        (70_000, notify("200 OK", TERMINATED)),
    ];
    let verb = refer_with(&[("tombstone", json!(100))]);
    let (mut scene, call) = transferred(Scene::default(), verb, &[first, &[(10, respond(603))]]);
    scene.run(1_000);
    accepted(scene.verbs(&call, refer_with(&[("id", json!("t2")), ("tombstone", json!(1))])));
    scene.run(1_000);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [200, 200]);
}

// ---- the end of the call ----

#[test]
fn after_a_success_what_is_left_of_the_list_gives_the_headers_of_our_bye() {
    for after in [10, 5_000] {
        let mut scene = Scene::default();
        scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
        scene.world.application.answer_action(Answer {
            after: Duration::from_millis(after),
            ..Answer::default()
        });
        let call = scene.answered();
        let list = json!([
            refer(),
            {"verb": "pause", "length": 60},
            {"verb": "hangup", "headers": {"X-Why": "done"}},
        ]);
        accepted(scene.verbs(&call, list));
        scene.world.finish();
        for peer in [scene.carrier, scene.platform] {
            let byes = scene.world.peer(peer).heard(BYE);
            assert_eq!(byes.len(), 1);
            assert_eq!(byes[0].header("X-Why"), Some("done"), "{after}");
        }
    }
}
