//! The times at which nodes are to be looked at again, each node at one time at the most.
//! A table of its own, not a field of each node: at any moment few have such a time, and there may be very many nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::node::NodeId;

/// Nodes to look at, and when.
#[derive(Default)]
pub(super) struct Timers {
    in_order: BTreeSet<(Instant, NodeId)>,
    by_node: BTreeMap<NodeId, Instant>,
}

impl Timers {
    /// Makes sure that a node is looked at again at that time, or before.
    pub(super) fn set(&mut self, id: NodeId, time: Instant) {
        if self.by_node.get(&id).is_some_and(|&old| old <= time) {
            return;
        }
        self.cancel(id);
        self.by_node.insert(id, time);
        self.in_order.insert((time, id));
    }

    /// Forgets the time of a node.
    pub(super) fn cancel(&mut self, id: NodeId) {
        if let Some(time) = self.by_node.remove(&id) {
            self.in_order.remove(&(time, id));
        }
    }

    /// Whether there is a time for a node.
    pub(super) fn is_set(&self, id: NodeId) -> bool {
        self.by_node.contains_key(&id)
    }

    /// The next time of all.
    pub(super) fn first(&self) -> Option<Instant> {
        self.in_order.first().map(|&(time, _)| time)
    }

    /// Takes out a node whose time has come by `now`, the earliest first.
    pub(super) fn pop(&mut self, now: Instant) -> Option<NodeId> {
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
        let mut timers = Timers::default();
        timers.set(7, later);
        timers.set(3, later);
        timers.set(3, soon);
        timers.set(3, later);
        assert_eq!(timers.first(), Some(soon));
        assert_eq!(timers.pop(now), None);
        assert_eq!(timers.pop(later), Some(3));
        assert_eq!(timers.pop(later), Some(7));
        assert_eq!(timers.pop(later), None);
    }

    #[test]
    fn a_time_that_is_forgotten_never_comes() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.set(3, now);
        timers.cancel(3);
        assert!(!timers.is_set(3));
        assert_eq!(timers.pop(now), None);
    }
}
