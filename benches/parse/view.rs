//! What a forwarding proxy reads of a message, and the messages to read; shared by the bench, the instruction count and
//! the allocation test.

use referee::message::{FieldError, Header, Host, Message, StartLine, Uri};

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

/// The values a proxy routes, matches and reports by.
#[derive(Debug, Default)]
pub struct View<'a> {
    pub start: usize,
    pub branch: Option<&'a [u8]>,
    pub sent_by: &'a [u8],
    pub wants_rport: bool,
    pub vias: usize,
    pub hops: Option<u8>,
    pub from_tag: Option<&'a [u8]>,
    pub to_tag: Option<&'a [u8]>,
    pub call_id: &'a [u8],
    pub cseq: u32,
    pub contacts: usize,
    pub contact_host: Option<Host<'a>>,
    pub routes: usize,
    pub record_routes: usize,
    pub body: usize,
    pub refer_to_host: Option<Host<'a>>,
    pub event_id: Option<u32>,
    pub terminated: Option<bool>,
}

/// Reads them all.
pub fn proxy_view(message: Message<'_>) -> Result<View<'_>, FieldError> {
    let start = match message.start_line() {
        StartLine::Request { uri, .. } => uri.len(),
        StartLine::Response { code, .. } => usize::from(code),
    };
    let mut view = View {
        start,
        ..View::default()
    };
    for via in message.vias() {
        let via = via?;
        if view.vias == 0 {
            (view.branch, view.sent_by, view.wants_rport) = (via.branch, via.sent_by, via.rport.is_some());
        }
        view.vias += 1;
    }
    view.hops = message.max_forwards()?;
    view.from_tag = message.from()?.tag;
    view.to_tag = message.to()?.tag;
    view.call_id = message.call_id()?;
    view.cseq = message.cseq()?.number;
    for contact in message.name_addrs(Header::Contact) {
        let contact = contact?;
        if view.contacts == 0 {
            view.contact_host = Uri::parse(contact.uri).ok().map(|uri| uri.host);
        }
        view.contacts += 1;
    }
    for route in message.name_addrs(Header::Route) {
        route?;
        view.routes += 1;
    }
    for route in message.name_addrs(Header::RecordRoute) {
        route?;
        view.record_routes += 1;
    }
    view.body = message.body().len();
    if message.value(Header::ReferTo).is_some() {
        let refer_to = message.single_name_addr(Header::ReferTo)?;
        view.refer_to_host = Uri::parse(refer_to.uri).ok().map(|uri| uri.host);
    }
    view.event_id = message.event()?.and_then(|event| event.id_number());
    view.terminated = message.subscription_state()?.map(|state| state.terminated);
    Ok(view)
}
