//! TCP sockets with their options: listening, and connecting.

use super::connection::TRANSACTION_LIFE;
use crate::io::stamp;
use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

/// Without traffic for this long, a kept-alive connection is probed by the kernel.
const KEEPALIVE_TIME: Duration = Duration::from_secs(120);

/// Opens a listening socket. `shared`: other workers bind the same address, and the kernel spreads connections over them.
///
/// # Errors
/// The address cannot be bound.
pub fn open(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a process that just left, in TIME_WAIT, must not keep its successor from starting.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Connections the kernel completes before we accept them; it caps the wish at `net.core.somaxconn`.
const LISTEN_BACKLOG: i32 = 1_024;

/// Options of every connection. None of them failing is worth losing it.
pub(super) fn prepare(stream: &impl AsFd) {
    let socket = SockRef::from(stream);
    // A message is written in one piece: to wait for more to send with it would only make it late.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_TIME));
    // Otherwise a peer that vanished is noticed after a quarter of an hour of retransmissions.
    let _ = socket.set_tcp_user_timeout(Some(TRANSACTION_LIFE));
    // Without stamps a new request from a stream counts as one that has not waited.
    let _ = stamp::enable(stream.as_fd());
}

/// Has the kernel acknowledge now what it would acknowledge with the next bytes to leave, of which there may be none: a peer that
/// closes and waits for it (`SO_LINGER`) is held up for 40 ms otherwise.
pub(super) fn acknowledge(stream: &impl AsFd) {
    let _ = SockRef::from(stream).set_tcp_quickack(true);
}

/// Begins to open a connection to `peer` from the address `local`, unless that is a wildcard, and any port.
pub(super) fn start_connecting(local: IpAddr, peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    prepare(&socket);
    if !local.is_unspecified() {
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    match socket.connect(&peer.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}
