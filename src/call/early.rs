//! CSeq numbers of dialogs before one of them is the call (RFC 3261 §12.1): each target that an INVITE reaches makes an early
//! dialog of its own, with numbers of its own in both directions.

use super::Party;
use smallvec::SmallVec;

/// Early dialogs of one call that are told apart. One more, and the oldest is forgotten: if that one is answered, numbers that
/// were used before the answer are not known.
const EARLY_MAX: usize = 16;

/// The highest numbers of requests within each early dialog.
#[derive(Clone, Debug, Default)]
pub struct EarlyDialogs {
    list: SmallVec<[EarlyDialog; 2]>,
}

#[derive(Clone, Debug)]
struct EarlyDialog {
    /// A digest of the callee's tag.
    callee: u64,
    highest: [Option<u32>; 2],
}

impl EarlyDialogs {
    /// `party` has sent a request with this number within the early dialog of this callee.
    pub fn observe(&mut self, callee: u64, party: Party, number: u32) {
        let place = match self.list.iter().position(|early| early.callee == callee) {
            Some(place) => place,
            None => {
                if self.list.len() == EARLY_MAX {
                    self.list.remove(0);
                }
                self.list.push(EarlyDialog {
                    callee,
                    highest: [None; 2],
                });
                self.list.len() - 1
            }
        };
        let highest = &mut self.list[place].highest[party as usize];
        *highest = (*highest).max(Some(number));
    }

    /// The early dialog of this callee becomes a call: its highest numbers, by party.
    pub fn take(&mut self, callee: u64) -> [Option<u32>; 2] {
        let place = self.list.iter().position(|early| early.callee == callee);
        place.map_or([None; 2], |place| self.list.remove(place).highest)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_early_dialog_has_its_own_numbers() {
        let mut early = EarlyDialogs::default();
        for (callee, party, number) in [
            (1, Party::Caller, 2),
            (2, Party::Callee, 7),
            (1, Party::Caller, 5),
            (1, Party::Caller, 3),
        ] {
            early.observe(callee, party, number);
        }
        assert_eq!(early.take(1), [Some(5), None]);
        assert_eq!(early.take(1), [None, None]);
        assert_eq!(early.take(2), [None, Some(7)]);
        assert!(early.is_empty());
    }

    #[test]
    fn no_more_are_kept_than_the_limit() {
        let mut early = EarlyDialogs::default();
        for callee in 0..3 * EARLY_MAX as u64 {
            early.observe(callee, Party::Caller, 1);
        }
        assert_eq!(early.list.len(), EARLY_MAX);
        assert_eq!(early.take(0), [None, None]);
        assert_eq!(early.take(3 * EARLY_MAX as u64 - 1), [Some(1), None]);
    }
}
