//! Sixteen bytes as hexadecimal digits and characters at once, where the processor can put bytes into any order (SSSE3).
//! Everything else that a dump costs is then the writing of it. Other processors get there eight bytes at a time.

/// Where a line of a dump shows sixteen bytes: the columns of their digits, and their characters.
type Line<'a> = (&'a [u8; 16], &'a mut [u8; 49], &'a mut [u8; 16]);

/// Writes what the bytes of each line look like: twice eight pairs of digits, each followed by a blank, with another between the eights;
/// and those that are printable ASCII, with dots for the others. False, and nothing is done, where this processor has no quick way.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn show<'a>(lines: impl Iterator<Item = Line<'a>>) -> bool {
    let is_able = std::arch::is_x86_feature_detected!("ssse3");
    if is_able {
        // SAFETY: the processor has what the function needs.
        unsafe { x86::show(lines) };
    }
    is_able
}

/// Does nothing: this processor has no quick way that is known here.
#[cfg(not(target_arch = "x86_64"))]
#[must_use]
pub fn show<'a>(_lines: impl Iterator<Item = Line<'a>>) -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_andnot_si128, _mm_cmpgt_epi8, _mm_cmplt_epi8, _mm_or_si128,
        _mm_set1_epi8, _mm_shuffle_epi8, _mm_srli_epi16, _mm_unpackhi_epi8, _mm_unpacklo_epi8,
    };

    /// Stands for no place, but for a blank.
    const NONE: u8 = 0x80;
    /// Where the first sixteen columns of eight pairs come from, and the eight after them.
    const FIRST: [u8; 16] = [
        0, 1, NONE, 2, 3, NONE, 4, 5, NONE, 6, 7, NONE, 8, 9, NONE, 10,
    ];
    const SECOND: [u8; 16] = [
        11, NONE, 12, 13, NONE, 14, 15, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    ];
    const DIGITS: [u8; 16] = *b"0123456789abcdef";

    /// Many lines in one call, because this cannot be a part of a function that is for every processor.
    #[target_feature(enable = "ssse3")]
    pub(super) fn show<'a>(lines: impl Iterator<Item = super::Line<'a>>) {
        for (bytes, columns, characters) in lines {
            show_one(bytes, columns, characters);
        }
    }

    #[inline]
    #[target_feature(enable = "ssse3")]
    fn show_one(bytes: &[u8; 16], columns: &mut [u8; 49], characters: &mut [u8; 16]) {
        let (bytes, digits, low) = (load(*bytes), load(DIGITS), _mm_set1_epi8(0x0f));
        let highs = _mm_shuffle_epi8(digits, _mm_and_si128(_mm_srli_epi16(bytes, 4), low));
        let lows = _mm_shuffle_epi8(digits, _mm_and_si128(bytes, low));
        let (first, second) = columns.split_at_mut(25);
        spread(_mm_unpacklo_epi8(highs, lows), first);
        spread(_mm_unpackhi_epi8(highs, lows), second);
        // Signed: what is beyond ASCII is less than a blank as well.
        let is_dot = _mm_or_si128(
            _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)),
            _mm_cmpgt_epi8(bytes, _mm_set1_epi8(0x7e)),
        );
        let dots = _mm_and_si128(is_dot, _mm_set1_epi8(0x2e));
        *characters = store(_mm_or_si128(dots, _mm_andnot_si128(is_dot, bytes)));
    }

    /// Writes eight pairs of digits with a blank behind each.
    #[target_feature(enable = "ssse3")]
    fn spread(pairs: __m128i, columns: &mut [u8]) {
        // Shuffling leaves 0 where there is no place; a quarter of the mark of those is a blank.
        let part = |order| {
            let marks = _mm_and_si128(order, _mm_set1_epi8(NONE.cast_signed()));
            store(_mm_or_si128(
                _mm_shuffle_epi8(pairs, order),
                _mm_srli_epi16(marks, 2),
            ))
        };
        columns[..16].copy_from_slice(&part(load(FIRST)));
        columns[16..24].copy_from_slice(&part(load(SECOND))[..8]);
    }

    #[target_feature(enable = "ssse3")]
    fn load(bytes: [u8; 16]) -> __m128i {
        // SAFETY: both are sixteen bytes, and any will do.
        unsafe { std::mem::transmute(bytes) }
    }

    #[target_feature(enable = "ssse3")]
    fn store(bytes: __m128i) -> [u8; 16] {
        // SAFETY: both are sixteen bytes, and any will do.
        unsafe { std::mem::transmute(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_digits_and_its_character_at_every_place() {
        for byte in 0..=255u8 {
            let mut next = byte.wrapping_sub(1);
            let bytes = [(); 16].map(|()| {
                next = next.wrapping_add(1);
                next
            });
            let (mut columns, mut characters) = ([b' '; 49], [0; 16]);
            let lines = [(&bytes, &mut columns, &mut characters)];
            if !show(lines.into_iter()) {
                return;
            }
            let pair = |byte: &u8| format!("{byte:02x} ");
            let pairs = |bytes: &[u8]| bytes.iter().map(pair).collect::<Vec<_>>().concat();
            let expected = format!("{} {}", pairs(&bytes[..8]), pairs(&bytes[8..]));
            assert_eq!(columns, expected.as_bytes());
            let visible = |byte: u8| {
                if matches!(byte, b' '..=b'~') {
                    byte
                } else {
                    b'.'
                }
            };
            assert_eq!(characters, bytes.map(visible));
        }
    }
}
