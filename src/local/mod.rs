//! Local ends of links: standard input and output, child processes, dialogues, fixed answers.
//! For the pump, they are ends like any other.

pub mod exec;
pub mod expect;
pub mod out_dir;
mod prefix;
pub mod responder;
pub mod stdio;
