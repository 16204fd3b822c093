//! The steps of the sockets API as they happen, each with what the socket is called after it.
//! For those who learn or teach: the same program, told in the words of the man pages.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::SystemTime;

use super::lines::{Detail, Palette, put_line};
use super::phrases::{Bytes, Number, Size};
use super::{Call, Console, Data, Event, Parting, SocketState, Tap, Ways};
use crate::exit::describe;
use crate::flow::{Direction, Flow, Identity, Transport};

/// Calls that move data are told one by one so often for each conversation and direction.
const TOLD: u32 = 10;
/// Conversations that are told of.
const REMEMBERED: usize = 4096;

/// Where a session over a connection spends its time.
const BOTH: &str = "in poll() for standard input and for the peer";

/// Tells steps.
pub struct Explain {
    out: Console,
    palette: Palette,
    detail: Detail,
    told: HashMap<Flow, Ways<u32>>,
    /// Whether the socket has its name, from `bind` or from the first datagram it sent.
    is_named: bool,
}

impl Explain {
    /// Writes to `out`; with `detail` every call that moves data, not only the first ones.
    #[must_use]
    pub fn new(out: Console, detail: Detail, palette: Palette) -> Self {
        Self {
            out,
            palette,
            detail,
            told: HashMap::new(),
            is_named: false,
        }
    }

    fn step(&mut self, call: &str, text: impl Display) {
        put_line(&mut self.out, self.palette, call, text);
    }

    fn called(&mut self, call: &Call) {
        match call {
            Call::Socket(transport, address) => {
                let family = match address.inet() {
                    Some(inet) if inet.is_ipv4() => "IPv4",
                    Some(_) => "IPv6",
                    None => "Unix",
                };
                let text = match transport {
                    Transport::Tcp => "a stream socket (TCP)",
                    Transport::Udp => "a datagram socket (UDP)",
                };
                self.step(
                    "socket()",
                    format_args!("{text} for {family}, without a name yet"),
                );
            }
            Call::Bind(name) => {
                self.is_named = true;
                self.step("bind()", format_args!("{name}  its own address and port"));
            }
            Call::Listen(name, backlog) => {
                let text = format_args!(
                    "{name}  the kernel answers clients; {backlog} may wait to be accepted"
                );
                self.step("listen()", text);
            }
            Call::Connect(name) => {
                self.is_named = true;
                let text = format_args!("{name}  a note for the kernel; nothing is sent");
                self.step("connect()", text);
            }
            Call::AwaitReplies(name) => {
                let text = format_args!("in recvfrom() for replies; {name} sends no more");
                self.step("waiting", text);
            }
            Call::Close(name) => {
                let text = format_args!("{name}  no more clients; connections stay");
                self.step("close()", text);
            }
        }
    }

    fn connection(&mut self, event: &Event<'_>) {
        match *event {
            Event::Connecting { remote } => {
                self.step("connect()", format_args!("tcp -> {remote}  sends a SYN"));
                self.step("waiting", "in connect() for the answer");
            }
            Event::ConnectFailed { remote, error, .. } => {
                let error = describe(error);
                self.step(
                    "connect()",
                    format_args!("tcp -> {remote}  failed: {error}"),
                );
            }
            Event::Connected { flow, .. } => {
                let text = format_args!("{flow}  the 4-tuple is its name");
                self.step("connect()", text);
                self.step("waiting", BOTH);
            }
            Event::Probed {
                outcome: Ok((flow, _)),
            } => {
                let text = format_args!("{flow}  somebody listens there");
                self.step("connect()", text);
            }
            Event::Accepted { flow, conn } => {
                let number = Number(Some(conn));
                let text = format_args!("{flow}{number}  a new socket, same local port");
                self.step("accept()", text);
                self.step("waiting", BOTH);
            }
            Event::HalfClosed { flow, conn } => {
                let number = Number(conn);
                let text = format_args!("{flow}{number}  sends a FIN; can still receive");
                self.step("shutdown()", text);
            }
            Event::PeerFinished { flow, conn } => {
                let number = Number(conn);
                let text = format_args!("{flow}{number}  0 bytes: the FIN of the peer");
                self.step("recv()", text);
            }
            Event::Broken { flow, conn, error } => {
                let (number, error) = (Number(conn), describe(error));
                self.step("recv()", format_args!("{flow}{number}  failed: {error}"));
            }
            _ => self.exception(event),
        }
    }

    /// A call that has moved data.
    fn moved(&mut self, data: &Data<'_>) {
        let &Data {
            direction,
            flow,
            conn,
            ..
        } = data;
        let size = Size(data);
        let is_new = !self.told.contains_key(flow);
        if is_new && self.told.len() >= REMEMBERED {
            return;
        }
        let told = self.told.entry(flow.clone()).or_default().of(direction);
        *told = told.saturating_add(1);
        let (told, arrow) = (*told, flow.arrow(direction));
        let call = match (flow.transport, direction) {
            (Transport::Tcp, Direction::Incoming) => "recv()",
            (Transport::Tcp, Direction::Outgoing) => "send()",
            (Transport::Udp, Direction::Incoming) => "recvfrom()",
            (Transport::Udp, Direction::Outgoing) => "sendto()",
        };
        if told > TOLD && self.detail < Detail::Chunks {
            if told == TOLD + 1 {
                self.step(
                    call,
                    format_args!("{arrow}  and so on (-v tells every call)"),
                );
            }
            return;
        }
        match flow.transport {
            Transport::Tcp => {
                self.step(call, format_args!("{flow}{}  {size}", Number(conn)));
            }
            Transport::Udp => {
                let lesson = self.lesson(data, is_new);
                self.step(call, format_args!("{arrow}  {size}{lesson}"));
            }
        }
    }

    /// What is to be learned from a datagram.
    fn lesson(&mut self, data: &Data<'_>, is_new: bool) -> &'static str {
        let was_named = std::mem::replace(&mut self.is_named, true);
        match data.direction {
            _ if data.len == 0 => ": an empty datagram is no end",
            Direction::Outgoing if !was_named => "; the kernel chose our port",
            Direction::Incoming if is_new => "; a new sender, the same socket",
            _ => "",
        }
    }

    /// What went otherwise than one would like.
    fn exception(&mut self, event: &Event<'_>) {
        match *event {
            Event::Unreachable { flow, reason, .. } => {
                let arrow = flow.arrow(Direction::Outgoing);
                let text = format_args!("{arrow}  {reason} (ICMP); the socket goes on");
                self.step("recvmsg()", text);
            }
            Event::Ignored { flow, len } => {
                let (arrow, size) = (flow.arrow(Direction::Incoming), Bytes(len as u64));
                let text = format_args!("{arrow}  {size}, not from our target: ignored");
                self.step("recvfrom()", text);
            }
            Event::Rejected { flow, .. } if flow.transport == Transport::Tcp => {
                self.step("accept()", format_args!("{flow}  not allowed here"));
                self.step("close()", format_args!("{flow}  at once"));
            }
            _ => {}
        }
    }

    fn closed(&mut self, state: &SocketState) {
        let (name, number) = (&state.identity, Number(state.conn));
        let told = match (name.transport(), state.parting) {
            (Transport::Udp, _) => "tells nobody: UDP knows no end",
            (Transport::Tcp, Parting::Fin) => "sends a FIN",
            (Transport::Tcp, Parting::Reset) => "sends a RST: the connection is aborted",
            (Transport::Tcp, Parting::Nothing) => "both sides know already",
        };
        self.step("close()", format_args!("{name}{number}  {told}"));
        if let Identity::Pair(flow) = name {
            self.told.remove(flow);
        }
    }
}

impl Tap for Explain {
    fn event(&mut self, event: &Event<'_>, _time: SystemTime) {
        match event {
            Event::Called(call) => self.called(call),
            Event::Listening { .. } => self.step("waiting", "in accept() for a client"),
            Event::Bound { .. } => {
                self.step("waiting", "in recvfrom() for a datagram from anybody");
            }
            Event::Data(data) => self.moved(data),
            Event::Closed(state) => self.closed(state),
            _ => self.connection(event),
        }
    }

    /// The calls that are told are those that move bytes one by one: `recv` and `send`, not `splice`.
    fn wants_bytes(&self) -> bool {
        true
    }
}
