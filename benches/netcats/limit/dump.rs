//! A byte stream to standard output and, as a hex dump, to a file.
//! Each byte's two digits come from a table, and each line is laid out once.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;

/// Bytes in a line.
const WIDTH: usize = 16;

/// Places in a line: of the first byte, of the text, and after the end.
const HEX: usize = 10;
const TEXT: usize = 61;
const END: usize = TEXT + WIDTH + 2;

/// Copies `stream`, with a dump in `file`.
pub(super) fn receive(mut stream: &TcpStream, file: &Path) -> io::Result<()> {
    let mut file = File::create(file)?;
    let mut buffer = vec![0; 1 << 18];
    let mut lines = Vec::new();
    let mut offset = 0_u32;
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        let bytes = &buffer[..len];
        lines.clear();
        for line in bytes.chunks(WIDTH) {
            dump(line, offset, &mut lines);
            offset = offset.wrapping_add(16);
        }
        file.write_all(&lines)?;
        super::write_out(bytes)?;
    }
}

/// Adds one line, as hexdump(1) has it with `-C`.
fn dump(bytes: &[u8], offset: u32, lines: &mut Vec<u8>) {
    let mut line = [b' '; END];
    for (place, part) in offset.to_be_bytes().into_iter().enumerate() {
        line[2 * place..2 * place + 2].copy_from_slice(&DIGITS[usize::from(part)]);
    }
    for (place, &byte) in bytes.iter().enumerate() {
        let at = HEX + 3 * place + usize::from(place >= WIDTH / 2);
        line[at..at + 2].copy_from_slice(&DIGITS[usize::from(byte)]);
        let is_text = (b' '..=b'~').contains(&byte);
        line[TEXT + place] = if is_text { byte } else { b'.' };
    }
    line[TEXT - 1] = b'|';
    line[TEXT + bytes.len()] = b'|';
    let end = TEXT + bytes.len() + 1;
    line[end] = b'\n';
    lines.extend_from_slice(&line[..=end]);
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
