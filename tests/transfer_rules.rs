//! What a trunk and a verb say of how a transfer runs, each where it shows: on the wire, in time, or in what hooks are told.

mod common;
#[path = "common/transfer.rs"]
mod transfer;

use common::assert_ladder;
use referee::command::{CallSelector, Command, LadderOf, Reply};
use referee::message::dialog_reference::Replaces;
use referee::message::{NameAddr, Uri};
use referee::sim::World;
use referee::sim::application::Answer;
use referee::sim::peer::script::{Act, notify, request, respond, respond_with, steps};
use referee::sim::peer::text::{Text, uri_of};
use referee::sim::scene::{Scene, TWO_SIDES, carrier, config, platform};
use referee::timer::Instant;
use serde_json::{Value, json};
use std::time::Duration;
use transfer::{
    ACTIVE, BYE, TERMINATED, accepted, actions, after, course, events, goes_on, is, refer, refused, verdict,
};

/// A call whose carrier's trunk has these rules besides.
fn with_rules(rules: &str) -> Scene {
    let text = TWO_SIDES.replacen("bare_number =", &format!("{rules}\nbare_number ="), 1);
    Scene::with(&text, carrier(), platform())
}

/// The carrier's trunk has these and no others.
fn with_these_rules(rules: &str) -> Scene {
    let text = TWO_SIDES.replacen("bare_number = \"sip:{number}@trunk.example.net\"", rules, 1);
    Scene::with(&text, carrier(), platform())
}

/// The headers of the REFER that a verb makes on a call of this scene.
fn refer_of(mut scene: Scene, verb: Value) -> (String, String) {
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    accepted(scene.verbs(&call, verb));
    scene.world.finish();
    let refer = scene.world.peer(scene.carrier).heard("REFER")[0];
    let header = |name: &str| refer.header(name).unwrap_or_default().to_owned();
    (header("Refer-To"), header("Referred-By"))
}

// ---- what the REFER says ----

#[test]
fn a_bare_number_is_at_the_address_that_the_carrier_sends_from() {
    let verb = json!({"verb": "sip:refer", "referTo": "+4930111"});
    let rules = "bare_number = \"sip:{number}@{source}\"";
    let (refer_to, _) = refer_of(with_these_rules(rules), verb.clone());
    assert_eq!(refer_to, "<sip:+4930111@198.51.100.10:5060>");
    let (refer_to, _) = refer_of(with_these_rules("preset = \"telnyx\""), verb);
    assert_eq!(refer_to, "<sip:+4930111@sip.telnyx.com>");
}

#[test]
fn who_refers_has_the_host_and_the_name_that_the_trunk_wants() {
    let rules = "referred_by_host = \"sbc.example.net\"\nreferred_by_display_name = \"The \\\"Desk\\\"\"";
    for (field, value, expected) in [
        ("id", "t", "\"The \\\"Desk\\\"\" <sip:+4917012345@sbc.example.net>"),
        ("referredBy", "4711", "\"The \\\"Desk\\\"\" <sip:4711@sbc.example.net>"),
        (
            "referredBy",
            "sip:me@here.example",
            "\"The \\\"Desk\\\"\" <sip:me@here.example>",
        ),
        ("referredBy", "<sip:me@here.example>", "<sip:me@here.example>"),
        (
            "referredByDisplayName",
            "Ann",
            "\"Ann\" <sip:+4917012345@sbc.example.net>",
        ),
        ("referredByDisplayName", "", "<sip:+4917012345@sbc.example.net>"),
    ] {
        let verb = json!({"verb": "sip:refer", "referTo": "+4930111", field: value});
        let (_, referred_by) = refer_of(with_rules(rules), verb);
        assert_eq!(referred_by, expected, "{field}: {value}");
    }
}

#[test]
fn a_refer_may_ask_for_no_notifies() {
    // RFC 4488 §4: only where the 2xx says so too there is no subscription.
    for (headers, result) in [
        (&[("Refer-Sub", "false")][..], ("success", "accepted_no_subscription")),
        (&[], ("failed", "notify_final")),
    ] {
        let mut scene = Scene::default();
        let carrier = scene.world.peer_mut(scene.carrier);
        let mut script = vec![(10, respond_with(202, headers))];
        if headers.is_empty() {
            script.push((500, notify("486 Busy Here", TERMINATED)));
        }
        carrier.on("REFER", steps(script));
        let call = scene.answered();
        let mut verb = refer();
        verb["subscription"] = json!(false);
        accepted(scene.verbs(&call, verb));
        scene.run(5_000);
        let refer = scene.world.peer(scene.carrier).heard("REFER")[0];
        assert_eq!(refer.header("Refer-Sub"), Some("false"));
        assert_eq!(refer.header("Supported"), Some("replaces, norefersub"));
        let (_, _, outcome, cause) = verdict(&scene);
        assert_eq!((outcome.as_str(), cause.as_str()), result);
        if outcome == "failed" {
            scene.carrier_does(&call, request(BYE));
        }
        scene.world.finish();
    }
}

// ---- what its answers mean ----

#[test]
fn where_only_202_accepts_any_other_2xx_is_a_refusal() {
    for (code, accepts) in [(202, true), (200, false), (204, false)] {
        let mut scene = with_rules("only_202 = true");
        let carrier = scene.world.peer_mut(scene.carrier);
        carrier.on(
            "REFER",
            steps([(10, respond(code)), (900, notify("200 OK", TERMINATED))]),
        );
        let call = scene.answered();
        accepted(scene.verbs(&call, refer()));
        scene.run(500);
        assert_eq!(actions(&scene).is_empty(), accepts, "{code}");
        scene.run(5_000);
        if accepts {
            is(&scene, 202, Some(200), "success", "notify_final");
            scene.world.finish();
        } else {
            let body = &actions(&scene)[0].body;
            assert_eq!(
                (&body["refer_status"], &body["refer_result"]),
                (&json!(code), &json!("failed"))
            );
            // The final NOTIFY came late, and what it tells ends the call.
            scene.world.finish();
            assert_eq!(scene.world.peer(scene.platform).heard(BYE).len(), 1);
        }
    }
}

#[test]
fn a_redirection_is_told_and_not_followed() {
    let contact = "<sip:+4930222@elsewhere.example>;q=0.7, <sip:b@example.com>";
    let (mut scene, call) = after(steps([(10, respond_with(302, &[("Contact", contact)]))]));
    scene.run(5_000);
    is(&scene, 302, None, "failed", "redirected");
    assert_eq!(
        actions(&scene)[0].body["refer_contact"],
        "sip:+4930222@elsewhere.example"
    );
    assert_eq!(scene.world.peer(scene.carrier).heard("REFER").len(), 1);
    goes_on(&mut scene, &call);
}

#[test]
fn a_final_code_that_the_trunk_counts_as_success_ends_the_call() {
    for (preset, result) in [("preset = \"cognigy\"", "success"), ("", "failed")] {
        let mut scene = with_rules(preset);
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", course("410 Gone", 2_000));
        let call = scene.answered();
        accepted(scene.verbs(&call, refer()));
        scene.run(10_000);
        is(&scene, 202, Some(410), result, "notify_final");
        if result == "failed" {
            goes_on(&mut scene, &call);
        } else {
            scene.world.finish();
            assert_eq!(scene.world.peer(scene.carrier).heard(BYE).len(), 1);
        }
    }
}

// ---- when ----

#[test]
fn a_result_timeout_counts_from_the_2xx_whatever_rings() {
    // A target that rings for longer than 15 s, as jambonz has it: the preset tells 202 and no more.
    let mut scene = with_rules("preset = \"jambonz\"");
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", course("200 OK", 25_000));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(20_000);
    let [action] = actions(&scene)[..] else { panic!() };
    assert_eq!(action.at, Instant::from_millis(2_000 + 12 + 15_000));
    let body = action.body.as_object().unwrap();
    assert_eq!(body["refer_status"], 202);
    assert_eq!(body.get("final_referred_call_status"), None);
    goes_on(&mut scene, &call);

    // It makes the whole time shorter, never longer.
    let mut scene = with_rules("result_timeout = \"15s\"");
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(9_000, respond(202))]));
    let call = scene.answered();
    let mut verb = refer();
    verb["timeout"] = json!(20);
    accepted(scene.verbs(&call, verb));
    scene.run(30_000);
    is(&scene, 202, None, "unknown", "no_notify");
    assert_eq!(actions(&scene)[0].at, Instant::from_millis(22_000));
    goes_on(&mut scene, &call);
}

#[test]
fn hooks_of_the_jambonz_kind_have_its_keys_and_no_more() {
    let mut scene = with_rules("preset = \"jambonz\"");
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 5_000));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    let posted = scene.world.application.posted();
    assert_eq!(posted[1].body, json!({"event": "transfer-status", "call_status": 180}));
    let keys: Vec<&str> = posted[3].body.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "call_id",
        "call_sid",
        "call_status",
        "direction",
        "final_referred_call_status",
        "from",
        "originating_sip_ip",
        "originating_sip_trunk_name",
        "refer_status",
        "sip_reason",
        "sip_status",
        "to",
        "trace_id",
        "verb_id",
    ];
    assert_eq!(keys, expected);
    assert_eq!(posted[3].body["final_referred_call_status"], 200);
}

#[test]
fn a_verb_may_set_its_own_times() {
    let run = |field: &str, seconds: f64, carrier_does: &[(u64, &str, &str)]| {
        let mut scene = with_rules("notify_timeout = \"60s\"");
        let mut script = vec![(10, respond(202))];
        script.extend(
            carrier_does
                .iter()
                .map(|(at, status, state)| (*at, notify(status, state))),
        );
        scene.world.peer_mut(scene.carrier).on("REFER", steps(script));
        scene.world.application.answer_action(Answer {
            after: Duration::from_secs(8),
            ..Answer::default()
        });
        let call = scene.answered();
        let mut verb = refer();
        verb[field] = json!(seconds);
        accepted(scene.verbs(&call, verb));
        (scene, call)
    };
    let (mut scene, call) = run("notifyTimeout", 3.0, &[]);
    scene.run(20_000);
    is(&scene, 202, None, "unknown", "no_notify");
    assert_eq!(actions(&scene)[0].at, Instant::from_millis(2_000 + 12 + 3_000));
    goes_on(&mut scene, &call);

    let (mut scene, call) = run("byeGrace", 2.5, &[(500, "180 Ringing", "terminated;reason=giveup")]);
    scene.run(20_000);
    is(&scene, 202, None, "unknown", "subscription_terminated");
    assert_eq!(actions(&scene)[0].at, Instant::from_millis(2_502 + 2_500));
    goes_on(&mut scene, &call);

    for (delay, expected) in [(0.0, 0), (2.0, 2_000)] {
        let (mut scene, _) = run("byeDelay", delay, &[(500, "200 OK", TERMINATED)]);
        scene.world.finish();
        let bye = scene.world.peer(scene.carrier).heard_at(BYE)[0];
        assert_eq!(bye, Instant::from_millis(2_502 + expected + 1));
    }
}

/// The same time as a key of all trunks, as one of the carrier's trunk over another of all, and as a property of a verb over
/// both: scenes without a call yet, and the verb for each.
fn at_each_level(key: &str, property: &str, seconds: f64) -> [(Scene, Value); 3] {
    let time = format!("{key} = \"{}ms\"", seconds * 1_000.0);
    let other = format!("{key} = \"7s\"");
    [(&*time, "", false), (&*other, &*time, false), (&*other, &*other, true)].map(|(all, trunk, is_asked)| {
        let text = TWO_SIDES.replacen("bare_number =", &format!("{trunk}\nbare_number ="), 1);
        let scene = Scene::with(&format!("{text}[refer]\n{all}\n"), carrier(), platform());
        let mut verb = refer();
        if is_asked {
            verb[property] = json!(seconds);
        }
        (scene, verb)
    })
}

/// Transfers a call with that verb. The carrier does this with the REFERs, each in turn.
fn transferred(mut scene: Scene, verb: Value, refers: &[&[(u64, Act)]]) -> (Scene, String) {
    for script in refers {
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", steps(script.iter().cloned()));
    }
    let call = scene.answered();
    accepted(scene.verbs(&call, verb));
    (scene, call)
}

/// The REFER leaves, and reaches the carrier a millisecond later.
const REFER_LEFT: u64 = 2_000;

#[test]
fn a_refer_without_a_response_is_given_up_in_the_time_of_all_of_a_trunk_or_of_a_verb() {
    for (scene, verb) in at_each_level("response_timeout", "responseTimeout", 3.0) {
        let (mut scene, call) = transferred(scene, verb, &[&[]]);
        scene.run(20_000);
        is(&scene, 408, None, "failed", "timeout");
        assert_eq!(actions(&scene)[0].at, Instant::from_millis(REFER_LEFT + 3_000));
        goes_on(&mut scene, &call);
    }
    // A response in time, then another REFER: the time of the first says nothing of the second.
    let script: [&[_]; 2] = [&[(2_900, respond(491))], &[(2_900, respond(486))]];
    for (scene, verb) in at_each_level("response_timeout", "responseTimeout", 3.0) {
        let (mut scene, call) = transferred(scene, verb, &script);
        scene.run(20_000);
        is(&scene, 486, None, "failed", "rejected");
        goes_on(&mut scene, &call);
    }
    // NOTIFYs have told that it was accepted: they go on, and a late response is told.
    let silent: &[_] = &[
        (10, notify("180 Ringing", ACTIVE)),
        (4_000, respond(202)),
        (5_000, notify("486 Busy Here", TERMINATED)),
    ];
    for (scene, verb) in at_each_level("response_timeout", "responseTimeout", 3.0) {
        let (mut scene, call) = transferred(scene, verb, &[silent]);
        scene.run(20_000);
        is(&scene, 202, Some(486), "failed", "notify_final");
        goes_on(&mut scene, &call);
    }
    // What is accepted late is a transfer all the same: a success ends the call, and the hooks are told.
    let late: &[_] = &[(4_000, respond(202)), (5_000, notify("200 OK", TERMINATED))];
    for (scene, verb) in at_each_level("response_timeout", "responseTimeout", 3.0) {
        let (mut scene, _) = transferred(scene, verb, &[late]);
        scene.world.finish();
        is(&scene, 408, None, "failed", "timeout");
        assert_eq!(events(&scene), [200]);
        assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [200]);
        assert_eq!(scene.world.peer(scene.carrier).heard(BYE).len(), 1);
    }
}

#[test]
fn a_glare_is_waited_out_for_the_time_of_all_of_a_trunk_or_of_a_verb() {
    let script: [&[_]; 2] = [&[(10, respond(491))], &[(10, respond(486))]];
    for (scene, verb) in at_each_level("glare_wait", "glareWait", 6.0) {
        let (mut scene, call) = transferred(scene, verb, &script);
        scene.run(20_000);
        is(&scene, 486, None, "failed", "rejected");
        let again = scene.world.peer(scene.carrier).heard_at("REFER")[1];
        // A millisecond each way, and once more.
        assert_eq!(again, Instant::from_millis(REFER_LEFT + 12 + 6_000 + 1));
        goes_on(&mut scene, &call);
    }
}

#[test]
fn a_retry_after_is_waited_for_up_to_the_time_of_all_of_a_trunk_or_of_a_verb() {
    let later = |seconds| (10, respond_with(503, &[("Retry-After", seconds)]));
    for (seconds, expected) in [("3", 486), ("4", 503)] {
        let script: [&[_]; 2] = [&[later(seconds)], &[(10, respond(486))]];
        for (scene, verb) in at_each_level("retry_after_max", "retryAfterMax", 3.0) {
            let (mut scene, call) = transferred(scene, verb, &script);
            scene.run(20_000);
            is(&scene, expected, None, "failed", "rejected");
            goes_on(&mut scene, &call);
        }
    }
}

#[test]
fn a_result_is_waited_for_in_the_time_of_all_of_a_trunk_or_of_a_verb() {
    let rings: &[_] = &[(10, respond(202)), (2_000, notify("180 Ringing", ACTIVE))];
    for (scene, verb) in at_each_level("result_timeout", "resultTimeout", 3.0) {
        let (mut scene, call) = transferred(scene, verb, &[rings]);
        scene.run(20_000);
        is(&scene, 202, None, "unknown", "ring_timeout");
        assert_eq!(actions(&scene)[0].at, Instant::from_millis(REFER_LEFT + 12 + 3_000));
        goes_on(&mut scene, &call);
    }
}

#[test]
fn a_late_notify_finds_its_way_for_the_time_of_all_of_a_trunk_or_of_a_verb() {
    for (late, expected) in [(40_500, [200, 200]), (41_500, [200, 481])] {
        let script: &[_] = &[
            (10, respond(202)),
            (500, notify("486 Busy Here", TERMINATED)),
            (1_000, request(BYE)),
            (late, notify("200 OK", TERMINATED)),
        ];
        for (scene, verb) in at_each_level("tombstone", "tombstone", 40.0) {
            let (mut scene, _) = transferred(scene, verb, &[script]);
            scene.world.finish();
            assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), expected);
        }
    }
}

#[test]
fn hooks_have_the_patience_of_all_of_a_trunk_or_of_a_verb() {
    let refused: [&[_]; 1] = [&[(10, respond(486))]];
    for (scene, verb) in at_each_level("hook_timeout", "hookTimeout", 1.5) {
        let (mut scene, _) = transferred(scene, verb, &refused);
        scene.run(1_000);
        let settings = &actions(&scene)[0].settings;
        assert_eq!(settings.timeout, Duration::from_millis(1_500));
        assert_eq!(settings.events_wait, Duration::from_secs(2));
    }
    for (scene, verb) in at_each_level("events_wait", "eventsWait", 0.5) {
        let (mut scene, _) = transferred(scene, verb, &refused);
        scene.run(1_000);
        let settings = &actions(&scene)[0].settings;
        assert_eq!(settings.timeout, Duration::from_secs(10));
        assert_eq!(settings.events_wait, Duration::from_millis(500));
    }
}

#[test]
fn twilio_hears_our_bye_within_a_fifth_of_a_second_of_its_last_notify() {
    // Until then its two parties do not hear each other.
    let mut scene = with_rules("preset = \"twilio\"");
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    scene.world.application.answer_action(Answer {
        after: Duration::from_secs(5),
        ..Answer::default()
    });
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    let last = scene.world.peer(scene.carrier).heard_at("200 OK (NOTIFY)")[2];
    let bye = scene.world.peer(scene.carrier).heard_at(BYE)[0];
    assert!(bye.since(last) <= Duration::from_millis(200), "{:?}", bye.since(last));
}

#[test]
fn oracle_tells_nothing_before_the_target_answers() {
    let mut scene = with_rules("preset = \"oracle\"");
    scene.world.peer_mut(scene.carrier).on(
        "REFER",
        steps([(10, respond(202)), (40_000, notify("200 OK", TERMINATED))]),
    );
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    is(&scene, 202, Some(200), "success", "notify_final");
    assert_eq!(events(&scene), [200]);
}

#[test]
fn the_longest_retry_after_is_the_trunks() {
    for (rules, expected) in [("", 503), ("retry_after_max = \"30s\"", 202)] {
        let mut scene = with_rules(rules);
        let later = steps([(5, respond_with(503, &[("Retry-After", "20")]))]);
        scene.world.peer_mut(scene.carrier).on("REFER", later);
        let again = course("486 Busy Here", 2_000);
        scene.world.peer_mut(scene.carrier).on("REFER", again);
        let call = scene.answered();
        accepted(scene.verbs(&call, refer()));
        scene.run(40_000);
        assert_eq!(verdict(&scene).0, expected);
        goes_on(&mut scene, &call);
    }
}

// ---- behind an INVITE within the dialog ----

#[test]
fn a_refer_waits_for_the_answer_of_a_re_invite() {
    let mut scene = Scene::default();
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let call = scene.answered();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("INVITE", steps([(1_500, respond(200))]));
    scene.platform_does(&call, request("INVITE"));
    scene.run(100);
    accepted(scene.verbs(&call, refer()));
    scene.world.finish();
    assert_ladder("transfer_behind_reinvite", &scene.world);
    is(&scene, 202, Some(200), "success", "notify_final");
    let answered = scene.world.peer(scene.platform).heard_at("200 OK (INVITE)")[0];
    let refer = scene.world.peer(scene.carrier).heard_at("REFER")[0];
    assert!(refer >= answered, "{refer:?} {answered:?}");
}

#[test]
fn a_refer_waits_for_that_four_seconds_or_the_time_of_all_of_a_trunk_or_of_a_verb() {
    let wait = |mut scene: Scene, verb: Value, waits: u64| {
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", course("486 Busy Here", 2_000));
        let call = scene.answered();
        scene
            .world
            .peer_mut(scene.platform)
            .on("INVITE", steps([(10, respond(180)), (15_000, respond(200))]));
        scene.carrier_does(&call, request("INVITE"));
        scene.run(100);
        accepted(scene.verbs(&call, verb));
        scene.run(20_000);
        let refer = scene.world.peer(scene.carrier).heard_at("REFER")[0];
        assert_eq!(refer, Instant::from_millis(2_100 + waits + 1));
        is(&scene, 202, Some(486), "failed", "notify_final");
        goes_on(&mut scene, &call);
    };
    wait(Scene::default(), refer(), 4_000);
    for waits in [2, 0] {
        for (scene, verb) in at_each_level("queue_timeout", "queueTimeout", waits as f64) {
            wait(scene, verb, waits * 1_000);
        }
    }
}

// ---- attended transfer (RFC 5589 §7) ----

/// A world of so many shards in which the carrier has called and the platform has called the carrier: the call to transfer and
/// the one with the target.
fn two_calls(shards: u16) -> (Scene, String, String) {
    let mut world = World::new(5, shards, config(TWO_SIDES), None);
    let (carrier, platform) = (world.add(carrier()), world.add(platform()));
    let mut scene = Scene {
        world,
        carrier,
        platform,
    };
    let call = scene.answered();
    let target = scene.world.call(scene.platform, "sip:+4930999@10.0.0.1", &[]);
    scene.run(2_000);
    (scene, call, target)
}

fn finish(mut scene: Scene, calls: &[&str]) {
    for call in calls {
        if scene.world.peer(scene.platform).is_up(call) {
            scene.platform_does(call, request(BYE));
        }
    }
    scene.world.finish();
}

/// The Replaces that a Refer-To carries: Call-ID, to-tag, from-tag.
fn replaced(refer_to: &str) -> (String, String, String) {
    let name_addr = NameAddr::parse(refer_to.as_bytes()).unwrap();
    assert!(name_addr.bracketed, "{refer_to}");
    let uri = Uri::parse(name_addr.uri).unwrap();
    let value = Replaces::value_in(&uri).unwrap().unwrap();
    let replaces = Replaces::parse(&value).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(
        uri.headers()
            .any(|(name, value)| name == b"Require" && value == Some(b"replaces"))
    );
    (text(replaces.call_id), text(replaces.to_tag), text(replaces.from_tag))
}

#[test]
fn the_target_replaces_the_dialog_that_it_has_with_the_platform() {
    // Both calls in one shard, and spread over four: whoever owns the other call is asked.
    for shards in [1, 4] {
        let (mut scene, call, target) = two_calls(shards);
        scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
        let verb = json!({"verb": "sip:refer", "replaces": {"call": target}, "actionHook": "/action"});
        let ticket = scene.world.verbs(&call, &verb).unwrap();
        scene.run(10_000);
        accepted(scene.world.reply(ticket).cloned().unwrap());
        is(&scene, 202, Some(200), "success", "notify_final");
        let refer_to = scene.world.peer(scene.carrier).heard("REFER")[0]
            .header("Refer-To")
            .unwrap()
            .to_owned();
        // The target is the carrier's side of the other call: its own tag is the to-tag (RFC 3891 §3).
        let invite = scene.world.peer(scene.carrier).heard("INVITE")[0].clone();
        let answer = scene.world.peer(scene.carrier).said("200 OK (INVITE)")[0].clone();
        let tag = |value: Option<&str>| value.unwrap().split(";tag=").nth(1).unwrap().to_owned();
        let expected = (target.clone(), tag(answer.header("To")), tag(invite.header("From")));
        assert_eq!(replaced(&refer_to), expected);
        assert!(
            refer_to.starts_with("<sip:user@198.51.100.10:5060?Replaces="),
            "{refer_to}"
        );
        finish(scene, &[&target]);
    }
}

#[test]
fn a_refer_to_of_the_verbs_own_gets_the_replaces() {
    let (mut scene, call, target) = two_calls(1);
    scene.world.peer_mut(scene.carrier).on("REFER", course("200 OK", 2_000));
    let verb = json!({
        "verb": "sip:refer", "referTo": "+4930999", "replaces": {"call": target, "leg": "callee"}, "actionHook": "/action"
    });
    accepted(scene.verbs(&call, verb));
    scene.run(10_000);
    let refer_to = scene.world.peer(scene.carrier).heard("REFER")[0]
        .header("Refer-To")
        .unwrap();
    assert!(
        refer_to.starts_with("<sip:+4930999@trunk.example.net?Replaces="),
        "{refer_to}"
    );
    finish(scene, &[&target]);
}

#[test]
fn a_call_that_cannot_be_replaced_is_refused_before_anything_is_sent() {
    for shards in [1, 4] {
        let (mut scene, call, target) = two_calls(shards);
        let ringing = {
            scene
                .world
                .peer_mut(scene.platform)
                .on("INVITE", steps([(10, respond(180))]));
            scene.world.call(scene.carrier, "sip:+4930123456@203.0.113.7", &[])
        };
        scene.run(500);
        for (replaces, says) in [
            (json!({"call": "nobody"}), "no live call"),
            (json!({"call": "call-ffff0000000000000000"}), "no call of this referee"),
            (json!({"call": call}), "itself"),
            (json!({"call": ringing}), "not answered"),
        ] {
            let verb = json!({"verb": "sip:refer", "replaces": replaces});
            let ticket = scene.world.verbs(&call, &verb).unwrap();
            scene.run(100);
            let refusal = refused(scene.world.reply(ticket).cloned().unwrap());
            assert_eq!(
                (refusal.status, refusal.field.as_deref()),
                (422, Some("replaces.call")),
                "{refusal:?}"
            );
            assert!(refusal.detail.contains(says), "{refusal:?}");
        }
        // Asked for early dialogs, the one that rings will do.
        let verb = json!({"verb": "sip:refer", "replaces": {"call": ringing, "earlyOnly": true}});
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", steps([(10, respond(603))]));
        let ticket = scene.world.verbs(&call, &verb).unwrap();
        scene.run(1_000);
        accepted(scene.world.reply(ticket).cloned().unwrap());
        let refer_to = scene.world.peer(scene.carrier).heard("REFER")[0]
            .header("Refer-To")
            .unwrap();
        assert!(refer_to.contains("%3Bearly-only&Require=replaces>"), "{refer_to}");
        scene.carrier_does(&ringing, request("CANCEL"));
        finish(scene, &[&target, &call]);
    }
}

#[test]
fn the_reply_to_an_action_may_name_another_call_too() {
    for shards in [1, 4] {
        let (mut scene, call, target) = two_calls(shards);
        let peer = scene.world.peer_mut(scene.carrier);
        peer.on("REFER", course("486 Busy Here", 1_500));
        peer.on("REFER", course("200 OK", 2_000));
        scene.world.application.answer_action(Answer {
            reply: Some(json!([{"verb": "sip:refer", "replaces": {"call": target}, "actionHook": "/second"}])),
            ..Answer::default()
        });
        let ticket = scene.world.verbs(&call, &refer()).unwrap();
        scene.run(20_000);
        accepted(scene.world.reply(ticket).cloned().unwrap());
        let results: Vec<_> = actions(&scene)
            .iter()
            .map(|action| action.body["refer_result"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(results, ["failed", "success"]);
        let refers = scene.world.peer(scene.carrier).heard("REFER");
        assert_eq!(replaced(refers[1].header("Refer-To").unwrap()).0, target);
        finish(scene, &[&target]);
    }
}

#[test]
fn a_worker_that_does_not_answer_holds_nothing_up_for_ever() {
    let (mut scene, call, target) = two_calls(4);
    let owner = |call: &str| scene.world.secret().owner(call.as_bytes(), 4);
    assert_ne!(owner(&call), owner(&target), "this seed's calls have two owners");
    scene.world.lose_inquiries();
    let verb = json!({"verb": "sip:refer", "replaces": {"call": target}});
    let ticket = scene.world.verbs(&call, &verb).unwrap();
    scene.run(1_900);
    assert!(scene.world.reply(ticket).is_none());
    scene.run(200);
    let Some(Reply::Refused(refusal)) = scene.world.reply(ticket) else {
        panic!("no refusal")
    };
    assert_eq!(refusal.field.as_deref(), Some("replaces.call"));
    scene.platform_does(&target, request(BYE));
    goes_on(&mut scene, &call);
}

// ---- outside the dialog (RFC 7647 §4, RFC 4538) ----

/// The carrier says a NOTIFY in the dialog that this REFER makes.
fn notify_outside(scene: &mut Scene, refer: &Text, number: u32, status: &str, state: &str, tag: &str) {
    let to = refer.header("From").unwrap().replace(&refer.tag("From").unwrap(), tag);
    let from = refer.header("To").unwrap();
    let request_uri = uri_of(refer.header("Contact").unwrap());
    let call_id = refer.call_id();
    let text = format!(
        "NOTIFY {request_uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKout{number}\r\n\
         Max-Forwards: 70\r\nFrom: {from};tag=recipient\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {number} NOTIFY\r\n\
         Contact: <sip:x@198.51.100.10:5060>\r\nEvent: refer\r\nSubscription-State: {state}\r\n\
         Content-Type: message/sipfrag\r\nContent-Length: {}\r\n\r\nSIP/2.0 {status}\r\n",
        status.len() + 10
    );
    scene.world.say(scene.carrier, &text);
    scene.run(100);
}

fn outside() -> Scene {
    with_rules("refer_mode = \"out-of-dialog\"")
}

#[test]
fn a_refer_outside_the_dialog_names_it_and_is_told_of_in_its_own() {
    let mut scene = outside();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(10, respond(202))]));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(500);
    let answer = scene.world.peer(scene.carrier).heard("200 OK (INVITE)")[0].clone();
    let text = scene.world.peer(scene.carrier).heard("REFER")[0].clone();
    let tag = text.tag("From").unwrap();
    assert_eq!(text.request_uri(), "sip:user@198.51.100.10:5060");
    assert_ne!(text.call_id(), call);
    assert_eq!(text.tag("To"), None);
    assert_eq!(text.cseq(), (1, "REFER"));
    assert_eq!(text.header("Require"), Some("tdialog"));
    assert_eq!(text.header("Contact"), Some("<sip:203.0.113.7:5060>"));
    assert_eq!(text.header("Refer-To"), Some("<sip:+4930111@trunk.example.net>"));
    // As its recipient sees the dialog: the local tag is the carrier's (RFC 4538 §7).
    let expected = format!(
        "{call};local-tag={};remote-tag={}",
        answer.tag("From").unwrap(),
        answer.tag("To").unwrap()
    );
    assert_eq!(text.header("Target-Dialog"), Some(expected.as_str()));
    notify_outside(&mut scene, &text, 1, "180 Ringing", ACTIVE, &tag);
    notify_outside(&mut scene, &text, 2, "200 OK", TERMINATED, &tag);
    scene.run(5_000);
    is(&scene, 202, Some(200), "success", "notify_final");
    assert_eq!(events(&scene), [180, 200]);
    assert_eq!(scene.world.peer(scene.carrier).heard("200 OK (NOTIFY)").len(), 2);
    // Late, the call is gone: still answered.
    notify_outside(&mut scene, &text, 3, "200 OK", TERMINATED, &tag);
    assert_eq!(scene.world.peer(scene.carrier).heard("200 OK (NOTIFY)").len(), 3);
    // All of it stands in the ladder of the call.
    let of = LadderOf::Call(CallSelector::SipCallId(call.into_bytes()));
    let ticket = scene.world.command(Command::Ladder { of });
    let Some(Reply::Ladder(ladder)) = scene.world.reply(ticket) else {
        panic!()
    };
    let ladder = json!(ladder.messages);
    let requests = ladder
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["kind"] == "request");
    let methods: Vec<_> = requests.map(|message| message["method"].clone()).collect();
    assert_eq!(methods, ["REFER", "NOTIFY", "NOTIFY", "BYE", "BYE", "NOTIFY"]);
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).heard(BYE).len(), 1);
}

#[test]
fn what_is_not_of_that_dialog_changes_nothing() {
    let mut scene = outside();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(10, respond(202))]));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(500);
    let text = scene.world.peer(scene.carrier).heard("REFER")[0].clone();
    let tag = text.tag("From").unwrap();
    notify_outside(&mut scene, &text, 7, "200 OK", TERMINATED, "guess");
    let refused = scene
        .world
        .peer(scene.carrier)
        .heard("481 Call/Transaction Does Not Exist (NOTIFY)");
    assert_eq!(refused.len(), 1);
    assert!(events(&scene).is_empty());
    notify_outside(&mut scene, &text, 8, "486 Busy Here", TERMINATED, &tag);
    scene.run(1_000);
    is(&scene, 202, Some(486), "failed", "notify_final");
    // A number below the last (RFC 3261 §12.2.2).
    notify_outside(&mut scene, &text, 3, "180 Ringing", ACTIVE, &tag);
    assert_eq!(
        scene
            .world
            .peer(scene.carrier)
            .heard("500 Request Out of Order (NOTIFY)")
            .len(),
        1
    );
    goes_on(&mut scene, &call);
}

#[test]
fn a_refer_outside_the_dialog_is_tried_again_in_its_own_numbers() {
    let mut scene = outside();
    let peer = scene.world.peer_mut(scene.carrier);
    peer.on("REFER", steps([(5, respond(491))]));
    peer.on("REFER", steps([(5, respond(603))]));
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    scene.run(10_000);
    is(&scene, 603, None, "failed", "rejected");
    let refers = scene.world.peer(scene.carrier).heard("REFER");
    let numbers: Vec<_> = refers
        .iter()
        .map(|refer| (refer.call_id().to_owned(), refer.cseq().0))
        .collect();
    assert_eq!(numbers[0].0, numbers[1].0);
    assert_eq!((numbers[0].1, numbers[1].1), (1, 2));
    // Within the call nothing is counted.
    goes_on(&mut scene, &call);
    assert_eq!(scene.world.peer(scene.carrier).heard("INFO")[0].cseq().0, 1);
}

#[test]
fn a_481_outside_the_dialog_says_nothing_of_the_call() {
    let mut scene = outside();
    for _ in 0..2 {
        scene
            .world
            .peer_mut(scene.carrier)
            .on("REFER", steps([(5, respond(481))]));
    }
    let call = scene.answered();
    for id in ["a", "b"] {
        let mut verb = refer();
        verb["id"] = json!(id);
        accepted(scene.verbs(&call, verb));
        scene.run(1_000);
    }
    assert_eq!(actions(&scene).len(), 2);
    goes_on(&mut scene, &call);
}

#[test]
fn a_dry_run_shows_the_refer_outside_the_dialog() {
    let mut scene = outside();
    let call = scene.answered();
    let verbs = referee::verb::parse(&refer()).unwrap();
    let ticket = scene.world.command(Command::Verbs {
        call: CallSelector::SipCallId(call.clone().into_bytes()),
        verbs,
        dry_run: true,
    });
    let Some(Reply::WouldSend { message }) = scene.world.reply(ticket).cloned() else {
        panic!("no preview")
    };
    assert!(
        message.contains("\r\nRequire: tdialog\r\n") && message.contains("\r\nTarget-Dialog: "),
        "{message}"
    );
    goes_on(&mut scene, &call);
}
