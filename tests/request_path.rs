//! Rules of a proxy on a request's way, in virtual time: when a 100 is due, routes of strict and loose routers, requests that pass
//! twice, and those too large for a datagram (RFC 3261 §16, §18.1.1, RFC 4320).

use referee::sim::World;
use referee::sim::peer::script::{request, respond, steps};
use referee::sim::scene::{Scene, TWO_SIDES, carrier, config, platform};
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
    let mut scene = Scene::default();
    let call = scene.answered();
    scene.world.peer_mut(scene.platform).on("INFO", steps([]));
    scene.carrier_does(&call, request("INFO"));
    scene.run(40_000);
    let carrier = scene.world.peer(scene.carrier);
    // RFC 4320 §4.2: no 408. It is the sender's own Timer F that ends it.
    let answers = carrier.heard("").into_iter().filter(|text| text.cseq().1 == "INFO");
    assert!(answers.clone().count() > 0 && answers.clone().all(|text| text.code() == 100));
    assert_eq!(carrier.outcomes("INFO"), [408]);
    scene.carrier_does(&call, request(BYE));
    scene.world.finish();
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

/// A request outside a dialog, without a body.
fn outside(method: &str, name: &str) -> String {
    format!(
        "{method} sip:+4930123456@203.0.113.7 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{name}\r\nMax-Forwards: 70\r\n\
         From: <sip:c@h>;tag=1\r\nTo: <sip:+4930123456@203.0.113.7>\r\nCall-ID: {name}\r\nCSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}
