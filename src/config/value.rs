//! One string of the configuration → one value. Each function says in its error what the text should have been.

use super::{Address, Destination, DialogSecret, Network};
use crate::spelling::shown;
use crate::transport::Transport;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Puts environment variables in: `${env:NAME}`. A literal `${` is written `$${`.
pub(super) fn substitute(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = &from[2..];
            continue;
        }
        filled.push_str(before);
        let Some(name) = from.strip_prefix("${env:") else {
            return Err(
                "`${` starts an environment variable, written `${env:NAME}`; write `$${` for the text `${`".into(),
            );
        };
        let Some((name, after)) = name.split_once('}') else {
            return Err("`${env:` without its closing `}`".into());
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!(
                "`{name}` is no name of an environment variable",
                name = shown(name)
            ));
        }
        let Some(value) = environment(name) else {
            return Err(format!(
                "the environment variable `{name}` is not set",
                name = shown(name)
            ));
        };
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// `500ms`, `1s`, `2m`, `24h`, `50us`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || {
        format!(
            "`{text}` is no duration: write a whole number and a unit, such as \"500ms\", \"1s\" or \"2m\"",
            text = shown(text)
        )
    };
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| malformed())?;
    let micros: u64 = match unit.trim_start() {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(malformed()),
    };
    number
        .checked_mul(micros)
        .map(Duration::from_micros)
        .ok_or_else(malformed)
}

/// A duration as the file would have it.
pub(super) fn duration_text(duration: Duration) -> String {
    let micros = duration.as_micros();
    let (unit_micros, unit) = [(3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms")]
        .into_iter()
        .find(|(unit_micros, _)| micros > 0 && micros.is_multiple_of(*unit_micros))
        .unwrap_or((1, if micros == 0 { "s" } else { "us" }));
    format!("{}{unit}", micros / unit_micros)
}

/// `udp:0.0.0.0:5060`: what a listener binds.
pub(super) fn bind(text: &str) -> Result<(Transport, SocketAddr), String> {
    let (transport, rest) = transport_prefix(text)?;
    let transport = transport.ok_or_else(|| {
        format!(
            "`{text}` names no transport: write \"udp:{text}\" or \"tcp:{text}\"",
            text = shown(text)
        )
    })?;
    let address = socket_address(rest)?;
    if address.port() == 0 {
        return Err(format!(
            "`{text}`: port 0 is any free port, which no peer would know",
            text = shown(text)
        ));
    }
    Ok((transport, address))
}

/// `udp:198.51.100.10:5060`, `tcp:[2001:db8::1]`, `sip.example.net:5060`: without transport, that of the call; without
/// port, 5060 (RFC 3261 §19.1.2).
pub(super) fn address(text: &str) -> Result<Address, String> {
    let (transport, rest) = transport_prefix(text)?;
    let (host, port) = host_and_port(rest)?;
    Ok(Address {
        transport,
        host,
        port: port.unwrap_or(DEFAULT_PORT),
    })
}

/// An IP address with a port, IPv6 in brackets.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "`{text}` is no IP address with a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
            text = shown(text)
        )
    })
}

/// `off`, or where the control API listens.
pub(crate) fn control_listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    match socket_address(text) {
        Ok(address) if address.port() == 0 => Err(format!(
            "`{text}`: port 0 is any free port, which no client would know",
            text = shown(text)
        )),
        Ok(address) => Ok(Some(address)),
        Err(message) => Err(message + ", or \"off\""),
    }
}

/// `198.51.100.0/24`, or one address.
pub(super) fn network(text: &str) -> Result<Network, String> {
    let malformed = || {
        format!(
            "`{text}` is no network, such as \"198.51.100.0/24\", \"2001:db8::/32\" or one address",
            text = shown(text)
        )
    };
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| malformed())?;
    if address.to_canonical() != address {
        return Err(format!(
            "`{text}` is an IPv4 address mapped into IPv6: write it as IPv4",
            text = shown(text)
        ));
    }
    let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(|| {
                format!(
                    "`{text}`: the prefix of an {} network is 0 to {bits}",
                    if bits == 32 { "IPv4" } else { "IPv6" },
                    text = shown(text)
                )
            })?
        }
        Some(_) => return Err(malformed()),
    };
    let first = match address {
        IpAddr::V4(ip) => {
            IpAddr::V4((u32::from(ip) & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)).into())
        }
        IpAddr::V6(ip) => {
            IpAddr::V6((u128::from(ip) & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)).into())
        }
    };
    if first != address {
        return Err(format!(
            "`{text}` is an address within a network; the network is \"{first}/{prefix}\"",
            text = shown(text)
        ));
    }
    Ok(Network { address, prefix })
}

/// A host as Via, Record-Route and URIs carry it: a name, an IPv4 address, or an IPv6 address, which gets its brackets.
pub(super) fn sent_by_host(text: &str) -> Result<String, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        if ip.is_unspecified() {
            return Err(format!(
                "`{text}` is a wildcard, which no peer can send to",
                text = shown(text)
            ));
        }
        return match ip {
            IpAddr::V6(ip) => Ok(format!("[{ip}]")),
            IpAddr::V4(_) if bare.len() < text.len() => {
                Err(format!("`{text}`: brackets are for IPv6", text = shown(text)))
            }
            IpAddr::V4(ip) => Ok(ip.to_string()),
        };
    }
    if host_and_port(text).is_ok_and(|(_, port)| port.is_some()) {
        return Err(format!(
            "`{text}`: a host without port is needed; the port is the one that is bound",
            text = shown(text)
        ));
    }
    host_name(text)
}

/// A display name (RFC 3261 §25.1); it will stand in quotes.
pub(super) fn display_name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("an empty display name is none".into())
    } else if text.len() > DISPLAY_NAME_BYTES_MAX {
        Err(format!("a display name of more than {DISPLAY_NAME_BYTES_MAX} bytes"))
    } else if !has_no_control(text) {
        Err("a display name with line breaks or other control characters".into())
    } else {
        Ok(text.to_owned())
    }
}

/// An http or https URL with a host and without credentials.
pub(crate) fn http_url(text: &str) -> Result<(), String> {
    let rest = strip_prefix_ignoring_case(text, "https://").or_else(|| strip_prefix_ignoring_case(text, "http://"));
    let Some(rest) = rest else {
        return Err(format!("`{text}` is no http:// or https:// URL", text = shown(text)));
    };
    if text.len() > URL_BYTES_MAX {
        return Err(format!("a URL of more than {URL_BYTES_MAX} bytes"));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a URL with white space or control characters".into());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        // Credentials in a URL end up in logs.
        return Err("credentials are given beside the URL, not in it".into());
    }
    host_and_port(authority)
        .map(|_| ())
        .map_err(|message| format!("`{text}`: {message}", text = shown(text)))
}

/// An http or https URL that is an origin (RFC 6454 §4), since all that hooks take of it is that.
pub(super) fn base_url(text: &str) -> Result<String, String> {
    http_url(text)?;
    let after_scheme = text.find("://").map_or(0, |at| at + 3);
    let end = text[after_scheme..]
        .find(['/', '?', '#'])
        .map_or(text.len(), |at| after_scheme + at);
    match &text[end..] {
        "" | "/" => Ok(text.to_owned()),
        rest => Err(format!(
            "`{}` after the origin: relative hooks go to the origin; write \"{}\", and the whole path in each hook",
            shown(rest),
            shown(&text[..end])
        )),
    }
}

/// `*`, `+49*`, `sip:*@example.com`, `sips:example.com:5061`.
pub(crate) fn destination(text: &str) -> Result<Destination, String> {
    if text == "*" {
        return Ok(Destination::Any);
    }
    let (secure, rest) = match strip_prefix_ignoring_case(text, "sips:") {
        Some(rest) => (true, rest),
        None => match strip_prefix_ignoring_case(text, "sip:") {
            Some(rest) => (false, rest),
            None => return number_pattern(strip_prefix_ignoring_case(text, "tel:").unwrap_or(text)),
        },
    };
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    if host.contains('*') {
        return Err(format!(
            "`{text}`: the host is compared as a whole; `*` may stand in the user part only",
            text = shown(text)
        ));
    }
    if host.contains([';', '?']) {
        return Err(format!(
            "`{text}`: parameters and headers are not compared; leave them out",
            text = shown(text)
        ));
    }
    if user.is_some_and(|user| user.is_empty() || user.contains(is_no_user_character)) {
        return Err(format!(
            "`{text}`: the user part is empty or holds characters that must be percent-encoded in a URI",
            text = shown(text)
        ));
    }
    let (host, port) = host_and_port(host).map_err(|message| format!("`{text}`: {message}", text = shown(text)))?;
    Ok(Destination::Sip {
        secure,
        user: user.map(str::to_owned),
        host,
        port,
    })
}

fn number_pattern(text: &str) -> Result<Destination, String> {
    if text.is_empty() || text.contains(is_no_user_character) || text.contains([':', '@', '/', ';', '?']) {
        return Err(format!(
            "`{text}` is no destination: write \"*\", \"+49*\" or \"sip:*@example.com\"",
            text = shown(text)
        ));
    }
    Ok(Destination::Number(text.to_owned()))
}

/// `sip:{number}@trunk.example.net`, `sip:{number}@{source}`, `tel:{number}`.
pub(crate) fn bare_number(text: &str) -> Result<String, String> {
    let malformed = || {
        format!(
            "`{text}` is neither \"sip:{{number}}@HOST\" nor \"tel:{{number}}\"",
            text = shown(text)
        )
    };
    if let Some((before, after)) = text.split_once("@{source}") {
        // Whatever the address will be, the rest has to be right around it.
        let example = format!("{before}@192.0.2.1:5060{after}");
        return bare_number(&example).map(|_| text.to_owned()).map_err(|_| malformed());
    }
    if text.matches("{number}").count() != 1 {
        return Err(format!(
            "`{text}` must have `{{number}}` once, where the number goes",
            text = shown(text)
        ));
    }
    if text.contains(['<', '>', '"', '{', '}']) && text.replace("{number}", "").contains(['<', '>', '"', '{', '}']) {
        return Err(malformed());
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
        return Err(malformed());
    }
    if let Some(rest) = text.strip_prefix("tel:") {
        let number = rest.split(';').next().unwrap_or_default();
        return if matches!(number, "{number}" | "+{number}") {
            Ok(text.to_owned())
        } else {
            Err(malformed())
        };
    }
    let rest = text
        .strip_prefix("sips:")
        .or_else(|| text.strip_prefix("sip:"))
        .ok_or_else(malformed)?;
    let (user, host) = rest.rsplit_once('@').ok_or_else(malformed)?;
    if !user.contains("{number}") || user.contains(['@', '?']) {
        return Err(malformed());
    }
    let host = host.split([';', '?']).next().unwrap_or_default();
    host_and_port(host).map_err(|message| format!("`{text}`: {message}", text = shown(text)))?;
    Ok(text.to_owned())
}

/// The secret of dialogs that a text stands for: 96 bits at least, where it is random and in base64.
pub(super) fn dialog_secret(text: &str) -> Result<DialogSecret, &'static str> {
    if text.len() < 16 {
        return Err("has fewer than 16 bytes");
    }
    let digest = Sha256::new_with_prefix(b"referee dialog secret\0")
        .chain_update(text)
        .finalize();
    let mut secret = [0; 16];
    secret.copy_from_slice(&digest[..16]);
    Ok(DialogSecret(secret))
}

/// A token or key; the error says what it is not, without repeating it.
pub(super) fn secret(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        Err("is empty")
    } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Err("holds white space or control characters")
    } else {
        Ok(text.to_owned())
    }
}

/// What a trunk, a listener or an application is called; `key` is where that stands.
pub(super) fn name(key: &str, text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err(format!("`{key}` is empty"))
    } else if !has_no_control(text) {
        Err(format!("`{key}` holds control characters"))
    } else {
        Ok(text.to_owned())
    }
}

/// A user name, a password or a realm: any text of one line. The error does not repeat it.
pub(super) fn credential(what: &str, text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err(format!("`{what}` is empty"))
    } else if text.contains(char::is_control) {
        Err(format!("`{what}` holds control characters"))
    } else {
        Ok(text.to_owned())
    }
}

/// The name of a header (RFC 3261 §25.1 token).
pub(super) fn header_name(text: &str) -> Result<String, String> {
    if is_token(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no header name", text = shown(text)))
    }
}

/// `1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~")`.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

/// No CR, LF, NUL or any other control character: what may stand on a header line.
pub(crate) fn has_no_control(text: &str) -> bool {
    !text.contains(char::is_control)
}

/// A host with an optional port. IPv6 loses its brackets, names become lower case.
pub(crate) fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (ip, after) = rest
            .split_once(']')
            .ok_or_else(|| format!("`{text}` lacks the closing bracket", text = shown(text)))?;
        let ip: Ipv6Addr = ip
            .parse()
            .map_err(|_| format!("`[{ip}]` is no IPv6 address", ip = shown(ip)))?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err(format!("`{after}` after `[{ip}]` is no port", after = shown(after))),
        };
        (ip.to_string(), port)
    } else if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!(
            "an IPv6 address is written in brackets: \"[{text}]\"",
            text = shown(text)
        ));
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        (host_name(host)?, port)
    };
    let port = match port {
        None => None,
        Some(digits) => Some(
            Some(digits)
                .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("`{digits}` is no port from 1 to 65535", digits = shown(digits)))?,
        ),
    };
    Ok((host, port))
}

/// `hostname` or `IPv4address` of RFC 3261 §25.1, in lower case.
fn host_name(text: &str) -> Result<String, String> {
    if text.parse::<std::net::Ipv4Addr>().is_ok() {
        return Ok(text.to_owned());
    }
    let labels = text.strip_suffix('.').unwrap_or(text);
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // The last label starts with a letter, which tells names from mistyped IPv4 addresses.
    let top_fits = labels
        .rsplit('.')
        .next()
        .is_some_and(|label| label.starts_with(|c: char| c.is_ascii_alphabetic()));
    if labels.len() <= 253 && labels.split('.').all(label_fits) && top_fits {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!(
            "`{text}` is neither a host name nor an IP address",
            text = shown(text)
        ))
    }
}

/// Takes `udp:` or `tcp:` off.
fn transport_prefix(text: &str) -> Result<(Option<Transport>, &str), String> {
    let Some((prefix, rest)) = text.split_once(':') else {
        return Ok((None, text));
    };
    if let Some(transport) = Transport::from_token(prefix.as_bytes()) {
        return Ok((Some(transport), rest));
    }
    if ["tls", "ws", "wss", "sctp"]
        .iter()
        .any(|name| prefix.eq_ignore_ascii_case(name))
    {
        return Err(format!(
            "the transport `{prefix}` is not supported yet: only udp and tcp are"
        ));
    }
    if ["sip", "sips"].iter().any(|name| prefix.eq_ignore_ascii_case(name)) {
        return Err(format!(
            "`{text}` is a URI: write the transport and the address, such as \"udp:198.51.100.10:5060\"",
            text = shown(text)
        ));
    }
    Ok((None, text))
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// What cannot stand in the user part of a URI unless percent-encoded, as far as patterns are concerned.
fn is_no_user_character(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '@' | ',' | '%' | '\\')
}

/// RFC 3261 §19.1.2.
const DEFAULT_PORT: u16 = 5060;
/// Longer URLs are cut or refused by common HTTP servers.
pub(crate) const URL_BYTES_MAX: usize = 2_048;
pub(crate) const DISPLAY_NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, micros) in [
            ("0s", Some(0)),
            ("50us", Some(50)),
            ("500ms", Some(500_000)),
            ("1s", Some(1_000_000)),
            ("2m", Some(120_000_000)),
            ("24h", Some(86_400_000_000)),
            ("1 s", Some(1_000_000)),
            ("", None),
            ("s", None),
            ("5", None),
            ("-1s", None),
            ("1.5s", None),
            ("1d", None),
            ("1S", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(duration(text).ok(), micros.map(Duration::from_micros), "{text}");
        }
        for text in ["0s", "50us", "500ms", "1s", "2m", "24h", "90s", "1500ms"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn a_bind_has_a_transport_an_ip_address_and_a_port() {
        let fits = |transport, text: &str| Ok((transport, text.parse().unwrap()));
        assert_eq!(bind("udp:0.0.0.0:5060"), fits(Transport::Udp, "0.0.0.0:5060"));
        assert_eq!(bind("TCP:[::1]:5060"), fits(Transport::Tcp, "[::1]:5060"));
        for (text, part) in [
            ("0.0.0.0:5060", "names no transport"),
            ("udp:0.0.0.0", "no IP address with a port"),
            ("udp:example.com:5060", "no IP address with a port"),
            ("udp:0.0.0.0:0", "port 0"),
            ("tls:0.0.0.0:5061", "`tls` is not supported yet"),
            ("", "names no transport"),
        ] {
            let message = bind(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn an_address_may_leave_out_transport_and_port() {
        for (text, transport, host, port) in [
            ("udp:198.51.100.10:5060", Some(Transport::Udp), "198.51.100.10", 5060),
            ("tcp:[2001:DB8::1]:5070", Some(Transport::Tcp), "2001:db8::1", 5070),
            ("tcp:[2001:db8::1]", Some(Transport::Tcp), "2001:db8::1", 5060),
            ("SIP.example.net", None, "sip.example.net", 5060),
            ("127.0.0.1:5070", None, "127.0.0.1", 5070),
            ("xn--bcher-kva.example.", None, "xn--bcher-kva.example.", 5060),
        ] {
            let host = host.to_owned();
            assert_eq!(address(text), Ok(Address { transport, host, port }), "{text}");
        }
        for text in [
            "",
            "udp:",
            "udp:300.1.1.1:5060",
            "udp:1.2.3:5060",
            "udp:host:0",
            "udp:host:65536",
            "udp:host:+1",
            "udp:host:",
            "udp:-a.example",
            "udp:a..example",
            "udp:2001:db8::1",
            "udp:[2001:db8::1",
            "udp:[2001:db8::1]5060",
            "sip:198.51.100.10",
            "wss:host:443",
            "udp:ho st",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_has_no_bits_beyond_its_prefix() {
        for (text, expected) in [
            ("0.0.0.0/0", Some(("0.0.0.0", 0))),
            ("::/0", Some(("::", 0))),
            ("198.51.100.0/24", Some(("198.51.100.0", 24))),
            ("198.51.100.10", Some(("198.51.100.10", 32))),
            ("2001:db8::1", Some(("2001:db8::1", 128))),
            ("198.51.100.1/24", None),
            ("2001:db8::1/32", None),
            ("198.51.100.0/33", None),
            ("::/129", None),
            ("198.51.100.0/", None),
            ("198.51.100.0/+24", None),
            ("198.51.100/24", None),
            ("::ffff:198.51.100.0/120", None),
            ("example.com", None),
        ] {
            let expected = expected.map(|(address, prefix)| Network {
                address: address.parse().unwrap(),
                prefix,
            });
            assert_eq!(network(text).ok(), expected, "{text}");
        }
        assert!(network("198.51.100.1/24").unwrap_err().contains("\"198.51.100.0/24\""));
    }

    #[test]
    fn what_via_says_is_a_host_without_port() {
        for (text, expected) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("SIP.example.net", Some("sip.example.net")),
            ("2001:db8::1", Some("[2001:db8::1]")),
            ("[2001:db8::1]", Some("[2001:db8::1]")),
            ("[203.0.113.7]", None),
            ("203.0.113.7:5060", None),
            ("0.0.0.0", None),
            ("::", None),
            ("a_b.example", None),
            ("", None),
        ] {
            assert_eq!(sent_by_host(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_hook_url_is_http_or_https_with_a_host_and_without_credentials() {
        for (text, fits) in [
            ("https://app.example.com", true),
            ("HTTP://127.0.0.1:3000/path?q=1#rc=3", true),
            ("http://[::1]:80/", true),
            ("https://", false),
            ("https:///path", false),
            ("ftp://example.com", false),
            ("app.example.com", false),
            ("http://u:p@example.com/", false),
            ("http://example.com/a b", false),
            ("http://example.com:99999/", false),
        ] {
            assert_eq!(http_url(text).is_ok(), fits, "{text}");
        }
        assert!(http_url(&format!("http://example.com/{}", "a".repeat(2_048))).is_err());
    }

    #[test]
    fn relative_hooks_have_an_origin_as_their_base() {
        for text in ["https://app.example.com", "HTTP://[::1]:8080/"] {
            assert_eq!(base_url(text).as_deref(), Ok(text));
        }
        for (text, rest, origin) in [
            ("https://app.example.com/api/v1", "/api/v1", "https://app.example.com"),
            ("http://a:80//", "//", "http://a:80"),
            ("http://a?b=/", "?b=/", "http://a"),
            ("http://a/#", "/#", "http://a"),
        ] {
            let message = base_url(text).unwrap_err();
            assert!(message.starts_with(&format!("`{rest}` after the origin")), "{message}");
            assert!(message.contains(&format!("write \"{origin}\"")), "{message}");
        }
        assert!(base_url("ftp://a").is_err());
    }

    #[test]
    fn a_destination_is_everything_a_number_pattern_or_a_uri_pattern() {
        let sip = |secure, user: Option<&str>, host: &str, port| Destination::Sip {
            secure,
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
        };
        for (text, expected) in [
            ("*", Some(Destination::Any)),
            ("+49*", Some(Destination::Number("+49*".into()))),
            ("tel:+49*", Some(Destination::Number("+49*".into()))),
            ("sip:*@Example.com", Some(sip(false, Some("*"), "example.com", None))),
            ("sips:a*@[::1]:5061", Some(sip(true, Some("a*"), "::1", Some(5061)))),
            ("sip:example.com", Some(sip(false, None, "example.com", None))),
            ("sip:*@*.example.com", None),
            ("sip:*@example.com;transport=tcp", None),
            ("sip:@example.com", None),
            ("sip:*@", None),
            ("*@example.com", None),
            ("http://example.com", None),
            ("+49 30", None),
            ("", None),
        ] {
            assert_eq!(destination(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_bare_number_becomes_a_sip_or_tel_uri() {
        for (text, fits) in [
            ("sip:{number}@trunk.example.net", true),
            ("sips:{number}@trunk.example.net:5061;user=phone", true),
            ("sip:+{number}@[::1]", true),
            ("tel:{number}", true),
            ("tel:+{number}", true),
            ("tel:{number};phone-context=example.net", true),
            ("sip:{number}@{source}", true),
            ("sips:+{number}@{source};user=phone", true),
            ("sip:number@trunk.example.net", false),
            ("sip:{number}{number}@trunk.example.net", false),
            ("sip:a@{number}", false),
            ("sip:{source}@{number}", false),
            ("sip:a@{source}", false),
            ("sip:{number}@{source}:5060", false),
            ("sip:{number}@{source}.example.net", false),
            ("tel:{number}@{source}", false),
            ("sip:{number}@{host}", false),
            ("sip:{number}@", false),
            ("<sip:{number}@trunk.example.net>", false),
            ("{number}@trunk.example.net", false),
            ("tel:a{number}", false),
            ("sip:{number}@trunk example.net", false),
        ] {
            assert_eq!(bare_number(text).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn environment_variables_are_put_in() {
        let environment = |name: &str| (name == "A").then(|| "${env:B}".to_owned());
        for (text, expected) in [
            ("plain $ text", Ok("plain $ text")),
            // What a variable holds is not looked at again.
            ("<${env:A}>", Ok("<${env:B}>")),
            ("${env:A}${env:A}", Ok("${env:B}${env:B}")),
            ("$${env:A}", Ok("${env:A}")),
            ("${A}", Err("written `${env:NAME}`")),
            ("${env:A", Err("closing `}`")),
            ("${env:}", Err("no name")),
            ("${env:C}", Err("`C` is not set")),
        ] {
            match (substitute(text, &environment), expected) {
                (Ok(filled), Ok(expected)) => assert_eq!(filled, expected, "{text}"),
                (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
                (result, _) => panic!("{text}: {result:?}"),
            }
        }
    }
}
