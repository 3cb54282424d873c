//! Whose a NOTIFY of a REFER is, in a dialog where a party and referee both send REFERs to the other party (RFC 3515 §2.4.6).
//!
//! To the notifier all REFERs of a dialog come from one peer. It names the one it speaks of by its CSeq number, as the Event's
//! `id`: it may leave that out for the first, it must not for the others, and some peers never say it. Without an id the
//! order tells: a NOTIFY that is numbered no higher than what was seen of the notifier when a REFER left is not about that one.
//! One that is numbered higher may be of it, or of an earlier one whose subscription goes on: the first NOTIFY of the last
//! REFER, a 100, shows whether the notifier says ids, and until it comes the earlier one has the others.
//!
//! ```text
//!   CSeq of NOTIFYs without id        5   6   7           8   9
//!   REFERs to the notifier       ours             party's
//!   of whom they are                  ours               party's; or ours, if those of the party's REFER have an id
//! ```

use super::{Party, TransferKey};
use crate::timer::Instant;
use crate::transaction::ServerKey;
use smallvec::SmallVec;

/// Relayed REFERs of one dialog that are told apart. One more, and the oldest is forgotten: its NOTIFYs are relayed even so.
const RELAYED_MAX: usize = 8;

/// Who sent a REFER, and so has its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referrer {
    /// A party: the server transaction of its REFER.
    Party(ServerKey),
    /// referee, for this execution.
    Referee(TransferKey),
}

/// The REFERs of one dialog, in the order they left.
#[derive(Debug, Default)]
pub struct Refers {
    list: SmallVec<[Refer; 1]>,
}

#[derive(Debug)]
struct Refer {
    referrer: Referrer,
    /// Who received it.
    notifier: Party,
    /// Its CSeq number as the notifier sees it.
    number: u32,
    /// The highest CSeq number of the notifier when it left; a NOTIFY with that one or a lower one is older.
    after: Option<u32>,
    /// Its NOTIFYs have an id, or it was refused and has none: one without an id is rather another's.
    is_named: bool,
    /// A NOTIFY of it has come.
    has_begun: bool,
    /// Until when its subscription is taken for alive; its last NOTIFY may never come.
    alive_until: Option<Instant>,
}

impl Refer {
    fn is_alive(&self, now: Instant) -> bool {
        self.alive_until.is_some_and(|until| now < until)
    }
}

impl Refers {
    /// A REFER leaves for `notifier` with this CSeq number, when the notifier's highest was `after`. `alive_until`: how long
    /// its subscription is taken for alive, if it makes one; that of a party's keeps ours from running.
    pub fn left(
        &mut self,
        referrer: Referrer,
        notifier: Party,
        number: u32,
        after: Option<u32>,
        alive_until: Option<Instant>,
    ) {
        let is_relayed = |refer: &Refer| matches!(refer.referrer, Referrer::Party(_));
        if matches!(referrer, Referrer::Party(_))
            && self.list.iter().filter(|refer| is_relayed(refer)).count() >= RELAYED_MAX
            && let Some(oldest) = self.list.iter().position(is_relayed)
        {
            self.list.remove(oldest);
        }
        self.list.push(Refer {
            referrer,
            notifier,
            number,
            after,
            is_named: false,
            has_begun: false,
            alive_until,
        });
    }

    /// Whose a NOTIFY from `notifier` is, by its Event's `id`, its own CSeq number and the status it tells. `None`: of no REFER
    /// known here.
    pub fn of_notify(
        &mut self,
        notifier: Party,
        id: Option<u32>,
        cseq: u32,
        status: Option<u16>,
        now: Instant,
    ) -> Option<Referrer> {
        let mut of_notifier = self.list.iter_mut().filter(|refer| refer.notifier == notifier);
        let refer = match id {
            Some(id) => {
                let refer = of_notifier.find(|refer| refer.number == id)?;
                refer.is_named = true;
                refer
            }
            None => {
                let mut later: SmallVec<[&mut Refer; 2]> =
                    of_notifier.filter(|refer| Some(cseq) > refer.after).collect();
                // The latest it can be of: once that one has NOTIFYs without an id, the peer is one that never says it.
                let mut place = later.iter().rposition(|refer| !refer.is_named);
                if place.is_some_and(|place| !later[place].has_begun) {
                    // A subscription begins with a NOTIFY, mostly a 100 (RFC 3515 §2.4.4); one that has begun has no other.
                    let goes_on = |refer: &&mut Refer| {
                        !refer.is_named && refer.is_alive(now) && !(refer.has_begun && status == Some(100))
                    };
                    place = later.iter().position(goes_on).or(place);
                }
                let place = place.or(later.len().checked_sub(1))?;
                later.swap_remove(place)
            }
        };
        refer.has_begun = true;
        Some(refer.referrer)
    }

    /// The last REFER of this referrer was challenged and has left again with this number.
    pub fn renumbered(&mut self, referrer: Referrer, number: u32) {
        if let Some(refer) = self.list.iter_mut().rfind(|refer| refer.referrer == referrer) {
            refer.number = number;
        }
    }

    /// The last REFER of this referrer makes no subscription.
    pub fn refused(&mut self, referrer: Referrer) {
        if let Some(refer) = self.list.iter_mut().rfind(|refer| refer.referrer == referrer) {
            refer.is_named = true;
            refer.alive_until = None;
        }
    }

    /// The subscription of this referrer is over, or its REFER has no response; a late NOTIFY of it may still come.
    pub fn ended(&mut self, referrer: Referrer) {
        if let Some(refer) = self.list.iter_mut().rfind(|refer| refer.referrer == referrer) {
            refer.alive_until = None;
        }
    }

    /// The REFER of this referrer that was taken for lost has a 2xx: its subscription is alive after all.
    pub fn accepted_late(&mut self, referrer: Referrer, alive_until: Instant) {
        if let Some(refer) = self.list.iter_mut().rfind(|refer| refer.referrer == referrer) {
            refer.alive_until = Some(alive_until);
        }
    }

    /// A party does not know the subscriptions that `notifier` tells it of (RFC 6665 §4.2.2: they are removed).
    pub fn unknown_to_party(&mut self, notifier: Party) {
        for refer in self.list.iter_mut().filter(|refer| refer.notifier == notifier) {
            refer.alive_until = None;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether a party transfers the call itself: the subscription of a REFER of its own may be alive.
    pub fn are_alive(&self, now: Instant) -> bool {
        let is_relayed = |refer: &&Refer| matches!(refer.referrer, Referrer::Party(_));
        self.list.iter().filter(is_relayed).any(|refer| refer.is_alive(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    #[test]
    fn a_notify_is_of_the_refer_that_its_id_or_its_number_tells() {
        let mut servers: SlotMap<ServerKey, ()> = SlotMap::with_key();
        let mut transfers: SlotMap<TransferKey, ()> = SlotMap::with_key();
        let party = Referrer::Party(servers.insert(()));
        let ours = Referrer::Referee(transfers.insert(()));
        let (notifier, other) = (Party::Caller, Party::Callee);
        let mut refers = Refers::default();
        assert_eq!(refers.of_notify(notifier, None, 9, None, Instant::START), None);
        assert!(refers.is_empty(), "a call without REFERs need not be remembered");
        refers.left(ours, notifier, 1, None, None);
        assert!(!refers.is_empty());
        refers.left(party, notifier, 2, Some(5), Some(Instant::from_millis(10)));
        for (from, id, cseq, expected) in [
            (notifier, Some(1), 9, Some(ours)),
            (notifier, Some(2), 4, Some(party)),
            (notifier, Some(3), 9, None),
            (other, Some(1), 9, None),
            (other, None, 9, None),
        ] {
            let mut refers = Refers {
                list: refers.list.iter().map(copy).collect(),
            };
            assert_eq!(
                refers.of_notify(from, id, cseq, None, Instant::START),
                expected,
                "{from:?} {id:?} {cseq}"
            );
        }
        for cseq in [0, 5] {
            assert_eq!(
                refers.of_notify(notifier, None, cseq, None, Instant::START),
                Some(ours),
                "{cseq}"
            );
        }
        // A peer that says no id, until it shows that it does for the second.
        assert_eq!(refers.of_notify(notifier, None, 6, None, Instant::START), Some(party));
        assert_eq!(
            refers.of_notify(notifier, Some(2), 7, None, Instant::START),
            Some(party)
        );
        assert_eq!(refers.of_notify(notifier, None, 8, None, Instant::START), Some(ours));
    }

    #[test]
    fn without_an_id_an_earlier_subscription_goes_on_until_the_next_has_begun() {
        let mut servers: SlotMap<ServerKey, ()> = SlotMap::with_key();
        let mut transfers: SlotMap<TransferKey, ()> = SlotMap::with_key();
        let party = Referrer::Party(servers.insert(()));
        let ours = Referrer::Referee(transfers.insert(()));
        let (notifier, now, until) = (Party::Caller, Instant::from_millis(5), Instant::from_millis(10));
        let both = || {
            let mut refers = Refers::default();
            refers.left(ours, notifier, 1, None, Some(until));
            assert_eq!(refers.of_notify(notifier, None, 3, Some(100), now), Some(ours));
            refers.left(party, notifier, 2, Some(3), Some(until));
            refers
        };
        let mut says_ids = both();
        assert_eq!(says_ids.of_notify(notifier, None, 4, Some(180), now), Some(ours));
        assert_eq!(says_ids.of_notify(notifier, Some(2), 5, Some(100), now), Some(party));
        assert_eq!(says_ids.of_notify(notifier, None, 6, Some(200), now), Some(ours));
        let mut says_none = both();
        assert_eq!(says_none.of_notify(notifier, None, 4, Some(100), now), Some(party));
        assert_eq!(says_none.of_notify(notifier, None, 5, Some(200), now), Some(party));
        let mut over = both();
        over.ended(ours);
        assert_eq!(over.of_notify(notifier, None, 4, Some(180), now), Some(party));
        assert_eq!(both().of_notify(notifier, None, 4, Some(180), until), Some(party));
        // One that has begun nothing may begin.
        let mut late = Refers::default();
        late.left(ours, notifier, 1, None, Some(until));
        late.left(party, notifier, 2, Some(3), Some(until));
        assert_eq!(late.of_notify(notifier, None, 4, Some(100), now), Some(ours));
        assert!(late.are_alive(now), "the party's");
        late.ended(party);
        assert!(!late.are_alive(now), "ours keeps none from running");
    }

    fn copy(refer: &Refer) -> Refer {
        Refer { ..*refer }
    }

    #[test]
    fn a_refused_refer_has_no_notifies_unless_there_is_no_other() {
        let mut servers: SlotMap<ServerKey, ()> = SlotMap::with_key();
        let (first, second) = (servers.insert(()), servers.insert(()));
        let (first, second) = (Referrer::Party(first), Referrer::Party(second));
        let mut refers = Refers::default();
        let (now, until) = (Instant::from_millis(5), Some(Instant::from_millis(10)));
        refers.left(first, Party::Callee, 7, None, until);
        refers.left(second, Party::Callee, 8, Some(3), until);
        refers.refused(second);
        assert_eq!(
            refers.of_notify(Party::Callee, None, 4, None, Instant::START),
            Some(first)
        );
        assert!(refers.are_alive(now));
        refers.refused(first);
        assert!(!refers.are_alive(now));
        assert_eq!(
            refers.of_notify(Party::Callee, None, 4, None, Instant::START),
            Some(second)
        );
    }

    #[test]
    fn a_subscription_blocks_until_it_ends_or_nobody_knows_it_or_time_is_up() {
        let mut servers: SlotMap<ServerKey, ()> = SlotMap::with_key();
        let referrer = Referrer::Party(servers.insert(()));
        let until = Instant::from_millis(10);
        let alive = || {
            let mut refers = Refers::default();
            refers.left(referrer, Party::Callee, 7, None, Some(until));
            refers
        };
        let now = Instant::from_millis(9);
        assert!(alive().are_alive(now) && !alive().are_alive(until));
        let mut ended = alive();
        ended.ended(referrer);
        assert!(!ended.are_alive(now));
        assert_eq!(
            ended.of_notify(Party::Callee, None, 1, None, Instant::START),
            Some(referrer)
        );
        let mut unknown = alive();
        unknown.unknown_to_party(Party::Caller);
        assert!(unknown.are_alive(now));
        unknown.unknown_to_party(Party::Callee);
        assert!(!unknown.are_alive(now));
    }

    #[test]
    fn no_more_relayed_refers_than_the_limit_are_kept_and_ours_all() {
        let mut servers: SlotMap<ServerKey, ()> = SlotMap::with_key();
        let mut transfers: SlotMap<TransferKey, ()> = SlotMap::with_key();
        let mut refers = Refers::default();
        for number in 0..3 * RELAYED_MAX as u32 {
            let referrer = match number % 2 {
                0 => Referrer::Party(servers.insert(())),
                _ => Referrer::Referee(transfers.insert(())),
            };
            refers.left(referrer, Party::Caller, number, None, None);
        }
        assert_eq!(refers.list.len(), 12 + RELAYED_MAX);
        assert_eq!(refers.of_notify(Party::Caller, Some(0), 1, None, Instant::START), None);
        assert!(
            refers
                .of_notify(Party::Caller, Some(1), 1, None, Instant::START)
                .is_some()
        );
    }
}
