//! Socket options, from those of the command line (socket(7), ip(7), ipv6(7), tcp(7)).
//! The kernel has the last word on a value.

use std::io::{self, ErrorKind};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Socket, TcpKeepalive};

use super::{IpVersions, check};
use crate::cli::{BufferOptions, Keepalive, SocketOptions, Switch, TcpOptions};
use crate::exit::Failure;
use crate::flow::{interface_index, interface_name};
use crate::sys::sockopt::{set_debug, set_fast_open_listen, set_min_hops_v6, set_min_ttl_v4};

/// Receive buffer of a UDP socket where the user asks for no other, in bytes.
///
/// A datagram that comes while the buffer is full is lost, and a burst of small ones takes several times its length. The memory is
/// used only while datagrams wait.
const UDP_RECEIVE_BUFFER: usize = 64 << 20;

/// Clients that may wait with data from their SYN: few, as each costs memory before it is proven to exist.
const FAST_OPEN_QUEUE: i32 = 128;

/// Purpose of a TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It connects.
    Connects,
    /// It listens; the sockets of its clients inherit the options.
    Listens,
}

/// Sets the sizes of the buffers, before `bind`.
pub(super) fn apply_buffers(socket: &Socket, options: &BufferOptions) -> Result<(), Failure> {
    if let Some(size) = options.rcvbuf {
        check("--rcvbuf", size, socket.set_recv_buffer_size(size), "")?;
    }
    if let Some(size) = options.sndbuf {
        check("--sndbuf", size, socket.set_send_buffer_size(size), "")?;
    }
    Ok(())
}

/// Sets the options of any socket that sends packets, before `bind`.
pub(super) fn apply(
    socket: &Socket,
    versions: IpVersions,
    options: &SocketOptions,
) -> Result<(), Failure> {
    if options.reuse_port {
        check("--reuse-port", "", socket.set_reuse_port(true), "")?;
    }
    if let Some(name) = &options.interface {
        let by_number = interface_index(name).ok().and_then(interface_name);
        let device = by_number.as_deref().unwrap_or(name);
        let result = socket.bind_device(Some(device.as_bytes()));
        check("--interface", name, result, "")?;
    }
    if options.so_debug {
        check(
            "--so-debug",
            "",
            set_debug(socket),
            "it takes CAP_NET_ADMIN",
        )?;
    }
    if let Some(mark) = options.mark {
        let result = socket.set_mark(mark);
        check("--mark", mark, result, "it takes CAP_NET_ADMIN")?;
    }
    if let Some(ttl) = options.ttl {
        let result = versions.set(
            || socket.set_ttl_v4(ttl),
            || socket.set_unicast_hops_v6(ttl),
        );
        check("--ttl", ttl, result, "")?;
    }
    if let Some(tos) = options.tos {
        let result = versions.set(
            || socket.set_tos_v4(tos.into()),
            || socket.set_tclass_v6(tos.into()),
        );
        check("--tos", format_args!("{tos:#04x}"), result, "")?;
    }
    Ok(())
}

/// Sets the options of a TCP socket, before `bind`.
pub(super) fn apply_tcp(
    socket: &Socket,
    versions: IpVersions,
    role: Role,
    options: &TcpOptions,
) -> Result<(), Failure> {
    let nodelay = options.nodelay == Switch::On;
    check("--nodelay", "", socket.set_tcp_nodelay(nodelay), "")?;
    // Urgent data belongs to the stream (RFC 6093, section 3.1). Without this option the kernel takes a byte out of it.
    let inline = socket.set_out_of_band_inline(true);
    inline.map_err(|error| Failure::io("cannot set SO_OOBINLINE", &error))?;
    if let Some(keepalive) = options.keepalive {
        set_keepalive(socket, keepalive)?;
    }
    if let Some(time) = options.user_timeout {
        let result = socket.set_tcp_user_timeout(Some(time));
        let value = humantime::format_duration(time);
        check("--user-timeout", value, result, "at most 24 days")?;
    }
    if options.linger_reset {
        let result = socket.set_linger(Some(Duration::ZERO));
        check("--linger-reset", "", result, "")?;
    }
    if let Some(mss) = options.mss {
        let result = socket.set_tcp_mss(mss);
        check("--mss", mss, result, "the kernel takes 88 to 32767")?;
    }
    if let Some(least) = options.min_ttl {
        let result = versions.set(
            || set_min_ttl_v4(socket, least),
            || set_min_hops_v6(socket, least),
        );
        check("--min-ttl", least, result, "")?;
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
        check("--congestion", name, result, &hint.unwrap_or_default())?;
    }
    if options.fastopen {
        let result = match role {
            // With a cookie of the peer, `connect` returns before anything is sent (tcp(7), RFC 7413).
            Role::Connects => {
                let set = setsockopt(socket, sockopt::TcpFastOpenConnect, &true);
                set.map_err(io::Error::from)
            }
            Role::Listens => set_fast_open_listen(socket, FAST_OPEN_QUEUE),
        };
        check("--fastopen", "", result, "see net.ipv4.tcp_fastopen")?;
    }
    Ok(())
}

fn set_keepalive(socket: &Socket, keepalive: Keepalive) -> Result<(), Failure> {
    match keepalive {
        Keepalive::System => check("--keepalive", "", socket.set_keepalive(true), ""),
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
            check("--keepalive", value, result, hint)
        }
    }
}

/// Returns the congestion controls that exist (unknown name), or that every user may choose (no permission).
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

/// Makes room for bursts of datagrams. More than `net.core.rmem_max` needs `CAP_NET_ADMIN` (socket(7)).
pub(super) fn apply_udp(socket: &Socket, options: &BufferOptions) {
    if options.rcvbuf.is_none()
        && setsockopt(socket, sockopt::RcvBufForce, &UDP_RECEIVE_BUFFER).is_err()
    {
        // If this fails too, the room is that of any socket.
        let _ = socket.set_recv_buffer_size(UDP_RECEIVE_BUFFER);
    }
}

/// Describes options that the kernel did not grant in full: it caps buffers without an error (socket(7)).
pub(crate) fn shortfalls(socket: &Socket, options: &BufferOptions) -> io::Result<Vec<String>> {
    let mut texts = Vec::new();
    // The kernel reports twice the size; half of that is for its own bookkeeping.
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
mod tests {
    use pretty_assertions::assert_eq;
    use socket2::{Domain, Type};

    use super::*;
    use crate::cli::{Cli, Command, CommonOptions, NetworkOptions};
    use crate::exit::Exit;

    fn options(words: &str) -> (CommonOptions, NetworkOptions, TcpOptions) {
        let line = format!("tuplecat tcp-listen 0 {words}");
        match Cli::read(line.split_whitespace()).unwrap().command {
            Command::TcpListen(options) => (options.common, options.network, options.tcp),
            command => panic!("{command:?}"),
        }
    }

    fn stream() -> Socket {
        Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
    }

    #[test]
    fn a_refused_value_names_the_option() {
        let (_, network, tcp) = options("--mss 5 --interface nosuch0");
        assert_eq!(
            apply_tcp(&stream(), IpVersions::V4, Role::Connects, &tcp),
            Err(Failure::new(
                Exit::Failed,
                "--mss 5: invalid argument (the kernel takes 88 to 32767)"
            ))
        );
        let failure = apply(&stream(), IpVersions::V4, &network.socket).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(failure.message, "--interface nosuch0: no such device");
    }

    #[test]
    fn an_unknown_congestion_control_gets_a_list() {
        let (_, _, tcp) = options("--congestion bbrx");
        let failure = apply_tcp(&stream(), IpVersions::V4, Role::Connects, &tcp).unwrap_err();
        let start = "--congestion bbrx: the kernel knows no such algorithm (available: ";
        assert!(failure.message.starts_with(start), "{failure}");
        assert!(failure.message.contains("reno"), "{failure}");
    }

    #[test]
    fn a_socket_for_both_families_gets_both_header_fields() {
        let Ok(socket) = Socket::new(Domain::IPV6, Type::DGRAM, None) else {
            return;
        };
        let (_, network, _) = options("--ttl 7 --tos af11");
        apply(&socket, IpVersions::Both, &network.socket).unwrap();
        let v4 = (socket.ttl_v4().unwrap(), socket.tos_v4().unwrap());
        let v6 = (
            socket.unicast_hops_v6().unwrap(),
            socket.tclass_v6().unwrap(),
        );
        assert_eq!((v4, v6), ((7, 0x28), (7, 0x28)));
    }

    #[test]
    fn a_buffer_is_granted_or_the_rest_is_reported() {
        let (common, ..) = options("--rcvbuf 2047M --sndbuf 8k");
        let socket = stream();
        apply_buffers(&socket, &common.buffers).unwrap();
        let texts = shortfalls(&socket, &common.buffers).unwrap();
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(texts[0].starts_with("--rcvbuf 2146435072: the kernel grants only "));
    }
}
