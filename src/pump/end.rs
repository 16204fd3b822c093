//! The two traits that are all the pump knows of what it moves bytes between: [`End`], and [`Link`] for an end on the network.
//! An end mirrors a socket: `recv` and `send` never block, `finish` closes one direction only, and two descriptors say when to try again.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::flow::Identity;
use crate::tap::{SocketState, Taps};

/// What [`End::recv`] found.
pub enum Arrival {
    /// Bytes: the batch holds them.
    Data,
    /// A new link: what `accept` returned, where the end is a listening socket.
    Link(Box<dyn Link>),
    /// Nothing for now: ask again when [`End::source`] is readable, or at that time if it comes first.
    Nothing(Option<Instant>),
    /// The end of this direction, such as the peer's FIN or the end of a file; the other direction goes on.
    End,
    /// All that was asked for has come: there is no reason to go on in either direction.
    Enough,
}

/// Bytes that the kernel may move by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// How many at the most.
    pub limit: usize,
    /// How many there are from one border to the next, where they have borders. The last may come sooner.
    pub stride: Option<usize>,
}

impl Unseen {
    /// A byte stream.
    #[must_use]
    pub fn stream(limit: usize) -> Self {
        Self {
            limit,
            stride: None,
        }
    }
}

/// Something that bytes come from and go to: a socket, standard input and output, a child process.
///
/// Every call returns at once: nothing here blocks on a peer. Errors: `WouldBlock` asks to be called again when the descriptor is
/// ready. A [`Failure`] in an error brings its own status and message.
pub trait End {
    /// Reads what has arrived into `batch`, which is empty: recv(2), recvfrom(2) or read(2), or accept(2) for a listening socket.
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival>;

    /// Whether `recv` has more to say although the source may stay silent, such as that it was all.
    fn is_pending(&self) -> bool {
        false
    }

    /// Writes what `batch` holds from `at` on, as much as is taken now, and moves `at` past that: send(2), sendto(2) or write(2).
    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<()>;

    /// Whether this local end sees no reason to go on: what it wants has come, or cannot come. Looked at after each `send`.
    fn is_done(&self) -> bool {
        false
    }

    /// Says that nothing more will be sent: shutdown(2) of this direction alone, where there is such a thing. What was sent before
    /// still arrives.
    fn finish(&mut self, taps: &mut Taps) -> io::Result<()>;

    /// The descriptor whose readability means that `recv` may find something; `None`: it can be asked at any time.
    fn source(&self) -> Option<BorrowedFd<'_>>;

    /// The descriptor whose writability means that `send` may go on; `None`: it takes everything at once.
    fn sink(&self) -> Option<BorrowedFd<'_>>;

    /// What it means if whoever reads from the sink goes away while nothing is being sent. `None`: that is no event of its own.
    fn sink_lost(&self) -> Option<Failure> {
        None
    }

    /// Whether it knows of anybody to send to. While it does not, nothing is read for it.
    fn is_addressed(&self) -> bool {
        true
    }

    /// How the run ends in the eyes of this local end, if `end` is how it ends otherwise.
    fn verdict(&self, end: Result<(), Failure>) -> Result<(), Failure> {
        end
    }

    /// What the kernel may splice(2) from [`End::source`], unseen by this process. `None` where bytes are counted by content, are
    /// transformed, or have borders that are not regular.
    fn unseen_source(&self) -> Option<Unseen> {
        None
    }

    /// Whether the kernel may splice(2) bytes into [`End::sink`], with a border every `stride` bytes if it is given.
    fn has_unseen_sink(&self, _stride: Option<usize>) -> bool {
        false
    }

    /// `len` bytes were spliced from the source.
    fn took_unseen(&mut self, _len: usize, _taps: &mut Taps) {}

    /// `len` bytes were spliced into the sink, with a border every `stride` bytes if it is given.
    fn put_unseen(&mut self, _len: usize, _stride: Option<usize>, _taps: &mut Taps) {}
}

/// An end on the network: an [`End`] that is a socket, and has its identity.
pub trait Link: End {
    /// What names its socket now: its own address, or a 4-tuple.
    fn identity(&self) -> Identity;

    /// Its line in the table of sockets.
    fn state(&self) -> SocketState;

    /// Its lines in the table of sockets: its own, and one for each peer where it has many.
    fn states(&self) -> Vec<SocketState> {
        vec![self.state()]
    }

    /// Whether a peer that has finished may still reset it, so that the descriptor hangs up (`POLLHUP`, poll(2)).
    fn may_hang_up(&self) -> bool {
        false
    }

    /// The pending error of its socket (`SO_ERROR`, socket(7)). Asked for where nothing more is read that would report it.
    fn pending_error(&self) -> Option<io::Error> {
        None
    }

    /// How many of the bytes sent its peer has not acknowledged; an error where it never will. Asked when nothing more is to be sent.
    fn unacknowledged(&self) -> io::Result<usize> {
        Ok(0)
    }

    /// What an error of its socket means, where that is not what it says.
    fn meaning(&self, _error: &io::Error) -> Option<io::Error> {
        None
    }

    /// Says that nobody takes what comes from it any more, and that nothing more will be sent to it. It reads on, to give its peer
    /// time to finish, and says [`Arrival::Enough`] when that was long enough.
    fn linger(&mut self) {}

    /// Says that its peer does not get all that was meant for it, and is to learn that when the link is closed.
    fn abort(&mut self) {}

    /// Reports that it is closed, and how it ended as far as this link is concerned. Dropping it is close(2).
    fn close(&mut self, taps: &mut Taps) -> Result<(), Failure>;
}
