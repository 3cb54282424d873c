//! Dialogs in virtual time: when they end though no BYE says so, what session timers do to them, and how they look from either
//! side (RFC 3261 §12, RFC 4028, RFC 5057).

use referee::command::{CallSelector, Command};
use referee::sim::peer::script::{Act, notify, request, request_with, respond, respond_with, steps};
use referee::sim::peer::text::Text;
use referee::sim::scene::{Scene, TWO_SIDES, carrier, platform};
use referee::timer::Instant;
use serde_json::json;

const BYE: &str = "BYE";
const TERMINATED: &str = "terminated;reason=noresource";

/// Both trunks with these further tables of the configuration.
fn with(tables: &str) -> Scene {
    Scene::with(&format!("{TWO_SIDES}\n{tables}\n"), carrier(), platform())
}

fn calls(scene: &Scene) -> u64 {
    scene.world.shard(0).counters().calls
}

/// A transfer that fails, so that the call goes on with a request of referee's in it.
fn transfer_fails(scene: &mut Scene, call: &str) {
    let busy = steps([(10, respond(202)), (50, notify("486 Busy Here", TERMINATED))]);
    scene.world.peer_mut(scene.carrier).on("REFER", busy);
    scene.verbs(
        call,
        json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/a"}),
    );
    scene.run(1_000);
    assert_eq!(scene.world.shard(0).counters().transfers_failed_total, 1);
}

fn last<'a>(heard: &[&'a Text]) -> &'a Text {
    heard.last().expect("nothing was heard")
}

// ---- ends ----

#[test]
fn two_silent_parties_are_hung_up_on_when_the_call_has_lasted_as_long_as_is_allowed() {
    let mut scene = with("[limits]\ncall_max = \"90m\"");
    scene.call();
    scene.run(5_400_000);
    for peer in [scene.carrier, scene.platform] {
        assert!(scene.world.peer(peer).heard(BYE).is_empty());
    }
    scene.world.finish();
    // The 200 passed at 1.003.
    for (peer, cseq) in [(scene.carrier, 1), (scene.platform, 2)] {
        let at = scene.world.peer(peer).heard_at(BYE);
        assert_eq!(at, [Instant::from_millis(1_003 + 5_400_000 + 1)]);
        let bye = scene.world.peer(peer).heard(BYE)[0];
        assert_eq!(bye.cseq().0, cseq);
        assert_eq!(
            bye.header("Reason"),
            Some("Q.850;cause=102;text=\"Recovery on timer expiry\"")
        );
    }
    let counters = scene.world.shard(0).counters();
    assert_eq!((counters.calls, counters.calls_over_max_total), (0, 1));
}

#[test]
fn no_call_is_kept_longer_than_a_day_by_default() {
    let mut scene = Scene::default();
    scene.answered();
    scene.run(24 * 3_600_000 - 2_000);
    assert_eq!(calls(&scene), 1);
    scene.run(60_000);
    assert_eq!(calls(&scene), 0);
    scene.world.finish();
}

#[test]
fn a_transfer_under_way_is_told_when_the_call_has_lasted_too_long() {
    let mut scene = with("[limits]\ncall_max = \"1m\"");
    let ringing = steps([(10, respond(202)), (20, notify("180 Ringing", "active;expires=600"))]);
    scene.world.peer_mut(scene.carrier).on("REFER", ringing);
    let call = scene.answered();
    scene.verbs(
        &call,
        json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/a"}),
    );
    scene.world.finish();
    let action = scene.world.application.posted().last().unwrap().body.clone();
    assert_eq!(
        (action["refer_result"].as_str(), action["refer_cause"].as_str()),
        (Some("canceled"), Some("call_ended"))
    );
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1);
    }
}

#[test]
fn a_callee_that_rings_for_ever_is_cancelled() {
    let mut scene = with("[limits]\nring_max = \"10m\"");
    let rings = steps((0..30).map(|minute| (50 + minute * 60_000, respond(180))));
    scene.world.peer_mut(scene.platform).on("INVITE", rings);
    scene.call();
    scene.world.finish();
    let cancelled = scene.world.peer(scene.platform).heard_at("CANCEL");
    assert_eq!(cancelled, [Instant::from_millis(1 + 600_000 + 1)]);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [487]);
    assert_eq!(scene.world.shard(0).counters().rings_over_max_total, 1);
}

#[test]
fn a_re_invite_that_rings_for_ever_is_cancelled_and_the_call_goes_on() {
    let mut scene = with("[limits]\nring_max = \"10m\"");
    let call = scene.answered();
    let rings = steps((0..30).map(|minute| (50 + minute * 60_000, respond(183))));
    scene.world.peer_mut(scene.platform).on("INVITE", rings);
    scene.carrier_does(&call, request("INVITE"));
    scene.run(1_500_000);
    assert_eq!(scene.world.peer(scene.platform).heard("CANCEL").len(), 1);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [200, 487]);
    assert_eq!((calls(&scene), scene.world.shard(0).counters().contexts), (1, 0));
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_callee_without_a_tag_has_answered_too() {
    let mut scene = with("[limits]\ncall_max = \"1m\"");
    scene.world.peer_mut(scene.platform).on("INVITE", steps([]));
    scene.call();
    scene.run(10);
    let invite = scene.world.peer(scene.platform).heard("INVITE")[0].clone();
    let copied = invite.headers.iter().filter(|(name, _)| {
        matches!(
            name.as_str(),
            "Via" | "Record-Route" | "From" | "To" | "Call-ID" | "CSeq"
        )
    });
    let lines: String = copied.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let answer = format!("SIP/2.0 200 OK\r\n{lines}Contact: <sip:u@10.0.0.5>\r\nContent-Length: 0\r\n\r\n");
    scene.world.say(scene.platform, &answer);
    scene.run(30_000);
    assert_eq!(calls(&scene), 1);
    scene.run(100_000);
    assert_eq!(calls(&scene), 0);
    assert!(scene.world.run_until_quiet(std::time::Duration::from_secs(600)));
    assert_eq!(scene.world.violations(), ["carrier: `200 OK (INVITE)` has no To tag"]);
}

/// A request of the carrier's that gets this answer from the platform, or none.
fn answered_with(method: &str, code: Option<u16>) -> (Scene, String) {
    let mut scene = Scene::default();
    let call = scene.answered();
    let answer = code.map(|code| (10, respond(code)));
    scene.world.peer_mut(scene.platform).on(method, steps(answer));
    scene.carrier_does(&call, request(method));
    (scene, call)
}

#[test]
fn a_call_that_a_party_has_lost_is_forgotten_without_a_word() {
    for (method, code, is_lost) in [
        ("INVITE", Some(481), true),
        ("UPDATE", Some(408), true),
        ("INFO", Some(481), true),
        ("INFO", None, true),
        ("MESSAGE", Some(404), true),
        ("INVITE", Some(488), false),
        ("INVITE", Some(403), false),
        ("INFO", Some(415), false),
        ("MESSAGE", Some(481), false),
        ("OPTIONS", None, false),
        ("NOTIFY", Some(481), false),
    ] {
        let (mut scene, call) = answered_with(method, code);
        // Without an answer it is Timer F that ends the request.
        let wait = if code.is_none() { 32_000 } else { 0 };
        scene.run(wait + 31_000);
        assert_eq!(calls(&scene), 1, "{method} {code:?}");
        scene.run(2_000);
        assert_eq!(calls(&scene), u64::from(!is_lost), "{method} {code:?}");
        assert_eq!(scene.world.shard(0).counters().calls_lost_total, u64::from(is_lost));
        for peer in [scene.carrier, scene.platform] {
            assert!(scene.world.peer(peer).heard(BYE).is_empty());
        }
        // What is still said finds its way.
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
        assert_eq!(
            scene.world.peer(scene.platform).heard(BYE).len(),
            1,
            "{method} {code:?}"
        );
    }
}

#[test]
fn a_party_that_shows_that_it_knows_the_call_has_not_lost_it() {
    for shown in ["by a request", "by a 200"] {
        let (mut scene, call) = answered_with("INFO", Some(481));
        scene.run(10_000);
        match shown {
            "by a request" => scene.platform_does(&call, request("INFO")),
            _ => scene.carrier_does(&call, request("INFO")),
        }
        scene.run(100_000);
        assert_eq!(calls(&scene), 1, "{shown}");
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
    }
    // What the other one does says nothing.
    let (mut scene, call) = answered_with("INFO", Some(481));
    scene.run(10_000);
    scene
        .world
        .peer_mut(scene.platform)
        .on("INFO", steps([(10, respond(481))]));
    scene.carrier_does(&call, request("INFO"));
    scene.run(23_000);
    assert_eq!(calls(&scene), 0);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_call_that_is_lost_with_requests_of_ours_in_it_gets_byes() {
    let mut scene = Scene::default();
    let call = scene.answered();
    transfer_fails(&mut scene, &call);
    scene
        .world
        .peer_mut(scene.platform)
        .on("INFO", steps([(10, respond(481))]));
    scene.carrier_does(&call, request("INFO"));
    scene.world.finish();
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1);
    }
}

#[test]
fn a_bye_ends_the_call_whatever_is_answered() {
    for code in [200, 404, 481, 500] {
        let mut scene = Scene::default();
        let call = scene.answered();
        scene
            .world
            .peer_mut(scene.platform)
            .on(BYE, steps([(10, respond(code))]));
        scene.carrier_does(&call, request(BYE));
        scene.run(100);
        assert_eq!(calls(&scene), 0, "{code}");
        scene.world.finish();
    }
}

// ---- BYEs of ours ----

fn hang_up(scene: &mut Scene, call: &str) {
    let call = CallSelector::SipCallId(call.as_bytes().to_vec());
    scene.world.command(Command::Hangup { call });
}

#[test]
fn the_caller_gets_no_bye_of_ours_before_its_ack() {
    let mut scene = Scene::default();
    // The third 200 of the platform's leaves at 1.002 + 0.5 + 1, and its ACK arrives.
    scene.world.network.lose("carrier", "referee", "ACK", 2);
    let call = scene.answered();
    hang_up(&mut scene, &call);
    scene.run(500);
    for peer in [scene.carrier, scene.platform] {
        assert!(scene.world.peer(peer).heard(BYE).is_empty());
    }
    // Until then the call goes on, and a second wish changes nothing.
    hang_up(&mut scene, &call);
    scene.platform_does(&call, request("INFO"));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [200]);
    let acknowledged = scene.world.peer(scene.platform).heard_at("ACK");
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard_at(BYE), acknowledged);
    }
}

#[test]
fn without_an_ack_our_byes_go_out_when_the_transaction_of_the_invite_is_over() {
    for is_early in [true, false] {
        let mut scene = Scene::default();
        scene.world.network.lose("carrier", "referee", "ACK", 100);
        scene.world.network.lose("platform", "referee", BYE, 100);
        let call = scene.call();
        // Before the answer it is a CANCEL, which the 200 crosses.
        scene.run(if is_early { 1_002 } else { 1_500 });
        hang_up(&mut scene, &call);
        scene.run(31_000);
        assert!(scene.world.peer(scene.carrier).heard(BYE).is_empty());
        scene.run(31_000);
        assert_eq!(
            scene.world.peer(scene.carrier).heard_at(BYE),
            [Instant::from_millis(1_003 + 32_000 + 1)]
        );
        scene.world.finish();
        assert_eq!(calls(&scene), 0);
    }
}

#[test]
fn a_request_that_waits_when_the_call_ends_is_answered_487() {
    for ended_by in ["the platform", "the API"] {
        let mut scene = Scene::default();
        scene.world.peer_mut(scene.carrier).on("REFER", steps([]));
        let call = scene.answered();
        scene.verbs(
            &call,
            json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/a"}),
        );
        scene.platform_does(&call, request("INFO"));
        scene.run(100);
        match ended_by {
            "the API" => {
                // As long as our BYEs have no answer it might be its turn.
                scene.world.network.lose("referee", "carrier", BYE, 2);
                hang_up(&mut scene, &call);
            }
            _ => scene.platform_does(&call, request(BYE)),
        }
        scene.world.finish();
        assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [487], "{ended_by}");
        assert!(scene.world.peer(scene.carrier).heard("INFO").is_empty());
    }
}

// ---- session timers ----

/// An answered call whose 2xx has these lines.
fn answered_for(lines: &[(&str, &str)], tables: &str) -> (Scene, String) {
    let mut scene = with(tables);
    let answer = steps([(100, respond_with(200, lines))]);
    scene.world.peer_mut(scene.platform).on("INVITE", answer);
    let call = scene.answered();
    (scene, call)
}

const HALF_AN_HOUR: &[(&str, &str)] = &[("Session-Expires", "1800;refresher=uac"), ("Require", "timer")];

#[test]
fn an_expired_session_is_forgotten_without_a_word() {
    let (mut scene, call) = answered_for(HALF_AN_HOUR, "");
    // The 2xx passed at 0.102.
    let answered = scene.world.peer(scene.carrier).heard_at("200 OK (INVITE)")[0];
    scene
        .world
        .run_until(answered + std::time::Duration::from_micros(1_799_998_999));
    assert_eq!(calls(&scene), 1);
    scene.run(1);
    assert_eq!(calls(&scene), 0);
    assert_eq!(scene.world.shard(0).counters().calls_expired_total, 1);
    scene.run(600_000);
    for peer in [scene.carrier, scene.platform] {
        assert!(scene.world.peer(peer).heard(BYE).is_empty(), "a proxy sends no BYE");
    }
    // RFC 3261 §16.4: what is still said goes by its Route.
    scene.platform_does(&call, request("INFO"));
    scene.run(100);
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [200]);
    assert_eq!(scene.world.peer(scene.platform).outcomes(BYE), [200]);
}

#[test]
fn a_refresh_by_re_invite_or_update_moves_the_end_of_the_session() {
    for method in ["INVITE", "UPDATE"] {
        let (mut scene, call) = answered_for(HALF_AN_HOUR, "");
        for round in 0..3 {
            scene.run(1_700_000);
            assert_eq!(calls(&scene), 1, "{method} {round}");
            let lines = [("Session-Expires", "1800;refresher=uac"), ("Require", "timer")];
            scene
                .world
                .peer_mut(scene.platform)
                .on(method, steps([(5, respond_with(200, &lines))]));
            scene.carrier_does(
                &call,
                request_with(method, &[("Session-Expires", "1800"), ("Supported", "timer")], ""),
            );
        }
        // A refusal moves nothing.
        scene.run(1_000_000);
        scene
            .world
            .peer_mut(scene.platform)
            .on(method, steps([(5, respond(488))]));
        scene.carrier_does(
            &call,
            request_with(method, &[("Session-Expires", "1800"), ("Supported", "timer")], ""),
        );
        scene.run(799_990);
        assert_eq!(calls(&scene), 1, "{method}");
        scene.run(100);
        assert_eq!(calls(&scene), 0, "{method}");
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
    }
}

#[test]
fn a_refresh_may_make_the_interval_shorter_or_end_it() {
    let (mut scene, call) = answered_for(HALF_AN_HOUR, "");
    scene.run(100_000);
    let shorter = [("Session-Expires", "90;refresher=uac"), ("Require", "timer")];
    scene
        .world
        .peer_mut(scene.platform)
        .on("UPDATE", steps([(0, respond_with(200, &shorter))]));
    scene.carrier_does(&call, request("UPDATE"));
    scene.run(90_000);
    assert_eq!(calls(&scene), 1);
    // RFC 4028 §8.2: a 2xx without Session-Expires ends no session.
    scene.carrier_does(&call, request("UPDATE"));
    scene.run(10_000_000);
    assert_eq!(calls(&scene), 1);
    scene
        .world
        .peer_mut(scene.platform)
        .on("UPDATE", steps([(0, respond_with(200, &shorter))]));
    scene.carrier_does(&call, request("UPDATE"));
    scene.run(90_010);
    assert_eq!(calls(&scene), 0);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_dialog_with_requests_of_ours_in_it_outlives_its_session_timer() {
    let (mut scene, call) = answered_for(HALF_AN_HOUR, "[limits]\ncall_max = \"3h\"");
    transfer_fails(&mut scene, &call);
    scene.run(5_000_000);
    assert_eq!(calls(&scene), 1);
    // Our REFER was the first request that the carrier saw.
    scene.platform_does(&call, request("INFO"));
    scene.run(100);
    let info = scene.world.peer(scene.carrier).heard("INFO")[0].clone();
    assert_eq!(info.cseq().0, 2);
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [200]);
    scene.run(6_000_000);
    scene.world.finish();
    // Nobody hung up.
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1);
    }
    assert_eq!(scene.world.shard(0).counters().calls_expired_total, 0);
}

#[test]
fn by_default_session_timers_are_watched_only() {
    let lines = [("Session-Expires", "60"), ("Min-SE", "60"), ("Supported", "timer")];
    let mut scene = Scene::default();
    let call = scene.world.call(scene.carrier, "sip:+4930123456@203.0.113.7", &lines);
    scene.run(2_000);
    let heard = scene.world.peer(scene.platform).heard("INVITE")[0];
    for (name, value) in lines {
        assert_eq!(heard.header(name), Some(value));
    }
    let answer = scene.world.peer(scene.carrier).heard("200 OK (INVITE)")[0];
    assert_eq!(
        (answer.header("Session-Expires"), answer.header("Require")),
        (None, None)
    );
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

const OURS: &str = "[timers]\nsession_expires = \"10m\"\nmin_se = \"5m\"";

#[test]
fn too_short_a_session_is_refused_with_422_and_min_se() {
    let mut scene = with(OURS);
    let short = [("Session-Expires", "299"), ("Supported", "timer")];
    scene.world.call(scene.carrier, "sip:+4930123456@203.0.113.7", &short);
    let call = scene.answered();
    for method in ["INVITE", "UPDATE"] {
        scene.carrier_does(&call, request_with(method, &short, ""));
        scene.run(100);
    }
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    let carrier = scene.world.peer(scene.carrier);
    let refusals = carrier.heard("422");
    assert_eq!(refusals.len(), 3);
    assert!(refusals.iter().all(|refusal| refusal.header("Min-SE") == Some("300")));
    assert!(scene.world.peer(scene.platform).heard("re-INVITE").is_empty());
    assert_eq!(scene.world.shard(0).counters().session_intervals_refused_total, 3);
}

#[test]
fn a_session_interval_is_put_in_lowered_or_raised_and_its_refresher_left() {
    for (lines, session_expires, min_se) in [
        (&[][..], Some("600"), None),
        (&[("Supported", "timer")], Some("600"), None),
        (
            &[("Session-Expires", "1800;refresher=uas"), ("Supported", "timer")],
            Some("600;refresher=uas"),
            None,
        ),
        (&[("x", "400"), ("Supported", "timer")], Some("400"), None),
        (
            &[("x", "1800"), ("Min-SE", "900"), ("Supported", "timer")],
            Some("900"),
            Some("900"),
        ),
        (&[("Session-Expires", "120")], Some("300"), Some("300")),
        (
            &[("x", "120;refresher=uac"), ("Min-SE", "90")],
            Some("300;refresher=uac"),
            Some("300"),
        ),
    ] {
        let mut scene = with(OURS);
        let call = scene.world.call(scene.carrier, "sip:+4930123456@203.0.113.7", lines);
        scene.run(2_000);
        for method in ["INVITE", "UPDATE"] {
            scene.carrier_does(&call, request_with(method, lines, ""));
            scene.run(100);
        }
        for label in ["INVITE", "re-INVITE", "UPDATE"] {
            let heard = scene.world.peer(scene.platform).heard(label)[0];
            let interval = heard.header("Session-Expires").or(heard.header("x"));
            assert_eq!(
                (interval, heard.header("Min-SE")),
                (session_expires, min_se),
                "{label} {lines:?}"
            );
            assert_eq!(heard.header("Require"), None);
        }
        let info = request_with("INFO", lines, "");
        scene.carrier_does(&call, info);
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
        let info = scene.world.peer(scene.platform).heard("INFO")[0];
        for (name, value) in lines {
            assert_eq!(
                info.header(name),
                Some(*value),
                "another method is none of a session timer's"
            );
        }
    }
}

#[test]
fn a_uas_without_session_timers_is_answered_for_if_the_uac_knows_them() {
    for (supported, answered) in [(&[("Supported", "100rel, timer")][..], true), (&[], false)] {
        let mut scene = with(OURS);
        // Each repeat of the 2xx says the same.
        scene.world.network.lose("carrier", "referee", "ACK", 1);
        let call = scene
            .world
            .call(scene.carrier, "sip:+4930123456@203.0.113.7", supported);
        scene.run(5_000);
        scene.carrier_does(&call, request_with("UPDATE", supported, ""));
        scene.run(1_000);
        let carrier = scene.world.peer(scene.carrier);
        let answers = [carrier.heard("200 OK (INVITE)"), carrier.heard("200 OK (UPDATE)")].concat();
        assert_eq!(answers.len(), 3);
        for answer in answers {
            let expected = answered.then_some("600;refresher=uac");
            assert_eq!(answer.header("Session-Expires"), expected);
            assert_eq!(answer.header("Require"), answered.then_some("timer"));
        }
        // Where nobody refreshes there is no end either.
        scene.run(700_000);
        assert_eq!(calls(&scene), u64::from(!answered));
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
    }
}

#[test]
fn a_uas_with_session_timers_answers_for_itself() {
    let (mut scene, call) = answered_for(HALF_AN_HOUR, OURS);
    let answer = scene.world.peer(scene.carrier).heard("200 OK (INVITE)")[0];
    assert_eq!(answer.list("Session-Expires"), ["1800;refresher=uac"]);
    assert_eq!(answer.list("Require"), ["timer"]);
    scene.run(1_000_000);
    assert_eq!(calls(&scene), 1, "the interval is that of the 2xx");
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn no_interval_is_asked_for_where_referee_does_not_stay() {
    // Another fork's dialog is relayed by its token, and the call's own once it is forgotten.
    let mut scene = with(OURS);
    let call = scene.answered();
    scene.carrier_does(&call, request(BYE));
    scene.run(100);
    assert_eq!(calls(&scene), 0);
    let late = Act::Again {
        method: "UPDATE".into(),
        headers: vec![
            ("Session-Expires".into(), "60".into()),
            ("Supported".into(), "timer".into()),
        ],
    };
    scene.carrier_does(&call, late);
    scene.world.finish();
    let update = last(&scene.world.peer(scene.platform).heard("UPDATE"));
    assert_eq!(update.header("Session-Expires"), Some("60"));
}
