//! Observers of a run, made from the options before its first socket and kept until after its end.
//! Every mode runs inside [`observe`], however it fails: no event is missed, and the last one says how the run ended.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, OFlags};

use super::background::wait_for;
use super::ready::Ready;
use crate::cli::{CommonOptions, DumpOptions, Place, Report, ReportOptions};
use crate::exit::{Exit, Failure};
use crate::sys::signals::{Request, Signals};
use crate::sys::wait::{Interest, Wakeup, wait};
use crate::tap::explain::Explain;
use crate::tap::hexdump::{Form, HexDump};
use crate::tap::json::{Events, Payload};
use crate::tap::lines::{Detail, Lines, Palette};
use crate::tap::netcat::{Netcat, NetcatStyle};
use crate::tap::pcap::Pcap;
use crate::tap::progress::Progress;
use crate::tap::stats::Stats;
use crate::tap::{Console, Content, Event, Sink, Tap, Taps, UsedFiles};

/// Time for which the rest of the reports waits for a reader that takes nothing.
const READER_TIME: Duration = Duration::from_millis(500);

/// Pause between two attempts to open a FIFO that has no reader.
const READER_PAUSE: Duration = Duration::from_millis(20);

/// Observers of a run, and what else is there before it begins.
pub(crate) struct Observers<'a> {
    /// Start of the run: when the command line was read.
    pub(super) start: Instant,
    /// Signals, caught from here on.
    pub(super) signals: &'a Signals,
    /// Scripts to notify of the socket.
    pub(super) ready: Ready,
    /// Observers that see every event.
    pub(super) taps: &'a mut Taps,
    /// Standard error, for lines.
    pub(super) console: Console,
}

/// Begin of a run.
pub(crate) struct Start {
    /// Time at which the command line was read.
    pub(crate) time: Instant,
    /// Style of reports beside those of the options.
    pub(crate) style: Option<NetcatStyle>,
}

/// Runs `mode` with its options, under the observers that those of every mode ask for.
pub(crate) fn observe<T>(
    options: &T,
    common: &CommonOptions,
    Start { time: start, style }: Start,
    mode: impl FnOnce(&T, Observers<'_>) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let ready = Ready::new(&common.report)?;
    let signals = Signals::new();
    let signals = &signals.map_err(|error| Failure::io("cannot catch signals", &error))?;
    let mut console = Console::stderr();
    if common.report.progress {
        console = console.with_bar(stdin_size());
    }
    let detail = detail(&common.report)?;
    let deadline = common.ends.timeout.map(|limit| start + limit);
    let mut taps = taps(common, &console, (signals, deadline))?;
    if let Some(style) = style {
        taps.add(Box::new(Netcat::new(console.clone(), style)));
        taps.add(Box::new(console.clone()));
    }
    let observers = Observers {
        start,
        signals,
        ready,
        taps: &mut taps,
        console: console.clone(),
    };
    let ended = mode(options, observers);
    let ended = ended.map_err(|error| Failure::of(&error));
    if let Err(failure) = &ended {
        taps.emit(&Event::Failed(failure));
        if !failure.message.is_empty() && detail.is_some() {
            console.begin_line();
        }
    }
    // A run is done if everything is recorded as well.
    let recorded = write_rest(&mut taps, signals, deadline, &ended);
    let mut ended = match (ended, recorded) {
        (Err(ended), Err(cut)) if ended.message.is_empty() => {
            Err(Failure::new(ended.exit, cut.message))
        }
        (ended, recorded) => ended.and(recorded),
    };
    if let (Err(failure), None) = (&mut ended, detail) {
        failure.message.clear();
    }
    taps.emit(&Event::Ended {
        exit: ended
            .as_ref()
            .map_or_else(|failure| failure.exit, |()| Exit::Done),
        lasted: start.elapsed(),
    });
    let recorded = write_rest(&mut taps, signals, deadline, &ended);
    ended.and(recorded)
}

/// Writes what the observers have no room for yet.
///
/// A record is complete unless a signal or a limit ends the run. Reports are given up when nobody reads them.
fn write_rest(
    taps: &mut Taps,
    signals: &Signals,
    deadline: Option<Instant>,
    ended: &Result<(), Failure>,
) -> Result<(), Failure> {
    let text = "a record is incomplete: nobody reads it";
    let cut = |exit| Err(Failure::new(exit, text));
    loop {
        let flushed = taps.flush();
        let Some(backlog) = taps.backlog() else {
            return flushed;
        };
        let is_record = backlog.content > Content::Reports;
        let grace = Some(Instant::now() + READER_TIME);
        let until = match ended {
            Ok(()) if is_record => deadline.max(deadline.and(grace)),
            _ => grace,
        };
        match wait(&[(backlog.fd, Interest::WRITE)], Some(signals), until) {
            Ok(Wakeup::Ready(_) | Wakeup::Signal(Request::Show)) => {}
            Ok(Wakeup::Signal(Request::End(number))) if is_record => {
                return cut(Exit::Signal(number));
            }
            Ok(Wakeup::TimedOut) if is_record => return cut(Exit::TimedOut),
            Ok(_) => return flushed,
            Err(error) => return Err(Failure::io("cannot wait", &error)),
        }
    }
}

/// Returns lines on standard error, unless the options forbid them.
pub(crate) fn lines(
    report: &ReportOptions,
    console: &Console,
) -> Result<Option<Lines<Console>>, Failure> {
    let detail = detail(report)?;
    Ok(detail.map(|detail| Lines::new(console.clone(), detail, palette(report.color))))
}

fn taps(
    common: &CommonOptions,
    console: &Console,
    (signals, deadline): (&Signals, Option<Instant>),
) -> Result<Taps, Failure> {
    let mut builder = Builder {
        taps: Taps::default(),
        console,
        signals,
        deadline,
        palette: palette(common.report.color),
        used: UsedFiles::standard(),
    };
    builder.add_reports(&common.report)?;
    builder.add_dumps(&common.dump)?;
    if common.report.stats {
        builder.add(Stats::new(console.clone(), builder.palette));
    }
    if let Some(progress) = Progress::new(console) {
        builder.add(progress);
    }
    if !builder.taps.is_empty() {
        builder.add(console.clone());
    }
    Ok(builder.taps)
}

struct Builder<'a> {
    taps: Taps,
    console: &'a Console,
    signals: &'a Signals,
    deadline: Option<Instant>,
    palette: Palette,
    used: UsedFiles,
}

impl Builder<'_> {
    fn add(&mut self, tap: impl Tap + 'static) {
        self.taps.add(Box::new(tap));
    }

    /// Adds the reports of events, for people and for programs.
    fn add_reports(&mut self, report: &ReportOptions) -> Result<(), Failure> {
        let console = self.console;
        if report.explain {
            let detail = detail(report)?.unwrap_or(Detail::Errors);
            self.add(Explain::new(console.clone(), detail, self.palette));
        }
        // Warnings are events too, and they would make what stands beside them no JSON.
        let is_shared = report.events == Some(Place::Standard);
        if let Some(lines) = lines(report, console)?
            && (lines.reports(Detail::Events) || !is_shared)
        {
            self.add(lines);
        }
        if let Some(place) = &report.events {
            let payload = if report.events_payload {
                Payload::Shown
            } else {
                Payload::Counted
            };
            let sink = self.sink(place, "--events")?;
            self.add(Events::new(sink.lossy(), payload));
        }
        Ok(())
    }

    /// Adds the dumps and captures of the traffic.
    fn add_dumps(&mut self, dump: &DumpOptions) -> Result<(), Failure> {
        let form = |palette| Form {
            width: dump.hex_width,
            limit: dump.hex_limit,
            palette,
        };
        if dump.hex {
            let sink = Sink::stderr("--hex", self.console);
            self.add(HexDump::new(sink, form(self.palette)));
        }
        if let Some(place) = &dump.hex_file {
            let palette = match place {
                Place::Standard => self.palette,
                Place::File(_) => Palette::Plain,
            };
            let sink = self.sink(place, "--hex-file")?;
            self.add(HexDump::new(sink, form(palette)));
        }
        if let Some(place) = &dump.pcap {
            let sink = match place {
                Place::Standard => stdout("--pcap", self.console)?,
                Place::File(_) => self.sink(place, "--pcap")?,
            };
            self.add(Pcap::new(sink));
        }
        Ok(())
    }

    fn sink(&mut self, place: &Place, option: &'static str) -> Result<Sink, Failure> {
        match place {
            Place::Standard => Ok(Sink::stderr(option, self.console)),
            Place::File(path) => {
                let _reader = self.wait_for_reader(path, option)?;
                Sink::file(path, option, self.console, &mut self.used)
            }
        }
    }

    /// Waits until a FIFO has a reader, within the limit on the run, and holds it open.
    fn wait_for_reader(&self, path: &Path, option: &str) -> Result<Option<File>, Failure> {
        let is_fifo = path
            .metadata()
            .is_ok_and(|there| there.file_type().is_fifo());
        let mut options = File::options();
        options
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        if !is_fifo {
            return Ok(None);
        }
        loop {
            match options.open(path) {
                // Without a reader (fifo(7)).
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
                opened => return Ok(opened.ok()),
            }
            let next = Instant::now() + READER_PAUSE;
            if self.deadline.is_some_and(|deadline| deadline < next) {
                let path = path.display();
                let text = format!("'{path}' ({option}) had no reader in time (--timeout)");
                return Err(Failure::new(Exit::TimedOut, text));
            }
            wait_for(None, self.signals, Some(next))?;
        }
    }
}

/// Returns the detail of the lines on standard error; nothing if there are none, and no error line either.
fn detail(report: &ReportOptions) -> Result<Option<Detail>, Failure> {
    Ok(match report.level()? {
        Report::Auto if io::stderr().is_terminal() => Some(Detail::Events),
        Report::Auto | Report::Errors => Some(Detail::Errors),
        Report::None => None,
        Report::Events => Some(Detail::Events),
        Report::Data => Some(Detail::Chunks),
    })
}

/// Returns the number of bytes that standard input will give, if it is a regular file.
fn stdin_size() -> Option<u64> {
    let stdin = rustix::stdio::stdin();
    let status = rustix::fs::fstat(stdin).ok()?;
    let is_regular = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    let size = u64::try_from(status.st_size).ok().filter(|_| is_regular)?;
    size.checked_sub(rustix::fs::tell(stdin).ok()?)
}

/// Returns standard output, for a record in the place of received bytes: a program reads it, not a person.
fn stdout(option: &str, console: &Console) -> Result<Sink, Failure> {
    let act = format!("cannot write to standard output ({option})");
    let stdout = rustix::stdio::stdout();
    if stdout.is_terminal() {
        let text = format!("{act}: it is a terminal, and this is binary");
        return Err(Failure::new(Exit::Failed, text));
    }
    Ok(Sink::stdout(option, console))
}

/// Returns colors as the option, `NO_COLOR` and `CLICOLOR_FORCE` say; otherwise, if standard error is a terminal.
fn palette(choice: clap::ColorChoice) -> Palette {
    let is_colored = match choice {
        clap::ColorChoice::Always => true,
        clap::ColorChoice::Never => false,
        clap::ColorChoice::Auto => {
            anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
        }
    };
    if is_colored {
        Palette::Colored
    } else {
        Palette::Plain
    }
}
