//! socket, bind, recvfrom: receive from whoever sends, and answer.
//! There is no listen and no accept: one socket serves every peer, and only the sender of each datagram tells them apart.

use std::time::Instant;

use super::children::{Weight, guard};
use super::passed;
use super::session::{Manners, Session, shared};
use super::sockets;
use crate::batch::Shape;
use crate::cli::{BindPoint, UdpBind};
use crate::exit::{Exit, Failure};
use crate::link::udp::{Audience, Settings, Socket};
use crate::pump::Wiring;
use crate::pump::end::Link;
use crate::tap::Event;
use crate::tuple::Transport;

pub(super) fn run(options: &UdpBind, start: Instant) -> anyhow::Result<Exit> {
    let UdpBind {
        address,
        report,
        ends,
        engine,
        datagrams,
        ..
    } = options;
    let (addresses, passed) = match &options.bind {
        BindPoint::At(endpoint) => {
            let addresses = address.resolver(Transport::Udp).bind_addresses(endpoint)?;
            guard(&options.program, &addresses, &options.access)?;
            (addresses, None)
        }
        BindPoint::Passed(name) => {
            let (socket, bound) = passed::datagrams(name.as_deref(), &options.socket)?;
            (vec![bound], Some((socket, bound.reach)))
        }
    };
    let size = datagrams.size_towards(addresses.first().map(|bind| bind.address));
    let shape = Shape::Datagrams(size);
    let access = options.access.access()?;
    let mut session = Session::new((report, ends, engine), Manners::Listens, shape, start)?;
    let children = (options.local.max_children, Weight::Part);
    let children = session.employ(&options.program, ends, children)?;

    let (socket, reach) = match passed {
        Some(passed) => passed,
        None => sockets::receiving(&addresses, &options.socket)?,
    };
    session.note_shortfalls(&socket, &options.socket)?;
    let settings = Settings {
        audience: match children {
            Some(_) => Audience::Named,
            None => Audience::Last,
        },
        wanted: datagrams.count,
        max_bytes: ends.max_bytes,
        access,
        eof_datagram: datagrams.eof_datagram,
        engine: session.rules.engine,
        ..Settings::default()
    };
    let socket = Socket::new(socket, settings)
        .map_err(|error| Failure::io("cannot use the socket", &error))?;
    session.taps.emit(&Event::Bound {
        socket: socket.identity(),
        reach,
    });
    session.ready.announce(socket.identity())?;
    let echo = options.local.echo;
    session.run(Box::new(socket), |stdio| match children {
        Some(children) => children.for_datagrams(size),
        None if echo => Wiring::Echo,
        None => shared(stdio),
    })
}
