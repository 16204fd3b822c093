//! How far a transfer has come, as a line that is drawn again and again at the bottom of a terminal.
//! Where the size is known it is a bar; otherwise the totals and the rate are all there is to show.

use std::time::{Duration, Instant, SystemTime};

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};

use super::{Console, Event, Tap, Ways};

/// With the size of what is to be sent.
const BAR: &str =
    "{wide_bar} {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left  {msg}";
/// Without.
const SPINNER: &str = "{spinner} {msg}  {binary_bytes_per_sec}";

/// How long a person sees the same numbers at least.
const PAUSE: Duration = Duration::from_millis(50);

/// Draws the bar of a console.
pub struct Progress {
    bar: ProgressBar,
    moved: Ways<u64>,
    drawn: Instant,
}

impl Progress {
    /// `None` where the console has no bar.
    #[must_use]
    pub fn new(console: &Console) -> Option<Self> {
        let bar = console.bar()?.clone();
        let template = if bar.length().is_some() { BAR } else { SPINNER };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let moved = Ways::default();
        let drawn = Instant::now();
        Some(Self { bar, moved, drawn })
    }

    fn draw(&mut self) {
        self.drawn = Instant::now();
        let Ways { received, sent } = self.moved;
        let (came, went) = (BinaryBytes(received), BinaryBytes(sent));
        if self.bar.length().is_some() {
            self.bar.set_position(sent);
            if received > 0 {
                self.bar.set_message(format!("received {came}"));
            }
        } else {
            self.bar.set_position(sent + received);
            self.bar
                .set_message(format!("received {came}, sent {went}"));
        }
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
            Event::Data { direction, len, .. } => {
                *self.moved.of(direction) += len as u64;
                if self.drawn.elapsed() >= PAUSE {
                    self.draw();
                }
            }
            Event::Ended { .. } => self.bar.finish_and_clear(),
            _ => {}
        }
    }
}
