//! Recordings: dumps and captures, read as conversations whose chunks can be sent again.
//! Every reader gives the same: who sent what, when, and whether anything of it is missing.

use std::fmt::Write;
use std::time::SystemTime;

use super::lines::unreadable;
use crate::exit::Failure;
use crate::flow::Leg;

pub(super) mod capture;
pub mod dump;
pub(super) mod hexdump;
mod packets;
mod replay;
mod row;

pub(super) use replay::{Dump, Replay, Whole};

/// Most conversations that an error lists.
const MAX_LISTED: usize = 20;

/// Bytes that one side sent together: over UDP, a datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Time in the recording, where it has times.
    pub time: Option<SystemTime>,
    /// Sender; `None` where the recording does not name it.
    pub leg: Option<Leg>,
    /// Content; empty for an empty datagram.
    pub bytes: Vec<u8>,
}

/// Recorded conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// Addresses, from the client to the target, where the recording has them.
    pub name: String,
    /// Chunks of both sides in order.
    pub chunks: Vec<Chunk>,
    /// Reasons why bytes of a side are missing.
    pub flaws: Vec<(Leg, String)>,
}

impl Conversation {
    /// Returns the chunks of one side, the client's if `leg` names none.
    ///
    /// Errors: there are none, or some bytes are missing, or the sides are not known.
    fn of_leg(mut self, leg: Option<Leg>) -> Result<Vec<Chunk>, Failure> {
        let wanted = leg.unwrap_or(Leg::Client);
        if let Some((_, flaw)) = self.flaws.iter().find(|(flawed, _)| *flawed == wanted) {
            return Err(unreadable(flaw));
        }
        if self.chunks.iter().any(|chunk| chunk.leg.is_some()) {
            self.chunks.retain(|chunk| chunk.leg == Some(wanted));
        } else if leg.is_some() {
            return Err(unreadable("it does not show who sent it: leave --leg out"));
        }
        if self.chunks.is_empty() {
            return Err(unreadable(
                "this side sent nothing: --leg chooses the other one",
            ));
        }
        Ok(self.chunks)
    }

    /// Returns the number of bytes that a side sent.
    fn size(&self, leg: Leg) -> usize {
        let own = self.chunks.iter().filter(|chunk| chunk.leg == Some(leg));
        own.map(|chunk| chunk.bytes.len()).sum()
    }
}

/// Returns the conversation with this number or these addresses, or the only one.
///
/// Errors: there is none, or there are several; the message lists them.
fn select(mut all: Vec<Conversation>, wanted: Option<&str>) -> Result<Conversation, Failure> {
    let words: Vec<_> = wanted.unwrap_or_default().split_whitespace().collect();
    let fits = |&at: &usize| {
        let number = (at + 1).to_string();
        let mut words = words.iter();
        words.all(|word| *word == number || all[at].name.split(' ').any(|part| part == *word))
    };
    let mut listed: Vec<usize> = (0..all.len()).filter(fits).collect();
    let mut text = format!("{} flows in it: choose one with --flow N", listed.len());
    match listed[..] {
        [only] => return Ok(all.swap_remove(only)),
        [] if all.is_empty() => text = "no payload of TCP or UDP in it".into(),
        [] => {
            listed = (0..all.len()).collect();
            text = format!("no such flow among the {} in it", all.len());
        }
        [..] => {}
    }
    for at in listed.into_iter().take(MAX_LISTED) {
        let (name, [client, target]) = (
            &all[at].name,
            [Leg::Client, Leg::Target].map(|leg| all[at].size(leg)),
        );
        let _ = write!(
            text,
            "\n  {}  {name}  client {client} B, target {target} B",
            at + 1
        );
    }
    Err(unreadable(&text))
}
