//! What a UDP socket knows about itself beyond the options that libraries wrap.
//! The count of drops that comes with datagrams is as old as the datagram; this one is of now.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// How many values `SO_MEMINFO` has, and which of them counts drops (`linux/sock_diag.h`).
const MEMINFO_VARS: usize = 9;
const MEMINFO_DROPS: usize = 8;

/// Datagrams that the kernel has dropped at this socket so far (`SO_MEMINFO`, Linux 4.12).
pub fn dropped(socket: &impl AsFd) -> io::Result<u32> {
    let mut info = [0_u32; MEMINFO_VARS];
    let mut len = libc::socklen_t::try_from(mem::size_of_val(&info)).unwrap_or(0);
    // SAFETY: `info` is valid for writing `len` bytes, and any bytes are valid numbers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    match result {
        0 => Ok(info[MEMINFO_DROPS]),
        _ => Err(io::Error::last_os_error()),
    }
}
