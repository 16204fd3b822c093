//! The options of a relay: the target that each client is joined to.
//! The way to the target has the options of `tcp-connect`, and the listening side keeps its own.

use std::time::Duration;

use clap::{Arg, Args};

use super::dialogue::DIALOGUE;
use super::{ConnectOptions, FramingOptions, RetryOptions, values};
use crate::address::{Endpoint, UnixName, parse_target};
use crate::flow::Transport;

/// The target of a relay.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Relay")]
pub struct RelayOptions {
    /// Relay each client to TARGET: HOST:PORT, tcp:..., udp:... or unix:PATH
    ///
    /// Each client is joined to a connection of its own. Each end sees what it would see without the relay: data, a FIN and a reset
    /// are passed on as they come. Standard input and output are not used. A name is looked up for each client.
    #[arg(
        long,
        value_name = "TARGET",
        value_parser = target,
        conflicts_with_all = DIALOGUE,
        conflicts_with_all = ["stdin", "echo", "exec", "shell", "canned", "respond"],
        conflicts_with_all = ["crlf", "rate", "delay", "on_stdin_eof", "quit_after", "send_only", "recv_only", "max_bytes", "idle_ok"]
    )]
    pub to: Option<RelayTarget>,
    /// Close a UDP peer's way to the target after TIME of silence [default: 2m]
    ///
    /// A later datagram of the peer opens another. With tcp-listen, TIME is the wait for answers once the client has finished. The
    /// default is the least that RFC 4787 allows.
    #[arg(long, value_name = "TIME", requires = "to", value_parser = values::duration)]
    pub peer_timeout: Option<Duration>,
    /// The attempt to connect to the target.
    #[command(flatten)]
    pub connect: ConnectOptions,
    /// Repetition of that attempt.
    #[command(flatten)]
    pub retry: RetryOptions,
}

/// The target of a relay, as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayTarget {
    /// A host and a port, with the transport unless it is that of the mode.
    Inet(Option<Transport>, Endpoint),
    /// A Unix socket, with or without boundaries as that of the mode.
    Unix(UnixName),
}

/// Binds the options of the way to a target to `--to`, and keeps those out of a relay that have no meaning there.
pub(super) fn with_target(option: Arg) -> Arg {
    match option.get_id().as_str() {
        "connect_timeout" => of_relay(option).help(CONNECT).long_help(None),
        "proxy" | "source" | "source_port" | "retry_for" | "retry_on" => of_relay(option),
        "on_peer_eof" | "max_reads" | "reply_to" | "eof_datagram" => option.conflicts_with("to"),
        _ => option,
    }
}

fn of_relay(option: Arg) -> Arg {
    option.requires("to").help_heading("Relay")
}

const CONNECT: &str = "Give a client up if the way to its target takes TIME";

/// The transports that a target may name.
const TRANSPORTS: [(&str, Transport); 2] = [("tcp:", Transport::Tcp), ("udp:", Transport::Udp)];

/// Parses `[tcp:|udp:]HOST:PORT` or `unix:PATH`.
fn target(text: &str) -> Result<RelayTarget, String> {
    if let Some(name) = text.strip_prefix("unix:") {
        return name.parse().map(RelayTarget::Unix);
    }
    let named = TRANSPORTS.into_iter().find_map(|(prefix, transport)| {
        let rest = text.strip_prefix(prefix)?;
        Some((Some(transport), rest))
    });
    let (transport, rest) = named.unwrap_or((None, text));
    if !rest.contains(':') {
        let expected = "expected HOST:PORT or unix:PATH";
        return Err(format!("'{text}' is not a target: {expected}"));
    }
    Ok(RelayTarget::Inet(transport, parse_target(&[rest])?))
}

impl RelayOptions {
    /// Returns the reason why options are not valid with the target, in a mode of the transport `own`.
    pub(super) fn contradiction(
        &self,
        own: Transport,
        framing: &FramingOptions,
    ) -> Option<&'static str> {
        let (target, connect) = (self.transport(own), &self.connect);
        let crosses = |target: Transport| target.has_boundaries() != own.has_boundaries();
        let is_framed = target.is_some_and(crosses);
        let (is_stream, has_address) = (
            !own.has_boundaries(),
            connect.source.is_some() || connect.source_port.is_some(),
        );
        if is_framed && !framing.has_boundaries() {
            Some(
                "a stream has no boundaries: datagrams in it take both --in and --out: line, nul, len16, len32 or hex, and --in block:N",
            )
        } else if target.is_some() && !is_framed && framing.is_given() {
            Some("--in and --out are for standard input and output, which --to replaces")
        } else if is_stream && !is_framed && framing.divides() {
            Some("only --to udp:HOST:PORT takes formats that divide a stream into datagrams")
        } else if own.has_connections() && !is_framed && self.peer_timeout.is_some() {
            Some("--peer-timeout is for --to udp:HOST:PORT")
        } else if target.is_some_and(Transport::is_unix) && (has_address || connect.proxy.is_some())
        {
            Some("--source, --source-port and --proxy are for a target HOST:PORT")
        } else if target == Some(Transport::Udp) && connect.proxy.is_some() {
            Some("--proxy is for connections, and there is none to a target over UDP")
        } else {
            connect.contradiction()
        }
    }

    /// Returns the time of silence after which the way of a UDP peer is closed: at least 2 minutes (RFC 4787, REQ-5).
    pub fn peer_timeout(&self) -> Duration {
        self.peer_timeout.unwrap_or(Duration::from_mins(2))
    }

    /// Returns the transport of the target, if there is one, in a mode of the transport `own`.
    pub fn transport(&self, own: Transport) -> Option<Transport> {
        self.to.as_ref().map(|target| target.transport(own))
    }
}

impl RelayTarget {
    /// Returns its transport in a mode of the transport `own`.
    pub fn transport(&self, own: Transport) -> Transport {
        match (self, own) {
            (Self::Inet(Some(transport), _), _) => *transport,
            (Self::Inet(None, _), Transport::Unix | Transport::Tcp) => Transport::Tcp,
            (Self::Inet(None, _), _) => Transport::Udp,
            (Self::Unix(_), Transport::Tcp) => Transport::Unix,
            (Self::Unix(_), Transport::Udp) => Transport::UnixDatagram,
            (Self::Unix(_), own) => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_target_may_name_its_transport() {
        for (text, transport, words) in [
            ("localhost:80", None, "localhost:80"),
            ("tcp:[::1]:80", Some(Transport::Tcp), "[::1]:80"),
            (
                "udp:10.0.0.1:domain",
                Some(Transport::Udp),
                "10.0.0.1:domain",
            ),
            ("tcp:udp:80", Some(Transport::Tcp), "udp:80"),
        ] {
            let endpoint = parse_target(&[words]).unwrap();
            let expected = RelayTarget::Inet(transport, endpoint);
            assert_eq!(target(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "80",
            "localhost",
            "tcp:80",
            "::1:80",
            "*:80",
            ":80",
            "host:0",
        ] {
            assert!(target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_has_no_meaning_in_a_relay_is_refused() {
        for words in [
            "--send x",
            "--expect x",
            "--echo",
            "--respond a=b",
            "--in hex",
            "--out hex",
            "-C",
            "--rate 1k",
            "--delay 1",
            "--on-stdin-eof keep",
            "--on-peer-eof wait",
            "--send-only",
            "--recv-only",
            "--max-bytes 1",
            "--idle-timeout 1 --idle-ok",
            "--max-reads 1",
            "-k --prefix",
            "-k --out-dir d",
            "-k --broker",
            "-k --stdin-to first",
            "-k --client-timeout 1",
            "--shell cat",
        ] {
            let line = format!("tuplecat tl 0 --to ::1:80 {words}").replace("::1:80", "[::1]:80");
            let error = Cli::read(line.split_whitespace()).map(|_| line.clone());
            assert_eq!(error.unwrap_err().exit_code(), 2, "{line}");
        }
        for words in [
            "--connect-timeout 1",
            "--source ::1",
            "--source-port 9",
            "--retry-for 1",
        ] {
            let line = format!("tuplecat tl 0 {words}");
            let error = Cli::read(line.split_whitespace()).map(|_| line.clone());
            assert_eq!(error.unwrap_err().exit_code(), 2, "{line}");
            let line = format!("{line} --to [::1]:80");
            assert!(Cli::read(line.split_whitespace()).is_ok(), "{line}");
        }
    }
}
