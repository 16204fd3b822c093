//! Moving bytes from one descriptor to another inside the kernel: splice(2) and sendfile(2).
//! Always an attempt: where the kernel declines, nothing is lost and the caller copies instead.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::pieces::Pieces;
use crate::batch::Batch;

/// Bytes asked for in one call, and the size asked for each pipe on the way.
const STRETCH: usize = 1 << 20;

/// From so many bytes on, moving pages from a pipe costs less than copying them: two pages.
pub const WORTHWHILE: usize = 8 << 10;

/// What a call has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes taken from the source.
    pub taken: usize,
    /// Bytes put into the sink.
    pub put: usize,
    /// Why it stopped there.
    pub halt: Option<Halt>,
}

/// Why nothing more moves for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The source is at its end, and everything taken is put.
    End,
    /// The source has nothing for now.
    SourceEmpty,
    /// The sink has no room for now.
    SinkFull,
    /// One of the two; the kernel does not say which.
    Either,
    /// The kernel does not do this here.
    Declined,
}

/// A way through the kernel between two descriptors, both of which never block.
pub struct Conduit {
    way: Way,
}

enum Way {
    /// From a pipe: each page goes on as it is, and has to be held until the peer has it.
    FromPipe,
    /// To a pipe.
    ToPipe,
    /// From a regular file.
    SendFile,
    /// From a regular file, a piece at a time, which the kernel cuts into datagrams (`UDP_SEGMENT`, udp(7)).
    SendPieces(Pieces),
    /// Neither is a pipe: through one of our own, which holds this many bytes.
    Through {
        reader: OwnedFd,
        writer: OwnedFd,
        held: usize,
    },
}

impl Conduit {
    /// Chooses the way from `source` to `sink`, if there is one for their kinds. With a `stride`, a datagram for each so many bytes of a
    /// regular file.
    #[must_use]
    pub fn open(
        source: BorrowedFd<'_>,
        sink: BorrowedFd<'_>,
        stride: Option<usize>,
    ) -> Option<Self> {
        let (from, to) = (
            rustix::fs::fstat(source).ok()?,
            rustix::fs::fstat(sink).ok()?,
        );
        let from_type = FileType::from_raw_mode(from.st_mode);
        let way = match (from_type, FileType::from_raw_mode(to.st_mode)) {
            (FileType::Fifo, FileType::Socket) => {
                enlarge(source);
                Way::FromPipe
            }
            (FileType::Socket, FileType::Fifo) => {
                enlarge(sink);
                Way::ToPipe
            }
            // Files below /proc and /sys have size 0 and content: sendfile sees none of it.
            (FileType::RegularFile, FileType::Socket) if from.st_size > 0 => match stride {
                None => Way::SendFile,
                Some(stride) => Way::SendPieces(Pieces::of(stride)?),
            },
            (FileType::Socket, FileType::RegularFile | FileType::CharacterDevice) => {
                let (reader, writer) =
                    rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
                enlarge(writer.as_fd());
                Way::Through {
                    reader,
                    writer,
                    held: 0,
                }
            }
            _ => return None,
        };
        Some(Self { way })
    }

    /// Whether less than [`WORTHWHILE`] should go this way as well, although it could be copied.
    #[must_use]
    pub fn is_for_little(&self) -> bool {
        !matches!(self.way, Way::FromPipe)
    }

    /// Whether somebody waits at the other end of it.
    #[must_use]
    pub fn wakes_a_reader(&self) -> bool {
        matches!(self.way, Way::ToPipe)
    }

    /// Moves up to `limit` bytes. An error is one of the source or the sink, and nothing moved in that call.
    pub fn pass(
        &mut self,
        source: BorrowedFd<'_>,
        sink: BorrowedFd<'_>,
        limit: usize,
    ) -> Result<Passed, Broken> {
        let limit = limit.min(STRETCH);
        match &mut self.way {
            Way::FromPipe => {
                Ok(moved(splice(source, sink, limit), Halt::Either).map_err(Broken::Either)?)
            }
            Way::ToPipe => {
                let passed = moved(splice(source, sink, limit), Halt::Either);
                Ok(unless_urgent(passed.map_err(Broken::Either)?, source))
            }
            Way::SendFile => {
                let sent = rustix::fs::sendfile(sink, source, None, limit);
                Ok(moved(sent, Halt::SinkFull).map_err(Broken::Either)?)
            }
            Way::SendPieces(pieces) => Ok(pieces.pass(source, sink, limit)),
            Way::Through {
                reader,
                writer,
                held,
            } => {
                let mut passed = Passed::default();
                if *held == 0 {
                    let taken = splice(source, writer.as_fd(), limit);
                    passed = moved(taken, Halt::SourceEmpty).map_err(Broken::Source)?;
                    passed = unless_urgent(passed, source);
                    *held = passed.taken;
                    passed.put = 0;
                }
                while *held > 0 {
                    let put = splice(reader.as_fd(), sink, *held);
                    // Whatever went wrong, copying the rest tells of it, and what has moved is counted.
                    let put = moved(put, Halt::SinkFull).unwrap_or(DECLINED);
                    *held -= put.put;
                    passed.put += put.put;
                    if put.halt.is_some() {
                        passed.halt = put.halt;
                        break;
                    }
                }
                Ok(passed)
            }
        }
    }

    /// Takes back all that was taken and not put, as bytes in front of `batch`; returns how many.
    pub fn reclaim(&mut self, batch: &mut Batch) -> usize {
        let Way::Through { reader, held, .. } = &mut self.way else {
            return 0;
        };
        let space = &mut batch.space(*held)[..*held];
        let mut filled = 0;
        while filled < space.len() {
            match rustix::io::read(&*reader, &mut space[filled..]) {
                Ok(count) if count > 0 => filled += count,
                Err(Errno::INTR) => {}
                // Our own pipe has what we put in: it cannot be empty or fail.
                _ => break,
            }
        }
        *held = 0;
        filled
    }
}

unsafe extern "C" {
    /// Whether the next byte is urgent: 1, 0, or -1 where that cannot be known (sockatmark(3)). The libc crate does not have it.
    safe fn sockatmark(socket: libc::c_int) -> libc::c_int;
}

/// Says that the kernel has declined where it is an urgent byte that has stopped it: splice(2) does not take one.
fn unless_urgent(passed: Passed, source: BorrowedFd<'_>) -> Passed {
    let has_stopped = matches!(passed.halt, Some(Halt::Either | Halt::SourceEmpty));
    let declined = has_stopped && sockatmark(source.as_raw_fd()) == 1;
    Passed {
        halt: if declined {
            Some(Halt::Declined)
        } else {
            passed.halt
        },
        ..passed
    }
}

/// An error of the transfer, by the side it belongs to.
#[derive(Debug)]
pub enum Broken {
    /// Reading failed.
    Source(io::Error),
    /// The kernel does not say which; copying will.
    Either(io::Error),
}

fn enlarge(pipe: BorrowedFd<'_>) {
    // Only an aid: the limit for all pipes of one user may be reached.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, STRETCH);
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, limit: usize) -> rustix::io::Result<usize> {
    // Never SPLICE_F_MORE: it holds small messages back for 200 ms.
    rustix::pipe::splice(
        from,
        None,
        to,
        None,
        limit,
        SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
    )
}

/// Nothing moves this way.
pub(super) const DECLINED: Passed = Passed {
    taken: 0,
    put: 0,
    halt: Some(Halt::Declined),
};

/// What a call that has moved so many bytes, or has failed, means; `blocked`: what `EAGAIN` does.
pub(super) fn moved(result: rustix::io::Result<usize>, blocked: Halt) -> io::Result<Passed> {
    let halt = match result {
        Ok(0) => Halt::End,
        Ok(count) => {
            return Ok(Passed {
                taken: count,
                put: count,
                halt: None,
            });
        }
        Err(Errno::AGAIN) => blocked,
        Err(Errno::INTR) => return Ok(Passed::default()),
        // The last three are of memory, which copying may do without, or of a disk on either side, and copying tells of which.
        Err(
            Errno::INVAL
            | Errno::NOSYS
            | Errno::OPNOTSUPP
            | Errno::SPIPE
            | Errno::NOMEM
            | Errno::NOBUFS
            | Errno::IO,
        ) => Halt::Declined,
        Err(error) => return Err(error.into()),
    };
    Ok(Passed {
        taken: 0,
        put: 0,
        halt: Some(halt),
    })
}
