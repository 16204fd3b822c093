//! Multicast groups, from any source or from one, and broadcast.
//! Nothing leaves the machine: groups exist on the loopback interface, or in a network of the test.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use pretty_assertions::assert_eq;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::common::*;

/// Creates a network with an interface that carries groups of both families, and has two addresses of each.
fn network() -> Option<Namespace> {
    Namespace::new(
        "ip link set lo up
        ip link add veth0 type veth peer veth1
        ip link set veth0 up
        ip link set veth1 up
        ip address add 10.77.0.1/24 dev veth0
        ip address add 10.77.0.2/24 dev veth0
        ip -6 address add fd77::1/64 dev veth0 nodad
        ip -6 address add fd77::2/64 dev veth0 nodad",
    )
}

/// Sends a word to `address` through the loopback interface, and returns the result with all replies.
fn say(word: &str, address: SocketAddr, words: &str) -> Done {
    let client = tuplecat("udp-sendto --multicast-if lo").args(words);
    client.to(address).says(word).run().exits(0)
}

#[test]
fn all_members_of_a_group_receive_and_answer() {
    let launch = || tuplecat("udp-bind --join 239.77.1.1%lo --reuse-port --count 1 --echo");
    let first = launch().arg("0").start();
    let address = first.ready();
    assert_eq!(address.ip(), Ipv4Addr::new(239, 77, 1, 1));
    let others = [(); 2].map(|()| launch().arg(address.port().to_string()).start());
    for other in &others {
        other.ready();
    }
    // The replies come from addresses that were not written to.
    let done = say("hello\n", address, "--replies 3 --reply-timeout forever");
    assert_eq!(done.text(), "hello\n".repeat(3));
    for server in others.into_iter().chain([first]) {
        server.wait().exits(0);
    }
}

/// Other programs share the port of a group by `SO_REUSEADDR`.
#[test]
fn a_group_is_shared_with_other_programs() {
    let other = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    other.set_reuse_address(true).unwrap();
    other
        .bind(&SocketAddr::from(([0, 0, 0, 0], 0)).into())
        .unwrap();
    let group = Ipv4Addr::new(239, 77, 7, 1);
    other
        .join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
        .unwrap();
    let port = other.local_addr().unwrap().as_socket().unwrap().port();
    let server = tuplecat("udp-bind --join 239.77.7.1%lo --reuse-port --count 1");
    let server = server.arg(port.to_string()).start();
    say("both", server.ready(), "--reply-timeout 0");
    assert_eq!(server.wait().exits(0).text(), "both");
    assert_eq!(receive(&UdpSocket::from(other)).0, b"both");
    // Without `--reuse-port` nothing is shared.
    let (_taken, address) = datagrams_at("239.77.7.1:0".parse().unwrap());
    let server = tuplecat("udp-bind --join 239.77.7.1%lo").arg(address.port().to_string());
    let reason = "address in use (--reuse-port shares the port of a group)";
    server
        .run()
        .fails(4, &format!("cannot bind udp {address}: {reason}"));
}

/// A socket that is bound to a group and has not joined it receives nothing.
#[test]
fn a_group_to_bind_has_to_be_joined() {
    let message = "239.77.7.2 is a multicast group: --join 239.77.7.2 receives what is sent to it";
    tuplecat("udp-bind 239.77.7.2 0").run().fails(2, message);
}

#[test]
fn a_broadcast_without_a_default_route_says_so() {
    let Some(network) = network() else { return };
    let client = network.tuplecat("udp-sendto --broadcast 255.255.255.255 9 --send x");
    let advice = "(no default route; a network has a broadcast address of its own)";
    let message = format!("cannot send to 255.255.255.255:9: network is unreachable {advice}");
    client.run().fails(1, &message);
}

#[test]
fn only_the_joined_groups_are_received() {
    let words = "--join 239.77.2.1%lo --join 239.77.2.2%lo";
    let server = tuplecat("udp-bind --out line 0").args(words).start();
    let port = server.ready().port();
    assert!(server.ready().ip().is_unspecified());
    // The machine has joined this group too, but not for this socket.
    let neighbour = tuplecat("udp-bind --join 239.77.2.3%lo 0").start();
    neighbour.ready();
    for (group, word) in [(3, "three"), (2, "two"), (1, "one")] {
        let address = SocketAddr::from(([239, 77, 2, group], port));
        say(word, address, "--reply-timeout 0");
    }
    server.out().wait_for("two\none\n");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().text(), "two\none\n");
}

#[test]
fn a_source_specific_group_is_received_from_its_source_only() {
    let server = tuplecat("udp-bind --join 232.77.3.1@127.0.0.3%lo --out line 0").start();
    let address = server.ready();
    for source in ["127.0.0.2", "127.0.0.3"] {
        say(
            source,
            address,
            &format!("--source {source} --reply-timeout 0"),
        );
    }
    server.out().wait_for("127.0.0.3\n");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().text(), "127.0.0.3\n");
}

#[test]
fn ipv6_has_groups_too() {
    let Some(network) = network() else { return };
    let all = network.tuplecat("udp-bind --join ff02::77%veth0 --count 2 --out line 0");
    let all = all.start();
    let one = network.tuplecat("udp-bind --join ff35::77@fd77::2%veth0 --count 1 --out line 0");
    let one = one.start();
    let say = |word: &str, address: &str, words: &str| {
        let client = network.tuplecat("udp-sendto --reply-timeout 0 --multicast-if veth0");
        let client = client.arg(address).args(words);
        client.says(word).run().exits(0);
    };
    let scoped = |line: String| line.trim_end().split_once(' ').unwrap().1.to_owned();
    let (all_at, one_at) = (scoped(all.ready_line()), scoped(one.ready_line()));
    assert!(all_at.starts_with("[ff02::77%"), "{all_at}");
    for source in ["fd77::1", "fd77::2"] {
        let words = format!("--source {source}");
        say(source, &all_at, &words);
        say(source, &one_at, &words);
    }
    assert_eq!(all.wait().exits(0).text(), "fd77::1\nfd77::2\n");
    assert_eq!(one.wait().exits(0).text(), "fd77::2\n");
}

#[test]
fn multicast_loopback_can_be_disabled() {
    let Some(network) = network() else { return };
    let server = network.tuplecat("udp-bind --join 239.77.4.1%veth0 --out line 0");
    let server = server.start();
    for (word, words) in [("unheard", "--no-multicast-loop"), ("heard", "")] {
        let client = network.tuplecat("udp-sendto --multicast-if veth0 --reply-timeout 0");
        let client = client.to(server.ready()).args(words);
        client.says(word).run().exits(0);
    }
    server.out().wait_for("heard\n");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().text(), "heard\n");
}

#[test]
fn a_group_without_a_route_is_explained() {
    let Some(network) = Namespace::new("ip link set lo up") else {
        return;
    };
    let done = network.tuplecat("udp-bind --join 239.77.5.1 0").run();
    done.fails(
        1,
        "--join 239.77.5.1: no such device (no route says on which interface: name it, as in --join GROUP%eth0)",
    );
    let client = network.tuplecat("udp-sendto 239.77.5.1 9").says("x");
    client.run().fails(
        1,
        "cannot send to 239.77.5.1:9: network is unreachable (no route for multicast; --multicast-if names an interface)",
    );
}

#[test]
fn options_reach_the_socket() {
    let (_socket, address) = datagrams();
    for words in [
        "udp-bind 0",
        &format!("udp-sendto {} {}", address.ip(), address.port()),
    ] {
        let launch = tuplecat(words).args("--broadcast --multicast-ttl 7 --no-multicast-loop");
        let running = launch.stdin(Input::Held).start();
        running.ready();
        let Some(sockets) = sockets_of(&running) else {
            return;
        };
        let [socket] = &sockets[..] else {
            panic!("{} sockets", sockets.len());
        };
        assert!(socket.broadcast().unwrap());
        assert_eq!(socket.multicast_ttl_v4().unwrap(), 7);
        assert!(!socket.multicast_loop_v4().unwrap());
    }
}

#[test]
fn a_group_that_cannot_be_joined_is_an_error() {
    for (words, message) in [
        (
            "--join 239.1.1.1%nosuch0 0",
            "--join 239.1.1.1%nosuch0: no such device",
        ),
        (
            "--join ff02::1%lo 127.0.0.1 0",
            "--join ff02::1%lo: not an IPv6 socket",
        ),
        (
            "--multicast-if nosuch0 0",
            "--multicast-if nosuch0: no such device",
        ),
    ] {
        tuplecat("udp-bind").args(words).run().fails(1, message);
    }
    for (words, reason) in [
        (
            "-4 --join ff02::1%lo",
            "it is an IPv6 address, but -4 is given",
        ),
        (
            "-6 --join 239.1.1.1",
            "it is an IPv4 address, but -6 is given",
        ),
    ] {
        let group = words.rsplit(' ').next().unwrap();
        let done = tuplecat("udp-bind 0").args(words).run();
        done.fails(2, &format!("--join {group}: {reason}"));
    }
    for words in [
        "--join 10.0.0.1 0",
        "--join 239.1.1.1@nosuch 0",
        "--join 239.1.1.1% 0",
        "--multicast-ttl 256 0",
        "--multicast-if a234567890123456 0",
    ] {
        tuplecat("udp-bind").args(words).run().exits(2);
    }
}

/// The kernel prevents an accidental broadcast, and the error names the option that allows it.
#[test]
fn broadcast_needs_an_option() {
    for address in ["127.255.255.255", "255.255.255.255"] {
        let client = tuplecat("udp-sendto").args(&format!("{address} 9"));
        client.says("x").run().fails(
            1,
            &format!("cannot send to {address}:9: permission denied (a broadcast address needs --broadcast)"),
        );
    }
    let client = tuplecat("udp-sendto --connected 127.255.255.255 9").says("x");
    client.run().fails(
        1,
        "cannot use a socket for udp 127.255.255.255:9: permission denied (a broadcast address needs --broadcast)",
    );
    let server = tuplecat("udp-bind -4 --echo --count 1 * 0").start();
    let port = server.ready().port();
    // No answer comes from a broadcast address.
    let client =
        tuplecat("udp-sendto --broadcast --replies 1 --reply-timeout forever 127.255.255.255");
    let client = client.arg(port.to_string()).says("anybody?");
    let done = client.run().exits(0);
    assert_eq!(done.text(), "anybody?");
    assert_eq!(tuple(done.line("received")).2, format!("127.0.0.1:{port}"));
    server.wait().exits(0);
}

#[test]
fn a_route_that_prohibits_is_not_taken_for_a_broadcast() {
    let Some(network) = network() else { return };
    network.run("ip route add prohibit 10.79.0.0/24; ip -6 route add prohibit fd79::/64");
    for (address, shown) in [("10.79.0.1", "10.79.0.1:9"), ("fd79::1", "[fd79::1]:9")] {
        for (words, act) in [("", "send to"), ("--connected", "use a socket for udp")] {
            let client = network
                .tuplecat("udp-sendto")
                .args(&format!("{words} {address} 9"));
            let message = format!("cannot {act} {shown}: permission denied");
            client.says("x").run().fails(1, &message);
        }
    }
}

/// A member that is bound to every interface answers from its own address, not from the group's.
#[test]
fn a_member_answers_from_its_own_address() {
    let Some(network) = network() else { return };
    let server = network.tuplecat("udp-bind --join 239.77.6.1%veth0 --echo --count 1 * 0");
    let server = server.start();
    let port = server.ready().port();
    let client = network
        .tuplecat("udp-sendto --multicast-if veth0 --replies 1 --reply-timeout 30 239.77.6.1");
    let done = client.arg(port.to_string()).says("?").run().exits(0);
    let answered = tuple(done.line("received")).2;
    assert_eq!(answered, format!("10.77.0.1:{port}"));
    let server = server.wait().exits(0);
    assert!(server.line("received").contains("239.77.6.1"));
    assert_eq!(tuple(server.line("sent")).1, answered);
}

/// The route to a group may use another interface than `--multicast-if`; a socket that is bound to a group sends from another address.
#[test]
fn reports_name_the_address_that_groups_are_sent_to_from() {
    let Some(network) = network() else { return };
    network.run("ip address add 10.78.0.1/24 dev veth1; ip route add 239.0.0.0/8 dev veth1");
    let server = network.tuplecat("udp-bind --join 239.77.8.1%veth0 --echo --count 1 0");
    let server = server.start();
    let client = network.tuplecat("udp-sendto --replies 1 --reply-timeout 30 --multicast-if veth0");
    let done = client.to(server.ready()).says("?").run().exits(0);
    let (_, asking, _) = tuple(done.line("sent"));
    assert!(asking.starts_with("10.77.0.1:"), "{asking}");
    let (_, _, answering) = tuple(done.line("received"));
    let server = server.wait().exits(0);
    assert_eq!(tuple(server.line("received")).2, asking);
    assert_eq!(tuple(server.line("sent")).1, answering);
}

/// For a link-local address without an interface the kernel chooses the interface.
#[test]
fn an_address_without_its_scope_is_answered_all_the_same() {
    let Some(network) = network() else { return };
    network.run("ip -6 address add fe80::77/64 dev veth0 nodad");
    let server = network.tuplecat("udp-bind --echo --count 1 fe80::77%veth0 0");
    let server = server.start();
    let port = server.ready_line().rsplit_once(':').unwrap().1.to_owned();
    let ask = || {
        let client = network
            .tuplecat("udp-sendto --interface veth0 --replies 1 --reply-timeout 30 fe80::77");
        client.arg(port.trim_end()).says("?").run()
    };
    assert_eq!(ask().exits(0).text(), "?");
    server.wait().exits(0);
    let refused = ask();
    assert_eq!(refused.status, 5, "{}", refused.err);
}

/// The zone of an address has the name of the interface in reports, events and dumps, and a dump is read back.
#[test]
fn a_zone_is_shown_by_name() {
    let Some(network) = network() else { return };
    network.run("ip -6 address add fe80::77/64 dev veth0 nodad");
    let shown = program("ip", "-o link show veth0").within(&network);
    let shown = shown.run().exits(0).text();
    let number = shown.split(':').next().unwrap();
    let server = format!("udp-bind --echo --count 1 fe80::77%{number} 0");
    let server = network.tuplecat(&server).start();
    let port = server.ready_line().rsplit_once(':').unwrap().1.to_owned();
    let words = format!(
        "udp-sendto --interface {number} --replies 1 --reply-timeout 30 --hex-file dump --events events fe80::77%veth0"
    );
    let client = network.tuplecat(&words).arg(port.trim_end());
    let client = client.says("?").start();
    let (dump, events) = (client.path("dump"), client.path("events"));
    let server = server.wait().exits(0);
    let name = "[fe80::77%veth0]:";
    client.out().wait_for("?");
    client.err().wait_for_line("closed");
    let [dump, events] = [dump, events].map(|path| std::fs::read_to_string(path).unwrap());
    for text in [&server.err, &dump, &events] {
        assert!(
            text.contains(name) && !text.contains(&format!("%{number}]")),
            "{text}"
        );
    }
    let (socket, address) = datagrams();
    let replay = tuplecat("udp-sendto --in dump --reply-timeout 0").to(address);
    replay.says(dump).run().exits(0);
    assert_eq!(receive(&socket).0, b"?");
}

/// A group of any scope has a zone, the name or the number of an interface (RFC 4007, section 11).
#[test]
fn a_zone_names_the_interface_by_name_or_by_number() {
    let Some(network) = network() else {
        return;
    };
    network.run("ip -6 address add fd78::1/64 dev veth1 nodad");
    // Without a zone, the groups are sent through the other interface, and from its address.
    network.run("ip -6 route add ff00::/8 dev veth0 table local metric 1");
    let shown = program("ip", "-o link show veth1")
        .within(&network)
        .run()
        .exits(0)
        .text();
    let number = shown.split(':').next().unwrap();
    for zone in ["veth1", number] {
        for (words, from) in [("", ""), ("--connected", ""), ("", "udp-bind 0 --reply-to")] {
            let member = format!("udp-bind --join ff05::c%{zone} --count 1 0");
            let member = network.tuplecat(&member).start();
            let port = member.ready().port();
            let client = if from.is_empty() {
                let client = network.tuplecat("udp-sendto --reply-timeout 0").args(words);
                client.arg(format!("ff05::c%{zone}")).arg(port.to_string())
            } else {
                let client = network.tuplecat("udp-bind --timeout 1 * 0 --reply-to");
                client.arg(format!("[ff05::c%{zone}]:{port}"))
            };
            let client = client.says("hello").run();
            let done = member.wait().exits(0);
            assert_eq!(done.text(), "hello");
            assert!(
                done.err.contains(" <- [fd78::1]:"),
                "{}{}",
                done.err,
                client.err
            );
        }
    }
    let refused = network
        .tuplecat("udp-sendto --multicast-if veth0 ff05::c%veth1 9")
        .run();
    let error = refused.exits(2).err;
    assert!(error.contains("the zone of [ff05::c%veth1]:9 "), "{error}");
    for (target, reason) in [
        ("ff05::c%nosuch", "no network interface 'nosuch'"),
        ("ff05::c%99", "no network interface '99'"),
        (
            "fd77::9%veth0",
            "only a link-local or multicast address takes a zone",
        ),
    ] {
        let client = network.tuplecat("udp-sendto").arg(target).arg("9").run();
        client.fails(3, &format!("cannot resolve host '{target}': {reason}"));
    }
}
