//! What the pump knows of the things it moves bytes between: two ways to move, one way to finish, one way to wait.
//! A socket, standard input and output, a child process: each is an end; a link is an end with an identity on the network.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure};
use crate::tap::{SocketState, Taps};
use crate::tuple::Identity;

/// What [`End::recv`] found.
pub enum Arrival {
    /// The batch holds it.
    Data,
    /// A new link, such as the connection of a client.
    Link(Box<dyn Link>),
    /// Nothing for now: ask again when [`End::source`] is readable, or at that time if it comes first.
    Nothing(Option<Instant>),
    /// The other side has ended this direction; the other direction goes on.
    End,
    /// All that was asked for has come: there is no reason to go on in either direction.
    Enough,
}

/// One end of a lane. Every call returns at once: nothing here blocks on a peer.
///
/// Errors: an error of kind `WouldBlock` asks to be called again when the descriptor is ready. An error that wraps a
/// [`Failure`] (`io::Error::other`) brings its own status and message.
pub trait End {
    /// Takes what has arrived and puts it into `batch`, which is empty.
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival>;

    /// Whether `recv` has more to say although the source may stay silent, such as that it was all.
    fn is_pending(&self) -> bool {
        false
    }

    /// Passes on what `batch` holds from `at` on, as much as can be taken now, and moves `at` on.
    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<()>;

    /// Whether this local end sees no reason to go on: what it wants has come, or cannot come. Looked at after each `send`.
    fn is_done(&self) -> bool {
        false
    }

    /// Says that nothing more will be sent. What was sent before still arrives.
    fn finish(&mut self, taps: &mut Taps) -> io::Result<()>;

    /// The descriptor whose readability means that `recv` may find something; `None`: it can be asked at any time.
    fn source(&self) -> Option<BorrowedFd<'_>>;

    /// The descriptor whose writability means that `send` may go on; `None`: it takes everything at once.
    fn sink(&self) -> Option<BorrowedFd<'_>>;

    /// What it means if whoever reads from the sink goes away while nothing is being sent. `None`: that is no event of its own.
    fn sink_lost(&self) -> Option<Failure> {
        None
    }

    /// Whether there is anybody to send to by now. While not, nothing is fetched for it.
    fn is_addressed(&self) -> bool {
        true
    }

    /// How the run ends in the eyes of this local end, if `end` is how it ends otherwise.
    fn verdict(&self, end: Result<Exit, Failure>) -> Result<Exit, Failure> {
        end
    }

    /// Bytes that the kernel may take straight from [`End::source`], seen by nobody: how many at the most. `None` where bytes
    /// have borders, are counted by content, or are transformed.
    fn unseen_source(&self) -> Option<usize> {
        None
    }

    /// Whether the kernel may put bytes straight into [`End::sink`].
    fn has_unseen_sink(&self) -> bool {
        false
    }

    /// `len` bytes were taken straight from the source.
    fn took_unseen(&mut self, _len: usize, _taps: &mut Taps) {}

    /// `len` bytes were put straight into the sink.
    fn put_unseen(&mut self, _len: usize, _taps: &mut Taps) {}
}

/// The network end: an [`End`] that has an identity.
pub trait Link: End {
    /// What its socket is called now.
    fn identity(&self) -> Identity;

    /// Its line in the table of sockets.
    fn state(&self) -> SocketState;

    /// Its lines in the table of sockets: its own, and one for each peer where it has many.
    fn states(&self) -> Vec<SocketState> {
        vec![self.state()]
    }

    /// Whether its peer may break it off after it has finished, so that the descriptor hangs up.
    fn may_break_off(&self) -> bool {
        false
    }

    /// The error that its socket holds, if there is one. Asked for where nothing more is read that would tell it.
    fn fault(&self) -> Option<io::Error> {
        None
    }

    /// How many bytes its peer has not acknowledged; an error where it never will. Asked when nothing more is to be sent.
    fn unheard(&self) -> io::Result<usize> {
        Ok(0)
    }

    /// What an error of its socket stands for, where that is not what it says.
    fn meaning(&self, _error: &io::Error) -> Option<io::Error> {
        None
    }

    /// Says that nobody takes what comes from it any more, and nothing more will be sent to it. From now on what comes is for
    /// nobody, and it may say [`Arrival::Enough`] when its peer had time to finish.
    fn release(&mut self) {}

    /// Reports that it is over, and how it ended as far as this link is concerned.
    fn close(&mut self, taps: &mut Taps) -> Result<(), Failure>;
}
