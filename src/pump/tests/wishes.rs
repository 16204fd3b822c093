//! Local ends that want something: they end the run when they have it, and say whether they had.
//! The same scripted ends as in the other tests of the pump.

use pretty_assertions::assert_eq;

use super::*;

#[test]
fn a_local_end_that_has_what_it_wants_ends_the_run() {
    // Whether it still has something to give or not, and whether that can be delivered or not.
    for (gives, takes) in [
        (Give::Nothing, Take::UpTo(9)),
        (Give::End, Take::UpTo(9)),
        (Give::Bytes("more"), Take::WouldBlock),
    ] {
        let (log, end) = run(
            rules(),
            |local| local.gives([gives]).wants("takes stop"),
            |link| {
                link.takes([takes])
                    .gives([Give::Nothing, Give::Bytes("stop"), Give::Bytes("rest")])
            },
        );
        // What has arrived by then is still written.
        let taken = of(&log, "local takes");
        assert_eq!(taken, ["stop Stream", "rest Stream"]);
        assert_eq!(log.last().map(String::as_str), Some("link is closed"));
        assert_eq!(end, Ok(()));
    }
}

#[test]
fn a_local_end_that_wants_nothing_more_ends_the_run() {
    let (log, end) = run(
        rules(),
        |local| local.gives([Give::Bytes("last"), Give::Enough]),
        |link| link.takes([Take::WouldBlock]).gives([Give::Nothing]),
    );
    assert_eq!(of(&log, "link takes"), ["last Stream"]);
    assert_eq!(end, Ok(()));
}
