//! A call set up at bare wires, so that requests and responses of it can come in.

use super::lines::{Lines, split_list};
use super::setting::*;
use referee::sim::wire::{Sent, Wire};

/// What names a dialog and where its callee is.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    pub call_id: &'a str,
    /// The tags.
    pub caller: &'a str,
    pub callee: &'a str,
    pub callee_contact: &'a str,
    /// The CSeq number of the INVITE.
    pub number: u32,
}

impl Names<'_> {
    /// Those of a dialog in which a message of the caller's is in order, whoever wrote it and wherever that one counts from.
    pub fn numbered_as(self, bytes: &[u8]) -> Self {
        let cseq = Lines::read(bytes).one("cseq").unwrap();
        let number = cseq.split_whitespace().next().unwrap().parse().unwrap();
        Names { number, ..self }
    }
}

pub const NAMES: Names<'static> = Names {
    call_id: "dialog@198.51.100.10",
    caller: "carrier-tag",
    callee: "platform-tag",
    callee_contact: "<sip:bot@10.0.0.5:5060>",
    number: 1,
};

/// A call from the carrier that the platform has answered.
#[derive(Debug)]
pub struct Call {
    pub wire: Wire,
    /// The Route values that each side's requests carry.
    pub caller_routes: Vec<String>,
    pub callee_routes: Vec<String>,
}

impl Call {
    pub fn set_up(config: &str, names: &Names<'_>) -> Call {
        let mut wire = Wire::new(config);
        let invite = invite(&[
            ("a84b4c76e66710@pc33.atlanta.example", names.call_id),
            ("1928301774", names.caller),
            ("sip:alice@pc33.atlanta.example", "sip:alice@198.51.100.10:5060"),
            ("314159", &names.number.to_string()),
        ]);
        let sent = deliver(&mut wire, Delivery::Datagram, invite.as_bytes()).sent;
        let heard = sent.last().unwrap().bytes.clone();
        let ok = answer(
            &heard,
            "200 OK",
            names.callee,
            &format!("Contact: {}\r\n", names.callee_contact),
        );
        let sent = wire.datagram(at(PLATFORM), at(PRIVATE), &ok);
        let mut caller_routes = Lines::read(&sent[0].bytes).list("record-route");
        caller_routes.reverse();
        let callee_routes = Lines::read(&heard).list("record-route");
        let route: String = caller_routes
            .iter()
            .map(|route| format!("Route: {route}\r\n"))
            .collect();
        let ack = plain(
            "ACK",
            &[
                (
                    "sip:bob@biloxi.example",
                    super::lines::name_addr(names.callee_contact).1.as_str(),
                ),
                ("776asdhds", "776asdhds-ack"),
                ("314159", &names.number.to_string()),
                ("1928301774", names.caller),
                (
                    "<sip:bob@biloxi.example>\r\n",
                    &format!("<sip:bob@biloxi.example>;tag={}\r\n", names.callee),
                ),
                ("a84b4c76e66710@pc33.atlanta.example", names.call_id),
                ("Contact", &format!("{route}Contact")),
            ],
        );
        wire.resolve_all_to(&[at(PLATFORM).ip()]);
        assert_eq!(deliver(&mut wire, Delivery::Datagram, ack.as_bytes()).sent.len(), 1);
        Call {
            wire,
            caller_routes,
            callee_routes,
        }
    }

    /// A request of the platform within the dialog goes to the carrier; what leaves for it.
    pub fn platform_says(&mut self, bytes: &[u8]) -> Vec<Sent> {
        self.wire.datagram(at(PLATFORM), at(PRIVATE), bytes)
    }

    /// A plain request of the platform within the dialog.
    pub fn of_platform(&self, names: &Names<'_>, method: &str, number: u32, lines: &str) -> String {
        let routes: String = self
            .callee_routes
            .iter()
            .map(|route| format!("Route: {route}\r\n"))
            .collect();
        format!(
            "{method} sip:alice@198.51.100.10:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK{method}{number}\r\n\
             Max-Forwards: 70\r\n{routes}From: <sip:bob@biloxi.example>;tag={}\r\nTo: <sip:alice@atlanta.example>;tag={}\r\n\
             Call-ID: {}\r\nCSeq: {number} {method}\r\n{lines}Content-Length: 0\r\n\r\n",
            names.callee, names.caller, names.call_id
        )
    }
}

/// A response to a request, as a user agent writes it.
pub fn answer(request: &[u8], status: &str, tag: &str, lines: &str) -> Vec<u8> {
    let request = Lines::read(request);
    let mut response = format!("SIP/2.0 {status}\r\n").into_bytes();
    for line in &request.headers {
        if matches!(
            line.name.as_str(),
            "via" | "from" | "to" | "call-id" | "cseq" | "record-route"
        ) {
            response.extend_from_slice(&line.raw);
            if line.name == "to" && super::lines::find(&line.raw, b";tag=").is_none() {
                response.extend_from_slice(format!(";tag={tag}").as_bytes());
            }
            response.extend_from_slice(b"\r\n");
        }
    }
    response.extend_from_slice(format!("{lines}Content-Length: 0\r\n\r\n").as_bytes());
    response
}

/// A shard that has relayed a request of this method from the platform to the carrier, and the Via it put on top: what grafted
/// on a response makes it one that is waited for.
pub fn asked(method: &str) -> (Wire, String) {
    let mut call = Call::set_up(referee::sim::scene::TWO_SIDES, &NAMES);
    let request = call.of_platform(&NAMES, method, 7, "Event: presence\r\n");
    let sent = call.platform_says(request.as_bytes());
    let relayed = sent.iter().find(|sent| sent.flow.peer.ip() == at(CARRIER).ip());
    let relayed = relayed.unwrap_or_else(|| panic!("{method} was not relayed: {sent:?}"));
    let via = Lines::read(&relayed.bytes).one("via").unwrap();
    assert_eq!(split_list(&via).len(), 1);
    (call.wire, via)
}

/// A response with a Via on top.
pub fn graft(response: &[u8], via: &str) -> Vec<u8> {
    let end = super::lines::find(response, b"\r\n").unwrap() + 2;
    [&response[..end], format!("Via: {via}\r\n").as_bytes(), &response[end..]].concat()
}
