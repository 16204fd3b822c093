//! Child processes for datagrams: each datagram is the standard input of a child, whose output is the reply to the sender.
//! Many work at once and reply in any order; each reply carries the addresses of its datagram.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::ChildStdout;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use slab::Slab;

use super::Caller;
use super::child::PIPE_READ_SIZE;
use super::supervisor::{ChildSlot, Supervisor};
use crate::batch::{Batch, Cursor, Shape};
use crate::flow::Flow;
use crate::framing::{CrLf, LineEnds};
use crate::pump::end::{Arrival, End, Finish, Next, Readiness, Wait};
use crate::sys::wait::{Interest, Poller, Ready};
use crate::tap::{Event, Taps};

/// Local end that starts a child for each datagram.
pub struct DatagramChildren {
    supervisor: Supervisor,
    /// Most bytes in a datagram of a reply.
    size: usize,
    ends: LineEnds,
    /// Number of datagrams so far.
    count: u64,
    replies: Slab<Reply>,
    /// Standard outputs of the children by their keys: one descriptor for the pump to wait for (epoll(7)).
    poller: Poller,
    ready: Vec<Ready>,
    /// A datagram waits for room for its child. It is sent again before this changes, so that the wake-up is not missed.
    waits_for_room: bool,
    /// No more datagrams will come.
    has_finished: bool,
}

/// Output of a child.
struct Reply {
    flow: Flow,
    output: ChildStdout,
    crlf: Option<CrLf>,
    /// Bytes that do not fill a datagram yet.
    rest: Vec<u8>,
    slot: ChildSlot,
}

impl DatagramChildren {
    /// Starts without children. Replies are cut into datagrams of `size` bytes.
    pub fn new(supervisor: &Supervisor, size: usize, ends: LineEnds) -> io::Result<Self> {
        Ok(Self {
            supervisor: supervisor.clone(),
            size: size.max(1),
            ends,
            count: 0,
            replies: Slab::new(),
            poller: Poller::new()?,
            ready: Vec::new(),
            waits_for_room: false,
            has_finished: false,
        })
    }

    /// Starts a child for one datagram.
    fn start(&mut self, caller: &Caller, datagram: &[u8]) -> io::Result<()> {
        let input = Some(memory_file(datagram)?);
        let slot = self.supervisor.queue();
        let pipes = slot.start(caller.clone(), input)?;
        let entry = self.replies.vacant_entry();
        let output = pipes.output.as_fd();
        self.poller.set(entry.key(), output, Interest::READ)?;
        entry.insert(Reply {
            flow: caller.flow.clone(),
            output: pipes.output,
            crlf: self.ends.converter(),
            rest: Vec::new(),
            slot,
        });
        Ok(())
    }

    /// Returns the next child whose output can be read.
    fn next_ready(&mut self) -> io::Result<Option<usize>> {
        if self.ready.is_empty() {
            self.poller.wait(Some(Duration::ZERO), &mut self.ready)?;
        }
        Ok(self.ready.pop().map(|ready| ready.token))
    }

    /// Reads from a child: datagrams as soon as they are full, and the rest at its end, however it writes.
    fn read(&mut self, key: usize, batch: &mut Batch) -> io::Result<()> {
        let reply = &mut self.replies[key];
        let held = reply.rest.len();
        let mut space = batch.space(held + PIPE_READ_SIZE);
        let len = reply.output.read(&mut space[held..])?;
        let mut total = held + len;
        if let Some(crlf) = &mut reply.crlf {
            let text = crlf.convert(&space[held..total]);
            total = held + text.len();
            space = batch.space(total);
            space[held..total].copy_from_slice(&text);
        }
        space[..held].copy_from_slice(&reply.rest);
        let full = match len {
            0 => total,
            _ => total - total % self.size,
        };
        reply.rest.clear();
        reply.rest.extend_from_slice(&space[full..total]);
        if full > 0 {
            let flow = Some(reply.flow.clone());
            batch.push_front(full, Shape::Datagrams(self.size), flow);
        }
        if len == 0 {
            self.poller.forget(key);
            self.replies.remove(key).slot.stdout_closed();
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
        let is_over = self.is_over();
        Ok(if is_over {
            Arrival::End
        } else {
            Arrival::Nothing
        })
    }

    fn send(&mut self, batch: &Batch, at: &mut Cursor, taps: &mut Taps) -> io::Result<Next> {
        let mut next = *at;
        while let Some((run, datagram)) = batch.next_chunk(&mut next) {
            self.waits_for_room = !self.supervisor.has_room();
            if self.waits_for_room {
                return Err(ErrorKind::WouldBlock.into());
            }
            *at = next;
            let Some(flow) = run.flow.clone() else {
                continue;
            };
            self.count += 1;
            let conn = Some(self.count.into());
            let caller = Caller { flow, conn };
            if let Err(error) = &self.start(&caller, datagram) {
                let name = caller.conversation();
                taps.emit(&Event::Broken {
                    name,
                    error,
                    call: None,
                });
            }
        }
        Ok(Next::Continue)
    }

    fn finish(&mut self, _: Finish<'_>, _taps: &mut Taps) -> io::Result<Next> {
        self.has_finished = true;
        Ok(Next::Continue)
    }

    fn readiness(&self) -> Readiness<'_> {
        let (is_over, waits) = (self.is_over(), self.waits_for_room);
        let output = Wait::readable(self.poller.descriptor());
        let room = Wait::readable(self.supervisor.room());
        Readiness {
            recv: if is_over { Wait::Now } else { output },
            send: if waits { room } else { Wait::Now },
            watch: false,
        }
    }
}
