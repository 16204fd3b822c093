//! Names of conversations: a transport, a local address and a remote address.
//! A connection has all of it from the start; a datagram socket learns the remote half anew with every datagram.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::io;
use std::net::{AddrParseError, IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use nix::net::if_::{if_indextoname, if_nametoindex};
use rustix::net::{SocketAddrAny, SocketAddrUnix};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// The transport protocol of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Connection-oriented byte stream (RFC 9293).
    Tcp,
    /// Connectionless datagrams (RFC 768).
    Udp,
    /// Connection-oriented byte stream between processes of one machine (`SOCK_STREAM`, unix(7)).
    Unix,
    /// Connection-oriented packets between them (`SOCK_SEQPACKET`).
    UnixPacket,
    /// Connectionless datagrams between them (`SOCK_DGRAM`).
    UnixDatagram,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Self; 5] = [
        Self::Tcp,
        Self::Udp,
        Self::Unix,
        Self::UnixPacket,
        Self::UnixDatagram,
    ];

    /// Returns true if it has connections, whose two directions each have an end; false for datagrams.
    pub fn has_connections(self) -> bool {
        matches!(self, Self::Tcp | Self::Unix | Self::UnixPacket)
    }

    /// Returns true if each send is one receive, of the same bytes.
    pub fn has_boundaries(self) -> bool {
        matches!(self, Self::Udp | Self::UnixPacket | Self::UnixDatagram)
    }

    /// Returns true for a socket of this machine, whose name is no IP address (unix(7)).
    pub fn is_unix(self) -> bool {
        matches!(self, Self::Unix | Self::UnixPacket | Self::UnixDatagram)
    }

    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::UnixPacket => "unix-seqpacket",
            Self::UnixDatagram => "unix-dgram",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Transport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
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
    /// The process at the other end of a Unix socket.
    Process(Arc<Process>),
}

/// A process at the other end of a Unix socket, as the kernel reports it (`SO_PEERCRED`, `SCM_CREDENTIALS`, unix(7)).
///
/// Its `Display` is `[SOCKET ]pid PID [(PROGRAM) ]uid UID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Process {
    /// The name of its socket; empty if it has none.
    #[serde(skip)]
    pub socket: Arc<str>,
    /// Its number; 0 if its PID namespace is hidden from this process (`pid_namespaces(7)`).
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group. It is not shown.
    pub gid: u32,
    /// The name of its program, if /proc shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Number that tells the connections of one process apart: the inode of our socket. It is not shown.
    #[serde(skip)]
    pub inode: u64,
}

impl Process {
    /// Reads what `Display` writes.
    fn read(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let (socket, words) = match words.as_slice() {
            ["pid", ..] => ("", words.as_slice()),
            [socket, words @ ..] => (*socket, words),
            [] => return None,
        };
        let (pid, program, uid) = match words {
            ["pid", pid, "uid", uid] => (pid, None, uid),
            ["pid", pid, program, "uid", uid] => {
                let program = program.strip_prefix('(')?.strip_suffix(')')?;
                (pid, Some(program.to_owned()), uid)
            }
            _ => return None,
        };
        Some(Self {
            socket: socket.into(),
            pid: pid.parse().ok()?,
            uid: uid.parse().ok()?,
            program,
            ..Self::default()
        })
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.socket.is_empty() {
            write!(f, "{} ", self.socket)?;
        }
        write!(f, "pid {} ", self.pid)?;
        if let Some(program) = &self.program {
            write!(f, "({program}) ")?;
        }
        write!(f, "uid {}", self.uid)
    }
}

/// Returns a name from outside as one word: blanks, controls, backslashes and bytes that are no UTF-8 become `\xHH`.
pub fn one_word(bytes: &[u8]) -> String {
    let mut word = String::with_capacity(bytes.len());
    // Writing to memory does not fail.
    let escape = |bytes: &[u8], word: &mut String| {
        for byte in bytes {
            let _ = write!(word, "\\x{byte:02x}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_whitespace() || letter.is_control() || letter == '\\' {
                escape(letter.encode_utf8(&mut [0; 4]).as_bytes(), &mut word);
            } else {
                word.push(letter);
            }
        }
        escape(chunk.invalid(), &mut word);
    }
    word
}

impl Address {
    /// Returns the IP address and port, if it has them.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) | Self::Process(_) => None,
        }
    }

    /// Returns the name of a Unix socket from its path, or from a zero byte and its abstract name (unix(7)). A name of nothing is
    /// that of an unnamed socket, and a relative path begins with `./`.
    pub fn unix(name: &[u8]) -> Self {
        let word = match name {
            [0, name @ ..] => format!("@{}", one_word(name)),
            [] | [b'/' | b'.', ..] => one_word(name),
            _ => format!("./{}", one_word(name)),
        };
        Self::Unix(word.into())
    }

    /// Returns the name of the socket alone, without its process.
    fn socket(&self) -> impl fmt::Display {
        fmt::from_fn(move |f| match self {
            Self::Process(process) if process.socket.is_empty() => f.write_str("unnamed"),
            Self::Process(process) => f.write_str(&process.socket),
            address => fmt::Display::fmt(address, f),
        })
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(unmapped(address))
    }
}

impl TryFrom<SocketAddrAny> for Address {
    type Error = io::Error;

    /// Takes an address from the kernel: of the internet, or of a Unix socket.
    fn try_from(address: SocketAddrAny) -> io::Result<Self> {
        if let Ok(unix) = SocketAddrUnix::try_from(address.clone()) {
            return Ok(Self::unix(&unix_name(&unix)));
        }
        Ok(SocketAddr::try_from(address)?.into())
    }
}

/// Returns the bytes of a name: a path, a zero byte and an abstract name, or nothing.
pub fn unix_name(address: &SocketAddrUnix) -> Vec<u8> {
    // An unnamed socket has an abstract name of nothing there.
    let hidden = address.abstract_name().filter(|name| !name.is_empty());
    let hidden = hidden.map(|name| [&[0], name].concat());
    let path = || address.path_bytes().map(<[u8]>::to_vec);
    hidden.or_else(path).unwrap_or_default()
}

impl FromStr for Address {
    type Err = AddrParseError;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(process) = Process::read(text) {
            return Ok(Self::Process(process.into()));
        }
        match text {
            "unnamed" => Ok(Self::Unix("".into())),
            name if name.starts_with(['/', '@', '.']) => Ok(Self::Unix(name.into())),
            inet => numbered(inet).parse().map(|inet: SocketAddr| inet.into()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
                let zone = interface_name(v6.scope_id());
                let zone = zone.unwrap_or_else(|| v6.scope_id().to_string());
                write!(f, "[{}%{zone}]:{}", v6.ip(), v6.port())
            }
            Self::Inet(address) => address.fmt(f),
            Self::Unix(name) if name.is_empty() => f.write_str("unnamed"),
            Self::Unix(name) => f.write_str(name),
            Self::Process(process) => process.fmt(f),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.socket())
    }
}

/// A socket pair: the local and the remote address of one transport. For TCP it is the 4-tuple of the connection.
///
/// Its `Display` is the symmetric form `tcp LOCAL <-> REMOTE`; [`Flow::arrow`] gives the one-way form of a datagram.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The transport both addresses belong to.
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

impl Serialize for Flow {
    /// Writes the process at the other end as fields of its own.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("proto", &self.transport)?;
        fields.serialize_entry("local", &self.local)?;
        fields.serialize_entry("remote", &self.remote)?;
        if let Address::Process(process) = &self.remote {
            fields.serialize_entry("process", &**process)?;
        }
        fields.end()
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} <-> {}", self.transport, self.local, self.remote)
    }
}

/// One of the two connections of a relayed pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Leg {
    /// The one that a listener has accepted.
    Client,
    /// The one towards the target.
    Target,
}

impl Leg {
    /// Returns the other leg of the pair.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Target,
            Self::Target => Self::Client,
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Target => "target",
        })
    }
}

/// The number of a connection among those of one listener. The legs of a relayed pair have the same.
///
/// Its `Display` is `#3`, or `#3 client` and `#3 target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ConnId {
    /// The number, from 1.
    #[serde(rename = "conn")]
    pub number: u64,
    /// The leg, if the connection is relayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leg: Option<Leg>,
}

impl From<u64> for ConnId {
    /// Returns the number of a connection that is not relayed.
    fn from(number: u64) -> Self {
        Self { number, leg: None }
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.number)?;
        self.leg.map_or(Ok(()), |leg| write!(f, " {leg}"))
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

/// Returns the text of an address with the number of its interface in place of the name, which may be that of another machine.
fn numbered(text: &str) -> Cow<'_, str> {
    let Some((ip, (zone, port))) =
        (text.split_once('%')).and_then(|(ip, rest)| Some((ip, rest.split_once(']')?)))
    else {
        return text.into();
    };
    let index = interface_index(zone).unwrap_or_else(|_| zone.parse().unwrap_or(0));
    format!("{ip}%{index}]{port}").into()
}

/// Returns the index of an interface, which `zone` names or is.
pub fn interface_index(zone: &str) -> io::Result<u32> {
    match (if_nametoindex(zone), zone.parse()) {
        (Err(_), Ok(index)) if interface_name(index).is_some() => Ok(index),
        (index, _) => Ok(index?),
    }
}

/// Returns the name of the interface with this index. The function of nix returns an empty one where there is none.
pub fn interface_name(index: u32) -> Option<String> {
    let name = if_indextoname(index).ok()?.into_string().ok()?;
    Some(name).filter(|name| !name.is_empty())
}

/// Returns the IPv4 form of an IPv4-mapped address, any other address as it is.
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => (v4, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_zone_is_shown_by_name_and_read_in_both_forms() {
        let v6 = |zone| SocketAddrV6::new(Ipv6Addr::LOCALHOST, 9, 0, zone);
        let lo = interface_index("lo").unwrap();
        for (zone, shown) in [
            (lo, "[::1%lo]:9"),
            (987_654, "[::1%987654]:9"),
            (0, "[::1]:9"),
        ] {
            let address = Address::Inet(v6(zone).into());
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
        for (text, zone) in [
            (format!("[::1%{lo}]:9"), lo),
            ("[::1%of-another]:9".to_owned(), 0),
        ] {
            assert_eq!(text.parse(), Ok(Address::Inet(v6(zone).into())));
        }
    }

    #[test]
    fn a_name_is_one_word_and_reads_back() {
        for (name, shown) in [
            (&b"/run/a b"[..], r"/run/a\x20b"),
            (b"\0name\0\xff", r"@name\x00\xff"),
            (b"#1", "./#1"),
            (b"", "unnamed"),
            ("/tmp/ü\n".as_bytes(), r"/tmp/ü\x0a"),
        ] {
            let address = Address::unix(name);
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn a_process_reads_back_with_and_without_a_name() {
        for text in [
            "pid 4711 (curl) uid 1000",
            "/run/x pid 1 uid 0",
            "@00001 pid 7 (a) uid 65534",
        ] {
            let address: Address = text.parse().unwrap();
            assert!(matches!(address, Address::Process(_)), "{text}");
            assert_eq!(address.to_string(), text);
        }
        assert!("pid x uid 0".parse::<Address>().is_err());
    }
}
