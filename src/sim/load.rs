//! A shard that takes time for what it does: datagrams wait for it in the order they came.

use crate::timer::Instant;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// How long one datagram takes, by what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// It is relayed, or opens a call.
    pub relayed: Duration,
    /// It is answered here without more ado, or dropped.
    pub other: Duration,
}

/// What has arrived and is not handled yet.
#[derive(Debug, Default)]
pub struct Backlog {
    waiting: VecDeque<Waiting>,
    free_at: Instant,
}

/// A datagram that waits.
#[derive(Debug)]
pub struct Waiting {
    pub arrived: Instant,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Backlog {
    /// One more waits; gives back when it must be looked at, unless something else waits already.
    pub fn push(&mut self, waiting: Waiting) -> Option<Instant> {
        let at = self.free_at.max(waiting.arrived);
        self.waiting.push_back(waiting);
        (self.waiting.len() == 1).then_some(at)
    }

    /// The one whose turn it is.
    pub fn first(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    /// The one before took so long; gives back when the next must be looked at, if one waits.
    pub fn took(&mut self, time: Duration, now: Instant) -> Option<Instant> {
        self.free_at = now + time;
        (!self.waiting.is_empty()).then_some(self.free_at)
    }
}
