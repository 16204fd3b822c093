//! The options that only datagrams have.
//! Datagrams have borders, senders and no end; each of these options says something about one of the three.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;

use super::values;
use crate::address::Port;

/// The payload of the largest UDP datagram over IPv6, in bytes: 65,535 less the UDP header (RFC 768; RFC 8200, section 3).
const MAX_PAYLOAD: u64 = 65_527;

/// How datagrams are counted and cut.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Datagrams")]
pub struct DatagramOptions {
    /// End after receiving N datagrams
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Let an empty datagram stand for the end, both ways
    ///
    /// Standard input at its end sends one, and receiving ends with one. Otherwise an empty datagram is data like any other.
    #[arg(long)]
    pub eof_datagram: bool,
    /// Send at most SIZE bytes in a datagram [default: 1472 for IPv4, 1452 for IPv6]
    ///
    /// Up to 65507 bytes go into a datagram over IPv4, 65527 over IPv6; what is larger than the path allows travels in fragments.
    #[arg(long, value_name = "SIZE", value_parser = payload)]
    pub datagram_size: Option<usize>,
}

impl DatagramOptions {
    /// The most bytes of input to put into one datagram to `address`: what fits into an Ethernet frame of 1,500 bytes without
    /// fragments, unless the user says otherwise.
    #[must_use]
    pub fn size_towards(&self, address: Option<SocketAddr>) -> usize {
        let is_ipv6 = address.is_some_and(|address| address.is_ipv6());
        self.datagram_size
            .unwrap_or(if is_ipv6 { 1452 } else { 1472 })
    }
}

fn payload(text: &str) -> Result<usize, String> {
    match values::size(text)? {
        size if size > MAX_PAYLOAD => Err(format!("more than a datagram holds ({MAX_PAYLOAD})")),
        size => usize::try_from(size).map_err(|error| error.to_string()),
    }
}

/// How datagrams are sent, and whose answers count.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sending")]
pub struct SendtoOptions {
    /// Connect the socket: the kernel passes on what comes from HOST PORT only
    #[arg(long, conflicts_with = "from")]
    pub connected: bool,
    /// Whose datagrams to take as replies [default: target; any for broadcast and multicast]
    #[arg(long, value_name = "WHOSE", value_enum)]
    pub from: Option<FromPolicy>,
    /// After standard input has ended, wait TIME for a reply; 0 leaves at once, 'forever' stays
    ///
    /// The wait starts anew with every reply.
    #[arg(long, value_name = "TIME", default_value = "1", value_parser = reply_timeout)]
    pub reply_timeout: ReplyTimeout,
    /// End after N replies; status 6 if they do not come
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub replies: Option<u64>,
    /// Send from this address of this machine
    #[arg(long, value_name = "HOST", value_parser = values::host)]
    pub source: Option<String>,
    /// Send from this port
    #[arg(long, value_name = "PORT")]
    pub source_port: Option<Port>,
}

/// Whose datagrams are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FromPolicy {
    /// Only those from HOST PORT; others are counted and reported
    Target,
    /// Everybody's
    Any,
}

/// How long to wait for a reply once everything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTimeout {
    /// That long with nothing coming; zero leaves at once.
    After(Duration),
    /// Without a limit.
    Forever,
}

fn reply_timeout(text: &str) -> Result<ReplyTimeout, String> {
    match text {
        "forever" => Ok(ReplyTimeout::Forever),
        _ => values::duration_or_zero(text)
            .map(ReplyTimeout::After)
            .map_err(|error| format!("{error}, or 'forever'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_timeout_may_be_nothing_or_everything() {
        assert_eq!(reply_timeout("0"), Ok(ReplyTimeout::After(Duration::ZERO)));
        assert_eq!(reply_timeout("forever"), Ok(ReplyTimeout::Forever));
        assert!(reply_timeout("never").is_err());
    }

    #[test]
    fn a_payload_fits_into_a_datagram() {
        assert_eq!(payload("65527"), Ok(65_527));
        assert!(payload("65528").is_err());
        assert!(payload("0").is_err());
    }
}
