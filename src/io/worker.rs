//! One thread per shard: poll, receive a batch, handle, drain, send a batch, sleep to the deadline.

use crate::command::{Command, Reply};
use crate::identifiers::{Secret, TransferId};
use crate::io::handoff::Doorbell;
use crate::webhook::ActionOutcome;
use crossbeam::channel::{SendTimeoutError, Sender, TrySendError};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Takes the answers of shards to commands. Called on a worker's thread: it must not block.
pub trait ReplySink: Send + Sync {
    /// The answer to the [`WorkerCommand::Command`] with this ticket.
    fn reply(&self, ticket: u64, reply: Reply);
}

/// What other threads ask of a worker.
#[derive(Debug)]
pub enum WorkerCommand {
    /// A request of the control API; its answer goes to the [`ReplySink`] with the same ticket.
    Command { ticket: u64, command: Command },
    /// What the first attempt of a transfer's action hook came to.
    ActionOutcome {
        transfer: TransferId,
        outcome: ActionOutcome,
    },
    /// The answer to a name lookup; empty: no such name, or no answer in time.
    Resolved {
        ticket: u64,
        addresses: Vec<IpAddr>,
        valid_for: Duration,
    },
    /// New INVITEs get 503 from now on; calls in progress are served.
    Drain,
    /// Leave now, whatever is alive.
    Stop,
}

/// A worker as other threads see it.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    commands: Sender<WorkerCommand>,
    doorbell: Arc<Doorbell>,
}

impl WorkerHandle {
    /// A handle that puts commands into `commands` and rings `doorbell`.
    pub fn new(commands: Sender<WorkerCommand>, doorbell: Arc<Doorbell>) -> WorkerHandle {
        WorkerHandle { commands, doorbell }
    }

    /// Hands a command over without waiting.
    ///
    /// # Errors
    /// Gives the command back when the worker's queue is full or the worker has left.
    pub fn send(&self, command: WorkerCommand) -> Result<(), WorkerCommand> {
        match self.commands.try_send(command) {
            Ok(()) => {
                self.doorbell.ring();
                Ok(())
            }
            Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => Err(command),
        }
    }

    /// Hands a command over, waiting up to `wait` for room: for threads that may wait, with something that must not be lost.
    ///
    /// # Errors
    /// Gives the command back when there was no room in time or the worker has left.
    pub fn send_within(&self, command: WorkerCommand, wait: Duration) -> Result<(), WorkerCommand> {
        match self.commands.send_timeout(command, wait) {
            Ok(()) => {
                self.doorbell.ring();
                Ok(())
            }
            Err(SendTimeoutError::Timeout(command) | SendTimeoutError::Disconnected(command)) => Err(command),
        }
    }
}

/// Every worker of the process, and who owns what.
#[derive(Debug)]
pub struct Workers {
    handles: Vec<WorkerHandle>,
    secret: Secret,
}

impl Workers {
    /// `handles[i]` is the worker of shard `i`; there is at least one.
    pub fn new(handles: Vec<WorkerHandle>, secret: Secret) -> Workers {
        assert!(!handles.is_empty() && handles.len() <= usize::from(u16::MAX));
        Workers { handles, secret }
    }

    /// The worker whose shard owns the messages of this SIP Call-ID.
    pub fn owner(&self, call_id: &[u8]) -> &WorkerHandle {
        &self.handles[usize::from(self.secret.owner(call_id, self.shards()))]
    }

    /// The worker of a shard, as ids of calls and transfers name it; `None` if there is no such shard.
    pub fn shard(&self, shard: u16) -> Option<&WorkerHandle> {
        self.handles.get(usize::from(shard))
    }

    /// All of them, in the order of their shards.
    pub fn all(&self) -> &[WorkerHandle] {
        &self.handles
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.handles.len() as u16
    }
}
