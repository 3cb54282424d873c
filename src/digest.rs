//! Digest authentication as a client (RFC 3261 §22, RFC 7616, RFC 8760): which challenges are answered, and with what.
//!
//! ```text
//!  401, 407 ──► choose ──► Session of each realm ──► Sessions::lines ──► Authorization, Proxy-Authorization
//!                 └► Unanswered: the challenge is its reader's            (nc counts up with each request)
//! ```
//!
//! Basic is never answered (RFC 3261 §22). The rspauth of a server is not checked, and its nextnonce not taken: a nonce that it
//! does not want any more it challenges anew.

use crate::config::Auth;
use crate::identifiers::{Random, hex16};
use crate::message::authentication::{Algorithm, Challenge, Credentials, DigestChallenge};
use crate::message::value::Text;
use crate::message::{Header, Message};
use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};
use smallvec::SmallVec;
use std::ops::Range;

/// Realms that one request may have credentials of ours for: as many servers in a row as anyone has seen, and some more.
pub const REALMS_MAX: usize = 4;

/// INVITEs of one direction whose ACKs may still come: a 2xx is repeated for 64·T1 (RFC 3261 §13.3.1.4), and a party may have sent
/// some more meanwhile.
const INVITES_MAX: usize = 8;

/// Realm, nonce and opaque of one challenge together; what is longer is passed over.
const CHALLENGE_BYTES_MAX: usize = 4_096;

/// Who asks: it decides in which header the challenge stands, and in which the answer (RFC 3261 §22.2, §22.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// The far end, by WWW-Authenticate.
    UserAgent,
    /// A proxy on the way, by Proxy-Authenticate.
    Proxy,
}

impl Asks {
    const ALL: [Asks; 2] = [Asks::UserAgent, Asks::Proxy];

    fn challenges(self) -> Header {
        match self {
            Asks::UserAgent => Header::WwwAuthenticate,
            Asks::Proxy => Header::ProxyAuthenticate,
        }
    }

    fn credentials(self) -> Header {
        match self {
            Asks::UserAgent => Header::Authorization,
            Asks::Proxy => Header::ProxyAuthorization,
        }
    }

    /// The name of the header that the answer stands in.
    pub fn header_name(self) -> &'static str {
        match self {
            Asks::UserAgent => "Authorization",
            Asks::Proxy => "Proxy-Authorization",
        }
    }
}

/// Why a challenge is not answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The party whose request it was has credentials of its own for a realm in it.
    OfParty,
    /// It has none that is for us: another realm, another scheme, no algorithm or qop that is known, or malformed.
    NotForUs,
    /// Ours were sent and are not wanted (RFC 3261 §22.1: they are not tried again unless the challenge says stale).
    Rejected,
}

/// A hash of RFC 8760 §2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Md5,
    Sha256,
    Sha512_256,
}

/// Lower-case hexadecimal digits.
type Hex = SmallVec<[u8; 64]>;

impl Hash {
    /// The hash over `parts` with a colon between each and the next.
    fn of(self, parts: &[&[u8]]) -> Hex {
        match self {
            Hash::Md5 => hash::<Md5>(parts),
            Hash::Sha256 => hash::<Sha256>(parts),
            Hash::Sha512_256 => hash::<Sha512_256>(parts),
        }
    }
}

fn hash<D: Digest>(parts: &[&[u8]]) -> Hex {
    let mut hasher = D::new();
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            hasher.update(b":");
        }
        hasher.update(part);
    }
    let digits = |byte: u8| [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    hasher.finalize().iter().copied().flat_map(digits).collect()
}

/// An algorithm that is known here: its hash, whether it is a `-sess`, and its name.
fn known(algorithm: Algorithm<'_>) -> Option<(Hash, bool, &'static str)> {
    match algorithm {
        Algorithm::Md5 => Some((Hash::Md5, false, "MD5")),
        Algorithm::Md5Sess => Some((Hash::Md5, true, "MD5-sess")),
        Algorithm::Sha256 => Some((Hash::Sha256, false, "SHA-256")),
        Algorithm::Sha256Sess => Some((Hash::Sha256, true, "SHA-256-sess")),
        Algorithm::Sha512_256 => Some((Hash::Sha512_256, false, "SHA-512-256")),
        Algorithm::Sha512_256Sess => Some((Hash::Sha512_256, true, "SHA-512-256-sess")),
        Algorithm::Other(_) => None,
    }
}

/// Quality of protection (RFC 7616 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Qop {
    Auth,
    AuthInt,
}

/// A challenge that is answered, and how often it was.
#[derive(Clone, Debug)]
pub struct Session {
    asks: Asks,
    realm: Box<[u8]>,
    /// As it is sent, quotes included; so `opaque`.
    nonce: Box<[u8]>,
    opaque: Option<Box<[u8]>>,
    hash: Hash,
    is_sess: bool,
    /// `None`: the challenge names no algorithm, which is MD5.
    algorithm: Option<&'static str>,
    /// `None`: the digest of RFC 2069, which counts nothing.
    qop: Option<Qop>,
    userhash: bool,
    /// The same for all requests of the nonce: what is hashed once for `-sess` holds for all of them (RFC 7616 §3.4.2).
    cnonce: Box<[u8]>,
    /// Requests that were sent with the nonce: `nc`.
    count: u32,
}

/// What of a request is hashed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a [u8],
    /// The Request-URI as it is sent.
    pub uri: &'a [u8],
    pub body: &'a [u8],
}

impl Session {
    /// `None`: not one that is answered here.
    fn of(asks: Asks, challenge: &DigestChallenge<'_>, random: &mut Random) -> Option<Session> {
        let (hash, is_sess, name) = known(challenge.algorithm)?;
        let qop = match challenge.qop {
            None => None,
            Some(_) if challenge.offers_qop("auth") => Some(Qop::Auth),
            Some(_) if challenge.offers_qop("auth-int") => Some(Qop::AuthInt),
            Some(_) => return None,
        };
        if is_sess && qop.is_none() {
            // RFC 7616 §3.4: without a qop there is no cnonce, which the key of a session is made of.
            return None;
        }
        let texts = [Some(challenge.realm), Some(challenge.nonce), challenge.opaque];
        let length: usize = texts.into_iter().flatten().map(|text| text.as_received().len()).sum();
        if length > CHALLENGE_BYTES_MAX {
            return None;
        }
        let names_algorithm = challenge.params.text("algorithm").flatten().is_some();
        Some(Session {
            asks,
            realm: challenge.realm.decoded().into(),
            nonce: as_sent(challenge.nonce),
            opaque: challenge.opaque.map(as_sent),
            hash,
            is_sess,
            algorithm: names_algorithm.then_some(name),
            qop,
            userhash: challenge.userhash,
            cnonce: [hex16(random.next_u64()), hex16(random.next_u64())].concat().into(),
            count: 0,
        })
    }

    /// The value of the header that answers the challenge, for one more request.
    fn answer(&mut self, auth: &Auth, request: &Request<'_>) -> Vec<u8> {
        self.count = self.count.saturating_add(1);
        // RFC 7616 §3.4: exactly eight digits.
        let count = &hex16(self.count.into())[8..];
        let (username, realm) = (auth.username.as_bytes(), &self.realm[..]);
        let mut value = b"Digest username=".to_vec();
        match self.userhash {
            true => quote(&self.hash.of(&[username, realm]), &mut value),
            false => quote(username, &mut value),
        }
        value.extend_from_slice(b", realm=");
        quote(realm, &mut value);
        value.extend_from_slice(b", nonce=");
        value.extend_from_slice(&self.nonce);
        value.extend_from_slice(b", uri=");
        quote(request.uri, &mut value);
        value.extend_from_slice(b", response=\"");
        value.extend_from_slice(&self.response(auth, request, count));
        value.extend_from_slice(b"\"");
        if let Some(algorithm) = self.algorithm {
            value.extend_from_slice(b", algorithm=");
            value.extend_from_slice(algorithm.as_bytes());
        }
        if let Some(opaque) = &self.opaque {
            value.extend_from_slice(b", opaque=");
            value.extend_from_slice(opaque);
        }
        if let Some(qop) = self.qop {
            for part in [
                b", qop=",
                qop.as_bytes(),
                b", nc=",
                count,
                b", cnonce=\"",
                &self.cnonce,
                b"\"",
            ] {
                value.extend_from_slice(part);
            }
        }
        if self.userhash {
            value.extend_from_slice(b", userhash=true");
        }
        value
    }

    /// RFC 7616 §3.4.1 to §3.4.3; without a qop as RFC 2069 has it.
    fn response(&self, auth: &Auth, request: &Request<'_>, count: &[u8]) -> Hex {
        let hash = |parts: &[&[u8]]| self.hash.of(parts);
        let nonce = Text::new(&self.nonce).decoded();
        let mut key = hash(&[auth.username.as_bytes(), &self.realm, auth.password.as_bytes()]);
        if self.is_sess {
            key = hash(&[&key, &nonce, &self.cnonce]);
        }
        let of_request = match self.qop {
            Some(Qop::AuthInt) => hash(&[request.method, request.uri, &hash(&[request.body])]),
            Some(Qop::Auth) | None => hash(&[request.method, request.uri]),
        };
        match self.qop {
            Some(qop) => hash(&[&key, &nonce, count, &self.cnonce, qop.as_bytes(), &of_request]),
            None => hash(&[&key, &nonce, &of_request]),
        }
    }
}

impl Qop {
    fn as_bytes(self) -> &'static [u8] {
        match self {
            Qop::Auth => b"auth",
            Qop::AuthInt => b"auth-int",
        }
    }
}

/// A value of a challenge as it is given back: byte for byte where it stands in quotes.
fn as_sent(text: Text<'_>) -> Box<[u8]> {
    let received = text.as_received();
    if text.is_quoted() && memchr::memchr2(b'\r', b'\n', received).is_none() {
        return received.into();
    }
    let mut quoted = Vec::new();
    quote(&text.decoded(), &mut quoted);
    quoted.into()
}

/// A quoted-string (RFC 3261 §25.1). There is no CR or LF in `text`: none can be in a value that was read, or in the
/// configuration.
fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        debug_assert!(!matches!(byte, b'\r' | b'\n'));
        if matches!(byte, b'"' | b'\\' | ..b' ' | 0x7f) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// The challenges of a 401 or 407 that are answered: of each realm the topmost that is known here (RFC 8760 §2.4), but MD5
/// only where there is nothing else: whoever changes the order on the way must not choose it. `is_of_party`:
/// whose request it was has sent credentials of its own for this realm. `was_answered`: ours for this realm, made for a challenge
/// to this very request, were in it.
///
/// # Errors
/// None of them is, and why.
pub fn choose(
    response: Message<'_>,
    auth: &Auth,
    is_of_party: impl Fn(Asks, &[u8]) -> bool,
    was_answered: impl Fn(Asks, &[u8]) -> bool,
    random: &mut Random,
) -> Result<SmallVec<[Session; 1]>, Unanswered> {
    let mut chosen = SmallVec::<[Session; 1]>::new();
    for asks in Asks::ALL {
        for challenge in response.challenges(asks.challenges()).flatten() {
            let Challenge::Digest(challenge) = challenge else {
                continue;
            };
            let realm = challenge.realm.decoded();
            if is_of_party(asks, &realm) {
                return Err(Unanswered::OfParty);
            }
            let has_answer = |session: &Session| session.asks == asks && *session.realm == *realm;
            let is_wanted = auth.realms.is_empty() || auth.realms.iter().any(|wanted| wanted.as_bytes() == &*realm);
            let known = chosen.iter().position(has_answer);
            if !is_wanted || known.is_none() && chosen.len() == REALMS_MAX {
                continue;
            }
            let Some(session) = Session::of(asks, &challenge, random) else {
                continue;
            };
            if was_answered(asks, &realm) && !challenge.stale {
                return Err(Unanswered::Rejected);
            }
            match known {
                None => chosen.push(session),
                Some(at) if chosen[at].hash == Hash::Md5 && session.hash != Hash::Md5 => chosen[at] = session,
                Some(_) => {}
            }
        }
    }
    match chosen.is_empty() {
        true => Err(Unanswered::NotForUs),
        false => Ok(chosen),
    }
}

/// Whether a request has credentials for this realm.
pub fn has_credentials(request: Message<'_>, asks: Asks, realm: &[u8]) -> bool {
    credential_lines(request, |of, read| of == asks && read == realm)
        .next()
        .is_some()
}

/// The header lines of a request with digest credentials that `fits`, by who asks for them and the realm.
pub fn credential_lines<'a>(
    request: Message<'a>,
    fits: impl Fn(Asks, &[u8]) -> bool,
) -> impl Iterator<Item = Range<usize>> {
    let lines = Asks::ALL.into_iter().flat_map(move |asks| {
        let lines = request.lines_of(asks.credentials());
        lines.map(move |line| (asks, line))
    });
    lines.filter_map(move |(asks, line)| match Credentials::parse(line.value)? {
        Credentials::Digest(digest) => fits(asks, &digest.realm.decoded()).then_some(line.line_span),
        Credentials::Other(_) => None,
    })
}

/// Names and values as whole header lines.
pub fn lines_of<'a, V: AsRef<[u8]>>(values: impl Iterator<Item = (&'a str, V)>) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in values {
        for part in [name.as_bytes(), b": ", value.as_ref(), b"\r\n"] {
            lines.extend_from_slice(part);
        }
    }
    lines
}

/// The lines of [`lines_of`] as names and values again.
pub fn values_of(lines: &[u8]) -> impl Iterator<Item = (&'static str, &[u8])> {
    Asks::ALL.into_iter().flat_map(move |asks| {
        let values = lines.split(|byte| *byte == b'\n').filter_map(move |line| {
            let value = line.strip_prefix(asks.header_name().as_bytes())?;
            value.strip_prefix(b": ")?.strip_suffix(b"\r")
        });
        values.map(move |value| (asks.header_name(), value))
    })
}

/// What one direction of a dialog, or one request outside of one, has answered: its next request needs no challenge.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// At most [`REALMS_MAX`], one for each realm.
    list: SmallVec<[Session; 1]>,
    /// CSeq numbers of the last INVITEs that had credentials, as their sender counts, and their lines; at most [`INVITES_MAX`].
    of_invites: SmallVec<[(u32, Box<[u8]>); 1]>,
}

impl Sessions {
    /// Takes answered challenges in place of earlier ones of their realms; the oldest gives way to one too many.
    pub fn take(&mut self, answered: SmallVec<[Session; 1]>) {
        for session in answered {
            self.list
                .retain(|known| (known.asks, &known.realm) != (session.asks, &session.realm));
            if self.list.len() == REALMS_MAX {
                self.list.remove(0);
            }
            self.list.push(session);
        }
    }

    /// Forgets all: they are not wanted any more.
    pub fn forget(&mut self) {
        self.list.clear();
    }

    /// Takes what an INVITE hands over. Sessions that are there already are later ones.
    pub fn inherit(&mut self, handed: Sessions) {
        if self.list.is_empty() {
            self.list = handed.list;
        }
        for (number, lines) in handed.of_invites {
            self.keep_for_ack(number, &lines);
        }
    }

    /// Whether there is one of this realm.
    pub fn is_of(&self, asks: Asks, realm: &[u8]) -> bool {
        self.list
            .iter()
            .any(|known| known.asks == asks && *known.realm == *realm)
    }

    /// Header names and values with which a request is sent, without those of realms that a party answers itself.
    pub fn values(
        &mut self,
        auth: &Auth,
        request: &Request<'_>,
        is_of_party: impl Fn(Asks, &[u8]) -> bool,
    ) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
        self.list
            .iter_mut()
            .filter(move |session| !is_of_party(session.asks, &session.realm))
            .map(|session| (session.asks.header_name(), session.answer(auth, request)))
    }

    /// As [`Sessions::values`], as whole header lines.
    pub fn lines(&mut self, auth: &Auth, request: &Request<'_>, is_of_party: impl Fn(Asks, &[u8]) -> bool) -> Vec<u8> {
        lines_of(self.values(auth, request, is_of_party))
    }

    /// An INVITE leaves with these lines: the ACK of its 2xx will have the same (RFC 3261 §13.2.2.4).
    pub fn keep_for_ack(&mut self, number: u32, lines: &[u8]) {
        self.of_invites.retain(|(invite, _)| *invite != number);
        if lines.is_empty() {
            return;
        }
        if self.of_invites.len() == INVITES_MAX {
            self.of_invites.remove(0);
        }
        self.of_invites.push((number, lines.into()));
    }

    /// The lines that an ACK of this CSeq number must have.
    pub fn for_ack(&self, number: u32) -> &[u8] {
        let found = self.of_invites.iter().find(|(invite, _)| *invite == number);
        found.map_or(b"", |(_, lines)| lines)
    }

    /// What a dialog takes over from the INVITE that makes it. The nonces go to one of its dialogs alone, that which is
    /// answered first: two would count them twice.
    pub fn hand_over(&mut self, is_answered: bool) -> Sessions {
        Sessions {
            list: match is_answered {
                true => std::mem::take(&mut self.list),
                false => SmallVec::new(),
            },
            of_invites: self.of_invites.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
