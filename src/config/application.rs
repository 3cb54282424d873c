//! `[[application]]`: who is asked over HTTP what becomes of a call, and how referee conducts itself as its user agent.

use super::parse::{seconds, secret};
use super::reader::{Document, Placed, Table};
use super::value;
use crate::spelling::shown;
use std::net::SocketAddr;
use std::time::Duration;

/// An index into [`Config::applications`](super::Config::applications).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApplicationId(pub u8);

/// An application that calls are led to.
#[derive(Clone, PartialEq, Eq)]
pub struct Application {
    pub name: String,
    /// Asked when a call comes in; relative hooks of its calls go to its origin.
    pub call_hook: String,
    /// Told how calls go on; a path goes to the origin of `call_hook`. `None`: nobody is told.
    pub call_status_hook: Option<String>,
    /// Override [`Hooks::secret`](super::Hooks::secret) and [`Hooks::jambonz_secret`](super::Hooks::jambonz_secret).
    pub secret: Option<String>,
    pub jambonz_secret: Option<String>,
    /// User name and password of `call_hook`, for hooks to its origin and to no other.
    pub basic_auth: Option<(String, String)>,
    pub on_unanswered: OnUnanswered,
    pub media_verbs: MediaVerbs,
    /// Where somebody takes the media of answered calls; `None`: nobody, and streams are answered as inactive.
    pub media_address: Option<SocketAddr>,
    /// How long a call may stay unanswered; then it is refused with 480. Default 3 min, RFC 3261 §16.6 has callers wait so long.
    pub answer_timeout: Duration,
}

/// Without secrets and credentials.
impl std::fmt::Debug for Application {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Application")
            .field("name", &self.name)
            .field("call_hook", &self.call_hook)
            .field("on_unanswered", &self.on_unanswered)
            .field("media_verbs", &self.media_verbs)
            .field("media_address", &self.media_address)
            .finish_non_exhaustive()
    }
}

/// What `sip:refer` does with a call that is not answered. Default: answer it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnanswered {
    Answer,
    /// 302 with the target as Contact: the caller goes there itself.
    Redirect,
    /// The execution fails.
    Fail,
}

/// What becomes of verbs that need media, which referee has not. Default: they refuse the list they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaVerbs {
    Reject,
    Skip,
}

/// Reads every `[[application]]`.
pub(super) fn applications(document: &Document<'_>, root: &Table<'_>) -> Vec<Application> {
    let mut names: Vec<Placed<String>> = Vec::new();
    let mut applications = Vec::new();
    for table in root.tables("application") {
        if applications.len() == APPLICATIONS_MAX {
            document.mistake(table.at(), format!("more than {APPLICATIONS_MAX} applications"));
        }
        let name = super::parse::unique_name(&table, &names);
        applications.push(application(&table, name.as_ref()));
        names.extend(name);
        table.finish();
    }
    applications
}

/// `application`, which stands instead of all that says how calls go to trunks.
pub(super) fn route_application(
    document: &Document<'_>,
    table: &Table<'_>,
    applications: &[Application],
) -> Option<ApplicationId> {
    let name = table.name("application")?;
    for key in ["to", "mode", "weights", "response_timeout", "answer_timeout"] {
        if table.has(key) {
            let message =
                format!("`{key}` says how calls go to trunks: a route leads to an `application` or `to` trunks");
            document.mistake(table.at_value(key), message);
        }
    }
    let names = || applications.iter().map(|known| known.name.as_str());
    super::parse::check_reference(document, &name, "`[[application]]`", names());
    let place = names().position(|known| known == name.value)?;
    u8::try_from(place).ok().map(ApplicationId)
}

fn application(table: &Table<'_>, name: Option<&Placed<String>>) -> Application {
    table.require("name");
    table.require("call_hook");
    let url = |text: &str| value::http_url(text).map(|()| text.to_owned());
    let url_or_path = |text: &str| match text.strip_prefix('/') {
        // RFC 3986 §4.2: two would name another host.
        Some(rest) if !rest.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Ok(text.to_owned())
        }
        _ => url(text),
    };
    let mut application = Application {
        name: name.map_or_else(String::new, |name| name.value.clone()),
        call_hook: table.value("call_hook", url).map_or_else(String::new, |url| url.value),
        call_status_hook: table.value("call_status_hook", url_or_path).map(|url| url.value),
        secret: secret(table, "secret"),
        jambonz_secret: secret(table, "jambonz_secret"),
        basic_auth: basic_auth(table),
        on_unanswered: OnUnanswered::Answer,
        media_verbs: MediaVerbs::Reject,
        media_address: table.value("media_address", media_address).map(|address| address.value),
        answer_timeout: ANSWER_TIMEOUT,
    };
    table.choice(
        "on_unanswered",
        &[
            ("answer", OnUnanswered::Answer),
            ("redirect", OnUnanswered::Redirect),
            ("fail", OnUnanswered::Fail),
        ],
        &mut application.on_unanswered,
    );
    table.choice(
        "media_verbs",
        &[("reject", MediaVerbs::Reject), ("skip", MediaVerbs::Skip)],
        &mut application.media_verbs,
    );
    table.duration(
        "answer_timeout",
        seconds(1)..=seconds(3_600),
        &mut application.answer_timeout,
    );
    application
}

/// RFC 7617 §2: a user-id without a colon, and a password.
fn basic_auth(table: &Table<'_>) -> Option<(String, String)> {
    let username = table.value("username", |text| {
        match text.contains(':') || !value::has_no_control(text) {
            true => Err("`username` holds a colon or control characters".to_owned()),
            false => Ok(text.to_owned()),
        }
    });
    let password = secret(table, "password");
    for (key, other) in [("username", "password"), ("password", "username")] {
        if table.has(key) && !table.has(other) {
            table.mistake(table.at_value(key), format!("`{key}` needs `{other}`"));
        }
    }
    Some((username?.value, password?))
}

/// Not a wildcard: it stands in answers as where media is to be sent.
fn media_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        format!(
            "`media_address` is `{text}`, must be an IP address and a port such as 192.0.2.1:4000",
            text = shown(text)
        )
    })?;
    match address.ip().is_unspecified() || address.port() == 0 {
        true => Err(format!(
            "`media_address` is `{text}`, where nobody can send to",
            text = shown(text)
        )),
        false => Ok(address),
    }
}

/// [`ApplicationId`] is one byte.
const APPLICATIONS_MAX: usize = 256;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(180);
