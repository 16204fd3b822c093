//! Standard error, which lines, dumps and events share with the bar that shows progress.
//! Whoever writes has the terminal for as long as that takes: the bar steps aside and comes back below.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::sys::inherited::Waiting;

/// Standard error.
#[derive(Clone, Default)]
pub struct Console {
    bar: Option<ProgressBar>,
}

impl Console {
    /// Standard error with a bar at the bottom, where it is a terminal. `total` is the position at the end, if that is known.
    #[must_use]
    pub fn with_bar(total: Option<u64>) -> Self {
        let target = ProgressDrawTarget::stderr();
        let is_seen = !target.is_hidden();
        Self {
            bar: is_seen.then(|| ProgressBar::with_draw_target(total, target)),
        }
    }

    /// Takes the bar away for good: the terminal is for what is typed or received, and drawing would wipe it out.
    pub fn make_room(&self) {
        if let Some(bar) = self.bar.as_ref().filter(|bar| !bar.is_finished()) {
            bar.finish_and_clear();
        }
    }

    /// The bar, if there is one.
    pub(super) fn bar(&self) -> Option<&ProgressBar> {
        self.bar.as_ref()
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stderr = Waiting(io::stderr());
        match &self.bar {
            Some(bar) => bar.suspend(|| stderr.write(bytes)),
            None => stderr.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
