//! The pump: one thread and one loop that moves bytes between ends, whatever they are.
//! It knows neither transports nor options: links bring identities, rules bring choices, taps see what happens.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use slab::Slab;

use crate::batch::Batch;
use crate::exit::{Exit, Failure};
use crate::sys::signals::Signals;
use crate::sys::wait::{Interest, Poller};
use crate::tap::Taps;

mod acknowledgement;
mod bypass;
pub mod end;
mod ending;
mod node;
mod queue;
pub mod rules;
#[cfg(test)]
mod tests;
mod timers;
mod transfer;
mod waiting;

use end::{End, Link};
use node::{Node, NodeId, Party, Route};
use rules::{InputTo, Rules};
use timers::Timers;
use waiting::SIGNALS;

/// Which local end each link is joined to.
pub enum Wiring {
    /// All share this end: what comes from them goes to it, and what comes from it goes to those that the rules choose.
    Shared(Box<dyn End>),
    /// None: each gets back what comes from it.
    Echo,
    /// What comes from one goes to all others and to this end, and what comes from this end goes to all.
    Broker(Box<dyn End>),
    /// Each gets an end of its own.
    Each(Attach),
}

/// Makes the local end of a new link.
pub type Attach = Box<dyn FnMut(&dyn Link) -> io::Result<Box<dyn End>>>;

/// [`Wiring`], with the local end in its place among the nodes.
enum Plan {
    Shared(NodeId),
    Echo,
    Broker(NodeId),
    Each(Attach),
}

/// Moves bytes between local ends and links until the session is over.
pub struct Pump<'a> {
    nodes: Slab<Node>,
    plan: Plan,
    /// Links that only bring other links: listening sockets.
    listeners: Vec<NodeId>,
    /// All other links, in order of arrival.
    links: Vec<NodeId>,
    poller: Poller,
    signals: &'a Signals,
    taps: &'a mut Taps,
    rules: Rules,
    /// Nodes whose interest may have changed.
    touched: Vec<NodeId>,
    /// Lanes that can go on now.
    runnable: VecDeque<NodeId>,
    /// Nodes to look at, and when.
    timers: Timers,
    /// Batches that are not in use, kept for their memory: some, not as many as there are lanes.
    spare: Vec<Batch>,
    /// The nodes that get the batch at hand; kept for its memory.
    recipients: Vec<NodeId>,
    now: Instant,
    last_moved: Instant,
    /// Since when nothing has moved for too long, and when that was first seen.
    overdue: Option<(Instant, Instant)>,
    /// How the run ends, once that is decided, and until when arrived bytes may still be written out.
    leaving: Option<(Result<(), Failure>, Instant)>,
    /// How the last link said that it ended.
    last_closed: Result<(), Failure>,
}

impl<'a> Pump<'a> {
    /// A pump without a link yet.
    pub fn new(
        wiring: Wiring,
        rules: Rules,
        signals: &'a Signals,
        taps: &'a mut Taps,
    ) -> io::Result<Self> {
        let mut poller = Poller::new()?;
        poller.set(SIGNALS, signals.wake(), Interest::READ)?;
        let mut nodes = Slab::new();
        let mut share = |end| {
            let id = nodes.vacant_key();
            nodes.insert(Node::new(Party::Shared(end), Route::Links, id))
        };
        let plan = match wiring {
            Wiring::Shared(end) => Plan::Shared(share(end)),
            Wiring::Echo => Plan::Echo,
            Wiring::Broker(end) => Plan::Broker(share(end)),
            Wiring::Each(attach) => Plan::Each(attach),
        };
        let now = Instant::now();
        Ok(Self {
            nodes,
            plan,
            listeners: Vec::new(),
            links: Vec::new(),
            poller,
            signals,
            taps,
            rules,
            touched: Vec::new(),
            runnable: VecDeque::new(),
            timers: Timers::default(),
            spare: Vec::new(),
            recipients: Vec::new(),
            now,
            last_moved: now,
            overdue: None,
            leaving: None,
            last_closed: Ok(()),
        })
    }

    /// Adds a listening socket: a link that brings other links, and no bytes.
    pub fn listen(&mut self, link: Box<dyn Link>) {
        let id = self.nodes.vacant_key();
        self.nodes
            .insert(Node::new(Party::Link(link), Route::Partner, id));
        self.listeners.push(id);
        self.runnable.push_back(id);
    }

    /// Adds a link, wired as planned.
    pub fn join(&mut self, link: Box<dyn Link>) {
        let id = self.nodes.vacant_key();
        let (route, partner) = match &self.plan {
            Plan::Shared(local) => (Route::Partner, *local),
            Plan::Broker(local) => (Route::Others, *local),
            Plan::Echo | Plan::Each(_) => (Route::Partner, id),
        };
        self.nodes
            .insert(Node::new(Party::Link(link), route, partner));
        self.links.push(id);
        self.attach(id);
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let partner = node.partner;
        self.runnable.push_back(id);
        if self.links.len() == 1 || self.nodes.get(partner).is_some_and(Node::gives_unasked) {
            self.runnable.push_back(partner);
        }
        if partner != id && self.has_ended(partner) {
            self.end_input_for(id);
        }
    }

    /// Adds an end that no bytes go through: its `recv` is called when its source is readable, or its time has come.
    pub fn attend(&mut self, end: Box<dyn End>) {
        let id = self.nodes.vacant_key();
        self.nodes
            .insert(Node::new(Party::Own(end), Route::Partner, id));
        self.runnable.push_back(id);
    }

    /// Gives a link an end of its own, where that is the plan.
    fn attach(&mut self, id: NodeId) {
        let Plan::Each(attach) = &mut self.plan else {
            return;
        };
        let Some(link) = self.nodes[id].party.link() else {
            return;
        };
        match attach(link) {
            Ok(end) => {
                let own = Node::new(Party::Own(end), Route::Partner, id);
                let own = self.nodes.insert(own);
                self.nodes[id].partner = own;
                self.touched.push(own);
            }
            Err(error) => {
                self.fail(id, &error);
                self.remove(id);
            }
        }
    }

    /// Runs until the session is over, and says how it ended.
    pub fn run(mut self) -> Result<(), Failure> {
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
        self.verdict()
    }

    /// How the run has ended, now that no link is left.
    fn verdict(self) -> Result<(), Failure> {
        let end = self.leaving.map_or(Ok(()), |(end, _)| end);
        let is_orderly = end.as_ref().map_or_else(
            |failure| matches!(failure.exit, Exit::TimedOut | Exit::Signal(_)),
            |()| true,
        );
        let is_lost = matches!(&self.last_closed, Err(failure) if failure.exit == Exit::DataLost);
        // Whoever asked to be told of losses is told, also where a limit or a signal was the way to end.
        let end = if end == Ok(()) || is_lost && is_orderly {
            self.last_closed
        } else {
            end
        };
        match self.plan {
            Plan::Shared(local) | Plan::Broker(local) => self.nodes[local].party.end().verdict(end),
            Plan::Echo | Plan::Each(_) => end,
        }
    }

    fn is_over(&self) -> bool {
        self.links.is_empty() && self.listeners.is_empty()
    }

    /// Whether nothing more will come from a node.
    fn has_ended(&self, id: NodeId) -> bool {
        let node = self.nodes.get(id);
        node.is_none_or(|node| node.lane.ended.is_some())
    }

    /// The links that can be sent to, in order of arrival.
    fn open_links(&self) -> impl DoubleEndedIterator<Item = NodeId> + '_ {
        let links = self.links.iter().copied();
        links.filter(|&id| self.nodes[id].is_open_to_send())
    }

    /// Adds the links that get what comes from an end that feeds all of them.
    fn choose_links(&self, chosen: &mut Vec<NodeId>) {
        match self.rules.input_to {
            InputTo::First => chosen.extend(self.open_links().next()),
            InputTo::Last => chosen.extend(self.open_links().next_back()),
            InputTo::All => chosen.extend(self.open_links()),
        }
    }

    /// Whether anybody would get what comes from a node. Links are always listened to: they have ends and errors to tell.
    fn has_audience(&self, id: NodeId) -> bool {
        let node = &self.nodes[id];
        match node.route {
            _ if node.party.link().is_some() => true,
            _ if self.leaving.is_some() => false,
            Route::Partner => {
                let partner = self.nodes.get(node.partner);
                // What is for a link that has failed is dropped: unread, it would keep its own end from taking what came before.
                let is_dropped = |link: &Node| link.failure.is_some() && self.takes(node);
                partner.is_some_and(|link| link.is_open_to_send() || is_dropped(link))
            }
            Route::Links | Route::Others => self.open_links().next().is_some(),
        }
    }
}
