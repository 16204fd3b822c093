//! The socket options that make the kernel tell what it knows of each datagram.
//! Without them a datagram is bytes and a sender; with them it has both addresses, and nothing is lost unnoticed.

use std::io;
use std::net::SocketAddr;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::Name;

/// Sets what every UDP link needs (ip(7), ipv6(7), socket(7)).
pub(super) fn prepare(socket: &socket2::Socket, name: Name) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    setsockopt(socket, sockopt::RxqOvfl, &1)?;
    match name.bound {
        SocketAddr::V4(_) => {
            setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
            setsockopt(socket, sockopt::Ipv4PacketInfo, &name.is_wildcard())?;
        }
        SocketAddr::V6(_) => {
            setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &name.is_wildcard())?;
            // Errors about IPv4 peers of a dual-stack socket are asked for one level below.
            setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
        }
    }
    Ok(())
}

/// Asks for runs of equal datagrams in one piece, where the kernel knows how (Linux 5.0).
pub(super) fn coalesce(socket: &socket2::Socket) {
    // Otherwise each goes on coming by itself, and nothing else changes.
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &true);
}

/// Whether the kernel knows how to cut a run into datagrams (Linux 4.18). One that does not would send it as a single datagram.
pub(super) fn can_cut(socket: &socket2::Socket) -> bool {
    getsockopt(socket, sockopt::UdpGsoSegment).is_ok()
}
