//! Failures of a network between two machines of the test: a cut cable, a machine without power, a killed process.
//! TCP retries for minutes. Options report a dead connection earlier, with its 4-tuple.

use std::thread;

use rustix::process::Signal;

use crate::common::*;

const OURS: &str = "192.0.2.1";
const THEIRS: &str = "192.0.2.2";

/// Two machines and the cable between them. Here it ends in a bridge, which has an address and stays up.
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

    /// Simulates a power failure of the other machine, which loses all its state.
    fn fail(&mut self, processes: Vec<Running>) {
        self.ours
            .run("ip link del here; ip neighbour flush dev bridge");
        drop(processes);
        self.theirs = self.ours.beside();
    }

    /// Starts a listener there and a client here with these arguments, and exchanges a word in each direction.
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

/// Checks the exit status, and that the message names the connection and the reason.
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

/// A side that sends data notices a cut cable by that; the other needs probes. Both roles behave alike.
#[test]
fn a_cut_cable_is_noticed_in_time_with_keepalive() {
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
fn after_a_cut_cable_close_is_explained_as_the_peer_sees_it() {
    let Some(cable) = Cable::new() else {
        return;
    };
    let [server, mut timed] = cable.session("--explain", "--explain --user-timeout 1");
    let [other, mut limited] = cable.session("--explain", "--explain --timeout 2");
    cable.cut();
    timed.write("lost");
    limited.write("lost");
    let shown = timed.wait().exits(6).err;
    let line = "sends nothing: the kernel has given up; the peer may not know";
    assert!(shown.contains(line), "{shown}");
    let shown = limited.wait().exits(6).err;
    let closes = |line: &str| line.starts_with("close()") && line.contains(" sends a ");
    assert!(shown.lines().any(closes), "{shown}");
    for server in [server, other] {
        let shown = String::from_utf8(server.err().so_far()).unwrap();
        assert!(
            !shown.contains("0 bytes: the FIN") && !shown.contains("failed"),
            "{shown}"
        );
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
        has_retransmitted(client);
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

/// Waits until the kernel has retransmitted.
#[track_caller]
fn has_retransmitted(running: &Running) {
    wait_until("something is sent again", || {
        running.signal(Signal::USR1);
        let text = String::from_utf8(running.err().so_far()).unwrap();
        let mut counts = text.lines().filter(|line| line.contains(" retransmits"));
        counts.any(|line| number_before(line, " retransmits") > 0)
    });
}

/// The other machine is gone, and no machine answers for its address.
#[test]
fn a_machine_without_power_is_noticed_in_time_with_keepalive() {
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

/// A restarted machine does not know its old connections, and resets them.
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

/// The kernel closes the connections of a killed process.
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

/// A lost datagram is not an error, unless an ICMP error reports it.
#[test]
fn datagrams_arrive_again_when_the_cable_is_back() {
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
