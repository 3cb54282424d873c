//! A second reading of SIP, apart from the core's: two ends that share a parser share its misreadings.
//!
//! It reads what a peer needs and is strict: a message from referee that it does not understand is a fault.

/// A message taken apart line by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The start line.
    pub first: String,
    /// Names as they stand, values without white space around them.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Text {
    /// Reads one message.
    ///
    /// # Errors
    ///
    /// One sentence: not text, a line that is no header, no Content-Length or another than the body has.
    pub fn read(bytes: &[u8]) -> Result<Text, String> {
        let text = Text::read_any_length(bytes)?;
        match text.header("Content-Length").map(str::parse::<usize>) {
            Some(Ok(length)) if length == text.body.len() => Ok(text),
            other => Err(format!(
                "has {} bytes of body and Content-Length {other:?}",
                text.body.len()
            )),
        }
    }

    /// Reads one message whose Content-Length may be missing or wrong.
    ///
    /// # Errors
    /// As [`Text::read`].
    pub fn read_any_length(bytes: &[u8]) -> Result<Text, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("has no empty line")?;
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("has the line `{line}`"))?;
            headers.push((long_name(name.trim()), value.trim().to_owned()));
        }
        Ok(Text {
            first,
            headers,
            body: body.to_owned(),
        })
    }

    pub fn is_request(&self) -> bool {
        !self.first.starts_with("SIP/2.0 ")
    }

    /// The method of a request; of a response the one it answers.
    pub fn method(&self) -> &str {
        if self.is_request() {
            self.first.split(' ').next().unwrap_or_default()
        } else {
            self.cseq().1
        }
    }

    pub fn request_uri(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of a response; 0 for a request.
    pub fn code(&self) -> u16 {
        if self.is_request() {
            return 0;
        }
        self.first
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_default()
    }

    /// The value of the first line of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All values of a comma list, over all its lines.
    pub fn list(&self, name: &str) -> Vec<String> {
        let lines = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        lines.flat_map(|(_, value)| split_list(value)).collect()
    }

    pub fn call_id(&self) -> &str {
        self.header("Call-ID").unwrap_or_default()
    }

    /// Number and method of CSeq.
    pub fn cseq(&self) -> (u32, &str) {
        let value = self.header("CSeq").unwrap_or_default();
        let (number, method) = value.split_once(' ').unwrap_or_default();
        (number.parse().unwrap_or_default(), method.trim())
    }

    /// The tag of From or To.
    pub fn tag(&self, name: &str) -> Option<String> {
        self.header(name).and_then(|value| param(value, "tag"))
    }

    /// The branch of the top Via.
    pub fn branch(&self) -> String {
        let top = self.list("Via").into_iter().next().unwrap_or_default();
        param(&top, "branch").unwrap_or_default()
    }

    /// The branch of whoever sent the request first: the one of the bottom Via.
    pub fn origin(&self) -> String {
        let bottom = self.list("Via").pop().unwrap_or_default();
        param(&bottom, "branch").unwrap_or_default()
    }

    /// The status that the body of a NOTIFY of a REFER has, its version left out or not (RFC 3420).
    pub fn fragment(&self) -> Option<u16> {
        let line = self.body.lines().next()?;
        let status = line
            .split_once(' ')
            .filter(|(version, _)| version.starts_with("SIP"))
            .map_or(line, |(_, rest)| rest);
        status.trim_start().get(..3)?.parse().ok()
    }

    /// What a ladder shows of it: `INVITE`, `180 Ringing (INVITE)`, `NOTIFY 180 Ringing`.
    pub fn label(&self) -> String {
        if !self.is_request() {
            let status = self.first.trim_start_matches("SIP/2.0 ");
            return format!("{status} ({})", self.method());
        }
        let frag = self.body.lines().next().and_then(|line| line.strip_prefix("SIP/2.0 "));
        match frag {
            Some(frag) if self.method() == "NOTIFY" => format!("NOTIFY {frag}"),
            _ if self.header("To").is_some_and(|to| param(to, "tag").is_some()) && self.method() == "INVITE" => {
                "re-INVITE".into()
            }
            _ => self.method().into(),
        }
    }
}

/// The long form of a header's name.
fn long_name(name: &str) -> String {
    let long = match name.to_ascii_lowercase().as_str() {
        "i" => "Call-ID",
        "m" => "Contact",
        "l" => "Content-Length",
        "c" => "Content-Type",
        "f" => "From",
        "t" => "To",
        "v" => "Via",
        "r" => "Refer-To",
        "b" => "Referred-By",
        "o" => "Event",
        _ => name,
    };
    long.to_owned()
}

/// Splits at commas that stand outside quotes and angle brackets.
fn split_list(value: &str) -> Vec<String> {
    let (mut quoted, mut angled) = (false, false);
    let mut values = vec![String::new()];
    for character in value.chars() {
        match character {
            '"' => quoted = !quoted,
            '<' if !quoted => angled = true,
            '>' if !quoted => angled = false,
            ',' if !quoted && !angled => {
                values.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = values.last_mut() {
            last.push(character);
        }
    }
    values.iter().map(|value| value.trim().to_owned()).collect()
}

/// The URI of a name-addr or addr-spec.
pub fn uri_of(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default(),
        None => value.split(';').next().unwrap_or_default().trim(),
    }
}

/// A parameter behind a header's value (not one of the URI in angle brackets).
pub fn param(value: &str, name: &str) -> Option<String> {
    let rest = value.rsplit_once('>').map_or(value, |(_, rest)| rest);
    params(rest, name)
}

/// A parameter of a URI.
pub fn uri_param(uri: &str, name: &str) -> Option<String> {
    params(uri, name)
}

fn params(text: &str, name: &str) -> Option<String> {
    text.split(';').skip(1).find_map(|param| {
        let (known, value) = param.split_once('=').unwrap_or((param, ""));
        known.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// Host and port of a sip: URI; 5060 where none is said.
pub fn host_port(uri: &str) -> (String, u16) {
    let rest = uri.strip_prefix("sip:").unwrap_or(uri);
    let rest = rest.split([';', '?']).next().unwrap_or_default();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host.to_owned(), port.parse().unwrap_or(5060)),
        _ => (rest.to_owned(), 5060),
    }
}

/// The reason phrases of RFC 3261 §21 and its friends that peers here use.
pub fn reason(code: u16) -> &'static str {
    match code {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        420 => "Bad Extension",
        429 => "Provide Referrer Identity",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        603 => "Decline",
        _ => "Whatever",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_apart() {
        let text = Text::read(
            b"NOTIFY sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1, SIP/2.0/UDP i\r\nf: \"A, <b>\" <sip:a@h;tag=no>;tag=yes\r\n\
            CSeq: 7 NOTIFY\r\nl: 15\r\n\r\nSIP/2.0 200 OK\n",
        )
        .unwrap();
        assert_eq!(text.list("via").len(), 2);
        assert_eq!(text.branch(), "z9hG4bK1");
        assert_eq!(text.tag("From").as_deref(), Some("yes"));
        assert_eq!(text.cseq(), (7, "NOTIFY"));
        assert_eq!(text.label(), "NOTIFY 200 OK");
        assert_eq!(host_port("sip:a@[::1]:70;lr"), ("[::1]".into(), 70));
        assert_eq!(host_port("sip:h;transport=tcp"), ("h".into(), 5060));
    }

    #[test]
    fn a_wrong_length_is_a_fault() {
        assert!(Text::read(b"BYE sip:a SIP/2.0\r\nContent-Length: 1\r\n\r\n").is_err());
        assert!(Text::read(b"BYE sip:a SIP/2.0\r\n\r\n").is_err());
    }
}
