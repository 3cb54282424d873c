//! One connection: its state, what came and is no whole message yet, what is to be written, and when its time is up.

use crate::config::Limits;
use crate::io::counters::Counters;
use crate::message::framing::Framer;
use crate::rate::{Bucket, Rate};
use crate::shard::Ticket;
use crate::timer::Instant;
use crate::transport::{BindId, ConnectionId, Flow, LocalId, Transport};
use mio::net::TcpStream;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a connection may take to open. Timer B gives up after 32 s: half a dozen destinations can be tried before.
/// A SYN is sent again after 1 and 3 s, so that two may be lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last bytes of a connection may take to leave.
const ENDING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long what still comes after our FIN is waited for; and after theirs, once nothing is left to be answered, a reset that
/// says that they do not read either.
const LINGER: Duration = Duration::from_secs(1);

/// RFC 3261 §17.1.1.2, timer B and F: no client transaction waits longer, so that no older send is of interest. Bytes
/// that were queued or unacknowledged for as long have lost their purpose, too.
pub(super) const TRANSACTION_LIFE: Duration = Duration::from_secs(32);

/// Tickets kept per connection for the report of its end. At 500 requests a second on one connection all of the last
/// 32 s; beyond that the oldest are forgotten, which are the most likely to have been answered.
const TICKETS_MAX: usize = 16_384;

/// Pongs a second, and at once. RFC 5626 §4.4.1 has pings seconds apart: whoever sends more gets fewer pongs.
const PONGS_PER_SECOND: u32 = 10;

/// Buffers larger than this are given up when empty, and every one when its connection rests.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Open,
    Ending,
    Lingering,
}

/// Who opened a connection to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// It is no trunk's.
    pub is_stranger: bool,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    ConnectFailed,
    /// The peer takes no connection.
    Refused,
    Broken,
    Ended,
    WriteQueue,
    PartialMessage,
    Idle,
}

impl Why {
    pub(super) fn count(self, counters: &mut Counters) {
        match self {
            Why::ConnectFailed | Why::Refused => counters.tcp_open_failures += 1,
            Why::Broken => counters.tcp_broken += 1,
            Why::WriteQueue => counters.tcp_write_queue_closes += 1,
            Why::PartialMessage => counters.tcp_partial_message_closes += 1,
            Why::Idle => counters.tcp_idle_closes += 1,
            Why::Ended => {}
        }
    }
}

/// Something that may not arrive.
#[derive(Debug)]
pub(super) struct Unsure {
    at: Instant,
    /// Where it may go instead.
    pub else_to: SocketAddr,
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub id: ConnectionId,
    pub bind: BindId,
    pub peer: SocketAddr,
    pub stream: TcpStream,
    /// `None`: we opened it.
    pub caller: Option<Caller>,
    pub state: State,
    /// Since when it has been in this state, or their FIN has come.
    since: Instant,
    /// Their FIN has come: nothing more to read, but what they asked for may still be answered.
    pub peer_closed: bool,
    /// The kernel has announced the end of what the peer sends: a short read is no sign of an empty socket then.
    pub end_announced: bool,
    /// Something on it could not be framed or parsed: what follows is thrown away.
    pub deaf: bool,
    pub queued_read: bool,
    pub queued_write: bool,
    pub framer: Framer,
    /// Received and not consumed: the front of a message, or a parked message and what follows it.
    pub partial: Vec<u8>,
    /// When the first byte of `partial` came.
    pub partial_since: Instant,
    /// `partial` begins with a whole message of that length for which there was no room in a ring.
    pub parked: Option<usize>,
    /// A whole message has come on it.
    pub has_spoken: bool,
    /// Requests read on it whose final responses were not sent on it.
    pub owed: u32,
    /// To write; what lies before `written` is gone already. `0 <= written <= out.len()`.
    pub out: Vec<u8>,
    written: usize,
    /// Since when the kernel has taken nothing.
    stalled_since: Option<Instant>,
    /// What was sent in the last second or two, after their FIN: a peer that has closed both ways answers with a reset.
    pub unsure: Vec<Unsure>,
    /// Sends of the last 32 s whose shards want to know when the connection breaks, oldest first.
    tickets: VecDeque<(Instant, u16, Ticket)>,
    /// When something was last sent or received.
    pub active_at: Instant,
    pongs: Bucket,
    pong_owed: bool,
}

impl Connection {
    pub fn new(id: ConnectionId, flow: Flow, stream: TcpStream, caller: Option<Caller>, now: Instant) -> Connection {
        let state = if caller.is_some() {
            State::Open
        } else {
            State::Connecting
        };
        Connection {
            id,
            bind: flow.bind,
            peer: flow.peer,
            stream,
            caller,
            state,
            since: now,
            peer_closed: false,
            end_announced: false,
            deaf: false,
            queued_read: false,
            queued_write: false,
            framer: Framer::new(),
            partial: Vec::new(),
            partial_since: now,
            parked: None,
            has_spoken: false,
            owed: 0,
            out: Vec::new(),
            written: 0,
            stalled_since: None,
            unsure: Vec::new(),
            tickets: VecDeque::new(),
            active_at: now,
            pongs: Bucket::default(),
            pong_owed: false,
        }
    }

    pub fn flow(&self) -> Flow {
        Flow {
            bind: self.bind,
            transport: Transport::Tcp,
            local: LocalId::ANY,
            peer: self.peer,
            connection: Some(self.id),
        }
    }

    pub fn set_state(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
    }

    /// Their FIN has come.
    pub fn on_peer_closed(&mut self, now: Instant) {
        self.peer_closed = true;
        self.since = now;
    }

    /// Whether something waits to be written.
    pub fn has_unwritten(&self) -> bool {
        self.written < self.out.len()
    }

    pub fn has_room(&self, bytes: usize, max: usize) -> bool {
        let unsure: usize = self.unsure.iter().map(|unsure| unsure.bytes.len()).sum();
        self.out.len() - self.written + unsure + bytes <= max
    }

    /// A whole message was read.
    pub fn on_message(&mut self, message: &[u8], now: Instant) {
        self.active_at = now;
        self.has_spoken = true;
        // Responses and ACKs are not answered.
        if !starts_with(message, b"SIP/") && !starts_with(message, b"ACK ") {
            self.owed += 1;
        }
    }

    /// Queues bytes. `is_answer`: they were sent to this very connection. `else_to`: where they may go if it turns out that the
    /// peer has closed both ways.
    pub fn queue(&mut self, bytes: &[u8], is_answer: bool, else_to: SocketAddr, now: Instant) {
        self.out.extend_from_slice(bytes);
        self.active_at = now;
        if is_answer && starts_with(bytes, b"SIP/") && bytes.get(8).is_some_and(|digit| *digit >= b'2') {
            self.owed = self.owed.saturating_sub(1);
        }
        if self.peer_closed {
            let bytes = bytes.to_vec();
            self.unsure.push(Unsure {
                at: now,
                else_to,
                bytes,
            });
        }
    }

    /// A send whose shard wants to know when the connection breaks.
    pub fn note_ticket(&mut self, shard: u16, ticket: Ticket, now: Instant) {
        self.forget_old_tickets(now);
        if self.tickets.len() >= TICKETS_MAX {
            self.tickets.pop_front();
        }
        self.tickets.push_back((now, shard, ticket));
    }

    /// Every send of the last 32 s, once.
    pub fn take_tickets(&mut self, now: Instant) -> impl Iterator<Item = (u16, Ticket)> {
        self.forget_old_tickets(now);
        self.tickets.drain(..).map(|(_, shard, ticket)| (shard, ticket))
    }

    /// Lets go of what is no longer of use.
    pub fn forget_old(&mut self, now: Instant) {
        self.forget_old_tickets(now);
        self.unsure.retain(|unsure| now.since(unsure.at) < LINGER);
    }

    fn forget_old_tickets(&mut self, now: Instant) {
        while let Some((at, _, _)) = self.tickets.front()
            && now.since(*at) >= TRANSACTION_LIFE
        {
            self.tickets.pop_front();
        }
    }

    /// Whether a connection that was opening is open; an error if it never will be.
    pub fn connected(&self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes as much as the kernel takes.
    pub fn write(&mut self, now: Instant) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.stalled_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled_since.get_or_insert(now);
                    // What is gone makes room once it is the larger part: every byte is moved once on average.
                    if self.written > self.out.len() / 2 {
                        self.out.drain(..self.written);
                        self.written = 0;
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        if self.out.capacity() > BUFFER_BYTES_KEPT {
            self.out = Vec::new();
        }
        Ok(())
    }

    /// A ping has come: RFC 5626 §5.4 wants one CRLF at once. `true`: it is queued. Whoever sends more pings than it may,
    /// or does not read its pongs, gets one for all of them later.
    pub fn on_ping(&mut self, now: Instant) -> bool {
        self.pong_owed = true;
        self.active_at = now;
        self.pong(now)
    }

    /// Queues the pong that is owed, if any and if it may be sent.
    pub fn pong(&mut self, now: Instant) -> bool {
        let may_send =
            self.pong_owed && self.stalled_since.is_none() && self.pongs.take(Rate::per_second(PONGS_PER_SECOND), now);
        if may_send {
            self.pong_owed = false;
            self.out.extend_from_slice(b"\r\n");
        }
        may_send
    }

    pub fn timed_out(&self, now: Instant, limits: &Limits) -> Option<Why> {
        let in_state = now.since(self.since);
        match self.state {
            State::Connecting if in_state >= CONNECT_TIMEOUT => return Some(Why::ConnectFailed),
            State::Ending if in_state >= ENDING_TIMEOUT => return Some(Why::Ended),
            State::Lingering if in_state >= LINGER => return Some(Why::Ended),
            // Half closed: as long as something may still be answered it is like any other.
            State::Open if self.peer_closed && self.owed == 0 => {
                let silent_for = in_state.min(now.since(self.active_at));
                if silent_for >= LINGER {
                    return Some(Why::Ended);
                }
            }
            State::Connecting | State::Open | State::Ending | State::Lingering => {}
        }
        if self
            .stalled_since
            .is_some_and(|since| now.since(since) >= TRANSACTION_LIFE)
        {
            return Some(Why::WriteQueue);
        }
        if self.state != State::Open {
            return None;
        }
        // A stranger has to say something; a trunk may hold a connection ready.
        let is_mute = !self.has_spoken && self.caller.is_some_and(|caller| caller.is_stranger);
        let waits = !self.partial.is_empty() && self.parked.is_none();
        if waits && now.since(self.partial_since) >= limits.partial_message_timeout
            || is_mute && in_state >= limits.partial_message_timeout
        {
            return Some(Why::PartialMessage);
        }
        (now.since(self.active_at) >= limits.idle_timeout).then_some(Why::Idle)
    }

    /// A connection that rests holds no memory but its own entry.
    pub fn give_up_buffers(&mut self) {
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        if self.tickets.is_empty() {
            self.tickets = VecDeque::new();
        }
    }
}

fn starts_with(bytes: &[u8], start: &[u8]) -> bool {
    bytes
        .get(..start.len())
        .is_some_and(|front| front.eq_ignore_ascii_case(start))
}
