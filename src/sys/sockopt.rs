//! Setting the socket options that no library wraps.
//! Whatever the option takes, the call is the same (setsockopt(2)): its value is bytes that the kernel reads.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

/// Sets an option of `level` to `value`, which is the structure or the number that it takes; of another size, the kernel refuses it.
pub(super) fn set<T: Copy>(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(mem::size_of::<T>()).unwrap_or(0);
    // SAFETY: `value` lives through the call and is readable for `len` bytes, which are all that is read of it.
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
