//! Traffic of a run: bytes to send, bytes to expect, and the form in which both stand in standard input and output.
//! A stream has no boundaries to keep; a datagram has a size that nothing in it may exceed.

use std::net::SocketAddr;
use std::time::Duration;

use super::session::Side;
use crate::cli::{CommonOptions, DatagramOptions, OnStdinEof, SocketTypeOptions};
use crate::exit::{Exit, Failure};
use crate::framing::{Boundaries, InputFraming, OutputFraming};
use crate::link::udp::longest_payload;
use crate::local::expect::{HalfClose, PeerChoice, Script, StdinUse};
use crate::local::stdio::input::{Input, InputFormat, STREAM_READ_SIZE};
use crate::sys::inherited::{Inherited, Kind};

/// Limit on silence for a client that expects something, where no option gives one.
const EXPECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of input in a datagram of a Unix socket, where no option gives it: as much as other programs read at once.
pub(crate) const UNIX_DATAGRAM_SIZE: usize = 8192;

/// Input, output and dialogue of the local end.
#[derive(Clone)]
pub(crate) struct Traffic {
    /// Form of received bytes on standard output.
    pub(super) output: OutputFraming,
    /// Dialogue with the peer, if there is one.
    pub(super) script: Option<Script>,
    format: InputFormat,
    payload: Payload,
}

/// Bytes to send.
#[derive(Clone)]
pub(crate) enum Payload {
    /// Nothing, beside what a script sends.
    Nothing,
    /// Standard input.
    Stdin,
    /// Standard input, or one empty datagram if that gives nothing.
    Question,
    /// These datagrams, or these parts of a stream.
    Frames(Vec<Vec<u8>>),
}

impl Traffic {
    /// Returns the traffic of a byte stream.
    pub(crate) fn stream(common: &CommonOptions) -> Self {
        Self::new(common, Boundaries::Dropped, STREAM_READ_SIZE)
    }

    /// Returns the traffic of datagrams to or from `address`.
    ///
    /// Errors: [`Exit::Usage`] where a block, or something to send, is larger than such a datagram may be.
    pub(crate) fn datagrams(
        common: &CommonOptions,
        datagrams: &DatagramOptions,
        address: Option<SocketAddr>,
    ) -> Result<Self, Failure> {
        let longest = longest_payload(address);
        let limit = datagrams.datagram_size.unwrap_or(longest).min(longest);
        check_sizes(common, limit)?;
        let size = datagrams.size_towards(address);
        let mut traffic = Self::new(common, Boundaries::Kept { limit }, size);
        if !datagrams.eof_datagram {
            traffic.await_replies_after_input();
        }
        Ok(traffic)
    }

    /// Returns the traffic of packets or datagrams of a Unix socket, which are of `size` bytes at most.
    ///
    /// Errors: as above.
    pub(crate) fn unix(common: &CommonOptions, size: Option<usize>) -> Result<Self, Failure> {
        let limit = size.unwrap_or(usize::MAX);
        check_sizes(common, limit)?;
        let size = size.unwrap_or(UNIX_DATAGRAM_SIZE);
        Ok(Self::new(common, Boundaries::Kept { limit }, size))
    }

    /// Returns the traffic of a Unix socket with connections: of packets, or of a stream.
    ///
    /// Errors: as above.
    pub(crate) fn of_type(
        common: &CommonOptions,
        kind: &SocketTypeOptions,
    ) -> Result<Self, Failure> {
        if kind.seqpacket {
            Self::unix(common, kind.datagram_size)
        } else {
            Ok(Self::stream(common))
        }
    }

    fn new(common: &CommonOptions, boundaries: Boundaries, size: usize) -> Self {
        let framing = &common.framing;
        Self {
            output: framing.output,
            script: script(common),
            format: InputFormat {
                framing: framing.input,
                ends: framing.ends(),
                boundaries,
                size,
                pace: framing.pace(),
                playback: framing.playback(),
            },
            payload: payload(common),
        }
    }

    /// Sends something else where standard input would be sent.
    pub(crate) fn replace_stdin(&mut self, payload: Payload) {
        if matches!(self.payload, Payload::Stdin) {
            self.payload = payload;
        }
    }

    /// Begins the wait for replies at the end of standard input, which ends nothing for a peer of datagrams.
    pub(crate) fn await_replies_after_input(&mut self) {
        if let Some(script) = &mut self.script
            && script.input == StdinUse::DuringScript
        {
            script.half_close = HalfClose::AfterSending;
        }
    }

    /// Holds the dialogue, if there is one, with the first peer that sends what is expected.
    pub(crate) fn choose_first_match(&mut self) {
        if let Some(script) = &mut self.script {
            script.peer = PeerChoice::FirstMatch;
        }
    }

    /// Returns the kind of standard input, if it is read.
    pub(super) fn stdin_kind(&self) -> Option<Kind> {
        let is_read = matches!(self.payload, Payload::Stdin | Payload::Question);
        is_read.then(|| Inherited::stdin().kind())
    }

    /// Opens the input.
    pub(super) fn input(&self) -> Option<Input> {
        let format = &self.format;
        Some(match &self.payload {
            Payload::Nothing => return None,
            Payload::Stdin => Input::new(Inherited::stdin(), format),
            // A person at a terminal who has typed no question has none.
            Payload::Question if self.stdin_kind() == Some(Kind::Terminal) => {
                Input::literal(vec![Vec::new()], format)
            }
            Payload::Question => Input::at_least_one(Inherited::stdin(), format),
            Payload::Frames(frames) => Input::literal(frames.clone(), format),
        })
    }
}

/// Checks that each block, and each datagram of a dialogue, has at most `limit` bytes.
fn check_sizes(common: &CommonOptions, limit: usize) -> Result<(), Failure> {
    if let InputFraming::Block(size) = common.framing.input
        && size > limit
    {
        let text = format!("--in block:{size}: a datagram holds at most {limit} bytes here");
        return Err(Failure::new(Exit::Usage, text));
    }
    let sizes = common.dialogue.frames().map(Vec::len);
    match (1_u64..).zip(sizes).find(|&(_, len)| len > limit) {
        Some((number, len)) => {
            let text = format!(
                "cannot send frame {number}: it has {len} bytes, and a datagram holds at most {limit}"
            );
            Err(Failure::new(Exit::Usage, text))
        }
        None => Ok(()),
    }
}

/// Returns the bytes to send beside a script.
fn payload(common: &CommonOptions) -> Payload {
    let dialogue = &common.dialogue;
    let reads_stdin = dialogue.stdin || !dialogue.sends();
    if reads_stdin && !common.ends.recv_only {
        return Payload::Stdin;
    }
    if reads_stdin || dialogue.expects() {
        return Payload::Nothing;
    }
    Payload::Frames(dialogue.frames().cloned().collect())
}

/// Returns the script, if there is more to it than bytes to send in the place of standard input.
fn script(common: &CommonOptions) -> Option<Script> {
    let dialogue = &common.dialogue;
    let is_needed = dialogue.expects() || dialogue.sends() && dialogue.stdin;
    is_needed.then(|| Script {
        steps: dialogue.steps.0.clone(),
        input: if dialogue.stdin {
            StdinUse::AfterScript
        } else if dialogue.sends() {
            StdinUse::Unused
        } else {
            StdinUse::DuringScript
        },
        half_close: match common.ends.on_stdin_eof {
            Some(OnStdinEof::Shutdown) => HalfClose::AfterSending,
            Some(OnStdinEof::Keep | OnStdinEof::Quit) | None => HalfClose::AfterExpected,
        },
        peer: PeerChoice::Any,
    })
}

/// Returns the limit on silence if no option gives one. A client that expects something has one: the answer may never come.
pub(super) fn default_idle_timeout(common: &CommonOptions, side: Side) -> Option<Duration> {
    let (ends, dialogue) = (&common.ends, &common.dialogue);
    let is_limited = ends.timeout.or(ends.idle_timeout).is_some();
    let waits = dialogue.expects() && !dialogue.stdin;
    (waits && !is_limited && side == Side::Client).then_some(EXPECT_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_client_gives_up_after_some_silence_where_nothing_else_is_said() {
        for (words, limit) in [
            ("--send a --expect b", Some(EXPECT_TIMEOUT)),
            ("--expect b", Some(EXPECT_TIMEOUT)),
            ("--send a", None),
            ("--send a --expect b --stdin", None),
            ("--send a --expect b --timeout 60", None),
            ("--send a --expect b --idle-timeout 60", None),
        ] {
            let line = format!("tuplecat tcp-connect ::1 9 {words}");
            let cli = Cli::read(line.split_whitespace()).unwrap();
            let Command::TcpConnect(options) = cli.command else {
                panic!("not tcp-connect");
            };
            let found = default_idle_timeout(&options.common, Side::Client);
            assert_eq!(found, limit, "{words}");
            assert_eq!(default_idle_timeout(&options.common, Side::Server), None);
        }
    }
}
