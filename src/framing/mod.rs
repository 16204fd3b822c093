//! Framing: how a text or a stream of bytes is cut into chunks, and chunks are made into one again.
//! Codecs are fed bytes and know no descriptors, so whoever reads or writes may stop and go on anywhere.

mod blocks;
pub mod decode;
mod delimited;
pub mod dump;
pub mod encode;
mod frames;
mod hex_text;
pub mod pace;
mod prefixed;
mod replay;
pub mod words;

pub use decode::InputFraming;
pub use encode::OutputFraming;
pub use frames::{Borders, Budget, Frames, Open};
