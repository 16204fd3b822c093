//! SIGINT, SIGTERM, SIGHUP and SIGUSR1 as bytes on a descriptor, which the one loop waits for like any other.
//! A handler only sets a flag, starts a clock and writes a byte (signal-safety(7)); the loop does the work.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level};

/// Request that a signal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGINT, SIGTERM or SIGHUP: end the run, with this signal's number in the status.
    End(u8),
    /// SIGUSR1: show the table of sockets.
    Show,
}

/// Signals of this process, caught while the process runs.
pub struct Signals {
    wake: UnixStream,
    /// The number of the last signal that asks for the end, or 0.
    end: Arc<AtomicUsize>,
    show: Arc<AtomicBool>,
    hangup_reported: Cell<bool>,
}

impl Signals {
    /// Catches the signals, except those that are ignored: a shell that starts a job in the background wants them ignored (POSIX,
    /// XCU 1.4, ASYNCHRONOUS EVENTS).
    pub fn new() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals = Self {
            wake,
            end: Arc::default(),
            show: Arc::default(),
            hangup_reported: Cell::default(),
        };
        let mut ends = vec![SIGINT, SIGTERM, SIGHUP];
        ends.retain(|&signal| !is_ignored(signal));
        for &signal in &ends {
            let number = signal.unsigned_abs() as usize;
            flag::register_usize(signal, Arc::clone(&signals.end), number)?;
        }
        bound_end(&ends)?;
        flag::register(SIGUSR1, Arc::clone(&signals.show))?;
        // By default it would kill the process; caught, it lets write(2) fail for a file that is too large (setrlimit(2)).
        flag::register(libc::SIGXFSZ, Arc::default())?;
        for signal in ends.into_iter().chain([SIGUSR1]) {
            // Registered after the flags: when the byte arrives, the flag is set.
            low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(signals)
    }

    /// Descriptor that is readable when a signal has come.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes the next request, if there is one; a request to end comes first.
    pub fn next(&self) -> Option<Request> {
        let mut bytes = [0; 64];
        // Emptied before the flags are read: a signal in between leaves its byte for the next call.
        while matches!((&self.wake).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        let number = u8::try_from(self.end.swap(0, Ordering::SeqCst)).unwrap_or(u8::MAX);
        // Both the kernel and a shell send SIGHUP for a lost terminal; a second one is no request to hurry.
        let is_repeated = i32::from(number) == SIGHUP && self.hangup_reported.replace(true);
        if number != 0 && !is_repeated {
            return Some(Request::End(number));
        }
        let is_asked = self.show.swap(false, Ordering::SeqCst);
        is_asked.then_some(Request::Show)
    }
}

/// Seconds that a run may take to end after a signal: more than it takes to write out what has come, and to end all children.
const END_TIMEOUT: libc::c_uint = 10;

/// Ends the process some time after one of these signals, even if the run hangs in a call such as writing to a full pipe.
fn bound_end(signals: &[libc::c_int]) -> io::Result<()> {
    let first = Arc::new(AtomicI32::new(0));
    for &signal in signals {
        let first = Arc::clone(&first);
        let start_clock = move || {
            if first.swap(signal, Ordering::SeqCst) == 0 {
                // SAFETY: it uses no memory.
                unsafe { libc::alarm(END_TIMEOUT) };
            }
        };
        // SAFETY: an atomic and alarm(2) are allowed in a handler (signal-safety(7)).
        unsafe { low_level::register(signal, start_clock) }?;
    }
    let end = move || match first.load(Ordering::SeqCst) {
        // Another process has sent SIGALRM.
        0 => low_level::exit(128 + SIGALRM),
        signal => low_level::exit(128 + signal),
    };
    // SAFETY: an atomic and _exit(2) are allowed in a handler.
    unsafe { low_level::register(SIGALRM, end) }?;
    Ok(())
}

/// Returns true if the process was started with this signal ignored, as by nohup(1) and by shells for background jobs.
fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is changed; a call that succeeds has filled the structure.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}
