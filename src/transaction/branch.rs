//! The branch parameter of requests of ours (RFC 3261 §8.1.1.7): the key of its transaction, and what nobody can guess.

use super::ClientKey;
use crate::identifiers::{from_hex16, hex16};
use slotmap::{Key, KeyData};

/// The branch of a client transaction, as it stands in Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    text: [u8; BRANCH_LEN + LOOP_DIGEST_LEN],
    length: usize,
}

/// The cookie of RFC 3261.
pub(super) const MAGIC: &[u8; 7] = b"z9hG4bK";
const BRANCH_LEN: usize = 7 + 16 + 16;
const LOOP_DIGEST_LEN: usize = 8;

impl Branch {
    pub(super) fn new(key: ClientKey, random: u64, loop_digest: Option<u32>) -> Branch {
        let mut text = [0; BRANCH_LEN + LOOP_DIGEST_LEN];
        text[..7].copy_from_slice(MAGIC);
        text[7..23].copy_from_slice(&hex16(key.data().as_ffi()));
        text[23..BRANCH_LEN].copy_from_slice(&hex16(random));
        let mut length = BRANCH_LEN;
        if let Some(digest) = loop_digest {
            text[BRANCH_LEN..].copy_from_slice(&hex16(digest.into())[16 - LOOP_DIGEST_LEN..]);
            length = text.len();
        }
        Branch { text, length }
    }

    /// The loop digest in a branch of ours; `None`: it has none, or is not ours.
    pub fn loop_digest(text: &[u8]) -> Option<u32> {
        Branch::read(text)?.loop_digest
    }

    /// A branch no transaction stands behind: an ACK for a 2xx is forwarded without one. `number` must be the same for each
    /// repeat and differ between requests (RFC 3261 §16.11).
    pub fn without_transaction(number: u64) -> Branch {
        Branch::new(ClientKey::null(), number, None)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    pub(super) fn read(text: &[u8]) -> Option<BranchParts> {
        let rest = text.strip_prefix(MAGIC)?;
        let (numbers, digest) = rest.split_at_checked(32)?;
        let loop_digest = match digest.len() {
            0 => None,
            LOOP_DIGEST_LEN => {
                let mut padded = [b'0'; 16];
                padded[16 - LOOP_DIGEST_LEN..].copy_from_slice(digest);
                Some(from_hex16(&padded)? as u32)
            }
            _ => return None,
        };
        Some(BranchParts {
            key: KeyData::from_ffi(from_hex16(&numbers[..16])?).into(),
            random: from_hex16(&numbers[16..])?,
            loop_digest,
        })
    }
}

/// What stands in a branch of ours.
pub(super) struct BranchParts {
    pub key: ClientKey,
    pub random: u64,
    pub loop_digest: Option<u32>,
}
