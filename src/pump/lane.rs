//! The state of one end and of the lane that begins at it.
//! A lane holds one batch at the most: while it is not delivered nothing more is fetched, and that is all the flow control there is.

use std::time::Instant;

use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::pump::end::{End, Link};
use crate::sys::conduit::Conduit;
use crate::sys::poller::Interest;

/// Names a port while it is in the pump.
pub(super) type PortId = usize;

/// An end in the pump, and the lane that carries what comes from it.
pub(super) struct Port {
    pub(super) party: Party,
    pub(super) lane: Lane,
    /// Where the lane leads to.
    pub(super) route: Route,
    /// The port whose end is the end of what is sent here.
    pub(super) fed_by: PortId,
    /// Lanes that wait until this end takes more.
    pub(super) blocked: Vec<PortId>,
    /// The lane whose batch this end has taken in part: nobody else's bytes come between.
    pub(super) occupied: Option<PortId>,
    /// Whether it has been told that nothing more will be sent.
    pub(super) is_finished: bool,
    /// Why nothing more can be sent to it.
    pub(super) failure: Option<Failure>,
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
    /// Bytes fetched and not yet delivered to everybody.
    pub(super) batch: Option<Batch>,
    /// Who gets them, and how far each has got.
    pub(super) recipients: Vec<(PortId, Cursor)>,
    /// What it waits for while it holds no batch.
    pub(super) waits_for: Side,
    /// How the kernel carries bytes from here without showing them, once that has been tried.
    pub(super) bypass: Bypass,
    /// Since when a recipient has taken nothing of the batch.
    pub(super) stalled: Option<Instant>,
    /// The end is to be asked again at this time.
    pub(super) wake: Option<Instant>,
    /// Whether anything ever came from here.
    pub(super) has_given: bool,
    /// Since when nothing more will come from here.
    pub(super) ended: Option<Instant>,
    /// Whether the user has been told what is being waited for.
    pub(super) noticed: bool,
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
    Open(Conduit),
    /// It cannot.
    Closed,
}

impl Port {
    pub(super) fn new(party: Party, route: Route, fed_by: PortId) -> Self {
        Self {
            party,
            lane: Lane::default(),
            route,
            fed_by,
            blocked: Vec::new(),
            occupied: None,
            is_finished: false,
            failure: None,
        }
    }

    /// Whether bytes can be sent to it now or later.
    pub(super) fn is_open_to_send(&self) -> bool {
        self.failure.is_none() && self.party.end().is_addressed()
    }

    /// Whether its lane could go on if the end had something.
    pub(super) fn may_give(&self) -> bool {
        self.lane.ended.is_none()
            && self.lane.batch.is_none()
            && self.lane.waits_for == Side::Source
    }

    /// What to wait for on its descriptors, from its state alone.
    pub(super) fn interest(&self, is_wanted: bool) -> Interest {
        Interest {
            read: is_wanted && self.may_give(),
            write: !self.blocked.is_empty(),
            hangup: self.failure.is_none() && self.party.end().sink_lost().is_some(),
        }
    }
}
