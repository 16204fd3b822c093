//! Proxies as a client: the handshake over a connected socket that ends with a tunnel to the target.
//! It never blocks, and reads nothing beyond the last reply: the next byte of the socket is the first of the target.

use std::io::{self, ErrorKind};

use rustix::net::{RecvFlags, recv};
use socket2::Socket;

use crate::address::proxy::{Protocol, Tunnel};
use crate::sys::wait::Interest;

mod http;
mod socks;

/// Length of the longest reply, in bytes. That of an HTTP proxy is a head with any number of fields.
const MAX_REPLY: usize = 8 << 10;

/// Handshake with a proxy: one exchange or several.
pub(super) struct Handshake {
    tunnel: Tunnel,
    exchange: Exchange,
    /// Part of the reply that has come.
    reply: Vec<u8>,
}

/// Request to a proxy, and the meaning of its reply.
struct Exchange {
    /// Part of the request that has not been sent.
    request: Vec<u8>,
    /// Returns the length of the reply that begins with these bytes, once they show it.
    length: fn(&[u8]) -> Option<usize>,
    /// Returns the next exchange, or nothing if the proxy has connected to the target.
    ///
    /// Errors: the refusal in words. Its kind is that of the same end without a proxy.
    after: fn(&[u8], &Tunnel) -> io::Result<Option<Exchange>>,
}

impl Handshake {
    /// Prepares the first request.
    ///
    /// Errors: the protocol has no form for the target or the account.
    pub(super) fn new(tunnel: Tunnel) -> io::Result<Self> {
        let exchange = match tunnel.proxy.protocol {
            Protocol::Socks5 => socks::methods(&tunnel),
            Protocol::Socks4 => socks::connect4(&tunnel)?,
            Protocol::Http => http::connect(&tunnel),
        };
        Ok(Self {
            tunnel,
            exchange,
            reply: Vec::new(),
        })
    }

    /// Returns what to wait for before the next [`Handshake::advance`].
    pub(super) fn interest(&self) -> Interest {
        if self.exchange.request.is_empty() {
            Interest::READ
        } else {
            Interest::WRITE
        }
    }

    /// Goes on as far as the socket allows; returns true once the tunnel is open.
    pub(super) fn advance(&mut self, socket: &Socket) -> io::Result<bool> {
        match self.run(socket) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn run(&mut self, socket: &Socket) -> io::Result<()> {
        loop {
            while !self.exchange.request.is_empty() {
                let sent = socket.send(&self.exchange.request)?;
                self.exchange.request.drain(..sent);
            }
            self.read_reply(socket)?;
            match (self.exchange.after)(&self.reply, &self.tunnel)? {
                Some(next) => self.exchange = next,
                None => return Ok(()),
            }
            self.reply.clear();
        }
    }

    /// Reads until the reply is complete. A look at the bytes (`MSG_PEEK`, recv(2)) shows which of them belong to it.
    fn read_reply(&mut self, socket: &Socket) -> io::Result<()> {
        loop {
            let (before, mut space) = (self.reply.len(), [0; MAX_REPLY]);
            let (seen, _) = recv(socket, &mut space, RecvFlags::PEEK)?;
            self.reply.extend(&space[..seen]);
            let length = (self.exchange.length)(&self.reply).unwrap_or(usize::MAX);
            self.reply.truncate(length);
            let own = self.reply.len() - before;
            recv(socket, &mut space[..own], RecvFlags::empty())?;
            if self.reply.len() == length {
                return Ok(());
            } else if seen == 0 {
                return refuse("the proxy has closed the connection");
            } else if self.reply.len() > MAX_REPLY {
                return refuse(format!(
                    "the proxy's reply is longer than {MAX_REPLY} bytes"
                ));
            }
        }
    }
}

/// Returns a refusal that has no status of its own.
fn refuse<T>(text: impl Into<String>) -> io::Result<T> {
    Err(io::Error::other(text.into()))
}
