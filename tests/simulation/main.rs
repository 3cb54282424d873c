//! Random worlds: rules that hold at every step, and the quiet that must follow when all heals.
//!
//! Each seed draws a whole world ([`referee::sim::drawn`]). `REFEREE_SEED=n` replays one, `REFEREE_SEEDS=n` runs more than the
//! usual number. A failure prints the seed, the configuration, the rules that were broken and the ladder.

use proptest::prelude::*;
use referee::coverage::Coverage;
use referee::sim::PeerId;
use referee::sim::drawn::{self, Drawn};
use referee::sim::peer::script::request;
use referee::sim::scene::{Scene, TWO_SIDES, carrier, platform};
use referee::sim::tally::Tally;
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const BYE: &str = "BYE";
const SEEDS: u64 = 300;

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
    let seen = Mutex::new(Seen::default());
    let next = AtomicU64::new(first);
    let work = || {
        let mut own = Seen::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                break;
            }
            match std::panic::catch_unwind(|| drawn::of_seed(seed)) {
                Ok(drawn) => own.add(&drawn),
                Err(_) => own.failed.push(seed),
            }
        }
        let mut seen = seen.lock().expect("no thread panics while it adds");
        seen.tally.add(&own.tally);
        seen.coverage.add(&own.coverage);
        seen.calls += own.calls;
        seen.transfers += own.transfers;
        seen.failed.append(&mut own.failed);
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut seen = seen.into_inner().expect("no thread panics while it adds");
    seen.failed.sort_unstable();
    println!("{} calls, {} transfers", seen.calls, seen.transfers);
    println!("{}", seen.tally);
    for (arrow, count) in seen.coverage.taken() {
        println!("{count:9}  {arrow}");
    }
    assert!(seen.failed.is_empty(), "REFEREE_SEED replays each of {:?}", seen.failed);
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
        scene.carrier_does(&call, request(BYE));
        scene.world.finish();
    }
}
