//! A node of the pump: one end, and the lane that carries what comes from it to the ends of other nodes.
//! A lane holds one batch at the most. Until that is delivered nothing more is read: that is all the flow control there is.

use std::collections::VecDeque;
use std::time::Instant;

use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::pump::acknowledgement::Unacknowledged;
use crate::pump::end::{End, Link};
use crate::sys::conduit::{Conduit, WORTHWHILE};
use crate::sys::wait::Interest;

/// The number of a node, its own for as long as it is in the pump.
pub(super) type NodeId = usize;

/// An end in the pump, and the lane that carries what comes from it. There may be very many: what is rare is boxed.
pub(super) struct Node {
    pub(super) party: Party,
    pub(super) lane: Lane,
    /// Where the lane leads to.
    pub(super) route: Route,
    /// Whom it talks with: a link with the local end that it is joined to, a local end of one link alone with that link, and all
    /// others with themselves. When nothing more will come from the partner of a link, the link is told that nothing more will be
    /// sent.
    pub(super) partner: NodeId,
    /// Lanes that wait until this end is writable, if there are any.
    pub(super) queue: Option<Box<Queue>>,
    /// Whether it has been told that nothing more will be sent: half-closed, if it is a connection.
    pub(super) is_finished: bool,
    /// Whether it has said [`Arrival::Enough`](super::end::Arrival::Enough).
    pub(super) has_enough: bool,
    /// Why nothing more can be sent to it.
    pub(super) failure: Option<Box<Failure>>,
}

/// An end, and which side of the pump it is on.
pub(super) enum Party {
    /// Standard input and output, or what stands for them, for all links together.
    Shared(Box<dyn End>),
    /// A local end of one link alone.
    Own(Box<dyn End>),
    /// A socket.
    Link(Box<dyn Link>),
}

/// Who gets what comes from an end.
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

/// What is on its way from one end to others.
#[derive(Default)]
pub(super) struct Lane {
    /// A batch that some have not got yet.
    pub(super) under_way: Option<Box<UnderWay>>,
    /// What it waits for while it holds no batch: the source, or its turn in the queue of the sink.
    pub(super) waits_for: Side,
    /// By which the kernel carries bytes from here by itself, once it has been asked to.
    pub(super) bypass: Option<Box<Conduit>>,
    /// Whether it cannot, or is not to.
    pub(super) is_copied: bool,
    /// How much came from here at a time, the last time.
    pub(super) last: Amount,
    /// How often in a row there was only a little for the kernel to carry.
    pub(super) scraps: u8,
    /// How many batches are copied before the kernel is asked again.
    pub(super) copies: u8,
    /// That nothing more will come from here.
    pub(super) ended: Option<Box<Ended>>,
}

/// What has happened since nothing more comes from an end.
pub(super) struct Ended {
    pub(super) since: Instant,
    /// Whether a shared end has been shown the end of this stream.
    pub(super) is_marked: bool,
    /// Whether the user has been told what is being waited for.
    pub(super) is_told: bool,
    /// What the peer has still to acknowledge before the link is closed.
    pub(super) unacknowledged: Option<Unacknowledged>,
}

/// A batch, and how many nodes have still to take all of it.
pub(super) struct UnderWay {
    pub(super) batch: Batch,
    pub(super) awaited: usize,
}

/// The lanes that wait for one end, in order. Those behind the first have written nothing yet: batches are never interleaved.
pub(super) struct Queue {
    /// Each with how much of its batch is taken; a lane without a batch waits to read one.
    pub(super) lanes: VecDeque<(NodeId, Cursor)>,
    /// Since when the end has taken nothing.
    pub(super) since: Instant,
}

/// One of the two sides of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Side {
    /// The end it begins at.
    #[default]
    Source,
    /// The end it leads to.
    Sink,
}

/// How much came from an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Amount {
    /// Not even an empty datagram.
    #[default]
    Nothing,
    /// So little that it costs less to copy it from a pipe than to move its pages.
    Little,
    /// More than that.
    Much,
}

impl Amount {
    /// That of something that came and has `len` bytes.
    pub(super) fn of(len: usize) -> Self {
        if len < WORTHWHILE {
            Self::Little
        } else {
            Self::Much
        }
    }
}

impl Lane {
    /// Whether it stands in a queue, with a batch or without.
    pub(super) fn is_waiting(&self) -> bool {
        self.under_way.is_some() || self.waits_for == Side::Sink
    }

    /// Notes that nothing more will come from here, if that is not noted yet.
    pub(super) fn end(&mut self, now: Instant) -> &mut Ended {
        self.ended.get_or_insert_with(|| {
            Box::new(Ended {
                since: now,
                is_marked: false,
                is_told: false,
                unacknowledged: None,
            })
        })
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
            is_finished: false,
            has_enough: false,
            failure: None,
        }
    }

    /// Whether bytes can be sent to it now or later.
    pub(super) fn is_open_to_send(&self) -> bool {
        self.failure.is_none() && self.party.end().is_addressed()
    }

    /// Whether its lane could go on if the end had something to read.
    pub(super) fn may_give(&self) -> bool {
        self.lane.ended.is_none() && !self.lane.is_waiting()
    }

    /// Whether it is read without waiting until its source is readable.
    pub(super) fn gives_unasked(&self) -> bool {
        let end = self.party.end();
        self.lane.ended.is_none() && (end.source().is_none() || end.is_pending())
    }

    /// Whether the lanes in its queue are tried without waiting until its sink is writable.
    pub(super) fn takes_unasked(&self) -> bool {
        self.queue.is_some() && self.party.end().sink().is_none()
    }

    /// What to wait for on its descriptors, from its state alone.
    pub(super) fn interest(&self, is_wanted: bool) -> Interest {
        let is_watched = self.is_half_over() || self.party.end().sink_lost().is_some();
        Interest {
            read: is_wanted && self.may_give(),
            write: self.queue.is_some(),
            hangup: self.failure.is_none() && is_watched,
        }
    }

    /// Whether it is a link whose peer has finished, and to which something may still be sent. Nothing is read that would report
    /// an error of it: only the descriptor does.
    pub(super) fn is_half_over(&self) -> bool {
        let may_hang_up = self.party.link().is_some_and(Link::may_hang_up);
        may_hang_up && self.lane.ended.is_some() && !self.is_finished && self.failure.is_none()
    }
}
