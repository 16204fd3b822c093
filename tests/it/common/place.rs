//! A directory with the path of a Unix socket, and launches that use it.
//! The directory is removed with the place, so that a test sees what a run leaves in it.

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;

use tempfile::TempDir;

use super::{BOUND, Launch, Running, tuplecat};

/// A directory with the path of a socket in it.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.directory.path().read_dir().unwrap().next().is_none()
    }

    /// Launches a mode with the path and more words.
    pub(crate) fn launch(&self, mode: &str, words: &str) -> Launch {
        tuplecat(mode).arg(self.path()).args(words)
    }

    /// Starts a listening mode, and waits until it is ready.
    pub(crate) fn start(&self, words: &str, with: impl FnOnce(Launch) -> Launch) -> Running {
        let running = with(self.launch("unix-listen", words)).start();
        running.ready_line();
        running
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream
    }

    /// Starts `unix-bind`, and waits until it is ready.
    pub(crate) fn bind(&self, words: &str, with: impl FnOnce(Launch) -> Launch) -> Running {
        let running = with(self.launch("unix-bind", words)).start();
        running.ready_line();
        running
    }

    /// Makes a datagram socket with a name of its own.
    pub(crate) fn peer(&self, name: &str) -> UnixDatagram {
        let socket = UnixDatagram::bind(self.directory.path().join(name)).unwrap();
        socket.set_read_timeout(Some(BOUND)).unwrap();
        socket
    }
}
