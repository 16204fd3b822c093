//! How much may lie unsent in the kernel, behind what the peer has room for.
//! Where the peer is the slower one, a long backlog helps nobody: what it makes room for is then sent while it reads, by the processor
//! that reads, and bytes that have lain there are in no processor's cache any more. It halves the speed of such a peer on the same machine.

use socket2::Socket;

use crate::sys::tcp_info::figures;

/// Bytes sent from one look at the peer to the next.
pub(super) const LOOK: u64 = 4 << 20;

/// Unsent bytes from which on the kernel asks for no more (`TCP_NOTSENT_LOWAT`, tcp(7)).
const SHORT: u32 = 32 << 10;

/// Keeps the backlog short from now on, if the peer's window has held back what was to be sent for more than an eighth of the time.
pub(super) fn fit(socket: &Socket) {
    if figures(socket).is_some_and(|path| path.held_back * 8 > path.busy) {
        // Only an aid: a kernel without it goes on as it did.
        let _ = socket.set_tcp_notsent_lowat(SHORT);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    /// A connection, the end that sends first.
    fn connection() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        sender.set_nonblocking(true).unwrap();
        (sender.into(), listener.accept().unwrap().0)
    }

    #[test]
    fn a_peer_that_does_not_read_shortens_the_backlog() {
        let (mut sender, peer) = connection();
        let end = Instant::now() + Duration::from_secs(20);
        while sender.tcp_notsent_lowat().unwrap() != SHORT {
            assert!(Instant::now() < end, "the kernel saw no closed window");
            match sender.write(&[0; 1 << 12]) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                Ok(count) => assert_ne!(count, 0),
            }
            fit(&sender);
        }
        drop(peer);
    }

    #[test]
    fn a_peer_that_keeps_up_changes_nothing() {
        let (mut sender, mut peer) = connection();
        let usual = sender.tcp_notsent_lowat().unwrap();
        for _ in 0..64 {
            sender.write_all(&[0; 1 << 12]).unwrap();
            peer.read_exact(&mut [0; 1 << 12]).unwrap();
        }
        fit(&sender);
        assert_eq!(sender.tcp_notsent_lowat().unwrap(), usual);
    }
}
