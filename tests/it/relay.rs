//! A relay from `tcp-listen` to a target: each end sees what it would see without it.
//! Each ending is played over a direct connection and through the relay, with and without the kernel's fast path.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;
use rustix::event::PollFlags;
use rustix::io::ioctl_fionread;
use tuplecat::flow::Transport;

use crate::common::*;

/// Plays both ends of a connection, and returns what each has seen.
type Ending = fn(client: TcpStream, server: TcpStream) -> [String; 2];

/// More than the buffers of both legs hold, so that an end has to wait for the other one.
const MANY: usize = 16 << 20;

/// The endings, by what happens.
const ENDINGS: [(&str, Ending); 10] = [
    (
        "the answer comes late, after the FIN of the client",
        |client, server| {
            let sent = say(&client, MANY);
            let server_saw = saw(&server);
            sent.join().unwrap();
            pause();
            let sent = say(&server, MANY);
            let client_saw = saw(&client);
            sent.join().unwrap();
            [client_saw, server_saw]
        },
    ),
    (
        "the client speaks late, after the FIN of the server",
        |client, server| {
            say(&server, 1000).join().unwrap();
            let client_saw = saw(&client);
            pause();
            let sent = say(&client, MANY);
            let server_saw = saw(&server);
            sent.join().unwrap();
            [client_saw, server_saw]
        },
    ),
    ("both finish", |client, server| {
        let sent = [say(&client, MANY), say(&server, MANY)];
        let reads = thread::spawn(move || saw(&client));
        let server_saw = saw(&server);
        for sent in sent {
            sent.join().unwrap();
        }
        [reads.join().unwrap(), server_saw]
    }),
    ("the server resets", |client, mut server| {
        (&client).write_all(b"question").unwrap();
        read_len(&server, 8);
        server.write_all(&[b'x'; 1000]).unwrap();
        is_acknowledged(&server);
        reset(server);
        [saw(&client), String::new()]
    }),
    ("the client resets", |mut client, server| {
        client.write_all(&[b'x'; 1000]).unwrap();
        is_acknowledged(&client);
        reset(client);
        [String::new(), saw(&server)]
    }),
    (
        "the server resets, and the client reads late",
        |client, server| {
            let resets = thread::spawn(move || {
                (&server).write_all(&vec![b'x'; MANY]).unwrap();
                is_acknowledged(&server);
                reset(server);
            });
            pause();
            let client_saw = saw(&client);
            resets.join().unwrap();
            [client_saw, String::new()]
        },
    ),
    ("the server closes without reading", |mut client, server| {
        client.write_all(b"not read").unwrap();
        wait_until(|| ioctl_fionread(&server).unwrap() == 8);
        drop(server);
        [saw(&client), String::new()]
    }),
    (
        "the client writes to a server that is gone",
        |client, server| {
            drop(server);
            let client_saw = saw(&client);
            // The first one is answered by a reset.
            wait_until(|| (&client).write_all(b"more").is_err());
            [client_saw, String::new()]
        },
    ),
    ("the client resets after its FIN", |client, server| {
        say(&client, 1000).join().unwrap();
        let server_saw = saw(&server);
        reset(client);
        wait_until(|| (&server).write_all(b"more").is_err());
        [String::new(), server_saw]
    }),
    (
        "the client leaves while the server sends",
        |client, server| {
            let sends = thread::spawn(move || {
                let sent = (&server).write_all(&vec![b'x'; 4 * MANY]);
                sent.map_err(|error| error.kind() == ErrorKind::TimedOut)
            });
            read_len(&client, 1000);
            reset(client);
            let sent = sends.join().unwrap();
            [String::new(), format!("{sent:?}")]
        },
    ),
];

/// Gives an end time to do something wrong meanwhile.
fn pause() {
    thread::sleep(Duration::from_millis(50));
}

/// Waits for a condition that no descriptor reports.
#[track_caller]
fn wait_until(mut is_met: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !is_met() {
        assert!(Instant::now() < deadline, "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the other side has acknowledged everything.
fn is_acknowledged(stream: &TcpStream) {
    wait_until(|| tuplecat::sys::sockopt::unsent(stream) == Some(0));
}

/// Sends so many bytes, and then a FIN, in the background.
fn say(stream: &TcpStream, len: usize) -> thread::JoinHandle<()> {
    let mut stream = stream.try_clone().unwrap();
    thread::spawn(move || {
        stream.write_all(&vec![b'x'; len]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    })
}

/// Reads to the end, and returns what that was.
fn saw(mut stream: &TcpStream) -> String {
    let (mut space, mut count) = (vec![0; 1 << 16], 0);
    loop {
        match stream.read(&mut space) {
            Ok(0) => return format!("{count} FIN"),
            Ok(len) => count += len,
            Err(error) => return format!("{count} {:?}", error.kind()),
        }
    }
}

/// Connects, and returns what the client saw. A reset may come before connect(2) has returned.
fn attempt(address: SocketAddr) -> String {
    match TcpStream::connect_timeout(&address, BOUND) {
        Ok(client) => saw(&bounded(client)),
        Err(error) => format!("0 {:?}", error.kind()),
    }
}

/// Starts a relay to a listener, with `-k`.
fn relay(words: &str) -> (Running, TcpListener) {
    let (listener, target) = listen();
    let relay = tuplecat("tcp-listen -q -k 0").args(words);
    let relay = relay.args(&format!("--to {target}")).start();
    (relay, listener)
}

/// Connects through a relay, and returns both ends.
fn pair(relay: &Running, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(relay.ready());
    (client, accept(listener))
}

#[test]
fn each_ending_is_as_without_a_relay() {
    for words in ["", "--no-fast-path"] {
        let (relay, listener) = relay(words);
        for (name, play) in ENDINGS {
            let (direct, address) = listen();
            let client = connect(address);
            let expected = play(client, accept(&direct));
            let (client, server) = pair(&relay, &listener);
            assert_eq!(play(client, server), expected, "{words} {name}");
        }
    }
}

#[test]
fn a_client_that_cannot_be_relayed_is_reset_and_the_status_says_why() {
    let (_refusing, refuses) = refusing(Transport::Tcp);
    let (_silent, is_silent) = silent();
    for (target, words, status, reason) in [
        (refuses.to_string(), "", 5, "connection refused"),
        (
            is_silent.to_string(),
            "--connect-timeout 100ms",
            6,
            "timed out after 0.1 s",
        ),
        (
            format!("{}:80", "x".repeat(64)),
            "",
            3,
            "cannot resolve host",
        ),
    ] {
        for mode in ["", "-k"] {
            let relay = tuplecat(&format!("tcp-listen -q {mode} 0 --to {target} {words}"));
            let relay = relay.start();
            assert_eq!(attempt(relay.ready()), "0 ConnectionReset", "{target}");
            if mode == "-k" {
                relay.err().wait_for(reason);
                // The next client is served likewise.
                assert_eq!(attempt(relay.ready()), "0 ConnectionReset");
            } else {
                let done = relay.wait().exits(status);
                assert!(done.err.contains(reason), "{}", done.err);
            }
        }
    }
}

/// The FIN of the client waits for a connection that never comes.
#[test]
fn a_client_that_has_left_before_its_target_refuses_costs_nothing_more() {
    let (_refusing, refuses) = refusing(Transport::Tcp);
    let relay = tuplecat(&format!("tcp-listen -k 0 --to {refuses}")).start();
    drop(connect(relay.ready()));
    relay.err().wait_for_line("closed");
    is_calm(&relay);
}

#[test]
fn a_reset_of_either_end_is_status_7() {
    for is_client in [true, false] {
        let (listener, target) = listen();
        let relay = tuplecat(&format!("tcp-listen -q 0 --to {target}")).start();
        let (client, server) = pair(&relay, &listener);
        let (resets, other) = if is_client {
            (client, server)
        } else {
            (server, client)
        };
        reset(resets);
        assert_eq!(saw(&other), "0 ConnectionReset");
        let done = relay.wait().exits(7);
        assert!(
            done.err.contains("connection reset by peer"),
            "{}",
            done.err
        );
    }
}

/// Sends until nothing more is taken.
fn fill_up(stream: &TcpStream) {
    stream.set_nonblocking(true).unwrap();
    let (mut sink, bytes) = (stream, vec![b'x'; 1 << 18]);
    while is_ready_within(stream, PollFlags::OUT, Duration::from_millis(50)) {
        let _ = sink.write(&bytes);
    }
    stream.set_nonblocking(false).unwrap();
}

/// Starts a relay that knows nothing of the kernel's buffers: what is sent waits in the relay.
fn small(words: &str) -> (Running, TcpListener) {
    relay(&format!("--rcvbuf 4k --sndbuf 4k {words}"))
}

#[test]
fn a_pair_that_is_idle_is_reset_at_both_ends_and_others_stay() {
    let (relay, listener) = small("--idle-timeout 300ms");
    let (busy, busy_server) = pair(&relay, &listener);
    let half_closed = |(client, server): (TcpStream, TcpStream)| {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&server), b"");
        (client, server)
    };
    // The server takes nothing of what waits in the relay.
    let stuck = |(client, server): (TcpStream, TcpStream)| {
        fill_up(&client);
        (client, server)
    };
    let idle = pair(&relay, &listener);
    let half_closed = half_closed(pair(&relay, &listener));
    let stuck = stuck(pair(&relay, &listener));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                (&busy).write_all(b"x").unwrap();
                read_len(&busy_server, 1);
                thread::sleep(Duration::from_millis(10));
            }
        });
        let pairs = [idle, half_closed, stuck];
        let seen = pairs.map(|(client, server)| [saw(&client), saw(&server)]);
        is_over.store(true, Ordering::Relaxed);
        // What the other end of the half-closed one sees first is the FIN.
        let ends = seen.map(|saw| saw.map(|saw| saw.split(' ').nth(1).unwrap().to_owned()));
        let reset = "ConnectionReset";
        assert_eq!(ends, [[reset, reset], [reset, "FIN"], [reset, reset]]);
    });
    (&busy).write_all(b"still there").unwrap();
    assert_eq!(read_len(&busy_server, 11), b"still there");
    relay
        .err()
        .wait_for("nothing was sent or received for 0.3 s (--idle-timeout)");
}

/// A slow transfer is not idle, although only one leg moves: the client waits, and the server acknowledges slowly.
#[test]
fn a_pair_is_not_idle_while_one_leg_moves() {
    let (relay, listener) = small("--idle-timeout 500ms");
    let (client, server) = pair(&relay, &listener);
    let sent = say(&client, 1 << 20);
    let mut count = 0;
    while count < 1 << 20 {
        count += read_len(&server, 1 << 16).len();
        thread::sleep(Duration::from_millis(60));
    }
    sent.join().unwrap();
    assert_eq!(saw(&server), "0 FIN");
}

#[test]
fn a_run_that_ends_in_the_middle_resets_both_ends() {
    for (words, status) in [("", 143), ("--timeout 300ms", 6)] {
        for mode in ["", "-k"] {
            let (listener, target) = listen();
            let relay = tuplecat(&format!("tcp-listen -q {mode} {words} 0 --to {target}"));
            let relay = relay.start();
            let (client, server) = pair(&relay, &listener);
            (&server).write_all(b"a part").unwrap();
            assert_eq!(read_len(&client, 6), b"a part");
            server.shutdown(Shutdown::Write).unwrap();
            assert_eq!(saw(&client), "0 FIN");
            if words.is_empty() {
                relay.signal(rustix::process::Signal::TERM);
            }
            assert_eq!(saw(&server), "0 ConnectionReset", "{words} {mode}");
            relay.wait().exits(status);
        }
    }
}

/// Returns the number of descriptors of a process.
fn descriptors(relay: &Running) -> usize {
    let folder = format!("/proc/{}/fd", relay.pid());
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn an_idle_pair_has_two_descriptors_also_after_much() {
    let (relay, listener) = relay("");
    let carries = |(client, server): &(TcpStream, TcpStream)| {
        for (from, to) in [(client, server), (server, client)] {
            thread::scope(|scope| {
                scope.spawn(|| (&mut &*from).write_all(&vec![b'x'; MANY]).unwrap());
                read_len(to, MANY);
            });
        }
    };
    let first = pair(&relay, &listener);
    carries(&first);
    let before = descriptors(&relay);
    let pairs: Vec<_> = (0..10).map(|_| pair(&relay, &listener)).collect();
    pairs.iter().for_each(carries);
    wait_until(|| descriptors(&relay) == before + 20);
    drop((first, pairs));
    wait_until(|| descriptors(&relay) == before - 2);
}

#[test]
fn a_slow_or_silent_end_holds_up_no_other_pair() {
    let (relay, listener) = relay("");
    let stalled: Vec<_> = (0..40)
        .map(|_| {
            let (client, server) = pair(&relay, &listener);
            fill_up(&server);
            (client, server)
        })
        .collect();
    let (client, server) = pair(&relay, &listener);
    let sent = say(&server, MANY);
    assert_eq!(saw(&client), format!("{MANY} FIN"));
    sent.join().unwrap();
    drop(stalled);
}

#[test]
fn each_report_names_the_leg() {
    let (listener, target) = listen();
    let relay = tuplecat("tcp-listen --report data 0 --hex-file dump --pcap capture");
    let relay = relay.args(&format!("--events - --to {target}")).start();
    let listening = relay.ready();
    let (client, server) = pair(&relay, &listener);
    let (own, server_sees) = (client.local_addr().unwrap(), server.peer_addr().unwrap());
    relay.signal(rustix::process::Signal::USR1);
    relay.err().wait_for("  #1 target  in 0 B");
    (&client).write_all(b"ask").unwrap();
    assert_eq!(read_len(&server, 3), b"ask");
    drop(server);
    assert_eq!(saw(&client), "0 FIN");
    drop(client);
    let done = relay.wait().exits(0);
    let legs = [
        format!("tcp {listening} <-> {own}  #1 client"),
        format!("tcp {server_sees} <-> {target}  #1 target"),
    ];
    let lines = [
        format!("accepted   {}\n", legs[0]),
        format!("relayed    tcp {own} <-> {listening}  #1  to  tcp {server_sees} <-> {target}\n"),
        format!("socket     {}  in 0 B, out 0 B, ", legs[0]),
        format!("socket     {}  in 0 B, out 0 B, ", legs[1]),
        format!("received   {}  3 bytes\n", legs[0]),
        format!("sent       {}  3 bytes\n", legs[1]),
        format!("closed     {}  in 3 B, out 0 B, ", legs[0]),
        format!("closed     {}  in 0 B, out 3 B, ", legs[1]),
    ];
    for line in lines {
        assert!(done.err.contains(&line), "{line}{}", done.err);
    }
    for leg in ["client", "target"] {
        let field = format!("\"conn\":1,\"leg\":\"{leg}\"");
        assert!(done.err.contains(&field), "{field}{}", done.err);
    }
}

#[test]
fn a_target_on_this_machine_is_for_this_machine_or_those_that_are_allowed() {
    let (_listener, target) = listen();
    let unspecified = format!("0.0.0.0:{}", target.port());
    let by_name = format!("localhost:{}", target.port());
    let refusal = "refusing to relay to a target on this machine for any remote host: \
        restrict clients with --allow CIDR, or bind one HOST";
    for mode in ["tcp-listen", "udp-bind"] {
        for target in [&target.to_string(), &unspecified, &by_name] {
            for host in ["*", "0.0.0.0"] {
                let relay = tuplecat(mode).arg(host).args(&format!("0 --to {target}"));
                relay.run().fails(2, refusal);
            }
        }
        for (host, words) in [
            ("*", "--allow 127.0.0.1"),
            ("*", "--to 192.0.2.1:9"),
            ("127.0.0.1", ""),
        ] {
            let to = if words.starts_with("--to") {
                String::new()
            } else {
                format!("--to {target}")
            };
            let relay = tuplecat(mode).arg(host).args(&format!("0 {words} {to}"));
            relay.start().ready();
        }
    }
}
