//! A run drawn as a call-flow ladder: one line per message, in the order they were sent.
//!
//! ```text
//!    0.000  carrier  ── INVITE ──────────────────► referee
//!    0.001  referee  ── INVITE ──────────────────► platform   lost
//!    0.001  referee  ── 100 Trying (INVITE) ─────► carrier
//!    0.501  referee  ── INVITE ──────────────────► platform   again
//! ```

use super::peer::text::Text;
use crate::timer::Instant;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

/// What was sent, in order.
#[derive(Debug, Default)]
pub struct Ladder {
    rungs: Vec<Rung>,
    /// Bytes seen, to tell what was sent again.
    seen: BTreeSet<(String, Vec<u8>)>,
    /// Numbers of the calls, by Call-ID, where each message is to say of which it is.
    calls: Option<BTreeMap<String, usize>>,
}

#[derive(Debug)]
struct Rung {
    at: Instant,
    from: String,
    to: String,
    label: String,
    note: String,
}

impl Ladder {
    /// Lets each message say of which call it is: `INVITE #2`.
    pub fn number_calls(&mut self) {
        self.calls.get_or_insert_default();
    }

    fn number_of(&mut self, bytes: &[u8]) -> Option<usize> {
        let calls = self.calls.as_mut()?;
        let text = Text::read_any_length(bytes)
            .ok()
            .filter(|text| !text.call_id().is_empty())?;
        let next = calls.len() + 1;
        Some(*calls.entry(text.call_id().to_owned()).or_insert(next))
    }

    /// Adds a message. `copies`: how many of it arrive.
    pub fn message(&mut self, at: Instant, from: &str, to: &str, label: &str, bytes: &[u8], copies: usize) {
        let is_new = self.seen.insert((from.to_owned(), bytes.to_vec()));
        let mut notes = Vec::new();
        if !is_new {
            notes.push("again");
        }
        match copies {
            0 => notes.push("lost"),
            1 => {}
            _ => notes.push("twice"),
        }
        match self.number_of(bytes) {
            Some(call) => self.note(at, from, to, &format!("{label} #{call}"), &notes.join(", ")),
            None => self.note(at, from, to, label, &notes.join(", ")),
        }
    }

    /// The Call-IDs with their numbers.
    pub fn calls(&self) -> impl Iterator<Item = (&str, usize)> {
        let calls = self.calls.iter().flatten();
        calls.map(|(call_id, number)| (call_id.as_str(), *number))
    }

    /// The messages a node has sent, each once, in the order of their bytes.
    pub fn messages_of<'l>(&'l self, node: &'l str) -> impl Iterator<Item = &'l [u8]> {
        let of_node = self.seen.iter().filter(move |(from, _)| from == node);
        of_node.map(|(_, bytes)| bytes.as_slice())
    }

    /// Adds a line about anything that passes between two nodes.
    pub fn note(&mut self, at: Instant, from: &str, to: &str, label: &str, note: &str) {
        self.rungs.push(Rung {
            at,
            from: from.into(),
            to: to.into(),
            label: label.into(),
            note: note.into(),
        });
    }
}

impl fmt::Display for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: &dyn Fn(&Rung) -> usize| self.rungs.iter().map(of).max().unwrap_or_default();
        let from_width = width(&|rung| rung.from.chars().count());
        let label_width = width(&|rung| rung.label.chars().count());
        let to_width = width(&|rung| rung.to.chars().count());
        for rung in &self.rungs {
            let micros = rung.at.as_micros();
            let mut line = String::new();
            write!(line, "{:4}.{:03}  ", micros / 1_000_000, micros / 1_000 % 1_000)?;
            let dashes = "─".repeat(label_width - rung.label.chars().count() + 2);
            write!(
                line,
                "{:from_width$} ── {} {dashes}► {:to_width$}",
                rung.from, rung.label, rung.to
            )?;
            write!(line, "  {}", rung.note)?;
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_repeats_are_told() {
        let mut ladder = Ladder::default();
        ladder.message(Instant::START, "a", "referee", "INVITE", b"1", 1);
        ladder.message(Instant::from_millis(1_500), "referee", "b", "BYE", b"2", 0);
        ladder.message(Instant::from_millis(12_000), "referee", "b", "BYE", b"2", 2);
        let expected = "   0.000  a       ── INVITE ──► referee\n   1.500  referee ── BYE ─────► b        lost\n  12.000  referee ── BYE ─────► b        again, twice\n";
        assert_eq!(ladder.to_string(), expected);
    }
}
