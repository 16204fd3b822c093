//! Endpoints as users write them, and the addresses that they are bound or connected to.
//! Without a host only this machine is served, and a port belongs to one process.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use socket2::{Domain, Socket, Type};
use tuplecat::flow::Transport;

use crate::common::*;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Sends a word to `address`, and returns true if a process may have received it.
fn reaches(transport: Transport, address: SocketAddr) -> bool {
    if transport == Transport::Tcp {
        let stream = TcpStream::connect_timeout(&address, BOUND);
        stream.is_ok_and(|mut stream| stream.write_all(b"x").is_ok())
    } else {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        // On a connected socket the second send reports that the first datagram was refused.
        socket.connect(address).unwrap();
        socket.send(b"x").unwrap();
        socket.send(b"x").is_ok()
    }
}

fn listens(transport: Transport) -> Launch {
    tuplecat(match transport {
        Transport::Tcp => "tcp-listen",
        _ => "udp-bind",
    })
}

fn speaks_to(transport: Transport) -> Launch {
    match transport {
        Transport::Tcp => tuplecat("tcp-connect"),
        _ => tuplecat("udp-sendto --reply-timeout 0"),
    }
}

both! {
    /// Every form of a local endpoint, with the address it is bound to.
    fn a_local_endpoint_has_many_forms(transport) {
        let has_ipv6 = has_ipv6();
        for (words, bound) in [
            ("0", "127.0.0.1"),
            (":0", "127.0.0.1"),
            ("-6 0", "::1"),
            ("-4 0", "127.0.0.1"),
            ("127.0.0.1 0", "127.0.0.1"),
            ("127.0.0.2:0", "127.0.0.2"),
            ("::1 0", "::1"),
            ("[::1] 0", "::1"),
            ("[::1]:0", "::1"),
            ("localhost -4 0", "127.0.0.1"),
            ("* 0", "::"),
            ("*:0", "::"),
            ("-4 * 0", "0.0.0.0"),
            ("-6 *:0", "::"),
            ("0.0.0.0:0", "0.0.0.0"),
        ] {
            if !has_ipv6 && bound.contains(':') {
                continue;
            }
            let server = listens(transport).args(words).start();
            let address = server.ready();
            assert_eq!(address.ip().to_string(), bound, "{words}");
            assert_ne!(address.port(), 0, "{words}");
        }
    }

    /// Every form of a remote endpoint.
    fn a_remote_endpoint_has_many_forms(transport) {
        let has_ipv6 = has_ipv6();
        for (host, spellings) in [
            (V4, ["127.0.0.1 PORT", "127.0.0.1:PORT", "-4 localhost PORT", "-n 127.0.0.1:PORT"]),
            (V6, ["::1 PORT", "[::1] PORT", "[::1]:PORT", "-6 ::1 PORT"]),
        ] {
            if !has_ipv6 && host == V6 {
                continue;
            }
            for spelling in spellings {
                let server = waits(transport, "").args(&format!("{host} 0")).start();
                let port = server.ready().port().to_string();
                let words = spelling.replace("PORT", &port);
                let client = match transport {
                    Transport::Tcp => speaks_to(transport),
                    _ => speaks_to(transport).args("--eof-datagram"),
                };
                client.args(&words).says("x").run().exits(0);
                assert_eq!(server.wait().exits(0).text(), "x", "{words}");
            }
        }
    }

    /// Without a host only this machine is served; each family is served only on request.
    fn only_this_machine_is_served_by_default(transport) {
        if !has_ipv6() {
            return;
        }
        for (words, report, v4, v6) in [
            ("* 0", "(every interface, IPv4 and IPv6)", true, true),
            ("-4 * 0", "(every interface, IPv4 only)", true, false),
            ("-6 * 0", "(every interface, IPv6 only)", false, true),
            ("-6 0", "(this machine only)", false, true),
            ("0", "(this machine only)", true, false),
        ] {
            for (ip, gets_in) in [(V4, v4), (V6, v6)] {
                let server = listens(transport).args(words).start();
                let address = SocketAddr::new(ip, server.ready().port());
                assert_eq!(reaches(transport, address), gets_in, "{words} at {address}");
                server.err().wait_for(report);
            }
        }
        // The socket is bound to one address of this machine, and this is another.
        let server = listens(transport).args("0").start();
        let other = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), server.ready().port());
        assert!(!reaches(transport, other));
    }

    /// A dual-stack socket shows an IPv4 peer with its IPv4 address.
    fn an_ipv4_peer_is_shown_as_such(transport) {
        if !has_ipv6() {
            return;
        }
        let server = waits(transport, "* 0").start();
        let address = SocketAddr::new(V4, server.ready().port());
        speaks(transport, address).says("x").run().exits(0);
        let done = server.wait().exits(0);
        let line = match transport {
            Transport::Tcp => done.line("accepted"),
            _ => done.line("received"),
        };
        let (_, local, remote) = tuple(line);
        assert_eq!(local, address.to_string());
        assert!(remote.starts_with("127.0.0.1:"), "{line}");
    }

    /// An address of the excluded family is an error that says so.
    fn the_wrong_family_is_an_error(transport) {
        for (words, host, reason) in [
            ("-4", "::1", "it is an IPv6 address, but -4 is given"),
            ("-6", "127.0.0.1", "it is an IPv4 address, but -6 is given"),
        ] {
            let done = speaks_to(transport).args(words).args(host).arg("9").run();
            done.fails(3, &format!("cannot resolve host '{host}': {reason}"));
        }
    }

    /// Binding is exclusive, for one address and for the wildcard address.
    fn a_port_belongs_to_one_process(transport) {
        for (first, second) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("*", "127.0.0.1")] {
            let holder = listens(transport).arg(first).arg("0").start();
            let port = holder.ready().port();
            let done = listens(transport).arg(second).arg(port.to_string()).run().exits(4);
            let reason = format!("{second}:{port}: address in use");
            assert!(done.errors().ends_with(&reason), "{}", done.err);
        }
    }

    /// A port can be shared if all sockets agree.
    fn a_port_can_be_shared_on_purpose(transport) {
        let first = listens(transport).args("--reuse-port 0").start();
        let address = first.ready();
        let second = listens(transport).args("--reuse-port").to(address).start();
        assert_eq!(second.ready(), address);
        listens(transport).to(address).run().exits(4);
    }

    /// The peer sees the chosen source address.
    fn the_source_can_be_chosen(transport) {
        // A port that is in use for the other transport is most likely free for this one.
        let (stream, datagram);
        let source = if transport == Transport::Tcp {
            datagram = UdpSocket::bind("127.0.0.77:0").unwrap();
            datagram.local_addr().unwrap()
        } else {
            stream = TcpListener::bind("127.0.0.77:0").unwrap();
            stream.local_addr().unwrap()
        };
        let words = format!("--source {} --source-port {}", source.ip(), source.port());
        let server = waits(transport, "0").start();
        let client = speaks(transport, server.ready()).args(&words);
        client.says("x").run().exits(0);
        let done = server.wait().exits(0);
        let line = match transport {
            Transport::Tcp => done.line("accepted"),
            _ => done.line("received"),
        };
        assert_eq!(tuple(line).2, source.to_string());
    }

    /// A service name stands for its port.
    fn a_service_name_is_a_port(transport) {
        let services = fs::read_to_string("/etc/services").unwrap_or_default();
        let entry = format!("9/{transport}");
        let knows = |line: &str| line.starts_with("discard") && line.contains(&entry);
        if !services.lines().any(knows) {
            return skip("services(5) does not know 'discard'");
        }
        let done = speaks_to(transport).args("-v 127.0.0.1:discard").says("x").run();
        let word = match transport {
            Transport::Tcp => "connecting",
            _ => "sent",
        };
        assert!(done.line(word).contains(" 127.0.0.1:9"), "{}", done.err);
    }
}

/// A port can be bound again right after its session, although the kernel keeps the connection for a minute (`TIME_WAIT`).
#[test]
fn a_port_can_be_listened_at_again_at_once() {
    let server = tuplecat("tcp-listen --on-stdin-eof quit 0")
        .says("bye")
        .start();
    let address = server.ready();
    let peer = connect(address);
    assert_eq!(read_all(&peer), b"bye");
    server.wait().exits(0);
    drop(peer);
    assert_eq!(tuplecat("tcp-listen").to(address).start().ready(), address);
}

#[test]
fn a_4_tuple_that_exists_already_is_named_with_both_addresses() {
    for source in ["--source 127.0.0.3", ""] {
        // Without an address, the port must be free on each: a socket of another test may have it.
        assert!(
            (0..5).any(|_| names_the_taken_4_tuple(source)),
            "'{source}'"
        );
    }
}

/// Returns false if the local port is in use elsewhere.
fn names_the_taken_4_tuple(source: &str) -> bool {
    let (listener, address) = listen();
    // Bound as tuplecat binds, so that the port may be bound again.
    let first = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    first.set_reuse_address(true).unwrap();
    let host = source.split_once(' ').map_or("127.0.0.1", |(_, host)| host);
    let any: SocketAddr = format!("{host}:0").parse().unwrap();
    first.bind(&any.into()).unwrap();
    first.connect(&address.into()).unwrap();
    let local = first.local_addr().unwrap().as_socket().unwrap();
    let _accepted = accept(&listener);
    let taken = format!(
        "cannot connect to {address}: this 4-tuple exists already, open or in TIME-WAIT: tcp {local} <-> {address}"
    );
    for words in ["", "--probe"] {
        let client = tuplecat("tcp-connect").args(source).args(words);
        let client = client.arg("--source-port").arg(local.port().to_string());
        let done = client.to(address).run();
        if done.errors().contains("cannot bind") {
            return false;
        }
        done.fails(4, &taken);
    }
    true
}

#[test]
fn exhausted_local_ports_are_named() {
    let Some(network) = Namespace::new(
        "ip link set lo up; echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range",
    ) else {
        return;
    };
    let server = network.tuplecat("tcp-listen -k 50000").start();
    let peer = server.ready();
    let client = || network.tuplecat("tcp-connect").stdin(Input::Held);
    let clients = [client().to(peer).start(), client().to(peer).start()];
    for client in &clients {
        client.ready_line();
    }
    for words in ["", "--probe", "--source 127.0.0.1"] {
        let client = network.tuplecat("tcp-connect").args(words).to(peer);
        let error = client.run().exits(4).errors();
        assert!(error.contains("no local port is free"), "{error}");
    }
    let _sockets = [(); 2].map(|()| {
        let socket = network.tuplecat("udp-bind 0").start();
        socket.ready();
        socket
    });
    for words in [
        "udp-bind 0",
        "udp-sendto --source-port 0 127.0.0.1 9",
        "udp-sendto 127.0.0.1 9",
        "udp-sendto --connected 127.0.0.1 9",
    ] {
        // Without a ready file, which needs the port early.
        let launch = network.tuplecat(words).bare().says("x");
        let error = launch.run().exits(4).errors();
        assert!(error.contains("no local port is free"), "{error}");
    }
}
