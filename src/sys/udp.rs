//! What a UDP socket knows about itself beyond the options that libraries wrap.
//! The count of drops that comes with datagrams is as old as the datagram; this one is of now.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The values of `SO_MEMINFO`, each of four bytes, and which of them counts drops (`linux/sock_diag.h`).
const VALUES: usize = 9;
const SIZE: libc::socklen_t = 4 * 9;
const DROPS: usize = 8;

/// Datagrams that the kernel has dropped at this socket so far (`SO_MEMINFO`, Linux 4.12).
pub fn dropped(socket: &impl AsFd) -> io::Result<u32> {
    let mut info = [0_u32; VALUES];
    let mut size = SIZE;
    // SAFETY: `info` is valid for writing `size` bytes, and any bytes are valid numbers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    match result {
        0 => Ok(info[DROPS]),
        _ => Err(io::Error::last_os_error()),
    }
}
