//! What pays on a connection that carries much: no pacing where there is no network, and no backlog that a slow peer does not want.
//! Each is only an aid: where the kernel does not know it, bytes go as they did.

use socket2::Socket;

use crate::sys::tcp_info::figures;

/// Bytes sent from one look at a connection to the next.
pub(super) const LOOK: u64 = 1 << 20;

/// Unsent bytes from which on the kernel asks for no more (`TCP_NOTSENT_LOWAT`, tcp(7)).
const SHORT: u32 = 32 << 10;

/// Chooses a congestion control that every Linux has, lets everybody use, and does not pace (`TCP_CONGESTION`, tcp(7)).
///
/// Where both ends are on one machine there is no network that could be congested, but a system whose congestion control spreads
/// segments over time, as BBR does, then spends more on timers than on the bytes.
pub(super) fn stop_pacing(socket: &Socket) {
    let _ = socket.set_tcp_congestion(b"reno");
}

/// Keeps the backlog short from now on, if the peer's window has held back what was to be sent for more than an eighth of the time.
///
/// A long one is then of no use: what the peer makes room for is sent by the processor on which it reads, out of no processor's cache.
/// On one machine it halves the speed of such a peer. Where Nagle's algorithm waits for full segments (RFC 9293, 3.7.4), a backlog
/// that is shorter than a segment would make each of them wait for an acknowledgement: there it stays as it is.
pub(super) fn limit_backlog(socket: &Socket) {
    let is_held_back = figures(socket).is_some_and(|path| path.held_back * 8 > path.busy);
    if is_held_back && socket.tcp_nodelay().unwrap_or(false) {
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
        sender.set_nodelay(true).unwrap();
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
            limit_backlog(&sender);
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
        limit_backlog(&sender);
        assert_eq!(sender.tcp_notsent_lowat().unwrap(), usual);
    }
}
