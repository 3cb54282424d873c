//! How calls end: by a BYE of a party, by BYEs of ours, by none; and what is kept of them for a while.

use super::saying::Unsent;
use super::verbs::is_lingering;
use super::{ClientOwner, Shard, TimerKey, Waiting};
use crate::call::{Call, CallKey, CallState, Party};
use crate::message::Method;
use crate::timer::Instant;
use crate::transfer::Cause;
use smallvec::SmallVec;
use std::time::Duration;

/// Between two looks whether a call may be forgotten, where the configuration wants no tombstones.
const FORGET_WAIT_MIN: Duration = Duration::from_secs(1);

impl Shard {
    /// BYE to both parties, each as the other, in one batch. A transfer that still runs on the call ends with it, for `cause`.
    pub(super) fn end_both(&mut self, key: CallKey, headers: &[(String, String)], cause: Cause, now: Instant) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.state != CallState::Answered {
            return;
        }
        call.state = CallState::Ending;
        let extra = call.extra_mut();
        extra.ended_here = true;
        extra.bye_headers = headers.to_vec();
        let transfers = [extra.transfer, extra.last_transfer];
        let others = call.others();
        call.extra_mut().byes_open = others.len() as u8;
        self.tell_completed(key, "referee", now);
        self.tell_call(key);
        for party in others {
            self.send_bye(key, *party, now);
        }
        self.end_held(key, now);
        self.mark_completed(key);
        for transfer in transfers.into_iter().flatten() {
            self.with_transfer(transfer, now, |transfer| transfer.on_ended_here(cause, now));
        }
    }

    pub(super) fn send_bye(&mut self, key: CallKey, party: Party, now: Instant) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let headers = call.extra_mut().bye_headers.clone();
        let lines: SmallVec<[(&str, &[u8]); 4]> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        match self.send_own(key, party, Method::Bye, ClientOwner::Bye(key, party), &lines, now) {
            Ok(_) => {}
            Err(Unsent::Wait(name)) => {
                if self.wait_for(&name, Waiting::Bye(key, party)).is_err() {
                    self.on_bye_answered(key, now);
                }
            }
            Err(Unsent::Unreachable | Unsent::Never) => {
                self.counters.unroutable_total += 1;
                self.on_bye_answered(key, now);
            }
        }
    }

    /// One of our BYEs has its answer, or will never have one.
    pub(super) fn on_bye_answered(&mut self, key: CallKey, now: Instant) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let extra = call.extra_mut();
        extra.byes_open = extra.byes_open.saturating_sub(1);
        if extra.byes_open == 0 && call.state == CallState::Ending {
            self.end_call(key, now);
        }
    }

    /// A party says that it knows no such dialog. Dropping one REFER is common and must not cost the call; twice is the truth.
    pub(super) fn suspect(&mut self, key: CallKey, party: Party, now: Instant) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let extra = call.extra_mut();
        match extra.suspect.replace(party) {
            Some(again) if again == party => self.end_both(key, &[], Cause::CallEnded, now),
            _ => {}
        }
    }

    /// A BYE of a party is relayed: transfers hear of it at once.
    pub(super) fn on_relayed_bye(&mut self, key: CallKey, from: Party, reason: Option<&[u8]>, now: Instant) {
        self.mark_completed(key);
        if let Some(extra) = self.calls.get_mut(key).and_then(Call::extra_if_any) {
            // What was still to run has no call to run on.
            extra.verbs.clear();
        }
        let extra = self.calls.get(key).and_then(Call::extra);
        let last = extra.and_then(|extra| extra.last_transfer);
        let last = last.filter(|last| is_lingering(&self.transfers, *last));
        // One that has succeeded waits for its action to end the call, which ends of itself now.
        for transfer in [extra.and_then(|extra| extra.transfer), last].into_iter().flatten() {
            self.with_transfer(transfer, now, |transfer| transfer.on_bye(from, reason, now));
        }
    }

    /// The dialog is over. A call that had REFERs stays as a tombstone, so that late NOTIFYs still find their way (RFC 5057 §4),
    /// and so does one that we ended: a party that did not know yet may have hung up as well. One with requests of ours in its
    /// numbers, or with an INVITE of ours that has no answer, stays for what is still under way.
    pub(super) fn end_call(&mut self, key: CallKey, now: Instant) {
        self.end_held(key, now);
        let Some(call) = self.calls.get(key) else { return };
        let (tombstone, transaction) = (self.tombstone_of(call), 64 * self.config().timers.t1);
        let digest = self.tag_digest(call.tag(Party::Callee).unwrap_or_default());
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.state == CallState::Ended {
            return;
        }
        // Before the answer its numbers are those of the early dialog that was shown last.
        let shown = call.take_early(digest);
        call.continue_early(shown);
        let is_served = call.application.is_some();
        // Another target may still answer an INVITE that it has under another number.
        let is_numbered = call.is_shifted() || call.is_renumbered;
        let is_asking = self
            .served
            .get(&key)
            .and_then(|served| served.refresh)
            .is_some_and(|refresh| refresh.method == Method::Invite);
        if call
            .extra()
            .is_some_and(|extra| extra.ended_here || extra.transfer.is_some() || extra.has_referred())
            || is_numbered
            || is_asking
        {
            call.state = CallState::Ended;
            call.places.give_back();
            // A request that was under way ends as it began, the ACK of an INVITE included: by the numbers of the dialog.
            let wait = match is_numbered || is_asking {
                true => tombstone.max(transaction),
                false => tombstone,
            };
            self.arm(now, wait, TimerKey::Forget(key));
            if is_served {
                self.forget_served(key, now);
            }
            self.tell_call(key);
        } else {
            self.remove_call(key);
        }
    }

    /// How long late NOTIFYs still find their way (T_tomb): as long as the longest of its transfers says, else of its trunks.
    fn tombstone_of(&self, call: &Call) -> Duration {
        call.extra().and_then(|extra| extra.tombstone).unwrap_or_else(|| {
            let [a, b] =
                [Party::Caller, Party::Callee].map(|party| self.config().trunk(call.trunk(party)).refer.tombstone);
            a.max(b)
        })
    }

    /// A BYE has its final response, or will never have one, in a dialog that was none of a call when it came: the callee's 2xx was
    /// lost, or it overtook that. If the 2xx has come since, its call ends; otherwise there will be none that lives.
    pub(super) fn end_early(&mut self, first: CallKey, callee: u64, from: Party, now: Instant) {
        let Some(call) = self.calls.get(first) else { return };
        let calls = self.by_call_id.get(&self.call_id_digest(call.call_id()));
        let answered = calls.into_iter().flatten().copied().find(|key| {
            self.calls.get(*key).is_some_and(|call| {
                let tag = call.tag(Party::Callee).unwrap_or_default();
                call.traversal == first && call.state == CallState::Answered && self.tag_digest(tag) == callee
            })
        });
        match answered {
            Some(key) => {
                self.on_relayed_bye(key, from, None, now);
                self.end_call(key, now);
            }
            None => {
                if let Some(early) = self.calls[first].early_if_any() {
                    early.end(callee);
                }
            }
        }
    }

    /// The INVITE of a call was refused. What its parties still say in its early dialogs must not go by other numbers than before
    /// (RFC 3261 §12.2.1.1): where these are shifted the call is kept for a while.
    pub(super) fn end_refused(&mut self, key: CallKey, now: Instant) {
        match self.calls.get(key).is_some_and(Call::is_shifted) {
            true => self.end_call(key, now),
            false => self.remove_call(key),
        }
    }

    pub(super) fn on_forget(&mut self, key: CallKey, now: Instant) {
        let Some(call) = self.calls.get(key) else { return };
        let tombstone = self.tombstone_of(call);
        // The NOTIFYs still tell, until T_total; those of a party are told from late ones of ours as long as the call is known.
        if call.extra().is_some_and(|extra| extra.is_referring(now)) {
            self.arm(now, tombstone.max(FORGET_WAIT_MIN), TimerKey::Forget(key));
        } else {
            self.remove_call(key);
        }
    }

    pub(super) fn remove_call(&mut self, key: CallKey) {
        if self.served.contains_key(&key) {
            self.forget_served(key, self.now);
        }
        let Some(mut call) = self.calls.remove(key) else { return };
        if std::mem::replace(&mut call.state, CallState::Ended) != CallState::Ended {
            self.tell_removed_call(&call);
        }
        self.by_number.remove(&call.id.number);
        self.by_order.remove(&call.order);
        let digest = self.call_id_digest(call.call_id());
        if let hashbrown::hash_map::Entry::Occupied(mut entry) = self.by_call_id.entry(digest) {
            entry.get_mut().retain(|other| *other != key);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }
}
