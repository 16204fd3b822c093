//! Properties of every parser of outside input, checked over the corpus of the fuzz targets and at random.
//! `fuzz/properties.rs` defines them. Random texts consist of meaningful pieces, so that many are almost valid.

#[path = "../../fuzz/properties.rs"]
mod readers;

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn property(name: &str) -> fn(&[u8]) {
    let (_, property) = readers::ALL.iter().find(|(each, _)| *each == name).unwrap();
    *property
}

#[test]
fn the_corpus_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, property) in readers::ALL {
        let folder = root.join(name);
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for entry in entries {
            property(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "an empty corpus of {name}");
    }
}

#[test]
fn each_property_has_a_fuzz_target() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    for (name, _) in readers::ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

/// Returns a strategy for texts of these pieces.
fn made_of(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    vec(select(pieces), 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

const ADDRESSES: &[&str] = &[
    "127.0.0.1",
    "::1",
    "fe80::1",
    "::ffff:1.2.3.4",
    "::",
    "[",
    "]",
    ":",
    "%lo",
    "%",
    "*",
    ",",
    "-",
    "\n",
    "80",
    "0",
    "65536",
    "http",
    "localhost",
    "a.b",
    " ",
    "/",
    "8",
    "24",
    "32",
    "96",
    "128",
    ".",
    "é",
    "\u{7f}",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "64",
    "5",
    ".",
    "e",
    "-",
    "+",
    "k",
    "K",
    "i",
    "B",
    "M",
    "G",
    "T",
    "E",
    "s",
    "ms",
    "ns",
    "us",
    "m",
    "h",
    "d",
    "y",
    " ",
    "inf",
    "nan",
    "999999999",
    "0x",
    "f",
    "ef",
    "af1",
    "cs7",
    "_",
    "18446744073709551615",
];
const ESCAPES: &[&str] = &[
    "\\", "n", "r", "t", "0", "x", "4", "1", "fF", "\\\\", "\\x", "é", " ", "\u{9b}", "\u{202e}",
    "\n", "g",
];
const DUMP: &[&str] = &[
    "2026-11-20T12:00:00.123456Z",
    "1969-12-31T23:59:59Z",
    " > ",
    " < ",
    "udp ",
    "tcp ",
    "127.0.0.1:1",
    "[::1%2]:9",
    " -> ",
    " <- ",
    " <-> ",
    " #1 ",
    " #0 ",
    "0 bytes",
    "1 byte",
    "2 bytes",
    "\n",
    "00000000",
    "000001000",
    "  ",
    " 68",
    " 0a",
    "  |h.|",
    "# no",
    "text",
    "\x1b[31m",
    "\r",
];
/// Lines of a dump, so that several fit together.
const LINES: &[&str] = &[
    "2026-11-20T12:00:00.123456Z > udp 127.0.0.1:1 -> [::1%2]:9 #3 2 bytes\n00000000  68 0a  |h.|\n",
    "2026-11-20T12:00:00.123456Z < udp 127.0.0.1:1 <- 127.0.0.1:9 #1 0 bytes\n",
    "2026-11-20T12:00:01.1Z < tcp [::ffff:127.0.0.1]:1 <-> 127.0.0.1:9 #1 1 byte\n00000000  69\n",
    "\x1b[31m2026-11-20T12:00:00.123456Z > tcp 127.0.0.1:1 <-> 127.0.0.1:9 #1 3 bytes\x1b[0m\n00000000  68\n00000001  0a 0a |..\n",
    "accepted  tcp\n",
    "# comment\n",
    "\n",
];

/// Parts of the dumps of other programs.
const HEXDUMP: &[&str] = &[
    "00000000  61 62 63 64 65 66 67 68  69 6a 6b 6c 6d 6e 6f 70  |abcdefghijklmnop|\n",
    "00000010: 6162 6364  abcd\n",
    "\t0x0000:  4500 0024 0001 0000 4011 0000 7f00 0001\n",
    "\t0x0010:  7f00 0001 0001 0002 0010 0000 6162 6364\n\t0x0020:  6566 6768\n",
    "0000  45 00 00 24   E..$\n",
    "000020 61 62\n",
    "0000000",
    "00000010",
    "00000000  ",
    " 61",
    " 62 63",
    "  ",
    "\t",
    ": ",
    "*\n",
    "\n",
    "|a|\n",
    ">a<\n",
    "12:00:00.123456 IP 127.0.0.1.1 > 127.0.0.1.2: UDP, length 8\n",
    "Frame (36 bytes):\n",
    "Reassembled TCP (36 bytes):\n",
    "char peer0_0[] = {\n",
    "0x61, 0x62",
    "/* ab */\n",
    "};\n",
    "text\n",
    "é",
];

/// A failing input becomes a file of the corpus, not an entry of a seed file.
fn settings() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn of_any_bytes(data in vec(any::<u8>(), 0..200), text in any::<String>()) {
        for (_, property) in readers::ALL {
            property(&data);
            property(text.as_bytes());
        }
    }

    #[test]
    fn of_texts_that_look_like_addresses(data in made_of(ADDRESSES)) {
        property("endpoint")(&data);
        property("cidr")(&data);
    }

    #[test]
    fn of_addresses_of_all_kinds(address in any::<std::net::SocketAddr>(), len in 0_u8..=130) {
        let (ip, port) = (address.ip(), address.port());
        for text in [format!("{address}"), format!("{ip}\n{port}"), format!("[{ip}]\n{port}")] {
            property("endpoint")(text.as_bytes());
        }
        property("cidr")(format!("{ip}/{len}").as_bytes());
        property("cidr")(format!("{ip}").as_bytes());
    }

    #[test]
    fn of_texts_that_look_like_numbers(data in made_of(NUMBERS)) {
        property("numbers")(&data);
    }

    #[test]
    fn of_texts_with_escapes(data in made_of(ESCAPES)) {
        property("escapes")(&data);
        property("hex")(&data);
    }

    #[test]
    fn of_texts_that_look_like_dumps(pieces in made_of(DUMP), lines in made_of(LINES)) {
        property("dump")(&pieces);
        property("dump")(&lines);
        property("frames")(&[&[4], &lines[..]].concat());
    }

    #[test]
    fn of_texts_that_look_like_dumps_of_other_programs(data in made_of(HEXDUMP)) {
        property("hexdump")(&data);
    }

    #[test]
    fn of_lists_of_frames(choice in 0_u8..6, list in vec(vec(any::<u8>(), 0..9), 0..9), rest in vec(any::<u8>(), 0..3)) {
        let mut data = vec![choice];
        for frame in list {
            let len = u32::try_from(frame.len()).unwrap().to_be_bytes();
            data.extend_from_slice(if choice == 0 { &len[2..] } else { &len[..] });
            data.extend(frame);
        }
        data.extend(rest);
        property("frames")(&data);
    }
}
