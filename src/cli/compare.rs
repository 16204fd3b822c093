//! The command line of `compare`, and the names of its experiments.
//! An experiment's description here is its line in `--list` and in the help.

use clap::ValueEnum;
use serde::Serialize;

use super::values;

/// The command line of `compare`, whose experiments need no peer.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
#[command(after_help = COMPARE_EXAMPLES)]
pub struct Compare {
    /// Experiments to run, in this order; without a name all
    #[arg(value_name = "EXPERIMENT", value_enum, hide_possible_values = true)]
    pub experiments: Vec<Experiment>,
    /// List the names of the experiments
    #[arg(long)]
    pub list: bool,
    /// Use IPv6 instead of IPv4
    #[arg(short = '6')]
    pub ipv6: bool,
    /// Connect N clients to one server
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = values::whole::<u8>(1, 100))]
    pub clients: u8,
    /// Open N connections to one port, in the experiment tuples
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = values::whole::<u32>(1, 1_000_000))]
    pub connections: u32,
    /// Message that each client sends
    #[arg(long, value_name = "TEXT", default_value = "hello", value_parser = message)]
    pub message: String,
    /// Wait for Enter after each experiment
    #[arg(long, conflicts_with = "json")]
    pub pause: bool,
    /// Print the results as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// An experiment of `compare`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Experiment {
    /// the calls of a server
    Calls,
    /// one port number, bound for each protocol
    Ports,
    /// clients that wait before accept, and a full queue
    Queue,
    /// several clients of one server
    Names,
    /// sends that are merged, and sends that are not
    Boundaries,
    /// a send of no bytes
    Empty,
    /// the buffers of both sockets, and when send waits
    Buffers,
    /// one local port, and many connections
    Tuples,
    /// one service, programmed in four ways
    Servers,
    /// the end of a client's data
    End,
    /// a port after its connection is closed
    TimeWait,
    /// a client whose process is killed
    Killed,
    /// a port that no socket has
    Closed,
    /// the same calls over Unix sockets
    Unix,
    /// bytes in a second, and the time of a round trip
    Speed,
}

const COMPARE_EXAMPLES: &str = "\
Examples:
  tuplecat compare                  run all experiments, in a few seconds
  tuplecat compare --list           list them
  tuplecat compare buffers queue    run two of them
  tuplecat compare -6 --clients 5   the same over IPv6, with more clients";

/// The maximum length of a message, in bytes. Three of them fit into any receive buffer.
const MAX_MESSAGE: usize = 1000;

fn message(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("must not be empty".to_owned()),
        len if len > MAX_MESSAGE => Err(format!("{len} bytes are more than {MAX_MESSAGE}")),
        _ => Ok(text.to_owned()),
    }
}
