//! Peers from the standard library, with a bound on every call that waits.
//! Two kinds of address need more: one that refuses, and one that never answers.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use tuplecat::flow::Transport;

use super::{BOUND, skip};

/// A port of 127.0.0.1 that the kernel chooses.
pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Connects to `address`.
#[track_caller]
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    bounded(TcpStream::connect_timeout(&address, BOUND).unwrap())
}

/// Opens a listening socket, and returns it with its address.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Accepts the next client.
#[track_caller]
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    assert!(
        is_ready_within(listener, PollFlags::IN, BOUND),
        "no client came"
    );
    bounded(listener.accept().unwrap().0)
}

/// Opens a UDP socket, and returns it with its address.
pub(crate) fn datagrams() -> (UdpSocket, SocketAddr) {
    datagrams_at(LOOPBACK)
}

/// Opens a UDP socket with this address.
pub(crate) fn datagrams_at(address: SocketAddr) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Receives the next datagram, and returns it with its sender.
#[track_caller]
pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut space = vec![0; 65_536];
    let (count, sender) = socket.recv_from(&mut space).expect("a datagram");
    space.truncate(count);
    (space, sender)
}

/// Reads until the peer's FIN.
#[track_caller]
pub(crate) fn read_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("bytes and an end");
    bytes
}

/// Reads `len` bytes.
#[track_caller]
pub(crate) fn read_len(mut stream: &TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).expect("that many bytes");
    bytes
}

/// Returns true if neither data nor an end arrives in this time. If it is too short, a test can miss a fault, but not report one.
pub(crate) fn is_silent_for(socket: &impl AsFd, time: Duration) -> bool {
    !is_ready_within(socket, PollFlags::IN, time)
}

/// Waits until a descriptor is ready or at its end; returns false at the limit.
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

/// Closes a connection with RST; unsent data is lost.
pub(crate) fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reserves an address of 127.0.0.1 that refuses, as long as the socket exists.
pub(crate) fn refusing(transport: Transport) -> (Socket, SocketAddr) {
    refusing_at(transport, LOOPBACK.ip())
}

/// Reserves an address of this machine that refuses.
pub(crate) fn refusing_at(transport: Transport, ip: IpAddr) -> (Socket, SocketAddr) {
    let kind = match transport {
        Transport::Tcp => Type::STREAM,
        _ => Type::DGRAM,
    };
    let any = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(any), kind, None).unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    if transport == Transport::Udp {
        // A connected socket receives from its peer only. For others the port is unreachable.
        socket.connect(&address.into()).unwrap();
    }
    (socket, address)
}

/// Reserves a TCP address that never answers, as long as the sockets exist: the queue of its listener is full.
pub(crate) fn silent() -> (Vec<Socket>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&LOOPBACK.into()).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut sockets = fill(&listener);
    sockets.push(listener);
    (sockets, address)
}

/// Fills the queue of a listener, so that it does not answer as long as the sockets exist.
pub(crate) fn fill(listener: &Socket) -> Vec<Socket> {
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let clients = std::iter::repeat_with(|| {
        let client = Socket::new(address.domain(), Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        // The attempt goes on, with or without room in the queue.
        let _ = client.connect(&address);
        client
    });
    clients.take(4).collect()
}

/// Returns true if this machine has IPv6; prints a notice if not.
pub(crate) fn has_ipv6() -> bool {
    let has = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        skip("this machine has no IPv6");
    }
    has
}

pub(crate) fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.set_write_timeout(Some(BOUND)).unwrap();
    stream
}
