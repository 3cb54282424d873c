//! The messages to read; shared by the benchmarks, the instruction count and the allocation test.

/// Messages of a call as a carrier's border controller and a voice platform send them; last one with all that RFC 4475
/// puts into a legal message at once: folds, compact names, lists, quoted specials, IPv6, white space round the colon.
pub const MESSAGES: [(&str, &[u8]); 9] = [
    ("invite", include_bytes!("../messages/invite.sip")),
    ("200", include_bytes!("../messages/200.sip")),
    ("refer", include_bytes!("../messages/refer.sip")),
    ("notify", include_bytes!("../messages/notify.sip")),
    ("options", include_bytes!("../messages/options.sip")),
    ("register", include_bytes!("../messages/register.sip")),
    ("ack", include_bytes!("../messages/ack.sip")),
    ("bye", include_bytes!("../messages/bye.sip")),
    ("torture", include_bytes!("../messages/torture.sip")),
];
