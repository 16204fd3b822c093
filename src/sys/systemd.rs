//! What systemd(1) gives a service and wants to hear from it: sockets that it has opened before, and when the service is ready.
//! Both are told by the environment (`sd_listen_fds(3)`, `sd_notify(3)`); without it there is nothing to take and nobody to tell.

use std::env;
use std::io;
use std::os::fd::FromRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use socket2::Socket;

/// Takes over the sockets that were passed to this process, or those of that name (`FileDescriptorName=`, systemd.socket(5)).
/// To be called once.
pub fn passed_sockets(name: Option<&str>) -> io::Result<Vec<Socket>> {
    let passed = sd_notify::listen_fds_with_names()?;
    let wanted = passed.filter(|(_, given)| name.is_none_or(|name| name == given));
    // SAFETY: they are open, which has just been seen by setting a flag, and meant for this process, which takes them only once.
    let take = |(fd, _)| unsafe { Socket::from_raw_fd(fd) };
    Ok(wanted.map(take).collect())
}

/// Tells the service manager that this process is ready, with a line for people.
pub fn notify_ready(status: &str) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let manager = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    let text = format!("READY=1\nSTATUS={status}\n");
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &manager)?;
    Ok(())
}
