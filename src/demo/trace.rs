//! What happened between whom, and when: all that the ladder draws and the verdict judges.

use super::sip;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A party of the demonstration, in the order of the ladder's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Carrier,
    Referee,
    Platform,
    Application,
}

impl Column {
    pub const ALL: [Column; 4] = [Column::Carrier, Column::Referee, Column::Platform, Column::Application];

    pub fn name(self) -> &'static str {
        match self {
            Column::Carrier => "carrier",
            Column::Referee => "referee",
            Column::Platform => "platform",
            Column::Application => "application",
        }
    }
}

/// One message, as the party other than referee sent or received it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Since the demonstration began.
    pub at: Duration,
    pub from: Column,
    pub to: Column,
    pub what: What,
    /// Sent again: nothing new.
    pub repeat: bool,
}

impl Event {
    /// The SIP message, if it is one.
    pub fn sip(&self) -> Option<&sip::Message> {
        match &self.what {
            What::Sip(message) => Some(message),
            What::Http(_) => None,
        }
    }

    /// The HTTP message, if it is one.
    pub fn http(&self) -> Option<&Http> {
        match &self.what {
            What::Http(http) => Some(http),
            What::Sip(_) => None,
        }
    }
}

/// What was sent.
#[derive(Clone, Debug)]
pub enum What {
    Sip(sip::Message),
    Http(Http),
}

/// An HTTP request or response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `POST /action`, `202 Accepted`.
    pub start: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Http {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The common record; clones write into the same one.
#[derive(Clone, Debug)]
pub struct Trace {
    started: Instant,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Trace {
    /// Begins now.
    pub fn start() -> Trace {
        Trace {
            started: Instant::now(),
            events: Arc::default(),
        }
    }

    /// Since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn add(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// All there is, in the order of time.
    pub fn events(&self) -> Vec<Event> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        events.sort_by_key(|event| event.at);
        events
    }
}
