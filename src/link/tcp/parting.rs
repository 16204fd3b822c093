//! How a connection parts from its peer: what has not arrived yet, and what an error stands for.
//! The kernel says both in words that need reading: a count that includes the FIN, and the last report of a network that gave up.

use std::io::{self, ErrorKind};

use crate::exit::describe;
use crate::sys::tcp_info::{figures, unsent};

/// How many bytes the peer has not acknowledged, apart from the `fin` that may be among them: a FIN counts as one byte.
///
/// Errors: `BrokenPipe` where the peer never will.
pub(super) fn unacknowledged(socket: &socket2::Socket, fin: usize) -> io::Result<usize> {
    let count = || unsent(socket).unwrap_or(0).saturating_sub(fin);
    let left = count();
    if left > 0 && figures(socket).is_some_and(|path| path.state == "CLOSED") {
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
