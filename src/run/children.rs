//! `--exec` and `--shell`: a program in the place of standard input and output.
//! Over TCP a conversation is a connection, and each gets a child of its own; over UDP each datagram does.

use super::session::Session;
use crate::address::{BindAddress, Endpoint, Host};
use crate::batch::Shape;
use crate::cli::{AccessOptions, EndOptions, ProgramOptions};
use crate::exit::{Exit, Failure};
use crate::local::exec::Caller;
use crate::local::exec::child::Child;
use crate::local::exec::datagrams::DatagramChildren;
use crate::local::exec::supervisor::{Shutdown, Supervisor};
use crate::pump::Wiring;
use crate::sys::inherited::allow_descriptors;
use crate::sys::signals::Signals;
use crate::tap::Taps;

/// Descriptors for one child: its connection, and our ends of its two pipes.
const DESCRIPTORS_EACH: u64 = 3;

/// Descriptors that are not for clients: those of the pump, of reports, of a look-up.
pub(crate) const RESERVED: u64 = 32;

/// The program to start, and the children that run it.
#[derive(Clone)]
pub(crate) struct Children {
    supervisor: Supervisor,
    on_failure: FailedChild,
}

/// What it means for the run that a child has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailedChild {
    /// The run is the conversation of this child: it has failed as well.
    FailsTheRun,
    /// It is reported, and others go on.
    IsReported,
}

impl Session<'_> {
    /// Prepares for at most so many children at once, if the options name a program.
    pub(crate) fn prepare_program(
        &mut self,
        options: &ProgramOptions,
        ends: &EndOptions,
        (most, on_failure): (u64, FailedChild),
    ) -> anyhow::Result<Option<Children>> {
        let Some(program) = options.program()? else {
            return Ok(None);
        };
        let supervisor = Supervisor::new(program, usize::try_from(affordable(most))?)
            .map_err(|error| Failure::io("cannot prepare for children", &error))?;
        let children = Children {
            supervisor,
            on_failure,
        };
        self.replace_input(ends);
        self.children = Some(children.clone());
        Ok(Some(children))
    }
}

impl Children {
    /// A child for each connection.
    pub(crate) fn for_connections(self) -> Wiring {
        Wiring::Each(Box::new(move |link| {
            let caller = Caller::of(link).ok_or(std::io::ErrorKind::NotConnected)?;
            let child = Child::new(&self.supervisor, caller, Shape::Stream)?;
            Ok(Box::new(child))
        }))
    }

    /// One child, whose output is cut as `shape` says.
    pub(crate) fn for_peer(self, caller: Caller, shape: Shape) -> Wiring {
        Wiring::Each(Box::new(move |_| {
            let child = Child::new(&self.supervisor, caller.clone(), shape)?;
            Ok(Box::new(child))
        }))
    }

    /// A child for each datagram; answers are cut into datagrams of `size` bytes.
    pub(crate) fn for_datagrams(self, size: usize) -> Wiring {
        Wiring::Each(Box::new(move |_| {
            Ok(Box::new(DatagramChildren::new(&self.supervisor, size)?))
        }))
    }

    /// The end that reaps children, for the pump to attend to.
    pub(crate) fn supervisor(&self) -> Supervisor {
        self.supervisor.clone()
    }

    /// Lets all children end after a run that has ended with `end`, and says how it has ended on the whole.
    pub(crate) fn settle(
        &self,
        end: Result<(), Failure>,
        signals: &Signals,
        taps: &mut Taps,
    ) -> Result<(), Failure> {
        let haste = match &end {
            Err(failure) if matches!(failure.exit, Exit::TimedOut | Exit::Signal(_)) => {
                Shutdown::Immediate
            }
            _ => Shutdown::Graceful,
        };
        let settled = self.supervisor.end_all(haste, signals, taps);
        end?;
        settled.map_err(|error| Failure::io("cannot wait for children", &error))?;
        match self.on_failure {
            FailedChild::FailsTheRun => self.supervisor.verdict(),
            FailedChild::IsReported => Ok(()),
        }
    }
}

/// How many children the limit of descriptors allows, of as many as are `wanted`.
pub(crate) fn affordable(wanted: u64) -> u64 {
    let allowed = allow_descriptors(
        DESCRIPTORS_EACH
            .saturating_mul(wanted)
            .saturating_add(RESERVED),
    );
    let most = allowed.saturating_sub(RESERVED) / DESCRIPTORS_EACH;
    wanted.min(most.max(1))
}

/// Refuses to run a program for others than this machine, unless it is said for whom, or where: every interface is not one place.
pub(crate) fn refuse_open_program(
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
    if options.is_given() && is_open && !access.allows() {
        let text = "a program would be at everybody's service: say with --allow CIDR whom it is for, or name one HOST to bind";
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(())
}
