use proptest::prelude::*;

use super::*;

const SESSION: Session = Session {
    id: 42,
    version: 3,
    address: IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 9)),
};

/// As baresip 3 writes it: Opus first, everything with an rtpmap, RTCP attributes.
const BARESIP: &str = "v=0\r\no=- 2890844526 1563847283 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
    a=tool:baresip 3.9.0\r\nm=audio 16398 RTP/AVP 96 0 8 101\r\nb=AS:125\r\na=rtpmap:96 opus/48000/2\r\n\
    a=fmtp:96 stereo=1;sprop-stereo=1\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=rtcp:16399\r\na=sendrecv\r\na=label:1\r\n\
    a=rtcp-rsize\r\na=ssrc:2963117214 cname:sip:a@example.com\r\na=ptime:20\r\n";

/// As FreeSWITCH 1.10 writes it: o= with a name, static types first and without rtpmap, silence suppression.
const FREESWITCH: &str = "v=0\no=FreeSWITCH 1719224343 1719224344 IN IP4 203.0.113.5\ns=FreeSWITCH\n\
    c=IN IP4 203.0.113.5\nt=0 0\nm=audio 27532 RTP/AVP 9 8 0 102 103 13\na=rtpmap:102 telephone-event/16000\n\
    a=fmtp:102 0-16\na=rtpmap:103 telephone-event/8000\na=fmtp:103 0-16\na=rtpmap:13 CN/8000\na=ptime:20\n";

/// As Chromium writes it: DTLS-SRTP, ICE with nothing to fall back to, BUNDLE.
const CHROMIUM: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\n\
    c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:F7gI\r\na=ice-pwd:x9cml/YzichV2+XlhiMu8g\r\n\
    a=ice-options:trickle\r\na=fingerprint:sha-256 D2:FA:0E\r\na=setup:actpass\r\na=mid:0\r\na=sendrecv\r\n\
    a=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:126 telephone-event/8000\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n\
    a=recvonly\r\na=rtpmap:96 VP8/90000\r\n";

/// As a carrier's SBC writes it: no c= for the session, fax beside voice, numbers without `-`.
const CARRIER: &str = "v=0\r\no=SBC 0 0 IN IP4 192.0.2.77\r\ns=sip call\r\nt=3034423619 3042462419\r\n\
    m=audio 50010/1 RTP/AVP 8 0 18 100\r\nc=IN IP4 192.0.2.78\r\na=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\n\
    a=rtpmap:100 telephone-event/8000\r\na=fmtp:100 0-15,66\r\na=sendonly\r\na=maxptime:30\r\n\
    m=image 50012 udptl t38\r\nc=IN IP4 192.0.2.78\r\na=T38FaxVersion:0\r\n";

fn parse(text: &str) -> Description<'_> {
    Description::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn media_of(answer: Result<String, Refusal>) -> String {
    let answer = answer.unwrap();
    let head = "v=0\r\no=- 42 3 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n";
    answer.strip_prefix(head).unwrap_or(&answer).replace("\r\n", "|")
}

#[test]
fn offers_are_answered_as_their_writers_expect() {
    assert_eq!(
        media_of(SESSION.answer(&parse(BARESIP), None)),
        "m=audio 9 RTP/AVP 0 101|a=rtpmap:0 PCMU/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-15|a=inactive|"
    );
    assert_eq!(
        media_of(SESSION.answer(&parse(FREESWITCH), None)),
        "m=audio 9 RTP/AVP 8 103|a=rtpmap:8 PCMA/8000|a=rtpmap:103 telephone-event/8000|a=fmtp:103 0-16|a=inactive|"
    );
    assert_eq!(
        media_of(SESSION.answer(&parse(CARRIER), None)),
        "v=0|o=- 42 3 IN IP4 198.51.100.9|s=-|c=IN IP4 198.51.100.9|t=3034423619 3042462419|\
         m=audio 9 RTP/AVP 8 100|a=rtpmap:8 PCMA/8000|a=rtpmap:100 telephone-event/8000|a=fmtp:100 0-15,66|a=inactive|\
         m=image 0 udptl t38|"
    );
}

#[test]
fn with_a_media_address_the_stream_goes_there_and_the_direction_is_reversed() {
    let there = Some("[2001:db8::7]:4000".parse().unwrap());
    let answer = SESSION.answer(&parse(CARRIER), there).unwrap();
    assert!(
        answer.contains("o=- 42 3 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP6 2001:db8::7\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("m=audio 4000 RTP/AVP 8 100\r\n") && answer.contains("a=recvonly\r\n"),
        "{answer}"
    );
    let answer = SESSION.answer(&parse(CHROMIUM), there).unwrap();
    assert!(answer.contains("m=audio 4000 UDP/TLS/RTP/SAVPF 0 126\r\n"), "{answer}");
    assert!(
        answer.contains("a=sendrecv\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\n"),
        "{answer}"
    );
    assert!(SESSION.offer(there).contains("m=audio 4000 RTP/AVP 0 8 101\r\n"));
}

#[test]
fn what_needs_more_than_plain_rtp_is_refused_with_its_reason() {
    let head = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n";
    for (media, expected) in [
        ("m=audio 4000 RTP/SAVP 0\n", Refusal::Transport),
        ("m=audio 4000 UDP/TLS/RTP/SAVPF 0\n", Refusal::Transport),
        ("m=audio 4000 TCP/RTP/AVP 0\n", Refusal::Transport),
        ("m=audio 9 RTP/AVP 0\na=ice-ufrag:x\n", Refusal::IceOnly),
        ("a=ice-ufrag:x\nm=audio 4000 RTP/AVP 0\nc=IN IP6 ::\n", Refusal::IceOnly),
        (
            "m=video 4000 RTP/AVP 96\nm=audio 0 RTP/AVP 0\na=bundle-only\n",
            Refusal::BundleOnly,
        ),
        (
            "m=audio 4000 RTP/AVP 18 96\na=rtpmap:96 opus/48000/2\n",
            Refusal::NoFormat,
        ),
        ("m=audio 4000 RTP/AVP 0\na=rtpmap:0 L16/44100\n", Refusal::NoFormat),
        ("m=audio 4000 RTP/AVP 0\na=rtpmap:0 PCMU/8000/2\n", Refusal::NoFormat),
        ("m=video 4000 RTP/AVP 0\n", Refusal::NoAudio),
        ("m=image 4000 udptl t38\nm=video 4000 RTP/AVP 0\n", Refusal::NoAudio),
    ] {
        let offer = format!("{head}{media}");
        assert_eq!(SESSION.answer(&parse(&offer), None), Err(expected), "{media}");
        assert!((300..400).contains(&expected.warning().0) && !expected.to_string().is_empty());
    }
    assert_eq!(SESSION.answer(&parse(CHROMIUM), None), Err(Refusal::Transport));
    for (media, answered) in [
        // Nothing is offered: nothing can be refused.
        ("", ""),
        ("m=audio 0 RTP/AVP 0\n", "m=audio 0 RTP/AVP 0|"),
        ("m=audio 0 RTP/SAVP 96 0\n", "m=audio 0 RTP/SAVP 96|"),
        // ICE with an address to fall back to; the first of two audio streams; dynamic types; AVPF.
        (
            "a=ice-ufrag:x\nm=audio 4000 RTP/AVP 0\n",
            "m=audio 9 RTP/AVP 0|a=rtpmap:0 PCMU/8000|a=inactive|",
        ),
        (
            "m=audio 1 RTP/SAVP 0\nm=Audio 2 rtp/avpf  97  101\na=rtpmap:97 pcma/8000/1\nm=audio 3 RTP/AVP 0\n",
            "m=audio 0 RTP/SAVP 0|m=Audio 9 rtp/avpf 97|a=rtpmap:97 PCMA/8000|a=inactive|m=audio 0 RTP/AVP 0|",
        ),
        // Events at another clock rate, and a list of events that is none, are left out.
        (
            "m=audio 1 RTP/AVP 0 96 97\na=rtpmap:96 telephone-event/48000\na=rtpmap:97 Telephone-Event/8000\na=fmtp:97 x\n",
            "m=audio 9 RTP/AVP 0 97|a=rtpmap:0 PCMU/8000|a=rtpmap:97 telephone-event/8000|a=inactive|",
        ),
    ] {
        let offer = format!("{head}{media}");
        assert_eq!(media_of(SESSION.answer(&parse(&offer), None)), answered, "{media}");
    }
}

#[test]
fn descriptions_are_read_as_they_are_written() {
    let read = parse(CARRIER);
    assert_eq!(
        (read.origin.username, read.origin.id, read.origin.version),
        (&b"SBC"[..], &b"0"[..], &b"0"[..])
    );
    assert_eq!(
        (read.address, &read.timing[..]),
        (None, &[&b"3034423619 3042462419"[..]][..])
    );
    let [audio, image] = &read.media[..] else {
        panic!("two media")
    };
    assert_eq!((audio.port, audio.address), (50_010, Some(&b"192.0.2.78"[..])));
    assert_eq!(read.direction(audio), Direction::SendOnly);
    let encodings: Vec<_> = audio.encodings().map(|one| (one.payload_type, one.name)).collect();
    assert_eq!(
        encodings,
        [
            (8, &b"PCMA"[..]),
            (0, b"PCMU"),
            (18, b"G729"),
            (100, b"telephone-event")
        ]
    );
    assert_eq!((image.protocol, image.formats), (&b"udptl"[..], &b"t38"[..]));
    assert_eq!(
        image.attributes().next(),
        Some((&b"T38FaxVersion"[..], Some(&b"0"[..])))
    );

    let text = "\nv=0\no=a 1 2 IN IP6 ::1 \nc=IN IP4 224.2.1.1/127/3\na=inactive\nm=audio 1 RTP/AVP 0\nm=audio 2 RTP/AVP 0\na=recvonly";
    let read = parse(text);
    assert_eq!(
        (read.origin.address, read.address),
        (&b"::1"[..], Some(&b"224.2.1.1"[..]))
    );
    let directions: Vec<_> = read.media.iter().map(|media| read.direction(media)).collect();
    assert_eq!(directions, [Direction::Inactive, Direction::RecvOnly]);
    assert_eq!(read.attributes().next(), Some((&b"inactive"[..], None)));
}

#[test]
fn what_is_no_description_is_refused_with_its_line() {
    let origin = "o=- 1 1 IN IP4 a";
    let many = |what: &str, count: usize| format!("v=0\n{origin}\n{}", what.repeat(count));
    for (text, line, problem) in [
        ("".to_owned(), 0, SdpProblem::Version),
        ("\r\n\r\n".to_owned(), 2, SdpProblem::Version),
        (format!("{origin}\nv=0"), 1, SdpProblem::Version),
        (format!("v=1\n{origin}"), 1, SdpProblem::Version),
        ("v=0\ns=-".to_owned(), 2, SdpProblem::Origin),
        ("v=0\no=- x 1 IN IP4 a".to_owned(), 2, SdpProblem::Origin),
        ("v=0\no=- 1 1 IN IP4".to_owned(), 2, SdpProblem::Origin),
        (format!("v=0\n{origin}\n{origin}"), 3, SdpProblem::Origin),
        (format!("v=0\nm=audio 1 RTP/AVP 0\n{origin}"), 3, SdpProblem::Origin),
        (format!("v=0\n{origin}\nc=IN IP4"), 3, SdpProblem::Connection),
        (format!("v=0\n{origin}\nt=now 0"), 3, SdpProblem::Timing),
        (format!("v=0\n{origin}\nm=audio 1 RTP/AVP"), 3, SdpProblem::Media),
        (format!("v=0\n{origin}\nm=audio 65536 RTP/AVP 0"), 3, SdpProblem::Media),
        (format!("v=0\n{origin}\nm=audio -1 RTP/AVP 0"), 3, SdpProblem::Media),
        (format!("v=0\n{origin}\nm=audio 1 RTP/AVP \u{e9}"), 3, SdpProblem::Media),
        (format!("v=0\n{origin}\nhello"), 3, SdpProblem::Line),
        (format!("v=0\n{origin}\nA=b"), 3, SdpProblem::Line),
        (format!("v=0\n{origin}\ns=a\rb"), 3, SdpProblem::Line),
        (format!("v=0\n{origin}\ns=\0"), 3, SdpProblem::Line),
        (many("s=\n", LINES_MAX), LINES_MAX + 1, SdpProblem::TooLarge),
        (
            many("m=audio 1 RTP/AVP 0\n", MEDIA_MAX + 1),
            MEDIA_MAX + 3,
            SdpProblem::TooLarge,
        ),
        (many(&"s".repeat(1 << 10), 33), 0, SdpProblem::TooLarge),
    ] {
        let error = Description::parse(text.as_bytes()).unwrap_err();
        assert_eq!((error.line, error.problem), (line, problem), "{text:.80}");
    }
}

#[test]
fn an_offer_of_our_own_can_be_answered_by_ourselves() {
    let offer = SESSION.offer(None);
    assert_eq!(
        offer,
        "v=0\r\no=- 42 3 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n\
         m=audio 9 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=inactive\r\n"
    );
    assert_eq!(
        media_of(SESSION.answer(&parse(&offer), None)),
        "m=audio 9 RTP/AVP 0 101|a=rtpmap:0 PCMU/8000|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-15|a=inactive|"
    );
}

/// Descriptions close to good ones.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let seeds = [BARESIP, FREESWITCH, CHROMIUM, CARRIER];
    let pieces = [
        "\r\n",
        "\n",
        "\r",
        "m=audio 5 RTP/AVP 0 8\r\n",
        " ",
        "0",
        "a=",
        ":",
        "/",
        "\0",
        "\u{e9}",
        "c=IN IP4 1.2.3.4\n",
    ];
    let change = (
        any::<prop::sample::Index>(),
        0..6usize,
        prop::sample::select(pieces.to_vec()),
    );
    let changes = prop::collection::vec(change, 0..6);
    (prop::sample::select(seeds.to_vec()), changes).prop_map(|(seed, changes)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (place, removed, inserted) in changes {
            let at = place.index(bytes.len() + 1);
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, inserted.bytes());
        }
        bytes
    })
}

fn answers_read_back(bytes: &[u8]) {
    let Ok(offer) = Description::parse(bytes) else { return };
    for address in [None, Some("203.0.113.1:6000".parse().unwrap())] {
        let Ok(text) = SESSION.answer(&offer, address) else {
            continue;
        };
        let answer = parse(&text);
        assert_eq!((answer.origin.id, answer.origin.version), (&b"42"[..], &b"3"[..]));
        assert_eq!(answer.media.len(), offer.media.len(), "every medium is answered");
        if !offer.timing.is_empty() {
            assert_eq!(answer.timing, offer.timing);
        }
        let mut kept = 0;
        for (answered, offered) in answer.media.iter().zip(&offer.media) {
            assert_eq!((answered.kind, answered.protocol), (offered.kind, offered.protocol));
            if answered.port == 0 {
                continue;
            }
            kept += 1;
            assert_eq!(answered.port, address.map_or(9, |address| address.port()));
            let direction = address.map_or(Direction::Inactive, |_| offer.direction(offered).reversed());
            assert_eq!(answer.direction(answered), direction);
            let of_offer: Vec<_> = offered
                .encodings()
                .map(|one| (one.payload_type, one.clock_rate))
                .collect();
            let in_answer: Vec<_> = answered
                .encodings()
                .map(|one| (one.payload_type, one.clock_rate))
                .collect();
            assert!((1..=2).contains(&in_answer.len()) && in_answer.iter().all(|one| of_offer.contains(one)));
        }
        assert!(kept <= 1, "one stream at most is kept");
        let again = SESSION.answer(&offer, address);
        assert_eq!(
            again.as_deref(),
            Ok(text.as_str()),
            "the same offer has the same answer"
        );
    }
}

proptest! {
    #[test]
    fn answers_to_any_bytes_read_back(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        answers_read_back(&bytes);
    }

    #[test]
    fn answers_to_offers_with_some_bytes_changed_read_back(bytes in mutated()) {
        answers_read_back(&bytes);
    }
}
