//! The demonstration's ladder: what each arrow says, in the columns of [`Column`].

use super::sip::Message;
use super::trace::{Column, Event, What};
use crate::ladder::{Ladder, Rung, http_label};

/// Draws the events, oldest first.
pub fn draw(events: &[Event]) -> String {
    let arrow = |event: &Event| Rung::Arrow {
        at: event.at,
        from: column(event.from),
        to: column(event.to),
        label: label(event),
    };
    let ladder = Ladder {
        parties: Column::ALL.iter().map(|column| column.name().to_owned()).collect(),
        rungs: events.iter().map(arrow).collect(),
    };
    ladder.text()
}

fn column(column: Column) -> usize {
    Column::ALL.iter().position(|other| *other == column).unwrap_or(0)
}

/// What an arrow says.
pub fn label(event: &Event) -> String {
    let text = match &event.what {
        What::Sip(message) => sip_label(message),
        What::Http(http) => http_label(&http.start, &http.body),
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

#[cfg(test)]
mod tests {
    use super::super::trace::Http;
    use super::*;
    use std::time::Duration;

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
        assert!(drawn.lines().all(|line| line.chars().count() <= 110), "{drawn}");
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
        assert!(drawn.lines().all(|line| line.chars().count() <= 110));
    }
}
