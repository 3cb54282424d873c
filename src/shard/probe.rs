//! Which addresses of trunks answer: OPTIONS of ours (RFC 3261 §11.1), what calls find out there, what other shards tell.
//!
//! ```text
//!            ┌───────── period, and up to a tenth more ─────────┐
//!  begin ──► name looked up ──► OPTIONS sent ──► final response │
//!    │             │                 └─ no send ─┐     │        ▼
//!    │             └─ no address ────────────────┴─────┴──────► ended: told to all, armed anew
//!    └──────────── timeout ────────────────────────────────────►
//! ```
//!
//! An address that asked to be left alone gets no OPTIONS either, and a shard that drains sends none: it has no new calls.

use super::route::NoFlow;
use super::saying::begin;
use super::{ClientOwner, Output, Shard, TimerKey, Waiting};
use crate::command::{AddressView, TrunkView};
use crate::config::{Address, Side, TrunkId};
use crate::health::{AddressId, Failure, News, ProbeResult};
use crate::identifiers::hex16;
use crate::message::edit::{Injection, RequestWriter};
use crate::message::{Message, Method};
use crate::proxy::context::{BranchNumber, ContextKey};
use crate::timer::Instant;
use crate::transaction::{Branch, ClientKey};
use crate::transport::{Flow, Transport};
use std::ops::Range;
use std::time::Duration;

/// Within this time of the start every address has its first OPTIONS.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// The part of a period that is added at random at most: one in so many.
const JITTER_PART: u32 = 10;

/// One address that this shard probes.
#[derive(Debug)]
pub(super) struct Probe {
    at: AddressId,
    under_way: Option<UnderWay>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    since: Instant,
    /// `None` while its name is looked up.
    client: Option<ClientKey>,
}

/// A place in the shard's list of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProbeId(u32);

/// An OPTIONS to an address of a trunk.
struct Options<'a> {
    address: &'a Address,
    flow: Flow,
    sent_by: &'a [u8],
    branch: &'a Branch,
    tag: [u8; 16],
    call_id: [u8; 16],
}

impl Options<'_> {
    fn write(&self, out: &mut Vec<u8>) -> Result<Range<usize>, Injection> {
        let transport = self.flow.transport;
        let (open, close) = if self.address.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        let parameter = match transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
        };
        let uri = format!(
            "sip:{open}{}{close}:{}{parameter}",
            self.address.host, self.address.port
        );
        let mut writer = RequestWriter::new(out, Method::Options.token(), uri.as_bytes());
        begin(&mut writer, transport, self.sent_by, self.branch.as_bytes())
            .header("From", &[b"<sip:", self.sent_by, b">;tag=", &self.tag])
            .header("To", &[b"<", uri.as_bytes(), b">"])
            .header("Call-ID", &[&self.call_id])
            .header("CSeq", &[b"1 OPTIONS"])
            // RFC 3261 §11.1: it should be there, though no body is of use here.
            .header("Accept", &[b"application/sdp"]);
        writer.finish(None, b"")
    }
}

impl Shard {
    /// Plans the first OPTIONS to each address that this shard probes.
    pub(super) fn plan_probes(&mut self) {
        let probes = self.health.probed_here().map(|at| Probe { at, under_way: None });
        self.probes = probes.collect();
        for place in 0..self.probes.len() as u32 {
            let wait = Duration::from_micros(self.random.below(FIRST_WITHIN.as_micros() as u64));
            self.timers
                .arm_once(Instant::START, wait, TimerKey::Probe(ProbeId(place)));
        }
    }

    /// Each probe, and since when it is under way.
    #[cfg(feature = "sim")]
    pub(super) fn probes_under_way(&self) -> impl Iterator<Item = (ProbeId, Option<Instant>)> {
        let numbered = self.probes.iter().enumerate();
        numbered.map(|(place, probe)| (ProbeId(place as u32), probe.under_way.map(|under_way| under_way.since)))
    }

    pub(super) fn on_probe_due(&mut self, id: ProbeId, now: Instant) {
        if self.draining {
            return;
        }
        let at = self.probes[id.0 as usize].at;
        let Some(health) = self.config().trunk(at.trunk).health else {
            return;
        };
        let wait = self.health.wait(at.trunk, usize::from(at.address), now);
        if !wait.is_zero() {
            self.timers.arm_once(now, wait, TimerKey::Probe(id));
            return;
        }
        debug_assert!(self.probes[id.0 as usize].under_way.is_none(), "two probes at a time");
        self.probes[id.0 as usize].under_way = Some(UnderWay {
            since: now,
            client: None,
        });
        self.counters.probes_total += 1;
        self.arm(now, health.timeout, TimerKey::ProbeOver(id, now));
        self.send_probe(id, now);
    }

    /// Sends the OPTIONS of a probe, or lets it wait for a name.
    pub(super) fn send_probe(&mut self, id: ProbeId, now: Instant) {
        let Probe { at, under_way } = &self.probes[id.0 as usize];
        let at = *at;
        // What waited for a name may be a probe that has timed out.
        if under_way.is_none_or(|under_way| under_way.client.is_some()) {
            return;
        }
        let config = self.setup.config.clone();
        let address = &config.trunk(at.trunk).addresses[usize::from(at.address)];
        let flow = match self.flow_to_address(at.trunk, address, Transport::Udp, now) {
            // Without a transport of its own, and no UDP to send by.
            Err(NoFlow::Unreachable) => self.flow_to_address(at.trunk, address, Transport::Tcp, now),
            found => found,
        };
        let flow = match flow {
            Ok(flow) => flow,
            Err(NoFlow::Name(name)) => {
                if self.wait_for(&name, Waiting::Probe(id)).is_err() {
                    self.end_probe(id, ProbeResult::Failed(Failure::Transport), now);
                }
                return;
            }
            Err(NoFlow::Unreachable) => {
                return self.end_probe(id, ProbeResult::Failed(Failure::Transport), now);
            }
        };
        let call_id = self.own_call_id();
        let tag = hex16(self.random.next_u64());
        let owner = ClientOwner::Probe(id);
        let (client, branch) = self
            .transactions
            .open_client(Method::Options, flow, owner, None, &mut self.random);
        let options = Options {
            address,
            flow,
            sent_by: self.topology.sent_by(flow.bind),
            branch: &branch,
            tag,
            call_id,
        };
        let start = self.outbox.bytes.len();
        if options.write(&mut self.outbox.bytes).is_err() {
            self.transactions.drop_client(client);
            return self.end_probe(id, ProbeResult::Failed(Failure::Transport), now);
        }
        if let Some(under_way) = &mut self.probes[id.0 as usize].under_way {
            under_way.client = Some(client);
        }
        let bytes = self.outbox.since(start);
        self.transactions
            .start(client, bytes, &mut self.outbox, &mut self.timers, now);
    }

    /// A Call-ID whose responses come to this shard; found after as many tries as there are shards, on average.
    pub(super) fn own_call_id(&mut self) -> [u8; 16] {
        loop {
            let call_id = hex16(self.random.next_u64());
            if self.setup.secret.owner(&call_id, self.setup.shards) == self.setup.shard {
                return call_id;
            }
        }
    }

    pub(super) fn on_probe_answered(&mut self, id: ProbeId, message: Message<'_>, code: u16, now: Instant) {
        if code < 200 {
            return;
        }
        if code == 503
            && let Ok(Some(wait)) = message.retry_after()
        {
            let at = self.probes[id.0 as usize].at;
            self.on_retry_after(at.trunk, usize::from(at.address), wait.seconds, now);
        }
        self.end_probe(id, ProbeResult::Answered(code), now);
    }

    /// The time of a probe that began at `since` is over.
    pub(super) fn on_probe_over(&mut self, id: ProbeId, since: Instant, now: Instant) {
        let under_way = self.probes[id.0 as usize].under_way;
        let Some(under_way) = under_way.filter(|under_way| under_way.since == since) else {
            return;
        };
        if let Some(client) = under_way.client {
            self.transactions.drop_client(client);
        }
        self.end_probe(id, ProbeResult::Failed(Failure::Timeout), now);
    }

    pub(super) fn end_probe(&mut self, id: ProbeId, result: ProbeResult, now: Instant) {
        let Probe { at, under_way } = &mut self.probes[id.0 as usize];
        let at = *at;
        let Some(UnderWay { since, .. }) = under_way.take() else {
            return;
        };
        if !result.is_success() {
            self.counters.probes_failed_total += 1;
        }
        let took = now.since(since);
        let news = self
            .health
            .on_probe(at.trunk, usize::from(at.address), result, took, now);
        self.tell(news);
        if let Some(health) = self.config().trunk(at.trunk).health {
            let jitter = self.random.below((health.period / JITTER_PART).as_micros() as u64);
            let next = health.period + Duration::from_micros(jitter);
            self.timers
                .arm_once(now, next.saturating_sub(took), TimerKey::Probe(id));
        }
    }

    // ---- what calls ask and tell ----

    /// A response came to a branch of a request outside a dialog.
    pub(super) fn note_response(
        &mut self,
        key: ContextKey,
        number: BranchNumber,
        message: Message<'_>,
        code: u16,
        now: Instant,
    ) {
        let branch = self.contexts.get(key).and_then(|context| context.branch(number));
        let Some(target) = branch.and_then(|branch| branch.target) else {
            return;
        };
        let (trunk, address) = (target.trunk, usize::from(target.address));
        match code {
            503 => match message.retry_after() {
                Ok(Some(wait)) => self.on_retry_after(trunk, address, wait.seconds, now),
                Ok(None) | Err(_) => self.on_address_failure(trunk, address, Failure::Unavailable, now),
            },
            // Of the peer, or of one behind it.
            408 => {}
            _ => self.on_address_success(trunk, address, now),
        }
    }

    /// A branch of a request outside a dialog got no response, or could not be sent; told once.
    pub(super) fn note_failure(&mut self, key: ContextKey, number: BranchNumber, kind: Failure, now: Instant) {
        let branch = self
            .contexts
            .get_mut(key)
            .and_then(|context| context.branch_mut(number));
        let Some(branch) = branch else { return };
        let Some(target) = branch.target.filter(|_| !branch.silence_told) else {
            return;
        };
        branch.silence_told = true;
        self.on_address_failure(target.trunk, target.address.into(), kind, now);
    }

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

    /// A call's request to an address got a response, provisional ones included, but 408 and 503.
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

    // ---- between shards ----

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
        if let News::Standing {
            at,
            standing,
            changed: true,
        } = news
        {
            self.counters.address_changes_total += 1;
            self.setup.usage.show(at.trunk, usize::from(at.address), standing.state);
            self.tell_address(at.trunk, usize::from(at.address), standing.state);
        }
        self.effects.push_back(Output::Tell { to, news });
    }

    // ---- looking ----

    /// All trunks as this shard knows them.
    pub(super) fn trunk_views(&self, now: Instant) -> Vec<TrunkView> {
        let trunks = self.config().trunks.iter().enumerate();
        trunks
            .map(|(number, trunk)| {
                let id = TrunkId(number as u8);
                let addresses = trunk.addresses.iter().enumerate();
                TrunkView {
                    name: trunk.name.clone(),
                    side: trunk.side.map(|side| match side {
                        Side::Carrier => "carrier",
                        Side::Platform => "platform",
                    }),
                    calls: self.setup.usage.calls(id),
                    calls_max: trunk.calls_max,
                    calls_per_second_max: trunk.calls_per_second_max,
                    refer: self.setup.usage.refers(id).word(),
                    addresses: addresses
                        .filter_map(|(place, address)| self.address_view(id, place, address, now))
                        .collect(),
                }
            })
            .collect()
    }

    fn address_view(&self, trunk: TrunkId, place: usize, address: &Address, now: Instant) -> Option<AddressView> {
        let (standing, wait_until) = self.health.standing(trunk, place)?;
        let probed = standing.probed;
        Some(AddressView {
            address: address.to_string(),
            state: standing.state.word(),
            since: self.wall(standing.since),
            probed_at: probed.map(|probed| self.wall(probed.at)),
            probe_result: probed.map(|probed| match probed.result {
                ProbeResult::Answered(code) => code.to_string(),
                ProbeResult::Failed(Failure::Timeout) => "timeout".to_owned(),
                ProbeResult::Failed(Failure::Transport) => "unreachable".to_owned(),
                ProbeResult::Failed(Failure::Unavailable) => "unavailable".to_owned(),
            }),
            round_trip_ms: probed
                .filter(|probed| matches!(probed.result, ProbeResult::Answered(_)))
                .map(|probed| probed.took.as_micros() as f64 / 1_000.0),
            retry_after_until: (wait_until > now).then(|| self.wall(wait_until)),
        })
    }
}
