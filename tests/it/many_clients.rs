//! Many clients of one listener, served by one loop: each gets its own data, and none affects the others.
//! They share one local port; the 4-tuple distinguishes them.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use pretty_assertions::assert_eq;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit, setrlimit};

use tuplecat::flow::Transport;

use crate::common::*;

/// The number of clients, unless `TUPLECAT_TEST_CLIENTS` has another.
const CLIENTS: usize = 2000;

/// The descriptors of a process that are not clients.
const OTHERS: usize = 100;

/// The memory of an idle client, in bytes, at most.
const COST: u64 = 384;

/// Raises the limit of descriptors, and returns the number of clients that it allows.
fn count() -> usize {
    let wanted = std::env::var("TUPLECAT_TEST_CLIENTS").map_or(CLIENTS, |text| {
        text.parse().expect("a number in TUPLECAT_TEST_CLIENTS")
    });
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let allowed = raised.current.unwrap_or(u64::MAX);
    let most = usize::try_from(allowed).unwrap().saturating_sub(OTHERS);
    if wanted > most {
        skip(&format!("{most} clients instead of {wanted}: descriptors"));
    }
    wanted.min(most)
}

fn connect_all(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(address)).collect()
}

/// Sends a line from each client, and then reads each echo.
fn exchange(clients: &[TcpStream], round: usize) {
    let text = |number| format!("client {number} round {round}\n");
    for (number, mut client) in clients.iter().enumerate() {
        client.write_all(text(number).as_bytes()).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        let text = text(number);
        assert_eq!(read_len(client, text.len()), text.as_bytes());
    }
}

/// The soft limit of descriptors is raised, no client gets the bytes of another, and an idle client costs little memory.
#[test]
fn very_many_clients_each_get_their_own_echo() {
    // It raises the limit of descriptors of its whole process.
    let test = "many_clients::very_many_clients_each_get_their_own_echo";
    in_own_process(test, check_very_many_clients);
}

fn check_very_many_clients() {
    let count = count();
    let server = tuplecat("tcp-listen -k --echo 0").limited("-Sn 64");
    let server = server.start();
    let mut clients = connect_all(server.ready(), 100);
    exchange(&clients, 0);
    let before = memory(&server, "VmRSS");
    clients.extend(connect_all(server.ready(), count - 100));
    server.err().wait_for(&format!("  #{count}\n"));
    let idle = memory(&server, "VmRSS") - before;
    for round in 1..=10 {
        exchange(&clients, round);
    }
    let bytes = idle * 1024 / (count as u64 - 100);
    assert!(bytes < COST, "{bytes} bytes for an idle client");
    is_calm(&server);
    drop(clients);
    let line = |word: &str, err: &str| err.lines().filter(|line| line.starts_with(word)).count();
    server.err().wait_until("the end of all", |err| {
        line("closed", &String::from_utf8_lossy(err)) == count
    });
    server.signal(Signal::INT);
    let done = server.wait().exits(130);
    assert_eq!(line("accepted", &done.err), count);
    assert_eq!(line("broken", &done.err), 0);
    // Shown with `--nocapture`.
    println!("{count} clients, {bytes} bytes for an idle one");
}

/// Three clients write lines of different lengths at once, divided anywhere: each line is whole and has the prefix of its client.
#[test]
fn prefixed_lines_are_whole_and_name_their_client() {
    let server = tuplecat("tcp-listen -k --prefix 0").start();
    let address = server.ready();
    let clients = connect_all(address, 3);
    let lines = |client: usize| {
        let line = move |number: usize| {
            let letter = char::from(b'a' + u8::try_from(client).unwrap());
            letter
                .to_string()
                .repeat((number * 37 + client * 411) % 3000)
                + "\n"
        };
        (0..300).map(line).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        for (number, mut client) in clients.iter().enumerate() {
            scope.spawn(move || {
                for piece in lines(number).concat().as_bytes().chunks(700 + 311 * number) {
                    client.write_all(piece).unwrap();
                }
            });
        }
    });
    let marks: Vec<_> = clients
        .iter()
        .map(|client| format!("tcp {address} <-> {}: ", client.local_addr().unwrap()))
        .collect();
    drop(clients);
    let len: usize = (0..3)
        .map(|client| lines(client).concat().len() + 300 * marks[client].len())
        .sum();
    let text = String::from_utf8(server.out().wait_for_len(len)).unwrap();
    for (client, mark) in marks.iter().enumerate() {
        let own = text
            .split_inclusive('\n')
            .filter_map(|line| line.strip_prefix(mark));
        assert!(own.eq(lines(client)), "client {client}");
    }
    assert_eq!(text.lines().count(), 900);
    server.signal(Signal::INT);
    server.wait().exits(130);
}

/// Returns the first socket address in a line, and the one after it.
fn pair(line: &str) -> (String, Option<String>) {
    let is_address = |word: &&str| word.parse::<SocketAddr>().is_ok();
    let mut addresses = line
        .split_whitespace()
        .filter(is_address)
        .map(str::to_owned);
    (addresses.next().expect("an address"), addresses.next())
}

#[test]
fn the_table_is_that_of_the_system() {
    if !is_installed("ss") {
        return skip("ss is not installed");
    }
    let server = tuplecat("tcp-listen -k 0").start();
    let address = server.ready();
    let clients = connect_all(address, 5);
    server.err().wait_for("#5\n");
    server.signal(Signal::USR1);
    let is_row = |line: &&str| line.starts_with("socket ");
    let table = server.err().wait_until("six rows", |err| {
        let text = String::from_utf8_lossy(err).into_owned();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter(is_row).count() == 6
    });
    let table = String::from_utf8(table).unwrap();
    let ours: BTreeSet<_> = table.lines().filter(is_row).map(pair).collect();
    let mut expected: BTreeSet<_> = clients
        .iter()
        .map(|client| {
            (
                address.to_string(),
                Some(client.local_addr().unwrap().to_string()),
            )
        })
        .collect();
    expected.insert((address.to_string(), None));
    assert_eq!(ours, expected);
    // Another process may have the same port at another address, or may have had it before.
    let ss = program("ss", "-tnaH").arg(format!("src {address}"));
    let is_alive = |line: &&str| line.starts_with("LISTEN") || line.starts_with("ESTAB");
    let table = ss.run().exits(0).text();
    let theirs: BTreeSet<_> = table.lines().filter(is_alive).map(pair).collect();
    assert_eq!(ours, theirs);
}

/// Sends until nothing more is taken.
fn stuff(client: &TcpStream) {
    client.set_nonblocking(true).unwrap();
    let piece = vec![b'x'; 64 << 10];
    let mut client = client;
    loop {
        match client.write(&piece) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !is_ready_within(client, rustix::event::PollFlags::OUT, A_WHILE) {
                    return;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn no_client_affects_the_others() {
    let server = tuplecat("tcp-listen -k --echo 0").start();
    let steady = [connect(server.ready())];
    exchange(&steady, 0);
    let never_reads = connect(server.ready());
    stuff(&never_reads);
    exchange(&steady, 1);
    is_calm(&server);
    let mut breaks = connect(server.ready());
    breaks.write_all(b"half a li").unwrap();
    assert_eq!(read_len(&breaks, 4), b"half");
    reset(breaks);
    server.err().wait_for_line("broken");
    exchange(&steady, 2);
    let mut half_closes = connect(server.ready());
    half_closes.write_all(b"the last").unwrap();
    finish(&half_closes);
    assert_eq!(read_all(&half_closes), b"the last");
    exchange(&steady, 3);
    is_calm(&server);
    server.signal(Signal::INT);
    let done = server.wait().exits(130);
    assert!(
        done.line("broken").ends_with("  connection reset by peer"),
        "{}",
        done.err
    );
}

/// A shared local end writes the incomplete line of a broken client as a line of its own.
#[test]
fn the_rest_of_a_broken_client_is_a_line_of_its_own() {
    let server = tuplecat("tcp-listen -k --prefix 0").start();
    let (mut steady, mut breaks) = (connect(server.ready()), connect(server.ready()));
    breaks.write_all(b"begun").unwrap();
    steady.write_all(b"half").unwrap();
    reset(breaks);
    server.out().wait_for(": begun\n");
    steady.write_all(b" and half\n").unwrap();
    server.out().wait_for(": half and half\n");
    let mut half_closes = connect(server.ready());
    half_closes.write_all(b"no line feed").unwrap();
    half_closes.shutdown(Shutdown::Write).unwrap();
    server.out().wait_for(": no line feed\n");
    server.signal(Signal::INT);
    server.wait().exits(130);
}

/// Checks that these clients get their echo.
fn are_served(clients: &[TcpStream]) {
    for mut client in clients {
        client.write_all(b"x").unwrap();
        assert_eq!(read_len(client, 1), b"x");
    }
}

#[test]
fn more_clients_than_may_be_wait_until_one_leaves() {
    let server = tuplecat("tcp-listen -k --echo --max-clients 2 0").start();
    let mut clients = connect_all(server.ready(), 5);
    are_served(&clients[..2]);
    clients[2].write_all(b"early").unwrap();
    assert!(is_silent_for(&clients[2], A_WHILE));
    is_calm(&server);
    reset(clients.remove(1));
    assert_eq!(read_len(&clients[1], 5), b"early");
    drop(clients.remove(0));
    are_served(&clients[..2]);
    finish(&clients[0]);
    are_served(&clients[1..]);
}

/// The run ends after so many clients, although one of them broke its connection, and others are refused meanwhile.
#[test]
fn a_number_of_clients_is_served_in_all() {
    for words in ["", "--max-clients 1", "--no-fast-path"] {
        let server = tuplecat("tcp-listen -k --echo --count 3 0").args(words);
        let server = server.start();
        let address = server.ready();
        let first = connect_all(address, 1);
        are_served(&first);
        reset(first.into_iter().next().unwrap());
        for _ in 0..2 {
            let clients = connect_all(address, 1);
            are_served(&clients);
            finish(&clients[0]);
        }
        server.wait().exits(0);
        assert!(TcpStream::connect(address).is_err());
    }
    let server = tuplecat("tcp-listen -q -k --count 2 0").start();
    for text in ["one", "two"] {
        let client = speaks(Transport::Tcp, server.ready());
        client.says(text).run().exits(0);
    }
    assert_eq!(server.wait().exits(0).text(), "onetwo");
}

/// The limit may also shrink during the run. The listener waits for descriptors and goes on.
#[test]
fn a_listener_survives_a_lack_of_descriptors() {
    let server = tuplecat("tcp-listen -k --echo 0").start();
    server.ready();
    let folder = format!("/proc/{}/fd", server.pid());
    let open = std::fs::read_dir(folder).unwrap().count() as u64;
    let pid = Pid::from_raw(server.pid().cast_signed());
    let allow = |current| {
        let limit = getrlimit(Resource::Nofile);
        let current = Some(current);
        prlimit(pid, Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    };
    allow(open + 2);
    let mut clients = connect_all(server.ready(), 4);
    are_served(&clients[..2]);
    server.err().wait_for("too many open files; trying again");
    assert!(is_silent_for(&clients[2], A_WHILE));
    is_calm(&server);
    drop(clients.remove(0));
    are_served(&clients[..2]);
    allow(open + 20);
    are_served(&clients);
    server.signal(Signal::INT);
    server.wait().exits(130);
}

#[test]
fn a_low_limit_of_descriptors_lets_clients_wait() {
    let server = tuplecat("tcp-listen -k --echo 0").limited("-n 44").start();
    let clients = connect_all(server.ready(), 20);
    are_served(&clients[..12]);
    assert!(is_silent_for(&clients[12], A_WHILE));
    for (gone, client) in clients.into_iter().enumerate() {
        are_served(&[client]);
        server.err().wait_until("one more that is gone", |err| {
            String::from_utf8_lossy(err).matches("closed ").count() > gone
        });
    }
    server.signal(Signal::INT);
    server.wait().exits(130);
}

#[test]
fn a_listener_for_one_client_refuses_others() {
    let server = tuplecat("tcp-listen 0").start();
    let client = connect(server.ready());
    server.err().wait_for_line("accepted");
    // The listening socket is closed before any data of the client is handled.
    let mut first = &client;
    first.write_all(b"x").unwrap();
    server.out().wait_for("x");
    let refused = TcpStream::connect(server.ready()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    drop(client);
    server.wait().exits(0);
}

#[test]
fn no_client_at_all_may_be_served() {
    for words in ["--max-clients 0", "--max-clients 0 --exec cat"] {
        let words = format!("tcp-listen -k 0 --accept-timeout 300ms {words}");
        let server = tuplecat(&words).start();
        let address = server.ready();
        let client = connect(address);
        assert!(is_silent_for(&client, Duration::from_millis(100)));
        let message = format!("no client connected to {address} within 0.3 s (--accept-timeout)");
        server.wait().fails(6, &message);
    }
}

/// Those that are there are served, and a further one knows at once that it is not.
#[test]
fn clients_over_the_limit_are_rejected_on_request() {
    let words = "tcp-listen -k --echo --max-clients 1 --over-limit reject 0";
    let server = tuplecat(words).start();
    let mut first = connect(server.ready());
    first.write_all(b"first").unwrap();
    assert_eq!(read_len(&first, 5), b"first");
    let further = connect(server.ready());
    assert_eq!(read_all(&further), b"");
    let line = server.err().wait_for_line("rejected");
    assert!(line.ends_with("too many clients (--max-clients)"), "{line}");
    first.write_all(b"again").unwrap();
    assert_eq!(read_len(&first, 5), b"again");
    drop(first);
    server.err().wait_for_line("closed");
    let mut next = connect(server.ready());
    next.write_all(b"next").unwrap();
    assert_eq!(read_len(&next, 4), b"next");
}
