//! Bytes as the lines of `hexdump -C`: offset, pairs of digits, characters.
//! Each byte is one look into a table and one store; with colours, the kinds of bytes are told apart as well.

use std::io::Write;

use anstyle::{AnsiColor, Effects, Style};

use super::lines::Palette;

/// The form of the lines.
#[derive(Clone, Debug)]
pub(super) struct HexLines {
    width: usize,
    palette: Palette,
    /// Where the characters begin in a line without its offset.
    characters: usize,
    /// A line without its offset, with no bytes in it yet.
    blank: Vec<u8>,
}

/// For each byte its two digits and the blanks after it. Of the two blanks the next byte takes one, except after eight.
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

impl HexLines {
    /// Lines of `width` bytes, at least 1.
    #[must_use]
    pub(super) fn new(width: u8, palette: Palette) -> Self {
        let width = usize::from(width.max(1));
        let characters = place(width - 1) + 5;
        let mut blank = vec![b' '; characters + width];
        blank[characters - 1] = b'|';
        blank.extend_from_slice(b"|\n");
        Self {
            width,
            palette,
            characters,
            blank,
        }
    }

    /// How many bytes make some kilobytes of lines.
    #[must_use]
    pub(super) fn portion(&self) -> usize {
        self.width * 256
    }

    /// Appends the lines of `bytes`, of which the first is at `offset` in its stream.
    pub(super) fn append(&self, out: &mut Vec<u8>, mut offset: u64, bytes: &[u8]) {
        for bytes in bytes.chunks(self.width) {
            match self.palette {
                Palette::Plain => {
                    append_offset(out, offset);
                    self.append_plain(out, bytes);
                }
                Palette::Colored => self.append_colored(out, offset, bytes),
            }
            offset += bytes.len() as u64;
        }
    }

    fn append_plain(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        let start = out.len();
        out.extend_from_slice(&self.blank);
        let (pairs, characters) = out[start..].split_at_mut(self.characters);
        // Eight bytes take the same 25 columns in every group.
        for (group, bytes) in pairs[2..].chunks_mut(25).zip(bytes.chunks(8)) {
            for (index, &byte) in bytes.iter().enumerate() {
                if let Some(pair) = group.get_mut(3 * index..3 * index + 4) {
                    pair.copy_from_slice(&DIGITS[usize::from(byte)]);
                }
            }
        }
        for (character, &byte) in characters.iter_mut().zip(bytes) {
            *character = visible(byte);
        }
        if bytes.len() < self.width {
            characters[bytes.len()..bytes.len() + 2].copy_from_slice(b"|\n");
            out.truncate(start + self.characters + bytes.len() + 2);
        }
    }

    fn append_colored(&self, out: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
        let dimmed = Style::new().dimmed();
        // Writing to memory does not fail.
        let _ = write!(out, "{dimmed}{offset:08x}{dimmed:#}");
        let mut column = 0;
        paint(out, bytes, |out, index, byte| {
            out.resize(out.len() + place(index) - column, b' ');
            out.extend_from_slice(&DIGITS[usize::from(byte)][..2]);
            column = place(index) + 2;
        });
        out.resize(out.len() + self.characters - 1 - column, b' ');
        out.push(b'|');
        paint(out, bytes, |out, _, byte| out.push(visible(byte)));
        out.extend_from_slice(b"|\n");
    }
}

/// Where the digits of a byte are in a line without its offset.
fn place(index: usize) -> usize {
    2 + 3 * index + index / 8
}

/// Appends an offset of eight digits, or of as many as it needs.
fn append_offset(out: &mut Vec<u8>, offset: u64) {
    let mut digits = [0; 16];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(offset.to_be_bytes()) {
        pair.copy_from_slice(&DIGITS[usize::from(byte)][..2]);
    }
    let spare = (offset.leading_zeros() / 4).min(8) as usize;
    out.extend_from_slice(&digits[spare..]);
}

/// The character itself, or a dot where it has no shape of its own.
fn visible(byte: u8) -> u8 {
    if matches!(byte, b' '..=b'~') {
        byte
    } else {
        b'.'
    }
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
            let colored = lines(width, Palette::Colored, 3, &bytes);
            let stripped = anstream::adapter::strip_str(&colored).to_string();
            assert_eq!(stripped, lines(width, Palette::Plain, 3, &bytes));
        }
    }
}
