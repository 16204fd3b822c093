//! Stream links: a listening socket, whose data are connections, and a connection, which is named by its 4-tuple.
//! Each connection has a socket of its own; all those of one listener share its port, and only the 4-tuple tells them apart.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::access::Access;
use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure};
use crate::pump::end::{Arrival, End, Link};
use crate::sys::tcp_info::{figures, unread, unsent};
use crate::tap::{Call, Count, Event, SocketState, Taps};
use crate::tuple::{Direction, FourTuple, Identity, Transport, unmapped};

/// Bytes asked for in one read.
const STRETCH: usize = 256 << 10;

/// A connection: a byte stream in each direction, each ended on its own.
pub struct Connection {
    socket: Socket,
    flow: FourTuple,
    client: Option<Client>,
    opened: Instant,
    received: Count,
    sent: Count,
    /// How many bytes more are wanted, if there is a limit.
    wanted: Option<u64>,
    state: State,
}

/// That a connection is one of a listener's clients.
pub struct Client {
    /// Its number, from 1.
    number: u64,
    /// Its place among them, free again when this is gone.
    _place: Rc<()>,
}

/// Which directions have ended (RFC 9293, 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Our FIN is sent.
    HalfClosed,
    /// The peer's FIN has come.
    PeerFinished,
    Ended,
}

impl Connection {
    /// Takes over a socket that is connected to `remote`; `client` says so if a listener has accepted it, `wanted` is how
    /// many bytes to receive at the most.
    pub fn new(
        socket: Socket,
        remote: SocketAddr,
        client: Option<Client>,
        wanted: Option<u64>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let flow = FourTuple::new(Transport::Tcp, address_of(&socket.local_addr()?)?, remote);
        Ok(Self {
            socket,
            flow,
            client,
            opened: Instant::now(),
            received: Count::default(),
            sent: Count::default(),
            wanted,
            state: State::Open,
        })
    }

    /// The 4-tuple.
    #[must_use]
    pub fn flow(&self) -> FourTuple {
        self.flow
    }

    fn conn(&self) -> Option<u64> {
        self.client.as_ref().map(|client| client.number)
    }

    /// Counts and reports bytes that have moved.
    fn note(&mut self, direction: Direction, len: usize, bytes: Option<&[u8]>, taps: &mut Taps) {
        match direction {
            Direction::Incoming => {
                self.received.add(len, 1);
                self.wanted = self.wanted.map(|wanted| wanted.saturating_sub(len as u64));
            }
            Direction::Outgoing => self.sent.add(len, 1),
        }
        let (flow, conn) = (self.flow, self.conn());
        taps.emit(&Event::Data {
            direction,
            flow,
            conn,
            len,
            datagrams: 0,
            stride: 0,
            bytes,
        });
    }

    /// The most that may be read at once.
    fn limit(&self) -> usize {
        let wanted = self.wanted.and_then(|wanted| usize::try_from(wanted).ok());
        wanted.unwrap_or(usize::MAX)
    }
}

impl End for Connection {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        let limit = self.limit().min(STRETCH);
        if limit == 0 {
            return Ok(Arrival::Enough);
        }
        let space = &mut batch.space(STRETCH)[..limit];
        let len = (&self.socket).read(space)?;
        if len == 0 {
            self.state = match self.state {
                State::Open | State::PeerFinished => State::PeerFinished,
                State::HalfClosed | State::Ended => State::Ended,
            };
            taps.emit(&Event::PeerFinished {
                flow: self.flow,
                conn: self.conn(),
            });
            return Ok(Arrival::End);
        }
        batch.push_stream(len, Some(self.flow));
        let run = batch.runs()[0];
        self.note(Direction::Incoming, len, Some(batch.bytes(&run)), taps);
        Ok(Arrival::Data)
    }

    fn is_pending(&self) -> bool {
        self.wanted == Some(0)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = batch.rest(*at, &mut slices);
        let mut left = self.socket.send_vectored(&slices[..count])?;
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
        self.state = match self.state {
            State::Open | State::HalfClosed => State::HalfClosed,
            State::PeerFinished | State::Ended => State::Ended,
        };
        taps.emit(&Event::HalfClosed {
            flow: self.flow,
            conn: self.conn(),
        });
        Ok(())
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn unseen_source(&self) -> Option<usize> {
        Some(self.limit()).filter(|&limit| limit > 0)
    }

    fn has_unseen_sink(&self) -> bool {
        true
    }

    fn took_unseen(&mut self, len: usize, taps: &mut Taps) {
        self.note(Direction::Incoming, len, None, taps);
    }

    fn put_unseen(&mut self, len: usize, taps: &mut Taps) {
        self.note(Direction::Outgoing, len, None, taps);
    }
}

impl Link for Connection {
    fn identity(&self) -> Identity {
        Identity::Pair(self.flow)
    }

    fn state(&self) -> SocketState {
        SocketState {
            conn: self.conn(),
            state: match self.state {
                State::Open => "connected",
                State::HalfClosed => "half-closed",
                State::PeerFinished => "peer finished",
                State::Ended => "ended",
            },
            received: self.received,
            sent: self.sent,
            unread: unread(&self.socket),
            unsent: unsent(&self.socket),
            path: figures(&self.socket),
            ..SocketState::new(self.identity(), self.opened)
        }
    }

    fn close(&mut self, taps: &mut Taps) -> Result<(), Failure> {
        let mut state = self.state();
        state.parting = state.parting(self.socket.linger().unwrap_or_default());
        taps.emit(&Event::Closed(&state));
        Ok(())
    }
}

/// A listening socket that hands over connections.
pub struct Listener {
    socket: Socket,
    local: SocketAddr,
    opened: Instant,
    accepted: u64,
    /// Since when it waits for the next client.
    waiting: Instant,
    /// No client is accepted before this time: the system has run out of what one needs.
    paused: Option<Instant>,
    /// Held once here, and once by each client that is there.
    place: Rc<()>,
    settings: Settings,
}

/// What a [`Listener`] does with clients.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many clients to serve.
    pub clients: Clients,
    /// For how long to wait for the next client.
    pub patience: Option<Duration>,
    /// How many bytes to receive from each at the most.
    pub wanted: Option<u64>,
    /// Who may connect; the connections of others are closed at once.
    pub access: Access,
}

/// How many clients a [`Listener`] serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// So many; the socket is closed then, so that others are refused instead of waiting for nothing.
    First(u64),
    /// Any number, so many of them at once; others wait in the backlog.
    AtOnce(u64),
}

/// How long no client is accepted when descriptors or memory have run out.
const PAUSE: Duration = Duration::from_millis(100);

impl Listener {
    /// Takes over a listening socket.
    pub fn new(socket: Socket, settings: Settings) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = unmapped(address_of(&socket.local_addr()?)?);
        Ok(Self {
            socket,
            local,
            opened: Instant::now(),
            accepted: 0,
            waiting: Instant::now(),
            paused: None,
            place: Rc::new(()),
            settings,
        })
    }

    /// Whether as many clients are there as may be.
    fn is_full(&self) -> bool {
        match self.settings.clients {
            Clients::First(_) => false,
            Clients::AtOnce(most) => Rc::strong_count(&self.place) as u64 > most,
        }
    }

    /// What to do where no client is waiting.
    fn wait(&self) -> io::Result<Arrival> {
        let Some(patience) = self.settings.patience else {
            return Ok(Arrival::Nothing(None));
        };
        let deadline = self.waiting + patience;
        if Instant::now() < deadline {
            return Ok(Arrival::Nothing(Some(deadline)));
        }
        let text = format!(
            "no client connected to {} within {} s (--accept-timeout)",
            self.local,
            patience.as_secs_f64()
        );
        Err(io::Error::other(Failure::new(Exit::TimedOut, text)))
    }
}

impl End for Listener {
    fn recv(&mut self, _batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        if self.settings.clients == Clients::First(self.accepted) {
            return Ok(Arrival::Enough);
        }
        if self.is_full() {
            return Ok(Arrival::Nothing(None));
        }
        self.paused = None;
        let (socket, remote) = match self.socket.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return self.wait(),
            Err(error) if is_shortage(&error) => {
                self.paused = Some(Instant::now() + PAUSE);
                return Ok(Arrival::Nothing(self.paused));
            }
            // The client had gone before it was accepted (accept(2)).
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                return Ok(Arrival::Nothing(None));
            }
            Err(error) => return Err(error),
        };
        let remote = address_of(&remote)?;
        if !self.settings.access.admits(remote.ip()) {
            return reject(&socket, remote, taps);
        }
        let conn = self.accepted + 1;
        let client = Client {
            number: conn,
            _place: Rc::clone(&self.place),
        };
        let connection = Connection::new(socket, remote, Some(client), self.settings.wanted)?;
        self.accepted = conn;
        self.waiting = Instant::now();
        taps.emit(&Event::Accepted {
            flow: connection.flow,
            conn,
        });
        Ok(Arrival::Link(Box::new(connection)))
    }

    fn send(&mut self, _batch: &Batch, _at: &mut Cursor, _taps: &mut Taps) -> io::Result<()> {
        Err(ErrorKind::NotConnected.into())
    }

    fn finish(&mut self, _taps: &mut Taps) -> io::Result<()> {
        Ok(())
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        let is_open = self.paused.is_none() && !self.is_full();
        is_open.then(|| self.socket.as_fd())
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn is_addressed(&self) -> bool {
        false
    }
}

impl Link for Listener {
    fn identity(&self) -> Identity {
        Identity::Socket(Transport::Tcp, self.local)
    }

    fn state(&self) -> SocketState {
        SocketState {
            state: "listening",
            ..SocketState::new(self.identity(), self.opened)
        }
    }

    fn close(&mut self, taps: &mut Taps) -> Result<(), Failure> {
        taps.emit(&Event::Called(Call::Close(self.identity())));
        Ok(())
    }
}

/// Turns a client away: its connection is closed when this returns. Others may be waiting behind it.
fn reject(socket: &Socket, remote: SocketAddr, taps: &mut Taps) -> io::Result<Arrival> {
    let local = address_of(&socket.local_addr()?)?;
    let flow = FourTuple::new(Transport::Tcp, local, remote);
    taps.emit(&Event::Rejected { flow, datagrams: 0 });
    Ok(Arrival::Nothing(Some(Instant::now())))
}

/// Whether an error of accept says that the system has run out of something, which may come back (accept(2)).
fn is_shortage(error: &io::Error) -> bool {
    let number = error.raw_os_error().unwrap_or_default();
    [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM].contains(&number)
}

/// The internet address in a socket address, which the kernel always gives for these sockets.
pub(crate) fn address_of(address: &socket2::SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket has no internet address"))
}
