//! Names of conversations: a transport, a local address and a remote address.
//! A TCP socket has all of it from the start; a UDP socket learns the remote half anew with every datagram.

use std::fmt;
use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// The transport protocol of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Connection-oriented byte stream (RFC 9293).
    Tcp,
    /// Connectionless datagrams (RFC 768).
    Udp,
}

impl Transport {
    /// Returns true for a byte stream, whose two directions each have an end; false for datagrams.
    pub fn is_stream(self) -> bool {
        self == Self::Tcp
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The direction in which bytes travel, seen from this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Direction {
    /// From the network to the local end.
    #[serde(rename = "received")]
    Incoming,
    /// From the local end to the network.
    #[serde(rename = "sent")]
    Outgoing,
}

/// The address of one end of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address and a port (ip(7), ipv6(7)). An IPv4-mapped IPv6 address is held as the IPv4 address it stands for (RFC 4291,
    /// 2.5.5.2).
    Inet(SocketAddr),
    /// The name of a Unix socket (unix(7)): a path, `@` and an abstract name, or nothing for an unnamed socket.
    Unix(Arc<str>),
}

impl Address {
    /// Returns the IP address and port, unless this is a Unix name.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(unmapped(address))
    }
}

impl FromStr for Address {
    type Err = AddrParseError;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "unnamed" => Ok(Self::Unix("".into())),
            name if name.starts_with(['/', '@', '.']) => Ok(Self::Unix(name.into())),
            inet => inet.parse().map(|inet: SocketAddr| inet.into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(name) if name.is_empty() => f.write_str("unnamed"),
            Self::Unix(name) => f.write_str(name),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A socket pair: the local and the remote address of one transport. For TCP it is the 4-tuple of the connection.
///
/// Its `Display` is the symmetric form `tcp LOCAL <-> REMOTE`; [`Flow::arrow`] gives the one-way form of a datagram.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Flow {
    /// The transport both addresses belong to.
    #[serde(rename = "proto")]
    pub transport: Transport,
    /// Our address.
    pub local: Address,
    /// The other side's address.
    pub remote: Address,
}

impl Flow {
    /// Joins two addresses.
    pub fn new(transport: Transport, local: Address, remote: Address) -> Self {
        Self {
            transport,
            local,
            remote,
        }
    }

    /// Returns the one-way form: `udp LOCAL <- SENDER` or `udp LOCAL -> TARGET`.
    pub fn arrow(&self, direction: Direction) -> impl fmt::Display {
        let sign = match direction {
            Direction::Incoming => "<-",
            Direction::Outgoing => "->",
        };
        let (transport, local, remote) = (self.transport, &self.local, &self.remote);
        fmt::from_fn(move |f| write!(f, "{transport} {local} {sign} {remote}"))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} <-> {}", self.transport, self.local, self.remote)
    }
}

/// The name of a socket: its own address while it has no fixed peer, both addresses once it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A listening or unconnected socket: only its own address.
    Socket(Transport, Address),
    /// A connection, or a connected datagram socket.
    Pair(Flow),
}

impl Identity {
    /// Returns the transport of the socket.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Socket(transport, _) => *transport,
            Self::Pair(flow) => flow.transport,
        }
    }

    /// Returns our address.
    pub fn local(&self) -> &Address {
        match self {
            Self::Socket(_, local) => local,
            Self::Pair(flow) => &flow.local,
        }
    }
}

impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Socket(transport, local) => {
                let mut fields = serializer.serialize_map(None)?;
                fields.serialize_entry("proto", transport)?;
                fields.serialize_entry("local", local)?;
                fields.end()
            }
            Self::Pair(flow) => flow.serialize(serializer),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(transport, local) => write!(f, "{transport} {local}"),
            Self::Pair(flow) => flow.fmt(f),
        }
    }
}

/// Returns the IPv4 form of an IPv4-mapped address, any other address as it is.
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => (v4, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}
