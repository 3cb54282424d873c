//! UDP: one socket per bind and worker, batched receive and send.

pub mod mmsg;

use crate::io::counters::Counters;
use crate::io::intake::{Intake, Ledger, Taken};
use crate::io::token;
use crate::shard::{OutRange, Shard, Ticket};
use crate::transport::{BindId, Flow, Transport};
use mmsg::{RECEIVE_BATCH, Receiver, Sender};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// Kernel buffers asked for, per socket and direction. At 100,000 messages of 600 bytes a second this is some 20 ms of
/// standstill, since the kernel counts its own overhead as well. It caps the wish at `net.core.rmem_max`.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Batches received from one socket in a turn. 128 messages take about half a millisecond to handle, the longest that
/// a timer or another socket should wait, and their responses fill two send batches.
const RECEIVE_BATCHES_PER_TURN: usize = 4;

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
}

#[derive(Debug)]
struct UdpSocket {
    socket: mio::net::UdpSocket,
    /// Readiness comes once per change: it holds until a batch comes up short.
    may_read: bool,
    unsent: Vec<Unsent>,
    kernel_drops: u32,
}

#[derive(Debug)]
struct Unsent {
    bytes: OutRange,
    peer: SocketAddr,
    ticket: Option<Ticket>,
}

impl Udp {
    /// Takes the worker's sockets, one place for each bind, and registers them.
    ///
    /// # Errors
    /// The poll does not take a socket.
    pub fn new(sockets: Vec<Option<std::net::UdpSocket>>, registry: &mio::Registry) -> io::Result<Udp> {
        let mut taken = Vec::with_capacity(sockets.len());
        for (bind, socket) in sockets.into_iter().enumerate() {
            taken.push(match socket {
                Some(socket) => {
                    let mut socket = mio::net::UdpSocket::from_std(socket);
                    registry.register(&mut socket, token::udp(bind), mio::Interest::READABLE)?;
                    Some(UdpSocket {
                        socket,
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
        })
    }

    /// The socket of this bind may have something to read.
    pub fn on_readable(&mut self, bind: usize) {
        if let Some(Some(socket)) = self.sockets.get_mut(bind) {
            socket.may_read = true;
        }
    }

    /// Whether a turn left datagrams unread.
    pub fn may_read(&self) -> bool {
        self.sockets.iter().flatten().any(|socket| socket.may_read)
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
                                feed(bind, peer, bytes, intake);
                            }
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.may_read = false,
                    Err(error) => {
                        // Errors of earlier sends come out here; each is reported once, so that reading on is safe.
                        intake.ledger.counters.receive_errors += 1;
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
            socket.flush(&mut self.sender, shard, counters, |ticket| failed.push((me, ticket)));
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
    fn flush(&mut self, sender: &mut Sender, shard: &Shard, counters: &mut Counters, mut failed: impl FnMut(Ticket)) {
        let mut done = 0;
        while let Some(first) = self.unsent.get(done) {
            let rest = self.unsent[done..]
                .iter()
                .map(|unsent| (shard.out_bytes(&unsent.bytes), unsent.peer));
            match sender.send(self.socket.as_fd(), rest) {
                Ok(sent) => {
                    counters.datagrams_sent += sent as u64;
                    done += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The send buffer is full. What is lost here the sender's timers send again (RFC 3261 §17); to keep it
                    // would only make it late. The next one is tried all the same: the device may have made room.
                    counters.datagrams_unsent += 1;
                    done += 1;
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

fn feed(bind: usize, peer: SocketAddr, bytes: &[u8], intake: &mut Intake) {
    // Binds are at most 64.
    let flow = Flow {
        bind: BindId(bind as u8),
        transport: Transport::Udp,
        peer,
        connection: None,
    };
    if is_keepalive(bytes) {
        intake.ledger.counters.keepalives += 1;
        return;
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
    fn keepalives_are_told_from_messages() {
        for keepalive in [&b""[..], b"\r\n", b"\r\n\r\n", b"\0", b"\0\0\0\0", b"\n"] {
            assert!(is_keepalive(keepalive), "{keepalive:?}");
        }
        for other in [&b"\r\nOPTIONS"[..], b" ", b"a"] {
            assert!(!is_keepalive(other), "{other:?}");
        }
    }
}
