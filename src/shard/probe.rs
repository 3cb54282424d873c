//! Which addresses of trunks answer: what calls find out there, and what other shards tell.

use super::{Output, Shard};
use crate::config::TrunkId;
use crate::health::{Failure, News};
use crate::timer::Instant;
use std::time::Duration;

impl Shard {
    /// Whether an address may be used while there are others. Where this is so of none, those without a
    /// [`Shard::address_wait`] are tried in the order of the configuration: better a try than a refusal.
    pub(super) fn is_usable(&self, trunk: TrunkId, address: usize, now: Instant) -> bool {
        self.health.is_usable(trunk, address, now)
    }

    /// How long an address wants no request (RFC 3261 §21.5.4); zero: it may be tried.
    pub(super) fn address_wait(&self, trunk: TrunkId, address: usize, now: Instant) -> Duration {
        self.health.wait(trunk, address, now)
    }

    /// A call's request to an address failed.
    pub(super) fn on_address_failure(&mut self, trunk: TrunkId, address: usize, kind: Failure, now: Instant) {
        let news = self.health.on_failure(trunk, address, kind, now);
        self.tell(news);
    }

    /// A call's request to an address got a response, of whatever status but 503.
    pub(super) fn on_address_success(&mut self, trunk: TrunkId, address: usize, now: Instant) {
        let news = self.health.on_success(trunk, address, now);
        self.tell(news);
    }

    /// A 503 with Retry-After came from an address.
    pub(super) fn on_retry_after(&mut self, trunk: TrunkId, address: usize, seconds: u32, now: Instant) {
        if Duration::from_secs(seconds.into()) > self.config().limits.retry_after_max {
            self.counters.retry_after_cut_total += 1;
        }
        let news = self.health.on_retry_after(trunk, address, seconds, now);
        if matches!(news, Some(News::Wait { opened: true, .. })) {
            self.counters.retry_after_total += 1;
        }
        self.tell(news);
    }

    pub(super) fn on_told(&mut self, news: News, now: Instant) {
        let answer = self.health.on_news(news, now);
        self.tell(answer);
    }

    fn tell(&mut self, news: Option<News>) {
        let Some(news) = news else { return };
        let to = match news {
            News::Seen { at, .. } => Some(self.health.judge(at)),
            News::Standing { .. } | News::Wait { .. } => None,
        };
        self.effects.push_back(Output::Tell { to, news });
    }
}
