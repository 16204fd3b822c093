//! Complete scripts: a service tested in one line, and a listener and its client that meet repeatedly.
//! They check what a script sees: the exit status, standard output, and a readable difference.

use std::net::SocketAddr;

use tuplecat::flow::Transport;

use crate::common::*;

/// The environment variable for the number of runs.
const RUNS: &str = "TUPLECAT_SCRIPT_RUNS";

fn runs() -> usize {
    let runs = std::env::var(RUNS).ok();
    runs.map_or(50, |text| text.parse().expect(RUNS))
}

fn ping(address: SocketAddr) -> Launch {
    let client = tuplecat("tcp-connect").to(address).arg("--send");
    client.arg(r"PING\r\n").args("--expect +PONG --timeout 10")
}

#[test]
fn redis_answers() {
    let Some(redis) = redis() else {
        return;
    };
    let done = ping(redis.address).run().exits(0);
    assert_eq!(done.text(), "+PONG\r\n");
    assert_eq!(done.errors(), "");
}

#[test]
fn another_server_is_distinguished_from_redis() {
    let Some(nginx) = nginx("location / { return 204; }") else {
        return;
    };
    let done = ping(nginx.address).run().exits(8);
    let errors = done.errors();
    let (message, came) = errors.split_once("received: ").unwrap();
    let expected = "\
--expect '+PONG': the peer has finished
expected:
  00000000  2b 50 4f 4e 47                                    |+PONG|
";
    assert_eq!(message, expected);
    let (_, rows) = came.split_once('\n').unwrap();
    let beginning =
        "  00000000  48 54 54 50 2f 31 2e 31  20 34 30 30 20 42 61 64  |HTTP/1.1 400 Bad|
            ^^
";
    assert!(rows.starts_with(beginning), "{rows}");
}

#[test]
fn a_service_of_datagrams_is_tested_in_one_line() {
    let test = |address: SocketAddr, expected: &str| {
        let client = tuplecat("udp-sendto").to(address).args("--timeout 4");
        client.args("--send status --expect").arg(expected).run()
    };
    let server = tuplecat("udp-bind 0 --respond status=OK").start();
    test(server.ready(), "OK").exits(0);
    let done = test(server.ready(), "KO").exits(8);
    assert!(
        done.errors().contains("received: a datagram of 2 bytes"),
        "{}",
        done.err
    );
    let (_nobody, address) = refusing(Transport::Udp);
    test(address, "OK").exits(5);
    let (_silent, address) = datagrams();
    test(address, "OK").exits(6);
}

/// A listener on any port and its client, in the background of a script that waits for the ready file.
const MEETING: &str = r#"
    tuplecat $WAITS -q 0 --ready-file ready --timeout 15 \
        --expect 'question\n' --send 'answer\n' > asked &
    server=$!
    until [ -e ready ]; do sleep 0.001; done
    read -r transport address < ready
    tuplecat $SPEAKS -q "$address" --timeout 15 --send 'question\n' --expect 'answer\n' > answered
    client=$?
    wait "$server"
    echo "$? $client $(cat asked) $(cat answered)"
"#;

both! {
    fn a_listener_and_its_client_meet_every_time(transport) {
        let [waits, speaks] = match transport {
            Transport::Tcp => ["tcp-listen", "tcp-connect"],
            _ => ["udp-bind", "udp-sendto"],
        };
        for run in 0..runs() {
            let script = script(MEETING).env("WAITS", waits).env("SPEAKS", speaks);
            let done = script.run().exits(0);
            assert_eq!(done.text(), "0 0 question answer\n", "run {run}:\n{}", done.err);
        }
    }
}

/// A complete answer counts, even if the reader of standard output leaves early.
#[test]
fn a_reader_that_has_seen_enough_changes_no_status() {
    let server = tuplecat("tcp-listen -k 0 --respond");
    let server = server.arg(r"PING=+PONG\r\n").start();
    let address = server.ready().to_string();
    for run in 0..runs() {
        let script = script(
            r#"
            { tuplecat tcp-connect -q "$ADDRESS" --send 'PING\n' --expect '+PONG\r\n'
              echo $? > status; } | head -n 1
            cat status
            "#,
        );
        let done = script.env("ADDRESS", &address).run();
        assert_eq!(done.text(), "+PONG\r\n0\n", "run {run}:\n{}", done.err);
    }
}

/// A transfer in both directions at once, larger than all buffers.
#[test]
fn files_are_exchanged_every_time() {
    let directory = tempfile::tempdir().unwrap();
    let [one, other] = [("one", 1 << 18), ("other", 1 << 19)].map(|(name, len)| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes(len)).unwrap();
        path.display().to_string()
    });
    for run in 0..runs() {
        let script = script(
            r#"
            tuplecat tcp-listen -q 0 --ready-file ready --timeout 15 < "$ONE" > got &
            server=$!
            until [ -e ready ]; do sleep 0.001; done
            read -r transport address < ready
            tuplecat tcp-connect -q "$address" --timeout 15 < "$OTHER" > answered
            client=$?
            wait "$server"
            echo "$? $client"
            cmp got "$OTHER" && cmp answered "$ONE"
            "#,
        );
        let done = script.env("ONE", &one).env("OTHER", &other).run();
        assert_eq!(
            (done.text(), done.status),
            ("0 0\n".to_owned(), 0),
            "run {run}:\n{}",
            done.err
        );
    }
}
