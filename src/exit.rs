//! Exit statuses, and the one failure type that carries them from a socket up to the program.
//! A script learns from the status alone how a run ended.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};
use signal_hook::low_level::signal_name;

use crate::sys::errno::words;
use crate::sys::inherited::{BlockingWriter, Inherited, was_closed};
use crate::sys::wait::{Interest, Wakeup, wait};

/// Time for which an error waits for room on standard error.
const ERROR_TIME: Duration = Duration::from_millis(500);

/// End of a run. The numbers are a promise to scripts (tuplecat(1), EXIT STATUS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: any input or output error that has no status of its own.
    Failed,
    /// 2: the command line is wrong.
    Usage,
    /// 3: a name did not resolve.
    Unresolved,
    /// 4: the address cannot be bound: in use, not permitted, or not ours.
    CannotBind,
    /// 5: connection refused, or UDP port unreachable.
    Refused,
    /// 6: timed out: connecting, accepting, idle, in total, or with fewer replies than asked for.
    TimedOut,
    /// 7: the peer reset the connection.
    Reset,
    /// 8: expected data did not come.
    Unexpected,
    /// 9: data was lost, with `--fail-on-loss`.
    DataLost,
    /// 141: the reader of standard output has gone (128 + SIGPIPE, as a shell reports it).
    OutputClosed,
    /// 128 + n: ended by signal n.
    Signal(u8),
}

impl Exit {
    /// Returns the number that the process exits with.
    pub fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unresolved => 3,
            Self::CannotBind => 4,
            Self::Refused => 5,
            Self::TimedOut => 6,
            Self::Reset => 7,
            Self::Unexpected => 8,
            Self::DataLost => 9,
            Self::OutputClosed => 141,
            Self::Signal(number) => 128 + number,
        }
    }
}

impl From<&io::Error> for Exit {
    /// Returns the status for an error of a socket or a descriptor in use (not of `bind`).
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                Self::Reset
            }
            _ => Self::Failed,
        }
    }
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.status())
    }
}

/// End of a run that is not [`Exit::Done`].
///
/// [`io::Error`] carries it through the ends of the pump, and [`anyhow::Error`] through the modes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The status to exit with.
    #[serde(rename = "status")]
    pub exit: Exit,
    /// The act, the address and the reason, without the program's name; a line for each address that failed. Empty where the
    /// status says it all.
    #[serde(rename = "error")]
    pub message: String,
}

impl Failure {
    /// Returns a failure with a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// Returns the end by a signal, without a message: its sender knows.
    pub fn signal(number: u8) -> Self {
        Self::new(Exit::Signal(number), "")
    }

    /// Converts an error of a mode, with the acts that were added to it as context.
    ///
    /// The status is that of the failure in it, or follows from the kind of the [`io::Error`] in it.
    pub fn of(error: &anyhow::Error) -> Self {
        let text = format!("{error:#}");
        if let Some(failure) = error.downcast_ref::<Self>() {
            let is_empty = failure.message.is_empty();
            return Self::new(failure.exit, if is_empty { "" } else { &text });
        }
        match error.downcast_ref::<io::Error>() {
            Some(error) => {
                let text = text.replace(&error.to_string(), &describe(error));
                Self::new(error.into(), text)
            }
            None => Self::new(Exit::Failed, text),
        }
    }

    /// Converts an error of `act` (such as `cannot bind udp 127.0.0.1:53`).
    ///
    /// A failure in the error stays as it is. Otherwise, the status follows from the kind of the error.
    pub fn io(act: impl fmt::Display, error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let failure: Option<&Self> = inner;
        failure.cloned().unwrap_or_else(|| {
            let text = format!("{act}: {}", describe(error));
            Self::new(error.into(), text)
        })
    }
}

impl Failure {
    /// Converts an error of a descriptor or a file of this machine: [`Failure::io`], but never with a status of the network.
    pub fn local(act: impl fmt::Display, error: &io::Error) -> Self {
        let failure = Self::io(act, error);
        match error.get_ref() {
            Some(inner) if inner.is::<Self>() => failure,
            _ => Self::new(Exit::Failed, failure.message),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::other(failure)
    }
}

/// Returns the text of an I/O error as this program prints it: lower case, no error number.
pub fn describe(error: &io::Error) -> String {
    if let Some(words) = words(error) {
        return words;
    }
    let text = error.to_string();
    let mut letters = text.chars();
    match letters.next() {
        // Keep acronyms such as "EOF" as they are.
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text,
    }
}

/// Reason where the kernel was to choose a port, and every port is in use (ip(7)).
pub const NO_FREE_PORT: &str = "no local port is free (net.ipv4.ip_local_port_range)";

fn needs_scope(address: SocketAddrV6) -> bool {
    let first = address.ip().segments()[0];
    let is_link_local = matches!(first, 0xfe80..=0xfebf | 0xff01 | 0xff02 | 0xff11 | 0xff12);
    is_link_local && address.scope_id() == 0
}

/// Returns the text of an error about an address.
///
/// "Invalid argument" is all that the kernel says about a link-local one (RFC 4291, sections 2.5.6 and 2.7) without its interface.
pub fn describe_at(error: &io::Error, address: SocketAddr) -> String {
    match (error.kind(), address) {
        (ErrorKind::InvalidInput, SocketAddr::V6(v6)) if needs_scope(v6) => {
            let ip = v6.ip();
            format!("a link-local address needs its interface, as in '{ip}%eth0'")
        }
        (ErrorKind::AddrInUse, address) if address.port() == 0 => NO_FREE_PORT.to_owned(),
        _ => describe(error),
    }
}

/// Returns true if the process or the system has run out of descriptors, memory or buffers, which it may have again later
/// (accept(2), socket(2)).
pub fn is_shortage(error: &io::Error) -> bool {
    let shortages = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error
        .raw_os_error()
        .is_some_and(|number| shortages.contains(&number))
}

/// Returns the end of a child process as this program prints it: `status 3`, `signal 9 (SIGKILL)`.
pub fn describe_status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(number)) => match signal_name(number) {
            Some(name) => format!("signal {number} ({name})"),
            None => format!("signal {number}"),
        },
        (code, None) => format!("status {}", code.unwrap_or_default()),
    }
}

/// Writes the text that is the whole output of a run, such as help, to standard output.
///
/// Errors: [`Exit::OutputClosed`] if its reader has gone, [`Exit::Failed`] if it cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    const ACT: &str = "cannot write to standard output";
    if was_closed(1) {
        let text = format!("{ACT}: it was closed when the program started");
        return Err(Failure::new(Exit::Failed, text));
    }
    let mut stdout = BlockingWriter(io::stdout());
    let written = stdout.write_all(text.as_bytes());
    let written = written.and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Failure::new(Exit::OutputClosed, ""),
        _ => Failure::local(ACT, &error),
    })
}

/// Writes the error of a run to standard error. If that has no reader or no room in time, the status has to say it all.
pub fn print_error(text: &str) {
    let mut stderr = Inherited::stderr();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match stderr.write(&[IoSlice::new(rest)]) {
            Ok(count @ 1..) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let until = Some(Instant::now() + ERROR_TIME);
                let woken = wait(&[(stderr.as_fd(), Interest::WRITE)], None, until);
                if !matches!(woken, Ok(Wakeup::Ready(_))) {
                    return;
                }
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_one_lower_case_clause() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(
            Failure::io("cannot connect to 127.0.0.1:9", &refused),
            Failure::new(
                Exit::Refused,
                "cannot connect to 127.0.0.1:9: connection refused"
            ),
        );
    }

    #[test]
    fn an_error_with_context_keeps_its_status() {
        let in_use = anyhow::Error::new(Failure::new(Exit::CannotBind, "in use"));
        for (error, expected) in [
            (
                in_use.context("cannot start"),
                Failure::new(Exit::CannotBind, "cannot start: in use"),
            ),
            (
                anyhow::Error::new(io::Error::from_raw_os_error(104)).context("cannot read"),
                Failure::new(Exit::Reset, "cannot read: connection reset by peer"),
            ),
            (
                anyhow::Error::new(Failure::signal(2)).context("cannot start"),
                Failure::signal(2),
            ),
        ] {
            assert_eq!(Failure::of(&error), expected);
        }
    }

    #[test]
    fn a_link_local_address_needs_its_interface() {
        let invalid = io::Error::from_raw_os_error(22);
        for (address, expected) in [
            (
                "[fe80::1]:9",
                "a link-local address needs its interface, as in 'fe80::1%eth0'",
            ),
            (
                "[ff02::fb]:9",
                "a link-local address needs its interface, as in 'ff02::fb%eth0'",
            ),
            ("[fe80::1%3]:9", "invalid argument"),
            ("[ff05::1]:9", "invalid argument"),
            ("127.0.0.1:9", "invalid argument"),
        ] {
            assert_eq!(describe_at(&invalid, address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn a_child_ends_with_a_status_or_by_a_signal() {
        let end = |raw| describe_status(ExitStatus::from_raw(raw));
        assert_eq!(end(3 << 8), "status 3");
        assert_eq!(end(9), "signal 9 (SIGKILL)");
        assert_eq!(end(40), "signal 40");
    }

    #[test]
    fn signals_count_from_128() {
        assert_eq!(Exit::Signal(15).status(), 143);
    }
}
