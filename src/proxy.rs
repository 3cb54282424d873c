//! Relaying a request and its responses (RFC 3261 §16): what is checked, what is written, what is kept between the two.

pub mod best;
pub mod context;
pub mod search;

use crate::digest::{self, Asks};
use crate::message::check::{RELAYED_BYTES_MAX, RELAYED_LINES_MAX};
use crate::message::edit::{Editor, ViaStamp, decimal};
use crate::message::{Header, Message, Method, Via};
use crate::session_timer;
use crate::transaction::Branch;
use crate::transport::Transport;

/// Why a request is not relayed, as the status to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: u16,
    pub reason: &'static str,
}

impl Refused {
    /// RFC 3261 §12.2.2, §9.2: of no dialog or transaction that is known here.
    pub const NO_DIALOG: Refused = Refused::new(481, "Call/Transaction Does Not Exist");

    /// RFC 6665 §4.1.3: a NOTIFY of no subscription that is known here.
    pub const NO_SUBSCRIPTION: Refused = Refused::new(481, "Subscription Does Not Exist");

    /// RFC 3261 §12.2.2: a number below one that its sender has used. A reason that names CSeq would be taken for the header
    /// by SIPp.
    pub const OUT_OF_ORDER: Refused = Refused::new(500, "Request Out of Order");

    /// There are no numbers left.
    pub const NO_NUMBERS: Refused = Refused::new(500, "Sequence Numbers Exhausted");

    /// There is no room, or referee is on its way out.
    pub const SHED: Refused = Refused::new(503, "Service Unavailable");

    pub const fn new(code: u16, reason: &'static str) -> Refused {
        Refused { code, reason }
    }
}

/// What is asked of any checked request before it is relayed (RFC 3261 §16.3). `Proxy-Require` is left to the caller, since its answer
/// carries the header.
pub fn validate(message: Message<'_>) -> Result<(), Refused> {
    if message.total_len() > RELAYED_BYTES_MAX || message.line_count() > RELAYED_LINES_MAX {
        return Err(Refused::new(513, "Message Too Large"));
    }
    if message.max_forwards().unwrap_or_default() == Some(0) {
        return Err(Refused::new(483, "Too Many Hops"));
    }
    let uri = message.request_uri();
    match uri.get(..4) {
        Some(scheme) if scheme.eq_ignore_ascii_case(b"sip:") => Ok(()),
        _ => Err(Refused::new(416, "Unsupported URI Scheme")),
    }
}

/// Whether our Record-Route belongs on a request that opens a dialog, or may (RFC 3261 §16.6 step 4).
pub fn opens_dialog(method: Method) -> bool {
    matches!(
        method,
        Method::Invite | Method::Subscribe | Method::Refer | Method::Notify | Method::Other
    )
}

/// Whether a 2xx to this request moves the remote targets (RFC 3261 §12.2, RFC 3311, RFC 6665, RFC 3515).
pub fn refreshes_target(method: Method) -> bool {
    matches!(
        method,
        Method::Invite | Method::Update | Method::Subscribe | Method::Notify | Method::Refer
    )
}

/// All that changes in a request as it is relayed; the rest stays byte for byte.
#[derive(Debug)]
pub struct Relay<'a> {
    pub transport: Transport,
    /// Our `host:port` on the socket it leaves by.
    pub sent_by: &'a [u8],
    pub branch: &'a Branch,
    /// What we saw of the hop before.
    pub stamp: ViaStamp,
    pub request_uri: Option<&'a [u8]>,
    /// Values of ours to put on top: the near side's last.
    pub record_routes: &'a [&'a [u8]],
    /// Route values of ours to take off.
    pub own_routes: usize,
    /// Route values to put in.
    pub routes: &'a [u8],
    pub cseq: Option<u32>,
    pub rack: Option<u32>,
    pub event_id: Option<u32>,
    pub session: session_timer::Pass,
    /// What Max-Breadth says from here on (RFC 5393 §5.3.3).
    pub max_breadth: Option<u8>,
    /// Whole header lines with credentials of ours.
    pub credentials: &'a [u8],
}

/// What changes in a request of ours, relayed or not, that is sent once more with credentials (RFC 3261 §22.2): all else is as it
/// was.
#[derive(Debug)]
pub struct Again<'a> {
    pub transport: Transport,
    /// Our `host:port` on the socket it leaves by.
    pub sent_by: &'a [u8],
    pub branch: &'a Branch,
    pub cseq: u32,
    /// Whole header lines with the credentials.
    pub credentials: &'a [u8],
}

/// Writes a relayed request behind what `out` holds.
pub fn write_request(message: Message<'_>, via: &Via<'_>, relay: &Relay<'_>, editor: &mut Editor, out: &mut Vec<u8>) {
    editor.clear();
    upper_case_version(message, editor);
    if let Some(uri) = relay.request_uri {
        editor.replace(message.request_uri_span(), &[uri]);
    }
    let top = message.headers_start();
    editor.insert(
        top,
        &[
            b"Via: SIP/2.0/",
            relay.transport.via_token().as_bytes(),
            b" ",
            relay.sent_by,
            b";branch=",
            relay.branch.as_bytes(),
            b";rport\r\n",
        ],
    );
    for value in relay.record_routes {
        editor.insert(top, &[b"Record-Route: ", value, b"\r\n"]);
    }
    if !relay.routes.is_empty() {
        editor.insert(top, &[b"Route: ", relay.routes, b"\r\n"]);
    }
    relay.stamp.apply(via, editor);
    // RFC 3261 §16.6 step 3.
    match message.lines_of(Header::MaxForwards).next() {
        Some(line) => {
            let left = message
                .max_forwards()
                .unwrap_or_default()
                .unwrap_or(70)
                .saturating_sub(1);
            editor.replace(line.value_span, &[decimal(left.into()).as_bytes()]);
        }
        None => editor.insert(top, &[b"Max-Forwards: 70\r\n"]),
    }
    if let Some(breadth) = relay.max_breadth {
        let breadth = decimal(breadth.into());
        match message.lines_of(Header::MaxBreadth).next() {
            Some(line) => editor.replace(line.value_span, &[breadth.as_bytes()]),
            None => editor.insert(top, &[b"Max-Breadth: ", breadth.as_bytes(), b"\r\n"]),
        }
    }
    if relay.own_routes > 0 {
        editor.remove_first_values(message, Header::Route, relay.own_routes);
    }
    if let Some(number) = relay.cseq {
        replace_cseq(message, number, editor);
    }
    if let (Some(number), Ok(Some(rack))) = (relay.rack, message.rack()) {
        editor.replace(rack.cseq_span.0..rack.cseq_span.1, &[decimal(number).as_bytes()]);
    }
    if let (Some(id), Ok(Some(event))) = (relay.event_id, message.event())
        && let Some(span) = event.id_span
    {
        editor.replace(span, &[decimal(id).as_bytes()]);
    }
    relay.session.apply(message, editor);
    if !relay.credentials.is_empty() {
        editor.insert(message.headers_end(), &[relay.credentials]);
    }
    end_for(relay.transport, message, editor);
    editor.write(message, out);
}

/// Writes a challenged request, as it was sent, once more behind what `out` holds. `is_ours`: whether credentials in it are of the
/// sessions that `again` has credentials of; those give way.
pub fn write_again(
    sent: Message<'_>,
    again: &Again<'_>,
    is_ours: impl Fn(Asks, &[u8]) -> bool,
    editor: &mut Editor,
    out: &mut Vec<u8>,
) {
    editor.clear();
    if let Ok(via) = sent.top_via() {
        let transport = again.transport.via_token().as_bytes();
        let branch = again.branch.as_bytes();
        let parts: [&[u8]; 6] = [b"SIP/2.0/", transport, b" ", again.sent_by, b";branch=", branch];
        editor.replace(via.span.range(), &[&parts.concat(), b";rport"]);
    }
    replace_cseq(sent, again.cseq, editor);
    for line in digest::credential_lines(sent, is_ours) {
        editor.delete(line);
    }
    editor.insert(sent.headers_end(), &[again.credentials]);
    end_for(again.transport, sent, editor);
    editor.write(sent, out);
}

/// RFC 3261 §18.3: a stream needs a Content-Length to end the message.
fn end_for(transport: Transport, message: Message<'_>, editor: &mut Editor) {
    if transport.is_reliable() && message.count(Header::ContentLength) == 0 {
        editor.insert(
            message.headers_end(),
            &[
                b"Content-Length: ",
                decimal(message.body().len() as u32).as_bytes(),
                b"\r\n",
            ],
        );
    }
}

/// Among how many branches a request may still be divided; one that does not say, or says more than that, among
/// [`search::MAX_BREADTH`] (RFC 5393 §5.3.3).
pub fn max_breadth(message: Message<'_>) -> u8 {
    let said = message.lines_of(Header::MaxBreadth).next();
    let number = said.and_then(|line| std::str::from_utf8(line.value).ok()?.trim().parse::<u8>().ok());
    number.map_or(search::MAX_BREADTH, |number| number.min(search::MAX_BREADTH))
}

/// Writes a relayed response: our Via off, the CSeq as the requester knows it, `lines` put in (RFC 3261 §16.7).
pub fn write_response(
    message: Message<'_>,
    cseq: Option<u32>,
    to: Transport,
    lines: &[u8],
    editor: &mut Editor,
    out: &mut Vec<u8>,
) {
    editor.clear();
    upper_case_version(message, editor);
    editor.remove_first_values(message, Header::Via, 1);
    if let Some(number) = cseq {
        replace_cseq(message, number, editor);
    }
    if !lines.is_empty() {
        editor.insert(message.headers_end(), &[lines]);
    }
    end_for(to, message, editor);
    editor.write(message, out);
}

/// RFC 3261 §7.1: read without regard to case, the version is sent in upper case.
fn upper_case_version(message: Message<'_>, editor: &mut Editor) {
    const VERSION: &[u8] = b"SIP/2.0";
    let at = if message.is_request() {
        message.request_uri_span().end + 1
    } else {
        0
    };
    let span = at..at + VERSION.len();
    if message
        .bytes()
        .get(span.clone())
        .is_some_and(|version| version != VERSION)
    {
        editor.replace(span, &[VERSION]);
    }
}

fn replace_cseq(message: Message<'_>, number: u32, editor: &mut Editor) {
    if let Ok(cseq) = message.cseq()
        && cseq.number != number
    {
        editor.replace(cseq.number_span.0..cseq.number_span.1, &[decimal(number).as_bytes()]);
    }
}

/// The value of our Record-Route on one socket: `<sip:host:port;lr;r=token>`.
pub fn record_route<A: smallvec::Array<Item = u8>>(
    sent_by: &[u8],
    transport: Transport,
    token: &[u8],
    out: &mut smallvec::SmallVec<A>,
) {
    out.extend_from_slice(b"<sip:");
    out.extend_from_slice(sent_by);
    if transport != Transport::Udp {
        out.extend_from_slice(b";transport=");
        out.extend_from_slice(transport.uri_value().as_bytes());
    }
    out.extend_from_slice(b";lr;");
    out.extend_from_slice(crate::traversal::PARAMETER.as_bytes());
    out.extend_from_slice(b"=");
    out.extend_from_slice(token);
    out.extend_from_slice(b">");
}
