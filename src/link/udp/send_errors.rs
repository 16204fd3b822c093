//! When sendmsg(2) fails: wait, try again in another way, skip the datagram, or say why it cannot be sent.
//! The error may be about an older datagram; only one that comes again with the error queue empty is about this one.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::addresses::longest_payload;
use super::parcel::Parcel;
use super::route::explain_denial;
use super::{Refusal, Socket};
use crate::exit::{Exit, Failure, describe};
use crate::pump::end::Link;
use crate::tap::{Event, IcmpError, Taps};

/// How long the queue of a network interface gets to drain, and how often before others are seen to.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSES: u32 = 10;

/// After how long it is told that the kernel takes nothing.
const NOTICE: Duration = Duration::from_secs(1);

/// Since when the kernel has taken no datagram, and whether that is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Congestion {
    since: Instant,
    is_told: bool,
}

/// What was tried for one parcel so far.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failed: u32,
    paused: u32,
}

impl Socket {
    /// Deals with an error about `parcel`: false to try again, true to leave it.
    ///
    /// Errors: `WouldBlock` where it has to wait; a [`Failure`] where it cannot be sent and that is the end.
    pub(super) fn give_up_on(
        &mut self,
        parcel: &Parcel,
        error: Errno,
        attempts: &mut Attempts,
        taps: &mut Taps,
    ) -> io::Result<bool> {
        match error {
            Errno::EINTR => return Ok(false),
            // The queue of an interface is full, and it dropped the datagram (ip(7), IP_RECVERR). There is nothing to wait on.
            Errno::ENOBUFS | Errno::ENOMEM if attempts.paused < PAUSES => {
                attempts.paused += 1;
                // Where it cuts a parcel first, it may drop a part of it, and that is no error.
                self.outbox.cut_below = 0;
                thread::sleep(PAUSE);
                return Ok(false);
            }
            Errno::ENOBUFS | Errno::ENOMEM => {
                self.note_congestion(parcel, error, taps);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Errno::EAGAIN => return Err(io::ErrorKind::WouldBlock.into()),
            _ => {}
        }
        attempts.failed += 1;
        if self.drain_errors(taps) || attempts.failed == 1 {
            return Ok(false);
        }
        let flow = parcel.route.flow;
        // Port 0 is no address at all, however it is asked for.
        if flow.remote.port() != 0 && self.ask_for_less(parcel, error) {
            return Ok(false);
        }
        let reason = self.explain(parcel, error);
        if error != Errno::EMSGSIZE && self.settings.refusal == Refusal::Reported {
            taps.emit(&Event::Unreachable(IcmpError {
                flow: &flow.flow(),
                reason: &reason,
                reported_by: None,
            }));
            return Ok(true);
        }
        let exit = Exit::from(&io::Error::from(error));
        let message = format!("cannot send to {}: {reason}", flow.remote);
        Err(Failure::new(exit, message).into())
    }

    /// Tells, once, of an interface that takes nothing for long: it is waited for as long as the run may last.
    fn note_congestion(&mut self, parcel: &Parcel, error: Errno, taps: &mut Taps) {
        let congestion = self.outbox.congestion.get_or_insert(Congestion {
            since: Instant::now(),
            is_told: false,
        });
        if congestion.is_told || congestion.since.elapsed() < NOTICE {
            return;
        }
        congestion.is_told = true;
        let (target, reason) = (parcel.route.flow.remote, describe(&error.into()));
        let text = format!("nothing can be sent to {target}: {reason}; trying again until it can");
        let socket = &self.identity();
        taps.emit(&Event::Waiting { socket, text });
    }

    /// Does without what the kernel may have declined: segmentation (`UDP_SEGMENT`), or the source address. False if it had neither.
    fn ask_for_less(&mut self, parcel: &Parcel, error: Errno) -> bool {
        match (parcel.cut, error) {
            // Too large for the path, or too many: smaller ones may still do.
            (Some(cut), Errno::EINVAL | Errno::EMSGSIZE) => {
                self.outbox.cut_below = cut.into();
                true
            }
            (Some(_), Errno::EIO | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT) => {
                self.outbox.cut_below = 0;
                true
            }
            // A broadcast address can be written to, and not be sent from.
            (_, Errno::EINVAL | Errno::ENETUNREACH | Errno::EADDRNOTAVAIL)
                if parcel.route.source.is_some() =>
            {
                self.outbox.detour = Some(self.detour_to(parcel.route.flow.remote));
                true
            }
            _ => false,
        }
    }

    fn explain(&self, parcel: &Parcel, error: Errno) -> String {
        let target = parcel.route.flow.remote;
        let most = longest_payload(Some(target));
        let headers = if target.is_ipv4() { 28 } else { 48 };
        match (error, self.outbox.path_mtu) {
            (Errno::EMSGSIZE, _) if parcel.len > most => {
                format!("a datagram holds at most {most} bytes, not {}", parcel.len)
            }
            (Errno::EMSGSIZE, Some(mtu)) => {
                let most = mtu.saturating_sub(headers);
                let len = parcel.len;
                format!("the path takes at most {most} bytes (path MTU {mtu}), not {len}")
            }
            (Errno::ENETUNREACH, _) if target.ip().is_multicast() => {
                "network is unreachable (no route for multicast; --multicast-if names an interface)"
                    .to_owned()
            }
            _ => explain_denial(&self.inner, target, &error.into()),
        }
    }
}
