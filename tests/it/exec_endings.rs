//! Ends of child processes: their descriptors, signals, zombies, and the process groups that they leave.
//! A child never outlives the run, and is never killed while it has output for a peer that reads.

use std::fs;
use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::*;

#[test]
fn a_child_that_ends_ends_a_single_session() {
    let (server, client) = meet_child("exit 0");
    drop(client);
    server.wait().fails(0, "");
    let (server, client) = meet_child("exit 3");
    drop(client);
    let done = server.wait();
    assert!(
        done.line("exited").ends_with("  #1  'sh' with status 3"),
        "{}",
        done.err
    );
    done.fails(1, "'sh' ended with status 3");
    let (server, client) = meet_child("kill -9 $$");
    drop(client);
    server.wait().fails(1, "'sh' ended with signal 9 (SIGKILL)");

    let (listener, address) = listen();
    let client = tuplecat("tcp-connect")
        .to(address)
        .args("--exec false")
        .start();
    drop(accept(&listener));
    client.wait().fails(1, "'false' ended with status 1");
}

#[test]
fn with_many_clients_a_failed_child_is_only_reported() {
    let server = shell("tcp-listen 0 -k", "exit 4").start();
    assert_eq!(read_all(&connect(server.ready())), b"");
    let line = server.err().wait_for_line("exited");
    assert!(line.ends_with("  #1  'sh' with status 4"), "{line}");
    assert_eq!(read_all(&connect(server.ready())), b"");
    server.signal(Signal::TERM);
    server.wait().fails(143, "");
}

#[test]
fn a_child_s_errors_go_where_ours_go() {
    let (server, client) = meet_child("echo trouble >&2");
    server.err().wait_for("trouble\n");
    assert_eq!(read_all(&client), b"");
}

#[test]
fn a_child_gets_three_descriptors() {
    let (listener, address) = listen();
    let server = tuplecat("tcp-listen 0 -k --ready-fd 8 --exec ls /proc/self/fd");
    let server = server
        .redirect("7</dev/null")
        .redirect("8>/dev/null")
        .redirect("9<&0")
        .start();
    let client = tuplecat("tcp-connect")
        .to(address)
        .args("--exec ls /proc/self/fd");
    let client = client.redirect("7</dev/null").start();
    let others = [connect(server.ready()), connect(server.ready())];
    for peer in [connect(server.ready()), accept(&listener)] {
        // The fourth is the folder that ls reads.
        let listed = String::from_utf8(read_all(&peer)).unwrap();
        assert_eq!(
            listed.split_whitespace().collect::<Vec<_>>(),
            ["0", "1", "2", "3"]
        );
    }
    drop(others);
    client.wait().exits(0);
}

#[test]
fn no_zombie_is_left() {
    let server = tuplecat("tcp-listen 0 -k --exec echo hello").start();
    for _ in 0..20 {
        assert_eq!(read_all(&connect(server.ready())), b"hello\n");
    }
    wait_until("all are reaped", || children_of(server.pid()).is_empty());
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn children_and_their_process_groups_end_with_the_run() {
    let command = "trap 'echo ended > ended; exit' HUP; sleep 1000 & echo $! $$; wait";
    let (server, client) = meet_child(command);
    let line = read_line(&client);
    let ended = server.path("ended");
    server.signal(Signal::TERM);
    let mut pids = line.split_whitespace();
    server.wait_for_file(&ended);
    server.wait().exits(143);
    wait_until("the group is gone", || !pids.clone().any(is_alive));
    assert_eq!(pids.by_ref().count(), 2);
}

#[test]
fn a_child_that_ignores_signals_is_killed() {
    let (server, client) =
        meet_child("trap '' HUP TERM; sleep 1000 & echo $! $$; wait; sleep 1000");
    let line = read_line(&client);
    server.signal(Signal::TERM);
    server.wait().exits(143);
    wait_until("the group is gone", || {
        !line.split_whitespace().any(is_alive)
    });
}

/// Children end when the terminal hangs up. SIGHUP may come twice, from the kernel and from a shell.
#[test]
fn children_end_with_the_terminal_and_have_time_to() {
    let (server, client) =
        meet_child("trap 'sleep 0.2; echo ended > ended; exit' HUP; sleep 1000 & echo $$; wait");
    let line = read_line(&client);
    server.signal(Signal::HUP);
    server.err().wait_for_line("closed");
    server.signal(Signal::HUP);
    server.wait_for_file(&server.path("ended"));
    server.wait().exits(129);
    wait_until("it is gone", || !is_alive(&line));
}

#[test]
fn a_second_signal_kills_children_at_once() {
    let stubborn = || meet_child("trap '' HUP; echo $$; while :; do sleep 1000; done");
    // The run that gets one signal lasts longer. On a busy machine both may be over by the time of a look.
    let is_first_to_end = || {
        let [(patient, other), (server, client)] = [stubborn(), stubborn()];
        let [line, _] = [&client, &other].map(read_line);
        server.signal(Signal::TERM);
        server.err().wait_for_line("closed");
        patient.signal(Signal::TERM);
        server.signal(Signal::TERM);
        server.wait().exits(143);
        wait_until("it is gone", || !is_alive(&line));
        let lasts = !patient.has_ended_within(Duration::ZERO);
        patient.wait().exits(143);
        lasts
    };
    assert!((0..5).any(|_| is_first_to_end()));
}

#[test]
fn a_child_whose_peer_is_gone_may_finish_and_is_then_ended() {
    let (server, client) = meet_child("cat > rest; echo done > done; sleep 1000");
    (&client).write_all(b"all of it").unwrap();
    let rest = server.path("rest");
    wait_until("the child has it", || {
        fs::read(&rest).is_ok_and(|rest| rest == b"all of it")
    });
    reset(client);
    let done = server.path("done");
    assert_eq!(server.wait_for_file(&done), "done\n");
    server.wait().exits(7);
}

/// A child whose peer is gone may finish in the middle of writing: its output is dropped, and its input still delivered.
#[test]
fn a_child_in_the_middle_of_writing_may_finish_too() {
    let server = shell("tcp-listen 0 -k", "cat; echo done > done").start();
    let client = connect(server.ready());
    client.set_write_timeout(Some(A_WHILE)).unwrap();
    let text = bytes(64 << 10);
    // Until the child waits for the client, and the client for the child.
    while (&client).write(&text).is_ok() {}
    reset(client);
    server.err().wait_for_line("broken");
    assert_eq!(server.wait_for_file(&server.path("done")), "done\n");
    server.err().wait_for_line("closed");
    wait_until("it is reaped", || children_of(server.pid()).is_empty());
}

/// The same holds for a client that is still connected, and reads nothing.
#[test]
fn a_child_whose_client_does_not_read_may_finish_too() {
    let server = shell(
        "tcp-listen 0 -k --client-timeout 200ms",
        "cat; echo done > done",
    )
    .start();
    let client = connect(server.ready());
    client.set_write_timeout(Some(A_WHILE)).unwrap();
    let text = bytes(64 << 10);
    while (&client).write(&text).is_ok() {}
    server.err().wait_for_line("broken");
    assert_eq!(server.wait_for_file(&server.path("done")), "done\n");
    server.err().wait_for_line("closed");
}

/// A child that only writes, and does not read its input, does not run for ever.
#[test]
fn a_child_that_only_writes_is_ended() {
    let server = shell("tcp-listen 0 -k --client-timeout 200ms", "exec yes").start();
    let client = connect(server.ready());
    client.set_write_timeout(Some(A_WHILE)).unwrap();
    let text = bytes(64 << 10);
    while (&client).write(&text).is_ok() {}
    server.err().wait_for_line("broken");
    wait_until("it is calm", || {
        let before = ticks(&server);
        assert!(!server.has_ended_within(A_WHILE));
        ticks(&server) - before < 10
    });
    drop(client);
    server.signal(Signal::TERM);
    server.wait().exits(143);
}

#[test]
fn a_child_that_has_closed_its_output_ends_in_its_own_time() {
    let server = shell(
        "tcp-listen 0 -k",
        "exec >&-; cat > rest; sleep 2; mv rest kept",
    )
    .start();
    let mut client = connect(server.ready());
    client.write_all(b"kept").unwrap();
    finish(&client);
    assert_eq!(read_all(&client), b"");
    drop(client);
    server.err().wait_for_line("closed");
    assert_eq!(server.wait_for_file(&server.path("kept")), "kept");
    wait_until("it is reaped", || children_of(server.pid()).is_empty());
}

#[test]
fn the_end_of_one_session_does_not_end_another() {
    let command = "[ $TUPLECAT_CONN = 1 ] && exit; cat";
    let server = shell("tcp-listen 0 -k", command).start();
    let first = connect(server.ready());
    assert_eq!(read_all(&first), b"");
    wait_until("it is reaped", || children_of(server.pid()).is_empty());
    let mut second = connect(server.ready());
    second.write_all(b"before ").unwrap();
    assert_eq!(read_len(&second, 7), b"before ");
    // Its child is gone long before the first connection is closed. None of that may reach the next child.
    drop(first);
    server.err().wait_for_line("closed");
    assert!(is_silent_for(&second, Duration::from_millis(1300)));
    second.write_all(b"after").unwrap();
    finish(&second);
    assert_eq!(read_all(&second), b"after");
}

#[test]
fn the_peer_s_fin_can_end_the_run() {
    let command = "trap 'echo ended > ended' HUP; sleep 1000 & wait";
    let server = shell("tcp-listen --on-peer-eof quit 0", command).start();
    let client = connect(server.ready());
    finish(&client);
    assert_eq!(read_all(&client), b"");
    server.wait_for_file(&server.path("ended"));
    server.wait().exits(0);
}

/// In a container nothing else does.
#[test]
fn process_1_reaps_the_orphans_of_its_children() {
    let words = "--pid --fork --mount-proc --kill-child";
    if !is_installed("unshare") || program("unshare", words).arg("true").run().status != 0 {
        return skip("no namespace of processes can be made here");
    }
    let command = "(sleep 0.01 < /dev/null > /dev/null &); sleep 0.2; grep -l '^State:.Z' /proc/[0-9]*/status";
    let server = program("unshare", words)
        .arg(env!("CARGO_BIN_EXE_tuplecat"))
        .args("tcp-listen -k 0 --ready-file ready --shell")
        .arg(command)
        .start();
    let line = server.wait_for_file(&server.path("ready"));
    let address = line
        .trim_end()
        .strip_prefix("tcp ")
        .unwrap()
        .parse()
        .unwrap();
    for _ in 0..3 {
        assert_eq!(String::from_utf8(read_all(&connect(address))).unwrap(), "");
    }
}
