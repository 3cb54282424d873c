//! Signatures of hooks: Standard Webhooks 1.0.0 (symmetric, `v1`) and the `Jambonz-Signature` of existing applications.
//!
//! Both cover the moment of the attempt and the exact bytes of the body, so every attempt is signed anew.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The value of `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.
///
/// A secret of the form `whsec_` + base64 is the bytes that the base64 stands for, any other its own bytes.
/// `id` must not contain a `.`, or one signature would fit two messages.
pub fn standard(secret: &str, id: &str, timestamp: u64, body: &str) -> String {
    debug_assert!(!id.contains('.'), "an id with a dot is ambiguous when signed");
    let decoded = secret
        .strip_prefix("whsec_")
        .and_then(|encoded| STANDARD.decode(encoded).ok());
    let key = decoded.as_deref().unwrap_or(secret.as_bytes());
    let mac = hmac_sha256(key, &[id, ".", &timestamp.to_string(), ".", body]);
    format!("v1,{}", STANDARD.encode(mac))
}

/// The value of `Jambonz-Signature`: `t=`, the timestamp, `,v1=` and hex of HMAC-SHA256 over `timestamp.body`.
pub fn jambonz(secret: &str, timestamp: u64, body: &str) -> String {
    let timestamp = timestamp.to_string();
    let mac = hmac_sha256(secret.as_bytes(), &[&timestamp, ".", body]);
    let mut text = format!("t={timestamp},v1=");
    for byte in mac {
        text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
    }
    text
}

fn hmac_sha256(key: &[u8], parts: &[&str]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104 §3)");
    for part in parts {
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vector that the reference libraries of Standard Webhooks share.
    #[test]
    fn the_published_vector_is_met() {
        let signature = standard(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_not_encoded_is_its_own_bytes() {
        let encoded = format!("whsec_{}", STANDARD.encode("plain secret"));
        assert_eq!(
            standard("plain secret", "id", 1, "{}"),
            standard(&encoded, "id", 1, "{}")
        );
        assert_ne!(standard("whsec_!", "id", 1, "{}"), standard("!", "id", 1, "{}"));
    }

    // Computed with `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'secret'`.
    #[test]
    fn the_jambonz_signature_is_hex_over_time_and_body() {
        assert_eq!(
            jambonz("secret", 1_700_000_000, r#"{"a":1}"#),
            "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686"
        );
    }
}
