//! Figures of the whole run: bytes, rates, times, the path that TCP has measured, and the first reply to a probe.
//! They come from the same events as all other reports, so they agree with them.

use std::fmt::{self, Display};
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use indicatif::BinaryBytes;

use super::lines::{Lines, Palette, put_line};
use super::phrases::{Bytes, Datagrams, Millis, Number, Path, at_least};
use super::{Console, Count, Event, PerDirection, SocketState, Tap};
use crate::flow::{Direction, Transport};

/// Collects figures, and writes them at the end of the run.
pub struct Stats {
    out: Console,
    palette: Palette,
    transport: Transport,
    /// The first attempt to connect, the first client or the first datagram.
    began: Option<Instant>,
    moved: PerDirection<Moved>,
}

/// The traffic in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    count: Count,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Stats {
    /// Figures that are written to `out`.
    #[must_use]
    pub fn new(out: Console, palette: Palette) -> Self {
        Self {
            out,
            palette,
            transport: Transport::Tcp,
            began: None,
            moved: PerDirection::default(),
        }
    }

    fn line(&mut self, text: impl Display) {
        put_line(&mut self.out, self.palette, "stats", text);
    }

    /// Writes the figures that end with the socket.
    fn closed(&mut self, state: &SocketState) {
        let name = &state.identity;
        if let Some(path) = state.path {
            let (number, path) = (Number(state.conn), Path(path));
            self.line(format_args!("{name}{number}  {path}"));
        }
        if state.dropped > 0 {
            let count = Datagrams(state.dropped);
            let least = at_least(state.dropped_at_least);
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
        // The time of day may be set during the run.
        let time = Instant::now();
        match event {
            Event::Connecting { .. } | Event::Accepted(_) => {
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
            Event::Ended { lasted, .. } => self.ended(*lasted),
            Event::Called(_)
            | Event::Listening { .. }
            | Event::Bound { .. }
            | Event::ConnectFailed { .. }
            | Event::Retrying { .. }
            | Event::Open { .. }
            | Event::ProbeFailed(_)
            | Event::Connected { .. }
            | Event::HalfClosed(_)
            | Event::PeerFinished(_)
            | Event::Broken { .. }
            | Event::Unreachable(_)
            | Event::Ignored { .. }
            | Event::Rejected { .. }
            | Event::Forgotten(_)
            | Event::Truncated { .. }
            | Event::Dropped(_)
            | Event::Waiting { .. }
            | Event::Capped { .. }
            | Event::Transferred(_)
            | Event::Peers(_)
            | Event::Exited(_)
            | Event::Sockets(_)
            | Event::Failed(_) => {}
        }
    }
}

/// The display of the traffic in one direction: its size, its rate and its first byte.
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

/// Reports the first reply and its time. A reply is the only proof that a UDP port is open; silence proves nothing.
pub struct FirstReply<W> {
    lines: Lines<W>,
    asked: Option<Instant>,
    is_reported: bool,
}

impl<W: Write> FirstReply<W> {
    /// A tap that writes its line as one of `lines`.
    pub fn new(lines: Lines<W>) -> Self {
        Self {
            lines,
            asked: None,
            is_reported: false,
        }
    }
}

impl<W: Write> Tap for FirstReply<W> {
    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        let Event::Data(data) = event else { return };
        if data.direction == Direction::Outgoing {
            self.asked.get_or_insert_with(Instant::now);
        } else if let Some(asked) = self.asked.filter(|_| !self.is_reported) {
            self.is_reported = true;
            let millis = asked.elapsed().as_secs_f64() * 1e3;
            let flow = data.flow.arrow(data.direction);
            let text = format_args!("{flow}  answered after {millis:.2} ms");
            self.lines.line("open", text);
        }
    }
}
