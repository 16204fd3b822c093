//! Pairings with other netcats: the listener, standard input of both sides, the sender, and the pace.
//! Every byte arrives, or the table names the fault of the other tool.

use std::io::Write;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use tuplecat::flow::Transport;

use crate::common::*;

/// A standard input without payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    Null,
    Closed,
    Held,
    File,
}

const IDLES: [Idle; 4] = [Idle::Null, Idle::Closed, Idle::Held, Idle::File];

/// The pace of the payload: with pauses, or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Slow,
    Fast,
}

/// The direction of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToUs,
    FromUs,
}

/// A pairing: our role, the direction, the pace, and the standard input of the receiver.
#[derive(Clone, Copy, Debug)]
struct Pairing {
    ours: Side,
    way: Way,
    idle: Idle,
    pace: Pace,
}

fn pairings() -> impl Iterator<Item = Pairing> {
    SIDES.into_iter().flat_map(|ours| {
        [Way::ToUs, Way::FromUs].into_iter().flat_map(move |way| {
            IDLES.into_iter().flat_map(move |idle| {
                [Pace::Slow, Pace::Fast].map(|pace| Pairing {
                    ours,
                    way,
                    idle,
                    pace,
                })
            })
        })
    })
}

impl Idle {
    fn input(self) -> Input {
        match self {
            Self::Null => Input::Null,
            Self::Closed => Input::Closed,
            Self::Held => Input::Held,
            Self::File => Input::From(with_text(b"aside")),
        }
    }
}

/// The length of the payload that is in the sender's input before it starts. Without any input tuplecat leaves 5 seconds after the
/// peer's FIN, as documented (`--on-peer-eof auto`), and on a busy machine the test may not have written anything by then.
const BEGINNING: usize = 1000;

/// Starts both, and waits until they are connected.
fn meet_tool(tool: &Tool, pairing: Pairing, sent: &[u8]) -> (Running, Running) {
    let idle = || pairing.idle.input();
    let busy = || Input::Begun(sent[..BEGINNING].to_vec());
    let (our_input, their_input): (&dyn Fn() -> Input, &dyn Fn() -> Input) = match pairing.way {
        Way::ToUs => (&idle, &busy),
        Way::FromUs => (&busy, &idle),
    };
    match pairing.ours {
        Side::Listens => {
            let us = tuplecat("tcp-listen 0").stdin(our_input()).start();
            let launch = tool.launch(tool.connects, us.ready().port());
            let them = launch.stdin(their_input()).start();
            us.err().wait_for_line("accepted");
            (us, them)
        }
        Side::Connects => {
            let (them, address) = listening(tool, Transport::Tcp, their_input);
            let us = tuplecat("tcp-connect")
                .to(address)
                .stdin(our_input())
                .start();
            us.err().wait_for_line("connected");
            (us, them)
        }
    }
}

/// Returns the known fault of the tool in this pairing. Such a pairing may lose data.
fn fault(tool: &Tool, pairing: Pairing) -> Option<&'static str> {
    let Pairing {
        ours, way, idle, ..
    } = pairing;
    if tool.program == "socat" {
        return None;
    }
    match (ours, way, idle) {
        (Side::Connects, Way::ToUs, Idle::Null | Idle::Closed | Idle::File) => {
            Some("as a listener, it takes our FIN for the end of its own transfer")
        }
        (Side::Listens, Way::ToUs, Idle::File)
            if ["nc.traditional", "busybox", "toybox"].contains(&tool.program) =>
        {
            Some("as a client, it takes our FIN for the end of its own transfer")
        }
        (Side::Listens, Way::FromUs, Idle::Closed) => {
            Some("its socket takes the place of its closed standard input, and is read twice")
        }
        (Side::Listens, Way::FromUs, Idle::Null | Idle::File)
            if tool.program == "nc.traditional" =>
        {
            Some("it leaves a second after its own input has ended (-q 1)")
        }
        _ => None,
    }
}

/// Writes the rest of the payload and closes the input. A tool that stops reading is judged by the data that arrives.
fn pour(from: &mut Running, sent: &[u8], pace: Pace) {
    let mut input = from.take_stdin();
    let size = match pace {
        Pace::Slow => sent.len() / 4,
        Pace::Fast => sent.len(),
    };
    for (number, piece) in sent.chunks(size).enumerate() {
        if number > 0 {
            // As from a build or a slow disk.
            thread::sleep(Duration::from_millis(400));
        }
        if input.write_all(piece).is_err() {
            return;
        }
    }
}

/// Runs one pairing; the error describes a loss.
fn transfer(tool: &Tool, pairing: Pairing) -> Result<(), String> {
    let sent = bytes(100_000);
    let (us, them) = meet_tool(tool, pairing, &sent);
    let (mut from, to) = match pairing.way {
        Way::ToUs => (them, us),
        Way::FromUs => (us, them),
    };
    pour(&mut from, &sent[BEGINNING..], pairing.pace);
    let out = to.out().wait_at_most(sent.len());
    match fault(tool, pairing) {
        None if out != sent => Err(format!(
            "{}, {pairing:?}: {} bytes",
            tool.program,
            out.len()
        )),
        _ => Ok(()),
    }
}

#[test]
fn nothing_is_lost_in_any_pairing() {
    let losses = Mutex::new(Vec::new());
    with_each_tool(|tool| {
        thread::scope(|scope| {
            for pairing in pairings() {
                let losses = &losses;
                scope.spawn(move || {
                    let lost = transfer(tool, pairing).err();
                    losses.lock().unwrap().extend(lost);
                });
            }
        });
    });
    let losses = losses.into_inner().unwrap();
    assert!(losses.is_empty(), "lost:\n{}", losses.join("\n"));
}

/// A client with `--recv-only` sends no early FIN that could mislead a listener.
#[test]
fn a_client_that_only_receives_gets_everything() {
    let sent = bytes(100_000);
    with_each_tool(|tool| {
        for pace in [Pace::Slow, Pace::Fast] {
            let (mut them, address) = listening(tool, Transport::Tcp, || Input::Held);
            let us = tuplecat("tcp-connect --recv-only").to(address).start();
            us.err().wait_for_line("connected");
            pour(&mut them, &sent, pace);
            assert!(us.out().wait_at_most(sent.len()) == sent, "{pace:?}");
        }
    });
}

/// Datagrams arrive with any standard input on our side, and an open one answers them.
#[test]
fn datagrams_arrive_and_are_answered_in_any_pairing() {
    with_each_tool(|tool| {
        let Some(words) = tool.sends else {
            return;
        };
        for idle in IDLES {
            let mut us = tuplecat("udp-bind 0").stdin(idle.input()).start();
            let launch = tool.launch(words, us.ready().port());
            let mut them = launch.stdin(Input::Held).start();
            for (question, all) in [("one", "one"), ("two", "onetwo")] {
                them.write(question);
                us.out().wait_for(all);
            }
            match idle {
                Idle::Held => us.write("answer"),
                Idle::File => {}
                Idle::Null | Idle::Closed => continue,
            }
            let expected = if idle == Idle::File {
                "aside"
            } else {
                "answer"
            };
            them.out().wait_for(expected);
        }
        let (mut them, address) = listening(tool, Transport::Udp, || Input::Held);
        let us = tuplecat("udp-sendto --replies 1 --reply-timeout 10").to(address);
        let us = us.says("question").start();
        them.out().wait_for("question");
        them.write("answer");
        assert_eq!(us.wait().exits(0).text(), "answer");
    });
}
