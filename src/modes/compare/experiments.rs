//! The experiments: the same thing is done over TCP and over UDP, and what came of it is told.
//! Each text is followed by the check that it stands for; nothing here is a matter of belief.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr};

use socket2::{Socket, Type};

use super::scene::{BOUND, Record, SILENCE, Scene, Server, name_of};
use super::{Statement, Step, absence, state};
use crate::exit::Failure;
use crate::flow::Flow;
use crate::link::udp;
use crate::local::stdio::Stdio;
use crate::pump::Wiring;

/// How often each client says its message.
const SENDS: usize = 3;

/// How many clients' datagrams, of 1,000 bytes, wait in any receive buffer: the usual one has 208 KiB, and counts 2 KiB for each.
const WAITING: usize = 20;

/// All experiments, in the order of a tutorial.
pub(super) fn all(scene: &Scene) -> Result<Vec<Step>, Failure> {
    let failed = |error: io::Error| Failure::io("an experiment failed", &error);
    let (mut calls, listener, bound) = calls(scene).map_err(failed)?;
    let ports = ports(scene, &listener, &bound).map_err(failed)?;
    let tcp = connections(scene, listener)?;
    let udp = datagrams(scene, &bound)?;
    let (accepted, heard) = (tcp.record.accepted.len(), senders(&udp.record).len());
    calls.tcp.push(state(
        accepted == scene.clients,
        "accept()   each client gets a new socket",
    ));
    calls.udp.push(state(
        heard == scene.clients,
        "recvfrom() one socket for everybody",
    ));
    Ok(vec![
        calls,
        ports,
        names(scene, &tcp, &udp),
        borders(scene, &tcp, &udp),
        empty(scene, &tcp, &udp),
        end(scene, &tcp, &udp),
        absence::killed(scene)?,
        absence::nobody(scene).map_err(failed)?,
    ])
}

/// Opens both servers call by call, on one port number.
fn calls(scene: &Scene) -> io::Result<(Step, Socket, Socket)> {
    let listener = scene.socket(Type::STREAM)?;
    let mut tcp = vec![nameless(&listener)?];
    listener.bind(&scene.at(0).into())?;
    let name = name_of(&listener)?;
    tcp.push(state(name.port() != 0, format!("bind()     named {name}")));
    listener.listen(128)?;
    tcp.push(state(
        listener.is_listener()?,
        "listen()   clients may come",
    ));

    let bound = scene.socket(Type::DGRAM)?;
    let mut udp = vec![nameless(&bound)?];
    bound.bind(&name.into())?;
    udp.push(state(
        name_of(&bound)? == name,
        format!("bind()     named {name}"),
    ));
    let refused = bound.listen(128).is_err();
    udp.push(state(refused, "listen()   refused: not for UDP"));

    let title = "The calls it takes to wait for others".to_owned();
    Ok((Step { title, tcp, udp }, listener, bound))
}

fn nameless(socket: &Socket) -> io::Result<Statement> {
    let has_none = name_of(socket)?.port() == 0;
    Ok(state(has_none, "socket()   it has no name yet"))
}

fn ports(scene: &Scene, listener: &Socket, bound: &Socket) -> io::Result<Step> {
    let again = |kind, name: SocketAddr| {
        let taken = scene.socket(kind)?.bind(&name.into());
        let kind = taken.map_err(|error| error.kind());
        Ok::<_, io::Error>(kind == Err(ErrorKind::AddrInUse))
    };
    let (tcp, udp) = (name_of(listener)?, name_of(bound)?);
    let port = tcp.port();
    let both = tcp == udp;
    Ok(Step {
        title: "One port number".to_owned(),
        tcp: vec![
            state(both, format!("port {port} is bound here")),
            state(
                again(Type::STREAM, tcp)?,
                "a second one is refused: address in use",
            ),
        ],
        udp: vec![
            state(
                both,
                format!("port {port} is bound here as well: another port"),
            ),
            state(
                again(Type::DGRAM, udp)?,
                "a second one is refused: address in use",
            ),
        ],
    })
}

/// What came of the clients of one transport.
struct Outcome {
    /// The server's own name.
    server: SocketAddr,
    record: Record,
    /// What each client got back after it had said that it was finished.
    answers: Vec<Vec<u8>>,
}

/// Clients connect, speak, and finish; then the pump, an echo server, gets to work.
fn connections(scene: &Scene, listener: Socket) -> Result<Outcome, Failure> {
    let failed = |error: io::Error| Failure::io("an experiment with TCP failed", &error);
    let server = name_of(&listener).map_err(failed)?;
    let clients = talk(scene, scene.clients, Type::STREAM, server).map_err(failed)?;
    for client in &clients {
        client.shutdown(Shutdown::Write).map_err(failed)?;
    }
    let record = scene.pump(
        Server::Listener(listener, clients.len()),
        Wiring::Echo,
        BOUND,
    )?;
    let mut answers = Vec::new();
    for mut client in &clients {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).map_err(failed)?;
        answers.push(answer);
    }
    Ok(Outcome {
        server,
        record,
        answers,
    })
}

/// The same with datagrams; nobody can say that it is finished, so the server takes silence for the end.
fn datagrams(scene: &Scene, bound: &Socket) -> Result<Outcome, Failure> {
    let failed = |error: io::Error| Failure::io("an experiment with UDP failed", &error);
    let server = name_of(bound).map_err(failed)?;
    let hear = || {
        let socket = bound.try_clone().map_err(failed)?;
        let server = Server::Datagrams(socket, udp::Settings::default());
        let sink = Wiring::Shared(Box::new(Stdio::new(None, None)));
        scene.pump(server, sink, SILENCE)
    };
    let (mut clients, mut record) = (Vec::new(), Record::default());
    while clients.len() < scene.clients {
        let count = WAITING.min(scene.clients - clients.len());
        clients.extend(talk(scene, count, Type::DGRAM, server).map_err(failed)?);
        record.received.extend(hear()?.received);
    }
    // Not before, or a client might get the port of an earlier one.
    drop(clients);
    record.received.extend(hear()?.received);
    Ok(Outcome {
        server,
        record,
        answers: Vec::new(),
    })
}

/// Clients that each send the message a few times, and once nothing at all.
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

fn names(scene: &Scene, tcp: &Outcome, udp: &Outcome) -> Step {
    let accepted = &tcp.record.accepted;
    let local = accepted.first().map(|flow| &flow.local);
    let mut left = vec![state(
        accepted.len() == scene.clients && are_distinct(accepted),
        format!("{} sockets with the same local port:", scene.clients + 1),
    )];
    if let Some(local) = local {
        let text = format!("{local}   the listening socket");
        left.push(state(*local == tcp.server.into(), text));
    }
    for (number, flow) in accepted.iter().enumerate() {
        let text = format!("{} <-> {}   #{}", flow.local, flow.remote, number + 1);
        left.push(state(Some(&flow.local) == local, text));
    }
    left.push(state(
        are_distinct(accepted),
        "only the 4-tuple tells them apart",
    ));

    let senders = senders(&udp.record);
    let local = senders.first().map(|flow| &flow.local);
    let mut right = vec![state(
        senders.len() == scene.clients,
        "1 socket that everything comes to:",
    )];
    for flow in &senders {
        let text = format!("{} <- {}", flow.local, flow.remote);
        right.push(state(Some(&flow.local) == local, text));
    }
    right.push(state(
        are_distinct(&senders),
        "only the sender of each datagram tells them apart",
    ));
    let many = if scene.clients == 1 {
        "client"
    } else {
        "clients"
    };
    Step {
        title: format!("{} {many}", scene.clients),
        tcp: left,
        udp: right,
    }
}

fn are_distinct(flows: &[Flow]) -> bool {
    let unlike_earlier = |(at, flow): (usize, &Flow)| !flows[..at].contains(flow);
    flows.iter().enumerate().all(unlike_earlier)
}

fn senders(record: &Record) -> Vec<Flow> {
    let mut senders = Vec::new();
    for (flow, ..) in &record.received {
        if !senders.contains(flow) {
            senders.push(flow.clone());
        }
    }
    senders
}

fn borders(scene: &Scene, tcp: &Outcome, udp: &Outcome) -> Step {
    let len = scene.message.len();
    let read = |flow: &Flow| -> Vec<usize> {
        let of = tcp
            .record
            .received
            .iter()
            .filter(|(other, ..)| other == flow);
        of.map(|&(_, len, _)| len).collect()
    };
    let merged = tcp
        .record
        .accepted
        .iter()
        .all(|flow| read(flow) == [SENDS * len]);
    let (bytes, count) = totals(&udp.record);
    let kept = bytes == scene.clients * SENDS * len && count == scene.clients * (SENDS + 1);
    Step {
        title: format!("{SENDS} sends of {len} bytes by each"),
        tcp: vec![state(
            merged,
            format!("one read of {} bytes: a stream has no borders", SENDS * len),
        )],
        udp: vec![state(
            kept,
            format!("{SENDS} datagrams of {len} bytes: one send is one datagram"),
        )],
    }
}

/// Bytes and datagrams in all.
fn totals(record: &Record) -> (usize, usize) {
    let add = |(bytes, count): (usize, usize), &(_, len, datagrams): &(Flow, usize, usize)| {
        (bytes + len, count + datagrams)
    };
    record.received.iter().fold((0, 0), add)
}

fn empty(scene: &Scene, tcp: &Outcome, udp: &Outcome) -> Step {
    let nothing = tcp.record.received.iter().all(|&(_, len, _)| len > 0);
    let empties = udp.record.received.iter().filter(|&&(_, len, _)| len == 0);
    Step {
        title: "A send of no bytes".to_owned(),
        tcp: vec![state(nothing, "nothing arrives: there is nothing to send")],
        udp: vec![state(
            empties.count() == scene.clients,
            "a datagram of 0 bytes arrives, and it ends nothing",
        )],
    }
}

fn end(scene: &Scene, tcp: &Outcome, udp: &Outcome) -> Step {
    let said = scene.message.repeat(SENDS).into_bytes();
    let finished = tcp.record.finished.len() == scene.clients;
    let answered = tcp.answers.iter().all(|answer| *answer == said);
    let (_, count) = totals(&udp.record);
    Step {
        title: "Each client has finished".to_owned(),
        tcp: vec![
            state(finished, "shutdown() sends FIN: the server reads the end"),
            state(
                answered,
                "it answers all the same: half-closed, the other direction goes on",
            ),
        ],
        udp: vec![state(
            count == scene.clients * (SENDS + 1),
            "close() sends nothing: the server hears no end",
        )],
    }
}
