//! The routes: HTTP to [`Command`], [`Reply`] to HTTP.

use super::answers::{Accepted, Entry, Fingerprint, Scope};
use super::problem::Problem;
use super::{ANSWER_WITHIN, Context};
use crate::command::{CallSelector, Command, Reply};
use crate::identifiers::{CallId, TransferId};
use crate::io::counters::describe;
use crate::shard::CounterKind;
use crate::spelling;
use crate::verb::{self, Verb, VerbError, shown};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

pub(super) type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;
pub(super) type Name = Result<Path<String>, PathRejection>;
pub(super) type Body = Result<Bytes, BytesRejection>;

/// `GET /v1/calls`: live calls, page by page.
pub(super) async fn calls(State(context): State<Arc<Context>>, query: Parameters) -> Result<Response, Problem> {
    let query = query_of(query, &["limit", "cursor"])?;
    let limit = limit_of(&query)?;
    let mut at = match parameter(&query, "cursor") {
        Some(text) => Cursor::parse(text)
            .ok_or_else(|| Problem::new(400, "invalid", "The cursor is none that was given out.").field("cursor"))?,
        None => Cursor::default(),
    };
    let mut page = Vec::new();
    let mut next = None;
    while at.shard < context.shards.count() {
        if page.len() >= limit {
            next = Some(at);
            break;
        }
        let command = Command::Calls {
            after: at.after,
            limit: limit - page.len(),
        };
        let (calls, after) = match ask(&context, at.shard, command).await? {
            Reply::Calls { calls, next } => (calls, next),
            other => return Err(unexpected(other)),
        };
        page.extend(calls);
        at = match after {
            Some(_) => Cursor { after, ..at },
            None => Cursor {
                shard: at.shard + 1,
                after: None,
            },
        };
    }
    Ok(Json(json!({ "calls": page, "next": next.map(Cursor::text) })).into_response())
}

/// `GET /v1/calls/{call}`.
pub(super) async fn call(
    State(context): State<Arc<Context>>,
    name: Name,
    query: Parameters,
) -> Result<Response, Problem> {
    query_of(query, &[])?;
    let (shard, call) = select(&context, &name_of(name)?)?;
    match ask(&context, shard, Command::Call { call }).await? {
        Reply::Call(view) => Ok(Json(view).into_response()),
        other => Err(unexpected(other)),
    }
}

/// `DELETE /v1/calls/{call}`: ends it.
pub(super) async fn hang_up(
    State(context): State<Arc<Context>>,
    name: Name,
    query: Parameters,
) -> Result<Response, Problem> {
    query_of(query, &[])?;
    let (shard, call) = select(&context, &name_of(name)?)?;
    match ask(&context, shard, Command::Hangup { call }).await? {
        Reply::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        other => Err(unexpected(other)),
    }
}

/// `POST /v1/calls/{call}/verbs`: one verb or an array of them.
pub(super) async fn verbs(
    State(context): State<Arc<Context>>,
    name: Name,
    query: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let value = json_of(&headers, body)?;
    let verbs = verb::parse(&value).map_err(Problem::invalid)?;
    let request = Request {
        name: name_of(name)?,
        dry_run: flag(&query_of(query, &["dry_run"])?, "dry_run")?,
        fingerprint: Fingerprint::new("verbs", &value),
        verbs,
    };
    request.carry_out(&context, &headers).await
}

/// `POST /v1/calls/{call}/refer`: the short form of one `sip:refer`.
pub(super) async fn refer(
    State(context): State<Arc<Context>>,
    name: Name,
    query: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let value = json_of(&headers, body)?;
    let verb = Value::Object(long_form(&value).map_err(Problem::invalid)?);
    let verbs = verb::parse(&verb).map_err(|mut errors| {
        for error in &mut errors {
            if error.field == "referTo" {
                error.field = "target_uri".to_owned();
            }
        }
        Problem::invalid(errors)
    })?;
    let request = Request {
        name: name_of(name)?,
        dry_run: flag(&query_of(query, &["dry_run"])?, "dry_run")?,
        fingerprint: Fingerprint::new("refer", &value),
        verbs,
    };
    let response = request.carry_out(&context, &headers).await;
    response.map_err(|problem| problem.renamed("referTo", "target_uri"))
}

/// `GET /v1/transfers`: newest first.
pub(super) async fn transfers(State(context): State<Arc<Context>>, query: Parameters) -> Result<Response, Problem> {
    let limit = limit_of(&query_of(query, &["limit"])?)?;
    let mut all = Vec::new();
    for shard in 0..context.shards.count() {
        match ask(&context, shard, Command::Transfers { limit }).await? {
            Reply::Transfers(transfers) => all.extend(transfers),
            other => return Err(unexpected(other)),
        }
    }
    // Stable: transfers of one shard within the same millisecond stay newest first.
    all.sort_by_key(|transfer| std::cmp::Reverse(transfer.created_at));
    all.truncate(limit);
    Ok(Json(json!({ "transfers": all })).into_response())
}

/// `GET /v1/transfers/{transfer}`.
pub(super) async fn transfer(
    State(context): State<Arc<Context>>,
    name: Name,
    query: Parameters,
) -> Result<Response, Problem> {
    query_of(query, &[])?;
    let id = transfer_of(&context, &name_of(name)?)?;
    match ask(&context, id.shard, Command::Transfer { id }).await? {
        Reply::Transfer(view) => Ok(Json(view).into_response()),
        other => Err(unexpected(other)),
    }
}

/// `GET /v1/trunks`: each trunk with its calls and how its addresses stand. Any shard knows.
pub(super) async fn trunks(State(context): State<Arc<Context>>, query: Parameters) -> Result<Response, Problem> {
    query_of(query, &[])?;
    match ask(&context, 0, Command::Trunks).await? {
        Reply::Trunks(trunks) => Ok(Json(json!({ "trunks": trunks })).into_response()),
        other => Err(unexpected(other)),
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(context): State<Arc<Context>>) -> Response {
    let mut text = (context.metrics)() + &context.hub.metrics_text();
    let help = "Requests that got 503 because a worker had too much to do, or too many requests waited";
    describe(&mut text, "control_busy_total", CounterKind::Counter, help);
    let turned_away = context.turned_away.load(Ordering::Relaxed);
    // Writing to a String does not fail.
    let _ = writeln!(text, "referee_control_busy_total {turned_away}");
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, content_type)], text).into_response()
}

/// Verbs for a call, as asked for.
struct Request {
    /// The `{call}` of the path.
    name: String,
    verbs: Vec<Verb>,
    dry_run: bool,
    fingerprint: Fingerprint,
}

impl Request {
    async fn carry_out(self, context: &Arc<Context>, headers: &HeaderMap) -> Result<Response, Problem> {
        let (shard, call) = select(context, &self.name)?;
        if self.dry_run {
            let command = Command::Verbs {
                call,
                verbs: self.verbs,
                dry_run: true,
            };
            return match ask(context, shard, command).await? {
                Reply::WouldSend { message } => Ok(Json(json!({ "message": message })).into_response()),
                other => Err(unexpected(other)),
            };
        }
        let accepted = match self.key(headers)? {
            None => in_time(execute(context, shard, call, self.verbs)).await?,
            Some((kind, key)) => {
                let asked = Scope::new(&self.name, kind, &key);
                let (scope, entry) = self.claim(context, shard, &call, asked, kind, &key).await?;
                let (context, verbs) = (Arc::clone(context), self.verbs);
                // A task of its own: when the client hangs up or has waited for long, its repeat must still find the answer.
                let task = tokio::spawn(async move {
                    let execution = || execute(&context, shard, call, verbs);
                    let result = entry.answer.get_or_try_init(execution).await.copied();
                    match result {
                        // Under both names of the call, since its id cannot be looked up once it has ended.
                        Ok(_) => context.answers().alias(asked, &entry, now()),
                        Err(_) => context.answers().release(scope, &entry),
                    }
                    result
                });
                let bug = |_| Problem::new(500, "internal", "This is a bug in referee.");
                in_time(async { task.await.map_err(bug)? }).await?
            }
        };
        let mut body = json!({ "call": accepted.call.to_string() });
        if let Some(transfer) = accepted.transfer {
            body["transfer"] = json!(transfer.to_string());
        }
        Ok((StatusCode::ACCEPTED, Json(body)).into_response())
    }

    /// What makes a repeat of this request known as one, and where it is from.
    fn key(&self, headers: &HeaderMap) -> Result<Option<(&'static str, String)>, Problem> {
        if let Some(value) = headers.get("idempotency-key") {
            return match value.to_str() {
                Ok(key) if (1..=KEY_LENGTH_MAX).contains(&key.len()) => Ok(Some(("header", key.to_owned()))),
                _ => {
                    let detail = format!("Idempotency-Key must be 1 to {KEY_LENGTH_MAX} visible ASCII characters.");
                    Err(Problem::new(400, "invalid", detail).field("Idempotency-Key"))
                }
            };
        }
        // A transfer's id if there is one: of all verbs it is the one that must not happen twice.
        let named = self.verbs.iter().filter(|verb| verb.id().is_some());
        let first = named.min_by_key(|verb| !matches!(verb, Verb::SipRefer(_)));
        Ok(first.and_then(Verb::id).map(|id| ("id", id.to_owned())))
    }

    /// The entry of this request, under the call's id whatever name it was asked for by.
    async fn claim(
        &self,
        context: &Context,
        shard: u16,
        call: &CallSelector,
        asked: Scope,
        kind: &str,
        key: &str,
    ) -> Result<(Scope, Arc<Entry>), Problem> {
        let reused = |_| {
            let detail = "The same idempotency key or verb id came with another request.";
            Problem::new(422, "key_reused", detail).field(if kind == "id" { "id" } else { "Idempotency-Key" })
        };
        let known = context.answers().find(asked, self.fingerprint, now()).map_err(reused)?;
        if let Some(entry) = known {
            return Ok((asked, entry));
        }
        let id = match call {
            CallSelector::Id(id) => id.to_string(),
            CallSelector::SipCallId(_) => match ask(context, shard, Command::Call { call: call.clone() }).await? {
                Reply::Call(view) => view.id,
                other => return Err(unexpected(other)),
            },
        };
        let scope = Scope::new(&id, kind, key);
        let entry = context
            .answers()
            .claim(scope, self.fingerprint, now())
            .map_err(reused)?;
        Ok((scope, entry))
    }
}

impl Context {
    fn answers(&self) -> std::sync::MutexGuard<'_, super::Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn execute(context: &Context, shard: u16, call: CallSelector, verbs: Vec<Verb>) -> Result<Accepted, Problem> {
    let command = Command::Verbs {
        call,
        verbs,
        dry_run: false,
    };
    match ask_patiently(context, shard, command).await? {
        Reply::Accepted { transfer, call } => Ok(Accepted { call, transfer }),
        other => Err(unexpected(other)),
    }
}

/// Asks a shard; a refusal is a problem, and so is no answer in time.
pub(super) async fn ask(context: &Context, shard: u16, command: Command) -> Result<Reply, Problem> {
    in_time(ask_patiently(context, shard, command)).await
}

/// As [`ask`], however long it takes: for what must be known to have happened or not.
async fn ask_patiently(context: &Context, shard: u16, command: Command) -> Result<Reply, Problem> {
    let busy = || {
        context.turned_away.fetch_add(1, Ordering::Relaxed);
        Problem::busy()
    };
    let mut ticket = context.replies.open().ok_or_else(busy)?;
    let sent = context.shards.send(shard, ticket.number, command);
    sent.map_err(|_| busy())?;
    match (&mut ticket.answer).await {
        Ok(Reply::Refused(refusal)) => Err(refusal.into()),
        Ok(reply) => Ok(reply),
        // The other end is gone: the shard has ended, or it was stopped with its commands unread.
        Err(_) => Err(busy()),
    }
}

/// As long as a client is kept waiting.
async fn in_time<T>(answer: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let in_time = tokio::time::timeout(ANSWER_WITHIN, answer).await;
    in_time.unwrap_or_else(|_| {
        let detail = "The call's worker did not answer in time.";
        Err(Problem::new(503, "timeout", detail))
    })
}

/// A shard answered what was not asked: a bug, and the caller should know that it is not theirs.
pub(super) fn unexpected(reply: Reply) -> Problem {
    tracing::error!(?reply, "a shard answered another question");
    Problem::new(500, "internal", "This is a bug in referee.")
}

/// Whose call it is, and how it is named: by its id or by its SIP Call-ID.
pub(super) fn select(context: &Context, name: &str) -> Result<(u16, CallSelector), Problem> {
    let count = context.shards.count();
    match name.parse::<CallId>() {
        Ok(id) if id.shard < count => Ok((id.shard, CallSelector::Id(id))),
        Ok(_) => Err(Problem::new(404, "not_found", "There is no such call.")),
        Err(_) => {
            let call_id = name.as_bytes().to_vec();
            Ok((context.shards.owner(&call_id), CallSelector::SipCallId(call_id)))
        }
    }
}

/// Which transfer is meant. Whether there is one only its shard knows.
pub(super) fn transfer_of(context: &Context, name: &str) -> Result<TransferId, Problem> {
    let id = name.parse::<TransferId>().ok();
    let unknown = || Problem::new(404, "not_found", "There is no such transfer, or it has been forgotten.");
    id.filter(|id| id.shard < context.shards.count()).ok_or_else(unknown)
}

/// The path's last variable part, percent-decoded.
pub(super) fn name_of(name: Name) -> Result<String, Problem> {
    name.map(|Path(name)| name)
        .map_err(|_| Problem::new(400, "malformed", "The path is not percent-encoded UTF-8."))
}

/// The query, in which nothing may stand but parameters of these names, each once.
pub(super) fn query_of(query: Parameters, known: &[&'static str]) -> Result<Vec<(String, String)>, Problem> {
    let malformed = |_| Problem::new(400, "malformed", "The query is not of the form name=value&name=value.");
    let Query(query) = query.map_err(malformed)?;
    for (i, (name, _)) in query.iter().enumerate() {
        let detail = if !known.contains(&name.as_str()) {
            let suggestion = spelling::suggestion(name, known.iter().copied());
            format!("`{}` is no parameter of this path{suggestion}", shown(name))
        } else if query[..i].iter().any(|(other, _)| other == name) {
            format!("{name} stands there twice.")
        } else {
            continue;
        };
        return Err(Problem::new(400, "invalid", detail).field(shown(name)));
    }
    Ok(query)
}

pub(super) fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

fn limit_of(query: &[(String, String)]) -> Result<usize, Problem> {
    Ok(number(query, "limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT))
}

/// A number within a range, in digits alone.
pub(super) fn number(
    query: &[(String, String)],
    name: &'static str,
    range: RangeInclusive<usize>,
) -> Result<Option<usize>, Problem> {
    let Some(text) = parameter(query, name) else {
        return Ok(None);
    };
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(number) if is_digits && range.contains(&number) => Ok(Some(number)),
        _ => {
            let detail = format!("{name} must be a number from {} to {}.", range.start(), range.end());
            Err(Problem::new(400, "invalid", detail).field(name))
        }
    }
}

fn flag(query: &[(String, String)], name: &'static str) -> Result<bool, Problem> {
    match parameter(query, name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Problem::new(400, "invalid", format!("{name} must be true or false.")).field(name)),
    }
}

/// The body as JSON. Only what says it is JSON: a web page can send anything else across origins without being asked.
pub(super) fn json_of(headers: &HeaderMap, body: Body) -> Result<Value, Problem> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let detail = "The body must be JSON and say so: Content-Type: application/json.";
        return Err(Problem::new(415, "unsupported_media_type", detail));
    }
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(413, "too_large", "The body is larger than 64 KiB."),
        _ => Problem::new(400, "malformed", "The body did not arrive whole."),
    })?;
    serde_json::from_slice(&body).map_err(|error| Problem::malformed_json(&error, &body))
}

/// `{"target_uri", "leg"?}` as a verb.
fn long_form(value: &Value) -> Result<Map<String, Value>, Vec<VerbError>> {
    let error = |field: &str, message: &str| {
        vec![VerbError {
            field: field.to_owned(),
            message: message.to_owned(),
        }]
    };
    let members = value
        .as_object()
        .ok_or_else(|| error("", "The body must be an object."))?;
    let mut verb = Map::from_iter([("verb".to_owned(), json!("sip:refer"))]);
    for (name, value) in members {
        let name = match name.as_str() {
            "target_uri" => "referTo",
            "leg" => "leg",
            other => {
                let suggestion = spelling::suggestion(other, ["target_uri", "leg"]);
                return Err(error(other, &format!("is not known here{suggestion}")));
            }
        };
        verb.insert(name.to_owned(), value.clone());
    }
    match verb.contains_key("referTo") {
        true => Ok(verb),
        false => Err(error("target_uri", "is required")),
    }
}

/// Where a page of calls starts: a place within a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    shard: u16,
    after: Option<u64>,
}

impl Cursor {
    /// Opaque to clients, so that it may come to mean something else.
    fn text(self) -> String {
        let after = self.after.map(|after| after.to_string()).unwrap_or_default();
        format!("{}-{after}", self.shard)
    }

    fn parse(text: &str) -> Option<Cursor> {
        let (shard, after) = text.split_once('-')?;
        let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(shard) || !is_digits(after) {
            return None;
        }
        Some(Cursor {
            shard: shard.parse().ok()?,
            after: match after {
                "" => None,
                after => Some(after.parse().ok()?),
            },
        })
    }
}

/// Time since the first call of this.
fn now() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed()
}

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// Longer than any UUID or URL that serves as a key.
const KEY_LENGTH_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_nonsense_does_not() {
        for cursor in [
            Cursor::default(),
            Cursor { shard: 3, after: None },
            Cursor {
                shard: u16::MAX,
                after: Some(u64::MAX),
            },
        ] {
            assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        }
        for text in ["", "-", "1", "1-x", "+1-", "1-+1", "65536-", "1-2-3", " 1-2"] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_short_form_is_a_verb() {
        let verb = long_form(&json!({"target_uri": "+491", "leg": "caller"})).unwrap();
        let expected = json!({"verb": "sip:refer", "referTo": "+491", "leg": "caller"});
        assert_eq!(Value::Object(verb), expected);
        for (value, field) in [
            (json!([]), ""),
            (json!({}), "target_uri"),
            (json!({"target_uri": "x", "referTo": "y"}), "referTo"),
        ] {
            assert_eq!(long_form(&value).unwrap_err()[0].field, field, "{value}");
        }
    }
}
