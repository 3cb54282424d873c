//! The messages of calls, shuffled in kind and in place: what a proxy's receive buffers look like.

/// How many messages.
const COUNT: usize = 4096;
/// Room for the largest; all together 6 MiB, more than a second-level cache holds.
const SLOT_BYTES: usize = 1536;
/// How often each kind stands in a call, a transfer and what goes on beside them; the torture message stands in none.
const WEIGHTS: [(&str, usize); 8] = [
    ("invite", 4),
    ("200", 6),
    ("refer", 1),
    ("notify", 2),
    ("options", 4),
    ("register", 1),
    ("ack", 4),
    ("bye", 4),
];

/// The same sequence each time.
#[derive(Debug)]
pub struct CallMix {
    bytes: Vec<u8>,
    /// Where each message begins and how long it is, in the order of reading.
    places: Vec<(usize, usize)>,
}

impl CallMix {
    /// Writes the messages down. Those of one list lie where those of another lie that have the same names and lengths.
    pub fn of(all: &[(&str, &[u8])]) -> CallMix {
        let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
        let kinds: Vec<&[u8]> = WEIGHTS
            .iter()
            .flat_map(|(wanted, weight)| {
                let found = all.iter().find(|(name, _)| name == wanted);
                found
                    .into_iter()
                    .flat_map(|(_, bytes)| std::iter::repeat_n(*bytes, *weight))
            })
            .collect();
        let mut slots: Vec<usize> = (0..COUNT).collect();
        for last in (1..COUNT).rev() {
            slots.swap(last, random.below(last + 1));
        }
        let mut bytes = vec![0; COUNT * SLOT_BYTES];
        let places = slots
            .into_iter()
            .map(|slot| {
                let message = kinds[random.below(kinds.len())];
                let start = slot * SLOT_BYTES;
                bytes[start..start + message.len()].copy_from_slice(message);
                (start, message.len())
            })
            .collect();
        CallMix { bytes, places }
    }

    /// The messages in the order of reading.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.places
            .iter()
            .map(|(start, length)| &self.bytes[*start..][..*length])
    }
}

struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as usize) % bound
    }
}
