//! Patterns to expect: bytes, or a regular expression over bytes.
//! Both become an automaton that is fed chunk by chunk, so no data is kept, and the cuts in a stream make no difference.

use std::sync::Arc;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::hybrid::{BuildError, LazyStateID};
use regex_automata::nfa::thompson;
use regex_automata::util::{start, syntax};

/// Most bytes of the automaton of a regular expression, before and during its use.
const AUTOMATON_SIZE: usize = 1 << 20;

/// Pattern of bytes to find.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The pattern as it is written.
    pub text: PatternText,
    automaton: Arc<DFA>,
}

/// Written form of a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternText {
    /// These bytes, one after the other.
    Bytes(Vec<u8>),
    /// A regular expression.
    Regex(String),
}

impl Pattern {
    /// Creates a pattern of these bytes.
    ///
    /// Errors: one clause for the user; the same below.
    pub fn bytes(bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("empty pattern".to_owned());
        }
        let literal: Vec<String> = bytes.iter().map(|byte| format!(r"\x{byte:02x}")).collect();
        Ok(Self {
            automaton: compile(&literal.concat())?,
            text: PatternText::Bytes(bytes),
        })
    }

    /// Creates a pattern from a regular expression over bytes: `\w` and the like are ASCII, and `.` is any byte but a newline.
    pub fn regex(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty pattern; '^$' matches an empty datagram".to_owned());
        }
        Ok(Self {
            automaton: compile(text)?,
            text: PatternText::Regex(text.to_owned()),
        })
    }

    /// Starts a search.
    pub(super) fn search(&self) -> Search {
        let automaton = Arc::clone(&self.automaton);
        let mut cache = automaton.create_cache();
        let start = automaton.start_state(&mut cache, &start::Config::new());
        Search {
            state: start.ok(),
            automaton,
            cache,
        }
    }
}

fn compile(text: &str) -> Result<Arc<DFA>, String> {
    let is_utf8 = false;
    let built = DFA::builder()
        .configure(DFA::config().cache_capacity(AUTOMATON_SIZE))
        .syntax(syntax::Config::new().unicode(false).utf8(is_utf8))
        .thompson(
            thompson::Config::new()
                .utf8(is_utf8)
                .nfa_size_limit(Some(AUTOMATON_SIZE)),
        )
        .build(text);
    built.map(Arc::new).map_err(|error| describe(&error))
}

/// Returns the innermost error, which is the most precise one, on one line.
fn describe(error: &BuildError) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// Search for a [`Pattern`].
pub(super) struct Search {
    automaton: Arc<DFA>,
    cache: Cache,
    /// `None` once no match is possible.
    state: Option<LazyStateID>,
}

/// Progress of a search after a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The match ends after this many bytes of the chunk.
    EndsAt(usize),
    /// A match is still possible.
    Pending,
    /// No match is possible, whatever comes.
    Impossible,
}

impl Search {
    /// Searches the next chunk. A match ends as early as possible: `[0-9]+` matches the first digit.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Progress {
        let (automaton, cache, state) = (&self.automaton, &mut self.cache, &mut self.state);
        for (at, &byte) in bytes.iter().enumerate() {
            *state = state.and_then(|state| automaton.next_state(cache, state, byte).ok());
            match *state {
                // The automaton reports a match after the byte behind it.
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
        pieces.map(|piece| search.feed(piece.as_bytes())).collect()
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
        assert_eq!(nul.search().feed(&[0, 0, 0xff, 1]), Progress::EndsAt(3));
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
    fn an_error_in_an_expression_is_one_clause() {
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
            let first = search.feed(&text.as_bytes()[..cut]);
            let found = match first {
                Progress::Pending => match search.feed(&text.as_bytes()[cut..]) {
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
