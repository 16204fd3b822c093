//! What a dialogue consists of: what is sent and expected, in which order, and when it is over.
//! Plain data, which the command line describes; the dialogue acts on it.

use crate::exit::Exit;

mod dialogue;
mod mismatch;
mod pattern;

pub use dialogue::Dialogue;
pub use pattern::{Pattern, PatternText};

/// One step of a [`Script`].
#[derive(Clone, Debug)]
pub enum Step {
    /// Send this: over UDP, as one datagram.
    Send(Vec<u8>),
    /// Wait until this has come: anywhere in the stream after what was expected before it, or in one datagram.
    Expect(Pattern),
}

/// What a dialogue consists of.
#[derive(Clone, Debug)]
pub struct Script {
    /// What to send and to expect, in order.
    pub steps: Vec<Step>,
    /// What becomes of the input of the other local end.
    pub input: StdinUse,
    /// When the peer is told that nothing more will be sent.
    pub half_close: HalfClose,
    /// The status where something was expected and nothing at all has come from a peer that is there.
    pub silence: Exit,
    /// With whom it is, of several who may send datagrams.
    pub peer: PeerChoice,
}

/// With whom a dialogue over datagrams is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChoice {
    /// With whom the link makes it.
    Any,
    /// With whoever first sends what is expected: the rest is said to him, and expected of him.
    FirstMatch,
}

/// What becomes of the input of the other local end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StdinUse {
    /// It is not read.
    Unused,
    /// It is sent from the beginning, while the script only expects.
    DuringScript,
    /// It is sent when the script is over, and the session goes on.
    AfterScript,
}

/// When the peer is told that nothing more will be sent: half-closed, if it is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfClose {
    /// As soon as everything is sent.
    AfterSending,
    /// When everything expected has come as well: many a server takes an earlier FIN for a client that has gone.
    AfterExpected,
}
