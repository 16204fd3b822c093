//! Ports of the loopback interface: the search for a free one, and the wait until a tool uses it.
//! The wait reads the tables of the kernel, because a trial connection would disturb the tool.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::processes::{ProcessId, Processes};

/// Address of all sockets.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Time limit for a tool to open its socket.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// State of a port to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A TCP socket listens.
    Listening,
    /// A TCP connection exists.
    Connected,
    /// A UDP socket is bound.
    Bound,
}

/// Returns a port that is not in use.
pub(crate) fn free() -> std::io::Result<u16> {
    Ok(TcpListener::bind((HOST, 0))?.local_addr()?.port())
}

/// Waits until `process` has brought `port` into this state.
pub(crate) fn wait_for(
    port: u16,
    state: State,
    processes: &mut Processes,
    process: ProcessId,
) -> anyhow::Result<()> {
    let until = Instant::now() + OPEN_TIMEOUT;
    while !is(port, state) {
        if processes.wait(process, Duration::ZERO)?.is_some() {
            bail!(
                "ended before its socket was {state:?}: {}",
                processes.error_text(process)
            );
        }
        if Instant::now() > until {
            bail!(
                "its socket was not {state:?} in {OPEN_TIMEOUT:?}: {}",
                processes.error_text(process)
            );
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Looks up the state (`proc_net(5)`: the local address is the second word of a line, the state the fourth, in hexadecimal).
fn is(port: u16, state: State) -> bool {
    const LISTEN: &str = "0A";
    let tables = match state {
        State::Listening | State::Connected => ["tcp", "tcp6"],
        State::Bound => ["udp", "udp6"],
    };
    let suffix = format!(":{port:04X}");
    tables.iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
        text.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let is_local = words.next().is_some_and(|local| local.ends_with(&suffix));
            let is_listening = words.nth(1) == Some(LISTEN);
            // A receiver that has already sent its FIN counts as connected.
            is_local && is_listening == (state == State::Listening)
        })
    })
}
