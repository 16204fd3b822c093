//! The command lines of the modes for Unix sockets, with the options that only these have.
//! A socket has a name in the file system and no port; its peer is a process of this machine.

use std::time::Duration;

use super::common::{INPUT, STDIO, datagram_retry, without_connection};
use super::dialogue::DIALOGUE;
use super::endpoint::{BindPoint, FromWords, Positional};
use super::relay::with_target;
use super::tcp::{LISTEN_IDLE, LISTEN_INPUT};
use super::traffic::STREAM_FORMATS;
use super::udp::reply_to_or;
use super::values::{self, whole};
use super::{
    AcceptOptions, CommonOptions, FromPolicy, PeerEndOptions, ReplyOptions, ReplyTo, RetryOptions,
    ServerOptions,
};
use crate::address::UnixName;
use crate::flow::Transport;
use crate::framing::OutputFraming;

/// The command line of `unix-listen`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat unix-listen [OPTIONS] PATH",
    after_help = UNIX_LISTEN_EXAMPLES,
    mut_arg("idle_timeout", |option| option.help(LISTEN_IDLE)),
    mut_arg("input", |option| option.help(LISTEN_INPUT)),
    mut_args(with_target),
    mut_arg("pcap", |option| option.hide(true))
)]
pub struct UnixListen {
    /// The name of the socket.
    #[command(flatten)]
    pub bind: Positional<UnixPoint>,
    /// The file of the socket.
    #[command(flatten)]
    pub file: SocketFileOptions,
    /// The type of the socket.
    #[command(flatten)]
    pub kind: SocketTypeOptions,
    /// Clients, and the end that each is joined to.
    #[command(flatten)]
    pub accept: AcceptOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
    /// The end of the peer's direction.
    #[command(flatten)]
    pub peer_end: PeerEndOptions,
}

const UNIX_LISTEN_EXAMPLES: &str = "\
Examples:
  tuplecat unix-listen /tmp/x > copy          receive from the first client
  tuplecat ul -k /tmp/x --exec cat            serve any number of clients
  tuplecat ul --mode 666 -k --echo /tmp/x     serve other users as well";

impl UnixListen {
    /// Returns the reason why options that are valid alone are not valid together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let kind = (!self.accept.is_relay()).then(|| self.kind.contradiction(&self.common));
        let file = kind.flatten().or(self.file.contradiction(&self.bind.0));
        file.or_else(|| (self.accept).contradiction(self.kind.transport(), &self.common))
    }
}

/// The command line of `unix-connect`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat unix-connect [OPTIONS] PATH",
    after_help = UNIX_CONNECT_EXAMPLES,
    mut_arg("pcap", |option| option.hide(true))
)]
pub struct UnixConnect {
    /// The name to connect to.
    #[command(flatten)]
    pub target: Positional<UnixName>,
    /// The type of the socket.
    #[command(flatten)]
    pub kind: SocketTypeOptions,
    /// The connection attempt.
    #[command(flatten)]
    pub connect: UnixConnectOptions,
    /// Repetition of a failed attempt.
    #[command(flatten)]
    pub retry: RetryOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
    /// The end of the peer's direction.
    #[command(flatten)]
    pub peer_end: PeerEndOptions,
}

const UNIX_CONNECT_EXAMPLES: &str = r"Examples:
  printf 'GET /info HTTP/1.0\r\n\r\n' | tuplecat uc /run/docker.sock
  tuplecat uc /tmp/mpv --send '{}\n' --expect success  send a command
  tuplecat uc --probe --retry-for 30 /run/app.sock      wait for a service";

impl UnixConnect {
    /// Returns the reason why options that are valid alone are not valid together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let kind = self.kind.contradiction(&self.common);
        kind.or_else(|| self.common.contradiction(self.kind.transport()))
    }
}

/// The command line of `unix-bind`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat unix-bind [OPTIONS] PATH",
    after_help = UNIX_BIND_EXAMPLES,
    mut_arg("on_stdin_eof", without_connection),
    mut_arg("pcap", |option| option.hide(true))
)]
pub struct UnixBind {
    /// The name of the socket.
    #[command(flatten)]
    pub bind: Positional<UnixPoint>,
    /// The file of the socket.
    #[command(flatten)]
    pub file: SocketFileOptions,
    /// Peers and answers.
    #[command(flatten)]
    pub peers: UnixPeerOptions,
    /// Local ends.
    #[command(flatten)]
    pub server: ServerOptions,
    /// Sizes and counts of datagrams.
    #[command(flatten)]
    pub datagrams: UnixDatagramOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
}

const UNIX_BIND_EXAMPLES: &str = "\
Examples:
  tuplecat unix-bind /tmp/log                print datagrams that are sent there
  tuplecat unix-bind /tmp/notify --count 1   receive one datagram and exit
  tuplecat unix-bind /tmp/echo --echo        answer each datagram with itself";

impl UnixBind {
    /// Returns the reason why options that are valid alone are not valid together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let file = self.file.contradiction(&self.bind.0);
        file.or_else(|| self.common.contradiction(Transport::UnixDatagram))
    }
}

/// The command line of `unix-sendto`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat unix-sendto [OPTIONS] PATH",
    after_help = UNIX_SENDTO_EXAMPLES,
    mut_arg("on_stdin_eof", without_connection),
    mut_arg("retry_for", datagram_retry),
    mut_arg("pcap", |option| option.hide(true))
)]
pub struct UnixSendto {
    /// The name to send to.
    #[command(flatten)]
    pub target: Positional<UnixName>,
    /// The own name, and the senders to accept.
    #[command(flatten)]
    pub sendto: UnixSendtoOptions,
    /// The wait for replies.
    #[command(flatten)]
    pub reply: ReplyOptions,
    /// Repetition of a failed attempt.
    #[command(flatten)]
    pub retry: RetryOptions,
    /// Sizes and counts of datagrams.
    #[command(flatten)]
    pub datagrams: UnixDatagramOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
}

const UNIX_SENDTO_EXAMPLES: &str = "\
Examples:
  printf '<13>hello' | tuplecat unix-sendto /dev/log --reply-timeout 0
  tuplecat unix-sendto /run/wpa/wlan0 --send PING --expect PONG";

impl UnixSendto {
    /// Returns the reason why options that are valid alone are not valid together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let reply = self.reply.contradiction(self.common.dialogue.expects());
        reply.or_else(|| self.common.contradiction(Transport::UnixDatagram))
    }
}

/// Sizes and counts of datagrams. None is lost or cut.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Datagrams")]
pub struct UnixDatagramOptions {
    /// Exit after receiving N datagrams
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1, u64::MAX))]
    pub count: Option<u64>,
    /// Let an empty datagram mean the end, both ways
    ///
    /// One is sent at the end of standard input, and a received one ends receiving. Without this option an empty datagram is data.
    #[arg(long)]
    pub eof_datagram: bool,
    /// Send at most SIZE bytes in a datagram [default: 8192]
    ///
    /// Input without boundaries is cut at SIZE; a longer frame of --in, or of --send, is an error.
    #[arg(long, value_name = "SIZE", value_parser = values::kernel_size)]
    pub datagram_size: Option<usize>,
}

/// Peers of a bound socket, and answers to them.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Peers")]
pub struct UnixPeerOptions {
    /// Send standard input to WHOM: last, first, all, none or PATH [default: last]
    ///
    /// Of the peers that have sent something and have a name: the latest sender, the first sender, or every peer. PATH has a slash,
    /// or begins with '@'. With 'none' standard input is not read.
    #[arg(
        long,
        value_name = "WHOM",
        conflicts_with_all = ["echo", "exec", "shell", "canned", "respond"],
        value_parser = unix_reply_to
    )]
    pub reply_to: Option<ReplyTo<UnixName>>,
    /// Accept datagrams only from the first peer
    #[arg(long)]
    pub lock_first: bool,
    /// Remember at most N peers; forget the longest idle one
    #[arg(long, value_name = "N", default_value = "1024", value_parser = whole::<u32>(1, 1 << 20))]
    pub max_peers: u32,
}

fn unix_reply_to(text: &str) -> Result<ReplyTo<UnixName>, String> {
    reply_to_or(text, |text| {
        if text.starts_with('@') || text.contains('/') {
            return text.parse();
        }
        Err("expected last, first, all, none or PATH".to_owned())
    })
}

/// The name to send from, and the senders to accept.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sending")]
pub struct UnixSendtoOptions {
    /// Senders to accept [default: target]
    #[arg(long, value_name = "WHOSE")]
    pub from: Option<FromPolicy>,
    /// Send from this name [default: an abstract name]
    ///
    /// Its file has the permissions 600, and is removed at the end.
    #[arg(long, value_name = "PATH", value_parser = |text: &str| text.parse::<UnixName>())]
    pub source: Option<UnixName>,
}

/// The file of a bound socket.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Socket")]
pub struct SocketFileOptions {
    /// Permissions of the socket's file, in octal [default: 600]
    ///
    /// To connect or to send, others need the permission to write.
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub mode: Option<u32>,
}

impl SocketFileOptions {
    fn contradiction(&self, point: &UnixPoint) -> Option<&'static str> {
        let has_file = matches!(point, UnixPoint::At(name) if !name.is_abstract());
        (self.mode.is_some() && !has_file)
            .then_some("--mode is for the file at a PATH; an abstract or a passed socket has none")
    }
}

/// Parses permissions.
fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    let mode = mode.filter(|mode| *mode <= 0o777 && !text.starts_with('+'));
    mode.ok_or_else(|| "expected octal digits such as 660, up to 777".to_owned())
}

/// The type of a socket with connections.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Socket")]
pub struct SocketTypeOptions {
    /// Keep the boundaries between packets (sequenced packets)
    #[arg(long)]
    pub seqpacket: bool,
    /// Send at most SIZE bytes in a packet [default: 8192]
    ///
    /// Input without boundaries is cut at SIZE; a longer frame of --in, or of --send, is an error.
    #[arg(long, value_name = "SIZE", requires = "seqpacket", value_parser = values::kernel_size)]
    pub datagram_size: Option<usize>,
}

impl SocketTypeOptions {
    /// Returns the transport.
    pub fn transport(&self) -> Transport {
        if self.seqpacket {
            Transport::UnixPacket
        } else {
            Transport::Unix
        }
    }

    fn contradiction(&self, common: &CommonOptions) -> Option<&'static str> {
        let framing = &common.framing;
        let input = STREAM_FORMATS.contains(&framing.input);
        let output = matches!(
            framing.output,
            OutputFraming::Raw | OutputFraming::Hex | OutputFraming::Json
        );
        let is_stream = input && output;
        (!self.seqpacket && !is_stream).then_some(
            "a stream has no boundaries: this --in or --out is for --seqpacket, or for a datagram mode",
        )
    }
}

/// The connection attempt.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connecting")]
pub struct UnixConnectOptions {
    /// Exit with status 6 if connecting takes TIME
    ///
    /// It takes time only if the backlog of the listening socket is full.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub connect_timeout: Option<Duration>,
    /// Connect, report the peer's process, and exit
    #[arg(
        long,
        conflicts_with_all = DIALOGUE,
        conflicts_with_all = STDIO,
        conflicts_with_all = INPUT,
        conflicts_with_all = ["exec", "shell", "max_bytes", "on_peer_eof"]
    )]
    pub probe: bool,
}

/// The name of a socket that waits for others.
pub type UnixPoint = BindPoint<UnixName>;

impl FromWords for UnixPoint {
    const FORM: &'static str = "PATH";
    const HELP: &'static str = "\
PATH of the socket, or @NAME for an abstract name

The file is created, and removed at the end. A file that exists is an error, unless it is that of a socket that is no more: \
then it is replaced. An abstract name is no file. 'systemd' is the socket that a systemd unit passes; 'systemd:NAME' is the \
one of that name.";

    fn from_words(words: &[&str]) -> Result<Self, String> {
        Self::passed_or(words, || UnixName::from_words(words))
    }
}

impl FromWords for UnixName {
    const FORM: &'static str = "PATH";
    const HELP: &'static str = "\
PATH of a socket, or @NAME for an abstract name

A relative PATH that begins with '@' is written with './' before it.";

    fn from_words(words: &[&str]) -> Result<Self, String> {
        match words {
            [word] => word.parse(),
            _ => Err("a Unix socket has one PATH, and no port".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal() {
        assert_eq!(mode("600"), Ok(0o600));
        assert_eq!(mode("0777"), Ok(0o777));
        for text in ["", "8", "1000", "rw", "+7", "-1"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_passed_socket_is_one_word() {
        let read = |word: &str| UnixPoint::from_words(&[word]);
        assert_eq!(
            read("systemd:a"),
            Ok(UnixPoint::Passed(Some("a".to_owned())))
        );
        assert!(matches!(read("./systemd"), Ok(UnixPoint::At(_))));
        assert!(UnixPoint::from_words(&["a", "1"]).is_err());
    }
}
