//! Interruptions of a run that waits for a name server, for the reader of a FIFO, or for an answer: signals and limits.
//! Signals that the process ignores from the start stay ignored.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;
use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

/// A shell script that runs the program with a name server that never answers; its questions go to the file `asked`.
const UNANSWERED: &str = r#"
ip link set lo up
echo nameserver 127.0.0.1 > resolv
mount --bind resolv /etc/resolv.conf
mkfifo ready
exec 3<&0
"$0" udp-bind -q --out hex --on-stdin-eof quit --ready-file ready 127.0.0.1 53 <&3 > asked &
read -r line < ready
exec "$0" "$@"
"#;

/// Starts the program with that name server, to resolve a name. Returns `None` with a notice where that is not possible.
fn looking_up(transport: Transport, words: &str) -> Option<Running> {
    let namespace = |script: &str| {
        let unshare = program("unshare", "--map-root-user --net --mount /bin/sh -ec");
        unshare.arg(script).arg(env!("CARGO_BIN_EXE_tuplecat"))
    };
    let trial = "ip link set lo up; grep -q '^hosts:.*dns' /etc/nsswitch.conf; mount --bind /dev/null /etc/resolv.conf";
    let tools = ["unshare", "ip"];
    if !tools.into_iter().all(is_installed) || namespace(trial).run().status != 0 {
        skip("there cannot be a name server of its own here");
        return None;
    }
    let mode = match transport {
        Transport::Tcp => "tcp-connect",
        _ => "udp-sendto",
    };
    let launch = namespace(UNANSWERED).arg(mode).args(words);
    Some(launch.args("nobody.example 9").stdin(Input::Held).start())
}

both! {
    /// A signal ends the wait for a name server.
    fn a_signal_ends_a_look_up(transport) {
        for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
            let Some(running) = looking_up(transport, "") else {
                return;
            };
            running.wait_for_file(&running.path("asked"));
            running.signal(signal);
            assert_eq!(running.wait().exits(status).errors(), "");
        }
    }

    /// The time limits include look-ups.
    fn a_limit_ends_a_look_up(transport) {
        let limits = match transport {
            Transport::Tcp => &["--timeout 300ms", "--connect-timeout 300ms"][..],
            _ => &["--timeout 300ms"],
        };
        for words in limits {
            let Some(running) = looking_up(transport, words) else {
                return;
            };
            let message = "cannot resolve host 'nobody.example': timed out after 0.3 s";
            running.wait().fails(6, message);
        }
    }

    /// A FIFO as ready file waits for its reader, and a long wait is reported.
    fn a_ready_file_that_is_a_fifo_waits_for_its_reader(transport) {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path());
        let server = waits(transport, "0").ready_at(&path).start();
        let waiting = format!("for a reader of '{}' (--ready-file)", path.display());
        server.err().wait_for(&waiting);
        let mut line = String::new();
        read_side(&path).read_to_string(&mut line).unwrap();
        let address = line.trim_end().rsplit_once(' ').unwrap().1.parse().unwrap();
        speaks(transport, address).says("heard").run().exits(0);
        assert_eq!(server.wait().exits(0).text(), "heard");
    }

    /// A FIFO without a reader delays neither a signal nor a limit.
    fn an_unread_ready_file_delays_neither_a_signal_nor_a_limit(transport) {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path());
        let server = waits(transport, "0").ready_at(&path).start();
        server.err().wait_for("(--ready-file)");
        server.signal(Signal::INT);
        assert_eq!(server.wait().exits(130).errors(), "");
        let server = waits(transport, "0 --timeout 300ms").ready_at(&path).start();
        server.wait().fails(6, "timed out after 0.3 s (--timeout)");
    }

    /// A signal that is ignored at the start stays ignored, as for background processes of a script.
    fn an_ignored_signal_ends_nothing(transport) {
        let mode = match transport {
            Transport::Tcp => "tcp-listen",
            _ => "udp-bind",
        };
        let script = program("/bin/sh", "-c").arg(r#"trap "" INT HUP; exec "$0" "$@""#);
        let script = script.arg(env!("CARGO_BIN_EXE_tuplecat")).arg(mode);
        let server = script.args("0 --ready-file ready").stdin(Input::Held).start();
        server.wait_for_file(&server.path("ready"));
        server.signal(Signal::INT);
        server.signal(Signal::HUP);
        // If they were not ignored, they would end the run before the second one is seen.
        server.signal(Signal::USR1);
        server.err().wait_for("socket ");
        server.signal(Signal::TERM);
        server.wait().exits(143);
    }
}

/// A record is complete, so an unread one delays the run, but no signal and no limit.
#[test]
fn an_unread_record_delays_neither_a_signal_nor_the_limit() {
    for (words, signal, status) in [
        ("udp-bind -q 0 -x", Some(Signal::TERM), 143),
        ("udp-bind -q 0 -x --timeout 2", None, 6),
        ("udp-bind -q 0 --timeout 2 --hex-file", None, 6),
        ("udp-bind -q 0 --hex-file", Some(Signal::TERM), 143),
        ("udp-bind -q 0 --pcap", Some(Signal::TERM), 143),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path());
        let (stderr, writer) = std::io::pipe().unwrap();
        let record = read_side(&path);
        let launch = tuplecat(words).stderr(Output::To(writer.into()));
        let is_file = !words.contains("-x");
        let server = if is_file { launch.arg(&path) } else { launch }.start();
        if is_file {
            fill(&server, &record);
        } else {
            fill(&server, &stderr);
        }
        let start = Instant::now();
        if let Some(signal) = signal {
            server.signal(Signal::USR1);
            server.signal(signal);
        }
        server.wait().exits(status);
        assert!(
            start.elapsed() < Duration::from_secs(6),
            "{words}: {:?}",
            start.elapsed()
        );
    }
}

/// Sends more than a pipe and the buffers before it have room for.
fn fill(server: &Running, record: &impl AsFd) {
    let (socket, _) = datagrams();
    let full = || ioctl_fionread(record).unwrap() > 20_000;
    for _ in 0..200 {
        socket.send_to(&[0; 1000], server.ready()).unwrap();
    }
    wait_until("the pipe fills", full);
}

/// A FIFO that nobody opens delays neither a signal nor the limit on the run.
#[test]
fn a_record_without_a_reader_delays_neither_a_signal_nor_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = fifo(directory.path());
    for option in ["--events", "--hex-file", "--pcap"] {
        let done = tuplecat("udp-bind 0 --timeout 300ms")
            .arg(option)
            .arg(&path)
            .run();
        let text = format!(
            "'{}' ({option}) had no reader in time (--timeout)",
            path.display()
        );
        done.fails(6, &text);
        let server = tuplecat("tcp-listen 0").arg(option).arg(&path).start();
        assert!(!server.has_ended_within(A_WHILE));
        server.signal(Signal::TERM);
        server.wait().exits(143);
    }
}

/// Lets an echo serve so many clients, one after the other.
fn serve(server: &Running, clients: usize) {
    for _ in 0..clients {
        let mut peer = connect(server.ready());
        peer.write_all(b"x").unwrap();
        finish(&peer);
        assert_eq!(read_all(&peer), b"x");
    }
}

/// Reads until `wanted` has come: what is read makes room for later reports.
fn read_until(from: &mut impl Read, wanted: &str) -> String {
    let (mut text, mut space) = (Vec::new(), vec![0; 65536]);
    while !String::from_utf8_lossy(&text).contains(wanted) {
        let count = from.read(&mut space).unwrap();
        text.extend_from_slice(&space[..count]);
    }
    String::from_utf8(text).unwrap()
}

/// Reports that nobody reads hold up neither clients nor signals. They are left out, and counted once there is room.
#[test]
fn unread_reports_hold_up_nothing() {
    let (mut stderr, writer) = std::io::pipe().unwrap();
    let server = tuplecat("tcp-listen -k -v --echo 0").stderr(Output::To(writer.into()));
    let server = server.start();
    serve(&server, 2000);
    let text = read_until(&mut stderr, "\nomitted    ");
    assert!(
        text.contains(" reports that nobody read in time\n"),
        "{text}"
    );
    let start = Instant::now();
    server.signal(Signal::TERM);
    server.wait().exits(143);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

/// The same of events, whose lines stay whole.
#[test]
fn unread_events_hold_up_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = fifo(directory.path());
    let mut events = read_side(&path);
    let server = tuplecat("tcp-listen -k -q --echo 0 --events")
        .arg(&path)
        .start();
    serve(&server, 1000);
    let text = read_until(&mut events, "\"event\":\"omitted\",\"reports\":");
    server.err().wait_for_line("omitted");
    let (whole, _) = text.rsplit_once('\n').unwrap();
    for line in whole.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

/// A failure is no reason to wait for a reader of its message.
#[test]
fn an_unread_error_does_not_delay_the_end() {
    let (stderr, writer) = std::io::pipe().unwrap();
    push(writer.try_clone().unwrap(), &vec![b'x'; 1 << 20]);
    let done = tuplecat("tcp-listen 0 --timeout 100ms").stderr(Output::To(writer.into()));
    done.run().exits(6);
    drop(stderr);
}

#[test]
fn unread_reports_do_not_delay_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let path = fifo(directory.path());
    let (stderr, writer) = std::io::pipe().unwrap();
    let to_stderr = tuplecat("udp-bind -q -x 0").stderr(Output::To(writer.into()));
    let to_stderr = to_stderr.start();
    let events = read_side(&path);
    let to_file = tuplecat("udp-bind -q 0 --events-payload --events")
        .arg(&path)
        .start();
    hang(&to_stderr, &stderr);
    hang(&to_file, &events);
    let hanging = [to_stderr, to_file];
    for server in &hanging {
        server.signal(Signal::TERM);
    }
    for server in hanging {
        server.wait().exits(143);
    }
}

/// Makes a server report more than the pipe has room for.
fn hang(server: &Running, reports: &impl AsFd) {
    let (socket, _) = datagrams();
    for _ in 0..100 {
        socket.send_to(&[0; 1000], server.ready()).unwrap();
    }
    // The capacity of a full pipe depends on the sizes of the writes.
    wait_until("the pipe fills", || {
        ioctl_fionread(reports).unwrap() > 20_000
    });
}

#[test]
fn the_table_has_the_attempts_to_connect_and_they_go_on() {
    let (_queue, full) = silent();
    let running = tuplecat("tcp-connect -v").to(full).start();
    let attempt = format!("connecting {full}");
    running.err().wait_for(&attempt);
    running.signal(Signal::USR1);
    running.err().wait_for("socket ");
    running.signal(Signal::TERM);
    let done = running.wait().exits(143);
    let (_, _, remote) = tuple(done.line("socket"));
    assert_eq!(remote, full.to_string(), "{}", done.err);
    assert!(done.line("socket").contains("connecting"), "{}", done.err);
    assert_eq!(done.err.matches(&attempt).count(), 1, "{}", done.err);
}
