//! All that one core owns: the only place that sees every layer. It routes, counts and wires; SIP is decided below.
//!
//! A driver feeds inputs and carries out outputs:
//!
//! ```text
//!  Input ──► handle ──► request.rs ──► transaction, call, proxy ──► outbox ──► poll_output ──► Output
//!                   ├─► response.rs        │                           ▲
//!                   ├─► commands.rs        ▼                           │
//!                   └─► timers ──────► transfer.rs (steps) ─ saying.rs ┘
//! ```

mod admission;
mod answer;
mod application;
mod arrival;
mod attended;
#[cfg(feature = "sim")]
pub mod audit;
mod challenge;
mod commands;
pub mod counters;
mod ending;
mod events;
mod held;
mod ladders;
mod large;
mod lifetime;
mod names;
mod notify;
mod outside;
mod places;
mod probe;
mod recorded;
mod refer;
mod refresh;
mod refused_invites;
mod relay;
mod renumbered;
mod request;
mod response;
mod restored;
mod route;
mod saying;
mod served;
mod targets;
mod topology;
mod transfers;
mod uas;
mod update;
mod verbs;

use crate::call::{Call, CallKey, CallState, Party, TransferKey};
use crate::command::{Command, Reply};
use crate::config::Config;
use crate::event::Event;
use crate::health::{self, Failure, News, ProbeResult};
use crate::identifiers::{Keyed, Random, Secret};
use crate::message::edit::Editor;
use crate::message::{Index, Message, MessageBuf, ParseError};
use crate::proxy::Refused;
use crate::proxy::context::{BranchNumber, Context, ContextKey};
use crate::timer::{Instant, Timers};
use crate::transaction::{Deadline, Ended, ServerKey, Transactions};
use crate::transfer::{Transfer, TransferTimer};
use crate::transport::{ConnectionId, Flow, Locals, Outbox};
pub use crate::transport::{OutRange, Ticket};
use crate::usage::Usage;
use crate::webhook::{ActionOutcome, Hook, Subject};
use admission::{QueueDelays, ShedLately, Strangers};
use application::Served;
use attended::Aside;
pub use attended::Inquiry;
pub use counters::{CounterKind, Counters};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ladders::Ladders;
use large::Refusals;
use names::Names;
use outside::Outside;
use probe::{Probe, ProbeId};
use refused_invites::RefusedInvites;
use renumbered::Renumbered;
use response::BranchFailure;
use slotmap::SlotMap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use topology::Topology;

/// What a driver feeds.
#[derive(Debug)]
pub enum Input<'a> {
    /// A message that belongs to this shard (see [`Secret::owner`]), or that [`Shard::answers_here`]. `waited`: how long ago it
    /// arrived, as far as the driver can tell.
    Received {
        flow: Flow,
        message: Message<'a>,
        waited: Duration,
    },
    /// A datagram that [`crate::stun::is_stun`].
    Stun { flow: Flow, datagram: &'a [u8] },
    /// Bytes that do not parse, with what was found in them. After one on a stream the driver closes the connection once the
    /// outputs of this input are written.
    Malformed {
        flow: Flow,
        bytes: &'a [u8],
        index: &'a Index,
        error: ParseError,
    },
    /// A send did not happen, or its connection broke within 32 s of it (RFC 3261 §18.4).
    SendFailed { ticket: Ticket },
    /// A send did not happen since its peer takes no connection: a TCP reset, or ICMP says that it speaks no TCP.
    ConnectionRefused { ticket: Ticket },
    /// The answer to [`Output::Resolve`]; empty: no such name, or no answer in time.
    Resolved {
        ticket: u64,
        addresses: Vec<IpAddr>,
        valid_for: Duration,
    },
    /// A request of the control API; the [`Output::Reply`] carries the same ticket.
    Command { ticket: u64, command: Command },
    /// What the first attempt of an actionHook or of a question came to.
    ActionOutcome { subject: Subject, outcome: ActionOutcome },
    /// An [`Output::Record`] is as durable as configured: what waited for it goes out.
    Recorded { ticket: u64 },
    /// What another shard has found out of an address: its [`Output::Tell`].
    Told { news: News },
    /// What another shard asks or tells this one: its [`Output::Inquire`].
    Inquiry(Inquiry),
    /// From now on new INVITEs get 503 with Retry-After, and OPTIONS 503.
    Drain,
}

/// What a driver carries out.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes. `ticket`: report a failure with it.
    Send {
        flow: Flow,
        bytes: OutRange,
        ticket: Option<Ticket>,
    },
    /// Look up A and AAAA records.
    Resolve {
        ticket: u64,
        name: String,
    },
    /// Make what was reported so far durable, then feed [`Input::Recorded`]. Only with [`Setup::records`].
    Record {
        ticket: u64,
    },
    /// Deliver a hook.
    Hook(Box<Hook>),
    Reply {
        ticket: u64,
        reply: Reply,
    },
    /// Close this connection once what was sent on it is written.
    Close(ConnectionId),
    /// Feed this to another shard as [`Input::Inquiry`]. It may be lost.
    Inquire {
        to: u16,
        inquiry: Box<Inquiry>,
    },
    /// For those who listen; it may be lost.
    Event(Box<Event>),
    /// Feed this to another shard as [`Input::Told`], or where `to` is `None` to all others. It may be lost.
    Tell {
        to: Option<u16>,
        news: News,
    },
}

/// What a shard is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    pub config: Arc<Config>,
    /// `0 <= shard < shards`.
    pub shard: u16,
    pub shards: u16,
    /// The same on all shards of a process.
    pub secret: Secret,
    /// Its own for each shard.
    pub seed: [u8; 16],
    /// What the wall clock said at [`Instant::START`], since the Unix epoch.
    pub wall_clock_at_start: Duration,
    /// Whether there is a store: the 200 to a NOTIFY of ours and the reply to a verb wait until it has recorded them.
    pub records: bool,
    /// The same on all shards of a process.
    pub usage: Arc<Usage>,
    /// Likewise; who receives adds to them.
    pub locals: Arc<Locals>,
}

/// All that one core owns.
#[derive(Debug)]
pub struct Shard {
    setup: Setup,
    random: Random,
    topology: Topology,
    outbox: Outbox,
    effects: VecDeque<Output>,
    editor: Editor,
    /// For messages that are parsed again. Taken out while in use.
    scratch: Box<Index>,
    transactions: Transactions<ServerOwner, ClientOwner>,
    contexts: SlotMap<ContextKey, Context>,
    calls: SlotMap<CallKey, Call>,
    /// By a keyed digest of the SIP Call-ID; more than one for a call that passes twice.
    by_call_id: HashMap<u64, SmallVec<[CallKey; 1]>, FixedState>,
    by_number: HashMap<u64, CallKey, FixedState>,
    /// What calls have that an application leads.
    served: HashMap<CallKey, Box<Served>, FixedState>,
    /// In the order of opening, for listing page by page.
    by_order: BTreeMap<u64, CallKey>,
    transfers: SlotMap<TransferKey, Transfer>,
    transfer_by_number: HashMap<u64, TransferKey, FixedState>,
    /// Transfers whose REFER has a dialog of its own, by a keyed digest of its Call-ID.
    outside: HashMap<u64, Outside, FixedState>,
    /// Transfers that ended, oldest first: remembered for the control API.
    remembered: VecDeque<TransferKey>,
    timers: Timers<TimerKey>,
    names: Names<Waiting>,
    /// The time of the last input.
    now: Instant,
    refusals: Refusals,
    refused_invites: RefusedInvites,
    renumbered: Renumbered,
    /// For requests of ours that are read again.
    large_scratch: Box<Index>,
    queue_delays: QueueDelays,
    strangers: Strangers,
    shed_lately: ShedLately,
    health: health::Table,
    probes: Vec<Probe>,
    /// What waits for [`Input::Recorded`].
    unrecorded: HashMap<u64, Unrecorded, FixedState>,
    next_record: u64,
    /// Lists of verbs that wait for another shard.
    asides: HashMap<u64, Aside, FixedState>,
    next_aside: u64,
    draining: bool,
    ladders: Ladders,
    /// For messages that go out and are remembered.
    ladder_scratch: Box<Index>,
    /// Until then events of calls are made.
    listened_until: Instant,
    counters: Counters,
    /// Of transfers that are forgotten.
    #[cfg(feature = "sim")]
    coverage: crate::coverage::Coverage,
}

/// Whose a server transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerOwner {
    /// Answered here, or not yet decided.
    Local,
    Relay(ContextKey),
    /// The INVITE of a call that an application leads.
    Application(CallKey),
}

/// Whose a client transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientOwner {
    /// A branch of a request being relayed.
    Relay(ContextKey, BranchNumber),
    /// A CANCEL: its answer changes nothing.
    Cancel,
    Refer(TransferKey),
    /// A BYE of ours to this party.
    Bye(CallKey, Party),
    /// An OPTIONS of ours to an address of a trunk.
    Probe(ProbeId),
    /// An ACK that left by TCP for its size.
    LargeAck,
    /// A session refresh of ours.
    Refresh(CallKey),
    /// A request of an application's own, by its number.
    Request(CallKey, u32),
    /// A challenged request that was sent again with credentials: what still comes for this one says nothing. Whether it was
    /// relayed.
    Challenged {
        relayed: bool,
    },
}

/// What waits for a name.
#[derive(Debug)]
enum Waiting {
    Request {
        flow: Flow,
        message: MessageBuf,
        server: Option<ServerKey>,
    },
    Branch(ContextKey, BranchNumber),
    Refer(TransferKey),
    Bye(CallKey, Party),
    Probe(ProbeId),
    Refresh(CallKey),
    OwnRequest(CallKey, u32),
}

/// What waits for the store.
#[derive(Debug)]
enum Unrecorded {
    /// A response, written and ready.
    Response {
        server: ServerKey,
        code: u16,
        bytes: Vec<u8>,
    },
    Reply {
        ticket: u64,
        reply: Reply,
    },
}

/// Whose a deadline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TimerKey {
    Transaction(Deadline),
    /// Timer C of RFC 3261 §16.6.
    TimerC(ContextKey, BranchNumber),
    /// A cancelled branch that never ends (RFC 3261 §9.1).
    CancelWait(ContextKey, BranchNumber),
    /// A target that has said nothing yet is given up for the next.
    NoResponse(ContextKey, BranchNumber),
    /// A target that has not answered yet is given up.
    NoAnswer(ContextKey, BranchNumber),
    Transfer(TransferKey, TransferTimer),
    /// Requests of a party wait no longer.
    Hold(CallKey),
    /// An ended call is forgotten.
    Forget(CallKey),
    /// Whether a call has lasted long enough. There is one for each call until it ends.
    Lifetime(CallKey),
    /// A party has not shown that it knows the call after all.
    Doubt(CallKey),
    /// The next verb of a call is due.
    Pause(CallKey),
    /// The answer of a call gets no ACK any more.
    NoAck(CallKey),
    /// A 2xx of ours that has no ACK is sent again.
    Repeat(CallKey),
    /// A provisional response of ours that has no PRACK is sent again.
    Reliable(CallKey),
    /// A call that an application has not answered is looked at.
    Unanswered(CallKey),
    /// So is the session of one that it has.
    Session(CallKey),
    /// A list of verbs waits no longer for another shard.
    Aside(u64),
    /// A REFER of ours waits no longer for an INVITE's answer.
    Queue(CallKey),
    /// An OPTIONS is due.
    Probe(ProbeId),
    /// The one that began then has had its time.
    ProbeOver(ProbeId, Instant),
}

impl From<Deadline> for TimerKey {
    fn from(deadline: Deadline) -> TimerKey {
        TimerKey::Transaction(deadline)
    }
}

impl Shard {
    pub fn new(setup: Setup) -> Shard {
        let config = &setup.config;
        let mut random = Random::new(setup.seed);
        let hash_key = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        let topology = Topology::new(config, setup.locals.clone());
        let mut shard = Shard {
            topology,
            outbox: Outbox::default(),
            effects: VecDeque::new(),
            editor: Editor::new(),
            scratch: Box::default(),
            transactions: Transactions::new(config.timers, hash_key.to_be_bytes()),
            contexts: SlotMap::with_key(),
            calls: SlotMap::with_key(),
            by_call_id: HashMap::with_hasher(FixedState::default()),
            by_number: HashMap::with_hasher(FixedState::default()),
            served: HashMap::with_hasher(FixedState::default()),
            by_order: BTreeMap::new(),
            transfers: SlotMap::with_key(),
            transfer_by_number: HashMap::with_hasher(FixedState::default()),
            outside: HashMap::with_hasher(FixedState::default()),
            remembered: VecDeque::new(),
            timers: Timers::default(),
            names: Names::new(config.limits.lookups_max, Keyed::new(&mut random)),
            now: Instant::START,
            refusals: Refusals::new(Keyed::new(&mut random)),
            refused_invites: RefusedInvites::default(),
            renumbered: Renumbered::default(),
            large_scratch: Box::default(),
            queue_delays: QueueDelays::new(config.binds.len(), &config.limits),
            strangers: Strangers::new(config, setup.secret),
            shed_lately: ShedLately::default(),
            random,
            health: health::Table::new(config, setup.shard, setup.shards),
            probes: Vec::new(),
            unrecorded: HashMap::with_hasher(FixedState::default()),
            next_record: 0,
            asides: HashMap::with_hasher(FixedState::default()),
            next_aside: 0,
            draining: false,
            ladders: Ladders::default(),
            ladder_scratch: Box::default(),
            listened_until: Instant::START,
            counters: Counters::default(),
            #[cfg(feature = "sim")]
            coverage: crate::coverage::Coverage::default(),
            setup,
        };
        shard.plan_probes();
        shard
    }

    /// Feeds one input. `now` never goes back; it may be the arrival time of a whole batch.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        self.now = now;
        let mark = self.outbox.waiting();
        match input {
            Input::Received { flow, message, waited } => {
                self.queue_delays.observe(flow.bind, waited, now);
                let taken = self.remember_received(message);
                if message.is_request() {
                    self.on_request(flow, message, waited, now);
                } else {
                    self.on_response(flow, message, now);
                }
                self.remember_outcome(message, taken, mark);
                return self.check_invariants();
            }
            Input::Stun { flow, datagram } => self.on_stun(flow, datagram, now),
            Input::Malformed {
                flow,
                bytes,
                index,
                error,
            } => self.on_malformed(flow, bytes, index, error, now),
            Input::SendFailed { ticket } => {
                let ended = self.transactions.on_send_failed(ticket);
                self.on_transaction_ended(ended, now);
            }
            Input::ConnectionRefused { ticket } => self.on_connection_refused(ticket, now),
            Input::Resolved {
                ticket,
                addresses,
                valid_for,
            } => {
                for waiting in self.names.resolved(ticket, &addresses, valid_for, now) {
                    self.resume(waiting, now);
                }
            }
            Input::Command { ticket, command } => self.on_command(ticket, command, now),
            Input::ActionOutcome { subject, outcome } => match subject {
                Subject::Transfer(transfer) => self.on_action_outcome(transfer, outcome, now),
                Subject::Question(call, question) => self.on_question_answered(call, question, outcome, now),
                Subject::Status(_) => debug_assert!(false, "an event is not answered"),
            },
            Input::Recorded { ticket } => self.on_recorded(ticket, now),
            Input::Told { news } => self.on_told(news, now),
            Input::Inquiry(inquiry) => self.on_inquiry(inquiry, now),
            Input::Drain => self.draining = true,
        }
        self.remember_sent(mark);
        self.check_invariants();
    }

    /// Takes the next effect to carry out, oldest first: sends before all else. Drain to `None` before sleeping.
    pub fn poll_output(&mut self) -> Option<Output> {
        while let Some(send) = self.outbox.poll() {
            if self.topology.is_itself(send.flow) {
                self.receive_own(send.flow, &send.bytes);
                continue;
            }
            return Some(Output::Send {
                flow: send.flow,
                bytes: send.bytes,
                ticket: send.ticket,
            });
        }
        self.effects.pop_front()
    }

    /// A message from one of our sockets to itself: a request passes twice where no other hop between has put itself into its
    /// route set. It takes no network to be received.
    fn receive_own(&mut self, flow: Flow, bytes: &OutRange) {
        let Ok(message) = MessageBuf::parse(self.outbox.get(bytes).to_vec()) else {
            debug_assert!(false, "a message of ours cannot be read");
            return;
        };
        let (message, now) = (message.as_message(), self.now);
        let mark = self.outbox.waiting();
        if message.is_request() {
            self.on_request(flow, message, Duration::ZERO, now);
        } else {
            self.on_response(flow, message, now);
        }
        self.remember_sent(mark);
        self.check_invariants();
    }

    /// The bytes of a send. Valid until [`Shard::end_batch`].
    pub fn out_bytes(&self, range: &OutRange) -> &[u8] {
        self.outbox.get(range)
    }

    /// Call when every polled send of the batch is written or copied: the out-buffer is used anew.
    pub fn end_batch(&mut self) {
        self.outbox.clear();
    }

    /// When to call [`Shard::handle_timeout`]; `None`: no timer is armed.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Fires what is due, at most [`TIMERS_PER_TURN`]; more is due at once if [`Shard::next_timeout`] still lies in the past.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        let mark = self.outbox.waiting();
        for _ in 0..TIMERS_PER_TURN {
            let Some((at, key)) = self.timers.pop_due(now) else {
                break;
            };
            match key {
                TimerKey::Transaction(deadline) => {
                    let ended = self
                        .transactions
                        .on_deadline(deadline, &mut self.outbox, &mut self.timers, now);
                    self.on_transaction_ended(ended, now);
                }
                TimerKey::TimerC(context, branch) => self.on_timer_c(context, branch, now),
                TimerKey::CancelWait(context, branch) => self.on_cancel_wait(context, branch, now),
                TimerKey::NoResponse(context, branch) => self.on_no_response(context, branch, now),
                TimerKey::NoAnswer(context, branch) => self.on_no_answer(context, branch, now),
                TimerKey::Transfer(key, timer) => {
                    if let Some(transfer) = self.transfers.get_mut(key) {
                        let steps = transfer.on_timer(timer, at, now);
                        self.carry_out(key, steps, now);
                    }
                }
                TimerKey::Hold(call) => self.on_hold_over(call, now),
                TimerKey::Forget(call) => self.on_forget(call, now),
                TimerKey::Lifetime(call) => self.on_lifetime(call, now),
                TimerKey::Doubt(call) => self.on_doubt_over(call, now),
                TimerKey::Pause(call) => self.run_verbs(call, now),
                TimerKey::NoAck(call) => self.on_no_ack(call, now),
                TimerKey::Repeat(call) => self.on_repeat_due(call, now),
                TimerKey::Reliable(call) => self.on_reliable_due(call, now),
                TimerKey::Unanswered(call) => self.on_unanswered_due(call, now),
                TimerKey::Session(call) => self.on_session_due(call, now),
                TimerKey::Aside(number) => self.on_aside_over(number, now),
                TimerKey::Queue(call) => self.on_queue_over(call, at, now),
                TimerKey::Probe(probe) => self.on_probe_due(probe, now),
                TimerKey::ProbeOver(probe, since) => self.on_probe_over(probe, since, now),
            }
        }
        self.remember_sent(mark);
        self.check_invariants();
    }

    /// The shard's numbers, its gauges as of now.
    pub fn counters(&self) -> Counters {
        Counters {
            calls: self.calls.len() as u64,
            transactions: self.transactions.len() as u64,
            transfers: (self.transfers.len() - self.remembered.len()) as u64,
            contexts: self.contexts.len() as u64,
            lookups: self.names.open() as u64,
            timers: self.timers.len() as u64,
            ..self.counters
        }
    }

    /// Whether everything is served: no live call, no request without its final response, no transfer under way. What is left
    /// only absorbs repeats. After a drain the driver may stop then.
    pub fn is_idle(&self) -> bool {
        let transfers_done = self.transfers.len() == self.remembered.len();
        let is_served = |context: &Context| {
            self.transactions
                .server(context.server)
                .is_none_or(|server| !server.is_waiting())
        };
        transfers_done
            && self.calls.values().all(|call| call.state == CallState::Ended)
            && self.contexts.values().all(is_served)
    }

    /// Whether every table is empty.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
            && self.transactions.is_empty()
            && self.contexts.is_empty()
            && self.names.open() == 0
            && self.asides.is_empty()
    }

    fn config(&self) -> &Config {
        &self.setup.config
    }

    /// Milliseconds since the Unix epoch.
    fn wall(&self, at: Instant) -> u64 {
        (self.setup.wall_clock_at_start + at.since(Instant::START)).as_millis() as u64
    }

    fn call_id_digest(&self, call_id: &[u8]) -> u64 {
        self.setup.secret.mac(b'c', &[call_id])
    }

    /// What tells the dialogs of one INVITE apart, which have the callee's tag.
    fn tag_digest(&self, tag: &[u8]) -> u64 {
        self.setup.secret.mac(b'd', &[tag])
    }

    fn on_transaction_ended(&mut self, ended: Option<Ended<ServerOwner, ClientOwner>>, now: Instant) {
        match ended {
            None
            | Some(Ended::Client(
                ClientOwner::Cancel
                | ClientOwner::Refer(_)
                | ClientOwner::Bye(..)
                | ClientOwner::Probe(_)
                | ClientOwner::LargeAck
                | ClientOwner::Refresh(_)
                | ClientOwner::Request(..)
                | ClientOwner::Challenged { .. },
            )) => {}
            Some(Ended::ServerTimeout(owner, identity)) => {
                self.counters.unacknowledged_total += 1;
                self.refused_invites.add(identity);
                self.on_transaction_ended(Some(Ended::Server(owner)), now);
            }
            Some(Ended::Server(ServerOwner::Local | ServerOwner::Application(_))) => {}
            Some(Ended::TryingIsDue(server)) => self.answer_stored(server, Refused::new(100, "Trying"), now),
            Some(Ended::Server(ServerOwner::Relay(context))) => {
                self.leave_context(context, |context| context.server_gone = true)
            }
            Some(Ended::Client(ClientOwner::Relay(context, branch))) => self.leave_branch(context, branch),
            Some(Ended::ClientTimeout(ClientOwner::LargeAck)) => {}
            Some(Ended::ClientTimeout(owner)) => {
                self.counters.timeouts_total += 1;
                match owner {
                    ClientOwner::Relay(context, branch) => {
                        self.note_failure(context, branch, Failure::Timeout, now);
                        self.on_branch_failed(context, branch, BranchFailure::Timeout, now)
                    }
                    ClientOwner::Cancel | ClientOwner::LargeAck | ClientOwner::Challenged { .. } => {}
                    ClientOwner::Refer(key) => {
                        self.end_refer(key);
                        self.with_transfer(key, now, |transfer| transfer.on_no_response(now));
                    }
                    ClientOwner::Bye(call, _) => self.on_bye_answered(call, now),
                    ClientOwner::Refresh(call) => self.on_refresh_failed(call, true, now),
                    ClientOwner::Request(call, number) => {
                        self.on_request_failed(call, number, "no response", now);
                        self.doubt(call, Party::Caller, now);
                    }
                    ClientOwner::Probe(probe) => {
                        self.end_probe(probe, ProbeResult::Failed(Failure::Timeout), now);
                    }
                }
            }
            Some(Ended::ClientTransportFailed(owner)) => {
                self.counters.transport_failures_total += 1;
                match owner {
                    ClientOwner::Relay(context, branch) => {
                        self.note_failure(context, branch, Failure::Transport, now);
                        self.on_branch_failed(context, branch, BranchFailure::Transport, now)
                    }
                    ClientOwner::Cancel | ClientOwner::LargeAck | ClientOwner::Challenged { .. } => {}
                    ClientOwner::Refer(key) => {
                        self.end_refer(key);
                        self.with_transfer(key, now, |transfer| transfer.on_transport_failed(now));
                    }
                    ClientOwner::Bye(call, _) => self.on_bye_answered(call, now),
                    ClientOwner::Refresh(call) => self.on_refresh_failed(call, false, now),
                    ClientOwner::Request(call, number) => {
                        self.on_request_failed(call, number, "the request could not be sent", now);
                    }
                    ClientOwner::Probe(probe) => {
                        self.end_probe(probe, ProbeResult::Failed(Failure::Transport), now);
                    }
                }
            }
        }
    }

    /// A response context lives until all its transactions have ended (RFC 3261 §16.7).
    fn leave_context(&mut self, key: ContextKey, leave: impl FnOnce(&mut Context)) {
        if let Some(context) = self.contexts.get_mut(key) {
            leave(context);
            if context.is_over() {
                self.contexts.remove(key);
            }
        }
    }

    fn leave_branch(&mut self, key: ContextKey, number: BranchNumber) {
        self.leave_context(key, |context| {
            if let Some(branch) = context.branch_mut(number) {
                branch.is_gone = true;
            }
        });
    }

    fn arm(&mut self, now: Instant, wait: Duration, key: TimerKey) -> Instant {
        self.timers.arm(now, wait, key)
    }

    /// Cheap facts that always hold; checked after every input in debug builds.
    fn check_invariants(&self) {
        debug_assert!(self.remembered.len() <= self.transfers.len());
        debug_assert_eq!(self.transfers.len(), self.transfer_by_number.len());
        debug_assert_eq!(self.calls.len(), self.by_number.len());
        debug_assert_eq!(self.calls.len(), self.by_order.len());
        let is_owed = self.names.open() > 0 || !self.unrecorded.is_empty();
        debug_assert!(self.transactions.is_empty() || !self.timers.is_empty() || is_owed);
    }
}

/// A turn of the driver must not starve its sockets; at 4,096 a second's worth of a busy shard's timers takes some ten turns.
pub const TIMERS_PER_TURN: usize = 4_096;

/// Whether requests of a party in this state of its call are relayed.
fn is_live(state: CallState) -> bool {
    !matches!(state, CallState::Ending | CallState::Ended)
}
