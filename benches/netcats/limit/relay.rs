//! A relay of one client in one direction: splice(2) from socket to pipe to socket, with blocking calls.
//! It passes on both FINs, and nothing else.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

/// Bytes of the pipe, and of one call.
const PIPE_SIZE: usize = 1 << 20;

/// Moves what `client` sends to `target`, then waits for the FIN of `target`.
pub(super) fn pass(client: &TcpStream, mut target: &TcpStream) -> anyhow::Result<()> {
    let (reader, writer) = io::pipe()?;
    fcntl_setpipe_size(&writer, PIPE_SIZE)?;
    let shift = |from: &dyn AsFd, to: &dyn AsFd, len| {
        splice(from.as_fd(), None, to.as_fd(), None, len, SpliceFlags::MOVE)
    };
    loop {
        let mut held = shift(client, &writer, PIPE_SIZE)?;
        if held == 0 {
            break;
        }
        while held > 0 {
            held -= shift(&reader, target, held)?;
        }
    }
    target.shutdown(Shutdown::Write)?;
    while target.read(&mut [0; 4096])? > 0 {}
    client.shutdown(Shutdown::Write)?;
    Ok(())
}
