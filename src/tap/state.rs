//! What is known of a socket at one moment: its name, what went through it, and what the kernel says of it.
//! The same figures serve the closing line, the table of sockets, the statistics and the events.

use std::time::{Duration, Instant};

use crate::flow::{Direction, Identity};
use crate::sys::tcp_info::TcpInfo;

/// Bytes and chunks in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Count {
    /// Bytes of payload.
    pub bytes: u64,
    /// Datagrams, or pieces of a stream as they were moved.
    pub chunks: u64,
}

impl Count {
    /// Adds `chunks` that have `bytes` together.
    pub fn add(&mut self, bytes: usize, chunks: usize) {
        self.bytes += bytes as u64;
        self.chunks += chunks as u64;
    }
}

/// Something for each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways<T> {
    /// From the network.
    pub received: T,
    /// To the network.
    pub sent: T,
}

impl<T> Ways<T> {
    /// That of one direction.
    pub fn of(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Incoming => &mut self.received,
            Direction::Outgoing => &mut self.sent,
        }
    }
}

/// A socket and what went through it.
#[derive(Clone, Debug)]
pub struct SocketState {
    /// What it is called.
    pub identity: Identity,
    /// Number of the connection, where it has one.
    pub conn: Option<u64>,
    /// One word: listening, connected, bound, half-closed, …
    pub state: &'static str,
    /// From the network.
    pub received: Count,
    /// To the network.
    pub sent: Count,
    /// Datagrams that were not passed on because they came from somebody else.
    pub ignored: u64,
    /// Datagrams the kernel dropped (`SO_RXQ_OVFL`).
    pub dropped: u64,
    /// Whether there may have been more of these: datagrams that come coalesced (`UDP_GRO`) are dropped as one.
    pub dropped_or_more: bool,
    /// How long it has been open.
    pub lasted: Duration,
    /// Bytes that have arrived and are not read yet (`SIOCINQ`); of datagrams only the next one (udp(7)).
    pub unread: Option<usize>,
    /// Bytes written that the peer has not acknowledged (`SIOCOUTQ`), or that have not left the socket.
    pub unsent: Option<usize>,
    /// What the kernel knows of the path (`TCP_INFO`), where it is a connection.
    pub path: Option<TcpInfo>,
    /// What closing it tells the peer.
    pub parting: Parting,
}

/// What closing a socket tells its peer (RFC 9293, 3.6; RFC 1122, 4.2.2.13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parting {
    /// Nothing: it has been told before, or there is nobody to tell.
    #[default]
    Nothing,
    /// That nothing more will come.
    Fin,
    /// That the connection is aborted: what had come was not all read, or the user wants it so.
    Reset,
}

impl SocketState {
    /// A socket through which nothing has gone yet, open since `opened`.
    #[must_use]
    pub fn new(identity: Identity, opened: Instant) -> Self {
        Self {
            identity,
            conn: None,
            state: "",
            received: Count::default(),
            sent: Count::default(),
            ignored: 0,
            dropped: 0,
            dropped_or_more: false,
            lasted: opened.elapsed(),
            unread: None,
            unsent: None,
            path: None,
            parting: Parting::Nothing,
        }
    }

    /// What closing this connection now tells the peer: a reset where bytes were not read (RFC 1122, 4.2.2.13), or where the
    /// socket is not to `linger` (socket(7)).
    #[must_use]
    pub fn parting(&self, linger: Option<Duration>) -> Parting {
        match self.path.map(|path| path.state) {
            None | Some("CLOSED" | "TIME-WAIT") => Parting::Nothing,
            _ if self.unread > Some(0) || linger == Some(Duration::ZERO) => Parting::Reset,
            Some("ESTABLISHED" | "CLOSE-WAIT" | "SYN-RECEIVED") => Parting::Fin,
            Some(_) => Parting::Nothing,
        }
    }
}
