//! Flows: where a message came from and where one goes (RFC 3261 §18).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::OnceLock;

/// A transport protocol, as Via and URIs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// The token in a Via: `UDP`, `TCP`.
    pub fn via_token(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        }
    }

    /// The value of a URI's `transport` parameter: `udp`, `tcp`.
    pub fn uri_value(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }

    /// From either spelling, without regard to case.
    pub fn from_token(token: &[u8]) -> Option<Transport> {
        if token.eq_ignore_ascii_case(b"udp") {
            Some(Transport::Udp)
        } else if token.eq_ignore_ascii_case(b"tcp") {
            Some(Transport::Tcp)
        } else {
            None
        }
    }

    /// Whether the transport itself retransmits, so that timers A, E and G do not run (RFC 3261 §17).
    pub fn is_reliable(self) -> bool {
        self == Transport::Tcp
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri_value())
    }
}

/// Who an address speaks for where sources are counted: itself, and in IPv6 its /64, for whoever has one address there has all.
pub fn source_of(ip: IpAddr) -> [u8; 16] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => {
            let mut octets = ip.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

/// One bound socket address with its transport: an index into [`crate::config::Config::binds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BindId(pub u8);

/// A stream connection. It names the worker that owns its socket; a stale one never names another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub worker: u16,
    pub slot: u32,
    pub generation: u32,
}

/// An address of this host, of those that datagrams have come to where a socket is bound to all of them: a place in [`Locals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalId(u8);

impl LocalId {
    /// Whichever the kernel takes; where a socket is bound to one address, that.
    pub const ANY: LocalId = LocalId(u8::MAX);
}

/// The addresses of this host that messages have come to where a socket is bound to all of them. None is ever taken out, and only
/// the host's own come in, so that they are few; those beyond [`LOCALS_MAX`] have no place.
#[derive(Debug)]
pub struct Locals([OnceLock<IpAddr>; LOCALS_MAX]);

pub const LOCALS_MAX: usize = 64;

impl Default for Locals {
    fn default() -> Locals {
        Locals([const { OnceLock::new() }; LOCALS_MAX])
    }
}

impl Locals {
    /// The place of an address, which is new if need be.
    pub fn id_of(&self, ip: IpAddr) -> LocalId {
        let place = self.0.iter().position(|known| *known.get_or_init(|| ip) == ip);
        place.map_or(LocalId::ANY, |place| LocalId(place as u8))
    }

    pub fn get(&self, id: LocalId) -> Option<IpAddr> {
        self.0.get(usize::from(id.0))?.get().copied()
    }

    pub fn has(&self, ip: IpAddr) -> bool {
        self.0.iter().map_while(OnceLock::get).any(|known| *known == ip)
    }
}

/// Where a message came from, or where one goes.
///
/// As a destination: over UDP, a datagram to `peer` from the socket of `bind`, from its address `local`. Over TCP, on `connection` if it is named and
/// still open; otherwise on an open connection from `bind` to `peer`; otherwise on a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub bind: BindId,
    pub transport: Transport,
    pub local: LocalId,
    pub peer: SocketAddr,
    pub connection: Option<ConnectionId>,
}

/// Where the bytes of a send lie in the out-buffer.
pub type OutRange = Range<u32>;

/// Names the client transaction that waits for a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// One message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    pub flow: Flow,
    pub bytes: OutRange,
    /// A failure is reported with it.
    pub ticket: Option<Ticket>,
}

/// The out-buffer of a batch and the sends that point into it. Messages are written straight into it.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Written to at its end; ranges taken earlier stay valid until [`Outbox::clear`].
    pub bytes: Vec<u8>,
    sends: std::collections::VecDeque<Send>,
}

impl Outbox {
    /// The range from `start` to the end of what is written.
    pub fn since(&self, start: usize) -> OutRange {
        start as u32..self.bytes.len() as u32
    }

    pub fn get(&self, range: &OutRange) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// Sends bytes already written.
    pub fn send(&mut self, flow: Flow, bytes: OutRange, ticket: Option<Ticket>) {
        debug_assert!(bytes.start < bytes.end && bytes.end as usize <= self.bytes.len());
        self.sends.push_back(Send { flow, bytes, ticket });
    }

    /// Copies bytes in and sends them: retransmissions.
    pub fn send_copy(&mut self, flow: Flow, bytes: &[u8], ticket: Option<Ticket>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.send(flow, self.since(start), ticket);
    }

    /// How many sends wait to be polled: a mark for [`Outbox::sends_since`].
    pub fn waiting(&self) -> usize {
        self.sends.len()
    }

    /// The sends made since `mark`; none of those before was polled meanwhile.
    pub fn sends_since(&self, mark: usize) -> impl Iterator<Item = &Send> {
        self.sends.iter().skip(mark)
    }

    pub fn poll(&mut self) -> Option<Send> {
        self.sends.pop_front()
    }

    /// Forgets the bytes. All sends must have been polled.
    pub fn clear(&mut self) {
        debug_assert!(self.sends.is_empty(), "sends left in the outbox");
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_host_keeps_its_place_and_those_without_one_are_any() {
        let locals = Locals::default();
        let ip = |last: usize| IpAddr::from([192, 0, 2, last as u8]);
        assert!(!locals.has(ip(0)) && locals.get(LocalId::ANY).is_none());
        let ids: Vec<LocalId> = (0..LOCALS_MAX).map(|last| locals.id_of(ip(last))).collect();
        for (last, id) in ids.into_iter().enumerate() {
            assert_eq!((locals.id_of(ip(last)), locals.get(id)), (id, Some(ip(last))));
            assert!(locals.has(ip(last)));
        }
        assert_eq!(locals.id_of(ip(LOCALS_MAX)), LocalId::ANY);
        assert!(!locals.has(ip(LOCALS_MAX)));
    }

    #[test]
    fn whoever_comes_first_all_know_the_same_places() {
        let locals = Locals::default();
        let seen: Vec<Vec<LocalId>> = std::thread::scope(|scope| {
            let locals = &locals;
            let look = |first: u8| move || (0..8).map(|i| locals_id(locals, (first + i) % 8)).collect();
            let threads: Vec<_> = (0..8).map(|first| scope.spawn(look(first))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (first, ids) in seen.into_iter().enumerate() {
            for (i, id) in ids.into_iter().enumerate() {
                let ip = IpAddr::from([192, 0, 2, ((first + i) % 8) as u8]);
                assert_eq!((locals.get(id), locals.id_of(ip)), (Some(ip), id));
            }
        }
    }

    fn locals_id(locals: &Locals, last: u8) -> LocalId {
        locals.id_of(IpAddr::from([192, 0, 2, last]))
    }
}
