//! Session timers as a user agent keeps them (RFC 4028 §7, §9, §10): which interval a 2xx of ours agrees on, who refreshes, when a
//! refresh is due, and when the session is over.

use super::{Policy, refreshes_session};
use crate::message::edit::decimal;
use crate::message::time::{Refresher, SESSION_INTERVAL_MIN};
use crate::message::{Header, Message};
use crate::timer::Instant;
use std::time::Duration;

/// The timer of one session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Agent {
    running: Option<Running>,
    /// The largest Min-SE that was asked of us: it holds for the Call-ID (§7.4).
    min_se: Option<u32>,
    /// How often the refresh that is under way was asked to be larger.
    raised: u8,
}

/// Each 422 that asks for more is answered at once: a peer that always wants more would keep us at it.
const RAISED_MAX: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Running {
    /// In seconds.
    interval: u32,
    /// We refresh, the peer does otherwise.
    is_ours: bool,
    /// The last refresh.
    since: Instant,
    /// When our next refresh is due.
    refresh_at: Option<Instant>,
}

/// What a request that refreshes a session agrees on, if it is answered with a 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// In seconds; `None`: the session has no timer.
    interval: Option<u32>,
    is_ours: bool,
    /// The peer knows session timers.
    is_known: bool,
}

/// An interval below the least that is taken: to be refused with 422 and this Min-SE (§9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    pub min_se: u32,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before then.
    Nothing(Option<Instant>),
    Refresh,
    /// The session is over: BYE.
    Over,
}

impl Agent {
    /// Judges what a request of the peer asks for; one that refreshes no session changes nothing.
    ///
    /// # Errors
    /// The interval is too small, and the peer knows what a 422 says.
    pub fn judge(policy: Policy, request: Message<'_>) -> Result<Agreed, TooSmall> {
        let is_known = request.lists(Header::Supported, "timer") || request.lists(Header::Require, "timer");
        let none = Agreed {
            interval: None,
            is_ours: false,
            is_known,
        };
        if !request.method().is_some_and(refreshes_session) {
            return Ok(none);
        }
        // §9: what cannot be read asks for nothing.
        let theirs = request.session_expires().ok().flatten();
        let their_min = request.min_se().ok().flatten().unwrap_or(SESSION_INTERVAL_MIN);
        let least = policy.least.unwrap_or(SESSION_INTERVAL_MIN).max(SESSION_INTERVAL_MIN);
        if theirs.is_some_and(|theirs| theirs.seconds < least) {
            return match is_known {
                true => Err(TooSmall { min_se: least }),
                // A proxy has asked for it; nobody would understand a 422 (§9), so there is no timer.
                false => Ok(none),
            };
        }
        let floor = their_min.max(least);
        let interval = match (theirs.map(|theirs| theirs.seconds), policy.expires) {
            (Some(theirs), Some(own)) => theirs.min(own.max(floor)),
            (Some(theirs), None) => theirs,
            (None, Some(own)) => own.max(floor),
            (None, None) => return Ok(none),
        };
        // §9, table 2: as the request says; else the peer, if it can.
        let is_ours = match theirs.and_then(|theirs| theirs.refresher) {
            _ if !is_known => true,
            Some(refresher) => refresher == Refresher::Uas,
            None => false,
        };
        Ok(Agreed {
            interval: Some(interval),
            is_ours,
            is_known,
        })
    }

    /// A 2xx of ours leaves: what was agreed holds from now on.
    pub fn agree(&mut self, agreed: Agreed, now: Instant) {
        self.running = agreed
            .interval
            .map(|interval| Running::new(interval, agreed.is_ours, now));
    }

    /// Header lines of a request of ours that refreshes the session: Session-Expires, and Min-SE where one was asked of us.
    pub fn request_lines(&self) -> Vec<(&'static str, String)> {
        let Some(running) = self.running else { return Vec::new() };
        let interval = running.interval.max(self.min_se.unwrap_or_default());
        let mut lines = vec![("Session-Expires", format!("{interval};refresher=uac"))];
        lines.extend(self.min_se.map(|min_se| ("Min-SE", min_se.to_string())));
        lines
    }

    /// A 2xx answers a refresh of ours (§7.2): it says how it goes on, or that there is no timer any more.
    pub fn refreshed(&mut self, response: Message<'_>, now: Instant) {
        self.raised = 0;
        self.running = response.session_expires().ok().flatten().map(|said| {
            let interval = said.seconds.max(SESSION_INTERVAL_MIN);
            Running::new(interval, said.refresher != Some(Refresher::Uas), now)
        });
    }

    /// A 422 answers a refresh of ours: it comes again and asks for a larger interval (§7.3), while the one that was agreed goes
    /// on. `false`: the answer names none that was not asked for, or it is one of too many.
    pub fn too_small(&mut self, response: Message<'_>) -> bool {
        let Some(min_se) = response.min_se().ok().flatten() else {
            return false;
        };
        let is_new = self.min_se.is_none_or(|known| known < min_se);
        if !is_new || self.raised >= RAISED_MAX {
            return false;
        }
        self.raised += 1;
        self.min_se = Some(min_se);
        true
    }

    /// A refresh of ours has left, or is to be tried again then.
    pub fn refresh_after(&mut self, at: Option<Instant>) {
        if let Some(running) = &mut self.running {
            running.refresh_at = at;
        }
    }

    /// What is due now.
    pub fn due(&self, now: Instant) -> Due {
        let Some(running) = self.running else {
            return Due::Nothing(None);
        };
        let over = running.over_at();
        match running.refresh_at {
            _ if over <= now => Due::Over,
            Some(at) if at <= now => Due::Refresh,
            at => Due::Nothing(Some(at.map_or(over, |at| at.min(over)))),
        }
    }
}

impl Running {
    fn new(interval: u32, is_ours: bool, now: Instant) -> Running {
        Running {
            interval,
            is_ours,
            since: now,
            // §10: halfway.
            refresh_at: is_ours.then(|| now + Duration::from_secs(interval.into()) / 2),
        }
    }

    /// §10: a BYE leaves 32 s before the end or after two thirds of it, whichever is later.
    fn over_at(&self) -> Instant {
        let interval = Duration::from_secs(self.interval.into());
        self.since + (interval - Duration::from_secs(32).min(interval / 3))
    }
}

impl Agreed {
    /// Header lines of the 2xx (§9).
    pub fn response_lines(&self) -> Vec<(&'static str, String)> {
        let Some(interval) = self.interval else {
            return Vec::new();
        };
        let refresher = if self.is_ours { "uas" } else { "uac" };
        let interval = decimal(interval);
        let interval = String::from_utf8_lossy(interval.as_bytes()).into_owned();
        let mut lines = vec![("Session-Expires", format!("{interval};refresher={refresher}"))];
        if !self.is_ours && self.is_known {
            lines.push(("Require", "timer".to_owned()));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageBuf;

    fn message(start: &str, lines: &str) -> MessageBuf {
        MessageBuf::parse(format!(
            "{start}\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 1 INVITE\r\n{lines}\r\n"
        ))
        .unwrap()
    }

    fn invite(lines: &str) -> MessageBuf {
        message("INVITE sip:b@b SIP/2.0", lines)
    }

    fn answered(lines: &str) -> MessageBuf {
        message("SIP/2.0 200 OK", lines)
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1_000 * seconds)
    }

    #[test]
    fn the_2xx_says_the_interval_and_who_refreshes() {
        let none = Policy::default();
        let own = Policy {
            expires: Some(600),
            least: Some(300),
        };
        for (policy, lines, expected) in [
            (none, "", ""),
            (none, "Supported: timer\r\n", ""),
            (none, "k: timer\r\nx: 1800\r\n", "1800;refresher=uac timer"),
            (none, "k: timer\r\nx: 1800;refresher=uas\r\n", "1800;refresher=uas"),
            (
                none,
                "k: timer\r\nx: 1800;refresher=uac\r\n",
                "1800;refresher=uac timer",
            ),
            // A proxy asks for one whose UAC knows none: only we can refresh.
            (none, "x: 1800\r\n", "1800;refresher=uas"),
            (none, "x: 60\r\n", ""),
            (none, "k: timer\r\nx: soon\r\n", ""),
            (own, "", "600;refresher=uas"),
            (own, "k: timer\r\n", "600;refresher=uac timer"),
            (own, "k: timer\r\nx: 1800\r\n", "600;refresher=uac timer"),
            (own, "k: timer\r\nx: 1800\r\nMin-SE: 900\r\n", "900;refresher=uac timer"),
            (own, "k: timer\r\nx: 400\r\n", "400;refresher=uac timer"),
        ] {
            let agreed = Agent::judge(policy, invite(lines).as_message()).unwrap();
            let said: Vec<String> = agreed.response_lines().into_iter().map(|(_, value)| value).collect();
            assert_eq!(said.join(" "), expected, "{lines}");
        }
    }

    #[test]
    fn an_interval_below_the_least_is_refused_where_422_is_known() {
        let judge = |policy, lines: &str| Agent::judge(policy, invite(lines).as_message());
        let lines = "Supported: timer\r\nSession-Expires: 89\r\n";
        assert_eq!(judge(Policy::default(), lines), Err(TooSmall { min_se: 90 }));
        let own = Policy {
            expires: None,
            least: Some(300),
        };
        assert_eq!(
            judge(own, "Supported: timer\r\nSession-Expires: 299\r\n"),
            Err(TooSmall { min_se: 300 })
        );
    }

    #[test]
    fn a_refresh_is_due_halfway_and_a_bye_before_the_end() {
        let mut agent = Agent::default();
        assert_eq!(agent.due(at(9_999)), Due::Nothing(None));
        let ours = Agent::judge(
            Policy::default(),
            invite("k: timer\r\nx: 1800;refresher=uas\r\n").as_message(),
        )
        .unwrap();
        agent.agree(ours, at(100));
        assert_eq!(agent.due(at(999)), Due::Nothing(Some(at(1_000))));
        assert_eq!(agent.due(at(1_000)), Due::Refresh);
        agent.refresh_after(None);
        assert_eq!(agent.due(at(1_000)), Due::Nothing(Some(at(100 + 1_768))));
        assert_eq!(agent.due(at(100 + 1_768)), Due::Over);
        let theirs = Agent::judge(Policy::default(), invite("k: timer\r\nx: 90\r\n").as_message()).unwrap();
        agent.agree(theirs, at(0));
        assert_eq!(agent.due(at(59)), Due::Nothing(Some(at(60))));
        assert_eq!(agent.due(at(60)), Due::Over);
    }

    #[test]
    fn a_422_makes_the_next_refresh_ask_for_more() {
        let mut agent = Agent::default();
        let ours = Agent::judge(
            Policy::default(),
            invite("k: timer\r\nx: 90;refresher=uas\r\n").as_message(),
        )
        .unwrap();
        agent.agree(ours, at(0));
        let lines = |agent: &Agent| {
            agent
                .request_lines()
                .into_iter()
                .map(|(name, value)| format!("{name}: {value}"))
        };
        assert_eq!(lines(&agent).collect::<Vec<_>>(), ["Session-Expires: 90;refresher=uac"]);
        let refused = message("SIP/2.0 422 Session Interval Too Small", "Min-SE: 3600\r\n");
        assert!(agent.too_small(refused.as_message()));
        let expected = ["Session-Expires: 3600;refresher=uac", "Min-SE: 3600"];
        assert_eq!(lines(&agent).collect::<Vec<_>>(), expected);
        assert!(
            !agent.too_small(refused.as_message()),
            "the same again would be refused again"
        );
        assert!(!agent.too_small(message("SIP/2.0 422 No", "").as_message()));
        agent.refreshed(answered("x: 3600;refresher=uas\r\n").as_message(), at(40));
        assert_eq!(
            agent.due(at(41)),
            Due::Nothing(Some(at(40 + 3_568))),
            "now they refresh"
        );
        agent.refreshed(answered("").as_message(), at(50));
        assert_eq!(agent.due(at(9_999)), Due::Nothing(None));
    }
}
