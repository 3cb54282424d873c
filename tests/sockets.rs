//! The whole process over real sockets on loopback. Nothing sleeps: every wait is for an event, with a bound.

#![cfg(feature = "io")]
#![expect(
    clippy::disallowed_methods,
    reason = "the ban on sockets and clocks is meant for the core"
)]

use referee::config::{Bind, Config, DialogSecret, Health, Network, TrunkId};
use referee::io::{RunError, Running, start};
use referee::transport::Transport;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Answers OPTIONS from anywhere.
fn config(shards: u16) -> Config {
    let mut config = Config::relay_all(&[any_port()], "127.0.0.1:9").unwrap();
    config.shards = Some(shards);
    config.control.listen = None;
    config
}

/// Relays everything to `to`, for example `tcp:127.0.0.1:5070`.
fn relay(to: &str) -> Config {
    let mut config = Config::relay_all(&[any_port()], to).unwrap();
    config.shards = Some(1);
    config.control.listen = None;
    config
}

fn address(running: &Running, transport: Transport) -> SocketAddr {
    let of_transport = |bind: &&Bind| bind.transport == transport;
    running.addresses().iter().find(of_transport).unwrap().address
}

fn udp_client(running: &Running) -> UdpSocket {
    let socket = UdpSocket::bind(any_port()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(address(running, Transport::Udp)).unwrap();
    socket
}

fn tcp_client(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(address(running, Transport::Tcp)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A connection from another address than the system would take.
fn tcp_client_from(from: &str, running: &Running) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&from.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&address(running, Transport::Tcp).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Closes a connection with a reset.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A callee over UDP that answers nothing by itself.
fn udp_callee() -> UdpSocket {
    let socket = UdpSocket::bind(any_port()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn udp_address(socket: &UdpSocket) -> String {
    format!("udp:{}", socket.local_addr().unwrap())
}

/// The next request of this method that a callee gets, and where it came from.
fn next_request(callee: &UdpSocket, method: &str) -> (String, SocketAddr) {
    loop {
        let mut bytes = [0; 65_535];
        let (count, from) = callee.recv_from(&mut bytes).expect("a request");
        let request = String::from_utf8(bytes[..count].to_vec()).unwrap();
        if request.starts_with(method) {
            return (request, from);
        }
    }
}

/// A response to a request, as a user agent writes it.
fn answer(request: &str, status: &str, body: &str) -> Vec<u8> {
    let copied = |line: &&str| {
        ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let mut response = format!("SIP/2.0 {status}\r\n");
    for line in request.lines().filter(copied) {
        response += &format!("{line}\r\n");
    }
    let to = request.lines().find(|line| line.starts_with("To:")).unwrap();
    response += &format!("{to};tag=callee\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    response.into_bytes()
}

/// Floods in a thread of its own, with a number that rises, until `check` is done, even by a panic.
fn while_flooding(mut flood: impl FnMut(usize) + Send, check: impl FnOnce()) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..).take_while(|_| !stop.load(Ordering::Relaxed)).for_each(&mut flood));
        let _stop = Stop(&stop);
        check();
    });
}

/// Trunk `known` at 127.0.0.2, and nobody else.
fn one_trunk(shards: u16) -> Config {
    let mut config = config(shards);
    config.trunks.truncate(1);
    config.routes.clear();
    config.trunks[0].sources = vec![Network::host("127.0.0.2".parse().unwrap())];
    config
}

/// Who sends requests, how, and to which address of referee.
struct Ends {
    transport: &'static str,
    from: SocketAddr,
    to: SocketAddr,
}

impl Ends {
    fn of_udp(socket: &UdpSocket) -> Ends {
        Ends {
            transport: "UDP",
            from: socket.local_addr().unwrap(),
            to: socket.peer_addr().unwrap(),
        }
    }

    fn of_tcp(stream: &TcpStream) -> Ends {
        Ends {
            transport: "TCP",
            from: stream.local_addr().unwrap(),
            to: stream.peer_addr().unwrap(),
        }
    }

    /// A request of its own call: OPTIONS to referee itself, anything else to someone behind it.
    fn request(&self, method: &str, number: usize, padding: usize) -> Vec<u8> {
        let Ends { transport, from, to } = self;
        let user = if method == "OPTIONS" { "" } else { "service@" };
        format!(
            "{method} sip:{user}{to} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {from};branch=z9hG4bK-{number};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:alice@127.0.0.1>;tag=a{number}\r\n\
             To: <sip:service@127.0.0.1>\r\n\
             Call-ID: call-{number}@127.0.0.1\r\n\
             CSeq: 1 {method}\r\n\
             Contact: <sip:alice@{from}>\r\n\
             Subject: {}\r\n\
             Content-Length: 0\r\n\r\n",
            "x".repeat(padding)
        )
        .into_bytes()
    }
}

/// Reads whole messages off a stream; these tests get none with a body.
struct Messages<'a> {
    stream: &'a TcpStream,
    received: Vec<u8>,
}

impl Messages<'_> {
    fn on(stream: &TcpStream) -> Messages<'_> {
        Messages {
            stream,
            received: Vec::new(),
        }
    }

    /// The next message; `None` at the end of the stream.
    fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.received.split_off(end + 4);
                return Some(String::from_utf8(std::mem::replace(&mut self.received, rest)).unwrap());
            }
            let mut bytes = [0; 4096];
            match self
                .stream
                .read(&mut bytes)
                .expect("a message or the end of the stream")
            {
                0 => return None,
                count => self.received.extend_from_slice(&bytes[..count]),
            }
        }
    }

    /// The next final response.
    fn next_final(&mut self) -> Option<String> {
        loop {
            let message = self.next()?;
            if !message.starts_with("SIP/2.0 1") {
                return Some(message);
            }
        }
    }
}

fn call_number(message: &str) -> usize {
    let line = message
        .lines()
        .find_map(|line| line.strip_prefix("Call-ID: call-"))
        .unwrap();
    line.split('@').next().unwrap().parse().unwrap()
}

/// Waits until a counter is at least `least`: counters are published a moment after the fact.
fn wait_for(running: &Running, counter: &str, least: u64) -> u64 {
    let begin = Instant::now();
    loop {
        let value = running.counters().value(counter).unwrap();
        if value >= least {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "{counter} stays at {value}");
        std::thread::yield_now();
    }
}

#[test]
fn datagrams_are_answered_by_whichever_shard_owns_the_call() {
    const REQUESTS: usize = 300;
    for shards in [1, 2, 3] {
        let running = start(config(shards)).unwrap();
        let client = udp_client(&running);
        let ends = Ends::of_udp(&client);
        let mut answered = vec![false; REQUESTS];
        let mut bytes = [0; 4096];
        for batch in 0..REQUESTS / 50 {
            for number in batch * 50..(batch + 1) * 50 {
                client.send(&ends.request("OPTIONS", number, 10)).unwrap();
            }
            for _ in 0..50 {
                let count = client.recv(&mut bytes).unwrap();
                let response = std::str::from_utf8(&bytes[..count]).unwrap();
                assert!(response.starts_with("SIP/2.0 200 "), "{response}");
                assert!(response.contains(&format!("rport={}", ends.from.port())), "{response}");
                answered[call_number(response)] = true;
            }
        }
        assert!(answered.iter().all(|answered| *answered));
        wait_for(&running, "datagrams_sent_total", REQUESTS as u64);
        assert_eq!(
            wait_for(&running, "datagrams_received_total", REQUESTS as u64),
            REQUESTS as u64
        );
        let least = if shards == 1 { 0 } else { REQUESTS as u64 / 4 };
        let passed = wait_for(&running, "handoff_passed_total", least);
        assert_eq!(wait_for(&running, "handoff_taken_total", passed), passed);
        assert_eq!(
            passed == 0,
            shards == 1,
            "one source reaches one socket, its calls all shards"
        );
        running.stop();
    }
}

#[test]
fn a_stream_cut_anywhere_yields_its_messages_in_order() {
    let running = start(config(1)).unwrap();
    let stream = tcp_client(&running);
    let ends = Ends::of_tcp(&stream);
    for byte in ends.request("OPTIONS", 0, 10) {
        (&stream).write_all(&[byte]).unwrap();
    }
    let mut pipelined: Vec<u8> = b"\r\n".to_vec();
    for number in 1..60 {
        pipelined.extend(ends.request("OPTIONS", number, number * 20));
    }
    let mut messages = Messages::on(&stream);
    for cut in pipelined.chunks(1_777) {
        (&stream).write_all(cut).unwrap();
    }
    for number in 0..60 {
        let response = messages.next().unwrap();
        assert!(response.starts_with("SIP/2.0 200 "), "{response}");
        assert_eq!(call_number(&response), number);
    }
    running.stop();
}

#[test]
fn shards_answer_on_a_connection_that_another_worker_owns() {
    const REQUESTS: usize = 400;
    let running = start(config(3)).unwrap();
    let stream = tcp_client(&running);
    let ends = Ends::of_tcp(&stream);
    let all: Vec<u8> = (0..REQUESTS)
        .flat_map(|number| ends.request("OPTIONS", number, 10))
        .collect();
    (&stream).write_all(&all).unwrap();
    let mut messages = Messages::on(&stream);
    let mut answered = [false; REQUESTS];
    for _ in 0..REQUESTS {
        let response = messages.next().unwrap();
        assert!(response.starts_with("SIP/2.0 200 "), "{response}");
        answered[call_number(&response)] = true;
    }
    assert!(answered.iter().all(|answered| *answered));
    assert!(wait_for(&running, "handoff_passed_total", 1) > REQUESTS as u64 / 4);
    assert_eq!(running.counters().value("tcp_opened_total"), Some(0));
    running.stop();
}

#[test]
fn a_full_ring_drops_datagrams_and_counts_them_but_only_delays_streams() {
    let mut config = config(2);
    config.limits.handoff_max = 1;
    let running = start(config).unwrap();
    let client = udp_client(&running);
    let ends = Ends::of_udp(&client);
    let begin = Instant::now();
    let mut number = 0;
    while running.counters().value("handoff_dropped_total") == Some(0) {
        assert!(begin.elapsed() < PATIENCE, "no drop in {number} datagrams");
        client.send(&ends.request("OPTIONS", number, 10)).unwrap();
        number += 1;
    }

    const REQUESTS: usize = 1_000;
    let stream = tcp_client(&running);
    let ends = Ends::of_tcp(&stream);
    let all: Vec<u8> = (0..REQUESTS)
        .flat_map(|n| ends.request("OPTIONS", 1_000_000 + n, 10))
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&all).unwrap());
        let mut messages = Messages::on(&stream);
        let mut answered = [false; REQUESTS];
        for _ in 0..REQUESTS {
            answered[call_number(&messages.next().unwrap()) - 1_000_000] = true;
        }
        assert!(answered.iter().all(|answered| *answered));
    });
    wait_for(&running, "handoff_parked_total", 1);
    running.stop();
}

#[test]
fn keepalives_are_swallowed_over_udp_and_answered_over_tcp() {
    let running = start(config(1)).unwrap();
    let client = udp_client(&running);
    for keepalive in [&b""[..], b"\r\n\r\n", b"\0"] {
        client.send(keepalive).unwrap();
    }
    client.send(&Ends::of_udp(&client).request("OPTIONS", 1, 0)).unwrap();
    let mut bytes = [0; 4096];
    let count = client.recv(&mut bytes).unwrap();
    assert!(bytes[..count].starts_with(b"SIP/2.0 200 "));
    assert_eq!(wait_for(&running, "keepalives_received_total", 3), 3);

    let mut stream = tcp_client(&running);
    for _ in 0..3 {
        stream.write_all(b"\r\n\r\n").unwrap();
        let mut pong = [0; 2];
        stream.read_exact(&mut pong).unwrap();
        assert_eq!(&pong, b"\r\n");
    }
    running.stop();
}

#[test]
fn what_cannot_be_framed_or_parsed_is_answered_if_possible_and_ends_the_connection() {
    let running = start(config(1)).unwrap();
    let ends = Ends::of_tcp(&tcp_client(&running));
    let good = String::from_utf8(ends.request("OPTIONS", 7, 0)).unwrap();
    for (bytes, answer) in [
        (good.replace("Content-Length: 0\r\n", ""), Some("400")),
        (good.replace("Content-Length: 0", "Content-Length: -1"), Some("400")),
        (good.replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE"), Some("400")),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), None),
    ] {
        let stream = tcp_client(&running);
        let mut messages = Messages::on(&stream);
        (&stream).write_all(bytes.as_bytes()).unwrap();
        if let Some(code) = answer {
            let response = messages.next().unwrap();
            assert!(
                response.starts_with(&format!("SIP/2.0 {code} ")),
                "{response}\nto\n{bytes}"
            );
        }
        assert_eq!(messages.next(), None, "{bytes}");
    }
    wait_for(&running, "tcp_malformed_closes_total", 4);
    running.stop();
}

#[test]
fn a_peer_that_closes_its_side_still_gets_its_answer() {
    for shards in [1, 3] {
        let running = start(config(shards)).unwrap();
        for number in 0..2 {
            let stream = tcp_client(&running);
            let ends = Ends::of_tcp(&stream);
            (&stream).write_all(&ends.request("OPTIONS", number, 0)).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut messages = Messages::on(&stream);
            assert!(messages.next().unwrap().starts_with("SIP/2.0 200 "));
            assert_eq!(messages.next(), None);
        }
        running.stop();
    }
}

#[test]
fn a_peer_whose_port_is_closed_fails_the_call_long_before_timer_b() {
    let closed = UdpSocket::bind(any_port()).unwrap().local_addr().unwrap();
    let running = start(relay(&format!("udp:{closed}"))).unwrap();
    let client = udp_client(&running);
    client.send(&Ends::of_udp(&client).request("INVITE", 1, 0)).unwrap();
    let mut bytes = [0; 4096];
    loop {
        let count = client.recv(&mut bytes).unwrap();
        let response = std::str::from_utf8(&bytes[..count]).unwrap();
        if !response.starts_with("SIP/2.0 100 ") {
            assert!(response.starts_with("SIP/2.0 5"), "{response}");
            break;
        }
    }
    wait_for(&running, "datagrams_bounced_total", 1);
    running.stop();
}

#[test]
fn a_peer_whose_port_is_closed_fails_the_calls_of_every_shard_and_no_call_of_another_peer() {
    // Of the sockets that share an address the kernel gives all errors about one peer to the same, whichever of them has sent.
    const CALLS: usize = 32;
    let closed = UdpSocket::bind(any_port()).unwrap().local_addr().unwrap();
    let callee = udp_callee();
    let mut config = relay(&format!("udp:{closed}"));
    let other = relay(&udp_address(&callee)).trunks.remove(1);
    config.trunks.push(other);
    let mut route = config.routes[0].clone();
    route.matches.user = Some("other".to_owned());
    route.to[0].trunk = TrunkId(2);
    config.routes.insert(0, route);
    config.shards = Some(4);
    config.limits.queue_delay_target = PATIENCE;
    let running = start(config).unwrap();
    let client = udp_client(&running);
    let ends = Ends::of_udp(&client);
    let other = String::from_utf8(ends.request("INVITE", CALLS, 0)).unwrap();
    client
        .send(other.replacen("sip:service@", "sip:other@", 1).as_bytes())
        .unwrap();
    let (invite, from) = next_request(&callee, "INVITE");
    for number in 0..CALLS {
        client.send(&ends.request("INVITE", number, 0)).unwrap();
    }
    let mut bytes = [0; 4096];
    let mut next_final = || loop {
        let count = client.recv(&mut bytes).unwrap();
        let response = String::from_utf8(bytes[..count].to_vec()).unwrap();
        if !response.starts_with("SIP/2.0 100 ") {
            break (call_number(&response), response);
        }
    };
    let mut failed = [false; CALLS];
    while failed.contains(&false) {
        let (number, response) = next_final();
        // Timer B would make it a 408.
        assert!(number < CALLS && response.starts_with("SIP/2.0 500 "), "{response}");
        failed[number] = true;
    }
    callee.send_to(&answer(&invite, "200 OK", ""), from).unwrap();
    // Nobody acknowledges the refusals: some may come again.
    let response = loop {
        let (number, response) = next_final();
        if number == CALLS {
            break response;
        }
    };
    assert!(response.starts_with("SIP/2.0 200 "), "{response}");
    running.stop();
}

#[test]
fn of_a_flood_of_icmp_errors_few_are_passed_on_between_shards() {
    let closed = UdpSocket::bind(any_port()).unwrap().local_addr().unwrap();
    let mut config = relay(&format!("udp:{closed}"));
    config.shards = Some(4);
    // One every four seconds for each shard.
    config.limits.bounced_rate = 1;
    config.limits.queue_delay_target = PATIENCE;
    let running = start(config).unwrap();
    let client = udp_client(&running);
    let ends = Ends::of_udp(&client);
    for number in 0..128 {
        client.send(&ends.request("INVITE", number, 0)).unwrap();
    }
    wait_for(&running, "datagrams_bounced_dropped_total", 1);
    // The calls of the shard that gets the errors fail at once all the same.
    let mut bytes = [0; 4096];
    let is_5xx = |count: usize, bytes: &[u8]| bytes[..count].starts_with(b"SIP/2.0 5");
    while !is_5xx(client.recv(&mut bytes).unwrap(), &bytes) {}
    running.stop();
}

#[test]
fn a_refused_connection_fails_the_call_at_once() {
    // A port that was free a moment ago.
    let closed = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let running = start(relay(&format!("tcp:{closed}"))).unwrap();
    let stream = tcp_client(&running);
    let ends = Ends::of_tcp(&stream);
    let begin = Instant::now();
    (&stream).write_all(&ends.request("INVITE", 1, 0)).unwrap();
    let response = Messages::on(&stream).next_final().unwrap();
    assert!(response.starts_with("SIP/2.0 5"), "{response}");
    // Timer B would take 32 s.
    assert!(begin.elapsed() < Duration::from_secs(10));
    wait_for(&running, "tcp_open_failures_total", 1);
    wait_for(&running, "sends_failed_total", 1);
    running.stop();
}

#[test]
fn a_large_request_goes_by_tcp_and_by_udp_where_the_connection_is_refused() {
    // RFC 3261 §18.1.1. Where the peer has no listener the kernel says so with a reset.
    for listens in [true, false] {
        let (datagrams, listener) = both_on_one_port();
        datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
        let listener = listens.then_some(listener);
        let running = start(relay(&datagrams.local_addr().unwrap().to_string())).unwrap();
        let client = udp_client(&running);
        client.send(&Ends::of_udp(&client).request("INVITE", 1, 1_400)).unwrap();
        let invite = match &listener {
            Some(listener) => {
                let (accepted, _) = listener.accept().unwrap();
                accepted.set_read_timeout(Some(PATIENCE)).unwrap();
                Messages::on(&accepted).next().unwrap()
            }
            None => {
                let mut bytes = [0; 4096];
                let count = datagrams.recv(&mut bytes).unwrap();
                String::from_utf8(bytes[..count].to_vec()).unwrap()
            }
        };
        let transport = if listens { "TCP" } else { "UDP" };
        let via = format!("\r\nVia: SIP/2.0/{transport} {};", address(&running, Transport::Udp));
        assert!(invite.contains(&via), "{invite}");
        running.stop();
    }
}

/// A datagram socket and a listener with the same port.
fn both_on_one_port() -> (UdpSocket, TcpListener) {
    loop {
        let datagrams = UdpSocket::bind(any_port()).unwrap();
        if let Ok(listener) = TcpListener::bind(datagrams.local_addr().unwrap()) {
            return (datagrams, listener);
        }
    }
}

#[test]
fn a_connection_that_breaks_fails_the_calls_that_were_sent_on_it() {
    let peer = TcpListener::bind(any_port()).unwrap();
    let running = start(relay(&format!("tcp:{}", peer.local_addr().unwrap()))).unwrap();
    let stream = tcp_client(&running);
    let ends = Ends::of_tcp(&stream);
    let begin = Instant::now();
    (&stream).write_all(&ends.request("INVITE", 1, 0)).unwrap();
    let (accepted, _) = peer.accept().unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    let invite = Messages::on(&accepted).next().unwrap();
    assert!(invite.starts_with("INVITE "), "{invite}");
    drop((accepted, peer));
    let response = Messages::on(&stream).next_final().unwrap();
    assert!(response.starts_with("SIP/2.0 5"), "{response}");
    assert!(begin.elapsed() < Duration::from_secs(10));
    running.stop();
}

#[test]
fn a_peer_that_does_not_read_is_cut_off_and_no_one_else() {
    let mut config = config(1);
    config.limits.write_queue_bytes_max = 16 * 1024;
    let running = start(config).unwrap();
    let slow = tcp_client(&running);
    slow.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let ends = Ends::of_tcp(&slow);
    let requests: Vec<u8> = (0..100)
        .flat_map(|number| ends.request("OPTIONS", number, 2_000))
        .collect();
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < PATIENCE, "it is still served");
        match (&slow).write_all(&requests) {
            Ok(()) => {}
            Err(error) => {
                let cut = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
                assert!(cut.contains(&error.kind()), "{error}");
                break;
            }
        }
    }
    wait_for(&running, "tcp_write_queue_closes_total", 1);
    let other = tcp_client(&running);
    let ends = Ends::of_tcp(&other);
    (&other).write_all(&ends.request("OPTIONS", 1, 0)).unwrap();
    assert!(Messages::on(&other).next().unwrap().starts_with("SIP/2.0 200 "));
    running.stop();
}

#[test]
fn slow_and_idle_connections_are_closed_in_their_time() {
    let mut config = config(1);
    config.limits.partial_message_timeout = Duration::from_millis(300);
    config.limits.idle_timeout = Duration::from_millis(600);
    let running = start(config).unwrap();
    let opened = Instant::now();
    let mut idle = tcp_client(&running);
    let mut slow = tcp_client(&running);
    slow.write_all(b"OPTIONS sip:x@127.0.0.1 SI").unwrap();
    // Not before, however slow the machine is.
    for (stream, least) in [(&mut slow, 300), (&mut idle, 600)] {
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
        assert!(opened.elapsed() >= Duration::from_millis(least));
    }
    wait_for(&running, "tcp_partial_message_closes_total", 1);
    wait_for(&running, "tcp_idle_closes_total", 1);
    assert_eq!(running.counters().value("tcp_connections"), Some(0));
    running.stop();
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let mut config = config(1);
    config.limits.connections_max = 2;
    let running = start(config).unwrap();
    let kept = [tcp_client(&running), tcp_client(&running)];
    wait_for(&running, "tcp_accepted_total", 2);
    let mut refused = tcp_client(&running);
    assert!(matches!(refused.read(&mut [0; 16]), Ok(0) | Err(_)));
    wait_for(&running, "tcp_over_limit_total", 1);
    for stream in &kept {
        let ends = Ends::of_tcp(stream);
        let mut writer = stream;
        writer.write_all(&ends.request("OPTIONS", 1, 0)).unwrap();
        assert!(Messages::on(stream).next().unwrap().starts_with("SIP/2.0 200 "));
    }
    running.stop();
}

#[test]
fn one_port_serves_both_transports_and_is_taken_once_only() {
    for shards in [1, 2] {
        let running = start(config(shards)).unwrap();
        let udp = address(&running, Transport::Udp);
        assert_eq!(udp, address(&running, Transport::Tcp));
        assert_ne!(udp.port(), 0);
        let mut again = config(shards);
        for bind in &mut again.binds {
            bind.address = udp;
        }
        match start(again) {
            Err(RunError::Bind {
                what: "udp",
                address,
                error,
            }) => {
                assert_eq!((address, error.kind()), (udp, ErrorKind::AddrInUse));
            }
            other => panic!("{other:?}"),
        }
        running.stop();
        let mut again = config(shards);
        for bind in &mut again.binds {
            bind.address = udp;
        }
        start(again).unwrap().stop();
    }
}

#[test]
fn a_drained_process_says_so_and_leaves() {
    let mut config = config(2);
    // A transaction over UDP lives on for timer J, 64 T1.
    config.timers.t1 = Duration::from_millis(5);
    let running = start(config).unwrap();
    let client = udp_client(&running);
    let ends = Ends::of_udp(&client);
    let mut bytes = [0; 4096];
    client.send(&ends.request("OPTIONS", 1, 0)).unwrap();
    let count = client.recv(&mut bytes).unwrap();
    assert!(bytes[..count].starts_with(b"SIP/2.0 200 "));
    running.drain();
    wait_for(&running, "commands_total", 2);
    client.send(&ends.request("OPTIONS", 2, 0)).unwrap();
    let count = client.recv(&mut bytes).unwrap();
    assert!(bytes[..count].starts_with(b"SIP/2.0 503 "));
    let begin = Instant::now();
    while !running.is_drained() {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    running.stop();
}

/// What the control API answers.
fn get(running: &Running, path: &str) -> String {
    let address = running.control_address().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A peer that answers OPTIONS, until it is told to go.
struct Answering {
    go: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Answering {
    fn at(address: SocketAddr) -> (SocketAddr, Answering) {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let go = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&go);
        let thread = spawn(move || {
            let mut bytes = [0; 4096];
            while !told.load(Ordering::Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut bytes) else {
                    continue;
                };
                let request = std::str::from_utf8(&bytes[..count]).unwrap();
                assert!(
                    request.starts_with(&format!("OPTIONS sip:{address} SIP/2.0\r\n")),
                    "{request}"
                );
                let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
                let is_copied = |line: &&str| copied.iter().any(|name| line.starts_with(name));
                let lines: Vec<_> = request.lines().filter(is_copied).collect();
                let answer = format!("SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n", lines.join("\r\n"));
                socket.send_to(answer.as_bytes(), from).unwrap();
            }
        });
        (address, Answering { go, thread })
    }

    fn go(self) {
        self.go.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

#[test]
fn a_peer_that_dies_and_comes_back_is_noticed_by_all_shards() {
    // An address of its own: nobody else is given its port while it is gone.
    let (address, peer) = Answering::at("127.0.0.2:0".parse().unwrap());
    let mut config = relay(&format!("udp:{address}"));
    config.shards = Some(2);
    config.control.listen = Some(any_port());
    config.trunks[1].health = Some(Health {
        period: Duration::from_millis(100),
        timeout: Duration::from_secs(1),
        failures: 2,
        successes: 2,
    });
    // The first address of all is for shard 0 to judge. The peer's is the second: shard 0, which is asked, has to be told.
    let nobody = config.trunks[1].addresses[0].clone();
    config.trunks[0].addresses.push(nobody);
    let running = start(config).unwrap();
    let shows = |state: &str, up: u8| {
        let shown = format!("\"state\":\"{state}\"");
        let line = format!("\nreferee_trunk_address_up{{trunk=\"callee\",address=\"udp:{address}\"}} {up}\n");
        let begin = Instant::now();
        loop {
            let (trunks, metrics) = (get(&running, "/v1/trunks"), get(&running, "/metrics"));
            // The last trunk's.
            let addresses = trunks.rsplit("\"addresses\"").next();
            if addresses.is_some_and(|addresses| addresses.contains(&shown)) && metrics.contains(&line) {
                return;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "neither {shown} nor {line} in {trunks}\n{metrics}"
            );
        }
    };
    shows("alive", 1);
    peer.go();
    shows("dead", 0);
    let (_, peer) = Answering::at(address);
    shows("alive", 1);
    wait_for(&running, "address_changes_total", 3);
    peer.go();
    running.stop();
}

#[test]
fn the_control_api_shows_what_was_counted() {
    let mut config = config(2);
    config.control.listen = Some(any_port());
    let running = start(config).unwrap();
    let client = udp_client(&running);
    client.send(&Ends::of_udp(&client).request("OPTIONS", 1, 0)).unwrap();
    client.recv(&mut [0; 4096]).unwrap();
    // Of one worker and, where that does not own the call, of the other.
    wait_for(&running, "datagrams_received_total", 1);
    let answer = get(&running, "/metrics");
    for line in [
        "# TYPE referee_datagrams_received_total counter",
        "# TYPE referee_calls gauge",
        "referee_hooks_held 0",
    ] {
        assert!(answer.lines().any(|l| l == line), "{line} is not in\n{answer}");
    }
    let received = |shard| format!("referee_datagrams_received_total{{shard=\"{shard}\"}} 1");
    assert!((0..2).any(|shard| answer.contains(&received(shard))), "{answer}");
    running.stop();
}

#[test]
fn a_wildcard_bind_advertises_the_address_its_route_leaves_by() {
    let mut config = relay("udp:127.0.0.1:5070");
    for bind in &mut config.binds {
        bind.address = "0.0.0.0:0".parse().unwrap();
    }
    let running = start(config).unwrap();
    for bind in running.addresses() {
        assert_eq!(bind.sent_by_host(), "127.0.0.1");
    }
    running.stop();
}

// ---- floods ----

#[test]
fn a_flood_of_new_calls_is_shed_and_the_rest_is_served() {
    let callee = udp_callee();
    let mut config = relay(&udp_address(&callee));
    // Any flood makes a queue of this length; how long it takes to be one does not matter.
    config.limits.queue_delay_target = Duration::from_micros(50);
    config.limits.queue_delay_interval = Duration::from_millis(5);
    let running = start(config).unwrap();
    let flooder = udp_client(&running);
    let ends = Ends::of_udp(&flooder);
    // What the kernel has no room for is lost, as on any network.
    let flood = |number| drop(flooder.send(&ends.request("INVITE", number, 0)));
    while_flooding(flood, || {
        let begin = Instant::now();
        let shed = loop {
            assert!(begin.elapsed() < PATIENCE, "nothing is shed");
            let mut bytes = [0; 4096];
            let count = flooder.recv(&mut bytes).unwrap();
            let response = String::from_utf8(bytes[..count].to_vec()).unwrap();
            if response.starts_with("SIP/2.0 503 ") {
                break response;
            }
        };
        assert!(shed.contains("\r\nRetry-After: 2\r\n"), "{shed}");
        // Meanwhile whoever asks whether it lives is answered, however often a full buffer loses the question.
        let prober = udp_client(&running);
        prober.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let ends = Ends::of_udp(&prober);
        let mut bytes = [0; 4096];
        for number in 0.. {
            assert!(begin.elapsed() < PATIENCE, "nobody answers");
            prober.send(&ends.request("OPTIONS", number, 0)).unwrap();
            if prober.recv(&mut bytes).is_ok() {
                break;
            }
        }
        assert!(bytes.starts_with(b"SIP/2.0 200 "));
    });
    wait_for(&running, "shed_delay_total", 1);
    // Once it is over, a new call goes through.
    let client = udp_client(&running);
    let ends = Ends::of_udp(&client);
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let begin = Instant::now();
    let mut bytes = [0; 4096];
    for number in 1_000_000_000.. {
        assert!(begin.elapsed() < PATIENCE, "no call goes through");
        client.send(&ends.request("INVITE", number, 0)).unwrap();
        if client.recv(&mut bytes).is_ok() && bytes.starts_with(b"SIP/2.0 100 ") {
            break;
        }
    }
    running.stop();
}

#[test]
fn a_flood_over_many_streams_is_shed_as_well() {
    let callee = udp_callee();
    let mut config = relay(&udp_address(&callee));
    config.limits.queue_delay_target = Duration::from_micros(50);
    config.limits.queue_delay_interval = Duration::from_millis(5);
    let running = start(config).unwrap();
    // One alone is slowed down by its own flow control; of these each waits for all others.
    let streams: Vec<TcpStream> = (0..40).map(|_| tcp_client(&running)).collect();
    for (number, stream) in streams.iter().enumerate() {
        let ends = Ends::of_tcp(stream);
        let own = (0..200).flat_map(|call| ends.request("INVITE", number * 1_000 + call, 0));
        let mut writer = stream;
        writer.write_all(&own.collect::<Vec<u8>>()).unwrap();
    }
    wait_for(&running, "shed_delay_total", 1);
    running.stop();
}

#[test]
fn strangers_get_few_answers_take_no_ring_and_open_no_connection() {
    const REQUESTS: u64 = 300;
    let mut config = one_trunk(3);
    config.access.unknown_source_rate = 1;
    let running = start(config).unwrap();
    let stranger = udp_client(&running);
    let ends = Ends::of_udp(&stranger);
    let begin = Instant::now();
    for number in 0.. {
        stranger.send(&ends.request("INVITE", number, 0)).unwrap();
        if running.counters().value("refused_source_total").unwrap() >= REQUESTS {
            break;
        }
        assert!(begin.elapsed() < PATIENCE);
    }
    let silent = wait_for(&running, "unanswered_rate_total", 1);
    assert!(silent > REQUESTS / 2, "{silent} of {REQUESTS} got no answer");
    assert_eq!(running.counters().value("handoff_passed_total"), Some(0));
    let mut bytes = [0; 4096];
    let count = stranger.recv(&mut bytes).unwrap();
    assert!(bytes[..count].starts_with(b"SIP/2.0 403 "));

    let mut refused = tcp_client(&running);
    assert!(matches!(refused.read(&mut [0; 16]), Ok(0) | Err(_)));
    wait_for(&running, "tcp_strangers_total", 1);
    let known = tcp_client_from("127.0.0.2:0", &running);
    (&known)
        .write_all(&Ends::of_tcp(&known).request("OPTIONS", 1, 0))
        .unwrap();
    assert!(Messages::on(&known).next().unwrap().starts_with("SIP/2.0 200 "));
    running.stop();
}

#[test]
fn one_source_has_no_more_than_its_share_of_connections() {
    let mut config = config(1);
    config.limits.connections_per_source_max = 2;
    let running = start(config).unwrap();
    let kept = [tcp_client(&running), tcp_client(&running)];
    wait_for(&running, "tcp_accepted_total", 2);
    let mut refused = tcp_client(&running);
    assert!(matches!(refused.read(&mut [0; 16]), Ok(0) | Err(_)));
    wait_for(&running, "tcp_over_source_limit_total", 1);
    let other = tcp_client_from("127.0.0.3:0", &running);
    drop(kept);
    // Each is given a moment to show that it has closed both ways.
    let begin = Instant::now();
    while running.counters().value("tcp_connections") != Some(1) {
        assert!(begin.elapsed() < PATIENCE, "they are still held");
        std::thread::yield_now();
    }
    for stream in [&other, &tcp_client(&running)] {
        let mut writer = stream;
        writer
            .write_all(&Ends::of_tcp(stream).request("OPTIONS", 1, 0))
            .unwrap();
        assert!(Messages::on(stream).next().unwrap().starts_with("SIP/2.0 200 "));
    }
    running.stop();
}

#[test]
fn where_strangers_may_connect_they_have_few_connections_and_must_speak() {
    let mut config = one_trunk(1);
    config.trunks.clear();
    config.limits.stranger_connections_max = 2;
    config.limits.partial_message_timeout = Duration::from_millis(200);
    let running = start(config).unwrap();
    let mut mute = tcp_client(&running);
    let other = tcp_client(&running);
    (&other)
        .write_all(&Ends::of_tcp(&other).request("OPTIONS", 1, 0))
        .unwrap();
    assert!(Messages::on(&other).next().unwrap().starts_with("SIP/2.0 200 "));
    let mut refused = tcp_client(&running);
    assert!(matches!(refused.read(&mut [0; 16]), Ok(0) | Err(_)));
    wait_for(&running, "tcp_over_source_limit_total", 1);
    assert_eq!(mute.read(&mut [0; 16]).unwrap(), 0);
    wait_for(&running, "tcp_partial_message_closes_total", 1);
    running.stop();
}

// ---- keep-alives ----

#[test]
fn a_double_crlf_anywhere_between_messages_is_answered_with_one_crlf_and_is_no_message() {
    let running = start(config(1)).unwrap();
    let stream = tcp_client(&running);
    let ends = Ends::of_tcp(&stream);
    let ping = b"\r\n\r\n".to_vec();
    let parts = [
        ping.clone(),
        ends.request("OPTIONS", 1, 0),
        ping.clone(),
        ping.clone(),
        ends.request("OPTIONS", 2, 0),
        ping,
    ];
    (&stream).write_all(&parts.concat()).unwrap();
    let (mut received, mut bytes) = (Vec::new(), [0; 4096]);
    // Two responses and four pongs; a pong may stand before, between and behind the responses.
    let counts = |received: &[u8]| {
        let text = String::from_utf8_lossy(received).into_owned();
        let messages: Vec<String> = text.split_inclusive("\r\n\r\n").map(str::to_owned).collect();
        let responses = text.matches("SIP/2.0 200 OK").count();
        let pongs = text.len()
            - messages
                .iter()
                .map(|part| part.trim_start_matches("\r\n").len())
                .sum::<usize>();
        (responses, pongs / 2)
    };
    while counts(&received) != (2, 4) {
        let count = (&stream).read(&mut bytes).expect("all answers");
        assert_ne!(count, 0, "{:?}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&bytes[..count]);
    }
    assert_eq!(wait_for(&running, "keepalives_received_total", 4), 4);
    assert_eq!(wait_for(&running, "requests_total", 2), 2);
    assert_eq!(running.counters().value("malformed_total"), Some(0));
    running.stop();
}

#[test]
fn a_flood_of_pings_gets_few_pongs() {
    const PINGS: usize = 50_000;
    let running = start(config(1)).unwrap();
    let stream = tcp_client(&running);
    let end = Ends::of_tcp(&stream).request("OPTIONS", 1, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(&b"\r\n\r\n".repeat(PINGS)).unwrap();
            (&stream).write_all(&end).unwrap();
        });
        let mut messages = Messages::on(&stream);
        let mut pongs = 0;
        loop {
            // Pongs before a response look like the end of an empty message.
            let message = messages.next().unwrap();
            let response = message.trim_start_matches("\r\n");
            pongs += (message.len() - response.len()) / 2;
            if response.starts_with("SIP/2.0 200 ") {
                break;
            }
        }
        assert!((1..PINGS / 50).contains(&pongs), "{pongs} pongs");
    });
    wait_for(&running, "keepalives_received_total", PINGS as u64);
    running.stop();
}

#[test]
fn a_stun_binding_request_is_answered_on_the_port_of_sip() {
    let running = start(config(1)).unwrap();
    let client = udp_client(&running);
    let request = *b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
    client.send(&request[..19]).unwrap();
    client.send(&Ends::of_udp(&client).request("OPTIONS", 1, 0)).unwrap();
    client.send(&request).unwrap();
    let mut bytes = [0; 4096];
    let count = client.recv(&mut bytes).unwrap();
    assert!(bytes[..count].starts_with(b"SIP/2.0 200 "));
    let count = client.recv(&mut bytes).unwrap();
    // RFC 8489 §14.2: port and address under the magic cookie.
    let port = client.local_addr().unwrap().port() ^ 0x2112;
    let mut expected = b"\x01\x01\x00\x0c\x21\x12\xa4\x42abcdefghijkl\x00\x20\x00\x08\x00\x01".to_vec();
    expected.extend(port.to_be_bytes());
    expected.extend([127 ^ 0x21, 0x12, 0xa4, 1 ^ 0x42]);
    assert_eq!(bytes[..count], expected);
    assert_eq!(wait_for(&running, "stun_total", 1), 1);
    assert_eq!(wait_for(&running, "stun_unanswered_total", 1), 1);
    running.stop();
}

// ---- connections that end ----

#[test]
fn a_peer_that_closed_its_side_gets_an_answer_that_takes_long() {
    let callee = udp_callee();
    let running = start(relay(&udp_address(&callee))).unwrap();
    let waiting = tcp_client(&running);
    (&waiting)
        .write_all(&Ends::of_tcp(&waiting).request("MESSAGE", 1, 0))
        .unwrap();
    waiting.shutdown(Shutdown::Write).unwrap();
    let (message, from) = next_request(&callee, "MESSAGE");
    // One with nothing to wait for is closed after a while; by then the other would be, too.
    for _ in 0..2 {
        let done = tcp_client(&running);
        (&done)
            .write_all(&Ends::of_tcp(&done).request("OPTIONS", 2, 0))
            .unwrap();
        done.shutdown(Shutdown::Write).unwrap();
        let mut messages = Messages::on(&done);
        assert!(messages.next().unwrap().starts_with("SIP/2.0 200 "));
        assert_eq!(messages.next(), None);
    }
    callee.send_to(&answer(&message, "200 OK", ""), from).unwrap();
    let mut messages = Messages::on(&waiting);
    assert!(messages.next().unwrap().starts_with("SIP/2.0 200 "));
    assert_eq!(messages.next(), None);
    assert_eq!(running.counters().value("tcp_opened_total"), Some(0));
    running.stop();
}

/// Sends a MESSAGE on a connection whose Via names `back` as the place for answers, and lets `end` end the connection once
/// the callee has it. The answer must come to `back`.
fn answer_by_a_new_connection(end: impl FnOnce(TcpStream, &Running)) {
    let callee = udp_callee();
    let running = start(relay(&udp_address(&callee))).unwrap();
    let back = TcpListener::bind(any_port()).unwrap();
    SockRef::from(&back).set_read_timeout(Some(PATIENCE)).unwrap();
    let stream = tcp_client(&running);
    let ends = Ends {
        from: back.local_addr().unwrap(),
        ..Ends::of_tcp(&stream)
    };
    (&stream).write_all(&ends.request("MESSAGE", 1, 0)).unwrap();
    let (message, from) = next_request(&callee, "MESSAGE");
    end(stream, &running);
    callee.send_to(&answer(&message, "200 OK", ""), from).unwrap();
    let (stream, _) = back.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let response = Messages::on(&stream).next().unwrap();
    assert!(response.starts_with("SIP/2.0 200 "), "{response}");
    // RFC 3261 §18.2.2: received says where the request came from, and sent-by at which port answers are taken.
    assert!(response.contains("received=127.0.0.1"), "{response}");
    wait_for(&running, "tcp_opened_total", 1);
    running.stop();
}

#[test]
fn an_answer_to_a_peer_that_closed_both_ways_goes_by_a_new_connection() {
    answer_by_a_new_connection(|stream, running| {
        drop(stream);
        wait_for(running, "tcp_peer_closes_total", 1);
        assert_eq!(running.counters().value("tcp_broken_total"), Some(0));
    });
}

#[test]
fn an_answer_to_a_connection_that_was_reset_goes_by_a_new_one() {
    answer_by_a_new_connection(|stream, running| {
        reset(stream);
        wait_for(running, "tcp_broken_total", 1);
    });
}

#[test]
fn a_reset_harms_no_other_connection_whatever_it_cuts_off() {
    let running = start(config(1)).unwrap();
    let other = tcp_client(&running);
    let mut messages = Messages::on(&other);
    let still_serves = |number: usize, messages: &mut Messages<'_>| {
        (&other)
            .write_all(&Ends::of_tcp(&other).request("OPTIONS", number, 0))
            .unwrap();
        assert!(messages.next().unwrap().starts_with("SIP/2.0 200 "));
    };
    still_serves(1, &mut messages);
    // Before anything, within a message, between messages, and while answers wait to be read.
    let request = Ends::of_tcp(&other).request("OPTIONS", 2, 0);
    let backlog = request.repeat(2_000);
    for (number, sent) in [&b""[..], &request[..100], &request, &backlog].into_iter().enumerate() {
        let stream = tcp_client(&running);
        stream.set_nonblocking(true).unwrap();
        let mut written = 0;
        while written < sent.len() {
            match (&stream).write(&sent[written..]) {
                Ok(count) => written += count,
                // Full: answers are not read, so that requests are not, or the connection was given up.
                Err(_) => break,
            }
        }
        wait_for(&running, "tcp_accepted_total", number as u64 + 2);
        reset(stream);
        wait_for(&running, "tcp_broken_total", number as u64 + 1);
        still_serves(number + 3, &mut messages);
    }
    assert_eq!(running.counters().value("tcp_connections"), Some(1));
    running.stop();
}

#[test]
fn one_connection_carries_all_that_goes_to_one_address() {
    let peer = TcpListener::bind(any_port()).unwrap();
    let running = start(relay(&format!("tcp:{}", peer.local_addr().unwrap()))).unwrap();
    let client = udp_client(&running);
    let ends = Ends::of_udp(&client);
    client.send(&ends.request("MESSAGE", 0, 0)).unwrap();
    let (stream, _) = peer.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut messages = Messages::on(&stream);
    let mut seen = [false; 100];
    seen[call_number(&messages.next().unwrap())] = true;
    for number in 1..100 {
        client.send(&ends.request("MESSAGE", number, 0)).unwrap();
        seen[call_number(&messages.next().unwrap())] = true;
    }
    assert!(seen.iter().all(|seen| *seen));
    wait_for(&running, "tcp_opened_total", 1);
    assert_eq!(running.counters().value("tcp_opened_total"), Some(1));
    running.stop();
}

// ---- datagrams ----

#[test]
fn large_datagrams_are_taken_whole_and_large_answers_go_back_over_udp() {
    let callee = udp_callee();
    let running = start(relay(&udp_address(&callee))).unwrap();
    let client = udp_client(&running);
    let ends = Ends::of_udp(&client);
    let mut bytes = vec![0; 65_535];
    // RFC 3261 §18.1.1: the largest datagram there is. What it would become is larger than any.
    client
        .send(&ends.request("MESSAGE", 1, 65_507 - ends.request("MESSAGE", 1, 0).len()))
        .unwrap();
    let count = client.recv(&mut bytes).unwrap();
    assert!(bytes[..count].starts_with(b"SIP/2.0 513 "));
    client.send(&ends.request("MESSAGE", 2, 50_000)).unwrap();
    let (message, from) = next_request(&callee, "MESSAGE");
    assert!(message.contains(&"x".repeat(50_000)));
    // §18.1.1 is of requests: a response keeps to its request's transport.
    callee
        .send_to(&answer(&message, "200 OK", &"y".repeat(5_000)), from)
        .unwrap();
    let count = client.recv(&mut bytes).unwrap();
    assert!(count > 5_000 && bytes[..count].starts_with(b"SIP/2.0 200 "));
    running.stop();
}

#[test]
fn answers_leave_from_where_the_request_came_to() {
    let callee = udp_callee();
    let listeners: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.4:0".parse().unwrap()];
    let mut config = Config::relay_all(&listeners, &udp_address(&callee)).unwrap();
    config.shards = Some(1);
    config.control.listen = None;
    let running = start(config).unwrap();
    let client = UdpSocket::bind(any_port()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let of_udp = running
        .addresses()
        .iter()
        .filter(|bind| bind.transport == Transport::Udp);
    for (number, bind) in of_udp.enumerate() {
        let ends = Ends {
            transport: "UDP",
            from: client.local_addr().unwrap(),
            to: bind.address,
        };
        client
            .send_to(&ends.request("MESSAGE", number, 0), bind.address)
            .unwrap();
        let (message, relayed_from) = next_request(&callee, "MESSAGE");
        // RFC 3581 §3: rport is asked for, and the answer comes to the socket that sent.
        let via = message.lines().find(|line| line.starts_with("Via:")).unwrap();
        assert!(
            via.ends_with(";rport") && via.contains(&relayed_from.to_string()),
            "{via}"
        );
        callee.send_to(&answer(&message, "200 OK", ""), relayed_from).unwrap();
        let mut bytes = [0; 4096];
        let (count, from) = client.recv_from(&mut bytes).unwrap();
        assert!(bytes[..count].starts_with(b"SIP/2.0 200 "));
        assert_eq!(from, bind.address);
    }
    running.stop();
}

#[test]
fn a_call_in_progress_goes_on_after_a_restart_with_the_same_secret() {
    for (secret, is_known) in [(Some(DialogSecret([7; 16])), true), (None, false)] {
        let callee = udp_callee();
        let mut config = relay(&udp_address(&callee));
        config.access.dialog_secret = secret;
        let running = start(config.clone()).unwrap();
        let client = udp_client(&running);
        let ends = Ends::of_udp(&client);
        client.send(&ends.request("INVITE", 1, 0)).unwrap();
        let (invite, from) = next_request(&callee, "INVITE");
        let contact = format!("Contact: <sip:service@{}>\r\n", callee.local_addr().unwrap());
        let ok = String::from_utf8(answer(&invite, "200 OK", "")).unwrap();
        let ok = ok.replacen("Content-Length", &format!("{contact}Content-Length"), 1);
        callee.send_to(ok.as_bytes(), from).unwrap();
        let mut bytes = [0; 4096];
        let answered = loop {
            let count = client.recv(&mut bytes).unwrap();
            let response = std::str::from_utf8(&bytes[..count]).unwrap();
            if response.starts_with("SIP/2.0 200 ") {
                break response.to_owned();
            }
        };
        let line = |name: &str| answered.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        let (to, route) = (line("To:"), line("Record-Route:").replace("Record-Route", "Route"));
        let again: Vec<Bind> = running.addresses().to_vec();
        running.stop();
        config.binds = again;
        let running = start(config).unwrap();
        let bye = String::from_utf8(ends.request("BYE", 1, 0)).unwrap();
        let bye = bye
            .replace(
                &format!("BYE sip:service@{}", ends.to),
                &format!("BYE sip:service@{}", callee.local_addr().unwrap()),
            )
            .replace("To: <sip:service@127.0.0.1>", &format!("{route}\r\n{to}"))
            .replace("CSeq: 1", "CSeq: 2")
            .replace("z9hG4bK-1", "z9hG4bK-bye");
        client.send(bye.as_bytes()).unwrap();
        if is_known {
            let (bye, from) = next_request(&callee, "BYE");
            callee.send_to(&answer(&bye, "200 OK", ""), from).unwrap();
        }
        let count = client.recv(&mut bytes).unwrap();
        let expected = if is_known { "SIP/2.0 200 " } else { "SIP/2.0 481 " };
        let response = String::from_utf8_lossy(&bytes[..count]);
        assert!(response.starts_with(expected), "{response}");
        running.stop();
    }
}

/// RFC 3581 §4, RFC 8489 §6.3.1.2: a connected socket, as one behind a NAT, hears nothing from elsewhere.
#[test]
fn a_socket_that_is_bound_to_all_addresses_answers_from_the_one_that_was_asked() {
    for shards in [1, 3] {
        let callee = udp_callee();
        let all: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let mut config = Config::relay_all(&[all], &udp_address(&callee)).unwrap();
        config.shards = Some(shards);
        config.control.listen = None;
        let running = start(config).unwrap();
        let port = address(&running, Transport::Udp).port();
        for (number, ip) in ["127.0.0.1", "127.0.0.2", "127.77.199.1"].into_iter().enumerate() {
            let to = SocketAddr::new(ip.parse().unwrap(), port);
            let client = UdpSocket::bind(any_port()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.connect(to).unwrap();
            let ends = Ends {
                transport: "UDP",
                from: client.local_addr().unwrap(),
                to,
            };
            let mut bytes = [0; 4096];
            // The address that it came to is ours: it is answered here.
            client.send(&ends.request("OPTIONS", 100 + number, 0)).unwrap();
            let count = client.recv(&mut bytes).unwrap();
            assert!(bytes[..count].starts_with(b"SIP/2.0 200 "));
            // What comes of it later leaves from there as well.
            client.send(&ends.request("MESSAGE", 200 + number, 0)).unwrap();
            let (message, from) = next_request(&callee, "MESSAGE");
            callee.send_to(&answer(&message, "200 OK", ""), from).unwrap();
            let count = client.recv(&mut bytes).unwrap();
            assert!(bytes[..count].starts_with(b"SIP/2.0 200 "));
            let binding = b"\0\x01\0\0\x21\x12\xa4\x42abcdefghijkl";
            client.send(binding).unwrap();
            let count = client.recv(&mut bytes).unwrap();
            assert!(bytes[..count].starts_with(b"\x01\x01"));
        }
        running.stop();
    }
}
