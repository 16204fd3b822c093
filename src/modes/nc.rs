//! `nc`: runs what the arguments of OpenBSD's nc stand for, and exits as it does, with 0 or 1.
//! Each run is that of a mode with its own options; only its reports and its status are nc's.

use std::cell::Cell;
use std::ffi::OsString;
use std::rc::Rc;
use std::time::Instant;

use super::run_with;
use crate::cli::Cli;
use crate::cli::nc::{Action, Equivalent, Flags, Nc};
use crate::exit::{Exit, Failure, print, print_error};
use crate::run::Start;
use crate::tap::netcat::NetcatStyle;

pub(super) fn run(nc: &Nc, start: Instant) -> Result<(), Failure> {
    let (lines, flags) = match nc.action() {
        Ok(Action::Run(lines, flags)) => (lines, flags),
        Ok(Action::Translate(text)) => return print(&text),
        Ok(Action::Help(text)) => {
            print_error(&text);
            return Ok(());
        }
        Err(text) => return Err(refused(&text)),
    };
    let mut ended = Err(Failure::new(Exit::Failed, ""));
    for (index, line) in lines.iter().enumerate() {
        let opened = Rc::new(Cell::new(false));
        let mut words = line.words();
        if index + 1 < lines.len() {
            // The sandbox would keep the next run from connecting.
            words.insert(2, "--no-sandbox".into());
        }
        let style = NetcatStyle {
            target: target(line, &flags),
            is_verbose: flags.has('v'),
            is_numeric: flags.has('n'),
            is_proxied: flags.has('x'),
            probes_datagrams: flags.has('z') && flags.has('u'),
            opened: Rc::clone(&opened),
        };
        let result = run_words(words, Some(style), start);
        match result.or_else(|failure| verdict(failure.exit, &flags, opened.get())) {
            Err(failure) if failure.exit != Exit::Refused => return Err(failure),
            Err(_) => {}
            Ok(()) => ended = Ok(()),
        }
    }
    ended
}

/// Returns the host and the port to connect to, as they were written.
fn target(line: &Equivalent, flags: &Flags) -> Option<[String; 2]> {
    let target: Option<&[String; 2]> = line.endpoint().try_into().ok();
    target.filter(|_| !flags.has('l')).cloned()
}

/// Prints an error of the command line.
fn refused(text: &str) -> Failure {
    print_error(&format!("nc: {text}\n"));
    Failure::new(Exit::Failed, "")
}

fn run_words(
    words: Vec<OsString>,
    style: Option<NetcatStyle>,
    time: Instant,
) -> Result<(), Failure> {
    let cli = Cli::read(words).map_err(|error| {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default();
        refused(text.strip_prefix("error: ").unwrap_or(text))
    })?;
    run_with(&cli.command, Start { time, style })
}

/// Returns the end of a run as nc takes it: what happens to a connection after it was made is no failure.
///
/// Errors: [`Exit::Refused`] if the next port may be tried, otherwise the status to exit with.
fn verdict(exit: Exit, flags: &Flags, is_open: bool) -> Result<(), Failure> {
    let (is_datagram, is_probe) = (flags.has('u'), flags.has('z'));
    let exit = match exit {
        Exit::Reset => return Ok(()),
        Exit::Refused | Exit::TimedOut if is_probe && is_open => return Ok(()),
        Exit::TimedOut if is_datagram => return Ok(()),
        Exit::Refused if is_datagram && !is_probe && !flags.has('U') => return Ok(()),
        Exit::Refused | Exit::TimedOut if !flags.has('l') => Exit::Refused,
        Exit::Signal(number) => Exit::Signal(number),
        _ => Exit::Failed,
    };
    Err(Failure::new(exit, ""))
}
