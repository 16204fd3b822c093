//! When a run ends: the choices a user has, as plain data.
//! A session is over when both directions have ended; everything here is about what happens while only one has.

use std::time::{Duration, Instant};

/// What to do when the local end has nothing more to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInputEnd {
    /// Tell the peer at once, and go on receiving.
    Finish,
    /// Tell the peer only when it has finished as well, for an end that never had anything to say.
    FinishAfterPeer,
    /// Tell nobody, and go on receiving.
    Keep,
    /// Leave.
    Quit,
}

/// What to do when the peer has nothing more to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPeerEnd {
    /// Leave where nobody would miss it: see [`Rules::after_peer_end`].
    Auto,
    /// Go on sending until the input ends.
    Wait,
    /// Leave.
    Quit,
}

/// Which links get what the shared local end gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputTo {
    /// All.
    All,
    /// The one that came first of those that are there.
    First,
    /// The one that came last.
    Last,
}

/// The limits and choices of one run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// At the end of the input.
    pub on_input_end: OnInputEnd,
    /// At the end of what a peer sends.
    pub on_peer_end: OnPeerEnd,
    /// By which options that can be changed, for people.
    pub peer_end_advice: &'static str,
    /// Who gets the input.
    pub input_to: InputTo,
    /// For how long a link may take nothing of what is sent to it, before it is given up for the sake of the others.
    pub client_timeout: Option<Duration>,
    /// Whether a person types the input.
    pub input_is_terminal: bool,
    /// End when nothing has moved in either direction for so long.
    pub idle_timeout: Option<Duration>,
    /// End at this time, whatever happens, with the limit that it comes from.
    pub deadline: Option<(Instant, Duration)>,
    /// Whether the kernel may move bytes unseen, and wait with epoll; if not, only portable calls are made.
    pub engine: Engine,
}

/// Which calls the pump is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The fastest this kernel has.
    Fast,
    /// Portable ones only: poll, read, write.
    Portable,
}

/// How long an input that has given nothing may hold up the end of a session.
pub const SILENT_INPUT: Duration = Duration::from_secs(5);

/// After how long a person is told what is being waited for.
pub const NOTICE: Duration = Duration::from_secs(1);

/// How long leaving may take to write out what has already arrived.
pub const GRACE: Duration = Duration::from_secs(1);

/// What becomes of a link whose peer has finished while the input is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPeerEnd {
    /// It is closed now.
    Leave,
    /// It is closed after so long, unless the input has given something by then.
    LeaveAfter(Duration),
    /// It stays until the input ends.
    Stay,
}

impl Rules {
    /// Decides about a link whose peer has finished, by whether the input has given anything so far.
    ///
    /// A person at a terminal sees that the peer is gone. A pipe that never gave a byte is most likely only held open by a script
    /// or ssh(1). A producer that has begun is never cut off, however slow it is.
    #[must_use]
    pub fn after_peer_end(&self, input_has_given: bool) -> AfterPeerEnd {
        match self.on_peer_end {
            OnPeerEnd::Quit => AfterPeerEnd::Leave,
            OnPeerEnd::Wait => AfterPeerEnd::Stay,
            OnPeerEnd::Auto if self.input_is_terminal => AfterPeerEnd::Leave,
            OnPeerEnd::Auto if input_has_given => AfterPeerEnd::Stay,
            OnPeerEnd::Auto => AfterPeerEnd::LeaveAfter(SILENT_INPUT),
        }
    }
}

impl AfterPeerEnd {
    /// What a person is told who waits, and how that can be changed.
    #[must_use]
    pub fn notice(self, advice: &str) -> String {
        let until = match self {
            Self::LeaveAfter(limit) => format!(
                "for {} s in all, as it has given nothing so far",
                limit.as_secs()
            ),
            Self::Leave | Self::Stay => "until it ends".to_owned(),
        };
        format!("the peer has finished, standard input has not: waiting {until} ({advice})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(on_peer_end: OnPeerEnd, input_is_terminal: bool) -> Rules {
        Rules {
            on_input_end: OnInputEnd::Finish,
            on_peer_end,
            peer_end_advice: "",
            input_to: InputTo::All,
            client_timeout: None,
            input_is_terminal,
            idle_timeout: None,
            deadline: None,
            engine: Engine::Portable,
        }
    }

    #[test]
    fn a_producer_that_has_begun_is_never_cut_off() {
        let auto = rules(OnPeerEnd::Auto, false);
        assert_eq!(auto.after_peer_end(true), AfterPeerEnd::Stay);
        assert_eq!(
            auto.after_peer_end(false),
            AfterPeerEnd::LeaveAfter(SILENT_INPUT)
        );
        assert_eq!(
            rules(OnPeerEnd::Auto, true).after_peer_end(true),
            AfterPeerEnd::Leave
        );
    }

    #[test]
    fn a_choice_is_kept_whatever_the_input_is() {
        assert_eq!(
            rules(OnPeerEnd::Wait, true).after_peer_end(false),
            AfterPeerEnd::Stay
        );
        assert_eq!(
            rules(OnPeerEnd::Quit, false).after_peer_end(true),
            AfterPeerEnd::Leave
        );
    }
}
