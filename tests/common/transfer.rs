//! What the tests of transfers share: a call that is transferred, and what its hooks were told.

use referee::command::{Refusal, Reply};
use referee::sim::application::Posted;
use referee::sim::peer::script::{Steps, notify, request, respond, steps};
use referee::sim::scene::Scene;
use referee::webhook::HookKind;
use serde_json::{Value, json};

pub const BYE: &str = "BYE";
pub const TERMINATED: &str = "terminated;reason=noresource";
pub const ACTIVE: &str = "active;expires=60";

/// A carrier's usual course: 202, NOTIFY 100, 180, and a final status after so many milliseconds.
pub fn course(last: &str, millis: u64) -> Steps {
    steps([
        (10, respond(202)),
        (20, notify("100 Trying", ACTIVE)),
        (1_000, notify("180 Ringing", ACTIVE)),
        (millis, notify(last, TERMINATED)),
    ])
}

pub fn refer() -> Value {
    json!({"verb": "sip:refer", "id": "t1", "referTo": "+4930111", "actionHook": "/action", "eventHook": "/event"})
}

/// An answered call whose carrier takes each REFER so; the verb is accepted and everything has run to its end.
pub fn after(carrier: Steps) -> (Scene, String) {
    let mut scene = Scene::default();
    scene.world.peer_mut(scene.carrier).on("REFER", carrier);
    let call = scene.answered();
    accepted(scene.verbs(&call, refer()));
    (scene, call)
}

pub fn accepted(reply: Reply) -> String {
    match reply {
        Reply::Accepted {
            transfer: Some(transfer),
            ..
        } => transfer.to_string(),
        other => panic!("not accepted: {other:?}"),
    }
}

pub fn refused(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

pub fn events(scene: &Scene) -> Vec<u64> {
    let events = scene.world.application.posted().iter();
    let events = events.filter(|posted| posted.kind == HookKind::Event);
    events
        .map(|posted| posted.body["call_status"].as_u64().unwrap_or_default())
        .collect()
}

pub fn actions(scene: &Scene) -> Vec<&Posted> {
    let posted = scene.world.application.posted().iter();
    posted.filter(|posted| posted.kind == HookKind::Action).collect()
}

/// `refer_status`, `final_referred_call_status`, `refer_result`, `refer_cause` of the one action.
pub fn verdict(scene: &Scene) -> (u64, Option<u64>, String, String) {
    let [action] = actions(scene)[..] else {
        panic!("{:?}", actions(scene))
    };
    let text = |name: &str| action.body[name].as_str().unwrap_or_default().to_owned();
    let status = action.body["refer_status"].as_u64().unwrap_or_default();
    assert_eq!(text("referStatus"), status.to_string());
    (
        status,
        action.body["final_referred_call_status"].as_u64(),
        text("refer_result"),
        text("refer_cause"),
    )
}

pub fn is(scene: &Scene, status: u64, last: Option<u64>, result: &str, cause: &str) {
    assert_eq!(
        verdict(scene),
        (status, last, result.into(), cause.into()),
        "\n{}",
        scene.world.ladder()
    );
}

/// The call goes on as if nothing had happened, and then ends.
pub fn goes_on(scene: &mut Scene, call: &str) {
    for peer in [scene.carrier, scene.platform] {
        assert!(scene.world.peer(peer).is_up(call), "\n{}", scene.world.ladder());
    }
    scene.carrier_does(call, request("INFO"));
    scene.platform_does(call, request("INFO"));
    scene.run(1_000);
    assert_eq!(scene.world.peer(scene.carrier).outcomes("INFO"), [200]);
    assert_eq!(scene.world.peer(scene.platform).outcomes("INFO"), [200]);
    scene.carrier_does(call, request(BYE));
    scene.world.finish();
}
