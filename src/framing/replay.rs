//! Replay of a dump: the chunks that it shows in one direction.
//! Each pause counts from the chunk before, and a late wake-up does not delay later chunks.

use std::time::{Duration, Instant, SystemTime};

use super::dump::{DumpReader, Recorded};
use super::frames::Frames;
use super::lines::{Lines, unreadable};
use super::{Decoder, ReplayTiming};
use crate::exit::Failure;
use crate::flow::Direction;

/// Longest pause that the recording clock is trusted with after it was set back. A longer one counts from the latest time before.
const CLOCK_JUMP: Duration = Duration::from_hours(1);

/// Decoder that gives the chunks of one direction as frames.
pub(super) struct Replay {
    reader: DumpReader,
    direction: Direction,
    timing: ReplayTiming,
    lines: Lines,
    /// Chunk to give next.
    next: Option<Recorded>,
    /// There was a line, and there was a chunk of this direction.
    has_lines: bool,
    has_chunks: bool,
    /// Number of chunks of the other direction.
    others: u64,
    /// Time at which the previous chunk was due, and its time in the recording.
    previous: Option<(Instant, SystemTime)>,
    /// Latest time of all chunks before.
    latest: Option<SystemTime>,
}

impl Replay {
    pub(super) fn new(direction: Direction, timing: ReplayTiming) -> Self {
        Self {
            reader: DumpReader::default(),
            direction,
            timing,
            lines: Lines::default(),
            next: None,
            has_lines: false,
            has_chunks: false,
            others: 0,
            previous: None,
            latest: None,
        }
    }

    /// Gives the next chunk if it is due.
    fn give(&mut self, frames: &mut Frames) -> Result<(), Failure> {
        let now = Instant::now();
        let due = self.due().unwrap_or(now);
        if due <= now
            && let Some(chunk) = self.next.take()
        {
            self.previous = Some((due, chunk.time));
            self.latest = self.latest.max(Some(chunk.time));
            frames.extend(&chunk.bytes)?;
            frames.cut()?;
        }
        Ok(())
    }

    /// Reads the line, which is complete.
    fn end_line(&mut self) -> Result<(), Failure> {
        let (_, line) = self.lines.end();
        self.has_lines = true;
        match self.reader.line(&line)? {
            Some(chunk) if chunk.direction == self.direction => {
                self.has_chunks = true;
                self.next = Some(chunk);
            }
            Some(_) => self.others += 1,
            None => {}
        }
        Ok(())
    }

    /// Checks that there was something to send: a replay of nothing is no success.
    fn check_found(&self) -> Result<(), Failure> {
        if self.has_chunks || !self.has_lines {
            return Ok(());
        }
        let text = match (self.others, self.direction) {
            (0, _) => "it is not a dump".to_owned(),
            (count, Direction::Outgoing) => format!(
                "it shows nothing as sent; for what it shows as received ({count}) there is --in dump-received"
            ),
            (count, Direction::Incoming) => format!(
                "it shows nothing as received; for what it shows as sent ({count}) there is --in dump"
            ),
        };
        Err(unreadable(&text))
    }
}

impl Decoder for Replay {
    fn take(&mut self, text: &[u8], frames: &mut Frames) -> Result<usize, Failure> {
        let mut taken = 0;
        if self.next.is_none() {
            let is_whole;
            (taken, is_whole) = self.lines.take(text)?;
            if is_whole {
                self.end_line()?;
            }
        }
        self.give(frames)?;
        Ok(taken)
    }

    fn finish(&mut self, frames: &mut Frames) -> Result<(), Failure> {
        if self.next.is_none() && !self.lines.is_blank() {
            self.end_line()?;
        }
        if self.next.is_some() {
            return self.give(frames);
        }
        self.reader.end()?;
        self.check_found()
    }

    fn has_more(&self) -> bool {
        let is_open = self.next.is_some() || !self.lines.is_blank() || self.reader.end().is_err();
        is_open || self.check_found().is_err()
    }

    fn due(&self) -> Option<Instant> {
        let chunk = self.next.as_ref()?;
        let (due, before) = self
            .previous
            .filter(|_| self.timing == ReplayTiming::Original)?;
        let since = |time| chunk.time.duration_since(time).unwrap_or_default();
        // A chunk from before the previous one (another dump, a clock that was set back) goes at once.
        let pause = match since(before) {
            pause if pause > CLOCK_JUMP => pause.min(since(self.latest?)),
            pause => pause,
        };
        due.checked_add(pause)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::super::tests::{decoded, is_the_same_in_pieces, texts};
    use super::*;
    use crate::framing::Budget;

    const DUMP: &str = "\
bound      udp 127.0.0.1:9
2026-11-20T12:00:00.000000Z > udp 127.0.0.1:1 -> 127.0.0.1:9 #1 2 bytes
00000000  68 0a                                             |h.|
2026-11-20T12:00:00.000000Z < udp 127.0.0.1:1 <- 127.0.0.1:9 #1 1 byte
00000000  69                                                |i|
# a comment
2026-11-20T12:00:00.050000Z > udp 127.0.0.1:1 -> 127.0.0.1:9 #2 0 bytes
2026-11-20T12:00:00.100000Z > udp 127.0.0.1:1 -> 127.0.0.1:9 #3 3 bytes
00000000  61 62 63                                          |abc|";

    fn replay(direction: Direction) -> Box<dyn Decoder> {
        Box::new(Replay::new(direction, ReplayTiming::Immediate))
    }

    #[test]
    fn one_direction_is_played_back() {
        let mut sent = replay(Direction::Outgoing);
        assert_eq!(
            texts(&mut *sent, DUMP.as_bytes()).unwrap(),
            [r"h\n", "", "abc"]
        );
        let mut received = replay(Direction::Incoming);
        assert_eq!(texts(&mut *received, DUMP.as_bytes()).unwrap(), ["i"]);
        is_the_same_in_pieces(|| replay(Direction::Outgoing), DUMP.as_bytes());
    }

    #[test]
    fn a_chunk_that_is_not_whole_is_an_error() {
        let text = DUMP
            .strip_suffix("63                                          |abc|")
            .unwrap();
        let mut sent = replay(Direction::Outgoing);
        let failure = texts(&mut *sent, text.as_bytes()).unwrap_err();
        let start = "cannot read the input: line 9, column 1: only 2 of the 3 bytes";
        assert!(failure.message.starts_with(start), "{failure}");
    }

    #[test]
    fn pauses_are_as_they_were() {
        let mut sent = Replay::new(Direction::Outgoing, ReplayTiming::Original);
        let start = Instant::now();
        let frames = decoded(&mut sent, DUMP.as_bytes(), usize::MAX, Budget::ALL).unwrap();
        assert_eq!(frames.len(), 3);
        assert!(start.elapsed().as_millis() >= 100);
    }
}
