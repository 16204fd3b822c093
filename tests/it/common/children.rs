//! Child processes: a listener that runs one for its client, and the state of processes in /proc.
//! A zombie is still in the process table, but not alive.

use std::fs;
use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{BOUND, Launch, Running, connect, tuplecat};

/// Launches the program under test with `--exec sh -c COMMAND`.
pub(crate) fn shell(words: &str, command: &str) -> Launch {
    tuplecat(words).args("--exec sh -c").arg(command)
}

/// Starts a listener with a child process, and connects one client to it.
pub(crate) fn meet_child(command: &str) -> (Running, TcpStream) {
    let running = shell("tcp-listen 0", command).start();
    let peer = connect(running.ready());
    (running, peer)
}

/// Shuts the peer's socket down for writing.
pub(crate) fn finish(peer: &TcpStream) {
    peer.shutdown(Shutdown::Write).unwrap();
}

/// Waits until `holds` is true; panics at the bound. `what` describes it.
#[track_caller]
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < deadline, "waited for this in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the children of a process that are not reaped yet.
pub(crate) fn children_of(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Returns true unless the process is gone or a zombie. An orphan may stay a zombie until another process reaps it.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    let stat = stat.unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// Reads one line from a connection.
#[track_caller]
pub(crate) fn read_line(mut stream: &TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}
