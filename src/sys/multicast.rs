//! Joining a group, of either family, from one source or from all, by the index of an interface (RFC 3678).
//! Libraries wrap the older calls, which name interfaces by an address and know no sources for IPv6.

use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// Makes a socket hear what is sent to `group`, by `source` only if there is one; interface 0 leaves the choice to the routes.
pub fn join(
    socket: &impl AsFd,
    group: IpAddr,
    source: Option<IpAddr>,
    interface: u32,
) -> io::Result<()> {
    match source {
        None => {
            let request = libc::group_req {
                gr_interface: interface,
                gr_group: storage_of(group),
            };
            set(socket, group, libc::MCAST_JOIN_GROUP, &request)
        }
        Some(source) => {
            let request = libc::group_source_req {
                gsr_interface: interface,
                gsr_group: storage_of(group),
                gsr_source: storage_of(source),
            };
            set(socket, group, libc::MCAST_JOIN_SOURCE_GROUP, &request)
        }
    }
}

fn set<T>(socket: &impl AsFd, group: IpAddr, option: libc::c_int, value: &T) -> io::Result<()> {
    let level = match group {
        IpAddr::V4(_) => libc::IPPROTO_IP,
        IpAddr::V6(_) => libc::IPPROTO_IPV6,
    };
    let len = libc::socklen_t::try_from(mem::size_of::<T>()).unwrap_or(0);
    // SAFETY: `value` is the structure that the option takes, readable for `len` bytes.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            len,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The address without a port, in the form of the system.
fn storage_of(address: IpAddr) -> libc::sockaddr_storage {
    let address = SockaddrStorage::from(std::net::SocketAddr::new(address, 0));
    // SAFETY: all zeros is a valid value: no family, no address.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let len = usize::try_from(address.len()).unwrap_or(0);
    // SAFETY: the source has `len` bytes, and the destination is the largest of all addresses.
    unsafe {
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut storage).cast::<u8>(),
            len.min(mem::size_of_val(&storage)),
        );
    }
    storage
}
