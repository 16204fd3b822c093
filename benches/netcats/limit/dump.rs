//! A byte stream to standard output and, as a hex dump, to a file.
//! Sixteen bytes are written at once, where the processor knows how; else each byte's two digits come from a table.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use tuplecat::sys::hexadecimal::show;

/// Bytes in a line.
const WIDTH: usize = 16;

/// Places in a line: of the first byte, of the text, and after the end.
const HEX: usize = 10;
const TEXT: usize = 61;
const END: usize = TEXT + WIDTH + 2;

/// Copies `stream`, with a dump in `file`. The reader of the copy gets it first, and has it while the dump is made.
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

/// Makes the lines, as hexdump(1) has them with `-C`.
fn dump(bytes: &[u8], offset: u32, lines: &mut Vec<u8>) {
    lines.clear();
    lines.resize(bytes.len().div_ceil(WIDTH) * END, b' ');
    let (spaces, _) = lines.as_chunks_mut::<END>();
    let (full, rest) = bytes.as_chunks();
    let offsets = (offset..).step_by(WIDTH);
    for (line, offset) in spaces.iter_mut().zip(offsets) {
        for (place, part) in offset.to_be_bytes().into_iter().enumerate() {
            line[2 * place..2 * place + 2].copy_from_slice(&DIGITS[usize::from(part)]);
        }
        (line[TEXT - 1], line[END - 2], line[END - 1]) = (b'|', b'|', b'\n');
    }
    let parts = spaces.iter_mut().zip(full).filter_map(|(line, bytes)| {
        let (columns, text) = line[HEX..].split_at_mut(TEXT - HEX);
        Some((bytes, columns.first_chunk_mut()?, text.first_chunk_mut()?))
    });
    if !show(parts) {
        for (line, bytes) in spaces.iter_mut().zip(full) {
            fill(line, bytes);
        }
    }
    if let (Some(line), false) = (spaces.last_mut(), rest.is_empty()) {
        fill(line, rest);
        let end = lines.len() - (WIDTH - rest.len());
        lines.truncate(end);
        lines[end - 2..].copy_from_slice(b"|\n");
    }
}

/// Writes the columns of a line one by one.
fn fill(line: &mut [u8; END], bytes: &[u8]) {
    for (place, &byte) in bytes.iter().enumerate() {
        let at = HEX + 3 * place + usize::from(place >= WIDTH / 2);
        line[at..at + 2].copy_from_slice(&DIGITS[usize::from(byte)]);
        let is_text = (b' '..=b'~').contains(&byte);
        line[TEXT + place] = if is_text { byte } else { b'.' };
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
