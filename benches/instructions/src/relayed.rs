//! One call through a real shard: what each of its messages takes from the bytes that come to the bytes that leave.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use referee::config;
use referee::identifiers::Secret;
use referee::message::edit::{RequestWriter, Response, ViaStamp, decimal, write_response};
use referee::message::{Header, Index, Message, parse};
use referee::shard::{Input, Output, Setup, Shard};
use referee::timer::Instant;
use referee::transport::{BindId, Flow, Transport};
use referee::usage::Usage;

/// The messages of the call, in order; from the INVITE to the answer to the BYE.
pub const STEPS: [&str; 8] = ["invite", "180", "200", "ack", "info", "info_200", "bye", "bye_200"];

const TWO_SIDES: &str = r#"
[[listen]]
name = "public"
bind = ["udp:203.0.113.7:5060"]
[[listen]]
name = "private"
bind = ["udp:10.0.0.1:5060"]
[[trunk]]
name = "carrier"
side = "carrier"
listen = "public"
addresses = ["udp:198.51.100.10:5060"]
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
        let at = STEPS
            .iter()
            .position(|known| *known == step)
            .unwrap_or_else(|| panic!("no step {step}"));
        let mut call = Course::new();
        for number in 0..CALLS_BEFORE {
            call.play(number, STEPS.len());
        }
        let (bytes, flow) = call.play(CALLS_BEFORE, at).expect("the call has this step");
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
            }),
            index: Index::new(),
            now: Instant::START,
        }
    }

    /// Plays the first `steps` messages of a call; gives back the one that comes next and by which flow.
    fn play(&mut self, number: usize, steps: usize) -> Option<(Vec<u8>, Flow)> {
        let (carrier, platform) = (flow(0, [198, 51, 100, 10]), flow(1, [10, 0, 0, 5]));
        let invite = invite(number);
        // What the far end was sent last, and what the near end got as the answer.
        let (mut at_platform, mut at_carrier) = (Vec::new(), Vec::new());
        for (place, step) in STEPS.iter().enumerate() {
            let (bytes, flow) = match *step {
                "invite" => (invite.clone(), carrier),
                "180" => (response(&at_platform, 180, number), platform),
                "200" => (response(&at_platform, 200, number), platform),
                "ack" => (request(&at_carrier, "ACK", 1, number), carrier),
                "info" => (request(&at_carrier, "INFO", 2, number), carrier),
                "info_200" | "bye_200" => (response(&at_platform, 200, number), platform),
                _ => (request(&at_carrier, "BYE", 3, number), carrier),
            };
            if place == steps {
                return Some((bytes, flow));
            }
            self.now = self.now + Duration::from_millis(3);
            let invite_answer = *step == "200";
            let sends = take(&mut self.shard, &mut self.index, &bytes, flow, self.now, |sent| {
                if sent.starts_with(b"SIP/2.0 200") && invite_answer {
                    at_carrier = sent.to_vec();
                } else if !sent.starts_with(b"SIP/2.0") {
                    at_platform = sent.to_vec();
                }
            });
            assert!(sends > 0, "nothing left for {step}");
        }
        None
    }
}

fn flow(bind: u8, ip: [u8; 4]) -> Flow {
    Flow {
        bind: BindId(bind),
        transport: Transport::Udp,
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
         To: <sip:+4930123456@203.0.113.7>\r\nCall-ID: {number}-84b4c76e66710@198.51.100.10\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:+4917012345@198.51.100.10:5060>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK\r\n\
         Supported: timer, 100rel, replaces\r\nP-Asserted-Identity: <sip:+4917012345@carrier.example>\r\n\
         User-Agent: carrier/1.0\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The answer of the platform to what it was sent.
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

/// A request of the carrier within the dialog that this 200 made.
fn request(answer: &[u8], method: &str, cseq: u32, number: usize) -> Vec<u8> {
    let mut index = Index::new();
    parse(answer, &mut index).expect("a relayed answer");
    let answer = Message::new(answer, &index);
    let value = |header| answer.value(header).expect("the answer has it");
    let mut out = Vec::new();
    let mut writer = RequestWriter::new(&mut out, method, b"sip:bot@10.0.0.5:5060");
    writer.header(
        "Via",
        &[format!("SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK{number}{method};rport").as_bytes()],
    );
    writer.header("Max-Forwards", &[b"70"]);
    let routes: Vec<_> = answer.lines_of(Header::RecordRoute).map(|line| line.value).collect();
    for route in routes.iter().rev() {
        writer.header("Route", &[route]);
    }
    writer
        .header("From", &[value(Header::From)])
        .header("To", &[value(Header::To)])
        .header("Call-ID", &[value(Header::CallId)])
        .header("CSeq", &[decimal(cseq).as_bytes(), b" ", method.as_bytes()]);
    writer.finish(None, b"").expect("plain values");
    out
}
