//! x
//! y
use crate::cli::UdpBind;
use crate::exit::Exit;
use std::time::Instant;

pub(super) fn run(options: &UdpBind, start: Instant) -> anyhow::Result<Exit> {
    todo!()
}
