//! Spares: sockets for the further addresses of a name, as nothing shows beforehand at which of them somebody listens.
//! Until the target has answered, what is sent to it is kept, so that the next address gets all of it.

use std::net::SocketAddr;

use super::addresses::{comparable, reachable};
use super::error_queue::ErrorQueue;
use super::handle::Handle;
use super::sender::Sender;
use super::{Accepts, Audience, Socket};
use crate::batch::{Batch, Cursor, Shape};
use crate::tap::Taps;

/// Bytes and datagrams that are kept at most. Who sends more without an answer has chosen the first address.
const MAX_KEPT: (usize, usize) = (1 << 20, 4096);

/// Further addresses, and what they get.
#[derive(Default)]
pub(super) struct Spares {
    /// The next one is the last.
    sockets: Vec<(socket2::Socket, SocketAddr)>,
    /// Datagrams that were sent so far.
    sent: Vec<Vec<u8>>,
    size: usize,
    /// Sockets of addresses that have refused. They stay open, as the pump may still know them.
    refused: Vec<Handle>,
}

impl Spares {
    /// Returns the address to go on to.
    pub(super) fn next(&self) -> Option<SocketAddr> {
        self.sockets.last().map(|(_, address)| *address)
    }

    /// Keeps datagrams that were sent, as long as they may be needed.
    pub(super) fn keep(&mut self, bytes: &[u8], shape: Shape) {
        if self.sockets.is_empty() {
            return;
        }
        self.size += bytes.len();
        let mut rest = bytes;
        for size in shape.sizes(bytes.len()) {
            let (datagram, others) = rest.split_at(size);
            self.sent.push(datagram.to_vec());
            rest = others;
        }
        if self.size > MAX_KEPT.0 || self.sent.len() > MAX_KEPT.1 {
            self.settle();
        }
    }

    /// Stays with the present address.
    pub(super) fn settle(&mut self) {
        self.sockets.clear();
        self.sent = Vec::new();
    }
}

impl Socket {
    /// Adds sockets for further addresses of the target, the next one last.
    pub fn set_spares(&mut self, sockets: Vec<(socket2::Socket, SocketAddr)>) {
        self.spares.sockets = sockets;
    }

    /// Goes on to the next address, with what was sent so far, if the target has refused it.
    pub(super) fn go_on(&mut self, taps: &mut Taps) {
        if self.errors.unreachable.is_none() || self.limits.over.is_some() {
            return;
        }
        let Some((socket, target)) = self.spares.sockets.pop() else {
            return;
        };
        let target = reachable(target);
        let peer = Some(target).filter(|_| self.settings.connected);
        // An address that cannot be used is no better than one that refuses.
        let Ok(handle) = Handle::new(socket, peer) else {
            return self.go_on(taps);
        };
        let old = std::mem::replace(&mut self.handle, handle);
        self.spares.refused.push(old);
        self.settings.audience = Audience::Target(target);
        if let Accepts::Only(accepted) = &mut self.settings.accepts {
            *accepted = comparable(target);
        }
        self.sender = Sender::new(&self.handle, &self.settings);
        self.errors = ErrorQueue::default();
        let mut batch = Batch::default();
        let mut end = 0;
        for datagram in std::mem::take(&mut self.spares.sent) {
            batch.grow(end + datagram.len())[end..][..datagram.len()].copy_from_slice(&datagram);
            batch.push_datagram(end, datagram.len());
            end += datagram.len();
        }
        self.spares.size = 0;
        let mut at = Cursor::default();
        if self.send_runs(&batch, &mut at, usize::MAX, taps).is_err() {
            let left = batch.runs().get(at.run..).unwrap_or_default();
            self.errors.count += left.iter().map(|run| run.count() as u64).sum::<u64>();
        }
        self.limits.note_sent(self.limits.is_finished);
    }
}
