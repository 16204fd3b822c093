//! Recipes of tuplecat-recipes(7), run exactly as printed, against real servers where those are installed.
//! A test that never fails proves little, so each recipe also runs against a server that fails it.

use std::fs;
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::thread;

use pretty_assertions::assert_eq;
use tuplecat::flow::Transport;

use crate::common::*;

/// Starts a server that answers every line with this text.
fn answering(text: &str) -> Running {
    let server = tuplecat("tcp-listen -k 0 --respond");
    server.arg(format!("={text}")).start()
}

/// Returns the first error message.
fn complaint(done: &Done) -> String {
    done.errors().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn health_is_more_than_an_open_port() {
    let check = |address: SocketAddr| {
        recipe("health")
            .at("localhost 6379", address)
            .launch()
            .run()
    };
    if let Some(redis) = redis() {
        assert_eq!(check(redis.address).exits(0).text(), "healthy\n");
    }
    let wrong = answering(r"-ERR\r\n");
    let done = check(wrong.ready()).exits(1);
    assert_eq!(done.text(), "a wrong answer\n");
    let (_nobody, address) = refusing(Transport::Tcp);
    assert_eq!(check(address).exits(1).text(), "connection refused\n");
    let (_queue, address) = silent();
    let none = "no connection, or no answer in time\n";
    assert_eq!(check(address).exits(1).text(), none);
    let (_listener, address) = listen();
    assert_eq!(check(address).exits(1).text(), none);
}

#[test]
fn a_service_is_waited_for() {
    let (service, address) = refusing(Transport::Tcp);
    let recipe = recipe("wait").put("redis-server --port 6379 &", "");
    let client = recipe.at("localhost 6379", address).launch().start();
    client.err().wait_for("retrying ");
    service.listen(1).unwrap();
    client.wait().exits(0);
}

#[test]
fn a_service_of_datagrams_is_waited_for() {
    let (service, address) = datagrams();
    let recipe = recipe("wait-udp").at("localhost 9000", address);
    let client = recipe.launch().start();
    // The service does not answer the first question.
    receive(&service);
    let (question, sender) = receive(&service);
    assert_eq!(question, b"ping");
    service.send_to(b"pong", sender).unwrap();
    client.wait().exits(0);
}

#[test]
fn a_free_port_is_found() {
    let done = recipe("free-port").then("echo $port").launch().run();
    let port = done.exits(0).text().trim_end().parse::<u16>().unwrap();
    assert_ne!(port, 0);
    // Port 0 is free.
    let (_one, first) = listen();
    let (_two, second) = listen();
    let list = format!("{} {} 0 {0}", first.port(), second.port());
    let recipe = recipe("first-free").put("$(seq 8000 8099)", &list);
    let done = recipe.then("echo $port").launch().run().exits(0);
    assert_eq!((done.text().as_str(), done.err.as_str()), ("0\n", ""));
}

#[test]
fn a_web_server_is_tested() {
    let Some(right) = nginx(r#"location / { return 200 "Welcome to this server\n"; }"#) else {
        return;
    };
    let Some(wrong) = nginx("location / { return 404; }") else {
        return;
    };
    let test = |server: &Server| recipe("http").at("localhost 80", server.address).launch();
    test(&right).run().exits(0);
    let done = test(&wrong).run().exits(8);
    let line = r"--expect-regex '^HTTP/1\.[01] 200 ': no match is possible any more";
    assert_eq!(complaint(&done), line);
    assert!(done.err.contains("|HTTP/1.1 404 Not|"), "{}", done.err);
}

#[test]
fn redis_is_tested() {
    let test = |address: SocketAddr| recipe("redis").at("localhost 6379", address).launch();
    if let Some(redis) = redis() {
        test(redis.address).run().exits(0);
    }
    let wrong = answering(r"+OK\r\n");
    let done = test(wrong.ready()).run().exits(8);
    let line = r"--expect-regex '^:42\r\n': no match is possible any more";
    assert_eq!(complaint(&done), line);
}

#[test]
fn a_mail_server_is_tested() {
    let test = |last: &str, status: i32| {
        let server = tuplecat("tcp-listen 0 --timeout 15 --on-stdin-eof keep");
        let says = |launch: Launch, text: &str| launch.arg("--send").arg(text);
        let hears = |launch: Launch, text: &str| launch.arg("--expect").arg(text);
        let server = says(server, r"220-Welcome\r\n220 here\r\n");
        let server = hears(server, r"EHLO client.example\r\n");
        let server = says(server, r"250-here\r\n250-SIZE\r\n250 HELP\r\n");
        let server = hears(server, r"MAIL FROM:<a@client.example>\r\n");
        let server = says(server, r"250 OK\r\n");
        let server = hears(server, r"RCPT TO:<postmaster@localhost>\r\n");
        let server = says(server, &format!(r"{last} so\r\n"));
        let server = hears(server, r"QUIT\r\n");
        let server = says(server, r"221 Bye\r\n").start();
        let client = recipe("smtp").at("localhost 25", server.ready());
        let done = client.launch().run().exits(status);
        server.wait().exits(status);
        done
    };
    test("250", 0);
    let done = test("550", 8);
    let line = r"--expect-regex '^25[01] .*\n': no match is possible any more";
    assert_eq!(complaint(&done), line);
}

#[test]
fn a_name_server_is_tested() {
    let test = |address: SocketAddr| {
        let recipe = recipe("dns-smoke").at("192.0.2.53 53", address);
        recipe.put("--timeout 2", "--timeout 4").launch()
    };
    if let Some(server) = dnsmasq("example.com", "192.0.2.7") {
        test(server.address).run().exits(0);
        let ask = recipe("dns").at("192.0.2.53 53", server.address);
        let answer = ask.launch().run().exits(0).text();
        assert!(answer.ends_with("c0000207\n"), "{answer}");
    }
    if let Some(server) = dnsmasq("example.com", "192.0.2.8") {
        let done = test(server.address).run().exits(8);
        assert!(done.err.contains("c0 00 02 08"), "{}", done.err);
    }
    let (_nobody, address) = refusing(Transport::Udp);
    test(address).run().exits(5);
    let (_silent, address) = datagrams();
    test(address).run().exits(6);
}

#[test]
fn two_servers_are_compared() {
    let answer = |text: &str| nginx(&format!("location / {{ return 200 {text}; }}"));
    let (Some(one), Some(same), Some(other)) = (answer("abc"), answer("abc"), answer("abd")) else {
        return;
    };
    let compare = |second: &Server| {
        let ports = format!("{} {}", one.address.port(), second.address.port());
        let recipe = recipe("same-answer").put("8080 8081", &ports);
        let ports = [one.address.port(), second.address.port()];
        let recipe = recipe.put("compared.8080", &format!("compared.{}", ports[0]));
        let recipe = recipe.put("compared.8081", &format!("compared.{}", ports[1]));
        recipe.launch().run()
    };
    assert_eq!(compare(&same).exits(0).text(), "");
    let text = compare(&other).exits(1).text();
    assert!(text.contains(" differ"), "{text}");
}

#[test]
fn both_ends_are_in_one_script() {
    recipe("both-ends").launch().run().exits(0);
    let wrong = recipe("both-ends").put(r"--expect 'answer\n'", r"--expect 'no\n' --timeout 1");
    let wrong = wrong.put(r"--timeout 30 \", r"\");
    wrong.launch().run().exits(1);
}

#[test]
fn a_server_is_stood_in_for() {
    recipe("stand-in").launch().run().exits(0);
    let wrong = recipe("stand-in").put(r"=-ERR\r\n", r"=+OK\r\n");
    let wrong = wrong.put("--timeout 30", "--timeout 1");
    wrong.launch().run().exits(1);
}

#[test]
fn a_web_hook_is_caught() {
    let recipe = recipe("webhook").put("'*' 8080", "0 --ready-file ready");
    let server = recipe.then("\ncat request").launch().start();
    let ready = server.wait_for_file(&server.path("ready"));
    let address = ready.trim_end().strip_prefix("tcp ").unwrap();
    let mut peer = connect(address.parse().unwrap());
    let header = "POST /hook HTTP/1.1\r\nHost: here\r\nContent-Length: 7\r\n\r\n";
    peer.write_all(header.as_bytes()).unwrap();
    let answer = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
    assert_eq!(read_len(&peer, answer.len()), answer.as_bytes());
    // Data after the answer arrives too.
    peer.write_all(b"{\"a\":1}").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&peer), b"");
    assert_eq!(
        server.wait().exits(0).text(),
        format!("{header}{{\"a\":1}}")
    );
}

#[test]
fn a_file_proves_that_it_arrived() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let copy = directory.path().join("copy");
    fs::write(&file, bytes(1 << 20)).unwrap();
    let send = |address| {
        let recipe = recipe("send").at("receiver.example 9000", address);
        recipe
            .put("< file", &format!("< '{}'", file.display()))
            .launch()
    };
    let receive = recipe("receive").put("--allow 192.0.2.0/24 '*' 9000", "0 --ready-file ready");
    let receive = receive.put("tee copy", &format!("tee {}", copy.display()));
    let receiver = receive.launch().start();
    let ready = receiver.wait_for_file(&receiver.path("ready"));
    let address = ready.trim_end().strip_prefix("tcp ").unwrap();
    send(address.parse().unwrap()).run().exits(0);
    receiver.wait().exits(0);
    assert!(fs::read(&copy).unwrap() == bytes(1 << 20), "other bytes");

    let (listener, address) = listen();
    let wrong = thread::spawn(move || {
        let mut peer = accept(&listener);
        read_all(&peer);
        peer.write_all(b"another sum\n").unwrap();
    });
    send(address).run().exits(1);
    wrong.join().unwrap();
}

#[test]
fn metrics_are_tested() {
    recipe("metrics").launch().run().exits(0);
    let wrong = recipe("metrics").put("--send 'hits:1|c'", "--send 'hits:2|c'");
    wrong.launch().run().exits(1);
}
