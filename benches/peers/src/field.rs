//! The fields that a proxy reads, what each is in each message, and where what was read goes.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::hint::black_box;

/// What a proxy routes, matches and reports by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The method of a request, the code of a response.
    Start,
    /// How many Via values.
    Vias,
    /// Of the top Via.
    Branch,
    SentBy,
    /// Its value; "" where the parameter has none.
    Rport,
    MaxForwards,
    FromTag,
    ToTag,
    CallId,
    CSeq,
    /// How many Contact values.
    Contacts,
    /// The host of the first.
    ContactHost,
    Routes,
    RecordRoutes,
    /// How many bytes.
    Body,
    ReferToHost,
    /// The parameter `id`.
    EventId,
    /// Of Subscription-State.
    Terminated,
}

/// What was read.
pub enum Value<'a> {
    Absent,
    Number(u64),
    Text(&'a [u8]),
    /// A type of the parser's own, written out only where it is compared.
    Shown(&'a dyn Display),
}

impl<'a> From<Option<&'a [u8]>> for Value<'a> {
    fn from(text: Option<&'a [u8]>) -> Value<'a> {
        text.map_or(Value::Absent, Value::Text)
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Value<'a> {
        text.map(str::as_bytes).into()
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Value::Number(number as u64)
    }
}

impl From<Option<u32>> for Value<'_> {
    fn from(number: Option<u32>) -> Self {
        number.map_or(Value::Absent, |number| Value::Number(number.into()))
    }
}

impl Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Absent => f.write_str("-"),
            Value::Number(number) => number.fmt(f),
            Value::Text(text) => text.escape_ascii().fmt(f),
            Value::Shown(shown) => shown.fmt(f),
        }
    }
}

/// Takes what a parser reads.
pub trait Sink {
    /// One field of the message.
    fn see(&mut self, field: Field, value: Value<'_>);
}

/// For measuring: the compiler must believe that all is used.
pub struct Unused;

impl Sink for Unused {
    #[inline(always)]
    fn see(&mut self, _field: Field, value: Value<'_>) {
        black_box(value);
    }
}

/// For comparing.
#[derive(Default)]
pub struct Seen(pub BTreeMap<Field, String>);

impl Sink for Seen {
    fn see(&mut self, field: Field, value: Value<'_>) {
        self.0.insert(field, value.to_string());
    }
}

/// The order of [`EXPECTED`].
pub const FIELDS: [Field; 18] = [
    Field::Start,
    Field::Vias,
    Field::Branch,
    Field::SentBy,
    Field::Rport,
    Field::MaxForwards,
    Field::FromTag,
    Field::ToTag,
    Field::CallId,
    Field::CSeq,
    Field::Contacts,
    Field::ContactHost,
    Field::Routes,
    Field::RecordRoutes,
    Field::Body,
    Field::ReferToHost,
    Field::EventId,
    Field::Terminated,
];

const CALL_ID: &str = "1879056217_112385940@198.51.100.20";

/// Read by eye, message by message; `-` for what is not there.
#[rustfmt::skip]
pub const EXPECTED: [(&str, [&str; 18]); 9] = [
    ("invite", ["INVITE", "2", "z9hG4bK0a7f3c91b2d84e5f60712b", "198.51.100.20:5060", "", "67", "gK0c8a2f31", "-", CALL_ID,
        "419260", "1", "198.51.100.20", "0", "1", "289", "-", "-", "-"]),
    ("200", ["200", "3", "z9hG4bK7c0001f2a3b4c5d6", "203.0.113.5:5060", "5060", "-", "gK0c8a2f31", "as7f3e21c4", CALL_ID,
        "419260", "1", "203.0.113.9", "0", "3", "215", "-", "-", "-"]),
    ("refer", ["REFER", "1", "z9hG4bK5fd20e77ab31", "203.0.113.9:5070", "", "70", "as7f3e21c4", "gK0c8a2f31", CALL_ID,
        "102", "1", "203.0.113.9", "2", "0", "0", "edge.voice.example", "-", "-"]),
    ("notify", ["NOTIFY", "1", "z9hG4bK0a7f3c91b2d84e5f60ff2b", "198.51.100.20:5060", "", "68", "gK0c8a2f31", "as7f3e21c4",
        CALL_ID, "419262", "1", "198.51.100.20", "1", "0", "16", "-", "102", "1"]),
    ("options", ["OPTIONS", "1", "z9hG4bKopt00031", "198.51.100.20:5060", "", "70", "op00031", "-",
        "00000031-ping@198.51.100.20", "31", "0", "-", "0", "0", "0", "-", "-", "-"]),
    ("register", ["REGISTER", "1", "z9hG4bK-d8754z-5b1fa0c93e7d2846-1---d8754z-", "192.168.178.41:5062", "", "70", "4c0b7e19",
        "-", "MzQ4ZjFhN2IwOWM2ZDIxZTU4YmE0ZjA", "3", "1", "192.168.178.41", "0", "0", "0", "-", "-", "-"]),
    ("ack", ["ACK", "1", "z9hG4bK0a7f3c91b2d84e5f60992b", "198.51.100.20:5060", "", "69", "gK0c8a2f31", "as7f3e21c4", CALL_ID,
        "419260", "0", "-", "1", "0", "0", "-", "-", "-"]),
    ("bye", ["BYE", "1", "z9hG4bK0a7f3c91b2d84e5f60ab2b", "198.51.100.20:5060", "", "69", "gK0c8a2f31", "as7f3e21c4", CALL_ID,
        "419261", "0", "-", "2", "0", "0", "-", "-", "-"]),
    ("torture", ["INVITE", "3", "z9hG4bK390skdjuw", "[2001:db8::9:1]:5070", "", "68", "98asjd8", "-", "ndaksdj@[2001:db8::9]",
        "9", "2", "2001:db8::9", "2", "2", "92", "-", "-", "-"]),
];
