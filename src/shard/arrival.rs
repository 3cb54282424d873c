//! A request on its way through a shard.

use super::route::OwnRoutes;
use crate::message::{Method, Via};
use crate::transaction::ServerKey;
use crate::transport::Flow;

/// A request on its way through, with what was found out so far.
#[derive(Clone, Debug)]
pub(super) struct Arrival<'a> {
    pub flow: Flow,
    pub method: Method,
    pub via: Via<'a>,
    pub identity: u128,
    pub own: OwnRoutes,
    /// Its transaction, once it has one.
    pub server: Option<ServerKey>,
}
