//! Whether another parser reads a message as referee does, known differences aside.

use referee::message::ParseErrorKind;

use crate::facts::{Facts, Field, ours, theirs};
use crate::known;

/// How two readings of the same bytes disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disagreement {
    /// Only the other parser takes it.
    WeRefuse(ParseErrorKind),
    /// Only referee takes it; the field is what the other one stops at.
    TheyRefuse(Field),
    /// Both take it, and it says different things to them.
    Differ(Field),
}

/// For any bytes: referee and ezk-sip-types both refuse them or read the same, or a known difference says why not.
///
/// # Panics
///
/// If they disagree and nothing says why.
pub fn differential(bytes: &[u8]) {
    if let Some(finding) = finding(bytes) {
        panic!("{finding}");
    }
}

/// A disagreement that nothing says the reason of.
fn finding(bytes: &[u8]) -> Option<String> {
    let (ours, theirs) = (ours(bytes), theirs(bytes));
    let disagreement = disagreement(&ours, &theirs)?;
    if known::reason(bytes, disagreement).is_some() {
        return None;
    }
    Some(format!(
        "{disagreement:?}\n{}\nreferee: {ours:?}\nezk:     {theirs:?}",
        bytes.escape_ascii()
    ))
}

fn disagreement(ours: &Result<Facts, ParseErrorKind>, theirs: &Result<Facts, Field>) -> Option<Disagreement> {
    match (ours, theirs) {
        (Err(_), Err(_)) => None,
        (Err(kind), Ok(_)) => Some(Disagreement::WeRefuse(*kind)),
        (Ok(_), Err(field)) => Some(Disagreement::TheyRefuse(*field)),
        (Ok(ours), Ok(theirs)) => ours.difference(theirs).map(Disagreement::Differ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::{fs, io};

    use super::*;

    #[test]
    fn the_corpora_and_the_torture_messages_are_read_alike_or_it_is_known_why_not() -> io::Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut reasons = BTreeSet::new();
        let mut both = 0;
        let mut findings = Vec::new();
        for folder in [
            "corpus/parse",
            "corpus/relay",
            "corpus/differential",
            "../benches/messages",
            "../tests/torture/rfc4475",
            "../tests/torture/rfc5118",
            "../tests/torture/transfer",
        ] {
            for entry in fs::read_dir(root.join(folder))? {
                let path = entry?.path();
                println!("{}", path.display());
                let bytes = fs::read(&path)?;
                findings.extend(finding(&bytes));
                let (ours, theirs) = (ours(&bytes), theirs(&bytes));
                match disagreement(&ours, &theirs) {
                    Some(disagreement) => reasons.extend(known::reason(&bytes, disagreement)),
                    None => both += usize::from(ours.is_ok()),
                }
            }
        }
        assert!(findings.is_empty(), "{}", findings.join("\n\n"));
        assert!(both >= 10, "only {both} messages are taken by both");
        for reason in reasons {
            println!("{reason}");
        }
        Ok(())
    }
}
