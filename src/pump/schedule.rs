//! Order of work: the nodes that can go on now, those to look at later, and those whose descriptors have to be looked at again.
//! Each node stands in each list once at most, however often it is put there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::node::NodeId;

/// Nodes to look at, now or later.
#[derive(Default)]
pub(super) struct Schedule {
    runnable: VecDeque<NodeId>,
    is_runnable: Vec<bool>,
    touched: Vec<NodeId>,
    timers: Timers,
}

impl Schedule {
    /// Lets a node go on in the next round.
    pub(super) fn run(&mut self, id: NodeId) {
        if self.is_runnable.len() <= id {
            self.is_runnable.resize(id + 1, false);
        }
        if !std::mem::replace(&mut self.is_runnable[id], true) {
            self.runnable.push_back(id);
        }
    }

    /// Returns true if a node goes on in the next round.
    pub(super) fn is_runnable(&self, id: NodeId) -> bool {
        self.is_runnable
            .get(id)
            .is_some_and(|&is_runnable| is_runnable)
    }

    /// Takes out the next node that can go on.
    pub(super) fn next(&mut self) -> Option<NodeId> {
        let id = self.runnable.pop_front()?;
        self.is_runnable[id] = false;
        Some(id)
    }

    /// Returns the number of nodes that can go on.
    pub(super) fn len(&self) -> usize {
        self.runnable.len()
    }

    /// Notes that the events a node waits for may have changed.
    pub(super) fn touch(&mut self, id: NodeId) {
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
    }

    /// Takes out a node whose events may have changed.
    pub(super) fn next_touched(&mut self) -> Option<NodeId> {
        self.touched.pop()
    }

    /// Makes sure that a node is looked at again at that time, or before.
    pub(super) fn run_at(&mut self, id: NodeId, time: Instant) {
        self.timers.set(id, time);
    }

    /// Drops the time of a node that is removed.
    pub(super) fn forget(&mut self, id: NodeId) {
        self.timers.cancel(id);
    }

    /// Returns the next time of all.
    pub(super) fn first_time(&self) -> Option<Instant> {
        self.timers.first()
    }

    /// Takes out a node whose time has come by `now`, the earliest first.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<NodeId> {
        self.timers.pop(now)
    }
}

/// Times at which nodes are looked at again, one for each node.
///
/// A table of its own, not a field of each node: few have such a time at any moment, and there may be very many nodes.
#[derive(Default)]
pub struct Timers {
    in_order: BTreeSet<(Instant, NodeId)>,
    by_node: BTreeMap<NodeId, Instant>,
}

impl Timers {
    /// Returns the earliest time.
    pub fn first(&self) -> Option<Instant> {
        self.in_order.first().map(|&(time, _)| time)
    }

    /// Makes sure that a node is looked at again at that time, or before.
    pub fn set(&mut self, id: NodeId, time: Instant) {
        if self.by_node.get(&id).is_some_and(|&old| old <= time) {
            return;
        }
        self.cancel(id);
        self.by_node.insert(id, time);
        self.in_order.insert((time, id));
    }

    /// Drops the time of a node.
    pub fn cancel(&mut self, id: NodeId) {
        if let Some(time) = self.by_node.remove(&id) {
            self.in_order.remove(&(time, id));
        }
    }

    /// Takes out a node whose time has come by `now`, the earliest first.
    pub fn pop(&mut self, now: Instant) -> Option<NodeId> {
        let &(_, id) = self.in_order.first().filter(|(time, _)| *time <= now)?;
        self.cancel(id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_time_of_each_node_counts() {
        let now = Instant::now();
        let [soon, later] = [1, 2].map(|seconds| now + Duration::from_secs(seconds));
        let mut schedule = Schedule::default();
        for (id, time) in [(7, later), (3, later), (3, soon), (3, later)] {
            schedule.run_at(id, time);
        }
        assert_eq!(schedule.first_time(), Some(soon));
        assert_eq!(schedule.next_due(now), None);
        assert_eq!(schedule.next_due(later), Some(3));
        assert_eq!(schedule.next_due(later), Some(7));
        assert_eq!(schedule.next_due(later), None);
    }

    #[test]
    fn a_time_that_is_forgotten_never_comes() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.run_at(3, now);
        schedule.forget(3);
        assert_eq!(schedule.next_due(now), None);
    }

    #[test]
    fn a_node_goes_on_once_a_round() {
        let mut schedule = Schedule::default();
        for id in [3, 7, 3] {
            schedule.run(id);
        }
        assert_eq!((schedule.len(), schedule.next()), (2, Some(3)));
        schedule.run(3);
        assert_eq!((schedule.next(), schedule.next()), (Some(7), Some(3)));
        assert_eq!(schedule.next(), None);
    }
}
