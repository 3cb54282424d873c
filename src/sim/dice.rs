//! Where a drawn world's choices come from: a seed, or bytes that a fuzzer mutates.

use crate::identifiers::Random;
use std::sync::Arc;
use std::time::Duration;

/// A stream of choices. Bytes that are used up choose the first, mildest thing for ever: a short input is a calm world.
#[derive(Clone, Debug)]
pub struct Dice {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Random(Random),
    /// Every `stride`th byte from `next` on.
    Bytes {
        bytes: Arc<[u8]>,
        next: usize,
        stride: usize,
    },
}

impl Dice {
    /// So many independent streams from a seed.
    pub fn of_seed(seed: u64, count: usize) -> Vec<Dice> {
        let stream = |number: usize| {
            let mut raw = [0; 16];
            raw[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
            raw[8..].copy_from_slice(&seed.to_be_bytes());
            Dice::from(Random::new(raw))
        };
        (0..count).map(stream).collect()
    }

    /// So many streams that take turns at the bytes, so that a longer input changes nothing of what a shorter one chose.
    pub fn of_bytes(bytes: &[u8], count: usize) -> Vec<Dice> {
        let bytes: Arc<[u8]> = bytes.into();
        let stream = |next| Dice {
            source: Source::Bytes {
                bytes: bytes.clone(),
                next,
                stride: count,
            },
        };
        (0..count).map(stream).collect()
    }

    /// A number in `0..bound` (`bound` > 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0, "nothing to choose from");
        match &mut self.source {
            Source::Random(random) => random.below(bound),
            Source::Bytes { bytes, next, stride } => {
                let mut number = 0u64;
                let mut most = 0u64;
                while most < bound - 1 {
                    let byte = bytes.get(*next).copied().unwrap_or_default();
                    *next += *stride;
                    number = number << 8 | u64::from(byte);
                    most = most << 8 | 255;
                }
                number % bound
            }
        }
    }

    /// `true` once in `bound` times.
    pub fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) + 1 == bound
    }

    /// `true` so many times out of a thousand.
    pub fn permille(&mut self, of_thousand: u64) -> bool {
        self.below(1_000) + of_thousand >= 1_000
    }

    pub fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    /// Less than so many milliseconds.
    pub fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }

    /// One of the two or between them.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_micros() as u64;
        least + Duration::from_micros(self.below(span + 1))
    }
}

impl From<Random> for Dice {
    fn from(random: Random) -> Dice {
        Dice {
            source: Source::Random(random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_used_up_choose_the_mildest() {
        let mut dice = Dice::of_bytes(&[9, 9], 2).remove(0);
        assert_eq!(dice.below(10), 9);
        assert_eq!(dice.below(1 << 40), 0);
        assert!(!dice.one_in(2) && !dice.permille(999) && dice.permille(1_000));
    }

    #[test]
    fn streams_take_turns_at_the_bytes() {
        let mut streams = Dice::of_bytes(&[1, 2, 3, 4], 2);
        let mut both = |number: usize| [streams[number].below(256), streams[number].below(256)];
        assert_eq!((both(0), both(1)), ([1, 3], [2, 4]));
    }

    #[test]
    fn a_seed_chooses_alike_each_time_and_evenly() {
        let mut dice = Dice::of_seed(4, 2);
        let again = Dice::of_seed(4, 2);
        let numbers = |dice: &Dice| {
            let mut dice = dice.clone();
            (0..1_000).map(|_| dice.below(10)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&dice[0]), numbers(&again[0]));
        assert_ne!(numbers(&dice[0]), numbers(&dice[1]));
        let hits = (0..10_000).filter(|_| dice[0].one_in(10)).count();
        assert!((900..1_100).contains(&hits), "{hits}");
        let hits = (0..10_000).filter(|_| dice[1].permille(300)).count();
        assert!((2_800..3_200).contains(&hits), "{hits}");
    }
}
