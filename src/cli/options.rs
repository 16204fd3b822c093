//! The option groups that several modes share, and those of TCP connecting and listening.
//! A mode takes the groups that mean something to it; any other option is a usage error there.

use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{FalseyValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};

use super::dialogue::DIALOGUE;
use super::numbers;
use super::values;
use crate::address::{Family, Names, Port, Resolver};
use crate::tuple::Transport;

/// How addresses are found.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Addresses")]
pub struct AddressOptions {
    /// Use IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6')]
    pub ipv6: bool,
    /// HOST is a numeric address: look no name up
    #[arg(short, long)]
    pub numeric: bool,
}

impl AddressOptions {
    /// The address family asked for.
    #[must_use]
    pub fn family(&self) -> Family {
        match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        }
    }

    /// How to find addresses for `transport`.
    #[must_use]
    pub fn resolver(&self, transport: Transport) -> Resolver {
        Resolver {
            family: self.family(),
            names: if self.numeric {
                Names::Refused
            } else {
                Names::LookedUp
            },
            transport,
        }
    }
}

/// What says how standard input is read and sent, and means nothing where it is not.
const SHAPES_OF_INPUT: [&str; 5] = ["input", "crlf", "rate", "delay", "on_stdin_eof"];

/// When the session ends.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Endings")]
pub struct EndOptions {
    /// What the end of standard input does [default: shutdown]
    #[arg(long, value_name = "ACTION", value_enum)]
    pub on_stdin_eof: Option<OnStdinEof>,
    /// End after TIME without a byte in either direction (status 6)
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub idle_timeout: Option<Duration>,
    /// End TIME after the start, whatever is going on (status 6)
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub timeout: Option<Duration>,
    /// End once SIZE bytes have been received
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub max_bytes: Option<u64>,
    /// Send only: what arrives is counted, not written
    #[arg(long, conflicts_with_all = ["recv_only", "program", "output"])]
    pub send_only: bool,
    /// Receive only: do not read standard input
    #[arg(long, conflicts_with = "program", conflicts_with_all = SHAPES_OF_INPUT)]
    pub recv_only: bool,
}

/// What happens at the end of standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnStdinEof {
    /// Say so to the peer (FIN), and go on receiving
    Shutdown,
    /// Say nothing, and go on receiving
    Keep,
    /// Close and leave
    Quit,
}

/// Rewords `--on-stdin-eof` for the modes where there is no connection to shut down.
pub(super) fn without_connection(option: clap::Arg) -> clap::Arg {
    let values = [
        PossibleValue::new("keep").help("Go on receiving"),
        PossibleValue::new("quit").help("Close and leave"),
    ];
    option
        .help("What the end of standard input does")
        .value_parser(
            PossibleValuesParser::new(values).try_map(|name| OnStdinEof::from_str(&name, false)),
        )
}

/// What the end of the peer's stream means.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Endings")]
pub struct PeerEndOptions {
    /// What to do when the peer has finished sending
    #[arg(long, value_name = "ACTION", value_enum, default_value = "auto")]
    pub on_peer_eof: OnPeerEof,
}

/// What happens when the peer has finished sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnPeerEof {
    /// Leave if standard input is a terminal, or never spoke and stays silent for 5 seconds; else wait for its end
    #[default]
    Auto,
    /// Wait for the end of standard input
    Wait,
    /// Leave at once
    Quit,
}

/// How a TCP connection is made.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connecting")]
pub struct ConnectOptions {
    /// Give up after TIME without a connection (status 6)
    ///
    /// The limit is for all addresses of HOST together. Without it --idle-timeout is the limit, or the kernel gives up in its own
    /// time, about two minutes.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub connect_timeout: Option<Duration>,
    /// Connect from this address of this machine
    #[arg(long, value_name = "HOST", value_parser = values::host)]
    pub source: Option<String>,
    /// Connect from this port
    #[arg(long, value_name = "PORT")]
    pub source_port: Option<Port>,
    /// Only find out whether somebody listens: connect, report the 4-tuple and the time it took, and leave
    ///
    /// PORT may be a list such as 22,80,8000-8010. The status is 0 if all are open. A port that does not answer within 5 seconds,
    /// or --connect-timeout, is not.
    #[arg(
        long,
        conflicts_with_all = DIALOGUE,
        conflicts_with_all = SHAPES_OF_INPUT,
        conflicts_with_all = [
            "program", "stdin", "output", "max_bytes", "send_only", "recv_only", "on_peer_eof"
        ]
    )]
    pub probe: bool,
    /// Let one open port of those that are probed be enough for status 0
    #[arg(long, requires = "probe")]
    pub any: bool,
}

/// How clients are waited for.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Listening")]
pub struct ListenOptions {
    /// Let N clients wait to be accepted
    ///
    /// The kernel allows no more than its setting net.core.somaxconn.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = numbers::whole::<i32>(1, numbers::MAX_INT))]
    pub backlog: i32,
    /// Give up after TIME without a client (status 6)
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub accept_timeout: Option<Duration>,
}

/// How bytes are moved.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineOptions {
    /// Copy bytes in the portable way only
    ///
    /// Otherwise the kernel is asked to move bytes without copying them where it can (splice, sendfile, segmentation
    /// offload). The result is the same; this is for tests and for finding faults.
    #[arg(
        long,
        env = "TUPLECAT_NO_FAST_PATH",
        hide_env_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub no_fast_path: bool,
    /// Keep the rights that are not needed any more
    ///
    /// Otherwise those to files, new connections and privileges are given up before the first byte moves (Landlock,
    /// no-new-privs), except with --exec and --shell.
    #[arg(long)]
    pub no_sandbox: bool,
}
