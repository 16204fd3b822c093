//! The peers that have written to a socket which serves everybody: a bounded table, in the order in which they were last heard.
//! The order is a list threaded through the table, so that remembering, finding and forgetting cost the same however many there are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::addresses::Pair;
use crate::flow::Identity;
use crate::tap::{Count, SocketState};

/// The peers of a socket.
pub(super) struct Peers {
    most: usize,
    table: Vec<Peer>,
    index: HashMap<SocketAddr, usize>,
    newest: Option<usize>,
    oldest: Option<usize>,
    first: Option<Pair>,
    /// What was sent last to somebody who is not in the table: who is asked before he speaks.
    unheard: Option<(SocketAddr, Count)>,
}

struct Peer {
    flow: Pair,
    received: Count,
    sent: Count,
    since: Instant,
    newer: Option<usize>,
    older: Option<usize>,
}

impl Peers {
    /// A table of `most` peers, at least one.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            table: Vec::new(),
            index: HashMap::new(),
            newest: None,
            oldest: None,
            first: None,
            unheard: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The peer that spoke first, also when it is forgotten since.
    pub(super) fn first(&self) -> Option<Pair> {
        self.first
    }

    /// The peer that spoke last.
    pub(super) fn last(&self) -> Option<Pair> {
        self.newest.map(|at| self.table[at].flow)
    }

    /// Every peer that is remembered.
    pub(super) fn flows(&self) -> impl Iterator<Item = Pair> {
        self.table.iter().map(|peer| peer.flow)
    }

    /// The peer at this address.
    pub(super) fn get(&self, remote: SocketAddr) -> Option<Pair> {
        self.find(remote).map(|at| self.table[at].flow)
    }

    /// Counts what came from `flow.remote` to `flow.local`; returns the peer that had to be forgotten for that.
    pub(super) fn count_received(
        &mut self,
        flow: Pair,
        bytes: usize,
        chunks: usize,
    ) -> Option<Pair> {
        let (at, forgotten) = match self.find(flow.remote) {
            Some(at) => (at, None),
            None => self.admit(flow),
        };
        if self.newest != Some(at) {
            self.unlink(at);
            self.link_newest(at);
        }
        self.table[at].flow = flow;
        self.table[at].received.add(bytes, chunks);
        forgotten
    }

    /// Counts what was sent to `remote`.
    pub(super) fn count_sent(&mut self, remote: SocketAddr, bytes: usize, chunks: usize) {
        if let Some(at) = self.find(remote) {
            self.table[at].sent.add(bytes, chunks);
            return;
        }
        let (asked, sent) = self.unheard.get_or_insert((remote, Count::default()));
        if *asked != remote {
            (*asked, *sent) = (remote, Count::default());
        }
        sent.add(bytes, chunks);
    }

    /// A row for each, the one idle longest first.
    pub(super) fn states(&self) -> impl Iterator<Item = SocketState> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let peer = &self.table[next?];
            next = peer.newer;
            Some(SocketState {
                state: "peer",
                received: peer.received,
                sent: peer.sent,
                ..SocketState::new(Identity::Pair(peer.flow.flow()), peer.since)
            })
        })
    }

    fn find(&self, remote: SocketAddr) -> Option<usize> {
        // Most datagrams come from the peer that also sent the one before.
        let newest = self
            .newest
            .filter(|&at| self.table[at].flow.remote == remote);
        newest.or_else(|| self.index.get(&remote).copied())
    }

    /// Gives a new peer a place, which is linked nowhere yet.
    fn admit(&mut self, flow: Pair) -> (usize, Option<Pair>) {
        self.first.get_or_insert(flow);
        let asked = self.unheard.take_if(|(remote, _)| *remote == flow.remote);
        let peer = Peer {
            flow,
            received: Count::default(),
            sent: asked.map_or_else(Count::default, |(_, sent)| sent),
            since: Instant::now(),
            newer: None,
            older: None,
        };
        let full = self.oldest.filter(|_| self.table.len() >= self.most);
        let Some(at) = full else {
            self.table.push(peer);
            let at = self.table.len() - 1;
            self.index.insert(flow.remote, at);
            return (at, None);
        };
        self.unlink(at);
        let forgotten = std::mem::replace(&mut self.table[at], peer).flow;
        self.index.remove(&forgotten.remote);
        self.index.insert(flow.remote, at);
        (at, Some(forgotten))
    }

    fn unlink(&mut self, at: usize) {
        let Peer { newer, older, .. } = self.table[at];
        match newer {
            Some(newer) => self.table[newer].older = older,
            None if self.newest == Some(at) => self.newest = older,
            None => {}
        }
        match older {
            Some(older) => self.table[older].newer = newer,
            None if self.oldest == Some(at) => self.oldest = newer,
            None => {}
        }
    }

    fn link_newest(&mut self, at: usize) {
        self.table[at].newer = None;
        self.table[at].older = self.newest;
        match self.newest {
            Some(newest) => self.table[newest].newer = Some(at),
            None => self.oldest = Some(at),
        }
        self.newest = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Pair {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Pair::new(address(9), address(port))
    }

    fn ports(peers: &Peers) -> Vec<u16> {
        let port = |state: SocketState| match state.identity {
            Identity::Pair(flow) => flow.remote.inet().unwrap().port(),
            Identity::Socket(..) => 0,
        };
        peers.states().map(port).collect()
    }

    #[test]
    fn the_one_idle_longest_is_forgotten() {
        let mut peers = Peers::new(3);
        for port in [1, 2, 3, 1] {
            assert_eq!(peers.count_received(flow(port), 1, 1), None);
        }
        assert_eq!(ports(&peers), [2, 3, 1]);
        assert_eq!(peers.count_received(flow(4), 1, 1), Some(flow(2)));
        assert_eq!(ports(&peers), [3, 1, 4]);
        assert_eq!(
            (peers.first(), peers.last()),
            (Some(flow(1)), Some(flow(4)))
        );
        assert_eq!(peers.get(flow(2).remote), None);
        assert_eq!(peers.get(flow(3).remote), Some(flow(3)));
    }

    #[test]
    fn one_place_is_enough_for_the_last() {
        let mut peers = Peers::new(1);
        peers.count_received(flow(1), 1, 1);
        assert_eq!(peers.count_received(flow(2), 1, 1), Some(flow(1)));
        assert_eq!(peers.count_received(flow(2), 1, 1), None);
        assert_eq!(ports(&peers), [2]);
        assert_eq!(peers.first(), Some(flow(1)));
    }

    #[test]
    fn counts_are_kept_for_each() {
        let mut peers = Peers::new(9);
        peers.count_received(flow(1), 10, 2);
        peers.count_received(flow(2), 1, 1);
        peers.count_sent(flow(1).remote, 7, 1);
        peers.count_sent(flow(3).remote, 7, 1);
        let rows: Vec<_> = peers
            .states()
            .map(|row| (row.received.bytes, row.received.chunks, row.sent.bytes))
            .collect();
        assert_eq!(rows, [(10, 2, 7), (1, 1, 0)]);
    }

    #[test]
    fn what_was_sent_to_a_peer_before_it_spoke_counts_too() {
        let mut peers = Peers::new(9);
        for port in [2, 1, 1] {
            peers.count_sent(flow(port).remote, 7, 1);
        }
        for port in [3, 1, 2] {
            peers.count_received(flow(port), 1, 1);
        }
        peers.count_sent(flow(1).remote, 7, 1);
        let sent: Vec<_> = peers.states().map(|row| row.sent.chunks).collect();
        assert_eq!(sent, [0, 3, 0]);
    }
}
