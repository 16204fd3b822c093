//! `tcp-listen`: socket, bind, listen, accept. It waits for clients, and each of them gets a new socket.
//! The listening socket is named by its address alone; a client's socket has the same one, and only its 4-tuple is its own.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, `bind`, `listen` | [`open::listening`], called below |
//! | `accept` | [`Listener`], in `link/stream/listener.rs`: what it receives are connections |
//! | `recv`, `send` | [`Connection`], in `link/stream/mod.rs`, as the pump calls it (`pump/lane.rs`); or splice(2), where no tap sees the bytes (`pump/splice.rs`) |
//! | `shutdown`: sends the FIN | the same, at the end of the input (`pump/close.rs`) |
//! | `close` | the same, when both directions have ended (`pump/close.rs`) |

use anyhow::{Context, Result};

use crate::address::BindAddress;
use crate::address::access::Access;
use crate::cli::{BindPoint, TcpListen};
use crate::exit::{Exit, Failure};
use crate::flow::Transport;
use crate::link::stream::Listener;
use crate::run::{Observers, Session, Traffic, refuse_exposure};
use crate::socket::activation::{self, Stream};
use crate::socket::open;

pub(super) fn run(options: &TcpListen, observers: Observers<'_>) -> Result<()> {
    let (accept, common, peer_end) = (&options.accept, &options.common, &options.peer_end);
    let traffic = (Transport::Tcp, Traffic::stream(common));
    let mut session = Session::accepting(accept, (common, peer_end), traffic, observers)?;
    session.address = options.network.address;
    let access = session.access(&options.access)?;
    let place = place(options, &session, &access)?;
    session.local = session.client_end(accept, (&options.network, &options.tcp))?;
    let settings = session.listener_settings(accept, peer_end, access);
    let (socket, reach) = match place {
        Place::Addresses(addresses) => open::listening(&addresses, options, session.taps)?,
        Place::Passed(Stream::Listening(socket, reach)) => (socket, reach),
        Place::Passed(Stream::Connected(socket, remote)) => {
            return session.serve_accepted(socket, remote, &settings);
        }
    };
    session.report_shortfalls(&socket)?;
    let listener = Listener::new(socket, Transport::Tcp, settings)
        .context("cannot use the listening socket")?;
    session.listen(listener, reach)
}

/// Place to listen at.
enum Place {
    /// The first of these that this machine has.
    Addresses(Vec<BindAddress>),
    /// A socket that was passed.
    Passed(Stream),
}

fn place(options: &TcpListen, session: &Session<'_>, access: &Access) -> Result<Place> {
    let endpoint = match &options.bind.0 {
        BindPoint::At(endpoint) => endpoint,
        BindPoint::Passed(name) => {
            let passed = activation::stream(name.as_deref(), options)?;
            if options.accept.clients.keep_open && matches!(passed, Stream::Connected(..)) {
                let text =
                    "-k takes a socket that listens; systemd passes one connection (Accept=yes)";
                return Err(Failure::new(Exit::Usage, text).into());
            }
            return Ok(Place::Passed(passed));
        }
    };
    let addresses = session.bind_addresses(endpoint)?;
    let use_of = (&options.common.program, options.accept.relay.to.as_ref());
    refuse_exposure(session, use_of, access, (&endpoint.host, &addresses))?;
    Ok(Place::Addresses(addresses))
}
