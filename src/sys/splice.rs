//! Moving bytes from one descriptor to another inside the kernel: splice(2) and sendfile(2).
//! Always an attempt: where the kernel declines, nothing is lost and the caller copies instead.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

/// Bytes asked for in one call, and the size asked for each pipe.
const SPLICE_SIZE: usize = 1 << 20;

/// Pipes that exist at once. An unprivileged user may have 64 of this size (`pipe-user-pages-soft`, pipe(7)).
const MOST_PIPES: usize = 32;

/// Unused pipes that are kept.
const SPARE_PIPES: usize = 16;

/// Bytes moved by one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes taken from the source.
    pub taken: usize,
    /// Bytes put into the sink.
    pub put: usize,
    /// Reason why it stopped there.
    pub blocked: Option<Blocked>,
}

/// Reason why nothing more moves for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The source is at its end, and everything taken is put.
    End,
    /// The source has nothing for now, and everything taken is put.
    SourceEmpty,
    /// The sink has no room for now.
    SinkFull,
    /// One of the two; the kernel does not say which.
    Either,
    /// The kernel does not do this here.
    Declined,
    /// No pipe is free: as many exist as may.
    NoPipe,
    /// The sink has failed, with an error that a socket reports only once.
    Broken(Errno),
}

/// Error of a transfer, by the side it belongs to.
#[derive(Debug)]
pub enum Broken {
    /// Reading failed.
    Source(io::Error),
    /// The kernel does not say which side; copying will.
    Either(io::Error),
}

/// Path through the kernel between two descriptors, neither of which blocks.
pub enum Splice {
    /// One of the two is a pipe.
    Pipe {
        /// It is the sink.
        to_pipe: bool,
    },
    /// From a regular file to a socket.
    SendFile,
    /// Neither is a pipe: through one of our own, while there is something to move.
    Through(Option<Pipe>),
}

/// Pipe of our own.
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Bytes in it.
    held: usize,
    /// Held once by each pipe, to count them.
    _count: Rc<()>,
}

/// Pipes of our own: those that are not in use, and the number of all.
#[derive(Default)]
pub struct Pipes {
    spare: Vec<Pipe>,
    /// Held once here, and once by each pipe.
    count: Rc<()>,
}

impl Pipes {
    /// Returns an empty pipe, unless as many exist as may.
    fn take(&mut self) -> Option<Pipe> {
        self.spare.pop().or_else(|| {
            let has_room = Rc::strong_count(&self.count) <= MOST_PIPES;
            let pipe = has_room.then(|| Pipe::open(Rc::clone(&self.count)));
            // The limit for all pipes of one user may be reached.
            pipe?.ok()
        })
    }

    /// Keeps an empty pipe.
    fn keep(&mut self, pipe: Pipe) {
        if self.spare.len() < SPARE_PIPES {
            self.spare.push(pipe);
        }
    }
}

impl Pipe {
    fn open(count: Rc<()>) -> rustix::io::Result<Self> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (reader, writer) = rustix::pipe::pipe_with(flags)?;
        enlarge(writer.as_fd());
        Ok(Self {
            reader,
            writer,
            held: 0,
            _count: count,
        })
    }

    /// Fills it from `source` if it is empty, then empties it into `sink`.
    fn pass(
        &mut self,
        source: BorrowedFd<'_>,
        sink: BorrowedFd<'_>,
        limit: usize,
    ) -> Result<Moved, Broken> {
        let mut total = Moved::default();
        if self.held == 0 {
            let taken = splice(source, self.writer.as_fd(), limit);
            total = moved(taken, Blocked::SourceEmpty).map_err(Broken::Source)?;
            total = unless_urgent(total, source);
            self.held = total.taken;
            total.put = 0;
        }
        while self.held > 0 {
            let put = splice(self.reader.as_fd(), sink, self.held);
            // Copying the rest meets the error again, or its consequence; what has moved is counted here.
            let put = moved(put, Blocked::SinkFull).unwrap_or_else(|error| Moved {
                blocked: Errno::from_io_error(&error).map(Blocked::Broken),
                ..DECLINED
            });
            self.held -= put.put;
            total.put += put.put;
            if put.blocked.is_some() {
                total.blocked = put.blocked;
                break;
            }
        }
        Ok(total)
    }
}

impl Splice {
    /// Chooses the path from `source` to `sink`, if there is one for their kinds.
    pub fn open(source: BorrowedFd<'_>, sink: BorrowedFd<'_>) -> Option<Self> {
        let from = rustix::fs::fstat(source).ok()?;
        let to = rustix::fs::fstat(sink).ok()?;
        let kinds = (
            FileType::from_raw_mode(from.st_mode),
            FileType::from_raw_mode(to.st_mode),
        );
        Some(match kinds {
            (FileType::Fifo, FileType::Socket) => {
                enlarge(source);
                Self::Pipe { to_pipe: false }
            }
            (FileType::Socket, FileType::Fifo) => {
                enlarge(sink);
                Self::Pipe { to_pipe: true }
            }
            // Files below /proc and /sys have size 0 and content: sendfile sees none of it.
            (FileType::RegularFile, FileType::Socket) if from.st_size > 0 => Self::SendFile,
            (
                FileType::Socket,
                FileType::RegularFile | FileType::CharacterDevice | FileType::Socket,
            ) => Self::Through(None),
            _ => return None,
        })
    }

    /// Moves up to `limit` bytes, through one of `pipes` where a pipe is needed. It keeps that only while there is something in it.
    ///
    /// Errors: that of the source or the sink; nothing moved in that call.
    pub fn pass(
        &mut self,
        source: BorrowedFd<'_>,
        sink: BorrowedFd<'_>,
        limit: usize,
        pipes: &mut Pipes,
    ) -> Result<Moved, Broken> {
        let limit = limit.min(SPLICE_SIZE);
        match self {
            Self::Pipe { to_pipe } => {
                let moved = moved(splice(source, sink, limit), Blocked::Either);
                let moved = moved.map_err(Broken::Either)?;
                Ok(if *to_pipe {
                    unless_urgent(moved, source)
                } else {
                    moved
                })
            }
            Self::SendFile => {
                let sent = rustix::fs::sendfile(sink, source, None, limit);
                moved(sent, Blocked::SinkFull).map_err(Broken::Either)
            }
            Self::Through(held) => {
                let Some(mut pipe) = held.take().or_else(|| pipes.take()) else {
                    return Ok(Moved {
                        blocked: Some(Blocked::NoPipe),
                        ..DECLINED
                    });
                };
                let moved = pipe.pass(source, sink, limit);
                if pipe.held > 0 {
                    *held = Some(pipe);
                } else {
                    pipes.keep(pipe);
                }
                moved
            }
        }
    }

    /// Returns the number of bytes that were read from the source and not written to the sink.
    pub fn held(&self) -> usize {
        match self {
            Self::Through(Some(pipe)) => pipe.held,
            _ => 0,
        }
    }

    /// Moves the bytes that are [held](Self::held) to the front of `space`, and returns their number.
    pub fn reclaim(&mut self, space: &mut [u8]) -> usize {
        let Self::Through(Some(pipe)) = self else {
            return 0;
        };
        let space = &mut space[..pipe.held];
        let mut filled = 0;
        while filled < space.len() {
            match rustix::io::read(&pipe.reader, &mut space[filled..]) {
                Ok(count) if count > 0 => filled += count,
                Err(Errno::INTR) => {}
                // Our own pipe holds what was put in: it cannot be empty or fail.
                _ => break,
            }
        }
        pipe.held = 0;
        filled
    }
}

unsafe extern "C" {
    /// Returns 1 if the next byte is urgent, 0 if not, -1 where that cannot be known (sockatmark(3)). The libc crate does not have it.
    safe fn sockatmark(socket: libc::c_int) -> libc::c_int;
}

/// Reports that the kernel has declined where an urgent byte has stopped it: splice(2) does not take one.
fn unless_urgent(mut moved: Moved, source: BorrowedFd<'_>) -> Moved {
    let has_stopped = matches!(moved.blocked, Some(Blocked::Either | Blocked::SourceEmpty));
    if has_stopped && sockatmark(source.as_raw_fd()) == 1 {
        moved.blocked = Some(Blocked::Declined);
    }
    moved
}

fn enlarge(pipe: BorrowedFd<'_>) {
    // The limit for all pipes of one user may be reached; the pipe then stays as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, SPLICE_SIZE);
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, limit: usize) -> rustix::io::Result<usize> {
    // Never SPLICE_F_MORE: it holds small messages back for 200 ms.
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    rustix::pipe::splice(from, None, to, None, limit, flags)
}

/// Nothing moves on this path.
const DECLINED: Moved = Moved {
    taken: 0,
    put: 0,
    blocked: Some(Blocked::Declined),
};

/// Interprets the result of a call; `again`: the meaning of `EAGAIN`.
fn moved(result: rustix::io::Result<usize>, again: Blocked) -> io::Result<Moved> {
    let (count, blocked) = match result {
        Ok(0) => (0, Some(Blocked::End)),
        Ok(count) => (count, None),
        Err(Errno::AGAIN) => (0, Some(again)),
        Err(Errno::INTR) => (0, None),
        // A sandbox may forbid the call, and nothing else. The last three are about memory, which copying may not need, or about a
        // disk on either side, and copying tells which.
        Err(
            Errno::INVAL
            | Errno::NOSYS
            | Errno::PERM
            | Errno::ACCESS
            | Errno::OPNOTSUPP
            | Errno::SPIPE
            | Errno::NOMEM
            | Errno::NOBUFS
            | Errno::IO,
        ) => (0, Some(Blocked::Declined)),
        Err(error) => return Err(error.into()),
    };
    Ok(Moved {
        taken: count,
        put: count,
        blocked,
    })
}
