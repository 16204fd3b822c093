//! Settings of a UDP socket, as plain data that a mode chooses.
//! A socket that waits for peers and one that sends first differ in these values only.

use std::net::SocketAddr;
use std::time::Duration;

use super::peers::Numbering;
use crate::address::access::Access;
use crate::pump::rules::Engine;

/// Behaviour of a [`Socket`](super::Socket). By default it answers the latest sender.
///
/// [`Datagrams`](crate::link::unix::Datagrams) of a Unix socket have the same limits and ends, and an audience with other addresses.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Recipients of datagrams from the local end.
    pub audience: Audience,
    /// Senders whose datagrams are passed on.
    pub accepts: Accepts,
    /// Senders that are allowed at all.
    pub access: Access,
    /// Connects the socket to the target: the kernel filters, and the socket has two addresses.
    pub connected: bool,
    /// Meaning of an unreachable target.
    pub refusal: Refusal,
    /// Time to wait for replies, counted from the latest one. Zero takes what has arrived; `None` waits without a limit.
    pub reply_timeout: Option<Duration>,
    /// Moment from which replies are waited for.
    pub reply_timer: ReplyTimer,
    /// Number of datagrams to pass on before the end.
    pub wanted: Option<u64>,
    /// Bytes to pass on at most. The end comes before the datagram that would exceed them: datagrams are never cut.
    pub max_bytes: Option<u64>,
    /// An empty datagram ends the data: one is sent at the end, and one received is the end.
    pub eof_datagram: bool,
    /// Most bytes of a datagram that is sent: a longer answer is not sent.
    pub max_sent: Option<usize>,
    /// Bytes of a datagram that are kept, 65,535 by default. Longer ones are truncated.
    pub max_datagram: Option<usize>,
    /// Number of peers to remember, 1024 by default. A further one replaces the peer that is idle longest.
    pub max_peers: Option<usize>,
    /// Many datagrams a system call (`UDP_GRO`, `UDP_SEGMENT`, `recvmmsg`, `sendmmsg`), or one.
    pub engine: Engine,
    /// Owner of the socket.
    pub owner: Owner,
    /// Name of the interface for multicast, where the routes do not decide.
    pub multicast_if: Option<String>,
    /// Numbers in reports.
    pub numbering: Numbering,
    /// Lost datagrams make the status [`Exit::DataLost`](crate::exit::Exit::DataLost).
    pub fail_on_loss: bool,
}

impl Settings {
    /// Returns the settings of a socket that sends first, to `target`, and accepts datagrams of no other sender.
    pub fn towards(target: SocketAddr) -> Self {
        Self {
            refusal: Refusal::Ends,
            reply_timeout: Some(Duration::from_secs(1)),
            ..Self::default().with_target(target)
        }
    }

    /// Sends to `target`, and accepts datagrams of no other sender.
    pub fn with_target(self, target: SocketAddr) -> Self {
        Self {
            audience: Audience::Target(target),
            accepts: Accepts::Only(target),
            ..self
        }
    }
}

/// Owner of the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// This run. Datagrams that are still in the socket at the end are lost.
    #[default]
    Run,
    /// The process that passed it, which may receive from it later. Datagrams that are not passed on stay in it, uncoalesced.
    Others,
}

/// Recipients of datagrams that come from the local end without addresses. Datagrams with addresses (answers of an echo or of a
/// child) go to the peer that they name, unless there is a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience<A = SocketAddr> {
    /// This address, whatever addresses the datagrams have.
    Target(A),
    /// The latest sender.
    #[default]
    Last,
    /// The first sender.
    First,
    /// Every peer that is remembered.
    All,
    /// Only the peers that datagrams with addresses name.
    Named,
    /// No peer.
    None,
}

impl<A> Audience<A> {
    /// Returns true if datagrams from the local end may have a recipient; `has_peers` once a peer is known.
    pub(in crate::link) fn is_reachable(&self, has_peers: bool) -> bool {
        match self {
            Self::Target(_) | Self::Named => true,
            Self::Last | Self::First | Self::All => has_peers,
            Self::None => false,
        }
    }
}

/// Senders whose datagrams are passed on. Datagrams of others are counted and reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accepts {
    /// Every sender.
    #[default]
    Anyone,
    /// This address.
    Only(SocketAddr),
    /// The first sender.
    First,
}

impl Accepts {
    /// Accepts every sender, or only the first one.
    pub fn all_or_first(is_first_only: bool) -> Self {
        if is_first_only {
            Self::First
        } else {
            Self::Anyone
        }
    }
}

/// Meaning of an unreachable target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// It is the end, once nothing more is to be sent.
    Ends,
    /// It is reported, and ends nothing.
    #[default]
    Reported,
}

/// Moment from which replies are waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyTimer {
    /// The end of the local end's data.
    #[default]
    AfterEof,
    /// Every datagram sent: each may be the last.
    AfterEachSend,
}
