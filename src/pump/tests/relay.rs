//! Two links that are relayed to each other: each peer sees what it would see without the relay.
//! FIN for FIN, at the same place in the bytes; a reset as a reset, after what came before it.

use std::io::ErrorKind;

use pretty_assertions::assert_eq;

use super::{Give, Script, Take, of, rules};
use crate::exit::{Exit, Failure};
use crate::pump::{Partner, Pump, Wiring};
use crate::sys::signals::Signals;
use crate::tap::Taps;

/// Relays a client to a target; returns what both did, in order, and how it ended.
fn relay(
    client: impl FnOnce(Script) -> Script,
    target: impl FnOnce(Script) -> Script,
) -> (Vec<String>, Result<(), Failure>) {
    let log = std::rc::Rc::default();
    let signals = Signals::new().unwrap();
    let mut taps = Taps::default();
    let client = client(Script::new("client", &log));
    let mut target = Some(target(Script::new("target", &log)));
    let wiring = Wiring::Each(Box::new(move |_| {
        let target = target.take().ok_or(ErrorKind::NotFound)?;
        Ok(Partner::Link(Box::new(target)))
    }));
    let mut pump = Pump::new(wiring, rules(), &signals, &mut taps).unwrap();
    pump.join(Box::new(client));
    let end = pump.run();
    (log.take(), end)
}

#[test]
fn bytes_and_ends_go_both_ways() {
    let (log, end) = relay(
        |client| client.gives([Give::Bytes("question"), Give::End]),
        |target| {
            target.takes([Take::UpTo(3), Take::WouldBlock]).gives([
                Give::Nothing,
                Give::Nothing,
                Give::Nothing,
                Give::Bytes("answer"),
                Give::End,
            ])
        },
    );
    assert_eq!(of(&log, "target takes"), ["que Stream", "stion Stream"]);
    assert_eq!(of(&log, "client takes"), ["answer Stream"]);
    assert_eq!(of(&log, "target is"), ["finished", "closed"]);
    assert_eq!(of(&log, "client is"), ["finished", "closed"]);
    assert_eq!(end, Ok(()));
}

#[test]
fn a_reset_is_passed_on_after_what_came_before_it() {
    let (log, end) = relay(
        |client| {
            let mut client = client.gives([Give::Nothing]);
            client.unacknowledged.extend([6, 6]);
            client.takes([Take::UpTo(1), Take::WouldBlock])
        },
        |target| {
            target.gives([
                Give::Bytes("answer"),
                Give::Error(ErrorKind::ConnectionReset),
            ])
        },
    );
    assert_eq!(of(&log, "client takes"), ["a Stream", "nswer Stream"]);
    assert_eq!(of(&log, "client is"), ["reset"]);
    assert_eq!(of(&log, "target is"), ["closed"]);
    assert_eq!(end.map_err(|failure| failure.exit), Err(Exit::Reset));
}
