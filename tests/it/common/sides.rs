//! A TCP connection in which the program under test is the listener or the client, and the test is its peer.
//! Most rules about a connection are the same for both.

use std::net::TcpStream;

use super::{Input, Launch, Running, accept, connect, listen, tuplecat};

/// The role of the program under test.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Connects,
    Listens,
}

pub(crate) const SIDES: [Side; 2] = [Side::Connects, Side::Listens];

/// Starts the program and connects it to a peer in the test.
pub(crate) fn meet(side: Side, words: &str, input: Input) -> (Running, TcpStream) {
    meet_with(side, words, |launch| launch.stdin(input))
}

/// Does the same with other changes of the launch.
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
