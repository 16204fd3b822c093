//! Descriptors of all kinds for a process, and test data.
//! The data is the same in every run, and no part of it repeats.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, mknodat};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::is_ready_within;

/// Returns `len` bytes of all values from a fixed sequence (xorshift).
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = vec![0; len];
    for piece in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        piece.copy_from_slice(&state.to_le_bytes()[..piece.len()]);
    }
    bytes
}

/// Creates an unnamed file with these bytes, open at its beginning.
pub(crate) fn with_text(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file.into()
}

/// Creates a FIFO in `directory`.
pub(crate) fn fifo(directory: &Path) -> PathBuf {
    let path = directory.join("fifo");
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
    path
}

/// Opens the reading end of a FIFO, without waiting for a writer.
pub(crate) fn read_side(path: &Path) -> File {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.unwrap();
    rustix::fs::fcntl_setfl(&file, OFlags::empty()).unwrap();
    file
}

/// Opens the writing end of a FIFO that has a reader.
pub(crate) fn write_side(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

/// Opens a pseudo-terminal: the user's end, and the end for the process.
pub(crate) fn terminal() -> (File, File) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let flags = OFlags::NOCTTY.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    let process = options.open(name.to_str().unwrap()).unwrap();
    (File::from(person), process)
}

/// Writes until all is written, or nothing more is taken for a while; returns the number of bytes written.
pub(crate) fn push(mut to: impl Write + AsFd, bytes: &[u8]) -> usize {
    let flags = fcntl_getfl(&to).unwrap();
    fcntl_setfl(&to, flags | OFlags::NONBLOCK).unwrap();
    let mut taken = 0;
    while taken < bytes.len() {
        match to.write(&bytes[taken..]) {
            Ok(count) => taken += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !is_ready_within(&to, PollFlags::OUT, Duration::from_millis(200)) {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    fcntl_setfl(&to, flags).unwrap();
    taken
}
