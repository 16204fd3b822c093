//! Many connections on one local port: the kernel tells them apart by their 4-tuples (RFC 9293, 3.3.2).
//! A port number is no limit to connections, and descriptors and memory are.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use socket2::{Socket, Type};

use super::Step;
use super::scene::{Scene, name_of};
use crate::cli::Experiment;
use crate::exit::describe;
use crate::sys::inherited::allow_descriptors;

/// Connections from one client address: fewer than it has ports of its own for (`ip_local_port_range`, ip(7)).
const PORTS_OF_ADDRESS: usize = 20_000;

/// Descriptors for everything else.
const SPARE_DESCRIPTORS: usize = 100;

/// Opens connections with the same port, at the client and at the server.
pub(super) fn tuples(scene: &Scene) -> Result<Step> {
    let title = "One local port, many connections";
    let mut step = Step::new(Experiment::Tuples, title);
    connect_from_one_port(scene, &mut step)?;
    connect_to_one_port(scene, &mut step)?;
    Ok(step)
}

fn connect_from_one_port(scene: &Scene, step: &mut Step) -> io::Result<()> {
    let (_one, first) = scene.listener(1)?;
    let (_other, second) = scene.listener(1)?;
    let connect = |local: SocketAddr, server: SocketAddr| {
        let socket = scene.socket(Type::STREAM)?;
        socket.set_reuse_address(true)?;
        socket.bind(&local.into())?;
        socket.connect(&server.into())?;
        Ok::<Socket, io::Error>(socket)
    };
    let client = connect(scene.at(0), first)?;
    let local = name_of(&client)?;
    let beside = connect(local, second);
    let port = local.port();
    let text = format!("client port {port} is connected to two servers, with SO_REUSEADDR");
    step.tcp(beside.is_ok(), text);
    let error = connect(local, first).err();
    let reason = error.as_ref().map_or("no error".to_owned(), describe);
    let is_refused = error.is_some_and(|error| error.kind() == ErrorKind::AddrNotAvailable);
    let text = format!("the same 4-tuple a second time is refused: {reason}");
    step.tcp(is_refused, text);
    Ok(())
}

fn connect_to_one_port(scene: &Scene, step: &mut Step) -> io::Result<()> {
    allow_descriptors((2 * scene.connections + SPARE_DESCRIPTORS) as u64);
    let (listener, server) = scene.listener(1)?;
    let connect = |number: usize| {
        let client = scene.socket(Type::STREAM)?;
        // Other addresses of this machine have ports of their own. IPv6 has no others on loopback.
        if let (IpAddr::V4(ip), offset @ 1..) = (scene.ip, number / PORTS_OF_ADDRESS) {
            let ip = Ipv4Addr::from_bits(ip.to_bits() + u32::try_from(offset).unwrap_or(0));
            client.bind(&SocketAddr::from((ip, 0)).into())?;
        }
        client.connect(&server.into())?;
        Ok::<_, io::Error>((client, listener.accept()?))
    };
    let mut end = String::new();
    let pairs = (0..scene.connections).map_while(|number| {
        let pair = connect(number);
        pair.inspect_err(|error| end = format!("; then: {}", describe(error)))
            .ok()
    });
    let pairs: Vec<_> = pairs.collect();
    let peers: HashSet<_> = pairs
        .iter()
        .map(|(_, (_, peer))| peer.as_socket())
        .collect();
    let is_local = |accepted| name_of(accepted).is_ok_and(|local| local == server);
    let are_local = pairs.iter().all(|(_, (accepted, _))| is_local(accepted));
    let (count, port) = (pairs.len(), server.port());
    let text = format!("server port {port} has {count} connections at once: {count} 4-tuples{end}");
    step.tcp(count > 0 && are_local && peers.len() == count, text);
    Ok(())
}
