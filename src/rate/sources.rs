//! Addresses that ask, each with its token bucket: a table of fixed size under keys that attackers choose.

use super::{Latest, Rate, SharedBucket};
use crate::identifiers::Secret;
use crate::timer::Instant;
use crate::transport::source_of;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets by source and rate, which shards may share. An IPv6 source is its /64, for whoever has one address there has all of
/// them.
///
/// A source has a place in one of a few slots that its keyed hash names. One whose bucket is full again is as good as forgotten,
/// and makes room for another; where all slots hold sources that asked just now, there is no room.
///
/// Nobody waits for anybody. Where one takes over the place of a source just when another shard looks at it, an event is counted
/// for the wrong one of the two; but for that it is exact.
#[derive(Debug)]
pub struct Sources {
    sets: Box<[Set]>,
    latest: Latest,
}

/// Two cache lines.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([Slot; WAYS]);

#[derive(Debug, Default)]
struct Slot {
    /// The keyed hash of whose bucket it is. Two that have the same of 2^64 share one.
    source: AtomicU64,
    bucket: SharedBucket,
}

/// Slots of a set. With eight of them a table that is half full turns away one new source in twenty.
const WAYS: usize = 8;

impl Sources {
    /// Room for `sources_max` sources, rounded up to eight, in 16 bytes each; it is never more.
    pub fn new(sources_max: usize) -> Sources {
        Sources {
            sets: (0..sources_max.div_ceil(WAYS)).map(|_| Set::default()).collect(),
            latest: Latest::default(),
        }
    }

    /// Takes one event of a source; `None`: there is no room to remember it. The secret is the same at each call.
    pub fn take(&self, secret: &Secret, ip: IpAddr, rate: Rate, now: Instant) -> Option<bool> {
        self.latest.tell(now);
        let source = hash(secret, ip, rate);
        let slots = self.slots(source)?;
        let slot = slots
            .iter()
            .find(|slot| slot.is_of(source))
            .or_else(|| slots.iter().find(|slot| slot.enter(source, &self.latest)))?;
        Some(slot.bucket.take(rate, &self.latest))
    }

    /// Whether [`Sources::take`] would give one.
    pub fn has_one(&self, secret: &Secret, ip: IpAddr, rate: Rate, now: Instant) -> bool {
        self.latest.tell(now);
        let source = hash(secret, ip, rate);
        let Some(slots) = self.slots(source) else {
            return false;
        };
        match slots.iter().find(|slot| slot.is_of(source)) {
            Some(slot) => slot.bucket.has_one(rate, &self.latest),
            None => slots.iter().any(|slot| slot.bucket.is_full(&self.latest)),
        }
    }

    fn slots(&self, source: u64) -> Option<&[Slot; WAYS]> {
        // The upper half of hash times count: each set for an equal share of the hashes.
        let set = (u128::from(source) * self.sets.len() as u128) >> 64;
        self.sets.get(set as usize).map(|set| &set.0)
    }
}

impl Slot {
    fn is_of(&self, source: u64) -> bool {
        self.source.load(Ordering::Acquire) == source
    }

    /// Makes it that of a source, if its bucket is full or another shard has just done the same; `false`: it is of another.
    fn enter(&self, source: u64, latest: &Latest) -> bool {
        let before = self.source.load(Ordering::Acquire);
        // The bucket stays as it is: a full one is as good as new.
        before == source
            || self.bucket.is_full(latest)
                && self
                    .source
                    .compare_exchange(before, source, Ordering::AcqRel, Ordering::Acquire)
                    .map_or_else(|other| other == source, |_| true)
    }
}

fn hash(secret: &Secret, ip: IpAddr, rate: Rate) -> u64 {
    secret.mac(b'q', &[&source_of(ip), &rate.each.to_be_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::Arc;

    const SECRET: Secret = Secret([7; 16]);

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from(0xc000_0000 + number).into()
    }

    /// So many times at once: how often it took one, and how often there was no room.
    fn take_all(sources: &Sources, ip: IpAddr, rate: Rate, now: Instant, times: usize) -> [usize; 2] {
        let taken: Vec<_> = (0..times).map(|_| sources.take(&SECRET, ip, rate, now)).collect();
        [Some(true), None].map(|answer| taken.iter().filter(|taken| **taken == answer).count())
    }

    #[test]
    fn each_source_has_its_own_bucket_and_one_for_each_rate() {
        let (sources, now) = (Sources::new(64), Instant::from_millis(5_000));
        for ip in [v4(1), v4(2)] {
            for rate in [2, 5] {
                let per_second = Rate::per_second(rate);
                assert!(sources.has_one(&SECRET, ip, per_second, now));
                assert_eq!(take_all(&sources, ip, per_second, now, 9), [rate as usize, 0]);
                assert!(!sources.has_one(&SECRET, ip, per_second, now));
            }
        }
    }

    #[test]
    fn addresses_of_one_network_share_a_bucket_where_one_host_has_all_of_them() {
        let (sources, rate, now) = (Sources::new(64), Rate::per_second(1), Instant::from_millis(5_000));
        let take = |ip: &str| sources.take(&SECRET, ip.parse().unwrap(), rate, now);
        assert_eq!(take("2001:db8:0:1::1"), Some(true));
        assert_eq!(take("2001:db8:0:1:ffff::2"), Some(false));
        assert_eq!(take("2001:db8:0:2::1"), Some(true));
        assert_eq!(take("192.0.2.1"), Some(true));
        assert_eq!(take("::ffff:192.0.2.1"), Some(false));
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_room_and_gets_no_more_answers_than_there_are_places() {
        let (sources, rate) = (Sources::new(64), Rate::per_second(10));
        let now = Instant::from_millis(5_000);
        let answered = |from: u32, now| {
            (from..from + 10_000)
                .filter(|i| sources.take(&SECRET, v4(*i), rate, now) == Some(true))
                .count()
        };
        assert_eq!(answered(0, now), 64);
        assert_eq!(
            answered(10_000, now),
            0,
            "those that asked just now are not forgotten for others"
        );
        assert!(!sources.has_one(&SECRET, v4(50_000), rate, now));
        assert!(!sources.has_one(&SECRET, v4(50_000), rate, Instant::from_micros(5_099_999)));
        // A tenth of a second later their one token is back, and older ones make room.
        let later = Instant::from_millis(5_100);
        assert!(sources.has_one(&SECRET, v4(50_000), rate, later));
        assert_eq!(answered(20_000, later), 64);
    }

    #[test]
    fn who_takes_over_a_place_begins_anew_and_who_had_it_is_as_good_as_new() {
        let (sources, rate) = (Sources::new(1), Rate::per_second(4));
        let at = |millis: u64| Instant::from_millis(5_000 + millis);
        for ip in 0..8 {
            assert_eq!(take_all(&sources, v4(ip), rate, at(0), 1), [1, 0]);
        }
        assert_eq!(take_all(&sources, v4(8), rate, at(249), 1), [0, 1]);
        for ip in (8..16).chain(0..8) {
            let now = at(if ip < 8 { 1_250 } else { 250 });
            assert_eq!(take_all(&sources, v4(ip), rate, now, 9), [4, 0], "{ip}");
        }
    }

    #[test]
    fn without_places_there_is_no_room() {
        let none = Sources::new(0);
        assert_eq!(none.take(&SECRET, v4(1), Rate::per_second(1), Instant::START), None);
        assert!(!none.has_one(&SECRET, v4(1), Rate::per_second(1), Instant::START));
    }

    /// Eight places and twelve sources: who has a place keeps it, whoever else asks at the same time.
    #[test]
    fn threads_get_from_each_place_what_it_holds() {
        const PER_SECOND: u32 = 50;
        let (sources, rate) = (Sources::new(1), Rate::per_second(PER_SECOND));
        let ask = |now: Instant| {
            let taken: [AtomicU64; 12] = Default::default();
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (sources, taken) = (&sources, &taken);
                    scope.spawn(move || {
                        for number in 0..12 * 200 {
                            let ip = (number + 3 * thread) % 12;
                            if sources.take(&SECRET, v4(ip), rate, now) == Some(true) {
                                taken[ip as usize].fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            taken.map(AtomicU64::into_inner)
        };
        let now = Instant::from_millis(5_000);
        for ip in 0..8 {
            assert_eq!(sources.take(&SECRET, v4(ip), rate, now), Some(true));
        }
        let left = u64::from(PER_SECOND) - 1;
        assert_eq!(ask(now), [left, left, left, left, left, left, left, left, 0, 0, 0, 0]);
        // All places are free, and all twelve want them at once.
        let full = u64::from(PER_SECOND);
        for seconds in 10..60 {
            let taken = ask(Instant::from_millis(seconds * 1_000));
            let total: u64 = taken.iter().sum();
            assert!((full..=8 * full).contains(&total), "{taken:?}");
        }
    }

    /// All ask for the first time at once, one source after the other: whoever is first makes its place, and there is one.
    #[test]
    fn threads_that_meet_a_new_source_at_once_share_its_place() {
        let (sources, rate, now) = (Sources::new(8_192), Rate::per_second(2), Instant::from_millis(5_000));
        let (taken, together) = (AtomicU64::new(0), std::sync::Barrier::new(4));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for ip in 0..500 {
                        together.wait();
                        let [some, _] = take_all(&sources, v4(ip), rate, now, 2);
                        taken.fetch_add(some as u64, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 1_000);
    }

    #[test]
    fn a_slot_that_another_shard_has_just_made_that_of_a_source_is_its_slot() {
        let (slot, latest) = (Slot::default(), Latest::default());
        latest.tell(Instant::from_millis(5_000));
        assert!(slot.enter(5, &latest) && slot.bucket.take(Rate::per_second(1), &latest));
        assert!(slot.is_of(5) && slot.enter(5, &latest) && !slot.enter(6, &latest));
        latest.tell(Instant::from_millis(6_000));
        assert!(slot.enter(6, &latest) && !slot.is_of(5));
    }

    proptest! {
        /// By the definition, over shards whose clocks are read at different times: no event may make a run of events of its
        /// source that is longer than a second's worth and what time has added; and none that makes no such run is turned away.
        #[test]
        fn over_all_shards_the_rate_agrees_with_its_definition(
            rates in [1u32..20, 1u32..20],
            events in proptest::collection::vec((0u64..400_000, 0u64..3_000, 0usize..3, 0u16..6, any::<bool>()), 0..200),
        ) {
            let shards = [(); 3].map({
                let table = Arc::new(Sources::new(1_024));
                move |()| Arc::clone(&table)
            });
            let mut passed: BTreeMap<(u16, u32), Vec<u128>> = BTreeMap::new();
            let (mut micros, mut latest) = (1_000_000, 0);
            for (wait, age, shard, network, is_first) in events {
                micros += wait / 20;
                let told = micros - age;
                latest = latest.max(told);
                let per_second = rates[usize::from(is_first)];
                let passed = passed.entry((network, per_second)).or_default();
                let each = u128::from(Rate::per_second(per_second).each);
                let now = u128::from(latest) * 1_000;
                let fits = passed.iter().enumerate().all(|(place, first)| {
                    let run = (passed.len() - place + 1) as u128;
                    run.saturating_sub(per_second.into()) * each <= now - first
                });
                let host = Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, shard as u16);
                let rate = Rate::per_second(per_second);
                prop_assert_eq!(shards[shard].has_one(&SECRET, host.into(), rate, Instant::from_micros(told)), fits);
                let taken = shards[shard].take(&SECRET, host.into(), rate, Instant::from_micros(told));
                prop_assert_eq!(taken, Some(fits), "at {} after {:?}", now, passed);
                if fits {
                    passed.push(now);
                }
            }
        }
    }
}
