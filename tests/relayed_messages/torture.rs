//! The messages of RFC 4475 and RFC 5118 as they pass, or do not.

use super::lines::{Hop, Lines, assert_answers, assert_relayed, text};
use super::setting::*;
use referee::sim::wire::Sent;
use std::time::Duration;

/// What a proxy does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It goes on, with so many Record-Route lines of ours.
    Relayed(usize),
    /// It is answered so and goes no further.
    Refused(&'static str),
    /// Nothing leaves.
    Dropped,
}
use Fate::{Dropped, Refused, Relayed};

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// It fares as the datagram does, and the stream goes on.
    Same,
    /// It fares as the datagram does, and the stream is closed.
    Closed,
    /// It fares otherwise, and the stream is closed.
    Other(Fate),
    /// It is not whole yet: what follows belongs to it.
    Waits,
}
use Stream::{Closed, Other, Same, Waits};

type Row = (&'static str, &'static str, Fate, Stream);

/// Lets each message of a table come in all ways and looks at what leaves.
fn fares_as_the_table_says(folder: &str, table: &[Row]) {
    for (name, section, fate, stream) in table {
        let bytes = load(folder, &format!("{name}.dat"));
        for delivery in DELIVERIES {
            let what = format!("{name}, section {section}, {delivery:?}");
            let is_stream = delivery != Delivery::Datagram;
            if *stream == Waits && delivery == Delivery::Coalesced {
                // What stands behind it in the same read is taken for the rest of it.
                continue;
            }
            let delivered = deliver(&mut wire(), delivery, &bytes);
            let (fate, is_open) = match stream {
                _ if !is_stream => (*fate, true),
                Same => (*fate, true),
                Closed => (*fate, false),
                Other(fate) => (*fate, false),
                Waits => (Dropped, true),
            };
            assert_eq!(delivered.is_open, is_open, "{what}");
            assert_fate(&what, &bytes, &delivered.sent, fate, delivery.source());
        }
        if let Relayed(record_routes) = fate {
            let sent = deliver(&mut wire_to_stream(), Delivery::Datagram, &bytes).sent;
            let what = format!("{name}, section {section}, on to a stream");
            assert_fate(&what, &bytes, &sent, Relayed(*record_routes), CARRIER);
        }
    }
}

fn assert_fate(what: &str, bytes: &[u8], sent: &[Sent], fate: Fate, source: &str) {
    let (codes, relayed) = outcome(sent);
    match fate {
        Relayed(record_routes) => {
            assert_eq!((codes.len(), relayed.len()), (0, 1), "{what}");
            let hop = Hop {
                transport: via_token(relayed[0]),
                sent_by: PRIVATE,
                source,
                record_routes,
                own_routes: 0,
            };
            let came = Lines::read(bytes);
            let body = came.counted_body().len();
            let length = bytes.len() - came.body.len() + body;
            assert_relayed(what, &bytes[..length], &relayed[0].bytes, hop);
            // RFC 3261 §16.2: an INVITE has its 100 at once, and nothing else has.
            let trying = sent.iter().filter(|sent| sent.bytes.starts_with(b"SIP/2.0 100 Trying\r\n"));
            assert_eq!(trying.count() + 1, sent.len(), "{what}");
            assert_eq!(sent.len() == 2, came.method() == "INVITE", "{what}");
        }
        Refused(status) => {
            assert_eq!(sent.len(), 1, "{what}: {sent:?}");
            assert_eq!(sent[0].flow.peer.ip(), at(CARRIER).ip(), "{what}");
            assert_answers(what, &readable(bytes), &sent[0].bytes, status, source);
        }
        Dropped => assert!(sent.is_empty(), "{what}: {}", text(&sent[0].bytes)),
    }
}

/// A message that ends before its empty line, with one.
fn readable(bytes: &[u8]) -> Vec<u8> {
    match super::lines::find(bytes, b"\r\n\r\n") {
        Some(_) => bytes.to_vec(),
        None => [bytes, b"\r\n"].concat(),
    }
}

fn names(folder: &str, tables: &[&[Row]], others: &[&str]) {
    let mut named: Vec<String> = tables.iter().flat_map(|table| table.iter()).map(|row| format!("{}.dat", row.0)).collect();
    named.extend(others.iter().map(|name| format!("{name}.dat")));
    named.sort();
    assert_eq!(named, files(folder), "every file stands in a table");
}

/// RFC 4475 §3.1.1.
const VALID: &[Row] = &[
    ("wsinv", "3.1.1.1", Relayed(2), Same),
];

#[test]
fn the_valid_messages_of_rfc_4475_pass_unchanged() {
    for file in files("rfc4475") {
        let bytes = load("rfc4475", &file);
        for d in [Delivery::Datagram, Delivery::Whole] {
        let got = deliver(&mut wire(), d, &bytes);
        println!("{file} {d:?} open={} {:?}", got.is_open, got.sent.iter().map(|s| format!("{} -> {}", text(&s.bytes[..s.bytes.iter().position(|b| *b==13).unwrap()]), s.flow.peer)).collect::<Vec<_>>());
        }
    }
    for file in files("rfc5118") {
        let bytes = load("rfc5118", &file);
        for d in [Delivery::Datagram, Delivery::Whole] {
        let got = deliver(&mut wire(), d, &bytes);
        println!("{file} {d:?} open={} {:?}", got.is_open, got.sent.iter().map(|s| format!("{} -> {}", text(&s.bytes[..s.bytes.iter().position(|b| *b==13).unwrap()]), s.flow.peer)).collect::<Vec<_>>());
        }
    }
    fares_as_the_table_says("rfc4475", VALID);
}
