//! The calls that make a socket what a mode needs: `socket`, the options, `bind`, and for a TCP server `listen`, in that order.
//! All sockets are non-blocking. What cannot be bound is an error that names the act and the address.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::multicast;
use super::options::{self, IpVersions, Role};
use crate::address::{BindAddress, Source};
use crate::cli::{GroupOptions, SocketOptions, TcpOptions};
use crate::exit::{Exit, Failure, describe_at, is_shortage};
use crate::flow::{Identity, Transport};
use crate::tap::{Call, Event, Reach, Taps};

/// For `tcp-listen`: `socket`, `bind`, `listen`, on the first of `addresses` that this machine has. `accept` comes later, in
/// [`Listener`](crate::link::tcp::Listener).
///
/// `SO_REUSEADDR` lets a port be listened on again while old connections linger in TIME-WAIT (RFC 9293, 3.6.1); another
/// listener still keeps it for itself (socket(7)).
///
/// Errors: [`Exit::CannotBind`], or [`Exit::Failed`] where an option is refused; also below.
pub(crate) fn listening(
    addresses: &[BindAddress],
    backlog: i32,
    options: &SocketOptions,
    tcp: &TcpOptions,
    taps: &mut Taps,
) -> Result<(Socket, Reach), Failure> {
    let prepare = |socket: &Socket, versions| {
        allow_reuse(socket)?;
        options::apply(socket, versions, options)?;
        options::apply_tcp(socket, Role::Listens, tcp)
    };
    let listen = |socket: &Socket, name, taps: &mut Taps| {
        socket.listen(backlog)?;
        taps.emit(&Event::Called(Call::Listen(name, backlog)));
        Ok(())
    };
    first_bound(Transport::Tcp, addresses, prepare, listen, taps)
}

/// For `udp-bind`: `socket`, `bind`, on the first of `addresses` that this machine has.
pub(crate) fn receiving(
    addresses: &[BindAddress],
    options: &SocketOptions,
    groups: &GroupOptions,
    taps: &mut Taps,
) -> Result<(Socket, Reach), Failure> {
    let prepare = |socket: &Socket, versions| {
        options::apply(socket, versions, options)?;
        options::apply_udp(socket, options);
        if options.reuse_port && !groups.join.is_empty() {
            // That is how others share the port of a group, and each of them gets every datagram.
            allow_reuse(socket)?;
        }
        multicast::apply(socket, versions, groups)
    };
    first_bound(Transport::Udp, addresses, prepare, |_, _, _| Ok(()), taps)
}

/// For `tcp-connect`: `socket`, and `bind` if the user chooses the source; ready to `connect` to `remote`.
pub(crate) fn connecting(
    remote: SocketAddr,
    source: Source,
    options: &SocketOptions,
    tcp: &TcpOptions,
    taps: &mut Taps,
) -> Result<Socket, Failure> {
    let socket = open_towards(Transport::Tcp, remote, taps)?;
    options::apply(&socket, version_of(remote), options)?;
    options::apply_tcp(&socket, Role::Connects, tcp)?;
    if let Some(local) = source.towards(remote) {
        allow_reuse(&socket)?;
        bind_source(Transport::Tcp, &socket, local, taps)?;
    }
    Ok(socket)
}

/// For `udp-sendto`: `socket`, and `bind` if the user chooses the source; ready to `sendto` to `remote`.
pub(crate) fn sending(
    remote: SocketAddr,
    source: Source,
    options: &SocketOptions,
    groups: &GroupOptions,
    taps: &mut Taps,
) -> Result<Socket, Failure> {
    let socket = open_towards(Transport::Udp, remote, taps)?;
    options::apply(&socket, version_of(remote), options)?;
    options::apply_udp(&socket, options);
    multicast::apply(&socket, version_of(remote), groups)?;
    if let Some(local) = source.towards(remote) {
        bind_source(Transport::Udp, &socket, local, taps)?;
    }
    Ok(socket)
}

/// `socket`, of the family of an address.
fn open(transport: Transport, family: SocketAddr, taps: &mut Taps) -> io::Result<Socket> {
    let kind = match transport {
        Transport::Tcp => Type::STREAM,
        Transport::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(family), kind, None)?;
    socket.set_nonblocking(true)?;
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

/// `bind`, and `getsockname`: port 0 has become a real one.
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

fn version_of(remote: SocketAddr) -> IpVersions {
    if remote.is_ipv4() {
        IpVersions::V4
    } else {
        IpVersions::V6
    }
}

fn allow_reuse(socket: &Socket) -> Result<(), Failure> {
    let result = socket.set_reuse_address(true);
    result.map_err(|error| Failure::io("cannot set SO_REUSEADDR", &error))
}

fn bind_source(
    transport: Transport,
    socket: &Socket,
    local: SocketAddr,
    taps: &mut Taps,
) -> Result<(), Failure> {
    let bound = bind(transport, socket, local, taps);
    bound.map(|_| ()).map_err(|error| {
        let message = format!(
            "cannot bind {transport} {local}: {}",
            unbindable(&error, local)
        );
        Failure::new(Exit::CannotBind, message)
    })
}

/// Makes a socket, lets `prepare` set its options, binds it, and lets `finish` do the rest. Goes on to the next address only if
/// the machine lacks the one at hand: an address that is taken must not move the user to another one unasked.
fn first_bound(
    transport: Transport,
    addresses: &[BindAddress],
    prepare: impl Fn(&Socket, IpVersions) -> Result<(), Failure>,
    finish: impl Fn(&Socket, Identity, &mut Taps) -> io::Result<()>,
    taps: &mut Taps,
) -> Result<(Socket, Reach), Failure> {
    let act = match transport {
        Transport::Tcp => "cannot listen on",
        Transport::Udp => "cannot bind udp",
    };
    let (mut lines, mut exit) = (Vec::new(), Exit::CannotBind);
    for &BindAddress { address, reach } in addresses {
        let result = match open_at(transport, address, reach, taps) {
            Ok((socket, versions)) => {
                prepare(&socket, versions)?;
                let bound = bind(transport, &socket, address, taps);
                let finished = bound.and_then(|name| finish(&socket, name, taps));
                finished.map(|()| socket)
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(socket) => return Ok((socket, reach)),
            Err(error) => {
                lines.push(format!("{act} {address}: {}", unbindable(&error, address)));
                if is_shortage(&error) {
                    exit = Exit::Failed;
                }
                if !is_lacking(&error) {
                    break;
                }
            }
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
    let versions = match (address, reach) {
        (SocketAddr::V4(_), _) => IpVersions::V4,
        (SocketAddr::V6(_), Reach::DualStack) => IpVersions::Both,
        (SocketAddr::V6(_), _) => IpVersions::V6,
    };
    if versions != IpVersions::V4 {
        socket.set_only_v6(versions == IpVersions::V6)?;
    }
    Ok((socket, versions))
}

/// Whether the machine has no such address, or no such family of addresses.
fn is_lacking(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn unbindable(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        ErrorKind::AddrNotAvailable => "not an address of this machine".to_owned(),
        _ => describe_at(error, address),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use pretty_assertions::assert_eq;

    use super::options::tests::options;
    use super::*;

    fn none() -> GroupOptions {
        GroupOptions::default()
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
        let (socket, tcp) = options(words);
        let (listener, _) =
            listening(&[at("127.0.0.1:0")], 1, &socket, &tcp, &mut Taps::default()).unwrap();
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
    fn a_taken_address_is_an_error_in_both_transports() {
        let (socket, tcp) = options("");
        let (first, _) =
            listening(&[at("127.0.0.1:0")], 1, &socket, &tcp, &mut Taps::default()).unwrap();
        let taken = local(&first);
        let again = [at(&taken.to_string()), at("127.0.0.2:0")];
        assert_eq!(
            listening(&again, 1, &socket, &tcp, &mut Taps::default()).map(|_| ()),
            Err(Failure::new(
                Exit::CannotBind,
                format!("cannot listen on {taken}: address already in use")
            ))
        );

        let (first, _) =
            receiving(&[at("127.0.0.1:0")], &socket, &none(), &mut Taps::default()).unwrap();
        let taken = local(&first);
        assert_eq!(
            receiving(
                &[at(&taken.to_string())],
                &socket,
                &none(),
                &mut Taps::default()
            )
            .map(|_| ()),
            Err(Failure::new(
                Exit::CannotBind,
                format!("cannot bind udp {taken}: address already in use")
            ))
        );
    }

    #[test]
    fn an_address_that_the_machine_lacks_is_passed_over() {
        let (socket, _) = options("");
        let addresses = [at("192.0.2.1:0"), at("127.0.0.1:0")];
        let (bound, _) = receiving(&addresses, &socket, &none(), &mut Taps::default()).unwrap();
        assert_eq!(local(&bound).ip(), addresses[1].address.ip());
        assert_eq!(
            receiving(&addresses[..1], &socket, &none(), &mut Taps::default()).map(|_| ()),
            Err(Failure::new(
                Exit::CannotBind,
                "cannot bind udp 192.0.2.1:0: not an address of this machine"
            ))
        );
    }

    #[test]
    fn a_port_is_shared_only_when_both_say_so() {
        let (shared, tcp) = options("--reuse-port");
        let (first, _) =
            listening(&[at("127.0.0.1:0")], 1, &shared, &tcp, &mut Taps::default()).unwrap();
        let again = [at(&local(&first).to_string())];
        assert!(listening(&again, 1, &shared, &tcp, &mut Taps::default()).is_ok());
        assert!(listening(&again, 1, &options("").0, &tcp, &mut Taps::default()).is_err());
    }

    #[test]
    fn fast_open_can_be_asked_for_on_both_sides() {
        let (socket, tcp) = options("--fastopen");
        assert!(listening(&[at("127.0.0.1:0")], 1, &socket, &tcp, &mut Taps::default()).is_ok());
        let remote = "127.0.0.1:9".parse().unwrap();
        // The kernel may have it switched off (net.ipv4.tcp_fastopen); then the option is named.
        if let Err(failure) = connecting(remote, Source::Any, &socket, &tcp, &mut Taps::default()) {
            assert!(failure.message.starts_with("--fastopen: "), "{failure}");
        }
    }

    #[test]
    fn a_source_is_bound_before_speaking() {
        let (socket, tcp) = options("");
        let remote = "127.0.0.1:9".parse().unwrap();
        let source = |address: &str| Source::Bound {
            v4: Some(address.parse().unwrap()),
            v6: None,
        };
        let chosen = connecting(
            remote,
            source("127.0.0.2:0"),
            &socket,
            &tcp,
            &mut Taps::default(),
        )
        .unwrap();
        assert_eq!(local(&chosen).ip().to_string(), "127.0.0.2");
        let chosen = sending(
            remote,
            source("127.0.0.2:0"),
            &socket,
            &none(),
            &mut Taps::default(),
        )
        .unwrap();
        assert_eq!(local(&chosen).ip().to_string(), "127.0.0.2");
        let failure = sending(
            remote,
            source("192.0.2.1:0"),
            &socket,
            &none(),
            &mut Taps::default(),
        )
        .unwrap_err();
        assert_eq!(failure.exit, Exit::CannotBind);
    }
}
