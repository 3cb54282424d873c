//! When the kernel took in what we receive: stamps of its wall clock as control messages (`SO_TIMESTAMPNS`).
//!
//! Asked of the kernel they cost it a reading of its clock for each packet, and a copy of 32 bytes for each datagram.

#![expect(unsafe_code, reason = "control messages are read through raw pointers")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Room for a stamp and, behind it, for the address that a datagram came to, aligned as control messages have to be. What has no room
/// would be cut, and read as none.
pub type Control = [u64; 10];

/// Has the kernel stamp what comes in.
///
/// # Errors
/// What the kernel reports.
pub fn enable(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is an int that lives during the call, and its size is given.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
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

/// The stamp among the control messages of a received message, since the Unix epoch; `None`: there is none.
///
/// # Safety
/// `header` was filled by the kernel, and its control buffer is alive and not written to since.
pub unsafe fn of(header: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the caller's promise: the control length covers whole control messages.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    if first.is_null() {
        return None;
    }
    // SAFETY: not null, so it points at a whole control message header.
    let head = unsafe { &*first };
    // SAFETY: CMSG_LEN computes a number.
    let whole = unsafe { libc::CMSG_LEN(mem::size_of::<libc::timespec>() as libc::c_uint) } as usize;
    let is_stamp = head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_TIMESTAMPNS;
    if !is_stamp || (head.cmsg_len as usize) < whole {
        return None;
    }
    // SAFETY: the message is long enough for a timespec, which is made of integers; read unaligned.
    let time = unsafe { libc::CMSG_DATA(first).cast::<libc::timespec>().read_unaligned() };
    Some(Duration::new(
        u64::try_from(time.tv_sec).ok()?,
        u32::try_from(time.tv_nsec)
            .ok()
            .filter(|nanos| *nanos < 1_000_000_000)?,
    ))
}

/// Reads from a stream, with the stamp of the last byte read.
///
/// # Errors
/// As `read`.
pub fn read(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Option<Duration>)> {
    let mut control = Control::default();
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: integers and raw pointers; zero is a valid number and a null pointer.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = mem::size_of_val(&control) as _;
    // SAFETY: the header points at one vector over `bytes` and a control buffer, with their sizes, all alive.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_DONTWAIT) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled the header just now, and `control` is as it left it.
    Ok((count, unsafe { of(&header) }))
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the kernel's stamps are of this clock")]
    fn bytes_of_a_stream_come_with_the_time_of_the_last() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut from = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (to, _) = listener.accept().unwrap();
        to.set_nonblocking(true).unwrap();
        let wall = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        enable(to.as_fd()).unwrap();
        let mut bytes = [0; 16];
        // The kernel takes a moment to begin with it; what comes before has no stamp.
        let stamped = (0..1_000_000).find_map(|_| {
            let before = wall();
            from.write_all(b"one").unwrap();
            from.write_all(b"two").unwrap();
            let (mut taken, mut last) = (Vec::new(), None);
            while taken.len() < 6 {
                match read(to.as_fd(), &mut bytes) {
                    Ok((count, stamp)) => {
                        taken.extend_from_slice(&bytes[..count]);
                        last = stamp;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(taken, b"onetwo");
            Some((before, last?))
        });
        let (before, stamp) = stamped.expect("a stamp");
        assert!(before <= stamp && stamp <= wall(), "{before:?} {stamp:?}");
        let empty = read(to.as_fd(), &mut bytes).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        drop(from);
        let end = loop {
            match read(to.as_fd(), &mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                end => break end,
            }
        };
        assert_eq!(end.unwrap(), (0, None));
    }
}
