//! Messages one change away from a plain INVITE, one for each place where parsers of SIP are known to go wrong: all that is read
//! of them, not only whether they are read.

use super::fields::fields;
use super::setting::*;
use referee::message::{MessageBuf, check};

/// What is read of the plain INVITE.
const PLAIN: &str = "INVITE sip:bob@biloxi.example
via UDP pc33.atlanta.example:5060 = name pc33.atlanta.example port Some(5060) branch z9hG4bK776asdhds
from [\"Alice\"] sip:alice@atlanta.example = Sip alice at atlanta.example tag 1928301774 params ;tag=1928301774
to [\"Bob\"] sip:bob@biloxi.example = Sip bob at biloxi.example
call-id a84b4c76e66710@pc33.atlanta.example
cseq 314159 INVITE
max-forwards 70
contact [] sip:alice@pc33.atlanta.example = Sip alice at pc33.atlanta.example
content-type application/sdp
body 4
";

/// What is asked of a message that is read.
enum Expected {
    /// All as in the plain one but for these lines.
    Read(&'static [(&'static str, &'static str)]),
    /// It is none, for this reason.
    Refused(&'static str),
}
use Expected::{Read, Refused};

struct Probe {
    pitfall: &'static str,
    change: (&'static str, &'static str),
    expected: Expected,
}

const fn probe(pitfall: &'static str, change: (&'static str, &'static str), expected: Expected) -> Probe {
    Probe {
        pitfall,
        change,
        expected,
    }
}

const VIA: &str =
    "via UDP pc33.atlanta.example:5060 = name pc33.atlanta.example port Some(5060) branch z9hG4bK776asdhds\n";
const FROM: &str =
    "from [\"Alice\"] sip:alice@atlanta.example = Sip alice at atlanta.example tag 1928301774 params ;tag=1928301774\n";
const TO: &str = "to [\"Bob\"] sip:bob@biloxi.example = Sip bob at biloxi.example\n";
const CONTACT: &str = "contact [] sip:alice@pc33.atlanta.example = Sip alice at pc33.atlanta.example\n";

const PROBES: &[Probe] = &[
    // A fold is one white space, wherever white space may stand.
    probe("a fold behind the colon", ("From: ", "From:\r\n "), Read(&[])),
    probe(
        "a fold within a value",
        (" <sip:alice@a", "\r\n\t <sip:alice@a"),
        Read(&[]),
    ),
    probe("a fold before a parameter", (";branch", "\r\n ;\r\n branch"), Read(&[])),
    probe("a fold within CSeq", ("314159 INVITE", "314159\r\n INVITE"), Read(&[])),
    probe(
        "a fold within Content-Length",
        ("Length: 4", "Length:\r\n\t4"),
        Read(&[]),
    ),
    // HCOLON: the name ends before the white space.
    probe("white space before the colon", ("Call-ID: ", "Call-ID \t :"), Read(&[])),
    // A name is a token.
    probe(
        "a space in a name",
        ("Contact", "X Y: z\r\nContact"),
        Refused("Malformed Header Name"),
    ),
    probe(
        "a semicolon in a name",
        ("Contact", "X;y=z: z\r\nContact"),
        Refused("Malformed Header Name"),
    ),
    // Compact names, of one list with the long ones.
    probe("a compact name", ("Call-ID", "i"), Read(&[])),
    probe(
        "compact and long names in one list",
        ("Max-F", "v: SIP/2.0/TCP b;branch=z9hG4bKb\r\nMax-F"),
        Read(&[("from", "via TCP b = name b port None branch z9hG4bKb\nfrom")]),
    ),
    probe(
        "compact names of transfers",
        ("Contact:", "r: <sip:c@d>\r\nb: <sip:e@f>\r\no: refer;id=7\r\nm:"),
        Read(&[(
            "content-type",
            "refer-to [] sip:c@d = Sip c at d\nreferred-by [] sip:e@f = Sip e at f\nevent refer id Some(\"7\")\ncontent-type",
        )]),
    ),
    // Many values a line: the top Via is a value.
    probe(
        "a comma list of Via",
        ("776asdhds", "776asdhds , SIP/2.0/TCP b;branch=z9hG4bKb,SIP/2.0/UDP c"),
        Read(&[(
            "from",
            "via TCP b = name b port None branch z9hG4bKb\nvia UDP c = name c port None branch none\nfrom",
        )]),
    ),
    probe(
        "a comma list of Route",
        ("Contact", "Route: <sip:p;lr>,<sip:q;lr>\r\nContact"),
        Read(&[(
            "content-type",
            "route [] sip:p;lr = Sip nobody at p params ;lr\nroute [] sip:q;lr = Sip nobody at q params ;lr\ncontent-type",
        )]),
    ),
    // Quotes hold text, a backslash any byte.
    probe(
        "specials in quotes",
        ("\"Alice\"", "\"A, <b>;tag=no\""),
        Read(&[("\"Alice\"", "\"A, <b>;tag=no\"")]),
    ),
    probe(
        "a quote that is escaped",
        ("\"Alice\"", "\"A\\\"l\\\\\""),
        Read(&[("\"Alice\"", "\"A\\\"l\\\\\"")]),
    ),
    probe(
        "a comma in quotes in a list",
        ("<sip:alice@pc33.atlanta.example>", "\"x, y\" <sip:a@b>, <sip:c@d>"),
        Read(&[(
            CONTACT,
            "contact [\"x, y\"] sip:a@b = Sip a at b\ncontact [] sip:c@d = Sip c at d\n",
        )]),
    ),
    // Within brackets all is the URI's, without them a semicolon begins the header's parameters.
    probe(
        "commas and semicolons in brackets",
        ("<sip:alice@pc33.atlanta.example>", "<sip:a,b;c@d;p=1,2?h=x,y>;q=1"),
        Read(&[(
            CONTACT,
            "contact [] sip:a,b;c@d;p=1,2?h=x,y = Sip a,b;c at d params ;p=1,2 headers h=x,y params ;q=1\n",
        )]),
    ),
    probe(
        "no brackets",
        ("\"Alice\" <sip:alice@atlanta.example>;tag=1928301774", "sip:a@b;tag=x"),
        Read(&[(FROM, "from [] sip:a@b = Sip a at b tag x params ;tag=x\n")]),
    ),
    probe(
        "a tag of the URI",
        ("<sip:bob@biloxi.example>\r\n", "<sip:bob@biloxi.example;tag=x>\r\n"),
        Read(&[(
            TO,
            "to [\"Bob\"] sip:bob@biloxi.example;tag=x = Sip bob at biloxi.example params ;tag=x\n",
        )]),
    ),
    // White space round every separator.
    probe("white space in parameters", (";tag=", " ; tag = "), Read(&[])),
    probe("white space in Via", ("SIP/2.0/UDP ", "SIP / 2.0 / UDP \t "), Read(&[])),
    probe(
        "white space round the port",
        ("example:5060;", "example : 5060 ;"),
        Read(&[("example:5060", "example : 5060")]),
    ),
    // Parameters of a Contact in quotes.
    probe(
        "an instance id",
        (
            "pc33.atlanta.example>",
            "pc33.atlanta.example>;+sip.instance=\"<urn:uuid:f81d;x,y>\";expires=5",
        ),
        Read(&[(
            CONTACT,
            "contact [] sip:alice@pc33.atlanta.example = Sip alice at pc33.atlanta.example \
            params ;+sip.instance=\"<urn:uuid:f81d;x,y>\";expires=5\n",
        )]),
    ),
    // IPv6 in every place: the port's colon stands behind the bracket.
    probe(
        "an IPv6 address in a URI",
        ("sip:alice@pc33.atlanta.example", "sip:alice@[2001:db8::1]:5070"),
        Read(&[(
            CONTACT,
            "contact [] sip:alice@[2001:db8::1]:5070 = Sip alice at address 2001:db8::1 port 5070\n",
        )]),
    ),
    probe(
        "IPv6 addresses in Via",
        (
            "pc33.atlanta.example:5060;",
            "[2001:db8::9:1]:6050;received=2001:db8::9:255;maddr=[2001:db8::2];",
        ),
        Read(&[(
            VIA,
            "via UDP [2001:db8::9:1]:6050 = address 2001:db8::9:1 port Some(6050) branch z9hG4bK776asdhds \
             received 2001:db8::9:255 = Some(2001:db8::9:255) maddr Address(2001:db8::2)\n",
        )]),
    ),
    probe(
        "an IPv6 address without brackets",
        ("pc33.atlanta.example:5060;", "2001:db8::9:1;"),
        Refused("Malformed Via"),
    ),
    // Escapes stay; the user ends at its @, whatever stands in it.
    probe(
        "escapes",
        ("sip:alice@pc33", "sip:%00%40;a?b@pc33"),
        Read(&[(
            CONTACT,
            "contact [] sip:%00%40;a?b@pc33.atlanta.example = Sip %00%40;a?b at pc33.atlanta.example\n",
        )]),
    ),
    // Case matters in methods, and in nothing around them.
    probe(
        "a parameter's name in capitals",
        (";tag=", ";TAG="),
        Read(&[(";tag=", ";TAG=")]),
    ),
    probe(
        "a header's name in another case",
        ("Max-Forwards", "mAx-fORWARDS"),
        Read(&[]),
    ),
    probe("the version in another case", ("SIP/2.0\r\n", "sip/2.0\r\n"), Read(&[])),
    probe(
        "a method in another case",
        ("314159 INVITE", "314159 Invite"),
        Refused("CSeq Method Mismatch"),
    ),
    // Other schemes are no fault of the message.
    probe(
        "a tel: URI",
        ("sip:bob@biloxi.example SIP", "tel:+4930123 SIP"),
        Read(&[("sip:bob@biloxi.example\nvia", "tel:+4930123\nvia")]),
    ),
    // Content-Length.
    probe("no Content-Length", ("Content-Length: 4\r\n", ""), Read(&[])),
    probe(
        "more octets than Content-Length",
        ("Length: 4", "Length: 3"),
        Read(&[("body 4", "body 3")]),
    ),
    probe(
        "fewer octets than Content-Length",
        ("Length: 4", "Length: 5"),
        Refused("Body Shorter Than Content-Length"),
    ),
    probe(
        "two lengths that differ",
        ("Length: 4", "Length: 4\r\nl: 3"),
        Refused("Differing Content-Length"),
    ),
    probe(
        "a length below zero",
        ("Length: 4", "Length: -1"),
        Refused("Malformed Content-Length"),
    ),
    probe(
        "a length with a sign",
        ("Length: 4", "Length: +4"),
        Refused("Malformed Content-Length"),
    ),
    probe(
        "a length above any size",
        ("Length: 4", "Length: 4294967300"),
        Refused("Malformed Content-Length"),
    ),
    // Header text is bytes.
    probe(
        "UTF-8",
        ("\"Alice\"", "\"Ali\u{e7}e\""),
        Read(&[("\"Alice\"", "\"Ali\u{e7}e\"")]),
    ),
    // NUL stands in quoted pairs and bodies alone.
    probe(
        "a NUL in a quoted pair",
        ("\"Alice\"", "\"A\\\0\""),
        Read(&[("\"Alice\"", "\"A\\\\u{0}\"")]),
    ),
    probe("a NUL in a body", ("v=0\n", "v\0\r\n"), Read(&[])),
    probe(
        "a NUL in a value",
        ("application/sdp", "application/\0"),
        Refused("Control Byte"),
    ),
    // A line ends in CRLF.
    probe("a bare LF", ("70\r\n", "70\n"), Refused("Bare LF")),
    probe("a bare CR", ("70\r\n", "70\r"), Refused("Bare CR")),
    // One is one, and none is too few.
    probe(
        "a second From",
        ("CSeq", "From: <sip:x@y>;tag=1\r\nCSeq"),
        Refused("Repeated From"),
    ),
    probe(
        "a second Max-Forwards",
        ("CSeq", "Max-Forwards: 70\r\nCSeq"),
        Refused("Repeated Max-Forwards"),
    ),
    probe(
        "no Call-ID",
        ("Call-ID: a84b4c76e66710@pc33.atlanta.example\r\n", ""),
        Refused("Missing Call-ID"),
    ),
    // Numbers end somewhere.
    probe(
        "a large CSeq",
        ("314159", "2147483648"),
        Refused("CSeq Number Too Large"),
    ),
    probe("a port of no port", (":5060;", ":65536;"), Refused("Malformed Via")),
    probe(
        "too many hops",
        ("Forwards: 70", "Forwards: 256"),
        Refused("Malformed Max-Forwards"),
    ),
    probe("leading zeros", ("Forwards: 70", "Forwards: 00000070"), Read(&[])),
];

#[test]
fn each_pitfall_of_parsers_is_read_right_in_every_field() {
    for Probe {
        pitfall,
        change,
        expected,
    } in PROBES
    {
        let request = invite(&[*change]);
        let read = MessageBuf::parse(request.clone()).map_err(|error| error.kind);
        let read = read.and_then(|buf| check(buf.as_message()).map(|()| fields(buf.as_message())));
        match expected {
            Read(changes) => {
                let expected = changes.iter().fold(PLAIN.to_owned(), |text, (from, to)| {
                    assert!(text.contains(from), "{pitfall}: no {from:?}");
                    text.replacen(from, to, 1)
                });
                assert_eq!(read, Ok(expected), "{pitfall}");
            }
            Refused(reason) => assert_eq!(read.map_err(|kind| kind.reason()), Err(*reason), "{pitfall}"),
        }
        // The shard is of the same mind: a 416 is the answer to what was read and cannot be routed.
        let sent = deliver(&mut wire(), Delivery::Datagram, request.as_bytes()).sent;
        let (codes, relayed) = outcome(&sent);
        let is_read = matches!(expected, Read(_));
        assert_eq!(relayed.len() == 1 || codes == [416], is_read, "{pitfall}");
        assert!(is_read || codes == [400], "{pitfall}: {codes:?}");
    }
}

#[test]
fn each_pitfall_of_responses_is_read_right_in_every_field() {
    // The status line: an empty reason, with its space and without, and one that is not ASCII. And a name in Latin-1.
    let plain = invite(&[("INVITE sip:bob@biloxi.example SIP/2.0", "SIP/2.0 200 OK")]);
    let expected = PLAIN.replacen("INVITE sip:bob@biloxi.example", "200 OK", 1);
    for (from, to, line) in [
        ("200 OK", "200 OK", "200 OK"),
        ("200 OK", "200 ", "200 "),
        ("200 OK", "200", "200 "),
        ("200 OK", "200 \u{43e}\u{43a}", "200 \u{43e}\u{43a}"),
        ("SIP/2.0 200", "sip/2.0 200", "200 OK"),
    ] {
        let buf = MessageBuf::parse(plain.replacen(from, to, 1)).unwrap();
        assert_eq!(fields(buf.as_message()), expected.replacen("200 OK", line, 1), "{to:?}");
    }
    let latin: Vec<u8> = invite(&[("Alice", "Al@ce")]).bytes().collect();
    let at = latin.windows(5).position(|name| name == b"Al@ce").unwrap() + 2;
    let latin = [&latin[..at], b"\xef", &latin[at + 1..]].concat();
    let buf = MessageBuf::parse(latin).unwrap();
    assert_eq!(check(buf.as_message()), Ok(()));
    assert_eq!(fields(buf.as_message()), PLAIN.replacen("Alice", "Al\\u{fffd}ce", 1));
    // One such byte right behind the colon, a letter behind it.
    let latin = invite(&[("Call-ID: ", "Call-ID:@")])
        .replacen(":@", ":\u{1}", 1)
        .into_bytes();
    let latin: Vec<u8> = latin.iter().map(|&byte| if byte == 1 { 0xff } else { byte }).collect();
    let buf = MessageBuf::parse(latin).unwrap();
    assert_eq!(
        fields(buf.as_message()),
        PLAIN.replacen("call-id ", "call-id \\u{fffd}", 1)
    );
}
