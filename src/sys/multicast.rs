//! Joining a group, of either family, from one source or from all, by the index of an interface (RFC 3678).
//! Libraries wrap the older calls, which name interfaces by an address and know no sources for IPv6.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use socket2::SockAddr;

use super::sockopt::set;

/// Makes a socket hear what is sent to `group`, by `source` only if there is one; interface 0 leaves the choice to the routes.
pub fn join(
    socket: &impl AsFd,
    group: IpAddr,
    source: Option<IpAddr>,
    interface: u32,
) -> io::Result<()> {
    let level = match group {
        IpAddr::V4(_) => libc::IPPROTO_IP,
        IpAddr::V6(_) => libc::IPPROTO_IPV6,
    };
    match source {
        None => {
            let request = libc::group_req {
                gr_interface: interface,
                gr_group: storage_of(group),
            };
            set(socket, level, libc::MCAST_JOIN_GROUP, &request)
        }
        Some(source) => {
            let request = libc::group_source_req {
                gsr_interface: interface,
                gsr_group: storage_of(group),
                gsr_source: storage_of(source),
            };
            set(socket, level, libc::MCAST_JOIN_SOURCE_GROUP, &request)
        }
    }
}

/// The address without a port, in the form of the system.
fn storage_of(address: IpAddr) -> libc::sockaddr_storage {
    let mut storage = SockAddr::from(SocketAddr::new(address, 0)).as_storage();
    // SAFETY: it holds an address in this very form, and nothing else.
    unsafe { *storage.view_as() }
}
