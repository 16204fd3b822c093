//! The pump: one thread and one loop that moves bytes between ends, whatever they are.
//! It knows neither transports nor options: links bring identities, rules bring choices, taps see what happens.

use std::io;

use crate::batch::Batch;
use crate::exit::Failure;
use crate::flow::Identity;
use crate::sys::signals::Signals;
use crate::sys::splice::Pipes;
use crate::tap::{Conversation, Event, Taps};

mod close;
mod drain;
pub mod end;
mod failure;
mod lane;
mod node;
pub mod rules;
mod schedule;
mod splice;
#[cfg(test)]
mod tests;
mod wait;

use close::Ending;
use end::{End, Link};
pub use lane::is_temporary;
use node::{NodeId, Nodes, Party, Route};
use rules::Rules;
use schedule::Schedule;
pub use schedule::Timers;
use wait::{Clock, Watch};

/// Local ends of links.
pub enum Wiring {
    /// All links share this end: what comes from them goes to it, and what comes from it goes to those that the rules choose.
    Shared(Box<dyn End>),
    /// Each link gets back what comes from it.
    Echo,
    /// What comes from one link goes to all others and to this end, and what comes from this end goes to all.
    Broker(Box<dyn End>),
    /// Each link gets a partner of its own.
    Each(Attach),
}

/// Makes the partner of a new link.
pub type Attach = Box<dyn FnMut(&dyn Link) -> io::Result<Partner>>;

/// Partner of one link alone.
pub enum Partner {
    /// A local end, such as a child process.
    End(Box<dyn End>),
    /// A local end that does nothing but answer: without the link it is of no use.
    Responder(Box<dyn End>),
    /// Another link: the two are relayed to each other.
    Link(Box<dyn Link>),
}

/// [`Wiring`], with the local end in its place among the nodes.
enum Plan {
    Shared(NodeId),
    Echo,
    Broker(NodeId),
    Each(Attach),
}

/// Memory and pipes that are not in use.
#[derive(Default)]
struct Spare {
    batches: Vec<Batch>,
    pipes: Pipes,
    recipients: Vec<NodeId>,
}

/// Loop that moves bytes between local ends and links until the session is over.
pub struct Pump<'a> {
    nodes: Nodes,
    plan: Plan,
    schedule: Schedule,
    watch: Watch<'a>,
    clock: Clock,
    ending: Ending,
    spare: Spare,
    rules: Rules,
    taps: &'a mut Taps,
}

impl<'a> Pump<'a> {
    /// Makes a pump without a link yet.
    pub fn new(
        wiring: Wiring,
        rules: Rules,
        signals: &'a Signals,
        taps: &'a mut Taps,
    ) -> io::Result<Self> {
        let mut nodes = Nodes::default();
        let mut share = |end| nodes.add(Party::Shared(end), Route::Links);
        let plan = match wiring {
            Wiring::Shared(end) => Plan::Shared(share(end)),
            Wiring::Echo => Plan::Echo,
            Wiring::Broker(end) => Plan::Broker(share(end)),
            Wiring::Each(attach) => Plan::Each(attach),
        };
        Ok(Self {
            nodes,
            plan,
            schedule: Schedule::default(),
            watch: Watch::new(signals)?,
            clock: Clock::new(),
            ending: Ending::new(),
            spare: Spare::default(),
            rules,
            taps,
        })
    }

    /// Delivers what the shared local end has given before there was a pump.
    pub fn begin_with(&mut self, batch: Batch) {
        if let Plan::Shared(local) = self.plan
            && !batch.is_empty()
        {
            self.nodes[local].lane.has_given = true;
            self.deliver(local, batch);
        }
    }

    /// Adds a listening socket: a link that brings other links, and no bytes.
    pub fn listen(&mut self, link: Box<dyn Link>) {
        let id = self.nodes.add(Party::Link(link), Route::Partner);
        self.nodes.listeners.push(id);
        self.schedule.run(id);
    }

    /// Adds an end that no bytes go through: its `recv` is called when its readiness says so.
    pub fn attend(&mut self, end: Box<dyn End>) {
        let id = self.nodes.add(Party::Own(end), Route::Partner);
        self.schedule.run(id);
    }

    /// Adds a link, wired as planned.
    pub fn join(&mut self, link: Box<dyn Link>) {
        let (route, local) = match &self.plan {
            Plan::Shared(local) => (Route::Partner, Some(*local)),
            Plan::Broker(local) => (Route::Others, Some(*local)),
            Plan::Echo | Plan::Each(_) => (Route::Partner, None),
        };
        let id = self.nodes.add(Party::Link(link), route);
        self.nodes[id].partner = local.unwrap_or(id);
        self.nodes.links.push(id);
        self.schedule.run(id);
        self.check_idle(id);
        if let Some(local) = local
            && self.nodes[local].readiness().recv.fd().is_none()
        {
            // An end with a descriptor is asked when that is readable: a background job must not touch its terminal before.
            self.schedule.run(local);
        }
        if let Err(error) = self.attach(id) {
            self.fail(id, &error, None);
            self.remove(id);
        } else if let Some(local) = local
            && self.nodes.has_ended(local)
        {
            self.note_no_input(id, local);
            self.end_input_for(id);
        }
    }

    /// Reports the first link that comes after the end of an input that others have got.
    fn note_no_input(&mut self, id: NodeId, local: NodeId) {
        let had_data = self.nodes[local].lane.has_given;
        let text = &mut self.rules.words.input_is_over;
        let link = self.nodes[id].party.link();
        let Some(link) = link.filter(|_| had_data && !text.is_empty()) else {
            return;
        };
        if let Identity::Pair(flow) = &link.identity() {
            let conn = link.conn();
            let (name, text) = (Conversation { flow, conn }, std::mem::take(text));
            self.taps.emit(&Event::NoInput { name, text });
        }
    }

    /// Gives a link a partner of its own, where that is the plan.
    fn attach(&mut self, id: NodeId) -> io::Result<()> {
        let (Plan::Each(attach), Some(link)) = (&mut self.plan, self.nodes[id].party.link()) else {
            return Ok(());
        };
        let own = match attach(link)? {
            Partner::End(end) => self.nodes.add(Party::Own(end), Route::Partner),
            Partner::Responder(end) => {
                let own = self.nodes.add(Party::Own(end), Route::Partner);
                self.nodes[own].only_answers = true;
                own
            }
            Partner::Link(link) => {
                let own = self.nodes.add(Party::Link(link), Route::Partner);
                self.nodes.links.push(own);
                self.check_idle(own);
                own
            }
        };
        self.nodes[own].partner = id;
        self.nodes[id].partner = own;
        self.schedule.run(own);
        Ok(())
    }

    /// Puts a link in the place of the end that was to become it.
    fn replace(&mut self, id: NodeId, link: Box<dyn Link>) {
        self.watch.forget(id);
        self.nodes[id].party = Party::Link(link);
        self.schedule.run(id);
        // It has room for what waits.
        self.serve(id);
    }

    /// Runs until the session is over, and returns how it ended.
    pub fn run(mut self) -> Result<(), Failure> {
        while !self.is_over() {
            // As many turns as there are now: what becomes runnable meanwhile waits for a look at the descriptors.
            for _ in 0..self.schedule.len() {
                // The reader of a record has to keep up with the traffic.
                if self.taps.is_full() {
                    break;
                }
                let Some(id) = self.schedule.next() else {
                    break;
                };
                self.schedule.touch(id);
                self.turn(id);
            }
            self.sync_touched()?;
            if !self.is_over() {
                self.wait()?;
                self.check_limits();
            }
        }
        self.ending.result()
    }

    fn is_over(&self) -> bool {
        self.nodes.links.is_empty() && self.nodes.listeners.is_empty()
    }
}
