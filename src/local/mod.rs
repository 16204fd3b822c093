//! The local ends that a link can be joined to.
//! For the pump they are ends like any other.

pub mod folder;
pub mod input;
pub mod output;
pub mod prefix;
pub mod stdio;
