//! The options that become socket options of either transport, and the multicast groups that a socket joins.
//! The parser checks the form of a value; the kernel checks the value.

use std::fmt;
use std::net::IpAddr;

use super::values::{self, whole};

/// Sizes of the buffers of a socket (socket(7)).
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Socket")]
pub struct BufferOptions {
    /// Request a receive buffer of SIZE bytes
    #[arg(long, value_name = "SIZE", value_parser = values::kernel_size)]
    pub rcvbuf: Option<usize>,
    /// Request a send buffer of SIZE bytes
    #[arg(long, value_name = "SIZE", value_parser = values::kernel_size)]
    pub sndbuf: Option<usize>,
}

/// Options of a socket that sends packets (socket(7), ip(7)).
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Socket")]
pub struct SocketOptions {
    /// Set the time to live (hop limit) of packets
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1, 255))]
    pub ttl: Option<u32>,
    /// Set the traffic class, such as ef, af11, cs1 or 16
    ///
    /// This is the type of service of IPv4 and the traffic class of IPv6, eight bits. The names are ef, af11 to af43, cs0
    /// to cs7 (RFC 2474 and its successors), le, va, lowdelay, throughput and reliability. A number is decimal, or hexadecimal after 0x.
    #[arg(long, value_name = "CLASS", value_parser = values::type_of_service)]
    pub tos: Option<u8>,
    /// Use only this network interface
    #[arg(long, value_name = "NAME", value_parser = values::interface)]
    pub interface: Option<String>,
    /// Mark packets with N (privileged)
    ///
    /// Routing and packet filters can use the mark.
    #[arg(long, value_name = "N", value_parser = values::mark)]
    pub mark: Option<u32>,
    /// Set the debugging flag of the socket (privileged)
    #[arg(long)]
    pub so_debug: bool,
    /// Share the port with other sockets
    ///
    /// All of them need this option. The kernel distributes connections and datagrams among them (socket(7)).
    #[arg(long)]
    pub reuse_port: bool,
}

/// Broadcast and multicast (RFC 1112, RFC 4607).
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Broadcast and multicast")]
pub struct GroupOptions {
    /// Allow sending to a broadcast address
    #[arg(long)]
    pub broadcast: bool,
    /// Join a multicast GROUP on interface IF; repeatable
    ///
    /// GROUP@SOURCE receives only datagrams of SOURCE (source-specific multicast). Without IF the kernel's routes decide.
    #[arg(long, value_name = "GROUP[%IF]", value_parser = membership)]
    pub join: Vec<Membership>,
    /// Limit multicast to N hops; 0 is this machine only [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(0, 255))]
    pub multicast_ttl: Option<u32>,
    /// Send multicast through this network interface
    #[arg(long, value_name = "IF", value_parser = values::interface)]
    pub multicast_if: Option<String>,
    /// Do not deliver sent multicast on this machine
    #[arg(long)]
    pub no_multicast_loop: bool,
}

/// The membership of a multicast group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group's address.
    pub group: IpAddr,
    /// The only sender to accept.
    pub source: Option<IpAddr>,
    /// The network interface.
    pub interface: Option<String>,
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.group)?;
        if let Some(interface) = &self.interface {
            write!(f, "%{interface}")?;
        }
        if let Some(source) = self.source {
            write!(f, "@{source}")?;
        }
        Ok(())
    }
}

/// Parses `GROUP`, `GROUP%IF`, `GROUP@SOURCE`, `GROUP%IF@SOURCE` or `GROUP@SOURCE%IF`.
fn membership(text: &str) -> Result<Membership, String> {
    let (group, source) = match text.split_once('@') {
        Some((group, source)) => (group, Some(scoped(source)?)),
        None => (text, None),
    };
    let (group, interface) = scoped(group)?;
    let interface = match (interface, source.and_then(|(_, interface)| interface)) {
        (Some(one), Some(other)) if one != other => {
            return Err("two different interfaces".to_owned());
        }
        (one, other) => one.or(other),
    };
    let source = source.map(|(source, _)| source);
    if !group.is_multicast() {
        return Err(format!(
            "'{group}' is not a multicast address (224.0.0.0/4 or ff00::/8)"
        ));
    }
    if source.is_some_and(|source| source.is_ipv4() != group.is_ipv4() || source.is_multicast()) {
        return Err("the source is not a unicast address of the group's family".to_owned());
    }
    Ok(Membership {
        group,
        source,
        interface: interface.map(values::interface).transpose()?,
    })
}

/// Splits an address from its interface, and removes brackets.
fn scoped(text: &str) -> Result<(IpAddr, Option<&str>), String> {
    let (address, interface) = match text.split_once('%') {
        Some((address, interface)) => (address, Some(interface)),
        None => (text, None),
    };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    match address.parse() {
        Ok(address) => Ok((address, interface)),
        Err(_) => Err(format!("'{address}' is not an IP address")),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_group_may_have_a_source_and_an_interface() {
        let read = |text: &str| membership(text).map(|membership| membership.to_string());
        for (text, shown) in [
            ("239.1.2.3", "239.1.2.3"),
            ("239.1.2.3%lo", "239.1.2.3%lo"),
            ("232.1.2.3@10.0.0.1", "232.1.2.3@10.0.0.1"),
            ("232.1.2.3%lo@10.0.0.1", "232.1.2.3%lo@10.0.0.1"),
            ("232.1.2.3@10.0.0.1%lo", "232.1.2.3%lo@10.0.0.1"),
            ("ff02::fb%eth0", "ff02::fb%eth0"),
            ("ff3e::1@2001:db8::1", "ff3e::1@2001:db8::1"),
        ] {
            assert_eq!(read(text), Ok(shown.to_owned()));
        }
        for text in [
            "",
            "10.0.0.1",
            "239.1.2.3%",
            "239.1.2.3%a234567890123456",
            "239.1.2.3@ff3e::1",
            "239.1.2.3@239.1.2.4",
            "232.1.2.3%lo@10.0.0.1%eth0",
            "nosuch",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
