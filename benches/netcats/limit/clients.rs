//! A server for many clients in one loop: to standard output, back to the sender, or to all others.
//! All clients share one epoll(7) set and one buffer; all pending connections are accepted at once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use socket2::{Domain, Socket, Type};

use crate::ports::HOST;

/// The destination of data from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Gather,
    Echo,
    Broker,
}

/// Time limit for a write to one client.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Key of the listening socket in the set.
const LISTENER: u64 = u64::MAX;

/// Serves clients until it is killed.
pub(super) fn serve(port: u16, service: Service) -> io::Result<()> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.bind(&std::net::SocketAddr::from((HOST, port)).into())?;
    listener.listen(4096)?;
    listener.set_nonblocking(true)?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let add = |socket: &dyn AsFd, name: u64| {
        epoll::add(
            &set,
            socket.as_fd(),
            epoll::EventData::new_u64(name),
            epoll::EventFlags::IN,
        )
    };
    add(&listener, LISTENER)?;
    let mut clients: Vec<Option<TcpStream>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let name = event.data.u64();
            if name != LISTENER {
                let place = usize::try_from(name).map_err(io::Error::other)?;
                if !serve_client(&mut clients, place, service, &mut buffer)? {
                    clients[place] = None;
                    free.push(place);
                }
                continue;
            }
            while let Ok((socket, _)) = listener.accept() {
                socket.set_nonblocking(true)?;
                socket.set_tcp_nodelay(true)?;
                let place = free.pop().unwrap_or(clients.len());
                clients.resize_with(clients.len().max(place + 1), || None);
                clients[place] = Some(socket.into());
                // Its data has often arrived already, which saves one wait.
                if !serve_client(&mut clients, place, service, &mut buffer)? {
                    clients[place] = None;
                    free.push(place);
                } else if let Some(client) = &clients[place] {
                    add(client, place as u64)?;
                }
            }
        }
    }
}

/// Reads from a client and passes the data on; false if the client has ended.
fn serve_client(
    clients: &mut [Option<TcpStream>],
    place: usize,
    service: Service,
    buffer: &mut [u8],
) -> io::Result<bool> {
    loop {
        let Some(client) = &mut clients[place] else {
            return Ok(false);
        };
        let len = match client.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(len) => len,
            Err(error) => return Ok(error.kind() == ErrorKind::WouldBlock),
        };
        match service {
            Service::Gather => super::write_out(&buffer[..len])?,
            Service::Echo => return Ok(send(client, &buffer[..len])),
            Service::Broker => {
                for (other, client) in clients.iter_mut().enumerate() {
                    if let Some(client) = client.as_mut().filter(|_| other != place) {
                        send(client, &buffer[..len]);
                    }
                }
                return Ok(true);
            }
        }
    }
}

/// Sends all bytes; false if the client fails or does not accept them in time.
fn send(client: &mut TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match client.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(&*client, PollFlags::OUT)];
                let limit = Timespec::try_from(SEND_TIMEOUT).ok();
                if poll(&mut fds, limit.as_ref()) != Ok(1) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}
