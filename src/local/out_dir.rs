//! A file of its own for what each client sends.
//! Names are made of addresses alone, and only new files are written, in the folder that was there at the start: nothing that is
//! there already can be harmed, and whatever becomes of the folder's name, no file goes elsewhere.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Access, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::stdio::Stdio;
use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure, describe};
use crate::flow::{Address, Flow, Identity};
use crate::pump::end::{Arrival, End, Finish, Next, Readiness, Wait};
use crate::tap::Taps;

/// How many names are tried for one client before giving up.
const TRIES: usize = 10_000;

/// Standard input, and a file for each client in the place of standard output.
pub struct OutDir {
    input: Stdio,
    folder: OpenDir,
    open: HashMap<Flow, File>,
}

/// A folder that is open, whatever its name may lead to later.
#[derive(Clone)]
pub struct OpenDir {
    /// As the user wrote it, for messages.
    path: PathBuf,
    /// Opened at the start (`O_PATH`, open(2)).
    pub descriptor: Rc<OwnedFd>,
}

impl OpenDir {
    /// The folder `path`, in which new files can be made; the error says why not.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty()).and_then(|folder| {
            let access = Access::WRITE_OK | Access::EXEC_OK;
            rustix::fs::accessat(&folder, ".", access, AtFlags::empty()).map(|()| folder)
        });
        let text =
            |error: io::Error| format!("--out-dir '{}': {}", path.display(), describe(&error));
        let folder = opened.map_err(|error| Failure::new(Exit::Failed, text(error.into())))?;
        Ok(Self {
            path: path.to_owned(),
            descriptor: Rc::new(folder),
        })
    }

    fn broken(&self, flow: &Flow, error: &io::Error) -> io::Error {
        let act = format!(
            "cannot write a file for {flow} in '{}'",
            self.path.display()
        );
        Failure::new(Exit::Failed, format!("{act}: {}", describe(error))).into()
    }
}

impl OutDir {
    /// What each client sends goes to a new file in `folder`.
    #[must_use]
    pub fn new(input: Stdio, folder: OpenDir) -> Self {
        Self {
            input,
            folder,
            open: HashMap::new(),
        }
    }

    fn write(&mut self, flow: &Flow, bytes: &[u8]) -> io::Result<()> {
        let file = match self.open.entry(flow.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let file = create(&self.folder.descriptor, &name_of(flow));
                entry.insert(file.map_err(|error| self.folder.broken(flow, &error))?)
            }
        };
        let written = file.write_all(bytes);
        written.map_err(|error| self.folder.broken(flow, &error))
    }
}

/// A name for the bytes of a connection: letters, digits, dots, `_` and `-` only.
fn name_of(flow: &Flow) -> String {
    let part = |address: &Address| match address.inet() {
        Some(inet) => {
            let ip = inet.ip().to_string().replace(':', "-");
            format!("{ip}_{}", inet.port())
        }
        None => hex::encode(address.to_string()),
    };
    let (local, remote) = (part(&flow.local), part(&flow.remote));
    format!("{}_{local}_{remote}", flow.transport)
}

/// Makes a new file: `name`, or `name.1` and so on where that exists. A symbolic link counts as existing (open(2), `O_EXCL`).
fn create(folder: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for number in 0..TRIES {
        let suffix = if number == 0 {
            String::new()
        } else {
            format!(".{number}")
        };
        let mode = Mode::from_raw_mode(0o666);
        match rustix::fs::openat(&folder, format!("{name}{suffix}"), flags, mode) {
            Err(Errno::EXIST) => {}
            file => return Ok(File::from(file?)),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

impl End for OutDir {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        self.input.recv(batch, taps)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, _taps: &mut Taps) -> io::Result<Next> {
        for run in batch.runs().get(at.run..).unwrap_or_default() {
            if let Some(flow) = &run.flow {
                self.write(flow, batch.bytes(run))?;
            }
        }
        at.run = batch.runs().len();
        Ok(Next::Continue)
    }

    fn finish(&mut self, what: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        if let Finish::Stream(Identity::Pair(flow)) = what {
            self.open.remove(flow);
        }
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        Readiness {
            send: Wait::Now,
            watch: false,
            ..self.input.readiness()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Transport;

    #[test]
    fn names_are_plain_and_taken_ones_are_left_alone() {
        let flow = Flow::new(
            Transport::Tcp,
            "[::1]:9000".parse().unwrap(),
            "[fe80::1%2]:5".parse().unwrap(),
        );
        assert_eq!(name_of(&flow), "tcp_--1_9000_fe80--1_5");
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/nonexistent", folder.path().join("a")).unwrap();
        let opened = OpenDir::open(folder.path()).unwrap();
        let mut file = create(&opened.descriptor, "a").unwrap();
        file.write_all(b"new").unwrap();
        let kept = std::fs::read_to_string(folder.path().join("a.1")).unwrap();
        assert_eq!(kept, "new");
    }
}
