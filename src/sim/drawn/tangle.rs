//! Calls in which it is easy to mistake one thing for another, once all has healed: REFERs in both directions with one number and their
//! NOTIFYs (RFC 3515 §2.4.6), a BYE that is challenged (RFC 3261 §22.2), a CANCEL from another hop (§9.2).

use super::super::dice::Dice;
use super::super::peer::script::{EventIds, notify, notify_of, request, request_with, respond, steps};
use super::super::tally::Fault;
use super::super::{PeerId, REFEREE, World};
use super::setting::{Member, Setting};
use crate::sim::peer::script::Act;
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Lets it happen, in some worlds.
pub fn run(world: &mut World, members: &[Member], setting: &Setting, mut dice: Dice) {
    if !dice.one_in(3) {
        return;
    }
    let callers: Vec<&Member> = members
        .iter()
        .filter(|member| setting.trunks[member.trunk].has_route)
        .collect();
    if callers.is_empty() {
        return;
    }
    let caller = dice.one_of(&callers);
    cancelled_by_another(world, members, setting, caller);
    react(world, members, caller, &[(50, 180), (300, 200)]);
    let call = world.call(caller.id, &setting.uri(caller.trunk, "+4477"), &[]);
    world.run_for(10 * SECOND);
    let up: Vec<PeerId> = members
        .iter()
        .map(|member| member.id)
        .filter(|id| world.peer(*id).is_up(&call))
        .collect();
    if let [one, other] = up[..] {
        let others = [other, one];
        refer_both(world, members, &mut dice, &call, [one, other], others);
        bye_again(world, &mut dice, &call, [one, other]);
    }
}

/// All but one take the next call so: after so many milliseconds this status.
fn react(world: &mut World, members: &[Member], caller: &Member, course: &[(u64, u16)]) {
    for member in members.iter().filter(|member| member.id != caller.id) {
        let course = course.iter().map(|(at, code)| (*at, respond(*code)));
        world.peer_mut(member.id).on("INVITE", steps(course));
    }
}

/// Referee's REFER to one leg, which says nothing of it until the transfer is over; then REFERs of both parties, that of the same one
/// with the number of referee's, and NOTIFYs of all, the first one last.
fn refer_both(
    world: &mut World,
    members: &[Member],
    dice: &mut Dice,
    call: &str,
    parties: [PeerId; 2],
    others: [PeerId; 2],
) {
    let ids = dice.one_of(&[EventIds::Always, EventIds::FromTheSecond]);
    for party in parties {
        world.peer_mut(party).manners.event_ids = ids;
        world.peer_mut(party).on("REFER", steps([(0, respond(202))]));
    }
    let verb = json!({"verb": "sip:refer", "referTo": "+4930111", "actionHook": "/a", "eventHook": "/e", "timeout": 1});
    if let Err(error) = world.verbs(call, &verb) {
        panic!("{error}");
    }
    world.run_for(3 * SECOND);
    let Some(place) = parties.iter().position(|party| world.peer(*party).has_open_refer(call)) else {
        return;
    };
    let (notifier, other) = (parties[place], others[place]);
    let number = world.peer(notifier).last_refer(call);
    for _ in 0..8 {
        if number.is_some_and(|number| world.peer(notifier).next_number(call) < Some(number)) {
            world.act(notifier, call, request("INFO"));
            world.run_for(SECOND);
        }
    }
    let is_late = dice.one_in(2);
    if is_late {
        let name = members
            .iter()
            .find(|member| member.id == notifier)
            .map(|member| member.name.clone());
        world
            .network
            .delay(&name.unwrap_or_default(), REFEREE, "NOTIFY", 4 * SECOND);
        world.act(notifier, call, notify_of(0, "180 Ringing", "active;expires=60"));
        world.act(notifier, call, request("INFO"));
        world.run_for(Duration::from_millis(50));
    }
    let headers = [("Refer-To", "<sip:x@y>"), ("Referred-By", "<sip:p@example.com>")];
    for party in [notifier, other] {
        world.peer_mut(party).on("REFER", steps([(0, respond(202))]));
        world.act(party, call, request_with("REFER", &headers, ""));
        world.run_for(Duration::from_millis(50));
    }
    world.run_for(SECOND);
    for (party, act) in [
        (other, notify("100 Trying", "active;expires=60")),
        (notifier, notify("100 Trying", "active;expires=60")),
        (notifier, notify_of(0, "180 Ringing", "active;expires=60")),
        (other, notify("200 OK", "terminated;reason=noresource")),
        (notifier, notify("486 Busy Here", "terminated;reason=noresource")),
        (notifier, notify_of(0, "200 OK", "terminated;reason=noresource")),
    ] {
        let may_say = match act {
            Act::Notify { place: Some(_), .. } => ids == EventIds::Always,
            _ => world.peer(party).has_open_refer(call),
        };
        if may_say {
            world.act(party, call, act);
        }
        world.run_for(SECOND);
    }
    world.run_for(5 * SECOND);
}

/// A BYE that the other party challenges comes again with credentials.
fn bye_again(world: &mut World, dice: &mut Dice, call: &str, parties: [PeerId; 2]) {
    let place = usize::from(dice.one_in(2));
    world.peer_mut(parties[1 - place]).on("BYE", steps([(0, respond(401))]));
    world.act(parties[place], call, request("BYE"));
    world.run_for(5 * SECOND);
}

/// A CANCEL of a call that rings, from a hop of another trunk; then its caller gives it up.
fn cancelled_by_another(world: &mut World, members: &[Member], setting: &Setting, caller: &Member) {
    react(world, members, caller, &[(50, 180)]);
    let call = world.call(caller.id, &setting.uri(caller.trunk, "+4477"), &[]);
    world.run_for(Duration::from_millis(500));
    let another = members.iter().find(|member| member.trunk != caller.trunk);
    let said = world.peer(caller.id).said("INVITE");
    let invite = said.into_iter().rev().find(|invite| invite.call_id() == call).cloned();
    if let (Some(another), Some(invite)) = (another, invite) {
        let value = |name: &str| format!("{name}: {}\r\n", invite.header(name).unwrap_or_default());
        let head: String = ["Via", "Max-Forwards", "From", "To", "Call-ID"].map(value).concat();
        let text = format!(
            "CANCEL {} SIP/2.0\r\n{head}CSeq: {} CANCEL\r\nContent-Length: 0\r\n\r\n",
            invite.request_uri(),
            invite.cseq().0
        );
        let (from, to) = (world.peer(another.id).address, another.referee.parse());
        if let Ok(to) = to {
            world.forge(Fault::Impostor, from, to, &text);
        }
    }
    world.run_for(Duration::from_millis(200));
    world.act(caller.id, &call, Act::Cancel);
    world.run_for(40 * SECOND);
}
