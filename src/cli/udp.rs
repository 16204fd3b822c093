//! The command lines of `udp-bind` and `udp-sendto`, with the options that only UDP has.
//! Datagrams have boundaries, senders and no end; each of these options is about one of the three.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;

use super::common::{datagram_retry, without_connection};
use super::values::{self, whole};
use super::{BindPoint, CommonOptions, GroupOptions, RetryOptions, ServerOptions, Target};
use crate::address::{Endpoint, Port, parse_target};

/// The command line of `udp-bind`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat udp-bind [OPTIONS] [HOST] PORT",
    after_help = UDP_BIND_EXAMPLES,
    mut_arg("on_stdin_eof", without_connection)
)]
pub struct UdpBind {
    /// Where to receive.
    #[command(flatten)]
    pub bind: BindPoint,
    /// Whom to answer.
    #[command(flatten)]
    pub peers: PeerOptions,
    /// What else stands in for standard input and output, and who may talk to it.
    #[command(flatten)]
    pub server: ServerOptions,
    /// How to treat datagrams.
    #[command(flatten)]
    pub datagrams: DatagramOptions,
    /// Broadcast and multicast.
    #[command(flatten)]
    pub groups: GroupOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
}

const UDP_BIND_EXAMPLES: &str = "\
Examples:
  tuplecat udp-bind 8125                   print datagrams from this machine
  tuplecat udp-bind '*' 8125 > log         the same from any machine
  tuplecat ub 8125 --count 1               receive one datagram and leave";

/// The command line of `udp-sendto`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat udp-sendto [OPTIONS] HOST PORT",
    after_help = UDP_SENDTO_EXAMPLES,
    mut_arg("on_stdin_eof", without_connection),
    mut_arg("retry_for", datagram_retry)
)]
pub struct UdpSendto {
    /// Where to send to.
    #[command(flatten)]
    pub target: Target,
    /// How to send and whose answers to take.
    #[command(flatten)]
    pub sendto: SendtoOptions,
    /// Whether to try again.
    #[command(flatten)]
    pub retry: RetryOptions,
    /// How to treat datagrams.
    #[command(flatten)]
    pub datagrams: DatagramOptions,
    /// Broadcast and multicast.
    #[command(flatten)]
    pub groups: GroupOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
}

impl UdpSendto {
    /// Why the options do not go together, if they do not.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let leaves = self.sendto.reply_timeout == Some(ReplyTimeout::After(Duration::ZERO));
        if leaves && (self.common.dialogue.expects() || self.sendto.probe) {
            return Some("--reply-timeout 0 waits for no answer, and this asks for one");
        }
        self.common.contradiction()
    }
}

const UDP_SENDTO_EXAMPLES: &str = "\
Examples:
  tuplecat us 192.0.2.7 9000 --send status --expect OK --timeout 3
  echo 'hits:1|c' | tuplecat udp-sendto localhost 8125 --reply-timeout 0
  printf query | tuplecat us 192.0.2.7 9000 --replies 1 --reply-timeout 3
  tuplecat us 192.0.2.7 9000 --datagram-size 512 < file";

/// How datagrams are counted and cut.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Datagrams")]
pub struct DatagramOptions {
    /// End after receiving N datagrams
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1, u64::MAX))]
    pub count: Option<u64>,
    /// Let an empty datagram stand for the end, both ways
    ///
    /// Standard input at its end sends one, and receiving ends with one, which is answered. Otherwise an empty datagram is data
    /// like any other.
    #[arg(long)]
    pub eof_datagram: bool,
    /// Send at most SIZE bytes in a datagram [default: 1472 for IPv4, 1452 for IPv6]
    ///
    /// Up to 65507 bytes go into a datagram over IPv4, 65527 over IPv6; what is larger than the path allows travels in fragments.
    #[arg(long, value_name = "SIZE", value_parser = values::payload)]
    pub datagram_size: Option<usize>,
    /// Take at most N bytes of a received datagram, and report the size of one that was longer
    #[arg(long, value_name = "N", value_parser = values::payload)]
    pub max_datagram: Option<usize>,
    /// Exit with status 9 if datagrams were dropped here or truncated
    #[arg(long)]
    pub fail_on_loss: bool,
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

/// Whom answers go to, and whose datagrams are taken.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Peers")]
pub struct PeerOptions {
    /// Who gets what is read from standard input: last, first, all, none, or HOST:PORT
    ///
    /// Of the peers that have sent something: the one that spoke last, the one that spoke first, or all of them. HOST:PORT is an
    /// address, whether it has sent anything or not. With 'none' standard input is not read.
    #[arg(long, value_name = "WHOM", default_value = "last", conflicts_with_all = ["echo", "program", "responder"], value_parser = reply_to)]
    pub reply_to: ReplyTo,
    /// Take datagrams only from the peer that spoke first; others are counted and reported
    #[arg(long)]
    pub lock_first: bool,
    /// Remember at most N peers; the one that is idle longest is forgotten
    #[arg(long, value_name = "N", default_value = "1024", value_parser = whole::<u32>(1, 1 << 20))]
    pub max_peers: u32,
}

/// Whom standard input goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// The peer that spoke last.
    Last,
    /// The peer that spoke first.
    First,
    /// Every peer.
    All,
    /// Nobody.
    None,
    /// This address.
    Address(Endpoint),
}

fn reply_to(text: &str) -> Result<ReplyTo, String> {
    Ok(match text {
        "last" => ReplyTo::Last,
        "first" => ReplyTo::First,
        "all" => ReplyTo::All,
        "none" => ReplyTo::None,
        _ => {
            let endpoint = parse_target(&[text]);
            ReplyTo::Address(
                endpoint.map_err(|_| "expected last, first, all, none or HOST:PORT".to_owned())?,
            )
        }
    })
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
    /// After standard input has ended, wait TIME for a reply; 0 leaves at once, 'forever' stays [default: 1]
    ///
    /// The wait starts anew with every reply. In a dialogue it starts with every datagram that is sent, and with --timeout it has no
    /// limit of its own unless one is given.
    #[arg(long, value_name = "TIME", value_parser = reply_timeout)]
    pub reply_timeout: Option<ReplyTimeout>,
    /// End after N replies; status 6 if they do not come
    #[arg(
        long,
        value_name = "N",
        value_parser = whole::<u64>(1, u64::MAX),
        conflicts_with = "count"
    )]
    pub replies: Option<u64>,
    /// Find out whether anybody answers: status 0 if a reply comes, 5 if the port is unreachable, 6 if neither
    ///
    /// Standard input or --send is the question; without either it is one empty datagram.
    #[arg(
        long,
        conflicts_with_all = ["expect", "expect_hex", "expect_regex"],
        conflicts_with_all = ["replies", "count", "recv_only", "program"]
    )]
    pub probe: bool,
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
    fn answers_go_to_a_peer_or_an_address() {
        assert_eq!(reply_to("none"), Ok(ReplyTo::None));
        assert!(matches!(reply_to("[::1]:9"), Ok(ReplyTo::Address(_))));
        for text in ["", "nobody", "9", "localhost", "host:0"] {
            assert!(reply_to(text).is_err(), "{text}");
        }
    }
}
