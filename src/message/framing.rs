//! A byte stream into messages by Content-Length (RFC 3261 §18.3), and keep-alives (RFC 5626 §4.4.1).

use memchr::memchr_iter;

use super::header::Header;
use super::parse::{Index, MESSAGE_BYTES_MAX, ParseError, ParseErrorKind, parse};
use super::scan;

/// The most bytes up to and including the empty line. A message has no more than [`MESSAGE_BYTES_MAX`], so this is where
/// waiting for the empty line ends.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What lies at the front of the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// That many bytes at the front are one whole message.
    Message(usize),
    /// A CRLFCRLF ping at the front, that many bytes long: answer CRLF (RFC 5626 §4.4.1).
    Ping(usize),
    /// That many bytes of stray CRLF to skip (RFC 3261 §7.5).
    Skip(usize),
    /// Nothing whole yet.
    Incomplete,
}

/// Why a stream cannot be read on. It stays so: the connection has to be closed (RFC 4475 §3.1.2.3, §3.3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// A message without Content-Length, which a stream needs (RFC 3261 §18.3).
    NoContentLength,
    /// Content-Length is not a number of digits.
    BadContentLength,
    /// Two Content-Length lines that disagree.
    ContentLengthsDiffer,
    /// No empty line within [`HEAD_BYTES_MAX`].
    HeadTooLarge,
    /// The message has more than [`MESSAGE_BYTES_MAX`] bytes.
    MessageTooLarge,
    /// The first line is not that of a SIP message: another protocol, or a frame that was lost.
    NotSip,
}

impl FramingError {
    /// Reads what there is of the message at the front of `received`, which this error keeps from ever being whole, so
    /// that it can be answered; gives back what is wrong with it.
    ///
    /// The size is the stream's to judge, all else the message's own where it has a fault of its own.
    pub fn read_front(self, received: &[u8], index: &mut Index) -> ParseError {
        let found = parse(&received[..received.len().min(MESSAGE_BYTES_MAX)], index);
        let kind = match self {
            FramingError::NoContentLength => ParseErrorKind::Missing(Header::ContentLength),
            FramingError::BadContentLength => ParseErrorKind::ContentLength,
            FramingError::ContentLengthsDiffer => ParseErrorKind::ContentLengthsDiffer,
            FramingError::HeadTooLarge | FramingError::MessageTooLarge => ParseErrorKind::TooLarge,
            FramingError::NotSip => ParseErrorKind::NotSip,
        };
        match found {
            Err(error) if kind != ParseErrorKind::TooLarge => error,
            Ok(()) | Err(_) => ParseError { kind, offset: 0 },
        }
    }
}

/// Finds the messages of one stream. Remembers how far it has looked, so that a message that comes byte by byte costs
/// no more than one that comes at once.
///
/// ```
/// use referee::message::framing::{Frame, Framer};
///
/// let stream = b"\r\n\r\nSIP/2.0 200 OK\r\nl: 2\r\n\r\nhiSIP/2.0 ";
/// let mut framer = Framer::new();
/// assert_eq!(framer.next(stream), Ok(Frame::Ping(4)));
/// assert_eq!(framer.next(&stream[4..]), Ok(Frame::Message(26)));
/// assert_eq!(framer.next(&stream[30..]), Ok(Frame::Incomplete));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// No end of a head ends before this offset.
    searched: usize,
    /// Whether the first line was seen to be one of SIP.
    start_line_seen: bool,
    /// The length of the message at the front, once its head is known.
    length: Option<usize>,
    failed: Option<FramingError>,
}

impl Framer {
    /// A framer at the start of a stream.
    pub fn new() -> Framer {
        Framer::default()
    }

    /// Looks at the front of what has been received and not consumed. The caller consumes what a frame names and calls
    /// again. Work is linear in the bytes over the life of the stream, however they are cut. Errors are final.
    pub fn next(&mut self, received: &[u8]) -> Result<Frame, FramingError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let frame = self.look(received);
        match frame {
            Err(error) => self.failed = Some(error),
            Ok(Frame::Message(_)) => *self = Framer::default(),
            Ok(Frame::Ping(_) | Frame::Skip(_) | Frame::Incomplete) => {}
        }
        frame
    }

    fn look(&mut self, received: &[u8]) -> Result<Frame, FramingError> {
        if self.length.is_none() {
            match received {
                [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Ok(Frame::Incomplete),
                [b'\r', b'\n', b'\r', b'\n', ..] => return Ok(Frame::Ping(4)),
                [b'\r', b'\n', ..] => return Ok(Frame::Skip(2)),
                [first, ..] if !scan::is(*first, scan::TOKEN) => return Err(FramingError::NotSip),
                _ => {}
            }
            self.length = self.head(received)?;
        }
        match self.length {
            Some(length) if length <= received.len() => Ok(Frame::Message(length)),
            _ => Ok(Frame::Incomplete),
        }
    }

    /// Looks for the end of the head where it was not looked for yet; the length of the message once it is there.
    fn head(&mut self, received: &[u8]) -> Result<Option<usize>, FramingError> {
        let window = &received[..received.len().min(HEAD_BYTES_MAX)];
        let from = self.searched.min(window.len());
        for line_feed in memchr_iter(b'\n', &window[from..]).map(|at| from + at) {
            if !self.start_line_seen {
                if !is_start_line(&window[..line_feed]) {
                    return Err(FramingError::NotSip);
                }
                self.start_line_seen = true;
            }
            if window[..=line_feed].ends_with(b"\r\n\r\n") {
                let head = line_feed + 1;
                let length = head + content_length(&window[..head - 2])?;
                return if length > MESSAGE_BYTES_MAX {
                    Err(FramingError::MessageTooLarge)
                } else {
                    Ok(Some(length))
                };
            }
        }
        self.searched = window.len();
        if received.len() >= HEAD_BYTES_MAX {
            Err(FramingError::HeadTooLarge)
        } else {
            Ok(None)
        }
    }
}

/// Whether a line can be a Status-Line or a Request-Line of any version: what tells SIP from other protocols.
fn is_start_line(line: &[u8]) -> bool {
    let line = scan::trim(line);
    let names_sip = |at: &[u8]| at.len() > 4 && at[..4].eq_ignore_ascii_case(b"SIP/");
    let last_word = line
        .iter()
        .rposition(|&byte| byte == b' ')
        .map_or(line, |space| &line[space + 1..]);
    names_sip(line) || names_sip(last_word)
}

/// Content-Length of a head whose lines all end in LF.
fn content_length(head: &[u8]) -> Result<usize, FramingError> {
    let mut found = None;
    let mut line_start = 0;
    let mut in_header = false;
    for line_feed in memchr_iter(b'\n', head) {
        // A line that continues belongs to the one before it.
        if matches!(head.get(line_feed + 1), Some(b' ' | b'\t')) {
            continue;
        }
        if in_header {
            let line = &head[line_start..line_feed];
            let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
            if Header::from_name(scan::trim(&line[..colon])) == Header::ContentLength {
                let value = scan::trim(line.get(colon + 1..).unwrap_or_default());
                if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                    return Err(FramingError::BadContentLength);
                }
                let length =
                    scan::decimal_value(value, MESSAGE_BYTES_MAX as u32).ok_or(FramingError::MessageTooLarge)?;
                if found.is_some_and(|other| other != length) {
                    return Err(FramingError::ContentLengthsDiffer);
                }
                found = Some(length);
            }
        }
        in_header = true;
        line_start = line_feed + 1;
    }
    found.map(|length| length as usize).ok_or(FramingError::NoContentLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = "OPTIONS sip:b SIP/2.0\r\nVia: x\r\nl: 3\r\nX: y\r\n\r\nabc";
    const RESPONSE: &str = "SIP/2.0 200 OK\r\nContent-Length  :\r\n 0\r\n\r\n";

    /// Feeds a stream in pieces that end at `ends`, and collects what comes out.
    fn run(stream: &[u8], ends: impl IntoIterator<Item = usize>) -> (Vec<Frame>, Option<FramingError>) {
        let mut framer = Framer::new();
        let (mut start, mut frames) = (0, Vec::new());
        for end in ends {
            loop {
                match framer.next(&stream[start..end]) {
                    Ok(Frame::Incomplete) => break,
                    Ok(frame) => {
                        let (Frame::Message(length) | Frame::Ping(length) | Frame::Skip(length)) = frame else {
                            break;
                        };
                        start += length;
                        frames.push(frame);
                    }
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    }

    #[test]
    fn a_stream_gives_the_same_frames_however_it_is_cut() {
        let stream = format!("\r\n{OPTIONS}\r\n\r\n{RESPONSE}\r\n\r\n\r\n{OPTIONS}{RESPONSE}").into_bytes();
        let whole = run(&stream, [stream.len()]);
        let (options, response) = (Frame::Message(OPTIONS.len()), Frame::Message(RESPONSE.len()));
        let (ping, skip) = (Frame::Ping(4), Frame::Skip(2));
        assert_eq!(
            whole,
            (vec![skip, options, ping, response, ping, skip, options, response], None)
        );
        assert_eq!(run(&stream, 0..=stream.len()), whole);
        for cut in 0..stream.len() {
            assert_eq!(run(&stream, [cut, stream.len()]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_cannot_be_framed_ends_the_stream() {
        let head = |line: &str| format!("OPTIONS sip:b SIP/2.0\r\nVia: x\r\n{line}\r\n\r\n");
        for (stream, error) in [
            (head("X: y"), FramingError::NoContentLength),
            (head("l: -1"), FramingError::BadContentLength),
            (head("l: five"), FramingError::BadContentLength),
            (head("l:"), FramingError::BadContentLength),
            (head("l: 1 1"), FramingError::BadContentLength),
            (head("l: 5\r\nContent-Length: 6"), FramingError::ContentLengthsDiffer),
            (head("l: 65535"), FramingError::MessageTooLarge),
            (head("l: 18446744073709551621"), FramingError::MessageTooLarge),
            (head(&format!("X: {}", "x".repeat(70_000))), FramingError::HeadTooLarge),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), FramingError::NotSip),
            ("\u{16}\u{3}\u{1}".to_owned(), FramingError::NotSip),
            ("\rX".to_owned(), FramingError::NotSip),
            ("\r\n\u{0}".to_owned(), FramingError::NotSip),
        ] {
            let stream = stream.as_bytes();
            assert_eq!(
                run(stream, [stream.len()]).1,
                Some(error),
                "{}",
                stream[..stream.len().min(80)].escape_ascii()
            );
            assert_eq!(run(stream, 0..=stream.len()).1, Some(error));
        }
        assert_eq!(run(head("l: 5\r\nl: 05").as_bytes(), [46]).1, None);
    }

    #[test]
    fn a_content_length_in_a_fold_or_in_the_first_line_is_none() {
        let stream = b"OPTIONS sip:b SIP/2.0\r\nX: y\r\n l: 5\r\nl: 2\r\n\r\nab";
        assert_eq!(Framer::new().next(stream), Ok(Frame::Message(stream.len())));
    }

    #[test]
    fn the_largest_message_is_taken() {
        let head = "OPTIONS sip:b SIP/2.0\r\nl: 65495\r\n\r\n";
        let mut stream = head.as_bytes().to_vec();
        stream.resize(head.len() + 65_495, b'x');
        assert!(stream.len() <= MESSAGE_BYTES_MAX);
        assert_eq!(Framer::new().next(&stream), Ok(Frame::Message(stream.len())));
        assert_eq!(Framer::new().next(&stream[..stream.len() - 1]), Ok(Frame::Incomplete));
    }
}
