//! The fastest sender and receiver of datagrams: the kernel segments and coalesces them, many in one system call.
//! The limit programs use these, as do the producers and consumers of the contests.

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

/// Maximum number of segments and of bytes in one GSO buffer (`UDP_MAX_SEGMENTS` before Linux 6.9).
const MAX_SEGMENTS: usize = 64;
const MAX_PAYLOAD: usize = 65_507;

/// Bytes that sendfile(2) collects for one datagram, at any offset in a page.
const SENDFILE_SIZE: usize = 15 << 12;

/// Number of receive buffers in one call, and the size of each.
const SLOTS: usize = 16;
const SLOT_SIZE: usize = 1 << 16;

/// Requested size of the receive buffer.
const RECV_BUFFER: usize = 64 << 20;

/// A bound socket that receives datagrams.
pub(crate) struct Receiver {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

/// One coalesced buffer: datagrams of `stride` bytes; only the last may be shorter.
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

impl Receiver {
    /// Binds a socket with the largest receive buffer that is allowed; a read waits for at most `timeout`.
    pub(crate) fn bind(port: u16, timeout: Option<Duration>) -> io::Result<Self> {
        let socket = UdpSocket::bind((HOST, port))?;
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECV_BUFFER).is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECV_BUFFER)?;
        }
        setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
        socket.set_read_timeout(timeout)?;
        let buffer = vec![0; SLOTS * SLOT_SIZE];
        Ok(Self { socket, buffer })
    }

    /// Receives at least one piece; none after the timeout.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Piece<'_>>> {
        let mut found = [(0, 0); SLOTS];
        let mut count = 0;
        {
            let mut slots: Vec<_> = self
                .buffer
                .chunks_exact_mut(SLOT_SIZE)
                .map(|slot| [IoSliceMut::new(slot)])
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
        let filled = self.buffer.chunks_exact(SLOT_SIZE);
        let pieces = filled.zip(&found[..count]).map(|(slot, &(len, stride))| {
            let bytes = &slot[..len];
            Piece { bytes, stride }
        });
        Ok(pieces.collect())
    }
}

/// A connected socket that sends datagrams of one size.
pub(crate) struct Sender {
    socket: UdpSocket,
    size: usize,
}

impl Sender {
    pub(crate) fn connect(port: u16, size: usize) -> io::Result<Self> {
        let socket = UdpSocket::bind((HOST, 0))?;
        socket.connect((HOST, port))?;
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, 4 << 20)?;
        Ok(Self { socket, size })
    }

    /// Enables segmentation by the kernel (GSO).
    pub(crate) fn enable_gso(&self) -> io::Result<()> {
        let size = i32::try_from(self.size).map_err(io::Error::other)?;
        Ok(setsockopt(&self.socket, sockopt::UdpGsoSegment, &size)?)
    }

    /// Maximum number of bytes in one segmented send.
    pub(crate) fn piece(&self) -> usize {
        (MAX_PAYLOAD / self.size).clamp(1, MAX_SEGMENTS) * self.size
    }

    /// Sends at most one piece.
    pub(crate) fn send_piece(&self, bytes: &[u8]) -> io::Result<()> {
        again(|| self.socket.send(bytes).map(|_| ()))
    }

    /// Sends at most one piece of a file with sendfile(2); returns the number of bytes.
    pub(crate) fn send_piece_of(&self, file: BorrowedFd<'_>) -> io::Result<usize> {
        let piece = (SENDFILE_SIZE / self.size).clamp(1, MAX_SEGMENTS) * self.size;
        let mut sent = 0;
        again(|| {
            sent = rustix::fs::sendfile(&self.socket, file, None, piece)?;
            Ok(())
        })?;
        Ok(sent)
    }

    /// Sends separate datagrams with sendmmsg(2), without segmentation.
    pub(crate) fn send_each(&self, bytes: &[u8]) -> io::Result<()> {
        let slices: Vec<_> = bytes
            .chunks(self.size)
            .map(|datagram| [IoSlice::new(datagram)])
            .collect();
        send_all(&self.socket, &slices)
    }
}

/// Sends messages on a connected socket, as many in one call as the kernel accepts.
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

/// Repeats a call that failed with a full queue or an earlier ICMP error.
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
