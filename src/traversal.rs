//! The token in our Record-Route: which traversal of which call a request within a dialog belongs to.
//!
//! Call-ID and tags may pass referee more than once (a spiral, a hairpin); each traversal is a call of its own. The token is
//! authenticated, so that a peer cannot name another's call, and that whoever has no dialog through referee cannot have it
//! relay. Where a request within a dialog goes is what its Request-URI and Route say, as with any proxy.

use crate::call::CallKey;
use crate::config::TrunkId;
use crate::identifiers::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use slotmap::{Key, KeyData};

/// What the token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traversal {
    pub call: CallKey,
    pub caller_trunk: TrunkId,
    pub callee_trunk: TrunkId,
    /// A digest of the caller's tag: tells which way a request goes where no table does. Other tags may have the same.
    pub caller: u16,
}

/// The token's length as text.
pub const TOKEN_LEN: usize = 28;

/// The URI parameter that carries it.
pub const PARAMETER: &str = "r";

const RAW_LEN: usize = 21;
const VERSION: u8 = 1;
const PURPOSE: u8 = b'r';

impl Traversal {
    pub fn new(
        call: CallKey,
        caller_trunk: TrunkId,
        callee_trunk: TrunkId,
        caller_tag: &[u8],
        secret: &Secret,
    ) -> Traversal {
        Traversal {
            call,
            caller_trunk,
            callee_trunk,
            caller: digest(caller_tag, secret),
        }
    }

    /// The token, bound to the Call-ID.
    pub fn token(&self, call_id: &[u8], secret: &Secret) -> [u8; TOKEN_LEN] {
        let mut raw = [0; RAW_LEN];
        raw[0] = VERSION;
        raw[1..9].copy_from_slice(&self.call.data().as_ffi().to_be_bytes());
        raw[9] = self.caller_trunk.0;
        raw[10] = self.callee_trunk.0;
        raw[11..13].copy_from_slice(&self.caller.to_be_bytes());
        let mac = secret.mac(PURPOSE, &[&raw[..13], call_id]);
        raw[13..].copy_from_slice(&mac.to_be_bytes());
        let mut text = [0; TOKEN_LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(raw, &mut text);
        debug_assert_eq!(written, Ok(TOKEN_LEN));
        text
    }

    /// Reads a token; `None` if it is not one we made for this Call-ID.
    pub fn read(text: &[u8], call_id: &[u8], secret: &Secret) -> Option<Traversal> {
        if text.len() != TOKEN_LEN {
            return None;
        }
        let mut raw = [0; RAW_LEN];
        if URL_SAFE_NO_PAD.decode_slice(text, &mut raw) != Ok(RAW_LEN) || raw[0] != VERSION {
            return None;
        }
        let mac = secret.mac(PURPOSE, &[&raw[..13], call_id]);
        // The time of a comparison tells nothing here: each guess costs a datagram and 64 bits are not found byte by byte
        // through a socket; still, compare as a whole.
        if u64::from_be_bytes(raw[13..].try_into().ok()?) != mac {
            return None;
        }
        Some(Traversal {
            call: KeyData::from_ffi(u64::from_be_bytes(raw[1..9].try_into().ok()?)).into(),
            caller_trunk: TrunkId(raw[9]),
            callee_trunk: TrunkId(raw[10]),
            caller: u16::from_be_bytes([raw[11], raw[12]]),
        })
    }

    /// Whether a request with this From tag comes from the caller: so it says of one tag in 65,536 that is another's, too.
    pub fn is_from_caller(&self, from_tag: &[u8], secret: &Secret) -> bool {
        digest(from_tag, secret) == self.caller
    }
}

fn digest(tag: &[u8], secret: &Secret) -> u16 {
    secret.mac(b't', &[tag]) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_for_its_call_id_only() {
        let secret = Secret([9; 16]);
        let traversal = Traversal::new(
            KeyData::from_ffi(0x1_0000_0007).into(),
            TrunkId(1),
            TrunkId(2),
            b"tag-a",
            &secret,
        );
        let token = traversal.token(b"a@b", &secret);
        assert_eq!(Traversal::read(&token, b"a@b", &secret), Some(traversal));
        assert_eq!(Traversal::read(&token, b"A@b", &secret), None);
        assert_eq!(Traversal::read(&token, b"a@b", &Secret([8; 16])), None);
        for i in 0..TOKEN_LEN {
            let mut forged = token;
            forged[i] = if forged[i] == b'A' { b'B' } else { b'A' };
            assert_eq!(Traversal::read(&forged, b"a@b", &secret), None, "byte {i}");
        }
        for text in [&token[..27], &[&token[..], b"A"].concat(), &[b'*'; TOKEN_LEN]] {
            assert_eq!(Traversal::read(text, b"a@b", &secret), None);
        }
        assert!(traversal.is_from_caller(b"tag-a", &secret));
        assert!(!traversal.is_from_caller(b"tag-b", &secret));
    }
    #[test]
    fn a_token_of_another_version_is_not_read_even_if_it_is_authentic() {
        let secret = Secret([9; 16]);
        let token = |version: u8| {
            let mut raw = [0; RAW_LEN];
            raw[0] = version;
            let mac = secret.mac(PURPOSE, &[&raw[..13], b"a@b"]);
            raw[13..].copy_from_slice(&mac.to_be_bytes());
            URL_SAFE_NO_PAD.encode(raw)
        };
        let read = |version| Traversal::read(token(version).as_bytes(), b"a@b", &secret);
        assert!(read(VERSION).is_some() && read(VERSION + 1).is_none());
    }
}
