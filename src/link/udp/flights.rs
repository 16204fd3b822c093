//! Datagrams in flight: the latest ones that were sent, each with its first bytes.
//! An ICMP error quotes the datagram that it is about (RFC 792). If that begins a run, the whole run was lost as one packet.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::addresses::{comparable, means};
use super::message::Transmit;
use crate::batch::Batch;

/// First bytes of a datagram that are compared.
pub(super) const QUOTED: usize = 32;

/// Number of transmits that are remembered, and by a socket that is one of many.
const MAX_FLIGHTS: usize = 256;
const FEW_FLIGHTS: usize = 16;

/// A transmit that was sent.
#[derive(Debug)]
struct Flight {
    remote: SocketAddr,
    /// Its first bytes, and their number.
    head: ([u8; QUOTED], usize),
    /// Its datagrams, and the number of those that are not counted as lost.
    datagrams: u64,
    left: u64,
}

impl Flight {
    fn begins_with(&self, quoted: &[u8]) -> bool {
        let (head, len) = &self.head;
        head[..*len].starts_with(quoted) && quoted.is_empty() == (*len == 0)
    }
}

/// The latest transmits, the oldest first.
#[derive(Debug)]
pub(super) struct Flights {
    latest: VecDeque<Flight>,
    most: usize,
}

impl Flights {
    /// Remembers few transmits where there are many such sockets.
    pub(super) fn new(is_one_of_many: bool) -> Self {
        Self {
            latest: VecDeque::new(),
            most: if is_one_of_many {
                FEW_FLIGHTS
            } else {
                MAX_FLIGHTS
            },
        }
    }

    /// Adds a transmit that the kernel has taken.
    pub(super) fn add(&mut self, transmit: &Transmit, batch: &Batch) {
        if self.latest.len() == self.most {
            self.latest.pop_front();
        }
        let bytes = transmit.bytes(batch);
        let mut head = ([0; QUOTED], bytes.len().min(QUOTED));
        head.0[..head.1].copy_from_slice(&bytes[..head.1]);
        let datagrams = transmit.shape().count(transmit.len) as u64;
        self.latest.push_back(Flight {
            remote: comparable(transmit.route.flow.remote),
            head,
            datagrams,
            left: datagrams,
        });
    }

    /// Removes the latest transmit, which is sent again.
    pub(super) fn take_back(&mut self) {
        self.latest.pop_back();
    }

    /// Returns true if something was sent to `remote`.
    pub(super) fn has(&self, remote: SocketAddr) -> bool {
        self.latest
            .iter()
            .any(|flight| means(flight.remote, remote))
    }

    /// Returns the number of datagrams to `remote` that are lost by an error which quotes these bytes of one of them.
    pub(super) fn lose(&mut self, remote: SocketAddr, quoted: &[u8]) -> u64 {
        let mut flights = (self.latest.iter_mut()).filter(|flight| means(flight.remote, remote));
        let is_it = |flight: &&mut Flight| flight.left > 0 && flight.begins_with(quoted);
        if let Some(flight) = flights.find(is_it) {
            return std::mem::take(&mut flight.left);
        }
        // One within a run: the run counts as a whole, with its first datagram.
        let mut flights = (self.latest.iter()).filter(|flight| means(flight.remote, remote));
        u64::from(flights.all(|flight| flight.datagrams == 1))
    }
}
