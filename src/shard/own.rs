//! Requests of our own within a call, REFER and BYE, and what transfers ask for.

use super::attended::Aside;
use super::saying::{Saying, Unsent};
use super::verbs::{is_lingering, standing_of};
use super::{ClientOwner, Output, Shard, TimerKey, Waiting};
use crate::application::admit_relayed;
use crate::call::refers::Referrer;
use crate::call::{Call, CallKey, CallState, Party, Retarget, Trait, TransferKey};
use crate::config::ReferMode;
use crate::event;
use crate::identifiers::TransferId;
use crate::message::uri::request_uri;
use crate::message::{Header, Message, Method};
use crate::sequence::ROOM;
use crate::timer::Instant;
use crate::transfer::{Answer, Cause, Outcome, Step, Steps, Transfer};
use crate::transport::Flow;
use crate::usage::Refers;
use crate::verb::{SipRefer, Verb};
use crate::webhook::{ActionOutcome, Hook, HookKind, Subject, resolve_target};
use smallvec::SmallVec;
use std::time::Duration;

/// Between two looks whether a call may be forgotten, where the configuration wants no tombstones.
const FORGET_WAIT_MIN: Duration = Duration::from_secs(1);

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

    // ---- the end of a call ----

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

    /// What hooks of a transfer are to say of its call is how that stands now; of one that is over nothing changes.
    fn look_at_call(&mut self, key: TransferKey) {
        let Some(transfer) = self.transfers.get_mut(key) else {
            return;
        };
        let facts = &mut transfer.facts;
        if let Some(call) = self.calls.get(transfer.call).filter(|_| facts.status != "completed") {
            (facts.status, facts.sip_status) = standing_of(call);
            facts.customer_data = call
                .extra()
                .map(|extra| extra.customer_data.clone())
                .unwrap_or_default();
        }
    }

    fn mark_completed(&mut self, key: CallKey) {
        let transfers = self
            .calls
            .get(key)
            .and_then(|call| call.extra())
            .map(|extra| [extra.transfer, extra.last_transfer]);
        for key in transfers.into_iter().flatten().flatten() {
            if let Some(transfer) = self.transfers.get_mut(key) {
                transfer.facts.status = "completed";
            }
        }
    }

    // ---- transfers ----

    /// Enters an execution into the tables and arms its timers.
    pub(super) fn begin_transfer(
        &mut self,
        key: CallKey,
        transfer: Transfer,
        steps: Steps,
        now: Instant,
    ) -> TransferKey {
        let (number, tombstone) = (transfer.id.number, transfer.rules().tombstone);
        let transfer = self.transfers.insert(transfer);
        self.transfer_by_number.insert(number, transfer);
        self.counters.transfers_total += 1;
        self.ladder_of_transfer(key);
        if let Some(call) = self.calls.get_mut(key) {
            let extra = call.extra_mut();
            extra.transfer = Some(transfer);
            extra.transfers += 1;
            extra.tombstone = extra.tombstone.max(Some(tombstone));
        }
        self.carry_out(transfer, steps, now);
        transfer
    }

    /// Gives a transfer an input and carries out its steps.
    pub(super) fn with_transfer(&mut self, key: TransferKey, now: Instant, input: impl FnOnce(&mut Transfer) -> Steps) {
        if let Some(transfer) = self.transfers.get_mut(key) {
            let steps = input(transfer);
            self.carry_out(key, steps, now);
        }
    }

    pub(super) fn carry_out(&mut self, key: TransferKey, steps: Steps, now: Instant) {
        for step in steps {
            match step {
                Step::Arm(timer, wait) => {
                    let at = self.timers.arm_once(now, wait, TimerKey::Transfer(key, timer));
                    if let Some(transfer) = self.transfers.get_mut(key) {
                        transfer.armed(timer, at);
                    }
                }
                Step::Resend => self.send_refer(key, now),
                Step::Event {
                    status,
                    cseq,
                    subscription_state,
                    late,
                } => {
                    let step = if late { event::Step::Late } else { event::Step::Event };
                    self.tell_step(key, step, Some(status.code));
                    self.look_at_call(key);
                    let Some(transfer) = self.transfers.get(key) else {
                        continue;
                    };
                    let Some(target) = &transfer.verb.event_hook else {
                        continue;
                    };
                    let body = transfer.event_body(&status, subscription_state.as_deref(), late);
                    let id = format!("{}-event-{cseq}", transfer.id);
                    let (url, auth) = (target.url.clone(), target.basic_auth.clone());
                    self.post(key, HookKind::Event, &url, auth, false, id, body);
                    self.counters.events_total += 1;
                }
                Step::Action => self.conclude(key, now),
                Step::EndCall => {
                    let Some(call) = self.transfers.get(key).map(|transfer| transfer.call) else {
                        continue;
                    };
                    let headers = self.last_words(call);
                    self.end_both(call, &headers, Cause::CallEnded, now);
                }
                Step::Suspect => {
                    if let Some(transfer) = self.transfers.get(key) {
                        let (call, party) = (transfer.call, transfer.party);
                        self.suspect(call, party, now);
                    }
                }
            }
        }
        self.forget_transfers();
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

    /// The one action of an execution; the transfer becomes one that ended.
    fn conclude(&mut self, key: TransferKey, now: Instant) {
        let Some(transfer) = self.transfers.get(key) else {
            return;
        };
        let (request, is_unheard_of) = (transfer.request(), transfer.is_unheard_of());
        match transfer.verdict().map(|verdict| verdict.result) {
            Some(Outcome::Success) => self.counters.transfers_success_total += 1,
            Some(Outcome::Failed) => self.counters.transfers_failed_total += 1,
            Some(Outcome::Canceled) => self.counters.transfers_canceled_total += 1,
            Some(Outcome::Unknown) | None => self.counters.transfers_unknown_total += 1,
        }
        if let Some(request) = request {
            // What has failed, or is not wanted any more, must not be carried out late.
            self.transactions.leave(request, &mut self.timers, now);
        }
        if is_unheard_of {
            self.end_refer(key);
        }
        self.look_at_call(key);
        let Some(transfer) = self.transfers.get(key) else {
            return;
        };
        let body = transfer.action_body();
        let verb_id = transfer.verb.id.clone();
        let id = format!("{}-action", transfer.id);
        let (target, call) = (transfer.verb.action_hook.clone(), transfer.call);
        let is_default = target.is_none();
        let (url, auth) = target.map_or((DEFAULT_HOOK.into(), None), |target| (target.url, target.basic_auth));
        let is_posted = self.post(key, HookKind::Action, &url, auth, is_default, id, body);
        if let Some(transfer) = self.transfers.get_mut(key) {
            transfer.awaits_outcome = is_posted;
        }
        if let Some(extra) = self.calls.get_mut(call).and_then(|call| call.extra_if_any()) {
            extra.transfer = None;
            extra.last_transfer = Some(key);
        }
        if !is_posted {
            // Nobody will answer: what is left of the list runs, once the other steps of this end are carried out.
            self.arm(now, Duration::ZERO, TimerKey::Pause(call));
        } else if let Some(extra) = self.calls.get_mut(call).and_then(Call::extra_if_any) {
            extra.awaits_reply = true;
        }
        self.remembered.push_back(key);
        self.tell_step(key, event::Step::Verdict, None);
        self.tell_verb(call, "sip:refer", verb_id.as_deref(), "finished");
    }

    /// Forgets the oldest executions beyond the limit: one that is still to end its call once it has, one whose action is not
    /// answered once it is, since the rest of the call's list waits for that.
    fn forget_transfers(&mut self) {
        while self.remembered.len() > self.config().limits.transfers_remembered {
            let is_done = |key: &TransferKey| {
                let transfer = self.transfers.get(*key);
                transfer.is_none_or(|transfer| !transfer.is_lingering() && !transfer.awaits_outcome)
            };
            let Some(key) = self.remembered.iter().position(is_done) else {
                return;
            };
            let Some(forgotten) = self.remembered.remove(key).and_then(|key| self.transfers.remove(key)) else {
                continue;
            };
            if let Some(dialog) = forgotten.outside {
                self.outside.remove(&dialog);
            }
            self.counters.transfers_forgotten_total += 1;
            #[cfg(feature = "sim")]
            self.coverage.add(&forgotten.coverage());
            self.transfer_by_number.remove(&forgotten.id.number);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a hook is just these")]
    fn post(
        &mut self,
        key: TransferKey,
        kind: HookKind,
        target: &str,
        basic_auth: Option<(String, String)>,
        default_word: bool,
        webhook_id: String,
        body: String,
    ) -> bool {
        let Some(transfer) = self.transfers.get(key) else {
            return false;
        };
        let (id, call) = (transfer.id, transfer.call);
        let mut settings = match &transfer.application {
            Some((application, base_url)) => self.hooks_of_application(*application, base_url),
            None => self.hooks_of(transfer.trunk),
        };
        settings.timeout = transfer.rules().hook_timeout.unwrap_or(settings.timeout);
        settings.events_wait = transfer.rules().events_wait.unwrap_or(settings.events_wait);
        // Relative targets without a base were refused with the verb; the default word then just has nowhere to go.
        let Ok(url) = resolve_target(target, settings.base_url.as_deref()) else {
            return false;
        };
        let application = transfer.application.as_ref().map(|(application, _)| *application);
        if self.has_ladder(call) {
            self.remember_http(call, false, &format!("POST {}", super::ladders::path_of(&url)), &body);
        }
        let credentials = || self.credentials_for(application?, &url);
        let hook = Hook {
            subject: Subject::Transfer(id),
            kind,
            basic_auth: basic_auth.or_else(credentials),
            url,
            webhook_id,
            body,
            settings,
            default_word,
        };
        if kind == HookKind::Action {
            self.counters.actions_total += 1;
        }
        self.effects.push_back(Output::Hook(Box::new(hook)));
        true
    }

    /// What the application answered to an action. A list of verbs replaces what is left of the one before.
    pub(super) fn on_action_outcome(&mut self, id: TransferId, outcome: ActionOutcome, now: Instant) {
        let is_failed = outcome == ActionOutcome::Failed;
        let is_canceled = self.transfer_by_number.get(&id.number).is_some_and(|key| {
            let verdict = self.transfers.get(*key).and_then(Transfer::verdict);
            verdict.is_some_and(|verdict| verdict.result == Outcome::Canceled)
        });
        let call = self.transfer_by_number.get(&id.number);
        let call = call
            .and_then(|key| self.transfers.get(*key))
            .map(|transfer| transfer.call);
        let reply = outcome.into_list().filter(|_| !is_canceled);
        let served = call.filter(|call| self.served.contains_key(call));
        let verbs = match (reply, served) {
            (None, _) => Vec::new(),
            (Some(reply), Some(call)) => self.verbs_of_reply(call, &reply).unwrap_or_default(),
            (Some(reply), None) => match crate::verb::parse(&reply) {
                Ok(verbs) if admit_relayed(&verbs).is_ok() => verbs,
                Ok(_) | Err(_) => {
                    self.counters.replies_refused_total += 1;
                    Vec::new()
                }
            },
        };
        self.remember_answer(id, is_failed, &verbs);
        self.on_reply(id, verbs, now);
    }

    pub(super) fn on_reply(&mut self, id: TransferId, verbs: Vec<Verb>, now: Instant) {
        let list = Aside::Reply { transfer: id, verbs };
        let Some(Aside::Reply { mut verbs, .. }) = self.with_dialogs(list, now) else {
            return;
        };
        let Some(key) = self.transfer_by_number.get(&id.number).copied() else {
            return;
        };
        let Some(transfer) = self.transfers.get_mut(key) else {
            return;
        };
        transfer.awaits_outcome = false;
        let call = transfer.call;
        let ends_call = transfer.ends_call();
        let per_call_max = self.config().transfer.per_call_max;
        if let Some(call) = self.calls.get_mut(call) {
            let extra = call.extra_mut();
            // One that was replaced is answered while another may be waited for, or none since other verbs came.
            let is_awaited = extra.last_transfer == Some(key) && std::mem::take(&mut extra.awaits_reply);
            if !is_awaited || extra.end_after_ack {
                // A hangup that waits for the ACK of the answer is the last word.
                verbs.clear();
            }
            if extra.transfers > per_call_max {
                // It has been told that this call has had its transfers. One more each time would never end.
                verbs.retain(|verb| !matches!(verb, Verb::SipRefer(_)));
            }
            if !verbs.is_empty() {
                extra.verbs = verbs.into();
                extra.paused_until = None;
            }
        }
        self.with_transfer(key, now, |transfer| transfer.on_action_outcome());
        if ends_call {
            // Where the call has ended before this, what is said of it counts all the same.
            self.last_words(call);
        }
        self.run_verbs(call, now);
    }

    /// Of what is left to run on a call that a transfer ends only `tag` counts, and `hangup` for its headers.
    fn last_words(&mut self, key: CallKey) -> Vec<(String, String)> {
        let Some(extra) = self.calls.get_mut(key).and_then(Call::extra_if_any) else {
            return Vec::new();
        };
        let mut headers = None;
        for verb in std::mem::take(&mut extra.verbs) {
            match verb {
                Verb::Tag { data, .. } => self.counters.tags_refused_total += u64::from(!extra.tag(data)),
                Verb::Hangup { headers: of_bye, .. } => headers = headers.or(Some(of_bye)),
                _ => {}
            }
        }
        headers.unwrap_or_default()
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

/// Where an action goes when the verb does not say.
pub(super) const DEFAULT_HOOK: &str = "refer";

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

/// CSeq numbers that a request of ours leaves to others.
pub(super) fn room_behind(method: Method) -> u32 {
    if method == Method::Bye { 0 } else { ROOM }
}

/// A flow as hooks name it.
pub(super) fn ip_of(flow: Flow) -> String {
    flow.peer.ip().to_canonical().to_string()
}
