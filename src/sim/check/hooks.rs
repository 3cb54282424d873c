//! What the application is told: one action for each execution, in order, and nothing but what peers have said.

use super::Faults;
use super::calls::Calls;
use super::notifies::Told;
use crate::command::{Command, Reply};
use crate::config::{Config, Side};
use crate::sim::application::Posted;
use crate::sim::peer::text::{Text, uri_of};
use crate::transport::Flow;
use crate::verb::Verb;
use crate::webhook::{Hook, HookKind, Subject};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Hooks {
    /// Every verb has an eventHook.
    pub all_ask_for_events: bool,
    /// What any trunk takes for a success beside a 2xx.
    success_codes: BTreeSet<u16>,
    /// Commands without a reply.
    open: BTreeSet<u64>,
    answered: BTreeSet<u64>,
    /// Executions that were accepted.
    accepted: BTreeSet<String>,
    /// Hooks that shards handed over, by their ids.
    handed: BTreeMap<String, Handed>,
    calls: Calls,
    /// By transfer, the actions handed over.
    actions: BTreeMap<String, usize>,
    /// By the Call-ID of a dialog that a REFER has made, that of the call which it is about.
    call_ids: BTreeMap<String, String>,
    /// By Call-ID and CSeq number, the statuses that NOTIFYs had.
    notified: BTreeMap<(String, u32), BTreeSet<u16>>,
    /// By the id of a `sip:refer`, what its list has tagged the call with before, and its timeout.
    asked: BTreeMap<String, (Map<String, Value>, Option<Duration>)>,
    /// The longest that a transfer may last which has no timeout of its own.
    total_timeout: Duration,
    /// What every trunk takes for a success beside a 2xx.
    always_success: BTreeSet<u16>,
    per_call_max: usize,
    /// By Call-ID, the To tags of 2xx to INVITEs.
    callees: BTreeMap<String, BTreeSet<String>>,
    /// By Call-ID, the calls as their INVITEs had them: who calls whom, and from which trunk.
    facts: BTreeMap<String, BTreeSet<Facts>>,
    /// By Call-ID, how many NOTIFYs came; by transfer, the number of the last event.
    notifies: BTreeMap<String, u64>,
    sequences: BTreeMap<String, u64>,
    /// By Call-ID, the transfers whose REFER was answered.
    answered_transfers: BTreeMap<String, usize>,
    config: Option<Arc<Config>>,
    /// By Call-ID, the statuses that REFERs got.
    refer_statuses: BTreeMap<String, BTreeSet<u16>>,
}

/// `from`, `to`, `direction` and `originating_sip_trunk_name`.
type Facts = [String; 4];

#[derive(Debug)]
struct Handed {
    kind: HookKind,
    subject: String,
    /// The body without what delivery adds.
    body: Value,
    /// Its place among all.
    place: usize,
}

impl Hooks {
    pub fn new(config: &Arc<Config>) -> Hooks {
        let rules = || config.trunks.iter().map(|trunk| &trunk.refer);
        let success_codes: BTreeSet<u16> = rules().flat_map(|rules| rules.success_codes.iter().copied()).collect();
        let is_common = |code: &&u16| rules().all(|rules| rules.success_codes.contains(code));
        Hooks {
            always_success: success_codes.iter().filter(is_common).copied().collect(),
            success_codes,
            total_timeout: rules().map(|rules| rules.total_timeout).max().unwrap_or_default(),
            per_call_max: config.transfer.per_call_max as usize,
            config: Some(config.clone()),
            ..Hooks::default()
        }
    }

    // ---- what peers say ----

    /// A REFER of ours outside the dialog of its call: what is said in its own is of that call.
    pub fn referred_outside(&mut self, text: &Text) {
        if let Some(target) = text.header("Target-Dialog") {
            let call_id = target.split(';').next().unwrap_or_default();
            self.call_ids.insert(text.call_id().to_owned(), call_id.to_owned());
        }
    }

    /// The Call-ID of the call that a message is of.
    fn call_id_of(&self, text: &Text) -> String {
        let call_id = self.call_ids.get(text.call_id());
        call_id.map_or(text.call_id(), String::as_str).to_owned()
    }

    pub fn request(&mut self, text: &Text, flow: Flow) {
        if text.method() == "NOTIFY" {
            *self.notifies.entry(self.call_id_of(text)).or_default() += 1;
        }
        if text.method() == "INVITE" && text.tag("To").is_none() {
            self.note_facts(text, flow);
        }
        if text.method() == "NOTIFY"
            && let Some(status) = text.fragment()
        {
            let key = (self.call_id_of(text), text.cseq().0);
            self.notified.entry(key).or_default().insert(status);
        }
    }

    fn note_facts(&mut self, text: &Text, flow: Flow) {
        let Some(config) = &self.config else { return };
        let listen = &config.bind(flow.bind).listen;
        let mut trunks = config.trunks.iter();
        let Some(trunk) = trunks.find(|trunk| {
            trunk.listen == *listen && trunk.sources.iter().any(|source| source.contains(flow.peer.ip()))
        }) else {
            return;
        };
        let user = |name: &str| {
            let uri = uri_of(text.header(name).unwrap_or_default());
            let rest = uri.trim_start_matches("sip:");
            rest.split_once('@').map_or(uri, |(user, _)| user).to_owned()
        };
        let direction = match trunk.side {
            Some(Side::Platform) => "outbound",
            _ => "inbound",
        };
        let facts = [user("From"), user("To"), direction.to_owned(), trunk.name.clone()];
        self.facts.entry(text.call_id().to_owned()).or_default().insert(facts);
    }

    /// What a hook says of its call is what the INVITE said.
    fn has_true_facts(&self, body: &Value) -> Result<(), String> {
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let Some(known) = text("call_id").and_then(|call_id| self.facts.get(&call_id)) else {
            return Ok(());
        };
        let names = ["from", "to", "direction", "originating_sip_trunk_name"];
        let fits = |facts: &&Facts| {
            let mut all = names.iter().zip(facts.iter());
            all.all(|(name, fact)| text(name).is_none_or(|said| said == *fact))
        };
        match known.iter().any(|facts| fits(&facts)) {
            true => Ok(()),
            false => Err(format!("{:?} of a call that is {known:?}", names.map(text))),
        }
    }

    pub fn response(&mut self, text: &Text) {
        if text.method() == "INVITE" && (200..300).contains(&text.code()) {
            let callees = self.callees.entry(text.call_id().to_owned()).or_default();
            callees.extend(text.tag("To"));
        }
        if text.method() == "REFER" {
            let statuses = self.refer_statuses.entry(self.call_id_of(text)).or_default();
            statuses.insert(text.code());
        }
    }

    // ---- what shards say ----

    pub fn command(&mut self, ticket: u64, command: &Command) {
        self.open.insert(ticket);
        let Command::Verbs { verbs, .. } = command else { return };
        let mut tags = Map::new();
        for verb in verbs {
            match verb {
                Verb::Tag { data, .. } => tags.extend(data.clone()),
                Verb::SipRefer(refer) => {
                    if let Some(id) = &refer.id {
                        self.asked.insert(id.clone(), (tags.clone(), refer.timers.timeout));
                    }
                }
                _ => {}
            }
        }
    }

    pub fn replied(&mut self, ticket: u64, reply: &Reply, faults: &mut Faults) {
        self.open.remove(&ticket);
        if !self.answered.insert(ticket) {
            faults.push(format!("command {ticket} got two replies"));
        }
        if let Reply::Accepted {
            transfer: Some(transfer),
            ..
        } = reply
        {
            self.accepted.insert(transfer.to_string());
        }
    }

    pub fn unanswered(&self) -> Vec<u64> {
        self.open.iter().copied().collect()
    }

    /// A hook is handed over; gives back the Call-ID where it is the action of a transfer.
    pub fn handed(&mut self, hook: &Hook, faults: &mut Faults) -> Option<String> {
        let subject = hook.subject.to_string();
        let id = hook.webhook_id.clone();
        let body: Value = serde_json::from_str(&hook.body).unwrap_or(Value::Null);
        if let Err(lie) = self.has_true_facts(&body) {
            faults.push(format!("{id} says {lie}"));
        }
        if !matches!(hook.subject, Subject::Transfer(_)) {
            self.calls.handed(hook, &body, faults);
            self.keep(id, hook.kind, subject, body, faults);
            return None;
        }
        let actions = self.actions.entry(subject.clone()).or_default();
        match hook.kind {
            HookKind::Question => faults.push(format!("{id} is a question about a transfer")),
            HookKind::Action => {
                *actions += 1;
                if *actions > 1 {
                    faults.push(format!("{id} is action {actions} of its execution"));
                }
            }
            HookKind::Event => {
                let is_late = body.get("late") == Some(&Value::Bool(true));
                if (*actions > 0) != is_late {
                    faults.push(format!("{id}: late {is_late} after {actions} actions"));
                }
            }
        }
        let says = match hook.kind {
            HookKind::Action | HookKind::Question => self.is_true_action(&body).and(self.keeps_limits(&body)),
            HookKind::Event => self.is_true_event(&id, &body).and(self.is_in_sequence(&subject, &body)),
        };
        if let Err(lie) = says {
            faults.push(format!("{id} says {lie}"));
        }
        let ended = body["call_id"].as_str().filter(|_| hook.kind == HookKind::Action);
        let ended = ended.map(str::to_owned);
        self.keep(id, hook.kind, subject, body, faults);
        ended
    }

    fn keep(&mut self, id: String, kind: HookKind, subject: String, body: Value, faults: &mut Faults) {
        let handed = Handed {
            kind,
            subject,
            body,
            place: self.handed.len(),
        };
        if self.handed.insert(id.clone(), handed).is_some() {
            faults.push(format!("{id} is handed over twice"));
        }
    }

    /// Events of a transfer count its NOTIFYs.
    fn is_in_sequence(&mut self, subject: &str, body: &Value) -> Result<(), String> {
        let (Some(number), Some(call_id)) = (body["notify_seq"].as_u64(), body["call_id"].as_str()) else {
            return Ok(());
        };
        let came = self.notifies.get(call_id).copied().unwrap_or_default();
        let before = self.sequences.insert(subject.to_owned(), number).unwrap_or_default();
        match number > before && number <= came {
            true => Ok(()),
            false => Err(format!("to be of NOTIFY {number} after {before}, and {came} came")),
        }
    }

    /// A transfer lasts no longer than it may, a call has no more than it may, and what its list has tagged it with is told.
    fn keeps_limits(&mut self, body: &Value) -> Result<(), String> {
        let asked = body["verb_id"].as_str().and_then(|id| self.asked.get(id));
        let most = asked.and_then(|(_, timeout)| *timeout).unwrap_or(self.total_timeout);
        if let Some(took) = body["refer_duration_ms"].as_u64()
            && u128::from(took) > most.as_millis()
        {
            return Err(format!("that it took {took} ms, and {most:?} is the most"));
        }
        if let (Some((tags, _)), Some(said)) = (asked, body["customerData"].as_object())
            && !tags.iter().all(|tag| said.iter().any(|known| known == tag))
        {
            return Err(format!("the data {said:?}, and it was tagged with {tags:?}"));
        }
        let is_answered = body.get("refer_status_source").is_none() && body.get("refer_status").is_some();
        if let Some(call_id) = body["call_id"].as_str().filter(|_| is_answered) {
            let count = self.answered_transfers.entry(call_id.to_owned()).or_default();
            *count += 1;
            // Each target that has answered has a call of its own.
            if *count > self.per_call_max && self.callees.get(call_id).is_some_and(|tags| tags.len() == 1) {
                return Err(format!("that {count} REFERs of its call were answered"));
            }
        }
        Ok(())
    }

    /// An event tells the status of a NOTIFY that came, by its CSeq number.
    fn is_true_event(&self, id: &str, body: &Value) -> Result<(), String> {
        let number = id
            .rsplit('-')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or_default();
        let Some(call_id) = body["call_id"].as_str().map(str::to_owned) else {
            // Of the kind that does not say which call it is of.
            return Ok(());
        };
        if !is_answered(&body["call_state"]) {
            return Err(format!("a NOTIFY in a call that is {}", body["call_state"]));
        }
        let status = code(&body["call_status"]);
        let said = self.notified.get(&(call_id, number));
        match said.is_some_and(|said| said.contains(&status)) {
            true => Ok(()),
            false => Err(format!("{status}, and NOTIFY {number} said {said:?}")),
        }
    }

    /// An action tells statuses that were said, and its verdict follows from them.
    fn is_true_action(&self, body: &Value) -> Result<(), String> {
        let call_id = body["call_id"].as_str().unwrap_or_default();
        let (result, cause) = (&body["refer_result"], &body["refer_cause"]);
        if let Some(status) = body.get("refer_status").map(code)
            && !result.is_null()
            && body.get("refer_status_source").is_none()
            && !self
                .refer_statuses
                .get(call_id)
                .is_some_and(|said| said.contains(&status))
        {
            return Err(format!("that the REFER got {status}, which nobody answered"));
        }
        if body.get("refer_status_source").is_none() && !result.is_null() && !is_answered(&body["call_status"]) {
            return Err(format!(
                "a response to a REFER in a call that is {}",
                body["call_status"]
            ));
        }
        let last = body.get("final_referred_call_status").map(code);
        if let Some(status) = last {
            let mut of_call = self.notified.iter().filter(|((known, _), _)| known == call_id);
            if !of_call.any(|(_, said)| said.contains(&status)) {
                return Err(format!("{status}, and no NOTIFY did"));
            }
        }
        if result.is_null() {
            // Of the kind that leaves to its reader what the statuses amount to.
            return Ok(());
        }
        // A REFER that is refused fails, whatever NOTIFYs said before.
        let is_refused = body.get("refer_status").map(code).is_some_and(|status| status >= 300)
            && body.get("refer_status_source").is_none();
        if (*cause == "notify_final") != last.is_some() && !(last.is_some() && is_refused) {
            return Err(format!("{result}, {cause} and the final status {last:?}"));
        }
        let is_2xx = last.is_some_and(|status| (200..300).contains(&status));
        let is_success = is_2xx || last.is_some_and(|status| self.success_codes.contains(&status));
        let is_2xx = is_2xx || last.is_some_and(|status| self.always_success.contains(&status));
        if is_2xx && *result != "success" && !is_refused || last.is_some() && !is_success && *result == "success" {
            return Err(format!("{result} of {last:?}"));
        }
        Ok(())
    }

    // ---- the end ----

    /// All is over: every execution has its action, and the application has got what was handed over.
    pub fn over(&self, posted: &[Posted], by_lanes: bool, told: &[Told], faults: &mut Faults) {
        for transfer in &self.accepted {
            let actions = self.actions.get(transfer).copied().unwrap_or_default();
            if actions != 1 {
                faults.push(format!("{transfer} has {actions} actions"));
            }
        }
        for (transfer, actions) in self.actions.iter().filter(|(_, actions)| **actions == 0) {
            faults.push(format!("{transfer} has events and {actions} actions"));
        }
        self.calls.over(faults);
        self.delivered(posted, by_lanes, faults);
        for told in told.iter().filter(|_| self.all_ask_for_events) {
            let tells = |(id, handed): (&String, &Handed)| {
                id.ends_with(&format!("-event-{}", told.cseq))
                    && handed.body["call_id"] == told.call_id.as_str()
                    && code(&handed.body["call_status"]) == told.status
            };
            if !self.handed.iter().any(tells) {
                faults.push(format!("no event tells of {told:?}"));
            }
        }
    }

    /// An action says how many events of its transfer were not delivered: those that the application has not got, at least.
    fn judge_missed(&self, id: &str, action: &Handed, post: &Posted, taken: &BTreeSet<&str>, faults: &mut Faults) {
        // Where there is little room what was missed may be forgotten.
        let has_room = self.config.as_ref().is_some_and(|config| config.hooks.queue_max >= 100);
        let Some(missed) = post.body["missed"].as_u64().filter(|_| has_room) else {
            return;
        };
        let is_before = |event: &&Handed| {
            event.kind == HookKind::Event && event.subject == action.subject && event.place < action.place
        };
        let events = self.handed.iter().filter(|(_, event)| is_before(event));
        let lost = events.filter(|(id, _)| !taken.contains(id.as_str())).count() as u64;
        if missed < lost {
            faults.push(format!("{id} says that {missed} events were missed, and {lost} were"));
        }
    }

    fn delivered(&self, posted: &[Posted], by_lanes: bool, faults: &mut Faults) {
        let mut taken = BTreeSet::new();
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        let mut attempts: BTreeMap<&str, u32> = BTreeMap::new();
        let mut refused = BTreeSet::new();
        for post in posted {
            let id = post.webhook_id.as_str();
            let Some(handed) = self.handed.get(id) else {
                faults.push(format!("{id} is posted and was not handed over"));
                continue;
            };
            let mut body = post.body.clone();
            if let Some(body) = body.as_object_mut() {
                body.remove("missed");
            }
            if body != handed.body || post.kind != handed.kind || post.subject != handed.subject {
                faults.push(format!("{id} is posted with another body than was handed over"));
            }
            let before = attempts.insert(id, post.attempt).unwrap_or_default();
            if post.attempt != before + 1 || taken.contains(id) {
                faults.push(format!(
                    "{id}: attempt {} after {before}, taken {}",
                    post.attempt,
                    taken.contains(id)
                ));
            }
            if post.is_taken {
                taken.insert(id);
            }
            // What is refused for good is not asked again.
            if refused.contains(id) {
                faults.push(format!("{id}: attempt {} after one that was refused", post.attempt));
            }
            if matches!(post.status, Some(300..=407 | 409..=428 | 430..=499)) {
                refused.insert(id);
            }
            if post.is_action() && post.attempt == 1 {
                self.judge_missed(id, handed, post, &taken, faults);
            }
            // Hooks of one transfer keep their order; what was overtaken does not come any more.
            let last = last.entry(&post.subject).or_default();
            if handed.place < *last {
                faults.push(format!("{id} is posted after a later one"));
            }
            *last = handed.place;
        }
        let is_patient = self
            .config
            .as_ref()
            .is_some_and(|config| config.hooks.action_retry_for >= Duration::from_secs(600));
        for post in posted.iter().filter(|post| post.is_action() && is_patient && by_lanes) {
            let id = post.webhook_id.as_str();
            let is_to_come_again = matches!(post.status, None | Some(408 | 429 | 500..));
            if is_to_come_again && attempts.get(id) == Some(&post.attempt) && post.attempt < 3 {
                faults.push(format!("{id} is given up after attempt {}", post.attempt));
            }
        }
        for id in self.handed.keys() {
            let is_lost = !attempts.contains_key(id.as_str());
            if is_lost && !by_lanes {
                faults.push(format!("{id} was never posted"));
            }
        }
    }
}

/// Whether a call that a hook tells of in this state had an answer: no REFER leaves before.
fn is_answered(state: &Value) -> bool {
    matches!(state.as_str(), Some("in-progress" | "completed"))
}

/// A status, which hooks may have as a string.
fn code(value: &Value) -> u16 {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or_default()
}
