//! How many connections each source has opened, and how many those that are no trunk's have together.

use super::connection::Caller;
use crate::config::Limits;
use crate::identifiers::Keyed;
use crate::transport::source_of;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::net::IpAddr;

/// The accepted connections of one worker, counted by source. It has an entry for each source that has a connection, no more.
#[derive(Debug)]
pub(super) struct Callers {
    by_source: HashMap<[u8; 16], usize, Keyed>,
    strangers: usize,
}

impl Callers {
    pub fn new(hasher: Keyed) -> Callers {
        Callers {
            by_source: HashMap::with_hasher(hasher),
            strangers: 0,
        }
    }

    /// Counts one more connection; `false`: there are enough of its kind, and it is not counted.
    pub fn enter(&mut self, ip: IpAddr, caller: Caller, limits: &Limits) -> bool {
        if caller.is_stranger && self.strangers >= limits.stranger_connections_max {
            return false;
        }
        let count = self.by_source.entry(source_of(ip)).or_default();
        if *count >= limits.connections_per_source_max {
            return false;
        }
        *count += 1;
        self.strangers += usize::from(caller.is_stranger);
        true
    }

    /// One that was counted is gone.
    pub fn leave(&mut self, ip: IpAddr, caller: Caller) {
        self.strangers -= usize::from(caller.is_stranger);
        if let Entry::Occupied(mut entry) = self.by_source.entry(source_of(ip)) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifiers::Random;

    #[test]
    fn each_source_has_its_share_and_strangers_have_one_together() {
        let limits = Limits {
            connections_per_source_max: 2,
            stranger_connections_max: 3,
            ..Limits::default()
        };
        let mut callers = Callers::new(Keyed::new(&mut Random::new([3; 16])));
        let ip = |last: u8| IpAddr::from([192, 0, 2, last]);
        let (known, stranger) = (Caller { is_stranger: false }, Caller { is_stranger: true });
        assert!(callers.enter(ip(1), known, &limits) && callers.enter(ip(1), known, &limits));
        assert!(!callers.enter(ip(1), known, &limits) && callers.enter(ip(2), known, &limits));
        callers.leave(ip(1), known);
        assert!(callers.enter(ip(1), known, &limits));
        assert!((10..13).all(|last| callers.enter(ip(last), stranger, &limits)));
        assert!(!callers.enter(ip(13), stranger, &limits) && callers.enter(ip(13), known, &limits));
        for last in 10..13 {
            callers.leave(ip(last), stranger);
        }
        for (last, count) in [(1, 2), (2, 1), (13, 1)] {
            (0..count).for_each(|_| callers.leave(ip(last), known));
        }
        assert!(callers.by_source.is_empty() && callers.strangers == 0);
    }
}
