//! Observers of a run, made from the options before its first socket and kept until after its end.
//! Every mode runs inside [`observe`], however it fails: no event is missed, and the last one says how the run ended.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::time::Instant;

use rustix::fs::FileType;

use super::ready::Ready;
use crate::cli::{CommonOptions, DumpOptions, Place, Report, ReportOptions};
use crate::exit::{Exit, Failure};
use crate::sys::inherited::BlockingWriter;
use crate::tap::explain::Explain;
use crate::tap::hexdump::{Form, HexDump};
use crate::tap::json::{Events, Payload};
use crate::tap::lines::{Detail, Lines, Palette};
use crate::tap::pcap::Pcap;
use crate::tap::progress::Progress;
use crate::tap::stats::Stats;
use crate::tap::{Console, Event, Sink, Tap, Taps, UsedFiles};

/// Observers of a run, and what else is there before it begins.
pub(crate) struct Observers<'a> {
    /// Start of the run: when the command line was read.
    pub(super) start: Instant,
    /// Scripts to notify of the socket.
    pub(super) ready: Ready,
    /// Observers that see every event.
    pub(super) taps: &'a mut Taps,
    /// Standard error, for lines.
    pub(super) console: Console,
}

/// Runs `mode` with its options, under the observers that those of every mode ask for.
pub(crate) fn observe<T>(
    options: &T,
    common: &CommonOptions,
    start: Instant,
    mode: impl FnOnce(&T, Observers<'_>) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let ready = Ready::new(&common.report)?;
    let console = if common.report.progress {
        Console::with_bar(stdin_size())
    } else {
        Console::default()
    };
    let detail = detail(&common.report)?;
    let mut taps = taps(common, &console)?;
    let observers = Observers {
        start,
        ready,
        taps: &mut taps,
        console,
    };
    let ended = mode(options, observers);
    let mut ended = ended.map_err(|error| Failure::of(&error));
    if let Err(failure) = &ended {
        taps.emit(&Event::Failed(failure));
    }
    // A run is done if everything is recorded as well.
    let recorded = taps.flush();
    if let (Err(failure), None) = (&mut ended, detail) {
        failure.message.clear();
    }
    let ended = ended.and(recorded);
    taps.emit(&Event::Ended {
        exit: ended
            .as_ref()
            .map_or_else(|failure| failure.exit, |()| Exit::Done),
        lasted: start.elapsed(),
    });
    let recorded = taps.flush();
    ended.and(recorded)
}

/// Returns lines on standard error, unless the options forbid them.
pub(crate) fn lines(
    report: &ReportOptions,
    console: &Console,
) -> Result<Option<Lines<Console>>, Failure> {
    let detail = detail(report)?;
    Ok(detail.map(|detail| Lines::new(console.clone(), detail, palette(report.color))))
}

fn taps(common: &CommonOptions, console: &Console) -> Result<Taps, Failure> {
    let mut builder = Builder {
        taps: Taps::default(),
        console,
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
    Ok(builder.taps)
}

struct Builder<'a> {
    taps: Taps,
    console: &'a Console,
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
            self.add(Events::new(sink, payload));
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
            Place::File(path) => Sink::file(path, option, self.console, &mut self.used),
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
    let owned = stdout.try_clone_to_owned();
    let owned = owned.map_err(|error| Failure::io(act, &error))?;
    let writer = BlockingWriter(File::from(owned));
    Ok(Sink::stdout(writer, option, console))
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
