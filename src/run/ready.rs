//! Readiness: a line in a file or on a descriptor that names the bound socket, and READY=1 for the service manager.
//! The line appears whole or not at all, so that no script has to sleep, poll or guess.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::background::Background;
use super::session::Session;
use crate::cli::ReportOptions;
use crate::exit::{Exit, Failure};
use crate::flow::Identity;
use crate::sys::inherited::{is_passed, notify_ready, take_for_writing};
use crate::tap::Event;

/// Time after which a wait for the reader of a FIFO is reported.
const READER_NOTICE: Duration = Duration::from_secs(1);

/// Scripts to notify once the socket is ready.
pub(crate) struct Ready {
    file: Option<PathBuf>,
    descriptor: Option<(i32, File)>,
}

impl Ready {
    /// Takes over what the options name, before any other descriptor is opened: it could get the number that they name.
    pub(super) fn new(report: &ReportOptions) -> Result<Self, Failure> {
        let take = |number| {
            let act = format!("cannot use descriptor {number} (--ready-fd)");
            if is_passed(number) {
                let text = format!("{act}: it is a socket that systemd passes (LISTEN_FDS)");
                return Err(Failure::new(Exit::Usage, text));
            }
            let file = take_for_writing(number).map_err(|error| Failure::local(act, &error));
            Ok((number, file?))
        };
        Ok(Self {
            file: report.ready_file.clone(),
            descriptor: report.ready_fd.map(take).transpose()?,
        })
    }

    /// Returns true if a script waits for the socket.
    pub(crate) fn is_awaited(&self) -> bool {
        self.file.is_some() || self.descriptor.is_some()
    }
}

impl Session<'_> {
    /// Notifies scripts and the service manager that the socket is ready, with the line `TRANSPORT ADDRESS:PORT`.
    ///
    /// A descriptor is closed after the line, so that its reader sees the end. A FIFO takes the line once it has a reader.
    pub(crate) fn announce(&mut self, socket: &Identity) -> Result<()> {
        let line = format!("{} {}\n", socket.transport(), socket.local());
        // A service manager that does not listen is no reason not to serve.
        let _ = notify_ready(line.trim_end());
        if let Some(path) = self.ready.file.clone() {
            let act = format!("cannot write the ready file '{}'", path.display());
            let is_fifo = fs::metadata(&path).is_ok_and(|there| there.file_type().is_fifo());
            let written = if is_fifo {
                self.write_fifo(socket, path, line.clone())?
            } else {
                write_whole(&path, &line)
            };
            written.map_err(|error| failed(&act, &error))?;
        }
        if let Some((number, mut file)) = self.ready.descriptor.take() {
            let act = format!("cannot write to descriptor {number} (--ready-fd)");
            let written = file.write_all(line.as_bytes());
            written.map_err(|error| failed(&act, &error))?;
        }
        Ok(())
    }

    /// Writes to a FIFO in the background, within the limit on the run. A longer wait for its reader is reported.
    fn write_fifo(
        &mut self,
        socket: &Identity,
        path: PathBuf,
        line: String,
    ) -> Result<io::Result<()>, Failure> {
        let text = format!("for a reader of '{}' (--ready-file)", path.display());
        let background = Background::start(move || write_whole(&path, &line))?;
        let until = self.rules.deadline.map(|(until, _)| until);
        let notice = Instant::now() + READER_NOTICE;
        let notice = until.map_or(notice, |until| until.min(notice));
        let background = match background.wait(Some(notice), self.signals)? {
            Ok(written) => return Ok(written),
            Err(background) => background,
        };
        self.taps.emit(&Event::Waiting { socket, text });
        background.wait(until, self.signals)?.map_err(|_| {
            let limit = self
                .rules
                .deadline
                .map_or(Duration::ZERO, |(_, limit)| limit);
            let text = format!("timed out after {} s (--timeout)", limit.as_secs_f64());
            Failure::new(Exit::TimedOut, text)
        })
    }
}

/// Writes a file in one step: rename(2) is atomic, and no reader sees it empty or in part. A device, a FIFO or a link
/// (`/dev/stderr`) is written to instead, as only a file may be replaced.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        let mut file = OpenOptions::new().append(true).open(path)?;
        return file.write_all(text.as_bytes());
    }
    let (draft, mut file) = create_draft(path)?;
    let written = file.write_all(text.as_bytes());
    let written = written.and_then(|()| fs::rename(&draft, path));
    written.inspect_err(|_| {
        // The first error is what counts.
        let _ = fs::remove_file(&draft);
    })
}

/// Creates a new file beside `path`. In a directory that others can write to, a name that can be guessed may be theirs, and a link.
fn create_draft(path: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let random = RandomState::new().hash_one(std::process::id());
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{random:016x}"));
        let draft = path.with_file_name(name);
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true);
        match options.custom_flags(libc::O_NOFOLLOW).open(&draft) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => return Ok((draft, created?)),
        }
    }
}

/// Adds the act to an error. The status never is that of an error of the network.
fn failed(act: &str, error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
            Failure::new(Exit::Failed, format!("{act}: its reader has gone"))
        }
        _ => Failure::local(act, error),
    }
}
