//! Waiting until one of many descriptors is ready.
//! Level-triggered: what is asked for is computed from state, and what is still true is simply reported again.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

/// What to wait for on one descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// There is something to read, or the end.
    pub read: bool,
    /// There is room to write.
    pub write: bool,
    /// The other side has gone altogether. Always reported with the two above; on its own it watches a quiet pipe.
    pub hangup: bool,
}

impl Interest {
    /// Whether there is anything to wait for.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// A descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The name it was registered by.
    pub token: usize,
    /// Reading gives data, the end or an error at once.
    pub readable: bool,
    /// Writing takes something, or gives an error at once.
    pub writable: bool,
    /// The other side has gone.
    pub hangup: bool,
}

/// How the kernel is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// epoll(7): the cost of a wait does not grow with idle descriptors. Linux.
    Epoll,
    /// poll(2): portable.
    Poll,
}

#[derive(Clone, Copy)]
struct Entry {
    fd: RawFd,
    interest: Interest,
    /// epoll refuses regular files and /dev/null (EPERM), which are always ready.
    always: bool,
}

/// A set of descriptors, each with a token and an [`Interest`].
pub struct Poller {
    epoll: Option<OwnedFd>,
    entries: Vec<Option<Entry>>,
    always: Vec<usize>,
    events: Vec<epoll::Event>,
}

impl Poller {
    /// An empty set.
    pub fn new(mechanism: Mechanism) -> io::Result<Self> {
        let epoll = match mechanism {
            Mechanism::Epoll => Some(epoll::create(epoll::CreateFlags::CLOEXEC)?),
            Mechanism::Poll => None,
        };
        Ok(Self {
            epoll,
            entries: Vec::new(),
            always: Vec::new(),
            events: Vec::with_capacity(256),
        })
    }

    /// A descriptor that is readable while any of the set is ready, to wait on among others (epoll(7)); only epoll has one.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.epoll.as_ref().map(AsFd::as_fd)
    }

    /// Makes `interest` what is waited for on `fd`, known as `token`; an empty interest takes it out of the set.
    ///
    /// The caller calls [`Poller::forget`] before it closes the descriptor.
    pub fn set(&mut self, token: usize, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        if self.entries.len() <= token {
            self.entries.resize(token + 1, None);
        }
        if self.entries[token].is_some_and(|entry| entry.fd != fd.as_raw_fd()) {
            self.forget(token);
        }
        let old = self.entries[token];
        match old {
            Some(entry) if entry.interest == interest => return Ok(()),
            None if interest.is_empty() => return Ok(()),
            _ => {}
        }
        let always = self.register(token, fd, old, interest)?;
        self.always.retain(|&other| other != token);
        if always && !interest.is_empty() {
            self.always.push(token);
        }
        self.entries[token] = (!interest.is_empty()).then_some(Entry {
            fd: fd.as_raw_fd(),
            interest,
            always,
        });
        Ok(())
    }

    /// Tells epoll; returns whether the descriptor is one of those that are always ready.
    fn register(
        &self,
        token: usize,
        fd: BorrowedFd<'_>,
        old: Option<Entry>,
        interest: Interest,
    ) -> io::Result<bool> {
        let Some(epoll) = &self.epoll else {
            return Ok(false);
        };
        let data = epoll::EventData::new_u64(token as u64);
        match old {
            Some(entry) if entry.always => return Ok(true),
            // A descriptor without interest has to leave the set: epoll would go on to report its hang-up.
            Some(_) if interest.is_empty() => epoll::delete(epoll, fd)?,
            Some(_) => epoll::modify(epoll, fd, data, flags(interest))?,
            None => match epoll::add(epoll, fd, data, flags(interest)) {
                Err(rustix::io::Errno::PERM) => return Ok(true),
                other => other?,
            },
        }
        Ok(false)
    }

    /// Takes `token` out of the set, before its descriptor is closed.
    pub fn forget(&mut self, token: usize) {
        let Some(entry) = self.entries.get(token).copied().flatten() else {
            return;
        };
        // SAFETY: it is in the set, so it has not been closed yet.
        let fd = unsafe { BorrowedFd::borrow_raw(entry.fd) };
        // The entry goes in any case; the only failure is a descriptor that was never in epoll's set.
        let _ = self.set(token, fd, Interest::default());
    }

    /// Waits for `timeout` at the most, without limit if `None`, and puts what is ready into `ready`.
    ///
    /// A signal ends the wait early, with nothing ready.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        for &token in &self.always {
            if let Some(entry) = self.entries[token] {
                ready.push(Ready {
                    token,
                    readable: entry.interest.read,
                    writable: entry.interest.write,
                    hangup: false,
                });
            }
        }
        ready.retain(|ready| ready.readable || ready.writable);
        let timeout = if ready.is_empty() {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        // Times that do not fit are as good as for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match self.look(timeout, ready) {
            // A stopped process that goes on has been interrupted (signal(7)), and much may be ready by then.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.look(Some(Timespec::default()), ready)
            }
            other => other,
        }
    }

    fn look(&mut self, timeout: Option<Timespec>, ready: &mut Vec<Ready>) -> io::Result<()> {
        if self.epoll.is_some() {
            self.wait_epoll(timeout.as_ref(), ready)
        } else {
            self.wait_poll(timeout.as_ref(), ready)
        }
    }

    fn wait_epoll(&mut self, timeout: Option<&Timespec>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let Some(epoll) = &self.epoll else {
            return Ok(());
        };
        self.events.clear();
        epoll::wait(
            epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            timeout,
        )?;
        for event in &self.events {
            let flags = event.flags;
            let hangup = flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
            ready.push(Ready {
                token: usize::try_from(event.data.u64()).unwrap_or(usize::MAX),
                readable: hangup || flags.contains(epoll::EventFlags::IN),
                writable: hangup || flags.contains(epoll::EventFlags::OUT),
                hangup,
            });
        }
        Ok(())
    }

    fn wait_poll(&self, timeout: Option<&Timespec>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let entries = || {
            let numbered = self.entries.iter().enumerate();
            numbered.filter_map(|(token, entry)| entry.map(|entry| (token, entry)))
        };
        let mut fds: Vec<PollFd<'_>> = entries()
            .map(|(_, entry)| {
                // SAFETY: callers forget a token before they close its descriptor.
                let fd = unsafe { BorrowedFd::borrow_raw(entry.fd) };
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::IN, entry.interest.read);
                flags.set(PollFlags::OUT, entry.interest.write);
                PollFd::from_borrowed_fd(fd, flags)
            })
            .collect();
        poll(&mut fds, timeout)?;
        for ((token, _), fd) in entries().zip(&fds) {
            let flags = fd.revents();
            let hangup = flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
            let readable = hangup || flags.contains(PollFlags::IN);
            let writable = hangup || flags.contains(PollFlags::OUT);
            if readable || writable {
                ready.push(Ready {
                    token,
                    readable,
                    writable,
                    hangup,
                });
            }
        }
        Ok(())
    }
}

fn flags(interest: Interest) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    flags.set(epoll::EventFlags::IN, interest.read);
    flags.set(epoll::EventFlags::OUT, interest.write);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    const READ: Interest = Interest {
        read: true,
        write: false,
        hangup: false,
    };
    const HANGUP: Interest = Interest {
        read: false,
        write: false,
        hangup: true,
    };

    fn both(test: impl Fn(Poller)) {
        test(Poller::new(Mechanism::Epoll).unwrap());
        test(Poller::new(Mechanism::Poll).unwrap());
    }

    fn wait(poller: &mut Poller) -> Vec<Ready> {
        let mut ready = Vec::new();
        poller
            .wait(Some(Duration::from_millis(1)), &mut ready)
            .unwrap();
        ready
    }

    #[test]
    fn data_is_reported_until_interest_ends() {
        both(|mut poller| {
            let (reader, mut writer) = io::pipe().unwrap();
            poller.set(3, reader.as_fd(), READ).unwrap();
            assert!(wait(&mut poller).is_empty());
            writer.write_all(b"x").unwrap();
            assert!(wait(&mut poller)[0].readable);
            assert_eq!(wait(&mut poller)[0].token, 3);
            poller.set(3, reader.as_fd(), Interest::default()).unwrap();
            assert!(wait(&mut poller).is_empty());
        });
    }

    #[test]
    fn a_token_may_move_to_another_descriptor() {
        both(|mut poller| {
            let (quiet, _held) = io::pipe().unwrap();
            let (reader, mut writer) = io::pipe().unwrap();
            poller.set(3, quiet.as_fd(), READ).unwrap();
            poller.set(3, reader.as_fd(), READ).unwrap();
            assert!(wait(&mut poller).is_empty());
            writer.write_all(b"x").unwrap();
            assert!(wait(&mut poller)[0].readable);
        });
    }

    #[test]
    fn regular_files_are_always_ready() {
        both(|mut poller| {
            let file = File::open("Cargo.toml").unwrap();
            poller.set(0, file.as_fd(), READ).unwrap();
            assert!(wait(&mut poller)[0].readable);
            poller.set(0, file.as_fd(), Interest::default()).unwrap();
            assert!(wait(&mut poller).is_empty());
        });
    }

    #[test]
    fn a_quiet_pipe_reports_that_its_reader_has_gone() {
        both(|mut poller| {
            let (reader, writer) = io::pipe().unwrap();
            poller.set(1, writer.as_fd(), HANGUP).unwrap();
            assert!(wait(&mut poller).is_empty());
            drop(reader);
            assert!(wait(&mut poller)[0].hangup);
        });
    }
}
