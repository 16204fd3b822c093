//! The command lines of `tcp-listen` and `tcp-connect`, with the options that only TCP has.
//! Read beside `udp.rs`, it shows where the two transports differ.

use std::time::Duration;

use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;

use super::common::SHAPES_OF_INPUT;
use super::dialogue::DIALOGUE;
use super::traffic::{read_as_stream, written_as_stream};
use super::values::{self, MAX_INT, whole};
use super::{BindPoint, ClientOptions, CommonOptions, ConnectPoint, RetryOptions, ServerOptions};
use crate::address::Port;
use crate::framing::OutputFraming;

/// The command line of `tcp-listen`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat tcp-listen [OPTIONS] [HOST] PORT",
    after_help = TCP_LISTEN_EXAMPLES,
    mut_arg("input", read_as_stream),
    mut_arg("output", written_as_stream)
)]
pub struct TcpListen {
    /// Where to listen.
    #[command(flatten)]
    pub bind: BindPoint,
    /// How to wait for a client.
    #[command(flatten)]
    pub listen: ListenOptions,
    /// How to serve many.
    #[command(flatten)]
    pub clients: ClientOptions,
    /// What stands in for standard input and output, and who may talk to it.
    #[command(flatten)]
    pub server: ServerOptions,
    /// Options of the TCP sockets.
    #[command(flatten)]
    pub tcp: TcpOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
}

impl TcpListen {
    /// Why the options do not go together, if they do not.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let common = &self.common;
        if self.clients.prefix && common.dump.takes_output() {
            return Some("--prefix is for standard output, which has the capture of '--pcap -'");
        }
        let is_marked = self.clients.prefix || self.clients.out_dir.is_some();
        if is_marked && common.framing.output != OutputFraming::Raw {
            return Some("--out is for standard output as it is, without --prefix or --out-dir");
        }
        common.contradiction()
    }
}

const TCP_LISTEN_EXAMPLES: &str = "\
Examples:
  tuplecat tcp-listen 9000 > copy          receive a file from this machine
  tuplecat tcp-listen '*' 9000 > copy      the same from any machine
  tar c . | tuplecat tl '*' 9000           hand a directory to the first client
  tuplecat tl 0 --ready-file port > copy   let the kernel choose the port";

/// The command line of `tcp-connect`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat tcp-connect [OPTIONS] HOST PORT",
    after_help = TCP_CONNECT_EXAMPLES,
    mut_arg("input", read_as_stream),
    mut_arg("output", written_as_stream)
)]
pub struct TcpConnect {
    /// Where to connect to.
    #[command(flatten)]
    pub target: ConnectPoint,
    /// How to connect.
    #[command(flatten)]
    pub connect: ConnectOptions,
    /// Whether to try again.
    #[command(flatten)]
    pub retry: RetryOptions,
    /// Options of the TCP socket.
    #[command(flatten)]
    pub tcp: TcpOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
}

const TCP_CONNECT_EXAMPLES: &str = r"Examples:
  tuplecat tcp-connect 192.0.2.7 9000 < file              send a file
  printf 'GET / HTTP/1.0\r\n\r\n' | tuplecat tc localhost http
  tuplecat tc --connect-timeout 500ms '[2001:db8::7]:22'  IPv6, and a limit
  tuplecat tc --probe --retry-for 30 localhost 5432       wait for a service
  tuplecat tc localhost 6379 --send 'PING\r\n' --expect +PONG";

/// How clients are waited for.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Listening")]
pub struct ListenOptions {
    /// Let N clients wait to be accepted
    ///
    /// The kernel allows no more than its setting net.core.somaxconn.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = whole::<i32>(1, MAX_INT))]
    pub backlog: i32,
    /// Give up after TIME without a client (status 6)
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub accept_timeout: Option<Duration>,
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

/// Options of TCP sockets (tcp(7)).
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TCP socket")]
pub struct TcpOptions {
    /// What to do when the peer has finished sending
    #[arg(
        long,
        value_name = "ACTION",
        value_enum,
        default_value = "auto",
        help_heading = "Endings"
    )]
    pub on_peer_eof: OnPeerEof,
    /// Send small pieces at once instead of gathering them (Nagle's algorithm off)
    #[arg(long, value_name = "SWITCH", value_enum, default_value = "on")]
    pub nodelay: Switch,
    /// Probe a silent peer, and break the connection when it does not answer
    ///
    /// Probing starts after IDLE of silence, goes on every INTERVAL, and gives up after COUNT probes without an answer, as in
    /// --keepalive=30,5,3. The two times are in whole seconds. Without a value the system's settings hold: two hours, 75
    /// seconds, 9 probes.
    #[arg(
        long,
        value_name = "IDLE,INTERVAL,COUNT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        hide_default_value = true,
        value_parser = values::keepalive
    )]
    pub keepalive: Option<Keepalive>,
    /// Break the connection when sent data stays unacknowledged for TIME
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub user_timeout: Option<Duration>,
    /// Close with a reset (RST): unsent data is thrown away
    #[arg(long)]
    pub linger_reset: bool,
    /// Limit segments to SIZE bytes of data
    #[arg(long, value_name = "SIZE", value_parser = whole::<u32>(1, 65535))]
    pub mss: Option<u32>,
    /// Use this congestion control, such as cubic or bbr
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub congestion: Option<String>,
    /// Send or accept data with the first packet of a connection (TCP Fast Open)
    ///
    /// A side that connects must speak first then: once it knows the peer, no connection is made before there is data to send.
    #[arg(long)]
    pub fastopen: bool,
}

/// A setting that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Set
    On,
    /// Not set
    Off,
}

/// How a silent peer is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// As the system's settings say.
    System,
    /// With values of its own.
    Timed {
        /// Silence before the first probe, in whole seconds.
        idle: Duration,
        /// Time between probes, in whole seconds.
        interval: Duration,
        /// Probes without an answer that break the connection.
        count: u32,
    },
}
