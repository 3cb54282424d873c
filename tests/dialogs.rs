//! Dialogs in virtual time: when they end though no BYE says so, what session timers do to them, and how they look from either
//! side (RFC 3261 §12, RFC 4028, RFC 5057).

use proptest::prelude::*;
use proptest::sample::select;
use referee::command::{CallSelector, Command, Reply};
use referee::sim::PeerId;
use referee::sim::peer::script::{Act, Steps, notify, request, request_with, respond, respond_with, steps};
use referee::sim::peer::text::Text;
use referee::sim::scene::{Scene, TWO_SIDES, carrier, platform};
use referee::timer::Instant;
use referee::transport::Transport;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

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
    assert!(scene.world.run_until_quiet(Duration::from_secs(600)));
    // The ACK arrives; what is said in the peer's name is not known to it.
    let violations = [
        "carrier: `200 OK (INVITE)` has no To tag",
        "platform: an ACK comes before any final response",
    ];
    assert_eq!(scene.world.violations(), violations);
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
    // What the other one does says nothing, and a refusal does not either.
    for code in [481, 415] {
        let (mut scene, call) = answered_with("INFO", Some(481));
        scene.run(10_000);
        scene
            .world
            .peer_mut(scene.platform)
            .on("INFO", steps([(10, respond(code))]));
        scene.carrier_does(&call, request("INFO"));
        scene.run(23_000);
        assert_eq!(calls(&scene), 0, "{code}");
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
    }
}

/// RFC 3261 §12.2: a target refresh is an INVITE, an UPDATE (RFC 3311) and what makes or tells of a subscription; a Contact in
/// any other request or its 2xx means nothing.
#[test]
fn only_a_target_refresh_moves_the_remote_target_of_our_requests() {
    for (method, expected) in [
        ("INFO", "sip:user@198.51.100.10:5060"),
        ("MESSAGE", "sip:user@198.51.100.10:5060"),
        ("UPDATE", "sip:moved@198.51.100.10:5060"),
        ("REFER", "sip:moved@198.51.100.10:5060"),
        ("SUBSCRIBE", "sip:moved@198.51.100.10:5060"),
    ] {
        let text = TWO_SIDES.replace("side = \"carrier\"", "side = \"carrier\"\ninbound_refer = \"relay\"");
        let mut scene = Scene::with(&text, carrier(), platform());
        let call = scene.answered();
        let contact = "<sip:moved@198.51.100.10:5060>".into();
        scene.carrier_does(&call, Act::Move { contact });
        let ok = match method {
            "REFER" => vec![(10, respond(202)), (50, notify("200 OK", TERMINATED))],
            _ => vec![(10, respond(200))],
        };
        scene.world.peer_mut(scene.platform).on(method, steps(ok));
        let headers = [
            ("Refer-To", "<sip:third@192.0.2.3>"),
            ("Referred-By", "<sip:user@198.51.100.10>"),
            ("Event", "presence"),
        ];
        scene.carrier_does(&call, request_with(method, &headers, ""));
        scene.run(1_000);
        transfer_fails(&mut scene, &call);
        let refer = scene.world.peer(scene.carrier).heard("REFER")[0].clone();
        assert_eq!(refer.request_uri(), expected, "{method}");
        scene.platform_does(&call, request(BYE));
        scene.world.finish();
    }
}

/// 64·T1 are a party's to show that it knows the call, each time anew.
#[test]
fn a_sign_of_life_ends_one_doubt_and_the_next_lasts_as_long() {
    let (mut scene, call) = answered_with("INFO", Some(481));
    scene.run(10_000);
    scene.platform_does(&call, request("INFO"));
    scene.run(10_000);
    let unknown = steps([(10, respond(481))]);
    scene.world.peer_mut(scene.platform).on("INFO", unknown);
    scene.carrier_does(&call, request("INFO"));
    // The first would have been over at 32 s, the second is at 52 s.
    scene.run(31_990);
    assert_eq!(calls(&scene), 1);
    scene.run(100);
    let counters = scene.world.shard(0).counters();
    assert_eq!((counters.calls, counters.calls_lost_total), (0, 1));
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

/// RFC 5057 §5.1 speaks of usages there are: before the answer the INVITE has made none that could be over.
#[test]
fn a_refusal_within_an_early_dialog_does_not_end_the_call_that_it_becomes() {
    let mut scene = Scene::default();
    let platform = scene.world.peer_mut(scene.platform);
    platform.on("INVITE", steps([(50, respond(180)), (2_000, respond(200))]));
    platform.on("UPDATE", steps([(10, respond(481))]));
    let call = scene.call();
    scene.run(500);
    scene.carrier_does(&call, request("UPDATE"));
    scene.run(60_000);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("UPDATE"), [481]);
    assert_eq!(calls(&scene), 1);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

/// RFC 6665 §4.1.3: a NOTIFY that is of no subscription gets 481. A call that had no REFER has none, whatever else was known of it.
#[test]
fn a_call_that_had_no_refer_ends_with_its_bye() {
    let (mut scene, call) = answered_with("INFO", Some(481));
    scene.run(1_000);
    scene.platform_does(&call, request(BYE));
    scene.run(100);
    assert_eq!(calls(&scene), 0);
    let headers = [("Event", "refer"), ("Subscription-State", TERMINATED)];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let method = "NOTIFY".to_owned();
    scene.carrier_does(
        &call,
        Act::Again {
            method,
            headers: headers.into(),
        },
    );
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [481]);
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

/// RFC 6665 §4.1.3: the other party has had our BYE, and its subscriptions of REFERs that passed here were known.
#[test]
fn a_notify_of_an_unknown_refer_gets_481_here_while_our_byes_are_open() {
    let mut scene = Scene::default();
    let call = scene.answered();
    scene.world.network.lose("referee", "carrier", BYE, 1);
    hang_up(&mut scene, &call);
    let lines = [("Event", "refer;id=99"), ("Subscription-State", "active")];
    scene.carrier_does(&call, request_with("NOTIFY", &lines, ""));
    scene.run(100);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [481]);
    assert!(scene.world.peer(scene.platform).heard("NOTIFY").is_empty());
    scene.world.finish();
}

#[test]
fn an_invite_of_a_callee_whose_answer_is_lost_is_not_the_one_that_opened_the_call() {
    let mut scene = Scene::default();
    let platform = scene.world.peer_mut(scene.platform);
    platform.on("INVITE", steps([(10, respond(180)), (20, respond(200))]));
    scene.world.network.lose("platform", "referee", "200 OK (INVITE)", 3);
    let call = scene.call();
    scene.run(100);
    scene.platform_does(&call, request("INVITE"));
    scene.run(500);
    assert!(!scene.world.peer(scene.platform).outcomes("INVITE").is_empty());
    // It is the first that a hangup cancels (RFC 3261 §9.1), and whose answer crosses that.
    hang_up(&mut scene, &call);
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).heard("CANCEL").len(), 1);
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard(BYE).len(), 1);
    }
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

#[test]
fn a_status_of_an_unknown_kind_counts_as_its_class() {
    // RFC 3261 §8.1.3.2.
    for (codes, status, cause) in [
        ([189, 299], 299, "notify_final"),
        ([100, 499], 499, "rejected"),
        ([189, 399], 399, "redirected"),
        ([199, 599], 599, "rejected"),
        ([183, 699], 699, "rejected"),
    ] {
        let mut scene = Scene::default();
        let course = steps([
            (10, respond(codes[0])),
            (200, respond(codes[1])),
            (300, notify("486 Busy Here", TERMINATED)),
        ]);
        scene.world.peer_mut(scene.carrier).on("REFER", course);
        let unknown = steps([(10, respond(481))]);
        scene.world.peer_mut(scene.platform).on("NOTIFY", unknown);
        let call = scene.answered();
        scene.verbs(
            &call,
            json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/a"}),
        );
        scene.run(5_000);
        let action = scene.world.application.posted().last().unwrap().body.clone();
        assert_eq!(action["refer_status"], status, "{codes:?}");
        assert_eq!(action["refer_cause"], cause, "{codes:?}");
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
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
    scene.world.run_until(answered + Duration::from_micros(1_799_998_999));
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

/// RFC 4028 §4: none is shorter than 90 s, whatever a 2xx says.
#[test]
fn no_session_is_taken_to_end_before_90_seconds() {
    let (mut scene, call) = answered_for(&[("Session-Expires", "10;refresher=uac"), ("Require", "timer")], "");
    let answered = scene.world.peer(scene.carrier).heard_at("200 OK (INVITE)")[0];
    scene.world.run_until(answered + Duration::from_secs(89));
    assert_eq!(calls(&scene), 1);
    scene.run(1_000);
    assert_eq!(calls(&scene), 0);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
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

// ---- both ends ----

/// One of the two ends as a test names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Carrier,
    Platform,
}

/// What happens in a dialog.
#[derive(Clone, Debug)]
enum Step {
    /// A transfer of referee's that fails: a REFER to this end, in the other's name.
    Refer(End),
    /// A request of this end's, and what it is answered.
    Request(End, &'static str, u16),
    /// A re-INVITE with a reliable provisional response, and so with a PRACK.
    Reliable(End),
    /// This end is somewhere else from now on, and speaks from there by this transport.
    Move(End, Transport),
    /// The next message with this label from one node to another is lost.
    Lose(End, bool, &'static str),
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Carrier), Just(End::Platform)]
}

fn step() -> impl Strategy<Value = Step> {
    let method = select(vec!["INVITE", "UPDATE", "INFO", "MESSAGE", "NOTIFY", "FOO"]);
    let code = select(vec![200, 200, 200, 488, 500]);
    let label = select(vec![
        "re-INVITE",
        "ACK",
        "UPDATE",
        "INFO",
        "200 OK",
        "488",
        "NOTIFY",
        "REFER",
        "PRACK",
    ]);
    let transport = select(vec![Transport::Udp, Transport::Tcp]);
    prop_oneof![
        2 => end().prop_map(Step::Refer),
        4 => (end(), method, code).prop_map(|(end, method, code)| Step::Request(end, method, code)),
        1 => end().prop_map(Step::Reliable),
        1 => (end(), transport).prop_map(|(end, transport)| Step::Move(end, transport)),
        2 => (end(), any::<bool>(), label).prop_map(|(end, inward, label)| Step::Lose(end, inward, label)),
    ]
}

/// A naive model of what one end sees of the other.
#[derive(Debug, Default)]
struct Seen {
    /// The other has numbered a request of its own.
    has_spoken: bool,
    /// The last number, be it of the other's or of referee's.
    last: u32,
    /// Method and number of each request that is seen.
    requests: Vec<(String, u32)>,
}

impl Seen {
    /// A request of the other's that it numbers so; `passes`: it is seen.
    fn of_party(&mut self, number: u32, method: &str, passes: bool) {
        // Its first is shifted by what was put in before it, and each further one is the next.
        self.last = if self.has_spoken {
            self.last + 1
        } else {
            number + self.last
        };
        self.has_spoken = true;
        if passes {
            self.requests.push((method.to_owned(), self.last));
        }
    }

    /// One of referee's in the other's name.
    fn inserted(&mut self, method: &str) {
        self.last += 1;
        self.requests.push((method.to_owned(), self.last));
    }
}

/// A dialog between two ends with their models.
struct Both {
    scene: Scene,
    call: String,
    /// What the carrier sees and what the platform sees.
    seen: [Seen; 2],
    /// Where each end is, and where the dialog takes it to be.
    contacts: [String; 2],
    targets: [String; 2],
    /// How many times an end has moved, and how many provisional responses were reliable.
    moves: usize,
    reliable: usize,
}

impl Both {
    fn begin(first: (u32, u32), follow: (bool, bool)) -> Both {
        let (mut carrier, mut platform) = (carrier(), platform());
        (carrier.manners.first_cseq, platform.manners.first_cseq) = first;
        (carrier.manners.follows_routes, platform.manners.follows_routes) = follow;
        let text = format!("{TWO_SIDES}\n[transfer]\nper_call_max = 1000\n");
        let mut scene = Scene::with(&text, carrier, platform);
        let call = scene.answered();
        let contacts = [
            "sip:user@198.51.100.10:5060".to_owned(),
            "sip:user@10.0.0.5:5060".to_owned(),
        ];
        let mut both = Both {
            scene,
            call,
            seen: Default::default(),
            targets: contacts.clone(),
            contacts,
            moves: 0,
            reliable: 0,
        };
        both.seen[End::Platform as usize].of_party(first.0, "INVITE", true);
        both
    }

    fn peer(&self, end: End) -> PeerId {
        match end {
            End::Carrier => self.scene.carrier,
            End::Platform => self.scene.platform,
        }
    }

    /// The next number that an end gives a request of its own.
    fn next_number(&self, end: End) -> u32 {
        let peer = self.scene.world.peer(self.peer(end));
        let said = peer.said("").into_iter().filter(|text| text.is_request());
        let last = said
            .filter(|text| text.method() != "ACK")
            .map(|text| text.cseq().0)
            .max();
        last.map_or(peer.manners.first_cseq, |last| last + 1)
    }

    fn go(&mut self, step: &Step) {
        match step {
            Step::Refer(end) => {
                let course = steps([(10, respond(202)), (50, notify("486 Busy Here", TERMINATED))]);
                let peer = self.peer(*end);
                self.scene.world.peer_mut(peer).on("REFER", course);
                let leg = if *end == End::Carrier { "caller" } else { "callee" };
                let verb =
                    json!({"verb": "sip:refer", "referTo": "sip:+4930111@example.com", "leg": leg, "actionHook": "/a"});
                self.scene.verbs(&self.call.clone(), verb);
                self.seen[*end as usize].inserted("REFER");
                // Its NOTIFY is numbered, and goes no further. It shows a Contact, as its 2xx does.
                let number = self.next_number(*end);
                self.seen[other(*end) as usize].of_party(number, "NOTIFY", false);
                self.targets[*end as usize] = self.contacts[*end as usize].clone();
            }
            Step::Request(end, method, code) => {
                let answer = steps([(10, respond(*code))]);
                self.request(*end, method, answer, *code < 300);
            }
            Step::Reliable(end) => {
                self.reliable += 1;
                let sequence = self.reliable.to_string();
                let reliable = respond_with(183, &[("Require", "100rel"), ("RSeq", &sequence)]);
                let answer = steps([(10, reliable), (1_500, respond(200))]);
                self.request(*end, "INVITE", answer, true);
                let number = self.next_number(*end);
                self.seen[other(*end) as usize].of_party(number, "PRACK", true);
            }
            Step::Move(end, transport) => {
                self.moves += 1;
                let host = self.scene.world.peer(self.peer(*end)).address;
                let parameter = if *transport == Transport::Tcp {
                    ";transport=tcp"
                } else {
                    ""
                };
                let uri = format!("sip:moved{}@{host}{parameter}", self.moves);
                self.contacts[*end as usize] = uri.clone();
                let peer = self.peer(*end);
                let act = Act::Move {
                    contact: format!("<{uri}>"),
                };
                self.scene.world.act(peer, &self.call, act);
                self.scene.world.peer_mut(peer).manners.transport = *transport;
            }
            Step::Lose(end, inward, label) => {
                let name = if *end == End::Carrier { "carrier" } else { "platform" };
                match inward {
                    true => self.scene.world.network.lose(name, "referee", label, 1),
                    false => self.scene.world.network.lose("referee", name, label, 1),
                }
                return;
            }
        }
        // Long enough for each loss to be made up for.
        self.scene.run(6_000);
    }

    fn request(&mut self, end: End, method: &str, answer: Steps, is_taken: bool) {
        let number = self.next_number(end);
        let (speaker, listener) = (self.peer(end), self.peer(other(end)));
        self.scene.world.peer_mut(listener).on(method, answer);
        let headers = [("Event", "presence"), ("Subscription-State", "active")];
        let act = match method {
            "NOTIFY" => request_with(method, &headers, ""),
            _ => request(method),
        };
        self.scene.world.act(speaker, &self.call.clone(), act);
        self.seen[other(end) as usize].of_party(number, method, true);
        // RFC 3261 §12.2.1.2: a 2xx moves both targets, where the request is one that moves them.
        if is_taken && matches!(method, "INVITE" | "UPDATE" | "NOTIFY") {
            self.targets[end as usize] = self.contacts[end as usize].clone();
            if method != "NOTIFY" {
                let listener = other(end) as usize;
                self.targets[listener] = self.contacts[listener].clone();
            }
        }
    }

    /// What an end has heard, each request once.
    fn heard(&self, end: End) -> Vec<(String, u32)> {
        let heard = self.scene.world.peer(self.peer(end)).heard("");
        let mut branches = BTreeSet::new();
        let requests = heard
            .into_iter()
            .filter(|text| text.is_request() && text.method() != "ACK");
        let each_once = requests.filter(|text| branches.insert(text.branch()));
        each_once
            .map(|text| (text.method().to_owned(), text.cseq().0))
            .collect()
    }

    fn agrees(&self) -> Result<(), TestCaseError> {
        for end in [End::Carrier, End::Platform] {
            prop_assert_eq!(
                self.heard(end),
                self.seen[end as usize].requests.clone(),
                "{:?}\n{}",
                end,
                self.scene.world.ladder()
            );
        }
        Ok(())
    }
}

fn other(end: End) -> End {
    match end {
        End::Carrier => End::Platform,
        End::Platform => End::Carrier,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Each end numbers its requests without knowing of ours; it sees those of the other and ours as one row, at the place
    /// where it last said it is. The peers check responses, ACKs and RAcks against what they sent themselves.
    #[test]
    fn each_end_sees_one_row_of_numbers_and_is_found_where_it_said_it_is(
        first in (1u32..2_000, 1u32..2_000),
        follow in (any::<bool>(), any::<bool>()),
        course in proptest::collection::vec(step(), 0..16),
    ) {
        let mut both = Both::begin(first, follow);
        for step in &course {
            both.go(step);
            both.agrees()?;
        }
        hang_up(&mut both.scene, &both.call.clone());
        for end in [End::Carrier, End::Platform] {
            both.seen[end as usize].inserted(BYE);
        }
        both.scene.run(40_000);
        both.agrees()?;
        for end in [End::Carrier, End::Platform] {
            let bye = last(&both.scene.world.peer(both.peer(end)).heard(BYE)).clone();
            prop_assert_eq!(bye.request_uri(), &both.targets[end as usize], "{}", both.scene.world.ladder());
        }
        both.scene.world.finish();
    }

    /// The same where nobody waits for anybody: requests of both ends and ours in one burst, in any order.
    #[test]
    fn requests_that_cross_are_numbered_each_in_its_own_row(
        bursts in proptest::collection::vec(
            proptest::collection::vec((end(), select(vec!["INFO", "MESSAGE", "REFER"])), 1..6),
            1..6,
        ),
    ) {
        let mut both = Both::begin((1, 1), (true, true));
        let mut transfers = 0;
        for burst in bursts {
            for (end, method) in burst {
                match method {
                    "REFER" => {
                        let peer = both.peer(end);
                        both.scene.world.peer_mut(peer).on("REFER", steps([(3, respond(603))]));
                        let leg = if end == End::Carrier { "caller" } else { "callee" };
                        let verb = json!({
                            "verb": "sip:refer", "referTo": "sip:+4930111@example.com", "leg": leg, "actionHook": "/a"
                        });
                        let call = both.call.clone();
                        // A second one while one runs is refused.
                        transfers += usize::from(matches!(both.scene.verbs(&call, verb), Reply::Accepted { .. }));
                    }
                    method => {
                        let peer = both.peer(end);
                        let call = both.call.clone();
                        both.scene.world.act(peer, &call, request(method));
                    }
                }
            }
            both.scene.run(2_000);
        }
        let mut refers = 0;
        for end in [End::Carrier, End::Platform] {
            let heard = both.heard(end);
            let numbers: Vec<_> = heard.iter().map(|(_, number)| *number).collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{:?} {:?}", end, heard);
            refers += heard.iter().filter(|(method, _)| method == "REFER").count();
            // Each of the other's was answered, and is among what was heard.
            let said = both.scene.world.peer(both.peer(other(end))).said("");
            let asked = |method: &str| said.iter().filter(|text| text.is_request() && text.method() == method).count();
            for method in ["INFO", "MESSAGE"] {
                prop_assert_eq!(heard.iter().filter(|(known, _)| known == method).count(), asked(method));
            }
        }
        prop_assert_eq!(refers, transfers);
        hang_up(&mut both.scene, &both.call.clone());
        both.scene.world.finish();
    }
}
