//! Output framing: the forms in which received chunks are written, each of which shows where a datagram ends.
//! An encoder makes the text of whole chunks, so a slow reader gets each chunk once and undivided.

use std::time::SystemTime;

use clap::ValueEnum;
use serde::Serialize;

use crate::batch::{Batch, Cursor, Shape};
use crate::escape::{self, Timestamp};
use crate::flow::Flow;

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFraming {
    /// The bytes, and nothing between them
    #[default]
    Raw,
    /// The bytes and a line feed
    Line,
    /// The bytes and a NUL
    Nul,
    /// The length in two bytes, big-endian, and the bytes
    Len16,
    /// The length in four bytes, big-endian, and the bytes
    Len32,
    /// A line of hexadecimal digits
    Hex,
    /// A line with a JSON object: the bytes, the addresses, the time
    Json,
}

/// Bytes of text after which no further chunk is encoded at once.
const ENCODE_SIZE: usize = 256 << 10;

/// JSON line of one chunk.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    flow: Option<&'a Flow>,
    bytes: usize,
    hex: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

impl OutputFraming {
    /// Appends chunks from `at` on to `text`, and moves `at` past them.
    pub fn encode(self, batch: &Batch, at: &mut Cursor, text: &mut Vec<u8>) {
        while text.len() < ENCODE_SIZE
            && let Some((run, bytes)) = batch.next_chunk(at)
        {
            // An empty run of a stream is its end, not a chunk.
            if run.shape != Shape::Stream || !bytes.is_empty() {
                self.encode_chunk(bytes, run.flow.as_ref(), text);
            }
        }
    }

    fn encode_chunk(self, bytes: &[u8], flow: Option<&Flow>, text: &mut Vec<u8>) {
        match self {
            // A received chunk fits: the longest datagram has 65,527 bytes.
            Self::Len16 => text.extend(u16::try_from(bytes.len()).map_or([0; 2], u16::to_be_bytes)),
            Self::Len32 => text.extend(u32::try_from(bytes.len()).map_or([0; 4], u32::to_be_bytes)),
            _ => {}
        }
        match self {
            Self::Hex => append_hex(bytes, text),
            Self::Json => append_json(bytes, flow, text),
            _ => text.extend_from_slice(bytes),
        }
        match self {
            Self::Line | Self::Hex | Self::Json => text.push(b'\n'),
            Self::Nul => text.push(0),
            Self::Raw | Self::Len16 | Self::Len32 => {}
        }
    }
}

fn append_hex(bytes: &[u8], text: &mut Vec<u8>) {
    let start = text.len();
    text.resize(start + 2 * bytes.len(), 0);
    // The room is exact, so this cannot fail.
    let _ = hex::encode_to_slice(bytes, &mut text[start..]);
}

fn append_json(bytes: &[u8], flow: Option<&Flow>, text: &mut Vec<u8>) {
    let line = Line {
        time: Timestamp(SystemTime::now()).to_string(),
        flow,
        bytes: bytes.len(),
        hex: hex::encode(bytes),
        text: std::str::from_utf8(bytes).ok(),
    };
    escape::append_json(text, &line);
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::batch::Run;
    use crate::flow::{Address, Transport};

    fn batch(chunks: &[&[u8]]) -> Batch {
        let mut batch = Batch::default();
        let bytes = chunks.concat();
        batch.space(bytes.len())[..bytes.len()].copy_from_slice(&bytes);
        let mut start = 0;
        let address: Address = "127.0.0.1:9".parse().unwrap();
        for chunk in chunks {
            batch.push(Run {
                start,
                len: chunk.len(),
                shape: Shape::Datagrams(2),
                flow: Some(Flow::new(Transport::Udp, address.clone(), address.clone())),
            });
            start += chunk.len();
        }
        batch
    }

    fn encoded(framing: OutputFraming, batch: &Batch) -> String {
        let (mut text, mut at) = (Vec::new(), Cursor::default());
        framing.encode(batch, &mut at, &mut text);
        assert!(batch.is_taken(at));
        text.escape_ascii().to_string()
    }

    #[test]
    fn each_form_shows_the_borders() {
        let batch = batch(&[b"ab\xffd", b"", b"e"]);
        for (framing, text) in [
            (OutputFraming::Raw, r"ab\xffde"),
            (OutputFraming::Line, r"ab\n\xffd\n\ne\n"),
            (OutputFraming::Nul, r"ab\x00\xffd\x00\x00e\x00"),
            (
                OutputFraming::Len16,
                r"\x00\x02ab\x00\x02\xffd\x00\x00\x00\x01e",
            ),
            (
                OutputFraming::Len32,
                r"\x00\x00\x00\x02ab\x00\x00\x00\x02\xffd\x00\x00\x00\x00\x00\x00\x00\x01e",
            ),
            (OutputFraming::Hex, r"6162\nff64\n\n65\n"),
        ] {
            assert_eq!(encoded(framing, &batch), text, "{framing:?}");
        }
    }

    #[test]
    fn json_has_the_addresses_and_the_bytes_and_their_text_where_they_are_text() {
        let (mut text, mut at) = (Vec::new(), Cursor::default());
        OutputFraming::Json.encode(&batch(&[b"\"\n", b"\xff"]), &mut at, &mut text);
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<(&str, &str)> = text
            .lines()
            .map(|line| line.split_once(r#""proto""#).unwrap())
            .collect();
        assert!(lines[0].0.starts_with(r#"{"time":"20"#), "{text}");
        let addresses = r#":"udp","local":"127.0.0.1:9","remote":"127.0.0.1:9""#;
        let rests: Vec<&str> = lines
            .iter()
            .map(|line| line.1.strip_prefix(addresses).unwrap())
            .collect();
        assert_eq!(
            rests,
            [
                r#","bytes":2,"hex":"220a","text":"\"\n"}"#,
                r#","bytes":1,"hex":"ff"}"#
            ]
        );
    }

    #[test]
    fn a_long_batch_is_made_in_several_goes() {
        let long = vec![7; 200_000];
        let mut batch = Batch::default();
        batch.space(400_000);
        for start in [0, 200_000] {
            batch.push_datagram(start, long.len());
        }
        let (mut text, mut at) = (Vec::new(), Cursor::default());
        OutputFraming::Hex.encode(&batch, &mut at, &mut text);
        assert_eq!((text.len(), batch.is_taken(at)), (400_001, false));
    }
}
