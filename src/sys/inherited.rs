//! Standard input and output, which belong to others as well: reading and writing without ever blocking on them.
//! `O_NONBLOCK` is a flag of the open file description that is shared with the shell, so it is never set on what was inherited.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{FileType, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::startup::was_closed;
use super::wait::{Interest, wait};

/// What an inherited descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A terminal.
    Terminal,
    /// A pipe or a FIFO.
    Pipe,
    /// A regular file (or a block device): always ready.
    Regular,
    /// `/dev/null`.
    Null,
    /// A socket.
    Socket,
    /// Another character device, or what else there may be.
    Other,
    /// It was closed when the program started.
    Closed,
}

/// How a call on the descriptor is kept from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// It never blocks for a peer (files), or is a description of our own with `O_NONBLOCK`.
    Plain,
    /// A socket: `MSG_DONTWAIT` with every call.
    Socket,
    /// `RWF_NOWAIT` with every call (readv2(2)).
    NoWait,
    /// Only in small pieces, each after the descriptor was reported ready: POLLOUT promises room for `PIPE_BUF` bytes (pipe(7)).
    Small,
}

/// The bytes that a descriptor which is ready takes for certain (`PIPE_BUF`, pipe(7)).
const CERTAIN_ROOM: usize = 4096;

/// Standard input or output.
pub struct Inherited {
    kind: Kind,
    access: Access,
    own: Option<OwnedFd>,
    fd: BorrowedFd<'static>,
}

/// Which way an inherited descriptor is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// For reading.
    Input,
    /// For writing.
    Output,
}

impl Inherited {
    /// Standard input.
    #[must_use]
    pub fn stdin() -> Self {
        Self::new(rustix::stdio::stdin(), Use::Input)
    }

    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::new(rustix::stdio::stdout(), Use::Output)
    }

    fn new(fd: BorrowedFd<'static>, way: Use) -> Self {
        let kind = kind_of(fd);
        let own = match kind {
            Kind::Pipe | Kind::Terminal => reopen(fd, way),
            _ => None,
        };
        let access = match kind {
            Kind::Socket => Access::Socket,
            Kind::Pipe if own.is_none() => Access::NoWait,
            Kind::Terminal if own.is_none() => Access::Small,
            _ => Access::Plain,
        };
        Self {
            kind,
            access,
            own,
            fd,
        }
    }

    /// The descriptor to read from or write to.
    fn channel(&self) -> BorrowedFd<'_> {
        self.own.as_ref().map_or(self.fd, AsFd::as_fd)
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Reads what is there, `Ok(0)` at the end; `WouldBlock` if there is nothing yet.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.access {
            Access::Socket => {
                let (count, _) =
                    rustix::net::recv(self.fd, buffer, rustix::net::RecvFlags::DONTWAIT)?;
                Ok(count)
            }
            Access::NoWait => {
                let mut slices = [io::IoSliceMut::new(buffer)];
                match rustix::io::preadv2(self.fd, &mut slices, CURRENT, ReadWriteFlags::NOWAIT) {
                    Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::SPIPE) => {
                        self.access = Access::Small;
                        self.read(buffer)
                    }
                    other => Ok(other?),
                }
            }
            Access::Plain | Access::Small => Ok(rustix::io::read(self.channel(), buffer)?),
        }
    }

    /// Writes as much as there is room for; `WouldBlock` if there is none.
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.access {
            Access::Socket => {
                let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
                let mut control = rustix::net::SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(self.fd, slices, &mut control, flags)?)
            }
            Access::NoWait => {
                match rustix::io::pwritev2(self.fd, slices, CURRENT, ReadWriteFlags::NOWAIT) {
                    Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::SPIPE) => {
                        self.access = Access::Small;
                        self.write(slices)
                    }
                    other => Ok(other?),
                }
            }
            Access::Plain => Ok(rustix::io::writev(self.channel(), slices)?),
            Access::Small => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                let first = first.map_or(&[][..], |slice| slice);
                let piece = &first[..first.len().min(CERTAIN_ROOM)];
                Ok(rustix::io::write(self.channel(), piece)?)
            }
        }
    }
}

/// The offset of preadv2(2) and pwritev2(2) that means "where the descriptor is": -1.
const CURRENT: u64 = u64::MAX;

impl AsFd for Inherited {
    /// The inherited descriptor, for waiting: a FIFO that is opened anew after its writer has gone never reports that it has
    /// (Linux, fifo(7)).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

/// A standard descriptor that is written to as any file is: where somebody else has made it non-blocking, whoever writes waits.
pub struct Waiting<W>(pub W);

impl<W: Write + AsFd> Waiting<W> {
    fn wait_and<T>(&mut self, act: impl Fn(&mut W) -> io::Result<T>) -> io::Result<T> {
        loop {
            match act(&mut self.0) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&[(self.0.as_fd(), Interest::WRITE)], None, None)?;
                }
                other => return other,
            }
        }
    }
}

impl<W: Write + AsFd> Write for Waiting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait_and(|out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wait_and(W::flush)
    }
}

fn kind_of(fd: BorrowedFd<'_>) -> Kind {
    let Ok(stat) = rustix::fs::fstat(fd) else {
        return Kind::Closed;
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => Kind::Pipe,
        FileType::RegularFile | FileType::BlockDevice => Kind::Regular,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice if rustix::termios::isatty(fd) => Kind::Terminal,
        FileType::CharacterDevice if was_closed(fd.as_raw_fd()) => Kind::Closed,
        FileType::CharacterDevice if is_null(stat.st_rdev) => Kind::Null,
        _ => Kind::Other,
    }
}

fn is_null(device: u64) -> bool {
    rustix::fs::stat("/dev/null").is_ok_and(|null| null.st_rdev == device)
}

/// Opens the same pipe or terminal once more: a description of our own, whose `O_NONBLOCK` nobody else sees (proc(5), /proc/self/fd).
fn reopen(fd: BorrowedFd<'_>, way: Use) -> Option<OwnedFd> {
    let mut options = OpenOptions::new();
    match way {
        Use::Input => options.read(true),
        Use::Output => options.write(true),
    };
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    options.custom_flags(flags.bits().cast_signed());
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    options.open(path).ok().map(OwnedFd::from)
}

/// Lets programs that are started from here have descriptors 0, 1 and 2, and no others that this process was given.
///
/// Those that this program opens itself are never passed on. Where the kernel cannot do this (before Linux 5.11), others are.
pub fn keep_descriptors() {
    let (first, last) = (3, libc::c_uint::MAX);
    // SAFETY: it only sets a flag of descriptors, which has no effect on what they are used for here.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            last,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
}

/// Takes over descriptor `number`, which whoever started the program has opened for us to write to; it is closed with the file.
/// To be called before the program opens descriptors of its own.
/// Standard input, output and error are only borrowed, by a duplicate.
pub fn take_for_writing(number: i32) -> io::Result<File> {
    if number < 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: only lent to a call that answers EBADF if it is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    if number <= 2 {
        return Ok(File::from(rustix::io::fcntl_dupfd_cloexec(fd, 3)?));
    }
    rustix::io::fcntl_getfd(fd)?;
    // SAFETY: it is open, and nobody else's: the caller asks before this program has opened anything.
    Ok(unsafe { File::from_raw_fd(number) })
}
