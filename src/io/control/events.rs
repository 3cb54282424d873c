//! Events on their way from shards to those who listen: a bounded queue, numbers, and what is kept for who is behind.
//!
//! ```text
//!  shards ──► queue ──► take ──► kept, oldest first ──► a stream per listener, each with the number it reads next
//! ```
//!
//! There is no queue per listener: one that is further behind than what is kept is cut off, and may come back with the last
//! number it has seen. Whoever has missed something is told so by an event `gap`.

use crate::config;
use crate::event::{self, Event, LISTENED_FOR};
use crate::io::counters::describe;
use crate::shard::CounterKind;
use axum::body::Bytes;
use slab::Slab;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// The shards' end of the queue. Clones are the same.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<Box<Event>>,
    lost: Arc<AtomicU64>,
}

/// The control API's end of the queue; see [`Control::start`](super::Control::start).
#[derive(Debug)]
pub struct Heard {
    queue: mpsc::Receiver<Box<Event>>,
    lost: Arc<AtomicU64>,
}

/// A queue for events.
pub fn events(config: &config::Control) -> (Events, Heard) {
    let (sender, receiver) = mpsc::channel(config.events_queue_max);
    let lost = Arc::new(AtomicU64::new(0));
    let events = Events {
        queue: sender,
        lost: Arc::clone(&lost),
    };
    (events, Heard { queue: receiver, lost })
}

impl Events {
    /// Gives an event to those who listen, without waiting. Returns `false` if there was no room: it is lost then.
    pub fn tell(&self, event: Box<Event>) -> bool {
        match self.queue.try_send(event) {
            // Without a control API nobody misses it.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}

/// Takes events from the queue until no shard can send any more.
pub(super) async fn take(hub: Arc<Hub>, mut heard: Heard) {
    let mut lost = 0;
    while let Some(event) = heard.queue.recv().await {
        let mut state = hub.state();
        // What was lost came after what waited in the queue, and before what comes now or some events earlier.
        let lost_now = heard.lost.load(Ordering::Relaxed);
        if std::mem::replace(&mut lost, lost_now) != lost_now {
            state.push(
                "gap",
                None,
                None,
                &gap_json("Events came faster than they could be taken."),
            );
        }
        let json = serde_json::to_string(&event).unwrap_or_default();
        state.push(event.what.name(), event.what.call(), event.what.transfer(), &json);
    }
}

/// What is kept, and who reads it.
#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    streams_max: usize,
}

#[derive(Debug)]
struct State {
    /// Numbers begin anew with each start of the process.
    start: u64,
    kept: VecDeque<Kept>,
    /// The number of the first that is kept.
    first: u64,
    /// `bytes` is the sum of what the kept ones take.
    bytes: usize,
    bytes_max: usize,
    streams: Slab<Stream>,
    /// Who has seen the event of this number or a later one has missed no event of a call since.
    calls_from: u64,
    /// Until when shards make events of calls.
    listening_until: Option<Instant>,
    closed: bool,
    told: u64,
    cut_off: u64,
    refused: u64,
}

#[derive(Debug)]
struct Kept {
    name: &'static str,
    call: Option<(String, String)>,
    transfer: Option<String>,
    text: Bytes,
}

/// A listener's place.
#[derive(Debug)]
struct Stream {
    next: u64,
    wants_calls: bool,
    cut_off: bool,
    waker: Option<Waker>,
}

/// What a listener wants to hear; `None`: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// The id of a call or its SIP Call-ID.
    pub call: Option<String>,
    pub transfer: Option<String>,
    pub names: Option<Vec<String>>,
}

/// The last event that a listener has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastSeen {
    start: u64,
    number: u64,
}

/// A listener that has been let in.
#[derive(Debug)]
pub(super) struct Opened {
    pub key: usize,
    /// It has missed events.
    pub gap: Option<String>,
}

/// What there is for a listener.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Text(Bytes),
    /// The waker will be woken.
    Nothing,
    End,
}

impl Filter {
    fn wants(&self, kept: &Kept) -> bool {
        let is_wanted = |wanted: &Option<String>, of: Option<&str>| wanted.as_deref().is_none_or(|it| of == Some(it));
        let call = kept.call.as_ref().map(|(id, _)| id.as_str());
        let call_id = kept.call.as_ref().map(|(_, call_id)| call_id.as_str());
        let names = self.names.as_ref();
        kept.name == "gap"
            || (is_wanted(&self.call, call) || is_wanted(&self.call, call_id))
                && is_wanted(&self.transfer, kept.transfer.as_deref())
                && names.is_none_or(|names| names.iter().any(|name| name == kept.name))
    }

    /// Whether events of calls are among it.
    pub fn wants_calls(&self) -> bool {
        let is_named = |names: &Vec<String>| names.iter().any(|name| name == event::NAMES[0]);
        self.transfer.is_none() && self.names.as_ref().is_none_or(is_named)
    }
}

impl LastSeen {
    /// What is none of ours names an event that is no longer there.
    pub fn of(text: &[u8]) -> LastSeen {
        let parts = std::str::from_utf8(text).ok().and_then(|text| text.split_once('-'));
        let read = parts.and_then(|(start, number)| {
            Some(LastSeen {
                start: u64::from_str_radix(start, 16).ok()?,
                number: number.parse().ok()?,
            })
        });
        read.unwrap_or(LastSeen { start: 0, number: 0 })
    }
}

impl Hub {
    pub fn new(config: &config::Control) -> Hub {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Hub {
            streams_max: config.event_streams_max,
            state: Mutex::new(State {
                start: since_epoch.as_millis() as u64,
                kept: VecDeque::new(),
                first: 1,
                bytes: 0,
                bytes_max: config.events_bytes_max,
                streams: Slab::new(),
                calls_from: 1,
                listening_until: None,
                closed: false,
                told: 0,
                cut_off: 0,
                refused: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shards have been asked at `asked`, and all of them make events of calls now.
    pub fn listens_to_calls(&self, asked: Instant) {
        let mut state = self.state();
        let was_listening = state.listening_until.is_some_and(|until| Instant::now() < until);
        if !was_listening {
            state.calls_from = state.end();
        }
        state.listening_until = Some(asked + LISTENED_FOR);
    }

    /// Whether any listener wants events of calls.
    pub fn wants_calls(&self) -> bool {
        self.state().streams.iter().any(|(_, stream)| stream.wants_calls)
    }

    /// Lets a listener in, who reads on after what it has seen last, or else what comes from now on. `None`: there are as
    /// many as may be.
    pub fn open(&self, filter: &Filter, last: Option<LastSeen>) -> Option<Opened> {
        let mut state = self.state();
        if state.streams.len() >= self.streams_max || state.closed {
            state.refused += 1;
            return None;
        }
        let end = state.end();
        let (next, missed) = match last {
            None => (end, false),
            Some(last) if last.start != state.start || last.number >= end => (state.first, true),
            Some(last) => {
                let next = last.number + 1;
                let missed = next < state.first || filter.wants_calls() && last.number < state.calls_from;
                (next.max(state.first), missed)
            }
        };
        let key = state.streams.insert(Stream {
            next,
            wants_calls: filter.wants_calls(),
            cut_off: false,
            waker: None,
        });
        let gap = missed.then(|| {
            let json = gap_json("Events since the last one that was seen are no longer there.");
            format!("event: gap\ndata: {json}\n\n")
        });
        Some(Opened { key, gap })
    }

    /// The next events for a listener, some at a time.
    pub fn take(&self, key: usize, filter: &Filter, waker: &Waker) -> Taken {
        let mut state = self.state();
        let state = &mut *state;
        let stream = &mut state.streams[key];
        if stream.cut_off || state.closed {
            return Taken::End;
        }
        let mut text = Vec::new();
        while text.len() < CHUNK_BYTES
            && let Some(kept) = state.kept.get((stream.next - state.first) as usize)
        {
            stream.next += 1;
            if filter.wants(kept) {
                text.extend_from_slice(&kept.text);
            }
        }
        if !text.is_empty() {
            return Taken::Text(text.into());
        }
        stream.waker = Some(waker.clone());
        Taken::Nothing
    }

    pub fn leave(&self, key: usize) {
        self.state().streams.remove(key);
    }

    /// Sends every listener away; no more are let in.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.wake();
    }

    /// What was counted, in Prometheus' exposition format.
    pub fn metrics_text(&self) -> String {
        use CounterKind::{Counter, Gauge};
        let state = self.state();
        let mut text = String::new();
        for (name, kind, help, value) in [
            ("stream_events_total", Counter, "Events for listeners", state.told),
            (
                "event_streams_cut_off_total",
                Counter,
                "Listeners cut off because they were further behind than events_bytes_max",
                state.cut_off,
            ),
            (
                "event_streams_refused_total",
                Counter,
                "Listeners refused because there were event_streams_max",
                state.refused,
            ),
            ("event_streams", Gauge, "Listeners", state.streams.len() as u64),
        ] {
            describe(&mut text, name, kind, help);
            // Writing to a String does not fail.
            let _ = writeln!(text, "referee_{name} {value}");
        }
        text
    }
}

impl State {
    /// The number of the next event.
    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn push(&mut self, name: &'static str, call: Option<(&str, &str)>, transfer: Option<&str>, json: &str) {
        let text = format!("id: {:x}-{}\nevent: {name}\ndata: {json}\n\n", self.start, self.end());
        let kept = Kept {
            name,
            call: call.map(|(id, call_id)| (id.to_owned(), call_id.to_owned())),
            transfer: transfer.map(str::to_owned),
            text: text.into(),
        };
        self.told += 1;
        self.bytes += kept.bytes();
        self.kept.push_back(kept);
        // The newest stays, whatever its size.
        while self.bytes > self.bytes_max
            && self.kept.len() > 1
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.bytes();
            for (_, stream) in &mut self.streams {
                if stream.next == self.first && !stream.cut_off {
                    stream.cut_off = true;
                    self.cut_off += 1;
                }
            }
            self.first += 1;
        }
        self.wake();
    }

    fn wake(&mut self) {
        for (_, stream) in &mut self.streams {
            if let Some(waker) = stream.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        let call = self.call.as_ref().map_or(0, |(id, call_id)| id.len() + call_id.len());
        size_of::<Kept>() + self.text.len() + call + self.transfer.as_ref().map_or(0, String::len)
    }
}

fn gap_json(detail: &str) -> String {
    serde_json::json!({ "type": "gap", "detail": detail }).to_string()
}

/// Written to a listener at once. What it asks for next may be behind what is kept only if it is slow.
const CHUNK_BYTES: usize = 64 * 1024;
