//! A byte stream in one direction, moved inside the kernel.
//! Pipes are enlarged to the maximum for unprivileged users, and each call requests as much.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, fstat};
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

/// Size of a pipe, and of one splice(2).
const PIPE_SIZE: usize = 1 << 20;

/// Copies standard input to `stream`.
pub(super) fn send(stream: &TcpStream) -> io::Result<()> {
    let input = rustix::stdio::stdin();
    if is_pipe(input)? {
        enlarge(input)?;
        while splice_some(input, stream.as_fd(), PIPE_SIZE)? > 0 {}
    } else {
        while rustix::fs::sendfile(stream, input, None, 1 << 30)? > 0 {}
    }
    super::finish(stream)
}

/// Copies `stream` to standard output.
pub(super) fn receive(stream: &TcpStream) -> io::Result<()> {
    let output = rustix::stdio::stdout();
    if is_pipe(output)? {
        enlarge(output)?;
        while splice_some(stream.as_fd(), output, PIPE_SIZE)? > 0 {}
        return Ok(());
    }
    let (reader, writer) = rustix::pipe::pipe()?;
    enlarge(writer.as_fd())?;
    loop {
        let mut held = splice_some(stream.as_fd(), writer.as_fd(), PIPE_SIZE)?;
        if held == 0 {
            return Ok(());
        }
        while held > 0 {
            held -= splice_some(reader.as_fd(), output, held)?;
        }
    }
}

fn splice_some(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, len, SpliceFlags::empty())?)
}

fn is_pipe(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Fifo)
}

pub(super) fn enlarge(pipe: BorrowedFd<'_>) -> io::Result<()> {
    fcntl_setpipe_size(pipe, PIPE_SIZE)?;
    Ok(())
}
