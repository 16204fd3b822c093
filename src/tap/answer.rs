//! Whether anybody answers: the first datagram that comes back, and how long it took.
//! A reply is the only proof that a UDP port is open; silence has two meanings, and only an error says that it is closed.

use std::io::Write;
use std::time::{Instant, SystemTime};

use super::lines::Lines;
use super::{Event, Tap};
use crate::flow::Direction;

/// Says when the first answer has come.
pub struct Answer<W> {
    lines: Lines<W>,
    asked: Option<Instant>,
    is_answered: bool,
}

impl<W: Write> Answer<W> {
    /// Writes its line as one of `lines`.
    pub fn new(lines: Lines<W>) -> Self {
        Self {
            lines,
            asked: None,
            is_answered: false,
        }
    }
}

impl<W: Write> Tap for Answer<W> {
    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        let Event::Data(data) = event else {
            return;
        };
        match (data.direction, self.asked) {
            (Direction::Outgoing, None) => self.asked = Some(Instant::now()),
            (Direction::Incoming, Some(asked)) if !self.is_answered => {
                self.is_answered = true;
                let millis = asked.elapsed().as_secs_f64() * 1000.0;
                let flow = data.flow.arrow(data.direction);
                self.lines.line(
                    "open",
                    format_args!("{flow}  answered after {millis:.2} ms"),
                );
            }
            _ => {}
        }
    }
}
