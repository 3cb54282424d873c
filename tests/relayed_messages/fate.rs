//! What becomes of one request, looked at as a whole.

use super::lines::{Hop, Lines, assert_answers, assert_relayed, find, text};
use super::setting::*;

/// What becomes of a request that comes as a datagram: `relayed`, the status of its refusal, or nothing. What is relayed or
/// refused is looked at as a whole.
pub fn fate(request: &str) -> String {
    fate_of(request.as_bytes(), Delivery::Datagram).0
}

pub fn fate_of(request: &[u8], delivery: Delivery) -> (String, bool) {
    let what = request.escape_ascii().to_string();
    let delivered = deliver(&mut wire(), delivery, request);
    let (codes, relayed) = outcome(&delivered.sent);
    let fate = match (&codes[..], &relayed[..]) {
        ([], []) => String::new(),
        ([], [relayed]) => {
            let came = Lines::read(request);
            let hop = Hop {
                transport: via_token(relayed),
                sent_by: PRIVATE,
                source: delivery.source(),
                record_routes: find(&relayed.bytes, b"\r\nRecord-Route: <sip:10.0.0.1:5060;lr;r=").map_or(0, |_| 2),
                own_routes: 0,
            };
            let length = request.len() - came.body.len() + came.counted_body().len();
            assert_relayed(&what, &request[..length], &relayed.bytes, hop);
            "relayed".to_owned()
        }
        ([_], []) => {
            let left = &delivered.sent[0].bytes;
            let status = text(&Lines::read(left).first)["SIP/2.0 ".len()..].to_owned();
            if find(request, b"\r\n\r\n").is_some() && !status.contains("Bare") {
                assert_answers(&what, request, left, &status, delivery.source());
            }
            status
        }
        _ => panic!("{what}: {codes:?} and {} relayed", relayed.len()),
    };
    (fate, delivered.is_open)
}

pub fn fares(cases: &[(&str, &str, &str)]) {
    for (from, to, expected) in cases {
        assert_eq!(fate(&invite(&[(from, to)])), *expected, "{from:?} -> {to:?}");
    }
}
