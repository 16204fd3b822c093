//! Count of the bytes of one connection, which reports each chunk as it is counted.
//! A connection counts what it reads and writes; the pump counts in the same place what the kernel splices.

use super::{Conversation, Count, Data, Event, Taps};
use crate::batch::Shape;
use crate::flow::{Direction, Flow};

/// Bytes of a byte stream, in both directions.
#[derive(Debug)]
pub struct Meter {
    /// The addresses that the chunks are reported with.
    pub flow: Flow,
    /// Number of the connection, where it has one.
    pub conn: Option<u64>,
    /// Bytes from the network.
    pub received: Count,
    /// Bytes to the network.
    pub sent: Count,
}

impl Meter {
    /// Makes a meter at zero.
    #[must_use]
    pub fn new(flow: Flow, conn: Option<u64>) -> Self {
        Self {
            flow,
            conn,
            received: Count::default(),
            sent: Count::default(),
        }
    }

    /// Returns the name that the connection is reported by.
    #[must_use]
    pub fn conversation(&self) -> Conversation<'_> {
        Conversation {
            flow: &self.flow,
            conn: self.conn,
        }
    }

    /// Counts and reports `len` bytes that have moved at once; `bytes` unless the kernel moved them unseen.
    pub fn note(
        &mut self,
        direction: Direction,
        len: usize,
        bytes: Option<&[u8]>,
        taps: &mut Taps,
    ) {
        match direction {
            Direction::Incoming => self.received.add(len, 1),
            Direction::Outgoing => self.sent.add(len, 1),
        }
        taps.emit(&Event::Data(Data {
            direction,
            flow: &self.flow,
            conn: self.conn,
            len,
            shape: Shape::Stream,
            bytes,
        }));
    }
}
