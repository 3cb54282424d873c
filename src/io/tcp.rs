//! TCP: listeners, connections as flows, bounded write queues; who may connect, and how often.
//!
//! ```text
//!   connect ──► Connecting ──► Open ──► Ending ──► Lingering ──► closed
//!   accept ──────────────────►  │  ◄─ last message, `Close`, bytes that cannot be framed
//!                               └─► closed (peer closed, broken, a timeout, write queue full)
//! ```
//!
//! A connection belongs to the worker that accepted or opened it, for life. `Ending` writes what is queued, then says so
//! with a FIN; `Lingering` reads on and throws away, for a close with unread bytes would reset the connection, and the peer
//! would never see the last response. A peer that has closed its side alone is written to until all that it asked is answered;
//! what a reset shows not to have arrived goes where it would have gone without a connection (RFC 3261 §18.2.2).

mod callers;
mod connection;
mod socket;

pub use socket::open;

use crate::config::Limits;
use crate::identifiers::{Keyed, Random};
use crate::io::intake::{Intake, Ledger, Taken};
use crate::io::{stamp, token};
use crate::message::framing::Frame;
use crate::shard::Ticket;
use crate::timer::Instant;
use crate::transport::{BindId, ConnectionId, Flow, LocalId, Transport};
use callers::Callers;
use connection::{Caller, Connection, State, TRANSACTION_LIFE, Why};
use hashbrown::HashMap;
use mio::Interest;
use mio::net::{TcpListener, TcpStream};
use slab::Slab;
use socket::{prepare, start_connecting};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

/// Bytes per read. Some thirty messages: more would make one busy connection keep others and the timers waiting.
const READ_BYTES: usize = 16 * 1024;

/// Reads in a turn, over all connections in turn. 16 reads are at most some 500 messages, about 2 ms of work.
const READS_PER_TURN: usize = 16;

/// Connections accepted from one listener in a turn: an accept costs some 5 µs.
const ACCEPTS_PER_TURN: usize = 64;

/// Timeouts are looked after this often, a part of the connections at a time, all of them once in [`SCAN_PARTS`] times.
const SCAN_INTERVAL: Duration = Duration::from_millis(100);
const SCAN_PARTS: usize = 10;

/// A worker out of file descriptors or memory tries to accept again after this long, for the kernel does not say when.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

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
    by_peer: HashMap<(BindId, SocketAddr), usize, Keyed>,
    callers: Callers,
    /// Slots of connections that may have something to read, each at most once (`queued_read`).
    readable: VecDeque<usize>,
    /// Slots of connections with a whole message that found the ring to its owner full.
    parked: Vec<usize>,
    /// Slots of connections with something to write, each at most once (`queued_write`).
    unwritten: Vec<usize>,
    /// Slots of connections to end when the outputs of this turn are written.
    ending: Vec<usize>,
    /// What a connection that broke has not delivered, to be sent another way.
    again: Vec<(Flow, Vec<u8>)>,
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

impl Tcp {
    /// Takes the listeners of worker `me`, one place for each bind, and registers them. `local`: by bind, where connections
    /// are opened from. `random` keys the tables, whose keys are the peers' choice.
    ///
    /// # Errors
    /// The poll does not take a socket.
    pub fn new(
        me: u16,
        limits: Limits,
        local: Vec<IpAddr>,
        listeners: Vec<Option<std::net::TcpListener>>,
        registry: mio::Registry,
        random: &mut Random,
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
            by_peer: HashMap::with_hasher(Keyed::new(random)),
            callers: Callers::new(Keyed::new(random)),
            readable: VecDeque::new(),
            parked: Vec::new(),
            unwritten: Vec::new(),
            ending: Vec::new(),
            again: Vec::new(),
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
        let waits = connection.has_unwritten() || connection.state != State::Open;
        if event.is_writable() && waits || connection.state == State::Connecting {
            queue_write(slot, &mut connection.queued_write, &mut self.unwritten);
        }
    }

    /// Accepts what waits. Returns whether there was anything.
    pub fn accept(&mut self, intake: &mut Intake) -> bool {
        let now = intake.ledger.now;
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
                        let flow = Flow {
                            bind: listener.bind,
                            transport: Transport::Tcp,
                            local: LocalId::ANY,
                            peer,
                            connection: None,
                        };
                        self.take(stream, flow, intake);
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => listener.may_accept = false,
                        // The peer was gone before we came to it.
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                        _ => {
                            intake.ledger.counters.tcp_accept_failures += 1;
                            listener.not_before = now + ACCEPT_RETRY;
                            tracing::warn!(%error, "cannot accept connections, trying again in a second");
                        }
                    },
                }
            }
        }
        accepted
    }

    /// Takes a connection, or closes it at once: one of a source with nothing to say here, or one too many.
    fn take(&mut self, mut stream: TcpStream, flow: Flow, intake: &mut Intake) {
        let counters = &mut intake.ledger.counters;
        counters.tcp_accepted += 1;
        let caller = Caller {
            is_stranger: intake.shard.is_stranger(flow),
        };
        if caller.is_stranger && !intake.shard.serves_strangers() {
            counters.tcp_strangers += 1;
            return;
        }
        if self.connections.len() >= self.limits.connections_max {
            counters.tcp_over_limit += 1;
            return;
        }
        if !self.callers.enter(flow.peer.ip(), caller, &self.limits) {
            counters.tcp_over_source_limit += 1;
            return;
        }
        prepare(&stream);
        let token = token::connection(self.connections.vacant_key());
        if let Err(error) = self
            .registry
            .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
        {
            self.callers.leave(flow.peer.ip(), caller);
            counters.tcp_accept_failures += 1;
            tracing::warn!(%error, "cannot watch a connection");
            return;
        }
        let slot = self.add(stream, flow, Some(caller), &mut intake.ledger);
        // What came before the registration makes an event, too; looking at once saves a turn.
        queue(slot, &mut self.connections[slot].queued_read, &mut self.readable);
    }

    fn add(&mut self, stream: TcpStream, flow: Flow, caller: Option<Caller>, ledger: &mut Ledger) -> usize {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.connections.vacant_key();
        let id = ConnectionId {
            worker: self.me,
            slot: slot as u32,
            generation: self.generation,
        };
        if self.connections.is_empty() {
            self.next_scan = ledger.now + SCAN_INTERVAL;
        }
        self.by_peer.insert((flow.bind, flow.peer), slot);
        let connection = Connection::new(id, flow, stream, caller, ledger.now);
        let taken = self.connections.insert(connection);
        debug_assert_eq!(taken, slot);
        ledger.counters.tcp_connections = self.connections.len() as u64;
        slot
    }

    /// Reads from connections that may have something, and feeds it. Returns whether anything came.
    pub fn read(&mut self, intake: &mut Intake) -> bool {
        let mut work = false;
        for slot in std::mem::take(&mut self.parked) {
            if let Some(connection) = self.connections.get_mut(slot)
                && connection.parked.is_some()
            {
                intake.ledger.arrived(None);
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
            if !std::mem::take(&mut connection.queued_read) || connection.parked.is_some() {
                continue;
            }
            let read = connection
                .stream
                .try_io(|| stamp::read(connection.stream.as_fd(), &mut self.scratch));
            match read {
                // All that may still come is a reset; behind a FIN the kernel shows it in one place only.
                Ok((0, _)) if connection.peer_closed => {
                    if let Ok(Some(error)) = connection.stream.take_error() {
                        work = true;
                        tracing::debug!(peer = %connection.peer, %error, "a peer has closed both ways");
                        self.close(slot, Why::Broken, &mut intake.ledger);
                    }
                }
                Ok((0, _)) => {
                    work = true;
                    self.on_peer_closed(slot, &mut intake.ledger);
                }
                Ok((count, stamp)) => {
                    work = true;
                    intake.ledger.arrived(stamp);
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
                        connection.on_message(&rest[..length], now);
                        consumed += length;
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
                    if connection.on_ping(now) {
                        queue_write(slot, &mut connection.queued_write, &mut self.unwritten);
                    }
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
        consumed > 0
    }

    /// Their FIN. Sends that wait for an answer fail, for none can come here; but what was asked before it can be answered.
    fn on_peer_closed(&mut self, slot: usize, ledger: &mut Ledger) {
        let connection = &mut self.connections[slot];
        match connection.state {
            State::Connecting | State::Open => {
                connection.on_peer_closed(ledger.now);
                socket::acknowledge(&connection.stream);
            }
            // Closes it as soon as what is queued is written.
            State::Ending => {
                connection.peer_closed = true;
                queue_write(slot, &mut connection.queued_write, &mut self.unwritten);
            }
            State::Lingering => {
                self.close(slot, Why::Ended, ledger);
                return;
            }
        }
        ledger.counters.tcp_peer_closes += 1;
        report(connection, ledger);
        let (key, id) = ((connection.bind, connection.peer), slot);
        if self.by_peer.get(&key) == Some(&id) {
            self.by_peer.remove(&key);
        }
    }

    /// Queues bytes on the connection a flow names, on another that leads there, or on a new one. `sent_by`: the shard and
    /// the ticket that learn if it fails. Nothing is written before [`flush`](Tcp::flush).
    pub fn send(&mut self, flow: &Flow, bytes: &[u8], sent_by: Option<(u16, Ticket)>, ledger: &mut Ledger) {
        // What wants an answer gets none where the peer has closed its side.
        let answers = |slot: &usize| sent_by.is_none() || !self.connections[*slot].peer_closed;
        let named = flow.connection.and_then(|id| self.slot(id)).filter(answers);
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
        connection.queue(bytes, named == Some(slot), flow.peer, ledger.now);
        if let Some((shard, ticket)) = sent_by {
            connection.note_ticket(shard, ticket, ledger.now);
        }
        queue_write(slot, &mut connection.queued_write, &mut self.unwritten);
    }

    /// Closes a connection once what was sent on it is written.
    pub fn end(&mut self, id: ConnectionId) {
        self.ending.extend(self.slot(id));
    }

    /// Writes what was queued, one call per connection.
    pub fn flush(&mut self, ledger: &mut Ledger) {
        for (flow, bytes) in std::mem::take(&mut self.again) {
            ledger.counters.tcp_sent_again += 1;
            self.send(&flow, &bytes, None, ledger);
        }
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
            connection.forget_old(ledger.now);
            if connection.pong(ledger.now) {
                queue_write(slot, &mut connection.queued_write, &mut self.unwritten);
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
            || !self.again.is_empty()
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
        Ok(self.add(stream, *flow, None, ledger))
    }

    fn close(&mut self, slot: usize, why: Why, ledger: &mut Ledger) {
        let mut connection = self.connections.remove(slot);
        match why {
            Why::Refused => ledger.refused.extend(connection.take_tickets(ledger.now)),
            _ => report(&mut connection, ledger),
        }
        ledger.counters.tcp_connections = self.connections.len() as u64;
        why.count(&mut ledger.counters);
        if let Some(caller) = connection.caller {
            self.callers.leave(connection.peer.ip(), caller);
        }
        if why == Why::Broken {
            let flow = Flow {
                connection: None,
                ..connection.flow()
            };
            for unsure in connection.unsure.drain(..) {
                let flow = Flow {
                    peer: unsure.else_to,
                    ..flow
                };
                self.again.push((flow, unsure.bytes));
            }
        }
        let key = (connection.bind, connection.peer);
        if self.by_peer.get(&key) == Some(&slot) {
            self.by_peer.remove(&key);
        }
        // Dropping the stream closes it, and the poll forgets a closed socket.
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
    ledger.failed.extend(connection.take_tickets(ledger.now));
}

fn fail(sent_by: Option<(u16, Ticket)>, ledger: &mut Ledger) {
    ledger.failed.extend(sent_by);
}
