//! The calls of the sockets API as they happen, each with the name of the socket after it.
//! A lesson for those who learn or teach: the same run, in the words of the man pages.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::time::SystemTime;

use super::lines::{Detail, Palette, put_line};
use super::phrases::{Bytes, broken, number, size};
use super::{
    Call, Console, Conversation, Data, Event, FailedCall, FinalSegment, PerDirection, SocketState,
    Tap, Target, Via,
};
use crate::exit::describe;
use crate::flow::{Direction, Flow, Identity, Transport};

/// Calls that are shown for each conversation and direction, unless all are asked for.
const SHOWN_CALLS: u32 = 10;
/// Conversations whose calls are shown.
const SHOWN_FLOWS: usize = 4096;

/// Things that a session over a connection waits for. The call is `epoll_wait`, for all descriptors at once.
const BOTH: &str = "for something to receive or to send";

/// Effects of calls, in the words of one family of sockets.
struct Effects {
    bound: &'static str,
    connecting: &'static str,
    connected: &'static str,
    open: &'static str,
    accepted: &'static str,
    finished: &'static str,
    peer_finished: &'static str,
    closed: &'static str,
}

const OF_INET: Effects = Effects {
    bound: "its own address and port",
    connecting: "sends a SYN",
    connected: "the 4-tuple is its name",
    open: "the port is open",
    accepted: "a new socket, same local port",
    finished: "sends a FIN; can still receive",
    peer_finished: "0 bytes: the FIN of the peer",
    closed: "sends nothing: UDP has no end",
};

const OF_UNIX: Effects = Effects {
    bound: "its own name; there is no port",
    connecting: "joins the queue of the listening socket",
    connected: "SO_PEERCRED names the peer's process",
    open: "a process listens there",
    accepted: "a new socket; SO_PEERCRED names the process",
    finished: "the peer reads the end; can still receive",
    peer_finished: "0 bytes: the peer sends no more",
    closed: "sends nothing: datagrams have no end",
};

fn effects(transport: Transport) -> &'static Effects {
    if transport.is_unix() {
        &OF_UNIX
    } else {
        &OF_INET
    }
}

/// Writer of calls as lines.
pub struct Explain {
    out: Console,
    palette: Palette,
    detail: Detail,
    shown: HashMap<Flow, PerDirection<u32>>,
    /// Connections that their peer has reset.
    reset: HashSet<Flow>,
    /// True once the socket has its name, from `bind` or from the first datagram it sent.
    is_named: bool,
}

impl Explain {
    /// A writer to `out`; with full `detail` every call that moves data, not only the first ones.
    pub fn new(out: Console, detail: Detail, palette: Palette) -> Self {
        Self {
            out,
            palette,
            detail,
            shown: HashMap::new(),
            reset: HashSet::new(),
            is_named: false,
        }
    }

    fn step(&mut self, call: &str, text: impl Display) {
        put_line(&mut self.out, self.palette, call, text);
    }

    fn failed(&mut self, call: &str, name: impl Display, error: &io::Error) {
        self.step(call, format!("{name}  failed: {}", describe(error)));
    }

    fn called(&mut self, call: &Call) {
        self.is_named |= matches!(call, Call::Bind(_) | Call::Connect(_));
        let (call, text) = match call {
            Call::Socket(transport, address) => {
                let family = match address.inet() {
                    Some(inet) if inet.is_ipv4() => "IPv4",
                    Some(_) => "IPv6",
                    None => "Unix",
                };
                let kind = match transport {
                    Transport::Tcp => "a stream socket (TCP)",
                    Transport::Udp => "a datagram socket (UDP)",
                    Transport::Unix => "a stream socket",
                    Transport::UnixPacket => "a packet socket",
                    Transport::UnixDatagram => "a datagram socket",
                };
                let text = format!("{kind} for {family}, without a name yet");
                ("socket()", text)
            }
            Call::Bind(name) => {
                let effect = effects(name.transport()).bound;
                ("bind()", format!("{name}  {effect}"))
            }
            Call::Listen(name, backlog) => {
                // Linux lets one more wait than the backlog says (`sk_acceptq_is_full`, net/sock.h).
                let most = u64::from(*backlog) + 1;
                let text = format!("the kernel answers; backlog {backlog}: {most} may wait");
                ("listen()", format!("{name}  {text} for accept()"))
            }
            Call::Connect(name) => {
                let text = format!("{name}  sets the one peer; nothing is sent");
                ("connect()", text)
            }
            Call::AwaitReplies(name) => {
                let text = format!("for replies; {name} sends no more");
                ("waiting", text)
            }
            Call::Close(name) => {
                let text = format!("{name}  no more clients; connections stay");
                ("close()", text)
            }
        };
        self.step(call, text);
    }

    /// Shows a call that has moved data.
    fn moved(&mut self, data: &Data<'_>) {
        let (direction, flow) = (data.direction, data.flow);
        let is_new = !self.shown.contains_key(flow);
        if is_new && self.shown.len() >= SHOWN_FLOWS {
            return;
        }
        let shown = self.shown.entry(flow.clone()).or_default().of(direction);
        *shown = shown.saturating_add(1);
        let (shown, size, arrow) = (*shown, size(data), flow.arrow(direction));
        let is_stream = flow.transport.has_connections();
        let call = match direction {
            Direction::Incoming if is_stream => "recv()",
            Direction::Outgoing if is_stream => "send()",
            Direction::Incoming => "recvmsg()",
            Direction::Outgoing => "sendmsg()",
        };
        if shown > SHOWN_CALLS && self.detail < Detail::Chunks {
            if shown == SHOWN_CALLS + 1 {
                let text = format!("{arrow}  and so on (-v shows every call)");
                self.step(call, text);
            }
            return;
        }
        if is_stream {
            self.step(call, format!("{}  {size}", data.name()));
        } else {
            let lesson = self.lesson(data, is_new);
            self.step(call, format!("{arrow}  {size}{lesson}"));
        }
    }

    /// Returns what a datagram shows about UDP.
    fn lesson(&mut self, data: &Data<'_>, is_new: bool) -> &'static str {
        let was_named = std::mem::replace(&mut self.is_named, true);
        match data.direction {
            _ if data.len == 0 => ": an empty datagram is no end",
            Direction::Outgoing if !was_named => "; the kernel chose our port",
            Direction::Incoming if is_new => "; a new sender, the same socket",
            _ => "",
        }
    }

    fn connecting(&mut self, target: &Target) {
        let effect = effects(target.transport).connecting;
        self.step("connect()", format!("{target}  {effect}"));
        if !target.transport.is_unix() {
            self.step("waiting", "for the answer");
        }
    }

    fn connected(&mut self, transport: Transport, name: impl Display, via: Option<&Via>) {
        let effect = if transport.has_connections() {
            effects(transport).connected
        } else {
            "sets the one peer; nothing is sent"
        };
        self.step("connect()", format!("{name}  {effect}"));
        if let Some(via) = via {
            self.step("proxy", format!("{via}  it has connected"));
        }
        self.step("waiting", BOTH);
    }

    /// Shows the call that has reported a break, in its own words: an end by a limit of this program has none.
    fn broken(
        &mut self,
        name: Conversation<'_>,
        cause: &io::Error,
        call: Option<(FailedCall, &io::Error)>,
    ) {
        if cause.kind() == ErrorKind::ConnectionReset {
            self.reset.insert(name.flow.clone());
        }
        let Some((call, error)) = call else {
            return;
        };
        let is_stream = name.flow.transport.has_connections();
        let name = broken(name);
        let call = match call {
            FailedCall::Recv if is_stream => "recv()",
            FailedCall::Recv => "recvmsg()",
            FailedCall::Send if is_stream => "send()",
            FailedCall::Send => "sendmsg()",
            FailedCall::Shutdown => "shutdown()",
            FailedCall::PendingError => {
                let text = format!("{name}  SO_ERROR: {}", describe(error));
                return self.step("getsockopt()", text);
            }
        };
        self.failed(call, name, error);
    }

    fn closed(&mut self, state: &SocketState) {
        let (name, number) = (&state.identity, number(state.conn));
        let effect = match name {
            _ if !name.transport().has_connections() => effects(name.transport()).closed.to_owned(),
            Identity::Pair(flow) => {
                self.shown.remove(flow);
                effect_of_close(state, self.reset.remove(flow))
            }
            Identity::Socket(..) => "sends nothing".to_owned(),
        };
        self.step("close()", format!("{name}{number}  {effect}"));
    }
}

/// Returns what closing a connection does, by the state that the kernel had it in.
fn effect_of_close(state: &SocketState, was_reset: bool) -> String {
    let is_unix = state.identity.transport().is_unix();
    let effect = match (state.final_segment, state.path.map(|path| path.state)) {
        _ if is_unix && state.unread > Some(0) => "unread data is lost: the peer is reset",
        _ if is_unix && state.state != "ended" && !was_reset => "the peer reads the end",
        (FinalSegment::Reset, _) => return "sends a RST: the connection is aborted".to_owned(),
        (FinalSegment::Fin, _) => "sends a FIN",
        (_, Some("FIN-WAIT-1" | "CLOSING" | "LAST-ACK")) => {
            "sends no more; no answer to the FIN yet"
        }
        (_, Some("FIN-WAIT-2")) => "sends no more; the peer has not sent its FIN",
        (_, Some("TIME-WAIT")) => "sends nothing: both sides have finished",
        _ if was_reset => "sends nothing: the peer has reset the connection",
        _ if state.state == "ended" => "sends nothing: both sides have finished",
        _ => "sends nothing: the kernel has given up; the peer may not know",
    };
    match state.unsent {
        Some(bytes @ 1..) if state.final_segment == FinalSegment::Fin => {
            let bytes = Bytes(bytes as u64);
            format!("{effect} after {bytes} that are not acknowledged yet")
        }
        _ => effect.to_owned(),
    }
}

impl Tap for Explain {
    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        match event {
            Event::Called(call) => self.called(call),
            Event::Listening { .. } => self.step("waiting", "for a client"),
            Event::Bound { .. } => {
                self.step("waiting", "for a datagram from any sender");
            }
            Event::Connecting(target) => self.connecting(target),
            Event::ConnectFailed { target, error, .. } => self.failed("connect()", target, error),
            Event::Connected { flow, via, .. } => self.connected(flow.transport, flow, *via),
            Event::Relayed { target, via, .. } => {
                self.connected(target.flow.transport, target, *via);
            }
            Event::Open { flow, .. } => {
                let effect = effects(flow.transport).open;
                self.step("connect()", format!("{flow}  {effect}"));
            }
            Event::Accepted(name) => {
                let effect = effects(name.flow.transport).accepted;
                self.step("accept()", format!("{name}  {effect}"));
                self.step("waiting", BOTH);
            }
            Event::Data(data) => self.moved(data),
            Event::HalfClosed(name) => {
                let effect = effects(name.flow.transport).finished;
                self.step("shutdown()", format!("{name}  {effect}"));
            }
            Event::PeerFinished(name) => {
                let effect = effects(name.flow.transport).peer_finished;
                self.step("recv()", format!("{name}  {effect}"));
            }
            Event::Broken { name, error, call } => self.broken(*name, error, *call),
            Event::Unreachable(error) => {
                let (arrow, reason) = (error.flow.arrow(Direction::Outgoing), error.reason);
                let text = format!("{arrow}  {reason} (ICMP); the socket goes on");
                self.step("recvmsg()", text);
            }
            Event::Ignored { flow, bytes } => {
                let (arrow, size) = (flow.arrow(Direction::Incoming), Bytes(*bytes as u64));
                let text = format!("{arrow}  {size}, not from our target: ignored");
                self.step("recvmsg()", text);
            }
            Event::Rejected {
                flow,
                datagrams: None,
                reason,
            } => {
                self.step("accept()", format!("{flow}  {}", reason.text()));
                self.step("close()", format!("{flow}  at once"));
            }
            Event::Closed(state) => self.closed(state),
            #[rustfmt::skip]
            Event::NotRelayed { .. } | Event::Retrying { .. } | Event::Rejected { .. } | Event::ProbeFailed(_)
            | Event::Forgotten(_) | Event::Truncated { .. } | Event::Oversized { .. } | Event::NoInput { .. }
            | Event::Dropped(_)
            | Event::Waiting { .. } | Event::Replaced { .. } | Event::Capped { .. } | Event::Omitted { .. } | Event::Transferred(_)
            | Event::Peers(_) | Event::Exited(_) | Event::Sockets(_) | Event::Failed(_)
            | Event::Ended { .. } => {}
        }
    }

    /// The shown calls are `recv` and `send`, which need the bytes, and not `splice`.
    fn wants_bytes(&self) -> bool {
        true
    }
}
