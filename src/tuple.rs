//! What names a conversation: a transport, a local address and a remote address.
//! A TCP socket has all of it from the start; a UDP socket learns the remote half anew with every datagram.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The transport protocol of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Connection-oriented byte stream (RFC 9293).
    Tcp,
    /// Connectionless datagrams (RFC 768).
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Which way bytes travel, seen from this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the network to the local end.
    Incoming,
    /// From the local end to the network.
    Outgoing,
}

/// A socket pair: local and remote address of one transport.
///
/// Its `Display` is the symmetric form `tcp LOCAL <-> REMOTE`; [`FourTuple::arrow`] gives the one-way form of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FourTuple {
    /// The transport both addresses belong to.
    pub transport: Transport,
    /// Our address and port.
    pub local: SocketAddr,
    /// The other side's address and port.
    pub remote: SocketAddr,
}

impl FourTuple {
    /// Joins two addresses; an IPv4-mapped IPv6 address is shown as the IPv4 address it stands for (RFC 4291, 2.5.5.2).
    #[must_use]
    pub fn new(transport: Transport, local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            transport,
            local: unmapped(local),
            remote: unmapped(remote),
        }
    }

    /// Whether both ends are on this machine: what is sent to a loopback address, or to oneself, meets no network.
    #[must_use]
    pub fn is_within_machine(&self) -> bool {
        self.remote.ip().is_loopback() || self.remote.ip() == self.local.ip()
    }

    /// The one-way form: `udp LOCAL <- SENDER` or `udp LOCAL -> TARGET`.
    #[must_use]
    pub fn arrow(self, direction: Direction) -> impl fmt::Display {
        let sign = match direction {
            Direction::Incoming => "<-",
            Direction::Outgoing => "->",
        };
        fmt::from_fn(move |f| {
            write!(
                f,
                "{} {} {sign} {}",
                self.transport, self.local, self.remote
            )
        })
    }
}

impl fmt::Display for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} <-> {}", self.transport, self.local, self.remote)
    }
}

/// What a socket is called: a 2-tuple while it has no fixed peer, a 4-tuple once it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A listening or unconnected socket: only its own address and port.
    Socket(Transport, SocketAddr),
    /// A connection, or a connected UDP socket.
    Pair(FourTuple),
}

impl Identity {
    /// The transport of the socket.
    #[must_use]
    pub fn transport(self) -> Transport {
        match self {
            Self::Socket(transport, _) => transport,
            Self::Pair(tuple) => tuple.transport,
        }
    }

    /// Our address and port.
    #[must_use]
    pub fn local(self) -> SocketAddr {
        match self {
            Self::Socket(_, local) => local,
            Self::Pair(tuple) => tuple.local,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(transport, local) => write!(f, "{transport} {local}"),
            Self::Pair(tuple) => tuple.fmt(f),
        }
    }
}

/// The IPv4 form of an IPv4-mapped address, any other address as it is.
#[must_use]
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}
