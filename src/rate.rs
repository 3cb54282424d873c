//! How often something may happen: token buckets of eight bytes each.

use crate::timer::Instant;
use std::time::Duration;

/// So many events a second on average, and so many at once. Fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What one event takes out of a bucket, as the time it takes to come back.
    each: Duration,
    /// What a full bucket holds; `each <= full`.
    full: Duration,
}

impl Rate {
    /// `per_second` events (from 1 to a million) a second, a second's worth of them at once, shared evenly by `sharers` buckets
    /// that do not know of each other. Each of them lets at least one event pass at once.
    pub fn per_second(per_second: u32, sharers: u16) -> Rate {
        let per_second = per_second.clamp(1, 1_000_000);
        let each = Duration::from_secs(1) * u32::from(sharers.max(1)) / per_second;
        Rate {
            each,
            full: each.max(Duration::from_secs(1)),
        }
    }
}

/// A token bucket, full at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// When it will be full; in the past: it is.
    full_at: Instant,
}

impl Bucket {
    /// Takes one event out; `false`: there is none left, and nothing changes.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + rate.each;
        let has_one = full_at.since(now) <= rate.full;
        if has_one {
            self.full_at = full_at;
        }
        has_one
    }

    /// Whether it is full, and so the same as a new one.
    pub fn is_full(self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_worth_passes_at_once_and_then_one_each_interval() {
        let rate = Rate::per_second(4, 1);
        let mut bucket = Bucket::default();
        let at = |millis: u64| Instant::from_millis(10_000 + millis);
        let taken = |bucket: &mut Bucket, millis: u64| (0..10).filter(|_| bucket.take(rate, at(millis))).count();
        assert_eq!(taken(&mut bucket, 0), 4);
        assert_eq!(taken(&mut bucket, 249), 0);
        assert_eq!(taken(&mut bucket, 250), 1);
        assert_eq!(taken(&mut bucket, 1_000), 3);
        assert!(!bucket.is_full(at(1_999)) && bucket.is_full(at(2_000)));
        assert_eq!(taken(&mut bucket, 60_000), 4, "no more than full");
    }

    #[test]
    fn sharers_together_let_pass_what_was_asked_for() {
        for (per_second, sharers) in [(10, 1), (10, 2), (10, 64), (1, 4), (1_000_000, 3)] {
            let rate = Rate::per_second(per_second, sharers);
            let mut buckets = vec![Bucket::default(); usize::from(sharers)];
            let seconds = if per_second == 1_000_000 { 1 } else { 100 };
            let mut passed = 0u64;
            for millis in 0..seconds * 1_000 {
                for bucket in &mut buckets {
                    let now = Instant::from_millis(millis);
                    while bucket.take(rate, now) {
                        passed += 1;
                    }
                }
            }
            let wanted = u64::from(per_second) * seconds;
            let at_once = u64::from(per_second.max(u32::from(sharers)));
            assert!(
                (wanted..=wanted + at_once).contains(&passed),
                "{per_second}/{sharers}: {passed}"
            );
        }
    }
}
