//! `GET /v1/events`: what listeners hear, in which order, and what becomes of one that is slow or comes back.

use crate::rig::{PATIENCE, Rig, call_view, request, transfer_view};
use referee::command::{Command, Reply};
use referee::config;
use referee::event::{Event, Step, Stepped, VerbStatus, What};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
struct Heard {
    id: String,
    name: String,
    data: Value,
}

/// A client that reads events.
struct Listener {
    reader: BufReader<TcpStream>,
    head: String,
}

impl Listener {
    fn open(rig: &Rig, query: &str) -> Listener {
        Listener::open_with(rig, query, &[])
    }

    fn open_with(rig: &Rig, query: &str, headers: &[(&str, &str)]) -> Listener {
        Listener::read(Listener::ask(rig, query, headers)).unwrap()
    }

    /// As [`Listener::open_with`], for events of calls: the shards are asked to make them.
    fn open_for_calls(rig: &Rig, query: &str, headers: &[(&str, &str)]) -> Listener {
        let stream = Listener::ask(rig, query, headers);
        for shard in 0..2 {
            let asked = rig.asked();
            assert!(matches!(asked.command, Command::Listen), "{asked:?}");
            assert_eq!(asked.shard, shard);
            asked.answer(Reply::Done);
        }
        Listener::read(stream).unwrap()
    }

    fn ask(rig: &Rig, query: &str, headers: &[(&str, &str)]) -> TcpStream {
        let mut stream = TcpStream::connect(rig.control.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let path = format!("/v1/events{query}");
        stream.write_all(request("GET", &path, headers, "").as_bytes()).unwrap();
        stream
    }

    /// `Err`: the head of an answer that is no stream.
    fn read(stream: TcpStream) -> Result<Listener, String> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "closed after {head:?}");
        }
        if !head.starts_with("HTTP/1.1 200") {
            return Err(head);
        }
        let mut listener = Listener { reader, head };
        assert_eq!(
            (listener.line(), listener.line()),
            ("retry: 2000".to_owned(), String::new())
        );
        Ok(listener)
    }

    /// A line of the body, whose chunks are put together.
    fn line(&mut self) -> String {
        let mut line = String::new();
        while !line.ends_with('\n') {
            let mut text = String::new();
            if self.reader.read_line(&mut text).unwrap() == 0 {
                return "closed".to_owned();
            }
            // A chunk's length and its end stand on lines of their own; those of events end in LF alone.
            match text.strip_suffix("\r\n") {
                Some("0") => return "closed".to_owned(),
                Some(_) => {}
                None => line.push_str(&text),
            }
        }
        line.truncate(line.len() - 1);
        line
    }

    /// The next event, comments left out; `None` at the end of the stream.
    fn event(&mut self) -> Option<Heard> {
        let (mut id, mut name, mut data) = (String::new(), String::new(), Value::Null);
        let mut heartbeats = 0;
        loop {
            let line = self.line();
            heartbeats += usize::from(line == ":");
            assert!(heartbeats < 3, "there is no event");
            match line.split_once(": ") {
                Some(("id", value)) => id = value.to_owned(),
                Some(("event", value)) => name = value.to_owned(),
                Some(("data", value)) => data = serde_json::from_str(value).unwrap(),
                _ if line.is_empty() && !name.is_empty() => return Some(Heard { id, name, data }),
                _ if line == "closed" => return None,
                _ => {}
            }
        }
    }

    fn names(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event().unwrap().name).collect()
    }
}

fn call(id: &str) -> What {
    What::Call(call_view(id))
}

fn transfer(id: &str, step: Step) -> What {
    let mut transfer = transfer_view(1);
    transfer.id = id.to_owned();
    let status = None;
    What::Transfer(Box::new(Stepped { step, status, transfer }))
}

fn trunk() -> What {
    What::Trunk {
        trunk: "carrier".to_owned(),
        address: "udp:198.51.100.10:5060".to_owned(),
        state: "dead",
    }
}

fn verb(call: &str) -> What {
    What::Verb(VerbStatus {
        call: call.to_owned(),
        call_id: "a@b".to_owned(),
        id: Some("v\nid: 1-1".to_owned()),
        verb: "tag",
        event: "starting",
    })
}

fn tell(rig: &Rig, what: What) {
    assert!(rig.events.tell(Box::new(Event { what, at: 1 })));
}

const TRANSFER: &str = "transfer-00000000000000000001";

#[test]
fn a_listener_hears_all_in_order() {
    let rig = Rig::start();
    let mut listener = Listener::open_for_calls(&rig, "", &[]);
    let head = listener.head.to_ascii_lowercase();
    assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
    assert!(head.contains("cache-control: no-store\r\n"), "{head}");
    for what in [
        call("call-1"),
        transfer(TRANSFER, Step::Verdict),
        trunk(),
        verb("call-1"),
    ] {
        tell(&rig, what);
    }
    let heard: Vec<Heard> = (0..4).map(|_| listener.event().unwrap()).collect();
    let names: Vec<&str> = heard.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["call", "transfer", "trunk", "verb:status"]);
    assert!(
        heard
            .iter()
            .all(|event| event.data["type"] == event.name.as_str() && event.data["at"] == 1)
    );
    assert_eq!(
        (&heard[1].data["step"], &heard[1].data["id"]),
        (&"verdict".into(), &TRANSFER.into())
    );
    // Text from elsewhere makes no line of its own.
    assert_eq!(heard[3].data["id"], "v\nid: 1-1");
    let mut ids: Vec<&str> = heard.iter().map(|event| event.id.as_str()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn a_filter_lets_through_what_was_asked_for() {
    let rig = Rig::start();
    let told = || {
        [
            call("call-1"),
            call("call-2"),
            transfer(TRANSFER, Step::Sent),
            trunk(),
            verb("call-2"),
            call("end"),
        ]
    };
    for (query, expected) in [
        ("?call=call-2", vec!["call", "verb:status"]),
        ("?type=trunk", vec!["trunk"]),
        ("?type=call,transfer", vec!["call", "call", "transfer", "call"]),
        ("?type=verb:status", vec!["verb:status"]),
        (&format!("?transfer={TRANSFER}"), vec!["transfer"]),
        // By the SIP Call-ID, which transfer and calls of the test share.
        ("?call=abc&type=call", vec!["call", "call", "call"]),
    ] {
        let listens = query.contains("type=trunk") || query.contains("verb") || query.contains("transfer=");
        let mut listener = match listens {
            true => Listener::open(&rig, query),
            false => Listener::open_for_calls(&rig, query, &[]),
        };
        told().into_iter().for_each(|what| tell(&rig, what));
        assert_eq!(listener.names(expected.len()), expected, "{query}");
    }
    for (query, field) in [
        ("?type=calls", "type"),
        ("?type=", "type"),
        ("?transfer=x", "transfer"),
        ("?type=trunk&type=trunk", "type"),
        ("?typ=trunk", "typ"),
    ] {
        let answer = rig.get("GET", &format!("/v1/events{query}"), &[], "");
        answer.is_problem(400, "invalid");
        assert_eq!(answer.json()["field"], field);
    }
}

#[test]
fn who_comes_back_hears_what_was_missed_or_that_something_was() {
    let rig = Rig::with(config::Control {
        events_bytes_max: 4_000,
        ..config::Control::default()
    });
    let mut listener = Listener::open(&rig, "?type=trunk");
    for _ in 0..3 {
        tell(&rig, trunk());
    }
    let seen: Vec<Heard> = (0..3).map(|_| listener.event().unwrap()).collect();
    drop(listener);
    let back = |id: &str| {
        let headers = [("Last-Event-ID", id)];
        Listener::open_with(&rig, "?type=trunk", &headers)
    };
    let mut listener = back(&seen[0].id);
    assert_eq!(
        [listener.event().unwrap(), listener.event().unwrap()],
        [seen[1].clone(), seen[2].clone()]
    );
    // Too long ago; from before a restart; never given out.
    for _ in 0..100 {
        tell(&rig, trunk());
        assert_eq!(listener.event().unwrap().name, "trunk");
    }
    let (start, _) = seen[0].id.split_once('-').unwrap();
    for id in [
        seen[0].id.clone(),
        "1-1".to_owned(),
        format!("{start}-999999"),
        "x".to_owned(),
    ] {
        assert_eq!(back(&id).names(2), ["gap", "trunk"], "{id}");
    }
    // Events of calls were not made as long as nobody asked for them.
    let mut listener = Listener::open_for_calls(&rig, "?type=call", &[("Last-Event-ID", &format!("{start}-103"))]);
    assert_eq!(listener.event().unwrap().name, "gap");
}

#[test]
fn one_that_does_not_read_is_cut_off_and_the_others_hear_on() {
    let rig = Rig::with(config::Control {
        events_bytes_max: 100_000,
        ..config::Control::default()
    });
    let mut slow = Listener::open(&rig, "?type=trunk,verb:status");
    let mut quick = Listener::open(&rig, "?type=verb:status");
    // More than the kernel's buffers on both sides hold, and then more than is kept.
    let long = "x".repeat(50_000);
    for _ in 0..400 {
        tell(&rig, verb(&long));
        assert_eq!(quick.event().unwrap().name, "verb:status");
    }
    let cut_off = |rig: &Rig| {
        let metrics = rig.get("GET", "/metrics", &[], "").body;
        metrics.contains("\nreferee_event_streams_cut_off_total 1\n")
    };
    assert!(cut_off(&rig));
    // What it reads at last ends before all was told.
    let mut rest = Vec::new();
    slow.reader.read_to_end(&mut rest).unwrap();
    assert!(rest.len() < 400 * long.len());
    tell(&rig, verb("call-1"));
    assert_eq!(quick.event().unwrap().data["call"], "call-1");
}

#[test]
fn listeners_are_bounded_and_sent_away_at_the_end() {
    let rig = Rig::with(config::Control {
        event_streams_max: 1,
        ..config::Control::default()
    });
    let listener = Listener::open(&rig, "?type=trunk");
    rig.get("GET", "/v1/events?type=trunk", &[], "").is_problem(503, "busy");
    drop(listener);
    // The place is free once the connection is known to be closed.
    let mut listener = loop {
        if let Ok(listener) = Listener::read(Listener::ask(&rig, "?type=trunk", &[])) {
            break listener;
        }
    };
    rig.control.stop();
    assert_eq!(listener.event(), None);
}

#[test]
fn what_there_was_no_room_for_is_told_as_a_gap() {
    let rig = Rig::with(config::Control {
        events_queue_max: 1,
        ..config::Control::default()
    });
    let mut listener = Listener::open(&rig, "?type=trunk");
    let lost = (0..10_000)
        .filter(|_| !rig.events.tell(Box::new(Event { what: trunk(), at: 1 })))
        .count();
    assert_ne!(lost, 0);
    // One more that finds room, so that there is something to hear at the end.
    while !rig.events.tell(Box::new(Event {
        what: verb("end"),
        at: 1,
    })) {}
    let mut names = Vec::new();
    while !names.contains(&"gap".to_owned()) {
        names.push(listener.event().unwrap().name);
    }
    assert!(names.len() <= 10_001 - lost + 1, "{}", names.len());
}

#[test]
fn a_stream_ends_when_the_client_wants_it_to() {
    let rig = Rig::start();
    tell(&rig, trunk());
    let mut all = Listener::open_with(&rig, "?type=trunk&for=0", &[("Last-Event-ID", "0-0")]);
    assert_eq!(all.names(2), ["gap", "trunk"]);
    assert_eq!(all.event(), None);
    assert_eq!(Listener::open(&rig, "?type=trunk&for=0").event(), None);
    for wrong in ["-1", "+1", "1.5", "86401", "", "99999999999999999999999"] {
        let answer = rig.get("GET", &format!("/v1/events?type=trunk&for={wrong}"), &[], "");
        answer.is_problem(400, "invalid");
        assert_eq!(answer.json()["field"], "for");
    }
}
