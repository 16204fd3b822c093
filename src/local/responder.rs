//! Responder: a small server for tests, which answers each request with bytes from the command line.
//! Over a stream a request is a line, otherwise a datagram. Answers go to their peers in the order of the requests.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use memchr::memmem;

use crate::batch::{Batch, Cursor, Shape};
use crate::flow::Flow;
use crate::pump::end::{Arrival, End, Finish, Next, Readiness, Wait};
use crate::tap::Taps;

/// Most bytes of a request over a stream. A longer line is cut there, so that an endless one does not fill the memory.
const REQUEST_LIMIT: usize = 64 << 10;

/// Most answers that wait to be sent. Beyond it, no more requests are read.
const QUEUE_LIMIT: usize = 256;

/// Most bytes of answers that are sent to a stream at once.
const ANSWERS_SIZE: usize = 64 << 10;

/// Answers to requests.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Pairs of a text and the answer to requests that contain it. The first pair that fits counts.
    pub pairs: Vec<(Vec<u8>, Rc<[u8]>)>,
    /// Answer to all other requests.
    pub fallback: Option<Rc<[u8]>>,
}

impl Answers {
    /// Returns the answer to a request, if there is one.
    fn find(&self, request: &[u8]) -> Option<Rc<[u8]>> {
        let mut pairs = self.pairs.iter();
        let fitting = pairs.find(|(text, _)| memmem::find(request, text).is_some());
        let answer = fitting.map(|(_, answer)| answer);
        answer.or(self.fallback.as_ref()).cloned()
    }

    /// Returns the size of the longest answer, in bytes.
    pub fn longest(&self) -> usize {
        let answers = self.pairs.iter().map(|(_, answer)| answer);
        let lens = answers.chain(&self.fallback).map(|answer| answer.len());
        lens.max().unwrap_or(0)
    }
}

/// Local end that answers one connection, or all datagrams of a socket.
pub struct Responder {
    answers: Rc<Answers>,
    /// Request that has begun.
    begun: Vec<u8>,
    waiting: VecDeque<Answer>,
    /// Bytes of the first waiting answer that are sent.
    given: usize,
    has_finished: bool,
}

/// An answer that waits to be sent.
struct Answer {
    bytes: Rc<[u8]>,
    /// Addresses of its request, if that was a datagram.
    flow: Option<Box<Flow>>,
}

impl Responder {
    /// Creates a responder without requests.
    pub fn new(answers: Rc<Answers>) -> Self {
        Self {
            answers,
            begun: Vec::new(),
            waiting: VecDeque::new(),
            given: 0,
            has_finished: false,
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= QUEUE_LIMIT
    }

    fn answer(&mut self, request: &[u8], flow: Option<Flow>) {
        let answer = self.answers.find(request);
        self.waiting.extend(answer.map(|bytes| Answer {
            bytes,
            flow: flow.map(Box::new),
        }));
    }

    /// Answers the line that has begun. An empty line is no request.
    fn answer_line(&mut self) {
        let line = std::mem::take(&mut self.begun);
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !text.is_empty() {
            self.answer(text, None);
        }
        self.begun = line;
        self.begun.clear();
    }

    /// Takes lines from a stream while there is room for answers. Returns the number of bytes taken.
    fn take_lines(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_full() {
            let room = REQUEST_LIMIT - self.begun.len();
            let rest = &bytes[taken..bytes.len().min(taken + room)];
            let end = rest.iter().position(|&byte| byte == b'\n');
            let len = end.map_or(rest.len(), |end| end + 1);
            self.begun.extend_from_slice(&rest[..len]);
            taken += len;
            if end.is_some() || self.begun.len() >= REQUEST_LIMIT {
                self.answer_line();
            }
        }
        taken
    }

    /// Moves one answer into `batch`.
    fn give_datagram(&mut self, flow: Flow, batch: &mut Batch) {
        let Some(Answer { bytes, .. }) = self.waiting.pop_front() else {
            return;
        };
        let len = bytes.len();
        batch.space(len)[..len].copy_from_slice(&bytes);
        batch.push_front(len, Shape::Datagrams(len.max(1)), Some(flow));
    }

    /// Copies answers into `batch` up to a limit.
    fn give_stream(&mut self, batch: &mut Batch) -> io::Result<()> {
        batch.reserve(ANSWERS_SIZE)?;
        let space = &mut batch.space(ANSWERS_SIZE)[..ANSWERS_SIZE];
        let mut filled = 0;
        while let Some(Answer { bytes, .. }) = self.waiting.front()
            && filled < ANSWERS_SIZE
        {
            let rest = &bytes[self.given..];
            let len = rest.len().min(ANSWERS_SIZE - filled);
            space[filled..filled + len].copy_from_slice(&rest[..len]);
            filled += len;
            self.given += len;
            if self.given == bytes.len() {
                self.given = 0;
                self.waiting.pop_front();
            }
        }
        if filled > 0 {
            batch.push_front(filled, Shape::Stream, None);
        }
        Ok(())
    }
}

impl End for Responder {
    fn recv(&mut self, batch: &mut Batch, _taps: &mut Taps) -> io::Result<Arrival> {
        match self.waiting.front() {
            Some(Answer {
                flow: Some(flow), ..
            }) => self.give_datagram(Flow::clone(flow), batch),
            Some(_) => self.give_stream(batch)?,
            None => {}
        }
        Ok(match batch.is_empty() {
            false => Arrival::Data,
            true if self.has_finished => Arrival::End,
            true => Arrival::Nothing,
        })
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, _taps: &mut Taps) -> io::Result<Next> {
        let mut next = *at;
        while let Some((run, request)) = batch.next_chunk(&mut next) {
            if self.is_full() {
                return Err(ErrorKind::WouldBlock.into());
            }
            let taken = match run.shape {
                Shape::Stream => self.take_lines(request),
                Shape::Datagrams(_) => {
                    self.answer(request, run.flow.clone());
                    request.len()
                }
            };
            if taken < request.len() {
                at.offset += taken;
                return Err(ErrorKind::WouldBlock.into());
            }
            *at = next;
        }
        Ok(Next::Continue)
    }

    /// Answers a last line without an end as well.
    fn finish(&mut self, _: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        self.answer_line();
        self.has_finished = true;
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let is_idle = self.waiting.is_empty() && !self.has_finished;
        let is_full = self.is_full();
        Readiness {
            recv: if is_idle { Wait::Never } else { Wait::Now },
            send: if is_full { Wait::Never } else { Wait::Now },
            watch: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use std::net::SocketAddr;

    use super::*;
    use crate::batch::Run;
    use crate::flow::Transport;

    fn answers() -> Rc<Answers> {
        let pair = |request: &str, answer: &str| (request.into(), Rc::from(answer.as_bytes()));
        Rc::new(Answers {
            pairs: vec![pair("PING", "PONG"), pair("P", "?"), pair("quiet", "")],
            fallback: Some(Rc::from(&b"fallback"[..])),
        })
    }

    fn flow(port: u16) -> Flow {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port)).into();
        Flow::new(Transport::Udp, address(9), address(port))
    }

    fn batch(bytes: &[u8], shape: Shape, flow: Option<Flow>) -> Batch {
        let mut batch = Batch::default();
        batch.space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        batch.push(Run {
            start: 0,
            len: bytes.len(),
            shape,
            flow,
        });
        batch
    }

    fn takes(responder: &mut Responder, batch: &Batch) {
        let mut at = Cursor::default();
        responder
            .send(batch, &mut at, &mut Taps::default())
            .unwrap();
        assert!(batch.is_taken(at));
    }

    /// Returns all answers that wait.
    fn sent(responder: &mut Responder) -> Vec<(String, Option<Flow>)> {
        let mut said = Vec::new();
        let mut batch = Batch::default();
        while let Ok(Arrival::Data) = responder.recv(&mut batch, &mut Taps::default()) {
            let run = batch.runs()[0].clone();
            let text = String::from_utf8_lossy(batch.bytes(&run)).into_owned();
            said.push((text, run.flow));
            batch.clear();
        }
        said
    }

    fn texts(responder: &mut Responder) -> Vec<String> {
        sent(responder).into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn a_line_is_a_request_however_it_comes() {
        let mut responder = Responder::new(answers());
        for piece in ["PI", "NG\r\nPIN\n\r\n\nno", "ne\nPING"] {
            takes(
                &mut responder,
                &batch(piece.as_bytes(), Shape::Stream, None),
            );
        }
        assert_eq!(texts(&mut responder), ["PONG?fallback"]);
        responder.finish(Finish::All, &mut Taps::default()).unwrap();
        assert_eq!(texts(&mut responder), ["PONG"]);
        let end = responder.recv(&mut Batch::default(), &mut Taps::default());
        assert!(matches!(end, Ok(Arrival::End)));
    }

    #[test]
    fn each_datagram_is_answered_to_its_sender() {
        let mut responder = Responder::new(answers());
        let datagrams = Shape::Datagrams(4);
        takes(&mut responder, &batch(b"PINGP", datagrams, Some(flow(1))));
        takes(&mut responder, &batch(b"", datagrams, Some(flow(2))));
        let quiet = Shape::Datagrams(5);
        takes(&mut responder, &batch(b"quiet", quiet, Some(flow(3))));
        let answer = |text: &str, port| (text.to_owned(), Some(flow(port)));
        assert_eq!(
            sent(&mut responder),
            [
                answer("PONG", 1),
                answer("?", 1),
                answer("fallback", 2),
                answer("", 3)
            ]
        );
    }

    #[test]
    fn requests_wait_while_the_queue_is_full() {
        let mut responder = Responder::new(answers());
        let many = batch(&b"PING\n".repeat(QUEUE_LIMIT + 2), Shape::Stream, None);
        let mut at = Cursor::default();
        let full = responder.send(&many, &mut at, &mut Taps::default());
        assert_eq!(full.unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(at.offset, 5 * QUEUE_LIMIT);
        assert_eq!(texts(&mut responder), ["PONG".repeat(QUEUE_LIMIT)]);
        responder
            .send(&many, &mut at, &mut Taps::default())
            .unwrap();
        assert_eq!(texts(&mut responder), ["PONGPONG"]);
    }

    #[test]
    fn a_line_without_an_end_fills_no_memory() {
        let mut responder = Responder::new(answers());
        let long = vec![b'x'; REQUEST_LIMIT + 1];
        takes(&mut responder, &batch(&long, Shape::Stream, None));
        assert_eq!(texts(&mut responder), ["fallback"]);
        assert_eq!(responder.begun.len(), 1);
    }
}
