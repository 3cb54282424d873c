//! New requests that were sent again with credentials, by who sent them: until nobody takes the two for one any more, the next
//! ones of that sender must not have a number that one of ours had (RFC 3261 §8.1.1.5, §8.2.2.2).
//!
//! ```text
//!   caller sends     1 ─► 407 of its own realm      2 (with its credentials)
//!   callee sees      1, 2 (with ours)               3
//! ```

use crate::timer::Instant;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Senders remembered; one more, and the oldest is forgotten, whose next request is numbered as it came.
const REMEMBERED_MAX: usize = 10_000;

/// The last request of each sender that was sent again.
#[derive(Debug, Default)]
pub(super) struct Renumbered {
    /// By a keyed digest of Call-ID and From tag.
    last: HashMap<u64, Last, foldhash::fast::FixedState>,
    /// When each entry was made or made anew, oldest first.
    order: VecDeque<(Instant, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    /// Its number as it came, and as it left last.
    came: u32,
    left: u32,
    until: Instant,
}

impl Renumbered {
    /// The request of `sender` that came as `came` left as `left`; it is remembered until then. `until` never falls. Of several
    /// branches that were sent again the highest number counts.
    pub fn remember(&mut self, sender: u64, came: u32, left: u32, now: Instant, until: Instant) {
        while self.order.len() >= REMEMBERED_MAX || self.order.front().is_some_and(|(until, _)| *until <= now) {
            let Some((until, sender)) = self.order.pop_front() else {
                break;
            };
            if self.last.get(&sender).is_some_and(|last| last.until == until) {
                self.last.remove(&sender);
            }
        }
        let before = self.last.get(&sender).filter(|last| last.came == came);
        let left = before.map_or(left, |last| last.left.max(left));
        self.last.insert(sender, Last { came, left, until });
        self.order.push_back((until, sender));
    }

    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// The number with which a new request of `sender` leaves that came with another; `None`: its own. It may be one beyond what a
    /// CSeq may have.
    pub fn of(&self, sender: u64, number: u32, now: Instant) -> Option<u32> {
        let last = self.last.get(&sender).filter(|last| now < last.until)?;
        let after = number.checked_sub(last.came).filter(|after| *after > 0)?;
        Some(last.left.saturating_add(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn of_several_branches_the_highest_number_counts() {
        let mut renumbered = Renumbered::default();
        for (came, left) in [(1, 2), (1, 3), (1, 2)] {
            renumbered.remember(7, came, left, at(0), at(100));
        }
        assert_eq!(renumbered.of(7, 2, at(50)), Some(4));
        renumbered.remember(7, 2, 5, at(50), at(150));
        assert_eq!(renumbered.of(7, 3, at(60)), Some(6));
    }

    #[test]
    fn later_requests_of_a_sender_are_shifted_alike_for_a_while() {
        let mut renumbered = Renumbered::default();
        assert!(renumbered.is_empty());
        renumbered.remember(7, 1, 2, at(0), at(100));
        for (sender, number, now, expected) in [
            (7, 2, 50, Some(3)),
            (7, 4, 50, Some(5)),
            // The same one, which came another way as well.
            (7, 1, 50, None),
            (7, 0, 50, None),
            (8, 2, 50, None),
            (7, 2, 100, None),
            (7, u32::MAX, 50, Some(u32::MAX)),
        ] {
            assert_eq!(
                renumbered.of(sender, number, at(now)),
                expected,
                "{sender} {number} {now}"
            );
        }
        renumbered.remember(7, 2, 5, at(60), at(160));
        // The first entry is over, and the second is not.
        renumbered.remember(8, 1, 2, at(110), at(210));
        assert_eq!(renumbered.of(7, 3, at(110)), Some(6));
    }

    #[test]
    fn no_more_are_remembered_than_the_limit() {
        let mut renumbered = Renumbered::default();
        for sender in 0..3 * REMEMBERED_MAX as u64 {
            renumbered.remember(sender % 15_000, 1, 2, at(0), at(100));
            assert!(renumbered.last.len() <= REMEMBERED_MAX && renumbered.order.len() <= REMEMBERED_MAX);
        }
        renumbered.remember(1, 1, 2, at(200), at(300));
        assert_eq!((renumbered.last.len(), renumbered.order.len()), (1, 1));
    }
}
