//! Verbs as JSON: their types and their validation, each error with the field it is about. Nothing is executed here.

#[cfg(any(test, feature = "sim"))]
mod properties;
mod served;
mod timers;

use crate::config::value::{DISPLAY_NAME_BYTES_MAX, has_no_control, http_url, is_token};
use crate::message::explain::explain;
use crate::spelling;
pub(crate) use crate::spelling::shown;
#[cfg(any(test, feature = "sim"))]
pub use properties::verb_json;
use serde_json::{Map, Number, Value};
use served::{CONFIG_IGNORED, MEDIA_VERBS, VERBS, sip_decline, sip_request};
use std::cell::RefCell;
use std::fmt;
use std::time::Duration;
pub use timers::ReferTimers;

/// One instruction of an application or of the control API.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    SipRefer(Box<SipRefer>),
    /// Ends the call; the headers go on the BYE.
    Hangup {
        id: Option<String>,
        headers: Vec<(String, String)>,
    },
    /// Correlation data that hooks return as `customerData`.
    Tag {
        id: Option<String>,
        data: Map<String, Value>,
    },
    Pause {
        id: Option<String>,
        length: Duration,
    },
    /// Answers the call.
    Answer {
        id: Option<String>,
    },
    /// Refuses a call that is not answered.
    SipDecline {
        id: Option<String>,
        /// 400 to 699.
        status: u16,
        reason: Option<String>,
        headers: Vec<(String, String)>,
    },
    /// Asks another URL what is next.
    Redirect {
        id: Option<String>,
        action_hook: HookTarget,
        status_hook: Option<HookTarget>,
    },
    /// Settings of the call.
    Config {
        id: Option<String>,
        notify_events: Option<bool>,
        /// Told of each INFO and MESSAGE of the caller's.
        request_hook: Option<HookTarget>,
    },
    SipRequest(Box<SipRequest>),
    /// Needs media, or a second call, of which there is neither. Its properties are not looked at.
    Media {
        name: &'static str,
        id: Option<String>,
    },
}

impl Verb {
    pub fn name(&self) -> &'static str {
        match self {
            Verb::SipRefer(_) => "sip:refer",
            Verb::Hangup { .. } => "hangup",
            Verb::Tag { .. } => "tag",
            Verb::Pause { .. } => "pause",
            Verb::Answer { .. } => "answer",
            Verb::SipDecline { .. } => "sip:decline",
            Verb::Redirect { .. } => "redirect",
            Verb::Config { .. } => "config",
            Verb::SipRequest(_) => "sip:request",
            Verb::Media { name, .. } => name,
        }
    }

    pub fn id(&self) -> Option<&str> {
        match self {
            Verb::SipRefer(refer) => refer.id.as_deref(),
            Verb::SipRequest(request) => request.id.as_deref(),
            Verb::Hangup { id, .. }
            | Verb::Tag { id, .. }
            | Verb::Pause { id, .. }
            | Verb::Answer { id }
            | Verb::SipDecline { id, .. }
            | Verb::Redirect { id, .. }
            | Verb::Config { id, .. }
            | Verb::Media { id, .. } => id.as_deref(),
        }
    }
}

/// `sip:request`: a request of the application's own within the dialog.
#[derive(Clone, Debug, PartialEq)]
pub struct SipRequest {
    pub id: Option<String>,
    /// A token, and none that moves or ends the call.
    pub method: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub action_hook: Option<HookTarget>,
}

/// `sip:refer`: transfers the call.
#[derive(Clone, Debug, PartialEq)]
pub struct SipRefer {
    /// `None` only with `replaces`: the party of the other call.
    pub refer_to: Option<String>,
    /// The dialog of another call that the target replaces with the new one.
    pub replaces: Option<Replaces>,
    pub id: Option<String>,
    pub referred_by: Option<String>,
    pub referred_by_display_name: Option<String>,
    /// `None`: the default word `refer`.
    pub action_hook: Option<HookTarget>,
    pub event_hook: Option<HookTarget>,
    /// On the REFER, in the order of their names.
    pub headers: Vec<(String, String)>,
    pub leg: Option<Leg>,
    /// `false`: the REFER asks for no NOTIFYs (RFC 4488); its 2xx is all that will be known.
    pub subscription: bool,
    pub timers: ReferTimers,
}

/// Another live call, and the party of it that is the transfer target (RFC 5589 §7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// Its id or its SIP Call-ID.
    pub call: String,
    pub leg: Option<Leg>,
    /// Only while it is not answered (RFC 3891 §3).
    pub early_only: bool,
    /// Its dialog once that is known, or why there is none: the end of a sentence about `call`.
    pub dialog: Option<Result<OtherDialog, String>>,
}

/// A dialog as the transfer target sees it (RFC 3891 §6.1), and the target's own URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherDialog {
    pub call_id: String,
    pub to_tag: String,
    pub from_tag: String,
    pub target: String,
}

/// Where a hook goes, as the verb has it: an absolute URL, a path, or a bare word; with its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookTarget {
    pub url: String,
    pub basic_auth: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    Caller,
    Callee,
}

/// What is wrong with a verb and where: `field` is a path such as `headers.X-A` or `[1].referTo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerbError {
    /// Empty if it is about the whole.
    pub field: String,
    pub message: String,
}

impl fmt::Display for VerbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

impl std::error::Error for VerbError {}

/// Reads one verb or an array of verbs: `{"verb": "x", …}` or the short form `{"x": {…}}`.
///
/// URIs are not looked into here: what becomes of them depends on the trunk ([`crate::destination`]).
///
/// # Errors
///
/// Every mistake of every verb. One of them refuses the whole array.
pub fn parse(value: &Value) -> Result<Vec<Verb>, Vec<VerbError>> {
    let errors = Errors::default();
    let mut verbs = Vec::new();
    match value {
        Value::Array(elements) if elements.is_empty() => {
            errors.push("", "is an empty array; at least one verb is needed")
        }
        Value::Array(elements) if elements.len() > VERBS_MAX => {
            errors.push(
                "",
                format!("is an array of {} verbs; at most {VERBS_MAX} are taken", elements.len()),
            );
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                verbs.extend(verb(element, &format!("[{index}]"), &errors));
            }
        }
        one => verbs.extend(verb(one, "", &errors)),
    }
    let errors = errors.list.into_inner();
    if errors.is_empty() { Ok(verbs) } else { Err(errors) }
}

/// Reads where a hook goes, alone: a string or an object, as in a verb. `field` is its name.
///
/// # Errors
///
/// Every mistake, one at least.
pub fn parse_hook(field: &'static str, value: &Value) -> Result<HookTarget, Vec<VerbError>> {
    let errors = Errors::default();
    let object = Map::from_iter([(field.to_owned(), value.clone())]);
    let target = Fields::new(&object, String::new(), None, &errors).hook(field);
    let errors = errors.list.into_inner();
    target.filter(|_| errors.is_empty()).ok_or(errors)
}

/// `None` only with an error.
fn verb(element: &Value, path: &str, errors: &Errors) -> Option<Verb> {
    let Value::Object(object) = element else {
        errors.push(path, format!("is {}, must be an object", type_of(element)));
        return None;
    };
    let (name, fields) = match object.get("verb") {
        Some(Value::String(name)) => (name, Fields::new(object, path.to_owned(), Some("verb"), errors)),
        Some(other) => {
            errors.push(join(path, "verb"), format!("is {}, must be a string", type_of(other)));
            return None;
        }
        None => match single_entry(object) {
            Some((name, Value::Object(object))) => (name, Fields::new(object, join(path, name), None, errors)),
            _ => {
                errors.push(join(path, "verb"), "is missing");
                return None;
            }
        },
    };
    let verb = match name.as_str() {
        "sip:refer" => sip_refer(&fields).map(|refer| Verb::SipRefer(Box::new(refer))),
        "hangup" => {
            let (id, headers) = (fields.id(), fields.headers());
            Some(Verb::Hangup { id, headers })
        }
        "tag" => {
            let (id, data) = (fields.id(), fields.data());
            data.map(|data| Verb::Tag { id, data })
        }
        "pause" => {
            fields.require("length");
            let (id, length) = (fields.id(), fields.seconds("length", 0.0..=PAUSE_SECONDS_MAX));
            length.map(|length| Verb::Pause { id, length })
        }
        "answer" => Some(Verb::Answer { id: fields.id() }),
        "sip:decline" => sip_decline(&fields),
        "redirect" => {
            fields.require("actionHook");
            let (id, status_hook) = (fields.id(), fields.hook("statusHook"));
            let action_hook = fields.hook("actionHook");
            action_hook.map(|action_hook| Verb::Redirect {
                id,
                action_hook,
                status_hook,
            })
        }
        "config" => {
            for ignored in CONFIG_IGNORED {
                fields.ask(ignored);
            }
            Some(Verb::Config {
                id: fields.id(),
                notify_events: fields.flag("notifyEvents"),
                request_hook: fields.hook("sipRequestWithinDialogHook"),
            })
        }
        "sip:request" => sip_request(&fields).map(|request| Verb::SipRequest(Box::new(request))),
        other if MEDIA_VERBS.contains(&other) => {
            let name = MEDIA_VERBS.into_iter().find(|name| *name == other)?;
            return Some(Verb::Media { name, id: fields.id() });
        }
        other => {
            let suggestion = spelling::suggestion(other, VERBS);
            let shown = shown(other);
            let message = format!("`{shown}` is no verb; verbs are {}{suggestion}", VERBS.join(", "));
            let field = if object.contains_key("verb") {
                join(path, "verb")
            } else {
                path.to_owned()
            };
            errors.push(field, message);
            return None;
        }
    };
    fields.finish();
    verb
}

fn sip_refer(fields: &Fields<'_>) -> Option<SipRefer> {
    let replaces = fields.replaces();
    if !fields.object.contains_key("replaces") {
        fields.require("referTo");
    }
    let refer_to = fields.party("referTo");
    let referred_by = fields.party("referredBy");
    let referred_by_display_name = fields.line("referredByDisplayName", DISPLAY_NAME_BYTES_MAX);
    let action_hook = fields.hook("actionHook");
    let event_hook = fields.hook("eventHook");
    let leg = fields.leg();
    let timers = ReferTimers::read(fields);
    let subscription = fields.flag("subscription").unwrap_or(true);
    let (id, headers) = (fields.id(), fields.headers());
    Some(SipRefer {
        refer_to,
        replaces,
        id,
        referred_by,
        referred_by_display_name,
        action_hook,
        event_hook,
        headers,
        leg,
        subscription,
        timers,
    })
}

/// Everything wrong that was found so far.
#[derive(Default)]
struct Errors {
    list: RefCell<Vec<VerbError>>,
}

impl Errors {
    fn push(&self, field: impl Into<String>, message: impl Into<String>) {
        let (field, message) = (field.into(), message.into());
        self.list.borrow_mut().push(VerbError { field, message });
    }
}

/// The properties of one verb: what is never asked for is unknown.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
    errors: &'a Errors,
    asked_for: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    fn new(
        object: &'a Map<String, Value>,
        path: String,
        known: Option<&'static str>,
        errors: &'a Errors,
    ) -> Fields<'a> {
        Fields {
            object,
            path,
            errors,
            asked_for: RefCell::new(known.into_iter().collect()),
        }
    }

    fn wrong(&self, field: &str, message: impl Into<String>) {
        self.errors.push(join(&self.path, field), message);
    }

    fn wrong_type(&self, field: &str, found: &Value, wanted: &str) {
        let hint = match found {
            // Of all that can go wrong with a telephone number this is the first.
            Value::Number(_) if wanted == STRING => ": put it in quotes",
            _ => "",
        };
        self.wrong(field, format!("is {}, must be {wanted}{hint}", type_of(found)));
    }

    fn require(&self, field: &str) {
        if !self.object.contains_key(field) {
            self.wrong(field, "is missing");
        }
    }

    fn ask(&self, field: &'static str) -> Option<&'a Value> {
        self.asked_for.borrow_mut().push(field);
        self.object.get(field)
    }

    fn finish(self) {
        let asked_for = self.asked_for.take();
        // `_` is for remarks.
        for name in self
            .object
            .keys()
            .filter(|name| *name != "_" && !asked_for.contains(&name.as_str()))
        {
            let suggestion = spelling::suggestion(name, asked_for.iter().copied());
            self.wrong(name, format!("is no property of this verb{suggestion}"));
        }
    }

    /// A string without control characters.
    fn line(&self, field: &'static str, bytes_max: usize) -> Option<String> {
        let text = match self.ask(field)? {
            Value::String(text) => text,
            other => {
                self.wrong_type(field, other, STRING);
                return None;
            }
        };
        if text.len() > bytes_max {
            self.wrong(field, format!("is longer than {bytes_max} bytes"));
            return None;
        }
        if !has_no_control(text) {
            self.wrong(field, "holds line breaks or other control characters");
            return None;
        }
        Some(text.clone())
    }

    /// A URI, number or user.
    fn party(&self, field: &'static str) -> Option<String> {
        let text = self.line(field, PARTY_BYTES_MAX)?;
        if text.trim().is_empty() {
            self.wrong(field, "is empty");
            return None;
        }
        Some(text)
    }

    fn id(&self) -> Option<String> {
        let id = self.line("id", ID_BYTES_MAX)?;
        if id.is_empty() {
            self.wrong("id", "is empty");
        }
        Some(id)
    }

    fn seconds(&self, field: &'static str, range: std::ops::RangeInclusive<f64>) -> Option<Duration> {
        let value = self.ask(field)?;
        let Some(seconds) = value.as_f64() else {
            self.wrong_type(field, value, "a number of seconds");
            return None;
        };
        if !range.contains(&seconds) {
            self.wrong(
                field,
                format!("is {value}, must be {} to {} seconds", range.start(), range.end()),
            );
            return None;
        }
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn leg(&self) -> Option<Leg> {
        match self.line("leg", usize::MAX)?.as_str() {
            "caller" => Some(Leg::Caller),
            "callee" => Some(Leg::Callee),
            _ => {
                self.wrong("leg", "must be \"caller\" or \"callee\"");
                None
            }
        }
    }

    fn replaces(&self) -> Option<Replaces> {
        let value = self.ask("replaces")?;
        let Value::Object(object) = value else {
            self.wrong_type("replaces", value, "an object with a `call`");
            return None;
        };
        let fields = Fields::new(object, join(&self.path, "replaces"), None, self.errors);
        fields.require("call");
        let (call, leg, early_only) = (fields.party("call"), fields.leg(), fields.flag("earlyOnly"));
        fields.finish();
        Some(Replaces {
            call: call?,
            leg,
            early_only: early_only.unwrap_or(false),
            dialog: None,
        })
    }

    fn some_seconds(&self, field: &'static str, most: f64) -> Option<Duration> {
        let duration = self.seconds(field, 0.0..=most)?;
        if duration.is_zero() {
            self.wrong(field, "must be more than 0 seconds");
        }
        Some(duration)
    }

    fn flag(&self, field: &'static str) -> Option<bool> {
        let value = self.ask(field)?;
        if !value.is_boolean() {
            self.wrong_type(field, value, "true or false");
        }
        value.as_bool()
    }

    fn data(&self) -> Option<Map<String, Value>> {
        self.require("data");
        let value = self.ask("data")?;
        let Value::Object(data) = value else {
            self.wrong_type("data", value, "an object");
            return None;
        };
        // Every hook of the call carries it.
        if value.to_string().len() > TAG_BYTES_MAX {
            self.wrong("data", format!("is longer than {TAG_BYTES_MAX} bytes as JSON"));
            return None;
        }
        Some(data.clone())
    }

    fn headers(&self) -> Vec<(String, String)> {
        self.headers_but(&[])
    }

    /// Headers, of those that are denied otherwise these too.
    fn headers_but(&self, allowed: &[&str]) -> Vec<(String, String)> {
        let object = match self.ask("headers") {
            None => return Vec::new(),
            Some(Value::Object(object)) => object,
            Some(other) => {
                self.wrong_type("headers", other, "an object");
                return Vec::new();
            }
        };
        if object.len() > HEADERS_MAX {
            self.wrong(
                "headers",
                format!("are {}, at most {HEADERS_MAX} are taken", object.len()),
            );
            return Vec::new();
        }
        let mut headers = Vec::with_capacity(object.len());
        for (name, value) in object {
            let field = format!("headers.{}", shown(name));
            match header_line(name, value, allowed) {
                Ok(value) => headers.push((name.clone(), value)),
                Err(message) => self.wrong(&field, message),
            }
        }
        if headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
            > HEADERS_BYTES_MAX
        {
            self.wrong("headers", format!("are longer than {HEADERS_BYTES_MAX} bytes together"));
        }
        headers
    }

    fn hook(&self, field: &'static str) -> Option<HookTarget> {
        match self.ask(field)? {
            Value::String(url) => {
                self.check_hook_url(field, url);
                Some(HookTarget {
                    url: url.clone(),
                    basic_auth: None,
                })
            }
            Value::Object(object) => self.hook_object(field, object),
            other => {
                self.wrong_type(field, other, "a URL or an object with a `url`");
                None
            }
        }
    }

    /// The fields of the result are passed over: the verb's documentation shows them there.
    fn hook_object(&self, field: &'static str, object: &Map<String, Value>) -> Option<HookTarget> {
        let url = match object.get("url") {
            Some(Value::String(url)) => {
                self.check_hook_url(&format!("{field}.url"), url);
                Some(url.clone())
            }
            Some(other) => {
                self.wrong_type(&format!("{field}.url"), other, STRING);
                None
            }
            None => {
                self.wrong(&format!("{field}.url"), "is missing");
                None
            }
        };
        match object.get("method") {
            None => {}
            Some(Value::String(method)) if method.eq_ignore_ascii_case("POST") => {}
            Some(_) => self.wrong(&format!("{field}.method"), "must be \"POST\": hooks carry a JSON body"),
        }
        let mut credentials = Vec::new();
        if object.contains_key("username") || object.contains_key("password") {
            credentials.extend(self.credentials(field, object));
        }
        for name in ["basicAuth", "auth"] {
            match object.get(name) {
                None => {}
                Some(Value::Object(object)) => {
                    let field = format!("{field}.{name}");
                    self.only(&field, object, &["username", "password"]);
                    credentials.extend(self.credentials(&field, object));
                }
                Some(other) => self.wrong_type(&format!("{field}.{name}"), other, "an object"),
            }
        }
        if credentials.len() > 1 {
            self.wrong(field, "has credentials twice");
        }
        self.only(field, object, &HOOK_PROPERTIES);
        Some(HookTarget {
            url: url?,
            basic_auth: credentials.pop(),
        })
    }

    /// Nothing else stands there.
    fn only(&self, field: &str, object: &Map<String, Value>, known: &[&str]) {
        for name in object
            .keys()
            .filter(|name| !known.contains(&name.as_str()) && *name != "_")
        {
            let suggestion = spelling::suggestion(name, known.iter().copied());
            self.wrong(&join(field, name), format!("is no property of this object{suggestion}"));
        }
    }

    /// User-id and password of RFC 7617.
    fn credentials(&self, field: &str, object: &Map<String, Value>) -> Option<(String, String)> {
        let read = |name: &str| match object.get(name) {
            Some(Value::String(text)) if text.len() > CREDENTIAL_BYTES_MAX => {
                self.wrong(
                    &join(field, name),
                    format!("is longer than {CREDENTIAL_BYTES_MAX} bytes"),
                );
                None
            }
            // RFC 7617 §2: neither may hold control characters.
            Some(Value::String(text)) if !has_no_control(text) => {
                self.wrong(&join(field, name), "holds control characters");
                None
            }
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => {
                self.wrong_type(&join(field, name), other, STRING);
                None
            }
            None => {
                self.wrong(&join(field, name), "is missing");
                None
            }
        };
        let username = read("username");
        let password = read("password");
        // RFC 7617 §2: the colon ends the user-id.
        if username.as_ref().is_some_and(|username| username.contains(':')) {
            self.wrong(&join(field, "username"), "holds a colon");
        }
        username.zip(password)
    }

    fn check_hook_url(&self, field: &str, url: &str) {
        if let Err(message) = hook_url(url) {
            self.wrong(field, message);
        }
    }
}

/// An absolute http or https URL, a path, or a bare word; the last two are taken against a base.
fn hook_url(url: &str) -> Result<(), String> {
    if url.is_empty() {
        return Err("is empty".into());
    }
    if url.len() > PARTY_BYTES_MAX {
        return Err(format!("is longer than {PARTY_BYTES_MAX} bytes"));
    }
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("holds white space or control characters".into());
    }
    if url.starts_with("//") || url.starts_with('\\') {
        // RFC 3986 §4.2: this would name another host.
        return Err("is neither an http or https URL nor a path".into());
    }
    // RFC 3986 §4.2: a colon in the first segment ends a scheme.
    let first_segment = url.split(['/', '?', '#']).next().unwrap_or_default();
    if !first_segment.contains(':') {
        return Ok(());
    }
    http_url(url).map_err(|_| "is no http or https URL with a host and without credentials in it".into())
}

/// The value of a header that an application adds.
fn header_line(name: &str, value: &Value, allowed: &[&str]) -> Result<String, String> {
    if !is_token(name) {
        return Err("is no header name".into());
    }
    let is_one_of = |names: &[&str]| names.iter().any(|one| name.eq_ignore_ascii_case(one));
    if is_one_of(&HEADERS_DENIED) && !is_one_of(allowed) {
        return Err("is a header that referee writes itself".into());
    }
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => Number::to_string(number),
        other => return Err(format!("is {}, must be a string or a number", type_of(other))),
    };
    if text.len() > HEADER_BYTES_MAX {
        return Err(format!("is longer than {HEADER_BYTES_MAX} bytes"));
    }
    if !has_no_control(&text) {
        return Err("holds line breaks or other control characters".into());
    }
    match fault_of(name, &text) {
        Some(fault) => Err(format!("is malformed: {fault}")),
        None => Ok(text),
    }
}

/// What is wrong with the value of a header that SIP knows: with it the message would be malformed.
fn fault_of(name: &str, value: &str) -> Option<String> {
    let message = format!(
        "OPTIONS sip:a@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nMax-Forwards: 70\r\n\
         From: <sip:a@192.0.2.1>;tag=a\r\nTo: <sip:a@192.0.2.1>\r\nCall-ID: a\r\nCSeq: 1 OPTIONS\r\n\
         {name}: {value}\r\nContent-Length: 0\r\n\r\n"
    );
    let problem = explain(message.as_bytes()).problems.into_iter().next()?;
    Some(format!("{} ({})", problem.why, problem.section))
}

fn single_entry(object: &Map<String, Value>) -> Option<(&String, &Value)> {
    let mut entries = object.iter();
    entries.next().filter(|_| entries.next().is_none())
}

fn join(path: &str, field: &str) -> String {
    let field = shown(field);
    if path.is_empty() {
        field
    } else {
        format!("{path}.{field}")
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Headers that make the request what it is, say something of a body, which it has not, or of the session, which is the parties';
/// in compact form as well (RFC 3261 §7.3.3, RFC 3515, 3892, 4028, 6665).
const HEADERS_DENIED: [&str; 37] = [
    "Via",
    "v",
    "From",
    "f",
    "To",
    "t",
    "Call-ID",
    "i",
    "CSeq",
    "Max-Forwards",
    "Route",
    "Record-Route",
    "Contact",
    "m",
    "Content-Length",
    "l",
    "Content-Type",
    "c",
    "Content-Encoding",
    "e",
    "Session-Expires",
    "x",
    "Min-SE",
    "Refer-To",
    "r",
    "Referred-By",
    "b",
    "Authorization",
    "Proxy-Authorization",
    "Event",
    "o",
    "Subscription-State",
    "Refer-Sub",
    "Require",
    "Proxy-Require",
    "Allow",
    "Target-Dialog",
];

/// What an object that names a hook may hold: where it goes, and what the verb's documentation and hooks have as the result.
const HOOK_PROPERTIES: [&str; 17] = [
    "url",
    "method",
    "username",
    "password",
    "basicAuth",
    "auth",
    "referStatus",
    "refer_status",
    "refer_reason",
    "refer_result",
    "refer_cause",
    "final_referred_call_status",
    "final_referred_call_reason",
    "event",
    "call_status",
    "eventHook",
    "statusHook",
];

const STRING: &str = "a string";

/// More are no transfer any more.
const VERBS_MAX: usize = 64;
/// As long as URLs that common servers accept.
const PARTY_BYTES_MAX: usize = 2_048;
const ID_BYTES_MAX: usize = 255;
const CREDENTIAL_BYTES_MAX: usize = 1_024;
const TAG_BYTES_MAX: usize = 16 * 1_024;
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 4 * 1_024;
/// With the rest of a request, within the 65,507 bytes that one datagram takes.
const HEADERS_BYTES_MAX: usize = 32 * 1_024;
const PAUSE_SECONDS_MAX: f64 = 3_600.0;

#[cfg(test)]
mod tests;
