//! A listening socket, whose data are connections: it accepts clients, as many as are wanted and are let in.
//! It is named by its address and port alone, which all its connections share.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::{Client, Connection, address_of};
use crate::access::Access;
use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure};
use crate::pump::end::{Arrival, End, Link};
use crate::tap::{Call, Event, SocketState, Taps};
use crate::tuple::{FourTuple, Identity, Transport, unmapped};

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
