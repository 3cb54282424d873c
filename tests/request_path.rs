//! Rules of a proxy on a request's way, in virtual time: when a 100 is due, routes of strict and loose routers, requests that pass
//! twice, and those too large for a datagram (RFC 3261 §16, §18.1.1, RFC 4320).

use referee::command::Reply;
use referee::sim::World;
use referee::sim::peer::Peer;
use referee::sim::peer::script::{Act, Manners, Streams, request, request_with, respond, respond_with, steps};
use referee::sim::peer::text::Text;
use referee::sim::scene::{PRIVATE, PUBLIC, Scene, TWO_SIDES, carrier, config, platform};
use referee::sim::wire::Wire;
use referee::timer::Instant;
use referee::transport::Transport;
use serde_json::json;
use std::time::Duration;

const BYE: &str = "BYE";

// ---- responses to non-INVITEs (RFC 4320) ----

#[test]
fn a_slow_non_invite_gets_a_100_when_timer_e_has_reached_t2() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut carrier = carrier();
        carrier.manners.transport = transport;
        let mut scene = Scene::with(TWO_SIDES, carrier, platform());
        let call = scene.answered();
        let slow = steps([(10_000, respond(200))]);
        scene.world.peer_mut(scene.platform).on("INFO", slow);
        let begun = scene.world.now();
        scene.carrier_does(&call, request("INFO"));
        scene.run(12_000);
        let carrier = scene.world.peer(scene.carrier);
        // Timer E fires after 0.5, 1.5 and 3.5 s: then it is T2. The repeat that follows gets the 100 again.
        let due = begun + Duration::from_millis(1 + 3_500 + 1);
        let trying = carrier.heard_at("100 Trying (INFO)");
        assert_eq!(trying.first(), Some(&due), "{transport}");
        assert!(trying.len() <= 2, "{transport}: {trying:?}");
        assert!(
            carrier
                .heard("100 Trying (INFO)")
                .iter()
                .all(|text| text.tag("To").is_some())
        );
        assert_eq!(carrier.outcomes("INFO"), [200]);
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
    }
}

#[test]
fn a_100_has_no_to_tag_of_ours() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.platform)
        .on("MESSAGE", steps([(4_000, respond(200))]));
    scene.world.say(scene.carrier, &outside("MESSAGE", "slow"));
    scene.world.finish();
    let carrier = scene.world.peer(scene.carrier);
    let labels: Vec<_> = carrier.heard("").iter().map(|text| text.label()).collect();
    assert_eq!(labels, ["100 Trying (MESSAGE)", "200 OK (MESSAGE)"]);
    assert_eq!(carrier.heard("100")[0].tag("To"), None);
}

#[test]
fn a_non_invite_that_is_answered_in_time_gets_no_100() {
    let mut scene = Scene::default();
    let call = scene.answered();
    scene
        .world
        .peer_mut(scene.platform)
        .on("INFO", steps([(3_400, respond(200))]));
    scene.carrier_does(&call, request("INFO"));
    scene.run(10_000);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    for method in ["INFO", BYE] {
        assert!(
            scene
                .world
                .peer(scene.carrier)
                .heard(&format!("100 Trying ({method})"))
                .is_empty()
        );
    }
}

#[test]
fn a_non_invite_that_nobody_answers_gets_a_100_and_nothing_more() {
    for answer in [None, Some((20, respond(408)))] {
        let mut scene = Scene::default();
        let call = scene.answered();
        let trying = answer.is_none();
        scene.world.peer_mut(scene.platform).on("INFO", steps(answer));
        scene.carrier_does(&call, request("INFO"));
        scene.run(40_000);
        let carrier = scene.world.peer(scene.carrier);
        // RFC 4320 §4.2: no 408. It is the sender's own Timer F that ends it.
        let answers = carrier.heard("").into_iter().filter(|text| text.cseq().1 == "INFO");
        assert!(answers.clone().all(|text| text.code() == 100));
        assert_eq!(answers.count() > 0, trying);
        assert_eq!(carrier.outcomes("INFO"), [408]);
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
    }
}

#[test]
fn no_provisional_response_but_100_goes_to_a_non_invite() {
    let mut scene = Scene::default();
    let call = scene.answered();
    for method in ["INFO", BYE] {
        let odd = steps([(10, respond(180)), (20, respond(183)), (300, respond(200))]);
        scene.world.peer_mut(scene.platform).on(method, odd);
        scene.carrier_does(&call, request(method));
        scene.run(1_000);
    }
    scene.world.finish();
    let carrier = scene.world.peer(scene.carrier);
    assert_eq!(
        (carrier.outcomes("INFO"), carrier.outcomes(BYE)),
        (vec![200], vec![200])
    );
    let provisional = |text: &&referee::sim::peer::text::Text| (100..200).contains(&text.code());
    assert_eq!(
        carrier
            .heard("")
            .into_iter()
            .filter(provisional)
            .filter(|text| text.cseq().1 != "INVITE")
            .count(),
        0
    );
}

#[test]
fn a_response_to_a_bye_that_comes_too_late_is_dropped() {
    let mut scene = Scene::default();
    let call = scene.answered();
    scene
        .world
        .peer_mut(scene.platform)
        .on(BYE, steps([(40_000, respond(200))]));
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    let carrier = scene.world.peer(scene.carrier);
    assert!(carrier.heard("200 OK (BYE)").is_empty());
    assert_eq!(scene.world.shard(0).counters().stray_responses_total, 1);
}

#[test]
fn a_notify_of_ours_that_waits_for_the_store_gets_a_100_too() {
    let mut world = World::new(1, 1, config(TWO_SIDES), Some(Duration::from_secs(5)));
    let (carrier, platform) = (world.add(carrier()), world.add(platform()));
    let mut scene = Scene {
        world,
        carrier,
        platform,
    };
    let course = steps([
        (10, respond(202)),
        (
            20,
            referee::sim::peer::script::notify("486 Busy Here", "terminated;reason=noresource"),
        ),
    ]);
    scene.world.peer_mut(scene.carrier).on("REFER", course);
    let call = scene.answered();
    let verb = json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/a"});
    assert!(scene.world.verbs(&call, &verb).is_ok());
    scene.run(20_000);
    let carrier = scene.world.peer(scene.carrier);
    assert_eq!(carrier.outcomes("NOTIFY"), [200]);
    assert!(!carrier.heard("100 Trying (NOTIFY)").is_empty());
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
}

// ---- Request-URI and Route ----

/// Messages at bare wires, read as text.
struct Raw {
    wire: Wire,
}

/// A message that left, and where it went.
type Left = (String, Text);

impl Raw {
    fn new(config: &str) -> Raw {
        let mut wire = Wire::new(config);
        wire.resolve_all_to(&["198.51.100.10".parse().unwrap()]);
        Raw { wire }
    }

    /// What leaves for this datagram.
    fn say(&mut self, from: &str, to: &str, text: &str) -> Vec<Left> {
        let sent = self
            .wire
            .datagram(from.parse().unwrap(), to.parse().unwrap(), text.as_bytes());
        let read = |sent: referee::sim::wire::Sent| (sent.flow.peer.to_string(), Text::read(&sent.bytes).unwrap());
        sent.into_iter().map(read).collect()
    }

    /// The one message that leaves for this datagram, 100 Trying left out.
    fn pass(&mut self, from: &str, to: &str, text: &str) -> Left {
        let mut left = self.say(from, to, text);
        left.retain(|(_, text)| text.code() != 100);
        assert_eq!(left.len(), 1, "{text}{left:?}");
        left.remove(0)
    }
}

/// A request with these lines, CSeq among them.
fn ask(method: &str, uri: &str, sender: &str, branch: &str, lines: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {sender};branch=z9hG4bK{branch};rport\r\nMax-Forwards: 70\r\n\
         Call-ID: way\r\n{lines}Content-Length: 0\r\n\r\n"
    )
}

/// The 200 to a request as it arrived.
fn ok(request: &Text, to_tag: &str, lines: &str) -> String {
    let mut text = "SIP/2.0 200 OK\r\n".to_owned();
    for (name, value) in &request.headers {
        match name.as_str() {
            "To" if !value.contains(";tag=") => text += &format!("To: {value};tag={to_tag}\r\n"),
            "Via" | "From" | "To" | "Call-ID" | "CSeq" => text += &format!("{name}: {value}\r\n"),
            _ => {}
        }
    }
    text + lines + "Content-Length: 0\r\n\r\n"
}

fn record_routes(values: &[String]) -> String {
    values
        .iter()
        .map(|value| format!("Record-Route: {value}\r\n"))
        .collect()
}

const CALLER: &str = "From: <sip:caller@u1.example.com>;tag=1\r\nTo: <sip:callee@u2.domain.com>";
const CALLEE: &str = "From: <sip:callee@u2.domain.com>;tag=2\r\nTo: <sip:caller@u1.example.com>;tag=1";
const NEXT_TO_CALLER: &str = "198.51.100.10:5060";
const NEXT_TO_CALLEE: &str = "10.0.0.5:5060";

/// A dialog between u1 and u2 with further proxies on either side, which record-route so; gives back ours, as they stand.
fn established(raw: &mut Raw, towards_caller: &str, towards_callee: &[&str]) -> Vec<String> {
    let lines = format!("{towards_caller}{CALLER}\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@u1.example.com>\r\n");
    let invite = ask("INVITE", "sip:callee@domain.com", NEXT_TO_CALLER, "i", &lines);
    let (_, arrived) = raw.pass(NEXT_TO_CALLER, PUBLIC, &invite);
    let ours: Vec<_> = arrived.list("Record-Route").into_iter().take(2).collect();
    let mut all: Vec<_> = towards_callee.iter().map(|value| value.to_string()).collect();
    all.extend(arrived.list("Record-Route"));
    let answer = ok(
        &arrived,
        "2",
        &format!("{}Contact: <sip:callee@u2.domain.com>\r\n", record_routes(&all)),
    );
    raw.pass(NEXT_TO_CALLEE, PRIVATE, &answer);
    let lines = format!("Route: {}, {}\r\n{CALLER};tag=2\r\nCSeq: 1 ACK\r\n", ours[1], ours[0]);
    raw.say(
        NEXT_TO_CALLER,
        PUBLIC,
        &ask("ACK", "sip:callee@u2.domain.com", NEXT_TO_CALLER, "a", &lines),
    );
    ours
}

/// RFC 3261 §18: connections are used again. Where a party has opened a second one, its own requests tell which one it uses now.
#[test]
fn a_request_goes_by_the_connection_over_which_its_party_was_last_heard() {
    let mut raw = Raw::new(TWO_SIDES);
    let to = PUBLIC.parse().unwrap();
    let streams = [40_001, 40_002].map(|port| raw.wire.connect(([198, 51, 100, 10], port).into(), to));
    let by_stream = |raw: &mut Raw, number: usize, text: &str| {
        let text = text.replace("SIP/2.0/UDP", "SIP/2.0/TCP");
        let sent = raw.wire.segment(streams[number], text.as_bytes());
        let connection = sent[0].flow.connection;
        (
            connection,
            sent.last().map(|sent| Text::read(&sent.bytes).unwrap()).unwrap(),
        )
    };
    let contact = "Contact: <sip:caller@198.51.100.10;transport=tcp>\r\n";
    let invite = ask(
        "INVITE",
        "sip:callee@domain.com",
        "198.51.100.10",
        "i",
        &format!("{CALLER}\r\nCSeq: 1 INVITE\r\n{contact}"),
    );
    let (first, arrived) = by_stream(&mut raw, 0, &invite);
    let all = arrived.list("Record-Route");
    let lines = format!("{}Contact: <sip:callee@10.0.0.5>\r\n", record_routes(&all));
    raw.pass(NEXT_TO_CALLEE, PRIVATE, &ok(&arrived, "2", &lines));
    let route = format!("Route: {}, {}\r\n{CALLER};tag=2\r\n", all[1], all[0]);
    by_stream(
        &mut raw,
        0,
        &ask(
            "ACK",
            "sip:callee@10.0.0.5",
            "198.51.100.10",
            "a",
            &format!("{route}CSeq: 1 ACK\r\n"),
        ),
    );
    let mut asked = 0;
    let mut used = |raw: &mut Raw| {
        asked += 1;
        let lines = format!("Route: {}, {}\r\n{CALLEE}\r\nCSeq: {asked} INFO\r\n", all[0], all[1]);
        let info = ask(
            "INFO",
            "sip:caller@198.51.100.10;transport=tcp",
            NEXT_TO_CALLEE,
            &format!("b{asked}"),
            &lines,
        );
        let sent = raw.wire.datagram(
            NEXT_TO_CALLEE.parse().unwrap(),
            PRIVATE.parse().unwrap(),
            info.as_bytes(),
        );
        sent[0].flow.connection
    };
    assert!(first.is_some());
    assert_eq!(used(&mut raw), first);
    let (_, info) = by_stream(
        &mut raw,
        1,
        &ask(
            "INFO",
            "sip:callee@10.0.0.5",
            "198.51.100.10",
            "c",
            &format!("{route}CSeq: 2 INFO\r\n"),
        ),
    );
    let sent = raw.wire.datagram(
        NEXT_TO_CALLEE.parse().unwrap(),
        PRIVATE.parse().unwrap(),
        ok(&info, "2", "").as_bytes(),
    );
    let second = sent[0].flow.connection;
    assert!(second.is_some() && second != first);
    assert_eq!(used(&mut raw), second);
}

/// RFC 3261 §12.1.2: a response without a To tag makes a dialog all the same, whose tag is the null one; RFC 4028 §8.3.
#[test]
fn a_2xx_without_a_tag_says_until_when_its_session_is_alive() {
    let mut raw = Raw::new(TWO_SIDES);
    let lines = format!("{CALLER}\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@u1.example.com>\r\n");
    let invite = ask("INVITE", "sip:callee@domain.com", NEXT_TO_CALLER, "i", &lines);
    let (_, arrived) = raw.pass(NEXT_TO_CALLER, PUBLIC, &invite);
    let lines = "Contact: <sip:callee@u2.domain.com>\r\nSession-Expires: 600;refresher=uac\r\n";
    let answer = ok(&arrived, "2", lines).replace(";tag=2", "");
    raw.pass(NEXT_TO_CALLEE, PRIVATE, &answer);
    raw.wire.wait(Duration::from_secs(599));
    assert_eq!(raw.wire.shard().counters().calls, 1);
    raw.wire.wait(Duration::from_secs(1));
    let counters = raw.wire.shard().counters();
    assert_eq!((counters.calls, counters.calls_expired_total), (0, 1));
}

#[test]
fn a_loose_route_is_followed_as_in_the_basic_example() {
    // RFC 3261 §16.12.1.1: the BYE of U2 at P2, whose own value is on top.
    let mut raw = Raw::new(TWO_SIDES);
    let ours = established(&mut raw, "Record-Route: <sip:p1.example.com;lr>\r\n", &[]);
    let lines = format!(
        "Route: {}, {},<sip:p1.example.com;lr>\r\n{CALLEE}\r\nCSeq: 1 BYE\r\n",
        ours[0], ours[1]
    );
    let bye = ask(BYE, "sip:caller@u1.example.com", NEXT_TO_CALLEE, "b", &lines);
    let (to, bye) = raw.pass(NEXT_TO_CALLEE, PRIVATE, &bye);
    assert_eq!(
        (to.as_str(), bye.request_uri()),
        (NEXT_TO_CALLER, "sip:caller@u1.example.com")
    );
    assert_eq!(bye.list("Route"), ["<sip:p1.example.com;lr>"]);
}

#[test]
fn a_strict_router_as_next_hop_gets_its_uri_in_the_request_uri() {
    // RFC 3261 §16.12.1.2: referee is P4, the strict router is P3.
    let mut raw = Raw::new(TWO_SIDES);
    let before =
        "Record-Route: <sip:p3.middle.com>\r\nRecord-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>\r\n";
    let ours = established(&mut raw, before, &[]);
    let lines = format!(
        "Route: {}, {},<sip:p3.middle.com>\r\nRoute: <sip:p2.example.com;lr>,<sip:p1.example.com;lr>\r\n{CALLEE}\r\nCSeq: 1 BYE\r\n",
        ours[0], ours[1]
    );
    let bye = ask(BYE, "sip:caller@u1.example.com", NEXT_TO_CALLEE, "b", &lines);
    let (to, bye) = raw.pass(NEXT_TO_CALLEE, PRIVATE, &bye);
    assert_eq!((to.as_str(), bye.request_uri()), (NEXT_TO_CALLER, "sip:p3.middle.com"));
    assert_eq!(
        bye.list("Route"),
        [
            "<sip:p2.example.com;lr>",
            "<sip:p1.example.com;lr>",
            "<sip:caller@u1.example.com>"
        ]
    );
}

#[test]
fn what_a_strict_router_before_us_has_done_is_undone() {
    // RFC 3261 §16.12.1.2 at P2, which is referee: the Request-URI is its own Record-Route value, the target the last Route.
    let mut raw = Raw::new(TWO_SIDES);
    let after = ["<sip:p4.domain.com;lr>", "<sip:10.0.0.5>"];
    let ours = established(&mut raw, "Record-Route: <sip:p1.example.com;lr>\r\n", &after);
    let own = ours[0].trim_matches(['<', '>']);
    for (number, method) in [(1, "INFO"), (2, "ACK"), (3, BYE)] {
        let lines = format!(
            "Route: {}, <sip:p1.example.com;lr>\r\nRoute: <sip:caller@u1.example.com>\r\n{CALLEE}\r\nCSeq: {number} {method}\r\n",
            ours[1]
        );
        let asked = ask(method, own, NEXT_TO_CALLEE, method, &lines);
        let (to, passed) = raw.pass(NEXT_TO_CALLEE, PRIVATE, &asked);
        assert_eq!(
            (to.as_str(), passed.request_uri()),
            (NEXT_TO_CALLER, "sip:caller@u1.example.com")
        );
        assert_eq!(passed.list("Route"), ["<sip:p1.example.com;lr>"], "{method}");
        if method == BYE {
            let answer = raw.pass(NEXT_TO_CALLER, PUBLIC, &ok(&passed, "1", ""));
            assert_eq!(answer.0, NEXT_TO_CALLEE);
        }
    }
    assert_eq!(raw.wire.shard().counters().calls, 0);
}

#[test]
fn what_only_looks_like_our_record_route_in_a_request_uri_stays() {
    let mut raw = Raw::new(TWO_SIDES);
    let uri = format!("sip:10.0.0.9:5060;lr;r={}", "A".repeat(28));
    let lines = format!("Route: <sip:203.0.113.7;lr>, <sip:p1;lr>\r\n{CALLER}\r\nCSeq: 1 MESSAGE\r\n");
    let asked = ask("MESSAGE", &uri, NEXT_TO_CALLER, "m", &lines);
    let passed = raw.pass(NEXT_TO_CALLER, PUBLIC, &asked).1;
    assert_eq!(
        (passed.request_uri(), passed.list("Route")),
        (&uri[..], vec!["<sip:p1;lr>".to_owned()])
    );
}

#[test]
fn a_route_to_a_strict_router_alone_leaves_the_target_as_the_only_route() {
    let mut raw = Raw::new(TWO_SIDES);
    let ours = established(&mut raw, "", &["<sip:10.0.0.5;x=y?Subject=a>"]);
    let lines = format!(
        "Route: {}, {}, <sip:10.0.0.5;x=y?Subject=a>\r\n{CALLER};tag=2\r\nCSeq: 2 BYE\r\n",
        ours[1], ours[0]
    );
    let bye = ask(BYE, "sip:callee@u2.domain.com;z", NEXT_TO_CALLER, "b", &lines);
    let (to, bye) = raw.pass(NEXT_TO_CALLER, PUBLIC, &bye);
    assert_eq!((to.as_str(), bye.request_uri()), (NEXT_TO_CALLEE, "sip:10.0.0.5;x=y"));
    assert_eq!(bye.list("Route"), ["<sip:callee@u2.domain.com;z>"]);
}

#[test]
fn our_own_requests_pass_strict_routers_too() {
    let mut raw = Raw::new(TWO_SIDES);
    established(
        &mut raw,
        "Record-Route: <sip:198.51.100.10>\r\n",
        &["<sip:p4.domain.com;lr>", "<sip:10.0.0.5>"],
    );
    let verb = json!([{"verb": "hangup"}]);
    let (sent, _) = raw.wire.verbs(b"way", &verb);
    let read: Vec<_> = sent
        .iter()
        .map(|sent| (sent.flow.peer.to_string(), Text::read(&sent.bytes).unwrap()))
        .collect();
    let [(to_caller, caller), (to_callee, callee)] = &read[..] else {
        panic!("{read:?}")
    };
    assert_eq!(
        (to_caller.as_str(), caller.request_uri()),
        (NEXT_TO_CALLER, "sip:198.51.100.10")
    );
    assert_eq!(caller.list("Route"), ["<sip:caller@u1.example.com>"]);
    assert_eq!(
        (to_callee.as_str(), callee.request_uri()),
        (NEXT_TO_CALLEE, "sip:10.0.0.5")
    );
    assert_eq!(
        callee.list("Route"),
        ["<sip:p4.domain.com;lr>", "<sip:callee@u2.domain.com>"]
    );
}

#[test]
fn the_route_set_to_the_callee_is_that_of_its_2xx() {
    // RFC 3261 §13.2.2.4: it is computed anew when an early dialog is confirmed.
    let mut raw = Raw::new(TWO_SIDES);
    let before = "Record-Route: <sip:p2;lr>, <sip:p1;lr>\r\n";
    let lines = format!("{before}{CALLER}\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@u1.example.com>\r\n");
    let invite = ask("INVITE", "sip:callee@domain.com", NEXT_TO_CALLER, "i", &lines);
    let (_, arrived) = raw.pass(NEXT_TO_CALLER, PUBLIC, &invite);
    for (status, proxies) in [
        ("180 Ringing", vec!["<sip:p9;lr>"]),
        ("200 OK", vec!["<sip:p5;lr>", "<sip:p4;lr>"]),
    ] {
        let mut all: Vec<_> = proxies.iter().map(|value| value.to_string()).collect();
        all.extend(arrived.list("Record-Route"));
        let answer = ok(
            &arrived,
            "2",
            &format!("{}Contact: <sip:callee@u2.domain.com>\r\n", record_routes(&all)),
        );
        raw.pass(NEXT_TO_CALLEE, PRIVATE, &answer.replace("200 OK", status));
    }
    let ours: Vec<_> = arrived.list("Record-Route").into_iter().take(2).collect();
    let lines = format!("Route: {}, {}\r\n{CALLER};tag=2\r\nCSeq: 1 ACK\r\n", ours[1], ours[0]);
    raw.say(
        NEXT_TO_CALLER,
        PUBLIC,
        &ask("ACK", "sip:callee@u2.domain.com", NEXT_TO_CALLER, "a", &lines),
    );
    let (sent, _) = raw.wire.verbs(b"way", &json!([{"verb": "hangup"}]));
    let routes: Vec<_> = sent
        .iter()
        .map(|sent| Text::read(&sent.bytes).unwrap().list("Route"))
        .collect();
    // To the caller in order, to the callee nearest first.
    assert_eq!(routes, [["<sip:p2;lr>", "<sip:p1;lr>"], ["<sip:p4;lr>", "<sip:p5;lr>"]]);
}

#[test]
fn a_peer_without_route_sets_reaches_a_strict_router_all_the_same() {
    let mut raw = Raw::new(TWO_SIDES);
    established(&mut raw, "", &["<sip:p4.domain.com;lr>", "<sip:10.0.0.5>"]);
    let lines = format!("{CALLER};tag=2\r\nCSeq: 2 BYE\r\n");
    let (to, bye) = raw.pass(
        NEXT_TO_CALLER,
        PUBLIC,
        &ask(BYE, "sip:203.0.113.7", NEXT_TO_CALLER, "b", &lines),
    );
    assert_eq!((to.as_str(), bye.request_uri()), (NEXT_TO_CALLEE, "sip:10.0.0.5"));
    assert_eq!(
        bye.list("Route"),
        ["<sip:p4.domain.com;lr>", "<sip:callee@u2.domain.com>"]
    );
}

#[test]
fn a_new_request_goes_to_its_trunk_whatever_its_route_says() {
    // RFC 3261 §16.6 step 6: local policy names the next hop, a loose router, which reads the Routes itself.
    let mut raw = Raw::new(TWO_SIDES);
    for route in ["<sip:p3.middle.com>, <sip:p4;lr>", "<sip:p3.middle.com;lr>"] {
        let lines = format!("Route: <sip:203.0.113.7;lr>, {route}\r\n{CALLER}\r\nCSeq: 1 MESSAGE\r\n");
        let branch = route.len().to_string();
        let asked = ask("MESSAGE", "sip:callee@domain.com", NEXT_TO_CALLER, &branch, &lines);
        let (to, passed) = raw.pass(NEXT_TO_CALLER, PUBLIC, &asked);
        assert_eq!(
            (to.as_str(), passed.request_uri()),
            (NEXT_TO_CALLEE, "sip:callee@domain.com")
        );
        assert_eq!(passed.list("Route").join(", "), route);
    }
}

#[test]
fn a_maddr_that_leads_here_is_taken_off_with_port_and_transport() {
    let mut raw = Raw::new(TWO_SIDES);
    for (number, (uri, passed)) in [
        ("sip:+49;x@example.com;maddr=203.0.113.7", "sip:+49;x@example.com"),
        (
            "sip:a@example.com:5060;Maddr=203.0.113.7;a=b;transport=UDP",
            "sip:a@example.com;a=b",
        ),
        ("sip:example.com;maddr=10.0.0.1;lr", "sip:example.com;lr"),
        // Not where it came by.
        (
            "sip:a@example.com:5070;maddr=203.0.113.7",
            "sip:a@example.com:5070;maddr=203.0.113.7",
        ),
        (
            "sip:a@example.com;maddr=203.0.113.7;transport=tcp",
            "sip:a@example.com;maddr=203.0.113.7;transport=tcp",
        ),
        // Another's: it is the only target, and goes on as it is (RFC 3261 §16.5).
        ("sip:a@example.com;maddr=192.0.2.9", "sip:a@example.com;maddr=192.0.2.9"),
        ("sip:a@203.0.113.7;maddr=192.0.2.9", "sip:a@203.0.113.7;maddr=192.0.2.9"),
        // The name is ours as well: addressed to us, it is retargeted.
        ("sip:a@203.0.113.7;maddr=203.0.113.7", "sip:a@10.0.0.5:5060"),
        (
            "sip:a@203.0.113.7;maddr=203.0.113.7;transport=tcp;b=c",
            "sip:a@10.0.0.5:5060;b=c",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let lines = format!("{CALLER}\r\nCSeq: 1 MESSAGE\r\n");
        let asked = ask("MESSAGE", uri, NEXT_TO_CALLER, &format!("m{number}"), &lines);
        assert_eq!(
            raw.pass(NEXT_TO_CALLER, PUBLIC, &asked).1.request_uri(),
            passed,
            "{uri}"
        );
    }
}

#[test]
fn no_headers_and_no_method_stand_in_a_request_uri_of_our_making() {
    let mut raw = Raw::new(TWO_SIDES);
    // Where it is retargeted.
    let lines = format!("{CALLER}\r\nCSeq: 1 MESSAGE\r\n");
    let asked = ask("MESSAGE", "sip:a@203.0.113.7;method=BYE;x", NEXT_TO_CALLER, "m", &lines);
    assert_eq!(
        raw.pass(NEXT_TO_CALLER, PUBLIC, &asked).1.request_uri(),
        "sip:a@10.0.0.5:5060;x"
    );
    // Where it is a Contact.
    let lines =
        format!("{CALLER}\r\nCSeq: 1 INVITE\r\nContact: <sip:c@198.51.100.10;method=BYE;x=y?Route=%3Csip:e%3E>\r\n");
    let (_, arrived) = raw.pass(
        NEXT_TO_CALLER,
        PUBLIC,
        &ask("INVITE", "sip:b@domain.com", NEXT_TO_CALLER, "i", &lines),
    );
    let answer = ok(&arrived, "2", "Contact: <sip:d@10.0.0.5?Subject=s>\r\n");
    raw.pass(NEXT_TO_CALLEE, PRIVATE, &answer);
    let lines = format!("{CALLEE}\r\nCSeq: 1 INFO\r\n");
    let asked = ask("INFO", "sip:10.0.0.1", NEXT_TO_CALLEE, "n", &lines);
    assert_eq!(
        raw.pass(NEXT_TO_CALLEE, PRIVATE, &asked).1.request_uri(),
        "sip:c@198.51.100.10;x=y"
    );
    let lines = format!("{CALLER};tag=2\r\nCSeq: 1 ACK\r\n");
    let ack = ask("ACK", "sip:203.0.113.7", NEXT_TO_CALLER, "a", &lines);
    assert_eq!(raw.pass(NEXT_TO_CALLER, PUBLIC, &ack).1.request_uri(), "sip:d@10.0.0.5");
    let (sent, _) = raw.wire.verbs(b"way", &json!([{"verb": "hangup"}]));
    let uris: Vec<_> = sent
        .iter()
        .map(|sent| Text::read(&sent.bytes).unwrap().request_uri().to_owned())
        .collect();
    assert_eq!(uris, ["sip:c@198.51.100.10;x=y", "sip:d@10.0.0.5"]);
}

#[test]
fn requests_that_may_open_a_dialog_are_record_routed_and_others_are_not() {
    let mut raw = Raw::new(TWO_SIDES);
    for (method, recorded) in [
        ("INVITE", 2),
        ("SUBSCRIBE", 2),
        ("NOTIFY", 2),
        ("FOO", 2),
        ("MESSAGE", 0),
        ("OPTIONS", 0),
        ("PUBLISH", 0),
    ] {
        let lines = format!("Event: presence\r\n{CALLER}\r\nCSeq: 1 {method}\r\nContact: <sip:c@198.51.100.10>\r\n");
        let asked = ask(method, "sip:b@domain.com", NEXT_TO_CALLER, method, &lines);
        let (_, passed) = raw.pass(NEXT_TO_CALLER, PUBLIC, &asked);
        let routes = passed.list("Record-Route");
        assert_eq!(routes.len(), recorded, "{method}");
        assert!(
            routes
                .iter()
                .all(|route| route.contains(";lr") && !route.contains("transport")),
            "{routes:?}"
        );
    }
}

#[test]
fn a_repeated_ack_is_forwarded_each_time() {
    let mut raw = Raw::new(TWO_SIDES);
    let ours = established(&mut raw, "", &[]);
    let lines = format!("Route: {}, {}\r\n{CALLER};tag=2\r\nCSeq: 1 ACK\r\n", ours[1], ours[0]);
    let ack = ask("ACK", "sip:callee@10.0.0.5", NEXT_TO_CALLER, "again", &lines);
    let other = ask("ACK", "sip:callee@10.0.0.5", NEXT_TO_CALLER, "other", &lines);
    let mut branch = |ack: &str| raw.pass(NEXT_TO_CALLER, PUBLIC, ack).1.branch();
    let branches = [branch(&ack), branch(&ack), branch(&other)];
    assert!(branches[0] == branches[1] && branches[1] != branches[2], "{branches:?}");
    let none = ack.replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert!(raw.say(NEXT_TO_CALLER, PUBLIC, &none).is_empty());
}

#[test]
fn requests_within_a_dialog_go_to_its_target_whatever_the_trunk_has() {
    let several = TWO_SIDES.replace("\"udp:10.0.0.5:5060\"", "\"udp:10.0.0.4:5060\", \"udp:10.0.0.5:5060\"");
    let mut scene = Scene::with(&several, carrier(), platform());
    // The first address says nothing, so that the second has the call.
    let call = scene.call();
    scene.run(20_000);
    for method in ["INFO", "INVITE", BYE] {
        scene.carrier_does(&call, request(method));
        scene.run(2_000);
    }
    scene.world.finish();
    for method in ["INFO", "re-INVITE", BYE] {
        let heard = scene.world.peer(scene.platform).heard(method);
        assert_eq!(heard.len(), 1, "{method}");
        assert_eq!(heard[0].request_uri(), "sip:user@10.0.0.5:5060");
    }
}

#[test]
fn the_families_of_two_sides_have_a_record_route_each() {
    let text = TWO_SIDES
        .replace("udp:10.0.0.1:5060", "udp:[2001:db8::1]:5060")
        .replace("tcp:10.0.0.1:5060", "tcp:[2001:db8::1]:5060")
        .replace("udp:10.0.0.5:5060", "udp:[2001:db8::5]:5060");
    let manners = Manners::new("[2001:db8::1]:5060", "<sip:bot@platform.example>");
    let platform = Peer::new("platform", "[2001:db8::5]:5060", manners);
    let mut scene = Scene::with(&text, carrier(), platform);
    let call = scene.answered();
    for method in ["INFO", "INVITE"] {
        scene.carrier_does(&call, request(method));
        scene.run(500);
        scene.platform_does(&call, request(method));
        scene.run(500);
    }
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    let routes = scene.world.peer(scene.platform).heard("INVITE")[0].list("Record-Route");
    assert!(routes[0].starts_with("<sip:[2001:db8::1]:5060;lr"), "{routes:?}");
    assert!(routes[1].starts_with("<sip:203.0.113.7:5060;lr"), "{routes:?}");
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INFO"), [200]);
    assert_eq!(scene.world.peer(scene.platform).outcomes(BYE), [200]);
}

// ---- requests that pass twice ----

/// A platform that routes back through referee, and a third side behind it.
fn three_sides() -> String {
    TWO_SIDES.replace(
        "[[route]]\nfrom = \"platform\"\nto = \"carrier\"",
        "[[route]]\nfrom = \"platform\"\nto = \"desk\"",
    ) + "[[trunk]]\nname = \"desk\"\nside = \"platform\"\nlisten = \"private\"\naddresses = [\"udp:10.0.0.9:5060\"]\n"
}

const DESK: &str = "10.0.0.9:5060";

/// A call that the platform sends back through referee to the desk, without putting itself into the route set; gives back the
/// Record-Route values at the desk.
fn spiral(raw: &mut Raw) -> Vec<String> {
    let lines = format!("{CALLER}\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@198.51.100.10>\r\n");
    let invite = ask("INVITE", "sip:callee@domain.com", NEXT_TO_CALLER, "i", &lines);
    let (_, first) = raw.pass(NEXT_TO_CALLER, PUBLIC, &invite);
    let middle = |text: &Text| {
        let mut again =
            format!("INVITE sip:desk@domain.com SIP/2.0\r\nVia: SIP/2.0/UDP {NEXT_TO_CALLEE};branch=z9hG4bKmiddle\r\n");
        for (name, value) in text.headers.iter().filter(|(name, _)| name != "Max-Forwards") {
            again += &format!("{name}: {value}\r\n");
        }
        again + "Max-Forwards: 60\r\n\r\n"
    };
    let (to, second) = raw.pass(NEXT_TO_CALLEE, PRIVATE, &middle(&first));
    assert_eq!(to, DESK);
    let routes = second.list("Record-Route");
    assert_eq!(routes.len(), 3, "{routes:?}");
    let answer = ok(
        &second,
        "2",
        &format!("{}Contact: <sip:desk@10.0.0.9>\r\n", record_routes(&routes)),
    );
    let (to, answer) = raw.pass(DESK, PRIVATE, &answer);
    assert_eq!(to, NEXT_TO_CALLEE);
    // The platform passes it on without its own Via.
    let vias = answer.list("Via");
    let on = ok(
        &answer,
        "2",
        &format!("{}Contact: <sip:desk@10.0.0.9>\r\n", record_routes(&routes)),
    );
    let on = on.replace(&format!("Via: {}\r\n", vias[0]), "");
    let (to, answer) = raw.pass(NEXT_TO_CALLEE, PRIVATE, &on);
    assert_eq!((to.as_str(), answer.code()), (NEXT_TO_CALLER, 200));
    routes
}

#[test]
fn both_passes_of_a_request_see_what_is_said_within_its_dialog() {
    for from_caller in [true, false] {
        let mut raw = Raw::new(&three_sides());
        let routes = spiral(&mut raw);
        assert_eq!(raw.wire.shard().counters().calls, 2);
        let to_callee: Vec<_> = routes.iter().rev().cloned().collect();
        let lines = format!("Route: {}\r\n{CALLER};tag=2\r\nCSeq: 1 ACK\r\n", to_callee.join(", "));
        let ack = ask("ACK", "sip:desk@10.0.0.9", NEXT_TO_CALLER, "a", &lines);
        let (to, ack) = raw.pass(NEXT_TO_CALLER, PUBLIC, &ack);
        assert_eq!(
            (to.as_str(), ack.list("Via").len(), ack.header("Route")),
            (DESK, 3, None)
        );
        let (route, who, from, at, to, target) = match from_caller {
            true => (
                to_callee,
                format!("{CALLER};tag=2"),
                NEXT_TO_CALLER,
                PUBLIC,
                DESK,
                "sip:desk@10.0.0.9",
            ),
            false => (
                routes,
                CALLEE.to_owned(),
                DESK,
                PRIVATE,
                NEXT_TO_CALLER,
                "sip:caller@198.51.100.10",
            ),
        };
        for (number, method) in [(2, "INFO"), (3, BYE)] {
            let lines = format!("Route: {}\r\n{who}\r\nCSeq: {number} {method}\r\n", route.join(", "));
            let (reached, passed) = raw.pass(from, at, &ask(method, target, from, method, &lines));
            assert_eq!(reached, to);
            // The sender's and one for each pass.
            assert_eq!(
                (passed.list("Via").len(), passed.header("Route")),
                (3, None),
                "{method}"
            );
            assert_eq!(passed.header("Max-Forwards"), Some("68"));
            let back = if from_caller { PRIVATE } else { PUBLIC };
            let (reached, answer) = raw.pass(to, back, &ok(&passed, "", ""));
            assert_eq!(
                (reached.as_str(), answer.code(), answer.list("Via").len()),
                (from, 200, 1)
            );
        }
        // Both calls have seen the BYE.
        assert_eq!(raw.wire.shard().counters().calls, 0);
        raw.wire.wait(Duration::from_secs(100));
        assert!(raw.wire.shard().is_empty());
    }
}

#[test]
fn each_pass_of_a_request_is_a_call_that_can_be_ended_by_itself() {
    let mut raw = Raw::new(&three_sides());
    let routes = spiral(&mut raw);
    let to_callee: Vec<_> = routes.iter().rev().cloned().collect();
    let lines = format!("Route: {}\r\n{CALLER};tag=2\r\nCSeq: 1 ACK\r\n", to_callee.join(", "));
    raw.pass(
        NEXT_TO_CALLER,
        PUBLIC,
        &ask("ACK", "sip:desk@10.0.0.9", NEXT_TO_CALLER, "a", &lines),
    );
    // By its Call-ID it cannot be told.
    let (sent, reply) = raw.wire.verbs(b"way", &json!([{"verb": "hangup"}]));
    assert!(sent.is_empty());
    let Some(Reply::Refused(refusal)) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(refusal.code, "ambiguous");
    // The BYEs of the second pass: to the desk, and by the first pass, which is over with it, to the caller.
    let second = refusal
        .detail
        .rsplit(' ')
        .next()
        .unwrap()
        .trim_end_matches('.')
        .parse()
        .unwrap();
    let sent = raw.wire.hang_up(second);
    let byes: Vec<_> = sent
        .iter()
        .map(|sent| (sent.flow.peer.to_string(), Text::read(&sent.bytes).unwrap()))
        .filter(|(_, text)| text.method() == BYE)
        .collect();
    let to: Vec<_> = byes.iter().map(|(to, _)| to.as_str()).collect();
    assert_eq!(to, [DESK, NEXT_TO_CALLER]);
    for (to, bye) in &byes {
        let at = if to == DESK { PRIVATE } else { PUBLIC };
        raw.say(to, at, &ok(bye, "", ""));
    }
    raw.wire.wait(Duration::from_secs(100));
    assert!(raw.wire.shard().is_empty());
}

#[test]
fn without_routes_the_pass_is_meant_that_knows_the_hop_before() {
    let mut raw = Raw::new(&three_sides());
    spiral(&mut raw);
    let lines = format!("{CALLEE}\r\nCSeq: 1 BYE\r\n");
    let bye = ask(BYE, "sip:10.0.0.1", DESK, "b", &lines);
    let (to, bye) = raw.pass(DESK, PRIVATE, &bye);
    // By the second pass and the first.
    assert_eq!((to.as_str(), bye.list("Via").len()), (NEXT_TO_CALLER, 3));
    raw.pass(NEXT_TO_CALLER, PUBLIC, &ok(&bye, "", ""));
    assert_eq!(raw.wire.shard().counters().calls, 0);
}

#[test]
fn from_one_of_our_sockets_to_itself_only_a_route_of_ours_leads() {
    // A Contact that names us is no way: whoever shows one would have us talk to ourselves. It is where it was last heard from.
    let mut raw = Raw::new(TWO_SIDES);
    let lines = format!("{CALLER}\r\nCSeq: 1 INVITE\r\nContact: <sip:c@198.51.100.10>\r\n");
    let (_, arrived) = raw.pass(
        NEXT_TO_CALLER,
        PUBLIC,
        &ask("INVITE", "sip:b@domain.com", NEXT_TO_CALLER, "i", &lines),
    );
    raw.pass(
        NEXT_TO_CALLEE,
        PRIVATE,
        &ok(&arrived, "2", "Contact: <sip:10.0.0.1>\r\n"),
    );
    let lines = format!("{CALLER};tag=2\r\nCSeq: 2 INFO\r\n");
    let left = raw.say(
        NEXT_TO_CALLER,
        PUBLIC,
        &ask("INFO", "sip:203.0.113.7", NEXT_TO_CALLER, "n", &lines),
    );
    let labels: Vec<_> = left.iter().map(|(to, text)| (to.as_str(), text.label())).collect();
    assert_eq!(labels, [(NEXT_TO_CALLEE, "INFO".to_owned())]);
}

// ---- requests too large for a datagram (RFC 3261 §18.1.1) ----

/// As [`TWO_SIDES`], but nothing is said of the platform's transport.
fn unpinned() -> String {
    TWO_SIDES.replace("addresses = [\"udp:10.0.0.5:5060\"]", "addresses = [\"10.0.0.5:5060\"]")
}

/// A scene whose platform does so with connections.
fn large(config: &str, streams: Streams) -> Scene {
    let mut platform = platform();
    platform.manners.streams = streams;
    Scene::with(config, carrier(), platform)
}

/// A request of the carrier's that leaves with so many bytes where it leaves by UDP.
fn of_size(scene: &mut Scene, method: &str, name: &str, bytes: usize) -> String {
    let plain = outside(method, name).replace(
        "Content-Length",
        "Contact: <sip:c@198.51.100.10>\r\nX: \r\nContent-Length",
    );
    let mut raw = Raw::new(&unpinned());
    let (_, passed) = raw.pass(NEXT_TO_CALLER, PUBLIC, &plain);
    let length = passed.first.len()
        + 2
        + passed
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum::<usize>()
        + 2;
    let text = plain.replace("X: \r\n", &format!("X: {}\r\n", "x".repeat(bytes - length)));
    scene.world.say(scene.carrier, &text);
    text
}

fn vias(scene: &Scene, method: &str) -> Vec<String> {
    let heard = scene.world.peer(scene.platform).heard(method);
    heard.iter().map(|text| text.list("Via")[0].clone()).collect()
}

#[test]
fn a_request_of_more_than_1300_bytes_leaves_by_tcp() {
    for (method, bytes, transport) in [
        ("MESSAGE", 1_300, "UDP"),
        ("MESSAGE", 1_301, "TCP"),
        ("INVITE", 1_300, "UDP"),
        ("INVITE", 1_301, "TCP"),
    ] {
        let mut scene = large(&unpinned(), Streams::Taken);
        scene
            .world
            .peer_mut(scene.platform)
            .on("INVITE", steps([(10, respond(486))]));
        of_size(&mut scene, method, "large", bytes);
        scene.run(2_000);
        let via = &vias(&scene, method)[0];
        // The platform checks that it came by what its Via says.
        assert!(
            via.starts_with(&format!("SIP/2.0/{transport} 10.0.0.1:5060;")),
            "{bytes}: {via}"
        );
        let routes = scene.world.peer(scene.platform).heard(method)[0].list("Record-Route");
        assert!(routes.iter().all(|route| !route.contains("transport")), "{routes:?}");
        assert_eq!(
            scene.world.shard(0).counters().large_requests_total,
            u64::from(bytes > 1_300)
        );
        assert_eq!(
            scene.world.peer(scene.carrier).heard("").last().unwrap().code(),
            if method == "INVITE" { 486 } else { 200 }
        );
    }
}

#[test]
fn where_tcp_is_refused_a_large_request_goes_by_udp_and_it_is_remembered() {
    let config = format!("{}\n[limits]\ntcp_refusal_kept = \"1m\"\n", unpinned());
    let mut scene = large(&config, Streams::Refused);
    for (number, at) in [(1, 0), (2, 100), (3, 70_000)] {
        scene.world.run_until(Instant::from_millis(at));
        // Lost once, so that it is sent again as over any UDP.
        scene.world.network.lose("referee", "platform", "MESSAGE", 1);
        of_size(&mut scene, "MESSAGE", &format!("large{number}"), 2_000);
        scene.run(5_000);
    }
    scene.world.finish();
    let vias = vias(&scene, "MESSAGE");
    assert_eq!(vias.len(), 3);
    assert!(
        vias.iter().all(|via| via.starts_with("SIP/2.0/UDP 10.0.0.1:5060;")),
        "{vias:?}"
    );
    assert_eq!(scene.world.peer(scene.carrier).heard("200").len(), 3);
    let counters = scene.world.shard(0).counters();
    // The second knew.
    assert_eq!(
        (counters.large_requests_total, counters.large_requests_refused_total),
        (2, 2)
    );
    assert_eq!(counters.large_datagrams_total, 1);
    assert_eq!(counters.transport_failures_total, 0);
}

#[test]
fn where_tcp_is_met_with_silence_a_large_request_fails() {
    let mut scene = large(&unpinned(), Streams::Ignored);
    of_size(&mut scene, "MESSAGE", "large", 2_000);
    scene.world.finish();
    assert!(scene.world.peer(scene.platform).heard("").is_empty());
    let heard = scene.world.peer(scene.carrier).heard("");
    assert_eq!(heard.last().unwrap().code(), 500);
    assert_eq!(scene.world.shard(0).counters().large_requests_refused_total, 0);
}

#[test]
fn a_trunk_address_that_says_udp_pins_it() {
    let mut scene = large(TWO_SIDES, Streams::Taken);
    of_size(&mut scene, "MESSAGE", "large", 2_000);
    scene.run(2_000);
    assert!(vias(&scene, "MESSAGE")[0].starts_with("SIP/2.0/UDP"));
    // Requests within a dialog as well, to whatever host of the trunk's.
    let call = scene.answered();
    let filler = "x".repeat(1_300);
    for to_carrier in [true, false] {
        let info = request_with("INFO", &[("X", &filler)], "");
        if to_carrier {
            scene.platform_does(&call, info);
        } else {
            scene.carrier_does(&call, info);
        }
        scene.run(1_000);
    }
    let contact = "<sip:elsewhere@198.51.100.77:5060>".into();
    scene.carrier_does(&call, Act::Move { contact });
    scene.carrier_does(&call, request("UPDATE"));
    scene.run(500);
    scene.platform_does(&call, request_with("INFO", &[("X", &filler)], ""));
    scene.run(40_000);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    let counters = scene.world.shard(0).counters();
    assert_eq!((counters.large_requests_total, counters.large_datagrams_total), (0, 4));
}

#[test]
fn a_uri_that_says_udp_pins_it_and_one_that_says_nothing_does_not() {
    for (contact, by_tcp) in [
        ("<sip:moved@10.0.0.5:5060>", true),
        ("<sip:moved@10.0.0.5:5060;transport=udp>", false),
    ] {
        let mut scene = large(&unpinned(), Streams::Taken);
        let call = scene.answered();
        scene.platform_does(
            &call,
            Act::Move {
                contact: contact.into(),
            },
        );
        scene.platform_does(&call, request("UPDATE"));
        scene.run(500);
        let filler = "x".repeat(1_300);
        scene.carrier_does(&call, request_with("INFO", &[("X", &filler)], ""));
        scene.run(500);
        scene.carrier_does(&call, request("INFO"));
        scene.run(500);
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
        let vias = vias(&scene, "INFO");
        assert_eq!(vias[0].starts_with("SIP/2.0/TCP"), by_tcp, "{vias:?}");
        // What is small goes as before.
        assert!(vias[1].starts_with("SIP/2.0/UDP"), "{vias:?}");
    }
}

#[test]
fn what_belongs_to_a_large_invite_goes_where_it_went() {
    for streams in [Streams::Taken, Streams::Refused] {
        // A CANCEL.
        let mut scene = large(&unpinned(), streams);
        scene
            .world
            .peer_mut(scene.platform)
            .on("INVITE", steps([(50, respond(180))]));
        let invite = of_size(&mut scene, "INVITE", "large", 2_000);
        scene.run(1_000);
        let cancel = invite.replace("INVITE", "CANCEL");
        scene.world.say(scene.carrier, &cancel);
        scene.run(2_000);
        let expected = if streams == Streams::Taken {
            "SIP/2.0/TCP"
        } else {
            "SIP/2.0/UDP"
        };
        for method in ["INVITE", "CANCEL", "ACK"] {
            let vias = vias(&scene, method);
            assert!(vias.len() == 1 && vias[0].starts_with(expected), "{method} {vias:?}");
        }
        assert!(!scene.world.peer(scene.carrier).heard("487").is_empty());
    }
}

#[test]
fn what_is_small_goes_by_udp_though_the_call_began_with_something_large() {
    let mut scene = large(&unpinned(), Streams::Taken);
    let filler = "x".repeat(1_300);
    let call = scene
        .world
        .call(scene.carrier, "sip:+4930123456@203.0.113.7", &[("X", &filler)]);
    scene.run(2_000);
    assert!(vias(&scene, "INVITE")[0].starts_with("SIP/2.0/TCP"));
    scene.carrier_does(&call, request("INFO"));
    scene.run(500);
    scene.verbs(&call, json!({"verb": "hangup"}));
    scene.world.finish();
    for method in ["ACK", "INFO", BYE] {
        let vias = vias(&scene, method);
        assert!(vias[0].starts_with("SIP/2.0/UDP"), "{method} {vias:?}");
    }
}

#[test]
fn a_large_ack_leaves_by_tcp_or_by_udp_where_that_is_refused() {
    for streams in [Streams::Taken, Streams::Refused] {
        let mut scene = large(&unpinned(), streams);
        scene
            .world
            .peer_mut(scene.platform)
            .on("INVITE", steps([(50, respond(200))]));
        let invite =
            outside("INVITE", "late").replace("Content-Length", "Contact: <sip:c@198.51.100.10>\r\nContent-Length");
        scene.world.say(scene.carrier, &invite);
        scene.run(60);
        let answer = scene.world.peer(scene.carrier).heard("200")[0].clone();
        let routes: Vec<_> = answer.list("Record-Route").into_iter().rev().collect();
        let ack = outside("ACK", "ack")
            .replace("sip:+4930123456@203.0.113.7 SIP", "sip:user@10.0.0.5:5060 SIP")
            .replace("Call-ID: ack", "Call-ID: late")
            .replace(
                "To: <sip:+4930123456@203.0.113.7>",
                &format!("To: {}", answer.header("To").unwrap()),
            )
            .replace(
                "Content-Length",
                &format!(
                    "Route: {}\r\nX: {}\r\nContent-Length",
                    routes.join(", "),
                    "x".repeat(1_300)
                ),
            );
        scene.world.say(scene.carrier, &ack);
        scene.run(40_000);
        let vias = vias(&scene, "ACK");
        let expected = if streams == Streams::Taken {
            "SIP/2.0/TCP"
        } else {
            "SIP/2.0/UDP"
        };
        assert!(vias.len() == 1 && vias[0].starts_with(expected), "{vias:?}");
        let counters = scene.world.shard(0).counters();
        assert_eq!((counters.timeouts_total, counters.transactions), (0, 0));
        scene.world.assert_clean();
    }
}

#[test]
fn a_large_request_of_our_own_leaves_by_tcp_or_by_udp_where_that_is_refused() {
    for streams in [Streams::Taken, Streams::Refused] {
        let mut scene = large(&unpinned(), streams);
        scene
            .world
            .peer_mut(scene.platform)
            .on("REFER", steps([(10, respond(603))]));
        let call = scene.answered();
        let verb = json!({
            "verb": "sip:refer", "referTo": "sip:+4930111@example.com", "leg": "callee", "actionHook": "/a",
            "headers": {"X-Large": "x".repeat(1_300)}
        });
        scene.verbs(&call, verb);
        scene.run(5_000);
        let vias = vias(&scene, "REFER");
        let expected = if streams == Streams::Taken {
            "SIP/2.0/TCP"
        } else {
            "SIP/2.0/UDP"
        };
        assert!(vias.len() == 1 && vias[0].starts_with(expected), "{vias:?}");
        assert_eq!(scene.world.shard(0).counters().transfers_failed_total, 1);
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
    }
}

#[test]
fn a_listener_without_tcp_sends_large_requests_by_udp() {
    let config = unpinned().replace(
        "bind = [\"udp:10.0.0.1:5060\", \"tcp:10.0.0.1:5060\"]",
        "bind = [\"udp:10.0.0.1:5060\"]",
    );
    let mut scene = large(&config, Streams::Taken);
    of_size(&mut scene, "MESSAGE", "large", 2_000);
    scene.world.finish();
    assert!(vias(&scene, "MESSAGE")[0].starts_with("SIP/2.0/UDP"));
}

#[test]
fn a_large_response_goes_back_by_the_transport_of_its_request() {
    let mut scene = large(&unpinned(), Streams::Taken);
    let filler = "x".repeat(5_000);
    let answer = steps([(10, respond_with(200, &[("X", &filler)]))]);
    scene.world.peer_mut(scene.platform).on("INVITE", answer);
    let call = scene.answered();
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
    let heard = scene.world.peer(scene.carrier).heard("200 OK (INVITE)");
    assert_eq!((heard.len(), heard[0].header("X").map(str::len)), (1, Some(5_000)));
    assert!(heard[0].list("Via")[0].starts_with("SIP/2.0/UDP"));
    assert_eq!(scene.world.shard(0).counters().large_requests_total, 0);
}

/// A request outside a dialog, without a body.
fn outside(method: &str, name: &str) -> String {
    format!(
        "{method} sip:+4930123456@203.0.113.7 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{name}\r\nMax-Forwards: 70\r\n\
         From: <sip:c@h>;tag=1\r\nTo: <sip:+4930123456@203.0.113.7>\r\nCall-ID: {name}\r\nCSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}
