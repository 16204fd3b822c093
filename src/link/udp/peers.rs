//! Peers of a socket that serves many: a bounded table, in the order in which they were last heard.
//! The order is a map of its own, so that a peer is found, moved to the end and forgotten at the same cost however many there are.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use super::addresses::{Pair, comparable};
use crate::batch::Shape;
use crate::flow::{ConnId, Direction, Identity, Leg};
use crate::tap::{Count, Data, Event, PerDirection, SocketState, Taps};

/// Numbers that a socket reports with its datagrams.
#[derive(Clone, Debug, Default)]
pub enum Numbering {
    /// None.
    #[default]
    None,
    /// The number of the one peer of a relay for which the socket is there.
    Peer(ConnId),
    /// The number of each peer.
    Each(Numbers),
}

impl Numbering {
    /// Returns the number that is reported of the socket itself.
    pub(in crate::link) fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Peer(conn) => Some(*conn),
            Self::None | Self::Each(_) => None,
        }
    }
}

/// Numbers of the peers of a relay, which both of its legs report. A peer keeps its number until its mapping ends.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Rc<RefCell<(u64, HashMap<Pair, u64>)>>);

impl Numbers {
    /// Returns the number of a peer, and a new one if it has none.
    pub(super) fn of(&self, peer: Pair) -> ConnId {
        let (latest, numbers) = &mut *self.0.borrow_mut();
        let number = *numbers.entry(peer).or_insert_with(|| {
            *latest += 1;
            *latest
        });
        let leg = Some(Leg::Client);
        ConnId { number, leg }
    }

    /// Returns the number of a peer that has one.
    fn get(&self, peer: Pair) -> Option<ConnId> {
        let is_known = self.0.borrow().1.contains_key(&peer);
        is_known.then(|| self.of(peer))
    }

    /// Takes the number of a peer away.
    pub(super) fn forget(&self, peer: Pair) {
        self.0.borrow_mut().1.remove(&peer);
    }
}

/// Table of peers, with the count of all their datagrams.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) total: PerDirection<Count>,
    max: usize,
    numbering: Numbering,
    table: HashMap<SocketAddr, Peer>,
    /// Addresses in the table by the number of the latest datagram.
    order: BTreeMap<u64, SocketAddr>,
    /// Number of times that another peer became the latest sender.
    turns: u64,
    first: Option<Pair>,
    /// Bytes sent to the latest peer that has not sent anything yet.
    pending: Option<(SocketAddr, Count)>,
}

struct Peer {
    flow: Pair,
    received: Count,
    sent: Count,
    since: Instant,
    /// Key in the order.
    turn: u64,
}

impl Peers {
    /// Creates a table of `max` peers, at least one.
    pub(super) fn new(max: usize, numbering: Numbering) -> Self {
        Self {
            max: max.max(1),
            numbering,
            ..Self::default()
        }
    }

    /// Returns the first sender, also when it is forgotten since.
    pub(super) fn first(&self) -> Option<Pair> {
        self.first
    }

    /// Returns the latest sender.
    pub(super) fn last(&self) -> Option<Pair> {
        let (_, latest) = self.order.last_key_value()?;
        self.get(*latest)
    }

    /// Returns the addresses of the latest datagram from `remote`.
    pub(super) fn get(&self, remote: SocketAddr) -> Option<Pair> {
        self.table.get(&remote).map(|peer| peer.flow)
    }

    /// Returns true if something was sent to `remote`, as far as that is remembered.
    pub(super) fn has_sent_to(&self, remote: SocketAddr) -> bool {
        let is_pending = self.pending.is_some_and(|(pending, _)| pending == remote);
        let peer = self.table.get(&remote);
        is_pending || peer.is_some_and(|peer| peer.sent.chunks > 0)
    }

    fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.order.values().map(|remote| &self.table[remote])
    }

    /// Returns every peer that is remembered, the one that is idle longest first.
    pub(super) fn flows(&self) -> impl Iterator<Item = Pair> {
        self.iter().map(|peer| peer.flow)
    }

    /// Returns the number that is reported of the socket itself.
    pub(super) fn conn(&self) -> Option<ConnId> {
        self.numbering.conn()
    }

    /// Returns the number that is reported of datagrams between two addresses.
    fn conn_of(&self, pair: Pair) -> Option<ConnId> {
        match &self.numbering {
            Numbering::Each(numbers) => numbers.get(pair),
            Numbering::None | Numbering::Peer(_) => self.conn(),
        }
    }

    /// Returns a row for each peer, the one that is idle longest first.
    pub(super) fn states(&self) -> impl Iterator<Item = SocketState> {
        self.iter().map(|peer| SocketState {
            conn: self.conn_of(peer.flow),
            state: "peer",
            received: peer.received,
            sent: peer.sent,
            ..SocketState::new(Identity::Pair(peer.flow.flow()), peer.since)
        })
    }

    /// Counts and reports datagrams that were received or sent.
    pub(super) fn note(
        &mut self,
        direction: Direction,
        pair: Pair,
        shape: Shape,
        bytes: &[u8],
        taps: &mut Taps,
    ) {
        let (len, datagrams) = (bytes.len(), shape.count(bytes.len()));
        self.total.of(direction).add(len, datagrams);
        match (direction, &self.numbering) {
            // The only peer needs no table.
            (Direction::Incoming, Numbering::Peer(_)) => {}
            (Direction::Incoming, Numbering::Each(numbers)) => {
                numbers.of(pair);
                // Its mapping may go on, and reports its own end.
                self.count_received(pair, len, datagrams);
            }
            (Direction::Incoming, Numbering::None) => {
                if let Some(forgotten) = self.count_received(pair, len, datagrams) {
                    taps.emit(&Event::Forgotten(&forgotten.flow()));
                }
            }
            (Direction::Outgoing, _) => self.count_sent(comparable(pair.remote), len, datagrams),
        }
        taps.emit(&Event::Data(Data {
            direction,
            flow: &pair.flow(),
            conn: self.conn_of(pair),
            len,
            shape,
            bytes: Some(bytes),
        }));
    }

    /// Counts datagrams that were received. Returns the peer that is forgotten in favour of a new one.
    fn count_received(&mut self, flow: Pair, bytes: usize, chunks: usize) -> Option<Pair> {
        let remote = flow.remote;
        self.first.get_or_insert(flow);
        let mut forgotten = None;
        if self.table.len() >= self.max && !self.table.contains_key(&remote) {
            let oldest = self.order.pop_first().map(|(_, oldest)| oldest);
            forgotten = oldest.and_then(|oldest| self.table.remove(&oldest));
        }
        let pending = self.pending.take_if(|(pending, _)| *pending == remote);
        let peer = self.table.entry(remote).or_insert_with(|| Peer {
            flow,
            received: Count::default(),
            sent: pending.map_or_else(Count::default, |(_, sent)| sent),
            since: Instant::now(),
            turn: u64::MAX,
        });
        peer.flow = flow;
        peer.received.add(bytes, chunks);
        if peer.turn != self.turns {
            self.turns += 1;
            self.order.remove(&peer.turn);
            self.order.insert(self.turns, remote);
            peer.turn = self.turns;
        }
        forgotten.map(|peer| peer.flow)
    }

    /// Counts datagrams that were sent to `remote`.
    fn count_sent(&mut self, remote: SocketAddr, bytes: usize, chunks: usize) {
        if let Some(peer) = self.table.get_mut(&remote) {
            return peer.sent.add(bytes, chunks);
        }
        let pending = self.pending.filter(|(pending, _)| *pending == remote);
        let (_, mut sent) = pending.unwrap_or((remote, Count::default()));
        sent.add(bytes, chunks);
        self.pending = Some((remote, sent));
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
        let mut peers = Peers::new(3, Numbering::None);
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
        let mut peers = Peers::new(1, Numbering::None);
        peers.count_received(flow(1), 1, 1);
        assert_eq!(peers.count_received(flow(2), 1, 1), Some(flow(1)));
        assert_eq!(peers.count_received(flow(2), 1, 1), None);
        assert_eq!(ports(&peers), [2]);
        assert_eq!(peers.first(), Some(flow(1)));
    }

    #[test]
    fn counts_are_kept_for_each() {
        let mut peers = Peers::new(9, Numbering::None);
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
        let mut peers = Peers::new(9, Numbering::None);
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
