//! Exchange of a few clients with one server, over TCP and over UDP, and the experiments that look at it.
//! Every statement stands beside the check of it.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr};

use anyhow::Result;
use socket2::{Socket, Type};

use super::Step;
use super::scene::{Record, SILENCE, Scene, Server, WAIT_LIMIT, name_of, sink};
use crate::cli::Experiment;
use crate::flow::{Address, Flow};
use crate::pump::Wiring;

/// Sends of each client.
const SENDS: usize = 3;

/// Clients whose datagrams, of 1,000 bytes, any receive buffer holds: the usual one has 208 KiB, and counts 2 KiB for each.
const BUFFERED_CLIENTS: usize = 20;

/// Runs the exchange, and returns the experiments that look at it.
pub(super) fn run(scene: &Scene) -> Result<Vec<Step>> {
    let (mut calls, listener, bound) = calls(scene)?;
    let ports = ports(scene, &listener, &bound)?;
    let tcp = connections(scene, listener)?;
    let udp = datagrams(scene, &bound)?;
    let accepted = tcp.accepted.len() == scene.clients;
    calls.tcp(accepted, "accept()   each client gets a new socket");
    let received = senders(&udp).len() == scene.clients;
    calls.udp(received, "recvmmsg() one socket for all peers");
    Ok(vec![
        calls,
        ports,
        names(scene, name_of(&bound)?, &tcp, &udp),
        boundaries(scene, &tcp, &udp),
        empty(scene, &tcp, &udp),
        end(scene, &tcp, &udp),
    ])
}

/// Opens both servers call by call, on one port number.
fn calls(scene: &Scene) -> io::Result<(Step, Socket, Socket)> {
    let mut step = Step::new(Experiment::Calls, "The calls of a server");
    let listener = scene.socket(Type::STREAM)?;
    let is_nameless = name_of(&listener)?.port() == 0;
    step.tcp(is_nameless, "socket()   it has no address yet");
    listener.bind(&scene.at(0).into())?;
    let name = name_of(&listener)?;
    step.tcp(name.port() != 0, format!("bind()     to {name}"));
    listener.listen(128)?;
    step.tcp(listener.is_listener()?, "listen()   clients can connect");

    let bound = scene.socket(Type::DGRAM)?;
    let is_nameless = name_of(&bound)?.port() == 0;
    step.udp(is_nameless, "socket()   it has no address yet");
    bound.bind(&name.into())?;
    let is_named = name_of(&bound)? == name;
    step.udp(is_named, format!("bind()     to {name}"));
    let is_refused = bound.listen(128).is_err();
    step.udp(is_refused, "listen()   refused: not for UDP");
    Ok((step, listener, bound))
}

fn ports(scene: &Scene, listener: &Socket, bound: &Socket) -> io::Result<Step> {
    let is_taken = |kind, name: SocketAddr| {
        let again = scene.socket(kind)?.bind(&name.into());
        Ok::<_, io::Error>(again.map_err(|error| error.kind()) == Err(ErrorKind::AddrInUse))
    };
    let (tcp, udp) = (name_of(listener)?, name_of(bound)?);
    let (port, are_same) = (tcp.port(), tcp == udp);
    let refused = "a second one is refused: address in use";
    let mut step = Step::new(Experiment::Ports, "One port number");
    step.tcp(are_same, format!("port {port} is bound here"));
    step.tcp(is_taken(Type::STREAM, tcp)?, refused);
    let text = format!("port {port} is bound here as well: another port");
    step.udp(are_same, text);
    step.udp(is_taken(Type::DGRAM, udp)?, refused);
    Ok(step)
}

/// Lets clients connect, send and finish, and then the pump serve them as an echo server.
fn connections(scene: &Scene, listener: Socket) -> Result<Record> {
    let clients = talk(scene, scene.clients, Type::STREAM, name_of(&listener)?)?;
    for client in &clients {
        client.shutdown(Shutdown::Write)?;
    }
    let listener = Server::Listener(listener, clients.len());
    let mut record = scene.pump(listener, Wiring::Echo, WAIT_LIMIT)?;
    for mut client in &clients {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer)?;
        record.answers.push(answer);
    }
    Ok(record)
}

/// Does the same with datagrams. They have no end, so the server takes silence for it.
fn datagrams(scene: &Scene, bound: &Socket) -> Result<Record> {
    let server = name_of(bound)?;
    let receive = || {
        let server = Server::Datagrams(bound.try_clone()?);
        scene.pump(server, sink(), SILENCE)
    };
    let (mut clients, mut record) = (Vec::new(), Record::default());
    while clients.len() < scene.clients {
        let count = BUFFERED_CLIENTS.min(scene.clients - clients.len());
        clients.extend(talk(scene, count, Type::DGRAM, server)?);
        record.received.extend(receive()?.received);
    }
    // Not before, or a client might get the port of an earlier one.
    drop(clients);
    record.received.extend(receive()?.received);
    Ok(record)
}

/// Opens clients that each send the message a few times, and once nothing at all.
fn talk(scene: &Scene, count: usize, kind: Type, server: SocketAddr) -> io::Result<Vec<Socket>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = scene.client(kind, server)?;
        for _ in 0..SENDS {
            client.send(scene.message.as_bytes())?;
        }
        client.send(&[])?;
        clients.push(client);
    }
    Ok(clients)
}

fn names(scene: &Scene, server: SocketAddr, tcp: &Record, udp: &Record) -> Step {
    let count = scene.clients;
    let plural = if count == 1 { "" } else { "s" };
    let mut step = Step::new(Experiment::Names, format!("{count} client{plural}"));

    let accepted = &tcp.accepted;
    let are_distinct = accepted.iter().collect::<HashSet<_>>().len() == count;
    let is_complete = accepted.len() == count && are_distinct;
    let text = format!("{} sockets with the same local port:", count + 1);
    step.tcp(is_complete, text);
    let server = Address::from(server);
    let is_local = |flow: &Flow| flow.local == server;
    if let Some(Flow { local, .. }) = accepted.first() {
        step.tcp(*local == server, format!("{local}   the listening socket"));
    }
    for (number, flow) in accepted.iter().enumerate() {
        let text = format!("{} <-> {}   #{}", flow.local, flow.remote, number + 1);
        step.tcp(is_local(flow), text);
    }
    step.tcp(are_distinct, "only the 4-tuples differ");

    let senders = senders(udp);
    let is_complete = senders.len() == count;
    step.udp(is_complete, "1 socket for the datagrams of all:");
    for flow in senders {
        step.udp(is_local(flow), format!("{} <- {}", flow.local, flow.remote));
    }
    step.udp(is_complete, "only the senders of the datagrams differ");
    step
}

/// Returns the flow of each sender once, in order.
fn senders(udp: &Record) -> Vec<&Flow> {
    let mut seen = HashSet::new();
    let flows = udp.received.iter().map(|(flow, ..)| flow);
    flows.filter(|flow| seen.insert(*flow)).collect()
}

fn boundaries(scene: &Scene, tcp: &Record, udp: &Record) -> Step {
    let len = scene.message.len();
    let reads = |flow: &Flow| -> Vec<usize> {
        let received = tcp.received.iter();
        let own = received.filter(|(other, ..)| other == flow);
        own.map(|&(_, len, _)| len).collect()
    };
    let mut step = Step::new(
        Experiment::Boundaries,
        format!("{SENDS} sends of {len} bytes from each client"),
    );
    let mut accepted = tcp.accepted.iter();
    let all = SENDS * len;
    let are_merged = accepted.all(|flow| reads(flow) == [all]);
    let text = format!("one read of {all} bytes: a stream has no boundaries");
    step.tcp(are_merged, text);
    let (bytes, datagrams) = totals(udp);
    let is_kept = bytes == scene.clients * SENDS * len && datagrams == scene.clients * (SENDS + 1);
    let text = format!("{SENDS} datagrams of {len} bytes: one send is one datagram");
    step.udp(is_kept, text);
    step
}

/// Returns the number of bytes, and that of datagrams.
fn totals(udp: &Record) -> (usize, usize) {
    let received = || udp.received.iter();
    let bytes = received().map(|(_, len, _)| len).sum();
    (bytes, received().map(|(_, _, datagrams)| datagrams).sum())
}

fn empty(scene: &Scene, tcp: &Record, udp: &Record) -> Step {
    let is_empty = |received: &&(Flow, usize, usize)| received.1 == 0;
    let mut step = Step::new(Experiment::Empty, "A send of no bytes");
    let is_none = !tcp.received.iter().any(|read| is_empty(&read));
    step.tcp(is_none, "nothing arrives: there is nothing to send");
    let empties = udp.received.iter().filter(is_empty).count();
    let text = "a datagram of 0 bytes arrives, and it ends nothing";
    step.udp(empties == scene.clients, text);
    step
}

fn end(scene: &Scene, tcp: &Record, udp: &Record) -> Step {
    let mut step = Step::new(Experiment::End, "The end of each client");
    let are_finished = tcp.finished.len() == scene.clients;
    let text = "shutdown() sends FIN: the server reads end of file";
    step.tcp(are_finished, text);
    let said = scene.message.repeat(SENDS).into_bytes();
    let are_answered = tcp.answers.iter().all(|answer| *answer == said);
    let text = "the other direction stays open: half-closed, the server still answers";
    step.tcp(are_answered, text);
    let (_, datagrams) = totals(udp);
    let text = "close() sends nothing: the server sees no end";
    step.udp(datagrams == scene.clients * (SENDS + 1), text);
    step
}
