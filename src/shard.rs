//! A stand-in with the contract of the real shard: answers requests itself or passes them to the first trunk address.

use crate::command::{Command, Refusal, Reply};
use crate::config::Config;
use crate::identifiers::{Secret, TransferId};
use crate::message::edit::{Response, ViaStamp, write_response};
use crate::message::{Index, Message, Method, ParseError};
use crate::timer::Instant;
use crate::transport::{BindId, ConnectionId, Flow};
use crate::webhook::{ActionOutcome, Hook};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What a driver feeds.
#[derive(Debug)]
pub enum Input<'a> {
    Received {
        flow: Flow,
        message: Message<'a>,
    },
    Malformed {
        flow: Flow,
        bytes: &'a [u8],
        index: &'a Index,
        error: ParseError,
    },
    SendFailed {
        ticket: Ticket,
    },
    Resolved {
        ticket: u64,
        addresses: Vec<IpAddr>,
        valid_for: Duration,
    },
    Command {
        ticket: u64,
        command: Command,
    },
    ActionOutcome {
        transfer: TransferId,
        outcome: ActionOutcome,
    },
    Recorded {
        ticket: u64,
    },
    Drain,
}

/// What a driver carries out.
#[derive(Debug)]
pub enum Output {
    Send {
        flow: Flow,
        bytes: OutRange,
        ticket: Option<Ticket>,
    },
    Resolve {
        ticket: u64,
        name: String,
    },
    Hook(Box<Hook>),
    Reply {
        ticket: u64,
        reply: Reply,
    },
    Close(ConnectionId),
}

pub type OutRange = Range<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

#[derive(Clone, Debug)]
pub struct Setup {
    pub config: Arc<Config>,
    pub shard: u16,
    pub shards: u16,
    pub secret: Secret,
    pub seed: [u8; 16],
    pub wall_clock_at_start: Duration,
    pub records: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    Counter,
    Gauge,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    messages_received: u64,
    send_failures: u64,
    malformed: u64,
}

impl Counters {
    pub fn each(&self, mut f: impl FnMut(&'static str, CounterKind, &'static str, u64)) {
        f(
            "messages_received_total",
            CounterKind::Counter,
            "Messages",
            self.messages_received,
        );
        f(
            "send_failures_total",
            CounterKind::Counter,
            "Failures",
            self.send_failures,
        );
        f("malformed_total", CounterKind::Counter, "Malformed", self.malformed);
    }
}

#[derive(Debug)]
pub struct Shard {
    setup: Setup,
    outputs: VecDeque<Output>,
    out: Vec<u8>,
    counters: Counters,
    ticket: u64,
}

impl Shard {
    pub fn new(setup: Setup) -> Shard {
        Shard {
            setup,
            outputs: VecDeque::new(),
            out: Vec::new(),
            counters: Counters::default(),
            ticket: 0,
        }
    }
    pub fn handle(&mut self, input: Input<'_>, _now: Instant) {
        match input {
            Input::Received { flow, message } => {
                self.counters.messages_received += 1;
                if !message.is_request() || message.method() == Some(Method::Ack) {
                    return;
                }
                let start = self.out.len();
                if let Some(trunk) = self.setup.config.trunks.first()
                    && message.method() == Some(Method::Invite)
                {
                    let address = &trunk.addresses[0];
                    let transport = address.transport.unwrap_or(flow.transport);
                    let bind = self
                        .setup
                        .config
                        .binds
                        .iter()
                        .position(|b| b.transport == transport)
                        .unwrap();
                    self.out.extend_from_slice(message.bytes());
                    self.ticket += 1;
                    self.outputs.push_back(Output::Send {
                        flow: Flow {
                            bind: BindId(bind as u8),
                            transport,
                            peer: (address.host.parse::<IpAddr>().unwrap(), address.port).into(),
                            connection: None,
                        },
                        bytes: start as u32..self.out.len() as u32,
                        ticket: Some(Ticket(self.ticket)),
                    });
                    return;
                }
                self.respond(flow, message, 200, "OK");
            }
            Input::Malformed { flow, bytes, index, .. } => {
                self.counters.malformed += 1;
                if index.answerable() {
                    self.respond(flow, Message::new(bytes, index), 400, "Bad Request");
                }
            }
            Input::SendFailed { .. } => self.counters.send_failures += 1,
            Input::Command { ticket, .. } => self.outputs.push_back(Output::Reply {
                ticket,
                reply: Reply::Refused(Refusal {
                    status: 404,
                    code: "not_found",
                    field: None,
                    detail: String::new(),
                }),
            }),
            Input::Resolved { .. } | Input::ActionOutcome { .. } | Input::Recorded { .. } | Input::Drain => {}
        }
    }
    fn respond(&mut self, flow: Flow, message: Message<'_>, code: u16, reason: &str) {
        let start = self.out.len();
        let stamp = message
            .top_via()
            .map(|via| ViaStamp::of(&via, flow.peer))
            .unwrap_or_default();
        let response = Response {
            code,
            reason,
            to_tag: Some(b"standin"),
            copy_record_route: false,
            extra: &[],
            content_type: None,
            body: b"",
        };
        write_response(message, stamp, &response, &mut self.out);
        self.outputs.push_back(Output::Send {
            flow,
            bytes: start as u32..self.out.len() as u32,
            ticket: None,
        });
    }
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
    pub fn out_bytes(&self, range: &OutRange) -> &[u8] {
        &self.out[range.start as usize..range.end as usize]
    }
    pub fn end_batch(&mut self) {
        self.out.clear();
    }
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }
    pub fn handle_timeout(&mut self, _now: Instant) {}
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
    pub fn is_idle(&self) -> bool {
        true
    }
}
