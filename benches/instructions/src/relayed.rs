//! One call through a real shard: what each of its messages takes from the bytes that come to the bytes that leave.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use referee::command::{CallSelector, Command};
use referee::config;
use referee::identifiers::Secret;
use referee::message::edit::{RequestWriter, Response, ViaStamp, decimal, write_response};
use referee::message::{Header, Index, Message, parse};
use referee::shard::{Input, Output, Setup, Shard};
use referee::timer::Instant;
use referee::transport::{BindId, Flow, LocalId, Transport};
use referee::usage::Usage;
use referee::verb;

/// The messages that are counted: those of a plain call, then those of one whose parties transfer, and of one that referee
/// transfers. `as_refer` and `as_notify` are INFOs with the lines and the body of the request that they are compared with.
pub const STEPS: [&str; 13] = [
    "invite",
    "180",
    "200",
    "ack",
    "info",
    "info_200",
    "bye",
    "bye_200",
    "refer",
    "as_refer",
    "notify",
    "as_notify",
    "own_notify",
];

/// A plain call, from the INVITE to the answer to the BYE.
const PLAIN: [&str; 8] = ["invite", "180", "200", "ack", "info", "info_200", "bye", "bye_200"];

/// One in which the platform sends a REFER, and then referee; it ends with the REFER of referee's own.
const TRANSFERRED: [&str; 13] = [
    "invite",
    "180",
    "200",
    "ack",
    "as_refer",
    "carrier_200",
    "refer",
    "carrier_200",
    "as_notify",
    "platform_200",
    "notify",
    "platform_200",
    "own_refer",
];

const TWO_SIDES: &str = r#"
[[listen]]
name = "public"
bind = ["udp:203.0.113.7:5060"]
[[listen]]
name = "private"
bind = ["udp:10.0.0.1:5060"]
[hooks]
base_url = "http://192.0.2.80"
[[trunk]]
name = "carrier"
side = "carrier"
listen = "public"
addresses = ["udp:198.51.100.10:5060"]
[trunk.refer]
destinations = ["*"]
[[trunk]]
name = "platform"
side = "platform"
listen = "private"
addresses = ["udp:10.0.0.5:5060"]
[[route]]
from = "carrier"
to = "platform"
"#;

/// So many calls before the one that is counted: every pool and table has its size then.
const CALLS_BEFORE: usize = 300;

/// A shard in the middle of a call, and the message that comes next.
#[derive(Debug)]
pub struct Relayed {
    shard: &'static mut Shard,
    index: &'static mut Index,
    bytes: &'static [u8],
    flow: Flow,
    now: Instant,
}

impl Relayed {
    /// A shard to which this message of a call comes next.
    ///
    /// # Panics
    ///
    /// If the call has no such message, or does not take its course.
    pub fn before(step: &str) -> Relayed {
        let (steps, at) = match PLAIN.iter().position(|known| *known == step) {
            Some(at) => (&PLAIN[..], at),
            None => {
                let at = TRANSFERRED.iter().position(|known| *known == step);
                (&TRANSFERRED[..], at.unwrap_or(TRANSFERRED.len()))
            }
        };
        let mut call = Course::new();
        for number in 0..CALLS_BEFORE {
            call.begin(number);
            call.play(steps);
        }
        call.begin(CALLS_BEFORE);
        call.play(&steps[..at]);
        let (bytes, flow) = call.message(step);
        Relayed {
            shard: Box::leak(Box::new(call.shard)),
            index: Box::leak(Box::new(Index::new())),
            bytes: bytes.leak(),
            flow,
            now: call.now,
        }
    }

    /// The bytes of the message.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Reads the message, handles it, and takes what leaves; how many sends that is.
    pub fn relay(&mut self) -> usize {
        take(
            self.shard,
            self.index,
            black_box(self.bytes),
            self.flow,
            self.now,
            |bytes| {
                black_box(bytes);
            },
        )
    }
}

fn take(
    shard: &mut Shard,
    index: &mut Index,
    bytes: &[u8],
    flow: Flow,
    now: Instant,
    mut sent: impl FnMut(&[u8]),
) -> usize {
    parse(bytes, index).expect("the messages of the call are valid");
    let message = Message::new(bytes, index);
    let waited = Duration::ZERO;
    shard.handle(Input::Received { flow, message, waited }, now);
    let mut sends = 0;
    while let Some(output) = shard.poll_output() {
        if let Output::Send { bytes, .. } = output {
            sent(shard.out_bytes(&bytes));
            sends += 1;
        }
    }
    shard.end_batch();
    sends
}

/// Both ends of calls, as plain as they can be.
struct Course {
    shard: Shard,
    index: Index,
    now: Instant,
    number: usize,
    /// The INVITE as it came to the platform, and its 200 as it came to the carrier: the dialog as each of them knows it.
    invite: Vec<u8>,
    answer: Vec<u8>,
    /// The last request that left, whoever got it.
    request: Vec<u8>,
    /// The last CSeq numbers of carrier and platform.
    numbers: [u32; 2],
}

impl Course {
    fn new() -> Course {
        let config = config::parse(TWO_SIDES, &|_| None).expect("the configuration has no mistake");
        Course {
            shard: Shard::new(Setup {
                usage: Arc::new(Usage::new(&config)),
                config: Arc::new(config),
                shard: 0,
                shards: 1,
                secret: Secret([7; 16]),
                seed: [9; 16],
                wall_clock_at_start: Duration::from_secs(1_750_000_000),
                records: false,
                locals: Arc::default(),
            }),
            index: Index::new(),
            now: Instant::START,
            number: 0,
            invite: Vec::new(),
            answer: Vec::new(),
            request: Vec::new(),
            numbers: [0; 2],
        }
    }

    fn begin(&mut self, number: usize) {
        self.number = number;
        self.numbers = [1, 0];
    }

    fn play(&mut self, steps: &[&str]) {
        for step in steps {
            self.pass_time();
            if *step == "own_refer" {
                self.transfer();
                continue;
            }
            let (bytes, flow) = self.message(step);
            let (mut request, mut response) = (Vec::new(), Vec::new());
            let sends = take(
                &mut self.shard,
                &mut self.index,
                &bytes,
                flow,
                self.now,
                |sent| match sent.starts_with(b"SIP/2.0") {
                    true => response = sent.to_vec(),
                    false => request = sent.to_vec(),
                },
            );
            assert!(sends > 0, "nothing left for {step}");
            match *step {
                "invite" => self.invite.clone_from(&request),
                "200" => self.answer = response,
                _ => {}
            }
            if !request.is_empty() {
                self.request = request;
            }
        }
    }

    /// So much that what a call leaves behind for a while (RFC 3261 §17) is gone a few calls later, as it comes and goes all day.
    fn pass_time(&mut self) {
        self.now = self.now + Duration::from_millis(100);
        self.shard.handle_timeout(self.now);
        while self.shard.poll_output().is_some() {}
        self.shard.end_batch();
    }

    /// The API asks for a transfer, and the carrier accepts its REFER.
    fn transfer(&mut self) {
        let verb = serde_json::json!({
            "verb": "sip:refer", "referTo": "sip:+4930999@carrier.example", "actionHook": "/action", "eventHook": "/event"
        });
        let command = Command::Verbs {
            call: CallSelector::SipCallId(call_id(self.number).into_bytes()),
            verbs: verb::parse(&verb).expect("a valid verb"),
            dry_run: false,
        };
        self.shard.handle(Input::Command { ticket: 0, command }, self.now);
        while let Some(output) = self.shard.poll_output() {
            if let Output::Send { bytes, .. } = output {
                self.request = self.shard.out_bytes(&bytes).to_vec();
            }
        }
        self.shard.end_batch();
        assert!(self.request.starts_with(b"REFER"), "the verb sends a REFER");
        let accepted = response(&self.request, 202, self.number);
        let flow = self.carrier();
        take(&mut self.shard, &mut self.index, &accepted, flow, self.now, |_| ());
    }

    fn carrier(&self) -> Flow {
        flow(0, [198, 51, 100, 10])
    }

    /// The message that comes next, and by which flow.
    fn message(&mut self, step: &str) -> (Vec<u8>, Flow) {
        let (carrier, platform) = (self.carrier(), flow(1, [10, 0, 0, 5]));
        let refer: Lines<'_> = &[
            ("Contact", "<sip:bot@10.0.0.5:5060>"),
            ("Refer-To", "<sip:+4930999@carrier.example>"),
            ("Referred-By", "<sip:+4930123456@203.0.113.7>"),
        ];
        // The subscription of the platform's REFER has to end before referee may send its own.
        let (event, state) = match step {
            "own_notify" => ("refer;id=3", "active;expires=60"),
            _ => ("refer;id=2", "terminated;reason=noresource"),
        };
        let notify: Lines<'_> = &[
            ("Contact", "<sip:+4917012345@198.51.100.10:5060>"),
            ("Event", event),
            ("Subscription-State", state),
        ];
        match step {
            "invite" => (invite(self.number), carrier),
            "180" => (response(&self.request, 180, self.number), platform),
            "200" | "info_200" | "bye_200" | "platform_200" => (response(&self.request, 200, self.number), platform),
            "carrier_200" => (response(&self.request, 200, self.number), carrier),
            "ack" => (self.request_of_carrier("ACK", &[], b""), carrier),
            "info" => (self.request_of_carrier("INFO", &[], b""), carrier),
            "bye" => (self.request_of_carrier("BYE", &[], b""), carrier),
            "refer" => (self.request_of_platform("REFER", refer), platform),
            "as_refer" => (self.request_of_platform("INFO", refer), platform),
            "notify" | "own_notify" => (self.request_of_carrier("NOTIFY", notify, OF_TARGET), carrier),
            "as_notify" => (self.request_of_carrier("INFO", notify, OF_TARGET), carrier),
            _ => panic!("no step {step}"),
        }
    }

    fn request_of_carrier(&mut self, method: &str, lines: Lines<'_>, body: &[u8]) -> Vec<u8> {
        if method != "ACK" {
            self.numbers[0] += 1;
        }
        let mut index = Index::new();
        parse(&self.answer, &mut index).expect("a relayed answer");
        let answer = Message::new(&self.answer, &index);
        let value = |header| answer.value(header).expect("the answer has it");
        let mut routes: Vec<_> = answer.lines_of(Header::RecordRoute).map(|line| line.value).collect();
        routes.reverse();
        let target = b"sip:bot@10.0.0.5:5060";
        let parties = [value(Header::From), value(Header::To)];
        self.in_dialog(
            method,
            self.numbers[0],
            target,
            "198.51.100.10",
            &routes,
            parties,
            lines,
            body,
        )
    }

    fn request_of_platform(&mut self, method: &str, lines: Lines<'_>) -> Vec<u8> {
        self.numbers[1] += 1;
        let mut index = Index::new();
        parse(&self.invite, &mut index).expect("a relayed INVITE");
        let invite = Message::new(&self.invite, &index);
        let value = |header| invite.value(header).expect("the INVITE has it");
        let routes: Vec<_> = invite.lines_of(Header::RecordRoute).map(|line| line.value).collect();
        let own = [value(Header::To), format!(";tag=b{}", self.number).as_bytes()].concat();
        let target = b"sip:+4917012345@198.51.100.10:5060";
        let parties = [&own[..], value(Header::From)];
        self.in_dialog(
            method,
            self.numbers[1],
            target,
            "10.0.0.5",
            &routes,
            parties,
            lines,
            b"",
        )
    }

    #[expect(clippy::too_many_arguments, reason = "a request has these parts")]
    fn in_dialog(
        &self,
        method: &str,
        cseq: u32,
        target: &[u8],
        host: &str,
        routes: &[&[u8]],
        parties: [&[u8]; 2],
        lines: Lines<'_>,
        body: &[u8],
    ) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = RequestWriter::new(&mut out, method, target);
        let number = self.number;
        writer.header(
            "Via",
            &[format!("SIP/2.0/UDP {host}:5060;branch=z9hG4bK{number}{method}{cseq};rport").as_bytes()],
        );
        writer.header("Max-Forwards", &[b"70"]);
        for route in routes {
            writer.header("Route", &[route]);
        }
        writer
            .header("From", &[parties[0]])
            .header("To", &[parties[1]])
            .header("Call-ID", &[call_id(number).as_bytes()])
            .header("CSeq", &[decimal(cseq).as_bytes(), b" ", method.as_bytes()]);
        for (name, value) in lines {
            writer.header(name, &[value.as_bytes()]);
        }
        writer
            .finish(Some("message/sipfrag;version=2.0"), body)
            .expect("plain values");
        out
    }
}

/// Further header lines of a request.
type Lines<'a> = &'a [(&'a str, &'a str)];

const OF_TARGET: &[u8] = b"SIP/2.0 100 Trying\r\n";

fn call_id(number: usize) -> String {
    format!("{number}-84b4c76e66710@198.51.100.10")
}

fn flow(bind: u8, ip: [u8; 4]) -> Flow {
    Flow {
        bind: BindId(bind),
        transport: Transport::Udp,
        local: LocalId::ANY,
        peer: SocketAddr::from((ip, 5060)),
        connection: None,
    }
}

/// A carrier's INVITE with an offer.
fn invite(number: usize) -> Vec<u8> {
    let body = "v=0\r\no=- 20518 0 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\n\
                m=audio 54400 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
                a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n";
    format!(
        "INVITE sip:+4930123456@203.0.113.7 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{number}i;rport\r\n\
         Max-Forwards: 69\r\nFrom: \"Alice\" <sip:+4917012345@carrier.example>;tag=a{number}\r\n\
         To: <sip:+4930123456@203.0.113.7>\r\nCall-ID: {}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:+4917012345@198.51.100.10:5060>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK\r\n\
         Supported: timer, 100rel, replaces\r\nP-Asserted-Identity: <sip:+4917012345@carrier.example>\r\n\
         User-Agent: carrier/1.0\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        call_id(number),
        body.len()
    )
    .into_bytes()
}

/// The answer of a party to what it was sent.
fn response(request: &[u8], code: u16, number: usize) -> Vec<u8> {
    let mut index = Index::new();
    parse(request, &mut index).expect("a relayed request");
    let tag = format!("b{number}");
    let extra: [(&str, &[u8]); 1] = [("Contact", b"<sip:bot@10.0.0.5:5060>")];
    let mut out = Vec::new();
    let response = Response {
        code,
        reason: "OK",
        to_tag: Some(tag.as_bytes()),
        copy_record_route: true,
        extra: &extra,
        content_type: None,
        body: b"",
    };
    write_response(Message::new(request, &index), ViaStamp::default(), &response, &mut out);
    out
}
