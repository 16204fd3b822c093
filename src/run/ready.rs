//! Telling a script that the socket is ready, and at which address.
//! The line appears whole or not at all, so that nobody has to sleep, poll or guess.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::background::Background;
use crate::cli::ReportOptions;
use crate::exit::{Exit, Failure};
use crate::flow::Identity;
use crate::sys::inherited::notify_ready;
use crate::sys::inherited::take_for_writing;
use crate::sys::signals::Signals;

/// How long a reader is waited for in silence.
const SILENCE: Duration = Duration::from_secs(1);

/// Where a script wants to be told.
pub(crate) struct Ready {
    file: Option<PathBuf>,
    descriptor: Option<(i32, File)>,
}

impl Ready {
    /// Takes over what the options name; before any other descriptor is opened, whose number could be the one that is named.
    pub(crate) fn new(report: &ReportOptions) -> Result<Self, Failure> {
        let take = |number| match take_for_writing(number) {
            Ok(file) => Ok((number, file)),
            Err(error) => Err(Failure::io(
                format!("cannot use descriptor {number} (--ready-fd)"),
                &error,
            )),
        };
        let descriptor = report.ready_fd.map(take).transpose()?;
        Ok(Self {
            file: report.ready_file.clone(),
            descriptor,
        })
    }

    /// Whether anybody wants to be told.
    pub(crate) fn is_awaited(&self) -> bool {
        self.file.is_some() || self.descriptor.is_some()
    }

    /// Writes the line `TRANSPORT ADDRESS:PORT`, and closes the descriptor, so that its reader sees the end.
    /// A FIFO is read when its reader comes: that is waited for, which is told by `tell` after a second.
    pub(crate) fn announce(
        &mut self,
        socket: &Identity,
        deadline: Option<(Instant, Duration)>,
        signals: &Signals,
        tell: impl FnOnce(String),
    ) -> Result<(), Failure> {
        let line = format!("{} {}\n", socket.transport(), socket.local());
        // A service manager that does not listen any more is no reason not to serve.
        let _ = notify_ready(line.trim_end());
        if let Some(path) = self.file.clone() {
            let act = format!("cannot write the ready file '{}'", path.display());
            let reader = format!("for a reader of '{}' (--ready-file)", path.display());
            let is_fifo = fs::metadata(&path).is_ok_and(|there| there.file_type().is_fifo());
            let failed = |error| Failure::io(&act, &error);
            let written = line.clone();
            let write = move || write_whole(&path, &written);
            if is_fifo {
                let background = Background::start(write)?;
                wait(background, deadline, signals, || tell(reader))?.map_err(failed)?;
            } else {
                write().map_err(failed)?;
            }
        }
        if let Some((number, mut file)) = self.descriptor.take() {
            file.write_all(line.as_bytes()).map_err(|error| {
                Failure::io(
                    format!("cannot write to descriptor {number} (--ready-fd)"),
                    &error,
                )
            })?;
        }
        Ok(())
    }
}

/// Waits for somebody to read, within the limit on the run.
fn wait<T: Send + 'static>(
    background: Background<T>,
    deadline: Option<(Instant, Duration)>,
    signals: &Signals,
    tell: impl FnOnce(),
) -> Result<T, Failure> {
    let until = deadline.map(|(until, _)| until);
    let silent = Instant::now() + SILENCE;
    let silent = until.map_or(silent, |until| until.min(silent));
    let background = match background.wait(Some(silent), signals)? {
        Ok(result) => return Ok(result),
        Err(background) => background,
    };
    tell();
    background.wait(until, signals)?.map_err(|_| {
        let limit = deadline.map_or(Duration::ZERO, |(_, limit)| limit);
        let text = format!("timed out after {} s (--timeout)", limit.as_secs_f64());
        Failure::new(Exit::TimedOut, text)
    })
}

/// Writes a file that nobody ever sees empty or in part: rename(2) is atomic. Only a file gives way to another one: what is a device,
/// a FIFO or a link (`/dev/stderr`) is written to.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        return OpenOptions::new()
            .append(true)
            .open(path)?
            .write_all(text.as_bytes());
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(name);
    let written = fs::write(&draft, text).and_then(|()| fs::rename(&draft, path));
    written.inspect_err(|_| {
        // The draft is of no use to anybody; the first error is what counts.
        let _ = fs::remove_file(&draft);
    })
}
