//! Ours.

use std::fmt;
use std::net::IpAddr;

use referee::message::{Header, Host, Index, Message, StartLine, Uri, Via, check, parse};

use super::Refused;
use crate::field::{Field, Sink, Value};

/// Finds all header lines.
pub fn split(bytes: &[u8], index: &mut Index) -> Result<(), Refused> {
    parse(bytes, index).map_err(|_| Refused)
}

/// Finds all header lines and checks what a proxy depends on.
pub fn checked(bytes: &[u8], index: &mut Index) -> Result<(), Refused> {
    parse(bytes, index).map_err(|_| Refused)?;
    check(Message::new(bytes, index)).map_err(|_| Refused)
}

/// Reads all fields: what `benches/parse/view.rs` reads.
pub fn full(bytes: &[u8], index: &mut Index, sink: &mut impl Sink) -> Result<(), Refused> {
    parse(bytes, index).map_err(|_| Refused)?;
    let message = Message::new(bytes, index);
    sink.see(
        Field::Start,
        match message.start_line() {
            StartLine::Request { token, .. } => Value::Text(token),
            StartLine::Response { code, .. } => Value::Number(code.into()),
        },
    );
    let via = message.top_via().map_err(|_| Refused)?;
    sink.see(Field::Branch, via.branch.into());
    sink.see(Field::SentBy, Value::Shown(&SentBy(&via)));
    sink.see(
        Field::Rport,
        match via.rport {
            None => Value::Absent,
            Some(None) => Value::Text(b""),
            Some(Some(port)) => Value::Number(port.into()),
        },
    );
    sink.see(Field::Vias, message.value_count(Header::Via).into());
    let max_forwards = message.max_forwards().map_err(|_| Refused)?;
    sink.see(Field::MaxForwards, max_forwards.map(u32::from).into());
    sink.see(Field::FromTag, message.from_tag().into());
    sink.see(Field::ToTag, message.to_tag().into());
    sink.see(Field::CallId, Value::Text(message.call_id().map_err(|_| Refused)?));
    sink.see(
        Field::CSeq,
        Value::Number(message.cseq().map_err(|_| Refused)?.number.into()),
    );
    let mut contacts = 0;
    let mut host = None;
    for contact in message.name_addrs(Header::Contact) {
        let contact = contact.map_err(|_| Refused)?;
        if contacts == 0 {
            host = Uri::parse(contact.uri).ok().map(|uri| uri.host);
        }
        contacts += 1;
    }
    sink.see(Field::Contacts, contacts.into());
    see_host(Field::ContactHost, host, sink);
    for (field, header) in [
        (Field::Routes, Header::Route),
        (Field::RecordRoutes, Header::RecordRoute),
    ] {
        let mut routes = 0;
        for route in message.name_addrs(header) {
            route.map_err(|_| Refused)?;
            routes += 1;
        }
        sink.see(field, routes.into());
    }
    sink.see(Field::Body, message.body().len().into());
    let mut host = None;
    if message.value(Header::ReferTo).is_some() {
        let refer_to = message.single_name_addr(Header::ReferTo).map_err(|_| Refused)?;
        host = Uri::parse(refer_to.uri).ok().map(|uri| uri.host);
    }
    see_host(Field::ReferToHost, host, sink);
    let event = message.event().map_err(|_| Refused)?;
    sink.see(Field::EventId, event.and_then(|event| event.id_number()).into());
    let state = message.subscription_state().map_err(|_| Refused)?;
    sink.see(Field::Terminated, state.map(|state| u32::from(state.terminated)).into());
    Ok(())
}

fn see_host(field: Field, host: Option<Host<'_>>, sink: &mut impl Sink) {
    match host {
        Some(host) => sink.see(field, Value::Shown(&Written(host))),
        None => sink.see(field, Value::Absent),
    }
}

struct Written<'a>(Host<'a>);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Host::Address(address) => address.fmt(f),
            Host::Name(name) => name.escape_ascii().fmt(f),
        }
    }
}

struct SentBy<'a>(&'a Via<'a>);

impl fmt::Display for SentBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            host => Written(host).fmt(f)?,
        }
        self.0.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}
