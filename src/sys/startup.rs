//! What can only be seen before `main`: which of the standard descriptors were closed when the program started.
//! The runtime opens /dev/null in their place, and that looks just like a /dev/null that somebody has chosen.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU8, Ordering};

/// One bit for each of the descriptors 0, 1 and 2 that was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Among the functions that the loader calls before the runtime begins (elf(5), `.init_array`).
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    for fd in 0..=2 {
        // SAFETY: asks for a flag of a descriptor, which may be any number.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

/// Whether standard input (0), output (1) or error (2) was closed when the program started.
#[must_use]
pub fn was_closed(fd: RawFd) -> bool {
    (0..=2).contains(&fd) && CLOSED.load(Ordering::Relaxed) & 1 << fd != 0
}
