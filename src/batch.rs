//! Batches: the bytes in flight in one direction, in runs that each have the addresses they came with.
//! Bytes of a stream have no boundaries. A run of datagrams has one every so many bytes, and an empty run is an empty datagram.

use std::hint::black_box;
use std::io::{self, ErrorKind, IoSlice};

use crate::flow::Flow;

/// Bytes of a [`Batch`] that arrived together, with the same addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Offset in the batch, in bytes.
    pub start: usize,
    /// Length in bytes; 0 with `Shape::Datagrams` is one empty datagram.
    pub len: usize,
    /// Boundaries between the bytes.
    pub shape: Shape,
    /// The addresses it came with; `None` for bytes of the local end, for which the link chooses them.
    pub flow: Option<Flow>,
}

/// Boundaries between bytes, such as those of a [`Run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A byte stream: no boundaries.
    Stream,
    /// Datagrams of this many bytes each, only the last may be shorter. Never 0.
    Datagrams(usize),
}

impl Shape {
    /// Returns the number of datagrams in `len` bytes, at least 1; bytes of a stream count as one chunk.
    pub fn count(self, len: usize) -> usize {
        match self {
            Self::Stream => 1,
            Self::Datagrams(stride) => len.div_ceil(stride).max(1),
        }
    }

    /// Returns the size of each of these, in bytes.
    pub fn sizes(self, len: usize) -> impl Iterator<Item = usize> {
        let stride = match self {
            Self::Stream => len,
            Self::Datagrams(stride) => stride,
        };
        (0..self.count(len)).map(move |index| stride.min(len - index * stride))
    }
}

impl Run {
    /// Returns the number of datagrams; see [`Shape::count`].
    pub fn count(&self) -> usize {
        self.shape.count(self.len)
    }
}

/// Position in a [`Batch`]: what is before it has been taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Index of the first run that is not wholly taken.
    pub run: usize,
    /// Bytes of that run already taken.
    pub offset: usize,
}

/// Alignment of the space: into unaligned memory some processors copy at a fifth of the speed.
const PAGE_SIZE: usize = 4096;

/// Bytes that are allocated at least where more may follow.
const MIN_ALLOCATION: usize = 64 << 10;

/// Runs that are written in one call: less than `IOV_MAX` (writev(2)).
const WRITE_SLICES: usize = 64;

/// Memory that stays for allocations that cannot fail, in bytes.
const ROOM: usize = 1 << 20;

/// Checks that `size` bytes can be allocated, and more for everything else.
///
/// Errors: there is too little memory, such as with a limit of the address space (`RLIMIT_AS`, getrlimit(2)).
pub fn check_memory(size: usize) -> io::Result<()> {
    let mut room: Vec<u8> = Vec::new();
    let reserved = room.try_reserve_exact(size + ROOM);
    // An allocation that nothing uses may be left out.
    black_box(&room);
    reserved.map_err(|_| ErrorKind::OutOfMemory.into())
}

/// Buffer of bytes in flight, with its runs in order.
#[derive(Debug, Default)]
pub struct Batch {
    memory: Vec<u8>,
    /// Offset of the space in the memory.
    origin: usize,
    runs: Vec<Run>,
}

impl Batch {
    /// Returns the bytes of the first run.
    pub fn first_run(&self) -> &[u8] {
        self.runs.first().map_or(&[], |run| self.bytes(run))
    }

    /// Removes all runs; the memory stays.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// Makes sure of room for at least `size` bytes, which outside decides about.
    ///
    /// Errors: there is no memory for it, where [`Batch::space`] would end the program.
    pub fn reserve(&mut self, size: usize) -> io::Result<()> {
        if self.memory.len() < self.origin + size {
            check_memory(size)?;
        }
        Ok(())
    }

    /// Returns room for at least `size` bytes, to be filled from the front. Its content is unspecified.
    pub fn space(&mut self, size: usize) -> &mut [u8] {
        if self.memory.len() < self.origin + size {
            // A fresh allocation comes zeroed and untouched from the kernel: memory is only used where bytes arrive.
            self.memory = vec![0; size + PAGE_SIZE];
            self.origin = self.memory.as_ptr().align_offset(PAGE_SIZE) % PAGE_SIZE;
        }
        &mut self.memory[self.origin..]
    }

    /// Returns the same with the content kept.
    pub fn grow(&mut self, size: usize) -> &mut [u8] {
        if self.memory.len() < self.origin + size {
            let (old, origin) = (std::mem::take(&mut self.memory), self.origin);
            let old = old.get(origin..).unwrap_or_default();
            // Growing in big steps costs nothing either: memory is only used where bytes arrive.
            let size = size.next_power_of_two().max(MIN_ALLOCATION);
            self.space(size)[..old.len()].copy_from_slice(old);
        }
        &mut self.memory[self.origin..]
    }

    /// Adds a run, whose bytes are in the space already.
    pub fn push(&mut self, run: Run) {
        debug_assert!(self.origin + run.start + run.len <= self.memory.len());
        debug_assert_ne!(run.shape, Shape::Datagrams(0));
        self.runs.push(run);
    }

    /// Adds the first `len` bytes of the space as a run.
    pub fn push_front(&mut self, len: usize, shape: Shape, flow: Option<Flow>) {
        self.push(Run {
            start: 0,
            len,
            shape,
            flow,
        });
    }

    /// Adds one datagram. It joins the last run if it follows it in the space and is as long as the datagrams there; the last one of a
    /// run may be shorter.
    pub fn push_datagram(&mut self, start: usize, len: usize) {
        if let Some(run) = self.runs.last_mut()
            && let Shape::Datagrams(stride) = run.shape
            && run.flow.is_none()
            && run.start + run.len == start
            && run.len > 0
            && run.len.is_multiple_of(stride)
            && (1..=stride).contains(&len)
        {
            run.len += len;
            return;
        }
        self.push(Run {
            start,
            len,
            shape: Shape::Datagrams(len.max(1)),
            flow: None,
        });
    }

    /// Adds copies of runs of another batch at the end.
    pub fn append(&mut self, other: &Self, runs: &[Run]) {
        for run in runs {
            let start = self.runs.last().map_or(0, |last| last.start + last.len);
            self.grow(start + run.len)[start..][..run.len].copy_from_slice(other.bytes(run));
            self.push(Run {
                start,
                ..run.clone()
            });
        }
    }

    /// Gives all runs the same addresses.
    pub fn set_flow(&mut self, flow: &Flow) {
        for run in &mut self.runs {
            run.flow = Some(flow.clone());
        }
    }

    /// Returns all runs, in order of arrival.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Returns the bytes of a run of this batch.
    pub fn bytes(&self, run: &Run) -> &[u8] {
        &self.memory[self.origin + run.start..][..run.len]
    }

    /// Returns the total of bytes in flight.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.len).sum()
    }

    /// Returns the number of datagrams in flight; see [`Shape::count`].
    pub fn count(&self) -> usize {
        self.runs.iter().map(Run::count).sum()
    }

    /// Returns the number of those that are not taken.
    pub fn count_from(&self, mut at: Cursor) -> usize {
        std::iter::from_fn(|| self.next_chunk(&mut at)).count()
    }

    /// Returns true if nothing is in flight, not even an empty datagram.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Returns true if everything is taken.
    pub fn is_taken(&self, at: Cursor) -> bool {
        at.run >= self.runs.len()
    }

    /// Fills `slices` with what is not yet taken, without its boundaries; returns the number of slices that are set.
    pub fn rest<'a>(&'a self, at: Cursor, slices: &mut [IoSlice<'a>]) -> usize {
        let runs = self.runs.get(at.run..).unwrap_or_default();
        let mut count = 0;
        for (slot, (index, run)) in slices.iter_mut().zip(runs.iter().enumerate()) {
            let skip = if index == 0 { at.offset } else { 0 };
            *slot = IoSlice::new(&self.bytes(run)[skip..]);
            count += 1;
        }
        count
    }

    /// Returns the datagram at `at`, or the rest of a run of a stream, with its run; `at` moves past it.
    pub fn next_chunk(&self, at: &mut Cursor) -> Option<(&Run, &[u8])> {
        let run = self.runs.get(at.run)?;
        let rest = &self.bytes(run)[at.offset..];
        let len = match run.shape {
            Shape::Stream => rest.len(),
            Shape::Datagrams(stride) => rest.len().min(stride),
        };
        at.offset += len;
        if at.offset == run.len {
            *at = Cursor {
                run: at.run + 1,
                offset: 0,
            };
        }
        Some((run, &rest[..len]))
    }

    /// Writes what is not yet taken in one call of `write`, without its boundaries, and moves `at` past the bytes that it has taken.
    ///
    /// Empty datagrams alone need no call.
    pub fn write_with(
        &self,
        at: &mut Cursor,
        write: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let count = self.rest(*at, &mut slices);
        let slices = &slices[..count];
        let is_empty = slices.iter().all(|slice| slice.is_empty());
        let len = if is_empty { 0 } else { write(slices)? };
        self.advance(at, len);
        Ok(())
    }

    /// Moves `at` by `len` bytes, and past runs that are then taken.
    pub fn advance(&self, at: &mut Cursor, mut len: usize) {
        while let Some(run) = self.runs.get(at.run) {
            let left = run.len - at.offset;
            if len < left {
                at.offset += len;
                return;
            }
            len -= left;
            *at = Cursor {
                run: at.run + 1,
                offset: 0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lens: &[usize]) -> Batch {
        let mut batch = Batch::default();
        batch.space(lens.iter().sum());
        let mut start = 0;
        for &len in lens {
            batch.push(Run {
                start,
                len,
                shape: Shape::Datagrams(4),
                flow: None,
            });
            start += len;
        }
        batch
    }

    #[test]
    fn a_run_counts_its_datagrams_and_an_empty_one_is_one() {
        let counts: Vec<usize> = batch(&[0, 4, 5, 8]).runs().iter().map(Run::count).collect();
        assert_eq!(counts, [1, 1, 2, 2]);
    }

    #[test]
    fn bytes_are_cut_where_their_borders_are() {
        let sizes = |shape: Shape, len| shape.sizes(len).collect::<Vec<_>>();
        assert_eq!(sizes(Shape::Datagrams(2), 5), [2, 2, 1]);
        assert_eq!(sizes(Shape::Datagrams(2), 0), [0]);
        assert_eq!(sizes(Shape::Stream, 7), [7]);
        assert_eq!(sizes(Shape::Stream, 0), [0]);
    }

    #[test]
    fn what_is_there_is_kept_when_it_grows() {
        let mut batch = Batch::default();
        for size in [1, MIN_ALLOCATION, MIN_ALLOCATION + 1, 1 << 20] {
            batch.grow(size)[size - 1] = 7;
        }
        let space = batch.grow(0);
        for size in [1, MIN_ALLOCATION, MIN_ALLOCATION + 1, 1 << 20] {
            assert_eq!(space[size - 1], 7);
        }
    }

    #[test]
    fn more_memory_than_there_is_is_an_error() {
        let mut batch = Batch::default();
        assert!(batch.reserve(64 << 10).is_ok());
        let error = batch.reserve(isize::MAX as usize / 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
    }

    #[test]
    fn chunks_come_one_by_one_and_an_empty_one_too() {
        let batch = batch(&[0, 4, 5]);
        let mut at = Cursor::default();
        let chunks = std::iter::from_fn(|| batch.next_chunk(&mut at));
        let lens: Vec<usize> = chunks.map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(lens, [0, 4, 4, 1]);
    }

    #[test]
    fn advance_skips_finished_and_empty_runs() {
        let batch = batch(&[3, 0, 2]);
        let mut at = Cursor::default();
        batch.advance(&mut at, 2);
        assert_eq!(at, Cursor { run: 0, offset: 2 });
        batch.advance(&mut at, 1);
        assert_eq!(at, Cursor { run: 2, offset: 0 });
        batch.advance(&mut at, 2);
        assert!(batch.is_taken(at));
    }

    #[test]
    fn rest_starts_in_the_middle_of_a_run() {
        let batch = batch(&[3, 0, 2]);
        let mut slices = [IoSlice::new(&[]); 8];
        let count = batch.rest(Cursor { run: 0, offset: 1 }, &mut slices);
        assert_eq!(
            slices[..count].iter().map(|s| s.len()).collect::<Vec<_>>(),
            [2, 0, 2]
        );
    }
}
