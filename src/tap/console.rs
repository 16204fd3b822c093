//! Standard error, which lines, dumps and events share with the bar that shows progress.
//! Whoever writes has the terminal for as long as that takes: the bar steps aside and comes back below.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use rustix::event::{PollFd, PollFlags, poll};

/// How often a bar is drawn anew while nothing moves, so that rates and times do not stand still.
const TICK: Duration = Duration::from_millis(200);

/// Standard error.
#[derive(Clone, Default)]
pub struct Console {
    bar: Option<ProgressBar>,
}

impl Console {
    /// A bar at the bottom, if standard error is a terminal and there is none yet. `total` is the number of bytes at the end.
    pub(super) fn bar(&mut self, total: Option<u64>) -> Option<&ProgressBar> {
        let target = ProgressDrawTarget::stderr();
        if self.bar.is_none() && !target.is_hidden() {
            let bar = ProgressBar::with_draw_target(total, target);
            bar.enable_steady_tick(TICK);
            self.bar = Some(bar);
        }
        self.bar.as_ref()
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.bar {
            Some(bar) => bar.suspend(|| write(bytes)),
            None => write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes, and waits where another process has made the terminal non-blocking.
fn write(bytes: &[u8]) -> io::Result<usize> {
    let mut stderr = io::stderr();
    loop {
        match stderr.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None)?;
            }
            other => return other,
        }
    }
}
