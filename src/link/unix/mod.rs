//! Unix sockets: what they have that no socket of the internet has, which is the process at the other end.
//! The kernel reports it (unix(7)); a connection has one for good, and each message brings its own.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, UnixCredentials, getsockopt, recvmsg, sockopt,
};
use rustix::fs::fstat;
use rustix::net::{RecvFlags, SocketAddrUnix, getpeername, recvfrom};
use socket2::Socket;

use crate::batch::Batch;
use crate::flow::{Address, Process, one_word, unix_name};
use crate::sys::socket_file::PathAddress;

mod datagrams;

pub use datagrams::{Audience, Datagrams};

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

/// A packet or a datagram.
struct Message {
    /// Its size in bytes.
    len: usize,
    /// The name of the sender's socket as bytes: a path, a zero byte and an abstract name, or nothing.
    name: Vec<u8>,
    /// The sender's process, unless it is hidden.
    credentials: Option<UnixCredentials>,
    /// False for the end of a connection. A message has credentials (`SO_PASSCRED`), and the end has none.
    is_data: bool,
}

impl Message {
    /// Receives a message of any size into the space of a batch, from `start` on.
    fn receive(socket: &Socket, batch: &mut Batch, start: usize) -> io::Result<Self> {
        let fd = socket.as_raw_fd();
        let nothing: &mut [u8] = &mut [];
        let (_, size, address) = recvfrom(socket, nothing, RecvFlags::PEEK | RecvFlags::TRUNC)?;
        let mut slot = [IoSliceMut::new(
            &mut batch.grow(start + size)[start..][..size],
        )];
        let mut control = cmsg_space!(UnixCredentials);
        let message = recvmsg::<()>(fd, &mut slot, Some(&mut control), MsgFlags::empty())?;
        // Descriptors that came with it have no room, and are closed by the kernel.
        let controls = message.cmsgs().map(Iterator::collect::<Vec<_>>);
        let credentials = controls.iter().flatten().find_map(|control| match control {
            ControlMessageOwned::ScmCredentials(credentials) => Some(*credentials),
            _ => None,
        });
        let address = address.and_then(|address| SocketAddrUnix::try_from(address).ok());
        Ok(Self {
            len: message.bytes,
            name: address.as_ref().map(unix_name).unwrap_or_default(),
            credentials: credentials.filter(|found| found.pid() != 0),
            is_data: !controls.is_ok_and(|controls| controls.is_empty()),
        })
    }

    /// Returns the number of the sender's process, 0 if it is hidden.
    fn pid(&self) -> i32 {
        self.credentials.map_or(0, |found| found.pid())
    }

    /// Returns the address to answer to, if the sender has one.
    fn address(&self) -> Option<PathAddress> {
        let path = Path::new(OsStr::from_bytes(&self.name));
        (!self.name.is_empty()).then(|| PathAddress::new(path).ok())?
    }

    /// Returns the name of the sender, with its process.
    fn sender(&self) -> Address {
        let name = Address::unix(&self.name);
        let shown = Address::Unix(name.to_string().into());
        match self.credentials {
            Some(credentials) => process(&shown, credentials, 0),
            None => name,
        }
    }
}

/// Receives a packet of a connection into the space of a batch, and returns its size. `None`: the peer has finished.
pub(super) fn recv_packet(socket: &Socket, batch: &mut Batch) -> io::Result<Option<usize>> {
    let message = Message::receive(socket, batch, 0)?;
    Ok((message.len > 0 || message.is_data).then_some(message.len))
}
