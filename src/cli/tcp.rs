//! The command lines of `tcp-listen` and `tcp-connect`, with the options that only TCP has.
//! Beside `udp.rs` it shows the differences between the transports.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, TypedValueParser};
use clap::{Arg, Command, ValueEnum};

use super::common::{INPUT, STDIO};
use super::dialogue::DIALOGUE;
use super::endpoint::{BindPoint, Positional};
use super::relay::with_target;
use super::traffic::{read_as_stream, written_as_stream};
use super::values::{self, MAX_INT, whole};
use super::{
    AccessOptions, ClientOptions, CommonOptions, NetworkOptions, Place, RelayOptions, RetryOptions,
    ServerOptions,
};
use crate::address::proxy::{Protocol, Proxy, masked};
use crate::address::{Port, Targets};
use crate::exit::Failure;
use crate::flow::Transport;
use crate::framing::OutputFraming;

/// The command line of `tcp-listen`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat tcp-listen [OPTIONS] [HOST] PORT",
    after_help = TCP_LISTEN_EXAMPLES,
    mut_arg("idle_timeout", |option| option.help(LISTEN_IDLE)),
    mut_arg("input", |option| option.help(LISTEN_INPUT)),
    mut_args(with_target)
)]
pub struct TcpListen {
    /// The local endpoint.
    #[command(flatten)]
    pub bind: Positional<BindPoint>,
    /// Clients, and the end that each is joined to.
    #[command(flatten)]
    pub accept: AcceptOptions,
    /// Rules about peers.
    #[command(flatten)]
    pub access: AccessOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Addresses and socket options.
    #[command(flatten)]
    pub network: NetworkOptions,
    /// The FIN of the peer.
    #[command(flatten)]
    pub peer_end: PeerEndOptions,
    /// Options of TCP sockets.
    #[command(flatten)]
    pub tcp: TcpOptions,
}

/// The help of `--idle-timeout` in a mode with clients.
pub(super) const LISTEN_IDLE: &str =
    "Exit with status 6 after TIME without traffic; with -k, disconnect the client";

/// The help of `--in` in a mode with clients.
pub(super) const LISTEN_INPUT: &str =
    "Format of the input; with --to udp: how datagrams stand in it";

const TCP_LISTEN_EXAMPLES: &str = "\
Examples:
  tuplecat tcp-listen 9000 > copy          receive a file from this machine
  tuplecat tcp-listen '*' 9000 > copy      receive a file from any machine
  tar c . | tuplecat tl '*' 9000           send a directory to the first client
  tuplecat tl 0 --ready-file port > copy   let the kernel choose the port";

impl TcpListen {
    /// Returns the reason why options that are valid alone are not valid together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        self.accept.contradiction(Transport::Tcp, &self.common)
    }
}

/// The options of a mode that accepts connections, whatever its transport.
#[derive(Clone, Debug, clap::Args)]
pub struct AcceptOptions {
    /// The wait for clients.
    #[command(flatten)]
    pub listen: ListenOptions,
    /// Many clients at once.
    #[command(flatten)]
    pub clients: ClientOptions,
    /// The target of a relay.
    #[command(flatten)]
    pub relay: RelayOptions,
    /// Local ends.
    #[command(flatten)]
    pub server: ServerOptions,
}

impl AcceptOptions {
    /// Returns true if each client is joined to a target.
    pub fn is_relay(&self) -> bool {
        self.relay.to.is_some()
    }

    /// Returns the reason why options are not valid together, in a mode of the transport `own`.
    pub(super) fn contradiction(
        &self,
        own: Transport,
        common: &CommonOptions,
    ) -> Option<&'static str> {
        if let Some(text) = self.relay.contradiction(own, &common.framing) {
            return Some(text);
        }
        if self.clients.prefix && common.dump.pcap == Some(Place::Standard) {
            return Some("--prefix is for standard output, which '--pcap -' uses for the capture");
        }
        let is_marked = self.clients.prefix || self.clients.out_dir.is_some();
        if is_marked && common.framing.output != OutputFraming::Raw {
            return Some("--out is for standard output as it is, without --prefix or --out-dir");
        }
        common.contradiction(own)
    }
}

/// The wait for clients.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Listening")]
pub struct ListenOptions {
    /// Backlog of listen(2): N clients may wait, and one more
    ///
    /// The kernel allows at most net.core.somaxconn. Linux lets one client more than that wait to be accepted.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = whole::<i32>(1, MAX_INT))]
    pub backlog: i32,
    /// Exit with status 6 after TIME without a client
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub accept_timeout: Option<Duration>,
}

/// The command line of `tcp-connect`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tuplecat tcp-connect [OPTIONS] HOST PORT",
    after_help = TCP_CONNECT_EXAMPLES,
    mut_arg("input", read_as_stream),
    mut_arg("output", written_as_stream)
)]
pub struct TcpConnect {
    /// The remote endpoint, or with `--probe` several ports.
    #[command(flatten)]
    pub target: Positional<Targets>,
    /// The connection attempt.
    #[command(flatten)]
    pub connect: ConnectOptions,
    /// Attempts that only show which ports are open.
    #[command(flatten)]
    pub probing: ProbeOptions,
    /// Repetition of a failed attempt.
    #[command(flatten)]
    pub retry: RetryOptions,
    /// The options of every mode.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Addresses and socket options.
    #[command(flatten)]
    pub network: NetworkOptions,
    /// The FIN of the peer.
    #[command(flatten)]
    pub peer_end: PeerEndOptions,
    /// Options of TCP sockets.
    #[command(flatten)]
    pub tcp: TcpOptions,
}

const TCP_CONNECT_EXAMPLES: &str = r"Examples:
  tuplecat tcp-connect 192.0.2.7 9000 < file              send a file
  printf 'GET / HTTP/1.0\r\n\r\n' | tuplecat tc localhost http
  tuplecat tc --connect-timeout 500ms '[2001:db8::7]:22'  IPv6, with a limit
  tuplecat tc --probe --retry-for 30 localhost 5432       wait for a service
  tuplecat tc localhost 6379 --send 'PING\r\n' --expect +PONG";

impl TcpConnect {
    /// Returns the reason why options that are valid alone are not valid together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        if self.target.0.ports.only().is_none() && !self.probing.probe {
            return Some("PORT is one port; only --probe takes several");
        }
        self.connect
            .contradiction()
            .or_else(|| self.common.contradiction(Transport::Tcp))
    }
}

/// The connection attempt.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connecting")]
pub struct ConnectOptions {
    /// Exit with status 6 if connecting takes TIME
    ///
    /// TIME is the limit for all addresses of HOST together. Without it --idle-timeout is the limit, or the kernel's own of
    /// about two minutes.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub connect_timeout: Option<Duration>,
    /// Connect from this local address
    #[arg(long, value_name = "HOST", value_parser = values::host)]
    pub source: Option<String>,
    /// Connect from this local port
    #[arg(long, value_name = "PORT")]
    pub source_port: Option<Port>,
    /// Connect through a proxy, such as socks5h://USER@HOST:PORT
    ///
    /// The schemes are socks5 and socks4, and those by which the proxy looks up the name of the target: socks5h, socks4a and http
    /// (CONNECT). USER may be left out, or have a password: USER:PASSWORD.
    #[arg(long, value_name = "URL", value_parser = ProxyUrl)]
    pub proxy: Option<Arc<Proxy>>,
    /// Read the password for the proxy from the first line of FILE
    ///
    /// Without it the password is that of URL, where other users of this machine can see it, or that of the environment variable
    /// `TUPLECAT_PROXY_PASSWORD`.
    #[arg(long, value_name = "FILE", requires = "proxy")]
    pub proxy_password: Option<PathBuf>,
}

/// Attempts that only show which ports are open.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connecting")]
pub struct ProbeOptions {
    /// Connect, report the 4-tuple and the time taken, and exit
    ///
    /// PORT may be a list such as 22,80,8000-8010. The status is 0 if all ports are open. A port that does not answer within 5
    /// seconds, or --connect-timeout, is not open.
    #[arg(
        long,
        conflicts_with_all = DIALOGUE,
        conflicts_with_all = STDIO,
        conflicts_with_all = INPUT,
        conflicts_with_all = ["exec", "shell", "max_bytes", "max_reads", "on_peer_eof"],
        conflicts_with = "fastopen"
    )]
    pub probe: bool,
    /// Succeed if at least one probed port is open
    #[arg(long, requires = "probe")]
    pub any: bool,
    /// Report the open ports alone, and succeed if there is one
    #[arg(long, requires = "probe", conflicts_with = "any")]
    pub open_only: bool,
    /// State that the ports are to have
    ///
    /// With 'closed' and --retry-for, the probe waits until every port refuses connections.
    #[arg(
        long,
        value_name = "STATE",
        default_value = "open",
        requires = "probe",
        conflicts_with_all = ["any", "open_only"]
    )]
    pub until: PortState,
}

/// State of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PortState {
    /// It accepts connections
    Open,
    /// It refuses them
    Closed,
}

impl ConnectOptions {
    /// Returns the proxy, with its password.
    pub fn proxy(&self) -> Result<Option<Arc<Proxy>>, Failure> {
        let complete = |proxy: &Arc<Proxy>| {
            let proxy = Proxy::clone(proxy);
            proxy.with_password(self.proxy_password.as_deref())
        };
        Ok(self.proxy.as_ref().map(complete).transpose()?.map(Arc::new))
    }

    /// Returns the reason why options that are valid alone are not valid together.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let (proxy, has_file) = (self.proxy.as_ref()?, self.proxy_password.is_some());
        let password = proxy.login.as_ref().map(|login| login.password.is_some());
        match password {
            None if has_file => {
                Some("--proxy-password is for the user in --proxy SCHEME://USER@HOST:PORT")
            }
            Some(true) if has_file => Some("--proxy has a password already"),
            Some(is_given) if proxy.protocol == Protocol::Socks4 && (is_given || has_file) => {
                Some("SOCKS 4 has users, but no passwords")
            }
            _ => None,
        }
    }
}

/// Parser of the URL of a proxy. Its errors do not show user and password.
#[derive(Clone)]
struct ProxyUrl;

impl TypedValueParser for ProxyUrl {
    type Value = Arc<Proxy>;

    fn parse_ref(
        &self,
        command: &Command,
        option: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Arc<Proxy>, clap::Error> {
        let result = match value.to_str() {
            Some(text) => text.parse().map(Arc::new),
            None => Err("not valid UTF-8; %HH stands for any byte".to_owned()),
        };
        let masked = masked(&value.to_string_lossy());
        let parse = move |_: &str| result.clone();
        parse.parse_ref(command, option, OsStr::new(&masked))
    }
}

/// Options of TCP sockets (tcp(7)).
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "TCP socket")]
pub struct TcpOptions {
    /// Send small segments at once (no Nagle algorithm)
    #[arg(long, value_name = "SWITCH", default_value = "on")]
    pub nodelay: Switch,
    /// Probe a silent peer; break the connection if it does not answer
    ///
    /// Probes start after IDLE of silence, repeat every INTERVAL, and break the connection after COUNT of them without an
    /// answer, as in --keepalive=30,5,3. The times are whole seconds. Without a value the system's settings apply: two hours,
    /// 75 seconds, 9 probes.
    #[arg(
        long,
        value_name = "IDLE,INTERVAL,COUNT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        hide_default_value = true,
        value_parser = values::keepalive
    )]
    pub keepalive: Option<Keepalive>,
    /// Break the connection if sent data is not acknowledged for TIME
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub user_timeout: Option<Duration>,
    /// Close with a reset (RST) and discard unsent data
    #[arg(long)]
    pub linger_reset: bool,
    /// Limit segments to SIZE bytes of data
    #[arg(long, value_name = "SIZE", value_parser = whole::<u32>(1, 65535))]
    pub mss: Option<u32>,
    /// Drop packets whose time to live (hop limit) is below N
    ///
    /// A packet from the same link still has 255 (RFC 5082).
    #[arg(long, value_name = "N", value_parser = whole::<u8>(1, 255))]
    pub min_ttl: Option<u8>,
    /// Use this congestion control, such as cubic or bbr
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub congestion: Option<String>,
    /// Send or accept data in the first packet (TCP Fast Open)
    ///
    /// A client that has a cookie of the peer sends with its SYN what --send or standard input has by then. The first connection
    /// to a peer gets the cookie.
    #[arg(long)]
    pub fastopen: bool,
}

/// The end of the peer's direction of a connection.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Endings")]
pub struct PeerEndOptions {
    /// Action when the peer has finished sending
    #[arg(long, value_name = "ACTION", default_value = "auto")]
    pub on_peer_eof: OnPeerEof,
    /// Exit after N reads that gave data
    ///
    /// A stream has no messages: a read gives what has arrived, up to 64 KiB.
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1, u64::MAX))]
    pub max_reads: Option<u64>,
}

/// The action when the peer has finished sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OnPeerEof {
    /// Exit if standard input is a terminal, or gave nothing and stays silent for 5 seconds; else wait for its end
    #[default]
    Auto,
    /// Wait for the end of standard input
    Wait,
    /// Exit at once
    Quit,
}

/// A setting that is on or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Set
    #[default]
    On,
    /// Not set
    Off,
}

/// The times and the number of keepalive probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// The system's settings.
    System,
    /// Settings of this socket.
    Timed {
        /// Silence before the first probe, in whole seconds.
        idle: Duration,
        /// Time between probes, in whole seconds.
        interval: Duration,
        /// Unanswered probes that break the connection.
        count: u32,
    },
}
