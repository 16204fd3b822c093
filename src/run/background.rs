//! Background work: a thread does what only the system can end, such as a look-up, while signals and limits are heeded.
//! A thread that takes too long is left behind, and ends with the process.

use std::io::{self, PipeReader};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::resume_unwind;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::session::Session;
use crate::address::access::Access;
use crate::address::proxy::Hop;
use crate::address::{BindAddress, Endpoint, Port, Resolver, Source, Targets};
use crate::cli::{AccessOptions, RelayTarget};
use crate::exit::{Exit, Failure};
use crate::flow::Transport;
use crate::sys::signals::{Request, Signals};
use crate::sys::wait::{Interest, Wakeup, wait};

/// Time to give up, and the limit that it comes from.
pub(crate) type Deadline = (Instant, Duration);

/// Work in a thread of its own.
pub(crate) struct Background<T> {
    /// Pipe that is at its end once the work is done.
    done: PipeReader,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts `work`.
    pub(crate) fn start(work: impl FnOnce() -> T + Send + 'static) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::io("cannot start a thread", &error);
        let (done, under_way) = io::pipe().map_err(failed)?;
        let work = move || {
            let result = work();
            drop(under_way);
            result
        };
        let thread = thread::Builder::new().spawn(work).map_err(failed)?;
        Ok(Self { done, thread })
    }

    /// Descriptor that is readable once the work is done.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }

    /// Returns true if the work is done.
    pub(super) fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Returns the result, and waits for it if the work is not done.
    pub(super) fn finish(self) -> T {
        let result = self.thread.join();
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Waits for the result until a point in time; after that, returns the work itself.
    pub(crate) fn wait(
        self,
        until: Option<Instant>,
        signals: &Signals,
    ) -> Result<Result<T, Self>, Failure> {
        if !wait_for(Some(self.done.as_fd()), signals, until)? {
            return Ok(Err(self));
        }
        Ok(Ok(self.finish()))
    }
}

/// Waits until a descriptor is readable (true) or a time has come (false).
///
/// Errors: a signal ends the run.
pub(crate) fn wait_for(
    readable: Option<BorrowedFd<'_>>,
    signals: &Signals,
    until: Option<Instant>,
) -> Result<bool, Failure> {
    let watched = readable.map(|fd| (fd, Interest::READ));
    loop {
        match wait(watched.as_slice(), Some(signals), until) {
            Ok(Wakeup::Ready(_)) => return Ok(true),
            Ok(Wakeup::TimedOut) => return Ok(false),
            Ok(Wakeup::Signal(Request::End(number))) => return Err(Failure::signal(number)),
            // There is no socket yet.
            Ok(Wakeup::Signal(Request::Show)) => {}
            Err(error) => return Err(Failure::io("cannot wait", &error)),
        }
    }
}

impl Session<'_> {
    /// Returns the addresses to bind: the first of them that this machine has.
    pub(crate) fn bind_addresses(&self, endpoint: &Endpoint) -> Result<Vec<BindAddress>, Failure> {
        let bound = endpoint.clone();
        let resolver = self.address.resolver(self.transport);
        let name = resolver.queried_name(&endpoint.host, None);
        self.look_up(resolver, name, None, move |resolver| {
            resolver.bind_addresses(&bound)
        })
    }

    /// Returns the address to send from, and those of each target port that it can reach.
    pub(crate) fn source_and_targets(
        &self,
        source: (Option<&str>, Option<&Port>),
        targets: &Targets,
        deadline: Option<Deadline>,
    ) -> Result<(Source, Vec<Vec<SocketAddr>>), Failure> {
        let (source, lists) = self.source_and_hops(source, targets, deadline)?;
        let remotes = |list: Vec<Hop>| list.iter().map(|hop| hop.remote).collect();
        Ok((source, lists.into_iter().map(remotes).collect()))
    }

    /// Returns the address to connect from, and the hops from there to each target port.
    pub(crate) fn source_and_hops(
        &self,
        source: (Option<&str>, Option<&Port>),
        targets: &Targets,
        deadline: Option<Deadline>,
    ) -> Result<(Source, Vec<Vec<Hop>>), Failure> {
        let resolver = self.address.resolver(self.transport);
        let proxy = self.proxy.clone();
        let name = resolver.queried_name_on_way(&targets.host, proxy.as_ref(), source.0);
        let targets = targets.clone();
        let (host, port) = (source.0.map(str::to_owned), source.1.cloned());
        self.look_up(resolver, name, deadline, move |resolver| {
            let source = resolver.source(host.as_deref(), port.as_ref())?;
            Ok((source, resolver.hops(&targets, proxy.as_ref(), source)?))
        })
    }

    /// Reads the access rules, and looks up the names in them.
    pub(crate) fn access(&self, options: &AccessOptions) -> Result<Access, Failure> {
        let resolver = self.address.resolver(self.transport);
        let (name, rules) = (options.name(), options.0.clone());
        self.look_up(resolver, name, None, move |resolver| {
            Access::new(&rules, &|name| resolver.addresses(name))
        })
    }

    /// Returns true for a target that only this machine reaches. A name that does not resolve now has no address yet.
    pub(super) fn is_private(&self, target: &RelayTarget) -> Result<bool, Failure> {
        let endpoint = match target {
            RelayTarget::Unix(_) => return Ok(true),
            // The address is one of the proxy's network.
            RelayTarget::Inet(..) if self.proxy.is_some() => return Ok(false),
            RelayTarget::Inet(_, endpoint) => Endpoint {
                host: endpoint.host.clone(),
                port: Port::Number(0),
            },
        };
        let resolver = self.address.resolver(Transport::Tcp);
        let name = resolver.queried_name(&endpoint.host, None);
        let found = self.look_up(resolver, name, None, move |resolver| {
            resolver.targets(&endpoint)
        });
        match found {
            Err(failure) if failure.exit == Exit::Unresolved => Ok(false),
            found => Ok(found?.iter().any(|address| {
                let ip = address.ip().to_canonical();
                ip.is_loopback() || ip.is_unspecified()
            })),
        }
    }

    /// Runs `work`, in a thread if a name server may be asked for `name`.
    fn look_up<T: Send + 'static>(
        &self,
        resolver: Resolver,
        name: Option<String>,
        deadline: Option<Deadline>,
        work: impl FnOnce(Resolver) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let Some(name) = name else {
            return work(resolver);
        };
        let deadline = self.rules.deadline.into_iter().chain(deadline).min();
        let until = deadline.map(|(until, _)| until);
        let background = Background::start(move || work(resolver))?;
        background.wait(until, self.signals)?.unwrap_or_else(|_| {
            let limit = deadline.map_or(0.0, |(_, limit)| limit.as_secs_f64());
            let text = format!("cannot resolve host '{name}': timed out after {limit} s");
            Err(Failure::new(Exit::TimedOut, text))
        })
    }
}
