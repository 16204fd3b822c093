//! The local ends that a socket can be joined to: standard input and output, child processes, scripted dialogues, canned answers.
//! For the pump they are ends like any other.

pub mod exec;
pub mod expect;
pub mod out_dir;
mod prefix;
pub mod responder;
pub mod stdio;
