//! Which address of which trunk may be used now: what probes and calls have found out, and who asked to be left alone.
//!
//! ```text
//!            a success                    `failures` in a row
//!  Unknown ─────────────► Alive ──────────────────────────► Dead
//!     │                     ▲                                │ ▲
//!     │                     └──────── `successes` in a row ──┘ │
//!     └────────────────── `failures` in a row ─────────────────┘
//! ```
//!
//! Each address has one shard that judges it: its number modulo the shards. That shard probes it and counts successes and
//! failures, its own and those that other shards tell of; what it finds it tells all others, so that each can ask its own
//! table. News may be lost: the next probe tells how an address stands, and a wait that a shard has not heard of
//! costs it one more 503.
//!
//! States are kept of trunks with `[trunk.health]` only. A 503 with Retry-After (RFC 3261 §21.5.4) holds for any trunk: no
//! request goes there until the time is over. Whoever sees it tells all others.

use crate::config::{Config, Health, TrunkId};
use crate::timer::Instant;
use std::time::Duration;

/// One address of one trunk: `address` is its place in [`crate::config::Trunk::addresses`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressId {
    pub trunk: TrunkId,
    pub address: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was found out yet: it is used as if it were alive.
    Unknown,
    Alive,
    Dead,
}

impl State {
    /// As people read it: `unknown`, `alive`, `dead`.
    pub fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Alive => "alive",
            State::Dead => "dead",
        }
    }
}

/// Why a request to an address failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No response at all came in time.
    Timeout,
    /// It could not be sent, or its name has no address.
    Transport,
    /// A 503 without Retry-After. It says nothing of the next request, so it does not count; that of a probe does.
    Unavailable,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// A final response of this status.
    Answered(u16),
    Failed(Failure),
}

impl ProbeResult {
    /// Any final response shows a peer that answers, but 503, which says that it serves nobody, and 408, which a proxy says of
    /// a peer behind it (RFC 3261 §21.5.4, §21.4.9).
    pub fn is_success(self) -> bool {
        match self {
            ProbeResult::Answered(code) => code >= 200 && !matches!(code, 408 | 503),
            ProbeResult::Failed(_) => false,
        }
    }
}

/// The last probe of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// When its result was there.
    pub at: Instant,
    pub result: ProbeResult,
    /// From the request to the final response; of a failure, how long was waited.
    pub took: Duration,
}

/// What the judge of an address knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub state: State,
    /// When it came into this state.
    pub since: Instant,
    /// The last result spoke against the state: the next one matters, of whatever shard.
    pub in_doubt: bool,
    pub probed: Option<Probed>,
}

/// What one shard tells others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// From its judge to all: what an address is. `changed`: its state is another than before.
    Standing {
        at: AddressId,
        standing: Standing,
        changed: bool,
    },
    /// To the judge: how a call fared.
    Seen { at: AddressId, success: bool },
    /// To all: no request until then. `opened`: there was no such wait before.
    Wait {
        at: AddressId,
        until: Instant,
        opened: bool,
    },
}

impl News {
    /// The address they are of.
    pub fn at(&self) -> AddressId {
        match self {
            News::Standing { at, .. } | News::Seen { at, .. } | News::Wait { at, .. } => *at,
        }
    }
}

/// What one shard knows of all addresses.
#[derive(Debug)]
pub struct Table {
    trunks: Box<[Trunk]>,
    shard: u16,
    shards: u16,
    retry_after_max: Duration,
}

#[derive(Debug)]
struct Trunk {
    settings: Option<Health>,
    /// The number of its first address, over all trunks.
    first: usize,
    addresses: Box<[Entry]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    standing: Standing,
    /// Results in a row that speak against the state. Counted by the judge.
    against: u16,
    /// No request before then.
    wait_until: Instant,
    /// A success was told to the judge, whose answer is not there yet. One says as much as many.
    told: bool,
}

impl Table {
    /// Nothing is known; this is shard `shard` of `shards`.
    pub fn new(config: &Config, shard: u16, shards: u16) -> Table {
        let entry = Entry {
            standing: Standing {
                state: State::Unknown,
                since: Instant::START,
                in_doubt: false,
                probed: None,
            },
            against: 0,
            wait_until: Instant::START,
            told: false,
        };
        let mut first = 0;
        let trunk = |trunk: &crate::config::Trunk| {
            let addresses = vec![entry; trunk.addresses.len()].into_boxed_slice();
            let number = first;
            first += addresses.len();
            Trunk {
                settings: trunk.health,
                first: number,
                addresses,
            }
        };
        Table {
            trunks: config.trunks.iter().map(trunk).collect(),
            shard,
            shards: shards.max(1),
            retry_after_max: config.limits.retry_after_max,
        }
    }

    // ---- asked before a request ----

    /// Whether an address may be used while there are others: it is not dead, and has not asked to be left alone.
    ///
    /// Where this is so of none, the dead ones are tried in the order of the configuration: better a try than a refusal. Those
    /// in a wait are not ([`Table::wait`]).
    pub fn is_usable(&self, trunk: TrunkId, address: usize, now: Instant) -> bool {
        self.entry(trunk, address)
            .is_some_and(|entry| entry.standing.state != State::Dead && entry.wait_until <= now)
    }

    /// How long an address still wants no request (RFC 3261 §21.5.4); zero: it may be tried.
    pub fn wait(&self, trunk: TrunkId, address: usize, now: Instant) -> Duration {
        self.entry(trunk, address)
            .map_or(Duration::ZERO, |entry| entry.wait_until.since(now))
    }

    // ---- told of what came of one ----

    /// A request of a call failed there.
    pub fn on_failure(&mut self, trunk: TrunkId, address: usize, kind: Failure, now: Instant) -> Option<News> {
        match kind {
            Failure::Timeout | Failure::Transport => self.on_seen(trunk, address, false, now),
            Failure::Unavailable => None,
        }
    }

    /// A request of a call got a response from there. Of an address without doubts this is one comparison.
    pub fn on_success(&mut self, trunk: TrunkId, address: usize, now: Instant) -> Option<News> {
        self.on_seen(trunk, address, true, now)
    }

    /// A 503 with Retry-After came from there (RFC 3261 §21.5.4). What goes beyond `limits.retry_after_max` is cut. A wait only
    /// grows, by a second or more at a time.
    pub fn on_retry_after(&mut self, trunk: TrunkId, address: usize, seconds: u32, now: Instant) -> Option<News> {
        let until = now + Duration::from_secs(seconds.into()).min(self.retry_after_max);
        let entry = self.entry_mut(trunk, address)?;
        let opened = entry.wait_until <= now;
        // The calls that were on their way get the same answer one after the other: to tell of each would say nothing new.
        if until <= now || (!opened && until.since(entry.wait_until) < WAIT_STEP) {
            return None;
        }
        entry.wait_until = until;
        let at = id(trunk, address);
        Some(News::Wait { at, until, opened })
    }

    /// Other shards tell something; the judge of an address may have an answer for all.
    pub fn on_news(&mut self, news: News, now: Instant) -> Option<News> {
        let at = news.at();
        let address = usize::from(at.address);
        match news {
            News::Seen { success, .. } if self.is_judge(at.trunk, address) => {
                self.on_seen(at.trunk, address, success, now)
            }
            // To someone who is no judge: nothing to do with it.
            News::Seen { .. } => None,
            News::Standing { standing, .. } => {
                let entry = self.entry_mut(at.trunk, address)?;
                entry.standing = standing;
                entry.told = false;
                None
            }
            News::Wait { until, .. } => {
                let entry = self.entry_mut(at.trunk, address)?;
                entry.wait_until = entry.wait_until.max(until);
                None
            }
        }
    }

    /// A probe ended that was begun `took` ago. Only its judge probes an address, and tells all others of every probe.
    pub fn on_probe(
        &mut self,
        trunk: TrunkId,
        address: usize,
        result: ProbeResult,
        took: Duration,
        now: Instant,
    ) -> Option<News> {
        debug_assert!(self.is_judge(trunk, address), "a probe of another shard's address");
        let settings = self.settings(trunk)?;
        let entry = self.entry_mut(trunk, address)?;
        let changed = entry.judge(&settings, result.is_success(), now);
        entry.standing.probed = Some(Probed { at: now, result, took });
        let standing = entry.standing;
        let at = id(trunk, address);
        Some(News::Standing { at, standing, changed })
    }

    fn on_seen(&mut self, trunk: TrunkId, address: usize, success: bool, now: Instant) -> Option<News> {
        let is_judge = self.is_judge(trunk, address);
        let settings = self.settings(trunk)?;
        let entry = self.entry_mut(trunk, address)?;
        let is_news = match entry.standing.state {
            State::Unknown => true,
            State::Alive => !success || entry.standing.in_doubt,
            State::Dead => success || entry.standing.in_doubt,
        };
        if !is_news {
            return None;
        }
        let at = id(trunk, address);
        if !is_judge {
            if success && entry.told {
                return None;
            }
            entry.told = success;
            // The judge will say so as well; a success until then must reach it.
            entry.standing.in_doubt |= !success;
            return Some(News::Seen { at, success });
        }
        let before = (entry.standing, entry.against);
        let changed = entry.judge(&settings, success, now);
        let standing = entry.standing;
        ((standing, entry.against) != before).then_some(News::Standing { at, standing, changed })
    }

    // ---- looking ----

    /// How an address stands, and until when it wants no request.
    pub fn standing(&self, trunk: TrunkId, address: usize) -> Option<(Standing, Instant)> {
        self.entry(trunk, address)
            .map(|entry| (entry.standing, entry.wait_until))
    }

    /// Which shard judges an address: the addresses of all trunks are dealt out in turn.
    pub fn judge(&self, at: AddressId) -> u16 {
        let first = self.trunks.get(usize::from(at.trunk.0)).map_or(0, |trunk| trunk.first);
        ((first + usize::from(at.address)) % usize::from(self.shards)) as u16
    }

    /// The addresses that this shard probes.
    pub fn probed_here(&self) -> impl Iterator<Item = AddressId> + '_ {
        let of_trunk = |(number, trunk): (usize, &Trunk)| {
            let trunk_id = TrunkId(number as u8);
            let with_health = trunk.settings.is_some();
            (0..trunk.addresses.len())
                .filter(move |_| with_health)
                .map(move |address| id(trunk_id, address))
        };
        self.trunks
            .iter()
            .enumerate()
            .flat_map(of_trunk)
            .filter(|at| self.judge(*at) == self.shard)
    }

    fn is_judge(&self, trunk: TrunkId, address: usize) -> bool {
        self.judge(id(trunk, address)) == self.shard
    }

    fn settings(&self, trunk: TrunkId) -> Option<Health> {
        self.trunks.get(usize::from(trunk.0))?.settings
    }

    fn entry(&self, trunk: TrunkId, address: usize) -> Option<&Entry> {
        self.trunks.get(usize::from(trunk.0))?.addresses.get(address)
    }

    fn entry_mut(&mut self, trunk: TrunkId, address: usize) -> Option<&mut Entry> {
        self.trunks.get_mut(usize::from(trunk.0))?.addresses.get_mut(address)
    }
}

impl Entry {
    /// Counts a result. `true`: the state is another now.
    fn judge(&mut self, settings: &Health, success: bool, now: Instant) -> bool {
        let against = match self.standing.state {
            State::Unknown | State::Alive => !success,
            State::Dead => success,
        };
        self.against = if against { self.against.saturating_add(1) } else { 0 };
        self.standing.in_doubt = self.against > 0;
        let next = match self.standing.state {
            State::Unknown if success => State::Alive,
            State::Unknown | State::Alive if self.against >= settings.failures => State::Dead,
            State::Dead if self.against >= settings.successes => State::Alive,
            same => same,
        };
        let changed = next != self.standing.state;
        if changed {
            self.standing.state = next;
            self.standing.since = now;
            self.standing.in_doubt = false;
            self.against = 0;
        }
        changed
    }
}

/// A wait that grows by less is not told: shards would tell each other of every call in a burst.
const WAIT_STEP: Duration = Duration::from_secs(1);

fn id(trunk: TrunkId, address: usize) -> AddressId {
    debug_assert!(address <= usize::from(u8::MAX));
    AddressId {
        trunk,
        address: address as u8,
    }
}

#[cfg(test)]
mod tests;
