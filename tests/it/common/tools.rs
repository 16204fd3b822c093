//! The other netcats: the arguments with which each connects, listens, and uses UDP.
//! They differ in their syntax, and in what they take for the end of a transfer.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tuplecat::flow::Transport;

use super::{BOUND, Input, LOOPBACK, Launch, Running, is_installed, program, refusing, skip};

/// A tool, and its arguments to connect to 127.0.0.1 PORT, to listen there, to send datagrams there, and to receive them there.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) connects: &'static str,
    pub(crate) listens: &'static str,
    pub(crate) sends: Option<&'static str>,
    pub(crate) binds: Option<&'static str>,
}

pub(crate) const TOOLS: [Tool; 6] = [
    Tool {
        program: "nc.openbsd",
        connects: "-N 127.0.0.1 PORT",
        listens: "-l 127.0.0.1 PORT",
        sends: Some("-u 127.0.0.1 PORT"),
        binds: Some("-u -l 127.0.0.1 PORT"),
    },
    Tool {
        program: "nc.traditional",
        connects: "-q 1 127.0.0.1 PORT",
        listens: "-l -s 127.0.0.1 -p PORT",
        sends: Some("-u 127.0.0.1 PORT"),
        binds: Some("-u -l -s 127.0.0.1 -p PORT"),
    },
    Tool {
        program: "ncat",
        connects: "127.0.0.1 PORT",
        listens: "-l 127.0.0.1 PORT",
        sends: Some("-u 127.0.0.1 PORT"),
        binds: Some("-u -l 127.0.0.1 PORT"),
    },
    Tool {
        program: "socat",
        // It leaves after so many silent seconds once one direction has ended: half a second without -t, which passes on a busy machine
        // before the first byte.
        connects: "-t 60 - TCP:127.0.0.1:PORT",
        listens: "-t 60 - TCP-LISTEN:PORT,bind=127.0.0.1",
        sends: Some("-t 60 - UDP:127.0.0.1:PORT"),
        binds: Some("-t 60 - UDP-LISTEN:PORT,bind=127.0.0.1"),
    },
    Tool {
        program: "busybox",
        connects: "nc 127.0.0.1 PORT",
        listens: "nc -l -p PORT",
        sends: None,
        binds: None,
    },
    Tool {
        program: "toybox",
        connects: "nc 127.0.0.1 PORT",
        listens: "nc -s 127.0.0.1 -l -p PORT",
        sends: Some("nc -u 127.0.0.1 PORT"),
        binds: Some("nc -u -s 127.0.0.1 -l -p PORT"),
    },
];

impl Tool {
    pub(crate) fn launch(&self, words: &str, port: u16) -> Launch {
        program(self.program, &words.replace("PORT", &port.to_string()))
    }
}

/// Runs `test` with every tool that is installed, all at once.
pub(crate) fn with_each_tool(test: impl Fn(&Tool) + Sync) {
    thread::scope(|scope| {
        for tool in &TOOLS {
            if !is_installed(tool.program) {
                skip(&format!("{} is not installed", tool.program));
                continue;
            }
            let name = thread::Builder::new().name(tool.program.to_owned());
            name.spawn_scoped(scope, || test(tool)).unwrap();
        }
    });
}

/// Returns a free port of 127.0.0.1 that it has not returned before: some of these tools share ports unasked.
fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        // The reserving socket does not listen. A child of another test may hold it for a moment, and must not pass for the tool.
        let (_socket, address) = refusing(Transport::Tcp);
        let port = address.port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// Waits until the process listens or is bound at `port`, without contacting it; most tools take one peer only. Returns false if
/// it ends first.
fn waits_at(running: &Running, transport: Transport, port: u16) -> bool {
    // In /proc/net, state 0A is a listening socket, 07 an unconnected UDP socket; ports are hexadecimal. The tenth column is the inode:
    // another process may have got the port.
    let (table, state) = match transport {
        Transport::Tcp => ("tcp", "0A"),
        _ => ("udp", "07"),
    };
    let end = format!(":{port:04X}");
    let is_it = |line: &str| match *line.split_whitespace().collect::<Vec<_>>() {
        [_, local, _, is, _, _, _, _, _, inode, ..] => {
            local.ends_with(&end) && is == state && has_socket(running, inode)
        }
        _ => false,
    };
    let start = Instant::now();
    while !running.has_ended_within(Duration::from_millis(1)) {
        let tables = ["", "6"].map(|six| fs::read_to_string(format!("/proc/net/{table}{six}")));
        if tables
            .iter()
            .flatten()
            .any(|table| table.lines().any(is_it))
        {
            return true;
        }
        assert!(start.elapsed() < BOUND, "nobody listens at {port}");
    }
    false
}

/// Returns true if a process has the socket with this inode.
fn has_socket(running: &Running, inode: &str) -> bool {
    let name = format!("socket:[{inode}]");
    let Ok(open) = fs::read_dir(format!("/proc/{}/fd", running.pid())) else {
        return false;
    };
    open.flatten().any(|entry| {
        fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == name.as_str())
    })
}

/// Starts a tool that waits for peers, and returns it with its address.
pub(crate) fn listening(
    tool: &Tool,
    transport: Transport,
    input: impl Fn() -> Input,
) -> (Running, SocketAddr) {
    let words = match transport {
        Transport::Tcp => tool.listens,
        _ => tool.binds.expect("words for UDP"),
    };
    // Another process may take the port first.
    for _ in 0..20 {
        let port = free_port();
        let running = tool.launch(words, port).stdin(input()).start();
        if waits_at(&running, transport, port) {
            return (running, SocketAddr::new(LOOPBACK.ip(), port));
        }
    }
    panic!("{} does not listen", tool.program);
}
