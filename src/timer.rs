//! Time as the core sees it, and one queue per timer duration.

use std::collections::{BTreeMap, VecDeque};
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
/// map. What has the same deadline comes out in any order, and what has the same duration in the order of arming.
/// Entries are never removed early: whoever owns the key knows whether a deadline that fires is still meant.
#[derive(Debug)]
pub struct Timers<K> {
    queues: Vec<Queue<K>>,
    /// By deadline and then by order of arming.
    odd: BTreeMap<(Instant, u64), K>,
    odd_armed: u64,
    len: usize,
}

#[derive(Debug)]
struct Queue<K> {
    duration: Duration,
    entries: VecDeque<(Instant, K)>,
}

/// Enough for RFC 3261's timers, their doublings and a profile or two; the least head is found by looking at all.
pub const QUEUES_MAX: usize = 32;

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Timers {
            queues: Vec::new(),
            odd: BTreeMap::new(),
            odd_armed: 0,
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
        self.odd_armed += 1;
        self.odd.insert((at, self.odd_armed), key);
    }

    /// The earliest deadline, or `None` if nothing is armed.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.earliest().map(|(at, _)| at)
    }

    /// Takes the earliest entry that is due at `now`, with its deadline.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        let (_, place) = self.earliest().filter(|(at, _)| *at <= now)?;
        self.len -= 1;
        match self.queues.get_mut(place) {
            Some(queue) => queue.entries.pop_front(),
            None => self.odd.pop_first().map(|((at, _), key)| (at, key)),
        }
    }

    /// All entries, those no longer meant included, in no order.
    #[cfg(feature = "sim")]
    pub fn entries(&self) -> impl Iterator<Item = (Instant, &K)> {
        let queued = self.queues.iter().flat_map(|queue| &queue.entries);
        let odd = self.odd.iter().map(|((at, _), key)| (*at, key));
        queued.map(|(at, key)| (*at, key)).chain(odd)
    }

    /// The earliest deadline and its queue's place, or one beyond all queues.
    fn earliest(&self) -> Option<(Instant, usize)> {
        let heads = self.queues.iter().enumerate();
        let queued = heads.filter_map(|(place, queue)| Some((queue.entries.front()?.0, place)));
        let odd = self.odd.first_key_value().map(|((at, _), _)| (*at, self.queues.len()));
        queued.chain(odd).min()
    }

    /// Entries armed and not yet fired, those no longer meant included.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    proptest! {
        /// A naive model: all that is armed in one list.
        #[test]
        fn what_is_due_fires_at_its_instant_and_nothing_before(
            steps in proptest::collection::vec((0u64..30, 0u64..50, any::<bool>()), 1..400),
        ) {
            let mut timers = Timers::default();
            let mut armed: Vec<(Instant, Duration, usize)> = Vec::new();
            let mut now = Instant::START;
            for (number, (wait, length, once)) in steps.into_iter().enumerate() {
                now = now + Duration::from_millis(wait);
                let due = armed.iter().filter(|(at, ..)| *at <= now).count();
                for _ in 0..due {
                    let (at, number) = timers.pop_due(now).unwrap();
                    prop_assert_eq!(Some(at), armed.iter().map(|(at, ..)| *at).min());
                    let place = armed.iter().position(|(.., known)| *known == number).unwrap();
                    prop_assert_eq!(armed.remove(place).0, at);
                }
                prop_assert_eq!(timers.pop_due(now), None);
                // More distinct lengths than there are queues.
                let length = Duration::from_millis(length);
                let at = match once {
                    true => timers.arm_once(now, length, number),
                    false => timers.arm(now, length, number),
                };
                prop_assert_eq!(at, now + length);
                armed.push((at, length, number));
                prop_assert_eq!(timers.next_deadline(), armed.iter().map(|(at, ..)| *at).min());
                prop_assert_eq!(timers.len(), armed.len());
                let mut entries: Vec<_> = timers.entries().map(|(at, number)| (at, *number)).collect();
                entries.sort_by_key(|(_, number)| *number);
                prop_assert_eq!(entries, armed.iter().map(|(at, _, number)| (*at, *number)).collect::<Vec<_>>());
                prop_assert!(!timers.is_empty() && timers.queues.len() <= QUEUES_MAX);
            }
        }
    }

    #[test]
    fn what_is_armed_for_the_same_time_comes_out_in_order() {
        let mut timers = Timers::default();
        let length = Duration::from_millis(7);
        for number in 0..100 {
            timers.arm_once(Instant::START, length, number);
        }
        for number in 0..100 {
            assert_eq!(
                timers.pop_due(Instant::from_millis(7)),
                Some((Instant::from_millis(7), number))
            );
        }
        assert_eq!(
            (timers.len(), timers.is_empty(), timers.next_deadline()),
            (0, true, None)
        );
    }

    #[test]
    fn what_comes_back_takes_a_queue_as_long_as_there_are_some() {
        let mut timers = Timers::default();
        for length in 0..QUEUES_MAX as u64 + 5 {
            for _ in 0..3 {
                timers.arm(Instant::START, Duration::from_millis(length), ());
            }
            timers.arm_once(Instant::START, Duration::from_millis(1_000 + length), ());
        }
        // One search over few heads is what a deadline costs: none for each that is armed.
        assert_eq!(timers.queues.len(), QUEUES_MAX);
        assert_eq!(timers.len(), 4 * (QUEUES_MAX + 5));
    }

    #[test]
    fn instants_are_microseconds_and_never_pass_their_ends() {
        let later = Instant::from_millis(2) + Duration::from_micros(5);
        assert_eq!(later, Instant::from_micros(2_005));
        assert_eq!(later.as_micros(), 2_005);
        assert_eq!(later - Duration::from_micros(5), Instant::from_millis(2));
        assert_eq!(later.since(Instant::from_millis(2)), Duration::from_micros(5));
        assert_eq!(Instant::from_millis(2).since(later), Duration::ZERO);
        assert_eq!(Instant::START - Duration::from_secs(1), Instant::START);
        let end = Instant::from_micros(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
    }
}
