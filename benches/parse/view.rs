//! What a forwarding proxy reads of a message, and the messages to read; shared by the bench, the instruction count and
//! the allocation test.

use std::hint::black_box;

use referee::message::{FieldError, Header, Message, Uri};

/// Messages of a call as a carrier's border controller and a voice platform send them.
pub const MESSAGES: [(&str, &[u8]); 7] = [
    ("invite", include_bytes!("../messages/invite.sip")),
    ("200", include_bytes!("../messages/200.sip")),
    ("refer", include_bytes!("../messages/refer.sip")),
    ("notify", include_bytes!("../messages/notify.sip")),
    ("ack", include_bytes!("../messages/ack.sip")),
    ("bye", include_bytes!("../messages/bye.sip")),
    ("options", include_bytes!("../messages/options.sip")),
];

/// Reads the values a proxy routes, matches and reports by. Each goes to a black box as it is read: with nobody to use
/// it the compiler would leave the reading out.
pub fn proxy_view(message: Message<'_>) -> Result<(), FieldError> {
    black_box(message.start_line());
    let via = message.top_via()?;
    black_box((via.branch, via.sent_by, via.rport));
    black_box((message.value_count(Header::Via), message.max_forwards()?));
    black_box((message.from()?.tag, message.to()?.tag));
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
