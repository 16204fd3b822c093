//! Memory limits: a slow side slows the other side down, and no data accumulates in between.
//! Nothing spins meanwhile, and nothing is lost once the slow side goes on.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::common::*;

/// The capacity of two sockets, two pipes and the program together, in bytes.
const BUFFERS: usize = 6 << 20;

/// The growth that a process may have, in kilobytes.
const GROWTH: u64 = 4 << 10;

fn has_grown(running: &Running, since: u64) -> u64 {
    memory(running, "VmHWM").saturating_sub(since)
}

/// Opens a listening socket whose connections have a small receive buffer.
fn listen_with_little_room() -> (TcpListener, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.bind(&LOOPBACK.into()).unwrap();
    socket.listen(1).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket.into(), address)
}

#[test]
fn many_lines_through_a_slow_reader_take_no_memory() {
    let lines: Vec<u8> = (0..200_000)
        .flat_map(|number| format!("this is line {number}\n").into_bytes())
        .collect();
    let (listener, address) = listen_with_little_room();
    let launch = tuplecat("tcp-connect --sndbuf 64k")
        .to(address)
        .stdin(Input::Held);
    let mut client = launch.start();
    let peer = accept(&listener);
    let before = memory(&client, "VmRSS");
    let mut stdin = client.take_stdin();
    // The peer is slow: it reads only when nothing more can be written.
    let taken = push(&stdin, &lines);
    let rest = lines[taken..].to_vec();
    let typist = thread::spawn(move || {
        for line in rest.split_inclusive(|&byte| byte == b'\n') {
            stdin.write_all(line).unwrap();
        }
    });
    assert!(read_all(&peer) == lines);
    typist.join().unwrap();
    let grown = has_grown(&client, before);
    assert!(grown < GROWTH, "grew by {grown} kB");
    drop(peer);
    client.wait().exits(0);
}

#[test]
fn a_peer_that_does_not_read_stops_the_reading_of_input() {
    let sent = bytes(3 * BUFFERS);
    let (listener, address) = listen_with_little_room();
    let launch = tuplecat("tcp-connect --sndbuf 64k")
        .to(address)
        .stdin(Input::Held);
    let mut client = launch.start();
    let peer = accept(&listener);
    let before = memory(&client, "VmRSS");
    let mut stdin = client.take_stdin();
    let taken = push(&stdin, &sent);
    assert!(taken < BUFFERS, "took {taken} bytes");
    is_calm(&client);
    // Once the peer reads again, nothing is missing.
    let rest = sent[taken..].to_vec();
    let feeder = thread::spawn(move || stdin.write_all(&rest).unwrap());
    assert!(read_all(&peer) == sent);
    feeder.join().unwrap();
    let grown = has_grown(&client, before);
    assert!(grown < GROWTH, "grew by {grown} kB");
    drop(peer);
    client.wait().exits(0);
}

#[test]
fn an_output_that_is_not_read_slows_the_sender_down() {
    let sent = bytes(3 * BUFFERS);
    let server = tuplecat("tcp-listen --rcvbuf 64k 0").stdout(Output::Held);
    let mut server = server.stdin(Input::Held).start();
    let peer = Socket::from(connect(server.ready()));
    peer.set_send_buffer_size(64 << 10).unwrap();
    let mut peer = std::net::TcpStream::from(peer);
    server.err().wait_for_line("accepted");
    let before = memory(&server, "VmRSS");
    let taken = push(&peer, &sent);
    assert!(taken < BUFFERS, "took {taken} bytes");
    is_calm(&server);
    let arrived = Capture::start(server.take_stdout());
    peer.write_all(&sent[taken..]).unwrap();
    assert!(arrived.wait_for_len(sent.len()) == sent);
    let grown = has_grown(&server, before);
    assert!(grown < GROWTH, "grew by {grown} kB");
    drop(peer);
    server.close_stdin();
    server.wait().exits(0);
}

/// A sender of datagrams cannot be slowed down: the kernel drops what does not fit, and counts it.
#[test]
fn an_output_that_is_not_read_leaves_datagrams_to_the_kernel() {
    let server = tuplecat("udp-bind --rcvbuf 1m 0");
    let mut server = server.stdout(Output::Held).start();
    let address = server.ready();
    let before = memory(&server, "VmRSS");
    let (socket, _) = datagrams();
    let datagram = bytes(1000);
    for _ in 0..20_000 {
        socket.send_to(&datagram, address).unwrap();
    }
    is_calm(&server);
    let grown = has_grown(&server, before);
    assert!(grown < GROWTH, "grew by {grown} kB");
    // Reads until a later datagram arrives: then all before it have arrived too.
    let arrived = Capture::start(server.take_stdout());
    let mut sent = 20_000;
    let start = Instant::now();
    while !arrived.so_far().ends_with(b"newcomer") && start.elapsed() < BOUND {
        socket.send_to(b"newcomer", address).unwrap();
        sent += 1;
        assert!(!server.has_ended_within(Duration::from_millis(10)));
    }
    server.signal(Signal::INT);
    let done = server.wait().exits(130);
    let closed = done.line("closed");
    let written = arrived.finish().len() as u64;
    assert_eq!(number_before(closed, " B)"), written, "{closed}");
    nothing_uncounted(closed, sent);
}

/// Connects a client with little room to receive, which sends requests and reads no answer.
fn stall(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_nonblocking(true).unwrap();
    // What the server does not take is of no interest, nor is a refusal.
    let _ = client.write(&b"get this line\n".repeat(20_000));
    client
}

/// Ways to serve a client that reads nothing.
const SERVICES: [&str; 3] = ["--canned /bin/sh", "--respond get=a", "--echo"];

/// Memory that stalled clients take is bounded, and given back when they are gone, however they go.
#[test]
fn memory_of_stalled_clients_is_given_back() {
    const CLIENTS: usize = 150;
    for words in SERVICES {
        let server = tuplecat("tcp-listen -k --sndbuf 4k 0").args(words).start();
        let address = server.ready();
        let before = memory(&server, "VmRSS");
        let clients: Vec<_> = (0..CLIENTS).map(|_| stall(address)).collect();
        // It takes what it can from each of them, and rests.
        let mut used = (0, ticks(&server));
        while used.0 < used.1 {
            assert!(!server.has_ended_within(Duration::from_millis(300)));
            used = (used.1, ticks(&server));
        }
        let stalled = memory(&server, "VmRSS").saturating_sub(before);
        assert!(stalled < 160 * CLIENTS as u64, "{words}: {stalled} kB");
        clients.into_iter().for_each(reset);
        server.err().wait_until("all are closed", |err| {
            String::from_utf8_lossy(err).matches("closed  ").count() >= CLIENTS
        });
        // Batches of 64 clients are kept for the next ones.
        let left = memory(&server, "VmRSS").saturating_sub(before);
        assert!(left < 8 << 10, "{words}: {left} of {stalled} kB");
        server.signal(Signal::TERM);
        server.wait().exits(143);
    }
}

/// A client that there is no memory for is disconnected; the server goes on for those that come later.
#[test]
fn a_client_without_memory_stops_no_server() {
    for words in SERVICES {
        let server = tuplecat("tcp-listen -k --sndbuf 4k 0").args(words);
        let server = server.limited("-v 60000").start();
        let address = server.ready();
        let clients: Vec<_> = (0..1000).map(|_| stall(address)).collect();
        server.err().wait_for(" memory");
        clients.into_iter().for_each(reset);
        let mut client = connect(address);
        client.write_all(b"get\n").unwrap();
        assert_eq!(read_len(&client, 1).len(), 1, "{words}");
        server.signal(Signal::TERM);
        server.wait().exits(143);
    }
}
