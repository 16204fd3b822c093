//! What the local end gives: where the bytes come from, how they are cut, and when they may go.
//! Bytes whose boundaries need no looking for are read raw into the batch; all others pass a decoder.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use super::decoded::Decoded;
use super::raw::Raw;
use crate::batch::{Batch, Shape};
use crate::framing::Literal;
use crate::framing::pace::Pace;
use crate::framing::{Boundaries, InputFraming};
use crate::framing::{Decoder, LineEnds, ReplayTiming};
use crate::pump::end::{Arrival, Unseen};
use crate::sys::inherited::{Inherited, Kind};

/// How input becomes what is sent.
#[derive(Clone, Debug)]
pub struct InputFormat {
    /// Where frames begin and end.
    pub framing: InputFraming,
    /// What becomes of the ends of lines.
    pub ends: LineEnds,
    /// What boundaries are worth.
    pub boundaries: Boundaries,
    /// The most bytes of raw input in a datagram.
    pub size: usize,
    /// When each may go.
    pub pace: Option<Pace>,
    /// Whether a recording keeps its pauses.
    pub timing: ReplayTiming,
}

/// Standard input, or what stands for it.
pub struct Input {
    from: Option<Inherited>,
    way: Way,
}

enum Way {
    Raw(Raw),
    Decoded(Box<Decoded>),
}

impl Way {
    fn decoded(decoder: Box<dyn Decoder>, format: InputFormat) -> Self {
        Self::Decoded(Box::new(Decoded::new(decoder, format)))
    }
}

impl InputFormat {
    fn decoder(&self) -> Box<dyn Decoder> {
        let size = match (self.boundaries, &self.pace) {
            (Boundaries::Kept { .. }, _) => self.size,
            (Boundaries::Dropped, Some(pace)) => usize::try_from(pace.piece()).unwrap_or(self.size),
            (Boundaries::Dropped, None) => usize::MAX,
        };
        self.framing.decoder(size, self.ends, self.timing)
    }
}

impl Input {
    /// Reads `from` and cuts it as `format` says.
    #[must_use]
    pub fn new(from: Inherited, format: InputFormat) -> Self {
        let way = match Raw::of(&format) {
            Some(raw) => Way::Raw(raw),
            None => Way::decoded(format.decoder(), format),
        };
        let from = Some(from);
        Self { from, way }
    }

    /// The same, with one empty frame where there would be none at all.
    #[must_use]
    pub fn never_nothing(from: Inherited, format: InputFormat) -> Self {
        let mut decoded = Decoded::new(format.decoder(), format);
        decoded.at_least_one = true;
        Self {
            from: Some(from),
            way: Way::Decoded(Box::new(decoded)),
        }
    }

    /// Gives these frames, and then is at its end.
    #[must_use]
    pub fn literal(frames: Vec<Vec<u8>>, format: InputFormat) -> Self {
        Self {
            from: None,
            way: Way::decoded(Box::new(Literal::new(frames)), format),
        }
    }

    /// Implements [`crate::pump::end::End::recv`].
    pub(super) fn recv(&mut self, batch: &mut Batch) -> io::Result<Arrival> {
        match &mut self.way {
            Way::Raw(raw) => raw.recv(self.from.as_mut(), batch),
            Way::Decoded(decoded) => decoded.recv(self.from.as_mut(), batch, Instant::now()),
        }
    }

    /// Implements [`crate::pump::end::End::is_pending`].
    pub(super) fn is_pending(&self) -> bool {
        match &self.way {
            Way::Raw(raw) => raw.is_pending(),
            Way::Decoded(decoded) => decoded.is_pending(),
        }
    }

    /// The descriptor to wait for; none while it is only time that is waited for.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        match &self.way {
            Way::Decoded(decoded) if decoded.is_early => None,
            _ => self.from.as_ref().map(AsFd::as_fd),
        }
    }

    /// Whether somebody types it.
    pub(super) fn is_terminal(&self) -> bool {
        self.from.as_ref().map(Inherited::kind) == Some(Kind::Terminal)
    }

    /// What the kernel may take as it is: bytes without boundaries, and of a file, which is read at will, those with regular ones.
    pub(super) fn unseen(&self) -> Option<Unseen> {
        let Way::Raw(raw) = &self.way else {
            return None;
        };
        let stride = match (raw.shape, self.from.as_ref()?.kind()) {
            (Shape::Stream, Kind::Pipe | Kind::Regular) => None,
            (Shape::Datagrams(size), Kind::Regular) if raw.is_at_border() => Some(size),
            _ => return None,
        };
        Some(Unseen {
            limit: usize::MAX,
            stride,
        })
    }
}

/// Reads what is there, 0 bytes at the end.
pub(super) fn read(from: Option<&mut Inherited>, space: &mut [u8]) -> io::Result<usize> {
    let Some(from) = from else { return Ok(0) };
    match from.read(space) {
        // A terminal that has hung up.
        Err(error) if error.raw_os_error() == Some(libc::EIO) && from.kind() == Kind::Terminal => {
            Ok(0)
        }
        other => other,
    }
}
