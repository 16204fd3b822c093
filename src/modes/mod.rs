//! The four modes: sockets in the order in which their man pages name the calls, then the pump.
//! What the modes share is here; each mode reads as a recipe.

pub mod settings;
pub mod sockets;
