//! The options of every mode, in one group that each mode flattens once, and those that two modes share.
//! A mode reads `options.common`. Other options are in the file of their transport, or in `server.rs`.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Arg, ArgAction, ArgGroup, ValueEnum};

use super::dialogue::DIALOGUE;
use super::values::{self, MAX_INT, whole};
use super::{BufferOptions, DialogueOptions, FramingOptions, SocketOptions};
use crate::address::{Family, Names, Resolver};
use crate::exit::{Exit, Failure};
use crate::flow::Transport;
use crate::framing::OutputFraming;
use crate::local::exec::Program;

/// The options of every mode.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonOptions {
    /// Conditions that end the run.
    #[command(flatten)]
    pub ends: EndOptions,
    /// Formats of input and output.
    #[command(flatten)]
    pub framing: FramingOptions,
    /// Data to send and to wait for.
    #[command(flatten)]
    pub dialogue: DialogueOptions,
    /// A program as the local end.
    #[command(flatten)]
    pub program: ProgramOptions,
    /// Reports about the run.
    #[command(flatten)]
    pub report: ReportOptions,
    /// Records of the traffic.
    #[command(flatten)]
    pub dump: DumpOptions,
    /// The ways to move bytes.
    #[command(flatten)]
    pub engine: EngineOptions,
    /// Buffers of the socket.
    #[command(flatten)]
    pub buffers: BufferOptions,
}

impl CommonOptions {
    /// Returns the reason why options are not valid together, in a mode of the transport `own`.
    pub(super) fn contradiction(&self, own: Transport) -> Option<&'static str> {
        if own.is_unix() && self.dump.pcap.is_some() {
            return Some(
                "--pcap needs packets, and a Unix socket sends none; --hex-file records its traffic",
            );
        }
        if self.dump.pcap == Some(Place::Standard) && self.framing.output != OutputFraming::Raw {
            return Some("--out is for standard output, which '--pcap -' uses for the capture");
        }
        let contradiction = self.framing.contradiction();
        contradiction.or_else(|| self.dialogue.contradiction(&self.framing))
    }
}

/// Options that have no meaning where standard input is not read.
pub(super) const INPUT: [&str; 6] = [
    "input",
    "crlf",
    "rate",
    "delay",
    "on_stdin_eof",
    "quit_after",
];

/// Options about standard input and output that a program, an echo or a responder replaces.
pub(super) const STDIO: [&str; 7] = [
    "stdin",
    "input",
    "output",
    "rate",
    "delay",
    "send_only",
    "recv_only",
];

/// Conditions that end the run.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Endings")]
pub struct EndOptions {
    /// Action at the end of standard input [default: shutdown]
    #[arg(long, value_name = "ACTION")]
    pub on_stdin_eof: Option<OnStdinEof>,
    /// Exit TIME after the end of standard input
    ///
    /// Over TCP the end of standard input sends a FIN first. What arrives until TIME has passed is received.
    #[arg(long, value_name = "TIME", conflicts_with = "on_stdin_eof", value_parser = values::duration)]
    pub quit_after: Option<Duration>,
    /// Exit with status 6 after TIME without traffic
    ///
    /// Data that a TCP peer acknowledges is traffic. tcp-listen counts from its first client on. With -k each client has a TIME
    /// of its own, and only that client is disconnected.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub idle_timeout: Option<Duration>,
    /// Exit with status 0 at --idle-timeout
    #[arg(long, requires = "idle_timeout")]
    pub idle_ok: bool,
    /// Exit with status 6 after TIME in any case
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub timeout: Option<Duration>,
    /// Exit after receiving SIZE bytes
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub max_bytes: Option<u64>,
    /// Send only; count received data, do not write it
    #[arg(long, conflicts_with_all = ["recv_only", "output"])]
    pub send_only: bool,
    /// Receive only; do not read standard input
    #[arg(long, conflicts_with_all = INPUT, conflicts_with_all = ["send", "send_hex", "stdin"])]
    pub recv_only: bool,
}

/// The action at the end of standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnStdinEof {
    /// Send a FIN, and continue to receive
    Shutdown,
    /// Continue to receive
    Keep,
    /// Close and exit
    Quit,
}

/// Restricts `--on-stdin-eof` to the actions of a mode without connections.
pub(super) fn without_connection(option: Arg) -> Arg {
    let actions = values::some_of(&[OnStdinEof::Keep, OnStdinEof::Quit]);
    let option = option.help("Action at the end of standard input");
    option.value_parser(actions)
}

/// A program in the place of standard input and output.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Local end")]
#[group(
    id = "program",
    multiple = false,
    conflicts_with_all = STDIO,
    conflicts_with_all = DIALOGUE
)]
pub struct ProgramOptions {
    /// Connect the peer to PROGRAM; takes all words that follow
    ///
    /// The peer's data is its standard input; its standard output is sent to the peer. tcp-listen -k
    /// runs one for each client, udp-bind one for each datagram. The environment holds the addresses: PROTO, TCPREMOTEIP,
    /// TCPREMOTEPORT, TCPLOCALIP, TCPLOCALPORT; over UDP the same with UDP in their names.
    #[arg(
        long,
        value_names = ["PROGRAM", "ARG"],
        num_args = 1..,
        allow_hyphen_values = true
    )]
    pub exec: Vec<OsString>,
    /// Connect the peer to a command of /bin/sh
    #[arg(long, value_name = "COMMAND")]
    pub shell: Option<OsString>,
}

impl ProgramOptions {
    /// Returns true if a program is the local end.
    pub fn is_given(&self) -> bool {
        !self.exec.is_empty() || self.shell.is_some()
    }

    /// Finds the program.
    ///
    /// Errors: it does not exist, or is not executable.
    pub fn program(&self) -> Result<Option<Program>, Failure> {
        match (self.exec.as_slice(), &self.shell) {
            ([name, arguments @ ..], _) => Program::new(name, arguments).map(Some),
            ([], Some(command)) => Ok(Some(Program::shell(command))),
            ([], None) => Ok(None),
        }
    }
}

/// The options of the modes whose sockets have an IP address.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct NetworkOptions {
    /// Restrictions on addresses and names.
    #[command(flatten)]
    pub address: AddressOptions,
    /// Socket options of both transports.
    #[command(flatten)]
    pub socket: SocketOptions,
}

/// Restrictions on addresses and names. By default there are none.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(next_help_heading = "Addresses")]
pub struct AddressOptions {
    /// Use IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6')]
    pub ipv6: bool,
    /// Do not resolve names; HOST must be numeric
    #[arg(short, long)]
    pub numeric: bool,
}

impl AddressOptions {
    /// Returns a resolver for `transport` that keeps to the restrictions.
    pub fn resolver(&self, transport: Transport) -> Resolver {
        Resolver {
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Family::V4,
                (_, true) => Family::V6,
                _ => Family::Any,
            },
            names: if self.numeric {
                Names::Refused
            } else {
                Names::LookedUp
            },
            transport,
        }
    }
}

/// The destination of a report or a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `-`: the standard descriptor that the option names.
    Standard,
    /// A file, created or overwritten.
    File(PathBuf),
}

impl From<OsString> for Place {
    fn from(word: OsString) -> Self {
        if word == "-" {
            Self::Standard
        } else {
            Self::File(word.into())
        }
    }
}

/// Reports about the run. None of them uses standard output, which holds the payload alone.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Reports")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub struct ReportOptions {
    /// Events to report [default: auto]
    ///
    /// A variable of the environment, `TUPLECAT_REPORT`, changes the default.
    #[arg(long, value_name = "LEVEL", conflicts_with_all = ["quiet", "verbose"])]
    pub report: Option<Report>,
    /// Report errors and warnings only: --report errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Report every chunk of data too: --report data
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// Colour of reports
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: clap::ColorChoice,
    /// Write the socket's address to FILE when it is ready
    ///
    /// FILE holds one line, such as 'tcp 127.0.0.1:43121'. It is created in one step as soon as others can reach the socket, so
    /// that a script may wait for it. With port 0 the line holds the port that the kernel chose.
    #[arg(long, value_name = "FILE", value_parser = values::named_file)]
    pub ready_file: Option<PathBuf>,
    /// Write the same line to file descriptor N
    #[arg(long, value_name = "N", value_parser = whole::<i32>(0, MAX_INT))]
    pub ready_fd: Option<i32>,
    /// Write events as JSON Lines to FILE; '-' is stderr
    ///
    /// tuplecat-events(5) describes the events and their fields.
    #[arg(long, value_name = "FILE")]
    pub events: Option<Place>,
    /// Include the payload in the events, in hexadecimal
    #[arg(long, requires = "events")]
    pub events_payload: bool,
    /// Report amounts and rates at the end
    #[arg(long)]
    pub stats: bool,
    /// Show the progress of the transfer on a terminal
    #[arg(long)]
    pub progress: bool,
    /// Explain each call of the sockets API
    #[arg(long)]
    pub explain: bool,
}

impl ReportOptions {
    /// Returns the chosen level, which the environment variable sets unless an option does.
    ///
    /// Errors: the value of the variable is not a level.
    pub fn level(&self) -> Result<Report, Failure> {
        match (self.report, self.quiet, self.verbose) {
            (Some(level), ..) => Ok(level),
            (None, true, _) => Ok(Report::Errors),
            (None, false, 1..) => Ok(Report::Data),
            (None, false, 0) => Report::from_environment(),
        }
    }
}

/// The events that are reported on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Report {
    /// Events if standard error is a terminal, else errors
    Auto,
    /// Nothing: the exit status says how the run ended
    None,
    /// Errors, and warnings such as losses
    Errors,
    /// Beginnings and ends too
    Events,
    /// Every chunk of data too
    Data,
}

impl Report {
    /// Returns the default of `--report`, which an environment variable may set.
    fn from_environment() -> Result<Self, Failure> {
        const NAME: &str = "TUPLECAT_REPORT";
        let value = env::var_os(NAME).unwrap_or_default();
        let text = value.to_string_lossy();
        if text.is_empty() {
            return Ok(Self::Auto);
        }
        Self::from_str(&text, false).map_err(|_| {
            let levels = Self::value_variants().iter();
            let names = levels.filter_map(ValueEnum::to_possible_value);
            let names: Vec<String> = names.map(|name| name.get_name().to_owned()).collect();
            let text = format!("{NAME} is '{text}', not one of {}", names.join(", "));
            Failure::new(Exit::Usage, text)
        })
    }
}

/// Records of the traffic, with the bytes of both directions and their addresses.
#[derive(Clone, Debug, clap::Args)]
#[command(
    next_help_heading = "Traffic",
    group = ArgGroup::new("dump").args(["hex", "hex_file"]).multiple(true)
)]
pub struct DumpOptions {
    /// Dump the traffic in hexadecimal to standard error
    ///
    /// A line for each chunk has its direction ('>' sent, '<' received), its addresses and its length. The bytes follow in the
    /// format of hexdump -C. Nothing is left out, so that '--in dump' can send a dump again.
    #[arg(short = 'x', long)]
    pub hex: bool,
    /// Dump the traffic in hexadecimal to FILE
    #[arg(long, value_name = "FILE")]
    pub hex_file: Option<Place>,
    /// Dump N bytes a line
    #[arg(long, value_name = "N", default_value_t = 16, requires = "dump", value_parser = whole::<u8>(1, 255))]
    pub hex_width: u8,
    /// Dump only the first SIZE bytes of each chunk
    #[arg(long, value_name = "SIZE", requires = "dump", value_parser = values::size)]
    pub hex_limit: Option<u64>,
    /// Capture the traffic to FILE in pcapng format
    ///
    /// The IP, TCP and UDP headers are made from the addresses of the sockets; no privilege is needed. '-' is standard output,
    /// which then does not get the payload.
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<Place>,
}

/// The ways to move bytes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineOptions {
    /// Do not use splice, sendfile or segmentation offload
    ///
    /// The result is the same; this option is for tests and for finding faults.
    #[arg(
        long,
        env = "TUPLECAT_NO_FAST_PATH",
        hide_env_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub no_fast_path: bool,
    /// Do not drop privileges that are no longer needed
    ///
    /// By default the process gives up access to files, new connections and new privileges before the first byte moves
    /// (Landlock, no-new-privs), except with --exec and --shell.
    #[arg(long)]
    pub no_sandbox: bool,
}

/// Repetition of a failed attempt, for the modes that speak first.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Retries")]
pub struct RetryOptions {
    /// Retry for TIME until it works
    ///
    /// The pause between two attempts grows from 10 ms to 1 s.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub retry_for: Option<Duration>,
    /// Failures to retry after, separated by commas
    #[arg(
        long,
        value_name = "WHAT",
        value_delimiter = ',',
        default_value = "refused,timeout,resolve",
        requires = "retry_for"
    )]
    pub retry_on: Vec<RetryOn>,
}

/// A failure that may be temporary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RetryOn {
    /// Connection refused, or port unreachable (status 5)
    Refused,
    /// No answer in time (status 6)
    Timeout,
    /// The name does not resolve (status 3)
    Resolve,
}

/// Restricts `--retry-for` to `--send`: standard input can be read only once.
pub(super) fn datagram_retry(option: Arg) -> Arg {
    option
        .help("Send again for TIME until it works; needs --send")
        .requires("said")
        .conflicts_with("stdin")
}
