//! Whatever the process inherits: standard descriptors, passed sockets, the service manager's socket, the limit of descriptors.
//! Others share these, so `O_NONBLOCK`, a flag of the shared file description, is never set on what is inherited.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use rustix::fs::{FileType, OFlags};
use rustix::io::{Errno, ReadWriteFlags, fcntl_dupfd_cloexec, fcntl_getfd};
use rustix::net::sockopt::socket_type;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::Socket;

use super::wait::{Interest, Wakeup, wait};

/// One bit for each of the descriptors 0, 1 and 2 that was closed when the program started.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Function that the loader calls before the runtime opens /dev/null in the place of what is closed (elf(5), `.init_array`).
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_CLOSED: extern "C" fn() = note_closed;

extern "C" fn note_closed() {
    for fd in 0..=2 {
        // SAFETY: asks for a flag of a descriptor, which may be any number.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

/// Returns true if standard input (0), output (1) or error (2) was closed when the program started.
pub fn was_closed(fd: RawFd) -> bool {
    (0..=2).contains(&fd) && CLOSED.load(Ordering::Relaxed) & 1 << fd != 0
}

/// Kind of an inherited descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A terminal.
    Terminal,
    /// A pipe or a FIFO.
    Pipe,
    /// A regular file or a block device: always ready.
    Regular,
    /// `/dev/null`.
    Null,
    /// A socket.
    Socket,
    /// Another character device, or anything else.
    Other,
    /// It was closed when the program started.
    Closed,
}

impl Kind {
    fn of(fd: BorrowedFd<'_>) -> Self {
        let Ok(stat) = rustix::fs::fstat(fd) else {
            return Self::Closed;
        };
        let is_null =
            || rustix::fs::stat("/dev/null").is_ok_and(|null| null.st_rdev == stat.st_rdev);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo => Self::Pipe,
            FileType::RegularFile | FileType::BlockDevice => Self::Regular,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice if rustix::termios::isatty(fd) => Self::Terminal,
            FileType::CharacterDevice if was_closed(fd.as_raw_fd()) => Self::Closed,
            FileType::CharacterDevice if is_null() => Self::Null,
            _ => Self::Other,
        }
    }
}

/// Method that keeps a call from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// A plain call: a file never waits for a peer, and a description of our own has `O_NONBLOCK`.
    Plain,
    /// `MSG_DONTWAIT` with every call, for sockets.
    DontWait,
    /// The same for sockets that keep boundaries: a read never cuts a message.
    Messages,
    /// `RWF_NOWAIT` with every call (readv2(2)).
    NoWait,
    /// Small pieces, each after the descriptor was reported ready: POLLOUT promises room for `PIPE_BUF` bytes (pipe(7)).
    Pieces,
}

/// Bytes that a ready descriptor takes without blocking (`PIPE_BUF`, pipe(7)).
const PIECE_SIZE: usize = 4096;

/// Device of /dev/ptmx.
const PTMX: (u32, u32) = (5, 2);

/// Offset that means the position of the descriptor, for preadv2(2) and pwritev2(2): -1.
const CURRENT_POSITION: u64 = u64::MAX;

/// Standard input or output.
pub struct Inherited {
    kind: Kind,
    method: Method,
    /// The same pipe or terminal, opened once more.
    own: Option<OwnedFd>,
    /// /dev/null, which takes the place of a pipe that is closed. Later the sandbox may not let it be opened.
    null: Option<File>,
    /// Rest of a message that was longer than the buffer.
    held: Vec<u8>,
    fd: BorrowedFd<'static>,
}

impl Inherited {
    /// Standard input.
    pub fn stdin() -> Self {
        Self::new(rustix::stdio::stdin(), OpenOptions::new().read(true))
    }

    /// Standard output.
    pub fn stdout() -> Self {
        let mut output = Self::new(rustix::stdio::stdout(), OpenOptions::new().write(true));
        if output.kind == Kind::Pipe {
            output.null = OpenOptions::new().write(true).open("/dev/null").ok();
        }
        output
    }

    /// Standard error.
    pub fn stderr() -> Self {
        Self::new(rustix::stdio::stderr(), OpenOptions::new().write(true))
    }

    fn new(fd: BorrowedFd<'static>, options: &mut OpenOptions) -> Self {
        let kind = Kind::of(fd);
        let own = match kind {
            Kind::Terminal if is_pty_master(fd) => None,
            Kind::Pipe | Kind::Terminal => reopen(fd, options),
            _ => None,
        };
        let method = match kind {
            Kind::Socket if socket_type(fd) == Ok(SocketType::STREAM) => Method::DontWait,
            Kind::Socket => Method::Messages,
            Kind::Pipe if own.is_none() => Method::NoWait,
            Kind::Terminal if own.is_none() => Method::Pieces,
            _ => Method::Plain,
        };
        Self {
            kind,
            method,
            own,
            null: None,
            held: Vec::new(),
            fd,
        }
    }

    /// Ends what is written to it: closes a pipe, in whose place comes /dev/null, and shuts a socket down for writing.
    ///
    /// Nothing is done where another reader of the same file or terminal would miss it.
    pub fn close_output(self) -> io::Result<()> {
        match self.kind {
            Kind::Pipe => {
                if let Some(null) = &self.null {
                    rustix::stdio::dup2_stdout(null)?;
                }
            }
            Kind::Socket => {
                // The peer may have reset it, and then has seen the end.
                let _ = rustix::net::shutdown(self.fd, rustix::net::Shutdown::Write);
            }
            Kind::Terminal | Kind::Regular | Kind::Null | Kind::Other | Kind::Closed => {}
        }
        Ok(())
    }

    /// The descriptor to read from or write to.
    fn channel(&self) -> BorrowedFd<'_> {
        self.own.as_ref().map_or(self.fd, AsFd::as_fd)
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Reads the bytes that are there, `Ok(0)` at the end; `WouldBlock` if there are none yet.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.method {
            Method::DontWait => {
                let (count, _) = rustix::net::recv(self.fd, buffer, RecvFlags::DONTWAIT)?;
                Ok(count)
            }
            Method::Messages => self.read_message(buffer),
            Method::NoWait => {
                let slices = &mut [IoSliceMut::new(buffer)];
                let flags = ReadWriteFlags::NOWAIT;
                match rustix::io::preadv2(self.fd, slices, CURRENT_POSITION, flags) {
                    Err(error) if is_unsupported(error) => {
                        self.method = Method::Pieces;
                        self.read(buffer)
                    }
                    other => Ok(other?),
                }
            }
            Method::Pieces => {
                self.check_ready(Interest::READ)?;
                Ok(rustix::io::read(self.channel(), buffer)?)
            }
            Method::Plain => Ok(rustix::io::read(self.channel(), buffer)?),
        }
    }

    /// Reads from a message, the next one if nothing is held of another.
    fn read_message(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.held.is_empty() {
            let flags = RecvFlags::DONTWAIT;
            let measure = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
            let (_, len) = rustix::net::recv(self.fd, &mut [0; 1], measure)?;
            if len <= buffer.len() {
                return Ok(rustix::net::recv(self.fd, buffer, flags)?.0);
            }
            self.held.resize(len, 0);
            let (count, _) = rustix::net::recv(self.fd, &mut self.held[..], flags)?;
            self.held.truncate(count);
        }
        let len = buffer.len().min(self.held.len());
        buffer[..len].copy_from_slice(&self.held[..len]);
        self.held.drain(..len);
        Ok(len)
    }

    /// Returns true for a socket of messages: a read gives one of them.
    pub fn keeps_messages(&self) -> bool {
        self.method == Method::Messages
    }

    /// Returns true if a read gives something although the descriptor may not be ready.
    pub fn is_pending(&self) -> bool {
        !self.held.is_empty()
    }

    /// Errors: `WouldBlock` if the descriptor is not ready.
    fn check_ready(&self, interest: Interest) -> io::Result<()> {
        match wait(&[(self.fd, interest)], None, Some(Instant::now()))? {
            Wakeup::Ready(_) => Ok(()),
            _ => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes as much as there is room for; `WouldBlock` if there is none.
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.method {
            Method::DontWait | Method::Messages => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let mut control = SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(self.fd, slices, &mut control, flags)?)
            }
            Method::NoWait => {
                let flags = ReadWriteFlags::NOWAIT;
                match rustix::io::pwritev2(self.fd, slices, CURRENT_POSITION, flags) {
                    Err(error) if is_unsupported(error) => {
                        self.method = Method::Pieces;
                        self.write(slices)
                    }
                    other => Ok(other?),
                }
            }
            Method::Plain => Ok(rustix::io::writev(self.channel(), slices)?),
            Method::Pieces => {
                self.check_ready(Interest::WRITE)?;
                let first = slices.iter().find(|slice| !slice.is_empty());
                let first = first.map_or(&[][..], |slice| slice);
                let piece = &first[..first.len().min(PIECE_SIZE)];
                Ok(rustix::io::write(self.channel(), piece)?)
            }
        }
    }
}

/// Returns true if the descriptor or the kernel has no `RWF_NOWAIT`.
fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::NOSYS | Errno::SPIPE)
}

impl AsFd for Inherited {
    /// The inherited descriptor, for waiting: a FIFO that is opened after its writer has gone never reports a hang-up (Linux,
    /// fifo(7)).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

/// Returns true for the master of a pseudo-terminal, which opens as another pseudo-terminal (pts(4)).
fn is_pty_master(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        let device = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        device == PTMX
    })
}

/// Opens the same pipe or terminal once more: a description of our own, whose `O_NONBLOCK` is not shared (proc(5),
/// /proc/self/fd).
fn reopen(fd: BorrowedFd<'_>, options: &mut OpenOptions) -> Option<OwnedFd> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    options.custom_flags(flags.bits().cast_signed());
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    options.open(path).ok().map(OwnedFd::from)
}

/// Writer that waits for room, also where another process has made the descriptor non-blocking.
pub struct BlockingWriter<W>(pub W);

impl<W: Write + AsFd> BlockingWriter<W> {
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

impl<W: Write + AsFd> Write for BlockingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait_and(|out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wait_and(W::flush)
    }
}

/// Takes over descriptor `number`, which was opened for this program to write to; it is closed with the file.
///
/// Standard input, output and error are duplicated instead. The caller has not opened any descriptor yet.
pub fn take_for_writing(number: RawFd) -> io::Result<File> {
    if number < 0 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: only lent to a call that answers EBADF if it is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    if number <= 2 {
        return Ok(File::from(fcntl_dupfd_cloexec(fd, 3)?));
    }
    fcntl_getfd(fd)?;
    // SAFETY: it is open and has no other owner: the caller has not opened anything yet.
    Ok(unsafe { File::from_raw_fd(number) })
}

/// Returns true for a descriptor that the service manager has passed to this process (`sd_listen_fds(3)`).
pub fn is_passed(number: RawFd) -> bool {
    let variable = |name| env::var(name).ok()?.parse::<u32>().ok();
    let is_ours = variable("LISTEN_PID") == Some(std::process::id());
    let index = u32::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(3));
    is_ours && index.is_some_and(|index| variable("LISTEN_FDS").is_some_and(|count| index < count))
}

/// Takes over the sockets that systemd(1) has passed, or those of that name (`FileDescriptorName=`, systemd.socket(5)).
///
/// To be called once (`sd_listen_fds(3)`).
pub fn passed_sockets(name: Option<&str>) -> io::Result<Vec<Socket>> {
    let passed = sd_notify::listen_fds_with_names()?;
    let wanted = passed.filter(|(_, given)| name.is_none_or(|name| name == given));
    // SAFETY: the library has just set a flag of it, so it is open; it is meant for this process, which takes it only once.
    let take = |(fd, _)| unsafe { Socket::from_raw_fd(fd) };
    Ok(wanted.map(take).collect())
}

/// Reports to the service manager, if there is one, that this process is ready (`sd_notify(3)`).
pub fn notify_ready(status: &str) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let manager = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    let text = format!("READY=1\nSTATUS={status}\n");
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read is no reason to wait.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &manager)?;
    Ok(())
}

/// Hides all descriptors but 0, 1 and 2 from programs that this process starts.
///
/// Descriptors that this program opens are never passed on. Before Linux 5.11, others that it inherits are.
pub fn hide_descriptors() {
    let (first, last, flags) = (3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: it only sets a flag of descriptors, which has no effect on what they are used for here.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

/// Raises the soft limit of open descriptors to the hard one if it is less than `wanted` (getrlimit(2)); returns the limit.
///
/// Programs that this process starts inherit the limit, and some of them go through all descriptors below it.
pub fn allow_descriptors(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let is_short = current.is_some_and(|limit| limit < wanted);
    let limit = if is_short && setrlimit(Resource::Nofile, raised).is_ok() {
        maximum
    } else {
        current
    };
    limit.unwrap_or(u64::MAX)
}
