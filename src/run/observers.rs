//! Watching a run: the observers that the options ask for, from before its first socket until after its end.
//! Whatever a mode does, and however it fails, passes through here: no event is missed, and every run has its last word.

use std::fs::File;
use std::io::IsTerminal;
use std::time::Instant;

use rustix::fs::FileType;

use super::ready::Ready;
use crate::cli::{CommonOptions, DumpOptions, Place, ReportOptions};
use crate::exit::{Exit, Failure};
use crate::sys::inherited::BlockingWriter;
use crate::tap::explain::Explain;
use crate::tap::hexdump::{Form, HexDump};
use crate::tap::json::{Events, Payload};
use crate::tap::lines::{Detail, Lines, Palette};
use crate::tap::pcap::Pcap;
use crate::tap::progress::Progress;
use crate::tap::stats::Stats;
use crate::tap::{Console, Event, Sink, Taps, UsedFiles};

/// What a mode is given beside its options.
pub(crate) struct Watched<'a> {
    /// When the command line was read.
    pub(crate) start: Instant,
    /// Where a script wants to be told of the socket.
    pub(crate) ready: Ready,
    /// The observers.
    pub(crate) taps: &'a mut Taps,
    /// Where lines go.
    pub(crate) console: Console,
    /// What standard output is for.
    pub(crate) stdout: StdoutUse,
}

/// What standard output is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StdoutUse {
    /// What is received.
    Payload,
    /// A record, for what is received is in it.
    Record,
}

/// Runs `mode` under the eyes of the observers, and says how it ended.
pub(crate) fn watch(
    common: &CommonOptions,
    start: Instant,
    mode: impl FnOnce(Watched<'_>) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let CommonOptions { report, dump, .. } = common;
    let ready = Ready::new(report)?;
    let console = if report.progress {
        Console::with_bar(input_size())
    } else {
        Console::default()
    };
    let mut taps = taps(report, dump, &console)?;
    let watched = Watched {
        start,
        ready,
        taps: &mut taps,
        console,
        stdout: match dump.pcap {
            Some(Place::Standard) => StdoutUse::Record,
            _ => StdoutUse::Payload,
        },
    };
    let ended = mode(watched).map_err(|error| Failure::of(&error));
    if let Err(failure) = &ended {
        taps.emit(&Event::Failed(failure));
    }
    let ended = settle(ended, &mut taps);
    let exit = match &ended {
        Ok(()) => Exit::Done,
        Err(failure) => failure.exit,
    };
    let lasted = start.elapsed();
    taps.emit(&Event::Ended { exit, lasted });
    settle(ended, &mut taps)
}

/// A run is done if everything is recorded as well.
fn settle(ended: Result<(), Failure>, taps: &mut Taps) -> Result<(), Failure> {
    let recorded = taps.flush();
    ended.and(recorded)
}

fn taps(report: &ReportOptions, dump: &DumpOptions, console: &Console) -> Result<Taps, Failure> {
    let mut taps = Taps::default();
    let palette = palette(report.color);
    let mut used = UsedFiles::standard();
    add_reports(&mut taps, report, (console, palette), &mut used)?;
    add_dumps(&mut taps, dump, (console, palette), &mut used)?;
    if report.stats {
        taps.add(Box::new(Stats::new(console.clone(), palette)));
    }
    if let Some(progress) = Progress::new(console) {
        taps.add(Box::new(progress));
    }
    Ok(taps)
}

/// Lines on standard error, unless they are not wanted.
pub(crate) fn lines(report: &ReportOptions, console: &Console) -> Option<Lines<Console>> {
    let lines = || Lines::new(console.clone(), detail(report), palette(report.color));
    (!report.quiet).then(lines)
}

fn detail(report: &ReportOptions) -> Detail {
    if report.verbose > 0 {
        Detail::Chunks
    } else {
        Detail::Events
    }
}

/// What is told of the run, for people and for programs.
fn add_reports(
    taps: &mut Taps,
    report: &ReportOptions,
    (console, palette): (&Console, Palette),
    used: &mut UsedFiles,
) -> Result<(), Failure> {
    if report.explain {
        let explain = Explain::new(console.clone(), detail(report), palette);
        taps.add(Box::new(explain));
    }
    if let Some(lines) = lines(report, console) {
        taps.add(Box::new(lines));
    }
    if let Some(place) = &report.events {
        let payload = if report.events_payload {
            Payload::Shown
        } else {
            Payload::Counted
        };
        let sink = sink(place, "--events", console, used)?;
        taps.add(Box::new(Events::new(sink, payload)));
    }
    Ok(())
}

/// What is shown or kept of the traffic.
fn add_dumps(
    taps: &mut Taps,
    dump: &DumpOptions,
    (console, palette): (&Console, Palette),
    used: &mut UsedFiles,
) -> Result<(), Failure> {
    let form = |palette| Form {
        width: dump.hex_width,
        limit: dump.hex_limit,
        palette,
    };
    if dump.hex {
        let sink = Sink::stderr("--hex", console);
        taps.add(Box::new(HexDump::new(sink, form(palette))));
    }
    if let Some(place) = &dump.hex_file {
        let palette = match place {
            Place::Standard => palette,
            Place::File(_) => Palette::Plain,
        };
        let sink = sink(place, "--hex-file", console, used)?;
        taps.add(Box::new(HexDump::new(sink, form(palette))));
    }
    if let Some(place) = &dump.pcap {
        let sink = match place {
            Place::Standard => standard_output("--pcap", console)?,
            Place::File(path) => Sink::file(path, "--pcap", console, used)?,
        };
        taps.add(Box::new(Pcap::new(sink)));
    }
    Ok(())
}

/// The bytes that standard input will give, where it is a regular file.
fn input_size() -> Option<u64> {
    let stdin = rustix::stdio::stdin();
    let status = rustix::fs::fstat(stdin).ok()?;
    let is_regular = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    let size = u64::try_from(status.st_size).ok().filter(|_| is_regular)?;
    size.checked_sub(rustix::fs::tell(stdin).ok()?)
}

fn sink(
    place: &Place,
    option: &'static str,
    console: &Console,
    used: &mut UsedFiles,
) -> Result<Sink, Failure> {
    match place {
        Place::Standard => Ok(Sink::stderr(option, console)),
        Place::File(path) => Sink::file(path, option, console, used),
    }
}

/// A record in the place of what is received. It is for a program to read, not for a person.
fn standard_output(option: &str, console: &Console) -> Result<Sink, Failure> {
    let act = format!("cannot write to standard output ({option})");
    let stdout = rustix::stdio::stdout();
    if stdout.is_terminal() {
        let text = format!("{act}: it is a terminal, and this is binary");
        return Err(Failure::new(Exit::Failed, text));
    }
    let owned = stdout.try_clone_to_owned();
    let owned = owned.map_err(|error| Failure::io(act, &error))?;
    Ok(Sink::stdout(
        BlockingWriter(File::from(owned)),
        option,
        console,
    ))
}

/// Colours by the option, `NO_COLOR` and `CLICOLOR_FORCE`, or else where a person looks.
fn palette(choice: clap::ColorChoice) -> Palette {
    let wanted = match choice {
        clap::ColorChoice::Always => true,
        clap::ColorChoice::Never => false,
        clap::ColorChoice::Auto => {
            let stderr = std::io::stderr();
            let choice = anstream::AutoStream::choice(&stderr);
            choice != anstream::ColorChoice::Never
                && (stderr.is_terminal() || choice != anstream::ColorChoice::Auto)
        }
    };
    if wanted {
        Palette::Colored
    } else {
        Palette::Plain
    }
}
