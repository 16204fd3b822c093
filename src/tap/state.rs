//! The state of a socket at one moment: its name, what went through it, and what the kernel says of it.
//! The same figures serve the closing line, the table of sockets, the statistics and the events.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Conversation, Data, Event, Taps};
use crate::batch::Shape;
use crate::escape::seconds;
use crate::flow::{ConnId, Direction, Flow, Identity};
use crate::sys::tcp_info::TcpInfo;

/// Bytes and chunks in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Bytes of payload.
    pub bytes: u64,
    /// Datagrams, or chunks of a stream.
    pub chunks: u64,
}

impl Count {
    /// Adds `chunks` with `bytes` in total.
    pub fn add(&mut self, bytes: usize, chunks: usize) {
        self.bytes += bytes as u64;
        self.chunks += chunks as u64;
    }
}

/// A value for each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PerDirection<T> {
    /// From the network.
    pub received: T,
    /// To the network.
    pub sent: T,
}

impl<T> PerDirection<T> {
    /// Returns the value of one direction.
    pub fn of(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Incoming => &mut self.received,
            Direction::Outgoing => &mut self.sent,
        }
    }
}

/// A socket, or one peer of a socket that serves many.
#[derive(Clone, Debug, Serialize)]
pub struct SocketState {
    /// The name of the socket.
    #[serde(flatten)]
    pub identity: Identity,
    /// The number of the connection, if it has one.
    #[serde(flatten)]
    pub conn: Option<ConnId>,
    /// A word or two: listening, connected, bound, half-closed, peer, …
    pub state: &'static str,
    /// Payload from the network.
    pub received: Count,
    /// Payload to the network.
    pub sent: Count,
    /// Datagrams that were discarded because their sender is not the peer.
    pub ignored: u64,
    /// Datagrams that the kernel dropped (`SO_RXQ_OVFL`).
    pub dropped: u64,
    /// True if it may have dropped more: it counts coalesced datagrams (`UDP_GRO`) as one.
    pub dropped_at_least: bool,
    /// Datagrams that did not arrive, as ICMP errors say, or that could not be sent.
    pub undelivered: u64,
    /// The time since the socket was opened, or the peer was first seen.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub lasted: Duration,
    /// Bytes that have arrived and are not read yet (`SIOCINQ`); of datagrams only the next one (udp(7)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<usize>,
    /// Bytes that are written and not acknowledged by the peer (`SIOCOUTQ`), or that have not left the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsent: Option<usize>,
    /// The figures of a TCP connection (`TCP_INFO`).
    #[serde(rename = "tcp", skip_serializing_if = "Option::is_none")]
    pub path: Option<TcpInfo>,
    /// The segment that closing the socket sends.
    #[serde(skip)]
    pub final_segment: FinalSegment,
}

/// The segment that closing a socket sends (RFC 9293, 3.6; RFC 1122, 4.2.2.13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FinalSegment {
    /// None: it was sent before, or the socket has no connection.
    #[default]
    None,
    /// FIN: no more data follows.
    Fin,
    /// RST: the connection is aborted, because received data was not read or the user wants it so.
    Reset,
}

impl SocketState {
    /// A socket without traffic, open since `opened`.
    pub fn new(identity: Identity, opened: Instant) -> Self {
        Self {
            identity,
            conn: None,
            state: "",
            received: Count::default(),
            sent: Count::default(),
            ignored: 0,
            dropped: 0,
            dropped_at_least: false,
            undelivered: 0,
            lasted: opened.elapsed(),
            unread: None,
            unsent: None,
            path: None,
            final_segment: FinalSegment::None,
        }
    }

    /// Returns the segment that closing this connection now sends: a RST if data was not read (RFC 1122, 4.2.2.13) or the
    /// `linger` time is zero (socket(7)).
    pub fn final_segment(&self, linger: Option<Duration>) -> FinalSegment {
        match self.path.map(|path| path.state) {
            None | Some("CLOSED" | "TIME-WAIT") => FinalSegment::None,
            _ if self.unread > Some(0) => FinalSegment::Reset,
            // Both FINs are under way (`tcp_need_reset`, net/ipv4/tcp.c).
            Some("CLOSING" | "LAST-ACK") => FinalSegment::None,
            _ if linger == Some(Duration::ZERO) => FinalSegment::Reset,
            Some("ESTABLISHED" | "CLOSE-WAIT" | "SYN-RECEIVED") => FinalSegment::Fin,
            Some(_) => FinalSegment::None,
        }
    }
}

/// The count of what goes through a connection: its own reads and writes, and what the kernel splices for it.
#[derive(Debug)]
pub struct Meter {
    /// The addresses of the connection.
    pub flow: Flow,
    /// Number of the connection, if it has one.
    pub conn: Option<ConnId>,
    /// Bytes that went through it.
    pub totals: PerDirection<Count>,
}

impl Meter {
    /// Makes a meter at zero.
    pub fn new(flow: Flow, conn: Option<ConnId>) -> Self {
        Self {
            flow,
            conn,
            totals: PerDirection::default(),
        }
    }

    /// Returns the name that the connection is reported by.
    pub fn conversation(&self) -> Conversation<'_> {
        Conversation {
            flow: &self.flow,
            conn: self.conn,
        }
    }

    /// Counts and reports `len` bytes that have moved at once; `bytes` unless the kernel moved them unseen.
    pub fn note(
        &mut self,
        direction: Direction,
        len: usize,
        bytes: Option<&[u8]>,
        taps: &mut Taps,
    ) {
        self.totals.of(direction).add(len, 1);
        taps.emit(&Event::Data(Data {
            direction,
            flow: &self.flow,
            conn: self.conn,
            len,
            shape: self.shape_of(len),
            bytes,
        }));
    }

    /// Returns the boundaries of `len` bytes that have moved at once.
    pub fn shape_of(&self, len: usize) -> Shape {
        if self.flow.transport.has_boundaries() {
            Shape::Datagrams(len.max(1))
        } else {
            Shape::Stream
        }
    }
}
