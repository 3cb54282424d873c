//! Calls that neighbours send back, and requests without a hop left (RFC 3261 §16.3, RFC 5393 §4), once all has healed.

use super::super::World;
use super::super::dice::Dice;
use super::super::peer::detour::{LOOPING, SPIRALLING};
use super::super::peer::script::request_with;
use super::setting::{Member, Setting};
use std::time::Duration;

/// Lets it happen, in some worlds.
pub fn run(world: &mut World, members: &[Member], setting: &Setting, mut dice: Dice) {
    if !dice.one_in(4) {
        return;
    }
    let callers: Vec<&Member> = members
        .iter()
        .filter(|member| setting.trunks[member.trunk].has_route)
        .collect();
    if callers.is_empty() {
        return;
    }
    let spiral = format!("{SPIRALLING}{}", dice.below(4));
    for (user, headers) in [
        (LOOPING, &[][..]),
        (&spiral, &[]),
        ("+44", &[("Max-Forwards", "0")]),
        ("+44", &[("Max-Forwards", "1")]),
    ] {
        let caller = dice.one_of(&callers);
        world.call(caller.id, &setting.uri(caller.trunk, user), headers);
        world.run_for(Duration::from_secs(2));
    }
    for member in members {
        for call in world.peer(member.id).live_calls() {
            world.act(member.id, &call, request_with("INFO", &[("Max-Forwards", "0")], ""));
        }
        // What acknowledges a 2xx has no answer, and goes no further either.
        let acks = world.peer(member.id).said("ACK");
        let ack = acks.into_iter().rev().find(|ack| ack.list("Via").len() == 1).cloned();
        if let Some(mut ack) = ack {
            for (name, value) in &mut ack.headers {
                match name.as_str() {
                    "Max-Forwards" => *value = "0".to_owned(),
                    "Via" => *value = value.replace("branch=z9hG4bK", "branch=z9hG4bK-last"),
                    _ => {}
                }
            }
            let lines = ack.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
            let text = format!("{}\r\n{}\r\n{}", ack.first, lines.collect::<String>(), ack.body);
            world.say(member.id, &text);
        }
    }
    world.run_for(Duration::from_secs(40));
}
