//! Answers of our own: through a transaction, from what a transaction still has, or without one.

use super::arrival::Arrival;
use super::{ServerOwner, Shard};
use crate::config::UnknownSource;
use crate::identifiers::hex16;
use crate::message::edit::{Response, ViaStamp, write_response};
use crate::message::{Header, Index, Message, Method, ParseError, ParseErrorKind, Via};
use crate::proxy::Refused;
use crate::stun;
use crate::timer::Instant;
use crate::transaction::ServerKey;
use crate::transaction::server::Server;
use crate::transport::{Flow, Transport};
use smallvec::SmallVec;
use std::net::SocketAddr;

impl Shard {
    /// Opens the server transaction, unless the request has it; an INVITE gets its 100 at once, another request if it has to
    /// wait for long.
    pub(super) fn open_server(&mut self, message: Message<'_>, arrival: &Arrival<'_>, now: Instant) -> ServerKey {
        if let Some(server) = arrival.server {
            return server;
        }
        let server = self.open_unanswered(message, arrival);
        if arrival.method == Method::Invite {
            // One that was refused for want of room, and is back before it heard of that.
            self.refused_invites.remove(arrival.identity);
            self.respond(server, message, arrival, Refused::new(100, "Trying"), &[], now);
        } else {
            self.transactions.watch_trying(server, &mut self.timers, now);
        }
        server
    }

    fn open_unanswered(&mut self, message: Message<'_>, arrival: &Arrival<'_>) -> ServerKey {
        self.transactions.open_server(
            arrival.identity,
            message,
            arrival.method,
            reply_flow(arrival.flow, &arrival.via),
            arrival.flow.peer.port(),
            ServerOwner::Local,
        )
    }

    /// Answers a request through its transaction, or without one when there is no room; an ACK is never answered.
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
        // What is taken within a dialog must be taken once more if the answer is lost: it has changed what the next would get.
        let is_taken = refused.code < 300 && message.to_tag().is_some();
        let server = match arrival.server {
            Some(server) => server,
            None if !is_taken && self.transactions.len() >= self.config().limits.transactions_max => {
                return self.refuse_stateless(arrival.flow, message, refused, extra, now);
            }
            None => self.open_unanswered(message, arrival),
        };
        self.count_answer(refused);
        self.respond(server, message, arrival, refused, extra, now);
    }

    fn count_answer(&mut self, status: Refused) {
        match status.code {
            ..300 => self.counters.answered_total += 1,
            300.. => self.counters.refused_total += 1,
        }
    }

    pub(super) fn respond(
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
        self.answer_stored_with(server, status, &[], now);
    }

    /// Likewise, with further header lines.
    pub(super) fn answer_stored_with(
        &mut self,
        server: ServerKey,
        status: Refused,
        extra: &[(&str, &[u8])],
        now: Instant,
    ) {
        let mut index = std::mem::take(&mut self.scratch);
        let start = self.outbox.bytes.len();
        let tag = hex16(self.random.next_u64());
        let source = self.transactions.server(server).map(Server::source);
        if let (Some(source), Some(request)) = (source, self.transactions.request_of(server, &mut index)) {
            let response = Response {
                code: status.code,
                reason: status.reason,
                to_tag: (status.code > 100).then_some(&tag[..]),
                copy_record_route: false,
                extra,
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

    /// Extensions that the request demands and we do not know: of proxies in Proxy-Require (RFC 3261 §16.3), of who answers in
    /// Require (§8.2.2.3).
    pub(super) fn refuse_required(
        &mut self,
        message: Message<'_>,
        arrival: &Arrival<'_>,
        header: Header,
        now: Instant,
    ) -> bool {
        if message.count(header) == 0 || arrival.method == Method::Ack {
            return false;
        }
        let lines: SmallVec<[(&str, &[u8]); 2]> = message
            .lines_of(header)
            .map(|line| ("Unsupported", line.value))
            .collect();
        self.refuse(message, arrival, Refused::new(420, "Bad Extension"), &lines, now);
        true
    }

    /// Answers without a transaction: to strangers, and when there is no room for one. The To tag is a MAC, so that the ACK is
    /// known when it comes. The answer goes to the host the request came from and nowhere else.
    ///
    /// A source that is no trunk's may be made up, and the answer hit someone else: it gets so many a second, and none that is
    /// [`AMPLIFICATION_MAX`] times larger than what it sent.
    pub(super) fn refuse_stateless(
        &mut self,
        flow: Flow,
        message: Message<'_>,
        refused: Refused,
        extra: &[(&str, &[u8])],
        now: Instant,
    ) {
        let is_stranger = self.is_stranger(flow);
        if is_stranger && !self.strangers.answers(flow.peer.ip(), now) {
            self.counters.unanswered_rate_total += 1;
            self.counters.dropped_total += 1;
            return;
        }
        let via = message.top_via().ok();
        let tag = hex16(self.stateless_tag(message, via.as_ref()));
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
        // RFC 4475 §3.1.2.1: what stands in a Via that cannot be read goes back as it came, to where it came from.
        let (stamp, reply_to) = match &via {
            Some(via) => (ViaStamp::of(via, flow.peer), reply_flow(flow, via)),
            None => (ViaStamp::default(), flow),
        };
        write_response(message, stamp, &response, &mut self.outbox.bytes);
        if is_stranger && self.outbox.bytes.len() - start > AMPLIFICATION_MAX * message.bytes().len() {
            self.outbox.bytes.truncate(start);
            self.counters.unanswered_size_total += 1;
            self.counters.dropped_total += 1;
            return;
        }
        blank_stray_line_ends(&mut self.outbox.bytes[start..]);
        self.count_answer(refused);
        if refused.code >= 300 {
            self.note_refused_invite(flow, message);
        }
        self.outbox.send(reply_to, self.outbox.since(start), None);
    }

    /// An INVITE within a dialog has its To tag already, so that its ACK is known by nothing but its branch.
    fn note_refused_invite(&mut self, flow: Flow, message: Message<'_>) {
        // Strangers change nothing.
        if message.method() != Some(Method::Invite)
            || message.to_tag().is_none()
            || self.topology.trunk_of(flow).is_none()
        {
            return;
        }
        if let Ok(via) = message.top_via()
            && let Ok(identity) = self.transactions.identity(message, &via, Method::Invite)
        {
            self.refused_invites.add(identity);
        }
    }

    fn stateless_tag(&self, message: Message<'_>, via: Option<&Via<'_>>) -> u64 {
        let call_id = message.call_id().unwrap_or_default();
        let (branch, sent_by) = via.map_or((None, &b""[..]), |via| (via.branch, via.sent_by));
        self.setup
            .secret
            .mac(b's', &[branch.unwrap_or_default(), sent_by, call_id])
    }

    /// Whether an ACK is for an INVITE that was refused without a transaction: it goes no further (RFC 3261 §17.1.1.3).
    pub(super) fn is_ack_of_stateless(&self, message: Message<'_>, arrival: &Arrival<'_>) -> bool {
        let is_of_tag = |tag: &[u8]| tag == hex16(self.stateless_tag(message, Some(&arrival.via)));
        self.refused_invites.has(arrival.identity) || message.to_tag().is_some_and(is_of_tag)
    }

    /// Bytes that are no message: an answer where they can be answered, else a count.
    ///
    /// A Via is enough to answer by. From, To, Call-ID and CSeq are copied as far as they are there (RFC 4475 §3.3.1): the
    /// sender knows its transaction by the branch, and one that sent no Via would not know the answer.
    pub(super) fn on_malformed(&mut self, flow: Flow, bytes: &[u8], index: &Index, error: ParseError, now: Instant) {
        self.counters.malformed_total += 1;
        self.counters.requests_total += u64::from(index.is_request());
        let message = Message::new(bytes, index);
        let is_answerable = index.is_request() && message.count(Header::Via) > 0;
        if !is_answerable || message.method() == Some(Method::Ack) {
            self.counters.malformed_unanswered_total += 1;
            self.counters.dropped_total += u64::from(index.is_request());
            return;
        }
        if self.is_stranger(flow) {
            return self.refuse_stranger(flow, message, now);
        }
        let refused = match (error.kind, message.method()) {
            // RFC 4475 §3.1.2.18: a method nobody here knows is the greater trouble than its not being that of CSeq.
            (ParseErrorKind::CSeqMethod, Some(Method::Other)) => Refused::new(501, "Not Implemented"),
            (kind, _) => Refused::new(kind.status(), kind.reason()),
        };
        self.refuse_stateless(flow, message, refused, &[], now);
    }

    /// A datagram of STUN. Of sources that are no trunk's it is under the same rate as their requests.
    pub(super) fn on_stun(&mut self, flow: Flow, datagram: &[u8], now: Instant) {
        let access = self.config().access;
        let is_stranger = self.is_stranger(flow);
        let is_wanted = access.stun && !(is_stranger && access.unknown_source == UnknownSource::Silent);
        let start = self.outbox.bytes.len();
        if !is_wanted || stun::answer(datagram, flow.peer, &mut self.outbox.bytes).is_err() {
            self.counters.stun_unanswered_total += 1;
        } else if is_stranger && !self.strangers.answers(flow.peer.ip(), now) {
            self.outbox.bytes.truncate(start);
            self.counters.unanswered_rate_total += 1;
        } else {
            self.counters.stun_total += 1;
            self.outbox.send(flow, self.outbox.since(start), None);
        }
    }
}

/// As for a QUIC server towards an address it has not verified (RFC 9000 §8).
const AMPLIFICATION_MAX: usize = 3;

/// Makes a space of each CR and LF in a head that does not end a line: a copy of a malformed value may hold one, and what is
/// one line here must not be two at the next reader. The CRLF before a continuation stays.
fn blank_stray_line_ends(head: &mut [u8]) {
    for at in 0..head.len() {
        let is_stray = match head[at] {
            b'\r' => head.get(at + 1) != Some(&b'\n'),
            b'\n' => at == 0 || head[at - 1] != b'\r',
            _ => false,
        };
        if is_stray {
            head[at] = b' ';
        }
    }
}

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
