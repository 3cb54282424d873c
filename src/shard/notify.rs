//! NOTIFYs of REFERs: whose they are, what they tell, and the answer to those of ours (RFC 3515 §2.4, RFC 6665 §4.1.3).

use super::Shard;
use super::arrival::Arrival;
use super::refer::learn_swallowed;
use crate::call::refers::Referrer;
use crate::call::{CallKey, Party, TransferKey};
use crate::message::Message;
use crate::message::refer::{Event, Sipfrag};
use crate::proxy::Refused;
use crate::sequence::Origin;
use crate::timer::Instant;
use crate::transfer::Notification;

impl Shard {
    /// A REFER of ours has no response and will have none; it may have arrived all the same.
    pub(super) fn end_refer(&mut self, key: TransferKey) {
        let call = self.transfers.get(key).map(|transfer| transfer.call);
        if let Some(extra) = call.and_then(|call| self.calls.get_mut(call)?.extra_if_any()) {
            extra.refers.ended(Referrer::Referee(key));
        }
    }

    /// A NOTIFY that may be about a REFER of ours. `true`: it was, or is of a call that we have ended, and has its answer. All
    /// others are the parties' own: their subscriptions outlive even their BYE (RFC 5057 §4.2).
    pub(super) fn on_notify(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        key: CallKey,
        party: Party,
        now: Instant,
    ) -> bool {
        let call = &self.calls[key];
        let ended_here = call.extra().is_some_and(|extra| extra.ended_here);
        let event = message.event().ok().flatten();
        if !is_event_of_refer(event.as_ref(), message) {
            if ended_here {
                let answer = Refused::new(489, "Bad Event");
                self.refuse(message, arrival, answer, &[("Allow-Events", b"refer")], now);
            }
            return ended_here;
        }
        let id = event.and_then(|event| event.id_number());
        let cseq = message.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let inserted = id.is_some_and(|id| call.sequence(party.other()).inward(id) == Origin::Inserted);
        let refers = self.calls[key].extra_if_any().map(|extra| &mut extra.refers);
        let referrer = refers.and_then(|refers| {
            let status = Sipfrag::parse(message.body()).map(|frag| frag.code);
            let referrer = refers.of_notify(party, id, cseq, status, now)?;
            if matches!(message.subscription_state(), Ok(Some(state)) if state.terminated) {
                refers.ended(referrer);
            }
            Some(referrer)
        });
        let transfer = match referrer {
            Some(Referrer::Referee(transfer)) if self.transfers.contains_key(transfer) => transfer,
            Some(Referrer::Party(_)) => return false,
            // Who speaks of a REFER that did not pass here speaks to the party, and that one knows best.
            None if !inserted && !ended_here => return false,
            Some(Referrer::Referee(_)) | None => {
                self.refuse(message, arrival, Refused::NO_SUBSCRIPTION, &[], now);
                return true;
            }
        };
        // Requests that the other party does not see count as well: by them later NOTIFYs are told from earlier ones.
        self.calls[key].sequence_mut(party).observe(cseq);
        if self.hear(transfer, message, arrival, now)
            && let Some(call) = self.calls.get_mut(key)
        {
            learn_swallowed(call, party, message);
        }
        true
    }

    /// Gives a NOTIFY of ours to its execution, and answers it. `false`: with a refusal.
    pub(super) fn hear(
        &mut self,
        transfer: TransferKey,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        now: Instant,
    ) -> bool {
        self.counters.notifies_total += 1;
        let frag = Sipfrag::parse(message.body());
        if frag.is_none() {
            self.counters.notifies_unreadable_total += 1;
        }
        let notification = Notification {
            cseq: message.cseq().map(|cseq| cseq.number).unwrap_or_default(),
            status: frag.map(|frag| (frag.code, frag.reason)),
            subscription: message.subscription_state().ok().flatten(),
        };
        let Some(execution) = self.transfers.get_mut(transfer) else {
            return false;
        };
        match execution.on_notify(notification, now) {
            Ok(steps) => {
                self.carry_out(transfer, steps, now);
                let server = self.open_server(message, arrival, now);
                self.counters.answered_total += 1;
                self.answer_notify(server, message, arrival, now);
                true
            }
            Err(crate::transfer::Overtaken) => {
                self.refuse(message, arrival, Refused::OUT_OF_ORDER, &[], now);
                false
            }
        }
    }
}

/// Whether a NOTIFY speaks of a REFER. One without Event does if its body has a status (RFC 3515 §2.4.5).
pub(super) fn is_of_refer(notify: Message<'_>) -> bool {
    is_event_of_refer(notify.event().ok().flatten().as_ref(), notify)
}

fn is_event_of_refer(event: Option<&Event<'_>>, notify: Message<'_>) -> bool {
    match event {
        Some(event) => event.is_refer(),
        None => matches!(notify.content_type(), Ok(Some(media)) if media.is("message/sipfrag")),
    }
}
