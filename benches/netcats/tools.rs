//! The tools that are compared, and the command line of each for each job.
//! Peers use their best options for the job; the limit is this program itself, which does only the job.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, ensure};

/// The role of a tool in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This project's program.
    Ours,
    /// Another build of it.
    Before,
    /// A program of this benchmark that does one job in the fastest known way.
    Limit,
    /// Another netcat with default buffers.
    Peer,
    /// Another netcat with enlarged buffers.
    Tuned,
}

/// A job that a tool may support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Copies standard input to a TCP connection; ends after the end of the input.
    Send,
    /// Copies a TCP connection to standard output; ends after the peer's FIN.
    Receive,
    /// Connects and copies both directions.
    Talk,
    /// Sends a file on standard input in datagrams of SIZE bytes.
    SendBlocks,
    /// Sends each message on standard input as one datagram.
    SendMessages,
    /// Writes datagrams to standard output.
    ReceiveDatagrams,
    /// Writes the data of many clients to standard output.
    Gather,
    /// Sends back to each of many clients what it sends.
    Echo,
    /// Sends the data of one client to all others.
    Broker,
    /// `Receive` with a hex dump in FILE.
    Dump,
    /// Connects its client to TARGET, and copies both directions.
    Relay,
    /// No job: only the program file is examined.
    Exist,
}

/// A tool in the comparison.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    program: PathBuf,
    jobs: Jobs,
    /// The help text of each mode, cached.
    help: Mutex<HashMap<String, String>>,
}

/// The values for a command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Task {
    pub(crate) port: u16,
    pub(crate) target: u16,
    pub(crate) size: usize,
    pub(crate) file: PathBuf,
}

/// A complete command line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) program: PathBuf,
    pub(crate) words: Vec<String>,
    /// A file for standard error, if the job needs one.
    pub(crate) stderr: Option<PathBuf>,
}

/// All installed tools; `before` is another build of this project's program.
pub(crate) fn all(before: Option<PathBuf>) -> anyhow::Result<Vec<Tool>> {
    build_ours()?;
    let mut tools = vec![ours()];
    tools.extend(before.map(|program| Tool::new("before", Kind::Before, program, OURS)));
    let limit = std::env::current_exe()?;
    tools.push(Tool::new("limit", Kind::Limit, limit, LIMIT));
    for (name, kind, program, jobs) in PEERS {
        tools.extend(find(program).map(|path| Tool::new(name, *kind, path, jobs)));
    }
    Ok(tools)
}

/// This project's program.
pub(crate) fn ours() -> Tool {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_tuplecat"));
    Tool::new("tuplecat", Kind::Ours, program, OURS)
}

/// Builds the program as `cargo install` does. The build for benchmarks unwinds on panic, so it is larger and starts more slowly.
fn build_ours() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_BIN_EXE_tuplecat")).ancestors().nth(2);
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--bin", "tuplecat"])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(folder.context("the target directory")?)
        .status()?;
    ensure!(built.success(), "the program cannot be built: {built}");
    Ok(())
}

/// Finds a program in `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(program));
    candidates.find(|candidate| candidate.is_file())
}

type Jobs = &'static [(Job, &'static str)];

impl Tool {
    fn new(name: &'static str, kind: Kind, program: PathBuf, jobs: Jobs) -> Self {
        Self {
            name,
            kind,
            program,
            jobs,
            help: Mutex::default(),
        }
    }

    /// The command line for a job; `None` if it is not supported.
    pub(crate) fn line(&self, job: Job, task: &Task) -> Option<Line> {
        let (_, template) = self.jobs.iter().find(|(offered, _)| *offered == job)?;
        let mut words: Vec<String> = template
            .split_whitespace()
            .map(|word| {
                word.replace("HOST", &crate::ports::HOST.to_string())
                    .replace("PORT", &task.port.to_string())
                    .replace("TARGET", &task.target.to_string())
                    .replace("SIZE", &task.size.to_string())
                    .replace("FILE", &task.file.display().to_string())
            })
            .collect();
        if matches!(self.kind, Kind::Ours | Kind::Before) && !self.has_options(&words) {
            return None;
        }
        let stderr = match words.as_slice() {
            [.., arrow, path] if arrow == "2>" => Some(PathBuf::from(path)),
            _ => None,
        };
        if stderr.is_some() {
            words.truncate(words.len() - 2);
        }
        Some(Line {
            program: self.program.clone(),
            words,
            stderr,
        })
    }

    /// Returns true if the program has all options of this command line.
    fn has_options(&self, words: &[String]) -> bool {
        let Some(mode) = words.first() else {
            return true;
        };
        let Ok(mut known) = self.help.lock() else {
            return false;
        };
        let help = known.entry(mode.clone()).or_insert_with(|| {
            let output = Command::new(&self.program).args([mode, "--help"]).output();
            output.map_or(String::new(), |output| {
                String::from_utf8_lossy(&output.stdout).into_owned()
            })
        });
        let mut options = words.iter().filter(|word| word.starts_with("--"));
        options.all(|option| help.contains(option.as_str()))
    }

    /// The path of the program, with links resolved.
    pub(crate) fn program(&self) -> std::io::Result<PathBuf> {
        Path::new(&self.program).canonicalize()
    }
}

const OURS: &[(Job, &str)] = &[
    (Job::Send, "tcp-connect -q HOST PORT"),
    (Job::Receive, "tcp-listen -q --recv-only HOST PORT"),
    (Job::Talk, "tcp-connect -q HOST PORT"),
    (
        Job::SendBlocks,
        "udp-sendto -q --connected --reply-timeout 0 --datagram-size SIZE HOST PORT",
    ),
    (
        Job::SendMessages,
        "udp-sendto -q --reply-timeout 0 --datagram-size 65507 HOST PORT",
    ),
    (Job::ReceiveDatagrams, "udp-bind -q HOST PORT"),
    (
        Job::Gather,
        "tcp-listen -q --keep-open --recv-only HOST PORT",
    ),
    (Job::Echo, "tcp-listen -q --keep-open --echo HOST PORT"),
    (Job::Broker, "tcp-listen -q --keep-open --broker HOST PORT"),
    (
        Job::Dump,
        "tcp-listen -q --recv-only --hex-file FILE HOST PORT",
    ),
    (Job::Relay, "tcp-listen -q HOST PORT --to HOST:TARGET"),
    (Job::Exist, ""),
];

const LIMIT: &[(Job, &str)] = &[
    (Job::Send, "limit send HOST PORT"),
    (Job::Receive, "limit receive HOST PORT"),
    (Job::Talk, "limit talk HOST PORT"),
    (Job::SendBlocks, "limit send-blocks HOST PORT SIZE"),
    (Job::SendMessages, "limit send-messages HOST PORT SIZE"),
    (Job::ReceiveDatagrams, "limit receive-datagrams HOST PORT"),
    (Job::Gather, "limit gather HOST PORT"),
    (Job::Echo, "limit echo HOST PORT"),
    (Job::Broker, "limit broker HOST PORT"),
    (Job::Dump, "limit dump HOST PORT FILE"),
    (Job::Relay, "limit relay HOST PORT TARGET"),
];

const PEERS: &[(&str, Kind, &str, Jobs)] = &[
    ("nc.openbsd", Kind::Peer, "nc.openbsd", OPENBSD),
    ("nc.traditional", Kind::Peer, "nc.traditional", TRADITIONAL),
    ("ncat", Kind::Peer, "ncat", NCAT),
    ("socat", Kind::Peer, "socat", SOCAT),
    ("socat tuned", Kind::Tuned, "socat", SOCAT_TUNED),
    ("haproxy", Kind::Peer, "haproxy", HAPROXY),
    ("rinetd", Kind::Peer, "rinetd", RINETD),
];

const HAPROXY: &[(Job, &str)] = &[(Job::Relay, "-db -q -f FILE")];

const RINETD: &[(Job, &str)] = &[(Job::Relay, "-f -c FILE")];

const OPENBSD: &[(Job, &str)] = &[
    (Job::Send, "-n -N HOST PORT"),
    (Job::Receive, "-n -l HOST PORT"),
    (Job::Talk, "-n -N HOST PORT"),
    (Job::SendBlocks, "-n -u HOST PORT"),
    (Job::SendMessages, "-n -u HOST PORT"),
    (Job::ReceiveDatagrams, "-n -u -l HOST PORT"),
    (Job::Gather, "-n -k -l HOST PORT"),
    (Job::Exist, ""),
];

const TRADITIONAL: &[(Job, &str)] = &[
    (Job::Send, "-n -q 0 HOST PORT"),
    (Job::Receive, "-n -l -s HOST -p PORT"),
    (Job::Talk, "-n -q 0 HOST PORT"),
    (Job::SendBlocks, "-n -u HOST PORT"),
    (Job::SendMessages, "-n -u HOST PORT"),
    (Job::ReceiveDatagrams, "-n -u -l -s HOST -p PORT"),
    (Job::Dump, "-n -l -s HOST -p PORT -o FILE"),
    (Job::Exist, ""),
];

const NCAT: &[(Job, &str)] = &[
    (Job::Send, "-n --send-only HOST PORT"),
    (Job::Receive, "-n -l --recv-only HOST PORT"),
    (Job::Talk, "-n HOST PORT"),
    (Job::SendBlocks, "-n -u --send-only HOST PORT"),
    (Job::SendMessages, "-n -u --send-only HOST PORT"),
    (Job::ReceiveDatagrams, "-n -u -l --recv-only HOST PORT"),
    (Job::Gather, "-n -k -l -m 20000 --recv-only HOST PORT"),
    (Job::Echo, "-n -k -l -m 20000 -e /bin/cat HOST PORT"),
    (Job::Broker, "-n -l -m 20000 --broker HOST PORT"),
    (Job::Dump, "-n -l --recv-only -x FILE HOST PORT"),
    (Job::Exist, ""),
];

const SOCAT: &[(Job, &str)] = &[
    (Job::Send, "-u STDIN TCP4:HOST:PORT"),
    (
        Job::Receive,
        "-u TCP4-LISTEN:PORT,bind=HOST,reuseaddr STDOUT",
    ),
    (Job::Talk, "STDIO TCP4:HOST:PORT"),
    (Job::SendBlocks, "-u -b SIZE STDIN UDP4:HOST:PORT"),
    (Job::SendMessages, "-u -b 65507 STDIN UDP4:HOST:PORT"),
    (
        Job::ReceiveDatagrams,
        "-u -b 65507 UDP4-RECV:PORT,bind=HOST STDOUT",
    ),
    (
        Job::Gather,
        "-u TCP4-LISTEN:PORT,bind=HOST,reuseaddr,fork,backlog=4096 STDOUT",
    ),
    (
        Job::Echo,
        "TCP4-LISTEN:PORT,bind=HOST,reuseaddr,fork,backlog=4096 PIPE",
    ),
    (
        Job::Dump,
        "-u -x TCP4-LISTEN:PORT,bind=HOST,reuseaddr STDOUT 2> FILE",
    ),
    (
        Job::Relay,
        "TCP4-LISTEN:PORT,bind=HOST,reuseaddr TCP4:HOST:TARGET",
    ),
    (Job::Exist, ""),
];

const SOCAT_TUNED: &[(Job, &str)] = &[
    (
        Job::Send,
        "-u -b 1048576 STDIN TCP4:HOST:PORT,sndbuf=4194304",
    ),
    (
        Job::Receive,
        "-u -b 1048576 TCP4-LISTEN:PORT,bind=HOST,reuseaddr,rcvbuf=4194304 STDOUT",
    ),
    (
        Job::ReceiveDatagrams,
        "-u -b 65507 UDP4-RECV:PORT,bind=HOST,rcvbuf=4194304 STDOUT",
    ),
    (
        Job::Dump,
        "-u -b 1048576 -x TCP4-LISTEN:PORT,bind=HOST,reuseaddr,rcvbuf=4194304 STDOUT 2> FILE",
    ),
    (
        Job::Relay,
        "-b 262144 TCP4-LISTEN:PORT,bind=HOST,reuseaddr TCP4:HOST:TARGET",
    ),
];
