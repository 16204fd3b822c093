//! Where decoders put what they find: frames into a batch, equal ones as one run.
//! A frame that has begun waits here for the rest of its bytes, and one that no datagram can hold is an error before any of it is sent.

use crate::batch::Batch;
use crate::exit::{Exit, Failure};

/// How far a frame without an end is followed to tell its size, in bytes.
const PATIENCE: usize = 16 << 20;

/// What the boundaries between frames are worth to whoever sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundaries {
    /// Nothing: they become one stream.
    Dropped,
    /// Each frame is a datagram.
    Kept {
        /// The most bytes that a datagram holds.
        limit: usize,
    },
}

/// How much may be given at once. One frame, or one byte of a stream, always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// So many frames.
    pub frames: u64,
    /// No further frame once there are so many bytes.
    pub bytes: u64,
}

impl Budget {
    /// No limit.
    pub const ALL: Self = Self {
        frames: u64::MAX,
        bytes: u64::MAX,
    };
}

/// What is known between two batches: the frame that has begun, and how many there were.
#[derive(Debug)]
pub struct PartialFrame {
    boundaries: Boundaries,
    begun: Vec<u8>,
    /// Bytes beyond what a datagram holds; they are only counted.
    excess: usize,
    /// Frames that have ended.
    ended: u64,
}

impl PartialFrame {
    /// Nothing has begun.
    #[must_use]
    pub fn new(boundaries: Boundaries) -> Self {
        Self {
            boundaries,
            begun: Vec::new(),
            excess: 0,
            ended: 0,
        }
    }

    /// Whether there are bytes of a frame that has not ended.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.begun.is_empty() || self.excess > 0
    }

    /// How many frames have ended so far.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended
    }
}

/// Fills a batch with frames.
pub struct Frames<'a> {
    batch: &'a mut Batch,
    partial: &'a mut PartialFrame,
    budget: Budget,
    /// Where the frame that has begun starts in the batch, and where its next byte goes.
    start: usize,
    end: usize,
    /// Frames that have ended in this batch.
    count: u64,
}

impl<'a> Frames<'a> {
    /// Goes on with what is `partial` in an empty batch.
    pub fn new(batch: &'a mut Batch, partial: &'a mut PartialFrame, budget: Budget) -> Self {
        let end = partial.begun.len();
        batch.grow(end)[..end].copy_from_slice(&partial.begun);
        Self {
            batch,
            partial,
            budget,
            start: 0,
            end,
            count: 0,
        }
    }

    /// Whether the budget is used up.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let (frames, bytes) = self.given();
        frames > 0 && frames >= self.budget.frames || bytes > 0 && bytes as u64 >= self.budget.bytes
    }

    /// Bytes of the frame that has begun.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start + self.partial.excess
    }

    /// Whether no frame has begun, or not a byte of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last byte of the frame that has begun.
    pub fn last(&mut self) -> Option<u8> {
        (self.start < self.end).then(|| self.batch.grow(self.end)[self.end - 1])
    }

    /// Adds bytes to the frame.
    ///
    /// Errors: it is far too long, and there is no end in sight.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if let Boundaries::Kept { limit } = self.partial.boundaries
            && self.len() + bytes.len() > limit
        {
            self.partial.excess += bytes.len();
            return match self.len() {
                len if len > PATIENCE => Err(self.too_long("more than ", PATIENCE, limit)),
                _ => Ok(()),
            };
        }
        let end = self.end + bytes.len();
        self.batch.grow(end)[self.end..end].copy_from_slice(bytes);
        self.end = end;
        Ok(())
    }

    /// Says that the frame to come has `len` bytes.
    ///
    /// Errors: no datagram holds as many.
    pub fn announce(&self, len: usize) -> Result<(), Failure> {
        match self.partial.boundaries {
            Boundaries::Kept { limit } if len > limit => Err(self.too_long("", len, limit)),
            _ => Ok(()),
        }
    }

    /// Ends the frame; the next one begins.
    ///
    /// Errors: it is longer than a datagram.
    pub fn cut(&mut self) -> Result<(), Failure> {
        if let Boundaries::Kept { .. } = self.partial.boundaries {
            self.announce(self.len())?;
            self.batch.push_datagram(self.start, self.end - self.start);
        }
        self.start = self.end;
        self.partial.ended += 1;
        self.count += 1;
        Ok(())
    }

    /// The number of the frame that has begun, counted from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.partial.ended + 1
    }

    /// How many frames and bytes the batch has.
    #[must_use]
    pub fn given(&self) -> (u64, usize) {
        let bytes = match self.partial.boundaries {
            Boundaries::Dropped => self.end,
            Boundaries::Kept { .. } => self.start,
        };
        (self.count, bytes)
    }

    /// Leaves what is not ended for the next batch; a stream takes it as it is.
    pub fn close(self) {
        self.partial.begun.clear();
        match self.partial.boundaries {
            Boundaries::Dropped if self.end == 0 => {}
            Boundaries::Dropped => self.batch.push_stream(self.end, None),
            Boundaries::Kept { .. } => {
                let begun = &self.batch.grow(self.end)[self.start..self.end];
                self.partial.begun.extend_from_slice(begun);
            }
        }
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
    use crate::batch::Shape;

    fn runs(batch: &Batch) -> Vec<(usize, usize, Shape)> {
        let runs = batch.runs().iter();
        runs.map(|run| (run.start, run.len, run.shape)).collect()
    }

    #[test]
    fn equal_frames_are_one_run_and_a_shorter_one_ends_it() {
        let mut partial = PartialFrame::new(Boundaries::Kept { limit: 9 });
        let mut batch = Batch::default();
        let mut frames = Frames::new(&mut batch, &mut partial, Budget::ALL);
        for frame in ["abc", "def", "g", "h", "", "", "ij", "klm"] {
            frames.extend(frame.as_bytes()).unwrap();
            frames.cut().unwrap();
        }
        assert_eq!(frames.given(), (8, 13));
        frames.close();
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
    fn what_has_begun_goes_on_in_the_next_batch() {
        let mut partial = PartialFrame::new(Boundaries::Kept { limit: 9 });
        let mut batch = Batch::default();
        let mut frames = Frames::new(&mut batch, &mut partial, Budget::ALL);
        frames.extend(b"ab").unwrap();
        assert_eq!(frames.given(), (0, 0));
        frames.close();
        assert!(batch.is_empty() && partial.has_begun());
        let mut frames = Frames::new(&mut batch, &mut partial, Budget::ALL);
        frames.extend(b"c").unwrap();
        assert_eq!(frames.last(), Some(b'c'));
        frames.cut().unwrap();
        frames.close();
        assert!(!partial.has_begun());
        assert_eq!(batch.bytes(&batch.runs()[0]), b"abc");
    }

    #[test]
    fn a_frame_that_is_too_long_is_measured_to_its_end() {
        let mut partial = PartialFrame::new(Boundaries::Kept { limit: 4 });
        let mut batch = Batch::default();
        let mut frames = Frames::new(&mut batch, &mut partial, Budget::ALL);
        frames.cut().unwrap();
        frames.extend(b"abc").unwrap();
        frames.extend(b"de").unwrap();
        frames.close();
        let mut frames = Frames::new(&mut batch, &mut partial, Budget::ALL);
        frames.extend(b"f").unwrap();
        let message = "cannot send frame 2: it has 6 bytes, and a datagram holds at most 4";
        assert_eq!(frames.cut(), Err(Failure::new(Exit::Failed, message)));
    }

    #[test]
    fn a_budget_is_used_up_by_frames_or_bytes() {
        let mut partial = PartialFrame::new(Boundaries::Kept { limit: 9 });
        let mut batch = Batch::default();
        let budget = Budget {
            frames: 3,
            bytes: 4,
        };
        let mut frames = Frames::new(&mut batch, &mut partial, budget);
        assert!(!frames.is_full());
        frames.extend(b"abcd").unwrap();
        assert!(!frames.is_full(), "before the border nothing counts");
        frames.cut().unwrap();
        assert!(frames.is_full());
        frames.close();
        let mut frames = Frames::new(&mut batch, &mut partial, budget);
        for _ in 0..3 {
            assert!(!frames.is_full());
            frames.cut().unwrap();
        }
        assert!(frames.is_full());
    }
}
