//! The harness of the tests that run the real binary: start it, wait for it, feed it, read what it writes.
//! Every wait is for an event and has a bound. No port is fixed, and no process outlives its test.

use std::time::Duration;

mod capture;
mod children;
mod faults;
mod files;
mod isolation;
mod launch;
mod namespace;
mod net;
mod place;
mod proxy;
mod recipe;
mod running;
mod schema;
mod servers;
mod sides;
mod socket;
mod tools;
mod transports;
mod usage;

pub(crate) use capture::Capture;
pub(crate) use children::*;
pub(crate) use faults::{Faults, has_faults, has_strace};
pub(crate) use files::{bytes, fifo, push, read_side, terminal, with_text, write_side};
pub(crate) use isolation::in_own_process;
pub(crate) use launch::{Input, Launch, Output, is_installed, program, skip, tuplecat};
pub(crate) use namespace::Namespace;
pub(crate) use net::*;
pub(crate) use place::*;
pub(crate) use proxy::*;
pub(crate) use recipe::{recipe, script};
pub(crate) use running::{Done, Running, nothing_uncounted, number_before};
pub(crate) use schema::Schema;
pub(crate) use servers::{Server, dnsmasq, nginx, redis};
pub(crate) use sides::{SIDES, Side, meet, meet_with};
pub(crate) use socket::sockets_of;
pub(crate) use tools::{Tool, listening, with_each_tool};
pub(crate) use transports::{both, each, meets, speaks, tuple, waits};
pub(crate) use usage::*;

/// The bound on every wait. It passes only if something is wrong, not if the machine is busy.
pub(crate) const BOUND: Duration = Duration::from_mins(1);
