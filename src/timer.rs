//! Time as the core sees it, and one queue per timer duration.

use std::collections::{BinaryHeap, VecDeque};
use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds since the driver started. The core never reads a clock: every input carries its `Instant`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    pub const START: Instant = Instant(0);

    pub const fn from_micros(micros: u64) -> Instant {
        Instant(micros)
    }

    pub const fn from_millis(millis: u64) -> Instant {
        Instant(millis * 1_000)
    }

    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(rhs.as_micros() as u64))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_sub(rhs.as_micros() as u64))
    }
}

/// Deadlines in order, without a search when one is set.
///
/// SIP uses about a dozen durations. Each has a queue of its own that is in order by construction, so arming is a push and
/// the next deadline is the least of the heads. Durations beyond [`QUEUES_MAX`] distinct ones, and those that are computed, share a
/// heap.
/// Entries are never removed early: whoever owns the key knows whether a deadline that fires is still meant.
#[derive(Debug)]
pub struct Timers<K> {
    queues: Vec<Queue<K>>,
    odd: BinaryHeap<std::cmp::Reverse<Odd<K>>>,
    sequence: u64,
    len: usize,
}

#[derive(Debug)]
struct Queue<K> {
    duration: Duration,
    entries: VecDeque<(Instant, K)>,
}

#[derive(Debug)]
struct Odd<K> {
    at: Instant,
    sequence: u64,
    key: K,
}

/// Enough for RFC 3261's timers, their doublings and a profile or two; the least head is found by looking at all.
pub const QUEUES_MAX: usize = 32;

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Timers {
            queues: Vec::new(),
            odd: BinaryHeap::new(),
            sequence: 0,
            len: 0,
        }
    }
}

impl<K> Timers<K> {
    /// Arms a timer and returns its deadline, `now + duration`. `now` must not go back between calls.
    pub fn arm(&mut self, now: Instant, duration: Duration, key: K) -> Instant {
        let at = now + duration;
        self.len += 1;
        if let Some(queue) = self.queues.iter_mut().find(|q| q.duration == duration) {
            debug_assert!(
                queue.entries.back().is_none_or(|(last, _)| *last <= at),
                "time went back"
            );
            queue.entries.push_back((at, key));
        } else if self.queues.len() < QUEUES_MAX {
            self.queues.push(Queue {
                duration,
                entries: VecDeque::from([(at, key)]),
            });
        } else {
            self.push_odd(at, key);
        }
        at
    }

    /// Arms a timer whose duration is computed and will not come again: it takes no queue.
    pub fn arm_once(&mut self, now: Instant, duration: Duration, key: K) -> Instant {
        let at = now + duration;
        self.len += 1;
        self.push_odd(at, key);
        at
    }

    fn push_odd(&mut self, at: Instant, key: K) {
        self.sequence += 1;
        self.odd.push(std::cmp::Reverse(Odd {
            at,
            sequence: self.sequence,
            key,
        }));
    }

    /// The earliest deadline, or `None` if nothing is armed.
    pub fn next_deadline(&self) -> Option<Instant> {
        let queued = self
            .queues
            .iter()
            .filter_map(|q| q.entries.front().map(|(at, _)| *at))
            .min();
        let odd = self.odd.peek().map(|entry| entry.0.at);
        match (queued, odd) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Takes the earliest entry that is due at `now`, with its deadline.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        let mut best: Option<(Instant, usize)> = None;
        for (i, queue) in self.queues.iter().enumerate() {
            if let Some((at, _)) = queue.entries.front()
                && *at <= now
                && best.is_none_or(|(least, _)| *at < least)
            {
                best = Some((*at, i));
            }
        }
        let odd_first = self
            .odd
            .peek()
            .is_some_and(|entry| entry.0.at <= now && best.is_none_or(|(least, _)| entry.0.at < least));
        if odd_first {
            self.len -= 1;
            return self.odd.pop().map(|entry| (entry.0.at, entry.0.key));
        }
        let (_, i) = best?;
        self.len -= 1;
        self.queues[i].entries.pop_front()
    }

    /// All entries, those no longer meant included, in no order.
    #[cfg(feature = "sim")]
    pub fn entries(&self) -> impl Iterator<Item = (Instant, &K)> {
        let queued = self.queues.iter().flat_map(|queue| &queue.entries);
        let odd = self.odd.iter().map(|entry| (entry.0.at, &entry.0.key));
        queued.map(|(at, key)| (*at, key)).chain(odd)
    }

    /// Entries armed and not yet fired, those no longer meant included.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<K> PartialEq for Odd<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K> Eq for Odd<K> {}

impl<K> PartialOrd for Odd<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Odd<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_out_in_order_whatever_their_durations() {
        let mut timers = Timers::default();
        let mut expected = Vec::new();
        for i in 0..200u64 {
            let now = Instant::from_millis(i);
            // 50 distinct durations: more than there are queues.
            let duration = Duration::from_millis((i * 37) % 50 + 1);
            let at = match i % 7 {
                0 => timers.arm_once(now, duration, i),
                _ => timers.arm(now, duration, i),
            };
            expected.push((at, i));
        }
        expected.sort_by_key(|(at, _)| *at);
        assert_eq!(timers.next_deadline(), Some(expected[0].0));
        let mut fired = Vec::new();
        while let Some(entry) = timers.pop_due(Instant::from_millis(10_000)) {
            fired.push(entry);
        }
        assert!(fired.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        fired.sort_by_key(|(_, key)| *key);
        expected.sort_by_key(|(_, key)| *key);
        assert_eq!(fired, expected);
        assert!(timers.is_empty());
        assert_eq!(timers.next_deadline(), None);
    }

    #[test]
    fn nothing_fires_before_its_time() {
        let mut timers = Timers::default();
        timers.arm(Instant::START, Duration::from_millis(500), 'a');
        assert_eq!(timers.pop_due(Instant::from_millis(499)), None);
        assert_eq!(
            timers.pop_due(Instant::from_millis(500)),
            Some((Instant::from_millis(500), 'a'))
        );
    }
}
