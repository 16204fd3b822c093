//! Endings: a process that is killed, a port that is closed, and what remains of a connection that has ended.
//! TCP tells the peer how a conversation ended, and UDP has nothing that could end.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use socket2::{Socket, Type};

use super::Step;
use super::scene::{SILENCE, Scene, WAIT_LIMIT, name_of, until};
use crate::cli::Experiment;
use crate::exit::describe;
use crate::link::udp;
use crate::sys::tcp_info::tcp_info;

/// Kills processes that hold a client, with everything read and with a message unread.
pub(super) fn killed(scene: &Scene) -> Result<Step> {
    let mut step = Step::new(Experiment::Killed, "A client's process is killed");
    let [read, unread] =
        [Unread::Nothing, Unread::Message].map(|unread| kill_client(scene, Type::STREAM, unread));
    let is_end = matches!(read?, Ok(0));
    let text = "nothing unread: the kernel sends FIN, and the server reads end of file";
    step.tcp(is_end, text);
    let error = unread?.err();
    let reason = error.as_ref().map_or("no error".to_owned(), describe);
    let is_reset = error.is_some_and(|error| error.kind() == ErrorKind::ConnectionReset);
    let text = format!("with data unread: RST, and read fails: {reason}");
    step.tcp(is_reset, text);

    let mut is_silent = true;
    for unread in [Unread::Nothing, Unread::Message] {
        let heard = kill_client(scene, Type::DGRAM, unread)?;
        is_silent &= heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    }
    let time = SILENCE.as_millis();
    let text = format!("with and without unread data: nothing in {time} ms");
    step.udp(is_silent, text);
    Ok(step)
}

/// Data that a client has received and not read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unread {
    Nothing,
    Message,
}

/// Lets a child process hold a client and kills it; returns what the server then reads.
fn kill_client(scene: &Scene, kind: Type, unread: Unread) -> Result<io::Result<usize>> {
    let (server, name) = scene.bound(kind)?;
    let (client, server) = if kind == Type::STREAM {
        server.listen(1)?;
        scene.pair(&server, name)?
    } else {
        let client = scene.client(kind, name)?;
        server.connect(&client.local_addr()?)?;
        server.set_read_timeout(Some(SILENCE))?;
        (client, server)
    };
    let mut space = [MaybeUninit::uninit(); 1];
    if unread == Unread::Message {
        server.send(scene.message.as_bytes())?;
        // It has arrived, and stays unread.
        client.peek(&mut space)?;
    }
    // The child only waits: it reads nothing from standard input, which is the client. No copy of it stays in this process.
    // An empty root has neither /proc nor /dev/null.
    let program = match Path::new("/proc/self/exe") {
        own if own.exists() => own.as_os_str().to_owned(),
        _ => env::args_os().next().context("the program has no name")?,
    };
    let mut child = Command::new(program)
        .args(["udp-bind", "--recv-only", "--timeout", "1m", "0"])
        .stdin(OwnedFd::from(client))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let killed = child.kill().and_then(|()| child.wait())?;
    if killed.signal() != Some(libc::SIGKILL) {
        bail!("a child process ended before it was killed");
    }
    Ok(server.recv(&mut space))
}

/// Calls a port that no socket has.
pub(super) fn absent(scene: &Scene) -> Result<Step> {
    let mut step = Step::new(Experiment::Closed, "A closed port");
    // Bound and given up: most likely no other socket takes the port in the next moment.
    let free = |kind| scene.bound(kind).map(|(_, name)| name);
    let error = scene.client(Type::STREAM, free(Type::STREAM)?).err();
    let reason = error.as_ref().map_or("no error".to_owned(), describe);
    let is_refused = error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    step.tcp(is_refused, format!("connect() fails at once: {reason}"));

    let address = free(Type::DGRAM)?;
    let ask = |socket: &Socket| {
        let sent = socket.send_to(b"anybody?", &address.into());
        let received = socket.recv(&mut [MaybeUninit::uninit(); 1]);
        (sent.is_ok(), received.map_err(|error| error.kind()))
    };
    let plain = scene.socket(Type::DGRAM)?;
    plain.set_read_timeout(Some(SILENCE))?;
    let is_silent = ask(&plain) == (true, Err(ErrorKind::WouldBlock));
    let text = "sendto() succeeds, and no later call reports the ICMP error";
    step.udp(is_silent, text);
    let refused = (true, Err(ErrorKind::ConnectionRefused));
    // The socket of udp-sendto, with its options.
    let asks = scene.socket(Type::DGRAM)?;
    let _link = udp::Socket::new(asks.try_clone()?, udp::Settings::default())?;
    asks.set_nonblocking(false)?;
    asks.set_read_timeout(Some(WAIT_LIMIT))?;
    let option = ["IPV6_RECVERR", "IP_RECVERR"][usize::from(address.is_ipv4())];
    let text = format!(
        "unless it asks ({option}), as udp-sendto does: the next call fails: connection refused"
    );
    step.udp(ask(&asks) == refused, text);
    let connected = scene.client(Type::DGRAM, address)?;
    let text = "a connected socket need not ask: it fails the same way";
    step.udp(ask(&connected) == refused, text);
    Ok(step)
}

/// Closes a connection from either side, and binds the port of the server again.
pub(super) fn time_wait(scene: &Scene) -> Result<Step> {
    let title = "The port after a connection is closed";
    let mut step = Step::new(Experiment::TimeWait, title);
    rebind(scene, &mut step, Side::Server, false)?;
    rebind(scene, &mut step, Side::Server, true)?;
    rebind(scene, &mut step, Side::Client, false)?;
    let (socket, name) = scene.bound(Type::DGRAM)?;
    let is_sent = scene.client(Type::DGRAM, name)?.send(b"x").is_ok();
    drop(socket);
    let is_free = scene.socket(Type::DGRAM)?.bind(&name.into()).is_ok();
    let text = "close() leaves nothing behind: bind() to the port succeeds";
    step.udp(is_sent && is_free, text);
    Ok(step)
}

/// Side of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

/// Closes both sockets of a connection, that of one side first, and binds the server's port again.
fn rebind(scene: &Scene, step: &mut Step, first: Side, reuses: bool) -> Result<()> {
    let open = |address: SocketAddr| {
        let socket = scene.socket(Type::STREAM)?;
        socket.set_reuse_address(reuses)?;
        socket.bind(&address.into()).map(|()| socket)
    };
    let before = overflows();
    let listener = open(scene.at(0))?;
    listener.listen(1)?;
    let port = name_of(&listener)?;
    let (client, server) = scene.pair(&listener, port)?;
    let peer = name_of(&client)?;
    let (who, sockets, names) = match first {
        Side::Server => ("the server", [&server, &client], [port, peer]),
        Side::Client => ("the client", [&client, &server], [peer, port]),
    };
    for (one, other) in [(0, 1), (1, 0)] {
        sockets[one].shutdown(Shutdown::Write)?;
        sockets[other].recv(&mut [MaybeUninit::uninit(); 1])?;
    }
    until(|| tcp_info(sockets[1]).is_some_and(|info| info.state == "CLOSED"))?;
    drop((listener, server, client));
    if overflows() > before && !has_time_wait(names[0], names[1]) {
        let text = "the kernel keeps no TIME-WAIT: its table is full (tcp_max_tw_buckets)";
        step.tcp(true, text);
        return Ok(());
    }
    // Without /proc there is nothing to look at.
    let is_blind = !Path::new("/proc/self/net").exists();
    let is_so = is_blind || has_time_wait(names[0], names[1]) && !has_time_wait(names[1], names[0]);
    let again = open(port).err();
    let refusal = (first == Side::Server && !reuses).then_some(ErrorKind::AddrInUse);
    let is_expected = again.as_ref().map(io::Error::kind) == refusal;
    let option = if reuses { ", with SO_REUSEADDR" } else { "" };
    let result = again.as_ref().map_or("succeeds".to_owned(), describe);
    let text = format!(
        "{who} closes first and is in TIME-WAIT{option}: bind() to the server's port: {result}"
    );
    step.tcp(is_so && is_expected, text);
    Ok(())
}

/// Returns true if the table of the kernel has this 4-tuple in TIME-WAIT (proc(5)).
fn has_time_wait(local: SocketAddr, remote: SocketAddr) -> bool {
    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/self/net/{name}")));
    let [local, remote] = [local, remote].map(|address| format!(":{:04X}", address.port()));
    tables.iter().flatten().flat_map(|table| table.lines()).any(|row| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        matches!(fields[..], [_, from, to, "06", ..] if from.ends_with(&local) && to.ends_with(&remote))
    })
}

/// Returns the number of connections for which the kernel had no room in TIME-WAIT.
fn overflows() -> Option<u64> {
    let table = fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut rows = table.lines().filter(|row| row.starts_with("TcpExt:"));
    let (names, values) = (rows.next()?.split(' '), rows.next()?.split(' '));
    let mut fields = names.zip(values);
    let (_, value) = fields.find(|(name, _)| *name == "TCPTimeWaitOverflow")?;
    value.parse().ok()
}
