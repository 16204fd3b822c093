//! Handle of a UDP socket: its descriptor, its addresses, and the options that make the kernel report more than bytes and a sender.
//! The addresses are those of getsockname(2) and getpeername(2); the first datagram binds a socket that has none.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use super::addresses::{Pair, in_family};
use crate::exit::describe;
use crate::flow::{Identity, Transport, unmapped};

/// Socket with its addresses.
pub(super) struct Handle {
    pub(super) socket: Socket,
    /// The local address as getsockname(2) gives it, with port 0 before the socket is bound.
    pub(super) bound: SocketAddr,
    /// The remote address of a connected socket.
    pub(super) remote: Option<SocketAddr>,
    pub(super) opened: Instant,
}

impl Handle {
    /// Takes over a socket, connects it to `peer` if there is one, and sets the options of every UDP link.
    pub(super) fn new(socket: Socket, peer: Option<SocketAddr>) -> io::Result<Self> {
        let bound = bound_address(&socket)?;
        if let Some(peer) = peer {
            let connected = socket.connect(&in_family(peer, bound).into());
            connected.map_err(|error| {
                io::Error::new(error.kind(), explain_denial(&socket, peer, &error))
            })?;
        }
        let handle = Self {
            bound: bound_address(&socket)?,
            remote: socket.peer_addr().ok().and_then(|peer| peer.as_socket()),
            socket,
            opened: Instant::now(),
        };
        handle.set_options()?;
        Ok(handle)
    }

    /// Sets `O_NONBLOCK`, and the options that give each datagram both addresses, the count of drops, and the errors that come back
    /// (ip(7), ipv6(7), socket(7)).
    fn set_options(&self) -> io::Result<()> {
        let (socket, is_wildcard) = (&self.socket, self.is_wildcard());
        socket.set_nonblocking(true)?;
        setsockopt(socket, sockopt::RxqOvfl, &1)?;
        // A dual-stack socket gets the errors of its IPv4 peers by the option of IPv4.
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
        match self.bound {
            SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &is_wildcard)?,
            SocketAddr::V6(_) => {
                setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
                setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &is_wildcard)?;
            }
        }
        Ok(())
    }

    /// Asks the kernel to deliver equal datagrams in one piece (`UDP_GRO`, Linux 5.0). An older kernel delivers each by itself.
    pub(super) fn enable_gro(&self) {
        let _ = setsockopt(&self.socket, sockopt::UdpGroSegment, &true);
    }

    /// Returns true if the kernel can segment a run into datagrams (`UDP_SEGMENT`, Linux 4.18). An older one would send the run as
    /// one datagram.
    pub(super) fn has_gso(&self) -> bool {
        getsockopt(&self.socket, sockopt::UdpGsoSegment).is_ok()
    }

    /// Reads the local address again, which the first datagram has changed.
    pub(super) fn note_bound(&mut self) {
        self.bound = bound_address(&self.socket).unwrap_or(self.bound);
    }

    /// Returns true if each datagram has to say which of our addresses it is for.
    pub(super) fn is_wildcard(&self) -> bool {
        unmapped(self.bound).ip().is_unspecified()
    }

    /// Returns true if the sender of a datagram is this socket itself, or claims to be.
    pub(super) fn is_own(&self, pair: Pair) -> bool {
        let (local, remote) = (pair.local.ip(), pair.remote.ip());
        // To an address of this machine, the kernel sends from that same address.
        let is_here = || {
            remote.is_loopback()
                || (self.source_for(pair.remote, None)).is_some_and(|source| source.ip() == remote)
        };
        let is_its = remote == local || self.is_wildcard() && is_here();
        pair.remote.port() == self.bound.port() && is_its
    }

    /// Returns the local address of a datagram with our port, where `local` is what the datagram itself says.
    pub(super) fn local_of(&self, local: Option<SocketAddr>) -> SocketAddr {
        let mut address = local.unwrap_or(self.bound);
        address.set_port(self.bound.port());
        address
    }

    pub(super) fn identity(&self) -> Identity {
        match self.remote {
            Some(remote) => Identity::Pair(Pair::new(self.bound, remote).flow()),
            None => Identity::Socket(Transport::Udp, self.bound.into()),
        }
    }

    /// Returns the address that the kernel chooses to reach `target`, through the interface `via` if that is a group.
    pub(super) fn source_for(&self, target: SocketAddr, via: Option<&str>) -> Option<SocketAddr> {
        let device = self.socket.device().ok().flatten();
        let via = via.filter(|_| target.ip().is_multicast());
        probe(target, device.or_else(|| via.map(Into::into)))
    }
}

fn bound_address(socket: &Socket) -> io::Result<SocketAddr> {
    let bound = socket.local_addr()?.as_socket();
    bound.ok_or_else(|| io::Error::other("not an internet socket"))
}

/// Describes an error of sending to `target`. "Permission denied" is explained if the target is a broadcast address: a route may
/// prohibit it as well.
pub(super) fn explain_denial(socket: &Socket, target: SocketAddr, error: &io::Error) -> String {
    let text = describe(error);
    let may_broadcast = !matches!(socket.broadcast(), Ok(false));
    if error.kind() != io::ErrorKind::PermissionDenied || may_broadcast || target.is_ipv6() {
        return text;
    }
    match probe(target, socket.device().ok().flatten()) {
        Some(_) => format!("{text} (a broadcast address needs --broadcast)"),
        None => text,
    }
}

/// Returns the local address of a socket that is connected to `target` through `device`. Connecting a UDP socket sends nothing
/// (udp(7)).
fn probe(target: SocketAddr, device: Option<Vec<u8>>) -> Option<SocketAddr> {
    let domain = Domain::for_address(target);
    let probe = Socket::new(domain, Type::DGRAM, None).ok()?;
    // Without it, a broadcast address cannot be connected to.
    probe.set_broadcast(true).ok()?;
    if let Some(device) = device {
        probe.bind_device(Some(&device)).ok()?;
    }
    probe.connect(&target.into()).ok()?;
    probe.local_addr().ok()?.as_socket().map(unmapped)
}
