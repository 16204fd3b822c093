//! The options that every mode has, in one group that each mode flattens once.
//! They say how addresses are found, how a run ends, what it reports and how its bytes are moved.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{FalseyValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, ArgGroup, ValueEnum};

use super::values::{self, MAX_INT, whole};
use super::{DialogueOptions, FramingOptions, SocketOptions};
use crate::address::{Family, Names, Resolver};
use crate::exit::Failure;
use crate::flow::Transport;
use crate::framing::OutputFraming;
use crate::local::exec::Program;

/// The options of every mode.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonOptions {
    /// How to find addresses.
    #[command(flatten)]
    pub address: AddressOptions,
    /// How input is cut and output is dressed.
    #[command(flatten)]
    pub framing: FramingOptions,
    /// A program for the peer.
    #[command(flatten)]
    pub program: ProgramOptions,
    /// What to say, and what to wait for.
    #[command(flatten)]
    pub dialogue: DialogueOptions,
    /// When to end.
    #[command(flatten)]
    pub ends: EndOptions,
    /// Options of any socket.
    #[command(flatten)]
    pub socket: SocketOptions,
    /// What to report.
    #[command(flatten)]
    pub report: ReportOptions,
    /// What of the traffic to show or keep.
    #[command(flatten)]
    pub dump: DumpOptions,
    /// How bytes are moved.
    #[command(flatten)]
    pub engine: EngineOptions,
}

impl CommonOptions {
    /// Returns why options that are right by themselves are not right together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        if self.dump.takes_output() && self.framing.output != OutputFraming::Raw {
            return Some("--out is for standard output, which has the capture of '--pcap -'");
        }
        let contradiction = self.framing.contradiction();
        contradiction.or_else(|| self.dialogue.contradiction(&self.framing))
    }
}

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

/// A program in the place of standard input and output.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Local end")]
#[group(id = "program", multiple = false)]
pub struct ProgramOptions {
    /// Talk with the peer through a program: all words that follow are its name and arguments
    ///
    /// What the peer sends is its standard input, its standard output goes to the peer. tcp-listen -k starts one for each
    /// client, udp-bind one for each datagram. The environment tells it the addresses: PROTO, TCPREMOTEIP, TCPREMOTEPORT,
    /// TCPLOCALIP, TCPLOCALPORT, over UDP the same with UDP in their names.
    #[arg(
        long,
        value_names = ["PROGRAM", "ARG"],
        num_args = 1..,
        allow_hyphen_values = true
    )]
    pub exec: Vec<OsString>,
    /// The same with a command for /bin/sh, in one word
    #[arg(long, value_name = "COMMAND")]
    pub shell: Option<OsString>,
}

impl ProgramOptions {
    /// Whether there is a program.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.exec.is_empty() || self.shell.is_some()
    }

    /// The program, if there is one.
    ///
    /// Errors: it cannot be found, or not be executed.
    pub fn program(&self) -> Result<Option<Program>, Failure> {
        match (self.exec.as_slice(), &self.shell) {
            ([name, arguments @ ..], _) => Program::new(name, arguments).map(Some),
            ([], Some(command)) => Ok(Some(Program::shell(command))),
            ([], None) => Ok(None),
        }
    }
}

/// What says how standard input is read and sent, and means nothing where it is not.
pub(super) const SHAPES_OF_INPUT: [&str; 5] = ["input", "crlf", "rate", "delay", "on_stdin_eof"];

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

/// Where a report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `-`: the standard descriptor that the option names.
    Standard,
    /// A file, which is made or overwritten.
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

/// What is reported, and where.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Reports")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct ReportOptions {
    /// Report errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Report every chunk of data, not only the events
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// When to colour the reports
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: clap::ColorChoice,
    /// Write the socket's address to FILE once it is ready
    ///
    /// One line, such as 'tcp 127.0.0.1:43121', as soon as others can reach the socket. The file appears whole, so a
    /// script may wait for it to exist. With port 0 this tells the port that the kernel chose.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Write the same line to the open file descriptor N
    #[arg(long, value_name = "N", value_parser = whole::<i32>(0, MAX_INT))]
    pub ready_fd: Option<i32>,
    /// Write every event to FILE as a line of JSON; '-' is standard error
    ///
    /// tuplecat-events(5) describes the events and their fields.
    #[arg(long, value_name = "FILE")]
    pub events: Option<Place>,
    /// Put the bytes themselves into the events, in hexadecimal
    #[arg(long, requires = "events")]
    pub events_payload: bool,
    /// Report at the end how much moved, and how fast
    #[arg(long)]
    pub stats: bool,
    /// Show on a terminal how far the transfer has come
    #[arg(long)]
    pub progress: bool,
    /// Tell each call of the sockets API as it is made, and what it did
    #[arg(long)]
    pub explain: bool,
}

/// What of the traffic is shown or kept.
#[derive(Clone, Debug, clap::Args)]
#[command(
    next_help_heading = "Traffic",
    group = ArgGroup::new("dump").args(["hex", "hex_file"]).multiple(true)
)]
pub struct DumpOptions {
    /// Dump the traffic in hexadecimal on standard error
    ///
    /// A line for each chunk says when it was sent ('>') or received ('<'), between which addresses, and how long it is.
    /// Its bytes follow as hexdump -C shows them. Nothing is left out, so the dump can be sent again.
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
    /// Capture the traffic to FILE for Wireshark and tcpdump (pcapng)
    ///
    /// The IP, TCP and UDP headers are made up from the addresses of the sockets; no privilege is needed. With '-' the
    /// capture takes standard output, and what is received goes nowhere else.
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<Place>,
}

impl DumpOptions {
    /// Whether the capture goes where the payload would.
    pub(super) fn takes_output(&self) -> bool {
        self.pcap == Some(Place::Standard)
    }
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

/// Whether to try again, and for how long.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Trying again")]
pub struct RetryOptions {
    /// Try again for TIME until it works, from 10 ms to 1 s apart
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub retry_for: Option<Duration>,
    /// What to try again after, separated by commas
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        value_delimiter = ',',
        default_value = "refused,timeout,resolve",
        requires = "retry_for"
    )]
    pub retry_on: Vec<RetryOn>,
}

/// A failure that may pass by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RetryOn {
    /// Nobody listens there (status 5)
    Refused,
    /// Nobody answers (status 6)
    Timeout,
    /// The name does not resolve (status 3)
    Resolve,
}

/// Fits `--retry-for` to datagrams: what is sent again must still be there, and standard input can be read once.
pub(super) fn datagram_retry(option: clap::Arg) -> clap::Arg {
    option
        .help("Send again for TIME until nothing fails, from 10 ms to 1 s apart; with --send only")
        .requires("said")
        .conflicts_with("stdin")
}
