//! `GET /v1/events`: server-sent events (WHATWG HTML, §9.2).

use super::Context;
use super::events::{Filter, Hub, LastSeen, Taken};
use super::problem::Problem;
use super::routes::{Parameters, ask, number, query_of, unexpected};
use crate::command::{Command, Reply};
use crate::event;
use crate::identifiers::TransferId;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};
use tokio::time::{Interval, Sleep, interval, sleep};

/// `GET /v1/events`.
pub(super) async fn events(
    State(context): State<Arc<Context>>,
    query: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = query_of(query, &["call", "transfer", "type", "for"])?;
    let seconds = number(&query, "for", 0..=FOR_SECONDS_MAX)?;
    let filter = filter_of(query)?;
    let last = headers.get("last-event-id").map(|text| LastSeen::of(text.as_bytes()));
    if filter.wants_calls() {
        listen_to_calls(&context).await?;
    }
    let opened = context.hub.open(&filter, last).ok_or_else(Problem::busy)?;
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.reset();
    let body = Listener {
        hub: Arc::clone(&context.hub),
        key: opened.key,
        filter,
        // A client that has lost its connection waits as long as this says.
        first: Some(format!("retry: {RETRY_MILLIS}\n\n{}", opened.gap.unwrap_or_default()).into()),
        heartbeat,
        end: seconds.map(|seconds| Box::pin(sleep(Duration::from_secs(seconds as u64)))),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::new(body)).into_response())
}

/// Has shards make events of calls as long as somebody wants them.
pub(super) async fn keep_listening(context: Arc<Context>) {
    loop {
        tokio::time::sleep(event::LISTENED_FOR / 3).await;
        if context.hub.wants_calls() && listen_to_calls(&context).await.is_err() {
            tracing::warn!("a shard could not be asked for events of its calls");
        }
    }
}

async fn listen_to_calls(context: &Context) -> Result<(), Problem> {
    let asked = Instant::now();
    for shard in 0..context.shards.count() {
        match ask(context, shard, Command::Listen).await? {
            Reply::Done => {}
            other => return Err(unexpected(other)),
        }
    }
    context.hub.listens_to_calls(asked);
    Ok(())
}

fn filter_of(query: Vec<(String, String)>) -> Result<Filter, Problem> {
    let mut filter = Filter::default();
    for (name, value) in query {
        match name.as_str() {
            "call" if value.is_empty() => {
                return Err(Problem::new(400, "invalid", "call is empty.").field("call"));
            }
            "call" => filter.call = Some(value),
            "transfer" => {
                let id = value.parse::<TransferId>();
                let problem =
                    || Problem::new(400, "invalid", "transfer is not the id of a transfer.").field("transfer");
                filter.transfer = Some(id.map_err(|_| problem())?.to_string());
            }
            "type" => {
                let names = filter.names.get_or_insert_default();
                for name in value.split(',') {
                    if !event::NAMES.contains(&name) {
                        let detail = format!("type must be some of {}.", event::NAMES.join(", "));
                        return Err(Problem::new(400, "invalid", detail).field("type"));
                    }
                    names.push(name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(filter)
}

/// The body of one listener's response: it ends when the listener is cut off, or referee stops.
struct Listener {
    hub: Arc<Hub>,
    key: usize,
    filter: Filter,
    first: Option<Bytes>,
    heartbeat: Interval,
    /// When the client wants it to end.
    end: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Listener {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match self.hub.take(self.key, &self.filter, task.waker()) {
            Taken::Text(text) => return Poll::Ready(Some(Ok(Frame::data(text)))),
            Taken::End => return Poll::Ready(None),
            Taken::Nothing => {}
        }
        if let Some(end) = &mut self.end
            && end.as_mut().poll(task).is_ready()
        {
            return Poll::Ready(None);
        }
        // A comment: it keeps proxies from closing the connection, and finds out who is gone.
        let tick = self.heartbeat.poll_tick(task);
        tick.map(|_| Some(Ok(Frame::data(Bytes::from_static(b":\n\n")))))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.hub.leave(self.key);
    }
}

/// Below the shortest time after which proxies close what is silent, often 30 s.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A day; whoever wants more names no end.
const FOR_SECONDS_MAX: usize = 86_400;

const RETRY_MILLIS: u32 = 2_000;
