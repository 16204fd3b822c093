//! Addresses as users write them, and what they are bound or connected to in the end.
//! Without a host nobody but this machine gets in, and a port belongs to one process.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use tuplecat::flow::Transport;

use crate::common::*;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Says a word to `address`, and whether somebody may have heard it.
fn reaches(transport: Transport, address: SocketAddr) -> bool {
    match transport {
        Transport::Tcp => {
            let stream = TcpStream::connect_timeout(&address, BOUND);
            stream.is_ok_and(|mut stream| stream.write_all(b"x").is_ok())
        }
        Transport::Udp => {
            let any: IpAddr = match address {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            // On a connected socket the second datagram brings the news that the first was refused.
            socket.connect(address).unwrap();
            socket.send(b"x").unwrap();
            socket.send(b"x").is_ok()
        }
    }
}

fn listens(transport: Transport) -> Launch {
    tuplecat(match transport {
        Transport::Tcp => "tcp-listen",
        Transport::Udp => "udp-bind",
    })
}

fn speaks_to(transport: Transport) -> Launch {
    match transport {
        Transport::Tcp => tuplecat("tcp-connect"),
        Transport::Udp => tuplecat("udp-sendto --reply-timeout 0"),
    }
}

both! {
    /// Every spelling of where to bind, and what it stands for.
    fn where_to_bind_has_many_spellings(transport) {
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

    /// Every spelling of whom to speak to.
    fn whom_to_speak_to_has_many_spellings(transport) {
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
                    Transport::Udp => speaks_to(transport).args("--eof-datagram"),
                };
                client.args(&words).says("x").run().exits(0);
                assert_eq!(server.wait().exits(0).text(), "x", "{words}");
            }
        }
    }

    /// Who gets in where: without a host only this machine, and each family only where it was asked for.
    fn only_those_who_were_asked_for_get_in(transport) {
        if !has_ipv6() {
            return;
        }
        for (words, told, v4, v6) in [
            ("* 0", "(every interface, IPv4 and IPv6)", true, true),
            ("-4 * 0", "(every interface, IPv4 only)", true, false),
            ("-6 * 0", "(every interface, IPv6 only)", false, true),
            ("-6 0", "(loopback only; ", false, true),
            ("0", "(loopback only; ", true, false),
        ] {
            for (ip, gets_in) in [(V4, v4), (V6, v6)] {
                let server = listens(transport).args(words).start();
                let address = SocketAddr::new(ip, server.ready().port());
                assert_eq!(reaches(transport, address), gets_in, "{words} at {address}");
                server.err().wait_for(told);
            }
        }
        // Another address of this machine is not the one that is bound.
        let server = listens(transport).args("0").start();
        let other = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), server.ready().port());
        assert!(!reaches(transport, other));
    }

    /// An IPv4 peer of a socket for both families is shown with its IPv4 address.
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
            Transport::Udp => done.line("received"),
        };
        let (_, local, remote) = tuple(line);
        assert_eq!(local, address.to_string());
        assert!(remote.starts_with("127.0.0.1:"), "{line}");
    }

    /// An address of the family that is not wanted is an error that says so.
    fn the_wrong_family_is_an_error(transport) {
        for (words, host, reason) in [
            ("-4", "::1", "it is an IPv6 address, but -4 is given"),
            ("-6", "127.0.0.1", "it is an IPv4 address, but -6 is given"),
        ] {
            let done = speaks_to(transport).args(words).args(host).arg("9").run();
            done.fails(3, &format!("cannot resolve host '{host}': {reason}"));
        }
    }

    /// Binding is exclusive, whether the other one has one address or all of them.
    fn a_port_belongs_to_one_process(transport) {
        for (first, second) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("*", "127.0.0.1")] {
            let holder = listens(transport).arg(first).arg("0").start();
            let port = holder.ready().port();
            let done = listens(transport).arg(second).arg(port.to_string()).run().exits(4);
            let reason = format!("{second}:{port}: address already in use");
            assert!(done.errors().ends_with(&reason), "{}", done.err);
        }
    }

    /// A port can be shared by those who all agree.
    fn a_port_can_be_shared_on_purpose(transport) {
        let first = listens(transport).args("--reuse-port 0").start();
        let address = first.ready();
        let second = listens(transport).args("--reuse-port").to(address).start();
        assert_eq!(second.ready(), address);
        listens(transport).to(address).run().exits(4);
    }

    /// The source can be chosen, and the peer sees it.
    fn the_source_can_be_chosen(transport) {
        // A port that the other transport has here is most likely free.
        let (stream, datagram);
        let source = match transport {
            Transport::Tcp => {
                datagram = UdpSocket::bind("127.0.0.77:0").unwrap();
                datagram.local_addr().unwrap()
            }
            Transport::Udp => {
                stream = TcpListener::bind("127.0.0.77:0").unwrap();
                stream.local_addr().unwrap()
            }
        };
        let words = format!("--source {} --source-port {}", source.ip(), source.port());
        let server = waits(transport, "0").start();
        let client = speaks(transport, server.ready()).args(&words);
        client.says("x").run().exits(0);
        let done = server.wait().exits(0);
        let line = match transport {
            Transport::Tcp => done.line("accepted"),
            Transport::Udp => done.line("received"),
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
            Transport::Udp => "sent",
        };
        assert!(done.line(word).contains(" 127.0.0.1:9"), "{}", done.err);
    }
}

/// A port is free again as soon as its session has ended, although the kernel remembers the connection for a minute.
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
