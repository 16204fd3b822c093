//! Socket options: each has its effect, seen on the process's own sockets or by its peer.
//! A bad value is a usage error; one that the kernel refuses is an error that names the option.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::Signal;
use socket2::Socket;
use tuplecat::flow::Transport;

use crate::common::*;

/// Starts both modes with `words`, connected where there are connections, and passes the socket of each to `check`.
fn on_both_sides(transport: Transport, words: &str, check: impl Fn(&Socket)) {
    if transport == Transport::Tcp {
        let server = tuplecat("tcp-listen")
            .args(words)
            .arg("0")
            .stdin(Input::Held)
            .start();
        let _peer = connect(server.ready());
        server.err().wait_for_line("accepted");
        inspect(&server, &check);
        let (listener, address) = listen();
        let client = tuplecat("tcp-connect")
            .args(words)
            .to(address)
            .stdin(Input::Held);
        let client = client.start();
        client.ready();
        let _peer = accept(&listener);
        inspect(&client, &check);
    } else {
        let server = tuplecat("udp-bind")
            .args(words)
            .arg("0")
            .stdin(Input::Held)
            .start();
        server.ready();
        inspect(&server, &check);
        let (_socket, address) = datagrams();
        let client = tuplecat("udp-sendto")
            .args(words)
            .to(address)
            .stdin(Input::Held);
        let client = client.start();
        client.ready();
        inspect(&client, &check);
    }
}

fn inspect(running: &Running, check: impl Fn(&Socket)) {
    let Some(sockets) = sockets_of(running) else {
        return;
    };
    // It may have another for a moment, to query the kernel for a route.
    let port = running.ready().port();
    let is_own = |socket: &&Socket| {
        let address = socket.local_addr().unwrap();
        address.as_socket().is_some_and(|own| own.port() == port)
    };
    let sockets: Vec<&Socket> = sockets.iter().filter(is_own).collect();
    assert!(!sockets.is_empty());
    sockets.into_iter().for_each(check);
}

both! {
    /// The kernel reports twice the granted size, since half is for its own bookkeeping.
    fn buffers_have_the_size_asked_for(transport) {
        on_both_sides(transport, "--rcvbuf 20k --sndbuf 30000", |socket| {
            assert_eq!(socket.recv_buffer_size().unwrap(), 2 * 20 * 1024);
            assert_eq!(socket.send_buffer_size().unwrap(), 2 * 30_000);
        });
    }

    /// A smaller buffer than requested is reported.
    fn a_smaller_buffer_than_requested_is_reported(transport) {
        let server = waits(transport, "--rcvbuf 1G --timeout 0.2 0").run().exits(6);
        assert!(server.err.contains("--rcvbuf 1073741824"), "{}", server.err);
        assert!(server.err.contains("net.core.rmem_max"), "{}", server.err);
    }

    fn the_time_to_live_is_set(transport) {
        on_both_sides(transport, "--ttl 7", |socket| {
            assert_eq!(socket.ttl_v4().unwrap(), 7);
        });
    }

    fn debugging_needs_a_privilege(transport) {
        let done = waits(transport, "--so-debug --timeout 100ms 0").bare().run();
        if done.status != 6 {
            let text = done.exits(1).errors();
            assert!(text.starts_with("--so-debug: "), "{text}");
        }
    }

    fn the_class_of_service_is_set(transport) {
        on_both_sides(transport, "--tos ef", |socket| {
            assert_eq!(socket.tos_v4().unwrap(), 0xb8);
        });
        on_both_sides(transport, "--tos 0x10", |socket| {
            assert_eq!(socket.tos_v4().unwrap(), 0x10);
        });
    }

    /// The same header fields have other names in IPv6.
    fn ipv6_has_the_same_options(transport) {
        if !has_ipv6() {
            return;
        }
        let server = waits(transport, "-6 --ttl 9 --tos af11 0").start();
        server.ready();
        inspect(&server, |socket| {
            assert_eq!(socket.unicast_hops_v6().unwrap(), 9);
            assert_eq!(socket.tclass_v6().unwrap(), 0x28);
        });
    }

    fn the_interface_is_set(transport) {
        on_both_sides(transport, "--interface lo", |socket| {
            assert_eq!(socket.device().unwrap().as_deref(), Some(&b"lo"[..]));
        });
    }

    /// Marks need a privilege; without it the error says so.
    fn the_mark_is_set_or_refused(transport) {
        let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let done = waits(transport, "--mark 0x7 --timeout 0.1 0").run();
        if is_root && done.status == 6 {
            on_both_sides(transport, "--mark 0x7", |socket| {
                assert_eq!(socket.mark().unwrap(), 7);
            });
        } else {
            done.fails(1, "--mark 7: operation not permitted (it takes CAP_NET_ADMIN)");
        }
    }

    /// A bad value is an error before anything is opened.
    fn a_value_that_means_nothing_is_a_usage_error(transport) {
        let mode = match transport {
            Transport::Tcp => "tcp-listen",
            _ => "udp-bind",
        };
        for words in ["--rcvbuf 0", "--sndbuf 2G", "--ttl 0", "--ttl 256", "--tos 256", "--tos fast", "--mark x"] {
            let done = tuplecat(mode).args(words).arg("0").run().exits(2);
            let (option, value) = words.split_once(' ').unwrap();
            assert!(done.err.contains(&format!("'{value}' for '{option} ")), "{}", done.err);
        }
    }

    fn an_interface_that_does_not_exist_is_an_error(transport) {
        let done = waits(transport, "--interface nosuch0 0").run();
        done.fails(1, "--interface nosuch0: no such device");
    }
}

#[test]
fn small_writes_are_sent_at_once_by_default() {
    for (words, is_set) in [("", true), ("--nodelay on", true), ("--nodelay off", false)] {
        on_both_sides(Transport::Tcp, words, |socket| {
            assert_eq!(socket.tcp_nodelay().unwrap(), is_set, "{words}");
        });
    }
}

#[test]
fn a_silent_peer_is_probed() {
    on_both_sides(Transport::Tcp, "", |socket| {
        assert!(!socket.keepalive().unwrap());
    });
    on_both_sides(Transport::Tcp, "--keepalive", |socket| {
        assert!(socket.keepalive().unwrap());
    });
    on_both_sides(Transport::Tcp, "--keepalive=30,5,3", |socket| {
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(30)
        );
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(5)
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    });
}

#[test]
fn unacknowledged_data_has_a_limit() {
    on_both_sides(Transport::Tcp, "--user-timeout 9", |socket| {
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(9))
        );
    });
}

#[test]
fn segments_have_the_requested_size() {
    let server = tuplecat("tcp-listen --mss 1000 0").start();
    let peer = Socket::from(connect(server.ready()));
    // The other side learns it with the first segment.
    assert!(peer.tcp_mss().unwrap() <= 1000);
    let (listener, address) = listen();
    let client = tuplecat("tcp-connect --mss 900")
        .to(address)
        .stdin(Input::Held);
    let _client = client.start();
    assert!(Socket::from(accept(&listener)).tcp_mss().unwrap() <= 900);
}

#[test]
fn the_congestion_control_is_set() {
    on_both_sides(Transport::Tcp, "--congestion reno", |socket| {
        assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"));
    });
}

/// The congestion control is the system's choice or the user's, however much a connection carries.
#[test]
fn the_congestion_control_stays_as_it_was_chosen() {
    let usual = Socket::from(listen().0).tcp_congestion().unwrap();
    for (words, expected) in [("", usual.as_slice()), ("--congestion reno", b"reno")] {
        let (listener, address) = listen();
        let client = tuplecat("tcp-connect").args(words).to(address);
        let mut client = client.stdin(Input::Held).start();
        let mut peer = accept(&listener);
        let reader = std::thread::spawn(move || peer.read_exact(&mut vec![0; 2 << 20]).unwrap());
        client.write(vec![0; 2 << 20]);
        reader.join().unwrap();
        inspect(&client, |socket| {
            assert!(socket.tcp_congestion().unwrap().starts_with(expected));
        });
    }
}

#[test]
fn a_reset_can_take_the_place_of_the_end() {
    let (listener, address) = listen();
    let client = tuplecat("tcp-connect --linger-reset --on-peer-eof quit").to(address);
    let client = client.stdin(Input::Held).start();
    let mut peer = accept(&listener);
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let error = peer.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    client.wait().exits(0);
    // The end of input still sends a FIN, unless disabled.
    let client = tuplecat("tcp-connect --linger-reset --on-stdin-eof keep --idle-timeout 50ms");
    let client = client.to(address).says("x").start();
    let mut peer = accept(&listener);
    assert_eq!(client.wait().status, 6);
    // Data before a reset can still be read.
    let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let client = tuplecat("tcp-connect --linger-reset")
        .to(address)
        .says("x")
        .start();
    let mut peer = accept(&listener);
    let mut text = String::new();
    assert_eq!(peer.read_to_string(&mut text).unwrap(), 1);
    drop(peer);
    client.wait().exits(0);
}

#[test]
fn fast_open_transfers_data() {
    let sent = bytes(100_000);
    for _ in 0..2 {
        let server = tuplecat("tcp-listen --fastopen 0").start();
        let client = tuplecat("tcp-connect --fastopen").to(server.ready());
        client.says(&sent).run().exits(0);
        assert!(server.wait().exits(0).out == sent);
    }
}

/// With a cookie of the peer, data goes with the SYN; where there is none the SYN goes all the same, and a refusal is one.
#[test]
fn fast_open_with_a_cookie_connects_as_without() {
    let setup = "ip link set lo up && sysctl -qw net.ipv4.tcp_fastopen=3";
    let Some(network) = Namespace::new(setup) else {
        return;
    };
    let meet = |server: &str, client: &str, input: Input| {
        let server = network.tuplecat(&format!("tcp-listen --fastopen 127.0.0.1 0 {server}"));
        let server = server.stdin(Input::Held).start();
        let client = network.tuplecat(&format!("tcp-connect --fastopen {client}"));
        let client = client.to(server.ready()).stdin(input).start();
        (server, client)
    };
    let sent = bytes(100_000);
    // The first connection brings the cookie.
    for _ in 0..2 {
        let (mut server, client) = meet("", "", Input::Bytes(sent.clone()));
        server.close_stdin();
        client.wait().exits(0);
        assert!(server.wait().exits(0).out == sent);
    }
    network.run("ip tcp_metrics show 127.0.0.1 | grep -q fo_cookie");
    let (server, client) = meet(
        "--send hello --on-stdin-eof quit",
        "--recv-only",
        Input::Held,
    );
    assert_eq!(client.wait().exits(0).text(), "hello");
    server.wait().exits(0);
    let (server, client) = meet("--expect a --send b", "--send a --expect b", Input::Held);
    client.wait().exits(0);
    server.wait().exits(0);
    let [nobody, later] = [47_001, 47_002];
    for words in ["--send x", "--recv-only", "--send x --retry-for 200ms"] {
        let client = network.tuplecat("tcp-connect --fastopen").args(words);
        let done = client.args(&format!("127.0.0.1 {nobody}")).run().exits(5);
        assert!(done.err.contains("connection refused"), "{}", done.err);
    }
    let client = network.tuplecat("tcp-connect --fastopen --retry-for 30 --send x");
    let client = client.args(&format!("127.0.0.1 {later}")).start();
    client.err().wait_for("retrying ");
    let server = network.tuplecat(&format!("tcp-listen 127.0.0.1 {later}"));
    let server = server.start();
    client.wait().exits(0);
    assert_eq!(server.wait().exits(0).text(), "x");
}

/// Clients wait in a queue until they are accepted; the option is its length.
#[test]
fn the_backlog_limits_waiting_clients() {
    // One after the other: of several at once, the kernel may accept a few more.
    let reach = |address: SocketAddr| {
        let limit = Duration::from_millis(300);
        let tries = (0..6).map_while(|_| TcpStream::connect_timeout(&address, limit).ok());
        tries.collect::<Vec<_>>().len()
    };
    for (words, expected) in [("--backlog 1", 2), ("--backlog 3", 4), ("", 6)] {
        let server = tuplecat("tcp-listen").args(words).arg("0").start();
        let address = server.ready();
        server.signal(Signal::STOP);
        assert_eq!(reach(address), expected, "{words}");
        server.signal(Signal::CONT);
    }
}

#[test]
fn an_error_of_the_kernel_names_the_option() {
    for (words, message) in [
        (
            "--mss 5",
            "--mss 5: invalid argument (the kernel takes 88 to 32767)",
        ),
        (
            "--keepalive=40000,1,1",
            "--keepalive 40000,1,1: invalid argument (the kernel takes up to",
        ),
        (
            "--congestion nosuch",
            "--congestion nosuch: the kernel knows no such algorithm (available: ",
        ),
        ("--user-timeout 30d", "--user-timeout 30days: "),
    ] {
        let done = tuplecat("tcp-listen").args(words).arg("0").run().exits(1);
        assert!(done.errors().starts_with(message), "{words}: {}", done.err);
        let done = tuplecat("tcp-connect")
            .args(words)
            .args("127.0.0.1 9")
            .run()
            .exits(1);
        assert!(done.errors().starts_with(message), "{words}: {}", done.err);
    }
}

#[test]
fn an_option_of_the_other_transport_is_a_usage_error() {
    let stream = [
        "--nodelay on",
        "--keepalive",
        "--user-timeout 1",
        "--linger-reset",
        "--mss 1000",
        "--congestion reno",
        "--fastopen",
        "--on-peer-eof wait",
        "--backlog 1",
        "--accept-timeout 1",
        "--connect-timeout 1",
        "--on-stdin-eof shutdown",
    ];
    let datagram = [
        "--count 1",
        "--eof-datagram",
        "--datagram-size 1",
        "--connected",
        "--from any",
        "--replies 1",
        "--reply-timeout 1",
    ];
    for (modes, options) in [
        (["udp-bind 0", "udp-sendto 127.0.0.1 9"], &stream[..]),
        (["tcp-listen 0", "tcp-connect 127.0.0.1 9"], &datagram[..]),
    ] {
        for mode in modes {
            for option in options {
                let done = tuplecat(mode).args(option).run().exits(2);
                assert!(
                    done.err.starts_with("tuplecat: "),
                    "{mode} {option}: {}",
                    done.err
                );
            }
        }
    }
}

/// A connection is made only with packets of the other side that have not been forwarded, in both families.
#[test]
fn packets_that_come_from_afar_are_dropped() {
    for words in ["127.0.0.1 0", "::1 0"] {
        if words.starts_with("::1") && !has_ipv6() {
            continue;
        }
        let server = tuplecat("tcp-listen --min-ttl 255").args(words).start();
        let client = || tuplecat("tcp-connect").to(server.ready());
        client().args("--ttl 64 --timeout 300ms").run().exits(6);
        client().args("--ttl 255").says("near").run().exits(0);
        assert_eq!(server.wait().exits(0).text(), "near");
    }
}
