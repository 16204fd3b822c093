//! The sockets of another process, duplicated to read their options.
//! `pidfd_getfd(2)` duplicates a descriptor of a child; some systems forbid it.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use socket2::{Domain, Socket};

use super::{Running, skip};

/// Returns the internet sockets of a process; prints a notice where that is not possible.
pub(crate) fn sockets_of(running: &Running) -> Option<Vec<Socket>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap() {
        let path = entry.unwrap().path();
        let target = fs::read_link(&path).unwrap_or_default();
        if !target.to_string_lossy().starts_with("socket:") {
            continue;
        }
        let number = path.file_name().and_then(|name| name.to_str());
        let number = number.and_then(|name| name.parse().ok()).unwrap();
        match pidfd_getfd(running.handle(), number, PidfdGetfdFlags::empty()) {
            Ok(fd) => sockets.extend(internet(fd)),
            Err(error) => {
                skip(&format!("pidfd_getfd: {error}"));
                return None;
            }
        }
    }
    Some(sockets)
}

fn internet(fd: OwnedFd) -> Option<Socket> {
    let socket = Socket::from(fd);
    let domain = socket.domain().unwrap();
    [Domain::IPV4, Domain::IPV6]
        .contains(&domain)
        .then_some(socket)
}
