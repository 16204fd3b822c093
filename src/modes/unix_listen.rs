//! `unix-listen`: socket, bind, listen, accept. It waits for clients of this machine, and each of them gets a new socket.
//! A path names the listening socket. A client has no name of its own: the kernel reports its process.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, `bind`, `listen` | [`unix`], called below; the file of a path is that of `sys/socket_file.rs` |
//! | `accept` | [`Listener`], in `link/stream/listener.rs`: what it receives are connections |
//! | `recv`, `send` | [`Connection`](crate::link::stream::Connection), in `link/stream/mod.rs`, as the pump calls it (`pump/lane.rs`) |
//! | `shutdown`: the peer reads the end | the same, at the end of the input (`pump/close.rs`) |
//! | `close` | the same, when both directions have ended (`pump/close.rs`) |

use anyhow::{Context, Result};

use super::tcp_listen;
use crate::address::access::Access;
use crate::cli::{NetworkOptions, TcpOptions, UnixListen, UnixPoint};
use crate::link::stream::Listener;
use crate::link::unix::client;
use crate::pump::end::Link;
use crate::run::{Observers, Traffic};
use crate::socket::activation;
use crate::socket::unix;
use crate::sys::socket_file::SocketFile;
use crate::tap::{Event, Reach};

pub(super) fn run(options: &UnixListen, observers: Observers<'_>) -> Result<()> {
    let (accepting, transport) = (options.accepting(), options.kind.transport());
    let mut session = tcp_listen::session(accepting, observers);
    if options.kind.seqpacket {
        session.traffic = Traffic::unix(&options.common, options.kind.datagram_size)?;
    }
    session.proxy = options.connect.proxy()?;
    let ways = (&options.relay, &options.connect, &options.retry);
    let (network, tcp) = (NetworkOptions::default(), TcpOptions::default());
    session.local = match tcp_listen::relay(&session, transport, ways, (&network, &tcp))? {
        Some(relay) => relay,
        None => tcp_listen::local_end(accepting)?,
    };
    let settings = tcp_listen::settings(accepting, Access::default());
    let (socket, name, file) = match &options.bind.0 {
        UnixPoint::At(name) => {
            let (socket, file) = unix::listening(options, name, session.taps)?;
            (socket, Some(name.address()), file)
        }
        UnixPoint::Passed(name) => {
            let buffers = &options.common.buffers;
            let socket = activation::unix(transport, name.as_deref(), buffers)?;
            if !activation::is_listening(&socket, transport)? {
                let remote = client(&socket).context("cannot read who the peer is")?;
                let peer = (transport, remote);
                return tcp_listen::serve_accepted(session, socket, peer, &settings);
            }
            (socket, None, None)
        }
    };
    session.is_unix = true;
    session.socket_folder = file.as_ref().and_then(SocketFile::folder);
    session.report_shortfalls(&socket)?;
    let mut listener =
        Listener::new(socket, transport, settings).context("cannot use the listening socket")?;
    listener.rename(name, file);
    let identity = listener.identity();
    session.taps.emit(&Event::Listening {
        socket: &identity,
        reach: Reach::Machine,
    });
    session.announce(&identity)?;
    session.listen(Box::new(listener))
}
