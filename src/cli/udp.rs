//! The command lines of `udp-bind` and `udp-sendto`, with the options that only UDP has.
//! Datagrams have boundaries, senders and no end; each of these options is about one of the three.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;

use super::common::{datagram_retry, without_connection};
use super::endpoint::{BindPoint, Positional};
use super::relay::with_target;
use super::values::{self, whole};
use super::{
    AccessOptions, CommonOptions, GroupOptions, NetworkOptions, RelayOptions, RetryOptions,
    ServerOptions,
};
use crate::address::{Endpoint, Port, parse_target};
use crate::flow::Transport;

/// The command line of `udp-bind`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat udp-bind [OPTIONS] [HOST] PORT",
    after_help = UDP_BIND_EXAMPLES,
    mut_arg("on_stdin_eof", without_connection),
    mut_args(with_target)
)]
pub struct UdpBind {
    /// The local endpoint.
    #[command(flatten)]
    pub bind: Positional<BindPoint>,
    /// Peers and answers.
    #[command(flatten)]
    pub peers: PeerOptions,
    /// The target of a relay.
    #[command(flatten)]
    pub relay: RelayOptions,
    /// Local ends and access.
    #[command(flatten)]
    pub server: ServerOptions,
    /// Rules about peers.
    #[command(flatten)]
    pub access: AccessOptions,
    /// Sizes and counts of datagrams.
    #[command(flatten)]
    pub datagrams: DatagramOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Addresses and socket options.
    #[command(flatten)]
    pub network: NetworkOptions,
    /// Broadcast and multicast.
    #[command(flatten)]
    pub groups: GroupOptions,
}

const UDP_BIND_EXAMPLES: &str = "\
Examples:
  tuplecat udp-bind 8125                   print datagrams from this machine
  tuplecat udp-bind '*' 8125 > log         log datagrams from any machine
  tuplecat ub 8125 --count 1               receive one datagram and exit";

impl UdpBind {
    /// Returns the reason why options that are valid alone are not valid together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let relay = self
            .relay
            .contradiction(Transport::Udp, &self.common.framing);
        relay.or_else(|| self.common.contradiction(Transport::Udp))
    }
}

/// The command line of `udp-sendto`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat udp-sendto [OPTIONS] HOST PORT",
    after_help = UDP_SENDTO_EXAMPLES,
    mut_arg("on_stdin_eof", without_connection),
    mut_arg("retry_for", datagram_retry)
)]
pub struct UdpSendto {
    /// The remote endpoint.
    #[command(flatten)]
    pub target: Positional<Endpoint>,
    /// The source address, and the wait for replies.
    #[command(flatten)]
    pub sendto: SendtoOptions,
    /// Repetition of a failed attempt.
    #[command(flatten)]
    pub retry: RetryOptions,
    /// Sizes and counts of datagrams.
    #[command(flatten)]
    pub datagrams: DatagramOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Addresses and socket options.
    #[command(flatten)]
    pub network: NetworkOptions,
    /// Broadcast and multicast.
    #[command(flatten)]
    pub groups: GroupOptions,
}

const UDP_SENDTO_EXAMPLES: &str = "\
Examples:
  tuplecat us 192.0.2.7 9000 --send status --expect OK --timeout 3
  echo 'hits:1|c' | tuplecat udp-sendto localhost 8125 --reply-timeout 0
  printf query | tuplecat us 192.0.2.7 9000 --replies 1 --reply-timeout 3
  tuplecat us 192.0.2.7 9000 --datagram-size 512 < file";

impl UdpSendto {
    /// Returns the reason why options that are valid alone are not valid together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let needs_reply = self.common.dialogue.expects() || self.sendto.probe;
        let reply = self.sendto.reply.contradiction(needs_reply);
        reply.or_else(|| self.common.contradiction(Transport::Udp))
    }
}

/// Sizes and counts of datagrams.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Datagrams")]
pub struct DatagramOptions {
    /// Exit after receiving N datagrams
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1, u64::MAX))]
    pub count: Option<u64>,
    /// Let an empty datagram mean the end, both ways
    ///
    /// One is sent at the end of standard input. A received one ends receiving, and is answered with another. Without this option
    /// an empty datagram is data.
    #[arg(long)]
    pub eof_datagram: bool,
    /// Send at most SIZE bytes in a datagram [default: 1472, to IPv6 1452]
    ///
    /// Input without boundaries is cut at SIZE; a longer frame of --in, or of --send, is an error. A datagram holds up to 65507 bytes
    /// over IPv4, 65527 over IPv6. One that is larger than the path allows is fragmented.
    #[arg(long, value_name = "SIZE", value_parser = values::payload)]
    pub datagram_size: Option<usize>,
    /// Receive at most N bytes of a datagram
    ///
    /// The size of a longer one is reported.
    #[arg(long, value_name = "N", value_parser = values::payload)]
    pub max_datagram: Option<usize>,
    /// Exit with status 9 if datagrams are known to be lost
    #[arg(long)]
    pub fail_on_loss: bool,
}

impl DatagramOptions {
    /// Returns the maximum payload of a datagram to `address`, in bytes.
    ///
    /// The default fills an Ethernet frame of 1,500 bytes without fragments.
    pub fn size_towards(&self, address: Option<SocketAddr>) -> usize {
        let is_ipv6 = address.is_some_and(|address| address.is_ipv6());
        self.datagram_size
            .unwrap_or(if is_ipv6 { 1452 } else { 1472 })
    }
}

/// Peers of a bound socket, and answers to them.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Peers")]
pub struct PeerOptions {
    /// Send standard input to WHOM: last, first, all, none or HOST:PORT [default: last]
    ///
    /// Of the peers that have sent something: the latest sender, the first sender, or every peer. HOST:PORT is an address,
    /// whether it has sent anything or not. With 'none' standard input is not read.
    #[arg(
        long,
        value_name = "WHOM",
        conflicts_with_all = ["echo", "exec", "shell", "canned", "respond"],
        value_parser = reply_to
    )]
    pub reply_to: Option<ReplyTo>,
    /// Accept datagrams only from the first peer
    #[arg(long)]
    pub lock_first: bool,
    /// Close the socket of a peer after N replies to each of its datagrams
    ///
    /// With --to, a peer keeps its socket for --peer-timeout after its last datagram otherwise.
    #[arg(long, value_name = "N", requires = "to", value_parser = whole::<u64>(1, u64::MAX))]
    pub replies: Option<u64>,
    /// Remember at most N peers; forget the longest idle one
    #[arg(long, value_name = "N", default_value = "1024", value_parser = whole::<u32>(1, 1 << 20))]
    pub max_peers: u32,
}

/// The peers that get standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTo<A = Endpoint> {
    /// The peer that sent the latest datagram.
    Last,
    /// The peer that sent the first datagram.
    First,
    /// Every peer.
    All,
    /// No peer.
    None,
    /// This address, or this name.
    Address(A),
}

fn reply_to(text: &str) -> Result<ReplyTo, String> {
    reply_to_or(text, |text| {
        parse_target(&[text]).map_err(|_| "expected last, first, all, none or HOST:PORT".to_owned())
    })
}

/// Reads a word for peers, or lets `parse` read the address of one.
pub(super) fn reply_to_or<A>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<A, String>,
) -> Result<ReplyTo<A>, String> {
    Ok(match text {
        "last" => ReplyTo::Last,
        "first" => ReplyTo::First,
        "all" => ReplyTo::All,
        "none" => ReplyTo::None,
        _ => ReplyTo::Address(parse(text)?),
    })
}

/// The source address, and the wait for replies.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sending")]
pub struct SendtoOptions {
    /// Connect the socket: drop datagrams of others
    #[arg(long, conflicts_with = "from")]
    pub connected: bool,
    /// Senders to accept [default: target; any for broadcast, multicast]
    #[arg(long, value_name = "WHOSE")]
    pub from: Option<FromPolicy>,
    /// The wait for replies.
    #[command(flatten)]
    pub reply: ReplyOptions,
    /// Exit with 0 on a reply, 5 if unreachable, else 6
    ///
    /// Standard input or --send is the request; without either it is one empty datagram.
    #[arg(
        long,
        conflicts_with_all = ["expect", "expect_hex", "expect_regex"],
        conflicts_with_all = ["replies", "count", "recv_only", "exec", "shell"]
    )]
    pub probe: bool,
    /// Send from this local address
    #[arg(long, value_name = "HOST", value_parser = values::host)]
    pub source: Option<String>,
    /// Send from this local port
    #[arg(long, value_name = "PORT")]
    pub source_port: Option<Port>,
}

/// The wait for replies.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sending")]
pub struct ReplyOptions {
    /// Wait TIME for a reply, 0 or 'forever' [default: 1]
    ///
    /// The wait starts at the end of standard input, and again with every reply. In a dialogue it starts with every datagram that
    /// is sent; with --timeout a dialogue has no other limit by default. 0 exits at once, 'forever' has no limit.
    #[arg(long, value_name = "TIME", value_parser = reply_timeout)]
    pub reply_timeout: Option<ReplyTimeout>,
    /// Exit after N replies; status 6 if fewer come
    #[arg(long, value_name = "N", conflicts_with = "count", value_parser = whole::<u64>(1, u64::MAX))]
    pub replies: Option<u64>,
}

impl ReplyOptions {
    /// Returns the reason why the wait is not valid beside what needs a reply.
    pub(super) fn contradiction(&self, needs_reply: bool) -> Option<&'static str> {
        let never_waits = self.reply_timeout == Some(ReplyTimeout::After(Duration::ZERO));
        (never_waits && needs_reply)
            .then_some("--reply-timeout 0 waits for no reply; --expect and --probe need one")
    }
}

/// The senders whose datagrams are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FromPolicy {
    /// The target alone; others are counted and reported
    Target,
    /// Every sender
    Any,
}

/// The wait for replies once everything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTimeout {
    /// Ends after this time without a reply.
    After(Duration),
    /// Has no limit.
    Forever,
}

fn reply_timeout(text: &str) -> Result<ReplyTimeout, String> {
    let time = |text: &str| values::duration_or_zero(text).map(ReplyTimeout::After);
    values::word_or(text, ("forever", ReplyTimeout::Forever), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_timeout_may_be_zero_or_forever() {
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
