//! Messages explained: the text a person reads, kept in tests/explanations, and that what it says of a message is what
//! the parser, the check and the proxy say.

use referee::message::explain::{Fault, Verdict, explain};
use referee::message::properties::malformed_fields;
use referee::message::{Header, Index, Message, Method, ParseErrorKind, check, parse};
use referee::proxy;
use std::fs;
use std::path::{Path, PathBuf};

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Compares an explanation with the one kept under this name; `REFEREE_BLESS=1` writes it anew.
fn assert_explanation(name: &str, bytes: &[u8]) {
    let path = tests_folder().join(format!("explanations/{name}.txt"));
    let text = explain(bytes).to_string();
    for line in text.lines() {
        assert!(line.chars().count() <= 120, "{name}: more than 120 columns: {line}");
        assert!(
            line.chars()
                .all(|c| c == '…' || c == '·' || c == '§' || (' '..='~').contains(&c)),
            "{name}: {line}"
        );
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the switch that rewrites expected text is the tester's"
    )]
    let bless = std::env::var("REFEREE_BLESS").is_ok_and(|value| value == "1");
    if bless {
        fs::write(&path, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{name} is kept as\n{kept}\nand is explained as\n{text}\nREFEREE_BLESS=1 keeps that"
    );
}

fn load(path: &str) -> Vec<u8> {
    let path = tests_folder().join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const INVITE: &str = "INVITE sip:+4930123456@192.0.2.9:5060;user=phone SIP/2.0\r\n\
    v: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK-524287-1;rport, SIP/2.0/TCP a.example;branch=z9hG4bK2;received=192.0.2.4\r\n\
    Max-Forwards: 69\r\n\
    From: \"Doe, John\" <sip:jdoe@carrier.example>;tag=as58f4\r\n\
    To: <sip:+4930123456@192.0.2.9;user=phone>\r\n\
    i: 3848276298220188511@198.51.100.7\r\n\
    CSeq: 314159 INVITE\r\n\
    m: <sip:jdoe@198.51.100.7:5060;transport=udp>;+sip.instance=\"<urn:uuid:0>\";q=0.5\r\n\
    Route: <sip:edge.example;lr>,\r\n <sip:192.0.2.20;lr>\r\n\
    Record-Route: <sip:198.51.100.1;lr;ftag=as58f4>\r\n\
    Allow: INVITE, ACK, BYE, CANCEL, REFER, NOTIFY\r\n\
    Session-Expires: 1800;refresher=uac\r\n\
    P-Asserted-Identity: <tel:+4930654321>\r\n\
    Proxy-Authorization: Digest username=\"trunk\", realm=\"carrier.example\", nonce=\"84f1\",\r\n\
    \x20 uri=\"sip:+4930123456@192.0.2.9\", response=\"6629fae49393a05397450978507c4ef1\"\r\n\
    X-Caller: Zo\u{eb}\r\n\
    c: application/sdp\r\n\
    l: 228\r\n\
    \r\n\
    v=0\r\no=- 2890844526 2890844526 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
    m=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=sendonly\r\n\
    m=video 0 RTP/AVP 31\r\na=rtpmap:31 H261/90000\r\n";

const REFER: &str = "REFER sip:3ld812adkjw@198.51.100.7 SIP/2.0\r\n\
    Via: SIP/2.0/TCP 192.0.2.9:5060;branch=z9hG4bKnashds9\r\n\
    Max-Forwards: 70\r\n\
    To: <sip:alice@carrier.example>;tag=3871\r\n\
    From: <sip:platform@192.0.2.9>;tag=1928301774\r\n\
    Call-ID: a84b4c76e66710\r\n\
    CSeq: 2 REFER\r\n\
    r: <sip:482n4z24kdg@198.51.100.20;gr=8594958?Replaces=5924%40198.51.100.20%3Bto-tag%3D9m2n3wq%3Bfrom-tag%3D763231\
    &Require=replaces&User-to-User=56a390f3%3Bpurpose%3Disdn-uui%3Bencoding%3Dhex>\r\n\
    b: \"Platform\" <sip:platform@192.0.2.9>\r\n\
    Target-Dialog: 5924@198.51.100.20;local-tag=9m2n3wq;remote-tag=763231\r\n\
    Contact: <sip:platform@192.0.2.9;transport=tcp>\r\n\
    Content-Length: 0\r\n\r\n";

#[test]
fn an_invite_a_refer_and_a_notify_are_explained() {
    assert_explanation("invite", INVITE.as_bytes());
    assert_explanation("refer", REFER.as_bytes());
    assert_explanation("notify", &load("torture/transfer/19-notify-180.sip"));
}

#[test]
fn broken_messages_are_explained_with_the_place_of_what_is_wrong() {
    for name in ["badinv01", "ncl", "escruri", "multi01"] {
        assert_explanation(name, &load(&format!("torture/rfc4475/{name}.dat")));
    }
    assert_explanation("lf_only", INVITE.replace("\r\n", "\n").as_bytes());
}

/// Every message of the torture folders, by the name of its file.
fn torture() -> Vec<(String, Vec<u8>)> {
    let mut messages = Vec::new();
    for folder in ["rfc4475", "rfc5118", "transfer"] {
        for entry in fs::read_dir(tests_folder().join("torture").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            messages.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    assert!(messages.len() > 250, "{} messages", messages.len());
    messages
}

#[test]
fn the_verdict_is_what_the_parser_the_check_and_the_proxy_do() {
    for (name, bytes) in torture() {
        let explanation = explain(&bytes);
        assert!(!explanation.to_string().is_empty());
        let mut index = Index::new();
        let parsed = parse(&bytes, &mut index);
        let message = Message::new(&bytes, &index);
        let outcome = parsed.map_err(|error| error.kind).and_then(|()| check(message));
        let is_ack = message.method() == Some(Method::Ack);
        let verdict = &explanation.verdict;
        match outcome {
            Err(ParseErrorKind::CSeqMethod) if message.method() == Some(Method::Other) => {
                assert!(matches!(verdict, Verdict::Answer(501, _, _)), "{name}: {verdict:?}");
            }
            Err(kind) if message.is_request() && message.count(Header::Via) > 0 && !is_ack => {
                assert!(
                    matches!(verdict, Verdict::Answer(code, reason, _) if (*code, *reason) == (kind.status(), kind.reason())),
                    "{name}: {verdict:?}, not {kind:?}"
                );
            }
            Err(_) => assert!(matches!(verdict, Verdict::Drop(_)), "{name}: {verdict:?}"),
            Ok(()) if message.is_request() => match proxy::validate(message) {
                Err(refused) => assert!(
                    matches!(verdict, Verdict::Answer(code, reason, _) if (*code, *reason) == (refused.code, refused.reason))
                        || (is_ack && matches!(verdict, Verdict::Drop(_))),
                    "{name}: {verdict:?}, not {refused:?}"
                ),
                Ok(()) => assert!(
                    verdict.is_good() || matches!(verdict, Verdict::Answer(420, _, _)),
                    "{name}: {verdict:?}"
                ),
            },
            Ok(()) => assert!(verdict.is_good(), "{name}: {verdict:?}"),
        }
        let refused_for = |fault: Fault| matches!(fault, Fault::Message(kind) if Err(kind) == outcome);
        let problems = &explanation.problems;
        assert_eq!(
            outcome.is_err(),
            problems.iter().any(|problem| problem.fault.stops_relaying()),
            "{name}: {problems:?}"
        );
        assert!(
            outcome.is_ok() || problems.iter().any(|problem| refused_for(problem.fault)),
            "{name}: {outcome:?} is not among {problems:?}"
        );
    }
}

#[test]
fn the_malformed_fields_are_those_of_the_typed_readers() {
    for (name, bytes) in torture() {
        let mut index = Index::new();
        if parse(&bytes, &mut index).is_err() {
            continue;
        }
        let message = Message::new(&bytes, &index);
        let mut expected: Vec<_> = malformed_fields(message).iter().map(|header| header.name()).collect();
        let mut told: Vec<_> = explain(&bytes)
            .problems
            .iter()
            .filter_map(|problem| match problem.fault {
                Fault::Field(header) => Some(header.name()),
                Fault::Message(ParseErrorKind::Malformed(header)) => Some(header.name()),
                Fault::Message(_) | Fault::Body => None,
            })
            .collect();
        for names in [&mut expected, &mut told] {
            names.sort_unstable();
            names.dedup();
        }
        // What a value without its grammar might mean is the check's business, not the reader's.
        told.retain(|name| *name != "Route" || expected.contains(name));
        assert_eq!(told, expected, "{name}");
    }
}

#[test]
fn every_place_is_within_the_bytes_and_on_its_line() {
    for (name, bytes) in torture() {
        let unix: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\r').collect();
        let behind_lines = [b"\r\n\r\n", &bytes[..]].concat();
        for bytes in [&bytes, &unix, &behind_lines] {
            let explanation = explain(bytes);
            assert!(explanation.to_string().ends_with('\n'));
            for problem in &explanation.problems {
                let place = problem.place;
                assert!(place.offset <= bytes.len(), "{name}: {problem:?}");
                let before = &bytes[..place.offset];
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
                assert_eq!((place.line, place.column), (line, column), "{name}: {problem:?}");
            }
        }
    }
}

#[test]
fn messages_cut_anywhere_are_explained() {
    for end in 0..INVITE.len() {
        assert!(
            explain(&INVITE.as_bytes()[..end])
                .to_string()
                .contains("A proxy would: ")
        );
        assert!(
            explain(&INVITE.as_bytes()[end..])
                .to_string()
                .contains("A proxy would: ")
        );
    }
}

#[test]
fn what_is_odd_about_a_file_is_told() {
    let hints = |text: &str| explain(text.as_bytes()).hints.join("\n");
    assert_eq!(hints(INVITE), "");
    assert!(hints(&format!("\r\n\r\n{INVITE}")).starts_with("2 empty lines before the message"));
    let next = INVITE.lines().count() + 1;
    assert!(hints(&format!("{INVITE}{REFER}")).starts_with(&format!("another message begins at line {next};")));
    assert!(hints(&format!("{INVITE}\r\nrubbish")).contains("beyond Content-Length"));
    let without_length = INVITE.replace("l: 228\r\n", "");
    assert!(hints(&format!("{without_length}{REFER}")).contains("looks like the start of another message"));
    let unix = INVITE.replace("\r\n", "\n");
    assert!(hints(&unix).starts_with("line 1 ends with LF alone; SIP wants CRLF: unix2dos"));
    let explanation = explain(unix.as_bytes());
    assert!(!explanation.verdict.is_good());
    assert!(explanation.with_crlf.is_some_and(|verdict| verdict.is_good()));
    assert_eq!(explanation.problems.len(), 1);
}

#[test]
fn a_message_is_refused_for_what_rfc_3261_16_3_names() {
    let verdict = |from: &str, to: &str| explain(INVITE.replacen(from, to, 1).as_bytes()).verdict;
    let code = |from: &str, to: &str| match verdict(from, to) {
        Verdict::Answer(code, _, _) => code,
        other => panic!("{to}: {other:?}"),
    };
    assert!(matches!(verdict("", ""), Verdict::Forward(_)));
    assert_eq!(code("Max-Forwards: 69", "Max-Forwards: 0"), 483);
    assert_eq!(
        code("sip:+4930123456@192.0.2.9:5060", "sips:+4930123456@192.0.2.9:5061"),
        416
    );
    assert_eq!(code("Allow:", "Proxy-Require: sec-agree\r\nAllow:"), 420);
    assert_eq!(code("SIP/2.0\r\n", "SIP/3.0\r\n"), 505);
    assert_eq!(code("Allow:", &("X: y\r\n".repeat(128) + "Allow:")), 513);
    assert_eq!(code("Allow:", &("X: y\r\n".repeat(110) + "Allow:")), 513);
    assert_eq!(code("CSeq: 314159 INVITE", "CSeq: 314159 BYE"), 400);
    assert!(matches!(verdict("v: SIP", "w: SIP"), Verdict::Drop(_)));
    let too_large = format!("{INVITE}{}", "x".repeat(65_536));
    assert!(matches!(explain(too_large.as_bytes()).verdict, Verdict::Drop(_)));
}

#[test]
fn the_caret_stands_under_what_is_wrong() {
    let first = |text: String| {
        let explanation = explain(text.as_bytes());
        let problem = &explanation.problems[0];
        (
            problem.place.line,
            problem.place.column,
            problem.why.clone().into_owned(),
        )
    };
    for (from, to, line, column, why) in [
        ("INVITE sip", "INVITE  sip", 1, 8, "white space"),
        ("SIP/2.0\r\n", "SIP/2.0 \r\n", 1, 57, "white space follows"),
        ("192.0.2.9:5060", "192.0.2.9:70000", 1, 33, "the port"),
        ("198.51.100.7:5060;", "198.51.100.7:0;", 2, 28, "the port"),
        (";rport", ";rport=x", 2, 58, "rport is not a port"),
        (";tag=as58f4", ";tag=a;tag=b", 4, 52, "a parameter stands twice"),
        (";tag=as58f4", ";tag", 4, 46, "a tag needs a value"),
        ("John\" <sip", "John <sip", 4, 7, "this quote is never closed"),
        ("To: <sip:", "To: <", 5, 6, "this is no URI"),
        ("3848276298220188511@", "3848 ", 6, 4, "a Call-ID is one word"),
        (
            "Route: <sip:edge.example;lr>",
            "Route: sip:edge.example;lr",
            9,
            8,
            "must stand in angle brackets",
        ),
        ("BYE, CANCEL", "BYE,, CANCEL", 12, 25, "an element of the list is empty"),
        ("m=video 0", "m=video", 29, 1, "a malformed `m=`"),
    ] {
        let text = INVITE.replacen(from, to, 1).replace("l: 228\r\n", "");
        let (found_line, found_column, found_why) = first(text);
        assert!(
            (found_line, found_column) == (line, column) && found_why.contains(why),
            "{to}: line {found_line}, column {found_column}: {found_why}"
        );
    }
}
