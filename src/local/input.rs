//! What the local end gives: where the bytes come from, how they are cut, and when they may go.
//! Bytes whose borders need no looking for are read straight into the batch; all others pass a decoder.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use crate::batch::{Batch, Run, Shape};
use crate::exit::Failure;
use crate::framing::decode::{Decoder, LineEnds};
use crate::framing::pace::Pace;
use crate::framing::words::Words;
use crate::framing::{Borders, Budget, Frames, InputFraming, Open};
use crate::pump::end::Arrival;
use crate::sys::inherited::{Inherited, Kind};

/// Bytes asked for in one read of a stream.
const STRETCH: usize = 256 << 10;

/// Bytes read at once for datagrams: about what one call can send.
const DATAGRAMS: usize = 64 << 10;

/// How input becomes what is sent.
#[derive(Clone, Debug)]
pub struct Cutting {
    /// Where frames begin and end.
    pub framing: InputFraming,
    /// What becomes of the ends of lines.
    pub ends: LineEnds,
    /// What borders are worth.
    pub borders: Borders,
    /// The most bytes of raw input in a datagram.
    pub size: usize,
    /// When each may go.
    pub pace: Option<Pace>,
}

/// Standard input, or what stands for it.
pub struct Input {
    from: Option<Inherited>,
    way: Way,
}

enum Way {
    Straight(Straight),
    Decoded(Box<Decoded>),
}

impl Way {
    fn decoded(decoder: Box<dyn Decoder>, cutting: Cutting) -> Self {
        Self::Decoded(Box::new(Decoded::new(decoder, cutting)))
    }
}

impl Cutting {
    fn decoder(&self) -> Box<dyn Decoder> {
        let size = match (self.borders, &self.pace) {
            (Borders::Kept { .. }, _) => self.size,
            (Borders::Dropped, Some(pace)) => usize::try_from(pace.piece()).unwrap_or(self.size),
            (Borders::Dropped, None) => usize::MAX,
        };
        self.framing.decoder(size, self.ends)
    }
}

impl Input {
    /// Reads `from` and cuts it as `cutting` says.
    #[must_use]
    pub fn new(from: Inherited, cutting: Cutting) -> Self {
        let way = match Straight::of(&cutting) {
            Some(straight) => Way::Straight(straight),
            None => Way::decoded(cutting.decoder(), cutting),
        };
        let from = Some(from);
        Self { from, way }
    }

    /// The same, with one empty frame where there would be none at all.
    #[must_use]
    pub fn never_nothing(from: Inherited, cutting: Cutting) -> Self {
        let mut decoded = Decoded::new(cutting.decoder(), cutting);
        decoded.at_least_one = true;
        Self {
            from: Some(from),
            way: Way::Decoded(Box::new(decoded)),
        }
    }

    /// Gives these frames, and then is at its end.
    #[must_use]
    pub fn of_words(words: Vec<Vec<u8>>, cutting: Cutting) -> Self {
        Self {
            from: None,
            way: Way::decoded(Box::new(Words::new(words)), cutting),
        }
    }

    /// Implements [`crate::pump::end::End::recv`].
    pub(super) fn recv(&mut self, batch: &mut Batch) -> io::Result<Arrival> {
        match &mut self.way {
            Way::Straight(straight) => straight.recv(self.from.as_mut(), batch),
            Way::Decoded(decoded) => decoded.recv(self.from.as_mut(), batch, Instant::now()),
        }
    }

    /// Implements [`crate::pump::end::End::is_pending`].
    pub(super) fn is_pending(&self) -> bool {
        match &self.way {
            Way::Straight(straight) => straight.has_ended,
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

    /// Whether the kernel may take the bytes as they are.
    pub(super) fn may_be_unseen(&self) -> bool {
        let kind = self.from.as_ref().map(Inherited::kind);
        matches!(&self.way, Way::Straight(straight) if straight.shape == Shape::Stream)
            && matches!(kind, Some(Kind::Pipe | Kind::Regular))
    }
}

/// Reads what is there, 0 bytes at the end.
fn read(from: Option<&mut Inherited>, space: &mut [u8]) -> io::Result<usize> {
    let Some(from) = from else { return Ok(0) };
    match from.read(space) {
        // A terminal that has hung up.
        Err(error) if error.raw_os_error() == Some(libc::EIO) && from.kind() == Kind::Terminal => {
            Ok(0)
        }
        other => other,
    }
}

/// Bytes that go from the descriptor into the batch as they are.
struct Straight {
    shape: Shape,
    /// How many bytes one read may give.
    stretch: usize,
    /// The beginning of a block that is not full.
    held: Option<Vec<u8>>,
    has_ended: bool,
}

impl Straight {
    /// The straight way, where there is one.
    fn of(cutting: &Cutting) -> Option<Self> {
        if cutting.pace.is_some() || cutting.ends != LineEnds::Kept {
            return None;
        }
        let (shape, stretch, held) = match (cutting.framing, cutting.borders) {
            (InputFraming::Raw, Borders::Dropped) => (Shape::Stream, STRETCH, None),
            (InputFraming::Raw, Borders::Kept { .. }) => (
                Shape::Datagrams(cutting.size),
                stretch_of(cutting.size),
                None,
            ),
            (InputFraming::Block(size), Borders::Kept { .. }) => {
                (Shape::Datagrams(size), stretch_of(size), Some(Vec::new()))
            }
            _ => return None,
        };
        Some(Self {
            shape,
            stretch,
            held,
            has_ended: false,
        })
    }

    fn recv(&mut self, from: Option<&mut Inherited>, batch: &mut Batch) -> io::Result<Arrival> {
        if self.has_ended {
            return Ok(Arrival::End);
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
}

/// How many bytes to read for datagrams of a size: whole ones, so that only the last one before a pause is short.
fn stretch_of(size: usize) -> usize {
    (DATAGRAMS / size.max(1)).max(1) * size.max(1)
}

/// Bytes that pass a decoder, and may have to wait for their time.
struct Decoded {
    decoder: Box<dyn Decoder>,
    open: Open,
    borders: Borders,
    pace: Option<Pace>,
    /// What was read, and how much of it is decoded.
    text: Vec<u8>,
    taken: usize,
    /// How many bytes one read may give.
    stretch: usize,
    has_ended: bool,
    at_least_one: bool,
    /// Why it cannot go on, once what came before is delivered.
    failure: Option<Failure>,
    /// Whether there is something whose time has not come.
    is_early: bool,
}

impl Decoded {
    fn new(decoder: Box<dyn Decoder>, cutting: Cutting) -> Self {
        Self {
            decoder,
            open: Open::new(cutting.borders),
            borders: cutting.borders,
            pace: cutting.pace,
            text: Vec::new(),
            taken: 0,
            stretch: match cutting.framing {
                InputFraming::Raw => stretch_of(cutting.size),
                _ => DATAGRAMS,
            },
            has_ended: false,
            at_least_one: false,
            failure: None,
            is_early: false,
        }
    }

    /// Whether it can go on without reading.
    fn is_pending(&self) -> bool {
        self.taken < self.text.len() || self.has_ended || self.failure.is_some()
    }

    /// Whether everything is given.
    fn is_over(&self) -> bool {
        let is_missing = self.at_least_one && self.open.ended() == 0;
        self.has_ended
            && self.taken == self.text.len()
            && !self.open.has_begun()
            && !self.decoder.has_more()
            && !is_missing
    }

    fn recv(
        &mut self,
        from: Option<&mut Inherited>,
        batch: &mut Batch,
        now: Instant,
    ) -> io::Result<Arrival> {
        self.is_early = false;
        if let Some(failure) = self.failure.take() {
            return Err(io::Error::other(failure));
        }
        if self.taken == self.text.len() && !self.has_ended {
            self.read(from, now)?;
        }
        if self.is_over() {
            return Ok(Arrival::End);
        }
        if let Some(due) = self.pace.as_ref().and_then(|pace| pace.wait(now)) {
            self.is_early = true;
            return Ok(Arrival::Nothing(Some(due)));
        }
        let result = self.decode(batch, now);
        match (result, batch.is_empty()) {
            (Err(failure), true) => return Err(io::Error::other(failure)),
            (result, _) => self.failure = result.err(),
        }
        Ok(match batch.is_empty() {
            false => Arrival::Data,
            true if self.is_over() => Arrival::End,
            true => Arrival::Nothing(None),
        })
    }

    fn read(&mut self, from: Option<&mut Inherited>, now: Instant) -> io::Result<()> {
        self.text.resize(self.stretch, 0);
        self.taken = 0;
        let result = read(from, &mut self.text);
        let count = *result.as_ref().unwrap_or(&0);
        self.text.truncate(count);
        if let (Err(_), Some(pace)) = (&result, &mut self.pace) {
            pace.stall(now);
        }
        self.has_ended = result? == 0;
        Ok(())
    }

    /// Makes as many frames as may go now.
    fn decode(&mut self, batch: &mut Batch, now: Instant) -> Result<(), Failure> {
        let pace = self.pace.as_ref();
        let budget = pace.map_or(Budget::ALL, |pace| pace.budget(now, self.borders));
        let mut text = &self.text[self.taken..];
        let room = self.decoder.room(text.len());
        let mut frames = Frames::new(batch, &mut self.open, budget, room);
        let result = if !text.is_empty() {
            self.decoder.decode(&mut text, &mut frames)
        } else if frames.is_empty() && !self.decoder.has_more() {
            // Nothing was given, and nothing is something here.
            frames.cut()
        } else {
            self.decoder.finish(&mut frames)
        };
        self.taken = self.text.len() - text.len();
        let (count, bytes) = frames.given();
        frames.close();
        if let Some(pace) = &mut self.pace {
            pace.spend(now, count, bytes);
        }
        result
    }
}
