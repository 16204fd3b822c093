//! Events for programs: one JSON object a line, with the same name for the same thing in every event.
//! The form is a promise (tuplecat-events(5), `fixtures/events.schema.json`): fields are added, and never change.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::SystemTime;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Backlog, Conversation, Count, Data, Event, PerDirection, Sink, Tap};
use crate::escape::{Timestamp, append_json};
use crate::exit::{Exit, Failure, describe};

/// Writer of events as JSON.
pub struct Events {
    sink: Sink,
    payload: Payload,
    totals: PerDirection<Count>,
    /// Hexadecimal digits of a payload.
    digits: Vec<u8>,
}

/// The part of the payload that events carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The number of bytes.
    Counted,
    /// The bytes in hexadecimal as well.
    Shown,
}

/// The fields of every event, then those of its own.
#[derive(Serialize)]
struct Line<E> {
    time: Timestamp,
    unix_time: f64,
    #[serde(flatten)]
    event: E,
}

/// An event whose name is not that of its variant.
#[derive(Serialize)]
struct Named<N, E> {
    #[serde(rename = "event")]
    name: N,
    #[serde(flatten)]
    event: E,
}

/// A chunk of a stream, or a datagram.
#[derive(Serialize)]
struct Chunk<'a> {
    #[serde(flatten)]
    name: Conversation<'a>,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
}

/// The end of the run, with all that went through its sockets.
#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    event: &'a Event<'a>,
    #[serde(flatten)]
    totals: PerDirection<Count>,
}

impl Events {
    /// A writer to `sink`.
    pub fn new(sink: Sink, payload: Payload) -> Self {
        Self {
            sink,
            payload,
            totals: PerDirection::default(),
            digits: Vec::new(),
        }
    }

    fn put(&mut self, time: SystemTime, event: impl Serialize) {
        let time = Timestamp(time);
        let unix_time = time.unix_seconds();
        let line = Line {
            time,
            unix_time,
            event,
        };
        let out = self.sink.buffer();
        append_json(out, &line);
        out.push(b'\n');
        self.sink.end_report();
    }

    /// Writes an event for each datagram, or for the chunk of a stream.
    fn put_data(&mut self, time: SystemTime, data: &Data<'_>) {
        self.totals.of(data.direction).add(data.len, data.count());
        let mut pieces = data.pieces();
        let mut digits = std::mem::take(&mut self.digits);
        for bytes in data.shape.sizes(data.len) {
            let shown = pieces.next().filter(|_| self.payload == Payload::Shown);
            digits.resize(2 * bytes, 0);
            let payload = shown.and_then(|piece| {
                hex::encode_to_slice(piece, &mut digits).ok()?;
                std::str::from_utf8(&digits).ok()
            });
            let name = data.direction;
            let event = Chunk {
                name: data.name(),
                bytes,
                payload,
            };
            self.put(time, Named { name, event });
        }
        self.digits = digits;
    }
}

impl Tap for Events {
    fn event(&mut self, event: &Event<'_>, time: SystemTime) {
        match event {
            Event::Data(data) => self.put_data(time, data),
            Event::Broken { error, .. } => {
                let is_reset = Exit::from(*error) == Exit::Reset;
                let name = if is_reset { "reset" } else { "error" };
                self.put(time, Named { name, event });
            }
            Event::Sockets(rows) | Event::Peers(rows) => {
                let is_peer = matches!(event, Event::Peers(_));
                let name = if is_peer { "peer" } else { "socket" };
                for event in *rows {
                    self.put(time, Named { name, event });
                }
            }
            Event::Ended { .. } => {
                let totals = self.totals;
                self.put(time, Summary { event, totals });
            }
            Event::Failed(failure) if failure.message.is_empty() => {}
            Event::Called(_) | Event::ProbeFailed(_) => {}
            #[rustfmt::skip]
            Event::Listening { .. } | Event::Bound { .. } | Event::Connecting(_)
            | Event::ConnectFailed { .. } | Event::Retrying { .. } | Event::Open { .. }
            | Event::Connected { .. } | Event::Accepted(_) | Event::Relayed { .. }
            | Event::NotRelayed { .. } | Event::HalfClosed(_)
            | Event::PeerFinished(_) | Event::Unreachable(_) | Event::Ignored { .. }
            | Event::Rejected { .. } | Event::Forgotten(_) | Event::Truncated { .. }
            | Event::Oversized { .. } | Event::NoInput { .. }
            | Event::Dropped(_) | Event::Waiting { .. } | Event::Replaced { .. } | Event::Capped { .. } | Event::Omitted { .. }
            | Event::Transferred(_) | Event::Exited(_) | Event::Closed(_) | Event::Failed(_) => self.put(time, event),
        }
        self.sink.end_event();
    }

    fn wants_bytes(&self) -> bool {
        self.payload == Payload::Shown
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.sink.flush()
    }

    fn backlog(&self) -> Option<Backlog<'_>> {
        self.sink.backlog()
    }

    fn take_omitted(&mut self) -> u64 {
        self.sink.take_omitted()
    }
}

/// Serialises an error as its text.
pub(super) fn reason<S: Serializer>(error: &io::Error, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&describe(error))
}

/// Serialises a failure as its text.
pub(super) fn failure_text<S: Serializer>(
    failure: &Failure,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&failure.message)
}

/// Serialises the end of a child as two fields, of which one is there: `status` or `signal`.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
pub(super) fn end_of_child<S: Serializer>(
    status: &ExitStatus,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_map(None)?;
    for (name, number) in [("status", status.code()), ("signal", status.signal())] {
        if let Some(number) = number {
            fields.serialize_entry(name, &number)?;
        }
    }
    fields.end()
}
