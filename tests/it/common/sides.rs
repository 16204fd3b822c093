//! A TCP session from either side: the program under test listens or connects, and the test is its peer.
//! Whatever holds for a connection holds whoever has begun it.

use std::net::TcpStream;

use super::{Input, Launch, Running, accept, connect, listen, tuplecat};

/// The two ways into a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Connects,
    Listens,
}

pub(crate) const SIDES: [Side; 2] = [Side::Connects, Side::Listens];

/// A connection between the program and a peer in this test.
pub(crate) fn meet(side: Side, words: &str, input: Input) -> (Running, TcpStream) {
    meet_with(side, words, |launch| launch.stdin(input))
}

/// The same with more to say about the launch.
pub(crate) fn meet_with(
    side: Side,
    words: &str,
    with: impl FnOnce(Launch) -> Launch,
) -> (Running, TcpStream) {
    match side {
        Side::Connects => {
            let (listener, address) = listen();
            let launch = tuplecat("tcp-connect").args(words).to(address);
            let running = with(launch).start();
            let peer = accept(&listener);
            (running, peer)
        }
        Side::Listens => {
            let running = with(tuplecat("tcp-listen").args(words).args("0")).start();
            let peer = connect(running.ready());
            (running, peer)
        }
    }
}
