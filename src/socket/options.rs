//! From the options of the command line to the options of a socket (socket(7), ip(7), ipv6(7), tcp(7)).
//! The kernel has the last word on a value, and what it refuses is an error that names the option.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Socket, TcpKeepalive};

use crate::cli::{EndOptions, Keepalive, SocketOptions, Switch, TcpOptions};
use crate::exit::{Exit, Failure, describe};
use crate::link::tcp::Terms;
use crate::sys::sockopt::{set_fast_open_connect, set_fast_open_listen};

/// Which versions of IP the packets of a socket have: each has its own socket options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpVersions {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Either: an IPv6 socket that takes IPv4 as well.
    Both,
}

/// How many bytes may wait in a UDP socket where the user asks for no other number: what comes while it is full is lost, and a burst
/// of small datagrams takes several times its length. It is a limit, and costs nothing as long as nothing waits.
const ROOM: usize = 64 << 20;

/// What a TCP socket is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Connect.
    Connects,
    /// Listen; its clients' sockets inherit the options.
    Listens,
}

/// Sets the options that any socket has. To be called before `bind`.
///
/// Errors: [`Exit::Failed`] with the option and its value, where the kernel refuses it; also below.
pub(crate) fn apply(
    socket: &Socket,
    versions: IpVersions,
    options: &SocketOptions,
) -> Result<(), Failure> {
    if options.reuse_port {
        accept("--reuse-port", "", socket.set_reuse_port(true), "")?;
    }
    if let Some(size) = options.rcvbuf {
        accept("--rcvbuf", size, socket.set_recv_buffer_size(size), "")?;
    }
    if let Some(size) = options.sndbuf {
        accept("--sndbuf", size, socket.set_send_buffer_size(size), "")?;
    }
    if let Some(name) = &options.interface {
        let result = socket.bind_device(Some(name.as_bytes()));
        accept("--interface", name, result, "")?;
    }
    if let Some(mark) = options.mark {
        let result = socket.set_mark(mark);
        accept("--mark", mark, result, "it takes CAP_NET_ADMIN")?;
    }
    if let Some(ttl) = options.ttl {
        accept("--ttl", ttl, set_ttl(socket, versions, ttl), "")?;
    }
    if let Some(tos) = options.tos {
        let result = set_tos(socket, versions, tos.into());
        accept("--tos", format_args!("{tos:#04x}"), result, "")?;
    }
    Ok(())
}

fn set_ttl(socket: &Socket, versions: IpVersions, ttl: u32) -> io::Result<()> {
    if versions != IpVersions::V6 {
        socket.set_ttl_v4(ttl)?;
    }
    if versions != IpVersions::V4 {
        socket.set_unicast_hops_v6(ttl)?;
    }
    Ok(())
}

fn set_tos(socket: &Socket, versions: IpVersions, tos: u32) -> io::Result<()> {
    if versions != IpVersions::V6 {
        socket.set_tos_v4(tos)?;
    }
    if versions != IpVersions::V4 {
        socket.set_tclass_v6(tos)?;
    }
    Ok(())
}

/// Sets the options that only TCP has. To be called before `bind`.
pub(crate) fn apply_tcp(socket: &Socket, role: Role, options: &TcpOptions) -> Result<(), Failure> {
    let nodelay = options.nodelay == Switch::On;
    accept("--nodelay", "", socket.set_tcp_nodelay(nodelay), "")?;
    // Urgent data is data of the stream (RFC 6093, section 3.1); the kernel would take a byte out of it. A client's socket inherits it.
    let inline = socket.set_out_of_band_inline(true);
    inline.map_err(|error| Failure::io("cannot set SO_OOBINLINE", &error))?;
    if let Some(keepalive) = options.keepalive {
        set_keepalive(socket, keepalive)?;
    }
    if let Some(time) = options.user_timeout {
        let result = socket.set_tcp_user_timeout(Some(time));
        let value = humantime::format_duration(time);
        accept("--user-timeout", value, result, "at most 24 days")?;
    }
    if options.linger_reset {
        let result = socket.set_linger(Some(Duration::ZERO));
        accept("--linger-reset", "", result, "")?;
    }
    if let Some(mss) = options.mss {
        let result = socket.set_tcp_mss(mss);
        accept("--mss", mss, result, "the kernel takes 88 to 32767")?;
    }
    if let Some(name) = &options.congestion {
        let result = socket.set_tcp_congestion(name.as_bytes());
        let hint = result.as_ref().err().and_then(known_congestion_controls);
        let result = result.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                io::Error::new(error.kind(), "the kernel knows no such algorithm")
            }
            _ => error,
        });
        accept("--congestion", name, result, &hint.unwrap_or_default())?;
    }
    if options.fastopen {
        let result = match role {
            Role::Connects => set_fast_open_connect(socket),
            Role::Listens => set_fast_open_listen(socket, FAST_OPEN_QUEUE),
        };
        accept("--fastopen", "", result, "see net.ipv4.tcp_fastopen")?;
    }
    Ok(())
}

/// What is asked of each connection once it is made.
pub(crate) fn terms(ends: &EndOptions, options: &TcpOptions) -> Terms {
    Terms {
        wanted: ends.max_bytes,
        keeps_congestion: options.congestion.is_some(),
    }
}

/// Clients that may wait with data from their SYN. Few, because each of them costs memory before it is proven to exist.
const FAST_OPEN_QUEUE: i32 = 128;

fn set_keepalive(socket: &Socket, keepalive: Keepalive) -> Result<(), Failure> {
    match keepalive {
        Keepalive::System => accept("--keepalive", "", socket.set_keepalive(true), ""),
        Keepalive::Timed {
            idle,
            interval,
            count,
        } => {
            let parameters = TcpKeepalive::new()
                .with_time(idle)
                .with_interval(interval)
                .with_retries(count);
            let result = socket.set_tcp_keepalive(&parameters);
            let value = format_args!("{},{},{count}", idle.as_secs(), interval.as_secs());
            let hint = "the kernel takes up to 32767 seconds and 127 probes";
            accept("--keepalive", value, result, hint)
        }
    }
}

/// The congestion controls there are (unknown name), or that everybody may use (no permission).
fn known_congestion_controls(error: &io::Error) -> Option<String> {
    let (name, word) = match error.kind() {
        ErrorKind::NotFound => ("tcp_available_congestion_control", "available"),
        ErrorKind::PermissionDenied => ("tcp_allowed_congestion_control", "permitted"),
        _ => return None,
    };
    let names = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?;
    let names: Vec<&str> = names.split_whitespace().collect();
    Some(format!("{word}: {}", names.join(", ")))
}

/// Turns the kernel's refusal of a value into a failure that names the option, the value and what may help.
pub(crate) fn accept(
    option: &str,
    value: impl Display,
    result: io::Result<()>,
    hint: &str,
) -> Result<(), Failure> {
    result.map_err(|error| {
        let given = format!("{option} {value}");
        let reason = describe(&error);
        let hint = match hint {
            "" => String::new(),
            hint => format!(" ({hint})"),
        };
        Failure::new(
            Exit::Failed,
            format!("{}: {reason}{hint}", given.trim_end()),
        )
    })
}

/// Makes room for bursts of datagrams, as much as there may be: more than `net.core.rmem_max` takes `CAP_NET_ADMIN` (socket(7)).
pub(crate) fn apply_udp(socket: &Socket, options: &SocketOptions) {
    if options.rcvbuf.is_none() && setsockopt(socket, sockopt::RcvBufForce, &ROOM).is_err() {
        // Otherwise there is as much room as in any other socket.
        let _ = socket.set_recv_buffer_size(ROOM);
    }
}

/// What the kernel did not grant in full, one text an option: it caps buffers without an error (socket(7)).
pub(crate) fn shortfalls(socket: &Socket, options: &SocketOptions) -> io::Result<Vec<String>> {
    let mut texts = Vec::new();
    // The kernel reports twice what it grants, because half of it is for its own bookkeeping.
    if let Some(asked) = options.rcvbuf {
        let granted = socket.recv_buffer_size()? / 2;
        texts.extend(shortfall("--rcvbuf", asked, granted, "net.core.rmem_max"));
    }
    if let Some(asked) = options.sndbuf {
        let granted = socket.send_buffer_size()? / 2;
        texts.extend(shortfall("--sndbuf", asked, granted, "net.core.wmem_max"));
    }
    Ok(texts)
}

fn shortfall(option: &str, asked: usize, granted: usize, setting: &str) -> Option<String> {
    (granted < asked)
        .then(|| format!("{option} {asked}: the kernel grants only {granted} bytes ({setting})"))
}

#[cfg(test)]
pub(crate) mod tests {
    use pretty_assertions::assert_eq;
    use socket2::{Domain, Type};

    use super::*;
    use crate::cli::{Cli, Command};

    /// The options of the sockets that these words ask for.
    pub(crate) fn options(words: &str) -> (SocketOptions, TcpOptions) {
        let line = format!("tuplecat tcp-listen 0 {words}");
        match Cli::read(line.split_whitespace()).unwrap().command {
            Command::TcpListen(options) => (options.common.socket, options.tcp),
            command => panic!("{command:?}"),
        }
    }

    fn stream() -> Socket {
        Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
    }

    #[test]
    fn a_refused_value_names_the_option() {
        let (socket, tcp) = options("--mss 5 --interface nosuch0");
        assert_eq!(
            apply_tcp(&stream(), Role::Connects, &tcp),
            Err(Failure::new(
                Exit::Failed,
                "--mss 5: invalid argument (the kernel takes 88 to 32767)"
            ))
        );
        let failure = apply(&stream(), IpVersions::V4, &socket).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(failure.message, "--interface nosuch0: no such device");
    }

    #[test]
    fn an_unknown_congestion_control_gets_a_list() {
        let (_, tcp) = options("--congestion bbrx");
        let failure = apply_tcp(&stream(), Role::Connects, &tcp).unwrap_err();
        let start = "--congestion bbrx: the kernel knows no such algorithm (available: ";
        assert!(failure.message.starts_with(start), "{failure}");
        assert!(failure.message.contains("reno"), "{failure}");
    }

    #[test]
    fn a_socket_for_both_families_gets_both_header_fields() {
        let Ok(socket) = Socket::new(Domain::IPV6, Type::DGRAM, None) else {
            return;
        };
        let (options, _) = options("--ttl 7 --tos af11");
        apply(&socket, IpVersions::Both, &options).unwrap();
        let v4 = (socket.ttl_v4().unwrap(), socket.tos_v4().unwrap());
        let v6 = (
            socket.unicast_hops_v6().unwrap(),
            socket.tclass_v6().unwrap(),
        );
        assert_eq!((v4, v6), ((7, 0x28), (7, 0x28)));
    }

    #[test]
    fn a_buffer_is_granted_or_the_rest_is_reported() {
        let (options, _) = options("--rcvbuf 2047M --sndbuf 8k");
        let socket = stream();
        apply(&socket, IpVersions::V4, &options).unwrap();
        let texts = shortfalls(&socket, &options).unwrap();
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(texts[0].starts_with("--rcvbuf 2146435072: the kernel grants only "));
    }
}
