//! Datagram socket of this machine as a link: one socket for every peer, and each datagram brings its sender's name and process.
//! Nothing is lost: a receiver whose queue is full holds back the sender (unix(7)).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::iter;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::Message;
use crate::batch::{Batch, Cursor, Run};
use crate::exit::{Exit, Failure, describe};
use crate::flow::{Address, ConnId, Direction, Flow, Identity, Leg, Transport};
use crate::link::udp::{self, Accepts, Limits, Over, sent_after_end};
use crate::pump::end::{Arrival, Close, End, Finish, Link, Next, Readiness, Wait};
use crate::sys::socket_file::{PathAddress, SocketFile};
use crate::sys::sockopt::{unread, unsent};
use crate::tap::{Call, Count, Event, IcmpError, Meter, PerDirection, SocketState, Taps};

/// Datagrams of one call of `recv` at most, and bytes after which no other is read.
const MAX_DATAGRAMS: usize = 64;
const BATCH_SIZE: usize = 1 << 20;

/// Time after which a full queue of a receiver is tried again: no descriptor becomes ready unless the socket is connected to it.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// Recipients of datagrams that come from the local end without addresses: of peers, only those that have a name. A socket that is
/// connected to its target needs no address to send to.
pub type Audience = udp::Audience<(Address, Option<Rc<PathAddress>>)>;

/// Datagram socket, and the peers it talks with.
pub struct Datagrams {
    socket: Socket,
    local: Address,
    /// File of the socket, removed when this is dropped.
    _file: Option<SocketFile>,
    opened: Instant,
    audience: Audience,
    settings: udp::Settings,
    /// Peers, the one that is idle longest first.
    peers: Vec<Peer>,
    first: Option<Recipient>,
    total: PerDirection<Count>,
    ignored: u64,
    limits: Limits,
    /// The input contained an empty datagram, which stands for the end.
    has_end_in_input: bool,
    /// Recipients that have not got the datagram at the cursor yet, once some have.
    left: Option<VecDeque<Recipient>>,
    /// Time to try again to send.
    retry_at: Option<Instant>,
}

/// Addresses of a datagram to one peer, and the name that the kernel takes; none if the socket is connected to it.
type Recipient = (Flow, Option<Rc<PathAddress>>);

struct Peer {
    meter: Meter,
    /// The name as bytes, which is empty if it has none.
    name: Vec<u8>,
    address: Option<Rc<PathAddress>>,
    pid: i32,
    since: Instant,
}

impl Peer {
    /// Returns true if it is the sender of a message.
    fn is(&self, message: &Message) -> bool {
        self.name == message.name && self.pid == message.pid()
    }
}

impl Datagrams {
    /// Takes over a socket that is bound to `local`, with the file of that name, if it has one. Of the settings, those of limits, ends,
    /// peers and numbers count.
    pub fn new(
        socket: Socket,
        (local, file): (Address, Option<SocketFile>),
        audience: Audience,
        settings: udp::Settings,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_passcred(true)?;
        Ok(Self {
            limits: Limits::new(&settings),
            socket,
            local,
            _file: file,
            opened: Instant::now(),
            audience,
            settings,
            peers: Vec::new(),
            first: None,
            total: PerDirection::default(),
            ignored: 0,
            has_end_in_input: false,
            left: None,
            retry_at: None,
        })
    }

    /// Returns the addresses of datagrams to the target.
    pub fn flow(&self) -> Option<Flow> {
        match &self.audience {
            Audience::Target((target, _)) => Some(self.flow_to(target.clone())),
            _ => None,
        }
    }

    fn is_target(&self) -> bool {
        matches!(self.audience, Audience::Target(..))
    }

    fn flow_to(&self, remote: Address) -> Flow {
        Flow::new(Transport::UnixDatagram, self.local.clone(), remote)
    }

    /// Returns the recipients of datagrams that came with this flow. Without a name, a peer cannot be sent to.
    fn recipients(&self, flow: Option<&Flow>) -> VecDeque<Recipient> {
        let named = |peer: &Peer| (peer.meter.flow.clone(), peer.address.clone());
        let has_name = |peer: &&Peer| peer.address.is_some();
        // What comes for the target may have the addresses of the other leg of a relay.
        if let Some(flow) = flow.filter(|_| !self.is_target()) {
            let peer = self
                .peers
                .iter()
                .rev()
                .find(|peer| peer.meter.flow == *flow);
            return peer.map(named).into_iter().collect();
        }
        match &self.audience {
            Audience::Target((target, address)) => {
                iter::once((self.flow_to(target.clone()), address.clone())).collect()
            }
            Audience::Last => {
                let last = self.peers.iter().rev().find(has_name);
                last.map(named).into_iter().collect()
            }
            Audience::First => self.first.iter().cloned().collect(),
            Audience::All => self.peers.iter().filter(has_name).map(named).collect(),
            Audience::Named | Audience::None => VecDeque::new(),
        }
    }

    /// Returns the peer of a message, moved to the end of the table.
    fn peer(&mut self, message: &Message, taps: &mut Taps) -> &mut Peer {
        let known = self.peers.iter().rposition(|peer| peer.is(message));
        let max = self.settings.max_peers.unwrap_or(1024).max(1);
        if known.is_none() && self.peers.len() >= max {
            let forgotten = self.peers.remove(0);
            taps.emit(&Event::Forgotten(&forgotten.meter.flow));
        }
        let known = known.map(|at| self.peers.remove(at));
        let peer = known.unwrap_or_else(|| Peer {
            meter: Meter::new(self.flow_to(message.sender()), self.conn()),
            address: message.address().map(Rc::new),
            name: message.name.clone(),
            pid: message.pid(),
            since: Instant::now(),
        });
        self.peers.push(peer);
        let at = self.peers.len() - 1;
        &mut self.peers[at]
    }

    /// Makes a run of a message, as far as it is to be passed on.
    fn pass_on(&mut self, message: &Message, start: usize, batch: &mut Batch, taps: &mut Taps) {
        let len = message.len;
        // No other peer is in the table then.
        let is_first = |first: &Peer| first.is(message);
        let is_locked = self.settings.accepts == Accepts::First;
        let is_stranger = is_locked && !self.peers.first().is_none_or(is_first);
        if is_stranger {
            self.ignored += 1;
            let flow = &self.flow_to(message.sender());
            return taps.emit(&Event::Ignored { flow, bytes: len });
        }
        if self.limits.admit(len, len.max(1)) == 0 {
            return;
        }
        let peer = self.peer(message, taps);
        let recipient = (peer.meter.flow.clone(), peer.address.clone());
        let run = Run {
            start,
            len,
            shape: peer.meter.shape_of(len),
            flow: Some(recipient.0.clone()),
        };
        let bytes = Some(batch.bytes(&run));
        peer.meter.note(Direction::Incoming, len, bytes, taps);
        self.total.received.add(len, 1);
        if recipient.1.is_some() {
            self.first.get_or_insert(recipient);
        }
        if len == 0 && self.settings.eof_datagram {
            self.limits.over = Some(Over::PeerEof);
        } else {
            self.limits.take(len, 1);
            batch.push(run);
        }
    }

    /// Sends one datagram to the recipients that are left. Errors: `WouldBlock` asks to be called again.
    fn send_one(
        &mut self,
        bytes: &[u8],
        mut left: VecDeque<Recipient>,
        taps: &mut Taps,
    ) -> io::Result<()> {
        while let Some((flow, address)) = left.front() {
            let sent = match address {
                Some(address) => self.socket.send_to(bytes, &address.address),
                None if self.is_target() => self.socket.send(bytes),
                None => Err(io::Error::new(
                    ErrorKind::NotConnected,
                    "its socket has no name",
                )),
            };
            match sent {
                Ok(_) => self.note_sent(flow, bytes, taps),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // A connected socket is writable when its peer has room.
                    self.retry_at = address.as_ref().map(|_| Instant::now() + QUEUE_PAUSE);
                    self.left = Some(left);
                    return Err(error);
                }
                Err(error) => self.fail_to_send(flow, bytes.len(), &error, taps)?,
            }
            left.pop_front();
        }
        self.retry_at = None;
        Ok(())
    }

    fn note_sent(&mut self, flow: &Flow, bytes: &[u8], taps: &mut Taps) {
        self.total.sent.add(bytes.len(), 1);
        self.limits.note_sent(false);
        let other = &mut Meter::new(flow.clone(), self.conn());
        let mut peers = self.peers.iter_mut().map(|peer| &mut peer.meter);
        let meter = peers.find(|meter| meter.flow == *flow).unwrap_or(other);
        meter.note(Direction::Outgoing, bytes.len(), Some(bytes), taps);
    }

    /// Reports a datagram that cannot be sent to one of many peers. Errors: a failure where that is the end.
    fn fail_to_send(
        &self,
        flow: &Flow,
        len: usize,
        error: &io::Error,
        taps: &mut Taps,
    ) -> io::Result<()> {
        let is_long = error.raw_os_error() == Some(libc::EMSGSIZE);
        let reason = match error.kind() {
            _ if is_long => format!("{len} bytes are more than the send buffer holds (--sndbuf)"),
            _ => describe(error),
        };
        if self.is_target() || is_long {
            let exit = match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionReset => Exit::Refused,
                _ => error.into(),
            };
            let text = format!("cannot send to {}: {reason}", flow.remote);
            return Err(Failure::new(exit, text).into());
        }
        let unsent = IcmpError::unsent(flow, &reason, 1);
        taps.emit(&Event::Unreachable(unsent));
        Ok(())
    }

    fn state(&self) -> SocketState {
        SocketState {
            conn: self.conn(),
            state: "bound",
            received: self.total.received,
            sent: self.total.sent,
            ignored: self.ignored,
            unread: unread(&self.socket),
            unsent: unsent(&self.socket),
            ..SocketState::new(self.identity(), self.opened)
        }
    }

    fn peer_states(&self) -> impl Iterator<Item = SocketState> {
        self.peers.iter().map(|peer| SocketState {
            state: "peer",
            received: peer.meter.totals.received,
            sent: peer.meter.totals.sent,
            ..SocketState::new(Identity::Pair(peer.meter.flow.clone()), peer.since)
        })
    }
}

impl End for Datagrams {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        let mut start = 0;
        for _ in 0..MAX_DATAGRAMS {
            if self.limits.over.is_some() || start >= BATCH_SIZE {
                break;
            }
            match Message::receive(&self.socket, batch, start) {
                Ok(message) => {
                    self.pass_on(&message, start, batch, taps);
                    start += message.len;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if batch.is_empty() {
                        self.limits.check_silence(true);
                    }
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.limits.arrival(batch))
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<Next> {
        let mut next = *at;
        while let Some((run, bytes)) = batch.next_chunk(&mut next) {
            if self.has_end_in_input {
                return Err(sent_after_end());
            }
            if bytes.is_empty() && self.settings.eof_datagram {
                // It goes when the input is at its end as well.
                self.has_end_in_input = true;
                *at = next;
                continue;
            }
            let left = self.left.take();
            let left = left.unwrap_or_else(|| self.recipients(run.flow.as_ref()));
            self.send_one(bytes, left, taps)?;
            *at = next;
        }
        Ok(Next::Continue)
    }

    fn finish(&mut self, _: Finish<'_>, taps: &mut Taps) -> io::Result<Next> {
        if self.settings.eof_datagram && !self.limits.is_finished {
            let left = self.left.take().unwrap_or_else(|| self.recipients(None));
            self.send_one(b"", left, taps)?;
        }
        self.limits.note_sent(true);
        let waits = self.settings.reply_timeout != Some(Duration::ZERO);
        if self.is_target() && waits {
            taps.emit(&Event::Called(Call::AwaitReplies(self.identity())));
        }
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let fd = self.socket.as_fd();
        let is_addressed = self.audience.is_reachable(self.first.is_some());
        let recv = match self.limits.over {
            Some(_) => Wait::Now,
            None => Wait::readable(fd),
        };
        let send = self.retry_at.map_or(Wait::writable(fd), Wait::time);
        Readiness {
            recv: recv.or_until(self.limits.silent_until()),
            send: if is_addressed { send } else { Wait::Never },
            watch: false,
        }
    }
}

impl Link for Datagrams {
    fn identity(&self) -> Identity {
        let leg = self.conn().and_then(|conn| conn.leg);
        match self.flow().filter(|_| leg == Some(Leg::Target)) {
            Some(flow) => Identity::Pair(flow),
            None => Identity::Socket(Transport::UnixDatagram, self.local.clone()),
        }
    }

    fn conn(&self) -> Option<ConnId> {
        self.settings.numbering.conn()
    }

    fn states(&self) -> Vec<SocketState> {
        iter::once(self.state()).chain(self.peer_states()).collect()
    }

    fn close(&mut self, _: Close, taps: &mut Taps) -> Result<(), Failure> {
        let peers: Vec<_> = self.peer_states().collect();
        if peers.len() > 1 {
            taps.emit(&Event::Peers(&peers));
        }
        taps.emit(&Event::Closed(&self.state()));
        self.limits.check_complete(&self.identity())
    }
}
