//! referee as the user agent that a caller talks to: INVITEs for applications, and what they are answered (RFC 3261 §8.2, §9.2,
//! §13.3; RFC 3262, 3264, 4028). What is said within their dialogs is `served.rs`'s.

use super::application::Served;
use super::arrival::Arrival;
use super::{ServerOwner, Shard, TimerKey};
use crate::call::{Call, CallKey, CallState, Party, Trait};
use crate::config::{ApplicationId, OnUnanswered, TrunkId};
use crate::identifiers::hex16;
use crate::message::edit::{Response, ViaStamp, decimal, write_response};
use crate::message::{Header, Message, Method, Uri};
use crate::offer_answer::body::{self, Session};
use crate::offer_answer::{OfferAnswer, Unanswerable};
use crate::proxy::Refused;
use crate::session_timer::agent::{self, Agent};
use crate::timer::Instant;
use crate::transaction::ServerKey;
use crate::transfer::Cause;
use crate::transport::{Flow, Transport};
use crate::usage::Places;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::time::Duration;

/// What a dialog of ours takes. REFER is none of it: it is always declined.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, NOTIFY";
/// Extensions that may be required of us.
const EXTENSIONS: [&str; 2] = ["100rel", "timer"];
pub(super) const SUPPORTED: &str = "100rel, timer";
pub(super) const SDP: &str = "application/sdp";

/// A 2xx of ours that is sent again until its ACK comes (RFC 3261 §13.3.1.4).
#[derive(Debug)]
pub(super) struct Unacknowledged {
    bytes: Box<[u8]>,
    reply_to: Flow,
    /// The CSeq number of its INVITE.
    pub number: u32,
    wait: Duration,
    again_at: Instant,
    until: Instant,
}

/// A provisional response of ours that is sent again until its PRACK comes (RFC 3262 §3).
#[derive(Debug)]
pub(super) struct Unpracked {
    bytes: Box<[u8]>,
    reply_to: Flow,
    pub rseq: u32,
    wait: Duration,
    again_at: Instant,
    until: Instant,
}

/// A refusal with its further header lines.
pub(super) struct Refusal {
    status: Refused,
    lines: SmallVec<[(&'static str, String); 2]>,
}

impl Refusal {
    pub fn new(code: u16, reason: &'static str) -> Refusal {
        Refusal {
            status: Refused::new(code, reason),
            lines: SmallVec::new(),
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Refusal {
        self.lines.push((name, value.into()));
        self
    }
}

impl Shard {
    // ---- requests that open a call, or none ----

    /// A new request whose route leads to an application.
    pub(super) fn on_new_for_application(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        from: TrunkId,
        application: ApplicationId,
        digest: u64,
        now: Instant,
    ) {
        match arrival.method {
            Method::Invite | Method::Options => {}
            Method::Other => {
                return self.refuse_as(
                    message,
                    arrival,
                    Refusal::new(501, "Not Implemented").with("Allow", ALLOW),
                    now,
                );
            }
            _ => {
                return self.refuse_as(
                    message,
                    arrival,
                    Refusal::new(405, "Method Not Allowed").with("Allow", ALLOW),
                    now,
                );
            }
        }
        if let Some(refusal) = refuses_extensions(message) {
            return self.refuse_as(message, arrival, refusal, now);
        }
        // RFC 3261 §11.2: as an INVITE would be answered.
        if arrival.method == Method::Options {
            return self.answer_as_agent(message, arrival, now);
        }
        // RFC 3261 §8.2.2.2: the same request by another way.
        if self.is_merged(message, digest) {
            self.counters.loops_total += 1;
            return self.refuse(message, arrival, Refused::new(482, "Loop Detected"), &[], now);
        }
        if !matches!(message.contact(), Ok(Some(_))) {
            return self.refuse(message, arrival, Refused::new(400, "Missing Contact"), &[], now);
        }
        let agreed = match Agent::judge(self.session_policy(), message) {
            Ok(agreed) => agreed,
            Err(too_small) => return self.refuse_interval(message, arrival, too_small, now),
        };
        let offer = match session_in(message) {
            Ok(offer) => offer,
            Err(refusal) => return self.refuse_as(message, arrival, refusal, now),
        };
        let config = self.setup.config.clone();
        let settings = config.application(application);
        let address = self.address_of_bind(arrival.flow);
        let session = OfferAnswer::new(self.random.next_u64(), address, settings.media_address);
        // A caller that is only sent elsewhere needs no answer to its offer.
        if settings.on_unanswered != OnUnanswered::Redirect
            && let Some(Err(problem)) = offer.map(|offer| session.judge(offer))
        {
            return self.refuse_as(message, arrival, refusal_of(problem, settings.name.as_str()), now);
        }
        let place = match self.place_of_caller(Method::Invite, from, now) {
            Ok(place) => place,
            Err(_) => return self.refuse_full(message, arrival, now),
        };
        let server = self.open_server(message, arrival, now);
        let key = self.open_call(message, arrival, server, [from, from], digest, now);
        self.set_own_side(key, message, arrival, application);
        self.calls[key].places = Places::of_caller(place);
        if let Some(server) = self.transactions.server_mut(server) {
            server.owner = ServerOwner::Application(key);
        }
        self.counters.taken_total += 1;
        self.counters.application_calls_total += 1;
        let served = Served::new(settings, application, session, offer, agreed, message);
        self.served.insert(key, Box::new(served));
        self.arm_unanswered(key, now);
        self.ask_call_hook(key, message, now);
        self.tell_status(key, "trying", None);
    }

    /// Fills in what referee is in a call: the callee, with a tag, a Contact and an Allow of its own.
    fn set_own_side(&mut self, key: CallKey, message: Message<'_>, arrival: &Arrival<'_>, application: ApplicationId) {
        let tag = hex16(self.random.next_u64());
        let call = &mut self.calls[key];
        call.application = Some(application);
        let to = [message.value(Header::To).unwrap_or_default(), b";tag=", &tag].concat();
        call.set(Party::Callee, Trait::Identity, &to);
        let user = Uri::parse(message.request_uri()).ok().and_then(|uri| uri.user);
        let mut contact = b"<sip:".to_vec();
        if let Some(user) = user {
            contact.extend_from_slice(user);
            contact.push(b'@');
        }
        contact.extend_from_slice(self.topology.sent_by(arrival.flow.bind));
        if arrival.flow.transport != Transport::Udp {
            contact.extend_from_slice(b";transport=");
            contact.extend_from_slice(arrival.flow.transport.uri_value().as_bytes());
        }
        contact.push(b'>');
        call.set(Party::Callee, Trait::Contact, &contact);
        call.set(Party::Callee, Trait::Allow, ALLOW.as_bytes());
    }

    /// Whether this INVITE is one that a call has had, with another branch.
    fn is_merged(&self, message: Message<'_>, digest: u64) -> bool {
        let keys = self.by_call_id.get(&digest);
        let number = message.cseq().map(|cseq| cseq.number).ok();
        keys.into_iter().flatten().any(|key| {
            let call = &self.calls[*key];
            call.application.is_some()
                && call.call_id() == message.call_id().unwrap_or_default()
                && call.tag(Party::Caller) == message.from_tag()
                && call.sequence(Party::Caller).highest() == number
        })
    }

    /// The address that stands in our session descriptions.
    fn address_of_bind(&self, flow: Flow) -> IpAddr {
        let bind = self.config().bind(flow.bind);
        let advertised = bind
            .advertise
            .as_deref()
            .map(|host| host.trim_matches(['[', ']']).parse());
        match advertised {
            Some(Ok(ip)) => ip,
            _ => bind.address.ip().to_canonical(),
        }
    }

    /// OPTIONS (RFC 3261 §11.2).
    pub(super) fn answer_as_agent(&mut self, message: Message<'_>, arrival: &Arrival<'_>, now: Instant) {
        let lines: [(&str, &[u8]); 3] = [
            ("Allow", ALLOW.as_bytes()),
            ("Accept", SDP.as_bytes()),
            ("Supported", SUPPORTED.as_bytes()),
        ];
        self.refuse(message, arrival, Refused::new(200, "OK"), &lines, now);
    }

    // ---- the INVITE's responses ----

    /// Answers the INVITE of a call that has no final response. `None`: it has one.
    pub(super) fn respond_to_invite(
        &mut self,
        key: CallKey,
        (code, reason): (u16, &str),
        extra: &[(&str, &[u8])],
        body: &str,
        now: Instant,
    ) -> Option<(Box<[u8]>, Flow)> {
        let call = self.calls.get(key)?;
        let server = call.invite?;
        let waiting = self.transactions.server(server).filter(|server| server.is_waiting())?;
        let (reply_to, source) = (waiting.reply_to, waiting.source());
        let mut index = std::mem::take(&mut self.scratch);
        let start = self.outbox.bytes.len();
        if let Some(request) = self.transactions.request_of(server, &mut index) {
            let stamp = request
                .top_via()
                .map(|via| ViaStamp::of(&via, source))
                .unwrap_or_default();
            let mut lines: SmallVec<[(&str, &[u8]); 8]> = SmallVec::new();
            let makes_dialog = (101..300).contains(&code);
            if makes_dialog {
                lines.extend(dialog_lines(call));
            }
            lines.extend(extra.iter().copied());
            let response = Response {
                code,
                reason,
                to_tag: call.tag(Party::Callee),
                copy_record_route: makes_dialog,
                extra: &lines,
                content_type: (!body.is_empty()).then_some(SDP),
                body: body.as_bytes(),
            };
            write_response(request, stamp, &response, &mut self.outbox.bytes);
        }
        self.scratch = index;
        let bytes = self.outbox.since(start);
        if bytes.is_empty() {
            return None;
        }
        let kept = Box::from(self.outbox.get(&bytes));
        self.transactions
            .respond(server, code, bytes, &mut self.outbox, &mut self.timers, now);
        Some((kept, reply_to))
    }

    /// Whether the offer of a call's INVITE can be answered.
    ///
    /// # Errors
    /// What the INVITE is to be refused with.
    pub(super) fn can_answer(&self, key: CallKey) -> Result<(), Unanswerable> {
        match self
            .served
            .get(&key)
            .map(|served| (&served.session, served.offer.as_deref()))
        {
            Some((session, Some(offer))) => session.judge(offer),
            Some((_, None)) | None => Ok(()),
        }
    }

    /// Answers a call with a 2xx, which is sent again until its ACK comes. `false`: it cannot be answered, and is refused.
    pub(super) fn answer_call(&mut self, key: CallKey, now: Instant) -> bool {
        let Some(served) = self.served.get_mut(&key) else {
            return false;
        };
        let body = match &served.offer {
            Some(offer) => served.session.answer(offer),
            // RFC 3261 §13.2.1: then the offer is ours, and the ACK has the answer.
            None => Ok(served.session.offer()),
        };
        let body = match body {
            Ok(body) => body,
            Err(problem) => {
                self.refuse_unanswerable(key, problem, now);
                return false;
            }
        };
        let agreed = served.agreed;
        let timer = agreed.response_lines();
        let lines: SmallVec<[(&str, &[u8]); 4]> = timer.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let Some((bytes, reply_to)) = self.respond_to_invite(key, (200, "OK"), &lines, &body, now) else {
            return false;
        };
        let Some(call) = self.calls.get_mut(key) else {
            return false;
        };
        call.state = CallState::Answered;
        call.answered = Some(now);
        self.counters.calls_answered_total += 1;
        if let Some(served) = self.served.get_mut(&key) {
            served.provisional = None;
            served.offer = None;
            served.timer.agree(agreed, now);
            let number = served.invite_number;
            self.repeat_until_acked(key, number, bytes, reply_to, now);
        }
        self.watch_session(key, now);
        self.tell_status(key, "in-progress", Some((200, "OK")));
        self.tell_call(key);
        true
    }

    /// Refuses a call whose offer cannot be answered.
    pub(super) fn refuse_unanswerable(&mut self, key: CallKey, problem: Unanswerable, now: Instant) {
        let host = self
            .served
            .get(&key)
            .map(|served| self.config().application(served.application).name.clone());
        let refusal = refusal_of(problem, &host.unwrap_or_default());
        let lines: SmallVec<[(&str, &[u8]); 2]> = borrowed(&refusal);
        self.refuse_call(key, (refusal.status.code, refusal.status.reason), &lines, "failed", now);
    }

    /// Refuses a call that is not answered, and ends it. `status`: what the application is told.
    pub(super) fn refuse_call(
        &mut self,
        key: CallKey,
        (code, reason): (u16, &str),
        extra: &[(&str, &[u8])],
        status: &'static str,
        now: Instant,
    ) {
        self.respond_to_invite(key, (code, reason), extra, "", now);
        let transfer = self.calls.get(key).and_then(|call| call.extra()?.transfer);
        if let Some(transfer) = transfer {
            self.with_transfer(transfer, now, |transfer| transfer.on_ended_here(Cause::CallEnded, now));
        }
        self.tell_status(key, status, Some((code, reason)));
        self.end_call(key, now);
    }

    /// Says that the call rings, so that neither its caller nor a proxy before us gives it up (RFC 3261 §13.3.1.1); reliably
    /// where the caller requires that (RFC 3262 §3).
    pub(super) fn ring(&mut self, key: CallKey, now: Instant) {
        let (Some(served), Some(call)) = (self.served.get_mut(&key), self.calls.get_mut(key)) else {
            return;
        };
        let is_first = call.state == CallState::Trying;
        // RFC 3262 §3: not a second one before the first has its PRACK.
        if !matches!(call.state, CallState::Trying | CallState::Ringing) || served.provisional.is_some() {
            return;
        }
        if served.requires_prack && served.offer.is_none() {
            // RFC 3261 §13.2.1: it would have to have our offer, which is the 2xx's.
            return;
        }
        call.state = CallState::Ringing;
        let reliably = served.requires_prack;
        served.rseq += 1;
        let rseq = served.rseq;
        let number = decimal(rseq);
        let lines: &[(&str, &[u8])] = match reliably {
            true => &[("Require", b"100rel"), ("RSeq", number.as_bytes())],
            false => &[],
        };
        let sent = self.respond_to_invite(key, (180, "Ringing"), lines, "", now);
        let t1 = self.config().timers.t1;
        if let (true, Some((bytes, reply_to)), Some(served)) = (reliably, sent, self.served.get_mut(&key)) {
            served.provisional = Some(Unpracked {
                bytes,
                reply_to,
                rseq,
                wait: t1,
                again_at: now + t1,
                until: now + 64 * t1,
            });
            self.timers.arm_once(now, t1, TimerKey::Reliable(key));
        }
        if is_first {
            self.tell_status(key, "ringing", Some((180, "Ringing")));
            self.tell_call(key);
        }
    }

    /// A reliable provisional response is sent again, twice as late each time.
    pub(super) fn on_reliable_due(&mut self, key: CallKey, now: Instant) {
        let provisional = self.served.get_mut(&key).and_then(|served| served.provisional.as_mut());
        let Some(provisional) = provisional.filter(|provisional| provisional.again_at <= now) else {
            return;
        };
        if provisional.until <= now {
            // RFC 3262 §3: a caller that required it and acknowledges nothing.
            return self.refuse_call(key, (504, "Server Time-out"), &[], "failed", now);
        }
        self.outbox.send_copy(provisional.reply_to, &provisional.bytes, None);
        provisional.wait *= 2;
        provisional.again_at = (now + provisional.wait).min(provisional.until);
        let wait = provisional.again_at.since(now);
        self.timers.arm_once(now, wait, TimerKey::Reliable(key));
    }

    pub(super) fn repeat_until_acked(
        &mut self,
        key: CallKey,
        number: u32,
        bytes: Box<[u8]>,
        reply_to: Flow,
        now: Instant,
    ) {
        let t1 = self.config().timers.t1;
        if let Some(served) = self.served.get_mut(&key) {
            served.answer = Some(Unacknowledged {
                bytes,
                reply_to,
                number,
                wait: t1,
                again_at: now + t1,
                until: now + 64 * t1,
            });
            self.timers.arm_once(now, t1, TimerKey::Repeat(key));
        }
    }

    /// A 2xx is sent again: after T1, then twice as late each time up to T2, on any transport (RFC 3261 §13.3.1.4).
    pub(super) fn on_repeat_due(&mut self, key: CallKey, now: Instant) {
        let t2 = self.config().timers.t2;
        let answer = self.served.get_mut(&key).and_then(|served| served.answer.as_mut());
        let Some(answer) = answer.filter(|answer| answer.again_at <= now) else {
            return;
        };
        if answer.until <= now {
            // No ACK came: the dialog is confirmed, and the session is to be ended.
            self.counters.answers_unacknowledged_total += 1;
            if let Some(served) = self.served.get_mut(&key) {
                served.answer = None;
            }
            let extra = self.calls.get_mut(key).and_then(Call::extra_if_any);
            let headers = extra
                .map(|extra| std::mem::take(&mut extra.bye_headers))
                .unwrap_or_default();
            return self.end_both(key, &headers, Cause::CallEnded, now);
        }
        self.outbox.send_copy(answer.reply_to, &answer.bytes, None);
        answer.wait = (answer.wait * 2).min(t2);
        answer.again_at = (now + answer.wait).min(answer.until);
        let wait = answer.again_at.since(now);
        self.timers.arm_once(now, wait, TimerKey::Repeat(key));
    }

    /// A call without an answer is looked at once a minute: it rings on, or has had its time.
    pub(super) fn arm_unanswered(&mut self, key: CallKey, now: Instant) {
        let (Some(call), Some(served)) = (self.calls.get(key), self.served.get(&key)) else {
            return;
        };
        let over = call.created + self.config().application(served.application).answer_timeout;
        let wait = over.since(now).min(PROVISIONAL_EVERY);
        self.timers.arm_once(now, wait, TimerKey::Unanswered(key));
    }

    pub(super) fn on_unanswered_due(&mut self, key: CallKey, now: Instant) {
        let (Some(call), Some(served)) = (self.calls.get(key), self.served.get(&key)) else {
            return;
        };
        if !matches!(call.state, CallState::Trying | CallState::Ringing) {
            return;
        }
        if call.created + self.config().application(served.application).answer_timeout <= now {
            self.counters.answer_timeouts_total += 1;
            return self.refuse_call(key, (480, "Temporarily Unavailable"), &[], "no-answer", now);
        }
        self.ring(key, now);
        self.arm_unanswered(key, now);
    }

    /// The 200 to a CANCEL has the tag of what its INVITE is answered with (RFC 3261 §9.2).
    pub(super) fn answer_cancel(
        &mut self,
        server: ServerKey,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        key: CallKey,
        now: Instant,
    ) {
        let start = self.outbox.bytes.len();
        // The call may be over by now.
        let another = hex16(self.random.next_u64());
        let tag = self.calls.get(key).and_then(|call| call.tag(Party::Callee));
        let response = Response {
            code: 200,
            reason: "OK",
            to_tag: Some(tag.unwrap_or(&another)),
            copy_record_route: false,
            extra: &[],
            content_type: None,
            body: b"",
        };
        let stamp = ViaStamp::of(&arrival.via, arrival.flow.peer);
        write_response(message, stamp, &response, &mut self.outbox.bytes);
        let bytes = self.outbox.since(start);
        self.transactions
            .respond(server, 200, bytes, &mut self.outbox, &mut self.timers, now);
    }

    /// The caller gives up (RFC 3261 §9.2). What the application still answers changes nothing.
    pub(super) fn on_served_cancel(&mut self, key: CallKey, now: Instant) {
        self.refuse_call(key, (487, "Request Terminated"), &[], "no-answer", now);
    }

    // ---- refusals ----

    pub(super) fn refuse_as(&mut self, message: Message<'_>, arrival: &Arrival<'_>, refusal: Refusal, now: Instant) {
        self.refuse(message, arrival, refusal.status, &borrowed(&refusal), now);
    }

    /// RFC 3261 §14.2: another INVITE of the caller's is open; it may come again in 0 to 10 s.
    pub(super) fn refuse_for_now(&mut self, message: Message<'_>, arrival: &Arrival<'_>, now: Instant) {
        let wait = decimal(self.random.below(11) as u32);
        let lines: [(&str, &[u8]); 1] = [("Retry-After", wait.as_bytes())];
        self.refuse(
            message,
            arrival,
            Refused::new(500, "Server Internal Error"),
            &lines,
            now,
        );
    }

    pub(super) fn refuse_interval(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        small: agent::TooSmall,
        now: Instant,
    ) {
        self.counters.session_intervals_refused_total += 1;
        let refusal = Refusal::new(422, "Session Interval Too Small").with("Min-SE", small.min_se.to_string());
        self.refuse_as(message, arrival, refusal, now);
    }
}

/// RFC 3261 §13.3.1.1.
const PROVISIONAL_EVERY: Duration = Duration::from_secs(60);

fn borrowed(refusal: &Refusal) -> SmallVec<[(&str, &[u8]); 2]> {
    let lines = refusal.lines.iter();
    lines.map(|(name, value)| (*name, value.as_bytes())).collect()
}

/// What every response that makes or refreshes the dialog says of us.
pub(super) fn dialog_lines(call: &Call) -> [(&str, &[u8]); 3] {
    [
        ("Contact", call.get(Party::Callee, Trait::Contact)),
        ("Allow", call.get(Party::Callee, Trait::Allow)),
        ("Supported", SUPPORTED.as_bytes()),
    ]
}

/// RFC 3261 §8.2.2.3: extensions that are required and not known.
pub(super) fn refuses_extensions(message: Message<'_>) -> Option<Refusal> {
    let lines = message.lines_of(Header::Require).map(|line| line.value);
    let unknown: Vec<String> = lines
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(|token| String::from_utf8_lossy(token.trim_ascii()).into_owned())
        .filter(|token| !token.is_empty() && !EXTENSIONS.iter().any(|known| token.eq_ignore_ascii_case(known)))
        .collect();
    (!unknown.is_empty()).then(|| Refusal::new(420, "Bad Extension").with("Unsupported", unknown.join(", ")))
}

/// The session description in a body; `None`: it has none.
pub(super) fn session_in(message: Message<'_>) -> Result<Option<&[u8]>, Refusal> {
    match body::session(message) {
        Session::None => Ok(None),
        Session::Description(description) => Ok(Some(description)),
        Session::Unknown => Err(Refusal::new(415, "Unsupported Media Type").with("Accept", SDP)),
        Session::Encoded => Err(Refusal::new(415, "Unsupported Media Type").with("Accept-Encoding", "identity")),
    }
}

/// What an offer that gets no answer is refused with (RFC 3261 §21.4.26); `agent` stands in the Warning.
pub(super) fn refusal_of(problem: Unanswerable, agent: &str) -> Refusal {
    let agent = match crate::config::value::is_token(agent) {
        true => agent,
        false => "referee",
    };
    match problem {
        Unanswerable::Pending => Refusal::new(491, "Request Pending"),
        Unanswerable::Malformed(error) => {
            Refusal::new(400, "Bad Session Description").with("Warning", format!("399 {agent} \"{error}\""))
        }
        Unanswerable::Refused(refusal) => {
            let (code, text) = refusal.warning();
            Refusal::new(488, "Not Acceptable Here").with("Warning", format!("{code} {agent} \"{text}\""))
        }
    }
}
