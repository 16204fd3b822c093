//! A process before its start: arguments, environment, and where its standard descriptors lead.
//! A shell does what only a shell can do before exec, such as closing a descriptor.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, PipeWriter, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Once};
use std::thread;

use rustix::fs::{OFlags, fcntl_setfl};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT};

use super::{Capture, Done, Faults, Namespace, Running};

/// The source of standard input.
pub(crate) enum Input {
    /// `/dev/null`.
    Null,
    /// None: the descriptor is closed.
    Closed,
    /// A pipe that the test writes to: [`Running::write`], [`Running::close_stdin`].
    Held,
    /// The same, with these bytes in it before the process starts. Any pipe has room for 4096 (pipe(7)).
    Begun(Vec<u8>),
    /// A pipe with these bytes and an end. As much as it has room for is in it before the process starts.
    Bytes(Vec<u8>),
    /// A file, a terminal, a socket.
    From(OwnedFd),
}

/// The destination of standard output or standard error.
pub(crate) enum Output {
    /// Memory.
    Captured,
    /// A pipe that the test reads from: [`Running::take_stdout`].
    Held,
    /// `/dev/null`.
    Null,
    /// None: the descriptor is closed.
    Closed,
    /// A file, a terminal, a socket.
    To(OwnedFd),
}

/// A process before its start.
pub(crate) struct Launch {
    program: OsString,
    words: Vec<OsString>,
    /// A command that runs the rest, such as nsenter(1).
    entrance: Vec<String>,
    environment: Vec<(String, String)>,
    faults: Vec<Faults>,
    input: Input,
    output: Output,
    errors: Output,
    redirections: Vec<String>,
    ready_file: Ready,
}

/// The place of the ready file.
enum Ready {
    /// No ready file.
    Nowhere,
    /// The directory of the process.
    Own,
    /// A path that the test chooses.
    At(PathBuf),
}

/// Launches the program under test with these arguments, split at white space. A mode gets a ready file of its own.
pub(crate) fn tuplecat(words: &str) -> Launch {
    let launch = program(env!("CARGO_BIN_EXE_tuplecat"), words);
    let mode = launch.words.first().and_then(|word| word.to_str());
    let ready_file = match mode {
        Some(mode)
            if ["tcp-", "udp-", "unix-"]
                .iter()
                .any(|start| mode.starts_with(start)) =>
        {
            Ready::Own
        }
        _ => Ready::Nowhere,
    };
    Launch {
        ready_file,
        ..launch
    }
}

/// Launches another program with these arguments, split at white space.
pub(crate) fn program(path: impl AsRef<OsStr>, words: &str) -> Launch {
    Launch {
        program: path.as_ref().to_owned(),
        words: words.split_whitespace().map(OsString::from).collect(),
        entrance: Vec::new(),
        environment: Vec::new(),
        faults: Vec::new(),
        input: Input::Null,
        output: Output::Captured,
        errors: Output::Captured,
        redirections: Vec::new(),
        ready_file: Ready::Nowhere,
    }
}

/// Returns true if a program is in the search path.
pub(crate) fn is_installed(name: &str) -> bool {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories).any(|directory| directory.join(name).is_file())
}

/// Prints that a test is skipped, and the reason, even where the test runner captures output.
pub(crate) fn skip(reason: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    // Without a standard error there is no reader to notify.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {reason}");
}

impl Launch {
    /// Adds one argument.
    pub(crate) fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.words.push(word.as_ref().to_owned());
        self
    }

    /// Adds arguments, split at white space.
    pub(crate) fn args(mut self, words: &str) -> Self {
        self.words
            .extend(words.split_whitespace().map(OsString::from));
        self
    }

    /// Adds a host and a port.
    pub(crate) fn to(self, address: SocketAddr) -> Self {
        self.arg(address.ip().to_string())
            .arg(address.port().to_string())
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the source of standard input; `/dev/null` by default.
    pub(crate) fn stdin(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    /// Makes standard input a pipe with these bytes and an end.
    pub(crate) fn says(self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin(Input::Bytes(bytes.as_ref().to_vec()))
    }

    /// Sets the destination of standard output; memory by default.
    pub(crate) fn stdout(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Sets the destination of standard error; memory by default.
    pub(crate) fn stderr(mut self, output: Output) -> Self {
        self.errors = output;
        self
    }

    /// Sets the path of the ready file.
    pub(crate) fn ready_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.ready_file = Ready::At(path.into());
        self
    }

    /// Runs it in a network namespace.
    pub(crate) fn within(mut self, namespace: &Namespace) -> Self {
        self.entrance = namespace.entrance();
        self
    }

    /// Runs it under a limit, in the syntax of the shell's `ulimit`.
    pub(crate) fn limited(mut self, limit: &str) -> Self {
        let line = format!("ulimit {limit} && exec \"$0\" \"$@\"");
        self.entrance = ["/bin/sh", "-c", &line].map(str::to_owned).to_vec();
        self
    }

    /// Makes system calls fail. The caller checks [`super::has_faults`].
    pub(crate) fn with_faults(mut self, faults: Faults) -> Self {
        self.faults.push(faults);
        self
    }

    /// Makes some of the system calls fail, in the syntax of strace(1). The caller checks [`super::has_strace`].
    pub(crate) fn failing_at(mut self, calls: &str, error: &str, times: &str) -> Self {
        let inject = format!("inject={calls}:error={error}:when={times}");
        // The tracer is not the parent: signals and the status are those of the program.
        let words = [
            "strace",
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &inject,
        ];
        self.entrance = words.map(str::to_owned).to_vec();
        self
    }

    /// Removes the ready file: the arguments are all there is.
    pub(crate) fn bare(mut self) -> Self {
        self.ready_file = Ready::Nowhere;
        self
    }

    /// Adds a redirection in the shell's syntax, such as `3>file`. Relative names belong to the directory of the process.
    pub(crate) fn redirect(mut self, redirection: &str) -> Self {
        self.redirections.push(redirection.to_owned());
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Done {
        self.start().wait()
    }

    /// Starts it in a directory of its own.
    #[track_caller]
    pub(crate) fn start(mut self) -> Running {
        let directory = tempfile::tempdir().unwrap();
        let ready = match self.ready_file {
            Ready::Nowhere => None,
            Ready::Own => Some(directory.path().join("ready")),
            Ready::At(path) => Some(path),
        };
        if let Some(path) = &ready {
            let words = [OsString::from("--ready-file"), path.into()];
            self.words.splice(1..1, words);
        }
        if let Some((first, others)) = self.entrance.split_first() {
            let program = std::mem::replace(&mut self.program, first.into());
            let others = others.iter().map(OsString::from);
            self.words.splice(0..0, others.chain([program]));
        }
        for (is_closed, redirection) in [
            (matches!(self.input, Input::Closed), "<&-"),
            (matches!(self.output, Output::Closed), ">&-"),
            (matches!(self.errors, Output::Closed), "2>&-"),
        ] {
            if is_closed {
                self.redirections.push(redirection.to_owned());
            }
        }
        let text = format!("{} {:?}", self.program.display(), self.words);
        let (input, writer, rest) = source(self.input);
        let is_held = matches!(self.output, Output::Held);
        let mut command = wrapped(&self.program, &self.redirections);
        command
            .args(&self.words)
            .envs(self.environment)
            .env("RUST_BACKTRACE", "0")
            .current_dir(directory.path())
            .stdin(input)
            .stdout(leading_to(self.output))
            .stderr(leading_to(self.errors));
        hear_signals();
        let started = Faults::start(&self.faults, &mut command);
        let mut child = started.unwrap_or_else(|error| panic!("cannot start {text}: {error}"));
        // Copies of the child's descriptors in this process would keep pipes and terminals open.
        drop(command);
        match (writer, rest) {
            (Some(mut writer), Some(rest)) => {
                // The process may end before it has read everything. The test judges by what it writes.
                thread::spawn(move || drop(writer.write_all(&rest)));
            }
            (writer, _) => child.stdin = writer.map(|writer| OwnedFd::from(writer).into()),
        }
        let stdout = child.stdout.take_if(|_| !is_held).map(Capture::start);
        let stderr = child.stderr.take().map(Capture::start);
        Running::new(text, child, directory, ready, (stdout, stderr))
    }
}

/// Catches signals that this process ignores, as under nohup(1). A child inherits an ignored signal, but not a handler (execve(2)).
fn hear_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
        for signal in [SIGHUP, SIGINT, SIGQUIT] {
            if ignored.is_some_and(|set| set >> (signal - 1) & 1 == 1) {
                signal_hook::flag::register(signal, Arc::default()).unwrap();
            }
        }
    });
}

/// Builds a command for `program`, through a shell if there are redirections.
fn wrapped(program: &OsStr, redirections: &[String]) -> Command {
    let mut command;
    if redirections.is_empty() {
        command = Command::new(program);
    } else {
        command = Command::new("/bin/sh");
        let line = format!("exec \"$0\" \"$@\" {}", redirections.join(" "));
        command.arg("-c").arg(line).arg(program);
    }
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
    // Most tests read reports, which a pipe gets only on request.
    command.env("TUPLECAT_REPORT", "events");
    command
}

/// Returns standard input for a process, the writing end of its pipe, and the bytes that the pipe has no room for yet.
fn source(input: Input) -> (Stdio, Option<PipeWriter>, Option<Vec<u8>>) {
    let (bytes, ends) = match input {
        Input::Null | Input::Closed => return (Stdio::null(), None, None),
        Input::From(fd) => return (Stdio::from(fd), None, None),
        Input::Held => (Vec::new(), false),
        Input::Begun(bytes) => (bytes, false),
        Input::Bytes(bytes) => (bytes, true),
    };
    let (reader, mut writer) = io::pipe().unwrap();
    // A single write, so that the process can read it with a single read.
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let count = match bytes.as_slice() {
        [] => 0,
        bytes => writer.write(bytes).unwrap(),
    };
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    let rest = bytes[count..].to_vec();
    match (ends, rest.is_empty()) {
        (true, true) => (reader.into(), None, None),
        (true, false) => (reader.into(), Some(writer), Some(rest)),
        (false, true) => (reader.into(), Some(writer), None),
        (false, false) => panic!("a pipe has no room for so much"),
    }
}

fn leading_to(output: Output) -> Stdio {
    match output {
        Output::Captured | Output::Held => Stdio::piped(),
        Output::Null | Output::Closed => Stdio::null(),
        Output::To(fd) => Stdio::from(fd),
    }
}
