//! Socket activation (`systemd`): a socket that the supervisor opened before it started this program.
//! The unit file says where it is bound; its kind and state are checked here.

use socket2::{Domain, Socket};

use super::open::kind_of;
use super::options::{self, Role};
use super::{IpVersions, multicast};
use crate::address::BindAddress;
use crate::cli::{BufferOptions, SocketOptions, TcpListen, UdpBind};
use crate::exit::{Exit, Failure};
use crate::flow::{Address, Transport, unmapped};
use crate::sys::inherited::passed_sockets;
use crate::tap::Reach;

/// A TCP socket that was passed.
pub(crate) enum Stream {
    /// It listens.
    Listening(Socket, Reach),
    /// It is the connection of a client, which systemd has accepted (`Accept=yes`).
    Connected(Socket, Address),
}

/// Takes the stream socket that was passed, and sets the options of the command line.
///
/// Errors: [`Exit::CannotBind`] if there is none, or not just one of that name, or another kind; here and below.
pub(crate) fn stream(name: Option<&str>, options: &TcpListen) -> Result<Stream, Failure> {
    let (socket, bound, versions) = take(Transport::Tcp, name, &options.network.socket)?;
    options::apply_buffers(&socket, &options.common.buffers)?;
    let remote = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
    let role = remote.map_or(Role::Listens, |_| Role::Connects);
    options::apply_tcp(&socket, versions, role, &options.tcp)?;
    is_listening(&socket, Transport::Tcp)?;
    Ok(match remote {
        Some(remote) => Stream::Connected(socket, remote.into()),
        None => Stream::Listening(socket, bound.reach),
    })
}

/// Takes the datagram socket that was passed, and sets the options of the command line.
pub(crate) fn datagrams(
    name: Option<&str>,
    options: &UdpBind,
) -> Result<(Socket, BindAddress), Failure> {
    let (socket, bound, versions) = take(Transport::Udp, name, &options.network.socket)?;
    options::apply_buffers(&socket, &options.common.buffers)?;
    multicast::apply(&socket, versions, &options.groups)?;
    Ok((socket, bound))
}

fn take(
    transport: Transport,
    name: Option<&str>,
    options: &SocketOptions,
) -> Result<(Socket, BindAddress, IpVersions), Failure> {
    let socket = only(transport, name)?;
    let wanted = kind_of(transport);
    let reason = if transport.has_connections() {
        "not a TCP socket (the unit needs ListenStream=)"
    } else {
        "not a UDP socket (the unit needs ListenDatagram=)"
    };
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    let local = local.filter(|_| socket.r#type().is_ok_and(|kind| kind == wanted));
    let address = local.ok_or_else(|| unfit(transport, reason))?;
    let is_dual_stack = address.is_ipv6() && !socket.only_v6().unwrap_or(true);
    let (versions, every) = match IpVersions::of(address) {
        _ if is_dual_stack => (IpVersions::Both, Reach::DualStack),
        IpVersions::V4 => (IpVersions::V4, Reach::EveryIpv4),
        versions => (versions, Reach::EveryIpv6),
    };
    let is_every = unmapped(address).ip().is_unspecified();
    let reach = if is_every { every } else { Reach::Address };
    options::apply(&socket, versions, options)?;
    Ok((socket, BindAddress { address, reach }, versions))
}

/// Takes the Unix socket that was passed, and sets the options of the command line.
pub(crate) fn unix(
    transport: Transport,
    name: Option<&str>,
    buffers: &BufferOptions,
) -> Result<Socket, Failure> {
    let socket = only(transport, name)?;
    let is_unix = socket.domain().is_ok_and(|domain| domain == Domain::UNIX);
    let is_kind = (socket.r#type()).is_ok_and(|kind| kind == kind_of(transport));
    if !(is_unix && is_kind) {
        let reason = match transport {
            Transport::UnixPacket => "not a Unix socket of packets (ListenSequentialPacket=)",
            Transport::UnixDatagram => "not a Unix socket of datagrams (ListenDatagram=)",
            _ => "not a Unix socket of a stream (ListenStream=)",
        };
        return Err(unfit(transport, reason));
    }
    options::apply_buffers(&socket, buffers)?;
    Ok(socket)
}

/// Returns true for a socket that listens, false for a connection that systemd has accepted.
///
/// Errors: it is neither.
pub(crate) fn is_listening(socket: &Socket, transport: Transport) -> Result<bool, Failure> {
    let is_listening = socket.is_listener().unwrap_or(false);
    if is_listening || socket.peer_addr().is_ok() {
        return Ok(is_listening);
    }
    Err(unfit(transport, "neither listening nor connected"))
}

/// Takes the one socket that was passed, or the one of that name.
fn only(transport: Transport, name: Option<&str>) -> Result<Socket, Failure> {
    let passed = passed_sockets(name)
        .map_err(|error| Failure::io("cannot take the socket that systemd passes", &error))?;
    let count = passed.len();
    let Ok([socket]) = <[Socket; 1]>::try_from(passed) else {
        let reason = match (count, name) {
            (0, None) => "none was passed (LISTEN_FDS)".to_owned(),
            (0, Some(name)) => format!("none was passed that is named '{name}'"),
            _ => format!("{count} were passed, and one is needed: name it, as in systemd:NAME"),
        };
        return Err(unfit(transport, &reason));
    };
    Ok(socket)
}

fn unfit(transport: Transport, reason: &str) -> Failure {
    let text = format!("cannot use a {transport} socket of systemd: {reason}");
    Failure::new(Exit::CannotBind, text)
}
