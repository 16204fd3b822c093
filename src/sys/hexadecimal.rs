//! Sixteen bytes as hexadecimal digits and characters at once, where the processor can put bytes into any order (SSSE3).
//! Everything else that a dump costs is then the writing of it. Other processors get there eight bytes at a time.

/// What sixteen bytes look like in a dump.
pub struct Sixteen {
    /// Twice eight pairs of digits, each followed by a blank.
    pub pairs: [[u8; 24]; 2],
    /// The bytes that are printable ASCII, and dots for the others.
    pub characters: [u8; 16],
}

/// What `bytes` look like; `None` where this processor has no quick way.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn sixteen(bytes: [u8; 16]) -> Option<Sixteen> {
    std::arch::is_x86_feature_detected!("ssse3").then(|| {
        // SAFETY: the processor has what the function needs.
        unsafe { x86::sixteen(bytes) }
    })
}

/// What `bytes` look like; `None` where this processor has no quick way.
#[cfg(not(target_arch = "x86_64"))]
#[must_use]
pub fn sixteen(_bytes: [u8; 16]) -> Option<Sixteen> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_andnot_si128, _mm_cmpgt_epi8, _mm_cmplt_epi8,
        _mm_cvtsi128_si64, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8, _mm_shuffle_epi8,
        _mm_srli_epi16, _mm_unpackhi_epi8, _mm_unpackhi_epi64, _mm_unpacklo_epi8,
    };

    use super::Sixteen;

    /// Takes each byte from the place that is named here, or none.
    const NONE: u8 = 0x80;
    const FIRST: [u8; 16] = [
        0, 1, NONE, 2, 3, NONE, 4, 5, NONE, 6, 7, NONE, 8, 9, NONE, 10,
    ];
    const SECOND: [u8; 16] = [
        11, NONE, 12, 13, NONE, 14, 15, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
    ];
    const DIGITS: [u8; 16] = *b"0123456789abcdef";

    #[target_feature(enable = "ssse3")]
    pub(super) fn sixteen(bytes: [u8; 16]) -> Sixteen {
        let (bytes, digits, low) = (load(bytes), load(DIGITS), _mm_set1_epi8(0x0f));
        let highs = _mm_shuffle_epi8(digits, _mm_and_si128(_mm_srli_epi16(bytes, 4), low));
        let lows = _mm_shuffle_epi8(digits, _mm_and_si128(bytes, low));
        let pairs = [
            spread(_mm_unpacklo_epi8(highs, lows)),
            spread(_mm_unpackhi_epi8(highs, lows)),
        ];
        // Signed: what is beyond ASCII is less than a blank as well.
        let is_dot = _mm_or_si128(
            _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)),
            _mm_cmpgt_epi8(bytes, _mm_set1_epi8(0x7e)),
        );
        let dots = _mm_and_si128(is_dot, _mm_set1_epi8(0x2e));
        let characters = store(_mm_or_si128(dots, _mm_andnot_si128(is_dot, bytes)));
        Sixteen { pairs, characters }
    }

    /// Eight pairs of digits with a blank behind each.
    #[target_feature(enable = "ssse3")]
    fn spread(pairs: __m128i) -> [u8; 24] {
        let blanks =
            |order: [u8; 16]| load(order.map(|place| if place == NONE { b' ' } else { 0 }));
        let part = |order| _mm_or_si128(_mm_shuffle_epi8(pairs, load(order)), blanks(order));
        let mut columns = [0; 24];
        columns[..16].copy_from_slice(&store(part(FIRST)));
        columns[16..].copy_from_slice(&store(part(SECOND))[..8]);
        columns
    }

    #[target_feature(enable = "ssse3")]
    fn load(bytes: [u8; 16]) -> __m128i {
        let word = u128::from_le_bytes(bytes);
        // Both halves, each with all of its bits.
        _mm_set_epi64x((word >> 64) as i64, word as i64)
    }

    #[target_feature(enable = "ssse3")]
    fn store(bytes: __m128i) -> [u8; 16] {
        let low = _mm_cvtsi128_si64(bytes) as u64;
        let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(bytes, bytes)) as u64;
        (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_digits_and_its_character_at_every_place() {
        for byte in 0..=255u8 {
            let bytes = std::array::from_fn(|place| byte.wrapping_add(place as u8));
            let Some(made) = sixteen(bytes) else { return };
            let shown = |byte: u8| format!("{byte:02x} ");
            let pairs: String = bytes.into_iter().map(shown).collect();
            assert_eq!(made.pairs.as_flattened(), pairs.as_bytes());
            let visible = |byte: u8| {
                if matches!(byte, b' '..=b'~') {
                    byte
                } else {
                    b'.'
                }
            };
            assert_eq!(made.characters, bytes.map(visible));
        }
    }
}
