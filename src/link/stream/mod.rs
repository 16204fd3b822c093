//! Connections of TCP and of Unix sockets, and the listening sockets that they come from.
//! Each connection has a socket of its own; all those of one listener share its name, and only the peer tells them apart.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::batch::{Batch, Cursor};
use crate::exit::Failure;
use crate::flow::{Address, ConnId, Direction, Flow, Identity, Transport};
use crate::link::connect::Established;
use crate::link::unix;
use crate::pump::end::{Arrival, Close, End, Finish, Link, Next, Readiness, Spliceable, Wait};
use crate::sys::sockopt::{unread, unsent};
use crate::sys::tcp_info::tcp_info;
use crate::tap::{Event, Meter, SocketState, Taps};

mod listener;

pub use listener::{Clients, Excess, Listener, Settings};

/// Bytes asked for in one recv(2).
const RECV_SIZE: usize = 64 << 10;

/// Slices written in one call.
const SEND_SLICES: usize = 16;

/// Limits on what a [`Connection`] receives.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiveLimits {
    /// Bytes (`--max-bytes`).
    pub bytes: Option<u64>,
    /// Reads that give data (`--max-reads`).
    pub reads: Option<u64>,
}

/// Connection: a stream of bytes or packets in each direction, each ended on its own.
pub struct Connection {
    socket: Socket,
    meter: Meter,
    opened: Instant,
    limits: ReceiveLimits,
    is_finished: bool,
    peer_is_finished: bool,
    /// A call has reported why the connection is no more. From then on, 0 bytes are not the FIN of the peer.
    is_broken: bool,
    /// Bytes at the beginning of the first chunk that went with the SYN.
    in_syn: usize,
    /// Reset that `connect` has met, to be reported behind what had come before it.
    reset: Option<io::Error>,
    /// Place among the clients of a listener, given back when this is dropped.
    _place: Option<Rc<()>>,
}

impl Connection {
    /// Takes over a socket that is connected to `remote`; with a number if it is one of several.
    pub fn new(
        socket: Socket,
        (transport, remote): (Transport, Address),
        conn: Option<ConnId>,
        limits: ReceiveLimits,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let flow = Flow::new(transport, local_address(&socket)?, remote);
        Ok(Self::over(socket, flow, (conn, None), limits))
    }

    /// Takes over a connection that connect(2) has made.
    pub fn established(winner: Established, conn: Option<ConnId>, limits: ReceiveLimits) -> Self {
        let flow = Flow::new(Transport::Tcp, winner.local.into(), winner.remote.into());
        Self {
            in_syn: winner.in_syn,
            reset: winner.reset,
            ..Self::over(winner.socket, flow, (conn, None), limits)
        }
    }

    /// Takes over a socket that does not block, whose addresses are known.
    fn over(
        socket: Socket,
        flow: Flow,
        (conn, place): (Option<ConnId>, Option<Rc<()>>),
        limits: ReceiveLimits,
    ) -> Self {
        if flow.transport == Transport::UnixPacket {
            // An empty packet and the end differ in the credentials alone. The option exists for every Unix socket.
            let _ = socket.set_passcred(true);
        }
        Self {
            socket,
            meter: Meter::new(flow, conn),
            opened: Instant::now(),
            limits,
            is_finished: false,
            peer_is_finished: false,
            is_broken: false,
            in_syn: 0,
            reset: None,
            _place: place,
        }
    }

    /// The 4-tuple.
    pub fn flow(&self) -> &Flow {
        &self.meter.flow
    }

    fn is_unix(&self) -> bool {
        self.flow().transport.is_unix()
    }

    fn has_packets(&self) -> bool {
        self.flow().transport.has_boundaries()
    }

    /// Returns the bytes that may still be received.
    fn wanted(&self) -> usize {
        let received = self.meter.totals.received;
        if (self.limits.reads).is_some_and(|reads| received.chunks >= reads) {
            return 0;
        }
        let left = self.limits.bytes.unwrap_or(u64::MAX);
        usize::try_from(left.saturating_sub(received.bytes)).unwrap_or(usize::MAX)
    }

    /// Reads and drops what comes after the last byte that is wanted, once our FIN is sent.
    fn discard(&mut self, batch: &mut Batch) -> io::Result<Arrival> {
        if !self.is_finished {
            return Ok(Arrival::Enough);
        }
        match self.read(batch, RECV_SIZE)? {
            None => Ok(Arrival::End),
            Some(_) => Ok(Arrival::Nothing),
        }
    }

    /// Reads up to `limit` bytes, or one packet. `None`: the peer has finished.
    fn read(&mut self, batch: &mut Batch, limit: usize) -> io::Result<Option<usize>> {
        if self.has_packets() {
            return unix::recv_packet(&self.socket, batch);
        }
        let limit = limit.min(RECV_SIZE);
        batch.reserve(RECV_SIZE)?;
        let len = (&self.socket).read(&mut batch.space(RECV_SIZE)[..limit])?;
        Ok(Some(len).filter(|&len| len > 0))
    }

    /// Sends packets from `at` on, up to the first that is not taken now.
    fn send_packets(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<()> {
        let mut next = *at;
        while let Some((_, packet)) = batch.next_chunk(&mut next) {
            let sent = self.socket.send(packet);
            sent.inspect_err(|error| self.note_error(error))?;
            *at = next;
            let (len, bytes) = (packet.len(), Some(packet));
            self.meter.note(Direction::Outgoing, len, bytes, taps);
        }
        Ok(())
    }

    /// Names the state as reports call it, by the directions that have ended (RFC 9293, 3.6).
    fn state(&self) -> &'static str {
        match (self.is_finished, self.peer_is_finished) {
            (false, false) => "connected",
            (true, false) => "half-closed",
            (false, true) => "peer finished",
            (true, true) => "ended",
        }
    }

    /// Returns what is known without the kernel.
    fn own_state(&self) -> SocketState {
        SocketState {
            conn: self.meter.conn,
            state: self.state(),
            received: self.meter.totals.received,
            sent: self.meter.totals.sent,
            ..SocketState::new(self.identity(), self.opened)
        }
    }

    fn socket_state(&self) -> SocketState {
        SocketState {
            unread: unread(&self.socket),
            unsent: unsent(&self.socket),
            path: tcp_info(&self.socket),
            ..self.own_state()
        }
    }
}

impl End for Connection {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        let limit = self.wanted();
        if limit == 0 {
            return self.discard(batch);
        }
        let Some(len) = self.read(batch, limit)? else {
            if let Some(error) = self.reset.take() {
                return Err(error);
            }
            if self.is_broken {
                return Err(ErrorKind::ConnectionReset.into());
            }
            self.peer_is_finished = true;
            taps.emit(&Event::PeerFinished(self.meter.conversation()));
            return Ok(Arrival::End);
        };
        if len > limit {
            // A packet is never cut: the limit is reached before it.
            self.limits.bytes = Some(self.meter.totals.received.bytes);
            return Ok(Arrival::Nothing);
        }
        let shape = self.meter.shape_of(len);
        batch.push_front(len, shape, Some(self.meter.flow.clone()));
        let bytes = batch.bytes(&batch.runs()[0]);
        self.meter.note(Direction::Incoming, len, Some(bytes), taps);
        Ok(Arrival::Data)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<Next> {
        if self.has_packets() {
            return self.send_packets(batch, at, taps).map(|()| Next::Continue);
        }
        let mut slices = [IoSlice::new(&[]); SEND_SLICES];
        let count = batch.rest(*at, &mut slices);
        let sent = match &slices[..count] {
            _ if self.in_syn > 0 => Ok(std::mem::take(&mut self.in_syn)),
            // Without a list to read, the kernel is a little faster.
            [one] => self.socket.send(one),
            many => self.socket.send_vectored(many),
        };
        let mut left = sent.inspect_err(|error| self.note_error(error))?;
        batch.advance(at, left);
        for slice in &slices[..count] {
            let len = left.min(slice.len());
            if len > 0 {
                let bytes = Some(&slice[..len]);
                self.meter.note(Direction::Outgoing, len, bytes, taps);
            }
            left -= len;
        }
        Ok(Next::Continue)
    }

    fn finish(&mut self, _: Finish<'_>, taps: &mut Taps) -> io::Result<Next> {
        match self.socket.shutdown(Shutdown::Write) {
            // Reset in the meantime: receiving will report it.
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(Next::Continue),
            other => other?,
        }
        self.is_finished = true;
        taps.emit(&Event::HalfClosed(self.meter.conversation()));
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let fd = self.socket.as_fd();
        Readiness {
            recv: match self.wanted() {
                0 if !self.is_finished => Wait::Now,
                _ => Wait::readable(fd),
            },
            send: Wait::writable(fd),
            // A peer that has finished may still reset the connection, and nothing is read that would report it.
            // The peer of a Unix socket hangs up by closing it, which is its FIN.
            watch: self.peer_is_finished && !self.is_finished && !self.is_unix(),
        }
    }

    fn health(&mut self) -> io::Result<usize> {
        if let Some(error) = self.socket.take_error()? {
            self.note_error(&error);
            return Err(error);
        }
        if self.is_unix() {
            // What is sent is with the peer at once.
            return Ok(0);
        }
        let is_closed = |socket| tcp_info(socket).is_some_and(|info| info.state == "CLOSED");
        if self.meter.totals.sent.bytes == 0 {
            return Ok(0);
        }
        // A FIN counts as one byte.
        let fin = usize::from(self.is_finished);
        let count = || unsent(&self.socket).unwrap_or(0).saturating_sub(fin);
        let left = count();
        if left > 0 && is_closed(&self.socket) {
            // It may have closed because the last byte was acknowledged just now; once it has, the count is final.
            return match count() {
                0 => Ok(0),
                _ => Err(ErrorKind::BrokenPipe.into()),
            };
        }
        Ok(left)
    }

    /// Notes an error that ends the connection. A reset after the peer's FIN is a broken pipe (write(2)), so that FIN did come.
    fn note_error(&mut self, error: &io::Error) {
        let kinds = [
            ErrorKind::WouldBlock,
            ErrorKind::Interrupted,
            ErrorKind::BrokenPipe,
        ];
        self.is_broken |= !kinds.contains(&error.kind());
    }

    fn splice(&mut self) -> Spliceable<'_> {
        let (limit, fd) = (self.wanted(), self.socket.as_fd());
        if self.has_packets() {
            return Spliceable::default();
        }
        Spliceable {
            // What is spliced has not been read.
            source: (limit > 0 && self.limits.reads.is_none()).then_some((fd, limit)),
            sink: Some(fd),
            meter: Some(&mut self.meter),
        }
    }
}

impl Link for Connection {
    fn identity(&self) -> Identity {
        Identity::Pair(self.meter.flow.clone())
    }

    fn conn(&self) -> Option<ConnId> {
        self.meter.conn
    }

    fn states(&self) -> Vec<SocketState> {
        vec![self.socket_state()]
    }

    fn close(&mut self, how: Close, taps: &mut Taps) -> Result<(), Failure> {
        if how == Close::Reset {
            // A FIN would say that this was all (RFC 9293, 3.6). Where the kernel refuses, nothing else can be said.
            let _ = self.socket.set_linger(Some(Duration::ZERO));
        }
        let mut state = self.own_state();
        if taps.wants_figures() {
            state = self.socket_state();
            state.final_segment = state.final_segment(self.socket.linger().unwrap_or_default());
        }
        taps.emit(&Event::Closed(&state));
        Ok(())
    }
}

/// Returns the local address of a socket (getsockname(2)).
pub(super) fn local_address(socket: &Socket) -> io::Result<Address> {
    rustix::net::getsockname(socket)?.try_into()
}
