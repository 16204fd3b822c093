//! Child processes over TCP (`--exec`, `--shell`): one for each connection, joined to its peer in both directions.
//! No output of a child is lost, and children do not affect the clients of others.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use tuplecat::flow::Transport;

use crate::common::*;

/// A time in which a wrong event would happen. If it is too short, a test can miss a fault, but not report one.
const A_WHILE: Duration = Duration::from_millis(200);

#[test]
fn a_child_has_the_addresses_in_its_environment() {
    let environment = "env | grep -E '^(PROTO|TCP|TUPLECAT_CONN)' | sort";
    let (server, client) = meet_child(environment);
    let text = String::from_utf8(read_all(&client)).unwrap();
    let (local, remote) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
    let expected = format!(
        "PROTO=TCP\nTCPLOCALIP=127.0.0.1\nTCPLOCALPORT={}\nTCPREMOTEIP=127.0.0.1\nTCPREMOTEPORT={}\nTUPLECAT_CONN=1\n",
        local.port(),
        remote.port()
    );
    assert_eq!(text, expected);
    drop(client);
    server.wait().exits(0);

    let (listener, address) = listen();
    let client = shell(&format!("tcp-connect {address}"), environment).start();
    let peer = accept(&listener);
    let expected = format!(
        "PROTO=TCP\nTCPLOCALIP=127.0.0.1\nTCPLOCALPORT={}\nTCPREMOTEIP=127.0.0.1\nTCPREMOTEPORT={}\n",
        peer.peer_addr().unwrap().port(),
        address.port()
    );
    assert_eq!(String::from_utf8(read_all(&peer)).unwrap(), expected);
    drop(peer);
    client.wait().exits(0);
}

/// Programs for tcpserver trust these variables, whatever their origin.
#[test]
fn a_child_inherits_no_description_of_another_peer() {
    let environment = "env | grep -E '^(PROTO|TCP|UDP|TUPLECAT_CONN)' | cut -d= -f1 | sort | xargs";
    let (listener, address) = listen();
    let mut client = shell(&format!("tcp-connect {address}"), environment);
    for transport in ["TCP", "UDP"] {
        for side in ["LOCAL", "REMOTE"] {
            for part in ["IP", "PORT", "HOST", "INFO"] {
                client = client.env(&format!("{transport}{side}{part}"), "trusted");
            }
        }
    }
    let client = client.env("TUPLECAT_CONN", "7").start();
    let listed = String::from_utf8(read_all(&accept(&listener))).unwrap();
    assert_eq!(
        listed,
        "PROTO TCPLOCALIP TCPLOCALPORT TCPREMOTEIP TCPREMOTEPORT\n"
    );
    client.wait().exits(0);
}

#[test]
fn a_child_has_an_ipv6_address_without_brackets() {
    let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else {
        return skip("there is no IPv6 here");
    };
    let address = listener.local_addr().unwrap();
    let client = tuplecat("tcp-connect")
        .to(address)
        .args("--shell")
        .arg("echo $TCPREMOTEIP $PROTO");
    let client = client.start();
    assert_eq!(read_all(&accept(&listener)), b"::1 TCP\n");
    client.wait().exits(0);
}

#[test]
fn the_end_of_the_peer_is_the_end_of_a_child_s_input() {
    let (server, mut client) = meet_child("wc -c");
    client.write_all(b"four").unwrap();
    assert!(is_silent_for(&client, A_WHILE));
    finish(&client);
    assert_eq!(String::from_utf8(read_all(&client)).unwrap().trim(), "4");
    server.wait().exits(0);
}

#[test]
fn the_end_of_a_child_s_output_ends_one_direction_only() {
    let (server, mut client) = meet_child("printf bye; exec >&-; cat > rest");
    assert_eq!(read_all(&client), b"bye");
    client.write_all(b"still here").unwrap();
    let rest = server.path("rest");
    wait_until("the child has it", || {
        fs::read(&rest).is_ok_and(|rest| rest == b"still here")
    });
    finish(&client);
    server.wait().exits(0);
}

#[test]
fn ten_megabytes_come_back_as_they_went() {
    for engine in ["", "1"] {
        let server = tuplecat("tcp-listen 0 --exec cat").env("TUPLECAT_NO_FAST_PATH", engine);
        let server = server.start();
        let client = connect(server.ready());
        let sent = bytes(10 << 20);
        let received = thread::scope(|scope| {
            scope.spawn(|| {
                (&client).write_all(&sent).unwrap();
                finish(&client);
            });
            read_all(&client)
        });
        assert!(
            received == sent,
            "engine '{engine}': {} bytes",
            received.len()
        );
        let done = server.wait().exits(0);
        let count = sent.len();
        let totals = format!("in {count} B, out {count} B");
        assert!(done.line("closed").contains(&totals), "{}", done.err);
    }
}

#[test]
fn a_child_that_stops_reading_costs_its_client_nothing() {
    let (server, mut client) = meet_child("head -c 3");
    let sent = bytes(4 << 20);
    // More than all buffers hold. All of it is taken, although no process reads it.
    client.write_all(&sent).unwrap();
    finish(&client);
    assert_eq!(read_all(&client), &sent[..3]);
    server.wait().exits(0);
}

#[test]
fn all_output_arrives_although_the_client_goes_on_sending() {
    for engine in ["", "1"] {
        let server =
            tuplecat("tcp-listen 0 --exec seq 200000").env("TUPLECAT_NO_FAST_PATH", engine);
        let server = server.start();
        let client = connect(server.ready());
        let mut writer = client.try_clone().unwrap();
        let sending = thread::spawn(move || {
            let chunk = [b'x'; 4096];
            while writer.write_all(&chunk).is_ok() {}
        });
        // The child ends long before the first byte is read.
        thread::sleep(A_WHILE);
        let text = String::from_utf8(read_all(&client)).unwrap();
        assert_eq!(text.lines().count(), 200_000);
        assert!(text.ends_with("\n200000\n"));
        drop(client);
        server.signal(Signal::TERM);
        server.wait();
        sending.join().unwrap();
    }
}

#[test]
fn a_client_that_never_finishes_is_not_waited_for() {
    let (server, client) = meet_child("echo that was all");
    assert_eq!(read_all(&client), b"that was all\n");
    // The client is still connected, and silent.
    server.wait().exits(0);
    drop(client);
}

#[test]
fn a_child_that_never_reads_holds_up_its_own_client_only() {
    let command = "echo hi; [ $TUPLECAT_CONN = 1 ] && sleep 1000; cat";
    let server = shell("tcp-listen 0 -k", command).start();
    let stuck = connect(server.ready());
    assert_eq!(read_line(&stuck), "hi\n");
    stuck.set_nonblocking(true).unwrap();
    let chunk = vec![b'x'; 65536];
    wait_until("nothing more is taken", || {
        while (&stuck).write(&chunk).is_ok() {}
        thread::sleep(Duration::from_millis(20));
        (&stuck).write(&chunk).is_err()
    });
    let mut other = connect(server.ready());
    other.write_all(b"echo").unwrap();
    finish(&other);
    assert_eq!(read_all(&other), b"hi\necho");
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn every_client_has_a_child_of_its_own() {
    let server = shell("tcp-listen 0 -k", "echo $TUPLECAT_CONN $TCPREMOTEPORT; cat").start();
    let clients: Vec<_> = (1..=30)
        .map(|number| (number, connect(server.ready())))
        .collect();
    for (number, client) in &clients {
        let port = client.local_addr().unwrap().port();
        assert_eq!(read_line(client), format!("{number} {port}\n"));
    }
    assert_eq!(children_of(server.pid()).len(), 30);
    for (number, client) in clients.iter().rev() {
        (&*client).write_all(number.to_string().as_bytes()).unwrap();
        finish(client);
        assert_eq!(read_all(client), number.to_string().as_bytes());
    }
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn more_clients_than_children_wait() {
    for words in ["--max-children 2", "--max-children 2 --max-clients 9"] {
        let server = shell(
            &format!("tcp-listen 0 -k {words}"),
            "echo $TUPLECAT_CONN; cat",
        )
        .start();
        let clients: Vec<_> = (0..5).map(|_| connect(server.ready())).collect();
        assert_eq!(read_line(&clients[0]), "1\n");
        assert_eq!(read_line(&clients[1]), "2\n");
        // They may send, and leave, before their turn.
        (&clients[2]).write_all(b"early").unwrap();
        finish(&clients[2]);
        assert!(is_silent_for(&clients[2], A_WHILE));
        assert_eq!(children_of(server.pid()).len(), 2);
        finish(&clients[1]);
        assert_eq!(read_all(&clients[2]), b"3\nearly");
        assert_eq!(read_line(&clients[3]), "4\n");
        finish(&clients[0]);
        assert_eq!(read_line(&clients[4]), "5\n");
        server.signal(Signal::TERM);
        server.wait().exits(143);
    }
}

#[test]
fn two_hundred_children_talk_at_once() {
    let server = tuplecat("tcp-listen 0 -k --max-children 200 --exec cat").start();
    let clients: Vec<_> = (0..200).map(|_| connect(server.ready())).collect();
    for (number, mut client) in clients.iter().enumerate() {
        client.write_all(format!("{number}\n").as_bytes()).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(read_line(client), format!("{number}\n"));
    }
    assert_eq!(children_of(server.pid()).len(), 200);
    is_calm(&server);
    drop(clients);
    wait_until("all are reaped", || children_of(server.pid()).is_empty());
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn many_wait_for_few_children_and_some_of_them_leave() {
    let words = "tcp-listen 0 -k --max-children 3 --max-clients 200 --exec cat";
    let server = tuplecat(words).start();
    let busy: Vec<_> = (0..3).map(|_| connect(server.ready())).collect();
    for mut client in &busy {
        client.write_all(b"busy\n").unwrap();
        assert_eq!(read_line(client), "busy\n");
    }
    let mut waiting: Vec<_> = (0..60).map(|_| connect(server.ready())).collect();
    // Every third client has sent something.
    for mut client in waiting.iter().step_by(3) {
        client.write_all(b"early\n").unwrap();
    }
    server.err().wait_for("  #63\n");
    is_calm(&server);
    for client in waiting.drain(..40) {
        reset(client);
    }
    drop(busy);
    for mut client in waiting {
        client.write_all(b"late\n").unwrap();
        finish(&client);
        let text = String::from_utf8(read_all(&client)).unwrap();
        assert!(["early\nlate\n", "late\n"].contains(&&*text), "{text}");
    }
    wait_until("all are reaped", || children_of(server.pid()).is_empty());
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn a_grandchild_may_continue_the_session() {
    let server = shell("tcp-listen 0 -k", "exec 3<&0; cat <&3 & echo gone").start();
    let mut client = connect(server.ready());
    assert_eq!(read_line(&client), "gone\n");
    client.write_all(b"still there?\n").unwrap();
    assert_eq!(read_line(&client), "still there?\n");
    is_calm(&server);
    finish(&client);
    assert_eq!(read_all(&client), b"");
    wait_until("all are reaped", || children_of(server.pid()).is_empty());
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn a_missing_program_is_an_error_at_the_start() {
    let done = tuplecat("tcp-listen 0 --exec no-such-program").run();
    done.fails(1, "cannot run 'no-such-program': no such program in PATH");
    let done = tuplecat("udp-bind 0 --exec /etc/passwd").run();
    done.fails(1, "cannot run '/etc/passwd': permission denied");
}

#[test]
fn a_program_that_cannot_be_started_costs_one_client() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    let install = || {
        fs::write(&path, "#!/bin/sh\necho here\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).unwrap();
    };
    install();
    let server = tuplecat("tcp-listen 0 -k --exec").arg(&path).start();
    let address = server.ready();
    fs::remove_file(&path).unwrap();
    assert_eq!(read_all(&connect(address)), b"");
    let line = server.err().wait_for_line("broken");
    assert!(line.contains("  #1  cannot start '"), "{line}");
    assert!(line.ends_with("': no such file or directory"), "{line}");
    install();
    assert_eq!(read_all(&connect(address)), b"here\n");
}

#[test]
fn a_program_is_not_run_for_any_remote_host_by_default() {
    for mode in ["tcp-listen", "udp-bind"] {
        let one = ["* 0", "0.0.0.0 0", ":: 0"].as_slice();
        let groups = [
            "0 --join 239.1.2.3",
            "224.0.0.1 0 --join 224.0.0.1",
            "255.255.255.255 0",
        ];
        let groups = if mode == "udp-bind" { &groups[..] } else { &[] };
        for words in one.iter().chain(groups) {
            let done = tuplecat(mode).args(words).args("--exec cat").run();
            let text = "refusing to run a program for any remote host: restrict clients with --allow CIDR, or bind one HOST";
            done.fails(2, text);
        }
        for words in ["127.0.0.1 0", "0", "* 0 --allow 127.0.0.0/8"] {
            let server = tuplecat(mode).args(words).args("--exec cat").start();
            server.ready();
        }
    }
}

#[test]
fn a_limit_on_bytes_ends_a_child_s_input() {
    let (listener, address) = listen();
    let client = tuplecat("tcp-connect --max-bytes 5")
        .to(address)
        .args("--exec wc -c")
        .start();
    let mut peer = accept(&listener);
    peer.write_all(b"more than five").unwrap();
    let text = String::from_utf8_lossy(&read_len(&peer, 2)).into_owned();
    assert_eq!(text, "5\n");
    drop(client);
}

#[test]
fn a_child_may_speak_first_or_not_at_all() {
    let (listener, address) = listen();
    let client = tuplecat("tcp-connect")
        .to(address)
        .arg("--shell")
        .arg("echo question; read x; echo \"$x\" >&2");
    let client = client.start();
    let mut peer = accept(&listener);
    assert_eq!(read_line(&peer), "question\n");
    peer.write_all(b"answer\n").unwrap();
    client.err().wait_for("answer\n");
    assert_eq!(read_all(&peer), b"");
    client.wait().exits(0);
}

#[test]
fn other_tools_talk_to_a_child() {
    for (name, words) in [
        ("nc.openbsd", "-N 127.0.0.1 PORT"),
        ("ncat", "127.0.0.1 PORT"),
        ("socat", "-t 5 - TCP:127.0.0.1:PORT"),
    ] {
        if !is_installed(name) {
            skip(&format!("{name} is not installed"));
            continue;
        }
        let server = tuplecat("tcp-listen 0 -k --exec tr a-z A-Z").start();
        let port = server.ready().port().to_string();
        let text = "some text\n".repeat(20_000);
        let clients: Vec<_> = (0..3)
            .map(|_| {
                program(name, &words.replace("PORT", &port))
                    .says(&text)
                    .start()
            })
            .collect();
        for client in clients {
            assert!(
                client.wait().exits(0).text() == text.to_uppercase(),
                "{name}"
            );
        }
    }
}

both! {
    /// The output of a program takes the place of standard input.
    fn lines_of_a_program_can_end_in_crlf(transport) {
        let command = "cat > /dev/null; printf 'a\\nb\\r\\n\\n'; sleep 0.1; printf 'c\\r'; sleep 0.1; printf '\\nd'";
        for words in ["-C", "-C --no-fast-path"] {
            let server = waits(transport, "0").args(words).arg("--shell").arg(command).start();
            let client = speaks(transport, server.ready()).says("question");
            let text = client.run().exits(0).text();
            assert_eq!(text, "a\r\nb\r\n\r\nc\r\nd", "{words}");
        }
    }
}
