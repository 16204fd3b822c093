//! Peers written with the standard library, with a bound on everything they wait for.
//! Here are also the two addresses that are hard to come by: one that refuses, and one that never answers.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use tuplecat::flow::Transport;

use super::{BOUND, skip};

/// Any port of 127.0.0.1.
pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A connection to `address`.
#[track_caller]
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    bounded(TcpStream::connect_timeout(&address, BOUND).unwrap())
}

/// A listening socket and its address.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// The next client.
#[track_caller]
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    assert!(
        is_ready_within(listener, PollFlags::IN, BOUND),
        "no client came"
    );
    bounded(listener.accept().unwrap().0)
}

/// A UDP socket and its address.
pub(crate) fn datagrams() -> (UdpSocket, SocketAddr) {
    datagrams_at(LOOPBACK)
}

/// A UDP socket with this address.
pub(crate) fn datagrams_at(address: SocketAddr) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The next datagram and its sender.
#[track_caller]
pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut space = vec![0; 65_536];
    let (count, sender) = socket.recv_from(&mut space).expect("a datagram");
    space.truncate(count);
    (space, sender)
}

/// Everything until the peer's end.
#[track_caller]
pub(crate) fn read_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("bytes and an end");
    bytes
}

/// So many bytes.
#[track_caller]
pub(crate) fn read_len(mut stream: &TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).expect("that many bytes");
    bytes
}

/// Whether nothing comes for this time, not even the end. Too short a time can hide a fault, never make one up.
pub(crate) fn is_silent_for(socket: &impl AsFd, time: Duration) -> bool {
    !is_ready_within(socket, PollFlags::IN, time)
}

/// Waits until a descriptor is ready, or has come to its end.
pub(crate) fn is_ready_within(fd: &impl AsFd, what: PollFlags, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap();
        match poll(&mut [PollFd::new(fd, what)], Some(&left)) {
            Ok(count) => return count > 0,
            Err(Errno::INTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Closes a connection with RST: what the kernel has not sent yet is lost.
pub(crate) fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// An address where nobody answers and everybody is refused, as long as the socket is kept.
pub(crate) fn refusing(transport: Transport) -> (Socket, SocketAddr) {
    refusing_at(transport, LOOPBACK.ip())
}

/// The same at an address of this machine.
pub(crate) fn refusing_at(transport: Transport, ip: IpAddr) -> (Socket, SocketAddr) {
    let kind = match transport {
        Transport::Tcp => Type::STREAM,
        Transport::Udp => Type::DGRAM,
    };
    let any = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(any), kind, None).unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    if transport == Transport::Udp {
        // A connected socket takes datagrams from its peer only; to everybody else its port is unreachable.
        socket.connect(&address.into()).unwrap();
    }
    (socket, address)
}

/// A TCP address that never answers, as long as the sockets are kept: a listener whose queue is full.
pub(crate) fn silent() -> (Vec<Socket>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&LOOPBACK.into()).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut sockets = fill(&listener);
    sockets.push(listener);
    (sockets, address)
}

/// Lets a listener's queue run full, so that it does not answer as long as the sockets are kept.
pub(crate) fn fill(listener: &Socket) -> Vec<Socket> {
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let clients = std::iter::repeat_with(|| {
        let client = Socket::new(address.domain(), Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        // Under way, whether it finds room in the queue or not.
        let _ = client.connect(&address);
        client
    });
    clients.take(4).collect()
}

/// Whether this machine has IPv6; says so where it has not.
pub(crate) fn has_ipv6() -> bool {
    let has = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        skip("this machine has no IPv6");
    }
    has
}

fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream
}
