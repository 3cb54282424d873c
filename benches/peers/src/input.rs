//! What is read: each message by itself, and the mix of a call.

use std::borrow::Cow;

use crate::messages::MESSAGES;
use crate::mix::CallMix;

/// Messages that are read in turn.
pub struct Input {
    pub name: &'static str,
    pub messages: Vec<Message>,
}

/// One message, and an HTTP request that has as many bytes and header lines.
pub struct Message {
    pub bytes: &'static [u8],
    /// How long it is up to the empty line.
    pub head: usize,
    pub http: &'static [u8],
}

/// The nine messages and the mix.
pub fn all() -> Vec<Input> {
    let http: Vec<(&str, &[u8])> = MESSAGES
        .iter()
        .map(|(name, bytes)| (*name, &*as_http(bytes).leak()))
        .collect();
    let single = MESSAGES.iter().zip(&http).map(|((name, bytes), (_, http))| Input {
        name,
        messages: vec![message(bytes, http)],
    });
    let sip: &CallMix = Box::leak(Box::new(CallMix::of(&MESSAGES)));
    let http: &CallMix = Box::leak(Box::new(CallMix::of(&http)));
    let mix = Input {
        name: "call mix",
        messages: sip
            .messages()
            .zip(http.messages())
            .map(|(sip, http)| message(sip, http))
            .collect(),
    };
    single.chain([mix]).collect()
}

fn message(bytes: &'static [u8], http: &'static [u8]) -> Message {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n").map_or(bytes.len(), |end| end + 2);
    assert_eq!(bytes.len(), http.len());
    Message { bytes, head, http }
}

/// The same header lines under a request line of HTTP, without what httparse does not take: folds, and white space before
/// a colon. What they were long goes into the target or, if there is too much of it already, out of it.
fn as_http(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let (start, lines) = unfolded.split_once("\r\n").unwrap_or((&unfolded, ""));
    let mut words = start.split(' ');
    let (method, target) = match (words.next(), words.next()) {
        (Some(method), Some(target)) if !method.contains('/') => (method, target),
        _ => ("GET", "/"),
    };
    let lines: String = lines
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| format!("{}:{value}\r\n", name.trim_end()))
        .collect();
    let fixed = method.len() + "  HTTP/1.1\r\n".len() + lines.len() + "\r\n".len() + body.len();
    let room = bytes.len() - fixed;
    let target: Cow<'_, str> = match target.get(..room) {
        Some(part) => part.into(),
        None => format!("{target:a<room$}").into(),
    };
    format!("{method} {target} HTTP/1.1\r\n{lines}\r\n{body}").into_bytes()
}
