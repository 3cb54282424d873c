//! Into and out of shards, as a driver does it: bytes become inputs, outputs become bytes on their way.

use super::application::summary;
use super::check::Sent;
use super::peer::script::Streams;
use super::peer::text::Text;
use super::peer::{Packet, Path};
use super::streams::Link;
use super::tally::Fault;
use super::trouble::Down;
use super::{Event, PeerId, REFEREE, World};
use crate::command::Reply;
use crate::message::{Message, parse};
use crate::shard::{Input, Output, Shard, Ticket};
use crate::transport::{BindId, Flow, LocalId, Transport};
use crate::webhook::{ActionOutcome, Hook, HookKind, Subject};
use std::net::SocketAddr;
use std::time::Duration;

impl World {
    // ---- into shards ----

    /// The first datagram that waits is handled; the next has its turn when that is done.
    pub(super) fn on_turn(&mut self) {
        let Some(waiting) = self.backlog.first() else { return };
        let relayed = |world: &World| -> u64 {
            let counters = world.shards.iter().map(Shard::counters);
            counters
                .map(|c| c.relayed_requests_total + c.relayed_responses_total)
                .sum()
        };
        let before = relayed(self);
        let waited = self.now.since(waiting.arrived);
        self.on_datagram(waiting.from, waiting.to, &waiting.bytes, waited);
        let is_relayed = relayed(self) > before;
        let time = self.pace.map_or(
            Duration::ZERO,
            |pace| if is_relayed { pace.relayed } else { pace.other },
        );
        if let Some(at) = self.backlog.took(time, self.now) {
            self.plan(at, Event::Turn);
        }
    }

    pub(super) fn on_datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8], waited: Duration) {
        let Some(bind) = self.bind_at(Transport::Udp, to) else {
            return;
        };
        let flow = Flow {
            bind,
            transport: Transport::Udp,
            local: LocalId::ANY,
            peer: from,
            connection: None,
        };
        if crate::stun::is_stun(bytes) {
            self.feed(0, Input::Stun { flow, datagram: bytes });
        } else {
            self.deliver(flow, bytes, waited);
        }
    }

    pub(super) fn feed(&mut self, shard: usize, input: Input<'_>) {
        self.shards[shard].handle(input, self.now);
        self.drain_shard(shard);
    }

    /// Gives bytes that are one message to the shard that owns it, by the functions a driver uses. `false`: they were none.
    pub(super) fn deliver(&mut self, flow: Flow, bytes: &[u8], waited: Duration) -> bool {
        let from = self.name_of(flow);
        self.check.received(&from, flow, bytes, self.now);
        let mut index = std::mem::take(&mut self.index);
        let read = parse(bytes, &mut index);
        let message = Message::new(bytes, &index);
        let shards = self.shards.len() as u16;
        let shard = message
            .call_id()
            .map_or(0, |call_id| self.secret.owner(call_id, shards));
        match read {
            Ok(()) => self.feed(usize::from(shard), Input::Received { flow, message, waited }),
            Err(error) => {
                let input = Input::Malformed {
                    flow,
                    bytes,
                    index: &index,
                    error,
                };
                self.feed(usize::from(shard), input);
            }
        }
        self.check.taken();
        self.index = index;
        read.is_ok()
    }

    /// The peer behind a flow, or the address.
    fn name_of(&self, flow: Flow) -> String {
        match self.peer_at(flow) {
            Some(peer) => self.peers[peer.0].name.clone(),
            None => flow.peer.to_string(),
        }
    }

    // ---- out of shards ----

    pub(super) fn drain_shard(&mut self, number: usize) {
        while let Some(output) = self.shards[number].poll_output() {
            match output {
                Output::Send { flow, bytes, ticket } => {
                    let bytes = self.shards[number].out_bytes(&bytes).to_vec();
                    self.send(number, flow, bytes, ticket);
                }
                Output::Resolve { ticket, name } => {
                    self.pending[number].lookups += 1;
                    self.ladder.note(self.now, REFEREE, "resolver", &name, "");
                    let (at, addresses) = self.look_up(&name);
                    let event = Event::Resolved {
                        shard: number,
                        ticket,
                        addresses,
                    };
                    self.plan(at, event);
                }
                Output::Record { ticket } => {
                    self.pending[number].records += 1;
                    let at = self.store();
                    self.plan(at, Event::Recorded { shard: number, ticket });
                }
                Output::Hook(hook) => self.take_hook(*hook),
                Output::Reply { ticket, reply } => {
                    if matches!(&reply, Reply::Refused(refusal) if refusal.code == "too_many_transfers") {
                        self.tally.note(Fault::TransfersFull);
                    }
                    self.check.replied(ticket, &reply);
                    self.replies.insert(ticket, reply);
                }
                Output::Tell { to, news } => {
                    for shard in 0..self.shards.len() {
                        if shard != number && to.is_none_or(|to| usize::from(to) == shard) {
                            self.plan(self.now, Event::Told { shard, news });
                        }
                    }
                }
                Output::Inquire { .. } if self.inquiries_lost => {}
                Output::Inquire { to, inquiry } => {
                    let (shard, inquiry) = (usize::from(to), *inquiry);
                    self.plan(self.now, Event::Inquiry { shard, inquiry });
                }
                Output::Event(event) => self.heard.push(*event),
                Output::Close(connection) => {
                    if let Some(link) = self.links.get_mut(connection.slot as usize) {
                        link.is_open = false;
                    }
                }
            }
        }
        self.shards[number].end_batch();
        self.check.counters(number, &self.shards[number], &mut self.tally);
        // One that is large is looked through less often: what an audit costs per input stays the same.
        self.since_audit[number] += 1;
        let timers = self.shards[number].counters().timers;
        if self.since_audit[number] >= self.audit_every.max(timers / 16) {
            self.since_audit[number] = 0;
            self.check_places();
            for fault in self.shards[number].audit(&self.pending[number]) {
                let at = self.now.as_micros();
                self.check
                    .violation(format!("at {at} µs, audit of shard {number}: {fault}"));
            }
        }
    }

    fn send(&mut self, shard: usize, flow: Flow, bytes: Vec<u8>, ticket: Option<Ticket>) {
        let to = self.name_of(flow);
        let label = match Text::read(&bytes) {
            Ok(text) => {
                let open = self.shards[shard].counters().transactions;
                self.check.sent(&Sent {
                    to: &to,
                    flow,
                    text: &text,
                    bytes: bytes.len(),
                    now: self.now,
                    is_full: open >= self.config.limits.transactions_max as u64,
                });
                text.label()
            }
            Err(fault) => {
                self.check.violation(format!("referee sends a message that {fault}"));
                "?".into()
            }
        };
        self.check.is_valid(&bytes, &label);
        match flow.transport {
            Transport::Udp => {
                let Some(peer) = self.peer_at(flow) else {
                    self.ladder.message(self.now, REFEREE, &to, &label, &bytes, 0);
                    return;
                };
                let arrivals = self.network.datagram(self.now, REFEREE, &to, &label);
                self.ladder
                    .message(self.now, REFEREE, &to, &label, &bytes, arrivals.len());
                let path = Path {
                    transport: Transport::Udp,
                    far: self.config.bind(flow.bind).address,
                    link: None,
                };
                for delay in arrivals {
                    let event = Event::Arrives {
                        peer,
                        path,
                        bytes: bytes.clone(),
                        ticket: ticket.map(|ticket| (shard, ticket)),
                    };
                    self.plan(self.now + delay, event);
                }
            }
            Transport::Tcp => {
                let named = flow.connection.map(|connection| connection.slot as usize);
                let open = named.filter(|link| self.links[*link].is_open).or_else(|| {
                    let fits = |link: &Link| link.is_open && link.bind == flow.bind && link.far == flow.peer;
                    self.links.iter().position(fits)
                });
                let listener = self.peers.iter().position(|peer| peer.address == flow.peer);
                let link = match (open, listener) {
                    (Some(link), _) => link,
                    (None, Some(peer)) if self.down[peer].is_none() && self.takes_streams(peer) => {
                        self.open(PeerId(peer), flow.peer, flow.bind, shard as u16)
                    }
                    (None, listener) => {
                        self.ladder.message(self.now, REFEREE, &to, &label, &bytes, 0);
                        return self.no_connection(shard, listener, ticket);
                    }
                };
                self.ladder.message(self.now, REFEREE, &to, &label, &bytes, 1);
                let at = (self.now + self.network.latency(self.now)).max(self.links[link].outward_at);
                self.links[link].outward_at = at;
                if let Some(ticket) = ticket {
                    self.links[link].tickets.push((self.now, shard, ticket, bytes.clone()));
                }
                for bytes in self.cut(bytes) {
                    self.plan(at, Event::ArrivesOnStream { link, bytes });
                }
            }
        }
    }

    /// Nobody takes a connection: whoever sent a request is told, at once or after the time in which a host is given up.
    fn no_connection(&mut self, shard: usize, listener: Option<usize>, ticket: Option<Ticket>) {
        if listener.is_some() {
            self.tally.note(Fault::NoConnection);
        }
        let Some(ticket) = ticket else { return };
        let down = listener.and_then(|peer| self.down[peer]);
        let streams = listener.map(|peer| self.peers[peer].manners.streams);
        let (wait, event) = match (down, streams) {
            (Some(Down::Silent), _) | (None, Some(Streams::Ignored)) => (3_000, Event::SendFailed { shard, ticket }),
            (Some(Down::Refusing), _) | (None, Some(Streams::Refused)) => {
                (1, Event::ConnectionRefused { shard, ticket })
            }
            (None, Some(Streams::Taken) | None) => (1, Event::SendFailed { shard, ticket }),
        };
        self.plan(self.now + Duration::from_millis(wait), event);
    }

    fn takes_streams(&self, peer: usize) -> bool {
        self.peers[peer].manners.streams == Streams::Taken
    }

    pub(super) fn peer_at(&self, flow: Flow) -> Option<PeerId> {
        let of_link = flow
            .connection
            .and_then(|connection| self.links.get(connection.slot as usize));
        if let Some(link) = of_link {
            return Some(link.peer);
        }
        let of_far = |link: &&Link| link.far == flow.peer;
        let by_link = self.links.iter().find(of_far).map(|link| link.peer);
        let by_address = self.peers.iter().position(|peer| peer.address == flow.peer).map(PeerId);
        by_address.or(by_link.filter(|_| flow.transport == Transport::Tcp))
    }

    pub(super) fn bind_at(&self, transport: Transport, address: SocketAddr) -> Option<BindId> {
        let fits = |bind: &crate::config::Bind| bind.transport == transport && bind.address == address;
        self.config.binds.iter().position(fits).map(|i| BindId(i as u8))
    }

    // ---- hooks ----

    fn take_hook(&mut self, hook: Hook) {
        self.check.hook(&hook);
        let (subject, kind) = (hook.subject, hook.kind);
        if kind != HookKind::Event {
            self.pending[usize::from(subject.shard())].outcomes.push(subject);
        }
        if let Some(lanes) = &mut self.lanes {
            lanes.submit(hook, self.now);
            return self.post_hooks();
        }
        let outcome = self.application.take(&hook, self.now);
        self.note_post(kind);
        if let Some((after, outcome)) = outcome {
            self.plan(self.now + after, Event::Outcome { subject, outcome });
        }
    }

    fn note_post(&mut self, kind: HookKind) {
        let said = self.application.posted().last().map(|posted| summary(&posted.body));
        let word = match kind {
            HookKind::Event => "event",
            HookKind::Action => "action",
            HookKind::Question => "question",
        };
        let label = format!("POST {word} {}", said.unwrap_or_default());
        self.ladder.note(self.now, REFEREE, "application", label.trim_end(), "");
    }

    /// Lets the lanes post what is due, and passes on what they report.
    pub(super) fn post_hooks(&mut self) {
        let Some(mut lanes) = self.lanes.take() else { return };
        lanes.handle_timeout(self.now);
        while let Some(job) = lanes.poll_job(self.now) {
            let (after, outcome) = self.application.attempt(&job, self.now, &mut self.tally);
            self.note_post(job.kind());
            self.plan(self.now + after, Event::Posted { job: job.id, outcome });
        }
        let mut reports = Vec::new();
        while let Some(report) = lanes.poll_report() {
            reports.push(report);
        }
        let counters = lanes.counters();
        if counters.events_dropped + counters.actions_dropped > self.tally.count(Fault::HooksFull) {
            self.tally.note(Fault::HooksFull);
        }
        self.check.lanes(&counters);
        self.lanes = Some(lanes);
        for report in reports {
            self.on_outcome(report.subject, report.outcome);
        }
    }

    pub(super) fn on_outcome(&mut self, subject: Subject, outcome: ActionOutcome) {
        let shard = usize::from(subject.shard());
        let owed = self.pending[shard].outcomes.iter().position(|owed| *owed == subject);
        match owed {
            Some(place) => drop(self.pending[shard].outcomes.remove(place)),
            None => self.check.violation(format!("{subject} has two outcomes")),
        }
        self.feed(shard, Input::ActionOutcome { subject, outcome });
    }

    // ---- peers ----

    pub(super) fn drain_peer(&mut self, id: PeerId) {
        while let Some(Packet { path, bytes }) = self.peers[id.0].poll() {
            if self.down[id.0].is_some() {
                continue;
            }
            let name = self.peers[id.0].name.clone();
            let label = Text::read_any_length(&bytes).map_or_else(|_| first_word(&bytes), |text| text.label());
            match path.transport {
                Transport::Udp => {
                    let arrivals = self.network.datagram(self.now, &name, REFEREE, &label);
                    self.ladder
                        .message(self.now, &name, REFEREE, &label, &bytes, arrivals.len());
                    self.overhear(id, path.far, &bytes);
                    for delay in arrivals {
                        let event = Event::Datagram {
                            from: self.peers[id.0].address,
                            to: path.far,
                            bytes: bytes.clone(),
                        };
                        self.plan(self.now + delay, event);
                    }
                }
                Transport::Tcp => {
                    self.ladder.message(self.now, &name, REFEREE, &label, &bytes, 1);
                    self.stream_in(id, path, bytes);
                }
            }
        }
    }
}

fn first_word(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.split_whitespace().next().unwrap_or_default().to_owned()
}
