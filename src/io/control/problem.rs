//! Errors as `application/problem+json` (RFC 9457).

use crate::command::Refusal;
use crate::verb::VerbError;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// One error with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: u16,
    /// For programs.
    code: &'static str,
    /// For people: one sentence.
    detail: String,
    field: Option<String>,
    errors: Vec<VerbError>,
    /// Line and column of malformed JSON, from 1.
    place: Option<(usize, usize)>,
}

impl Problem {
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            code,
            detail: detail.into(),
            field: None,
            errors: Vec::new(),
            place: None,
        }
    }

    pub fn field(self, field: impl Into<String>) -> Problem {
        Problem {
            field: Some(field.into()),
            ..self
        }
    }

    /// About the field `known`, where the shard has it as `own`.
    pub fn renamed(self, own: &str, known: &str) -> Problem {
        match self.field.as_deref() {
            Some(field) if field == own => self.field(known),
            _ => self,
        }
    }

    pub fn busy() -> Problem {
        Problem::new(503, "busy", "Too much is being asked at the moment.")
    }

    pub fn malformed_json(error: &serde_json::Error, body: &[u8]) -> Problem {
        let line = body.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1));
        let before = line.unwrap_or_default().get(..error.column()).unwrap_or_default();
        // What a JSON value may not begin with, where one was expected: `+49…`, or the zero of `0049…`.
        let hint = match before {
            [.., b'+'] | [.., b'0', b'0'..=b'9'] => " A telephone number must be in quotes.",
            _ => "",
        };
        Problem {
            place: Some((error.line(), error.column())),
            ..Problem::new(400, "malformed", format!("The body is not JSON: {error}.{hint}"))
        }
    }

    /// Verbs that are wrong, each error with its field.
    pub fn invalid(errors: Vec<VerbError>) -> Problem {
        let detail = match errors.first() {
            Some(VerbError { field, message }) if field.is_empty() => message.clone(),
            Some(VerbError { field, message }) => format!("{field}: {message}"),
            None => "The verbs are not valid.".to_owned(),
        };
        Problem {
            field: errors
                .first()
                .map(|error| error.field.clone())
                .filter(|field| !field.is_empty()),
            errors,
            ..Problem::new(422, "invalid", detail)
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        Problem {
            field: refusal.field,
            ..Problem::new(refusal.status, refusal.code, refusal.detail)
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = Map::new();
        // RFC 9457 §4.2.1: with `about:blank` the title is the status' own phrase; `code` tells the rest.
        body.insert("type".to_owned(), json!("about:blank"));
        body.insert("title".to_owned(), json!(status.canonical_reason().unwrap_or("Error")));
        body.insert("status".to_owned(), json!(status.as_u16()));
        body.insert("detail".to_owned(), json!(self.detail));
        body.insert("code".to_owned(), json!(self.code));
        if let Some(field) = self.field {
            body.insert("field".to_owned(), json!(field));
        }
        if !self.errors.is_empty() {
            let errors = self.errors.into_iter();
            let errors = errors.map(|error| json!({ "field": error.field, "message": error.message }));
            body.insert("errors".to_owned(), errors.collect());
        }
        if let Some((line, column)) = self.place {
            body.insert("line".to_owned(), json!(line));
            body.insert("column".to_owned(), json!(column));
        }
        let mut response = (status, Value::Object(body).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
