//! The options that become socket options.
//! What only TCP has is a group of its own; a value is checked here for form, and by the kernel for the rest.

use std::time::Duration;

use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;

use super::numbers;
use super::values;

/// Options of any socket (socket(7), ip(7)).
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Socket")]
pub struct SocketOptions {
    /// Ask for a receive buffer of SIZE bytes
    #[arg(long, value_name = "SIZE", value_parser = values::kernel_size)]
    pub rcvbuf: Option<usize>,
    /// Ask for a send buffer of SIZE bytes
    #[arg(long, value_name = "SIZE", value_parser = values::kernel_size)]
    pub sndbuf: Option<usize>,
    /// Set the time to live (hop limit) of packets
    #[arg(long, value_name = "N", value_parser = numbers::whole::<u32>(1, 255))]
    pub ttl: Option<u32>,
    /// Mark packets for a class of service: ef, af11 to af43, cs0 to cs7, or a number
    ///
    /// Sets the type of service of IPv4 and the traffic class of IPv6, eight bits. Names stand for the classes of RFC 2474
    /// and its kin; le, va, lowdelay, throughput and reliability are known too. A number is decimal, or hexadecimal after 0x.
    #[arg(long, value_name = "CLASS", value_parser = values::type_of_service)]
    pub tos: Option<u8>,
    /// Use this network interface only
    #[arg(long, value_name = "NAME", value_parser = values::interface)]
    pub interface: Option<String>,
    /// Mark packets with N for routing and packet filters (needs privileges)
    #[arg(long, value_name = "N", value_parser = values::mark)]
    pub mark: Option<u32>,
    /// Share the port with other sockets that say the same; the kernel spreads the traffic
    #[arg(long)]
    pub reuse_port: bool,
}

/// Options of TCP sockets (tcp(7)).
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TCP socket")]
pub struct TcpSocketOptions {
    /// Send small pieces at once instead of gathering them (Nagle's algorithm off)
    #[arg(long, value_name = "SWITCH", value_enum, default_value = "on")]
    pub nodelay: Switch,
    /// Probe a silent peer, and break the connection when it does not answer
    ///
    /// Probing starts after IDLE of silence, goes on every INTERVAL, and gives up after COUNT probes without an answer, as in
    /// --keepalive=30,5,3. The two times are in whole seconds. Without a value the system's settings hold: two hours, 75
    /// seconds, 9 probes.
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
    /// Break the connection when sent data stays unacknowledged for TIME
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub user_timeout: Option<Duration>,
    /// Close with a reset (RST): unsent data is thrown away
    #[arg(long)]
    pub linger_reset: bool,
    /// Limit segments to SIZE bytes of data
    #[arg(long, value_name = "SIZE", value_parser = numbers::whole::<u32>(1, 65535))]
    pub mss: Option<u32>,
    /// Use this congestion control, such as cubic or bbr
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub congestion: Option<String>,
    /// Send or accept data with the first packet of a connection (TCP Fast Open)
    ///
    /// A side that connects must speak first then: once it knows the peer, no connection is made before there is data to send.
    #[arg(long)]
    pub fastopen: bool,
}

/// A setting that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Set
    On,
    /// Not set
    Off,
}

/// How a silent peer is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// As the system's settings say.
    System,
    /// With values of its own.
    Timed {
        /// Silence before the first probe, in whole seconds.
        idle: Duration,
        /// Time between probes, in whole seconds.
        interval: Duration,
        /// Probes without an answer that break the connection.
        count: u32,
    },
}
