//! The carrier's side of digest: its challenge, and whether what comes back answers it (RFC 7616 §3.4, RFC 8760). Shares no code
//! with the client's side in referee.

use super::sip::split_list;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// What the trunk of the demonstration is configured with.
pub const USERNAME: &str = "4711";
pub const PASSWORD: &str = "password-of-the-trunk";
pub const REALM: &str = "carrier.example";

/// The value of a WWW-Authenticate.
pub fn challenge() -> String {
    format!("Digest realm=\"{REALM}\", nonce=\"{NONCE}\", algorithm=SHA-256, qop=\"auth\"")
}

/// Whether an Authorization answers the challenge for a request with this method.
///
/// # Errors
/// What is wrong with it.
pub fn verify(authorization: &str, method: &str) -> Result<(), String> {
    let fields = authorization.strip_prefix("Digest ").ok_or("no digest credentials")?;
    let field = |name: &str| {
        let value = split_list(fields)
            .into_iter()
            .filter_map(|field| field.split_once('='))
            .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().trim_matches('"').to_owned());
        value.ok_or_else(|| format!("the credentials have no {name}"))
    };
    for (name, expected) in [
        ("username", USERNAME),
        ("realm", REALM),
        ("nonce", NONCE),
        ("algorithm", "SHA-256"),
        ("qop", "auth"),
    ] {
        if field(name)? != expected {
            return Err(format!("the credentials have {name} {}, not {expected}", field(name)?));
        }
    }
    let expected = response(
        [USERNAME, REALM, PASSWORD],
        [NONCE, &field("nc")?, &field("cnonce")?, "auth"],
        [method, &field("uri")?],
    );
    match field("response")? == expected {
        true => Ok(()),
        false => Err("the credentials do not answer the challenge".to_owned()),
    }
}

/// RFC 7616 §3.4.1 with a qop: who, the challenge with its count, what.
fn response(who: [&str; 3], with: [&str; 4], what: [&str; 2]) -> String {
    let (who, what) = (hash(&who.join(":")), hash(&what.join(":")));
    hash(&format!("{who}:{}:{what}", with.join(":")))
}

fn hash(text: &str) -> String {
    let mut hex = String::new();
    for byte in Sha256::digest(text) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

const NONCE: &str = "nonce-of-the-demonstration";

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7616 §3.9.1.
    #[test]
    fn the_example_of_the_rfc_comes_out() {
        let text = response(
            ["Mufasa", "http-auth@example.org", "Circle of Life"],
            [
                "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
                "00000001",
                "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
                "auth",
            ],
            ["GET", "/dir/index.html"],
        );
        assert_eq!(text, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
    }

    #[test]
    fn only_an_answer_to_this_challenge_is_taken() {
        let answer = |nonce: &str, method: &str| {
            let right = response(
                [USERNAME, REALM, PASSWORD],
                [nonce, "00000001", "c", "auth"],
                [method, "sip:a"],
            );
            format!(
                "Digest username=\"{USERNAME}\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"sip:a\", response=\"{right}\", \
                 algorithm=SHA-256, cnonce=\"c\", qop=auth, nc=00000001"
            )
        };
        assert_eq!(verify(&answer(NONCE, "REFER"), "REFER"), Ok(()));
        for wrong in [&answer("other", "REFER"), &answer(NONCE, "BYE"), "Basic a", ""] {
            assert!(verify(wrong, "REFER").is_err(), "{wrong}");
        }
    }
}
