//! What transfers ask for: their steps carried out, their hooks posted, the verbs that come back run.

use super::attended::Aside;
use super::verbs::standing_of;
use super::{Output, Shard, TimerKey};
use crate::application::admit_relayed;
use crate::call::{Call, CallKey, TransferKey};
use crate::event;
use crate::identifiers::TransferId;
use crate::timer::Instant;
use crate::transfer::{Cause, Outcome, Step, Steps, Transfer};
use crate::verb::Verb;
use crate::webhook::{ActionOutcome, Hook, HookKind, Subject, resolve_target};
use std::time::Duration;

/// Where an action goes when the verb does not say.
pub(super) const DEFAULT_HOOK: &str = "refer";

impl Shard {
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

    pub(super) fn mark_completed(&mut self, key: CallKey) {
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
}
