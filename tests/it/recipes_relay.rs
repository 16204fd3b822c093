//! Recipes of tuplecat-recipes(7) that stand between two programs, run exactly as printed against real programs.
//! A relay is not noticed: what the programs exchange is compared with what they exchange without it.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};

use pretty_assertions::assert_eq;

use crate::common::*;

/// Starts a relay, which gets a port that the kernel chooses.
fn relay(name: &str, (from, port): (&str, &str), (to, target): (&str, SocketAddr)) -> Running {
    let recipe = recipe(name).put(from, &format!("{port} --ready-file ready"));
    recipe.put(to, &target.to_string()).launch().start()
}

fn ready(relay: &Running) -> SocketAddr {
    let line = relay.wait_for_file(&relay.path("ready"));
    let (_, address) = line.trim_end().split_once(' ').expect("two words");
    address.parse().expect("an address")
}

#[test]
fn the_traffic_of_redis_is_shown() {
    let Some(redis) = redis() else {
        return;
    };
    let relay = relay("look", ("6380", "0"), ("localhost:6379", redis.address));
    let at = format!("-h 127.0.0.1 -p {}", ready(&relay).port());
    for (number, word) in [(1, "one"), (2, "two")] {
        let cli = program("redis-cli", &at).args(&format!("ECHO {word}"));
        assert_eq!(cli.run().exits(0).text(), format!("{word}\n"));
        for leg in ["client", "target"] {
            relay.err().wait_for(&format!(" #{number} {leg} "));
        }
        relay.err().wait_for(&format!("..{word}..|"));
    }
    relay.signal(rustix::process::Signal::TERM);
}

#[test]
fn a_port_is_forwarded_for_one_network() {
    let Some(nginx) = nginx("return 200 forwarded;") else {
        return;
    };
    for (network, is_served) in [("127.0.0.0/8", true), ("192.0.2.0/24", false)] {
        let forward = recipe("forward")
            .put("'*' 8080", "'*' 0 --ready-file ready")
            .put("localhost:80", &nginx.address.to_string())
            .put("192.0.2.0/24", network);
        let forward = forward.launch().start();
        let port = ready(&forward).port();
        let url = format!("--silent --max-time 60 http://127.0.0.1:{port}/");
        let page = program("curl", &url).run();
        assert_eq!(page.text() == "forwarded", is_served, "{network}");
    }
}

/// ssh(1) replaces `%h` and `%p`, and speaks over the standard input and output of the command.
#[test]
fn ssh_has_its_way() {
    let server = tuplecat("tcp-listen 0 --echo").start();
    let address = server.ready();
    let page = std::fs::read_to_string("man/tuplecat-recipes.7").unwrap();
    let (_, command) = page.split_once(".Ql ProxyCommand ").unwrap();
    let command = command.lines().next().unwrap();
    let command = command.replace("%h", &address.ip().to_string());
    let command = command.replace("%p", &address.port().to_string());
    let done = script(&format!("printf SSH-2.0-x | {command}")).run();
    assert_eq!(done.exits(0).out, b"SSH-2.0-x");
    server.wait().exits(0);
}

#[test]
fn a_session_is_recorded_and_played_back() {
    let (listener, target) = listen();
    let record = relay("record", ("9001", "0"), ("localhost:9000", target));
    let mut client = connect(ready(&record));
    let mut served = accept(&listener);
    client.write_all(b"question\n").unwrap();
    assert_eq!(read_len(&served, 9), b"question\n");
    served.write_all(b"answer\n").unwrap();
    assert_eq!(read_len(&client, 7), b"answer\n");
    client.write_all(b"thanks\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&served), b"thanks\n");
    drop(served);
    assert_eq!(read_all(&client), b"");
    let session = record.path("session");
    assert!(record.has_ended_within(BOUND));
    let play = recipe("play").at("localhost 9000", target);
    let play = play.put("< session", &format!("< {}", session.display()));
    let play = play.launch().start();
    let served = accept(&listener);
    assert_eq!(read_all(&served), b"question\nthanks\n");
    drop(served);
    play.wait().exits(0);
}
