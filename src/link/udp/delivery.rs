//! Delivery: the calls that send the runs of a batch, and what comes of them.
//! A datagram is delivered unless an error says otherwise: at once, at the next call, or through the error queue.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;

use super::message::Transmit;
use super::{Refusal, Socket};
use crate::batch::{Batch, Cursor};
use crate::exit::{Exit, Failure, NO_FREE_PORT};
use crate::flow::{Address, Direction};
use crate::tap::{Event, IcmpError, Taps};

impl Socket {
    /// Returns the number of datagrams that are known not to have arrived, or that could not be sent.
    pub(super) fn undelivered(&self) -> u64 {
        self.errors.count + self.sender.too_long
    }

    /// Sends the runs from `at` on, up to the one with the index `until`.
    pub(super) fn send_runs(
        &mut self,
        batch: &Batch,
        at: &mut Cursor,
        until: usize,
        taps: &mut Taps,
    ) -> io::Result<()> {
        self.sender.update_routes(&self.handle, &self.peers);
        let mut has_failed = false;
        loop {
            let Some((first, count)) = self.sender.gather(batch, at, until, &self.handle) else {
                // Once this returns, the batch is gone.
                if self.sender.take_doubt() && self.drain_errors(Some((batch, at)), taps) {
                    continue;
                }
                return Ok(());
            };
            if self.sender.leave_out(&first, taps) {
                self.sender.take(0, at);
                continue;
            }
            match self.sender.transmit(&self.handle, batch) {
                Ok(taken) => {
                    has_failed = false;
                    self.note_sent(taken, batch, at, taps);
                    if taken < count {
                        // The kernel may report only once what stopped it, and not to the next call.
                        self.drain_errors(Some((batch, at)), taps);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(error @ (Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM)) => {
                    self.check_port(first.route.flow.remote)?;
                    self.sender.note_full(error, &self.handle, taps);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                // It may be about an older datagram. Only one that comes again, with the error queue empty, is about this one.
                Err(_)
                    if self.drain_errors(Some((batch, at)), taps)
                        || !std::mem::replace(&mut has_failed, true) => {}
                Err(error) if self.sender.do_without(&first, error, &self.handle) => {}
                Err(error) => {
                    self.skip(&first, error, taps)?;
                    self.sender.take(0, at);
                }
            }
        }
    }

    /// Returns a failure if the kernel has no port for the first datagram to leave from, which `EAGAIN` may mean as well
    /// (`inet_autobind`, `net/ipv4/af_inet.c`).
    fn check_port(&mut self, target: SocketAddr) -> io::Result<()> {
        self.handle.note_bound();
        if self.handle.bound.port() == 0 {
            let text = format!("cannot send to {}: {NO_FREE_PORT}", Address::from(target));
            return Err(Failure::new(Exit::CannotBind, text).into());
        }
        Ok(())
    }

    /// Counts and reports the first `taken` transmits of a call.
    fn note_sent(&mut self, taken: usize, batch: &Batch, at: &mut Cursor, taps: &mut Taps) {
        if self.handle.bound.port() == 0 {
            self.handle.note_bound();
            self.sender.update_routes(&self.handle, &self.peers);
        }
        self.limits.note_sent(false);
        for index in 0..taken {
            let transmit = self.sender.take(index, at);
            self.sender.note_sent(transmit, batch);
            self.spares.keep(transmit.bytes(batch), transmit.shape());
            let mut pair = transmit.route.flow;
            pair.local.set_port(self.handle.bound.port());
            let (shape, bytes) = (transmit.shape(), transmit.bytes(batch));
            self.peers
                .note(Direction::Outgoing, pair, shape, bytes, taps);
        }
    }

    /// Reports a transmit that cannot be sent and is left out. Errors: a [`Failure`] where that is the end.
    fn skip(&mut self, transmit: &Transmit, error: Errno, taps: &mut Taps) -> io::Result<()> {
        let pair = transmit.route.flow;
        let reason = self.errors.explain(error, transmit, &self.handle);
        if self.settings.refusal == Refusal::Ends {
            let exit = Exit::from(&io::Error::from(error));
            let text = format!("cannot send to {}: {reason}", Address::from(pair.remote));
            return Err(Failure::new(exit, text).into());
        }
        let datagrams = transmit.shape().count(transmit.len) as u64;
        self.errors.count += datagrams;
        let flow = &pair.flow();
        let unsent = IcmpError::unsent(flow, &reason, datagrams);
        taps.emit(&Event::Unreachable(unsent));
        Ok(())
    }
}
