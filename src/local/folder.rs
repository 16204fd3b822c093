//! A file of its own for what each client sends.
//! Names are made of addresses alone, and only new files are written: nothing that is there already can be harmed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode, OFlags};

use super::stdio::Stdio;
use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure, describe};
use crate::pump::end::{Arrival, End};
use crate::tap::Taps;
use crate::tuple::FourTuple;

/// How many names are tried for one client before giving up.
const TRIES: usize = 10_000;

/// Standard input, and a folder in the place of standard output.
pub struct Folder {
    input: Stdio,
    path: PathBuf,
    files: HashMap<FourTuple, File>,
}

impl Folder {
    /// Whether new files can be made in `path`; the error says why not.
    pub fn check(path: &Path) -> Result<(), Failure> {
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let checked = rustix::fs::open(path, folder, Mode::empty())
            .and_then(|_| rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK));
        let text =
            |error: io::Error| format!("--out-dir '{}': {}", path.display(), describe(&error));
        checked.map_err(|error| Failure::new(Exit::Failed, text(error.into())))
    }

    /// Files in `path`, which must be there.
    #[must_use]
    pub fn new(input: Stdio, path: PathBuf) -> Self {
        Self {
            input,
            path,
            files: HashMap::new(),
        }
    }

    fn write(&mut self, flow: FourTuple, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            self.files.remove(&flow);
            return Ok(());
        }
        let file = match self.files.entry(flow) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let file = create(&self.path, &name_of(flow));
                entry.insert(file.map_err(|error| broken(&self.path, flow, &error))?)
            }
        };
        let written = file.write_all(bytes);
        written.map_err(|error| broken(&self.path, flow, &error))
    }
}

/// A name for the bytes of a connection: letters, digits, dots, `_` and `-` only.
fn name_of(flow: FourTuple) -> String {
    let part = |address: std::net::SocketAddr| {
        let ip = address.ip().to_string().replace(':', "-");
        format!("{ip}_{}", address.port())
    };
    let (local, remote) = (part(flow.local), part(flow.remote));
    format!("{}_{local}_{remote}", flow.transport)
}

/// Makes a new file: `name`, or `name.1` and so on where that exists. A symbolic link counts as existing (open(2), `O_EXCL`).
fn create(folder: &Path, name: &str) -> io::Result<File> {
    for number in 0..TRIES {
        let suffix = if number == 0 {
            String::new()
        } else {
            format!(".{number}")
        };
        let path = folder.join(format!("{name}{suffix}"));
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn broken(folder: &Path, flow: FourTuple, error: &io::Error) -> io::Error {
    let act = format!("cannot write a file for {flow} in '{}'", folder.display());
    io::Error::other(Failure::new(
        Exit::Failed,
        format!("{act}: {}", describe(error)),
    ))
}

impl End for Folder {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        self.input.recv(batch, taps)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, _taps: &mut Taps) -> io::Result<()> {
        for run in batch.runs().get(at.run..).unwrap_or_default() {
            if let Some(flow) = run.flow {
                self.write(flow, batch.bytes(run))?;
            }
        }
        at.run = batch.runs().len();
        Ok(())
    }

    fn finish(&mut self, _taps: &mut Taps) -> io::Result<()> {
        Ok(())
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        self.input.source()
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::Transport;

    #[test]
    fn names_are_plain_and_taken_ones_are_left_alone() {
        let flow = FourTuple::new(
            Transport::Tcp,
            "[::1]:9000".parse().unwrap(),
            "[fe80::1%2]:5".parse().unwrap(),
        );
        assert_eq!(name_of(flow), "tcp_--1_9000_fe80--1_5");
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/nonexistent", folder.path().join("a")).unwrap();
        create(folder.path(), "a")
            .unwrap()
            .write_all(b"new")
            .unwrap();
        let kept = std::fs::read_to_string(folder.path().join("a.1")).unwrap();
        assert_eq!(kept, "new");
    }
}
