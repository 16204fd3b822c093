//! Socket options and figures that no library wraps: TCP Fast Open, multicast groups, the content of the buffers.
//! Each is one call with a plain value (setsockopt(2), getsockopt(2), ioctl(2)).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockAddr;

/// Sets an option of `level` to `value`, the structure or number that it takes; the kernel refuses another size.
fn set<T: Copy>(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let (place, size) = (std::ptr::from_ref(value).cast(), size_of_value::<T>());
    // SAFETY: `value` lives through the call, and no more than its `size_of` is read.
    let result = unsafe { libc::setsockopt(fd, level, option, place, size) };
    check(result)
}

/// Gets an option of `level`. An older kernel may fill only the beginning of `value`.
///
/// # Safety
///
/// Any bytes have to be a valid `T`.
pub(super) unsafe fn get<T: Copy>(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    mut value: T,
) -> io::Result<T> {
    let fd = socket.as_fd().as_raw_fd();
    let mut size = size_of_value::<T>();
    let place = std::ptr::from_mut(&mut value).cast();
    // SAFETY: `value` lives through the call and has room for `size` bytes; what it becomes is up to the caller.
    let result = unsafe { libc::getsockopt(fd, level, option, place, &raw mut size) };
    check(result).map(|()| value)
}

fn size_of_value<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets a listening socket take data from a SYN; `backlog` bounds the clients whose handshake is not complete (RFC 7413, 5.1).
pub fn set_fast_open_listen(socket: &impl AsFd, backlog: i32) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, &backlog)
}

/// Sets the least time to live of received IPv4 packets (`IP_MINTTL`, ip(7)).
pub fn set_min_ttl_v4(socket: &impl AsFd, least: u8) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &i32::from(least))
}

/// Sets the least hop limit of received IPv6 packets (`IPV6_MINHOPCOUNT`).
pub fn set_min_hops_v6(socket: &impl AsFd, least: u8) -> io::Result<()> {
    let least = i32::from(least);
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &least)
}

/// Sets `SO_DEBUG` (socket(7)).
pub fn set_debug(socket: &impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_DEBUG, &1_i32)
}

/// Joins a multicast group, for one source or for all (RFC 3678); interface 0 leaves the choice to the routes.
///
/// Libraries wrap the older calls, which name interfaces by an address and have no sources for IPv6.
pub fn join_group(
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

/// The address with port 0 in the form of the system.
fn storage_of(address: IpAddr) -> libc::sockaddr_storage {
    let mut storage = SockAddr::from(SocketAddr::new(address, 0)).as_storage();
    // SAFETY: it holds an address in this very form, and nothing else.
    unsafe { *storage.view_as() }
}

/// Bytes that have arrived and are not read; of a UDP socket, the size of the next datagram (`SIOCINQ`, tcp(7), udp(7)).
pub fn unread(socket: &impl AsFd) -> Option<usize> {
    let count = rustix::io::ioctl_fionread(socket).ok()?;
    usize::try_from(count).ok()
}

/// Bytes that are written and not acknowledged; of a UDP socket, not sent (`SIOCOUTQ`, tcp(7), udp(7)).
pub fn unsent(socket: &impl AsFd) -> Option<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: `SIOCOUTQ`, which is `TIOCOUTQ`, writes one `c_int` to where `count` lives.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    usize::try_from(count).ok().filter(|_| result == 0)
}

/// The number of values in `SO_MEMINFO`, and the index of the one that counts drops (`linux/sock_diag.h`).
const MEMINFO_LEN: usize = 9;
const MEMINFO_DROPS: usize = 8;

/// Datagrams that the kernel has dropped at this socket so far (`SO_MEMINFO`, Linux 4.12).
///
/// The count that comes with a datagram is older: it is of the time when that datagram arrived.
pub fn dropped(socket: &impl AsFd) -> io::Result<u32> {
    let info = [0_u32; MEMINFO_LEN];
    // SAFETY: any bytes are valid numbers.
    let info = unsafe { get(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, info) }?;
    Ok(info[MEMINFO_DROPS])
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn an_unread_byte_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.peek(&mut [0]).unwrap();
        assert_eq!(unread(&server), Some(1));
        assert!(unsent(&client).is_some());
    }

    #[test]
    fn a_datagram_socket_has_buffers_as_well() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!((unread(&socket), unsent(&socket)), (Some(0), Some(0)));
        assert_eq!(dropped(&socket).unwrap(), 0);
    }
}
