//! Both directions of a connection in one thread: wait, read, write.
//! This is the smallest number of calls for a program that reads from two descriptors.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

/// Copies both directions until the peer sends its FIN.
pub(super) fn pump(mut stream: TcpStream) -> anyhow::Result<()> {
    let input = rustix::stdio::stdin();
    let mut buffer = vec![0; 1 << 16];
    let socket = stream.try_clone()?;
    let mut fds = vec![
        PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(input, PollFlags::IN),
    ];
    loop {
        poll(&mut fds, None)?;
        if !fds[0].revents().is_empty() {
            let len = stream.read(&mut buffer)?;
            if len == 0 {
                return Ok(());
            }
            super::write_out(&buffer[..len])?;
        }
        if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            let len = rustix::io::read(input, &mut buffer)?;
            if len == 0 {
                stream.shutdown(Shutdown::Write)?;
                fds.pop();
            }
            stream.write_all(&buffer[..len])?;
        }
    }
}
