//! Messages close to real ones, laid out so that what is looked at many bytes at a time meets every edge.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index as Choice, select};

use super::tests::{files, torture};
use super::twins::parsers_agree;
use super::{framing_properties, parse_properties, relay_properties, twin_properties};
use crate::message::{MessageBuf, check};

/// White space as a sender may write it: none, plain, with tabs, with folds.
fn white_space() -> BoxedStrategy<&'static str> {
    prop_oneof![
        6 => Just(""),
        6 => Just(" "),
        1 => select(&["\t", "  ", " \t ", "\r\n ", "\r\n\t", " \r\n  \r\n\t "][..]),
    ]
    .boxed()
}

/// Text whose length is often one more, one less or as much as is looked at in one round.
fn text(letters: &'static str) -> BoxedStrategy<String> {
    let length = prop_oneof![
        3 => 1..12usize,
        2 => select(&[7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129][..]),
        1 => 12..300usize,
    ];
    (length, any::<Choice>())
        .prop_map(move |(length, start)| {
            let letters: Vec<char> = letters.chars().collect();
            let start = start.index(letters.len());
            letters.iter().cycle().skip(start).take(length).collect()
        })
        .boxed()
}

fn token() -> BoxedStrategy<String> {
    text("ab0-.!%*_+`'~Z9").boxed()
}

fn quoted() -> BoxedStrategy<String> {
    let inner = prop_oneof![
        text("Anna Berg"),
        text("b, <c>;d:é\\\""),
        text("\\\\"),
        text("\\\"\\\u{1}"),
        Just("a\r\n\tb".to_owned()),
        Just(String::new()),
    ];
    inner
        .prop_map(|inner| {
            // A backslash that stands last would escape the closing quote.
            let backslashes = inner.bytes().rev().take_while(|&byte| byte == b'\\').count();
            format!("\"{inner}{}\"", if backslashes % 2 == 1 { "\\" } else { "" })
        })
        .boxed()
}

fn host() -> BoxedStrategy<String> {
    prop_oneof![
        4 => select(&["192.0.2.1", "255.255.255.255", "0.0.0.0", "a.example", "proxy-1.carrier.example.", "[2001:db8::1]",
            "[::ffff:192.0.2.10]", "localhost"][..]).prop_map(str::to_owned),
        1 => text("abc-").prop_map(|name| format!("a{name}.example")),
        1 => select(&["256.1.1.1", "1.2.3", "1.2.3.4.5", "[::1", "a..b", "1.2.3.1000"][..]).prop_map(str::to_owned),
    ]
        .boxed()
}

fn param() -> BoxedStrategy<String> {
    let value = prop_oneof![Just(String::new()), token(), host(), quoted()];
    (white_space(), token(), white_space(), white_space(), value)
        .prop_map(|(before, name, around, inside, value)| match value.is_empty() {
            true => format!("{before};{inside}{name}"),
            false => format!("{before};{inside}{name}{around}={inside}{value}"),
        })
        .boxed()
}

fn params() -> BoxedStrategy<String> {
    prop_oneof![2 => Just(String::new()), 2 => param(), 1 => vec(param(), 2..5).prop_map(|params| params.concat())]
        .boxed()
}

fn uri() -> BoxedStrategy<String> {
    let scheme = select(&["sip:", "sips:", "SIP:", "tel:", "x-other:"][..]);
    let user = prop_oneof![
        Just(String::new()),
        text("+49301234567;phone-context=example.com,%20&=+$?/").prop_map(|user| user + "@"),
    ];
    let port = select(&["", ":5060", ":1", ":65535", ":0"][..]);
    let more = select(
        &[
            "",
            ";lr",
            ";transport=tcp;lr",
            ";ob;maddr=192.0.2.1",
            "?Replaces=a%3Bb",
            ";x=%00",
        ][..],
    );
    (scheme, user, host(), port, more)
        .prop_map(|(scheme, user, host, port, more)| format!("{scheme}{user}{host}{port}{more}"))
        .boxed()
}

fn name_addr(last: &'static str) -> BoxedStrategy<String> {
    let display = prop_oneof![2 => Just(String::new()), 1 => quoted(), 1 => text("Anna é Berg")];
    (display, white_space(), uri(), params())
        .prop_map(move |(display, space, uri, params)| format!("{display}{space}<{uri}>{params}{last}"))
        .boxed()
}

fn via() -> BoxedStrategy<String> {
    let slash = select(&["/", "/", "/", " / ", "/\t", "\r\n /"][..]);
    let rport = select(
        &[
            "",
            ";rport",
            ";rport=5060",
            ";received=192.0.2.9",
            ";received=[2001:db8::9];rport",
        ][..],
    );
    (
        slash,
        host(),
        select(&["", ":5060", " : 5060"][..]),
        rport,
        token(),
        params(),
    )
        .prop_map(|(slash, host, port, rport, branch, params)| {
            format!("SIP{slash}2.0{slash}UDP {host}{port}{rport};branch=z9hG4bK{branch}{params}")
        })
        .boxed()
}

/// Values with commas between them.
fn list(value: BoxedStrategy<String>) -> BoxedStrategy<String> {
    (vec(value, 1..4), white_space(), white_space())
        .prop_map(|(values, before, after)| values.join(&format!("{before},{after}")))
        .boxed()
}

/// A header line, its name long, short, or in another case, with white space round the colon.
fn line(names: &'static [&'static str], value: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let colon =
        prop_oneof![8 => Just(": "), 2 => Just(":"), 1 => select(&[" : ", "\t:\t", "  :", ":\r\n ", ": \r\n\t"][..])];
    let case = select(&[str::to_owned, str::to_ascii_lowercase, str::to_ascii_uppercase][..]);
    (select(names), case, colon, value, white_space())
        .prop_map(|(name, case, colon, value, behind)| format!("{}{colon}{value}{behind}\r\n", case(name)))
        .boxed()
}

fn extra_line() -> BoxedStrategy<String> {
    prop_oneof![
        line(&["Route", "Record-Route", "Path"], list(name_addr(""))),
        line(&["Contact", "m"], list(name_addr(";expires=60"))),
        line(&["Via", "v"], list(via())),
        line(
            &["P-Asserted-Identity", "Diversion", "Refer-To", "r", "Referred-By", "b"],
            name_addr("")
        ),
        line(
            &["Subject", "s", "X-Note", "User-Agent", "Supported", "k"],
            text("any text, \"even\" <this>; ünd = ")
        ),
        token().prop_map(|name| format!("{name}: x\r\n")),
        line(
            &[
                "Allow",
                "Require",
                "Event",
                "o",
                "Accept-Language",
                "Reason",
                "Session-Expires",
                "x"
            ],
            list(token())
        ),
        select(
            &[
                "X-Empty:\r\n",
                "X-Empty: \r\n",
                "s:\r\n \r\n",
                "a: b\r\n",
                "Date: Sat, 13 Nov 2010 23:29:00 GMT\r\n"
            ][..]
        )
        .prop_map(str::to_owned),
    ]
    .boxed()
}

/// A whole message, nearly always a good one.
fn message() -> BoxedStrategy<Vec<u8>> {
    let method = prop_oneof![4 => Just("INVITE".to_owned()), 1 => Just("REFER".to_owned()), 1 => token()];
    let start = (method, uri(), any::<bool>());
    let own = (
        line(&["Via", "v"], list(via())),
        line(&["From", "f"], name_addr(";tag=a6c85cf")),
        line(&["To", "t"], name_addr("")),
        line(&["Call-ID", "i"], text("f81d4fae-7dec-11d0@a.example")),
        line(
            &["Max-Forwards"],
            select(&["70", "0", "255", "0009"][..]).prop_map(str::to_owned).boxed(),
        ),
    );
    let number = select(&["1", "2147483647", "00000042", "12345678", "1234567"][..]);
    let body = prop_oneof![
        Just(Vec::new()),
        vec(any::<u8>(), 0..200),
        Just(b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n\r\n".to_vec()),
    ];
    let length = select(&["l: ", "Content-Length: ", "Content-Length :\t", "content-length:\r\n "][..]);
    // Where the empty line or the end of all is to fall, counted within a block.
    let place = prop_oneof![1 => Just(None), 2 => (any::<bool>(), 0..64usize).prop_map(Some)];
    (
        start,
        own,
        number,
        vec(extra_line(), 0..8),
        (body, length, place),
        any::<u64>(),
    )
        .prop_map(
            |((method, uri, is_request), own, number, extra, (body, length, place), order)| {
                let start = match is_request {
                    true => format!("{method} {uri} SIP/2.0\r\n"),
                    false => "SIP/2.0 200 OK\r\n".to_owned(),
                };
                let mut lines = vec![own.0, own.1, own.2, own.3, own.4];
                lines.push(format!("CSeq: {number} {method}\r\n"));
                lines.push(format!("{length}{}\r\n", body.len()));
                lines.extend(extra);
                let mut random = order;
                for left in (1..lines.len()).rev() {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    lines.swap(left, (random >> 33) as usize % (left + 1));
                }
                if let Some((of_head, place)) = place {
                    let head = start.len() + lines.iter().map(String::len).sum::<usize>() + "\r\n".len();
                    let end = if of_head { head } else { head + body.len() };
                    let padding = (place + 128 - (end + "p: \r\n".len()) % 64) % 64;
                    lines.push(format!("p: {}\r\n", "p".repeat(padding)));
                }
                [start.as_bytes(), lines.concat().as_bytes(), b"\r\n", &body].concat()
            },
        )
        .boxed()
}

/// A message with some bytes changed, among them such that are next to the end of a block or of all.
fn changed() -> BoxedStrategy<Vec<u8>> {
    let odd: &[&[u8]] = &[
        b"\0",
        b"\x01",
        b"\t",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b" ",
        b":",
        b"\"",
        b"\\",
        b",",
        b";",
        b"<",
        b">",
        b"\x1f",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"a",
        b"",
    ];
    let place = prop_oneof![
        any::<Choice>().prop_map(|place| (place, None)),
        (any::<Choice>(), 0..5usize).prop_map(|(place, by)| (place, Some(by))),
    ];
    let change = (place, 0..3usize, select(odd));
    let cut = prop_oneof![3 => Just(None), 1 => any::<Choice>().prop_map(Some)];
    (message(), vec(change, 0..4), cut)
        .prop_map(|(mut bytes, changes, cut)| {
            for ((place, by), removed, inserted) in changes {
                let at = match by {
                    // Two bytes before to two behind the border of a block.
                    Some(by) => (place.index(bytes.len() / 32 + 1) * 32 + by)
                        .saturating_sub(2)
                        .min(bytes.len()),
                    None => place.index(bytes.len() + 1),
                };
                let end = (at + removed).min(bytes.len());
                bytes.splice(at..end, inserted.iter().copied());
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            bytes
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_properties_hold_for_messages_in_any_layout(bytes in message()) {
        parse_properties(&bytes);
        relay_properties(&bytes);
    }

    #[test]
    fn both_parsers_agree_on_messages_with_bytes_changed_at_the_edges(bytes in changed()) {
        twin_properties(&bytes);
        parse_properties(&bytes);
        relay_properties(&bytes);
    }

    #[test]
    fn streams_of_near_messages_are_cut_alike(bytes in vec(changed(), 1..4)) {
        framing_properties(&bytes.concat());
        relay_properties(&bytes.concat());
    }
}

#[test]
fn most_messages_made_here_are_good_ones() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let is_good = |bytes: Vec<u8>| MessageBuf::parse(bytes).is_ok_and(|buf| check(buf.as_message()).is_ok());
    let good = (0..200)
        .filter(|_| is_good(message().new_tree(&mut runner).expect("nothing is filtered").current()))
        .count();
    assert!(good >= 60, "{good} of 200");
}

#[test]
fn a_relayed_message_differs_only_in_what_a_proxy_owns() {
    for (path, bytes) in ["relay", "parse", "framing"]
        .iter()
        .flat_map(|target| files(&format!("fuzz/corpus/{target}")))
        .chain(torture())
    {
        println!("{}", path.display());
        relay_properties(&bytes);
    }
}

/// The empty line on every offset over some blocks, and every byte of the last ones replaced by every kind of byte.
#[test]
fn both_parsers_agree_wherever_the_head_ends_and_whatever_stands_there() {
    let head = "BYE sip:b SIP/2.0\r\nv:SIP/2.0/UDP a\r\nf:<b:a>\r\nt:<b:c>\r\n";
    let last = "i:c\r\nCSeq:1 BYE\r\n";
    let fixed = head.len() + "p:\r\n".len() + last.len();
    for end in fixed + 1..=400 {
        for behind in [
            &b""[..],
            b"body of some bytes, longer than a block of sixty-four bytes is, with\0",
        ] {
            let padding = "p".repeat(end - fixed);
            let mut bytes = format!("{head}p:{padding}\r\n{last}\r\n").into_bytes();
            bytes.extend_from_slice(behind);
            parsers_agree(&bytes);
            for at in bytes.len().saturating_sub(70)..bytes.len() {
                let good = bytes[at];
                for other in [0, b'\t', b'\n', b'\r', b':', b' ', 0x7f, 0x80, b'a'] {
                    bytes[at] = other;
                    parsers_agree(&bytes);
                }
                bytes[at] = good;
            }
        }
    }
}
