//! `--canned` and `--respond`: answers that are known before anybody asks.
//! What could not be sent as an answer is an error at the start, not at the first request.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use crate::cli::ResponderOptions;
use crate::exit::{Exit, Failure};
use crate::local::responder::{Answers, Responder};
use crate::pump::Wiring;

/// The answers that the options give, none longer than `limit` bytes.
pub(super) fn answers(
    options: &ResponderOptions,
    limit: usize,
) -> Result<Option<Rc<Answers>>, Failure> {
    if !options.is_given() {
        return Ok(None);
    }
    let fallback = options.canned.as_deref().map(read).transpose()?;
    let pairs = options.respond.iter();
    let answers = Answers {
        pairs: pairs
            .map(|pair| (pair.request.clone(), Rc::from(pair.answer.as_slice())))
            .collect(),
        fallback,
    };
    let longest = answers.longest();
    if longest > limit {
        let text = format!(
            "an answer of {longest} bytes is too long: a datagram holds at most {limit} here"
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    Ok(Some(Rc::new(answers)))
}

fn read(path: &Path) -> Result<Rc<[u8]>, Failure> {
    let bytes = fs::read(path).map_err(|error| {
        Failure::io(
            format!("cannot read '{}' (--canned)", path.display()),
            &error,
        )
    })?;
    Ok(Rc::from(bytes))
}

/// A responder for each connection, or for all datagrams of a socket.
pub(super) fn wiring(answers: Rc<Answers>) -> Wiring {
    Wiring::Each(Box::new(move |_| {
        Ok(Box::new(Responder::new(Rc::clone(&answers))))
    }))
}
