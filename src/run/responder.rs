//! `--canned` and `--respond`: answers that are known before anybody asks.
//! What could not be sent as an answer is an error at the start, not at the first request.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use crate::cli::ResponderOptions;
use crate::exit::{Exit, Failure};
use crate::local::responder::{Answers, Responder};
use crate::pump::Wiring;

/// The bytes that an answer from a file may have.
const LARGEST: u64 = 256 << 20;

/// The answers that the options give, none longer than `limit` bytes.
pub(crate) fn answers(
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

/// Reads an answer; a file without an end fills no memory.
fn read(path: &Path) -> Result<Rc<[u8]>, Failure> {
    let mut bytes = Vec::new();
    let file = File::open(path);
    let read = file.and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    let act = format!("cannot read '{}' (--canned)", path.display());
    match read {
        Ok(len) if len as u64 > LARGEST => {
            let text = format!("{act}: it has more than {} MiB", LARGEST >> 20);
            Err(Failure::new(Exit::Failed, text))
        }
        Ok(_) => Ok(Rc::from(bytes)),
        Err(error) => Err(Failure::io(act, &error)),
    }
}

/// A responder for each connection, or for all datagrams of a socket.
pub(crate) fn wiring(answers: Rc<Answers>) -> Wiring {
    Wiring::Each(Box::new(move |_| {
        Ok(Box::new(Responder::new(Rc::clone(&answers))))
    }))
}
