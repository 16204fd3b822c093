//! The choices that one UDP socket leaves open, as plain data.
//! They are what tells a socket that waits for others from one that speaks first; there is no other difference.

use std::net::SocketAddr;
use std::time::Duration;

use crate::address::access::Access;
use crate::pump::rules::Engine;

/// How a [`Socket`](super::Socket) behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom datagrams from the local end go to.
    pub audience: Audience,
    /// Whose datagrams are passed on.
    pub accepts: Accepts,
    /// Who may send to it at all.
    pub access: Access,
    /// Connect the socket to the target: the kernel filters, and the socket has a 4-tuple.
    pub connected: bool,
    /// What an unreachable target means.
    pub refusal: Refusal,
    /// How long to listen on once the local end has finished.
    pub after_finish: Patience,
    /// When the local end speaks.
    pub speech: Speech,
    /// End when this many datagrams were passed on.
    pub wanted: Option<u64>,
    /// End before a datagram that would make it more than this many bytes passed on. Datagrams are never cut.
    pub max_bytes: Option<u64>,
    /// An empty datagram ends the data: one is sent at the end, and one received is the end.
    pub eof_datagram: bool,
    /// Longer datagrams are truncated, in bytes.
    pub max_datagram: usize,
    /// How many peers are remembered at the most; the one that is idle longest is forgotten.
    pub max_peers: usize,
    /// Many datagrams a system call (`UDP_GRO`, `UDP_SEGMENT`, `recvmmsg`, `sendmmsg`), or one.
    pub engine: Engine,
    /// Whose the socket is.
    pub owner: Owner,
    /// The name of the interface that multicast goes through, where that is not for the routes to say.
    pub multicast_if: Option<String>,
    /// Lost datagrams make the status [`Exit::DataLost`](crate::exit::Exit::DataLost).
    pub fail_on_loss: bool,
}

impl Default for Settings {
    /// A bound socket that answers whoever spoke last.
    fn default() -> Self {
        Self {
            audience: Audience::Last,
            accepts: Accepts::Anyone,
            access: Access::default(),
            connected: false,
            refusal: Refusal::Reported,
            after_finish: Patience::Forever,
            speech: Speech::AtWill,
            wanted: None,
            max_bytes: None,
            eof_datagram: false,
            max_datagram: 65_535,
            max_peers: 1024,
            engine: Engine::Fast,
            owner: Owner::Run,
            multicast_if: None,
            fail_on_loss: false,
        }
    }
}

impl Settings {
    /// A socket that speaks first, to `target`, and listens to nobody else.
    #[must_use]
    pub fn towards(target: SocketAddr) -> Self {
        Self {
            audience: Audience::Target(target),
            accepts: Accepts::Only(target),
            refusal: Refusal::Ends,
            after_finish: Patience::Quiet(Duration::from_secs(1)),
            ..Self::default()
        }
    }
}

/// Whose the socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// That of this run: what is still in it at the end is nobody's.
    Run,
    /// That of somebody who passed it, and may receive from it afterwards: what is not passed on stays in it, uncoalesced.
    Others,
}

/// Whom datagrams go to that come from the local end without addresses. Those with addresses (answers of an echo or of a
/// child) go to the peer they are for, whatever the audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// This address.
    Target(SocketAddr),
    /// The peer that spoke last.
    Last,
    /// The peer that spoke first.
    First,
    /// Every peer that is remembered.
    All,
    /// Only those whom datagrams with addresses are for.
    Named,
    /// Nobody.
    Nobody,
}

/// Whose datagrams are passed on. Others are counted and reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Everybody's.
    Anyone,
    /// Those of this address.
    Only(SocketAddr),
    /// Those of whoever spoke first.
    First,
}

/// What it means that the target is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Once nothing more is to be sent, it is the end.
    Ends,
    /// It is reported, and ends nothing.
    Reported,
}

/// When the local end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// When it will: only once it has finished, nothing more is to be sent.
    AtWill,
    /// At once, or never: whenever something is sent it may be the last, as if it had finished.
    InTurn,
}

/// How long to wait for answers once nothing more is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until it was quiet for so long; with zero, what has arrived is taken.
    Quiet(Duration),
    /// Nothing sent says nothing about what may come.
    Forever,
}
