//! A running process, and the result of one that has ended.
//! A process is killed when it is dropped. Waiting for its end polls its pidfd, with a bound.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use super::{BOUND, Capture, is_ready_within};

/// A running process.
pub(crate) struct Running {
    text: String,
    child: Child,
    handle: OwnedFd,
    directory: TempDir,
    ready: Option<PathBuf>,
    stdout: Option<Capture>,
    stderr: Option<Capture>,
}

/// The result of a process that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// The exit status, or 256 plus the signal that killed it.
    pub(crate) status: i32,
    /// Its standard output.
    pub(crate) out: Vec<u8>,
    /// Its standard error.
    pub(crate) err: String,
}

impl Running {
    pub(super) fn new(
        text: String,
        child: Child,
        directory: TempDir,
        ready: Option<PathBuf>,
        (stdout, stderr): (Option<Capture>, Option<Capture>),
    ) -> Self {
        let pid = Pid::from_child(&child);
        Self {
            handle: pidfd_open(pid, PidfdFlags::empty()).unwrap(),
            text,
            child,
            directory,
            ready,
            stdout,
            stderr,
        }
    }

    /// Returns its process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its pidfd.
    pub(crate) fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// Returns the path of a file in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits for its ready file, and returns the line in it.
    #[track_caller]
    pub(crate) fn ready_line(&self) -> String {
        let ready = self.ready.as_ref().expect("a ready file");
        self.wait_for_file(ready)
    }

    /// Waits for its ready file, and returns the address in it.
    #[track_caller]
    pub(crate) fn ready(&self) -> SocketAddr {
        let line = self.ready_line();
        let (_, address) = line.trim_end().split_once(' ').expect("two words");
        address.parse().expect("an address")
    }

    /// Waits until this process has written something to a file, and returns that.
    #[track_caller]
    pub(crate) fn wait_for_file(&self, path: &Path) -> String {
        let deadline = Instant::now() + BOUND;
        loop {
            let has_ended = self.has_ended_within(Duration::ZERO);
            if let Ok(text) = fs::read_to_string(path)
                && !text.is_empty()
            {
                return text;
            }
            assert!(
                !has_ended && Instant::now() < deadline,
                "{} made no file {}; standard error:\n{}",
                self.text,
                path.display(),
                String::from_utf8_lossy(&self.err().so_far())
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes to its standard input; panics if the process does not read it.
    #[track_caller]
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.child.stdin.as_mut().expect("a held standard input");
        // No other process has this end of the pipe, and thus its flags.
        fcntl_setfl(&stdin, OFlags::NONBLOCK).unwrap();
        let mut left = bytes.as_ref();
        while !left.is_empty() {
            match stdin.write(left) {
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let is_room = is_ready_within(&stdin, PollFlags::OUT, BOUND);
                    assert!(is_room, "{} does not read its input", self.text);
                }
                Err(error) => panic!("{} is gone: {error}", self.text),
            }
        }
        fcntl_setfl(&stdin, OFlags::empty()).unwrap();
    }

    /// Closes its standard input.
    pub(crate) fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Returns the reading end of its standard output, for [`super::Output::Held`].
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("a held standard output")
    }

    /// Returns the writing end of its standard input, for [`super::Input::Held`].
    pub(crate) fn take_stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("a held standard input")
    }

    /// Returns its captured standard output.
    pub(crate) fn out(&self) -> &Capture {
        self.stdout.as_ref().expect("a captured standard output")
    }

    /// Returns its captured standard error.
    pub(crate) fn err(&self) -> &Capture {
        self.stderr.as_ref().expect("a captured standard error")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.handle, signal).unwrap();
    }

    /// Returns true if it has ended, or ends within this time.
    pub(crate) fn has_ended_within(&self, time: Duration) -> bool {
        is_ready_within(&self.handle, PollFlags::IN, time)
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Done {
        if !self.has_ended_within(BOUND) {
            let err = self.stderr.as_ref().map(Capture::so_far);
            panic!(
                "{} does not end; standard error:\n{}",
                self.text,
                String::from_utf8_lossy(&err.unwrap_or_default())
            );
        }
        let status = self.child.wait().unwrap();
        let text = |capture: &Option<Capture>| {
            let capture = capture.as_ref();
            capture.map(Capture::finish).unwrap_or_default()
        };
        Done {
            status: status
                .code()
                .unwrap_or_else(|| 256 + status.signal().unwrap_or(0)),
            out: text(&self.stdout),
            err: String::from_utf8(text(&self.stderr)).expect("text on standard error"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // In most cases the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Done {
    /// Checks the exit status.
    #[track_caller]
    pub(crate) fn exits(self, status: i32) -> Self {
        assert_eq!(
            self.status, status,
            "exit status; standard error:\n{}",
            self.err
        );
        self
    }

    /// Checks the exit status, and that its error messages, without the program's name, are exactly `message`.
    #[track_caller]
    pub(crate) fn fails(self, status: i32, message: &str) -> Self {
        let done = self.exits(status);
        assert_eq!(done.errors(), message);
        done
    }

    /// Returns its error messages, without the program's name.
    pub(crate) fn errors(&self) -> String {
        let lines = self.err.lines();
        let errors: Vec<&str> = lines
            .filter_map(|line| line.strip_prefix("tuplecat: "))
            .collect();
        errors.join("\n")
    }

    /// Returns the line of its report that begins with `word`.
    #[track_caller]
    pub(crate) fn line(&self, word: &str) -> &str {
        let mut lines = self.err.lines();
        lines
            .find(|line| line.split_whitespace().next() == Some(word))
            .unwrap_or_else(|| panic!("no line '{word}' in:\n{}", self.err))
    }

    /// Returns standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// Returns the number before `text` in `line`.
#[track_caller]
pub(crate) fn number_before(line: &str, text: &str) -> u64 {
    let number = line.split_once(text).and_then(|(before, _)| {
        let digits = before.trim_end_matches(|letter: char| letter.is_ascii_digit());
        before[digits.len()..].parse().ok()
    });
    number.unwrap_or_else(|| panic!("no number before '{text}' in '{line}'"))
}

/// Checks in the closing line of a UDP socket that every datagram sent to it was received or counted as dropped.
#[track_caller]
pub(crate) fn nothing_uncounted(closed: &str, sent: u64) {
    let received = number_before(closed, " datagram");
    let dropped = number_before(closed, " dropped by the kernel");
    assert!(dropped > 0, "{closed}");
    // The kernel may drop, and count, several datagrams as one (GRO).
    if closed.contains("at least") {
        assert!(received + dropped <= sent, "{closed}");
    } else {
        assert_eq!(received + dropped, sent, "{closed}");
    }
}
