//! Header names and methods: the ones referee acts on, their compact forms (RFC 3261 §7.3.3) and their identity.

use super::scan::{self, lower, short_name};

/// Declares [`Header`] and the table of its spellings from one list, so that the two cannot drift apart.
macro_rules! headers {
    ($($header:ident $name:literal $($compact:literal)?;)*) => {
        /// A header referee knows by name. Everything else is `Other` and passes through unchanged.
        ///
        /// ```
        /// use referee::message::Header;
        ///
        /// assert_eq!(Header::from_name(b"r"), Header::ReferTo);
        /// assert_eq!(Header::from_name(b"REFER-to").name(), "Refer-To");
        /// assert_eq!(Header::from_name(b"X-Account"), Header::Other);
        /// ```
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
        Spellings::find(name).unwrap_or(Header::Other)
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

/// All spellings of the known headers, long and compact, in a table without collisions.
pub(super) struct Spellings {
    /// In lower case, with a colon behind.
    names: [[u8; 32]; SPELLINGS_MAX],
    /// [`Spellings::key`] of each.
    keys: [u64; SPELLINGS_MAX],
    headers: [Header; SPELLINGS_MAX],
    /// The place in the two tables by the hash of a name. The last place has no name.
    places: [u8; 1 << HASH_BITS],
}

/// As many as a byte can tell apart.
const SPELLINGS_MAX: usize = 256;
const HASH_BITS: u32 = 9;
/// The longest known name has 20 bytes; a spelling has room for 24, which three words cover.
const NAME_BYTES_MAX: usize = 24;

static SPELLINGS: Spellings = Spellings::new();

/// The first factor tried that gives every spelling a place of its own; found while compiling.
const MULTIPLIER: u64 = Spellings::multiplier();

impl Spellings {
    /// The first eight bytes of a name in lower case, zeros behind a shorter one.
    #[inline]
    const fn key(name: &[u8]) -> u64 {
        match name.first_chunk::<8>() {
            Some(first) => lower(u64::from_le_bytes(*first)),
            None => short_name(name),
        }
    }

    #[inline(always)]
    const fn hash(key: u64, length: usize, multiplier: u64) -> usize {
        ((key ^ length as u64).wrapping_mul(multiplier) >> (64 - HASH_BITS)) as usize
    }

    /// The only spelling that a name with this key and length may have, its key, and its header.
    #[inline(always)]
    pub(super) fn candidate(key: u64, length: usize) -> (&'static [u8; 32], u64, Header) {
        let place = usize::from(SPELLINGS.places[Spellings::hash(key, length, MULTIPLIER)]);
        (&SPELLINGS.names[place], SPELLINGS.keys[place], SPELLINGS.headers[place])
    }

    /// The header of a name.
    #[inline]
    fn find(name: &[u8]) -> Option<Header> {
        let (key, length) = (Spellings::key(name), name.len());
        let (spelling, its_key, header) = Spellings::candidate(key, length);
        if its_key != key || spelling.get(length) != Some(&b':') {
            return None;
        }
        // Beside the first eight bytes the last and the second eight, which overlap in shorter names.
        let spelled = &spelling[..length];
        let same_word = |one: Option<&[u8; 8]>, two: Option<&[u8; 8]>| match (one, two) {
            (Some(one), Some(two)) => lower(u64::from_le_bytes(*one)) == u64::from_le_bytes(*two),
            _ => true,
        };
        let is_same = length <= 8
            || same_word(name.last_chunk(), spelled.last_chunk())
                && (length <= 16 || same_word(name[8..].first_chunk(), spelled[8..].first_chunk()));
        is_same.then_some(header)
    }

    const fn new() -> Spellings {
        let mut table = Spellings {
            names: [[0; 32]; SPELLINGS_MAX],
            keys: [0; SPELLINGS_MAX],
            headers: [Header::Other; SPELLINGS_MAX],
            places: [u8::MAX; 1 << HASH_BITS],
        };
        let mut count = 0;
        let mut i = 0;
        while i < KNOWN.len() {
            let (header, name, compact) = KNOWN[i];
            table.put(count, name.as_bytes(), header);
            count += 1;
            if let Some(letter) = compact {
                table.put(count, &[letter], header);
                count += 1;
            }
            i += 1;
        }
        assert!(count < SPELLINGS_MAX, "the last place has no name");
        table
    }

    const fn put(&mut self, place: usize, name: &[u8], header: Header) {
        assert!(name.len() <= NAME_BYTES_MAX);
        let mut i = 0;
        while i < name.len() {
            assert!(name[i].is_ascii_alphanumeric() || name[i] == b'-');
            self.names[place][i] = name[i].to_ascii_lowercase();
            i += 1;
        }
        self.names[place][i] = b':';
        self.keys[place] = Spellings::key(name);
        self.headers[place] = header;
        self.places[Spellings::hash(Spellings::key(name), name.len(), MULTIPLIER)] = place as u8;
    }

    const fn multiplier() -> u64 {
        let mut candidate = 0x9e37_79b9_7f4a_7c15_u64;
        while !Spellings::parts_all(candidate) {
            candidate = candidate
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f)
                | 1;
        }
        candidate
    }

    /// Whether with this factor no two spellings have the same hash.
    const fn parts_all(multiplier: u64) -> bool {
        let mut taken = [false; 1 << HASH_BITS];
        let mut i = 0;
        while i < KNOWN.len() {
            let (_, name, compact) = KNOWN[i];
            let hash = Spellings::hash(Spellings::key(name.as_bytes()), name.len(), multiplier);
            if std::mem::replace(&mut taken[hash], true) {
                return false;
            }
            if let Some(letter) = compact {
                let hash = Spellings::hash(letter as u64, 1, multiplier);
                if std::mem::replace(&mut taken[hash], true) {
                    return false;
                }
            }
            i += 1;
        }
        true
    }
}

/// A method by its token, compared with case (RFC 3261 §7.1). `Other` is any further token, which
/// [`super::Message::method_token`] has.
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
        const fn word(token: &str) -> u64 {
            scan::word(token.as_bytes())
        }
        const INVITE: u64 = word("INVITE");
        const ACK: u64 = word("ACK");
        const BYE: u64 = word("BYE");
        const CANCEL: u64 = word("CANCEL");
        const OPTIONS: u64 = word("OPTIONS");
        const REGISTER: u64 = word("REGISTER");
        const PRACK: u64 = word("PRACK");
        const UPDATE: u64 = word("UPDATE");
        const INFO: u64 = word("INFO");
        const NOTIFY: u64 = word("NOTIFY");
        const REFER: u64 = word("REFER");
        const MESSAGE: u64 = word("MESSAGE");
        const PUBLISH: u64 = word("PUBLISH");
        match scan::word(token) {
            INVITE => Method::Invite,
            ACK => Method::Ack,
            BYE => Method::Bye,
            CANCEL => Method::Cancel,
            OPTIONS => Method::Options,
            REGISTER => Method::Register,
            PRACK => Method::Prack,
            UPDATE => Method::Update,
            INFO => Method::Info,
            NOTIFY => Method::Notify,
            REFER => Method::Refer,
            MESSAGE => Method::Message,
            PUBLISH => Method::Publish,
            _ if token == b"SUBSCRIBE" => Method::Subscribe,
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
