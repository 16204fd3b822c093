//! Unix sockets: what they have that no socket of the internet has, which is the process at the other end.
//! The kernel reports it (unix(7)); a connection has one for good, and each message brings its own.

use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use nix::cmsg_space;
use nix::sys::socket::{MsgFlags, UnixAddr, UnixCredentials, getsockopt, recv, recvmsg, sockopt};
use rustix::fs::fstat;
use rustix::net::getpeername;
use socket2::Socket;

use crate::batch::Batch;
use crate::flow::{Address, Process, one_word};

/// Returns the process at the other end of a connection that was accepted, with the name of its socket, if it has one.
pub fn client(socket: &impl AsFd) -> io::Result<Address> {
    let name = getpeername(socket)?.map_or(Ok(Address::unix(b"")), Address::try_from)?;
    peer(socket, &name)
}

/// Returns the process at the other end of a connection (`SO_PEERCRED`, unix(7)), with the name of its socket.
///
/// On a client, it is the process that called listen(2).
pub fn peer(socket: &impl AsFd, name: &Address) -> io::Result<Address> {
    let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
    Ok(process(name, credentials, fstat(socket)?.st_ino))
}

/// Joins the name of a socket with its process.
fn process(name: &Address, credentials: UnixCredentials, inode: u64) -> Address {
    let socket = match name {
        Address::Unix(name) => Arc::clone(name),
        _ => Arc::default(),
    };
    let pid = credentials.pid();
    Address::Process(Arc::new(Process {
        socket,
        pid,
        uid: credentials.uid(),
        gid: credentials.gid(),
        program: program(pid),
        inode,
    }))
}

/// Returns the name of the program that a process runs (proc(5)).
fn program(pid: i32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(one_word(name.trim_ascii_end()))
}

/// Receives a packet of a connection into the space of a batch, and returns its size. `None`: the peer has finished.
pub(super) fn recv_packet(socket: &Socket, batch: &mut Batch) -> io::Result<Option<usize>> {
    let fd = socket.as_raw_fd();
    let size = recv(fd, &mut [], MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC)?;
    let mut slot = [IoSliceMut::new(&mut batch.space(size)[..size])];
    let mut control = cmsg_space!(UnixCredentials);
    let message = recvmsg::<UnixAddr>(fd, &mut slot, Some(&mut control), MsgFlags::empty())?;
    // A packet has credentials (`SO_PASSCRED`), and the end has none. Descriptors that came with it have no room, and are closed.
    let has_none = || (message.cmsgs()).is_ok_and(|mut controls| controls.next().is_none());
    let is_end = message.bytes == 0 && has_none();
    Ok((!is_end).then_some(message.bytes))
}
