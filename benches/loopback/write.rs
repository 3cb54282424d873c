//! What the two peers send. All that is the same in every message of a kind lies ready; the rest is put between.

use crate::received::{Method, Received};
use std::net::SocketAddr;

/// Who of the two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Party {
    Caller,
    Callee,
}

impl Party {
    pub const BOTH: [Party; 2] = [Party::Caller, Party::Callee];

    pub fn other(self) -> Party {
        match self {
            Party::Caller => Party::Callee,
            Party::Callee => Party::Caller,
        }
    }

    const fn letter(self) -> u8 {
        match self {
            Party::Caller => b'c',
            Party::Callee => b'e',
        }
    }
}

/// The texts of both peers.
#[derive(Debug)]
pub struct Writer {
    /// Tells the Call-IDs and branches of this run from those of others.
    run: [u8; 8],
    texts: [Texts; 2],
    invite_body: Vec<u8>,
    answer_body: Vec<u8>,
}

#[derive(Debug)]
struct Texts {
    /// `SIP/2.0/UDP host:port`
    via: Vec<u8>,
    /// The value of its From or To without the tag.
    identity: &'static [u8],
    contact: Vec<u8>,
    contact_uri: Vec<u8>,
}

/// The user and host that calls are for: nobody's address, so that the proxy has to decide where they go.
const SERVICE: &str = "sip:+4930901820123@voice.example;user=phone";

const CALLER: &[u8] = b"\"Mustermann, Erika\" <sip:+491715550100@carrier.example;user=phone>";
const CALLEE: &[u8] = b"<sip:+4930901820123@voice.example;user=phone>";

/// Letters of a tag: the party's own and a number in hexadecimal digits.
pub const TAG_LEN: usize = 17;

/// What a branch begins with (RFC 3261 §8.1.1.7).
pub const COOKIE: &[u8] = b";branch=z9hG4bK";

/// Letters of a branch after the cookie: the run, the call, the party, the CSeq number.
pub const BRANCH_LEN: usize = 8 + 16 + 1 + 4;

/// Hexadecimal digits of the call's number at the start of a Call-ID.
pub const CALL_DIGITS: usize = 16;

impl Writer {
    pub fn new(caller: SocketAddr, callee: SocketAddr, run: u32) -> Writer {
        let texts = |address: SocketAddr, user: &str, identity| Texts {
            via: format!("SIP/2.0/UDP {address}").into_bytes(),
            identity,
            contact: format!("<sip:{user}@{address}>").into_bytes(),
            contact_uri: format!("sip:{user}@{address}").into_bytes(),
        };
        let body = |address: SocketAddr| {
            format!(
                "v=0\r\no=- 1187204562 1187204562 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
                 m=audio 23456 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
                 a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n",
                ip = address.ip()
            )
            .into_bytes()
        };
        Writer {
            run: hex(run.into()),
            texts: [
                texts(caller, "+491715550100", CALLER),
                texts(callee, "agent-17", CALLEE),
            ],
            invite_body: body(caller),
            answer_body: body(callee),
        }
    }

    /// The party's Contact value, which no proxy may touch.
    pub fn contact(&self, party: Party) -> &[u8] {
        &self.texts[party as usize].contact
    }

    /// The URI of it.
    pub fn contact_uri(&self, party: Party) -> &[u8] {
        &self.texts[party as usize].contact_uri
    }

    /// The party's Via, up to its parameters.
    pub fn via(&self, party: Party) -> &[u8] {
        &self.texts[party as usize].via
    }

    pub fn tag(call: u64, party: Party) -> [u8; TAG_LEN] {
        let mut tag = [party.letter(); TAG_LEN];
        tag[1..].copy_from_slice(&hex::<16>(call));
        tag
    }

    pub fn branch(&self, call: u64, party: Party, cseq: u32) -> [u8; BRANCH_LEN] {
        let mut branch = [party.letter(); BRANCH_LEN];
        branch[..8].copy_from_slice(&self.run);
        branch[8..24].copy_from_slice(&hex::<16>(call));
        branch[25..].copy_from_slice(&hex::<4>(cseq.into()));
        branch
    }

    /// The number of a call of this run.
    pub fn call_of(&self, call_id: &[u8]) -> Option<u64> {
        let (digits, rest) = call_id.split_at_checked(CALL_DIGITS)?;
        if rest.strip_prefix(b"-")?.strip_suffix(b"@loopback")? != self.run {
            return None;
        }
        digits.iter().try_fold(0, |sum: u64, byte| {
            let digit = (*byte as char).to_digit(16)?;
            Some(sum << 4 | u64::from(digit))
        })
    }

    /// A request; `routes` are whole Route lines. Written the same again for a retransmission.
    pub fn request(&self, request: &Request<'_>, out: &mut Vec<u8>) {
        let Request {
            call,
            party,
            method,
            cseq,
            ..
        } = *request;
        let (me, you) = (&self.texts[party as usize], &self.texts[party.other() as usize]);
        let outside = matches!(method, Method::Invite | Method::Options);
        let mut put = |text: &[u8]| out.extend_from_slice(text);
        put(method.name().as_bytes());
        put(b" ");
        put(if outside { SERVICE.as_bytes() } else { &you.contact_uri });
        put(b" SIP/2.0\r\nVia: ");
        put(&me.via);
        put(COOKIE);
        put(&self.branch(call, party, request.branch));
        put(b";rport\r\nMax-Forwards: 70\r\n");
        put(request.routes);
        put(b"From: ");
        put(me.identity);
        put(b";tag=");
        put(&Writer::tag(call, party));
        put(b"\r\nTo: ");
        put(you.identity);
        if !outside {
            put(b";tag=");
            put(&Writer::tag(call, party.other()));
        }
        put(b"\r\nCall-ID: ");
        put(&hex::<CALL_DIGITS>(call));
        put(b"-");
        put(&self.run);
        put(b"@loopback\r\nCSeq: ");
        put(decimal(cseq, &mut [0; 10]));
        put(b" ");
        put(method.name().as_bytes());
        put(b"\r\n");
        if matches!(method, Method::Invite | Method::Refer | Method::Notify) {
            put(b"Contact: ");
            put(&me.contact);
            put(b"\r\n");
        }
        match method {
            Method::Invite => {
                put(INVITE_HEADERS);
                put(decimal(self.invite_body.len() as u32, &mut [0; 10]));
                put(b"\r\n\r\n");
                put(&self.invite_body);
            }
            Method::Refer => put(REFER_HEADERS),
            Method::Notify if request.is_last_notify => put(LAST_NOTIFY),
            Method::Notify => put(FIRST_NOTIFY),
            Method::Ack | Method::Bye | Method::Options => put(b"User-Agent: loopback/1\r\nContent-Length: 0\r\n\r\n"),
        }
    }

    /// A response to a received request.
    pub fn response(&self, to: &Received<'_>, answer: &Answer<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(answer.status);
        for line in to.echo() {
            out.extend_from_slice(line);
            // RFC 3261 §8.2.6.2: the To gets our tag, in all but a 100.
            if line.starts_with(b"To:")
                && let Some(tag) = answer.tag
            {
                out.truncate(out.len() - 2);
                out.extend_from_slice(b";tag=");
                out.extend_from_slice(&tag);
                out.extend_from_slice(b"\r\n");
            }
        }
        if answer.has_contact {
            out.extend_from_slice(b"Contact: ");
            out.extend_from_slice(self.contact(answer.party));
            out.extend_from_slice(b"\r\n");
        }
        if answer.has_body {
            out.extend_from_slice(ANSWER_HEADERS);
            out.extend_from_slice(decimal(self.answer_body.len() as u32, &mut [0; 10]));
            out.extend_from_slice(b"\r\n\r\n");
            out.extend_from_slice(&self.answer_body);
        } else {
            out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        }
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub call: u64,
    pub party: Party,
    pub method: Method,
    pub cseq: u32,
    /// What tells its branch from others of the party.
    pub branch: u32,
    /// Whole lines.
    pub routes: &'a [u8],
    pub is_last_notify: bool,
}

/// What a response says of its own.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The whole line.
    pub status: &'a [u8],
    pub party: Party,
    /// Put behind the To.
    pub tag: Option<[u8; TAG_LEN]>,
    pub has_contact: bool,
    pub has_body: bool,
}

const INVITE_HEADERS: &[u8] = b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, REFER, NOTIFY\r\n\
    Supported: timer, replaces\r\nUser-Agent: loopback/1\r\nContent-Type: application/sdp\r\nContent-Length: ";
const ANSWER_HEADERS: &[u8] = b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, REFER, NOTIFY\r\n\
    Supported: replaces\r\nServer: loopback/1\r\nContent-Type: application/sdp\r\nContent-Length: ";
const REFER_HEADERS: &[u8] = b"Refer-To: <sip:+4930901820777@voice.example>\r\n\
    Referred-By: <sip:+4930901820123@voice.example>\r\nUser-Agent: loopback/1\r\nContent-Length: 0\r\n\r\n";
const FIRST_NOTIFY: &[u8] = b"Event: refer\r\nSubscription-State: active;expires=60\r\n\
    Content-Type: message/sipfrag;version=2.0\r\nContent-Length: 20\r\n\r\nSIP/2.0 100 Trying\r\n";
const LAST_NOTIFY: &[u8] = b"Event: refer\r\nSubscription-State: terminated;reason=noresource\r\n\
    Content-Type: message/sipfrag;version=2.0\r\nContent-Length: 16\r\n\r\nSIP/2.0 200 OK\r\n";

fn hex<const N: usize>(number: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    let mut rest = number;
    for place in text.iter_mut().rev() {
        *place = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    text
}

fn decimal(number: u32, place: &mut [u8; 10]) -> &[u8] {
    let mut start = place.len();
    let mut rest = number;
    loop {
        start -= 1;
        place[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &place[start..];
        }
    }
}
