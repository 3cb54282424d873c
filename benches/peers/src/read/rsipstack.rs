//! rsipstack: a `String` for each name and value, typed when asked.

use rsipstack::sip::event_packages::parse_refer_to;
use rsipstack::sip::parser::parse_message;
use rsipstack::sip::prelude::{HeadersExt, ToTypedHeader};
use rsipstack::sip::{Header, SipMessage, Uri, parse_uri};

use super::Refused;
use crate::field::{Field, Sink, Value};

/// Finds all header lines.
pub fn split(bytes: &[u8]) -> Result<SipMessage, Refused> {
    parse_message(bytes).map_err(|_| Refused)
}

/// Reads all fields.
pub fn full(bytes: &[u8], sink: &mut impl Sink) -> Result<(), Refused> {
    match split(bytes)? {
        SipMessage::Request(request) => {
            sink.see(Field::Start, Value::Shown(&request.method));
            sink.see(Field::Body, request.body.len().into());
            headers(&request, sink)
        }
        SipMessage::Response(response) => {
            sink.see(Field::Start, Value::Number(response.status_code.code().into()));
            sink.see(Field::Body, response.body.len().into());
            headers(&response, sink)
        }
    }
}

fn headers(message: &impl HeadersExt, sink: &mut impl Sink) -> Result<(), Refused> {
    // It has no function that takes a line of several Vias apart, but for the first.
    let vias = message
        .headers()
        .iter()
        .filter(|header| matches!(header, Header::Via(_)));
    sink.see(Field::Vias, vias.count().into());
    let via = message
        .top_via_header()
        .and_then(|via| via.into_typed())
        .map_err(|_| Refused)?;
    sink.see(Field::Branch, via.branch().map(|branch| branch.value()).into());
    sink.see(Field::SentBy, Value::Shown(via.sent_by()));
    sink.see(
        Field::Rport,
        match via.rport() {
            None => Value::Absent,
            Some(None) => Value::Text(b""),
            Some(Some(port)) => Value::Number(port.into()),
        },
    );
    let max_forwards = message.max_forwards_header().ok();
    let max_forwards = max_forwards
        .map(|header| header.value().trim().parse::<u32>().map_err(|_| Refused))
        .transpose()?;
    sink.see(Field::MaxForwards, max_forwards.into());
    let from = message
        .from_header()
        .and_then(|from| from.typed())
        .map_err(|_| Refused)?;
    sink.see(Field::FromTag, from.tag().map(|tag| tag.value()).into());
    let to = message.to_header().and_then(|to| to.typed()).map_err(|_| Refused)?;
    sink.see(Field::ToTag, to.tag().map(|tag| tag.value()).into());
    let call_id = message.call_id_header().map_err(|_| Refused)?;
    sink.see(Field::CallId, Value::Text(call_id.value().as_bytes()));
    let cseq = message
        .cseq_header()
        .and_then(|cseq| cseq.typed())
        .map_err(|_| Refused)?;
    sink.see(Field::CSeq, Value::Number(cseq.seq.into()));
    let contacts = message.typed_contact_headers().map_err(|_| Refused)?;
    sink.see(Field::Contacts, contacts.len().into());
    host(Field::ContactHost, contacts.first().map(|contact| &contact.uri), sink);
    let routes = message.typed_route_headers().map_err(|_| Refused)?;
    sink.see(Field::Routes, routes.len().into());
    let routes = message.typed_record_route_headers().map_err(|_| Refused)?;
    sink.see(Field::RecordRoutes, routes.len().into());
    let refer_to = message
        .refer_to_header()
        .map(|refer_to| parse_refer_to(refer_to.value()));
    let refer_to = refer_to
        .map(|target| parse_uri(&target.uri).map_err(|_| Refused))
        .transpose()?;
    host(Field::ReferToHost, refer_to.as_ref(), sink);
    Ok(())
}

fn host(field: Field, uri: Option<&Uri>, sink: &mut impl Sink) {
    match uri {
        Some(uri) => sink.see(field, Value::Shown(uri.host())),
        None => sink.see(field, Value::Absent),
    }
}
