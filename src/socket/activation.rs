//! Socket activation (`systemd`): a socket that the supervisor opened before it started this program.
//! The unit file says where it is bound; its kind and state are checked here.

use std::net::SocketAddr;

use socket2::{Socket, Type};

use super::options::{self, Role};
use super::{IpVersions, multicast};
use crate::address::BindAddress;
use crate::cli::{TcpListen, UdpBind};
use crate::exit::{Exit, Failure};
use crate::flow::{Transport, unmapped};
use crate::sys::inherited::passed_sockets;
use crate::tap::Reach;

/// A TCP socket that was passed.
pub(crate) enum Stream {
    /// It listens.
    Listening(Socket, Reach),
    /// It is the connection of a client, which systemd has accepted (`Accept=yes`).
    Connected(Socket, SocketAddr),
}

/// The stream socket that was passed, with the options of the command line.
///
/// Errors: [`Exit::CannotBind`] if there is none, or not just one of that name, or another kind; here and below.
pub(crate) fn stream(name: Option<&str>, options: &TcpListen) -> Result<Stream, Failure> {
    let (socket, local) = take(Transport::Tcp, name)?;
    let versions = versions_of(&socket, local);
    options::apply(&socket, versions, &options.common.socket)?;
    let remote = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
    let role = match remote {
        Some(_) => Role::Connects,
        None => Role::Listens,
    };
    options::apply_tcp(&socket, role, &options.tcp)?;
    match remote {
        Some(remote) => Ok(Stream::Connected(socket, remote)),
        None if socket.is_listener().unwrap_or(false) => {
            Ok(Stream::Listening(socket, reach(versions, local)))
        }
        None => Err(unfit(
            Transport::Tcp,
            "it is neither listening nor connected",
        )),
    }
}

/// The datagram socket that was passed, with the options of the command line, and where it is bound.
pub(crate) fn datagrams(
    name: Option<&str>,
    options: &UdpBind,
) -> Result<(Socket, BindAddress), Failure> {
    let (socket, local) = take(Transport::Udp, name)?;
    let versions = versions_of(&socket, local);
    options::apply(&socket, versions, &options.common.socket)?;
    multicast::apply(&socket, versions, &options.groups)?;
    let bound = BindAddress {
        address: local,
        reach: reach(versions, local),
    };
    Ok((socket, bound))
}

fn take(transport: Transport, name: Option<&str>) -> Result<(Socket, SocketAddr), Failure> {
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
    let (wanted, directive) = match transport {
        Transport::Tcp => (Type::STREAM, "ListenStream="),
        Transport::Udp => (Type::DGRAM, "ListenDatagram="),
    };
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    match (socket.r#type(), local) {
        (Ok(kind), Some(local)) if kind == wanted => Ok((socket, local)),
        _ => {
            let reason = format!(
                "not a {} socket (the unit needs {directive})",
                transport.to_string().to_uppercase()
            );
            Err(unfit(transport, &reason))
        }
    }
}

fn unfit(transport: Transport, reason: &str) -> Failure {
    let text = format!("cannot use a {transport} socket of systemd: {reason}");
    Failure::new(Exit::CannotBind, text)
}

fn versions_of(socket: &Socket, local: SocketAddr) -> IpVersions {
    match local {
        SocketAddr::V4(_) => IpVersions::V4,
        SocketAddr::V6(_) if socket.only_v6().unwrap_or(true) => IpVersions::V6,
        SocketAddr::V6(_) => IpVersions::Both,
    }
}

fn reach(versions: IpVersions, local: SocketAddr) -> Reach {
    match versions {
        _ if !unmapped(local).ip().is_unspecified() => Reach::Address,
        IpVersions::V4 => Reach::EveryIpv4,
        IpVersions::V6 => Reach::EveryIpv6,
        IpVersions::Both => Reach::DualStack,
    }
}
