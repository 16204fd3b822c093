//! Events for programs: one object of JSON a line, with the same names for the same things in every event.
//! The form is a promise (tuplecat-events(5), `fixtures/events.schema.json`): fields may be added, but never change.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, SystemTime};

use super::{Count, Data, Event, Sink, SocketState, Tap, Ways};
use crate::escape;
use crate::exit::{Exit, Failure, describe};
use crate::flow::{Direction, Transport};

mod record;

use record::{Details, Path, Record, Who};

/// Writes events.
pub struct Events {
    sink: Sink,
    payload: Payload,
    totals: Ways<Count>,
    /// Payload in hexadecimal, kept for the memory.
    digits: Vec<u8>,
}

/// Whether events carry the bytes that moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Only how many.
    Counted,
    /// In hexadecimal as well.
    Shown,
}

impl Events {
    /// Writes to `sink`.
    #[must_use]
    pub fn new(sink: Sink, payload: Payload) -> Self {
        Self {
            sink,
            payload,
            totals: Ways::default(),
            digits: Vec::new(),
        }
    }

    fn put(&mut self, time: SystemTime, event: &'static str, who: Who<'_>, details: Details<'_>) {
        let record = Record {
            time,
            event,
            who,
            details,
        };
        let out = self.sink.buffer();
        escape::append_json(out, &record);
        out.push(b'\n');
    }

    /// One event for each piece: an event is about one datagram, as a datagram is.
    fn moved(&mut self, time: SystemTime, data: &Data<'_>) {
        self.totals.of(data.direction).add(data.len, data.count());
        let name = name_of(data.direction);
        let mut pieces = data.pieces();
        for bytes in data.shape.sizes(data.len) {
            let shown = pieces.next().filter(|_| self.payload == Payload::Shown);
            let mut digits = std::mem::take(&mut self.digits);
            digits.resize(2 * bytes, 0);
            let payload = shown.and_then(|piece| {
                hex::encode_to_slice(piece, &mut digits).ok()?;
                std::str::from_utf8(&digits).ok()
            });
            let details = Details::Moved { bytes, payload };
            self.put(time, name, Who::pair(data.flow, data.conn), details);
            self.digits = digits;
        }
    }

    fn socket(&mut self, time: SystemTime, event: &'static str, state: &SocketState) {
        let mut who = Who::socket(&state.identity);
        who.conn = state.conn;
        let details = Details::Socket {
            state: state.state,
            received: state.received,
            sent: state.sent,
            ignored: state.ignored,
            dropped: state.dropped,
            dropped_or_more: state.dropped_or_more,
            seconds: state.lasted.as_secs_f64(),
            unread: state.unread,
            unsent: state.unsent,
            tcp: state.path.map(Path::from),
        };
        self.put(time, event, who, details);
    }

    /// What is between the beginning of a connection and its end.
    fn connection(&mut self, time: SystemTime, event: &Event<'_>) {
        let seconds = |time: Duration| time.as_secs_f64();
        let (name, who, details) = match *event {
            Event::Connecting { remote } => {
                let who = Who::target(Transport::Tcp, remote);
                ("connecting", who, Details::None {})
            }
            Event::ConnectFailed {
                remote,
                error,
                after,
            } => {
                let details = Details::Attempt {
                    error: describe(error),
                    seconds: seconds(after),
                };
                (
                    "connect-failed",
                    Who::target(Transport::Tcp, remote),
                    details,
                )
            }
            Event::Connected { flow, after } => {
                let details = Details::Took {
                    seconds: seconds(after),
                };
                ("connected", Who::pair(flow, None), details)
            }
            Event::Retrying { failure, left } => {
                let details = Details::Attempt {
                    error: failure.message.clone(),
                    seconds: seconds(left),
                };
                ("retrying", Who::default(), details)
            }
            Event::Probed {
                outcome: Ok((flow, after)),
            } => {
                let details = Details::Took {
                    seconds: seconds(after),
                };
                ("open", Who::pair(flow, None), details)
            }
            Event::Accepted { flow, conn } => {
                ("accepted", Who::pair(flow, Some(conn)), Details::None {})
            }
            Event::HalfClosed { flow, conn } => {
                ("half-closed", Who::pair(flow, conn), Details::None {})
            }
            Event::PeerFinished { flow, conn } => {
                ("peer-finished", Who::pair(flow, conn), Details::None {})
            }
            Event::Broken { flow, conn, error } => {
                let name = match Exit::from(error) {
                    Exit::Reset => "reset",
                    _ => "error",
                };
                let error = &describe(error);
                let details = Details::Error {
                    error,
                    status: None,
                };
                return self.put(time, name, Who::pair(flow, conn), details);
            }
            _ => return self.datagram(time, event),
        };
        self.put(time, name, who, details);
    }

    /// What becomes of datagrams.
    fn datagram(&mut self, time: SystemTime, event: &Event<'_>) {
        let (name, who, details) = match *event {
            Event::Unreachable {
                flow,
                reason,
                offender,
            } => {
                let details = Details::Unreachable { reason, offender };
                ("unreachable", Who::pair(flow, None), details)
            }
            Event::Ignored { flow, len } => {
                let (bytes, payload) = (len, None);
                (
                    "ignored",
                    Who::pair(flow, None),
                    Details::Moved { bytes, payload },
                )
            }
            Event::Forgotten { flow } => ("forgotten", Who::pair(flow, None), Details::None {}),
            Event::Truncated { flow, from, to } => {
                let details = Details::Truncated {
                    bytes: to,
                    size: from,
                };
                ("truncated", Who::pair(flow, None), details)
            }
            Event::Rejected { flow, datagrams } => {
                let datagrams = Some(datagrams).filter(|&count| count > 0);
                let details = Details::Rejected { datagrams };
                ("rejected", Who::pair(flow, None), details)
            }
            Event::Dropped {
                socket,
                count,
                or_more,
            } => {
                let datagrams = count;
                let details = Details::Dropped { datagrams, or_more };
                ("dropped", Who::socket(socket), details)
            }
            Event::Transferred {
                socket,
                flow,
                direction,
                count,
                has_end,
                lost,
                or_more,
            } => {
                let details = Details::Transferred {
                    direction: name_of(direction),
                    count,
                    has_end,
                    lost,
                    or_more,
                };
                let pair = flow.map(|flow| Who::pair(flow, None));
                let who = pair.unwrap_or_else(|| Who::socket(socket));
                ("transferred", who, details)
            }
            _ => return self.child(time, event),
        };
        self.put(time, name, who, details);
    }

    fn child(&mut self, time: SystemTime, event: &Event<'_>) {
        if let Event::Exited {
            flow,
            conn,
            pid,
            program,
            status,
        } = *event
        {
            let details = Details::Exited {
                program,
                pid,
                status: status.code(),
                signal: status.signal(),
            };
            self.put(time, "exited", Who::pair(flow, conn), details);
        }
    }
}

fn name_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Incoming => "received",
        Direction::Outgoing => "sent",
    }
}

impl Tap for Events {
    fn event(&mut self, event: &Event<'_>, time: SystemTime) {
        match *event {
            Event::Listening { socket, reach } => {
                self.put(
                    time,
                    "listening",
                    Who::socket(socket),
                    Details::Reach { reach },
                );
            }
            Event::Bound { socket, reach } => {
                self.put(time, "bound", Who::socket(socket), Details::Reach { reach });
            }
            Event::Data(ref data) => self.moved(time, data),
            Event::Waiting { socket, ref text } => {
                self.put(time, "waiting", Who::socket(socket), Details::Text { text });
            }
            Event::Granted { text } => {
                self.put(time, "granted", Who::default(), Details::Text { text });
            }
            Event::Closed(state) => self.socket(time, "closed", state),
            Event::Sockets(states) => {
                for state in states {
                    self.socket(time, "socket", state);
                }
            }
            Event::Peers(states) => {
                for state in states {
                    self.socket(time, "peer", state);
                }
            }
            Event::Failed(failure) if !failure.message.is_empty() => {
                let details = Details::Error {
                    error: &failure.message,
                    status: Some(failure.exit.status()),
                };
                self.put(time, "error", Who::default(), details);
            }
            Event::Ended { exit, lasted } => {
                let details = Details::Summary {
                    received: self.totals.received,
                    sent: self.totals.sent,
                    seconds: lasted.as_secs_f64(),
                    status: exit.status(),
                };
                self.put(time, "summary", Who::default(), details);
            }
            _ => self.connection(time, event),
        }
        self.sink.end_event();
    }

    fn wants_bytes(&self) -> bool {
        self.payload == Payload::Shown
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.sink.flush()
    }
}
