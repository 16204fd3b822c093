//! The state of one end and of the lane that begins at it.
//! A lane holds one batch at the most: while it is not delivered nothing more is fetched, and that is all the flow control there is.

use std::collections::VecDeque;
use std::time::Instant;

use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::pump::end::{End, Link};
use crate::pump::receipt::Receipt;
use crate::sys::conduit::Conduit;
use crate::sys::poller::Interest;

/// Names a port while it is in the pump.
pub(super) type PortId = usize;

/// An end in the pump, and the lane that carries what comes from it. There may be very many: what is rare is boxed.
pub(super) struct Port {
    pub(super) party: Party,
    pub(super) lane: Lane,
    /// Where the lane leads to.
    pub(super) route: Route,
    /// The port whose end is the end of what is sent here.
    pub(super) fed_by: PortId,
    /// Lanes that wait until this end takes more, if there are any.
    pub(super) queue: Option<Box<Queue>>,
    /// It is to be looked at again at this time.
    pub(super) alarm: Option<Instant>,
    /// What its peer has still to acknowledge at the end.
    pub(super) receipt: Option<Box<Receipt>>,
    /// Whether it has been told that nothing more will be sent.
    pub(super) is_finished: bool,
    /// Whether it has said that there is no reason to go on in either direction.
    pub(super) has_enough: bool,
    /// Why nothing more can be sent to it.
    pub(super) failure: Option<Box<Failure>>,
}

/// Which side of the pump an end is on.
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
    /// This one; an echo leads to where it begins.
    To(PortId),
    /// The links, as the rules choose among them.
    Links,
    /// Every other link, and this one.
    Others(PortId),
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
    /// How the kernel carries bytes from here without showing them, once that has been tried.
    pub(super) bypass: Bypass,
    /// How many bytes came from here last; `None` as long as nothing did.
    pub(super) last: Option<usize>,
    /// Since when nothing more will come from here.
    pub(super) ended: Option<Instant>,
    /// Whether those who hold something begun of it have been told of the end.
    pub(super) is_marked: bool,
    /// Whether the user has been told what is being waited for.
    pub(super) noticed: bool,
}

/// A batch, and how many have still to get it.
pub(super) struct UnderWay {
    pub(super) batch: Batch,
    pub(super) awaited: usize,
}

/// The lanes that wait for one end, in order. Those behind the first have not begun: nobody's bytes come between those of another.
pub(super) struct Queue {
    /// Each with how much of its batch is taken; a lane without a batch waits to fetch one.
    pub(super) lanes: VecDeque<(PortId, Cursor)>,
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

/// Whether the kernel can move the bytes of a lane by itself.
#[derive(Default)]
pub(super) enum Bypass {
    /// Not tried yet.
    #[default]
    Untried,
    /// It does so.
    Open(Box<Conduit>),
    /// It cannot.
    Closed,
}

impl Lane {
    /// Whether it stands in a line, with a batch or without.
    pub(super) fn is_waiting(&self) -> bool {
        self.under_way.is_some() || self.waits_for == Side::Sink
    }
}

impl Port {
    pub(super) fn new(party: Party, route: Route, fed_by: PortId) -> Self {
        Self {
            party,
            lane: Lane::default(),
            route,
            fed_by,
            queue: None,
            alarm: None,
            receipt: None,
            is_finished: false,
            has_enough: false,
            failure: None,
        }
    }

    /// Whether bytes can be sent to it now or later.
    pub(super) fn is_open_to_send(&self) -> bool {
        self.failure.is_none() && self.party.end().is_addressed()
    }

    /// Whether its lane could go on if the end had something.
    pub(super) fn may_give(&self) -> bool {
        self.lane.ended.is_none() && !self.lane.is_waiting()
    }

    /// Whether it is asked for more without waiting for its source.
    pub(super) fn gives_unasked(&self) -> bool {
        let end = self.party.end();
        self.lane.ended.is_none() && (end.source().is_none() || end.is_pending())
    }

    /// Whether those who wait for it are tried without waiting for its sink.
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

    /// Whether it is a link to which something may still be sent although nothing more comes from it, not even an error.
    pub(super) fn is_half_over(&self) -> bool {
        let may_break_off = self.party.link().is_some_and(Link::may_break_off);
        may_break_off && self.lane.ended.is_some() && !self.is_finished && self.failure.is_none()
    }
}
