//! ezk-sip-types: a counted reference for each name and value, typed when asked. The function that takes a datagram is
//! private in ezk-sip-core; [`split`] is the same calls.

use bytes::Bytes;
use ezk_sip_types::header::typed::SubStateValue;
use ezk_sip_types::header::typed::{
    CSeq, CallID, Contact, ContentLength, Event, FromTo, MaxForwards, ReferTo, Routing, SubscriptionState, Via,
};
use ezk_sip_types::host::Host;
use ezk_sip_types::msg::{Line, MessageLine, PullParser};
use ezk_sip_types::parse::Parse;
use ezk_sip_types::{Headers, Name};

use super::Refused;
use crate::field::{Field, Sink, Value};

/// Finds all header lines.
pub fn split(bytes: &[u8]) -> Result<(MessageLine, Headers, Bytes), Refused> {
    let buffer = Bytes::copy_from_slice(bytes);
    let mut parser = PullParser::new(&buffer, 0);
    let mut start = None;
    let mut headers = Headers::new();
    for line in &mut parser {
        let line = std::str::from_utf8(line.map_err(|_| Refused)?).map_err(|_| Refused)?;
        match start {
            None => start = Some(MessageLine::parse(&buffer)(line).map_err(|_| Refused)?.1),
            Some(_) => {
                let (_, line) = Line::parse(&buffer, line).map_err(|_| Refused)?;
                headers.insert(line.name, line.value);
            }
        }
    }
    let head_end = parser.head_end();
    let body = match headers.get_named::<ContentLength>() {
        Ok(ContentLength(0)) => Bytes::new(),
        Ok(ContentLength(length)) if buffer.len() >= head_end + length => buffer.slice(head_end..head_end + length),
        Ok(_) => return Err(Refused),
        Err(_) => buffer.slice(head_end..),
    };
    Ok((start.ok_or(Refused)?, headers, body))
}

/// Reads all fields.
pub fn full(bytes: &[u8], sink: &mut impl Sink) -> Result<(), Refused> {
    let (start, headers, body) = split(bytes)?;
    match &start {
        MessageLine::Request(line) => sink.see(Field::Start, Value::Shown(&line.method)),
        MessageLine::Response(line) => sink.see(Field::Start, Value::Number(line.code.into_u16().into())),
    }
    sink.see(Field::Body, body.len().into());
    let vias: Vec<Via> = headers.get_named().map_err(|_| Refused)?;
    sink.see(Field::Vias, vias.len().into());
    let top = vias.first().ok_or(Refused)?;
    sink.see(
        Field::Branch,
        top.params.get_val("branch").map(|branch| branch.as_str()).into(),
    );
    sink.see(Field::SentBy, Value::Shown(&SentBy(top)));
    sink.see(
        Field::Rport,
        match top.params.get("rport") {
            None => Value::Absent,
            Some(rport) => Value::Text(rport.value.as_ref().map_or(b"", |port| port.as_str().as_bytes())),
        },
    );
    let max_forwards = headers
        .try_get_named::<MaxForwards>()
        .transpose()
        .map_err(|_| Refused)?;
    sink.see(
        Field::MaxForwards,
        max_forwards.map(|header| u32::from(header.0)).into(),
    );
    let from: FromTo = headers.get(Name::FROM).map_err(|_| Refused)?;
    sink.see(Field::FromTag, from.tag.as_ref().map(|tag| tag.as_str()).into());
    let to: FromTo = headers.get(Name::TO).map_err(|_| Refused)?;
    sink.see(Field::ToTag, to.tag.as_ref().map(|tag| tag.as_str()).into());
    let call_id: CallID = headers.get_named().map_err(|_| Refused)?;
    sink.see(Field::CallId, Value::Text(call_id.0.as_str().as_bytes()));
    let cseq: CSeq = headers.get_named().map_err(|_| Refused)?;
    sink.see(Field::CSeq, Value::Number(cseq.cseq.into()));
    let contacts: Vec<Contact> = list(&headers, Name::CONTACT)?;
    sink.see(Field::Contacts, contacts.len().into());
    host(
        Field::ContactHost,
        contacts.first().map(|contact| &contact.uri.uri.host_port.host),
        sink,
    );
    let routes: Vec<Routing> = list(&headers, Name::ROUTE)?;
    sink.see(Field::Routes, routes.len().into());
    let routes: Vec<Routing> = list(&headers, Name::RECORD_ROUTE)?;
    sink.see(Field::RecordRoutes, routes.len().into());
    let refer_to = headers.try_get_named::<ReferTo>().transpose().map_err(|_| Refused)?;
    host(
        Field::ReferToHost,
        refer_to.as_ref().map(|refer_to| &refer_to.uri.uri.host_port.host),
        sink,
    );
    // Event is read as one text, parameters included: the id is not among what it offers.
    let event = headers.try_get_named::<Event>().transpose().map_err(|_| Refused)?;
    std::hint::black_box(event);
    let state = headers
        .try_get_named::<SubscriptionState>()
        .transpose()
        .map_err(|_| Refused)?;
    sink.see(
        Field::Terminated,
        state
            .map(|state| u32::from(state.state == SubStateValue::Terminated))
            .into(),
    );
    Ok(())
}

fn list<H: ezk_sip_types::header::HeaderParse>(headers: &Headers, name: Name) -> Result<Vec<H>, Refused> {
    let values = headers.try_get::<Vec<H>>(name).transpose().map_err(|_| Refused)?;
    Ok(values.unwrap_or_default())
}

fn host(field: Field, host: Option<&Host>, sink: &mut impl Sink) {
    match host {
        Some(host) => sink.see(field, Value::Shown(host)),
        None => sink.see(field, Value::Absent),
    }
}

struct SentBy<'a>(&'a Via);

impl std::fmt::Display for SentBy<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.sent_by.host)?;
        self.0.sent_by.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}
