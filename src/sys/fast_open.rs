//! TCP Fast Open (RFC 7413): data in the first packet of a connection.
//! One socket option for each side; the listener's takes the number of clients that may wait so.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{setsockopt, sockopt};

/// Lets `socket` put the first data it sends into its SYN, once it has a cookie of the peer's.
///
/// With a cookie, `connect` returns before anything is sent: a connection that says nothing is never made (tcp(7)).
pub fn allow_connecting(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpFastOpenConnect, &true).map_err(io::Error::from)
}

/// Lets `socket`, which is to listen, take data from a SYN; at most `waiting` clients at a time that are not proven yet.
pub fn allow_listening(socket: &impl AsFd, waiting: i32) -> io::Result<()> {
    let value = std::ptr::from_ref(&waiting).cast();
    #[expect(clippy::cast_possible_truncation, reason = "four bytes")]
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` points to a `c_int` that lives through the call, and the length is its own.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN,
            value,
            length,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
