//! Client transactions (RFC 3261 §17.1 with RFC 6026): how one moves, without saying how bytes are sent.
//!
//! ```text
//!  INVITE (figure 5, RFC 6026 figure 6)            others (figure 6)
//!
//!  Calling ──1xx──► Proceeding                     Trying ──1xx──► Proceeding
//!   │A resend         │                             │E resend        │E resend (T2)
//!   │B timeout        ├─2xx─► Accepted ──M──► end   │F timeout       │F timeout
//!   ├─2xx─► Accepted  │        every 2xx goes up    └────final───► Completed ──K──► end
//!   └─300+► Completed ◄─300+   (ACK is the user's)                  repeats absorbed
//!            │D end
//!            repeats are ACKed again, not passed up
//! ```
//!
//! Timers A and E do not run on reliable transports; D and K are zero there.

use crate::coverage::Arrow;
use crate::message::{CSeq, Method};
use crate::transport::Flow;
use std::time::Duration;

/// States by the RFC's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    Calling,
    Trying,
    Proceeding,
    Completed,
    Accepted,
}

impl ClientState {
    fn as_str(self) -> &'static str {
        match self {
            ClientState::Calling => "Calling",
            ClientState::Trying => "Trying",
            ClientState::Proceeding => "Proceeding",
            ClientState::Completed => "Completed",
            ClientState::Accepted => "Accepted",
        }
    }
}

/// One client transaction. `O` is whatever the layer above wants to find again.
#[derive(Debug)]
pub struct Client<O> {
    pub method: Method,
    pub state: ClientState,
    /// Where the request went; retransmissions, CANCEL and ACK go to the same place (RFC 3263 §4).
    pub flow: Flow,
    /// It left by TCP for its size alone: where it goes if TCP is refused (RFC 3261 §18.1.1).
    pub(super) fallback: Option<Flow>,
    pub owner: O,
    /// The random part of the branch: a response that does not carry it is not ours.
    pub(super) random: u64,
    /// The rest of the branch, if there is one.
    pub(super) loop_digest: Option<u32>,
    /// The request as sent; after a non-2xx final response to an INVITE, the ACK.
    pub(super) request: Vec<u8>,
    /// The wait before the next retransmission (timers A and E).
    pub(super) interval: Duration,
    /// The request has been sent more than once.
    pub(super) is_resent: bool,
    /// It is not to be sent any more.
    pub is_quiet: bool,
    /// How often it was sent before by other transactions, and challenged.
    pub attempt: u8,
    /// The CANCEL's own transaction, which shares this one's branch (RFC 3261 §9.1).
    pub(super) cancel: Option<super::ClientKey>,
}

/// What a response does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnResponse {
    /// A repeat, or nothing that matters in this state.
    Absorb,
    /// To the user; the state moved or stayed.
    Deliver,
    /// To the user, and ACK it (300 to 699 to an INVITE).
    DeliverAndAck,
    /// A repeat of what was ACKed: ACK again.
    AckAgain,
}

impl<O> Client<O> {
    /// Where the next hop is to be had for requests of usual size.
    pub fn hop(&self) -> Flow {
        self.fallback.unwrap_or(self.flow)
    }

    pub(super) fn is_invite(&self) -> bool {
        self.method == Method::Invite
    }

    /// Whether a response with this CSeq is one to the request, by its method (RFC 3261 §17.1.3).
    pub(super) fn answers(&self, cseq: &CSeq<'_>) -> bool {
        self.method == cseq.method
            && (self.method != Method::Other
                || self
                    .request
                    .strip_prefix(cseq.token)
                    .is_some_and(|rest| rest.starts_with(b" ")))
    }

    pub(super) fn on_response(&mut self, code: u16) -> OnResponse {
        use ClientState::*;
        match (self.state, code) {
            (Calling | Trying | Proceeding, 100..=199) => {
                self.state = Proceeding;
                OnResponse::Deliver
            }
            (Calling | Trying | Proceeding, 200..=299) if self.is_invite() => {
                self.state = Accepted;
                OnResponse::Deliver
            }
            (Calling | Trying | Proceeding, _) => {
                self.state = Completed;
                if self.is_invite() {
                    OnResponse::DeliverAndAck
                } else {
                    OnResponse::Deliver
                }
            }
            // RFC 6026 §7.2: every further 2xx goes up, those of other forks too.
            (Accepted, 200..=299) => OnResponse::Deliver,
            (Accepted, _) => OnResponse::Absorb,
            (Completed, 300..=699) if self.is_invite() => OnResponse::AckAgain,
            (Completed, _) => OnResponse::Absorb,
        }
    }

    /// An arrow of the drawing above; `to` none: the transaction ends.
    pub(super) fn arrow(&self, from: ClientState, on: &'static str, to: Option<ClientState>) -> Arrow {
        Arrow {
            machine: if self.is_invite() {
                "INVITE client"
            } else {
                "non-INVITE client"
            },
            from: from.as_str(),
            on,
            to: to.map_or("Terminated", ClientState::as_str),
        }
    }

    /// Whether the request is still to be answered.
    pub fn is_waiting(&self) -> bool {
        matches!(
            self.state,
            ClientState::Calling | ClientState::Trying | ClientState::Proceeding
        )
    }
}
