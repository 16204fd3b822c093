//! Sockets of the internet: opened and bound in the order of the man pages, or passed by a supervisor.
//! Every option is set before `bind`, and what the kernel refuses is an error that names the option.

pub(crate) mod activation;
pub(crate) mod multicast;
pub(crate) mod open;
pub(crate) mod options;
