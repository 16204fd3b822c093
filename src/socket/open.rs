//! Calls that make a socket what a mode needs: `socket`, the options, `bind`, and for a TCP server `listen`, in that order.
//! All sockets are non-blocking. A socket that cannot be bound is an error that names the act and the address.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use super::options::{self, Role};
use super::{IpVersions, multicast};
use crate::address::{BindAddress, Source};
use crate::cli::{BufferOptions, GroupOptions, SocketOptions, TcpListen, TcpOptions, UdpBind};
use crate::exit::{Exit, Failure, describe_at, is_shortage};
use crate::flow::{Address, Identity, Transport};
use crate::sys::tcp_info::{AcceptQueue, accept_queue};
use crate::tap::{Call, Event, Reach, Taps};

/// For `tcp-listen`: calls `socket`, `bind`, `listen`, on the first of `addresses` that this machine has.
///
/// [`Listener`](crate::link::stream::Listener) calls `accept`. `SO_REUSEADDR` lets the port be listened on again while old connections
/// linger in TIME-WAIT (RFC 9293, 3.6.1); another listener still keeps it for itself (socket(7)).
///
/// Errors: [`Exit::CannotBind`], or [`Exit::Failed`] where an option is refused; also below.
pub(crate) fn listening(
    addresses: &[BindAddress],
    options: &TcpListen,
    taps: &mut Taps,
) -> Result<(Socket, Reach), Failure> {
    let backlog = options.accept.listen.backlog;
    let prepare = |socket: &Socket, versions| {
        allow_reuse(socket)?;
        options::apply_buffers(socket, &options.common.buffers)?;
        options::apply(socket, versions, &options.network.socket)?;
        options::apply_tcp(socket, versions, Role::Listens, &options.tcp)
    };
    let listen = |socket: &Socket, name, taps: &mut Taps| {
        socket.listen(backlog)?;
        if let Some(AcceptQueue { backlog, .. }) = accept_queue(socket) {
            taps.emit(&Event::Called(Call::Listen(name, backlog)));
        }
        Ok(())
    };
    first_bound(Transport::Tcp, addresses, prepare, listen, taps)
}

/// For `udp-bind`: calls `socket`, `bind`, on the first of `addresses` that this machine has.
pub(crate) fn receiving(
    addresses: &[BindAddress],
    options: &UdpBind,
    taps: &mut Taps,
) -> Result<(Socket, Reach), Failure> {
    let (buffers, network) = (&options.common.buffers, &options.network.socket);
    let groups = &options.groups;
    let prepare = |socket: &Socket, versions| {
        options::apply_buffers(socket, buffers)?;
        options::apply(socket, versions, network)?;
        options::apply_udp(socket, buffers);
        if network.reuse_port && !groups.join.is_empty() {
            // That is how others share the port of a group, and each of them gets every datagram.
            allow_reuse(socket)?;
        }
        multicast::apply(socket, versions, groups)
    };
    let bound = first_bound(Transport::Udp, addresses, prepare, |_, _, _| Ok(()), taps);
    bound.map_err(|mut failure| {
        let is_alone = !groups.join.is_empty() && !network.reuse_port;
        if is_alone && failure.message.ends_with("address in use") {
            failure.message += " (--reuse-port shares the port of a group)";
        }
        failure
    })
}

/// For a connection: calls `socket`, and `bind` if the user chooses the source; ready to `connect` to `remote`.
pub(crate) fn connecting(
    remote: SocketAddr,
    source: Source,
    (buffers, common, tcp): (&BufferOptions, &SocketOptions, &TcpOptions),
    taps: &mut Taps,
) -> Result<Socket, Failure> {
    let socket = open_towards(Transport::Tcp, remote, taps)?;
    options::apply_buffers(&socket, buffers)?;
    options::apply(&socket, IpVersions::of(remote), common)?;
    options::apply_tcp(&socket, IpVersions::of(remote), Role::Connects, tcp)?;
    bind_source(Transport::Tcp, &socket, source.towards(remote), taps)?;
    Ok(socket)
}

/// For datagrams to one address: calls `socket`, and `bind` if the user chooses the source; ready to `sendto` to `remote`.
pub(crate) fn sending(
    remote: SocketAddr,
    source: Source,
    (buffers, common, groups): (&BufferOptions, &SocketOptions, &GroupOptions),
    taps: &mut Taps,
) -> Result<Socket, Failure> {
    let socket = open_towards(Transport::Udp, remote, taps)?;
    options::apply_buffers(&socket, buffers)?;
    options::apply(&socket, IpVersions::of(remote), common)?;
    options::apply_udp(&socket, buffers);
    multicast::apply(&socket, IpVersions::of(remote), groups)?;
    multicast::obey_zone(&socket, groups, Some(remote))?;
    bind_source(Transport::Udp, &socket, source.towards(remote), taps)?;
    Ok(socket)
}

/// Returns the type of the sockets of a transport.
pub(super) fn kind_of(transport: Transport) -> Type {
    match transport {
        Transport::Tcp | Transport::Unix => Type::STREAM,
        Transport::UnixPacket => Type::SEQPACKET,
        Transport::Udp | Transport::UnixDatagram => Type::DGRAM,
    }
}

/// Calls `socket`, for the family of an address.
fn open(transport: Transport, family: SocketAddr, taps: &mut Taps) -> io::Result<Socket> {
    let kind = kind_of(transport).nonblocking();
    let socket = Socket::new(Domain::for_address(family), kind, None)?;
    taps.emit(&Event::Called(Call::Socket(transport, family.into())));
    Ok(socket)
}

fn open_towards(
    transport: Transport,
    remote: SocketAddr,
    taps: &mut Taps,
) -> Result<Socket, Failure> {
    let act = format!("cannot make a {transport} socket for {remote}");
    open(transport, remote, taps).map_err(|error| Failure::io(act, &error))
}

/// Calls `bind`, and `getsockname`, which returns the port that the kernel has chosen for port 0.
fn bind(
    transport: Transport,
    socket: &Socket,
    address: SocketAddr,
    taps: &mut Taps,
) -> io::Result<Identity> {
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    let name = Identity::Socket(transport, bound.into());
    taps.emit(&Event::Called(Call::Bind(name.clone())));
    Ok(name)
}

fn allow_reuse(socket: &Socket) -> Result<(), Failure> {
    let result = socket.set_reuse_address(true);
    result.map_err(|error| Failure::io("cannot set SO_REUSEADDR", &error))
}

fn bind_source(
    transport: Transport,
    socket: &Socket,
    local: Option<SocketAddr>,
    taps: &mut Taps,
) -> Result<(), Failure> {
    let Some(local) = local else {
        return Ok(());
    };
    if transport.has_connections() {
        allow_reuse(socket)?;
    }
    let bound = bind(transport, socket, local, taps);
    bound.map(|_| ()).map_err(|error| {
        let reason = unbindable(&error, local);
        let text = format!("cannot bind {transport} {local}: {reason}");
        Failure::new(Exit::CannotBind, text)
    })
}

/// Binds an unbound UDP socket to a port that the kernel chooses, so that there is an address to announce.
pub(crate) fn bind_anywhere(socket: &Socket, target: SocketAddr) -> Result<(), Failure> {
    let local = socket.local_addr().ok().and_then(|local| local.as_socket());
    if local.is_some_and(|local| local.port() != 0) {
        return Ok(());
    }
    let anywhere: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let bound = socket.bind(&anywhere.into());
    bound.map_err(|error| {
        let reason = unbindable(&error, anywhere);
        let text = format!("cannot bind udp {anywhere}: {reason}");
        Failure::new(Exit::CannotBind, text)
    })
}

/// Opens a socket, prepares its options, binds it, and finishes.
///
/// Goes on to the next address only if the machine lacks the one at hand: an address that is in use must not move the user to
/// another one unasked.
fn first_bound(
    transport: Transport,
    addresses: &[BindAddress],
    prepare: impl Fn(&Socket, IpVersions) -> Result<(), Failure>,
    finish: impl Fn(&Socket, Identity, &mut Taps) -> io::Result<()>,
    taps: &mut Taps,
) -> Result<(Socket, Reach), Failure> {
    let act = if transport.has_connections() {
        "cannot listen on"
    } else {
        "cannot bind udp"
    };
    let (mut lines, mut exit) = (Vec::new(), Exit::CannotBind);
    for &BindAddress { address, reach } in addresses {
        let error = match open_at(transport, address, reach, taps) {
            Ok((socket, versions)) => {
                prepare(&socket, versions)?;
                let bound = bind(transport, &socket, address, taps);
                match bound.and_then(|name| finish(&socket, name, taps)) {
                    Ok(()) => return Ok((socket, reach)),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        let (name, reason) = (Address::from(address), unbindable(&error, address));
        lines.push(format!("{act} {name}: {reason}"));
        if is_shortage(&error) {
            exit = Exit::Failed;
        }
        if !is_lacking(&error) {
            break;
        }
    }
    Err(Failure::new(exit, lines.join("\n")))
}

fn open_at(
    transport: Transport,
    address: SocketAddr,
    reach: Reach,
    taps: &mut Taps,
) -> io::Result<(Socket, IpVersions)> {
    let socket = open(transport, address, taps)?;
    let versions = match reach {
        Reach::DualStack => IpVersions::Both,
        _ => IpVersions::of(address),
    };
    if versions != IpVersions::V4 {
        socket.set_only_v6(versions == IpVersions::V6)?;
    }
    Ok((socket, versions))
}

/// Returns true if the machine has no such address, or no such family of addresses.
fn is_lacking(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn unbindable(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        ErrorKind::AddrNotAvailable => "not an address of this machine".to_owned(),
        ErrorKind::PermissionDenied if (1..1024).contains(&address.port()) => {
            let advice = "a port below 1024 needs root, or CAP_NET_BIND_SERVICE";
            format!("{} ({advice})", describe_at(error, address))
        }
        _ => describe_at(error, address),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::cli::{Cli, Command};

    fn read(line: &str) -> Command {
        Cli::read(line.split_whitespace()).unwrap().command
    }

    /// Opens a socket for `tcp-listen` with these options.
    fn listen(addresses: &[BindAddress], words: &str) -> Result<Socket, Failure> {
        let Command::TcpListen(options) = read(&format!("tuplecat tl 0 {words}")) else {
            panic!("not tcp-listen");
        };
        let result = listening(addresses, &options, &mut Taps::default());
        result.map(|(socket, _)| socket)
    }

    fn receive(addresses: &[BindAddress]) -> Result<Socket, Failure> {
        let Command::UdpBind(options) = read("tuplecat ub 0") else {
            panic!("not udp-bind");
        };
        let result = receiving(addresses, &options, &mut Taps::default());
        result.map(|(socket, _)| socket)
    }

    fn connect(source: Source, words: &str) -> Result<Socket, Failure> {
        let Command::TcpConnect(options) = read(&format!("tuplecat tc ::1 9 {words}")) else {
            panic!("not tcp-connect");
        };
        let remote = "127.0.0.1:9".parse().unwrap();
        let (buffers, network) = (&options.common.buffers, &options.network);
        let sockets = (buffers, &network.socket, &options.tcp);
        connecting(remote, source, sockets, &mut Taps::default())
    }

    fn send(source: Source) -> Result<Socket, Failure> {
        let Command::UdpSendto(options) = read("tuplecat us ::1 9") else {
            panic!("not udp-sendto");
        };
        let remote = "127.0.0.1:9".parse().unwrap();
        let (network, groups) = (&options.network, &options.groups);
        let options = (&options.common.buffers, &network.socket, groups);
        sending(remote, source, options, &mut Taps::default())
    }

    fn at(address: &str) -> BindAddress {
        BindAddress {
            address: address.parse().unwrap(),
            reach: Reach::Address,
        }
    }

    fn local(socket: &Socket) -> SocketAddr {
        socket.local_addr().unwrap().as_socket().unwrap()
    }

    #[test]
    fn a_client_inherits_the_options_of_its_listener() {
        let words = "--nodelay on --keepalive=30,5,3 --user-timeout 9 --linger-reset --ttl 7 --tos af11 --mss 1000 --congestion reno";
        let listener = listen(&[at("127.0.0.1:0")], words).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(local(&listener)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.keepalive().unwrap());
        let seconds = Duration::from_secs;
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), seconds(30));
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), seconds(5));
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(seconds(9)));
        assert_eq!(accepted.linger().unwrap(), Some(Duration::ZERO));
        assert_eq!(accepted.ttl_v4().unwrap(), 7);
        assert_eq!(accepted.tos_v4().unwrap(), 0x28);
        assert!(accepted.tcp_mss().unwrap() <= 1000);
        assert!(accepted.tcp_congestion().unwrap().starts_with(b"reno"));
    }

    #[test]
    fn an_address_in_use_is_an_error_in_both_transports() {
        let first = listen(&[at("127.0.0.1:0")], "").unwrap();
        let taken = local(&first);
        let again = [at(&taken.to_string()), at("127.0.0.2:0")];
        assert_eq!(
            listen(&again, "").map(|_| ()),
            Err(Failure::new(
                Exit::CannotBind,
                format!("cannot listen on {taken}: address in use")
            ))
        );

        let first = receive(&[at("127.0.0.1:0")]).unwrap();
        let taken = local(&first);
        assert_eq!(
            receive(&[at(&taken.to_string())]).map(|_| ()),
            Err(Failure::new(
                Exit::CannotBind,
                format!("cannot bind udp {taken}: address in use")
            ))
        );
    }

    #[test]
    fn an_address_that_the_machine_lacks_is_passed_over() {
        let addresses = [at("192.0.2.1:0"), at("127.0.0.1:0")];
        let bound = receive(&addresses).unwrap();
        assert_eq!(local(&bound).ip(), addresses[1].address.ip());
        assert_eq!(
            receive(&addresses[..1]).map(|_| ()),
            Err(Failure::new(
                Exit::CannotBind,
                "cannot bind udp 192.0.2.1:0: not an address of this machine"
            ))
        );
    }

    #[test]
    fn a_port_is_shared_only_when_both_say_so() {
        let first = listen(&[at("127.0.0.1:0")], "--reuse-port").unwrap();
        let again = [at(&local(&first).to_string())];
        assert!(listen(&again, "--reuse-port").is_ok());
        assert!(listen(&again, "").is_err());
    }

    #[test]
    fn fast_open_can_be_asked_for_on_both_sides() {
        assert!(listen(&[at("127.0.0.1:0")], "--fastopen").is_ok());
        // The kernel may have it switched off (net.ipv4.tcp_fastopen); then the option is named.
        if let Err(failure) = connect(Source::Any, "--fastopen") {
            assert!(failure.message.starts_with("--fastopen: "), "{failure}");
        }
    }

    #[test]
    fn a_source_is_bound_before_speaking() {
        let source = |address: &str| Source::Bound {
            v4: Some(address.parse().unwrap()),
            v6: None,
        };
        let own = source("127.0.0.2:0");
        for socket in [connect(own, ""), send(own)] {
            let socket = socket.unwrap();
            assert_eq!(local(&socket).ip().to_string(), "127.0.0.2");
        }
        let failure = send(source("192.0.2.1:0")).unwrap_err();
        assert_eq!(failure.exit, Exit::CannotBind);
    }
}
