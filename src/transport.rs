//! Flows: where a message came from and where one goes (RFC 3261 §18).

use std::fmt;
use std::net::SocketAddr;

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

/// Where a message came from, or where one goes.
///
/// As a destination: over UDP, a datagram to `peer` from the socket of `bind`. Over TCP, on `connection` if it is named and
/// still open; otherwise on an open connection from `bind` to `peer`; otherwise on a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub bind: BindId,
    pub transport: Transport,
    pub peer: SocketAddr,
    pub connection: Option<ConnectionId>,
}
