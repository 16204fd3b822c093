//! Proxies as a client: `--proxy` with every protocol, against stand-ins that check each byte they get.
//! A connection through a proxy is like any other: its bytes, its ends, its reports.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;

use pretty_assertions::assert_eq;
use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

fn client(url: &str, proxy: SocketAddr, host: &str) -> Launch {
    let launch = tuplecat("tcp-connect --proxy").arg(format!("{url}{proxy}"));
    launch.arg(host).arg("9")
}

#[test]
fn every_protocol_leads_to_the_target() {
    for dialect in dialects() {
        for pieces in [Pieces::Whole, Pieces::Bytes] {
            for words in ["", "--no-fast-path"] {
                let (listener, proxy) = listen();
                let launch = client(dialect.url, proxy, dialect.host).args(words);
                let running = launch.says("question").start();
                let mut stream = serve(&listener, &dialect.exchange, b"SSH-2.0-x\r\n", pieces);
                assert_eq!(read_all(&stream), b"question");
                stream.write_all(b"answer").unwrap();
                drop(stream);
                let done = running.wait().exits(0);
                assert_eq!(
                    done.text(),
                    "SSH-2.0-x\r\nanswer",
                    "{} {pieces:?}",
                    dialect.url
                );
                let connected = done
                    .err
                    .lines()
                    .filter(|line| line.starts_with("connected"));
                let connected: Vec<_> = connected.collect();
                assert_eq!(tuple(connected[0]).2, proxy.to_string());
                let scheme = dialect.url.split(':').next().unwrap();
                let by = format!("connected  {} by {scheme} {proxy}", dialect.target);
                assert_eq!(connected[1..], [by]);
                assert!(done.line("closed").contains("  in 17 B, out 8 B, "));
            }
        }
    }
}

/// The target leg of a relay is made in the loop that serves all clients.
#[test]
fn a_relay_reaches_its_target_by_every_protocol() {
    for dialect in dialects() {
        for pieces in [Pieces::Whole, Pieces::Bytes] {
            let (listener, proxy) = listen();
            let relay = tuplecat("tcp-listen 0 --to").arg(dialect.target);
            let relay = relay.arg("--proxy").arg(format!("{}{proxy}", dialect.url));
            let relay = relay.start();
            let mut client = connect(relay.ready());
            client.write_all(b"question").unwrap();
            finish(&client);
            let stream = serve(&listener, &dialect.exchange, b"answer", pieces);
            assert_eq!(read_all(&stream), b"question");
            drop(stream);
            assert_eq!(read_all(&client), b"answer");
            let done = relay.wait().exits(0);
            let scheme = dialect.url.split(':').next().unwrap();
            let by = format!("relayed    {} by {scheme} {proxy}", dialect.target);
            assert!(done.err.contains(&by), "{by}: {}", done.err);
        }
    }
    let (proxy, thread) = answering(&[5, 0, 5, 5]);
    let relay = tuplecat("tcp-listen 0 --to 192.0.2.7:9 --proxy").arg(format!("socks5://{proxy}"));
    let relay = relay.start();
    let client = connect(relay.ready());
    let done = relay.wait().exits(5);
    let by = format!("192.0.2.7:9 by socks5 {proxy}: connection refused (reply 5)");
    assert!(done.errors().contains(&by), "{}", done.err);
    drop(client);
    thread.join().unwrap();
    let done = tuplecat("tcp-listen 0 --proxy socks5://127.0.0.1:1")
        .bare()
        .run();
    assert!(done.exits(2).err.contains("--to"));
}

/// Another netcat's proxy code must agree with these stand-ins.
#[test]
fn ncat_speaks_the_same() {
    if !is_installed("ncat") {
        return skip("ncat is not installed");
    }
    let (listener, proxy) = listen();
    let words = "--proxy-type socks5 --proxy-dns remote --proxy-auth me:pw --proxy";
    let ncat = program("ncat", words)
        .arg(proxy.to_string())
        .args("a.invalid.x 9");
    let running = ncat.says("question").start();
    let exchange = [
        (vec![5, 2, 0, 2], vec![5, 2]),
        (b"\x01\x02me\x02pw".to_vec(), vec![1, 0]),
        (socks5(3, b"\x0ba.invalid.x"), CONNECTED5.to_vec()),
    ];
    let stream = serve(&listener, &exchange, b"", Pieces::Whole);
    assert_eq!(read_all(&stream), b"question");
    drop(stream);
    running.wait().exits(0);
}

#[test]
#[rustfmt::skip]
fn every_refusal_has_its_status_and_words() {
    let mut cases: Vec<(&str, Vec<u8>, i32, String)> = Vec::new();
    for (code, status, words) in [
        (1, 1, "general failure of the proxy"),
        (2, 1, "not allowed by the proxy"),
        (3, 1, "network unreachable"),
        (4, 1, "host unreachable"),
        (5, 5, "connection refused"),
        (6, 6, "TTL expired"),
        (7, 1, "the proxy does not support CONNECT"),
        (8, 1, "the proxy does not support this type of address"),
        (9, 1, "refused"),
        (255, 1, "refused"),
    ] {
        let words = format!("{words} (reply {code})");
        cases.push(("socks5", vec![5, 0, 5, code], status, words));
    }
    for (code, words) in [
        (91, "request rejected or failed"),
        (92, "the proxy cannot identify the user by identd"),
        (93, "identd reports another user"),
        (94, "refused"),
    ] {
        let words = format!("{words} (reply {code})");
        cases.push(("socks4", vec![0, code, 0, 0, 0, 0, 0, 0], 1, words));
    }
    for (code, status, words) in [
        (301, 1, "refused"),
        (400, 1, "bad request"),
        (401, 1, "authentication required"),
        (403, 1, "forbidden"),
        (404, 1, "not found"),
        (405, 1, "method not allowed"),
        (407, 1, "authentication required"),
        (500, 1, "internal server error"),
        (502, 1, "bad gateway"),
        (503, 1, "service unavailable"),
        (504, 6, "gateway timeout"),
        (999, 1, "refused"),
    ] {
        let reply = format!("HTTP/1.1 {code} \x1b[31mtext\r\n\r\n<html>");
        let words = format!("{words} (status {code})");
        cases.push(("http", reply.into_bytes(), status, words));
    }
    let demands = "the proxy demands an authentication method that was not offered";
    for (scheme, reply, words) in [
        ("socks5", &[5, 0xff][..], "authentication required"),
        ("socks5", &[5, 1], demands),
        ("socks5", &[5, 2], demands),
        ("socks5", &[5, 0, 5, 0, 0, 9], "the reply has an unknown type of address"),
        ("socks5", b"HTTP/1.1 400", "the reply is not one of a SOCKS 5 proxy"),
        ("socks4", b"HTTP/1.1 400", "the reply is not one of a SOCKS 4 proxy"),
        ("socks4", &[5], "the reply is not one of a SOCKS 4 proxy"),
        ("http", b"SSH-2.0-OpenSSH\r\n", "the reply is not one of an HTTP proxy"),
        ("http", b"HTTP/1.1 OK\r\n\r\n", "the reply is not one of an HTTP proxy"),
    ] {
        cases.push((scheme, reply.to_vec(), 1, words.to_owned()));
    }
    for (scheme, reply, status, words) in cases {
        let (proxy, thread) = answering(&reply);
        let done = client(&format!("{scheme}://"), proxy, "192.0.2.7")
            .says("x")
            .run();
        let by = format!("cannot connect to 192.0.2.7:9 by {scheme} {proxy}: ");
        let done = done.fails(status, &format!("{by}{words}"));
        assert_eq!(done.out, b"");
        thread.join().unwrap();
    }
}

#[test]
fn a_rejected_password_is_an_error() {
    for (scheme, replies, words) in [
        (
            "socks5h",
            &[&[5, 2][..], &[1, 1]][..],
            "user or password rejected",
        ),
        (
            "socks5h",
            &[&[5, 0xff]],
            "the proxy demands an authentication method that was not offered",
        ),
        (
            "http",
            &[b"HTTP/1.1 407 me:secret\r\n\r\n"],
            "user or password rejected (status 407)",
        ),
        (
            "http",
            &[b"HTTP/1.1 401 secret\r\n\r\n"],
            "user or password rejected (status 401)",
        ),
    ] {
        let (proxy, thread) = answering(&replies.concat());
        let launch = client(&format!("{scheme}://me:secret@"), proxy, "a.invalid");
        let done = launch.args("-v --explain").run().exits(1);
        let message = format!("cannot connect to a.invalid:9 by {scheme} {proxy}: {words}");
        assert_eq!(done.errors(), message);
        assert!(!done.err.contains("secret"), "{}", done.err);
        thread.join().unwrap();
    }
}

/// A proxy that says too much, too little or nothing.
#[test]
fn a_hostile_reply_has_bounds() {
    let long = [&b"HTTP/1.1 200 OK\r\nx: "[..], &vec![b'y'; 20_000]].concat();
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    for reply in [long, interim] {
        let (proxy, thread) = answering(&reply);
        let done = client("http://", proxy, "a.invalid").run();
        let by = format!("cannot connect to a.invalid:9 by http {proxy}");
        done.fails(
            1,
            &format!("{by}: the proxy's reply is longer than 8192 bytes"),
        );
        thread.join().unwrap();
    }
    for (scheme, reply) in [
        ("socks5", &b""[..]),
        ("socks5", &[5]),
        ("socks5", &[5, 0, 5, 0, 0, 3, 200, b'x']),
        ("socks4", &[0, 90, 0]),
        ("http", b"HTTP/1.1 200 OK\r\n\r"),
    ] {
        let (proxy, thread) = answering(reply);
        let launch = client(&format!("{scheme}://"), proxy, "192.0.2.7");
        let done = launch.args("--connect-timeout 200ms").run();
        let by = format!("cannot connect to 192.0.2.7:9 by {scheme} {proxy}");
        done.fails(6, &format!("{by}: timed out after 0.2 s"));
        thread.join().unwrap();
        let (listener, proxy) = listen();
        let running = client(&format!("{scheme}://"), proxy, "192.0.2.7").start();
        let mut stream = accept(&listener);
        assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
        stream.write_all(reply).unwrap();
        drop(stream);
        let by = format!("cannot connect to 192.0.2.7:9 by {scheme} {proxy}");
        let done = running.wait().exits(1);
        assert_eq!(
            done.errors(),
            format!("{by}: the proxy has closed the connection")
        );
    }
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let (_nobody, proxy) = refusing(Transport::Tcp);
    let message = format!("cannot connect to a.invalid:9: proxy {proxy}: connection refused");
    client("socks5h://", proxy, "a.invalid")
        .run()
        .fails(5, &message);
    let (_queue, proxy) = silent();
    let message = format!("cannot connect to a.invalid:9: proxy {proxy}: timed out after 0.2 s");
    let launch = client("http://", proxy, "a.invalid").args("--connect-timeout 200ms");
    launch.run().fails(6, &message);
    let launch = tuplecat("tcp-connect --proxy socks5h://a.invalid:1 localhost 9");
    let done = launch.run().exits(3);
    assert!(done.errors().contains("'a.invalid'"), "{}", done.err);
}

#[test]
fn a_target_that_the_protocol_cannot_name_is_an_error() {
    let (_listener, proxy) = listen();
    let by = format!("cannot connect to [::1]:9: proxy {proxy}");
    let message = format!("{by}: SOCKS 4 reaches IPv4 addresses only");
    client("socks4a://", proxy, "::1").run().fails(1, &message);
    let (proxy, thread) = answering(&[5, 2]);
    let long = "x".repeat(256);
    let done = client(&format!("socks5://{long}@"), proxy, "::1")
        .run()
        .exits(1);
    assert!(
        done.errors()
            .ends_with("name or password of more than 255 bytes")
    );
    thread.join().unwrap();
}

#[test]
fn a_signal_ends_a_handshake() {
    let (listener, proxy) = listen();
    let running = client("socks5h://", proxy, "a.invalid").start();
    let stream = accept(&listener);
    assert_eq!(read_len(&stream, 3), [5, 1, 0]);
    running.signal(Signal::TERM);
    running.wait().exits(143);
    assert_eq!(read_all(&stream), b"");
}

/// The password is in a file or in the environment; nothing shows it.
#[test]
fn a_password_can_be_kept_off_the_command_line() {
    let http = "CONNECT a.invalid:9 HTTP/1.1\r\nHost: a.invalid:9\r\nProxy-Authorization: Basic ";
    let exchange = |account: &str| {
        let request = format!("{http}{account}\r\n\r\n").into_bytes();
        [(request, b"HTTP/1.1 200 OK\r\n\r\n".to_vec())]
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "pw\r\nnot this\n").unwrap();
    for (words, account) in [
        ("me@", "bWU6cHc="),
        // The one in the URL counts before the one in the environment.
        ("me:pw@", "bWU6cHc="),
        ("me:@", "bWU6"),
    ] {
        for is_in_file in [true, false] {
            if is_in_file && words != "me@" {
                continue;
            }
            let (listener, proxy) = listen();
            let mut launch = client(&format!("http://{words}"), proxy, "a.invalid");
            if is_in_file {
                launch = launch.arg("--proxy-password").arg(&file);
            }
            let given = if is_in_file || words != "me@" {
                "other"
            } else {
                "pw"
            };
            let launch = launch.env("TUPLECAT_PROXY_PASSWORD", given);
            let running = launch.args("-v --explain").says("").start();
            drop(serve(&listener, &exchange(account), b"", Pieces::Whole));
            let done = running.wait().exits(0);
            assert!(
                !done.err.contains("pw") && !done.err.contains("bWU6"),
                "{}",
                done.err
            );
        }
    }
    let launch = tuplecat("tcp-connect --proxy socks5://me@127.0.0.1:1 --proxy-password /nowhere");
    let message = "cannot read '/nowhere' (--proxy-password): no such file or directory";
    launch.args("::1 9").run().fails(1, message);
    let launch = tuplecat("tcp-connect --proxy socks4://me@127.0.0.1:1 --proxy-password");
    let launch = launch.arg(&file).args("127.0.0.1 9");
    launch.run().fails(2, "SOCKS 4 has users, but no passwords");
}

#[test]
fn a_bad_proxy_is_a_usage_error_that_does_not_show_the_account() {
    for (words, expected) in [
        (
            "--proxy socks5://me:secret@gate",
            "'***@gate' for '--proxy <URL>'",
        ),
        (
            "--proxy ftp://me:secret@gate:1",
            "one of socks5, socks5h, socks4, socks4a, http",
        ),
        ("--proxy me:secret@gate:1", "'***@gate:1'"),
        (
            "--proxy socks4://me:secret@gate:1",
            "SOCKS 4 has users, but no passwords",
        ),
        (
            "--proxy socks5://gate:1 --proxy-password secret",
            "is for the user in --proxy",
        ),
        (
            "--proxy http://me:secret@gate:1 --proxy-password f",
            "--proxy has a password",
        ),
        ("--proxy-password secret", "--proxy <URL>"),
    ] {
        let launch = tuplecat("tcp-connect").args(words).args("localhost 9");
        let done = launch.bare().run().exits(2);
        assert!(done.err.contains(expected), "{words}: {}", done.err);
        let shown = done.err.replace("'secret'", "");
        assert!(!shown.contains("secret"), "{words}: {}", done.err);
    }
    let done = tuplecat("udp-sendto --proxy=socks5://me:secret@gate:1 localhost 9");
    let done = done.bare().run().exits(2);
    assert!(
        done.err
            .contains("'--proxy' is an option of tcp-listen, tcp-connect"),
        "{}",
        done.err
    );
    assert!(!done.err.contains("secret"), "{}", done.err);
}

#[test]
fn events_name_target_and_proxy() {
    let (listener, proxy) = listen();
    let directory = tempfile::tempdir().unwrap();
    let events = directory.path().join("events");
    let launch = client("socks5h://", proxy, "a.invalid.x").args("--report none --events");
    let running = launch.arg(&events).says("").start();
    let exchange = [
        (vec![5, 1, 0], vec![5, 0]),
        (socks5(3, b"\x0ba.invalid.x"), CONNECTED5.to_vec()),
    ];
    let stream = serve(&listener, &exchange, b"", Pieces::Whole);
    assert_eq!(read_all(&stream), b"");
    drop(stream);
    running.wait().exits(0);
    let text = fs::read_to_string(events).unwrap();
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let connected = events.iter().find(|event| event["event"] == "connected");
    let connected = connected.unwrap();
    assert_eq!(connected["target"], "a.invalid.x:9");
    assert_eq!(connected["proxy"], "socks5h");
    assert_eq!(connected["remote"], proxy.to_string());
}

/// A proxy that connects to the odd ports of any host.
fn odd_ports() -> SocketAddr {
    let (listener, address) = listen();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut request = [0; 9];
            if client.read_exact(&mut request).is_err() {
                continue;
            }
            let code = if request[3] % 2 == 1 { 90 } else { 91 };
            let _ = client.write_all(&[0, code, 0, 0, 0, 0, 0, 0]);
        }
    });
    address
}

#[test]
fn ports_are_probed_through_a_proxy() {
    let proxy = odd_ports();
    let launch = tuplecat("tcp-connect --probe --proxy").arg(format!("socks4://{proxy}"));
    let done = launch.args("192.0.2.7 1-3").run();
    let lines = done
        .err
        .lines()
        .map(|line| line.split("  connected").next().unwrap());
    let lines: Vec<_> = lines.map(str::to_owned).collect();
    assert_eq!(
        lines[..3],
        [
            format!("open       192.0.2.7:1 by socks4 {proxy}"),
            format!(
                "failed     192.0.2.7:2 by socks4 {proxy}: request rejected or failed (reply 91)"
            ),
            format!("open       192.0.2.7:3 by socks4 {proxy}"),
        ]
    );
    done.fails(1, "1 of 3 ports are not open");
}

#[test]
fn a_refusal_is_tried_again() {
    let (listener, proxy) = listen();
    let running = client("socks5://", proxy, "192.0.2.7")
        .args("--retry-for 30")
        .start();
    let v4 = socks5(1, &[192, 0, 2, 7]);
    let refused = [(vec![5, 1, 0], vec![5, 0]), (v4.clone(), vec![5, 5])];
    drop(serve(&listener, &refused, b"", Pieces::Whole));
    let opened = [(vec![5, 1, 0], vec![5, 0]), (v4, CONNECTED5.to_vec())];
    drop(serve(&listener, &opened, b"hello", Pieces::Whole));
    assert_eq!(running.wait().exits(0).text(), "hello");
}

/// With `socks5h` no name is looked up here: no file of hosts is read, and no name server is asked.
#[test]
fn the_proxy_alone_looks_up_the_name() {
    if !has_strace() {
        return;
    }
    for (scheme, is_local) in [("socks5h", false), ("socks5", true)] {
        let (proxy, thread) = answering(&[5, 0xff]);
        let launch = program("strace", "-f -e trace=%file,%network");
        let launch = launch.arg(env!("CARGO_BIN_EXE_tuplecat"));
        let launch = launch
            .args("tcp-connect --proxy")
            .arg(format!("{scheme}://{proxy}"));
        let done = launch.args("localhost 9").run();
        let is_looked_up = done.err.contains("/etc/hosts") || done.err.contains("htons(53)");
        assert_eq!(is_looked_up, is_local, "{}", done.err);
        thread.join().unwrap();
    }
}
