//! Outputs of the taps: standard error, which they share with a progress bar, and records in files or in memory.
//! A record is complete, or known not to be: a failed write is reported at once and fails the run at its end.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget};
use rustix::fs::FileType;

use crate::escape::Escaped;
use crate::exit::{Exit, Failure, describe};
use crate::sys::inherited::BlockingWriter;

/// Bytes gathered before they are written.
const BUFFER_SIZE: usize = 128 << 10;

/// Standard error, shared by lines, dumps, events and the progress bar. The bar is hidden during each write.
#[derive(Clone, Default)]
pub struct Console {
    bar: Option<ProgressBar>,
}

impl Console {
    /// Standard error with a bar at the bottom, if it is a terminal. `total` is the position at the end, if that is known.
    pub fn with_bar(total: Option<u64>) -> Self {
        let target = ProgressDrawTarget::stderr();
        let is_seen = !target.is_hidden();
        Self {
            bar: is_seen.then(|| ProgressBar::with_draw_target(total, target)),
        }
    }

    /// Removes the bar for good, because drawing it would wipe out what is typed or received on the same terminal.
    pub fn remove_bar(&self) {
        if let Some(bar) = self.bar.as_ref().filter(|bar| !bar.is_finished()) {
            bar.finish_and_clear();
        }
    }

    /// Returns the bar, if there is one.
    pub(super) fn bar(&self) -> Option<&ProgressBar> {
        self.bar.as_ref()
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stderr = BlockingWriter(io::stderr());
        match &self.bar {
            Some(bar) => bar.suspend(|| stderr.write(bytes)),
            None => stderr.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A record that grows: an events file, a dump or a capture.
pub struct Sink {
    out: Box<dyn Write>,
    /// The name of the output in messages.
    name: String,
    /// True if each event is written at once, because others write to the same place.
    writes_each_event: bool,
    buffer: Vec<u8>,
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
        let emptied = options.open(path).and_then(|file| {
            if let Some(id) = regular(&file) {
                used.claim(id, option)?;
                file.set_len(0)?;
            }
            Ok(file)
        });
        match emptied {
            Ok(file) => Ok(Self::new(file, name, console)),
            Err(error) => Err(Failure::io(format!("cannot write to {name}"), &error)),
        }
    }

    /// Standard error.
    pub fn stderr(option: &str, console: &Console) -> Self {
        let name = format!("standard error ({option})");
        Self {
            writes_each_event: true,
            ..Self::new(console.clone(), name, console)
        }
    }

    /// A descriptor in the place of standard output. A reader that closes it ends the run without a message.
    pub fn stdout(out: impl Write + 'static, option: &str, console: &Console) -> Self {
        let name = format!("standard output ({option})");
        Self {
            abandoned: Exit::OutputClosed,
            ..Self::new(out, name, console)
        }
    }

    fn new(out: impl Write + 'static, name: String, console: &Console) -> Self {
        Self {
            out: Box::new(out),
            name,
            writes_each_event: false,
            buffer: Vec::with_capacity(BUFFER_SIZE),
            console: console.clone(),
            abandoned: Exit::Failed,
            broken: None,
        }
    }

    /// Returns the buffer, for at most some kilobytes more. A full buffer is written first.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.len() >= BUFFER_SIZE {
            self.write();
        }
        &mut self.buffer
    }

    /// Marks the end of an event.
    pub fn end_event(&mut self) {
        if self.writes_each_event {
            self.write();
        }
    }

    /// Writes the buffer.
    ///
    /// Errors: a write has failed, now or before, and a message has said so. [`Exit::OutputClosed`] ends the run.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.write();
        match self.broken {
            Some(exit) => Err(Failure::new(exit, "")),
            None => Ok(()),
        }
    }

    fn write(&mut self) {
        if self.broken.is_none()
            && let Err(error) = self.out.write_all(&self.buffer)
        {
            self.give_up(&error);
        }
        self.buffer.clear();
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
        let text = format!("tuplecat: {}\n", Escaped(text));
        // Standard error itself may be closed; the exit status still reports the failure.
        let _ = self.console.write_all(text.as_bytes());
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
    use std::rc::Rc;

    use super::*;

    /// A record in memory, shared by its clones: one is written, another is read.
    #[derive(Clone, Default)]
    pub(crate) struct Memory(Rc<RefCell<Vec<u8>>>);

    impl Memory {
        /// A sink that writes here.
        pub(crate) fn sink(&self) -> Sink {
            Sink::stdout(self.clone(), "memory", &Console::default())
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
