//! Standard input: read as it is, or split into frames by a decoder, at a pace if there is one.
//! Raw input needs no search for boundaries, so it is read straight into the batch.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::decoded::Decoded;
use crate::batch::{Batch, Shape};
use crate::framing::pace::Pace;
use crate::framing::{Boundaries, InputFraming, LineEnds, Literal, Playback};
use crate::pump::end::{Arrival, Wait};
use crate::sys::inherited::{Inherited, Kind};

/// Bytes of a stream that are read at once.
pub const STREAM_READ_SIZE: usize = 64 << 10;

/// Bytes of datagrams that are read at once, about: one read and one send serve many of them.
const DATAGRAMS_READ_SIZE: usize = 512 << 10;

/// Bytes of messages after which no more of them are read at once.
const MESSAGES_READ_SIZE: usize = 64 << 10;

/// Datagrams, and their bytes, that the kernel cuts from one piece (`UDP_SEGMENT`, udp(7)).
const SEGMENTS: usize = 64;
const SEGMENT_BYTES: usize = 65_507;

/// Form and pace of the input.
#[derive(Clone, Debug)]
pub struct InputFormat {
    /// Form of the frames.
    pub framing: InputFraming,
    /// Treatment of line ends.
    pub ends: LineEnds,
    /// Meaning of the boundaries between frames.
    pub boundaries: Boundaries,
    /// Most bytes of raw input in a datagram.
    pub size: usize,
    /// Times at which frames may go.
    pub pace: Option<Pace>,
    /// Part of a recording to send, and the times of its frames.
    pub playback: Playback,
}

/// Standard input, or frames in its place.
pub enum Input {
    /// Bytes that go into the batch as they are.
    Raw(Raw),
    /// Bytes that a decoder splits into frames.
    Decoded(Box<Decoded>),
}

impl Input {
    /// Reads `from` in the given format.
    pub fn new(from: Inherited, format: &InputFormat) -> Self {
        if format.pace.is_some() || format.ends != LineEnds::Kept {
            return Self::decoded(from, format);
        }
        let (shape, block) = match (format.framing, format.boundaries) {
            (InputFraming::Raw, Boundaries::Dropped) => (Shape::Stream, None),
            (InputFraming::Raw, Boundaries::Kept { .. }) => (Shape::Datagrams(format.size), None),
            (InputFraming::Block(size), Boundaries::Kept { .. }) => {
                (Shape::Datagrams(size), Some(size))
            }
            _ => return Self::decoded(from, format),
        };
        Self::Raw(Raw {
            from,
            shape,
            block,
            held: Vec::new(),
            has_ended: false,
            failure: None,
        })
    }

    fn decoded(from: Inherited, format: &InputFormat) -> Self {
        let size = match (format.boundaries, &format.pace) {
            (Boundaries::Kept { .. }, _) => format.size,
            (Boundaries::Dropped, Some(pace)) => pace.chunk_size(),
            (Boundaries::Dropped, None) => usize::MAX,
        };
        let decoder = format.framing.decoder(size, format.ends, &format.playback);
        Self::Decoded(Box::new(Decoded::new(Some(from), decoder, format)))
    }

    /// Reads `from`, and gives one empty frame if it is empty.
    pub fn at_least_one(from: Inherited, format: &InputFormat) -> Self {
        let mut input = Self::decoded(from, format);
        if let Self::Decoded(decoded) = &mut input {
            decoded.at_least_one = true;
        }
        input
    }

    /// Gives these frames, and nothing else.
    pub fn literal(frames: Vec<Vec<u8>>, format: &InputFormat) -> Self {
        let decoder = Box::new(Literal::new(frames));
        Self::Decoded(Box::new(Decoded::new(None, decoder, format)))
    }

    /// Implements [`crate::pump::end::End::recv`].
    pub(super) fn recv(&mut self, batch: &mut Batch) -> io::Result<Arrival> {
        match self {
            Self::Raw(raw) => raw.recv(batch),
            Self::Decoded(decoded) => decoded.recv(batch, Instant::now()),
        }
    }

    fn from(&self) -> Option<&Inherited> {
        match self {
            Self::Raw(raw) => Some(&raw.from),
            Self::Decoded(decoded) => decoded.from.as_ref(),
        }
    }

    /// Returns what to wait for before the next read.
    pub(super) fn wait(&self) -> Wait<'_> {
        let is_pending = match self {
            Self::Raw(raw) => raw.has_ended || raw.failure.is_some(),
            Self::Decoded(decoded) => match decoded.due {
                Some(due) => return Wait::time(due),
                None => decoded.is_pending(),
            },
        };
        match self.from().filter(|_| !is_pending) {
            Some(from) if !from.is_pending() => Wait::readable(from.as_fd()),
            _ => Wait::Now,
        }
    }

    /// Returns true if the input is typed on a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.from().map(Inherited::kind) == Some(Kind::Terminal)
    }

    /// Returns the descriptor that the kernel may splice a stream from, and the most that it may take.
    pub(super) fn splice_source(&self) -> Option<(BorrowedFd<'_>, usize)> {
        match self {
            Self::Raw(raw) if raw.shape == Shape::Stream => {
                let is_plain = matches!(raw.from.kind(), Kind::Pipe | Kind::Regular);
                is_plain.then(|| (raw.from.as_fd(), usize::MAX))
            }
            _ => None,
        }
    }
}

/// Input that is a stream, or has a boundary every so many bytes.
pub struct Raw {
    from: Inherited,
    shape: Shape,
    /// Size of the blocks, of which only the last one may be sent short.
    block: Option<usize>,
    /// Beginning of a block.
    held: Vec<u8>,
    has_ended: bool,
    /// Error of a read that came after others in the same batch.
    failure: Option<io::Error>,
}

impl Raw {
    fn recv(&mut self, batch: &mut Batch) -> io::Result<Arrival> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        if self.has_ended {
            return Ok(Arrival::End);
        }
        let read_size = match self.shape {
            Shape::Stream => STREAM_READ_SIZE,
            Shape::Datagrams(size) if self.block.is_none() && self.from.keeps_messages() => {
                return self.recv_messages(size, batch);
            }
            Shape::Datagrams(size) => datagrams_read_size(size),
        };
        let space = &mut batch.space(read_size)[..read_size];
        let held = self.held.len();
        let count = read(&mut self.from, &mut space[held..])?;
        space[..held].copy_from_slice(&self.held);
        self.held.clear();
        self.has_ended = count == 0;
        let mut len = held + count;
        if let Some(block) = self.block
            && !self.has_ended
        {
            len -= len % block;
            self.held.extend_from_slice(&space[len..held + count]);
        }
        match len {
            0 if self.has_ended => return Ok(Arrival::End),
            0 => return Ok(Arrival::Nothing),
            _ => {}
        }
        batch.push_front(len, self.shape, None);
        Ok(Arrival::Data)
    }

    /// Reads the messages that are there, each into datagrams of its own of at most `size` bytes.
    fn recv_messages(&mut self, size: usize, batch: &mut Batch) -> io::Result<Arrival> {
        let read_size = datagrams_read_size(size);
        let mut end = 0;
        while end < MESSAGES_READ_SIZE {
            // Room for as much with each read: what is too long for one is cut at whole datagrams.
            let space = &mut batch.space(MESSAGES_READ_SIZE + read_size)[end..][..read_size];
            match read(&mut self.from, space) {
                Ok(0) => {
                    self.has_ended = true;
                    break;
                }
                Ok(count) => {
                    for start in (0..count).step_by(size.max(1)) {
                        batch.push_datagram(end + start, size.max(1).min(count - start));
                    }
                    end += count;
                }
                Err(error) if end == 0 => return Err(error),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        Ok(match end {
            0 => Arrival::End,
            _ => Arrival::Data,
        })
    }
}

/// Reads what is there; 0 bytes are the end.
pub(super) fn read(from: &mut Inherited, space: &mut [u8]) -> io::Result<usize> {
    match from.read(space) {
        // The terminal has hung up.
        Err(error) if error.raw_os_error() == Some(libc::EIO) && from.kind() == Kind::Terminal => {
            Ok(0)
        }
        other => other,
    }
}

/// Returns how many bytes to read for datagrams of `size` bytes: whole pieces for the kernel, of whole datagrams. So only the last
/// datagram before a pause is short.
pub(super) fn datagrams_read_size(size: usize) -> usize {
    let size = size.max(1);
    let piece = (SEGMENT_BYTES / size).clamp(1, SEGMENTS) * size;
    (DATAGRAMS_READ_SIZE / piece).max(1) * piece
}
