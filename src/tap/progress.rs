//! How far a transfer has come, as a line that is drawn again and again at the bottom of a terminal.
//! Where the size is known it is a bar; otherwise the totals and the rate are all there is to show.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use indicatif::{BinaryBytes, ProgressBar, ProgressState, ProgressStyle};

use super::{Console, Data, Event, Tap, Ways};
use crate::flow::Direction;

/// With the size of what is to be sent.
const BAR: &str = "{wide_bar} {sent}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left";
/// Without.
const SPINNER: &str = "{spinner} received {received}, sent {sent}  {binary_bytes_per_sec}";

/// How often the line is drawn anew while nothing moves, so that rates and times do not stand still.
const TICK: Duration = Duration::from_millis(200);

/// Keeps the bar of a console up to date; the console draws it.
pub struct Progress {
    bar: ProgressBar,
    moved: Ways<Arc<AtomicU64>>,
}

impl Progress {
    /// `None` where the console has no bar.
    #[must_use]
    pub fn new(console: &Console) -> Option<Self> {
        let bar = console.bar()?.clone();
        let moved = Ways::<Arc<AtomicU64>>::default();
        let template = if bar.length().is_some() { BAR } else { SPINNER };
        if let Ok(style) = ProgressStyle::with_template(template) {
            let style = style.with_key("received", show(&moved.received));
            bar.set_style(style.with_key("sent", show(&moved.sent)));
        }
        // Not before it has its form; and once at least, however short the run is.
        bar.tick();
        bar.enable_steady_tick(TICK);
        Some(Self { bar, moved })
    }
}

/// Shows how many bytes there are whenever the bar is drawn.
fn show(count: &Arc<AtomicU64>) -> impl Fn(&ProgressState, &mut dyn Write) + Clone + use<> {
    let count = Arc::clone(count);
    move |_, out| {
        // A line that cannot be drawn is drawn next time.
        let _ = write!(out, "{}", BinaryBytes(count.load(Relaxed)));
    }
}

impl Tap for Progress {
    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        match *event {
            // The time before there was anybody to talk with is no part of the transfer.
            Event::Connected { .. } | Event::Accepted { .. } => {
                self.bar.reset_eta();
                self.bar.reset_elapsed();
            }
            Event::Data(Data { direction, len, .. }) => {
                self.moved.of(direction).fetch_add(len as u64, Relaxed);
                // What is received says nothing of how much of the input is sent.
                if direction == Direction::Outgoing || self.bar.length().is_none() {
                    self.bar.inc(len as u64);
                }
            }
            Event::Ended { .. } => self.bar.finish_and_clear(),
            _ => {}
        }
    }
}
