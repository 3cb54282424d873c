//! How often something may happen: token buckets that are a single number each (GCRA, ITU-T I.371).

pub mod sources;

use crate::timer::Instant;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// So many events a second on average, and so many at once. Fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What one event takes out of a bucket, as the time it takes to come back, in nanoseconds.
    each: u64,
    /// What a full bucket holds; `0 < each <= full`.
    full: u64,
}

impl Rate {
    /// `per_second` events (at least 1) a second, a second's worth of them at once: at most `n + t · n` in any time `t`.
    pub fn per_second(per_second: u32) -> Rate {
        let count = u64::from(per_second.max(1));
        // Rounded up, so that no rounding lets more pass.
        let each = SECOND.div_ceil(count);
        Rate {
            each,
            full: each * count,
        }
    }

    /// Takes one event out of a bucket that will be full at `full_at`; `None`: there is none left.
    fn take(self, full_at: u64, now: u64) -> Option<u64> {
        let next = full_at.max(now).saturating_add(self.each);
        (next - now <= self.full).then_some(next)
    }
}

/// A token bucket, full at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it will be full, in nanoseconds since [`Instant::START`]; in the past: it is.
    full_at: u64,
}

impl Bucket {
    /// Takes one event out; `false`: there is none left, and nothing changes.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let next = rate.take(self.full_at, nanos(now));
        self.full_at = next.unwrap_or(self.full_at);
        next.is_some()
    }
}

/// A token bucket that shards share: exact over all of them, and nobody waits.
#[derive(Debug, Default)]
pub struct SharedBucket {
    full_at: AtomicU64,
}

impl SharedBucket {
    /// Takes one event out, at the time of `latest`, the same at each call; `false`: there is none left, and nothing changes.
    pub fn take(&self, rate: Rate, latest: &Latest) -> bool {
        // Whoever sees what another has taken sees the time at which that was as well, so that time goes back for no bucket.
        self.full_at
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
                rate.take(full_at, latest.nanos())
            })
            .is_ok()
    }

    /// Whether [`SharedBucket::take`] would take one out.
    fn has_one(&self, rate: Rate, latest: &Latest) -> bool {
        rate.take(self.full_at.load(Ordering::Acquire), latest.nanos())
            .is_some()
    }

    /// Whether it is full, and so the same as a new one.
    fn is_full(&self, latest: &Latest) -> bool {
        self.full_at.load(Ordering::Acquire) <= latest.nanos()
    }
}

/// The latest time that any shard has told.
///
/// A shard reads the clock once a turn, so that its time may be older than what another has already done. With that time a
/// bucket would seem to be less full than it is, and the last of those that may come at once would find it empty.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Latest(AtomicU64);

impl Latest {
    /// It is at least `now`.
    pub fn tell(&self, now: Instant) {
        let now = nanos(now);
        if self.nanos() < now {
            self.0.fetch_max(now, Ordering::Relaxed);
        }
    }

    fn nanos(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Since [`Instant::START`]; 2^64 nanoseconds are 584 years.
fn nanos(at: Instant) -> u64 {
    at.as_micros().saturating_mul(1_000)
}

/// In nanoseconds.
const SECOND: u64 = Duration::from_secs(1).as_nanos() as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_worth_passes_at_once_and_then_one_each_interval() {
        let rate = Rate::per_second(4);
        let mut bucket = Bucket::default();
        let at = |millis: u64| Instant::from_millis(10_000 + millis);
        let taken = |bucket: &mut Bucket, millis: u64| (0..10).filter(|_| bucket.take(rate, at(millis))).count();
        assert_eq!(taken(&mut bucket, 0), 4);
        assert_eq!(taken(&mut bucket, 249), 0);
        assert_eq!(taken(&mut bucket, 250), 1);
        assert_eq!(taken(&mut bucket, 1_000), 3);
        assert_eq!(taken(&mut bucket, 60_000), 4, "no more than full");
    }

    #[test]
    fn what_was_asked_for_passes_whatever_does_not_divide_a_second() {
        for per_second in [1u32, 3, 7, 60_000, 700_000, 1_000_000] {
            let rate = Rate::per_second(per_second);
            let mut bucket = Bucket::default();
            let mut taken = |now: Instant| {
                std::iter::repeat_with(|| bucket.take(rate, now))
                    .take_while(|taken| *taken)
                    .count()
            };
            let seconds = if per_second > 1_000 { 1 } else { 100 };
            let at_once = taken(Instant::from_millis(1_000)) as u64;
            assert_eq!(at_once, u64::from(per_second));
            let later: usize = (1..=seconds * 1_000)
                .map(|millis| taken(Instant::from_millis(1_000 + millis)))
                .sum();
            let wanted = u64::from(per_second) * seconds;
            // Less than a nanosecond is lost of each, and the last may not have come back at the end.
            let least = wanted - wanted * u64::from(per_second) / SECOND - 2;
            assert!((least..=wanted).contains(&(later as u64)), "{per_second}: {later}");
        }
    }

    #[test]
    fn who_comes_with_an_older_time_finds_what_is_there() {
        let (rate, bucket, latest) = (Rate::per_second(5), SharedBucket::default(), Latest::default());
        let take = |micros| {
            latest.tell(Instant::from_micros(micros));
            bucket.take(rate, &latest)
        };
        assert!(
            [5_000_000, 4_999_900, 5_000_000, 4_990_000, 4_000_000]
                .into_iter()
                .all(take)
        );
        assert!(!take(5_000_000) && !take(4_000_000) && !take(5_199_999));
        assert!(take(5_200_000) && !take(5_200_000));
    }

    /// Whatever the threads do to each other: no more than a second's worth and what time has added, and, since each asks a
    /// thousand times a second, no less.
    #[test]
    fn threads_together_get_what_one_would() {
        const PER_SECOND: u32 = 100;
        const SECONDS: u64 = 10;
        let (rate, bucket, latest) = (Rate::per_second(PER_SECOND), SharedBucket::default(), Latest::default());
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for millis in 0..=SECONDS * 1_000 {
                        latest.tell(Instant::from_millis(millis));
                        taken.fetch_add(bucket.take(rate, &latest).into(), Ordering::Relaxed);
                    }
                });
            }
        });
        let most = u64::from(PER_SECOND) * (1 + SECONDS);
        // Between the last asking and the end a token may have come back.
        assert!((most - 1..=most).contains(&taken.into_inner()), "{most}");
    }
}
