//! The options of `compare`, which shows rather than does.
//! There is nothing to connect to: both ends of every experiment are in this process.

use super::values::whole;

/// The command line of `compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPARE_EXAMPLES)]
pub struct Compare {
    /// Use IPv6 instead of IPv4
    #[arg(short = '6')]
    pub ipv6: bool,
    /// Let N clients talk to one server
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = whole::<u8>(1, 100))]
    pub clients: u8,
    /// What each of them says
    #[arg(long, value_name = "TEXT", default_value = "hello", value_parser = message)]
    pub message: String,
    /// Print the same as one JSON object
    #[arg(long)]
    pub json: bool,
}

const COMPARE_EXAMPLES: &str = "\
Examples:
  tuplecat compare                  all that is different, in about a second
  tuplecat compare -6 --clients 5   the same over IPv6, with more clients";

/// The most bytes of a message: three of them fit into any receive buffer.
const LONGEST: usize = 1000;

fn message(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("an empty message says nothing".to_owned()),
        len if len > LONGEST => Err(format!("{len} bytes are more than {LONGEST}")),
        _ => Ok(text.to_owned()),
    }
}
