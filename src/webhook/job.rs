//! One attempt: what is sent, and what its outcome means.

use super::{Hook, HookKind, HookSettings, Subject, signature};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use std::time::Duration;

/// What must be posted now.
#[derive(Clone, Debug)]
pub struct Job {
    /// Hand it back to [`Lanes::finished`](super::Lanes::finished), exactly once.
    pub id: JobId,
    /// 1 for the first.
    pub attempt: u32,
    pub(super) endpoint: usize,
    pub(super) hook: Arc<Hook>,
}

/// Names an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JobId {
    pub(super) slot: usize,
    pub(super) number: u64,
}

impl Job {
    /// What it is about.
    pub fn subject(&self) -> Subject {
        self.hook.subject
    }

    /// What it tells.
    pub fn kind(&self) -> HookKind {
        self.hook.kind
    }

    /// A number that jobs to the same scheme, host and port share: a hint for the reuse of connections. It may come to
    /// mean another endpoint once nothing goes to this one any more.
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// Absolute, http or https.
    pub fn url(&self) -> &str {
        &self.hook.url
    }

    /// How it is sent.
    pub fn settings(&self) -> &HookSettings {
        &self.hook.settings
    }

    /// The JSON object to send, the same bytes in every attempt.
    pub fn body(&self) -> &str {
        &self.hook.body
    }

    /// Whether a JSON array in the answer is wanted: only the first attempt of an action or a question decides anything.
    pub fn wants_reply(&self) -> bool {
        self.hook.kind != HookKind::Event && self.attempt == 1
    }

    /// All headers but those of HTTP itself. `unix_seconds`: now, since each attempt is signed with its own time.
    pub fn headers(&self, unix_seconds: u64) -> Vec<(&'static str, String)> {
        let hook = &self.hook;
        let mut headers = vec![
            ("content-type", "application/json".to_owned()),
            ("webhook-id", hook.webhook_id.clone()),
            ("webhook-timestamp", unix_seconds.to_string()),
        ];
        if let Some(secret) = &hook.settings.secret {
            let value = signature::standard(secret, &hook.webhook_id, unix_seconds, &hook.body);
            headers.push(("webhook-signature", value));
        }
        if let Some(secret) = &hook.settings.jambonz_secret {
            headers.push((
                "jambonz-signature",
                signature::jambonz(secret, unix_seconds, &hook.body),
            ));
        }
        if let Some((user, password)) = &hook.basic_auth {
            // RFC 7617 §2.
            let credentials = STANDARD.encode(format!("{user}:{password}"));
            headers.push(("authorization", format!("Basic {credentials}")));
        }
        headers
    }
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Answered {
        status: u16,
        /// `Retry-After`, if it was there in seconds.
        retry_after: Option<Duration>,
        /// The body, if it was a JSON array and [`Job::wants_reply`].
        reply: Option<serde_json::Value>,
    },
    Failed(Failure),
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: no such name, refused, unreachable, or not within its time.
    Connect,
    /// Connected, but no whole answer in time.
    Timeout,
    /// The connection broke, TLS failed, or what came is not HTTP.
    Broken,
    /// The request cannot be made at all; another attempt would end the same.
    Unsendable,
}

/// What an outcome means for its hook.
pub(super) enum Verdict {
    Delivered(Option<serde_json::Value>),
    Unanswered,
    GivenUp,
    Again { not_before: Option<Duration> },
}

impl Outcome {
    /// Whether it says that the endpoint can serve, even if it refused this request.
    pub(super) fn says_alive(&self) -> bool {
        match self {
            Outcome::Answered { status, .. } => *status < 500 && !matches!(status, 408 | 429),
            Outcome::Failed(Failure::Unsendable) => true,
            Outcome::Failed(Failure::Connect | Failure::Timeout | Failure::Broken) => false,
        }
    }

    pub(super) fn verdict(self, default_word: bool) -> Verdict {
        match self {
            Outcome::Answered { status: 404 | 405, .. } | Outcome::Failed(Failure::Connect) if default_word => {
                Verdict::Unanswered
            }
            Outcome::Answered {
                status: 200..=299,
                reply,
                ..
            } => Verdict::Delivered(reply),
            Outcome::Answered {
                status: 408 | 429 | 500..,
                retry_after,
                ..
            } => Verdict::Again {
                not_before: retry_after,
            },
            // Redirects are not followed: a hook goes where it was configured to go, and nowhere a reply points to.
            Outcome::Answered { .. } => Verdict::GivenUp,
            Outcome::Failed(Failure::Connect | Failure::Timeout | Failure::Broken) => {
                Verdict::Again { not_before: None }
            }
            Outcome::Failed(Failure::Unsendable) => Verdict::GivenUp,
        }
    }
}
