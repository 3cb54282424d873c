//! `PUT` and `POST /v1/Accounts/{account}/Calls/{call}`: the form in which applications of jambonz change a live call.

use super::Context;
use super::problem::Problem;
use super::routes::{Body, Parameters, ask, json_of, query_of, select, unexpected};
use crate::command::{Command, Reply, Update};
use crate::verb;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::sync::Arc;

/// The account is not looked at: there is one.
pub(super) async fn update(
    State(context): State<Arc<Context>>,
    names: Result<Path<(String, String)>, PathRejection>,
    query: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let malformed = |_| Problem::new(400, "malformed", "The path is not percent-encoded UTF-8.");
    let Path((_, call)) = names.map_err(malformed)?;
    query_of(query, &[])?;
    let update = update_of(&json_of(&headers, body)?)?;
    let (shard, call) = select(&context, &call)?;
    match ask(&context, shard, Command::Update { call, update }).await? {
        Reply::Done => Ok(StatusCode::ACCEPTED.into_response()),
        other => Err(unexpected(other)),
    }
}

/// One property, of those that mean something here.
fn update_of(value: &Value) -> Result<Update, Problem> {
    let bad = |field: &str, detail: String| {
        let problem = Problem::new(400, "invalid", detail);
        if field.is_empty() {
            problem
        } else {
            problem.field(field)
        }
    };
    let Some(members) = value.as_object() else {
        return Err(bad("", "The body must be an object.".to_owned()));
    };
    for name in members.keys() {
        if OF_JAMBONZ.contains(&name.as_str()) {
            let detail = format!("referee takes no {name} in this request.");
            return Err(Problem::new(422, "unsupported", detail).field(name));
        }
        if !KNOWN.contains(&name.as_str()) {
            let name = verb::shown(name);
            let suggestion = crate::spelling::suggestion(&name, KNOWN);
            return Err(bad(
                &name,
                format!("`{name}` is no property of this request{suggestion}"),
            ));
        }
    }
    match (members.get("call_hook"), members.get("call_status")) {
        (Some(hook), None) => verb::parse_hook("call_hook", hook)
            .map(Update::Hook)
            .map_err(Problem::invalid),
        (None, Some(Value::String(status))) if status == "completed" => Ok(Update::Completed),
        (None, Some(Value::String(status))) if status == "no-answer" => Ok(Update::NoAnswer),
        (None, Some(_)) => Err(bad(
            "call_status",
            "call_status must be \"completed\" or \"no-answer\".".to_owned(),
        )),
        (Some(_), Some(_)) => Err(bad(
            "call_status",
            "call_hook and call_status do not go together.".to_owned(),
        )),
        (None, None) => Err(bad(
            "call_hook",
            "One of call_hook and call_status is needed.".to_owned(),
        )),
    }
}

const KNOWN: [&str; 2] = ["call_hook", "call_status"];

/// Properties that jambonz takes there.
const OF_JAMBONZ: [&str; 16] = [
    "child_call_hook",
    "call_status_hook",
    "listen_status",
    "stream_status",
    "transcribe_status",
    "conf_hold_status",
    "conf_mute_status",
    "conferenceParticipantAction",
    "mute_status",
    "whisper",
    "sip_request",
    "record",
    "tag",
    "dtmf",
    "boostAudioSignal",
    "noise_isolation",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_update_has_one_property_that_means_something() {
        assert_eq!(update_of(&json!({"call_status": "completed"})), Ok(Update::Completed));
        assert_eq!(update_of(&json!({"call_status": "no-answer"})), Ok(Update::NoAnswer));
        for hook in [json!("/next"), json!({"url": "/next", "method": "POST"})] {
            let Ok(Update::Hook(target)) = update_of(&json!({"call_hook": hook})) else {
                panic!("{hook}")
            };
            assert_eq!(target.url, "/next");
        }
    }
}
