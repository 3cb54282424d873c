//! Header names and methods: the ones referee acts on, their compact forms (RFC 3261 §7.3.3) and their identity.

use super::scan::lower;

/// Declares [`Header`] and the table of its spellings from one list, so that the two cannot drift apart.
macro_rules! headers {
    ($($header:ident $name:literal $($compact:literal)?;)*) => {
        /// A header referee knows by name. Everything else is `Other` and passes through unchanged.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Header {
            /// A header this enumeration does not name.
            Other,
            $(#[doc = $name] $header,)*
        }

        /// Every known header; the header with number `n` stands at `n - 1`.
        const KNOWN: &[(Header, &str, Option<u8>)] = &[
            $((Header::$header, $name, headers!(@compact $($compact)?)),)*
        ];
    };
    (@compact) => { None };
    (@compact $compact:literal) => { Some($compact) };
}

headers! {
    Accept "Accept";
    Allow "Allow";
    AllowEvents "Allow-Events" b'u';
    AlertInfo "Alert-Info";
    Authorization "Authorization";
    CallId "Call-ID" b'i';
    Contact "Contact" b'm';
    ContentDisposition "Content-Disposition";
    ContentEncoding "Content-Encoding" b'e';
    ContentLength "Content-Length" b'l';
    ContentType "Content-Type" b'c';
    CSeq "CSeq";
    Date "Date";
    Diversion "Diversion";
    Event "Event" b'o';
    Expires "Expires";
    From "From" b'f';
    HistoryInfo "History-Info";
    Identity "Identity" b'y';
    MaxBreadth "Max-Breadth";
    MaxForwards "Max-Forwards";
    MinExpires "Min-Expires";
    MinSe "Min-SE";
    PAssertedIdentity "P-Asserted-Identity";
    PPreferredIdentity "P-Preferred-Identity";
    Path "Path";
    Privacy "Privacy";
    ProxyAuthenticate "Proxy-Authenticate";
    ProxyAuthorization "Proxy-Authorization";
    ProxyRequire "Proxy-Require";
    RAck "RAck";
    RSeq "RSeq";
    Reason "Reason";
    RecordRoute "Record-Route";
    ReferSub "Refer-Sub";
    ReferTo "Refer-To" b'r';
    ReferredBy "Referred-By" b'b';
    Replaces "Replaces";
    Require "Require";
    RetryAfter "Retry-After";
    Route "Route";
    Server "Server";
    SessionExpires "Session-Expires" b'x';
    SubscriptionState "Subscription-State";
    Subject "Subject" b's';
    Supported "Supported" b'k';
    TargetDialog "Target-Dialog";
    Timestamp "Timestamp";
    To "To" b't';
    Unsupported "Unsupported";
    UserAgent "User-Agent";
    UserToUser "User-to-User";
    Via "Via" b'v';
    Warning "Warning";
    WwwAuthenticate "WWW-Authenticate";
}

// The index keeps sets of headers in the bits of a u64.
const _: () = assert!(KNOWN.len() < 64);

impl Header {
    /// By long or compact name, without regard to case.
    #[inline]
    pub fn from_name(name: &[u8]) -> Header {
        if let [letter] = name {
            return COMPACT[usize::from(*letter)];
        }
        let key = Key::of(name);
        let header = HASHED[key.hash(MULTIPLIER)];
        // Its key says whether it is this name or only has the same hash.
        if KEYS[header as usize] == key {
            header
        } else {
            Header::Other
        }
    }

    /// The RFC's spelling of the long name; empty for `Other`.
    pub fn name(self) -> &'static str {
        match (self as usize).checked_sub(1) {
            Some(position) => KNOWN[position].1,
            None => "",
        }
    }

    /// The header's bit in a set of headers.
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// The header with this number; `Other` for numbers that are none.
    pub(crate) fn from_number(number: u8) -> Header {
        match usize::from(number).checked_sub(1) {
            Some(position) => KNOWN.get(position).map_or(Header::Other, |known| known.0),
            None => Header::Other,
        }
    }
}

static COMPACT: [Header; 256] = compact();

const fn compact() -> [Header; 256] {
    let mut table = [Header::Other; 256];
    let mut i = 0;
    while i < KNOWN.len() {
        if let Some(letter) = KNOWN[i].2 {
            table[letter as usize] = KNOWN[i].0;
            table[letter.to_ascii_uppercase() as usize] = KNOWN[i].0;
        }
        i += 1;
    }
    table
}

/// A name of 2 to 24 bytes in three words, letters in lower case: its first, middle and last eight bytes, which overlap
/// in shorter names. No known name is longer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    first: u64,
    middle: u64,
    last: u64,
    length: usize,
}

impl Key {
    const NONE: Key = Key {
        first: 0,
        middle: 0,
        last: 0,
        length: 0,
    };

    #[inline]
    const fn of(name: &[u8]) -> Key {
        let length = name.len();
        if let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            let middle = match name.split_at(8).1.first_chunk::<8>() {
                Some(middle) if length > 16 => lower(u64::from_le_bytes(*middle)),
                _ => 0,
            };
            Key {
                first: lower(u64::from_le_bytes(*first)),
                middle,
                last: lower(u64::from_le_bytes(*last)),
                length,
            }
        } else if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
            let (first, last) = (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64);
            Key {
                first: lower(first),
                middle: 0,
                last: lower(last),
                length,
            }
        } else if let (Some(first), Some(last)) = (name.first_chunk::<2>(), name.last_chunk::<2>()) {
            let (first, last) = (u16::from_le_bytes(*first) as u64, u16::from_le_bytes(*last) as u64);
            Key {
                first: lower(first),
                middle: 0,
                last: lower(last),
                length,
            }
        } else {
            Key::NONE
        }
    }

    #[inline]
    const fn hash(&self, multiplier: u64) -> usize {
        let word = self
            .first
            .wrapping_add(self.last.rotate_left(23))
            .wrapping_add(self.length as u64);
        (word.wrapping_mul(multiplier) >> 56) as usize
    }
}

/// Keys by header number.
static KEYS: [Key; KNOWN.len() + 1] = keys();

const fn keys() -> [Key; KNOWN.len() + 1] {
    // `Other` has the key of no name.
    let mut keys = [Key { first: 1, ..Key::NONE }; KNOWN.len() + 1];
    let mut i = 0;
    while i < KNOWN.len() {
        assert!(KNOWN[i].1.len() >= 2 && KNOWN[i].1.len() <= 24, "a key holds 24 bytes");
        keys[i + 1] = Key::of(KNOWN[i].1.as_bytes());
        i += 1;
    }
    keys
}

/// The first factor tried that gives every known name a place of its own; found while compiling.
const MULTIPLIER: u64 = multiplier();

const fn multiplier() -> u64 {
    let keys = keys();
    let mut candidate = 0x9e37_79b9_7f4a_7c15_u64;
    loop {
        let mut taken = [false; 256];
        let mut i = 1;
        while i < keys.len() && !taken[keys[i].hash(candidate)] {
            taken[keys[i].hash(candidate)] = true;
            i += 1;
        }
        if i == keys.len() {
            return candidate;
        }
        candidate = candidate
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f)
            | 1;
    }
}

/// Known headers by the hash of their key.
static HASHED: [Header; 256] = hashed();

const fn hashed() -> [Header; 256] {
    let mut table = [Header::Other; 256];
    let keys = keys();
    let mut i = 0;
    while i < KNOWN.len() {
        table[keys[i + 1].hash(MULTIPLIER)] = KNOWN[i].0;
        i += 1;
    }
    table
}

/// A method by its token, compared with case (RFC 3261 §7.1). `Other` is any further token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 3261 §13
    Invite,
    /// RFC 3261 §13.2.2.4
    Ack,
    /// RFC 3261 §15
    Bye,
    /// RFC 3261 §9
    Cancel,
    /// RFC 3261 §11
    Options,
    /// RFC 3261 §10
    Register,
    /// RFC 3262
    Prack,
    /// RFC 3311
    Update,
    /// RFC 6086
    Info,
    /// RFC 6665
    Subscribe,
    /// RFC 6665
    Notify,
    /// RFC 3515
    Refer,
    /// RFC 3428
    Message,
    /// RFC 3903
    Publish,
    /// Any other token; it is compared by its bytes.
    Other,
}

impl Method {
    /// The method a token names. `invite` is not INVITE.
    #[inline]
    pub fn from_token(token: &[u8]) -> Method {
        match token {
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"BYE" => Method::Bye,
            b"CANCEL" => Method::Cancel,
            b"OPTIONS" => Method::Options,
            b"REGISTER" => Method::Register,
            b"PRACK" => Method::Prack,
            b"UPDATE" => Method::Update,
            b"INFO" => Method::Info,
            b"SUBSCRIBE" => Method::Subscribe,
            b"NOTIFY" => Method::Notify,
            b"REFER" => Method::Refer,
            b"MESSAGE" => Method::Message,
            b"PUBLISH" => Method::Publish,
            _ => Method::Other,
        }
    }

    /// The token; empty for `Other`.
    pub fn token(self) -> &'static str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Options => "OPTIONS",
            Method::Register => "REGISTER",
            Method::Prack => "PRACK",
            Method::Update => "UPDATE",
            Method::Info => "INFO",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Refer => "REFER",
            Method::Message => "MESSAGE",
            Method::Publish => "PUBLISH",
            Method::Other => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_header_is_found_by_its_long_and_its_compact_name_in_any_case() {
        for (position, &(header, name, compact)) in KNOWN.iter().enumerate() {
            assert_eq!(header as usize, position + 1);
            assert_eq!(Header::from_number(header as u8), header);
            assert_eq!(header.name(), name);
            assert_eq!(Header::from_name(name.as_bytes()), header);
            assert_eq!(Header::from_name(name.to_ascii_lowercase().as_bytes()), header);
            assert_eq!(Header::from_name(name.to_ascii_uppercase().as_bytes()), header);
            if let Some(letter) = compact {
                assert_eq!(Header::from_name(&[letter]), header);
                assert_eq!(Header::from_name(&[letter.to_ascii_uppercase()]), header);
            }
        }
    }

    #[test]
    fn names_close_to_a_known_one_are_other() {
        for &(_, name, _) in KNOWN {
            for at in 0..name.len() {
                let mut near = name.as_bytes().to_vec();
                near[at] = if near[at] == b'!' { b'~' } else { b'!' };
                assert_eq!(Header::from_name(&near), Header::Other, "{}", near.escape_ascii());
                near.remove(at);
                if near.len() > 1 {
                    assert_eq!(Header::from_name(&near), Header::Other, "{}", near.escape_ascii());
                }
            }
        }
        for name in [
            "",
            "q",
            "-",
            "C%6Fntact",
            "Content\rLength",
            "Subscription-Statement",
            "X-Very-Long-Private-Header",
        ] {
            assert_eq!(Header::from_name(name.as_bytes()), Header::Other, "{name:?}");
        }
    }

    #[test]
    fn methods_are_compared_with_case() {
        assert_eq!(Method::from_token(b"INVITE"), Method::Invite);
        assert_eq!(Method::from_token(b"invite"), Method::Other);
        assert_eq!(Method::from_token(b"RE%47ISTER"), Method::Other);
        for method in [Method::Ack, Method::Refer, Method::Publish] {
            assert_eq!(Method::from_token(method.token().as_bytes()), method);
        }
    }
}
