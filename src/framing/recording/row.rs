//! One line of a dump: offset, bytes, and text beside them.
//! Text begins behind a gap, so what follows one blank has to be digits.

use std::ops::{Range, RangeInclusive};

use crate::framing::lines::Flaw;

/// Bases of offsets, the most usual first.
pub(super) const BASES: [u32; 3] = [16, 10, 8];

/// Digits of an offset.
const OFFSET_LEN: RangeInclusive<usize> = 4..=16;

/// Blanks before the text beside the bytes, at least.
const TEXT_GAP: usize = 2;

/// Form of the lines of a dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    /// `0x0000:  4500 003c`: the packets of tcpdump.
    Labels,
    /// `0000  45 00 00 3c`: four digits, as tshark and Wireshark show packets.
    Short,
    /// Any other offset.
    Long,
    /// Bytes without an offset, such as those of a C array.
    #[default]
    Plain,
}

/// A line with bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Blanks before it.
    pub(super) indent: usize,
    pub(super) style: Style,
    /// Digits of the offset; empty if there is none.
    pub(super) offset: String,
    /// Empty in the line behind the last byte.
    pub(super) bytes: Vec<u8>,
}

impl Row {
    /// Parses a line; `None` if it is text.
    ///
    /// Errors: it begins like a line of a dump, but does not go on like one.
    pub(super) fn parse(line: &[u8]) -> Result<Option<Self>, Flaw> {
        let words = words(line);
        let Some((first, others)) = words.split_first() else {
            return Ok(None);
        };
        let label = &line[first.clone()];
        if label.starts_with(b"0x") && !label.get(4).is_some_and(u8::is_ascii_hexdigit) {
            return Self::of_array(line);
        }
        let core = label.strip_suffix(b":").unwrap_or(label);
        let digits = core.strip_prefix(b"0x").unwrap_or(core);
        let second = others.first().map(|word| &line[word.clone()]);
        let is_word = |word: &[u8]| word.iter().all(u8::is_ascii_alphanumeric);
        let is_plain = is_hex(label) && label.len() == 2;
        let goes_on = second.is_none_or(|word| {
            is_word(word) && word.len().is_multiple_of(2) || is_plain && word.starts_with(b">")
        });
        let is_offset = is_hex(digits) && OFFSET_LEN.contains(&digits.len());
        if !goes_on || !is_plain && !is_offset {
            let is_damaged = core.iter().any(u8::is_ascii_digit) && is_word(core);
            if is_damaged && second.is_none_or(is_word) {
                return Err(Flaw::new(first.start, "neither a line of a dump nor text"));
            }
            return Ok(None);
        }
        let has_colon = core.len() < label.len();
        let (style, start, words) = match digits.len() {
            _ if is_plain => (Style::Plain, first.start, &words[..]),
            len if len < core.len() => (Style::Labels, first.end, others),
            4 if !has_colon => (Style::Short, first.end, others),
            _ => (Style::Long, first.end, others),
        };
        Ok(Some(Self {
            indent: first.start,
            style,
            offset: String::from_utf8_lossy(&digits[..if is_plain { 0 } else { digits.len() }])
                .into(),
            bytes: bytes(line, start, words, has_colon)?,
        }))
    }

    /// Returns the bytes of a C array in this line, if there are any: those behind a brace, before a comment.
    ///
    /// Errors: something is not a byte such as `0x0a`.
    pub(super) fn of_array(line: &[u8]) -> Result<Option<Self>, Flaw> {
        let start = line.iter().position(|&byte| byte == b'{');
        let mut place = start.map_or(0, |at| at + 1);
        let rest = line[place..]
            .split(|&byte| byte == b'}' || byte == b'/')
            .next();
        let rest = rest.unwrap_or_default();
        if start.is_none() && !rest.trim_ascii_start().starts_with(b"0x") {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        for item in rest.split(|byte| b", \t\r".contains(byte)) {
            let digits = item.strip_prefix(b"0x").filter(|digits| digits.len() == 2);
            match digits.and_then(|digits| hex::decode(digits).ok()) {
                Some(byte) => bytes.extend(byte),
                None if item.is_empty() => {}
                None => return Err(Flaw::new(place, "a byte such as 0x0a should be here")),
            }
            place += item.len() + 1;
        }
        let row = Self {
            bytes,
            ..Self::default()
        };
        Ok(Some(row).filter(|row| !row.bytes.is_empty()))
    }

    /// Returns the offset in each base.
    pub(super) fn offsets(&self) -> [Option<u64>; BASES.len()] {
        let is_labelled = self.style == Style::Labels;
        let bases = BASES.map(|base| u64::from_str_radix(&self.offset, base).ok());
        if is_labelled {
            [bases[0], None, None]
        } else {
            bases
        }
    }
}

fn is_hex(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(u8::is_ascii_hexdigit)
}

/// Returns the places of the words of a line.
fn words(line: &[u8]) -> Vec<Range<usize>> {
    let words = line.split(u8::is_ascii_whitespace).scan(0, |next, word| {
        let start = *next;
        *next += word.len() + 1;
        Some(start..start + word.len())
    });
    words.filter(|word| !word.is_empty()).collect()
}

/// Reads the bytes behind an offset, up to the text.
fn bytes(
    line: &[u8],
    mut end: usize,
    words: &[Range<usize>],
    has_colon: bool,
) -> Result<Vec<u8>, Flaw> {
    let mut bytes = Vec::new();
    let width = words.first().map_or(0, Range::len);
    for word in words {
        let (gap, digits) = (word.start - end, &line[word.clone()]);
        let error = |text: &str| Err(Flaw::new(word.start, text));
        // In the middle of sixteen bytes there may be a gap as well.
        let is_pair = is_hex(digits) && digits.len() == 2;
        let is_middle = is_pair && bytes.len() == 8 && gap == TEXT_GAP && !has_colon;
        let is_text = !bytes.is_empty() && gap >= TEXT_GAP && !is_middle;
        if is_text || digits.starts_with(b"|") || digits.starts_with(b">") {
            if width > 2 && !shows(&line[end..], &bytes) {
                return error("this text shows other bytes, perhaps in another order");
            }
            break;
        }
        if !is_hex(digits) || digits.len() != width && !(has_colon && is_pair) {
            return error(&format!(
                "'{}' where a byte in hexadecimal should be",
                digits.escape_ascii()
            ));
        }
        if width != 2 && !(width == 4 && has_colon) {
            return error(
                "bytes in groups may be swapped: hexdump -C, xxd or od -t x1 show single ones",
            );
        }
        bytes.extend(hex::decode(digits).unwrap_or_default());
        end = word.end;
    }
    Ok(bytes)
}

/// Returns true if text shows these bytes, behind blanks; a dot may stand for any of them.
fn shows(text: &[u8], bytes: &[u8]) -> bool {
    (TEXT_GAP..text.len()).any(|start| {
        // Blanks at the end of a line may be missing.
        let shown = text[start..].iter().chain(std::iter::repeat(&b' '));
        let mut pairs = shown.zip(bytes);
        pairs.all(|(&shown, &byte)| shown == b'.' || shown == byte)
    })
}
