//! JSON events: each has a form that the schema describes, and its numbers are those of the peer.
//! Scripts rely on names and fields, so every kind of event occurs here.

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use tuplecat::batch::Shape;
use tuplecat::exit::{Exit, Failure};
use tuplecat::flow::{ConnId, Direction, Flow, Identity, Leg, Transport};
use tuplecat::tap::json::{Events, Payload};
use tuplecat::tap::{
    ChildEnd, Console, Conversation, Count, Data, Event, IcmpError, KernelDrop, Reach, Rejection,
    Sink, SocketState, Tap, Target, Transfer, UsedFiles, Via,
};

use crate::common::*;

fn schema() -> Schema {
    Schema::new(include_str!("../../fixtures/events.schema.json"))
}

/// Parses events, and checks each against the schema.
#[track_caller]
fn read(text: &str) -> Vec<Value> {
    let schema = schema();
    let read = |line: &str| {
        let event = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        schema
            .check(&event)
            .unwrap_or_else(|reason| panic!("{line}\n{reason}"));
        event
    };
    text.lines().map(read).collect()
}

/// Returns the names of events, in the order of their first occurrence.
fn names(events: &[Value]) -> Vec<&str> {
    let mut names = Vec::new();
    for event in events {
        let name = event["event"].as_str().unwrap();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Returns the first event with this name.
#[track_caller]
fn first<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found = events.iter().find(|event| event["event"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", names(events)))
}

fn sum(events: &[Value], name: &str) -> u64 {
    let events = events.iter().filter(|event| event["event"] == name);
    events.map(|event| event["bytes"].as_u64().unwrap()).sum()
}

fn payload(events: &[Value], name: &str) -> Vec<u8> {
    let events = events.iter().filter(|event| event["event"] == name);
    let payload = events.map(|event| hex::decode(event["payload"].as_str().unwrap()).unwrap());
    payload.collect::<Vec<_>>().concat()
}

both! {
    /// Both sides report the whole session, and count the same bytes.
    fn a_session_is_reported_from_beginning_to_end(transport) {
        let text = bytes(50_000);
        let server = waits(transport, "-q 0 --events -").start();
        let address = server.ready().to_string();
        let client = speaks(transport, server.ready()).args("-q --events -").says(&text);
        let client = read(&client.run().exits(0).err);
        let server = server.wait().exits(0);
        assert!(server.out == text, "other bytes");
        let server = read(&server.err);
        let (here, there): (&[&str], &[&str]) = match transport {
            Transport::Tcp => (
                &["listening", "accepted", "received", "peer-finished", "closed", "summary"],
                &["connecting", "connected", "sent", "half-closed", "peer-finished", "closed", "summary"],
            ),
            // The end is acknowledged (`--eof-datagram`).
            _ => (
                &["bound", "received", "sent", "transferred", "closed", "summary"],
                &["sent", "received", "transferred", "closed", "summary"],
            ),
        };
        assert_eq!((names(&server), names(&client)), (here.to_vec(), there.to_vec()));
        for (events, name) in [(&server, "received"), (&client, "sent")] {
            assert_eq!(sum(events, name), 50_000);
            for end in ["closed", "summary"] {
                assert_eq!(first(events, end)[name]["bytes"], 50_000);
            }
            assert_eq!(first(events, "summary")["status"], 0);
        }
        assert_eq!(first(&server, "received")["local"], address);
        assert_eq!(first(&client, "sent")["remote"], address);
        assert_eq!(first(&server, "received")["remote"], first(&client, "sent")["local"]);
        assert_eq!(first(&server, "received")["proto"], transport.to_string());
        assert_eq!(first(&server, "closed").get("tcp").is_some(), transport == Transport::Tcp);
    }

    /// Events contain the bytes with `--events-payload`, and only their number without it.
    fn payload_is_reported_on_request(transport) {
        let server = waits(transport, "-q 0 --events - --events-payload").start();
        let client = speaks(transport, server.ready()).args("-q --events -").says(bytes(5000));
        let client = read(&client.run().exits(0).err);
        let server = read(&server.wait().exits(0).err);
        assert_eq!(payload(&server, "received"), bytes(5000));
        assert!(first(&client, "sent").get("payload").is_none());
    }

    /// With events, no chunk takes a fast path that would hide it.
    fn a_file_does_not_bypass_the_events(transport) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let server = waits(transport, "-q 0").start();
        let client = speaks(transport, server.ready()).args("-q --events").arg(&path);
        client.stdin(Input::From(with_text(&bytes(100_000)))).run().exits(0);
        server.wait().exits(0);
        let events = read(&fs::read_to_string(path).unwrap());
        assert_eq!(sum(&events, "sent"), 100_000);
    }

    /// A refusal has an event for the attempt and one for the error, and the last event has the status.
    fn a_refusal_is_an_event(transport) {
        let (_nobody, address) = refusing(transport);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let client = speaks(transport, address).args("-q --events").arg(&path).says("x");
        let client = client.run().exits(5);
        let events = read(&fs::read_to_string(path).unwrap());
        let name = match transport {
            Transport::Tcp => "connect-failed",
            _ => "unreachable",
        };
        assert_eq!(first(&events, name)["remote"], address.to_string());
        assert_eq!(first(&events, "error")["error"], client.errors());
        assert_eq!(first(&events, "error")["status"], 5);
        assert_eq!(first(&events, "summary")["status"], 5);
    }

    /// SIGUSR1 reports the table of sockets as an event too.
    fn a_signal_shows_the_table(transport) {
        let server = waits(transport, "-q 0 --events -").stdin(Input::Held).start();
        let client = speaks(transport, server.ready()).stdin(Input::Held).start();
        if transport == Transport::Tcp {
            server.err().wait_for("\"accepted\"");
        }
        server.signal(Signal::USR1);
        server.err().wait_for("\"socket\"");
        server.signal(Signal::TERM);
        let events = read(&server.wait().exits(143).err);
        let rows = events.iter().filter(|event| event["event"] == "socket");
        assert!(rows.clone().any(|row| row["unread"] == 0), "{rows:?}");
        assert_eq!(first(&events, "summary")["status"], 143);
        drop(client);
    }

    /// An error before the first socket is an event too.
    fn an_unknown_service_is_an_event(transport) {
        let events = waits(transport, "-q no-such-service --events -").run().exits(3).err;
        let (events, message) = events.rsplit_once("tuplecat: ").unwrap();
        assert_eq!(first(&read(events), "error")["error"], message.trim_end());
    }

    /// The option for payload needs events.
    fn payload_alone_is_a_usage_error(transport) {
        let done = waits(transport, "0 --events-payload").run().exits(2);
        assert!(done.err.contains("--events"), "{}", done.err);
    }
}

#[test]
fn a_reset_is_an_event() {
    let server = tuplecat("tcp-listen -q 0 --events -").start();
    let peer = connect(server.ready());
    server.err().wait_for("\"accepted\"");
    reset(peer);
    let done = server.wait().exits(7);
    let (events, _) = done.err.rsplit_once("tuplecat: ").unwrap();
    let events = read(events);
    assert_eq!(first(&events, "reset")["conn"], 1);
    assert_eq!(first(&events, "error")["status"], 7);
}

#[test]
fn a_datagram_of_another_sender_is_an_event() {
    let (socket, address) = datagrams();
    let client = tuplecat("udp-sendto -q --events - --replies 1 --reply-timeout forever");
    let client = client.to(address).says("x").start();
    let (_, sender) = receive(&socket);
    let (stranger, name) = datagrams();
    stranger.send_to(b"psst", sender).unwrap();
    client.err().wait_for("\"ignored\"");
    UdpSocket::send_to(&socket, b"", sender).unwrap();
    let events = read(&client.wait().exits(0).err);
    let ignored = first(&events, "ignored");
    assert_eq!(
        (&ignored["remote"], &ignored["bytes"]),
        (&name.to_string().into(), &4.into())
    );
    assert_eq!(first(&events, "received")["bytes"], 0);
}

#[test]
fn a_full_disk_changes_the_status() {
    let server = tuplecat("udp-bind -q --count 1 0 --events /dev/full").start();
    let (socket, _) = datagrams();
    socket.send_to(b"x", server.ready()).unwrap();
    let message =
        "cannot write to '/dev/full' (--events): no space left on device; nothing more goes there";
    server.wait().fails(1, message);
}

fn flow(transport: Transport) -> Flow {
    Flow::new(
        transport,
        LOOPBACK.into(),
        "[2001:db8::7]:9".parse().unwrap(),
    )
}

fn socket(transport: Transport) -> Identity {
    Identity::Socket(transport, LOOPBACK.into())
}

fn emit(tap: &mut dyn Tap, events: &[Event<'_>]) {
    for event in events {
        tap.event(event, SystemTime::now());
    }
}

/// Emits every event of connections.
#[rustfmt::skip]
fn stream_events(tap: &mut dyn Tap) {
    let (flow, after) = (&flow(Transport::Tcp), Duration::from_micros(7));
    let socket = &socket(Transport::Tcp);
    let target = Target { transport: Transport::Tcp, remote: flow.remote.clone() };
    let via = Via { target: "localhost:9".to_owned(), proxy: "socks5h", remote: flow.remote.clone() };
    let name = Conversation { flow, conn: Some(1.into()) };
    let leg = |leg| Conversation { flow, conn: Some(ConnId { number: 1, leg: Some(leg) }) };
    let client = leg(Leg::Client);
    let error = |kind| io::Error::from(kind);
    let (refused, reset) = (error(io::ErrorKind::ConnectionRefused), error(io::ErrorKind::ConnectionReset));
    let timed_out = error(io::ErrorKind::TimedOut);
    let exited = |status| {
        let status = ExitStatus::from_raw(status);
        Event::Exited(ChildEnd { name, pid: 7, program: "cat", status })
    };
    emit(tap, &[
        Event::Listening { socket, reach: Reach::Loopback },
        Event::Connecting(target.clone()),
        Event::ConnectFailed { target, error: &refused, after },
        Event::Retrying { failure: &Failure::new(Exit::Refused, "cannot connect"), left: after },
        Event::Open { flow, after, via: None },
        Event::Open { flow, after, via: Some(&via) },
        Event::Connected { flow, after, via: None },
        Event::Connected { flow, after, via: Some(&via) },
        Event::Accepted(name),
        Event::Relayed { client, target: leg(Leg::Target), after, via: None },
        Event::Relayed { client, target: leg(Leg::Target), after, via: Some(&via) },
        Event::NotRelayed { client, failure: &Failure::new(Exit::Refused, "cannot connect") },
        Event::Rejected { flow, datagrams: None, reason: Rejection::OverLimit },
        Event::HalfClosed(name),
        Event::PeerFinished(name),
        Event::Broken { name, error: &reset, call: None },
        Event::Broken { name, error: &timed_out, call: None },
        Event::Waiting { socket, text: "for the input".to_owned() },
        Event::NoInput { name, text: "the input has ended" },
        exited(3 << 8),
        exited(9),
    ]);
}

/// Emits every event of datagrams.
#[rustfmt::skip]
fn datagram_events(tap: &mut dyn Tap) {
    let (flow, socket) = (&flow(Transport::Udp), &socket(Transport::Udp));
    let reported_by = flow.remote.inet().map(|remote| remote.ip());
    let (count, conn, bytes) = (Count::default(), None, Some(&b"abc"[..]));
    let shape = Shape::Datagrams(2);
    let data = |direction| Event::Data(Data { direction, flow, conn, len: 3, shape, bytes });
    let (direction, complete, lost, at_least) = (Direction::Incoming, true, 0, false);
    emit(tap, &[
        Event::Bound { socket, reach: Reach::DualStack },
        data(Direction::Incoming),
        data(Direction::Outgoing),
        Event::Rejected { flow, datagrams: Some(2), reason: Rejection::Denied },
        Event::Unreachable(IcmpError { flow, reason: "port unreachable", datagrams: 1, reported_by }),
        Event::Ignored { flow, bytes: 3 },
        Event::Forgotten(flow),
        Event::Truncated { flow, bytes: 3, size: 9 },
        Event::Oversized { flow, bytes: 9, limit: 3, datagrams: 2 },
        Event::Dropped(KernelDrop { socket, datagrams: 2, at_least: true }),
        Event::Transferred(Transfer { socket, direction, count, complete, lost, at_least }),
    ]);
}

/// Returns the addresses of a Unix socket, one of which is a process.
fn unix_flow() -> Flow {
    let remote = "pid 4711 (curl) uid 1000".parse().unwrap();
    Flow::new(Transport::Unix, "/tmp/x".parse().unwrap(), remote)
}

/// Emits every event of runs and of all sockets.
fn other_events(tap: &mut dyn Tap) {
    let state = |transport| SocketState::new(Identity::Pair(flow(transport)), Instant::now());
    let (tcp, udp) = (state(Transport::Tcp), state(Transport::Udp));
    let bound = SocketState::new(socket(Transport::Udp), Instant::now());
    let failure = Failure::new(Exit::Refused, "cannot connect");
    let (exit, lasted) = (Exit::Refused, Duration::from_micros(7));
    emit(
        tap,
        &[
            Event::Replaced {
                socket: &Identity::Pair(unix_flow()),
            },
            Event::Capped { text: "less" },
            Event::Omitted { reports: 1 },
            Event::Closed(&tcp),
            Event::Peers(&[udp]),
            Event::Sockets(&[tcp.clone(), bound]),
            Event::Failed(&failure),
            Event::Ended { exit, lasted },
        ],
    );
}

fn written(path: &Path, payload: Payload) -> Vec<Value> {
    let sink = Sink::file(
        path,
        "--events",
        &Console::default(),
        &mut UsedFiles::standard(),
    )
    .unwrap();
    let mut tap = Events::new(sink, payload);
    stream_events(&mut tap);
    datagram_events(&mut tap);
    other_events(&mut tap);
    tap.flush().unwrap();
    read(&fs::read_to_string(path).unwrap())
}

#[test]
fn an_event_has_its_form_whatever_the_clock_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events");
    let sink = Sink::file(
        &path,
        "--events",
        &Console::default(),
        &mut UsedFiles::standard(),
    )
    .unwrap();
    let mut tap = Events::new(sink, Payload::Shown);
    let (now, year) = (SystemTime::now(), Duration::from_hours(365 * 24));
    for time in [now, now - 100 * year, now + 9000 * year] {
        tap.event(&Event::Capped { text: "less" }, time);
    }
    tap.flush().unwrap();
    assert_eq!(read(&fs::read_to_string(path).unwrap()).len(), 3);
}

#[test]
fn each_event_has_the_form_that_the_schema_describes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events");
    let events = written(&path, Payload::Shown);
    let mut seen = names(&events);
    seen.sort_unstable();
    let mut described = schema().titles();
    described.sort();
    assert_eq!(seen, described);
    assert_eq!(payload(&events, "received"), b"abc");
    let replaced = events.iter().find(|event| event["event"] == "replaced");
    let process = &replaced.unwrap()["process"];
    assert_eq!(
        (&process["pid"], &process["program"]),
        (&4711.into(), &"curl".into())
    );
    // A run of datagrams (GRO) is one event for each datagram.
    assert_eq!(
        events
            .iter()
            .filter(|event| event["event"] == "sent")
            .count(),
        2
    );
    let counted = written(&path, Payload::Counted);
    assert!(counted.iter().all(|event| event.get("payload").is_none()));
}
