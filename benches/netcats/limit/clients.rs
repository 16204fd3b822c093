//! Many clients in one loop: to standard output, back to themselves, or to each other.
//! One wait for all of them, one buffer for all of them, and new ones are taken until there are none.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use socket2::{Domain, Socket, Type};

use crate::ports::HOST;

/// What becomes of what a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Gather,
    Echo,
    Broker,
}

/// How long a client may hold up the others.
const PATIENCE: Duration = Duration::from_secs(1);

/// The name of the listening socket in the set.
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
                if !hear(&mut clients, place, service, &mut buffer)? {
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
                // What it says is often there already: no turn of the loop for that.
                if !hear(&mut clients, place, service, &mut buffer)? {
                    clients[place] = None;
                    free.push(place);
                } else if let Some(client) = &clients[place] {
                    add(client, place as u64)?;
                }
            }
        }
    }
}

/// Takes what a client says, and passes it on; false if it has ended.
fn hear(
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
            Service::Echo => return Ok(tell(client, &buffer[..len])),
            Service::Broker => {
                for (other, client) in clients.iter_mut().enumerate() {
                    if let Some(client) = client.as_mut().filter(|_| other != place) {
                        tell(client, &buffer[..len]);
                    }
                }
                return Ok(true);
            }
        }
    }
}

/// Sends all of it, for as long as the client takes it; false if it does not.
fn tell(client: &mut TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match client.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(&*client, PollFlags::OUT)];
                let limit = Timespec::try_from(PATIENCE).ok();
                if poll(&mut fds, limit.as_ref()) != Ok(1) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}
