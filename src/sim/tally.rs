//! What has befallen a world, counted: seeds together must have seen every kind of fault.

use std::fmt;

macro_rules! faults {
    ($($name:ident = $text:literal,)*) => {
        /// A kind of thing that goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($name,)* }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }
        }
    };
}

faults! {
    Loss = "a datagram is lost",
    Duplicate = "a datagram arrives twice",
    Overtaking = "a datagram overtakes an earlier one",
    Partition = "nothing passes between two nodes",
    OneWay = "nothing passes from one node to another, and all passes back",
    Crash = "a peer crashes",
    Silence = "a datagram to a peer that is down is lost",
    Refusal = "a datagram to a peer that is down is refused",
    NoConnection = "a connection to a peer that is down fails",
    Restart = "a peer is back and knows nothing",
    Reset = "a connection breaks",
    BrokenSend = "a send fails because its connection breaks",
    SlowHook = "a hook is answered late",
    FailedHook = "a hook is answered with an error",
    HangingHook = "a hook is not answered",
    RefusedHook = "a hook cannot be delivered for want of a connection",
    SlowStore = "the store takes long",
    SlowName = "a name takes long to look up",
    NoName = "a name has no address for a while",
    Stranger = "a request from a source that is no trunk's",
    Impostor = "a request of a dialog from a source that is not its trunk's",
    WrongTag = "a request with a tag that no dialog has",
    WrongToken = "a request with a Route of ours that we did not make",
    StrayResponse = "a response to nothing",
    WrongBranch = "a response with a branch that is nearly ours",
    Replay = "a request or response again, long after",
    Garbage = "bytes that are no message",
    Drain = "referee drains",
    CallsFull = "no room for a call",
    TransactionsFull = "no room for a transaction",
    HeldFull = "no room for a request that must wait",
    LookupsFull = "no room for a look-up",
    TransfersFull = "a call has had all its transfers",
    RememberedFull = "a transfer is forgotten early",
    HooksFull = "no room for a hook",
}

/// How often each was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    counts: [u64; Fault::ALL.len()],
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            counts: [0; Fault::ALL.len()],
        }
    }
}

impl Tally {
    pub fn note(&mut self, fault: Fault) {
        self.counts[fault as usize] += 1;
    }

    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    pub fn add(&mut self, other: &Tally) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in Fault::ALL {
            writeln!(f, "{:9}  {}", self.count(*fault), fault.as_str())?;
        }
        Ok(())
    }
}
