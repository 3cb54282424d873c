//! Calls through referee in virtual time, each kept as the ladder a SIP engineer would draw (RFC 3665, RFC 3261 §17).

mod common;

use common::*;
use referee::sim::peer::script::{Act, request, respond, steps};

#[test]
fn a_call_is_set_up_and_torn_down() {
    let mut pair = Pair::new();
    let call = pair.call();
    pair.run_for_millis(5_000);
    pair.world.act(pair.carrier, &call, request("BYE"));
    pair.world.finish();
    assert_ladder("basic_call", &pair.world);
}
