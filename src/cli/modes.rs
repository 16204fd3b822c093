//! What each mode takes: its endpoint and its option groups.
//! Reading two of them side by side shows where TCP and UDP differ.

use std::time::Duration;

use super::framing::{self, FramingOptions};
use super::groups::GroupOptions;
use super::local::{LocalOptions, ProgramOptions};
use super::many::ManyOptions;
use super::options::{
    self, AddressOptions, ConnectOptions, EndOptions, EngineOptions, ListenOptions, PeerEndOptions,
};
use super::retry;
use super::udp::{DatagramOptions, PeerOptions, ReplyTimeout, SendtoOptions};
use super::{
    AccessOptions, BindPoint, ConnectPoint, DialogueOptions, DumpOptions, ReportOptions,
    ResponderOptions, RetryOptions, SocketOptions, Target, TcpSocketOptions, contradiction,
};
use crate::framing::OutputFraming;

/// The command line of `tcp-listen`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat tcp-listen [OPTIONS] [HOST] PORT",
    after_help = TCP_LISTEN_EXAMPLES,
    mut_arg("input", framing::read_as_stream),
    mut_arg("output", framing::written_as_stream)
)]
pub struct TcpListen {
    /// Where to listen.
    #[command(flatten)]
    pub bind: BindPoint,
    /// How to find addresses.
    #[command(flatten)]
    pub address: AddressOptions,
    /// How to wait for a client.
    #[command(flatten)]
    pub listen: ListenOptions,
    /// How to serve many.
    #[command(flatten)]
    pub many: ManyOptions,
    /// A program for the peer.
    #[command(flatten)]
    pub program: ProgramOptions,
    /// What else stands in for standard input and output.
    #[command(flatten)]
    pub local: LocalOptions,
    /// Answers that are known beforehand.
    #[command(flatten)]
    pub responder: ResponderOptions,
    /// Who may talk to it.
    #[command(flatten)]
    pub access: AccessOptions,
    /// How input is cut and output is dressed.
    #[command(flatten)]
    pub framing: FramingOptions,
    /// What to say, and what to wait for.
    #[command(flatten)]
    pub dialogue: DialogueOptions,
    /// When to end.
    #[command(flatten)]
    pub ends: EndOptions,
    /// What the peer's end means.
    #[command(flatten)]
    pub peer_end: PeerEndOptions,
    /// Options of the TCP sockets.
    #[command(flatten)]
    pub tcp: TcpSocketOptions,
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

impl TcpListen {
    /// Why the options do not go together, if they do not.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        if self.many.prefix && self.dump.takes_output() {
            return Some("--prefix is for standard output, which has the capture of '--pcap -'");
        }
        let is_marked = self.many.prefix || self.many.out_dir.is_some();
        match self.framing.output {
            OutputFraming::Raw => contradiction(&self.framing, &self.dialogue, &self.dump),
            _ if is_marked => {
                Some("--out is for standard output as it is, without --prefix or --out-dir")
            }
            _ => contradiction(&self.framing, &self.dialogue, &self.dump),
        }
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
    mut_arg("input", framing::read_as_stream),
    mut_arg("output", framing::written_as_stream)
)]
pub struct TcpConnect {
    /// Where to connect to.
    #[command(flatten)]
    pub target: ConnectPoint,
    /// How to find addresses.
    #[command(flatten)]
    pub address: AddressOptions,
    /// How to connect.
    #[command(flatten)]
    pub connect: ConnectOptions,
    /// How input is cut and output is dressed.
    #[command(flatten)]
    pub framing: FramingOptions,
    /// A program for the peer.
    #[command(flatten)]
    pub program: ProgramOptions,
    /// Whether to try again.
    #[command(flatten)]
    pub retry: RetryOptions,
    /// What to say, and what to wait for.
    #[command(flatten)]
    pub dialogue: DialogueOptions,
    /// When to end.
    #[command(flatten)]
    pub ends: EndOptions,
    /// What the peer's end means.
    #[command(flatten)]
    pub peer_end: PeerEndOptions,
    /// Options of the TCP socket.
    #[command(flatten)]
    pub tcp: TcpSocketOptions,
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

const TCP_CONNECT_EXAMPLES: &str = r"Examples:
  tuplecat tcp-connect 192.0.2.7 9000 < file              send a file
  printf 'GET / HTTP/1.0\r\n\r\n' | tuplecat tc localhost http
  tuplecat tc --connect-timeout 500ms '[2001:db8::7]:22'  IPv6, and a limit
  tuplecat tc --probe --retry-for 30 localhost 5432       wait for a service
  tuplecat tc localhost 6379 --send 'PING\r\n' --expect +PONG";

/// The command line of `udp-bind`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat udp-bind [OPTIONS] [HOST] PORT",
    after_help = UDP_BIND_EXAMPLES,
    mut_arg("on_stdin_eof", options::without_connection)
)]
pub struct UdpBind {
    /// Where to receive.
    #[command(flatten)]
    pub bind: BindPoint,
    /// How to find addresses.
    #[command(flatten)]
    pub address: AddressOptions,
    /// Whom to answer.
    #[command(flatten)]
    pub peers: PeerOptions,
    /// How to treat datagrams.
    #[command(flatten)]
    pub datagrams: DatagramOptions,
    /// Broadcast and multicast.
    #[command(flatten)]
    pub groups: GroupOptions,
    /// A program for the peer.
    #[command(flatten)]
    pub program: ProgramOptions,
    /// What else stands in for standard input and output.
    #[command(flatten)]
    pub local: LocalOptions,
    /// Answers that are known beforehand.
    #[command(flatten)]
    pub responder: ResponderOptions,
    /// Who may talk to it.
    #[command(flatten)]
    pub access: AccessOptions,
    /// How input is cut and output is dressed.
    #[command(flatten)]
    pub framing: FramingOptions,
    /// What to say, and what to wait for.
    #[command(flatten)]
    pub dialogue: DialogueOptions,
    /// When to end.
    #[command(flatten)]
    pub ends: EndOptions,
    /// Options of the socket.
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
    mut_arg("on_stdin_eof", options::without_connection),
    mut_arg("retry_for", retry::of_words)
)]
pub struct UdpSendto {
    /// Where to send to.
    #[command(flatten)]
    pub target: Target,
    /// How to find addresses.
    #[command(flatten)]
    pub address: AddressOptions,
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
    /// Options of the socket.
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

impl UdpSendto {
    /// Why the options do not go together, if they do not.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let leaves = self.sendto.reply_timeout == Some(ReplyTimeout::After(Duration::ZERO));
        if leaves && (self.dialogue.expects() || self.sendto.probe) {
            return Some("--reply-timeout 0 waits for no answer, and this asks for one");
        }
        contradiction(&self.framing, &self.dialogue, &self.dump)
    }
}

const UDP_SENDTO_EXAMPLES: &str = "\
Examples:
  tuplecat us 192.0.2.7 9000 --send status --expect OK --timeout 3
  echo 'hits:1|c' | tuplecat udp-sendto localhost 8125 --reply-timeout 0
  printf query | tuplecat us 192.0.2.7 9000 --replies 1 --reply-timeout 3
  tuplecat us 192.0.2.7 9000 --datagram-size 512 < file";
