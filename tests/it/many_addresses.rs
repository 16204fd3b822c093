//! Names with several addresses: a connection races them, and the first that answers wins (RFC 8305).
//! The name exists in a private /etc/hosts only, which needs a mount namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::common::*;

/// A port of both `::1` and 127.0.0.1, held by sockets that do not listen yet: both refuse.
struct Twins {
    six: Socket,
    four: Socket,
    port: u16,
}

impl Twins {
    fn new() -> Self {
        for _ in 0..100 {
            let [six, four] = [Domain::IPV6, Domain::IPV4]
                .map(|domain| Socket::new(domain, Type::STREAM, None).unwrap());
            let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
            six.bind(&any.into()).unwrap();
            let port = six.local_addr().unwrap().as_socket().unwrap().port();
            let twin = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if four.bind(&twin.into()).is_ok() {
                return Self { six, four, port };
            }
        }
        panic!("no port is free in both families");
    }

    /// Returns the report about an address that refuses.
    fn refuses(&self, ip: impl Into<IpAddr>) -> String {
        let address = SocketAddr::new(ip.into(), self.port);
        format!("cannot connect to {address}: connection refused")
    }
}

/// Launches the program where the name `twins` stands for both addresses, and PORT for their port; prints a notice where that is not
/// possible.
fn to_twins(words: &str) -> Option<(Twins, Launch)> {
    let script = "printf '::1 twins\\n127.0.0.1 twins\\n' > hosts && mount --bind hosts /etc/hosts && exec \"$@\"";
    let launch = |path: &str| {
        let words = ["-rm", "/bin/sh", "-c", script, "sh", path];
        words.iter().fold(program("unshare", ""), Launch::arg)
    };
    if !has_ipv6() {
        return None;
    }
    if !is_installed("unshare") || launch("true").run().status != 0 {
        skip("a private /etc/hosts takes a mount namespace, which is not permitted here");
        return None;
    }
    let twins = Twins::new();
    let words = words.replace("PORT", &twins.port.to_string());
    Some((twins, launch(env!("CARGO_BIN_EXE_tuplecat")).args(&words)))
}

#[test]
fn the_next_address_is_tried_at_once_after_a_refusal() {
    let Some((twins, launch)) = to_twins("tcp-connect twins PORT") else {
        return;
    };
    let port = twins.port;
    twins.four.listen(1).unwrap();
    let client = launch.says("x").start();
    let peer = accept(&TcpListener::from(twins.four));
    assert_eq!(read_all(&peer), b"x");
    drop(peer);
    let done = client.wait().exits(0);
    let failed = format!("failed     [::1]:{port}: connection refused");
    assert_eq!(done.line("failed"), failed);
    let (_, _, remote) = tuple(done.line("connected"));
    assert_eq!(remote, format!("127.0.0.1:{port}"));
}

#[test]
fn the_next_address_joins_the_race_after_a_head_start() {
    let Some((twins, launch)) = to_twins("tcp-connect -v twins PORT") else {
        return;
    };
    let port = twins.port;
    let _clients = fill(&twins.six);
    twins.four.listen(1).unwrap();
    let start = Instant::now();
    let client = launch.says("x").start();
    let peer = accept(&TcpListener::from(twins.four));
    let waited = start.elapsed();
    assert!(
        waited >= Duration::from_millis(245),
        "no head start: {waited:?}"
    );
    assert_eq!(read_all(&peer), b"x");
    drop(peer);
    let done = client.wait().exits(0);
    let tried = done
        .err
        .lines()
        .filter_map(|line| line.strip_prefix("connecting "));
    let expected = [format!("[::1]:{port}"), format!("127.0.0.1:{port}")];
    assert_eq!(tried.collect::<Vec<_>>(), expected);
}

#[test]
fn the_first_address_that_answers_is_the_only_one() {
    let Some((twins, launch)) = to_twins("tcp-connect -v twins PORT") else {
        return;
    };
    twins.six.listen(1).unwrap();
    twins.four.listen(1).unwrap();
    let client = launch.says("x").start();
    drop(accept(&TcpListener::from(twins.six)));
    client.wait();
    assert!(is_silent_for(&twins.four, Duration::from_millis(1)));
}

#[test]
fn each_address_that_failed_has_its_line() {
    let Some((twins, launch)) = to_twins("tcp-connect twins PORT") else {
        return;
    };
    let (six, four) = (
        twins.refuses(Ipv6Addr::LOCALHOST),
        twins.refuses(Ipv4Addr::LOCALHOST),
    );
    launch.run().fails(5, &format!("{six}\n{four}"));
}

#[test]
fn the_limit_is_for_all_addresses_together() {
    let words = "tcp-connect --connect-timeout 600ms twins PORT";
    let Some((twins, launch)) = to_twins(words) else {
        return;
    };
    let port = twins.port;
    let _clients = fill(&twins.six);
    let done = launch.run().exits(6);
    let silent = format!("cannot connect to [::1]:{port}: timed out after 0.6 s");
    let refused = twins.refuses(Ipv4Addr::LOCALHOST);
    let mut lines: Vec<String> = done.errors().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, [refused, silent]);
}

#[test]
fn a_family_is_chosen_for_a_name_that_has_both() {
    let families: [(&str, IpAddr); 2] = [
        ("-4", Ipv4Addr::LOCALHOST.into()),
        ("-6", Ipv6Addr::LOCALHOST.into()),
    ];
    for (family, ip) in families {
        let words = format!("tcp-connect {family} twins:PORT");
        let Some((twins, launch)) = to_twins(&words) else {
            return;
        };
        launch.run().fails(5, &twins.refuses(ip));
    }
}

/// Over UDP no race is possible: the datagram goes to the address that `udp-bind` has by default.
#[test]
fn a_datagram_to_this_machine_reaches_udp_bind() {
    let server = tuplecat("udp-bind --count 1 0").start();
    let words = format!(
        "udp-sendto --reply-timeout 0 twins {}",
        server.ready().port()
    );
    let Some((_, launch)) = to_twins(&words) else {
        return;
    };
    launch.says("x").run().exits(0);
    assert_eq!(server.wait().exits(0).text(), "x");
}

/// A name of this machine in both families means 127.0.0.1 on either side.
#[test]
fn a_name_of_this_machine_is_bound_as_others_reach_it() {
    for mode in ["tcp-listen", "udp-bind"] {
        for (words, ip) in [
            ("", IpAddr::from(Ipv4Addr::LOCALHOST)),
            ("-6", Ipv6Addr::LOCALHOST.into()),
        ] {
            let Some((_, launch)) = to_twins(&format!("{mode} {words} twins 0 --timeout 0.1"))
            else {
                return;
            };
            let done = launch.run().exits(6);
            let word = if mode == "tcp-listen" {
                "listening"
            } else {
                "bound"
            };
            let address = SocketAddr::new(ip, 0).to_string();
            let host = address.strip_suffix('0').unwrap();
            assert!(done.line(word).contains(host), "{}", done.err);
        }
    }
}

/// Creates a network with an address that drops everything: there is no machine behind the bridge.
const BLACK_HOLE: &str = "\
    ip link set lo up
    ip link add hole type bridge
    ip link set hole up
    ip address add 2001:db8::1/64 dev hole nodad
    ip neighbour add 2001:db8::7 lladdr 02:00:00:00:00:07 dev hole";

/// The next address is tried long before the first has timed out, which takes minutes.
#[test]
fn a_black_hole_delays_no_connection() {
    let Some(network) = Namespace::new(BLACK_HOLE) else {
        return;
    };
    let server = network.tuplecat("tcp-listen -k --echo 0").start();
    let port = server.ready().port();
    let script = "printf '2001:db8::7 service\\n127.0.0.1 service\\n' > hosts && mount --bind hosts /etc/hosts && exec \"$@\"";
    for (words, word) in [
        ("tcp-connect --send hello --expect hello", "connected"),
        ("tcp-connect --probe", "open"),
    ] {
        let client = [
            "--mount",
            "/bin/sh",
            "-c",
            script,
            "sh",
            env!("CARGO_BIN_EXE_tuplecat"),
        ];
        let client = client.iter().fold(program("unshare", ""), Launch::arg);
        let client = client.args(words).args(&format!("service {port}"));
        let done = client.within(&network).run().exits(0);
        let (_, _, remote) = tuple(done.line(word));
        assert_eq!(remote, format!("127.0.0.1:{port}"));
        if word == "connected" {
            let reason = "no answer before another address had one";
            assert_eq!(
                done.line("failed"),
                format!("failed     [2001:db8::7]:{port}: {reason}")
            );
        }
    }
}

/// Who is refused before any reply goes on to the next address, with all that was sent so far.
#[test]
fn datagrams_go_on_to_the_next_address_after_a_refusal() {
    for words in ["", "--no-fast-path", "--connected", "--source-port 0"] {
        let server = tuplecat("udp-bind --out len16 --eof-datagram ::1 0").start();
        let port = server.ready().port();
        let words = format!("udp-sendto --in line --eof-datagram {words} twins {port}");
        let Some((_, launch)) = to_twins(&words) else {
            return;
        };
        let lines = "one line of many\n".repeat(200);
        let client = launch.says(&lines).run().exits(0);
        let line = client.line("refused");
        let first = format!("-> 127.0.0.1:{port}  port unreachable; going on to [::1]:{port}");
        assert!(line.ends_with(&first), "{line}");
        let framed =
            |line: &str| [&[0, u8::try_from(line.len()).unwrap()], line.as_bytes()].concat();
        let expected: Vec<u8> = lines.lines().flat_map(framed).collect();
        assert_eq!(server.wait().exits(0).out, expected);
    }
    // Where nobody is at any address, that is a refusal.
    let Some((twins, launch)) = to_twins("udp-sendto twins PORT") else {
        return;
    };
    let done = launch.says("x").run().exits(5);
    let last = format!("-> [::1]:{}: port unreachable", twins.port);
    assert!(done.errors().ends_with(&last), "{}", done.err);
}
