//! A whole world drawn from dice: its configuration, its peers, what they do, what goes wrong, and its end.
//!
//! ```text
//!   0 s ───────────── calls, transfers, faults ────────────► heals ── everybody hangs up ──► all that is left ends ──► checks
//! ```
//!
//! `setting` draws what there is, `course` what happens, `forgery` what outsiders send. What the peers answer is their
//! own instinct's. `sequel` goes on with what is left when all has healed, `detour` with calls that come back,
//! `tangle` with what is easily mistaken for another thing. A seed replays; the fuzzer gives bytes instead, of which the first choices are the setting.

mod course;
mod detour;
mod forgery;
mod sequel;
mod setting;
mod tangle;

use super::World;
use super::dice::Dice;
use super::peer::script::{Act, request};
use super::tally::Tally;
use crate::command::{CallSelector, Command, Reply};
use crate::coverage::Coverage;
use setting::{Member, Setting};
use std::time::Duration;

/// Streams of choices: the setting, the course, the network, what stands behind referee, the application, one for each peer, and
/// calls led by applications.
const STREAMS: usize = 6 + setting::MEMBERS_MAX;

/// Those of what happens when all has healed: the sequel, calls that come back, and what is easily mistaken.
const AFTER: usize = 3;

/// A world that has come to rest, and what it has seen.
#[derive(Debug)]
pub struct Drawn {
    pub world: World,
    /// The configuration.
    pub config: String,
    pub tally: Tally,
    pub coverage: Coverage,
}

/// Draws a world from a seed and lets it come to rest.
///
/// # Panics
/// If a rule is broken: with the seed, the configuration, the rules and the ladder.
pub fn of_seed(seed: u64) -> Drawn {
    let mut dice = Dice::of_seed(seed, STREAMS + AFTER);
    let of_sequel = dice.split_off(STREAMS);
    run(seed, dice, of_sequel, &format!("seed {seed}"))
}

/// Draws a world from any bytes: the body of a fuzz target.
///
/// # Panics
/// As [`of_seed`].
pub fn of_bytes(bytes: &[u8]) -> Drawn {
    let (dice, of_sequel) = (Dice::of_bytes(bytes, STREAMS), Dice::of_bytes(bytes, AFTER));
    run(0, dice, of_sequel, &format!("{} bytes", bytes.len()))
}

fn run(seed: u64, mut dice: Vec<Dice>, of_sequel: Vec<Dice>, name: &str) -> Drawn {
    let mut peers = dice.split_off(5);
    let of_led = peers.pop().unwrap_or_else(|| panic!());
    let [of_setting, of_course, of_network, of_world, of_application] = dice.try_into().unwrap_or_else(|_| panic!());
    let mut setting = Setting::draw(of_setting, of_led);
    let (mut world, members) = setting.build(seed, of_network, of_world, of_application, peers);
    let mut course = course::Course::new(of_course, &setting, &members);
    course.run(&mut world);
    world.run_until(setting.heals);
    let [of_sequel, of_detour, of_tangle] = of_sequel.try_into().unwrap_or_else(|_| panic!());
    sequel::run(&mut world, &members, of_sequel);
    detour::run(&mut world, &members, &setting, of_detour);
    tangle::run(&mut world, &members, &setting, of_tangle);
    world.run_until(setting.heals + setting.goes_on);
    hang_up(&mut world, &members);
    if setting.has_probes {
        world.begin_to_drain();
    }
    world.finish_quietly();
    let mut faults = world.violations();
    for member in &members {
        for call in world.peer(member.id).live_calls() {
            faults.push(format!("{} takes {call} for one that is up", member.name));
        }
    }
    // Where a rule names a call, its number in the ladder is of more use.
    for (call_id, number) in world.ladder().calls() {
        for fault in &mut faults {
            *fault = fault.replace(call_id, &format!("#{number}"));
        }
    }
    assert!(
        faults.is_empty(),
        "{name}\n{}\n{}\n{}\n{}",
        setting.config,
        setting.summary(),
        faults.join("\n"),
        world.ladder()
    );
    let mut coverage = Coverage::default();
    for shard in world.shards() {
        coverage.add(&shard.coverage());
    }
    Drawn {
        tally: world.tally(),
        coverage,
        config: setting.config,
        world,
    }
}

/// Whoever takes a call for alive hangs up, until nobody does; what nobody knows any more, since both its parties crashed, is
/// ended by whoever runs the place.
fn hang_up(world: &mut World, members: &[Member]) {
    for _ in 0..4 {
        for member in members {
            for call in world.peer(member.id).live_calls() {
                world.act(member.id, &call, Act::Cancel);
                world.act(member.id, &call, Act::Decline);
                world.act(member.id, &call, request("BYE"));
            }
        }
        world.run_for(Duration::from_secs(300));
    }
    for shard in 0..world.shards().len() {
        let list = Command::Calls {
            after: None,
            limit: 1_000,
        };
        let ticket = world.command_to(shard, list);
        let Some(Reply::Calls { calls, .. }) = world.reply(ticket).cloned() else {
            continue;
        };
        for call in calls {
            world.check.outlives(&call.call_id);
            if let Ok(id) = call.id.parse() {
                let call = CallSelector::Id(id);
                world.command_to(shard, Command::Hangup { call });
            }
        }
    }
}
