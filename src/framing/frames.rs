//! Frames collects what decoders find, and fills batches with it: equal frames become one run.
//! A frame that has begun waits here for the rest of its bytes. One that no datagram can hold is an error before any of it is sent.

use crate::batch::{Batch, Shape};
use crate::exit::{Exit, Failure};

/// Bytes after which the size of an endless frame is no longer counted.
const MEASURE_LIMIT: usize = 16 << 20;

/// Meaning of the boundaries between frames for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundaries {
    /// None: all frames become one stream.
    Dropped,
    /// Each frame is a datagram.
    Kept {
        /// Most bytes that a datagram holds.
        limit: usize,
    },
}

/// Amount that may be given at once. One frame, or one byte of a stream, always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Number of frames.
    pub frames: u64,
    /// Number of bytes after which no further frame begins.
    pub bytes: u64,
}

impl Budget {
    /// No limit.
    pub const ALL: Self = Self {
        frames: u64::MAX,
        bytes: u64::MAX,
    };
}

/// Frames on their way into batches.
#[derive(Debug)]
pub struct Frames {
    boundaries: Boundaries,
    /// Limit of the current batch.
    pub budget: Budget,
    batch: Batch,
    /// Place in the batch where the current frame starts, and of its next byte.
    start: usize,
    end: usize,
    /// Bytes of the current frame beyond the size of a datagram, which are only counted.
    excess: usize,
    /// Frames that have ended in this batch, and in all before it.
    count: u64,
    before: u64,
}

impl Frames {
    /// Creates an empty collection without a budget.
    pub fn new(boundaries: Boundaries) -> Self {
        Self {
            boundaries,
            budget: Budget::ALL,
            batch: Batch::default(),
            start: 0,
            end: 0,
            excess: 0,
            count: 0,
            before: 0,
        }
    }

    /// Returns true if the budget is used up.
    pub fn is_full(&self) -> bool {
        let (frames, bytes) = self.totals();
        frames > 0 && frames >= self.budget.frames || bytes > 0 && bytes as u64 >= self.budget.bytes
    }

    /// Returns the bytes of the current frame.
    pub fn len(&self) -> usize {
        self.end - self.start + self.excess
    }

    /// Returns true if the current frame has no byte yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the last byte of the current frame.
    pub fn last(&mut self) -> Option<u8> {
        (self.start < self.end).then(|| self.batch.grow(self.end)[self.end - 1])
    }

    /// Adds bytes to the current frame.
    ///
    /// Errors: the frame is too long for a datagram, and its end is too far away to count its bytes.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if let Boundaries::Kept { limit } = self.boundaries
            && self.len() + bytes.len() > limit
        {
            self.excess += bytes.len();
            if self.len() > MEASURE_LIMIT {
                return Err(self.too_long("more than ", MEASURE_LIMIT, limit));
            }
            return Ok(());
        }
        let end = self.end + bytes.len();
        self.batch.grow(end)[self.end..end].copy_from_slice(bytes);
        self.end = end;
        Ok(())
    }

    /// Checks the size of the current frame before its bytes come.
    ///
    /// Errors: no datagram holds `len` bytes.
    pub fn announce(&self, len: usize) -> Result<(), Failure> {
        match self.boundaries {
            Boundaries::Kept { limit } if len > limit => Err(self.too_long("", len, limit)),
            _ => Ok(()),
        }
    }

    /// Ends the current frame and begins the next one.
    ///
    /// Errors: the frame is too long for a datagram.
    pub fn cut(&mut self) -> Result<(), Failure> {
        if let Boundaries::Kept { .. } = self.boundaries {
            self.announce(self.len())?;
            self.batch.push_datagram(self.start, self.end - self.start);
        }
        self.start = self.end;
        self.count += 1;
        Ok(())
    }

    /// Returns the number of the current frame, counted from 1.
    pub fn number(&self) -> u64 {
        self.before + self.count + 1
    }

    /// Returns the frames and the bytes in this batch.
    pub fn totals(&self) -> (u64, usize) {
        let bytes = match self.boundaries {
            Boundaries::Dropped => self.end,
            Boundaries::Kept { .. } => self.start,
        };
        (self.count, bytes)
    }

    /// Moves all frames that have ended into `batch`, or all bytes of a stream. The current frame continues in the next batch.
    pub fn flush(&mut self, batch: &mut Batch) {
        if self.boundaries == Boundaries::Dropped {
            if self.end > 0 {
                self.batch.push_front(self.end, Shape::Stream, None);
            }
            self.start = self.end;
        }
        batch.clear();
        std::mem::swap(&mut self.batch, batch);
        let rest = &batch.grow(self.end)[self.start..self.end];
        self.batch.grow(rest.len())[..rest.len()].copy_from_slice(rest);
        (self.start, self.end) = (0, rest.len());
        self.before += std::mem::take(&mut self.count);
    }

    fn too_long(&self, about: &str, len: usize, limit: usize) -> Failure {
        let number = self.number();
        let text = format!(
            "cannot send frame {number}: it has {about}{len} bytes, and a datagram holds at most {limit}"
        );
        Failure::new(Exit::Failed, text)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn runs(batch: &Batch) -> Vec<(usize, usize, Shape)> {
        let runs = batch.runs().iter();
        runs.map(|run| (run.start, run.len, run.shape)).collect()
    }

    #[test]
    fn equal_frames_are_one_run_and_a_shorter_one_ends_it() {
        let mut frames = Frames::new(Boundaries::Kept { limit: 9 });
        let mut batch = Batch::default();
        for frame in ["abc", "def", "g", "h", "", "", "ij", "klm"] {
            frames.extend(frame.as_bytes()).unwrap();
            frames.cut().unwrap();
        }
        assert_eq!(frames.totals(), (8, 13));
        frames.flush(&mut batch);
        assert_eq!(
            runs(&batch),
            [
                (0, 7, Shape::Datagrams(3)),
                (7, 1, Shape::Datagrams(1)),
                (8, 0, Shape::Datagrams(1)),
                (8, 0, Shape::Datagrams(1)),
                (8, 2, Shape::Datagrams(2)),
                (10, 3, Shape::Datagrams(3)),
            ]
        );
    }

    #[test]
    fn a_frame_continues_in_the_next_batch() {
        let mut frames = Frames::new(Boundaries::Kept { limit: 9 });
        let mut batch = Batch::default();
        frames.extend(b"ab").unwrap();
        assert_eq!(frames.totals(), (0, 0));
        frames.flush(&mut batch);
        assert!(batch.is_empty() && !frames.is_empty());
        frames.extend(b"c").unwrap();
        assert_eq!(frames.last(), Some(b'c'));
        frames.cut().unwrap();
        frames.flush(&mut batch);
        assert!(frames.is_empty());
        assert_eq!(batch.bytes(&batch.runs()[0]), b"abc");
    }

    #[test]
    fn a_frame_that_is_too_long_is_measured_to_its_end() {
        let mut frames = Frames::new(Boundaries::Kept { limit: 4 });
        let mut batch = Batch::default();
        frames.cut().unwrap();
        frames.extend(b"abc").unwrap();
        frames.extend(b"de").unwrap();
        frames.flush(&mut batch);
        frames.extend(b"f").unwrap();
        let message = "cannot send frame 2: it has 6 bytes, and a datagram holds at most 4";
        assert_eq!(frames.cut(), Err(Failure::new(Exit::Failed, message)));
    }

    #[test]
    fn a_budget_is_used_up_by_frames_or_bytes() {
        let mut frames = Frames::new(Boundaries::Kept { limit: 9 });
        let mut batch = Batch::default();
        let budget = Budget {
            frames: 3,
            bytes: 4,
        };
        frames.budget = budget;
        assert!(!frames.is_full());
        frames.extend(b"abcd").unwrap();
        assert!(!frames.is_full(), "before the boundary nothing counts");
        frames.cut().unwrap();
        assert!(frames.is_full());
        frames.flush(&mut batch);
        frames.budget = budget;
        for _ in 0..3 {
            assert!(!frames.is_full());
            frames.cut().unwrap();
        }
        assert!(frames.is_full());
    }
}
