//! Sockets from systemd (endpoint `systemd`), and notifications to it (READY=1).
//! A shell stands in for systemd: it puts the socket at descriptor 3 and sets the variables (`sd_listen_fds(3)`).

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener};

use rustix::process::Signal;
use socket2::{Domain, SockRef, Socket, Type};
use tuplecat::flow::Transport;

use crate::common::*;

/// The variables for a single socket.
const ONE: &str = "LISTEN_PID=$$ LISTEN_FDS=1";

/// Starts a mode with `socket` at descriptors 3 and 4 and these variables, as systemd does.
fn activated(mode: &str, words: &str, socket: impl Into<OwnedFd>, variables: &str) -> Running {
    let line = format!(
        "exec 3<&0 4<&0 0</dev/null; export {variables}; exec \"$0\" {mode} --ready-file ready \"$@\""
    );
    program("/bin/sh", "-c")
        .arg(line)
        .arg(env!("CARGO_BIN_EXE_tuplecat"))
        .args(words)
        .stdin(Input::From(socket.into()))
        .start()
}

/// Returns the address in the ready file of a mode that was started this way.
fn address_in(server: &Running) -> SocketAddr {
    let line = server.wait_for_file(&server.path("ready"));
    let (_, address) = line.trim_end().split_once(' ').unwrap();
    address.parse().unwrap()
}

/// Returns an accepted connection and its client.
fn accepted() -> (TcpStream, TcpStream) {
    let (listener, address) = listen();
    let client = connect(address);
    (accept(&listener), client)
}

#[test]
fn a_passed_listening_socket_is_served_like_our_own() {
    let (listener, address) = listen();
    // A client that connects before the program starts waits in the queue.
    let mut early = connect(address);
    early.write_all(b"early ").unwrap();
    finish(&early);
    let server = activated("tcp-listen", "systemd -k", listener, ONE);
    assert_eq!(address_in(&server), address);
    let line = server.err().wait_for_line("listening");
    assert_eq!(line, format!("listening  tcp {address}"));
    server.out().wait_for("early ");
    let mut late = connect(address);
    late.write_all(b"late").unwrap();
    finish(&late);
    server.out().wait_for("late");
    server.signal(Signal::TERM);
    let done = server.wait().exits(143);
    assert_eq!(done.text(), "early late");
}

#[test]
fn options_apply_to_a_passed_socket() {
    let (listener, address) = listen();
    let again = listener.try_clone().unwrap();
    let server = activated(
        "tcp-listen",
        "systemd --ttl 7 --deny 127.0.0.2",
        listener,
        ONE,
    );
    address_in(&server);
    assert_eq!(SockRef::from(&again).ttl_v4().unwrap(), 7);
    assert!(SockRef::from(&again).tcp_nodelay().unwrap());
    let client = connect(address);
    finish(&client);
    server.wait().exits(0);
}

#[test]
fn a_socket_on_every_interface_says_so() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let server = activated("tcp-listen", "systemd --exec cat", listener, ONE);
    let line = server.err().wait_for_line("listening");
    assert!(line.ends_with(" (every interface, IPv4 only)"), "{line}");
}

#[test]
fn a_bound_socket_receives_and_answers() {
    let (socket, address) = datagrams();
    let server = activated("udp-bind", "systemd --count 1", socket, ONE);
    assert_eq!(address_in(&server), address);
    let (client, _) = datagrams();
    client.send_to(b"hello", address).unwrap();
    let done = server.wait().exits(0);
    assert_eq!(done.text(), "hello");
    assert_eq!(done.line("bound"), format!("bound      udp {address}"));

    let (socket, address) = datagrams();
    let _server = activated("udp-bind", "systemd --exec cat", socket, ONE);
    client.send_to(b"echo", address).unwrap();
    assert_eq!(receive(&client), (b"echo".to_vec(), address));
}

#[test]
fn datagrams_left_in_the_socket_go_to_the_next_run() {
    let (socket, address) = datagrams();
    let (client, _) = datagrams();
    // As many at once as these would make a socket of our own join them (UDP GRO).
    for number in 0..100 {
        client.send_to(&[number; 3], address).unwrap();
    }
    let one = || {
        activated(
            "udp-bind",
            "systemd --count 1",
            socket.try_clone().unwrap(),
            ONE,
        )
    };
    assert_eq!(one().wait().exits(0).out, [0; 3]);
    assert_eq!(one().wait().exits(0).out, [1; 3]);
    let many = activated(
        "udp-bind",
        "systemd --count 97",
        socket.try_clone().unwrap(),
        ONE,
    );
    assert_eq!(many.wait().exits(0).out.len(), 291);
    for _ in 0..3 {
        client.send_to(b"later", address).unwrap();
    }
    assert_eq!(receive(&socket).0, [99; 3]);
    assert_eq!(receive(&socket).0, b"later");
}

#[test]
fn an_accepted_connection_is_the_session() {
    let (connection, mut client) = accepted();
    let (local, remote) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
    let words = "systemd --on-stdin-eof keep";
    let server = activated("tcp-listen", words, connection, ONE);
    client.write_all(b"all").unwrap();
    finish(&client);
    let done = server.wait().exits(0);
    assert_eq!(done.text(), "all");
    assert_eq!(
        done.line("accepted"),
        format!("accepted   tcp {local} <-> {remote}  #1")
    );

    let (connection, mut client) = accepted();
    let words = "systemd --exec tr a-z A-Z";
    let server = activated("tcp-listen", words, connection, ONE);
    client.write_all(b"question").unwrap();
    finish(&client);
    assert_eq!(read_all(&client), b"QUESTION");
    server.wait().exits(0);
}

#[test]
fn an_accepted_connection_of_a_denied_peer_is_closed() {
    let (connection, client) = accepted();
    let server = activated(
        "tcp-listen",
        "systemd --allow 192.0.2.0/24",
        connection,
        ONE,
    );
    let done = server.wait().exits(0);
    done.line("rejected");
    assert_eq!(read_all(&client), b"");
}

#[test]
fn a_child_inherits_neither_sockets_nor_variables() {
    let (listener, address) = listen();
    let manager = tempfile::tempdir().unwrap();
    let path = manager.path().join("notify");
    let _manager = UnixDatagram::bind(&path).unwrap();
    let variables = format!("{ONE} LISTEN_FDNAMES=web NOTIFY_SOCKET={}", path.display());
    let words = "systemd -k --exec sh -c";
    let line = "env | grep -E '^(LISTEN|NOTIFY)'; ls /proc/self/fd";
    let server = program("/bin/sh", "-c")
        .arg(format!(
            "exec 3<&0 0</dev/null; export {variables}; exec \"$0\" tcp-listen \"$@\""
        ))
        .arg(env!("CARGO_BIN_EXE_tuplecat"))
        .args(words)
        .arg(line)
        .stdin(Input::From(listener.into()))
        .start();
    let listed = String::from_utf8(read_all(&connect(address))).unwrap();
    assert_eq!(
        listed.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
    drop(server);
}

#[test]
fn a_passed_socket_is_no_descriptor_to_write_to() {
    for words in ["systemd --ready-fd 3", "0 --ready-fd 3"] {
        let (listener, _) = listen();
        let server = activated("tcp-listen", words, listener, ONE);
        let message =
            "cannot use descriptor 3 (--ready-fd): it is a socket that systemd passes (LISTEN_FDS)";
        server.wait().fails(2, message);
    }
}

#[test]
fn a_name_chooses_among_several() {
    let (listener, address) = listen();
    let variables = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin";
    let server = activated("tcp-listen", "systemd:admin", listener, variables);
    assert_eq!(address_in(&server), address);
    for (word, reason) in [
        (
            "systemd",
            "2 were passed, and one is needed: name it, as in systemd:NAME",
        ),
        ("systemd:mail", "none was passed that is named 'mail'"),
    ] {
        let (listener, _) = listen();
        let server = activated("tcp-listen", word, listener, variables);
        let text = format!("cannot use a tcp socket of systemd: {reason}");
        server.wait().fails(4, &text);
    }
}

#[test]
fn a_socket_of_the_wrong_kind_is_an_error() {
    let none = "none was passed (LISTEN_FDS)";
    let text = format!("cannot use a tcp socket of systemd: {none}");
    tuplecat("tcp-listen systemd").run().fails(4, &text);
    let (listener, _) = listen();
    let server = activated(
        "tcp-listen",
        "systemd",
        listener,
        "LISTEN_PID=1 LISTEN_FDS=1",
    );
    server.wait().fails(4, &text);

    let (socket, _) = datagrams();
    let server = activated("tcp-listen", "systemd", socket, ONE);
    let reason = "not a TCP socket (the unit needs ListenStream=)";
    server
        .wait()
        .fails(4, &format!("cannot use a tcp socket of systemd: {reason}"));
    let reason = "not a UDP socket (the unit needs ListenDatagram=)";
    let (listener, _) = listen();
    let server = activated("udp-bind", "systemd", listener, ONE);
    server
        .wait()
        .fails(4, &format!("cannot use a udp socket of systemd: {reason}"));

    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    let server = activated("tcp-listen", "systemd", listener, ONE);
    let reason = "not a TCP socket (the unit needs ListenStream=)";
    server
        .wait()
        .fails(4, &format!("cannot use a tcp socket of systemd: {reason}"));

    let (connection, _client) = accepted();
    let server = activated("tcp-listen", "systemd -k", connection, ONE);
    let text = "-k takes a socket that listens; systemd passes one connection (Accept=yes)";
    server.wait().fails(2, text);
}

both! {
    /// The service manager is notified with the address once the mode is ready.
    fn the_manager_is_notified(transport) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("tuplecat-test-{}-{transport}", std::process::id());
        let manager = UnixDatagram::bind(&path).unwrap();
        let abstract_name = UnixAddress::from_abstract_name(&name).unwrap();
        let other = UnixDatagram::bind_addr(&abstract_name).unwrap();
        let path = path.to_str().unwrap().to_owned();
        for (manager, address) in [(manager, path), (other, format!("@{name}"))] {
            manager.set_read_timeout(Some(BOUND)).unwrap();
            let server = waits(transport, "0").env("NOTIFY_SOCKET", &address).start();
            let mut space = [0; 256];
            let count = manager.recv(&mut space).unwrap();
            let text = String::from_utf8_lossy(&space[..count]);
            let line = server.ready_line();
            assert_eq!(text, format!("READY=1\nSTATUS={line}"));
        }
    }

    /// A service manager that no longer listens is no error.
    fn a_manager_that_is_gone_is_no_error(transport) {
        let server = waits(transport, "0").env("NOTIFY_SOCKET", "/nonexistent/notify").start();
        server.ready();
    }
}

#[test]
fn systemd_socket_activate_can_start_it() {
    if !is_installed("systemd-socket-activate") {
        return skip("systemd-socket-activate is not installed");
    }
    // The tool does not take port 0. Two sockets may bind this port as long as only one listens.
    let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    reserved.set_reuse_address(true).unwrap();
    reserved.bind(&LOOPBACK.into()).unwrap();
    let address = reserved.local_addr().unwrap().as_socket().unwrap();
    let activate = program("systemd-socket-activate", "--fdname=web -l")
        .arg(address.to_string())
        .arg(env!("CARGO_BIN_EXE_tuplecat"))
        .args("tcp-listen systemd:web --exec tr a-z A-Z")
        .start();
    activate.err().wait_for("Listening on");
    let mut client = connect(address);
    client.write_all(b"hello").unwrap();
    finish(&client);
    assert_eq!(read_all(&client), b"HELLO");
    activate.wait().exits(0);
}

/// Its owner may have asked for more control messages than we do. The addresses of a datagram are among them.
#[test]
fn a_passed_socket_with_more_control_messages_answers_from_the_right_address() {
    use nix::sys::socket::{setsockopt, sockopt};
    for local in ["0.0.0.0:0", "[::]:0"] {
        for kind in ["IPv4", "IPv6"] {
            let socket = std::net::UdpSocket::bind(local).unwrap();
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
            setsockopt(&socket, sockopt::RxqOvfl, &1).unwrap();
            setsockopt(&socket, sockopt::IpRecvTos, &true).unwrap();
            setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true).unwrap();
            if local.contains("::") {
                setsockopt(&socket, sockopt::Ipv6RecvTClass, &true).unwrap();
                setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true).unwrap();
            } else if kind == "IPv6" {
                continue;
            }
            let port = socket.local_addr().unwrap().port();
            let server = activated("udp-bind", "systemd --echo --count 1", socket, ONE);
            address_in(&server);
            let (own, target) = match kind {
                "IPv4" => ("127.0.0.1:0", "127.0.0.5"),
                _ => ("[::1]:0", "::1"),
            };
            let client = std::net::UdpSocket::bind(own).unwrap();
            client.set_read_timeout(Some(BOUND)).unwrap();
            client.connect((target, port)).unwrap();
            client.send(b"?").unwrap();
            assert_eq!(receive(&client).0, b"?");
            let line = server.wait().exits(0).line("received").to_owned();
            let local = SocketAddr::new(target.parse().unwrap(), port);
            assert!(line.contains(&format!("udp {local} <- ")), "{line}");
        }
    }
}
