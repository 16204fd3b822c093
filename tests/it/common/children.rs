//! What tests of children share: a child for a client, and what the system knows of processes.
//! A process that has ended and is not reaped yet is still in the table, and no longer alive.

use std::fs;
use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{BOUND, Launch, Running, connect, tuplecat};

/// The program under test with a command for the shell as its last words.
pub(crate) fn shell(words: &str, command: &str) -> Launch {
    tuplecat(words).args("--exec sh -c").arg(command)
}

/// A listener with a child for its one client, and that client.
pub(crate) fn meet_child(command: &str) -> (Running, TcpStream) {
    let running = shell("tcp-listen 0", command).start();
    let peer = connect(running.ready());
    (running, peer)
}

/// Ends the peer's direction.
pub(crate) fn finish(peer: &TcpStream) {
    peer.shutdown(Shutdown::Write).unwrap();
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < deadline, "waited for this in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The processes that a process has started and not reaped.
pub(crate) fn children_of(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Whether a process runs. One whose parent has gone may stay in the table until somebody else reaps it.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    let stat = stat.unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// The first line that a peer is sent.
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
