//! Both ends of a UDP path at their fastest: cut and coalesced by the kernel, many to a system call.
//! The limit programs are made of these, and so is what feeds the tools and counts what they send.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, recvmmsg, sendmmsg, setsockopt, sockopt,
};

use crate::ports::HOST;

/// The most datagrams that the kernel cuts from one piece, and the most bytes in it (`UDP_MAX_SEGMENTS` before Linux 6.9).
const SEGMENTS: usize = 64;
const LONGEST: usize = 65_507;

/// Bytes that sendfile(2) gathers at once, wherever in a page they begin.
const GATHERED: usize = 15 << 12;

/// Pieces that one call takes in, and the room for each.
const SLOTS: usize = 16;
const ROOM: usize = 1 << 16;

/// Asked for as a receive buffer.
const QUEUE: usize = 64 << 20;

/// Where datagrams arrive.
pub(crate) struct Inlet {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

/// What arrived as one piece: datagrams of `stride` bytes, of which only the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) stride: usize,
}

impl Piece<'_> {
    pub(crate) fn count(&self) -> usize {
        self.bytes.len().div_ceil(self.stride.max(1)).max(1)
    }
}

impl Inlet {
    /// A socket with as long a queue as is allowed; a read waits for `patience` at the most.
    pub(crate) fn bind(port: u16, patience: Option<Duration>) -> io::Result<Self> {
        let socket = UdpSocket::bind((HOST, port))?;
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, QUEUE).is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, QUEUE)?;
        }
        setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
        socket.set_read_timeout(patience)?;
        let buffer = vec![0; SLOTS * ROOM];
        Ok(Self { socket, buffer })
    }

    /// All that has come, at least one piece; none if the patience is over.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Piece<'_>>> {
        let mut found = [(0, 0); SLOTS];
        let mut count = 0;
        {
            let mut slots: Vec<_> = self
                .buffer
                .chunks_exact_mut(ROOM)
                .map(|room| [IoSliceMut::new(room)])
                .collect();
            let mut headers: MultiHeaders<()> =
                MultiHeaders::preallocate(SLOTS, Some(cmsg_space!(libc::c_int)));
            let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_WAITFORONE);
            let messages = match recvmmsg(fd, &mut headers, &mut slots, flags, None) {
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Vec::new()),
                other => other?,
            };
            for message in messages {
                let mut stride = message.bytes;
                for control in message.cmsgs()? {
                    if let ControlMessageOwned::UdpGroSegments(size) = control {
                        stride = usize::try_from(size).unwrap_or(stride);
                    }
                }
                found[count] = (message.bytes, stride);
                count += 1;
            }
        }
        let rooms = self.buffer.chunks_exact(ROOM);
        let pieces = rooms.zip(&found[..count]).map(|(room, &(len, stride))| {
            let bytes = &room[..len];
            Piece { bytes, stride }
        });
        Ok(pieces.collect())
    }
}

/// Where datagrams of one size leave.
pub(crate) struct Outlet {
    socket: UdpSocket,
    size: usize,
}

impl Outlet {
    pub(crate) fn connect(port: u16, size: usize) -> io::Result<Self> {
        let socket = UdpSocket::bind((HOST, 0))?;
        socket.connect((HOST, port))?;
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, 4 << 20)?;
        Ok(Self { socket, size })
    }

    /// Lets the kernel cut what is sent.
    pub(crate) fn cut(&self) -> io::Result<()> {
        let size = i32::try_from(self.size).map_err(io::Error::other)?;
        Ok(setsockopt(&self.socket, sockopt::UdpGsoSegment, &size)?)
    }

    /// The most bytes that the kernel cuts at once.
    pub(crate) fn piece(&self) -> usize {
        (LONGEST / self.size).clamp(1, SEGMENTS) * self.size
    }

    /// Sends up to a piece.
    pub(crate) fn send_piece(&self, bytes: &[u8]) -> io::Result<()> {
        again(|| self.socket.send(bytes).map(|_| ()))
    }

    /// Sends up to a piece of a file, which the kernel takes from where it has it; returns how many bytes that were.
    pub(crate) fn send_piece_of(&self, file: BorrowedFd<'_>) -> io::Result<usize> {
        let piece = (GATHERED / self.size).clamp(1, SEGMENTS) * self.size;
        let mut sent = 0;
        again(|| {
            sent = rustix::fs::sendfile(&self.socket, file, None, piece)?;
            Ok(())
        })?;
        Ok(sent)
    }

    /// Sends datagrams one by one, though with one call, where there is no cutting.
    pub(crate) fn send_each(&self, bytes: &[u8]) -> io::Result<()> {
        let slices: Vec<_> = bytes
            .chunks(self.size)
            .map(|datagram| [IoSlice::new(datagram)])
            .collect();
        send_all(&self.socket, &slices)
    }
}

/// Sends messages on a connected socket, as many with a call as the kernel takes.
pub(crate) fn send_all(socket: &impl AsRawFd, mut slices: &[[IoSlice<'_>; 1]]) -> io::Result<()> {
    while !slices.is_empty() {
        let mut headers: MultiHeaders<()> = MultiHeaders::preallocate(slices.len(), None);
        let nowhere = vec![None; slices.len()];
        let mut sent = 0;
        again(|| {
            let flags = MsgFlags::MSG_NOSIGNAL;
            let fd = socket.as_raw_fd();
            sent = sendmmsg(fd, &mut headers, slices, &nowhere, [], flags)?.count();
            Ok(())
        })?;
        slices = &slices[sent..];
    }
    Ok(())
}

/// Repeats a call that met a full queue, or the report of a datagram that nobody wanted.
fn again(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error)
                if error.kind() == ErrorKind::ConnectionRefused
                    || error.raw_os_error() == Some(libc::ENOBUFS) => {}
            other => return other,
        }
    }
}
