//! STUN Binding Requests on a SIP socket: how a client behind a NAT keeps its binding open and learns what it looks like from
//! outside (RFC 5626 §5.4 and §8, RFC 8489).
//!
//! ```text
//!  octet 0    SIP: a letter of a method or of "SIP/2.0"       CR, LF: a keep-alive, or lines before a message
//!             STUN: 0 or 1, the two topmost bits of a type that are always zero and the next six
//! ```

use std::net::{IpAddr, SocketAddr};

/// Whether a datagram is of STUN and not of SIP. RFC 5626 §8: the first octet of a Binding message is 0 or 1, that of a SIP
/// message never is. Datagrams of NUL alone are keep-alives of older custom and must be told apart before.
pub fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0 | 1))
}

/// Why a datagram of STUN is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// RFC 8489 §6.3: silently discarded. Its length is not that of its attributes, its magic cookie is another (as that of
    /// RFC 3489 clients), its fingerprint is wrong, or its method is not Binding.
    Malformed,
    /// A Binding Indication, which wants no answer (§6.3.2), or a response, and referee asks nobody.
    NotARequest,
}

/// The longest answer: a header, ERROR-CODE with its reason, and UNKNOWN-ATTRIBUTES of eight types.
pub const ANSWER_BYTES_MAX: usize = HEADER + ATTRIBUTE + 4 + UNKNOWN_REASON.len() + ATTRIBUTE + 2 * UNKNOWN_MAX;

/// Writes the answer to a Binding Request from `source` behind what `out` holds: XOR-MAPPED-ADDRESS alone, which is all
/// that RFC 5626 §8 asks for, or a 420 that names what must be understood and is not (RFC 8489 §6.3.1). No authentication
/// is asked for, so that credentials in a request are read over. The answer has at most three times the bytes of the
/// request.
///
/// # Errors
/// There is nothing to answer; nothing was written.
pub fn answer(request: &[u8], source: SocketAddr, out: &mut Vec<u8>) -> Result<(), Unanswered> {
    let (header, attributes) = request.split_at_checked(HEADER).ok_or(Unanswered::Malformed)?;
    let length = usize::from(be16(&header[2..]));
    if header[4..8] != MAGIC_COOKIE || length != attributes.len() || !length.is_multiple_of(4) {
        return Err(Unanswered::Malformed);
    }
    match be16(header) {
        BINDING_REQUEST => {}
        BINDING_INDICATION | BINDING_SUCCESS | BINDING_ERROR => return Err(Unanswered::NotARequest),
        _ => return Err(Unanswered::Malformed),
    }
    let mut unknown = [0; UNKNOWN_MAX];
    let unknown = read_attributes(request, &mut unknown).ok_or(Unanswered::Malformed)?;
    let start = out.len();
    if unknown.is_empty() {
        put_header(BINDING_SUCCESS, header, out);
        put_xor_mapped_address(header, source, out);
    } else {
        put_header(BINDING_ERROR, header, out);
        put_unknown(unknown, out);
    }
    let length = (out.len() - start - HEADER) as u16;
    out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Walks over the attributes; gives back the types that must be understood and are not, the first [`UNKNOWN_MAX`] of them.
/// `None`: they do not end where they should, or the fingerprint is wrong.
fn read_attributes<'a>(request: &[u8], unknown: &'a mut [u16; UNKNOWN_MAX]) -> Option<&'a [u16]> {
    let mut at = HEADER;
    let mut count = 0;
    let mut has_integrity = false;
    while at < request.len() {
        let (head, rest) = request[at..].split_at_checked(ATTRIBUTE)?;
        let (kind, length) = (be16(head), usize::from(be16(&head[2..])));
        let value = rest.get(..length)?;
        let next = at + ATTRIBUTE + length.next_multiple_of(4);
        match kind {
            // RFC 8489 §14.7: the last one, over all that stands before it.
            FINGERPRINT => {
                let is_right =
                    next == request.len() && value == (crc32(&request[..at]) ^ FINGERPRINT_XOR).to_be_bytes();
                if !is_right {
                    return None;
                }
            }
            MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => has_integrity = true,
            // §14.5, §14.6: what follows the integrity, other than those two and the fingerprint, is ignored.
            _ if has_integrity || kind >= COMPREHENSION_OPTIONAL || KNOWN.contains(&kind) => {}
            _ if count < UNKNOWN_MAX && !unknown[..count].contains(&kind) => {
                unknown[count] = kind;
                count += 1;
            }
            _ => {}
        }
        at = next;
    }
    (at == request.len()).then_some(&unknown[..count])
}

fn put_header(kind: u16, request: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    // The magic cookie and the transaction id.
    out.extend_from_slice(&request[4..HEADER]);
}

/// RFC 8489 §14.2: exclusive-or with what NATs that rewrite addresses in payloads cannot know.
fn put_xor_mapped_address(request: &[u8], source: SocketAddr, out: &mut Vec<u8>) {
    let port = (source.port() ^ be16(&MAGIC_COOKIE)).to_be_bytes();
    let mut put = |family: u8, address: &[u8]| {
        out.extend_from_slice(&XOR_MAPPED_ADDRESS.to_be_bytes());
        out.extend_from_slice(&(4 + address.len() as u16).to_be_bytes());
        out.extend_from_slice(&[0, family, port[0], port[1]]);
        out.extend(address.iter().zip(&request[4..]).map(|(byte, mask)| byte ^ mask));
    };
    match source.ip().to_canonical() {
        IpAddr::V4(ip) => put(1, &ip.octets()),
        IpAddr::V6(ip) => put(2, &ip.octets()),
    }
}

/// RFC 8489 §14.8, §14.9.
fn put_unknown(unknown: &[u16], out: &mut Vec<u8>) {
    out.extend_from_slice(&ERROR_CODE.to_be_bytes());
    out.extend_from_slice(&(4 + UNKNOWN_REASON.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0, 0, 4, 20]);
    out.extend_from_slice(UNKNOWN_REASON);
    out.extend_from_slice(&UNKNOWN_ATTRIBUTES.to_be_bytes());
    out.extend_from_slice(&(2 * unknown.len() as u16).to_be_bytes());
    for kind in unknown {
        out.extend_from_slice(&kind.to_be_bytes());
    }
    if !unknown.len().is_multiple_of(2) {
        out.extend_from_slice(&[0, 0]);
    }
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// ITU-T V.42, as RFC 8489 §14.7 wants it. A bit at a time: fingerprints are rare, and a datagram is short.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    })
}

const HEADER: usize = 20;
const ATTRIBUTE: usize = 4;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_INDICATION: u16 = 0x0011;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// From here on an attribute need not be understood (RFC 8489 §14).
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// Of those that must be understood, the ones RFC 8489 defines: MAPPED-ADDRESS, USERNAME, MESSAGE-INTEGRITY, ERROR-CODE,
/// UNKNOWN-ATTRIBUTES, REALM, NONCE, MESSAGE-INTEGRITY-SHA256, PASSWORD-ALGORITHM, USERHASH, XOR-MAPPED-ADDRESS.
const KNOWN: [u16; 11] = [
    0x0001, 0x0006, 0x0008, 0x0009, 0x000a, 0x0014, 0x0015, 0x001c, 0x001d, 0x001e, 0x0020,
];

/// Types named in one 420; a request has no reason to have more.
const UNKNOWN_MAX: usize = 8;

/// A multiple of four bytes, so that it needs no padding.
const UNKNOWN_REASON: &[u8; 20] = b"Unknown Attribute(s)";

/// Any bytes: no panic; what is answered gets an answer to it, and one not above three times its size. The body of a fuzz target.
#[cfg(any(test, feature = "sim"))]
pub fn stun_answer(request: &[u8]) {
    for source in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"] {
        let mut out = b"before".to_vec();
        let answered = answer(request, source.parse().expect("an address"), &mut out);
        let written = &out[b"before".len()..];
        match answered {
            Ok(()) => {
                assert!(request[..2] == BINDING_REQUEST.to_be_bytes() && is_stun(request) && is_stun(written));
                assert!(written.len() <= ANSWER_BYTES_MAX && written.len() <= 3 * request.len());
                assert_eq!(written[4..HEADER], request[4..HEADER], "its transaction");
                assert_eq!(usize::from(be16(&written[2..])), written.len() - HEADER);
                // What is an answer is none to answer.
                let mut again = Vec::new();
                let refused = answer(written, source.parse().expect("an address"), &mut again);
                assert_eq!((refused, again.len()), (Err(Unanswered::NotARequest), 0));
            }
            Err(Unanswered::Malformed | Unanswered::NotARequest) => assert!(written.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 5769 §2.1, which RFC 8489 keeps as its test vector: a request of ICE with integrity and fingerprint.
    const VECTOR: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\
        \x00\x24\x00\x04\x6e\x00\x01\xff\
        \x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\
        \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";

    /// The transaction id of all vectors of RFC 5769 §2.
    const TRANSACTION: &[u8] = b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

    fn request(attributes: &[u8]) -> Vec<u8> {
        let length = (attributes.len() as u16).to_be_bytes();
        [
            &BINDING_REQUEST.to_be_bytes()[..],
            &length,
            &MAGIC_COOKIE,
            TRANSACTION,
            attributes,
        ]
        .concat()
    }

    fn answered(request: &[u8], source: &str) -> Result<Vec<u8>, Unanswered> {
        stun_answer(request);
        let mut out = Vec::new();
        answer(request, source.parse().unwrap(), &mut out).map(|()| out)
    }

    #[test]
    fn a_binding_request_is_answered_with_the_address_it_came_from() {
        // RFC 5769 §2.2 and §2.3: their XOR-MAPPED-ADDRESS, for the same transaction and the same sources.
        let v4 = answered(&request(b""), "192.0.2.1:32853").unwrap();
        assert_eq!(v4[..4], *b"\x01\x01\x00\x0c");
        assert_eq!(v4[HEADER..], *b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43");
        let v6 = answered(&request(b""), "[2001:db8:1234:5678:11:2233:4455:6677]:32853").unwrap();
        let expected =
            b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";
        assert_eq!(v6[HEADER..], *expected);
        // A socket for both families shows an IPv4 source as a mapped address.
        assert_eq!(answered(&request(b""), "[::ffff:192.0.2.1]:32853").unwrap(), v4);
    }

    #[test]
    fn a_fingerprint_must_be_right_and_last() {
        let priority = VECTOR.windows(4).position(|four| four == b"\x00\x24\x00\x04").unwrap();
        let answer = answered(VECTOR, "192.0.2.1:32853").unwrap();
        // PRIORITY is of ICE (RFC 8445) and must be understood.
        assert_eq!(answer[..2], BINDING_ERROR.to_be_bytes());
        let error = b"\x00\x09\x00\x18\x00\x00\x04\x14Unknown Attribute(s)\x00\x0a\x00\x02\x00\x24\x00\x00";
        assert_eq!(answer[HEADER..], *error);
        // With another type it would be no fingerprint.
        let fingerprint = VECTOR.len() - 8;
        for at in (HEADER..VECTOR.len()).filter(|at| !(fingerprint..fingerprint + 2).contains(at)) {
            let mut changed = VECTOR.to_vec();
            changed[at] ^= 1;
            assert_eq!(
                answered(&changed, "192.0.2.1:1"),
                Err(Unanswered::Malformed),
                "byte {at}"
            );
        }
        // The same without what nobody here knows, and with a fingerprint of its own.
        let mut known = VECTOR[HEADER..VECTOR.len() - 8].to_vec();
        known.drain(priority - HEADER..priority - HEADER + 8);
        let mut known = request(&[&known[..], b"\x80\x28\x00\x04\0\0\0\0"].concat());
        let end = known.len() - 4;
        let crc = crc32(&known[..end - 4]) ^ FINGERPRINT_XOR;
        known[end..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(
            answered(&known, "192.0.2.1:1").unwrap()[..2],
            BINDING_SUCCESS.to_be_bytes()
        );
        let behind = request(&[&known[HEADER..], b"\x80\x22\x00\x00"].concat());
        assert_eq!(answered(&behind, "192.0.2.1:1"), Err(Unanswered::Malformed));
    }

    #[test]
    fn attributes_that_must_be_understood_and_are_not_get_420() {
        let unknown: Vec<u8> = (0..12u16).flat_map(|i| [0x7f, i as u8 / 2, 0, 0]).collect();
        let answer = answered(&request(&unknown), "192.0.2.1:1").unwrap();
        let listed: Vec<u8> = (0..6).flat_map(|i| [0x7f, i]).collect();
        assert!(
            answer.ends_with(&[&b"\x00\x0a\x00\x0c"[..], &listed].concat()),
            "each once: {answer:x?}"
        );
        // Behind the integrity they count for nothing; those that need not be understood never do.
        let ignored = [b"\x00\x08\x00\x14".as_slice(), &[7; 20], &unknown].concat();
        for harmless in [&ignored[..], b"\xff\xff\x00\x03abc\0", b"\x00\x06\x00\x01u\0\0\0"] {
            assert_eq!(
                answered(&request(harmless), "192.0.2.1:1").unwrap()[..2],
                BINDING_SUCCESS.to_be_bytes()
            );
        }
    }

    #[test]
    fn what_is_no_binding_request_gets_no_answer() {
        let plain = request(b"");
        let with = |at: usize, byte: u8| {
            let mut changed = plain.clone();
            changed[at] = byte;
            changed
        };
        for (datagram, why) in [
            (plain[..19].to_vec(), Unanswered::Malformed),
            (vec![0; 20], Unanswered::Malformed),
            (with(3, 4), Unanswered::Malformed),
            (with(2, 1), Unanswered::Malformed),
            (with(4, 0x22), Unanswered::Malformed),
            // Allocate of RFC 8656.
            (with(1, 0x03), Unanswered::Malformed),
            (with(1, 0x11), Unanswered::NotARequest),
            (with(0, 0x01), Unanswered::NotARequest),
            (request(b"\x80\x22\x00\x05abcd"), Unanswered::Malformed),
            (request(b"\x80\x22\x00\x05abcdefgh\x80\x22"), Unanswered::Malformed),
            (request(b"\x80\x22"), Unanswered::Malformed),
        ] {
            assert_eq!(answered(&datagram, "192.0.2.1:1"), Err(why), "{datagram:x?}");
        }
    }

    #[test]
    fn stun_is_told_from_sip_by_its_first_octet() {
        assert!(is_stun(VECTOR) && is_stun(&[1]));
        for sip in [
            &b"OPTIONS sip:a SIP/2.0"[..],
            b"SIP/2.0 200 OK",
            b"\r\n\r\n",
            b"\nINVITE",
            b"",
        ] {
            assert!(!is_stun(sip));
        }
    }

    proptest! {
        #[test]
        fn any_attributes_are_answered_within_three_times_their_bytes_or_not_at_all(
            attributes in proptest::collection::vec(
                (prop_oneof![Just(0x8028u16), Just(8u16), 0..0x40u16, any::<u16>()],
                 proptest::collection::vec(any::<u8>(), 0..9), 0..6u16),
                0..20,
            ),
            kind in prop_oneof![3 => Just(1u16), 1 => any::<u16>()],
        ) {
            let mut bytes = Vec::new();
            for (kind, value, lie) in attributes {
                bytes.extend(kind.to_be_bytes());
                // One in five says another length than it has.
                let length = value.len() as u16 + if lie == 0 { 3 } else { 0 };
                bytes.extend(length.to_be_bytes());
                bytes.extend(&value);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            let mut datagram = request(&bytes);
            datagram[..2].copy_from_slice(&kind.to_be_bytes());
            stun_answer(&datagram);
        }

        #[test]
        fn any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            stun_answer(&bytes);
            stun_answer(&request(&bytes));
        }
    }
}
