//! Where a tap writes its record: a file, or one of the standard descriptors.
//! What cannot be written is told at once, and makes the run fail in the end: a record is whole, or known not to be.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::FileType;

use super::Console;
use crate::exit::{Exit, Failure, describe};
use crate::plain::Plain;

/// Bytes gathered before they are written.
const FILL: usize = 128 << 10;

/// A record that grows.
pub struct Sink {
    out: Box<dyn Write>,
    /// What it is called in messages.
    name: String,
    pace: Pace,
    buffer: Vec<u8>,
    console: Console,
    /// What it means that its reader has gone.
    abandoned: Exit,
    /// What has become of it, if nothing more can be written.
    broken: Option<Exit>,
}

/// When a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// After each event: others write to the same place.
    EachEvent,
    /// When there is enough of it, or nothing else to do.
    AtLeisure,
}

impl Sink {
    /// A file that is made or emptied; `option` is what asked for it.
    ///
    /// Errors: it cannot be opened for writing, or is in use.
    pub fn file(
        path: &Path,
        option: &'static str,
        console: &Console,
        used: &mut Used,
    ) -> Result<Self, Failure> {
        let name = format!("'{}' ({option})", path.display());
        // It is emptied when nothing else can be in it.
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
            Ok(file) => Ok(Self::new(Box::new(file), name, Pace::AtLeisure, console)),
            Err(error) => Err(Failure::io(format!("cannot write to {name}"), &error)),
        }
    }

    /// Standard error.
    #[must_use]
    pub fn stderr(option: &str, console: &Console) -> Self {
        let name = format!("standard error ({option})");
        Self::new(Box::new(console.clone()), name, Pace::EachEvent, console)
    }

    /// A descriptor that stands for standard output. That its reader goes is not told: it is the end of the run.
    #[must_use]
    pub fn stdout(out: impl Write + 'static, option: &str, console: &Console) -> Self {
        let name = format!("standard output ({option})");
        Self {
            abandoned: Exit::OutputClosed,
            ..Self::new(Box::new(out), name, Pace::AtLeisure, console)
        }
    }

    fn new(out: Box<dyn Write>, name: String, pace: Pace, console: &Console) -> Self {
        Self {
            out,
            name,
            pace,
            buffer: Vec::with_capacity(FILL),
            console: console.clone(),
            abandoned: Exit::Failed,
            broken: None,
        }
    }

    /// Where to put the next piece of the record, some kilobytes at the most. What was put there before may go out first.
    pub fn room(&mut self) -> &mut Vec<u8> {
        if self.buffer.len() >= FILL {
            self.write();
        }
        &mut self.buffer
    }

    /// Says that an event is recorded.
    pub fn settle(&mut self) {
        if self.pace == Pace::EachEvent {
            self.write();
        }
    }

    /// Writes what is held back.
    ///
    /// Errors: something could not be written, now or before; the user has been told. [`Exit::OutputClosed`] ends the run.
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
        if self.abandoned == Exit::OutputClosed && error.kind() == ErrorKind::BrokenPipe {
            self.broken = Some(Exit::OutputClosed);
            return;
        }
        self.broken = Some(Exit::Failed);
        let (name, reason) = (&self.name, describe(error));
        let text = format!("cannot write to {name}: {reason}; nothing more goes there");
        let text = format!("tuplecat: {}\n", Plain(text));
        // It may be standard error itself that is gone; the status says it then.
        let _ = self.console.write_all(text.as_bytes());
    }
}

/// The regular files of a run, with what they are for. A record that went to one of them would destroy what is in it, such as
/// the dump that is being sent again.
pub struct Used(Vec<(FileId, &'static str)>);

/// Device and inode.
type FileId = (u64, u64);

impl Used {
    /// Those that the standard descriptors lead to.
    #[must_use]
    pub fn standard() -> Self {
        let mut used = Self(Vec::new());
        used.note(rustix::stdio::stdin(), "standard input");
        used.note(rustix::stdio::stdout(), "standard output");
        used.note(rustix::stdio::stderr(), "standard error");
        used
    }

    fn note(&mut self, file: impl AsFd, purpose: &'static str) {
        self.0.extend(regular(file).map(|id| (id, purpose)));
    }

    fn claim(&mut self, id: FileId, option: &'static str) -> io::Result<()> {
        if let Some((_, purpose)) = self.0.iter().find(|(used, _)| *used == id) {
            return Err(io::Error::other(format!("{purpose} is the same file")));
        }
        self.0.push((id, option));
        Ok(())
    }
}

/// Which file it is; nothing for what has no content to lose, such as a device or a pipe.
fn regular(file: impl AsFd) -> Option<FileId> {
    let status = rustix::fs::fstat(file).ok()?;
    let is_regular = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    is_regular.then_some((status.st_dev, status.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_makes_the_record_fail_and_nothing_else() {
        let full = Path::new("/dev/full");
        let mut sink = Sink::file(
            full,
            "--hex-file",
            &Console::default(),
            &mut Used::standard(),
        )
        .unwrap();
        assert_eq!(sink.flush(), Ok(()));
        for _ in 0..2 {
            sink.room().extend_from_slice(b"record");
            assert_eq!(sink.flush(), Err(Failure::new(Exit::Failed, "")));
        }
    }

    #[test]
    fn a_record_goes_out_before_it_grows_large() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut sink = Sink::file(
            file.path(),
            "--hex-file",
            &Console::default(),
            &mut Used::standard(),
        )
        .unwrap();
        sink.room().extend_from_slice(&vec![0; FILL]);
        sink.settle();
        assert_eq!(file.path().metadata().unwrap().len(), 0);
        assert!(sink.room().is_empty());
        assert_eq!(file.path().metadata().unwrap().len(), FILL as u64);
    }
}
