//! A reader that knows CRLF, colon, white space and commas, and nothing of the crate; and what a proxy may change.

use std::collections::BTreeMap;

/// A message cut into lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    pub first: Vec<u8>,
    pub headers: Vec<Line>,
    /// All that follows the empty line.
    pub body: Vec<u8>,
}

/// A header line with the lines that continue it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The long name in lower case.
    pub name: String,
    /// As received, without the last CRLF.
    pub raw: Vec<u8>,
    /// The value with each fold as one SP.
    pub value: Vec<u8>,
}

impl Lines {
    /// # Panics
    /// If the bytes have no empty line.
    pub fn read(bytes: &[u8]) -> Lines {
        let end = find(bytes, b"\r\n\r\n").unwrap_or_else(|| panic!("no empty line: {}", bytes.escape_ascii()));
        let (head, body) = (&bytes[..end + 2], bytes[end + 4..].to_vec());
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut rest = head;
        while let Some(length) = find(rest, b"\r\n") {
            let line = &rest[..length];
            match lines.last_mut() {
                Some(before) if matches!(line.first(), Some(b' ' | b'\t')) => {
                    before.extend_from_slice(b"\r\n");
                    before.extend_from_slice(line);
                }
                _ => lines.push(line.to_vec()),
            }
            rest = &rest[length + 2..];
        }
        let first = lines.remove(0);
        Lines {
            first,
            headers: lines.into_iter().map(Line::read).collect(),
            body,
        }
    }

    /// The values of all lines of this name, unfolded.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let of_name = |line: &&Line| line.name == name.to_ascii_lowercase();
        self.headers
            .iter()
            .filter(of_name)
            .map(|line| &line.value[..])
            .collect()
    }

    /// The value of the first line of this name as text.
    pub fn one(&self, name: &str) -> Option<String> {
        self.all(name).first().map(|value| text(value))
    }

    /// Every value of a comma list, over all its lines.
    pub fn list(&self, name: &str) -> Vec<String> {
        let lines = self.all(name).into_iter().map(text);
        lines.flat_map(|line| split_list(&line)).collect()
    }

    pub fn is_request(&self) -> bool {
        !self.first.to_ascii_uppercase().starts_with(b"SIP/")
    }

    pub fn method(&self) -> String {
        text(&self.first).split(' ').next().unwrap_or_default().to_owned()
    }

    /// The method of CSeq.
    pub fn cseq_method(&self) -> String {
        let cseq = self.one("cseq").unwrap_or_default();
        cseq.split_whitespace().last().unwrap_or_default().to_owned()
    }

    pub fn request_uri(&self) -> String {
        text(&self.first).split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// The status code of a response; 0 for a request.
    pub fn code(&self) -> u16 {
        match self.is_request() {
            true => 0,
            false => text(&self.first).split(' ').nth(1).unwrap_or_default().parse().unwrap(),
        }
    }

    /// The parts of the body that Content-Length counts.
    pub fn counted_body(&self) -> &[u8] {
        let length = self.one("content-length").map(|value| value.parse().unwrap());
        &self.body[..length.unwrap_or(self.body.len())]
    }
}

impl Line {
    fn read(raw: Vec<u8>) -> Line {
        let colon = raw.iter().position(|&byte| byte == b':');
        // A line without one is a name, which is none.
        let colon = colon.unwrap_or(raw.len() - 1);
        let name = text(&raw[..colon]).trim().to_ascii_lowercase();
        let mut value = Vec::new();
        let mut rest = raw[colon + 1..].trim_ascii();
        while let Some(fold) = find(rest, b"\r\n") {
            value.extend_from_slice(rest[..fold].trim_ascii_end());
            value.push(b' ');
            rest = rest[fold..].trim_ascii_start();
        }
        value.extend_from_slice(rest);
        Line {
            name: long_name(&name).to_owned(),
            value: value.trim_ascii().to_vec(),
            raw,
        }
    }
}

/// RFC 3261 §7.3.3 and the RFCs that add letters: 6665, 3515, 3892, 4028, 8224.
pub const COMPACT: [(&str, &str); 15] = [
    ("i", "call-id"),
    ("m", "contact"),
    ("e", "content-encoding"),
    ("l", "content-length"),
    ("c", "content-type"),
    ("f", "from"),
    ("s", "subject"),
    ("k", "supported"),
    ("t", "to"),
    ("v", "via"),
    ("o", "event"),
    ("u", "allow-events"),
    ("r", "refer-to"),
    ("b", "referred-by"),
    ("x", "session-expires"),
];

fn long_name(name: &str) -> &str {
    COMPACT
        .iter()
        .find(|(letter, _)| *letter == name)
        .map_or(name, |(_, long)| long)
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Bytes as text, one character each: nothing is lost and nothing is refused.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// Splits at commas outside quotes and angle brackets.
pub fn split_list(value: &str) -> Vec<String> {
    let (mut quoted, mut escaped, mut angled) = (false, false, false);
    let mut values = vec![String::new()];
    for character in value.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => angled = true,
            '>' if !quoted => angled = false,
            ',' if !quoted && !angled => {
                values.push(String::new());
                continue;
            }
            _ => {}
        }
        values.last_mut().unwrap().push(character);
    }
    values.iter().map(|value| value.trim().to_owned()).collect()
}

/// A name-addr or addr-spec taken apart: display name, URI, header parameters with names in lower case.
pub fn name_addr(value: &str) -> (String, String, BTreeMap<String, String>) {
    let quote_end = match value.starts_with('"') {
        true => {
            let mut escaped = false;
            let is_end = |&(at, character): &(usize, char)| {
                let was_escaped = std::mem::replace(&mut escaped, character == '\\');
                if was_escaped {
                    escaped = false;
                }
                at > 0 && character == '"' && !was_escaped
            };
            value.char_indices().find(is_end).map_or(0, |(at, _)| at + 1)
        }
        false => 0,
    };
    let (display, uri, params) = match value[quote_end..].find('<') {
        Some(open) => {
            let open = quote_end + open;
            let close = open + value[open..].find('>').unwrap();
            (value[..open].trim(), &value[open + 1..close], &value[close + 1..])
        }
        None => {
            let end = value.find(';').unwrap_or(value.len());
            ("", value[..end].trim(), &value[end..])
        }
    };
    (display.to_owned(), uri.to_owned(), params_of(params))
}

/// `;name=value` parameters with names in lower case; a missing value is empty.
pub fn params_of(params: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (mut quoted, mut part) = (false, String::new());
    for character in params.chars().chain([';']) {
        match character {
            '"' => quoted = !quoted,
            ';' if !quoted => {
                let (name, value) = part.split_once('=').unwrap_or((&part, ""));
                if !name.trim().is_empty() {
                    found.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
                }
                part.clear();
                continue;
            }
            _ => {}
        }
        part.push(character);
    }
    found
}

/// How a request was relayed: what stands in the fields that a proxy owns.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// Our Via: its transport and sent-by.
    pub transport: &'a str,
    pub sent_by: &'a str,
    /// Where the request came from.
    pub source: &'a str,
    pub record_routes: usize,
    /// Route lines of ours on top that are taken off.
    pub own_routes: usize,
}

/// RFC 3261 §16.6, RFC 5393: nothing differs but Via, Record-Route, Max-Forwards, Route, Max-Breadth where the request is outside
/// a dialog, and Content-Length where a stream needs one;
/// all other lines are there byte for byte, in their order, and so are Request-URI and body.
pub fn assert_relayed(what: &str, came: &[u8], left: &[u8], hop: Hop<'_>) {
    let (came, left) = (Lines::read(came), Lines::read(left));
    let version = came.first.len() - 7;
    assert_eq!(left.first[..version], came.first[..version], "{what}");
    assert_eq!(&left.first[version..], b"SIP/2.0", "{what}");
    assert_eq!(left.body, came.counted_body(), "{what}");

    let mut lines = left.headers.iter().map(|line| text(&line.raw));
    let via = lines.next().unwrap();
    let branch = via
        .strip_prefix(&format!(
            "Via: SIP/2.0/{} {};branch=z9hG4bK",
            hop.transport, hop.sent_by
        ))
        .and_then(|rest| rest.strip_suffix(";rport"))
        .unwrap_or_else(|| panic!("{what}: {via}"));
    assert!(is_token_of_ours(branch), "{what}: {via}");
    for _ in 0..hop.record_routes {
        let line = lines.next().unwrap();
        let value = line
            .strip_prefix("Record-Route: <sip:")
            .and_then(|rest| rest.strip_suffix('>'));
        assert!(value.is_some_and(|uri| uri.contains(";lr")), "{what}: {line}");
    }
    if came.all("max-forwards").is_empty() {
        assert_eq!(lines.next().as_deref(), Some("Max-Forwards: 70"), "{what}");
    }
    if branch.len() == OUTSIDE_A_DIALOG {
        assert_eq!(lines.next().as_deref(), Some("Max-Breadth: 60"), "{what}");
    }
    let (mut vias, mut routes) = (0, 0);
    let mut expected = Vec::new();
    for line in &came.headers {
        match line.name.as_str() {
            "via" => {
                vias += 1;
                expected.push(if vias == 1 {
                    stamped(line, hop.source)
                } else {
                    text(&line.raw)
                });
            }
            "max-forwards" => {
                let (name, value) = (line.raw.len() - line.value.len(), text(&line.value));
                let left: u8 = value.parse::<u8>().unwrap() - 1;
                expected.push(format!("{}{left}", text(&line.raw[..name])));
            }
            "route" if routes < hop.own_routes => routes += 1,
            _ => expected.push(text(&line.raw)),
        }
    }
    if hop.transport == "TCP" && came.all("content-length").is_empty() {
        expected.push(format!("Content-Length: {}", came.body.len()));
    }
    assert_eq!(lines.collect::<Vec<_>>(), expected, "{what}");
}

/// RFC 3261 §18.2.1, RFC 3581 §4: the top Via line with where the request came from, behind its first value or in the place of
/// what stood there.
fn stamped(line: &Line, source: &str) -> String {
    let (ip, port) = source.rsplit_once(':').unwrap();
    let raw = text(&line.raw);
    let first = split_list(&raw)[0].clone();
    let (mut value, rest) = (first.clone(), &raw[first.len()..]);
    let in_place = |value: &mut String, name: &str, new: &str| {
        let at = value.find(&format!(";{name}"));
        match at {
            Some(at) => {
                let end = value[at + 1..].find(';').map_or(value.len(), |end| at + 1 + end);
                value.replace_range(at + 1..end, new);
                true
            }
            None => false,
        }
    };
    let asks = value.contains(";rport") || value.contains(";received");
    if !asks && [":", ";", ""].iter().any(|end| value.contains(&format!(" {ip}{end}"))) {
        // Its sent-by says so already.
        return raw;
    }
    let received = format!("received={ip}");
    if !in_place(&mut value, "received", &received) {
        value += &format!(";{received}");
    }
    in_place(&mut value, "rport", &format!("rport={port}"));
    value + rest
}

/// `status` is what the status line says, or begins with. RFC 3261 §8.2.6: a response of a server's own making copies Vias, From, To, Call-ID and CSeq as far as the request has them.
pub fn assert_answers(what: &str, came: &[u8], left: &[u8], status: &str, source: &str) {
    let (came, left) = (Lines::read(came), Lines::read(left));
    let first = text(&left.first);
    assert!(first.starts_with(&format!("SIP/2.0 {status}")), "{what}: {first}");
    assert_eq!(left.all("content-length"), [b"0"], "{what}");
    assert!(left.body.is_empty(), "{what}");
    let vias = |lines: &Lines| {
        lines
            .headers
            .iter()
            .filter(|line| line.name == "via")
            .cloned()
            .collect::<Vec<_>>()
    };
    let (asked, answered) = (vias(&came), vias(&left));
    assert_eq!(answered.len(), asked.len(), "{what}");
    let stamped = Line::read(stamped(&asked[0], source).chars().map(|c| c as u8).collect());
    // A Via that cannot be read goes back as it came.
    assert!(
        [&stamped.value, &asked[0].value].contains(&&answered[0].value),
        "{what}"
    );
    for (asked, answered) in asked.iter().zip(&answered).skip(1) {
        assert_eq!(answered.value, asked.value, "{what}");
    }
    for name in ["from", "call-id", "cseq"] {
        assert_eq!(left.all(name).first(), came.all(name).first(), "{what}: {name}");
        assert!(left.all(name).len() <= 1, "{what}: {name}");
    }
    let (asked, answered) = (came.one("to").unwrap_or_default(), left.one("to").unwrap_or_default());
    let added = answered
        .strip_prefix(&asked)
        .unwrap_or_else(|| panic!("{what}: {answered}"));
    assert!(
        added.is_empty() || added.strip_prefix(";tag=").is_some_and(is_token_of_ours),
        "{what}: {answered}"
    );
}

/// RFC 5393 §4.2: such a request's branch has a further part, by which it is known if it comes back.
const OUTSIDE_A_DIALOG: usize = 40;

/// Branches and tags of ours: lower-case hexadecimal digits, so that no two differ by case alone.
pub fn is_token_of_ours(token: &str) -> bool {
    [16, 32, OUTSIDE_A_DIALOG].contains(&token.len())
        && token.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
}
