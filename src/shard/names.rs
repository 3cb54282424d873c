//! Names being looked up, and those that were: so that a request to a known name does not wait.

use crate::identifiers::Keyed;
use crate::timer::Instant;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::time::Duration;

/// Names remembered; at the limit the whole memory is forgotten, which costs a look-up each and no search.
const REMEMBERED_MAX: usize = 10_000;

/// What is known of names, and what waits for one. `W` is what waits.
#[derive(Debug)]
pub struct Names<W> {
    known: HashMap<Box<str>, Known, Keyed>,
    open: HashMap<u64, Lookup<W>, FixedState>,
    by_name: HashMap<Box<str>, u64, Keyed>,
    next_ticket: u64,
    /// All that waits, for whatever name; at most `lookups_max`, so that there are no more look-ups either.
    waiting: usize,
    lookups_max: usize,
}

#[derive(Debug)]
struct Known {
    addresses: SmallVec<[IpAddr; 2]>,
    until: Instant,
}

#[derive(Debug)]
struct Lookup<W> {
    name: Box<str>,
    waiting: Vec<W>,
}

/// What is known of a name now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookedup {
    Address(IpAddr),
    /// It has no address, or none that fits.
    Nowhere,
    Unknown,
}

impl<W> Names<W> {
    /// `hasher` is of this table alone: the names are those that peers write.
    pub fn new(lookups_max: usize, hasher: Keyed) -> Names<W> {
        Names {
            known: HashMap::with_hasher(hasher),
            open: HashMap::with_hasher(FixedState::default()),
            by_name: HashMap::with_hasher(hasher),
            next_ticket: 0,
            waiting: 0,
            lookups_max,
        }
    }

    /// What is known of a name: the first of its addresses that `fits`, since a socket reaches those of its own family only.
    pub fn get(&self, name: &str, fits: impl Fn(IpAddr) -> bool, now: Instant) -> Lookedup {
        match self.known.get(name) {
            Some(known) if known.until > now => known
                .addresses
                .iter()
                .find(|address| fits(**address))
                .map_or(Lookedup::Nowhere, |address| Lookedup::Address(*address)),
            _ => Lookedup::Unknown,
        }
    }

    /// Lets `waiting` wait for a name. `Ok(Some(ticket))`: a look-up must be started; `Err`: too much waits already.
    pub fn wait(&mut self, name: &str, waiting: W) -> Result<Option<u64>, W> {
        if self.waiting >= self.lookups_max {
            return Err(waiting);
        }
        self.waiting += 1;
        if let Some(lookup) = self.by_name.get(name).and_then(|ticket| self.open.get_mut(ticket)) {
            lookup.waiting.push(waiting);
            return Ok(None);
        }
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.by_name.insert(name.into(), ticket);
        self.open.insert(
            ticket,
            Lookup {
                name: name.into(),
                waiting: vec![waiting],
            },
        );
        Ok(Some(ticket))
    }

    /// Takes an answer; gives back what waited for it. Empty addresses are remembered too.
    pub fn resolved(&mut self, ticket: u64, addresses: &[IpAddr], valid_for: Duration, now: Instant) -> Vec<W> {
        let Some(lookup) = self.open.remove(&ticket) else {
            return Vec::new();
        };
        self.by_name.remove(&lookup.name);
        self.waiting -= lookup.waiting.len();
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        // What waited must find the answer, however short it holds.
        let until = now + valid_for.max(Duration::from_millis(1));
        self.known.insert(
            lookup.name,
            Known {
                addresses: addresses.into(),
                until,
            },
        );
        lookup.waiting
    }

    /// All that waits.
    #[cfg(feature = "sim")]
    pub fn waiting(&self) -> impl Iterator<Item = &W> {
        self.open.values().flat_map(|lookup| &lookup.waiting)
    }

    /// Look-ups under way.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifiers::Random;
    use std::net::Ipv4Addr;

    fn keyed() -> Keyed {
        Keyed::new(&mut Random::new([1; 16]))
    }

    #[test]
    fn all_that_wait_for_a_name_share_one_lookup() {
        let mut names = Names::new(3, keyed());
        let now = Instant::from_millis(5);
        assert_eq!(names.get("a", |_| true, now), Lookedup::Unknown);
        let ticket = names.wait("a", 1).unwrap().unwrap();
        assert_eq!(names.wait("a", 2), Ok(None));
        assert!(names.wait("b", 3).unwrap().is_some());
        // For a new name there is no more room than for a known one.
        assert_eq!((names.wait("c", 4), names.wait("a", 5)), (Err(4), Err(5)));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(names.resolved(ticket, &[address], Duration::from_secs(1), now), [1, 2]);
        assert_eq!(names.get("a", |_| true, now), Lookedup::Address(address));
        assert_eq!(
            names.get("a", |_| true, now + Duration::from_secs(1)),
            Lookedup::Unknown
        );
        assert!(names.resolved(ticket, &[address], Duration::ZERO, now).is_empty());
        assert!(names.wait("c", 6).unwrap().is_some() && names.wait("c", 7) == Ok(None));
        assert_eq!(names.wait("c", 8), Err(8));
    }

    #[test]
    fn a_name_without_addresses_is_remembered_as_such() {
        let mut names = Names::new(1, keyed());
        let ticket = names.wait("a", ()).unwrap().unwrap();
        names.resolved(ticket, &[], Duration::from_secs(5), Instant::START);
        assert_eq!(names.get("a", |_| true, Instant::START), Lookedup::Nowhere);
    }
}
