//! Figures of the whole run: bytes, rates, times, the path that TCP has measured, and the first reply to a probe.
//! They come from the same events as all other reports, so they agree with them.

use std::fmt::{Display, Write as _};
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use indicatif::BinaryBytes;

use super::lines::{Detail, Lines, Palette, put_line};
use super::phrases::{Bytes, at_least, datagrams, millis, number, path};
use super::{Console, Count, Event, PerDirection, SocketState, Tap};
use crate::flow::Direction;

/// Collects figures, and writes them at the end of the run.
pub struct Stats {
    out: Console,
    palette: Palette,
    /// True if the last chunk was part of a stream, and not a datagram.
    is_stream: bool,
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
    pub fn new(out: Console, palette: Palette) -> Self {
        Self {
            out,
            palette,
            is_stream: true,
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
        if let Some(tcp) = &state.path {
            let (number, path) = (number(state.conn), path(tcp));
            self.line(format_args!("{name}{number}  {path}"));
        }
        if state.dropped > 0 {
            let (least, count) = (at_least(state.dropped_at_least), datagrams(state.dropped));
            self.line(format_args!("{name}  {least}{count} dropped by the kernel"));
        }
        if state.undelivered > 0 {
            let count = datagrams(state.undelivered);
            self.line(format_args!("{name}  {count} not delivered"));
        }
    }

    fn ended(&mut self, lasted: Duration) {
        self.line(format_args!("received {}", self.rate(&self.moved.received)));
        self.line(format_args!("sent {}", self.rate(&self.moved.sent)));
        self.line(format_args!("lasted {}", millis(lasted)));
    }

    /// Describes the traffic in one direction: its size, its rate and its first byte.
    fn rate(&self, moved: &Moved) -> String {
        let Count { bytes, chunks } = moved.count;
        let unit = if self.is_stream { "chunk" } else { "datagram" };
        let ending = if chunks == 1 { "" } else { "s" };
        let mut text = format!("{} in {chunks} {unit}{ending}", Bytes(bytes));
        let since = |time: Option<Instant>| {
            let time = time?.duration_since(self.began?);
            Some(time).filter(|time| !time.is_zero())
        };
        // Writing to memory does not fail.
        if let Some(time) = since(moved.last).filter(|_| bytes > 0) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                clippy::cast_sign_loss,
                reason = "a rate for people"
            )]
            let rate = (bytes as f64 / time.as_secs_f64()) as u64;
            let _ = write!(text, ", {}/s", BinaryBytes(rate));
        }
        if let Some(first) = since(moved.first) {
            let _ = write!(text, ", the first after {}", millis(first));
        }
        text
    }
}

impl Tap for Stats {
    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        // The time of day may be set during the run.
        let time = Instant::now();
        match event {
            Event::Connecting(_) | Event::Accepted(_) => {
                self.began.get_or_insert(time);
            }
            Event::Data(data) => {
                self.is_stream = data.flow.transport.has_connections();
                self.began.get_or_insert(time);
                let moved = self.moved.of(data.direction);
                moved.count.add(data.len, data.count());
                moved.first.get_or_insert(time);
                moved.last = Some(time);
            }
            Event::Closed(state) => self.closed(state),
            Event::Ended { lasted, .. } => self.ended(*lasted),
            #[rustfmt::skip]
            Event::Called(_) | Event::Listening { .. } | Event::Bound { .. }
            | Event::ConnectFailed { .. } | Event::Retrying { .. } | Event::Open { .. }
            | Event::ProbeFailed(_) | Event::Connected { .. } | Event::Relayed { .. }
            | Event::NotRelayed { .. } | Event::HalfClosed(_)
            | Event::PeerFinished(_) | Event::Broken { .. } | Event::Unreachable(_)
            | Event::Ignored { .. } | Event::Rejected { .. } | Event::Forgotten(_)
            | Event::Truncated { .. } | Event::Oversized { .. } | Event::NoInput { .. }
            | Event::Dropped(_) | Event::Waiting { .. }
            | Event::Replaced { .. } | Event::Capped { .. } | Event::Omitted { .. } | Event::Transferred(_) | Event::Peers(_) | Event::Exited(_)
            | Event::Sockets(_) | Event::Failed(_) => {}
        }
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
            let text = format!("{flow}  answered after {millis:.2} ms");
            if self.lines.reports(Detail::Events) {
                self.lines.line("open", text);
            }
        }
    }
}
