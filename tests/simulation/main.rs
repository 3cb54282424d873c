//! Random worlds: rules that hold at every step, and the quiet that must follow when all heals.
//!
//! Each seed draws a whole world ([`referee::sim::drawn`]). `REFEREE_SEED=n` replays one, `REFEREE_SEEDS=n` runs more than the
//! usual number, `REFEREE_FIRST_SEED=n` begins elsewhere than at 0. A failure prints the seed, the configuration, the rules that
//! were broken and the ladder.

mod arrows;
mod numbers;

use referee::coverage::Coverage;
use referee::sim::drawn::{self, Drawn};
use referee::sim::tally::{Fault, Tally};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const SEEDS: u64 = 300;
/// So many more at a time, while something has not been seen yet that must be.
const MORE: u64 = 100;
/// By then all must have been seen.
const SEEDS_MAX: u64 = 3_000;

/// What all seeds together have seen.
#[derive(Default)]
struct Seen {
    tally: Tally,
    coverage: Coverage,
    calls: u64,
    transfers: u64,
    failed: Vec<u64>,
}

impl Seen {
    fn add(&mut self, drawn: &Drawn) {
        self.tally.add(&drawn.tally);
        self.coverage.add(&drawn.coverage);
        for shard in drawn.world.shards() {
            let counters = shard.counters();
            self.transfers += counters.transfers_total;
            self.calls += counters.calls_answered_total;
        }
    }

    fn join(&mut self, mut other: Seen) {
        self.tally.add(&other.tally);
        self.coverage.add(&other.coverage);
        self.calls += other.calls;
        self.transfers += other.transfers;
        self.failed.append(&mut other.failed);
    }

    /// What must be seen and was not.
    fn missing(&self) -> Vec<String> {
        let faults = Fault::ALL.iter().filter(|fault| self.tally.count(**fault) == 0);
        let faults = faults.map(|fault| format!("fault: {}", fault.as_str()));
        faults.chain(arrows::missing(&self.coverage)).collect()
    }
}

/// Runs seeds, as many at a time as there are processors.
fn run(first: u64, count: u64) -> Seen {
    let seen = Mutex::new(Seen::default());
    let next = AtomicU64::new(first);
    let work = || {
        let mut own = Seen::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
            }
            match std::panic::catch_unwind(|| drawn::of_seed(seed)) {
                Ok(drawn) => own.add(&drawn),
                Err(_) => own.failed.push(seed),
            }
        }
        seen.lock().expect("no thread panics while it adds").join(own);
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    seen.into_inner().expect("no thread panics while it adds")
}

#[test]
fn every_seed_keeps_the_rules_and_comes_to_rest() {
    if let Some(seed) = number_from("REFEREE_SEED") {
        let drawn = drawn::of_seed(seed);
        println!("{}\n{}", drawn.config, drawn.world.ladder());
        return;
    }
    let seeds = number_from("REFEREE_SEEDS").unwrap_or(SEEDS);
    let first = number_from("REFEREE_FIRST_SEED").unwrap_or(0);
    let mut seen = run(first, seeds);
    let mut count = seeds;
    while count < SEEDS_MAX && seen.failed.is_empty() && !seen.missing().is_empty() {
        seen.join(run(first + count, MORE));
        count += MORE;
    }
    seen.failed.sort_unstable();
    println!("{count} seeds, {} calls, {} transfers", seen.calls, seen.transfers);
    println!("{}", seen.tally);
    for (arrow, count) in seen.coverage.taken() {
        println!("{count:9}  {arrow}");
    }
    assert!(seen.failed.is_empty(), "REFEREE_SEED replays each of {:?}", seen.failed);
    let missing = seen.missing();
    assert!(
        missing.is_empty(),
        "never seen in {count} seeds:\n{}",
        missing.join("\n")
    );
    let undrawn = arrows::undrawn(&seen.coverage);
    assert!(
        undrawn.is_empty(),
        "taken and not drawn in tests/simulation/arrows.rs:\n{}",
        undrawn.join("\n")
    );
}

#[test]
fn the_fuzzers_corpus_of_worlds_keeps_the_rules() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/world");
    let files = std::fs::read_dir(folder).expect("the corpus is part of the repository");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    assert!(paths.len() > 3, "{paths:?}");
    for path in paths {
        println!("{}", path.display());
        drawn::of_bytes(&std::fs::read(path).expect("it can be read"));
    }
}

#[test]
fn a_seed_replays_to_the_letter() {
    let ladder = |seed| drawn::of_seed(seed).world.ladder().to_string();
    for seed in [1, 7] {
        assert_eq!(ladder(seed), ladder(seed));
    }
}

fn number_from(variable: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "which seeds to run is the tester's choice")]
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is `{text}`, no number")),
    )
}
