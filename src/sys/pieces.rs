//! A file as datagrams of one size: sendfile(2) gives the kernel its pages, a piece at a time, and `UDP_SEGMENT` (udp(7)) cuts each piece.
//! Only whole pieces: of what is less, the kernel learns only at the end of the file that it is all, and then an error is told to nobody.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::pipe::PipeFlags;

use super::conduit::{DECLINED, Halt, Passed, moved};

/// Bytes that sendfile(2) gathers: what the pipe holds that it has inside, 16 pages of the usual size.
const GATHERED: usize = 16 << 12;

/// Bytes in a piece at the most: the first and the last page may be there in part. What is gathered in two goes is lost in part, and
/// nobody hears of it, if the second fails.
const PIECE: usize = GATHERED - (1 << 12);

/// The most datagrams in a piece (`UDP_MAX_SEGMENTS` before Linux 6.9).
const SEGMENTS: usize = 64;

/// How a file is sent.
pub(super) struct Pieces {
    /// How long a datagram is.
    stride: i32,
    /// How long a piece is: a number of whole datagrams.
    len: usize,
}

impl Pieces {
    /// Pieces of datagrams of `stride` bytes, where they fit.
    pub(super) fn of(stride: usize) -> Option<Self> {
        let len = stride * (PIECE / stride.max(1)).min(SEGMENTS);
        let stride = i32::try_from(stride).ok()?;
        (len > 0 && gathers_pages()).then_some(Self { stride, len })
    }

    /// Sends whole pieces, up to about `limit` bytes. Declines what is less, and whatever went wrong: it may be news of an older datagram,
    /// or one is too long for the path, and sending them one by one tells.
    pub(super) fn pass(&self, source: BorrowedFd, sink: BorrowedFd, limit: usize) -> Passed {
        let mut left = left_in(source);
        // For the time of this call: cut in this way, a datagram that is longer than the path takes at once is refused.
        if left < self.len || setsockopt(&sink, sockopt::UdpGsoSegment, &self.stride).is_err() {
            return DECLINED;
        }
        let mut passed = Passed::default();
        while passed.put < limit && passed.halt.is_none() {
            if left < self.len {
                passed.halt = Some(Halt::Declined);
                break;
            }
            let sent = rustix::fs::sendfile(sink, source, None, self.len);
            let sent = moved(sent, Halt::SinkFull).unwrap_or(DECLINED);
            if sent == Passed::default() {
                break;
            }
            left -= sent.taken;
            passed.taken += sent.taken;
            passed.put += sent.put;
            passed.halt = sent.halt;
        }
        // It was possible to set it.
        let _ = setsockopt(&sink, sockopt::UdpGsoSegment, &0);
        passed
    }
}

/// How much of a file there is from where it is read; nothing where that cannot be known.
fn left_in(file: BorrowedFd) -> usize {
    let (Ok(about), Ok(at)) = (rustix::fs::fstat(file), rustix::fs::tell(file)) else {
        return 0;
    };
    let size = u64::try_from(about.st_size).unwrap_or(0);
    usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX)
}

/// Whether sendfile(2) gives a socket all pages of a piece together. Before Linux 6.5 each came by itself; and who has very many pipes
/// gets only short ones (`pipe-user-pages-soft`, pipe(7)).
fn gathers_pages() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_str().unwrap_or_default();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    let pipe_size = || {
        let (reader, _writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::pipe::fcntl_getpipe_size(reader.as_fd())
    };
    [numbers.next(), numbers.next()] >= [Some(6), Some(5)]
        && pipe_size().is_ok_and(|size| size >= GATHERED)
}
