//! Fields that say what a body is and what may come back: Content-Type, Content-Disposition, Accept (RFC 3261).

use nom::Parser;
use nom::combinator::map_opt;
use nom::sequence::separated_pair;

use super::Message;
use super::field::FieldError;
use super::header::Header;
use super::scan::{Parsed, separator, token};
use super::value::{Params, params, qvalue, whole};

/// A media type (RFC 3261 §20.15), or a range of them (§20.1), where `*` stands for any type or subtype.
///
/// ```
/// use referee::message::media::MediaType;
///
/// let sipfrag = MediaType::parse(b"Message/SIPfrag;version=2.0").unwrap();
/// assert!(sipfrag.is("message/sipfrag"));
/// assert!(MediaType::parse(b"message/*;q=0.5").unwrap().covers(&sipfrag));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaType<'a> {
    /// Such as `application`; compared without regard to case.
    pub kind: &'a [u8],
    /// Such as `sdp`; compared without regard to case.
    pub subtype: &'a [u8],
    /// All parameters, those of Accept included.
    pub params: Params<'a>,
    /// `q` in thousandths: how welcome a range is; 1000 where nothing is said.
    pub q: u16,
}

impl<'a> MediaType<'a> {
    /// Reads a value that stands alone.
    pub fn parse(value: &'a [u8]) -> Option<MediaType<'a>> {
        whole(media_type, value)
    }

    /// Whether it is this type and subtype, written with a slash, in any case and with any parameters.
    pub fn is(&self, name: &str) -> bool {
        name.split_once('/').is_some_and(|(kind, subtype)| {
            self.kind.eq_ignore_ascii_case(kind.as_bytes()) && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
        })
    }

    /// Whether this range has that type in it. Parameters are not compared: those of a range are often not a body's.
    pub fn covers(&self, other: &MediaType<'_>) -> bool {
        let fits = |range: &[u8], name: &[u8]| range == b"*" || range.eq_ignore_ascii_case(name);
        fits(self.kind, other.kind) && fits(self.subtype, other.subtype)
    }
}

/// Content-Disposition (RFC 3261 §20.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentDisposition<'a> {
    /// `session`, `render`, `icon`, `alert` or another token.
    pub kind: &'a [u8],
    /// `handling=optional`: a body that is not understood may be passed over; otherwise it is a 415.
    pub optional: bool,
    /// All parameters.
    pub params: Params<'a>,
}

impl<'a> ContentDisposition<'a> {
    /// Reads a value that stands alone.
    pub fn parse(value: &'a [u8]) -> Option<ContentDisposition<'a>> {
        whole(content_disposition, value)
    }
}

/// ```text
/// media-type   = m-type SLASH m-subtype *(SEMI m-parameter)
/// accept-range = media-range *(SEMI accept-param)
/// media-range  = ( "*/*" / ( m-type SLASH "*" ) / ( m-type SLASH m-subtype ) ) *( SEMI m-parameter )
/// accept-param = ("q" EQUAL qvalue) / generic-param
/// ```
fn media_type(input: &[u8]) -> Parsed<'_, MediaType<'_>> {
    let name = separated_pair(token, separator(b'/'), token);
    map_opt((name, params), |((kind, subtype), params)| {
        let q = match params.token("q")? {
            Some(q) => qvalue(q)?,
            None => 1000,
        };
        let is_range = kind != b"*" || subtype == b"*";
        is_range.then_some(MediaType {
            kind,
            subtype,
            params,
            q,
        })
    })
    .parse(input)
}

/// ```text
/// Content-Disposition = "Content-Disposition" HCOLON disp-type *( SEMI disp-param )
/// disp-param          = handling-param / generic-param
/// handling-param      = "handling" EQUAL ( "optional" / "required" / other-handling )
/// ```
fn content_disposition(input: &[u8]) -> Parsed<'_, ContentDisposition<'_>> {
    map_opt((token, params), |(kind, params)| {
        let handling = params.token("handling")?;
        Some(ContentDisposition {
            kind,
            optional: handling.is_some_and(|handling| handling.eq_ignore_ascii_case(b"optional")),
            params,
        })
    })
    .parse(input)
}

impl<'a> Message<'a> {
    /// Content-Type (RFC 3261 §20.15).
    pub fn content_type(&self) -> Result<Option<MediaType<'a>>, FieldError> {
        let read = self.one_value(Header::ContentType, media_type)?;
        match read {
            // A range is no type.
            Some(media) if media.subtype == b"*" => Err(FieldError::Malformed(Header::ContentType)),
            read => Ok(read),
        }
    }

    /// Content-Disposition (RFC 3261 §20.11). Without one a body of application/sdp is `session` and any other `render`.
    pub fn content_disposition(&self) -> Result<Option<ContentDisposition<'a>>, FieldError> {
        self.one_value(Header::ContentDisposition, content_disposition)
    }

    /// The ranges of Accept (RFC 3261 §20.1), in order. No header means application/sdp; an empty one, nothing at all.
    pub fn accept(&self) -> impl Iterator<Item = Result<MediaType<'a>, FieldError>> + use<'a> {
        self.list(Header::Accept, media_type)
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::with;
    use super::*;

    #[test]
    fn a_content_type_has_a_type_and_a_subtype() {
        let read = MediaType::parse(b"multipart / mixed ; boundary=\"a;b, c\" ; x=y").unwrap();
        assert!(read.is("Multipart/Mixed") && !read.is("multipart") && !read.is("multipart/alternative"));
        assert!(read.params.text("BOUNDARY").unwrap().unwrap().is("a;b, c"));
        let buf = with("c: application/sdp\r\n");
        assert!(buf.as_message().content_type().unwrap().unwrap().is("application/sdp"));
        let malformed = Err(FieldError::Malformed(Header::ContentType));
        for value in [
            "",
            "text",
            "text/",
            "/plain",
            "text/plain;",
            "text/plain, a/b",
            "text/*",
            "*/*",
            "*/plain",
            "text plain",
        ] {
            let buf = with(&format!("Content-Type: {value}\r\n"));
            assert_eq!(buf.as_message().content_type(), malformed, "{value}");
        }
        let twice = with("Content-Type: a/b\r\nc: a/b\r\n");
        assert_eq!(twice.as_message().content_type(), malformed);
        assert_eq!(with("").as_message().content_type(), Ok(None));
    }

    #[test]
    fn ranges_are_read_with_how_welcome_they_are() {
        let buf = with(
            "Accept: application/sdp;level=1, application/x-private;q=0.5, text/*;q=0\r\nAccept: */*\r\nAccept:\r\n",
        );
        let ranges: Vec<_> = buf.as_message().accept().map(Result::unwrap).collect();
        assert_eq!(
            ranges.iter().map(|range| range.q).collect::<Vec<_>>(),
            [1000, 500, 0, 1000]
        );
        let html = MediaType::parse(b"TEXT/html;charset=UTF-8").unwrap();
        assert_eq!(
            ranges.iter().map(|range| range.covers(&html)).collect::<Vec<_>>(),
            [false, false, true, true]
        );
        for value in [
            "text",
            "*/html",
            "a/b;q=2",
            "a/b;q",
            "a/b;q=0.5;q=0.5",
            "a/b,",
            "a/b c/d",
        ] {
            let buf = with(&format!("Accept: {value}\r\n"));
            assert!(buf.as_message().accept().any(|range| range.is_err()), "{value}");
        }
    }

    #[test]
    fn a_body_is_required_unless_its_disposition_says_otherwise() {
        let read = |value: &str| {
            let buf = with(&format!("Content-Disposition: {value}\r\n"));
            let read = buf.as_message().content_disposition().ok().flatten();
            read.map(|read| (String::from_utf8(read.kind.to_vec()).unwrap(), read.optional))
        };
        assert_eq!(read("session"), Some(("session".into(), false)));
        assert_eq!(read("render ; Handling = OPTIONAL;x"), Some(("render".into(), true)));
        assert_eq!(
            read("by-reference;handling=required"),
            Some(("by-reference".into(), false))
        );
        for value in [
            "",
            ";handling=optional",
            "session;handling",
            "session;handling=optional;handling=optional",
            "a b",
            "a, b",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
        assert_eq!(with("").as_message().content_disposition(), Ok(None));
    }
}
