//! What parties do in calls that outlive the faults: one refers where referee has put a REFER of its own into the dialog before,
//! and one shows another Contact where that counts for nothing (RFC 3515 §2.4.6, RFC 3261 §12.2).

use super::super::dice::Dice;
use super::super::peer::script::{Act, notify, request, request_with};
use super::super::{PeerId, World};
use super::setting::Member;
use crate::command::{CallSelector, Command};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Calls of a world that go on so.
const CALLS_MAX: usize = 3;

/// Lets it happen, in some worlds.
pub fn run(world: &mut World, members: &[Member], mut dice: Dice) {
    if !dice.one_in(3) {
        return;
    }
    let mut calls: BTreeMap<String, Vec<PeerId>> = BTreeMap::new();
    for id in members.iter().map(|member| member.id) {
        let live = world.peer(id).live_calls().into_iter();
        for call in live.filter(|call| world.peer(id).is_up(call) && !call.contains(' ')) {
            calls.entry(call).or_default().push(id);
        }
    }
    for (call, parties) in calls.into_iter().take(CALLS_MAX) {
        refer_here(world, &mut dice, &call, &parties);
        refer_there(world, &mut dice, &call, &parties);
        move_unseen(world, &mut dice, &call, &parties);
    }
}

/// A transfer of the call that fails, so that the call goes on.
fn refer_here(world: &mut World, dice: &mut Dice, call: &str, parties: &[PeerId]) {
    let mut verb = json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/a", "eventHook": "/e"});
    match (dice.below(3), verb.as_object_mut()) {
        (1, Some(verb)) => drop(verb.insert("leg".into(), "caller".into())),
        (2, Some(verb)) => drop(verb.insert("leg".into(), "callee".into())),
        _ => {}
    }
    if let Err(error) = world.verbs(call, &verb) {
        panic!("{error}");
    }
    world.run_for(Duration::from_secs(1));
    report(world, call, parties, "486 Busy Here");
}

/// A party's own REFER, and what the other tells of it.
fn refer_there(world: &mut World, dice: &mut Dice, call: &str, parties: &[PeerId]) {
    let party = dice.one_of(parties);
    let headers = [("Refer-To", "<sip:x@y>"), ("Referred-By", "<sip:p@example.com>")];
    world.act(party, call, request_with("REFER", &headers, ""));
    world.run_for(Duration::from_secs(1));
    report(world, call, parties, "200 OK");
}

/// Whoever has been asked to refer tells what became of it.
fn report(world: &mut World, call: &str, parties: &[PeerId], last: &str) {
    for told in [
        notify("100 Trying", "active;expires=60"),
        notify(last, "terminated;reason=noresource"),
    ] {
        for party in parties {
            if world.peer(*party).has_open_refer(call) {
                world.act(*party, call, told.clone());
            }
        }
        world.run_for(Duration::from_secs(1));
    }
}

/// A party says another Contact in a request that refreshes no target; then referee ends the call.
fn move_unseen(world: &mut World, dice: &mut Dice, call: &str, parties: &[PeerId]) {
    let party = dice.one_of(parties);
    let contact = format!("<sip:unseen@{}>", world.peer(party).address);
    world.act(party, call, Act::Move { contact });
    world.act(party, call, request("INFO"));
    world.run_for(Duration::from_secs(1));
    if dice.one_in(2) {
        let call = CallSelector::SipCallId(call.as_bytes().to_vec());
        world.command(Command::Hangup { call });
    }
}
