//! Frames that were given on the command line, and need no reading.
//! To the rest they are an input that is at its end before it begins, with everything still to give.

use std::collections::VecDeque;

use super::decode::Decoder;
use super::frames::Frames;
use crate::exit::Failure;

/// Frames to be sent in order.
pub struct Literal(VecDeque<Vec<u8>>);

impl Literal {
    /// Each element is a frame.
    pub fn new(frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(frames.into_iter().collect())
    }
}

impl Decoder for Literal {
    fn decode(&mut self, text: &mut &[u8], _: &mut Frames<'_>) -> Result<(), Failure> {
        *text = &[];
        Ok(())
    }

    fn finish(&mut self, frames: &mut Frames<'_>) -> Result<(), Failure> {
        while !frames.is_full()
            && let Some(frame) = self.0.pop_front()
        {
            frames.extend(&frame)?;
            frames.cut()?;
        }
        Ok(())
    }

    fn has_more(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::super::decode::tests::{decoded, texts};
    use super::*;
    use crate::framing::Budget;

    #[test]
    fn each_word_is_a_frame() {
        let frames = || Literal::new([b"one".to_vec(), Vec::new(), b"two".to_vec()]);
        assert_eq!(texts(&mut frames(), b"").unwrap(), ["one", "", "two"]);
        let one = Budget {
            frames: 1,
            bytes: 1,
        };
        assert_eq!(decoded(&mut frames(), b"", 1, one).unwrap().len(), 3);
    }
}
