//! One thread per shard: poll, receive a batch, handle, drain, send a batch, sleep to the deadline.
//!
//! ```text
//!  ┌► poll ─► clock ─► timers ─► datagrams, streams, other workers, commands ─► outputs ─► sends, writes ─┐
//!  └──────────────────── at once while there is work, else when something comes ◄─────────────────────────┘
//! ```
//!
//! Everything in a turn happens at one time, the one clock reading after the poll. Every step takes a bounded amount, and
//! what is left over makes the next turn begin at once.

use crate::command::{Command, Reply};
use crate::config::Config;
use crate::event::Event;
use crate::health::News;
use crate::identifiers::Secret;
use crate::io::clock::Clock;
use crate::io::counters::Publisher;
use crate::io::handoff::{Doorbell, Parcel};
use crate::io::intake::Intake;
use crate::io::resolve::{FAILURE_VALID_FOR, Resolver};
use crate::io::tcp::Tcp;
use crate::io::token::{self, Polled};
use crate::io::udp::Udp;
use crate::message::Message;
use crate::shard::{Input, OutRange, Output, Ticket};
use crate::timer::Instant;
use crate::transport::{Flow, Transport};
use crate::webhook::{ActionOutcome, Hook, HookKind, Subject};
use crossbeam::channel::{Receiver, SendTimeoutError, Sender, TrySendError};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Takes the answers of shards to commands. Called on a worker's thread: it must not block.
pub trait ReplySink: Send + Sync {
    /// The answer to the [`WorkerCommand::Command`] with this ticket.
    fn reply(&self, ticket: u64, reply: Reply);
}

/// Takes the events of shards. Called on a worker's thread: it must not block.
pub trait EventSink: Send + Sync {
    /// Returns whether there was room for it.
    fn event(&self, event: Box<Event>) -> bool;
}

/// What other threads ask of a worker.
#[derive(Debug)]
pub enum WorkerCommand {
    /// A request of the control API; its answer goes to the [`ReplySink`] with the same ticket.
    Command { ticket: u64, command: Command },
    /// What the first attempt of an action hook or of a question came to.
    ActionOutcome { subject: Subject, outcome: ActionOutcome },
    /// The answer to a name lookup; empty: no such name, or no answer in time.
    Resolved {
        ticket: u64,
        addresses: Vec<IpAddr>,
        valid_for: Duration,
    },
    /// New INVITEs get 503 from now on; calls in progress are served.
    Drain,
    /// Leave now, whatever is alive.
    Stop,
}

/// A worker as other threads see it.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    commands: Sender<WorkerCommand>,
    doorbell: Arc<Doorbell>,
    state: Arc<State>,
}

/// What a worker shows of itself.
#[derive(Debug, Default)]
struct State {
    /// It drains, and nothing is alive in its shard.
    drained: AtomicBool,
    left: AtomicBool,
}

impl WorkerHandle {
    /// A handle that puts commands into `commands` and rings `doorbell`.
    pub fn new(commands: Sender<WorkerCommand>, doorbell: Arc<Doorbell>) -> WorkerHandle {
        WorkerHandle {
            commands,
            doorbell,
            state: Arc::default(),
        }
    }

    /// Hands a command over without waiting.
    ///
    /// # Errors
    /// Gives the command back when the worker's queue is full or the worker has left.
    pub fn send(&self, command: WorkerCommand) -> Result<(), WorkerCommand> {
        match self.commands.try_send(command) {
            Ok(()) => {
                self.doorbell.ring();
                Ok(())
            }
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => Err(command),
        }
    }

    /// Hands a command over, waiting up to `wait` for room: for threads that may wait, with something that must not be lost.
    ///
    /// # Errors
    /// Gives the command back when there was no room in time or the worker has left.
    pub fn send_within(&self, command: WorkerCommand, wait: Duration) -> Result<(), WorkerCommand> {
        match self.commands.send_timeout(command, wait) {
            Ok(()) => {
                self.doorbell.ring();
                Ok(())
            }
            Err(SendTimeoutError::Timeout(command) | SendTimeoutError::Disconnected(command)) => Err(command),
        }
    }

    /// Whether the worker was told to drain and nothing is alive in its shard any more.
    pub fn is_drained(&self) -> bool {
        self.state.drained.load(Ordering::Relaxed)
    }

    /// Whether the worker has ended: nothing it is sent will be taken.
    pub fn has_left(&self) -> bool {
        self.state.left.load(Ordering::Relaxed)
    }
}

/// Every worker of the process, and who owns what.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<WorkerHandle>,
    secret: Secret,
}

impl Workers {
    /// `handles[i]` is the worker of shard `i`; there is at least one.
    pub fn new(handles: Vec<WorkerHandle>, secret: Secret) -> Workers {
        assert!(!handles.is_empty() && handles.len() <= usize::from(u16::MAX));
        Workers { handles, secret }
    }

    /// The worker whose shard owns the messages of this SIP Call-ID.
    pub fn owner(&self, call_id: &[u8]) -> &WorkerHandle {
        &self.handles[usize::from(self.owner_number(call_id))]
    }

    /// The number of that shard.
    pub fn owner_number(&self, call_id: &[u8]) -> u16 {
        self.secret.owner(call_id, self.shards())
    }

    /// The worker of a shard, as ids of calls and transfers name it; `None` if there is no such shard.
    pub fn shard(&self, shard: u16) -> Option<&WorkerHandle> {
        self.handles.get(usize::from(shard))
    }

    /// All of them, in the order of their shards.
    pub fn all(&self) -> &[WorkerHandle] {
        &self.handles
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.handles.len() as u16
    }
}

/// What a worker is made from.
pub struct Parts {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub poll: mio::Poll,
    /// The bell of `poll`, under [`token::BELL`].
    pub doorbell: Arc<Doorbell>,
    /// The shard with its ends of the rings.
    pub intake: Intake,
    pub udp: Udp,
    pub tcp: Tcp,
    pub handle: WorkerHandle,
    pub commands: Receiver<WorkerCommand>,
    pub hooks: Sender<Box<Hook>>,
    pub replies: Arc<dyn ReplySink>,
    pub events: Arc<dyn EventSink>,
    pub resolver: Resolver,
    pub publisher: Publisher,
}

/// One thread's work.
pub struct Worker {
    parts: Parts,
    events: mio::Events,
    pace: Pace,
    /// Datagrams of the last turn.
    received: usize,
    /// What carrying out outputs came to, for our own shard.
    deferred: Vec<Deferred>,
    /// Action hooks that found delivery behind.
    waiting_hooks: VecDeque<Box<Hook>>,
    /// The last turn ended in the middle of outputs.
    owes_outputs: bool,
    draining: bool,
    leaving: bool,
}

/// How a worker waits. A sleep and a wake-up cost as much as a message or two: where messages come close together it naps, without
/// listening, and takes all that came meanwhile in one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pace {
    /// The last sleep was shorter than a nap, and every nap since brought something.
    naps_pay: bool,
    /// The last wait was a nap.
    napped: bool,
    /// The last turn found something to do.
    worked: bool,
}

/// An input that arose while outputs were carried out.
#[derive(Debug)]
enum Deferred {
    SendFailed(Ticket),
    ConnectionRefused(Ticket),
    LookupRefused(u64),
    Recorded(u64),
    ActionFailed(Subject),
}

/// Events taken from one poll. More are there next time; sockets are few and connections are read in turn.
const EVENTS_MAX: usize = 1_024;

/// Datagrams of a turn after which the next one begins at once: a nap would save little, and all would wait for it.
const BUSY: usize = 16;

/// Parcels taken from one other worker in a turn: as many as the messages of one socket, for the same reason.
const PARCELS_PER_TURN: usize = 128;

/// Commands taken in a turn. They are rare, and one that lists calls takes as long as some dozen messages.
const COMMANDS_PER_TURN: usize = 32;

/// Rounds of outputs in a turn: outputs, what they came to, and the outputs of that. A failover is two; a shard that goes
/// on for ever must not keep the sockets waiting.
const OUTPUT_ROUNDS: usize = 4;

/// Action hooks kept while delivery is behind. Each is the one word on how a transfer ended; more than this means that
/// delivery has stood still for long.
const WAITING_HOOKS_MAX: usize = 1_024;

/// How soon something that waits for room in a ring is tried again. The other worker empties it within a turn.
const RING_RETRY: Duration = Duration::from_millis(1);

/// How soon a hook that waits for delivery is tried again.
const HOOK_RETRY: Duration = Duration::from_millis(20);

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("shard", &self.parts.intake.me())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("shard", &self.intake.me())
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker ready to run.
    pub fn new(parts: Parts) -> Worker {
        Worker {
            parts,
            events: mio::Events::with_capacity(EVENTS_MAX),
            pace: Pace::default(),
            received: 0,
            deferred: Vec::new(),
            waiting_hooks: VecDeque::new(),
            owes_outputs: false,
            draining: false,
            leaving: false,
        }
    }

    /// Works until it is told to stop.
    ///
    /// # Errors
    /// The poll fails, which nothing but a bug or a kernel out of memory makes it do.
    pub fn run(mut self) -> io::Result<()> {
        // Also on the way out of a failed poll or a panic: whoever waits for this worker learns that it is gone.
        let _gone = Gone(Arc::clone(&self.parts.handle.state));
        let mut now = self.parts.clock.now();
        while !self.leaving {
            now = self.poll(now)?;
            self.pace.worked = self.turn(now);
            if self.pace.worked {
                self.parts.publisher.changed();
            }
            self.publish(now, false);
        }
        self.publish(now, true);
        Ok(())
    }

    /// Waits for events, or only looks if there is work. Returns the time at which the new turn begins.
    fn poll(&mut self, now: Instant) -> io::Result<Instant> {
        let mut timeout = Some(Duration::ZERO);
        let nap = self.parts.config.limits.nap;
        let Pace { napped, worked, .. } = self.pace;
        self.pace.naps_pay &= worked || !napped;
        self.pace.napped = false;
        if self.has_work(now) || (worked && self.received >= BUSY) {
            // The next turn begins at once.
        } else if self.pace.naps_pay {
            self.pace.napped = true;
            self.parts.intake.ledger.counters.naps += 1;
            #[expect(
                clippy::disallowed_methods,
                reason = "shorter than what it saves, and every wake-up it saves would be longer"
            )]
            std::thread::sleep(nap);
        } else {
            self.publish(now, true);
            // Whether all is served is asked of a shard that comes to rest only: it may cost a look at many tombstones.
            if self.draining {
                let drained = self.parts.intake.shard.is_idle() && self.waiting_hooks.is_empty();
                self.parts.handle.state.drained.store(drained, Ordering::Relaxed);
            }
            self.parts.doorbell.may_sleep();
            // What came before the announcement rang no bell.
            if self.parts.commands.is_empty() && !self.parts.intake.handoff.has_mail() {
                timeout = self.next_deadline(now).map(|deadline| deadline.since(now));
                self.parts.intake.ledger.counters.sleeps += 1;
            }
        }
        match self.parts.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.parts.doorbell.awake();
        let Parts { udp, tcp, .. } = &mut self.parts;
        for event in &self.events {
            match token::polled(event.token()) {
                Polled::Bell => {}
                Polled::Udp(bind) => udp.on_event(bind, event),
                Polled::Listener(bind) => tcp.on_acceptable(bind),
                Polled::Connection(slot) => tcp.on_event(slot, event),
            }
        }
        let then = self.parts.clock.now();
        if timeout.is_none_or(|timeout| !timeout.is_zero()) {
            self.pace.naps_pay = then.since(now) < nap;
        }
        Ok(then)
    }

    /// Takes a batch of everything and carries out what came of it. Returns whether there was anything.
    fn turn(&mut self, now: Instant) -> bool {
        let Parts {
            intake,
            udp,
            tcp,
            publisher,
            ..
        } = &mut self.parts;
        intake.ledger.now = now;
        intake.ledger.counters.turns += 1;
        // An event alone may close a connection.
        let mut work = !self.events.is_empty();
        if intake.shard.next_timeout().is_some_and(|deadline| deadline <= now) {
            intake.shard.handle_timeout(now);
            publisher.changed();
        }
        work |= udp.take_bounced(intake);
        self.received = udp.receive(intake);
        work |= self.received > 0;
        work |= tcp.accept(intake);
        work |= tcp.read(intake);
        work |= tcp.scan(&mut intake.ledger);
        work |= self.take_parcels();
        work |= self.take_commands();
        self.retry_hooks();
        work |= self.carry_out();
        self.parts.intake.handoff.flush();
        work
    }

    /// Takes what other workers have sent, a bounded number from each.
    fn take_parcels(&mut self) -> bool {
        let Parts { intake, udp, tcp, .. } = &mut self.parts;
        let mut work = false;
        for from in 0..intake.shards() {
            for _ in 0..PARCELS_PER_TURN {
                let Some(parcel) = intake.handoff.receive(from) else {
                    break;
                };
                work = true;
                match parcel {
                    Parcel::Received(letter) => {
                        intake.ledger.counters.handoff_taken += 1;
                        let message = Message::new(&letter.bytes, &letter.index);
                        let input = Input::Received {
                            flow: letter.flow,
                            message,
                            waited: intake.ledger.now.since(letter.arrived),
                        };
                        intake.shard.handle(input, intake.ledger.now);
                        intake.handoff.give_back(from, letter);
                    }
                    Parcel::Write(letter) => {
                        let sent_by = letter.ticket.map(|ticket| (from, ticket));
                        tcp.send(&letter.flow, &letter.bytes, sent_by, &mut intake.ledger);
                        intake.handoff.give_back(from, letter);
                    }
                    Parcel::Failed(ticket) => {
                        intake.ledger.counters.sends_failed += 1;
                        intake.shard.handle(Input::SendFailed { ticket }, intake.ledger.now);
                    }
                    Parcel::Refused(ticket) => {
                        intake.ledger.counters.sends_failed += 1;
                        intake
                            .shard
                            .handle(Input::ConnectionRefused { ticket }, intake.ledger.now);
                    }
                    Parcel::Bounced(bounce) => {
                        let failed = udp.bounced(bounce).map(|ticket| (intake.me(), ticket));
                        intake.ledger.failed.extend(failed);
                    }
                    Parcel::Close(id) => tcp.end(id),
                    Parcel::Inquiry(inquiry) => {
                        intake.shard.handle(Input::Inquiry(*inquiry), intake.ledger.now);
                    }
                    Parcel::News(news) => {
                        intake.shard.handle(Input::Told { news: *news }, intake.ledger.now);
                    }
                }
            }
        }
        work
    }

    fn take_commands(&mut self) -> bool {
        let mut work = false;
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(command) = self.parts.commands.try_recv() else {
                break;
            };
            work = true;
            let Intake { shard, ledger, .. } = &mut self.parts.intake;
            ledger.counters.commands += 1;
            let input = match command {
                WorkerCommand::Command { ticket, command } => Input::Command { ticket, command },
                WorkerCommand::ActionOutcome { subject, outcome } => Input::ActionOutcome { subject, outcome },
                WorkerCommand::Resolved {
                    ticket,
                    addresses,
                    valid_for,
                } => Input::Resolved {
                    ticket,
                    addresses,
                    valid_for,
                },
                WorkerCommand::Drain => {
                    self.draining = true;
                    Input::Drain
                }
                WorkerCommand::Stop => {
                    self.leaving = true;
                    continue;
                }
            };
            shard.handle(input, ledger.now);
        }
        work
    }

    /// Carries out outputs and feeds back what failed, until there is nothing left or the turn has lasted long enough.
    fn carry_out(&mut self) -> bool {
        let mut work = false;
        self.owes_outputs = false;
        for _ in 0..OUTPUT_ROUNDS {
            while let Some(output) = self.parts.intake.shard.poll_output() {
                work = true;
                match output {
                    Output::Send { flow, bytes, ticket } => self.send(&flow, bytes, ticket),
                    Output::Close(id) => {
                        let me = self.parts.intake.me();
                        if id.worker == me {
                            self.parts.tcp.end(id);
                        } else if id.worker < self.parts.intake.shards() {
                            // Lost only if the other worker stands still; its timeouts close the connection then.
                            let _ = self.parts.intake.handoff.post(id.worker, Parcel::Close(id));
                        }
                    }
                    Output::Hook(hook) => self.deliver(hook),
                    Output::Reply { ticket, reply } => self.parts.replies.reply(ticket, reply),
                    Output::Resolve { ticket, name } => {
                        let intake = &mut self.parts.intake;
                        intake.ledger.counters.lookups += 1;
                        if self.parts.resolver.look_up(intake.me(), ticket, name).is_err() {
                            intake.ledger.counters.lookups_refused += 1;
                            self.deferred.push(Deferred::LookupRefused(ticket));
                        }
                    }
                    Output::Tell { to, news } => self.tell(to, news),
                    Output::Inquire { to, inquiry } => {
                        // Lost if the other worker stands still: who asked does not wait for ever.
                        let _ = self.parts.intake.handoff.post(to, Parcel::Inquiry(inquiry));
                    }
                    Output::Event(event) => {
                        let is_taken = self.parts.events.event(event);
                        self.parts.intake.ledger.counters.stream_events_dropped += u64::from(!is_taken);
                    }
                    // There is no store: nothing becomes more durable by waiting.
                    Output::Record { ticket } => self.deferred.push(Deferred::Recorded(ticket)),
                }
            }
            let Parts { intake, udp, tcp, .. } = &mut self.parts;
            udp.flush(intake);
            tcp.flush(&mut intake.ledger);
            intake.shard.end_batch();
            self.sort_failures();
            if self.deferred.is_empty() {
                return work;
            }
            self.feed_deferred();
        }
        self.owes_outputs = true;
        work
    }

    fn send(&mut self, flow: &Flow, bytes: OutRange, ticket: Option<Ticket>) {
        let Parts { intake, udp, tcp, .. } = &mut self.parts;
        match flow.transport {
            Transport::Udp => udp.send(flow, bytes, ticket),
            Transport::Tcp => match flow.connection {
                Some(id) if id.worker != intake.me() && id.worker < intake.shards() => {
                    let mut letter = intake.handoff.letter();
                    letter.fill(*flow, ticket, intake.shard.out_bytes(&bytes));
                    if let Err(Parcel::Write(letter)) = intake.handoff.post(id.worker, Parcel::Write(letter)) {
                        intake.handoff.keep(letter);
                        intake.ledger.counters.handoff_dropped += 1;
                        intake.ledger.failed.extend(ticket.map(|ticket| (intake.me(), ticket)));
                    }
                }
                Some(_) | None => {
                    let sent_by = ticket.map(|ticket| (intake.me(), ticket));
                    tcp.send(flow, intake.shard.out_bytes(&bytes), sent_by, &mut intake.ledger);
                }
            },
        }
    }

    /// Gives news to the workers they are for, and writes down what is new in them.
    fn tell(&mut self, to: Option<u16>, news: News) {
        let trunk = self.parts.config.trunk(news.at().trunk);
        let name = &trunk.name;
        if let Some(address) = trunk.addresses.get(usize::from(news.at().address)) {
            match news {
                News::Standing {
                    standing,
                    changed: true,
                    ..
                } => tracing::info!(trunk = name, %address, state = standing.state.word(), "an address has changed"),
                News::Wait {
                    until, opened: true, ..
                } => {
                    let seconds = until.since(self.parts.intake.ledger.now).as_secs();
                    tracing::info!(trunk = name, %address, seconds, "an address wants no requests (503, Retry-After)");
                }
                News::Standing { .. } | News::Wait { .. } | News::Seen { .. } => {}
            }
        }
        let intake = &mut self.parts.intake;
        for shard in 0..intake.shards() {
            if shard != intake.me() && to.is_none_or(|to| to == shard) {
                // Lost only if the other worker stands still.
                let _ = intake.handoff.post(shard, Parcel::News(Box::new(news)));
            }
        }
    }

    /// Hands a hook to delivery. One that finds it behind: an event is dropped, an action waits a while.
    fn deliver(&mut self, hook: Box<Hook>) {
        if let Err(refused) = self.parts.hooks.try_send(hook) {
            let is_full = matches!(refused, TrySendError::Full(_));
            let hook = refused.into_inner();
            match hook.kind {
                HookKind::Event => self.parts.intake.ledger.counters.event_hooks_dropped += 1,
                HookKind::Action if is_full && self.waiting_hooks.len() < WAITING_HOOKS_MAX => {
                    self.waiting_hooks.push_back(hook);
                }
                // A question cannot wait: its caller does.
                HookKind::Action | HookKind::Question => {
                    self.parts.intake.ledger.counters.action_hooks_dropped += 1;
                    self.deferred.push(Deferred::ActionFailed(hook.subject));
                }
            }
        }
    }

    fn retry_hooks(&mut self) {
        while let Some(hook) = self.waiting_hooks.pop_front() {
            if let Err(refused) = self.parts.hooks.try_send(hook) {
                self.waiting_hooks.push_front(refused.into_inner());
                return;
            }
        }
    }

    /// Tells every shard which of its sends failed: ours in this turn, others by parcel.
    fn sort_failures(&mut self) {
        let intake = &mut self.parts.intake;
        let me = intake.me();
        for (shard, ticket) in intake.ledger.failed.drain(..) {
            if shard == me {
                intake.ledger.counters.sends_failed += 1;
                self.deferred.push(Deferred::SendFailed(ticket));
            } else {
                // Lost only if the other worker stands still: its timers find out as well.
                let _ = intake.handoff.post(shard, Parcel::Failed(ticket));
            }
        }
        for (shard, ticket) in intake.ledger.refused.drain(..) {
            if shard == me {
                intake.ledger.counters.sends_failed += 1;
                self.deferred.push(Deferred::ConnectionRefused(ticket));
            } else {
                let _ = intake.handoff.post(shard, Parcel::Refused(ticket));
            }
        }
    }

    fn feed_deferred(&mut self) {
        let Intake { shard, ledger, .. } = &mut self.parts.intake;
        for deferred in self.deferred.drain(..) {
            let input = match deferred {
                Deferred::SendFailed(ticket) => Input::SendFailed { ticket },
                Deferred::ConnectionRefused(ticket) => Input::ConnectionRefused { ticket },
                Deferred::LookupRefused(ticket) => Input::Resolved {
                    ticket,
                    addresses: Vec::new(),
                    valid_for: FAILURE_VALID_FOR,
                },
                Deferred::Recorded(ticket) => Input::Recorded { ticket },
                Deferred::ActionFailed(subject) => Input::ActionOutcome {
                    subject,
                    outcome: ActionOutcome::Failed,
                },
            };
            shard.handle(input, ledger.now);
        }
    }

    /// Whether the last turn left something over that needs no event to go on.
    fn has_work(&self, now: Instant) -> bool {
        self.parts.udp.may_read() || self.parts.tcp.has_work(now) || self.owes_outputs
    }

    /// When to look again though nothing happens; `None`: no timer runs.
    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let ring = self.parts.intake.handoff.has_waiting().then(|| now + RING_RETRY);
        let hook = (!self.waiting_hooks.is_empty()).then(|| now + HOOK_RETRY);
        let shard = self.parts.intake.shard.next_timeout();
        let tcp = self.parts.tcp.next_deadline(now);
        [shard, tcp, ring, hook].into_iter().flatten().min()
    }

    fn publish(&mut self, now: Instant, at_rest: bool) {
        let Parts {
            intake, udp, publisher, ..
        } = &mut self.parts;
        if publisher.is_due(now, at_rest) {
            udp.count_kernel_drops(&mut intake.ledger.counters);
            publisher.publish(now, &intake.shard.counters(), &intake.ledger.counters);
        }
    }
}

/// Says that a worker has left when it is dropped.
struct Gone(Arc<State>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.drained.store(true, Ordering::Relaxed);
        self.0.left.store(true, Ordering::Relaxed);
    }
}
