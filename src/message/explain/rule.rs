//! What each rule says that a message may break, and the section it stands in.

use super::super::header::Header;
use super::super::parse::ParseErrorKind;
use super::super::sdp::SdpProblem;

/// The rule in a few words.
pub(super) fn text(kind: ParseErrorKind) -> &'static str {
    use ParseErrorKind::*;
    match kind {
        NotSip => "the first line is neither `METHOD URI SIP/2.0` nor `SIP/2.0 CODE REASON`",
        RequestLine => {
            "the first line is not method, one SP, a URI without white space, one SP, SIP/2.0, and nothing more"
        }
        Version => "the SIP version is not 2.0",
        StatusCode => "the status code is not three digits from 100 to 699",
        FoldedStartLine => "a line that begins with white space follows the start line, which cannot be continued",
        NoColon => "a header line has no colon",
        HeaderName => "a header name is not a token",
        BareCr => "a CR that no LF follows",
        BareLf => "an LF that follows no CR",
        ControlByte => "a control byte outside a quoted-pair",
        NoEmptyLine => "no empty line ends the headers: the message is cut off, or its last CRLF was lost in copying",
        TooManyLines => "more than 128 header lines",
        TooLarge => "more than 65,535 bytes, which no datagram holds",
        ContentLength => "Content-Length is not a number of bytes",
        ContentLengthsDiffer => "two Content-Length lines disagree on where the message ends",
        BodyTooShort => "fewer bytes are there than Content-Length says",
        Missing(_) => "a header that every message has is missing",
        Repeated(_) => "a header of one value stands twice",
        CSeq => "CSeq is not a number and a method",
        CSeqNumber => "the CSeq number is 2^31 or more",
        CSeqMethod => "CSeq has another method than the request line",
        RequestUri => "the Request-URI does not follow its grammar",
        Malformed(_) => "a value that a proxy depends on does not follow its grammar",
        Branch => "the top Via's branch is the magic cookie and nothing else, which names no transaction",
        ContactStar => "`Contact: *` stands in REGISTER only",
    }
}

/// Where the rule stands.
pub(super) fn section(kind: ParseErrorKind) -> &'static str {
    use ParseErrorKind::*;
    match kind {
        NotSip => "RFC 3261 §7",
        RequestLine => "RFC 3261 §7.1",
        Version => "RFC 3261 §21.5.6",
        StatusCode => "RFC 3261 §7.2",
        FoldedStartLine | NoColon | HeaderName => "RFC 3261 §7.3.1",
        BareCr | BareLf | NoEmptyLine => "RFC 3261 §7",
        ControlByte => "RFC 3261 §25.1",
        TooManyLines => "RFC 3261 §21.5.7",
        TooLarge => "RFC 3261 §18.1.1",
        ContentLength => "RFC 3261 §20.14",
        ContentLengthsDiffer => "RFC 4475 §3.3.9",
        BodyTooShort => "RFC 3261 §18.3",
        Missing(_) => "RFC 3261 §8.1.1",
        Repeated(_) => "RFC 3261 §7.3.1",
        CSeq => "RFC 3261 §20.16",
        CSeqNumber => "RFC 3261 §8.1.1.5",
        CSeqMethod => "RFC 3261 §8.1.1.5",
        RequestUri => "RFC 3261 §19.1.1",
        Malformed(header) => section_of(header),
        Branch => "RFC 3261 §8.1.1.7",
        ContactStar => "RFC 3261 §10.2.2",
    }
}

/// Where a header's grammar is explained.
fn section_of(header: Header) -> &'static str {
    match header {
        Header::Other => "RFC 3261 §7.3.1",
        Header::Accept => "RFC 3261 §20.1",
        Header::Allow => "RFC 3261 §20.5",
        Header::AllowEvents => "RFC 6665 §8.2.2",
        Header::AlertInfo => "RFC 3261 §20.4",
        Header::Authorization => "RFC 3261 §20.7",
        Header::CallId => "RFC 3261 §20.8",
        Header::Contact => "RFC 3261 §20.10",
        Header::ContentDisposition => "RFC 3261 §20.11",
        Header::ContentEncoding => "RFC 3261 §20.12",
        Header::ContentLength => "RFC 3261 §20.14",
        Header::ContentType => "RFC 3261 §20.15",
        Header::CSeq => "RFC 3261 §20.16",
        Header::Date => "RFC 3261 §20.17",
        Header::Diversion => "RFC 5806 §4",
        Header::Event => "RFC 6665 §8.2.1",
        Header::Expires => "RFC 3261 §20.19",
        Header::From => "RFC 3261 §20.20",
        Header::HistoryInfo => "RFC 7044 §5",
        Header::Identity => "RFC 8224 §4",
        Header::MaxBreadth => "RFC 5393 §5.3",
        Header::MaxForwards => "RFC 3261 §20.22",
        Header::MinExpires => "RFC 3261 §20.23",
        Header::MinSe => "RFC 4028 §5",
        Header::PAssertedIdentity => "RFC 3325 §9.1",
        Header::PPreferredIdentity => "RFC 3325 §9.2",
        Header::Path => "RFC 3327 §4",
        Header::Privacy => "RFC 3323 §4.2",
        Header::ProxyAuthenticate => "RFC 3261 §20.27",
        Header::ProxyAuthorization => "RFC 3261 §20.28",
        Header::ProxyRequire => "RFC 3261 §20.29",
        Header::RAck => "RFC 3262 §7.2",
        Header::RSeq => "RFC 3262 §7.1",
        Header::Reason => "RFC 3326 §2",
        Header::RecordRoute => "RFC 3261 §20.30",
        Header::ReferSub => "RFC 4488 §4",
        Header::ReferTo => "RFC 3515 §2.1",
        Header::ReferredBy => "RFC 3892 §3",
        Header::Replaces => "RFC 3891 §6.1",
        Header::Require => "RFC 3261 §20.32",
        Header::RetryAfter => "RFC 3261 §20.33",
        Header::Route => "RFC 3261 §20.34",
        Header::Server => "RFC 3261 §20.35",
        Header::SessionExpires => "RFC 4028 §4",
        Header::SubscriptionState => "RFC 6665 §8.2.3",
        Header::Subject => "RFC 3261 §20.36",
        Header::Supported => "RFC 3261 §20.37",
        Header::TargetDialog => "RFC 4538 §7",
        Header::Timestamp => "RFC 3261 §20.38",
        Header::To => "RFC 3261 §20.39",
        Header::Unsupported => "RFC 3261 §20.40",
        Header::UserAgent => "RFC 3261 §20.41",
        Header::UserToUser => "RFC 7433 §4.1",
        Header::Via => "RFC 3261 §20.42",
        Header::Warning => "RFC 3261 §20.43",
        Header::WwwAuthenticate => "RFC 3261 §20.44",
    }
}

/// What is wrong with a session description.
pub(super) fn session(problem: SdpProblem) -> &'static str {
    match problem {
        SdpProblem::TooLarge => "more bytes, lines or media than any call has",
        SdpProblem::Version => "the first line is not `v=0`",
        SdpProblem::Line => "a line is not a letter, `=` and text",
        SdpProblem::Origin => "`o=` is missing, malformed or there twice",
        SdpProblem::Connection => "a malformed `c=`",
        SdpProblem::Timing => "a malformed `t=`",
        SdpProblem::Media => "a malformed `m=`",
    }
}
