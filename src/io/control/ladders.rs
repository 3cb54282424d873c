//! Ladders of calls and transfers: as text, SVG or JSON, as the client prefers.

use super::Context;
use super::problem::Problem;
use super::routes::{Name, Parameters, ask, name_of, parameter, query_of, select, transfer_of, unexpected};
use crate::command::{Command, LadderOf, LadderView, Reply};
use crate::ladder::{Ladder, Rung, svg};
use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;

/// `GET /v1/calls/{call}/ladder`.
pub(super) async fn of_call(
    State(context): State<Arc<Context>>,
    name: Name,
    query: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let format = Format::wanted(query, &headers)?;
    let (shard, call) = select(&context, &name_of(name)?)?;
    shown(&context, shard, LadderOf::Call(call), format).await
}

/// `GET /v1/transfers/{transfer}/ladder`.
pub(super) async fn of_transfer(
    State(context): State<Arc<Context>>,
    name: Name,
    query: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let format = Format::wanted(query, &headers)?;
    let id = transfer_of(&context, &name_of(name)?)?;
    shown(&context, id.shard, LadderOf::Transfer(id), format).await
}

async fn shown(context: &Context, shard: u16, of: LadderOf, format: Format) -> Result<Response, Problem> {
    let view = match ask(context, shard, Command::Ladder { of }).await? {
        Reply::Ladder(view) => view,
        other => return Err(unexpected(other)),
    };
    let mut response = match format {
        Format::Text => drawable(*view).text().into_response(),
        Format::Svg => svg(&drawable(*view)).into_response(),
        Format::Json => Json(view).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // An SVG opened by itself is a document: nothing in it may run or be fetched.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
    Ok(response)
}

fn drawable(view: LadderView) -> Ladder {
    let mut rungs = Vec::with_capacity(view.messages.len() + 1);
    for (i, message) in view.messages.into_iter().enumerate() {
        if let Some(left_out) = view.left_out.filter(|left_out| left_out.before == i) {
            rungs.push(Rung::LeftOut(left_out.count));
        }
        rungs.push(Rung::Arrow {
            at: Duration::from_secs_f64(message.at / 1_000.0),
            from: message.from,
            to: message.to,
            label: message.label,
        });
    }
    Ladder {
        parties: view.parties,
        rungs,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Svg,
    Json,
}

impl Format {
    /// In the order of preference where a client has none.
    const ALL: [Format; 3] = [Format::Text, Format::Svg, Format::Json];

    fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; charset=utf-8",
            Format::Svg => "image/svg+xml",
            Format::Json => "application/json",
        }
    }

    /// As `?format=` says, else as `Accept` does.
    fn wanted(query: Parameters, headers: &HeaderMap) -> Result<Format, Problem> {
        let query = query_of(query, &["format"])?;
        match parameter(&query, "format") {
            Some("text") => Ok(Format::Text),
            Some("svg") => Ok(Format::Svg),
            Some("json") => Ok(Format::Json),
            Some(_) => Err(Problem::new(400, "invalid", "format must be text, svg or json.").field("format")),
            None => {
                let values = headers
                    .get_all(ACCEPT)
                    .iter()
                    .map(|value| value.to_str().unwrap_or_default());
                let accept = values.collect::<Vec<_>>().join(",");
                let detail = "Ladders are text/plain, image/svg+xml or application/json.";
                Format::accepted(&accept).ok_or_else(|| Problem::new(406, "not_acceptable", detail))
            }
        }
    }

    /// The format that `Accept` prefers (RFC 9110 §12.5.1); `None`: none of them will do.
    fn accepted(accept: &str) -> Option<Format> {
        if accept.trim().is_empty() {
            return Some(Format::Text);
        }
        let mut best: Option<(f32, Format)> = None;
        for format in Format::ALL {
            let quality = format.quality(accept);
            if quality > 0.0 && best.is_none_or(|(of_best, _)| quality > of_best) {
                best = Some((quality, format));
            }
        }
        best.map(|(_, format)| format)
    }

    /// The weight of the most specific range that takes this format.
    fn quality(self, accept: &str) -> f32 {
        let media_type = self.content_type().split(';').next().unwrap_or_default();
        let top = media_type.split('/').next().unwrap_or_default();
        let mut found = (0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let specific = match name.split_once('/') {
                Some(("*", "*")) => 1,
                Some((of, "*")) if of.eq_ignore_ascii_case(top) => 2,
                Some(_) if name.eq_ignore_ascii_case(media_type) => 3,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            let weight = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            if specific > found.0 {
                found = (specific, weight);
            }
        }
        found.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_the_client_likes_best() {
        for (accept, expected) in [
            ("", Some(Format::Text)),
            ("*/*", Some(Format::Text)),
            ("image/svg+xml", Some(Format::Svg)),
            ("IMAGE/SVG+XML; q=0.5", Some(Format::Svg)),
            ("image/*", Some(Format::Svg)),
            ("application/json", Some(Format::Json)),
            (
                "text/html, application/xhtml+xml, image/webp, */*;q=0.8",
                Some(Format::Text),
            ),
            ("text/plain;q=0.1, application/json;q=0.9", Some(Format::Json)),
            ("*/*;q=0.9, text/*;q=0.1, image/svg+xml;q=0.2", Some(Format::Json)),
            ("text/plain;q=0, */*", Some(Format::Svg)),
            ("text/html", None),
            ("text/plain;q=0", None),
            ("text/plain;q=x", None),
            ("nonsense", None),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }
}
