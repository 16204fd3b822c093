//! Datagrams in one direction, segmented and coalesced by the kernel (GSO, GRO).
//! A file is sent without a copy; messages keep their boundaries, because all have one size.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};

use crate::datagrams::{Receiver, Sender};

/// Messages that one call reads.
const MESSAGES: usize = 64;

/// Sends standard input, a file, in datagrams of `size` bytes.
pub(super) fn send_blocks(port: u16, size: usize) -> io::Result<()> {
    let sender = Sender::connect(port, size)?;
    sender.enable_gso()?;
    while sender.send_piece_of(rustix::stdio::stdin())? > 0 {}
    Ok(())
}

/// Sends messages of `size` bytes from standard input as datagrams.
pub(super) fn send_messages(port: u16, size: usize) -> anyhow::Result<()> {
    let sender = Sender::connect(port, size)?;
    sender.enable_gso()?;
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
            "a message has another size"
        );
        for piece in buffer[..count * size].chunks(sender.piece()) {
            sender.send_piece(piece)?;
        }
        if count < lens.len() {
            return Ok(());
        }
    }
}

/// Writes datagrams to standard output.
pub(super) fn receive(port: u16) -> io::Result<()> {
    let output = rustix::stdio::stdout();
    let _ = super::stream::enlarge(output);
    let mut receiver = Receiver::bind(port, None)?;
    loop {
        let pieces = receiver.read()?;
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
