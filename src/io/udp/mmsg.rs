//! `recvmmsg` and `sendmmsg`: many datagrams per system call, nothing allocated per call. And what else of UDP only libc
//! offers: the queue of ICMP errors, and how many datagrams the kernel has dropped.
//!
//! The kernel's send path is the largest cost of a SIP proxy. In one call it takes a batch straight out of a shard's
//! out-buffer; on loopback with 550-byte datagrams the pair costs 3.0 µs per datagram against 3.5 µs one by one.

#![expect(
    unsafe_code,
    reason = "libc's batch calls take raw pointers; no crate offers both without allocating"
)]

use super::local;
use crate::io::stamp;
use std::fmt;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

/// Datagrams per `recvmmsg`. Beyond 32 the cost per datagram no longer falls measurably.
pub const RECEIVE_BATCH: usize = 32;

/// Datagrams per `sendmmsg`.
pub const SEND_BATCH: usize = 64;

/// The largest UDP payload is 65,507 bytes over IPv4 and 65,527 over IPv6, so that nothing is ever cut short.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Room for one batch of received datagrams. Only pages that were written to take memory.
pub struct Receiver {
    buffers: Box<[u8]>,
    names: Box<[libc::sockaddr_storage; RECEIVE_BATCH]>,
    /// Invariant: every entry is reset by `receive` before the kernel sees it; of its pointers only that to its entry of
    /// `controls` is read by us.
    headers: Box<[libc::mmsghdr; RECEIVE_BATCH]>,
    vectors: Box<[libc::iovec; RECEIVE_BATCH]>,
    controls: Box<[stamp::Control; RECEIVE_BATCH]>,
    received: usize,
}

// SAFETY: the raw pointers in `headers` and `vectors` point into boxes of the same struct, which keep their place when it moves.
unsafe impl Send for Receiver {}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl Default for Receiver {
    fn default() -> Receiver {
        Receiver::new()
    }
}

impl Receiver {
    pub fn new() -> Receiver {
        Receiver {
            buffers: vec![0; RECEIVE_BATCH * DATAGRAM_BYTES_MAX].into_boxed_slice(),
            names: Box::new([zeroed_name(); RECEIVE_BATCH]),
            headers: Box::new([zeroed_header(); RECEIVE_BATCH]),
            vectors: Box::new([EMPTY_VECTOR; RECEIVE_BATCH]),
            controls: Box::new([stamp::Control::default(); RECEIVE_BATCH]),
            received: 0,
        }
    }

    /// Receives up to [`RECEIVE_BATCH`] datagrams without waiting; they replace those of the last call. Fewer than that
    /// were all there were.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; whatever else the kernel reports.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received = 0;
        let (buffers, names, vectors, controls) = (
            self.buffers.as_mut_ptr(),
            self.names.as_mut_ptr(),
            self.vectors.as_mut_ptr(),
            self.controls.as_mut_ptr(),
        );
        for (i, entry) in self.headers.iter_mut().enumerate() {
            // SAFETY: `buffers` has RECEIVE_BATCH times DATAGRAM_BYTES_MAX bytes, `names`, `vectors` and `controls` RECEIVE_BATCH
            // entries, and there are as many headers, so that every offset stays inside; `self` is borrowed uniquely.
            unsafe {
                vectors.add(i).write(libc::iovec {
                    iov_base: buffers.add(i * DATAGRAM_BYTES_MAX).cast(),
                    iov_len: DATAGRAM_BYTES_MAX,
                });
                entry.msg_hdr.msg_name = names.add(i).cast();
                entry.msg_hdr.msg_iov = vectors.add(i);
                entry.msg_hdr.msg_control = controls.add(i).cast();
            }
            entry.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            entry.msg_hdr.msg_iovlen = 1;
            entry.msg_hdr.msg_controllen = mem::size_of::<stamp::Control>() as _;
            entry.msg_hdr.msg_flags = 0;
        }
        // SAFETY: every header points at a name, a control buffer and one vector of this struct, every vector at a part of
        // `buffers` that no other vector names; all of them live and are not touched by anyone else during the call.
        let received = retry(|| unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                RECEIVE_BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        })?;
        assert!(received <= RECEIVE_BATCH);
        self.received = received;
        Ok(received)
    }

    /// The `i`-th datagram of the last batch and where it came from. `None`: its source is no IP address.
    pub fn datagram(&self, i: usize) -> Option<(&[u8], SocketAddr)> {
        assert!(i < self.received);
        let len = (self.headers[i].msg_len as usize).min(DATAGRAM_BYTES_MAX);
        let start = i * DATAGRAM_BYTES_MAX;
        Some((&self.buffers[start..start + len], read_name(&self.names[i])?))
    }

    /// When the kernel took in the `i`-th datagram of the last batch, if it was asked to say so ([`stamp::enable`]).
    pub fn stamp(&self, i: usize) -> Option<Duration> {
        assert!(i < self.received);
        // SAFETY: the kernel has filled the first `received` headers, and `controls` is as it left it.
        unsafe { stamp::of(&self.headers[i].msg_hdr) }
    }

    /// To which address of this host the `i`-th datagram of the last batch came, if the kernel was asked to say so
    /// (`local::enable`).
    pub fn local(&self, i: usize) -> Option<IpAddr> {
        assert!(i < self.received);
        // SAFETY: the kernel has filled the first `received` headers, and `controls` is as it left it.
        unsafe { local::of(&self.headers[i].msg_hdr) }
    }
}

/// What one `sendmmsg` needs, kept from call to call.
pub struct Sender {
    names: Box<[libc::sockaddr_storage; SEND_BATCH]>,
    headers: Box<[libc::mmsghdr; SEND_BATCH]>,
    vectors: Box<[libc::iovec; SEND_BATCH]>,
    controls: Box<[local::Control; SEND_BATCH]>,
}

// SAFETY: the raw pointers in `headers` and `vectors` are written and used within one call of `send` that holds `&mut self`.
unsafe impl Send for Sender {}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Default for Sender {
    fn default() -> Sender {
        Sender::new()
    }
}

impl Sender {
    pub fn new() -> Sender {
        Sender {
            names: Box::new([zeroed_name(); SEND_BATCH]),
            headers: Box::new([zeroed_header(); SEND_BATCH]),
            vectors: Box::new([EMPTY_VECTOR; SEND_BATCH]),
            controls: Box::new([local::Control::default(); SEND_BATCH]),
        }
    }

    /// Sends the first [`SEND_BATCH`] datagrams of `datagrams` in order and without waiting; returns how many left. Each goes to an
    /// address, and from an address of this host where that is given.
    /// Fewer than given: the next one failed, and calling again with it in front tells why.
    ///
    /// # Errors
    /// What the first datagram failed with; none has left then.
    pub fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        datagrams: impl Iterator<Item = (&'a [u8], SocketAddr, Option<IpAddr>)>,
    ) -> io::Result<usize> {
        let (names, vectors) = (self.names.as_mut_ptr(), self.vectors.as_mut_ptr());
        let mut count = 0;
        let entries = self.headers.iter_mut().zip(self.controls.iter_mut());
        for ((bytes, peer, from), (entry, control)) in datagrams.zip(entries) {
            // SAFETY: `names` and `vectors` have SEND_BATCH entries, as many as there are headers, so that every offset
            // stays inside; `self` is borrowed uniquely and nothing else refers to this entry.
            unsafe {
                entry.msg_hdr.msg_namelen = write_name(&mut *names.add(count), peer);
                vectors.add(count).write(libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                });
                entry.msg_hdr.msg_name = names.add(count).cast();
                entry.msg_hdr.msg_iov = vectors.add(count);
            }
            entry.msg_hdr.msg_iovlen = 1;
            match from {
                // SAFETY: `control` is this entry's alone, and lives in a box of this struct beyond the call.
                Some(from) => unsafe { local::set(&mut entry.msg_hdr, control, from) },
                None => {
                    entry.msg_hdr.msg_control = ptr::null_mut();
                    entry.msg_hdr.msg_controllen = 0;
                }
            }
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` headers point at names, vectors and control buffers of this struct, the vectors at byte slices
        // that live for `'a`, hence beyond the call; the kernel only reads names, controls and bytes, and writes `msg_len`.
        let sent = retry(|| unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        })?;
        assert!(sent <= count);
        Ok(sent)
    }
}

/// An ICMP error about a datagram that was sent (RFC 1122 §4.1.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounced {
    /// Where the datagram went.
    pub peer: SocketAddr,
    /// How many bytes of the datagram the error quotes.
    pub quoted: usize,
    /// What the error means: `ECONNREFUSED`, `EHOSTUNREACH` …
    pub errno: i32,
}

/// Has the kernel queue ICMP errors for [`next_bounced`]. A send or receive then reports one of them as its own error, once,
/// even if it is about another datagram.
///
/// # Errors
/// What the kernel reports.
pub fn queue_bounced(socket: BorrowedFd<'_>, is_ipv6: bool) -> io::Result<()> {
    let (level, option) = if is_ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
    } else {
        (libc::IPPROTO_IP, libc::IP_RECVERR)
    };
    let on: libc::c_int = 1;
    // SAFETY: the value is an int that lives during the call, and its size is given.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether an entry of the queue says that a datagram cannot arrive. RFC 3261 §18.4: host, network, port or protocol unreachable
/// and parameter problem are failures to send; source quench and TTL exceeded are not.
fn is_failure(origin: u8, kind: u8) -> bool {
    // RFC 792 and RFC 4443 §3.3; source quench (4) has no errno, so that the kernel keeps it to itself.
    const TIME_EXCEEDED: u8 = 11;
    const TIME_EXCEEDED_V6: u8 = 3;
    match origin {
        libc::SO_EE_ORIGIN_ICMP => kind != TIME_EXCEEDED,
        libc::SO_EE_ORIGIN_ICMP6 => kind != TIME_EXCEEDED_V6,
        _ => false,
    }
}

/// Takes the next error from the queue. The start of the datagram that came to nothing is put into `quote`, as much as the
/// error quotes and there is room for; how much of it is true only its contents can show, for anyone can send an ICMP error.
/// `Ok(None)`: an entry that says of no failure.
///
/// # Errors
/// `WouldBlock` if the queue is empty.
pub fn next_bounced(socket: BorrowedFd<'_>, quote: &mut [u8]) -> io::Result<Option<Bounced>> {
    let mut name = zeroed_name();
    // Room for sock_extended_err and an address of either family, for a stamp and the address it was sent to, aligned as
    // control messages have to be.
    let mut control = [0u64; 32];
    let mut vector = libc::iovec {
        iov_base: quote.as_mut_ptr().cast(),
        iov_len: quote.len(),
    };
    let mut header = zeroed_header().msg_hdr;
    header.msg_name = ptr::from_mut(&mut name).cast();
    header.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = &mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(&control);
    // SAFETY: the header points at a name, a vector over `quote` and a control buffer, with their sizes, all alive.
    let quoted = retry(|| unsafe {
        libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) as libc::c_int
    })?;
    let mut errno = None;
    // SAFETY: `header` was filled by recvmsg, so that its control length covers whole control messages in `control`.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&header) };
    while !message.is_null() {
        // SAFETY: not null, so it points at a whole control message header inside `control`.
        let head = unsafe { &*message };
        let is_error = (head.cmsg_level == libc::IPPROTO_IP && head.cmsg_type == libc::IP_RECVERR)
            || (head.cmsg_level == libc::IPPROTO_IPV6 && head.cmsg_type == libc::IPV6_RECVERR);
        // SAFETY: CMSG_LEN computes a number.
        let whole = unsafe { libc::CMSG_LEN(mem::size_of::<libc::sock_extended_err>() as libc::c_uint) } as usize;
        if is_error && head.cmsg_len >= whole {
            // SAFETY: the message is long enough for a sock_extended_err, which is made of integers; read unaligned.
            let error = unsafe {
                libc::CMSG_DATA(message)
                    .cast::<libc::sock_extended_err>()
                    .read_unaligned()
            };
            if is_failure(error.ee_origin, error.ee_type) {
                errno = Some(error.ee_errno as i32);
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR; `message` is one of its messages.
        message = unsafe { libc::CMSG_NXTHDR(&header, message) };
    }
    Ok(errno.zip(read_name(&name)).map(|(errno, peer)| Bounced {
        peer,
        quoted: quoted.min(quote.len()),
        errno,
    }))
}

/// Datagrams the kernel dropped on this socket since it was opened, because its receive buffer was full or the checksum
/// was wrong; wraps at 2^32.
///
/// # Errors
/// The kernel does not know `SO_MEMINFO` (before Linux 4.12).
pub fn kernel_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // linux/sock_diag.h: the ninth of the SK_MEMINFO_VARS numbers is SK_MEMINFO_DROPS.
    const DROPS: usize = 8;
    let mut values = [0u32; 16];
    let mut len = mem::size_of_val(&values) as libc::socklen_t;
    // SAFETY: `values` has `len` bytes for the kernel to write, any bytes are valid numbers, and `len` is its own variable.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &mut len,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    if (len as usize) <= DROPS * mem::size_of::<u32>() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(values[DROPS])
}

/// asm-generic/socket.h; libc names it for few targets only.
const SO_MEMINFO: libc::c_int = 55;

const EMPTY_VECTOR: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

fn zeroed_name() -> libc::sockaddr_storage {
    // SAFETY: a struct of integers; all zeroes is AF_UNSPEC.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn zeroed_header() -> libc::mmsghdr {
    // SAFETY: integers and raw pointers; zero is a valid number and a null pointer.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Calls again when a signal came in between.
fn retry(mut call: impl FnMut() -> libc::c_int) -> io::Result<usize> {
    loop {
        let count = call();
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn write_name(name: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            let v4 = ptr::from_mut(name).cast::<libc::sockaddr_in>();
            // SAFETY: sockaddr_storage is at least as large and as aligned as any socket address, and `name` is ours alone.
            unsafe {
                v4.write(libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(address.ip().octets()),
                    },
                    sin_zero: [0; 8],
                });
            }
            mem::size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            let v6 = ptr::from_mut(name).cast::<libc::sockaddr_in6>();
            // SAFETY: as above.
            unsafe {
                v6.write(libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: address.ip().octets(),
                    },
                    sin6_scope_id: address.scope_id(),
                });
            }
            mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

fn read_name(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which address is in the storage, which is large and aligned enough for each.
            let v4 = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            Some(SocketAddr::V4(SocketAddrV4::new(
                Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()),
                u16::from_be(v4.sin_port),
            )))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            Some(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(v6.sin6_addr.s6_addr),
                u16::from_be(v6.sin6_port),
                v6.sin6_flowinfo,
                v6.sin6_scope_id,
            )))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn addresses_read_back_what_was_written() {
        for text in [
            "127.0.0.1:5060",
            "0.0.0.0:0",
            "255.254.253.252:65535",
            "[::1]:5060",
            "[2001:db8::5]:1",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            let mut name = zeroed_name();
            let len = write_name(&mut name, address) as usize;
            assert!(len <= mem::size_of::<libc::sockaddr_storage>());
            assert_eq!(read_name(&name), Some(address), "{text}");
        }
        let scoped = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 5060, 0, 3));
        let mut name = zeroed_name();
        write_name(&mut name, scoped);
        assert_eq!(read_name(&name), Some(scoped));
        assert_eq!(read_name(&zeroed_name()), None);
    }

    #[test]
    #[cfg(not(miri))]
    fn a_batch_arrives_in_order_with_its_source_and_its_bytes() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let (Ok(from), Ok(to)) = (UdpSocket::bind(loopback), UdpSocket::bind(loopback)) else {
                continue; // no IPv6 on this machine
            };
            let peer = to.local_addr().unwrap();
            let datagrams: Vec<Vec<u8>> = (0..SEND_BATCH + 6).map(|i| vec![i as u8; i * 20]).collect();
            let mut sender = Sender::new();
            let mut sent = 0;
            while sent < datagrams.len() {
                let rest = datagrams[sent..].iter().map(|bytes| (bytes.as_slice(), peer, None));
                sent += sender.send(from.as_fd(), rest).unwrap();
            }
            let mut receiver = Receiver::new();
            let mut received = Vec::new();
            while received.len() < datagrams.len() {
                let count = receiver.receive(to.as_fd()).unwrap();
                for i in 0..count {
                    let (bytes, source) = receiver.datagram(i).unwrap();
                    assert_eq!(source, from.local_addr().unwrap());
                    received.push(bytes.to_vec());
                }
            }
            assert_eq!(received, datagrams);
            let error = receiver.receive(to.as_fd()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn a_datagram_says_where_it_came_to_and_leaves_from_where_it_is_to() {
        let wildcard = UdpSocket::bind("0.0.0.0:0").unwrap();
        local::enable(wildcard.as_fd(), false).unwrap();
        let port = wildcard.local_addr().unwrap().port();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let back = peer.local_addr().unwrap();
        let ips: [IpAddr; 3] = [[127, 0, 0, 1].into(), [127, 0, 0, 9].into(), [127, 77, 1, 2].into()];
        for ip in ips {
            peer.send_to(b"x", (ip, port)).unwrap();
        }
        let mut receiver = Receiver::new();
        assert_eq!(receiver.receive(wildcard.as_fd()).unwrap(), ips.len());
        assert_eq!([0, 1, 2].map(|i| receiver.local(i)), ips.map(Some));
        let mut sender = Sender::new();
        let from = [Some(ips[1]), None, Some(ips[2])];
        let batch = || from.iter().map(|from| (&b"y"[..], back, *from));
        assert_eq!(sender.send(wildcard.as_fd(), batch()).unwrap(), 3);
        for from in from {
            let (_, source) = peer.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(source, SocketAddr::new(from.unwrap_or(ips[0]), port));
        }
        // An address that is not this host's (any more).
        let lost = Some(IpAddr::from([192, 0, 2, 1]));
        assert!(
            sender
                .send(wildcard.as_fd(), std::iter::once((&b"y"[..], back, lost)))
                .is_err()
        );
        assert_eq!(sender.send(wildcard.as_fd(), batch()).unwrap(), 3);
        if let (Ok(wildcard), Ok(peer)) = (UdpSocket::bind("[::]:0"), UdpSocket::bind("[::1]:0")) {
            local::enable(wildcard.as_fd(), true).unwrap();
            let ip = IpAddr::from(Ipv6Addr::LOCALHOST);
            let to = SocketAddr::new(ip, wildcard.local_addr().unwrap().port());
            peer.send_to(b"x", to).unwrap();
            assert_eq!(receiver.receive(wildcard.as_fd()).unwrap(), 1);
            assert_eq!(receiver.local(0), Some(ip));
            let back = (&b"y"[..], peer.local_addr().unwrap(), Some(ip));
            assert_eq!(sender.send(wildcard.as_fd(), std::iter::once(back)).unwrap(), 1);
            assert_eq!(peer.recv_from(&mut [0; 8]).unwrap().1, to);
        }
    }

    #[test]
    fn source_quench_and_an_exceeded_ttl_are_no_failures_to_send() {
        const DESTINATION_UNREACHABLE: u8 = 3;
        const PARAMETER_PROBLEM: u8 = 12;
        let (v4, v6) = (libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6);
        assert!(is_failure(v4, DESTINATION_UNREACHABLE) && is_failure(v4, PARAMETER_PROBLEM));
        assert!(is_failure(v6, 1) && is_failure(v6, 4));
        assert!(!is_failure(v4, 11) && !is_failure(v6, 3));
        assert!(!is_failure(libc::SO_EE_ORIGIN_LOCAL, DESTINATION_UNREACHABLE));
    }

    #[test]
    #[cfg(not(miri))]
    #[expect(clippy::disallowed_methods, reason = "the kernel's stamps are of this clock")]
    fn datagrams_come_with_the_time_of_their_arrival() {
        let (from, to) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let wall = || {
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
        };
        let mut receiver = Receiver::new();
        let mut next = || {
            from.send_to(b"x", to.local_addr().unwrap()).unwrap();
            while let Err(error) = receiver.receive(to.as_fd()) {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                std::thread::yield_now();
            }
            receiver.stamp(0)
        };
        assert_eq!(next(), None);
        stamp::enable(to.as_fd()).unwrap();
        for _ in 0..100 {
            let before = wall();
            // What the kernel has not stamped when it came is stamped when it is received.
            let stamp = next().unwrap();
            assert!(before <= stamp && stamp <= wall(), "{before:?} {stamp:?}");
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn a_datagram_that_cannot_leave_stops_the_batch_in_front_of_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = socket.local_addr().unwrap();
        let too_large = vec![0; 65_508];
        let mut sender = Sender::new();
        let batch = [&b"one"[..], &too_large, b"three"];
        let rest = |from: usize| batch[from..].iter().map(move |bytes| (*bytes, peer, None));
        assert_eq!(sender.send(socket.as_fd(), rest(0)).unwrap(), 1);
        let error = sender.send(socket.as_fd(), rest(1)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(sender.send(socket.as_fd(), rest(2)).unwrap(), 1);
    }

    #[test]
    #[cfg(not(miri))]
    fn a_datagram_to_a_closed_port_bounces_with_its_bytes() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let (Ok(from), Ok(closed)) = (UdpSocket::bind(loopback), UdpSocket::bind(loopback)) else {
                continue; // no IPv6 on this machine
            };
            let peer = closed.local_addr().unwrap();
            drop(closed);
            queue_bounced(from.as_fd(), peer.is_ipv6()).unwrap();
            let mut quote = [0; 64];
            let empty = next_bounced(from.as_fd(), &mut quote).unwrap_err();
            assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
            from.send_to(b"is anyone there?", peer).unwrap();
            // Loopback delivers within the send.
            let bounced = next_bounced(from.as_fd(), &mut quote).unwrap().unwrap();
            assert_eq!((bounced.peer, bounced.errno), (peer, libc::ECONNREFUSED));
            assert_eq!(&quote[..bounced.quoted], b"is anyone there?");
        }
    }

    #[test]
    #[cfg(not(miri))]
    fn the_kernel_says_how_many_datagrams_it_dropped() {
        let to = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        to.set_recv_buffer_size(4096).unwrap();
        to.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let to: UdpSocket = to.into();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            from.send_to(&[0; 1000], to.local_addr().unwrap()).unwrap();
        }
        let mut receiver = Receiver::new();
        let mut received = 0;
        while let Ok(count) = receiver.receive(to.as_fd()) {
            received += count;
        }
        match kernel_drops(to.as_fd()) {
            Ok(drops) => assert_eq!(drops as usize, 100 - received),
            Err(error) => assert!(
                matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
                    || error.raw_os_error() == Some(libc::ENOPROTOOPT)
            ),
        }
    }
}
