//! Hooks over real sockets: an HTTP server in the test hands every request to it, and answers what it is told to.

#![cfg(feature = "io")]
#![expect(
    clippy::disallowed_methods,
    reason = "the peer of a socket test needs sockets and threads"
)]

use referee::config::{self, Hooks};
use referee::identifiers::TransferId;
use referee::io::deliver::Deliverer;
use referee::transport::Transport;
use referee::webhook::{ActionOutcome, Hook, HookKind, HookSettings, Subject, signature};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[test]
fn hooks_of_a_transfer_arrive_in_order_and_signed() {
    let server = Server::start();
    let delivery = Delivery::start(Hooks::default());
    for (kind, id) in [
        (HookKind::Event, "e1"),
        (HookKind::Event, "e2"),
        (HookKind::Action, "a"),
    ] {
        delivery.submit(Hook {
            settings: HookSettings::of(&Hooks {
                secret: Some("whsec_c2VjcmV0".to_owned()),
                jambonz_secret: Some("other".to_owned()),
                ..Hooks::default()
            }),
            basic_auth: Some(("Aladdin".to_owned(), "open sesame".to_owned())),
            ..hook(1, kind, &server.url("/hook?x=1"), id)
        });
    }
    for (id, body) in [
        ("e1", r#"{"a":1}"#),
        ("e2", r#"{"a":1}"#),
        ("a", r#"{"a":1,"missed":0}"#),
    ] {
        let request = server.next();
        assert_eq!(request.line, "POST /hook?x=1 HTTP/1.1");
        assert_eq!((request.header("webhook-id"), request.body.as_str()), (id, body));
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("content-length"), body.len().to_string());
        assert_eq!(request.header("authorization"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let version = format!("referee/{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(request.header("user-agent"), version);
        let timestamp: u64 = request.header("webhook-timestamp").parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(timestamp.abs_diff(now) < 60);
        let expected = signature::standard("secret", id, timestamp, body);
        assert_eq!(request.header("webhook-signature"), expected);
        let expected = signature::jambonz("other", timestamp, body);
        assert_eq!(request.header("jambonz-signature"), expected);
        request.answer("200 OK", "", "");
    }
    assert_eq!(delivery.report(), (1, ActionOutcome::Delivered { reply: None }));
    assert_eq!(delivery.deliverer.stop(PATIENCE), 0);
}

#[test]
fn a_json_array_is_reported_and_anything_else_is_not() {
    let server = Server::start();
    let delivery = Delivery::start(Hooks::default());
    let array = r#"[{"verb":"hangup"}]"#;
    let large = format!("[{}1]", "1,".repeat(40_000));
    for (content_type, body, is_reported) in [
        ("application/json", array, true),
        ("Application/JSON; charset=utf-8", array, true),
        ("text/plain", array, false),
        ("application/json", r#"{"verb":"hangup"}"#, false),
        ("application/json", "[", false),
        ("application/json", &large, false),
        ("application/json", "", false),
    ] {
        delivery.submit(hook(1, HookKind::Action, &server.url("/"), "a"));
        let headers = format!("Content-Type: {content_type}\r\n");
        server.next().answer("201 Created", &headers, body);
        let reply = is_reported.then(|| serde_json::from_str(array).unwrap());
        assert_eq!(
            delivery.report(),
            (1, ActionOutcome::Delivered { reply }),
            "{content_type} {body:.20}"
        );
    }
}

#[test]
fn a_503_is_tried_again_under_the_same_id() {
    let server = Server::start();
    let delivery = Delivery::start(Hooks::default());
    delivery.submit(hook(1, HookKind::Action, &server.url("/"), "a"));
    let first = server.next();
    let body = first.body.clone();
    first.answer("503 Service Unavailable", "Retry-After: 0\r\n", "");
    assert_eq!(delivery.report(), (1, ActionOutcome::Failed));
    let second = server.next();
    assert_eq!((second.header("webhook-id"), &second.body), ("a", &body));
    second.answer("200 OK", "Content-Type: application/json\r\n", "[]");
    assert_eq!(delivery.deliverer.stop(PATIENCE), 0);
    assert!(
        delivery.reports.try_recv().is_err(),
        "only the first attempt is reported"
    );
}

#[test]
fn many_transfers_keep_their_own_order() {
    let server = Server::start();
    let delivery = Delivery::start(Hooks::default());
    for place in 0..5 {
        for transfer in 0..40 {
            let kind = if place == 4 { HookKind::Action } else { HookKind::Event };
            delivery.submit(hook(transfer, kind, &server.url("/"), &format!("{transfer}-{place}")));
        }
    }
    let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for _ in 0..200 {
        let request = server.next();
        let (transfer, place) = request.header("webhook-id").split_once('-').unwrap();
        seen.entry(transfer.parse().unwrap())
            .or_default()
            .push(place.parse().unwrap());
        request.answer("204 No Content", "", "");
    }
    assert_eq!(seen.len(), 40);
    assert!(seen.values().all(|places| *places == [0, 1, 2, 3, 4]), "{seen:?}");
    for _ in 0..40 {
        assert!(matches!(delivery.report().1, ActionOutcome::Delivered { .. }));
    }
}

#[test]
fn an_endpoint_that_hangs_does_not_hold_up_another() {
    let (hanging, alive) = (Server::start(), Server::start());
    let delivery = Delivery::start(Hooks {
        threads: 4,
        ..Hooks::default()
    });
    for transfer in 0..20 {
        delivery.submit(hook(transfer, HookKind::Action, &hanging.url("/"), "hangs"));
    }
    // Half of the threads may go to one endpoint. They stay unanswered until the test is over.
    let unanswered = [hanging.next(), hanging.next()];
    for transfer in 100..120 {
        delivery.submit(hook(transfer, HookKind::Action, &alive.url("/"), "lives"));
    }
    for _ in 0..20 {
        alive.next().answer("200 OK", "", "");
        let (transfer, outcome) = delivery.report();
        assert!(transfer >= 100 && outcome != ActionOutcome::Failed);
    }
    assert!(hanging.requests.try_recv().is_err());
    assert_eq!(delivery.deliverer.stop(Duration::ZERO), 20);
    drop(unanswered);
}

#[test]
fn a_redirect_is_a_failure_and_is_not_followed() {
    let (server, elsewhere) = (Server::start(), Server::start());
    let delivery = Delivery::start(Hooks::default());
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        delivery.submit(hook(1, HookKind::Action, &server.url("/"), "a"));
        let headers = format!("Location: {}\r\n", elsewhere.url("/"));
        server.next().answer(status, &headers, "");
        assert_eq!(delivery.report(), (1, ActionOutcome::Failed), "{status}");
    }
    assert_eq!(delivery.deliverer.stop(PATIENCE), 0);
    assert!(elsewhere.requests.try_recv().is_err() && server.requests.try_recv().is_err());
}

#[test]
fn a_kept_connection_that_closes_costs_no_attempt() {
    let server = Server::start();
    let delivery = Delivery::start(Hooks::default());
    delivery.submit(hook(1, HookKind::Action, &server.url("/"), "a1"));
    let request = server.next();
    let connection = request.connection;
    request.answer("200 OK", "", "");
    assert_ne!(delivery.report().1, ActionOutcome::Failed);
    delivery.submit(hook(2, HookKind::Action, &server.url("/"), "a2"));
    let request = server.next();
    assert_eq!(request.connection, connection, "kept alive");
    // Closed without a byte of an answer.
    drop(request);
    let request = server.next();
    assert_ne!(request.connection, connection);
    request.answer("200 OK", "Content-Type: application/json\r\n", "[1]");
    let reply = Some(serde_json::json!([1]));
    assert_eq!(delivery.report(), (2, ActionOutcome::Delivered { reply }));
}

#[test]
fn an_answer_that_does_not_come_in_time_is_a_failure() {
    let server = Server::start();
    let hasty = Hooks {
        timeout: Duration::from_millis(100),
        ..Hooks::default()
    };
    // The patience of all hooks, and that of one.
    for all in [hasty.clone(), Hooks::default()] {
        let delivery = Delivery::start(all);
        delivery.submit(Hook {
            settings: HookSettings::of(&hasty),
            ..hook(1, HookKind::Event, &server.url("/"), "e")
        });
        let unanswered = server.next();
        assert_eq!(server.next().header("webhook-id"), "e", "given up and tried again");
        drop(unanswered);
    }
}

#[test]
fn nobody_at_the_default_word_is_no_failure() {
    let refused = Server::refused_url("/refer");
    let delivery = Delivery::start(Hooks::default());
    delivery.submit(Hook {
        default_word: true,
        ..hook(1, HookKind::Action, &refused, "a")
    });
    assert_eq!(delivery.report(), (1, ActionOutcome::Failed));
    // Flushed at once: nothing is left to try.
    assert_eq!(delivery.deliverer.stop(PATIENCE), 0);
}

#[test]
fn stopping_delivers_what_is_held() {
    let server = Server::start();
    let delivery = Delivery::start(Hooks::default());
    for id in ["1", "2", "3"] {
        delivery.submit(hook(1, HookKind::Event, &server.url("/"), id));
    }
    let deliverer = delivery.deliverer;
    let stopped = thread::spawn(move || deliverer.stop(PATIENCE));
    for id in ["1", "2", "3"] {
        let request = server.next();
        assert_eq!(request.header("webhook-id"), id);
        request.answer("200 OK", "", "");
    }
    assert_eq!(stopped.join().unwrap(), 0);
}

#[test]
fn a_call_is_led_by_an_application_through_the_whole_process() {
    let server = Server::start();
    let caller = UdpSocket::bind("127.0.0.1:0").unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    let text = format!(
        "[[listen]]\nname = \"l\"\nbind = [\"udp:127.0.0.1:5060\"]\n[[trunk]]\nname = \"t\"\n\
         listen = \"l\"\nsources = [\"127.0.0.1/32\"]\n[[application]]\nname = \"a\"\ncall_hook = \"{}\"\nsecret = \"whsec_c2VjcmV0\"\n\
         [[route]]\nfrom = \"t\"\napplication = \"a\"\n",
        server.url("/call")
    );
    let mut config = config::parse(&text, &|_| None).unwrap();
    config.binds[0].address.set_port(0);
    config.control.listen = None;
    let running = referee::io::start(config).unwrap();
    let is_udp = |bind: &&config::Bind| bind.transport == Transport::Udp;
    let referee = running.addresses().iter().find(is_udp).unwrap().address;
    caller.connect(referee).unwrap();
    let here = caller.local_addr().unwrap();
    let say = |method: &str, number: u32, to_tag: &str, body: &str| {
        let request = format!(
            "{method} sip:ivr@{referee} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{number}{method}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@a.example>;tag=1\r\nTo: <sip:ivr@{referee}>{to_tag}\r\nCall-ID: led\r\nCSeq: {number} {method}\r\n\
             Contact: <sip:a@{here}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        caller.send(request.as_bytes()).unwrap();
    };
    let hears = |start: &str| loop {
        let mut bytes = [0; 4_096];
        let count = caller.recv(&mut bytes).expect("a message");
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        if text.starts_with(start) {
            return text;
        }
    };
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    say("INVITE", 1, "", offer);
    let question = server.next();
    assert_eq!(question.line, "POST /call HTTP/1.1");
    assert!(question.body.contains("\"call_status\":\"trying\""));
    assert!(question.header("webhook-signature").starts_with("v1,"));
    let json = "Content-Type: application/json\r\n";
    question.answer(
        "200 OK",
        json,
        r#"[{"verb": "answer"}, {"verb": "hangup", "headers": {"X-Why": "done"}}]"#,
    );
    let answer = hears("SIP/2.0 200");
    assert!(answer.contains("m=audio 9 RTP/AVP 0\r\n"), "{answer}");
    let to = answer.lines().find(|line| line.starts_with("To:")).unwrap();
    let (_, tag) = to.rsplit_once(";tag=").unwrap();
    say("ACK", 1, &format!(";tag={tag}"), "");
    let bye = hears("BYE");
    assert!(
        bye.contains("\r\nX-Why: done\r\n") && bye.starts_with(&format!("BYE sip:a@{here} SIP/2.0")),
        "{bye}"
    );
    running.stop();
}

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn hook(transfer: u64, kind: HookKind, url: &str, id: &str) -> Hook {
    Hook {
        subject: Subject::Transfer(TransferId {
            shard: 0,
            number: transfer,
        }),
        kind,
        url: url.to_owned(),
        basic_auth: None,
        default_word: false,
        webhook_id: id.to_owned(),
        body: r#"{"a":1}"#.to_owned(),
        settings: HookSettings::of(&Hooks::default()),
    }
}

struct Delivery {
    deliverer: Deliverer,
    reports: Receiver<(u64, ActionOutcome)>,
}

impl Delivery {
    fn start(config: Hooks) -> Delivery {
        let (sender, reports) = mpsc::channel();
        let report = move |subject: Subject, outcome| {
            if let Subject::Transfer(transfer) = subject {
                drop(sender.send((transfer.number, outcome)));
            }
        };
        let deliverer = Deliverer::start(&config, [5; 16], Box::new(report)).unwrap();
        Delivery { deliverer, reports }
    }

    fn submit(&self, hook: Hook) {
        self.deliverer.sender().try_send(Box::new(hook)).unwrap();
    }

    fn report(&self) -> (u64, ActionOutcome) {
        self.reports.recv_timeout(PATIENCE).expect("a report")
    }
}

struct Server {
    port: u16,
    requests: Receiver<Request>,
}

struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
    /// Numbers the server's connections.
    connection: usize,
    answer: Sender<String>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let (stream, sender) = (stream.unwrap(), sender.clone());
                thread::spawn(move || Server::serve(stream, connection, &sender));
            }
        });
        Server { port, requests }
    }

    /// Serves a connection until it or the test ends; an unanswered request closes it.
    fn serve(mut stream: TcpStream, connection: usize, requests: &Sender<Request>) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let mut headers = BTreeMap::new();
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).ok()?;
                let Some((name, value)) = header.trim_end().split_once(':') else {
                    break;
                };
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
            reader.read_exact(&mut body).ok()?;
            let (answer, answered) = mpsc::channel();
            let request = Request {
                line: line.trim_end().to_owned(),
                headers,
                body: String::from_utf8(body).ok()?,
                connection,
                answer,
            };
            requests.send(request).ok()?;
            stream.write_all(answered.recv().ok()?.as_bytes()).ok()?;
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// A URL where nothing listens.
    fn refused_url(path: &str) -> String {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        format!("http://127.0.0.1:{port}{path}")
    }

    fn next(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).expect("a request")
    }
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn answer(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        // The peer may have given up waiting.
        let _ = self.answer.send(answer);
    }
}
