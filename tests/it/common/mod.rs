//! The harness of the tests that drive the real binary: start it, wait for it, feed it, read what it wrote.
//! Every wait is for an event and has a bound; nothing sleeps and hopes, no port is fixed, no process outlives its test.

use std::time::Duration;

mod both;
mod capture;
mod children;
mod faulty;
mod figures;
mod files;
mod isolation;
mod launch;
mod namespace;
mod net;
mod recipe;
mod running;
mod schema;
mod servers;
mod sides;
mod socket;
mod tools;

pub(crate) use both::{both, speaks, tuple, waits};
pub(crate) use capture::Capture;
pub(crate) use children::*;
pub(crate) use faulty::{Faults, has_faults, has_strace};
pub(crate) use figures::*;
pub(crate) use files::{bytes, fifo, push, read_side, terminal, with_text, write_side};
pub(crate) use isolation::in_own_process;
pub(crate) use launch::{Input, Launch, Output, is_installed, program, skip, tuplecat};
pub(crate) use namespace::Namespace;
pub(crate) use net::*;
pub(crate) use recipe::{recipe, script};
pub(crate) use running::{Done, Running, nothing_uncounted, number_before};
pub(crate) use schema::Schema;
pub(crate) use servers::{Server, dnsmasq, nginx, redis};
pub(crate) use sides::{SIDES, Side, meet, meet_with};
pub(crate) use socket::sockets_of;
pub(crate) use tools::{Tool, listening, with_each_tool};

/// The bound on every wait. It only passes where something is wrong, not where a machine is busy.
pub(crate) const BOUND: Duration = Duration::from_mins(1);
