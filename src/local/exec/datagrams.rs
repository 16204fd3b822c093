//! A child for each datagram: the datagram is its standard input, its output is the answer to whoever sent it.
//! Many work at once and answer in any order; which answer is for whom travels with the bytes.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ChildStdout;

use rustix::fs::MemfdFlags;
use slab::Slab;

use super::Caller;
use super::supervisor::{ChildGuard, Supervisor};
use crate::batch::{Batch, Cursor, Run, Shape};
use crate::flow::Flow;
use crate::pump::end::{Arrival, End};
use crate::sys::wait::{Interest, Poller, Ready};
use crate::tap::{Event, Taps};

/// Bytes read at once: what a pipe holds.
const STRETCH: usize = 64 << 10;

/// The poller's name for the room in the supervisor; children follow.
const ROOM: usize = 0;

/// Children that answer datagrams.
pub struct DatagramChildren {
    supervisor: Supervisor,
    /// The most bytes that go into a datagram of an answer.
    size: usize,
    /// How many datagrams there were.
    count: u64,
    answers: Slab<Answer>,
    poller: Poller,
    ready: Vec<Ready>,
    /// Whether no more datagrams will come.
    has_finished: bool,
}

/// What a child says.
struct Answer {
    flow: Flow,
    output: ChildStdout,
    /// What it has said that does not fill a datagram yet.
    rest: Vec<u8>,
    guard: ChildGuard,
}

impl DatagramChildren {
    /// Nobody yet. Answers are cut into datagrams of `size` bytes.
    pub fn new(supervisor: &Supervisor, size: usize) -> io::Result<Self> {
        Ok(Self {
            supervisor: supervisor.clone(),
            size: size.max(1),
            count: 0,
            answers: Slab::new(),
            poller: Poller::new()?,
            ready: Vec::new(),
            has_finished: false,
        })
    }

    /// Starts a child for one datagram.
    fn start(&mut self, caller: Caller, datagram: &[u8]) -> io::Result<()> {
        let flow = caller.flow.clone();
        let started = self.supervisor.start(caller, Some(held(datagram)?))?;
        let entry = self.answers.vacant_entry();
        self.poller
            .set(entry.key() + 1, started.output.as_fd(), READABLE)?;
        entry.insert(Answer {
            flow,
            output: started.output,
            rest: Vec::new(),
            guard: started.guard,
        });
        Ok(())
    }

    /// The next child that has something to say.
    fn next_ready(&mut self) -> io::Result<Option<usize>> {
        loop {
            while let Some(Ready { token, .. }) = self.ready.pop() {
                match token.checked_sub(ROOM + 1) {
                    Some(key) => return Ok(Some(key)),
                    // That this end was asked at all is what makes a waiting datagram go on.
                    None => self.poller.forget(ROOM),
                }
            }
            self.poller
                .wait(Some(std::time::Duration::ZERO), &mut self.ready)?;
            if self.ready.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Reads from a child: whole datagrams as soon as they are full, the rest at its end. How it writes makes no difference.
    fn read(&mut self, key: usize, batch: &mut Batch) -> io::Result<()> {
        let answer = &mut self.answers[key];
        let held = answer.rest.len();
        let space = batch.space(held + STRETCH);
        space[..held].copy_from_slice(&answer.rest);
        let len = answer.output.read(&mut space[held..])?;
        let total = held + len;
        let full = if len == 0 {
            total
        } else {
            total - total % self.size
        };
        answer.rest.clear();
        answer.rest.extend_from_slice(&space[full..total]);
        if full > 0 {
            batch.push(Run {
                start: 0,
                len: full,
                shape: Shape::Datagrams(self.size),
                flow: Some(answer.flow.clone()),
            });
        }
        if len == 0 {
            self.poller.forget(key + 1);
            self.answers.remove(key).guard.stdout_closed();
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.has_finished && self.answers.is_empty()
    }
}

const READABLE: Interest = Interest {
    read: true,
    write: false,
    hangup: false,
};

/// A file that holds a datagram, open at its beginning: unlike a pipe it has room for the largest, whoever reads it and when.
fn held(datagram: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("datagram", MemfdFlags::CLOEXEC)?);
    file.write_all(datagram)?;
    file.rewind()?;
    Ok(file)
}

impl End for DatagramChildren {
    fn recv(&mut self, batch: &mut Batch, _taps: &mut Taps) -> io::Result<Arrival> {
        while let Some(key) = self.next_ready()? {
            match self.read(key, batch) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ if !batch.is_empty() => return Ok(Arrival::Data),
                _ => {}
            }
        }
        Ok(if self.is_over() {
            Arrival::End
        } else {
            Arrival::Nothing(None)
        })
    }

    fn is_pending(&self) -> bool {
        self.is_over()
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<()> {
        while let Some(run) = batch.runs().get(at.run) {
            let stride = match run.shape {
                Shape::Stream => run.len.max(1),
                Shape::Datagrams(stride) => stride,
            };
            let rest = &batch.bytes(run)[at.offset..];
            let datagram = &rest[..rest.len().min(stride)];
            if let Some(flow) = &run.flow {
                if !self.supervisor.has_room() {
                    self.poller.set(ROOM, self.supervisor.room(), READABLE)?;
                    return Err(ErrorKind::WouldBlock.into());
                }
                self.count += 1;
                let conn = Some(self.count);
                let caller = Caller {
                    flow: flow.clone(),
                    conn,
                };
                if let Err(error) = &self.start(caller, datagram) {
                    taps.emit(&Event::Broken { flow, conn, error });
                }
            }
            at.offset += datagram.len();
            if at.offset >= run.len {
                *at = Cursor {
                    run: at.run + 1,
                    offset: 0,
                };
            }
        }
        Ok(())
    }

    fn finish(&mut self, _taps: &mut Taps) -> io::Result<()> {
        self.has_finished = true;
        Ok(())
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.poller.descriptor())
    }

    fn sink(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
