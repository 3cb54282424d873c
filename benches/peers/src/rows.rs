//! The rows of the table: what each does with one message.

use std::hint::black_box;

use ::referee::message::Index;

use crate::field::{Seen, Unused};
use crate::input::Message;
use crate::read::{Refused, ezk, referee, rsipstack};

/// Works on so many of the messages in turn, from a place on; returns the place to go on from.
type Batch = Box<dyn FnMut(&[Message], usize, usize) -> usize>;
/// Reads the fields of one.
type Fields = fn(&[u8]) -> Result<Seen, Refused>;

/// One row.
pub struct Row {
    pub name: &'static str,
    pub does: &'static str,
    pub batch: Batch,
    /// What it reads of a message; `None` for a row that reads no fields.
    pub fields: Option<Fields>,
}

/// The place of [`LINE_ENDS`] in the rows, which all others are compared with.
pub const LINE_ENDS: usize = 1;

/// All rows, the floors first.
pub fn all() -> Vec<Row> {
    let mut copy = vec![0; 65_536];
    let mut lines = Index::new();
    let mut checked = Index::new();
    let mut index = Index::new();
    vec![
        floor("memcpy", "copies the message", move |message| {
            let copy = &mut copy[..message.bytes.len()];
            copy.copy_from_slice(black_box(message.bytes));
            black_box(copy);
        }),
        floor("memchr", "finds every line end of the head", |message| {
            let head = &black_box(message.bytes)[..message.head];
            black_box(memchr::memchr_iter(b'\n', head).fold(0, |sum, at| sum ^ at));
        }),
        floor("httparse", "splits an HTTP request of the same size", |message| {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut request = httparse::Request::new(&mut headers);
            let parsed = request.parse(black_box(message.http));
            assert!(parsed.is_ok_and(|status| status.is_complete()), "a good request");
            black_box(&request);
        }),
        floor("referee", "index", move |message| {
            let _ = black_box(referee::split(black_box(message.bytes), &mut lines));
            black_box(&lines);
        }),
        floor("referee", "index and check", move |message| {
            let _ = black_box(referee::checked(black_box(message.bytes), &mut checked));
        }),
        Row {
            name: "referee",
            does: "all fields",
            batch: each(move |message| {
                let _ = black_box(referee::full(black_box(message.bytes), &mut index, &mut Unused));
            }),
            fields: Some(|bytes| seen(|sink| referee::full(bytes, &mut Index::new(), sink))),
        },
        floor("rsipstack", "splits", |message| {
            let _ = black_box(rsipstack::split(black_box(message.bytes)));
        }),
        Row {
            name: "rsipstack",
            does: "all fields",
            batch: each(|message| {
                let _ = black_box(rsipstack::full(black_box(message.bytes), &mut Unused));
            }),
            fields: Some(|bytes| seen(|sink| rsipstack::full(bytes, sink))),
        },
        floor("ezk-sip-types", "splits", |message| {
            let _ = black_box(ezk::split(black_box(message.bytes)));
        }),
        Row {
            name: "ezk-sip-types",
            does: "all fields",
            batch: each(|message| {
                let _ = black_box(ezk::full(black_box(message.bytes), &mut Unused));
            }),
            fields: Some(|bytes| seen(|sink| ezk::full(bytes, sink))),
        },
    ]
}

/// A row that reads no fields.
fn floor(name: &'static str, does: &'static str, work: impl FnMut(&Message) + 'static) -> Row {
    Row {
        name,
        does,
        batch: each(work),
        fields: None,
    }
}

fn each(mut work: impl FnMut(&Message) + 'static) -> Batch {
    Box::new(move |messages, start, count| {
        let mut next = start;
        for _ in 0..count {
            work(&messages[next]);
            next += 1;
            if next == messages.len() {
                next = 0;
            }
        }
        next
    })
}

fn seen(read: impl FnOnce(&mut Seen) -> Result<(), Refused>) -> Result<Seen, Refused> {
    let mut sink = Seen::default();
    read(&mut sink)?;
    Ok(sink)
}
