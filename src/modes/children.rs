//! `--exec` and `--shell`: a program in the place of standard input and output.
//! Over TCP a conversation is a connection, and each gets a child of its own; over UDP each datagram does.

use std::rc::Rc;

use super::session::Session;
use crate::address::{BindAddress, Endpoint, Host};
use crate::batch::Shape;
use crate::cli::{AccessOptions, EndOptions, ProgramOptions};
use crate::exit::{Exit, Failure};
use crate::local::child::Child;
use crate::local::crowd::Crowd;
use crate::local::nursery::{Haste, Nursery};
use crate::local::program::{Caller, Program};
use crate::pump::Wiring;
use crate::sys::limits::allow_descriptors;
use crate::sys::signals::Signals;
use crate::tap::Taps;

/// Descriptors for one child: its connection, and the two ends of pipes that are ours.
const DESCRIPTORS_EACH: u64 = 3;

/// Descriptors that are not for clients: those of the pump, of reports, of a look-up.
pub(super) const RESERVED: u64 = 32;

/// The program to start, and those that were started.
#[derive(Clone)]
pub(super) struct Children {
    program: Rc<Program>,
    nursery: Nursery,
    weight: Weight,
}

/// What it means for the run that a child has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// The run is its conversation: it has failed as well.
    Whole,
    /// It is reported, and others go on.
    Part,
}

impl Session<'_> {
    /// Prepares for so many children at once, if the options name a program.
    pub(super) fn employ(
        &mut self,
        options: &ProgramOptions,
        ends: &EndOptions,
        (most, weight): (u64, Weight),
    ) -> anyhow::Result<Option<Children>> {
        let Some(program) = options.program()? else {
            return Ok(None);
        };
        let nursery = Nursery::new(usize::try_from(affordable(most))?)
            .map_err(|error| Failure::io("cannot prepare for children", &error))?;
        let children = Children {
            program: Rc::new(program),
            nursery,
            weight,
        };
        self.replace_input(ends);
        self.children = Some(children.clone());
        Ok(Some(children))
    }
}

impl Children {
    /// A child for each connection.
    pub(super) fn for_connections(self) -> Wiring {
        let Self {
            program, nursery, ..
        } = self;
        Wiring::Each(Box::new(move |link| {
            let caller = Caller::behind(link).ok_or(std::io::ErrorKind::NotConnected)?;
            let child = Child::new(&nursery, &program, caller, Shape::Stream)?;
            Ok(Box::new(child))
        }))
    }

    /// One child, whose output is cut as `shape` says.
    pub(super) fn for_peer(self, caller: Caller, shape: Shape) -> Wiring {
        let Self {
            program, nursery, ..
        } = self;
        Wiring::Each(Box::new(move |_| {
            Ok(Box::new(Child::new(&nursery, &program, caller, shape)?))
        }))
    }

    /// A child for each datagram; answers are cut into datagrams of `size` bytes.
    pub(super) fn for_datagrams(self, size: usize) -> Wiring {
        let Self {
            program, nursery, ..
        } = self;
        Wiring::Each(Box::new(move |_| {
            Ok(Box::new(Crowd::new(&nursery, &program, size)?))
        }))
    }

    /// For the pump: what sees to children that have ended, or should have.
    pub(super) fn nursery(&self) -> Nursery {
        self.nursery.clone()
    }

    /// Lets all children end after a run that has ended so, and says how it ended on the whole.
    pub(super) fn settle(
        &self,
        end: Result<Exit, Failure>,
        signals: &Signals,
        taps: &mut Taps,
    ) -> Result<Exit, Failure> {
        let haste = match &end {
            Ok(Exit::Signal(_)) => Haste::Urgent,
            Err(failure) if failure.exit == Exit::TimedOut => Haste::Urgent,
            _ => Haste::Patient,
        };
        let settled = self.nursery.settle(haste, signals, taps);
        let end = end?;
        settled.map_err(|error| Failure::io("cannot wait for children", &error))?;
        if (end, self.weight) == (Exit::Done, Weight::Whole) {
            self.nursery.verdict()?;
        }
        Ok(end)
    }
}

/// How many peers of a program the limit of descriptors allows, at most so many.
pub(super) fn affordable(wanted: u64) -> u64 {
    let allowed = allow_descriptors(
        DESCRIPTORS_EACH
            .saturating_mul(wanted)
            .saturating_add(RESERVED),
    );
    let most = allowed.saturating_sub(RESERVED) / DESCRIPTORS_EACH;
    wanted.min(most.max(1))
}

/// Refuses to run a program for others than this machine, unless it is said for whom, or where: every interface is not one place.
pub(super) fn guard(
    options: &ProgramOptions,
    endpoint: &Endpoint,
    addresses: &[BindAddress],
    access: &AccessOptions,
) -> Result<(), Failure> {
    let is_named = matches!(endpoint.host, Host::Named(_));
    let is_open = addresses.iter().any(|bind| {
        let ip = bind.address.ip();
        ip.is_unspecified() || !(is_named || ip.is_loopback())
    });
    if options.is_given() && is_open && !access.allow_somebody() {
        let text = "a program would be at everybody's service: say with --allow CIDR whom it is for, or name one HOST to bind";
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(())
}
