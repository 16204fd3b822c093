//! What is kept of the traffic itself: a dump in hexadecimal, and a capture for other tools.
//! Both show all bytes in both directions, with the addresses they went between.

use clap::ArgGroup;

use super::numbers;
use super::report::Place;
use super::values;

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
    #[arg(long, value_name = "N", default_value_t = 16, requires = "dump", value_parser = numbers::whole::<u8>(1, 255))]
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
