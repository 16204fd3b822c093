//! What a mode sends and how it is cut, and how what it receives is written: the options, fitted to the transport.
//! A stream has no boundaries to keep; a datagram has a size that nothing in it may exceed.

use std::net::SocketAddr;

use crate::cli::{DatagramOptions, DialogueOptions, FramingOptions};
use crate::exit::{Exit, Failure};
use crate::framing::{Boundaries, InputFraming, OutputFraming};
use crate::link::udp::longest_payload;
use crate::local::expect::Step;
use crate::local::stdio::input::{Input, InputFormat};
use crate::sys::inherited::{Inherited, Kind};

/// Bytes of raw input that go together in a stream, where it is not the kernel that moves them.
const PIECE: usize = 64 << 10;

/// What goes in and out of the local end.
#[derive(Clone)]
pub(crate) struct Traffic {
    /// How what arrives is written.
    pub(crate) output: OutputFraming,
    format: InputFormat,
    payload: Payload,
}

/// What is sent.
#[derive(Clone)]
enum Payload {
    /// Standard input.
    Input,
    /// The same, or one empty datagram where that gives nothing.
    Question,
    /// These datagrams, or these pieces of a stream.
    Literal(Vec<Vec<u8>>),
}

impl Traffic {
    /// A stream of bytes.
    pub(crate) fn stream(framing: &FramingOptions) -> Self {
        Self::new(framing, Boundaries::Dropped, PIECE)
    }

    /// Datagrams to or from `address`.
    ///
    /// Errors: [`Exit::Usage`] where a block is larger than such a datagram can be.
    pub(crate) fn datagrams(
        framing: &FramingOptions,
        datagrams: &DatagramOptions,
        address: Option<SocketAddr>,
    ) -> Result<Self, Failure> {
        let limit = longest_payload(address);
        if let InputFraming::Block(size) = framing.input
            && size > limit
        {
            let text = format!("--in block:{size}: a datagram holds at most {limit} bytes here");
            return Err(Failure::new(Exit::Usage, text));
        }
        let size = datagrams.size_towards(address);
        Ok(Self::new(framing, Boundaries::Kept { limit }, size))
    }

    fn new(framing: &FramingOptions, boundaries: Boundaries, size: usize) -> Self {
        Self {
            output: framing.output,
            format: InputFormat {
                framing: framing.input,
                ends: framing.ends(),
                boundaries,
                size,
                pace: framing.pace(),
                timing: framing.timing(),
            },
            payload: Payload::Input,
        }
    }

    /// Sends what `--send` gives in the place of standard input, if nothing is expected in between.
    pub(crate) fn with_literal(self, dialogue: &DialogueOptions) -> Self {
        if dialogue.expects() || dialogue.stdin || !dialogue.sends() {
            return self;
        }
        let frames = dialogue.steps.0.iter().filter_map(|step| match step {
            Step::Send(frame) => Some(frame.clone()),
            Step::Expect(_) => None,
        });
        let payload = Payload::Literal(frames.collect());
        Self { payload, ..self }
    }

    /// Sends an empty datagram where there is nothing to send.
    pub(crate) fn with_question(self) -> Self {
        let payload = match self.payload {
            Payload::Input => Payload::Question,
            other => other,
        };
        Self { payload, ..self }
    }

    /// Whether it has boundaries.
    pub(crate) fn is_datagrams(&self) -> bool {
        matches!(self.format.boundaries, Boundaries::Kept { .. })
    }

    /// What `from`, or what stands for it, gives.
    pub(crate) fn input(&self, from: Option<Inherited>) -> Option<Input> {
        let format = &self.format;
        Some(match (&self.payload, from) {
            (Payload::Literal(frames), _) => Input::literal(frames.clone(), format),
            (_, None) => return None,
            (Payload::Input, Some(from)) => Input::new(from, format),
            // A person at a terminal who has given no question has none.
            (Payload::Question, Some(from)) if from.kind() == Kind::Terminal => {
                Input::literal(vec![Vec::new()], format)
            }
            (Payload::Question, Some(from)) => Input::at_least_one(from, format),
        })
    }
}
