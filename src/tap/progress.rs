//! The progress of a transfer, as a line that is redrawn at the bottom of a terminal.
//! With a known size it is a bar; otherwise it shows totals and the rate.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use indicatif::{BinaryBytes, ProgressBar, ProgressState, ProgressStyle};

use super::{Console, Event, PerDirection, Tap};
use crate::flow::Direction;

/// Template for input of known size.
const BAR: &str = "{wide_bar} {sent}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
/// Template for input of unknown size.
const SPINNER: &str = "{spinner} received {received}, sent {sent}  {binary_bytes_per_sec}";

/// Interval between redraws while nothing moves, so that rates and times go on.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);

/// Updates the bar of a console, which draws it.
pub struct Progress {
    bar: ProgressBar,
    moved: PerDirection<Arc<AtomicU64>>,
}

impl Progress {
    /// Progress for the bar of `console`; `None` if that has no bar.
    pub fn new(console: &Console) -> Option<Self> {
        let bar = console.bar()?.clone();
        let moved = PerDirection::<Arc<AtomicU64>>::default();
        let template = if bar.length().is_some() { BAR } else { SPINNER };
        if let Ok(style) = ProgressStyle::with_template(template) {
            let style = style.with_key("received", show(&moved.received));
            bar.set_style(style.with_key("sent", show(&moved.sent)));
        }
        // The first draw needs the style, and comes however short the run is.
        bar.tick();
        bar.enable_steady_tick(REDRAW_INTERVAL);
        Some(Self { bar, moved })
    }
}

/// Returns the field of a template that shows a number of bytes.
fn show(count: &Arc<AtomicU64>) -> impl Fn(&ProgressState, &mut dyn Write) + Clone + use<> {
    let count = Arc::clone(count);
    move |_, out| {
        // A line that cannot be drawn is drawn next time.
        let _ = write!(out, "{}", BinaryBytes(count.load(Relaxed)));
    }
}

impl Tap for Progress {
    fn wants_figures(&self) -> bool {
        false
    }

    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        match event {
            // The wait for a peer is no part of the transfer.
            Event::Connected { .. } | Event::Accepted(_) | Event::Relayed { .. } => {
                self.bar.reset_eta();
                self.bar.reset_elapsed();
            }
            Event::Data(data) => {
                let len = data.len as u64;
                self.moved.of(data.direction).fetch_add(len, Relaxed);
                // Received bytes are no progress of the input.
                if data.direction == Direction::Outgoing || self.bar.length().is_none() {
                    self.bar.inc(len);
                }
            }
            Event::Ended { .. } => self.bar.finish_and_clear(),
            #[rustfmt::skip]
            Event::Called(_) | Event::Listening { .. } | Event::Bound { .. }
            | Event::Connecting(_) | Event::ConnectFailed { .. } | Event::Retrying { .. }
            | Event::Open { .. } | Event::ProbeFailed(_) | Event::NotRelayed { .. } | Event::HalfClosed(_)
            | Event::PeerFinished(_) | Event::Broken { .. } | Event::Unreachable(_)
            | Event::Ignored { .. } | Event::Rejected { .. } | Event::Forgotten(_)
            | Event::Truncated { .. } | Event::Oversized { .. } | Event::NoInput { .. }
            | Event::Dropped(_) | Event::Waiting { .. }
            | Event::Replaced { .. } | Event::Capped { .. } | Event::Omitted { .. } | Event::Transferred(_) | Event::Peers(_) | Event::Exited(_)
            | Event::Closed(_) | Event::Sockets(_) | Event::Failed(_) => {}
        }
    }
}
