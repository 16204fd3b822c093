//! The three failures of every tutorial on sockets, on a cable between two machines of the test's own: cut, dead, killed.
//! TCP is patient: only who asks for it is told that nobody is there any more, and then with the 4-tuple that has died.

use std::thread;

use rustix::process::Signal;

use crate::common::*;

const OURS: &str = "192.0.2.1";
const THEIRS: &str = "192.0.2.2";

/// Two machines and the cable between them. Here it ends in a bridge, which has an address and is up whatever becomes of it.
struct Cable {
    ours: Namespace,
    theirs: Namespace,
}

impl Cable {
    fn new() -> Option<Self> {
        let ours = Namespace::new(&format!(
            "ip link set lo up
            ip link add bridge type bridge
            ip link add lamp type veth peer name far
            ip link set far up
            ip link set lamp master bridge up
            ip address add {OURS}/24 dev bridge
            ip link set bridge up
            # Nobody there is soon known.
            echo 50 > /proc/sys/net/ipv4/neigh/bridge/retrans_time_ms"
        ))?;
        let theirs = ours.beside();
        let cable = Self { ours, theirs };
        cable.plug_in();
        Some(cable)
    }

    fn plug_in(&self) {
        self.ours.run(&format!(
            "ip link add here type veth peer name there netns {}
            ip link set here master bridge up",
            self.theirs.holder()
        ));
        self.theirs.run(&format!(
            "ip address add {THEIRS}/24 dev there
            ip link set there up"
        ));
    }

    fn cut(&self) {
        self.ours.run("ip link set here down");
    }

    fn mend(&self) {
        self.ours.run("ip link set here up");
    }

    /// The other machine loses its power without a word, and forgets everything.
    fn fail(&mut self, processes: Vec<Running>) {
        self.ours
            .run("ip link del here; ip neighbour flush dev bridge");
        drop(processes);
        self.theirs = self.ours.beside();
    }

    /// A listener there and a client here, with these words; each has heard the other.
    fn session(&self, listens: &str, connects: &str) -> [Running; 2] {
        let server = self.theirs.tuplecat("tcp-listen").args(listens);
        let mut server = server.args("* 0").stdin(Input::Held).start();
        let port = server.ready().port();
        let client = self.ours.tuplecat("tcp-connect").args(connects);
        let client = client.arg(THEIRS).arg(port.to_string());
        let mut client = client.stdin(Input::Held).start();
        client.write("hello");
        server.out().wait_for("hello");
        server.write("hello");
        client.out().wait_for("hello");
        [server, client]
    }
}

/// Ends with this status, and says which connection it was that has died, and of what.
#[track_caller]
fn dies(running: Running, status: i32, reason: &str) -> Done {
    let done = running.wait().exits(status);
    let mut lines = done.err.lines();
    let opened = lines.find(|line| line.starts_with("connected") || line.starts_with("accepted"));
    let (transport, local, remote) = tuple(opened.unwrap());
    let line = format!("{transport} {local} <-> {remote}: {reason}");
    assert_eq!(done.errors(), line);
    assert!(done.line("broken").ends_with(reason), "{}", done.err);
    done
}

/// Whoever has something to send notices by that, whoever has not must ask; both sides of the cable are alike.
#[test]
fn a_cut_cable_is_noticed_in_time_by_those_who_asked() {
    let Some(cable) = Cable::new() else {
        return;
    };
    let silent = cable.session("--keepalive=1,1,1", "--no-fast-path --keepalive=1,1,1");
    let mut speaks = cable.session("--user-timeout 1", "--no-fast-path --user-timeout 1");
    cable.cut();
    for running in &mut speaks {
        running.write("lost");
    }
    for running in silent.into_iter().chain(speaks) {
        dies(running, 6, "connection timed out");
    }
}

#[test]
fn a_listener_goes_on_without_the_client_behind_a_cut_cable() {
    let Some(cable) = Cable::new() else {
        return;
    };
    let [server, _client] = cable.session("-k --keepalive=1,1,1", "");
    cable.cut();
    let line = server.err().wait_for_line("broken");
    assert!(
        line.contains(OURS) && line.ends_with("#1  connection timed out"),
        "{line}"
    );
    cable.mend();
    let port = server.ready().port();
    let client = cable
        .ours
        .tuplecat(&format!("tcp-connect --on-stdin-eof quit {THEIRS} {port}"));
    client.says(", again").run().exits(0);
    server.out().wait_for("hello, again");
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn nothing_is_lost_when_the_cable_is_back() {
    let Some(cable) = Cable::new() else {
        return;
    };
    let sent = bytes(3_000_000);
    let (first, rest) = sent.split_at(100_000);
    let engines = ["", "--no-fast-path"];
    let mut sessions = engines.map(|words| cable.session(words, words));
    cable.cut();
    for running in sessions.as_flattened_mut() {
        running.write(first);
    }
    for [_, client] in &sessions {
        has_sent_in_vain(client);
    }
    cable.mend();
    thread::scope(|scope| {
        for running in sessions.as_flattened_mut() {
            scope.spawn(|| {
                running.write(rest);
                running.close_stdin();
            });
        }
    });
    for running in sessions.into_iter().flatten() {
        let done = running.wait().exits(0);
        assert!(done.out.strip_prefix(b"hello") == Some(&sent[..]));
    }
}

/// Waits until the kernel has sent something again.
#[track_caller]
fn has_sent_in_vain(running: &Running) {
    wait_until("something is sent again", || {
        running.signal(Signal::USR1);
        let text = String::from_utf8(running.err().so_far()).unwrap();
        let mut counts = text.lines().filter(|line| line.contains(" retransmits"));
        counts.any(|line| number_before(line, " retransmits") > 0)
    });
}

/// The other machine is gone for good, and what it has left is an address that nobody answers for.
#[test]
fn a_machine_without_power_is_noticed_in_time_by_those_who_asked() {
    let Some(mut cable) = Cable::new() else {
        return;
    };
    let [first, mut speaks] = cable.session("", "--user-timeout 2");
    let [second, silent] = cable.session("", "--keepalive=1,1,1");
    cable.fail(vec![first, second]);
    speaks.write("lost");
    dies(speaks, 6, "connection timed out: no route to host");
    dies(silent, 6, "connection timed out");
}

/// A machine that is back knows nothing of its connections, and says so.
#[test]
fn a_machine_that_has_started_again_resets() {
    let Some(mut cable) = Cable::new() else {
        return;
    };
    let [server, mut client] = cable.session("", "");
    cable.fail(vec![server]);
    client.write("lost");
    cable.plug_in();
    dies(client, 7, "connection reset by peer");
}

/// A process that is killed leaves a machine that speaks for it.
#[test]
fn a_killed_peer_is_noticed_at_once() {
    let Some(cable) = Cable::new() else {
        return;
    };
    let [server, mut client] = cable.session("", "");
    drop(server);
    client.write("lost");
    dies(client, 7, "connection reset by peer");
    let [mut server, client] = cable.session("", "");
    drop(client);
    server.write("lost");
    dies(server, 7, "connection reset by peer");
}

/// A datagram into the void is nothing that anybody notices, until somebody says so.
#[test]
fn datagrams_come_again_when_the_cable_is_back() {
    let Some(cable) = Cable::new() else {
        return;
    };
    let mut server = cable
        .theirs
        .tuplecat("udp-bind * 0")
        .stdin(Input::Held)
        .start();
    let words = format!(
        "udp-sendto --events events {THEIRS} {}",
        server.ready().port()
    );
    let mut client = cable.ours.tuplecat(&words).stdin(Input::Held).start();
    client.write("one");
    server.out().wait_for("one");
    cable.cut();
    cable.ours.run("ip neighbour flush dev bridge");
    client.write("two");
    let line = client.err().wait_for_line("refused");
    assert!(
        line.ends_with(&format!("host unreachable, reported by {OURS}")),
        "{line}"
    );
    cable.mend();
    client.write("three");
    server.out().wait_for("onethree");
    server.write("answer");
    client.out().wait_for("answer");
    let reported_by = format!(r#""reported_by":"{OURS}""#);
    let events = std::fs::read_to_string(client.path("events")).unwrap();
    assert!(events.contains(&reported_by), "{events}");
    client.close_stdin();
    let done = client.wait().exits(0);
    assert_eq!(done.text(), "answer");
}
