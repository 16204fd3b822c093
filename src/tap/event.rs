//! What observers are told: every event of a run, with what identifies the socket it is about.
//! Links and modes say what happened in plain data; how it reads, and where it goes, is for each tap to decide.

use std::net::IpAddr;
use std::process::ExitStatus;
use std::time::Duration;

use super::{Count, SocketState};
use crate::batch::Shape;
use crate::exit::{Exit, Failure};
use crate::flow::{Address, Direction, Flow, Identity, Transport};

/// Something that happened, with what identifies the socket it happened to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A call of the sockets API was made that no other event stands for.
    Called(Call),
    /// A socket listens for connections.
    Listening {
        /// The listening socket.
        socket: &'a Identity,
        /// Who can reach it.
        reach: Reach,
    },
    /// A socket receives datagrams.
    Bound {
        /// The bound socket.
        socket: &'a Identity,
        /// Who can reach it.
        reach: Reach,
    },
    /// An attempt to connect begins.
    Connecting {
        /// Where to.
        remote: &'a Address,
    },
    /// One attempt to connect has failed; others may go on.
    ConnectFailed {
        /// Where to.
        remote: &'a Address,
        /// Why.
        error: &'a std::io::Error,
        /// How long it took.
        after: Duration,
    },
    /// What connecting is for has failed, and will be tried again.
    Retrying {
        /// The failure.
        failure: &'a Failure,
        /// For how long it will be tried at the most.
        left: Duration,
    },
    /// Whether somebody listens at a port was found out.
    Probed {
        /// The connection, which is closed again, and how long it took; or why there was none.
        outcome: Result<(&'a Flow, Duration), &'a Failure>,
    },
    /// A connection is made from this side.
    Connected {
        /// The new connection.
        flow: &'a Flow,
        /// How long it took.
        after: Duration,
    },
    /// A client's connection got its own new socket.
    Accepted {
        /// The new connection.
        flow: &'a Flow,
        /// Its number.
        conn: u64,
    },
    /// Bytes moved.
    Data(Data<'a>),
    /// This side has sent its FIN: nothing more will be sent, receiving goes on.
    HalfClosed {
        /// The connection.
        flow: &'a Flow,
        /// Its number.
        conn: Option<u64>,
    },
    /// The peer has sent its FIN: nothing more will come, sending goes on.
    PeerFinished {
        /// The connection.
        flow: &'a Flow,
        /// Its number.
        conn: Option<u64>,
    },
    /// The connection broke: RST, or the network gave up.
    Broken {
        /// The connection.
        flow: &'a Flow,
        /// Its number.
        conn: Option<u64>,
        /// Why.
        error: &'a std::io::Error,
    },
    /// An ICMP error came back for a datagram.
    Unreachable {
        /// From our socket to the address the datagram had been sent to.
        flow: &'a Flow,
        /// What the error says, such as "port unreachable".
        reason: &'a str,
        /// Who sent the error, where it was not the target itself.
        offender: Option<IpAddr>,
    },
    /// A datagram from somebody else than the peer was not passed on.
    Ignored {
        /// The sender.
        flow: &'a Flow,
        /// Its size in bytes.
        len: usize,
    },
    /// A peer that the rules deny was turned away: its connection was closed, or its datagrams were not passed on.
    Rejected {
        /// From our socket to the peer.
        flow: &'a Flow,
        /// How many datagrams; 0 for a connection.
        datagrams: usize,
    },
    /// A peer that was idle longest is no longer remembered, for the table is full.
    Forgotten {
        /// The peer.
        flow: &'a Flow,
    },
    /// A datagram was longer than the buffer.
    Truncated {
        /// The sender.
        flow: &'a Flow,
        /// Its real size in bytes.
        from: usize,
        /// The bytes that were kept.
        to: usize,
    },
    /// The kernel dropped datagrams because the socket's buffer was full.
    Dropped {
        /// The socket.
        socket: &'a Identity,
        /// How many since the last such event.
        count: u64,
        /// Whether there may have been more: datagrams that come coalesced are dropped as one.
        or_more: bool,
    },
    /// What the run waits for is not there for long: the other side's end, or what the system has run out of.
    Waiting {
        /// The link that it is about.
        socket: &'a Identity,
        /// What is waited for, how long, and how to change it.
        text: String,
    },
    /// The kernel has granted less than was asked for.
    Granted {
        /// Which option, how much, and why.
        text: &'a str,
    },
    /// A transfer with an agreed end is over, as far as this side knows of it.
    Transferred {
        /// The socket.
        socket: &'a Identity,
        /// The addresses of all datagrams, where they were always the same.
        flow: Option<&'a Flow>,
        /// Whether the datagrams came or went.
        direction: Direction,
        /// The datagrams but that which stands for the end.
        count: Count,
        /// Whether the end came, or was sent.
        has_end: bool,
        /// Datagrams that were dropped or truncated here; or errors that came back for sent ones.
        lost: u64,
        /// Whether more may have been lost than is known here.
        or_more: bool,
    },
    /// What went to and from each peer of a socket that is about to be closed, the one idle longest first.
    Peers(&'a [SocketState]),
    /// A child that talked with a peer has ended.
    Exited {
        /// The connection, or the addresses of the datagram that it was started for.
        flow: &'a Flow,
        /// Its number.
        conn: Option<u64>,
        /// The child's process number.
        pid: u32,
        /// The name of the program.
        program: &'a str,
        /// How it ended.
        status: ExitStatus,
    },
    /// A link is closed.
    Closed(&'a SocketState),
    /// The table of sockets, asked for with SIGUSR1.
    Sockets(&'a [SocketState]),
    /// The run has failed.
    Failed(&'a Failure),
    /// The run is over; nothing comes after this.
    Ended {
        /// The status of the program.
        exit: Exit,
        /// How long it has run.
        lasted: Duration,
    },
}

/// Bytes that moved at once: part of a stream, or datagrams of one size.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// Whether they came or went.
    pub direction: Direction,
    /// The connection, or the addresses of the datagrams.
    pub flow: &'a Flow,
    /// Number of the connection, where it has one.
    pub conn: Option<u64>,
    /// How many bytes; 0 is one empty datagram.
    pub len: usize,
    /// Where their borders are.
    pub shape: Shape,
    /// The bytes, unless the kernel moved them without showing them.
    pub bytes: Option<&'a [u8]>,
}

impl<'a> Data<'a> {
    /// How many datagrams they are; a piece of a stream counts as one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shape.count(self.len)
    }

    /// The bytes of each datagram, or of the piece of a stream; nothing if they were not shown.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let shape = self.shape;
        self.bytes.into_iter().flat_map(move |mut bytes| {
            shape.sizes(bytes.len()).map(move |size| {
                let (piece, rest) = bytes.split_at(size);
                bytes = rest;
                piece
            })
        })
    }
}

/// A call of the sockets API, and what the socket is called after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// socket(2): a socket that has no name yet, for addresses like this one.
    Socket(Transport, Address),
    /// bind(2): the socket has its own address and port.
    Bind(Identity),
    /// listen(2), with the backlog asked for.
    Listen(Identity, i32),
    /// connect(2) without a connection: the socket has one peer, and nothing is sent.
    Connect(Identity),
    /// recvfrom(2), for replies: nothing more is sent.
    AwaitReplies(Identity),
    /// close(2) of a listening socket: no more clients; connections stay.
    Close(Identity),
}

/// Who can reach a bound socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// Only this machine.
    Loopback,
    /// Whoever can route to that one address.
    Address,
    /// Every interface, IPv4 only.
    EveryIpv4,
    /// Every interface, IPv6 only.
    EveryIpv6,
    /// Every interface, IPv4 and IPv6 on one socket.
    DualStack,
}
