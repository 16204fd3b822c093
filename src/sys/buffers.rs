//! The buffers of a socket: what waits in them, and how many datagrams were dropped because there was no room.
//! Only a look, at this moment: the count of drops that comes with a datagram is as old as the datagram.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Bytes that have arrived and are not read; of a UDP socket, the size of the next datagram (`SIOCINQ`, tcp(7), udp(7)).
pub fn unread(socket: &impl AsFd) -> Option<usize> {
    let count = rustix::io::ioctl_fionread(socket).ok()?;
    usize::try_from(count).ok()
}

/// Bytes that are written and not acknowledged; of a UDP socket, not sent (`SIOCOUTQ`, tcp(7), udp(7)).
pub fn unsent(socket: &impl AsFd) -> Option<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: `SIOCOUTQ`, which is `TIOCOUTQ`, writes one `c_int` to where `count` lives.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    usize::try_from(count).ok().filter(|_| result == 0)
}

/// The values of `SO_MEMINFO`, each of four bytes, and which of them counts drops (`linux/sock_diag.h`).
const VALUES: usize = 9;
const SIZE: libc::socklen_t = 4 * 9;
const DROPS: usize = 8;

/// Datagrams that the kernel has dropped at this socket so far (`SO_MEMINFO`, Linux 4.12).
pub fn dropped(socket: &impl AsFd) -> io::Result<u32> {
    let mut info = [0_u32; VALUES];
    let mut size = SIZE;
    // SAFETY: `info` is valid for writing `size` bytes, and any bytes are valid numbers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    match result {
        0 => Ok(info[DROPS]),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn an_unread_byte_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.peek(&mut [0]).unwrap();
        assert_eq!(unread(&server), Some(1));
        assert!(unsent(&client).is_some());
    }

    #[test]
    fn a_datagram_socket_has_buffers_as_well() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!((unread(&socket), unsent(&socket)), (Some(0), Some(0)));
        assert_eq!(dropped(&socket).unwrap(), 0);
    }
}
