//! Server transactions (RFC 3261 §17.2 with RFC 6026): how one moves, without saying how bytes are sent.
//!
//! ```text
//!  INVITE (figure 7, RFC 6026 figure 7)             others (figure 8)
//!
//!  Proceeding ──2xx──► Accepted ──L──► end          Trying ──1xx──► Proceeding
//!   │ repeat: last       repeats absorbed,           │ repeats          │ repeat: last
//!   │ provisional        ACK goes up                 │ absorbed         │ provisional again
//!   └─300+─► Completed ──ACK──► Confirmed ──I─► end  └──final──► Completed ──J──► end
//!             │G resend          ACKs absorbed                    repeat: final again
//!             │H no ACK: end
//! ```
//!
//! An INVITE starts in Proceeding: a proxy answers 100 at once. Timer G does not run on reliable transports; I and J are
//! zero there. A failed send does not end a server transaction (RFC 6026 §7.1). Where no final response comes, none is made up
//! (RFC 4320 §4.2): Completed with the 100 it has, until what its sender has repeated is here, T4.

use crate::coverage::Arrow;
use crate::message::Method;
use crate::transport::Flow;
use std::net::SocketAddr;
use std::time::Duration;

/// States by the RFC's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    Trying,
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
}

impl ServerState {
    fn as_str(self) -> &'static str {
        match self {
            ServerState::Trying => "Trying",
            ServerState::Proceeding => "Proceeding",
            ServerState::Completed => "Completed",
            ServerState::Confirmed => "Confirmed",
            ServerState::Accepted => "Accepted",
        }
    }
}

/// One server transaction. `O` is whatever the layer above wants to find again.
#[derive(Debug)]
pub struct Server<O> {
    pub method: Method,
    pub state: ServerState,
    /// Where responses go (RFC 3261 §18.2.2).
    pub reply_to: Flow,
    /// The port the request came from: over a stream responses go by the connection, and if it is gone to another port.
    pub source_port: u16,
    pub owner: O,
    pub(super) identity: u128,
    /// The request, kept while a response of our own may have to be made from it.
    pub(super) request: Vec<u8>,
    /// The last response, kept while a repeat of the request asks for it.
    pub(super) response: Vec<u8>,
    /// The wait before the next retransmission (timer G).
    pub(super) interval: Duration,
}

impl<O> Server<O> {
    /// Where the request came from, as its responses tell it (RFC 3581 §4).
    pub fn source(&self) -> SocketAddr {
        SocketAddr::new(self.reply_to.peer.ip(), self.source_port)
    }

    pub(super) fn is_invite(&self) -> bool {
        self.method == Method::Invite
    }

    /// An arrow of the drawing above; `to` none: the transaction ends.
    pub(super) fn arrow(&self, from: ServerState, on: &'static str, to: Option<ServerState>) -> Arrow {
        Arrow {
            machine: if self.is_invite() {
                "INVITE server"
            } else {
                "non-INVITE server"
            },
            from: from.as_str(),
            on,
            to: to.map_or("Terminated", ServerState::as_str),
        }
    }

    /// Whether a response with this code may still be sent.
    pub fn may_send(&self, code: u16) -> bool {
        match self.state {
            ServerState::Trying | ServerState::Proceeding => true,
            // RFC 6026 §7.1: further 2xx, from the same or another UAS, pass through.
            ServerState::Accepted => (200..=299).contains(&code),
            // RFC 3261 §17.2.2: a second final response is discarded.
            ServerState::Completed | ServerState::Confirmed => false,
        }
    }

    /// Whether no final response has been sent.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, ServerState::Trying | ServerState::Proceeding)
    }

    /// Moves on as a response with this code is sent.
    pub(super) fn on_send(&mut self, code: u16) {
        debug_assert!(self.may_send(code));
        self.state = match code {
            100..=199 => ServerState::Proceeding,
            200..=299 if self.is_invite() => ServerState::Accepted,
            _ => ServerState::Completed,
        };
    }
}
