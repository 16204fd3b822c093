//! Files for the data of each client (`--out-dir`).
//! Names consist of addresses, and only new files are written, in the directory that was opened at the start. So no existing file can
//! be harmed, and no file goes elsewhere if the directory is renamed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Access, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure, describe};
use crate::flow::{Address, Flow};

/// Most names that are tried once a free one was found: others may take it at the same time.
const MAX_ATTEMPTS: u64 = 1000;

/// An open directory.
#[derive(Clone)]
pub struct OpenDir {
    /// Name from the command line, for messages.
    path: PathBuf,
    /// Descriptor from the start of the run (`O_PATH`, open(2)).
    pub descriptor: Rc<OwnedFd>,
}

impl OpenDir {
    /// Opens the directory `path`.
    ///
    /// Errors: no file can be created in it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty()).and_then(|dir| {
            let access = Access::WRITE_OK | Access::EXEC_OK;
            rustix::fs::accessat(&dir, ".", access, AtFlags::empty()).map(|()| dir)
        });
        let act = format!("--out-dir '{}'", path.display());
        let dir = opened.map_err(|error| Failure::io(act, &error.into()))?;
        Ok(Self {
            path: path.to_owned(),
            descriptor: Rc::new(dir),
        })
    }
}

/// Destination with a file for each client.
pub(super) struct OutDir {
    dir: OpenDir,
    files: HashMap<Flow, File>,
}

impl OutDir {
    pub(super) fn new(dir: OpenDir) -> Self {
        let files = HashMap::new();
        Self { dir, files }
    }

    /// Implements [`crate::pump::end::End::send`].
    pub(super) fn send(&mut self, batch: &Batch, at: &mut Cursor) -> io::Result<()> {
        while let Some((run, bytes)) = batch.next_chunk(at) {
            if let Some(flow) = &run.flow {
                self.write(flow, bytes).map_err(|error| {
                    let (path, reason) = (self.dir.path.display(), describe(&error));
                    let text = format!("cannot write a file for {flow} in '{path}': {reason}");
                    Failure::new(Exit::Failed, text)
                })?;
            }
        }
        Ok(())
    }

    fn write(&mut self, flow: &Flow, bytes: &[u8]) -> io::Result<()> {
        let file = match self.files.entry(flow.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(create(&self.dir.descriptor, &name_of(flow))?),
        };
        file.write_all(bytes)
    }

    /// Closes the file of a client.
    pub(super) fn close(&mut self, flow: &Flow) {
        self.files.remove(flow);
    }
}

/// Returns a file name for a connection: letters, digits, dots, `_` and `-` only.
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

/// Creates a new file: `name`, or `name.1` and so on if that exists. A symbolic link counts as existing (`O_EXCL`, open(2)).
fn create(dir: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    let mut file = rustix::fs::openat(&dir, name, flags, mode);
    let mut numbers = None;
    while let Err(Errno::EXIST) = file {
        let numbers = numbers.get_or_insert_with(|| {
            let first = first_free(&dir, name);
            first..first.saturating_add(MAX_ATTEMPTS)
        });
        let Some(number) = numbers.next() else {
            break;
        };
        file = rustix::fs::openat(&dir, format!("{name}.{number}"), flags, mode);
    }
    Ok(File::from(file?))
}

/// Returns the first number that no file `name.NUMBER` has, in a few steps however many there are. If numbers are missing among
/// them, it may be one of those.
fn first_free(dir: impl AsFd, name: &str) -> u64 {
    let exists = |number: u64| {
        let name = format!("{name}.{number}");
        rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    };
    let (mut taken, mut free) = (0, 1);
    while exists(free) {
        (taken, free) = (free, free.saturating_mul(2));
    }
    while free - taken > 1 {
        let middle = u64::midpoint(taken, free);
        if exists(middle) {
            taken = middle;
        } else {
            free = middle;
        }
    }
    free
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
