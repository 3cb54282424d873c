//! Transactions: which message belongs to which (RFC 3261 §17.1.3, §17.2.3), retransmission, and their ends.
//!
//! The layer above writes messages into the outbox and hands their range over; this layer sends, keeps what must be sent
//! again, and tells what came of it. A client transaction's branch carries its own key, so a response finds it without a
//! search; a server transaction is found by a keyed 128-bit hash over branch, sent-by and method.

#[cfg(feature = "sim")]
mod audit;
mod branch;
pub mod client;
mod clients;
pub mod server;
mod servers;

pub use branch::Branch;

use crate::buffer::Buffers;
use crate::config::SipTimers;
use crate::coverage::Coverage;
use crate::message::Index;
use crate::timer::{Instant, Timers};
use crate::transport::Outbox;
use client::Client;
use hashbrown::HashMap;
use server::Server;
use slotmap::{SlotMap, new_key_type};
use std::time::Duration;

new_key_type! {
    /// A server transaction; a stale key finds nothing.
    pub struct ServerKey;
    /// A client transaction; a stale key finds nothing.
    pub struct ClientKey;
}

/// The timers of RFC 3261 §17 and RFC 6026, by their letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Letter {
    /// INVITE client: resend.
    A,
    /// INVITE client: give up.
    B,
    /// INVITE client: absorb repeated finals.
    D,
    /// Non-INVITE client: resend. Non-INVITE server: the client's has reached T2, so that a 100 is due.
    E,
    /// Non-INVITE client: give up.
    F,
    /// INVITE server: resend the final response.
    G,
    /// INVITE server: no ACK came.
    H,
    /// INVITE server: absorb repeated ACKs.
    I,
    /// Non-INVITE server: answer repeats.
    J,
    /// Non-INVITE client: absorb repeated finals.
    K,
    /// INVITE server after a 2xx: absorb repeated INVITEs.
    L,
    /// INVITE client after a 2xx: take further ones.
    M,
}

impl Letter {
    fn as_str(self) -> &'static str {
        match self {
            Letter::A => "Timer A",
            Letter::B => "Timer B",
            Letter::D => "Timer D",
            Letter::E => "Timer E",
            Letter::F => "Timer F",
            Letter::G => "Timer G",
            Letter::H => "Timer H",
            Letter::I => "Timer I",
            Letter::J => "Timer J",
            Letter::K => "Timer K",
            Letter::L => "Timer L",
            Letter::M => "Timer M",
        }
    }
}

/// A transaction's deadline, as the timers carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deadline {
    Server(ServerKey, Letter),
    Client(ClientKey, Letter),
}

/// What a timer or a failed send came to, for the layer above.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<S, C> {
    /// Timer B or F: no final response came. The transaction is gone.
    ClientTimeout(C),
    /// The request could not be sent. The transaction is gone.
    ClientTransportFailed(C),
    /// Timer H: no ACK came for the non-2xx final response (RFC 3261 §17.2.1). The transaction is gone; what it was known by.
    ServerTimeout(S, u128),
    /// The transaction did its duty and is gone.
    Client(C),
    Server(S),
    /// Nothing has ended: a non-INVITE has had no response for so long that it is to get a 100 (RFC 4320 §4.1).
    TryingIsDue(ServerKey),
}

/// A response that found its client transaction and must be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    pub client: ClientKey,
    pub code: u16,
}

/// All transactions of one shard.
#[derive(Debug)]
pub struct Transactions<S, C> {
    servers: SlotMap<ServerKey, Server<S>>,
    clients: SlotMap<ClientKey, Client<C>>,
    by_identity: HashMap<u128, ServerKey, foldhash::fast::FixedState>,
    buffers: Buffers,
    /// For requests of ours that are read again.
    scratch: Box<Index>,
    /// The request that was answered last with 401 or 407; else empty.
    challenged: Vec<u8>,
    coverage: Coverage,
    hash_key: [u8; 16],
    t1: Duration,
    t2: Duration,
    t4: Duration,
}

impl<S: Copy, C: Copy> Transactions<S, C> {
    pub fn new(timers: SipTimers, hash_key: [u8; 16]) -> Transactions<S, C> {
        Transactions {
            servers: SlotMap::with_key(),
            clients: SlotMap::with_key(),
            by_identity: HashMap::with_hasher(foldhash::fast::FixedState::default()),
            buffers: Buffers::default(),
            scratch: Box::default(),
            challenged: Vec::new(),
            coverage: Coverage::default(),
            hash_key,
            t1: timers.t1,
            t2: timers.t2,
            t4: timers.t4,
        }
    }

    /// Live transactions.
    pub fn len(&self) -> usize {
        self.servers.len() + self.clients.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The arrows that transactions have taken.
    #[cfg(feature = "sim")]
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// A timer of a transaction fired. `None`: nothing for the layer above.
    pub fn on_deadline<K: From<Deadline>>(
        &mut self,
        deadline: Deadline,
        outbox: &mut Outbox,
        timers: &mut Timers<K>,
        now: Instant,
    ) -> Option<Ended<S, C>> {
        match deadline {
            Deadline::Client(key, letter) => self.on_client_deadline(key, letter, outbox, timers, now),
            Deadline::Server(key, letter) => self.on_server_deadline(key, letter, outbox, timers, now),
        }
    }
}

/// Whether a response asks for credentials (RFC 3261 §22).
pub fn is_challenge(code: u16) -> bool {
    matches!(code, 401 | 407)
}

/// A response as the figures of RFC 3261 §17 name it.
fn class_of(code: u16, is_invite: bool) -> &'static str {
    match code {
        100..=199 => "1xx",
        _ if !is_invite => "200-699",
        200..=299 => "2xx",
        _ => "300-699",
    }
}
