//! The two programs of every sockets tutorial, each against a TCP mode.
//! The server greets one client and closes; the client connects and reads once.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::common::*;

/// The greeting, with the NUL that a C program sends along with its string.
const GREETING: &[u8; 12] = b"Hello world\0";

/// Greets one client: socket, bind, listen, accept, write, close.
fn greet_one_client(listener: &TcpListener) -> io::Result<()> {
    let (mut client, _) = listener.accept()?;
    client.write_all(GREETING)
}

/// Reads once from a server: socket, connect, read, close.
fn read_once(server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(server)?;
    socket.set_read_timeout(Some(BOUND))?;
    let mut buffer = [0; 256];
    let count = socket.read(&mut buffer)?;
    Ok(buffer[..count].to_vec())
}

#[test]
fn the_client_mode_prints_what_the_tutorial_server_writes() {
    // With any standard input: none, an open one, or more than the server reads.
    for input in [Input::Null, Input::Closed, Input::Held] {
        let (listener, address) = listen();
        let server = thread::spawn(move || greet_one_client(&listener));
        let client = tuplecat("tcp-connect --on-peer-eof quit").to(address);
        let done = client.stdin(input).run().exits(0);
        assert_eq!(done.out, GREETING);
        assert!(done.line("closed").contains("in 12 B, out 0 B"));
        server.join().unwrap().unwrap();
    }
}

#[test]
fn the_listen_mode_greets_the_tutorial_client() {
    let server = tuplecat("tcp-listen 0").says(GREETING).start();
    assert_eq!(read_once(server.ready()).unwrap(), GREETING);
    let done = server.wait().exits(0);
    assert!(done.line("closed").contains("in 0 B, out 12 B"));
}

#[test]
fn the_tutorial_programs_meet_each_other_through_both_modes() {
    let (listener, address) = listen();
    let server = thread::spawn(move || greet_one_client(&listener));
    let (reader, writer) = io::pipe().unwrap();
    let middle = tuplecat("tcp-connect --recv-only").to(address);
    let middle = middle.stdout(Output::To(writer.into())).start();
    let other = tuplecat("tcp-listen --send-only 0").stdin(Input::From(reader.into()));
    let other = other.start();
    assert_eq!(read_once(other.ready()).unwrap(), GREETING);
    middle.wait().exits(0);
    other.wait().exits(0);
    server.join().unwrap().unwrap();
}

/// A client that leaves without reading everything is an error that the server reports.
#[test]
fn a_tutorial_client_that_leaves_early_is_reported() {
    let server = tuplecat("tcp-listen 0").says(vec![0; 20_000_000]).start();
    assert_eq!(read_once(server.ready()).unwrap().len(), 256);
    server.wait().exits(7);
}
