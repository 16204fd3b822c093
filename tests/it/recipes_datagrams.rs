//! Recipes of tuplecat-recipes(7) that send datagrams, run exactly as printed against small responders.
//! Their datagrams are checked byte by byte against the standards.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, UdpSocket};
use std::time::Duration;

use pretty_assertions::assert_eq;

use crate::common::*;

#[test]
fn metrics_are_a_datagram_each() {
    let (socket, address) = datagrams();
    recipe("statsd")
        .at("localhost 8125", address)
        .launch()
        .run()
        .exits(0);
    assert_eq!(receive(&socket).0, b"hits:1|c");
    assert_eq!(receive(&socket).0, b"load:0.7|g");
}

#[test]
fn a_message_has_the_form_of_syslog() {
    let (socket, address) = datagrams();
    recipe("syslog")
        .at("192.0.2.7 514", address)
        .launch()
        .run()
        .exits(0);
    let message = String::from_utf8(receive(&socket).0).unwrap();
    let parts: Vec<&str> = message.splitn(8, ' ').collect();
    let [version, time, host, app, process, id, data, text] = parts[..] else {
        panic!("{message}");
    };
    assert_eq!(
        (version, app, process, id, data, text),
        ("<13>1", "backup", "-", "-", "-", "done")
    );
    assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
    assert!(!host.is_empty());
}

#[test]
fn a_name_is_looked_up() {
    let (server, address) = datagrams();
    let client = recipe("dns").at("192.0.2.53 53", address).launch().start();
    let (query, sender) = receive(&server);
    let question = b"\x07example\x03com\0\0\x01\0\x01";
    let header = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0";
    assert_eq!(query, [&header[..], question].concat());
    let answer = [
        &b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0"[..],
        question,
        b"\xc0\x0c\0\x01\0\x01\0\0\x0e\x10\0\x04\xc0\0\x02\x07",
    ];
    server.send_to(&answer.concat(), sender).unwrap();
    let text = client.wait().exits(0).text();
    assert!(text.starts_with("12348180"), "{text}");
    assert!(
        text.ends_with("c0000207\n"),
        "192.0.2.7 is not at the end of {text}"
    );
}

/// Waits for the ready file of a recipe, and returns the address in it.
fn ready_at(running: &Running) -> SocketAddr {
    let line = running.wait_for_file(&running.path("ready"));
    let (_, address) = line.trim_end().split_once(' ').unwrap();
    address.parse().unwrap()
}

#[test]
fn queries_are_forwarded() {
    let (server, address) = datagrams();
    let forwarder = recipe("dns-forward")
        .put("5353", "0 --ready-file ready")
        .put("192.0.2.53:53", &address.to_string())
        .launch()
        .start();
    let forwarder_address = ready_at(&forwarder);
    let askers: Vec<_> = (0..5)
        .map(|number| {
            let asker = recipe("dns").put("1234", &format!("000{number}"));
            let asker = asker.at("192.0.2.53 53", forwarder_address);
            asker.launch().start()
        })
        .collect();
    let queries: Vec<_> = askers.iter().map(|_| receive(&server)).collect();
    for (mut query, sender) in queries.into_iter().rev() {
        // The flag of an answer.
        query[2] |= 0x80;
        server.send_to(&query, sender).unwrap();
    }
    for (number, asker) in askers.into_iter().enumerate() {
        let text = asker.wait().exits(0).text();
        assert!(text.starts_with(&format!("000{number}8100")), "{text}");
    }
    forwarder.err().wait_for("#5 target");
}

#[test]
fn lines_over_tcp_become_messages_of_syslog() {
    let (server, address) = datagrams();
    let relay = recipe("syslog-tcp")
        .put("'*' 514", "127.0.0.1 0 --ready-file ready")
        .put("192.0.2.7:514", &address.to_string())
        .launch()
        .start();
    let relay_address = ready_at(&relay);
    for number in 0..2 {
        let mut client = connect(relay_address);
        let lines = format!("<13>1 - - {number} - - - one\n<13>1 - - {number} - - - two\n");
        client.write_all(lines.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        for line in lines.lines() {
            assert_eq!(receive(&server).0, line.as_bytes());
        }
        assert_eq!(read_all(&client), b"");
    }
}

#[test]
fn the_time_is_asked_for() {
    let (server, address) = datagrams();
    let client = recipe("ntp")
        .at("ntp.example.net 123", address)
        .launch()
        .start();
    let (query, sender) = receive(&server);
    assert_eq!((query.len(), query[0]), (48, 0x1b), "a client of version 3");
    assert_eq!(query[1..], [0; 47]);
    let mut answer = [0; 48];
    answer[0] = 0x1c;
    answer[40..44].copy_from_slice(&0xe9d1_2345_u32.to_be_bytes());
    server.send_to(&answer, sender).unwrap();
    assert_eq!(client.wait().exits(0).text(), "e9d12345\n");
}

/// Opens a socket in a group of the loopback interface.
fn member(group: Ipv4Addr) -> (UdpSocket, u16) {
    let (socket, address) = datagrams_at(SocketAddr::from((group, 0)));
    socket
        .join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
        .unwrap();
    (socket, address.port())
}

/// Sends the answer from two addresses, as two machines.
fn answer_from_two(asker: SocketAddr, answer: &[u8]) -> [SocketAddr; 2] {
    [(); 2].map(|()| {
        let (socket, address) = datagrams();
        let port = asker.port();
        socket.send_to(answer, ("127.0.0.1", port)).unwrap();
        address
    })
}

#[test]
fn devices_are_found() {
    let group = Ipv4Addr::new(239, 255, 255, 250);
    let (device, port) = member(group);
    let to = format!("{group} {port} --multicast-if lo");
    let client = recipe("ssdp")
        .put(&format!("{group} 1900"), &to)
        .launch()
        .start();
    let (query, asker) = receive(&device);
    let query = String::from_utf8(query).unwrap();
    let lines: Vec<&str> = query.split("\r\n").collect();
    assert_eq!(
        lines,
        [
            "M-SEARCH * HTTP/1.1",
            "HOST: 239.255.255.250:1900",
            "MAN: \"ssdp:discover\"",
            "MX: 1",
            "ST: ssdp:all",
            "",
            "",
        ]
    );
    answer_from_two(asker, b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(
        client.wait().exits(0).text(),
        "HTTP/1.1 200 OK\r\n\r\n".repeat(2)
    );
}

#[test]
fn services_are_asked_for() {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let (device, port) = member(group);
    let to = format!("{group} {port} --multicast-if lo");
    let client = recipe("mdns")
        .put(&format!("{group} 5353"), &to)
        .launch()
        .start();
    let (query, asker) = receive(&device);
    let question = b"\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\x80\x01";
    assert_eq!(
        query,
        [&b"\0\0\0\0\0\x01\0\0\0\0\0\0"[..], question].concat()
    );
    let devices = answer_from_two(asker, b"\0\0\x84\0");
    let done = client.wait().exits(0);
    let text = done.text();
    let objects: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), devices.len());
    for (object, device) in objects.iter().zip(devices) {
        assert_eq!(object["remote"], device.to_string());
        assert_eq!(object["hex"], "00008400");
    }
    assert!(is_silent_for(&device, Duration::from_millis(20)));
}
