//! Who is asked to take a new request: nobody who wants none or is dead while another lives, and everybody before it is said
//! that nobody is there (RFC 3261 §16.6, §21.5.4, RFC 3263 §4.3).
//!
//! What cannot be told from outside is not judged: which address a name has, whether a cap is reached, what a rumour did.

use super::Faults;
use crate::config::{Config, Route, Trunk};
use crate::sim::peer::text::{Text, param};
use crate::timer::Instant;
use crate::transport::Flow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Targets {
    config: Arc<Config>,
    /// New requests that came, by the branch of their sender.
    came: BTreeMap<String, Came>,
    /// New requests that referee has sent, by branch and method.
    sent: BTreeMap<(String, String), Sent>,
    /// Since when and until when a peer wants no request (RFC 3261 §21.5.4).
    waits: BTreeMap<SocketAddr, (Instant, Instant)>,
    /// Who has asked for that at all, whether it was heard or not.
    have_asked: BTreeSet<SocketAddr>,
    /// By trunk, when calls of it were taken up, and those that are counted there.
    times: BTreeMap<usize, Vec<Instant>>,
    counted: BTreeSet<(String, usize)>,
    replayed: BTreeSet<String>,
    /// When OPTIONS of referee's own left for a peer, since something was last heard from it.
    unanswered: BTreeMap<SocketAddr, Vec<Instant>>,
}

#[derive(Debug)]
struct Came {
    at: Instant,
    /// When it had its 100.
    taken: Option<Instant>,
    flow: Flow,
    tried: BTreeSet<SocketAddr>,
    /// Somebody has said something but that it is of no use, or the caller has.
    is_decided: bool,
    /// It was refused here: its branches may be gone.
    is_given_up: bool,
}

#[derive(Debug)]
struct Sent {
    origin: String,
    flow: Flow,
    at: Instant,
    is_over: bool,
    /// It has a provisional response; it was told to stop.
    rings: bool,
    is_cancelled: bool,
}

impl Targets {
    pub fn new(config: Arc<Config>) -> Targets {
        Targets {
            config,
            came: BTreeMap::new(),
            sent: BTreeMap::new(),
            waits: BTreeMap::new(),
            times: BTreeMap::new(),
            counted: BTreeSet::new(),
            replayed: BTreeSet::new(),
            have_asked: BTreeSet::new(),
            unanswered: BTreeMap::new(),
        }
    }

    // ---- what comes ----

    pub fn request(&mut self, text: &Text, flow: Flow, now: Instant) {
        if text.method() == "CANCEL" {
            self.decide(&text.branch());
        } else if text.tag("To").is_none() && self.routes(flow).next().is_some() {
            // Somebody on no route has recorded it; the true one may still come.
            self.came.entry(text.branch()).or_insert(Came {
                at: now,
                taken: None,
                flow,
                tried: BTreeSet::new(),
                is_decided: false,
                is_given_up: false,
            });
        }
    }

    /// It comes again long after: who is asked then is as well asked anew.
    pub fn replayed(&mut self, text: &Text) {
        self.replayed.insert(text.branch());
        self.decide(&text.branch());
    }

    /// Its client transaction may end with that, and what answers another copy of it comes to nobody (RFC 3261 §17.1.4).
    pub fn send_failed(&mut self, text: &Text) {
        if let Some(sent) = self.sent.get_mut(&(text.branch(), text.method().to_owned())) {
            sent.is_over = true;
        }
    }

    fn decide(&mut self, branch: &str) {
        if let Some(came) = self.came.get_mut(branch) {
            came.is_decided = true;
        }
    }

    /// A target that rings for longer than it may is told to stop.
    fn judge_patience(&mut self, text: &Text, now: Instant, faults: &mut Faults) {
        let key = (text.branch(), text.method().to_owned());
        let Some(sent) = self.sent.get(&key).filter(|sent| !sent.is_over) else {
            return;
        };
        let most = self.came.get(&sent.origin).and_then(|came| {
            let waits: Option<Vec<Duration>> = self.routes(came.flow).map(|route| route.answer_timeout).collect();
            waits?.into_iter().max()
        });
        let is_late = most.is_some_and(|most| now > sent.at + most);
        if is_late && sent.rings && !sent.is_cancelled {
            faults.push(format!(
                "`{}` of {} comes from one who rings for too long",
                text.label(),
                text.call_id()
            ));
        }
        let is_early = most.is_some_and(|most| now < sent.at + most);
        if let Some(sent) = self.sent.get_mut(&key) {
            // What comes after Timer B comes to nobody.
            let is_heard = is_early && now < sent.at + 64 * self.config.timers.t1;
            sent.rings = text.code() < 200 && (sent.rings || is_heard);
        }
    }

    pub fn response(&mut self, text: &Text, flow: Flow, now: Instant, faults: &mut Faults) {
        if text.method() == "INVITE" {
            self.judge_patience(text, now, faults);
        }
        self.unanswered.remove(&flow.peer);
        let Some(sent) = self.sent.get_mut(&(text.branch(), text.method().to_owned())) else {
            return;
        };
        self.unanswered.remove(&sent.flow.peer);
        let (origin, is_first) = (
            sent.origin.clone(),
            !sent.is_over && text.code() >= 200 && is_answered_by(sent.flow, flow),
        );
        sent.is_over |= is_first;
        let (at, peer) = (sent.at, sent.flow.peer);
        if text.code() != 503 {
            return self.decide(&origin);
        }
        // What comes later, or once nobody was there, may come to nobody.
        let is_given_up = self.came.get(&origin).is_some_and(|came| came.is_given_up);
        let is_heard = is_first && !is_given_up && now < at + 64 * self.config.timers.t1;
        let wait = text.header("Retry-After").and_then(|wait| wait.parse().ok());
        if wait.is_some() {
            self.have_asked.insert(peer);
        }
        if let Some(seconds) = wait.filter(|_| is_heard) {
            let until = now + Duration::from_secs(seconds).min(self.config.limits.retry_after_max);
            let known = self.waits.entry(peer).or_insert((now, until));
            if known.1 <= now {
                *known = (now, until);
            }
            // One that grows by less than a second need not be known to all shards.
            known.1 = known.1.max(until - Duration::from_secs(1));
        }
    }

    // ---- what leaves ----

    pub fn sent_request(&mut self, text: &Text, flow: Flow, now: Instant, faults: &mut Faults) {
        if text.method() == "CANCEL"
            && let Some(invite) = self.sent.get_mut(&(text.branch(), "INVITE".to_owned()))
        {
            invite.is_cancelled = true;
        }
        let key = (text.branch(), text.method().to_owned());
        let is_new = text.tag("To").is_none() && !matches!(text.method(), "ACK" | "CANCEL");
        if !is_new || self.sent.contains_key(&key) {
            return;
        }
        // Of a request that comes back that which came last.
        let hop = text.list("Via").get(1).and_then(|via| param(via, "branch"));
        let origin = hop.unwrap_or_default();
        let sent = Sent {
            origin: origin.clone(),
            flow,
            at: now,
            is_over: false,
            rings: false,
            is_cancelled: false,
        };
        self.sent.insert(key, sent);
        if text.list("Via").len() == 1 {
            return self.unanswered.entry(flow.peer).or_default().push(now);
        }
        if text.method() == "INVITE" {
            self.judge_rate(&origin, flow.peer, now, faults);
        }
        let Some(came) = self.came.get_mut(&origin) else { return };
        came.tried.insert(flow.peer);
        let (at, from) = (came.at, came.flow);
        let mut fault = |why: String| faults.push(format!("`{}` goes to {}, which {why}", text.label(), flow.peer));
        if let Some((_, until)) = self
            .waits
            .get(&flow.peer)
            .filter(|(since, until)| at > *since && now < *until)
        {
            fault(format!("wants nothing until {until:?}"));
        }
        let lives = |route: &Route| self.trunks_of(route).any(|trunk| self.is_usable(trunk));
        if self.is_dead(flow.peer, at) && self.routes(from).all(lives) {
            fault("is dead, and another lives".into());
        }
    }

    /// A call takes of the rate of the trunk that it comes from and of each where it is tried: a second's worth at once, and then so many
    /// a second.
    fn judge_rate(&mut self, origin: &str, to: SocketAddr, now: Instant, faults: &mut Faults) {
        let Some(came) = self.came.get(origin) else { return };
        // One that comes again long after may have been taken up more than once.
        let Some(taken) = came.taken.filter(|_| !self.replayed.contains(origin)) else {
            return;
        };
        for (peer, at) in [(came.flow.peer, taken), (to, now)] {
            let Some(place) = self.config.trunks.iter().position(|trunk| is_of(trunk, peer)) else {
                continue;
            };
            let Some(rate) = self.config.trunks[place].calls_per_second_max else {
                continue;
            };
            if !self.counted.insert((origin.to_owned(), place)) {
                continue;
            }
            let times = self.times.entry(place).or_default();
            times.push(at);
            times.sort_unstable();
            let is_above = |(before, since): (usize, &Instant)| {
                let count = (times.len() - before) as f64;
                count > f64::from(rate) * (1.0 + at.max(*since).since(*since).as_secs_f64()) + 1e-6
            };
            // What has come to nothing for want of a place elsewhere may be counted late.
            if times.last() == Some(&at) && times.iter().enumerate().any(is_above) {
                let name = &self.config.trunks[place].name;
                faults.push(format!(
                    "{name} has {} calls, and {rate} a second are the most",
                    times.len()
                ));
            }
        }
    }

    /// Whether so many OPTIONS in a row had no answer in time by then that everybody knows it.
    fn is_dead(&self, peer: SocketAddr, by: Instant) -> bool {
        let health = self
            .config
            .trunks
            .iter()
            .find(|trunk| is_of(trunk, peer))
            .and_then(|trunk| trunk.health);
        health.is_some_and(|health| {
            let sent = self.unanswered.get(&peer).into_iter().flatten();
            sent.filter(|at| **at + health.timeout < by).count() >= usize::from(health.failures)
        })
    }

    /// Whether an address of a trunk may surely be used: nobody asks how it is, and none has asked to be left alone.
    fn is_usable(&self, trunk: &Trunk) -> bool {
        trunk.health.is_none() && !self.have_asked.iter().any(|peer| is_of(trunk, *peer))
    }

    /// The routes that a request which came so may have.
    fn routes(&self, from: Flow) -> impl Iterator<Item = &Route> {
        let listen = &self.config.bind(from.bind).listen;
        let is_from = move |trunk: &Trunk| trunk.listen == *listen && is_of(trunk, from.peer);
        let routes = self.config.routes.iter();
        routes.filter(move |route| is_from(self.config.trunk(route.from)))
    }

    fn trunks_of(&self, route: &Route) -> impl Iterator<Item = &Trunk> {
        route.to.iter().map(|target| self.config.trunk(target.trunk))
    }

    /// A response leaves. `is_own`: no peer has given it. One that says that nobody is there comes after all have been tried.
    pub fn sent_response(&mut self, text: &Text, is_own: bool, now: Instant, faults: &mut Faults) {
        let reason = text.first.trim_start_matches("SIP/2.0 ");
        let says_nobody = [
            "500 Next Hop Unreachable",
            "500 Server Internal Error",
            "408 Request Timeout",
        ]
        .contains(&reason);
        if let Some(came) = self.came.get_mut(&text.branch()) {
            if text.code() == 100 {
                came.taken.get_or_insert(now);
            }
            came.is_given_up |= is_own && text.code() >= 300;
        }
        let Some(came) = self.came.get(&text.branch()) else {
            return;
        };
        if !says_nobody || !is_own || came.is_decided || text.method() != "INVITE" || came.tried.is_empty() {
            return;
        }
        let misses_one = |route: &Route| {
            // Where a target may not even be silent for long enough it is left like one that has refused.
            let is_patient = route.answer_timeout.is_none_or(|wait| wait > route.response_timeout);
            let is_clear = is_patient && self.trunks_of(route).all(|trunk| self.is_clear(trunk));
            let mut addresses = self.trunks_of(route).flat_map(|trunk| &trunk.addresses);
            let untried = |host: &str, port| {
                !came
                    .tried
                    .iter()
                    .any(|peer| peer.ip().to_string() == host && peer.port() == port)
            };
            is_clear && addresses.any(|address| untried(&address.host, address.port))
        };
        if self.routes(came.flow).all(misses_one) {
            faults.push(format!(
                "`{}` of {} leaves and only {:?} were asked",
                text.label(),
                text.call_id(),
                came.tried
            ));
        }
    }

    /// Whether nothing can keep a call from being tried at each address of a trunk.
    fn is_clear(&self, trunk: &Trunk) -> bool {
        let is_literal = trunk
            .addresses
            .iter()
            .all(|address| address.host.parse::<std::net::IpAddr>().is_ok());
        let has_caps = trunk.calls_max.is_some() || trunk.calls_per_second_max.is_some();
        is_literal && !has_caps && self.is_usable(trunk)
    }
}

/// Whether what came by `flow` may answer what was sent by `sent`, which knew no connection if it was the first on it.
fn is_answered_by(sent: Flow, flow: Flow) -> bool {
    sent == flow
        || sent
            == Flow {
                connection: None,
                ..flow
            }
}

fn is_of(trunk: &Trunk, peer: SocketAddr) -> bool {
    trunk.sources.iter().any(|source| source.contains(peer.ip()))
}
