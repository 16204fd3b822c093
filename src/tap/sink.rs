//! Outputs of the taps: records on standard error, in files or in memory.
//! A record is complete, or known not to be: a failed write is reported at once and fails the run at its end.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FileType, OFlags};

use super::Console;
use crate::escape::Escaped;
use crate::exit::{Exit, Failure, describe};
use crate::sys::inherited::Inherited;

/// Bytes gathered before they are written, and bytes of reports that wait for a reader. Later reports are left out.
pub(super) const BUFFER_SIZE: usize = 128 << 10;

/// Descriptor that an observer has to write to, and has no room for now.
#[derive(Clone, Copy, Debug)]
pub struct Backlog<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// The bytes that wait for room.
    pub content: Content,
}

/// Content of a backlog, in the order of its importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// Reports, which may be left out.
    Reports,
    /// A record, which is lossless.
    Record,
    /// So much of a record that the traffic has to wait for its reader.
    FullRecord,
}

impl Content {
    /// Returns the content of so many bytes.
    pub(super) fn of_len(self, len: usize) -> Self {
        match self {
            Self::Record if len >= BUFFER_SIZE => Self::FullRecord,
            other => other,
        }
    }
}

/// Writes bytes while there is room for them, and removes them. After an error all are removed.
pub(super) fn drain(
    bytes: &mut Vec<u8>,
    mut write: impl FnMut(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut written = 0;
    let ended = loop {
        if written == bytes.len() {
            break Ok(());
        }
        match write(&bytes[written..]) {
            Ok(0) => break Err(ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bytes.drain(..written);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    bytes.clear();
    ended
}

/// Destination of a sink. None of them makes the caller wait.
enum Out {
    Console(Console),
    Stdout(Inherited),
    /// A file of our own, with `O_NONBLOCK`.
    File(File),
    /// It always has room, as memory has.
    Roomy(Box<dyn Write>),
}

impl Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Console(console) => console.record(bytes),
            Self::Stdout(stdout) => stdout.write(&[IoSlice::new(bytes)]),
            Self::File(file) => file.write(bytes),
            Self::Roomy(out) => out.write(bytes),
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Stdout(stdout) => Some(stdout.as_fd()),
            Self::File(file) => Some(file.as_fd()),
            Self::Console(_) | Self::Roomy(_) => None,
        }
    }
}

/// A record that grows: an events file, a dump or a capture.
pub struct Sink {
    out: Out,
    /// The name of the output in messages.
    name: String,
    content: Content,
    buffer: Vec<u8>,
    /// Bytes of whole reports at the beginning of the buffer, and the reports that were left out.
    whole: usize,
    omitted: u64,
    console: Console,
    /// The result of a run whose output has lost its reader.
    abandoned: Exit,
    /// The result of the run, once a write has failed.
    broken: Option<Exit>,
}

impl Sink {
    /// Creates or empties a file; `option` is the option that names it.
    ///
    /// Errors: it cannot be opened for writing, or is in use.
    pub fn file(
        path: &Path,
        option: &'static str,
        console: &Console,
        used: &mut UsedFiles,
    ) -> Result<Self, Failure> {
        let name = format!("'{}' ({option})", path.display());
        // It is emptied only when it is known to be no other file of this run.
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let emptied = options.open(path).and_then(|file| {
            if let Some(id) = regular(&file) {
                used.claim(id, option)?;
                file.set_len(0)?;
            }
            Ok(file)
        });
        match emptied {
            Ok(file) => Ok(Self::new(Out::File(file), name, console)),
            Err(error) => Err(Failure::io(format!("cannot write to {name}"), &error)),
        }
    }

    /// Standard error.
    pub fn stderr(option: &str, console: &Console) -> Self {
        let name = format!("standard error ({option})");
        Self::new(Out::Console(console.clone()), name, console)
    }

    /// Standard output. A reader that closes it ends the run without a message.
    pub fn stdout(option: &str, console: &Console) -> Self {
        let name = format!("standard output ({option})");
        Self {
            abandoned: Exit::OutputClosed,
            ..Self::new(Out::Stdout(Inherited::stdout()), name, console)
        }
    }

    /// A destination that always has room, such as memory.
    pub fn memory(out: impl Write + 'static) -> Self {
        let out = Out::Roomy(Box::new(out));
        Self::new(out, "memory".to_owned(), &Console::default())
    }

    fn new(out: Out, name: String, console: &Console) -> Self {
        Self {
            out,
            name,
            content: Content::Record,
            buffer: Vec::with_capacity(BUFFER_SIZE),
            whole: 0,
            omitted: 0,
            console: console.clone(),
            abandoned: Exit::Failed,
            broken: None,
        }
    }

    /// Leaves reports out while nobody reads them.
    pub fn lossy(self) -> Self {
        let content = Content::Reports;
        Self { content, ..self }
    }

    /// Returns the buffer, for at most some kilobytes more. A full buffer is written first.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.len() >= BUFFER_SIZE {
            self.write();
        }
        &mut self.buffer
    }

    /// Marks the end of a report, and leaves it out if too much waits for the reader.
    pub(super) fn end_report(&mut self) {
        if self.content == Content::Reports && self.whole > BUFFER_SIZE {
            self.buffer.truncate(self.whole);
            self.omitted += 1;
        }
        self.whole = self.buffer.len();
    }

    /// Marks the end of an event. It is written at once where others write to the same place.
    pub fn end_event(&mut self) {
        if matches!(self.out, Out::Console(_)) {
            self.write();
        }
    }

    /// Writes what there is room for.
    ///
    /// Errors: a write has failed, now or before, and a message has said so. [`Exit::OutputClosed`] ends the run.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.write();
        match self.broken {
            Some(exit) => Err(Failure::new(exit, "")),
            None => Ok(()),
        }
    }

    /// Returns what waits for room, if something does.
    pub fn backlog(&self) -> Option<Backlog<'_>> {
        if let Out::Console(console) = &self.out {
            return console.backlog_of(self.content);
        }
        let content = self.content.of_len(self.buffer.len());
        let fd = self.out.fd().filter(|_| !self.buffer.is_empty())?;
        Some(Backlog { fd, content })
    }

    /// Takes the number of reports that were left out, once there is room to say so.
    pub(super) fn take_omitted(&mut self) -> u64 {
        match &self.out {
            Out::Console(console) => console.omitted(),
            _ if self.buffer.is_empty() => mem::take(&mut self.omitted),
            _ => 0,
        }
    }

    fn write(&mut self) {
        let Self { out, buffer, .. } = self;
        let written = match (out, self.broken) {
            (_, Some(_)) => {
                buffer.clear();
                Ok(())
            }
            (Out::Console(console), _) if self.content == Content::Reports => {
                console.report(buffer);
                buffer.clear();
                Ok(())
            }
            (Out::Console(console), _) if buffer.is_empty() => console.write_pending(),
            (out, _) => drain(buffer, |bytes| out.write(bytes)),
        };
        self.whole = self.buffer.len();
        if let Err(error) = written {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        if self.abandoned == Exit::OutputClosed
            && matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
            )
        {
            self.broken = Some(Exit::OutputClosed);
            return;
        }
        self.broken = Some(Exit::Failed);
        let (name, reason) = (&self.name, describe(error));
        let text = format!("cannot write to {name}: {reason}; nothing more goes there");
        self.console
            .report(format!("tuplecat: {}\n", Escaped(text)).as_bytes());
    }
}

/// The regular files of a run and their purposes. A record in one of them would destroy its content, such as a dump that is being
/// sent again.
pub struct UsedFiles(Vec<(FileId, &'static str)>);

/// Device and inode (stat(2)).
type FileId = (u64, u64);

impl UsedFiles {
    /// The files behind the standard descriptors.
    pub fn standard() -> Self {
        let mut used = Self(Vec::new());
        for (file, purpose) in [
            (rustix::stdio::stdin(), "standard input"),
            (rustix::stdio::stdout(), "standard output"),
            (rustix::stdio::stderr(), "standard error"),
        ] {
            used.0.extend(regular(file).map(|id| (id, purpose)));
        }
        used
    }

    fn claim(&mut self, id: FileId, option: &'static str) -> io::Result<()> {
        if let Some((_, purpose)) = self.0.iter().find(|(used, _)| *used == id) {
            return Err(io::Error::other(format!("{purpose} is the same file")));
        }
        self.0.push((id, option));
        Ok(())
    }
}

/// Returns the identity of a regular file; nothing for a device or a pipe, which have no content to lose.
fn regular(file: impl AsFd) -> Option<FileId> {
    let status = rustix::fs::fstat(file).ok()?;
    let is_regular = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    is_regular.then_some((status.st_dev, status.st_ino))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::io::Write;
    use std::rc::Rc;

    use super::*;

    /// A record in memory, shared by its clones: one is written, another is read.
    #[derive(Clone, Default)]
    pub(crate) struct Memory(Rc<RefCell<Vec<u8>>>);

    impl Memory {
        /// A sink that writes here.
        pub(crate) fn sink(&self) -> Sink {
            Sink::memory(self.clone())
        }

        /// The record as text, with bytes that are not UTF-8 replaced.
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.borrow()).into_owned()
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn file(path: &Path) -> Sink {
        let mut used = UsedFiles::standard();
        Sink::file(path, "--hex-file", &Console::default(), &mut used).unwrap()
    }

    #[test]
    fn a_full_disk_makes_the_record_fail_and_nothing_else() {
        let mut sink = file(Path::new("/dev/full"));
        assert_eq!(sink.flush(), Ok(()));
        for _ in 0..2 {
            sink.buffer().extend_from_slice(b"record");
            assert_eq!(sink.flush(), Err(Failure::new(Exit::Failed, "")));
        }
    }

    #[test]
    fn a_record_goes_out_before_it_grows_large() {
        let file_on_disk = tempfile::NamedTempFile::new().unwrap();
        let mut sink = file(file_on_disk.path());
        sink.buffer().extend_from_slice(&vec![0; BUFFER_SIZE]);
        sink.end_event();
        assert_eq!(file_on_disk.path().metadata().unwrap().len(), 0);
        assert!(sink.buffer().is_empty());
        let len = file_on_disk.path().metadata().unwrap().len();
        assert_eq!(len, BUFFER_SIZE as u64);
    }
}
