use super::*;
use crate::message::MessageBuf;

fn auth(username: &str, password: &str) -> Auth {
    Auth {
        username: username.into(),
        password: password.into(),
        realms: Vec::new(),
    }
}

fn random() -> Random {
    Random::new([7; 16])
}

fn response(lines: &str) -> MessageBuf {
    let text = format!(
        "SIP/2.0 407 X\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
         Call-ID: x\r\nCSeq: 1 INVITE\r\n{lines}Content-Length: 0\r\n\r\n"
    );
    MessageBuf::parse(text).unwrap()
}

fn request(lines: &str) -> MessageBuf {
    let text = format!(
        "INVITE sip:c@d SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n\
         Call-ID: x\r\nCSeq: 1 INVITE\r\n{lines}Content-Length: 0\r\n\r\n"
    );
    MessageBuf::parse(text).unwrap()
}

/// What is chosen of these challenges by whoever has no credentials of a party, and has sent none.
fn chosen(lines: &str, auth: &Auth) -> Result<SmallVec<[Session; 1]>, Unanswered> {
    let response = response(lines);
    choose(response.as_message(), auth, |_, _| false, |_, _| false, &mut random())
}

fn session(challenge: &str) -> Session {
    let line = format!("WWW-Authenticate: Digest {challenge}\r\n");
    let chosen = chosen(&line, &auth("u", "p")).unwrap_or_else(|error| panic!("{challenge}: {error:?}"));
    chosen.into_iter().next().unwrap()
}

fn get(uri: &str) -> Request<'_> {
    Request {
        method: b"GET",
        uri: uri.as_bytes(),
        body: b"body",
    }
}

/// The parameter of an answer, as it stands there.
fn param<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let rest = &value[value.find(&format!(" {name}="))? + name.len() + 2..];
    Some(match rest.strip_prefix('"') {
        Some(quoted) => &rest[..quoted.find('"').unwrap() + 2],
        None => &rest[..rest.find(',').unwrap_or(rest.len())],
    })
}

#[test]
fn the_digests_are_those_of_the_rfcs() {
    let mufasa = auth("Mufasa", "Circle of Life");
    let of_2617 = auth("Mufasa", "Circle Of Life");
    let jason = auth("J\u{e4}s\u{f8}n Doe", "Secret, or not?");
    let of_7616 = "realm=\"http-auth@example.org\", nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                   opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
    let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
    let index = "/dir/index.html";
    let first = "realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"";
    let all = [
        // RFC 7616 §3.9.1.
        (
            &mufasa,
            of_7616,
            ", qop=\"auth, auth-int\", algorithm=MD5",
            cnonce,
            index,
            "8ca523f5e9506fed4657c9700eebdbec",
        ),
        (
            &mufasa,
            of_7616,
            ", qop=\"auth, auth-int\", algorithm=SHA-256",
            cnonce,
            index,
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
        // RFC 7616 §3.9.2 as erratum 4897 has it: the digests of the text are of another hash.
        (
            &jason,
            "realm=\"api@example.org\", nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\"",
            ", qop=\"auth\", algorithm=SHA-512-256, opaque=\"HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS\", charset=UTF-8, \
             userhash=true",
            "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
            "/doe.json",
            "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5",
        ),
        // RFC 2617 §3.5, and the same without a qop, as RFC 2069 has it.
        (
            &of_2617,
            first,
            ", qop=\"auth,auth-int\"",
            "0a4f113b",
            index,
            "6629fae49393a05397450978507c4ef1",
        ),
        (
            &of_2617,
            first,
            "",
            "0a4f113b",
            index,
            "670fd8c2df070c60b045671b8b24ff02",
        ),
        // The session's key, and the body, worked out by hashlib.
        (
            &mufasa,
            of_7616,
            ", qop=auth, algorithm=MD5-sess",
            cnonce,
            index,
            "e783283f46242139c486a698fec7211d",
        ),
        (
            &mufasa,
            of_7616,
            ", qop=auth, algorithm=SHA-256-sess",
            cnonce,
            index,
            "2fd51b3a77ad75bad6afad6003e818d767133c46d9e2749e7f5232ae1ea3efd7",
        ),
    ];
    for (auth, challenge, more, cnonce, uri, expected) in all {
        let mut session = session(&format!("{challenge}{more}"));
        session.cnonce = cnonce.as_bytes().into();
        let value = String::from_utf8(session.answer(auth, &get(uri))).unwrap();
        assert_eq!(param(&value, "response"), Some(&*format!("\"{expected}\"")), "{value}");
        assert_eq!(param(&value, "uri"), Some(&*format!("\"{uri}\"")));
        let is_counted = more.contains("qop");
        assert_eq!(param(&value, "nc"), is_counted.then_some("00000001"), "{value}");
        assert_eq!(param(&value, "qop"), is_counted.then_some("auth"));
        assert_eq!(param(&value, "cnonce").is_some(), is_counted);
    }
    let mut whole = session(&format!("{of_7616}, qop=\"auth-int\", algorithm=SHA-256"));
    whole.cnonce = cnonce.as_bytes().into();
    whole.count = 1;
    let value = String::from_utf8(whole.answer(&mufasa, &get(index))).unwrap();
    assert_eq!(
        (param(&value, "qop"), param(&value, "nc")),
        (Some("auth-int"), Some("00000002"))
    );
    assert_eq!(
        param(&value, "response"),
        Some("\"fc22e6ceb371cbd5a9c5114e4542f7ed50e4ec2058c6f5f3c2c219ea16f0030e\"")
    );
    let mut whole = session(&format!("{of_7616}, qop=\"auth-int\""));
    whole.cnonce = cnonce.as_bytes().into();
    whole.count = 1;
    let value = String::from_utf8(whole.answer(&mufasa, &get(index))).unwrap();
    assert_eq!(param(&value, "response"), Some("\"7a5004b82dadfc4b2c31dfd4f9fab224\""));
}

#[test]
fn an_answer_can_be_read_and_has_what_was_asked_for() {
    let challenge =
        "realm=\"a \\\"b\\\"\", nonce=n==, opaque=\"o\\x\", algorithm=\"SHA-256\", qop=\"auth\", userhash=TRUE";
    let mut session = session(challenge);
    let name = auth("J\u{e4}s \"x\"", "p");
    let value = session.answer(&name, &get("sip:a;b=\"c\\\"@d"));
    let Some(Credentials::Digest(read)) = Credentials::parse(&value) else {
        panic!("{}", value.escape_ascii());
    };
    assert_eq!(read.realm.decoded(), &b"a \"b\""[..]);
    assert_eq!(read.nonce.as_received(), b"\"n==\"");
    assert_eq!(read.opaque.unwrap().as_received(), b"\"o\\x\"");
    assert_eq!(read.uri.decoded(), &b"sip:a;b=\"c\\\"@d"[..]);
    assert_eq!(read.algorithm, Algorithm::Sha256);
    assert!(read.userhash);
    let hashed = Hash::Sha256.of(&[name.username.as_bytes(), b"a \"b\""]);
    assert_eq!(read.username.unwrap().decoded(), &hashed[..]);
    let text = String::from_utf8(value.clone()).unwrap();
    for unquoted in ["algorithm=SHA-256,", "qop=auth,", "nc=00000001,", "userhash=true"] {
        assert!(text.contains(unquoted), "{text}");
    }

    let mut plain = self::session("realm=\"r\", nonce=\"n\"");
    let value = String::from_utf8(plain.answer(&name, &get("sip:x"))).unwrap();
    assert_eq!(param(&value, "algorithm"), None, "the challenge names none");
    assert!(
        value.starts_with(
            "Digest username=\"J\u{e4}s \\\"x\\\"\", realm=\"r\", nonce=\"n\", uri=\"sip:x\", response=\""
        )
    );
}

#[test]
fn of_each_realm_the_topmost_known_algorithm_is_answered_and_md5_last() {
    let challenge = |realm: &str, nonce: &str, algorithm: &str| {
        format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", qop=\"auth\", algorithm={algorithm}\r\n")
    };
    let lines = [
        "Proxy-Authenticate: Basic realm=\"a\"\r\n".to_owned(),
        format!("Proxy-Authenticate: {}", challenge("a", "1", "SHA-999")),
        "Proxy-Authenticate: Digest realm=\"a\"\r\n".to_owned(),
        format!("Proxy-Authenticate: {}", challenge("a", "2", "SHA-256")),
        format!("Proxy-Authenticate: {}", challenge("a", "3", "MD5")),
        format!("Proxy-Authenticate: {}", challenge("b", "4", "MD5")),
        format!("Proxy-Authenticate: {}", challenge("b", "5", "SHA-256")),
        format!("WWW-Authenticate: {}", challenge("a", "6", "MD5")),
    ]
    .concat();
    let answered = |auth: &Auth| {
        let chosen = chosen(&lines, auth)?;
        let names = chosen
            .iter()
            .map(|it| (it.asks, String::from_utf8_lossy(&it.nonce).into_owned()));
        Ok(names.collect::<Vec<_>>())
    };
    let (user_agent, proxy) = (
        |n: &str| (Asks::UserAgent, format!("\"{n}\"")),
        |n: &str| (Asks::Proxy, format!("\"{n}\"")),
    );
    assert_eq!(
        answered(&auth("u", "p")),
        Ok(vec![user_agent("6"), proxy("2"), proxy("5")])
    );
    let only = |realm: &str| Auth {
        realms: vec![realm.to_owned()],
        ..auth("u", "p")
    };
    assert_eq!(answered(&only("b")), Ok(vec![proxy("5")]));
    assert_eq!(
        answered(&only("A")),
        Err(Unanswered::NotForUs),
        "a realm compares byte for byte"
    );
}

#[test]
fn what_cannot_be_answered_is_not() {
    let long = "x".repeat(CHALLENGE_BYTES_MAX);
    for value in [
        "Basic realm=\"a\"",
        "Digest realm=\"a\", nonce",
        "Digest realm=\"a\"",
        "Digest realm=\"a\", nonce=\"n\", algorithm=AKAv1-MD5",
        "Digest realm=\"a\", nonce=\"n\", qop=\"auth-conf\"",
        "Digest realm=\"a\", nonce=\"n\", qop=\"\"",
        "Digest realm=\"a\", nonce=\"n\", algorithm=MD5-sess",
        &format!("Digest realm=\"a\", nonce=\"{long}\""),
    ] {
        let line = format!("WWW-Authenticate: {value}\r\n");
        assert_eq!(
            chosen(&line, &auth("u", "p")).err(),
            Some(Unanswered::NotForUs),
            "{value:.60}"
        );
    }
    assert_eq!(chosen("", &auth("u", "p")).err(), Some(Unanswered::NotForUs));
}

#[test]
fn rejected_credentials_are_sent_again_only_if_they_were_stale() {
    let pick = |lines: &str, was_answered: &str, of_party: &str| {
        let response = response(lines);
        let is = |name: &str| {
            let name = name.to_owned();
            move |_: Asks, realm: &[u8]| realm == name.as_bytes()
        };
        let chosen = choose(
            response.as_message(),
            &auth("u", "p"),
            is(of_party),
            is(was_answered),
            &mut random(),
        );
        chosen.map(|chosen| chosen.len())
    };
    let (a, b) = (
        "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\"\r\n",
        "WWW-Authenticate: Digest realm=\"b\", nonce=\"2\"\r\n",
    );
    let stale = "WWW-Authenticate: Digest realm=\"a\", nonce=\"3\", stale=true\r\n";
    assert_eq!(pick(a, "a", ""), Err(Unanswered::Rejected));
    assert_eq!(pick(stale, "a", ""), Ok(1));
    assert_eq!(pick(b, "a", ""), Ok(1), "a second server behind the first");
    assert_eq!(pick(&[b, a].concat(), "a", ""), Err(Unanswered::Rejected));
    assert_eq!(pick(&[a, b].concat(), "", "b"), Err(Unanswered::OfParty));
}

#[test]
fn sessions_count_and_the_oldest_gives_way() {
    let auth = auth("u", "p");
    let mut sessions = Sessions::default();
    let take = |sessions: &mut Sessions, realm: &str, nonce: &str| {
        let line = format!("Proxy-Authenticate: Digest realm=\"{realm}\", nonce=\"{nonce}\", qop=auth\r\n");
        sessions.take(chosen(&line, &auth).unwrap());
    };
    let send = |sessions: &mut Sessions| {
        String::from_utf8(sessions.lines(&auth, &get("sip:x"), |_, realm| realm == b"p")).unwrap()
    };
    take(&mut sessions, "a", "1");
    take(&mut sessions, "p", "1");
    assert!(send(&mut sessions).contains("nc=00000001"));
    let second = send(&mut sessions);
    assert!(
        second.contains("nc=00000002") && second.lines().count() == 1,
        "{second}"
    );
    take(&mut sessions, "a", "2");
    assert!(send(&mut sessions).contains("nonce=\"2\"") && sessions.is_of(Asks::Proxy, b"a"));
    for realm in ["c", "d", "e"] {
        take(&mut sessions, realm, "1");
    }
    assert_eq!(sessions.list.len(), REALMS_MAX);
    assert!(!sessions.is_of(Asks::Proxy, b"p") && sessions.is_of(Asks::Proxy, b"a"));

    sessions.keep_for_ack(7, b"x: y\r\n");
    assert_eq!((sessions.for_ack(7), sessions.for_ack(8)), (&b"x: y\r\n"[..], &b""[..]));
    for number in 8..=9 {
        sessions.keep_for_ack(number, b"z: z\r\n");
    }
    assert_eq!(
        (sessions.for_ack(7), sessions.for_ack(9)),
        (&b"x: y\r\n"[..], &b"z: z\r\n"[..])
    );
    let early = sessions.hand_over(false);
    assert_eq!((early.list.len(), early.for_ack(7)), (0, &b"x: y\r\n"[..]));
    let mut answered = early;
    answered.inherit(sessions.hand_over(true));
    assert_eq!((answered.list.len(), sessions.list.len()), (REALMS_MAX, 0));
    assert_eq!(
        sessions.hand_over(true).list.len(),
        0,
        "one dialog alone counts a nonce"
    );
    answered.forget();
    assert_eq!(send(&mut answered), "");
    answered.keep_for_ack(10, b"z: z\r\n");
    answered.keep_for_ack(9, b"");
    assert_eq!(answered.for_ack(9), b"", "sent again without");
}

#[test]
fn the_lines_of_an_invite_are_known_behind_seven_others() {
    let mut sessions = Sessions::default();
    for number in 1..=8 {
        sessions.keep_for_ack(number, format!("x: {number}\r\n").as_bytes());
    }
    assert_eq!(sessions.for_ack(1), b"x: 1\r\n");
    sessions.keep_for_ack(9, b"x: 9\r\n");
    assert_eq!((sessions.for_ack(1), sessions.for_ack(2)), (&b""[..], &b"x: 2\r\n"[..]));
}

#[test]
fn the_credentials_of_a_realm_are_found_in_their_header_only() {
    let request = request(
        "Proxy-Authorization: Digest username=\"u\",realm=\"p\",nonce=\"3\",uri=\"sip:b\",response=\"0f\"\r\n\
         Authorization: Basic QQ==\r\nProxy-Authorization: Digest broken\r\n",
    );
    let message = request.as_message();
    assert!(has_credentials(message, Asks::Proxy, b"p"));
    assert!(!has_credentials(message, Asks::UserAgent, b"p") && !has_credentials(message, Asks::Proxy, b"P"));
    let spans: Vec<_> = credential_lines(message, |_, _| true).collect();
    assert_eq!(spans.len(), 1);
    assert!(message.bytes()[spans[0].clone()].starts_with(b"Proxy-Authorization: Digest username"));
}

#[test]
fn debugging_shows_no_password() {
    let shown = format!("{:?}", auth("alice", "hush hush"));
    assert!(shown.contains("alice") && !shown.contains("hush"), "{shown}");
}
