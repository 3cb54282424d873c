//! Transfers in virtual time: what the carrier sees, what the platform sees, what the application is told (RFC 3515, 5589,
//! 6665, 7647), one test for each way they end.

mod common;
#[path = "common/transfer.rs"]
mod transfer;

use common::assert_ladder;
use referee::command::{CallSelector, Command, Reply};
use referee::sequence::{NUMBER_MAX, ROOM};
use referee::sim::application::Answer;
use referee::sim::peer::script::{Act, notify, request, request_with, respond, respond_with, steps};
use referee::sim::peer::text::{Text, uri_of};
use referee::sim::scene::{Scene, TWO_SIDES, carrier, platform};
use referee::timer::Instant;
use referee::webhook::HookKind;
use serde_json::{Value, json};
use std::time::Duration;
use transfer::{
    ACTIVE, BYE, TERMINATED, accepted, actions, after, course, events, goes_on, is, refer, refused, verdict,
};

// ---- success ----

#[test]
fn a_transfer_that_succeeds_ends_the_call_on_both_sides() {
    let (mut scene, _) = after(course("200 OK", 5_000));
    scene.world.finish();
    assert_ladder("transfer", &scene.world);
    is(&scene, 202, Some(200), "success", "notify_final");
    assert_eq!(events(&scene), [100, 180, 200]);
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1);
        assert!(scene.world.peer(peer).live_calls().is_empty());
    }
    assert!(scene.world.peer(scene.platform).heard("NOTIFY").is_empty());
    assert_eq!(trunk_refer(&mut scene), "supported");
}

#[test]
fn the_refer_speaks_as_the_platform_byte_for_byte() {
    let mut scene = Scene::default();
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    let verb = json!({
        "verb": "sip:refer", "referTo": "+4930111", "headers": {"X-Custom-Header": "Value", "X-Number": 7},
        "actionHook": "/action"
    });
    accepted(scene.verbs(&call, verb));
    scene.world.finish();
    let answer = scene.world.peer(scene.carrier).heard("200 OK (INVITE)")[0].clone();
    let refer = scene.world.peer(scene.carrier).heard("REFER")[0].clone();
    assert_eq!(refer.request_uri(), "sip:user@198.51.100.10:5060");
    assert_eq!(refer.header("From"), answer.header("To"));
    assert_eq!(refer.header("To"), answer.header("From"));
    assert_eq!(refer.header("Contact"), answer.header("Contact"));
    let allow = format!("{}, NOTIFY", answer.header("Allow").unwrap());
    assert_eq!(refer.header("Allow"), Some(allow.as_str()));
    assert_eq!(refer.cseq(), (1, "REFER"));
    assert_eq!(refer.header("Max-Forwards"), Some("70"));
    assert_eq!(refer.header("Refer-To"), Some("<sip:+4930111@trunk.example.net>"));
    assert_eq!(
        refer.header("Referred-By"),
        Some("\"Alice\" <sip:+4917012345@carrier.example>")
    );
    assert_eq!(refer.header("X-Custom-Header"), Some("Value"));
    assert_eq!(refer.header("X-Number"), Some("7"));
    assert_eq!(refer.list("Via").len(), 1);
    // The 200 to a NOTIFY of ours moves nobody's target.
    for answer in scene.world.peer(scene.carrier).heard("200 OK (NOTIFY)") {
        assert_eq!(answer.header("Contact"), None);
    }
}

#[test]
fn the_hooks_say_all_there_is_to_say() {
    let (mut scene, call) = after(course("200 OK", 5_000));
    scene.world.finish();
    let posted = scene.world.application.posted();
    let kinds: Vec<_> = posted.iter().map(|posted| posted.kind).collect();
    assert_eq!(
        kinds,
        [HookKind::Event, HookKind::Event, HookKind::Event, HookKind::Action]
    );
    let transfer = &posted[0].subject;
    let sid = posted[0].body["call_sid"].as_str().unwrap().to_owned();
    assert!(sid.starts_with("call-"), "{sid}");
    assert!(posted.iter().all(|posted| posted.subject == *transfer));
    assert_eq!(posted[1].url, "https://app.example.com/event");
    assert_eq!(
        posted[1].body,
        json!({
            "event": "transfer-status", "call_status": 180, "call_sid": sid, "direction": "inbound",
            "from": "+4917012345", "to": "+4930123456", "call_id": call, "trace_id": transfer, "verb": "sip:refer",
            "verb_id": "t1", "id": "t1", "call_state": "in-progress", "notify_reason": "Ringing", "notify_seq": 2,
            "subscription_state": "active;expires=60", "customerData": {}
        })
    );
    assert_eq!(posted[3].url, "https://app.example.com/action");
    assert_eq!(
        posted[3].body,
        json!({
            "call_sid": sid, "direction": "inbound", "from": "+4917012345", "to": "+4930123456", "call_id": call,
            "sip_status": 200, "sip_reason": "OK", "call_status": "in-progress", "trace_id": transfer,
            "originating_sip_ip": "198.51.100.10", "originating_sip_trunk_name": "carrier", "customerData": {},
            "verb": "sip:refer", "verb_id": "t1", "id": "t1", "refer_status": 202, "referStatus": "202",
            "refer_reason": "Accepted", "final_referred_call_status": 200, "final_referred_call_reason": "OK",
            "event": "transfer-status", "eventHook": {"event": "transfer-status", "call_status": "200"},
            "refer_result": "success", "refer_cause": "notify_final",
            "refer_to": "<sip:+4930111@trunk.example.net>", "referred_by": "\"Alice\" <sip:+4917012345@carrier.example>",
            "refer_attempts": 1, "notify_count": 3, "refer_duration_ms": 5_002
        })
    );
}

#[test]
fn any_2xx_accepts() {
    for code in [200, 202, 204] {
        let (mut scene, _) = after(steps([(10, respond(code)), (900, notify("200 OK", TERMINATED))]));
        scene.world.finish();
        is(&scene, code.into(), Some(200), "success", "notify_final");
    }
}

#[test]
fn a_notify_may_come_before_the_2xx() {
    let (mut scene, _) = after(steps([
        (5, notify("100 Trying", ACTIVE)),
        (6, notify("200 OK", TERMINATED)),
        (300, respond(202)),
    ]));
    scene.world.finish();
    assert_ladder("transfer_notify_first", &scene.world);
    is(&scene, 202, Some(200), "success", "notify_final");
}

#[test]
fn a_notify_without_a_response_to_the_refer_still_tells() {
    let (mut scene, call) = after(steps([(5, notify("486 Busy Here", TERMINATED))]));
    scene.run(130_000);
    let (_, last, result, cause) = verdict(&scene);
    assert_eq!(
        (last, result.as_str(), cause.as_str()),
        (Some(486), "failed", "notify_final")
    );
    goes_on(&mut scene, &call);
}

#[test]
fn a_target_that_rings_is_no_timeout_though_the_response_to_the_refer_is_lost() {
    let (mut scene, call) = after(steps([(5, notify("180 Ringing", "active;expires=600"))]));
    // Timer F has ended the REFER, and its NOTIFYs still tell.
    scene.run(40_000);
    assert!(actions(&scene).is_empty());
    scene.carrier_does(&call, notify("200 OK", TERMINATED));
    scene.world.finish();
    let (_, last, result, cause) = verdict(&scene);
    assert_eq!(
        (last, result.as_str(), cause.as_str()),
        (Some(200), "success", "notify_final")
    );

    let (mut scene, call) = after(steps([(5, notify("180 Ringing", "active;expires=600"))]));
    scene.run(130_000);
    is(&scene, 408, None, "unknown", "ring_timeout");
    goes_on(&mut scene, &call);
}

#[test]
fn verbs_that_come_before_the_answer_to_an_action_run_and_that_answer_does_not() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", course("486 Busy Here", 1_500));
    scene.world.application.answer_action(Answer {
        after: Duration::from_secs(8),
        reply: Some(json!([{"verb": "sip:refer", "referTo": "sip:third@elsewhere.example"}])),
        ..Answer::default()
    });
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    let another = json!({"verb": "sip:refer", "id": "t2", "referTo": "+4930222", "actionHook": "/action"});
    scene.run(1_000);
    let refusal = refused(scene.verbs(&call, another.clone()));
    assert_eq!((refusal.status, refusal.code), (409, "busy"));
    scene.run(4_000);
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 9_000));
    accepted(scene.verbs(&call, another));
    scene.world.finish();
    let targets: Vec<_> = actions(&scene)
        .iter()
        .map(|posted| posted.body["refer_to"].clone())
        .collect();
    assert_eq!(
        targets,
        ["<sip:+4930111@trunk.example.net>", "<sip:+4930222@trunk.example.net>"]
    );
    assert_eq!(scene.world.peer(scene.carrier).heard("REFER").len(), 2);
}

#[test]
fn the_data_of_a_call_does_not_grow_for_ever() {
    let mut scene = Scene::default();
    let call = scene.answered();
    for number in 0..6 {
        let data = json!({ format!("k{number}"): "x".repeat(15 * 1_024) });
        scene.verbs(&call, json!({"verb": "tag", "data": data}));
    }
    assert_eq!(scene.world.shard(0).counters().tags_refused_total, 2);
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", course("486 Busy Here", 1_500));
    accepted(scene.verbs(&call, refer()));
    scene.run(10_000);
    let data = actions(&scene)[0].body["customerData"].as_object().unwrap().clone();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["k0", "k1", "k2", "k3"]);
    goes_on(&mut scene, &call);
}

#[test]
fn no_subscription_is_a_success_at_once() {
    let (mut scene, _) = after(steps([(10, respond_with(202, &[("Refer-Sub", "false")]))]));
    scene.world.finish();
    is(&scene, 202, None, "success", "accepted_no_subscription");
}

#[test]
fn our_bye_waits_for_the_application_a_second_at_most() {
    for (after_millis, expected) in [(300u64, 300u64), (5_000, 1_000)] {
        let mut scene = Scene::default();
        scene.world.peer_mut(scene.carrier).on(
            "REFER",
            steps([(10, respond(202)), (500, notify("200 OK", TERMINATED))]),
        );
        scene.world.application.answer_action(Answer {
            after: Duration::from_millis(after_millis),
            ..Answer::default()
        });
        let call = scene.answered();
        accepted(scene.verbs(&call, refer()));
        scene.world.finish();
        // 2.001 the REFER arrives, 2.502 its NOTIFY is here.
        let bye = scene.world.peer(scene.carrier).heard_at(BYE)[0];
        assert_eq!(bye, Instant::from_millis(2_502 + expected + 1));
    }
}

// ---- failure ----

#[test]
fn a_target_that_is_busy_leaves_the_call_as_it_was() {
    let (mut scene, call) = after(course("486 Busy Here", 3_000));
    scene.run(10_000);
    is(&scene, 202, Some(486), "failed", "notify_final");
    goes_on(&mut scene, &call);
    assert_ladder("transfer_busy", &scene.world);
}

#[test]
fn each_refusal_has_its_cause_and_leaves_the_call_as_it_was() {
    for (code, cause) in [
        (302, "redirected"),
        (400, "rejected"),
        (401, "unauthorized"),
        (403, "rejected"),
        (405, "rejected"),
        (407, "unauthorized"),
        (408, "timeout"),
        (420, "rejected"),
        (429, "referrer_identity"),
        (481, "no_dialog"),
        (486, "rejected"),
        (500, "rejected"),
        (501, "rejected"),
        (503, "rejected"),
        (603, "rejected"),
    ] {
        let (mut scene, call) = after(steps([(10, respond(code))]));
        scene.run(5_000);
        is(&scene, code.into(), None, "failed", cause);
        let body = &actions(&scene)[0].body;
        let unsupported = matches!(code, 405 | 501).then_some(&Value::Bool(false));
        assert_eq!(body.get("refer_supported"), unsupported, "{code}");
        assert_eq!(body.get("refer_status_source"), None);
        assert!(events(&scene).is_empty());
        let known = unsupported.map_or("unknown", |_| "unsupported");
        assert_eq!(trunk_refer(&mut scene), known, "{code}");
        goes_on(&mut scene, &call);
    }
}

/// Whether the carrier takes REFERs, as the control API has it.
fn trunk_refer(scene: &mut Scene) -> &'static str {
    let ticket = scene.world.command(Command::Trunks);
    match scene.world.reply(ticket) {
        Some(Reply::Trunks(trunks)) => trunks.iter().find(|trunk| trunk.name == "carrier").unwrap().refer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refer_without_a_response_fails_and_keeps_the_call() {
    let mut scene = Scene::default();
    scene.world.network.lose("referee", "carrier", "REFER", 100);
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(40_000);
    is(&scene, 408, None, "failed", "timeout");
    assert_eq!(actions(&scene)[0].body["refer_status_source"], "local");
    goes_on(&mut scene, &call);
    assert_ladder("transfer_no_response", &scene.world);
}

#[test]
fn a_trunk_may_have_the_call_ended_when_the_refer_has_no_response() {
    let config = TWO_SIDES.replace("bare_number =", "on_refer_timeout = \"bye\"\nbare_number =");
    let mut scene = Scene::with(&config, carrier(), platform());
    scene.world.network.lose("referee", "carrier", "REFER", 100);
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    is(&scene, 408, None, "failed", "timeout");
    assert_eq!(scene.world.peer(scene.platform).heard(BYE).len(), 1);
}

#[test]
fn glare_is_tried_again_twice() {
    let mut scene = Scene::default();
    for _ in 0..2 {
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", steps([(5, respond(491))]));
    }
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    is(&scene, 202, Some(200), "success", "notify_final");
    let numbers: Vec<u32> = numbers(&scene.world.peer(scene.carrier).heard("REFER"));
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(actions(&scene)[0].body["refer_attempts"], 3);
}

#[test]
fn a_third_491_is_final() {
    let mut scene = Scene::default();
    for _ in 0..3 {
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", steps([(5, respond(491))]));
    }
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(20_000);
    is(&scene, 491, None, "failed", "rejected");
    goes_on(&mut scene, &call);
}

#[test]
fn a_final_notify_before_a_491_says_that_the_refer_was_carried_out() {
    for (status, result, hangs_up) in [
        ("200 OK", "success", true),
        ("200 OK", "success", false),
        ("486 Busy Here", "failed", false),
    ] {
        let mut carrier = vec![(5, notify(status, TERMINATED)), (10, respond(491))];
        carrier.extend(hangs_up.then(|| (20, request(BYE))));
        let (mut scene, call) = after(steps(carrier));
        scene.run(20_000);
        assert_eq!(scene.world.peer(scene.carrier).heard("REFER").len(), 1);
        is(
            &scene,
            491,
            Some(if result == "failed" { 486 } else { 200 }),
            result,
            "notify_final",
        );
        match result {
            "failed" => goes_on(&mut scene, &call),
            _ => scene.world.finish(),
        }
    }
}

#[test]
fn a_subscription_that_ends_before_a_response_that_never_comes_is_not_waited_for() {
    let (mut scene, call) = after(steps([(5, notify("180 Ringing", TERMINATED))]));
    scene.run(40_000);
    is(&scene, 408, None, "unknown", "subscription_terminated");
    goes_on(&mut scene, &call);
}

#[test]
fn a_short_retry_after_is_waited_for_once() {
    for (code, seconds, expected) in [(503, "3", 202), (500, "5", 202), (503, "6", 503), (486, "3", 486)] {
        let mut scene = Scene::default();
        let later = steps([(5, respond_with(code, &[("Retry-After", seconds)]))]);
        scene.world.peer_mut(scene.carrier).on("REFER", later);
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", course("486 Busy Here", 2_000));
        let call = scene.answered();
        accepted(scene.verbs(&call, refer()));
        scene.run(20_000);
        assert_eq!(verdict(&scene).0, expected, "{code} {seconds}");
        goes_on(&mut scene, &call);
    }
}

#[test]
fn a_refer_that_was_overtaken_is_sent_again() {
    let mut scene = Scene::default();
    // The REFER is lost twice, the platform's INFO leaves after the hold of 500 ms and overtakes it: 500 (RFC 3261 §12.2.2).
    scene.world.network.lose("referee", "carrier", "REFER", 2);
    scene.world.peer_mut(scene.carrier).manners.in_order = false;
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(100);
    scene.platform_does(&call, request("INFO"));
    scene.world.finish();
    assert_ladder("transfer_overtaken", &scene.world);
    is(&scene, 202, Some(200), "success", "notify_final");
}

// ---- the end that is not known ----

#[test]
fn no_notify_at_all_is_unknown_after_the_total() {
    let (mut scene, call) = after(steps([(10, respond(202))]));
    scene.run(130_000);
    is(&scene, 202, None, "unknown", "no_notify");
    assert_eq!(actions(&scene)[0].at, Instant::from_millis(122_000));
    goes_on(&mut scene, &call);
}

#[test]
fn a_trunk_or_a_verb_may_wait_less() {
    let config = TWO_SIDES.replace("bare_number =", "notify_timeout = \"15s\"\nbare_number =");
    let mut scene = Scene::with(&config, carrier(), platform());
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(10, respond(202))]));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(20_000);
    is(&scene, 202, None, "unknown", "no_notify");
    assert_eq!(actions(&scene)[0].at, Instant::from_millis(2_000 + 12 + 15_000));
    goes_on(&mut scene, &call);

    let mut scene = Scene::default();
    scene.world.peer_mut(scene.carrier).on(
        "REFER",
        steps([(10, respond(202)), (20, notify("180 Ringing", ACTIVE))]),
    );
    let call = scene.answered();
    let mut verb = refer();
    verb["timeout"] = json!(30);
    accepted(scene.verbs(&call, verb));
    scene.run(40_000);
    is(&scene, 202, None, "unknown", "ring_timeout");
    assert_eq!(actions(&scene)[0].at, Instant::from_millis(32_000));
    goes_on(&mut scene, &call);
}

#[test]
fn only_a_100_is_unknown_when_the_subscription_runs_out() {
    let (mut scene, call) = after(steps([(10, respond(202)), (20, notify("100 Trying", ACTIVE))]));
    scene.run(70_000);
    is(&scene, 202, None, "unknown", "subscription_expired");
    assert_eq!(events(&scene), [100]);
    goes_on(&mut scene, &call);
}

#[test]
fn a_subscription_that_ends_without_a_status_is_unknown() {
    for status in ["", "180 Ringing"] {
        let (mut scene, call) = after(steps([
            (10, respond(202)),
            (500, notify(status, "terminated;reason=giveup")),
        ]));
        scene.run(5_000);
        is(&scene, 202, None, "unknown", "subscription_terminated");
        assert_eq!(actions(&scene)[0].body["subscription_reason"], "giveup");
        goes_on(&mut scene, &call);
    }
}

#[test]
fn a_final_status_that_comes_late_is_told_as_late() {
    let (mut scene, _) = after(steps([
        (10, respond(202)),
        (500, notify("", "terminated;reason=giveup")),
        (4_000, notify("200 OK", TERMINATED)),
    ]));
    scene.world.finish();
    assert_ladder("transfer_late", &scene.world);
    is(&scene, 202, None, "unknown", "subscription_terminated");
    let last = scene.world.application.posted().last().unwrap();
    assert_eq!((last.kind, &last.body["late"]), (HookKind::Event, &Value::Bool(true)));
    // A late success releases the call.
    assert_eq!(scene.world.peer(scene.carrier).heard(BYE).len(), 1);
}

#[test]
fn a_second_final_status_changes_nothing() {
    let (mut scene, call) = after(steps([
        (10, respond(202)),
        (500, notify("486 Busy Here", TERMINATED)),
        (600, notify("200 OK", TERMINATED)),
    ]));
    scene.run(3_000);
    is(&scene, 202, Some(486), "failed", "notify_final");
    assert_eq!(events(&scene), [486]);
    goes_on(&mut scene, &call);
}

// ---- BYE ----

#[test]
fn a_bye_after_the_2xx_without_a_notify_is_a_success_that_says_so() {
    for wait in [0, 10, 500, 1_500] {
        let (mut scene, _) = after(steps([(10, respond(202)), (10 + wait, request(BYE))]));
        scene.world.finish();
        is(&scene, 202, None, "success", "bye_after_accept");
        assert_eq!(actions(&scene)[0].body["call_status"], "completed");
        assert_eq!(scene.world.peer(scene.platform).heard(BYE).len(), 1);
        assert!(scene.world.peer(scene.carrier).heard(BYE).is_empty());
    }
}

#[test]
fn a_final_notify_and_a_bye_in_one_burst_are_one_success_in_either_order() {
    for (notify_at, bye_at) in [(500, 500), (500, 501), (501, 500), (1_300, 500)] {
        let mut course = vec![
            (10, respond(202)),
            (notify_at, notify("200 OK", TERMINATED)),
            (bye_at, request(BYE)),
        ];
        course.sort_by_key(|(at, _)| *at);
        let (mut scene, _) = after(steps(course));
        scene.world.finish();
        is(&scene, 202, Some(200), "success", "notify_final");
        assert_eq!(events(&scene), [200]);
    }
}

/// RFC 3261 §15: whoever has said BYE hears none of ours, and who gets it relayed hears one.
#[test]
fn a_bye_of_the_carrier_after_a_success_is_the_only_one() {
    let (mut scene, _) = after(steps([
        (10, respond(202)),
        (500, notify("200 OK", TERMINATED)),
        (501, request(BYE)),
    ]));
    scene.world.application.answer_action(Answer {
        after: Duration::from_millis(30),
        ..Answer::default()
    });
    scene
        .world
        .network
        .delay("platform", "referee", "200 OK (BYE)", Duration::from_millis(200));
    scene.world.finish();
    is(&scene, 202, Some(200), "success", "notify_final");
    let byes = [scene.carrier, scene.platform].map(|peer| scene.world.peer(peer).heard(BYE).len());
    assert_eq!(byes, [0, 1]);
}

#[test]
fn a_reply_that_always_names_another_target_comes_to_an_end() {
    let mut scene = Scene::with(
        &format!("{TWO_SIDES}[transfer]\nper_call_max = 3\n"),
        carrier(),
        platform(),
    );
    for _ in 0..10 {
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", steps([(10, respond(603))]));
        scene.world.application.answer_action(Answer {
            reply: Some(json!([{"verb": "sip:refer", "referTo": "+4930222", "actionHook": "/action"}])),
            ..Answer::default()
        });
    }
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(60_000);
    let causes: Vec<_> = actions(&scene)
        .iter()
        .map(|posted| posted.body["refer_cause"].clone())
        .collect();
    assert_eq!(causes, ["rejected", "rejected", "rejected", "busy"]);
    assert_eq!(scene.world.peer(scene.carrier).heard("REFER").len(), 3);
    goes_on(&mut scene, &call);
}

#[test]
fn a_bye_while_the_target_rings_is_unknown_unless_the_trunk_knows_better() {
    for (rule, result) in [("accepted", "unknown"), ("always", "success"), ("never", "unknown")] {
        let config = TWO_SIDES.replace(
            "bare_number =",
            &format!("bye_means_success = \"{rule}\"\nbare_number ="),
        );
        let mut scene = Scene::with(&config, carrier(), platform());
        let hangs_up = steps([
            (10, respond(202)),
            (20, notify("180 Ringing", ACTIVE)),
            (3_000, request_with(BYE, &[("Reason", "Q.850;cause=16")], "")),
        ]);
        scene.world.peer_mut(scene.carrier).on("REFER", hangs_up);
        let call = scene.answered();
        accepted(scene.verbs(&call, refer()));
        scene.world.finish();
        is(&scene, 202, None, result, "bye_while_ringing");
        assert_eq!(actions(&scene)[0].body["bye_reason"], "Q.850;cause=16");
    }
}

#[test]
fn a_bye_of_the_carrier_before_it_answers_the_refer_is_canceled() {
    let (mut scene, _) = after(steps([(0, request(BYE)), (5_000, respond(481))]));
    scene.world.finish();
    assert_ladder("transfer_bye_first", &scene.world);
    is(&scene, 487, None, "canceled", "call_ended");
}

#[test]
fn a_bye_of_the_platform_before_the_2xx_is_canceled() {
    let mut scene = Scene::default();
    scene.world.peer_mut(scene.carrier).on(
        "REFER",
        steps([(300, respond(202)), (600, notify("200 OK", TERMINATED))]),
    );
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(100);
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("transfer_platform_bye", &scene.world);
    is(&scene, 487, None, "canceled", "call_ended");
    // What comes of it is still told, once the NOTIFY is there.
    assert_eq!(events(&scene), [200]);
}

#[test]
fn after_a_bye_of_the_platform_the_notifies_still_tell() {
    for (last, expected) in [
        (Some("200 OK"), (Some(200), "success", "notify_final")),
        (Some("486 Busy Here"), (Some(486), "failed", "notify_final")),
        (None, (None, "unknown", "call_ended")),
    ] {
        let mut scene = Scene::default();
        let mut course = vec![(10, respond(202)), (20, notify("100 Trying", "active;expires=600"))];
        course.extend(last.map(|last| (8_000, notify(last, TERMINATED))));
        scene.world.peer_mut(scene.carrier).on("REFER", steps(course));
        let call = scene.answered();
        accepted(scene.verbs(&call, refer()));
        scene.run(1_000);
        scene.platform_does(&call, request(BYE));
        scene.world.finish();
        let (last, result, cause) = expected;
        is(&scene, 202, last, result, cause);
        assert_eq!(actions(&scene)[0].body["call_status"], "completed");
    }
}

#[test]
fn a_notify_after_the_end_of_the_dialog_is_answered_200() {
    let (mut scene, _) = after(steps([
        (10, respond(202)),
        (100, notify("100 Trying", ACTIVE)),
        (200, request(BYE)),
        (5_000, notify("200 OK", TERMINATED)),
    ]));
    scene.world.finish();
    assert_ladder("transfer_tombstone", &scene.world);
    is(&scene, 202, None, "unknown", "bye_while_ringing");
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [200, 200]);
    assert_eq!(events(&scene), [100, 200]);
}

#[test]
fn while_the_call_is_being_ended_a_bye_gets_200_and_others_481() {
    let (mut scene, call) = after(steps([(10, respond(202)), (500, notify("200 OK", TERMINATED))]));
    // The action is answered at 2.503, our BYEs leave then.
    scene.run(503);
    scene.platform_does(&call, request("INFO"));
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("transfer_ending", &scene.world);
    is(&scene, 202, Some(200), "success", "notify_final");
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [481]);
    assert_eq!(scene.world.peer(scene.platform).outcomes(BYE), [200]);
}

#[test]
fn a_bye_that_is_challenged_may_come_again() {
    let mut scene = Scene::default();
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(1_000);
    // The platform challenges the carrier's BYE; the numbers of the call are shifted, so its state must last.
    scene
        .world
        .peer_mut(scene.platform)
        .on(BYE, steps([(10, respond(407))]));
    scene.carrier_does(&call, request(BYE));
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.carrier).outcomes(BYE), [407]);
    scene.carrier_does(
        &call,
        Act::Again {
            method: BYE.into(),
            headers: vec![("Proxy-Authorization".into(), "Digest x".into())],
        },
    );
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.carrier).outcomes(BYE), [407, 200]);
}

#[test]
fn nothing_of_a_list_runs_once_a_party_hangs_up() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(300, respond(603))]));
    let call = scene.answered();
    scene.verbs(&call, json!([refer(), {"verb": "sip:refer", "referTo": "+4930222"}]));
    scene.run(100);
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    is(&scene, 487, None, "canceled", "call_ended");
    assert_eq!(scene.world.peer(scene.carrier).heard("REFER").len(), 1);
}

#[test]
fn a_repeated_2xx_does_not_bring_back_a_call_that_is_being_ended() {
    let mut scene = Scene::default();
    // The platform misses the ACK and repeats its 200 while our BYEs are on their way.
    scene.world.network.lose("referee", "platform", "ACK", 1);
    scene.world.network.lose("referee", "platform", "BYE", 3);
    scene.world.network.lose("referee", "carrier", "BYE", 3);
    let call = scene.call();
    scene.run(1_100);
    let selector = CallSelector::SipCallId(call.clone().into_bytes());
    scene.world.command(Command::Hangup { call: selector });
    scene.run(1_000);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("hangup_and_repeated_200", &scene.world);
    assert_eq!(scene.world.peer(scene.carrier).outcomes(BYE), [200]);
}

// ---- refused verbs ----

#[test]
fn a_second_transfer_while_one_runs_is_busy() {
    let (mut scene, call) = after(course("486 Busy Here", 3_000));
    scene.run(100);
    let refusal = refused(scene.verbs(&call, refer()));
    assert_eq!((refusal.status, refusal.code), (409, "busy"));
    scene.run(10_000);
    is(&scene, 202, Some(486), "failed", "notify_final");
    goes_on(&mut scene, &call);
}

#[test]
fn a_verb_before_the_answer_is_refused() {
    let mut scene = Scene::default();
    let call = scene.call();
    scene.run(500);
    let refusal = refused(scene.verbs(&call, refer()));
    assert_eq!((refusal.status, refusal.code), (409, "not_answered"));
    scene.run(1_500);
    goes_on(&mut scene, &call);
    let refusal = refused(scene.verbs(&call, refer()));
    assert_eq!((refusal.status, refusal.code), (404, "not_found"));
}

#[test]
fn a_verb_that_cannot_run_names_its_field() {
    let no_base = TWO_SIDES.replace("[hooks]\nbase_url = \"https://app.example.com\"\n", "");
    let only_49 = TWO_SIDES.replacen("destinations = [\"*\"]", "destinations = [\"+49*\"]", 1);
    let both_carriers = TWO_SIDES.replace("side = \"platform\"", "side = \"carrier\"");
    let target = |to: &str| json!({"verb": "sip:refer", "referTo": to});
    for (config, verb, field, code) in [
        (
            only_49.as_str(),
            target("+4412345"),
            "referTo",
            "destination_not_allowed",
        ),
        (
            only_49.as_str(),
            target("sip:x@evil.example"),
            "referTo",
            "destination_not_allowed",
        ),
        (TWO_SIDES, target("sip:a b@x"), "referTo", "invalid"),
        (no_base.as_str(), refer(), "actionHook", "invalid"),
        (both_carriers.as_str(), refer(), "leg", "invalid"),
    ] {
        let mut scene = Scene::with(config, carrier(), platform());
        let call = scene.answered();
        let refusal = refused(scene.verbs(&call, verb.clone()));
        assert_eq!((refusal.status, refusal.code), (422, code), "{verb} {refusal:?}");
        assert_eq!(refusal.field.as_deref(), Some(field), "{verb}");
        goes_on(&mut scene, &call);
        assert!(scene.world.application.posted().is_empty());
        assert!(scene.world.peer(scene.carrier).heard("REFER").is_empty());
    }
}

#[test]
fn without_a_base_the_default_hook_goes_nowhere() {
    let no_base = TWO_SIDES.replace("[hooks]\nbase_url = \"https://app.example.com\"\n", "");
    let mut scene = Scene::with(&no_base, carrier(), platform());
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    let id = accepted(scene.verbs(&call, json!({"verb": "sip:refer", "referTo": "+4930111"})));
    scene.run(60_000);
    assert!(scene.world.application.posted().is_empty());
    assert!(scene.world.peer(scene.carrier).live_calls().is_empty());
    let ticket = scene.world.command(Command::Transfer {
        id: id.parse().unwrap(),
    });
    let Some(Reply::Transfer(view)) = scene.world.reply(ticket) else {
        panic!("{:?}", scene.world.reply(ticket))
    };
    assert_eq!(
        (view.refer_result, view.refer_cause),
        (Some("success"), Some("notify_final"))
    );
    assert_eq!(view.events, [100, 180, 200]);
}

#[test]
fn a_dry_run_shows_the_refer_and_sends_nothing() {
    let mut scene = Scene::default();
    let call = scene.answered();
    let verbs = referee::verb::parse(&refer()).unwrap();
    let ticket = scene.world.command(Command::Verbs {
        call: CallSelector::SipCallId(call.clone().into_bytes()),
        verbs,
        dry_run: true,
    });
    let Some(Reply::WouldSend { message }) = scene.world.reply(ticket).cloned() else {
        panic!("{:?}", scene.world.reply(ticket))
    };
    let shown = Text::read(message.as_bytes()).unwrap();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(5, respond(603))]));
    accepted(scene.verbs(&call, refer()));
    scene.run(1_000);
    let sent = scene.world.peer(scene.carrier).heard("REFER")[0].clone();
    let but_via = |text: &Text| {
        text.headers
            .iter()
            .filter(|(name, _)| name != "Via")
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!((&shown.first, but_via(&shown)), (&sent.first, but_via(&sent)));
    goes_on(&mut scene, &call);
}

#[test]
fn no_more_transfers_than_are_allowed() {
    let mut scene = Scene::default();
    let call = scene.answered();
    for _ in 0..5 {
        accepted(scene.verbs(&call, refer()));
        scene.run(1_000);
    }
    let refusal = refused(scene.verbs(&call, refer()));
    assert_eq!((refusal.status, refusal.code), (409, "too_many_transfers"));
    assert_eq!(actions(&scene).len(), 5);
    goes_on(&mut scene, &call);
}

#[test]
fn a_hangup_cancels_the_transfer_and_ends_the_call() {
    let (mut scene, call) = after(steps([(10, respond(202)), (20, notify("180 Ringing", ACTIVE))]));
    scene.run(1_000);
    let call_selector = CallSelector::SipCallId(call.into_bytes());
    scene.world.command(Command::Hangup { call: call_selector });
    scene.world.finish();
    is(&scene, 202, None, "canceled", "hangup");
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1);
    }
}

#[test]
fn a_hangup_before_the_answer_cancels_downstream() {
    let mut scene = Scene::default();
    let call = scene.call();
    scene.run(500);
    let call = CallSelector::SipCallId(call.into_bytes());
    scene.world.command(Command::Hangup { call });
    scene.world.finish();
    assert_ladder("hangup_before_answer", &scene.world);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [487]);
}

#[test]
fn verbs_run_one_after_another() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", course("486 Busy Here", 2_000));
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    let verbs = json!([
        {"verb": "tag", "data": {"case": 7}},
        {"verb": "pause", "length": 1.5},
        {"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/first"},
        {"verb": "sip:refer", "referTo": "+4930222", "actionHook": "/second"},
        {"verb": "hangup"}
    ]);
    scene.verbs(&call, verbs);
    scene.world.finish();
    assert_ladder("transfer_list", &scene.world);
    let actions = actions(&scene);
    assert_eq!(actions.len(), 2);
    assert_eq!(actions[0].body["customerData"], json!({"case": 7}));
    assert_eq!(actions[1].body["refer_result"], "success");
    assert_eq!(
        scene.world.peer(scene.carrier).heard_at("REFER")[0],
        Instant::from_millis(3_501)
    );
}

/// Answers the next action with these verbs.
fn reply(scene: &mut Scene, verbs: Value) {
    scene.world.application.answer_action(Answer {
        reply: Some(verbs),
        ..Answer::default()
    });
}

#[test]
fn the_application_may_name_a_second_target() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(5, respond(603))]));
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let second =
        json!([{"verb": "sip:refer", "id": "t2", "referTo": "sip:queue@backup.example", "actionHook": "/ref2"}]);
    reply(&mut scene, second);
    let call = scene.answered();
    // What was left of the list gives way to the reply.
    scene.verbs(&call, json!([refer(), {"verb": "hangup"}]));
    scene.world.finish();
    assert_ladder("transfer_second_target", &scene.world);
    let results: Vec<_> = actions(&scene)
        .iter()
        .map(|action| (action.body["id"].clone(), action.body["refer_result"].clone()))
        .collect();
    assert_eq!(
        results,
        [(json!("t1"), json!("failed")), (json!("t2"), json!("success"))]
    );
    let refers = scene.world.peer(scene.carrier).heard("REFER");
    assert_eq!(refers[1].header("Refer-To"), Some("<sip:queue@backup.example>"));
}

#[test]
fn a_target_in_a_reply_that_is_not_allowed_is_an_execution_that_fails_here() {
    let only_49 = TWO_SIDES.replacen("destinations = [\"*\"]", "destinations = [\"+49*\"]", 1);
    let mut scene = Scene::with(&only_49, carrier(), platform());
    reply(
        &mut scene,
        json!([{"verb": "sip:refer", "referTo": "sip:x@evil.example", "actionHook": "/ref2"}]),
    );
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(5_000);
    let actions = actions(&scene);
    assert_eq!(actions.len(), 2);
    let body = &actions[1].body;
    assert_eq!(
        (&body["refer_status"], &body["refer_cause"]),
        (&json!(400), &json!("invalid_target"))
    );
    assert_eq!(body["refer_status_source"], "local");
    assert_eq!(scene.world.peer(scene.carrier).heard("REFER").len(), 1);
    goes_on(&mut scene, &call);
}

#[test]
fn a_reply_that_cannot_be_read_or_used_lets_the_list_go_on() {
    for answer in [
        Answer {
            reply: Some(json!([{"verb": "say", "text": "sorry"}])),
            ..Answer::default()
        },
        Answer {
            reply: Some(json!([])),
            ..Answer::default()
        },
        Answer {
            reply: Some(json!({"verb": "hangup"})),
            ..Answer::default()
        },
        Answer {
            status: 500,
            ..Answer::default()
        },
    ] {
        let mut scene = Scene::default();
        scene.world.application.answer_action(answer);
        let call = scene.answered();
        scene.verbs(
            &call,
            json!([refer(), {"verb": "sip:refer", "referTo": "+4930222", "actionHook": "/b"}]),
        );
        scene.run(5_000);
        assert_eq!(actions(&scene).len(), 2);
        goes_on(&mut scene, &call);
    }
}

#[test]
fn after_a_success_a_reply_may_only_dress_the_bye() {
    let mut scene = Scene::default();
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let verbs = json!([
        {"verb": "sip:refer", "referTo": "+4930222"},
        {"verb": "hangup", "headers": {"X-Done": "yes"}}
    ]);
    reply(&mut scene, verbs);
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    is(&scene, 202, Some(200), "success", "notify_final");
    for peer in [scene.carrier, scene.platform] {
        let bye = scene.world.peer(peer).heard(BYE)[0].clone();
        assert_eq!(bye.header("X-Done"), Some("yes"));
    }
}

#[test]
fn a_dialog_that_is_unknown_twice_is_over() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(5, respond(481))]));
    scene
        .world
        .peer_mut(scene.carrier)
        .on("INFO", steps([(5, respond(481))]));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(1_000);
    is(&scene, 481, None, "failed", "no_dialog");
    assert!(scene.world.peer(scene.platform).is_up(&call));
    scene.platform_does(&call, request("INFO"));
    // At once: that the platform knows the call says nothing of the carrier.
    scene.run(100);
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [481]);
    assert_eq!(scene.world.peer(scene.platform).heard(BYE).len(), 1);
    scene.world.finish();
}

#[test]
fn a_carrier_that_knows_no_refer_but_the_dialog_keeps_its_call() {
    let mut scene = Scene::default();
    for _ in 0..3 {
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", steps([(5, respond(481))]));
    }
    let call = scene.answered();
    for _ in 0..3 {
        accepted(scene.verbs(&call, refer()));
        scene.run(1_000);
        // An answer to something else says that the dialog is there.
        scene.platform_does(&call, request("INFO"));
        scene.run(1_000);
    }
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [200, 200, 200]);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert!(scene.world.peer(scene.carrier).heard(BYE).is_empty());
}

/// RFC 3261 §12.2.1.2: 481 says that the dialog is gone, and a request within the dialog that it is not.
#[test]
fn a_carrier_that_speaks_in_the_dialog_between_two_481_keeps_its_call() {
    let mut scene = Scene::default();
    let call = scene.answered();
    for _ in 0..2 {
        let unknown = steps([(5, respond(481))]);
        scene.world.peer_mut(scene.carrier).on("REFER", unknown);
        accepted(scene.verbs(&call, refer()));
        scene.run(1_000);
        scene.carrier_does(&call, request("INFO"));
        scene.run(1_000);
    }
    scene.run(60_000);
    assert!(scene.world.peer(scene.platform).is_up(&call));
    assert!(scene.world.peer(scene.carrier).heard(BYE).is_empty());
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_hangup_that_the_answer_crosses_ends_the_call_after_its_ack() {
    let mut scene = Scene::default();
    let call = scene.call();
    // The 200 leaves the platform before the CANCEL arrives there.
    scene
        .world
        .network
        .delay("referee", "platform", "CANCEL", Duration::from_millis(50));
    scene.run(1_000);
    let selector = CallSelector::SipCallId(call.into_bytes());
    scene.world.command(Command::Hangup { call: selector });
    scene.world.finish();
    assert_ladder("hangup_crosses_200", &scene.world);
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1);
    }
}

/// A call whose 200 has reached the caller, and whose ACK takes another half a second.
fn without_ack() -> (Scene, String) {
    let mut scene = Scene::default();
    let call = scene.call();
    let slow = Duration::from_millis(500);
    scene.world.network.delay("carrier", "referee", "ACK", slow);
    scene.run(1_100);
    (scene, call)
}

#[test]
fn a_refer_waits_for_the_ack_of_the_answer() {
    let (mut scene, call) = without_ack();
    let mut verb = refer();
    verb["leg"] = json!("callee");
    verb["referTo"] = json!("sip:carol@example.com");
    scene
        .world
        .peer_mut(scene.platform)
        .on("REFER", course("486 Busy Here", 2_000));
    accepted(scene.verbs(&call, verb));
    scene.run(10_000);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("transfer_before_ack", &scene.world);
    is(&scene, 202, Some(486), "failed", "notify_final");
}

#[test]
fn a_hangup_waits_for_the_ack_of_the_answer() {
    let (mut scene, call) = without_ack();
    let selector = CallSelector::SipCallId(call.into_bytes());
    scene.world.command(Command::Hangup { call: selector });
    scene.world.finish();
    assert_ladder("hangup_before_ack", &scene.world);
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1);
    }
}

#[test]
fn nothing_runs_behind_a_hangup_that_waits_for_an_ack() {
    // RFC 3261 §15: its BYEs wait for the ACK of the answer, and the call is up until then.
    let (mut scene, call) = without_ack();
    let pause = json!({"verb": "pause", "length": 0.1});
    scene.verbs(&call, json!([pause, {"verb": "hangup"}]));
    let behind = scene.verbs(&call, json!([pause, {"verb": "tag", "data": {"a": 1}}]));
    assert!(matches!(behind, Reply::Accepted { .. }));
    scene.run(200);
    let refusal = refused(scene.verbs(&call, refer()));
    assert_eq!((refusal.status, refusal.code), (409, "busy"));
    scene.world.finish();
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1);
    }
}

#[test]
fn what_an_application_answers_does_not_run_behind_a_hangup_that_waits_for_an_ack() {
    let mut scene = Scene::default();
    scene.world.network.lose("carrier", "referee", "ACK", 100);
    scene.world.network.lose("platform", "referee", BYE, 100);
    reply(&mut scene, json!([{"verb": "pause", "length": 1}, refer()]));
    let call = scene.answered();
    let mut verb = refer();
    verb["timeout"] = json!(2);
    accepted(scene.verbs(&call, verb));
    let selector = CallSelector::SipCallId(call.into_bytes());
    scene.world.command(Command::Hangup { call: selector });
    scene.world.finish();
    let [action] = &actions(&scene)[..] else {
        panic!("another ran");
    };
    assert_eq!(action.body["refer_result"], "failed");
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1);
    }
}

#[test]
fn a_hangup_waits_no_longer_than_an_ack_may_take() {
    for cancelled in [false, true] {
        let mut scene = Scene::default();
        let call = scene.call();
        let network = &mut scene.world.network;
        network.lose("carrier", "referee", "ACK", 100);
        network.lose("platform", "referee", BYE, 100);
        network.delay("referee", "platform", "CANCEL", Duration::from_millis(50));
        // At 1.000 the 200 is about to leave the platform; at 1.100 it has reached the carrier.
        scene.run(if cancelled { 1_000 } else { 1_100 });
        let selector = CallSelector::SipCallId(call.clone().into_bytes());
        scene.world.command(Command::Hangup { call: selector });
        scene.run(31_500);
        for peer in [scene.carrier, scene.platform] {
            assert!(scene.world.peer(peer).heard(BYE).is_empty());
        }
        scene.world.finish();
        // RFC 3261 §15: 64·T1 after the answer a BYE may leave without its ACK.
        for peer in [scene.carrier, scene.platform] {
            assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1, "{cancelled}");
        }
    }
}

#[test]
fn a_refer_that_waits_for_an_ack_ends_with_the_call() {
    let (mut scene, call) = without_ack();
    accepted(scene.verbs(&call, refer()));
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    assert!(scene.world.peer(scene.carrier).heard("REFER").is_empty());
    is(&scene, 487, None, "canceled", "call_ended");
}

// ---- numbers ----

#[test]
fn a_second_transfer_has_its_own_event_id() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", course("486 Busy Here", 2_000));
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(5_000);
    scene.platform_does(&call, request("INFO"));
    scene.run(500);
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    assert_ladder("transfer_twice", &scene.world);
    assert_eq!(numbers(&scene.world.peer(scene.carrier).heard("REFER")), [1, 3]);
    let last = scene.world.peer(scene.carrier).said("NOTIFY 200")[0].clone();
    assert_eq!(last.header("Event"), Some("refer;id=3"));
    let results: Vec<_> = actions(&scene)
        .iter()
        .map(|action| action.body["refer_result"].clone())
        .collect();
    assert_eq!(results, ["failed", "success"]);
}

#[test]
fn numbers_are_mapped_in_both_directions_after_a_refer() {
    let mut carrier = carrier();
    carrier.manners.first_cseq = 100;
    let mut platform = platform();
    platform.manners.first_cseq = 40;
    let mut scene = Scene::with(TWO_SIDES, carrier, platform);
    let call = scene.answered();
    scene.platform_does(&call, request("INFO"));
    scene.run(100);
    accepted(scene.verbs(&call, refer()));
    scene.run(100);
    // A re-INVITE with a reliable provisional response, and its ACK.
    let reliable = respond_with(183, &[("Require", "100rel"), ("RSeq", "1")]);
    let answers = steps([(50, reliable), (400, respond(200))]);
    scene.world.peer_mut(scene.carrier).on("INVITE", answers);
    scene.platform_does(&call, request("INVITE"));
    scene.run(1_000);
    scene.platform_does(&call, request("INFO"));
    scene.carrier_does(&call, request("INFO"));
    scene.run(1_000);
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    let heard = |label: &str| numbers(&scene.world.peer(scene.carrier).heard(label));
    assert_eq!(heard("INFO"), [40, 44]);
    assert_eq!(heard("REFER"), [41]);
    assert_eq!(heard("re-INVITE"), [42]);
    assert_eq!(heard("PRACK"), [43]);
    assert_eq!(heard("ACK"), [42]);
    assert_eq!(heard(BYE), [45]);
    let prack = scene.world.peer(scene.carrier).heard("PRACK")[0].clone();
    assert_eq!(prack.header("RAck"), Some("1 42 INVITE"));
    let said = |label: &str| numbers(&scene.world.peer(scene.platform).said(label));
    assert_eq!(said("INFO"), [40, 43]);
    assert_eq!(said("re-INVITE"), [41]);
    assert_eq!(said("PRACK"), [42]);
    // Responses come back with the numbers the platform knows, which its checks look at; the carrier's own are not shifted.
    assert_eq!(scene.world.peer(scene.platform).outcomes("INVITE"), [200]);
    assert_eq!(numbers(&scene.world.peer(scene.platform).heard("INFO")), [101]);
}

#[test]
fn a_refer_leaves_numbers_for_what_follows_it() {
    // RFC 3261 §8.1.1.5: no CSeq is above 2^31 - 1. A call that referee has put a REFER into can still be ended by it, and its
    // parties, who know nothing of that one, can still speak.
    for (first_cseq, may_refer) in [
        (NUMBER_MAX - ROOM - 2, true),
        (NUMBER_MAX - ROOM, false),
        (NUMBER_MAX - 2, false),
    ] {
        let mut carrier = carrier();
        carrier.manners.first_cseq = first_cseq;
        let mut scene = Scene::with(TWO_SIDES, carrier, platform());
        scene
            .world
            .peer_mut(scene.platform)
            .on("REFER", steps([(10, respond(603))]));
        let call = scene.answered();
        // The platform gets it in the name of the carrier.
        let mut verb = refer();
        verb["leg"] = json!("callee");
        accepted(scene.verbs(&call, verb));
        scene.run(1_000);
        assert_eq!(
            scene.world.peer(scene.platform).heard("REFER").len(),
            usize::from(may_refer)
        );
        let cause = if may_refer { "rejected" } else { "unsendable" };
        assert_eq!(actions(&scene)[0].body["refer_cause"], cause);
        if may_refer {
            for _ in 0..20 {
                scene.carrier_does(&call, request("INFO"));
                scene.run(1_000);
            }
            assert_eq!(scene.world.peer(scene.carrier).outcomes("INFO"), [200; 20]);
        }
        let selector = CallSelector::SipCallId(call.into_bytes());
        scene.world.command(Command::Hangup { call: selector });
        scene.world.finish();
        for peer in [scene.carrier, scene.platform] {
            assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1, "{first_cseq}");
        }
    }
}

#[test]
fn a_platform_that_counts_from_zero_is_shifted_above_our_refer() {
    let mut scene = Scene::default();
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(1_000);
    let (heard, route) = {
        let platform = scene.world.peer(scene.platform);
        let invite = platform.heard("INVITE")[0].clone();
        (invite.clone(), invite.list("Record-Route"))
    };
    let answer = scene.world.peer(scene.platform).said("200 OK (INVITE)")[0].clone();
    let info = format!(
        "INFO {} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKzero\r\nMax-Forwards: 70\r\nRoute: {}\r\n\
         From: {}\r\nTo: {}\r\nCall-ID: {call}\r\nCSeq: 0 INFO\r\nContent-Length: 0\r\n\r\n",
        uri_of(heard.header("Contact").unwrap()),
        route.join(", "),
        answer.header("To").unwrap(),
        answer.header("From").unwrap(),
    );
    scene.world.say(scene.platform, &info);
    scene.run(1_000);
    assert_eq!(numbers(&scene.world.peer(scene.carrier).heard("REFER")), [1]);
    assert_eq!(numbers(&scene.world.peer(scene.carrier).heard("INFO")), [2]);
    let back = scene.world.peer(scene.platform).heard("200 OK (INFO)")[0].clone();
    assert_eq!(back.cseq(), (0, "INFO"));
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_transfer_of_a_call_that_the_platform_made() {
    let mut scene = Scene::default();
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.world.call(scene.platform, "sip:+491701@10.0.0.1", &[]);
    scene.run(2_000);
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    assert_ladder("transfer_outbound", &scene.world);
    is(&scene, 202, Some(200), "success", "notify_final");
    let refer = scene.world.peer(scene.carrier).heard("REFER")[0].clone();
    let invite = scene.world.peer(scene.carrier).heard("INVITE")[0].clone();
    assert_eq!(refer.cseq().0, 2);
    assert_eq!(refer.header("From"), invite.header("From"));
    assert_eq!(refer.header("Contact"), invite.header("Contact"));
    assert_eq!(refer.header("Referred-By"), Some("<sip:+491701@10.0.0.1>"));
    assert_eq!(actions(&scene)[0].body["direction"], "outbound");
}

#[test]
fn requests_of_the_platform_wait_for_an_answer_to_the_refer_half_a_second_at_most() {
    for (answer_after, passes_at) in [(200u64, 2_203u64), (5_000, 2_501)] {
        let mut scene = Scene::default();
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", steps([(answer_after, respond(603))]));
        let call = scene.answered();
        accepted(scene.verbs(&call, refer()));
        scene.run(10);
        scene.platform_does(&call, request("INFO"));
        scene.run(10_000);
        let at = scene.world.peer(scene.carrier).heard_at("INFO");
        assert_eq!(at, [Instant::from_millis(passes_at)], "\n{}", scene.world.ladder());
        assert_eq!(scene.world.shard(0).counters().held_total, 1);
        goes_on_with_two(&mut scene, &call);
    }
}

fn goes_on_with_two(scene: &mut Scene, call: &str) {
    scene.carrier_does(call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [200]);
}

#[test]
fn a_contact_that_only_referee_saw_change_is_followed() {
    let mut scene = Scene::default();
    let moved = "<sip:moved@198.51.100.10:5060>";
    let moves = steps([
        (10, respond(202)),
        (50, Act::Move { contact: moved.into() }),
        (60, notify("100 Trying", ACTIVE)),
        (1_000, notify("486 Busy Here", TERMINATED)),
    ]);
    scene.world.peer_mut(scene.carrier).on("REFER", moves);
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(3_000);
    scene.platform_does(&call, request("INFO"));
    scene.run(100);
    let info = scene.world.peer(scene.carrier).heard("INFO")[0].clone();
    assert_eq!(info.request_uri(), "sip:moved@198.51.100.10:5060");
    let said = scene.world.peer(scene.platform).said("INFO")[0].clone();
    assert_eq!(said.request_uri(), "sip:user@198.51.100.10:5060");
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    let bye = scene.world.peer(scene.carrier).heard(BYE)[0].clone();
    assert_eq!(bye.request_uri(), "sip:moved@198.51.100.10:5060");
}

/// RFC 3261 §12.2.1.2: the remote target is the last Contact of a target refresh. One that the other party has seen is the one
/// it sends to; a response without a Contact shows none.
#[test]
fn a_contact_that_changes_unseen_is_followed_until_the_other_party_sees_one() {
    let (first, moved) = ("sip:user@198.51.100.10:5060", "sip:moved@198.51.100.10:5060");
    let mut scene = Scene::default();
    let moves = steps([
        (
            5,
            Act::Move {
                contact: format!("<{moved}>"),
            },
        ),
        (10, respond(202)),
        (100, notify("486 Busy Here", TERMINATED)),
    ]);
    scene.world.peer_mut(scene.carrier).on("REFER", moves);
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(1_000);
    let targets = |scene: &mut Scene| {
        scene.platform_does(&call, request("INFO"));
        scene.run(100);
        let said = scene.world.peer(scene.platform).said("INFO");
        let heard = scene.world.peer(scene.carrier).heard("INFO");
        let uri = |texts: Vec<&Text>| texts.last().map(|text| text.request_uri().to_owned());
        (uri(said).unwrap(), uri(heard).unwrap())
    };
    assert_eq!(targets(&mut scene), (first.into(), moved.into()));
    let state = [("Event", "x"), ("Subscription-State", "active;expires=60")];
    scene.platform_does(&call, request_with("NOTIFY", &state, ""));
    scene.run(100);
    let answers = scene.world.peer(scene.platform).heard("200 OK (NOTIFY)");
    assert!(answers.last().is_some_and(|ok| ok.header("Contact").is_none()));
    assert_eq!(targets(&mut scene), (first.into(), moved.into()));
    // Back where it was, and this time for all to see.
    scene.carrier_does(
        &call,
        Act::Move {
            contact: format!("<{first}>"),
        },
    );
    scene.carrier_does(&call, request("INVITE"));
    scene.run(1_000);
    assert_eq!(targets(&mut scene), (first.into(), first.into()));
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
}

// ---- REFERs of a party's own ----

#[test]
fn a_refer_of_the_platform_is_relayed_and_its_event_id_mapped() {
    let mut scene = Scene::default();
    let call = scene.answered();
    // A transfer of ours first, so that numbers are shifted.
    accepted(scene.verbs(&call, refer()));
    scene.run(1_000);
    let relayed = steps([
        (10, respond(202)),
        (20, notify("100 Trying", ACTIVE)),
        (500, notify("486 Busy Here", TERMINATED)),
    ]);
    scene.world.peer_mut(scene.carrier).on("REFER", relayed);
    let headers = [("Refer-To", "<sip:x@y>"), ("Referred-By", "<sip:bot@platform.example>")];
    scene.platform_does(&call, request_with("REFER", &headers, ""));
    scene.run(100);
    let refusal = refused(scene.verbs(&call, refer()));
    assert_eq!((refusal.status, refusal.code), (409, "busy"));
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.platform).outcomes("REFER"), [202]);
    assert_eq!(numbers(&scene.world.peer(scene.carrier).heard("REFER")), [1, 2]);
    let said = scene.world.peer(scene.carrier).said("NOTIFY")[0].clone();
    assert_eq!(said.header("Event"), Some("refer;id=2"));
    let heard = scene.world.peer(scene.platform).heard("NOTIFY");
    assert_eq!(heard.len(), 2);
    assert!(heard.iter().all(|text| text.header("Event") == Some("refer;id=1")));
    // Its subscription is over: a transfer of ours may follow.
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    assert_ladder("relayed_refer", &scene.world);
    assert_eq!(actions(&scene).len(), 2);
}

#[test]
fn a_refer_of_the_carrier_is_declined() {
    let mut scene = Scene::default();
    let call = scene.answered();
    let headers = [("Refer-To", "<sip:x@y>"), ("Referred-By", "<sip:a@b>")];
    scene.carrier_does(&call, request_with("REFER", &headers, ""));
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("REFER"), [603]);
    assert!(scene.world.peer(scene.platform).heard("REFER").is_empty());
    goes_on(&mut scene, &call);
}

#[test]
fn a_refer_of_a_party_while_ours_is_open_is_glare() {
    let (mut scene, call) = after(course("486 Busy Here", 3_000));
    scene.run(1_500);
    let headers = [("Refer-To", "<sip:x@y>"), ("Referred-By", "<sip:a@b>")];
    scene.platform_does(&call, request_with("REFER", &headers, ""));
    scene.run(10_000);
    assert_eq!(scene.world.peer(scene.platform).outcomes("REFER"), [491]);
    is(&scene, 202, Some(486), "failed", "notify_final");
    goes_on(&mut scene, &call);
}

// ---- odd NOTIFYs ----

#[test]
fn odd_notifies_are_understood() {
    let with = |headers: &[(&str, &str)], body: &str| request_with("NOTIFY", headers, body);
    let state = ("Subscription-State", TERMINATED);
    let frag = ("Content-Type", "message/sipfrag");
    for (what, odd) in [
        (
            "line feeds only",
            with(&[("Event", "refer"), state, frag], "SIP/2.0 200 OK\n"),
        ),
        (
            "no line end",
            with(&[("Event", "refer"), state, frag], "SIP/2.0 200 OK"),
        ),
        ("no reason", with(&[("Event", "refer"), state, frag], "SIP/2.0 200\r\n")),
        (
            "further headers",
            with(&[("Event", "refer"), state, frag], "SIP/2.0 200 OK\r\nReason: x\r\n"),
        ),
        (
            "upper case",
            with(
                &[("Event", "REFER"), state, ("Content-Type", "MESSAGE/SIPFRAG")],
                "SIP/2.0 200 OK\r\n",
            ),
        ),
        (
            "an id on the first",
            with(&[("Event", "refer;id=1"), state, frag], "SIP/2.0 200 OK\r\n"),
        ),
        ("no Event", with(&[state, frag], "SIP/2.0 200 OK\r\n")),
        (
            "still active",
            with(
                &[("Event", "refer"), ("Subscription-State", "active"), frag],
                "SIP/2.0 200 OK\r\n",
            ),
        ),
        ("no state", with(&[("Event", "refer"), frag], "SIP/2.0 200 OK\r\n")),
    ] {
        let (mut scene, _) = after(steps([(10, respond(202)), (500, odd)]));
        scene.world.finish();
        assert_eq!(events(&scene), [200], "{what}");
        is(&scene, 202, Some(200), "success", "notify_final");
    }
}

#[test]
fn a_notify_that_cannot_be_read_is_answered_and_waited_past() {
    let unreadable = request_with(
        "NOTIFY",
        &[
            ("Event", "refer"),
            ("Subscription-State", ACTIVE),
            ("Content-Type", "text/plain"),
        ],
        "hello",
    );
    let (mut scene, _) = after(steps([
        (10, respond(202)),
        (50, unreadable),
        (500, notify("200 OK", TERMINATED)),
    ]));
    scene.world.finish();
    is(&scene, 202, Some(200), "success", "notify_final");
    assert_eq!(events(&scene), [200]);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [200, 200]);
    assert_eq!(scene.world.shard(0).counters().notifies_unreadable_total, 1);
}

#[test]
fn notifies_that_arrive_out_of_order() {
    let mut scene = Scene::default();
    scene
        .world
        .network
        .delay("carrier", "referee", "NOTIFY 180", Duration::from_millis(300));
    let course = steps([
        (10, respond(202)),
        (100, notify("180 Ringing", ACTIVE)),
        (200, notify("183 Session Progress", ACTIVE)),
        (900, notify("200 OK", TERMINATED)),
    ]);
    scene.world.peer_mut(scene.carrier).on("REFER", course);
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    // RFC 3261 §12.2.2: the one that was overtaken gets 500.
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [500, 200, 200]);
    assert_eq!(events(&scene), [183, 200]);
    is(&scene, 202, Some(200), "success", "notify_final");
}

#[test]
fn a_final_notify_that_was_overtaken_still_counts() {
    let mut scene = Scene::default();
    scene
        .world
        .network
        .delay("carrier", "referee", "NOTIFY 200", Duration::from_millis(300));
    let course = steps([
        (10, respond(202)),
        (100, notify("200 OK", ACTIVE)),
        (200, notify("", TERMINATED)),
    ]);
    scene.world.peer_mut(scene.carrier).on("REFER", course);
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    is(&scene, 202, Some(200), "success", "notify_final");
}

#[test]
fn a_notify_of_an_unknown_id_is_not_ours() {
    let odd = request_with(
        "NOTIFY",
        &[
            ("Event", "refer;id=77"),
            ("Subscription-State", TERMINATED),
            ("Content-Type", "message/sipfrag"),
        ],
        "SIP/2.0 200 OK\r\n",
    );
    let (mut scene, call) = after(steps([
        (10, respond(202)),
        (50, odd),
        (500, notify("486 Busy Here", TERMINATED)),
    ]));
    scene
        .world
        .peer_mut(scene.platform)
        .on("NOTIFY", steps([(0, respond(481))]));
    scene.run(5_000);
    is(&scene, 202, Some(486), "failed", "notify_final");
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [481, 200]);
    goes_on(&mut scene, &call);
}

// ---- roads that lead there ----

#[test]
fn a_transfer_of_peers_without_route_sets() {
    let (mut carrier, mut platform) = (carrier(), platform());
    carrier.manners.follows_routes = false;
    platform.manners.follows_routes = false;
    let mut scene = Scene::with(TWO_SIDES, carrier, platform);
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    is(&scene, 202, Some(200), "success", "notify_final");
}

#[test]
fn a_refer_waits_for_the_name_in_the_contact() {
    let mut carrier = carrier();
    carrier.manners.contact_host = Some("sbc.carrier.example:5060".into());
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    scene
        .world
        .name("sbc.carrier.example", &["198.51.100.10".parse().unwrap()]);
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    assert_ladder("transfer_name", &scene.world);
    is(&scene, 202, Some(200), "success", "notify_final");
}

#[test]
fn a_refer_to_a_name_without_an_address_fails() {
    let mut carrier = carrier();
    carrier.manners.contact_host = Some("nowhere.example".into());
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(1_000);
    let (_, _, result, _) = verdict(&scene);
    assert_eq!(result, "failed");
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn with_a_store_answers_wait_until_it_has_recorded() {
    let mut world = referee::sim::World::new(
        1,
        1,
        referee::sim::scene::config(TWO_SIDES),
        Some(Duration::from_millis(40)),
    );
    let (carrier, platform) = (world.add(carrier()), world.add(platform()));
    let mut scene = Scene {
        world,
        carrier,
        platform,
    };
    scene.world.peer_mut(carrier).on(
        "REFER",
        steps([(10, respond(202)), (500, notify("200 OK", TERMINATED))]),
    );
    let call = scene.answered();
    let ticket = scene.world.verbs(&call, &refer()).unwrap();
    assert!(scene.world.reply(ticket).is_none());
    scene.run(40);
    accepted(scene.world.reply(ticket).cloned().unwrap());
    scene.world.finish();
    assert_ladder("transfer_store", &scene.world);
    let at = scene.world.peer(carrier).heard_at("200 OK (NOTIFY)");
    assert_eq!(at, [Instant::from_millis(2_501 + 1 + 40 + 1)]);
}

fn numbers(texts: &[&Text]) -> Vec<u32> {
    texts.iter().map(|text| text.cseq().0).collect()
}

// ---- ends that cross ----

#[test]
fn a_final_notify_before_the_2xx_outweighs_the_bye_after_it() {
    for answered_after in [9, 400, 5_000] {
        let (mut scene, _) = after(steps([
            (5, notify("200 OK", TERMINATED)),
            (7, request(BYE)),
            (answered_after, respond(202)),
        ]));
        scene.world.finish();
        let (_, last, result, cause) = verdict(&scene);
        assert_eq!(
            (last, result.as_str(), cause.as_str()),
            (Some(200), "success", "notify_final"),
            "answered after {answered_after}\n{}",
            scene.world.ladder()
        );
    }
}

#[test]
fn notifies_without_a_status_after_a_bye_do_not_put_off_the_end_for_ever() {
    let mut course = vec![(10, respond(202)), (100, request(BYE))];
    course.extend((1..400).map(|i| (100 + i * 900, notify("", TERMINATED))));
    let (mut scene, _) = after(steps(course));
    scene.run(125_000);
    is(&scene, 202, None, "success", "bye_after_accept");
    scene.world.finish();
}

#[test]
fn an_expiry_beyond_the_total_arms_nothing() {
    let (mut scene, call) = after(steps([
        (10, respond(202)),
        (20, notify("100 Trying", "active;expires=4294967295")),
        (2_000, notify("486 Busy Here", TERMINATED)),
    ]));
    scene.run(200_000);
    is(&scene, 202, Some(486), "failed", "notify_final");
    // The one that watches over the call.
    assert_eq!(scene.world.shard(0).counters().timers, 1);
    goes_on(&mut scene, &call);
}

#[test]
fn a_refer_that_meets_the_bye_of_the_carrier_is_canceled_whatever_refuses_it() {
    for code in [481, 487, 603] {
        let (mut scene, _) = after(steps([(0, request(BYE)), (5, respond(code))]));
        scene.world.finish();
        is(&scene, 487, None, "canceled", "call_ended");
    }
}

#[test]
fn a_list_ends_with_the_transfer_that_succeeds() {
    let no_base = TWO_SIDES.replace("base_url = \"https://app.example.com\"", "");
    let mut scene = Scene::with(&no_base, carrier(), platform());
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    scene.verbs(
        &call,
        json!([{"verb": "sip:refer", "referTo": "+4930111"}, {"verb": "sip:refer", "referTo": "+4930222"}]),
    );
    scene.run(10_000);
    assert_eq!(scene.world.peer(scene.carrier).heard("REFER").len(), 1);
    assert_eq!(scene.world.peer(scene.platform).heard(BYE).len(), 1);
}

#[test]
fn a_list_goes_on_after_a_failure_that_nobody_is_told_of() {
    let no_base = TWO_SIDES.replace("base_url = \"https://app.example.com\"", "");
    let mut scene = Scene::with(&no_base, carrier(), platform());
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(5, respond(603))]));
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    scene.verbs(
        &call,
        json!([{"verb": "sip:refer", "referTo": "+4930111"}, {"verb": "sip:refer", "referTo": "+4930222"}]),
    );
    scene.run(10_000);
    assert_eq!(scene.world.peer(scene.carrier).heard("REFER").len(), 2);
}

#[test]
fn a_call_that_is_about_to_end_takes_no_second_transfer() {
    let mut scene = Scene::default();
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    scene.world.application.answer_action(Answer {
        after: Duration::from_millis(800),
        ..Answer::default()
    });
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(2_300);
    let refusal = refused(scene.verbs(&call, refer()));
    assert_eq!((refusal.status, refusal.code), (409, "busy"));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.carrier).heard("REFER").len(), 1);
}

#[test]
fn a_late_success_that_ends_the_call_ends_the_transfer_that_runs_on_it() {
    let mut scene = Scene::default();
    let late = request_with(
        "NOTIFY",
        &[
            ("Event", "refer;id=1"),
            ("Subscription-State", TERMINATED),
            ("Content-Type", "message/sipfrag"),
        ],
        "SIP/2.0 200 OK\r\n",
    );
    let late = steps([(10, respond(202)), (5_000, late)]);
    scene.world.peer_mut(scene.carrier).on("REFER", late);
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(10, respond(202))]));
    let call = scene.answered();
    accepted(scene.verbs(
        &call,
        json!({"verb": "sip:refer", "referTo": "+4930111", "timeout": 2, "actionHook": "/action"}),
    ));
    scene.run(3_000);
    accepted(scene.verbs(&call, refer()));
    scene.run(4_000);
    let ends: Vec<_> = actions(&scene)
        .iter()
        .map(|action| (action.body["refer_result"].clone(), action.body["refer_cause"].clone()))
        .collect();
    assert_eq!(
        ends,
        [
            (json!("unknown"), json!("no_notify")),
            (json!("canceled"), json!("call_ended"))
        ],
        "\n{}",
        scene.world.ladder()
    );
    scene.world.finish();
}

#[test]
fn a_transfer_that_is_to_be_remembered_no_longer_still_ends_its_call() {
    let config = format!("{TWO_SIDES}\n[limits]\ntransfers_remembered = 0\n");
    let mut scene = Scene::with(&config, carrier(), platform());
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(10_000);
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1, "\n{}", scene.world.ladder());
    }
    scene.world.finish();
}

#[test]
fn a_list_goes_on_where_no_transfer_is_remembered() {
    let config = format!("{TWO_SIDES}\n[limits]\ntransfers_remembered = 0\n");
    let mut scene = Scene::with(&config, carrier(), platform());
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", course("486 Busy Here", 2_000));
    let call = scene.answered();
    accepted(scene.verbs(&call, json!([refer(), {"verb": "hangup"}])));
    scene.run(10_000);
    assert_eq!(scene.world.peer(scene.carrier).heard(BYE).len(), 1);
    scene.world.finish();
}

#[test]
fn a_pause_lasts_whatever_an_application_answers_meanwhile() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(5, respond(603))]));
    scene.world.application.answer_action(Answer {
        after: Duration::from_secs(2),
        ..Answer::default()
    });
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(1_000);
    scene.verbs(&call, json!([{"verb": "pause", "length": 5}, {"verb": "hangup"}]));
    scene.run(4_500);
    assert!(
        scene.world.peer(scene.carrier).is_up(&call),
        "\n{}",
        scene.world.ladder()
    );
    // The list begins with the application's reply, at 2 s, which might have replaced it.
    scene.run(2_000);
    assert!(!scene.world.peer(scene.carrier).is_up(&call));
    scene.world.finish();
}

#[test]
fn a_wait_for_the_second_refer_is_not_ended_by_the_timer_of_the_first() {
    let mut scene = Scene::default();
    let again = steps([(400, respond_with(500, &[("Retry-After", "0")]))]);
    scene.world.peer_mut(scene.carrier).on("REFER", again);
    let slow = steps([(450, respond(202)), (500, notify("486 Busy Here", TERMINATED))]);
    scene.world.peer_mut(scene.carrier).on("REFER", slow);
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(450);
    scene.platform_does(&call, request("INFO"));
    scene.run(5_000);
    let refer_at = scene.world.peer(scene.carrier).heard_at("REFER")[1];
    let info_at = scene.world.peer(scene.carrier).heard_at("INFO")[0];
    assert!(
        info_at >= refer_at + Duration::from_millis(450),
        "\n{}",
        scene.world.ladder()
    );
    goes_on_with_two(&mut scene, &call);
}

#[test]
fn a_refer_that_is_not_relayed_blocks_no_transfer() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", course("486 Busy Here", 2_000));
    let call = scene.answered();
    let refused_here = request_with(
        "REFER",
        &[("Refer-To", "<sip:x@example.com>"), ("Proxy-Require", "foo")],
        "",
    );
    scene.platform_does(&call, refused_here);
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.platform).outcomes("REFER"), [420]);
    accepted(scene.verbs(&call, refer()));
    scene.run(10_000);
    is(&scene, 202, Some(486), "failed", "notify_final");
    goes_on(&mut scene, &call);
}

#[test]
fn a_refer_that_has_nowhere_to_go_says_transport() {
    let mut carrier = carrier();
    carrier.manners.contact_host = Some("nowhere.example".into());
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(1_000);
    is(&scene, 503, None, "failed", "transport");
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_bye_that_crosses_a_hangup_late_is_answered_200() {
    let mut scene = Scene::default();
    scene
        .world
        .network
        .delay("carrier", "referee", BYE, Duration::from_millis(300));
    let call = scene.answered();
    scene.carrier_does(&call, request(BYE));
    let ticket = scene.world.command(Command::Hangup {
        call: CallSelector::SipCallId(call.clone().into_bytes()),
    });
    assert!(matches!(scene.world.reply(ticket), Some(Reply::Done)));
    scene.world.finish();
    assert_eq!(
        scene.world.peer(scene.carrier).outcomes(BYE),
        [200],
        "\n{}",
        scene.world.ladder()
    );
    assert_eq!(scene.world.peer(scene.platform).heard(BYE).len(), 1);
}

#[test]
fn verbs_do_not_pile_up_behind_a_pause() {
    let mut scene = Scene::default();
    let call = scene.answered();
    scene.verbs(&call, json!({"verb": "pause", "length": 30}));
    let tags = || Value::Array(vec![json!({"verb": "tag", "data": {"a": 1}}); 64]);
    assert!(matches!(scene.verbs(&call, tags()), Reply::Accepted { .. }));
    assert!(matches!(scene.verbs(&call, tags()), Reply::Accepted { .. }));
    let refusal = refused(scene.verbs(&call, tags()));
    assert_eq!((refusal.status, refusal.code), (409, "busy"));
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_refer_goes_by_every_proxy_of_the_carrier_and_names_one_of_its_identities() {
    let mut carrier = carrier();
    // The proxies are where the carrier is, so that what is sent to the first of them arrives.
    carrier.manners.contact_host = Some("192.0.2.77:5060".into());
    // What it sends comes past them, without their Routes.
    carrier.manners.follows_routes = false;
    for line in [
        ("Record-Route", "<sip:198.51.100.10;lr>, <sip:192.0.2.9;lr>"),
        ("Record-Route", "<sip:192.0.2.8;lr>"),
        (
            "P-Asserted-Identity",
            "\"A, B\" <sip:+4917012@carrier.example>, <tel:+4917012>",
        ),
    ] {
        carrier.manners.headers.push((line.0.into(), line.1.into()));
    }
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", course("486 Busy Here", 2_000));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(5_000);
    let refer = scene.world.peer(scene.carrier).heard("REFER")[0].clone();
    assert_eq!(
        refer.list("Route"),
        ["<sip:198.51.100.10;lr>", "<sip:192.0.2.9;lr>", "<sip:192.0.2.8;lr>"]
    );
    assert_eq!(
        refer.header("Referred-By"),
        Some("\"A, B\" <sip:+4917012@carrier.example>")
    );
    scene.carrier_does(&call, request(BYE));
    scene.run(40_000);
}

#[test]
fn where_a_success_does_not_end_the_call_the_reply_runs() {
    let config = TWO_SIDES.replace("bare_number =", "bye_on_success = false\nbare_number =");
    let mut scene = Scene::with(&config, carrier(), platform());
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    reply(
        &mut scene,
        json!([{"verb": "tag", "data": {"a": 1}}, {"verb": "hangup"}]),
    );
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    is(&scene, 202, Some(200), "success", "notify_final");
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1, "\n{}", scene.world.ladder());
    }
}
