//! Local ends: standard input and output, or what the options put in their place.
//! A program, fixed answers or an echo serves each link or all of them, and standard input is not read.

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};

use super::relay::Route;
use super::session::Session;
use crate::address::access::Access;
use crate::address::{BindAddress, Host};
use crate::batch::Shape;
use crate::cli::{CommonOptions, ProgramOptions, RelayTarget, ResponderOptions, ServerOptions};
use crate::exit::{Exit, Failure};
use crate::flow::Flow;
use crate::framing::LineEnds;
use crate::local::exec::Caller;
use crate::local::exec::child::Child;
use crate::local::exec::datagrams::DatagramChildren;
use crate::local::exec::supervisor::{Shutdown, Supervisor};
use crate::local::out_dir::OpenDir;
use crate::local::responder::{Answers, Responder};
use crate::local::stdio::Stdio;
use crate::pump::end::{End, Link};
use crate::pump::{Partner, Wiring};
use crate::sys::inherited::allow_descriptors;
use crate::sys::sandbox::Rights;
use crate::sys::signals::Signals;
use crate::tap::Taps;

/// Local end of every link of a run.
#[derive(Clone)]
pub(crate) enum LocalEnd {
    /// Standard input and output, shared by all links.
    Stdio(ClientOutput),
    /// The same; each link also gets what the others send.
    Broker(ClientOutput),
    /// Each link gets back what it sends.
    Echo,
    /// Fixed answers.
    Answers(Rc<Answers>),
    /// A program.
    Children(Children),
    /// A connection to a target.
    Relay(Rc<Route>),
}

/// Form of the output of several clients.
#[derive(Clone)]
pub(crate) enum ClientOutput {
    /// Bytes as they come.
    Plain,
    /// Whole lines, each behind the 4-tuple it came over.
    Prefixed,
    /// A file for each client.
    Files(OpenDir),
}

/// Program to start, and the children that run it.
#[derive(Clone)]
pub(crate) struct Children {
    /// The end that reaps the children, for the pump to attend to.
    pub(super) supervisor: Supervisor,
    pub(crate) scope: ChildScope,
    /// Treatment of the line ends in their output.
    ends: LineEnds,
}

/// Peers and data that one child is for.
#[derive(Clone)]
pub(crate) enum ChildScope {
    /// The only connection of the run, which fails if the child does.
    OnlyConnection,
    /// One of several connections. A failed child is reported, and the others go on.
    Connection,
    /// The only peer of the run, which fails if the child does; output goes to it in datagrams of so many bytes.
    OnlyPeer(Flow, usize),
    /// One datagram; output is the answer to it, in datagrams of so many bytes.
    Datagram(usize),
}

impl LocalEnd {
    /// Returns the local end of a client: one program for its one peer, or standard input and output.
    pub(crate) fn of_client(common: &CommonOptions) -> Result<Self> {
        Self::new(common, 1, ChildScope::OnlyConnection)
    }

    fn new(common: &CommonOptions, max_children: u64, scope: ChildScope) -> Result<Self> {
        let Some(program) = common.program.program()? else {
            return Ok(Self::Stdio(ClientOutput::Plain));
        };
        let most = affordable(max_children, DESCRIPTORS_PER_CHILD);
        let supervisor = Supervisor::new(program, usize::try_from(most)?);
        Ok(Self::Children(Children {
            supervisor: supervisor.context("cannot prepare for children")?,
            scope,
            ends: common.framing.ends(),
        }))
    }

    /// Returns the local end of a server. No fixed answer is longer than `limit` bytes.
    pub(crate) fn of_server(
        common: &CommonOptions,
        server: &ServerOptions,
        (max_children, scope): (u64, ChildScope),
        limit: usize,
    ) -> Result<Self> {
        Ok(match answers(&server.responder, limit)? {
            Some(answers) => Self::Answers(answers),
            None if server.echo => Self::Echo,
            None => Self::new(common, max_children, scope)?,
        })
    }

    /// Returns true if something takes the place of standard input.
    pub(crate) fn replaces_stdin(&self) -> bool {
        matches!(self, Self::Answers(_) | Self::Children(_) | Self::Relay(_))
    }

    /// Returns the children, if there is a program.
    pub(super) fn children(&self) -> Option<&Children> {
        match self {
            Self::Children(children) => Some(children),
            _ => None,
        }
    }

    /// Returns the rights that it needs while the run goes on.
    pub(super) fn rights(&self) -> Rights<'_> {
        match self {
            Self::Stdio(ClientOutput::Files(dir)) | Self::Broker(ClientOutput::Files(dir)) => {
                Rights {
                    folder: Some(dir.descriptor.as_fd()),
                    ..Rights::default()
                }
            }
            Self::Relay(route) => route.rights(),
            _ => Rights::default(),
        }
    }

    /// Returns the plan for the pump.
    pub(super) fn wiring(&self, stdio: Stdio) -> Wiring {
        match self {
            Self::Stdio(output) => Wiring::Shared(output.end(stdio)),
            Self::Broker(output) => Wiring::Broker(output.end(stdio)),
            Self::Echo => Wiring::Echo,
            Self::Answers(answers) => {
                let answers = Rc::clone(answers);
                Wiring::Each(Box::new(move |_| {
                    let responder = Responder::new(Rc::clone(&answers));
                    Ok(Partner::Responder(Box::new(responder)))
                }))
            }
            Self::Relay(route) => route.wiring(),
            Self::Children(children) => {
                let children = children.clone();
                Wiring::Each(Box::new(move |link| children.end(link).map(Partner::End)))
            }
        }
    }
}

impl ClientOutput {
    fn end(&self, stdio: Stdio) -> Box<dyn End> {
        Box::new(match self {
            Self::Plain => stdio,
            Self::Prefixed => stdio.with_prefix(),
            Self::Files(dir) => stdio.with_files(dir.clone()),
        })
    }
}

impl Children {
    /// Starts what a new link needs.
    fn end(&self, link: &dyn Link) -> io::Result<Box<dyn End>> {
        let (caller, shape) = match &self.scope {
            ChildScope::OnlyConnection | ChildScope::Connection => {
                let caller = Caller::of(link).ok_or(io::ErrorKind::NotConnected)?;
                (caller, Shape::Stream)
            }
            ChildScope::OnlyPeer(flow, size) => {
                let (flow, conn) = (flow.clone(), None);
                (Caller { flow, conn }, Shape::Datagrams(*size))
            }
            ChildScope::Datagram(size) => {
                let children = DatagramChildren::new(&self.supervisor, *size, self.ends)?;
                return Ok(Box::new(children));
            }
        };
        let child = Child::new(&self.supervisor, caller, shape, self.ends)?;
        Ok(Box::new(child))
    }

    /// Waits for all children after the pump has ended with `end`; a failed child may fail the run.
    pub(super) fn settle(
        &self,
        end: Result<(), Failure>,
        signals: &Signals,
        taps: &mut Taps,
    ) -> Result<()> {
        let shutdown = match &end {
            Err(failure) if matches!(failure.exit, Exit::TimedOut | Exit::Signal(_)) => {
                Shutdown::Immediate
            }
            _ => Shutdown::Graceful,
        };
        let settled = self.supervisor.end_all(shutdown, signals, taps);
        end?;
        settled.context("cannot wait for children")?;
        match self.scope {
            ChildScope::OnlyConnection | ChildScope::OnlyPeer(..) => {
                Ok(self.supervisor.verdict()?)
            }
            ChildScope::Connection | ChildScope::Datagram(_) => Ok(()),
        }
    }
}

/// Descriptors of one child: its connection, and our ends of its two pipes.
pub(crate) const DESCRIPTORS_PER_CHILD: u64 = 3;

/// Descriptors that are not for clients: those of the pump, of reports, of a look-up.
const RESERVED_DESCRIPTORS: u64 = 32;

/// Returns how many of `wanted` clients the limit of descriptors allows, at least one, where each takes so many.
pub(crate) fn affordable(wanted: u64, each: u64) -> u64 {
    let needed = wanted.saturating_mul(each);
    let allowed = allow_descriptors(needed.saturating_add(RESERVED_DESCRIPTORS));
    let most = allowed.saturating_sub(RESERVED_DESCRIPTORS) / each;
    wanted.min(most.max(1))
}

/// Refuses to let any remote host use what is for this machine alone: a program, or a target of a relay that only this machine
/// reaches. `--allow` restricts the clients, and so does one HOST to bind, or a `--deny` for everyone.
pub(crate) fn refuse_exposure(
    session: &Session<'_>,
    (program, target): (&ProgramOptions, Option<&RelayTarget>),
    access: &Access,
    (host, addresses): (&Host, &[BindAddress]),
) -> Result<(), Failure> {
    let is_named = matches!(host, Host::Named(_));
    let is_open = addresses.iter().any(|bind| {
        let ip = bind.address.ip();
        let is_for_many = ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST;
        let is_open = is_for_many || !(is_named || ip.is_loopback());
        is_open && !access.is_restrictive(bind.reach, ip)
    });
    let act = match target {
        _ if !is_open => return Ok(()),
        _ if program.is_given() => "run a program",
        Some(target) if session.is_private(target)? => "relay to a target on this machine",
        _ => return Ok(()),
    };
    let text = format!(
        "refusing to {act} for any remote host: restrict clients with --allow CIDR, or bind one HOST"
    );
    Err(Failure::new(Exit::Usage, text))
}

/// The longest answer that a file may hold, in bytes: a file without an end fills no memory.
const MAX_ANSWER: u64 = 256 << 20;

/// Reads the answers that the options give, none longer than `limit` bytes.
fn answers(options: &ResponderOptions, limit: usize) -> Result<Option<Rc<Answers>>, Failure> {
    if !options.is_given() {
        return Ok(None);
    }
    let pairs = options.respond.iter();
    let answers = Answers {
        pairs: pairs
            .map(|pair| (pair.request.clone(), Rc::from(pair.answer.as_slice())))
            .collect(),
        fallback: options.canned.as_deref().map(read_answer).transpose()?,
    };
    let longest = answers.longest();
    if longest > limit {
        let text = format!(
            "an answer of {longest} bytes is too long: a datagram holds at most {limit} here"
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(Some(Rc::new(answers)))
}

fn read_answer(path: &Path) -> Result<Rc<[u8]>, Failure> {
    let act = format!("cannot read '{}' (--canned)", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path);
    let read = file.and_then(|file| file.take(MAX_ANSWER + 1).read_to_end(&mut bytes));
    let len = read.map_err(|error| Failure::io(&act, &error))?;
    if len as u64 > MAX_ANSWER {
        let text = format!("{act}: it has more than {} MiB", MAX_ANSWER >> 20);
        return Err(Failure::new(Exit::Failed, text));
    }
    Ok(Rc::from(bytes))
}
