//! What repeats of a request are answered with, so that asking twice does nothing twice.

use crate::identifiers::{CallId, TransferId};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// What a request that was accepted is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub call: CallId,
    pub transfer: Option<TransferId>,
}

/// Accepted requests by call and key, for [`REMEMBERED_FOR`], the oldest forgotten first when there are too many.
/// `now` is the time since any moment, the same for all calls.
#[derive(Debug, Default)]
pub(super) struct Answers {
    entries: BTreeMap<Scope, Arc<Entry>>,
    /// In the order of their expiry. One whose entry is gone or newer stays until then.
    order: VecDeque<(Duration, Scope, Arc<Entry>)>,
}

/// A call and a key, hashed: keys are as long as clients like, and what is kept of them must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope([u8; 32]);

/// A request, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

/// One request, carried out or about to be. Repeats that come meanwhile wait for the cell.
#[derive(Debug)]
pub(super) struct Entry {
    fingerprint: Fingerprint,
    pub answer: OnceCell<Accepted>,
}

/// The key stands for another request already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyReused;

impl Scope {
    /// `kind` keeps keys of different sources apart.
    pub fn new(call: &str, kind: &str, key: &str) -> Scope {
        Scope(hash(&[call, kind, key]))
    }
}

impl Fingerprint {
    /// `body` in a form that does not depend on spaces and the order of members.
    pub fn new(route: &str, body: &serde_json::Value) -> Fingerprint {
        Fingerprint(hash(&[route, &body.to_string()]))
    }
}

fn hash(parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

impl Answers {
    /// The entry of an earlier request with this key.
    ///
    /// # Errors
    /// It was another request.
    pub fn find(
        &mut self,
        scope: Scope,
        fingerprint: Fingerprint,
        now: Duration,
    ) -> Result<Option<Arc<Entry>>, KeyReused> {
        self.forget_old(now);
        match self.entries.get(&scope) {
            None => Ok(None),
            Some(entry) if entry.fingerprint == fingerprint => Ok(Some(Arc::clone(entry))),
            Some(_) => Err(KeyReused),
        }
    }

    /// The same, or a new entry if there is none.
    ///
    /// # Errors
    /// It was another request.
    pub fn claim(&mut self, scope: Scope, fingerprint: Fingerprint, now: Duration) -> Result<Arc<Entry>, KeyReused> {
        if let Some(entry) = self.find(scope, fingerprint, now)? {
            return Ok(entry);
        }
        let entry = Arc::new(Entry {
            fingerprint,
            answer: OnceCell::new(),
        });
        self.insert(scope, &entry, now);
        Ok(entry)
    }

    /// Has `entry` found under another name of its call too.
    pub fn alias(&mut self, scope: Scope, entry: &Arc<Entry>, now: Duration) {
        if !self.entries.contains_key(&scope) {
            self.insert(scope, entry, now);
        }
    }

    /// The request was not accepted: the next one with this key is a new one.
    pub fn release(&mut self, scope: Scope, entry: &Arc<Entry>) {
        if self
            .entries
            .get(&scope)
            .is_some_and(|current| Arc::ptr_eq(current, entry))
        {
            self.entries.remove(&scope);
        }
    }

    fn insert(&mut self, scope: Scope, entry: &Arc<Entry>, now: Duration) {
        self.entries.insert(scope, Arc::clone(entry));
        self.order.push_back((now + REMEMBERED_FOR, scope, Arc::clone(entry)));
        self.forget_old(now);
    }

    fn forget_old(&mut self, now: Duration) {
        while let Some((expires, ..)) = self.order.front()
            && (*expires <= now || self.order.len() > ENTRIES_MAX)
            && let Some((_, scope, entry)) = self.order.pop_front()
        {
            self.release(scope, &entry);
        }
    }
}

/// As long as clients retry.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);

/// At about 400 bytes each 40 MB; one transfer per second for 24 h fits.
const ENTRIES_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn accepted(number: u64) -> Accepted {
        Accepted {
            call: CallId { shard: 0, number },
            transfer: None,
        }
    }

    #[test]
    fn the_same_request_finds_its_answer_and_another_is_refused() {
        let mut answers = Answers::default();
        let scope = Scope::new("call", "id", "key");
        let print = Fingerprint::new("verbs", &serde_json::from_str(r#"{"a":1,"b":2}"#).unwrap());
        let now = Duration::ZERO;
        answers
            .claim(scope, print, now)
            .unwrap()
            .answer
            .set(accepted(1))
            .unwrap();
        let same = Fingerprint::new("verbs", &serde_json::from_str(r#"{ "b":2, "a":1 }"#).unwrap());
        assert_eq!(
            answers.claim(scope, same, now).unwrap().answer.get(),
            Some(&accepted(1))
        );
        for other in [
            Fingerprint::new("verbs", &json!({"a": 1})),
            Fingerprint::new("refer", &json!({"a": 1, "b": 2})),
        ] {
            assert_eq!(answers.claim(scope, other, now).unwrap_err(), KeyReused);
        }
        for elsewhere in [
            Scope::new("other", "id", "key"),
            Scope::new("call", "header", "key"),
            Scope::new("call", "i", "dkey"),
        ] {
            assert_eq!(answers.claim(elsewhere, print, now).unwrap().answer.get(), None);
        }
    }

    #[test]
    fn an_answer_is_forgotten_after_a_day_and_a_failure_at_once() {
        let mut answers = Answers::default();
        let scope = Scope::new("call", "id", "key");
        let (one, other) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        let entry = answers.claim(scope, one, Duration::ZERO).unwrap();
        answers.release(scope, &entry);
        let entry = answers.claim(scope, other, Duration::from_secs(1)).unwrap();
        // What is left of the first one's time does not end the second one's.
        let day = REMEMBERED_FOR;
        assert!(answers.find(scope, other, day).unwrap().is_some());
        assert!(
            answers
                .find(scope, other, day + Duration::from_secs(1))
                .unwrap()
                .is_none()
        );
        drop(entry);
        assert!(answers.order.is_empty() && answers.entries.is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut answers = Answers::default();
        for number in 0..ENTRIES_MAX + 5 {
            let scope = Scope::new("call", "id", &number.to_string());
            answers.claim(scope, Fingerprint([0; 32]), Duration::ZERO).unwrap();
        }
        assert_eq!((answers.entries.len(), answers.order.len()), (ENTRIES_MAX, ENTRIES_MAX));
        let first = Scope::new("call", "id", "0");
        assert!(
            answers
                .find(first, Fingerprint([0; 32]), Duration::ZERO)
                .unwrap()
                .is_none()
        );
    }
}
