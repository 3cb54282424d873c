//! Changes of a live call in the form of jambonz: a call is ended, or a hook is asked what runs on it.

use super::attended::Aside;
use super::commands::{asked_for, refusal};
use super::{Output, Shard, is_live};
use crate::application::{QUESTIONS_MAX, admit_relayed};
use crate::call::{Call, CallKey, CallState, Party};
use crate::command::{Reply, Update};
use crate::timer::Instant;
use crate::verb::{self, HookTarget, Verb};
use crate::webhook::{ActionOutcome, Hook, HookKind, Subject, resolve_target};
use serde_json::Value;

/// Questions from this number on are of updates; those below are an application's own.
pub(super) const UPDATES_FROM: u32 = 1 << 31;
const _: () = assert!(QUESTIONS_MAX < UPDATES_FROM);

impl Shard {
    /// A change that does not fit the call's state is refused.
    pub(super) fn on_call_update(&mut self, key: CallKey, update: Update, now: Instant) -> Reply {
        let wrong = |code, detail| Reply::Refused(refusal(422, code, None, detail));
        let call = &self.calls[key];
        let is_served = call.application.is_some();
        match (update, call.state) {
            (_, CallState::Ending | CallState::Ended) => wrong("ended", "The call has ended."),
            (Update::Completed, CallState::Answered) | (Update::NoAnswer, CallState::Trying | CallState::Ringing) => {
                self.on_hangup(key, &[], now)
            }
            (Update::NoAnswer, CallState::Answered) => wrong("answered", "The call is answered."),
            (Update::Completed, CallState::Trying | CallState::Ringing) => {
                wrong("not_answered", "The call is not answered yet.")
            }
            (Update::Hook(_), CallState::Trying | CallState::Ringing) if !is_served => {
                wrong("not_answered", "The call is not answered yet.")
            }
            (Update::Hook(target), CallState::Trying | CallState::Ringing | CallState::Answered) => {
                self.ask_update(key, &target)
            }
        }
    }

    /// Asks the hook. A later update takes the place of one whose answer is not there yet.
    fn ask_update(&mut self, key: CallKey, target: &HookTarget) -> Reply {
        let call = &self.calls[key];
        let id = call.id;
        let (settings, application) = match self.base_of(key) {
            Some((application, base_url)) => (self.hooks_of_application(application, &base_url), Some(application)),
            None => (self.hooks_of(call.trunk(Party::Caller)), None),
        };
        let url = match resolve_target(&target.url, settings.base_url.as_deref()) {
            Ok(url) => url,
            Err(error) => {
                let detail = format!("call_hook {error}.");
                return Reply::Refused(refusal(422, "invalid", Some("call_hook"), &detail));
            }
        };
        let mut body = self.base_fields(key);
        if application.is_none() {
            let facts = self.facts_of(call);
            body = facts.base();
            body.insert("customerData".into(), facts.customer_data.into());
            body.insert("trace_id".into(), id.to_string().into());
        }
        let body = Value::Object(body).to_string();
        let own = target.basic_auth.clone();
        let credentials = own.or_else(|| self.credentials_for(application?, &url));
        self.remember_http(key, false, &format!("POST {}", super::ladders::path_of(&url)), &body);
        let extra = self.calls[key].extra_mut();
        let question = extra
            .updates
            .map_or(UPDATES_FROM, |last| last.wrapping_add(1).max(UPDATES_FROM));
        extra.updates = Some(question);
        extra.awaits_update = true;
        let hook = Hook {
            subject: Subject::Question(id, question),
            kind: HookKind::Question,
            basic_auth: credentials,
            url,
            default_word: false,
            webhook_id: format!("{id}-update-{}", question - UPDATES_FROM),
            body,
            settings,
        };
        self.counters.questions_total += 1;
        self.effects.push_back(Output::Hook(Box::new(hook)));
        Reply::Done
    }

    /// What the hook of an update answered: a list of verbs takes the place of what is left of the one before. On a relayed call
    /// it waits for the end of a transfer that is under way.
    pub(super) fn on_update_answered(&mut self, key: CallKey, question: u32, outcome: ActionOutcome, now: Instant) {
        let Some(extra) = self.calls.get_mut(key).and_then(|call| call.extra_if_any()) else {
            return;
        };
        if extra.updates != Some(question) || !std::mem::take(&mut extra.awaits_update) {
            return;
        }
        let is_failed = outcome == ActionOutcome::Failed;
        let list = outcome.into_list();
        let is_served = self.base_of(key).is_some();
        let verbs = match list.as_ref().map(verb::parse) {
            None => Vec::new(),
            Some(Ok(verbs)) if is_served || admit_relayed(&verbs).is_ok() => verbs,
            Some(_) => {
                self.counters.replies_refused_total += 1;
                return self.remember_http(key, true, "no valid list of verbs", "");
            }
        };
        let said = match (is_failed, verbs.is_empty()) {
            (true, _) => "no good answer".to_owned(),
            (false, true) => "taken".to_owned(),
            (false, false) => asked_for(&verbs),
        };
        self.remember_http(key, true, &said, "");
        if verbs.is_empty() {
            return;
        }
        self.run_update(key, verbs, now);
    }

    /// Runs the list of an update, once the dialogs that it names are known.
    pub(super) fn run_update(&mut self, key: CallKey, verbs: Vec<Verb>, now: Instant) {
        let list = Aside::Update { call: key, verbs };
        let Some(Aside::Update { verbs, .. }) = self.with_dialogs(list, now) else {
            return;
        };
        // It may have ended while another shard was asked, or is to end with the ACK of its answer.
        let is_to_end = |call: &Call| call.extra().is_some_and(|extra| extra.end_after_ack);
        let Some(call) = self
            .calls
            .get(key)
            .filter(|call| is_live(call.state) && !is_to_end(call))
        else {
            return;
        };
        if call.application.is_none() {
            self.replace_list(key, verbs, now);
        } else if self.on_rest_verbs(key, verbs, now).is_err() {
            self.counters.replies_refused_total += 1;
        }
    }
}
