//! The limit programs: each does one job in the fastest known way, and nothing else.
//! They have no options and no reports, so their speed is the upper bound.

use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Context, bail};
use socket2::SockRef;

use crate::ports::HOST;

mod clients;
mod datagrams;
mod dump;
mod relay;
mod stream;
mod talk;

/// Runs one job: `JOB HOST PORT [SIZE or FILE]`.
pub(crate) fn run(words: &[String]) -> anyhow::Result<()> {
    let [job, _, port, rest @ ..] = words else {
        bail!("limit JOB HOST PORT …");
    };
    let port: u16 = port.parse()?;
    let size = || -> anyhow::Result<usize> { Ok(rest.first().context("SIZE")?.parse()?) };
    match job.as_str() {
        "send" => stream::send(&connect(port)?)?,
        "receive" => stream::receive(&accept(port)?)?,
        "talk" => talk::pump(connect(port)?)?,
        "send-blocks" => datagrams::send_blocks(port, size()?)?,
        "send-messages" => datagrams::send_messages(port, size()?)?,
        "receive-datagrams" => datagrams::receive(port)?,
        "gather" => clients::serve(port, clients::Service::Gather)?,
        "echo" => clients::serve(port, clients::Service::Echo)?,
        "broker" => clients::serve(port, clients::Service::Broker)?,
        "relay" => {
            let client = accept(port)?;
            let target = rest.first().context("TARGET")?.parse()?;
            relay::pass(&client, &connect(target)?)?;
        }
        "dump" => dump::receive(&accept(port)?, Path::new(rest.first().context("FILE")?))?,
        _ => bail!("no limit program does {job}"),
    }
    Ok(())
}

/// Connects without pacing, whatever the system's congestion control is: loopback needs none.
fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((HOST, port))?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_congestion(b"reno")?;
    Ok(stream)
}

fn accept(port: u16) -> io::Result<TcpStream> {
    let (stream, _) = TcpListener::bind((HOST, port))?.accept()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a FIN and waits for that of the peer.
fn finish(mut stream: &TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Writes to standard output without the buffer of the standard library.
fn write_out(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        bytes = &bytes[rustix::io::write(rustix::stdio::stdout(), bytes)?..];
    }
    Ok(())
}
