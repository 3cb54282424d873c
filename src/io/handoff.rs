//! From one thread to another: bells that wake a sleeping worker.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Wakes one worker, and costs a system call only when that worker may be asleep.
#[derive(Debug)]
pub struct Doorbell {
    waker: mio::Waker,
    sleeping: AtomicBool,
}

impl Doorbell {
    /// A bell that makes `poll` return with an event of `token`.
    ///
    /// # Errors
    /// The kernel has no more event descriptors.
    pub fn new(poll: &mio::Poll, token: mio::Token) -> io::Result<Doorbell> {
        Ok(Doorbell {
            waker: mio::Waker::new(poll.registry(), token)?,
            sleeping: AtomicBool::new(false),
        })
    }

    /// Call after something was put where the worker looks for it.
    pub fn ring(&self) {
        // Pairs with the fence in `may_sleep`: either the worker sees what was put there before it sleeps, or we see here that it may.
        fence(Ordering::SeqCst);
        if self.sleeping.swap(false, Ordering::Relaxed)
            && let Err(error) = self.waker.wake()
        {
            // An event descriptor that cannot be written to is a bug; the worker still wakes at its next deadline.
            tracing::error!(%error, "cannot wake a worker");
        }
    }

    /// The worker's half: announces sleep. Whoever calls it looks at every queue once more before it sleeps.
    pub fn may_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The worker's half: awake, no system call needed to reach it.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }
}
