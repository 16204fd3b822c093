//! TCP: a listening socket, from which connections come, and a connection, which is named by its 4-tuple.
//! Each connection has a socket of its own; all those of one listener share its port, and only the 4-tuple tells them apart.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::batch::{Batch, Cursor, Shape};
use crate::exit::Failure;
use crate::flow::{Direction, Flow, Identity, Transport};
use crate::pump::end::{Arrival, End, Link, Unseen};
use crate::sys::sockopt::{unread, unsent};
use crate::sys::tcp_info::tcp_info;
use crate::tap::{Conversation, Count, Data, Event, SocketState, Taps};

mod bulk;
mod listener;
mod parting;

pub use listener::{Client, Clients, Listener, Settings};
use parting::State;

/// Bytes asked for in one recv(2).
const STRETCH: usize = 64 << 10;

/// A connection: a byte stream in each direction, each ended on its own. There may be very many: what is rare is boxed.
pub struct Connection {
    socket: Socket,
    flow: Flow,
    client: Option<Client>,
    opened: Instant,
    received: Count,
    sent: Count,
    /// How many bytes more are wanted; without a limit, more than there can be.
    wanted: u64,
    state: State,
    /// Whether it may be paced although both of its ends are on this machine.
    is_paced: bool,
    rare: Option<Box<Rare>>,
}

/// What few connections come to need.
#[derive(Default)]
struct Rare {
    /// What is known of it once it has carried much.
    bulk: Option<bulk::Bulk>,
    lingering: Option<parting::Lingering>,
    /// What it meets at the end of what had come.
    reset: Option<io::Error>,
}

/// What is asked of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// How many bytes to receive at the most.
    pub wanted: Option<u64>,
    /// Whether its congestion control is the user's choice (`--congestion`), and so not ours.
    pub keeps_congestion: bool,
}

impl Connection {
    /// Takes over a socket that is connected to `remote`; with a `client` if a listener has accepted it.
    pub fn new(
        socket: Socket,
        remote: SocketAddr,
        client: Option<Client>,
        terms: Terms,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let flow = Flow::new(
            Transport::Tcp,
            address_of(&socket.local_addr()?)?.into(),
            remote.into(),
        );
        Ok(Self::over(socket, flow, client, terms))
    }

    /// The same where the addresses are known, and the socket does not block.
    fn over(socket: Socket, flow: Flow, client: Option<Client>, terms: Terms) -> Self {
        Self {
            socket,
            is_paced: !terms.keeps_congestion && is_within_machine(&flow),
            flow,
            client,
            opened: Instant::now(),
            received: Count::default(),
            sent: Count::default(),
            wanted: terms.wanted.unwrap_or(u64::MAX),
            state: State::Open,
            rare: None,
        }
    }

    /// Says that it has been reset already, which its socket has told. What had come before is received first.
    pub fn note_reset(&mut self, error: io::Error) {
        self.rare.get_or_insert_default().reset = Some(error);
    }

    /// The 4-tuple.
    #[must_use]
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    fn conn(&self) -> Option<u64> {
        self.client.as_ref().map(|client| client.number)
    }

    fn name(&self) -> Conversation<'_> {
        Conversation {
            flow: &self.flow,
            conn: self.conn(),
        }
    }

    /// Counts and reports bytes that have moved.
    fn note(&mut self, direction: Direction, len: usize, bytes: Option<&[u8]>, taps: &mut Taps) {
        match direction {
            Direction::Incoming => {
                self.received.add(len, 1);
                self.wanted = self.wanted.saturating_sub(len as u64);
            }
            Direction::Outgoing => {
                let before = self.sent.bytes;
                self.sent.add(len, 1);
                if before / bulk::LOOK != self.sent.bytes / bulk::LOOK {
                    self.suit_bulk();
                }
            }
        }
        taps.emit(&Event::Data(Data {
            direction,
            flow: &self.flow,
            conn: self.conn(),
            len,
            shape: Shape::Stream,
            bytes,
        }));
    }

    /// Sets what pays on a connection that carries much, and need not be set on the others.
    fn suit_bulk(&mut self) {
        let bulk = &mut self.rare.get_or_insert_default().bulk;
        if bulk.is_none() && self.is_paced {
            bulk::stop_pacing(&self.socket);
        }
        bulk.get_or_insert_default().look(&self.socket);
    }

    fn lingering(&self) -> Option<&parting::Lingering> {
        self.rare.as_ref()?.lingering.as_ref()
    }

    /// What to do where nothing has come.
    fn wait(&self) -> io::Result<Arrival> {
        match self.lingering() {
            Some(lingering) => Ok(lingering.wait()),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// The most bytes that may still be received (`--max-bytes`).
    fn limit(&self) -> usize {
        usize::try_from(self.wanted).unwrap_or(usize::MAX)
    }
}

impl End for Connection {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        let limit = self.limit().min(STRETCH);
        if limit == 0 {
            return Ok(Arrival::Enough);
        }
        let space = &mut batch.space(STRETCH)[..limit];
        let len = match (&self.socket).read(space) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return self.wait(),
            other => other?,
        };
        if len == 0 {
            if let Some(error) = self.rare.as_mut().and_then(|rare| rare.reset.take()) {
                return Err(error);
            }
            self.state = self.state.with_peer_finished();
            taps.emit(&Event::PeerFinished(self.name()));
            return Ok(Arrival::End);
        }
        let rare = self.rare.as_mut();
        if let Some(lingering) = rare.and_then(|rare| rare.lingering.as_mut())
            && !lingering.hear()
        {
            return Ok(Arrival::Enough);
        }
        batch.push_stream(len, Some(self.flow.clone()));
        let bytes = batch.bytes(&batch.runs()[0]);
        self.note(Direction::Incoming, len, Some(bytes), taps);
        Ok(Arrival::Data)
    }

    fn is_pending(&self) -> bool {
        self.wanted == 0 || self.lingering().is_some()
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = batch.rest(*at, &mut slices);
        let mut left = match &slices[..count] {
            // Without a list to read, the kernel is a little faster.
            [one] => self.socket.send(one)?,
            many => self.socket.send_vectored(many)?,
        };
        batch.advance(at, left);
        for slice in &slices[..count] {
            let len = left.min(slice.len());
            if len > 0 {
                self.note(Direction::Outgoing, len, Some(&slice[..len]), taps);
            }
            left -= len;
        }
        Ok(())
    }

    fn finish(&mut self, taps: &mut Taps) -> io::Result<()> {
        match self.socket.shutdown(Shutdown::Write) {
            // Reset in the meantime: receiving will say so.
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
            other => other?,
        }
        self.state = self.state.with_own_end();
        taps.emit(&Event::HalfClosed(self.name()));
        Ok(())
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn unseen_source(&self) -> Option<Unseen> {
        let limit = Some(self.limit()).filter(|&limit| limit > 0);
        limit.map(Unseen::stream)
    }

    fn has_unseen_sink(&self, stride: Option<usize>) -> bool {
        stride.is_none()
    }

    fn took_unseen(&mut self, len: usize, taps: &mut Taps) {
        self.note(Direction::Incoming, len, None, taps);
    }

    fn put_unseen(&mut self, len: usize, _stride: Option<usize>, taps: &mut Taps) {
        self.note(Direction::Outgoing, len, None, taps);
    }
}

impl Link for Connection {
    fn identity(&self) -> Identity {
        Identity::Pair(self.flow.clone())
    }

    fn state(&self) -> SocketState {
        SocketState {
            conn: self.conn(),
            state: self.state.name(),
            received: self.received,
            sent: self.sent,
            unread: unread(&self.socket),
            unsent: unsent(&self.socket),
            path: tcp_info(&self.socket),
            ..SocketState::new(self.identity(), self.opened)
        }
    }

    fn may_hang_up(&self) -> bool {
        true
    }

    fn pending_error(&self) -> Option<io::Error> {
        self.socket.take_error().ok().flatten()
    }

    fn unacknowledged(&self) -> io::Result<usize> {
        if self.sent.bytes == 0 {
            return Ok(0);
        }
        if let Some(error) = self.pending_error() {
            return Err(error);
        }
        let fin = usize::from(self.state.has_own_end());
        parting::unacknowledged(&self.socket, fin)
    }

    fn meaning(&self, error: &io::Error) -> Option<io::Error> {
        parting::meaning(error)
    }

    fn linger(&mut self) {
        let rare = self.rare.get_or_insert_default();
        rare.lingering.get_or_insert_default();
    }

    fn abort(&mut self) {
        // A FIN would say that this was all (RFC 9293, 3.6). Where the kernel refuses, there is nothing else to say.
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }

    fn close(&mut self, taps: &mut Taps) -> Result<(), Failure> {
        // The kernel has to be asked for it: not for nobody.
        if taps.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        state.final_segment = state.final_segment(self.socket.linger().unwrap_or_default());
        taps.emit(&Event::Closed(&state));
        Ok(())
    }
}

/// Whether both ends are on this machine.
fn is_within_machine(flow: &Flow) -> bool {
    match (flow.local.inet(), flow.remote.inet()) {
        (Some(local), Some(remote)) => remote.ip().is_loopback() || remote.ip() == local.ip(),
        _ => false,
    }
}

/// The internet address in a socket address, which the kernel always gives for these sockets.
pub(crate) fn address_of(address: &socket2::SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket has no internet address"))
}
