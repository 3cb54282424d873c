//! Refused INVITEs that have no transaction: within a dialog, those that were refused without one, and any whose Timer H is over.
//!
//! Their ACKs go no further (RFC 3261 §17.1.1.3, §17.2.1). That of an INVITE outside a dialog that was refused without a transaction
//! is known by the To tag that we gave it; of the others nothing but the branch tells it from that of a 2xx.

/// INVITEs remembered. At 1,000 refusals a second each is for a second, in which its ACK has come.
const KEPT: usize = 1_024;

/// The last of them by their transactions' identities, each in a place that its identity tells. One more in the same place, and
/// the earlier is forgotten: its ACK is relayed like that of a 2xx, to a party that knows no such INVITE and drops it.
#[derive(Debug)]
pub(super) struct RefusedInvites(Box<[u128; KEPT]>);

impl Default for RefusedInvites {
    fn default() -> RefusedInvites {
        // No identity is 0 but one of 2^128.
        RefusedInvites(Box::new([0; KEPT]))
    }
}

impl RefusedInvites {
    pub fn add(&mut self, identity: u128) {
        self.0[place(identity)] = identity;
    }

    pub fn has(&self, identity: u128) -> bool {
        self.0[place(identity)] == identity
    }

    /// It came again and is taken: another ACK may follow.
    pub fn remove(&mut self, identity: u128) {
        if self.has(identity) {
            self.0[place(identity)] = 0;
        }
    }
}

fn place(identity: u128) -> usize {
    identity as usize % KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_place_is_known() {
        let mut refused = RefusedInvites::default();
        let (one, other, beside) = (5, 5 + KEPT as u128, 6);
        refused.add(one);
        refused.add(beside);
        assert!(refused.has(one) && refused.has(beside) && !refused.has(other));
        refused.remove(other);
        assert!(refused.has(one));
        refused.add(other);
        assert!(!refused.has(one) && refused.has(other));
        refused.remove(other);
        assert!(!refused.has(other) && refused.has(beside));
    }
}
