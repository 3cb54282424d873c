//! SIP messages as the demonstration's peers read and write them: plain text, sharing no code with the proxy, so that a
//! misreading on one side shows on the other.

use std::net::SocketAddr;

/// A request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line without its CRLF.
    pub start: String,
    /// In order, without Content-Length; names in their long form.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Message {
    /// A message without headers.
    pub fn new(start: String) -> Message {
        Message {
            start,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// Reads a datagram. `None`: it is no SIP message, or its Content-Length does not fit.
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let mut message = Message::new(lines.next()?.to_owned());
        for line in lines {
            // RFC 3261 §7.3.1: a line that starts with white space goes on with the one before.
            if line.starts_with([' ', '\t']) {
                let (_, value) = message.headers.last_mut()?;
                value.push(' ');
                value.push_str(line.trim());
                continue;
            }
            let (name, value) = line.split_once(':')?;
            message
                .headers
                .push((long_name(name.trim()).to_owned(), value.trim().to_owned()));
        }
        if !message.start.starts_with("SIP/2.0 ") && !message.start.ends_with(" SIP/2.0") {
            return None;
        }
        let length = match message.header("Content-Length") {
            Some(length) => length.parse().ok()?,
            None => body.len(),
        };
        message.body = body.get(..length)?.to_owned();
        // It is the body's, and written with it.
        message
            .headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("Content-Length"));
        Some(message)
    }

    /// As it goes out, with its Content-Length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{}", self.body.len(), self.body));
        text.into_bytes()
    }

    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        self.headers.push((name.to_owned(), value.into()));
    }

    /// The first value under this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.lines(name).next()
    }

    /// Every line's value under this name.
    pub fn lines<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Every value under this name, also where several share a line (RFC 3261 §7.3.1).
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.lines(name).flat_map(split_list).collect()
    }

    /// The method of a request.
    pub fn method(&self) -> Option<&str> {
        match self.status() {
            Some(_) => None,
            None => self.start.split(' ').next(),
        }
    }

    /// The Request-URI.
    pub fn request_uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.split(' ').next()?.parse().ok()
    }

    /// `200 OK` of a response.
    pub fn status_text(&self) -> &str {
        self.start.strip_prefix("SIP/2.0 ").unwrap_or(&self.start)
    }

    /// CSeq's number and method.
    pub fn cseq(&self) -> Option<(u32, &str)> {
        let (number, method) = self.header("CSeq")?.split_once(' ')?;
        Some((number.parse().ok()?, method.trim()))
    }

    /// The branch of the topmost Via.
    pub fn branch(&self) -> Option<&str> {
        parameter(self.values("Via").first()?, "branch")
    }

    /// What a NOTIFY about a REFER says: `180 Ringing` (RFC 3515 §2.4.5).
    pub fn sipfrag(&self) -> Option<&str> {
        self.header("Content-Type")?
            .to_ascii_lowercase()
            .starts_with("message/sipfrag")
            .then(|| self.body.lines().next())?
            .and_then(|line| line.strip_prefix("SIP/2.0 "))
            .map(str::trim)
    }
}

/// The URI of a Contact, Route, From …: what stands in angle brackets, else all up to the first parameter.
pub fn uri_of(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default(),
        None => value.split(';').next().unwrap_or_default().trim(),
    }
}

/// The host of a Refer-To's URI.
pub fn host_of(value: &str) -> &str {
    let uri = uri_of(value);
    let rest = uri.split_once('@').map_or(uri, |(_, rest)| rest);
    rest.split([':', ';', '?', '>']).next().unwrap_or_default()
}

/// A parameter of a header value, behind the URI. Empty if it has no value.
pub fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let parameters = match value.rfind('>') {
        Some(end) => &value[end + 1..],
        None => value,
    };
    parameters.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The Replaces within a Refer-To's URI: Call-ID, to-tag and from-tag, unescaped (RFC 3891 §6.1).
pub fn replaces_of(refer_to: &str) -> Option<[String; 3]> {
    let (_, headers) = uri_of(refer_to).split_once('?')?;
    let value = headers.split('&').find_map(|header| header.strip_prefix("Replaces="))?;
    let value = unescaped(value)?;
    let tag = |name| parameter(&value, name).map(str::to_owned);
    Some([value.split(';').next()?.to_owned(), tag("to-tag")?, tag("from-tag")?])
}

/// RFC 3261 §25.1, `escaped`.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                plain.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            _ => plain.push(byte),
        }
    }
    String::from_utf8(plain).ok()
}

/// Whether a URI of a route set asks for loose routing (RFC 3261 §19.1.1).
pub fn is_loose(uri: &str) -> bool {
    uri.split(';').skip(1).any(|parameter| {
        parameter
            .split('=')
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("lr"))
    })
}

/// Where a sip: URI leads; the demonstration has addresses only, no names.
pub fn address_of(uri: &str) -> Option<SocketAddr> {
    let rest = uri.strip_prefix("sip:")?;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split([';', '?']).next()?;
    host.parse().ok().or_else(|| format!("{host}:5060").parse().ok())
}

/// The values of a list, split at commas outside of angle brackets and quotes.
pub fn split_list(text: &str) -> Vec<&str> {
    let (mut values, mut start) = (Vec::new(), 0);
    let (mut quoted, mut bracketed) = (false, false);
    for (i, c) in text.char_indices() {
        match c {
            '"' if !bracketed => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            ',' if !quoted && !bracketed => {
                values.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    values.push(text[start..].trim());
    values
}

/// The long form of a name (RFC 3261 §7.3.3, RFC 3515, RFC 3892, RFC 6665).
fn long_name(name: &str) -> &str {
    const SHORT: [(&str, &str); 14] = [
        ("v", "Via"),
        ("f", "From"),
        ("t", "To"),
        ("i", "Call-ID"),
        ("m", "Contact"),
        ("l", "Content-Length"),
        ("c", "Content-Type"),
        ("r", "Refer-To"),
        ("b", "Referred-By"),
        ("o", "Event"),
        ("u", "Allow-Events"),
        ("k", "Supported"),
        ("s", "Subject"),
        ("e", "Content-Encoding"),
    ];
    let long = SHORT.iter().find(|(short, _)| name.eq_ignore_ascii_case(short));
    long.map_or(name, |(_, long)| long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_as_it_was_written() {
        let mut message = Message::new("NOTIFY sip:a@127.0.0.1:5070 SIP/2.0".into());
        message.push("Via", "SIP/2.0/UDP 127.0.0.1:5080;rport;branch=z9hG4bK1");
        message.push("CSeq", "3 NOTIFY");
        message.push("Content-Type", "message/sipfrag;version=2.0");
        message.body = "SIP/2.0 180 Ringing\r\n".into();
        let read = Message::parse(&message.to_bytes()).unwrap();
        assert_eq!(
            (read.method(), read.cseq(), read.branch(), read.sipfrag()),
            (
                Some("NOTIFY"),
                Some((3, "NOTIFY")),
                Some("z9hG4bK1"),
                Some("180 Ringing")
            )
        );
        assert_eq!(read.request_uri(), "sip:a@127.0.0.1:5070");
    }

    #[test]
    fn compact_names_folds_and_lists_are_understood() {
        let text = "SIP/2.0 200 OK\r\nm: \"a, b\" <sip:x@127.0.0.1;a=b,c>\r\nRecord-Route: <sip:1;lr>,\r\n <sip:2>\r\nl: 0\r\n\r\n";
        let read = Message::parse(text.as_bytes()).unwrap();
        assert_eq!(read.status(), Some(200));
        assert_eq!(uri_of(read.values("Contact")[0]), "sip:x@127.0.0.1;a=b,c");
        assert_eq!(read.values("Record-Route"), ["<sip:1;lr>", "<sip:2>"]);
        assert!(is_loose("sip:1;lr") && !is_loose("sip:2"));
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        for text in [
            "",
            "hello",
            "BYE sip:a SIP/2.0\r\n\r",
            "BYE sip:a SIP/2.0\r\nContent-Length: 9\r\n\r\n",
            "BYE sip:a\r\n\r\n",
        ] {
            assert_eq!(Message::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    // RFC 5589 §7.1.
    #[test]
    fn a_replaces_within_a_uri_is_read() {
        let refer_to =
            "<sip:a@b?Require=replaces&Replaces=592435881734450904%40c%3Bto-tag%3D9m2n3wq%3Bfrom-tag%3D763231>";
        let expected = ["592435881734450904@c", "9m2n3wq", "763231"].map(str::to_owned);
        assert_eq!(replaces_of(refer_to), Some(expected));
        for none in [
            "<sip:a@b>",
            "<sip:a@b?Replaces=a%3Bto-tag%3D1>",
            "<sip:a@b?Replaces=%3>",
        ] {
            assert_eq!(replaces_of(none), None, "{none}");
        }
    }

    #[test]
    fn uris_lead_to_addresses() {
        for (uri, address) in [
            ("sip:a@127.0.0.1:5070;transport=udp", Some("127.0.0.1:5070")),
            ("sip:127.0.0.1;lr", Some("127.0.0.1:5060")),
            ("sip:a@[::1]:5070", Some("[::1]:5070")),
            ("tel:+49", None),
            ("sip:a@example.com", None),
        ] {
            assert_eq!(
                address_of(uri),
                address.map(|address| address.parse().unwrap()),
                "{uri}"
            );
        }
    }
}
