//! Bytes as the lines of `hexdump -C`: offset, pairs of digits, characters.
//! Made many bytes at a time, for a dump should cost no more than writing it; with colours, the kinds of bytes are told apart.

use std::io::Write;

use anstyle::{AnsiColor, Effects, Style};

use super::lines::Palette;
use crate::sys::hexadecimal::show;

/// How many lines are made at once.
const LINES: usize = 256;

/// How many digits an offset has, if it does not need more.
const OFFSET: usize = 8;

/// How many bytes there are in a line, if nobody asks for others.
const USUAL: usize = 16;

/// How long a line is then: an offset, pairs of digits in two groups, characters between bars.
const USUAL_LEN: usize = OFFSET + 2 + 49 + 2 + USUAL + 2;

/// The form of the lines.
#[derive(Clone, Debug)]
pub(super) struct HexLines {
    width: usize,
    palette: Palette,
    /// Where the characters begin in a line without its offset.
    characters: usize,
    /// How long a line is.
    len: usize,
    /// Lines with nothing in them yet.
    blank: Vec<u8>,
}

/// For each byte its two digits, and two blanks: four bytes are stored as fast as two.
const DIGITS: [[u8; 4]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[b' '; 4]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte][0] = digits[byte >> 4];
        table[byte][1] = digits[byte & 15];
        byte += 1;
    }
    table
};

/// A word with 1 in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

impl HexLines {
    /// Lines of `width` bytes, at least 1.
    #[must_use]
    pub(super) fn new(width: u8, palette: Palette) -> Self {
        let width = usize::from(width.max(1));
        let characters = place(width - 1) + 5;
        let mut line = vec![b' '; OFFSET + characters + width];
        line[OFFSET + characters - 1] = b'|';
        line.extend_from_slice(b"|\n");
        Self {
            width,
            palette,
            characters,
            len: line.len(),
            blank: line.repeat(LINES),
        }
    }

    /// How many bytes make some kilobytes of lines.
    #[must_use]
    pub(super) fn portion(&self) -> usize {
        self.width * LINES
    }

    /// Appends the lines of `bytes`, of which the first is at `offset` in its stream.
    pub(super) fn append(&self, out: &mut Vec<u8>, mut offset: u64, bytes: &[u8]) {
        let is_long = offset + bytes.len() as u64 > u64::from(u32::MAX);
        let step = match self.palette {
            Palette::Plain if !is_long => self.portion(),
            _ => self.width,
        };
        for bytes in bytes.chunks(step) {
            match self.palette {
                Palette::Plain => self.append_plain(out, offset, bytes),
                Palette::Colored => self.append_colored(out, offset, bytes),
            }
            offset += bytes.len() as u64;
        }
    }

    /// Appends lines of which only the first may have an offset with more digits than usual.
    fn append_plain(&self, out: &mut Vec<u8>, mut offset: u64, bytes: &[u8]) {
        if let high @ 1.. = offset >> (4 * OFFSET) {
            // Writing to memory does not fail.
            let _ = write!(out, "{high:x}");
        }
        let start = out.len();
        let count = bytes.len().div_ceil(self.width);
        out.extend_from_slice(&self.blank[..count * self.len]);
        let done = match self.width {
            USUAL => fill_usual(&mut out[start..], offset, bytes),
            _ => 0,
        };
        let left = out[start..]
            .chunks_mut(self.len)
            .zip(bytes.chunks(self.width))
            .skip(done);
        offset += (done * self.width) as u64;
        for (line, bytes) in left {
            self.fill(line, offset, bytes);
            offset += bytes.len() as u64;
        }
        let missing = count * self.width - bytes.len();
        if missing > 0 {
            out.truncate(out.len() - missing - 2);
            out.extend_from_slice(b"|\n");
        }
    }

    /// Writes an offset and bytes into an empty line.
    fn fill(&self, line: &mut [u8], offset: u64, bytes: &[u8]) {
        let (number, line) = line.split_at_mut(OFFSET);
        let (pairs, characters) = line.split_at_mut(self.characters);
        number.copy_from_slice(&eight_digits(offset));
        put_groups(&mut pairs[2..], characters, bytes);
    }

    fn append_colored(&self, out: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        let dimmed = Style::new().dimmed();
        // Writing to memory does not fail.
        let _ = write!(out, "{dimmed}{offset:08x}{dimmed:#}");
        let mut column = 0;
        paint(out, bytes, |out, index, byte| {
            out.resize(out.len() + place(index) - column, b' ');
            let _ = write!(out, "{byte:02x}");
            column = place(index) + 2;
        });
        out.resize(out.len() + self.characters - 1 - column, b' ');
        out.push(b'|');
        paint(out, bytes, |out, _, byte| out.push(visible([byte; 8])[0]));
        out.extend_from_slice(b"|\n");
    }
}

/// The last eight digits of a number, made all at once.
fn eight_digits(number: u64) -> [u8; 8] {
    // The half bytes are moved apart until each has a byte of its own.
    let word = number & 0xffff_ffff;
    let word = (word | word << 16) & 0x0000_ffff_0000_ffff;
    let word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
    let word = (word | word << 4) & (0x0f * EACH);
    let is_letter = (word + 0x06 * EACH) >> 4 & EACH;
    let letters = u64::from(b'a' - b'9' - 1);
    (word + u64::from(b'0') * EACH + letters * is_letter).to_be_bytes()
}

/// Writes into the empty lines of the usual width what fills a whole one; returns how many lines that are.
fn fill_usual(lines: &mut [u8], offset: u64, bytes: &[u8]) -> usize {
    let (lines, _) = lines.as_chunks_mut::<USUAL_LEN>();
    let (full, _) = bytes.as_chunks::<USUAL>();
    let offsets = (offset..).step_by(USUAL);
    let parts = lines.iter_mut().zip(full).zip(offsets);
    let is_done = show(parts.filter_map(|((line, bytes), offset)| {
        let (number, line) = line.split_first_chunk_mut()?;
        *number = eight_digits(offset);
        let (columns, line) = line[2..].split_first_chunk_mut()?;
        Some((bytes, columns, line[2..].first_chunk_mut()?))
    }));
    if is_done { full.len() } else { 0 }
}

/// Where the digits of a byte are in a line without its offset.
fn place(index: usize) -> usize {
    2 + 3 * index + index / 8
}

/// Writes bytes a group at a time: eight bytes take the same 25 columns in each.
fn put_groups(pairs: &mut [u8], characters: &mut [u8], bytes: &[u8]) {
    let groups = pairs.chunks_mut(25).zip(characters.chunks_mut(8));
    for ((pairs, characters), bytes) in groups.zip(bytes.chunks(8)) {
        if let (Some(pairs), Some(&eight)) = (pairs.first_chunk_mut(), bytes.first_chunk()) {
            put_pairs(pairs, eight);
            characters.copy_from_slice(&visible(eight));
            continue;
        }
        for (index, &byte) in bytes.iter().enumerate() {
            pairs[3 * index..][..2].copy_from_slice(&DIGITS[usize::from(byte)][..2]);
            characters[index] = visible([byte; 8])[0];
        }
    }
}

/// Writes the digits of eight bytes. What stands after a pair is overwritten by the next one, or is blank anyway.
fn put_pairs(columns: &mut [u8; 25], bytes: [u8; 8]) {
    let mut put = |place: usize| {
        columns[3 * place..3 * place + 4].copy_from_slice(&DIGITS[usize::from(bytes[place])]);
    };
    // Written out, because a loop takes twice the time.
    put(0);
    put(1);
    put(2);
    put(3);
    put(4);
    put(5);
    put(6);
    put(7);
}

/// The bytes that have a shape of their own, and dots for the others.
fn visible(bytes: [u8; 8]) -> [u8; 8] {
    let word = u64::from_le_bytes(bytes);
    let low = word & (0x7f * EACH);
    // The highest bit of each byte: set from a blank on, set for DEL, set beyond ASCII.
    let (from_blank, delete) = (low + 0x60 * EACH, low + EACH);
    let mask = 0xff * ((from_blank & !delete & !word) >> 7 & EACH);
    let dots = EACH * u64::from(b'.');
    ((word & mask) | (dots & !mask)).to_le_bytes()
}

/// Lets `put` write each byte in the colour of its kind.
fn paint(out: &mut Vec<u8>, bytes: &[u8], mut put: impl FnMut(&mut Vec<u8>, usize, u8)) {
    let mut style = Style::new();
    for (index, &byte) in bytes.iter().enumerate() {
        let own = style_of(byte);
        if own != style {
            let _ = write!(out, "{style:#}{own}");
            style = own;
        }
        put(out, index, byte);
    }
    let _ = write!(out, "{style:#}");
}

fn style_of(byte: u8) -> Style {
    match byte {
        0 => Style::new().effects(Effects::DIMMED),
        b' ' | b'\t'..=b'\r' => AnsiColor::Green.on_default(),
        b'!'..=b'~' => AnsiColor::Cyan.on_default(),
        0x80.. => AnsiColor::Yellow.on_default(),
        _ => AnsiColor::Magenta.on_default(),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn lines(width: u8, palette: Palette, offset: u64, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        HexLines::new(width, palette).append(&mut out, offset, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_those_of_hexdump() {
        let bytes: Vec<u8> = (b'a'..=b'z').chain([0, 0x7f, 0x80, 0xff]).collect();
        let expected = "\
00000000  61 62 63 64 65 66 67 68  69 6a 6b 6c 6d 6e 6f 70  |abcdefghijklmnop|
00000010  71 72 73 74 75 76 77 78  79 7a 00 7f 80 ff        |qrstuvwxyz....|
";
        assert_eq!(lines(16, Palette::Plain, 0, &bytes), expected);
    }

    #[test]
    fn other_widths_keep_their_columns() {
        let expected = "\
00000000  61 62 63 64 65 66 67 68  69  |abcdefghi|
00000009  6a                           |j|
";
        assert_eq!(lines(9, Palette::Plain, 0, b"abcdefghij"), expected);
        assert_eq!(lines(1, Palette::Plain, 0, b"a"), "00000000  61  |a|\n");
    }

    #[test]
    fn a_large_offset_has_more_digits() {
        let line = "123456789a  61  |a|\n";
        assert_eq!(lines(1, Palette::Plain, 0x12_3456_789a, b"a"), line);
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let bytes: Vec<u8> = (0..=255).collect();
        for width in [1, 7, 8, 16, 17, 255] {
            for offset in [3, 0x0123_4567, 0x89ab_cdef, 0xffff_ff80] {
                let colored = lines(width, Palette::Colored, offset, &bytes);
                let stripped = anstream::adapter::strip_str(&colored).to_string();
                assert_eq!(stripped, lines(width, Palette::Plain, offset, &bytes));
            }
        }
    }
}
