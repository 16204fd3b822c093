//! The local ends that a socket can be joined to: standard input and output, child processes, scripted dialogues, canned answers.
//! For the pump they are ends like any other.

pub mod child;
pub mod crowd;
pub mod dialogue;
pub mod folder;
pub mod input;
pub mod nursery;
pub mod output;
pub mod prefix;
pub mod program;
pub mod responder;
pub mod stdio;
