//! Paths that are narrower than the first link: what the router sends back is used, or counted as a loss.
//! Three machines: ours, a router whose second link takes 1300 bytes, and theirs.

use rustix::process::Signal;

use crate::common::*;

/// Our address and theirs, in both families.
const OURS: [&str; 2] = ["10.78.1.2", "fd78:1::2"];
const THEIRS: [&str; 2] = ["10.78.2.2", "fd78:2::2"];

const ENGINES: [&str; 2] = ["", "--no-fast-path"];

struct NarrowPath {
    ours: Namespace,
    theirs: Namespace,
    router: Namespace,
}

impl NarrowPath {
    fn new() -> Option<Self> {
        let router = Namespace::new(
            "ip link set dev lo up
            echo 1 > /proc/sys/net/ipv4/ip_forward
            echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
        )?;
        let [ours, theirs] = [("near", 1, 1500), ("far", 2, 1300)].map(|(link, net, mtu)| {
            let machine = router.beside();
            router.run(&format!(
                "ip link add {link} type veth peer name up0 netns {}
                ip address add 10.78.{net}.1/24 dev {link}
                ip address add fd78:{net}::1/64 dev {link} nodad
                ip link set dev {link} up mtu {mtu}",
                machine.holder()
            ));
            machine.run(&format!(
                "ip address add 10.78.{net}.2/24 dev up0
                ip address add fd78:{net}::2/64 dev up0 nodad
                ip link set dev up0 up mtu {mtu}
                ip route add default via 10.78.{net}.1
                ip -6 route add default via fd78:{net}::1"
            ));
            machine
        });
        // Each learns the hardware addresses of its neighbours: until then packets wait, or are dropped.
        for target in THEIRS {
            let client = ours.tuplecat("udp-sendto --reply-timeout 30").args(target);
            client.arg("9").says("?").run().exits(5);
        }
        Some(Self {
            ours,
            theirs,
            router,
        })
    }

    /// Makes our machine and the router forget what they have learned of the path.
    fn forget(&self) {
        for machine in [&self.ours, &self.router] {
            machine.run("ip route flush cache; ip -6 route flush cache");
        }
    }
}

/// Frames of 1 to 3000 bytes, each behind its length.
fn frames() -> Vec<u8> {
    let sizes = [1_u16, 1500, 10, 1300, 1272, 1253, 1252, 3000, 0, 700, 1472];
    let frame = |&size: &u16| [&size.to_be_bytes(), &bytes(size.into())[..]].concat();
    sizes.iter().flat_map(frame).collect()
}

#[test]
fn everything_arrives_through_a_narrow_path_in_every_framing() {
    let Some(path) = NarrowPath::new() else {
        return;
    };
    let inputs = [
        ("", "", bytes(90_000)),
        ("--in block:1400", "", bytes(20_000)),
        ("--in len16", "--out len16", frames()),
    ];
    for (target, connected) in THEIRS.into_iter().zip(["", "--connected"]) {
        for (input, output, sent) in &inputs {
            for engine in ENGINES {
                path.forget();
                let server = path.theirs.tuplecat("udp-bind --rcvbuf 4M --fail-on-loss");
                let count = (!output.is_empty()).then_some("--count 11");
                let server = server.args(output).args(count.unwrap_or("--eof-datagram"));
                let server = server.args("* 0").start();
                let client = path.ours.tuplecat("udp-sendto --fail-on-loss").args(input);
                let client = client.args(engine).args(connected);
                let client = client.args(count.map_or("--eof-datagram", |_| ""));
                let client = client.arg(target).arg(server.ready().port().to_string());
                let client = client.stdin(Input::From(with_text(sent))).run().exits(0);
                let received = server.wait().exits(0).out;
                assert!(received == *sent, "{target} {input} {engine}");
                // An IPv4 run is segmented by the router, which may fragment it.
                if !engine.is_empty() || target.contains(':') {
                    let line = client.line("refused");
                    assert!(line.contains("(path MTU 1300): sent again"), "{line}");
                }
            }
        }
    }
}

/// The answers of a server go through the narrow path: of a responder, of an echo, and from standard input.
#[test]
fn answers_arrive_through_a_narrow_path() {
    let Some(path) = NarrowPath::new() else {
        return;
    };
    let answer = bytes(1450);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("answer"), &answer).unwrap();
    let canned = format!("--canned {}/answer", directory.path().display());
    for ours in OURS {
        for (words, is_echo) in [(&canned[..], false), ("--echo", true), ("", false)] {
            for engine in ENGINES {
                path.forget();
                let server = path.ours.tuplecat("udp-bind --fail-on-loss").args(words);
                let server = server.args(engine).args("* 0").stdin(Input::Held);
                let mut server = server.start();
                let client = path.theirs.tuplecat("udp-sendto --replies 1");
                let client = client.args("--reply-timeout 30").arg(ours);
                let client = client.arg(server.ready().port().to_string());
                let question = if is_echo { &answer[..] } else { b"q" };
                let client = client.stdin(Input::From(with_text(question))).start();
                if words.is_empty() {
                    server.out().wait_for("q");
                    server.write(&answer);
                }
                let done = client.wait().exits(0);
                assert!(done.out == answer, "{ours} {words} {engine}");
                server.signal(Signal::TERM);
                let done = server.wait().exits(143);
                assert!(
                    done.line("refused").contains(": sent again"),
                    "{}",
                    done.err
                );
            }
        }
    }
}
