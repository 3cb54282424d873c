//! Everything that touches the operating system: threads, sockets, the clock, randomness, name lookups, HTTP.
//!
//! The core is a pure machine; here one thread per shard drives it. A [`worker`] polls its sockets, feeds what arrived to
//! its shard, carries out what the shard asks for, and sleeps until the shard's next deadline.
//!
//! [`run`] is the whole process; [`start`] the same for a test or a demonstration, without signals.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the layer that owns clock, sockets and threads; the ban is meant for the core"
)]

pub mod clock;
pub mod control;
pub mod counters;
pub mod deliver;
pub mod handoff;
pub mod intake;
pub mod resolve;
pub mod stamp;
pub mod tcp;
pub mod token;
pub mod udp;
pub mod worker;

use crate::config::{Bind, Config, DialogSecret, SHARDS_MAX, Trunk};
use crate::identifiers::{Random, Secret};
use crate::shard::{Setup, Shard};
use crate::transport::{Locals, Transport};
use crate::usage::Usage;
use clock::Clock;
use control::{Control, Replies};
use counters::Exporter;
use crossbeam::channel::{Receiver, Sender, bounded};
use deliver::Deliverer;
use handoff::{Doorbell, Handoff};
use intake::Intake;
use resolve::Resolver;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tcp::Tcp;
use tokio::signal::unix::{SignalKind, signal};
use udp::Udp;
use worker::{EventSink, Parts, ReplySink, Worker, WorkerCommand, WorkerHandle, Workers};

/// How long a drain waits for calls to end. Calls last minutes; whoever wants them all served waits outside for
/// `referee_calls` to reach zero before sending the signal.
pub const DRAIN_MAX: Duration = Duration::from_secs(30);

/// How long hooks are still delivered once the workers have stopped.
pub const FLUSH_HOOKS_MAX: Duration = Duration::from_secs(10);

/// How often a drain looks whether all shards are idle.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// How often it is looked whether a worker has failed.
const FAILURE_POLL: Duration = Duration::from_secs(1);

/// Commands waiting for one worker. Beyond it the control API says 503, and a resolver waits.
const COMMANDS_MAX: usize = 1_024;

/// How long delivery waits for room to tell a worker what an action came to.
const OUTCOME_WAIT: Duration = Duration::from_millis(100);

/// Why a process cannot start or go on.
#[derive(Debug)]
pub enum RunError {
    /// An address cannot be bound. `what`: `udp`, `tcp` or `control`.
    Bind {
        what: &'static str,
        address: SocketAddr,
        error: io::Error,
    },
    /// The configuration asks for something that cannot be.
    Config(String),
    /// The operating system refuses a thread, a queue or randomness; or a worker failed.
    Other(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Bind { what, address, error } => write!(f, "cannot bind {what}:{address}: {error}"),
            RunError::Config(problem) => f.write_str(problem),
            RunError::Other(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Bind { error, .. } | RunError::Other(error) => Some(error),
            RunError::Config(_) => None,
        }
    }
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> RunError {
        RunError::Other(error)
    }
}

/// Runs until SIGTERM or SIGINT, then drains for at most [`DRAIN_MAX`] and leaves; a second signal makes it leave at once.
///
/// # Errors
/// [`RunError`], before anything was served or when a worker failed.
pub fn run(config: Config) -> Result<(), RunError> {
    // Signals go to this thread alone; it waits for nothing else.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = start(config)?;
        let mut poll = tokio::time::interval(FAILURE_POLL);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                // A worker that has left by itself has failed: half a proxy is worse than none.
                _ = poll.tick() => if running.has_failed() {
                    return running.finish(Duration::ZERO);
                },
            }
        }
        tracing::info!(seconds = DRAIN_MAX.as_secs(), "draining: new calls are refused");
        running.drain();
        let mut poll = tokio::time::interval(DRAIN_POLL);
        let stop_at = tokio::time::sleep(DRAIN_MAX);
        tokio::pin!(stop_at);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = &mut stop_at => {
                    tracing::warn!("calls are still alive at the end of the drain");
                    break;
                }
                _ = poll.tick() => if running.is_drained() {
                    break;
                },
            }
        }
        running.finish(FLUSH_HOOKS_MAX)
    })
}

/// A started process. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    binds: Vec<Bind>,
    workers: Arc<Workers>,
    counters: Arc<Exporter>,
    control: Option<Control>,
    deliverer: Option<Deliverer>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    resolver: Option<JoinHandle<()>>,
}

/// Starts workers, delivery and control, and returns when all addresses are bound and served.
///
/// # Errors
/// [`RunError`]; nothing is left running then.
pub fn start(mut config: Config) -> Result<Running, RunError> {
    check(&config)?;
    let clock = Clock::start();
    let shards = shard_count(&config)?;
    let sockets = bind(&mut config, shards)?;
    for bind in 0..config.binds.len() {
        if config.binds[bind].advertise.is_none() && config.binds[bind].address.ip().is_unspecified() {
            let address = outgoing_address(&config.binds[bind], &config.trunks);
            config.binds[bind].advertise = Some(address);
        }
    }
    let secret = match config.access.dialog_secret {
        Some(DialogSecret(secret)) => Secret(secret),
        None => Secret(clock::random_bytes()?),
    };
    let polls = (0..shards).map(|_| mio::Poll::new()).collect::<io::Result<Vec<_>>>()?;
    let doorbells = polls
        .iter()
        .map(|poll| Doorbell::new(poll, token::BELL).map(Arc::new))
        .collect::<io::Result<Vec<_>>>()?;
    let (commands, taken): (Vec<Sender<_>>, Vec<Receiver<_>>) = (0..shards).map(|_| bounded(COMMANDS_MAX)).unzip();
    let handles = commands.into_iter().zip(&doorbells);
    let handles: Vec<_> = handles
        .map(|(commands, bell)| WorkerHandle::new(commands, Arc::clone(bell)))
        .collect();
    let workers = Arc::new(Workers::new(handles, secret));
    let (counters, publishers) = Exporter::new(shards);

    let config = Arc::new(config);
    let usage = Arc::new(Usage::new(&config));
    let locals = Arc::new(Locals::default());
    let replies = Replies::new();
    let (resolver, resolver_thread) = Resolver::start(config.limits.lookups_max, Arc::clone(&workers))?;
    let deliverer = start_delivery(&config, &workers)?;
    let mut running = Running {
        binds: config.binds.clone(),
        workers: Arc::clone(&workers),
        counters,
        control: None,
        deliverer: Some(deliverer),
        threads: Vec::new(),
        resolver: Some(resolver_thread),
    };
    let (events, heard) = control::events(&config.control);
    running.control = start_control(&config, &usage, &running, &replies, heard)?;

    let rings = Handoff::mesh(&doorbells, config.limits.handoff_max);
    let udp_seed = Random::new(clock::random_bytes()?).next_u64();
    let parts = sockets
        .into_iter()
        .zip(polls)
        .zip(doorbells)
        .zip(taken)
        .zip(rings)
        .zip(publishers);
    for (shard, (((((sockets, poll), doorbell), commands), rings), publisher)) in parts.enumerate() {
        let shard = shard as u16;
        let setup = Setup {
            config: Arc::clone(&config),
            shard,
            shards,
            secret,
            seed: clock::random_bytes()?,
            wall_clock_at_start: clock.wall_clock_at_start(),
            records: false,
            usage: Arc::clone(&usage),
            locals: Arc::clone(&locals),
        };
        let mut random = Random::new(clock::random_bytes()?);
        let bounced_rate = config.limits.bounced_rate;
        let (udp, listeners) = sockets;
        let local = config.binds.iter().map(|bind| bind.address.ip()).collect();
        let worker = Worker::new(Parts {
            clock,
            doorbell,
            intake: Intake::new(Shard::new(setup), rings, (shard, shards), secret, bounced_rate, clock),
            udp: Udp::new(udp, poll.registry(), udp_seed, Arc::clone(&locals))?,
            tcp: Tcp::new(
                shard,
                config.limits,
                local,
                listeners,
                poll.registry().try_clone()?,
                &mut random,
            )?,
            poll,
            handle: workers.all()[usize::from(shard)].clone(),
            commands,
            hooks: running.hooks(),
            replies: Arc::new(replies.clone()),
            events: Arc::new(events.clone()),
            resolver: resolver.clone(),
            publisher,
            config: Arc::clone(&config),
        });
        let thread = std::thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || worker.run())?;
        running.threads.push(thread);
    }
    if let Some(control) = &running.control {
        control.set_ready();
        tracing::info!(address = %control.address(), "control API");
    }
    for bind in &running.binds {
        let (listen, transport, address) = (&bind.listen, bind.transport, bind.address);
        tracing::info!(listen, %transport, %address, advertise = bind.sent_by_host(), "listening");
    }
    tracing::info!(shards, "started");
    Ok(running)
}

impl Running {
    /// The bound addresses, in the order of the configuration; a port 0 is the real one here.
    pub fn addresses(&self) -> &[Bind] {
        &self.binds
    }

    /// Where the control API listens, if it does.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control.as_ref().map(Control::address)
    }

    /// What the workers have counted; at most 100 ms old.
    pub fn counters(&self) -> &Arc<Exporter> {
        &self.counters
    }

    /// The workers, for whoever speaks to shards directly.
    pub fn workers(&self) -> &Arc<Workers> {
        &self.workers
    }

    /// From now on new calls are refused; calls in progress are served.
    pub fn drain(&self) {
        if let Some(control) = &self.control {
            control.set_draining();
        }
        self.tell_all(|| WorkerCommand::Drain);
    }

    /// Whether nothing is alive any more after [`drain`](Running::drain).
    pub fn is_drained(&self) -> bool {
        self.workers.all().iter().all(WorkerHandle::is_drained)
    }

    /// Whether a worker has left though nobody told it to.
    pub fn has_failed(&self) -> bool {
        self.workers.all().iter().any(WorkerHandle::has_left)
    }

    /// Stops at once: calls are left as they are, hooks that were not delivered are dropped.
    pub fn stop(self) {
        if let Err(error) = self.finish(Duration::ZERO) {
            tracing::error!(%error, "a worker had failed");
        }
    }

    /// Stops the workers, goes on delivering hooks for at most `flush_hooks_for`, then stops everything.
    ///
    /// # Errors
    /// What a worker had failed with.
    pub fn finish(mut self, flush_hooks_for: Duration) -> Result<(), RunError> {
        self.end(flush_hooks_for)
    }

    fn end(&mut self, flush_hooks_for: Duration) -> Result<(), RunError> {
        let mut result = Ok(());
        if self.threads.is_empty() && self.resolver.is_none() {
            return result;
        }
        self.tell_all(|| WorkerCommand::Stop);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(RunError::Other(error)),
                Err(_) => result = Err(RunError::Other(io::Error::other("a worker panicked"))),
            }
        }
        if let Some(deliverer) = self.deliverer.take() {
            let undelivered = deliverer.stop(flush_hooks_for);
            if undelivered > 0 {
                tracing::warn!(undelivered, "hooks were not delivered");
            }
        }
        if let Some(control) = self.control.take() {
            control.stop();
        }
        // It ended with the workers, the last that could ask it.
        if let Some(resolver) = self.resolver.take()
            && resolver.join().is_err()
        {
            tracing::error!("the resolver panicked");
        }
        tracing::info!("stopped");
        result
    }

    fn tell_all(&self, command: impl Fn() -> WorkerCommand) {
        for worker in self.workers.all() {
            // A worker whose queue stays full for a second stands still, and one that has left needs no telling.
            let told = worker.send_within(command(), Duration::from_secs(1));
            if told.is_err() && !worker.has_left() {
                tracing::error!("a worker takes no commands");
            }
        }
    }

    fn hooks(&self) -> Sender<Box<crate::webhook::Hook>> {
        match &self.deliverer {
            Some(deliverer) => deliverer.sender(),
            None => unreachable!("delivery is there from the start to the end"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end(Duration::ZERO) {
            tracing::error!(%error, "a worker had failed");
        }
    }
}

impl ReplySink for Replies {
    fn reply(&self, ticket: u64, reply: crate::command::Reply) {
        Replies::reply(self, ticket, reply);
    }
}

impl EventSink for control::Events {
    fn event(&self, event: Box<crate::event::Event>) -> bool {
        control::Events::tell(self, event)
    }
}

impl control::Shards for Workers {
    fn count(&self) -> u16 {
        self.shards()
    }

    fn owner(&self, sip_call_id: &[u8]) -> u16 {
        self.owner_number(sip_call_id)
    }

    fn send(&self, shard: u16, ticket: u64, command: crate::command::Command) -> Result<(), control::Busy> {
        let worker = self.shard(shard).ok_or(control::Busy)?;
        worker
            .send(WorkerCommand::Command { ticket, command })
            .map_err(|_| control::Busy)
    }
}

fn start_delivery(config: &Config, workers: &Arc<Workers>) -> Result<Deliverer, RunError> {
    let workers = Arc::clone(workers);
    let report = Box::new(move |subject: crate::webhook::Subject, outcome| {
        let Some(worker) = workers.shard(subject.shard()) else {
            return;
        };
        let told = worker.send_within(WorkerCommand::ActionOutcome { subject, outcome }, OUTCOME_WAIT);
        if told.is_err() && !worker.has_left() {
            tracing::warn!(%subject, "a worker takes no commands: it will not learn what an action came to");
        }
    });
    Ok(Deliverer::start(&config.hooks, clock::random_bytes()?, report)?)
}

fn start_control(
    config: &Arc<Config>,
    usage: &Arc<Usage>,
    running: &Running,
    replies: &Replies,
    heard: control::Heard,
) -> Result<Option<Control>, RunError> {
    let Some(address) = config.control.listen else {
        return Ok(None);
    };
    let counters = Arc::clone(&running.counters);
    let shards: Arc<dyn control::Shards> = Arc::<Workers>::clone(&running.workers);
    let hooks = running.deliverer.as_ref().map(Deliverer::counters_reader);
    let (with_names, usage) = (Arc::clone(config), Arc::clone(usage));
    let metrics = move || {
        let hooks = hooks.as_ref().map(|read| counters::hooks_text(&read()));
        counters.text() + &counters::trunks_text(&with_names, &usage) + &hooks.unwrap_or_default()
    };
    let started = Control::start(&config.control, shards, replies.clone(), heard, Arc::new(metrics));
    match started {
        Ok(control) => Ok(Some(control)),
        Err(error) => Err(RunError::Bind {
            what: "control",
            address,
            error,
        }),
    }
}

fn check(config: &Config) -> Result<(), RunError> {
    let problem = if config.binds.is_empty() {
        Some("there is no address to listen on".to_owned())
    } else if config.binds.len() > token::BINDS_MAX {
        Some(format!("more than {} addresses to listen on", token::BINDS_MAX))
    } else {
        config.control.problem()
    };
    problem.map_or(Ok(()), |problem| Err(RunError::Config(problem)))
}

fn shard_count(config: &Config) -> Result<u16, RunError> {
    let shards = match config.shards {
        Some(shards) => shards,
        None => std::thread::available_parallelism()?
            .get()
            .try_into()
            .unwrap_or(u16::MAX),
    };
    Ok(shards.clamp(1, SHARDS_MAX))
}

/// One worker's sockets, a place for each bind.
type Sockets = (Vec<Option<UdpSocket>>, Vec<Option<std::net::TcpListener>>);

/// Binds every address once for each of `shards` workers, and writes the real ports into the configuration.
fn bind(config: &mut Config, shards: u16) -> Result<Vec<Sockets>, RunError> {
    let mut sockets: Vec<Sockets> = (0..shards).map(|_| (Vec::new(), Vec::new())).collect();
    let shared = shards > 1;
    for at in 0..config.binds.len() {
        let wanted = config.binds[at].clone();
        // UDP and TCP of one listener that may have any port share one, as they do at 5060: then one address names both.
        let twin = config.binds[..at]
            .iter()
            .find(|other| other.listen == wanted.listen && other.transport != wanted.transport)
            .filter(|other| wanted.address.port() == 0 && other.address.ip() == wanted.address.ip())
            .map(|other| other.address);
        let first = match twin.map(|address| open(wanted.transport, address, shared)) {
            Some(Ok(socket)) => socket,
            Some(Err(_)) | None => open(wanted.transport, wanted.address, shared).map_err(|error| RunError::Bind {
                what: wanted.transport.uri_value(),
                address: wanted.address,
                error,
            })?,
        };
        let address = first.address()?;
        config.binds[at].address = address;
        first.put_into(&mut sockets[0]);
        for sockets in &mut sockets[1..] {
            let socket = Socket::open(wanted.transport, address, true).map_err(|error| RunError::Bind {
                what: wanted.transport.uri_value(),
                address,
                error,
            })?;
            socket.put_into(sockets);
        }
    }
    Ok(sockets)
}

/// Opens the first socket of an address. Where it is shared between workers, another process of the same user could share
/// it as well, in silence, and each would see a part of the messages: so it is first tried alone.
fn open(transport: Transport, address: SocketAddr, shared: bool) -> io::Result<Socket> {
    if shared && address.port() != 0 {
        drop(Socket::open(transport, address, false)?);
    }
    Socket::open(transport, address, shared)
}

enum Socket {
    Udp(UdpSocket),
    Tcp(std::net::TcpListener),
}

impl Socket {
    fn open(transport: Transport, address: SocketAddr, shared: bool) -> io::Result<Socket> {
        match transport {
            Transport::Udp => udp::open(address, shared).map(Socket::Udp),
            Transport::Tcp => tcp::open(address, shared).map(Socket::Tcp),
        }
    }

    fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Udp(socket) => socket.local_addr(),
            Socket::Tcp(socket) => socket.local_addr(),
        }
    }

    fn put_into(self, sockets: &mut Sockets) {
        let (udp, tcp) = match self {
            Socket::Udp(socket) => (Some(socket), None),
            Socket::Tcp(socket) => (None, Some(socket)),
        };
        sockets.0.push(udp);
        sockets.1.push(tcp);
    }
}

/// What a wildcard bind says it is: the address that the route to its first trunk leaves by, else the default route.
/// Connecting a UDP socket asks the routing table and sends nothing.
fn outgoing_address(bind: &Bind, trunks: &[Trunk]) -> String {
    let v4 = bind.address.is_ipv4();
    let trunk = trunks
        .iter()
        .filter(|trunk| trunk.listen == bind.listen)
        .flat_map(|trunk| &trunk.addresses)
        .find_map(|address| address.host.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == v4));
    // RFC 5737 and RFC 3849: addresses for documentation, which only a default route leads to.
    let anywhere: IpAddr = if v4 {
        Ipv4Addr::new(192, 0, 2, 1).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
    };
    let route = |to: IpAddr| -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((bind.address.ip(), 0))?;
        socket.connect((to, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    let found = trunk.into_iter().chain([anywhere]).find_map(|to| route(to).ok());
    match found {
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => format!("[{ip}]"),
        None if v4 => Ipv4Addr::LOCALHOST.to_string(),
        None => format!("[{}]", Ipv6Addr::LOCALHOST),
    }
}
