//! Who speaks, which way a request goes, and by which socket: trunks, routes, own Routes, flows.

use super::Shard;
use super::names::Lookedup;
use crate::call::CallKey;
use crate::config::{Address, Config, Route, TrunkId, pattern_matches};
use crate::message::uri::Scheme;
use crate::message::{Header, Host, Message, Uri};
use crate::next_hop::{HopHost, NextHop, NoHop};
use crate::timer::Instant;
use crate::transport::{Flow, LocalId, Transport};
use crate::traversal::{PARAMETER, Traversal};
use slotmap::Key;
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};

/// The Routes of ours on top of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnRoutes {
    /// How many values to take off.
    pub count: usize,
    /// What the first authentic token among them says.
    pub traversal: Option<Traversal>,
    /// Values that are not ours follow.
    pub more: bool,
}

/// Why there is no flow to a hop (yet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoFlow {
    /// This name must be looked up first.
    Name(String),
    /// The hop cannot be reached: no address, no socket of its transport, or not a SIP URI.
    Unreachable,
}

impl Shard {
    /// Reads the Routes of ours on top of a request (RFC 3261 §16.4): two of them where our sockets differ by side.
    pub(super) fn own_routes(&self, message: Message<'_>) -> OwnRoutes {
        let mut own = OwnRoutes::default();
        let call_id = message.call_id().unwrap_or_default();
        for value in message.name_addrs(Header::Route) {
            let Ok(value) = value else { break };
            let Ok(uri) = Uri::parse(value.uri) else { break };
            let traversal = self.token_of(&uri, call_id);
            // Two passes of one request may follow each other: each takes off its own.
            let is_of_another = own.traversal.is_some() && traversal.is_some() && own.traversal != traversal;
            if is_of_another || traversal.is_none() && !self.topology.names_us(&uri) {
                own.more = true;
                break;
            }
            own.traversal = own.traversal.or(traversal);
            own.count += 1;
        }
        own
    }

    /// The authentic token in a URI.
    pub(super) fn token_of(&self, uri: &Uri<'_>, call_id: &[u8]) -> Option<Traversal> {
        let token = uri.param(PARAMETER)??;
        let mut traversal = Traversal::read(token, call_id, &self.setup.secret)?;
        let call = self.calls.get(traversal.call);
        if call.is_some_and(|call| call.call_id() != call_id) {
            // It is of another process with this secret, whose table is another.
            traversal.call = CallKey::null();
        }
        Some(traversal)
    }

    /// The first route for a new request of this trunk.
    pub(super) fn route_of<'c>(config: &'c Config, from: TrunkId, message: Message<'_>) -> Option<&'c Route> {
        let uri = Uri::parse(message.request_uri()).ok()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        config.routes.iter().filter(|route| route.from == from).find(|route| {
            let matches = &route.matches;
            matches
                .user
                .as_ref()
                .is_none_or(|pattern| pattern_matches(pattern, &text(uri.user.unwrap_or_default())))
                && matches.host.as_ref().is_none_or(|host| match uri.host {
                    Host::Name(name) => host.as_bytes().eq_ignore_ascii_case(name),
                    Host::Address(ip) => host
                        .trim_matches(['[', ']'])
                        .parse::<IpAddr>()
                        .is_ok_and(|host| host == ip),
                })
                && matches.header.as_ref().is_none_or(|(name, pattern)| {
                    let mut values = values_named(message, name).into_iter();
                    values.any(|value| pattern_matches(pattern, &text(value)))
                })
        })
    }

    /// The flow to one of a trunk's addresses. Without a transport of its own it is `arrived`'s.
    pub(super) fn flow_to_address(
        &self,
        trunk: TrunkId,
        address: &Address,
        arrived: Transport,
        now: Instant,
    ) -> Result<Flow, NoFlow> {
        let transport = address.transport.unwrap_or(arrived);
        let ip = match address.host.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) => self.address_of(
                &address.host,
                |ip| self.topology.bind_of(trunk, transport, ip, None).is_some(),
                now,
            )?,
        };
        let bind = self
            .topology
            .bind_of(trunk, transport, ip, None)
            .ok_or(NoFlow::Unreachable)?;
        Ok(Flow {
            bind,
            transport,
            local: LocalId::ANY,
            peer: SocketAddr::new(ip, address.port),
            connection: None,
        })
    }

    /// The flow to the hop that a Route or a Request-URI names, on the side of `trunk`. `last`: where the party behind it was
    /// last heard from, if no other hop lies between; its stream is used again, and its transport where the URI leaves it open.
    pub(super) fn flow_to_uri(
        &self,
        uri: &[u8],
        trunk: TrunkId,
        last: Option<Flow>,
        now: Instant,
    ) -> Result<Flow, NoFlow> {
        if let Some(flow) = self.flow_to_itself(uri) {
            return Ok(flow);
        }
        let hop = NextHop::of_uri(uri).map_err(|_: NoHop| NoFlow::Unreachable)?;
        let transport = hop
            .transport
            .or(last.map(|flow| flow.transport))
            .unwrap_or(Transport::Udp);
        let preferred = last.map(|flow| flow.bind);
        let ip = match hop.host {
            HopHost::Address(ip) => ip,
            HopHost::Name(name) => self.address_of(
                &name,
                |ip| self.topology.bind_of(trunk, transport, ip, preferred).is_some(),
                now,
            )?,
        };
        let connection = last
            .filter(|flow| flow.transport == transport)
            .and_then(|flow| flow.connection);
        let bind = self
            .topology
            .bind_of(trunk, transport, ip, preferred)
            .ok_or(NoFlow::Unreachable)?;
        Ok(Flow {
            bind,
            transport,
            // From the address that its packets come to: what is between may let nothing else through.
            local: last
                .filter(|flow| flow.bind == bind && flow.peer.ip().to_canonical() == ip.to_canonical())
                .map_or(LocalId::ANY, |flow| flow.local),
            peer: SocketAddr::new(ip, hop.port),
            connection,
        })
    }

    /// Another pass of a request is the next hop: its Route has a token of ours, be it one for another Call-ID.
    fn flow_to_itself(&self, uri: &[u8]) -> Option<Flow> {
        if !super::restored::ends_with_token(uri) {
            return None;
        }
        self.topology.to_itself(&Uri::parse(uri).ok()?)
    }

    fn address_of(&self, name: &str, fits: impl Fn(IpAddr) -> bool, now: Instant) -> Result<IpAddr, NoFlow> {
        match self.names.get(name, fits, now) {
            Lookedup::Address(ip) => Ok(ip),
            Lookedup::Nowhere => Err(NoFlow::Unreachable),
            Lookedup::Unknown => Err(NoFlow::Name(name.into())),
        }
    }
}

/// The Request-URI for a call that was addressed to us and goes on to `flow`: its user and parameters at the new host.
pub(super) fn retarget(uri: &Uri<'_>, flow: Flow, host: &str) -> Vec<u8> {
    debug_assert!(matches!(uri.scheme, Scheme::Sip));
    let mut text = b"sip:".to_vec();
    if let Some(user) = uri.user {
        text.extend_from_slice(user);
        text.push(b'@');
    }
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => text.extend_from_slice(format!("[{ip}]").as_bytes()),
        _ => text.extend_from_slice(host.as_bytes()),
    }
    text.extend_from_slice(format!(":{}", flow.peer.port()).as_bytes());
    for (name, value) in uri.params() {
        // The way to us is none to there; `method` stands in no Request-URI (RFC 3261 §19.1.1).
        let is_dropped = |dropped: &[u8]| name.eq_ignore_ascii_case(dropped);
        if is_dropped(b"transport") || is_dropped(b"maddr") || is_dropped(b"method") {
            continue;
        }
        text.push(b';');
        text.extend_from_slice(name);
        if let Some(value) = value {
            text.push(b'=');
            text.extend_from_slice(value);
        }
    }
    if flow.transport != Transport::Udp {
        text.extend_from_slice(b";transport=");
        text.extend_from_slice(flow.transport.uri_value().as_bytes());
    }
    text
}

/// The values of all header lines of this name.
pub(super) fn values_named<'m>(message: Message<'m>, name: &str) -> SmallVec<[&'m [u8]; 2]> {
    match Header::from_name(name.as_bytes()) {
        Header::Other => message.lines_named(name).map(|line| line.value).collect(),
        known => message.lines_of(known).map(|line| line.value).collect(),
    }
}
