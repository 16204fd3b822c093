//! Ports of the loopback interface: finding a free one, and waiting until somebody has it.
//! The kernel's tables are read for that, so that nobody is disturbed by a trial connection.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::scene::{Actor, Scene};

/// Where everything happens.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// How long a tool may take to open its socket.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to wait for on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A TCP socket listens.
    Listening,
    /// A TCP connection exists.
    Connected,
    /// A UDP socket is bound.
    Bound,
}

/// A port that nobody uses now.
pub(crate) fn free() -> std::io::Result<u16> {
    Ok(TcpListener::bind((HOST, 0))?.local_addr()?.port())
}

/// Waits until `port` is in a state that a process of the scene is to bring about.
pub(crate) fn wait_for(
    port: u16,
    state: State,
    scene: &mut Scene,
    actor: Actor,
) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !is(port, state) {
        if scene.wait(actor, Duration::ZERO)?.is_some() {
            bail!(
                "ended before its socket was {state:?}: {}",
                scene.complaint(actor)
            );
        }
        if Instant::now() > until {
            bail!(
                "its socket was not {state:?} in {PATIENCE:?}: {}",
                scene.complaint(actor)
            );
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// Looks the state up (`proc_net(5)`: the local address is the second word of a line, the state the fourth, in hexadecimal).
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
            // A receiver that says at once that it will not send is connected all the same.
            is_local && is_listening == (state == State::Listening)
        })
    })
}
