//! Connection attempts: probes (`--probe`), and repeated attempts (`--retry-for`, `--retry-on`).
//! Scripts act upon the exit statuses; both bounds of the duration are checked.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::Socket;
use tuplecat::flow::Transport;

use crate::common::*;

fn probe(ports: &str) -> Launch {
    tuplecat("tcp-connect --probe 127.0.0.1").arg(ports)
}

/// Returns the lines that begin with `open` or `failed`, as that word and the port.
fn outcomes(done: &Done) -> Vec<(String, u16)> {
    let lines = done.err.lines().filter_map(|line| {
        let (word, rest) = line.split_once(' ')?;
        let end = rest.split("  connected ").next()?;
        let address = match word {
            "open" => end.rsplit(' ').next()?,
            "failed" => rest.trim_start().split(": ").next()?,
            _ => return None,
        };
        let address: SocketAddr = address.parse().ok()?;
        Some((word.to_owned(), address.port()))
    });
    lines.collect()
}

/// A server may reset before connect(2) is asked for its result. It has accepted all the same.
#[test]
fn data_before_an_early_reset_is_kept() {
    for words in [
        "tcp-connect",
        "tcp-connect --no-fast-path",
        "tcp-connect --probe",
    ] {
        let (listener, address) = listen();
        let server = thread::spawn(move || {
            let mut client = accept(&listener);
            client.write_all(b"busy").unwrap();
            reset(client);
        });
        let done = tuplecat(words).to(address).run();
        server.join().unwrap();
        if words.ends_with("--probe") {
            done.exits(0).line("open");
        } else {
            let done = done.exits(7);
            assert_eq!(done.text(), "busy");
            assert!(done.errors().starts_with("tcp "), "{}", done.err);
            assert!(done.line("closed").contains("in 4 B, "));
        }
    }
}

#[test]
fn an_open_port_is_reported_with_its_connection_and_time() {
    let (listener, address) = listen();
    let done = probe(&address.port().to_string()).run().exits(0);
    let line = done.line("open");
    let (transport, local, remote) = tuple(line);
    assert_eq!((transport.as_str(), remote), ("tcp", address.to_string()));
    assert!(line.ends_with(" ms"), "{line}");
    // The server saw a connection without data.
    let peer = accept(&listener);
    assert_eq!(peer.peer_addr().unwrap().to_string(), local);
    assert_eq!(read_all(&peer), b"");
    assert_eq!(done.text(), "");
    let quiet = probe(&address.port().to_string()).arg("-q").run().exits(0);
    assert_eq!(quiet.err, "");
}

#[test]
fn a_port_that_is_not_open_has_the_status_of_a_connection() {
    let (_nobody, closed) = refusing(Transport::Tcp);
    let message = format!("cannot connect to {closed}: connection refused");
    probe(&closed.port().to_string()).run().fails(5, &message);
    let (_queue, full) = silent();
    let launch = probe(&full.port().to_string()).args("--connect-timeout 200ms");
    let message = format!("cannot connect to {full}: timed out after 0.2 s");
    launch.run().fails(6, &message);
}

#[test]
fn a_list_has_a_line_for_each_port_in_order() {
    let (_one, first) = listen();
    let (_nobody, closed) = refusing(Transport::Tcp);
    let (_other, second) = listen();
    let (_queue, full) = silent();
    let ports = [full, first, closed, second].map(|address| address.port());
    let [silent, one, shut, two] = ports;
    let launch = probe(&format!("{silent},{one},{shut}-{shut},{two},{one}"));
    let done = launch.args("--connect-timeout 200ms").run();
    let word = |word: &str, port| (word.to_owned(), port);
    assert_eq!(
        outcomes(&done),
        [
            word("failed", silent),
            word("open", one),
            word("failed", shut),
            word("open", two)
        ]
    );
    done.fails(5, "2 of 4 ports are not open");
    let launch = probe(&format!("{one},{two}"));
    launch.run().fails(0, "");
    let launch = probe(&format!("{silent},{one}")).args("--connect-timeout 200ms");
    launch.run().fails(6, "1 of 2 ports are not open");
}

#[test]
fn one_open_port_may_be_enough() {
    let (_one, first) = listen();
    let (_nobody, closed) = refusing(Transport::Tcp);
    let (_queue, full) = silent();
    let list = format!("{},{},{}", full.port(), closed.port(), first.port());
    // The silent port is not waited for, which would take longer than a test may.
    let launch = probe(&list).args("--any --connect-timeout 1000");
    let done = launch.run().exits(0);
    assert_eq!(outcomes(&done), [("open".to_owned(), first.port())]);
    let list = format!("{},{0}-{0}", closed.port());
    probe(&list).arg("--any").run().exits(5);
}

#[test]
fn open_ports_can_be_listed_alone() {
    let (_first, first) = listen();
    let (_second, second) = listen();
    let (_nobody, closed) = refusing(Transport::Tcp);
    let list = format!("{},{},{}", first.port(), closed.port(), second.port());
    for words in ["--open-only", "--open-only --retry-for 30"] {
        let done = probe(&list).args(words).run().exits(0);
        let open = [first, second].map(|address| ("open".to_owned(), address.port()));
        assert_eq!(outcomes(&done), open);
    }
    let (_other, other) = refusing(Transport::Tcp);
    let list = format!("{},{}", closed.port(), other.port());
    let done = probe(&list).arg("--open-only").run();
    let done = done.fails(5, "2 of 2 ports are not open");
    assert_eq!(outcomes(&done), []);
}

/// A port that is open, or silent, is not closed.
#[test]
fn a_service_that_goes_away_is_waited_for() {
    let (listener, address) = listen();
    let (_nobody, closed) = refusing(Transport::Tcp);
    let list = format!("{},{}", closed.port(), address.port());
    let open = format!("{address} is open (--until closed)");
    probe(&list).args("--until closed").run().fails(6, &open);
    let done = probe(&list).args("--until closed --retry-for 50ms").run();
    assert!(done.exits(6).errors().starts_with(&open));
    let port = closed.port().to_string();
    probe(&port).args("--until closed").run().exits(0);
    let (_queue, silent) = silent();
    let launch = probe(&silent.port().to_string()).args("--until closed");
    launch.args("--connect-timeout 100ms").run().exits(6);
    let unknown = tuplecat("tcp-connect --probe --until closed no.such.host.invalid 9");
    unknown.run().exits(3);

    let recipe = recipe("gone").at("localhost 6379", address);
    let waiting = recipe.launch().start();
    waiting.err().wait_for("retrying ");
    drop(listener);
    waiting.wait().exits(0);
}

#[test]
fn many_ports_are_probed_at_once() {
    let queues: Vec<_> = (0..20).map(|_| silent()).collect();
    let ports: Vec<String> = queues
        .iter()
        .map(|(_, address)| address.port().to_string())
        .collect();
    let launch = probe(&ports.join(",")).args("-v --connect-timeout 1000");
    let probing = launch.start();
    for (_, address) in &queues {
        probing.err().wait_for(&format!("connecting {address}"));
    }
    probing.signal(Signal::TERM);
    probing.wait().exits(143);
    let launch = probe(&ports.join(",")).args("--connect-timeout 500ms");
    launch.run().fails(6, "20 of 20 ports are not open");
}

/// A lack of descriptors does not count as a closed port.
#[test]
fn a_lack_of_descriptors_limits_probes_at_once() {
    let (_closed, closed) = refusing(Transport::Tcp);
    let open: Vec<_> = (0..30).map(|_| listen()).collect();
    let open_addresses = open.iter().map(|(_, address)| *address);
    let addresses = [closed].into_iter().chain(open_addresses);
    let ports: Vec<String> = addresses
        .map(|address| address.port().to_string())
        .collect();
    let done = probe(&ports.join(",")).limited("-n 20").run();
    let done = done.fails(5, "1 of 31 ports are not open");
    assert_eq!(outcomes(&done).len(), 31, "{}", done.err);
}

#[test]
fn a_list_is_for_probing_and_a_probe_says_nothing() {
    for words in [
        "tcp-connect 127.0.0.1 80,81",
        "tcp-connect --any 127.0.0.1 80",
        "tcp-connect --open-only 127.0.0.1 80",
        "tcp-connect --until closed 127.0.0.1 80",
        "tcp-connect --probe --until shut 127.0.0.1 80",
        "tcp-connect --probe --any --until closed 127.0.0.1 80",
        "tcp-connect --probe --any --open-only 127.0.0.1 80",
        "tcp-connect --probe 127.0.0.1 80,",
        "tcp-connect --probe 127.0.0.1 81-80",
        "tcp-connect --probe --send x 127.0.0.1 80",
        "tcp-connect --retry-on refused 127.0.0.1 80",
        "tcp-connect --retry-for 1 --retry-on reset 127.0.0.1 80",
        "udp-sendto --retry-for 1 127.0.0.1 80",
        "udp-sendto --retry-for 1 --send x --stdin 127.0.0.1 80",
        "tcp-listen --retry-for 1 0",
    ] {
        tuplecat(words).run().exits(2);
    }
}

/// Reserves an address that refuses until [`service_at`] takes it.
fn later(transport: Transport) -> (Socket, SocketAddr) {
    let (socket, address) = refusing(transport);
    // Set after bind(2): before, it would allow a port that another socket has (socket(7)).
    socket.set_reuse_address(true).unwrap();
    (socket, address)
}

/// Binds the reserved address too.
fn service_at((refusing, address): &(Socket, SocketAddr)) -> Socket {
    let (domain, kind) = (refusing.domain().unwrap(), refusing.r#type().unwrap());
    let socket = Socket::new(domain, kind, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&(*address).into()).unwrap();
    socket
}

/// Binds the reserved address and listens.
fn listener_at(later: &(Socket, SocketAddr)) -> TcpListener {
    let socket = service_at(later);
    socket.listen(4).unwrap();
    socket.into()
}

#[test]
fn a_port_that_opens_in_time_is_found() {
    for words in ["--probe", "--recv-only"] {
        let later = later(Transport::Tcp);
        let client = tuplecat("tcp-connect --retry-for 15")
            .args(words)
            .to(later.1);
        let running = client.start();
        running.err().wait_for("retrying ");
        let listener = listener_at(&later);
        drop(accept(&listener));
        let done = running.wait().exits(0);
        assert!(
            done.line("retrying").contains("connection refused"),
            "{}",
            done.err
        );
        assert_eq!(done.err.matches("retrying").count(), 1, "{}", done.err);
    }
}

#[test]
fn a_list_is_waited_for_until_all_are_open() {
    let (_listener, open) = listen();
    let later = later(Transport::Tcp);
    let closed = later.1;
    let list = format!("{},{}", closed.port(), open.port());
    let running = probe(&list).args("--retry-for 15").start();
    running.err().wait_for("retrying ");
    let _late = listener_at(&later);
    let done = running.wait().exits(0);
    let mut ports: Vec<u16> = outcomes(&done).into_iter().map(|(_, port)| port).collect();
    ports.sort_unstable();
    let mut expected = [open.port(), closed.port()];
    expected.sort_unstable();
    assert_eq!(ports, expected, "{}", done.err);
}

#[test]
fn trying_ends_within_its_time_with_the_last_failure() {
    let (_nobody, closed) = refusing(Transport::Tcp);
    let (_queue, full) = silent();
    for (words, address, status, says) in [
        ("--retry-for 300ms", closed, 5, "connection refused"),
        ("--retry-for 300ms --probe", closed, 5, "connection refused"),
        (
            "--retry-for 300ms --connect-timeout 1000",
            full,
            6,
            "timed out",
        ),
        (
            "--retry-for 300ms --connect-timeout 50ms",
            full,
            6,
            "timed out",
        ),
        (
            "--retry-for 1000 --timeout 300ms",
            closed,
            5,
            "connection refused",
        ),
    ] {
        let began = Instant::now();
        let done = tuplecat("tcp-connect").args(words).to(address).run();
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(200), "{words}: {took:?}");
        let errors = done.exits(status).errors();
        assert!(errors.contains(says), "{words}: {errors}");
        assert!(
            errors.contains("gave up after attempt "),
            "{words}: {errors}"
        );
    }
}

#[test]
fn only_named_errors_are_tried_again() {
    let (_nobody, closed) = refusing(Transport::Tcp);
    let launch = tuplecat("tcp-connect --retry-for 15 --retry-on timeout,resolve").to(closed);
    let message = format!("cannot connect to {closed}: connection refused");
    launch.run().fails(5, &message);
    let launch = tuplecat("tcp-connect --retry-for 15 --retry-on refused -n nobody 9");
    launch.run().exits(3);
    let launch = tuplecat("tcp-connect --retry-for 300ms -n nobody 9");
    assert!(
        launch.run().exits(3).errors().contains("gave up"),
        "resolve is tried again"
    );
    let launch = tuplecat("tcp-connect --retry-for 15 --source 192.0.2.1").to(closed);
    launch.run().exits(4);
}

#[test]
fn a_signal_ends_the_pause() {
    let (_nobody, closed) = refusing(Transport::Tcp);
    let running = tuplecat("tcp-connect --retry-for 19").to(closed).start();
    running.err().wait_for("retrying ");
    running.signal(rustix::process::Signal::TERM);
    running.wait().exits(143);
}

#[test]
fn a_udp_service_is_asked_until_it_answers() {
    let later = later(Transport::Udp);
    let words = "--retry-for 15 --send ping --expect pong";
    let running = tuplecat("udp-sendto").args(words).to(later.1).start();
    running.err().wait_for("retrying ");
    let service = UdpSocket::from(service_at(&later));
    service.set_read_timeout(Some(BOUND)).unwrap();
    let (question, peer) = receive(&service);
    assert_eq!(question, b"ping");
    service.send_to(b"pong", peer).unwrap();
    assert_eq!(running.wait().exits(0).text(), "pong");
}

#[test]
fn asking_a_udp_service_ends_within_its_time() {
    let (_nobody, closed) = refusing(Transport::Udp);
    let (_silent, silent) = datagrams();
    for (address, status) in [(closed, 5), (silent, 6)] {
        // An attempt alone would take longer than a test may.
        let words = "--retry-for 300ms --reply-timeout 1000 --send ping --expect pong";
        let launch = tuplecat("udp-sendto").args(words).to(address);
        launch.run().exits(status);
    }
    // A wrong answer is an answer, and not tried again.
    let (socket, address) = datagrams();
    let answers = thread::spawn(move || {
        let (_, peer) = receive(&socket);
        socket.send_to(b"wrong", peer).unwrap();
        socket
    });
    let words = "--retry-for 15 --reply-timeout 100ms --send ping --expect pong";
    tuplecat("udp-sendto")
        .args(words)
        .to(address)
        .run()
        .exits(8);
    drop(answers.join());
}
