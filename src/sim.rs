//! The same core in virtual time, over a network made from one seed.
//!
//! [`World`] drives shards by their contract alone, as `io` does: it parses, asks who owns a message, feeds inputs, carries
//! out outputs, and calls at the next deadline. Around them are scripted [`peer`]s, an [`application`] and names to look up.
//! A run is a function of its seed: what fails replays.

pub mod application;
pub mod check;
pub mod ladder;
pub mod network;
pub mod peer;
pub mod scene;
pub mod wire;

use crate::command::{CallSelector, Command, Reply};
use crate::config::Config;
use crate::identifiers::{Random, Secret};
use crate::message::framing::{Frame, Framer};
use crate::message::{Index, Message, parse};
use crate::shard::{Input, Output, Setup, Shard, Ticket};
use crate::timer::Instant;
use crate::transport::{BindId, ConnectionId, Flow, Transport};
use crate::usage::Usage;
use application::Application;
use check::Check;
use ladder::Ladder;
use network::Network;
use peer::script::{Act, Streams};
use peer::text::Text;
use peer::{Packet, Path, Peer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How ladders name the proxy.
pub const REFEREE: &str = "referee";

/// A peer of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerId(usize);

/// Shards, peers, network, application and time.
#[derive(Debug)]
pub struct World {
    seed: u64,
    now: Instant,
    config: Arc<Config>,
    secret: Secret,
    shards: Vec<Shard>,
    usage: Arc<Usage>,
    peers: Vec<Peer>,
    pub network: Network,
    pub application: Application,
    random: Random,
    names: BTreeMap<String, Vec<IpAddr>>,
    links: Vec<Link>,
    events: BTreeMap<(Instant, u64), Event>,
    order: u64,
    /// How long the store takes; `None`: there is none.
    store: Option<Duration>,
    replies: BTreeMap<u64, Reply>,
    tickets: u64,
    index: Box<Index>,
    ladder: Ladder,
    check: Check,
}

/// A stream connection between a peer and referee.
#[derive(Debug)]
struct Link {
    peer: PeerId,
    /// The peer's end.
    far: SocketAddr,
    bind: BindId,
    owner: u16,
    is_open: bool,
    framer: Framer,
    /// Bytes on their way in that are no whole message yet, in each direction.
    inward: Vec<u8>,
    outward: Vec<u8>,
    /// When the last bytes of each direction arrive: later ones do not come before.
    inward_at: Instant,
    outward_at: Instant,
}

impl Link {
    /// Where what comes in by it comes from; `number` is its own.
    fn flow(&self, number: usize) -> Flow {
        Flow {
            bind: self.bind,
            transport: Transport::Tcp,
            peer: self.far,
            connection: Some(connection(number, self.owner)),
        }
    }
}

#[derive(Debug)]
enum Event {
    /// To referee.
    Datagram {
        peer: PeerId,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Stream {
        link: usize,
        bytes: Vec<u8>,
    },
    /// To a peer.
    Arrives {
        peer: PeerId,
        path: Path,
        bytes: Vec<u8>,
    },
    ArrivesOnStream {
        link: usize,
        bytes: Vec<u8>,
    },
    SendFailed {
        shard: usize,
        ticket: Ticket,
    },
    ConnectionRefused {
        shard: usize,
        ticket: Ticket,
    },
    Resolved {
        shard: usize,
        ticket: u64,
        addresses: Vec<IpAddr>,
    },
    Outcome {
        shard: usize,
        transfer: crate::identifiers::TransferId,
        outcome: crate::webhook::ActionOutcome,
    },
    Recorded {
        shard: usize,
        ticket: u64,
    },
    Told {
        shard: usize,
        news: crate::health::News,
    },
}

impl World {
    /// A world without peers. All that is random in it comes from the seed.
    pub fn new(seed: u64, shards: u16, config: Config, store: Option<Duration>) -> World {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&seed.to_be_bytes());
        let mut random = Random::new(raw);
        let mut bytes = || {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&random.next_u64().to_be_bytes());
            bytes[8..].copy_from_slice(&random.next_u64().to_be_bytes());
            bytes
        };
        let secret = Secret(bytes());
        let config = Arc::new(config);
        let usage = Arc::new(Usage::new(&config));
        let setup = |shard, seed| Setup {
            config: config.clone(),
            shard,
            shards,
            secret,
            seed,
            wall_clock_at_start: Duration::from_secs(1_750_000_000),
            records: store.is_some(),
            usage: usage.clone(),
        };
        let made = (0..shards).map(|shard| Shard::new(setup(shard, bytes()))).collect();
        let network = Network::new(Random::new(bytes()));
        World {
            seed,
            now: Instant::START,
            secret,
            shards: made,
            usage,
            peers: Vec::new(),
            network,
            application: Application::default(),
            random: Random::new(bytes()),
            names: BTreeMap::new(),
            links: Vec::new(),
            events: BTreeMap::new(),
            order: 0,
            store,
            replies: BTreeMap::new(),
            tickets: 0,
            index: Box::default(),
            ladder: Ladder::default(),
            check: Check::default(),
            config,
        }
    }

    pub fn add(&mut self, peer: Peer) -> PeerId {
        self.peers.push(peer);
        PeerId(self.peers.len() - 1)
    }

    /// Lets a name have addresses; any other has none.
    pub fn name(&mut self, name: &str, addresses: &[IpAddr]) {
        self.names.insert(name.into(), addresses.to_vec());
    }

    // ---- acting ----

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn peer(&self, id: PeerId) -> &Peer {
        &self.peers[id.0]
    }

    pub fn peer_mut(&mut self, id: PeerId) -> &mut Peer {
        &mut self.peers[id.0]
    }

    /// What keys the tokens and digests of the shards.
    pub fn secret(&self) -> Secret {
        self.secret
    }

    /// The numbers of all that is random outside the shards and the network.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Lets a peer call a URI; gives back the Call-ID.
    pub fn call(&mut self, id: PeerId, uri: &str, headers: &[(&str, &str)]) -> String {
        let call_id = self.peers[id.0].call(uri, headers, self.now);
        self.drain_peer(id);
        call_id
    }

    /// Lets a peer do one thing now.
    pub fn act(&mut self, id: PeerId, call_id: &str, act: Act) {
        self.peers[id.0].act(call_id, act, self.now);
        self.drain_peer(id);
    }

    /// Lets a peer put bytes on the wire as they are.
    pub fn say(&mut self, id: PeerId, bytes: &str) {
        self.peers[id.0].say(bytes.as_bytes());
        self.drain_peer(id);
    }

    /// Gives a command to the shard it is for.
    pub fn command(&mut self, command: Command) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        let shard = match &command {
            Command::Verbs { call, .. } | Command::Call { call } | Command::Hangup { call } => match call {
                CallSelector::Id(id) => id.shard,
                CallSelector::SipCallId(call_id) => self.secret.owner(call_id, self.shards.len() as u16),
            },
            Command::Transfer { id } => id.shard,
            Command::Calls { .. } | Command::Transfers { .. } | Command::Trunks => 0,
        };
        self.feed(usize::from(shard), Input::Command { ticket, command });
        ticket
    }

    /// The reply to a command, once it is there.
    pub fn reply(&self, ticket: u64) -> Option<&Reply> {
        self.replies.get(&ticket)
    }

    /// Runs verbs on a call, as the control API does; gives back the ticket of the reply.
    ///
    /// # Errors
    /// The verbs are not valid: what is wrong with them.
    pub fn verbs(&mut self, call_id: &str, verbs: &Value) -> Result<u64, String> {
        let verbs = crate::verb::parse(verbs).map_err(|errors| format!("{errors:?}"))?;
        let call = CallSelector::SipCallId(call_id.as_bytes().to_vec());
        Ok(self.command(Command::Verbs {
            call,
            verbs,
            dry_run: false,
        }))
    }

    /// Begins to drain all shards.
    pub fn drain(&mut self) {
        for shard in 0..self.shards.len() {
            self.feed(shard, Input::Drain);
        }
    }

    /// Closes every connection of a peer.
    pub fn close_connections(&mut self, id: PeerId) {
        for link in self.links.iter_mut().filter(|link| link.peer == id) {
            link.is_open = false;
        }
    }

    // ---- time ----

    /// Lets so much time pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Lets time pass until then.
    pub fn run_until(&mut self, until: Instant) {
        while let Some(at) = self.next_step().filter(|at| *at <= until) {
            self.step(at);
        }
        self.now = self.now.max(until);
    }

    /// Lets time pass until nothing is left to happen; `false` if something still is after `limit`.
    pub fn run_until_quiet(&mut self, limit: Duration) -> bool {
        let until = self.now + limit;
        while let Some(at) = self.next_step() {
            if at > until {
                return false;
            }
            self.step(at);
        }
        true
    }

    fn next_step(&self) -> Option<Instant> {
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let shards = self.shards.iter().filter_map(Shard::next_timeout);
        let peers = self.peers.iter().filter_map(Peer::next_timeout);
        event.into_iter().chain(shards).chain(peers).min()
    }

    /// Does all that is due at the next instant: what arrives, then shards, then peers.
    fn step(&mut self, at: Instant) {
        self.now = self.now.max(at);
        let now = self.now;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= now) {
            let event = entry.remove();
            self.happen(event);
        }
        for shard in 0..self.shards.len() {
            if self.shards[shard].next_timeout().is_some_and(|at| at <= now) {
                self.shards[shard].handle_timeout(now);
                self.drain_shard(shard);
            }
        }
        for peer in 0..self.peers.len() {
            if self.peers[peer].next_timeout().is_some_and(|at| at <= now) {
                self.peers[peer].handle_timeout(now);
                self.drain_peer(PeerId(peer));
            }
        }
    }

    fn plan(&mut self, at: Instant, event: Event) {
        self.order += 1;
        self.events.insert((at, self.order), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Datagram { peer, to, bytes } => {
                let bind = self.bind_at(Transport::Udp, to);
                if let Some(bind) = bind {
                    let flow = Flow {
                        bind,
                        transport: Transport::Udp,
                        peer: self.peers[peer.0].address,
                        connection: None,
                    };
                    self.deliver(flow, peer, &bytes);
                }
            }
            Event::Stream { link, bytes } => self.on_stream(link, &bytes),
            Event::Arrives { peer, path, bytes } => {
                self.peers[peer.0].receive(&bytes, path, self.now);
                self.drain_peer(peer);
            }
            Event::ArrivesOnStream { link, bytes } => self.on_stream_outward(link, &bytes),
            Event::SendFailed { shard, ticket } => self.feed(shard, Input::SendFailed { ticket }),
            Event::ConnectionRefused { shard, ticket } => self.feed(shard, Input::ConnectionRefused { ticket }),
            Event::Resolved {
                shard,
                ticket,
                addresses,
            } => {
                let valid_for = Duration::from_secs(60);
                self.feed(
                    shard,
                    Input::Resolved {
                        ticket,
                        addresses,
                        valid_for,
                    },
                );
            }
            Event::Outcome {
                shard,
                transfer,
                outcome,
            } => self.feed(shard, Input::ActionOutcome { transfer, outcome }),
            Event::Recorded { shard, ticket } => self.feed(shard, Input::Recorded { ticket }),
            Event::Told { shard, news } => self.feed(shard, Input::Told { news }),
        }
    }

    // ---- into shards ----

    fn feed(&mut self, shard: usize, input: Input<'_>) {
        self.shards[shard].handle(input, self.now);
        self.drain_shard(shard);
    }

    /// Gives bytes that are one message to the shard that owns it, by the functions a driver uses. `false`: they were none.
    fn deliver(&mut self, flow: Flow, peer: PeerId, bytes: &[u8]) -> bool {
        if let Ok(text) = Text::read_any_length(bytes)
            && text.is_request()
        {
            self.check.request(&self.peers[peer.0].name, &text);
        }
        self.check.received(bytes);
        let mut index = std::mem::take(&mut self.index);
        let read = parse(bytes, &mut index);
        let message = Message::new(bytes, &index);
        let shards = self.shards.len() as u16;
        let shard = message
            .call_id()
            .map_or(0, |call_id| self.secret.owner(call_id, shards));
        match read {
            Ok(()) => self.feed(usize::from(shard), Input::Received { flow, message }),
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
        self.index = index;
        read.is_ok()
    }

    fn on_stream(&mut self, number: usize, bytes: &[u8]) {
        self.links[number].inward.extend_from_slice(bytes);
        loop {
            let link = &mut self.links[number];
            if !link.is_open {
                return;
            }
            match link.framer.next(&link.inward) {
                Ok(Frame::Message(length)) => {
                    let message: Vec<u8> = link.inward.drain(..length).collect();
                    let (flow, peer) = (link.flow(number), link.peer);
                    if !self.deliver(flow, peer, &message) {
                        self.links[number].is_open = false;
                    }
                }
                Ok(Frame::Ping(length) | Frame::Skip(length)) => {
                    link.inward.drain(..length);
                }
                Ok(Frame::Incomplete) => return,
                Err(error) => {
                    let flow = link.flow(number);
                    let bytes = std::mem::take(&mut link.inward);
                    let mut index = std::mem::take(&mut self.index);
                    let error = error.read_front(&bytes, &mut index);
                    let input = Input::Malformed {
                        flow,
                        bytes: &bytes,
                        index: &index,
                        error,
                    };
                    self.feed(0, input);
                    self.index = index;
                    self.links[number].is_open = false;
                }
            }
        }
    }

    // ---- out of shards ----

    fn drain_shard(&mut self, number: usize) {
        while let Some(output) = self.shards[number].poll_output() {
            match output {
                Output::Send { flow, bytes, ticket } => {
                    let bytes = self.shards[number].out_bytes(&bytes).to_vec();
                    self.send(number, flow, bytes, ticket);
                }
                Output::Resolve { ticket, name } => {
                    let addresses = self.names.get(&name).cloned().unwrap_or_default();
                    self.ladder.note(self.now, REFEREE, "resolver", &name, "");
                    let event = Event::Resolved {
                        shard: number,
                        ticket,
                        addresses,
                    };
                    self.plan(self.now + Duration::from_millis(5), event);
                }
                Output::Record { ticket } => {
                    let wait = self.store.unwrap_or_default();
                    self.plan(self.now + wait, Event::Recorded { shard: number, ticket });
                }
                Output::Hook(hook) => {
                    let word = if hook.kind == crate::webhook::HookKind::Event {
                        "event"
                    } else {
                        "action"
                    };
                    let outcome = self.application.take(&hook, self.now);
                    let said = self.application.posted().last().map(|posted| summary(&posted.body));
                    let label = format!("POST {word} {}", said.unwrap_or_default());
                    self.ladder.note(self.now, REFEREE, "application", label.trim_end(), "");
                    if let Some((after, outcome)) = outcome {
                        let event = Event::Outcome {
                            shard: number,
                            transfer: hook.transfer,
                            outcome,
                        };
                        self.plan(self.now + after, event);
                    }
                }
                Output::Reply { ticket, reply } => {
                    if let Reply::Accepted {
                        transfer: Some(transfer),
                        ..
                    } = &reply
                    {
                        self.check.accepted(transfer.to_string());
                    }
                    let before = self.replies.insert(ticket, reply);
                    if before.is_some() {
                        self.check.violation(format!("command {ticket} got two replies"));
                    }
                }
                Output::Tell { to, news } => {
                    for shard in 0..self.shards.len() {
                        if shard != number && to.is_none_or(|to| usize::from(to) == shard) {
                            self.plan(self.now, Event::Told { shard, news });
                        }
                    }
                }
                Output::Close(connection) => {
                    if let Some(link) = self.links.get_mut(connection.slot as usize) {
                        link.is_open = false;
                    }
                }
            }
        }
        self.shards[number].end_batch();
        self.check.counters(number, self.shards[number].counters());
    }

    fn send(&mut self, shard: usize, flow: Flow, bytes: Vec<u8>, ticket: Option<Ticket>) {
        let label = match Text::read(&bytes) {
            Ok(text) => {
                let to = self.peer_at(flow).map(|peer| self.peers[peer.0].name.clone());
                self.check.sent(&to.unwrap_or_default(), &text);
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
                    self.ladder
                        .message(self.now, REFEREE, &flow.peer.to_string(), &label, &bytes, 0);
                    return;
                };
                let name = self.peers[peer.0].name.clone();
                let arrivals = self.network.datagram(self.now, REFEREE, &name, &label);
                self.ladder
                    .message(self.now, REFEREE, &name, &label, &bytes, arrivals.len());
                let path = Path {
                    transport: Transport::Udp,
                    far: self.config.bind(flow.bind).address,
                    link: None,
                };
                for delay in arrivals {
                    let bytes = bytes.clone();
                    self.plan(self.now + delay, Event::Arrives { peer, path, bytes });
                }
            }
            Transport::Tcp => {
                let named = flow.connection.map(|connection| connection.slot as usize);
                let open = named.filter(|link| self.links[*link].is_open).or_else(|| {
                    let fits = |link: &Link| link.is_open && link.bind == flow.bind && link.far == flow.peer;
                    self.links.iter().position(fits)
                });
                let peer = self.peers.iter().position(|peer| peer.address == flow.peer);
                let streams = peer.map(|peer| self.peers[peer].manners.streams);
                let link = match (open, peer, streams) {
                    (Some(link), ..) => link,
                    (None, Some(peer), Some(Streams::Taken)) => {
                        self.open(PeerId(peer), flow.peer, flow.bind, shard as u16)
                    }
                    _ => {
                        let name = peer.map(|peer| self.peers[peer].name.clone());
                        let to = name.unwrap_or_else(|| flow.peer.to_string());
                        self.ladder.message(self.now, REFEREE, &to, &label, &bytes, 0);
                        let Some(ticket) = ticket else { return };
                        let (wait, event) = match streams {
                            Some(Streams::Refused) => (1, Event::ConnectionRefused { shard, ticket }),
                            Some(Streams::Ignored) => (5_000, Event::SendFailed { shard, ticket }),
                            Some(Streams::Taken) | None => (1, Event::SendFailed { shard, ticket }),
                        };
                        self.plan(self.now + Duration::from_millis(wait), event);
                        return;
                    }
                };
                let name = self.peers[self.links[link].peer.0].name.clone();
                self.ladder.message(self.now, REFEREE, &name, &label, &bytes, 1);
                let at = (self.now + self.network.latency(self.now)).max(self.links[link].outward_at);
                self.links[link].outward_at = at;
                for bytes in self.cut(bytes) {
                    self.plan(at, Event::ArrivesOnStream { link, bytes });
                }
            }
        }
    }

    fn open(&mut self, peer: PeerId, far: SocketAddr, bind: BindId, owner: u16) -> usize {
        self.links.push(Link {
            peer,
            far,
            bind,
            owner,
            is_open: true,
            framer: Framer::new(),
            inward: Vec::new(),
            outward: Vec::new(),
            inward_at: self.now,
            outward_at: self.now,
        });
        self.links.len() - 1
    }

    /// Cuts bytes of a stream anywhere: segments are not messages.
    fn cut(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let at = self.random.below(bytes.len() as u64 + 1) as usize;
        let (front, back) = bytes.split_at(at);
        [front, back]
            .into_iter()
            .filter(|part| !part.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }

    fn peer_at(&self, flow: Flow) -> Option<PeerId> {
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

    // ---- peers ----

    fn drain_peer(&mut self, id: PeerId) {
        while let Some(Packet { path, bytes }) = self.peers[id.0].poll() {
            let name = self.peers[id.0].name.clone();
            let label = Text::read_any_length(&bytes).map_or_else(|_| first_word(&bytes), |text| text.label());
            match path.transport {
                Transport::Udp => {
                    let arrivals = self.network.datagram(self.now, &name, REFEREE, &label);
                    self.ladder
                        .message(self.now, &name, REFEREE, &label, &bytes, arrivals.len());
                    for delay in arrivals {
                        let event = Event::Datagram {
                            peer: id,
                            to: path.far,
                            bytes: bytes.clone(),
                        };
                        self.plan(self.now + delay, event);
                    }
                }
                Transport::Tcp => {
                    let Some(bind) = self.bind_at(Transport::Tcp, path.far) else {
                        continue;
                    };
                    let named = path
                        .link
                        .map(|link| link as usize)
                        .filter(|link| self.links[*link].is_open);
                    let fits = |link: &Link| link.is_open && link.peer == id && link.bind == bind;
                    let link = match named.or_else(|| self.links.iter().position(fits)) {
                        Some(link) => link,
                        None => {
                            let owner = self.random.below(self.shards.len() as u64) as u16;
                            let port = 40_000 + self.links.len() as u16;
                            let far = SocketAddr::new(self.peers[id.0].address.ip(), port);
                            self.open(id, far, bind, owner)
                        }
                    };
                    self.ladder.message(self.now, &name, REFEREE, &label, &bytes, 1);
                    let at = (self.now + self.network.latency(self.now)).max(self.links[link].inward_at);
                    self.links[link].inward_at = at;
                    for bytes in self.cut(bytes) {
                        self.plan(at, Event::Stream { link, bytes });
                    }
                }
            }
        }
    }

    fn on_stream_outward(&mut self, number: usize, bytes: &[u8]) {
        let link = &mut self.links[number];
        link.outward.extend_from_slice(bytes);
        let (peer, path) = (
            link.peer,
            Path {
                transport: Transport::Tcp,
                far: self.config.bind(link.bind).address,
                link: Some(number as u64),
            },
        );
        while let Some(length) = whole_message(&self.links[number].outward) {
            let message: Vec<u8> = self.links[number].outward.drain(..length).collect();
            self.peers[peer.0].receive(&message, path, self.now);
            self.drain_peer(peer);
        }
    }

    fn bind_at(&self, transport: Transport, address: SocketAddr) -> Option<BindId> {
        let fits = |bind: &crate::config::Bind| bind.transport == transport && bind.address == address;
        self.config.binds.iter().position(fits).map(|i| BindId(i as u8))
    }

    // ---- looking ----

    pub fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    /// What calls take of trunks.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    pub fn shard(&self, number: usize) -> &Shard {
        &self.shards[number]
    }

    /// Every rule broken so far, by referee towards anyone.
    pub fn violations(&self) -> Vec<String> {
        let mut all = self.check.violations().to_vec();
        for peer in &self.peers {
            all.extend(peer.violations().iter().map(|what| format!("{}: {what}", peer.name)));
        }
        all
    }

    /// Ends the run: lets all timers run out, and checks that nothing is left.
    ///
    /// # Panics
    /// If a rule was broken, with the seed and the ladder.
    pub fn finish(&mut self) {
        let quiet = self.run_until_quiet(Duration::from_secs(3_600));
        if !quiet {
            self.check.violation("something still happens after an hour".into());
        }
        for (number, shard) in self.shards.iter().enumerate() {
            self.check.over(number, shard);
        }
        for (number, trunk) in self.config.trunks.iter().enumerate() {
            let calls = self.usage.calls(crate::config::TrunkId(number as u8));
            if calls > 0 {
                let name = &trunk.name;
                self.check
                    .violation(format!("{calls} calls still have a place on trunk {name}"));
            }
        }
        self.check.hooks(self.application.posted());
        self.assert_clean();
    }

    /// # Panics
    /// If a rule was broken so far, with the seed and the ladder.
    pub fn assert_clean(&self) {
        let violations = self.violations();
        assert!(
            violations.is_empty(),
            "seed {}:\n{}\n\n{}",
            self.seed,
            violations.join("\n"),
            self.ladder
        );
    }
}

fn connection(number: usize, owner: u16) -> ConnectionId {
    ConnectionId {
        worker: owner,
        slot: number as u32,
        generation: 0,
    }
}

/// What a hook says, for a ladder: the status of an event, result and cause of an action.
fn summary(body: &Value) -> String {
    let of = |name: &str| body.get(name).map(|value| value.to_string().replace('"', ""));
    match (of("refer_result"), of("refer_cause")) {
        (Some(result), Some(cause)) => format!("{result} {cause}"),
        _ => {
            let late = if body.get("late").is_some() { " late" } else { "" };
            format!("{}{late}", of("call_status").unwrap_or_default())
        }
    }
}

fn first_word(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// The length of the message at the front of a stream, by its Content-Length.
fn whole_message(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or_default();
    (bytes.len() >= head + length).then_some(head + length)
}
