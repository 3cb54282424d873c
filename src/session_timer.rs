//! What a proxy does to session timers on their way (RFC 4028 §8): which intervals it takes, asks for and answers for.
//!
//! The parties refresh the session; a proxy only has its word in the interval, and learns until when the session may be alive.

pub mod agent;

use crate::message::edit::{Editor, decimal};
use crate::message::time::SESSION_INTERVAL_MIN;
use crate::message::{Header, Message, Method};
use smallvec::SmallVec;

/// What this proxy wants, in seconds; by default nothing, so that every request passes as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The longest interval; one is put into requests that ask for none.
    pub expires: Option<u32>,
    /// The shortest interval.
    pub least: Option<u32>,
}

/// What becomes of a session refresh request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass(Pass),
    /// To be refused with 422 and this Min-SE.
    TooSmall {
        min_se: u32,
    },
}

/// A request that goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// What Session-Expires and Min-SE say from here on, where that is something else, in seconds.
    pub session_expires: Option<u32>,
    pub min_se: Option<u32>,
    /// The interval that this proxy has asked for from a UAC that knows session timers. A UAS that does not know them leaves
    /// it to us to put it into the 2xx (§8.2).
    pub asked: Option<u32>,
}

/// Whether a 2xx to this request sets a session's end (§8.1).
pub fn refreshes_session(method: Method) -> bool {
    matches!(method, Method::Invite | Method::Update)
}

impl Policy {
    /// Judges a request that is about to be record-routed or whose dialog is known (§8: a proxy without that asks for nothing).
    pub fn judge(self, request: Message<'_>) -> Verdict {
        let pass = Verdict::Pass(Pass::default());
        if self == Policy::default() || !request.method().is_some_and(refreshes_session) {
            return pass;
        }
        // What cannot be read is for the parties to refuse (RFC 3261 §16.3).
        let (Ok(theirs), Ok(their_min)) = (request.session_expires(), request.min_se()) else {
            return pass;
        };
        let theirs = theirs.map(|interval| interval.seconds);
        let knows_timers = request.lists(Header::Supported, "timer") || request.lists(Header::Require, "timer");
        let least = self.least.unwrap_or(SESSION_INTERVAL_MIN);
        let mut floor = their_min.unwrap_or(SESSION_INTERVAL_MIN);
        let mut min_se = None;
        if theirs.is_some_and(|interval| interval < least) {
            if knows_timers {
                return Verdict::TooSmall { min_se: least };
            }
            // A 422 would be no answer to a UAC that does not know it. Only then may Min-SE be touched (§8.1, §11).
            if their_min.is_none_or(|their_min| their_min < least) {
                min_se = Some(least);
            }
            floor = floor.max(least);
        }
        // Ours lowers theirs, but nothing goes below the floor.
        let Some(wished) = theirs.into_iter().chain(self.expires).min() else {
            return pass;
        };
        let interval = wished.max(floor);
        Verdict::Pass(Pass {
            session_expires: (theirs != Some(interval)).then_some(interval),
            min_se,
            asked: knows_timers.then_some(interval),
        })
    }
}

impl Pass {
    /// Adds the splices to a request. `refresher` stays as it is: it is never a proxy's to say (§8.1).
    pub fn apply(&self, request: Message<'_>, editor: &mut Editor) {
        for (header, seconds) in [
            (Header::SessionExpires, self.session_expires),
            (Header::MinSe, self.min_se),
        ] {
            let Some(seconds) = seconds else { continue };
            match request.lines_of(header).next() {
                Some(line) => {
                    let digits = line.value.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let start = line.value_span.start;
                    editor.replace(start..start + digits, &[decimal(seconds).as_bytes()]);
                }
                None => {
                    let name = header.name().as_bytes();
                    editor.insert(
                        request.headers_end(),
                        &[name, b": ", decimal(seconds).as_bytes(), b"\r\n"],
                    );
                }
            }
        }
    }
}

/// Header lines to put into a response.
pub type Lines = SmallVec<[u8; 64]>;

/// What a 2xx says of the session once it has left: its interval in seconds, `None` if it has none; and what must be put into it
/// for that. `asked` is what [`Pass::asked`] was. A UAS that says nothing knows no session timers: then the UAC refreshes, and
/// has to know them (§8.2).
pub fn answered(response: Message<'_>, asked: Option<u32>) -> (Option<u32>, Lines) {
    let mut lines = Lines::new();
    let interval = match response.session_expires() {
        Ok(Some(interval)) => Some(interval.seconds),
        Ok(None) => asked.inspect(|seconds| {
            lines.extend_from_slice(b"Session-Expires: ");
            lines.extend_from_slice(decimal(*seconds).as_bytes());
            lines.extend_from_slice(b";refresher=uac\r\n");
            if !response.lists(Header::Require, "timer") {
                lines.extend_from_slice(b"Require: timer\r\n");
            }
        }),
        Err(_) => None,
    };
    (interval, lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageBuf;

    fn request(lines: &str) -> MessageBuf {
        of_method("INVITE", lines)
    }

    fn of_method(method: &str, lines: &str) -> MessageBuf {
        MessageBuf::parse(format!(
            "{method} sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\n\
             Call-ID: c\r\nCSeq: 1 {method}\r\n{lines}\r\n"
        ))
        .unwrap()
    }

    fn pass(
        session_expires: impl Into<Option<u32>>,
        min_se: impl Into<Option<u32>>,
        asked: impl Into<Option<u32>>,
    ) -> Verdict {
        Verdict::Pass(Pass {
            session_expires: session_expires.into(),
            min_se: min_se.into(),
            asked: asked.into(),
        })
    }

    #[test]
    fn an_interval_is_lowered_to_ours_and_raised_to_a_higher_min_se_only() {
        let policy = Policy {
            expires: Some(600),
            least: Some(300),
        };
        let knows = "Supported: 100rel, Timer\r\n";
        for (lines, expected) in [
            // None is asked for.
            ("".to_owned(), pass(600, None, None)),
            (knows.to_owned(), pass(600, None, 600)),
            (format!("{knows}Min-SE: 900\r\n"), pass(900, None, 900)),
            // A longer one.
            (
                format!("{knows}Session-Expires: 1800;refresher=uas\r\n"),
                pass(600, None, 600),
            ),
            (format!("{knows}x: 1800\r\nMin-SE: 1200\r\n"), pass(1200, None, 1200)),
            (format!("{knows}x: 1800\r\nMin-SE: 1800\r\n"), pass(None, None, 1800)),
            ("x: 1800\r\n".to_owned(), pass(600, None, None)),
            // One that fits stays.
            (format!("{knows}x: 600\r\n"), pass(None, None, 600)),
            (format!("{knows}x: 300;refresher=uac\r\n"), pass(None, None, 300)),
            // Below the request's own Min-SE: up to that.
            (format!("{knows}x: 400\r\nMin-SE: 500\r\n"), pass(500, None, 500)),
            // Too short.
            (format!("{knows}x: 299\r\n"), Verdict::TooSmall { min_se: 300 }),
            (
                format!("{knows}x: 60\r\nMin-SE: 60\r\n"),
                Verdict::TooSmall { min_se: 300 },
            ),
            (
                "Require: timer\r\nx: 60\r\n".to_owned(),
                Verdict::TooSmall { min_se: 300 },
            ),
            ("x: 299\r\n".to_owned(), pass(300, 300, None)),
            ("x: 299\r\nMin-SE: 100\r\n".to_owned(), pass(300, 300, None)),
            ("x: 299\r\nMin-SE: 300\r\n".to_owned(), pass(300, None, None)),
            ("x: 299\r\nMin-SE: 400\r\n".to_owned(), pass(400, None, None)),
            // Not readable: not ours to refuse.
            (format!("{knows}x: soon\r\n"), pass(None, None, None)),
        ] {
            assert_eq!(policy.judge(request(&lines).as_message()), expected, "{lines}");
        }
    }

    #[test]
    fn ninety_seconds_are_the_least_where_nothing_else_is_said() {
        let policy = Policy {
            expires: Some(1800),
            least: None,
        };
        let judge = |lines: &str| policy.judge(request(lines).as_message());
        assert_eq!(judge("k: timer\r\nx: 89\r\n"), Verdict::TooSmall { min_se: 90 });
        assert_eq!(judge("k: timer\r\nx: 90\r\n"), pass(None, None, 90));
        assert_eq!(judge("x: 89\r\n"), pass(90, 90, None));
    }

    #[test]
    fn without_a_wish_or_in_other_requests_nothing_changes() {
        let lines = "Supported: timer\r\nSession-Expires: 10\r\n";
        assert_eq!(
            Policy::default().judge(request(lines).as_message()),
            pass(None, None, None)
        );
        let policy = Policy {
            expires: Some(600),
            least: Some(300),
        };
        for method in ["INFO", "REFER", "BYE"] {
            assert_eq!(
                policy.judge(of_method(method, lines).as_message()),
                pass(None, None, None)
            );
        }
        assert_eq!(
            policy.judge(of_method("UPDATE", lines).as_message()),
            Verdict::TooSmall { min_se: 300 }
        );
        let only_least = Policy {
            expires: None,
            least: Some(300),
        };
        assert_eq!(
            only_least.judge(request("Supported: timer\r\n").as_message()),
            pass(None, None, None)
        );
    }

    fn edited(buf: &MessageBuf, edit: impl FnOnce(Message<'_>, &mut Editor)) -> String {
        let mut editor = Editor::new();
        edit(buf.as_message(), &mut editor);
        let mut out = Vec::new();
        editor.write(buf.as_message(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_the_digits_change_and_what_is_missing_goes_last() {
        let pass = Pass {
            session_expires: Some(600),
            min_se: Some(300),
            asked: None,
        };
        let text = edited(
            &request("Session-Expires:  7 ; refresher=uas;x\r\nA: b\r\n"),
            |message, editor| pass.apply(message, editor),
        );
        assert!(
            text.ends_with("Session-Expires:  600 ; refresher=uas;x\r\nA: b\r\nMin-SE: 300\r\n\r\n"),
            "{text}"
        );
    }

    #[test]
    fn a_2xx_without_an_interval_gets_the_one_that_was_asked_for() {
        let answer = |lines: &str| {
            MessageBuf::parse(format!(
                "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\n\
                 Call-ID: c\r\nCSeq: 1 INVITE\r\n{lines}\r\n"
            ))
            .unwrap()
        };
        for (lines, asked, interval, put_in) in [
            (
                "Require: 100rel\r\n",
                Some(600),
                Some(600),
                "Session-Expires: 600;refresher=uac\r\nRequire: timer\r\n",
            ),
            (
                "Require: timer\r\n",
                Some(600),
                Some(600),
                "Session-Expires: 600;refresher=uac\r\n",
            ),
            ("", None, None, ""),
            ("x: 90;refresher=uas\r\n", Some(600), Some(90), ""),
            ("x: ?\r\n", Some(600), None, ""),
        ] {
            let (found, put) = answered(answer(lines).as_message(), asked);
            assert_eq!((found, put.as_slice()), (interval, put_in.as_bytes()), "{lines}");
        }
    }
}
