//! What TCP has learned of a connection, for reports and decisions: its state, the round trip, what was sent again.
//! Only a look: nothing is changed, and a kernel that does not tell is no error.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// What TCP has learned of the path to the peer (`TCP_INFO`, tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The state of the connection, as RFC 9293, 3.3.2 names it.
    pub state: &'static str,
    /// The smoothed time of a round trip.
    pub rtt: Duration,
    /// How much that time varies.
    pub rtt_variation: Duration,
    /// Segments that were sent again, in all.
    pub retransmits: u32,
    /// The congestion window, in segments.
    pub cwnd: u32,
    /// The most bytes in a segment.
    pub mss: u32,
    /// How long there has been something to send or to be acknowledged.
    pub busy: Duration,
    /// How much of that time the peer's window has held it back (RFC 9293, 3.8.6).
    pub held_back: Duration,
}

/// The figures of a TCP socket; also of one whose connection is broken.
pub fn figures(socket: &impl AsFd) -> Option<Figures> {
    // SAFETY: the structure has only integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_possible_truncation, reason = "some 200 bytes")]
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` is as long as `length` says and lives through the call; an older kernel fills less of it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            std::ptr::from_mut(&mut info).cast(),
            &raw mut length,
        )
    };
    (result == 0).then(|| Figures {
        state: state_name(info.tcpi_state),
        rtt: Duration::from_micros(info.tcpi_rtt.into()),
        rtt_variation: Duration::from_micros(info.tcpi_rttvar.into()),
        retransmits: info.tcpi_total_retrans,
        cwnd: info.tcpi_snd_cwnd,
        mss: info.tcpi_snd_mss,
        busy: Duration::from_micros(info.tcpi_busy_time),
        held_back: Duration::from_micros(info.tcpi_rwnd_limited),
    })
}

/// The names of RFC 9293 for the numbers of Linux (`net/tcp_states.h`).
fn state_name(number: u8) -> &'static str {
    const NAMES: [&str; 11] = [
        "ESTABLISHED",
        "SYN-SENT",
        "SYN-RECEIVED",
        "FIN-WAIT-1",
        "FIN-WAIT-2",
        "TIME-WAIT",
        "CLOSED",
        "CLOSE-WAIT",
        "LAST-ACK",
        "LISTEN",
        "CLOSING",
    ];
    let index = usize::from(number).wrapping_sub(1);
    NAMES.get(index).copied().unwrap_or("UNKNOWN")
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn a_connection_has_figures_and_a_datagram_socket_has_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let figures = figures(&server).unwrap();
        assert_eq!((figures.state, figures.retransmits), ("ESTABLISHED", 0));
        assert!(figures.mss > 0 && figures.cwnd > 0);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(super::figures(&socket), None);
    }
}
