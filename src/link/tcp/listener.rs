//! A listening socket, whose data are connections: it accepts clients, as many as are wanted and are let in.
//! It is named by its address and port alone, which all its connections share.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::Socket;

use super::{Connection, Terms, address_of};
use crate::address::access::Access;
use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure, describe, is_shortage};
use crate::flow::{Flow, Identity, Transport, unmapped};
use crate::pump::end::{Arrival, End, Link};
use crate::tap::{Call, Conversation, Event, SocketState, Taps};

/// A listening socket that hands over connections.
pub struct Listener {
    socket: Socket,
    local: SocketAddr,
    opened: Instant,
    accepted: u64,
    /// Since when nobody is there, where there is a limit to that.
    alone: Option<Instant>,
    /// No client is accepted before this time: the system has run out of what one needs.
    paused: Option<Instant>,
    /// What it has run out of while clients are waiting, once that is told.
    shortage: Option<Errno>,
    /// Held once here, and once by each client that is there.
    place: Rc<()>,
    settings: Settings,
}

/// What a [`Listener`] does with clients.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many clients to serve.
    pub clients: Clients,
    /// For how long to wait while no client is there.
    pub patience: Option<Duration>,
    /// What is asked of each connection.
    pub terms: Terms,
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

/// What a listener gives each connection that it has accepted.
pub struct Client {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Its place among the clients that may be there at once, free again when this is dropped.
    _place: Rc<()>,
}

impl Client {
    /// For a connection that another process has accepted: the only one.
    #[must_use]
    pub fn only() -> Self {
        Self {
            number: 1,
            _place: Rc::new(()),
        }
    }
}

/// The client had gone before it was accepted, or the network or a filter between took it (accept(2)).
const GONE: [Errno; 9] = [
    Errno::CONNABORTED,
    Errno::PERM,
    Errno::PROTO,
    Errno::NOPROTOOPT,
    Errno::NETDOWN,
    Errno::NETUNREACH,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::NONET,
];

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
            alone: None,
            paused: None,
            shortage: None,
            place: Rc::new(()),
            settings,
        })
    }

    /// How many clients are there.
    fn clients(&self) -> u64 {
        Rc::strong_count(&self.place) as u64 - 1
    }

    /// Whether as many clients are there as may be.
    fn is_full(&self) -> bool {
        match self.settings.clients {
            Clients::First(_) => false,
            Clients::AtOnce(most) => self.clients() >= most,
        }
    }

    /// What to do where no client is waiting.
    fn wait(&mut self) -> io::Result<Arrival> {
        let Some(patience) = self.settings.patience else {
            return Ok(Arrival::Nothing(None));
        };
        let now = Instant::now();
        if self.clients() > 0 {
            self.alone = None;
            return Ok(Arrival::Nothing(Some(now + patience)));
        }
        let deadline = *self.alone.get_or_insert(now) + patience;
        if now < deadline {
            return Ok(Arrival::Nothing(Some(deadline)));
        }
        let text = format!(
            "no client connected to {} within {} s (--accept-timeout)",
            self.local,
            patience.as_secs_f64()
        );
        Err(Failure::new(Exit::TimedOut, text).into())
    }

    /// Accepts nobody for a while, as the system has run out of what a client needs. Time goes on for who waits for a client.
    fn pause(&mut self, error: Errno, taps: &mut Taps) -> io::Result<Arrival> {
        if self.shortage.replace(error) != Some(error) {
            let reason = describe(&error.into());
            let text = format!("no client can be accepted: {reason}; trying again until one can");
            let socket = &self.identity();
            taps.emit(&Event::Waiting { socket, text });
        }
        let until = Instant::now() + PAUSE;
        self.paused = Some(until);
        Ok(match self.wait()? {
            Arrival::Nothing(Some(deadline)) => Arrival::Nothing(Some(deadline.min(until))),
            _ => Arrival::Nothing(Some(until)),
        })
    }

    /// Makes a link of a socket that was accepted.
    fn greet(
        &mut self,
        socket: Socket,
        remote: SocketAddr,
        taps: &mut Taps,
    ) -> io::Result<Arrival> {
        let local = if self.local.ip().is_unspecified() {
            address_of(&socket.local_addr()?)?
        } else {
            self.local
        };
        let flow = Flow::new(Transport::Tcp, local.into(), remote.into());
        if !self.settings.access.admits(remote.ip()) {
            // Its connection is closed when this returns. Others may be waiting behind it.
            taps.emit(&Event::Rejected {
                flow: &flow,
                datagrams: None,
            });
            return Ok(Arrival::Nothing(Some(Instant::now())));
        }
        self.accepted += 1;
        self.alone = None;
        let conn = self.accepted;
        let name = Conversation {
            flow: &flow,
            conn: Some(conn),
        };
        taps.emit(&Event::Accepted(name));
        let client = Client {
            number: conn,
            _place: Rc::clone(&self.place),
        };
        let connection = Connection::over(socket, flow, Some(client), self.settings.terms);
        Ok(Arrival::Link(Box::new(connection)))
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
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match acceptfrom_with(&self.socket, flags) {
            Ok((socket, Some(remote))) => self.greet(socket.into(), remote.try_into()?, taps),
            Ok((_, None)) => Ok(Arrival::Nothing(None)),
            Err(Errno::AGAIN) => {
                self.shortage = None;
                self.wait()
            }
            Err(error) if is_shortage(&error.into()) => self.pause(error, taps),
            // Others may be waiting behind it.
            Err(error) if GONE.contains(&error) => Ok(Arrival::Nothing(Some(Instant::now()))),
            Err(error) => Err(error.into()),
        }
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
        Identity::Socket(Transport::Tcp, self.local.into())
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
