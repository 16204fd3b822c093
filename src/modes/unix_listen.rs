//! `unix-listen`: socket, bind, listen, accept. It waits for clients of this machine, and each of them gets a new socket.
//! A path names the listening socket. A client has no name of its own: the kernel reports its process.
//!
//! | call | where it is made |
//! |---|---|
//! | `socket`, `bind`, `listen` | [`listening`], below; the file of a path is that of `sys/socket_file.rs` |
//! | `accept` | [`Listener`], in `link/stream/listener.rs`: what it receives are connections |
//! | `recv`, `send` | [`Connection`](crate::link::stream::Connection), in `link/stream/mod.rs`, as the pump calls it (`pump/lane.rs`) |
//! | `shutdown`: the peer reads the end | the same, at the end of the input (`pump/close.rs`) |
//! | `close` | the same, when both directions have ended (`pump/close.rs`) |

use anyhow::{Context, Result};
use socket2::Socket;

use crate::address::UnixName;
use crate::address::access::Access;
use crate::cli::{NetworkOptions, TcpOptions, UnixListen, UnixPoint};
use crate::exit::Failure;
use crate::flow::Identity;
use crate::link::stream::Listener;
use crate::link::unix::client;
use crate::run::{Observers, Session, Traffic};
use crate::socket::{activation, unix};
use crate::sys::socket_file::SocketFile;
use crate::tap::{Call, Event, Reach, Taps};

pub(super) fn run(options: &UnixListen, observers: Observers<'_>) -> Result<()> {
    let (accept, common, peer_end) = (&options.accept, &options.common, &options.peer_end);
    let transport = options.kind.transport();
    let traffic = (transport, Traffic::of_type(common, &options.kind)?);
    let mut session = Session::accepting(accept, (common, peer_end), traffic, observers)?;
    let sockets = (&NetworkOptions::default(), &TcpOptions::default());
    session.local = session.client_end(accept, sockets)?;
    let settings = session.listener_settings(accept, peer_end, Access::default());
    let (socket, name, file) = match &options.bind.0 {
        UnixPoint::At(name) => {
            let (socket, file) = listening(options, name, session.taps)?;
            (socket, Some(name.address()), file)
        }
        UnixPoint::Passed(name) => {
            let socket = activation::unix(transport, name.as_deref(), &common.buffers)?;
            if !activation::is_listening(&socket, transport)? {
                let remote = client(&socket).context("cannot read who the peer is")?;
                return session.serve_accepted(socket, remote, &settings);
            }
            (socket, None, None)
        }
    };
    session.socket_folder = file.as_ref().and_then(SocketFile::folder);
    session.report_shortfalls(&socket)?;
    let mut listener =
        Listener::new(socket, transport, settings).context("cannot use the listening socket")?;
    listener.rename(name, file);
    session.listen(listener, Reach::Machine)
}

/// Calls `socket`, `bind`, `listen`. [`Listener`] calls `accept`.
fn listening(
    options: &UnixListen,
    name: &UnixName,
    taps: &mut Taps,
) -> Result<(Socket, Option<SocketFile>), Failure> {
    let transport = options.kind.transport();
    let socket = unix::open(transport, &options.common.buffers, taps)?;
    let file = unix::bind(&socket, transport, name, options.file.mode, taps)?;
    let backlog = options.accept.listen.backlog;
    let identity = Identity::Socket(transport, name.address());
    let listening = socket.listen(backlog);
    listening.map_err(|error| Failure::io(format!("cannot listen on {identity}"), &error))?;
    taps.emit(&Event::Called(Call::Listen(
        identity,
        backlog.unsigned_abs(),
    )));
    Ok((socket, file))
}
