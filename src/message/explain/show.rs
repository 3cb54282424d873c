//! An explanation as text for a terminal: what cannot be shown is escaped, and lines end at 120 columns where they can.

use std::fmt::{self, Write as _};

use super::super::scan;
use super::{Explanation, Place, Problem, Verdict};

/// Columns of the text.
const WIDTH: usize = 120;
/// Columns before what is read in a line.
const INDENT: usize = 8;
/// Columns of the excerpt that a caret points into.
const EXCERPT: usize = WIDTH - INDENT;

/// Text with control bytes and those above ASCII escaped.
pub(super) fn show(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b' '..=b'~' => text.push(char::from(byte)),
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            // Writing to a string cannot fail.
            _ => _ = write!(text, "\\x{byte:02x}"),
        }
    }
    text
}

/// The same for a value that may go on over several lines: each fold is one SP.
pub(super) fn flat(value: &[u8]) -> String {
    let mut flat = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, after @ ..] = rest {
        rest = match rest {
            [b'\r', b'\n', b' ' | b'\t', ..] => {
                while flat.last().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
                    flat.pop();
                }
                flat.push(b' ');
                scan::skip_lws(rest)
            }
            _ => {
                flat.push(*first);
                after
            }
        };
    }
    show(&flat)
}

/// Writes text behind `first`, going on below it, where it must, behind `indent` columns. It breaks after what separates
/// parts, and else where the line is full.
fn wrapped(f: &mut fmt::Formatter<'_>, first: &str, indent: usize, text: &str) -> fmt::Result {
    f.write_str(first)?;
    let mut column = first.chars().count();
    let mut rest = text;
    loop {
        let room = WIDTH.saturating_sub(column).max(20);
        let fits = rest.char_indices().nth(room).map(|(at, _)| at);
        let Some(fits) = fits else {
            return writeln!(f, "{rest}");
        };
        let least = fits / 3;
        let end = rest[..fits].rfind([' ', ',', ';', '?', '&']).map_or(fits, |at| at + 1);
        let end = if end > least { end } else { fits };
        let (line, after) = rest.split_at(end);
        writeln!(f, "{}", line.trim_end())?;
        write!(f, "{:indent$}", "")?;
        column = indent;
        rest = after.trim_start();
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary)?;
        for hint in &self.hints {
            wrapped(f, "hint: ", 6, hint)?;
        }
        if !self.lines.is_empty() {
            writeln!(f)?;
        }
        for line in &self.lines {
            wrapped(f, &format!("{:4}  ", line.number), INDENT, &line.text)?;
            for reading in &line.readings {
                wrapped(f, "        · ", INDENT + 4, reading)?;
            }
        }
        if !self.body.is_empty() {
            writeln!(f, "\nbody")?;
        }
        for text in &self.body {
            wrapped(f, "        · ", INDENT + 4, text)?;
        }
        match self.problems.len() {
            0 => writeln!(f, "\nno problems")?,
            1 => writeln!(f, "\n1 problem")?,
            count => writeln!(f, "\n{count} problems")?,
        }
        for problem in &self.problems {
            self.write_problem(f, problem)?;
        }
        writeln!(f)?;
        write_verdict(f, "A proxy would: ", &self.verdict)?;
        if let Some(verdict) = &self.with_crlf {
            write_verdict(f, "With CRLF it would: ", verdict)?;
        }
        Ok(())
    }
}

impl Explanation<'_> {
    fn write_problem(&self, f: &mut fmt::Formatter<'_>, problem: &Problem) -> fmt::Result {
        let Place { offset, line, column } = problem.place;
        let consequence = match problem.fault.stops_relaying() {
            true => "",
            false => "; does not stop relaying",
        };
        let text = format!(
            "{} at byte {offset}, line {line}, column {column}: {} ({}){consequence}",
            problem.name, problem.why, problem.section
        );
        wrapped(f, "  - ", INDENT, &text)?;
        let (excerpt, caret) = self.excerpt(problem.place);
        writeln!(f, "{:INDENT$}{excerpt}", "")?;
        writeln!(f, "{:INDENT$}{:caret$}^", "", "")
    }

    /// The part of a line round a place, escaped, and how many columns stand before the place.
    fn excerpt(&self, place: Place) -> (String, usize) {
        let start = place.offset + 1 - place.column;
        let line = &self.bytes[start..];
        let end = memchr::memchr(b'\n', line).map_or(line.len(), |at| at + 1);
        let (before, after) = line[..end].split_at(place.offset - start);
        // The end of the line is shown only where it is what the caret points at.
        let after = match after {
            [b'\r', b'\n'] | [b'\r'] | [b'\n'] => after,
            _ => after
                .strip_suffix(b"\n")
                .map_or(after, |cut| cut.strip_suffix(b"\r").unwrap_or(cut)),
        };
        let (mut before, mut after) = (show(before), show(after));
        if before.is_empty() && after.is_empty() {
            after.push_str("(the bytes end here)");
        }
        let room_before = (EXCERPT / 2).max(EXCERPT.saturating_sub(after.len() + 1));
        if before.len() > room_before {
            // All is ASCII after escaping.
            before = format!("…{}", &before[before.len() - (room_before - 1)..]);
        }
        let caret = before.chars().count();
        let room = EXCERPT.saturating_sub(caret);
        if after.len() > room {
            after.truncate(room.saturating_sub(1));
            after.push('…');
        }
        (before + &after, caret)
    }
}

fn write_verdict(f: &mut fmt::Formatter<'_>, who: &str, verdict: &Verdict) -> fmt::Result {
    match verdict {
        Verdict::Forward(changes) => {
            writeln!(f, "{who}forward it")?;
            for change in changes {
                wrapped(f, "        · ", INDENT + 4, change)?;
            }
            Ok(())
        }
        Verdict::Keep(why) => wrapped(f, who, INDENT, &format!("take it as its own: {why}")),
        Verdict::Answer(code, reason, why) => wrapped(f, who, INDENT, &format!("answer {code} {reason}: {why}")),
        Verdict::Drop(why) => wrapped(f, who, INDENT, &format!("drop it: {why}")),
    }
}
