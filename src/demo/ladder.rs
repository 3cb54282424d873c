//! The ladder: one line of time, one column per party, one arrow per message.
//!
//! ```text
//!    time carrier                        referee                       platform
//!   0.000   │──────── INVITE #314 ────────►│                              │
//! ```
//! `#` is the CSeq number. Where nothing happened for a while the columns are dotted.

use super::sip::Message;
use super::trace::{Column, Event, Http, What};
use serde_json::Value;
use std::time::Duration;

/// Draws the events, oldest first, in at most [`WIDTH_MAX`] columns.
pub fn draw(events: &[Event]) -> String {
    let mut text = header();
    let mut last = Duration::ZERO;
    for event in events {
        if event.at.saturating_sub(last) >= PAUSE {
            text.push_str(&line("", &lifelines('┊')));
        }
        last = last.max(event.at);
        let time = format!("{:.3}", event.at.as_secs_f64());
        text.push_str(&line(&time, &arrow(event)));
    }
    text
}

fn header() -> String {
    let mut row = vec![' '; WIDTH_MAX];
    for column in Column::ALL {
        let name = column.name();
        put(&mut row, place(column) - name.len() / 2, name);
    }
    put(&mut row, TIME_END - 4, "time");
    let mut text: String = row.into_iter().collect::<String>().trim_end().to_owned();
    text.push('\n');
    text.push_str(&line("", &lifelines('│')));
    text
}

fn line(time: &str, row: &[char]) -> String {
    let mut row = row.to_vec();
    put(&mut row, TIME_END - time.chars().count(), time);
    let text: String = row.into_iter().collect();
    format!("{}\n", text.trim_end())
}

fn lifelines(stroke: char) -> Vec<char> {
    let mut row = vec![' '; WIDTH_MAX];
    for column in Column::ALL {
        row[place(column)] = stroke;
    }
    row
}

fn arrow(event: &Event) -> Vec<char> {
    let mut row = lifelines('│');
    let (from, to) = (place(event.from), place(event.to));
    let (left, right) = (from.min(to), from.max(to));
    for (i, cell) in row.iter_mut().enumerate().take(right).skip(left + 1) {
        // A lifeline that is only passed.
        let is_crossing = Column::ALL.iter().any(|column| place(*column) == i);
        *cell = if is_crossing { '┼' } else { '─' };
    }
    match from < to {
        true => row[right - 1] = '►',
        false => row[left + 1] = '◄',
    }
    // One stroke and one space on each side, and the arrow's head.
    let room = right - left - 1 - 4;
    let label = format!(" {} ", shortened(&label(event), room));
    let length = label.chars().count();
    put(&mut row, left + 1 + (right - left - 1 - length) / 2, &label);
    row
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

/// What an arrow says.
pub fn label(event: &Event) -> String {
    let text = match &event.what {
        What::Sip(message) => sip_label(message),
        What::Http(http) => http_label(http),
    };
    match event.repeat {
        true => format!("again: {text}"),
        false => text,
    }
}

fn sip_label(message: &Message) -> String {
    let (number, method) = message.cseq().unwrap_or_default();
    match message.status() {
        Some(_) => format!("{} · {method} #{number}", message.status_text()),
        None => match message.sipfrag() {
            Some(status) => format!("{method} #{number}: {status}"),
            None => format!("{method} #{number}"),
        },
    }
}

fn http_label(http: &Http) -> String {
    let body: Value = serde_json::from_str(&http.body).unwrap_or_default();
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
        return format!(
            "{} · {}: {}, {}{target}",
            http.start,
            text("refer_result"),
            text("refer_cause"),
            text("referStatus"),
        );
    }
    if !body["notify_reason"].is_null() {
        return format!("{} · {} {}", http.start, text("call_status"), text("notify_reason"));
    }
    if body["verb"].is_string() {
        let target = match body["replaces"] {
            Value::Null => text("referTo"),
            _ => "the second call".to_owned(),
        };
        let start = match http.start.ends_with("/verbs") {
            true => "POST /v1/calls/…/verbs",
            false => &http.start,
        };
        return format!("{start} · {} to {target}", text("verb"));
    }
    http.start.clone()
}

/// Where a column's line stands.
fn place(column: Column) -> usize {
    let index = Column::ALL.iter().position(|other| *other == column).unwrap_or(0);
    FIRST + index * DISTANCE
}

/// Fits a terminal beside an editor.
pub const WIDTH_MAX: usize = 110;
const TIME_END: usize = 7;
const FIRST: usize = 11;
/// `NOTIFY #317: 486 Busy Here` and its arrow fit between two columns.
const DISTANCE: usize = 31;
/// A shorter silence does not show.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, from: Column, to: Column, what: What) -> Event {
        Event {
            at: Duration::from_millis(at),
            from,
            to,
            what,
            repeat: false,
        }
    }

    fn sip(text: &str) -> What {
        What::Sip(Message::parse(text.as_bytes()).unwrap())
    }

    fn http(start: &str, body: &str) -> What {
        What::Http(Http {
            start: start.into(),
            headers: Vec::new(),
            body: body.into(),
        })
    }

    #[test]
    fn a_transfer_reads_as_an_engineer_would_draw_it() {
        use Column::{Application, Carrier, Platform, Referee};
        let mut again = event(
            610,
            Carrier,
            Referee,
            sip(
                "NOTIFY sip:p SIP/2.0\r\nCSeq: 315 NOTIFY\r\nContent-Type: message/sipfrag\r\n\r\nSIP/2.0 180 Ringing\r\n",
            ),
        );
        let first = again.clone();
        again.at += Duration::from_millis(5);
        again.repeat = true;
        let events = [
            event(
                0,
                Carrier,
                Referee,
                sip("INVITE sip:p SIP/2.0\r\nCSeq: 314 INVITE\r\n\r\n"),
            ),
            event(
                1,
                Referee,
                Platform,
                sip("INVITE sip:p SIP/2.0\r\nCSeq: 314 INVITE\r\n\r\n"),
            ),
            event(2, Platform, Referee, sip("SIP/2.0 200 OK\r\nCSeq: 314 INVITE\r\n\r\n")),
            event(
                9,
                Application,
                Referee,
                http("POST /v1/calls/a/verbs", r#"{"verb":"sip:refer","referTo":"+49"}"#),
            ),
            event(
                500,
                Referee,
                Carrier,
                sip("REFER sip:c SIP/2.0\r\nCSeq: 1 REFER\r\n\r\n"),
            ),
            first,
            again,
            event(
                620,
                Referee,
                Application,
                http("POST /event", r#"{"call_status":180,"notify_reason":"Ringing"}"#),
            ),
            event(
                12_345,
                Referee,
                Application,
                http(
                    "POST /action",
                    r#"{"refer_result":"failed","refer_cause":"notify_final","referStatus":"202","final_referred_call_status":486}"#,
                ),
            ),
        ];
        let expected = "
   time carrier                        referee                       platform                      application
           │                              │                              │                              │
  0.000    │──────── INVITE #314 ────────►│                              │                              │
  0.001    │                              │──────── INVITE #314 ────────►│                              │
  0.002    │                              │◄─── 200 OK · INVITE #314 ────│                              │
  0.009    │                              │◄──────── POST /v1/calls/…/verbs · sip:refer to +49 ─────────│
           ┊                              ┊                              ┊                              ┊
  0.500    │◄───────── REFER #1 ──────────│                              │                              │
           ┊                              ┊                              ┊                              ┊
  0.610    │── NOTIFY #315: 180 Ringing ─►│                              │                              │
  0.615    │─ again: NOTIFY #315: 180 R… ►│                              │                              │
  0.620    │                              │───────────────── POST /event · 180 Ringing ────────────────►│
           ┊                              ┊                              ┊                              ┊
 12.345    │                              │───── POST /action · failed: notify_final, 202 then 486 ────►│
";
        let drawn = format!("\n{}", draw(&events));
        assert_eq!(drawn, expected);
        assert!(drawn.lines().all(|line| line.chars().count() <= WIDTH_MAX), "{drawn}");
    }

    #[test]
    fn what_does_not_fit_is_cut_where_one_sees_it() {
        let long = event(
            0,
            Column::Carrier,
            Column::Referee,
            sip("SIP/2.0 481 Call/Transaction Does Not Exist\r\nCSeq: 1 BYE\r\n\r\n"),
        );
        let drawn = draw(&[long]);
        assert!(drawn.contains("481 Call/Transaction Does…"), "{drawn}");
        assert!(drawn.lines().all(|line| line.chars().count() <= WIDTH_MAX));
    }
}
