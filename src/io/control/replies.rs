//! Tickets: which request waits for which answer of a shard.

use crate::command::Reply;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Where the answers of shards meet the requests that wait for them. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    by_ticket: BTreeMap<u64, oneshot::Sender<Reply>>,
}

/// A request's place among those that wait; dropped, it is given up.
#[derive(Debug)]
pub(super) struct Ticket {
    pub number: u64,
    pub answer: oneshot::Receiver<Reply>,
    replies: Replies,
}

impl Replies {
    pub fn new() -> Replies {
        Replies::default()
    }

    /// Takes the answer to the command with this ticket, from any thread. One that nobody waits for any more is dropped.
    pub fn reply(&self, ticket: u64, reply: Reply) {
        let waiting = self.lock().by_ticket.remove(&ticket);
        if let Some(waiting) = waiting {
            // The request may be gone: its client has hung up.
            let _ = waiting.send(reply);
        }
    }

    /// `None`: as many wait as may.
    pub(super) fn open(&self) -> Option<Ticket> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.by_ticket.len() >= WAITING_MAX {
            return None;
        }
        waiting.last += 1;
        let number = waiting.last;
        waiting.by_ticket.insert(number, sender);
        Some(Ticket {
            number,
            answer,
            replies: self.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.replies.lock().by_ticket.remove(&self.number);
    }
}

/// Each connection has one request under way, so this is a second line of defence.
const WAITING_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_the_one_who_waits_and_no_other() {
        let replies = Replies::new();
        let (mut first, second) = (replies.open().unwrap(), replies.open().unwrap());
        drop(second);
        replies.reply(2, Reply::Done);
        replies.reply(99, Reply::Done);
        assert!(first.answer.try_recv().is_err());
        replies.reply(1, Reply::Done);
        assert!(matches!(first.answer.try_recv(), Ok(Reply::Done)));
        assert!(replies.lock().by_ticket.is_empty());
    }

    #[test]
    fn who_waits_is_bounded() {
        let replies = Replies::new();
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| replies.open().unwrap()).collect();
        assert!(replies.open().is_none());
        drop(waiting);
        assert!(replies.open().is_some());
    }
}
