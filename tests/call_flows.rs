//! Calls through referee in virtual time, each kept as the ladder a SIP engineer would draw (RFC 3665, RFC 3261 §16, §17).

mod common;

use common::assert_ladder;
use referee::call::CallKey;
use referee::command::{CallSelector, Command, Reply};
use referee::config::TrunkId;
use referee::sim::peer::script::{Act, notify, request, request_with, respond, respond_with, steps};
use referee::sim::peer::text::uri_of;
use referee::sim::scene::{CARRIER, PUBLIC, Scene, TWO_SIDES, carrier, platform};
use referee::timer::Instant;
use referee::transport::Transport;
use referee::traversal::Traversal;
use std::time::Duration;

const BYE: &str = "BYE";

#[test]
fn a_call_is_set_up_and_torn_down() {
    let mut scene = Scene::default();
    let call = scene.call();
    scene.run(5_000);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("basic_call", &scene.world);
    let counters = scene.world.shard(0).counters();
    assert_eq!((counters.calls_total, counters.calls_answered_total), (1, 1));
}

#[test]
fn a_relayed_invite_differs_only_where_a_proxy_changes_it() {
    let mut scene = Scene::default();
    let call = scene.world.call(
        scene.carrier,
        "sip:+4930123456@203.0.113.7",
        &[("X-Unknown", ";;,,;;"), ("Subject", "a\tb")],
    );
    scene.run(2_000);
    let said = scene.world.peer(scene.carrier).said("INVITE")[0].clone();
    let heard = scene.world.peer(scene.platform).heard("INVITE")[0].clone();
    assert_eq!(heard.request_uri(), "sip:+4930123456@10.0.0.5:5060");
    assert_eq!(heard.body, said.body);
    let own = |name: &str| matches!(name, "Via" | "Record-Route" | "Max-Forwards" | "Max-Breadth");
    let rest = |text: &referee::sim::peer::text::Text| {
        let kept = text.headers.iter().filter(|(name, _)| !own(name));
        kept.cloned().collect::<Vec<_>>()
    };
    assert_eq!(rest(&heard), rest(&said));
    assert_eq!(heard.header("Max-Forwards"), Some("69"));
    let vias = heard.list("Via");
    assert_eq!(vias.len(), 2);
    assert!(
        vias[0].starts_with("SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK"),
        "{vias:?}"
    );
    assert!(vias[1].contains(";received=198.51.100.10"), "{vias:?}");
    assert!(vias[1].contains(";rport=5060"), "{vias:?}");
    // RFC 5658: one for each side, the far side's on top.
    let routes = heard.list("Record-Route");
    assert_eq!(routes.len(), 2);
    assert!(routes[0].starts_with("<sip:10.0.0.1:5060;lr;r="), "{routes:?}");
    assert!(routes[1].starts_with("<sip:203.0.113.7:5060;lr;r="), "{routes:?}");
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_call_that_is_refused_ends_with_the_refusal() {
    let mut scene = Scene::default();
    let busy = steps([(50, respond(180)), (800, respond(486))]);
    scene.world.peer_mut(scene.platform).on("INVITE", busy);
    scene.call();
    scene.world.finish();
    assert_ladder("busy", &scene.world);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [486]);
}

#[test]
fn a_503_is_passed_up_as_500() {
    let mut scene = Scene::default();
    let full = steps([(10, respond(503))]);
    scene.world.peer_mut(scene.platform).on("INVITE", full);
    scene.call();
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [500]);
}

#[test]
fn a_cancel_while_it_rings_ends_the_call() {
    let mut scene = Scene::default();
    let rings = steps([(50, respond(180))]);
    scene.world.peer_mut(scene.platform).on("INVITE", rings);
    let call = scene.call();
    scene.run(2_000);
    scene.carrier_does(&call, Act::Cancel);
    scene.world.finish();
    assert_ladder("cancel_while_ringing", &scene.world);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [487]);
}

#[test]
fn a_cancel_before_the_callee_says_anything_waits_for_its_first_word() {
    let mut scene = Scene::default();
    let slow = steps([(700, respond(180))]);
    scene.world.peer_mut(scene.platform).on("INVITE", slow);
    let call = scene.call();
    scene.run(200);
    scene.carrier_does(&call, Act::Cancel);
    scene.world.finish();
    assert_ladder("cancel_before_ringing", &scene.world);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [487]);
}

#[test]
fn a_2xx_that_crosses_a_cancel_wins() {
    let mut scene = Scene::default();
    let call = scene.call();
    // The 200 leaves the platform at 1.002; the CANCEL reaches referee at the same time.
    scene.run(1_001);
    scene.carrier_does(&call, Act::Cancel);
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [200]);
    assert!(scene.world.peer(scene.carrier).is_up(&call));
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("cancel_crosses_200", &scene.world);
}

#[test]
fn a_cancelled_callee_that_never_ends_is_given_up_after_32_seconds() {
    let mut scene = Scene::default();
    let rings = steps([(50, respond(180))]);
    scene.world.peer_mut(scene.platform).on("INVITE", rings);
    scene.world.network.lose("platform", "referee", "487", 100);
    let call = scene.call();
    scene.run(1_000);
    scene.carrier_does(&call, Act::Cancel);
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [487]);
    let at = scene.world.peer(scene.carrier).heard_at("487")[0];
    assert_eq!(at, Instant::from_millis(1_000 + 2 + 32_000));
}

#[test]
fn a_callee_that_is_silent_is_a_408() {
    let mut scene = Scene::default();
    scene.world.network.lose("referee", "platform", "INVITE", 100);
    scene.call();
    scene.world.finish();
    assert_ladder("timer_b", &scene.world);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [408]);
    assert_eq!(scene.world.shard(0).counters().timeouts_total, 1);
}

#[test]
fn timer_c_cancels_a_callee_that_rings_for_three_minutes() {
    let mut scene = Scene::default();
    // A 100 does not hold it off, a 183 does (RFC 3261 §16.7).
    let rings = steps([(50, respond(180)), (60_000, respond(183)), (120_000, respond(100))]);
    scene.world.peer_mut(scene.platform).on("INVITE", rings);
    scene.call();
    scene.world.finish();
    assert_ladder("timer_c", &scene.world);
    let cancelled = scene.world.peer(scene.platform).heard_at("CANCEL");
    assert_eq!(cancelled.len(), 1);
    let late = cancelled[0].since(Instant::from_millis(60_001 + 181_000));
    assert!(late <= Duration::from_millis(5), "{cancelled:?}");
}

#[test]
fn a_2xx_is_repeated_end_to_end_until_its_ack_comes() {
    let mut scene = Scene::default();
    scene.world.network.lose("carrier", "referee", "ACK", 2);
    let call = scene.answered();
    scene.run(4_000);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("lost_acks", &scene.world);
}

#[test]
fn the_ack_of_a_refusal_goes_no_further() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.platform)
        .on("INVITE", steps([(10, respond(486))]));
    // The refusal is repeated until the ACK comes (Timer G), each repeat is ACKed again.
    scene.world.network.lose("carrier", "referee", "ACK", 2);
    scene.call();
    scene.world.finish();
    assert_ladder("refusal_repeated", &scene.world);
    assert_eq!(scene.world.peer(scene.platform).heard("ACK").len(), 1);
}

#[test]
fn lost_messages_are_sent_again_by_each_hop() {
    let mut scene = Scene::default();
    scene.world.network.lose("carrier", "referee", "INVITE", 1);
    scene.world.network.lose("referee", "platform", "INVITE", 1);
    scene.world.network.lose("referee", "carrier", "200 OK (INVITE)", 1);
    scene.world.network.lose("platform", "referee", "200 OK (BYE)", 1);
    let call = scene.call();
    scene.run(5_000);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("losses", &scene.world);
}

#[test]
fn options_for_referee_itself_is_answered_here() {
    let mut scene = Scene::default();
    scene.world.say(
        scene.carrier,
        "OPTIONS sip:203.0.113.7 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKo\r\nMax-Forwards: 70\r\n\
         From: <sip:c@h>;tag=1\r\nTo: <sip:203.0.113.7>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
    );
    scene.world.finish();
    assert_ladder("options", &scene.world);
    let answer = scene.world.peer(scene.carrier).heard("200")[0];
    assert_eq!(answer.header("Allow"), None);
    // RFC 3261 §8.2.2.3: it answers itself, so that Require is for it.
    let mut scene = Scene::default();
    scene.world.say(
        scene.carrier,
        "OPTIONS sip:203.0.113.7 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKo\r\nMax-Forwards: 70\r\n\
         From: <sip:c@h>;tag=1\r\nTo: <sip:203.0.113.7>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\nRequire: foo, bar\r\n\
         Content-Length: 0\r\n\r\n",
    );
    scene.world.finish();
    let answer = scene.world.peer(scene.carrier).heard("420")[0];
    assert_eq!(answer.header("Unsupported"), Some("foo, bar"));
}

#[test]
fn a_request_outside_a_dialog_is_relayed_and_answered() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.platform)
        .on("MESSAGE", steps([(700, respond(200))]));
    scene.world.say(scene.carrier, &outside("MESSAGE", "m", ""));
    scene.world.finish();
    assert_ladder("message", &scene.world);
}

#[test]
fn a_non_invite_that_nobody_answers_gets_no_408() {
    let mut scene = Scene::default();
    scene.world.network.lose("referee", "platform", "MESSAGE", 100);
    scene.world.say(scene.carrier, &outside("MESSAGE", "m", ""));
    scene.world.finish();
    // RFC 4320 §4.2.
    let heard = scene.world.peer(scene.carrier).heard("");
    assert!(heard.iter().all(|text| text.code() == 100), "{}", scene.world.ladder());
}

#[test]
fn what_is_refused_is_refused_at_once() {
    for (request, code) in [
        (outside("REFER", "r", "Refer-To: <sip:x@y>\r\n"), Some(603)),
        (outside("BYE", "b", ""), Some(481)),
        (outside("INFO", "i", ""), Some(481)),
        (outside("MESSAGE", "p", "Proxy-Require: magic\r\n"), Some(420)),
        (
            outside("MESSAGE", "f", "").replace("Max-Forwards: 70", "Max-Forwards: 0"),
            Some(483),
        ),
        (
            outside("MESSAGE", "u", "").replace("sip:+4930123456@203.0.113.7", "tel:+49301"),
            Some(416),
        ),
        (
            outside("MESSAGE", "d", "").replace("From: <sip:c@h>;tag=1\r\n", ""),
            Some(400),
        ),
        (
            outside("MESSAGE", "c", "").replace("CSeq: 1 MESSAGE", "CSeq: 1 INFO"),
            Some(400),
        ),
        (outside("MESSAGE", "l", "").replace("Length: 0", "Length: 7"), Some(400)),
        (
            outside("MESSAGE", "v", "").replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"),
            Some(505),
        ),
        (
            outside("BYE", "t", "").replace("<sip:+4930123456@203.0.113.7>", "<sip:a@b>;tag=2"),
            Some(481),
        ),
        (
            outside("ACK", "a", "").replace("<sip:+4930123456@203.0.113.7>", "<sip:a@b>;tag=2"),
            None,
        ),
        (outside("CANCEL", "x", ""), Some(481)),
    ] {
        let mut scene = Scene::default();
        scene.world.say(scene.carrier, &request);
        scene.world.finish();
        let answers = scene.world.peer(scene.carrier).heard("");
        let codes: Vec<u16> = answers.iter().map(|text| text.code()).collect();
        assert_eq!(codes, Vec::from_iter(code), "{request}");
        if code == Some(420) {
            assert_eq!(answers[0].header("Unsupported"), Some("magic"));
        }
    }
}

#[test]
fn an_invite_without_hops_left_is_refused_and_its_ack_absorbed() {
    let mut scene = Scene::default();
    let invite = outside("INVITE", "f", "Contact: <sip:c@198.51.100.10>\r\n").replace("Forwards: 70", "Forwards: 0");
    scene.world.say(scene.carrier, &invite);
    scene.run(10);
    let refusal = scene.world.peer(scene.carrier).heard("483")[0].clone();
    scene
        .world
        .say(scene.carrier, &ack_of(&invite, refusal.header("To").unwrap()));
    scene.world.finish();
    assert_ladder("no_hops_left", &scene.world);
}

#[test]
fn a_stranger_is_refused_without_state_and_its_ack_is_known() {
    let mut stranger = carrier();
    stranger.name = "stranger".into();
    stranger.address = "192.0.2.66:5060".parse().unwrap();
    let mut scene = Scene::default();
    let stranger = scene.world.add(stranger);
    let invite = outside("INVITE", "s", "Contact: <sip:c@192.0.2.66>\r\n").replace("198.51.100.10", "192.0.2.66");
    scene.world.say(stranger, &invite);
    scene.run(10);
    assert!(scene.world.shard(0).is_idle(), "a stranger costs no state");
    let refusal = scene.world.peer(stranger).heard("403")[0].clone();
    scene
        .world
        .say(stranger, &ack_of(&invite, refusal.header("To").unwrap()));
    scene.world.finish();
    assert_ladder("stranger", &scene.world);
}

#[test]
fn responses_that_match_nothing_are_dropped() {
    let mut scene = Scene::default();
    for via in [
        "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK00000001000000010000000000000000",
        "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKx",
        "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1",
    ] {
        let stray = format!(
            "SIP/2.0 200 OK\r\nVia: {via}\r\nVia: SIP/2.0/UDP {CARRIER};branch=z9hG4bKc\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        );
        scene.world.say(scene.platform, &stray);
    }
    scene.world.finish();
    assert!(scene.world.peer(scene.carrier).heard("").is_empty());
    assert_eq!(scene.world.shard(0).counters().stray_responses_total, 3);
}

#[test]
fn peers_without_route_sets_talk_through_referee() {
    let (mut carrier, mut platform) = (carrier(), platform());
    carrier.manners.follows_routes = false;
    platform.manners.follows_routes = false;
    let mut scene = Scene::with(TWO_SIDES, carrier, platform);
    let call = scene.answered();
    scene.carrier_does(&call, request("INFO"));
    scene.run(1_000);
    scene.platform_does(&call, request("INFO"));
    scene.run(1_000);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("no_route_sets", &scene.world);
    let heard = scene.world.peer(scene.platform).heard("ACK")[0]
        .request_uri()
        .to_owned();
    assert_eq!(heard, "sip:user@10.0.0.5:5060");
}

#[test]
fn requests_within_a_dialog_pass_both_ways_between_two_listeners() {
    let mut scene = Scene::default();
    let call = scene.answered();
    for method in ["INFO", "UPDATE", "MESSAGE", "FOO"] {
        scene.carrier_does(&call, request(method));
        scene.run(100);
        scene.platform_does(&call, request(method));
        scene.run(100);
    }
    scene.platform_does(&call, request("INVITE"));
    scene.run(100);
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("in_dialog", &scene.world);
    for (peer, heard) in [(scene.carrier, "INFO"), (scene.platform, "INFO")] {
        let info = scene.world.peer(peer).heard(heard)[0].clone();
        assert_eq!(info.header("Route"), None);
        assert_eq!(info.header("Record-Route"), None);
    }
}

#[test]
fn udp_on_one_side_and_tcp_on_the_other() {
    let config = TWO_SIDES.replace("udp:10.0.0.5:5060", "tcp:10.0.0.5:5060");
    let mut platform = platform();
    platform.manners.transport = Transport::Tcp;
    let mut scene = Scene::with(&config, carrier(), platform);
    let call = scene.answered();
    scene.platform_does(&call, request("INFO"));
    scene.run(100);
    scene.carrier_does(&call, request("INFO"));
    scene.run(100);
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("udp_and_tcp", &scene.world);
    let routes = scene.world.peer(scene.platform).heard("INVITE")[0].list("Record-Route");
    assert!(routes[0].contains("10.0.0.1:5060;transport=tcp;lr"), "{routes:?}");
    assert!(!routes[1].contains("transport"), "{routes:?}");
}

#[test]
fn a_carrier_calls_over_tcp() {
    let mut carrier = carrier();
    carrier.manners.transport = Transport::Tcp;
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    let call = scene.answered();
    scene.platform_does(&call, request("INFO"));
    scene.run(100);
    // The connection is gone: a new one is opened for what the platform says.
    scene.world.close_connections(scene.carrier);
    scene.platform_does(&call, request("INFO"));
    scene.run(100);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [200, 200]);
}

#[test]
fn a_connection_that_cannot_be_opened_is_a_500() {
    let config = TWO_SIDES.replace("udp:10.0.0.5:5060", "tcp:10.0.0.77:5060");
    let mut scene = Scene::with(&config, carrier(), platform());
    scene.call();
    scene.world.finish();
    assert_ladder("unreachable", &scene.world);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [500]);
}

#[test]
fn a_name_in_a_contact_is_looked_up_once() {
    let mut carrier = carrier();
    carrier.manners.contact_host = Some("sbc.carrier.example:5060".into());
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    scene
        .world
        .name("sbc.carrier.example", &["198.51.100.10".parse().unwrap()]);
    let call = scene.answered();
    scene.platform_does(&call, request("INFO"));
    scene.run(1_000);
    scene.platform_does(&call, request("INFO"));
    scene.run(1_000);
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("name_in_contact", &scene.world);
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [200, 200]);
}

#[test]
fn a_name_without_an_address_is_a_500() {
    let mut carrier = carrier();
    carrier.manners.contact_host = Some("nowhere.example".into());
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    let call = scene.answered();
    scene.platform_does(&call, request("INFO"));
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [500]);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_notify_of_another_package_passes() {
    let mut scene = Scene::default();
    let call = scene.answered();
    let headers = [("Event", "telephone-event"), ("Subscription-State", "active")];
    scene.carrier_does(&call, request_with("NOTIFY", &headers, ""));
    scene.run(100);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).heard("NOTIFY").len(), 1);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [200]);
}

#[test]
fn a_refer_notify_of_no_subscription_is_for_the_party_to_answer() {
    let mut scene = Scene::default();
    let call = scene.answered();
    let unknown = steps([(0, respond(481))]);
    scene.world.peer_mut(scene.platform).on("NOTIFY", unknown);
    scene.carrier_does(&call, notify("200 OK", "terminated"));
    scene.run(100);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).heard("NOTIFY").len(), 1);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [481]);
}

#[test]
fn a_contact_that_moves_moves_the_requests_to_it() {
    let mut scene = Scene::default();
    let call = scene.answered();
    scene.carrier_does(
        &call,
        Act::Move {
            contact: "<sip:moved@198.51.100.10:5060>".into(),
        },
    );
    scene.carrier_does(&call, request("INVITE"));
    scene.run(1_000);
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    let bye = scene.world.peer(scene.carrier).heard(BYE)[0].clone();
    assert_eq!(bye.request_uri(), "sip:moved@198.51.100.10:5060");
}

#[test]
fn byes_that_cross_both_end() {
    let mut scene = Scene::default();
    let call = scene.answered();
    scene.carrier_does(&call, request(BYE));
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("crossing_byes", &scene.world);
}

#[test]
fn a_reliable_provisional_response_is_acknowledged_end_to_end() {
    let mut scene = Scene::default();
    let reliable = respond_with(183, &[("Require", "100rel"), ("RSeq", "7")]);
    let answers = steps([(50, reliable), (1_000, respond(200))]);
    scene.world.peer_mut(scene.platform).on("INVITE", answers);
    let call = scene.answered();
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_ladder("prack", &scene.world);
}

#[test]
fn a_call_in_the_other_direction() {
    let mut scene = Scene::default();
    let call = scene.world.call(scene.platform, "sip:+491701@10.0.0.1", &[]);
    scene.run(2_000);
    let heard = scene.world.peer(scene.carrier).heard("INVITE")[0].clone();
    assert_eq!(uri_of(heard.header("To").unwrap()), "sip:+491701@10.0.0.1");
    assert_eq!(heard.request_uri(), format!("sip:+491701@{CARRIER}"));
    assert!(heard.list("Record-Route")[0].contains(PUBLIC));
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_draining_referee_takes_no_new_calls_and_serves_those_it_has() {
    let mut scene = Scene::default();
    let call = scene.answered();
    scene.world.drain();
    scene.call();
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INVITE"), [200, 503]);
    let refusal = scene.world.peer(scene.carrier).heard("503")[0].clone();
    assert!(refusal.header("Retry-After").is_some());
    scene.carrier_does(&call, request("INFO"));
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INFO"), [200]);
}

#[test]
fn a_bye_that_nobody_answers_ends_the_call_all_the_same() {
    let mut scene = Scene::default();
    let call = scene.answered();
    scene.world.network.lose("referee", "platform", BYE, 100);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.carrier).outcomes(BYE), [408]);
}

fn is_known(scene: &mut Scene, call: &str) -> bool {
    let call = CallSelector::SipCallId(call.as_bytes().to_vec());
    let ticket = scene.world.command(Command::Call { call });
    matches!(scene.world.reply(ticket), Some(Reply::Call(_)))
}

/// A callee whose 2xx is lost takes the call for answered, and may hang up before it comes again (RFC 3261 §15.1.1).
fn with_lost_2xx_and_bye() -> Scene {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.platform)
        .on("INVITE", steps([(0, respond(200)), (100, request(BYE))]));
    scene.world.network.lose("platform", "referee", "200 OK (INVITE)", 1);
    scene
}

#[test]
fn a_2xx_that_comes_after_its_callees_bye_makes_no_call_that_lives() {
    let mut scene = with_lost_2xx_and_bye();
    let call = scene.call();
    scene.run(5_000);
    assert_ladder("hangup_and_late_200", &scene.world);
    assert!(!is_known(&mut scene, &call));
    // Its caller has heard of no BYE.
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).heard(BYE).len(), 1);
    let counters = scene.world.shard(0).counters();
    assert_eq!((counters.calls_total, counters.calls_answered_total), (1, 1));
}

/// The 2xx comes while the BYE is still under way.
#[test]
fn a_2xx_that_its_callees_bye_has_overtaken_makes_no_call_that_lives() {
    let mut scene = with_lost_2xx_and_bye();
    scene.world.network.lose("referee", "carrier", BYE, 1);
    let call = scene.call();
    scene.run(5_000);
    assert_ladder("hangup_overtakes_200", &scene.world);
    assert!(!is_known(&mut scene, &call));
    scene.world.finish();
}

#[test]
fn an_unanswered_ack_leaves_no_trace() {
    let mut scene = Scene::default();
    // The platform gives the call up after 32 s without an ACK (RFC 3261 §13.3.1.4).
    scene.world.network.lose("referee", "platform", "ACK", 100);
    let call = scene.call();
    scene.world.finish();
    assert!(!scene.world.peer(scene.carrier).is_up(&call));
    assert_eq!(scene.world.peer(scene.platform).outcomes(BYE), [200]);
}

/// A request outside a dialog, without a body.
fn outside(method: &str, name: &str, lines: &str) -> String {
    format!(
        "{method} sip:+4930123456@203.0.113.7 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{name}\r\nMax-Forwards: 70\r\n\
         From: <sip:c@h>;tag=1\r\nTo: <sip:+4930123456@203.0.113.7>\r\nCall-ID: {name}\r\nCSeq: 1 {method}\r\n{lines}\
         Content-Length: 0\r\n\r\n"
    )
}

/// The ACK for a refusal of an INVITE made by [`outside`].
fn ack_of(invite: &str, to: &str) -> String {
    invite
        .replace("INVITE", "ACK")
        .replace("To: <sip:+4930123456@203.0.113.7>", &format!("To: {to}"))
}

#[test]
fn a_bye_that_cannot_go_on_ends_the_call_all_the_same() {
    let mut carrier = carrier();
    carrier.manners.contact_host = Some("nowhere.example".into());
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    let call = scene.answered();
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).outcomes(BYE), [500]);
    assert_eq!(scene.world.shard(0).counters().calls, 0);
}

#[test]
fn a_route_of_ours_that_a_new_request_brings_along_goes_no_further() {
    let mut scene = Scene::default();
    let call = scene.world.call(
        scene.carrier,
        "sip:+4930123456@example.com",
        &[("Route", "<sip:203.0.113.7:5060;lr>")],
    );
    scene.run(2_000);
    let heard = scene.world.peer(scene.platform).heard("INVITE")[0].clone();
    assert_eq!(heard.header("Route"), None);
    assert_eq!(heard.request_uri(), "sip:+4930123456@example.com");
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_token_does_not_carry_a_refer_past_the_trunks_rule() {
    let mut scene = Scene::default();
    let call = scene.answered();
    let answer = scene.world.peer(scene.carrier).heard("200 OK (INVITE)")[0].clone();
    let invite = scene.world.peer(scene.carrier).said("INVITE")[0].clone();
    let route = answer.list("Record-Route");
    // Reversed, as a caller's route set is (RFC 3261 §12.1.2).
    let route: Vec<_> = route.iter().rev().map(|value| value.to_string()).collect();
    let forged = format!(
        "REFER sip:user@10.0.0.5:5060 SIP/2.0\r\nVia: SIP/2.0/UDP {CARRIER};branch=z9hG4bKforged\r\n\
         Max-Forwards: 70\r\nRoute: {}\r\nFrom: {}\r\nTo: <sip:x@y>;tag=of-another-fork\r\nCall-ID: {call}\r\n\
         CSeq: 9 REFER\r\nRefer-To: <sip:a@b>\r\nContact: <sip:c@{CARRIER}>\r\nContent-Length: 0\r\n\r\n",
        route.join(", "),
        invite.header("From").unwrap(),
    );
    scene.world.say(scene.carrier, &forged);
    scene.run(1_000);
    assert!(scene.world.peer(scene.platform).heard("REFER").is_empty());
    assert_eq!(scene.world.peer(scene.carrier).heard("603").len(), 1);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn what_is_refused_fills_no_table_beyond_its_limit() {
    let config = format!("{TWO_SIDES}\n[limits]\ntransactions_max = 8\n");
    let mut scene = Scene::with(&config, carrier(), platform());
    for i in 0..100 {
        let refer = outside("REFER", &format!("refused{i}"), "Refer-To: <sip:a@b>\r\n");
        scene.world.say(scene.carrier, &refer);
        let cancel = outside("CANCEL", &format!("cancel{i}"), "");
        scene.world.say(scene.carrier, &cancel);
    }
    scene.run(1_000);
    assert!(scene.world.shard(0).counters().transactions <= 8);
    let carrier = scene.world.peer(scene.carrier);
    assert_eq!(carrier.heard("481").len(), 100);
    let (declined, shed) = (carrier.heard("603").len(), carrier.heard("503").len());
    assert!(
        declined > 0 && declined + shed == 100,
        "{declined} declined, {shed} shed"
    );
    scene.world.finish();
}

#[test]
fn in_a_spiral_each_pass_knows_its_own_part_of_the_way() {
    let mut scene = Scene::default();
    for _ in 0..2 {
        scene.world.peer_mut(scene.platform).on("INVITE", steps([]));
    }
    let contact = format!("Contact: <sip:c@{CARRIER}>\r\n");
    let first = outside("INVITE", "spiral", &contact);
    scene.world.say(scene.carrier, &first);
    scene
        .world
        .say(scene.carrier, &first.replace("z9hG4bKspiral", "z9hG4bKspiral2"));
    scene.run(100);
    let heard: Vec<_> = scene
        .world
        .peer(scene.platform)
        .heard("INVITE")
        .into_iter()
        .cloned()
        .collect();
    let (inner, outer) = (
        heard[1].list("Record-Route").join(", "),
        heard[0].list("Record-Route").join(", "),
    );
    let answer = format!(
        "SIP/2.0 200 OK\r\nVia: {}\r\nRecord-Route: <sip:10.0.0.9;lr>, {inner}, <sip:10.0.0.5;lr>, {outer}\r\n\
         From: <sip:c@h>;tag=1\r\nTo: <sip:+4930123456@203.0.113.7>;tag=2\r\nCall-ID: spiral\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:user@10.0.0.8>\r\nContent-Length: 0\r\n\r\n",
        heard[0].list("Via").join(", "),
    );
    scene.world.say(scene.platform, &answer);
    scene.run(100);
    let bye = outside("BYE", "spiralbye", "")
        .replace("Call-ID: spiralbye", "Call-ID: spiral")
        .replace("CSeq: 1", "CSeq: 2")
        .replace(
            "To: <sip:+4930123456@203.0.113.7>",
            "To: <sip:+4930123456@203.0.113.7>;tag=2",
        );
    scene.world.say(scene.carrier, &bye);
    scene.run(100);
    // Without a Route the dialog says the way: by the platform, which leads to the second pass.
    let bye = scene.world.peer(scene.platform).heard(BYE)[0].clone();
    let inner: Vec<_> = heard[1].list("Record-Route").into_iter().rev().collect();
    assert_eq!(
        bye.list("Route").join(", "),
        format!("<sip:10.0.0.5;lr>, {}, <sip:10.0.0.9;lr>", inner.join(", "))
    );
}

#[test]
fn of_the_addresses_of_a_name_one_is_taken_that_a_socket_reaches() {
    let mut carrier = carrier();
    carrier.manners.contact_host = Some("sbc.carrier.example:5060".into());
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    let addresses = ["2001:db8::1", "198.51.100.10"].map(|address| address.parse().unwrap());
    scene.world.name("sbc.carrier.example", &addresses);
    let call = scene.answered();
    scene.platform_does(&call, request("INFO"));
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [200]);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_callee_whose_tag_the_token_takes_for_the_callers_is_told_from_it() {
    let mut scene = Scene::default();
    let secret = scene.world.secret();
    let traversal = Traversal::new(CallKey::default(), TrunkId(0), TrunkId(1), b"caller", &secret);
    let alike = (0..10_000_000).map(|i| format!("callee-{i}"));
    let tag = alike
        .into_iter()
        .find(|tag| traversal.is_from_caller(tag.as_bytes(), &secret))
        .unwrap();
    scene.world.peer_mut(scene.carrier).manners.tag = Some("caller".into());
    scene.world.peer_mut(scene.platform).manners.tag = Some(tag);
    let call = scene.answered();
    scene.platform_does(&call, request("INFO"));
    scene.carrier_does(&call, request("INFO"));
    scene.run(100);
    scene.platform_does(&call, request(BYE));
    scene.run(100);
    // The call is forgotten: the token alone says whose these are.
    for peer in [scene.carrier, scene.platform] {
        let late = Act::Again {
            method: "INFO".into(),
            headers: Vec::new(),
        };
        scene.world.act(peer, &call, late);
    }
    scene.world.finish();
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).heard("INFO").len(), 2);
        assert_eq!(scene.world.peer(peer).outcomes("INFO"), [200, 481]);
    }
    assert_eq!(scene.world.peer(scene.platform).outcomes(BYE), [200]);
}
