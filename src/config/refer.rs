//! `[refer]` and `[trunk.refer]`: how transfers run, and what is known to suit the peers that a preset is named after.

use super::reader::Table;
use super::value;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// How transfers run on a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferRules {
    /// What a bare number becomes: `sip:{number}@host` or `tel:{number}`, where `{source}` in place of the host is the address
    /// that the party which gets the REFER sends from. `None`: `sip:{number}@` and the host of that party's Contact.
    pub bare_number: Option<String>,
    /// What may be transferred to; nothing is allowed unless named here.
    pub destinations: Vec<Destination>,
    pub refer_mode: ReferMode,
    /// Only 202 accepts a REFER; any other 2xx is a refusal. RFC 7647 asks for the opposite.
    pub only_202: bool,
    /// Final codes beyond 2xx that count as success.
    pub success_codes: Vec<u16>,
    pub bye_means_success: ByeMeansSuccess,
    pub on_refer_timeout: OnReferTimeout,
    /// Whether referee ends the call after a success.
    pub bye_on_success: bool,
    /// From the final 2xx to our BYE (T_linger).
    pub bye_delay: Duration,
    /// How long a racing NOTIFY is waited for once a BYE came or the subscription ended (T_bye_grace).
    pub bye_grace: Duration,
    /// From a REFER to its final response (T_tx); `None`: 64·T1, as its transaction (RFC 3261 §17.1.2.2).
    pub response_timeout: Option<Duration>,
    /// From the 2xx to the first NOTIFY (T_first); `None`: `total_timeout`.
    pub notify_timeout: Option<Duration>,
    /// From the 2xx to the final NOTIFY, whatever NOTIFYs come meanwhile; `None`: `total_timeout`.
    pub result_timeout: Option<Duration>,
    /// From the REFER to the end (T_total).
    pub total_timeout: Duration,
    /// The longest Retry-After of a 500 or 503 that is waited for; after a longer one the REFER has failed.
    pub retry_after_max: Duration,
    /// Between a 491 and the REFER that follows it (T_491); `None`: drawn from the range of RFC 3261 §14.1.
    pub glare_wait: Option<Duration>,
    /// How long a REFER waits for the answer of an INVITE within the dialog (T_queue).
    pub queue_timeout: Duration,
    /// From the end of the dialog on, how long late NOTIFYs still find their way (T_tomb).
    pub tombstone: Duration,
    /// How long one attempt of a transfer's hook may take (T_hook); `None`: [`Hooks::timeout`](super::Hooks::timeout).
    pub hook_timeout: Option<Duration>,
    /// How long an action waits for its events (T_evt); `None`: [`Hooks::events_wait`](super::Hooks::events_wait).
    pub events_wait: Option<Duration>,
    /// The host of a Referred-By that is a bare value or the default.
    pub referred_by_host: Option<String>,
    /// The display name of a Referred-By whose verb has none.
    pub referred_by_display_name: Option<String>,
    pub hook_bodies: HookBodies,
}

/// One entry of `destinations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `*`
    Any,
    /// `+49*`: the whole user part of a tel: URI, or of a sip: URI at the trunk's own `bare_number` host. `*` matches any
    /// run of characters.
    Number(String),
    /// `sip:*@example.com`: user pattern (`None`: a URI without user), host (lower case, exact, IPv6 without brackets),
    /// port (exact; `None`: a URI without port).
    Sip {
        secure: bool,
        user: Option<String>,
        host: String,
        port: Option<u16>,
    },
}

impl fmt::Display for Destination {
    /// As the configuration has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Any => f.write_str("*"),
            Destination::Number(pattern) => f.write_str(pattern),
            Destination::Sip {
                secure,
                user,
                host,
                port,
            } => {
                f.write_str(if *secure { "sips:" } else { "sip:" })?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                if host.contains(':') {
                    write!(f, "[{host}]")?
                } else {
                    f.write_str(host)?
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

/// Where a REFER goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferMode {
    /// Within the call's dialog.
    InDialog,
    /// To the party's Contact, in a dialog of its own, with Target-Dialog (RFC 4538, RFC 7647 §4): for peers whose Contact is
    /// a GRUU.
    OutOfDialog,
}

/// What a BYE after a 2xx and before a final NOTIFY says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByeMeansSuccess {
    /// It worked, if there was no NOTIFY at all.
    Accepted,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReferTimeout {
    Keep,
    Bye,
}

/// What hooks are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookBodies {
    /// All there is to tell.
    All,
    /// The keys that jambonz has, and no more.
    Jambonz,
}

/// Peers and applications whose conduct is known. What each sets, and why, is in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    Twilio,
    Telnyx,
    Oracle,
    Cognigy,
    Jambonz,
}

impl Default for ReferRules {
    fn default() -> ReferRules {
        ReferRules {
            bare_number: None,
            destinations: Vec::new(),
            refer_mode: ReferMode::InDialog,
            only_202: false,
            success_codes: Vec::new(),
            bye_means_success: ByeMeansSuccess::Accepted,
            on_refer_timeout: OnReferTimeout::Keep,
            bye_on_success: true,
            bye_delay: Duration::from_secs(1),
            bye_grace: Duration::from_secs(1),
            response_timeout: None,
            notify_timeout: None,
            result_timeout: None,
            total_timeout: Duration::from_secs(120),
            // A longer one outlasts the patience of a person on the line.
            retry_after_max: Duration::from_secs(5),
            glare_wait: None,
            queue_timeout: Duration::from_secs(4),
            // RFC 3261 §17.1.2.2: as long as a NOTIFY is repeated.
            tombstone: Duration::from_secs(32),
            hook_timeout: None,
            events_wait: None,
            referred_by_host: None,
            referred_by_display_name: None,
            hook_bodies: HookBodies::All,
        }
    }
}

impl ReferRules {
    /// These rules for a party that sends from `peer`.
    pub fn for_peer(&self, peer: SocketAddr) -> ReferRules {
        let mut rules = self.clone();
        if let Some(template) = &mut rules.bare_number {
            *template = template.replace("{source}", &peer.to_string());
        }
        rules
    }
}

impl Preset {
    const NAMES: [(&'static str, Preset); 5] = [
        ("twilio", Preset::Twilio),
        ("telnyx", Preset::Telnyx),
        ("oracle", Preset::Oracle),
        ("cognigy", Preset::Cognigy),
        ("jambonz", Preset::Jambonz),
    ];

    fn apply(self, rules: &mut ReferRules) {
        match self {
            // Until the BYE, for up to 32 s, the two parties do not hear each other.
            Preset::Twilio => rules.bye_delay = Duration::from_millis(100),
            // A number is one at the domain that all its connections share.
            Preset::Telnyx => rules.bare_number = Some("sip:{number}@sip.telnyx.com".into()),
            // By default it sends no NOTIFY but the final one, when the target answers.
            Preset::Oracle => {
                rules.notify_timeout = None;
                rules.result_timeout = None;
                rules.total_timeout = Duration::from_secs(180);
            }
            // Its releases from 4.80 on take a final 410 for a transfer that worked.
            Preset::Cognigy => rules.success_codes = vec![410],
            Preset::Jambonz => {
                rules.only_202 = true;
                rules.result_timeout = Some(Duration::from_secs(15));
                rules.hook_bodies = HookBodies::Jambonz;
            }
        }
    }
}

/// Reads a table of rules: what it does not say is as its `preset` has it, else as in `rules`. `total_timeout_max` is that of
/// `[transfer]`.
pub(super) fn read(table: Table<'_>, mut rules: ReferRules, total_timeout_max: Duration) -> ReferRules {
    let mut preset = None;
    let names = Preset::NAMES.map(|(name, preset)| (name, Some(preset)));
    table.choice("preset", &names, &mut preset);
    if let Some(preset) = preset {
        preset.apply(&mut rules);
    }
    if let Some(template) = table.value("bare_number", value::bare_number) {
        rules.bare_number = Some(template.value);
    }
    if let Some(host) = table.value("referred_by_host", value::sent_by_host) {
        rules.referred_by_host = Some(host.value);
    }
    if let Some(name) = table.value("referred_by_display_name", value::display_name) {
        rules.referred_by_display_name = Some(name.value);
    }
    if let Some(destinations) = table.values("destinations", value::destination) {
        rules.destinations = destinations.into_iter().map(|destination| destination.value).collect();
    }
    let modes = [
        ("in-dialog", ReferMode::InDialog),
        ("out-of-dialog", ReferMode::OutOfDialog),
    ];
    table.choice("refer_mode", &modes, &mut rules.refer_mode);
    table.flag("only_202", &mut rules.only_202);
    // 2xx is success anyway, 1xx is not final (RFC 3261 §7.2).
    if let Some(codes) = table.numbers("success_codes", 300..=699) {
        rules.success_codes = codes;
    }
    let meanings = [
        ("accepted", ByeMeansSuccess::Accepted),
        ("always", ByeMeansSuccess::Always),
        ("never", ByeMeansSuccess::Never),
    ];
    table.choice("bye_means_success", &meanings, &mut rules.bye_means_success);
    let conducts = [("keep", OnReferTimeout::Keep), ("bye", OnReferTimeout::Bye)];
    table.choice("on_refer_timeout", &conducts, &mut rules.on_refer_timeout);
    table.flag("bye_on_success", &mut rules.bye_on_success);
    let bodies = [("all", HookBodies::All), ("jambonz", HookBodies::Jambonz)];
    table.choice("hook_bodies", &bodies, &mut rules.hook_bodies);
    let seconds = Duration::from_secs;
    table.duration("bye_delay", Duration::ZERO..=seconds(32), &mut rules.bye_delay);
    table.duration("bye_grace", Duration::ZERO..=seconds(32), &mut rules.bye_grace);
    table.duration(
        "retry_after_max",
        Duration::ZERO..=seconds(60),
        &mut rules.retry_after_max,
    );
    table.duration("total_timeout", seconds(1)..=seconds(300), &mut rules.total_timeout);
    if let Some(key) = ["total_timeout", "preset"].into_iter().find(|key| table.has(key))
        && rules.total_timeout > total_timeout_max
    {
        let (total, most) = (
            value::duration_text(rules.total_timeout),
            value::duration_text(total_timeout_max),
        );
        let message = format!("`total_timeout`, {total}, is longer than `transfer.total_timeout_max`, {most}");
        table.mistake(table.at_value(key), message);
    }
    table.duration("queue_timeout", Duration::ZERO..=seconds(32), &mut rules.queue_timeout);
    table.duration("tombstone", Duration::ZERO..=seconds(300), &mut rules.tombstone);
    let tenth = Duration::from_millis(100);
    for (key, range, target) in [
        ("glare_wait", Duration::ZERO..=seconds(32), &mut rules.glare_wait),
        ("hook_timeout", tenth..=seconds(60), &mut rules.hook_timeout),
        ("events_wait", Duration::ZERO..=seconds(60), &mut rules.events_wait),
    ] {
        let mut wait = target.unwrap_or_default();
        table.duration(key, range, &mut wait);
        if table.has(key) {
            *target = Some(wait);
        }
    }
    for (key, most, target) in [
        ("response_timeout", 32, &mut rules.response_timeout),
        ("notify_timeout", 300, &mut rules.notify_timeout),
        ("result_timeout", 300, &mut rules.result_timeout),
    ] {
        let mut timeout = target.unwrap_or_default();
        table.duration(key, seconds(1)..=seconds(most), &mut timeout);
        if table.has(key) && timeout > rules.total_timeout {
            let total = value::duration_text(rules.total_timeout);
            table.mistake(
                table.at_value(key),
                format!("`{key}` is longer than `total_timeout`, {total}"),
            );
        }
        // One of a preset, or of the rules for all, is cut: it was chosen for another `total_timeout`.
        *target = (!timeout.is_zero()).then_some(timeout.min(rules.total_timeout));
    }
    table.finish();
    rules
}
