//! From the dialogue on the command line to the local end that holds it, and to what it changes in a run.
//! What is asked for in a dialogue must not be waited for in vain for ever: a side that speaks first gives up after some silence.

use std::time::Duration;

use super::session::Side;
use super::traffic::Traffic;
use crate::cli::{DialogueOptions, EndOptions, OnStdinEof};
use crate::exit::Exit;
use crate::local::expect::{HalfClose, PeerChoice, Script, StdinUse};

/// How long something expected from a server may keep it silent, where no option says so.
const SILENCE: Duration = Duration::from_secs(10);

/// The dialogue that the options describe, if they do.
pub(crate) fn script(
    dialogue: &DialogueOptions,
    ends: &EndOptions,
    traffic: &Traffic,
) -> Option<Script> {
    // What is only said takes the place of standard input.
    let is_needed = dialogue.expects() || dialogue.sends() && dialogue.stdin;
    if !is_needed {
        return None;
    }
    Some(Script {
        steps: dialogue.steps.0.clone(),
        input: input_use(dialogue),
        half_close: match ends.on_stdin_eof {
            Some(OnStdinEof::Shutdown) => HalfClose::AfterSending,
            Some(OnStdinEof::Keep | OnStdinEof::Quit) | None => HalfClose::AfterExpected,
        },
        // A connection shows that somebody is there. Without one, silence is no answer, not a wrong one.
        silence: if traffic.is_datagrams() {
            Exit::TimedOut
        } else {
            Exit::Unexpected
        },
        peer: PeerChoice::Any,
    })
}

/// What standard input is for.
pub(crate) fn input_use(dialogue: &DialogueOptions) -> StdinUse {
    match dialogue.stdin {
        true => StdinUse::AfterScript,
        false if dialogue.sends() => StdinUse::Unused,
        false => StdinUse::DuringScript,
    }
}

/// The limit on silence that a run has without being told.
pub(crate) fn patience(
    dialogue: &DialogueOptions,
    ends: &EndOptions,
    side: Side,
) -> Option<Duration> {
    let is_limited = ends.timeout.or(ends.idle_timeout).is_some();
    let waits = dialogue.expects() && !dialogue.stdin;
    (waits && !is_limited && side == Side::Client).then_some(SILENCE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_client_gives_up_after_some_silence_where_nothing_else_is_said() {
        for (words, limit) in [
            ("--send a --expect b", Some(SILENCE)),
            ("--expect b", Some(SILENCE)),
            ("--send a", None),
            ("--send a --expect b --stdin", None),
            ("--send a --expect b --timeout 60", None),
            ("--send a --expect b --idle-timeout 60", None),
        ] {
            let line = format!("tuplecat tcp-connect ::1 9 {words}");
            let cli = Cli::read(line.split_whitespace()).unwrap();
            let Command::TcpConnect(options) = cli.command else {
                panic!("not tcp-connect");
            };
            let (dialogue, ends) = (&options.common.dialogue, &options.common.ends);
            let found = patience(dialogue, ends, Side::Client);
            assert_eq!(found, limit, "{words}");
            assert_eq!(patience(dialogue, ends, Side::Server), None);
        }
    }
}
