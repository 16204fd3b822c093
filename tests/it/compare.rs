//! The page that compares TCP and UDP: every statement on it is true, and it fits into a terminal.
//! Unit tests of the page check that a statement can be false; these ask the kernel.

use serde_json::Value;

use crate::common::{Input, Namespace, has_strace, program, skip, tuplecat};

fn statements(report: &Value) -> Vec<&Value> {
    let steps = report["steps"].as_array().expect("a list of steps");
    steps
        .iter()
        .flat_map(|step| ["tcp", "udp"].map(|side| step[side].as_array().expect("statements")))
        .flatten()
        .collect()
}

#[test]
fn the_page_fits_and_every_statement_holds() {
    let done = tuplecat("compare").run().exits(0);
    let page = done.text();
    assert!(!page.contains("NOT SO HERE"), "{page}");
    for line in page.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for word in [
        "1. ",
        "15. ",
        "SO_PEERCRED: pid ",
        "none is lost",
        "only the 4-tuple",
        "half-closed",
        "connection refused",
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
}

#[test]
fn json_has_the_same_for_any_number_of_clients() {
    let done = tuplecat("compare --json --clients 5 --message hi")
        .run()
        .exits(0);
    let report: Value = serde_json::from_slice(&done.out).unwrap();
    assert_eq!(report["holds"], true);
    let statements = statements(&report);
    assert!(statements.len() > 20 && statements.iter().all(|one| one["holds"] == true));
    let text = |one: &&Value| one["text"].as_str().unwrap_or_default().to_owned();
    let texts: Vec<String> = statements.iter().map(text).collect();
    assert!(texts.contains(&"6 sockets with the same local port:".to_owned()));
    assert!(texts.iter().any(|text| text.ends_with("#5")), "{texts:?}");
}

/// Returns the texts of a step on one side, all of which hold.
fn texts(report: &Value, title: &str, side: &str) -> Vec<String> {
    let mut steps = report["steps"].as_array().expect("a list of steps").iter();
    let step = steps.find(|step| step["title"] == title).expect("a step");
    let statements = step[side].as_array().expect("statements").iter();
    let held = statements.inspect(|one| assert_eq!(one["holds"], true, "{one}"));
    held.map(|one| one["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_killed_process_ends_its_connection_by_fin_or_by_rst() {
    let done = tuplecat("compare --json").run().exits(0);
    let report: Value = serde_json::from_slice(&done.out).unwrap();
    let tcp = texts(&report, "A client's process is killed", "tcp");
    assert!(
        tcp[0].starts_with("nothing unread: the kernel sends FIN"),
        "{tcp:?}"
    );
    assert!(tcp[1].starts_with("with data unread: RST"), "{tcp:?}");
    assert!(tcp[1].ends_with("connection reset by peer"), "{tcp:?}");
    let udp = texts(&report, "A client's process is killed", "udp");
    assert!(
        udp[0].starts_with("with and without unread data: nothing in"),
        "{udp:?}"
    );
    let udp = texts(&report, "A closed port", "udp");
    assert!(
        udp[1].starts_with("unless it asks (IP_RECVERR), as udp-sendto does"),
        "{udp:?}"
    );
}

#[test]
fn strace_shows_the_killed_processes_and_what_the_server_reads() {
    if !has_strace() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let launch = program("strace", "-f -e trace=setsockopt,recvfrom,recvmmsg -o").arg(&trace);
    let launch = launch.arg(env!("CARGO_BIN_EXE_tuplecat")).args("compare");
    launch.run().exits(0);
    let trace = std::fs::read_to_string(&trace).unwrap();
    assert!(
        !trace.contains("SO_LINGER"),
        "no reset is made by hand:\n{trace}"
    );
    assert!(trace.contains(" recvmmsg("), "{trace}");
    let lines: Vec<&str> = trace.lines().collect();
    let killed = lines.iter().enumerate();
    let killed = killed.filter(|(_, line)| line.ends_with("+++ killed by SIGKILL +++"));
    let reads = killed.map(|(at, _)| {
        let mut after = lines[at..].iter();
        let read = after.find(|line| line.contains("recvfrom(")).unwrap();
        read.rsplit_once(" = ").unwrap().1
    });
    let reads: Vec<&str> = reads.collect();
    assert_eq!(reads.len(), 4, "{trace}");
    assert_eq!(reads[0], "0");
    assert!(reads[1].starts_with("-1 ECONNRESET"), "{reads:?}");
    assert!(
        reads[2..].iter().all(|read| read.starts_with("-1 EAGAIN")),
        "{reads:?}"
    );
}

#[test]
fn messages_of_the_most_clients_fit_into_the_buffers() {
    let launch = tuplecat("compare --clients 100 --message").arg("x".repeat(1000));
    let done = launch.run().exits(0);
    assert!(!done.text().contains("NOT SO HERE"), "{}", done.text());
}

#[test]
fn it_speaks_ipv6_where_the_machine_does() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return skip("this machine has no ::1");
    }
    let done = tuplecat("compare -6").run().exits(0);
    assert!(
        done.text()
            .starts_with("TCP and UDP side by side, on ::1\n")
    );
}

#[test]
fn a_message_must_say_something() {
    let done = tuplecat("compare").arg("--message").arg("").run().exits(2);
    assert!(done.err.contains("must not be empty"), "{}", done.err);
}

#[test]
fn a_missing_address_is_named() {
    // A new network has no loopback address until its interface is up.
    let Some(network) = Namespace::new("true") else {
        return;
    };
    let reason = "cannot compare on ::1: an experiment failed: cannot assign requested address";
    network.tuplecat("compare -6").run().fails(1, reason);
}

/// Runs one experiment, whose statements hold, and returns them in one text.
fn run_experiment(name: &str) -> String {
    let done = tuplecat("compare --json").arg(name).run().exits(0);
    let report: Value = serde_json::from_slice(&done.out).unwrap();
    let steps = report["steps"].as_array().expect("a list of steps");
    assert_eq!(steps.len(), 1, "{name}");
    assert_eq!(steps[0]["name"], name);
    let texts = statements(&report)
        .into_iter()
        .map(|one| one["text"].as_str().unwrap());
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_listed_experiment_runs_alone() {
    let list = tuplecat("compare --list").run().exits(0).text();
    let names = list
        .lines()
        .map(|line| line.split_once(' ').expect("a name and a description").0);
    let names: Vec<&str> = names.collect();
    assert_eq!(names.len(), 15, "{list}");
    for name in names {
        assert!(!run_experiment(name).is_empty(), "{name}");
    }
}

#[test]
fn experiments_show_what_tutorials_leave_out() {
    let shown = [
        (
            "queue",
            vec![
                "it does not wait for a client",
                "before accept() is called: ESTABLISHED",
                "no answer: SYN-SENT",
            ],
        ),
        (
            "buffers",
            vec![
                "the peer has read none",
                "then it waits",
                "the peer reads: send() goes on",
            ],
        ),
        (
            "tuples",
            vec![
                "is connected to two servers",
                "cannot assign requested address",
                "400 4-tuples",
            ],
        ),
        (
            "time-wait",
            vec![
                "the server closes first",
                "server's port: address in use",
                "SO_REUSEADDR",
            ],
        ),
        (
            "servers",
            vec![
                "one client after another: 0 of 99",
                "a thread a client: 99 of 99",
                "one loop for all: 99 of 99",
            ],
        ),
    ];
    for (name, wanted) in shown {
        let text = run_experiment(name);
        if text.contains("keeps no TIME-WAIT: its table is full") {
            continue;
        }
        for words in wanted {
            assert!(text.contains(words), "{name}: {words}: {text}");
        }
    }
}

#[test]
fn experiments_run_in_the_order_of_the_command_line() {
    let page = tuplecat("compare closed calls").run().exits(0).text();
    let headings = page.lines().filter(|line| line.starts_with(['1', '2']));
    let headings: Vec<_> = headings.collect();
    assert_eq!(headings, ["1. A closed port", "2. The calls of a server"]);
}

#[test]
fn a_server_port_has_as_many_connections_as_are_asked_for_or_says_why_not() {
    let launch = tuplecat("compare tuples --connections 1000");
    let page = launch.run().exits(0).text();
    assert!(
        page.replace('\n', " ").contains("has 1000 connections"),
        "{page}"
    );
    let page = tuplecat("compare tuples")
        .limited("-n 200")
        .run()
        .exits(0)
        .text();
    assert!(page.contains("then: too many open"), "{page}");
}

#[test]
fn strace_shows_that_a_full_buffer_makes_send_wait() {
    if !has_strace() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let launch = program("strace", "-f -e trace=sendto -o").arg(&trace);
    let launch = launch
        .arg(env!("CARGO_BIN_EXE_tuplecat"))
        .args("compare buffers");
    launch.run().exits(0);
    let trace = std::fs::read_to_string(&trace).unwrap();
    assert!(trace.contains("= -1 EAGAIN"), "{trace}");
}

#[test]
fn pause_waits_for_enter_between_experiments() {
    let mut running = tuplecat("compare calls ports --pause")
        .stdin(Input::Held)
        .start();
    running.out().wait_for("1. ");
    running.write("\n");
    running.out().wait_for("2. ");
    running.wait().exits(0);
}

#[test]
fn an_unknown_experiment_and_a_pause_in_json_are_usage_errors() {
    let done = tuplecat("compare bufers").run().exits(2);
    assert!(
        done.err.contains("'bufers'") && done.err.contains("buffers"),
        "{}",
        done.err
    );
    tuplecat("compare --pause --json").run().exits(2);
}

/// Returns a text with each number replaced by a letter.
fn without_numbers(text: &str) -> String {
    let mut seen = String::new();
    for letter in text.chars() {
        match letter {
            '0'..='9' if seen.ends_with('N') => {}
            '0'..='9' => seen.push('N'),
            other => seen.push(other),
        }
    }
    seen
}

#[test]
fn the_tutorial_quotes_what_its_commands_print() {
    let page = include_str!("../../man/tuplecat-sockets.7");
    let sections = page.split(".Dl $ tuplecat compare ").skip(1);
    for section in sections {
        let (name, rest) = section.split_once('\n').unwrap();
        let (_, quoted) = rest.split_once(".Bd -literal -compact\n").unwrap();
        let (quoted, _) = quoted.split_once(".Ed").unwrap();
        let printed = without_numbers(&run_experiment(name));
        if printed.contains("keeps no TIME-WAIT: its table is full") {
            continue;
        }
        let printed: Vec<&str> = printed.lines().collect();
        // A line that is indented continues the one before.
        for line in quoted.replace("\n  ", " ").lines() {
            let line = without_numbers(line);
            assert!(
                printed.contains(&line.as_str()),
                "{name}: {line}: {printed:?}"
            );
        }
    }
}
