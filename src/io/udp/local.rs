//! To which address of this host a datagram came, and from which one leaves, where a socket is bound to all of them: control
//! messages with `in_pktinfo` (ip(7)) and `in6_pktinfo` (RFC 3542 §6).

#![expect(unsafe_code, reason = "control messages are read and written through raw pointers")]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Room for one control message of either family, aligned as it has to be.
pub type Control = [u64; 6];

/// Has the kernel say of each datagram to which address it came.
///
/// # Errors
/// What the kernel reports.
pub fn enable(socket: BorrowedFd<'_>, is_ipv6: bool) -> io::Result<()> {
    let (level, option) = if is_ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    let on: libc::c_int = 1;
    // SAFETY: the value is an int that lives during the call, and its size is given.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The address of this host that a datagram came to; `None`: the kernel does not say, or it is one that means nothing without its
/// interface.
///
/// # Safety
/// `header` was filled by the kernel, and its control buffer is alive and not written to since.
pub unsafe fn of(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the caller's promise: the control length covers whole control messages.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, so it points at a whole control message header.
        let head = unsafe { &*message };
        // SAFETY: CMSG_LEN computes a number.
        let whole = |size: usize| unsafe { libc::CMSG_LEN(size as libc::c_uint) } as usize;
        match (head.cmsg_level, head.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO)
                if head.cmsg_len as usize >= whole(mem::size_of::<libc::in_pktinfo>()) =>
            {
                // SAFETY: the message is long enough for an in_pktinfo, which is made of integers; read unaligned.
                let info = unsafe { libc::CMSG_DATA(message).cast::<libc::in_pktinfo>().read_unaligned() };
                return Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                if head.cmsg_len as usize >= whole(mem::size_of::<libc::in6_pktinfo>()) =>
            {
                // SAFETY: likewise.
                let info = unsafe { libc::CMSG_DATA(message).cast::<libc::in6_pktinfo>().read_unaligned() };
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                return (!ip.is_unicast_link_local() && !ip.is_multicast()).then_some(ip.into());
            }
            _ => {}
        }
        // SAFETY: as for CMSG_FIRSTHDR; `message` is one of its messages.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// Has a datagram leave from this address: `control` becomes the control buffer of its header.
///
/// # Safety
/// `control` lives, and is not touched by anyone else, until the kernel has read the header.
pub unsafe fn set(header: &mut libc::msghdr, control: &mut Control, from: IpAddr) {
    *control = Control::default();
    header.msg_control = control.as_mut_ptr().cast();
    // All that the messages may be written into, for CMSG_FIRSTHDR; set to what is used below.
    header.msg_controllen = mem::size_of::<Control>() as _;
    match from {
        IpAddr::V4(ip) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(ip.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            // SAFETY: `header` points at `control`, as `put` wants it.
            unsafe { put(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info) }
        }
        IpAddr::V6(ip) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                ipi6_ifindex: 0,
            };
            // SAFETY: likewise.
            unsafe { put(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info) }
        }
    }
}

/// Writes the one control message of a header.
///
/// # Safety
/// The control buffer of `header` is a [`Control`] that nothing else refers to.
unsafe fn put<T>(header: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, info: T) {
    // SAFETY: CMSG_LEN and CMSG_SPACE compute numbers.
    let (length, space) = unsafe {
        let size = mem::size_of::<T>() as libc::c_uint;
        (libc::CMSG_LEN(size), libc::CMSG_SPACE(size))
    };
    assert!(space as usize <= mem::size_of::<Control>());
    // SAFETY: the buffer is aligned for a control message header and has room for it and for `info` behind it.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = length as _;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(info);
    }
    header.msg_controllen = space as _;
}
