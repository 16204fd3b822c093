//! Rules of a run: the choices and limits a user has, as plain data.
//! A session is over when both directions have ended; most of these say what happens while only one has.

use std::fmt;
use std::time::{Duration, Instant};

/// Action at the end of what the local end sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInputEnd {
    /// Finish the direction at once, and go on receiving.
    #[default]
    Finish,
    /// Finish the direction only when the peer has finished too, for an end that never had anything to send.
    FinishAfterPeer,
    /// Finish it when the peer has finished or is silent: for [`MUTE_TIME`] at first, for [`SILENT_TIME`] once something has come.
    ///
    /// A server that waits for the FIN then gets it, and one that takes an early FIN for the end of everything does not.
    FinishWhenSilent,
    /// Finish nothing, and go on receiving.
    Keep,
    /// Finish, and leave after this time.
    Quit(Duration),
}

/// Action at the end of what the peer sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPeerEnd {
    /// Leave where the rest of the input is not needed: see [`Rules::after_peer_end`].
    #[default]
    Auto,
    /// Go on sending until the input ends.
    Wait,
    /// Leave.
    Quit,
}

/// Meaning of a silence as long as the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnIdle {
    /// A failure.
    #[default]
    Fail,
    /// The end that was waited for.
    Done,
}

/// Links that get what the shared local end gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputTo {
    /// All.
    #[default]
    All,
    /// The one that came first of those that are there.
    First,
    /// The one that came last.
    Last,
}

/// Limits and choices of one run. There are no limits by default.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Action at the end of the input.
    pub on_input_end: OnInputEnd,
    /// Action at the end of what a peer sends.
    pub on_peer_end: OnPeerEnd,
    /// Links that get the input.
    pub input_to: InputTo,
    /// Time for which a link may take nothing of what is sent to it, before it is closed for the sake of the others.
    pub client_timeout: Option<Duration>,
    /// True if the input is typed.
    pub input_is_terminal: bool,
    /// Time without a byte in either direction after which the run ends.
    pub idle_timeout: Option<Duration>,
    /// Meaning of that end.
    pub on_idle: OnIdle,
    /// True if that time begins when something has come over a link.
    pub idle_from_first: bool,
    /// Time at which the run ends, and the limit that it comes from.
    pub deadline: Option<(Instant, Duration)>,
    /// Calls that are used.
    pub engine: Engine,
    /// Words for messages.
    pub words: Words,
}

/// Names of the rules, as the messages of a run call them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words {
    /// Option that sets [`Rules::client_timeout`].
    pub client_timeout: &'static str,
    /// Option that sets [`Rules::idle_timeout`].
    pub idle_timeout: &'static str,
    /// Option that sets [`Rules::deadline`].
    pub deadline: &'static str,
    /// Words for a link that comes after the end of the input.
    pub input_is_over: &'static str,
    /// Words while a link waits for the end of the input, without the time.
    pub input_still_open: &'static str,
    /// Advice that follows them: the option that changes the length of the wait.
    pub input_still_open_advice: &'static str,
}

/// Calls that the pump is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The fastest of this kernel: bytes may be spliced.
    #[default]
    Fast,
    /// Portable ones only: read and write.
    Portable,
}

/// Time without a first byte after which the peer is silent: it waits for the FIN.
pub const MUTE_TIME: Duration = Duration::from_secs(1);

/// Time without another byte after which the peer is silent.
pub const SILENT_TIME: Duration = Duration::from_secs(5);

/// Time for which an input that has given nothing may hold up the end of a session.
pub const SILENT_INPUT_TIME: Duration = Duration::from_secs(5);

/// Time after which is reported what is being waited for.
pub const WAIT_REPORT_TIME: Duration = Duration::from_secs(1);

/// Time that leaving may take to write out what has already arrived.
pub const LEAVE_TIME: Duration = Duration::from_secs(1);

/// Action for a link whose peer has finished while the input is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPeerEnd {
    /// Close it now.
    Leave,
    /// Close it after this time, unless the input has given something by then.
    LeaveAfter(Duration),
    /// Keep it until the input ends.
    Stay,
}

impl Rules {
    /// Decides about a link whose peer has finished, by whether the input has given anything so far.
    ///
    /// At a terminal the user sees that the peer is gone. A pipe that never gave a byte is most likely only held open by a script
    /// or ssh(1). A producer that has begun is never cut off, however slow it is.
    pub fn after_peer_end(&self, input_has_given: bool) -> AfterPeerEnd {
        match self.on_peer_end {
            OnPeerEnd::Quit => AfterPeerEnd::Leave,
            OnPeerEnd::Wait => AfterPeerEnd::Stay,
            OnPeerEnd::Auto if self.input_is_terminal => AfterPeerEnd::Leave,
            OnPeerEnd::Auto if input_has_given => AfterPeerEnd::Stay,
            OnPeerEnd::Auto => AfterPeerEnd::LeaveAfter(SILENT_INPUT_TIME),
        }
    }
}

impl Words {
    /// Returns the report that a link waits for the end of the input, as long as `after` says.
    pub fn waiting(&self, after: AfterPeerEnd) -> String {
        let until = match after {
            AfterPeerEnd::LeaveAfter(limit) => {
                let limit = Seconds(limit);
                format!("for {limit} in all, as it has given nothing so far")
            }
            AfterPeerEnd::Leave | AfterPeerEnd::Stay => "until it ends".to_owned(),
        };
        let (text, advice) = (self.input_still_open, self.input_still_open_advice);
        format!("{text}: waiting {until} ({advice})")
    }
}

/// Time as messages show it, such as `1.5 s`.
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(on_peer_end: OnPeerEnd, input_is_terminal: bool) -> Rules {
        Rules {
            on_peer_end,
            input_is_terminal,
            ..crate::pump::tests::rules()
        }
    }

    #[test]
    fn a_producer_that_has_begun_is_never_cut_off() {
        let auto = rules(OnPeerEnd::Auto, false);
        let silent = AfterPeerEnd::LeaveAfter(SILENT_INPUT_TIME);
        assert_eq!(auto.after_peer_end(true), AfterPeerEnd::Stay);
        assert_eq!(auto.after_peer_end(false), silent);
        let typed = rules(OnPeerEnd::Auto, true);
        assert_eq!(typed.after_peer_end(true), AfterPeerEnd::Leave);
    }

    #[test]
    fn a_choice_is_kept_whatever_the_input_is() {
        let wait = rules(OnPeerEnd::Wait, true);
        assert_eq!(wait.after_peer_end(false), AfterPeerEnd::Stay);
        let quit = rules(OnPeerEnd::Quit, false);
        assert_eq!(quit.after_peer_end(true), AfterPeerEnd::Leave);
    }
}
