//! The little SDP (RFC 8866) that answers a call for an application without media of its own, by offer and answer
//! (RFC 3264): read an offer, write an answer to it, write an offer.
//!
//! ```
//! use referee::message::sdp::{Description, Session};
//!
//! let offer = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
//!     m=audio 4000 RTP/AVP 9 8 101\r\na=rtpmap:101 telephone-event/8000\r\nm=video 4002 RTP/AVP 96\r\n";
//! let session = Session { id: 7, version: 1, address: [198, 51, 100, 1].into() };
//! let answer = session.answer(&Description::parse(offer)?, None)?;
//! assert_eq!(answer, "v=0\r\no=- 7 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
//!     m=audio 9 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=inactive\r\n\
//!     m=video 0 RTP/AVP 96\r\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use nom::Parser;
use nom::bytes::complete::{tag, take_while1};
use nom::combinator::{map_opt, opt, rest, verify};
use nom::sequence::{preceded, terminated};
use smallvec::SmallVec;

use super::scan::{self, Parsed};

/// A description longer than this is refused: a browser's offer with video and all its codecs has 10,000 bytes.
pub const BYTES_MAX: usize = 32_768;
/// Above this many lines a description is refused; that browser's offer has 250.
pub const LINES_MAX: usize = 1_000;
/// Above this many media a description is refused; calls in the field have up to three.
pub const MEDIA_MAX: usize = 32;
/// Formats of one medium that are looked at; each is looked up among its attributes.
const FORMATS_MAX: usize = 64;
/// The discard port, which stands where no media is received (RFC 8866 §5.7 has no number for that; peers use this).
const NO_PORT: u16 = 9;

/// A session description as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description<'a> {
    /// The value of `o=`: who made it, with which id and version.
    pub origin: Origin<'a>,
    /// The address of the session's `c=`, without its TTL.
    pub address: Option<&'a [u8]>,
    /// The values of all `t=` lines, in order.
    pub timing: SmallVec<[&'a [u8]; 1]>,
    /// The media, in order.
    pub media: SmallVec<[Media<'a>; 3]>,
    /// The attribute lines of the session.
    attributes: &'a [u8],
}

/// `o=` (RFC 8866 §5.2). The numbers are compared as text: they may have more digits than any integer here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The user name, mostly `-`.
    pub username: &'a [u8],
    /// Digits, the same for the life of the session.
    pub id: &'a [u8],
    /// Digits, one more whenever the description changes.
    pub version: &'a [u8],
    /// The address of who made it.
    pub address: &'a [u8],
}

/// One `m=` line with the lines that belong to it (RFC 8866 §5.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media<'a> {
    /// `audio`, `video`, `application` …
    pub kind: &'a [u8],
    /// 0 where the stream is refused or ended (RFC 3264 §6, §8.2).
    pub port: u16,
    /// Such as `RTP/AVP`.
    pub protocol: &'a [u8],
    /// The formats, with spaces between: payload types for RTP.
    pub formats: &'a [u8],
    /// The address of its own `c=`, without its TTL.
    pub address: Option<&'a [u8]>,
    attributes: &'a [u8],
}

/// Which way media flows, as the side that wrote it sees it (RFC 3264 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `sendrecv`, also where nothing is said.
    SendRecv,
    /// `sendonly`
    SendOnly,
    /// `recvonly`
    RecvOnly,
    /// `inactive`
    Inactive,
}

impl Direction {
    /// What the other side says of the same flow (RFC 3264 §6.1).
    pub fn reversed(self) -> Direction {
        match self {
            Direction::SendOnly => Direction::RecvOnly,
            Direction::RecvOnly => Direction::SendOnly,
            Direction::SendRecv | Direction::Inactive => self,
        }
    }

    fn attribute(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    fn among(attributes: &[u8]) -> Option<Direction> {
        let all = [
            Direction::SendRecv,
            Direction::SendOnly,
            Direction::RecvOnly,
            Direction::Inactive,
        ];
        attribute_lines(attributes).find_map(|(name, _)| all.into_iter().find(|one| one.attribute().as_bytes() == name))
    }
}

/// Why bytes are no description, and on which line, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SdpError {
    /// The line; 0 for the whole.
    pub line: usize,
    /// What is wrong with it.
    pub problem: SdpProblem,
}

/// What is wrong with a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdpProblem {
    /// More than [`BYTES_MAX`] bytes, [`LINES_MAX`] lines or [`MEDIA_MAX`] media.
    TooLarge,
    /// The first line is not `v=0`.
    Version,
    /// Not a letter, an equals sign and text without control bytes.
    Line,
    /// No `o=` before the first medium, a second one, or one that is malformed.
    Origin,
    /// A malformed `c=`.
    Connection,
    /// A malformed `t=`.
    Timing,
    /// A malformed `m=`.
    Media,
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session description, line {}: {:?}", self.line, self.problem)
    }
}

impl std::error::Error for SdpError {}

/// Why an offer cannot be answered: a 488 (RFC 3261 §21.4.26) with this warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No medium is audio.
    NoAudio,
    /// Audio without PCMU and PCMA.
    NoFormat,
    /// Audio only with encryption (RFC 3711) or over another transport than RTP.
    Transport,
    /// Audio only by ICE (RFC 8839): no address to fall back to.
    IceOnly,
    /// Audio only within another stream (`a=bundle-only`, RFC 9143 §6).
    BundleOnly,
}

impl Refusal {
    /// Code and text of a Warning (RFC 3261 §20.43).
    pub fn warning(self) -> (u16, &'static str) {
        match self {
            Refusal::NoAudio => (304, "Media type not available"),
            Refusal::NoFormat => (305, "Incompatible media format"),
            Refusal::Transport => (302, "Incompatible transport protocol"),
            Refusal::IceOnly => (301, "Incompatible network address formats"),
            Refusal::BundleOnly => (306, "Attribute not understood"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.warning().1)
    }
}

impl std::error::Error for Refusal {}

impl<'a> Description<'a> {
    /// Reads a description. Lines may end in LF alone, the last may have no end; an empty line ends nothing and says
    /// nothing; `s=` and `t=` may be missing.
    ///
    /// # Errors
    ///
    /// The first line that breaks the grammar, or what exceeds a bound.
    pub fn parse(bytes: &'a [u8]) -> Result<Description<'a>, SdpError> {
        let too_large = |line| SdpError {
            line,
            problem: SdpProblem::TooLarge,
        };
        if bytes.len() > BYTES_MAX {
            return Err(too_large(0));
        }
        let (mut origin, mut address) = (None, None);
        let mut timing = SmallVec::new();
        let mut media: SmallVec<[Media<'a>; 3]> = SmallVec::new();
        // Where the attributes of the session, or of the medium that is being read, begin.
        let mut section = bytes;
        let mut session = bytes;
        let (mut number, mut is_begun) = (0, false);
        let mut left = bytes;
        while !left.is_empty() {
            number += 1;
            if number > LINES_MAX {
                return Err(too_large(number));
            }
            let at = |problem| SdpError { line: number, problem };
            let (line, after) = split_line(left);
            if line.is_empty() {
                left = after;
                continue;
            }
            let (&[letter, b'='], value) = line.split_first_chunk::<2>().ok_or(at(SdpProblem::Line))? else {
                return Err(at(SdpProblem::Line));
            };
            let is_text = value.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control());
            if !letter.is_ascii_lowercase() || !is_text {
                return Err(at(SdpProblem::Line));
            }
            if !is_begun && (letter, scan::trim(value)) != (b'v', b"0") {
                return Err(at(SdpProblem::Version));
            }
            is_begun = true;
            match letter {
                b'o' => {
                    let read = all(origin_field, value).filter(|_| media.is_empty());
                    let read = read.ok_or(at(SdpProblem::Origin))?;
                    if origin.replace(read).is_some() {
                        return Err(at(SdpProblem::Origin));
                    }
                }
                b'c' => {
                    let read = all(connection_field, value).ok_or(at(SdpProblem::Connection))?;
                    // A medium may have several, for layers of multicast; the first is the one to send to.
                    let place = media.last_mut().map_or(&mut address, |media| &mut media.address);
                    place.get_or_insert(read);
                }
                b't' if media.is_empty() => {
                    let value = scan::trim(value);
                    all(time_field, value).ok_or(at(SdpProblem::Timing))?;
                    timing.push(value);
                }
                b'm' => {
                    let read = all(media_field, value).ok_or(at(SdpProblem::Media))?;
                    end_section(&mut media, &mut session, section, left);
                    if media.len() == MEDIA_MAX {
                        return Err(too_large(number));
                    }
                    media.push(read);
                    section = after;
                }
                _ => {}
            }
            left = after;
        }
        end_section(&mut media, &mut session, section, left);
        let missing = |problem| SdpError { line: number, problem };
        if !is_begun {
            return Err(missing(SdpProblem::Version));
        }
        Ok(Description {
            origin: origin.ok_or(missing(SdpProblem::Origin))?,
            address,
            timing,
            media,
            attributes: session,
        })
    }

    /// Which way a medium of this description flows: its own word, or else the session's.
    pub fn direction(&self, media: &Media<'_>) -> Direction {
        Direction::among(media.attributes)
            .or_else(|| Direction::among(self.attributes))
            .unwrap_or(Direction::SendRecv)
    }

    /// The attributes of the session: names and values.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        attribute_lines(self.attributes)
    }

    /// What of a medium is kept in an answer; `anywhere` if someone is there to speak encryption and ICE.
    fn accept<'m>(&self, media: &'m Media<'a>, anywhere: bool) -> Result<Kept<'m>, Refusal> {
        let is_ice = |attributes| attribute_lines(attributes).any(|(name, _)| name == b"ice-ufrag");
        let address = media.address.or(self.address);
        let is_nowhere = address.is_none_or(|address| {
            let address = std::str::from_utf8(address).ok().and_then(|text| text.parse().ok());
            address.is_some_and(|address: IpAddr| address.is_unspecified())
        });
        let is_plain = |protocol: &str| media.protocol.eq_ignore_ascii_case(protocol.as_bytes());
        if !media.kind.eq_ignore_ascii_case(b"audio") {
            Err(Refusal::NoAudio)
        } else if media.attributes().any(|(name, _)| name == b"bundle-only") && !anywhere {
            Err(Refusal::BundleOnly)
        } else if !["RTP/AVP", "RTP/AVPF"].into_iter().any(is_plain) && !anywhere {
            Err(Refusal::Transport)
        } else if (is_ice(media.attributes) || is_ice(self.attributes))
            && (is_nowhere || media.port == NO_PORT)
            && !anywhere
        {
            Err(Refusal::IceOnly)
        } else {
            media.kept().ok_or(Refusal::NoFormat)
        }
    }
}

impl<'a> Media<'a> {
    /// Its attributes: names and values.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        attribute_lines(self.attributes)
    }

    /// Its payload types in order of preference, each with its encoding: what `a=rtpmap` says, or for 0 and 8 what
    /// RFC 3551 §6 says. Formats that are no payload type are passed over.
    pub fn encodings(&self) -> impl Iterator<Item = Encoding<'a>> + use<'a> {
        let media = *self;
        let types = media.formats.split(|byte| *byte == b' ').take(FORMATS_MAX);
        types.filter_map(move |format| {
            let payload_type = scan::decimal_value(format, 127)? as u8;
            let (name, clock_rate) = match (media.values_for("rtpmap", payload_type).next(), payload_type) {
                (Some(mapped), _) => all(encoding, mapped)?,
                (None, 0) => (&b"PCMU"[..], 8_000),
                (None, 8) => (&b"PCMA"[..], 8_000),
                (None, _) => return None,
            };
            Some(Encoding {
                payload_type,
                name,
                clock_rate,
            })
        })
    }

    /// The values of an attribute of this payload type, without the number.
    fn values_for(&self, attribute: &'static str, payload_type: u8) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.attributes()
            .filter(move |(name, _)| *name == attribute.as_bytes())
            .filter_map(move |(_, value)| {
                let (rest, number) = terminated(scan::digits, tag(&b" "[..])).parse(value?).ok()?;
                (scan::decimal_value(number, 127) == Some(payload_type.into())).then_some(rest)
            })
    }

    fn kept(&self) -> Option<Kept<'_>> {
        let is = |encoding: &Encoding<'_>, name: &str| {
            encoding.clock_rate == 8_000 && encoding.name.eq_ignore_ascii_case(name.as_bytes())
        };
        let mut named = self.encodings().filter_map(|encoding| {
            let name = ["PCMU", "PCMA"].into_iter().find(|name| is(&encoding, name))?;
            Some((encoding.payload_type, name))
        });
        let audio = named.next()?;
        let mut events = self.encodings().filter(|encoding| is(encoding, "telephone-event"));
        let events = events.next().map(|encoding| encoding.payload_type);
        Some(Kept {
            media: self,
            audio,
            events,
        })
    }
}

/// What a payload type stands for (RFC 8866 §6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding<'a> {
    /// 0 to 127.
    pub payload_type: u8,
    /// Such as `PCMU`; compared without regard to case.
    pub name: &'a [u8],
    /// In hertz.
    pub clock_rate: u32,
}

/// The formats of a medium that an answer keeps.
struct Kept<'m> {
    media: &'m Media<'m>,
    audio: (u8, &'static str),
    events: Option<u8>,
}

/// Our side of a session: what stands in `o=` of all its descriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The same for the life of the session (RFC 8866 §5.2).
    pub id: u64,
    /// One more whenever the description differs from the last one sent (RFC 3264 §8). The caller writes the new one
    /// with the old version first: if it is the same text, nothing changed.
    pub version: u64,
    /// The address of who describes, and of media that flows nowhere.
    pub address: IpAddr,
}

impl Session {
    /// Writes the answer to an offer: every medium answered in order (RFC 3264 §6), the first that can be kept with its
    /// first format of PCMU and PCMA and with telephone-event, all others with port 0.
    ///
    /// Without `media` nobody listens: port 9 and `a=inactive`. With it that address and port, and the offer's direction
    /// as the other side sees it; whoever listens there then also has to know encryption or ICE, if the offer has
    /// nothing else.
    ///
    /// # Errors
    ///
    /// Why none of the media that are offered can be kept. An offer without media, or with none that is on, is answered.
    pub fn answer(&self, offer: &Description<'_>, media: Option<SocketAddr>) -> Result<String, Refusal> {
        // RFC 9143 §6: a bundle-only medium has port 0, but is offered.
        let is_offered =
            |media: &Media<'_>| media.port != 0 || media.attributes().any(|(name, _)| name == b"bundle-only");
        let offered = || offer.media.iter().enumerate().filter(|(_, media)| is_offered(media));
        let kept = offered().find_map(|(place, one)| Some((place, offer.accept(one, media.is_some()).ok()?)));
        if kept.is_none() {
            let refusals = offered().filter_map(|(_, one)| offer.accept(one, media.is_some()).err());
            // What is wrong with audio tells more than that there is video too.
            if let Some(refusal) = refusals.min_by_key(|refusal| *refusal == Refusal::NoAudio) {
                return Err(refusal);
            }
        }
        let mut out = self.begin(media, &offer.timing);
        for (place, one) in offer.media.iter().enumerate() {
            match &kept {
                Some((kept_place, kept)) if *kept_place == place => {
                    let direction = match media {
                        Some(_) => offer.direction(one).reversed(),
                        None => Direction::Inactive,
                    };
                    kept.write(&mut out, media, direction);
                }
                _ => {
                    // RFC 3264 §6: a refused medium repeats kind, protocol and at least one format.
                    let format = one.formats.split(|byte| *byte == b' ').next().unwrap_or_default();
                    line(&mut out, "m", &[one.kind, b" 0 ", one.protocol, b" ", format]);
                }
            }
        }
        Ok(out)
    }

    /// Writes an offer of our own, for an INVITE that came without one (RFC 3261 §13.2.1): PCMU, PCMA and telephone-event;
    /// as in an answer inactive unless there is an address for media.
    pub fn offer(&self, media: Option<SocketAddr>) -> String {
        let mut out = self.begin(media, &[]);
        let port = media.map_or(NO_PORT, |address| address.port());
        let direction = media.map_or(Direction::Inactive, |_| Direction::SendRecv);
        let _ = write!(out, "m=audio {port} RTP/AVP 0 8 101\r\n");
        out += "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n";
        out += "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n";
        let _ = write!(out, "a={}\r\n", direction.attribute());
        out
    }

    /// The lines of the session. RFC 3264 §6: `t=` is that of the offer.
    fn begin(&self, media: Option<SocketAddr>, timing: &[&[u8]]) -> String {
        let place = |address: IpAddr| match address {
            IpAddr::V4(address) => format!("IN IP4 {address}"),
            IpAddr::V6(address) => format!("IN IP6 {address}"),
        };
        let (id, version) = (self.id, self.version);
        let origin = place(self.address);
        let connection = place(media.map_or(self.address, |address| address.ip()));
        let mut out = format!("v=0\r\no=- {id} {version} {origin}\r\ns=-\r\nc={connection}\r\n");
        for time in timing {
            line(&mut out, "t", &[time]);
        }
        if timing.is_empty() {
            line(&mut out, "t", &[b"0 0"]);
        }
        out
    }
}

impl Kept<'_> {
    fn write(&self, out: &mut String, media: Option<SocketAddr>, direction: Direction) {
        let port = media.map_or(NO_PORT, |address| address.port()).to_string();
        let (audio, name) = self.audio;
        let mut formats = audio.to_string();
        if let Some(events) = self.events {
            let _ = write!(formats, " {events}");
        }
        let media = self.media;
        line(
            out,
            "m",
            &[
                media.kind,
                b" ",
                port.as_bytes(),
                b" ",
                media.protocol,
                b" ",
                formats.as_bytes(),
            ],
        );
        let _ = write!(out, "a=rtpmap:{audio} {name}/8000\r\n");
        if let Some(events) = self.events {
            let _ = write!(out, "a=rtpmap:{events} telephone-event/8000\r\n");
            // RFC 4733 §2.5.1.1: which events; the offerer's list is one it understands.
            let is_list = |value: &&[u8]| value.iter().all(|byte| byte.is_ascii_digit() || b"-,".contains(byte));
            if let Some(value) = media.values_for("fmtp", events).map(scan::trim).find(is_list) {
                let number = format!("fmtp:{events} ");
                line(out, "a", &[number.as_bytes(), value]);
            }
        }
        let _ = write!(out, "a={}\r\n", direction.attribute());
    }
}

/// Writes one line. What is received was read by a grammar that has no line ends and is ASCII.
fn line(out: &mut String, letter: &str, parts: &[&[u8]]) {
    *out += letter;
    out.push('=');
    for part in parts {
        debug_assert!(part.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '));
        out.extend(part.iter().copied().filter(u8::is_ascii).map(char::from));
    }
    *out += "\r\n";
}

// ---- grammars ----

/// The line at the front without its end, and what follows it.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (line, after) = match memchr::memchr(b'\n', bytes) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &b""[..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), after)
}

/// What began at `section` ends before `next`: the attributes of the last medium, or of the session.
fn end_section<'a>(media: &mut [Media<'a>], session: &mut &'a [u8], section: &'a [u8], next: &'a [u8]) {
    let attributes = scan::taken(section, next);
    match media.last_mut() {
        Some(media) => media.attributes = attributes,
        None => *session = attributes,
    }
}

/// The `a=` lines of a section: `attribute = (att-name ":" att-value) / att-name`.
fn attribute_lines(section: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut rest = section;
    let lines = std::iter::from_fn(move || {
        let (line, after) = (!rest.is_empty()).then(|| split_line(rest))?;
        rest = after;
        Some(line)
    });
    lines.filter_map(|line| {
        let attribute = scan::trim(line.strip_prefix(b"a=")?);
        Some(match memchr::memchr(b':', attribute) {
            Some(colon) => (&attribute[..colon], Some(&attribute[colon + 1..])),
            None => (attribute, None),
        })
    })
}

/// Runs a grammar over a whole value; white space behind it is passed over.
fn all<'a, T>(grammar: impl Parser<&'a [u8], Output = T, Error = ()>, value: &'a [u8]) -> Option<T> {
    let mut grammar = grammar;
    match grammar.parse(scan::trim(value)) {
        Ok(([], read)) => Some(read),
        Ok(_) | Err(_) => None,
    }
}

/// `non-ws-string`, of ASCII
fn word(input: &[u8]) -> Parsed<'_, &[u8]> {
    take_while1(|byte: u8| byte.is_ascii_graphic())(input)
}

/// `SP`, and more of it
fn sp(input: &[u8]) -> Parsed<'_, &[u8]> {
    take_while1(|byte| byte == b' ')(input)
}

/// ```text
/// origin-field = "o=" username SP sess-id SP sess-version SP nettype SP addrtype SP unicast-address
/// ```
fn origin_field(input: &[u8]) -> Parsed<'_, Origin<'_>> {
    // The rest of the line is the address: some write a user name with spaces, which is not taken.
    let number = |input| terminated(scan::digits, sp).parse(input);
    (
        terminated(word, sp),
        number,
        number,
        terminated(word, sp),
        terminated(word, sp),
        word,
    )
        .map(|(username, id, version, _nettype, _addrtype, address)| Origin {
            username,
            id,
            version,
            address,
        })
        .parse(input)
}

/// `connection-field = "c=" nettype SP addrtype SP connection-address`: the address without TTL and count.
fn connection_field(input: &[u8]) -> Parsed<'_, &[u8]> {
    let address = word.map(|address: &[u8]| address.split(|byte| *byte == b'/').next().unwrap_or_default());
    preceded((word, sp, word, sp), address).parse(input)
}

/// `time-field = "t=" start-time SP stop-time`
fn time_field(input: &[u8]) -> Parsed<'_, ()> {
    (scan::digits, sp, scan::digits).map(|_| ()).parse(input)
}

/// `media-field = "m=" media SP port ["/" integer] SP proto 1*(SP fmt)`
fn media_field(input: &[u8]) -> Parsed<'_, Media<'_>> {
    let port = map_opt(scan::digits, |digits| scan::decimal_value(digits, u16::MAX.into()));
    let port = terminated(port, opt((tag(&b"/"[..]), scan::digits)));
    let is_list =
        |formats: &&[u8]| !formats.is_empty() && formats.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let formats = verify(rest, is_list);
    (
        terminated(word, sp),
        terminated(port, sp),
        terminated(word, sp),
        formats,
    )
        .map(|(kind, port, protocol, formats)| Media {
            kind,
            port: port as u16,
            protocol,
            formats,
            address: None,
            attributes: b"",
        })
        .parse(input)
}

/// `rtpmap-value = payload-type SP encoding-name "/" clock-rate [ "/" encoding-params ]`, without the payload type; for
/// audio the last is the number of channels, of which one is kept.
fn encoding(input: &[u8]) -> Parsed<'_, (&[u8], u32)> {
    let slash = || tag(&b"/"[..]);
    let name = take_while1(|byte: u8| byte.is_ascii_graphic() && byte != b'/');
    let clock_rate = map_opt(scan::digits, |digits| scan::decimal_value(digits, u32::MAX));
    let one_channel = opt((slash(), tag(&b"1"[..])));
    (terminated(name, slash()), terminated(clock_rate, one_channel)).parse(input)
}

#[cfg(test)]
mod tests;
