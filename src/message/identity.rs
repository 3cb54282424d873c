//! Fields that say who someone is and where to reach them: Contact (RFC 3261 §20.10), P-Asserted-Identity and
//! P-Preferred-Identity (RFC 3325), Privacy (RFC 3323), User-to-User (RFC 7433).

use nom::Parser;
use nom::branch::alt;
use nom::combinator::map_opt;

use super::Message;
use super::field::{FieldError, NameAddr};
use super::header::Header;
use super::scan::{self, Parsed, separator, token};
use super::uri::{Scheme, Uri};
use super::value::{Params, Text, params, qvalue, text, whole};

/// What a Contact with an `expires` that is no number counts as, in seconds (RFC 3261 §20.10).
pub const CONTACT_EXPIRES_DEFAULT: u32 = 3_600;

/// One value of Contact (RFC 3261 §20.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact<'a> {
    /// The URI with its display name and all parameters.
    pub address: NameAddr<'a>,
    /// `q` in thousandths; `None` where nothing is said.
    pub q: Option<u16>,
    /// Seconds for which a registration or a redirection holds.
    pub expires: Option<u32>,
}

impl<'a> Contact<'a> {
    /// Takes the parameters out of a name-addr; `None` where one stands twice or `q` is none.
    ///
    /// ```
    /// use referee::message::NameAddr;
    /// use referee::message::identity::Contact;
    ///
    /// let address = NameAddr::parse(br#""Mr. Watson" <sip:watson@bell-telephone.com>;q=0.7; expires=3600"#).unwrap();
    /// let contact = Contact::from_address(address).unwrap();
    /// assert_eq!((contact.q, contact.expires), (Some(700), Some(3600)));
    /// ```
    pub fn from_address(address: NameAddr<'a>) -> Option<Contact<'a>> {
        let (_, params) = params(address.params).ok()?;
        let q = match params.token("q")? {
            Some(q) => Some(qvalue(q)?),
            None => None,
        };
        let expires = params.text("expires")?.map(|seconds| {
            let seconds = scan::decimal_clamped(seconds.as_received());
            seconds.unwrap_or(CONTACT_EXPIRES_DEFAULT)
        });
        Some(Contact { address, q, expires })
    }
}

/// What a trusted network asserts of a caller, or a caller would like it to (RFC 3325 §9.1, §9.2): one URI, or a SIP one
/// and a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identities<'a> {
    /// The sip: or sips: URI.
    pub sip: Option<NameAddr<'a>>,
    /// The tel: URI.
    pub tel: Option<NameAddr<'a>>,
}

/// Privacy (RFC 3323 §4.2, RFC 3325 §9.3, RFC 7044 §10.1): what shall not be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privacy {
    /// `header`: what names hosts and users, such as Via and Contact.
    pub header: bool,
    /// `session`: what SDP shows.
    pub session: bool,
    /// `user`: what the user agent itself should have left out.
    pub user: bool,
    /// `id`: the asserted identity.
    pub id: bool,
    /// `history`: the History-Info.
    pub history: bool,
    /// `none`: nothing is to be hidden, whatever the subscription says.
    pub none: bool,
    /// `critical`: better no call than one that shows it.
    pub critical: bool,
}

impl Privacy {
    /// Reads a value that stands alone; values not known here are passed over (RFC 3323 §4.2).
    ///
    /// ```
    /// use referee::message::identity::Privacy;
    ///
    /// let privacy = Privacy::parse(b"id;critical").unwrap();
    /// assert!(privacy.id && privacy.critical && !privacy.header);
    /// ```
    pub fn parse(value: &[u8]) -> Option<Privacy> {
        whole(privacy, value)
    }
}

/// One value of User-to-User (RFC 7433 §4.1). What it says is the applications' own.
///
/// ```
/// use referee::message::identity::UserToUser;
///
/// let uui = UserToUser::parse(b"56a390f3d2b7310023a2;purpose=isdn-uui;content=isdn-uui;encoding=hex").unwrap();
/// assert!(uui.data.is("56a390f3d2b7310023a2"));
/// assert_eq!((uui.purpose, uui.encoding), (Some(&b"isdn-uui"[..]), Some(&b"hex"[..])));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserToUser<'a> {
    /// The data: hexadecimal digits if `encoding` says so or nothing is said.
    pub data: Text<'a>,
    /// What it is for; ISDN where nothing is said.
    pub purpose: Option<&'a [u8]>,
    /// What kind of data it is.
    pub content: Option<&'a [u8]>,
    /// How it is written.
    pub encoding: Option<&'a [u8]>,
    /// All parameters.
    pub params: Params<'a>,
}

impl<'a> UserToUser<'a> {
    /// Reads a value that stands alone.
    pub fn parse(value: &'a [u8]) -> Option<UserToUser<'a>> {
        whole(user_to_user, value)
    }
}

/// ```text
/// Privacy-hdr = "Privacy" HCOLON priv-value *(";" priv-value)
/// priv-value  = "header" / "session" / "user" / "none" / "critical" / "id" / "history" / token
/// ```
///
/// A comma is taken for the semicolon: a wish for privacy must not be lost to a wrong separator.
fn privacy(input: &[u8]) -> Parsed<'_, Privacy> {
    let mut privacy = Privacy::default();
    let (mut rest, mut value) = token(input)?;
    loop {
        let known: [(&str, &mut bool); 7] = [
            ("header", &mut privacy.header),
            ("session", &mut privacy.session),
            ("user", &mut privacy.user),
            ("id", &mut privacy.id),
            ("history", &mut privacy.history),
            ("none", &mut privacy.none),
            ("critical", &mut privacy.critical),
        ];
        for (name, is_asked) in known {
            *is_asked |= value.eq_ignore_ascii_case(name.as_bytes());
        }
        match alt((separator(b';'), separator(b','))).parse(rest) {
            Ok((after, ())) => (rest, value) = token(after)?,
            Err(_) => return Ok((rest, privacy)),
        }
    }
}

/// ```text
/// uui-value = uui-data *(SEMI uui-param)
/// uui-data  = token / quoted-string
/// uui-param = pkg-param / cont-param / enc-param / generic-param
/// pkg-param = "purpose" EQUAL token
/// cont-param = "content" EQUAL token
/// enc-param = "encoding" EQUAL ( "hex" / token )
/// ```
fn user_to_user(input: &[u8]) -> Parsed<'_, UserToUser<'_>> {
    map_opt((text, params), |(data, params)| {
        Some(UserToUser {
            data,
            purpose: params.token("purpose")?,
            content: params.token("content")?,
            encoding: params.token("encoding")?,
            params,
        })
    })
    .parse(input)
}

impl<'a> Message<'a> {
    /// The values of Contact (RFC 3261 §20.10), in order. `*` is malformed: see [`Message::contact_is_star`].
    pub fn contacts(&self) -> impl Iterator<Item = Result<Contact<'a>, FieldError>> + use<'a> {
        self.name_addrs(Header::Contact)
            .map(|address| Contact::from_address(address?).ok_or(FieldError::Malformed(Header::Contact)))
    }

    /// Whether the Contact is `*` and nothing else: all registrations (RFC 3261 §10.2.2).
    pub fn contact_is_star(&self) -> bool {
        let mut lines = self.lines_of(Header::Contact);
        lines.next().is_some_and(|line| line.value == b"*") && lines.next().is_none()
    }

    /// P-Asserted-Identity or P-Preferred-Identity (RFC 3325 §9.1, §9.2): at most one SIP URI and at most one number.
    pub fn identities(&self, header: Header) -> Result<Identities<'a>, FieldError> {
        let malformed = FieldError::Malformed(header);
        let mut identities = Identities::default();
        for value in self.name_addrs(header) {
            let value = value?;
            let uri = Uri::parse(value.uri).map_err(|_| malformed)?;
            let place = match uri.scheme {
                Scheme::Sip | Scheme::Sips => &mut identities.sip,
                Scheme::Tel => &mut identities.tel,
                Scheme::Other(_) => return Err(malformed),
            };
            if place.replace(value).is_some() {
                return Err(malformed);
            }
        }
        Ok(identities)
    }

    /// Privacy (RFC 3323 §4.2), all its lines together; nothing is asked for without one.
    pub fn privacy(&self) -> Result<Privacy, FieldError> {
        let mut all = Privacy::default();
        for line in self.lines_of(Header::Privacy) {
            let one = Privacy::parse(line.value).ok_or(FieldError::Malformed(Header::Privacy))?;
            all = Privacy {
                header: all.header | one.header,
                session: all.session | one.session,
                user: all.user | one.user,
                id: all.id | one.id,
                history: all.history | one.history,
                none: all.none | one.none,
                critical: all.critical | one.critical,
            };
        }
        Ok(all)
    }

    /// The values of User-to-User (RFC 7433 §4.1), in order.
    pub fn user_to_user(&self) -> impl Iterator<Item = Result<UserToUser<'a>, FieldError>> + use<'a> {
        self.list(Header::UserToUser, user_to_user)
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::with;
    use super::*;

    #[test]
    fn contacts_are_read_with_q_and_expires() {
        let buf = with(
            "Contact: \"Mr. Watson\" <sip:watson@worcester.bell-telephone.com>;q=0.7; expires=3600,\r\n\
             \x20\"Mr. Watson\" <mailto:watson@bell-telephone.com> ;q=0.1\r\nm: sip:a@b;expires=\"x\";Q=1.0, sip:a@b\r\n",
        );
        let read: Vec<_> = buf
            .as_message()
            .contacts()
            .map(|contact| contact.map(|contact| (contact.q, contact.expires)).unwrap())
            .collect();
        assert_eq!(
            read,
            [
                (Some(700), Some(3600)),
                (Some(100), None),
                (Some(1000), Some(3600)),
                (None, None)
            ]
        );
        for value in [
            "*",
            "<sip:a@b>;q=2",
            "<sip:a@b>;q",
            "<sip:a@b>;q=0.1;q=0.1",
            "<sip:a@b>;expires",
            "a@b",
            "",
        ] {
            let buf = with(&format!("Contact: {value}\r\n"));
            assert!(buf.as_message().contacts().any(|contact| contact.is_err()), "{value}");
        }
        assert_eq!(with("").as_message().contacts().count(), 0);
    }

    #[test]
    fn a_star_is_alone() {
        assert!(with("Contact: *\r\n").as_message().contact_is_star());
        for lines in [
            "",
            "Contact: <sip:a@b>\r\n",
            "Contact: *, <sip:a@b>\r\n",
            "Contact: *\r\nm: *\r\n",
            "Contact: *;q=1\r\n",
        ] {
            assert!(!with(lines).as_message().contact_is_star(), "{lines}");
        }
    }

    #[test]
    fn an_asserted_identity_is_one_sip_uri_and_one_number_at_most() {
        let read = |lines: &str| {
            let buf = with(lines);
            let read = buf.as_message().identities(Header::PAssertedIdentity);
            let uri = |value: Option<NameAddr<'_>>| value.map(|value| String::from_utf8(value.uri.to_vec()).unwrap());
            read.map(|read| (uri(read.sip), uri(read.tel)))
        };
        let line = "P-Asserted-Identity: ";
        // RFC 3325 §9.1, in one line and in two.
        let both = Ok((
            Some("sip:fluffy@cisco.com".to_owned()),
            Some("tel:+14085264000".to_owned()),
        ));
        assert_eq!(
            read(&format!(
                "{line}\"Cullen Jennings\" <sip:fluffy@cisco.com>, tel:+14085264000\r\n"
            )),
            both
        );
        assert_eq!(
            read(&format!("{line}<tel:+14085264000>\r\n{line}sip:fluffy@cisco.com\r\n")),
            both
        );
        assert_eq!(
            read(&format!("{line}<sips:a@b>\r\n")),
            Ok((Some("sips:a@b".into()), None))
        );
        assert_eq!(read(""), Ok((None, None)));
        for value in [
            "",
            "<sip:a@b>, <sips:a@b>",
            "tel:+1, tel:+2",
            "<mailto:a@b>",
            "<sip:a@b>,",
            "<sip:a@b",
            "<sip:@b>",
        ] {
            let malformed = Err(FieldError::Malformed(Header::PAssertedIdentity));
            assert_eq!(read(&format!("{line}{value}\r\n")), malformed, "{value}");
        }
        let preferred = with("P-Preferred-Identity: <sip:a@b>\r\n");
        assert!(
            preferred
                .as_message()
                .identities(Header::PPreferredIdentity)
                .unwrap()
                .sip
                .is_some()
        );
    }

    #[test]
    fn wishes_for_privacy_add_up() {
        let buf = with("Privacy: Header ; user;x-new\r\nPrivacy: id, HISTORY\r\n");
        let expected = Privacy {
            header: true,
            user: true,
            id: true,
            history: true,
            ..Privacy::default()
        };
        assert_eq!(buf.as_message().privacy(), Ok(expected));
        assert_eq!(with("").as_message().privacy(), Ok(Privacy::default()));
        let all = Privacy::parse(b"session;none;critical").unwrap();
        assert!(all.session && all.none && all.critical && !all.id);
        for value in ["", ";", "id;", "id user", "\"id\"", "id;;user"] {
            let buf = with(&format!("Privacy: {value}\r\n"));
            assert_eq!(
                buf.as_message().privacy(),
                Err(FieldError::Malformed(Header::Privacy)),
                "{value}"
            );
        }
    }

    #[test]
    fn user_to_user_data_is_kept_as_it_is() {
        let buf = with(
            "User-to-User: 56a390f3;encoding=hex, \"a;b,c\" ; Purpose=call ; x\r\n\
             User-to-User: 00;content=isdn-uui\r\n",
        );
        let read: Vec<_> = buf.as_message().user_to_user().map(Result::unwrap).collect();
        assert_eq!(
            read.iter().map(|uui| uui.data.as_received()).collect::<Vec<_>>(),
            [&b"56a390f3"[..], b"\"a;b,c\"", b"00"]
        );
        assert_eq!(
            (read[1].purpose, read[2].content),
            (Some(&b"call"[..]), Some(&b"isdn-uui"[..]))
        );
        for value in [
            "",
            ";encoding=hex",
            "00;encoding",
            "00;encoding=hex;encoding=hex",
            "00 01",
            "\"open",
            "00;purpose=\"a\"",
        ] {
            assert_eq!(UserToUser::parse(value.as_bytes()), None, "{value}");
            let buf = with(&format!("User-to-User: {value}\r\n"));
            assert!(buf.as_message().user_to_user().next().unwrap().is_err(), "{value}");
        }
    }
}
