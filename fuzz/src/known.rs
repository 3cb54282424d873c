//! Where ezk-sip-types is known to disagree with referee, and why that is so.

use crate::differential::Disagreement;

/// Why two readings of the same bytes disagree; `None` if nobody knows.
pub fn reason(_bytes: &[u8], _disagreement: Disagreement) -> Option<&'static str> {
    None
}
