//! Sending a request on: what changes in it, by which flow, and what waits when there is none yet.

use super::arrival::Arrival;
use super::request::Dialog;
use super::route::{NoFlow, OwnRoutes};
use super::{ClientOwner, Output, ServerOwner, Shard, TimerKey, Waiting};
use crate::call::{Call, Party};
use crate::message::edit::ViaStamp;
use crate::message::uri::request_uri;
use crate::message::{Header, Message, MessageBuf, Method, NameAddr, parse};
use crate::proxy::context::{BranchNumber, Context, ContextKey};
use crate::proxy::{self, Refused, Relay};
use crate::route_set::{self, StrictWay, Text};
use crate::sequence::Origin;
use crate::timer::Instant;
use crate::transaction::{Branch, ServerKey};
use crate::transport::Flow;
use crate::traversal::Traversal;
use smallvec::SmallVec;

/// What changes in a request as it is relayed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes<'a> {
    pub request_uri: Option<&'a [u8]>,
    pub record_routes: &'a [&'a [u8]],
    /// How many Route values to take off.
    pub own_routes: usize,
    pub routes: &'a [u8],
    pub cseq: Option<u32>,
    pub rack: Option<u32>,
    pub event_id: Option<u32>,
    pub session: crate::session_timer::Pass,
    pub max_breadth: Option<u8>,
    /// By what a loop is known (RFC 5393 §4.2), for a request outside a dialog.
    pub loop_digest: Option<u32>,
    /// Whole header lines with credentials of ours.
    pub credentials: &'a [u8],
}

impl Shard {
    /// Enters a context and lets it own its server transaction.
    pub(super) fn open_context(&mut self, context: Context) -> ContextKey {
        let server = context.server;
        let key = self.contexts.insert(context);
        if let Some(server) = self.transactions.server_mut(server) {
            server.owner = ServerOwner::Relay(key);
        }
        key
    }

    /// Sends a context's request by one of its branches.
    #[expect(
        clippy::too_many_arguments,
        reason = "which request, which branch, where to and what changes"
    )]
    pub(super) fn send_branch(
        &mut self,
        key: ContextKey,
        number: BranchNumber,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        target: Flow,
        changes: &Changes<'_>,
        now: Instant,
    ) {
        let timer_c = self.config().timers.timer_c;
        let mut deadline = now + timer_c;
        let is_invite = arrival.method == Method::Invite;
        let owner = ClientOwner::Relay(key, number);
        let (client, via_branch) =
            self.transactions
                .open_client(arrival.method, target, owner, changes.loop_digest, &mut self.random);
        if let Some(context) = self.contexts.get_mut(key) {
            deadline = deadline.min(context.rings_until);
            if let Some(branch) = context.branch_mut(number) {
                branch.client = Some(client);
                branch.timer_c = is_invite.then_some(deadline);
            }
        }
        let start = self.write_relayed(message, arrival, target, &via_branch, changes);
        if let Some(stream) = self.flow_for_size(start, target, now) {
            self.outbox.bytes.truncate(start);
            self.write_relayed(message, arrival, stream, &via_branch, changes);
            self.lead_by_stream(client, stream);
        }
        let bytes = self.outbox.since(start);
        self.transactions
            .start(client, bytes, &mut self.outbox, &mut self.timers, now);
        if is_invite {
            match deadline.since(now) {
                wait if wait < timer_c => self.timers.arm_once(now, wait, TimerKey::TimerC(key, number)),
                _ => self.arm(now, timer_c, TimerKey::TimerC(key, number)),
            };
        }
        self.counters.relayed_requests_total += 1;
    }

    /// Lends the request of a context, as its server transaction has it, for as long as it is not answered.
    pub(super) fn with_request_of(
        &mut self,
        key: ContextKey,
        use_it: impl FnOnce(&mut Shard, Message<'_>, &Arrival<'_>),
    ) {
        let Some(context) = self.contexts.get(key) else { return };
        let (server, flow) = (context.server, context.arrived);
        let Some(bytes) = self.transactions.lend_request(server) else {
            return;
        };
        let mut index = std::mem::take(&mut self.scratch);
        if parse(&bytes, &mut index).is_ok() {
            let message = Message::new(&bytes, &index);
            if let Some(arrival) = self.arrival_of(flow, message, Some(server)) {
                use_it(self, message, &arrival);
            }
        }
        self.scratch = index;
        self.transactions.return_request(server, bytes);
    }

    /// What was found out of a request when it came, once more.
    pub(super) fn arrival_of<'a>(
        &self,
        flow: Flow,
        message: Message<'a>,
        server: Option<ServerKey>,
    ) -> Option<Arrival<'a>> {
        let method = message.method()?;
        let via = message.top_via().ok()?;
        let identity = self.transactions.identity(message, &via, method).ok()?;
        Some(Arrival {
            flow,
            method,
            via,
            identity,
            own: self.own_routes(message),
            server,
        })
    }

    pub(super) fn write_relayed(
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
            sent_by: self.topology.sent_by(target.bind),
            branch,
            stamp: ViaStamp::of(&arrival.via, arrival.flow.peer),
            request_uri: changes.request_uri,
            record_routes: changes.record_routes,
            own_routes: changes.own_routes,
            routes: changes.routes,
            cseq: changes.cseq,
            rack: changes.rack,
            event_id: changes.event_id,
            session: changes.session,
            max_breadth: changes.max_breadth,
            credentials: changes.credentials,
        };
        proxy::write_request(message, &arrival.via, &relay, &mut self.editor, &mut self.outbox.bytes);
        start
    }

    /// The ACK for a 2xx goes end to end, without a transaction (RFC 3261 §16.2, §13.2.2.4).
    pub(super) fn relay_ack(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        target: Flow,
        changes: &Changes<'_>,
        now: Instant,
    ) {
        // RFC 3261 §16.11: a repeat leaves as the one before. The identity itself stays secret.
        let number = self.setup.secret.mac(b'a', &[&arrival.identity.to_be_bytes()]);
        let branch = Branch::without_transaction(number);
        let start = self.write_relayed(message, arrival, target, &branch, changes);
        self.counters.taken_total += 1;
        self.counters.relayed_requests_total += 1;
        let Some(stream) = self.flow_for_size(start, target, now) else {
            return self.outbox.send(target, self.outbox.since(start), None);
        };
        self.outbox.bytes.truncate(start);
        self.write_relayed(message, arrival, stream, &branch, changes);
        if self.transactions.len() >= self.config().limits.transactions_max {
            return self.outbox.send(stream, self.outbox.since(start), None);
        }
        // It waits for nothing but a refusal of its connection.
        let owner = ClientOwner::LargeAck;
        let (client, _) = self
            .transactions
            .open_client(Method::Ack, target, owner, None, &mut self.random);
        self.lead_by_stream(client, stream);
        let bytes = self.outbox.since(start);
        self.transactions
            .start(client, bytes, &mut self.outbox, &mut self.timers, now);
    }

    /// Our Record-Route values, the far side's first: one where both sides use the same socket, else two (RFC 5658).
    pub(super) fn record_routes(
        &self,
        traversal: &Traversal,
        call_id: &[u8],
        arrived: Flow,
        leaves: Flow,
    ) -> SmallVec<[Text; 2]> {
        let token = traversal.token(call_id, &self.setup.secret);
        let mut values = SmallVec::new();
        let binds = if arrived.bind == leaves.bind {
            &[leaves][..]
        } else {
            &[leaves, arrived]
        };
        for flow in binds {
            let mut value = Text::new();
            proxy::record_route(self.topology.sent_by(flow.bind), flow.transport, &token, &mut value);
            values.push(value);
        }
        values
    }

    /// Lets a request wait for a name, or refuses it.
    pub(super) fn wait_or_refuse(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        no_flow: NoFlow,
        now: Instant,
    ) {
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
        self.counters.waited_total += 1;
        if let Err(Waiting::Request { .. }) = self.wait_for(&name, waiting) {
            self.counters.resumed_total += 1;
            let arrival = Arrival {
                server,
                ..arrival.clone()
            };
            self.refuse(message, &arrival, Refused::SHED, &[("Retry-After", b"1")], now);
        }
    }

    /// Lets something wait for a name; given back if too much waits already.
    pub(super) fn wait_for(&mut self, name: &str, waiting: Waiting) -> Result<(), Waiting> {
        let begun = self.names.wait(name, waiting);
        self.counters.waits_refused_total += u64::from(begun.is_err());
        if let Some(ticket) = begun? {
            self.effects.push_back(Output::Resolve {
                ticket,
                name: name.into(),
            });
        }
        Ok(())
    }

    /// The Event id of a relayed NOTIFY or SUBSCRIBE of a party's own REFER, as the other side knows it.
    pub(super) fn mapped_event_id(
        &self,
        dialog: Dialog,
        callee: u64,
        message: Message<'_>,
        method: Method,
    ) -> Option<u32> {
        let referrer = match method {
            // The id is the CSeq of the listener's REFER as the notifier saw it.
            Method::Notify => dialog.speaker().other(),
            // A refresh names the subscriber's own REFER.
            Method::Subscribe => dialog.speaker(),
            _ => return None,
        };
        let sequence = self
            .sequence_of(dialog, callee, referrer)
            .filter(|sequence| sequence.is_shifted())?;
        let id = message.event().ok()??.id_number()?;
        let mapped = match method {
            Method::Notify => match sequence.inward(id) {
                Origin::Party(number) => number,
                Origin::Inserted => return None,
            },
            _ => sequence.outward(id)?,
        };
        (mapped != id).then_some(mapped)
    }

    pub(super) fn resume(&mut self, waiting: Waiting, now: Instant) {
        match waiting {
            Waiting::Request { flow, message, server } => self.resume_request(flow, &message, server, now),
            Waiting::Branch(key, number) => self.resume_branch(key, number, now),
            Waiting::Refer(key) => self.send_refer(key, now),
            Waiting::Bye(call, party) => self.send_bye(call, party, now),
            Waiting::Probe(probe) => self.send_probe(probe, now),
            Waiting::Refresh(call) => self.refresh_session(call, now),
            Waiting::OwnRequest(call, number) => self.send_request_of_application(call, number, now),
        }
    }
}

/// What changes besides where the next hop is a strict router (RFC 3261 §16.6 step 6): all Routes are taken off and written anew.
pub(super) fn strict_way(message: Message<'_>, own: OwnRoutes, changes: &Changes<'_>) -> Option<StrictWay> {
    if !own.more && changes.routes.is_empty() {
        return None;
    }
    let left = message.name_addrs(Header::Route).skip(own.count).map_while(Result::ok);
    let left = left.map(|value| &message.bytes()[value.span]);
    let target = changes.request_uri.unwrap_or(message.request_uri());
    route_set::for_strict_router(route_set::values(changes.routes).chain(left), target)
}

/// What a request to `party` says where the first of its route set is a strict router.
pub(super) fn strict_way_to(call: &Call, party: Party) -> Option<StrictWay> {
    let routes = route_set::values(call.get(party, crate::call::Trait::Routes));
    route_set::for_strict_router(routes, &request_uri(call.target(party)))
}

/// The Request-URI of a request of ours to `party`.
pub(super) fn own_request_uri(call: &Call, party: Party) -> Vec<u8> {
    match strict_way_to(call, party) {
        Some(way) => way.request_uri.to_vec(),
        None => request_uri(call.target(party)).into_owned(),
    }
}

impl<'a> Changes<'a> {
    /// These and those that a strict router asks for.
    pub fn and(self, way: Option<&'a StrictWay>) -> Changes<'a> {
        match way {
            Some(way) => Changes {
                request_uri: Some(&way.request_uri),
                routes: &way.routes,
                own_routes: usize::MAX,
                ..self
            },
            None => self,
        }
    }
}

/// What names the next hop: the first Route that is left or put in, else the Request-URI (RFC 3261 §16.6 step 6, 7).
pub(super) fn next_uri<'a>(message: Message<'a>, own_routes: usize, changes: &Changes<'a>) -> &'a [u8] {
    let put_in = NameAddr::first_of(changes.routes)
        .ok()
        .map(|route| route.uri)
        .filter(|uri| !uri.is_empty());
    let left = || {
        let mut values = message.name_addrs(Header::Route).skip(own_routes);
        values.next().and_then(Result::ok).map(|route| route.uri)
    };
    put_in
        .or_else(left)
        .or(changes.request_uri)
        .unwrap_or(message.request_uri())
}
