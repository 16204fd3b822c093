//! SIGINT, SIGTERM, SIGHUP and SIGUSR1 as bytes on a descriptor, so that the one loop sees them among everything else.
//! The handler only sets a flag and a clock, and writes a byte (signal-safety(7)); all work is done in the loop.

use std::cell::Cell;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level};

/// What the signals that came ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGINT, SIGTERM or SIGHUP: end, with this signal's number in the status.
    End(u8),
    /// SIGUSR1: show the table of sockets.
    Show,
}

/// The signals of this process, caught from the moment this is made.
pub struct Signals {
    wake: UnixStream,
    end: Arc<AtomicUsize>,
    show: Arc<AtomicBool>,
    /// Whether SIGHUP has been told.
    has_hung_up: Cell<bool>,
}

impl Signals {
    /// Starts to catch them; but what is ignored stays so, as whoever started the program wants it (POSIX, XCU 1.4, ASYNCHRONOUS EVENTS).
    pub fn new() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals = Self {
            wake,
            end: Arc::default(),
            show: Arc::default(),
            has_hung_up: Cell::default(),
        };
        let mut caught = vec![SIGUSR1];
        caught.extend(
            [SIGINT, SIGTERM, SIGHUP]
                .into_iter()
                .filter(|&signal| !is_ignored(signal)),
        );
        for &signal in &caught[1..] {
            let end = Arc::clone(&signals.end);
            flag::register_usize(signal, end, signal.unsigned_abs() as usize)?;
        }
        limit_end(&caught[1..])?;
        flag::register(SIGUSR1, Arc::clone(&signals.show))?;
        // Otherwise it would kill without a word; so writing to a file that is too large fails (setrlimit(2)).
        flag::register(libc::SIGXFSZ, Arc::default())?;
        for signal in caught {
            // Registered after the flags: when the byte arrives, the flag is set.
            low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(signals)
    }

    /// Readable when a signal has come.
    #[must_use]
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The next request, if there is one; an end comes before anything else.
    #[must_use]
    pub fn next(&self) -> Option<Request> {
        let mut bytes = [0; 64];
        // Emptied before the flags are read: a signal in between leaves its byte for the next turn.
        while matches!((&self.wake).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        let number = u8::try_from(self.end.swap(0, Ordering::SeqCst)).unwrap_or(u8::MAX);
        // Of a terminal that is gone both the kernel and a shell tell, and nobody is in a hurry there.
        let is_told = i32::from(number) == SIGHUP && self.has_hung_up.replace(true);
        if number != 0 && !is_told {
            return Some(Request::End(number));
        }
        let is_asked = self.show.swap(false, Ordering::SeqCst);
        is_asked.then_some(Request::Show)
    }
}

/// How long a run may take to end by itself once it was asked to, in seconds: more than it takes to write out what has come, and to end
/// all children.
const PATIENCE: libc::c_uint = 10;

/// Sees to it that the process ends once one of these signals has asked for that. A run that hangs in a call, such as writing a report
/// that nobody reads, does not come to see it.
fn limit_end(signals: &[libc::c_int]) -> io::Result<()> {
    let asked = Arc::new(AtomicI32::new(0));
    for &signal in signals {
        let asked = Arc::clone(&asked);
        let start_clock = move || {
            if asked.swap(signal, Ordering::SeqCst) == 0 {
                // SAFETY: it takes no memory.
                unsafe { libc::alarm(PATIENCE) };
            }
        };
        // SAFETY: an atomic and alarm(2) are all it needs, as a handler may (signal-safety(7)).
        unsafe { low_level::register(signal, start_clock) }?;
    }
    let end = move || match asked.load(Ordering::SeqCst) {
        // Somebody else has sent it.
        0 => low_level::exit(128 + SIGALRM),
        signal => low_level::exit(128 + signal),
    };
    // SAFETY: the same with _exit(2).
    unsafe { low_level::register(SIGALRM, end) }?;
    Ok(())
}

/// Whether the process was started with this signal ignored, as nohup(1) and shells in the background have it.
fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is changed; where the call succeeds it has filled the structure.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}
