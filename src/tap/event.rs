//! The events of a run, each with the name of the socket that it is about, and their form as JSON (tuplecat-events(5)).
//! An event is plain data: its words, and where they go, are the business of each tap.

use std::io;
use std::net::IpAddr;
use std::process::ExitStatus;
use std::time::Duration;

use serde::Serialize;

use super::json::{end_of_child, failure_text, reason};
use super::{Count, SocketState};
use crate::batch::Shape;
use crate::escape::seconds;
use crate::exit::{Exit, Failure};
use crate::flow::{Address, ConnId, Direction, Flow, Identity, Transport};

/// A change of a socket, a connection, a child process or the run.
///
/// A variant that is not serialised has no JSON form, or one that [`Events`](super::json::Events) composes.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// A call of the sockets API without an event of its own.
    #[serde(skip)]
    Called(Call),
    /// A socket that listens for connections.
    Listening {
        /// The listening socket.
        #[serde(flatten)]
        socket: &'a Identity,
        /// The machines that can reach it.
        reach: Reach,
    },
    /// A socket that receives datagrams.
    Bound {
        /// The bound socket.
        #[serde(flatten)]
        socket: &'a Identity,
        /// The machines that can reach it.
        reach: Reach,
    },
    /// The begin of an attempt to connect.
    Connecting(Target),
    /// A failed attempt to connect. Other attempts may go on.
    ConnectFailed {
        /// The address that was tried.
        #[serde(flatten)]
        target: Target,
        /// The reason.
        #[serde(serialize_with = "reason")]
        error: &'a io::Error,
        /// The duration of the attempt.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        after: Duration,
    },
    /// A failure after which the run tries again.
    Retrying {
        /// The failure.
        #[serde(rename = "error", serialize_with = "failure_text")]
        failure: &'a Failure,
        /// The time that is left for further attempts.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        left: Duration,
    },
    /// A probed port that is open. Its connection is closed again.
    Open {
        /// The connection.
        #[serde(flatten)]
        flow: &'a Flow,
        /// The time it took to connect.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        after: Duration,
        /// The target, if the connection is one to a proxy.
        #[serde(flatten)]
        via: Option<&'a Via>,
    },
    /// A probed port that is not open.
    #[serde(skip)]
    ProbeFailed(&'a Failure),
    /// A connection made from this side.
    Connected {
        /// The connection.
        #[serde(flatten)]
        flow: &'a Flow,
        /// The time it took to connect.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        after: Duration,
        /// The target, if the connection is one to a proxy.
        #[serde(flatten)]
        via: Option<&'a Via>,
    },
    /// A client's connection, on its own new socket.
    Accepted(Conversation<'a>),
    /// A connection to the target, to which a client's connection is joined.
    Relayed {
        /// The connection of the client.
        client: Conversation<'a>,
        /// The connection to the target.
        #[serde(flatten)]
        target: Conversation<'a>,
        /// The time it took to connect.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        after: Duration,
        /// The target, if the connection is one to a proxy.
        #[serde(flatten)]
        via: Option<&'a Via>,
    },
    /// A client that cannot be relayed: there is no connection to the target.
    NotRelayed {
        /// The connection of the client.
        #[serde(flatten)]
        client: Conversation<'a>,
        /// The reason.
        #[serde(rename = "error", serialize_with = "failure_text")]
        failure: &'a Failure,
    },
    /// A connection that came after the end of an input that others have got. Only the first one is reported.
    NoInput {
        /// The connection.
        #[serde(flatten)]
        name: Conversation<'a>,
        /// The input.
        text: &'a str,
    },
    /// Bytes that moved.
    #[serde(skip)]
    Data(Data<'a>),
    /// The FIN of this side. Receiving goes on.
    HalfClosed(Conversation<'a>),
    /// The FIN of the peer. Sending goes on.
    PeerFinished(Conversation<'a>),
    /// An ICMP error for a datagram.
    Unreachable(IcmpError<'a>),
    /// A datagram that was discarded because its sender is not the peer.
    Ignored {
        /// Our socket and the sender.
        #[serde(flatten)]
        flow: &'a Flow,
        /// The size of the datagram.
        bytes: usize,
    },
    /// A connection that was closed, or datagrams that were discarded, because the access rules or the limit exclude the peer, or
    /// because a relay cannot pass them on.
    Rejected {
        /// Our socket and the peer.
        #[serde(flatten)]
        flow: &'a Flow,
        /// The number of datagrams; nothing for a connection.
        #[serde(skip_serializing_if = "Option::is_none")]
        datagrams: Option<usize>,
        /// The reason.
        reason: Rejection,
    },
    /// A peer that left the full table of peers, because it was idle longest.
    Forgotten(&'a Flow),
    /// A datagram longer than the buffer.
    Truncated {
        /// Our socket and the sender.
        #[serde(flatten)]
        flow: &'a Flow,
        /// The bytes that were kept.
        bytes: usize,
        /// The size of the datagram in bytes.
        size: usize,
    },
    /// An answer that is longer than a datagram may be, and was not sent.
    Oversized {
        /// Our socket and the peer.
        #[serde(flatten)]
        flow: &'a Flow,
        /// The size of the answer.
        bytes: usize,
        /// The most bytes of a datagram.
        limit: usize,
        /// The number of such answers so far. It is reported each time that it has doubled.
        datagrams: u64,
    },
    /// Datagrams that the kernel dropped, because the receive buffer was full.
    Dropped(KernelDrop<'a>),
    /// A wait for the other side, or for a resource that the system has run out of.
    Waiting {
        /// The socket that waits.
        #[serde(flatten)]
        socket: &'a Identity,
        /// The reason, the time limit, and the option that changes it.
        text: String,
    },
    /// Reports that were left out because nobody read them.
    Omitted {
        /// The number of lines or events.
        reports: u64,
    },
    /// The file of a Unix socket that was no more, replaced by that of this socket.
    Replaced {
        /// The socket.
        #[serde(flatten)]
        socket: &'a Identity,
    },
    /// A value below the one that an option asks for, because of a limit of the system.
    Capped {
        /// The option, the value and the limit.
        text: &'a str,
    },
    /// The end of a transfer with `--eof-datagram`, as far as this side knows of it.
    Transferred(Transfer<'a>),
    /// The peers of a socket that is about to be closed, the one idle longest first.
    #[serde(skip)]
    Peers(&'a [SocketState]),
    /// A child process that has ended.
    Exited(ChildEnd<'a>),
    /// A closed socket.
    Closed(&'a SocketState),
    /// The table of sockets that SIGUSR1 asks for.
    #[serde(skip)]
    Sockets(&'a [SocketState]),
    /// The failure of the run.
    #[serde(rename = "error")]
    Failed(&'a Failure),
    /// The end of the run, and the last event.
    #[serde(rename = "summary")]
    Ended {
        /// The exit status.
        #[serde(rename = "status")]
        exit: Exit,
        /// The duration of the run.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        lasted: Duration,
    },
    /// The break of a connection: by a RST, or because the network gave up. Its name as JSON depends on the error.
    #[serde(untagged)]
    Broken {
        /// The connection, or the datagram.
        #[serde(flatten)]
        name: Conversation<'a>,
        /// The reason.
        #[serde(serialize_with = "reason")]
        error: &'a io::Error,
        /// The call that has reported it, and its own error; nothing where this program ends the connection.
        #[serde(skip)]
        call: Option<(FailedCall, &'a io::Error)>,
    },
}

/// A call of the sockets API that reports the break of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedCall {
    /// recv(2).
    Recv,
    /// send(2).
    Send,
    /// shutdown(2).
    Shutdown,
    /// getsockopt(2): it succeeds, and the pending error of the socket (`SO_ERROR`, socket(7)) is the reason.
    PendingError,
}

/// The address of an attempt to connect.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// The transport of the socket.
    #[serde(rename = "proto")]
    pub transport: Transport,
    /// The address.
    pub remote: Address,
}

/// The target to which a proxy has connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Via {
    /// Its host and port, as the proxy gets them.
    pub target: String,
    /// The protocol of the proxy.
    pub proxy: &'static str,
    /// The address of the proxy.
    #[serde(skip)]
    pub remote: Address,
}

/// A connection, or the addresses of a datagram, with its number.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Conversation<'a> {
    /// Our address and the peer's.
    #[serde(flatten)]
    pub flow: &'a Flow,
    /// The number, if it has one.
    #[serde(flatten)]
    pub conn: Option<ConnId>,
}

/// Bytes that moved together: a chunk of a stream, or datagrams of one size.
#[derive(Clone, Copy, Debug)]
pub struct Data<'a> {
    /// Their direction.
    pub direction: Direction,
    /// The connection, or the addresses of the datagrams.
    pub flow: &'a Flow,
    /// The number of the connection, if it has one.
    pub conn: Option<ConnId>,
    /// The number of bytes; 0 is one empty datagram.
    pub len: usize,
    /// The boundaries between datagrams.
    pub shape: Shape,
    /// The bytes, unless the kernel moved them unseen.
    pub bytes: Option<&'a [u8]>,
}

impl<'a> Data<'a> {
    /// Returns the name of the connection or the datagrams.
    pub(super) fn name(&self) -> Conversation<'a> {
        let &Self { flow, conn, .. } = self;
        Conversation { flow, conn }
    }

    /// Returns the number of datagrams; a chunk of a stream counts as one.
    pub fn count(&self) -> usize {
        self.shape.count(self.len)
    }

    /// Returns the bytes of each datagram, or of the chunk of a stream; nothing if the kernel moved them unseen.
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

/// An ICMP error for a datagram that this side has sent.
#[derive(Debug, Serialize)]
pub struct IcmpError<'a> {
    /// Our socket and the target of the datagram.
    #[serde(flatten)]
    pub flow: &'a Flow,
    /// The text of the error, such as "port unreachable".
    pub reason: &'a str,
    /// The number of datagrams that are lost by it; 0 if they are sent again.
    pub datagrams: u64,
    /// The sender of the error, unless that is the target itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported_by: Option<IpAddr>,
}

impl<'a> IcmpError<'a> {
    /// Makes the report of datagrams that fail without an error of the network: they are not sent.
    pub fn unsent(flow: &'a Flow, reason: &'a str, datagrams: u64) -> Self {
        Self {
            flow,
            reason,
            datagrams,
            reported_by: None,
        }
    }
}

/// Datagrams that the kernel dropped.
#[derive(Debug, Serialize)]
pub struct KernelDrop<'a> {
    /// The socket.
    #[serde(flatten)]
    pub socket: &'a Identity,
    /// The number of datagrams since the last such event.
    pub datagrams: u64,
    /// True if there may have been more: the kernel counts coalesced datagrams (`UDP_GRO`) as one.
    pub at_least: bool,
}

/// The datagrams of a transfer with `--eof-datagram`, in one direction.
#[derive(Debug, Serialize)]
pub struct Transfer<'a> {
    /// The socket, as a pair of addresses if all datagrams had the same two.
    #[serde(flatten)]
    pub socket: &'a Identity,
    /// The direction of the datagrams.
    pub direction: Direction,
    /// The datagrams, without the one that marks the end.
    #[serde(flatten)]
    pub count: Count,
    /// True if the end was received, or sent.
    pub complete: bool,
    /// Datagrams that were dropped or truncated here, or sent ones that did not arrive, as ICMP errors say.
    pub lost: u64,
    /// True if more may have been lost.
    pub at_least: bool,
}

/// The end of a child process.
#[derive(Debug, Serialize)]
pub struct ChildEnd<'a> {
    /// The connection, or the datagram, that the child was started for.
    #[serde(flatten)]
    pub name: Conversation<'a>,
    /// The process number.
    pub pid: u32,
    /// The name of the program.
    pub program: &'a str,
    /// The exit status or signal.
    #[serde(flatten, serialize_with = "end_of_child")]
    pub status: ExitStatus,
}

/// A call of the sockets API, with the name of the socket after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// socket(2): a socket without a name, for addresses of this family.
    Socket(Transport, Address),
    /// bind(2): the socket has its own address.
    Bind(Identity),
    /// listen(2), with the backlog that the kernel has granted (`net.core.somaxconn` limits it).
    Listen(Identity, u32),
    /// connect(2) of a datagram socket: it has one peer, and nothing is sent.
    Connect(Identity),
    /// recvfrom(2) for replies: nothing more is sent.
    AwaitReplies(Identity),
    /// close(2) of a listening socket: no more clients are accepted; connections stay.
    Close(Identity),
}

/// The reason to reject a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// The access rules deny it.
    Denied,
    /// Its address is that of the socket itself, which would answer its own answers.
    OwnAddress,
    /// As many clients are there as may be.
    OverLimit,
    /// A relay has no link to the target that takes them.
    NotRelayed,
}

impl Rejection {
    /// Returns the reason for people.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Denied => "not allowed here (--allow, --deny)",
            Self::OwnAddress => "from the address of this socket",
            Self::OverLimit => "too many clients (--max-clients)",
            Self::NotRelayed => "not passed on to the target",
        }
    }
}

/// The machines that can reach a bound socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// Only this machine.
    Loopback,
    /// All that can route to its one address.
    Address,
    /// Those on every interface, over IPv4 only.
    EveryIpv4,
    /// Those on every interface, over IPv6 only.
    EveryIpv6,
    /// Those on every interface, over IPv4 and IPv6.
    DualStack,
    /// Programs of this machine alone, by the name of a Unix socket.
    Machine,
}
