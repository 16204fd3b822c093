//! Parts of a run that all modes share: the session, its observers, and waiting before the pump starts.
//! A mode makes a [`session::Session`], then its socket, and hands the socket to it.

pub(crate) mod background;
pub(crate) mod children;
pub(crate) mod dialogue;
pub(crate) mod observers;
pub(crate) mod ready;
pub(crate) mod responder;
pub(crate) mod retry;
pub(crate) mod session;
pub(crate) mod traffic;
