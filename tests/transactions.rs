//! Transactions as their RFCs want them (RFC 3261 §9, §17, RFC 6026, RFC 4320): which message belongs to which, what is sent
//! at which instant over UDP and over TCP, and when a transaction is gone.

#[path = "transactions/answers.rs"]
mod answers;
#[path = "transactions/cancel.rs"]
mod cancel;
#[path = "transactions/ends.rs"]
mod ends;
#[path = "transactions/failures.rs"]
mod failures;
#[path = "transactions/invite.rs"]
mod invite;
#[path = "transactions/loops.rs"]
mod loops;
#[path = "transactions/machines.rs"]
mod machines;
#[path = "transactions/matching.rs"]
mod matching;
#[path = "transactions/next_hop.rs"]
mod next_hop;
#[path = "transactions/others.rs"]
mod others;
#[path = "transactions/responses.rs"]
mod responses;
