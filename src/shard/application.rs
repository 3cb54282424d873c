//! Calls led by an application: it is asked when one comes in, told how it goes, and its verbs are carried out.
//!
//! What is said to the caller is in `uas`; what runs next, and what an answer means, in [`crate::application`].

use super::attended::Aside;
use super::commands::refusal;
use super::uas::{Unacknowledged, Unpracked};
use super::update::UPDATES_FROM;
use super::verbs::is_lingering;
use super::{Output, Shard, TimerKey, is_live};
use crate::application::{Admitted, Asked, Program, admit, read};
use crate::call::{CallKey, CallState, Party};
use crate::command::{Refusal, Reply};
use crate::config::{Application, ApplicationId, OnUnanswered};
use crate::identifiers::CallId;
use crate::message::{Header, Message, Method};
use crate::offer_answer::OfferAnswer;
use crate::session_timer::agent::{Agent, Agreed};
use crate::timer::Instant;
use crate::verb::{HookTarget, SipRefer, SipRequest, Verb};
use crate::webhook::{ActionOutcome, Hook, HookKind, HookSettings, Subject, is_same_origin, resolve_target};
use serde_json::{Map, Value, json};
use smallvec::SmallVec;

/// What a call has that an application leads, until it is over.
#[derive(Debug)]
pub(super) struct Served {
    pub application: ApplicationId,
    pub program: Program,
    pub session: OfferAnswer,
    pub timer: Agent,
    /// What the INVITE asks of a session timer.
    pub agreed: Agreed,
    /// The offer of the INVITE, until it is answered.
    pub offer: Option<Box<[u8]>>,
    pub invite_number: u32,
    /// The caller takes no provisional response that it cannot acknowledge (RFC 3262 §3).
    pub requires_prack: bool,
    pub rseq: u32,
    pub answer: Option<Unacknowledged>,
    pub provisional: Option<Unpracked>,
    /// A refresh of the session, ours, that has no final response.
    pub refresh: Option<super::refresh::Refresh>,
    /// The caller lists UPDATE and does not take it.
    pub refuses_update: bool,
    /// When the session is looked at next.
    pub look_at: Option<Instant>,
    /// Requests of the application's own that have no final response, at most [`REQUESTS_MAX`].
    pub requests: SmallVec<[(u32, Box<SipRequest>); 1]>,
    /// Relative hooks go to its origin.
    base_url: String,
    status_hook: Option<String>,
    /// Told of the caller's INFO and MESSAGE requests.
    request_hook: Option<HookTarget>,
    statuses: u32,
    sip_status: (u16, String),
}

/// Requests of its own that an application may have open in one call; a further one fails at once.
const REQUESTS_MAX: usize = 8;

impl Served {
    /// Whether an INVITE of the dialog is open: one of ours without a final response, or the caller's without an ACK.
    pub fn has_open_invite(&self) -> bool {
        let is_invite = |refresh: super::refresh::Refresh| refresh.method == Method::Invite;
        self.answer.is_some() || self.refresh.is_some_and(is_invite)
    }

    pub fn new(
        settings: &Application,
        application: ApplicationId,
        session: OfferAnswer,
        offer: Option<&[u8]>,
        agreed: Agreed,
        invite: Message<'_>,
    ) -> Served {
        Served {
            application,
            program: Program::default(),
            session,
            timer: Agent::default(),
            agreed,
            offer: offer.map(Box::from),
            invite_number: invite.cseq().map(|cseq| cseq.number).unwrap_or_default(),
            requires_prack: invite.lists(Header::Require, "100rel"),
            rseq: 0,
            answer: None,
            provisional: None,
            refresh: None,
            refuses_update: false,
            look_at: None,
            requests: SmallVec::new(),
            base_url: settings.call_hook.clone(),
            status_hook: settings.call_status_hook.clone(),
            request_hook: None,
            statuses: 0,
            sip_status: (100, "Trying".to_owned()),
        }
    }
}

impl Shard {
    // ---- what the application is told ----

    /// Hook settings of a call that an application leads; relative hooks go to the origin of `base_url`.
    pub(super) fn hooks_of_application(&self, application: ApplicationId, base_url: &str) -> HookSettings {
        let (hooks, application) = (&self.config().hooks, self.config().application(application));
        let all = HookSettings::of(hooks);
        HookSettings {
            base_url: Some(base_url.to_owned()),
            secret: application.secret.clone().or(all.secret),
            jambonz_secret: application.jambonz_secret.clone().or(all.jambonz_secret),
            ..all
        }
    }

    /// Credentials for a hook that has none of its own: the application's, for its origin and for no other.
    pub(super) fn credentials_for(&self, application: ApplicationId, url: &str) -> Option<(String, String)> {
        let application = self.config().application(application);
        let is_its_own = is_same_origin(url, &application.call_hook);
        application.basic_auth.clone().filter(|_| is_its_own)
    }

    /// Where relative hooks of a call go, if an application leads it.
    pub(super) fn base_of(&self, key: CallKey) -> Option<(ApplicationId, String)> {
        let served = self.served.get(&key)?;
        Some((served.application, served.base_url.clone()))
    }

    /// The fields that every hook about the call has.
    pub(super) fn base_fields(&self, key: CallKey) -> Map<String, Value> {
        let (Some(call), Some(served)) = (self.calls.get(key), self.served.get(&key)) else {
            return Map::new();
        };
        let facts = self.facts_of(call);
        let mut body = facts.base();
        body.insert("customerData".into(), facts.customer_data.into());
        let (code, reason) = &served.sip_status;
        body.insert("sip_status".into(), (*code).into());
        body.insert("sip_reason".into(), reason.clone().into());
        body.insert("trace_id".into(), call.id.to_string().into());
        body
    }

    /// Tells how the call stands now. `sip`: what its INVITE was answered with.
    pub(super) fn tell_status(&mut self, key: CallKey, status: &'static str, sip: Option<(u16, &str)>) {
        if let (Some(served), Some((code, reason))) = (self.served.get_mut(&key), sip) {
            served.sip_status = (code, reason.to_owned());
        }
        if matches!(status, "failed" | "busy" | "no-answer") {
            self.tell_verb_status(key, true);
        }
        let mut body = self.base_fields(key);
        body.insert("call_status".into(), status.into());
        self.give_out(key, body);
    }

    /// Tells that an answered call is over, and who has ended it.
    pub(super) fn tell_completed(&mut self, key: CallKey, by: &'static str, now: Instant) {
        let Some(answered) = self.calls.get(key).and_then(|call| call.answered) else {
            return;
        };
        self.tell_verb_status(key, true);
        let mut body = self.base_fields(key);
        body.insert("call_status".into(), "completed".into());
        body.insert("call_termination_by".into(), by.into());
        body.insert("duration".into(), (now.since(answered).as_secs()).into());
        self.give_out(key, body);
    }

    /// Tells that the verb that runs has begun or ended, where the application wants to hear of that.
    fn tell_verb_status(&mut self, key: CallKey, is_end: bool) {
        let Some(served) = self.served.get_mut(&key) else {
            return;
        };
        let running = match is_end {
            true => served.program.end(),
            false => served.program.running().cloned(),
        };
        let Some(running) = running else { return };
        let is_wanted = served.program.notify_events;
        let (event, status) = if is_end {
            ("finished", "end")
        } else {
            ("starting", "begin")
        };
        // The end of a transfer was told with its verdict.
        if !(is_end && running.name == "sip:refer") {
            self.tell_verb(key, running.name, running.id.as_deref(), event);
        }
        if !is_wanted {
            return;
        }
        let mut body = self.base_fields(key);
        for (name, value) in [
            ("event", event),
            ("status", status),
            ("name", running.name),
            ("verb", running.name),
        ] {
            body.insert(name.into(), value.into());
        }
        if let Some(id) = running.id {
            body.insert("id".into(), id.into());
        }
        self.give_out(key, body);
    }

    /// Whether the application has asked to hear of the caller's requests.
    pub(super) fn tells_requests(&self, key: CallKey) -> bool {
        self.served
            .get(&key)
            .is_some_and(|served| served.request_hook.is_some())
    }

    /// Tells of a request of the caller's, where the application has asked for that.
    pub(super) fn tell_request(&mut self, key: CallKey, request: Message<'_>) {
        let hook = self.served.get(&key).and_then(|served| served.request_hook.clone());
        let Some(hook) = hook else { return };
        let mut body = self.base_fields(key);
        body.insert(
            "sip_method".into(),
            String::from_utf8_lossy(request.method_token()).into(),
        );
        body.insert("sip_headers".into(), headers_of(request).into());
        body.insert("sip_body".into(), String::from_utf8_lossy(request.body()).into());
        self.post_in_order(key, &hook, body);
    }

    /// Tells the status hook.
    fn give_out(&mut self, key: CallKey, body: Map<String, Value>) {
        let url = self.served.get(&key).and_then(|served| served.status_hook.clone());
        let Some(url) = url else { return };
        let hook = HookTarget { url, basic_auth: None };
        self.post_in_order(key, &hook, body);
    }

    /// Everything that happens to such a call leaves here, in order.
    fn post_in_order(&mut self, key: CallKey, target: &HookTarget, body: Map<String, Value>) {
        let (Some(call), Some(served)) = (self.calls.get(key), self.served.get_mut(&key)) else {
            return;
        };
        let Ok(url) = resolve_target(&target.url, Some(&served.base_url)) else {
            return;
        };
        let number = served.statuses;
        served.statuses += 1;
        let (id, application, base_url) = (call.id, served.application, served.base_url.clone());
        let settings = self.hooks_of_application(application, &base_url);
        let hook = Hook {
            subject: Subject::Status(id),
            kind: HookKind::Event,
            basic_auth: target
                .basic_auth
                .clone()
                .or_else(|| self.credentials_for(application, &url)),
            url,
            default_word: false,
            webhook_id: format!("{id}-status-{number}"),
            body: Value::Object(body).to_string(),
            settings,
        };
        self.counters.status_hooks_total += 1;
        self.effects.push_back(Output::Hook(Box::new(hook)));
    }

    // ---- what the application is asked ----

    /// Asks what becomes of a call that came in.
    pub(super) fn ask_call_hook(&mut self, key: CallKey, invite: Message<'_>, now: Instant) {
        let Some(served) = self.served.get(&key) else { return };
        let target = HookTarget {
            url: self.config().application(served.application).call_hook.clone(),
            basic_auth: None,
        };
        let sip = sip_of(invite);
        let added = Map::from_iter([("call_status".to_owned(), "trying".into()), ("sip".to_owned(), sip)]);
        if !self.ask(key, Asked::CallHook, &target, added) {
            self.refuse_for_application(key, "the call hook cannot be posted", now);
        }
    }

    /// Posts a question whose answer decides what runs next. `false`: it cannot be posted.
    fn ask(&mut self, key: CallKey, asked: Asked, target: &HookTarget, added: Map<String, Value>) -> bool {
        let Some((application, base_url)) = self.base_of(key) else {
            return false;
        };
        let Ok(url) = resolve_target(&target.url, Some(&base_url)) else {
            return false;
        };
        let Some(id) = self.calls.get(key).map(|call| call.id) else {
            return false;
        };
        let question = self.served.get_mut(&key).and_then(|served| served.program.ask(asked));
        let Some(question) = question else { return false };
        let mut body = self.base_fields(key);
        body.extend(added);
        let settings = self.hooks_of_application(application, &base_url);
        let own = target.basic_auth.clone();
        let hook = Hook {
            subject: Subject::Question(id, question),
            // A result is worth telling late; what becomes of the call is not worth asking late.
            kind: match asked {
                Asked::CallHook | Asked::Redirect => HookKind::Question,
                Asked::Result => HookKind::Action,
            },
            basic_auth: own.or_else(|| self.credentials_for(application, &url)),
            url,
            default_word: false,
            webhook_id: format!("{id}-question-{question}"),
            body: Value::Object(body).to_string(),
            settings,
        };
        self.counters.questions_total += 1;
        self.effects.push_back(Output::Hook(Box::new(hook)));
        true
    }

    /// What the application answered to a question. One that nobody waits for any more says nothing.
    pub(super) fn on_question_answered(&mut self, id: CallId, question: u32, outcome: ActionOutcome, now: Instant) {
        let Some(key) = self.by_number.get(&id.number).copied() else {
            return;
        };
        if question >= UPDATES_FROM {
            return self.on_update_answered(key, question, outcome, now);
        }
        let Some(asked) = self
            .served
            .get_mut(&key)
            .and_then(|served| served.program.replied(question))
        else {
            return;
        };
        // The hook without whose list there is no call.
        let deciding = match asked {
            Asked::CallHook => Some("call"),
            Asked::Redirect if self.is_in_state(key, &[CallState::Trying, CallState::Ringing]) => Some("redirect"),
            Asked::Redirect | Asked::Result => None,
        };
        let list = match outcome {
            ActionOutcome::Failed => Err(" failed".to_owned()),
            delivered => match delivered.into_list() {
                Some(list) => self
                    .read_list(key, &list)
                    .map(Some)
                    .map_err(|problem| format!("'s list: {problem}")),
                None if asked == Asked::CallHook => Err(" answered without a list of verbs".to_owned()),
                None => Ok(None),
            },
        };
        match (list, deciding) {
            (Ok(Some(admitted)), _) => self.run_list(key, admitted, now),
            (Err(problem), Some(hook)) => self.refuse_for_application(key, &format!("the {hook} hook{problem}"), now),
            (Ok(None), _) | (Err(_), None) => self.run_verbs(key, now),
        }
    }

    fn is_in_state(&self, key: CallKey, states: &[CallState]) -> bool {
        self.calls.get(key).is_some_and(|call| states.contains(&call.state))
    }

    /// Reads a list that the application of this call gave.
    fn read_list(&mut self, key: CallKey, list: &Value) -> Result<Admitted, String> {
        let is_answered = self.is_in_state(key, &[CallState::Answered]);
        let application = self.served.get(&key).map(|served| served.application);
        let media = application.map(|id| self.config().application(id).media_verbs);
        let Some(media) = media else {
            return Err("the call is over".into());
        };
        let read = read(list, is_answered, media);
        if let Err(problem) = &read {
            self.counters.replies_refused_total += 1;
            return Err(problem.to_string());
        }
        read.map_err(|problem| problem.to_string())
    }

    /// What a transfer's action was answered with, as verbs; `None`: nothing that may run.
    pub(super) fn verbs_of_reply(&mut self, key: CallKey, list: &Value) -> Option<Vec<Verb>> {
        let admitted = self.read_list(key, list).ok()?;
        self.counters.verbs_skipped_total += admitted.skipped as u64;
        Some(admitted.verbs)
    }

    /// Refuses a call for want of an application that leads it.
    fn refuse_for_application(&mut self, key: CallKey, problem: &str, now: Instant) {
        self.counters.applications_failed_total += 1;
        let short: String = problem
            .chars()
            .filter(|c| !c.is_control())
            .take(PROBLEM_CHARS_MAX)
            .collect();
        let quoted = short.replace(['\\', '"'], "'");
        let reason = format!("SIP;cause=480;text=\"{quoted}\"");
        let lines: [(&str, &[u8]); 2] = [("Reason", reason.as_bytes()), ("X-Reason", short.as_bytes())];
        self.refuse_call(key, (480, "Temporarily Unavailable"), &lines, "failed", now);
    }

    // ---- verbs ----

    /// A list replaces what is left of the one before, and runs.
    fn run_list(&mut self, key: CallKey, admitted: Admitted, now: Instant) {
        self.counters.verbs_skipped_total += admitted.skipped as u64;
        let Some(served) = self.served.get_mut(&key) else {
            return;
        };
        // Where the ACK is waited for, that is what the list waits for as well: REST has filled in its dialogs.
        let number = match served.program.waits_for() {
            Some(_) => return self.replace_list(key, admitted.verbs, now),
            None => served.program.look_for_dialogs(),
        };
        self.run_numbered(key, number, admitted.verbs, now);
    }

    /// Runs a list once the dialogs that it names are known (RFC 3891).
    pub(super) fn run_numbered(&mut self, key: CallKey, number: u32, verbs: Vec<Verb>, now: Instant) {
        let list = Aside::List {
            call: key,
            number,
            verbs,
        };
        let Some(Aside::List { verbs, .. }) = self.with_dialogs(list, now) else {
            return;
        };
        let is_open = self
            .served
            .get_mut(&key)
            .is_some_and(|served| served.program.dialogs_found(number));
        if is_open {
            self.replace_list(key, verbs, now);
        }
    }

    pub(super) fn replace_list(&mut self, key: CallKey, verbs: Vec<Verb>, now: Instant) {
        if let Some(call) = self.calls.get_mut(key) {
            let extra = call.extra_mut();
            extra.awaits_reply = false;
            extra.verbs = verbs.into();
            let (was_paused, id) = (extra.paused_until.take().is_some(), extra.pause_id.take());
            // The verb that runs on a call of an application is told of by its program.
            if was_paused && !self.served.contains_key(&key) {
                self.tell_verb(key, "pause", id.as_deref(), "finished");
            }
        }
        self.run_verbs(key, now);
    }

    /// The verbs of a REST request take the place of those that run (the application's own, or of an earlier request).
    pub(super) fn on_rest_verbs(&mut self, key: CallKey, verbs: Vec<Verb>, now: Instant) -> Result<Reply, Refusal> {
        let call = &self.calls[key];
        let (id, is_answered) = (call.id, call.state == CallState::Answered);
        let Some(served) = self.served.get(&key) else {
            return Err(refusal(404, "not_found", None, "The call has ended."));
        };
        let media = self.config().application(served.application).media_verbs;
        let has_skipped = |admitted: Admitted| match admitted.verbs.is_empty() {
            true => Err(refusal(
                422,
                "invalid",
                None,
                "Nothing is left of the list without the verbs that need media.",
            )),
            false => Ok(admitted),
        };
        let admitted = admit(verbs, is_answered, media)
            .map_err(|error| refusal(422, "invalid", Some(&error.field), &error.message))
            .and_then(has_skipped)?;
        let extra = call.extra();
        if extra
            .and_then(|extra| extra.last_transfer)
            .is_some_and(|key| is_lingering(&self.transfers, key))
        {
            return Err(refusal(
                409,
                "busy",
                None,
                "A transfer of this call has succeeded: it is about to end.",
            ));
        }
        let has_refer = admitted.verbs.iter().any(|verb| matches!(verb, Verb::SipRefer(_)));
        let running = extra.and_then(|extra| extra.transfer);
        if let Some(transfer) = running {
            self.with_transfer(transfer, now, |transfer| transfer.on_replaced(now));
        }
        if let Some(served) = self.served.get_mut(&key) {
            served.program.replaced();
        }
        if let Some(call) = self.calls.get_mut(key) {
            call.extra_mut().awaits_reply = false;
        }
        let before = self.transfers_of(key);
        self.run_list(key, admitted, now);
        let has_begun = has_refer && self.transfers_of(key) > before;
        let transfer = has_begun.then(|| self.last_transfer_of(key)).flatten();
        Ok(Reply::Accepted { transfer, call: id })
    }

    /// Runs the verbs of a call that an application leads until one takes time, and to the end of the list.
    pub(super) fn run_program(&mut self, key: CallKey, now: Instant) {
        loop {
            let Some(call) = self.calls.get_mut(key).filter(|call| is_live(call.state)) else {
                return;
            };
            let is_answered = call.state == CallState::Answered;
            let extra = call.extra_mut();
            let is_ending = extra
                .last_transfer
                .is_some_and(|key| is_lingering(&self.transfers, key));
            let is_paused = extra.paused_until.is_some_and(|until| now < until);
            let Some(served) = self.served.get(&key) else { return };
            let waits = served.program.waits_for().is_some() || extra.transfer.is_some() || extra.awaits_reply;
            if waits || is_ending || is_paused || extra.end_after_ack {
                return;
            }
            extra.paused_until = None;
            let next = extra.verbs.pop_front();
            self.tell_verb_status(key, true);
            let Some(verb) = next else {
                return self.end_of_list(key, is_answered, now);
            };
            if let Some(served) = self.served.get_mut(&key) {
                if let Verb::Config {
                    notify_events,
                    request_hook,
                    ..
                } = &verb
                {
                    served.program.notify_events = notify_events.unwrap_or(served.program.notify_events);
                    served.request_hook = request_hook.clone().or(served.request_hook.take());
                }
                served.program.begin(&verb);
            }
            self.tell_verb_status(key, false);
            match verb {
                Verb::Tag { data, .. } => {
                    let fits = self.calls[key].extra_mut().tag(data);
                    self.counters.tags_refused_total += u64::from(!fits);
                }
                // What needs media was left out when the list came.
                Verb::Config { .. } | Verb::Media { .. } => {}
                Verb::Answer { .. } if is_answered => {}
                Verb::Answer { .. } => {
                    if let Some(served) = self.served.get_mut(&key) {
                        served.program.wait_for_ack();
                    }
                    self.answer_call(key, now);
                    return;
                }
                Verb::Pause { length, .. } => {
                    self.calls[key].extra_mut().paused_until = Some(now + length);
                    self.timers.arm_once(now, length, TimerKey::Pause(key));
                    self.ring(key, now);
                    return;
                }
                Verb::Hangup { headers, .. } => {
                    let lines = lines_of(&headers);
                    return match is_answered {
                        true => drop(self.on_hangup(key, &headers, now)),
                        false => self.refuse_call(key, (603, "Decline"), &lines, "failed", now),
                    };
                }
                Verb::SipDecline {
                    status,
                    reason,
                    headers,
                    ..
                } => {
                    let told = if matches!(status, 486 | 600 | 603) {
                        "busy"
                    } else {
                        "failed"
                    };
                    let reason = reason.unwrap_or_else(|| reason_of(status).to_owned());
                    return self.refuse_call(key, (status, &reason), &lines_of(&headers), told, now);
                }
                Verb::Redirect {
                    action_hook,
                    status_hook,
                    ..
                } => match self.redirect(key, &action_hook, status_hook) {
                    true => return,
                    false if is_answered => {}
                    false => return self.refuse_for_application(key, "the redirect hook cannot be posted", now),
                },
                Verb::SipRequest(request) => {
                    self.begin_request(key, request, now);
                    return;
                }
                Verb::SipRefer(refer) => {
                    self.refer_or_answer(key, refer, is_answered, now);
                    return;
                }
            }
        }
    }

    /// Nothing is left to do: the call is over.
    fn end_of_list(&mut self, key: CallKey, is_answered: bool, now: Instant) {
        match is_answered {
            true => drop(self.on_hangup(key, &[], now)),
            false => self.refuse_call(key, (603, "Decline"), &[], "failed", now),
        }
    }

    /// Another URL is asked what is next; later relative hooks go to its origin.
    fn redirect(&mut self, key: CallKey, target: &HookTarget, status_hook: Option<HookTarget>) -> bool {
        let Some((_, base_url)) = self.base_of(key) else {
            return false;
        };
        let Ok(url) = resolve_target(&target.url, Some(&base_url)) else {
            return false;
        };
        let status_url = status_hook.and_then(|hook| resolve_target(&hook.url, Some(&base_url)).ok());
        if let Some(served) = self.served.get_mut(&key) {
            if let Some(url) = status_url.or_else(|| {
                // A relative one stays where it was.
                let now = served.status_hook.as_ref()?;
                resolve_target(now, Some(&base_url)).ok()
            }) {
                served.status_hook = Some(url);
            }
            served.base_url = url;
        }
        self.ask(key, Asked::Redirect, target, Map::new())
    }

    /// A `sip:refer`. On a call without an answer the application's setting says what comes of it.
    fn refer_or_answer(&mut self, key: CallKey, refer: Box<SipRefer>, is_answered: bool, now: Instant) {
        let prepared = self.prepare(&self.calls[key], &refer, true, now);
        let on_unanswered = match self.served.get(&key) {
            Some(served) => self.config().application(served.application).on_unanswered,
            None => return,
        };
        let not_answered = |detail: &str| Err(refusal(409, "not_answered", None, detail));
        match (is_answered, prepared) {
            (true, prepared) | (false, prepared @ Err(_)) => self.start_transfer(key, refer, prepared, now),
            (false, Ok(prepared)) => match (on_unanswered, self.can_answer(key)) {
                (OnUnanswered::Answer, Ok(())) => {
                    // Its REFER waits for the ACK of the answer.
                    self.start_transfer(key, refer, Ok(prepared), now);
                    self.answer_call(key, now);
                }
                (OnUnanswered::Answer, Err(problem)) => {
                    self.start_transfer(key, refer, not_answered("The call cannot be answered"), now);
                    self.refuse_unanswerable(key, problem, now);
                }
                (OnUnanswered::Redirect, _) => {
                    let contact = prepared.refer_to.clone();
                    self.start_redirected(key, refer, prepared, now);
                    let lines: [(&str, &[u8]); 1] = [("Contact", contact.as_bytes())];
                    self.refuse_call(key, (302, "Moved Temporarily"), &lines, "failed", now);
                }
                (OnUnanswered::Fail, _) => {
                    self.start_transfer(key, refer, not_answered("The call is not answered"), now);
                }
            },
        }
    }

    // ---- requests of the application's own ----

    fn begin_request(&mut self, key: CallKey, request: Box<SipRequest>, now: Instant) {
        let Some(served) = self.served.get_mut(&key) else {
            return;
        };
        let number = served.program.request();
        let is_one_too_many = served.requests.len() >= REQUESTS_MAX;
        served.requests.push((number, request));
        if self.calls[key].state != CallState::Answered {
            return self.on_request_failed(key, number, "the call is not answered", now);
        }
        if is_one_too_many {
            return self.on_request_failed(key, number, "too many requests of the call are open", now);
        }
        self.send_request_of_application(key, number, now);
    }

    /// It has a final response, which may say that the caller knows the call no more.
    pub(super) fn on_request_answered(&mut self, key: CallKey, number: u32, method: Method, code: u16, now: Instant) {
        let result = json!({"result": "success", "sip_status": code});
        self.conclude_request(key, number, result, now);
        self.weigh_answer(key, method, Party::Caller, code, now);
    }

    /// It has none and will have none.
    pub(super) fn on_request_failed(&mut self, key: CallKey, number: u32, problem: &str, now: Instant) {
        let result = json!({"result": "failed", "err": problem});
        self.conclude_request(key, number, result, now);
    }

    fn conclude_request(&mut self, key: CallKey, number: u32, result: Value, now: Instant) {
        let Some(served) = self.served.get_mut(&key) else {
            return;
        };
        let Some(open) = served.requests.iter().position(|(open, _)| *open == number) else {
            return;
        };
        let (_, request) = served.requests.remove(open);
        // Of a list that was replaced the result is told all the same; its reply decides nothing.
        let is_open = served.program.responded(number);
        if let Some(target) = &request.action_hook {
            let Value::Object(mut added) = result else { return };
            added.insert("verb".into(), "sip:request".into());
            if let Some(id) = &request.id {
                added.insert("verb_id".into(), id.clone().into());
                added.insert("id".into(), id.clone().into());
            }
            let before = served.program.waits_for();
            if self.ask(key, Asked::Result, target, added) {
                if let (false, Some(served)) = (is_open, self.served.get_mut(&key)) {
                    served.program.wait_again(before);
                }
                return;
            }
        }
        if is_open {
            self.run_verbs(key, now);
        }
    }
}

/// The INVITE as the call hook tells it. What proves who the caller is stays here.
fn sip_of(invite: Message<'_>) -> Value {
    json!({
        "method": "INVITE",
        "uri": String::from_utf8_lossy(invite.request_uri()),
        "headers": headers_of(invite),
        "body": String::from_utf8_lossy(invite.body()),
    })
}

/// Its header lines by name, those that are known in lower case, without credentials.
fn headers_of(message: Message<'_>) -> Map<String, Value> {
    let mut headers = Map::new();
    for line in message.lines() {
        let name = String::from_utf8_lossy(line.name).into_owned();
        let name = match line.header {
            Header::Authorization | Header::ProxyAuthorization => continue,
            Header::Other => name,
            known => known.name().to_ascii_lowercase(),
        };
        let value = String::from_utf8_lossy(line.value);
        match headers.get_mut(&name) {
            Some(Value::String(known)) => {
                known.push_str(", ");
                known.push_str(&value);
            }
            _ => drop(headers.insert(name, value.into_owned().into())),
        }
    }
    headers
}

fn lines_of(headers: &[(String, String)]) -> SmallVec<[(&str, &[u8]); 2]> {
    let lines = headers.iter();
    lines.map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// The reason phrase of RFC 3261 §21 for what is refused most.
fn reason_of(status: u16) -> &'static str {
    match status {
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        410 => "Gone",
        480 => "Temporarily Unavailable",
        484 => "Address Incomplete",
        486 => "Busy Here",
        488 => "Not Acceptable Here",
        500 => "Server Internal Error",
        503 => "Service Unavailable",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        400..=499 => "Request Failure",
        501..=599 => "Server Failure",
        _ => "Global Failure",
    }
}

/// What a problem may say in a header line.
const PROBLEM_CHARS_MAX: usize = 200;
