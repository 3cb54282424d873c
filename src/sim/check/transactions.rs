//! What a transaction does by itself over UDP, seen from outside: it repeats what may be lost and at which intervals, answers
//! repeats, acknowledges refusals, and cancels as it should (RFC 3261 §9.1, §17, RFC 6026).

use super::Faults;
use crate::config::SipTimers;
use crate::sim::peer::text::{Text, param};
use crate::timer::Instant;
use crate::transport::{Flow, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// A transaction of either side: branch and method.
type Key = (String, String);

#[derive(Debug)]
pub(super) struct Transactions {
    timers: SipTimers,
    /// Requests that referee has sent, and those that came.
    clients: BTreeMap<Key, Client>,
    servers: BTreeMap<(Key, SocketAddr), Server>,
    replayed: BTreeSet<String>,
    /// Branches of requests of which a sending has failed.
    unsent: BTreeSet<String>,
    /// INVITEs, by the branch of their sender, that nobody is to answer any more.
    decided: BTreeSet<String>,
    /// What the message that is being dealt with must cause.
    owed: Vec<(Owed, String)>,
    /// A request is being dealt with: what answers it is no timer's doing.
    is_asked: bool,
    /// It is a CANCEL: the Reason in it, and whether it is of an INVITE from the same hop.
    cancelling: Option<(Option<String>, bool)>,
}

#[derive(Debug)]
struct Client {
    /// The branch of who has sent the request first, if it is not referee's own.
    origin: String,
    text: Text,
    flow: Flow,
    repeats: Repeats,
    is_provisional: bool,
    is_cancelled: bool,
    /// The first final response.
    ended: Option<End>,
    begun: Instant,
}

#[derive(Debug)]
struct End {
    at: Instant,
    code: u16,
    to: String,
    /// It came when the transaction may have been given up.
    is_late: bool,
}

#[derive(Debug)]
struct Server {
    /// The final response, when it left first, and whether it was one of a transaction.
    ended: Option<(Instant, u16)>,
    is_provisional: bool,
    is_acked: bool,
    repeats: Option<Repeats>,
    /// Its final response is as good as none: it was made without a transaction.
    is_stateless: bool,
}

/// A message that is sent again and again.
#[derive(Debug)]
struct Repeats {
    at: Instant,
    next: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owed {
    /// The ACK of this branch.
    Ack(String),
    /// The CANCEL of this branch.
    Cancel(String),
    /// A 2xx with the To.
    Answer(Key, String),
    /// A response.
    Repeat(Key),
}

impl fmt::Display for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owed::Ack(branch) => write!(f, "ACK of {branch}"),
            Owed::Cancel(branch) => write!(f, "CANCEL of {branch}"),
            Owed::Answer((branch, _), _) => write!(f, "2xx to {branch}"),
            Owed::Repeat((branch, method)) => write!(f, "response to the {method} {branch}"),
        }
    }
}

impl Transactions {
    pub fn new(timers: SipTimers) -> Transactions {
        Transactions {
            timers,
            clients: BTreeMap::new(),
            servers: BTreeMap::new(),
            replayed: BTreeSet::new(),
            unsent: BTreeSet::new(),
            decided: BTreeSet::new(),
            owed: Vec::new(),
            is_asked: false,
            cancelling: None,
        }
    }

    pub fn replayed(&mut self, text: &Text) {
        // Its transaction may have ended with an ACK, and what was decided of it with that: an INVITE opens another.
        self.decided.remove(&text.branch());
        self.replayed.insert(text.branch());
    }

    /// RFC 3261 §17.1.4: its client transaction may end with that, and what answers another copy of it finds none.
    pub fn send_failed(&mut self, text: &Text) {
        self.unsent.insert(text.branch());
    }

    // ---- what comes ----

    pub fn request(&mut self, text: &Text, flow: Flow, now: Instant, faults: &mut Faults) {
        self.is_asked = true;
        if text.method() == "CANCEL" {
            let is_its = |(key, peer): &(Key, SocketAddr)| {
                key.0 == text.branch() && key.1 == "INVITE" && peer.ip() == flow.peer.ip()
            };
            let is_known = flow.transport != Transport::Udp
                || self.replayed.contains(&text.branch())
                || self.servers.keys().any(is_its);
            self.cancelling = Some((text.header("Reason").map(str::to_owned), is_known));
        }
        if flow.transport != Transport::Udp || self.replayed.contains(&text.branch()) {
            return;
        }
        let span = 64 * self.timers.t1;
        let mut key = key(text);
        if key.1 == "ACK" {
            key.1 = "INVITE".into();
            let timer_h = 64 * self.timers.t1;
            if let Some(server) = self.servers.get_mut(&(key, flow.peer)) {
                server.is_missed(now, timer_h, text, faults);
                server.is_acked = true;
            }
            return;
        }
        let is_invite = key.1 == "INVITE";
        let server = self.servers.entry((key.clone(), flow.peer)).or_insert(Server {
            ended: None,
            is_provisional: false,
            is_acked: false,
            repeats: None,
            is_stateless: false,
        });
        // RFC 3261 §17.2.1, §17.2.2: a repeat gets the last response again; RFC 6026 §7.1: but not a 2xx to an INVITE.
        let is_answered = match server.ended {
            Some((at, code)) => !(is_invite && (code < 300 || server.is_acked)) && now < at + span,
            None => is_invite && server.is_provisional,
        };
        if is_answered && !server.is_stateless {
            self.owed
                .push((Owed::Repeat(key.clone()), format!("a repeat of `{}`", text.label())));
        }
        // RFC 3261 §16.10.
        let invite = ((key.0.clone(), "INVITE".to_owned()), flow.peer);
        if key.1 == "CANCEL" && self.servers.get(&invite).is_some_and(|invite| invite.ended.is_none()) {
            self.decide(&key.0, "", &format!("`{}` of {}", text.label(), text.call_id()));
        }
    }

    /// Nobody is to answer an INVITE any more: whoever rings is cancelled now, and whoever begins to then (RFC 3261 §9.1).
    fn decide(&mut self, origin: &str, but: &str, by: &str) {
        let clients = self.clients.iter().filter(|((branch, method), client)| {
            let is_there = branch != but && !self.unsent.contains(branch);
            method == "INVITE" && client.origin == origin && is_there && client.is_to_cancel()
        });
        let owed = clients.map(|((branch, _), _)| (Owed::Cancel(branch.clone()), by.to_owned()));
        self.owed.extend(owed);
        self.decided.insert(origin.to_owned());
    }

    pub fn response(&mut self, text: &Text, flow: Flow, now: Instant) {
        self.is_asked = true;
        let key = key(text);
        let span = 64 * self.timers.t1;
        // One whose Vias are not those of the request is nobody's (RFC 3261 §18.1.2), and so is one from elsewhere.
        let vias = |text: &Text| -> (usize, String) {
            let vias = text.list("Via");
            let sent_by = vias.first().and_then(|top| top.split(';').next()).unwrap_or_default();
            (vias.len(), sent_by.trim().to_owned())
        };
        let is_its = |client: &&mut Client| client.flow == flow && vias(&client.text) == vias(text);
        let Some(client) = self.clients.get_mut(&key).filter(is_its) else {
            return;
        };
        let code = text.code();
        if code < 200 {
            // What comes at the very instant of Timer B is dealt with before it.
            client.is_provisional |= client.ended.is_none() && now <= client.begun + span;
            let is_decided = self.decided.contains(&client.origin) && !self.unsent.contains(&key.0);
            if key.1 == "INVITE" && client.is_to_cancel() && is_decided {
                self.owed
                    .push((Owed::Cancel(key.0), format!("`{}` of {}", text.label(), text.call_id())));
            }
            return;
        }
        let to = text.header("To").unwrap_or_default().to_owned();
        let is_late = now >= client.begun + span;
        let is_first = client.ended.is_none();
        let end = client.ended.get_or_insert_with(|| End {
            at: now,
            code,
            to: to.clone(),
            is_late,
        });
        let is_unsent = self.unsent.contains(&key.0);
        if key.1 != "INVITE" || is_unsent || end.is_late || now >= end.at + span {
            return;
        }
        let label = format!("`{}` of {}", text.label(), text.call_id());
        let (end, origin) = (end.code, client.origin.clone());
        // RFC 3261 §16.7 steps 5 and 10.
        if is_first && !(300..600).contains(&end) {
            self.decide(&origin, &key.0, &label);
        }
        match (end, code) {
            // RFC 3261 §17.1.1.2.
            (300.., 300..) => self.owed.push((Owed::Ack(key.0), label)),
            (..300, ..300) => {
                let origin = (origin, "INVITE".to_owned());
                let mut of_origin = self.servers.iter().filter(|((known, _), _)| *known == origin);
                // RFC 6026 §7.1: none is passed on behind another final response, nor for ever.
                let passes = |server: &Server| server.ended.is_none_or(|(at, code)| code < 300 && now < at + span);
                let is_passed = of_origin.next().is_some_and(|(_, server)| passes(server));
                if is_passed && !self.replayed.contains(&origin.0) {
                    self.owed.push((Owed::Answer(origin, to), label));
                }
            }
            _ => {}
        }
    }

    /// What came is dealt with.
    pub fn taken(&mut self, faults: &mut Faults) {
        self.is_asked = false;
        self.cancelling = None;
        for (owed, by) in self.owed.drain(..) {
            faults.push(format!("{by} comes and causes no {owed}"));
        }
    }

    /// All is over: what no ACK has come for was repeated until Timer H (RFC 3261 §17.2.1).
    pub fn over(&self, faults: &mut Faults) {
        for ((key, _), server) in &self.servers {
            if let (Some(repeats), Some((at, code))) = (server.by_timer_g(), server.ended)
                && !self.replayed.contains(&key.0)
                && repeats.at + repeats.next < at + 64 * self.timers.t1
            {
                faults.push(format!(
                    "the {code} to {} has no ACK and is not repeated until Timer H",
                    key.0
                ));
            }
        }
    }

    // ---- what leaves ----

    fn pay(&mut self, paid: &Owed) {
        self.owed.retain(|(owed, _)| owed != paid);
    }

    pub fn sent_request(&mut self, text: &Text, flow: Flow, now: Instant, faults: &mut Faults) {
        let key = key(text);
        if key.1 == "ACK" {
            if text.list("Via").len() == 1 {
                self.pay(&Owed::Ack(key.0.clone()));
                self.judge_ack(text, flow, faults);
            }
            return;
        }
        if flow.transport != Transport::Udp {
            return;
        }
        let timers = self.timers;
        let Some(client) = self.clients.get_mut(&key) else {
            if key.1 == "CANCEL" {
                self.pay(&Owed::Cancel(key.0.clone()));
                self.judge_cancel(text, flow, faults);
            }
            let origin = text.list("Via").get(1).and_then(|via| param(via, "branch"));
            if key.1 == "INVITE" && origin.as_ref().is_some_and(|origin| self.decided.contains(origin)) {
                faults.push(format!(
                    "`INVITE` of {} leaves, and nobody wants an answer any more",
                    text.call_id()
                ));
            }
            let client = Client {
                origin: origin.unwrap_or_default(),
                is_cancelled: false,
                text: text.clone(),
                flow,
                repeats: Repeats::begun(now, timers),
                is_provisional: false,
                ended: None,
                begun: now,
            };
            self.clients.insert(key, client);
            return;
        };
        let mut fault = |what: &str| faults.push(format!("`{}` of {} {what}", text.label(), text.call_id()));
        if client.ended.is_some() {
            fault("is repeated after its final response");
        }
        if key.1 == "INVITE" && client.is_provisional {
            fault("is repeated after a provisional response");
        }
        if *text != client.text {
            fault("is repeated with another text");
        }
        // RFC 3261 §17.1.1.2, §17.1.2.2.
        let most = match key.1 == "INVITE" {
            true => Duration::MAX,
            false => timers.t2,
        };
        let wait = client.repeats.again(now, most);
        if let Err((wait, due)) = wait {
            fault(&format!("is repeated after {wait:?} and not {due:?}"));
        }
        if client.is_provisional {
            client.repeats.next = timers.t2;
        }
    }

    /// RFC 3261 §17.1.1.3: the ACK of a refusal is the INVITE's but for the method and the To, which is that of the response.
    fn judge_ack(&self, text: &Text, flow: Flow, faults: &mut Faults) {
        let Some(invite) = self.clients.get(&(text.branch(), "INVITE".to_owned())) else {
            return;
        };
        let mut fault = |what: &str| faults.push(format!("the ACK of {} {what}", text.call_id()));
        if !is_of(text, &invite.text) || flow != invite.flow {
            fault("is not that of its INVITE");
        }
        if invite
            .ended
            .as_ref()
            .is_some_and(|end| end.code < 300 || text.header("To") != Some(&end.to))
        {
            fault("has not the To of the response");
        }
    }

    /// RFC 3261 §9.1: not before a provisional response, not after the final one, and like its INVITE.
    fn judge_cancel(&mut self, text: &Text, flow: Flow, faults: &mut Faults) {
        let mut fault = |what: &str| faults.push(format!("the CANCEL of {} {what}", text.call_id()));
        if let Some((reason, is_known)) = &self.cancelling {
            if !is_known {
                fault("is another hop's doing");
            }
            // RFC 3326 §2.
            if reason.as_deref() != text.header("Reason") {
                fault("has not the Reason of that which came");
            }
        }
        let Some(invite) = self.clients.get_mut(&(text.branch(), "INVITE".to_owned())) else {
            return fault("is of no INVITE");
        };
        invite.is_cancelled = true;
        if !invite.is_provisional {
            fault("comes before a provisional response");
        }
        if invite.ended.is_some() {
            fault("comes after the final response");
        }
        if !is_of(text, &invite.text) || flow != invite.flow || text.header("To") != invite.text.header("To") {
            fault("is not that of its INVITE");
        }
    }

    pub fn sent_response(&mut self, text: &Text, flow: Flow, is_stateless: bool, now: Instant, faults: &mut Faults) {
        let (key, code) = (key(text), text.code());
        self.pay(&Owed::Repeat(key.clone()));
        let to = text.header("To").unwrap_or_default().to_owned();
        if code < 300 {
            self.pay(&Owed::Answer(key.clone(), to));
        }
        let timers = self.timers;
        let server = self.servers.get_mut(&(key.clone(), flow.peer));
        let Some(server) = server.filter(|_| !self.replayed.contains(&key.0)) else {
            return;
        };
        server.is_stateless |= is_stateless;
        if code < 200 {
            server.is_provisional = true;
            return;
        }
        if server.ended.is_none() {
            server.ended = Some((now, code));
            server.repeats = (key.1 == "INVITE" && code >= 300).then(|| Repeats::begun(now, timers));
            return;
        }
        // RFC 3261 §17.2.1.
        if let Some(repeats) = server
            .repeats
            .as_mut()
            .filter(|_| !self.is_asked && !server.is_stateless)
            && let Err((wait, due)) = repeats.again(now, timers.t2)
        {
            faults.push(format!(
                "`{}` of {} is repeated after {wait:?} and not {due:?}",
                text.label(),
                text.call_id()
            ));
        }
    }
}

impl Client {
    /// Whether it rings and has not been told to stop.
    fn is_to_cancel(&self) -> bool {
        self.is_provisional && !self.is_cancelled && self.ended.is_none()
    }
}

impl Server {
    /// Its refusal, where no ACK has come for it and it is surely a transaction's: one of those is answered with a 100 first.
    fn by_timer_g(&self) -> Option<&Repeats> {
        let is_open = self.is_provisional && !self.is_acked && !self.is_stateless;
        self.repeats.as_ref().filter(|_| is_open)
    }

    /// RFC 3261 §17.2.1: an ACK comes. By Timer G its refusal has left again each time that was due before, until Timer H.
    fn is_missed(&self, now: Instant, timer_h: Duration, ack: &Text, faults: &mut Faults) {
        let Some(repeats) = self.by_timer_g() else { return };
        let is_refused = self.ended.is_some_and(|(at, _)| now < at + timer_h);
        if is_refused && now > repeats.at + repeats.next {
            faults.push(format!(
                "the ACK of {} comes {:?} after its refusal, which was to leave again after {:?}",
                ack.call_id(),
                now.since(repeats.at),
                repeats.next
            ));
        }
    }
}

impl Repeats {
    fn begun(now: Instant, timers: SipTimers) -> Repeats {
        Repeats {
            at: now,
            next: timers.t1,
        }
    }

    /// It is sent again; the wait after that is twice as long, up to `most`. `Err`: how long it has waited, and was to.
    fn again(&mut self, now: Instant, most: Duration) -> Result<(), (Duration, Duration)> {
        let (waited, due) = (now.since(self.at), self.next);
        self.at = now;
        self.next = (due * 2).min(most);
        match waited == due {
            true => Ok(()),
            false => Err((waited, due)),
        }
    }
}

/// Whether a CANCEL or an ACK has all that it has of its INVITE.
fn is_of(text: &Text, invite: &Text) -> bool {
    let value = |text: &Text, name: &str| text.header(name).map(str::to_owned);
    let same = ["From", "Call-ID"]
        .iter()
        .all(|name| value(text, name) == value(invite, name));
    same && text.request_uri() == invite.request_uri()
        && text.list("Via")[..] == invite.list("Via")[..1]
        && text.list("Route") == invite.list("Route")
        && text.cseq().0 == invite.cseq().0
}

fn key(text: &Text) -> Key {
    (text.branch(), text.method().to_owned())
}
