//! TCP Fast Open (RFC 7413): data in the first packet of a connection.
//! One socket option for each side; the listener's takes the number of clients that may wait so.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

use super::sockopt::set;

/// Lets `socket` put the first data it sends into its SYN, once it has a cookie of the peer's.
///
/// With a cookie, `connect` returns before anything is sent: a connection that says nothing is never made (tcp(7)).
pub fn allow_connecting(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpFastOpenConnect, &true).map_err(io::Error::from)
}

/// Lets `socket`, which is to listen, take data from a SYN; at most `waiting` clients at a time that are not proven yet.
pub fn allow_listening(socket: &impl AsFd, waiting: i32) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, &waiting)
}
