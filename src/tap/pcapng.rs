//! The blocks of a pcapng file that a capture needs: a section, one interface, packets (draft-ietf-opsawg-pcapng).
//! Every block has its length at both ends, and a multiple of four bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::flow::Direction;

/// The link type of packets that begin with an IP header.
const LINKTYPE_RAW: u16 = 101;
/// An upper bound of the packet size.
const SNAPLEN: u32 = 262_144;

const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;

const OPT_COMMENT: u16 = 1;
const IF_NAME: u16 = 2;
const PACKET_FLAGS: u16 = 2;
const USER_APPLICATION: u16 = 4;

/// Appends the beginning of a file, with a comment for its reader.
pub(super) fn append_beginning(out: &mut Vec<u8>, comment: &str) {
    block(out, SECTION, |out| {
        out.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        // Version 1.0, and an unknown length.
        out.extend_from_slice(&[1, 0, 0, 0]);
        out.extend_from_slice(&u64::MAX.to_le_bytes());
        option(out, OPT_COMMENT, comment.as_bytes());
        let program = concat!("tuplecat ", env!("CARGO_PKG_VERSION"));
        option(out, USER_APPLICATION, program.as_bytes());
        option(out, 0, b"");
    });
    block(out, INTERFACE, |out| {
        out.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&SNAPLEN.to_le_bytes());
        option(out, IF_NAME, b"tuplecat");
        option(out, 0, b"");
    });
}

/// Appends a packet of `len` bytes, which `write` appends. An empty comment is left out.
pub(super) fn append_packet(
    out: &mut Vec<u8>,
    time: SystemTime,
    direction: Direction,
    comment: &str,
    len: usize,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let micros = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros();
    let [high, low] = [micros >> 32, micros & 0xffff_ffff].map(word);
    let flags: u32 = match direction {
        Direction::Incoming => 1,
        Direction::Outgoing => 2,
    };
    block(out, PACKET, |out| {
        for field in [[0; 4], high, low, word(len), word(len)] {
            out.extend_from_slice(&field);
        }
        write(out);
        pad(out);
        if !comment.is_empty() {
            option(out, OPT_COMMENT, comment.as_bytes());
        }
        option(out, PACKET_FLAGS, &flags.to_le_bytes());
        option(out, 0, b"");
    });
}

fn block(out: &mut Vec<u8>, kind: u32, write: impl FnOnce(&mut Vec<u8>)) {
    // All blocks before have a multiple of four bytes, so `pad` may count from the beginning of the buffer.
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    write(out);
    let len = word(out.len() + 4 - start);
    out.extend_from_slice(&len);
    out[start + 4..start + 8].copy_from_slice(&len);
}

/// Returns a number as it stands in the file, in 32 bits: a block has little more than 64 KiB.
fn word(number: impl TryInto<u32>) -> [u8; 4] {
    number.try_into().unwrap_or(u32::MAX).to_le_bytes()
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    // At most a line of text.
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(value);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}
