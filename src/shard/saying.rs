//! Requests of our own within a call as they are written and sent: to a party, in the name of the other one.

use super::relay::strict_way_to;
use super::route::NoFlow;
use super::uas::SUPPORTED;
use super::{ClientOwner, Shard};
use crate::call::{Call, CallKey, Party, Trait};
use crate::digest;
use crate::message::Method;
use crate::message::edit::{Injection, RequestWriter, decimal};
use crate::message::uri::request_uri;
use crate::message::value::lists_token;
use crate::sequence::ROOM;
use crate::timer::Instant;
use crate::transaction::{Branch, ClientKey};
use crate::transport::{Flow, Transport};
use smallvec::SmallVec;
use std::ops::Range;

/// Why a request of ours cannot be sent.
pub(super) enum Unsent {
    Wait(String),
    /// Its next hop cannot be reached.
    Unreachable,
    Never,
}

/// What a request of ours says besides what its dialog says.
#[derive(Clone, Copy)]
pub(super) struct Saying<'a> {
    pub method: Method,
    /// The method as it is written.
    pub token: &'a str,
    /// Further header lines.
    pub lines: &'a [(&'a str, &'a [u8])],
    /// Without one a body has its type among the lines.
    pub content_type: Option<&'a str>,
    pub body: &'a [u8],
}

impl<'a> Saying<'a> {
    /// A request without a body.
    pub fn of(method: Method, lines: &'a [(&'a str, &'a [u8])]) -> Saying<'a> {
        Saying {
            method,
            token: method.token(),
            lines,
            content_type: None,
            body: b"",
        }
    }
}

impl From<NoFlow> for Unsent {
    fn from(no_flow: NoFlow) -> Unsent {
        match no_flow {
            NoFlow::Name(name) => Unsent::Wait(name),
            NoFlow::Unreachable => Unsent::Unreachable,
        }
    }
}

/// A request of ours to a party, in the other one's name.
struct Own<'a> {
    saying: &'a Saying<'a>,
    number: u32,
    flow: Flow,
    sent_by: &'a [u8],
    branch: &'a [u8],
}

/// The lines that every request of ours begins with: Via (RFC 3581 for `rport`) and Max-Forwards.
pub(super) fn begin<'w, 'o>(
    writer: &'w mut RequestWriter<'o>,
    transport: Transport,
    sent_by: &[u8],
    branch: &[u8],
) -> &'w mut RequestWriter<'o> {
    let transport = transport.via_token().as_bytes();
    let via: [&[u8]; 7] = [b"SIP/2.0/", transport, b" ", sent_by, b";branch=", branch, b";rport"];
    writer.header("Via", &via).header("Max-Forwards", &[b"70"])
}

impl Own<'_> {
    fn write(&self, call: &Call, party: Party, out: &mut Vec<u8>) -> Result<Range<usize>, Injection> {
        let speaker = party.other();
        let Saying { method, token, .. } = *self.saying;
        let target = request_uri(call.target(party));
        // RFC 3261 §12.2.1.1: a strict router gets its own URI, and the target last.
        let strict = strict_way_to(call, party);
        let (request_uri, routes) = match &strict {
            Some(way) => (&way.request_uri[..], &way.routes[..]),
            None => (&target[..], call.get(party, Trait::Routes)),
        };
        let mut writer = RequestWriter::new(out, token, request_uri);
        begin(&mut writer, self.flow.transport, self.sent_by, self.branch);
        if !routes.is_empty() {
            writer.copied("Route", routes);
        }
        writer
            .copied("From", call.get(speaker, Trait::Identity))
            .copied("To", call.get(party, Trait::Identity))
            .header("Call-ID", &[call.call_id()])
            .header("CSeq", &[decimal(self.number).as_bytes(), b" ", token.as_bytes()]);
        if matches!(method, Method::Refer | Method::Invite | Method::Update | Method::Notify) {
            // It refreshes the target: the Contact is the one the party knows, or its next request would come to us.
            match call.get(speaker, Trait::Contact) {
                [] => writer.header("Contact", &[b"<sip:", self.sent_by, b">"]),
                contact => writer.copied("Contact", contact),
            };
            match call.get(speaker, Trait::Allow) {
                [] => writer.header("Allow", &[b"INVITE, ACK, CANCEL, BYE, NOTIFY"]),
                allow if lists_token(allow, "NOTIFY") => writer.copied("Allow", allow),
                allow => writer.copied("Allow", &[allow, b", NOTIFY"].concat()),
            };
        }
        // RFC 4028 §7.1: in every request but ACK.
        let mut supported = (call.application.is_some() && method != Method::Ack).then_some(SUPPORTED.as_bytes());
        for (name, value) in self.saying.lines {
            match supported.take_if(|_| *name == "Supported") {
                Some(ours) => writer.header(name, &[ours, b", ", value]),
                None => writer.header(name, &[value]),
            };
        }
        if let Some(ours) = supported {
            writer.header("Supported", &[ours]);
        }
        writer.finish(self.saying.content_type, self.saying.body)
    }
}

impl Shard {
    /// Writes and sends a request without a body to `party`, as the other one, and gives back its CSeq number.
    pub(super) fn send_own(
        &mut self,
        key: CallKey,
        party: Party,
        method: Method,
        owner: ClientOwner,
        lines: &[(&str, &[u8])],
        now: Instant,
    ) -> Result<u32, Unsent> {
        let saying = Saying::of(method, lines);
        self.send_saying(key, party, &saying, owner, now)
            .map(|(number, _)| number)
    }

    /// The ACK for a 2xx of `party`, to the INVITE of ours with this number: without a transaction (RFC 3261 §13.2.2.4).
    pub(super) fn send_ack(&mut self, key: CallKey, party: Party, number: u32, now: Instant) {
        let Some(call) = self.calls.get(key) else { return };
        // It waits for no name: where the party was last heard from its ACK is taken too.
        let flow = self.flow_of(call, party, now).unwrap_or(call.flow(party));
        let random = self.setup.secret.mac(b'k', &[call.call_id(), &number.to_be_bytes()]);
        let branch = Branch::without_transaction(random);
        // RFC 3261 §13.2.2.4: with the credentials of the INVITE.
        let credentials = call.direction(party.other()).sessions.as_ref();
        let credentials = credentials.map_or(&b""[..], |sessions| sessions.for_ack(number));
        let lines: SmallVec<[(&str, &[u8]); 1]> = digest::values_of(credentials).collect();
        let request = Own {
            saying: &Saying::of(Method::Ack, &lines),
            number,
            flow,
            sent_by: self.topology.sent_by(flow.bind),
            branch: branch.as_bytes(),
        };
        let start = self.outbox.bytes.len();
        if request.write(call, party, &mut self.outbox.bytes).is_ok() {
            self.outbox.send(flow, self.outbox.since(start), None);
        }
    }

    /// By what flow requests of ours reach a party.
    fn flow_of(&self, call: &Call, party: Party, now: Instant) -> Result<Flow, NoFlow> {
        let routes = call.get(party, Trait::Routes);
        let hop = match crate::message::NameAddr::first_of(routes) {
            Ok(route) if !routes.is_empty() => route.uri,
            _ => call.target(party),
        };
        let last = routes.is_empty().then(|| call.flow(party));
        self.flow_to_uri(hop, call.trunk(party), last, now)
    }

    /// Writes and sends a request to `party`, as the other one, and gives back its CSeq number and its transaction.
    pub(super) fn send_saying(
        &mut self,
        key: CallKey,
        party: Party,
        saying: &Saying<'_>,
        owner: ClientOwner,
        now: Instant,
    ) -> Result<(u32, ClientKey), Unsent> {
        let Some(call) = self.calls.get(key) else {
            return Err(Unsent::Never);
        };
        let speaker = party.other();
        let flow = self.flow_of(call, party, now)?;
        let credentials = self.credentials_of_own(key, party, saying);
        let values = credentials.iter().map(|(name, value)| (*name, &value[..]));
        let lines: SmallVec<[(&str, &[u8]); 8]> = saying.lines.iter().copied().chain(values.clone()).collect();
        let saying = &Saying {
            lines: &lines,
            ..*saying
        };
        let Some(call) = self.calls.get_mut(key) else {
            return Err(Unsent::Never);
        };
        let is_ours = call.application.is_some();
        let numbers = call.sequence_mut(speaker);
        let number = match is_ours {
            true => numbers.take(),
            false => numbers.insert(room_behind(saying.method)),
        };
        let Some(number) = number else {
            return Err(Unsent::Never);
        };
        if let (Method::Invite, Some(sessions)) = (saying.method, &mut call.direction_mut(speaker).sessions) {
            sessions.keep_for_ack(number, &digest::lines_of(values));
        }
        let (client, branch) = self
            .transactions
            .open_client(saying.method, flow, owner, None, &mut self.random);
        let start = self.outbox.bytes.len();
        let write = |shard: &mut Shard, flow: Flow| {
            let request = Own {
                saying,
                number,
                flow,
                sent_by: shard.topology.sent_by(flow.bind),
                branch: branch.as_bytes(),
            };
            request.write(&shard.calls[key], party, &mut shard.outbox.bytes)
        };
        match write(self, flow) {
            Ok(_) => {
                if let Some(stream) = self.flow_for_size(start, flow, now) {
                    self.outbox.bytes.truncate(start);
                    let written = write(self, stream);
                    debug_assert!(written.is_ok(), "it was written before");
                    self.lead_by_stream(client, stream);
                }
                let bytes = self.outbox.since(start);
                self.transactions
                    .start(client, bytes, &mut self.outbox, &mut self.timers, now);
                Ok((number, client))
            }
            Err(_) => {
                // The number stays taken: a gap in CSeq is allowed, a number used twice is not.
                self.transactions.drop_client(client);
                Err(Unsent::Never)
            }
        }
    }

    /// The REFER that [`Shard::send_refer`] would send now; nothing is taken or sent.
    pub(super) fn preview_refer(&self, key: CallKey, party: Party, lines: &[(&str, &[u8])]) -> Option<Vec<u8>> {
        let call = self.calls.get(key)?;
        if self.refers_outside(call, party) {
            return self.preview_outside(call, party, lines);
        }
        let mut sequence = call.sequence(party.other()).clone();
        let number = match call.application {
            Some(_) => sequence.take()?,
            None => sequence.insert(ROOM)?,
        };
        let flow = call.flow(party);
        let sent_by = self.topology.sent_by(flow.bind);
        let request = Own {
            saying: &Saying::of(Method::Refer, lines),
            number,
            flow,
            sent_by,
            branch: b"z9hG4bKdry-run",
        };
        let mut out = Vec::new();
        request.write(call, party, &mut out).ok()?;
        Some(out)
    }
}

/// CSeq numbers that a request of ours leaves to others.
pub(super) fn room_behind(method: Method) -> u32 {
    if method == Method::Bye { 0 } else { ROOM }
}
