//! Calls of the operating system: their errors, waiting, signals, descriptors, memory, socket options, the sandbox, moves without a copy.
//! All `unsafe` code and every condition on the platform is in this folder; the rest of the program is portable.

#![allow(unsafe_code)]

pub mod errno;
pub mod inherited;
pub mod sandbox;
pub mod signals;
pub mod socket_file;
pub mod sockopt;
pub mod splice;
pub mod tcp_info;
pub mod wait;

/// Size from which the allocator takes memory from the system alone, and gives it back at once, in bytes.
#[cfg(target_env = "gnu")]
const LARGE_SIZE: libc::c_int = 64 << 10;

/// Free memory at the end of the heap, in bytes: less than a large piece, which would be taken from there otherwise.
#[cfg(target_env = "gnu")]
const HEAP_MARGIN: libc::c_int = 16 << 10;

/// Lets the allocator give large pieces of memory back when they are free.
///
/// By default the first one that is free raises the threshold, and the memory of many clients stays (mallopt(3)).
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two integers, and no thread allocates meanwhile. A refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_SIZE);
        libc::mallopt(libc::M_TOP_PAD, HEAP_MARGIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * HEAP_MARGIN);
    }
}
