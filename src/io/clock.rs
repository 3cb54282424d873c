//! The only reading of the OS clock and of OS randomness.

use crate::timer::Instant;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The process's clock: monotonic, in microseconds since [`Clock::start`]. A copy reads the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: std::time::Instant,
    wall_clock_at_start: Duration,
}

impl Clock {
    /// Reads both clocks once; this moment is [`Instant::START`].
    pub fn start() -> Clock {
        Clock {
            epoch: std::time::Instant::now(),
            // A wall clock before 1970 is a machine without one: zero is as good as any other wrong date.
            wall_clock_at_start: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// Never goes back, whatever is done to the wall clock.
    pub fn now(&self) -> Instant {
        // 2^64 microseconds are 584,000 years.
        Instant::from_micros(self.epoch.elapsed().as_micros() as u64)
    }

    /// What the wall clock said at [`Instant::START`], since the Unix epoch.
    pub fn wall_clock_at_start(&self) -> Duration {
        self.wall_clock_at_start
    }
}

/// Tells from the kernel's stamps, which are of the wall clock, how long ago something came.
#[derive(Clone, Copy, Debug)]
pub struct Arrivals {
    clock: Clock,
    /// What the wall clock says at [`Instant::START`], as far as known: it may have been set since.
    wall_at_start: Duration,
    /// For which `now` the clocks were compared last.
    compared_at: Option<Instant>,
}

/// What waited less is not doubted. A wall clock that was set shows as a wait that is longer, or as a stamp of the future.
const UNDOUBTED: Duration = Duration::from_millis(1);

impl Arrivals {
    pub fn new(clock: Clock) -> Arrivals {
        Arrivals {
            clock,
            wall_at_start: clock.wall_clock_at_start,
            compared_at: None,
        }
    }

    /// How long what has this stamp had waited at `now`; zero if it came since. Where that is unlikely the clocks are compared
    /// anew, once for each `now`; so no clock is read as long as nothing waits.
    pub fn waited(&mut self, stamp: Duration, now: Instant) -> Duration {
        let unlikely = |wall: Duration| wall.abs_diff(stamp) >= UNDOUBTED;
        if unlikely(self.wall(now)) && self.compared_at != Some(now) {
            self.compared_at = Some(now);
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.wall_at_start = wall.saturating_sub(self.clock.now().since(Instant::START));
        }
        self.wall(now).saturating_sub(stamp)
    }

    fn wall(&self, now: Instant) -> Duration {
        self.wall_at_start + now.since(Instant::START)
    }
}

/// Sixteen bytes from the kernel's random number generator.
///
/// # Errors
/// `/dev/urandom` cannot be opened or read: the process has no business minting tags without it.
pub fn random_bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back_and_a_copy_reads_the_same_clock() {
        let clock = Clock::start();
        let copy = clock;
        let mut last = Instant::START;
        for _ in 0..1000 {
            let now = clock.now();
            assert!(last <= now);
            last = now.max(copy.now());
        }
        assert!(clock.wall_clock_at_start() > Duration::ZERO);
    }

    #[test]
    fn a_wall_clock_that_was_set_is_noticed() {
        let clock = Clock::start();
        let mut arrivals = Arrivals::new(clock);
        // As if the clock had been set back by an hour since.
        arrivals.wall_at_start += Duration::from_secs(3_600);
        let now = clock.now();
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(arrivals.waited(stamp, now) < Duration::from_secs(1_800));
        // And forward.
        arrivals.wall_at_start -= Duration::from_secs(3_600);
        let now = clock.now() + Duration::from_micros(1);
        let old = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - Duration::from_secs(5);
        let waited = arrivals.waited(old, now);
        assert!(
            waited > Duration::from_secs(4) && waited < Duration::from_secs(1_800),
            "{waited:?}"
        );
    }

    #[test]
    fn what_came_is_as_old_as_its_stamp_says_and_never_from_the_future() {
        let clock = Clock::start();
        let mut arrivals = Arrivals::new(clock);
        let now = Instant::from_millis(5);
        let at = |millis| clock.wall_clock_at_start() + Duration::from_millis(millis);
        // Within the undoubted: no clock is read, so that these times need not be those of now.
        arrivals.compared_at = Some(now);
        assert_eq!(arrivals.waited(at(2), now), Duration::from_millis(3));
        assert_eq!(arrivals.waited(at(5), now), Duration::ZERO);
        assert_eq!(arrivals.waited(at(7), now), Duration::ZERO);
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(random_bytes().unwrap(), random_bytes().unwrap());
    }
}
