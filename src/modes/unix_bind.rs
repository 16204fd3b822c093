//! `unix-bind`: socket, bind, recvfrom. It receives from every program of this machine that may send there, and answers.
//! One socket serves every peer: each datagram brings the name of its sender, if it has one, and its process.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, `bind` | [`unix`], called below |
//! | `recvfrom`: recvmsg(2) | [`Datagrams`], in `link/unix/datagrams.rs`, whenever the pump finds it ready |
//! | `sendto` | the same; a receiver whose queue is full is waited for |
//! | `close` | when a limit or a signal ends the run (`pump/close.rs`): it sends nothing |

use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::{Context, Result};

use crate::cli::{ReplyTo, UnixBind, UnixPoint};
use crate::flow::{Address, Transport};
use crate::link::udp::{self, Accepts};
use crate::link::unix::{Audience, Datagrams};
use crate::run::{ChildScope, LocalEnd, Observers, Session, Side, Traffic, UNIX_DATAGRAM_SIZE};
use crate::socket::{activation, unix};
use crate::sys::socket_file::{PathAddress, SocketFile};
use crate::tap::Reach;

pub(super) fn run(options: &UnixBind, observers: Observers<'_>) -> Result<()> {
    let (common, datagrams, transport) =
        (&options.common, &options.datagrams, Transport::UnixDatagram);
    let mut traffic = Traffic::unix(common, datagrams.datagram_size)?;
    if options.peers.reply_to.is_none() && common.dialogue.sends() {
        traffic.choose_first_match();
    }
    let mut session = Session::new(common, (Side::Receiver, transport), traffic, observers);
    let size = datagrams.datagram_size.unwrap_or(UNIX_DATAGRAM_SIZE);
    let children = (options.server.max_children, ChildScope::Datagram(size));
    session.local = LocalEnd::of_server(common, &options.server, children, usize::MAX)?;
    let audience = audience(options, &session)?;
    let (socket, name, file) = match &options.bind.0 {
        UnixPoint::At(name) => {
            let socket = unix::open(transport, &common.buffers, session.taps)?;
            let file = unix::bind(&socket, transport, name, options.file.mode, session.taps)?;
            (socket, name.address(), file)
        }
        UnixPoint::Passed(name) => {
            let socket = activation::unix(transport, name.as_deref(), &common.buffers)?;
            let name = rustix::net::getsockname(socket.as_fd())?;
            (socket, Address::try_from(name)?, None)
        }
    };
    session.socket_folder = file.as_ref().and_then(SocketFile::folder);
    session.report_shortfalls(&socket)?;
    let settings = udp::Settings {
        accepts: Accepts::all_or_first(options.peers.lock_first),
        max_peers: options.peers.max_peers.try_into().ok(),
        eof_datagram: datagrams.eof_datagram,
        wanted: datagrams.count,
        max_bytes: common.ends.max_bytes,
        ..udp::Settings::default()
    };
    let socket = Datagrams::new(socket, (name, file), audience, settings);
    let socket = socket.context("cannot use the socket")?;
    session.receive(Box::new(socket), Reach::Machine)
}

/// Returns the peers that standard input goes to.
fn audience(options: &UnixBind, session: &Session<'_>) -> Result<Audience> {
    Ok(match &options.peers.reply_to {
        _ if session.local.replaces_stdin() => Audience::Named,
        None | Some(ReplyTo::Last) => Audience::Last,
        Some(ReplyTo::First) => Audience::First,
        Some(ReplyTo::All) => Audience::All,
        Some(ReplyTo::None) => Audience::None,
        Some(ReplyTo::Address(name)) => {
            let address = PathAddress::new(name.path()).context("--reply-to")?;
            Audience::Target((name.address(), Some(Rc::new(address))))
        }
    })
}
