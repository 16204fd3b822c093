//! The pump: one thread and one loop that moves bytes between ends, whatever they are.
//! It knows neither transports nor options: links bring identities, rules bring choices, taps see what happens.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::time::Instant;

use slab::Slab;

use crate::batch::Batch;
use crate::exit::{Exit, Failure};
use crate::sys::poller::{Interest, Mechanism, Poller};
use crate::sys::signals::Signals;
use crate::tap::Taps;

mod bypass;
pub mod end;
mod ending;
mod lane;
mod queue;
mod receipt;
pub mod rules;
#[cfg(test)]
mod tests;
mod transfer;
mod waiting;

use end::{End, Link};
use lane::{Party, Port, PortId, Route};
use rules::{Engine, InputTo, Rules};
use waiting::SIGNALS;

/// What links are joined to.
pub enum Wiring {
    /// All share this end: what they give goes to it, and what it gives to those that the rules choose.
    Shared(Box<dyn End>),
    /// Each gets back what it gives.
    Echo,
    /// What one gives goes to all others and to this end, and what this end gives goes to all.
    Broker(Box<dyn End>),
    /// Each gets an end of its own.
    Each(Attach),
}

/// Makes the local end of a new link.
pub type Attach = Box<dyn FnMut(&dyn Link) -> io::Result<Box<dyn End>>>;

/// How a new link is wired.
enum Plan {
    Shared(PortId),
    Echo,
    Broker(PortId),
    Each(Attach),
}

/// Moves bytes between local ends and links until the session is over.
pub struct Pump<'a> {
    ports: Slab<Port>,
    plan: Plan,
    /// The ports of links that only bring other links.
    listeners: Vec<PortId>,
    /// The ports of all other links, in order of arrival.
    links: Vec<PortId>,
    poller: Poller,
    signals: &'a Signals,
    taps: &'a mut Taps,
    rules: Rules,
    /// Ports whose interest may have changed.
    touched: Vec<PortId>,
    /// Lanes that can go on now.
    runnable: VecDeque<PortId>,
    /// Ports to look at when time has come.
    timers: BTreeSet<(Instant, PortId)>,
    /// Batches that nobody uses: some, not as many as there are lanes.
    spare: Vec<Batch>,
    /// Who gets the batch at hand; kept for the memory.
    recipients: Vec<PortId>,
    now: Instant,
    last_moved: Instant,
    /// How the run ends, once that is decided, and until when arrived bytes may still be written out.
    leaving: Option<(Result<Exit, Failure>, Instant)>,
    /// What the last link said of itself.
    verdict: Result<(), Failure>,
}

impl<'a> Pump<'a> {
    /// A pump without a link yet.
    pub fn new(
        wiring: Wiring,
        rules: Rules,
        signals: &'a Signals,
        taps: &'a mut Taps,
    ) -> io::Result<Self> {
        let mut poller = Poller::new(match rules.engine {
            Engine::Fast => Mechanism::Epoll,
            Engine::Portable => Mechanism::Poll,
        })?;
        let reading = Interest {
            read: true,
            ..Interest::default()
        };
        poller.set(SIGNALS, signals.wake(), reading)?;
        let mut ports = Slab::new();
        let mut share = |end| {
            let id = ports.vacant_key();
            ports.insert(Port::new(Party::Shared(end), Route::Links, id))
        };
        let plan = match wiring {
            Wiring::Shared(end) => Plan::Shared(share(end)),
            Wiring::Echo => Plan::Echo,
            Wiring::Broker(end) => Plan::Broker(share(end)),
            Wiring::Each(attach) => Plan::Each(attach),
        };
        let now = Instant::now();
        Ok(Self {
            ports,
            plan,
            listeners: Vec::new(),
            links: Vec::new(),
            poller,
            signals,
            taps,
            rules,
            touched: Vec::new(),
            runnable: VecDeque::new(),
            timers: BTreeSet::new(),
            spare: Vec::new(),
            recipients: Vec::new(),
            now,
            last_moved: now,
            leaving: None,
            verdict: Ok(()),
        })
    }

    /// Adds a link that brings other links, and neither gives nor takes bytes.
    pub fn listen(&mut self, link: Box<dyn Link>) {
        let id = self.ports.vacant_key();
        self.ports
            .insert(Port::new(Party::Link(link), Route::To(id), id));
        self.listeners.push(id);
        self.runnable.push_back(id);
    }

    /// Adds a link, wired as planned.
    pub fn join(&mut self, link: Box<dyn Link>) {
        let id = self.ports.vacant_key();
        let (route, fed_by) = match &self.plan {
            Plan::Shared(local) => (Route::To(*local), *local),
            Plan::Broker(local) => (Route::Others(*local), *local),
            Plan::Echo | Plan::Each(_) => (Route::To(id), id),
        };
        self.ports
            .insert(Port::new(Party::Link(link), route, fed_by));
        self.links.push(id);
        self.attach(id);
        let Some(port) = self.ports.get(id) else {
            return;
        };
        let fed_by = port.fed_by;
        self.runnable.push_back(id);
        if self.links.len() == 1 || self.ports.get(fed_by).is_some_and(Port::gives_unasked) {
            self.runnable.push_back(fed_by);
        }
        if fed_by != id && self.has_ended(fed_by) {
            self.end_input_for(id);
        }
    }

    /// Adds an end that is joined to nothing, and ends nothing: it is asked when it has something to see to.
    pub fn attend(&mut self, end: Box<dyn End>) {
        let id = self.ports.vacant_key();
        self.ports
            .insert(Port::new(Party::Own(end), Route::To(id), id));
        self.runnable.push_back(id);
    }

    /// Gives a link an end of its own, where that is the plan.
    fn attach(&mut self, id: PortId) {
        let Plan::Each(attach) = &mut self.plan else {
            return;
        };
        let Some(link) = self.ports[id].party.link() else {
            return;
        };
        match attach(link) {
            Ok(end) => {
                let own = Port::new(Party::Own(end), Route::To(id), id);
                let own = self.ports.insert(own);
                let port = &mut self.ports[id];
                (port.route, port.fed_by) = (Route::To(own), own);
                self.touched.push(own);
            }
            Err(error) => {
                self.fail(id, &error);
                self.remove(id);
            }
        }
    }

    /// Runs until the session is over, and says how it ended.
    pub fn run(mut self) -> Result<Exit, Failure> {
        let mut ready = Vec::new();
        while !self.is_over() {
            // As many turns as there are now: what becomes runnable meanwhile waits for a look at the descriptors.
            for _ in 0..self.runnable.len() {
                let Some(id) = self.runnable.pop_front() else {
                    break;
                };
                self.touched.push(id);
                self.turn(id);
            }
            self.sync_touched()?;
            if !self.is_over() {
                self.wait(&mut ready)?;
                self.check_limits();
            }
        }
        let end = self.leaving.map_or(Ok(Exit::Done), |(end, _)| end);
        let is_orderly = match &end {
            Ok(_) => true,
            Err(failure) => failure.exit == Exit::TimedOut,
        };
        let is_lost = matches!(&self.verdict, Err(failure) if failure.exit == Exit::DataLost);
        // Whoever asked to be told of losses is told, also where a limit or a signal was the way to end.
        let end = if end == Ok(Exit::Done) || is_lost && is_orderly {
            self.verdict.map(|()| Exit::Done)
        } else {
            end
        };
        match self.plan {
            Plan::Shared(local) | Plan::Broker(local) => self.ports[local].party.end().verdict(end),
            Plan::Echo | Plan::Each(_) => end,
        }
    }

    fn is_over(&self) -> bool {
        self.links.is_empty() && self.listeners.is_empty()
    }

    /// Whether nothing more will come from a port.
    fn has_ended(&self, id: PortId) -> bool {
        let port = self.ports.get(id);
        port.is_none_or(|port| port.lane.ended.is_some())
    }

    /// The links that can be sent to, in order of arrival.
    fn open_links(&self) -> impl DoubleEndedIterator<Item = PortId> + '_ {
        let links = self.links.iter().copied();
        links.filter(|&id| self.ports[id].is_open_to_send())
    }

    /// Adds the links that get what comes from an end that feeds all of them.
    fn choose_links(&self, chosen: &mut Vec<PortId>) {
        match self.rules.input_to {
            InputTo::First => chosen.extend(self.open_links().next()),
            InputTo::Last => chosen.extend(self.open_links().next_back()),
            InputTo::All => chosen.extend(self.open_links()),
        }
    }

    /// Whether anybody would get what comes from a port. Links are always listened to: they have ends and errors to tell.
    fn has_audience(&self, id: PortId) -> bool {
        match self.ports[id].route {
            _ if self.ports[id].party.link().is_some() => true,
            _ if self.leaving.is_some() => false,
            Route::To(to) => self.ports.get(to).is_some_and(Port::is_open_to_send),
            Route::Links | Route::Others(_) => self.open_links().next().is_some(),
        }
    }
}

/// The failure that an error of an end brings with it, or one that names `act`.
fn failure_of(error: &io::Error, act: impl std::fmt::Display) -> Failure {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Failure>())
    {
        Some(failure) => failure.clone(),
        None => Failure::io(act, error),
    }
}
