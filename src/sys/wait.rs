//! Waiting for descriptors, signals and times: [`wait`] once, and [`Poller`] for a set that lives on.
//! Both are level-triggered: what is still true is reported again.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;

use super::signals::{Request, Signals};

/// Conditions to wait for on a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// There is something to read, or the end.
    pub read: bool,
    /// There is room to write.
    pub write: bool,
    /// The other side has closed both directions. Always reported with the two above; alone, it watches an unused pipe.
    pub hangup: bool,
}

impl Interest {
    /// Readable.
    pub const READ: Self = Self::new(true, false);
    /// Writable.
    pub const WRITE: Self = Self::new(false, true);

    const fn new(read: bool, write: bool) -> Self {
        Self {
            read,
            write,
            hangup: false,
        }
    }

    /// Returns true if there is nothing to wait for.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Reason why [`wait`] has returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// Some descriptors are ready; one item for each, in the given order.
    Ready(Vec<bool>),
    /// A signal has come.
    Signal(Request),
    /// The time has come.
    TimedOut,
}

/// Waits until a descriptor is ready, a signal comes, or it is `until`; without limit if that is `None`.
///
/// A descriptor with an error or a hang-up is ready (poll(2)). A signal is reported first.
pub fn wait(
    watched: &[(BorrowedFd<'_>, Interest)],
    signals: Option<&Signals>,
    until: Option<Instant>,
) -> io::Result<Wakeup> {
    let mut fds: Vec<PollFd<'_>> = watched
        .iter()
        .map(|&(fd, interest)| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, interest.read);
            flags.set(PollFlags::OUT, interest.write);
            PollFd::from_borrowed_fd(fd, flags)
        })
        .collect();
    let wake = signals.map(Signals::wake);
    fds.extend(wake.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    loop {
        if let Some(request) = signals.and_then(Signals::next) {
            return Ok(Wakeup::Signal(request));
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match poll(&mut fds, left.and_then(timespec).as_ref()) {
            Ok(0) => return Ok(Wakeup::TimedOut),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let ready = fds[..watched.len()].iter();
        let ready: Vec<bool> = ready.map(|fd| !fd.revents().is_empty()).collect();
        if ready.contains(&true) {
            return Ok(Wakeup::Ready(ready));
        }
    }
}

/// A time for the kernel; one that does not fit is as good as no limit.
fn timespec(time: Duration) -> Option<Timespec> {
    Timespec::try_from(time).ok()
}

/// Descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token that it was registered with.
    pub token: usize,
    /// Reading gives data, the end or an error at once.
    pub readable: bool,
    /// Writing takes something or gives an error at once.
    pub writable: bool,
    /// The other side has closed both directions, or there is an error.
    pub hangup: bool,
}

/// Set of descriptors, each with a token and an [`Interest`].
///
/// The cost of a wait does not grow with the number of idle descriptors (epoll(7)).
pub struct Poller {
    epoll: OwnedFd,
    entries: Vec<Option<(RawFd, Interest)>>,
    /// The tokens of regular files and /dev/null: epoll refuses them (EPERM, `epoll_ctl(2)`), as they are always ready.
    always: Vec<usize>,
    events: Vec<epoll::Event>,
}

impl Poller {
    /// Creates an empty set.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            entries: Vec::new(),
            always: Vec::new(),
            events: Vec::with_capacity(256),
        })
    }

    /// Descriptor that is readable while any of the set is ready (epoll(7)).
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Sets the interest in `fd`, known as `token`; an empty one removes it from the set.
    ///
    /// Before a descriptor is closed, its token has to be removed with [`Poller::forget`].
    pub fn set(&mut self, token: usize, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        let entry = (fd.as_raw_fd(), interest);
        let old = self.entries.get(token).copied().flatten();
        if old == Some(entry) {
            return Ok(());
        }
        let is_new = old.is_none_or(|(old, _)| old != entry.0);
        // Without interest it may not stay in the set either: epoll would report its hang-up.
        if is_new || interest.is_empty() {
            self.forget(token);
        }
        if interest.is_empty() {
            return Ok(());
        }
        if !self.always.contains(&token) {
            let change = if is_new { epoll::add } else { epoll::modify };
            let data = epoll::EventData::new_u64(token as u64);
            match change(&self.epoll, fd, data, flags(interest)) {
                Err(Errno::PERM) => self.always.push(token),
                other => other?,
            }
        }
        if self.entries.len() <= token {
            self.entries.resize(token + 1, None);
        }
        self.entries[token] = Some(entry);
        Ok(())
    }

    /// Removes `token` from the set.
    pub fn forget(&mut self, token: usize) {
        let entry = self.entries.get_mut(token).and_then(Option::take);
        let Some((fd, _)) = entry else { return };
        if self.always.contains(&token) {
            self.always.retain(|&other| other != token);
            return;
        }
        // SAFETY: a descriptor in the set has not been closed yet.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        // The only failure is a descriptor that epoll does not have.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for at most `timeout`, without limit if `None`, and replaces the content of `ready`.
    ///
    /// A signal ends the wait early, with nothing ready.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        for &token in &self.always {
            let entry = self.entries[token].filter(|(_, interest)| interest.read || interest.write);
            ready.extend(entry.map(|(_, interest)| Ready {
                token,
                readable: interest.read,
                writable: interest.write,
                hangup: false,
            }));
        }
        let timeout = if ready.is_empty() {
            timeout.and_then(timespec)
        } else {
            Some(Timespec::default())
        };
        self.events.clear();
        match self.fetch(timeout) {
            // A stopped process that continues is interrupted (signal(7)), and much may be ready by then.
            Err(Errno::INTR) => self.fetch(Some(Timespec::default()))?,
            other => other?,
        };
        ready.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            let hangup = flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
            Ready {
                token: usize::try_from(event.data.u64()).unwrap_or(usize::MAX),
                readable: hangup || flags.contains(epoll::EventFlags::IN),
                writable: hangup || flags.contains(epoll::EventFlags::OUT),
                hangup,
            }
        }));
        Ok(())
    }

    /// Fetches the events of epoll.
    fn fetch(&mut self, timeout: Option<Timespec>) -> Result<usize, Errno> {
        let space = rustix::buffer::spare_capacity(&mut self.events);
        epoll::wait(&self.epoll, space, timeout.as_ref())
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

    const HANGUP: Interest = Interest {
        read: false,
        write: false,
        hangup: true,
    };

    fn poll_once(poller: &mut Poller) -> Vec<Ready> {
        let mut ready = Vec::new();
        poller
            .wait(Some(Duration::from_millis(1)), &mut ready)
            .unwrap();
        ready
    }

    #[test]
    fn data_is_reported_until_interest_ends() {
        let mut poller = Poller::new().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        poller.set(3, reader.as_fd(), Interest::READ).unwrap();
        assert!(poll_once(&mut poller).is_empty());
        writer.write_all(b"x").unwrap();
        assert!(poll_once(&mut poller)[0].readable);
        assert_eq!(poll_once(&mut poller)[0].token, 3);
        poller.set(3, reader.as_fd(), Interest::default()).unwrap();
        assert!(poll_once(&mut poller).is_empty());
    }

    #[test]
    fn a_token_may_move_to_another_descriptor() {
        let mut poller = Poller::new().unwrap();
        let (quiet, _held) = io::pipe().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        poller.set(3, quiet.as_fd(), Interest::READ).unwrap();
        poller.set(3, reader.as_fd(), Interest::READ).unwrap();
        assert!(poll_once(&mut poller).is_empty());
        writer.write_all(b"x").unwrap();
        assert!(poll_once(&mut poller)[0].readable);
    }

    #[test]
    fn regular_files_are_always_ready() {
        let mut poller = Poller::new().unwrap();
        let file = File::open("Cargo.toml").unwrap();
        poller.set(0, file.as_fd(), Interest::READ).unwrap();
        assert!(poll_once(&mut poller)[0].readable);
        poller.set(0, file.as_fd(), Interest::default()).unwrap();
        assert!(poll_once(&mut poller).is_empty());
    }

    #[test]
    fn an_unused_pipe_reports_that_its_reader_has_gone() {
        let mut poller = Poller::new().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        poller.set(1, writer.as_fd(), HANGUP).unwrap();
        assert!(poll_once(&mut poller).is_empty());
        drop(reader);
        assert!(poll_once(&mut poller)[0].hangup);
    }

    #[test]
    fn a_single_wait_reports_which_descriptor_or_the_time() {
        let (reader, writer) = io::pipe().unwrap();
        let (quiet, _held) = io::pipe().unwrap();
        let watched = [
            (quiet.as_fd(), Interest::READ),
            (writer.as_fd(), Interest::WRITE),
        ];
        let now = Instant::now();
        let ready = Wakeup::Ready(vec![false, true]);
        assert_eq!(wait(&watched, None, None).unwrap(), ready);
        let quiet = &watched[..1];
        assert_eq!(wait(quiet, None, Some(now)).unwrap(), Wakeup::TimedOut);
        let soon = now + Duration::from_millis(2);
        assert_eq!(wait(&[], None, Some(soon)).unwrap(), Wakeup::TimedOut);
        assert!(Instant::now() >= soon);
        drop(reader);
        let closed = [(writer.as_fd(), Interest::default())];
        assert_eq!(
            wait(&closed, None, None).unwrap(),
            Wakeup::Ready(vec![true])
        );
    }
}
