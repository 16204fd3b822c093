//! The pump against ends that follow a script, watched from both sides.
//! No network: what a peer, a slow reader or a broken pipe would do is written down step by step.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pretty_assertions::assert_eq;

use super::end::{Arrival, Close, End, Finish, Link, Next, Readiness, Wait};
use super::rules::{OnInputEnd, OnPeerEnd, Rules};
use super::{Pump, Wiring};
use crate::batch::{Batch, Cursor, Run, Shape};
use crate::exit::{Exit, Failure};
use crate::flow::{Flow, Identity, Transport};
use crate::sys::signals::Signals;
use crate::tap::{SocketState, Taps};

mod own;
mod relay;
mod wishes;

/// What an end does when it is asked for bytes.
enum Give {
    Bytes(&'static str),
    Datagrams(usize, &'static str),
    Nothing,
    End,
    Enough,
    Error(ErrorKind),
}

/// What an end does when it is offered bytes; everything once the script is over.
enum Take {
    UpTo(usize),
    WouldBlock,
    Error(ErrorKind),
}

#[derive(Default)]
struct Script {
    gives: VecDeque<Give>,
    takes: VecDeque<Take>,
    log: Rc<RefCell<Vec<String>>>,
    name: &'static str,
    source: Option<File>,
    sink: Option<File>,
    /// Errors of `finish` before it succeeds.
    finishes: VecDeque<ErrorKind>,
    /// Answers of `health`, then 0.
    unacknowledged: VecDeque<usize>,
    /// What it wants to have come, as a local end.
    wants: Option<&'static str>,
}

impl Script {
    fn new(name: &'static str, log: &Rc<RefCell<Vec<String>>>) -> Self {
        // Always ready, as a regular file is.
        let ready = || File::open("/dev/null").ok();
        Self {
            name,
            log: Rc::clone(log),
            source: ready(),
            sink: ready(),
            ..Self::default()
        }
    }

    fn gives(mut self, gives: impl IntoIterator<Item = Give>) -> Self {
        self.gives.extend(gives);
        self
    }

    fn takes(mut self, takes: impl IntoIterator<Item = Take>) -> Self {
        self.takes.extend(takes);
        self
    }

    fn wants(mut self, text: &'static str) -> Self {
        self.wants = Some(text);
        self
    }

    fn log(&self, text: &str) {
        self.log.borrow_mut().push(format!("{} {text}", self.name));
    }
}

impl End for Script {
    fn recv(&mut self, batch: &mut Batch, _: &mut Taps) -> io::Result<Arrival> {
        let (shape, text) = match self.gives.pop_front() {
            Some(Give::Bytes(text)) => (Shape::Stream, text),
            Some(Give::Datagrams(size, text)) => (Shape::Datagrams(size), text),
            Some(Give::Nothing) => return Ok(Arrival::Nothing),
            Some(Give::End) => return Ok(Arrival::End),
            Some(Give::Enough) => return Ok(Arrival::Enough),
            Some(Give::Error(kind)) => return Err(kind.into()),
            None => {
                self.source = None;
                return Ok(Arrival::Nothing);
            }
        };
        self.log(&format!("gives {text}"));
        batch.space(text.len())[..text.len()].copy_from_slice(text.as_bytes());
        batch.push(Run {
            start: 0,
            len: text.len(),
            shape,
            flow: None,
        });
        Ok(Arrival::Data)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, _: &mut Taps) -> io::Result<Next> {
        let run = &batch.runs()[at.run];
        let limit = match self.takes.pop_front() {
            Some(Take::UpTo(limit)) => limit,
            Some(Take::WouldBlock) => {
                self.log("blocks");
                return Err(ErrorKind::WouldBlock.into());
            }
            Some(Take::Error(kind)) => return Err(kind.into()),
            None => usize::MAX,
        };
        let bytes = &batch.bytes(run)[at.offset..];
        let bytes = &bytes[..bytes.len().min(limit)];
        self.log(&format!(
            "takes {} {:?}",
            String::from_utf8_lossy(bytes),
            run.shape
        ));
        batch.advance(at, bytes.len());
        let log = self.log.borrow();
        let has_come = |wanted| log.iter().any(|line| line.contains(wanted));
        Ok(match self.wants {
            Some(wanted) if has_come(wanted) && batch.is_taken(*at) => Next::Stop,
            _ => Next::Continue,
        })
    }

    fn finish(&mut self, what: Finish<'_>, _: &mut Taps) -> io::Result<Next> {
        if let Some(kind) = self.finishes.pop_front() {
            return Err(kind.into());
        }
        self.log(match what {
            Finish::Stream(_) => "is told that this was all",
            Finish::All => "is finished",
        });
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let (source, sink) = (self.source.as_ref(), self.sink.as_ref());
        Readiness {
            recv: source.map_or(Wait::Never, |file| Wait::readable(file.as_fd())),
            send: sink.map_or(Wait::Now, |file| Wait::writable(file.as_fd())),
            watch: false,
        }
    }

    fn health(&mut self) -> io::Result<usize> {
        Ok(self.unacknowledged.pop_front().unwrap_or(0))
    }
}

impl Link for Script {
    fn identity(&self) -> Identity {
        let address = || "127.0.0.1:9".parse().unwrap();
        Identity::Pair(Flow::new(Transport::Tcp, address(), address()))
    }

    fn states(&self) -> Vec<SocketState> {
        vec![SocketState::new(self.identity(), Instant::now())]
    }

    fn close(&mut self, how: Close, _: &mut Taps) -> Result<(), Failure> {
        self.log(match how {
            Close::Orderly => "is closed",
            Close::Reset => "is reset",
        });
        Ok(())
    }
}

pub(super) fn rules() -> Rules {
    Rules {
        on_peer_end: OnPeerEnd::Wait,
        idle_timeout: Some(Duration::from_secs(10)),
        ..Rules::default()
    }
}

/// Runs `local` against `link`; what both did, in order, and how it ended.
fn run(
    rules: Rules,
    local: impl FnOnce(Script) -> Script,
    link: impl FnOnce(Script) -> Script,
) -> (Vec<String>, Result<(), Failure>) {
    run_wired(rules, Wiring::Shared, local, link)
}

fn run_wired(
    rules: Rules,
    wire: impl FnOnce(Box<dyn End>) -> Wiring,
    local: impl FnOnce(Script) -> Script,
    link: impl FnOnce(Script) -> Script,
) -> (Vec<String>, Result<(), Failure>) {
    let log = Rc::default();
    let signals = Signals::new().unwrap();
    let mut taps = Taps::default();
    let local = local(Script::new("local", &log));
    let link = link(Script::new("link", &log));
    let mut pump = Pump::new(wire(Box::new(local)), rules, &signals, &mut taps).unwrap();
    pump.attend(Box::new(Script::new("attendant", &Rc::default())));
    pump.join(Box::new(link));
    let end = pump.run();
    (log.take(), end)
}

/// What `name` took or gave, in order.
fn of<'a>(log: &'a [String], name: &str) -> Vec<&'a str> {
    log.iter()
        .filter_map(|line| line.strip_prefix(name))
        .map(str::trim)
        .collect()
}

#[test]
fn short_writes_lose_and_repeat_nothing() {
    let (log, end) = run(
        rules(),
        |local| local.gives([Give::Bytes("abcdef"), Give::Bytes("gh"), Give::End]),
        |link| {
            link.takes([Take::UpTo(1), Take::WouldBlock, Take::UpTo(2)])
                .gives([Give::Nothing, Give::Nothing, Give::End])
        },
    );
    let taken: Vec<&str> = of(&log, "link takes");
    assert_eq!(taken, ["a Stream", "bc Stream", "def Stream", "gh Stream"]);
    assert_eq!(end, Ok(()));
}

#[test]
fn nothing_is_fetched_while_a_batch_is_on_its_way() {
    let (log, _) = run(
        rules(),
        |local| local.gives([Give::Bytes("one"), Give::Bytes("two"), Give::End]),
        |link| {
            link.takes([Take::WouldBlock, Take::WouldBlock])
                .gives([Give::End])
        },
    );
    let order = of(&log, "");
    let at = |line: &str| order.iter().position(|other| *other == line);
    assert!(
        at("link takes one Stream") < at("local gives two"),
        "{order:?}"
    );
}

#[test]
fn datagrams_keep_their_borders_also_when_empty() {
    let (log, _) = run(
        rules(),
        |local| local.gives([Give::End]),
        |link| {
            link.gives([
                Give::Datagrams(2, "aabbc"),
                Give::Datagrams(1, ""),
                Give::End,
            ])
        },
    );
    assert_eq!(
        of(&log, "local takes"),
        ["aabbc Datagrams(2)", "Datagrams(1)"]
    );
}

#[test]
fn the_end_of_input_finishes_once_and_receiving_goes_on() {
    let (log, end) = run(
        rules(),
        |local| local.gives([Give::Bytes("question"), Give::End]),
        |link| {
            link.gives([
                Give::Nothing,
                Give::Nothing,
                Give::Nothing,
                Give::Bytes("answer"),
                Give::End,
            ])
        },
    );
    assert_eq!(of(&log, "link is"), ["finished", "closed"]);
    assert_eq!(of(&log, "local takes"), ["answer Stream"]);
    assert_eq!(end, Ok(()));
}

#[test]
fn the_end_of_the_peer_leaves_the_input_to_end() {
    let (log, _) = run(
        rules(),
        |local| local.gives([Give::Nothing, Give::Nothing, Give::Bytes("late"), Give::End]),
        |link| link.gives([Give::End]),
    );
    assert_eq!(of(&log, "link takes"), ["late Stream"]);
}

#[test]
fn quitting_at_the_end_of_the_peer_delivers_what_it_sent() {
    let rules = Rules {
        on_peer_end: OnPeerEnd::Quit,
        ..rules()
    };
    let (log, end) = run(
        rules,
        |local| {
            local
                .gives([Give::Nothing])
                .takes([Take::WouldBlock, Take::UpTo(1)])
        },
        |link| link.gives([Give::Bytes("last"), Give::End]),
    );
    assert_eq!(of(&log, "local takes"), ["l Stream", "ast Stream"]);
    assert_eq!(end, Ok(()));
}

#[test]
fn quitting_at_the_end_of_input_writes_out_what_has_come() {
    let rules = Rules {
        on_input_end: OnInputEnd::Quit(Duration::ZERO),
        ..rules()
    };
    let (log, end) = run(
        rules,
        |local| local.gives([Give::Bytes("bye"), Give::End]),
        |link| link.gives([Give::Nothing, Give::Bytes("already here")]),
    );
    assert_eq!(of(&log, "link takes"), ["bye Stream"]);
    assert_eq!(of(&log, "local takes"), ["already here Stream"]);
    assert_eq!(end, Ok(()));
}

#[test]
fn what_came_before_a_reset_is_delivered_and_the_reset_is_told() {
    let (log, end) = run(
        rules(),
        |local| local.gives([Give::Nothing]),
        |link| {
            link.gives([
                Give::Bytes("before"),
                Give::Error(ErrorKind::ConnectionReset),
            ])
        },
    );
    assert_eq!(of(&log, "local takes"), ["before Stream"]);
    assert_eq!(end.map_err(|failure| failure.exit), Err(Exit::Reset));
}

#[test]
fn after_a_failed_send_what_had_arrived_is_still_delivered() {
    let (log, end) = run(
        rules(),
        |local| local.gives([Give::Bytes("lost"), Give::Bytes("never asked for")]),
        |link| {
            let link = link.takes([Take::Error(ErrorKind::BrokenPipe)]);
            link.gives([Give::Nothing, Give::Bytes("had arrived"), Give::End])
        },
    );
    assert_eq!(of(&log, "local takes"), ["had arrived Stream"]);
    assert_eq!(end.map_err(|failure| failure.exit), Err(Exit::Reset));
}

#[test]
fn a_local_end_that_cannot_write_ends_the_run_at_once() {
    let (log, end) = run(
        rules(),
        |local| local.takes([Take::Error(ErrorKind::StorageFull)]),
        |link| link.gives([Give::Bytes("too much"), Give::Bytes("never asked for")]),
    );
    assert_eq!(of(&log, "link gives"), ["too much"]);
    assert_eq!(end.map_err(|failure| failure.exit), Err(Exit::Failed));
}

#[test]
fn enough_ends_both_directions() {
    let (log, end) = run(
        rules(),
        |local| local.gives([Give::Nothing]),
        |link| link.gives([Give::Bytes("all"), Give::Enough]),
    );
    assert_eq!(of(&log, "local takes"), ["all Stream"]);
    assert_eq!(end, Ok(()));
}

#[test]
fn a_silent_session_ends_by_its_idle_limit() {
    let rules = Rules {
        idle_timeout: Some(Duration::from_millis(20)),
        ..rules()
    };
    let (_, end) = run(rules, |local| local, |link| link);
    assert_eq!(end.map_err(|failure| failure.exit), Err(Exit::TimedOut));
}

#[test]
fn an_end_that_cannot_finish_yet_is_asked_again() {
    let (log, end) = run(
        rules(),
        |local| local.gives([Give::Bytes("last"), Give::End]),
        |mut link| {
            link.finishes
                .extend([ErrorKind::WouldBlock, ErrorKind::WouldBlock]);
            link.gives([Give::Nothing, Give::End])
        },
    );
    assert_eq!(of(&log, "link takes"), ["last Stream"]);
    assert_eq!(of(&log, "link is"), ["finished", "closed"]);
    assert_eq!(end, Ok(()));
}
