//! Reports on standard error: both addresses of everything that happens.
//! Scripts have channels of their own: the ready file or descriptor, and the table of sockets on a signal.

use std::fs::{self, File};
use std::io::Write;

use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

each! {
    /// Under cron, in CI and in pipes, a run that goes well prints nothing.
    fn a_run_that_goes_well_is_silent_in_a_pipe(transport) {
        let server = waits(transport, "0").env("TUPLECAT_REPORT", "").start();
        let client = meets(transport, &server).env("TUPLECAT_REPORT", "");
        let client = client.says("x").run().exits(0);
        let server = server.wait().exits(0);
        assert_eq!((client.err.as_str(), server.err.as_str()), ("", ""));
        assert_eq!(server.text(), "x");
    }

    /// With `-q` only errors are reported.
    fn quiet_is_quiet(transport) {
        let server = waits(transport, "-q 0").start();
        let client = meets(transport, &server).args("-q").says("x").run().exits(0);
        let server = server.wait().exits(0);
        assert_eq!((client.err.as_str(), server.err.as_str()), ("", ""));
        assert_eq!(server.text(), "x");
    }

    /// Standard output has the payload and nothing else.
    fn standard_output_is_for_payload(transport) {
        let server = waits(transport, "-v 0").start();
        let client = meets(transport, &server).args("-v").says("x").run().exits(0);
        assert_eq!(client.text(), "");
        assert_eq!(server.wait().exits(0).text(), "x");
    }

    /// The closing line has the totals of both directions.
    fn the_closing_line_counts(transport) {
        let server = waits(transport, "0").start();
        let client = meets(transport, &server).says("twelve bytes").run().exits(0);
        let server = server.wait().exits(0);
        if transport.has_connections() {
            assert!(server.line("closed").contains("in 12 B, out 0 B, "));
            assert!(client.line("closed").contains("in 0 B, out 12 B, "));
        } else {
            // The EOF datagram counts as a datagram.
            let received = "in 2 datagrams (12 B), out ";
            assert!(server.line("closed").contains(received), "{}", server.err);
            let sent = ", out 2 datagrams (12 B), ";
            assert!(client.line("closed").contains(sent), "{}", client.err);
        }
    }
}

both! {
    /// On a terminal every event is reported.
    fn a_terminal_gets_all_events(transport) {
        let (person, process) = terminal();
        let server = waits(transport, "0").env("TUPLECAT_REPORT", "").stderr(Output::To(process.into()));
        let server = server.start();
        let report = Capture::start(person);
        speaks(transport, server.ready()).says("x").run().exits(0);
        report.wait_for("closed");
        let text = String::from_utf8_lossy(&report.so_far()).into_owned();
        assert!(text.contains("127.0.0.1:"), "{text}");
        server.wait().exits(0);
    }

    /// An option beats the variable, and the variable beats the default.
    fn a_variable_sets_the_default_of_the_level(transport) {
        for (variable, option, events, data) in [
            ("none", "", false, false),
            ("errors", "", false, false),
            ("events", "", true, false),
            ("data", "", true, true),
            ("auto", "", false, false),
            ("none", "--report events", true, false),
            ("none", "-v", true, true),
            ("data", "-q", false, false),
            ("data", "--report errors", false, false),
            ("events", "--report auto", false, false),
            ("events", "--report data", true, true),
        ] {
            let server = waits(transport, option).args("0").env("TUPLECAT_REPORT", variable).start();
            let client = speaks(transport, server.ready());
            client.says("x").run().exits(0);
            let err = server.wait().exits(0).err;
            let has = |word: &str| err.lines().any(|line| line.starts_with(word));
            assert_eq!(has("closed"), events, "{variable} {option}: {err}");
            if transport == Transport::Tcp {
                assert_eq!(has("received"), data, "{variable} {option}: {err}");
            }
            assert!(events || err.is_empty(), "{variable} {option}: {err}");
        }
    }

    /// With `--report none` the status is all that a failed run leaves.
    fn the_status_alone_can_say_that_a_run_failed(transport) {
        let (_nobody, address) = refusing(transport);
        let client = |words: &str| speaks(transport, address).args(words).says("x").run().exits(5);
        assert_eq!(client("--report none").err, "");
        assert!(client("-q").err.contains("tuplecat: "));
        let done = waits(transport, "--report none --timeout 100ms 0").run().exits(6);
        assert_eq!(done.err, "");
    }

    /// A second choice of the level is an error, and so is a level that does not exist.
    fn a_level_is_chosen_once(transport) {
        for words in ["-q --report events", "--report data -v", "-v --report none", "-q -v"] {
            let done = waits(transport, words).args("0").run().exits(2);
            assert!(done.err.contains("cannot be used with"), "{words}: {}", done.err);
        }
        let done = waits(transport, "--report loud 0").run().exits(2);
        assert!(done.err.contains("[possible values: auto, none, errors, events, data]"));
        let done = waits(transport, "0").env("TUPLECAT_REPORT", "loud").run();
        done.fails(2, "TUPLECAT_REPORT is 'loud', not one of auto, none, errors, events, data");
    }

    /// SIGUSR1 prints the table of sockets and changes nothing else.
    fn a_signal_shows_the_table_of_sockets(transport) {
        let mut server = waits(transport, "0").stdin(Input::Held).start();
        let mut client = speaks(transport, server.ready()).stdin(Input::Held).start();
        client.write("x");
        server.out().wait_for("x");
        server.signal(Signal::USR1);
        let row = server.err().wait_for_line("socket");
        assert!(row.contains(&format!("{transport} {}", server.ready())), "{row}");
        assert!(row.contains("in 1 "), "{row}");
        client.write("y");
        server.out().wait_for("xy");
        server.close_stdin();
        client.close_stdin();
        client.wait().exits(0);
        server.wait().exits(0);
    }

    /// The ready file appears complete, and no temporary file remains beside it.
    fn the_ready_file_appears_whole(transport) {
        let server = waits(transport, "0").start();
        let line = server.ready_line();
        assert!(line.ends_with('\n') && line.lines().count() == 1, "{line:?}");
        let directory = server.path("");
        let names: Vec<_> = fs::read_dir(directory).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        // It replaces the file of an earlier run.
        let old = server.path("ready");
        fs::write(&old, "old").unwrap();
        let other = waits(transport, "--timeout 300ms 0").ready_at(&old);
        let done = other.run().exits(6);
        let line = fs::read_to_string(old).unwrap();
        assert!(done.err.contains(line.trim_end()), "{line}");
    }

    /// A ready descriptor gets the same line and is closed, so that its reader sees the end.
    fn the_ready_descriptor_gets_the_line_and_an_end(transport) {
        let server = waits(transport, "--ready-fd 7 0").redirect("7>channel").start();
        let address = server.ready();
        let line = server.wait_for_file(&server.path("channel"));
        assert_eq!(line, format!("{transport} {address}\n"));
        // An echo shows that the start is over.
        server.signal(Signal::USR1);
        server.err().wait_for_line("socket");
        let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
        let leads = |entry: std::io::Result<fs::DirEntry>| fs::read_link(entry.unwrap().path());
        let channel = fs::canonicalize(server.path("channel")).unwrap();
        assert!(open.map(leads).all(|target| target.ok() != Some(channel.clone())));
    }

    /// Standard output can be the ready descriptor where no payload is expected.
    fn the_ready_descriptor_may_be_standard_output(transport) {
        let server = waits(transport, "--ready-fd 1 0").start();
        let address = server.ready();
        server.out().wait_for(&format!("{transport} {address}\n"));
    }

    /// A ready file that cannot be created is an error.
    fn a_ready_line_that_cannot_be_written_is_an_error(transport) {
        let done = waits(transport, "--ready-fd 99 0").run();
        done.fails(1, "cannot use descriptor 99 (--ready-fd): bad file descriptor");
        let done = waits(transport, "0").ready_at("/nonexistent/ready").run();
        let reason = "no such file or directory";
        done.fails(1, &format!("cannot write the ready file '/nonexistent/ready': {reason}"));
        // An incomplete line is useless.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready");
        let done = waits(transport, "0").ready_at(&path).limited("-f 0").run();
        done.exits(1);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    /// Colours are used on a terminal, unless disabled, and elsewhere on request.
    fn colours_are_used_on_a_terminal(transport) {
        for (words, variable, on_terminal, is_coloured) in [
            ("", None, false, false),
            ("", None, true, true),
            ("", Some(("NO_COLOR", "1")), true, false),
            ("", Some(("CLICOLOR_FORCE", "1")), false, true),
            ("--color never", None, true, false),
            ("--color always", None, false, true),
            ("--color always", Some(("NO_COLOR", "1")), false, true),
        ] {
            let (person, process) = terminal();
            let mut launch = waits(transport, words).args("0").env("TERM", "xterm");
            if let Some((name, value)) = variable {
                launch = launch.env(name, value);
            }
            if on_terminal {
                launch = launch.stderr(Output::To(process.into()));
            }
            let server = launch.start();
            let report = if on_terminal { Capture::start(person) } else { server.err().clone() };
            server.ready();
            report.wait_for("this machine only");
            let text = report.so_far();
            assert_eq!(text.contains(&0x1b), is_coloured, "{words} {variable:?} {on_terminal}");
        }
    }
}

/// Warnings are reported in a pipe as well: losses, refusals, waits. What goes well is not.
#[test]
fn losses_and_refusals_are_reported_in_a_pipe() {
    let server = |words: &str| {
        let server = tuplecat("udp-bind 0 --count 1 --max-datagram 4").args(words);
        server.env("TUPLECAT_REPORT", "").start()
    };
    let truncates = server("");
    let (peer, own) = datagrams();
    peer.send_to(b"too long", truncates.ready()).unwrap();
    let address = truncates.ready();
    let expected = format!("truncated  udp {address} <- {own}  8 -> 4 bytes\n");
    assert_eq!(truncates.wait().exits(0).err, expected);

    let denies = server("--deny 127.0.0.0/8 --timeout 300ms --report errors");
    let (address, text) = (
        denies.ready(),
        "1 datagram not allowed here (--allow, --deny)",
    );
    peer.send_to(b"no", address).unwrap();
    let err = denies.wait().exits(6).err;
    let expected = format!("rejected   udp {address} <- {own}  {text}\n");
    assert!(err.starts_with(&expected), "{err}");
    assert_eq!(err.lines().count(), 2, "{err}");
}

/// The error of the run names the break of its connection, so no other line does.
#[test]
fn a_failure_is_reported_once_in_a_pipe() {
    let (listener, address) = listen();
    let client = tuplecat("tcp-connect")
        .to(address)
        .env("TUPLECAT_REPORT", "");
    let client = client.stdin(Input::Held).start();
    let own = client.ready();
    let peer = accept(&listener);
    socket2::SockRef::from(&peer)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(peer);
    let expected = format!("tuplecat: tcp {own} <-> {address}: connection reset by peer\n");
    assert_eq!(client.wait().exits(7).err, expected);
    // A client among many has no other line.
    let server = tuplecat("tcp-listen -k 0")
        .env("TUPLECAT_REPORT", "")
        .start();
    let peer = connect(server.ready());
    let own = peer.local_addr().unwrap();
    socket2::SockRef::from(&peer)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(peer);
    let line = server.err().wait_for_line("broken");
    let name = format!(
        "tcp {} <-> {own}  #1  connection reset by peer",
        server.ready()
    );
    assert!(line.ends_with(&name), "{line}");
}

/// A report begins a line, although what was received on the same terminal ended within one.
#[test]
fn a_report_begins_a_line() {
    for words in ["", "-q"] {
        let (person, process) = terminal();
        let both = [process.try_clone().unwrap(), process];
        let [stdout, stderr] = both.map(|file| Output::To(file.into()));
        let server = tuplecat("tcp-listen --color never 0")
            .args(words)
            .stdout(stdout)
            .stderr(stderr);
        let server = server.stdin(Input::Held).start();
        let seen = Capture::start(person);
        let mut peer = connect(server.ready());
        peer.write_all(b"Hello world").unwrap();
        seen.wait_for("Hello world");
        socket2::SockRef::from(&peer)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
        drop(peer);
        server.wait().exits(7);
        let next = if words.is_empty() {
            "broken"
        } else {
            "tuplecat: "
        };
        seen.wait_for(&format!("Hello world\r\n{next}"));
    }
}

/// One socket has one name from its first line to its last, and its peers stand below it.
#[test]
fn one_socket_has_one_name() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto --reply-timeout 0.2")
        .to(address)
        .says("x")
        .start();
    let (_, own) = receive(&socket);
    let done = client.wait().exits(0);
    assert!(
        done.line("sent").contains(&format!("udp {own} -> ")),
        "{}",
        done.err
    );
    assert!(
        done.line("closed")
            .starts_with(&format!("closed     udp {own}  in 0")),
        "{}",
        done.err
    );
    assert!(!done.err.contains("0.0.0.0"), "{}", done.err);

    let server = tuplecat("udp-bind 0").start();
    let peer = datagrams();
    peer.0.send_to(b"1", server.ready()).unwrap();
    server.out().wait_for("1");
    server.signal(Signal::USR1);
    let address = server.ready();
    server.err().wait_for(&format!(
        "peer       udp {address} <- {}  in 1 datagram",
        peer.1
    ));
    let text = String::from_utf8(server.err().so_far()).unwrap();
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("socket "))
            .count(),
        1,
        "{text}"
    );
}

/// A failed probe of one port is one line; ICMP errors have one for each target, and a count.
#[test]
fn a_refusal_is_reported_once() {
    let (_nobody, address) = refusing(Transport::Tcp);
    let done = tuplecat("tcp-connect --probe").to(address).run().exits(5);
    assert_eq!(
        done.err,
        format!("tuplecat: cannot connect to {address}: connection refused\n")
    );
    let (_nobody, address) = refusing(Transport::Udp);
    let client = tuplecat("udp-sendto --in line --delay 5ms --reply-timeout 0").to(address);
    let err = client.says("x\n".repeat(100)).run().err;
    let lines: Vec<_> = err
        .lines()
        .filter(|line| line.starts_with("refused "))
        .collect();
    assert_eq!(lines.len(), 2, "{err}");
    assert!(lines[1].ends_with(" in all"), "{err}");
}

/// Lines about one IPv4 socket or conversation fit 80 columns; only closing lines may be longer.
#[test]
fn a_line_fits_80_columns() {
    let server = tuplecat("tcp-listen -v 0").start();
    speaks(Transport::Tcp, server.ready())
        .says("x")
        .run()
        .exits(0);
    let udp = tuplecat("udp-bind -v --count 1 0").start();
    let client = tuplecat("udp-sendto --reply-timeout 0").to(udp.ready());
    client.says("x").run().exits(0);
    for done in [server.wait().exits(0), udp.wait().exits(0)] {
        for line in done.err.lines().filter(|line| !line.starts_with("closed")) {
            assert!(line.len() <= 80, "{line}");
        }
    }
}

#[test]
fn a_listener_without_clients_is_in_the_table() {
    let server = tuplecat("tcp-listen 0").start();
    let address = server.ready();
    server.signal(Signal::USR1);
    let row = server.err().wait_for_line("socket");
    assert!(row.contains(&format!("tcp {address}  ")), "{row}");
    assert!(row.ends_with("  listening"), "{row}");
}

#[test]
fn a_connection_is_in_the_table_with_its_state() {
    let (listener, address) = listen();
    let client = tuplecat("tcp-connect").to(address).says("x").start();
    let own = client.ready();
    let peer = accept(&listener);
    assert_eq!(read_all(&peer), b"x");
    client.signal(Signal::USR1);
    let row = client.err().wait_for_line("socket");
    assert!(
        row.contains(&format!("tcp {own} <-> {address}  in 0 B, out 1 B")),
        "{row}"
    );
    assert!(row.ends_with("  half-closed"), "{row}");
}

#[test]
fn every_peer_of_a_socket_is_in_the_table() {
    let server = tuplecat("udp-bind 0").start();
    let address = server.ready();
    let (one, two) = (datagrams(), datagrams());
    one.0.send_to(b"1", address).unwrap();
    server.out().wait_for("1");
    two.0.send_to(b"22", address).unwrap();
    server.out().wait_for("122");
    server.signal(Signal::USR1);
    for (peer, bytes) in [(one.1, "1 B"), (two.1, "2 B")] {
        let text = format!("udp {address} <- {peer}  in 1 datagram ({bytes})");
        server.err().wait_for(&text);
    }
}

#[test]
fn verbose_reports_every_chunk_of_a_stream() {
    let server = tuplecat("tcp-listen -v 0").start();
    let address = server.ready();
    let mut peer = connect(address);
    let own = peer.local_addr().unwrap();
    let tuple = format!("tcp {address} <-> {own}  #1");
    peer.write_all(b"twelve bytes").unwrap();
    server
        .err()
        .wait_for(&format!("received   {tuple}  12 bytes\n"));
    peer.write_all(b"!").unwrap();
    server
        .err()
        .wait_for(&format!("received   {tuple}  1 byte\n"));
    drop(peer);
    let done = server.wait().exits(0);
    assert_eq!(
        done.line("finished"),
        format!("finished   {tuple}  by the peer")
    );
}

#[test]
fn verbose_reports_the_end_of_input() {
    let (listener, address) = listen();
    let client = tuplecat("tcp-connect -v").to(address).start();
    let own = client.ready();
    let peer = accept(&listener);
    assert_eq!(read_all(&peer), b"");
    drop(peer);
    let done = client.wait().exits(0);
    assert_eq!(
        done.line("finished"),
        format!("finished   tcp {own} <-> {address}  nothing more to send")
    );
}

#[test]
fn connecting_is_reported_with_every_attempt() {
    let (_nobody, address) = refusing(Transport::Tcp);
    let done = tuplecat("tcp-connect -v").to(address).run().exits(5);
    assert_eq!(done.line("connecting"), format!("connecting {address}"));
    assert_eq!(
        done.line("failed"),
        format!("failed     {address}: connection refused")
    );
}

/// A line is written by one call, so that several processes can share one standard error.
#[test]
fn reports_of_several_processes_do_not_mix() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let shared = || File::options().append(true).open(file.path()).unwrap();
    let servers: Vec<Running> = (0..4)
        .map(|_| {
            tuplecat("tcp-listen 0")
                .stderr(Output::To(shared().into()))
                .start()
        })
        .collect();
    for server in servers {
        drop(connect(server.ready()));
        server.wait().exits(0);
    }
    let text = fs::read_to_string(file.path()).unwrap();
    let words = [
        "listening  tcp 127.0.0.1:",
        "accepted   tcp 127.0.0.1:",
        "closed     tcp 127.0.0.1:",
    ];
    for word in words {
        assert_eq!(
            text.lines().filter(|line| line.starts_with(word)).count(),
            4,
            "{text}"
        );
    }
    assert_eq!(text.lines().count(), 12, "{text}");
}
