//! The figures that TCP keeps of a connection: its state, the round trip, retransmissions (`TCP_INFO`, tcp(7)).
//! They are read and nothing is changed; a kernel without them is no error.

use std::os::fd::AsFd;
use std::time::Duration;

use serde::Serialize;

use super::sockopt;
use crate::escape::seconds;

/// Figures of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TcpInfo {
    /// The state, as RFC 9293, 3.3.2 names it.
    pub state: &'static str,
    /// The smoothed round-trip time.
    #[serde(serialize_with = "seconds")]
    pub rtt: Duration,
    /// The variation of the round-trip time.
    #[serde(serialize_with = "seconds")]
    pub rtt_variation: Duration,
    /// Retransmitted segments, in total.
    pub retransmits: u32,
    /// The congestion window, in segments.
    pub cwnd: u32,
    /// The maximum segment size, in bytes.
    pub mss: u32,
    /// Time in which data was unsent or unacknowledged.
    #[serde(skip)]
    pub busy: Duration,
    /// The part of `busy` in which the peer's window limited sending (RFC 9293, 3.8.6).
    #[serde(skip)]
    pub held_back: Duration,
}

/// Reads the figures of a TCP socket; also of one whose connection is broken.
pub fn tcp_info(socket: &impl AsFd) -> Option<TcpInfo> {
    raw_info(socket).map(|info| TcpInfo {
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

/// Queue of a listening socket: the connections that accept(2) has not taken yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AcceptQueue {
    /// Connections that wait now.
    pub waiting: u32,
    /// The backlog of listen(2) as the kernel keeps it. One more may wait.
    pub backlog: u32,
}

/// Returns the queue of a listening socket: of those figures, the ones in the places of `tcpi_unacked` and `tcpi_sacked`
/// (`tcp_get_info`, net/ipv4/tcp.c).
pub fn accept_queue(socket: &impl AsFd) -> Option<AcceptQueue> {
    raw_info(socket).map(|info| AcceptQueue {
        waiting: info.tcpi_unacked,
        backlog: info.tcpi_sacked,
    })
}

fn raw_info(socket: &impl AsFd) -> Option<libc::tcp_info> {
    // SAFETY: the structure has only integers, for which zero is a value.
    let empty: libc::tcp_info = unsafe { std::mem::zeroed() };
    // SAFETY: any bytes are valid integers.
    unsafe { sockopt::get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, empty) }.ok()
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
        let info = tcp_info(&server).unwrap();
        assert_eq!((info.state, info.retransmits), ("ESTABLISHED", 0));
        assert!(info.mss > 0 && info.cwnd > 0);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(tcp_info(&socket), None);
    }
}
