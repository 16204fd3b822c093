//! The kinds of descriptors a process may be given, and bytes to send through them.
//! The bytes are the same in every run, and no two places in them look alike.

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

/// So many bytes, of all values, never in the same order (xorshift).
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

/// A file without a name that holds these bytes, open at its beginning.
pub(crate) fn with_text(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file.into()
}

/// A FIFO in `directory`.
pub(crate) fn fifo(directory: &Path) -> PathBuf {
    let path = directory.join("fifo");
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
    path
}

/// The reading end of a FIFO; it does not wait for a writer.
pub(crate) fn read_side(path: &Path) -> File {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.unwrap();
    rustix::fs::fcntl_setfl(&file, OFlags::empty()).unwrap();
    file
}

/// The writing end of a FIFO that has a reader.
pub(crate) fn write_side(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

/// A pseudo-terminal: what a person holds, and what the process gets.
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

/// Writes until the other side takes nothing more for a while, or all is written; returns how much it took.
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
