//! UDP: one socket per bind and worker, batched receive and send, and the ICMP errors that sends come to.

mod local;
pub mod mmsg;

use crate::io::counters::Counters;
use crate::io::intake::{Intake, Ledger, Taken};
use crate::io::{stamp, token};
use crate::shard::{OutRange, Shard, Ticket};
use crate::stun::is_stun;
use crate::transport::{BindId, Flow, LocalId, Locals, Transport};
use foldhash::fast::FixedState;
use mmsg::{RECEIVE_BATCH, Receiver, Sender};
use socket2::{Domain, Protocol, Socket, Type};
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Kernel buffers asked for, per socket and direction. At 100,000 messages of 600 bytes a second this is some 20 ms of
/// standstill, since the kernel counts its own overhead as well. It caps the wish at `net.core.rmem_max`.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Batches received from one socket in a turn. 128 messages take about half a millisecond to handle, the longest that
/// a timer or another socket should wait, and their responses fill two send batches.
const RECEIVE_BATCHES_PER_TURN: usize = 4;

/// Sends remembered per socket in case they bounce. An ICMP error comes after a round trip: at 10,000 requests a second to
/// peers 100 ms away all of them are still here.
const SENT_MAX: usize = 1_024;

/// By how many of its first bytes a datagram that bounced is known again. The topmost Via with its unpredictable branch lies
/// within them, so that whoever forges an ICMP error must have seen the request (RFC 5927 §4); and RFC 1812 §4.3.2.3 has
/// errors quote as much as fits into 576 bytes, which leaves 520.
const QUOTED_BYTES: usize = 384;

/// ICMP errors taken from one socket in a turn; each is a system call.
const BOUNCED_PER_TURN: usize = 64;

/// Opens a UDP socket. `shared`: other workers bind the same address, and the kernel spreads the sources over all of them.
///
/// # Errors
/// The address cannot be bound.
pub fn open(address: SocketAddr, shared: bool) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    // Best effort: what a smaller buffer drops is seen in `datagrams_kernel_dropped_total`.
    for result in [
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES),
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES),
    ] {
        if let Err(error) = result {
            tracing::warn!(%address, %error, "cannot set the size of a socket buffer");
        }
    }
    if let Err(error) = mmsg::queue_bounced(socket.as_fd(), address.is_ipv6()) {
        tracing::warn!(%address, %error, "unreachable peers will be noticed by timers only");
    }
    if address.ip().is_unspecified()
        && let Err(error) = local::enable(socket.as_fd(), address.is_ipv6())
    {
        tracing::warn!(%address, %error, "answers leave from the address that the routing table says");
    }
    if let Err(error) = stamp::enable(socket.as_fd()) {
        tracing::warn!(%address, %error, "datagrams that wait too long will not be noticed");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The UDP sockets of one worker.
#[derive(Debug)]
pub struct Udp {
    /// By bind; `None` where the bind is of another transport.
    sockets: Vec<Option<UdpSocket>>,
    receiver: Receiver,
    sender: Sender,
    digest: FixedState,
    locals: Arc<Locals>,
}

#[derive(Debug)]
struct UdpSocket {
    socket: mio::net::UdpSocket,
    /// ICMP errors may be queued.
    may_have_bounced: bool,
    sent: Sent,
    /// Readiness comes once per change: it holds until a batch comes up short.
    may_read: bool,
    unsent: Vec<Unsent>,
    kernel_drops: u32,
}

/// The last sends whose failure someone wants to know, the oldest overwritten first.
#[derive(Debug, Default)]
struct Sent {
    sends: Vec<(SocketAddr, u64, Ticket)>,
    next: usize,
}

#[derive(Debug)]
struct Unsent {
    bytes: OutRange,
    local: LocalId,
    peer: SocketAddr,
    ticket: Option<Ticket>,
}

impl Udp {
    /// Takes the worker's sockets, one place for each bind, and registers them.
    ///
    /// # Errors
    /// The poll does not take a socket.
    pub fn new(
        sockets: Vec<Option<std::net::UdpSocket>>,
        registry: &mio::Registry,
        seed: u64,
        locals: Arc<Locals>,
    ) -> io::Result<Udp> {
        let mut taken = Vec::with_capacity(sockets.len());
        for (bind, socket) in sockets.into_iter().enumerate() {
            taken.push(match socket {
                Some(socket) => {
                    let mut socket = mio::net::UdpSocket::from_std(socket);
                    registry.register(&mut socket, token::udp(bind), mio::Interest::READABLE)?;
                    Some(UdpSocket {
                        socket,
                        may_have_bounced: false,
                        sent: Sent::default(),
                        may_read: true,
                        unsent: Vec::new(),
                        kernel_drops: 0,
                    })
                }
                None => None,
            });
        }
        Ok(Udp {
            sockets: taken,
            receiver: Receiver::new(),
            sender: Sender::new(),
            digest: FixedState::with_seed(seed),
            locals,
        })
    }

    /// The socket of this bind may have something to read, or errors.
    pub fn on_event(&mut self, bind: usize, event: &mio::event::Event) {
        if let Some(Some(socket)) = self.sockets.get_mut(bind) {
            socket.may_read = true;
            socket.may_have_bounced |= event.is_error();
        }
    }

    /// Whether a turn left datagrams or errors unread.
    pub fn may_read(&self) -> bool {
        let mut sockets = self.sockets.iter().flatten();
        sockets.any(|socket| socket.may_read || socket.may_have_bounced)
    }

    /// Takes the ICMP errors that have come, and reports the sends they are about (RFC 3261 §18.4).
    pub fn take_bounced(&mut self, me: u16, ledger: &mut Ledger) -> bool {
        let mut work = false;
        for socket in self.sockets.iter_mut().flatten() {
            for _ in 0..BOUNCED_PER_TURN {
                if !socket.may_have_bounced {
                    break;
                }
                let mut quote = [0; QUOTED_BYTES];
                let bounced = match mmsg::next_bounced(socket.socket.as_fd(), &mut quote) {
                    Ok(Some(bounced)) => bounced,
                    Ok(None) => continue,
                    // Empty; a queue that cannot be read is looked at again with the next event.
                    Err(_) => {
                        socket.may_have_bounced = false;
                        break;
                    }
                };
                work = true;
                ledger.counters.datagrams_bounced += 1;
                // The datagram was too large for a link on the way: the kernel cuts the next one to the path's measure.
                if bounced.errno == libc::EMSGSIZE {
                    continue;
                }
                let digest = self.digest.hash_one(&quote[..bounced.quoted]);
                if let Some(ticket) = socket.sent.find(bounced.peer, digest) {
                    tracing::debug!(peer = %bounced.peer, errno = bounced.errno, "a datagram bounced");
                    ledger.failed.push((me, ticket));
                }
            }
        }
        work
    }

    /// Receives from every socket that may have something, and feeds it. Returns the number of datagrams.
    pub fn receive(&mut self, intake: &mut Intake) -> usize {
        let mut total = 0;
        for (bind, socket) in self.sockets.iter_mut().enumerate() {
            let Some(socket) = socket else { continue };
            for _ in 0..RECEIVE_BATCHES_PER_TURN {
                if !socket.may_read {
                    break;
                }
                match self.receiver.receive(socket.socket.as_fd()) {
                    Ok(count) => {
                        // Fewer than asked for: the socket was empty, and the next datagram is a new event.
                        socket.may_read = count == RECEIVE_BATCH;
                        total += count;
                        for i in 0..count {
                            if let Some((bytes, peer)) = self.receiver.datagram(i) {
                                intake.ledger.arrived(self.receiver.stamp(i));
                                let local = self.receiver.local(i);
                                let local = local.map_or(LocalId::ANY, |ip| self.locals.id_of(ip));
                                feed(bind, local, peer, bytes, intake);
                            }
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.may_read = false,
                    Err(error) => {
                        // The ICMP error of an earlier send; it is reported once, so that reading on is safe.
                        socket.may_have_bounced = true;
                        tracing::debug!(%error, "receiving failed");
                    }
                }
            }
        }
        intake.ledger.counters.datagrams_received += total as u64;
        total
    }

    /// Notes a send; [`flush`](Udp::flush) carries it out.
    pub fn send(&mut self, flow: &Flow, bytes: OutRange, ticket: Option<Ticket>) {
        match self.sockets.get_mut(usize::from(flow.bind.0)) {
            Some(Some(socket)) => socket.unsent.push(Unsent {
                bytes,
                local: flow.local,
                peer: flow.peer,
                ticket,
            }),
            Some(None) | None => debug_assert!(false, "no UDP socket for {:?}", flow.bind),
        }
    }

    /// Sends what was noted, socket by socket, straight out of the shard's out-buffer.
    pub fn flush(&mut self, intake: &mut Intake) {
        let me = intake.me();
        let Intake { shard, ledger, .. } = intake;
        let Ledger { counters, failed, .. } = ledger;
        for socket in self.sockets.iter_mut().flatten() {
            let locals = &self.locals;
            socket.flush(&mut self.sender, &self.digest, locals, shard, counters, |ticket| {
                failed.push((me, ticket))
            });
        }
    }

    /// Adds what the kernel dropped since the last time. Returns whether there was anything.
    pub fn count_kernel_drops(&mut self, counters: &mut Counters) -> bool {
        let mut found = false;
        for socket in self.sockets.iter_mut().flatten() {
            // An old kernel does not tell: then the counter stays zero.
            if let Ok(drops) = mmsg::kernel_drops(socket.socket.as_fd()) {
                let new = drops.wrapping_sub(socket.kernel_drops);
                socket.kernel_drops = drops;
                counters.kernel_drops += u64::from(new);
                found |= new > 0;
            }
        }
        found
    }
}

impl UdpSocket {
    fn flush(
        &mut self,
        sender: &mut Sender,
        digest: &FixedState,
        locals: &Locals,
        shard: &Shard,
        counters: &mut Counters,
        mut failed: impl FnMut(Ticket),
    ) {
        let mut done = 0;
        let mut tried_again = None;
        while let Some(first) = self.unsent.get(done) {
            let rest = self.unsent[done..]
                .iter()
                .map(|unsent| (shard.out_bytes(&unsent.bytes), unsent.peer, locals.get(unsent.local)));
            match sender.send(self.socket.as_fd(), rest) {
                Ok(sent) => {
                    counters.datagrams_sent += sent as u64;
                    for unsent in &self.unsent[done..done + sent] {
                        if let Some(ticket) = unsent.ticket {
                            let bytes = shard.out_bytes(&unsent.bytes);
                            let start = &bytes[..bytes.len().min(QUOTED_BYTES)];
                            self.sent.add(unsent.peer, digest.hash_one(start), ticket);
                        }
                    }
                    done += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The send buffer is full. What is lost here the sender's timers send again (RFC 3261 §17); to keep it
                    // would only make it late. The next one is tried all the same: the device may have made room.
                    counters.datagrams_unsent += 1;
                    done += 1;
                }
                // It may be the ICMP error of an earlier one, which is reported once: this one is tried again. Or this host has
                // lost the address it was to leave from.
                Err(_) if tried_again != Some(done) => {
                    self.may_have_bounced = true;
                    tried_again = Some(done);
                    self.unsent[done].local = LocalId::ANY;
                }
                Err(error) => {
                    counters.datagrams_refused += 1;
                    tracing::debug!(peer = %first.peer, %error, "a datagram cannot be sent");
                    if let Some(ticket) = first.ticket {
                        failed(ticket);
                    }
                    done += 1;
                }
            }
        }
        self.unsent.clear();
    }
}

impl Sent {
    fn add(&mut self, peer: SocketAddr, digest: u64, ticket: Ticket) {
        if self.sends.len() < SENT_MAX {
            self.sends.push((peer, digest, ticket));
        } else {
            self.sends[self.next] = (peer, digest, ticket);
            self.next = (self.next + 1) % SENT_MAX;
        }
    }

    /// The ticket of this send. A retransmission has the same: one of them is enough.
    fn find(&self, peer: SocketAddr, digest: u64) -> Option<Ticket> {
        let found = self.sends.iter().find(|sent| sent.0 == peer && sent.1 == digest)?;
        Some(found.2)
    }
}

fn feed(bind: usize, local: LocalId, peer: SocketAddr, bytes: &[u8], intake: &mut Intake) {
    // Binds are at most 64.
    let flow = Flow {
        bind: BindId(bind as u8),
        transport: Transport::Udp,
        local,
        peer,
        connection: None,
    };
    if is_keepalive(bytes) {
        intake.ledger.counters.keepalives += 1;
        return;
    }
    if is_stun(bytes) {
        return intake.stun(flow, bytes);
    }
    match intake.message(flow, bytes) {
        Taken::Yes | Taken::Malformed => {}
        // UDP loses messages anyhow: the sender repeats it, and the ring has room again.
        Taken::RingFull => intake.ledger.counters.handoff_dropped += 1,
    }
}

/// Whether a datagram only keeps a NAT binding open: empty, or CR, LF and NUL alone. The keep-alive of RFC 5626 for UDP is
/// STUN; CRLF datagrams are older custom and want no answer.
fn is_keepalive(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sends_are_found_again_and_older_ones_not() {
        let peer = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        let mut sent = Sent::default();
        for i in 0..SENT_MAX as u64 + 10 {
            sent.add(peer(1), i, Ticket(i));
        }
        assert_eq!(sent.find(peer(1), 9), None);
        assert_eq!(sent.find(peer(1), 10), Some(Ticket(10)));
        assert_eq!(
            sent.find(peer(1), SENT_MAX as u64 + 9),
            Some(Ticket(SENT_MAX as u64 + 9))
        );
        assert_eq!(sent.find(peer(2), 10), None);
    }

    #[test]
    fn keepalives_are_told_from_messages() {
        for keepalive in [&b""[..], b"\r\n", b"\r\n\r\n", b"\0", b"\0\0\0\0", b"\n"] {
            assert!(is_keepalive(keepalive), "{keepalive:?}");
        }
        for other in [&b"\r\nOPTIONS"[..], b" ", b"a"] {
            assert!(!is_keepalive(other), "{other:?}");
        }
    }
}
