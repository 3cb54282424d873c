//! The same core in virtual time, over a network made from one seed.
//!
//! [`World`] drives shards by their contract alone, as `io` does: it parses, asks who owns a message, feeds inputs, carries
//! out outputs, and calls at the next deadline. Around them are scripted [`peer`]s, an [`application`] and names to look up.
//! A run is a function of its seed: what fails replays. [`drawn`] makes a whole world from a seed, or from any bytes.

pub mod application;
mod carry;
pub mod check;
pub mod dice;
pub mod drawn;

pub mod ladder;
pub mod load;
pub mod network;
pub mod peer;
pub mod scene;
mod streams;
pub mod tally;
pub mod trouble;
pub mod wire;

use crate::command::{CallSelector, Command, LadderOf, Reply};
use crate::config::Config;
use crate::identifiers::{Random, Secret};
use crate::message::Index;
use crate::shard::audit::Pending;
use crate::shard::{Input, Setup, Shard, Ticket};
use crate::timer::Instant;
use crate::usage::Usage;
use crate::webhook::{ActionOutcome, JobId, Lanes, Outcome, Subject};
use application::Application;
use check::Check;
use dice::Dice;
use ladder::Ladder;
use load::{Backlog, Pace, Waiting};
use network::Network;
use peer::script::Act;
use peer::{Path, Peer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use streams::Link;
use tally::{Fault, Tally};
use trouble::{Down, Overheard, Troubles};

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
    /// Which of the peers are down, and how.
    down: Vec<Option<Down>>,
    pub network: Network,
    pub application: Application,
    /// How long datagrams keep referee busy; `None`: they take no time.
    pub pace: Option<Pace>,
    backlog: Backlog,
    dice: Dice,
    names: BTreeMap<String, Vec<IpAddr>>,
    links: Vec<Link>,
    events: BTreeMap<(Instant, u64), Event>,
    order: u64,
    troubles: Troubles,
    /// Datagrams of peers, for those who send them again.
    overheard: Vec<Overheard>,
    /// When the store has recorded all it was given so far.
    recorded_at: Instant,
    /// Delivery of hooks with its queues and retries; without it each hook is posted once, at once.
    lanes: Option<Lanes>,
    replies: BTreeMap<u64, Reply>,
    /// What listeners hear.
    heard: Vec<crate::event::Event>,
    tickets: u64,
    index: Box<Index>,
    ladder: Ladder,
    check: Check,
    /// What is owed to each shard.
    pending: Vec<Pending>,
    tally: Tally,
    /// An audit follows every so many inputs of a shard at least.
    audit_every: u64,
    inquiries_lost: bool,
    /// Inputs of each shard since its last audit.
    since_audit: Vec<u64>,
}

#[derive(Debug)]
enum Event {
    /// To referee.
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Stream {
        link: usize,
        bytes: Vec<u8>,
    },
    /// The first datagram that waits has its turn.
    Turn,
    /// To a peer. `ticket`: whom to tell if it cannot be delivered.
    Arrives {
        peer: PeerId,
        path: Path,
        bytes: Vec<u8>,
        ticket: Option<(usize, Ticket)>,
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
    /// A POST has its answer, or will never have one.
    Posted {
        job: JobId,
        outcome: Outcome,
    },
    Outcome {
        subject: Subject,
        outcome: ActionOutcome,
    },
    Recorded {
        shard: usize,
        ticket: u64,
    },
    Restarts(PeerId),
    Inquiry {
        shard: usize,
        inquiry: crate::shard::Inquiry,
    },
    Told {
        shard: usize,
        news: crate::health::News,
    },
}

impl World {
    /// A world without peers. All that is random in it comes from the seed.
    pub fn new(seed: u64, shards: u16, config: Config, store: Option<Duration>) -> World {
        let mut dice = Dice::of_seed(seed, 2);
        let network = Network::new(dice.remove(1));
        World::with(
            seed,
            shards,
            config,
            store.map(|wait| [wait; 2]),
            dice.remove(0),
            network,
        )
    }

    /// A world whose shards take what is random in them from the seed, and all else from the dice. `store`: how long the store
    /// takes at least and at most; `None`: there is none.
    pub fn with(
        seed: u64,
        shards: u16,
        config: Config,
        store: Option<[Duration; 2]>,
        dice: Dice,
        network: Network,
    ) -> World {
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
            locals: Arc::default(),
        };
        let made = (0..shards).map(|shard| Shard::new(setup(shard, bytes()))).collect();
        World {
            seed,
            now: Instant::START,
            secret,
            shards: made,
            usage,
            peers: Vec::new(),
            down: Vec::new(),
            network,
            application: Application::default(),
            pace: None,
            backlog: Backlog::default(),
            dice,
            names: BTreeMap::new(),
            links: Vec::new(),
            events: BTreeMap::new(),
            order: 0,
            troubles: Troubles::with_store(store.unwrap_or_default()),
            overheard: Vec::new(),
            recorded_at: Instant::START,
            lanes: None,
            replies: BTreeMap::new(),
            heard: Vec::new(),
            tickets: 0,
            index: Box::default(),
            ladder: Ladder::default(),
            check: Check::new(config.clone(), secret, usize::from(shards)),
            pending: vec![Pending::default(); usize::from(shards)],
            tally: Tally::default(),
            audit_every: 1,
            inquiries_lost: false,
            since_audit: vec![0; usize::from(shards)],
            config,
        }
    }

    pub fn add(&mut self, peer: Peer) -> PeerId {
        self.peers.push(peer);
        self.down.push(None);
        PeerId(self.peers.len() - 1)
    }

    /// Lets a name have addresses; any other has none.
    pub fn name(&mut self, name: &str, addresses: &[IpAddr]) {
        self.names.insert(name.into(), addresses.to_vec());
    }

    /// Delivers hooks as a process does: in order per transfer, again if they fail, and no more at a time than configured.
    pub fn deliver_by_lanes(&mut self) {
        self.lanes = Some(Lanes::new(&self.config.hooks, Random::new([5; 16])));
    }

    /// Lets an audit follow every so many inputs only: it is dear.
    pub fn audit_every(&mut self, inputs: u64) {
        self.audit_every = inputs;
    }

    /// From now on what shards ask each other gets lost.
    pub fn lose_inquiries(&mut self) {
        self.inquiries_lost = true;
    }

    /// Lets the ladder say of which call each message is.
    pub fn number_calls(&mut self) {
        self.ladder.number_calls();
    }

    /// From now on all verbs ask for events: each final status that is taken must be told.
    pub fn all_ask_for_events(&mut self) {
        self.check.all_ask_for_events();
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
        let shard = match &command {
            Command::Verbs { call, .. }
            | Command::Call { call }
            | Command::Hangup { call }
            | Command::Update { call, .. } => match call {
                CallSelector::Id(id) => id.shard,
                CallSelector::SipCallId(call_id) => self.secret.owner(call_id, self.shards.len() as u16),
            },
            Command::Transfer { id } => id.shard,
            Command::Ladder { of } => match of {
                LadderOf::Call(CallSelector::Id(id)) => id.shard,
                LadderOf::Call(CallSelector::SipCallId(call_id)) => {
                    self.secret.owner(call_id, self.shards.len() as u16)
                }
                LadderOf::Transfer(id) => id.shard,
            },
            Command::Calls { .. } | Command::Transfers { .. } | Command::Trunks | Command::Listen => 0,
        };
        self.command_to(usize::from(shard), command)
    }

    /// Gives a command to a shard.
    pub fn command_to(&mut self, shard: usize, command: Command) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        self.check.command(ticket, &command);
        self.feed(shard, Input::Command { ticket, command });
        ticket
    }

    /// The reply to a command, once it is there.
    pub fn reply(&self, ticket: u64) -> Option<&Reply> {
        self.replies.get(&ticket)
    }

    /// What listeners have heard so far.
    pub fn heard(&self) -> &[crate::event::Event] {
        &self.heard
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
        self.tally.note(Fault::Drain);
        self.begin_to_drain();
    }

    /// Likewise, where it is no trouble to anyone.
    pub(crate) fn begin_to_drain(&mut self) {
        for shard in 0..self.shards.len() {
            self.feed(shard, Input::Drain);
        }
        self.check.drains();
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
        let lanes = self.lanes.as_ref().and_then(Lanes::next_deadline);
        event.into_iter().chain(shards).chain(peers).chain(lanes).min()
    }

    /// Does all that is due at the next instant: what arrives, then shards, then hooks, then peers.
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
        self.post_hooks();
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
            Event::Datagram { from, to, bytes } if self.pace.is_none() => {
                self.on_datagram(from, to, &bytes, Duration::ZERO);
            }
            Event::Datagram { from, to, bytes } => {
                let arrived = self.now;
                let waiting = Waiting {
                    arrived,
                    from,
                    to,
                    bytes,
                };
                if let Some(at) = self.backlog.push(waiting) {
                    self.plan(at, Event::Turn);
                }
            }
            Event::Turn => self.on_turn(),
            Event::Stream { link, bytes } => self.on_stream(link, &bytes),
            Event::Arrives {
                peer,
                path,
                bytes,
                ticket,
            } => self.arrive(peer, path, &bytes, ticket),
            Event::ArrivesOnStream { link, bytes } => self.on_stream_outward(link, &bytes),
            Event::SendFailed { shard, ticket } => self.feed(shard, Input::SendFailed { ticket }),
            Event::ConnectionRefused { shard, ticket } => self.feed(shard, Input::ConnectionRefused { ticket }),
            Event::Resolved {
                shard,
                ticket,
                addresses,
            } => {
                self.pending[shard].lookups -= 1;
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
            Event::Posted { job, outcome } => {
                if let Some(lanes) = &mut self.lanes {
                    lanes.finished(job, outcome, self.now);
                }
                self.post_hooks();
            }
            Event::Outcome { subject, outcome } => self.on_outcome(subject, outcome),
            Event::Recorded { shard, ticket } => {
                self.pending[shard].records -= 1;
                self.feed(shard, Input::Recorded { ticket });
            }
            Event::Restarts(peer) => self.restart(peer),
            Event::Inquiry { shard, inquiry } => self.feed(shard, Input::Inquiry(inquiry)),
            Event::Told { shard, news } => self.feed(shard, Input::Told { news }),
        }
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

    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// What has gone wrong so far, by kind.
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally.clone();
        tally.add(&self.network.tally);
        tally
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
        self.finish_quietly();
        self.assert_clean();
    }

    /// Likewise, and leaves it to the caller to ask for [`World::violations`].
    pub fn finish_quietly(&mut self) {
        let quiet = self.run_until_quiet(Duration::from_secs(3_600));
        if !quiet {
            self.check.violation("something still happens after an hour".into());
        }
        for (number, shard) in self.shards.iter().enumerate() {
            self.check.over(number, shard, &self.pending[number]);
        }
        self.check.transactions();
        self.check.hooks(self.application.posted(), self.lanes.as_ref());
    }

    /// What calls take of trunks is what they give back.
    fn check_places(&mut self) {
        for (number, trunk) in self.config.trunks.iter().enumerate() {
            let id = crate::config::TrunkId(number as u8);
            let counted = self.usage.calls(id) as usize;
            let kept: usize = self.shards.iter().map(|shard| shard.places_on(id)).sum();
            if counted != kept {
                let name = &trunk.name;
                self.check.violation(format!(
                    "{kept} calls have a place on trunk {name}, {counted} are counted"
                ));
            }
        }
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
