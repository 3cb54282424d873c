//! One shard at bare wires: raw bytes in, raw bytes out, nothing between that could mend or misread them.
//!
//! [`super::World`] has peers that speak SIP; this has none. It frames streams, parses, and hands over what does not parse as
//! the driver in `io` does.

use crate::command::{CallSelector, Command, Reply};
use crate::identifiers::{CallId, Secret};
use crate::message::framing::{Frame, Framer};
use crate::message::{Index, Message, parse};
use crate::shard::{Input, Output, Setup, Shard, Ticket};
use crate::timer::Instant;
use crate::transport::{BindId, ConnectionId, Flow, LocalId, Transport};
use crate::usage::Usage;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// One shard with its wires.
#[derive(Debug)]
pub struct Wire {
    shard: Shard,
    index: Box<Index>,
    now: Instant,
    streams: Vec<Stream>,
    /// What every name that is asked for resolves to.
    addresses: Vec<IpAddr>,
    sent: Vec<Sent>,
    replies: Vec<Reply>,
    config: Arc<crate::config::Config>,
}

/// A stream connection of a [`Wire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId(usize);

/// A message that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub at: Instant,
    pub flow: Flow,
    pub bytes: Vec<u8>,
    /// A failure may be reported with it, by [`Wire::fail`].
    pub ticket: Option<Ticket>,
}

#[derive(Debug)]
struct Stream {
    flow: Flow,
    framer: Framer,
    received: Vec<u8>,
    is_open: bool,
}

impl Wire {
    /// A shard with this configuration.
    pub fn new(config: &str) -> Wire {
        Wire::with_seed(9, config)
    }

    /// The same with other random numbers and another secret.
    pub fn with_seed(seed: u8, config: &str) -> Wire {
        let config = Arc::new(super::scene::config(config));
        let setup = Setup {
            config: config.clone(),
            shard: 0,
            shards: 1,
            secret: Secret([seed ^ 14; 16]),
            seed: [seed; 16],
            wall_clock_at_start: Duration::from_secs(1_750_000_000),
            records: false,
            usage: Arc::new(Usage::new(&config)),
            locals: Arc::default(),
        };
        Wire {
            shard: Shard::new(setup),
            index: Box::default(),
            now: Instant::START,
            streams: Vec::new(),
            addresses: Vec::new(),
            sent: Vec::new(),
            replies: Vec::new(),
            config,
        }
    }

    /// Lets every name have these addresses; before, none has one.
    pub fn resolve_all_to(&mut self, addresses: &[IpAddr]) {
        self.addresses = addresses.to_vec();
    }

    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// A datagram from one address to another, which is one of the shard's; what leaves for it.
    ///
    /// # Panics
    /// If `to` is no UDP address of the configuration.
    pub fn datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Vec<Sent> {
        let flow = Flow {
            bind: self.bind(Transport::Udp, to),
            transport: Transport::Udp,
            local: LocalId::ANY,
            peer: from,
            connection: None,
        };
        if crate::stun::is_stun(bytes) {
            self.shard.handle(Input::Stun { flow, datagram: bytes }, self.now);
            self.drain();
        } else {
            self.deliver(flow, bytes);
        }
        self.taken()
    }

    /// Opens a connection to one of the shard's addresses.
    ///
    /// # Panics
    /// If `to` is no TCP address of the configuration.
    pub fn connect(&mut self, from: SocketAddr, to: SocketAddr) -> StreamId {
        let connection = ConnectionId {
            worker: 0,
            slot: self.streams.len() as u32,
            generation: 0,
        };
        self.streams.push(Stream {
            flow: Flow {
                bind: self.bind(Transport::Tcp, to),
                transport: Transport::Tcp,
                local: LocalId::ANY,
                peer: from,
                connection: Some(connection),
            },
            framer: Framer::new(),
            received: Vec::new(),
            is_open: true,
        });
        StreamId(self.streams.len() - 1)
    }

    /// What one read of a connection yields; what leaves for it. A connection that was closed takes nothing more.
    pub fn segment(&mut self, stream: StreamId, bytes: &[u8]) -> Vec<Sent> {
        self.streams[stream.0].received.extend_from_slice(bytes);
        let number = stream.0;
        loop {
            let stream = &mut self.streams[number];
            if !stream.is_open {
                break;
            }
            let flow = stream.flow;
            match stream.framer.next(&stream.received) {
                Ok(Frame::Message(length)) => {
                    let message: Vec<u8> = stream.received.drain(..length).collect();
                    let is_message = self.deliver(flow, &message);
                    self.streams[number].is_open &= is_message;
                }
                Ok(Frame::Ping(length) | Frame::Skip(length)) => {
                    stream.received.drain(..length);
                }
                Ok(Frame::Incomplete) => break,
                Err(error) => {
                    stream.is_open = false;
                    let bytes = std::mem::take(&mut stream.received);
                    let mut index = std::mem::take(&mut self.index);
                    let error = error.read_front(&bytes, &mut index);
                    let input = Input::Malformed {
                        flow,
                        bytes: &bytes,
                        index: &index,
                        error,
                    };
                    self.shard.handle(input, self.now);
                    self.index = index;
                    self.drain();
                }
            }
        }
        self.taken()
    }

    /// Whether the shard's side keeps the connection.
    pub fn is_open(&self, stream: StreamId) -> bool {
        self.streams[stream.0].is_open
    }

    /// Lets time pass; what leaves meanwhile.
    pub fn wait(&mut self, time: Duration) -> Vec<Sent> {
        let until = self.now + time;
        while let Some(at) = self.shard.next_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.shard.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
        self.taken()
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A send did not happen; what leaves for it.
    pub fn fail(&mut self, ticket: Ticket) -> Vec<Sent> {
        self.shard.handle(Input::SendFailed { ticket }, self.now);
        self.drain();
        self.taken()
    }

    /// Runs verbs on a call, as the control API does; what leaves for it, and the reply.
    ///
    /// # Panics
    /// If the verbs are not valid.
    pub fn verbs(&mut self, call_id: &[u8], verbs: &Value) -> (Vec<Sent>, Option<Reply>) {
        let verbs = crate::verb::parse(verbs).unwrap_or_else(|errors| panic!("{errors:?}"));
        let command = Command::Verbs {
            call: CallSelector::SipCallId(call_id.to_vec()),
            verbs,
            dry_run: false,
        };
        self.shard.handle(Input::Command { ticket: 1, command }, self.now);
        self.drain();
        (self.taken(), self.replies.pop())
    }

    /// Ends a call; what leaves for it.
    pub fn hang_up(&mut self, call: CallId) -> Vec<Sent> {
        let command = Command::Hangup {
            call: CallSelector::Id(call),
        };
        self.shard.handle(Input::Command { ticket: 1, command }, self.now);
        self.drain();
        self.taken()
    }

    /// One message, or what is none: `false` then.
    fn deliver(&mut self, flow: Flow, bytes: &[u8]) -> bool {
        let mut index = std::mem::take(&mut self.index);
        let read = parse(bytes, &mut index);
        let input = match read {
            Ok(()) => Input::Received {
                flow,
                message: Message::new(bytes, &index),
                waited: Duration::ZERO,
            },
            Err(error) => Input::Malformed {
                flow,
                bytes,
                index: &index,
                error,
            },
        };
        self.shard.handle(input, self.now);
        self.index = index;
        self.drain();
        read.is_ok()
    }

    fn drain(&mut self) {
        while let Some(output) = self.shard.poll_output() {
            match output {
                Output::Send { flow, bytes, ticket } => {
                    let bytes = self.shard.out_bytes(&bytes).to_vec();
                    let at = self.now;
                    self.sent.push(Sent {
                        at,
                        flow,
                        bytes,
                        ticket,
                    });
                }
                Output::Resolve { ticket, .. } => {
                    let input = Input::Resolved {
                        ticket,
                        addresses: self.addresses.clone(),
                        valid_for: Duration::from_secs(60),
                    };
                    self.shard.handle(input, self.now);
                }
                Output::Reply { reply, .. } => self.replies.push(reply),
                Output::Close(connection) => self.streams[connection.slot as usize].is_open = false,
                // There is no other shard.
                Output::Record { .. }
                | Output::Hook(_)
                | Output::Tell { .. }
                | Output::Inquire { .. }
                | Output::Event(_) => {}
            }
        }
        self.shard.end_batch();
    }

    fn taken(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    fn bind(&self, transport: Transport, address: SocketAddr) -> BindId {
        let fits = |bind: &crate::config::Bind| bind.transport == transport && bind.address == address;
        let position = self.config.binds.iter().position(fits);
        BindId(position.unwrap_or_else(|| panic!("{address} is no {transport} socket")) as u8)
    }
}
