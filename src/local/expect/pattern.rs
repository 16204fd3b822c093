//! What is expected: bytes, or a regular expression over bytes.
//! Both become an automaton that is fed piece by piece, so nothing is kept, and how a stream is cut into pieces changes nothing.

use std::sync::Arc;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::hybrid::{BuildError, LazyStateID};
use regex_automata::nfa::thompson;
use regex_automata::util::{start, syntax};

/// Bytes that are to be found.
#[derive(Clone, Debug)]
pub struct Pattern {
    form: PatternText,
    automaton: Arc<DFA>,
}

/// How a [`Pattern`] was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternText {
    /// These bytes, one after the other.
    Bytes(Vec<u8>),
    /// A regular expression.
    Regex(String),
}

impl Pattern {
    /// Finds these bytes.
    ///
    /// Errors: a clause that says what is wrong; also below.
    pub fn bytes(bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("nothing is no bytes to wait for".to_owned());
        }
        let literal: Vec<String> = bytes.iter().map(|byte| format!(r"\x{byte:02x}")).collect();
        Ok(Self {
            automaton: compile(&literal.concat())?,
            form: PatternText::Bytes(bytes),
        })
    }

    /// Finds what a regular expression describes. It sees bytes: `\w` and the like mean ASCII, and `.` is any byte but a newline.
    ///
    /// Errors: a clause that says what is wrong.
    pub fn regex(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("nothing would match everything; '^$' is an empty datagram".to_owned());
        }
        Ok(Self {
            automaton: compile(text)?,
            form: PatternText::Regex(text.to_owned()),
        })
    }

    /// How it was written.
    #[must_use]
    pub fn form(&self) -> &PatternText {
        &self.form
    }

    /// Begins to search.
    #[must_use]
    pub(super) fn search(&self) -> Search {
        let mut cache = self.automaton.create_cache();
        let beginning = start::Config::new();
        let state = self.automaton.start_state(&mut cache, &beginning).ok();
        Search { cache, state }
    }
}

/// Limits of what a regular expression may cost, in bytes: those of the automaton, before and while it is used.
const LARGEST: usize = 1 << 20;

fn compile(text: &str) -> Result<Arc<DFA>, String> {
    let is_utf8 = false;
    let built = DFA::builder()
        .configure(DFA::config().cache_capacity(LARGEST))
        .syntax(syntax::Config::new().unicode(false).utf8(is_utf8))
        .thompson(
            thompson::Config::new()
                .utf8(is_utf8)
                .nfa_size_limit(Some(LARGEST)),
        )
        .build(text);
    built.map(Arc::new).map_err(|error| describe(&error))
}

/// The innermost error, which tells most, on one line.
fn describe(error: &BuildError) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// How far a search for a [`Pattern`] has come.
pub(super) struct Search {
    cache: Cache,
    /// `None` if nothing can be found any more.
    state: Option<LazyStateID>,
}

/// What came of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is found, and the next search begins after so many bytes of the piece.
    EndsAt(usize),
    /// It may be found yet.
    Pending,
    /// It cannot be found, whatever comes.
    Impossible,
}

impl Search {
    /// Goes on with the next piece. It is found as early as possible: where `[0-9]+` begins to match, it matches.
    pub(super) fn feed(&mut self, pattern: &Pattern, bytes: &[u8]) -> Progress {
        let Self { cache, state } = self;
        let automaton = &pattern.automaton;
        for (at, &byte) in bytes.iter().enumerate() {
            *state = state.and_then(|state| automaton.next_state(cache, state, byte).ok());
            match *state {
                // The automaton knows of a match when it has seen the byte after it.
                Some(state) if state.is_match() => return Progress::EndsAt(at),
                Some(state) if !state.is_dead() && !state.is_quit() => {}
                _ => return Progress::Impossible,
            }
        }
        let Some(state) = *state else {
            return Progress::Impossible;
        };
        match automaton.next_eoi_state(cache, state) {
            Ok(state) if state.is_match() => Progress::EndsAt(bytes.len()),
            _ => Progress::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    fn in_pieces(pattern: &Pattern, pieces: &[&str]) -> Vec<Progress> {
        let mut search = pattern.search();
        let pieces = pieces.iter();
        pieces
            .map(|piece| search.feed(pattern, piece.as_bytes()))
            .collect()
    }

    #[test]
    fn bytes_are_found_across_borders_and_at_once() {
        let pong = Pattern::bytes(b"+PONG".to_vec()).unwrap();
        assert_eq!(in_pieces(&pong, &["+PONG"]), [Progress::EndsAt(5)]);
        assert_eq!(in_pieces(&pong, &["+P+PONGO"]), [Progress::EndsAt(7)]);
        assert_eq!(
            in_pieces(&pong, &["+", "PO", "", "NG\r\n"]),
            [
                Progress::Pending,
                Progress::Pending,
                Progress::Pending,
                Progress::EndsAt(2)
            ]
        );
        let nul = Pattern::bytes(vec![0, 0xff]).unwrap();
        assert_eq!(
            nul.search().feed(&nul, &[0, 0, 0xff, 1]),
            Progress::EndsAt(3)
        );
        assert!(Pattern::bytes(Vec::new()).is_err());
    }

    #[test]
    fn an_expression_sees_bytes() {
        for (text, piece, found) in [
            ("^220 ", "220 host", Progress::EndsAt(4)),
            ("^220 ", "221", Progress::Impossible),
            ("2[0-9]+ OK", "HTTP/1.1 204 OK", Progress::EndsAt(15)),
            ("(?i)ok$", "oK", Progress::EndsAt(2)),
            ("a.b", "a\u{fc}b", Progress::Pending),
            ("a.+b", "a\u{fc}b", Progress::EndsAt(4)),
            (r"\xff\x00", "x", Progress::Pending),
            (r"(?m)^OK$", "NO\nOK\n", Progress::EndsAt(5)),
        ] {
            let pattern = Pattern::regex(text).unwrap();
            assert_eq!(in_pieces(&pattern, &[piece]), [found], "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_expression_is_one_clause() {
        for text in ["(", "[z-a]", "a{2,1}", r"\p{Greek}", "x{9999}{9999}"] {
            let error = Pattern::regex(text).map(|_| text).unwrap_err();
            assert!(
                !error.is_empty() && !error.contains('\n'),
                "{text}: {error}"
            );
        }
        assert_eq!(
            Pattern::regex("(").map(|_| ()),
            Err("unclosed group".to_owned())
        );
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(text in "[ab]{0,12}", wanted in "[ab]{1,4}", cut in 0usize..12) {
            let pattern = Pattern::bytes(wanted.clone().into_bytes()).unwrap();
            let cut = cut.min(text.len());
            let mut search = pattern.search();
            let first = search.feed(&pattern, &text.as_bytes()[..cut]);
            let found = match first {
                Progress::Pending => match search.feed(&pattern, &text.as_bytes()[cut..]) {
                    Progress::EndsAt(end) => Some(cut + end),
                    _ => None,
                },
                Progress::EndsAt(end) => Some(end),
                Progress::Impossible => None,
            };
            prop_assert_eq!(found, text.find(&wanted).map(|at| at + wanted.len()));
        }
    }
}
