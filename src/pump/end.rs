//! Interfaces between the pump and what it moves bytes between: [`End`], and [`Link`] for an end on the network.
//! An end mirrors a socket: `recv` and `send` never block, `finish` ends one direction, and `readiness` names what to wait for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Instant;

use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::flow::{ConnId, Identity};
use crate::sys::wait::{Interest, Poller};
use crate::tap::{Meter, SocketState, Taps};

/// Result of [`End::recv`].
pub enum Arrival {
    /// Bytes: the batch holds them.
    Data,
    /// A new link: the socket that accept(2) returned, where the end is a listening socket.
    Link(Box<dyn Link>),
    /// The link that this end was to become, and that takes its place: the connection that connect(2) has made.
    Established(Box<dyn Link>),
    /// Nothing for now: [`End::readiness`] says when to ask again.
    Nothing,
    /// The end of this direction, such as the peer's FIN or the end of a file; the other direction goes on.
    End,
    /// All that was asked for has come: neither direction needs to go on.
    Enough,
}

/// Decision of an end after it has taken bytes or the end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The session goes on.
    Continue,
    /// All that is wanted has come, or cannot come any more: the session is over.
    Stop,
}

/// Direction that is finished by [`End::finish`].
#[derive(Clone, Copy, Debug)]
pub enum Finish<'a> {
    /// Nothing more will come from this link; others may go on. Only an end that serves many links gets this.
    Stream(&'a Identity),
    /// Nothing more will be sent at all.
    All,
}

/// Condition of a descriptor to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// There is something to read, or the end.
    Readable,
    /// There is room to write.
    Writable,
}

/// Event after which a direction may go on.
#[derive(Clone, Copy, Debug)]
pub enum Wait<'a> {
    /// It can go on now.
    Now,
    /// It cannot go on until the other direction has moved, or another end has changed.
    Never,
    /// A descriptor becomes ready, or a time comes, whichever is first.
    For {
        /// The descriptor, and the condition.
        fd: Option<(BorrowedFd<'a>, Way)>,
        /// The time.
        until: Option<Instant>,
    },
}

impl<'a> Wait<'a> {
    /// Waits until `fd` is readable.
    pub fn readable(fd: BorrowedFd<'a>) -> Self {
        Self::For {
            fd: Some((fd, Way::Readable)),
            until: None,
        }
    }

    /// Waits until `fd` is writable.
    pub fn writable(fd: BorrowedFd<'a>) -> Self {
        Self::For {
            fd: Some((fd, Way::Writable)),
            until: None,
        }
    }

    /// Waits for a time alone.
    pub fn time(until: Instant) -> Self {
        Self::For {
            fd: None,
            until: Some(until),
        }
    }

    /// Waits for the same, but until `time` at the latest.
    pub fn or_until(self, time: Option<Instant>) -> Self {
        match (self, time) {
            (Self::For { fd, until }, _) => Self::For {
                fd,
                until: until.into_iter().chain(time).min(),
            },
            (Self::Never, Some(time)) => Self::time(time),
            (other, _) => other,
        }
    }

    /// Returns true if it can go on now, or if the time has come.
    pub fn is_now(&self) -> bool {
        match self {
            Self::Now => true,
            Self::Never => false,
            Self::For { until, .. } => until.is_some_and(|until| until <= Instant::now()),
        }
    }

    /// The descriptor to wait for.
    pub fn fd(&self) -> Option<(BorrowedFd<'a>, Way)> {
        match self {
            Self::For { fd, .. } => *fd,
            Self::Now | Self::Never => None,
        }
    }

    /// The time to wait for.
    pub fn until(&self) -> Option<Instant> {
        match self {
            Self::For { until, .. } => *until,
            Self::Now | Self::Never => None,
        }
    }
}

/// Events that an end waits for in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Readiness<'a> {
    /// Before `recv` is asked again.
    pub recv: Wait<'a>,
    /// Before `send` or `finish` is asked again. [`Wait::Never`]: no peer can be sent to, so nothing is read for it either.
    pub send: Wait<'a>,
    /// True if the end breaks as soon as the descriptor for sending hangs up (`POLLHUP`, `POLLERR`, poll(2)), although nothing
    /// is being sent. The reason is then asked of [`End::health`].
    pub watch: bool,
}

impl<'a> Readiness<'a> {
    /// Returns the events of the directions that are wanted, receiving first.
    pub fn wanted(&self, is_wanted: [bool; 2]) -> impl Iterator<Item = Wait<'a>> {
        let directions = [self.recv, self.send].into_iter().zip(is_wanted);
        directions.filter_map(|(wait, is_wanted)| is_wanted.then_some(wait))
    }

    /// Returns true if both directions wait for the same descriptor, as those of a socket do.
    pub fn is_shared(&self) -> bool {
        let [recv, send] =
            [self.recv, self.send].map(|wait| wait.fd().map(|(fd, _)| fd.as_raw_fd()));
        recv.is_some() && recv == send
    }

    /// Lets `poller` wait for the descriptors of the directions that are wanted, each known by its token; one descriptor for both has
    /// the first. `watches`: a hang-up is reported as well.
    pub fn register(
        &self,
        poller: &mut Poller,
        tokens: [usize; 2],
        is_wanted: [bool; 2],
        watches: bool,
    ) -> io::Result<()> {
        let mut interests = [Interest::default(); 2];
        for (index, wait) in [self.recv, self.send].into_iter().enumerate() {
            let way = wait.fd().filter(|_| is_wanted[index]).map(|(_, way)| way);
            // One descriptor is registered once.
            let interest = &mut interests[if self.is_shared() { 0 } else { index }];
            interest.read |= way == Some(Way::Readable);
            interest.write |= way == Some(Way::Writable);
            interest.hangup |= watches && index == 1;
        }
        let sink = self.send.fd().filter(|_| !self.is_shared());
        let sources = [self.recv.fd(), sink];
        // The same descriptor may have been known by the other token, and is registered once.
        for (token, _) in tokens.iter().zip(sources).filter(|(_, fd)| fd.is_none()) {
            poller.forget(*token);
        }
        for (index, source) in sources.into_iter().enumerate() {
            if let Some((fd, _)) = source {
                poller.set(tokens[index], fd, interests[index])?;
            }
        }
        Ok(())
    }
}

/// Descriptors between which the kernel may move bytes (splice(2), sendfile(2)) that this process never sees.
#[derive(Default)]
pub struct Spliceable<'a> {
    /// The descriptor to take bytes from, and the most that may be taken.
    pub source: Option<(BorrowedFd<'a>, usize)>,
    /// The descriptor to put bytes into.
    pub sink: Option<BorrowedFd<'a>>,
    /// The count of the bytes that move, where it is kept and reported.
    pub meter: Option<&'a mut Meter>,
}

/// Source and destination of bytes, such as a socket, a pair of pipes or a child process.
///
/// Every call returns at once. Errors: `WouldBlock` asks to be called again when [`End::readiness`] says so. An error made from a
/// [`Failure`] keeps its own status and message.
pub trait End {
    /// Reads what has arrived into `batch`, which is empty: recv(2), recvfrom(2) or read(2), or accept(2) for a listening socket.
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival>;

    /// Writes what `batch` holds from `at` on, as much as is taken now, and moves `at` past that: send(2), sendto(2) or write(2).
    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<Next>;

    /// Ends one direction: shutdown(2) for a socket, close(2) for a pipe to a child. What was sent before still arrives.
    fn finish(&mut self, what: Finish<'_>, taps: &mut Taps) -> io::Result<Next>;

    /// Returns what to wait for in each direction, from the present state alone.
    fn readiness(&self) -> Readiness<'_>;

    /// Returns the number of bytes sent that the peer has not acknowledged, 0 where that is not known.
    ///
    /// Errors: why nothing more can be sent, such as the pending error of a socket (`SO_ERROR`, socket(7)).
    fn health(&mut self) -> io::Result<usize> {
        Ok(0)
    }

    /// Notes an error of its descriptor that the kernel has reported while it spliced, and will not report again.
    fn note_error(&mut self, _error: &io::Error) {}

    /// Returns the descriptors that the kernel may splice. Empty where bytes are counted by content, transformed, or have boundaries.
    fn splice(&mut self) -> Spliceable<'_> {
        Spliceable::default()
    }
}

/// Manner of closing a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Close {
    /// Everything was sent: a FIN, where there is one.
    #[default]
    Orderly,
    /// The peer has not got all that was meant for it, and learns it: a reset (RFC 9293, 3.6).
    Reset,
}

/// End on the network: a socket with an identity. It may stand on either side of a lane.
pub trait Link: End {
    /// Returns the name of its socket now: its own address, or both addresses.
    fn identity(&self) -> Identity;

    /// Returns its number, if it has one.
    fn conn(&self) -> Option<ConnId> {
        None
    }

    /// Returns its rows in the table of sockets: its own first, then one for each peer where it has many.
    fn states(&self) -> Vec<SocketState>;

    /// Reports that it is closed, and how it ended as far as this link is concerned. Dropping it is close(2).
    fn close(&mut self, how: Close, taps: &mut Taps) -> Result<(), Failure>;
}
