//! What is counted: stages of the work on one message, and inputs made to be dear.

#[path = "../../parse/messages.rs"]
mod messages;
pub mod relayed;
#[path = "../../parse/view.rs"]
mod view;
mod worst;

use std::hint::black_box;

use referee::message::edit::Editor;
use referee::message::{Index, Message, check, parse};

/// A message and the buffers to work on it with, all warm: counting starts when every buffer has its size and what the
/// program finds out once (which instructions the processor has) is known.
#[derive(Debug)]
pub struct Prepared {
    bytes: &'static [u8],
    index: &'static mut Index,
    editor: &'static mut Editor,
    out: &'static mut Vec<u8>,
}

/// Prepares a message by its name.
///
/// # Panics
///
/// If no message has that name.
pub fn prepared(name: &str) -> Prepared {
    let mut prepared = Prepared {
        bytes: bytes_of(name).unwrap_or_else(|| panic!("no message {name}")).leak(),
        index: Box::leak(Box::new(Index::new())),
        editor: Box::leak(Box::new(Editor::new())),
        out: Box::leak(Box::new(Vec::new())),
    };
    prepared.view();
    prepared.check();
    prepared.edit();
    prepared
}

/// The names of the usual messages.
pub fn usual() -> impl Iterator<Item = &'static str> {
    messages::MESSAGES.iter().map(|(name, _)| *name)
}

/// The names of the inputs made to be dear.
pub fn worst() -> impl Iterator<Item = &'static str> {
    worst::MESSAGES.iter().map(|(name, _)| *name)
}

/// The bytes of a message; `None` for a name nobody knows.
pub fn bytes_of(name: &str) -> Option<Vec<u8>> {
    let usual = messages::MESSAGES.iter().find(|(known, _)| *known == name);
    let worst = worst::MESSAGES.iter().find(|(known, _)| *known == name);
    usual
        .map(|(_, bytes)| bytes.to_vec())
        .or_else(|| worst.map(|(_, write)| write()))
}

/// Reads and checks a message, and asks for all that a proxy reads.
pub fn read_as_a_proxy(bytes: &[u8], index: &mut Index) {
    if parse(black_box(bytes), index).is_ok() {
        let message = Message::new(bytes, index);
        let _ = black_box(check(message));
        let _ = black_box(view::proxy_view(message));
    }
}

// Some of the worst inputs are refused, which is an outcome like any other.
impl Prepared {
    /// One pass over the bytes.
    pub fn index(&mut self) {
        let _ = black_box(parse(black_box(self.bytes), self.index));
    }

    /// The pass, and the grammar of what a proxy depends on.
    pub fn check(&mut self) {
        if parse(black_box(self.bytes), self.index).is_ok() {
            let _ = black_box(check(Message::new(self.bytes, self.index)));
        }
    }

    /// The pass, and all that a proxy reads.
    pub fn view(&mut self) {
        if parse(black_box(self.bytes), self.index).is_ok() {
            let _ = black_box(view::proxy_view(Message::new(self.bytes, self.index)));
        }
    }

    /// What a proxy changes, without the pass.
    pub fn edit(&mut self) {
        let message = Message::new(black_box(self.bytes), self.index);
        let _ = black_box(view::relay(message, self.editor, self.out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use referee::message::parse::MESSAGE_BYTES_MAX;

    #[test]
    fn usual_messages_pass_every_stage() {
        for (name, bytes) in messages::MESSAGES {
            let mut index = Index::new();
            parse(bytes, &mut index).expect(name);
            let message = Message::new(bytes, &index);
            check(message).expect(name);
            view::proxy_view(message).expect(name);
            view::relay(message, &mut Editor::new(), &mut Vec::new()).expect(name);
        }
    }

    #[test]
    fn every_message_of_a_call_is_relayed() {
        for step in relayed::STEPS {
            // An INVITE is answered 100, too.
            let sends = if step == "invite" { 2 } else { 1 };
            assert_eq!(relayed::Relayed::before(step).relay(), sends, "{step}");
        }
    }

    #[test]
    fn the_worst_inputs_fit_a_datagram() {
        for name in worst() {
            let length = bytes_of(name).expect(name).len();
            assert!((300..=MESSAGE_BYTES_MAX).contains(&length), "{name} has {length} bytes");
        }
    }
}
