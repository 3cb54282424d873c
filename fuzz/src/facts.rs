//! What both parsers are asked, and how each of them answers.

use bytes::Bytes;
use ezk_sip_types::header::HeaderParse;
use ezk_sip_types::header::typed::{CSeq, CallID, ContentLength, FromTo, Via};
use ezk_sip_types::host::{Host as EzkHost, HostPort};
use ezk_sip_types::msg::{Line, MessageLine, PullParser};
use ezk_sip_types::parse::Parse;
use ezk_sip_types::uri::{SipUri, SipUriUserPart};
use ezk_sip_types::{Method, Name};
use referee::message::uri::Scheme;
use referee::message::{Header, Host, Index, Message, NameAddr, ParseErrorKind, StartLine, Uri, check, parse};

/// One thing that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Lines,
    StartLine,
    RequestUri,
    Via,
    From,
    To,
    CallId,
    CSeq,
    Body,
}

/// What a message says, in words that both parsers have.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    /// The method or the status code.
    pub start: String,
    /// Scheme, user, host and port; empty for a response.
    pub request_uri: String,
    pub via_count: usize,
    pub from_uri: String,
    pub from_tag: Option<String>,
    pub to_uri: String,
    pub to_tag: Option<String>,
    pub call_id: String,
    pub cseq: String,
    pub body_length: usize,
}

impl Facts {
    /// The first field in which two readings differ.
    pub fn difference(&self, other: &Facts) -> Option<Field> {
        let fields = [
            (Field::StartLine, self.start == other.start),
            (Field::RequestUri, self.request_uri == other.request_uri),
            (Field::Via, self.via_count == other.via_count),
            (
                Field::From,
                (&self.from_uri, &self.from_tag) == (&other.from_uri, &other.from_tag),
            ),
            (
                Field::To,
                (&self.to_uri, &self.to_tag) == (&other.to_uri, &other.to_tag),
            ),
            (Field::CallId, self.call_id == other.call_id),
            (Field::CSeq, self.cseq == other.cseq),
            (Field::Body, self.body_length == other.body_length),
        ];
        fields.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
    }
}

/// As referee reads it: refused if it would not relay it.
pub fn ours(bytes: &[u8]) -> Result<Facts, ParseErrorKind> {
    let mut index = Index::new();
    parse(bytes, &mut index).map_err(|error| error.kind)?;
    let message = Message::new(bytes, &index);
    check(message)?;
    let malformed = |header| move |_| ParseErrorKind::Malformed(header);
    // Of a response a proxy checks the top Via only.
    let from = message.from().map_err(malformed(Header::From))?;
    let to = message.to().map_err(malformed(Header::To))?;
    let cseq = message.cseq().map_err(malformed(Header::CSeq))?;
    let mut via_count = 0;
    for via in message.vias() {
        via.map_err(malformed(Header::Via))?;
        via_count += 1;
    }
    let (start, request_uri) = match message.start_line() {
        StartLine::Request { token, uri, .. } => (text(token), our_uri(uri)),
        StartLine::Response { code, .. } => (code.to_string(), String::new()),
    };
    let tag = |value: &NameAddr<'_>| value.tag.map(text);
    Ok(Facts {
        start,
        request_uri,
        via_count,
        from_uri: our_uri(from.uri),
        from_tag: tag(&from),
        to_uri: our_uri(to.uri),
        to_tag: tag(&to),
        call_id: text(message.call_id().map_err(malformed(Header::CallId))?),
        cseq: format!("{} {}", cseq.number, text(cseq.token)),
        body_length: message.body().len(),
    })
}

fn our_uri(bytes: &[u8]) -> String {
    let Ok(uri) = Uri::parse(bytes) else {
        return format!("no URI: {}", text(bytes));
    };
    let scheme = match uri.scheme {
        Scheme::Sip => "sip",
        Scheme::Sips => "sips",
        Scheme::Tel | Scheme::Other(_) => "another scheme",
    };
    // The user part with its password, as it stands.
    let user = uri.user.map(text).unwrap_or_default();
    let host = match uri.host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => text(name),
    };
    format!("{scheme} {user} {host} {:?}", uri.port)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As ezk-sip-types reads it, each value to its end. The function that takes a datagram is private in ezk-sip-core; what
/// it calls is called here.
pub fn theirs(bytes: &[u8]) -> Result<Facts, Field> {
    let source = Bytes::copy_from_slice(bytes);
    let mut parser = PullParser::new(&source, 0);
    let mut lines = Vec::new();
    for line in &mut parser {
        let line = line.map_err(|_| Field::Lines)?;
        lines.push(std::str::from_utf8(line).map_err(|_| Field::Lines)?);
    }
    let (first, headers) = lines.split_first().ok_or(Field::Lines)?;
    let (rest, start) = MessageLine::parse(&source)(first).map_err(|_| Field::StartLine)?;
    if !rest.is_empty() {
        return Err(Field::StartLine);
    }
    let headers: Vec<(Name, &str)> = headers
        .iter()
        .map(|line| {
            let (_, read) = Line::parse(&source, line).map_err(|_| Field::Lines)?;
            let value = line.split_once(':').map_or("", |(_, value)| value.trim());
            Ok((read.name, value))
        })
        .collect::<Result<_, _>>()?;
    let values_of = |name: Name| {
        headers
            .iter()
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| *value)
    };
    let value_of = |name: Name, field| values_of(name).next().ok_or(field);

    let mut via_count = 0;
    for line in values_of(Name::VIA) {
        let mut rest = line;
        loop {
            let (after, _) = Via::parse(&source, rest).map_err(|_| Field::Via)?;
            via_count += 1;
            let after = after.trim_start();
            match after.strip_prefix(',') {
                Some(next) => rest = next.trim_start(),
                None if after.is_empty() => break,
                None => return Err(Field::Via),
            }
        }
    }
    if via_count == 0 {
        return Err(Field::Via);
    }
    let from: FromTo = whole(&source, value_of(Name::FROM, Field::From)?, Field::From)?;
    let to: FromTo = whole(&source, value_of(Name::TO, Field::To)?, Field::To)?;
    let call_id: CallID = whole(&source, value_of(Name::CALL_ID, Field::CallId)?, Field::CallId)?;
    let cseq: CSeq = whole(&source, value_of(Name::CSEQ, Field::CSeq)?, Field::CSeq)?;
    let rest = bytes.len() - parser.head_end();
    let body_length = match values_of(Name::CONTENT_LENGTH).next() {
        None => rest,
        Some(value) => whole::<ContentLength>(&source, value, Field::Body)?.0,
    };
    if body_length > rest {
        return Err(Field::Body);
    }
    let (start, request_uri) = match &start {
        MessageLine::Request(line) => (shown(&line.method), their_uri(&line.uri)),
        MessageLine::Response(line) => (line.code.into_u16().to_string(), String::new()),
    };
    let tag = |value: &FromTo| value.tag.as_ref().map(|tag| tag.as_str().to_owned());
    Ok(Facts {
        start,
        request_uri,
        via_count,
        from_uri: their_uri(&from.uri.uri),
        from_tag: tag(&from),
        to_uri: their_uri(&to.uri.uri),
        to_tag: tag(&to),
        call_id: call_id.0.as_str().to_owned(),
        cseq: format!("{} {}", cseq.cseq, shown(&cseq.method)),
        body_length,
    })
}

fn whole<H: HeaderParse>(source: &Bytes, value: &str, field: Field) -> Result<H, Field> {
    // What is cut out must be a part of the source.
    match H::parse(source, value) {
        Ok((rest, read)) if rest.trim().is_empty() => Ok(read),
        _ => Err(field),
    }
}

fn shown(method: &Method) -> String {
    method.to_string()
}

fn their_uri(uri: &SipUri) -> String {
    let scheme = if uri.sips { "sips" } else { "sip" };
    let user = match &uri.user_part {
        SipUriUserPart::Empty => String::new(),
        SipUriUserPart::User(user) => user.as_str().to_owned(),
        SipUriUserPart::UserPw(both) => format!("{}:{}", both.user, both.password),
    };
    let HostPort { host, port } = &uri.host_port;
    let host = match host {
        EzkHost::IP4(address) => address.to_string(),
        EzkHost::IP6(address) => address.to_string(),
        EzkHost::Name(name) => name.as_str().to_owned(),
    };
    format!("{scheme} {user} {host} {port:?}")
}
