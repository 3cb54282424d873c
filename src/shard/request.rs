//! A request's way in: who may speak, which transaction, which dialog or route, and on (RFC 3261 §16.3 to §16.6).

use super::route::{NoFlow, OwnRoutes, retarget};
use super::{ClientOwner, Output, ServerOwner, Shard, TimerKey, Waiting, is_live};
use crate::call::{Call, CallKey, CallState, Held, Party};
use crate::config::{InDialogSources, InboundRefer, TrunkId, UnknownSource};
use crate::identifiers::{CallId, hex16};
use crate::message::check::check;
use crate::message::edit::{Response, ViaStamp, write_response};
use crate::message::{Header, Index, Message, MessageBuf, Method, ParseError, Uri, Via};
use crate::proxy::{self, Cancelled, Context, ContextKey, Refused, Relay};
use crate::timer::Instant;
use crate::transaction::{Branch, ServerKey};
use crate::transport::{Flow, Transport};
use crate::traversal::Traversal;
use smallvec::SmallVec;
use std::net::SocketAddr;

/// A request on its way through, with what was found out so far.
#[derive(Clone, Debug)]
pub(super) struct Arrival<'a> {
    pub flow: Flow,
    pub method: Method,
    pub via: Via<'a>,
    pub identity: u128,
    pub own: OwnRoutes,
    /// Its transaction, once it has one.
    pub server: Option<ServerKey>,
}

/// A party of a dialog as a request tells it.
#[derive(Clone, Copy, Debug)]
enum Dialog {
    /// A call we know, and who speaks.
    Call(CallKey, Party),
    /// An authentic token whose call is over or whose dialog is another fork's: enough to relay.
    Token(Traversal, Party),
}

impl Shard {
    pub(super) fn on_request(&mut self, flow: Flow, message: Message<'_>, now: Instant) {
        self.counters.requests_total += 1;
        let Some(method) = message.method() else { return };
        let own = self.own_routes(message);
        let access = &self.config().access;
        let (unknown, in_dialog) = (access.unknown_source, access.in_dialog_sources);
        let is_known = self.trunk_of(flow).is_some() || (own.traversal.is_some() && in_dialog == InDialogSources::Any);
        if !is_known {
            self.counters.refused_source_total += 1;
            if method != Method::Ack && unknown == UnknownSource::Reject {
                self.refuse_stateless(flow, message, Refused::new(403, "Forbidden"), &[]);
            }
            return;
        }
        if let Err(kind) = check(message) {
            self.counters.malformed_total += 1;
            if method != Method::Ack {
                self.refuse_stateless(flow, message, Refused::new(kind.status(), kind.reason()), &[]);
            }
            return;
        }
        let Ok(via) = message.top_via() else { return };
        let Ok(identity) = self.transactions.identity(message, &via, method) else {
            return;
        };
        if let Some(server) = self.transactions.find_server(identity) {
            if method != Method::Ack {
                self.counters.repeats_total += 1;
                return self.transactions.on_repeat(server, &mut self.outbox);
            }
            if self.transactions.on_ack(server, &mut self.timers, now) {
                return;
            }
        }
        let arrival = Arrival {
            flow,
            method,
            via,
            identity,
            own,
            server: None,
        };
        match method {
            Method::Cancel => self.on_cancel(message, &arrival, now),
            Method::Ack if self.is_stateless_ack(message, &arrival.via) => {}
            _ => self.go_on(message, arrival, now),
        }
    }

    /// Takes up a request that waited.
    pub(super) fn resume_request(&mut self, flow: Flow, message: &MessageBuf, server: Option<ServerKey>, now: Instant) {
        let message = message.as_message();
        if let Some(key) = server
            && !self.transactions.server(key).is_some_and(|server| server.is_waiting())
        {
            // Cancelled meanwhile.
            return;
        }
        let (Some(method), Ok(via)) = (message.method(), message.top_via()) else {
            return;
        };
        let Ok(identity) = self.transactions.identity(message, &via, method) else {
            return;
        };
        let own = self.own_routes(message);
        self.go_on(
            message,
            Arrival {
                flow,
                method,
                via,
                identity,
                own,
                server,
            },
            now,
        );
    }

    fn go_on(&mut self, message: Message<'_>, arrival: Arrival<'_>, now: Instant) {
        let to_tag = message.to().ok().and_then(|to| to.tag);
        match to_tag {
            Some(to_tag) => self.on_in_dialog(message, arrival, to_tag, now),
            None => self.on_new(message, arrival, now),
        }
    }

    // ---- requests outside a dialog ----

    fn on_new(&mut self, message: Message<'_>, arrival: Arrival<'_>, now: Instant) {
        let Some(from) = self.trunk_of(arrival.flow) else {
            return self.refuse(message, &arrival, Refused::new(403, "Forbidden"), &[], now);
        };
        let Ok(uri) = Uri::parse(message.request_uri()) else {
            return;
        };
        let is_to_us = matches!(uri.scheme, crate::message::uri::Scheme::Sip) && self.names_us(&uri);
        match arrival.method {
            // An ACK without a To tag acknowledges nothing we know; an ACK is never answered.
            Method::Ack => {
                self.counters.stray_acks_total += 1;
                return;
            }
            Method::Options if is_to_us && uri.user.is_none() => return self.answer_options(message, &arrival, now),
            // RFC 3515 §2.4.2: referee accepts no REFER; it sends them.
            Method::Refer => return self.refuse(message, &arrival, Refused::new(603, "Decline"), &[], now),
            // Requests that live in dialogs only.
            Method::Bye | Method::Prack | Method::Update | Method::Info => {
                return self.refuse(
                    message,
                    &arrival,
                    Refused::new(481, "Call/Transaction Does Not Exist"),
                    &[],
                    now,
                );
            }
            _ => {}
        }
        if let Err(refused) = proxy::validate(message) {
            return self.refuse(message, &arrival, refused, &[], now);
        }
        if self.refuse_proxy_require(message, &arrival, now) {
            return;
        }
        let limits = self.config().limits;
        let is_full = self.transactions.len() >= limits.transactions_max
            || (arrival.method == Method::Invite && self.calls.len() >= limits.calls_max);
        if arrival.server.is_none() && (is_full || (self.draining && arrival.method == Method::Invite)) {
            self.counters.shed_total += 1;
            return self.refuse_stateless(arrival.flow, message, SHED, &[("Retry-After", b"10")]);
        }
        let Some(to) = self.route_of(from, message) else {
            return self.refuse(message, &arrival, Refused::new(404, "Not Found"), &[], now);
        };
        let Some(address) = self.config().trunk(to).addresses.first().cloned() else {
            return self.refuse(
                message,
                &arrival,
                Refused::new(480, "Temporarily Unavailable"),
                &[],
                now,
            );
        };
        let target = match self.flow_to_address(to, &address, arrival.flow.transport, now) {
            Ok(target) => target,
            Err(no_flow) => return self.wait_or_refuse(message, &arrival, no_flow, now),
        };
        let server = self.open_server(message, &arrival, now);
        let request_uri = is_to_us.then(|| retarget(&uri, target, &address.host));
        let call = (arrival.method == Method::Invite)
            .then(|| self.open_call(message, &arrival, server, target, [from, to], now));
        let mut record_routes = SmallVec::<[Vec<u8>; 2]>::new();
        if proxy::opens_dialog(arrival.method) {
            let key = call.unwrap_or_default();
            let from_tag = message.from().ok().and_then(|from| from.tag).unwrap_or_default();
            let traversal = Traversal::new(key, from, to, from_tag, &self.setup.secret);
            record_routes = self.record_routes(&traversal, message.call_id().unwrap_or_default(), arrival.flow, target);
        }
        let values: SmallVec<[&[u8]; 2]> = record_routes.iter().map(Vec::as_slice).collect();
        let changes = Changes {
            request_uri: request_uri.as_deref(),
            record_routes: &values,
            ..Changes::default()
        };
        let context = Context {
            server,
            client: None,
            method: arrival.method,
            call,
            from: Party::Caller,
            is_initial: call.is_some(),
            cseq: None,
            cancelled: None,
            timer_c: None,
            server_gone: false,
            client_gone: false,
        };
        self.relay(message, &arrival, context, target, &changes, now);
    }

    fn answer_options(&mut self, message: Message<'_>, arrival: &Arrival<'_>, now: Instant) {
        if self.draining {
            return self.refuse(message, arrival, SHED, &[("Retry-After", b"10")], now);
        }
        // RFC 3261 §11.2: a proxy that answers itself lists no Allow of its own making up; Accept and Supported are empty too.
        let server = self.open_server(message, arrival, now);
        self.respond(server, message, arrival, Refused::new(200, "OK"), &[], now);
    }

    fn open_call(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        server: ServerKey,
        target: Flow,
        trunks: [TrunkId; 2],
        now: Instant,
    ) -> CallKey {
        let id = CallId {
            shard: self.setup.shard,
            number: self.random.next_u64(),
        };
        let mut call = Call::new(id, message, arrival.flow, target, trunks, now);
        if let Ok(cseq) = message.cseq() {
            call.sequence_mut(Party::Caller).observe(cseq.number);
        }
        call.invite = Some(server);
        call.order = self.counters.calls_total;
        let digest = self.call_id_digest(call.call_id());
        let key = self.calls.insert(call);
        self.by_call_id.entry(digest).or_default().push(key);
        self.by_number.insert(id.number, key);
        self.by_order.insert(self.counters.calls_total, key);
        self.counters.calls_total += 1;
        key
    }

    /// Our Record-Route values, the far side's first: one where both sides use the same socket, else two (RFC 5658).
    fn record_routes(
        &self,
        traversal: &Traversal,
        call_id: &[u8],
        arrived: Flow,
        leaves: Flow,
    ) -> SmallVec<[Vec<u8>; 2]> {
        let token = traversal.token(call_id, &self.setup.secret);
        let mut values = SmallVec::new();
        let binds = if arrived.bind == leaves.bind {
            &[leaves][..]
        } else {
            &[leaves, arrived]
        };
        for flow in binds {
            let mut value = Vec::with_capacity(96);
            proxy::record_route(self.sent_by(flow.bind), flow.transport, &token, &mut value);
            values.push(value);
        }
        values
    }

    // ---- requests within a dialog ----

    fn on_in_dialog(&mut self, message: Message<'_>, arrival: Arrival<'_>, to_tag: &[u8], now: Instant) {
        let Some(dialog) = self.dialog_of(message, &arrival, to_tag) else {
            self.counters.unmatched_total += 1;
            return self.refuse(
                message,
                &arrival,
                Refused::new(481, "Call/Transaction Does Not Exist"),
                &[],
                now,
            );
        };
        let (speaker, listener) = match dialog {
            Dialog::Call(key, party) => {
                let call = &self.calls[key];
                (call.trunk(party), call.trunk(party.other()))
            }
            Dialog::Token(traversal, Party::Caller) => (traversal.caller_trunk, traversal.callee_trunk),
            Dialog::Token(traversal, Party::Callee) => (traversal.callee_trunk, traversal.caller_trunk),
        };
        let trunks = self.config().trunks.len();
        if usize::from(speaker.0) >= trunks || usize::from(listener.0) >= trunks {
            return self.refuse(
                message,
                &arrival,
                Refused::new(481, "Call/Transaction Does Not Exist"),
                &[],
                now,
            );
        }
        let any_source =
            self.config().access.in_dialog_sources == InDialogSources::Any && arrival.own.traversal.is_some();
        if !any_source && !self.may_speak_as(arrival.flow, speaker) {
            self.counters.refused_source_total += 1;
            return self.refuse(message, &arrival, Refused::new(403, "Forbidden"), &[], now);
        }
        if let Dialog::Call(key, party) = dialog {
            if self.is_for_us(message, &arrival, key, party, now) {
                return;
            }
            if self.hold_if_needed(message, &arrival, key, party, now) {
                return;
            }
        }
        if arrival.method != Method::Ack {
            if let Err(refused) = proxy::validate(message) {
                return self.refuse(message, &arrival, refused, &[], now);
            }
            if self.refuse_proxy_require(message, &arrival, now) {
                return;
            }
        } else if message.max_forwards() == Ok(Some(0)) {
            // RFC 3261 §16.3: too many hops; an ACK is dropped without an answer.
            self.counters.stray_acks_total += 1;
            return;
        }
        self.relay_in_dialog(message, &arrival, dialog, listener, now);
    }

    fn dialog_of(&self, message: Message<'_>, arrival: &Arrival<'_>, to_tag: &[u8]) -> Option<Dialog> {
        let from_tag = message.from().ok()?.tag.unwrap_or_default();
        let call_id = message.call_id().ok()?;
        if let Some(traversal) = arrival.own.traversal {
            let party = if traversal.is_from_caller(from_tag, &self.setup.secret) {
                Party::Caller
            } else {
                Party::Callee
            };
            let is_of_call = self
                .calls
                .get(traversal.call)
                .is_some_and(|call| call.call_id() == call_id && call.sender(from_tag, to_tag) == Some(party));
            return Some(match is_of_call {
                true => Dialog::Call(traversal.call, party),
                false => Dialog::Token(traversal, party),
            });
        }
        // Without a Route of ours: a peer that does not follow route sets. By Call-ID and both tags, or not at all.
        let keys = self.by_call_id.get(&self.call_id_digest(call_id))?;
        keys.iter().find_map(|key| {
            let call = self.calls.get(*key).filter(|call| call.call_id() == call_id)?;
            call.sender(from_tag, to_tag).map(|party| Dialog::Call(*key, party))
        })
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
        let state = call.state;
        let opens_refer = call.extra().is_some_and(|extra| extra.transfer.is_some());
        match arrival.method {
            Method::Notify if self.on_notify(message, arrival, key, party, now) => true,
            Method::Ack if !is_live(state) => true,
            Method::Bye if state == CallState::Ending => {
                self.refuse(message, arrival, Refused::new(200, "OK"), &[], now);
                true
            }
            _ if !is_live(state) => {
                self.refuse(
                    message,
                    arrival,
                    Refused::new(481, "Call/Transaction Does Not Exist"),
                    &[],
                    now,
                );
                true
            }
            Method::Refer => {
                let rule = self.config().trunk(self.calls[key].trunk(party)).inbound_refer;
                if opens_refer {
                    self.refuse(message, arrival, Refused::new(491, "Request Pending"), &[], now);
                } else if rule == InboundRefer::Reject {
                    self.refuse(message, arrival, Refused::new(603, "Decline"), &[], now);
                } else {
                    let wait = self.config().transfer.total_timeout_max;
                    let extra = self.calls[key].extra_mut();
                    extra.relayed_refer = Some(party);
                    extra.relayed_refer_until = Some(now + wait);
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
        if !extra
            .hold
            .is_some_and(|(speaker, until)| speaker == party && now < until)
        {
            return false;
        }
        if extra.held.len() >= held_max {
            self.refuse(message, arrival, SHED, &[("Retry-After", b"1")], now);
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
        let Ok(cseq) = message.cseq() else { return };
        let mut changes = Changes {
            own_routes: arrival.own.count,
            ..Changes::default()
        };
        let mut request_uri: Option<Vec<u8>> = None;
        let mut routes: Vec<u8> = Vec::new();
        let mut last = None;
        let mut context = Context {
            server: ServerKey::default(),
            client: None,
            method: arrival.method,
            call: None,
            from: Party::Caller,
            is_initial: false,
            cseq: None,
            cancelled: None,
            timer_c: None,
            server_gone: false,
            client_gone: false,
        };
        if let Dialog::Call(key, party) = dialog {
            let call = &mut self.calls[key];
            let other = party.other();
            context.call = Some(key);
            context.from = party;
            call.set_flow(party, arrival.flow);
            if arrival.method != Method::Ack {
                call.sequence_mut(party).observe(cseq.number);
            }
            let sequence = call.sequence(party);
            if sequence.is_shifted() {
                let Some(outward) = sequence.outward(cseq.number) else {
                    return self.refuse(message, arrival, Refused::new(500, "CSeq Exhausted"), &[], now);
                };
                if outward != cseq.number {
                    changes.cseq = Some(outward);
                    context.cseq = Some(cseq.number);
                }
                if let Ok(Some(rack)) = message.rack() {
                    changes.rack = sequence.outward(rack.cseq).filter(|number| *number != rack.cseq);
                }
            }
            changes.event_id = mapped_event_id(call, party, message, arrival.method);
            if arrival.own.count == 0 {
                // The Request-URI names us, or a peer without route sets sent it here: the dialog says where it goes.
                request_uri = Some(call.target(other).to_vec());
                routes = call.get(other, crate::call::Trait::Routes).to_vec();
            } else if let Some((old, new)) = call.extra().and_then(|extra| extra.retargets[other as usize].as_ref())
                && message.request_uri() == &**old
            {
                request_uri = Some(new.to_vec());
            }
            if !arrival.own.more && routes.is_empty() {
                last = Some(call.flow(other));
            }
        }
        changes.request_uri = request_uri.as_deref();
        changes.routes = &routes;
        let next = self.next_uri(message, arrival, &changes);
        let target = match self.flow_to_uri(&next, listener, last, now) {
            Ok(target) => target,
            Err(no_flow) => return self.wait_or_refuse(message, arrival, no_flow, now),
        };
        if arrival.method == Method::Ack {
            return self.relay_ack(message, arrival, target, &changes);
        }
        if arrival.method == Method::Bye
            && let Some(key) = context.call
        {
            self.on_relayed_bye(key, context.from, message.value(Header::Reason), now);
        }
        context.server = self.open_server(message, arrival, now);
        self.relay(message, arrival, context, target, &changes, now);
    }

    /// What names the next hop: the first Route that is left, else the Request-URI (RFC 3261 §16.6 step 6, 7).
    fn next_uri(&self, message: Message<'_>, arrival: &Arrival<'_>, changes: &Changes<'_>) -> Vec<u8> {
        let put_in = crate::message::NameAddr::parse(changes.routes)
            .ok()
            .map(|route| route.uri.to_vec());
        let left = || {
            let mut values = message.name_addrs(Header::Route).skip(arrival.own.count);
            values.next().and_then(Result::ok).map(|route| route.uri.to_vec())
        };
        let uri = || changes.request_uri.unwrap_or(message.request_uri()).to_vec();
        put_in.filter(|uri| !uri.is_empty()).or_else(left).unwrap_or_else(uri)
    }

    // ---- CANCEL and ACK ----

    fn on_cancel(&mut self, message: Message<'_>, arrival: &Arrival<'_>, now: Instant) {
        let invite = self.transactions.identity(message, &arrival.via, Method::Invite);
        let found = invite.ok().and_then(|identity| self.transactions.find_server(identity));
        let Some(invite) = found else {
            return self.refuse(
                message,
                arrival,
                Refused::new(481, "Call/Transaction Does Not Exist"),
                &[],
                now,
            );
        };
        let server = self.open_server(message, arrival, now);
        self.respond(server, message, arrival, Refused::new(200, "OK"), &[], now);
        let Some(transaction) = self.transactions.server(invite).filter(|server| server.is_waiting()) else {
            return;
        };
        match transaction.owner {
            ServerOwner::Relay(context) => self.cancel_branch(context, message.value(Header::Reason), now),
            ServerOwner::Local => self.answer_stored(invite, Refused::new(487, "Request Terminated"), now),
        }
    }

    /// CANCELs a branch now, or as soon as it has a provisional response (RFC 3261 §9.1).
    pub(super) fn cancel_branch(&mut self, key: ContextKey, reason: Option<&[u8]>, now: Instant) {
        let Some(context) = self.contexts.get_mut(key) else {
            return;
        };
        let Some(client) = context.client else { return };
        if context.cancelled == Some(Cancelled::Sent) {
            return;
        }
        let is_proceeding = self
            .transactions
            .client(client)
            .is_some_and(|client| client.state == crate::transaction::client::ClientState::Proceeding);
        if !is_proceeding {
            context.cancelled = Some(Cancelled::Wanted(reason.map(Box::from)));
            return;
        }
        context.cancelled = Some(Cancelled::Sent);
        let owner = ClientOwner::Cancel;
        self.transactions.cancel(
            client,
            owner,
            reason,
            &mut self.outbox,
            &mut self.timers,
            &mut self.scratch,
            now,
        );
        let wait = 64 * self.config().timers.t1;
        self.arm(now, wait, TimerKey::CancelWait(key));
    }

    /// The ACK for a 2xx goes end to end, without a transaction (RFC 3261 §16.2, §13.2.2.4).
    fn relay_ack(&mut self, message: Message<'_>, arrival: &Arrival<'_>, target: Flow, changes: &Changes<'_>) {
        let branch = Branch::without_transaction(&mut self.random);
        let start = self.write_relayed(message, arrival, target, &branch, changes);
        self.counters.relayed_requests_total += 1;
        self.outbox.send(target, self.outbox.since(start), None);
    }

    // ---- sending on ----

    fn relay(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        mut context: Context,
        target: Flow,
        changes: &Changes<'_>,
        now: Instant,
    ) {
        let server = context.server;
        let is_invite = context.method == Method::Invite;
        let timer_c = self.config().timers.timer_c;
        context.timer_c = is_invite.then(|| now + timer_c);
        let key = self.contexts.insert(context);
        let (client, branch) =
            self.transactions
                .open_client(arrival.method, target, ClientOwner::Relay(key), &mut self.random);
        self.contexts[key].client = Some(client);
        if let Some(server) = self.transactions.server_mut(server) {
            server.owner = ServerOwner::Relay(key);
        }
        let start = self.write_relayed(message, arrival, target, &branch, changes);
        let bytes = self.outbox.since(start);
        self.transactions
            .start(client, bytes, &mut self.outbox, &mut self.timers, now);
        if is_invite {
            self.arm(now, timer_c, TimerKey::TimerC(key));
        }
        self.counters.relayed_requests_total += 1;
    }

    fn write_relayed(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        target: Flow,
        branch: &Branch,
        changes: &Changes<'_>,
    ) -> usize {
        let start = self.outbox.bytes.len();
        let relay = Relay {
            transport: target.transport,
            sent_by: &self.sent_by[usize::from(target.bind.0)],
            branch,
            stamp: ViaStamp::of(&arrival.via, arrival.flow.peer),
            request_uri: changes.request_uri,
            record_routes: changes.record_routes,
            own_routes: changes.own_routes,
            routes: changes.routes,
            cseq: changes.cseq,
            rack: changes.rack,
            event_id: changes.event_id,
        };
        proxy::write_request(message, &arrival.via, &relay, &mut self.editor, &mut self.outbox.bytes);
        start
    }

    /// Opens the server transaction, unless the request has it; an INVITE gets its 100 at once.
    pub(super) fn open_server(&mut self, message: Message<'_>, arrival: &Arrival<'_>, now: Instant) -> ServerKey {
        if let Some(server) = arrival.server {
            return server;
        }
        let reply_to = reply_flow(arrival.flow, &arrival.via);
        let server =
            self.transactions
                .open_server(arrival.identity, message, arrival.method, reply_to, ServerOwner::Local);
        if arrival.method == Method::Invite {
            self.respond(server, message, arrival, Refused::new(100, "Trying"), &[], now);
        }
        server
    }

    /// Lets a request wait for a name, or refuses it.
    fn wait_or_refuse(&mut self, message: Message<'_>, arrival: &Arrival<'_>, no_flow: NoFlow, now: Instant) {
        let NoFlow::Name(name) = no_flow else {
            self.counters.unroutable_total += 1;
            // RFC 3261 §16.9 has this count as a 503, which is not passed on as such (§16.7 step 6).
            return self.refuse(message, arrival, Refused::new(500, "Next Hop Unreachable"), &[], now);
        };
        let server = (arrival.method != Method::Ack).then(|| self.open_server(message, arrival, now));
        let waiting = Waiting::Request {
            flow: arrival.flow,
            message: MessageBuf::copy_of(message),
            server,
        };
        if let Err(Waiting::Request { .. }) = self.wait_for(&name, waiting) {
            let arrival = Arrival {
                server,
                ..arrival.clone()
            };
            self.refuse(message, &arrival, SHED, &[("Retry-After", b"1")], now);
        }
    }

    /// Lets something wait for a name; given back if too much waits already.
    pub(super) fn wait_for(&mut self, name: &str, waiting: Waiting) -> Result<(), Waiting> {
        if let Some(ticket) = self.names.wait(name, waiting)? {
            self.effects.push_back(Output::Resolve {
                ticket,
                name: name.into(),
            });
        }
        Ok(())
    }

    pub(super) fn resume(&mut self, waiting: Waiting, now: Instant) {
        match waiting {
            Waiting::Request { flow, message, server } => self.resume_request(flow, &message, server, now),
            Waiting::Refer(key) => self.send_refer(key, now),
            Waiting::Bye(call, party) => self.send_bye(call, party, now),
        }
    }

    // ---- answers of our own ----

    /// Answers a request through its transaction; an ACK is never answered.
    pub(super) fn refuse(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        refused: Refused,
        extra: &[(&str, &[u8])],
        now: Instant,
    ) {
        if arrival.method == Method::Ack {
            self.counters.stray_acks_total += 1;
            return;
        }
        if refused.code >= 300 {
            self.counters.refused_total += 1;
        }
        let server = match arrival.server {
            Some(server) => server,
            None => {
                let reply_to = reply_flow(arrival.flow, &arrival.via);
                self.transactions
                    .open_server(arrival.identity, message, arrival.method, reply_to, ServerOwner::Local)
            }
        };
        self.respond(server, message, arrival, refused, extra, now);
    }

    fn respond(
        &mut self,
        server: ServerKey,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        status: Refused,
        extra: &[(&str, &[u8])],
        now: Instant,
    ) {
        let start = self.outbox.bytes.len();
        let tag = hex16(self.random.next_u64());
        let response = Response {
            code: status.code,
            reason: status.reason,
            to_tag: (status.code > 100).then_some(&tag[..]),
            copy_record_route: false,
            extra,
            content_type: None,
            body: b"",
        };
        let stamp = ViaStamp::of(&arrival.via, arrival.flow.peer);
        write_response(message, stamp, &response, &mut self.outbox.bytes);
        let bytes = self.outbox.since(start);
        self.transactions
            .respond(server, status.code, bytes, &mut self.outbox, &mut self.timers, now);
    }

    /// Answers a request whose bytes only its transaction still has.
    pub(super) fn answer_stored(&mut self, server: ServerKey, status: Refused, now: Instant) {
        let mut index = std::mem::take(&mut self.scratch);
        let start = self.outbox.bytes.len();
        let tag = hex16(self.random.next_u64());
        let source = self.transactions.server(server).map(|server| server.reply_to.peer);
        if let (Some(source), Some(request)) = (source, self.transactions.request_of(server, &mut index)) {
            let response = Response {
                code: status.code,
                reason: status.reason,
                to_tag: Some(&tag),
                copy_record_route: false,
                extra: &[],
                content_type: None,
                body: b"",
            };
            let stamp = request
                .top_via()
                .map(|via| ViaStamp::of(&via, source))
                .unwrap_or_default();
            write_response(request, stamp, &response, &mut self.outbox.bytes);
            let bytes = self.outbox.since(start);
            self.transactions
                .respond(server, status.code, bytes, &mut self.outbox, &mut self.timers, now);
        }
        self.scratch = index;
    }

    /// RFC 3261 §16.3: extensions that the request demands of proxies and we do not know.
    fn refuse_proxy_require(&mut self, message: Message<'_>, arrival: &Arrival<'_>, now: Instant) -> bool {
        if message.count(Header::ProxyRequire) == 0 || arrival.method == Method::Ack {
            return false;
        }
        let lines: SmallVec<[(&str, &[u8]); 2]> = message
            .lines_of(Header::ProxyRequire)
            .map(|line| ("Unsupported", line.value))
            .collect();
        self.refuse(message, arrival, Refused::new(420, "Bad Extension"), &lines, now);
        true
    }

    /// Answers without a transaction: to strangers, and when there is no room for one. The To tag is a MAC, so that the ACK is
    /// known when it comes. The answer goes to where the request came from and nowhere else.
    fn refuse_stateless(&mut self, flow: Flow, message: Message<'_>, refused: Refused, extra: &[(&str, &[u8])]) {
        self.counters.refused_total += 1;
        let Ok(via) = message.top_via() else { return };
        let tag = hex16(self.stateless_tag(message, &via));
        let start = self.outbox.bytes.len();
        let response = Response {
            code: refused.code,
            reason: refused.reason,
            to_tag: Some(&tag),
            copy_record_route: false,
            extra,
            content_type: None,
            body: b"",
        };
        write_response(
            message,
            ViaStamp::of(&via, flow.peer),
            &response,
            &mut self.outbox.bytes,
        );
        self.outbox.send(flow, self.outbox.since(start), None);
    }

    fn stateless_tag(&self, message: Message<'_>, via: &Via<'_>) -> u64 {
        let call_id = message.call_id().unwrap_or_default();
        self.setup
            .secret
            .mac(b's', &[via.branch.unwrap_or_default(), via.sent_by, call_id])
    }

    fn is_stateless_ack(&self, message: Message<'_>, via: &Via<'_>) -> bool {
        let to_tag = message.to().ok().and_then(|to| to.tag);
        to_tag.is_some_and(|tag| tag == hex16(self.stateless_tag(message, via)))
    }

    /// Bytes that are no message: an answer where they can be answered, else a count.
    pub(super) fn on_malformed(&mut self, flow: Flow, bytes: &[u8], index: &Index, error: ParseError) {
        self.counters.malformed_total += 1;
        let message = Message::new(bytes, index);
        if !index.answerable() || !index.is_request() || message.method() == Some(Method::Ack) {
            self.counters.malformed_unanswered_total += 1;
            return;
        }
        if self.trunk_of(flow).is_none() {
            self.counters.refused_source_total += 1;
            if self.config().access.unknown_source == UnknownSource::Reject {
                self.refuse_stateless(flow, message, Refused::new(403, "Forbidden"), &[]);
            }
            return;
        }
        self.refuse_stateless(
            flow,
            message,
            Refused::new(error.kind.status(), error.kind.reason()),
            &[],
        );
    }
}

/// What changes in a request as it is relayed.
#[derive(Clone, Copy, Debug, Default)]
struct Changes<'a> {
    request_uri: Option<&'a [u8]>,
    record_routes: &'a [&'a [u8]],
    own_routes: usize,
    routes: &'a [u8],
    cseq: Option<u32>,
    rack: Option<u32>,
    event_id: Option<u32>,
}

const SHED: Refused = Refused::new(503, "Service Unavailable");

/// Where responses to a request go (RFC 3261 §18.2.2, RFC 3581 §4): on a stream the connection it came by, and if that is gone
/// the sent-by port; over UDP the source port if rport was asked for, else the sent-by port.
fn reply_flow(flow: Flow, via: &Via<'_>) -> Flow {
    let port = match (flow.transport, via.rport) {
        (Transport::Udp, Some(_)) => flow.peer.port(),
        _ => via.port.unwrap_or(5060),
    };
    Flow {
        peer: SocketAddr::new(flow.peer.ip(), port),
        ..flow
    }
}

/// The Event id of a relayed NOTIFY or SUBSCRIBE of a party's own REFER, as the other side knows it.
fn mapped_event_id(call: &Call, party: Party, message: Message<'_>, method: Method) -> Option<u32> {
    if !matches!(method, Method::Notify | Method::Subscribe) {
        return None;
    }
    let id = message.event().ok()??.id_number()?;
    let mapped = match method {
        // The id is the CSeq of the listener's REFER as the notifier saw it.
        Method::Notify => match call.sequence(party.other()).inward(id) {
            crate::sequence::Origin::Party(number) => number,
            crate::sequence::Origin::Inserted => return None,
        },
        // A refresh names the subscriber's own REFER.
        _ => call.sequence(party).outward(id)?,
    };
    (mapped != id).then_some(mapped)
}
