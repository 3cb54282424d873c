//! One endpoint (scheme, host, port): who waits for it, how many attempts it has, and whether it is to be spared.
//!
//! ```text
//!            5 failures in a row                    probe fails: wait longer
//!  Healthy ──────────────────────► Suspended ──┐ ◄────────────┐
//!     ▲                             waits      └─► one probe ──┘
//!     └──────────────── any attempt succeeds ◄──────────┘
//! ```

use crate::identifiers::Random;
use crate::timer::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the machine knows of an endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Under which name it is found.
    pub key: String,
    /// Lanes whose head may be sent, by the order in which they became so.
    pub ready: BTreeMap<u64, usize>,
    /// Hooks that are held and go here, waiting or under way.
    pub hooks: usize,
    /// Attempts under way, those of hooks already given up included.
    pub under_way: usize,
    /// Whether it stands in the ring of endpoints that may have something to start.
    pub in_ring: bool,
    /// Its entry among the deadlines.
    pub deadline: Option<Instant>,
    /// Failures since the last success.
    failures: u32,
    /// The next probe while suspended.
    probe_at: Instant,
    /// When a failing endpoint that nobody uses is forgotten.
    pub forget_at: Option<Instant>,
}

impl Endpoint {
    pub fn new(key: String) -> Endpoint {
        Endpoint {
            key,
            ready: BTreeMap::new(),
            hooks: 0,
            under_way: 0,
            in_ring: false,
            deadline: None,
            failures: 0,
            probe_at: Instant::START,
            forget_at: None,
        }
    }

    pub fn is_suspended(&self) -> bool {
        self.failures >= SUSPENDED_AFTER
    }

    /// Whether one more attempt may start, `under_way_max` being the most at a time.
    pub fn may_start(&self, under_way_max: usize, now: Instant) -> bool {
        if self.is_suspended() {
            self.under_way == 0 && self.probe_at <= now
        } else {
            self.under_way < under_way_max
        }
    }

    /// When [`Endpoint::may_start`] turns true by time alone.
    pub fn probe_deadline(&self) -> Option<Instant> {
        (self.is_suspended() && self.under_way == 0 && !self.ready.is_empty()).then_some(self.probe_at)
    }

    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Something answered, be it with a refusal.
    pub fn on_alive(&mut self) {
        self.failures = 0;
    }

    /// No answer, or one that says it cannot serve.
    pub fn on_failure(&mut self, random: &mut Random, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.is_suspended() {
            let most = doubled(PROBE_BASE, self.failures - SUSPENDED_AFTER, PROBE_MAX);
            // At least half of it: several attempts that were under way may fail at once, and a probe right after them
            // tells nothing new.
            self.probe_at = now + most / 2 + jitter(random, most / 2);
        }
    }
}

/// `base` · 2^`doublings`, at most `most`.
pub(super) fn doubled(base: Duration, doublings: u32, most: Duration) -> Duration {
    base.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX))
        .min(most)
}

/// A duration in `0..=most`, in microseconds.
pub(super) fn jitter(random: &mut Random, most: Duration) -> Duration {
    Duration::from_micros(random.below(u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1) + 1))
}

/// Consecutive failures after which an endpoint gets one attempt at a time only.
const SUSPENDED_AFTER: u32 = 5;

const PROBE_BASE: Duration = Duration::from_millis(250);

/// How long at most a recovered endpoint goes unnoticed. An event is worth sending for a few seconds, so not much longer
/// than that.
const PROBE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_suspend_and_one_success_resumes() {
        let mut random = Random::new([1; 16]);
        let mut endpoint = Endpoint::new(String::new());
        let mut now = Instant::START;
        for _ in 0..4 {
            endpoint.on_failure(&mut random, now);
        }
        endpoint.on_alive();
        for _ in 0..4 {
            endpoint.on_failure(&mut random, now);
            assert!(endpoint.may_start(8, now));
        }
        for failures in 0..20 {
            endpoint.on_failure(&mut random, now);
            assert!(!endpoint.may_start(8, now), "no probe at once");
            let most = doubled(PROBE_BASE, failures, PROBE_MAX);
            assert!(endpoint.may_start(8, now + most), "a probe after {most:?} at most");
            now = now + most;
        }
        endpoint.under_way = 1;
        assert!(!endpoint.may_start(8, now), "one probe at a time");
        endpoint.on_alive();
        assert!(endpoint.may_start(8, now));
    }

    #[test]
    fn doubling_stops_at_its_bound() {
        for (doublings, millis) in [
            (0, 100),
            (1, 200),
            (5, 3_200),
            (6, 5_000),
            (31, 5_000),
            (32, 5_000),
            (u32::MAX, 5_000),
        ] {
            let delay = doubled(Duration::from_millis(100), doublings, Duration::from_secs(5));
            assert_eq!(delay, Duration::from_millis(millis), "{doublings}");
        }
    }
}
