//! Inputs that try to cost more than their length is worth. None is longer than a datagram can be.

use referee::message::parse::{HEADER_LINES_MAX, MESSAGE_BYTES_MAX};

/// Writes one input.
type Write = fn() -> Vec<u8>;

/// The inputs by name.
pub const MESSAGES: [(&str, Write); 30] = [
    // Header bombs: as many lines as are taken, as short as may be; and more than are taken.
    ("short_lines", || with_lines("a:\r\n", HEADER_LINES_MAX - OWN_LINES)),
    ("via_lines", || {
        with_lines("v:SIP/2.0/UDP a\r\n", HEADER_LINES_MAX - OWN_LINES)
    }),
    ("route_lines", || {
        with_lines("Route:<a:b>\r\n", HEADER_LINES_MAX - OWN_LINES)
    }),
    ("too_many_lines", || with_lines("a:\r\n", LONG / 4)),
    // Lists, of 10,000 values where there is room.
    ("empty_values", || with_value("Contact", &",".repeat(10_000))),
    ("contacts", || with_value("Contact", &("a:b,".repeat(10_000) + "a:b"))),
    ("routes", || with_value("Route", &("<a:b>,".repeat(10_000) + "<a:b>"))),
    ("vias", || {
        request(URI, FROM, &(repeated("SIP/2.0/UDP a,") + "SIP/2.0/UDP a"), "")
    }),
    // Quotes, and quotes within quotes.
    ("escaped_quotes", || {
        request(URI, &format!("\"{}\" {FROM}", repeated("\\\"")), VIA, "")
    }),
    ("quoted_contacts", || {
        with_value("Contact", &(repeated("\"<,\\\"\"<a:b>,") + "<a:b>"))
    }),
    ("quoted_params", || {
        request(URI, &(FROM.to_owned() + &repeated(";a=\"\\\"\"")), VIA, "")
    }),
    ("open_quote", || {
        request(URI, &format!("\"{}", repeated("\\\"")), VIA, "")
    }),
    // Parameters, of which some must not repeat.
    ("from_params", || {
        request(URI, &(FROM.to_owned() + &repeated(";a")), VIA, "")
    }),
    ("via_params", || {
        request(URI, FROM, &(VIA.to_owned() + &repeated(";a")), "")
    }),
    ("uri_params", || {
        request(&(URI.to_owned() + &different_params()), FROM, VIA, "")
    }),
    ("route_params", || {
        with_value("Route", &format!("<{URI}{}>", different_params()))
    }),
    // One header of 64 KiB, plain and folded.
    ("long_value", || with_value("Subject", &repeated("x"))),
    ("long_call_id", || {
        let call_id = repeated("x");
        format!(
            "OPTIONS {URI} SIP/2.0\r\nVia: {VIA}\r\nFrom: {FROM}\r\nTo: {FROM}\r\nCall-ID: {call_id}\r\n\
             CSeq: 1 OPTIONS\r\n\r\n"
        )
        .into_bytes()
    }),
    ("long_name", || request(URI, FROM, VIA, &(repeated("x") + ": y\r\n"))),
    ("folds", || with_value("Subject", &(repeated("\r\n ") + "x"))),
    ("folded_from", || request(URI, &(repeated("\r\n ") + FROM), VIA, "")),
    ("spaces", || {
        request(URI, &format!("<sip:a@a.example>{};tag=1", repeated(" ")), VIA, "")
    }),
    // Found by the search of `src/dearest.rs`: as many short values as are read, short parameters between folds.
    ("short_routes", || {
        with_value("Route", &("<a:b>,".repeat(127) + "<a:b>"))
    }),
    ("folded_routes", || with_lines("Route:<a:b>;a\r\n \r\n", 100)),
    ("folded_params", || {
        request(URI, FROM, &(VIA.to_owned() + &";a\r\n ".repeat(32) + ";rport"), "")
    }),
    ("short_contacts", || with_lines("m:<a:b>;lr\r\n", 100)),
    ("reasons", || with_lines("Reason:a,b,b,b,b,b,b,b,b,a\r\n", 100)),
    ("user_to_users", || {
        with_lines("User-to-User:a,b,b,b,b,b,b,b,ba\r\n", 100)
    }),
    // No message at all.
    ("no_line_end", || repeated("x").into_bytes()),
    ("line_ends", || repeated("\r\n").into_bytes()),
];

/// A request with `more` among its header lines.
fn request(uri: &str, from: &str, via: &str, more: &str) -> Vec<u8> {
    format!(
        "INVITE {uri} SIP/2.0\r\nVia: {via}\r\nFrom: {from}\r\nTo: <sip:b@b.example>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
         Max-Forwards: 70\r\n{more}Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

const URI: &str = "sip:b@b.example";
const FROM: &str = "<sip:a@a.example>;tag=1";
const VIA: &str = "SIP/2.0/UDP a.example;branch=z9hG4bK1";
/// Lines that [`request`] writes itself.
const OWN_LINES: usize = 7;
/// Room for what [`request`] writes around the part that is made long.
const LONG: usize = MESSAGE_BYTES_MAX - 300;

/// `part` as often as a message has room for it.
fn repeated(part: &str) -> String {
    part.repeat(LONG / part.len())
}

fn with_lines(line: &str, count: usize) -> Vec<u8> {
    request(URI, FROM, VIA, &line.repeat(count))
}

fn with_value(name: &str, value: &str) -> Vec<u8> {
    request(URI, FROM, VIA, &format!("{name}: {value}\r\n"))
}

/// Parameters that all differ: nothing stops a search for a repeated one early.
fn different_params() -> String {
    let mut params = String::new();
    for number in 0.. {
        let param = format!(";{number:x}");
        if params.len() + param.len() > LONG {
            break;
        }
        params += &param;
    }
    params
}
