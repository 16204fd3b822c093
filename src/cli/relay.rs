//! The options of a relay: the target that each client is joined to.
//! The way to the target has the options of `tcp-connect`, and the listening side keeps its own.

use clap::{Arg, Args};

use super::dialogue::DIALOGUE;
use crate::address::{Endpoint, parse_target};
use crate::flow::Transport;

/// The target of a relay.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Relay")]
pub struct RelayOptions {
    /// Relay each client to TARGET: HOST:PORT, tcp:HOST:PORT or udp:HOST:PORT
    ///
    /// Each client is joined to a connection of its own. Each end sees what it would see without the relay: data, a FIN and a reset
    /// are passed on as they come. Standard input and output are not used. A name is looked up for each client.
    #[arg(
        long,
        value_name = "TARGET",
        value_parser = target,
        conflicts_with_all = DIALOGUE,
        conflicts_with_all = ["stdin", "echo", "exec", "shell", "canned", "respond"],
        conflicts_with_all = ["crlf", "rate", "delay", "on_stdin_eof", "send_only", "recv_only", "max_bytes"]
    )]
    pub to: Option<RelayTarget>,
}

/// The target of a relay, as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayTarget {
    /// The transport, unless it is that of the mode.
    pub transport: Option<Transport>,
    /// The host and the port.
    pub endpoint: Endpoint,
}

/// The transports that a target may name.
const TRANSPORTS: [(&str, Transport); 2] = [("tcp:", Transport::Tcp), ("udp:", Transport::Udp)];

/// Parses `[tcp:|udp:]HOST:PORT`.
fn target(text: &str) -> Result<RelayTarget, String> {
    let named = TRANSPORTS.into_iter().find_map(|(prefix, transport)| {
        let rest = text.strip_prefix(prefix)?;
        Some((Some(transport), rest))
    });
    let (transport, rest) = named.unwrap_or((None, text));
    if !rest.contains(':') {
        return Err(format!("'{text}' is not a target: expected HOST:PORT"));
    }
    Ok(RelayTarget {
        transport,
        endpoint: parse_target(&[rest])?,
    })
}

/// Restricts an option to a relay.
pub(super) fn of_relay(option: Arg) -> Arg {
    option.requires("to").help_heading("Relay")
}

impl RelayOptions {
    /// Returns the transport of the target, if there is one, in a mode of the transport `own`.
    pub fn transport(&self, own: Transport) -> Option<Transport> {
        let target = self.to.as_ref()?;
        Some(target.transport.unwrap_or(own))
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
            let expected = RelayTarget {
                transport,
                endpoint,
            };
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
