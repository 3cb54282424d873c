//! The configuration file: TOML text → [`Config`], or every mistake in it with its place.
//!
//! Each table of the file has its function here, which asks for each of its keys; what was never asked for is an unknown
//! key. What involves several tables (names, overlaps, counts) is checked once all of them are read.

use super::application::{applications, route_application};
use super::limits::{TABLE_ENTRIES_MAX, check_idle_timeout, limits, timers};
use super::reader::{Document, Placed, Table, place};
use super::{
    Access, Address, Application, Auth, Bind, Config, Control, Health, Hooks, InDialogSources, InboundRefer, Ladders,
    Network, ROUTE_TARGETS_MAX, ReferRules, Route, RouteMatch, RouteMode, RouteTarget, SHARDS_MAX, Side,
    TransferTimers, Trunk, TrunkId, UnknownSource,
};
use super::{refer, value};
use crate::spelling::{self, shown};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use toml::de::DeTable;

/// One mistake in a configuration text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters; one past the end of the line for something that is missing there.
    pub column: usize,
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Reads a configuration file.
///
/// `environment` gives the variables that strings name as `${env:NAME}`.
///
/// # Errors
///
/// Every mistake, in the order of the text. A text that is not TOML has one, since nothing behind it can be trusted.
pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<ConfigError>> {
    let document = Document::new(text, environment);
    let config = match DeTable::parse(text) {
        Ok(root) => file(&document, Table::root(&document, root.get_ref())),
        Err(error) => {
            let span = error.span().unwrap_or_default();
            let message = match text.get(span.clone()).unwrap_or_default() {
                key if error.message() == "duplicate key" && !key.is_empty() => {
                    format!("duplicate key `{}`", shown(key))
                }
                _ => error.message().to_owned(),
            };
            document.mistake(span.start, message);
            Config::default()
        }
    };
    let errors = document.into_errors();
    if errors.is_empty() { Ok(config) } else { Err(errors) }
}

/// The text of a configuration file.
///
/// # Errors
///
/// The place of the first byte that is not UTF-8.
pub fn decode(bytes: &[u8]) -> Result<&str, ConfigError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = place(bytes, error.valid_up_to());
        let message = "this is not UTF-8 text".to_owned();
        ConfigError { line, column, message }
    })
}

fn file(document: &Document<'_>, root: Table<'_>) -> Config {
    let mut config = Config::default();

    let mut shards = 0;
    root.number("shards", 1..=SHARDS_MAX.into(), &mut shards);
    config.shards = (shards > 0).then_some(shards);

    let transfer_table = root.table("transfer", "[transfer]");
    let total_timeout_max_at = transfer_table
        .as_ref()
        .map_or(0, |table| table.at_value("total_timeout_max"));
    if let Some(table) = transfer_table {
        config.transfer = transfer(table);
    }
    let listeners = listeners(document, &root, &mut config.binds);
    let rules = match root.table("refer", "[refer]") {
        Some(table) => refer::read(table, ReferRules::default(), config.transfer.total_timeout_max),
        None => ReferRules::default(),
    };
    let trunks = trunks(
        document,
        &root,
        &listeners,
        &config.binds,
        &rules,
        config.transfer.total_timeout_max,
    );
    check_default_total(
        document,
        &trunks,
        config.transfer.total_timeout_max,
        total_timeout_max_at,
    );
    config.applications = applications(document, &root);
    config.routes = routes(document, &root, &trunks, &config.applications);
    config.trunks = trunks.into_iter().map(|read| read.trunk).collect();

    if let Some(table) = root.table("control", "[control]") {
        config.control = control(document, table);
    }
    if let Some(table) = root.table("hooks", "[hooks]") {
        config.hooks = hooks(table);
    }
    if let Some(table) = root.table("access", "[access]") {
        config.access = access(table);
    }
    let limits_table = root.table("limits", "[limits]");
    let timers_table = root.table("timers", "[timers]");
    let idle_timeout_at = [
        (&limits_table, "idle_timeout"),
        (&timers_table, "timer_c"),
        (&timers_table, "t1"),
    ]
    .into_iter()
    .find_map(|(table, key)| {
        table
            .as_ref()
            .filter(|table| table.has(key))
            .map(|table| table.at_value(key))
    });
    if let Some(table) = limits_table {
        config.limits = limits(table);
    }
    if let Some(table) = timers_table {
        (config.timers, config.session) = timers(table);
    }
    if let Some(at) = idle_timeout_at {
        check_idle_timeout(document, &config, at);
    }
    root.finish();
    config
}

fn listeners(document: &Document<'_>, root: &Table<'_>, binds: &mut Vec<Bind>) -> Vec<Placed<String>> {
    let tables = root.tables("listen");
    if tables.is_empty() && !root.has("listen") {
        document.mistake(root.at(), "there is no `[[listen]]`, so nothing could be received");
    }
    let mut names: Vec<Placed<String>> = Vec::new();
    for table in tables {
        table.require("name");
        table.require("bind");
        let name = unique_name(&table, &names);
        let advertise = table.value("advertise", value::sent_by_host);
        for bind in table.some_values("bind", value::bind).unwrap_or_default() {
            let (transport, address) = bind.value;
            if binds
                .iter()
                .any(|other| (other.transport, other.address) == (transport, address))
            {
                document.mistake(bind.at, format!("`{transport}:{address}` is bound already"));
            }
            if binds.len() == BINDS_MAX {
                document.mistake(bind.at, format!("more than {BINDS_MAX} addresses to bind"));
            }
            binds.push(Bind {
                listen: name.clone().map_or_else(String::new, |name| name.value),
                transport,
                address,
                advertise: advertise.as_ref().map(|host| host.value.clone()),
            });
        }
        names.extend(name);
        table.finish();
    }
    names
}

/// A `name` that none of `names` has.
pub(super) fn unique_name(table: &Table<'_>, names: &[Placed<String>]) -> Option<Placed<String>> {
    let name = table.name("name")?;
    if names.iter().any(|other| other.value == name.value) {
        table.mistake(name.at, format!("the name `{}` is taken already", shown(&name.value)));
    }
    Some(name)
}

/// A trunk and the places its checks need.
struct TrunkRead {
    trunk: Trunk,
    /// Those of the file, or made from the addresses.
    sources: Vec<Placed<Network>>,
}

fn trunks(
    document: &Document<'_>,
    root: &Table<'_>,
    listeners: &[Placed<String>],
    binds: &[Bind],
    rules: &ReferRules,
    total_timeout_max: Duration,
) -> Vec<TrunkRead> {
    let mut names = Vec::new();
    let mut trunks: Vec<TrunkRead> = Vec::new();
    for table in root.tables("trunk") {
        if trunks.len() == TRUNKS_MAX {
            document.mistake(table.at(), format!("more than {TRUNKS_MAX} trunks"));
        }
        let name = unique_name(&table, &names);
        let refer = table.table("refer", "[trunk.refer]").map_or_else(
            || rules.clone(),
            |table| refer::read(table, rules.clone(), total_timeout_max),
        );
        let read = trunk(document, &table, name.as_ref(), listeners, binds, refer);
        // Two trunks with one source could not be told apart.
        for source in &read.sources {
            let overlapped = trunks
                .iter()
                .filter(|other| other.trunk.listen == read.trunk.listen)
                .find_map(|other| {
                    let theirs = other
                        .sources
                        .iter()
                        .find(|theirs| overlap(theirs.value, source.value))?;
                    Some((&other.trunk.name, theirs.value))
                });
            if let Some((name, theirs)) = overlapped {
                let ours = source.value;
                let message = format!(
                    "the source {ours} overlaps {theirs} of trunk `{}` on the same listener",
                    shown(name)
                );
                document.mistake(source.at, message);
            }
        }
        names.extend(name);
        trunks.push(read);
        table.finish();
    }
    trunks
}

/// `total_timeout` by default, where no table names another.
fn check_default_total(document: &Document<'_>, trunks: &[TrunkRead], most: Duration, at: usize) {
    let default = ReferRules::default().total_timeout;
    let is_used = trunks.iter().any(|read| read.trunk.refer.total_timeout == default);
    if is_used && default > most {
        let default = value::duration_text(default);
        let message = format!("`total_timeout_max` is shorter than a trunk's `total_timeout`, {default} by default");
        document.mistake(at, message);
    }
}

/// Networks are nested or apart, so one holds the other's first address if they share any.
fn overlap(a: Network, b: Network) -> bool {
    a.contains(b.address) || b.contains(a.address)
}

fn trunk(
    document: &Document<'_>,
    table: &Table<'_>,
    name: Option<&Placed<String>>,
    listeners: &[Placed<String>],
    binds: &[Bind],
    refer: ReferRules,
) -> TrunkRead {
    table.require("name");
    table.require("listen");
    let mut side = None;
    table.choice(
        "side",
        &[("carrier", Some(Side::Carrier)), ("platform", Some(Side::Platform))],
        &mut side,
    );

    let listen = table.name("listen");
    if let Some(listen) = &listen {
        check_reference(
            document,
            listen,
            "`[[listen]]`",
            listeners.iter().map(|known| known.value.as_str()),
        );
    }
    let listen = listen.map_or_else(String::new, |listen| listen.value);

    let addresses = table.some_values("addresses", value::address).unwrap_or_default();
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].iter().any(|other| other.value == address.value) {
            document.mistake(address.at, "this address is there already");
        }
        if index == ADDRESSES_MAX {
            document.mistake(address.at, format!("more than {ADDRESSES_MAX} addresses of one trunk"));
        }
        check_reachable(document, address, &listen, binds);
    }
    let sources = sources(document, table, &addresses);

    let mut inbound_refer = match side {
        Some(Side::Carrier) => InboundRefer::Reject,
        Some(Side::Platform) | None => InboundRefer::Relay,
    };
    table.choice(
        "inbound_refer",
        &[("relay", InboundRefer::Relay), ("reject", InboundRefer::Reject)],
        &mut inbound_refer,
    );

    let source_rate = source_rate(table);
    let mut hook_settings = HookSettings::default();
    if let Some(table) = table.table("hooks", "[trunk.hooks]") {
        hook_settings = HookSettings::read(&table);
        table.finish();
    }
    let health = table.table("health", "[trunk.health]").map(|health_table| {
        if !table.has("addresses") {
            let message = "`[trunk.health]` of a trunk without `addresses`: there is nobody to send OPTIONS to";
            document.mistake(health_table.at(), message);
        }
        health(health_table)
    });
    let auth = table.table("auth", "[trunk.auth]").map(auth);
    let (mut calls_max, mut calls_per_second_max) = (0, 0);
    table.number("calls_max", 1..=TABLE_ENTRIES_MAX, &mut calls_max);
    table.number(
        "calls_per_second_max",
        1..=CALLS_PER_SECOND_MAX,
        &mut calls_per_second_max,
    );

    TrunkRead {
        trunk: Trunk {
            name: name.map_or_else(String::new, |name| name.value.clone()),
            side,
            listen,
            addresses: addresses.into_iter().map(|address| address.value).collect(),
            sources: sources.iter().map(|source| source.value).collect(),
            hooks_base_url: hook_settings.base_url,
            hooks_secret: hook_settings.secret,
            hooks_jambonz_secret: hook_settings.jambonz_secret,
            inbound_refer,
            source_rate,
            refer,
            health,
            calls_max: (calls_max > 0).then_some(calls_max),
            calls_per_second_max: (calls_per_second_max > 0).then_some(calls_per_second_max),
            auth,
        },
        sources,
    }
}

/// That the trunk's listener has a socket from which the address can be reached.
fn check_reachable(document: &Document<'_>, address: &Placed<Address>, listen: &str, binds: &[Bind]) {
    let Address {
        transport, ref host, ..
    } = address.value;
    let of_listener: Vec<&Bind> = binds.iter().filter(|bind| bind.listen == listen).collect();
    if of_listener.is_empty() {
        return; // The listener itself is wrong, which is said there.
    }
    let fits = |bind: &Bind| transport.is_none_or(|transport| bind.transport == transport);
    if let Some(transport) = transport
        && !of_listener.iter().any(|bind| fits(bind))
    {
        document.mistake(
            address.at,
            format!(
                "the listener `{}` binds no {transport} address to send from",
                shown(listen)
            ),
        );
        return;
    }
    let Ok(ip) = host.parse::<IpAddr>() else { return };
    // A socket bound to `::` may carry IPv4 as well.
    let family_fits =
        |bind: &Bind| bind.address.is_ipv4() == ip.is_ipv4() || (ip.is_ipv4() && bind.address.ip().is_unspecified());
    if !of_listener.iter().any(|bind| fits(bind) && family_fits(bind)) {
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        document.mistake(
            address.at,
            format!(
                "the listener `{}` binds no {family} address to send from",
                shown(listen)
            ),
        );
    }
}

/// The sources of the file; without, the hosts of the addresses.
fn sources(document: &Document<'_>, table: &Table<'_>, addresses: &[Placed<Address>]) -> Vec<Placed<Network>> {
    if let Some(sources) = table.some_values("sources", value::network) {
        return sources;
    }
    if table.has("sources") {
        return Vec::new();
    }
    if !table.has("addresses") {
        document.mistake(
            table.at(),
            "`[[trunk]]` lacks `sources`: without `addresses`, nobody could speak as this trunk",
        );
    }
    let mut sources: Vec<Placed<Network>> = Vec::new();
    for address in addresses {
        let host = &address.value.host;
        let Ok(ip) = host.parse::<IpAddr>() else {
            let message = format!(
                "`[[trunk]]` lacks `sources`: `{}` is a name, so nothing says who may speak as this trunk",
                shown(host)
            );
            document.mistake(address.at, message);
            continue;
        };
        let network = Network::host(ip);
        if !sources.iter().any(|source| source.value == network) {
            sources.push(Placed {
                value: network,
                at: address.at,
            });
        }
    }
    sources
}

/// A rate that is not limited unless it is named.
fn source_rate(table: &Table<'_>) -> Option<u32> {
    let mut rate = 0;
    table.number("source_rate", 1..=RATE_MAX, &mut rate);
    (rate > 0).then_some(rate)
}

fn auth(table: Table<'_>) -> Auth {
    table.require("username");
    table.require("password");
    let username = table.value("username", |text| value::credential("username", text));
    let password = table.value("password", |text| value::credential("password", text));
    let realms = table.some_values("realms", |text| value::credential("realm", text));
    let auth = Auth {
        username: username.map_or_else(String::new, |username| username.value),
        password: password.map_or_else(String::new, |password| password.value),
        realms: realms.map_or_else(Vec::new, |realms| realms.into_iter().map(|realm| realm.value).collect()),
    };
    if auth.username.contains(':') {
        // RFC 7616 §3.4.2: the first colon ends the name in what is hashed.
        table.mistake(table.at_value("username"), "`username` has a colon");
    }
    table.finish();
    auth
}

fn health(table: Table<'_>) -> Health {
    let mut health = Health::default();
    table.duration("period", seconds(1)..=seconds(3_600), &mut health.period);
    // Timer F of RFC 3261 §17.1.2.2 ends an OPTIONS after 32 s.
    table.duration("timeout", Duration::from_millis(100)..=seconds(32), &mut health.timeout);
    table.number("failures", 1..=1_000, &mut health.failures);
    table.number("successes", 1..=1_000, &mut health.successes);
    if health.period < health.timeout {
        let key = if table.has("period") { "period" } else { "timeout" };
        let (period, timeout) = (
            value::duration_text(health.period),
            value::duration_text(health.timeout),
        );
        let message = format!("`period`, {period}, is shorter than `timeout`, {timeout}");
        table.mistake(table.at_value(key), message);
    }
    table.finish();
    health
}

fn routes(document: &Document<'_>, root: &Table<'_>, trunks: &[TrunkRead], applications: &[Application]) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for table in root.tables("route") {
        table.require("from");
        let from = table.name("from");
        let from = from.and_then(|from| trunk_of(document, &from, trunks).map(|id| (id, from)));
        let route = route(document, &table, trunks, applications);
        if let Some((from, name)) = from {
            let takes_all = |route: &Route| route.from == from && route.matches == RouteMatch::default();
            if routes.iter().any(takes_all) {
                let name = shown(&name.value);
                document.mistake(
                    table.at(),
                    format!("never reached: an earlier route takes every call from `{name}`"),
                );
            }
            routes.push(Route { from, ..route });
        }
        table.finish();
    }
    routes
}

/// All of a route but where its calls come from.
fn route(document: &Document<'_>, table: &Table<'_>, trunks: &[TrunkRead], applications: &[Application]) -> Route {
    let mut route = Route {
        application: route_application(document, table, applications),
        to: route_targets(document, table, trunks),
        matches: table.table("match", "match").map(route_match).unwrap_or_default(),
        ..Route::to_one(TrunkId(0), TrunkId(0))
    };
    table.choice(
        "mode",
        &[
            ("parallel", RouteMode::Parallel),
            ("sequential", RouteMode::Sequential),
            ("weighted", RouteMode::Weighted),
        ],
        &mut route.mode,
    );
    weights(table, &mut route);
    table.duration(
        "response_timeout",
        Duration::from_millis(100)..=seconds(32),
        &mut route.response_timeout,
    );
    let mut answer_timeout = Duration::ZERO;
    table.duration("answer_timeout", seconds(1)..=seconds(3_600), &mut answer_timeout);
    route.answer_timeout = (!answer_timeout.is_zero()).then_some(answer_timeout);
    route
}

/// `to`: one trunk or several, where calls can go, each once.
fn route_targets(document: &Document<'_>, table: &Table<'_>, trunks: &[TrunkRead]) -> Vec<RouteTarget> {
    let name = |text: &str| Ok::<_, String>(text.to_owned());
    let names = if table.array_len("to").is_some() {
        table.some_values("to", name).unwrap_or_default()
    } else {
        table.name("to").into_iter().collect()
    };
    if !table.has("application") {
        table.require("to");
    }
    if names.len() > ROUTE_TARGETS_MAX {
        document.mistake(table.at_value("to"), format!("more than {ROUTE_TARGETS_MAX} trunks"));
    }
    let mut targets: Vec<RouteTarget> = Vec::new();
    for name in &names {
        let Some(trunk) = trunk_of(document, name, trunks) else {
            continue;
        };
        let Placed { value, at } = name;
        if trunks[usize::from(trunk.0)].trunk.addresses.is_empty() {
            document.mistake(
                *at,
                format!("calls cannot go to trunk `{}`: it has no `addresses`", shown(value)),
            );
        }
        // RFC 3261 §16.5: a target is in the set once.
        if targets.iter().any(|target| target.trunk == trunk) {
            document.mistake(*at, format!("`{}` is there already", shown(value)));
        }
        targets.push(RouteTarget { trunk, weight: 1 });
    }
    targets
}

/// `weights`: one for each of `to`.
fn weights(table: &Table<'_>, route: &mut Route) {
    let Some(weights) = table.numbers::<u16>("weights", 1..=1_000) else {
        return;
    };
    let at = table.at_value("weights");
    if route.mode != RouteMode::Weighted {
        table.mistake(at, "`weights` needs `mode = \"weighted\"`");
    }
    if let (Some(weights), Some(targets)) = (table.array_len("weights"), table.array_len("to"))
        && weights != targets
    {
        table.mistake(at, format!("`weights` has {weights} for the {targets} of `to`"));
    }
    for (target, weight) in route.to.iter_mut().zip(weights) {
        target.weight = weight;
    }
}

fn trunk_of(document: &Document<'_>, name: &Placed<String>, trunks: &[TrunkRead]) -> Option<TrunkId> {
    let names = || trunks.iter().map(|read| read.trunk.name.as_str());
    check_reference(document, name, "`[[trunk]]`", names());
    names()
        .position(|known| known == name.value)
        .and_then(|index| u8::try_from(index).ok())
        .map(TrunkId)
}

/// Records a name that none of `known` is.
pub(super) fn check_reference<'n>(
    document: &Document<'_>,
    name: &Placed<String>,
    what: &str,
    known: impl Iterator<Item = &'n str> + Clone,
) {
    if !known.clone().any(|known| known == name.value) {
        let suggestion = spelling::suggestion(&name.value, known.filter(|known| !known.is_empty()));
        document.mistake(
            name.at,
            format!("there is no {what} named `{}`{suggestion}", shown(&name.value)),
        );
    }
}

fn route_match(table: Table<'_>) -> RouteMatch {
    let mut matches = RouteMatch {
        user: table.some_text("user").map(|pattern| pattern.value),
        host: table.value("host", value::sent_by_host).map(|host| host.value),
        header: None,
    };
    if let Some(header) = table.table("header", "header") {
        header.require("name");
        header.require("value");
        let name = header.value("name", value::header_name);
        let pattern = header.text("value");
        matches.header = name.zip(pattern).map(|(name, pattern)| (name.value, pattern.value));
        header.finish();
    }
    table.finish();
    matches
}

fn control(document: &Document<'_>, table: Table<'_>) -> Control {
    let mut control = Config::default().control;
    if let Some(listen) = table.value("listen", value::control_listen) {
        control.listen = listen.value;
    }
    control.token = secret(&table, "token");
    table.number("events_queue_max", 1..=TABLE_ENTRIES_MAX, &mut control.events_queue_max);
    table.number("events_bytes_max", 65_536..=1 << 32, &mut control.events_bytes_max);
    // Each takes one of the 1,024 connections of the listener.
    table.number("event_streams_max", 0..=1_000, &mut control.event_streams_max);
    table.choice(
        "ladders",
        &[
            ("off", Ladders::Off),
            ("transfers", Ladders::Transfers),
            ("all", Ladders::All),
        ],
        &mut control.ladders,
    );
    table.number("ladders_max", 1..=TABLE_ENTRIES_MAX, &mut control.ladders_max);
    table.number("ladder_messages_max", 2..=10_000, &mut control.ladder_messages_max);
    // What the environment will replace is judged once it has.
    let replaced = ["REFEREE_CONTROL_LISTEN", "REFEREE_CONTROL_TOKEN"]
        .into_iter()
        .any(|name| document.environment(name).is_some_and(|value| !value.is_empty()));
    if let Some(problem) = control.problem()
        && !table.has("token")
        && !replaced
    {
        document.mistake(table.at_value("listen"), problem);
    }
    table.finish();
    control
}

/// A secret, which no message repeats.
pub(super) fn secret(table: &Table<'_>, key: &'static str) -> Option<String> {
    let parse = |text: &str| value::secret(text).map_err(|problem| format!("`{key}` {problem}"));
    table.value(key, parse).map(|secret| secret.value)
}

/// What `[hooks]` and `[trunk.hooks]` share.
#[derive(Default)]
struct HookSettings {
    base_url: Option<String>,
    secret: Option<String>,
    jambonz_secret: Option<String>,
}

impl HookSettings {
    fn read(table: &Table<'_>) -> HookSettings {
        HookSettings {
            base_url: table.value("base_url", value::base_url).map(|url| url.value),
            secret: secret(table, "secret"),
            jambonz_secret: secret(table, "jambonz_secret"),
        }
    }
}

fn hooks(table: Table<'_>) -> Hooks {
    let HookSettings {
        base_url,
        secret,
        jambonz_secret,
    } = HookSettings::read(&table);
    let mut hooks = Hooks {
        base_url,
        secret,
        jambonz_secret,
        ..Hooks::default()
    };
    table.duration("timeout", Duration::from_millis(100)..=seconds(60), &mut hooks.timeout);
    table.duration("events_wait", Duration::ZERO..=seconds(60), &mut hooks.events_wait);
    table.number("threads", 1..=256, &mut hooks.threads);
    table.number("queue_max", 1..=10_000_000, &mut hooks.queue_max);
    table.number("per_endpoint_max", 1..=256, &mut hooks.per_endpoint_max);
    table.duration(
        "action_retry_for",
        Duration::ZERO..=seconds(24 * 3_600),
        &mut hooks.action_retry_for,
    );
    table.choice(
        "status_format",
        &[("number", false), ("string", true)],
        &mut hooks.status_as_string,
    );
    table.finish();
    hooks
}

fn access(table: Table<'_>) -> Access {
    let mut access = Config::default().access;
    table.choice(
        "unknown_source",
        &[("reject", UnknownSource::Reject), ("silent", UnknownSource::Silent)],
        &mut access.unknown_source,
    );
    table.number("unknown_source_rate", 1..=RATE_MAX, &mut access.unknown_source_rate);
    let dialog_secret = |text: &str| value::dialog_secret(text).map_err(|problem| format!("`dialog_secret` {problem}"));
    access.dialog_secret = table.value("dialog_secret", dialog_secret).map(|secret| secret.value);
    access.source_rate = source_rate(&table);
    table.flag("stun", &mut access.stun);
    table.choice(
        "in_dialog_sources",
        &[("trunk", InDialogSources::Trunk), ("any", InDialogSources::Any)],
        &mut access.in_dialog_sources,
    );
    table.finish();
    access
}

fn transfer(table: Table<'_>) -> TransferTimers {
    let mut transfer = TransferTimers::default();
    table.duration("hold", Duration::ZERO..=seconds(4), &mut transfer.hold);
    table.number("per_call_max", 1..=1_000, &mut transfer.per_call_max);
    table.duration(
        "total_timeout_max",
        seconds(1)..=seconds(300),
        &mut transfer.total_timeout_max,
    );
    table.finish();
    transfer
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// [`crate::transport::BindId`] is small so that a flow is.
pub(super) const BINDS_MAX: usize = 64;
/// [`TrunkId`] is one byte.
const TRUNKS_MAX: usize = 256;
/// Events a second: more could not be told apart in microseconds.
const RATE_MAX: u64 = 1_000_000;
/// An address of a trunk is known by its place, in one byte.
const ADDRESSES_MAX: usize = 256;
/// A thousand times what one core carries.
const CALLS_PER_SECOND_MAX: u64 = 10_000_000;
/// Any text: no panic, and each error has a place inside the text. The body of a fuzz target.
#[cfg(any(test, feature = "sim"))]
pub fn config_text(text: &str) {
    let environment = |name: &str| (name.len() % 2 == 1).then(|| name.repeat(2));
    match parse(text, &environment) {
        Ok(config) => {
            assert!((1..=BINDS_MAX).contains(&config.binds.len()) && config.trunks.len() <= TRUNKS_MAX);
            assert!(
                config
                    .trunks
                    .iter()
                    .all(|trunk| !trunk.sources.is_empty() && !trunk.name.is_empty())
            );
            assert!(
                config
                    .routes
                    .iter()
                    .all(|route| route.to.is_empty() == route.application.is_some()
                        && route.to.iter().all(|to| !config.trunk(to.trunk).addresses.is_empty()))
            );
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                let line = text
                    .split('\n')
                    .nth(error.line - 1)
                    .expect("the line is one of the text's");
                assert!((1..=line.chars().count() + 1).contains(&error.column), "{error}");
                // Whatever it repeats of the text, it is a sentence that a terminal shows as it is.
                assert!(
                    !error.message.contains(char::is_control) && error.message.chars().count() < 400,
                    "{error}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
