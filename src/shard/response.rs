//! A response's way back, and what becomes of a request that gets none (RFC 3261 §16.7 to §16.10).

use super::own::refuses_subscription;
use super::{ClientOwner, Shard, TimerKey};
use crate::call::CallState;
use crate::call::refers::Referrer;
use crate::message::{Message, Method, Uri};
use crate::proxy::{self, Cancelled, ContextKey, Refused};
use crate::timer::Instant;
use crate::traversal::{PARAMETER, Traversal};
use crate::usage;

/// Why a branch ended without a final response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BranchFailure {
    Timeout,
    Transport,
}

impl Shard {
    pub(super) fn on_response(&mut self, message: Message<'_>, now: Instant) {
        self.counters.responses_total += 1;
        let answered = self
            .transactions
            .on_response(message, &mut self.outbox, &mut self.timers, now);
        let answered = match answered {
            Ok(Some(answered)) => answered,
            // RFC 6026 §7.3: what matches nothing is dropped; a repeat was absorbed.
            Ok(None) => {
                self.counters.stray_responses_total += 1;
                return;
            }
            Err(_) => {
                self.counters.malformed_total += 1;
                self.counters.malformed_unanswered_total += 1;
                return;
            }
        };
        let Some(client) = self.transactions.client(answered.client) else {
            return;
        };
        match client.owner {
            ClientOwner::Relay(context) => self.relay_response(context, message, answered.code, now),
            ClientOwner::Cancel => {}
            ClientOwner::Refer(transfer) => self.on_refer_answered(transfer, message, answered.code, now),
            ClientOwner::Bye(call, _) if answered.code >= 200 => self.on_bye_answered(call, now),
            ClientOwner::Bye(..) => {}
        }
    }

    fn relay_response(&mut self, key: ContextKey, message: Message<'_>, code: u16, now: Instant) {
        let timer_c = self.config().timers.timer_c;
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let is_invite = context.method == Method::Invite;
        if code < 200 {
            if let Some(Cancelled::Wanted(reason)) = &context.cancelled {
                let reason = reason.clone();
                self.cancel_branch(key, reason.as_deref(), now);
            } else if code > 100 && context.timer_c.is_some() {
                // RFC 3261 §16.7 step 2: not by a 100.
                context.timer_c = Some((now + timer_c).min(context.rings_until));
            }
        }
        // RFC 4320 §4.1: a non-INVITE has no provisional response but 100, which goes no further.
        if code == 100 || code < 200 && !is_invite {
            return;
        }
        self.learn_from_response(key, message, code);
        let interval = self.note_interval(key, message, code, now);
        let Some(context) = self.contexts.get(key) else { return };
        let (server, cseq) = (context.server, context.cseq);
        let Some(transaction) = self.transactions.server(server) else {
            return;
        };
        if !transaction.may_send(code) {
            return;
        }
        let to = transaction.reply_to.transport;
        if code == 503 {
            // RFC 3261 §16.7 step 6: a 503 says that we cannot be used, which is not so.
            self.answer_stored(server, Refused::new(500, "Server Internal Error"), now);
        } else {
            let start = self.outbox.bytes.len();
            proxy::write_response(message, cseq, interval, to, &mut self.editor, &mut self.outbox.bytes);
            let bytes = self.outbox.since(start);
            self.transactions
                .respond(server, code, bytes, &mut self.outbox, &mut self.timers, now);
        }
        self.counters.relayed_responses_total += 1;
        if code >= 200 {
            self.note_subscription(key, message, code);
            self.on_final(key, code, now);
        }
    }

    /// Takes from a response what it shows of the dialog.
    fn learn_from_response(&mut self, key: ContextKey, message: Message<'_>, code: u16) {
        let Some(context) = self.contexts.get(key) else { return };
        let (call_key, method, from, is_initial, server) = (
            context.call,
            context.method,
            context.from,
            context.is_initial,
            context.server,
        );
        let Some(call_key) = call_key else { return };
        let is_2xx = (200..=299).contains(&code);
        if is_initial {
            let has_tag = message.to().is_ok_and(|to| to.tag.is_some());
            let call_id = message.call_id().unwrap_or_default();
            let secret = self.setup.secret;
            let Some(call) = self.calls.get_mut(call_key) else {
                return;
            };
            // A confirmed dialog is not moved by the 2xx of another fork; that one is relayed by its token.
            // A repeated 2xx does not bring back a call that is being ended.
            // RFC 3261 §12.1.2: a callee without a tag is one of RFC 2543, and has answered all the same.
            if (has_tag || is_2xx) && code < 300 && matches!(call.state, CallState::Trying | CallState::Ringing) {
                call.learn_callee(message, |uri| {
                    let token = Uri::parse(uri).ok().and_then(|uri| uri.param(PARAMETER).flatten());
                    // A spiral has tokens of its other passes above ours: those lead to the callee, like any proxy's.
                    let traversal = token.and_then(|token| Traversal::read(token, call_id, &secret));
                    traversal.is_some_and(|traversal| traversal.call == call_key)
                });
                if is_2xx {
                    call.state = CallState::Answered;
                } else {
                    call.state = CallState::Ringing;
                }
            }
            return;
        }
        if !is_2xx || !proxy::refreshes_target(method) {
            return;
        }
        // RFC 3261 §12.2.1.2: both remote targets move with the 2xx.
        let mut index = std::mem::take(&mut self.scratch);
        if let Some(call) = self.calls.get_mut(call_key) {
            if let Some(request) = self.transactions.request_of(server, &mut index) {
                call.learn_seen(from, request);
            }
            call.learn_seen(from.other(), message);
        }
        self.scratch = index;
    }

    /// Takes from the final response to a REFER or a NOTIFY of the parties what becomes of their subscription.
    fn note_subscription(&mut self, key: ContextKey, message: Message<'_>, code: u16) {
        let Some(context) = self.contexts.get(key) else { return };
        let (method, from, referrer) = (context.method, context.from, Referrer::Party(context.server));
        let Some(extra) = context.call.and_then(|call| self.calls.get_mut(call)?.extra_if_any()) else {
            return;
        };
        match method {
            Method::Refer if code >= 300 || refuses_subscription(message) => extra.refers.refused(referrer),
            Method::Notify if usage::ends(method, code).is_some() => extra.refers.unknown_to_party(from),
            _ => {}
        }
    }

    fn on_final(&mut self, key: ContextKey, code: u16, now: Instant) {
        let Some(context) = self.contexts.get(key) else { return };
        let Some(call_key) = context.call else { return };
        let (is_initial, method, other) = (context.is_initial, context.method, context.from.other());
        let Some(call) = self.calls.get_mut(call_key) else {
            return;
        };
        match (is_initial, method) {
            (true, _) if code >= 300 => {
                if call.state != CallState::Answered {
                    self.remove_call(call_key);
                }
            }
            (true, _) => {
                if call.answered.is_none() {
                    call.answered = Some(now);
                    self.counters.calls_answered_total += 1;
                }
            }
            // A challenged BYE comes again with credentials.
            (false, Method::Bye) if !matches!(code, 401 | 407) => self.end_call(call_key, now),
            (false, _) if code == 481 && call.extra().is_some_and(|extra| extra.suspect == Some(other)) => {
                self.suspect(call_key, other, now);
            }
            (false, _) => self.weigh_answer(call_key, method, other, code, now),
        }
    }

    /// The answer to a request whose branch failed.
    pub(super) fn on_branch_failed(&mut self, key: ContextKey, failure: BranchFailure, now: Instant) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        context.client_gone = true;
        let (server, method, cancelled) = (context.server, context.method, context.cancelled.is_some());
        let (call, is_initial, other) = (context.call, context.is_initial, context.from.other());
        if method == Method::Refer
            && let Some(extra) = call.and_then(|call| self.calls.get_mut(call)?.extra_if_any())
        {
            // It may have arrived all the same.
            extra.refers.ended(Referrer::Party(server));
        }
        if let Some(call) = call.filter(|_| failure == BranchFailure::Timeout && !is_initial && !cancelled) {
            self.weigh_answer(call, method, other, 408, now);
        }
        match (method, failure) {
            (Method::Invite, _) if cancelled => {
                self.answer_stored(server, Refused::new(487, "Request Terminated"), now)
            }
            (Method::Invite, BranchFailure::Timeout) => {
                self.answer_stored(server, Refused::new(408, "Request Timeout"), now)
            }
            // RFC 4320 §4.2: no 408 to a non-INVITE; it comes too late to be of use.
            (_, BranchFailure::Timeout) => {
                self.transactions.drop_server(server);
                self.leave_context(key, |context| context.server_gone = true);
            }
            // RFC 3261 §16.9: as if the branch had answered 503, which is passed on as 500.
            (_, BranchFailure::Transport) => {
                self.answer_stored(server, Refused::new(500, "Next Hop Unreachable"), now);
            }
        }
        if self.contexts.get(key).is_some() {
            self.on_final(key, 500, now);
        } else if let (Some(call), Method::Bye) = (call, method) {
            self.end_call(call, now);
        }
        self.leave_context(key, |_| {});
    }

    /// RFC 3261 §16.8.
    pub(super) fn on_timer_c(&mut self, key: ContextKey, now: Instant) {
        let Some(context) = self.contexts.get(key) else { return };
        let (Some(client), Some(deadline)) = (context.client, context.timer_c) else {
            return;
        };
        let Some(transaction) = self.transactions.client(client) else {
            return;
        };
        if !transaction.is_waiting() {
            return;
        }
        if now < deadline {
            // A provisional response has moved it.
            self.timers.arm_once(now, deadline.since(now), TimerKey::TimerC(key));
            return;
        }
        self.counters.rings_over_max_total += u64::from(context.rings_until <= now);
        if transaction.state == crate::transaction::client::ClientState::Proceeding {
            self.cancel_branch(key, None, now);
        } else {
            self.transactions.drop_client(client);
            self.on_branch_failed(key, BranchFailure::Timeout, now);
        }
    }

    /// RFC 3261 §9.1: 64·T1 after a CANCEL the branch counts as ended.
    pub(super) fn on_cancel_wait(&mut self, key: ContextKey, now: Instant) {
        let Some(client) = self.contexts.get(key).and_then(|context| context.client) else {
            return;
        };
        if self
            .transactions
            .client(client)
            .is_some_and(|client| client.is_waiting())
        {
            self.transactions.drop_client(client);
            self.on_branch_failed(key, BranchFailure::Timeout, now);
        }
    }
}
