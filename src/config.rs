//! Configuration as values that are valid by type: listeners, trunks, routes, hooks, and every limit and timer with its default.
//!
//! [`Config::default`] is what runs without a file: OPTIONS are answered, everything else gets 404.

pub mod application;
mod limits;
pub mod parse;
mod reader;
mod refer;
pub(crate) mod value;
mod without_file;

pub use application::{Application, ApplicationId, MediaVerbs, OnUnanswered};
pub use parse::{ConfigError, parse};
pub use refer::{ByeMeansSuccess, Destination, HookBodies, OnReferTimeout, Preset, ReferMode, ReferRules};
pub use without_file::EnvironmentError;

use crate::transport::{BindId, Transport};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Everything a process is told before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Every bound address of every `[[listen]]`, in file order. [`BindId`] is an index into it; at most 64.
    pub binds: Vec<Bind>,
    pub control: Control,
    pub hooks: Hooks,
    /// [`TrunkId`] is an index into it; at most 256.
    pub trunks: Vec<Trunk>,
    /// [`ApplicationId`] is an index into it; at most 256.
    pub applications: Vec<Application>,
    /// Tried in order; the first that matches is taken.
    pub routes: Vec<Route>,
    /// Shards, one thread each; `None`: one per core.
    pub shards: Option<u16>,
    pub access: Access,
    pub limits: Limits,
    pub timers: SipTimers,
    pub session: SessionTimers,
    pub transfer: TransferTimers,
}

/// One bound address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The name of its `[[listen]]`.
    pub listen: String,
    pub transport: Transport,
    pub address: SocketAddr,
    /// What Via and Record-Route say: an address or a name. `None` only before start-up: a driver fills in the address
    /// the route leaves by when the bind is a wildcard without `advertise`.
    pub advertise: Option<String>,
}

impl Bind {
    /// The host that Via and Record-Route carry, IPv6 in brackets.
    pub fn sent_by_host(&self) -> String {
        match &self.advertise {
            Some(host) => host.clone(),
            None => match self.address.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            },
        }
    }
}

/// The REST listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// `None`: no control listener.
    pub listen: Option<SocketAddr>,
    /// The bearer token; required unless `listen` is loopback.
    pub token: Option<String>,
    /// Events that wait for the control thread, of all shards; beyond it they are lost, and listeners are told so.
    pub events_queue_max: usize,
    /// Bytes of events kept for listeners that are behind or come back. One that is behind further is cut off.
    pub events_bytes_max: usize,
    /// Listeners at a time; further ones get 503.
    pub event_streams_max: usize,
    /// Of which calls messages are remembered, to be drawn.
    pub ladders: Ladders,
    /// Calls whose messages are remembered, per shard; beyond it those that began first are forgotten.
    pub ladders_max: usize,
    /// Messages remembered of each; beyond it those in the middle are left out.
    pub ladder_messages_max: usize,
}

/// Of which calls messages are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ladders {
    Off,
    /// From its first `sip:refer` on.
    Transfers,
    All,
}

/// Webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// Where relative hooks go: scheme, host and port. It has no path: `/x` and `x` both go to the origin.
    pub base_url: Option<String>,
    /// Standard Webhooks secret (`whsec_…` or raw text).
    pub secret: Option<String>,
    /// Secret of the `Jambonz-Signature` header.
    pub jambonz_secret: Option<String>,
    /// How long one attempt may take (T_hook).
    pub timeout: Duration,
    /// How long an action waits for its events once the verdict is there (T_evt).
    pub events_wait: Duration,
    /// Sender threads. 16 to 32 measured best with ureq on two cores.
    pub threads: usize,
    /// Hooks waiting for delivery, over all transfers; beyond it events are dropped and counted, actions last.
    pub queue_max: usize,
    /// Hooks under way to one endpoint (scheme, host, port) at a time.
    pub per_endpoint_max: usize,
    /// How long an action is retried.
    pub action_retry_for: Duration,
    /// `final_referred_call_status` and `call_status` as JSON strings: `status_format = "string"`.
    pub status_as_string: bool,
}

/// An index into [`Config::trunks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TrunkId(pub u8);

/// A peer or a group of peers: who they are, where calls to them go, and how transfers run there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    pub name: String,
    pub side: Option<Side>,
    /// The `[[listen]]` its calls use, by name.
    pub listen: String,
    /// Where calls to this trunk are sent, in order of preference.
    pub addresses: Vec<Address>,
    /// Who may speak as this trunk.
    pub sources: Vec<Network>,
    /// Overrides [`Hooks::base_url`], [`Hooks::secret`], [`Hooks::jambonz_secret`] for transfers on this trunk.
    pub hooks_base_url: Option<String>,
    pub hooks_secret: Option<String>,
    pub hooks_jambonz_secret: Option<String>,
    /// What happens to a REFER that this trunk's party sends itself. Default: reject for carriers, relay otherwise.
    pub inbound_refer: InboundRefer,
    /// Overrides [`Access::source_rate`] for the sources of this trunk.
    pub source_rate: Option<u32>,
    pub refer: ReferRules,
    /// `None`: no OPTIONS are sent there, and all its addresses are used as if they were alive.
    pub health: Option<Health>,
    /// Calls from and to this trunk at a time, over all shards; one from it to itself counts twice. Beyond it the next target
    /// of the route is tried, and without one the call gets 503. `None`: `limits` alone.
    pub calls_max: Option<u32>,
    /// New calls from and to this trunk in a second, over all shards: so many at once, then one each `1 s / n`. Beyond it as
    /// with `calls_max`.
    pub calls_per_second_max: Option<u32>,
    /// `None`: its challenges go to whoever sent the request.
    pub auth: Option<Auth>,
}

/// `[trunk.auth]`: with what referee answers the challenges of a trunk (RFC 3261 §22).
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    pub username: String,
    pub password: String,
    /// Who may have an answer, byte for byte; empty: any realm that the trunk, or whoever is behind it, names.
    pub realms: Vec<String>,
}

impl fmt::Debug for Auth {
    /// Without the password, which no log is to show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("username", &self.username)
            .field("realms", &self.realms)
            .finish_non_exhaustive()
    }
}

/// `[trunk.health]`: OPTIONS to every address of a trunk, which is dead or alive by what comes of them and of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// From one OPTIONS to the next; a tenth is added at random at most, so that they do not march in step.
    pub period: Duration,
    /// How long its final response is waited for; not longer than `period`.
    pub timeout: Duration,
    /// So many failures in a row, and an address is dead.
    pub failures: u16,
    /// So many successes in a row, and a dead one is alive.
    pub successes: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Carrier,
    Platform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundRefer {
    Relay,
    Reject,
}

/// One address of a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `None`: the transport the call came in by (`--to HOST:PORT`).
    pub transport: Option<Transport>,
    /// An IP address (IPv6 without brackets) or a name.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    /// As the configuration has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(transport) = self.transport {
            write!(f, "{transport}:")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A network in CIDR notation, or everything (prefix 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Network {
    /// One address alone.
    pub fn host(ip: IpAddr) -> Network {
        let prefix = if ip.is_ipv4() { 32 } else { 128 };
        Network { address: ip, prefix }
    }

    /// Whether `ip` lies in this network; IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        fn same(a: u128, b: u128, bits: u32, prefix: u32) -> bool {
            prefix == 0 || (a ^ b) >> (bits - prefix.min(bits)) == 0
        }
        match (self.address.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32, self.prefix.into()),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128, self.prefix.into()),
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// From which trunk's calls go where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub from: TrunkId,
    pub matches: RouteMatch,
    /// Calls are led by this application instead of going to a trunk.
    pub application: Option<ApplicationId>,
    /// The trunks a call may go to, each once, in order; at least one, at most [`ROUTE_TARGETS_MAX`], none with an application.
    pub to: Vec<RouteTarget>,
    pub mode: RouteMode,
    /// How long a target may say nothing at all before the next is tried, where there is a next.
    pub response_timeout: Duration,
    /// How long a target may take to answer a call before it is cancelled; `None`: as long as Timer C lets it.
    pub answer_timeout: Option<Duration>,
}

/// One trunk of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteTarget {
    pub trunk: TrunkId,
    /// Its share of the calls under [`RouteMode::Weighted`]: 1 to 1,000.
    pub weight: u16,
}

impl Route {
    /// A route to one trunk.
    pub fn to_one(from: TrunkId, to: TrunkId) -> Route {
        Route {
            from,
            matches: RouteMatch::default(),
            application: None,
            to: vec![RouteTarget { trunk: to, weight: 1 }],
            mode: RouteMode::Sequential,
            response_timeout: RESPONSE_TIMEOUT,
            answer_timeout: None,
        }
    }
}

/// How a call goes to several trunks (RFC 3261 §16.6). Within a trunk the next address is tried where one is of no use: it
/// cannot be reached, says nothing, or answers 503 (RFC 3263 §4.3). Requests that open no call are never forked: each of
/// their targets is tried only where the one before is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteMode {
    /// To all at once; who answers first has it.
    Parallel,
    /// One after the other, until one answers.
    Sequential,
    /// To one, drawn by weight; to another only where that one is of no use.
    Weighted,
}

/// Trunks of one route.
pub const ROUTE_TARGETS_MAX: usize = 16;

/// Three sends of a request over UDP (at 0, 0.5 and 1.5 s) and some time to answer the last.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

/// All parts that are there must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteMatch {
    /// A pattern over the Request-URI's user (`+4930*`).
    pub user: Option<String>,
    /// The Request-URI's host, exact without case.
    pub host: Option<String>,
    /// A header name and a pattern over its value.
    pub header: Option<(String, String)>,
}

/// Who may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub unknown_source: UnknownSource,
    /// Answers a second to one source that is no trunk's (an IPv6 source is its /64); beyond it there is silence. Default 10.
    pub unknown_source_rate: u32,
    pub in_dialog_sources: InDialogSources,
    /// What the tokens of dialogs are made with. `None`, the default: a secret made up at start, so that no dialog outlives the
    /// process.
    pub dialog_secret: Option<DialogSecret>,
    /// New requests outside a dialog that each source of a trunk may send a second, and at once, over all shards; beyond it they
    /// get 503 (an IPv6 source is its /64; one that speaks as several trunks has each rate once). `None`, the default: no limit.
    pub source_rate: Option<u32>,
    /// Whether STUN Binding Requests on UDP sockets are answered (RFC 5626 §5.4). Default true.
    pub stun: bool,
}

/// What `dialog_secret` stands for; never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DialogSecret(pub [u8; 16]);

impl fmt::Debug for DialogSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DialogSecret(..)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownSource {
    Reject,
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InDialogSources {
    Trunk,
    Any,
}

/// Bounds. All of them per process unless said otherwise; what happens at each is said at the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live calls per shard; a new INVITE beyond it gets 503.
    pub calls_max: usize,
    /// Transactions alive per shard; new requests beyond it get 503. Requests within a dialog are served up to twice as many.
    pub transactions_max: usize,
    /// How long messages may wait from their arrival until they are handled. While even the least wait on a socket is longer
    /// for `queue_delay_interval`, new requests that waited twice as long get 503. Default 20 ms: both ways of a call's setup
    /// stay far below T1, so that waiting causes no repeats.
    pub queue_delay_target: Duration,
    /// See `queue_delay_target`. Longer than the bursts that are served though they wait. Default 100 ms.
    pub queue_delay_interval: Duration,
    /// The Retry-After of a 503 to a request that is shed (RFC 3261 §21.5.4), in whole seconds. Default 2 s: a peer that
    /// keeps to it sends nothing meanwhile.
    pub retry_after: Duration,
    /// Sources whose rate is remembered: those that are no trunk's, per shard, and apart from them those of trunks with a
    /// `source_rate`, over all shards. At the limit the quiet ones are forgotten; while none is, a new stranger gets no answer, and
    /// a new source of a trunk is not limited. Default 4,096.
    pub sources_max: usize,
    /// Requests of one call that wait for their turn or a name; beyond it they get 503 (RFC 3261 §21.5.4).
    pub held_per_call_max: usize,
    /// Requests that wait for names to be looked up, per shard, and so the lookups under way; beyond it they get 503.
    pub lookups_max: usize,
    /// Finished transfers that a shard remembers for the control API, oldest forgotten first.
    pub transfers_remembered: usize,
    /// Open TCP connections per worker; beyond it new ones are closed at once.
    pub connections_max: usize,
    /// Of these, how many one source may have opened (an IPv6 source is its /64); beyond it new ones are closed at once.
    /// Default 1,000.
    pub connections_per_source_max: usize,
    /// Of these, how many may be of sources that are no trunk's, where such sources have something to say at all: where no trunk
    /// is configured or `in_dialog_sources` is "any". Elsewhere they are closed at once. Default 100.
    pub stranger_connections_max: usize,
    /// Bytes queued to one TCP connection; beyond it the connection is closed.
    pub write_queue_bytes_max: usize,
    /// A connection without a message for this long is closed. At least Timer C and 64·T1, so that a transaction is over before
    /// (RFC 3261 §18).
    pub idle_timeout: Duration,
    /// A message begun on a stream must be whole after this long.
    pub partial_message_timeout: Duration,
    /// Messages on the way between two shards; UDP drops beyond it, TCP stops reading.
    pub handoff_max: usize,
    /// ICMP errors a second, and at once, that one shard's socket gets and the others are told of, each shard its equal part; a
    /// failed send beyond it is found out by timers. Default 10,000: they cost each shard less than a hundredth of its time.
    pub bounced_rate: u32,
    /// How long an INVITE may ring, whatever its callee says meanwhile; then it is cancelled as by Timer C.
    pub ring_max: Duration,
    /// How long a call may last from its answer; then both parties get a BYE.
    pub call_max: Duration,
    /// How long it is remembered that a next hop refuses TCP, so that large requests go there by UDP (RFC 3261 §18.1.1).
    pub tcp_refusal_kept: Duration,
    /// The longest Retry-After of a 503 that is kept to (RFC 3261 §21.5.4); a longer one is cut.
    pub retry_after_max: Duration,
    /// Where messages come closer together than this, a worker takes a nap of this length and then all that came meanwhile: fewer
    /// wake-ups for a little delay. Zero: never. Linux lets naps last some 50 us longer (prctl(2), PR_SET_TIMERSLACK).
    pub nap: Duration,
}

/// RFC 3261 §17 and Timer C of §16.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipTimers {
    pub t1: Duration,
    pub t2: Duration,
    pub t4: Duration,
    /// Over 3 minutes.
    pub timer_c: Duration,
}

/// What referee wants of session timers as a proxy (RFC 4028 §8). By default nothing: what the parties agree on is watched only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionTimers {
    /// The longest session interval: put into requests that ask for none or for a longer one. At least 90 s (§4).
    pub expires: Option<Duration>,
    /// The shortest session interval that is taken: a shorter one is refused with 422, or raised where its sender knows no 422.
    /// At least 90 s (§5).
    pub min_se: Option<Duration>,
}

/// Timers of a transfer that are not the trunk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferTimers {
    /// How long requests of the other party wait for a response to ours.
    pub hold: Duration,
    /// Executions per call.
    pub per_call_max: u32,
    /// How long at most the subscription of a REFER, a party's or ours, is taken for alive, since its last NOTIFY may never
    /// come: meanwhile a NOTIFY without an `id` may be of it, and a party's keeps ours from running. No trunk's
    /// [`total_timeout`](ReferRules::total_timeout) is longer; the `timeout` of a verb may be, up to 300 s.
    pub total_timeout_max: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            binds: Vec::new(),
            control: Control::default(),
            hooks: Hooks::default(),
            trunks: Vec::new(),
            applications: Vec::new(),
            routes: Vec::new(),
            shards: None,
            access: Access {
                unknown_source: UnknownSource::Reject,
                unknown_source_rate: 10,
                in_dialog_sources: InDialogSources::Trunk,
                dialog_secret: None,
                source_rate: None,
                stun: true,
            },
            limits: Limits::default(),
            timers: SipTimers::default(),
            session: SessionTimers::default(),
            transfer: TransferTimers::default(),
        }
    }
}

impl Config {
    pub fn trunk(&self, id: TrunkId) -> &Trunk {
        &self.trunks[usize::from(id.0)]
    }

    pub fn application(&self, id: ApplicationId) -> &Application {
        &self.applications[usize::from(id.0)]
    }

    pub fn bind(&self, id: BindId) -> &Bind {
        &self.binds[usize::from(id.0)]
    }
}

/// The rings between workers grow with the square of their number.
pub const SHARDS_MAX: u16 = 256;

impl Default for Control {
    fn default() -> Control {
        Control {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            token: None,
            // A second of a busy machine's; a megabyte or two.
            events_queue_max: 4_096,
            // Some 20,000 events.
            events_bytes_max: 16 * 1024 * 1024,
            event_streams_max: 64,
            ladders: Ladders::Transfers,
            // At most some 20 MB per shard, with 200 messages of about 100 bytes each.
            ladders_max: 1_000,
            // A transfer takes about 20, one that fails slowly over UDP some 40.
            ladder_messages_max: 200,
        }
    }
}

impl Control {
    /// What forbids to start with these values.
    pub fn problem(&self) -> Option<String> {
        let listen = self.listen.filter(|listen| !listen.ip().to_canonical().is_loopback())?;
        // Whoever reaches the control API can end and transfer every call.
        self.token.is_none().then(|| {
            format!("the control API would listen on {listen} without a token: set `control.token` or use a loopback address")
        })
    }
}

/// Whether the whole of `text` has the form of `pattern`, in which `*` stands for any run of characters, also none.
/// Case counts. Time is linear in both.
pub fn pattern_matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(text) = text.strip_prefix(start).and_then(|text| text.strip_suffix(end)) else {
        return false;
    };
    // The leftmost place of each part leaves the most room for those that follow, so none has to be tried twice.
    let mut text = text;
    middle.split('*').all(|part| match text.find(part) {
        Some(at) => {
            text = &text[at + part.len()..];
            true
        }
        None => false,
    })
}

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks {
            base_url: None,
            secret: None,
            jambonz_secret: None,
            timeout: Duration::from_secs(10),
            events_wait: Duration::from_secs(2),
            threads: 16,
            queue_max: 100_000,
            per_endpoint_max: 8,
            action_retry_for: Duration::from_secs(15 * 60),
            status_as_string: false,
        }
    }
}

impl Default for Health {
    /// A dead peer is found within two minutes and one that is back within one, for an OPTIONS each half minute.
    fn default() -> Health {
        Health {
            period: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            failures: 3,
            successes: 2,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            calls_max: 1_000_000,
            transactions_max: 1_000_000,
            queue_delay_target: Duration::from_millis(20),
            queue_delay_interval: Duration::from_millis(100),
            retry_after: Duration::from_secs(2),
            sources_max: 4_096,
            held_per_call_max: 8,
            lookups_max: 10_000,
            transfers_remembered: 10_000,
            connections_max: 10_000,
            connections_per_source_max: 1_000,
            stranger_connections_max: 100,
            write_queue_bytes_max: 1 << 20,
            idle_timeout: Duration::from_secs(600),
            partial_message_timeout: Duration::from_secs(20),
            handoff_max: 4_096,
            bounced_rate: 10_000,
            // Longer than any queue lets a caller hear a ringing tone, and ten times what a telephone network does.
            ring_max: Duration::from_secs(30 * 60),
            // Longer than any call that somebody means.
            call_max: Duration::from_secs(24 * 3_600),
            // Nobody changes a peer's transports more often than that.
            tcp_refusal_kept: Duration::from_secs(10 * 60),
            retry_after_max: Duration::from_secs(5 * 60),
            nap: Duration::from_micros(50),
        }
    }
}

impl Default for SipTimers {
    fn default() -> SipTimers {
        SipTimers {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(181),
        }
    }
}

impl Default for TransferTimers {
    fn default() -> TransferTimers {
        TransferTimers {
            hold: Duration::from_millis(500),
            per_call_max: 5,
            total_timeout_max: Duration::from_secs(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("+49*", "+49", true),
            ("+49*", "+4930123", true),
            ("+49*", "4930123", false),
            ("+49*", "0+49", false),
            ("*@example.com", "alice@example.com", true),
            ("*@example.com", "alice@example.com.evil", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("**", "", true),
            ("a**b", "ab", true),
            ("*aab*", "aaab", true),
            ("*ab*ab", "ab", false),
            ("*ü*", "grün", true),
            ("Alice", "alice", false),
        ] {
            assert_eq!(pattern_matches(pattern, text), expected, "{pattern} against {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_linear_time() {
        let pattern = "*a".repeat(5_000) + "*b";
        assert!(!pattern_matches(&pattern, &"a".repeat(100_000)));
    }

    proptest::proptest! {
        #[test]
        fn the_pattern_match_agrees_with_its_recursive_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            fn matches(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|n| matches(rest, &text[n..])),
                    Some((byte, rest)) => text.split_first().is_some_and(|(first, tail)| first == byte && matches(rest, tail)),
                }
            }
            let expected = matches(pattern.as_bytes(), text.as_bytes());
            proptest::prop_assert_eq!(pattern_matches(&pattern, &text), expected);
        }
    }

    #[test]
    fn the_control_api_needs_a_token_unless_only_this_machine_reaches_it() {
        for (listen, token, problem) in [
            (None, None, false),
            (Some("127.0.0.1:8080"), None, false),
            (Some("[::1]:8080"), None, false),
            (Some("0.0.0.0:8080"), None, true),
            (Some("[::]:8080"), None, true),
            (Some("10.0.0.1:8080"), None, true),
            (Some("10.0.0.1:8080"), Some("t"), false),
        ] {
            let control = Control {
                listen: listen.map(|listen| listen.parse().unwrap()),
                token: token.map(str::to_owned),
                ..Control::default()
            };
            assert_eq!(control.problem().is_some(), problem, "{listen:?}");
        }
    }
}
