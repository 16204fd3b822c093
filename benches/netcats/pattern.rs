//! A test pattern without repetitions, and a hash of it.
//! Lost, repeated or reordered bytes change the hash.

/// Fills `buffer` with the pattern from `offset` on, a multiple of 8.
pub(crate) fn fill(buffer: &mut [u8], offset: u64) {
    for (word, place) in buffer.chunks_mut(8).zip(offset / 8..) {
        word.copy_from_slice(&mix(place).to_le_bytes()[..word.len()]);
    }
}

/// The first `len` bytes of the pattern.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(&mut bytes, 0);
    bytes
}

/// The hash of the first `len` bytes of the pattern.
pub(crate) fn hash(len: u64) -> Hash {
    let mut hash = Hash::default();
    let mut buffer = [0; 1 << 12];
    let mut at = 0;
    while at < len {
        let piece = usize::try_from(len - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        fill(&mut buffer[..piece], at);
        hash.add(&buffer[..piece]);
        at += piece as u64;
    }
    hash
}

/// Maps each number to a different 64-bit value (`SplitMix64`).
fn mix(place: u64) -> u64 {
    let mut value = (place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// 64-bit FNV-1a: detects mistakes, not attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Adds bytes; their division into calls makes no difference.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
