//! Listening socket, whose data are connections: it accepts as many clients as are wanted and allowed.
//! It is named by its address and port alone, which all its connections share.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::Socket;

use super::{Connection, ReceiveLimits, local_address};
use crate::address::access::Access;
use crate::batch::{Batch, Cursor, check_memory};
use crate::exit::{Exit, Failure, describe, is_shortage};
use crate::flow::{Address, ConnId, Flow, Identity, Leg, Transport};
use crate::link::framed::{self, Framing};
use crate::link::unix;
use crate::pump::end::{Arrival, Close, End, Finish, Link, Next, Readiness, Wait};
use crate::sys::socket_file::SocketFile;
use crate::tap::{Call, Conversation, Event, Rejection, SocketState, Taps};

/// Listening socket, whose `recv` returns connections.
pub struct Listener {
    socket: Socket,
    transport: Transport,
    local: Address,
    /// File of a Unix socket, removed when this is dropped.
    file: Option<SocketFile>,
    opened: Instant,
    accepted: u64,
    /// Time since which no client is there, where there is a limit to that.
    alone_since: Option<Instant>,
    /// Time at which that limit is looked at again.
    next_check: Option<Instant>,
    /// Time before which no client is accepted: the system has run out of what one needs.
    paused_until: Option<Instant>,
    /// Resource that the system has run out of, once that is reported.
    shortage: Option<Errno>,
    /// Held once here, and once by each client that is there.
    place: Rc<()>,
    settings: Settings,
}

/// Choices for a [`Listener`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// Clients to serve.
    pub clients: Clients,
    /// Time to wait while no client is there.
    pub accept_timeout: Option<Duration>,
    /// Limits on what each connection receives.
    pub limits: ReceiveLimits,
    /// Treatment of clients beyond those at once.
    pub over_limit: Excess,
    /// Addresses that may connect; the connections of others are closed at once.
    pub access: Access,
    /// The leg that a client is, if it is relayed.
    pub leg: Option<Leg>,
    /// Form of the datagrams that a client's stream stands for, where they are relayed.
    pub framing: Option<Framing>,
}

/// Number of clients that a [`Listener`] serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clients {
    /// Clients in all; the socket is closed then, so that others are refused instead of waiting for nothing.
    pub in_all: u64,
    /// Clients at once; others wait in the backlog.
    pub at_once: u64,
}

impl Clients {
    /// Returns the first `count` clients, at once or one after the other.
    pub fn first(count: u64) -> Self {
        Self {
            in_all: count,
            at_once: u64::MAX,
        }
    }
}

/// Treatment of clients beyond [`Clients::at_once`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// They wait in the backlog.
    Waits,
    /// Their connections are closed at once.
    Rejected,
}

/// Errors of accept(2) that say that one client is gone, or that the network or a filter has taken it.
const CLIENT_GONE: [Errno; 9] = [
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

/// Time for which no client is accepted when descriptors or memory have run out.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

impl Listener {
    /// Takes over a listening socket.
    pub fn new(socket: Socket, transport: Transport, settings: Settings) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = local_address(&socket)?;
        Ok(Self {
            socket,
            transport,
            local,
            file: None,
            opened: Instant::now(),
            accepted: 0,
            alone_since: None,
            // Without room for a client nothing else asks for the first check.
            next_check: (settings.accept_timeout)
                .filter(|_| settings.clients.at_once == 0)
                .map(|_| Instant::now()),
            paused_until: None,
            shortage: None,
            place: Rc::new(()),
            settings,
        })
    }

    /// Takes over the name of its Unix socket, where the user knows it by another one, and its file.
    pub fn rename(&mut self, name: Option<Address>, file: Option<SocketFile>) {
        self.local = name.unwrap_or_else(|| self.local.clone());
        self.file = file;
    }

    /// Returns the number of clients that are there.
    fn clients(&self) -> u64 {
        Rc::strong_count(&self.place) as u64 - 1
    }

    /// Returns true if further clients wait.
    fn is_waited_for(&self) -> bool {
        self.settings.over_limit == Excess::Waits && self.is_full()
    }

    /// Returns true if as many clients are there as may be.
    fn is_full(&self) -> bool {
        self.clients() >= self.settings.clients.at_once
    }

    /// Measures the time without clients.
    ///
    /// Errors: a failure with [`Exit::TimedOut`] once that was too long.
    fn check_accept_timeout(&mut self) -> io::Result<()> {
        let Some(limit) = self.settings.accept_timeout else {
            return Ok(());
        };
        let now = Instant::now();
        if self.clients() > 0 {
            self.alone_since = None;
            self.next_check = Some(now + limit);
            return Ok(());
        }
        let deadline = *self.alone_since.get_or_insert(now) + limit;
        self.next_check = Some(deadline);
        if now < deadline {
            return Ok(());
        }
        let (local, limit) = (&self.local, limit.as_secs_f64());
        let text = format!("no client connected to {local} within {limit} s (--accept-timeout)");
        Err(Failure::new(Exit::TimedOut, text).into())
    }

    /// Accepts nothing for a while, as the system has run out of what a client needs.
    fn pause(&mut self, error: Errno, taps: &mut Taps) {
        self.paused_until = Some(Instant::now() + SHORTAGE_PAUSE);
        if self.shortage.replace(error) != Some(error) {
            let reason = describe(&error.into());
            let text = format!("no client can be accepted: {reason}; trying again until one can");
            let socket = &self.identity();
            taps.emit(&Event::Waiting { socket, text });
        }
    }

    /// Makes a link of a socket that was accepted, unless the address of its peer is denied: then it is closed.
    fn admit(&mut self, socket: Socket, remote: Address, taps: &mut Taps) -> io::Result<Arrival> {
        let is_wildcard = |local: SocketAddr| local.ip().is_unspecified();
        let local = if self.local.inet().is_some_and(is_wildcard) {
            local_address(&socket)?
        } else {
            self.local.clone()
        };
        let ip = remote.inet().map(|remote| remote.ip());
        let flow = Flow::new(self.transport, local, remote);
        let is_admitted = ip.is_none_or(|ip| self.settings.access.admits(ip));
        let reason = if is_admitted {
            self.is_full().then_some(Rejection::OverLimit)
        } else {
            Some(Rejection::Denied)
        };
        if let Some(reason) = reason {
            taps.emit(&Event::Rejected {
                flow: &flow,
                datagrams: None,
                reason,
            });
            return Ok(Arrival::Nothing);
        }
        self.accepted += 1;
        self.alone_since = None;
        let conn = Some(ConnId {
            number: self.accepted,
            leg: self.settings.leg,
        });
        taps.emit(&Event::Accepted(Conversation { flow: &flow, conn }));
        let client = (conn, Some(Rc::clone(&self.place)));
        let connection = Connection::over(socket, flow, client, self.settings.limits);
        let link = framed::wrap(self.settings.framing, Box::new(connection));
        Ok(Arrival::Link(link))
    }
}

impl End for Listener {
    fn recv(&mut self, _batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        if self.settings.clients.in_all == self.accepted {
            return Ok(Arrival::Enough);
        }
        if self.is_waited_for() {
            return self.check_accept_timeout().map(|()| Arrival::Nothing);
        }
        self.paused_until = None;
        let has_memory = check_memory(0).is_ok();
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let accepted = has_memory.then(|| acceptfrom_with(&self.socket, flags));
        match accepted.unwrap_or(Err(Errno::NOMEM)) {
            Ok((socket, _)) if self.transport.is_unix() => {
                let peer = unix::client(&socket)?;
                return self.admit(socket.into(), peer, taps);
            }
            Ok((socket, Some(remote))) => {
                return self.admit(socket.into(), remote.try_into()?, taps);
            }
            Ok((_, None)) => {}
            Err(Errno::AGAIN) => {
                self.shortage = None;
                self.check_accept_timeout()?;
            }
            Err(error) if is_shortage(&error.into()) => {
                self.pause(error, taps);
                self.check_accept_timeout()?;
            }
            Err(error) if CLIENT_GONE.contains(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Arrival::Nothing)
    }

    fn send(&mut self, _batch: &Batch, _at: &mut Cursor, _taps: &mut Taps) -> io::Result<Next> {
        Err(ErrorKind::NotConnected.into())
    }

    fn finish(&mut self, _: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let recv = match self.paused_until {
            _ if self.settings.clients.in_all == self.accepted => Wait::Now,
            _ if self.is_waited_for() => Wait::Never,
            Some(until) => Wait::time(until),
            None => Wait::readable(self.socket.as_fd()),
        };
        Readiness {
            recv: recv.or_until(self.next_check),
            send: Wait::Never,
            watch: false,
        }
    }
}

impl Link for Listener {
    fn identity(&self) -> Identity {
        Identity::Socket(self.transport, self.local.clone())
    }

    fn states(&self) -> Vec<SocketState> {
        vec![SocketState {
            state: "listening",
            ..SocketState::new(self.identity(), self.opened)
        }]
    }

    fn close(&mut self, _: Close, taps: &mut Taps) -> Result<(), Failure> {
        taps.emit(&Event::Called(Call::Close(self.identity())));
        Ok(())
    }
}
