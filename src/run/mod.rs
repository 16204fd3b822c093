//! Parts of a run that every mode shares: the observers, the session, look-ups, retries and the local end.
//! A mode makes a [`Session`], then its socket, and hands the socket to the session.

mod accept;
mod background;
mod local_end;
mod observers;
mod pending;
mod ready;
mod relay;
mod retry;
mod session;
mod traffic;

pub(crate) use background::{Deadline, wait_for};
pub(crate) use local_end::{ChildScope, LocalEnd, affordable, refuse_exposure};
pub(crate) use observers::{Observers, Start, lines, observe};
pub(crate) use relay::{Route, TargetLeg, datagrams_towards, framing};
pub(crate) use session::{Session, Side};
pub(crate) use traffic::{Payload, Traffic, UNIX_DATAGRAM_SIZE};
