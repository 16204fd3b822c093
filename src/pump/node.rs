//! Nodes of the pump: each is one end, and the lane that carries what comes from it to the ends of other nodes.
//! A lane holds one chunk at most. Until that is delivered nothing more is read: that is all the flow control there is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use slab::Slab;

use super::close::Ended;
use super::drain::Drain;
use super::end::{Close, End, Link, Readiness, Wait};
use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::flow::Identity;
use crate::sys::splice::Splice;

/// Time for which what has arrived is looked at before an idle limit ends a link.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// Number of a node, valid for as long as the node is in the pump.
pub(super) type NodeId = usize;

/// End in the pump, and the lane that carries what comes from it. There may be very many: rare state is boxed.
pub(super) struct Node {
    pub(super) party: Party,
    pub(super) lane: Lane,
    /// Destination of the lane.
    pub(super) route: Route,
    /// The end it is joined to: of a link its local end or the link it is relayed to, of a local end of one link that link. All
    /// others are joined to themselves.
    pub(super) partner: NodeId,
    /// Lanes that wait until this end takes more, if there are any.
    pub(super) queue: Option<Box<Queue>>,
    pub(super) outgoing: Outgoing,
    /// True for a local end that is of no use once its link has failed.
    pub(super) only_answers: bool,
    /// Silence of a link in both directions.
    pub(super) silence: Silence,
    /// True once it has returned [`Arrival::Enough`](super::end::Arrival::Enough).
    pub(super) has_enough: bool,
    /// Reason why nothing more can be sent to it.
    pub(super) failure: Option<Box<Failure>>,
    /// Manner in which the link will be closed.
    pub(super) close: Close,
}

/// End, and the side of the pump it is on.
pub(super) enum Party {
    /// Local end that all links share.
    Shared(Box<dyn End>),
    /// Local end of one link alone.
    Own(Box<dyn End>),
    /// Socket.
    Link(Box<dyn Link>),
}

/// State of the direction towards an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// Bytes may be sent.
    Open,
    /// `finish` has returned `WouldBlock` and is asked again.
    Finishing,
    /// Nothing more will be sent: half-closed, if it is a connection.
    Finished,
}

/// Destination of what comes from an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The partner of the end; an echo is its own.
    Partner,
    /// The links, as the rules choose among them.
    Links,
    /// The partner of the end, and every other link.
    Others,
}

impl Party {
    pub(super) fn end(&self) -> &dyn End {
        match self {
            Self::Shared(end) | Self::Own(end) => end.as_ref(),
            Self::Link(link) => link.as_ref(),
        }
    }

    pub(super) fn end_mut(&mut self) -> &mut dyn End {
        match self {
            Self::Shared(end) | Self::Own(end) => end.as_mut(),
            Self::Link(link) => link.as_mut(),
        }
    }

    pub(super) fn link(&self) -> Option<&dyn Link> {
        match self {
            Self::Shared(_) | Self::Own(_) => None,
            Self::Link(link) => Some(link.as_ref()),
        }
    }
}

/// Path from one end to others.
#[derive(Default)]
pub(super) struct Lane {
    /// Load that some have not taken yet.
    pub(super) in_flight: Option<Box<InFlight>>,
    /// True while it stands in the queue of its sink without a load, to read when the sink has room.
    pub(super) waits_for_sink: bool,
    pub(super) splicing: Splicing,
    /// True if the last read or splice moved so much that splicing pays.
    pub(super) is_bulk: bool,
    /// True once anything has come from here, if only an empty datagram.
    pub(super) has_given: bool,
    /// Drain, where what comes is dropped.
    pub(super) drain: Option<Box<Drain>>,
    /// State since nothing more comes from here.
    pub(super) ended: Option<Box<Ended>>,
}

/// State of moving bytes of a lane inside the kernel.
#[derive(Default)]
pub(super) enum Splicing {
    /// Bytes are copied, and may be spliced once they are many.
    #[default]
    Idle,
    /// The kernel moves them.
    Active(Box<Splice>),
    /// The kernel cannot move them here.
    Declined,
}

/// Load of a lane, and the number of nodes that have still to take all of it.
pub(super) struct InFlight {
    pub(super) load: Load,
    pub(super) awaited: usize,
}

/// Bytes, or the end of a stream, which follows its bytes in the same order.
pub(super) enum Load {
    Batch(Batch),
    End(Identity),
}

/// Lanes that wait for one end, in order. Those behind the first have written nothing yet: batches are never interleaved.
pub(super) struct Queue {
    /// Each lane with the part of its load that is taken; a lane without a load waits to read one.
    pub(super) lanes: VecDeque<(NodeId, Cursor)>,
    /// Silence of the end while they wait.
    pub(super) silence: Silence,
}

/// Time in which nothing has moved over a link, as far as this process knows.
///
/// A large send buffer hides from the socket calls that a slow peer still takes bytes, so the kernel is asked what the peer has
/// acknowledged: in the middle and at the end of the time that a limit allows.
pub(super) struct Silence {
    since: Instant,
    /// Bytes that were not acknowledged when that was last asked.
    unacknowledged: Option<u32>,
    /// Time at which it was first seen that it has lasted too long.
    overdue: Option<Instant>,
}

impl Silence {
    pub(super) fn new(since: Instant) -> Self {
        Self {
            since,
            unacknowledged: None,
            overdue: None,
        }
    }

    /// Returns the time since which nothing has moved.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Returns true if it is known that nothing has moved. After a time in which this process did not run, what has arrived meanwhile
    /// is looked at first, but not for long: all of it may be ignored.
    pub(super) fn has_looked(&mut self, now: Instant, is_runnable: bool) -> bool {
        let is_first = self.overdue.is_none();
        let first = *self.overdue.get_or_insert(now);
        !is_first && (!is_runnable || now >= first + LAST_LOOK)
    }

    /// Returns the time at which to look again, or `None` if nothing has moved for `limit`.
    pub(super) fn check(
        &mut self,
        now: Instant,
        limit: Duration,
        unacknowledged: impl FnOnce() -> usize,
    ) -> Option<Instant> {
        let (middle, end) = (self.since + limit / 2, self.since + limit);
        if now < middle {
            return Some(middle);
        }
        let left = u32::try_from(unacknowledged()).unwrap_or(u32::MAX);
        let before = self.unacknowledged.replace(left);
        match before {
            Some(before) if left < before => {
                (self.since, self.overdue) = (now, None);
                Some(now + limit / 2)
            }
            // Nothing is known of the time before, in which this process may have been stopped.
            None if left > 0 => Some(end.max(now + limit / 2)),
            _ if now < end => Some(end),
            _ => None,
        }
    }
}

impl Lane {
    /// Returns true if it stands in a queue, with a load or without.
    pub(super) fn is_waiting(&self) -> bool {
        self.in_flight.is_some() || self.waits_for_sink
    }

    /// Returns the state since its end, which begins now if it has not begun.
    pub(super) fn end(&mut self, now: Instant) -> &mut Ended {
        self.ended.get_or_insert_with(|| Box::new(Ended::new(now)))
    }
}

impl Node {
    pub(super) fn new(party: Party, route: Route, partner: NodeId) -> Self {
        Self {
            party,
            lane: Lane::default(),
            route,
            partner,
            queue: None,
            outgoing: Outgoing::Open,
            only_answers: false,
            silence: Silence::new(Instant::now()),
            has_enough: false,
            failure: None,
            close: Close::Orderly,
        }
    }

    pub(super) fn readiness(&self) -> Readiness<'_> {
        self.party.end().readiness()
    }

    /// Returns true if bytes can be sent to it, now or once it has room.
    pub(super) fn is_open_to_send(&self) -> bool {
        let is_open = self.failure.is_none() && self.outgoing == Outgoing::Open;
        is_open && !matches!(self.readiness().send, Wait::Never)
    }

    /// Returns true if its lane could go on if the end had something to read.
    pub(super) fn may_give(&self) -> bool {
        let lane = &self.lane;
        (lane.ended.is_none() || lane.drain.is_some()) && !lane.is_waiting()
    }

    /// Returns true if something waits to be sent to it.
    pub(super) fn wants_to_send(&self) -> bool {
        self.queue.is_some() || self.outgoing == Outgoing::Finishing
    }
}

/// All nodes, and those of them that are links.
#[derive(Default)]
pub(super) struct Nodes {
    pub(super) slab: Slab<Node>,
    /// Links that only bring other links: listening sockets.
    pub(super) listeners: Vec<NodeId>,
    /// All other links, in order of arrival.
    pub(super) links: Vec<NodeId>,
}

impl Nodes {
    /// Adds an end that is its own partner.
    pub(super) fn add(&mut self, party: Party, route: Route) -> NodeId {
        let id = self.slab.vacant_key();
        self.slab.insert(Node::new(party, route, id))
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        self.slab.get(id)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.slab.get_mut(id)
    }

    pub(super) fn link_mut(&mut self, id: NodeId) -> Option<&mut Box<dyn Link>> {
        match &mut self.slab.get_mut(id)?.party {
            Party::Link(link) => Some(link),
            Party::Shared(_) | Party::Own(_) => None,
        }
    }

    /// Returns true if `id` is the local end of one link alone.
    pub(super) fn is_own(&self, id: NodeId) -> bool {
        let node = self.get(id);
        node.is_some_and(|node| matches!(node.party, Party::Own(_)))
    }

    /// Returns true if `id` is joined to another link.
    pub(super) fn is_relayed(&self, id: NodeId) -> bool {
        let partner = self.get(id).map_or(id, |node| node.partner);
        partner != id && (self.get(partner)).is_some_and(|node| node.party.link().is_some())
    }

    /// Returns true if nothing more will come from a node.
    pub(super) fn has_ended(&self, id: NodeId) -> bool {
        self.get(id).is_none_or(|node| node.lane.ended.is_some())
    }

    /// Returns the links that can be sent to, in order of arrival.
    pub(super) fn open_links(&self) -> impl DoubleEndedIterator<Item = NodeId> + '_ {
        let links = self.links.iter().copied();
        links.filter(|&id| self.slab[id].is_open_to_send())
    }

    /// Returns the first lane in the queue of `to`, and the part of its load that is taken.
    pub(super) fn first_in_queue(&self, to: NodeId) -> Option<(NodeId, Cursor)> {
        let queue = self.get(to)?.queue.as_ref()?;
        queue.lanes.front().copied()
    }

    /// Returns true if a load waits at the head of a queue, so that all others have to wait behind it.
    pub(super) fn is_busy(&self, to: NodeId) -> bool {
        let first = self.first_in_queue(to);
        first.is_some_and(|(from, _)| self.slab[from].lane.in_flight.is_some())
    }

    /// Strikes a link off the lists.
    pub(super) fn unlist(&mut self, id: NodeId) {
        for list in [&mut self.links, &mut self.listeners] {
            if let Some(at) = list.iter().position(|&other| other == id) {
                list.remove(at);
            }
        }
    }
}

impl std::ops::Index<NodeId> for Nodes {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        &self.slab[id]
    }
}

impl std::ops::IndexMut<NodeId> for Nodes {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.slab[id]
    }
}
