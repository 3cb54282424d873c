//! Fields that name a dialog other than the message's own: Replaces (RFC 3891) and Target-Dialog (RFC 4538).

use nom::Parser;
use nom::combinator::map_opt;

use super::Message;
use super::field::FieldError;
use super::header::Header;
use super::scan::Parsed;
use super::uri::{Unescaped, Uri};
use super::value::{Params, callid, params, whole};

/// Replaces (RFC 3891 §6.1): the dialog that the INVITE takes the place of, as its recipient sees it.
///
/// ```
/// use referee::message::dialog_reference::Replaces;
///
/// let replaces = Replaces::parse(b"98732@sip.example.com;from-tag=r33th4x0r;to-tag=ff87ff;early-only").unwrap();
/// assert_eq!((replaces.call_id, replaces.to_tag), (&b"98732@sip.example.com"[..], &b"ff87ff"[..]));
/// assert!(replaces.early_only);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaces<'a> {
    /// The Call-ID, compared byte for byte.
    pub call_id: &'a [u8],
    /// The recipient's own tag. `0` also stands for a dialog without that tag (RFC 3891 §3).
    pub to_tag: &'a [u8],
    /// The tag of the other end.
    pub from_tag: &'a [u8],
    /// Only a dialog that is not answered yet may be replaced.
    pub early_only: bool,
    /// All parameters.
    pub params: Params<'a>,
}

impl<'a> Replaces<'a> {
    /// Reads a value that stands alone, already unescaped.
    pub fn parse(value: &'a [u8]) -> Option<Replaces<'a>> {
        whole(replaces, value)
    }

    /// The value of the Replaces that a URI carries in its headers part (RFC 3261 §19.1.1), unescaped: what the Refer-To
    /// of an attended transfer holds (RFC 5589 §7.2). [`Replaces::parse`] reads it. `Ok(None)` without one.
    ///
    /// ```
    /// use referee::message::Uri;
    /// use referee::message::dialog_reference::Replaces;
    ///
    /// let uri = Uri::parse(b"sip:bob@example.com?Replaces=7%40x%3Bto-tag%3D1%3Bfrom-tag%3D2&Require=replaces").unwrap();
    /// let value = Replaces::value_in(&uri).unwrap().unwrap();
    /// assert_eq!(value, b"7@x;to-tag=1;from-tag=2");
    /// assert_eq!(Replaces::parse(&value).unwrap().call_id, b"7@x");
    /// ```
    ///
    /// # Errors
    ///
    /// A second one, or one without value: an INVITE has at most one (RFC 3891 §3).
    pub fn value_in(uri: &Uri<'_>) -> Result<Option<Vec<u8>>, FieldError> {
        let is_replaces = |name: &[u8]| Unescaped(name).map(|byte| byte.to_ascii_lowercase()).eq(*b"replaces");
        let mut found = uri.headers().filter(|(name, _)| is_replaces(name));
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some((_, Some(value))), None) => Ok(Some(Unescaped(value).collect())),
            (Some(_), _) => Err(FieldError::Malformed(Header::Replaces)),
        }
    }
}

/// Target-Dialog (RFC 4538 §7): a dialog that authorises this request, as its recipient sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetDialog<'a> {
    /// The Call-ID, compared byte for byte.
    pub call_id: &'a [u8],
    /// The recipient's own tag.
    pub local_tag: &'a [u8],
    /// The tag of the other end.
    pub remote_tag: &'a [u8],
    /// All parameters.
    pub params: Params<'a>,
}

impl<'a> TargetDialog<'a> {
    /// Reads a value that stands alone.
    pub fn parse(value: &'a [u8]) -> Option<TargetDialog<'a>> {
        whole(target_dialog, value)
    }
}

/// ```text
/// Replaces       = "Replaces" HCOLON callid *(SEMI replaces-param)
/// replaces-param = to-tag / from-tag / early-flag / generic-param
/// to-tag         = "to-tag" EQUAL token
/// from-tag       = "from-tag" EQUAL token
/// early-flag     = "early-only"
/// ```
fn replaces(input: &[u8]) -> Parsed<'_, Replaces<'_>> {
    map_opt((callid, params), |(call_id, params)| {
        Some(Replaces {
            call_id,
            to_tag: params.token("to-tag")??,
            from_tag: params.token("from-tag")??,
            early_only: params.flag("early-only")?,
            params,
        })
    })
    .parse(input)
}

/// ```text
/// Target-Dialog = "Target-Dialog" HCOLON callid *(SEMI td-param)
/// td-param      = remote-param / local-param / generic-param
/// remote-param  = "remote-tag" EQUAL token
/// local-param   = "local-tag" EQUAL token
/// ```
fn target_dialog(input: &[u8]) -> Parsed<'_, TargetDialog<'_>> {
    map_opt((callid, params), |(call_id, params)| {
        Some(TargetDialog {
            call_id,
            local_tag: params.token("local-tag")??,
            remote_tag: params.token("remote-tag")??,
            params,
        })
    })
    .parse(input)
}

impl<'a> Message<'a> {
    /// Replaces (RFC 3891 §6.1); two are malformed.
    pub fn replaces(&self) -> Result<Option<Replaces<'a>>, FieldError> {
        self.one_value(Header::Replaces, replaces)
    }

    /// Target-Dialog (RFC 4538 §7).
    pub fn target_dialog(&self) -> Result<Option<TargetDialog<'a>>, FieldError> {
        self.one_value(Header::TargetDialog, target_dialog)
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::with;
    use super::*;

    #[test]
    fn replaces_names_a_call_id_and_both_tags() {
        // The examples of RFC 3891 §6.1, and what its grammar allows round the separators.
        for (value, expected) in [
            (
                "98732@sip.billybiggs.com\r\n ;from-tag=r33th4x0r\r\n ;to-tag=ff87ff",
                ("98732@sip.billybiggs.com", "ff87ff", "r33th4x0r", false),
            ),
            (
                "12adf2f34456gs5;to-tag=12345;from-tag=54321",
                ("12adf2f34456gs5", "12345", "54321", false),
            ),
            (
                "87134@171.161.34.23;to-tag=24796;from-tag=0 ; EARLY-Only;x=\";to-tag=1\"",
                ("87134@171.161.34.23", "24796", "0", true),
            ),
            (
                "a(b)<c>:\\\"/[d]?{e}@f;from-tag=1;To-Tag = 2",
                ("a(b)<c>:\\\"/[d]?{e}@f", "2", "1", false),
            ),
        ] {
            let read = Replaces::parse(value.as_bytes()).unwrap_or_else(|| panic!("{value}"));
            let (call_id, to_tag, from_tag, early_only) = expected;
            assert_eq!(
                (read.call_id, read.to_tag),
                (call_id.as_bytes(), to_tag.as_bytes()),
                "{value}"
            );
            assert_eq!(
                (read.from_tag, read.early_only),
                (from_tag.as_bytes(), early_only),
                "{value}"
            );
        }
        for value in [
            "",
            ";to-tag=1;from-tag=2",
            "a",
            "a;to-tag=1",
            "a;from-tag=1",
            "a;to-tag=1;from-tag=2;to-tag=1",
            "a;to-tag=;from-tag=2",
            "a;to-tag;from-tag=2",
            "a;to-tag=\"1\";from-tag=2",
            "a;to-tag=1;from-tag=2;early-only=yes",
            "a;to-tag=1;from-tag=2;early-only;early-only",
            "a;to-tag=1;from-tag=2, b;to-tag=1;from-tag=2",
            "a b;to-tag=1;from-tag=2",
            "a;to-tag=1;from-tag=2;",
        ] {
            assert_eq!(Replaces::parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn replaces_in_a_uri_is_unescaped_once_and_stands_once() {
        let value = |uri: &str| Replaces::value_in(&Uri::parse(uri.as_bytes()).unwrap());
        assert_eq!(value("sip:b@c"), Ok(None));
        assert_eq!(value("sip:b@c?Subject=Replaces"), Ok(None));
        // RFC 5589 §7.2; a name may be escaped too.
        assert_eq!(
            value("sip:b@c?%52eplaces=090459243588173445%3Bto-tag%3D7553452%3Bfrom-tag%3D31431"),
            Ok(Some(b"090459243588173445;to-tag=7553452;from-tag=31431".to_vec()))
        );
        assert_eq!(value("sip:b@c?replaces=a%253B"), Ok(Some(b"a%3B".to_vec())));
        let twice = Err(FieldError::Malformed(Header::Replaces));
        assert_eq!(value("sip:b@c?Replaces=a&REPLACES=b"), twice);
        assert_eq!(value("sip:b@c?Replaces"), twice);
    }

    #[test]
    fn a_target_dialog_names_a_call_id_and_both_tags() {
        // RFC 4538 §7.
        let read =
            TargetDialog::parse(b"fa77as7dad8-sd98ajzz@host.example.com ;local-tag=kkaz- ;remote-tag=6544").unwrap();
        assert_eq!(
            (read.call_id, read.local_tag, read.remote_tag),
            (
                &b"fa77as7dad8-sd98ajzz@host.example.com"[..],
                &b"kkaz-"[..],
                &b"6544"[..]
            )
        );
        for value in [
            "a;local-tag=1",
            "a;remote-tag=1",
            "a;local-tag=1;remote-tag=2;remote-tag=2",
            "a;local-tag;remote-tag=1",
        ] {
            assert_eq!(TargetDialog::parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_message_has_one_of_them_or_is_malformed() {
        let one = "Replaces: a;to-tag=1;from-tag=2\r\n";
        let buf = with(&format!("{one}Target-Dialog: a;local-tag=1;remote-tag=2\r\n"));
        assert_eq!(buf.as_message().replaces().unwrap().unwrap().call_id, b"a");
        assert_eq!(buf.as_message().target_dialog().unwrap().unwrap().local_tag, b"1");
        let twice = with(&format!("{one}{one}"));
        let malformed = FieldError::Malformed(Header::Replaces);
        assert_eq!(twice.as_message().replaces(), Err(malformed));
        assert_eq!(with("Replaces: a\r\n").as_message().replaces(), Err(malformed));
        assert_eq!(
            (with("").as_message().replaces(), with("").as_message().target_dialog()),
            (Ok(None), Ok(None))
        );
    }
}
