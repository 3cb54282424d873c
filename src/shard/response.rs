//! A response's way back, and what becomes of a request that gets none (RFC 3261 §16.7 to §16.10).

use super::places::FULL_RETRY_AFTER;
use super::refer::refuses_subscription;
use super::{ClientOwner, Counters, Shard, TimerKey};
use crate::call::refers::Referrer;
use crate::call::{CallKey, CallState, Party};
use crate::config::TrunkId;
use crate::dialog_usage;
use crate::message::{Message, Method, Uri, Via, parse};
use crate::proxy::context::{BranchNumber, Cancelled, ContextKey};
use crate::proxy::search::Cause;
use crate::proxy::{self, Refused};
use crate::timer::Instant;
use crate::transaction::client::{Client, ClientState};
use crate::transaction::is_challenge;
use crate::transport::Flow;
use crate::traversal::{PARAMETER, Traversal};

/// Why a branch ended without a final response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BranchFailure {
    Timeout,
    Transport,
    /// Its trunk had no room for the call.
    Full,
}

impl BranchFailure {
    /// What it means for the search.
    pub fn cause(self) -> Cause {
        match self {
            BranchFailure::Timeout | BranchFailure::Transport => Cause::NoUse,
            BranchFailure::Full => Cause::Full,
        }
    }

    /// The response it counts as (RFC 3261 §16.8, §16.9).
    pub fn code(self) -> u16 {
        match self {
            BranchFailure::Timeout => 408,
            BranchFailure::Transport | BranchFailure::Full => 503,
        }
    }
}

impl Shard {
    pub(super) fn on_response(&mut self, flow: Flow, message: Message<'_>, now: Instant) {
        self.counters.responses_total += 1;
        let topology = &self.topology;
        let fits = |client: &Client<ClientOwner>, via: &Via<'_>| {
            // RFC 3261 §16.7 step 3: without a Via below ours it would have nowhere to go. One to a request of ours has none.
            let is_relayed = matches!(
                client.owner,
                ClientOwner::Relay(..) | ClientOwner::Challenged { relayed: true }
            );
            // RFC 3261 has the branch alone tell; but it stands in what everyone on the way can read. Whoever is asked answers from
            // its address, or from another of its trunk's.
            let is_asked = client.flow.connection.is_some() && client.flow.connection == flow.connection
                || topology.are_one_peer(client.flow, flow);
            is_asked && topology.is_sent_by(client.flow.bind, via) && message.is_via_alone(via) != is_relayed
        };
        let answered = self
            .transactions
            .on_response(message, fits, &mut self.outbox, &mut self.timers, now);
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
                self.counters.stray_responses_total += 1;
                return;
            }
        };
        let Some(client) = self.transactions.client(answered.client) else {
            return;
        };
        let relayed_at_once = |counters: &Counters| counters.relayed_responses_total - counters.kept_responses_total;
        let before = relayed_at_once(&self.counters);
        let (owner, flow) = (client.owner, client.hop());
        match owner {
            _ if is_challenge(answered.code) && self.answers_challenge(answered.client, owner, message, now) => {}
            ClientOwner::Relay(context, branch) => {
                self.relay_response(context, branch, flow, message, answered.code, now);
            }
            ClientOwner::Cancel | ClientOwner::LargeAck | ClientOwner::Challenged { .. } => {}
            ClientOwner::Refer(transfer) => self.on_refer_answered(transfer, message, answered.code, now),
            ClientOwner::Bye(call, _) if answered.code >= 200 => self.on_bye_answered(call, now),
            ClientOwner::Bye(..) => {}
            ClientOwner::Refresh(call) => self.on_refresh_answered(call, answered.client, message, answered.code, now),
            ClientOwner::Request(call, number) if answered.code >= 200 => {
                let method = message.cseq().map_or(Method::Other, |cseq| cseq.method);
                self.on_request_answered(call, number, method, answered.code, now);
            }
            ClientOwner::Request(..) => {}
            ClientOwner::Probe(probe) => self.on_probe_answered(probe, message, answered.code, now),
        }
        if relayed_at_once(&self.counters) == before {
            self.counters.absorbed_responses_total += 1;
        }
    }

    fn relay_response(
        &mut self,
        key: ContextKey,
        number: BranchNumber,
        flow: Flow,
        message: Message<'_>,
        code: u16,
        now: Instant,
    ) {
        let timer_c = self.config().timers.timer_c;
        self.note_response(key, number, message, code, now);
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let rings_until = context.rings_until;
        let Some(branch) = context.branch_mut(number) else {
            return;
        };
        if code < 200 {
            if let Some(Cancelled::Wanted(reason)) = &branch.cancelled {
                let reason = reason.clone();
                self.cancel_branch(key, number, reason.as_deref(), now);
            } else if code > 100 && branch.timer_c.is_some() {
                // RFC 3261 §16.7 step 2: not by a 100.
                branch.timer_c = Some((now + timer_c).min(rings_until));
            }
        }
        let Some(context) = self.contexts.get(key) else { return };
        // RFC 3261 §16.7 step 5: a 100 is hop by hop. RFC 4320 §4.1: nothing else is provisional where no INVITE is.
        if code == 100 || (code < 200 && context.method != Method::Invite) {
            return;
        }
        if code >= 300 && context.search.is_some() {
            let cause = if code == 503 { Cause::NoUse } else { Cause::Refused };
            return self.end_branch(key, number, code, Some(message), cause, now);
        }
        let (server, method) = (context.server, context.method);
        self.learn_from_response(key, number, flow, message, code, now);
        if !self.transactions.may_send(server, code) {
            // A target that says so after Timer L of the answered INVITE (RFC 6026 §7.1) is heard by nobody.
            let context = self.contexts.get_mut(key).filter(|_| code >= 200);
            if let Some(branch) = context.and_then(|context| context.branch_mut(number)) {
                branch.has_ended = true;
            }
            return;
        }
        match code {
            // RFC 3261 §16.7 step 6: a 503 says that we cannot be used, which is not so.
            503 => {
                self.answer_stored(server, Refused::new(500, "Server Internal Error"), now);
                self.counters.relayed_responses_total += 1;
            }
            408 if method != Method::Invite => self.answer_failed(key, code, true, now),
            _ => {
                let lines = self.note_interval(key, message, code, now);
                self.send_response(key, message, code, &lines, now);
                self.counters.relayed_responses_total += 1;
            }
        }
        if code >= 200 {
            self.note_subscription(key, message, code);
            self.on_final(key, code, now);
            self.end_search(key, number, now);
        }
    }

    fn send_response(&mut self, key: ContextKey, message: Message<'_>, code: u16, lines: &[u8], now: Instant) {
        let Some(context) = self.contexts.get(key) else { return };
        let (server, cseq) = (context.server, context.cseq);
        let Some(transaction) = self.transactions.server(server) else {
            return;
        };
        let to = transaction.reply_to.transport;
        let start = self.outbox.bytes.len();
        proxy::write_response(message, cseq, to, lines, &mut self.editor, &mut self.outbox.bytes);
        let bytes = self.outbox.since(start);
        self.transactions
            .respond(server, code, bytes, &mut self.outbox, &mut self.timers, now);
    }

    /// Sends a response that was kept until all branches had ended, with these header lines put in.
    pub(super) fn send_kept_response(&mut self, key: ContextKey, bytes: &[u8], lines: &[u8], now: Instant) {
        let mut index = std::mem::take(&mut self.scratch);
        if parse(bytes, &mut index).is_ok() {
            let message = Message::new(bytes, &index);
            self.send_response(key, message, message.status().unwrap_or_default(), lines, now);
            self.counters.relayed_responses_total += 1;
            self.counters.kept_responses_total += 1;
        }
        self.scratch = index;
    }

    /// A branch has answered with a 2xx, or its final response is that of the request: the others are of no use any more
    /// (RFC 3261 §16.7 step 10).
    fn end_search(&mut self, key: ContextKey, number: BranchNumber, now: Instant) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        if let Some(branch) = context.branch_mut(number) {
            branch.has_ended = true;
        }
        let Some(search) = &mut context.search else { return };
        search.stop();
        search.is_answered = true;
        self.cancel_pending(key, Some(ANSWERED_ELSEWHERE), now);
        // That of a target whose answer makes no call, for want of room.
        self.keep_places(key);
    }

    /// Takes from a response what it shows of the dialog.
    fn learn_from_response(
        &mut self,
        key: ContextKey,
        number: BranchNumber,
        flow: Flow,
        message: Message<'_>,
        code: u16,
        now: Instant,
    ) {
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
            let trunk = context
                .branch(number)
                .and_then(|branch| branch.target)
                .map(|target| target.trunk);
            self.learn_again(key, number, call_key, message, code);
            let Some(call) = self.calls.get(call_key) else { return };
            let (state, has_tag) = (call.state, message.to_tag().is_some());
            // One that has hung up before its answer was seen here: what it has answered goes on, and makes no call that lives.
            let callee = || self.tag_digest(message.to_tag().unwrap_or_default());
            let is_over = is_2xx && call.early().is_some_and(|early| early.is_over(callee()));
            // A repeated 2xx does not bring back a call that is being ended. RFC 3261 §12.1.2: a callee without a tag is one of
            // RFC 2543, and has answered all the same.
            if (has_tag || is_2xx) && code < 300 && matches!(state, CallState::Trying | CallState::Ringing) {
                self.learn_callee(
                    call_key,
                    trunk,
                    flow,
                    message,
                    if is_2xx {
                        CallState::Answered
                    } else {
                        CallState::Ringing
                    },
                );
                if is_over && let Some(call) = self.calls.get_mut(call_key) {
                    call.extra_mut().is_over = true;
                }
            } else if is_2xx
                && !is_over
                && call
                    .tag(Party::Callee)
                    .is_some_and(|tag| message.to_tag().is_some_and(|other| other != tag))
            {
                self.open_another(key, call_key, trunk, flow, message, now);
            }
            return;
        }
        if !is_2xx || !proxy::refreshes_target(method) {
            return;
        }
        // RFC 3261 §12.2.1.2: both remote targets move with the 2xx.
        let mut index = std::mem::take(&mut self.scratch);
        let tags = [message.from_tag(), message.to_tag()].map(Option::unwrap_or_default);
        // Not by one in an early dialog that another target's answer has left behind.
        let call = self.calls.get_mut(call_key);
        if let Some(call) = call.filter(|call| call.sender(tags[0], tags[1]) == Some(from)) {
            if let Some(request) = self.transactions.request_of(server, &mut index) {
                call.learn_seen(from, request);
            }
            call.learn_seen(from.other(), message);
        }
        self.scratch = index;
    }

    /// Takes the callee of a call from a response with a To tag.
    fn learn_callee(
        &mut self,
        key: CallKey,
        trunk: Option<TrunkId>,
        flow: Flow,
        message: Message<'_>,
        state: CallState,
    ) {
        let call_id = message.call_id().unwrap_or_default();
        let secret = self.setup.secret;
        let digest = self.tag_digest(message.to_tag().unwrap_or_default());
        let Some(call) = self.calls.get_mut(key) else { return };
        if state == CallState::Answered {
            let early = call.take_early(digest);
            call.continue_early(early);
        }
        let traversal = call.traversal;
        call.learn_callee(message, |uri| {
            let token = Uri::parse(uri).ok().and_then(|uri| uri.param(PARAMETER).flatten());
            // A spiral has tokens of its other passes above ours: those lead to the callee, like any proxy's.
            let read = token.and_then(|token| Traversal::read(token, call_id, &secret));
            read.is_some_and(|read| read.call == traversal)
        });
        if let Some(trunk) = trunk {
            call.set_callee(trunk, flow);
        }
        let rings = std::mem::replace(&mut call.state, state) == CallState::Trying && state == CallState::Ringing;
        if rings {
            self.tell_call(key);
        }
    }

    /// A further target has answered an INVITE that has an answer already: each To tag is a dialog (RFC 3261 §13.2.2.4), and
    /// each dialog a call. Usually the caller hangs up on it at once.
    fn open_another(
        &mut self,
        context: ContextKey,
        first: CallKey,
        trunk: Option<TrunkId>,
        flow: Flow,
        message: Message<'_>,
        now: Instant,
    ) {
        let Some(call) = self.calls.get(first) else { return };
        let (traversal, call_id) = (call.traversal, message.call_id().unwrap_or_default());
        let (to_tag, from_tag) = (
            message.to_tag().unwrap_or_default(),
            message.from_tag().unwrap_or_default(),
        );
        let is_known = self.call_of(call_id, from_tag, to_tag, |call| call.traversal == traversal);
        let digest = self.tag_digest(to_tag);
        let Some(context) = self.contexts.get_mut(context).filter(|_| is_known.is_none()) else {
            return;
        };
        let Some(number) = context.cseq.or(message.cseq().ok().map(|cseq| cseq.number)) else {
            return;
        };
        if !context.is_new_answer(digest) {
            return;
        }
        // Whoever answers for many must not open calls without bound; the dialog is relayed by its token all the same.
        if self.calls.len() >= self.config().limits.calls_max {
            self.counters.shed_total += 1;
            return;
        }
        let id = self.new_call_id();
        let mut another = self.calls[first].another(id, number, now);
        another.continue_early(self.calls[first].take_early(digest));
        self.move_place(first, &mut another, trunk);
        another.answered = Some(now);
        let digest = self.call_id_digest(another.call_id());
        let key = self.enter_call(another, digest);
        self.learn_callee(key, trunk, flow, message, CallState::Answered);
        self.counters.calls_answered_total += 1;
        self.tell_call(key);
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
            Method::Notify if dialog_usage::ends(method, code).is_some() => extra.refers.unknown_to_party(from),
            _ => {}
        }
    }

    pub(super) fn on_final(&mut self, key: ContextKey, code: u16, now: Instant) {
        let Some(context) = self.contexts.get(key) else { return };
        let (is_initial, method, other) = (context.is_initial, context.method, context.from.other());
        // A challenged BYE comes again with credentials.
        let is_challenged = matches!(code, 401 | 407);
        let Some(call_key) = context.call else {
            if let Some((first, callee)) = context.ends_early.filter(|_| !is_challenged) {
                self.end_early(first, callee, other.other(), now);
            }
            return;
        };
        let Some(call) = self.calls.get_mut(call_key) else {
            return;
        };
        match (is_initial, method) {
            (true, _) if code >= 300 => {
                if call.state != CallState::Answered {
                    self.end_refused(call_key, now);
                }
            }
            (true, _) => {
                if call.answered.is_none() {
                    call.answered = Some(now);
                    self.counters.calls_answered_total += 1;
                    let extra = call.extra();
                    let is_to_end = extra.is_some_and(|extra| extra.end_after_ack);
                    let is_over = extra.is_some_and(|extra| extra.is_over);
                    self.tell_call(call_key);
                    if is_to_end {
                        self.awaits_ack(call_key, now);
                    } else if is_over {
                        self.end_call(call_key, now);
                    }
                }
            }
            // A challenged BYE comes again with credentials, or its sender is gone all the same (RFC 3261 §15.1.1).
            (false, Method::Bye) if is_challenged => self.doubt(call_key, other.other(), now),
            (false, Method::Bye) => self.end_call(call_key, now),
            (false, _) if code == 481 && call.extra().is_some_and(|extra| extra.suspect == Some(other)) => {
                self.suspect(call_key, other, now);
            }
            (false, _) => self.weigh_answer(call_key, method, other, code, now),
        }
        if method == Method::Invite && !is_initial {
            self.release_refer(call_key, now);
        }
    }

    /// A branch has no final response and will have none.
    pub(super) fn on_branch_failed(
        &mut self,
        key: ContextKey,
        number: BranchNumber,
        failure: BranchFailure,
        now: Instant,
    ) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let (server, method, call) = (context.server, context.method, context.call);
        let (is_initial, other, ends_early) = (context.is_initial, context.from.other(), context.ends_early);
        let Some(branch) = context.branch_mut(number) else {
            return;
        };
        branch.is_gone = true;
        let is_cancelled = branch.cancelled.is_some();
        if context.search.is_some() {
            return self.end_branch(key, number, failure.code(), None, failure.cause(), now);
        }
        if let Some(branch) = context.branch_mut(number) {
            branch.has_ended = true;
        }
        if method == Method::Refer
            && let Some(extra) = call.and_then(|call| self.calls.get_mut(call)?.extra_if_any())
        {
            // It may have arrived all the same.
            extra.refers.ended(Referrer::Party(server));
        }
        if let Some(call) = call.filter(|_| failure == BranchFailure::Timeout && !is_initial && !is_cancelled) {
            self.weigh_answer(call, method, other, 408, now);
        }
        if method == Method::Invite && is_cancelled {
            self.answer_stored(server, Refused::new(487, "Request Terminated"), now);
        } else {
            self.answer_failed(key, failure.code(), false, now);
        }
        if self.contexts.get(key).is_some() {
            self.on_final(key, 500, now);
        } else if let (Some(call), Method::Bye) = (call, method) {
            self.end_call(call, now);
        } else if let Some((first, callee)) = ends_early {
            self.end_early(first, callee, other.other(), now);
        }
        self.leave_context(key, |_| {});
    }

    /// The final response to a request that no target has answered: `code` is what that counts as, `is_received` whether one has
    /// said so.
    pub(super) fn answer_failed(&mut self, key: ContextKey, code: u16, is_received: bool, now: Instant) {
        let Some(context) = self.contexts.get(key) else { return };
        let (server, method, found_full) = (context.server, context.method, context.found_full);
        match (code, method) {
            // RFC 3261 §16.7 step 6: here it is known that the next request would get the same.
            (503, _) if found_full => {
                self.answer_stored_with(server, Refused::SHED, &[("Retry-After", FULL_RETRY_AFTER)], now);
            }
            (408, Method::Invite) => self.answer_stored(server, Refused::new(408, "Request Timeout"), now),
            // RFC 4320 §4.2: no 408 to a non-INVITE, whoever says it.
            (408, _) => self
                .transactions
                .complete_unanswered(server, is_received, &mut self.timers, now),
            // RFC 3261 §16.7 step 6, §16.9: a 503, received or not, is passed on as 500.
            _ => self.answer_stored(server, Refused::new(500, "Next Hop Unreachable"), now),
        }
    }

    /// RFC 3261 §16.8.
    pub(super) fn on_timer_c(&mut self, key: ContextKey, number: BranchNumber, now: Instant) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let rings_until = context.rings_until;
        let branch = context.branch(number);
        let Some((client, deadline)) = branch.and_then(|branch| branch.client.zip(branch.timer_c)) else {
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
            self.timers
                .arm_once(now, deadline.since(now), TimerKey::TimerC(key, number));
            return;
        }
        if rings_until <= now {
            self.counters.rings_over_max_total += 1;
            if let Some(search) = &mut context.search {
                search.stop();
            }
        }
        if transaction.state == ClientState::Proceeding {
            self.cancel_branch(key, number, None, now);
        } else {
            self.transactions.drop_client(client);
            self.on_branch_failed(key, number, BranchFailure::Timeout, now);
        }
    }

    /// RFC 3261 §9.1: 64·T1 after a CANCEL the branch counts as ended.
    pub(super) fn on_cancel_wait(&mut self, key: ContextKey, number: BranchNumber, now: Instant) {
        let branch = self.contexts.get(key).and_then(|context| context.branch(number));
        let Some(client) = branch.and_then(|branch| branch.client) else {
            return;
        };
        if self
            .transactions
            .client(client)
            .is_some_and(|client| client.is_waiting())
        {
            self.transactions.drop_client(client);
            self.on_branch_failed(key, number, BranchFailure::Timeout, now);
        }
    }
}

/// RFC 3326 §2: why the other targets of a call are cancelled.
const ANSWERED_ELSEWHERE: &[u8] = b"SIP;cause=200;text=\"Call completed elsewhere\"";
