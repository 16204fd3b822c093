//! Stream leg of a relay between a stream and datagrams: each frame of the stream is a datagram.
//! A decoder (`--in`) cuts what the stream brings, and `--out` writes datagrams into the stream; no byte is added without it.

use std::io;

use crate::batch::{Batch, Cursor, Shape};
use crate::exit::Failure;
use crate::flow::{ConnId, Identity};
use crate::framing::{
    Boundaries, Decoder, Frames, InputFraming, LineEnds, OutputFraming, Playback,
};
use crate::pump::end::{Arrival, Close, End, Finish, Link, Next, Readiness, Wait};
use crate::tap::{SocketState, Taps};

/// Forms of datagrams in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Form of what the stream brings.
    pub input: InputFraming,
    /// Form of what is written to the stream.
    pub output: OutputFraming,
    /// Most bytes of a datagram.
    pub limit: usize,
}

/// Most bytes of a datagram where the recipients may have IPv4 addresses.
pub const MAX_FRAME: usize = 65_507;

/// Link of a stream that gives and takes datagrams.
struct Framed {
    link: Box<dyn Link>,
    decoder: Box<dyn Decoder>,
    frames: Frames,
    output: OutputFraming,
    /// Bytes that the stream has brought.
    input: Batch,
    /// Text of datagrams that are taken, and how much of it is written.
    text: Batch,
    written: Cursor,
    /// Next arrival, behind the frames before it.
    next: Option<io::Result<Arrival>>,
}

/// Wraps the link of a stream, where it is to stand for datagrams.
pub fn wrap(framing: Option<Framing>, link: Box<dyn Link>) -> Box<dyn Link> {
    let Some(framing) = framing else {
        return link;
    };
    let (ends, playback) = (LineEnds::Kept, Playback::default());
    Box::new(Framed {
        link,
        decoder: framing.input.decoder(framing.limit, ends, &playback),
        frames: Frames::new(Boundaries::Kept {
            limit: framing.limit,
        }),
        output: framing.output,
        input: Batch::default(),
        text: Batch::default(),
        written: Cursor::default(),
        next: None,
    })
}

impl Framed {
    /// Cuts what the stream has brought.
    fn decode(&mut self) -> Result<(), Failure> {
        for run in self.input.runs() {
            let mut text = self.input.bytes(run);
            self.decoder.decode(&mut text, &mut self.frames)?;
        }
        Ok(())
    }

    /// Takes the last frame, which may have no boundary behind it.
    fn finish_input(&mut self) -> Result<(), Failure> {
        if self.frames.is_empty() && !self.decoder.has_more() {
            return Ok(());
        }
        self.decoder.finish(&mut self.frames)
    }

    /// Writes the text.
    fn flush(&mut self, taps: &mut Taps) -> io::Result<()> {
        while !self.text.is_taken(self.written) {
            self.link.send(&self.text, &mut self.written, taps)?;
        }
        Ok(())
    }
}

impl End for Framed {
    fn recv(&mut self, batch: &mut Batch, taps: &mut Taps) -> io::Result<Arrival> {
        if let Some(next) = self.next.take() {
            return next;
        }
        self.input.clear();
        let arrival = self.link.recv(&mut self.input, taps);
        if matches!(&arrival, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            // There may be very many that are idle.
            self.input = Batch::default();
        }
        let arrival = arrival?;
        let (decoded, arrival) = match arrival {
            Arrival::Data => (self.decode(), Arrival::Nothing),
            Arrival::End => (self.finish_input(), Arrival::End),
            other => (Ok(()), other),
        };
        self.frames.flush(batch);
        let next = decoded.map(|()| arrival).map_err(io::Error::from);
        if batch.is_empty() {
            return next;
        }
        self.next = Some(next).filter(|next| !matches!(next, Ok(Arrival::Nothing)));
        Ok(Arrival::Data)
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<Next> {
        loop {
            self.flush(taps)?;
            if batch.is_taken(*at) {
                return Ok(Next::Continue);
            }
            let mut text = Vec::new();
            self.output.encode(batch, at, &mut text);
            self.text.clear();
            self.text.space(text.len())[..text.len()].copy_from_slice(&text);
            self.text.push_front(text.len(), Shape::Stream, None);
            self.written = Cursor::default();
        }
    }

    fn finish(&mut self, what: Finish<'_>, taps: &mut Taps) -> io::Result<Next> {
        self.flush(taps)?;
        self.link.finish(what, taps)
    }

    fn readiness(&self) -> Readiness<'_> {
        let mut readiness = self.link.readiness();
        if self.next.is_some() {
            readiness.recv = Wait::Now;
        }
        readiness
    }

    fn health(&mut self) -> io::Result<usize> {
        self.link.health()
    }
}

impl Link for Framed {
    fn identity(&self) -> Identity {
        self.link.identity()
    }

    fn conn(&self) -> Option<ConnId> {
        self.link.conn()
    }

    fn states(&self) -> Vec<SocketState> {
        self.link.states()
    }

    fn close(&mut self, how: Close, taps: &mut Taps) -> Result<(), Failure> {
        self.link.close(how, taps)
    }
}
