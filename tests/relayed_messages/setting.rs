//! A shard between a carrier and a platform, at bare wires.

use super::lines::Lines;
use referee::sim::scene::{self, TWO_SIDES};
use referee::sim::wire::{Sent, Wire};
use referee::transport::Transport;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub const PLATFORM: &str = scene::PLATFORM;
pub const CARRIER: &str = scene::CARRIER;
pub const PUBLIC: &str = scene::PUBLIC;
pub const PRIVATE: &str = scene::PRIVATE;

/// The carrier's end of a connection.
pub const CARRIER_STREAM: &str = "198.51.100.10:40000";

pub fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// How bytes come in from the carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Datagram,
    /// A stream with the bytes in one read.
    Whole,
    /// A stream with a byte to each read.
    ByteByByte,
    /// A stream with a message before and behind in the same read.
    Coalesced,
}

pub const DELIVERIES: [Delivery; 4] = [
    Delivery::Datagram,
    Delivery::Whole,
    Delivery::ByteByByte,
    Delivery::Coalesced,
];

pub const STREAMS: [Delivery; 3] = [Delivery::Whole, Delivery::ByteByByte, Delivery::Coalesced];

impl Delivery {
    /// Where it comes from, by address and port.
    pub fn source(self) -> &'static str {
        match self {
            Delivery::Datagram => CARRIER,
            Delivery::Whole | Delivery::ByteByByte | Delivery::Coalesced => CARRIER_STREAM,
        }
    }
}

/// What a delivery came to.
#[derive(Debug)]
pub struct Delivered {
    /// What left, without the answers to the messages around.
    pub sent: Vec<Sent>,
    /// Whether the stream goes on; always so for datagrams.
    pub is_open: bool,
}

/// The configuration of the simulator's usual scene: datagrams to the platform.
pub fn wire() -> Wire {
    Wire::new(TWO_SIDES)
}

/// The same with streams to the platform.
pub fn wire_to_stream() -> Wire {
    Wire::new(&TWO_SIDES.replace("udp:10.0.0.5:5060", "tcp:10.0.0.5:5060"))
}

/// Lets bytes come from the carrier.
pub fn deliver(wire: &mut Wire, delivery: Delivery, bytes: &[u8]) -> Delivered {
    if delivery == Delivery::Datagram {
        let sent = wire.datagram(at(CARRIER), at(PUBLIC), bytes);
        return Delivered { sent, is_open: true };
    }
    let stream = wire.connect(at(CARRIER_STREAM), at(PUBLIC));
    let mut sent = Vec::new();
    match delivery {
        Delivery::Whole => sent = wire.segment(stream, bytes),
        Delivery::ByteByByte => bytes
            .iter()
            .for_each(|byte| sent.extend(wire.segment(stream, &[*byte]))),
        Delivery::Coalesced | Delivery::Datagram => {
            let all = [&neighbour(1)[..], bytes, b"\r\n", &neighbour(2)].concat();
            sent = wire.segment(stream, &all);
            let all_of_it = sent.len();
            let is_answer = |sent: &Sent| super::lines::find(&sent.bytes, b"Call-ID: neighbour").is_some();
            sent.retain(|sent| !is_answer(sent));
            let answered = all_of_it - sent.len();
            assert!(answered > 0, "the message before was not answered");
            assert_eq!(answered == 2, wire.is_open(stream), "{}", bytes.escape_ascii());
        }
    }
    let is_open = wire.is_open(stream);
    Delivered { sent, is_open }
}

/// A request that referee answers by itself.
fn neighbour(number: usize) -> Vec<u8> {
    format!(
        "OPTIONS sip:203.0.113.7 SIP/2.0\r\nVia: SIP/2.0/TCP 198.51.100.10;branch=z9hG4bKneighbour{number}\r\n\
         From: <sip:n@h>;tag=n\r\nTo: <sip:203.0.113.7>\r\nCall-ID: neighbour{number}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// A plain INVITE of the carrier; probes are one change away from it.
pub const INVITE: &str = "INVITE sip:bob@biloxi.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP pc33.atlanta.example:5060;branch=z9hG4bK776asdhds\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice\" <sip:alice@atlanta.example>;tag=1928301774\r\n\
    To: \"Bob\" <sip:bob@biloxi.example>\r\n\
    Call-ID: a84b4c76e66710@pc33.atlanta.example\r\n\
    CSeq: 314159 INVITE\r\n\
    Contact: <sip:alice@pc33.atlanta.example>\r\n\
    Content-Type: application/sdp\r\n\
    Content-Length: 4\r\n\
    \r\n\
    v=0\n";

/// The plain INVITE with pieces of text replaced, each of which must be there.
pub fn invite(changes: &[(&str, &str)]) -> String {
    changed(INVITE, changes)
}

/// A plain request of another method outside a dialog.
pub fn plain(method: &str, changes: &[(&str, &str)]) -> String {
    changed(&INVITE.replace("INVITE", method), changes)
}

fn changed(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no {from:?} in {text}");
        text.replacen(from, to, 1)
    })
}

/// Status codes of what went back to the carrier but for 100, and what went on to the platform.
pub fn outcome(sent: &[Sent]) -> (Vec<u16>, Vec<&Sent>) {
    let codes = sent.iter().filter(|sent| sent.flow.peer.ip() == at(CARRIER).ip());
    let codes = codes
        .map(|sent| Lines::read(&sent.bytes).code())
        .filter(|code| *code != 100);
    let relayed = sent.iter().filter(|sent| sent.flow.peer == at(PLATFORM));
    (codes.collect(), relayed.collect())
}

/// The name of a transport as Via has it.
pub fn via_token(sent: &Sent) -> &'static str {
    match sent.flow.transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
    }
}

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture").join(name)
}

pub fn load(folder_name: &str, name: &str) -> Vec<u8> {
    fs::read(folder(folder_name).join(name)).unwrap_or_else(|error| panic!("{folder_name}/{name}: {error}"))
}

/// The names of all files of a folder, in order.
pub fn files(folder_name: &str) -> Vec<String> {
    let entries = fs::read_dir(folder(folder_name)).expect("the folder is part of the repository");
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
