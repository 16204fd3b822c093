//! Figures at the end: how much, how fast, how soon, and what TCP learned of the path.
//! They come from the same events as everything else, so they agree with it.

use std::fmt::{self, Display};
use std::time::{Duration, Instant, SystemTime};

use indicatif::BinaryBytes;

use super::lines::{Palette, put_line};
use super::phrases::{Bytes, Datagrams, Millis, Number, Path, at_least};
use super::{Console, Count, Event, SocketState, Tap, Ways};
use crate::flow::Transport;

/// Gathers figures, and writes them when the run is over.
pub struct Stats {
    out: Console,
    palette: Palette,
    transport: Transport,
    /// When the conversation began: the call of the first peer, or the first datagram.
    began: Option<Instant>,
    moved: Ways<Moved>,
}

/// What moved in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    count: Count,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Stats {
    /// Writes to `out`.
    #[must_use]
    pub fn new(out: Console, palette: Palette) -> Self {
        Self {
            out,
            palette,
            transport: Transport::Tcp,
            began: None,
            moved: Ways::default(),
        }
    }

    fn line(&mut self, text: impl Display) {
        put_line(&mut self.out, self.palette, "stats", text);
    }

    /// What is known only while the socket exists.
    fn closed(&mut self, state: &SocketState) {
        if let Some(path) = state.path {
            let (name, number) = (&state.identity, Number(state.conn));
            self.line(format_args!("{name}{number}  {}", Path(path)));
        }
        if state.dropped > 0 {
            let (name, count) = (&state.identity, Datagrams(state.dropped));
            let least = at_least(state.dropped_or_more);
            self.line(format_args!("{name}  {least}{count} dropped by the kernel"));
        }
    }

    fn ended(&mut self, lasted: Duration) {
        for (word, moved) in [("received", self.moved.received), ("sent", self.moved.sent)] {
            let rate = Rate {
                moved,
                transport: self.transport,
                began: self.began,
            };
            self.line(format_args!("{word} {rate}"));
        }
        self.line(format_args!("lasted {}", Millis(lasted)));
    }
}

impl Tap for Stats {
    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        // The clock that is shown may be set in the meantime.
        let time = Instant::now();
        match *event {
            Event::Connecting { .. } | Event::Accepted { .. } => {
                self.began.get_or_insert(time);
            }
            Event::Data(data) => {
                self.transport = data.flow.transport;
                self.began.get_or_insert(time);
                let moved = self.moved.of(data.direction);
                moved.count.add(data.len, data.count());
                moved.first.get_or_insert(time);
                moved.last = Some(time);
            }
            Event::Closed(state) => self.closed(state),
            Event::Ended { lasted, .. } => self.ended(lasted),
            _ => {}
        }
    }
}

/// How much moved, how fast, and how soon it began.
struct Rate {
    moved: Moved,
    transport: Transport,
    began: Option<Instant>,
}

impl Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { bytes, chunks } = self.moved.count;
        let unit = match (self.transport, chunks) {
            (Transport::Tcp, 1) => "chunk",
            (Transport::Tcp, _) => "chunks",
            (Transport::Udp, 1) => "datagram",
            (Transport::Udp, _) => "datagrams",
        };
        write!(f, "{} in {chunks} {unit}", Bytes(bytes))?;
        let since = |time: Option<Instant>| {
            let time = time?.duration_since(self.began?);
            Some(time).filter(|time| !time.is_zero())
        };
        if let Some(time) = since(self.moved.last).filter(|_| bytes > 0) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                clippy::cast_sign_loss,
                reason = "a rate for people"
            )]
            let rate = (bytes as f64 / time.as_secs_f64()) as u64;
            write!(f, ", {}/s", BinaryBytes(rate))?;
        }
        if let Some(first) = since(self.moved.first) {
            write!(f, ", the first after {}", Millis(first))?;
        }
        Ok(())
    }
}
