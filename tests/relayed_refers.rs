//! REFERs of the parties' own in virtual time: their NOTIFYs are the parties', whatever is lost, late or repeated, and those of
//! referee's REFERs in the same dialog are not (RFC 3515 §2.4.6, 5057, 6665).
//!
//! The world checks in every test that a NOTIFY of a party's REFER is relayed and one of referee's is not.

use referee::command::{CallSelector, Command, Reply};
use referee::sim::peer::script::{Act, EventIds, Steps, notify, request, request_with, respond, respond_with, steps};
use referee::sim::scene::{Scene, TWO_SIDES, carrier, platform};
use serde_json::json;
use std::time::Duration;

const BYE: &str = "BYE";
const TERMINATED: &str = "terminated;reason=noresource";
const ACTIVE: &str = "active;expires=60";

/// How a recipient of a REFER usually goes on.
fn course() -> Steps {
    steps([
        (10, respond(202)),
        (20, notify("100 Trying", ACTIVE)),
        (500, notify("486 Busy Here", TERMINATED)),
    ])
}

fn refer() -> Act {
    request_with(
        "REFER",
        &[("Refer-To", "<sip:x@y>"), ("Referred-By", "<sip:bot@platform.example>")],
        "",
    )
}

/// Both sides' REFERs are relayed.
fn both_may_refer() -> String {
    TWO_SIDES.replace("side = \"carrier\"", "side = \"carrier\"\ninbound_refer = \"relay\"")
}

/// An answered call whose platform sends a REFER, which the carrier takes so.
fn referred(carrier: Steps) -> (Scene, String) {
    let mut scene = Scene::default();
    scene.world.peer_mut(scene.carrier).on("REFER", carrier);
    let call = scene.answered();
    scene.platform_does(&call, refer());
    (scene, call)
}

/// Whether a transfer of referee's own may run; one that may, does.
fn may_transfer(scene: &mut Scene, call: &str) -> bool {
    let verb = json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/action"});
    match scene.verbs(call, verb) {
        Reply::Accepted { .. } => true,
        Reply::Refused(refusal) => {
            assert_eq!(refusal.code, "busy");
            false
        }
        other => panic!("{other:?}"),
    }
}

fn heard(scene: &Scene) -> Vec<String> {
    let notifies = scene.world.peer(scene.platform).heard("NOTIFY");
    notifies.iter().map(|text| text.label()).collect()
}

fn hang_up(scene: &mut Scene, call: &str) {
    scene.platform_does(call, request(BYE));
    scene.world.finish();
}

#[test]
fn a_notify_that_the_last_one_has_overtaken_is_relayed() {
    let mut scene = Scene::default();
    let late = Duration::from_millis(900);
    scene.world.peer_mut(scene.platform).manners.in_order = false;
    scene.world.network.delay("carrier", "referee", "NOTIFY 100", late);
    let retransmission = Duration::from_millis(450);
    scene
        .world
        .network
        .delay("carrier", "referee", "NOTIFY 100", retransmission);
    scene.world.peer_mut(scene.carrier).on("REFER", course());
    let call = scene.answered();
    scene.platform_does(&call, refer());
    scene.run(2_000);
    assert_eq!(heard(&scene), ["NOTIFY 486 Busy Here", "NOTIFY 100 Trying"]);
    // The platform's own word on a number that falls.
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [500, 200]);
    hang_up(&mut scene, &call);
}

#[test]
fn a_notify_of_a_refer_without_a_response_is_relayed() {
    for lost in [1, 3, 20] {
        let mut scene = Scene::default();
        scene.world.network.lose("carrier", "referee", "202", lost);
        let late = steps([
            (10, respond(202)),
            (20, notify("100 Trying", ACTIVE)),
            (40_000, notify("486 Busy Here", TERMINATED)),
        ]);
        scene.world.peer_mut(scene.carrier).on("REFER", late);
        let call = scene.answered();
        scene.platform_does(&call, refer());
        scene.run(60_000);
        assert_eq!(heard(&scene), ["NOTIFY 100 Trying", "NOTIFY 486 Busy Here"], "{lost}");
        assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [200, 200]);
        hang_up(&mut scene, &call);
    }
}

#[test]
fn a_relayed_refer_keeps_ours_from_running_as_long_as_its_subscription_may_be_alive() {
    let ringing = |last: Act| steps([(10, respond(202)), (20, notify("100 Trying", ACTIVE)), (500, last)]);
    for (what, carrier, millis, may) in [
        ("it is open", ringing(notify("180 Ringing", ACTIVE)), 10_000, false),
        ("its last NOTIFY came", course(), 1_000, true),
        (
            "its last NOTIFY says nothing",
            ringing(notify("", TERMINATED)),
            1_000,
            true,
        ),
        ("it was refused", steps([(10, respond(603))]), 100, true),
        (
            "there is none",
            steps([(10, respond_with(202, &[("Refer-Sub", "false")]))]),
            100,
            true,
        ),
        ("no response came", steps([]), 31_000, false),
        ("none will come", steps([]), 33_000, true),
        (
            "nothing more came",
            ringing(notify("180 Ringing", ACTIVE)),
            301_000,
            true,
        ),
    ] {
        let (mut scene, call) = referred(carrier);
        scene.run(millis);
        assert_eq!(may_transfer(&mut scene, &call), may, "{what}");
        scene.run(40_000);
        hang_up(&mut scene, &call);
    }
}

#[test]
fn a_party_that_knows_its_subscription_no_more_keeps_ours_from_running_no_more() {
    let mut scene = Scene::default();
    let ringing = steps([(10, respond(202)), (20, notify("180 Ringing", ACTIVE))]);
    scene.world.peer_mut(scene.carrier).on("REFER", ringing);
    scene
        .world
        .peer_mut(scene.platform)
        .on("NOTIFY", steps([(10, respond(481))]));
    let call = scene.answered();
    scene.platform_does(&call, refer());
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [481]);
    assert!(may_transfer(&mut scene, &call));
    scene.run(5_000);
    hang_up(&mut scene, &call);
}

#[test]
fn a_refer_that_asks_for_no_subscription_keeps_none_from_running() {
    let mut scene = Scene::default();
    scene
        .world
        .peer_mut(scene.carrier)
        .on("REFER", steps([(10, respond(200))]));
    let call = scene.answered();
    let lines = [
        ("Refer-To", "<sip:x@y>"),
        ("Referred-By", "<sip:bot@platform.example>"),
        ("Require", "tdialog, nosub"),
    ];
    scene.platform_does(&call, request_with("REFER", &lines, ""));
    scene.run(100);
    assert!(may_transfer(&mut scene, &call));
    scene.run(5_000);
    hang_up(&mut scene, &call);
}

#[test]
fn of_two_refers_one_that_is_refused_or_over_leaves_the_other() {
    for second in [
        steps([(10, respond(491))]),
        steps([(10, respond(202)), (20, notify("603 Decline", TERMINATED))]),
    ] {
        let mut scene = Scene::default();
        let first = steps([
            (10, respond(202)),
            (20, notify("100 Trying", ACTIVE)),
            (3_000, notify("200 OK", TERMINATED)),
        ]);
        scene.world.peer_mut(scene.carrier).on("REFER", first);
        scene.world.peer_mut(scene.carrier).on("REFER", second);
        let call = scene.answered();
        scene.platform_does(&call, refer());
        scene.run(500);
        scene.platform_does(&call, refer());
        scene.run(500);
        assert!(!may_transfer(&mut scene, &call));
        scene.run(3_000);
        assert_eq!(heard(&scene).last().map(String::as_str), Some("NOTIFY 200 OK"));
        assert!(may_transfer(&mut scene, &call));
        scene.run(5_000);
        hang_up(&mut scene, &call);
    }
}

#[test]
fn both_parties_may_transfer_at_once() {
    let mut scene = Scene::with(&both_may_refer(), carrier(), platform());
    for peer in [scene.carrier, scene.platform] {
        scene.world.peer_mut(peer).on("REFER", course());
    }
    let call = scene.answered();
    scene.platform_does(&call, refer());
    scene.carrier_does(&call, refer());
    scene.run(2_000);
    for peer in [scene.carrier, scene.platform] {
        assert_eq!(scene.world.peer(peer).outcomes("REFER"), [202]);
        assert_eq!(scene.world.peer(peer).heard("NOTIFY").len(), 2);
        assert_eq!(scene.world.peer(peer).outcomes("NOTIFY"), [200, 200]);
    }
    hang_up(&mut scene, &call);
}

#[test]
fn notifies_are_relayed_while_the_acknowledgement_of_the_call_is_lost() {
    let mut scene = Scene::default();
    scene.world.network.lose("referee", "platform", "ACK", 3);
    scene.world.peer_mut(scene.carrier).on("REFER", course());
    let call = scene.answered();
    scene.platform_does(&call, refer());
    scene.run(2_000);
    assert_eq!(heard(&scene).len(), 2);
    scene.run(5_000);
    hang_up(&mut scene, &call);
}

#[test]
fn a_refer_that_waits_for_a_name_is_relayed_and_so_are_its_notifies() {
    let mut carrier = carrier();
    carrier.manners.contact_host = Some("sip.carrier.example:5060".into());
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    let address = scene.world.peer(scene.carrier).address.ip();
    scene.world.name("sip.carrier.example", &[address]);
    scene.world.peer_mut(scene.carrier).on("REFER", course());
    let call = scene.answered();
    scene.platform_does(&call, refer());
    scene.run(2_000);
    assert_eq!(heard(&scene).len(), 2);
    hang_up(&mut scene, &call);
}

#[test]
fn a_notify_after_the_bye_still_reaches_the_party() {
    let late = || {
        steps([
            (10, respond(202)),
            (20, notify("100 Trying", ACTIVE)),
            (60_000, notify("200 OK", TERMINATED)),
        ])
    };
    for (follows_routes, ours_first) in [(true, false), (true, true), (false, true)] {
        let mut carrier = carrier();
        carrier.manners.follows_routes = follows_routes;
        let mut scene = Scene::with(TWO_SIDES, carrier, platform());
        if ours_first {
            scene.world.peer_mut(scene.carrier).on("REFER", course());
        }
        scene.world.peer_mut(scene.carrier).on("REFER", late());
        let call = scene.answered();
        if ours_first {
            assert!(may_transfer(&mut scene, &call));
            scene.run(2_000);
        }
        scene.platform_does(&call, refer());
        scene.run(200);
        scene.platform_does(&call, request(BYE));
        scene.world.finish();
        let platform = scene.world.peer(scene.platform);
        assert_eq!(
            heard(&scene),
            ["NOTIFY 100 Trying", "NOTIFY 200 OK"],
            "{follows_routes}"
        );
        let event = platform.heard("NOTIFY")[1].header("Event");
        let expected = if ours_first { "refer;id=1" } else { "refer" };
        assert_eq!(event, Some(expected));
        // The platform has forgotten its dialog and says so itself.
        assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY").last(), Some(&481));
    }
}

#[test]
fn a_call_is_known_until_the_subscription_of_a_party_is_over_whatever_tombstones_last() {
    for tombstone in ["0s", "10s", "300s"] {
        let text = format!("{TWO_SIDES}\n[refer]\ntombstone = \"{tombstone}\"\n");
        let mut scene = Scene::with(&text, carrier(), platform());
        let late = steps([(10, respond(202)), (290_000, notify("200 OK", TERMINATED))]);
        scene.world.peer_mut(scene.carrier).on("REFER", late);
        let call = scene.answered();
        scene.platform_does(&call, refer());
        scene.run(200);
        scene.platform_does(&call, request(BYE));
        scene.world.finish();
        assert_eq!(heard(&scene), ["NOTIFY 200 OK"], "{tombstone}");
    }
}

#[test]
fn a_notify_of_ours_that_comes_when_the_call_is_forgotten_is_a_481() {
    for follows_routes in [true, false] {
        let mut carrier = carrier();
        carrier.manners.follows_routes = follows_routes;
        let mut scene = Scene::with(TWO_SIDES, carrier, platform());
        let late = steps([
            (10, respond(202)),
            (2_000, notify("200 OK", ACTIVE)),
            (62_000, notify("200 OK", "terminated;reason=timeout")),
        ]);
        scene.world.peer_mut(scene.carrier).on("REFER", late);
        let call = scene.answered();
        assert!(may_transfer(&mut scene, &call));
        scene.world.finish();
        assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [200, 481]);
        assert!(heard(&scene).is_empty());
    }
}

#[test]
fn a_refer_that_comes_when_the_call_is_forgotten_is_a_481() {
    let (mut scene, call) = referred(course());
    scene.run(2_000);
    scene.platform_does(&call, request(BYE));
    scene.run(60_000);
    let lines = [("Refer-To", "<sip:x@y>")].map(|(name, value)| (name.into(), value.into()));
    let again = Act::Again {
        method: "REFER".into(),
        headers: lines.into(),
    };
    scene.platform_does(&call, again);
    scene.world.finish();
    assert_eq!(scene.world.peer(scene.platform).outcomes("REFER"), [202, 481]);
    assert_eq!(scene.world.peer(scene.carrier).heard("REFER").len(), 1);
}

#[test]
fn without_routes_a_notify_soon_after_the_bye_reaches_the_party() {
    let mut carrier = carrier();
    carrier.manners.follows_routes = false;
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    let soon = steps([(10, respond(202)), (5_000, notify("200 OK", TERMINATED))]);
    scene.world.peer_mut(scene.carrier).on("REFER", soon);
    let call = scene.answered();
    scene.platform_does(&call, refer());
    scene.run(200);
    scene.platform_does(&call, request(BYE));
    scene.world.finish();
    assert_eq!(heard(&scene), ["NOTIFY 200 OK"]);
}

#[test]
fn once_we_have_ended_the_call_notifies_of_a_party_still_pass_and_ours_do_not() {
    let mut scene = Scene::default();
    scene.world.peer_mut(scene.carrier).on("REFER", course());
    let late = steps([
        (10, respond(202)),
        (20, notify("100 Trying", ACTIVE)),
        (3_000, notify("200 OK", TERMINATED)),
    ]);
    scene.world.peer_mut(scene.carrier).on("REFER", late.clone());
    let call = scene.answered();
    scene.platform_does(&call, refer());
    scene.run(1_000);
    assert!(may_transfer(&mut scene, &call));
    scene.run(1_000);
    let ended = Command::Hangup {
        call: CallSelector::SipCallId(call.clone().into_bytes()),
    };
    scene.world.command(ended);
    scene.world.finish();
    assert_eq!(heard(&scene).len(), 2);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [200; 4]);

    let (mut scene, call) = referred(late);
    scene.run(1_000);
    let ended = Command::Hangup {
        call: CallSelector::SipCallId(call.into_bytes()),
    };
    scene.world.command(ended);
    scene.world.finish();
    assert_eq!(heard(&scene).len(), 2);
}

#[test]
fn a_late_notify_of_ours_does_not_reach_the_party_that_refers_next() {
    // Ours is reported as over with its first 486, and goes on for two NOTIFYs more: one that was overtaken, and one that the
    // carrier sends when it has the platform's REFER.
    for ids in [EventIds::FromTheSecond, EventIds::Always] {
        let mut carrier = carrier();
        carrier.manners.event_ids = ids;
        let mut scene = Scene::with(TWO_SIDES, carrier, platform());
        let slow = Duration::from_millis(700);
        scene.world.network.lose("carrier", "referee", "NOTIFY 180", 1);
        scene.world.network.delay("carrier", "referee", "NOTIFY 180", slow);
        let ours = steps([
            (10, respond(202)),
            (20, notify("180 Ringing", ACTIVE)),
            (30, notify("486 Busy Here", ACTIVE)),
            (4_000, notify("486 Busy Here", TERMINATED)),
        ]);
        let theirs = steps([
            (10, respond(202)),
            (800, notify("100 Trying", ACTIVE)),
            (3_500, notify("200 OK", TERMINATED)),
        ]);
        scene.world.peer_mut(scene.carrier).on("REFER", ours);
        scene.world.peer_mut(scene.carrier).on("REFER", theirs);
        let call = scene.answered();
        assert!(may_transfer(&mut scene, &call));
        scene.run(1_000);
        scene.platform_does(&call, refer());
        scene.run(10_000);
        assert_eq!(heard(&scene), ["NOTIFY 100 Trying", "NOTIFY 200 OK"], "{ids:?}");
        hang_up(&mut scene, &call);
    }
}

#[test]
fn a_notify_without_an_id_is_of_the_first_refer_whose_subscription_goes_on() {
    // RFC 3515 §2.4.6: those of any but the first have one. Ours is given up after a second, its target rings on; the carrier
    // takes its time with the platform's.
    for ids in [EventIds::FromTheSecond, EventIds::Never] {
        let mut carrier = carrier();
        carrier.manners.event_ids = ids;
        let mut scene = Scene::with(TWO_SIDES, carrier, platform());
        let ours = match ids {
            EventIds::Never => vec![(10, respond(202)), (20, notify("100 Trying", ACTIVE))],
            _ => vec![
                (10, respond(202)),
                (20, notify("100 Trying", ACTIVE)),
                (1_500, notify("180 Ringing", ACTIVE)),
                (1_700, notify("486 Busy Here", TERMINATED)),
            ],
        };
        let theirs = steps([
            (800, respond(202)),
            (810, notify("100 Trying", ACTIVE)),
            (2_000, notify("200 OK", TERMINATED)),
        ]);
        scene.world.peer_mut(scene.carrier).on("REFER", steps(ours));
        scene.world.peer_mut(scene.carrier).on("REFER", theirs);
        let call = scene.answered();
        let verb = json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/action", "timeout": 1});
        assert!(matches!(scene.verbs(&call, verb), Reply::Accepted { .. }));
        scene.run(1_200);
        scene.platform_does(&call, refer());
        scene.run(10_000);
        assert_eq!(heard(&scene), ["NOTIFY 100 Trying", "NOTIFY 200 OK"], "{ids:?}");
        hang_up(&mut scene, &call);
    }
}

#[test]
fn a_late_notify_of_a_party_is_not_taken_for_ours() {
    let mut scene = Scene::default();
    let theirs = steps([
        (10, respond(202)),
        (20, notify("100 Trying", ACTIVE)),
        (30, notify("486 Busy Here", TERMINATED)),
        (40, notify("486 Busy Here", TERMINATED)),
    ]);
    let ours = steps([
        (10, respond(202)),
        (800, notify("100 Trying", ACTIVE)),
        (6_000, notify("603 Decline", TERMINATED)),
    ]);
    scene.world.peer_mut(scene.platform).manners.in_order = false;
    let slow = Duration::from_millis(900);
    scene.world.network.lose("carrier", "referee", "NOTIFY 100", 1);
    scene.world.network.delay("carrier", "referee", "NOTIFY 100", slow);
    scene.world.peer_mut(scene.carrier).on("REFER", theirs);
    scene.world.peer_mut(scene.carrier).on("REFER", ours);
    let call = scene.answered();
    scene.platform_does(&call, refer());
    scene.run(1_000);
    assert!(may_transfer(&mut scene, &call));
    scene.run(10_000);
    assert_eq!(heard(&scene).len(), 3);
    let events: Vec<_> = scene.world.application.posted().iter().map(|hook| &hook.body).collect();
    assert_eq!(events[0]["final_referred_call_status"], 603);
    hang_up(&mut scene, &call);
}

#[test]
fn a_carrier_that_never_says_an_id_is_understood_by_order() {
    let mut carrier = carrier();
    carrier.manners.event_ids = EventIds::Never;
    let mut scene = Scene::with(TWO_SIDES, carrier, platform());
    for _ in 0..4 {
        scene.world.peer_mut(scene.carrier).on("REFER", course());
    }
    let call = scene.answered();
    for count in 1..=2 {
        assert!(may_transfer(&mut scene, &call));
        scene.run(2_000);
        scene.platform_does(&call, refer());
        scene.run(2_000);
        assert_eq!(heard(&scene).len(), 2 * count);
    }
    assert_eq!(scene.world.peer(scene.carrier).outcomes("NOTIFY"), [200; 8]);
    hang_up(&mut scene, &call);
}

#[test]
fn a_subscriber_may_unsubscribe_after_the_bye() {
    let mut scene = Scene::default();
    let ringing = || steps([(10, respond(202)), (20, notify("180 Ringing", ACTIVE))]);
    scene.world.peer_mut(scene.carrier).on("REFER", course());
    scene.world.peer_mut(scene.carrier).on("REFER", ringing());
    let call = scene.answered();
    assert!(may_transfer(&mut scene, &call));
    scene.run(2_000);
    scene.platform_does(&call, refer());
    scene.run(100);
    scene.platform_does(&call, request(BYE));
    scene.run(1_000);
    let lines = [("Event", "refer;id=1"), ("Expires", "0")].map(|(name, value)| (name.into(), value.into()));
    let unsubscribe = Act::Again {
        method: "SUBSCRIBE".into(),
        headers: lines.into(),
    };
    scene.platform_does(&call, unsubscribe);
    scene.world.finish();
    let heard = scene.world.peer(scene.carrier).heard("SUBSCRIBE");
    assert_eq!(heard[0].header("Event"), Some("refer;id=2"));
}
