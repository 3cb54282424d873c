//! TCP: listeners, connections as flows, bounded write queues.
//!
//! ```text
//!   connect ──► Connecting ──► Open ──► Ending ──► Lingering ──► closed
//!   accept ──────────────────►  │  ◄─ last message, `Close`, bytes that cannot be framed
//!                               └─► closed (peer closed, broken, a timeout, write queue full)
//! ```
//!
//! A connection belongs to the worker that accepted or opened it, for life. `Ending` writes what is queued, then says so
//! with a FIN; `Lingering` reads on and throws away, for a close with unread bytes would reset the connection, and the peer
//! would never see the last response.

mod socket;

pub use socket::open;

use crate::config::Limits;
use crate::io::counters::Counters;
use crate::io::intake::{Intake, Ledger, Taken};
use crate::io::token;
use crate::message::framing::{Frame, Framer};
use crate::shard::Ticket;
use crate::timer::Instant;
use crate::transport::{BindId, ConnectionId, Flow, Transport};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use mio::Interest;
use mio::net::{TcpListener, TcpStream};
use slab::Slab;
use socket::{prepare, start_connecting};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

/// Bytes per read. Some thirty messages: more would make one busy connection keep others and the timers waiting.
const READ_BYTES: usize = 16 * 1024;

/// Reads in a turn, over all connections in turn. 16 reads are at most some 500 messages, about 2 ms of work.
const READS_PER_TURN: usize = 16;

/// Connections accepted from one listener in a turn: an accept costs some 5 µs.
const ACCEPTS_PER_TURN: usize = 64;

/// How long a connection may take to open. Timer B gives up after 32 s: half a dozen destinations can be tried before.
/// A SYN is sent again after 1 and 3 s, so that two may be lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last bytes of a connection may take to leave, and how long a peer that closes is still written to.
const ENDING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long what still comes after our FIN, or is still to be answered after theirs, is waited for.
const LINGER: Duration = Duration::from_secs(1);

/// RFC 3261 §17.1.1.2, timer B and F: no client transaction waits longer, so that no older send is of interest. Bytes
/// that were queued or unacknowledged for as long have lost their purpose, too.
const TRANSACTION_LIFE: Duration = Duration::from_secs(32);

/// Tickets kept per connection for the report of its end. At 500 requests a second on one connection all of the last
/// 32 s; beyond that the oldest are forgotten, which are the most likely to have been answered.
const TICKETS_MAX: usize = 16_384;

/// RFC 5626 §4.4.1 has pings seconds apart: more often than this they are answered together.
const PONG_INTERVAL: Duration = Duration::from_millis(100);

/// Timeouts are looked after this often, a part of the connections at a time, all of them once in [`SCAN_PARTS`] times.
const SCAN_INTERVAL: Duration = Duration::from_millis(100);
const SCAN_PARTS: usize = 10;

/// A worker out of file descriptors or memory tries to accept again after this long, for the kernel does not say when.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// Buffers larger than this are given up when empty, and every one when its connection rests.
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

/// The listeners and connections of one worker.
#[derive(Debug)]
pub struct Tcp {
    me: u16,
    limits: Limits,
    /// By bind: where connections from it are opened.
    local: Vec<IpAddr>,
    listeners: Vec<Listener>,
    connections: Slab<Connection>,
    /// Of the last connection; with its slot it names one connection among 2^32.
    generation: u32,
    /// Open and opening connections by where they lead.
    by_peer: HashMap<(BindId, SocketAddr), usize, FixedState>,
    /// Slots of connections that may have something to read, each at most once (`queued_read`).
    readable: VecDeque<usize>,
    /// Slots of connections with a whole message that found the ring to its owner full.
    parked: Vec<usize>,
    /// Slots of connections with something to write, each at most once (`queued_write`).
    unwritten: Vec<usize>,
    /// Slots of connections to end when the outputs of this turn are written.
    ending: Vec<usize>,
    scratch: Box<[u8]>,
    scanned: usize,
    next_scan: Instant,
    registry: mio::Registry,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    bind: BindId,
    may_accept: bool,
    not_before: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Open,
    Ending,
    Lingering,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    bind: BindId,
    peer: SocketAddr,
    stream: TcpStream,
    state: State,
    /// Since when it has been in this state.
    since: Instant,
    /// Their FIN has come: nothing more to read, but what they asked for may still be answered.
    peer_closed: bool,
    /// The kernel has announced the end of what the peer sends: a short read is no sign of an empty socket then.
    end_announced: bool,
    /// Something on it could not be framed or parsed: what follows is thrown away.
    deaf: bool,
    queued_read: bool,
    queued_write: bool,
    framer: Framer,
    /// Received and not consumed: the front of a message, or a parked message and what follows it.
    partial: Vec<u8>,
    /// When the first byte of `partial` came.
    partial_since: Instant,
    /// `partial` begins with a whole message of that length for which there was no room in a ring.
    parked: Option<usize>,
    /// To write; what lies before `written` is gone already. `0 <= written <= out.len()`.
    out: Vec<u8>,
    written: usize,
    /// Since when the kernel has taken nothing.
    stalled_since: Option<Instant>,
    /// Sends of the last 32 s whose shards want to know when the connection breaks, oldest first.
    tickets: VecDeque<(Instant, u16, Ticket)>,
    /// When something was last sent or received.
    active_at: Instant,
    ponged_at: Instant,
    pong_owed: bool,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    ConnectFailed,
    /// The peer takes no connection.
    Refused,
    Broken,
    Ended,
    WriteQueue,
    PartialMessage,
    Idle,
}

impl Tcp {
    /// Takes the listeners of worker `me`, one place for each bind, and registers them. `local`: by bind, where connections
    /// are opened from.
    ///
    /// # Errors
    /// The poll does not take a socket.
    pub fn new(
        me: u16,
        limits: Limits,
        local: Vec<IpAddr>,
        listeners: Vec<Option<std::net::TcpListener>>,
        registry: mio::Registry,
        seed: u64,
    ) -> io::Result<Tcp> {
        let mut taken = Vec::new();
        for (bind, listener) in listeners.into_iter().enumerate() {
            let Some(listener) = listener else { continue };
            let mut socket = TcpListener::from_std(listener);
            registry.register(&mut socket, token::listener(bind), Interest::READABLE)?;
            taken.push(Listener {
                socket,
                bind: BindId(bind as u8),
                may_accept: true,
                not_before: Instant::START,
            });
        }
        Ok(Tcp {
            me,
            limits,
            local,
            listeners: taken,
            connections: Slab::new(),
            generation: 0,
            by_peer: HashMap::with_hasher(FixedState::with_seed(seed)),
            readable: VecDeque::new(),
            parked: Vec::new(),
            unwritten: Vec::new(),
            ending: Vec::new(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            scanned: 0,
            next_scan: Instant::START,
            registry,
        })
    }

    /// The listener of this bind may have a connection to accept.
    pub fn on_acceptable(&mut self, bind: usize) {
        if let Some(listener) = self.listeners.iter_mut().find(|l| usize::from(l.bind.0) == bind) {
            listener.may_accept = true;
        }
    }

    /// Something happened on the connection in this slot. Only notes it: no connection is closed or opened before
    /// all events of a poll were seen, so that a token never means a newer connection in the same slot.
    pub fn on_event(&mut self, slot: usize, event: &mio::event::Event) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.end_announced |= event.is_read_closed() || event.is_error();
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            queue(slot, &mut connection.queued_read, &mut self.readable);
        }
        // Any change of one that is opening may be the answer; of an open one only room to write matters.
        let waits = connection.written < connection.out.len() || connection.state != State::Open;
        if event.is_writable() && waits || connection.state == State::Connecting {
            queue_write(slot, &mut connection.queued_write, &mut self.unwritten);
        }
    }

    /// Accepts what waits. Returns whether there was anything.
    pub fn accept(&mut self, now: Instant, counters: &mut Counters) -> bool {
        let mut accepted = false;
        for i in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let listener = &mut self.listeners[i];
                if !listener.may_accept || now < listener.not_before {
                    break;
                }
                match listener.socket.accept() {
                    Ok((stream, peer)) => {
                        accepted = true;
                        let bind = listener.bind;
                        counters.tcp_accepted += 1;
                        self.take(stream, bind, peer, now, counters);
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => listener.may_accept = false,
                        // The peer was gone before we came to it.
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                        _ => {
                            counters.tcp_accept_failures += 1;
                            listener.not_before = now + ACCEPT_RETRY;
                            tracing::warn!(%error, "cannot accept connections, trying again in a second");
                        }
                    },
                }
            }
        }
        accepted
    }

    fn take(&mut self, mut stream: TcpStream, bind: BindId, peer: SocketAddr, now: Instant, counters: &mut Counters) {
        if self.connections.len() >= self.limits.connections_max {
            counters.tcp_over_limit += 1;
            return;
        }
        prepare(&stream);
        let token = token::connection(self.connections.vacant_key());
        if let Err(error) = self
            .registry
            .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
        {
            counters.tcp_accept_failures += 1;
            tracing::warn!(%error, "cannot watch a connection");
            return;
        }
        self.add(stream, bind, peer, State::Open, now, counters);
    }

    fn add(
        &mut self,
        stream: TcpStream,
        bind: BindId,
        peer: SocketAddr,
        state: State,
        now: Instant,
        counters: &mut Counters,
    ) -> usize {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.connections.vacant_key();
        let mut connection = Connection {
            id: ConnectionId {
                worker: self.me,
                slot: slot as u32,
                generation: self.generation,
            },
            bind,
            peer,
            stream,
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
            out: Vec::new(),
            written: 0,
            stalled_since: None,
            tickets: VecDeque::new(),
            active_at: now,
            ponged_at: now - PONG_INTERVAL,
            pong_owed: false,
        };
        if self.connections.is_empty() {
            self.next_scan = now + SCAN_INTERVAL;
        }
        if state == State::Open {
            // What came before the registration makes an event, too; looking at once saves a turn.
            queue(slot, &mut connection.queued_read, &mut self.readable);
        }
        self.by_peer.insert((bind, peer), slot);
        let taken = self.connections.insert(connection);
        debug_assert_eq!(taken, slot);
        counters.tcp_connections = self.connections.len() as u64;
        slot
    }

    /// Reads from connections that may have something, and feeds it. Returns whether anything came.
    pub fn read(&mut self, intake: &mut Intake) -> bool {
        let mut work = false;
        for slot in std::mem::take(&mut self.parked) {
            if let Some(connection) = self.connections.get_mut(slot)
                && connection.parked.is_some()
            {
                work |= self.consume(slot, 0, intake);
                // It was not read meanwhile, whatever the poll said.
                let connection = &mut self.connections[slot];
                if connection.parked.is_none() {
                    queue(slot, &mut connection.queued_read, &mut self.readable);
                }
            }
        }
        for _ in 0..READS_PER_TURN {
            let Some(slot) = self.readable.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            if !std::mem::take(&mut connection.queued_read) || connection.parked.is_some() || connection.peer_closed {
                continue;
            }
            match connection.stream.read(&mut self.scratch) {
                Ok(0) => {
                    work = true;
                    self.on_peer_closed(slot, &mut intake.ledger);
                }
                Ok(count) => {
                    work = true;
                    if count == self.scratch.len() || connection.end_announced {
                        queue(slot, &mut connection.queued_read, &mut self.readable);
                    }
                    self.consume(slot, count, intake);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => {}
                    io::ErrorKind::Interrupted => queue(slot, &mut connection.queued_read, &mut self.readable),
                    _ => {
                        work = true;
                        let why = match connection.state {
                            State::Connecting => why_not_connected(&error),
                            State::Open => Why::Broken,
                            State::Ending | State::Lingering => Why::Ended,
                        };
                        tracing::debug!(peer = %connection.peer, %error, "a connection broke");
                        self.close(slot, why, &mut intake.ledger);
                    }
                },
            }
        }
        work
    }

    /// Takes messages out of what was received: `partial` and the first `fresh` bytes of the scratch buffer.
    fn consume(&mut self, slot: usize, fresh: usize, intake: &mut Intake) -> bool {
        let now = intake.ledger.now;
        let connection = &mut self.connections[slot];
        if connection.deaf || matches!(connection.state, State::Ending | State::Lingering) {
            return false;
        }
        let flow = connection.flow();
        let fresh = &self.scratch[..fresh];
        let mut partial = std::mem::take(&mut connection.partial);
        let in_partial = !partial.is_empty();
        if in_partial {
            partial.extend_from_slice(fresh);
        }
        let received: &[u8] = if in_partial { &partial } else { fresh };
        let mut consumed = 0;
        let mut malformed = false;
        loop {
            let rest = &received[consumed..];
            let frame = match connection.parked.take() {
                Some(length) => Ok(Frame::Message(length)),
                None => connection.framer.next(rest),
            };
            match frame {
                Ok(Frame::Message(length)) => match intake.message(flow, &rest[..length]) {
                    Taken::Yes => {
                        consumed += length;
                        connection.active_at = now;
                        connection.partial_since = now;
                    }
                    Taken::Malformed => {
                        malformed = true;
                        break;
                    }
                    Taken::RingFull => {
                        connection.parked = Some(length);
                        self.parked.push(slot);
                        intake.ledger.counters.handoff_parked += 1;
                        break;
                    }
                },
                Ok(Frame::Ping(length)) => {
                    consumed += length;
                    intake.ledger.counters.keepalives += 1;
                    connection.active_at = now;
                    connection.pong_owed = true;
                }
                Ok(Frame::Skip(length)) => consumed += length,
                Ok(Frame::Incomplete) => break,
                Err(error) => {
                    tracing::debug!(peer = %connection.peer, ?error, "a stream cannot be framed");
                    intake.malformed(flow, rest, error);
                    malformed = true;
                    break;
                }
            }
        }
        if malformed {
            // It stays open until the shard's answer is written.
            intake.ledger.counters.tcp_malformed_closes += 1;
            connection.deaf = true;
            self.ending.push(slot);
            return true;
        }
        if in_partial {
            if consumed > 0 {
                partial.drain(..consumed);
                connection.partial_since = now;
            }
        } else if consumed < fresh.len() {
            partial.extend_from_slice(&fresh[consumed..]);
            connection.partial_since = now;
        }
        connection.partial = partial;
        if connection.pong_owed {
            pong(slot, connection, now, &mut self.unwritten);
        }
        consumed > 0
    }

    /// Their FIN. Sends that wait for an answer fail, for none can come here; but what was asked before it can be answered.
    fn on_peer_closed(&mut self, slot: usize, ledger: &mut Ledger) {
        let connection = &mut self.connections[slot];
        connection.peer_closed = true;
        match connection.state {
            State::Connecting | State::Open => {
                connection.since = ledger.now;
                socket::acknowledge(&connection.stream);
            }
            // Closes it as soon as what is queued is written.
            State::Ending => queue_write(slot, &mut connection.queued_write, &mut self.unwritten),
            State::Lingering => {
                self.close(slot, Why::Ended, ledger);
                return;
            }
        }
        ledger.counters.tcp_broken += 1;
        report(connection, ledger);
        let (key, id) = ((connection.bind, connection.peer), slot);
        if self.by_peer.get(&key) == Some(&id) {
            self.by_peer.remove(&key);
        }
    }

    /// Queues bytes on the connection a flow names, on another that leads there, or on a new one. `sent_by`: the shard and
    /// the ticket that learn if it fails. Nothing is written before [`flush`](Tcp::flush).
    pub fn send(&mut self, flow: &Flow, bytes: &[u8], sent_by: Option<(u16, Ticket)>, ledger: &mut Ledger) {
        let named = flow.connection.and_then(|id| self.slot(id));
        let open = named.or_else(|| {
            let slot = *self.by_peer.get(&(flow.bind, flow.peer))?;
            let connection = &self.connections[slot];
            matches!(connection.state, State::Connecting | State::Open).then_some(slot)
        });
        let slot = match open {
            Some(slot) => slot,
            None => match self.connect(flow, ledger) {
                Ok(slot) => slot,
                Err(error) => {
                    tracing::debug!(peer = %flow.peer, %error, "cannot open a connection");
                    ledger.counters.tcp_open_failures += 1;
                    match why_not_connected(&error) {
                        Why::Refused => ledger.refused.extend(sent_by),
                        _ => fail(sent_by, ledger),
                    }
                    return;
                }
            },
        };
        let connection = &mut self.connections[slot];
        if !connection.has_room(bytes.len(), self.limits.write_queue_bytes_max) {
            // Perhaps only this turn's messages fill it.
            if connection.state == State::Open && connection.write(ledger.now).is_err() {
                fail(sent_by, ledger);
                self.close(slot, Why::Broken, ledger);
                return;
            }
            if !connection.has_room(bytes.len(), self.limits.write_queue_bytes_max) {
                tracing::debug!(peer = %connection.peer, "a peer does not read what is sent to it");
                fail(sent_by, ledger);
                self.close(slot, Why::WriteQueue, ledger);
                return;
            }
        }
        connection.out.extend_from_slice(bytes);
        connection.active_at = ledger.now;
        if let Some((shard, ticket)) = sent_by {
            connection.forget_old_tickets(ledger.now);
            if connection.tickets.len() >= TICKETS_MAX {
                connection.tickets.pop_front();
            }
            connection.tickets.push_back((ledger.now, shard, ticket));
        }
        queue_write(slot, &mut connection.queued_write, &mut self.unwritten);
    }

    /// Closes a connection once what was sent on it is written.
    pub fn end(&mut self, id: ConnectionId) {
        self.ending.extend(self.slot(id));
    }

    /// Writes what was queued, one call per connection.
    pub fn flush(&mut self, ledger: &mut Ledger) {
        for slot in std::mem::take(&mut self.ending) {
            if let Some(connection) = self.connections.get_mut(slot)
                && matches!(connection.state, State::Connecting | State::Open)
            {
                connection.set_state(State::Ending, ledger.now);
                queue_write(slot, &mut connection.queued_write, &mut self.unwritten);
            }
        }
        // The list is put back to keep its memory; nothing below adds to it.
        let mut unwritten = std::mem::take(&mut self.unwritten);
        for slot in unwritten.drain(..) {
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            if !std::mem::take(&mut connection.queued_write) {
                continue;
            }
            if connection.state == State::Connecting {
                match connection.connected() {
                    Ok(false) => continue,
                    Ok(true) => {
                        ledger.counters.tcp_opened += 1;
                        connection.set_state(State::Open, ledger.now);
                    }
                    Err(error) => {
                        tracing::debug!(peer = %connection.peer, %error, "cannot open a connection");
                        self.close(slot, why_not_connected(&error), ledger);
                        continue;
                    }
                }
            }
            if let Err(error) = connection.write(ledger.now) {
                tracing::debug!(peer = %connection.peer, %error, "a connection broke");
                self.close(slot, Why::Broken, ledger);
                continue;
            }
            if connection.state == State::Ending && connection.out.is_empty() {
                // A peer that has closed its side, or is gone, has nothing more to say.
                if connection.peer_closed || connection.stream.shutdown(Shutdown::Write).is_err() {
                    self.close(slot, Why::Ended, ledger);
                } else {
                    connection.set_state(State::Lingering, ledger.now);
                    queue(slot, &mut connection.queued_read, &mut self.readable);
                }
            }
        }
        debug_assert!(self.unwritten.is_empty());
        self.unwritten = unwritten;
    }

    /// Looks after the timeouts of a part of the connections. Returns whether one was closed.
    pub fn scan(&mut self, ledger: &mut Ledger) -> bool {
        if self.connections.is_empty() || ledger.now < self.next_scan {
            return false;
        }
        let before = self.connections.len();
        self.next_scan = ledger.now + SCAN_INTERVAL;
        // Slots in use lie below the capacity; empty ones cost a look each.
        let slots = self.connections.capacity();
        for _ in 0..slots / SCAN_PARTS + 1 {
            self.scanned = if self.scanned + 1 < slots { self.scanned + 1 } else { 0 };
            let slot = self.scanned;
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            if let Some(why) = connection.timed_out(ledger.now, &self.limits) {
                self.close(slot, why, ledger);
                continue;
            }
            connection.forget_old_tickets(ledger.now);
            if connection.pong_owed {
                pong(slot, connection, ledger.now, &mut self.unwritten);
            }
            if ledger.now.since(connection.active_at) >= TRANSACTION_LIFE {
                connection.give_up_buffers();
            }
        }
        self.connections.len() < before
    }

    /// When the worker has to come back though nothing happened.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let scan = (!self.connections.is_empty()).then_some(self.next_scan);
        let accept = self
            .listeners
            .iter()
            .filter(|listener| listener.may_accept && now < listener.not_before)
            .map(|listener| listener.not_before)
            .min();
        // No one tells when there is room in a ring: a message that waits for it is tried again soon.
        let parked = (!self.parked.is_empty()).then_some(now + Duration::from_millis(1));
        [scan, accept, parked].into_iter().flatten().min()
    }

    /// Whether a turn left something to read, to accept or to write.
    pub fn has_work(&self, now: Instant) -> bool {
        !self.readable.is_empty()
            || !self.unwritten.is_empty()
            || !self.ending.is_empty()
            || self.listeners.iter().any(|l| l.may_accept && now >= l.not_before)
    }

    /// The slot of a connection that can still be written to.
    fn slot(&self, id: ConnectionId) -> Option<usize> {
        let slot = id.slot as usize;
        let connection = self.connections.get(slot)?;
        (connection.id == id && matches!(connection.state, State::Connecting | State::Open)).then_some(slot)
    }

    fn connect(&mut self, flow: &Flow, ledger: &mut Ledger) -> io::Result<usize> {
        if self.connections.len() >= self.limits.connections_max {
            ledger.counters.tcp_over_limit += 1;
            return Err(io::Error::other("too many connections"));
        }
        let Some(local) = self.local.get(usize::from(flow.bind.0)) else {
            return Err(io::Error::other("no such bind"));
        };
        let mut stream = start_connecting(*local, flow.peer)?;
        let token = token::connection(self.connections.vacant_key());
        self.registry
            .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(self.add(
            stream,
            flow.bind,
            flow.peer,
            State::Connecting,
            ledger.now,
            &mut ledger.counters,
        ))
    }

    fn close(&mut self, slot: usize, why: Why, ledger: &mut Ledger) {
        let mut connection = self.connections.remove(slot);
        match why {
            Why::Refused => ledger
                .refused
                .extend(connection.tickets.drain(..).map(|(_, shard, ticket)| (shard, ticket))),
            _ => report(&mut connection, ledger),
        }
        let counters = &mut ledger.counters;
        counters.tcp_connections = self.connections.len() as u64;
        match why {
            Why::ConnectFailed | Why::Refused => counters.tcp_open_failures += 1,
            Why::Broken => counters.tcp_broken += 1,
            Why::WriteQueue => counters.tcp_write_queue_closes += 1,
            Why::PartialMessage => counters.tcp_partial_message_closes += 1,
            Why::Idle => counters.tcp_idle_closes += 1,
            Why::Ended => {}
        }
        let key = (connection.bind, connection.peer);
        if self.by_peer.get(&key) == Some(&slot) {
            self.by_peer.remove(&key);
        }
        // Dropping the stream closes it, and the poll forgets a closed socket.
    }
}

impl Connection {
    fn flow(&self) -> Flow {
        Flow {
            bind: self.bind,
            transport: Transport::Tcp,
            peer: self.peer,
            connection: Some(self.id),
        }
    }

    fn set_state(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
    }

    fn has_room(&self, bytes: usize, max: usize) -> bool {
        self.out.len() - self.written + bytes <= max
    }

    /// Whether a connection that was opening is open; an error if it never will be.
    fn connected(&self) -> io::Result<bool> {
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
    fn write(&mut self, now: Instant) -> io::Result<()> {
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

    fn timed_out(&self, now: Instant, limits: &Limits) -> Option<Why> {
        let in_state = now.since(self.since);
        match self.state {
            State::Connecting if in_state >= CONNECT_TIMEOUT => return Some(Why::ConnectFailed),
            State::Ending if in_state >= ENDING_TIMEOUT => return Some(Why::Ended),
            State::Lingering if in_state >= LINGER => return Some(Why::Ended),
            State::Open if self.peer_closed && in_state >= LINGER => return Some(Why::Ended),
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
        let waits = !self.partial.is_empty() && self.parked.is_none();
        if waits && now.since(self.partial_since) >= limits.partial_message_timeout {
            return Some(Why::PartialMessage);
        }
        (now.since(self.active_at) >= limits.idle_timeout).then_some(Why::Idle)
    }

    fn forget_old_tickets(&mut self, now: Instant) {
        while let Some((at, _, _)) = self.tickets.front()
            && now.since(*at) >= TRANSACTION_LIFE
        {
            self.tickets.pop_front();
        }
    }

    /// A connection that rests holds no memory but its own entry.
    fn give_up_buffers(&mut self) {
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

/// Answers pings with one pong, if the last is not too short ago; otherwise [`Tcp::scan`] does it later.
fn pong(slot: usize, connection: &mut Connection, now: Instant, unwritten: &mut Vec<usize>) {
    // Whoever does not read its pongs gets no more of them.
    if connection.out.is_empty() && now.since(connection.ponged_at) >= PONG_INTERVAL {
        connection.pong_owed = false;
        connection.ponged_at = now;
        connection.out.extend_from_slice(b"\r\n");
        queue_write(slot, &mut connection.queued_write, unwritten);
    }
}

fn queue(slot: usize, queued: &mut bool, list: &mut VecDeque<usize>) {
    if !std::mem::replace(queued, true) {
        list.push_back(slot);
    }
}

fn queue_write(slot: usize, queued: &mut bool, list: &mut Vec<usize>) {
    if !std::mem::replace(queued, true) {
        list.push(slot);
    }
}

/// RFC 3261 §18.1.1: a reset and an ICMP protocol unreachable say that the peer speaks no TCP. Silence says nothing.
fn why_not_connected(error: &io::Error) -> Why {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Why::Refused,
        _ if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Why::Refused,
        _ => Why::ConnectFailed,
    }
}

/// Reports every send of the last 32 s on this connection as failed.
fn report(connection: &mut Connection, ledger: &mut Ledger) {
    connection.forget_old_tickets(ledger.now);
    ledger
        .failed
        .extend(connection.tickets.drain(..).map(|(_, shard, ticket)| (shard, ticket)));
}

fn fail(sent_by: Option<(u16, Ticket)>, ledger: &mut Ledger) {
    ledger.failed.extend(sent_by);
}
