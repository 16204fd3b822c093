//! TCP and UDP side by side: shared properties have one body, and differences stand in pairs.
//! The pairs show the difference between a connection and a datagram.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};

use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

each! {
    /// All bytes arrive unchanged.
    fn bytes_arrive_as_they_were(transport) {
        let sent = bytes(40_000);
        let server = waits(transport, "0").start();
        meets(transport, &server).says(&sent).run().exits(0);
        assert!(server.wait().exits(0).out == sent);
    }

    /// Both sides send and receive.
    fn both_directions_work(transport) {
        let mut server = waits(transport, "0").stdin(Input::Held).start();
        let mut client = meets(transport, &server).stdin(Input::Held).start();
        client.write("question");
        server.out().wait_for("question");
        server.write("answer");
        client.out().wait_for("answer");
        client.close_stdin();
        server.close_stdin();
        client.wait().exits(0);
        server.wait().exits(0);
    }

    /// One direction can be left out.
    fn one_direction_can_be_left_out(transport) {
        let server = waits(transport, "--recv-only 0").says("never sent").start();
        let client = meets(transport, &server).args("--send-only").says("heard").run();
        assert_eq!(client.exits(0).text(), "");
        let done = server.wait().exits(0);
        assert_eq!(done.text(), "heard");
        assert!(!done.line("closed").contains("never"), "{}", done.err);
    }

    /// A limit on received bytes ends a run.
    fn a_limit_on_bytes_ends_a_run(transport) {
        let server = waits(transport, "--max-bytes 4 0").stdin(Input::Held).start();
        let mut client = meets(transport, &server).stdin(Input::Held).start();
        client.write("1234");
        assert_eq!(server.wait().exits(0).text(), "1234");
    }
}

both! {
    /// IPv6 works in the same way.
    fn ipv6_works(transport) {
        if !has_ipv6() {
            return;
        }
        let server = waits(transport, "-6 0").start();
        let address = server.ready();
        assert_eq!(address.ip().to_string(), "::1");
        speaks(transport, address).says("six").run().exits(0);
        let done = server.wait().exits(0);
        assert_eq!(done.text(), "six");
        assert!(done.err.contains(&format!(" {address} ")), "{}", done.err);
    }

    /// Port 0 becomes a real port, which both the ready file and the report name.
    fn the_ready_file_has_the_port(transport) {
        let server = waits(transport, "0").start();
        let address = server.ready();
        assert_eq!(address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_ne!(address.port(), 0);
        assert_eq!(server.ready_line(), format!("{transport} {address}\n"));
        let word = match transport {
            Transport::Tcp => "listening",
            _ => "bound",
        };
        assert_eq!(
            server.err().wait_for_line(word),
            format!("{word:<10} {transport} {address} (this machine only)")
        );
    }

    /// Both sides report the same two addresses.
    fn both_sides_name_the_same_two_addresses(transport) {
        let server = waits(transport, "0").start();
        let address = server.ready();
        let client = speaks(transport, address).args("-v").says("x").run().exits(0);
        let server = server.wait().exits(0);
        let first = match transport {
            Transport::Tcp => server.line("accepted"),
            _ => server.line("received"),
        };
        let (name, local, remote) = tuple(first);
        assert_eq!(name, transport.to_string());
        assert_eq!(local, address.to_string());
        let (name, own, target) = tuple(client.line("sent"));
        assert_eq!((name, target), (transport.to_string(), local));
        assert_eq!(own.rsplit_once(':').unwrap().1, remote.rsplit_once(':').unwrap().1);
    }

    /// A port belongs to one process; the other transport has its own ports.
    fn a_port_in_use_is_in_use_for_one_transport(transport) {
        let first = waits(transport, "0").start();
        let address = first.ready();
        let act = match transport {
            Transport::Tcp => "listen on",
            _ => "bind",
        };
        let done = waits(transport, "").to(address).run().exits(4);
        assert!(done.errors().starts_with(&format!("cannot {act} ")), "{}", done.err);
        assert!(done.errors().contains(&address.to_string()), "{}", done.err);
        assert!(done.errors().ends_with("address in use"), "{}", done.err);
        let other = match transport {
            Transport::Tcp => Transport::Udp,
            _ => Transport::Tcp,
        };
        // Another process may have that port: then the test tries another one.
        let is_free = (0..10).any(|_| {
            let first = waits(transport, "0").start();
            let second = waits(other, "--timeout 0.1").to(first.ready());
            second.run().status == 6
        });
        assert!(is_free);
    }
}

/// The end of a direction: a FIN over TCP / nothing over UDP.
mod the_peer_that_ends {
    use super::*;

    #[test]
    fn ends_a_connection() {
        let server = tuplecat("tcp-listen 0").says("").start();
        drop(connect(server.ready()));
        assert_eq!(server.wait().exits(0).text(), "");
    }

    #[test]
    fn sends_an_empty_datagram_which_ends_nothing() {
        let server = tuplecat("udp-bind --count 3 0").start();
        let (socket, own) = datagrams();
        for datagram in ["before", "", "after"] {
            socket.send_to(datagram.as_bytes(), server.ready()).unwrap();
        }
        let done = server.wait().exits(0);
        assert_eq!(done.text(), "beforeafter");
        assert!(
            done.line("received")
                .contains(&format!("<- {own}  6 bytes"))
        );
        let totals = "in 3 datagrams (11 B)";
        assert!(done.line("closed").contains(totals), "{}", done.err);
    }
}

/// Boundaries between writes: none in a stream / each datagram.
mod writes {
    use super::*;

    #[test]
    fn have_no_boundaries_in_a_stream() {
        let (listener, address) = listen();
        let client = tuplecat("tcp-connect --send-only").to(address);
        let mut client = client.stdin(Input::Held).start();
        let peer = accept(&listener);
        client.write("a\n");
        client.write("b\n");
        client.close_stdin();
        assert_eq!(read_all(&peer), b"a\nb\n");
        drop(peer);
        client.wait().exits(0);
    }

    #[test]
    fn are_datagrams_of_their_own() {
        let (socket, address) = datagrams();
        let mut client = tuplecat("udp-sendto")
            .to(address)
            .stdin(Input::Held)
            .start();
        for line in ["a\n", "b\n"] {
            client.write(line);
            // Received before the next one is written: two writes close together may be one read of a pipe.
            assert_eq!(receive(&socket).0, line.as_bytes());
        }
        client.close_stdin();
        client.wait().exits(0);
    }

    #[test]
    fn of_other_programs_keep_their_boundaries_as_datagrams() {
        let server = tuplecat("udp-bind -v --count 3 0").start();
        let (socket, own) = datagrams();
        for datagram in ["a", "bcd", "ef"] {
            socket.send_to(datagram.as_bytes(), server.ready()).unwrap();
        }
        let done = server.wait().exits(0);
        let sizes: Vec<&str> = done
            .err
            .lines()
            .filter_map(|line| line.strip_prefix("received "))
            .map(|line| line.rsplit_once("  ").unwrap().1)
            .collect();
        assert_eq!(
            sizes,
            ["1 byte", "3 bytes", "2 bytes"],
            "from {own}:\n{}",
            done.err
        );
        assert_eq!(done.text(), "abcdef");
    }
}

/// Two clients: two sockets with two 4-tuples / two peers of one socket.
mod two_clients {
    use super::*;

    #[test]
    fn are_two_connections_at_one_port() {
        let first = tuplecat("tcp-listen 0").stdin(Input::Held).start();
        let address = first.ready();
        let mut one = connect(address);
        // Two round trips: after the second the listening socket is closed, and the port can be bound again.
        for (letter, all) in [("a", "a"), ("b", "ab")] {
            one.write_all(letter.as_bytes()).unwrap();
            first.out().wait_for(all);
        }
        let second = tuplecat("tcp-listen")
            .to(address)
            .stdin(Input::Held)
            .start();
        assert_eq!(second.ready(), address);
        let other = connect(address);
        let tuples = [(&first, &one), (&second, &other)].map(|(server, client)| {
            let (_, local, remote) = tuple(&server.err().wait_for_line("accepted"));
            assert_eq!(local, address.to_string());
            assert_eq!(remote, client.local_addr().unwrap().to_string());
            (local, remote)
        });
        assert_ne!(tuples[0], tuples[1]);
    }

    #[test]
    fn are_two_peers_of_one_socket() {
        let mut server = tuplecat("udp-bind 0").stdin(Input::Held).start();
        let address = server.ready();
        let ((first, first_own), (second, second_own)) = (datagrams(), datagrams());
        first.send_to(b"1", address).unwrap();
        server.out().wait_for("1");
        second.send_to(b"2", address).unwrap();
        server.out().wait_for("12");
        // The answer goes to the latest sender.
        server.write("to the second");
        assert_eq!(receive(&second), (b"to the second".to_vec(), address));
        first.send_to(b"3", address).unwrap();
        server.out().wait_for("123");
        server.write("to the first");
        assert_eq!(receive(&first), (b"to the first".to_vec(), address));
        server.signal(Signal::TERM);
        let done = server.wait().exits(143);
        let peers: Vec<String> = done
            .err
            .lines()
            .filter(|line| line.starts_with("received "))
            .map(|line| tuple(line).2)
            .collect();
        assert_eq!(peers, [first_own.to_string(), second_own.to_string()]);
    }
}

/// No receiver: the connection fails / the datagram is sent, and the error comes later.
mod refused {
    use super::*;

    #[test]
    fn is_fatal_to_a_connection() {
        let (_nobody, address) = refusing(Transport::Tcp);
        let done = tuplecat("tcp-connect").to(address).stdin(Input::Held).run();
        let message = format!("cannot connect to {address}: connection refused");
        let done = done.fails(5, &message);
        assert_eq!(done.err, format!("tuplecat: {message}\n"));
    }

    #[test]
    fn is_reported_for_a_datagram() {
        let (_nobody, address) = refusing(Transport::Udp);
        let done = tuplecat("udp-sendto").to(address).says("anybody?").run();
        let done = done.exits(5);
        let line = done.line("refused");
        assert_eq!(tuple(line).2, address.to_string());
        assert!(line.ends_with("port unreachable"), "{line}");
    }

    #[test]
    fn by_one_peer_does_not_end_the_shared_socket() {
        let mut server = tuplecat("udp-bind 0").stdin(Input::Held).start();
        let (gone, gone_own) = datagrams();
        gone.send_to(b"1", server.ready()).unwrap();
        server.out().wait_for("1");
        // A socket that is connected to itself refuses all others. Closing it would free its port for other processes.
        gone.connect(gone_own).unwrap();
        server.write("too late");
        let line = server.err().wait_for_line("refused");
        assert_eq!(tuple(&line).2, gone_own.to_string());
        let (other, _) = datagrams();
        other.send_to(b"2", server.ready()).unwrap();
        server.out().wait_for("12");
        server.write("just in time");
        assert_eq!(receive(&other).0, b"just in time");
        server.signal(Signal::INT);
        server.wait().exits(130);
    }
}
