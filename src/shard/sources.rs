//! Addresses that ask, each with its token bucket: a table of fixed size under keys that attackers choose.

use crate::identifiers::Keyed;
use crate::rate::{Bucket, Rate};
use crate::timer::Instant;
use crate::transport::source_of;
use std::hash::BuildHasher;
use std::net::IpAddr;

/// Buckets by source. An IPv6 source is its /64, for whoever has one address there has all of them.
///
/// A source has a place in one of a few slots that its keyed hash names. One whose bucket is full again is as good as forgotten,
/// and makes room for another; where all slots hold sources that asked just now, there is no room.
#[derive(Debug)]
pub(super) struct Sources {
    sets: Box<[[Slot; WAYS]]>,
    hasher: Keyed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    source: [u8; 16],
    bucket: Bucket,
}

/// Slots of a set. With four of them a table that is half full turns away one new source in a few dozen.
const WAYS: usize = 4;

impl Sources {
    /// Room for about `sources_max` sources, in 24 bytes each; it is never more.
    pub fn new(sources_max: usize, hasher: Keyed) -> Sources {
        Sources {
            sets: vec![[Slot::default(); WAYS]; sources_max.div_ceil(WAYS)].into_boxed_slice(),
            hasher,
        }
    }

    /// Takes one token of a source; `None`: there is no room to remember it.
    pub fn take(&mut self, ip: IpAddr, rate: Rate, now: Instant) -> Option<bool> {
        let source = source_of(ip);
        let set = self.set_of(&source)?;
        let slots = &mut self.sets[set];
        let known = slots.iter().position(|slot| slot.source == source);
        let place = known.or_else(|| slots.iter().position(|slot| slot.bucket.is_full(now)))?;
        let slot = &mut slots[place];
        if known.is_none() {
            *slot = Slot {
                source,
                bucket: Bucket::default(),
            };
        }
        Some(slot.bucket.take(rate, now))
    }

    /// Whether [`Sources::take`] would give a token.
    pub fn has_one(&self, ip: IpAddr, rate: Rate, now: Instant) -> bool {
        let source = source_of(ip);
        let Some(slots) = self.set_of(&source).map(|set| &self.sets[set]) else {
            return false;
        };
        match slots.iter().find(|slot| slot.source == source) {
            Some(slot) => { slot.bucket }.take(rate, now),
            None => slots.iter().any(|slot| slot.bucket.is_full(now)),
        }
    }

    fn set_of(&self, source: &[u8; 16]) -> Option<usize> {
        let hash = u128::from(self.hasher.hash_one(source));
        // The upper half of hash times count: each set for an equal share of the hashes.
        (!self.sets.is_empty()).then(|| ((hash * self.sets.len() as u128) >> 64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifiers::Random;
    use std::net::Ipv4Addr;

    fn sources(max: usize) -> Sources {
        Sources::new(max, Keyed::new(&mut Random::new([7; 16])))
    }

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from(0xc000_0000 + number).into()
    }

    #[test]
    fn each_source_has_its_own_bucket() {
        let (mut sources, rate, now) = (sources(64), Rate::per_second(2, 1), Instant::from_millis(5_000));
        for ip in [v4(1), v4(2)] {
            assert!(sources.has_one(ip, rate, now));
            let taken: Vec<_> = (0..3).map(|_| sources.take(ip, rate, now)).collect();
            assert_eq!(taken, [Some(true), Some(true), Some(false)]);
            assert!(!sources.has_one(ip, rate, now));
        }
    }

    #[test]
    fn addresses_of_one_network_share_a_bucket_where_one_host_has_all_of_them() {
        let (mut sources, rate, now) = (sources(64), Rate::per_second(1, 1), Instant::from_millis(5_000));
        let mut take = |ip: &str| sources.take(ip.parse().unwrap(), rate, now);
        assert_eq!(take("2001:db8:0:1::1"), Some(true));
        assert_eq!(take("2001:db8:0:1:ffff::2"), Some(false));
        assert_eq!(take("2001:db8:0:2::1"), Some(true));
        assert_eq!(take("192.0.2.1"), Some(true));
        assert_eq!(take("::ffff:192.0.2.1"), Some(false));
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_room_and_gets_no_more_answers_than_there_are_places() {
        let (mut sources, rate) = (sources(64), Rate::per_second(10, 1));
        let now = Instant::from_millis(5_000);
        let answered = |sources: &mut Sources, from: u32, now| {
            (from..from + 10_000)
                .filter(|i| sources.take(v4(*i), rate, now) == Some(true))
                .count()
        };
        assert_eq!(answered(&mut sources, 0, now), 64);
        assert_eq!(
            answered(&mut sources, 10_000, now),
            0,
            "those that asked just now are not forgotten for others"
        );
        assert!(!sources.has_one(v4(50_000), rate, now));
        // A tenth of a second later their one token is back, and older ones make room.
        let later = Instant::from_millis(5_100);
        assert!(sources.has_one(v4(50_000), rate, later));
        assert_eq!(answered(&mut sources, 20_000, later), 64);
    }

    #[test]
    fn without_places_there_is_no_room() {
        let mut none = sources(0);
        assert_eq!(none.take(v4(1), Rate::per_second(1, 1), Instant::START), None);
        assert!(!none.has_one(v4(1), Rate::per_second(1, 1), Instant::START));
    }
}
