//! Bytes that go from the descriptor into the batch as they are.
//! Their boundaries need no looking for: there are none, or they lie a fixed number of bytes apart.

use std::io;

use super::input::{InputFormat, read};
use crate::batch::{Batch, Run, Shape};
use crate::framing::LineEnds;
use crate::framing::{Boundaries, InputFraming};
use crate::pump::end::Arrival;
use crate::sys::inherited::{Inherited, Kind};

/// Bytes asked for in one read of a stream.
const STRETCH: usize = 64 << 10;

/// Bytes read at once for datagrams, about: a call to read and one to send for many of them.
const DATAGRAMS: usize = 512 << 10;

/// What the kernel takes in one piece and cuts into datagrams: so many, and so many bytes (`UDP_SEGMENT`, udp(7)).
const PIECE: (usize, usize) = (64, 65_507);

/// How many messages of a socket are taken at once.
const MESSAGES: usize = 64;

/// Bytes that go from the descriptor into the batch as they are.
pub(super) struct Raw {
    pub(super) shape: Shape,
    /// How many bytes one read may give.
    stretch: usize,
    /// The beginning of a block that is not full.
    held: Option<Vec<u8>>,
    /// What went wrong behind what is already given.
    failure: Option<io::Error>,
    has_ended: bool,
}

impl Raw {
    /// The raw way, where there is one.
    pub(super) fn of(format: &InputFormat) -> Option<Self> {
        if format.pace.is_some() || format.ends != LineEnds::Kept {
            return None;
        }
        let (shape, stretch, held) = match (format.framing, format.boundaries) {
            (InputFraming::Raw, Boundaries::Dropped) => (Shape::Stream, STRETCH, None),
            (InputFraming::Raw, Boundaries::Kept { .. }) => (
                Shape::Datagrams(format.size),
                read_size_for(format.size),
                None,
            ),
            (InputFraming::Block(size), Boundaries::Kept { .. }) => (
                Shape::Datagrams(size),
                read_size_for(size),
                Some(Vec::new()),
            ),
            _ => return None,
        };
        Some(Self {
            shape,
            stretch,
            held,
            failure: None,
            has_ended: false,
        })
    }

    /// Whether nothing is held that was read before.
    pub(super) fn is_at_border(&self) -> bool {
        self.held.as_ref().is_none_or(Vec::is_empty) && !self.is_pending()
    }

    /// Whether there is more to say without asking the descriptor.
    pub(super) fn is_pending(&self) -> bool {
        self.has_ended || self.failure.is_some()
    }

    pub(super) fn recv(
        &mut self,
        mut from: Option<&mut Inherited>,
        batch: &mut Batch,
    ) -> io::Result<Arrival> {
        if self.has_ended {
            return Ok(Arrival::End);
        }
        if let (Some(from), Shape::Datagrams(size), None) =
            (from.as_deref_mut(), self.shape, &self.held)
            && from.kind() == Kind::Socket
        {
            return self.gather(from, size, batch);
        }
        let held = self.held.as_ref().map_or(0, Vec::len);
        let space = &mut batch.space(self.stretch)[..self.stretch];
        let count = read(from, &mut space[held..])?;
        self.has_ended = count == 0;
        let mut len = held + count;
        if let (Some(held), Shape::Datagrams(size)) = (&mut self.held, self.shape) {
            space[..held.len()].copy_from_slice(held);
            held.clear();
            // The last block may be short, any other waits for the rest of it.
            let whole = if self.has_ended {
                len
            } else {
                len - len % size
            };
            held.extend_from_slice(&space[whole..len]);
            len = whole;
        }
        if len == 0 {
            return Ok(if self.has_ended {
                Arrival::End
            } else {
                Arrival::Nothing(None)
            });
        }
        batch.push(Run {
            start: 0,
            len,
            shape: self.shape,
            flow: None,
        });
        Ok(Arrival::Data)
    }

    /// Takes what a socket has, a message at a time: what comes together goes on together, each within its boundaries.
    fn gather(
        &mut self,
        from: &mut Inherited,
        size: usize,
        batch: &mut Batch,
    ) -> io::Result<Arrival> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let mut start = 0;
        // As long as there is room for a message of any length.
        while batch.runs().len() < MESSAGES && start <= self.stretch / 2 {
            match from.read(&mut batch.space(self.stretch)[start..self.stretch]) {
                Ok(0) => {
                    self.has_ended = true;
                    break;
                }
                Ok(len) if len <= size => {
                    batch.push_datagram(start, len);
                    start += len;
                }
                Ok(len) => {
                    batch.push(Run {
                        start,
                        len,
                        shape: self.shape,
                        flow: None,
                    });
                    start += len;
                }
                Err(error) if start == 0 => return Err(error),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        Ok(match start {
            0 => Arrival::End,
            _ => Arrival::Data,
        })
    }
}

/// How many bytes to read for datagrams of a size: whole pieces of whole ones, so that only the last one before a pause is short.
pub(super) fn read_size_for(size: usize) -> usize {
    let size = size.max(1);
    let piece = (PIECE.1 / size).clamp(1, PIECE.0) * size;
    (DATAGRAMS / piece).max(1) * piece
}
