//! What a proxy may change in what it passes on (RFC 3261 §16.6, §16.7): nothing but what is named here.

use super::Faults;
use crate::config::Config;
use crate::sim::peer::text::{Text, param};
use crate::timer::Instant;
use crate::transport::Flow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// A message of a peer's as it came: the branch of its sender, and the method.
type Key = (String, String);

/// Header fields of requests that a proxy changes, each with a rule of its own, or that are another check's.
const OF_REQUEST: &[&str] = &[
    "Via",
    "Route",
    "Record-Route",
    "Max-Forwards",
    "Max-Breadth",
    // `dialogs` looks at its number.
    "CSeq",
    "RAck",
    "Event",
    // RFC 3261 §18.3.
    "Content-Length",
    // Of a trunk that challenges referee (RFC 3261 §22.3): these are added.
    "Authorization",
    "Proxy-Authorization",
];

/// Likewise of responses.
const OF_RESPONSE: &[&str] = &[
    "Via",
    "CSeq",
    "Content-Length",
    "WWW-Authenticate",
    "Proxy-Authenticate",
];

const CHALLENGES: [&str; 2] = ["WWW-Authenticate", "Proxy-Authenticate"];

#[derive(Debug, Default)]
pub(super) struct Relayed {
    has_policy: bool,
    requests: BTreeMap<Key, Came>,
    /// Final and provisional responses that came to what referee has sent on.
    responses: BTreeMap<Key, Vec<Came>>,
    /// By the branch of their sender and the hop, the last branches with which requests left, and when. Those of which a sending has
    /// failed are left out.
    left_for: BTreeMap<(Key, IpAddr), (String, Instant)>,
    /// For so long at least a target may be silent.
    patience: Duration,
    /// INVITEs that have been answered, with a 100 at least.
    answered: BTreeSet<String>,
    replayed: BTreeSet<String>,
    /// Responses that have left: the same again is a repeat.
    left: BTreeSet<(Key, String, String)>,
}

#[derive(Debug)]
struct Came {
    text: Text,
    /// By which it came; a stream may have broken in between.
    flows: Vec<Flow>,
    at: Instant,
}

/// Header fields of session timers, where referee has its word in them (RFC 4028 §8).
const OF_SESSION: &[&str] = &["Session-Expires", "x", "Min-SE", "Require", "Supported", "k"];

impl Relayed {
    pub fn new(config: &Config) -> Relayed {
        let patience = config.routes.iter().flat_map(|route| {
            let answer = route.answer_timeout.into_iter();
            answer.chain([route.response_timeout])
        });
        Relayed {
            // referee asks for session intervals.
            has_policy: config.session != Default::default(),
            patience: patience.min().unwrap_or_default().min(64 * config.timers.t1),
            ..Relayed::default()
        }
    }

    fn but(&self, fields: &[&'static str]) -> Vec<&'static str> {
        let of_session = OF_SESSION.iter().filter(|_| self.has_policy);
        fields.iter().chain(of_session).copied().collect()
    }

    pub fn request(&mut self, text: &Text, flow: Flow, now: Instant) {
        let came = || Came {
            text: text.clone(),
            flows: Vec::new(),
            at: now,
        };
        let came = self.requests.entry(key(text)).or_insert_with(came);
        came.flows.push(flow);
    }

    /// A response came to a request with a branch of referee's.
    pub fn response(&mut self, text: &Text, flow: Flow, now: Instant) {
        if let Some(via) = text.list("Via").get(1) {
            let key = (branch_of(via), text.method().to_owned());
            let came = Came {
                text: text.clone(),
                flows: vec![flow],
                at: now,
            };
            self.responses.entry(key).or_default().push(came);
        }
    }

    pub fn replayed(&mut self, text: &Text) {
        self.replayed.insert(text.branch());
    }

    /// What answers another copy of it may come to nobody (RFC 3261 §17.1.4).
    pub fn send_failed(&mut self, text: &Text) {
        self.left_for.retain(|_, (branch, _)| *branch != text.branch());
    }

    // ---- requests ----

    pub fn sent_request(&mut self, text: &Text, flow: Flow, now: Instant, faults: &mut Faults) {
        let vias = text.list("Via");
        let Some(below) = vias.get(1) else { return };
        let key = (branch_of(below), text.method().to_owned());
        let of_hop = self.left_for.entry((key.clone(), flow.peer.ip()));
        let known = of_hop.or_insert_with(|| (text.branch(), now));
        if known.0 != text.branch() {
            *known = (text.branch(), now);
        }
        // Who says so twice, at another address, is an impostor, and says what it likes.
        if self.replayed.contains(&key.0) {
            return;
        }
        let Some(Came { text: came, flows, .. }) = self.requests.get(&key) else {
            return faults.push(format!("`{}` is relayed and never came", text.label()));
        };
        let mut fault = |what: String| faults.push(format!("`{}` of {} {what}", text.label(), text.call_id()));
        if !came.list("Via")[1..].iter().eq(&vias[2..]) {
            fault("has other Vias below those of its last hops".into());
        }
        if !flows.iter().any(|flow| is_stamped(&came.list("Via")[0], below, *flow)) {
            fault(format!("came from {} and has the Via `{below}`", flows[0].peer));
        }
        // RFC 3261 §16.6 step 3.
        let hops = |text: &Text| text.header("Max-Forwards").and_then(|hops| hops.parse::<u8>().ok());
        let left = match hops(came) {
            Some(hops) => hops.checked_sub(1),
            None => Some(70),
        };
        if hops(text) != left {
            fault(format!(
                "has Max-Forwards {:?} and came with {:?}",
                hops(text),
                hops(came)
            ));
        }
        // RFC 3261 §16.6 step 4: what makes a dialog passes here from now on.
        let (above, below) = (text.list("Record-Route"), came.list("Record-Route"));
        let own = above.len().checked_sub(below.len());
        match own {
            Some(own) if above[own..] == below => {}
            _ => fault(format!("has the Record-Routes {above:?} and came with {below:?}")),
        }
        if came.method() == "INVITE" && came.tag("To").is_none() && own.is_none_or(|own| own == 0) {
            fault("opens a dialog without a Record-Route of referee's".into());
        }
        if came.method() == "INVITE" && !self.answered.contains(&key.0) {
            // RFC 3261 §17.2.1.
            fault("is sent on before it is answered with a 100".into());
        }
        let event = |text: &Text| without_id(text.header("Event"));
        if event(text) != event(came) {
            fault(format!(
                "is of the event {:?} and came of {:?}",
                event(text),
                event(came)
            ));
        }
        for name in ["Authorization", "Proxy-Authorization"] {
            if !came.list(name).iter().all(|value| text.list(name).contains(value)) {
                fault(format!("has lost its {name}"));
            }
        }
        if let Err(what) = is_same(came, text, &self.but(OF_REQUEST)) {
            fault(what);
        }
    }

    // ---- responses ----

    /// A response leaves. `true`: a peer has given it.
    pub fn sent_response(&mut self, text: &Text, faults: &mut Faults) -> bool {
        let key = key(text);
        self.check_copied(&key, text, faults);
        if key.1 == "INVITE" {
            self.answered.insert(key.0.clone());
        }
        let to = text.header("To").unwrap_or_default();
        if text.code() == 100 {
            return false;
        }
        // What has not come like this is referee's own.
        let is_like_it = |came: &&Text| came.first == text.first && came.header("To") == Some(to);
        let all = self.responses.get(&key).map_or(&[][..], Vec::as_slice);
        let came = all.iter().map(|came| &came.text).filter(is_like_it);
        let but = self.but(OF_RESPONSE);
        let mut difference = None;
        for came in came {
            match is_same_response(came, text, &but) {
                Ok(()) => {
                    let is_new = !self.replayed.contains(&key.0)
                        && self.left.insert((key.clone(), text.first.clone(), to.to_owned()));
                    if let Some(lost) = self.lost_challenge(text, &key).filter(|_| is_new) {
                        faults.push(format!("`{}` of {} has not the {lost}", text.label(), text.call_id()));
                    }
                    return true;
                }
                Err(what) => difference = Some(what),
            }
        }
        let is_relayed = difference.is_some();
        let is_new = self.left.insert((key.clone(), text.first.clone(), to.to_owned()));
        if let Some(what) = difference.filter(|_| is_new && !self.replayed.contains(&key.0)) {
            faults.push(format!("`{}` of {} {what}", text.label(), text.call_id()));
        }
        is_relayed
    }

    /// What each response has of its request (RFC 3261 §8.2.6.2), with where that came from (§18.2.1, RFC 3581 §4).
    fn check_copied(&self, key: &Key, text: &Text, faults: &mut Faults) {
        let Some(Came { text: came, flows, .. }) = self.requests.get(key).filter(|_| !self.replayed.contains(&key.0))
        else {
            return;
        };
        let mut fault = |what: String| faults.push(format!("`{}` of {} {what}", text.label(), text.call_id()));
        let (asked, answered) = (came.list("Via"), text.list("Via"));
        let is_of = |flow: &Flow| is_stamped(&asked[0], &answered[0], *flow);
        if answered.len() != asked.len() || answered[1..] != asked[1..] || !flows.iter().any(is_of) {
            fault(format!(
                "has the Vias {answered:?} and its request, from {:?}, {asked:?}",
                flows[0].peer
            ));
        }
        for name in ["From", "Call-ID", "CSeq"] {
            if came.header(name) != text.header(name) {
                fault(format!("has another {name} than its request"));
            }
        }
    }
}

impl Relayed {
    /// RFC 3261 §16.7 step 7: a challenge that is passed on has those of all other targets that have asked for credentials, but those that
    /// referee has answered, and of targets that it may have left before.
    fn lost_challenge(&self, left: &Text, key: &Key) -> Option<String> {
        if !matches!(left.code(), 401 | 407) {
            return None;
        }
        let all = self.responses.get(key)?;
        // Who is answered by referee, and asks again when all is decided, asks for what only referee has.
        let is_challenge = |came: &Came| matches!(came.text.code(), 401 | 407);
        let is_only_one = |came: &Came| {
            let is_of_hop = |other: &&Came| is_challenge(other) && other.flows[0].peer.ip() == came.flows[0].peer.ip();
            all.iter()
                .filter(is_of_hop)
                .all(|other| other.text.branch() == came.text.branch())
        };
        let counts = |came: &&Came| {
            let of_hop = self.left_for.get(&(key.clone(), came.flows[0].peer.ip()));
            let is_asked =
                |(branch, at): &(String, Instant)| *branch == came.text.branch() && came.at < *at + self.patience;
            is_challenge(came) && of_hop.is_some_and(is_asked) && is_only_one(came)
        };
        let values = all.iter().filter(counts).flat_map(|came| {
            let of_name = |name| came.text.list(name).into_iter().map(move |value| (name, value));
            CHALLENGES.into_iter().flat_map(of_name)
        });
        let mut lost = values.filter(|(name, value)| !left.list(name).contains(value));
        lost.next().map(|(name, value)| format!("{name} {value}"))
    }
}

fn key(text: &Text) -> Key {
    (text.branch(), text.method().to_owned())
}

fn branch_of(via: &str) -> String {
    param(via, "branch").unwrap_or_default()
}

/// Whether the top Via says where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
fn is_stamped(came: &str, left: &str, flow: Flow) -> bool {
    let head = |via: &str| via.split(';').next().unwrap_or_default().to_owned();
    let (ip, port) = (flow.peer.ip().to_string(), flow.peer.port().to_string());
    let (wants_port, received) = (param(came, "rport").is_some(), param(left, "received"));
    let is_port_said = !wants_port || param(left, "rport") == Some(port);
    let is_address_said = match received {
        Some(received) => received == ip,
        None => !wants_port && head(came).contains(&ip),
    };
    head(came) == head(left) && is_port_said && is_address_said
}

fn is_same_response(came: &Text, left: &Text, but: &[&str]) -> Result<(), String> {
    if came.list("Via")[1..] != left.list("Via")[..] {
        return Err("has other Vias than it came with below referee's".into());
    }
    // RFC 3261 §16.7 step 7: only into a challenge those of other branches are put.
    for name in CHALLENGES {
        let (before, after) = (came.list(name), left.list(name));
        if !before.iter().all(|value| after.contains(value)) {
            return Err(format!("has lost a {name}"));
        }
        if !matches!(left.code(), 401 | 407) && after != before {
            return Err(format!("has won a {name}"));
        }
    }
    is_same(came, left, but)
}

/// Whether all else is the same, in the same order.
fn is_same(came: &Text, left: &Text, but: &[&str]) -> Result<(), String> {
    let rest = |text: &Text| -> Vec<(String, String)> {
        let is_rest = |name: &str| !but.iter().any(|but| but.eq_ignore_ascii_case(name));
        let lines = text.headers.iter().filter(|(name, _)| is_rest(name));
        lines.cloned().collect()
    };
    let (before, after) = (rest(came), rest(left));
    if before != after {
        let lost = before.iter().find(|line| !after.contains(line));
        let added = after.iter().find(|line| !before.contains(line));
        return Err(format!("has lost the line {lost:?} and won {added:?}"));
    }
    match came.body == left.body {
        true => Ok(()),
        false => Err("has another body than it came with".into()),
    }
}

/// The value of an Event without its id: that is a number of the dialog's.
fn without_id(event: Option<&str>) -> Option<String> {
    let parts = event?.split(';').filter(|part| !part.trim().starts_with("id="));
    Some(parts.collect::<Vec<_>>().join(";"))
}
