//! One line an event on standard error, for people.
//! Every line names its socket: a listening socket by its address, a connection by its 4-tuple, a datagram by its sender.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};

use super::phrases::{
    self, Bytes, bound, broken, buffers, child_end, icmp_error, kernel_drop, omitted, size, totals,
    transfer,
};
use super::{Conversation, Data, Event, IcmpError, Rejection, SocketState, Tap, Target, Via};
use crate::escape::Escaped;
use crate::exit::{Failure, describe};
use crate::flow::{Direction, Flow, Identity};

/// Peers and directions that get a line of their own for their first datagram.
const ANNOUNCED_MAX: usize = 4096;

/// Peers that are listed at the end, unless all events are reported.
const LISTED_PEERS: usize = 16;

/// The events that are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Failures and warnings: losses, refusals, waits.
    Errors,
    /// Beginnings, ends and failures.
    Events,
    /// Every chunk as well.
    Chunks,
}

/// The use of colours in lines and dumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// Text only.
    Plain,
    /// Colours by the kind of an event or a byte.
    Colored,
}

/// Writer of events as lines.
pub struct Lines<W> {
    out: W,
    detail: Detail,
    palette: Palette,
    announced: HashSet<(Flow, Direction)>,
    /// Number of datagrams that are reported alike: the word, and the text that they share.
    repeats: HashMap<(&'static str, String), u64>,
    /// Failed attempts, reported if another one succeeds: if none does, the error of the run names them all.
    failed: Vec<String>,
    /// With errors only, the breaks that the error of the run may name as well.
    broken: Vec<String>,
    /// True once a line has said that attempts are repeated.
    retry_is_reported: bool,
}

impl<W: Write> Lines<W> {
    /// A writer to `out`, which gets one whole line at a time.
    pub fn new(out: W, detail: Detail, palette: Palette) -> Self {
        Self {
            out,
            detail,
            palette,
            announced: HashSet::new(),
            repeats: HashMap::new(),
            failed: Vec::new(),
            broken: Vec::new(),
            retry_is_reported: false,
        }
    }

    pub(super) fn line(&mut self, word: &str, text: impl Display) {
        put_line(&mut self.out, self.palette, word, text);
    }

    /// Returns true if events that need this detail are reported.
    pub(crate) fn reports(&self, detail: Detail) -> bool {
        self.detail >= detail
    }

    fn reports_all(&self) -> bool {
        self.reports(Detail::Chunks)
    }

    fn connect_failed(&mut self, target: &Target, error: &io::Error) {
        let text = format!("{}: {}", target.remote, describe(error));
        if self.reports_all() {
            self.line("failed", text);
        } else {
            self.failed.push(text);
        }
    }

    fn connected(&mut self, flow: &Flow, via: Option<&Via>) {
        for text in std::mem::take(&mut self.failed) {
            self.line("failed", text);
        }
        self.line("connected", flow);
        if let Some(via) = via {
            self.line("connected", via);
        }
    }

    fn open(&mut self, flow: &Flow, after: Duration, via: Option<&Via>) {
        self.failed.clear();
        let millis = after.as_secs_f64() * 1e3;
        let name = via.map_or_else(|| flow.to_string(), ToString::to_string);
        self.line("open", format!("{name}  connected after {millis:.2} ms"));
    }

    fn probe_failed(&mut self, failure: &Failure) {
        self.failed.clear();
        let lines = failure.message.lines();
        let reasons: Vec<&str> = lines
            .map(|line| line.strip_prefix("cannot connect to ").unwrap_or(line))
            .collect();
        self.line("failed", reasons.join("; "));
    }

    /// Reports the first retry, or every one with full detail.
    fn retrying(&mut self, failure: &Failure, left: Duration) {
        self.failed.clear();
        if !std::mem::replace(&mut self.retry_is_reported, true) || self.reports_all() {
            let reason = failure.message.lines().next().unwrap_or_default();
            let left = left.as_secs_f64();
            let text = format!("{reason}; for up to {left:.1} s (--retry-for)");
            self.line("retrying", text);
        }
    }

    fn relayed(&mut self, client: Conversation<'_>, target: Conversation<'_>, via: Option<&Via>) {
        self.failed.clear();
        self.line("relayed", phrases::relayed(client, target));
        if let Some(via) = via {
            self.line("relayed", via);
        }
    }

    fn not_relayed(&mut self, client: Conversation<'_>, failure: &Failure) {
        self.failed.clear();
        for reason in failure.message.lines() {
            self.broken(format!("{client}  {reason}"));
        }
    }

    fn broken(&mut self, text: String) {
        if self.reports(Detail::Events) {
            self.line("broken", text);
        } else {
            self.broken.push(text);
        }
    }

    /// Reports every rejected connection, but only the first datagrams of a peer. Those that are lost in a relay are counted.
    fn rejected(&mut self, flow: &Flow, datagrams: Option<usize>, reason: Rejection) {
        let why = reason.text();
        match datagrams {
            None => self.line("rejected", format!("{flow}  {why}")),
            Some(count) if reason == Rejection::NotRelayed => {
                let text = format!("{}  {why}", flow.arrow(Direction::Incoming));
                self.repeated("rejected", text.clone(), text, count as u64);
            }
            Some(count) if self.is_news(flow, Direction::Incoming) => {
                let (flow, count) = (
                    flow.arrow(Direction::Incoming),
                    phrases::datagrams(count as u64),
                );
                self.line("rejected", format!("{flow}  {count} {why}"));
            }
            Some(_) => {}
        }
    }

    fn ignored(&mut self, flow: &Flow, bytes: usize) {
        if self.is_news(flow, Direction::Incoming) {
            let (flow, size) = (flow.arrow(Direction::Incoming), Bytes(bytes as u64));
            self.line("ignored", format!("{flow}  {size} from another sender"));
        }
    }

    fn data(&mut self, data: &Data<'_>) {
        let (flow, direction) = (data.flow, data.direction);
        let word = match direction {
            Direction::Incoming => "received",
            Direction::Outgoing => "sent",
        };
        if flow.transport.has_connections() && self.reports_all() {
            self.line(word, format!("{}  {}", data.name(), size(data)));
        } else if !flow.transport.has_connections() && self.is_news(flow, direction) {
            let (flow, size) = (flow.arrow(direction), size(data));
            self.line(word, format!("{flow}  {size}"));
        }
    }

    /// Returns true for the first datagram between two addresses; with full detail, for every one.
    fn is_news(&mut self, flow: &Flow, direction: Direction) -> bool {
        let has_room = self.announced.len() < ANNOUNCED_MAX;
        let is_first = has_room && self.announced.insert((flow.clone(), direction));
        is_first || self.reports_all()
    }

    /// Reports the first of what may be many; the others, which have the text `shared`, are counted.
    fn repeated(&mut self, word: &'static str, shared: String, text: impl Display, count: u64) {
        let key = (word, shared);
        let is_first = !self.repeats.contains_key(&key);
        if is_first && self.repeats.len() == ANNOUNCED_MAX {
            return;
        }
        *self.repeats.entry(key).or_default() += count;
        if is_first || self.reports_all() {
            self.line(word, text);
        }
    }

    /// Reports the first ICMP error for each target.
    fn refused(&mut self, error: &IcmpError<'_>) {
        let flow = error.flow.arrow(Direction::Outgoing);
        let shared = format!("{flow}  {}", error.reason);
        self.repeated("refused", shared, icmp_error(error), error.datagrams);
    }

    /// Reports the first peer that was forgotten.
    fn forgotten(&mut self, flow: &Flow) {
        let reason = "idle longest of the peers";
        let shared = format!("{} {}  {reason}", flow.transport, flow.local);
        let text = format!("{}  {reason}", flow.arrow(Direction::Incoming));
        self.repeated("forgotten", shared, text, 1);
    }

    /// Reports the first datagram of each peer that was truncated.
    fn truncated(&mut self, flow: &Flow, bytes: usize, size: usize) {
        let flow = flow.arrow(Direction::Incoming);
        let shared = format!("{flow}  longer than {bytes} bytes");
        self.repeated(
            "truncated",
            shared,
            format!("{flow}  {size} -> {bytes} bytes"),
            1,
        );
    }

    fn closed(&mut self, state: &SocketState) {
        if !state.identity.transport().has_connections() && !self.reports_all() {
            let own = match &state.identity {
                // Others that are connected may go on.
                Identity::Pair(flow) => format!("{} {} ", flow.transport, flow.local),
                Identity::Socket(..) => String::new(),
            };
            let own = (self.repeats).extract_if(|(_, text), _| text.starts_with(&own));
            for ((word, text), count) in own.collect::<Vec<_>>() {
                if count > 1 {
                    self.line(word, format!("{text}, {count} in all"));
                }
            }
        }
        if self.reports(Detail::Events) {
            self.line("closed", totals(state));
        }
    }

    fn oversized(&mut self, flow: &Flow, [bytes, limit]: [usize; 2], datagrams: u64) {
        let flow = flow.arrow(Direction::Outgoing);
        let so_far = match datagrams {
            1 => String::new(),
            many => format!(", {many} so far"),
        };
        let most = match limit {
            65_507.. => format!("the {limit} of any datagram"),
            _ => format!("{limit} (--datagram-size)"),
        };
        let text = format!("{flow}  {bytes} bytes, more than {most}{so_far}");
        self.line("oversized", text);
    }

    /// Lists the peers that were heard last; with full detail, all of them.
    fn peers(&mut self, states: &[SocketState]) {
        let most = match self.detail {
            Detail::Errors | Detail::Events => LISTED_PEERS,
            Detail::Chunks => usize::MAX,
        };
        let skipped = states.len().saturating_sub(most);
        if skipped > 0 {
            let text = format!("{skipped} more, idle longer (-v shows them)");
            self.line("peer", text);
        }
        for state in &states[skipped..] {
            self.line("peer", totals(state));
        }
    }

    /// Lists every socket, and below it what its buffers hold.
    fn table(&mut self, states: &[SocketState]) {
        for state in states {
            match state.state {
                "peer" => self.line("peer", totals(state)),
                word => self.line("socket", format!("{}  {word}", totals(state))),
            }
            if state.unsent.is_some() {
                self.line("", buffers(state));
            }
        }
    }
}

impl<W: Write> Tap for Lines<W> {
    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        if !self.reports(detail_of(event)) {
            return;
        }
        match event {
            Event::Listening { socket, reach } => self.line("listening", bound(socket, *reach)),
            Event::Bound { socket, reach } => self.line("bound", bound(socket, *reach)),
            Event::Connecting(target) => self.line("connecting", &target.remote),
            Event::ConnectFailed { target, error, .. } => self.connect_failed(target, error),
            Event::Retrying { failure, left } => self.retrying(failure, *left),
            Event::Open { flow, after, via } => self.open(flow, *after, *via),
            Event::ProbeFailed(failure) => self.probe_failed(failure),
            Event::Connected { flow, via, .. } => self.connected(flow, *via),
            Event::Accepted(name) => self.line("accepted", name),
            #[rustfmt::skip]
            Event::Relayed { client, target, via, .. } => self.relayed(*client, *target, *via),
            Event::NotRelayed { client, failure } => self.not_relayed(*client, failure),
            Event::Data(data) => self.data(data),
            Event::HalfClosed(name) => {
                self.line("finished", format!("{name}  nothing more to send"));
            }
            Event::PeerFinished(name) => {
                self.line("finished", format!("{name}  by the peer"));
            }
            Event::Broken { name, error, .. } => {
                self.broken(format!("{}  {}", broken(*name), describe(error)));
            }
            Event::Unreachable(error) => self.refused(error),
            Event::Ignored { flow, bytes } => self.ignored(flow, *bytes),
            Event::Rejected {
                flow,
                datagrams,
                reason,
            } => self.rejected(flow, *datagrams, *reason),
            Event::Forgotten(flow) => self.forgotten(flow),
            Event::Truncated { flow, bytes, size } => self.truncated(flow, *bytes, *size),
            Event::Oversized {
                flow,
                bytes,
                limit,
                datagrams,
            } => self.oversized(flow, [*bytes, *limit], *datagrams),
            Event::NoInput { name, text } => self.line("late", format!("{name}  {text}")),
            Event::Dropped(drop) => self.line("dropped", kernel_drop(drop)),
            Event::Waiting { socket, text } => self.line("waiting", format!("{socket}  {text}")),
            Event::Omitted { reports } => self.line("omitted", omitted(*reports)),
            Event::Replaced { socket } => {
                let text = format!("{socket}  the file of a socket that was no more");
                self.line("replaced", text);
            }
            Event::Capped { text } => self.line("capped", text),
            Event::Transferred(sum) => self.line("transfer", transfer(sum)),
            Event::Peers(states) => self.peers(states),
            Event::Exited(end) => self.line("exited", child_end(end)),
            Event::Closed(state) => self.closed(state),
            Event::Sockets(states) => self.table(states),
            Event::Failed(failure) if !failure.message.is_empty() => self.broken.clear(),
            Event::Called(_) | Event::Failed(_) | Event::Ended { .. } => {}
        }
    }

    fn wants_figures(&self) -> bool {
        false
    }

    fn flush(&mut self) -> Result<(), Failure> {
        for text in std::mem::take(&mut self.broken) {
            self.line("broken", text);
        }
        Ok(())
    }
}

/// Returns the least detail that reports an event.
fn detail_of(event: &Event<'_>) -> Detail {
    match event {
        Event::Exited(end) if end.status.success() => Detail::Chunks,
        Event::Transferred(sum) if sum.lost == 0 => Detail::Events,
        #[rustfmt::skip]
        Event::Broken { .. } | Event::NotRelayed { .. } | Event::ProbeFailed(_) | Event::Unreachable(_) | Event::Ignored { .. }
        | Event::Rejected { .. } | Event::Forgotten(_) | Event::Truncated { .. }
        | Event::Oversized { .. } | Event::NoInput { .. } | Event::Dropped(_) | Event::Waiting { .. } | Event::Replaced { .. } | Event::Capped { .. } | Event::Omitted { .. }
        | Event::Transferred(_) | Event::Exited(_) | Event::Sockets(_) | Event::Closed(_) | Event::Failed(_) => Detail::Errors,
        #[rustfmt::skip]
        Event::Listening { .. } | Event::Bound { .. } | Event::ConnectFailed { .. }
        | Event::Retrying { .. } | Event::Open { .. } | Event::Connected { .. }
        | Event::Accepted(_) | Event::Relayed { .. } | Event::Data(_) | Event::Peers(_)
        | Event::Ended { .. } => Detail::Events,
        #[rustfmt::skip]
        Event::Connecting(_) | Event::HalfClosed(_) | Event::PeerFinished(_)
        | Event::Called(_) => Detail::Chunks,
    }
}

/// Writes a line: one word in a column of its own, then the text.
pub(super) fn put_line(out: &mut impl Write, palette: Palette, word: &str, text: impl Display) {
    let style = match palette {
        Palette::Plain => Style::new(),
        Palette::Colored => style_of(word),
    };
    let line = format!("{style}{word:<10}{style:#} {}\n", Escaped(text));
    // A failed write to standard error cannot be reported, and the traffic matters more.
    let _ = out.write_all(line.as_bytes());
}

fn style_of(word: &str) -> Style {
    let color = match word {
        call if call.ends_with("()") => AnsiColor::Blue,
        "failed" | "retrying" | "capped" | "broken" | "rejected" | "refused" | "truncated"
        | "dropped" | "replaced" | "ignored" | "omitted" | "oversized" => AnsiColor::Yellow,
        "received" | "sent" | "socket" | "peer" => AnsiColor::Cyan,
        _ => AnsiColor::Green,
    };
    color.on_default()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::batch::Shape;
    use crate::flow::{Identity, Transport};
    use crate::tap::{Conversation, Reach};

    fn flow(transport: Transport) -> &'static Flow {
        let address = |text: &str| text.parse().unwrap();
        Box::leak(Box::new(Flow::new(
            transport,
            address("127.0.0.1:9000"),
            address("127.0.0.1:50312"),
        )))
    }

    fn report(detail: Detail, events: &[Event<'_>]) -> String {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out, detail, Palette::Plain);
        for event in events {
            lines.event(event, SystemTime::UNIX_EPOCH);
        }
        String::from_utf8(out).unwrap()
    }

    fn data(transport: Transport, len: usize) -> Event<'static> {
        let (conn, shape) = match transport {
            Transport::Tcp => (Some(1.into()), Shape::Stream),
            _ => (None, Shape::Datagrams(len)),
        };
        Event::Data(Data {
            direction: Direction::Incoming,
            flow: flow(transport),
            conn,
            len,
            shape,
            bytes: None,
        })
    }

    #[test]
    fn each_line_names_its_socket() {
        let socket = Identity::Socket(Transport::Tcp, flow(Transport::Tcp).local.clone());
        let mut closed =
            SocketState::new(Identity::Pair(flow(Transport::Tcp).clone()), Instant::now());
        closed.conn = Some(1.into());
        closed.received.add(12, 1);
        let text = report(
            Detail::Events,
            &[
                Event::Listening {
                    socket: &socket,
                    reach: Reach::Loopback,
                },
                Event::Accepted(Conversation {
                    flow: flow(Transport::Tcp),
                    conn: Some(1.into()),
                }),
                data(Transport::Tcp, 12),
                Event::Closed(&closed),
            ],
        );
        let expected = "\
listening  tcp 127.0.0.1:9000 (this machine only)
accepted   tcp 127.0.0.1:9000 <-> 127.0.0.1:50312  #1
closed     tcp 127.0.0.1:9000 <-> 127.0.0.1:50312  #1  in 12 B, out 0 B, 0.00 s
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_sender_is_announced_once_unless_every_chunk_is_asked_for() {
        let twice = || [data(Transport::Udp, 12), data(Transport::Udp, 1)];
        let first = "received   udp 127.0.0.1:9000 <- 127.0.0.1:50312  12 bytes\n";
        let second = "received   udp 127.0.0.1:9000 <- 127.0.0.1:50312  1 byte\n";
        assert_eq!(report(Detail::Events, &twice()), first);
        assert_eq!(report(Detail::Chunks, &twice()), format!("{first}{second}"));
    }

    #[test]
    fn failed_attempts_are_reported_once_another_succeeds() {
        let error = std::io::Error::from_raw_os_error(111);
        let target = Target {
            transport: Transport::Tcp,
            remote: "[::1]:9".parse().unwrap(),
        };
        let failed = || Event::ConnectFailed {
            target: target.clone(),
            error: &error,
            after: std::time::Duration::ZERO,
        };
        assert_eq!(report(Detail::Events, &[failed()]), "");
        let connected = Event::Connected {
            flow: flow(Transport::Tcp),
            after: std::time::Duration::ZERO,
            via: None,
        };
        let text = report(Detail::Events, &[failed(), connected]);
        assert!(
            text.starts_with("failed     [::1]:9: connection refused\nconnected  tcp "),
            "{text}"
        );
    }
}
