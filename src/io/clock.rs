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
    fn seeds_differ() {
        assert_ne!(random_bytes().unwrap(), random_bytes().unwrap());
    }
}
