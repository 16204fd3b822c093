//! Replay of a recording: its chunks at once or with their pauses, once or in a loop.
//! Each pause counts from the chunk before, and a late wake-up does not delay later chunks.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::dump::{DumpReader, Recorded};
use super::{Chunk, Conversation, select};
use crate::exit::Failure;
use crate::flow::{Direction, Leg};
use crate::framing::frames::Frames;
use crate::framing::lines::{Lines, unreadable};
use crate::framing::{Decoder, Playback, ReplayTiming};

/// Longest pause that the recording clock is trusted with after it was set back. A longer one counts from the latest time before.
const CLOCK_JUMP: Duration = Duration::from_hours(1);

/// Chunks, or their bytes, that are given at once.
const GIVEN_AT_ONCE: (u64, usize) = (64, 64 << 10);

/// Most bytes of a recording that is read as a whole.
pub(super) const MAX_RECORDING_SIZE: usize = 512 << 20;

/// Reader of a recording.
pub(in crate::framing) trait Source {
    /// Takes bytes from the front of `text`, adds the chunks that they complete to `queue`, and returns their number.
    fn take(&mut self, text: &[u8], queue: &mut VecDeque<Chunk>) -> Result<usize, Failure>;

    /// Adds the rest at the end of the input.
    fn finish(&mut self, queue: &mut VecDeque<Chunk>) -> Result<(), Failure>;
}

/// Decoder that gives the chunks of a recording as frames.
pub(in crate::framing) struct Replay {
    source: Box<dyn Source>,
    timing: ReplayTiming,
    /// Chunks to give next.
    queue: VecDeque<Chunk>,
    /// The source has given all.
    has_ended: bool,
    /// Times to begin again, and the chunks for that.
    loops: u64,
    kept: Vec<Chunk>,
    /// Time at which the previous chunk was due, and its time in the recording.
    previous: Option<(Instant, SystemTime)>,
    /// Latest time of all chunks before, in this pass.
    latest: Option<SystemTime>,
}

impl Replay {
    pub(in crate::framing) fn new(source: impl Source + 'static, playback: &Playback) -> Self {
        Self {
            source: Box::new(source),
            timing: playback.timing,
            queue: VecDeque::new(),
            has_ended: false,
            loops: playback.passes.saturating_sub(1),
            kept: Vec::new(),
            previous: None,
            latest: None,
        }
    }

    /// Gives the next chunks that are due, but not all of many at once.
    fn give(&mut self, frames: &mut Frames) -> Result<(), Failure> {
        let now = Instant::now();
        loop {
            let (count, bytes) = frames.totals();
            let is_enough = count >= GIVEN_AT_ONCE.0 || bytes >= GIVEN_AT_ONCE.1;
            let due = self.due().unwrap_or(now);
            if is_enough || frames.is_full() || due > now {
                return Ok(());
            }
            let Some(chunk) = self.queue.pop_front() else {
                return Ok(());
            };
            self.previous = chunk.time.map(|time| (due, time));
            self.latest = self.latest.max(chunk.time);
            frames.extend(&chunk.bytes)?;
            frames.cut()?;
            if self.loops > 0 {
                self.kept.push(chunk);
            }
        }
    }

    /// Fills the queue at the end of the input: from the source, then from the chunks of the pass before.
    fn refill(&mut self) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.source.finish(&mut self.queue)?;
            let is_timed = self.queue.iter().all(|chunk| chunk.time.is_some());
            if self.timing != ReplayTiming::Immediate && !is_timed {
                return Err(unreadable(
                    "it has no times, which '--delay original' needs",
                ));
            }
        }
        if self.queue.is_empty() && !self.kept.is_empty() {
            self.queue.extend(std::mem::take(&mut self.kept));
            self.latest = None;
            // A number that stands for ever does not count down.
            self.loops -= u64::from(self.loops < u64::MAX - 1);
        }
        Ok(())
    }
}

impl Decoder for Replay {
    fn take(&mut self, text: &[u8], frames: &mut Frames) -> Result<usize, Failure> {
        let mut taken = 0;
        if self.queue.is_empty() {
            taken = self.source.take(text, &mut self.queue)?;
        }
        self.give(frames)?;
        Ok(taken)
    }

    fn finish(&mut self, frames: &mut Frames) -> Result<(), Failure> {
        if self.queue.is_empty() {
            self.refill()?;
        }
        self.give(frames)
    }

    fn has_more(&self) -> bool {
        !self.has_ended || !self.queue.is_empty() || !self.kept.is_empty()
    }

    fn due(&self) -> Option<Instant> {
        let time = self.queue.front()?.time?;
        let ReplayTiming::Original { speed } = self.timing else {
            return None;
        };
        let (due, before) = self.previous?;
        let since = |earlier| time.duration_since(earlier).unwrap_or_default();
        // A chunk from before the previous one (another dump, a clock that was set back) goes at once.
        let pause = match since(before) {
            pause if pause > CLOCK_JUMP => pause.min(since(self.latest?)),
            pause => pause,
        };
        let pause = Duration::try_from_secs_f64(pause.as_secs_f64() / speed);
        due.checked_add(pause.unwrap_or(Duration::MAX))
    }
}

/// Source of the chunks of one direction of a dump of this program, which may be read while it is written.
pub(in crate::framing) struct Dump {
    reader: DumpReader,
    lines: Lines,
    direction: Direction,
    /// Side of a relayed pair to send, if it is chosen.
    leg: Option<Leg>,
    has_lines: bool,
    /// There was a chunk of this direction.
    has_chunks: bool,
    /// Number of chunks of the other direction.
    others: u64,
}

impl Dump {
    pub(in crate::framing) fn new(direction: Direction, playback: &Playback) -> Self {
        Self {
            reader: DumpReader::default(),
            lines: Lines::default(),
            direction,
            leg: playback.leg,
            has_lines: false,
            has_chunks: false,
            others: 0,
        }
    }

    /// Returns true for a chunk to send. What one end of a relayed pair says is received on its own leg, and sent on the other one.
    fn is_wanted(&self, chunk: &Recorded) -> bool {
        let side = self.leg.unwrap_or(Leg::Client);
        let leg = match self.direction {
            Direction::Incoming => side,
            Direction::Outgoing => side.other(),
        };
        let is_chosen = chunk
            .number
            .leg
            .map_or(self.leg.is_none(), |own| own == leg);
        is_chosen && chunk.direction == self.direction
    }

    /// Reads the line, which is complete.
    fn end_line(&mut self, queue: &mut VecDeque<Chunk>) -> Result<(), Failure> {
        let (_, line) = self.lines.end();
        self.has_lines = true;
        match self.reader.line(&line)? {
            Some(chunk) if self.is_wanted(&chunk) => {
                self.has_chunks = true;
                queue.push_back(Chunk {
                    time: Some(chunk.time),
                    leg: None,
                    bytes: chunk.bytes,
                });
            }
            Some(_) => self.others += 1,
            None => {}
        }
        Ok(())
    }
}

impl Source for Dump {
    fn take(&mut self, text: &[u8], queue: &mut VecDeque<Chunk>) -> Result<usize, Failure> {
        let (taken, is_whole) = self.lines.take(text)?;
        if is_whole {
            self.end_line(queue)?;
        }
        Ok(taken)
    }

    /// Errors: there was nothing to send. A replay of nothing is no success.
    fn finish(&mut self, queue: &mut VecDeque<Chunk>) -> Result<(), Failure> {
        if !self.lines.is_blank() {
            self.end_line(queue)?;
        }
        self.reader.end()?;
        if self.has_chunks || !self.has_lines {
            return Ok(());
        }
        let text = match (self.others, self.direction) {
            (0, _) => "it is not a dump of tuplecat; --in hexdump reads those of other programs"
                .to_owned(),
            _ if self.leg.is_some() => {
                "it shows nothing of this side; --leg is for the dump of a relay".to_owned()
            }
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

/// Source that is read as a whole: the chunks of one side of one conversation.
pub(in crate::framing) struct Whole {
    text: Vec<u8>,
    read: Read,
    flow: Option<String>,
    leg: Option<Leg>,
}

/// Reader of the conversations in a recording.
type Read = fn(&[u8]) -> Result<Vec<Conversation>, Failure>;

impl Whole {
    pub(in crate::framing) fn new(read: Read, playback: &Playback) -> Self {
        Self {
            text: Vec::new(),
            read,
            flow: playback.flow.clone(),
            leg: playback.leg,
        }
    }
}

impl Source for Whole {
    fn take(&mut self, text: &[u8], _: &mut VecDeque<Chunk>) -> Result<usize, Failure> {
        if self.text.len() + text.len() > MAX_RECORDING_SIZE {
            let size = MAX_RECORDING_SIZE >> 20;
            return Err(unreadable(&format!("it has more than {size} MiB")));
        }
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn finish(&mut self, queue: &mut VecDeque<Chunk>) -> Result<(), Failure> {
        if self.text.is_empty() {
            return Ok(());
        }
        let conversations = (self.read)(&std::mem::take(&mut self.text))?;
        queue.extend(select(conversations, self.flow.as_deref())?.of_leg(self.leg)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::framing::Budget;
    use crate::framing::tests::{decoded, is_the_same_in_pieces, texts};

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
        Box::new(Replay::new(
            Dump::new(direction, &Playback::default()),
            &Playback::default(),
        ))
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

    /// A relay shows each chunk twice: received on the leg of its sender, and sent on the other one.
    #[test]
    fn one_side_of_a_relayed_pair_is_played_back() {
        let relayed = "\
2026-11-20T12:00:00.000000Z < tcp 127.0.0.1:1 <-> 127.0.0.1:9 #1 client 3 bytes
00000000  61 73 6b                                          |ask|
2026-11-20T12:00:00.000000Z > tcp 127.0.0.1:2 <-> 127.0.0.1:8 #1 target 3 bytes
00000000  61 73 6b                                          |ask|
2026-11-20T12:00:00.000000Z < tcp 127.0.0.1:2 <-> 127.0.0.1:8 #1 target 4 bytes
00000000  74 65 6c 6c                                       |tell|
2026-11-20T12:00:00.000000Z > tcp 127.0.0.1:1 <-> 127.0.0.1:9 #1 client 4 bytes
00000000  74 65 6c 6c                                       |tell|
";
        for (leg, text) in [
            (None, "ask"),
            (Some(Leg::Client), "ask"),
            (Some(Leg::Target), "tell"),
        ] {
            let playback = Playback {
                leg,
                ..Playback::default()
            };
            for direction in [Direction::Incoming, Direction::Outgoing] {
                let mut replay = Replay::new(Dump::new(direction, &playback), &playback);
                let sent = texts(&mut replay, relayed.as_bytes()).unwrap();
                assert_eq!(sent, [text], "{leg:?} {direction:?}");
                if leg.is_some() {
                    let mut other = Replay::new(Dump::new(direction, &playback), &playback);
                    let failure = texts(&mut other, DUMP.as_bytes()).unwrap_err();
                    assert!(failure.message.contains("--leg is for the dump of a relay"));
                }
            }
        }
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
        for (speed, passes, frames, millis) in
            [(1.0, 1, 3, 100), (2.0, 4, 12, 200), (50.0, 2, 6, 4)]
        {
            let playback = Playback {
                timing: ReplayTiming::Original { speed },
                passes,
                ..Playback::default()
            };
            let mut sent = Replay::new(Dump::new(Direction::Outgoing, &playback), &playback);
            let start = Instant::now();
            let found = decoded(&mut sent, DUMP.as_bytes(), usize::MAX, Budget::ALL).unwrap();
            assert_eq!(found.len(), frames);
            assert!(start.elapsed().as_millis() >= millis);
        }
    }
}
