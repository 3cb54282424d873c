//! What the caller of a call that an application leads says within its dialog, and what the user agent answers (RFC 3261 §12.2.2,
//! §14.2; RFC 3262, 3264, 3311, 4028).

use super::application::Served;
use super::arrival::Arrival;
use super::uas::{ALLOW, Refusal, SDP, dialog_lines, refusal_of, refuses_extensions, session_in};
use super::{Shard, is_live};
use crate::call::{CallKey, CallState, Party};
use crate::message::edit::{Response, ViaStamp, write_response};
use crate::message::{Header, Message, Method};
use crate::proxy::Refused;
use crate::session_timer::agent::{Agent, Agreed};
use crate::timer::Instant;
use crate::transaction::ServerKey;
use crate::transfer::Cause;
use crate::transport::Flow;
use smallvec::SmallVec;

impl Shard {
    /// A request within the dialog of a call that an application leads.
    pub(super) fn on_served(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        key: CallKey,
        party: Party,
        now: Instant,
    ) {
        let call = &self.calls[key];
        let (state, ended_here) = (call.state, call.extra().is_some_and(|extra| extra.ended_here));
        match arrival.method {
            // Nobody speaks with our own tag.
            _ if party == Party::Callee => return self.refuse(message, arrival, Refused::NO_DIALOG, &[], now),
            Method::Ack => return self.on_served_ack(message, key, now),
            Method::Notify => return self.on_served_notify(message, arrival, key, now),
            Method::Bye if ended_here => return self.refuse(message, arrival, Refused::new(200, "OK"), &[], now),
            _ if !is_live(state) => return self.refuse(message, arrival, Refused::NO_DIALOG, &[], now),
            _ => {}
        }
        self.heard_from_caller(message, arrival, key);
        if let Some(refusal) = refuses_extensions(message) {
            return self.refuse_as(message, arrival, refusal, now);
        }
        match arrival.method {
            Method::Invite => self.on_reinvite(message, arrival, key, now),
            Method::Update => self.on_update(message, arrival, key, now),
            Method::Bye => self.on_served_bye(message, arrival, key, now),
            Method::Prack => self.on_prack(message, arrival, key, now),
            Method::Options => self.answer_as_agent(message, arrival, now),
            // RFC 6086 §4.2.1: none without a package that was announced; those of before the RFC have none.
            Method::Info if message.lines_named("Info-Package").next().is_some() => {
                self.refuse_as(
                    message,
                    arrival,
                    Refusal::new(469, "Bad Info Package").with("Recv-Info", ""),
                    now,
                );
            }
            Method::Info => self.take_request(message, arrival, key, Refused::new(200, "OK"), now),
            // RFC 3428 §7: taken, and where it goes from here is another matter.
            Method::Message if self.tells_requests(key) => {
                self.take_request(message, arrival, key, Refused::new(202, "Accepted"), now);
            }
            Method::Refer => self.refuse(message, arrival, Refused::new(603, "Decline"), &[], now),
            Method::Other => {
                self.refuse_as(
                    message,
                    arrival,
                    Refusal::new(501, "Not Implemented").with("Allow", ALLOW),
                    now,
                );
            }
            Method::Ack
            | Method::Cancel
            | Method::Notify
            | Method::Register
            | Method::Subscribe
            | Method::Message
            | Method::Publish => {
                self.refuse_as(
                    message,
                    arrival,
                    Refusal::new(405, "Method Not Allowed").with("Allow", ALLOW),
                    now,
                );
            }
        }
    }

    /// Takes what the caller says to the application. It has a transaction, however many there are, so that what comes again is
    /// not told again.
    fn take_request(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        key: CallKey,
        status: Refused,
        now: Instant,
    ) {
        let server = self.open_server(message, arrival, now);
        self.counters.answered_total += 1;
        self.tell_request(key, message);
        self.answer_stored(server, status, now);
    }

    fn heard_from_caller(&mut self, message: Message<'_>, arrival: &Arrival<'_>, key: CallKey) {
        let call = &mut self.calls[key];
        call.shows_life(Party::Caller);
        call.set_flow(Party::Caller, arrival.flow);
        if let Ok(cseq) = message.cseq() {
            call.sequence_mut(Party::Caller).observe(cseq.number);
        }
    }

    fn on_served_ack(&mut self, message: Message<'_>, key: CallKey, now: Instant) {
        let number = message.cseq().map(|cseq| cseq.number).ok();
        let served = self.served.get_mut(&key);
        let is_awaited = |served: &&mut Box<Served>| {
            served
                .answer
                .as_ref()
                .is_some_and(|answer| Some(answer.number) == number)
        };
        let Some(served) = served.filter(is_awaited) else {
            self.counters.stray_acks_total += 1;
            return;
        };
        self.counters.absorbed_acks_total += 1;
        served.answer = None;
        served.program.acked();
        let is_first = !self.calls[key].is_acked;
        self.calls[key].is_acked = true;
        if served.session.awaits_answer() {
            let answer = session_in(message).ok().flatten().unwrap_or_default();
            if !served.session.take_answer(answer) && is_first {
                // RFC 3261 §13.2.1: without an answer there is no session.
                self.counters.answers_missing_total += 1;
                return self.end_both(key, &[], Cause::CallEnded, now);
            }
        }
        self.release_after_ack(key, now);
        self.run_verbs(key, now);
    }

    fn on_served_notify(&mut self, message: Message<'_>, arrival: &Arrival<'_>, key: CallKey, now: Instant) {
        if self.on_notify(message, arrival, key, Party::Caller, now) {
            return;
        }
        if super::notify::is_of_refer(message) {
            return self.refuse(message, arrival, Refused::NO_SUBSCRIPTION, &[], now);
        }
        let status = Refused::new(489, "Bad Event");
        self.refuse(message, arrival, status, &[("Allow-Events", b"refer")], now);
    }

    /// A re-INVITE (RFC 3261 §14.2): it moves the caller's target, refreshes the session, and may offer anew.
    fn on_reinvite(&mut self, message: Message<'_>, arrival: &Arrival<'_>, key: CallKey, now: Instant) {
        let is_early = self.calls[key].state != CallState::Answered;
        let Some(served) = self.served.get(&key) else {
            return self.refuse(message, arrival, Refused::NO_DIALOG, &[], now);
        };
        if is_early {
            return self.refuse_for_now(message, arrival, now);
        }
        if served.answer.is_some() || served.refresh.is_some() || served.session.awaits_answer() {
            return self.refuse(message, arrival, Refused::new(491, "Request Pending"), &[], now);
        }
        let Some((body, agreed)) = self.judge_session(message, arrival, key, now) else {
            return;
        };
        let body = match (body, self.served.get_mut(&key)) {
            (Some(answer), _) => answer,
            (None, Some(served)) => served.session.offer(),
            (None, None) => return,
        };
        self.accept(message, arrival, key, agreed, &body, now);
    }

    /// An UPDATE (RFC 3311 §5.2).
    fn on_update(&mut self, message: Message<'_>, arrival: &Arrival<'_>, key: CallKey, now: Instant) {
        let is_early = self.calls[key].state != CallState::Answered;
        let Some(served) = self.served.get(&key) else {
            return self.refuse(message, arrival, Refused::NO_DIALOG, &[], now);
        };
        let offers = !matches!(session_in(message), Ok(None));
        if offers && is_early {
            // The offer of the INVITE has no answer yet.
            return self.refuse_for_now(message, arrival, now);
        }
        if offers && served.session.awaits_answer() || served.refresh.is_some() {
            return self.refuse(message, arrival, Refused::new(491, "Request Pending"), &[], now);
        }
        if let Some((body, agreed)) = self.judge_session(message, arrival, key, now) {
            self.accept(message, arrival, key, agreed, &body.unwrap_or_default(), now);
        }
    }

    /// What a request that refreshes the session gets: the answer to its offer, if it has one, and the session's timer. `None`: it
    /// was refused, and nothing has changed.
    fn judge_session(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        key: CallKey,
        now: Instant,
    ) -> Option<(Option<String>, Agreed)> {
        let agreed = match Agent::judge(self.session_policy(), message) {
            Ok(agreed) => agreed,
            Err(too_small) => {
                self.refuse_interval(message, arrival, too_small, now);
                return None;
            }
        };
        let answer = match session_in(message) {
            Ok(offer) => {
                let session = &mut self.served.get_mut(&key)?.session;
                offer.map(|offer| session.answer(offer)).transpose()
            }
            Err(refusal) => {
                self.refuse_as(message, arrival, refusal, now);
                return None;
            }
        };
        match answer {
            Ok(answer) => Some((answer, agreed)),
            Err(problem) => {
                let name = self.calls[key]
                    .application
                    .map(|id| self.config().application(id).name.clone());
                self.refuse_as(message, arrival, refusal_of(problem, &name.unwrap_or_default()), now);
                None
            }
        }
    }

    /// A 2xx to a re-INVITE or UPDATE: the caller's target moves with it (RFC 3261 §12.2.2), and the session lives on.
    fn accept(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        key: CallKey,
        agreed: Agreed,
        body: &str,
        now: Instant,
    ) {
        let server = self.open_server(message, arrival, now);
        self.counters.answered_total += 1;
        self.calls[key].learn(Party::Caller, message);
        let timer = agreed.response_lines();
        let start = self.outbox.bytes.len();
        {
            let mut lines: SmallVec<[(&str, &[u8]); 8]> = SmallVec::new();
            lines.extend(dialog_lines(&self.calls[key]));
            lines.extend(timer.iter().map(|(name, value)| (*name, value.as_bytes())));
            let response = Response {
                code: 200,
                reason: "OK",
                to_tag: None,
                copy_record_route: false,
                extra: &lines,
                content_type: (!body.is_empty()).then_some(SDP),
                body: body.as_bytes(),
            };
            let stamp = ViaStamp::of(&arrival.via, arrival.flow.peer);
            write_response(message, stamp, &response, &mut self.outbox.bytes);
        }
        let bytes = self.outbox.since(start);
        let kept: Box<[u8]> = Box::from(self.outbox.get(&bytes));
        self.transactions
            .respond(server, 200, bytes, &mut self.outbox, &mut self.timers, now);
        if let Some(served) = self.served.get_mut(&key) {
            served.timer.agree(agreed, now);
        }
        self.watch_session(key, now);
        if arrival.method == Method::Invite {
            let number = message.cseq().map(|cseq| cseq.number).unwrap_or_default();
            if let Some(reply_to) = self.reply_to(server) {
                self.repeat_until_acked(key, number, kept, reply_to, now);
            }
        }
    }

    fn reply_to(&self, server: ServerKey) -> Option<Flow> {
        self.transactions.server(server).map(|server| server.reply_to)
    }

    fn on_served_bye(&mut self, message: Message<'_>, arrival: &Arrival<'_>, key: CallKey, now: Instant) {
        self.refuse(message, arrival, Refused::new(200, "OK"), &[], now);
        // RFC 3261 §15.1.2: requests that are pending get 487; of an early dialog that is its INVITE.
        let is_early = self.calls[key].state != CallState::Answered;
        if is_early {
            self.respond_to_invite(key, (487, "Request Terminated"), &[], "", now);
        }
        self.on_relayed_bye(key, Party::Caller, message.value(Header::Reason), now);
        match is_early {
            true => self.tell_status(key, "no-answer", Some((487, "Request Terminated"))),
            false => self.tell_completed(key, "caller", now),
        }
        self.end_call(key, now);
    }

    /// A PRACK (RFC 3262 §3): it is of the one provisional response that is open, or of none.
    fn on_prack(&mut self, message: Message<'_>, arrival: &Arrival<'_>, key: CallKey, now: Instant) {
        let Some(served) = self.served.get_mut(&key) else {
            return self.refuse(message, arrival, Refused::NO_DIALOG, &[], now);
        };
        let rack = message.rack().ok().flatten();
        let open = served.provisional.as_ref().map(|provisional| provisional.rseq);
        let is_of_it = rack.is_some_and(|rack| Some(rack.rseq) == open && rack.cseq == served.invite_number);
        // One that comes again with another branch, its answer lost, has been heard.
        let is_known = rack.is_some_and(|rack| rack.rseq <= served.rseq && rack.cseq == served.invite_number);
        if is_of_it {
            served.provisional = None;
        }
        let status = match is_known {
            true => Refused::new(200, "OK"),
            false => Refused::NO_DIALOG,
        };
        self.refuse(message, arrival, status, &[], now);
    }
}
