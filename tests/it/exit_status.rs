//! Exit statuses, each with its one line on standard error.
//! A script relies on the number, a user on the line: it names the act and the address.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::process::Signal;
use tuplecat::flow::Transport;

use crate::common::*;

fn open(path: &str) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn full() -> Output {
    let file = File::options().write(true).open("/dev/full").unwrap();
    Output::To(file.into())
}

each! {
    /// Limits on time are the same.
    fn limits_on_time_are_kept(transport) {
        let server = waits(transport, "--timeout 300ms 0").start();
        server.wait().fails(6, "timed out after 0.3 s (--timeout)");
        let server = waits(transport, "0").stdin(Input::Held).start();
        let client = meets(transport, &server).args("--idle-timeout 300ms");
        let done = client.stdin(Input::Held).run();
        done.fails(6, "nothing was sent or received for 0.3 s (--idle-timeout)");
    }

    /// A reader of standard output that goes away ends the run without a message.
    fn a_closed_output_ends_quietly(transport) {
        let mut server = waits(transport, "0").stdout(Output::Held).stdin(Input::Held).start();
        let mut client = meets(transport, &server).stdin(Input::Held).start();
        drop(server.take_stdout());
        client.write("into the void");
        assert_eq!(server.wait().exits(141).errors(), "");
    }

    /// A full disk ends the run at once, with a message.
    fn a_full_disk_is_an_error(transport) {
        let server = waits(transport, "0").stdout(full()).stdin(Input::Held).start();
        let mut client = meets(transport, &server).stdin(Input::Held).start();
        client.write("too much");
        server.wait().fails(1, "cannot write to standard output: no space left on device");
    }

    /// SIGTERM, SIGINT and SIGHUP end a run: received data is written, the closing line is printed, and the status names the signal.
    fn signals_end_a_run_in_order(transport) {
        for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
            let server = waits(transport, "0").stdin(Input::Held).start();
            let mut client = meets(transport, &server).stdin(Input::Held).start();
            client.write("before");
            server.out().wait_for("before");
            server.signal(signal);
            let done = server.wait().exits(status);
            assert_eq!(done.text(), "before");
            assert!(done.line("closed").contains("  in "));
            client.signal(signal);
            client.wait().exits(status);
        }
    }
}

both! {
    /// An unknown name is an error before a socket is opened.
    fn an_unknown_name_is_an_error(transport) {
        let name = "no-such-host.invalid";
        let done = match transport {
            Transport::Tcp => tuplecat("tcp-connect"),
            _ => tuplecat("udp-sendto"),
        };
        let done = done.args(&format!("{name} 9"));
        // Without a name server, the look-up must not take long.
        let done = done.env("RES_OPTIONS", "timeout:1 attempts:1").run().exits(3);
        let message = format!("cannot resolve host '{name}': ");
        assert!(done.errors().starts_with(&message), "{}", done.err);
    }

    /// An output that was closed before the start is an error only once there is something to write.
    fn an_output_closed_from_the_start_is_an_error(transport) {
        let server = waits(transport, "0").stdout(Output::Closed).start();
        let mut client = speaks(transport, server.ready()).stdin(Input::Held).start();
        client.write("for nobody");
        let message = "cannot write to standard output: it was closed when the program started";
        server.wait().fails(1, message);
    }

    /// An input that cannot be read is an error.
    fn an_unreadable_input_is_an_error(transport) {
        let server = waits(transport, "0").stdin(Input::Held).start();
        let client = speaks(transport, server.ready()).stdin(Input::From(open("/")));
        client.run().fails(1, "cannot read standard input: is a directory");
    }

    /// An unknown service is an error like an unknown name.
    fn an_unknown_service_is_an_error(transport) {
        let (listens, _) = modes(transport);
        let done = tuplecat(listens).args("no-such-service").run();
        done.fails(3, &format!("unknown {transport} service 'no-such-service'"));
    }

    /// With `-n` no name is looked up, not even a known one.
    fn a_name_is_an_error_where_numbers_are_asked_for(transport) {
        let (_, speaks) = modes(transport);
        let done = tuplecat(speaks).args("-n localhost 9").run();
        let reason = "not a numeric address, but -n is given";
        done.fails(3, &format!("cannot resolve host 'localhost': {reason}"));
    }

    /// An address of another machine cannot be bound (RFC 5737 reserves this one for documentation).
    fn a_foreign_address_cannot_be_bound(transport) {
        let (listens, speaks) = modes(transport);
        let done = tuplecat(listens).args("192.0.2.1 0").run();
        let act = bind_act(transport);
        done.fails(4, &format!("{act} 192.0.2.1:0: not an address of this machine"));
        let done = tuplecat(speaks).args("--source 192.0.2.1 127.0.0.1 9").says("x").run();
        done.fails(4, &format!("cannot bind {transport} 192.0.2.1:0: not an address of this machine"));
    }

    /// A link-local address needs its interface.
    fn a_link_local_address_needs_its_interface(transport) {
        if !has_ipv6() {
            return;
        }
        let (listens, _) = modes(transport);
        let done = tuplecat(listens).args("fe80::1 0").run();
        let reason = "a link-local address needs its interface, as in 'fe80::1%eth0'";
        done.fails(4, &format!("{} [fe80::1]:0: {reason}", bind_act(transport)));
        let done = tuplecat("tcp-connect fe80::1 9").run();
        done.fails(1, &format!("cannot connect to [fe80::1]:9: {reason}"));
        let done = tuplecat("udp-sendto --connected fe80::1 9").run();
        done.fails(1, &format!("cannot use a socket for udp [fe80::1]:9: {reason}"));
    }

    /// A privileged port cannot be bound without the right to do so.
    fn a_privileged_port_cannot_be_bound(transport) {
        let (listens, _) = modes(transport);
        let words = "--bounding-set=-all --inh-caps=-all --ambient-caps=-all";
        let binary = env!("CARGO_BIN_EXE_tuplecat");
        let probe = program("setpriv", &format!("{words} true"));
        let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        if !is_installed("setpriv") || probe.run().status != 0 || first.is_ok_and(|port| port.trim() == "0") {
            return skip("the right to bind any port cannot be given up here");
        }
        let done = program("setpriv", words).arg(binary).args(listens).arg("7").run();
        let reason = "permission denied (a port below 1024 needs root, or CAP_NET_BIND_SERVICE)";
        done.fails(4, &format!("{} 127.0.0.1:7: {reason}", bind_act(transport)));
    }

    /// Command-line errors come before all others.
    fn a_bad_command_line_is_a_usage_error(transport) {
        let (listens, speaks) = modes(transport);
        let foreign = match transport {
            Transport::Tcp => "--count 1",
            _ => "--nodelay on",
        };
        for words in [
            format!("{listens} {foreign} 0"),
            listens.to_string(),
            format!("{listens} 65536"),
            format!("{listens} --timeout never 0"),
            format!("{listens} --max-bytes 0 0"),
            format!("{listens} -q -v 0"),
            format!("{listens} --send-only --recv-only 0"),
            format!("{speaks} 127.0.0.1"),
            format!("{speaks} ::1:80"),
            format!("{speaks} 127.0.0.1 0"),
            format!("{speaks} * 9"),
            format!("{speaks} -4 -6 localhost 9"),
            format!("{speaks} --ttl 0 localhost 9"),
        ] {
            let done = tuplecat(&words).run().exits(2);
            assert!(done.err.starts_with("tuplecat: "), "{words}: {}", done.err);
            assert!(done.err.contains("--help"), "{words}: {}", done.err);
            assert_eq!(done.text(), "", "{words}");
        }
    }

    /// A closed standard error changes nothing else.
    fn the_status_needs_no_standard_error(transport) {
        let (_, speaks) = modes(transport);
        let (_nobody, address) = refusing(transport);
        for errors in [Output::Closed, full()] {
            tuplecat(speaks).to(address).says("x").stderr(errors).run().exits(5);
        }
        let launch = tuplecat(speaks).to(address).stderr(Output::Closed);
        launch.stdin(Input::Closed).stdout(Output::Closed).run().exits(match transport {
            Transport::Tcp => 5,
            // There is nothing to send, and thus nothing to refuse.
            _ => 0,
        });
    }
}

fn modes(transport: Transport) -> (&'static str, &'static str) {
    match transport {
        Transport::Tcp => ("tcp-listen", "tcp-connect"),
        _ => ("udp-bind", "udp-sendto"),
    }
}

fn bind_act(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "cannot listen on",
        _ => "cannot bind udp",
    }
}

#[test]
fn no_command_is_a_usage_error_and_help_is_not() {
    let done = tuplecat("").run().exits(2);
    assert!(done.err.contains("Usage: tuplecat "), "{}", done.err);
    let done = tuplecat("frobnicate").run().exits(2);
    assert!(done.err.contains("'frobnicate'"), "{}", done.err);
    for words in ["--help", "-h", "--version", "tcp-listen --help", "us -h"] {
        let done = tuplecat(words).run().exits(0);
        assert_eq!(done.err, "", "{words}");
        assert!(done.text().contains("tuplecat"), "{words}");
    }
}

#[test]
fn a_refused_connection_has_its_status() {
    let (_nobody, address) = refusing(Transport::Tcp);
    let done = tuplecat("tcp-connect").to(address).run();
    let done = done.fails(
        5,
        &format!("cannot connect to {address}: connection refused"),
    );
    assert_eq!(done.err.lines().count(), 1, "{}", done.err);
}

#[test]
fn an_unreachable_port_has_its_status() {
    let hosts = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for ip in hosts
        .into_iter()
        .filter(|ip: &IpAddr| ip.is_ipv4() || has_ipv6())
    {
        for words in ["", "--connected"] {
            let (_nobody, address) = refusing_at(Transport::Udp, ip);
            let done = tuplecat("udp-sendto")
                .args(words)
                .to(address)
                .says("x")
                .run();
            let error = done.exits(5).errors();
            assert!(
                error.ends_with(&format!("-> {address}: port unreachable")),
                "{error}"
            );
        }
    }
}

#[test]
fn a_connection_without_an_answer_times_out() {
    let (_queue, address) = silent();
    let done = tuplecat("tcp-connect --connect-timeout 300ms")
        .to(address)
        .run();
    done.fails(
        6,
        &format!("cannot connect to {address}: timed out after 0.3 s"),
    );
    let done = tuplecat("tcp-connect --timeout 0.3").to(address).run();
    assert!(done.exits(6).errors().contains("timed out after 0.3 s"));
}

#[test]
fn a_listener_without_a_client_times_out() {
    let server = tuplecat("tcp-listen --accept-timeout 300ms 0")
        .stdin(Input::Held)
        .start();
    let address = server.ready();
    let reason = "within 0.3 s (--accept-timeout)";
    server
        .wait()
        .fails(6, &format!("no client connected to {address} {reason}"));
    // A client in time removes the limit.
    let server = tuplecat("tcp-listen --accept-timeout 50 0").start();
    drop(connect(server.ready()));
    server.wait().exits(0);
}

#[test]
fn fewer_replies_than_asked_for_are_too_few() {
    let (socket, address) = datagrams();
    let launch = tuplecat("udp-sendto --replies 2 --reply-timeout 2").to(address);
    let running = launch.says("x").start();
    let (_, sender) = receive(&socket);
    socket.send_to(b"only one", sender).unwrap();
    let done = running.wait().exits(6);
    assert_eq!(done.text(), "only one");
    let message = ": 1 datagram that was asked for did not come";
    assert!(done.errors().ends_with(message), "{}", done.err);
}

#[test]
fn two_numbers_of_replies_contradict_each_other() {
    let done = tuplecat("udp-sendto --replies 2 --count 1 ::1 9").run();
    let text = "the argument '--replies <N>' cannot be used with '--count <N>'";
    assert!(done.exits(2).err.contains(text));
}

#[test]
fn a_reset_has_its_status() {
    let (listener, address) = listen();
    let running = tuplecat("tcp-connect")
        .to(address)
        .stdin(Input::Held)
        .start();
    let own = running.ready();
    reset(accept(&listener));
    let message = format!("tcp {own} <-> {address}: connection reset by peer");
    running.wait().fails(7, &message);
}

#[test]
fn a_session_that_went_well_is_zero() {
    let server = tuplecat("tcp-listen 0").start();
    let peer = connect(server.ready());
    peer.shutdown(Shutdown::Both).unwrap();
    assert_eq!(server.wait().exits(0).errors(), "");
}

#[test]
fn a_datagram_that_is_too_large_is_an_error() {
    let (_socket, address) = datagrams();
    let launch = tuplecat("udp-sendto --datagram-size 65527").to(address);
    let done = launch.says(bytes(65_527)).run();
    let message =
        format!("cannot send to {address}: a datagram holds at most 65507 bytes, not 65527");
    done.fails(1, &message);
}

#[test]
fn a_source_port_in_use_cannot_be_bound() {
    let (_taken, address) = datagrams();
    let (_socket, target) = datagrams();
    let port = address.port();
    let launch = tuplecat("udp-sendto --source 127.0.0.1").to(target);
    let done = launch
        .args(&format!("--source-port {port}"))
        .says("x")
        .run();
    done.fails(4, &format!("cannot bind udp {address}: address in use"));
    assert!(UdpSocket::bind(address).is_err());
}

/// Help, version and completion scripts are output that can fail, too.
#[test]
fn printed_text_that_cannot_be_written_is_an_error() {
    for words in [
        "-h",
        "--help",
        "--version",
        "udp-bind -h",
        "completions bash",
        "compare",
    ] {
        let launch = || tuplecat(words).bare();
        assert!(!launch().run().exits(0).out.is_empty(), "{words}");
        let act = "cannot write to standard output";
        let done = launch().stdout(full()).run();
        done.fails(1, &format!("{act}: no space left on device"));
        let done = launch().stdout(Output::Closed).run();
        done.fails(1, &format!("{act}: it was closed when the program started"));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = launch().stdout(Output::To(writer.into())).run();
        assert_eq!(done.exits(141).err, "", "{words}");
    }
}
