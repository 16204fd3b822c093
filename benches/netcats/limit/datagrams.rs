//! Datagrams in one direction, with the kernel's own cutting and coalescing.
//! A file is cut without even a copy of it; messages keep their borders, since all have one size.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};

use crate::datagrams::{Inlet, Outlet};

/// Messages read with one call.
const MESSAGES: usize = 64;

/// Standard input, a file, to datagrams of `size` bytes.
pub(super) fn send_blocks(port: u16, size: usize) -> io::Result<()> {
    let outlet = Outlet::connect(port, size)?;
    outlet.cut()?;
    while outlet.send_piece_of(rustix::stdio::stdin())? > 0 {}
    Ok(())
}

/// Messages of `size` bytes on standard input to datagrams.
pub(super) fn send_messages(port: u16, size: usize) -> anyhow::Result<()> {
    let outlet = Outlet::connect(port, size)?;
    outlet.cut()?;
    let mut buffer = vec![0; MESSAGES * size];
    loop {
        let mut slots: Vec<_> = buffer
            .chunks_exact_mut(size)
            .map(|slot| [IoSliceMut::new(slot)])
            .collect();
        let mut headers: MultiHeaders<()> = MultiHeaders::preallocate(MESSAGES, None);
        let (fd, flags) = (rustix::stdio::stdin().as_raw_fd(), MsgFlags::MSG_WAITFORONE);
        let messages = recvmmsg(fd, &mut headers, &mut slots, flags, None)?;
        let lens: Vec<_> = messages.map(|message| message.bytes).collect();
        let count = lens.iter().take_while(|&&len| len > 0).count();
        anyhow::ensure!(
            lens[..count].iter().all(|&len| len == size),
            "a message is not of that size"
        );
        for piece in buffer[..count * size].chunks(outlet.piece()) {
            outlet.send_piece(piece)?;
        }
        if count < lens.len() {
            return Ok(());
        }
    }
}

/// Datagrams to standard output, one after the other.
pub(super) fn receive(port: u16) -> io::Result<()> {
    let output = rustix::stdio::stdout();
    let _ = super::stream::enlarge(output);
    let mut inlet = Inlet::bind(port, None)?;
    loop {
        let pieces = inlet.read()?;
        let mut slices: Vec<_> = pieces
            .iter()
            .map(|piece| IoSlice::new(piece.bytes))
            .collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let count = rustix::io::writev(output, rest)?;
            IoSlice::advance_slices(&mut rest, count);
        }
    }
}
