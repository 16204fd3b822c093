//! What pays on a connection that carries much: no pacing where there is no network, and no backlog that a slow peer does not want.
//! Each is only an aid: where the kernel does not know it, bytes go as they did.

use std::time::Duration;

use socket2::Socket;

use crate::sys::tcp_info::tcp_info;

/// Bytes sent from one look at a connection to the next.
pub(super) const LOOK: u64 = 1 << 20;

/// How long a connection must have been busy since the last look: the kernel counts in ticks of up to 10 ms (time(7)).
const ENOUGH: Duration = Duration::from_millis(50);

/// Unsent bytes from which on the kernel asks for no more (`TCP_NOTSENT_LOWAT`, tcp(7)).
const SHORT: u32 = 32 << 10;

/// What the kernel had counted for a connection when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// See [`TcpInfo`](crate::sys::tcp_info::TcpInfo).
    busy: Duration,
    held_back: Duration,
    /// Whether its backlog is kept short.
    is_short: bool,
}

impl Bulk {
    /// Keeps the backlog short if, since the last look, the peer's window has held back what was to be sent for more than an eighth
    /// of the time.
    ///
    /// A long one is then of no use: what the peer makes room for is sent by the processor on which it reads, out of no processor's
    /// cache. On one machine it halves the speed of such a peer. Where Nagle's algorithm waits for full segments (RFC 9293, 3.7.4), a
    /// backlog that is shorter than a segment would make each of them wait for an acknowledgement: there it stays as it is.
    pub(super) fn look(&mut self, socket: &Socket) {
        let Some(path) = tcp_info(socket) else {
            return;
        };
        let busy = path.busy.saturating_sub(self.busy);
        if busy < ENOUGH {
            return;
        }
        let held_back = path.held_back.saturating_sub(self.held_back);
        (self.busy, self.held_back) = (path.busy, path.held_back);
        let is_short = held_back * 8 > busy && socket.tcp_nodelay().unwrap_or(false);
        if is_short != self.is_short {
            self.is_short = is_short;
            // With 0 it is again what the system says.
            let _ = socket.set_tcp_notsent_lowat(if is_short { SHORT } else { 0 });
        }
    }
}

/// Chooses a congestion control that every Linux has, lets everybody use, and does not pace (`TCP_CONGESTION`, tcp(7)).
///
/// Where both ends are on one machine there is no network that could be congested, but a system whose congestion control spreads
/// segments over time, as BBR does, then spends more on timers than on the bytes.
pub(super) fn stop_pacing(socket: &Socket) {
    let _ = socket.set_tcp_congestion(b"reno");
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    /// A connection, the end that sends first.
    fn connection() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        sender.set_nonblocking(true).unwrap();
        sender.set_nodelay(true).unwrap();
        (sender.into(), listener.accept().unwrap().0)
    }

    /// Each piece is read before the next is sent.
    fn keep_up(sender: &mut Socket, peer: &mut TcpStream) {
        for _ in 0..64 {
            sender.write_all(&[0; 1 << 12]).unwrap();
            peer.read_exact(&mut [0; 1 << 12]).unwrap();
        }
    }

    #[test]
    fn a_backlog_is_short_for_as_long_as_the_peer_does_not_read() {
        let (mut sender, mut peer) = connection();
        let usual = sender.tcp_notsent_lowat().unwrap();
        let mut bulk = Bulk::default();
        let end = Instant::now() + Duration::from_secs(30);
        let mut sent = 0;
        while sender.tcp_notsent_lowat().unwrap() != SHORT {
            assert!(Instant::now() < end, "the kernel saw no closed window");
            match sender.write(&[0; 1 << 12]) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                Ok(count) => sent += count,
            }
            bulk.look(&sender);
        }
        peer.read_exact(&mut vec![0; sent]).unwrap();
        while sender.tcp_notsent_lowat().unwrap() != usual {
            assert!(Instant::now() < end, "the kernel saw no open window");
            keep_up(&mut sender, &mut peer);
            bulk.look(&sender);
        }
    }

    #[test]
    fn a_peer_that_keeps_up_changes_nothing() {
        let (mut sender, mut peer) = connection();
        let usual = sender.tcp_notsent_lowat().unwrap();
        keep_up(&mut sender, &mut peer);
        Bulk::default().look(&sender);
        assert_eq!(sender.tcp_notsent_lowat().unwrap(), usual);
    }
}
