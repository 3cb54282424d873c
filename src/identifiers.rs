//! Identifiers referee mints: branches, tags, ids of calls and transfers, tokens. All from seeds given at construction.

use siphasher::sip::SipHasher13;
use siphasher::sip128::SipHasher24 as SipHasher128;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::str::FromStr;

/// A live call as the control API names it: the shard that owns it and a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId {
    pub shard: u16,
    pub number: u64,
}

/// One execution of `sip:refer`: the shard that runs it and a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransferId {
    pub shard: u16,
    pub number: u64,
}

/// The text is not an id that referee makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnId;

fn parse_id(text: &str, prefix: &str) -> Result<(u16, u64), NotAnId> {
    let hex = text.strip_prefix(prefix).ok_or(NotAnId)?;
    if hex.len() != 20 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(NotAnId);
    }
    let shard = u16::from_str_radix(&hex[..4], 16).map_err(|_| NotAnId)?;
    let number = u64::from_str_radix(&hex[4..], 16).map_err(|_| NotAnId)?;
    Ok((shard, number))
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call-{:04x}{:016x}", self.shard, self.number)
    }
}

impl FromStr for CallId {
    type Err = NotAnId;
    fn from_str(text: &str) -> Result<CallId, NotAnId> {
        parse_id(text, "call-").map(|(shard, number)| CallId { shard, number })
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transfer-{:04x}{:016x}", self.shard, self.number)
    }
}

impl FromStr for TransferId {
    type Err = NotAnId;
    fn from_str(text: &str) -> Result<TransferId, NotAnId> {
        parse_id(text, "transfer-").map(|(shard, number)| TransferId { shard, number })
    }
}

/// The secret of one process, or of all with the same `dialog_secret`: the same on all shards, so that each can check what another
/// has minted.
#[derive(Clone, Copy)]
pub struct Secret(pub [u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A 64-bit MAC over parts, each told apart from its neighbours; `purpose` keeps uses of the same secret apart.
    pub fn mac(&self, purpose: u8, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u8(purpose);
        for part in parts {
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        }
        hasher.finish()
    }

    /// Which of `shards` owns the messages of this Call-ID. Keyed, since Call-IDs are the peer's choice.
    pub fn owner(&self, call_id: &[u8], shards: u16) -> u16 {
        if shards <= 1 {
            return 0;
        }
        ((u128::from(self.mac(b'o', &[call_id])) * u128::from(shards)) >> 64) as u16
    }
}

/// Hashes the keys of a table that peers choose: without its secret they cannot make them meet in one place.
#[derive(Clone, Copy)]
pub struct Keyed([u8; 16]);

impl Keyed {
    pub fn new(random: &mut Random) -> Keyed {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&random.next_u64().to_be_bytes());
        key[8..].copy_from_slice(&random.next_u64().to_be_bytes());
        Keyed(key)
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed(..)")
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// A stream of unpredictable numbers from a secret seed: SipHash-2-4 over a counter.
#[derive(Clone)]
pub struct Random {
    key: [u8; 16],
    counter: u64,
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}

impl Random {
    pub fn new(seed: [u8; 16]) -> Random {
        Random { key: seed, counter: 0 }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.counter += 1;
        let mut hasher = SipHasher128::new_with_key(&self.key);
        hasher.write_u64(self.counter);
        hasher.finish()
    }

    /// A number in `0..bound` (`bound` > 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// Sixteen lower-case hexadecimal digits: identifiers of ours never differ by case alone.
pub fn hex16(number: u64) -> [u8; 16] {
    let mut text = [0; 16];
    for (i, digit) in text.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (60 - 4 * i)) as usize & 15];
    }
    text
}

/// The number that [`hex16`] wrote.
pub fn from_hex16(text: &[u8]) -> Option<u64> {
    if text.len() != 16 {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_what_they_print() {
        let call = CallId {
            shard: 3,
            number: 0xdead_beef,
        };
        assert_eq!(call.to_string().parse(), Ok(call));
        let transfer = TransferId {
            shard: 0xffff,
            number: u64::MAX,
        };
        assert_eq!(transfer.to_string().parse(), Ok(transfer));
        for wrong in [
            "",
            "call-",
            "call-3",
            "transfer-0003000000000000000g",
            "call-+003000000000000000",
        ] {
            assert_eq!(wrong.parse::<CallId>(), Err(NotAnId), "{wrong}");
        }
    }

    #[test]
    fn hexadecimal_reads_back() {
        for number in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(from_hex16(&hex16(number)), Some(number));
        }
        assert_eq!(from_hex16(b"0123456789ABCDEF"), None);
        assert_eq!(from_hex16(b"012"), None);
    }

    #[test]
    fn owners_are_spread_evenly() {
        let secret = Secret([7; 16]);
        let mut count = [0u32; 3];
        for i in 0..3000 {
            count[usize::from(secret.owner(format!("{i}@host").as_bytes(), 3))] += 1;
        }
        assert!(count.iter().all(|n| (900..1100).contains(n)), "{count:?}");
    }

    #[test]
    fn parts_of_a_mac_are_told_apart() {
        let secret = Secret([1; 16]);
        assert_ne!(secret.mac(1, &[b"ab", b"c"]), secret.mac(1, &[b"a", b"bc"]));
        assert_ne!(secret.mac(1, &[b"ab"]), secret.mac(2, &[b"ab"]));
    }
}
