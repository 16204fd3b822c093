//! x
//! y
use crate::cli::UdpSendto;
use crate::exit::Exit;
use std::time::Instant;

pub(super) fn run(options: &UdpSendto, start: Instant) -> anyhow::Result<Exit> {
    todo!()
}
