//! Real servers, each on a port and in a directory of one test. They end with it.
//! They cannot bind port 0: one that was free is tried, and another if it is taken by then.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{BOUND, Launch, Running, is_installed, listen, program, skip};

/// A server and its address. It runs until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _running: Running,
}

/// The number of ports to try.
const PORTS: usize = 5;

/// Starts Redis without a disk; returns `None` with a notice if it is not installed.
pub(crate) fn redis() -> Option<Server> {
    start("redis-server", "Ready to accept connections", |address| {
        let words = format!("--port {} --bind {}", address.port(), address.ip());
        program("redis-server", &words)
            .args("--appendonly no --save")
            .arg("")
    })
}

/// Starts nginx with these lines in its `server` block.
pub(crate) fn nginx(lines: &str) -> Option<Server> {
    start("nginx", "OS: ", |address| {
        let script = format!(
            "cat > conf <<'END'\n\
             daemon off; master_process off; pid pid; error_log stderr notice; events {{}}\n\
             http {{ access_log off; client_body_temp_path t1; proxy_temp_path t2;\n\
             fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;\n\
             server {{ listen {address}; {lines} }} }}\nEND\n\
             exec nginx -e stderr -p . -c conf"
        );
        program("/bin/sh", "-c").arg(script)
    })
}

/// Starts dnsmasq with one name, over TCP and UDP.
pub(crate) fn dnsmasq(name: &str, ip: &str) -> Option<Server> {
    start("dnsmasq", "started, version", |address| {
        let words = "--no-daemon --conf-file=/dev/null --pid-file= --bind-interfaces --no-resolv --no-hosts";
        program("dnsmasq", words)
            .arg(format!("--port={}", address.port()))
            .arg(format!("--listen-address={}", address.ip()))
            .arg(format!("--address=/{name}/{ip}"))
    })
}

/// Starts a server that prints `ready` once it listens.
fn start(tool: &str, ready: &str, launch: impl Fn(SocketAddr) -> Launch) -> Option<Server> {
    if !is_installed(tool) {
        skip(&format!("{tool} is not installed"));
        return None;
    }
    let mut said = String::new();
    for _ in 0..PORTS {
        let (listener, address) = listen();
        drop(listener);
        let running = launch(address).start();
        if is_ready(&running, ready) {
            return Some(Server {
                address,
                _running: running,
            });
        }
        said = output(&running);
    }
    panic!("{tool} does not start; it says:\n{said}");
}

/// Waits until the server has printed the text; returns false if it ends before.
fn is_ready(running: &Running, text: &str) -> bool {
    let deadline = Instant::now() + BOUND;
    while Instant::now() < deadline {
        let has_ended = running.has_ended_within(Duration::from_millis(2));
        if output(running).contains(text) {
            return true;
        }
        if has_ended {
            break;
        }
    }
    false
}

fn output(running: &Running) -> String {
    let mut bytes = running.out().so_far();
    bytes.extend(running.err().so_far());
    String::from_utf8_lossy(&bytes).into_owned()
}
