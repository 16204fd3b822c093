//! `unix-sendto`: socket, sendto. It speaks first, to a socket of this machine that a path or an abstract name names.
//! The kernel gives it a name of its own, so that it can be answered, and connects it: only the target may answer.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, `bind` | [`unix`], called below; without `--source` the kernel chooses an abstract name |
//! | `connect`, without `--from any` | [`unix::set_peer`], called below: it sends nothing |
//! | `sendto`, `recvfrom`: recvmsg(2) | [`Datagrams`], in `link/unix/datagrams.rs`, as the pump calls it |
//! | `close` | when replies have stopped coming (`pump/close.rs`): it sends nothing |

use std::rc::Rc;

use anyhow::{Context, Result};

use super::udp_sendto::{reply_timeout, reply_timer};
use crate::cli::{FromPolicy, UnixSendto};
use crate::flow::Transport;
use crate::link::udp;
use crate::link::unix::{Audience, Datagrams};
use crate::pump::end::Link;
use crate::run::{
    ChildScope, Deadline, LocalEnd, Observers, Session, Side, Traffic, UNIX_DATAGRAM_SIZE,
};
use crate::socket::unix;
use crate::sys::socket_file::{PathAddress, SocketFile};

pub(super) fn run(options: &UnixSendto, observers: Observers<'_>) -> Result<()> {
    let mut traffic = Traffic::unix(&options.common, options.datagrams.datagram_size)?;
    if !options.datagrams.eof_datagram {
        traffic.await_replies_after_input();
    }
    let side = (Side::Sender, Transport::UnixDatagram);
    let mut session = Session::new(&options.common, side, traffic, observers);
    // The next attempt makes another socket.
    session.is_sandboxed &= options.retry.retry_for.is_none();
    session.local = LocalEnd::of_client(&options.common)?;
    session.retry(&options.retry, |session, deadline| {
        exchange(options, session, deadline)
    })
}

/// Sends everything once, and waits for what comes back.
fn exchange(
    options: &UnixSendto,
    session: &mut Session<'_>,
    deadline: Option<Deadline>,
) -> Result<()> {
    let (common, sendto, transport) = (&options.common, &options.sendto, Transport::UnixDatagram);
    let target = &options.target.0;
    let socket = unix::open(transport, &common.buffers, session.taps)?;
    let (name, file) = match &sendto.source {
        Some(name) => {
            let file = unix::bind(&socket, transport, name, None, session.taps)?;
            (name.address(), file)
        }
        None => (unix::autobind(&socket, session.taps)?, None),
    };
    let address = if sendto.from == Some(FromPolicy::Any) {
        let address = PathAddress::new(target.path()).context("cannot send")?;
        Some(Rc::new(address))
    } else {
        unix::set_peer(&socket, target)?;
        None
    };
    session.socket_folder = file.as_ref().and_then(SocketFile::folder);
    session.report_shortfalls(&socket)?;
    let audience = Audience::Target((target.address(), address));
    let settings = udp::Settings {
        eof_datagram: options.datagrams.eof_datagram,
        wanted: options.reply.replies.or(options.datagrams.count),
        max_bytes: common.ends.max_bytes,
        reply_timeout: reply_timeout(common, &options.reply, deadline),
        reply_timer: reply_timer(common),
        ..udp::Settings::default()
    };
    let socket = Datagrams::new(socket, (name, file), audience, settings);
    let socket = socket.context("cannot use the socket")?;
    session.announce(&socket.identity())?;
    if let (LocalEnd::Children(children), Some(flow)) = (&mut session.local, socket.flow()) {
        let size = options
            .datagrams
            .datagram_size
            .unwrap_or(UNIX_DATAGRAM_SIZE);
        children.scope = ChildScope::OnlyPeer(flow, size);
    }
    session.run(Box::new(socket))
}
