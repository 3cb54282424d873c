//! What there is in a drawn world: the configuration as text, the peers behind its trunks, and how bad things are.
//!
//! Each table of the configuration has its function here; a new key is one more line in the one it belongs to.

use super::super::application::Mood;
use super::super::dice::Dice;
use super::super::network::{Network, Weather};
use super::super::peer::Peer;
use super::super::peer::gate::{Gate, Refuses};
use super::super::peer::instinct::{Instinct, REFUSALS};
use super::super::peer::script::{EventIds, Manners};
use super::super::scene::config;
use super::super::trouble::Troubles;
use super::super::{PeerId, World};
use crate::timer::Instant;
use crate::transport::Transport;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// Peers of a world.
pub const MEMBERS_MAX: usize = 7;
const TRUNKS_MAX: u64 = 4;

/// referee's address on the side of carriers, and on the other.
const PUBLIC: &str = "203.0.113.7:5060";
const PRIVATE: &str = "10.0.0.1:5060";

/// A drawn setting.
#[derive(Debug)]
pub struct Setting {
    pub config: String,
    shards: u16,
    store: Option<[Duration; 2]>,
    pub trunks: Vec<Trunk>,
    weather: Weather,
    troubles: Troubles,
    /// Out of a thousand POSTs so many fail, and how long the slowest takes.
    hooks: (u64, Duration),
    /// Out of a thousand requests peers take so many oddly.
    odd: u64,
    /// From then on nothing goes wrong any more.
    pub heals: Instant,
    t1: Duration,
    /// Peers are members; parts of their manners that the setting draws.
    manners: Vec<Drawn>,
    names: Vec<(String, IpAddr)>,
    /// referee asks trunks how they are until it drains.
    pub has_probes: bool,
    /// By member; empty without an application.
    calls_with: Vec<Caller>,
    /// Some calls are led by an application.
    pub has_application: bool,
    /// How long calls go on after that.
    pub goes_on: Duration,
    /// A world in which little else goes on than transfers.
    pub is_about_transfers: bool,
}

/// A trunk with the addresses that calls to it go to.
#[derive(Debug)]
pub struct Trunk {
    pub name: String,
    is_public: bool,
    addresses: Vec<(Transport, IpAddr)>,
    /// Whether calls of its have a route.
    pub has_route: bool,
}

#[derive(Debug)]
struct Drawn {
    trunk: usize,
    address: usize,
    first_cseq: u32,
    follows_routes: bool,
    event_ids: EventIds,
    has_credentials: bool,
    contact: Option<String>,
    has_proxy: bool,
    refer_code: Option<u16>,
    gate: Option<Gate>,
}

/// What a peer says in its calls where applications lead some.
#[derive(Debug)]
struct Caller {
    offers: bool,
    answers_offers: bool,
    headers: Headers,
}

type Headers = &'static [(&'static str, &'static str)];

/// Header lines of calls and of the answers to them.
const CALLERS: &[Headers] = &[
    &[("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO")],
    &[
        ("Allow", "INVITE, ACK, BYE, UPDATE"),
        ("Supported", "timer"),
        ("Session-Expires", "90;refresher=uas"),
    ],
    &[
        ("Allow", "INVITE, ACK, BYE"),
        ("Supported", "timer"),
        ("Session-Expires", "90;refresher=uas"),
    ],
    &[
        ("Allow", "INVITE, ACK, BYE"),
        ("Supported", "timer"),
        ("Session-Expires", "90"),
    ],
    &[("Allow", "INVITE, ACK, BYE"), ("Require", "100rel")],
    &[("Allow", "INVITE, ACK, BYE"), ("Session-Expires", "120")],
];

/// A peer of the world.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: PeerId,
    pub name: String,
    /// An index into [`Setting::trunks`].
    pub trunk: usize,
    /// Where it reaches referee.
    pub referee: &'static str,
}

impl Setting {
    pub fn draw(mut dice: Dice, mut of_led: Dice) -> Setting {
        let is_about_transfers = dice.one_in(4);
        let shards = 1 + dice.below(3) as u16;
        let t1 = Duration::from_millis(dice.one_of(&[500, 500, 500, 250, 1_000]));
        let heals = Instant::from_millis(45_000 + dice.below(30_000));
        let trunks = trunks(&mut dice);
        let mut setting = Setting {
            config: String::new(),
            shards,
            store: store(&mut dice),
            weather: weather(&mut dice),
            troubles: Troubles::with_store([Duration::ZERO; 2]),
            hooks: (0, Duration::from_millis(1)),
            odd: dice.one_of(&[0, 100, 200, 400]),
            heals,
            t1,
            manners: Vec::new(),
            names: Vec::new(),
            has_probes: false,
            calls_with: Vec::new(),
            // In some longer than a session interval that nobody refreshes.
            goes_on: Duration::from_secs(dice.one_of(&[0, 0, 0, 120])),
            is_about_transfers,
            has_application: of_led.one_in(3),
            trunks,
        };
        if is_about_transfers {
            setting.weather.loss /= 5;
            setting.odd /= 2;
        }
        setting.listeners();
        setting.timers(&mut dice);
        setting.limits(&mut dice);
        setting.access(&mut dice);
        setting.transfer(&mut dice);
        setting.hooks(&mut dice);
        for number in 0..setting.trunks.len() {
            setting.trunk(number, &mut dice);
        }
        if setting.has_application {
            setting.application(&mut of_led);
        }
        for number in 0..setting.trunks.len() {
            setting.led(number, &mut of_led);
            setting.routes(number, &mut dice);
        }
        if setting.has_application {
            setting.callers(&mut of_led);
        }
        setting.behind(&mut dice);
        setting.members(&mut dice);
        for number in 0..setting.trunks.len() {
            setting.auth(number, &mut dice);
        }
        setting
    }

    /// How it is in words, for whoever reads a failure.
    pub fn summary(&self) -> String {
        format!(
            "{} shards, store {:?}, {:?}, {:?}, hooks {:?}, odd {}, heals at {} s",
            self.shards,
            self.store,
            self.weather,
            self.troubles,
            self.hooks,
            self.odd,
            self.heals.as_micros() / 1_000_000
        )
    }

    /// The URI by which a call of this trunk reaches referee.
    pub fn uri(&self, trunk: usize, user: &str) -> String {
        format!("sip:{user}@{}", self.referee(trunk))
    }

    pub fn referee(&self, trunk: usize) -> &'static str {
        match self.trunks[trunk].is_public {
            true => PUBLIC,
            false => PRIVATE,
        }
    }

    // ---- the configuration ----

    fn line(&mut self, line: &str) {
        self.config.push_str(line);
        self.config.push('\n');
    }

    /// A key that is there in some worlds.
    fn key(&mut self, dice: &mut Dice, name: &str, values: &[&str]) {
        if !dice.one_in(2) {
            let value = dice.one_of(values);
            self.line(&format!("{name} = {value}"));
        }
    }

    /// A key that is there in few worlds: a limit so low that it is reached.
    fn rare(&mut self, dice: &mut Dice, name: &str, values: &[&str]) {
        if dice.one_in(if self.is_about_transfers { 32 } else { 8 }) {
            let value = dice.one_of(values);
            self.line(&format!("{name} = {value}"));
        }
    }

    fn listeners(&mut self) {
        for (name, address) in [("public", PUBLIC), ("private", PRIVATE)] {
            self.line("[[listen]]");
            self.line(&format!("name = \"{name}\""));
            self.line(&format!("bind = [\"udp:{address}\", \"tcp:{address}\"]"));
        }
    }

    fn timers(&mut self, dice: &mut Dice) {
        self.line("[timers]");
        self.line(&format!("t1 = \"{}ms\"", self.t1.as_millis()));
        self.key(dice, "t2", &["\"4s\"", "\"2s\"", "\"8s\""]);
        self.key(dice, "t4", &["\"5s\"", "\"6s\""]);
    }

    fn limits(&mut self, dice: &mut Dice) {
        self.line("[limits]");
        self.rare(dice, "calls_max", &["1", "2", "3"]);
        self.rare(dice, "transactions_max", &["4", "8", "16"]);
        self.key(dice, "held_per_call_max", &["8", "1", "2"]);
        self.rare(dice, "lookups_max", &["1", "2"]);
        self.rare(dice, "transfers_remembered", &["0", "1", "2"]);
    }

    fn access(&mut self, dice: &mut Dice) {
        self.line("[access]");
        self.key(dice, "unknown_source", &["\"reject\"", "\"silent\""]);
        self.key(dice, "in_dialog_sources", &["\"trunk\"", "\"any\""]);
    }

    fn transfer(&mut self, dice: &mut Dice) {
        self.line("[transfer]");
        self.key(dice, "hold", &["\"500ms\"", "\"0s\"", "\"4s\""]);
        self.key(dice, "per_call_max", &["5", "1", "2"]);
        self.key(dice, "total_timeout_max", &["\"300s\"", "\"60s\""]);
    }

    fn hooks(&mut self, dice: &mut Dice) {
        self.line("[hooks]");
        self.line("base_url = \"https://app.example.com\"");
        self.key(dice, "status_format", &["\"number\"", "\"string\""]);
        self.key(dice, "timeout", &["\"10s\"", "\"1s\""]);
        self.key(dice, "events_wait", &["\"2s\"", "\"0s\"", "\"10s\""]);
        self.key(dice, "action_retry_for", &["\"15m\"", "\"0s\"", "\"30s\""]);
        self.key(dice, "threads", &["16", "1", "2"]);
        self.rare(dice, "queue_max", &["1", "2", "5"]);
    }

    fn trunk(&mut self, number: usize, dice: &mut Dice) {
        let trunk = &self.trunks[number];
        let (listen, network) = match trunk.is_public {
            true => ("public", format!("198.51.{}.0/24", 100 + number)),
            false => ("private", format!("10.0.{}.0/24", 10 + number)),
        };
        let mut addresses = Vec::new();
        for (place, (transport, ip)) in trunk.addresses.iter().enumerate() {
            let host = match dice.one_in(4) {
                true => {
                    let name = format!("sip{place}.{}.example", trunk.name);
                    self.names.push((name.clone(), *ip));
                    name
                }
                false => ip.to_string(),
            };
            addresses.push(format!("\"{transport}:{host}:5060\""));
        }
        let mut text = String::new();
        let side = match (trunk.is_public, dice.one_in(6) && !self.is_about_transfers) {
            (_, true) => None,
            (true, false) => Some("carrier"),
            (false, false) => Some("platform"),
        };
        let _ = writeln!(text, "[[trunk]]\nname = \"{}\"\nlisten = \"{listen}\"", trunk.name);
        let _ = writeln!(
            text,
            "addresses = [{}]\nsources = [\"{network}\"]",
            addresses.join(", ")
        );
        if let Some(side) = side {
            let _ = writeln!(text, "side = \"{side}\"");
        }
        self.config += &text;
        self.key(dice, "inbound_refer", &["\"relay\"", "\"reject\""]);
        self.rare(dice, "calls_max", &["1", "2", "3"]);
        self.rare(dice, "calls_per_second_max", &["1", "2"]);
        if dice.one_in(4) {
            self.health(dice);
        }
        self.line("[trunk.refer]");
        self.line("destinations = [\"+49*\", \"sip:*@backup.example\"]");
        self.line("bare_number = \"sip:{number}@trunk.example.net\"");
        self.key(dice, "success_codes", &["[410]", "[]"]);
        self.key(dice, "bye_means_success", &["\"accepted\"", "\"always\"", "\"never\""]);
        self.key(dice, "on_refer_timeout", &["\"keep\"", "\"bye\""]);
        self.key(dice, "bye_on_success", &["true", "false"]);
        self.key(dice, "bye_delay", &["\"1s\"", "\"0s\"", "\"5s\""]);
        self.key(dice, "bye_grace", &["\"1s\"", "\"0s\"", "\"3s\""]);
        self.key(dice, "tombstone", &["\"32s\"", "\"0s\"", "\"5s\"", "\"120s\""]);
        self.key(dice, "queue_timeout", &["\"4s\"", "\"0s\"", "\"32s\""]);
        self.key(dice, "glare_wait", &["\"500ms\"", "\"0s\"", "\"3s\""]);
        self.key(dice, "retry_after_max", &["\"5s\"", "\"0s\"", "\"60s\""]);
        if dice.one_in(3) {
            self.line(&format!("response_timeout = \"{}s\"", dice.one_of(&[1, 5, 10])));
        }
        let total = dice.one_of(&[120, 10, 60, 300]);
        // As the configuration wants it.
        let total = match self.config.contains("total_timeout_max = \"60s\"") {
            true => total.min(60),
            false => total,
        };
        self.line(&format!("total_timeout = \"{total}s\""));
        if dice.one_in(3) {
            self.line(&format!(
                "notify_timeout = \"{}s\"",
                dice.one_of(&[1, 5, 10]).min(total)
            ));
        }
    }

    fn health(&mut self, dice: &mut Dice) {
        self.line("[trunk.health]");
        self.line(&format!("period = \"{}s\"", dice.one_of(&[5, 10, 30])));
        self.line(&format!("timeout = \"{}ms\"", dice.one_of(&[200, 1_000, 5_000])));
        self.key(dice, "failures", &["1", "2", "3"]);
        self.key(dice, "successes", &["1", "2"]);
        self.has_probes = true;
    }

    /// An application that leads some calls.
    fn application(&mut self, dice: &mut Dice) {
        self.line("[[application]]");
        self.line("name = \"ivr\"");
        self.line("call_hook = \"https://ivr.example.com/call\"");
        self.line("call_status_hook = \"/status\"");
        self.key(dice, "on_unanswered", &["\"answer\"", "\"redirect\"", "\"fail\""]);
        self.key(dice, "media_verbs", &["\"skip\"", "\"reject\""]);
        self.key(dice, "media_address", &["\"192.0.2.99:4000\""]);
        self.key(dice, "answer_timeout", &["\"5s\"", "\"3m\"", "\"1s\""]);
    }

    /// A route to it, for some or all calls of a trunk.
    fn led(&mut self, from: usize, dice: &mut Dice) {
        if !self.has_application || dice.one_in(3) {
            return;
        }
        let name = self.trunks[from].name.clone();
        let user = dice.one_of(&["+4930*", "alice", "+49*"]);
        self.line(&format!(
            "[[route]]\nfrom = \"{name}\"\nmatch = {{ user = \"{user}\" }}\napplication = \"ivr\""
        ));
    }

    /// How those are who call it.
    fn callers(&mut self, dice: &mut Dice) {
        self.calls_with = (0..MEMBERS_MAX)
            .map(|_| Caller {
                offers: !dice.one_in(4),
                answers_offers: !dice.one_in(6),
                headers: dice.one_of(CALLERS),
            })
            .collect();
    }

    fn routes(&mut self, from: usize, dice: &mut Dice) {
        let mut others: Vec<usize> = (0..self.trunks.len()).filter(|other| *other != from).collect();
        // Who is first asked differs.
        let turn = dice.below(others.len() as u64) as usize;
        others.rotate_left(turn);
        others.truncate(1 + dice.below(others.len() as u64) as usize);
        let name = self.trunks[from].name.clone();
        if dice.one_in(6) {
            let only = self.trunks[others[0]].name.clone();
            self.line(&format!(
                "[[route]]\nfrom = \"{name}\"\nmatch = {{ user = \"+4930*\" }}\nto = \"{only}\""
            ));
        }
        let to: Vec<String> = others
            .iter()
            .map(|other| format!("\"{}\"", self.trunks[*other].name))
            .collect();
        self.line(&format!("[[route]]\nfrom = \"{name}\"\nto = [{}]", to.join(", ")));
        let mode = dice.one_of(&["sequential", "parallel", "weighted"]);
        self.line(&format!("mode = \"{mode}\""));
        if mode == "weighted" {
            let weights: Vec<String> = to.iter().map(|_| (1 + dice.below(5)).to_string()).collect();
            self.line(&format!("weights = [{}]", weights.join(", ")));
        }
        self.key(dice, "response_timeout", &["\"3s\"", "\"500ms\"", "\"10s\""]);
        self.key(dice, "answer_timeout", &["\"5s\"", "\"1s\"", "\"60s\""]);
        self.trunks[from].has_route = true;
    }

    // ---- around it ----

    fn behind(&mut self, dice: &mut Dice) {
        let slow = |dice: &mut Dice| Duration::from_millis(dice.one_of(&[5, 100, 2_000, 8_000]));
        self.troubles = Troubles {
            until: self.heals,
            store: self.store.unwrap_or_default(),
            lookup: [Duration::from_millis(1), slow(dice)],
            lookups_fail: dice.one_of(&[0, 100, 400]),
        };
        self.hooks = (dice.one_of(&[0, 100, 500]), slow(dice));
    }

    fn members(&mut self, dice: &mut Dice) {
        // The last two: little more than a REFER of referee's must leave to what follows it, and hardly any number left.
        let first_cseqs = [1, 1, 1, 1_000, 3_000, 0x7fff_fbf0, 0x7fff_fffd];
        let mut refer_codes = vec![None];
        if dice.one_in(2) {
            refer_codes = vec![Some(dice.one_of(&[491, 491, 200])), Some(dice.one_of(REFUSALS))];
        }
        for (trunk, of_trunk) in self.trunks.iter().enumerate() {
            for address in 0..of_trunk.addresses.len() {
                let contact = dice.one_in(4).then(|| format!("ua{address}.{}.example", of_trunk.name));
                if let Some(name) = &contact {
                    self.names.push((name.clone(), of_trunk.addresses[address].1));
                }
                self.manners.push(Drawn {
                    trunk,
                    address,
                    first_cseq: dice.one_of(&first_cseqs),
                    follows_routes: !dice.one_in(6),
                    event_ids: dice.one_of(&[EventIds::FromTheSecond, EventIds::FromTheSecond, EventIds::Always]),
                    has_credentials: !dice.one_in(3),
                    contact: contact.map(|name| format!("{name}:5060")),
                    has_proxy: dice.one_in(3),
                    // In half of the worlds one kind of refusal is frequent, so that all its consequences are seen.
                    refer_code: refer_codes[dice.below(refer_codes.len() as u64) as usize],
                    gate: None,
                });
            }
        }
        self.manners.truncate(MEMBERS_MAX);
    }

    /// Some trunks ask for credentials, each address as it likes.
    fn auth(&mut self, number: usize, dice: &mut Dice) {
        if !dice.one_in(3) {
            return;
        }
        let name = self.trunks[number].name.clone();
        let mut text = format!("[trunk.auth]\nusername = \"{name}\"\npassword = \"p {name}\"\n");
        if dice.one_in(6) {
            text += "realms = [\"elsewhere\"]\n";
        }
        let Some(start) = self.config.find(&format!("[[trunk]]\nname = \"{name}\"\n")) else {
            return;
        };
        let others = ["[[trunk]]", "[[route]]"].map(|table| self.config[start + 1..].find(table));
        let end = others
            .into_iter()
            .flatten()
            .min()
            .map_or(self.config.len(), |end| start + 1 + end);
        self.config.insert_str(end, &text);
        for member in self.manners.iter_mut().filter(|member| member.trunk == number) {
            if dice.one_in(4) {
                continue;
            }
            let realm = dice.one_of(&["r", "other", name.as_str()]);
            let mut gate = Gate::new(dice.one_of(&[401, 407]), realm, &name, &format!("p {name}"));
            let algorithms: &[&[&str]] = &[
                &["SHA-256", "MD5"],
                &["MD5"],
                &[""],
                &["SHA-256-sess"],
                &["X", "SHA-512-256"],
            ];
            gate.algorithms = dice.one_of(algorithms).iter().map(|name| (*name).to_owned()).collect();
            let is_sess = gate.algorithms.iter().any(|name| name.ends_with("-sess"));
            let qops: &[Option<&str>] = &[Some("auth"), Some("auth-int"), Some("auth,auth-int"), None];
            gate.qop = dice
                .one_of(&qops[..qops.len() - usize::from(is_sess)])
                .map(str::to_owned);
            gate.userhash = dice.one_in(4);
            gate.uses = dice.one_of(&[usize::MAX, usize::MAX, 1, 3]);
            gate.refuses = dice.one_of(&[
                None,
                None,
                None,
                None,
                None,
                None,
                Some(Refuses::AsStale),
                Some(Refuses::AsWrong),
            ]);
            let passing: &[&[&str]] = &[&[], &[], &["INVITE"], &["BYE", "INFO", "UPDATE", "PRACK", "NOTIFY"]];
            gate.lets_pass = dice.one_of(passing).iter().map(|name| (*name).to_owned()).collect();
            gate.until = Some(self.heals);
            member.gate = Some(gate);
        }
    }

    /// Makes the world.
    pub fn build(
        &mut self,
        seed: u64,
        of_network: Dice,
        of_world: Dice,
        of_application: Dice,
        of_peers: Vec<Dice>,
    ) -> (World, Vec<Member>) {
        let mut network = Network::new(of_network);
        network.set_weather(self.weather, Some(self.heals));
        let mut world = World::with(seed, self.shards, config(&self.config), self.store, of_world, network);
        world.trouble(self.troubles);
        world.deliver_by_lanes();
        world.number_calls();
        world.all_ask_for_events();
        world.audit_every(AUDIT_EVERY);
        world.application.set_mood(Mood {
            dice: of_application,
            until: self.heals,
            slow: self.hooks.1,
            failing: self.hooks.0,
            replies: replies(),
            lists: lists(),
        });
        for (name, ip) in &self.names {
            world.name(name, &[*ip]);
        }
        let mut members = Vec::new();
        for (drawn, dice) in self.manners.iter().zip(of_peers) {
            let trunk = &self.trunks[drawn.trunk];
            let (transport, ip) = trunk.addresses[drawn.address];
            let name = format!("{}{}", trunk.name, drawn.address);
            let referee = self.referee(drawn.trunk);
            let mut manners = Manners::new(referee, &format!("\"{name}\" <sip:+4930{name}@example.com>"));
            manners.in_order = false;
            manners.refuses_merged = true;
            manners.transport = transport;
            manners.first_cseq = drawn.first_cseq;
            manners.follows_routes = drawn.follows_routes;
            manners.event_ids = drawn.event_ids;
            manners.has_credentials = drawn.has_credentials;
            manners.agrees_to_intervals = true;
            manners.cancel_reason = Some("SIP;cause=480".to_owned());
            manners.contact_host = drawn.contact.clone();
            manners.proxy = drawn.has_proxy.then(|| match transport {
                Transport::Udp => format!("<sip:{ip}:5060;lr;n={}>", drawn.address),
                Transport::Tcp => format!("<sip:{ip}:5060;transport=tcp;lr;n={}>", drawn.address),
            });
            manners.t1 = self.t1;
            if let Some(caller) = self.calls_with.get(members.len()) {
                manners.calls_applications = true;
                manners.offers = caller.offers;
                manners.answers_offers = caller.answers_offers;
                let lines = caller.headers.iter();
                manners.headers = lines.map(|(name, value)| ((*name).into(), (*value).into())).collect();
            }
            let mut peer = Peer::new(&name, &format!("{ip}:5060"), manners);
            peer.instinct = Some(Instinct {
                dice,
                until: self.heals,
                odd: self.odd,
                refer_code: drawn.refer_code,
                answers: self.is_about_transfers,
            });
            peer.gate = drawn.gate.clone();
            members.push(Member {
                id: world.add(peer),
                name,
                trunk: drawn.trunk,
                referee,
            });
        }
        (world, members)
    }
}

/// Inputs of a shard between two audits.
const AUDIT_EVERY: u64 = 8;

/// Two to four trunks, on both sides of referee, with one to three addresses each.
fn trunks(dice: &mut Dice) -> Vec<Trunk> {
    let count = 2 + dice.below(TRUNKS_MAX - 1) as usize;
    let mut addresses_left = MEMBERS_MAX;
    (0..count)
        .map(|number| {
            let is_public = number == 0 || (number > 1 && dice.one_in(2));
            let name = if is_public { "carrier" } else { "platform" };
            let others = count - number - 1;
            let most = (addresses_left - others).min(3) as u64;
            let addresses = if dice.one_in(3) { 1 + dice.below(most) } else { 1 };
            addresses_left -= addresses as usize;
            let ip = |place: u64| -> IpAddr {
                let [a, b, c] = match is_public {
                    true => [198, 51, 100 + number as u8],
                    false => [10, 0, 10 + number as u8],
                };
                [a, b, c, 10 + place as u8].into()
            };
            let addresses = (0..addresses).map(|place| {
                let transport = match dice.one_in(3) {
                    true => Transport::Tcp,
                    false => Transport::Udp,
                };
                (transport, ip(place))
            });
            Trunk {
                name: format!("{name}{number}"),
                is_public,
                addresses: addresses.collect(),
                has_route: false,
            }
        })
        .collect()
}

fn store(dice: &mut Dice) -> Option<[Duration; 2]> {
    dice.one_in(3).then(|| {
        let most = dice.one_of(&[1, 80, 1_000, 6_000]);
        [Duration::from_millis(1), Duration::from_millis(most)]
    })
}

/// Up to 30 % of all datagrams are lost.
fn weather(dice: &mut Dice) -> Weather {
    let most = dice.one_of(&[1, 60, 60, 400]);
    Weather {
        loss: dice.below(301),
        duplication: dice.below(200),
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(1 + dice.below(most)),
    }
}

/// What applications answer when a call comes in, or is redirected to them.
fn lists() -> Vec<Value> {
    let refer = |to: &str| json!({"verb": "sip:refer", "referTo": to, "actionHook": "/a", "eventHook": "/e"});
    let info = json!({"verb": "sip:request", "method": "INFO", "body": "a=b", "actionHook": "/info"});
    vec![
        json!([{"verb": "answer"}, refer("+4930111"), {"verb": "hangup"}]),
        json!([{"verb": "config", "notifyEvents": true}, refer("+4930111"), refer("sip:queue@backup.example")]),
        json!([{"verb": "pause", "length": 2}, {"verb": "answer"}, info, {"verb": "pause", "length": 60}]),
        json!([{"verb": "answer"}, {"verb": "pause", "length": 300}]),
        json!([{"verb": "answer"}, {"verb": "redirect", "actionHook": "/next"}]),
        json!([{"verb": "tag", "data": {"a": 1}}, {"verb": "answer"}, {"verb": "say", "text": "x"}, refer("+4930111")]),
        json!([{"sip:decline": {"status": 486, "headers": {"X-Why": "busy"}}}]),
        json!([refer("sip:nobody@elsewhere.example"), {"verb": "answer"}, refer("tel:+493022")]),
        json!([{"verb": "hangup"}]),
        json!([]),
        json!([{"verb": "nonsense"}]),
    ]
}

/// What applications answer to an action.
fn replies() -> Vec<Value> {
    let refer = |to: &str| json!({"verb": "sip:refer", "referTo": to, "actionHook": "/again", "eventHook": "/e"});
    vec![
        json!([refer("+4930222")]),
        json!([{"verb": "pause", "length": 0.5}, refer("sip:queue@backup.example")]),
        json!([refer("sip:nobody@elsewhere.example")]),
        json!([{"verb": "hangup", "headers": {"X-Why": "done"}}]),
        json!([{"verb": "tag", "data": {"a": 1}}, {"verb": "hangup"}]),
        json!([]),
        json!([{"verb": "nonsense"}]),
    ]
}
