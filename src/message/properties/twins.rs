//! Each search exists twice, with vector instructions and without: whatever the bytes, both say the same.

use crate::message::parse::parse_plain;
use crate::message::{Index, Message, class, parse, scan};

/// How many places at the front of a value and at the end of all are looked at: some more than a block has.
const PLACES: usize = 70;

/// For any bytes: [`parse()`] and its twin without vector instructions give the same result and the same index, and from
/// every place where the grammars begin, runs, numbers and addresses are as long either way.
pub fn twin_properties(bytes: &[u8]) {
    let index = parsers_agree(bytes);
    let message = Message::new(bytes, &index);
    // Where a grammar may begin, and where a block does not fit any more.
    let values = message.lines().map(|line| line.value_span.start);
    let tail = bytes.len().saturating_sub(PLACES)..=bytes.len();
    let uri = message.request_uri_span().start;
    for place in [0, uri].into_iter().chain(values).chain(tail) {
        for class in class::ALL {
            let rest = &bytes[place..];
            let (run, plain) = (class::run(rest, class), class::plain_run(rest, class));
            assert_eq!(run, plain, "{class:?} from {place} on");
        }
    }
    // A run of digits is looked at from its start and from within.
    for place in 0..message.headers_end() {
        if bytes[place].is_ascii_digit() {
            let rest = &bytes[place..];
            assert_eq!(scan::ipv4(rest), scan::plain_ipv4(rest), "an address at {place}");
            assert_eq!(scan::number(rest), scan::number_by_digits(rest), "a number at {place}");
        }
    }
}

/// Reads bytes both ways, each into an index that was used before; returns the index.
pub(super) fn parsers_agree(bytes: &[u8]) -> Index {
    let (mut index, mut plain) = (Index::new(), Index::new());
    let leftovers = b"SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a\r\nv: SIP/2.0/UDP b\r\nl: 0\r\nCSeq: 9 BYE\r\n\r\n";
    let _ = parse(leftovers, &mut plain);
    let (result, plain_result) = (parse(bytes, &mut index), parse_plain(bytes, &mut plain));
    assert_eq!(result, plain_result, "both parsers end alike");
    if index != plain {
        let lines = |index| Message::new(bytes, index).lines().collect::<Vec<_>>();
        assert_eq!(lines(&index), lines(&plain), "both indexes have the same lines");
        panic!("the indexes differ: {index:?} and {plain:?}");
    }
    index
}
