//! A byte stream to standard output and, as a hex dump, to a file.
//! A table contains the two digits of each byte.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;

/// Bytes in a line.
const WIDTH: usize = 16;

/// Columns of the first byte, of the text, and after the end of a line.
const HEX: usize = 10;
const TEXT: usize = 61;
const END: usize = TEXT + WIDTH + 2;

/// Copies `stream`, with a dump in `file`. Data is passed on before it is dumped.
pub(super) fn receive(mut stream: &TcpStream, file: &Path) -> io::Result<()> {
    let mut file = File::create(file)?;
    let mut buffer = vec![0; 1 << 16];
    let mut lines = Vec::new();
    let mut offset = 0_u32;
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        super::write_out(&buffer[..len])?;
        dump(&buffer[..len], offset, &mut lines);
        offset = offset.wrapping_add(16 * u32::try_from(len.div_ceil(WIDTH)).unwrap_or(0));
        file.write_all(&lines)?;
    }
}

/// Formats lines like `hexdump -C`.
fn dump(bytes: &[u8], offset: u32, lines: &mut Vec<u8>) {
    lines.clear();
    lines.resize(bytes.len().div_ceil(WIDTH) * END, b' ');
    let (blanks, _) = lines.as_chunks_mut::<END>();
    let offsets = (offset..).step_by(WIDTH);
    for ((line, bytes), offset) in blanks.iter_mut().zip(bytes.chunks(WIDTH)).zip(offsets) {
        let (number, columns) = line.split_at_mut(HEX);
        put_digits(number, 2, &offset.to_be_bytes());
        let (columns, text) = columns.split_at_mut(TEXT - HEX);
        for (columns, bytes) in columns.chunks_mut(25).zip(bytes.chunks(8)) {
            put_digits(columns, 3, bytes);
        }
        columns[TEXT - HEX - 1] = b'|';
        for (place, &byte) in text.iter_mut().zip(bytes) {
            let is_text = (b' '..=b'~').contains(&byte);
            *place = if is_text { byte } else { b'.' };
        }
        text[bytes.len()..][..2].copy_from_slice(b"|\n");
    }
    lines.truncate(lines.len() - (bytes.len().next_multiple_of(WIDTH) - bytes.len()));
}

/// Writes the digits of each byte, every `step` columns.
fn put_digits(columns: &mut [u8], step: usize, bytes: &[u8]) {
    for (column, &byte) in columns.chunks_exact_mut(step).zip(bytes) {
        column[..2].copy_from_slice(&DIGITS[usize::from(byte)]);
    }
}

/// The two digits of each byte.
const DIGITS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};
