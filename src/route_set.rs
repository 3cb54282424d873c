//! Request-URI and Route as a strict router wants them, and back (RFC 3261 §16.4, §16.6 step 6, §12.2.1.1).
//!
//! A loose router finds the next hop in Route and leaves the Request-URI alone. A strict router of RFC 2543 finds itself in the
//! Request-URI, puts the next hop there, and the remote target is the last of the Routes:
//!
//! ```text
//!   to a loose router     BYE sip:target      Route: <sip:p1;lr>, <sip:p2;lr>
//!   to a strict router    BYE sip:p1          Route: <sip:p2;lr>, <sip:target>
//! ```

use crate::message::edit::Editor;
use crate::message::uri::request_uri;
use crate::message::{Header, Message, MessageBuf, NameAddr, Uri, scan};
use smallvec::SmallVec;

/// A URI or a few.
pub type Text = SmallVec<[u8; 128]>;

/// What a request says to a strict router that is its next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrictWay {
    pub request_uri: Text,
    /// All Route values, comma-separated.
    pub routes: Text,
}

/// The values of a list of Routes, in order.
pub fn values(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let (first, after) = scan::split_list(rest?);
        rest = after;
        Some(first)
    })
    .filter(|value| !value.is_empty())
}

/// What a request with these Route values says if the first is a strict router, one without `lr` (§16.6 step 6); `None`: it is not.
pub fn for_strict_router<'a>(routes: impl Iterator<Item = &'a [u8]>, target: &[u8]) -> Option<StrictWay> {
    let mut routes = routes;
    let first = NameAddr::parse(routes.next()?).ok()?;
    if Uri::parse(first.uri).ok()?.param("lr").is_some() {
        return None;
    }
    let mut way = StrictWay {
        request_uri: Text::from_slice(&request_uri(first.uri)),
        routes: Text::new(),
    };
    for value in routes {
        way.routes.extend_from_slice(value);
        way.routes.extend_from_slice(b", ");
    }
    way.routes.extend_from_slice(b"<");
    way.routes.extend_from_slice(target);
    way.routes.extend_from_slice(b">");
    Some(way)
}

/// A request that came by a strict router, which has put our own Record-Route value into the Request-URI, as a loose router would
/// have sent it (§16.4): the last Route is the Request-URI, ours the first Route. `None`: it has no Route that can be read.
pub fn from_strict_router(request: Message<'_>, editor: &mut Editor) -> Option<MessageBuf> {
    let routes: Result<SmallVec<[NameAddr<'_>; 8]>, _> = request.name_addrs(Header::Route).collect();
    let routes = routes.ok()?;
    let (last, others) = routes.split_last()?;
    editor.clear();
    editor.replace(request.request_uri_span(), &[&request_uri(last.uri)]);
    let top = request.headers_start();
    editor.insert(top, &[b"Route: <", request.request_uri(), b">"]);
    for route in others {
        editor.insert(top, &[b", ", &request.bytes()[route.span.clone()]]);
    }
    editor.insert(top, &[b"\r\n"]);
    editor.remove_first_values(request, Header::Route, routes.len());
    let mut bytes = Vec::with_capacity(request.total_len() + 16);
    editor.write(request, &mut bytes);
    MessageBuf::parse(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(routes: &[u8], target: &[u8]) -> Option<(String, String)> {
        let text = |text: Text| String::from_utf8(text.to_vec()).unwrap();
        for_strict_router(values(routes), target).map(|way| (text(way.request_uri), text(way.routes)))
    }

    #[test]
    fn the_target_of_a_strict_router_goes_last() {
        assert_eq!(way(b"<sip:p1;LR>, <sip:p2>", b"sip:t"), None);
        assert_eq!(way(b"", b"sip:t"), None);
        assert_eq!(
            way(b"\"a, b\" <sip:p1;x=1?lr>;lr , <sip:p2;lr>", b"sip:t;y"),
            Some(("sip:p1;x=1".into(), "<sip:p2;lr>, <sip:t;y>".into()))
        );
        assert_eq!(
            way(b"<sip:p1;method=INVITE;lrx>", b"sip:t"),
            Some(("sip:p1;lrx".into(), "<sip:t>".into()))
        );
    }

    #[test]
    fn what_a_strict_router_has_done_is_undone() {
        let sent = "BYE sip:us;lr SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nRoute: <sip:p1;lr>,\r\n <sip:p2>\r\n\
                    From: <sip:a@a>;tag=1\r\nroute: \"t, t\" <sip:t;x?a=b>;y\r\nTo: <sip:b@b>;tag=2\r\nCall-ID: c\r\nCSeq: 1 BYE\r\n\r\n";
        let message = MessageBuf::parse(sent).unwrap();
        let restored = from_strict_router(message.as_message(), &mut Editor::new()).unwrap();
        assert_eq!(
            String::from_utf8_lossy(restored.as_message().bytes()),
            "BYE sip:t;x SIP/2.0\r\nRoute: <sip:us;lr>, <sip:p1;lr>, <sip:p2>\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
             From: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\nCall-ID: c\r\nCSeq: 1 BYE\r\n\r\n"
        );
        let without = sent
            .replace("Route: <sip:p1;lr>,\r\n <sip:p2>\r\n", "")
            .replace("route:", "x:");
        let message = MessageBuf::parse(without).unwrap();
        assert!(from_strict_router(message.as_message(), &mut Editor::new()).is_none());
    }
}
