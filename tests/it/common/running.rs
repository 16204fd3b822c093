//! A process that runs, and what it left when it has ended.
//! Waiting for its end is a poll of its descriptor, with a bound; dropping it kills it.

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

/// A process that runs.
pub(crate) struct Running {
    text: String,
    child: Child,
    handle: OwnedFd,
    directory: TempDir,
    ready: Option<PathBuf>,
    stdout: Option<Capture>,
    stderr: Option<Capture>,
}

/// What a process left.
#[derive(Debug)]
pub(crate) struct Done {
    /// Its exit status; 256 and more is a signal that killed it.
    pub(crate) status: i32,
    /// What it wrote to standard output.
    pub(crate) out: Vec<u8>,
    /// What it wrote to standard error.
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

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The descriptor that stands for it.
    pub(crate) fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// A file in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits for its ready file, and gives the line in it.
    #[track_caller]
    pub(crate) fn ready_line(&self) -> String {
        let ready = self.ready.as_ref().expect("a ready file");
        self.wait_for_file(ready)
    }

    /// Waits for its ready file, and gives the address in it.
    #[track_caller]
    pub(crate) fn ready(&self) -> SocketAddr {
        let line = self.ready_line();
        let (_, address) = line.trim_end().split_once(' ').expect("two words");
        address.parse().expect("an address")
    }

    /// Waits until a file is there that this process makes, and has something in it; gives that.
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

    /// Writes to its standard input; panics where nobody reads it up to the bound.
    #[track_caller]
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.child.stdin.as_mut().expect("a held standard input");
        // This end of the pipe is the test's alone, and so is the flag.
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

    /// Ends its standard input.
    pub(crate) fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// The reading end of its standard output, where that is [`super::Output::Held`].
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("a held standard output")
    }

    /// The writing end of its standard input, where that is [`super::Input::Held`].
    pub(crate) fn take_stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("a held standard input")
    }

    /// What it writes to standard output.
    pub(crate) fn out(&self) -> &Capture {
        self.stdout.as_ref().expect("a captured standard output")
    }

    /// What it writes to standard error.
    pub(crate) fn err(&self) -> &Capture {
        self.stderr.as_ref().expect("a captured standard error")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.handle, signal).unwrap();
    }

    /// Whether it has ended, or does so within this time.
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
        // Already gone, in most cases.
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

    /// Checks the exit status and that this is all it said of errors, without the program's name in front.
    #[track_caller]
    pub(crate) fn fails(self, status: i32, message: &str) -> Self {
        let done = self.exits(status);
        assert_eq!(done.errors(), message);
        done
    }

    /// The lines in which the program speaks of errors, without its name.
    pub(crate) fn errors(&self) -> String {
        let lines = self.err.lines();
        let errors: Vec<&str> = lines
            .filter_map(|line| line.strip_prefix("tuplecat: "))
            .collect();
        errors.join("\n")
    }

    /// The line of a report that begins with `word`.
    #[track_caller]
    pub(crate) fn line(&self, word: &str) -> &str {
        let mut lines = self.err.lines();
        lines
            .find(|line| line.split_whitespace().next() == Some(word))
            .unwrap_or_else(|| panic!("no line '{word}' in:\n{}", self.err))
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// The number in `line` that stands just before `text`.
#[track_caller]
pub(crate) fn number_before(line: &str, text: &str) -> u64 {
    let number = line.split_once(text).and_then(|(before, _)| {
        let digits = before.trim_end_matches(|letter: char| letter.is_ascii_digit());
        before[digits.len()..].parse().ok()
    });
    number.unwrap_or_else(|| panic!("no number before '{text}' in '{line}'"))
}

/// Checks in the closing line of a UDP socket that no datagram of those sent to it went without being counted.
#[track_caller]
pub(crate) fn nothing_uncounted(closed: &str, sent: u64) {
    let received = number_before(closed, " datagram");
    let dropped = number_before(closed, " dropped by the kernel");
    assert!(dropped > 0, "{closed}");
    // Datagrams that travelled together may be dropped, and counted, as one.
    if closed.contains("at least") {
        assert!(received + dropped <= sent, "{closed}");
    } else {
        assert_eq!(received + dropped, sent, "{closed}");
    }
}
