//! Other netcats on one side of a transfer, without losing a byte; one that is not installed is skipped with a notice.
//! Among themselves they lose data silently in every second pairing: one takes the other's FIN for the end of everything.

use std::io::Write;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

/// The length of the payload that is in the sender's input before it starts. Without any input, tuplecat and others leave some
/// seconds after the peer's FIN.
const BEGINNING: usize = 1000;

/// Returns an input that has the beginning of a payload.
fn begun(sent: &[u8]) -> Input {
    Input::Begun(sent[..BEGINNING].to_vec())
}

/// Writes 500,000 bytes in five pieces over two seconds, as from a build or a slow disk.
fn push(running: &mut Running, sent: &[u8]) {
    for (number, piece) in sent[BEGINNING..].chunks(100_000).enumerate() {
        if number > 0 {
            thread::sleep(Duration::from_millis(500));
        }
        running.write(piece);
    }
    running.close_stdin();
}

#[test]
fn nothing_is_lost_that_other_clients_send() {
    let sent = bytes(500_000);
    with_each_tool(|tool| {
        // As under cron, systemd or `ssh -n`: standard input has ended before the start.
        let server = tuplecat("tcp-listen 0").stdin(Input::Null).start();
        let launch = tool.launch(tool.connects, server.ready().port());
        let mut client = launch.stdin(begun(&sent)).start();
        push(&mut client, &sent);
        let done = server.wait().exits(0);
        assert!(done.out == sent, "{} of 500000 bytes", done.out.len());
        client.wait();
    });
}

#[test]
fn nothing_is_lost_that_is_sent_to_other_listeners() {
    let sent = bytes(500_000);
    with_each_tool(|tool| {
        let (server, address) = listening(tool, Transport::Tcp, || Input::Null);
        let mut client = tuplecat("tcp-connect")
            .to(address)
            .stdin(begun(&sent))
            .start();
        push(&mut client, &sent);
        let done = server.wait();
        assert!(done.out == sent, "{} of 500000 bytes", done.out.len());
        client.wait().exits(0);
    });
}

#[test]
fn files_go_to_and_from_every_other_tool() {
    let sent = bytes(3_000_000);
    with_each_tool(|tool| {
        let server = tuplecat("tcp-listen 0").start();
        let launch = tool.launch(tool.connects, server.ready().port());
        let client = launch.stdin(Input::From(with_text(&sent))).start();
        assert!(server.wait().exits(0).out == sent);
        client.wait();

        let (server, address) = listening(tool, Transport::Tcp, || Input::Null);
        let client = tuplecat("tcp-connect").to(address);
        client.stdin(Input::From(with_text(&sent))).run().exits(0);
        assert!(server.wait().out == sent);

        // Now a listener of theirs sends.
        let (mut server, address) = listening(tool, Transport::Tcp, || Input::Held);
        // Some of them leave at our FIN, so none is sent.
        let client = tuplecat("tcp-connect --on-stdin-eof keep")
            .to(address)
            .start();
        server.write(&sent[..100_000]);
        client.out().wait_for_len(100_000);
        server.close_stdin();
        server.signal(Signal::TERM);
        assert!(client.wait().exits(0).out == sent[..100_000]);
    });
}

/// A client sends a question and a FIN, and waits; the answer comes two seconds later.
#[test]
fn an_answer_is_not_lost_however_late() {
    let patient = ["nc.openbsd", "ncat", "socat", "busybox"];
    with_each_tool(|tool| {
        // nc.traditional leaves a second after its own input has ended.
        if !patient.contains(&tool.program) {
            return;
        }
        let mut server = tuplecat("tcp-listen 0").stdin(Input::Held).start();
        let launch = tool.launch(tool.connects, server.ready().port());
        let client = launch.says("question").start();
        server.out().wait_for("question");
        thread::sleep(Duration::from_secs(2));
        server.write("answer");
        server.close_stdin();
        assert_eq!(client.wait().text(), "answer");
        server.wait().exits(0);
    });
}

/// The same holds between two tuplecat processes, in both roles.
#[test]
fn our_own_answer_is_not_lost_however_late() {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut server = tuplecat("tcp-listen 0").stdin(Input::Held).start();
            let client = tuplecat("tcp-connect").to(server.ready()).says("question");
            let client = client.start();
            server.out().wait_for("question");
            thread::sleep(Duration::from_secs(2));
            server.write("answer");
            server.close_stdin();
            assert_eq!(client.wait().exits(0).text(), "answer");
            server.wait().exits(0);
        });
        scope.spawn(|| {
            let server = tuplecat("tcp-listen 0").says("question").start();
            let mut client = tuplecat("tcp-connect")
                .to(server.ready())
                .stdin(Input::Held)
                .start();
            client.out().wait_for("question");
            thread::sleep(Duration::from_secs(2));
            client.write("answer");
            client.close_stdin();
            assert_eq!(server.wait().exits(0).text(), "answer");
            client.wait().exits(0);
        });
    });
}

#[test]
fn datagrams_go_to_and_from_every_other_tool() {
    with_each_tool(|tool| {
        let Some(words) = tool.sends else {
            return;
        };
        let mut server = tuplecat("udp-bind 0").stdin(Input::Held).start();
        let launch = tool.launch(words, server.ready().port());
        let mut client = launch.stdin(Input::Held).start();
        for (question, answer, all) in [("one", "1", "one"), ("two", "2", "onetwo")] {
            client.write(question);
            server.out().wait_for(all);
            server.write(answer);
            client.out().wait_for(answer);
        }
        server.signal(Signal::INT);
        server.wait().exits(130);
    });
}

/// All tools are served at once, by one echo and by a child for each.
#[test]
fn other_clients_are_served_side_by_side() {
    let text = "some text\n".repeat(20_000);
    let (echo, upper) = (
        tuplecat("tcp-listen -k --echo 0").start(),
        tuplecat("tcp-listen -k 0 --exec tr a-z A-Z").start(),
    );
    with_each_tool(|tool| {
        for (server, answer) in [(&echo, text.clone()), (&upper, text.to_uppercase())] {
            let launch = tool.launch(tool.connects, server.ready().port());
            let done = launch.says(&text).run();
            let name = tool.program;
            assert!(done.text() == answer, "{name}: {} bytes", done.out.len());
        }
    });
    for server in [echo, upper] {
        server.signal(Signal::INT);
        server.wait().exits(130);
    }
}

#[test]
fn a_broker_joins_clients_of_every_make() {
    with_each_tool(|tool| {
        let server = tuplecat("tcp-listen -k --broker 0").start();
        let ours = connect(server.ready());
        let launch = tool.launch(tool.connects, server.ready().port());
        let mut theirs = launch.stdin(Input::Held).start();
        server.err().wait_for("  #2\n");
        theirs.write("from theirs");
        assert_eq!(read_len(&ours, 11), b"from theirs");
        (&ours).write_all(b"from ours").unwrap();
        theirs.out().wait_for("from ours");
        theirs.close_stdin();
        server.signal(Signal::INT);
        server.wait().exits(130);
        theirs.wait();
    });
}
