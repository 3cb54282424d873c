//! Requests of referee's own as the user agent of a call: session refreshes (RFC 4028 §7, §10; RFC 3261 §14.1) and what an
//! application has it send.

use super::saying::{Saying, Unsent};
use super::{ClientOwner, Shard, TimerKey, Waiting};
use crate::call::{CallKey, CallState, Party, Trait};
use crate::message::value::lists_token;
use crate::message::{Message, Method};
use crate::session_timer::Policy;
use crate::session_timer::agent::Due;
use crate::timer::Instant;
use crate::transaction::ClientKey;
use crate::transfer::Cause;
use smallvec::SmallVec;
use std::time::Duration;

/// A refresh under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refresh {
    pub client: ClientKey,
    pub method: Method,
}

/// Between two looks at a session. Timers are not taken back, so that a short call leaves its behind for no longer than this.
const LOOK: Duration = Duration::from_secs(60);
/// Before a refresh that was refused or could not be sent is tried again; the least interval leaves room for three.
const TRY_AGAIN: Duration = Duration::from_secs(5);

impl Shard {
    pub(super) fn session_policy(&self) -> Policy {
        let session = self.config().session;
        let seconds = |interval: Option<Duration>| interval.map(|interval| interval.as_secs() as u32);
        Policy {
            expires: seconds(session.expires),
            least: seconds(session.min_se),
        }
    }

    // ---- session timers ----

    /// Has a call looked at when its session needs it.
    pub(super) fn watch_session(&mut self, key: CallKey, now: Instant) {
        let Some(served) = self.served.get_mut(&key) else {
            return;
        };
        let wait = match served.timer.due(now) {
            Due::Nothing(None) => {
                served.look_at = None;
                return;
            }
            Due::Nothing(Some(at)) => at.since(now).min(LOOK),
            Due::Refresh | Due::Over => Duration::ZERO,
        };
        served.look_at = Some(now + wait);
        self.timers.arm_once(now, wait, TimerKey::Session(key));
    }

    pub(super) fn on_session_due(&mut self, key: CallKey, now: Instant) {
        let is_answered = self
            .calls
            .get(key)
            .is_some_and(|call| call.state == CallState::Answered);
        let Some(served) = self.served.get(&key).filter(|_| is_answered) else {
            return;
        };
        // An older look.
        if served.look_at.is_none_or(|at| now < at) {
            return;
        }
        match served.timer.due(now) {
            Due::Nothing(_) => {}
            Due::Refresh => self.refresh_session(key, now),
            Due::Over => {
                self.counters.sessions_expired_total += 1;
                return self.end_both(key, &[], Cause::CallEnded, now);
            }
        }
        self.watch_session(key, now);
    }

    /// Refreshes the session by UPDATE, which needs no description, or by an INVITE that offers what holds.
    pub(super) fn refresh_session(&mut self, key: CallKey, now: Instant) {
        let Some(call) = self.calls.get(key).filter(|call| call.state == CallState::Answered) else {
            return;
        };
        let takes_update = lists_token(call.get(Party::Caller, Trait::Allow), "UPDATE");
        let Some(served) = self.served.get_mut(&key).filter(|served| served.refresh.is_none()) else {
            return;
        };
        if served.answer.is_some() {
            // An INVITE of the caller's has no ACK yet: its session is fresh.
            return served.timer.refresh_after(Some(now + TRY_AGAIN));
        }
        let method = match takes_update && !served.refuses_update {
            true => Method::Update,
            false => Method::Invite,
        };
        let body = match method {
            Method::Invite => served.session.offer(),
            _ => String::new(),
        };
        served.timer.refresh_after(None);
        let lines = served.timer.request_lines();
        let lines: SmallVec<[(&str, &[u8]); 2]> = lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let saying = Saying {
            body: body.as_bytes(),
            content_type: (!body.is_empty()).then_some("application/sdp"),
            ..Saying::of(method, &lines)
        };
        match self.send_saying(key, Party::Caller, &saying, ClientOwner::Refresh(key), now) {
            Ok((_, client)) => {
                self.counters.session_refreshes_total += 1;
                if let Some(served) = self.served.get_mut(&key) {
                    served.refresh = Some(Refresh { client, method });
                }
            }
            Err(unsent) => {
                self.give_up_refresh(key);
                let waits = match unsent {
                    Unsent::Wait(name) => self.wait_for(&name, Waiting::Refresh(key)).is_ok(),
                    Unsent::Unreachable | Unsent::Never => false,
                };
                if !waits {
                    self.refresh_later(key, TRY_AGAIN, now);
                }
            }
        }
    }

    fn give_up_refresh(&mut self, key: CallKey) {
        if let Some(served) = self.served.get_mut(&key) {
            served.refresh = None;
            served.session.give_up_offer();
        }
    }

    fn refresh_later(&mut self, key: CallKey, wait: Duration, now: Instant) {
        if let Some(served) = self.served.get_mut(&key) {
            served.timer.refresh_after(Some(now + wait));
        }
        self.watch_session(key, now);
    }

    pub(super) fn on_refresh_answered(
        &mut self,
        key: CallKey,
        client: ClientKey,
        message: Message<'_>,
        code: u16,
        now: Instant,
    ) {
        if code < 200 {
            return;
        }
        let open = self.served.get_mut(&key).and_then(|served| {
            let is_its = served.refresh.is_some_and(|refresh| refresh.client == client);
            if is_its { served.refresh.take() } else { None }
        });
        if let Some(refresh) = open {
            self.after_refresh(key, refresh.method, message, code, now);
        } else if let (..300, false, Some(call)) = (code, self.served.contains_key(&key), self.calls.get_mut(key)) {
            // Behind a BYE: only its ACK is left to be sent.
            call.learn(Party::Caller, message);
        }
        // RFC 3261 §13.2.2.4: each 2xx, also one that comes again; to where it says that its sender is (§12.2.1.2).
        if let (..300, Ok(cseq)) = (code, message.cseq())
            && cseq.method == Method::Invite
        {
            self.send_ack(key, Party::Caller, cseq.number, now);
        }
        if open.is_some() {
            self.release_refer(key, now);
        }
    }

    fn after_refresh(&mut self, key: CallKey, method: Method, message: Message<'_>, code: u16, now: Instant) {
        let Some(served) = self.served.get_mut(&key) else {
            return;
        };
        match code {
            200..=299 => {
                if method == Method::Invite {
                    let answer = crate::offer_answer::body::session(message);
                    let answer = match answer {
                        crate::offer_answer::body::Session::Description(answer) => answer,
                        _ => b"",
                    };
                    served.session.take_answer(answer);
                }
                served.timer.refreshed(message, now);
                if let Some(call) = self.calls.get_mut(key) {
                    call.learn(Party::Caller, message);
                }
                self.watch_session(key, now);
            }
            408 | 481 => {
                self.give_up_refresh(key);
                self.end_both(key, &[], Cause::CallEnded, now);
            }
            422 if served.timer.too_small(message) => {
                self.give_up_refresh(key);
                self.refresh_later(key, Duration::ZERO, now);
            }
            // RFC 3261 §14.1: the side that did not make the Call-ID waits up to 2 s.
            491 => {
                self.give_up_refresh(key);
                let wait = Duration::from_millis(10 * self.random.below(201));
                self.refresh_later(key, wait, now);
            }
            405 | 501 if method == Method::Update => {
                served.refuses_update = true;
                self.refresh_later(key, Duration::ZERO, now);
            }
            _ => {
                self.give_up_refresh(key);
                self.refresh_later(key, TRY_AGAIN, now);
            }
        }
    }

    /// A refresh got no final response, or could not be sent.
    pub(super) fn on_refresh_failed(&mut self, key: CallKey, is_timeout: bool, now: Instant) {
        self.give_up_refresh(key);
        match is_timeout {
            // RFC 4028 §10: as a 408.
            true => self.end_both(key, &[], Cause::CallEnded, now),
            false => self.refresh_later(key, TRY_AGAIN, now),
        }
        self.release_refer(key, now);
    }

    /// What was kept of a call that an application led goes with it.
    pub(super) fn forget_served(&mut self, key: CallKey, now: Instant) {
        if let Some(served) = self.served.get_mut(&key) {
            // Each request is told of; nothing runs any more.
            served.program.replaced();
            let open: SmallVec<[u32; 1]> = served.requests.iter().map(|(number, _)| *number).collect();
            for number in open {
                self.on_request_failed(key, number, "the call has ended", now);
            }
        }
        let Some(served) = self.served.remove(&key) else { return };
        let Some(refresh) = served.refresh else { return };
        // The BYE ends what it was for.
        match self.transactions.client(refresh.client) {
            Some(client) if client.is_waiting() && refresh.method == Method::Invite => {
                self.transactions.leave(refresh.client, &mut self.timers, now);
            }
            Some(client) if client.is_waiting() => self.transactions.drop_client(refresh.client),
            Some(_) | None => {}
        }
    }

    // ---- requests of the application's own ----

    pub(super) fn send_request_of_application(&mut self, key: CallKey, number: u32, now: Instant) {
        let request = self.served.get(&key).and_then(|served| {
            let open = served.requests.iter().find(|(open, _)| *open == number);
            open.map(|(_, request)| request.clone())
        });
        let Some(request) = request else { return };
        let mut lines: SmallVec<[(&str, &[u8]); 8]> = SmallVec::new();
        let mut content_type = Some("text/plain;charset=UTF-8");
        for (name, value) in &request.headers {
            if name.eq_ignore_ascii_case("Content-Type") || name.eq_ignore_ascii_case("c") {
                content_type = None;
                if request.body.is_empty() {
                    continue;
                }
            }
            lines.push((name.as_str(), value.as_bytes()));
        }
        let method = Method::from_token(request.method.as_bytes());
        let saying = Saying {
            token: &request.method,
            body: request.body.as_bytes(),
            content_type: content_type.filter(|_| !request.body.is_empty()),
            ..Saying::of(method, &lines)
        };
        let owner = ClientOwner::Request(key, number);
        match self.send_saying(key, Party::Caller, &saying, owner, now) {
            Ok(_) => {}
            Err(Unsent::Wait(name)) => {
                if self.wait_for(&name, Waiting::OwnRequest(key, number)).is_err() {
                    self.on_request_failed(key, number, "too much waits for names", now);
                }
            }
            Err(Unsent::Unreachable) => {
                self.counters.unroutable_total += 1;
                self.on_request_failed(key, number, "the caller cannot be reached", now);
            }
            Err(Unsent::Never) => self.on_request_failed(key, number, "the request cannot be built", now),
        }
    }
}
