//! Telling a script that the socket is ready, and at which address.
//! The line appears whole or not at all, so that nobody has to sleep, poll or guess.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::ReportOptions;
use crate::exit::Failure;
use crate::sys::inherited::take_for_writing;
use crate::sys::systemd::notify_ready;
use crate::tuple::Identity;

/// Where a script wants to be told.
pub(super) struct Ready {
    file: Option<PathBuf>,
    descriptor: Option<(i32, File)>,
}

impl Ready {
    /// Takes over what the options name; before any other descriptor is opened, whose number could be the one that is named.
    pub(super) fn new(report: &ReportOptions) -> Result<Self, Failure> {
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
    pub(super) fn is_awaited(&self) -> bool {
        self.file.is_some() || self.descriptor.is_some()
    }

    /// Writes the line `TRANSPORT ADDRESS:PORT`, and closes the descriptor, so that its reader sees the end.
    pub(super) fn announce(&mut self, socket: Identity) -> Result<(), Failure> {
        let line = format!("{} {}\n", socket.transport(), socket.local());
        // A service manager that does not listen any more is no reason not to serve.
        let _ = notify_ready(line.trim_end());
        if let Some(path) = &self.file {
            write_whole(path, &line).map_err(|error| {
                Failure::io(
                    format!("cannot write the ready file '{}'", path.display()),
                    &error,
                )
            })?;
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
    fs::write(&draft, text)?;
    fs::rename(&draft, path).inspect_err(|_| {
        // The draft is of no use to anybody; the rename's error is what counts.
        let _ = fs::remove_file(&draft);
    })
}
