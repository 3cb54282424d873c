//! What a forwarding proxy reads of a message, and what it changes; shared by the benchmark, the instruction count and the
//! allocation test.

use std::hint::black_box;

use referee::message::edit::{Editor, ViaStamp, decimal};
use referee::message::{FieldError, Header, Message, Uri};

/// Reads the values a proxy routes, matches and reports by. Each goes to a black box as it is read: with nobody to use
/// it the compiler would leave the reading out.
pub fn proxy_view(message: Message<'_>) -> Result<(), FieldError> {
    black_box(message.start_line());
    let via = message.top_via()?;
    black_box((via.branch, via.sent_by, via.rport));
    black_box((message.value_count(Header::Via), message.max_forwards()?));
    black_box((message.from_tag(), message.to_tag()));
    black_box((message.call_id()?, message.cseq()?.number));
    let mut contacts = 0;
    for contact in message.name_addrs(Header::Contact) {
        let contact = contact?;
        if contacts == 0 {
            black_box(Uri::parse(contact.uri).ok().map(|uri| uri.host));
        }
        contacts += 1;
    }
    black_box(contacts);
    for header in [Header::Route, Header::RecordRoute] {
        let mut routes = 0;
        for route in message.name_addrs(header) {
            route?;
            routes += 1;
        }
        black_box(routes);
    }
    black_box(message.body().len());
    if message.value(Header::ReferTo).is_some() {
        let refer_to = message.single_name_addr(Header::ReferTo)?;
        black_box(Uri::parse(refer_to.uri).ok().map(|uri| uri.host));
    }
    black_box(message.event()?.and_then(|event| event.id_number()));
    black_box(message.subscription_state()?.map(|state| state.terminated));
    Ok(())
}

/// Writes the message as a proxy relays it into `out`: a request with a Via and a Record-Route on top, where it came from in
/// the Via below, Max-Forwards one less and the first Route gone; a response without its top Via (RFC 3261 §16.6, §16.7).
pub fn relay(message: Message<'_>, editor: &mut Editor, out: &mut Vec<u8>) -> Result<(), FieldError> {
    editor.clear();
    out.clear();
    if message.is_request() {
        let top = message.headers_start();
        editor.insert(
            top,
            &[
                b"Via: SIP/2.0/UDP ",
                b"203.0.113.5:5060",
                b";branch=",
                b"z9hG4bK7c0001f2a3b4c5d6",
                b";rport\r\n",
            ],
        );
        editor.insert(
            top,
            &[b"Record-Route: ", b"<sip:203.0.113.5:5060;lr;r=7c0001f2a3b4>", b"\r\n"],
        );
        let via = message.top_via()?;
        ViaStamp::of(&via, ([198, 51, 100, 20], 5060).into()).apply(&via, editor);
        if let (Some(span), Some(hops)) = (message.value_span(Header::MaxForwards), message.max_forwards()?) {
            editor.replace(span, &[decimal(hops.saturating_sub(1).into()).as_bytes()]);
        }
        editor.remove_first_values(message, Header::Route, 1);
    } else {
        editor.remove_first_values(message, Header::Via, 1);
    }
    editor.write(message, out);
    Ok(())
}
