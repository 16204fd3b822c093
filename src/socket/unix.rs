//! Unix sockets: opened, bound to a name, and connected to one (unix(7)).
//! A path is a file: [`SocketFile`] creates it, and removes it when the socket is closed.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::UnixAddr;
use socket2::{Domain, Socket};

use super::open::kind_of;
use super::options;
use crate::address::UnixName;
use crate::cli::BufferOptions;
use crate::exit::{Exit, Failure, describe};
use crate::flow::{Address, Identity, Transport};
use crate::sys::socket_file::{PathAddress, SocketFile};
use crate::tap::{Call, Event, Taps, Target};

/// Permissions of the file of a socket where the user chooses none: for its owner alone.
const DEFAULT_MODE: u32 = 0o600;

/// Time after which a full backlog is tried again.
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);

/// Calls `socket`, and sets its options.
pub(crate) fn open(
    transport: Transport,
    buffers: &BufferOptions,
    taps: &mut Taps,
) -> Result<Socket, Failure> {
    let open = || {
        let socket = Socket::new(Domain::UNIX, kind_of(transport), None)?;
        socket.set_nonblocking(true)?;
        io::Result::Ok(socket)
    };
    let socket = open().map_err(|error| Failure::io("cannot make a Unix socket", &error))?;
    let family = Address::unix(b"");
    taps.emit(&Event::Called(Call::Socket(transport, family)));
    options::apply_buffers(&socket, buffers)?;
    Ok(socket)
}

/// Calls `bind`, and returns the file if the name is a path. A file of a socket that is no more is replaced.
///
/// Errors: [`Exit::CannotBind`].
pub(crate) fn bind(
    socket: &Socket,
    transport: Transport,
    name: &UnixName,
    mode: Option<u32>,
    taps: &mut Taps,
) -> Result<Option<SocketFile>, Failure> {
    let bound = if name.is_abstract() {
        let address = PathAddress::new(name.path());
        let bound = address.and_then(|at| socket.bind(&at.address));
        bound.map(|()| (None, false))
    } else {
        let mode = mode.unwrap_or(DEFAULT_MODE);
        let bound = SocketFile::bind(socket, name.path(), mode);
        bound.map(|(file, was_stale)| (Some(file), was_stale))
    };
    let (file, was_stale) = bound.map_err(|error| {
        let (name, reason) = (name.address(), describe(&error));
        let text = format!("cannot bind {transport} {name}: {reason}");
        Failure::new(Exit::CannotBind, text)
    })?;
    let identity = Identity::Socket(transport, name.address());
    if was_stale {
        taps.emit(&Event::Replaced { socket: &identity });
    }
    taps.emit(&Event::Called(Call::Bind(identity)));
    Ok(file)
}

/// Gives a socket an abstract name that the kernel chooses, so that it can be answered (autobind, unix(7)).
pub(crate) fn autobind(socket: &Socket, taps: &mut Taps) -> Result<Address, Failure> {
    let bound = nix::sys::socket::bind(socket.as_raw_fd(), &UnixAddr::new_unnamed());
    let named = bound.map_err(io::Error::from);
    let named = named.and_then(|()| rustix::net::getsockname(socket)?.try_into());
    let name: Address = named.map_err(|error| {
        let text = format!("cannot bind unix-dgram: {}", describe(&error));
        Failure::new(Exit::CannotBind, text)
    })?;
    let identity = Identity::Socket(Transport::UnixDatagram, name.clone());
    taps.emit(&Event::Called(Call::Bind(identity)));
    Ok(name)
}

/// Connects a datagram socket to a name, so that it is writable when its peer has room: nothing is sent.
///
/// Errors: as those of [`unreachable`].
pub(crate) fn set_peer(socket: &Socket, name: &UnixName) -> Result<(), Failure> {
    let address = PathAddress::new(name.path());
    let connected = address.and_then(|at| socket.connect(&at.address));
    connected.map_err(|error| {
        let (exit, reason) = unreachable(&error, name);
        Failure::new(exit, format!("cannot send to {}: {reason}", name.address()))
    })
}

/// Attempt to connect to a name, which waits only while the backlog of the listening socket is full.
pub(crate) struct Attempt {
    pub(crate) socket: Socket,
    target: Target,
    name: UnixName,
    pub(crate) began: Instant,
    /// End of the attempt, and the limit that it comes from.
    limit: Option<(Instant, Duration)>,
}

impl Attempt {
    /// Begins an attempt: calls `socket`.
    pub(crate) fn new(
        transport: Transport,
        name: &UnixName,
        buffers: &BufferOptions,
        limit: Option<(Instant, Duration)>,
        taps: &mut Taps,
    ) -> Result<Self, Failure> {
        let socket = open(transport, buffers, taps)?;
        if transport == Transport::UnixDatagram {
            autobind(&socket, taps)?;
        }
        let remote = name.address();
        let target = Target { transport, remote };
        taps.emit(&Event::Connecting(target.clone()));
        let (name, began) = (name.clone(), Instant::now());
        Ok(Self {
            socket,
            target,
            name,
            began,
            limit,
        })
    }

    /// Calls `connect`. `Some`: the time to call it again, since the backlog is full and no descriptor shows when it has room.
    pub(crate) fn advance(&self, taps: &mut Taps) -> Result<Option<Instant>, Failure> {
        let address = PathAddress::new(self.name.path());
        let Err(error) = address.and_then(|at| self.socket.connect(&at.address)) else {
            return Ok(None);
        };
        let now = Instant::now();
        let late = self.limit.filter(|(until, _)| *until <= now);
        let (exit, reason) = match (error.kind(), late) {
            (ErrorKind::WouldBlock, None) => return Ok(Some(now + BACKLOG_PAUSE)),
            (ErrorKind::WouldBlock, Some((_, limit))) => {
                let reason = format!("timed out after {} s", limit.as_secs_f64());
                (Exit::TimedOut, reason)
            }
            _ => unreachable(&error, &self.name),
        };
        taps.emit(&Event::ConnectFailed {
            target: self.target.clone(),
            error: &error,
            after: self.began.elapsed(),
        });
        let text = format!("cannot connect to {}: {reason}", self.target.remote);
        Err(Failure::new(exit, text))
    }
}

/// Describes an error of connecting or sending to a name, with its exit status: nobody there, or no such path, is a refusal.
pub(crate) fn unreachable(error: &io::Error, name: &UnixName) -> (Exit, String) {
    let kind = Path::symlink_metadata(name.path()).map(|found| found.file_type());
    match error.kind() {
        ErrorKind::NotFound => (Exit::Refused, describe(error)),
        ErrorKind::ConnectionRefused if kind.is_ok_and(|kind| !kind.is_socket()) => {
            (Exit::Refused, "not a socket".to_owned())
        }
        _ if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
            let text = "a socket of another type is there: stream, --seqpacket or datagram";
            (Exit::Failed, text.to_owned())
        }
        _ => (error.into(), describe(error)),
    }
}
