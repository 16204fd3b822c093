//! Playing a dump back: what it has recorded of one direction, chunk by chunk.
//! The times of a recording count from its first chunk, which goes at once; so a late wake-up delays nothing that comes after it.

use std::time::{Instant, SystemTime};

use memchr::memchr;

use super::dump::{DumpError, DumpReader, Recorded};
use super::frames::Frames;
use super::{Decoder, ReplayTiming};
use crate::exit::{Exit, Failure};
use crate::flow::Direction;

/// The longest line that is taken, in bytes.
const LONGEST_LINE: usize = 1 << 20;

/// Gives the chunks of one direction as frames.
pub(super) struct Replay {
    reader: DumpReader,
    direction: Direction,
    timing: ReplayTiming,
    /// A line without its end, so far.
    line: Vec<u8>,
    /// The chunk that comes next, if it is read.
    next: Option<Recorded>,
    found: Found,
    /// When the first chunk went, and when it had been recorded.
    origin: Option<(Instant, SystemTime)>,
}

/// What the input has shown so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing at all.
    Nothing,
    /// Lines, and none of them belongs to a dump.
    Text,
    /// So many chunks, all of the other direction.
    Others(u64),
    /// Something to play.
    Chunks,
}

impl Replay {
    pub(super) fn new(direction: Direction, timing: ReplayTiming) -> Self {
        Self {
            reader: DumpReader::default(),
            direction,
            timing,
            line: Vec::new(),
            next: None,
            found: Found::Nothing,
            origin: None,
        }
    }

    /// Gives the next chunk if its time has come. False if there is nothing to give now.
    fn give(&mut self, frames: &mut Frames) -> Result<bool, Failure> {
        let now = Instant::now();
        if self.due().is_some_and(|due| due > now) {
            return Ok(false);
        }
        let Some(chunk) = self.next.take() else {
            return Ok(false);
        };
        self.origin.get_or_insert((now, chunk.time));
        frames.extend(&chunk.bytes)?;
        frames.cut()?;
        Ok(true)
    }

    /// Takes the line that is whole now.
    fn take_line(&mut self) -> Result<(), Failure> {
        let line = std::mem::take(&mut self.line);
        let chunk = self.reader.line(&line).map_err(|error| failure(&error))?;
        self.found = match (&chunk, self.found) {
            (Some(chunk), _) if chunk.direction == self.direction => Found::Chunks,
            (Some(_), Found::Others(count)) => Found::Others(count + 1),
            (Some(_), Found::Nothing | Found::Text) => Found::Others(1),
            (None, Found::Nothing) => Found::Text,
            (_, found) => found,
        };
        self.next = chunk.filter(|chunk| chunk.direction == self.direction);
        self.line = line;
        self.line.clear();
        Ok(())
    }

    /// Whether there was anything to play. That nothing is sent must not pass for success.
    fn check_found(&self) -> Result<(), Failure> {
        let text = match (self.found, self.direction) {
            (Found::Nothing | Found::Chunks, _) => return Ok(()),
            (Found::Text, _) => "it is no dump".to_owned(),
            (Found::Others(count), Direction::Outgoing) => {
                format!(
                    "it shows nothing as sent; for what it shows as received ({count}) there is --in dump-received"
                )
            }
            (Found::Others(count), Direction::Incoming) => {
                format!(
                    "it shows nothing as received; for what it shows as sent ({count}) there is --in dump"
                )
            }
        };
        Err(Failure::new(
            Exit::Failed,
            format!("cannot read the input: {text}"),
        ))
    }
}

impl Decoder for Replay {
    fn take(&mut self, text: &[u8], frames: &mut Frames) -> Result<usize, Failure> {
        let mut taken = 0;
        if self.next.is_none() {
            let end = memchr(b'\n', text);
            taken = end.map_or(text.len(), |at| at + 1);
            self.line.extend_from_slice(&text[..taken]);
            if end.is_some() {
                self.take_line()?;
            } else if self.line.len() > LONGEST_LINE {
                let text = "cannot read the input: a line is too long for a dump";
                return Err(Failure::new(Exit::Failed, text));
            }
        }
        self.give(frames)?;
        Ok(taken)
    }

    fn finish(&mut self, frames: &mut Frames) -> Result<(), Failure> {
        if self.next.is_none() && !self.line.is_empty() {
            self.take_line()?;
        }
        if self.next.is_some() {
            return self.give(frames).map(|_| ());
        }
        self.reader.end().map_err(|error| failure(&error))?;
        self.check_found()
    }

    fn has_more(&self) -> bool {
        let is_open = self.next.is_some() || !self.line.is_empty() || self.reader.end().is_err();
        is_open || self.check_found().is_err()
    }

    fn due(&self) -> Option<Instant> {
        let chunk = self.next.as_ref()?;
        let (start, first) = self
            .origin
            .filter(|_| self.timing == ReplayTiming::Original)?;
        // What was recorded before the first goes at once.
        let pause = chunk.time.duration_since(first).unwrap_or_default();
        start.checked_add(pause)
    }
}

fn failure(error: &DumpError) -> Failure {
    Failure::new(Exit::Failed, format!("cannot read the input: {error}"))
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
