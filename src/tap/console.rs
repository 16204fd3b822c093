//! Standard error, which lines, dumps, events and a progress bar share.
//! Nothing waits for its reader: reports that have no room are left out and counted, records are kept until they have.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, IsTerminal, Write};
use std::mem;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::SystemTime;

use indicatif::{ProgressBar, ProgressDrawTarget};

use super::sink::{BUFFER_SIZE, drain};
use super::{Backlog, Content, Event, Tap};
use crate::exit::Failure;
use crate::sys::inherited::Inherited;

/// Standard error, shared by lines, dumps, events and the progress bar. The bar is hidden during each write.
///
/// By default it is nowhere.
#[derive(Clone, Default)]
pub struct Console {
    bar: Option<ProgressBar>,
    stderr: Option<Rc<Stderr>>,
}

/// Standard error, and the bytes it has no room for yet.
struct Stderr {
    /// The descriptor to wait for.
    fd: BorrowedFd<'static>,
    /// True if standard output is the same terminal.
    is_shared: bool,
    /// True if the output on the same terminal has ended within a line.
    is_mid_line: Cell<bool>,
    state: RefCell<Pending>,
}

struct Pending {
    out: Inherited,
    bytes: Vec<u8>,
    /// Reports that were left out since that was last reported.
    omitted: u64,
}

impl Console {
    /// Standard error.
    pub fn stderr() -> Self {
        let state = Pending {
            out: Inherited::stderr(),
            bytes: Vec::new(),
            omitted: 0,
        };
        let stderr = Stderr {
            fd: rustix::stdio::stderr(),
            is_shared: is_one_terminal(),
            is_mid_line: Cell::new(false),
            state: RefCell::new(state),
        };
        Self {
            bar: None,
            stderr: Some(Rc::new(stderr)),
        }
    }

    /// Adds a bar at the bottom, if it is a terminal. `total` is the position at the end, if that is known.
    pub fn with_bar(self, total: Option<u64>) -> Self {
        let target = ProgressDrawTarget::stderr();
        let is_seen = !target.is_hidden();
        let bar = is_seen.then(|| ProgressBar::with_draw_target(total, target));
        Self { bar, ..self }
    }

    /// Removes the bar for good, because drawing it would wipe out what is typed or received on the same terminal.
    pub fn remove_bar(&self) {
        if let Some(bar) = self.bar.as_ref().filter(|bar| !bar.is_finished()) {
            bar.finish_and_clear();
        }
    }

    /// Notes how the output on a terminal has ended, so that the next report begins a line.
    pub fn note_output(&self, is_at_line_start: bool) {
        if let Some(stderr) = self.stderr.as_ref().filter(|stderr| stderr.is_shared) {
            stderr.is_mid_line.set(!is_at_line_start);
        }
    }

    /// Ends the line that the output has begun on the same terminal.
    pub fn begin_line(&self) {
        if let Some(stderr) = &self.stderr
            && stderr.is_mid_line.replace(false)
        {
            stderr.state.borrow_mut().bytes.push(b'\n');
        }
    }

    /// Returns the bar, if there is one.
    pub(super) fn bar(&self) -> Option<&ProgressBar> {
        self.bar.as_ref()
    }

    /// Writes whole reports, or leaves them out if too much waits for the reader.
    pub(super) fn report(&self, bytes: &[u8]) {
        let Some(stderr) = &self.stderr else { return };
        self.begin_line();
        // A failed write to standard error cannot be reported, and the traffic matters more.
        let _ = self.write_pending();
        let mut pending = stderr.state.borrow_mut();
        if pending.bytes.len() > BUFFER_SIZE {
            let lines = bytes.iter().filter(|byte| **byte == b'\n');
            pending.omitted += lines.count() as u64;
            return;
        }
        pending.bytes.extend_from_slice(bytes);
        drop(pending);
        let _ = self.write_pending();
    }

    /// Writes a part of a record.
    pub(super) fn record(&self, bytes: &[u8]) -> io::Result<usize> {
        self.begin_line();
        if let Some(stderr) = &self.stderr {
            stderr.state.borrow_mut().bytes.extend_from_slice(bytes);
        }
        self.write_pending()?;
        Ok(bytes.len())
    }

    /// Writes what there is room for.
    pub(super) fn write_pending(&self) -> io::Result<()> {
        let Some(stderr) = &self.stderr else {
            return Ok(());
        };
        let mut pending = stderr.state.borrow_mut();
        let Pending { out, bytes, .. } = &mut *pending;
        if bytes.is_empty() {
            return Ok(());
        }
        let mut write = || drain(bytes, |bytes| out.write(&[IoSlice::new(bytes)]));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Returns what waits for room, if something does.
    pub(super) fn backlog_of(&self, content: Content) -> Option<Backlog<'_>> {
        let stderr = self.stderr.as_ref()?;
        let len = stderr.state.borrow().bytes.len();
        let content = content.of_len(len);
        let fd = stderr.fd;
        (len > 0).then_some(Backlog { fd, content })
    }

    /// Takes the number of reports that were left out, once there is room to say so.
    pub(super) fn omitted(&self) -> u64 {
        let pending = self.stderr.as_ref().map(|stderr| stderr.state.borrow_mut());
        match pending {
            Some(mut pending) if pending.bytes.is_empty() => mem::take(&mut pending.omitted),
            _ => 0,
        }
    }
}

/// Writes the lines that others have put into it, once there is room.
impl Tap for Console {
    fn event(&mut self, _event: &Event<'_>, _time: SystemTime) {}

    fn wants_figures(&self) -> bool {
        false
    }

    fn flush(&mut self) -> Result<(), Failure> {
        // A failed write to standard error cannot be reported.
        let _ = self.write_pending();
        Ok(())
    }

    fn backlog(&self) -> Option<Backlog<'_>> {
        self.backlog_of(Content::Reports)
    }

    fn take_omitted(&mut self) -> u64 {
        self.omitted()
    }
}

/// Returns true if standard output and standard error are the same terminal.
fn is_one_terminal() -> bool {
    let (stdout, stderr) = (rustix::stdio::stdout(), rustix::stdio::stderr());
    let device = |fd| rustix::fs::fstat(fd).map(|status| status.st_rdev);
    stdout.is_terminal() && stderr.is_terminal() && device(stdout) == device(stderr)
}

impl Write for Console {
    /// Takes whole lines, which it writes, keeps or leaves out.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.report(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
