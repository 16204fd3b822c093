//! nc's words on standard error, its help, and the names under which the program is nc.
//! Scripts look for them; without `-v` a run is silent.

use std::fs;
use std::os::unix::fs::symlink;

use pretty_assertions::assert_eq;

use super::*;

/// Runs it with these arguments, and returns what it reports.
#[track_caller]
fn reported(words: &str, status: i32) -> String {
    tuplecat("nc").args(words).run().exits(status).err
}

#[test]
fn connections_are_reported_in_the_words_of_nc() {
    let (_listener, open) = listen();
    let (_held, closed) = refusing(Transport::Tcp);
    let (open, closed) = (open.port(), closed.port());
    let words = format!("-zv 127.0.0.1 {open} {closed}");
    let expected = [
        format!("Connection to 127.0.0.1 {open} port [tcp/*] succeeded!"),
        format!("nc: connect to 127.0.0.1 port {closed} (tcp) failed: Connection refused"),
    ];
    let text = reported(&words, 0);
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, expected);
    let text = reported(&format!("-4zv localhost {open}"), 0);
    let expected = format!("Connection to localhost (127.0.0.1) {open} port [tcp/*] succeeded!\n");
    assert_eq!(text, expected);
    let text = reported(&format!("-4zvn 127.0.0.1 {closed}"), 1);
    assert!(text.contains(" failed: Connection refused\n"), "{text}");
}

#[test]
fn a_listener_is_reported_in_the_words_of_nc() {
    for (transport, words, bound) in [
        (Transport::Tcp, "-lv 127.0.0.1 PORT", "Listening"),
        (Transport::Udp, "-luv -W 1 127.0.0.1 PORT", "Bound"),
    ] {
        let (running, address) = Netcat::Ours.listen(&row(words, "-", ""), transport);
        let name = format!("{} {}", address.ip(), address.port());
        let peer = if transport == Transport::Tcp {
            connect(address).local_addr().unwrap()
        } else {
            let (socket, own) = datagrams();
            socket.send_to(b"x", address).unwrap();
            own
        };
        let expected = format!(
            "{bound} on {name}\nConnection received on {} {}\n",
            peer.ip(),
            peer.port()
        );
        assert_eq!(running.wait().exits(0).err, expected);
    }
}

/// The target is named, not the proxy, and a refusal is that of the proxy.
#[test]
fn a_proxy_is_not_the_target() {
    for (answer, status, text) in [
        (
            "HTTP/1.1 200 OK\r\n\r\nhello",
            0,
            "Connection to host.invalid 80 port [tcp/",
        ),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", 1, "nc: "),
    ] {
        let (listener, address) = listen();
        let words = format!("nc -v -X connect -x {address} host.invalid 80");
        let running = tuplecat(&words).start();
        let mut proxy = accept(&listener);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &String::from_utf8(read_len(&proxy, 1)).unwrap();
        }
        assert!(
            head.starts_with("CONNECT host.invalid:80 HTTP/1."),
            "{head}"
        );
        proxy.write_all(answer.as_bytes()).unwrap();
        drop(proxy);
        let done = running.wait().exits(status);
        assert_eq!(done.text(), answer.split("\r\n\r\n").nth(1).unwrap());
        assert!(done.err.starts_with(text), "{}", done.err);
        assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    }
}

#[test]
fn a_run_is_silent_without_v() {
    let (_held, closed) = refusing(Transport::Tcp);
    for words in ["-z", "", "-w 1"] {
        let words = format!("{words} 127.0.0.1 {}", closed.port());
        assert_eq!(reported(&words, 1), "", "{words}");
    }
    let (listener, address) = listen();
    let running = tuplecat("nc -N").to(address).says("x").start();
    assert_eq!(play(accept(&listener), "R x"), "x");
    assert_eq!(running.wait().exits(0).err, "");
}

#[test]
fn what_cannot_begin_is_reported() {
    let (held, address) = listen();
    let port = address.port();
    for (words, text) in [
        (
            "-n localhost 9",
            "nc: getaddrinfo for host \"localhost\" port 9: Name or service not known\n",
        ),
        (
            "-ln localhost 9",
            "nc: getaddrinfo: Name or service not known\n",
        ),
        (
            "-l4 ::1 9",
            "nc: getaddrinfo: Address family for hostname not supported\n",
        ),
        ("-l 192.0.2.1 9", "nc: cannot listen on 192.0.2.1:9: "),
        (
            &format!("-l 127.0.0.1 {port}"),
            "nc: cannot listen on 127.0.0.1:",
        ),
        (
            "-S 127.0.0.1 9",
            "nc: -S: TCP MD5 signatures are not supported\n",
        ),
        ("-Z 127.0.0.1 9", "nc: -Z: DCCP is not supported"),
        ("-lz 9", "nc: cannot use -z and -l\n"),
        ("-k ::1 9", "nc: must use -l with -k\n"),
        ("::1", "nc: missing port number\n"),
        ("-w 1x ::1 9", "nc: -w: expected a number of seconds\n"),
        ("-M 0 ::1 9", "nc: invalid value '0' for '--ttl <N>'"),
        (
            "-u -m 9 ::1 9",
            "nc: -m: the kernel drops packets by their time to live over TCP only\n",
        ),
        ("-y", "nc: invalid option -- 'y'\nusage: nc [-46"),
        ("-X 6 -x ::1 ::1 9", "nc: unsupported proxy protocol\n"),
        ("-P me ::1 9", "nc: -P is for a proxy (-x)\n"),
    ] {
        let found = reported(words, 1);
        assert!(found.starts_with(text), "{words}: {found}");
    }
    drop(held);
}

/// `nc -h 2>&1 | grep -q -- -N`, as scripts do it.
#[test]
fn the_help_has_a_line_for_each_flag() {
    for words in ["-h", "--help", "-zh"] {
        let done = tuplecat("nc").args(words).run().exits(0);
        assert_eq!(done.text(), "");
        for flag in "46bCDdhIiklMmNnOPpqrsTUuvWwXxz".chars() {
            let start = format!("\t-{flag}");
            assert!(
                done.err.lines().any(|line| line.starts_with(&start)),
                "{flag}"
            );
        }
    }
}

#[test]
fn the_name_of_the_program_says_that_it_is_nc() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["nc", "netcat", "nc.tuplecat"] {
        let path = directory.path().join(name);
        symlink(env!("CARGO_BIN_EXE_tuplecat"), &path).unwrap();
        let (listener, address) = listen();
        let running = program(&path, "-N").to(address).says("x").start();
        assert_eq!(play(accept(&listener), "R w:y"), "x");
        assert_eq!(running.wait().exits(0).text(), "y");
    }
    let other = directory.path().join("other");
    fs::copy(env!("CARGO_BIN_EXE_tuplecat"), &other).unwrap();
    program(&other, "-N ::1 9").run().exits(2);
}
