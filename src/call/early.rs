//! Dialogs before one of them is the call (RFC 3261 §12.1): each target that an INVITE reaches makes an early dialog of its own,
//! with numbers of its own in both directions.

use super::Direction;
use smallvec::SmallVec;

/// Early dialogs of one call that are told apart. One more, and the oldest is forgotten: if that one is answered, numbers that
/// were used before the answer are not known.
const EARLY_MAX: usize = 16;

/// What is known of each early dialog in which a request was sent, or whose INVITE was sent again.
#[derive(Debug, Default)]
pub struct EarlyDialogs {
    list: SmallVec<[EarlyDialog; 1]>,
}

#[derive(Debug)]
struct EarlyDialog {
    /// A digest of the callee's tag.
    callee: u64,
    directions: [Direction; 2],
    /// A BYE has ended it.
    is_over: bool,
}

impl EarlyDialogs {
    /// The early dialog of this callee, by sender; made when first asked for.
    pub fn of(&mut self, callee: u64) -> &mut [Direction; 2] {
        let place = match self.list.iter().position(|early| early.callee == callee) {
            Some(place) => place,
            None => {
                if self.list.len() == EARLY_MAX {
                    self.list.remove(0);
                }
                self.list.push(EarlyDialog {
                    callee,
                    directions: Default::default(),
                    is_over: false,
                });
                self.list.len() - 1
            }
        };
        &mut self.list[place].directions
    }

    /// As [`EarlyDialogs::of`], but without making it.
    pub fn known(&mut self, callee: u64) -> Option<&mut [Direction; 2]> {
        let early = self.list.iter_mut().find(|early| early.callee == callee)?;
        Some(&mut early.directions)
    }

    /// A BYE has ended the early dialog of this callee: its 2xx, should it still come, makes no call that lives.
    pub fn end(&mut self, callee: u64) {
        if let Some(early) = self.list.iter_mut().find(|early| early.callee == callee) {
            early.is_over = true;
        }
    }

    /// Whether a BYE has ended the early dialog of this callee.
    pub fn is_over(&self, callee: u64) -> bool {
        self.list.iter().any(|early| early.callee == callee && early.is_over)
    }

    /// The early dialog of this callee becomes a call.
    pub fn take(&mut self, callee: u64) -> Option<[Direction; 2]> {
        let place = self.list.iter().position(|early| early.callee == callee)?;
        Some(self.list.remove(place).directions)
    }

    /// The requests of all, by either party.
    pub fn directions(&self) -> impl Iterator<Item = &Direction> {
        self.list.iter().flat_map(|early| &early.directions)
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Party;
    use super::*;

    fn highest(directions: Option<[Direction; 2]>) -> Option<[Option<u32>; 2]> {
        directions.map(|directions| directions.map(|direction| direction.sequence.highest()))
    }

    #[test]
    fn each_early_dialog_has_its_own_numbers() {
        let mut early = EarlyDialogs::default();
        for (callee, party, number) in [
            (1, Party::Caller, 2),
            (2, Party::Callee, 7),
            (1, Party::Caller, 5),
            (1, Party::Caller, 3),
        ] {
            early.of(callee)[party as usize].sequence.observe(number);
        }
        assert!(early.known(3).is_none() && early.known(2).is_some());
        assert_eq!(highest(early.take(1)), Some([Some(5), None]));
        assert_eq!(highest(early.take(1)), None);
        assert!(!early.is_empty());
        assert_eq!(highest(early.take(2)), Some([None, Some(7)]));
        assert!(early.is_empty());
    }

    #[test]
    fn a_bye_ends_the_early_dialog_of_one_callee() {
        let mut early = EarlyDialogs::default();
        early.end(1);
        assert!(!early.is_over(1), "nothing is known of it");
        early.of(1)[Party::Callee as usize].sequence.observe(2);
        early.of(2)[Party::Callee as usize].sequence.observe(2);
        early.end(1);
        assert_eq!([1, 2].map(|callee| early.is_over(callee)), [true, false]);
        early.take(1);
        assert!(!early.is_over(1));
    }

    #[test]
    fn no_more_are_kept_than_the_limit() {
        let mut early = EarlyDialogs::default();
        for callee in 0..3 * EARLY_MAX as u64 {
            early.of(callee)[0].sequence.observe(1);
        }
        assert_eq!(early.list.len(), EARLY_MAX);
        assert_eq!(highest(early.take(0)), None);
        assert_eq!(highest(early.take(3 * EARLY_MAX as u64 - 1)), Some([Some(1), None]));
    }
}
