//! What is read in each header line.

use super::super::authentication::{Algorithm, AuthenticationInfo, Challenge, Credentials};
use super::super::dialog_reference::{Replaces, TargetDialog};
use super::super::field::{self, NameAddr, Via};
use super::super::header::Header;
use super::super::identity::{Contact, Privacy, UserToUser};
use super::super::media::{ContentDisposition, MediaType};
use super::super::reason::{Reason, Warning};
use super::super::refer::{Event, ReferredBy, SubscriptionState};
use super::super::scan::{self, split_list};
use super::super::sdp::{Description, Direction, Media};
use super::super::time::Refresher;
use super::super::uri::{Host, Scheme, Unescaped, Uri};
use super::super::value::Text;
use super::super::{HeaderLine, Message};
use super::cause::{self, Cause};
use super::show::{flat, show};

/// What a line says, and what is wrong with it: of several faults the first.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) texts: Vec<String>,
    pub(super) fault: Option<Cause>,
}

const NOT_ITS_GRAMMAR: &str = "it does not follow its grammar";

/// Reads one line; `place` is how many lines of the same header stand before it.
pub(super) fn read(message: Message<'_>, line: &HeaderLine<'_>, place: usize) -> Reading {
    let value = line.value;
    let start = line.value_span.start;
    let plain = |read: Option<String>| one(start, read.map(|text| vec![text]));
    if place > 0 && stands_once(line.header) {
        return Reading {
            texts: Vec::new(),
            fault: Some(Cause::new(line.line_span.start, "this header stands once")),
        };
    }
    match line.header {
        Header::Via => list(message, value, via),
        Header::From | Header::To if place == 0 => {
            let read = message.single_name_addr(line.header);
            of_name_addr(read.ok().map(|address| name_addr(&address)), value, start)
        }
        Header::Contact if message.contact_is_star() => Reading {
            texts: vec!["all registrations".to_owned()],
            fault: None,
        },
        Header::Contact => list(message, value, contact),
        Header::Route | Header::RecordRoute | Header::Path => list(message, value, |value| route(value, line.header)),
        Header::Diversion | Header::HistoryInfo => list(message, value, any_name_addr),
        Header::PAssertedIdentity | Header::PPreferredIdentity => {
            let mut reading = list(message, value, any_name_addr);
            if reading.fault.is_none() && place == 0 && message.identities(line.header).is_err() {
                let why = "one sip: or sips: URI and one tel: URI may stand here";
                reading.fault = Some(Cause::new(start, why));
            }
            reading
        }
        Header::ReferTo => of_name_addr(message.refer_to().ok().map(|value| refer_to(&value)), value, start),
        Header::ReferredBy => of_name_addr(ReferredBy::parse(value).map(|read| referred_by(&read)), value, start),
        Header::CallId if place == 0 => Reading {
            texts: Vec::new(),
            fault: message
                .call_id()
                .err()
                .map(|_| Cause::new(start, "a Call-ID is one word")),
        },
        Header::CSeq if place == 0 => match message.cseq() {
            Ok(cseq) => plain(Some(format!("number {}, method {}", cseq.number, show(cseq.token)))),
            Err(_) => plain(None),
        },
        Header::MaxForwards if place == 0 => match message.max_forwards() {
            Ok(_) => Reading::default(),
            Err(_) => Reading {
                texts: Vec::new(),
                fault: Some(Cause::new(start, "not a number from 0 to 255")),
            },
        },
        Header::ContentLength => match scan::number(value) {
            Ok((b"", 0..=0xffff)) => Reading::default(),
            _ => plain(None),
        },
        Header::Event if place == 0 => plain(Event::parse(value).map(|event| {
            let id = event.id.map_or_else(String::new, |id| format!(", id {}", show(id)));
            format!("package {}{id}", show(event.package))
        })),
        Header::SubscriptionState if place == 0 => {
            plain(SubscriptionState::parse(value).map(|state| subscription_state(&state)))
        }
        Header::RAck if place == 0 => plain(
            message
                .rack()
                .ok()
                .flatten()
                .map(|rack| format!("acknowledges RSeq {} of {} {}", rack.rseq, rack.cseq, show(rack.token))),
        ),
        Header::ReferSub => plain(message.refer_sub().ok().flatten().map(|read| {
            let meaning = if read.subscribes { "with" } else { "without" };
            format!("{meaning} a subscription to the outcome")
        })),
        Header::Replaces => plain(Replaces::parse(value).map(|read| replaces(&read))),
        Header::TargetDialog => plain(TargetDialog::parse(value).map(|read| {
            let (local, remote) = (show(read.local_tag), show(read.remote_tag));
            format!("Call-ID {}, local tag {local}, remote tag {remote}", show(read.call_id))
        })),
        Header::SessionExpires => plain(message.session_expires().ok().flatten().map(|read| {
            let who = match read.refresher {
                Some(Refresher::Uac) => "who sent the request refreshes",
                Some(Refresher::Uas) => "who answers refreshes",
                None => "who refreshes is left open",
            };
            format!("{} seconds, {who}", read.seconds)
        })),
        Header::MinSe => plain(message.min_se().ok().flatten().map(|read| format!("{read} seconds"))),
        Header::Expires => plain(message.expires().ok().flatten().map(|read| format!("{read} seconds"))),
        Header::MinExpires => plain(
            message
                .min_expires()
                .ok()
                .flatten()
                .map(|read| format!("{read} seconds")),
        ),
        Header::RetryAfter => plain(
            message
                .retry_after()
                .ok()
                .flatten()
                .map(|read| format!("{} seconds", read.seconds)),
        ),
        Header::Date => silent(start, message.date().is_ok()),
        Header::Timestamp => silent(start, message.timestamp().is_ok()),
        Header::RSeq => silent(start, message.rseq().is_ok()),
        Header::MaxBreadth => silent(start, message.max_breadth().is_ok()),
        Header::ContentType => silent(start, message.content_type().is_ok()),
        Header::ContentDisposition => silent(start, ContentDisposition::parse(value).is_some()),
        Header::Privacy => silent(start, Privacy::parse(value).is_some()),
        Header::WwwAuthenticate | Header::ProxyAuthenticate => {
            plain(Challenge::parse(value).map(|read| challenge(&read)))
        }
        Header::Authorization | Header::ProxyAuthorization => {
            plain(Credentials::parse(value).map(|read| credentials(&read)))
        }
        Header::UserToUser => list(message, value, |value| {
            let read = UserToUser::parse(value);
            read.map(|read| user_to_user(&read))
                .ok_or(Cause::new(0, NOT_ITS_GRAMMAR))
        }),
        Header::Reason => list(message, value, |value| {
            Reason::parse(value)
                .map(|read| reason(&read))
                .ok_or(Cause::new(0, NOT_ITS_GRAMMAR))
        }),
        Header::Warning => list(message, value, |value| {
            let read = Warning::parse(value).ok_or(Cause::new(0, NOT_ITS_GRAMMAR))?;
            Ok(format!(
                "{} from {}: {}",
                read.code,
                show(read.agent),
                show(&read.text.decoded())
            ))
        }),
        Header::Allow
        | Header::AllowEvents
        | Header::ContentEncoding
        | Header::ProxyRequire
        | Header::Require
        | Header::Supported
        | Header::Unsupported => {
            // RFC 3261 §25.1: of these the list may be empty.
            if value.is_empty() && matches!(line.header, Header::Allow | Header::Supported) {
                return Reading::default();
            }
            silent_list(message, value, |value| match value {
                b"" => Some("an element of the list is empty"),
                value => (!scan::is_token(value)).then_some("an element of the list is not a token"),
            })
        }
        Header::Accept if value.is_empty() => Reading::default(),
        Header::Accept => silent_list(message, value, |value| {
            MediaType::parse(value).is_none().then_some("not a media type")
        }),
        Header::Other if line.name.eq_ignore_ascii_case(b"Authentication-Info") => {
            let is_single = message.lines_named("Authentication-Info").count() == 1;
            silent(start, is_single && AuthenticationInfo::parse(value).is_some())
        }
        // Text for people, or nothing that is read here; and repeats of what may not be repeated.
        _ => Reading::default(),
    }
}

/// Fields that are no list: a second line of them is malformed (RFC 3261 §7.3.1).
fn stands_once(header: Header) -> bool {
    matches!(
        header,
        Header::ContentDisposition
            | Header::ContentType
            | Header::Date
            | Header::Expires
            | Header::MaxBreadth
            | Header::MinExpires
            | Header::MinSe
            | Header::RSeq
            | Header::ReferSub
            | Header::ReferTo
            | Header::ReferredBy
            | Header::Replaces
            | Header::RetryAfter
            | Header::SessionExpires
            | Header::TargetDialog
            | Header::Timestamp
    )
}

fn one(start: usize, read: Option<Vec<String>>) -> Reading {
    Reading {
        fault: read.is_none().then(|| Cause::new(start, NOT_ITS_GRAMMAR)),
        texts: read.unwrap_or_default(),
    }
}

fn silent(start: usize, is_good: bool) -> Reading {
    one(start, is_good.then(Vec::new))
}

fn of_name_addr(read: Option<Vec<String>>, value: &[u8], start: usize) -> Reading {
    Reading {
        fault: read.is_none().then(|| cause::name_addr(value, false).from(start)),
        texts: read.unwrap_or_default(),
    }
}

/// The values of a comma list, up to the first that is malformed.
fn list<'a>(message: Message<'_>, value: &'a [u8], read: impl Fn(&'a [u8]) -> Result<String, Cause>) -> Reading {
    let mut reading = Reading::default();
    let mut rest = Some(value);
    while let Some(values) = rest {
        let (one, after) = split_list(values);
        match read(one) {
            Ok(text) => reading.texts.push(text),
            Err(cause) => {
                // A value that is empty has no place of its own.
                let at = match one {
                    [] => scan::span_in(message.bytes(), values).start,
                    one => scan::span_in(message.bytes(), one).start,
                };
                reading.fault = Some(cause.from(at));
                return reading;
            }
        }
        rest = after;
    }
    reading
}

fn silent_list<'a>(message: Message<'_>, value: &'a [u8], judge: impl Fn(&'a [u8]) -> Option<&'static str>) -> Reading {
    let reading = list(message, value, |one| match judge(one) {
        None => Ok(String::new()),
        Some(why) => Err(Cause::new(0, why)),
    });
    Reading {
        texts: Vec::new(),
        ..reading
    }
}

fn via(value: &[u8]) -> Result<String, Cause> {
    let Ok((b"", via)) = field::via(value, value) else {
        return Err(cause::via(value));
    };
    let mut text = format!("over {}, sent by {}", show(via.transport), flat(via.sent_by));
    match via.branch {
        Some(branch) if branch.starts_with(b"z9hG4bK") => text += &format!(", branch {}", show(branch)),
        Some(branch) => text += &format!(", branch {} (of RFC 2543: no magic cookie)", show(branch)),
        None => text += ", without branch (RFC 2543)",
    }
    if let Some(received) = via.received {
        text += &format!(", received from {}", show(received));
    }
    match via.rport {
        Some(Some(port)) => text += &format!(", from port {port}"),
        Some(None) => text += ", asks for rport",
        None => {}
    }
    if let Some(maddr) = via.maddr_host() {
        text += &format!(", maddr {}", host(maddr));
    }
    Ok(text)
}

/// Where a response goes that has this Via next (RFC 3261 §18.2.2, RFC 3581 §4).
pub(super) fn response_target(via: &Via<'_>) -> String {
    let address = match (via.maddr_host(), via.received) {
        (Some(maddr), _) => host(maddr),
        (None, Some(received)) => show(received),
        (None, None) => host(via.host),
    };
    match via.rport.flatten().or(via.port) {
        Some(port) => format!("{address} port {port}"),
        None => address,
    }
}

fn any_name_addr(value: &[u8]) -> Result<String, Cause> {
    let read = NameAddr::parse(value).map_err(|_| cause::name_addr(value, false))?;
    Ok(name_addr(&read).join(", "))
}

fn route(value: &[u8], header: Header) -> Result<String, Cause> {
    let read = NameAddr::parse(value).map_err(|_| cause::name_addr(value, true))?;
    if !read.bracketed {
        return Err(cause::name_addr(value, true));
    }
    let parsed = Uri::parse(read.uri);
    if header == Header::Route && !parsed.as_ref().is_ok_and(|uri| !super::uri::has_repeated_param(uri)) {
        let at = scan::span_in(value, read.uri).start;
        return Err(cause::uri(read.uri, false).from(at));
    }
    let is_strict = parsed.is_ok_and(|uri| uri.param("lr").is_none());
    let strict = if is_strict {
        ", without lr: a strict router (RFC 2543)"
    } else {
        ""
    };
    Ok(name_addr(&read).join(", ") + strict)
}

fn contact(value: &[u8]) -> Result<String, Cause> {
    let read = NameAddr::parse(value).map_err(|_| match value {
        b"*" => Cause::new(0, "`*` stands alone, and in REGISTER only"),
        value => cause::name_addr(value, false),
    })?;
    let mut text = name_addr(&read).join(", ");
    let contact = Contact::from_address(read).ok_or(Cause::new(0, "q or expires is malformed or stands twice"))?;
    if let Some(q) = contact.q {
        text += &format!(", q {}.{:03}", q / 1000, q % 1000);
    }
    if let Some(expires) = contact.expires {
        text += &format!(", for {expires} seconds");
    }
    Ok(text)
}

/// Display name, URI and tag.
fn name_addr(read: &NameAddr<'_>) -> Vec<String> {
    let mut text = String::new();
    if !read.display.is_empty() {
        text += &format!("\"{}\", ", flat(&Text::new(read.display).decoded()));
    }
    text += &match Uri::parse(read.uri) {
        Ok(read) => uri(&read),
        Err(_) => format!("{}, no URI that can be read", show(read.uri)),
    };
    if let Some(tag) = read.tag {
        text += &format!(", tag {}", show(tag));
    }
    vec![text]
}

fn refer_to(read: &NameAddr<'_>) -> Vec<String> {
    let mut texts = name_addr(read);
    let Ok(target) = Uri::parse(read.uri) else { return texts };
    for (name, value) in target.headers() {
        let name: Vec<u8> = Unescaped(name).collect();
        let value: Vec<u8> = Unescaped(value.unwrap_or_default()).collect();
        let read = if name.eq_ignore_ascii_case(b"Replaces") {
            let read = Replaces::parse(&value).map(|read| replaces(&read));
            read.unwrap_or_else(|| format!("{}: malformed (RFC 3891 §6.1)", flat(&value)))
        } else if name.eq_ignore_ascii_case(b"User-to-User") {
            let read = UserToUser::parse(&value).map(|read| user_to_user(&read));
            read.unwrap_or_else(|| format!("{}: malformed (RFC 7433 §4.1)", flat(&value)))
        } else {
            flat(&value)
        };
        texts.push(format!("the INVITE gets {}: {read}", show(&name)));
    }
    texts
}

fn referred_by(read: &ReferredBy<'_>) -> Vec<String> {
    let mut texts = name_addr(&read.referrer);
    if let Some(cid) = read.cid {
        texts.push(format!(
            "proved by the body part {} (RFC 3892 §4)",
            show(&cid.decoded())
        ));
    }
    texts
}

fn replaces(read: &Replaces<'_>) -> String {
    let (to, from) = (show(read.to_tag), show(read.from_tag));
    let early = if read.early_only { ", only while it rings" } else { "" };
    format!(
        "the dialog with Call-ID {}, to-tag {to}, from-tag {from}{early}",
        show(read.call_id)
    )
}

fn user_to_user(read: &UserToUser<'_>) -> String {
    let mut text = format!("data {}", show(&read.data.decoded()));
    for (name, value) in [
        ("purpose", read.purpose),
        ("content", read.content),
        ("encoding", read.encoding),
    ] {
        if let Some(value) = value {
            text += &format!(", {name} {}", show(value));
        }
    }
    text
}

fn subscription_state(read: &SubscriptionState<'_>) -> String {
    let mut text = format!("state {}", show(read.state));
    if let Some(reason) = read.reason {
        text += &format!(", reason {}", show(reason));
    }
    if let Some(expires) = read.expires {
        text += &format!(", for {expires} seconds");
    }
    if let Some(seconds) = read.retry_after {
        text += &format!(", again after {seconds} seconds");
    }
    text
}

fn reason(read: &Reason<'_>) -> String {
    let mut text = format!("protocol {}", show(read.protocol));
    if let Some(cause) = read.cause {
        text += &format!(", cause {cause}");
    }
    if let Some(said) = read.text {
        text += &format!(", \"{}\"", show(&said.decoded()));
    }
    text
}

fn algorithm(read: Algorithm<'_>) -> String {
    match read {
        Algorithm::Md5 => "MD5".to_owned(),
        Algorithm::Md5Sess => "MD5-sess".to_owned(),
        Algorithm::Sha256 => "SHA-256".to_owned(),
        Algorithm::Sha256Sess => "SHA-256-sess".to_owned(),
        Algorithm::Sha512_256 => "SHA-512-256".to_owned(),
        Algorithm::Sha512_256Sess => "SHA-512-256-sess".to_owned(),
        Algorithm::Other(name) => show(&name.decoded()),
    }
}

fn challenge(read: &Challenge<'_>) -> String {
    match read {
        Challenge::Digest(digest) => {
            let qop = digest.qop.map_or_else(|| "none".to_owned(), |qop| show(&qop.decoded()));
            let stale = if digest.stale {
                ", stale: the same password with this nonce"
            } else {
                ""
            };
            format!(
                "Digest, realm {}, algorithm {}, qop {qop}{stale}",
                show(&digest.realm.decoded()),
                algorithm(digest.algorithm)
            )
        }
        Challenge::Other(other) => format!("scheme {}, not read further", show(other.scheme)),
    }
}

fn credentials(read: &Credentials<'_>) -> String {
    match read {
        Credentials::Digest(digest) => {
            let name = digest.username.or(digest.username_encoded);
            format!(
                "Digest, user {}, realm {}, for {}, algorithm {}",
                name.map_or_else(String::new, |name| show(&name.decoded())),
                show(&digest.realm.decoded()),
                show(&digest.uri.decoded()),
                algorithm(digest.algorithm)
            )
        }
        Credentials::Other(other) => format!("scheme {}, not read further", show(other.scheme)),
    }
}

/// Type, subtype and parameters.
pub(super) fn media_type(read: &MediaType<'_>) -> String {
    format!(
        "{}/{}{}",
        show(read.kind),
        show(read.subtype),
        flat(read.params.as_received())
    )
}

fn host(read: Host<'_>) -> String {
    match read {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => show(name),
    }
}

/// The parts of a URI.
pub(super) fn uri(read: &Uri<'_>) -> String {
    let user = |user: &[u8]| {
        let decoded: Vec<u8> = Unescaped(user).collect();
        match decoded == user {
            true => show(user),
            false => format!("{} (that is {})", show(user), show(&decoded)),
        }
    };
    let mut text = match read.scheme {
        Scheme::Sip | Scheme::Sips => {
            let scheme = if read.scheme == Scheme::Sip { "sip" } else { "sips" };
            let user = read
                .user
                .map_or_else(String::new, |name| format!(", user {}", user(name)));
            let port = read.port.map_or_else(String::new, |port| format!(", port {port}"));
            format!("{scheme}{user}, host {}{port}", host(read.host))
        }
        Scheme::Tel => format!("tel, number {}", show(read.user.unwrap_or_default())),
        Scheme::Other(scheme) => {
            return format!("scheme {}, {}", show(scheme), show(read.user.unwrap_or_default()));
        }
    };
    for (name, value) in read.params() {
        text += &match value {
            Some(value) => format!(", {}={}", show(name), show(value)),
            None => format!(", {}", show(name)),
        };
    }
    if !read.headers.is_empty() {
        let count = read.headers().count();
        text += &format!(", {count} header{}", if count == 1 { "" } else { "s" });
    }
    text
}

/// One medium of a session.
pub(super) fn session_medium(session: &Description<'_>, media: &Media<'_>) -> String {
    let address = media
        .address
        .or(session.address)
        .map_or_else(String::new, |address| format!(" at {}", show(address)));
    let encodings: Vec<String> = media
        .encodings()
        .map(|encoding| {
            format!(
                "{} {}/{}",
                encoding.payload_type,
                show(encoding.name),
                encoding.clock_rate
            )
        })
        .collect();
    let formats = if encodings.is_empty() {
        show(media.formats)
    } else {
        encodings.join(", ")
    };
    let direction = match session.direction(media) {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    };
    let port = match media.port {
        0 => "refused or ended (port 0)".to_owned(),
        port => format!("port {port}"),
    };
    format!(
        "{} {port}{address}, {}, {direction}: {formats}",
        show(media.kind),
        show(media.protocol)
    )
}
