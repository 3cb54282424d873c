//! What a shard counts. Plain numbers; an exporter reads them.

/// How a number moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
}

macro_rules! counters {
    ($($name:ident $kind:ident $help:literal,)*) => {
        /// Numbers of one shard; names and meanings as [`Counters::each`] gives them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $(#[doc = $help] pub $name: u64,)* }

        impl Counters {
            /// Calls `f` with name, kind, help and value of each.
            pub fn each(&self, mut f: impl FnMut(&'static str, CounterKind, &'static str, u64)) {
                $(f(stringify!($name), CounterKind::$kind, $help, self.$name);)*
            }
        }
    };
}

counters! {
    requests_total Counter "Requests received, repeats and malformed ones included; each is one of those that follow, or waits.",
    taken_total Counter "Requests taken up to be relayed, ACKs included.",
    answered_total Counter "Requests answered with a 2xx of our own.",
    refused_total Counter "Requests answered with an error of our own.",
    repeats_total Counter "Requests received again and absorbed by their transaction.",
    absorbed_acks_total Counter "ACKs of our refusals.",
    stray_acks_total Counter "ACKs that match nothing.",
    dropped_total Counter "Requests that got no answer: from no trunk's source and not to be answered, or not answerable.",
    waited_total Counter "Requests that had to wait for their turn or a name.",
    resumed_total Counter "Requests that have waited; each is one of those above then, or waits again.",
    responses_total Counter "Responses received, repeats included; each is one of those that follow.",
    relayed_responses_total Counter "Responses relayed, those included that were kept at first.",
    absorbed_responses_total Counter "Responses of our own transactions, and others that go no further or were kept at first.",
    stray_responses_total Counter "Responses that match no transaction, are repeats, or cannot be read.",
    kept_responses_total Counter "Responses relayed once all targets had answered.",
    malformed_total Counter "Messages that do not parse.",
    malformed_unanswered_total Counter "Messages that do not parse and cannot be answered.",
    refused_source_total Counter "Requests from a source that is no trunk's.",
    unanswered_rate_total Counter "Requests and STUN from a source that is no trunk's, not answered because it had unknown_source_rate answers.",
    unanswered_size_total Counter "Requests from a source that is no trunk's, not answered because the answer would be three times as large.",
    stun_total Counter "STUN Binding Requests answered.",
    stun_unanswered_total Counter "Datagrams of STUN that are malformed, no request, or not wanted.",
    shed_total Counter "Requests answered 503 because a limit was reached or referee drains; the reasons follow.",
    shed_draining_total Counter "New INVITEs shed because referee drains.",
    shed_transactions_total Counter "New requests shed because there were transactions_max transactions.",
    shed_calls_total Counter "New INVITEs shed because there were calls_max calls.",
    shed_delay_total Counter "New requests shed because messages waited longer than queue_delay_target.",
    shed_source_rate_total Counter "New requests shed because their source sent more than source_rate.",
    sources_full_total Counter "New requests not counted against source_rate because sources_max others had just sent some.",
    shed_in_dialog_total Counter "Requests within a dialog shed because there were twice transactions_max transactions.",
    unmatched_total Counter "Requests with a To tag that match no dialog.",
    out_of_order_total Counter "Requests within a dialog whose CSeq is below the last or absurdly far above it.",
    unroutable_total Counter "Requests whose next hop cannot be reached.",
    relayed_requests_total Counter "Requests sent on, once for each target.",
    branches_given_up_total Counter "Targets given up for another because they said nothing or did not answer in time.",
    loops_total Counter "Requests that came back unchanged.",
    timeouts_total Counter "Client transactions that got no final response.",
    unacknowledged_total Counter "Refusals of an INVITE whose ACK never came.",
    transport_failures_total Counter "Client transactions whose request could not be sent.",
    calls_total Counter "Calls opened.",
    calls_answered_total Counter "Calls answered.",
    application_calls_total Counter "Calls led by an application.",
    applications_failed_total Counter "Calls refused with 480 because their application did not say what becomes of them.",
    questions_total Counter "Questions to applications: call hooks, redirects, results of requests.",
    status_hooks_total Counter "Events of calls and verbs handed to delivery.",
    verbs_skipped_total Counter "Verbs left out because they need media.",
    answers_unacknowledged_total Counter "Answers of our own that got no ACK; their calls were ended.",
    answers_missing_total Counter "Calls ended because the ACK of our offer had no answer.",
    answer_timeouts_total Counter "Calls refused with 480 because their application did not answer them in time.",
    session_refreshes_total Counter "Session refreshes of ours sent.",
    sessions_expired_total Counter "Calls of applications ended because their session was not refreshed.",
    calls_expired_total Counter "Calls forgotten because their session timer ran out.",
    calls_over_max_total Counter "Calls ended because they have lasted as long as is allowed.",
    calls_lost_total Counter "Calls that are over because a party knows them no more.",
    rings_over_max_total Counter "INVITEs given up because they have rung as long as is allowed.",
    large_requests_total Counter "Requests that left by TCP for their size.",
    large_requests_refused_total Counter "Requests that came back to UDP since the next hop refuses TCP.",
    large_datagrams_total Counter "Requests above 1,300 bytes that left by UDP, as configured or since TCP is refused.",
    session_intervals_refused_total Counter "Requests refused because their session interval is too small.",
    challenges_answered_total Counter "Challenges of trunks that were answered with their credentials.",
    challenges_rejected_total Counter "Challenges of trunks that do not want the credentials they have just had.",
    challenges_unanswered_total Counter "Challenges of trunks with credentials that have another realm, or no algorithm that is known.",
    transfers_total Counter "Executions of sip:refer begun.",
    transfers_success_total Counter "Executions that ended in success.",
    transfers_failed_total Counter "Executions that ended in failure.",
    transfers_unknown_total Counter "Executions whose end is unknown.",
    transfers_canceled_total Counter "Executions that were canceled.",
    notifies_total Counter "NOTIFYs of our own transfers.",
    notifies_unreadable_total Counter "NOTIFYs of our own transfers without a readable status.",
    events_total Counter "Event hooks handed over.",
    actions_total Counter "Action hooks handed over.",
    tags_refused_total Counter "Tags that would have made the data of a call longer than 64 KiB.",
    replies_refused_total Counter "Replies to action hooks that are no valid list of verbs.",
    probes_total Counter "OPTIONS begun to addresses of trunks.",
    probes_failed_total Counter "OPTIONS to addresses of trunks that counted as a failure.",
    address_changes_total Counter "Times that an address of a trunk came alive or died, counted by the shard that judges it.",
    retry_after_total Counter "Waits begun because a 503 of a trunk's address asked for it.",
    retry_after_cut_total Counter "Retry-Afters of trunks that were longer than is kept to.",
    retry_after_refused_total Counter "New requests answered 503 because every target had asked for no requests.",
    trunk_calls_max_total Counter "Times that a trunk's calls_max had no room for a new call.",
    trunk_rate_max_total Counter "Times that a trunk's calls_per_second_max had no room for a new call.",
    held_total Counter "Requests that waited for a response to ours.",
    held_refused_total Counter "Requests refused because as many of their call wait as may.",
    waits_refused_total Counter "Times that nothing more could wait for a name.",
    transfers_forgotten_total Counter "Ended executions forgotten for newer ones.",
    ladders_forgotten_total Counter "Calls whose messages were forgotten for newer ones: ladders_max.",
    ladder_messages_left_out_total Counter "Messages left out of ladders that had ladder_messages_max.",
    calls Gauge "Live calls.",
    transactions Gauge "Live transactions.",
    transfers Gauge "Transfers under way.",
    contexts Gauge "Requests being relayed.",
    lookups Gauge "Names being looked up.",
    timers Gauge "Timers armed, those no longer meant included.",
}
