//! Challenges and credentials (RFC 3261 §20.7, §20.27, §20.28, §20.44 and §22; RFC 7616, RFC 8760), read only.
//!
//! One header line holds one challenge or one set of credentials: the commas in it belong to it, and no line is split
//! at them or joined with another (RFC 3261 §7.3.1). Nothing is decoded before someone asks for it.

use nom::Parser;
use nom::branch::alt;
use nom::combinator::{eof, map, map_opt};
use nom::sequence::{preceded, terminated};

use super::Message;
use super::field::FieldError;
use super::header::Header;
use super::scan::{self, Parsed, lws, token};
use super::value::{Params, Text, comma_params, whole};

/// More parameters than this make a challenge malformed: RFC 7616 names 15, and each is compared with those before it.
const AUTH_PARAMS_MAX: usize = 32;

/// One challenge: a WWW-Authenticate or Proxy-Authenticate line.
///
/// ```
/// use referee::message::authentication::{Algorithm, Challenge};
///
/// let line = br#"Digest realm="atlanta.example", nonce="84a4cc6f", qop="auth,auth-int", algorithm=SHA-256, stale=TRUE,"#;
/// let line = [&line[..], b"\r\n charset=UTF-8"].concat();
/// let Some(Challenge::Digest(digest)) = Challenge::parse(&line) else {
///     panic!("a digest challenge");
/// };
/// assert!(digest.realm.is("atlanta.example"));
/// assert_eq!(digest.algorithm, Algorithm::Sha256);
/// assert!(digest.stale && digest.offers_qop("auth-int"));
/// assert!(digest.params.text("charset").flatten().is_some_and(|charset| charset.is("UTF-8")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge<'a> {
    /// `Digest`
    Digest(DigestChallenge<'a>),
    /// A scheme that is not known here.
    Other(OtherScheme<'a>),
}

impl<'a> Challenge<'a> {
    /// Reads the value of one line. `None` for one that lacks realm or nonce or has a parameter twice.
    pub fn parse(value: &'a [u8]) -> Option<Challenge<'a>> {
        whole(challenge, value)
    }
}

/// A digest challenge (RFC 7616 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestChallenge<'a> {
    /// Which credentials are asked for.
    pub realm: Text<'a>,
    /// What the credentials have to repeat.
    pub nonce: Text<'a>,
    /// URIs the credentials are good for, with white space between; unused in Proxy-Authenticate.
    pub domain: Option<Text<'a>>,
    /// What the credentials have to return unchanged.
    pub opaque: Option<Text<'a>>,
    /// The credentials were good but for their nonce: the same user and password may be tried with this one.
    pub stale: bool,
    /// How to hash; MD5 where nothing is said.
    pub algorithm: Algorithm<'a>,
    /// The list of qualities of protection; see [`DigestChallenge::offers_qop`]. `None`: the digest of RFC 2069.
    pub qop: Option<Text<'a>>,
    /// Whether the user name may be sent hashed (RFC 7616 §3.4.4).
    pub userhash: bool,
    /// All parameters, with those not named here.
    pub params: Params<'a>,
}

impl DigestChallenge<'_> {
    /// Whether `auth` or `auth-int` is among the offered qualities of protection.
    pub fn offers_qop(&self, wanted: &str) -> bool {
        let Some(qop) = self.qop else { return false };
        let offered = qop.decoded();
        offered
            .split(|byte| *byte == b',')
            .any(|one| scan::trim(one).eq_ignore_ascii_case(wanted.as_bytes()))
    }
}

/// One set of credentials: an Authorization or Proxy-Authorization line.
///
/// ```
/// use referee::message::authentication::Credentials;
///
/// let line = [
///     &br#"Digest username="bob", realm="biloxi.example", nonce="dcd98b71", uri="sip:bob@biloxi.example","#[..],
///     b"\r\n  qop=auth, nc=00000001, cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\"",
/// ];
/// let line = line.concat();
/// let Some(Credentials::Digest(digest)) = Credentials::parse(&line) else {
///     panic!("digest credentials");
/// };
/// assert!(digest.username.is_some_and(|name| name.is("bob")) && digest.uri.is("sip:bob@biloxi.example"));
/// assert_eq!(digest.protection.map(|protection| protection.count), Some(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// `Digest`
    Digest(DigestCredentials<'a>),
    /// A scheme that is not known here.
    Other(OtherScheme<'a>),
}

impl<'a> Credentials<'a> {
    /// Reads the value of one line. `None` for one that lacks what RFC 7616 §3.4 wants, or has a parameter twice.
    pub fn parse(value: &'a [u8]) -> Option<Credentials<'a>> {
        whole(credentials, value)
    }
}

/// Digest credentials (RFC 7616 §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestCredentials<'a> {
    /// The user name; a hash in hexadecimal if `userhash`. `None` where only `username*` is there.
    pub username: Option<Text<'a>>,
    /// `username*`: a name outside ASCII, as RFC 5987 encodes it. Exactly one of the two names is there.
    pub username_encoded: Option<Text<'a>>,
    /// The realm of the challenge.
    pub realm: Text<'a>,
    /// The nonce of the challenge; empty in the first REGISTER of an IMS client (3GPP TS 24.229 §5.1.1.2).
    pub nonce: Text<'a>,
    /// The Request-URI the digest was computed for: a proxy may have changed the one of the message since.
    pub uri: Text<'a>,
    /// The digest: hexadecimal digits, or nothing in an IMS client's first REGISTER.
    pub response: Text<'a>,
    /// How it was hashed; MD5 where nothing is said.
    pub algorithm: Algorithm<'a>,
    /// The opaque of the challenge.
    pub opaque: Option<Text<'a>>,
    /// What comes with a qop, and only with one.
    pub protection: Option<Protection<'a>>,
    /// Whether `username` is a hash.
    pub userhash: bool,
    /// All parameters, with those not named here.
    pub params: Params<'a>,
}

/// Quality of protection of credentials, with what it needs (RFC 7616 §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection<'a> {
    /// `auth` or `auth-int`.
    pub qop: Text<'a>,
    /// The client's nonce.
    pub cnonce: Text<'a>,
    /// How often the client has used the server's nonce, this time included.
    pub count: u32,
}

/// Hash algorithm of a digest. `-sess` compares and computes otherwise (RFC 7616 §3.4.2), so each has its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm<'a> {
    /// `MD5`, also where nothing is said.
    Md5,
    /// `MD5-sess`
    Md5Sess,
    /// `SHA-256`
    Sha256,
    /// `SHA-256-sess`
    Sha256Sess,
    /// `SHA-512-256`
    Sha512_256,
    /// `SHA-512-256-sess`
    Sha512_256Sess,
    /// Any other, such as `AKAv1-MD5` (RFC 3310). RFC 8760 §2.4: a challenge with it is passed over.
    Other(Text<'a>),
}

impl<'a> Algorithm<'a> {
    fn read(value: Option<Text<'a>>) -> Algorithm<'a> {
        let Some(text) = value else { return Algorithm::Md5 };
        let known = [
            ("MD5", Algorithm::Md5),
            ("MD5-sess", Algorithm::Md5Sess),
            ("SHA-256", Algorithm::Sha256),
            ("SHA-256-sess", Algorithm::Sha256Sess),
            ("SHA-512-256", Algorithm::Sha512_256),
            ("SHA-512-256-sess", Algorithm::Sha512_256Sess),
        ];
        let found = known.into_iter().find(|(name, _)| text.is(name));
        found.map_or(Algorithm::Other(text), |(_, algorithm)| algorithm)
    }
}

/// A challenge or credentials of a scheme that is not read further, such as Bearer (RFC 8898).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherScheme<'a> {
    /// The scheme as received; it compares without regard to case.
    pub scheme: &'a [u8],
    /// All that follows it.
    pub value: &'a [u8],
}

impl<'a> OtherScheme<'a> {
    /// Its parameters, where it has such; `None` for a token alone.
    pub fn params(&self) -> Option<Params<'a>> {
        whole(comma_params, self.value)
    }
}

/// What a server says to a client it has accepted (RFC 7616 §3.5): Authentication-Info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthenticationInfo<'a> {
    /// The nonce for the next request.
    pub nextnonce: Option<Text<'a>>,
    /// The digest by which the server shows that it knows the secret too.
    pub rspauth: Option<Text<'a>>,
    /// The client's nonce, repeated.
    pub cnonce: Option<Text<'a>>,
    /// The quality of protection of this answer.
    pub qop: Option<Text<'a>>,
    /// The count of the request that is answered.
    pub count: Option<u32>,
}

impl<'a> AuthenticationInfo<'a> {
    /// Reads one value.
    pub fn parse(value: &'a [u8]) -> Option<AuthenticationInfo<'a>> {
        whole(authentication_info, value)
    }
}

// ---- grammars ----

/// ```text
/// challenge       = ("Digest" LWS digest-cln *(COMMA digest-cln)) / other-challenge
/// other-challenge = auth-scheme LWS auth-param *(COMMA auth-param)
/// ```
fn challenge(input: &[u8]) -> Parsed<'_, Challenge<'_>> {
    alt((
        map(digest(digest_challenge), Challenge::Digest),
        map(other_scheme, Challenge::Other),
    ))
    .parse(input)
}

/// ```text
/// credentials     = ("Digest" LWS digest-response) / other-response
/// digest-response = dig-resp *(COMMA dig-resp)
/// ```
fn credentials(input: &[u8]) -> Parsed<'_, Credentials<'_>> {
    alt((
        map(digest(digest_response), Credentials::Digest),
        map(other_scheme, Credentials::Other),
    ))
    .parse(input)
}

/// `"Digest" LWS` and its parameters.
fn digest<'a, T>(read: fn(Params<'a>) -> Option<T>) -> impl Parser<&'a [u8], Output = T, Error = ()> {
    preceded(scheme(|name| name.eq_ignore_ascii_case(b"Digest")), once_each(read))
}

/// A comma list of parameters of which none stands twice, made into something by `read`.
fn once_each<'a, T>(read: fn(Params<'a>) -> Option<T>) -> impl Parser<&'a [u8], Output = T, Error = ()> {
    map_opt(comma_params, move |params| match params.has_repeated(AUTH_PARAMS_MAX) {
        true => None,
        false => read(params),
    })
}

/// `auth-scheme LWS`, of a scheme that `fits`. What follows may be missing (`Negotiate`).
fn scheme<'a>(fits: fn(&[u8]) -> bool) -> impl Parser<&'a [u8], Output = &'a [u8], Error = ()> {
    map_opt(
        terminated(token, alt((lws, map(eof, |_: &[u8]| ())))),
        move |name: &[u8]| fits(name).then_some(name),
    )
}

/// `other-challenge / other-response`, and the token68 of RFC 7235 §2.1 in their place.
fn other_scheme(input: &[u8]) -> Parsed<'_, OtherScheme<'_>> {
    let (value, scheme) = scheme(|name| !name.eq_ignore_ascii_case(b"Digest")).parse(input)?;
    Ok((b"", OtherScheme { scheme, value }))
}

/// ```text
/// digest-cln = realm / domain / nonce / opaque / stale / algorithm / qop-options / auth-param
/// ```
fn digest_challenge(params: Params<'_>) -> Option<DigestChallenge<'_>> {
    Some(DigestChallenge {
        realm: params.text("realm")??,
        nonce: params.text("nonce")??,
        domain: params.text("domain")?,
        opaque: params.text("opaque")?,
        // RFC 7616 §3.3: any other value than true, in any case, is false.
        stale: params.text("stale")?.is_some_and(|stale| stale.is("true")),
        algorithm: Algorithm::read(params.text("algorithm")?),
        qop: params.text("qop")?,
        userhash: params.text("userhash")?.is_some_and(|userhash| userhash.is("true")),
        params,
    })
}

/// ```text
/// dig-resp = username / realm / nonce / digest-uri / dresponse / algorithm / cnonce / opaque / message-qop
///            / nonce-count / auth-param
/// ```
fn digest_response(params: Params<'_>) -> Option<DigestCredentials<'_>> {
    let (username, username_encoded) = (params.text("username")?, params.text("username*")?);
    let response = params.text("response")??;
    let has_one_name = username.is_some() != username_encoded.is_some();
    // RFC 8760 §2.2: as many digits as the algorithm gives.
    let is_hexadecimal = response.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !has_one_name || !is_hexadecimal {
        return None;
    }
    let protection = match params.text("qop")? {
        Some(qop) => Some(Protection {
            qop,
            cnonce: params.text("cnonce")??,
            count: nonce_count(params.text("nc")??)?,
        }),
        None => None,
    };
    Some(DigestCredentials {
        username,
        username_encoded,
        realm: params.text("realm")??,
        nonce: params.text("nonce")??,
        uri: params.text("uri")??,
        response,
        algorithm: Algorithm::read(params.text("algorithm")?),
        opaque: params.text("opaque")?,
        protection,
        userhash: params.text("userhash")?.is_some_and(|userhash| userhash.is("true")),
        params,
    })
}

/// `nc-value = 8LHEX`; some clients quote it.
fn nonce_count(value: Text<'_>) -> Option<u32> {
    let digits = value.decoded();
    if digits.len() != 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
}

/// ```text
/// Authentication-Info = "Authentication-Info" HCOLON ainfo *(COMMA ainfo)
/// ainfo               = nextnonce / message-qop / response-auth / cnonce / nonce-count
/// ```
fn authentication_info(input: &[u8]) -> Parsed<'_, AuthenticationInfo<'_>> {
    once_each(|params| {
        let count = match params.text("nc")? {
            Some(count) => Some(nonce_count(count)?),
            None => None,
        };
        Some(AuthenticationInfo {
            nextnonce: params.text("nextnonce")?,
            rspauth: params.text("rspauth")?,
            cnonce: params.text("cnonce")?,
            qop: params.text("qop")?,
            count,
        })
    })
    .parse(input)
}

impl<'a> Message<'a> {
    /// The challenges of WWW-Authenticate or Proxy-Authenticate, one a line, in order: RFC 8760 §2.4 has the client take
    /// the first whose algorithm it knows.
    pub fn challenges(&self, header: Header) -> impl Iterator<Item = Result<Challenge<'a>, FieldError>> + use<'a> {
        self.lines_of(header)
            .map(move |line| Challenge::parse(line.value).ok_or(FieldError::Malformed(header)))
    }

    /// The credentials of Authorization or Proxy-Authorization, one a line: a request may have some for each realm on
    /// its way (RFC 3261 §22.3).
    pub fn credentials(&self, header: Header) -> impl Iterator<Item = Result<Credentials<'a>, FieldError>> + use<'a> {
        self.lines_of(header)
            .map(move |line| Credentials::parse(line.value).ok_or(FieldError::Malformed(header)))
    }

    /// Authentication-Info (RFC 3261 §20.6). The header in an error is `Other`.
    pub fn authentication_info(&self) -> Result<Option<AuthenticationInfo<'a>>, FieldError> {
        let mut lines = self.lines_named("Authentication-Info");
        match (lines.next(), lines.next()) {
            (None, _) => Ok(None),
            (Some(line), None) => AuthenticationInfo::parse(line.value)
                .map(Some)
                .ok_or(FieldError::Malformed(Header::Other)),
            (Some(_), Some(_)) => Err(FieldError::Malformed(Header::Other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::with;
    use super::*;

    fn challenge_of(value: &str) -> Option<DigestChallenge<'_>> {
        match Challenge::parse(value.as_bytes())? {
            Challenge::Digest(digest) => Some(digest),
            Challenge::Other(other) => panic!("{value}: {other:?}"),
        }
    }

    fn credentials_of(value: &str) -> Option<DigestCredentials<'_>> {
        match Credentials::parse(value.as_bytes())? {
            Credentials::Digest(digest) => Some(digest),
            Credentials::Other(other) => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn a_digest_challenge_is_read_as_servers_write_it() {
        // RFC 3261 §20.27, §20.44 and RFC 8760 §2.7 with folds; white space and case as in the field.
        let full = challenge_of(
            "Digest realm=\"atlanta.com\",\r\n domain=\"sip:ss1.carrier.com sip:b\", qop=\"auth,auth-int\",\r\n \
             nonce=\"f84f1cec41e6cbe5aea9c8e88d359\",\r\n opaque=\"\", stale=FALSE, algorithm=MD5",
        )
        .unwrap();
        assert!(full.realm.is("atlanta.com") && full.domain.unwrap().is("sip:ss1.carrier.com sip:b"));
        assert_eq!(full.opaque, Some(Text::new(b"")));
        assert!(full.offers_qop("auth") && full.offers_qop("AUTH-INT") && !full.offers_qop("aut"));
        assert_eq!(
            (full.stale, full.userhash, full.algorithm),
            (false, false, Algorithm::Md5)
        );

        let odd =
            challenge_of("digest  REALM = \"a \\\"b\\\", c\" , nonce=abc== ,qop=auth,stale=\"True\",userhash=true,x=y")
                .unwrap();
        assert_eq!(odd.realm.decoded(), &b"a \"b\", c"[..]);
        assert_eq!(
            (odd.nonce.as_received(), odd.stale, odd.userhash),
            (&b"abc=="[..], true, true)
        );
        assert_eq!(odd.params.token("x"), Some(Some(&b"y"[..])));
        assert!(odd.offers_qop("auth") && odd.domain.is_none());

        for (name, algorithm) in [
            ("md5-SESS", Algorithm::Md5Sess),
            ("SHA-256", Algorithm::Sha256),
            ("SHA-256-sess", Algorithm::Sha256Sess),
            ("SHA-512-256", Algorithm::Sha512_256),
            ("\"SHA-512-256-sess\"", Algorithm::Sha512_256Sess),
            ("AKAv1-MD5", Algorithm::Other(Text::new(b"AKAv1-MD5"))),
        ] {
            let value = format!("Digest realm=\"a\", nonce=\"b\", algorithm={name}");
            assert_eq!(challenge_of(&value).unwrap().algorithm, algorithm);
        }
    }

    #[test]
    fn what_is_no_digest_challenge_is_refused() {
        for value in [
            "",
            "Digest",
            "Digest ",
            "Digest realm=\"a\"",
            "Digest nonce=\"a\"",
            "Digest realm=\"a\", nonce",
            "Digest realm=\"a\", nonce=",
            "Digest realm=\"a\", nonce=\"b",
            "Digest realm=\"a\" nonce=\"b\"",
            "Digest realm=\"a\"; nonce=\"b\"",
            "Digest realm=\"a\", nonce=\"b\",",
            "Digest realm=\"a\",, nonce=\"b\"",
            "Digest realm=\"a\", nonce=\"b\", REALM=\"c\"",
            "Digest realm=\"a\", nonce=\"b\", x=1, x=1",
            "Digest realm=\"a\", nonce=\"b\" x",
            "\"Digest\" realm=\"a\", nonce=\"b\"",
        ] {
            assert_eq!(Challenge::parse(value.as_bytes()), None, "{value}");
        }
        let many: String = (0..AUTH_PARAMS_MAX).map(|n| format!(",p{n}=1")).collect();
        let value = format!("Digest realm=\"a\"{many}");
        assert_eq!(
            Challenge::parse(value.as_bytes()),
            None,
            "more parameters than are compared"
        );
    }

    #[test]
    fn credentials_are_read_with_and_without_protection() {
        // RFC 3261 §20.28.
        let plain = credentials_of(
            "Digest username=\"Alice\", realm=\"atlanta.com\",\r\n nonce=\"c60f3082ee1212b402a21831ae\",\r\n \
             uri=\"sip:a,b@atlanta.com\", response=\"245f23415f11432b3434341c022\"",
        )
        .unwrap();
        assert!(plain.username.unwrap().is("alice") && plain.uri.is("sip:a,b@atlanta.com"));
        assert_eq!(
            (plain.protection, plain.algorithm, plain.opaque),
            (None, Algorithm::Md5, None)
        );

        let whole = "Digest username*=UTF-8''J%C3%A4s, realm=\"r\", nonce=\"n\", uri=\"sip:b\", response=\"\", qop=auth, \
                     nc=\"0000000A\", cnonce=\"c\", userhash=false, algorithm=SHA-256, opaque=\"o\"";
        let read = credentials_of(whole).unwrap();
        assert_eq!((read.username, read.response.decoded().len()), (None, 0));
        assert_eq!(read.username_encoded.unwrap().as_received(), b"UTF-8''J%C3%A4s");
        let protection = read.protection.unwrap();
        assert!(protection.qop.is("auth") && protection.cnonce.is("c") && protection.count == 10);

        for (from, to) in [
            ("username*=UTF-8''J%C3%A4s, ", ""),
            ("username*", "username=\"a\", username*"),
            ("realm=\"r\", ", ""),
            ("nonce=\"n\", ", ""),
            ("uri=\"sip:b\", ", ""),
            ("response=\"\", ", ""),
            ("response=\"\"", "response=\"0g\""),
            ("cnonce=\"c\", ", ""),
            ("nc=\"0000000A\", ", ""),
            ("0000000A", "000000A"),
            ("0000000A", "0000000X"),
            ("opaque", "Nonce=\"n\", opaque"),
        ] {
            let broken = whole.replacen(from, to, 1);
            assert_ne!(broken, whole);
            assert_eq!(Credentials::parse(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn an_unknown_scheme_is_kept_as_it_is() {
        let Some(Challenge::Other(bearer)) = Challenge::parse(b"Bearer authz_server=\"https://a\", scope=\"x\"") else {
            panic!("another scheme");
        };
        assert_eq!(bearer.scheme, b"Bearer");
        assert!(bearer.params().unwrap().text("scope").unwrap().unwrap().is("x"));
        let Some(Credentials::Other(basic)) = Credentials::parse(b"Basic QWxhZGRpbjpvcGVu==") else {
            panic!("another scheme");
        };
        assert_eq!((basic.value, basic.params()), (&b"QWxhZGRpbjpvcGVu=="[..], None));
        assert!(matches!(Challenge::parse(b"Negotiate"), Some(Challenge::Other(other)) if other.value.is_empty()));
    }

    #[test]
    fn each_line_is_one_challenge_and_a_broken_one_hides_no_other() {
        let buf = with(
            "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\", algorithm=SHA-256\r\n\
             WWW-Authenticate: Digest realm=\"a\"\r\n\
             WWW-Authenticate: Digest realm=\"a\", nonce=\"2\"\r\n\
             Proxy-Authorization: Digest username=\"u\",realm=\"p\",nonce=\"3\",uri=\"sip:b\",response=\"0f\"\r\n\
             Authentication-Info: nextnonce=\"4\", nc=00000001, rspauth=\"\"\r\n",
        );
        let message = buf.as_message();
        let nonces: Vec<_> = message
            .challenges(Header::WwwAuthenticate)
            .map(|challenge| match challenge {
                Ok(Challenge::Digest(digest)) => Ok(digest.nonce.as_received()),
                Ok(Challenge::Other(other)) => panic!("{other:?}"),
                Err(error) => Err(error),
            })
            .collect();
        let broken = Err(FieldError::Malformed(Header::WwwAuthenticate));
        assert_eq!(nonces, [Ok(&b"\"1\""[..]), broken, Ok(b"\"2\"")]);
        assert_eq!(message.challenges(Header::ProxyAuthenticate).count(), 0);
        assert_eq!(message.credentials(Header::ProxyAuthorization).flatten().count(), 1);
        let info = message.authentication_info().unwrap().unwrap();
        assert!(info.nextnonce.unwrap().is("4") && info.count == Some(1) && info.qop.is_none());

        for line in ["nc=1", "nextnonce", "nextnonce=\"a\", nextnonce=\"b\""] {
            let buf = with(&format!("Authentication-Info: {line}\r\n"));
            assert!(buf.as_message().authentication_info().is_err(), "{line}");
        }
        assert_eq!(with("").as_message().authentication_info(), Ok(None));
    }
}
