//! The transaction machines against tables written from the figures of RFC 3261 §17 and RFC 6026 §8: random events in random
//! order, and after each the same state, the same messages at the same instants, the same word to the user.

use super::ends::like;
use proptest::prelude::*;
use referee::config::SipTimers;
use referee::identifiers::Random;
use referee::message::{MessageBuf, Method};
use referee::timer::{Instant, Timers};
use referee::transaction::{ClientKey, Deadline, Ended, ServerKey, Transactions};
use referee::transport::{BindId, Flow, LocalId, Outbox, Ticket, Transport};
use std::collections::BTreeMap;
use std::time::Duration;

/// Figure 5 as RFC 6026 §8 changes it. An event that has no line in its state does nothing.
///
/// One arrow is left out: that the ACK of a refusal could not be sent is told to nobody, since its repeat would bring it again.
const INVITE_CLIENT: &str = "
    Calling     A        Calling      send, restart A doubled
    Calling     B        Terminated   timeout
    Calling     error    Terminated   failure
    Calling     1xx      Proceeding   up
    Calling     2xx      Accepted     up, start M
    Calling     300-699  Completed    up, ack, start D
    Proceeding  1xx      Proceeding   up
    Proceeding  2xx      Accepted     up, start M
    Proceeding  300-699  Completed    up, ack, start D
    Completed   300-699  Completed    ack
    Completed   D        Terminated   over
    Accepted    2xx      Accepted     up
    Accepted    M        Terminated   over
";

/// Figure 6.
///
/// One arrow is left out: an error in Proceeding ends nothing, since a peer that has said something may answer by another
/// way (RFC 3261 §18.2.2).
const OTHER_CLIENT: &str = "
    Trying      E        Trying       send, restart E doubled up to T2
    Trying      F        Terminated   timeout
    Trying      error    Terminated   failure
    Trying      1xx      Proceeding   up
    Trying      2xx      Completed    up, start K
    Trying      300-699  Completed    up, start K
    Proceeding  E        Proceeding   send, restart E at T2
    Proceeding  F        Terminated   timeout
    Proceeding  1xx      Proceeding   up
    Proceeding  2xx      Completed    up, start K
    Proceeding  300-699  Completed    up, start K
    Completed   K        Terminated   over
";

/// Figure 7 as RFC 6026 §8 changes it. The 100 within 200 ms is the user's.
///
/// The figure has no ACK in Proceeding: it acknowledges nothing that was sent, and is the user's to judge.
const INVITE_SERVER: &str = "
    Proceeding  request  Proceeding   again
    Proceeding  ACK      Proceeding   up
    Proceeding  1xx      Proceeding   send
    Proceeding  2xx      Accepted     send, start L
    Proceeding  300-699  Completed    send, start G, start H
    Completed   request  Completed    again
    Completed   ACK      Confirmed    start I
    Completed   G        Completed    again, restart G doubled up to T2
    Completed   H        Terminated   failure
    Confirmed   I        Terminated   over
    Accepted    ACK      Accepted     up
    Accepted    2xx      Accepted     send
    Accepted    L        Terminated   over
";

/// Figure 8, and E of RFC 4320 §4.1: the far side's Timer E has reached T2, and the user is to send a 100.
const OTHER_SERVER: &str = "
    Trying      E        Trying       due
    Trying      1xx      Proceeding   send
    Trying      2xx      Completed    send, start J
    Trying      300-699  Completed    send, start J
    Proceeding  request  Proceeding   again
    Proceeding  1xx      Proceeding   send
    Proceeding  2xx      Completed    send, start J
    Proceeding  300-699  Completed    send, start J
    Completed   request  Completed    again
    Completed   J        Terminated   over
";

/// RFC 3261 table 4 and RFC 6026: how long each timer runs over UDP and over a stream, where `-` is never.
const TIMERS: &str = "
    A  T1             -
    B  64*T1          64*T1
    D  64*T1, >=32s   0
    E  T1             -
    F  64*T1          64*T1
    G  T1             -
    H  64*T1          64*T1
    I  T4             0
    J  64*T1          0
    K  T4             0
    L  64*T1          64*T1
    M  64*T1          64*T1
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    InviteClient,
    OtherClient,
    InviteServer,
    OtherServer,
}

impl Kind {
    /// Its table, where it begins, and the timers that start with it.
    fn drawing(self) -> (&'static str, &'static str, &'static [char]) {
        match self {
            Kind::InviteClient => (INVITE_CLIENT, "Calling", &['A', 'B']),
            Kind::OtherClient => (OTHER_CLIENT, "Trying", &['E', 'F']),
            Kind::InviteServer => (INVITE_SERVER, "Proceeding", &[]),
            Kind::OtherServer => (OTHER_SERVER, "Trying", &['E']),
        }
    }

    fn is_client(self) -> bool {
        matches!(self, Kind::InviteClient | Kind::OtherClient)
    }
}

/// What can be seen of a machine from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Sent(String),
    /// A response by its code, or an ACK, for the user.
    Up(u16),
    /// Nothing came in time.
    Timeout,
    /// It could not be sent, or was never acknowledged.
    Failure,
    /// A 100 is.
    Due,
    Over,
}

const ACK: u16 = 0;

// ---- the model ----

/// A machine as the figures draw it.
#[derive(Debug)]
struct Figure {
    kind: Kind,
    is_reliable: bool,
    state: &'static str,
    /// Armed timers: when, in which order they were armed, which.
    timers: Vec<(Instant, usize, char)>,
    interval: Duration,
    sent_times: usize,
    /// Requests, the ACK once there is one; of a server the last response.
    request: String,
    ack: String,
    response: String,
    cancel: Option<usize>,
    seen: Vec<(Instant, Seen)>,
}

#[derive(Debug)]
struct Model {
    t1: Duration,
    t2: Duration,
    t4: Duration,
    /// How long Timer E takes to reach T2.
    reaches_t2: Duration,
    figures: Vec<Figure>,
    armed: usize,
    /// Each arrow with how often it was taken, as the layer under test words it.
    arrows: BTreeMap<String, u64>,
}

impl Model {
    fn open(&mut self, kind: Kind, is_reliable: bool, request: String, now: Instant) {
        let (_, state, timers) = kind.drawing();
        self.figures.push(Figure {
            kind,
            is_reliable,
            state,
            timers: Vec::new(),
            interval: self.t1,
            sent_times: 0,
            request,
            ack: String::new(),
            response: String::new(),
            cancel: None,
            seen: Vec::new(),
        });
        let number = self.figures.len() - 1;
        if kind.is_client() {
            self.act(number, "send", "", 0, now);
        }
        for letter in timers {
            self.start(number, *letter, now);
        }
    }

    /// An event of a machine; `text` is the message and `code` its status.
    fn event(&mut self, number: usize, event: &str, text: &str, code: u16, now: Instant) {
        let (table, ..) = self.figures[number].kind.drawing();
        let state = self.figures[number].state;
        let Some(row) = rows(table).find(|row| row[..2] == [state, event]) else {
            // What does nothing has come all the same; a timer that nobody waits for has not.
            let is_answer = !self.figures[number].kind.is_client() && code >= 100;
            if event.len() > 1 && state != "Terminated" {
                self.arrow(number, if is_answer { "response discarded" } else { event }, state);
            }
            return;
        };
        self.arrow(number, event, row[2]);
        self.figures[number].state = row[2];
        for action in row[3].split(", ") {
            self.act(number, action, text, code, now);
        }
        // Not of the figures: a CANCEL is found by its INVITE's branch, so it ends with it.
        if row[2] == "Terminated"
            && let Some(cancel) = self.figures[number].cancel
            && self.figures[cancel].state != "Terminated"
        {
            self.arrow(cancel, "INVITE ended", "Terminated");
            self.figures[cancel].state = "Terminated";
        }
    }

    /// Notes an arrow from the state that a machine is in.
    fn arrow(&mut self, number: usize, event: &str, to: &str) {
        let Figure { kind, state, .. } = &self.figures[number];
        let machine = match kind {
            Kind::InviteClient => "INVITE client",
            Kind::OtherClient => "non-INVITE client",
            Kind::InviteServer => "INVITE server",
            Kind::OtherServer => "non-INVITE server",
        };
        let on = match event {
            // The 100 is the user's arrow.
            "E" if *kind == Kind::OtherServer => return,
            "error" => "transport error".to_owned(),
            "2xx" | "300-699" if matches!(kind, Kind::OtherClient | Kind::OtherServer) => "200-699".to_owned(),
            letter if letter.len() == 1 => format!("Timer {letter}"),
            other => other.to_owned(),
        };
        *self
            .arrows
            .entry(format!("{machine} | {state} | {on} | {to}"))
            .or_default() += 1;
    }

    fn act(&mut self, number: usize, action: &str, text: &str, code: u16, now: Instant) {
        let (t2, figure) = (self.t2, &mut self.figures[number]);
        let seen = match action {
            "send" if figure.kind.is_client() => {
                figure.sent_times += 1;
                Seen::Sent(figure.request.clone())
            }
            "send" => {
                figure.response = text.to_owned();
                Seen::Sent(text.to_owned())
            }
            "again" if figure.response.is_empty() => return,
            "again" => Seen::Sent(figure.response.clone()),
            "ack" => {
                if figure.ack.is_empty() {
                    let to = text.lines().find_map(|line| line.strip_prefix("To: "));
                    figure.ack = like(&figure.request, "ACK", to);
                }
                Seen::Sent(figure.ack.clone())
            }
            "up" => Seen::Up(code),
            "timeout" => Seen::Timeout,
            "failure" => Seen::Failure,
            "due" => Seen::Due,
            "over" => Seen::Over,
            _ => {
                let (verb, rest) = action.split_once(' ').unwrap();
                let letter = rest.chars().next().unwrap();
                figure.interval = match &rest[1..] {
                    "" => figure.interval,
                    " doubled" => figure.interval * 2,
                    " doubled up to T2" => (figure.interval * 2).min(t2),
                    " at T2" => t2,
                    other => panic!("{verb} {other}"),
                };
                return self.start(number, letter, now);
            }
        };
        figure.seen.push((now, seen));
    }

    fn start(&mut self, number: usize, letter: char, now: Instant) {
        let row = rows(TIMERS).find(|row| *row[0] == letter.to_string()).unwrap();
        let figure = &mut self.figures[number];
        let wait = match row[1 + usize::from(figure.is_reliable)] {
            _ if letter == 'E' && !figure.kind.is_client() => self.reaches_t2,
            "-" => return,
            "0" => Duration::ZERO,
            "T1" => figure.interval,
            "T4" => self.t4,
            "64*T1" => 64 * self.t1,
            "64*T1, >=32s" => (64 * self.t1).max(Duration::from_secs(32)),
            other => panic!("{other}"),
        };
        self.armed += 1;
        figure.timers.push((now + wait, self.armed, letter));
    }

    /// Lets time pass until then.
    fn run_to(&mut self, until: Instant) {
        loop {
            let due = self.figures.iter().enumerate().flat_map(|(number, figure)| {
                let timers = figure.timers.iter().enumerate();
                timers.map(move |(place, (at, armed, letter))| (*at, *armed, *letter, number, place))
            });
            let Some((at, _, letter, number, place)) = due.filter(|(at, ..)| *at <= until).min() else {
                return;
            };
            self.figures[number].timers.remove(place);
            self.event(number, &letter.to_string(), "", 0, at);
        }
    }
}

/// The lines of a table, each in columns with two spaces between them.
fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let columns = |row: &'static str| {
        row.split("  ")
            .map(str::trim)
            .filter(|column| !column.is_empty())
            .collect()
    };
    table.lines().map(columns).filter(|row: &Vec<_>| !row.is_empty())
}

fn class(code: u16) -> &'static str {
    match code {
        100..=199 => "1xx",
        200..=299 => "2xx",
        _ => "300-699",
    }
}

// ---- the machines themselves, beside the model ----

/// One transaction of the layer under test.
#[derive(Debug)]
enum Key {
    Client(ClientKey, String),
    Server(ServerKey),
}

struct Both {
    model: Model,
    transactions: Transactions<usize, usize>,
    timers: Timers<Deadline>,
    outbox: Outbox,
    random: Random,
    now: Instant,
    keys: Vec<Key>,
    seen: Vec<Vec<(Instant, Seen)>>,
    responses: usize,
}

/// An event, for the machine that a number chooses.
#[derive(Clone, Debug)]
enum Event {
    Open(Kind, bool),
    Wait(u64),
    /// To a client: a response, perhaps one that is not of it. To a server: one of its user.
    Response(usize, u16, Flaw),
    Request(usize),
    Ack(usize),
    Error(usize),
    Cancel(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    Method,
    Branch,
    Refused,
}

impl Both {
    fn new(t1: u64, t2: u64, t4: u64, reaches_t2: u64) -> Both {
        let millis = Duration::from_millis;
        let timers = SipTimers {
            t1: millis(t1),
            t2: millis(t2),
            t4: millis(t4),
            ..SipTimers::default()
        };
        Both {
            model: Model {
                t1: timers.t1,
                t2: timers.t2,
                t4: timers.t4,
                reaches_t2: millis(reaches_t2),
                figures: Vec::new(),
                armed: 0,
                arrows: BTreeMap::new(),
            },
            transactions: Transactions::new(timers, [3; 16]),
            timers: Timers::default(),
            outbox: Outbox::default(),
            random: Random::new([4; 16]),
            now: Instant::START,
            keys: Vec::new(),
            seen: Vec::new(),
            responses: 0,
        }
    }

    fn apply(&mut self, event: &Event) {
        let chosen = |number: usize| number.checked_rem(self.keys.len());
        match event {
            Event::Open(kind, is_reliable) => self.open(*kind, *is_reliable),
            Event::Wait(micros) => self.run_to(self.now + Duration::from_micros(*micros)),
            Event::Response(number, code, flaw) => {
                if let Some(number) = chosen(*number) {
                    self.response(number, *code, *flaw);
                }
            }
            Event::Request(number) => {
                if let Some(number) = chosen(*number) {
                    self.request(number);
                }
            }
            Event::Ack(number) => {
                if let Some(number) = chosen(*number) {
                    self.ack(number);
                }
            }
            Event::Error(number) => {
                if let Some(number) = chosen(*number) {
                    self.error(number);
                }
            }
            Event::Cancel(number) => {
                if let Some(number) = chosen(*number) {
                    self.cancel(number);
                }
            }
        }
        self.compare();
    }

    fn open(&mut self, kind: Kind, is_reliable: bool) {
        let number = self.keys.len();
        let flow = flow(number, is_reliable);
        let method = match kind {
            Kind::InviteClient | Kind::InviteServer => Method::Invite,
            Kind::OtherClient | Kind::OtherServer => Method::Message,
        };
        self.seen.push(Vec::new());
        if kind.is_client() {
            let digest = (number % 2 == 1).then_some(number as u32);
            let (key, branch) = self
                .transactions
                .open_client(method, flow, number, digest, &mut self.random);
            let branch = String::from_utf8(branch.as_bytes().to_vec()).unwrap();
            let text = request(method, &branch);
            self.keys.push(Key::Client(key, branch));
            let start = self.outbox.bytes.len();
            self.outbox.bytes.extend_from_slice(text.as_bytes());
            let bytes = self.outbox.since(start);
            self.transactions
                .start(key, bytes, &mut self.outbox, &mut self.timers, self.now);
            self.model.open(kind, is_reliable, text, self.now);
        } else {
            let text = request(method, &format!("z9hG4bK-{number}"));
            let message = MessageBuf::parse(text.as_bytes().to_vec()).unwrap();
            let identity = self.identity(number, method);
            let message = message.as_message();
            let key = self
                .transactions
                .open_server(identity, message, method, flow, flow.peer.port(), number);
            if kind == Kind::OtherServer {
                self.transactions.watch_trying(key, &mut self.timers, self.now);
            }
            self.keys.push(Key::Server(key));
            self.model.open(kind, is_reliable, text, self.now);
        }
        self.take(number);
    }

    fn identity(&self, number: usize, method: Method) -> u128 {
        let text = request(method, &format!("z9hG4bK-{number}"));
        let message = MessageBuf::parse(text.into_bytes()).unwrap();
        let via = message.as_message().top_via().unwrap();
        self.transactions.identity(message.as_message(), &via, method).unwrap()
    }

    fn response(&mut self, number: usize, code: u16, flaw: Flaw) {
        let figure = &self.model.figures[number];
        self.responses += 1;
        match &self.keys[number] {
            Key::Client(_, branch) => {
                let method = figure.request.split(' ').next().unwrap();
                let branch = if flaw == Flaw::Branch {
                    branch.replace("z9hG4bK0", "z9hG4bK1")
                } else {
                    branch.clone()
                };
                let method = if flaw == Flaw::Method { "OPTIONS" } else { method };
                let text = format!(
                    "SIP/2.0 {code} Whatever\r\nVia: SIP/2.0/UDP 192.0.2.1;branch={branch}\r\nFrom: <sip:a@a>;tag=1\r\n\
                     To: <sip:b@b>;tag={}\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n",
                    self.responses
                );
                let message = MessageBuf::parse(text.clone().into_bytes()).unwrap();
                let (outbox, timers) = (&mut self.outbox, &mut self.timers);
                let message = message.as_message();
                let fits = flaw != Flaw::Refused;
                let up = self
                    .transactions
                    .on_response(message, |_, _| fits, outbox, timers, self.now);
                if let Some(answered) = up.unwrap() {
                    let owner = self.transactions.client(answered.client).unwrap().owner;
                    self.seen[owner].push((self.now, Seen::Up(answered.code)));
                }
                if flaw == Flaw::None {
                    // No response to a CANCEL is found when its INVITE is gone; it is gone itself then.
                    self.model.event(number, class(code), &text, code, self.now);
                }
                self.take(number);
            }
            Key::Server(key) => {
                let text = format!("response {code}, the {} of all", self.responses);
                let start = self.outbox.bytes.len();
                self.outbox.bytes.extend_from_slice(text.as_bytes());
                let bytes = self.outbox.since(start);
                let (outbox, timers) = (&mut self.outbox, &mut self.timers);
                let before = self.model.figures[number].seen.len();
                let sent = self.transactions.respond(*key, code, bytes, outbox, timers, self.now);
                self.model.event(number, class(code), &text, code, self.now);
                assert_eq!(
                    sent,
                    self.model.figures[number].seen.len() > before,
                    "whether it was sent"
                );
                self.take(number);
            }
        }
    }

    /// The request of a server transaction again, which must find it as long as it lives.
    fn request(&mut self, number: usize) {
        let Key::Server(key) = self.keys[number] else { return };
        let method = match self.model.figures[number].kind {
            Kind::InviteServer => Method::Invite,
            _ => Method::Message,
        };
        let found = self.transactions.find_server(self.identity(number, method));
        if self.model.figures[number].state == "Terminated" {
            assert_eq!(found, None);
            return;
        }
        assert_eq!(found, Some(key));
        self.transactions.on_repeat(key, &mut self.outbox);
        self.model.event(number, "request", "", 0, self.now);
        self.take(number);
    }

    fn ack(&mut self, number: usize) {
        let Key::Server(key) = self.keys[number] else { return };
        let found = self.transactions.find_server(self.identity(number, Method::Ack));
        if self.model.figures[number].kind != Kind::InviteServer || self.model.figures[number].state == "Terminated" {
            assert_eq!(found, None, "an ACK is an INVITE's");
            return;
        }
        assert_eq!(found, Some(key));
        if !self.transactions.on_ack(key, &mut self.timers, self.now) {
            self.seen[number].push((self.now, Seen::Up(ACK)));
        }
        self.model.event(number, "ACK", "", ACK, self.now);
        self.take(number);
    }

    /// The last send of a request has failed. Over UDP the first is let pass: it is sent again soon.
    fn error(&mut self, number: usize) {
        let Key::Client(key, _) = &self.keys[number] else {
            return;
        };
        let ended = self.transactions.on_send_failed(ticket_of(*key));
        self.ended(ended);
        let figure = &self.model.figures[number];
        if figure.is_reliable || figure.sent_times > 1 {
            self.model.event(number, "error", "", 0, self.now);
        } else if figure.state != "Terminated" {
            let state = figure.state;
            self.model.arrow(number, "error", state);
        }
    }

    /// Cancels an INVITE that has a provisional response; the CANCEL is a machine of its own.
    fn cancel(&mut self, number: usize) {
        let figure = &self.model.figures[number];
        let Key::Client(key, branch) = &self.keys[number] else {
            return;
        };
        if figure.kind != Kind::InviteClient || figure.state != "Proceeding" {
            return;
        }
        let (key, branch, is_reliable) = (*key, branch.clone(), figure.is_reliable);
        let (text, is_first) = (like(&figure.request, "CANCEL", None), figure.cancel.is_none());
        let cancel = self.keys.len();
        let (outbox, timers) = (&mut self.outbox, &mut self.timers);
        self.transactions.cancel(key, cancel, None, outbox, timers, self.now);
        if is_first {
            self.seen.push(Vec::new());
            self.model.open(Kind::OtherClient, is_reliable, text, self.now);
            self.model.figures[number].cancel = Some(cancel);
            // Its own key is found by its ticket.
            let send = self.outbox.poll().expect("a CANCEL is sent");
            let key = ClientKey::from(slotmap::KeyData::from_ffi(send.ticket.unwrap().0));
            assert_eq!(send.flow, flow(number, is_reliable));
            let sent = String::from_utf8(self.outbox.get(&send.bytes).to_vec()).unwrap();
            self.seen[cancel].push((self.now, Seen::Sent(sent)));
            self.keys.push(Key::Client(key, branch));
        }
        self.take(number);
    }

    fn run_to(&mut self, until: Instant) {
        while let Some((at, deadline)) = self.timers.pop_due(until) {
            self.now = at;
            let ended = self
                .transactions
                .on_deadline(deadline, &mut self.outbox, &mut self.timers, at);
            self.ended(ended);
            let number = match deadline {
                Deadline::Client(key, _) => self
                    .keys
                    .iter()
                    .position(|known| matches!(known, Key::Client(known, _) if *known == key)),
                Deadline::Server(key, _) => self
                    .keys
                    .iter()
                    .position(|known| matches!(known, Key::Server(known) if *known == key)),
            };
            self.take(number.unwrap());
        }
        self.model.run_to(until);
        self.now = until;
    }

    fn ended(&mut self, ended: Option<Ended<usize, usize>>) {
        let (number, seen) = match ended {
            None => return,
            Some(Ended::TryingIsDue(due)) => {
                let is_it = |key: &Key| matches!(key, Key::Server(key) if *key == due);
                (self.keys.iter().position(is_it).unwrap(), Seen::Due)
            }
            Some(Ended::ClientTimeout(number)) => (number, Seen::Timeout),
            Some(Ended::ClientTransportFailed(number) | Ended::ServerTimeout(number, _)) => (number, Seen::Failure),
            Some(Ended::Client(number) | Ended::Server(number)) => (number, Seen::Over),
        };
        self.seen[number].push((self.now, seen));
    }

    /// Takes what a machine has sent.
    fn take(&mut self, number: usize) {
        while let Some(send) = self.outbox.poll() {
            let place = match self
                .model
                .figures
                .iter()
                .position(|figure| figure.cancel == Some(number))
            {
                Some(invite) => invite,
                None => number,
            };
            assert_eq!(send.flow, flow(place, self.model.figures[number].is_reliable));
            let text = String::from_utf8(self.outbox.get(&send.bytes).to_vec()).unwrap();
            // Of requests alone a failure is heard of.
            let is_request = matches!(&self.keys[number], Key::Client(..)) && !text.starts_with("ACK");
            assert_eq!(send.ticket.is_some(), is_request, "{text}");
            self.seen[number].push((self.now, Seen::Sent(text)));
        }
        self.outbox.clear();
    }

    fn compare(&self) {
        let mut live = 0;
        for (number, figure) in self.model.figures.iter().enumerate() {
            let state = match &self.keys[number] {
                Key::Client(key, _) => self
                    .transactions
                    .client(*key)
                    .map(|client| format!("{:?}", client.state)),
                Key::Server(key) => self
                    .transactions
                    .server(*key)
                    .map(|server| format!("{:?}", server.state)),
            };
            live += usize::from(state.is_some());
            let state = state.unwrap_or_else(|| "Terminated".into());
            assert_eq!(state, figure.state, "{number}, {:?}", figure.kind);
            assert_eq!(self.seen[number], figure.seen, "{number}, {:?}", figure.kind);
        }
        let arrows = self.transactions.coverage().taken();
        let arrows: BTreeMap<String, u64> = arrows.map(|(arrow, count)| (arrow.to_string(), count)).collect();
        assert_eq!(arrows, self.model.arrows);
        assert_eq!(self.transactions.len(), live);
        assert_eq!(self.transactions.is_empty(), live == 0);
    }
}

fn flow(number: usize, is_reliable: bool) -> Flow {
    Flow {
        bind: BindId(0),
        transport: if is_reliable { Transport::Tcp } else { Transport::Udp },
        local: LocalId::ANY,
        peer: ([192, 0, 2, 9], 1_000 + number as u16).into(),
        connection: None,
    }
}

fn ticket_of(key: ClientKey) -> Ticket {
    Ticket(slotmap::Key::data(&key).as_ffi())
}

fn request(method: Method, branch: &str) -> String {
    let method = if method == Method::Message {
        "MESSAGE"
    } else if method == Method::Ack {
        "ACK"
    } else {
        "INVITE"
    };
    format!(
        "{method} sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch={branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::InviteClient),
        Just(Kind::OtherClient),
        Just(Kind::InviteServer),
        Just(Kind::OtherServer),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    let number = || 0usize..12;
    let code = || prop_oneof![3 => Just(100u16), 2 => 101u16..200, 2 => 200u16..300, 3 => 300u16..700];
    let flaw = || prop_oneof![6 => Just(Flaw::None), 1 => Just(Flaw::Method), 1 => Just(Flaw::Branch), 1 => Just(Flaw::Refused)];
    prop_oneof![
        4 => (kinds(), any::<bool>()).prop_map(|(kind, is_reliable)| Event::Open(kind, is_reliable)),
        // Up to the next repeat, and far beyond it.
        6 => (0u64..1_200_000).prop_map(Event::Wait),
        2 => (0u64..40_000_000).prop_map(Event::Wait),
        8 => (number(), code(), flaw()).prop_map(|(number, code, flaw)| Event::Response(number, code, flaw)),
        3 => number().prop_map(Event::Request),
        3 => number().prop_map(Event::Ack),
        2 => number().prop_map(Event::Error),
        2 => number().prop_map(Event::Cancel),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_machines_do_what_the_figures_draw(
        events in proptest::collection::vec(events(), 1..60),
        is_default in any::<bool>(),
    ) {
        let mut both = if is_default { Both::new(500, 4_000, 5_000, 3_500) } else { Both::new(100, 250, 700, 300) };
        for event in &events {
            both.apply(event);
        }
        // Whatever is left ends by itself, but for what waits for its user.
        both.run_to(both.now + Duration::from_secs(100));
        both.compare();
        prop_assert!(both.timers.is_empty());
        for figure in &both.model.figures {
            let waits = match figure.kind {
                Kind::InviteClient => figure.state == "Proceeding",
                Kind::OtherClient => false,
                Kind::InviteServer | Kind::OtherServer => matches!(figure.state, "Trying" | "Proceeding"),
            };
            prop_assert_eq!(figure.state != "Terminated", waits);
        }
    }
}
