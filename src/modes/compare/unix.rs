//! Experiment with Unix sockets: the same calls, a name in the place of address and port, and a process as the peer.
//! The names are abstract, so that no file is left.

use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::process;

use super::Step;
use crate::cli::Experiment;
use crate::flow::Address;
use crate::link::unix::client;

/// The most datagrams that are sent to a queue, which any setting of `net.unix.max_dgram_qlen` in use is below.
const MAX_QUEUED: usize = 100_000;

/// Lets a client connect, and another one fill the queue of a receiver.
pub(super) fn compare() -> io::Result<Step> {
    let mut step = Step::new(
        Experiment::Unix,
        "Unix sockets: the same calls on one machine",
    );
    step.columns = ["stream", "datagrams"];
    streams(&mut step)?;
    datagrams(&mut step)?;
    Ok(step)
}

/// Returns a name, and its form in reports.
fn name(kind: &str) -> io::Result<(SocketAddr, String)> {
    let name = format!("tuplecat-{kind}-{}", process::id());
    Ok((SocketAddr::from_abstract_name(&name)?, format!("@{name}")))
}

fn streams(step: &mut Step) -> io::Result<()> {
    let (address, shown) = name("stream")?;
    let listener = UnixListener::bind_addr(&address)?;
    let is_named = listener.local_addr()?.as_abstract_name() == address.as_abstract_name();
    step.tcp(is_named, format!("bind()     to {shown}"));
    let stream = UnixStream::connect_addr(&address)?;
    step.tcp(true, "connect()  succeeds before accept()");
    let (accepted, peer) = listener.accept()?;
    let is_unnamed = peer.is_unnamed() && stream.local_addr()?.is_unnamed();
    step.tcp(is_unnamed, "accept()   the client has no name");
    if let Address::Process(found) = client(&accepted)? {
        let is_own = u32::try_from(found.pid) == Ok(process::id());
        let text = format!("SO_PEERCRED: pid {}, uid {}", found.pid, found.uid);
        step.tcp(is_own, text);
    }
    Ok(())
}

fn datagrams(step: &mut Step) -> io::Result<()> {
    let (address, shown) = name("dgram")?;
    let receiver = UnixDatagram::bind_addr(&address)?;
    step.udp(true, format!("bind()     to {shown}"));
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    receiver.set_nonblocking(true)?;
    let (mut sent, mut arrived, mut is_full) = (0, 0, false);
    while sent < MAX_QUEUED && !is_full {
        match sender.send_to_addr(b"x", &address) {
            Ok(_) => sent += 1,
            Err(error) => is_full = error.kind() == ErrorKind::WouldBlock,
        }
    }
    while receiver.recv(&mut [0]).is_ok() {
        arrived += 1;
    }
    let text = format!("after {sent} unread datagrams the sender has to wait");
    step.udp(is_full, text);
    let text = format!("{arrived} of {sent} arrive: none is lost");
    step.udp(arrived == sent, text);
    Ok(())
}
