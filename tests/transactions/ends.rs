//! referee between a caller and a callee at bare wires. Neither does anything by itself, and nothing takes any time: what they
//! are sent is referee's doing alone, at the instants of its timers.

use referee::shard::Counters;
use referee::sim::peer::text::Text;
use referee::sim::scene::{CARRIER, PLATFORM, PRIVATE, PUBLIC, TWO_SIDES};
use referee::sim::wire::{Sent, StreamId, Wire};
use referee::timer::Instant;
use referee::transport::Transport;
use std::net::SocketAddr;
use std::time::Duration;

pub const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];

/// referee, a caller on one side and a callee on the other.
pub struct Ends {
    pub wire: Wire,
    caller: End,
    callee: End,
    sent: Vec<Sent>,
}

struct End {
    address: SocketAddr,
    referee: SocketAddr,
    transport: Transport,
    /// The connection to referee that it has opened.
    stream: Option<StreamId>,
}

impl Ends {
    /// The caller and the callee speak over these.
    pub fn over(caller: Transport, callee: Transport) -> Ends {
        Ends::with(TWO_SIDES, caller, callee)
    }

    /// Datagrams on both sides.
    pub fn over_udp() -> Ends {
        Ends::over(Transport::Udp, Transport::Udp)
    }

    /// The same with a configuration in the manner of [`TWO_SIDES`].
    pub fn with(config: &str, caller: Transport, callee: Transport) -> Ends {
        Ends::with_seed(config, caller, callee, 9)
    }

    /// The same with other random numbers.
    pub fn with_seed(config: &str, caller: Transport, callee: Transport, seed: u8) -> Ends {
        let end = |address: &str, referee: &str, transport| End {
            address: address.parse().unwrap(),
            referee: referee.parse().unwrap(),
            transport,
            stream: None,
        };
        Ends {
            wire: Wire::with_seed(seed, &config.replace("udp:10.0.0.5", &format!("{callee}:10.0.0.5"))),
            caller: end(CARRIER, PUBLIC, caller),
            callee: end(PLATFORM, PRIVATE, callee),
            sent: Vec::new(),
        }
    }

    /// A request of the caller's outside a dialog; requests with other names have nothing in common.
    pub fn request(&self, method: &str, name: &str) -> String {
        let transport = self.caller.transport.via_token();
        format!(
            "{method} sip:+4930123456@203.0.113.7 SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {CARRIER};branch=z9hG4bK-{name}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:alice@carrier.example>;tag=alice-{name}\r\n\
             To: <sip:+4930123456@203.0.113.7>\r\n\
             Call-ID: {name}@carrier.example\r\n\
             CSeq: 7 {method}\r\n\
             Contact: <sip:alice@{CARRIER}>\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }

    pub fn caller_says(&mut self, text: &str) {
        let sent = self.caller.say(&mut self.wire, text);
        self.sent.extend(sent);
    }

    pub fn callee_says(&mut self, text: &str) {
        let sent = self.callee.say(&mut self.wire, text);
        self.sent.extend(sent);
    }

    /// The callee answers what it was sent last of this method.
    pub fn callee_answers(&mut self, method: &str, code: u16) {
        self.callee_says(&response(&self.last_to_callee(method), code, "callee"));
    }

    /// Lets time pass until so many milliseconds after the start, those that are due then included.
    pub fn run_to(&mut self, millis: u64) {
        let wait = Instant::from_millis(millis).since(self.wire.now());
        let sent = self.wire.wait(wait);
        self.sent.extend(sent);
    }

    /// The send of the last message of this label to the callee has failed.
    pub fn last_send_fails(&mut self, label: &str) {
        let of_label = |sent: &&Sent| read(sent).label().starts_with(label);
        let mut of_callee = self.sent.iter().rev().filter(|sent| self.callee.is_at(sent));
        let ticket = of_callee.find(of_label).and_then(|sent| sent.ticket);
        let sent = self.wire.fail(ticket.unwrap_or_else(|| panic!("no {label} can fail")));
        self.sent.extend(sent);
    }

    /// What the caller was sent: instants in milliseconds and what is said.
    pub fn to_caller(&self) -> Vec<(u64, String)> {
        self.log(&self.caller)
    }

    pub fn to_callee(&self) -> Vec<(u64, String)> {
        self.log(&self.callee)
    }

    /// When the caller was sent messages whose label begins so.
    pub fn caller_heard_at(&self, label: &str) -> Vec<u64> {
        at(self.to_caller(), label)
    }

    pub fn callee_heard_at(&self, label: &str) -> Vec<u64> {
        at(self.to_callee(), label)
    }

    /// The last message of this label that the caller was sent.
    pub fn last_to_caller(&self, label: &str) -> Text {
        self.last(&self.caller, label)
    }

    pub fn last_to_callee(&self, label: &str) -> Text {
        self.last(&self.callee, label)
    }

    /// The bytes of all messages of this label to the callee.
    pub fn bytes_to_callee(&self, label: &str) -> Vec<&[u8]> {
        let of_label = |sent: &&Sent| self.callee.is_at(sent) && read(sent).label().starts_with(label);
        self.sent.iter().filter(of_label).map(|sent| &*sent.bytes).collect()
    }

    /// All that was sent, to anyone.
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }

    pub fn counters(&self) -> Counters {
        self.wire.shard().counters()
    }

    /// Live transactions.
    pub fn transactions(&self) -> u64 {
        self.counters().transactions
    }

    /// Nothing is left: no transaction, no request being relayed, and after a while no timer.
    pub fn assert_over(&mut self) {
        let before = self.sent.len();
        let counters = self.counters();
        assert_eq!((counters.transactions, counters.contexts), (0, 0));
        // Timer C outlives its transaction, like any timer that is not meant any more.
        let sent = self.wire.wait(Duration::from_secs(600));
        self.sent.extend(sent);
        assert_eq!(self.counters().timers, 0);
        assert_eq!(self.sent.len(), before, "{:?} {:?}", self.to_caller(), self.to_callee());
    }

    fn log(&self, end: &End) -> Vec<(u64, String)> {
        let of_end = self.sent.iter().filter(|sent| end.is_at(sent));
        of_end
            .map(|sent| {
                assert_eq!(sent.at.as_micros() % 1_000, 0, "not at a whole millisecond");
                (sent.at.as_micros() / 1_000, read(sent).label())
            })
            .collect()
    }

    fn last(&self, end: &End, label: &str) -> Text {
        let mut of_end = self.sent.iter().rev().filter(|sent| end.is_at(sent)).map(read);
        let last = of_end.find(|text| text.label().starts_with(label));
        last.unwrap_or_else(|| panic!("no {label} was sent"))
    }
}

impl End {
    fn is_at(&self, sent: &Sent) -> bool {
        sent.flow.peer.ip() == self.address.ip()
    }

    fn say(&mut self, wire: &mut Wire, text: &str) -> Vec<Sent> {
        match self.transport {
            Transport::Udp => wire.datagram(self.address, self.referee, text.as_bytes()),
            Transport::Tcp => {
                let from = SocketAddr::new(self.address.ip(), 40_000);
                let stream = *self.stream.get_or_insert_with(|| wire.connect(from, self.referee));
                wire.segment(stream, text.as_bytes())
            }
        }
    }
}

fn read(sent: &Sent) -> Text {
    Text::read(&sent.bytes).unwrap_or_else(|fault| panic!("{}: it {fault}", sent.bytes.escape_ascii()))
}

fn at(log: Vec<(u64, String)>, label: &str) -> Vec<u64> {
    let of_label = log.into_iter().filter(|(_, text)| text.starts_with(label));
    of_label.map(|(at, _)| at).collect()
}

/// Lines of a log, for comparing with a whole one.
pub fn lines(log: &[(u64, &str)]) -> Vec<(u64, String)> {
    log.iter().map(|(at, label)| (*at, (*label).to_owned())).collect()
}

/// A response to a request as it was sent, with this To tag where it has none (RFC 3261 §8.2.6).
pub fn response(request: &Text, code: u16, tag: &str) -> String {
    let mut text = format!("SIP/2.0 {code} {}\r\n", phrase(code));
    for (name, value) in &request.headers {
        let value = match name.as_str() {
            "Via" | "From" | "Call-ID" | "CSeq" | "Record-Route" => value.clone(),
            "To" if code == 100 || value.contains(";tag=") => value.clone(),
            "To" => format!("{value};tag={tag}"),
            _ => continue,
        };
        text += &format!("{name}: {value}\r\n");
    }
    text + &format!("Contact: <sip:callee@{PLATFORM}>\r\nContent-Length: 0\r\n\r\n")
}

fn phrase(code: u16) -> &'static str {
    match code {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        481 => "Call/Transaction Does Not Exist",
        486 => "Busy Here",
        487 => "Request Terminated",
        603 => "Decline",
        _ => "Whatever",
    }
}

/// The CANCEL of an INVITE, or the ACK for a non-2xx with the To of the response (RFC 3261 §9.1, §17.1.1.3).
pub fn like(invite: &str, method: &str, to: Option<&str>) -> String {
    let invite = Text::read(invite.as_bytes()).unwrap();
    let mut text = format!("{method} {} SIP/2.0\r\n", invite.request_uri());
    for (name, value) in &invite.headers {
        let value = match name.as_str() {
            "Via" | "Max-Forwards" | "From" | "Call-ID" | "Route" => value.clone(),
            "To" => to.unwrap_or(value).to_owned(),
            "CSeq" => format!("{} {method}", invite.cseq().0),
            _ => continue,
        };
        text += &format!("{name}: {value}\r\n");
    }
    text + "Content-Length: 0\r\n\r\n"
}
