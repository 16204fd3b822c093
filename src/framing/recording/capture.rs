//! Captures: files of packets with their times, as tcpdump and Wireshark write them (pcap, pcapng).
//! A library reads their blocks; packets of interfaces without IP are passed over.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use super::Conversation;
use super::packets::{LinkHeader, Packets};
use crate::exit::Failure;
use crate::framing::lines::unreadable;

/// First bytes of a file that gzip(1) has compressed.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// First bytes of a pcapng file, the type of a section.
const PCAPNG: &[u8] = &[0x0a, 0x0d, 0x0d, 0x0a];

/// Bytes of a block around its content (draft-ietf-opsawg-pcapng).
const BLOCK_OVERHEAD: u32 = 12;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Space for blocks, beside the file itself.
const BLOCK_SPACE: usize = 64 << 10;

/// Returns the conversations in a capture.
pub(in crate::framing) fn read(file: &[u8]) -> Result<Vec<Conversation>, Failure> {
    let mut reader = Reader::default();
    reader.read(file).map_err(|text| unreadable(&text))?;
    Ok(reader.packets.conversations())
}

#[derive(Default)]
struct Reader {
    packets: Packets,
    /// Link types of the interfaces, and the units of a second in which their times are.
    interfaces: Vec<(Linktype, u64)>,
}

impl Reader {
    fn read(&mut self, file: &[u8]) -> Result<(), String> {
        if file.starts_with(GZIP) {
            return Err("it is compressed: pipe it through 'gzip -dc'".to_owned());
        }
        let blocks = create_reader(file.len() + BLOCK_SPACE, file);
        let mut blocks = blocks.map_err(|_| "it is not a capture (pcap or pcapng)".to_owned())?;
        loop {
            let number = self.packets.count + 1;
            let damaged = format!("packet {number}, or a block before it, is damaged");
            if file.starts_with(PCAPNG) && is_short(blocks.data()) {
                return Err(damaged);
            }
            match blocks.next() {
                Ok((len, block)) => {
                    self.block(&block)?;
                    blocks.consume(len);
                }
                Err(PcapError::Eof) => return Ok(()),
                // The reader has not seen the end of the file yet.
                Err(PcapError::Incomplete(_)) => {
                    blocks.refill().map_err(|error| error.to_string())?;
                }
                Err(PcapError::UnexpectedEof | PcapError::BufferTooSmall) => {
                    return Err(format!("the capture ends within packet {number}"));
                }
                Err(_) => return Err(damaged),
            }
        }
    }

    fn block(&mut self, block: &PcapBlockOwned<'_>) -> Result<(), String> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let is_fine = header.is_nanosecond_precision();
                let units = if is_fine { NANOS_PER_SEC } else { 1_000_000 };
                self.interfaces.push((header.network, units));
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => self.interfaces.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                let base: u64 = if interface.if_tsresol & 0x80 == 0 {
                    10
                } else {
                    2
                };
                let units = base.checked_pow(u32::from(interface.if_tsresol & 0x7f));
                self.interfaces
                    .push((interface.linktype, units.unwrap_or(u64::MAX)));
            }
            PcapBlockOwned::Legacy(packet) => {
                let units = self.interfaces.first().map_or(1, |(_, units)| *units);
                let ticks = u64::from(packet.ts_sec) * units + u64::from(packet.ts_usec);
                return self.add(0, packet.data, Some(ticks));
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let len = packet.data.len().min(packet.caplen as usize);
                return self.add(packet.if_id as usize, &packet.data[..len], Some(ticks));
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let len = packet.data.len().min(packet.origlen as usize);
                return self.add(0, &packet.data[..len], None);
            }
            PcapBlockOwned::NG(_) => {}
        }
        Ok(())
    }

    fn add(&mut self, interface: usize, frame: &[u8], ticks: Option<u64>) -> Result<(), String> {
        let Some(&(link, units)) = self.interfaces.get(interface) else {
            let number = self.packets.count + 1;
            return Err(format!("packet {number} is of an unknown interface"));
        };
        let header = match link.0 {
            1 => LinkHeader::ETHERNET,
            // Linux and the BSDs have several numbers for bare IP packets.
            12 | 14 | 101 | 228 | 229 => LinkHeader::NONE,
            0 | 108 => LinkHeader::LOOPBACK,
            113 => LinkHeader::COOKED[0],
            276 => LinkHeader::COOKED[1],
            number => return Err(format!("packets of link type {number} are not supported")),
        };
        let time = ticks.and_then(|ticks| time(ticks, units));
        self.packets.add(header, frame, time)
    }
}

/// Returns true for a block that has a length of less than its overhead, in either byte order. The library takes it for a long one.
fn is_short(block: &[u8]) -> bool {
    let len = block.get(4..8).and_then(|len| len.try_into().ok());
    len.is_some_and(|len| u32::from_le_bytes(len).min(u32::from_be_bytes(len)) < BLOCK_OVERHEAD)
}

/// Returns a time that is counted in units of a second.
fn time(ticks: u64, units: u64) -> Option<SystemTime> {
    let nanos = u128::from(ticks % units) * u128::from(NANOS_PER_SEC) / u128::from(units);
    let time = Duration::new(ticks / units, u32::try_from(nanos).ok()?);
    UNIX_EPOCH.checked_add(time)
}
