//! Delivers hooks: the sockets, threads and clock around [`Lanes`], which decides what goes when.
//!
//! ```text
//!  shards ──► hooks ──► dispatcher (owns Lanes) ──► job ──► sender threads, each with an agent of its own ──► HTTP
//!                         │      ▲                                │
//!                reports ◄┘      └──────────── outcomes ──────────┘
//! ```
//!
//! Senders are started when all others are busy, so a quiet process has one. A job goes to the sender that last spoke to
//! its endpoint if that one is free: its connection is still open.

mod resolve;

use crate::config::Hooks;
use crate::identifiers::Random;
use crate::timer;
use crate::webhook::{ActionOutcome, Counters, Failure, Hook, Job, JobId, Lanes, Outcome, Subject};
use crossbeam::channel::{Receiver, Sender, bounded, never, select, unbounded};
use resolve::CachingResolver;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use ureq::Agent;
use ureq::config::AutoHeaderValue;
use ureq::unversioned::transport::DefaultConnector;

/// Where the outcome of an action's or a question's first attempt goes. The dispatcher waits for it: it must not take long.
pub type ReportFn = Box<dyn Fn(Subject, ActionOutcome) + Send>;

/// Running delivery. Dropping it ends delivery at once; [`Deliverer::stop`] delivers what is left first.
#[derive(Debug)]
pub struct Deliverer {
    hooks: Sender<Box<Hook>>,
    stop: Sender<Duration>,
    counters: Arc<Mutex<Counters>>,
    dispatcher: JoinHandle<u64>,
}

impl Deliverer {
    /// Starts the dispatcher. `seed`: unpredictable bytes, for jitter and hash keys.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(config: &Hooks, seed: [u8; 16], report: ReportFn) -> io::Result<Deliverer> {
        let (hooks, hooks_in) = bounded(config.queue_max.clamp(1, HANDOFF_MAX));
        let (stop, stop_in) = bounded(1);
        let (outcomes, outcomes_in) = unbounded();
        let counters = Arc::new(Mutex::new(Counters::default()));
        let dispatcher = Dispatcher {
            lanes: Lanes::new(config, Random::new(seed)),
            started: Instant::now(),
            hooks: hooks_in,
            stop: stop_in,
            stop_at: None,
            outcomes: outcomes_in,
            senders: Senders {
                config: config.clone(),
                resolver: CachingResolver::default(),
                running: Vec::new(),
                idle: Vec::new(),
                outcomes,
            },
            counters: Arc::clone(&counters),
            report,
        };
        let dispatcher = thread::Builder::new()
            .name("hooks".to_owned())
            .spawn(move || dispatcher.run())?;
        Ok(Deliverer {
            hooks,
            stop,
            counters,
            dispatcher,
        })
    }

    /// Where shards put hooks. Bounded: a shard uses `try_send` and never waits; if it is full, an action counts as
    /// [`ActionOutcome::Failed`].
    pub fn sender(&self) -> Sender<Box<Hook>> {
        self.hooks.clone()
    }

    /// As of the dispatcher's last turn.
    pub fn counters(&self) -> Counters {
        self.counters_reader()()
    }

    /// Reads the counters for whoever outlives this handle.
    pub fn counters_reader(&self) -> impl Fn() -> Counters + Send + Sync + use<> {
        let counters = Arc::clone(&self.counters);
        move || *counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on for at most `flush_for` to deliver what is held, then breaks off what is under way. Returns how many hooks
    /// were not delivered.
    pub fn stop(self, flush_for: Duration) -> u64 {
        // Fails only if the dispatcher is gone, and then there is nothing to stop.
        let _ = self.stop.send(flush_for);
        self.dispatcher.join().unwrap_or(0)
    }
}

struct Dispatcher {
    lanes: Lanes,
    started: Instant,
    hooks: Receiver<Box<Hook>>,
    stop: Receiver<Duration>,
    stop_at: Option<timer::Instant>,
    outcomes: Receiver<(usize, JobId, Outcome)>,
    senders: Senders,
    counters: Arc<Mutex<Counters>>,
    report: ReportFn,
}

impl Dispatcher {
    fn run(mut self) -> u64 {
        loop {
            let now = self.now();
            self.lanes.handle_timeout(now);
            while let Some(job) = self.lanes.poll_job(now) {
                if let Err(job) = self.senders.assign(job) {
                    // No thread to be had. The machine's own retries are the right pace to ask again.
                    self.lanes.finished(job.id, Outcome::Failed(Failure::Broken), now);
                }
            }
            while let Some(report) = self.lanes.poll_report() {
                (self.report)(report.subject, report.outcome);
            }
            *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = self.lanes.counters();
            let flushed = self.lanes.is_idle() && self.hooks.is_empty();
            if self.stop_at.is_some_and(|at| flushed || at <= now) {
                break;
            }
            self.wait(now);
        }
        self.senders.shut_down();
        self.lanes.counters().held + self.hooks.len() as u64
    }

    /// Waits for a hook, an outcome, the word to stop or the next deadline, then takes what else is there.
    fn wait(&mut self, now: timer::Instant) {
        let deadline = [self.lanes.next_deadline(), self.stop_at].into_iter().flatten().min();
        let patience = deadline.map_or(Duration::from_secs(3600), |at| at.since(now));
        // Once told, it is not told again; a disconnected channel would be ready for ever.
        let never_again = never();
        let stop = if self.stop_at.is_some() {
            &never_again
        } else {
            &self.stop
        };
        select! {
            recv(self.hooks) -> hook => if let Ok(hook) = hook {
                let now = self.now();
                self.lanes.submit(*hook, now);
            },
            recv(self.outcomes) -> outcome => if let Ok(outcome) = outcome {
                self.on_outcome(outcome);
            },
            recv(stop) -> flush_for => {
                // Disconnected: nobody waits for a flush.
                let flush_for = flush_for.unwrap_or(Duration::ZERO);
                self.stop_at = Some(self.now() + flush_for);
            },
            default(patience) => return,
        }
        // Bounded, so that neither a flood of hooks nor one of outcomes keeps jobs and reports waiting.
        for _ in 0..BATCH_MAX {
            let Ok(outcome) = self.outcomes.try_recv() else { break };
            self.on_outcome(outcome);
        }
        for _ in 0..BATCH_MAX {
            let Ok(hook) = self.hooks.try_recv() else { break };
            let now = self.now();
            self.lanes.submit(*hook, now);
        }
    }

    fn on_outcome(&mut self, (sender, job, outcome): (usize, JobId, Outcome)) {
        self.senders.idle.push(sender);
        let now = self.now();
        self.lanes.finished(job, outcome, now);
    }

    fn now(&self) -> timer::Instant {
        timer::Instant::START + self.started.elapsed()
    }
}

/// The sender threads.
struct Senders {
    config: Hooks,
    resolver: CachingResolver,
    running: Vec<Running>,
    /// Indices into `running`, the one that was busy last at the end.
    idle: Vec<usize>,
    outcomes: Sender<(usize, JobId, Outcome)>,
}

struct Running {
    jobs: Sender<Job>,
    agent: Agent,
    /// What it last spoke to ([`Job::endpoint`]).
    endpoint: usize,
}

impl Senders {
    /// Gives the job to a sender that is free, or starts one.
    fn assign(&mut self, job: Job) -> Result<(), Job> {
        let endpoint = job.endpoint();
        let acquainted = self
            .idle
            .iter()
            .rposition(|&index| self.running[index].endpoint == endpoint);
        let index = match acquainted {
            Some(position) => self.idle.remove(position),
            None => match self.idle.pop() {
                Some(index) => index,
                None => match self.start() {
                    Ok(index) => index,
                    Err(error) => {
                        tracing::error!(%error, "no thread to send hooks");
                        return Err(job);
                    }
                },
            },
        };
        self.running[index].endpoint = endpoint;
        // Room for one, and it is idle: this neither waits nor fails while the sender lives.
        self.running[index].jobs.send(job).map_err(|unsent| unsent.0)
    }

    fn start(&mut self) -> io::Result<usize> {
        let index = self.running.len();
        let agent = agent(&self.config, self.resolver.clone());
        let (jobs, jobs_in) = bounded(1);
        let sender = HookSender {
            index,
            agent: agent.clone(),
            timeout: self.config.timeout,
            jobs: jobs_in,
            outcomes: self.outcomes.clone(),
        };
        thread::Builder::new()
            .name(format!("hooks-{index}"))
            .spawn(move || sender.run())?;
        self.running.push(Running {
            jobs,
            agent,
            endpoint: usize::MAX,
        });
        Ok(index)
    }

    /// Breaks off what is under way. Threads end by themselves when their channel is gone; they are not waited for, since
    /// a name lookup cannot be broken off.
    fn shut_down(self) {
        for running in self.running {
            running.agent.shutdown();
        }
    }
}

fn agent(config: &Hooks, resolver: CachingResolver) -> Agent {
    let ureq_config = Agent::config_builder()
        .http_status_as_error(false)
        // A reply must not direct a request with signature and credentials to somewhere else.
        .max_redirects(0)
        .max_redirects_will_error(false)
        // The environment is not configuration: a proxy would have to be a key of its own.
        .proxy(None)
        .user_agent(concat!("referee/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .accept_encoding(AutoHeaderValue::None)
        // No `timeout_global`: measured, it costs more than half of the throughput.
        .timeout_connect(Some(CONNECT_TIMEOUT.min(config.timeout)))
        .timeout_recv_response(Some(config.timeout))
        .timeout_per_call(Some(config.timeout))
        // The defaults are 128 KiB each, per connection.
        .input_buffer_size(8 * 1024)
        .output_buffer_size(8 * 1024)
        .max_response_header_size(16 * 1024)
        // One sender has one request under way.
        .max_idle_connections(8)
        .max_idle_connections_per_host(1)
        // Below the 5 s after which Node.js and others close an idle connection.
        .max_idle_age(Duration::from_secs(4))
        .build();
    Agent::with_parts(ureq_config, DefaultConnector::default(), resolver)
}

/// One sender thread.
struct HookSender {
    index: usize,
    agent: Agent,
    /// The agent's own.
    timeout: Duration,
    jobs: Receiver<Job>,
    outcomes: Sender<(usize, JobId, Outcome)>,
}

impl HookSender {
    fn run(self) {
        while let Ok(job) = self.jobs.recv() {
            let begun = Instant::now();
            let mut result = self.post(&job);
            // The peer may close a kept connection just as it is used again. Only a new connection tells whether it is
            // there, and the first attempt of an action decides what its call does next.
            if let Err(ureq::Error::Io(error)) = &result
                && is_closed_by_peer(error)
                && begun.elapsed() < STALE_CONNECTION_WITHIN
            {
                result = self.post(&job);
            }
            let outcome = result.unwrap_or_else(|error| {
                // The error's text may quote the URL, and that a token.
                let failure = failure_of(&error);
                tracing::debug!(subject = %job.subject(), attempt = job.attempt, ?failure, "hook not delivered");
                Outcome::Failed(failure)
            });
            if self.outcomes.send((self.index, job.id, outcome)).is_err() {
                return;
            }
        }
    }

    fn post(&self, job: &Job) -> Result<Outcome, ureq::Error> {
        // Before 1970 there is no Unix time; a clock set so wrong fails the receiver's check anyway.
        let unix_seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut request = self.agent.post(job.url());
        let timeout = job.settings().timeout;
        if timeout != self.timeout {
            let timeout = Some(timeout);
            request = request
                .config()
                .timeout_connect(timeout.min(Some(CONNECT_TIMEOUT)))
                .timeout_recv_response(timeout)
                .timeout_per_call(timeout)
                .build();
        }
        for (name, value) in job.headers(unix_seconds) {
            request = request.header(name, value);
        }
        let mut response = request.send(job.body())?;
        let status = response.status().as_u16();
        let retry_after = header(&response, "retry-after")
            .and_then(|value| value.trim().parse().ok())
            .map(Duration::from_secs);
        let is_json = header(&response, "content-type").is_some_and(is_json);
        let wanted = job.wants_reply() && is_json && matches!(status, 200..=299);
        let mut body = Vec::new();
        // Read even if not wanted: a connection with an unread body cannot be used again.
        let read = response
            .body_mut()
            .as_reader()
            .take(REPLY_BYTES_MAX + 1)
            .read_to_end(&mut body);
        let reply = match read {
            Ok(_) if wanted && body.len() as u64 <= REPLY_BYTES_MAX => serde_json::from_slice(&body).ok(),
            Ok(_) => None,
            Err(error) if wanted => return Err(error.into()),
            Err(_) => None,
        };
        Ok(Outcome::Answered {
            status,
            retry_after,
            reply: reply.filter(serde_json::Value::is_array),
        })
    }
}

fn header<'a>(response: &'a ureq::http::Response<ureq::Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

fn failure_of(error: &ureq::Error) -> Failure {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed => Failure::Connect,
        ureq::Error::Timeout(_) => Failure::Timeout,
        ureq::Error::Io(error) => match error.kind() {
            ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable => Failure::Connect,
            TimedOut => Failure::Timeout,
            _ => Failure::Broken,
        },
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Unsendable,
        _ => Failure::Broken,
    }
}

/// Hooks on the way from shards to the dispatcher, which takes them as fast as they come.
const HANDOFF_MAX: usize = 16_384;

/// Hooks, and outcomes, taken per turn of the dispatcher.
const BATCH_MAX: usize = 256;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that breaks this soon was likely stale.
const STALE_CONNECTION_WITHIN: Duration = Duration::from_secs(1);

/// An array of verbs is a few hundred bytes.
const REPLY_BYTES_MAX: u64 = 64 * 1024;
