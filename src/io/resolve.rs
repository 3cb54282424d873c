//! Name lookups: A and AAAA records, off the workers' threads.
//!
//! Shards ask by message and are answered by message. One thread runs all lookups at once on a runtime of its own, so that
//! a name server that does not answer holds up nothing but the calls that need it.

use crate::io::worker::{WorkerCommand, Workers};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How long an answer holds at least and at most, whatever its TTL: zero would mean a lookup for each message, and a day
/// would outlive the host.
pub const VALID_FOR_MIN: Duration = Duration::from_secs(1);
pub const VALID_FOR_MAX: Duration = Duration::from_secs(3_600);

/// How long a name counts as unknown: a repeated INVITE must not ask again at once, the next call some seconds later may.
pub const FAILURE_VALID_FOR: Duration = Duration::from_secs(5);

/// How long a lookup may take in all. The caller's INVITE is at its fourth retransmission by then.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one name server is given for one attempt; two attempts fit into [`LOOKUP_TIMEOUT`].
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// How soon an answer is offered again to a worker whose queue is full.
const ANSWER_RETRY: Duration = Duration::from_millis(10);

/// Asks for lookups. Clones ask the same thread; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct Resolver {
    requests: mpsc::Sender<Lookup>,
}

#[derive(Debug)]
struct Lookup {
    shard: u16,
    ticket: u64,
    name: String,
}

/// A lookup was not taken: too many are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Resolver {
    /// Starts the thread `resolver`, which answers `workers`; at most `lookups_max` lookups are under way and as many wait.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(lookups_max: usize, workers: Arc<Workers>) -> io::Result<(Resolver, JoinHandle<()>)> {
        let lookups_max = lookups_max.max(1);
        let (requests, queue) = mpsc::channel(lookups_max);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name("resolver".into())
            .spawn(move || runtime.block_on(serve(queue, lookups_max, workers)))?;
        Ok((Resolver { requests }, thread))
    }

    /// Looks up the addresses of `name`; the answer comes to the worker of `shard` as [`WorkerCommand::Resolved`].
    ///
    /// # Errors
    /// [`Busy`]; no answer will come.
    pub fn look_up(&self, shard: u16, ticket: u64, name: String) -> Result<(), Busy> {
        self.requests.try_send(Lookup { shard, ticket, name }).map_err(|_| Busy)
    }
}

async fn serve(mut queue: mpsc::Receiver<Lookup>, lookups_max: usize, workers: Arc<Workers>) {
    let resolver = match system_resolver() {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            tracing::error!(%error, "no resolver can be made: every name counts as unknown");
            None
        }
    };
    let mut under_way = JoinSet::new();
    while let Some(lookup) = queue.recv().await {
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= lookups_max {
            under_way.join_next().await;
        }
        under_way.spawn(answer(resolver.clone(), Arc::clone(&workers), lookup));
    }
    // No one is left who could ask or be answered: lookups under way are dropped.
}

/// A resolver with the system's name servers and its hosts file. Without a readable `resolv.conf` the hosts file is all.
fn system_resolver() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let (config, mut options) = read_system_conf().unwrap_or_else(|error| {
        tracing::warn!(%error, "the system's resolver configuration cannot be read: only the hosts file is used");
        (ResolverConfig::default(), ResolverOpts::default())
    });
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Always;
    options.timeout = ATTEMPT_TIMEOUT;
    options.attempts = 2;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
}

async fn answer(resolver: Option<TokioResolver>, workers: Arc<Workers>, lookup: Lookup) {
    let found = match &resolver {
        Some(resolver) => tokio::time::timeout(LOOKUP_TIMEOUT, look_up(resolver, &lookup.name))
            .await
            .ok()
            .flatten(),
        None => None,
    };
    let (addresses, valid_for) = found.unwrap_or((Vec::new(), FAILURE_VALID_FOR));
    let Some(worker) = workers.shard(lookup.shard) else {
        return;
    };
    let mut command = WorkerCommand::Resolved {
        ticket: lookup.ticket,
        addresses,
        valid_for,
    };
    while let Err(refused) = worker.send(command) {
        if worker.has_left() {
            return;
        }
        command = refused;
        tokio::time::sleep(ANSWER_RETRY).await;
    }
}

/// The addresses of a name and how long they hold; `None` without any.
async fn look_up(resolver: &TokioResolver, name: &str) -> Option<(Vec<IpAddr>, Duration)> {
    let found = match resolver.lookup_ip(absolute(name)).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(name, %error, "a name has no address");
            return None;
        }
    };
    let addresses: Vec<IpAddr> = found.iter().collect();
    if addresses.is_empty() {
        return None;
    }
    let ttl = found
        .as_lookup()
        .answers()
        .iter()
        .map(|record| record.ttl)
        .min()
        .unwrap_or(0);
    let valid_for = Duration::from_secs(ttl.into()).clamp(VALID_FOR_MIN, VALID_FOR_MAX);
    Some((addresses, valid_for))
}

/// A host in a SIP URI is a fully qualified name (RFC 3261 §19.1.1): search lists are for names without a dot, which only
/// make sense in one's own network.
fn absolute(name: &str) -> String {
    let mut name = name.to_owned();
    if name.contains('.') && !name.ends_with('.') && name.parse::<IpAddr>().is_err() {
        name.push('.');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifiers::Secret;
    use crate::io::handoff::Doorbell;
    use crate::io::worker::WorkerHandle;
    use crossbeam::channel::{Receiver, bounded};

    fn workers() -> (mio::Poll, Receiver<WorkerCommand>, Arc<Workers>) {
        let poll = mio::Poll::new().unwrap();
        let bell = Arc::new(Doorbell::new(&poll, mio::Token(0)).unwrap());
        let (commands, taken) = bounded(1);
        let workers = Workers::new(vec![WorkerHandle::new(commands, bell)], Secret([0; 16]));
        (poll, taken, Arc::new(workers))
    }

    #[test]
    fn localhost_addresses_and_unknown_names_are_answered() {
        let (_poll, taken, workers) = workers();
        let (resolver, thread) = Resolver::start(8, workers).unwrap();
        let names = ["localhost", "192.0.2.1", "2001:db8::1", "no such name", ""];
        for (ticket, name) in names.iter().enumerate() {
            resolver.look_up(0, ticket as u64, (*name).into()).unwrap();
        }
        let mut answers = vec![None; names.len()];
        for _ in &names {
            match taken.recv_timeout(Duration::from_secs(20)).unwrap() {
                WorkerCommand::Resolved {
                    ticket,
                    addresses,
                    valid_for,
                } => answers[ticket as usize] = Some((addresses, valid_for)),
                other => panic!("{other:?}"),
            }
        }
        let answers: Vec<_> = answers.into_iter().map(Option::unwrap).collect();
        assert!(answers[0].0.contains(&"127.0.0.1".parse().unwrap()), "{:?}", answers[0]);
        for (at, address) in [(1, "192.0.2.1"), (2, "2001:db8::1")] {
            assert_eq!(answers[at].0, [address.parse::<IpAddr>().unwrap()]);
            assert_eq!(answers[at].1, VALID_FOR_MAX);
        }
        for at in [3, 4] {
            assert_eq!(answers[at], (Vec::new(), FAILURE_VALID_FOR), "{}", names[at]);
        }
        drop(resolver);
        thread.join().unwrap();
    }

    #[test]
    fn names_with_a_dot_are_fully_qualified() {
        for (name, expected) in [
            ("example.com", "example.com."),
            ("example.com.", "example.com."),
            ("localhost", "localhost"),
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ] {
            assert_eq!(absolute(name), expected);
        }
    }
}
