//! CSeq numbers as both ends see them, against a naive model (RFC 3261 §12.2.1.1).

use proptest::prelude::*;
use referee::sim::PeerId;
use referee::sim::peer::script::request;
use referee::sim::scene::{Scene, TWO_SIDES, carrier, platform};
use serde_json::json;

/// One step of a dialog into which referee inserts requests.
#[derive(Clone, Copy, Debug)]
enum Step {
    Refer,
    Caller(&'static str),
    Callee(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let method = prop_oneof![Just("INFO"), Just("INVITE"), Just("UPDATE"), Just("MESSAGE")];
    prop_oneof![
        Just(Step::Refer),
        method.clone().prop_map(Step::Caller),
        method.prop_map(Step::Callee),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A naive model of what each end sees: the numbers of the other's requests in the order they were sent, those of
    /// referee counted in. The peers themselves check that every response has the number of its request.
    #[test]
    fn both_ends_see_numbers_that_rise_by_one(
        first in (1u32..3, 1u32..3),
        steps in proptest::collection::vec(step(), 0..14),
    ) {
        let (mut caller, mut callee) = (carrier(), platform());
        caller.manners.first_cseq = first.0 * 7;
        callee.manners.first_cseq = first.1;
        let text = TWO_SIDES.replace("[[trunk]]\nname = \"platform\"", "[[trunk]]\nname = \"platform\"\ninbound_refer = \"reject\"");
        let mut scene = Scene::with(&text, caller, callee);
        let call = scene.answered();
        // What the caller sees: the callee's numbers, from its first on, or from 1 where referee speaks first.
        let mut seen_by_caller: Vec<u32> = Vec::new();
        let mut seen_by_callee = vec![first.0 * 7];
        let mut said_by_callee = first.1 - 1;
        let mut refers = 0;
        for step in steps {
            match step {
                Step::Refer if refers < 5 => {
                    refers += 1;
                    scene.verbs(&call, json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/a"}));
                    let number = seen_by_caller.last().map_or(1, |last| last + 1);
                    seen_by_caller.push(number);
                }
                Step::Refer => {}
                Step::Caller(method) => {
                    scene.carrier_does(&call, request(method));
                    let number = seen_by_callee.last().map_or(0, |last| last + 1);
                    seen_by_callee.push(number);
                }
                Step::Callee(method) => {
                    scene.platform_does(&call, request(method));
                    let inserted_first = said_by_callee == first.1 - 1 && !seen_by_caller.is_empty();
                    said_by_callee += 1;
                    // Its first request keeps its number, shifted by what was inserted before it.
                    let number = match seen_by_caller.last() {
                        Some(last) if !inserted_first => last + 1,
                        _ => said_by_callee + seen_by_caller.len() as u32,
                    };
                    seen_by_caller.push(number);
                }
            }
            scene.run(200);
        }
        let numbers = |peer: PeerId| {
            let heard = scene.world.peer(peer).heard("");
            let requests = heard.iter().filter(|text| text.is_request() && text.method() != "ACK");
            requests.map(|text| text.cseq().0).collect::<Vec<_>>()
        };
        prop_assert_eq!(numbers(scene.carrier), seen_by_caller);
        prop_assert_eq!(numbers(scene.platform), seen_by_callee);
        scene.carrier_does(&call, request("BYE"));
        scene.world.finish();
    }
}
