//! Recipes of tuplecat-recipes(7) for Unix sockets, run exactly as printed but for the paths.
//! Small stand-ins take the place of Docker, mpv and a service.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use pretty_assertions::assert_eq;
use rustix::process::Signal;

use crate::common::*;

/// Starts a stand-in for Docker, which answers each request, and returns its place.
fn docker() -> Place {
    let place = Place::new();
    let listener = UnixListener::bind(place.path()).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let mut lines = BufReader::new(&client).lines();
            let request = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let body = format!("{{\"request\":\"{request}\"}}\n");
            let len = body.len();
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {len}\r\n\r\n");
            (&client).write_all((head + &body).as_bytes()).unwrap();
        }
    });
    place
}

fn text(place: &Place) -> String {
    place.path().display().to_string()
}

#[test]
fn a_service_that_has_only_a_socket_is_asked() {
    let docker = docker();
    let recipe = recipe("docker").put("/run/docker.sock", &text(&docker));
    let answer = recipe.launch().run().exits(0).text();
    assert!(answer.starts_with("HTTP/1.0 200 OK"), "{answer}");
    assert!(
        answer.ends_with("{\"request\":\"GET /version HTTP/1.0\"}\n"),
        "{answer}"
    );
}

#[test]
fn a_program_is_controlled_by_json() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path()).unwrap();
    for (answer, status) in [
        ("{\"data\":50.0,\"error\":\"success\"}\n", 0),
        ("{\"error\":\"property unavailable\"}\n", 8),
    ] {
        let run = recipe("json")
            .put("/tmp/mpv.sock", &text(&place))
            .launch()
            .start();
        let (mut client, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&client).read_line(&mut line).unwrap();
        assert_eq!(line, "{\"command\": [\"get_property\", \"volume\"]}\n");
        client.write_all(answer.as_bytes()).unwrap();
        drop(client);
        assert_eq!(run.wait().exits(status).text(), answer);
    }
}

#[test]
fn a_socket_is_exported_over_tcp() {
    let docker = docker();
    let recipe = recipe("export").put("/run/docker.sock", &text(&docker));
    let recipe = recipe.put("2375", "0 --report events");
    let relay = recipe.launch().start();
    let line = relay.err().wait_for_line("listening");
    let address = line.split_whitespace().nth(2).unwrap();
    let mut client = connect(address.parse().unwrap());
    client.write_all(b"GET /info HTTP/1.0\r\n\r\n").unwrap();
    let answer = String::from_utf8(read_all(&client)).unwrap();
    assert!(
        answer.ends_with("{\"request\":\"GET /info HTTP/1.0\"}\n"),
        "{answer}"
    );
    relay.signal(Signal::TERM);
}

#[test]
fn the_traffic_of_a_socket_is_seen() {
    let docker = docker();
    let spy = docker.directory.path().join("spy");
    let recipe = recipe("spy").put("/run/docker.sock", &text(&docker));
    let recipe = recipe.put(
        "/tmp/spy.sock",
        &format!("{} --report events", spy.display()),
    );
    let relay = recipe.launch().start();
    relay.err().wait_for_line("listening");
    if is_installed("curl") {
        let mut curl = program("curl", "-s http://docker/events --unix-socket").arg(&spy);
        curl = curl.stdin(Input::Null);
        let answer = curl.run().exits(0).text();
        assert_eq!(answer, "{\"request\":\"GET /events HTTP/1.1\"}\n");
        relay.err().wait_for_line("accepted");
    } else {
        let mut client = UnixStream::connect(&spy).unwrap();
        client.write_all(b"GET /events HTTP/1.1\r\n\r\n").unwrap();
        client.read_exact(&mut [0; 15]).unwrap();
    }
    relay.err().wait_for("|GET /events HTTP|");
    relay.signal(Signal::TERM);
}

#[test]
fn a_service_says_that_it_is_ready() {
    let place = Place::new();
    for (message, status) in [("READY=1\\nSTATUS=up", 0), ("STATUS=failed", 1)] {
        let service = place.directory.path().join("my-service");
        // The program has a message of its own for a service manager.
        let send = "manager=$NOTIFY_SOCKET; unset NOTIFY_SOCKET
            tuplecat unix-sendto \"$manager\" --reply-timeout 0 --send";
        fs::write(&service, format!("#!/bin/sh\n{send} '{message}'\n")).unwrap();
        rustix::fs::chmod(&service, 0o755.into()).unwrap();
        let recipe = recipe("notify").put("/tmp/notify", &text(&place));
        let recipe = recipe.put(
            "mkfifo bound",
            &format!("cd {}; mkfifo bound", place.directory.path().display()),
        );
        let recipe = recipe.put("my-service", "./my-service");
        recipe.launch().run().exits(status);
        for name in ["bound", "state"] {
            fs::remove_file(place.directory.path().join(name)).unwrap();
        }
    }
}
