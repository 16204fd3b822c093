//! Ends of a transfer over UDP, which has none of its own: limits, silence, and an empty datagram (`--eof-datagram`).
//! Limits are exact, and a datagram is never cut: one that would exceed them is the end.

use std::io;
use std::time::{Duration, Instant};

use super::{ReplyTimer, Settings};
use crate::batch::Batch;
use crate::exit::{Exit, Failure};
use crate::flow::Identity;
use crate::pump::end::Arrival;
use crate::tap::{Count, Event, Taps, Transfer, phrases};

/// Time for reading what had arrived before the reply timeout, where datagrams that are not passed on keep coming.
const OVERTIME: Duration = Duration::from_millis(100);

/// Times after which the empty datagram is sent again.
const EOF_REPEATS: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];

/// Time within which the empty datagram has to be sent first.
pub(super) const EOF_SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Reason to receive nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum Over {
    /// All that was asked for has come, or nothing came for long enough.
    Enough,
    /// The peer has sent its empty datagram (`--eof-datagram`).
    PeerEof,
}

/// Rest of what is to be received, and the time to wait for it.
#[derive(Debug)]
pub(in crate::link) struct Limits {
    /// Datagrams (`--count`, `--replies`) and bytes (`--max-bytes`) that are still wanted.
    datagrams: Option<u64>,
    bytes: Option<u64>,
    reply_timeout: Option<Duration>,
    reply_timer: ReplyTimer,
    /// Start of the present silence.
    silent_since: Instant,
    /// The local end has nothing more to send.
    pub(in crate::link) is_finished: bool,
    /// Reason that nothing more is received.
    pub(in crate::link) over: Option<Over>,
}

impl Limits {
    pub(in crate::link) fn new(settings: &Settings) -> Self {
        let mut limits = Self {
            datagrams: settings.wanted,
            bytes: settings.max_bytes,
            reply_timeout: settings.reply_timeout,
            reply_timer: settings.reply_timer,
            silent_since: Instant::now(),
            is_finished: false,
            over: None,
        };
        limits.take(0, 0);
        limits
    }

    /// Returns the number of datagrams that did not come, of those asked for; `None` where all the bytes asked for have come.
    pub(super) fn missing(&self) -> Option<u64> {
        (self.datagrams).filter(|&left| left > 0 && self.bytes != Some(0))
    }

    /// Returns a failure if datagrams that were asked for did not come.
    pub(in crate::link) fn check_complete(&self, socket: &Identity) -> Result<(), Failure> {
        let Some(count) = self.missing() else {
            return Ok(());
        };
        let (datagrams, were) = (phrases::datagrams(count), was_or_were(count));
        let text = format!("{socket}: {datagrams} that {were} asked for did not come");
        Err(Failure::new(Exit::TimedOut, text))
    }

    /// Returns the arrival of what is in the batch, or of the end if nothing is.
    pub(in crate::link) fn arrival(&self, batch: &Batch) -> Arrival {
        match self.over {
            _ if !batch.is_empty() => Arrival::Data,
            Some(Over::Enough) => Arrival::Enough,
            Some(Over::PeerEof) => Arrival::End,
            None => Arrival::Nothing,
        }
    }

    /// Returns the number of datagrams within the limits, of a run that has `len` bytes with a boundary every `stride` bytes. Fewer
    /// than all of them are the last.
    pub(in crate::link) fn admit(&mut self, len: usize, stride: usize) -> usize {
        let within = |left: u64| usize::try_from(left).unwrap_or(usize::MAX);
        let all = len.div_ceil(stride).max(1);
        let mut count = all.min(self.datagrams.map_or(usize::MAX, within));
        if let Some(left) = self.bytes.map(within)
            && len.min(count * stride) > left
        {
            count = left / stride;
        }
        if count < all {
            // A later datagram that fits must not overtake those that do not.
            self.bytes = self.bytes.map(|_| 0);
            self.over = Some(Over::Enough);
        }
        count
    }

    /// Subtracts `count` datagrams that have `len` bytes together.
    pub(in crate::link) fn take(&mut self, len: usize, count: usize) {
        let less = |left: u64, taken: usize| left.saturating_sub(taken as u64);
        self.datagrams = self.datagrams.map(|left| less(left, count));
        self.bytes = self.bytes.map(|left| less(left, len));
        if self.datagrams == Some(0) || self.bytes == Some(0) {
            self.over = Some(Over::Enough);
        }
        self.silent_since = Instant::now();
    }

    /// Notes that a datagram was sent, or (`is_last`) that the local end has nothing more to send.
    pub(in crate::link) fn note_sent(&mut self, is_last: bool) {
        self.is_finished |= is_last;
        if is_last || self.reply_timer == ReplyTimer::AfterEachSend {
            self.silent_since = Instant::now();
        }
    }

    /// Returns true if all that is to be sent may have been sent, so that only replies are waited for.
    pub(in crate::link) fn awaits_replies(&self) -> bool {
        self.is_finished || self.reply_timer == ReplyTimer::AfterEachSend
    }

    /// Returns the time at which the wait for replies is over, where it has a limit.
    pub(in crate::link) fn silent_until(&self) -> Option<Instant> {
        let timeout = self.reply_timeout.filter(|_| self.awaits_replies())?;
        self.silent_since.checked_add(timeout)
    }

    /// Ends receiving if the wait for replies is over, and what had arrived by then is read.
    ///
    /// Datagrams that are not passed on may keep coming, and hide that (`is_drained` is false): it ends after [`OVERTIME`] then.
    pub(in crate::link) fn check_silence(&mut self, is_drained: bool) {
        let overtime = if is_drained { Duration::ZERO } else { OVERTIME };
        let until = self.silent_until();
        let until = until.and_then(|until| until.checked_add(overtime));
        if until.is_some_and(|until| until <= Instant::now()) {
            self.over.get_or_insert(Over::Enough);
        }
    }
}

/// Returns the verb for a number of datagrams.
pub(super) fn was_or_were(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

/// Returns the error of input that goes on after the datagram that stands for the end.
pub(in crate::link) fn sent_after_end() -> io::Error {
    let text = "cannot send anything after an empty datagram: that is the end (--eof-datagram)";
    Failure::new(Exit::Failed, text).into()
}

/// Empty datagram that stands for the end, where both sides have agreed on that.
///
/// No later datagram could reveal its loss, so it is sent again until the peer has answered with its own, or has gone.
#[derive(Debug, Default)]
pub(super) struct EofDatagram {
    /// The input contained an empty datagram, which stands for it.
    pub(super) is_in_input: bool,
    /// Number of times that it was sent, to the whole audience each time.
    rounds: usize,
    /// Number of datagrams that were sent then.
    datagrams: u64,
    /// It was sent because the peer had sent its own.
    is_answer: bool,
    /// Time at which it is sent again.
    pub(super) due: Option<Instant>,
    /// Time until which it has to be sent first, once that was tried.
    pub(super) deadline: Option<Instant>,
}

impl EofDatagram {
    pub(super) fn is_sent(&self) -> bool {
        self.rounds > 0
    }

    /// Returns true if it was sent again. Then an ICMP error for an empty datagram only means that the peer has received an earlier
    /// one, and has gone.
    pub(super) fn is_repeated(&self) -> bool {
        self.rounds > 1
    }

    /// Notes that it could not be sent for the first time; returns true if it was too late for that.
    pub(super) fn note_delay(&mut self) -> bool {
        let now = Instant::now();
        *self.deadline.get_or_insert(now + EOF_SEND_TIMEOUT) <= now
    }

    /// Notes that it was sent to the whole audience, as this number of datagrams, and in answer to that of the peer or not.
    pub(super) fn note_sent(&mut self, datagrams: u64, is_answer: bool, may_repeat: bool) {
        self.datagrams += datagrams;
        self.is_answer |= is_answer && !self.is_sent();
        let again = EOF_REPEATS.get(self.rounds);
        let again = again.filter(|_| may_repeat && !self.is_answer);
        self.due = again.map(|&time| Instant::now() + time);
        self.rounds += 1;
        self.deadline = None;
    }

    /// Reports what was transferred in each direction that was used, without the datagrams that stand for the end.
    pub(super) fn report(&self, [mut received, mut sent]: [Transfer<'_>; 2], taps: &mut Taps) {
        let is_first = self.is_sent() && !self.is_answer;
        let has_come = received.complete;
        let less = |count: Count, ends: u64| count.chunks.saturating_sub(ends);
        received.count.chunks = less(received.count, has_come.into());
        sent.count.chunks = less(sent.count, self.datagrams);
        if received.count.chunks > 0 || has_come && !is_first {
            taps.emit(&Event::Transferred(received));
        }
        if sent.count.chunks > 0 || is_first {
            taps.emit(&Event::Transferred(sent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(wanted: Option<u64>, max_bytes: Option<u64>) -> Limits {
        Limits::new(&Settings {
            wanted,
            max_bytes,
            ..Settings::default()
        })
    }

    fn admitted(datagrams: Option<u64>, bytes: Option<u64>, len: usize, stride: usize) -> usize {
        limits(datagrams, bytes).admit(len, stride)
    }

    #[test]
    fn without_limits_everything_is_admitted() {
        assert_eq!(admitted(None, None, 0, 1), 1);
        assert_eq!(admitted(None, None, 550, 100), 6);
    }

    #[test]
    fn only_whole_datagrams_are_admitted() {
        assert_eq!(admitted(Some(2), None, 550, 100), 2);
        assert_eq!(admitted(None, Some(549), 550, 100), 5);
        assert_eq!(admitted(None, Some(550), 550, 100), 6);
        assert_eq!(admitted(None, Some(99), 550, 100), 0);
        assert_eq!(admitted(Some(9), Some(200), 550, 100), 2);
    }

    #[test]
    fn what_is_taken_is_no_longer_left() {
        let mut limits = limits(Some(6), Some(550));
        limits.take(500, 5);
        assert_eq!((limits.missing(), limits.over), (Some(1), None));
        limits.take(50, 1);
        assert_eq!((limits.missing(), limits.over), (None, Some(Over::Enough)));
    }

    #[test]
    fn an_empty_datagram_is_repeated_three_times_unless_it_is_an_answer() {
        let mut eof = EofDatagram::default();
        for times in 0..4 {
            assert_eq!((eof.is_sent(), eof.is_repeated()), (times > 0, times > 1));
            eof.note_sent(1, false, true);
            assert_eq!(eof.due.is_some(), times < 3);
        }
        let mut answer = EofDatagram::default();
        answer.note_sent(1, true, true);
        assert_eq!(answer.due, None);
    }

    #[test]
    fn an_empty_datagram_has_a_deadline_until_it_is_sent() {
        let mut eof = EofDatagram::default();
        assert!(!eof.note_delay());
        assert!(
            eof.deadline
                .is_some_and(|deadline| deadline > Instant::now())
        );
        eof.note_sent(1, false, true);
        assert_eq!(eof.deadline, None);
    }
}
