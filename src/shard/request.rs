//! A request's way in: who may speak, which transaction, which dialog or route, and on (RFC 3261 §16.3 to §16.6).

use super::admission::Shed;
use super::arrival::Arrival;
use super::notify::is_of_refer;
use super::relay::{Changes, next_uri, strict_way};
use super::response::BranchFailure;
use super::route::NoFlow;
use super::{ClientOwner, ServerOwner, Shard, TimerKey, is_live};
use crate::call::refers::Referrer;
use crate::call::{Call, CallKey, CallState, Direction, Held, Party, Trait};
use crate::config::{InDialogSources, InboundRefer, TrunkId};
use crate::identifiers::CallId;
use crate::message::check::checked_via;
use crate::message::uri::request_uri as bare;
use crate::message::{Header, Message, MessageBuf, Method, Uri};
use crate::proxy::context::{Branch, BranchNumber, Cancelled, Context, ContextKey};
use crate::proxy::{self, Refused};
use crate::route_set::Text;
use crate::sequence::{NUMBER_MAX, Sequence};
use crate::timer::Instant;
use crate::transaction::ServerKey;
use crate::transaction::client::ClientState;
use crate::transport::Flow;
use crate::traversal::Traversal;
use crate::usage::Places;
use smallvec::SmallVec;
use std::time::Duration;

/// Calls alive under one Call-ID: the passes of a call that comes by more than once, or its forks. A request without a Route of
/// ours is looked for among all of them. RFC 3261 §16.3 has 70 hops at most, and a call that comes by at every other one loops.
const PASSES_MAX: usize = 32;

/// A party of a dialog as a request tells it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dialog {
    /// A call we know, and who speaks.
    Call(CallKey, Party),
    /// An authentic token whose call is forgotten or whose dialog is another fork's: enough to relay.
    Token(Traversal, Party),
}

impl Dialog {
    /// Who speaks.
    pub fn speaker(self) -> Party {
        match self {
            Dialog::Call(_, party) | Dialog::Token(_, party) => party,
        }
    }

    /// The call, if it is known.
    pub fn call(self) -> Option<CallKey> {
        match self {
            Dialog::Call(key, _) => Some(key),
            Dialog::Token(..) => None,
        }
    }
}

impl Shard {
    pub(super) fn on_request(&mut self, flow: Flow, message: Message<'_>, waited: Duration, now: Instant) {
        self.counters.requests_total += 1;
        match self.restored(flow, message) {
            Some(restored) => self.on_restored(flow, restored.as_message(), waited, now),
            None => self.on_restored(flow, message, waited, now),
        }
    }

    fn on_restored(&mut self, flow: Flow, message: Message<'_>, waited: Duration, now: Instant) {
        let Some(method) = message.method() else { return };
        let has_trunks = !self.config().trunks.is_empty();
        let any_in_dialog =
            self.config().access.in_dialog_sources == InDialogSources::Any || self.topology.is_itself(flow);
        let is_known =
            !has_trunks || !self.is_stranger(flow) || (any_in_dialog && self.own_routes(message).traversal.is_some());
        if !is_known {
            return self.refuse_stranger(flow, message, now);
        }
        if has_trunks && self.sheds(flow, message, method, waited, now) {
            return;
        }
        let via = match checked_via(message) {
            Ok(via) => via,
            Err(kind) => {
                self.counters.malformed_total += 1;
                if method == Method::Ack {
                    self.counters.dropped_total += 1;
                    return;
                }
                return self.refuse_stateless(flow, message, Refused::new(kind.status(), kind.reason()), &[], now);
            }
        };
        if !has_trunks {
            return self.answer_without_trunks(flow, message, method, now);
        }
        let Ok(identity) = self.transactions.identity(message, &via, method) else {
            self.counters.dropped_total += 1;
            return;
        };
        if let Some(server) = self.transactions.find_server(identity) {
            if method != Method::Ack {
                self.counters.repeats_total += 1;
                return self.transactions.on_repeat(server, &mut self.outbox);
            }
            let sent_invite = self.transactions.server(server).map(|invite| invite.reply_to);
            if !sent_invite.is_some_and(|flow_of_invite| self.topology.are_one_peer(flow_of_invite, flow)) {
                self.counters.stray_acks_total += 1;
                return;
            }
            if self.transactions.on_ack(server, &mut self.timers, now) {
                self.counters.absorbed_acks_total += 1;
                return;
            }
            // RFC 3261 §13.2.2.4: that of a 2xx is another transaction's. With the branch of an INVITE that has no answer yet it
            // acknowledges nothing; somebody has recorded it.
            if self
                .transactions
                .server(server)
                .is_some_and(|invite| invite.is_waiting())
            {
                self.counters.stray_acks_total += 1;
                return;
            }
        }
        let arrival = Arrival {
            flow,
            method,
            via,
            identity,
            own: self.own_routes(message),
            server: None,
        };
        match method {
            Method::Cancel => self.on_cancel(message, &arrival, now),
            Method::Ack if self.is_ack_of_stateless(message, &arrival) => self.counters.absorbed_acks_total += 1,
            Method::Ack => self.go_on(message, arrival, now),
            _ if self.sheds_again(&arrival, message, now) => {}
            _ => self.go_on(message, arrival, now),
        }
    }

    /// Nothing is configured: referee is there, and relays for nobody.
    fn answer_without_trunks(&mut self, flow: Flow, message: Message<'_>, method: Method, now: Instant) {
        let is_within_dialog = message.to().is_ok_and(|to| to.tag.is_some());
        let answer = match method {
            Method::Ack => {
                self.counters.stray_acks_total += 1;
                return;
            }
            _ if is_within_dialog => Refused::NO_DIALOG,
            Method::Options if self.draining => Refused::SHED,
            Method::Options => Refused::new(200, "OK"),
            _ => Refused::new(404, "Not Found"),
        };
        self.refuse_stateless(flow, message, answer, &[], now);
    }

    /// Takes up a request that waited.
    pub(super) fn resume_request(&mut self, flow: Flow, message: &MessageBuf, server: Option<ServerKey>, now: Instant) {
        let message = message.as_message();
        self.counters.resumed_total += 1;
        if let Some(key) = server
            && !self.transactions.server(key).is_some_and(|server| server.is_waiting())
        {
            // Cancelled meanwhile, and answered so.
            self.counters.refused_total += 1;
            return;
        }
        match self.arrival_of(flow, message, server) {
            Some(arrival) => self.go_on(message, arrival, now),
            None => self.counters.dropped_total += 1,
        }
    }

    fn go_on(&mut self, message: Message<'_>, arrival: Arrival<'_>, now: Instant) {
        match message.to_tag() {
            Some(to_tag) => self.on_in_dialog(message, arrival, to_tag, now),
            None if self.has_null_tag(message, &arrival) => self.on_in_dialog(message, arrival, b"", now),
            None => self.on_new(message, arrival, now),
        }
    }

    /// Whether a request without a To tag is of a dialog all the same: with a party of RFC 2543 (RFC 3261 §12.1.2).
    fn has_null_tag(&self, message: Message<'_>, arrival: &Arrival<'_>) -> bool {
        let call = arrival
            .own
            .traversal
            .and_then(|traversal| self.calls.get(traversal.call));
        call.is_some_and(|call| call.sender(message.from_tag().unwrap_or_default(), b"").is_some())
    }

    // ---- requests outside a dialog ----

    fn on_new(&mut self, message: Message<'_>, arrival: Arrival<'_>, now: Instant) {
        let Some(from) = self.topology.trunk_of(arrival.flow) else {
            return self.refuse_stranger(arrival.flow, message, now);
        };
        let Ok(uri) = Uri::parse(message.request_uri()) else {
            self.counters.dropped_total += 1;
            return;
        };
        match arrival.method {
            // An ACK without a To tag acknowledges nothing we know; an ACK is never answered.
            Method::Ack => {
                self.counters.stray_acks_total += 1;
                return;
            }
            Method::Options if uri.user.is_none() && self.topology.is_addressed_to_us(&uri) => {
                if !self.refuse_required(message, &arrival, Header::Require, now) {
                    self.answer_options(message, &arrival, now);
                }
                return;
            }
            // RFC 3515 §2.4.2: referee accepts no REFER; it sends them.
            Method::Refer => return self.refuse(message, &arrival, Refused::new(603, "Decline"), &[], now),
            // Requests that live in dialogs only.
            Method::Bye | Method::Prack | Method::Update | Method::Info => {
                return self.refuse(message, &arrival, Refused::NO_DIALOG, &[], now);
            }
            _ => {}
        }
        if let Err(refused) = proxy::validate(message) {
            return self.refuse(message, &arrival, refused, &[], now);
        }
        if self.refuse_required(message, &arrival, Header::ProxyRequire, now) {
            return;
        }
        if arrival.server.is_none() && !self.takes_new(from, &arrival, message, now) {
            return;
        }
        let digest = match arrival.method {
            Method::Invite => self.call_id_digest(message.call_id().unwrap_or_default()),
            _ => 0,
        };
        let passes = self.by_call_id.get(&digest).map_or(0, SmallVec::len);
        if passes >= PASSES_MAX || self.is_loop(message, from) {
            self.counters.loops_total += 1;
            return self.refuse(message, &arrival, Refused::new(482, "Loop Detected"), &[], now);
        }
        if proxy::max_breadth(message) == 0 {
            return self.refuse(message, &arrival, Refused::new(440, "Max-Breadth Exceeded"), &[], now);
        }
        let config = self.setup.config.clone();
        let Some(route) = Shard::route_of(&config, from, message) else {
            return self.refuse(message, &arrival, Refused::new(404, "Not Found"), &[], now);
        };
        if let Some(application) = route.application {
            return self.on_new_for_application(message, &arrival, from, application, digest, now);
        }
        let attempts = match self.attempts(route, now) {
            Ok(attempts) => attempts,
            Err(wait) => return self.refuse_all_waiting(message, &arrival, wait, now),
        };
        let Some(first) = attempts.first() else {
            let status = Refused::new(480, "Temporarily Unavailable");
            return self.refuse(message, &arrival, status, &[], now);
        };
        let starts_at = self.number_of_new(message, now);
        if starts_at.is_some_and(|number| number > NUMBER_MAX) {
            return self.refuse(message, &arrival, Refused::NO_NUMBERS, &[], now);
        }
        let Ok(session) = self.judge_interval(message, &arrival, now) else {
            return;
        };
        let place = match self.place_of_caller(arrival.method, from, now) {
            Ok(place) => place,
            Err(_) => return self.refuse_full(message, &arrival, now),
        };
        let server = self.open_server(message, &arrival, now);
        let arrival = Arrival {
            server: Some(server),
            ..arrival
        };
        let rings_until = now + self.config().limits.ring_max;
        let mut context = Context::new(server, arrival.method, arrival.flow, Party::Caller, rings_until);
        context.session = session;
        context.starts_at = starts_at;
        if arrival.method == Method::Invite {
            let call = self.open_call(message, &arrival, server, [from, first.trunk], digest, now);
            self.calls[call].places = Places::of_caller(place);
            context.call = Some(call);
            context.is_initial = true;
        }
        self.counters.taken_total += 1;
        let key = self.open_context(context);
        self.relay_new(key, message, &arrival, route, attempts, now);
    }

    fn answer_options(&mut self, message: Message<'_>, arrival: &Arrival<'_>, now: Instant) {
        if self.draining {
            return self.refuse(message, arrival, Refused::SHED, &[("Retry-After", b"10")], now);
        }
        // RFC 3261 §11.2: a proxy that answers itself lists no Allow of its own making up; Accept and Supported are empty too.
        self.refuse(message, arrival, Refused::new(200, "OK"), &[], now);
    }

    pub(super) fn open_call(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        server: ServerKey,
        trunks: [TrunkId; 2],
        digest: u64,
        now: Instant,
    ) -> CallKey {
        let id = self.new_call_id();
        let mut call = Call::new(id, message, arrival.flow, trunks, now);
        if let Ok(cseq) = message.cseq() {
            call.sequence_mut(Party::Caller).observe(cseq.number);
        }
        call.invite = Some(server);
        let key = self.enter_call(call, digest);
        self.calls[key].traversal = key;
        self.tell_call(key);
        key
    }

    pub(super) fn new_call_id(&mut self) -> CallId {
        CallId {
            shard: self.setup.shard,
            number: self.random.next_u64(),
        }
    }

    /// Enters a call into the tables by which it is found; `digest` is that of its Call-ID.
    pub(super) fn enter_call(&mut self, mut call: Call, digest: u64) -> CallKey {
        let number = call.id.number;
        let created = call.created;
        call.order = self.counters.calls_total;
        let key = self.calls.insert(call);
        self.by_call_id.entry(digest).or_default().push(key);
        self.by_number.insert(number, key);
        self.by_order.insert(self.counters.calls_total, key);
        self.counters.calls_total += 1;
        self.watch(key, created);
        self.ladder_of_call(key);
        key
    }

    // ---- requests within a dialog ----

    fn on_in_dialog(&mut self, message: Message<'_>, arrival: Arrival<'_>, to_tag: &[u8], now: Instant) {
        // Calls in progress come before new ones; twice the limit is where that ends.
        let limit = self.config().limits.transactions_max.saturating_mul(2);
        if arrival.server.is_none() && arrival.method != Method::Ack && self.transactions.len() >= limit {
            return self.shed_without_state(arrival.flow, message, arrival.identity, Shed::InDialog, now);
        }
        let Some(dialog) = self.dialog_of(message, &arrival, to_tag) else {
            if self.on_outside(message, &arrival, to_tag, now) {
                return;
            }
            self.counters.unmatched_total += 1;
            return self.refuse(message, &arrival, Refused::NO_DIALOG, &[], now);
        };
        let Some((speaker, listener)) = self.trunks_of(dialog) else {
            return self.refuse(message, &arrival, Refused::NO_DIALOG, &[], now);
        };
        let any_source =
            self.config().access.in_dialog_sources == InDialogSources::Any && arrival.own.traversal.is_some();
        let is_own = arrival.own.traversal.is_some() && self.topology.is_itself(arrival.flow);
        if !any_source && !is_own && !self.topology.may_speak_as(arrival.flow, speaker) {
            self.counters.refused_source_total += 1;
            return self.refuse(message, &arrival, Refused::new(403, "Forbidden"), &[], now);
        }
        match dialog {
            Dialog::Call(key, party) if self.is_out_of_order(message, &arrival, key, party) => {
                self.counters.out_of_order_total += 1;
                return self.refuse(message, &arrival, Refused::OUT_OF_ORDER, &[], now);
            }
            Dialog::Call(key, party) => {
                if self.is_for_us(message, &arrival, key, party, now)
                    || self.hold_if_needed(message, &arrival, key, party, now)
                {
                    return;
                }
            }
            Dialog::Token(traversal, _) => {
                if let Some(refused) = self.refuses_by_token(message, arrival.method, traversal, speaker) {
                    return self.refuse(message, &arrival, refused, &[], now);
                }
            }
        }
        if arrival.method != Method::Ack {
            if let Err(refused) = proxy::validate(message) {
                return self.refuse(message, &arrival, refused, &[], now);
            }
            if self.refuse_required(message, &arrival, Header::ProxyRequire, now) {
                return;
            }
        } else if message.max_forwards() == Ok(Some(0)) {
            // RFC 3261 §16.3: too many hops; an ACK is dropped without an answer.
            self.counters.stray_acks_total += 1;
            return;
        }
        self.relay_in_dialog(message, &arrival, dialog, listener, now);
    }

    /// The trunks of who speaks in a dialog and who listens; `None`: they are not configured.
    pub(super) fn trunks_of(&self, dialog: Dialog) -> Option<(TrunkId, TrunkId)> {
        let (speaker, listener) = match dialog {
            Dialog::Call(key, party) => {
                let call = self.calls.get(key)?;
                (call.trunk(party), call.trunk(party.other()))
            }
            Dialog::Token(traversal, Party::Caller) => (traversal.caller_trunk, traversal.callee_trunk),
            Dialog::Token(traversal, Party::Callee) => (traversal.callee_trunk, traversal.caller_trunk),
        };
        let trunks = self.config().trunks.len();
        let are_known = usize::from(speaker.0) < trunks && usize::from(listener.0) < trunks;
        are_known.then_some((speaker, listener))
    }

    /// Whether a request has a number that its dialog does not take (RFC 3261 §12.2.2). A plain proxy would leave that to
    /// the other party; but what comes by here moves calls, transfers and the numbers of requests of ours, and must not
    /// before it is in order. Before the answer each early dialog has its own numbers, all above that of the INVITE.
    /// Whether an older NOTIFY still tells something is decided by whoever asked for it.
    fn is_out_of_order(&self, message: Message<'_>, arrival: &Arrival<'_>, key: CallKey, party: Party) -> bool {
        let call = &self.calls[key];
        // One that waited was in order when it came.
        if arrival.method == Method::Ack || arrival.server.is_some() {
            return false;
        }
        let sequence = call.sequence(party);
        let number = message.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let is_old_news = arrival.method == Method::Notify && Some(number) < sequence.highest();
        !sequence.is_in_order(number) && !is_old_news
    }

    pub(super) fn dialog_of(&self, message: Message<'_>, arrival: &Arrival<'_>, to_tag: &[u8]) -> Option<Dialog> {
        let from_tag = message.from_tag().unwrap_or_default();
        let call_id = message.call_id().ok()?;
        if let Some(traversal) = arrival.own.traversal {
            let call = self.calls.get(traversal.call);
            if let Some(party) = call.and_then(|call| call.sender(from_tag, to_tag)) {
                // Where neither party has a tag the source tells who speaks.
                let is_null = from_tag.is_empty() && to_tag.is_empty();
                let is_callee =
                    is_null && call.is_some_and(|call| !self.topology.may_speak_as(arrival.flow, call.trunk(party)));
                let party = if is_callee { party.other() } else { party };
                return Some(Dialog::Call(traversal.call, party));
            }
            // Another target that answered the same INVITE has a call of its own.
            let is_of_it = |call: &Call| call.traversal == traversal.call;
            if let Some(found) = self.call_of(call_id, from_tag, to_tag, is_of_it) {
                return Some(found);
            }
            // Of 65,536 callees one has a tag that the token cannot tell from the caller's; then the source does.
            let is_caller = |tag| traversal.is_from_caller(tag, &self.setup.secret);
            let from_caller = is_caller(from_tag)
                && (!is_caller(to_tag) || self.topology.may_speak_as(arrival.flow, traversal.caller_trunk));
            let party = if from_caller { Party::Caller } else { Party::Callee };
            return Some(Dialog::Token(traversal, party));
        }
        // Without a Route of ours: a peer that does not follow route sets. By Call-ID and both tags, or not at all.
        // Of two passes of one call that which knows the hop it came from.
        let knows = |call: &Call| {
            [Party::Caller, Party::Callee]
                .map(|party| call.flow(party).peer)
                .contains(&arrival.flow.peer)
        };
        self.call_of(call_id, from_tag, to_tag, knows)
            .or_else(|| self.call_of(call_id, from_tag, to_tag, |_| true))
    }

    /// The call of a dialog, by Call-ID and both tags, and who speaks.
    pub(super) fn call_of(
        &self,
        call_id: &[u8],
        from_tag: &[u8],
        to_tag: &[u8],
        is_meant: impl Fn(&Call) -> bool,
    ) -> Option<Dialog> {
        let keys = self.by_call_id.get(&self.call_id_digest(call_id))?;
        keys.iter().find_map(|key| {
            let call = self.calls.get(*key);
            let call = call.filter(|call| call.call_id() == call_id && is_meant(call))?;
            call.sender(from_tag, to_tag).map(|party| Dialog::Call(*key, party))
        })
    }

    /// A digest of the tag that the callee has in a request of a dialog.
    pub(super) fn callee_of(&self, dialog: Dialog, message: Message<'_>) -> u64 {
        let tag = match dialog.speaker() {
            Party::Caller => message.to_tag(),
            Party::Callee => message.from_tag(),
        };
        self.tag_digest(tag.unwrap_or_default())
    }

    /// The requests of whoever speaks in a dialog whose callee's tag has this digest; `None`: nothing is known of them, and
    /// nothing was changed in them.
    pub(super) fn direction_mut(&mut self, dialog: Dialog, callee: u64) -> Option<&mut Direction> {
        match dialog {
            Dialog::Call(key, party) => {
                let call = self.calls.get_mut(key)?;
                match call.state {
                    CallState::Trying | CallState::Ringing => Some(&mut call.early_mut().of(callee)[party as usize]),
                    CallState::Answered | CallState::Ending | CallState::Ended => Some(call.direction_mut(party)),
                }
            }
            // An early dialog that is not the one shown last: it may yet be answered, even behind another's answer, and when the
            // call of that one is over.
            Dialog::Token(traversal, party) => {
                let call = self.calls.get_mut(traversal.call)?;
                Some(&mut call.early_mut().of(callee)[party as usize])
            }
        }
    }

    /// The numbers of a party of a dialog, as of [`Shard::direction_mut`], but without making them.
    pub(super) fn sequence_of(&self, dialog: Dialog, callee: u64, party: Party) -> Option<&Sequence> {
        let (key, is_early) = match dialog {
            Dialog::Call(key, _) => {
                let state = self.calls.get(key)?.state;
                (key, matches!(state, CallState::Trying | CallState::Ringing))
            }
            Dialog::Token(traversal, _) => (traversal.call, true),
        };
        let call = self.calls.get(key)?;
        match is_early {
            true => Some(&call.early()?.known(callee)?[party as usize].sequence),
            false => Some(call.sequence(party)),
        }
    }

    /// Why a request is not relayed by its token alone. The process that has made it has known its call, and has kept it as long as a
    /// party's REFER could have NOTIFYs: once it is forgotten, they are late ones of a REFER of ours. Where the call is known, the
    /// dialog is another fork's, which has none of ours. After a restart nobody knows whose they are.
    fn refuses_by_token(
        &self,
        message: Message<'_>,
        method: Method,
        traversal: Traversal,
        speaker: TrunkId,
    ) -> Option<Refused> {
        let is_forgotten = !self.calls.contains_key(traversal.call);
        match method {
            Method::Refer if self.config().trunk(speaker).inbound_refer == InboundRefer::Reject => {
                Some(Refused::new(603, "Decline"))
            }
            Method::Refer if is_forgotten => Some(Refused::NO_DIALOG),
            Method::Notify if is_forgotten && is_of_refer(message) => Some(Refused::NO_SUBSCRIPTION),
            _ => None,
        }
    }

    /// Requests that are answered here. `true`: this one is.
    fn is_for_us(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        key: CallKey,
        party: Party,
        now: Instant,
    ) -> bool {
        let call = &self.calls[key];
        if call.application.is_some() {
            self.on_served(message, arrival, key, party, now);
            return true;
        }
        let state = call.state;
        let ended_here = call.extra().is_some_and(|extra| extra.ended_here);
        let opens_refer = call.extra().is_some_and(|extra| extra.transfer.is_some());
        match arrival.method {
            Method::Notify => self.on_notify(message, arrival, key, party, now),
            // RFC 5057 §4.2: a subscription of theirs outlives the BYE.
            Method::Subscribe if !ended_here => false,
            // Before the answer it is one of a refusal that has lost its transaction: of an INVITE that was challenged, and now
            // comes again. It goes no further (RFC 3261 §17.1.1.3), least of all to a callee that nobody knows yet.
            Method::Ack if matches!(state, CallState::Trying | CallState::Ringing) => {
                self.counters.stray_acks_total += 1;
                true
            }
            // It ends the repeats of a 2xx, which would go on beyond our BYEs.
            Method::Ack => false,
            Method::Bye if ended_here => {
                self.refuse(message, arrival, Refused::new(200, "OK"), &[], now);
                true
            }
            _ if !is_live(state) => {
                self.refuse(message, arrival, Refused::NO_DIALOG, &[], now);
                true
            }
            Method::Refer => {
                let rule = self.config().trunk(self.calls[key].trunk(party)).inbound_refer;
                if opens_refer {
                    self.refuse(message, arrival, Refused::new(491, "Request Pending"), &[], now);
                } else if rule == InboundRefer::Reject {
                    self.refuse(message, arrival, Refused::new(603, "Decline"), &[], now);
                } else {
                    return false;
                }
                true
            }
            _ => false,
        }
    }

    /// Lets a request of the party we speak for wait until ours has a response: they must not overtake each other.
    fn hold_if_needed(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        key: CallKey,
        party: Party,
        now: Instant,
    ) -> bool {
        if matches!(
            arrival.method,
            Method::Ack | Method::Cancel | Method::Bye | Method::Prack
        ) {
            return false;
        }
        let held_max = self.config().limits.held_per_call_max;
        let Some(extra) = self.calls[key].extra() else {
            return false;
        };
        // Its timer ends the wait, and lets those that waited go first.
        if !extra.hold.is_some_and(|(speaker, _)| speaker == party) {
            return false;
        }
        if extra.held.len() >= held_max {
            self.counters.held_refused_total += 1;
            self.refuse(message, arrival, Refused::SHED, &[("Retry-After", b"1")], now);
            return true;
        }
        let server = self.open_server(message, arrival, now);
        let held = Held {
            flow: arrival.flow,
            message: MessageBuf::copy_of(message),
            server,
        };
        self.calls[key].extra_mut().held.push_back(held);
        self.counters.held_total += 1;
        self.counters.waited_total += 1;
        true
    }

    fn relay_in_dialog(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        dialog: Dialog,
        listener: TrunkId,
        now: Instant,
    ) {
        let Ok(cseq) = message.cseq() else {
            self.counters.dropped_total += 1;
            return;
        };
        let mut changes = Changes {
            own_routes: arrival.own.count,
            ..Changes::default()
        };
        let mut request_uri: Option<Text> = None;
        let mut routes = Text::new();
        let mut last = None;
        let rings_until = now + self.config().limits.ring_max;
        let mut context = Context::new(
            ServerKey::default(),
            arrival.method,
            arrival.flow,
            Party::Caller,
            rings_until,
        );
        let callee = self.callee_of(dialog, message);
        changes.event_id = self.mapped_event_id(dialog, callee, message, arrival.method);
        context.from = dialog.speaker();
        if let (Dialog::Token(traversal, _), Method::Bye) = (dialog, arrival.method) {
            context.ends_early = Some((traversal.call, callee));
        }
        let mut credentials = Vec::new();
        if let Dialog::Call(key, party) = dialog {
            let Ok(session) = self.judge_interval(message, arrival, now) else {
                return;
            };
            changes.session = session;
            context.session = session;
            let call = &mut self.calls[key];
            let other = party.other();
            context.call = Some(key);
            call.shows_life(party);
            call.set_flow(party, arrival.flow);
            if arrival.own.count == 0 {
                // The Request-URI names us, or a peer without route sets sent it here: the dialog says where it goes. Where a
                // party has shown no Contact, what the other took for one counts.
                if !call.get(other, Trait::Contact).is_empty() {
                    request_uri = Some(Text::from_slice(&bare(call.target(other))));
                }
                routes = call.get(other, Trait::Routes).into();
            } else if let Some(moved) = call.extra().and_then(|extra| extra.retargets[other as usize].as_ref())
                && message.request_uri() == &*moved.known
            {
                request_uri = Some((&*moved.now).into());
            }
            if !arrival.own.more && routes.is_empty() {
                last = Some(call.flow(other));
            }
        }
        let mut is_authorized = false;
        if let Some(direction) = self.direction_mut(dialog, callee) {
            let sequence = &mut direction.sequence;
            if arrival.method != Method::Ack && sequence.outward(cseq.number).is_some() {
                sequence.observe(cseq.number);
            }
            let Some(outward) = sequence.outward(cseq.number) else {
                return self.refuse(message, arrival, Refused::NO_NUMBERS, &[], now);
            };
            if outward != cseq.number {
                changes.cseq = Some(outward);
                context.cseq = Some(cseq.number);
            }
            if let Ok(Some(rack)) = message.rack() {
                changes.rack = sequence.outward(rack.cseq).filter(|number| *number != rack.cseq);
            }
            if let Some(sessions) = &direction.sessions {
                is_authorized = true;
                if arrival.method == Method::Ack {
                    credentials = sessions.for_ack(cseq.number).to_vec();
                }
            }
        }
        changes.request_uri = request_uri.as_deref();
        changes.routes = &routes;
        let mut target = self.flow_to_uri(next_uri(message, arrival.own.count, &changes), listener, last, now);
        let resolved: Text;
        let is_at_us = |target: &Result<Flow, _>| target.as_ref().is_ok_and(|flow| self.topology.is_at(flow.peer));
        if let (Some(last), true, Dialog::Call(key, party)) = (last, is_at_us(&target), dialog) {
            // RFC 3261 §16.5: a Request-URI that names us stands for the other party. One that has shown no Contact is where it
            // was last heard from.
            let (call, other) = (&self.calls[key], party.other());
            resolved = Text::from_slice(&bare(call.target(other)));
            changes.request_uri = Some(&resolved);
            target = match call.get(other, Trait::Contact) {
                b"" => Ok(last),
                _ => self.flow_to_uri(&resolved, listener, Some(last), now),
            };
            if is_at_us(&target) {
                target = Ok(last);
            }
        }
        let target = match target {
            Ok(target) => target,
            Err(no_flow) => {
                let ends = context.call.filter(|_| arrival.method == Method::Bye);
                if let Some(key) = ends.filter(|_| no_flow == NoFlow::Unreachable) {
                    // RFC 3261 §15.1.1: whoever sends a BYE is gone, whatever becomes of it.
                    self.on_relayed_bye(key, context.from, message.value(Header::Reason), now);
                    self.wait_or_refuse(message, arrival, no_flow, now);
                    return self.end_call(key, now);
                }
                return self.wait_or_refuse(message, arrival, no_flow, now);
            }
        };
        let strict = strict_way(message, arrival.own, &changes);
        let changes = changes.and(strict.as_ref());
        if is_authorized && arrival.method != Method::Ack {
            credentials = self.credentials_of(dialog, callee, listener, message, changes.request_uri);
        }
        let changes = Changes {
            credentials: &credentials,
            ..changes
        };
        if arrival.method == Method::Ack {
            self.relay_ack(message, arrival, target, &changes, now);
            // A callee's is of an INVITE of its own.
            if let Some(key) = context.call.filter(|_| context.from == Party::Caller) {
                self.calls[key].is_acked = true;
                self.release_after_ack(key, now);
            }
            return;
        }
        if arrival.method == Method::Bye
            && let Some(key) = context.call
        {
            self.on_relayed_bye(key, context.from, message.value(Header::Reason), now);
        }
        context.server = self.open_server(message, arrival, now);
        if arrival.method == Method::Refer
            && let Some(key) = context.call
        {
            let number = changes.cseq.unwrap_or(cseq.number);
            // RFC 7614 §4, §5: these ask for no subscription of the REFER's own.
            let without = |token| message.lists(Header::Require, token);
            let alive_until = match without("nosub") || without("explicitsub") {
                true => None,
                false => Some(now + self.config().transfer.total_timeout_max),
            };
            let call = &mut self.calls[key];
            let notifier = context.from.other();
            let after = call.sequence(notifier).highest();
            let referrer = Referrer::Party(context.server);
            call.extra_mut()
                .refers
                .left(referrer, notifier, number, after, alive_until);
        }
        if arrival.method == Method::Invite
            && let Some(call) = context.call.and_then(|key| self.calls.get_mut(key))
            // Before the answer is seen here the call hangs on the one that opened it; a callee whose 2xx is lost takes it for answered.
            && call.state == CallState::Answered
        {
            call.invite = Some(context.server);
        }
        self.counters.taken_total += 1;
        context.begin(Branch::default());
        let key = self.open_context(context);
        self.send_branch(key, 0, message, arrival, target, &changes, now);
    }

    // ---- CANCEL and ACK ----

    fn on_cancel(&mut self, message: Message<'_>, arrival: &Arrival<'_>, now: Instant) {
        let invite = self.transactions.identity(message, &arrival.via, Method::Invite);
        let found = invite.ok().and_then(|identity| self.transactions.find_server(identity));
        let Some(invite) = found else {
            return self.refuse(message, arrival, Refused::NO_DIALOG, &[], now);
        };
        // RFC 3261 §22.1: a CANCEL cannot be challenged, so it has to come from the hop that sent the request. Another's gets no
        // transaction: the true one has the same branch.
        let sent_invite = self.transactions.server(invite).map(|invite| invite.reply_to);
        if !sent_invite.is_some_and(|flow| self.topology.are_one_peer(flow, arrival.flow)) {
            return self.refuse_stateless(arrival.flow, message, Refused::NO_DIALOG, &[], now);
        }
        let server = self.open_server(message, arrival, now);
        self.counters.answered_total += 1;
        let owner = self.transactions.server(invite).map(|invite| invite.owner);
        match owner {
            Some(ServerOwner::Application(call)) => self.answer_cancel(server, message, arrival, call, now),
            _ => self.respond(server, message, arrival, Refused::new(200, "OK"), &[], now),
        }
        let Some(transaction) = self.transactions.server(invite).filter(|server| server.is_waiting()) else {
            return;
        };
        match transaction.owner {
            ServerOwner::Relay(context) => {
                let lines: SmallVec<[&[u8]; 2]> = message.lines_of(Header::Reason).map(|line| line.value).collect();
                let reason = (!lines.is_empty()).then(|| lines.join(&b", "[..]));
                self.cancel_relay(context, reason.as_deref(), now);
            }
            ServerOwner::Application(call) => self.on_served_cancel(call, now),
            ServerOwner::Local => self.answer_stored(invite, Refused::new(487, "Request Terminated"), now),
        }
    }

    /// The caller gives up, or is given up: all branches end (RFC 3261 §16.10).
    pub(super) fn cancel_relay(&mut self, key: ContextKey, reason: Option<&[u8]>, now: Instant) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        if let Some(search) = &mut context.search {
            search.stop();
            search.is_cancelled = true;
        }
        self.cancel_pending(key, reason, now);
        self.search_on(key, now);
    }

    /// CANCELs all branches that have no final response.
    pub(super) fn cancel_pending(&mut self, key: ContextKey, reason: Option<&[u8]>, now: Instant) {
        let Some(context) = self.contexts.get(key) else { return };
        let pending: SmallVec<[BranchNumber; 4]> = context.pending().collect();
        for number in pending {
            self.cancel_branch(key, number, reason, now);
        }
    }

    /// CANCELs a branch now, or as soon as it has a provisional response (RFC 3261 §9.1). One that waits for a name has
    /// nothing to cancel and ends.
    pub(super) fn cancel_branch(&mut self, key: ContextKey, number: BranchNumber, reason: Option<&[u8]>, now: Instant) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let is_invite = context.method == Method::Invite;
        let Some(branch) = context
            .branch_mut(number)
            .filter(|branch| branch.cancelled != Some(Cancelled::Sent))
        else {
            return;
        };
        let Some(client) = branch.client else {
            branch.cancelled = Some(Cancelled::Sent);
            return self.on_branch_failed(key, number, BranchFailure::Timeout, now);
        };
        if !is_invite {
            // RFC 3261 §9.1: it is answered soon, or by Timer F.
            branch.cancelled = Some(Cancelled::Sent);
            return;
        }
        let is_proceeding = self
            .transactions
            .client(client)
            .is_some_and(|client| client.state == ClientState::Proceeding);
        if !is_proceeding {
            branch.cancelled = Some(Cancelled::Wanted(reason.map(Box::from)));
            return;
        }
        branch.cancelled = Some(Cancelled::Sent);
        let owner = ClientOwner::Cancel;
        self.transactions
            .cancel(client, owner, reason, &mut self.outbox, &mut self.timers, now);
        let wait = 64 * self.config().timers.t1;
        self.arm(now, wait, TimerKey::CancelWait(key, number));
    }
}
