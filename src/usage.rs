//! What calls take of trunks, over all shards: places against `calls_max`, a rate against `calls_per_second_max`; and what each
//! source of a trunk takes of its `source_rate`.
//!
//! What shards share. It is made of atomics, so that the caps are exact and nobody waits: a place is an
//! addition that is taken back if it was one too many, a rate is a bucket of `rate.rs`. Read by exporters as well, with the
//! states of addresses.

use crate::config::{Config, TrunkId};
use crate::health::State;
use crate::identifiers::Secret;
use crate::rate::sources::Sources;
use crate::rate::{Latest, Rate, SharedBucket};
use crate::timer::Instant;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// All trunks' use.
#[derive(Debug)]
pub struct Usage {
    trunks: Box<[Trunk]>,
    /// Sources of trunks with a `source_rate`; without room where no trunk has one.
    sources: Sources,
    latest: Latest,
}

/// Calls of one trunk change what calls of another do not need: each has cache lines of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Trunk {
    calls: AtomicU32,
    /// `u32::MAX`: any number.
    calls_max: u32,
    calls_rate: Option<Rate>,
    calls_bucket: SharedBucket,
    source_rate: Option<Rate>,
    /// What exporters show: [`State`] as a number.
    states: Box<[AtomicU8]>,
    /// [`Refers`] as a number.
    refers: AtomicU8,
}

/// Whether the peers of a trunk take REFERs, as the last one that was sent there shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refers {
    /// None was answered yet in a way that tells.
    Unknown,
    /// By a 2xx.
    Supported,
    /// By a 405 or 501.
    Unsupported,
}

impl Refers {
    /// What a final response to a REFER tells, if anything.
    pub fn told_by(code: u16) -> Option<Refers> {
        match code {
            200..=299 => Some(Refers::Supported),
            405 | 501 => Some(Refers::Unsupported),
            _ => None,
        }
    }

    /// As the control API has it.
    pub fn word(self) -> &'static str {
        match self {
            Refers::Unknown => "unknown",
            Refers::Supported => "supported",
            Refers::Unsupported => "unsupported",
        }
    }
}

/// A call's place on one trunk. Dropping it gives it back, so on every path that is done once.
#[derive(Debug)]
#[must_use]
pub struct Place {
    usage: Arc<Usage>,
    trunk: TrunkId,
}

/// Why a trunk takes no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// `calls_max`.
    Calls,
    /// `calls_per_second_max`.
    Rate,
}

impl Usage {
    pub fn new(config: &Config) -> Usage {
        let trunk = |trunk: &crate::config::Trunk| {
            let source_rate = trunk.source_rate.or(config.access.source_rate);
            Trunk {
                calls: AtomicU32::new(0),
                calls_max: trunk.calls_max.unwrap_or(u32::MAX),
                calls_rate: trunk
                    .calls_per_second_max
                    .filter(|rate| *rate > 0)
                    .map(Rate::per_second),
                calls_bucket: SharedBucket::default(),
                source_rate: source_rate.map(Rate::per_second),
                states: trunk.addresses.iter().map(|_| AtomicU8::new(UNKNOWN)).collect(),
                refers: AtomicU8::new(Refers::Unknown as u8),
            }
        };
        let trunks: Box<[Trunk]> = config.trunks.iter().map(trunk).collect();
        let is_any_limited = trunks.iter().any(|trunk| trunk.source_rate.is_some());
        Usage {
            trunks,
            sources: Sources::new(if is_any_limited { config.limits.sources_max } else { 0 }),
            latest: Latest::default(),
        }
    }

    /// Takes a place for a new call from or to a trunk, if both caps have room.
    ///
    /// # Errors
    /// The cap that has none; nothing is taken then.
    pub fn take(self: &Arc<Usage>, id: TrunkId, now: Instant) -> Result<Place, Full> {
        let trunk = &self.trunks[usize::from(id.0)];
        // Orders nothing but itself: no other memory hangs on these numbers.
        if trunk.calls.fetch_add(1, Ordering::Relaxed) >= trunk.calls_max {
            trunk.calls.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Calls);
        }
        // From here on a way out gives it back.
        let place = Place {
            usage: Arc::clone(self),
            trunk: id,
        };
        if let Some(rate) = trunk.calls_rate {
            self.latest.tell(now);
            if !trunk.calls_bucket.take(rate, &self.latest) {
                return Err(Full::Rate);
            }
        }
        Ok(place)
    }

    /// Takes one new request of a trunk's source; `Some(false)`: it is one too many. `None`: there is no room to remember the
    /// source, since as many others as are remembered have asked just now. The secret is that of all shards.
    pub fn take_new(&self, id: TrunkId, ip: IpAddr, secret: &Secret, now: Instant) -> Option<bool> {
        match self.trunks.get(usize::from(id.0)).and_then(|trunk| trunk.source_rate) {
            Some(rate) => self.sources.take(secret, ip, rate, now),
            None => Some(true),
        }
    }

    /// Calls that have a place now.
    pub fn calls(&self, trunk: TrunkId) -> u32 {
        // A call that is being refused is counted for an instant.
        let trunk = &self.trunks[usize::from(trunk.0)];
        trunk.calls.load(Ordering::Relaxed).min(trunk.calls_max)
    }

    /// Shows how an address stands; of those out of range nothing is kept.
    pub fn show(&self, trunk: TrunkId, address: usize, state: State) {
        let trunk = self.trunks.get(usize::from(trunk.0));
        if let Some(shown) = trunk.and_then(|trunk| trunk.states.get(address)) {
            let number = match state {
                State::Unknown => UNKNOWN,
                State::Alive => ALIVE,
                State::Dead => DEAD,
            };
            shown.store(number, Ordering::Relaxed);
        }
    }

    /// How an address stands, as it was last shown.
    pub fn shown(&self, trunk: TrunkId, address: usize) -> State {
        match self.trunks[usize::from(trunk.0)].states[address].load(Ordering::Relaxed) {
            ALIVE => State::Alive,
            DEAD => State::Dead,
            _ => State::Unknown,
        }
    }

    /// Shows what a REFER to a trunk has told of it.
    pub fn show_refers(&self, trunk: TrunkId, refers: Refers) {
        if let Some(trunk) = self.trunks.get(usize::from(trunk.0)) {
            trunk.refers.store(refers as u8, Ordering::Relaxed);
        }
    }

    /// Whether a trunk takes REFERs, as was last shown.
    pub fn refers(&self, trunk: TrunkId) -> Refers {
        let shown = self.trunks[usize::from(trunk.0)].refers.load(Ordering::Relaxed);
        let all = [Refers::Supported, Refers::Unsupported];
        all.into_iter()
            .find(|refers| *refers as u8 == shown)
            .unwrap_or(Refers::Unknown)
    }
}

impl Place {
    /// The trunk it is on.
    pub fn trunk(&self) -> TrunkId {
        self.trunk
    }
}

/// The places of one call: on the trunk it comes from, and on those where it is or is being tried.
#[derive(Debug, Default)]
pub struct Places {
    #[cfg_attr(not(feature = "sim"), expect(dead_code, reason = "it is kept to be dropped"))]
    from: Option<Place>,
    to: SmallVec<[Place; 1]>,
}

impl Places {
    /// Those of a call that has been tried nowhere yet.
    pub fn of_caller(place: Option<Place>) -> Places {
        Places {
            from: place,
            to: SmallVec::new(),
        }
    }

    /// Those of a call that has only been answered.
    pub fn of_callee(place: Option<Place>) -> Places {
        Places {
            from: None,
            to: place.into_iter().collect(),
        }
    }

    /// Whether there is a place for being tried on this trunk.
    pub fn has(&self, trunk: TrunkId) -> bool {
        self.to.iter().any(|place| place.trunk == trunk)
    }

    /// Places on this trunk, the caller's included.
    #[cfg(feature = "sim")]
    pub fn count_on(&self, trunk: TrunkId) -> usize {
        self.from
            .iter()
            .chain(&self.to)
            .filter(|place| place.trunk == trunk)
            .count()
    }

    /// Whether there is a place on the trunk that the call comes from.
    #[cfg(feature = "sim")]
    pub fn has_from(&self) -> bool {
        self.from.is_some()
    }

    /// The trunks where there is a place for being tried.
    #[cfg(feature = "sim")]
    pub fn tried(&self) -> impl Iterator<Item = TrunkId> + '_ {
        self.to.iter().map(|place| place.trunk)
    }

    pub fn add(&mut self, place: Place) {
        debug_assert!(!self.has(place.trunk), "a call takes two places on one trunk");
        self.to.push(place);
    }

    /// Takes out the place for being tried on this trunk.
    pub fn take_out(&mut self, trunk: TrunkId) -> Option<Place> {
        let at = self.to.iter().position(|place| place.trunk == trunk)?;
        Some(self.to.swap_remove(at))
    }

    /// Gives back the places for being tried on trunks that are needed no longer.
    pub fn keep(&mut self, is_needed: impl Fn(TrunkId) -> bool) {
        self.to.retain(|place| is_needed(place.trunk));
    }

    /// Gives all of them back.
    pub fn give_back(&mut self) {
        *self = Places::default();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let trunk = &self.usage.trunks[usize::from(self.trunk.0)];
        let before = trunk.calls.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a place was given back twice");
    }
}

const UNKNOWN: u8 = 0;
const ALIVE: u8 = 1;
const DEAD: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T: TrunkId = TrunkId(0);

    fn usage(calls_max: Option<u32>, calls_per_second_max: Option<u32>) -> Arc<Usage> {
        let text = "[[listen]]\nname = \"l\"\nbind = [\"udp:127.0.0.1:5060\"]\n\
            [[trunk]]\nname = \"t\"\nlisten = \"l\"\naddresses = [\"udp:127.0.0.1\"]\n\
            [[trunk]]\nname = \"u\"\nlisten = \"l\"\nsources = [\"192.0.2.0/24\"]\n";
        let mut config = crate::config::parse(text, &|_| None).unwrap();
        config.trunks[0].calls_max = calls_max;
        config.trunks[0].calls_per_second_max = calls_per_second_max;
        Arc::new(Usage::new(&config))
    }

    #[test]
    fn places_are_taken_and_given_back() {
        let usage = usage(Some(2), None);
        let now = Instant::START;
        let first = usage.take(T, now).unwrap();
        let second = usage.take(T, now).unwrap();
        for _ in 0..3 {
            assert_eq!(usage.take(T, now).unwrap_err(), Full::Calls);
            assert_eq!(usage.calls(T), 2);
        }
        drop(first);
        let third = usage.take(T, now).unwrap();
        assert_eq!((usage.calls(T), third.trunk()), (2, T));
        drop((second, third));
        assert_eq!(usage.calls(T), 0);
        // A trunk without caps has its own count, and no end.
        let many: Vec<_> = (0..1_000).map(|_| usage.take(TrunkId(1), now).unwrap()).collect();
        assert_eq!((usage.calls(T), usage.calls(TrunkId(1))), (0, 1_000));
        drop(many);
        assert_eq!(usage.calls(TrunkId(1)), 0);
    }

    #[test]
    fn a_call_over_the_rate_has_no_place() {
        let usage = usage(None, Some(2));
        let mut places = Vec::new();
        for (millis, fits) in [
            (0, true),
            (0, true),
            (0, false),
            (499, false),
            (500, true),
            (500, false),
            (1_000, true),
            (10_000, true),
            (10_000, true),
            (10_000, false),
        ] {
            match usage.take(T, Instant::from_millis(millis)) {
                Ok(place) => {
                    places.push(place);
                    assert!(fits, "{millis}");
                }
                Err(full) => assert_eq!((full, fits), (Full::Rate, false), "{millis}"),
            }
            assert_eq!(usage.calls(T), places.len() as u32);
        }
    }

    #[test]
    fn a_shard_that_is_late_loses_no_call_of_those_that_may_come_at_once() {
        let usage = usage(None, Some(3));
        let places = [2_000, 1_990, 1_999].map(|millis| usage.take(T, Instant::from_millis(millis)));
        assert!(places.iter().all(Result::is_ok));
        assert_eq!(usage.take(T, Instant::from_millis(1_000)).unwrap_err(), Full::Rate);
    }

    #[test]
    fn states_are_shown_as_they_are_set() {
        let usage = usage(None, None);
        assert_eq!(usage.shown(T, 0), State::Unknown);
        for state in [State::Alive, State::Dead, State::Unknown] {
            usage.show(T, 0, state);
            assert_eq!(usage.shown(T, 0), state);
        }
        usage.show(T, 1, State::Dead);
        usage.show(TrunkId(7), 0, State::Dead);
    }

    #[test]
    fn threads_together_never_pass_a_cap() {
        let usage = usage(Some(7), Some(1_000_000));
        let most = AtomicU32::new(0);
        let taken = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (usage, most, taken) = (&usage, &most, &taken);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for step in 0..20_000 {
                        if let Ok(place) = usage.take(T, Instant::from_micros(step * 3)) {
                            // Counted by those who have one, apart from the count that is tested.
                            most.fetch_max(taken.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            held.push(place);
                        }
                        if held.len() as u64 > thread {
                            taken.fetch_sub(held.len() as u32, Ordering::SeqCst);
                            held.clear();
                        }
                    }
                    taken.fetch_sub(held.len() as u32, Ordering::SeqCst);
                });
            }
        });
        assert!((1..=7).contains(&most.load(Ordering::SeqCst)), "{most:?}");
        assert_eq!(usage.calls(T), 0);
    }

    proptest! {
        /// By the definition: no call may make a run of calls that is longer than a second's worth and what time has added.
        #[test]
        fn the_rate_agrees_with_its_definition(rate in 1u32..50, waits in proptest::collection::vec(0u64..200_000, 0..200)) {
            let usage = usage(None, Some(rate));
            let interval = 1_000_000_000u128.div_ceil(rate.into());
            let mut passed: Vec<u128> = Vec::new();
            let mut micros = 0;
            for wait in waits {
                micros += wait / u64::from(rate);
                let now = u128::from(micros) * 1_000;
                let fits = passed.iter().enumerate().all(|(place, first)| {
                    let run = (passed.len() - place + 1) as u128;
                    run.saturating_sub(rate.into()) * interval <= now - first
                });
                let taken = usage.take(T, Instant::from_micros(micros));
                prop_assert_eq!(taken.is_ok(), fits, "at {} after {:?}", now, passed);
                if fits {
                    passed.push(now);
                }
            }
        }
    }
}
