//! The options of a server whose answers are known beforehand.
//! It takes the place of standard input and output, and stands in for a real server in a test.

use std::path::PathBuf;

use super::dialogue::DIALOGUE;
use super::values;

/// Answers that are known beforehand.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Local end")]
#[group(id = "responder", multiple = true)]
pub struct ResponderOptions {
    /// Answer every request with the bytes in FILE: over TCP a line is a request, over UDP a datagram
    #[arg(long, value_name = "FILE", conflicts_with_all = DIALOGUE, conflicts_with_all = OTHERS)]
    pub canned: Option<PathBuf>,
    /// Answer requests that contain REQUEST with ANSWER; repeat it for more, the first that fits counts
    ///
    /// In both \n, \r, \t, \0, \xHH and \\ stand for bytes; \x3d is an equals sign in REQUEST. An empty REQUEST fits all. What
    /// fits none gets the answer of --canned, or none.
    #[arg(
        long,
        value_name = "REQUEST=ANSWER",
        value_parser = pair,
        allow_hyphen_values = true,
        conflicts_with_all = DIALOGUE,
        conflicts_with_all = OTHERS
    )]
    pub respond: Vec<Pair>,
}

/// What has no effect beside a responder, or would have to take its place.
const OTHERS: [&str; 11] = [
    "program",
    "echo",
    "stdin",
    "input",
    "output",
    "crlf",
    "rate",
    "delay",
    "send_only",
    "recv_only",
    "on_stdin_eof",
];

/// A request, and the answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What a request has to contain.
    pub request: Vec<u8>,
    /// What it gets.
    pub answer: Vec<u8>,
}

fn pair(text: &str) -> Result<Pair, String> {
    let (request, answer) = text
        .split_once('=')
        .ok_or("expected REQUEST=ANSWER".to_owned())?;
    Ok(Pair {
        request: values::text(request)?.0,
        answer: values::text(answer)?.0,
    })
}

impl ResponderOptions {
    /// Whether there is anything to answer with.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.canned.is_some() || !self.respond.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_first_equals_sign_parts_request_and_answer() {
        for (text, request, answer) in [
            ("PING=PONG", &b"PING"[..], &b"PONG"[..]),
            (r"a\x3db=c=d\n", b"a=b", b"c=d\n"),
            ("=", b"", b""),
        ] {
            let expected = Pair {
                request: request.to_vec(),
                answer: answer.to_vec(),
            };
            assert_eq!(pair(text), Ok(expected), "{text}");
        }
        for text in ["PING", "", r"\q=x", r"x=\q"] {
            assert!(pair(text).is_err(), "{text}");
        }
    }
}
