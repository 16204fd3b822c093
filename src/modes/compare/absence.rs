//! The experiments with a peer that is not there: killed, or never there at all.
//! A connection is told of both; a datagram socket hears nothing, or an ICMP error for a datagram that is already gone.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::time::Duration;

use socket2::Type;

use super::scene::{BOUND, SILENCE, Scene, Server, name_of};
use super::{Step, state};
use crate::exit::{Failure, describe};
use crate::link::udp;
use crate::local::stdio::Stdio;
use crate::pump::Wiring;

/// A client that dies without a word.
pub(super) fn killed(scene: &Scene) -> Result<Step, Failure> {
    let failed = |error: io::Error| Failure::io("an experiment failed", &error);
    let sink = || Wiring::Shared(Box::new(Stdio::new(None, None)));
    let listener = scene.bound(Type::STREAM).map_err(failed)?;
    listener.listen(1).map_err(failed)?;
    let client = scene
        .client(Type::STREAM, name_of(&listener).map_err(failed)?)
        .map_err(failed)?;
    // As the kernel does for a process that dies with unread data.
    client.set_linger(Some(Duration::ZERO)).map_err(failed)?;
    drop(client);
    let tcp = scene.pump(Server::Listener(listener, 1), sink(), BOUND)?;

    let bound = scene.bound(Type::DGRAM).map_err(failed)?;
    let client = scene
        .client(Type::DGRAM, name_of(&bound).map_err(failed)?)
        .map_err(failed)?;
    drop(client);
    let udp = scene.pump(
        Server::Datagrams(bound, udp::Settings::default()),
        sink(),
        SILENCE,
    )?;
    let reset = tcp
        .broken
        .first()
        .cloned()
        .unwrap_or_else(|| "no error".to_owned());
    Ok(Step {
        title: "A client is killed".to_owned(),
        tcp: vec![state(
            !tcp.broken.is_empty(),
            format!("RST comes, and read fails: {reset}"),
        )],
        udp: vec![state(
            udp.received.is_empty() && udp.broken.is_empty(),
            format!("silence: nothing in {} ms", SILENCE.as_millis()),
        )],
    })
}

/// A port that nobody has.
pub(super) fn nobody(scene: &Scene) -> io::Result<Step> {
    // Bound and given up: most likely nobody else takes the port in the next moment.
    let free = |kind| scene.bound(kind).and_then(|socket| name_of(&socket));
    let refused = scene.client(Type::STREAM, free(Type::STREAM)?).map(|_| ());
    let told = refused
        .as_ref()
        .err()
        .map_or_else(|| "no error".to_owned(), describe);
    let is_refused = refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);

    let address = free(Type::DGRAM)?;
    let open = scene.socket(Type::DGRAM)?;
    let sent = open.send_to(b"anybody?", &address.into()).is_ok();
    open.set_read_timeout(Some(SILENCE))?;
    let mut space = [MaybeUninit::uninit(); 1];
    let heard = open.recv(&mut space).map_err(|error| error.kind());
    let connected = scene.client(Type::DGRAM, address)?;
    let first = connected.send(b"anybody?").is_ok();
    let second = connected.recv(&mut space).map_err(|error| error.kind());
    Ok(Step {
        title: "Nobody is there".to_owned(),
        tcp: vec![state(
            is_refused,
            format!("connect() fails at once: {told}"),
        )],
        udp: vec![
            state(
                sent && heard == Err(ErrorKind::WouldBlock),
                "sendto() succeeds, and nothing is ever heard",
            ),
            state(
                first && second == Err(ErrorKind::ConnectionRefused),
                "on a connected socket the ICMP error fails the next call: connection refused",
            ),
        ],
    })
}
