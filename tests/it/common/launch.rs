//! A process that is about to start: its words, its environment, and where its three standard descriptors lead.
//! What only a shell can do before exec, such as closing a descriptor, a shell does.

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

/// Where standard input comes from.
pub(crate) enum Input {
    /// `/dev/null`.
    Null,
    /// Nowhere: closed.
    Closed,
    /// A pipe that the test writes to: [`Running::write`], [`Running::close_stdin`].
    Held,
    /// The same, with these bytes in it before the process starts: as few as every pipe has room for (4096, pipe(7)).
    Begun(Vec<u8>),
    /// A pipe that gives these bytes and ends. Those that it has room for are there before the process starts.
    Bytes(Vec<u8>),
    /// A file, a terminal, a socket.
    From(OwnedFd),
}

/// Where standard output or standard error leads to.
pub(crate) enum Output {
    /// Into memory.
    Captured,
    /// A pipe that the test reads from: [`Running::take_stdout`].
    Held,
    /// `/dev/null`.
    Null,
    /// Nowhere: closed.
    Closed,
    /// A file, a terminal, a socket.
    To(OwnedFd),
}

/// A process that is about to start.
pub(crate) struct Launch {
    program: OsString,
    words: Vec<OsString>,
    /// Words that run the rest somewhere else.
    entrance: Vec<String>,
    environment: Vec<(String, String)>,
    faults: Vec<Faults>,
    input: Input,
    output: Output,
    errors: Output,
    redirections: Vec<String>,
    ready_file: Ready,
}

/// Where the ready file is.
enum Ready {
    /// There is none.
    Nowhere,
    /// In the process's own directory.
    Own,
    /// Where the test says.
    At(PathBuf),
}

/// The program under test with these words, split at white space. A mode gets a ready file of its own.
pub(crate) fn tuplecat(words: &str) -> Launch {
    let launch = program(env!("CARGO_BIN_EXE_tuplecat"), words);
    let mode = launch.words.first().and_then(|word| word.to_str());
    let ready_file = match mode {
        Some("tcp-listen" | "tcp-connect" | "udp-bind" | "udp-sendto") => Ready::Own,
        _ => Ready::Nowhere,
    };
    Launch {
        ready_file,
        ..launch
    }
}

/// Another program with these words, split at white space.
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

/// Whether a program can be started from here.
pub(crate) fn is_installed(name: &str) -> bool {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories).any(|directory| directory.join(name).is_file())
}

/// Says that a test could not do its work here, past the capture of the test runner.
pub(crate) fn skip(reason: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test").to_owned();
    // Nobody reads a notice that cannot be written.
    let _ = writeln!(std::io::stderr(), "skipped {test}: {reason}");
}

impl Launch {
    /// One more word, taken as it is.
    pub(crate) fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.words.push(word.as_ref().to_owned());
        self
    }

    /// More words, split at white space.
    pub(crate) fn args(mut self, words: &str) -> Self {
        self.words
            .extend(words.split_whitespace().map(OsString::from));
        self
    }

    /// Two more words: host and port.
    pub(crate) fn to(self, address: SocketAddr) -> Self {
        self.arg(address.ip().to_string())
            .arg(address.port().to_string())
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where standard input comes from; `/dev/null` if nothing is said.
    pub(crate) fn stdin(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    /// A standard input that gives these bytes and ends.
    pub(crate) fn says(self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin(Input::Bytes(bytes.as_ref().to_vec()))
    }

    /// Where standard output leads to; into memory if nothing is said.
    pub(crate) fn stdout(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Where standard error leads to; into memory if nothing is said.
    pub(crate) fn stderr(mut self, output: Output) -> Self {
        self.errors = output;
        self
    }

    /// Where to make the ready file.
    pub(crate) fn ready_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.ready_file = Ready::At(path.into());
        self
    }

    /// Runs it in a network of the test's own.
    pub(crate) fn within(mut self, namespace: &Namespace) -> Self {
        self.entrance = namespace.entrance();
        self
    }

    /// Runs it under a limit, in the words of the shell's `ulimit`.
    pub(crate) fn limited(mut self, limit: &str) -> Self {
        let line = format!("ulimit {limit} && exec \"$0\" \"$@\"");
        self.entrance = ["/bin/sh", "-c", &line].map(str::to_owned).to_vec();
        self
    }

    /// Lets system calls fail; only where there are [`super::has_faults`].
    pub(crate) fn with_faults(mut self, faults: Faults) -> Self {
        self.faults.push(faults);
        self
    }

    /// Lets system calls fail at some of the times, in the words of strace(1); only where there is [`super::has_strace`].
    pub(crate) fn failing_at(mut self, calls: &str, error: &str, times: &str) -> Self {
        let inject = format!("inject={calls}:error={error}:when={times}");
        // The tracer is not its parent: signals and the status are those of the program.
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

    /// No ready file: the words are all there is.
    pub(crate) fn bare(mut self) -> Self {
        self.ready_file = Ready::Nowhere;
        self
    }

    /// A redirection as the shell writes it, such as `3>file`; relative names are those of the process's own directory.
    pub(crate) fn redirect(mut self, redirection: &str) -> Self {
        self.redirections.push(redirection.to_owned());
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(self) -> Done {
        self.start().wait()
    }

    /// Starts it, in a directory of its own.
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
        // The parent's copies of what the child got would keep pipes and terminals open.
        drop(command);
        match (writer, rest) {
            (Some(mut writer), Some(rest)) => {
                // A process that leaves before it has read everything is for the test to judge.
                thread::spawn(move || drop(writer.write_all(&rest)));
            }
            (writer, _) => child.stdin = writer.map(|writer| OwnedFd::from(writer).into()),
        }
        let stdout = child.stdout.take_if(|_| !is_held).map(Capture::start);
        let stderr = child.stderr.take().map(Capture::start);
        Running::new(text, child, directory, ready, (stdout, stderr))
    }
}

/// What is ignored here would be ignored by whatever is started, as nohup(1) and shells in the background have it; what is caught is
/// not (execve(2)).
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

/// A command for `program`, through a shell where there is something to redirect first.
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
    command
}

/// Standard input for a process, the writing end where it is a pipe, and the bytes that do not fit into it yet.
fn source(input: Input) -> (Stdio, Option<PipeWriter>, Option<Vec<u8>>) {
    let (bytes, ends) = match input {
        Input::Null | Input::Closed => return (Stdio::null(), None, None),
        Input::From(fd) => return (Stdio::from(fd), None, None),
        Input::Held => (Vec::new(), false),
        Input::Begun(bytes) => (bytes, false),
        Input::Bytes(bytes) => (bytes, true),
    };
    let (reader, mut writer) = io::pipe().unwrap();
    // All of it at once, so that what is shorter than the pipe is read in one piece.
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
