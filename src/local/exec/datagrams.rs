//! Child processes for datagrams: each datagram is the standard input of a child, whose output is the reply to the sender.
//! Many work at once and reply in any order; each reply carries the addresses of its datagram.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::ChildStdout;

use rustix::fs::MemfdFlags;
use slab::Slab;

use super::Caller;
use super::child::PIPE_READ_SIZE;
use super::supervisor::{ChildGuard, Supervisor};
use crate::batch::{Batch, Cursor, Run, Shape};
use crate::flow::Flow;
use crate::pump::end::{Arrival, End, Finish, Next, Readiness, Wait};
use crate::sys::wait::{Interest, Poller, Ready};
use crate::tap::{Conversation, Event, Taps};

/// Token of the supervisor's room in the poller; those of the children follow.
const ROOM: usize = 0;

/// Local end that starts a child for each datagram.
pub struct DatagramChildren {
    supervisor: Supervisor,
    /// Most bytes in a datagram of a reply.
    size: usize,
    /// Number of datagrams so far.
    count: u64,
    replies: Slab<Reply>,
    poller: Poller,
    ready: Vec<Ready>,
    /// No more datagrams will come.
    has_finished: bool,
}

/// Output of a child.
struct Reply {
    flow: Flow,
    output: ChildStdout,
    /// Bytes that do not fill a datagram yet.
    rest: Vec<u8>,
    guard: ChildGuard,
}

impl DatagramChildren {
    /// Starts without children. Replies are cut into datagrams of `size` bytes.
    pub fn new(supervisor: &Supervisor, size: usize) -> io::Result<Self> {
        Ok(Self {
            supervisor: supervisor.clone(),
            size: size.max(1),
            count: 0,
            replies: Slab::new(),
            poller: Poller::new()?,
            ready: Vec::new(),
            has_finished: false,
        })
    }

    /// Starts a child for one datagram.
    fn start(&mut self, caller: Caller, datagram: &[u8]) -> io::Result<()> {
        let flow = caller.flow.clone();
        let started = self
            .supervisor
            .start(caller, Some(memory_file(datagram)?))?;
        let entry = self.replies.vacant_entry();
        self.poller
            .set(entry.key() + 1, started.output.as_fd(), Interest::READ)?;
        entry.insert(Reply {
            flow,
            output: started.output,
            rest: Vec::new(),
            guard: started.guard,
        });
        Ok(())
    }

    /// Returns the next child whose output can be read.
    fn next_ready(&mut self) -> io::Result<Option<usize>> {
        loop {
            while let Some(Ready { token, .. }) = self.ready.pop() {
                match token.checked_sub(ROOM + 1) {
                    Some(key) => return Ok(Some(key)),
                    // The wake-up alone lets a waiting datagram continue.
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

    /// Reads from a child: datagrams as soon as they are full, and the rest at its end, however it writes.
    fn read(&mut self, key: usize, batch: &mut Batch) -> io::Result<()> {
        let reply = &mut self.replies[key];
        let held = reply.rest.len();
        let space = batch.space(held + PIPE_READ_SIZE);
        space[..held].copy_from_slice(&reply.rest);
        let len = reply.output.read(&mut space[held..])?;
        let total = held + len;
        let full = if len == 0 {
            total
        } else {
            total - total % self.size
        };
        reply.rest.clear();
        reply.rest.extend_from_slice(&space[full..total]);
        if full > 0 {
            batch.push(Run {
                start: 0,
                len: full,
                shape: Shape::Datagrams(self.size),
                flow: Some(reply.flow.clone()),
            });
        }
        if len == 0 {
            self.poller.forget(key + 1);
            self.replies.remove(key).guard.stdout_closed();
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.has_finished && self.replies.is_empty()
    }
}

/// Creates a file that holds a datagram. Unlike a pipe, it has room for the largest one.
fn memory_file(datagram: &[u8]) -> io::Result<File> {
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
            Arrival::Nothing
        })
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<Next> {
        while let Some(run) = batch.runs().get(at.run) {
            let stride = match run.shape {
                Shape::Stream => run.len.max(1),
                Shape::Datagrams(stride) => stride,
            };
            let rest = &batch.bytes(run)[at.offset..];
            let datagram = &rest[..rest.len().min(stride)];
            if let Some(flow) = &run.flow {
                if !self.supervisor.has_room() {
                    self.poller
                        .set(ROOM, self.supervisor.room(), Interest::READ)?;
                    return Err(ErrorKind::WouldBlock.into());
                }
                self.count += 1;
                let conn = Some(self.count);
                let caller = Caller {
                    flow: flow.clone(),
                    conn,
                };
                if let Err(error) = &self.start(caller, datagram) {
                    let name = Conversation { flow, conn };
                    taps.emit(&Event::Broken { name, error });
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
        Ok(Next::Continue)
    }

    fn finish(&mut self, _: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        self.has_finished = true;
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        Readiness {
            recv: if self.is_over() {
                Wait::Now
            } else {
                Wait::readable(self.poller.descriptor())
            },
            send: if self.supervisor.has_room() {
                Wait::Now
            } else {
                Wait::Never
            },
            watch: false,
        }
    }
}
