//! Ladders: one line of time, one column per party, one arrow per message; as text, and as SVG.
//!
//! ```text
//!    time carrier                        referee                       platform
//!   0.000   │──────── INVITE #314 ────────►│                              │
//! ```
//! `#` is the CSeq number. Where nothing happened for a while the columns are dotted. Whatever a peer sends, a line stays a
//! line of the same width: characters that are not printed in one column become `?`.

mod svg;

pub use svg::svg;

use serde_json::Value;
use std::time::Duration;

/// What passed between a few parties, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    /// The columns, from left to right; at least two.
    pub parties: Vec<String>,
    pub rungs: Vec<Rung>,
}

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rung {
    /// `from` and `to` are two of the columns.
    Arrow {
        at: Duration,
        from: usize,
        to: usize,
        label: String,
    },
    /// So many messages are left out here.
    LeftOut(u64),
}

impl Ladder {
    /// As text, each line at most [`Ladder::width`] characters.
    pub fn text(&self) -> String {
        let mut text = self.header();
        for (rung, silence) in self.with_silences() {
            if silence {
                text.push_str(&line("", &self.lifelines('┊')));
            }
            match rung {
                Rung::Arrow { at, from, to, label } => {
                    text.push_str(&line(&seconds(*at), &self.arrow(*from, *to, label)));
                }
                Rung::LeftOut(count) => {
                    let mut row = self.lifelines('┊');
                    put(&mut row, FIRST + 2, &left_out(*count));
                    text.push_str(&line("", &row));
                }
            }
        }
        text
    }

    /// Characters of its longest line at most.
    pub fn width(&self) -> usize {
        // Half of the last name stands to the right of its line.
        place(self.parties.len().saturating_sub(1)) + NAME_MAX / 2 + 1
    }

    /// Each rung, and whether nothing happened for a while before it.
    fn with_silences(&self) -> impl Iterator<Item = (&Rung, bool)> {
        let mut last = Duration::ZERO;
        self.rungs.iter().map(move |rung| match rung {
            Rung::Arrow { at, .. } => {
                let silence = at.saturating_sub(last) >= PAUSE;
                last = last.max(*at);
                (rung, silence)
            }
            Rung::LeftOut(_) => (rung, false),
        })
    }

    fn header(&self) -> String {
        let mut row = vec![' '; self.width()];
        for (column, name) in self.parties.iter().enumerate() {
            let name = shortened(&plain(name), NAME_MAX);
            put(&mut row, place(column) - (name.chars().count() / 2).min(FIRST), &name);
        }
        put(&mut row, TIME_END - 4, "time");
        let mut text: String = row.into_iter().collect::<String>().trim_end().to_owned();
        text.push('\n');
        text.push_str(&line("", &self.lifelines('│')));
        text
    }

    fn lifelines(&self, stroke: char) -> Vec<char> {
        let mut row = vec![' '; self.width()];
        for column in 0..self.parties.len() {
            row[place(column)] = stroke;
        }
        row
    }

    fn arrow(&self, from: usize, to: usize, label: &str) -> Vec<char> {
        let mut row = self.lifelines('│');
        let (left, right) = (place(from.min(to)), place(from.max(to)));
        for cell in row.iter_mut().take(right).skip(left + 1) {
            // A lifeline that is only passed.
            *cell = if *cell == '│' { '┼' } else { '─' };
        }
        match from < to {
            true => row[right - 1] = '►',
            false => row[left + 1] = '◄',
        }
        // One stroke and one space on each side, and the arrow's head.
        let room = right - left - 1 - 4;
        let label = format!(" {} ", shortened(&plain(label), room));
        let length = label.chars().count();
        put(&mut row, left + 1 + (right - left - 1 - length) / 2, &label);
        row
    }
}

/// What an arrow of an HTTP request says: `start` is `POST /action`, `body` its JSON.
pub fn http_label(start: &str, body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |key: &str| match &body[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    if !body["refer_result"].is_null() {
        let target = match &body["final_referred_call_status"] {
            Value::Null => String::new(),
            status => format!(" then {status}"),
        };
        let (result, cause, status) = (text("refer_result"), text("refer_cause"), text("referStatus"));
        return format!("{start} · {result}: {cause}, {status}{target}");
    }
    if !body["notify_reason"].is_null() {
        return format!("{start} · {} {}", text("call_status"), text("notify_reason"));
    }
    // A hook has its verb's name too: it was looked at before.
    let verbs = match &body {
        Value::Array(list) => list.iter().map_while(verb_label).collect(),
        one => Vec::from_iter(verb_label(one)),
    };
    let start = match start.ends_with("/verbs") {
        true => "POST /v1/calls/…/verbs",
        false => start,
    };
    if !verbs.is_empty() {
        return format!("{start} · {}", verbs.join(", "));
    }
    match body["call_status"].as_str() {
        Some(status) => format!("{start} · {status}"),
        None => start.to_owned(),
    }
}

/// `sip:refer to +49`; `None`: it is no verb.
fn verb_label(verb: &Value) -> Option<String> {
    let name = verb["verb"].as_str()?;
    Some(match (&verb["referTo"], &verb["replaces"]) {
        (Value::String(target), _) => format!("{name} to {target}"),
        (_, Value::Object(_)) => format!("{name} to the second call"),
        _ => name.to_owned(),
    })
}

/// Printable text of one column a character, whatever the terminal: no control characters, nothing that combines, runs from
/// right to left or takes two columns.
fn plain(text: &str) -> String {
    let is_plain = |c: char| matches!(c, ' '..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{24f}' | 'Α'..='ώ' | 'Ѐ'..='ҁ' | '…' | '→');
    text.chars().map(|c| if is_plain(c) { c } else { '?' }).collect()
}

fn seconds(at: Duration) -> String {
    format!("{:.3}", at.as_secs_f64())
}

fn left_out(count: u64) -> String {
    match count {
        1 => " 1 message left out ".to_owned(),
        _ => format!(" {count} messages left out "),
    }
}

fn line(time: &str, row: &[char]) -> String {
    let mut row = row.to_vec();
    put(&mut row, TIME_END.saturating_sub(time.chars().count()), time);
    let text: String = row.into_iter().collect();
    format!("{}\n", text.trim_end())
}

fn put(row: &mut [char], at: usize, text: &str) {
    for (cell, c) in row[at..].iter_mut().zip(text.chars()) {
        *cell = c;
    }
}

fn shortened(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(room - 1).collect();
    short.push('…');
    short
}

/// Where a column's line stands.
fn place(column: usize) -> usize {
    FIRST + column * DISTANCE
}

const TIME_END: usize = 7;
const FIRST: usize = 11;
/// `NOTIFY #317: 486 Busy Here` and its arrow fit between two columns.
const DISTANCE: usize = 31;
/// So that no two names touch.
const NAME_MAX: usize = DISTANCE - 5;
/// A shorter silence does not show.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    pub fn arrow(millis: u64, from: usize, to: usize, label: &str) -> Rung {
        Rung::Arrow {
            at: Duration::from_millis(millis),
            from,
            to,
            label: label.to_owned(),
        }
    }

    pub fn ladder(rungs: Vec<Rung>) -> Ladder {
        let parties = ["carrier", "referee", "platform", "application"];
        Ladder {
            parties: parties.map(str::to_owned).into(),
            rungs,
        }
    }

    #[test]
    fn verbs_are_named_with_whom_they_are_about() {
        for (body, label) in [
            (
                r#"[{"verb":"answer"},{"verb":"sip:refer","referTo":"+49"}]"#,
                "200 OK · answer, sip:refer to +49",
            ),
            (
                r#"{"verb":"sip:refer","replaces":{"call":"a"}}"#,
                "200 OK · sip:refer to the second call",
            ),
            ("[]", "200 OK"),
            (r#"{"call_status":"in-progress"}"#, "200 OK · in-progress"),
            (
                r#"{"verb":"sip:refer","event":"transfer-status","call_status":180,"notify_reason":"Ringing"}"#,
                "200 OK · 180 Ringing",
            ),
        ] {
            assert_eq!(http_label("200 OK", body), label);
        }
    }

    #[test]
    fn a_transfer_reads_as_an_engineer_would_draw_it() {
        let event = http_label("POST /event", r#"{"call_status":180,"notify_reason":"Ringing"}"#);
        let action = http_label(
            "POST /action",
            r#"{"refer_result":"failed","refer_cause":"notify_final","referStatus":"202","final_referred_call_status":486}"#,
        );
        let verbs = http_label("POST /v1/calls/a/verbs", r#"{"verb":"sip:refer","referTo":"+49"}"#);
        let drawn = ladder(vec![
            arrow(0, 0, 1, "INVITE #314"),
            arrow(2, 2, 1, "200 OK · INVITE #314"),
            arrow(9, 3, 1, &verbs),
            arrow(500, 1, 0, "REFER #1"),
            Rung::LeftOut(12),
            arrow(615, 0, 1, "again: NOTIFY #315: 180 Ringing"),
            arrow(620, 1, 3, &event),
            arrow(12_345, 1, 3, &action),
        ]);
        let expected = "
   time carrier                        referee                       platform                      application
           │                              │                              │                              │
  0.000    │──────── INVITE #314 ────────►│                              │                              │
  0.002    │                              │◄─── 200 OK · INVITE #314 ────│                              │
  0.009    │                              │◄──────── POST /v1/calls/…/verbs · sip:refer to +49 ─────────│
           ┊                              ┊                              ┊                              ┊
  0.500    │◄───────── REFER #1 ──────────│                              │                              │
           ┊  12 messages left out        ┊                              ┊                              ┊
           ┊                              ┊                              ┊                              ┊
  0.615    │─ again: NOTIFY #315: 180 R… ►│                              │                              │
  0.620    │                              │───────────────── POST /event · 180 Ringing ────────────────►│
           ┊                              ┊                              ┊                              ┊
 12.345    │                              │───── POST /action · failed: notify_final, 202 then 486 ────►│
";
        assert_eq!(format!("\n{}", drawn.text()), expected);
    }

    #[test]
    fn what_peers_send_breaks_no_line_and_moves_no_column() {
        let nasty = "a\r\nb\u{1b}[31m\u{202e}\u{301}\u{200b}漢字\u{ad}\u{7f}é";
        let mut drawn = ladder(vec![arrow(0, 0, 1, nasty), arrow(1, 1, 0, &"x".repeat(10_000))]);
        drawn.parties[0] = nasty.repeat(10);
        let text = drawn.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[2].contains("a??b?[31m?????"), "{text}");
        assert!(lines[2].ends_with("│") && lines[2].chars().count() == lines[3].chars().count());
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
        assert!(lines.iter().all(|line| line.chars().count() <= drawn.width()));
    }

    #[test]
    fn a_late_hour_does_not_fit_before_the_columns_and_breaks_nothing() {
        let drawn = ladder(vec![
            arrow(100_000_000, 0, 1, "BYE #2"),
            arrow(u64::MAX, 0, 1, "BYE #3"),
        ]);
        assert!(drawn.text().lines().all(|line| line.chars().count() <= drawn.width()));
    }
}
