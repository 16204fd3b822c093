//! Taps: observers of the traffic, which see every event and change nothing.
//! The links report what happens to them, with their identity; a tap has one required method and picks what it cares about.

use std::time::SystemTime;

use crate::exit::Failure;

pub mod answer;
mod event;
pub mod explain;
pub mod hexdump;
pub mod json;
pub mod lines;
pub mod pcap;
mod pcapng;
pub(crate) mod phrases;
pub mod progress;
mod sink;
mod state;
pub mod stats;

pub use event::{Call, Data, Event, Reach};

pub use sink::{Console, Memory, Sink, UsedFiles};
pub use state::{Count, Parting, SocketState, Ways};

/// An observer.
pub trait Tap {
    /// Sees one event, which happened at `time`. Failing to record it must not stop the traffic: see [`Tap::flush`].
    fn event(&mut self, event: &Event<'_>, time: SystemTime);

    /// Whether it looks at payload. While no tap does, the kernel may move bytes without showing them.
    fn wants_bytes(&self) -> bool {
        false
    }

    /// Nothing more happens for now: what was held back is written, for whoever follows it.
    ///
    /// Errors: something that happened so far is not recorded; the user has been told why. [`Exit::OutputClosed`](crate::exit::Exit)
    /// is the end of the run as well.
    fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// All observers of a run.
#[derive(Default)]
pub struct Taps {
    taps: Vec<Box<dyn Tap>>,
    wants_bytes: bool,
}

impl Taps {
    /// Adds an observer.
    pub fn add(&mut self, tap: Box<dyn Tap>) {
        self.wants_bytes |= tap.wants_bytes();
        self.taps.push(tap);
    }

    /// Whether there is nobody to whom anything could be shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// Shows `event` to every observer, all with the same time.
    pub fn emit(&mut self, event: &Event<'_>) {
        if self.taps.is_empty() {
            return;
        }
        let time = SystemTime::now();
        for tap in &mut self.taps {
            tap.event(event, time);
        }
    }

    /// Whether any of them looks at payload.
    #[must_use]
    pub fn wants_bytes(&self) -> bool {
        self.wants_bytes
    }

    /// Lets every observer write what it holds back.
    ///
    /// Errors: something that happened so far is not recorded; the user has been told why.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.taps.iter_mut().map(|tap| tap.flush());
        flushed.fold(Ok(()), Result::and)
    }
}
