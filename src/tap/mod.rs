//! Taps: observers of the traffic, which see every event and change nothing.
//! A tap has one required method; a new event is a compile error in each tap that does not handle it.

use std::time::SystemTime;

use crate::exit::Failure;

mod console;
mod event;
pub mod explain;
pub mod hexdump;
pub mod json;
pub mod lines;
pub mod netcat;
pub mod pcap;
mod pcapng;
pub(crate) mod phrases;
pub mod progress;
pub(crate) mod sink;
mod state;
pub mod stats;

pub use console::Console;
pub use event::{
    Call, ChildEnd, Conversation, Data, Event, FailedCall, IcmpError, KernelDrop, Reach, Rejection,
    Target, Transfer, Via,
};
pub use sink::{Backlog, Content, Sink, UsedFiles};
pub use state::{Count, FinalSegment, Meter, PerDirection, SocketState};

/// An observer.
pub trait Tap {
    /// Handles an event, which happened at `time`. A failure to record it does not stop the traffic: see [`Tap::flush`].
    fn event(&mut self, event: &Event<'_>, time: SystemTime);

    /// Returns true if it needs the payload. While no tap does, the kernel may move bytes unseen.
    fn wants_bytes(&self) -> bool {
        false
    }

    /// Returns true if it needs the figures of the kernel in [`Event::Closed`]. Each costs a system call.
    fn wants_figures(&self) -> bool {
        true
    }

    /// Writes what is buffered, because nothing more happens for now.
    ///
    /// Errors: an event could not be recorded, now or before, and a message has said so.
    /// [`Exit::OutputClosed`](crate::exit::Exit) ends the run.
    fn flush(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Returns what waits for room, if something does.
    fn backlog(&self) -> Option<Backlog<'_>> {
        None
    }

    /// Takes the number of reports that were left out, once there is room to say so.
    fn take_omitted(&mut self) -> u64 {
        0
    }
}

/// All observers of a run.
#[derive(Default)]
#[expect(
    clippy::struct_field_names,
    reason = "each is named as the method of a tap"
)]
pub struct Taps {
    taps: Vec<Box<dyn Tap>>,
    wants_bytes: bool,
    wants_figures: bool,
}

impl Taps {
    /// Adds an observer.
    pub fn add(&mut self, tap: Box<dyn Tap>) {
        self.wants_bytes |= tap.wants_bytes();
        self.wants_figures |= tap.wants_figures();
        self.taps.push(tap);
    }

    /// Returns true if there is no observer.
    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// Passes `event` to every observer, with the same time.
    pub fn emit(&mut self, event: &Event<'_>) {
        if self.taps.is_empty() {
            return;
        }
        let time = SystemTime::now();
        for tap in &mut self.taps {
            tap.event(event, time);
        }
    }

    /// Returns true if an observer needs the payload.
    pub fn wants_bytes(&self) -> bool {
        self.wants_bytes
    }

    /// Returns true if an observer needs the figures of the kernel.
    pub fn wants_figures(&self) -> bool {
        self.wants_figures
    }

    /// Flushes every observer, and reports how many reports were left out, if there is room now.
    ///
    /// Errors: an event could not be recorded, now or before, and a message has said so.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.flush_each();
        let reports: u64 = self.taps.iter_mut().map(|tap| tap.take_omitted()).sum();
        if reports == 0 {
            return flushed;
        }
        self.emit(&Event::Omitted { reports });
        self.flush_each()
    }

    fn flush_each(&mut self) -> Result<(), Failure> {
        let flushed = self.taps.iter_mut().map(|tap| tap.flush());
        flushed.fold(Ok(()), Result::and)
    }

    /// Returns the most important of what waits for room.
    pub fn backlog(&self) -> Option<Backlog<'_>> {
        let backlogs = self.taps.iter().filter_map(|tap| tap.backlog());
        backlogs.max_by_key(|backlog| backlog.content)
    }

    /// Returns true if the traffic has to wait for the reader of a record.
    pub fn is_full(&self) -> bool {
        let backlog = self.backlog();
        backlog.is_some_and(|backlog| backlog.content == Content::FullRecord)
    }
}
