//! One line an event on standard error, in the words of OpenBSD's nc: scripts look for them.
//! Without `-v` nc reports only what it cannot begin: a connection that fails is no such thing.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::SystemTime;

use dns_lookup::getnameinfo;
use libc::{NI_DGRAM, NI_NUMERICHOST};

use super::{Event, Tap};
use crate::escape::Escaped;
use crate::exit::{Exit, Failure};
use crate::flow::{Address, Transport};

/// Things that these lines depend on, beside the events.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of nc")]
pub struct NetcatStyle {
    /// The remote host and port as they were written; nothing where clients are waited for.
    pub target: Option<[String; 2]>,
    /// True if connections and failures are reported (`-v`).
    pub is_verbose: bool,
    /// True if nothing is looked up (`-n`).
    pub is_numeric: bool,
    /// True if the connection is one to a proxy, whose failures are told apart by their text alone.
    pub is_proxied: bool,
    /// True if a UDP port is only tested.
    pub probes_datagrams: bool,
    /// Set once a connection is made.
    pub opened: Rc<Cell<bool>>,
}

/// Writer of the lines.
pub struct Netcat<W> {
    out: W,
    style: NetcatStyle,
    has_peer: bool,
    has_failed: bool,
}

impl<W: Write> Netcat<W> {
    /// A writer to `out`, which gets one whole line at a time.
    pub fn new(out: W, style: NetcatStyle) -> Self {
        Self {
            out,
            style,
            has_peer: false,
            has_failed: false,
        }
    }

    fn line(&mut self, text: impl Display) {
        // A failed write to standard error cannot be reported, and the traffic matters more.
        let _ = self
            .out
            .write_all(format!("{}\n", Escaped(text)).as_bytes());
    }

    fn socket(&mut self, act: &str, address: &Address) {
        match address {
            Address::Inet(address) => {
                self.line(format!("{act} on {} {}", address.ip(), address.port()));
            }
            Address::Unix(_) | Address::Process(_) => self.line(format!("{act} on {address}")),
        }
    }

    /// Returns the target as it was written, with its address where that is another text.
    fn host(&self, address: SocketAddr) -> String {
        let ip = address.ip().to_string();
        match &self.style.target {
            Some([host, _]) if self.style.is_numeric || self.style.is_proxied || *host == ip => {
                host.clone()
            }
            Some([host, _]) => format!("{host} ({ip})"),
            None => ip,
        }
    }

    fn connected(&mut self, transport: Transport, host: &str, address: SocketAddr) {
        let port = address.port();
        let service = service(transport, address).filter(|_| !self.style.is_numeric);
        let service = service.as_deref().unwrap_or("*");
        self.line(format!(
            "Connection to {host} {port} port [{transport}/{service}] succeeded!"
        ));
    }

    fn connect_failed(&mut self, address: SocketAddr, error: &io::Error) {
        let (host, port) = (self.host(address), address.port());
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default();
        let act = match error.kind() {
            ErrorKind::TimedOut => "timed out",
            _ => "failed",
        };
        self.line(format!(
            "nc: connect to {host} port {port} (tcp) {act}: {reason}"
        ));
    }

    /// Reports a failure, unless it is about the peer.
    fn failed(&mut self, failure: &Failure) {
        let is_about_peer = matches!(failure.exit, Exit::Refused | Exit::TimedOut | Exit::Reset);
        let is_silent = !(self.style.is_proxied && self.style.is_verbose);
        if is_about_peer && is_silent || self.has_failed && !self.has_peer {
            return;
        }
        let unresolved = failure.exit == Exit::Unresolved;
        match &self.style.target {
            None if unresolved => self.line(format!("nc: getaddrinfo: {}", reason(failure))),
            Some([host, port]) if unresolved => {
                let (reason, host) = (reason(failure), format!("\"{host}\""));
                self.line(format!(
                    "nc: getaddrinfo for host {host} port {port}: {reason}"
                ));
            }
            _ => {
                for line in failure.message.lines() {
                    self.line(format!("nc: {line}"));
                }
            }
        }
    }

    /// Reports the end of a probe over UDP: silence counts as success.
    fn probed(&mut self, exit: Exit) {
        let is_open = matches!(exit, Exit::Done | Exit::TimedOut);
        if let Some([host, port]) = self.style.target.clone()
            && self.style.probes_datagrams
            && is_open
        {
            let port = port.parse().unwrap_or_default();
            self.connected(Transport::Udp, &host, (Ipv4Addr::LOCALHOST, port).into());
        }
    }
}

impl<W: Write> Tap for Netcat<W> {
    fn wants_figures(&self) -> bool {
        false
    }

    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        let is_verbose = self.style.is_verbose;
        match event {
            Event::Failed(failure) => self.failed(failure),
            Event::ConnectFailed { target, error, .. } => {
                self.has_failed = !self.style.is_proxied;
                if let Some(address) = target
                    .remote
                    .inet()
                    .filter(|_| is_verbose && self.has_failed)
                {
                    self.connect_failed(address, error);
                }
            }
            Event::Connected { flow, .. } | Event::Open { flow, .. } => {
                self.has_peer = true;
                self.style.opened.set(true);
                if let Some(mut address) = flow.remote.inet().filter(|_| is_verbose) {
                    if let (true, Some([_, port])) = (self.style.is_proxied, &self.style.target) {
                        address.set_port(port.parse().unwrap_or_default());
                    }
                    let host = self.host(address);
                    self.connected(flow.transport, &host, address);
                }
            }
            Event::Listening { socket, .. } if is_verbose => {
                self.socket("Listening", socket.local());
            }
            Event::Bound { socket, .. } if is_verbose => self.socket("Bound", socket.local()),
            Event::Accepted(name) if is_verbose => {
                self.socket("Connection received", &name.flow.remote);
            }
            Event::Data(data) if is_verbose && self.style.target.is_none() => {
                let is_first = !std::mem::replace(&mut self.has_peer, true);
                if is_first && !data.flow.transport.has_connections() {
                    self.socket("Connection received", &data.flow.remote);
                }
            }
            Event::Ended { exit, .. } if is_verbose => self.probed(*exit),
            #[rustfmt::skip]
            Event::Called(_) | Event::Listening { .. } | Event::Bound { .. } | Event::Connecting(_)
            | Event::Retrying { .. } | Event::ProbeFailed(_) | Event::Accepted(_)
            | Event::Replaced { .. } | Event::Relayed { .. } | Event::NotRelayed { .. } | Event::NoInput { .. }
            | Event::Data(_) | Event::HalfClosed(_) | Event::PeerFinished(_)
            | Event::Unreachable(_) | Event::Ignored { .. } | Event::Rejected { .. }
            | Event::Forgotten(_) | Event::Truncated { .. } | Event::Oversized { .. }
            | Event::Dropped(_) | Event::Waiting { .. } | Event::Omitted { .. }
            | Event::Capped { .. } | Event::Transferred(_) | Event::Peers(_) | Event::Exited(_)
            | Event::Closed(_) | Event::Sockets(_) | Event::Ended { .. } | Event::Broken { .. } => {}
        }
    }
}

/// Returns the name of a service (services(5)), if it has one.
fn service(transport: Transport, address: SocketAddr) -> Option<String> {
    let kind = if transport.has_connections() {
        0
    } else {
        NI_DGRAM
    };
    let flags = NI_NUMERICHOST | kind;
    let (_, name) = getnameinfo(&address, flags).ok()?;
    let is_name = name.parse::<u16>().is_err();
    is_name.then_some(name)
}

/// Returns why a name does not resolve, in the words of getaddrinfo(3).
fn reason(failure: &Failure) -> &'static str {
    match &failure.message {
        text if text.contains("temporary failure") => "Temporary failure in name resolution",
        text if text.contains("is given") && text.contains("it is an") => {
            "Address family for hostname not supported"
        }
        _ => "Name or service not known",
    }
}
