//! CSeq numbers of one direction of a dialog into which requests of our own are inserted (RFC 3261 §12.2.1.1).
//!
//! A party numbers its requests without knowing of ours. Towards the other party each of its numbers is shifted by the count
//! of requests inserted before it, so a number's shift never changes: an ACK keeps to its INVITE, a repeat to its original.
//!
//! ```text
//!   party sends      1   2           3       4
//!   we insert                A   B       C
//!   the other sees   1   2   3   4   5   6   7
//! ```
//!
//! A party whose first number lies far above those of ours before it keeps its own: shifted, it would have none left near the end.
//!
//! A request of the party that is sent again with credentials has a number of ours from then on (RFC 3261 §22.2), by which alone the
//! other party has it:
//!
//! ```text
//!   party sends      1       2
//!   challenged       1       3
//!   sent again           2       4
//! ```

use smallvec::SmallVec;
use std::cmp::Ordering;

/// The highest number a CSeq may have (RFC 3261 §8.1.1.5).
pub const NUMBER_MAX: u32 = (1 << 31) - 1;

/// Inserted requests per direction of a dialog, but for the last. Transfers are capped far below; where each request of a day
/// is challenged, it takes one every 45 s.
pub const INSERTED_MAX: usize = 2_000;

/// Requests beyond those that leave no number to others: the BYE of a dialog, sent again a few times.
const LAST_MAX: usize = 16;

/// Numbers that an inserted request leaves to what follows it: a BYE of ours, or the call could not be ended, and what the party
/// says until then, since its own numbers are shifted up by ours and it knows nothing of that.
pub const ROOM: u32 = 1 << 10;

/// How far a number may lie above the highest before it. RFC 3261 §12.2.1.1 has a party count by one, so that a gap, which
/// §12.2.2 allows, is the number of its requests that never came here: this many at one every two seconds take a year. A party
/// that numbers by a clock of milliseconds, which it should not, passes after four and a half hours of silence. What lies
/// beyond is made up; taken at its word it would use up the numbers that the dialog has left for requests of ours.
pub const GAP_MAX: u32 = 1 << 24;

/// The numbering of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// One more than the highest number the party has used; 0: it has sent nothing.
    next: u32,
    /// For each inserted request in order: `next` at that time. Non-decreasing.
    inserted: SmallVec<[u32; 4]>,
    /// What the count of the inserted requests is wrong by where some were before the party's first. 1 if that had number 0: shifted
    /// by the count alone it would meet our last one. If it lies more than [`GAP_MAX`] above them: less their count, so that they shift
    /// nothing. Else 0.
    extra: i32,
    /// Numbers of the party and the inserted ones that stand for them, in the order of insertion.
    again: SmallVec<[(u32, u32); 1]>,
}

/// Whose request a number on the far side belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The party's own, by its own number.
    Party(u32),
    /// One we inserted.
    Inserted,
}

impl Sequence {
    /// Whether a new request of the party may have this number (RFC 3261 §12.2.2): not below the highest so far, and not
    /// [`GAP_MAX`] or more above it. The first may have any.
    pub fn is_in_order(&self, number: u32) -> bool {
        self.highest()
            .is_none_or(|highest| (highest..highest.saturating_add(GAP_MAX)).contains(&number))
    }

    /// The party has sent a request with this number.
    pub fn observe(&mut self, number: u32) {
        if self.next == 0 && !self.inserted.is_empty() {
            let before = self.inserted.len() as u32;
            self.extra = match number {
                0 => 1,
                // What it sent before may still come, and has the numbers below.
                _ if number > before + GAP_MAX => -(before as i32),
                _ => 0,
            };
        }
        self.next = self.next.max(number.saturating_add(1));
    }

    /// The number the other party sees for `number`; `None` beyond [`NUMBER_MAX`].
    pub fn outward(&self, number: u32) -> Option<u32> {
        if let Some((_, again)) = self.again.iter().rfind(|(own, _)| *own == number) {
            return Some(*again);
        }
        let shift = self.inserted.partition_point(|next| *next <= number) as i32 + self.extra;
        number
            .checked_add_signed(shift)
            .filter(|outward| *outward <= NUMBER_MAX)
    }

    /// Whose request the other party knows by `number`.
    pub fn inward(&self, number: u32) -> Origin {
        let mut shift = self.extra;
        for (i, next) in self.inserted.iter().enumerate() {
            match number.cmp(&self.number_of(i, *next)) {
                Ordering::Equal => {
                    let own = self.again.iter().find(|(_, again)| *again == number);
                    return own.map_or(Origin::Inserted, |(own, _)| Origin::Party(*own));
                }
                Ordering::Less => break,
                Ordering::Greater => shift += 1,
            }
        }
        // Below what the party can have sent only if a peer makes numbers up.
        Origin::Party(number.saturating_sub_signed(shift))
    }

    /// Takes the next number for a request of our own that leaves `left` numbers to others: 0 for the last of a dialog, [`ROOM`]
    /// for any other. `None`: fewer would be left, or there are [`INSERTED_MAX`], and a few more where it is the last.
    pub fn insert(&mut self, left: u32) -> Option<u32> {
        let number = self.number_of(self.inserted.len(), self.next);
        let most = if left > 0 {
            INSERTED_MAX
        } else {
            INSERTED_MAX + LAST_MAX
        };
        if number > NUMBER_MAX - left || self.inserted.len() >= most {
            return None;
        }
        self.inserted.push(self.next);
        Some(number)
    }

    /// Takes the next number where the party is referee itself, so that nobody's numbers are shifted; `None` beyond
    /// [`NUMBER_MAX`].
    pub fn take(&mut self) -> Option<u32> {
        let number = self.next.max(1);
        if number > NUMBER_MAX {
            return None;
        }
        self.next = number + 1;
        Some(number)
    }

    /// Takes the next number for a request that the party has sent as `number`; `None` as of [`Sequence::insert`], and if it is not
    /// known to have sent that: its dialog was forgotten since.
    pub fn send_again(&mut self, number: u32, left: u32) -> Option<u32> {
        if self.next <= number {
            return None;
        }
        let again = self.insert(left)?;
        self.again.push((number, again));
        Some(again)
    }

    /// The numbering of a dialog whose INVITE the party sent as `number`, and the other one has as `outward`, since it was sent
    /// again for each between.
    pub fn of_invite(number: u32, outward: u32) -> Sequence {
        let mut sequence = Sequence::default();
        sequence.observe(number);
        while sequence.outward(number) < Some(outward) && sequence.send_again(number, 0).is_some() {}
        sequence
    }

    /// The highest number the party has used.
    pub fn highest(&self) -> Option<u32> {
        self.next.checked_sub(1)
    }

    /// Whether any number is shifted, so that the mapping must be kept until the dialog ends.
    pub fn is_shifted(&self) -> bool {
        !self.inserted.is_empty()
    }

    /// The number of a request that we inserted after `earlier` others, when the party's next was `next`.
    fn number_of(&self, earlier: usize, next: u32) -> u32 {
        match next {
            0 => earlier as u32 + 1,
            _ => (next + earlier as u32).saturating_add_signed(self.extra),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_common_inbound_case_starts_at_one() {
        let mut callee = Sequence::default();
        assert!(!callee.is_shifted());
        assert_eq!(callee.insert(0), Some(1));
        assert!(callee.is_shifted());
        callee.observe(1);
        assert_eq!(callee.outward(1), Some(2));
        assert_eq!(callee.inward(1), Origin::Inserted);
        assert_eq!(callee.inward(2), Origin::Party(1));
    }

    #[test]
    fn a_first_number_far_above_those_of_ours_is_not_shifted() {
        for (first, outward) in [
            (1, 3),
            (2 + GAP_MAX, 4 + GAP_MAX),
            (3 + GAP_MAX, 3 + GAP_MAX),
            (NUMBER_MAX - 2, NUMBER_MAX - 2),
        ] {
            let mut callee = Sequence::default();
            assert_eq!((callee.insert(0), callee.insert(0)), (Some(1), Some(2)));
            callee.observe(first);
            assert_eq!(callee.outward(first), Some(outward), "{first}");
            for (number, origin) in [
                (1, Origin::Inserted),
                (2, Origin::Inserted),
                (outward, Origin::Party(first)),
            ] {
                assert_eq!(callee.inward(number), origin, "{first}");
            }
            assert_eq!(callee.insert(0), Some(outward + 1));
            callee.observe(first + 1);
            assert_eq!(callee.outward(first + 1), Some(outward + 2), "{first}");
        }
    }

    #[test]
    fn where_the_party_is_referee_numbers_just_rise() {
        let mut own = Sequence::default();
        for expected in 1..=2 * INSERTED_MAX as u32 {
            assert_eq!(own.take(), Some(expected));
        }
        assert!(!own.is_shifted());
        own.observe(NUMBER_MAX);
        assert_eq!(own.take(), None);
    }

    #[test]
    fn an_ack_keeps_its_invites_number_whatever_was_inserted_since() {
        let mut caller = Sequence::default();
        caller.observe(10);
        assert_eq!(caller.insert(0), Some(11));
        caller.observe(11);
        assert_eq!(caller.outward(11), Some(12));
        assert_eq!(caller.insert(0), Some(13));
        assert_eq!(caller.outward(11), Some(12));
        assert_eq!(caller.outward(10), Some(10));
        assert_eq!(caller.outward(12), Some(14));
    }

    #[test]
    fn a_number_below_the_last_or_far_above_it_is_out_of_order() {
        let mut party = Sequence::default();
        assert!(party.is_in_order(0) && party.is_in_order(NUMBER_MAX));
        party.observe(1_000);
        for (number, expected) in [
            (0, false),
            (999, false),
            (1_000, true),
            (1_001, true),
            (1_100, true),
            (1_000 + GAP_MAX - 1, true),
            (1_000 + GAP_MAX, false),
            (NUMBER_MAX, false),
        ] {
            assert_eq!(party.is_in_order(number), expected, "{number}");
        }
        party.observe(NUMBER_MAX);
        assert!(party.is_in_order(NUMBER_MAX) && !party.is_in_order(NUMBER_MAX - 1));
    }

    #[test]
    fn a_request_that_is_sent_again_has_the_number_of_its_last_sending() {
        let mut caller = Sequence::of_invite(1, 3);
        assert_eq!(caller.outward(1), Some(3));
        for number in 1..=3 {
            assert_eq!(caller.inward(number), Origin::Party(1), "{number}");
        }
        caller.observe(2);
        assert_eq!((caller.outward(2), caller.inward(4)), (Some(4), Origin::Party(2)));
        // Another request has left meanwhile: only what follows is shifted.
        caller.observe(3);
        assert_eq!(caller.outward(3), Some(5));
        assert_eq!(caller.send_again(2, 0), Some(6));
        assert_eq!((caller.outward(2), caller.outward(3)), (Some(6), Some(5)));
        assert_eq!(
            (caller.inward(6), caller.inward(4)),
            (Origin::Party(2), Origin::Party(2))
        );
        assert_eq!((caller.insert(0), caller.inward(7)), (Some(7), Origin::Inserted));
        caller.observe(4);
        assert_eq!((caller.outward(4), caller.inward(8)), (Some(8), Origin::Party(4)));

        assert_eq!(Sequence::of_invite(0, 1).outward(0), Some(1));
        assert!(!Sequence::of_invite(7, 7).is_shifted());
        let last = Sequence::of_invite(NUMBER_MAX - 1, NUMBER_MAX);
        assert_eq!(
            (last.outward(NUMBER_MAX - 1), last.outward(NUMBER_MAX)),
            (Some(NUMBER_MAX), None)
        );
    }

    #[test]
    fn numbers_end_at_the_limit() {
        assert_eq!(NUMBER_MAX, 2_147_483_647);
        let mut party = Sequence::default();
        party.observe(NUMBER_MAX - 1);
        assert_eq!(party.insert(0), Some(NUMBER_MAX));
        assert_eq!(party.insert(0), None);
        assert_eq!(party.outward(NUMBER_MAX), None);
        assert_eq!(party.outward(NUMBER_MAX - 1), Some(NUMBER_MAX - 1));
    }

    #[test]
    fn what_a_party_has_not_sent_is_not_sent_again() {
        let mut party = Sequence::default();
        assert_eq!(party.send_again(1_001, 0), None);
        party.observe(1_000);
        assert_eq!(
            (party.send_again(1_001, 0), party.send_again(1_000, 0)),
            (None, Some(1_001))
        );
    }

    #[test]
    fn a_refer_leaves_room_for_what_follows_it() {
        let mut party = Sequence::default();
        party.observe(NUMBER_MAX - ROOM - 2);
        assert_eq!(party.insert(ROOM), Some(NUMBER_MAX - ROOM - 1));
        assert_eq!(party.insert(ROOM), Some(NUMBER_MAX - ROOM));
        assert_eq!(party.insert(ROOM), None);
        assert_eq!(party.insert(0), Some(NUMBER_MAX - ROOM + 1));
        let mut party = Sequence::default();
        party.observe(1);
        let refers = std::iter::from_fn(|| party.insert(ROOM));
        assert_eq!(refers.count(), INSERTED_MAX);
        assert!(party.insert(0).is_some(), "a BYE always has its number");
    }

    proptest! {
        /// A naive model: the far side's view as a plain list of who sent what, in order.
        #[test]
        fn the_far_side_sees_strictly_rising_numbers_that_map_back(
            start in prop_oneof![0u32..5, 2 + GAP_MAX..6 + GAP_MAX, Just(NUMBER_MAX - 1_000)],
            steps in proptest::collection::vec(prop_oneof![Just(None), (0u32..3).prop_map(Some), Just(Some(9))], 0..60),
        ) {
            let mut sequence = Sequence::default();
            let mut own = start;
            let mut sent: Vec<(Option<u32>, u32)> = Vec::new();
            for step in steps {
                let entry = match (step, sequence.highest()) {
                    (None, _) => (None, sequence.insert(0).unwrap()),
                    // A challenge to the last request of the party.
                    (Some(9), Some(last)) => (Some(last), sequence.send_again(last, 0).unwrap()),
                    (Some(gap), highest) => {
                        own += if highest.is_none() { 0 } else { gap + 1 };
                        sequence.observe(own);
                        (Some(own), sequence.outward(own).unwrap())
                    }
                };
                if let Some((_, last)) = sent.last() {
                    prop_assert!(entry.1 > *last, "{sent:?} then {entry:?}");
                }
                sent.push(entry);
                for (number, outward) in &sent {
                    match number {
                        Some(number) => {
                            let last = sent.iter().rfind(|(other, _)| *other == Some(*number));
                            prop_assert_eq!(sequence.outward(*number), last.map(|(_, outward)| *outward));
                            prop_assert_eq!(sequence.inward(*outward), Origin::Party(*number));
                        }
                        None => prop_assert_eq!(sequence.inward(*outward), Origin::Inserted),
                    }
                }
            }
        }
    }
}
