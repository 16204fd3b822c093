//! Framing: how input is cut into frames, each of which becomes a datagram, and how received datagrams are written as output.
//! Codecs are fed bytes and know no descriptors, so whoever reads or writes may stop and go on anywhere.

mod blocks;
pub mod decode;
mod delimited;
pub mod dump;
pub mod encode;
mod frames;
mod hex_text;
pub mod literal;
pub mod pace;
mod prefixed;
mod replay;

pub use decode::InputFraming;
pub use encode::OutputFraming;
pub use frames::{Borders, Budget, Frames, Open};
