//! REFERs of our own within a call: what they wait for, what is sent, and what their answers mean.

use super::saying::{Saying, Unsent};
use super::{ClientOwner, Shard, TimerKey, Waiting};
use crate::call::refers::Referrer;
use crate::call::{Call, CallKey, Party, Retarget, Trait, TransferKey};
use crate::config::ReferMode;
use crate::event;
use crate::message::uri::request_uri;
use crate::message::{Header, Message, Method};
use crate::timer::Instant;
use crate::transfer::{Answer, Cause};
use crate::usage::Refers;
use crate::verb::SipRefer;
use smallvec::SmallVec;
use std::time::Duration;

/// The header lines that make a request a REFER of ours, the verb's own last.
pub(super) fn refer_lines<'a>(
    refer_to: &'a str,
    referred_by: &'a str,
    verb: &'a SipRefer,
) -> SmallVec<[(&'a str, &'a [u8]); 8]> {
    let mut lines: SmallVec<[(&str, &[u8]); 8]> = SmallVec::new();
    lines.push(("Refer-To", refer_to.as_bytes()));
    lines.push(("Referred-By", referred_by.as_bytes()));
    if verb.subscription {
        lines.push(("Supported", b"replaces"));
    } else {
        // RFC 4488 §4
        lines.push(("Supported", b"replaces, norefersub"));
        lines.push(("Refer-Sub", b"false"));
    }
    lines.extend(
        verb.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes())),
    );
    lines
}

impl Shard {
    pub(super) fn send_refer(&mut self, key: TransferKey, now: Instant) {
        let Some(transfer) = self.transfers.get(key) else {
            return;
        };
        if !transfer.is_sending() {
            return;
        }
        let (call, queue) = (transfer.call, transfer.rules().queue_timeout);
        let waits = match self.awaits_ack(call, now) {
            true => Some(None),
            false => self.awaits_answer(call, queue, now).map(Some),
        };
        if let Some(until) = waits {
            self.calls[call].extra_mut().refer_waits = Some((key, until));
            return;
        }
        self.send_refer_now(key, now);
    }

    fn send_refer_now(&mut self, key: TransferKey, now: Instant) {
        let Some(transfer) = self.transfers.get(key).filter(|transfer| transfer.is_sending()) else {
            return;
        };
        let (call, party) = (transfer.call, transfer.party);
        let (refer_to, referred_by) = (transfer.refer_to.clone(), transfer.referred_by.clone());
        let verb = transfer.verb.clone();
        let sent = match transfer.rules().refer_mode {
            ReferMode::InDialog => {
                let lines = refer_lines(&refer_to, &referred_by, &verb);
                let owner = ClientOwner::Refer(key);
                let sent = self.send_saying(call, party, &Saying::of(Method::Refer, &lines), owner, now);
                sent.map(|(number, client)| (client, Some(number)))
            }
            ReferMode::OutOfDialog => self.send_outside(key, now).map(|client| (client, None)),
        };
        match sent {
            Ok((client, number)) => {
                self.with_transfer(key, now, |transfer| transfer.sent(client));
                self.tell_step(key, event::Step::Sent, None);
                // What is outside the dialog has nothing to do with its numbers.
                let Some(number) = number else { return };
                let hold = self.config().transfer.hold;
                let alive_until = Some(now + self.config().transfer.total_timeout_max);
                if let Some(call) = self.calls.get_mut(call) {
                    let after = call.sequence(party).highest();
                    let refers = &mut call.extra_mut().refers;
                    refers.left(Referrer::Referee(key), party, number, after, alive_until);
                    call.extra_mut().hold = Some((party.other(), now + hold));
                }
                self.arm(now, hold, TimerKey::Hold(call));
            }
            Err(Unsent::Wait(name)) => {
                if self.wait_for(&name, Waiting::Refer(key)).is_err() {
                    self.with_transfer(key, now, |transfer| transfer.on_transport_failed(now));
                }
            }
            Err(Unsent::Unreachable) => {
                self.counters.unroutable_total += 1;
                self.with_transfer(key, now, |transfer| transfer.on_transport_failed(now));
            }
            Err(Unsent::Never) => self.with_transfer(key, now, |transfer| transfer.on_unsendable(now)),
        }
    }

    /// Whether the answer of a call has no ACK yet and may still get one. Until then nothing of ours goes into its dialog: the
    /// callee sends no BYE before (RFC 3261 §15), and the caller nothing that could overtake it (§13.2.2.4).
    pub(super) fn awaits_ack(&mut self, key: CallKey, now: Instant) -> bool {
        let Some(call) = self.calls.get(key).filter(|call| !call.is_acked) else {
            return false;
        };
        let until = call.answered.unwrap_or(now) + 64 * self.config().timers.t1;
        if until <= now {
            return false;
        }
        self.timers.arm_once(now, until.since(now), TimerKey::NoAck(key));
        true
    }

    /// No ACK came in time. Where the answer was our own, its repeats end the call.
    pub(super) fn on_no_ack(&mut self, key: CallKey, now: Instant) {
        let is_repeated = self.served.get(&key).is_some_and(|served| served.answer.is_some());
        if !is_repeated {
            self.release_after_ack(key, now);
        }
    }

    /// Whether an INVITE within the dialog has no answer yet, or as its user agent no ACK: many peers refuse another request
    /// meanwhile. Our REFER waits for that, for so long (T_queue): until when.
    fn awaits_answer(&mut self, key: CallKey, queue: Duration, now: Instant) -> Option<Instant> {
        let invite = self.calls.get(key).and_then(|call| call.invite);
        let context = invite.and_then(|invite| self.contexts.get(self.context_of(invite)?));
        let is_relayed = context.is_some_and(|context| !context.is_initial && context.pending().next().is_some());
        let is_ours = self.served.get(&key).is_some_and(|served| served.has_open_invite());
        let waits = (is_relayed || is_ours) && !queue.is_zero();
        waits.then(|| self.arm(now, queue, TimerKey::Queue(key)))
    }

    /// T_queue is over that was to end at `at`; a REFER that waits since then has its own.
    pub(super) fn on_queue_over(&mut self, key: CallKey, at: Instant, now: Instant) {
        let waits = self.calls.get(key).and_then(|call| call.extra()?.refer_waits);
        if waits.is_some_and(|(_, until)| until == Some(at)) {
            self.release_refer(key, now);
        }
    }

    /// The INVITE has its answer, or T_queue is over.
    pub(super) fn release_refer(&mut self, key: CallKey, now: Instant) {
        let extra = self.calls.get_mut(key).and_then(Call::extra_if_any);
        if let Some((refer, _)) = extra.and_then(|extra| extra.refer_waits.take()) {
            self.send_refer_now(refer, now);
        }
    }

    /// The ACK has passed, or none came in time: what waited for it.
    pub(super) fn release_after_ack(&mut self, key: CallKey, now: Instant) {
        let Some(extra) = self.calls.get_mut(key).and_then(Call::extra_if_any) else {
            return;
        };
        let (refer, ends) = (extra.refer_waits.take(), std::mem::take(&mut extra.end_after_ack));
        if ends {
            let headers = std::mem::take(&mut extra.bye_headers);
            self.end_both(key, &headers, Cause::Hangup, now);
        } else if let Some((refer, _)) = refer {
            self.send_refer(refer, now);
        }
    }

    pub(super) fn on_refer_answered(&mut self, key: TransferKey, message: Message<'_>, code: u16, now: Instant) {
        let Some(transfer) = self.transfers.get(key) else {
            return;
        };
        let (call_key, party) = (transfer.call, transfer.party);
        let (is_within, glare_wait) = (transfer.outside.is_none(), transfer.rules().glare_wait);
        let was_given_up = transfer.is_over() && transfer.is_unheard_of();
        let alive_until = now + self.config().transfer.total_timeout_max;
        self.release_held(call_key, now);
        if code < 200 {
            return;
        }
        if let (Some(refers), Some(call)) = (Refers::told_by(code), self.calls.get(call_key)) {
            self.setup.usage.show_refers(call.trunk(party), refers);
        }
        let number = message.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let refer_sub_false = refuses_subscription(message);
        let mut overtaken = false;
        if let Some(call) = self.calls.get_mut(call_key).filter(|_| is_within) {
            let refers = &mut call.extra_mut().refers;
            if code >= 300 || refer_sub_false {
                refers.refused(Referrer::Referee(key));
            } else if was_given_up {
                refers.accepted_late(Referrer::Referee(key), alive_until);
            }
            let sequence = call.sequence(party.other());
            overtaken = sequence
                .highest()
                .and_then(|highest| sequence.outward(highest))
                .is_some_and(|last| last > number);
            if code < 300 {
                learn_swallowed(call, party, message);
            }
        }
        // RFC 3261 §14.1: the side that made the Call-ID waits longer. We speak for the caller when the callee gets the REFER.
        let (least, span) = if party == Party::Callee {
            (2_100, 1_900)
        } else {
            (0, 2_000)
        };
        let glare_wait =
            glare_wait.unwrap_or_else(|| Duration::from_millis(least + 10 * self.random.below(span / 10 + 1)));
        let reason = match message.start_line() {
            crate::message::StartLine::Response { reason, .. } => reason,
            crate::message::StartLine::Request { .. } => b"",
        };
        let contact = match code {
            300..=399 => message.name_addrs(Header::Contact).next().and_then(Result::ok),
            _ => None,
        };
        let answer = Answer {
            code,
            reason,
            refer_sub_false,
            retry_after: message.retry_after().ok().flatten().map(|wait| wait.seconds),
            contact: contact.as_ref().map(|contact| contact.uri),
            overtaken,
            glare_wait,
        };
        let Some(transfer) = self.transfers.get_mut(key) else {
            return;
        };
        let is_accepted = code < 300 && !transfer.is_over();
        let steps = transfer.on_response(answer, now);
        if is_accepted {
            self.tell_step(key, event::Step::Accepted, Some(code));
        }
        self.carry_out(key, steps, now);
    }
}

/// Whether the 2xx to a REFER says that it makes no subscription (RFC 4488 §4).
pub(super) fn refuses_subscription(response: Message<'_>) -> bool {
    matches!(response.refer_sub(), Ok(Some(refer_sub)) if !refer_sub.subscribes)
}

/// A Contact that the other party does not get to see: its requests to the old URI will be sent to the new one.
pub(super) fn learn_swallowed(call: &mut Call, party: Party, message: Message<'_>) {
    let old: Box<[u8]> = Box::from(&request_uri(call.target(party))[..]);
    if let Some(contact) = message.value(Header::Contact).filter(|contact| !contact.is_empty()) {
        call.set(party, Trait::Contact, contact);
    }
    let new: Box<[u8]> = Box::from(&request_uri(call.target(party))[..]);
    if old != new {
        let retarget = &mut call.extra_mut().retargets[party as usize];
        // What the other party knows stays the oldest.
        let known = retarget.take().map_or(old, |retarget| retarget.known);
        *retarget = Some(Retarget { known, now: new });
    }
}
