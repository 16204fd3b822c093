//! How a connection parts from its peer: what has not arrived yet, for how long it is waited for, and what an error stands for.
//! The kernel says both in words that need reading: a count that includes the FIN, and the last report of a network that gave up.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::exit::describe;
use crate::pump::end::Arrival;
use crate::sys::sockopt::unsent;
use crate::sys::tcp_info::tcp_info;

/// Which directions have ended (RFC 9293, 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// Our FIN is sent.
    HalfClosed,
    /// The peer's FIN has come.
    PeerFinished,
    Ended,
}

impl State {
    /// What it is when our FIN is sent.
    pub(super) fn with_own_end(self) -> Self {
        match self {
            Self::Open | Self::HalfClosed => Self::HalfClosed,
            Self::PeerFinished | Self::Ended => Self::Ended,
        }
    }

    /// What it is when the peer's FIN has come.
    pub(super) fn with_peer_finished(self) -> Self {
        match self {
            Self::Open | Self::PeerFinished => Self::PeerFinished,
            Self::HalfClosed | Self::Ended => Self::Ended,
        }
    }

    /// Whether our FIN is sent.
    pub(super) fn has_own_end(self) -> bool {
        matches!(self, Self::HalfClosed | Self::Ended)
    }

    /// How reports call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Open => "connected",
            Self::HalfClosed => "half-closed",
            Self::PeerFinished => "peer finished",
            Self::Ended => "ended",
        }
    }
}

/// A connection that only waits for its peer to finish.
///
/// Closed with bytes that nobody has read, or that come later, it would be reset (RFC 1122, 4.2.2.13), and what the peer has not
/// read yet would be lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lingering {
    /// When bytes last came.
    heard: Instant,
    /// When it is closed however much still comes.
    until: Instant,
}

/// How long a peer may be silent before it is no longer waited for, and how long it may go on sending to nobody.
const LINGER_SILENT: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_secs(30);

impl Default for Lingering {
    /// One that begins now.
    fn default() -> Self {
        let heard = Instant::now();
        let until = heard + LINGER;
        Self { heard, until }
    }
}

impl Lingering {
    /// What to do where nothing has come.
    pub(super) fn wait(&self) -> Arrival {
        let until = self.until.min(self.heard + LINGER_SILENT);
        if Instant::now() < until {
            Arrival::Nothing(Some(until))
        } else {
            Arrival::Enough
        }
    }

    /// Bytes have come; returns whether more of them are waited for.
    pub(super) fn hear(&mut self) -> bool {
        self.heard = Instant::now();
        self.heard < self.until
    }
}

/// How many bytes the peer has not acknowledged, apart from the `fin` that may be among them: a FIN counts as one byte.
///
/// Errors: `BrokenPipe` where the peer never will.
pub(super) fn unacknowledged(socket: &socket2::Socket, fin: usize) -> io::Result<usize> {
    let count = || unsent(socket).unwrap_or(0).saturating_sub(fin);
    let left = count();
    if left > 0 && tcp_info(socket).is_some_and(|path| path.state == "CLOSED") {
        // It may have closed because the last was acknowledged just now; once it has, the count is final.
        return match count() {
            0 => Ok(0),
            _ => Err(ErrorKind::BrokenPipe.into()),
        };
    }
    Ok(left)
}

/// What an error means, where that is not what it says.
///
/// A reset that comes after the peer's FIN has another name (write(2)), and means the same. No report of the network ends a connection
/// (RFC 1122, 4.2.3.9): its time was up, and the last report is the reason.
pub(super) fn meaning(error: &io::Error) -> Option<io::Error> {
    match error.kind() {
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            let text = format!("connection timed out: {}", describe(error));
            Some(io::Error::new(ErrorKind::TimedOut, text))
        }
        ErrorKind::BrokenPipe => Some(io::Error::from_raw_os_error(libc::ECONNRESET)),
        _ => None,
    }
}
