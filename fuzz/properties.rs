//! Properties of every parser of outside input, for any input: one function for each parser.
//! The fuzzer runs them, and so does an ordinary test, with random cases and with the corpus.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tuplecat::address::access::{Access, Networks, Verdict, parse_network};
use tuplecat::address::{Endpoint, Host, Port, parse_bind_point, parse_target, parse_targets};
use tuplecat::batch::{Batch, Cursor, Run, Shape};
use tuplecat::cli::values;
use tuplecat::escape::Escaped;
use tuplecat::flow::{Direction, Flow, Transport};
use tuplecat::framing::hex_text::hexadecimal;
use tuplecat::framing::lines::TextError;
use tuplecat::framing::recording::dump::{DumpReader, Recorded};
use tuplecat::framing::{Boundaries, Frames, InputFraming, LineEnds, OutputFraming, Playback};
use tuplecat::tap::hexdump::{Form, HexDump};
use tuplecat::tap::json::{Events, Payload};
use tuplecat::tap::lines::Palette;
use tuplecat::tap::pcap::Pcap;
use tuplecat::tap::{Data, Event, Sink, Tap};

/// The name of a property, also that of its fuzz target and of its corpus directory, and the function that checks it.
pub(crate) type Property = (&'static str, fn(&[u8]));

/// All properties.
pub(crate) const ALL: [Property; 11] = [
    ("cidr", cidr),
    ("dump", dump),
    ("endpoint", endpoint),
    ("escapes", escapes),
    ("events", events),
    ("frames", frames),
    ("hex", hex),
    ("hexdump", hexdump),
    ("numbers", numbers),
    ("pcap", pcap),
    ("tuple", tuple),
];

/// Returns `data` as text, and its lines as the words of a command line.
fn text(data: &[u8]) -> Option<(&str, Vec<&str>)> {
    let text = std::str::from_utf8(data).ok()?;
    Some((text, text.split('\n').collect()))
}

/// Every form of an endpoint has the same meaning, and a single port is also a list of ports.
pub(crate) fn endpoint(data: &[u8]) {
    let Some((_, words)) = text(data) else { return };
    if let Err(error) = parse_bind_point(&words) {
        assert!(!error.is_empty());
    }
    let several = parse_targets(&words);
    match parse_target(&words) {
        Ok(endpoint) => {
            // The name of a service may look like a range of ports, valid or not.
            let is_range = matches!(&endpoint.port, Port::Service(name)
                if name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'));
            if !is_range {
                let several = several.unwrap();
                assert_eq!(several.host, endpoint.host);
                assert_eq!(several.ports.only(), Some(&endpoint.port));
            }
            for word in spellings(&endpoint) {
                let words: Vec<&str> = word.iter().map(String::as_str).collect();
                assert_eq!(parse_target(&words).unwrap(), endpoint, "{word:?}");
            }
        }
        Err(error) => {
            assert!(!error.is_empty());
            // A list of several ports is not an endpoint.
            assert!(
                several
                    .ok()
                    .is_none_or(|several| several.ports.only().is_none())
            );
        }
    }
}

/// Returns all forms of an endpoint.
fn spellings(endpoint: &Endpoint) -> Vec<Vec<String>> {
    let Host::Named(host) = &endpoint.host else {
        panic!("a target without a host: {endpoint:?}");
    };
    let port = match &endpoint.port {
        Port::Number(number) => number.to_string(),
        Port::Service(name) => name.clone(),
    };
    let mut spellings = vec![vec![host.clone(), port.clone()]];
    if host.contains(':') {
        spellings.push(vec![format!("[{host}]:{port}")]);
        spellings.push(vec![format!("[{host}]"), port]);
    } else {
        spellings.push(vec![format!("{host}:{port}")]);
    }
    spellings
}

/// Escapes decode to bytes that can be encoded again, and shown text contains no control characters.
pub(crate) fn escapes(data: &[u8]) {
    let Some((text, _)) = text(data) else { return };
    match values::text(text) {
        Ok(bytes) => {
            let written: Vec<_> = bytes.iter().map(|byte| format!(r"\x{byte:02X}")).collect();
            let written = written.concat();
            assert_eq!(values::text(&written).unwrap(), bytes);
            if !text.contains('\\') {
                assert_eq!(bytes, text.as_bytes());
            }
        }
        Err(error) => assert!(text.contains('\\') && !error.is_empty()),
    }
    assert!(!Escaped(text).to_string().contains(char::is_control));
}

/// Bytes in hexadecimal decode to the same bytes on the command line and in the input, where each line is a frame.
pub(crate) fn hex(data: &[u8]) {
    if let Some((text, _)) = text(data)
        && let Ok(bytes) = hexadecimal(text)
    {
        let digits = text.to_ascii_lowercase().replace("0x", "");
        let digits: String = digits.chars().filter(char::is_ascii_hexdigit).collect();
        assert_eq!(hex_digits(&bytes), digits);
    }
    check_round_trip(InputFraming::Hex, OutputFraming::Hex, data);
}

fn hex_digits(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

/// Frames do not depend on the division of the input, and survive encoding. The first byte selects the format.
pub(crate) fn frames(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let (input, output) = match choice % 6 {
        0 => (InputFraming::Len16, OutputFraming::Len16),
        1 => (InputFraming::Len32, OutputFraming::Len32),
        2 => (InputFraming::Nul, OutputFraming::Nul),
        3 => (InputFraming::Line, OutputFraming::Line),
        4 => (InputFraming::DumpReceived, OutputFraming::Len32),
        _ => (InputFraming::Block(3), OutputFraming::Raw),
    };
    check_round_trip(input, output, data);
}

/// Checks that frames do not depend on the division of the input, and survive encoding.
fn check_round_trip(input: InputFraming, output: OutputFraming, data: &[u8]) {
    let (frames, error) = decoded(input, data, usize::MAX);
    for step in [1, 3] {
        assert_eq!(decoded(input, data, step), (frames.clone(), error.clone()));
    }
    let mut text = Vec::new();
    for frame in &frames {
        let batch = datagram(frame, None);
        output.encode(&batch, &mut Cursor::default(), &mut text);
    }
    let again = match output {
        OutputFraming::Len16 => InputFraming::Len16,
        OutputFraming::Len32 => InputFraming::Len32,
        OutputFraming::Nul => InputFraming::Nul,
        OutputFraming::Line => InputFraming::Line,
        OutputFraming::Hex => InputFraming::Hex,
        _ => input,
    };
    assert_eq!(decoded(again, &text, usize::MAX), (frames, None));
}

/// Decodes `data` in pieces of `step` bytes; returns the frames and the error.
fn decoded(framing: InputFraming, data: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<String>) {
    let mut decoder = framing.decoder(512, LineEnds::Kept, &Playback::default());
    let mut frames = Frames::new(Boundaries::Kept { limit: 65_507 });
    let mut result = Ok(());
    for mut piece in data.chunks(step.min(data.len()).max(1)) {
        while result.is_ok() && !piece.is_empty() {
            result = decoder.decode(&mut piece, &mut frames);
        }
    }
    let (mut batch, mut found) = (Batch::default(), Vec::new());
    loop {
        frames.flush(&mut batch);
        let mut at = Cursor::default();
        while let Some((_, frame)) = batch.next_chunk(&mut at) {
            found.push(frame.to_vec());
        }
        if result.is_err() || frames.is_empty() && !decoder.has_more() {
            break;
        }
        result = decoder.finish(&mut frames);
    }
    let error = result.err().map(|failure| failure.message);
    assert!(error.as_ref().is_none_or(|error| !error.is_empty()));
    (found, error)
}

/// A record in memory, shared by its clones: one is written, another is read.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Vec<u8>>>);

impl Memory {
    fn sink(&self) -> Sink {
        Sink::memory(self.clone())
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn datagram(bytes: &[u8], flow: Option<Flow>) -> Batch {
    let mut batch = Batch::default();
    batch.space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
    batch.push(Run {
        start: 0,
        len: bytes.len(),
        shape: Shape::Datagrams(bytes.len().max(1)),
        flow,
    });
    batch
}

/// The chunks of a dump survive another dump, at any width, with and without colours.
pub(crate) fn dump(data: &[u8]) {
    let width = data.first().copied().unwrap_or_default().max(1);
    let read = |text: &[u8]| -> Result<Vec<Recorded>, TextError> {
        let mut reader = DumpReader::default();
        let mut chunks = Vec::new();
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            chunks.extend(reader.line(line)?);
        }
        reader.end().map(|()| chunks)
    };
    let Ok(mut chunks) = read(data) else { return };
    // A dump cannot contain other times: the year has four digits.
    let end = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    chunks.retain(|chunk| (UNIX_EPOCH..=end).contains(&chunk.time));
    for palette in [Palette::Plain, Palette::Colored] {
        let memory = Memory::default();
        let form = Form {
            width,
            limit: None,
            palette,
        };
        let mut dump = HexDump::new(memory.sink(), form);
        for chunk in &chunks {
            dump.event(&event(chunk), chunk.time);
        }
        dump.flush().unwrap();
        let mut again = read(&memory.0.borrow()).unwrap();
        assert_eq!(again.len(), chunks.len());
        for (again, chunk) in again.iter_mut().zip(&chunks) {
            // A dump has its own numbers, and times in microseconds.
            again.number = chunk.number;
            let late = chunk.time.duration_since(again.time).unwrap();
            assert!(late < Duration::from_micros(1));
            again.time = chunk.time;
        }
        assert_eq!(again, chunks);
    }
}

fn event(chunk: &Recorded) -> Event<'_> {
    let len = chunk.bytes.len();
    Event::Data(Data {
        direction: chunk.direction,
        flow: &chunk.flow,
        conn: None,
        len,
        shape: if chunk.flow.transport.has_boundaries() {
            Shape::Datagrams(len.max(1))
        } else {
            Shape::Stream
        },
        bytes: Some(&chunk.bytes),
    })
}

/// Dumps of other programs do not depend on the division of the input, and show their bytes exactly in every form.
pub(crate) fn hexdump(data: &[u8]) {
    let whole = decoded(InputFraming::Hexdump, data, usize::MAX);
    assert_eq!(decoded(InputFraming::Hexdump, data, 3), whole);
    if data.is_empty() {
        return;
    }
    for form in 0..6 {
        let text = listing(data, form);
        let found = decoded(InputFraming::Hexdump, text.as_bytes(), usize::MAX);
        assert_eq!(found, (vec![data.to_vec()], None), "{text}");
    }
}

/// Returns a dump in the form of one of several programs.
fn listing(data: &[u8], form: u8) -> String {
    let mut text = String::new();
    for (row, bytes) in data.chunks(16).enumerate() {
        let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let quads: Vec<String> = bytes.chunks(2).map(hex_digits).collect();
        let shown = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        let shown: String = bytes.iter().map(shown).collect();
        let (first, second) = pairs.split_at(pairs.len().min(8));
        let halves = format!("{:23}  {:23}", first.join(" "), second.join(" "));
        let (pairs, quads, offset) = (pairs.join(" "), quads.join(" "), 16 * row);
        let line = match form {
            0 => format!("{offset:08x}  {halves}  |{shown}|"),
            1 => format!("{offset:08x}: {quads:39}  {shown}"),
            2 => format!("{offset:06x} {pairs}"),
            3 => format!("{offset:07} {pairs:47}  >{shown}<"),
            4 => format!("    {offset:08X}  {halves}  {}", shown.trim_end()),
            _ => format!("{offset:07o} {pairs}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// A capture with this payload gives it back, in datagrams and in a stream; any other capture is read or refused.
pub(crate) fn pcap(data: &[u8]) {
    let whole = decoded(InputFraming::Pcap, data, usize::MAX);
    assert_eq!(decoded(InputFraming::Pcap, data, 5), whole);
    if data.is_empty() {
        return;
    }
    for transport in [Transport::Tcp, Transport::Udp] {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port)).into();
        let memory = Memory::default();
        let mut capture = Pcap::new(memory.sink());
        for (number, bytes) in (1_u64..).zip(data.chunks(100)) {
            let chunk = Recorded {
                time: UNIX_EPOCH,
                direction: Direction::Outgoing,
                flow: Flow::new(transport, address(1), address(2)),
                number: number.into(),
                bytes: bytes.to_vec(),
            };
            capture.event(&event(&chunk), chunk.time);
        }
        capture.flush().unwrap();
        let mut file = memory.0.borrow().clone();
        let chunks: Vec<_> = data.chunks(100).map(<[u8]>::to_vec).collect();
        let found = decoded(InputFraming::Pcap, &file, usize::MAX);
        assert_eq!(found, (chunks, None));
        // One damaged byte.
        let at = data.len() * 31 % file.len();
        file[at] ^= data[0];
        let _ = decoded(InputFraming::Pcap, &file, usize::MAX);
    }
}

/// Times and sizes are within their bounds, and survive formatting.
pub(crate) fn numbers(data: &[u8]) {
    let Some((text, _)) = text(data) else { return };
    if let Ok(time) = values::duration(text) {
        assert!(!time.is_zero() && time <= Duration::from_secs(1_000_000_000));
        let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
        let written = format!("{seconds}s {nanos}ns");
        assert_eq!(values::duration(&written).unwrap(), time, "{text:?}");
    }
    if let Ok(size) = values::size(text) {
        assert!(size > 0);
        assert_eq!(values::size(&size.to_string()).unwrap(), size);
        let payload = values::payload(text);
        assert_eq!(payload.is_ok(), size <= 65_527);
        let kernel_size = values::kernel_size(text);
        assert_eq!(kernel_size.is_ok(), i32::try_from(size).is_ok());
    }
    let bits = values::type_of_service(text);
    if let Ok(bits) = bits {
        assert_eq!(values::type_of_service(&bits.to_string()), Ok(bits));
    }
    if let Ok(mark) = values::mark(text) {
        assert_eq!(values::mark(&format!("{mark:#x}")), Ok(mark));
    }
    for error in [values::duration(text).err(), values::size(text).err()] {
        assert!(error.is_none_or(|error| !error.is_empty()));
    }
}

/// A network survives formatting, contains its own addresses, and matches an IPv4 address in both forms.
pub(crate) fn cidr(data: &[u8]) {
    let Some((text, _)) = text(data) else { return };
    let Ok(network) = parse_network(text) else {
        return;
    };
    assert_eq!(parse_network(&network.to_string()), Ok(network));
    let access = Access::new(&[(Verdict::Allowed, Networks::One(network))], &|_| {
        Ok(Vec::new())
    })
    .unwrap();
    for address in [network.addr(), network.network(), network.broadcast()] {
        // A network wider than ::ffff:0:0/96 is an IPv6 network; its mapped addresses are IPv4.
        let is_mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        assert!(access.admits(address) || is_mapped, "{network}");
        if let IpAddr::V4(v4) = address {
            assert!(access.admits(IpAddr::V6(v4.to_ipv6_mapped())));
        }
    }
    let denied = Access::new(&[(Verdict::Denied, Networks::One(network))], &|_| {
        Ok(Vec::new())
    })
    .unwrap();
    for address in [IpAddr::V6(Ipv6Addr::LOCALHOST), network.addr()] {
        assert_ne!(access.admits(address), denied.admits(address));
    }
}

/// Builds a flow and a direction from the first 41 bytes; returns the rest too.
fn conversation(data: &[u8]) -> (Flow, Direction, &[u8]) {
    let (head, rest) = data.split_at(data.len().min(41));
    let mut fixed = [0; 41];
    fixed[..head.len()].copy_from_slice(head);
    let address = |at: usize| -> SocketAddr {
        let ip: [u8; 16] = fixed[at..at + 16].try_into().unwrap();
        let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let (port, scope) = (number(at + 16), number(at + 18));
        match Ipv6Addr::from(ip) {
            ip if scope % 2 == 1 => SocketAddr::new(ip.to_canonical(), port),
            ip => SocketAddrV6::new(ip, port, 0, u32::from(scope)).into(),
        }
    };
    let transport = if fixed[40] & 1 == 0 {
        Transport::Tcp
    } else {
        Transport::Udp
    };
    let direction = if fixed[40] & 2 == 0 {
        Direction::Incoming
    } else {
        Direction::Outgoing
    };
    (
        Flow::new(transport, address(0).into(), address(20).into()),
        direction,
        rest,
    )
}

/// A 4-tuple has one text form, which can be parsed; an IPv4-mapped address is shown as IPv4.
pub(crate) fn tuple(data: &[u8]) {
    let (flow, direction, _) = conversation(data);
    let arrow = match direction {
        Direction::Incoming => "<-",
        Direction::Outgoing => "->",
    };
    for (shown, sign) in [
        (flow.to_string(), "<->"),
        (flow.arrow(direction).to_string(), arrow),
    ] {
        let words: Vec<&str> = shown.split(' ').collect();
        let [transport, local, middle, remote] = words[..] else {
            panic!("not four words: {shown}");
        };
        assert_eq!((transport, middle), (&*flow.transport.to_string(), sign));
        let read = |word: &str| word.parse::<SocketAddr>().unwrap();
        let addresses = (read(local).into(), read(remote).into());
        assert_eq!(addresses, (flow.local.clone(), flow.remote.clone()));
        for address in [read(local), read(remote)] {
            assert_eq!(address.ip(), address.ip().to_canonical(), "{shown}");
        }
    }
}

/// Events and JSON output describe any traffic exactly, one object on each line.
pub(crate) fn events(data: &[u8]) {
    let (flow, direction, bytes) = conversation(data);
    let memory = Memory::default();
    let mut events = Events::new(memory.sink(), Payload::Shown);
    let chunk = Recorded {
        time: SystemTime::UNIX_EPOCH,
        direction,
        flow: flow.clone(),
        number: 1.into(),
        bytes: bytes.to_vec(),
    };
    events.event(&event(&chunk), chunk.time);
    let shown = String::from_utf8_lossy(bytes);
    events.event(&Event::Capped { text: &shown }, chunk.time);
    events.flush().unwrap();
    let mut text = memory.0.borrow().clone();
    if !bytes.is_empty() {
        let batch = datagram(bytes, Some(flow.clone()));
        OutputFraming::Json.encode(&batch, &mut Cursor::default(), &mut text);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(!text.replace('\n', "").contains(char::is_control));
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let digits = hex_digits(bytes);
    let moved = &lines[0];
    assert_eq!(moved["proto"], flow.transport.to_string());
    assert_eq!(moved["local"], flow.local.to_string());
    assert_eq!(moved["remote"], flow.remote.to_string());
    assert_eq!(
        (&moved["bytes"], &moved["payload"]),
        (&bytes.len().into(), &digits.as_str().into())
    );
    if let Some(output) = lines.iter().find(|line| line["hex"].is_string()) {
        assert_eq!(output["hex"], digits);
        let text = std::str::from_utf8(bytes).ok();
        assert_eq!(output["text"].as_str(), text);
    }
}
