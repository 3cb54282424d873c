//! The control API: REST over HTTP/1.1 for operators and applications, with its own thread and runtime.
//!
//! It owns no call. Every request about one goes to the shard that owns it as a [`Command`] with a ticket; the answer comes
//! back through [`Replies`]. A shard is waited for 5 s at most, and never waits itself.
//!
//! Errors are `application/problem+json` (RFC 9457). Without a token the listener is on loopback; then requests under the
//! name of some other host are refused, so that no web page reaches it through the browser of who works on this machine.

mod accounts;
mod answers;
mod events;
mod ladders;
mod listener;
mod page;
mod problem;
mod replies;
mod routes;
mod stream;

use crate::command::Command;
use crate::config;
use answers::Answers;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use events::Hub;
pub use events::{Events, Heard, events};
use listener::Bounded;
use problem::Problem;
pub use replies::Replies;
use sha2::{Digest, Sha256};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;

/// The shards as the control API sees them.
pub trait Shards: Send + Sync {
    /// How many there are; they are numbered from 0.
    fn count(&self) -> u16;

    /// Which one owns the calls with this SIP Call-ID.
    fn owner(&self, sip_call_id: &[u8]) -> u16;

    /// Hands a command over without waiting. Its answer goes to [`Replies::reply`] with the same ticket.
    ///
    /// # Errors
    /// The shard's queue is full, or the shard has ended.
    fn send(&self, shard: u16, ticket: u64, command: Command) -> Result<(), Busy>;
}

/// A shard takes no more commands for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// The text that `/metrics` shows, in Prometheus' exposition format; called on the control thread.
pub type MetricsFn = Arc<dyn Fn() -> String + Send + Sync>;

/// The running control API. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Control {
    address: SocketAddr,
    phase: Arc<AtomicU8>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Binds and serves. `/readyz` says 503 until [`Control::set_ready`].
    ///
    /// # Errors
    /// `config.listen` is `None` or cannot be bound, or the system gives no thread or event queue.
    pub fn start(
        config: &config::Control,
        shards: Arc<dyn Shards>,
        replies: Replies,
        heard: Heard,
        metrics: MetricsFn,
    ) -> io::Result<Control> {
        let listen = config
            .listen
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no control.listen"))?;
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let phase = Arc::new(AtomicU8::new(STARTING));
        let context = Arc::new(Context {
            shards,
            replies,
            metrics,
            token_hash: config.token.as_deref().map(|token| Sha256::digest(token).into()),
            phase: Arc::clone(&phase),
            answers: Mutex::new(Answers::default()),
            hub: Arc::new(Hub::new(config)),
            turned_away: AtomicU64::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(serve(listener, context, heard, stopped));
            runtime.shutdown_background();
        })?;
        Ok(Control {
            address,
            phase,
            stop,
            thread,
        })
    }

    /// Where it listens: the port is known even if the configured one was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The workers run: `/readyz` says 200 from now on, unless draining.
    pub fn set_ready(&self) {
        // A drain that was asked for during the start stays.
        let _ = self
            .phase
            .compare_exchange(STARTING, READY, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// `/readyz` says 503 from now on, so that a load balancer turns elsewhere; everything else is still served.
    pub fn set_draining(&self) {
        self.phase.store(DRAINING, Ordering::Relaxed);
    }

    /// Takes no new connections, answers what has been asked, and ends.
    pub fn stop(self) {
        // Fails only if the thread has ended by itself.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the control thread panicked");
        }
    }
}

/// What every request may need.
struct Context {
    shards: Arc<dyn Shards>,
    replies: Replies,
    metrics: MetricsFn,
    token_hash: Option<[u8; 32]>,
    phase: Arc<AtomicU8>,
    answers: Mutex<Answers>,
    hub: Arc<Hub>,
    /// Requests for a shard that got 503 `busy`.
    turned_away: AtomicU64,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context")
    }
}

async fn serve(listener: std::net::TcpListener, context: Arc<Context>, heard: Heard, stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => Bounded::new(listener),
        Err(error) => return tracing::error!(%error, "the control listener cannot be polled"),
    };
    let (stopping, grace) = oneshot::channel::<()>();
    tokio::spawn(events::take(Arc::clone(&context.hub), heard));
    tokio::spawn(stream::keep_listening(Arc::clone(&context)));
    let hub = Arc::clone(&context.hub);
    let server = axum::serve(listener, router(context)).with_graceful_shutdown(async move {
        // An error means that `Control` was dropped: that stops it too.
        let _ = stopped.await;
        hub.close();
        drop(stopping);
    });
    let out_of_grace = async {
        let _ = grace.await;
        tokio::time::sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        result = server => if let Err(error) = result {
            tracing::error!(%error, "the control listener failed");
        },
        () = out_of_grace => {}
    }
}

fn router(context: Arc<Context>) -> Router {
    let guarded = Router::new()
        .route("/v1/calls", get(routes::calls))
        .route("/v1/calls/{call}", get(routes::call).delete(routes::hang_up))
        .route("/v1/calls/{call}/verbs", post(routes::verbs))
        .route("/v1/calls/{call}/refer", post(routes::refer))
        .route("/v1/calls/{call}/ladder", get(ladders::of_call))
        .route("/v1/transfers/{transfer}/ladder", get(ladders::of_transfer))
        .route("/v1/transfers", get(routes::transfers))
        .route("/v1/transfers/{transfer}", get(routes::transfer))
        .route(
            "/v1/Accounts/{account}/Calls/{call}",
            put(accounts::update).post(accounts::update),
        )
        .route("/v1/trunks", get(routes::trunks))
        .route("/v1/events", get(stream::events))
        .route("/metrics", get(routes::metrics))
        .fallback(async || Problem::new(404, "not_found", "There is nothing at this path."))
        .layer(middleware::from_fn_with_state(Arc::clone(&context), admit));
    Router::new()
        // Probes of an orchestrator carry no token, and tell no one anything.
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/", get(page::page))
        .route("/openapi.json", get(page::openapi))
        .merge(guarded)
        .method_not_allowed_fallback(other_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(within_time))
        .with_state(context)
}

async fn ready(State(context): State<Arc<Context>>) -> Response {
    match context.phase.load(Ordering::Relaxed) {
        READY => "ready\n".into_response(),
        DRAINING => Problem::new(503, "draining", "No new calls are taken: referee is about to stop.").into_response(),
        _ => Problem::new(503, "starting", "The workers do not run yet.").into_response(),
    }
}

/// The router adds the methods that there are, as Allow (RFC 9110 §15.5.6, §9.3.7).
async fn other_method(method: Method) -> Response {
    match method {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => Problem::new(405, "method_not_allowed", "This path does not take this method.").into_response(),
    }
}

/// Lets only those in who may be.
async fn admit(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    match &context.token_hash {
        Some(hash) if !has_token(request.headers(), hash) => {
            let problem = Problem::new(401, "unauthorized", "A valid bearer token is required.");
            let mut response = problem.into_response();
            // RFC 6750 §3.
            let challenge = HeaderValue::from_static("Bearer realm=\"referee\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            response
        }
        None if !is_local_name(request.headers()) => Problem::new(
            421,
            "misdirected",
            "Without a token, requests must name this machine by address or as localhost.",
        )
        .into_response(),
        _ => next.run(request).await,
    }
}

/// A client that trickles its request, or one that is too slow to read the answer, gives its place back.
async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(408, "timeout", "The request did not arrive in time.").into_response(),
    }
}

/// Compares hashes: how long that takes tells nothing about the token (and hashes of equal length always do).
fn has_token(headers: &HeaderMap, hash: &[u8; 32]) -> bool {
    let Some(value) = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes) else {
        return false;
    };
    // As bytes: a token may have any characters, in UTF-8.
    let Some(space) = value.iter().position(|byte| *byte == b' ') else {
        return false;
    };
    let (scheme, token) = value.split_at(space);
    let given: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
    let differences = given.iter().zip(hash).fold(0, |sum, (a, b)| sum | (a ^ b));
    scheme.eq_ignore_ascii_case(b"bearer") && std::hint::black_box(differences) == 0
}

/// Whether the request names this machine as only someone on it would. A web page that has its own name point to
/// 127.0.0.1 (DNS rebinding) sends that name.
fn is_local_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Some hundred verbs.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a shard has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Above what a listing over many shards may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// How long open requests may keep a stop waiting.
const STOP_WITHIN: Duration = Duration::from_secs(6);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: axum::http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn only_the_token_is_the_token() {
        let hash = Sha256::digest("s3cret").into();
        for (value, expected) in [
            ("Bearer s3cret", true),
            ("bearer  s3cret", true),
            ("Bearer s3cre", false),
            ("Bearer s3cretx", false),
            ("Bearer ", false),
            ("Basic s3cret", false),
            ("s3cret", false),
        ] {
            assert_eq!(has_token(&headers(AUTHORIZATION, value), &hash), expected, "{value}");
        }
        assert!(!has_token(&HeaderMap::new(), &hash));
    }

    #[test]
    fn other_names_than_this_machines_are_not_local() {
        for (host, expected) in [
            ("localhost:8080", true),
            ("LOCALHOST", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("[::1]", true),
            ("evil.example:8080", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_local_name(&headers(HOST, host)), expected, "{host}");
        }
    }
}
