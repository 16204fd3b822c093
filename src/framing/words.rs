//! Frames that were given on the command line, and need no reading.
//! To the rest they are an input that is at its end before it begins, with everything still to say.

use std::collections::VecDeque;

use super::decode::Decoder;
use super::frames::Frames;
use crate::exit::Failure;

/// Frames to be sent in order.
pub struct Words(VecDeque<Vec<u8>>);

impl Words {
    /// Each element is a frame.
    pub fn new(words: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(words.into_iter().collect())
    }
}

impl Decoder for Words {
    fn decode(&mut self, text: &mut &[u8], _: &mut Frames<'_>) -> Result<(), Failure> {
        *text = &[];
        Ok(())
    }

    fn finish(&mut self, frames: &mut Frames<'_>) -> Result<(), Failure> {
        while !frames.is_full()
            && let Some(word) = self.0.pop_front()
        {
            frames.extend(&word)?;
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
        let words = || Words::new([b"one".to_vec(), Vec::new(), b"two".to_vec()]);
        assert_eq!(texts(&mut words(), b"").unwrap(), ["one", "", "two"]);
        let one = Budget {
            frames: 1,
            bytes: 1,
        };
        assert_eq!(decoded(&mut words(), b"", 1, one).unwrap().len(), 3);
    }
}
