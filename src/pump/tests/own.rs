//! Links that have a local end of their own, such as a child process.
//! Its two directions end like those of a link, and what it has got it may still answer.

use std::io::ErrorKind;

use pretty_assertions::assert_eq;

use super::{Give, Script, Take, of, rules, run_wired};
use crate::exit::{Exit, Failure};
use crate::pump::{Partner, Wiring};

/// Runs a link against a local end of its own.
fn run_own(
    local: impl FnOnce(Script) -> Script,
    link: impl FnOnce(Script) -> Script,
) -> (Vec<String>, Result<(), Failure>) {
    let each = |end| {
        let mut end = Some(end);
        Wiring::Each(Box::new(move |_| {
            end.take()
                .map(Partner::End)
                .ok_or_else(|| ErrorKind::NotFound.into())
        }))
    };
    run_wired(rules(), each, local, link)
}

#[test]
fn an_end_of_its_own_hears_that_the_peer_has_finished() {
    let (log, end) = run_own(
        |local| {
            local.gives([
                Give::Nothing,
                Give::Nothing,
                Give::Bytes("answer"),
                Give::End,
            ])
        },
        |link| link.gives([Give::Bytes("all"), Give::End]),
    );
    assert_eq!(of(&log, "local takes"), ["all Stream"]);
    assert_eq!(of(&log, "local is"), ["finished"]);
    assert_eq!(of(&log, "link takes"), ["answer Stream"]);
    assert_eq!(of(&log, "link is"), ["finished", "closed"]);
    assert_eq!(end, Ok(()));
}

#[test]
fn an_end_of_its_own_answers_although_nothing_more_is_wanted() {
    let (log, end) = run_own(
        |local| {
            local.gives([
                Give::Nothing,
                Give::Nothing,
                Give::Bytes("answer"),
                Give::End,
            ])
        },
        |link| link.gives([Give::Bytes("all"), Give::Enough]),
    );
    assert_eq!(of(&log, "local is"), ["finished"]);
    assert_eq!(of(&log, "link takes"), ["answer Stream"]);
    assert_eq!(end, Ok(()));
}

#[test]
fn a_link_is_let_go_when_its_own_end_neither_gives_nor_takes() {
    let (log, end) = run_own(
        |local| {
            let local = local.takes([Take::UpTo(9), Take::Error(ErrorKind::BrokenPipe)]);
            local.gives([Give::End])
        },
        |link| {
            let rest = [Give::Bytes("two"), Give::Bytes("three"), Give::End];
            link.gives([Give::Bytes("one"), Give::Nothing]).gives(rest)
        },
    );
    assert_eq!(of(&log, "local takes"), ["one Stream"]);
    assert_eq!(of(&log, "link gives"), ["one", "two", "three"]);
    assert_eq!(of(&log, "link is"), ["finished", "closed"]);
    assert_eq!(end, Ok(()));
}

#[test]
fn where_nothing_tells_of_room_it_is_tried_after_each_answer() {
    let (log, end) = run_own(
        |local| {
            let mut local = local.takes([Take::WouldBlock, Take::WouldBlock, Take::UpTo(9)]);
            local.sink = None;
            local.gives([
                Give::Nothing,
                Give::Bytes("a"),
                Give::Bytes("b"),
                Give::Nothing,
                Give::End,
            ])
        },
        |link| link.gives([Give::Bytes("late"), Give::End]),
    );
    assert_eq!(of(&log, "local blocks").len(), 2);
    assert_eq!(of(&log, "local takes"), ["late Stream"]);
    assert_eq!(end, Ok(()));
}

#[test]
fn a_link_without_its_own_end_fails() {
    let none = |_| Wiring::Each(Box::new(|_| Err(ErrorKind::NotFound.into())));
    let (log, end) = run_wired(rules(), none, |local| local, |link| link);
    assert_eq!(of(&log, "link is"), ["closed"]);
    assert_eq!(end.map_err(|failure| failure.exit), Err(Exit::Failed));
}
