//! A peer that asks for credentials before it takes a request (RFC 3261 §22, RFC 7616, RFC 8760), and judges them. It works the
//! digests out by itself.

use super::text::Text;
use crate::timer::Instant;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};
use std::collections::BTreeMap;

/// What is asked for, and what was shown.
#[derive(Clone, Debug)]
pub struct Gate {
    /// 401 or 407.
    pub code: u16,
    pub realm: String,
    pub username: String,
    pub password: String,
    /// The algorithm of each challenge, in order; an empty one is not named.
    pub algorithms: Vec<String>,
    pub qop: Option<String>,
    pub userhash: bool,
    /// Requests that a nonce is good for; what comes with it after that is stale.
    pub uses: usize,
    /// Good credentials are refused all the same, as stale or as wrong.
    pub refuses: Option<Refuses>,
    /// Methods that pass without credentials.
    pub lets_pass: Vec<String>,
    /// From then on everything passes.
    pub until: Option<Instant>,
    /// Methods of requests that had good credentials, in order.
    pub passed: Vec<String>,
    /// The numbers that came with each nonce, and the branches that had them.
    nonces: BTreeMap<String, BTreeMap<u32, String>>,
}

/// What is said of good credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuses {
    AsStale,
    AsWrong,
}

/// A request at the gate.
#[derive(Debug)]
pub struct Judged {
    /// The header lines of the challenge; `None`: it passes.
    pub challenge: Option<Vec<(String, String)>>,
    /// What is wrong with its credentials.
    pub faults: Vec<String>,
}

impl Gate {
    /// One that asks for SHA-256, or else MD5.
    pub fn new(code: u16, realm: &str, username: &str, password: &str) -> Gate {
        Gate {
            code,
            realm: realm.into(),
            username: username.into(),
            password: password.into(),
            algorithms: vec!["SHA-256".into(), "MD5".into()],
            qop: Some("auth".into()),
            userhash: false,
            uses: usize::MAX,
            refuses: None,
            lets_pass: Vec::new(),
            until: None,
            passed: Vec::new(),
            nonces: BTreeMap::new(),
        }
    }

    /// Looks at a request. Neither ACK nor CANCEL is ever challenged (RFC 3261 §22.1).
    pub fn judge(&mut self, request: &Text, now: Instant) -> Judged {
        let method = request.method();
        let mut judged = Judged {
            challenge: None,
            faults: Vec::new(),
        };
        let is_open = self.until.is_some_and(|until| until <= now);
        if matches!(method, "ACK" | "CANCEL") || is_open || self.lets_pass.iter().any(|passes| passes == method) {
            return judged;
        }
        let shown = self.shown(request);
        let mut is_stale = false;
        if let Some(shown) = &shown {
            is_stale = match self.fault(request, shown) {
                Ok(is_stale) => is_stale,
                Err(fault) => {
                    judged.faults.push(fault);
                    false
                }
            };
            let is_good = judged.faults.is_empty() && !is_stale;
            match self.refuses {
                Some(refuses) => is_stale |= refuses == Refuses::AsStale,
                None if is_good => {
                    self.passed.push(method.to_owned());
                    return judged;
                }
                None => {}
            }
        }
        judged.challenge = Some(self.challenge(is_stale));
        judged
    }

    /// The lines with credentials for this realm that a request has.
    pub fn lines<'a>(&self, request: &'a Text) -> Vec<&'a str> {
        let name = self.header();
        let lines = request.headers.iter().filter(|(of, _)| of == name);
        let is_for_this = |value: &&str| params(value).get("realm").is_some_and(|realm| *realm == self.realm);
        lines.map(|(_, value)| value.as_str()).filter(is_for_this).collect()
    }

    fn header(&self) -> &'static str {
        if self.code == 401 {
            "Authorization"
        } else {
            "Proxy-Authorization"
        }
    }

    fn shown(&self, request: &Text) -> Option<BTreeMap<String, String>> {
        let lines = self.lines(request);
        let mut shown = lines.iter().map(|line| params(line));
        shown.find(|shown| {
            let username = shown.get("username");
            username == Some(&self.username) || shown.contains_key("userhash")
        })
    }

    /// Whether the nonce of good credentials is stale; what is wrong with others.
    fn fault(&mut self, request: &Text, shown: &BTreeMap<String, String>) -> Result<bool, String> {
        let of = |name: &str| shown.get(name).map_or("", String::as_str);
        let label = request.label();
        if self.lines(request).len() != 1 {
            return Err(format!("`{label}` has credentials twice"));
        }
        if of("uri") != request.request_uri() {
            return Err(format!("`{label}` has credentials for `{}`", of("uri")));
        }
        let algorithm = of("algorithm");
        if !self.algorithms.iter().any(|known| known == algorithm) {
            return Err(format!(
                "`{label}` has the algorithm `{algorithm}`, which was not offered"
            ));
        }
        let username = match of("userhash") {
            "true" => hash(algorithm, &format!("{}:{}", self.username, self.realm)),
            _ => self.username.clone(),
        };
        if of("username") != username || (of("userhash") == "true") != self.userhash {
            return Err(format!("`{label}` has the user `{}`", of("username")));
        }
        if of("opaque") != format!("o-{}", of("nonce")) {
            return Err(format!("`{label}` has another opaque than its nonce"));
        }
        let expected = self.response(request, shown);
        if of("response") != expected {
            return Err(format!(
                "`{label}` has the response `{}`, not `{expected}`",
                of("response")
            ));
        }
        let Some(used) = self.nonces.get_mut(of("nonce")) else {
            return Err(format!("`{label}` has a nonce that was never given out"));
        };
        let count = match self.qop {
            None => used.len() as u32 + 1,
            Some(_) if of("nc").len() == 8 => u32::from_str_radix(of("nc"), 16).unwrap_or_default(),
            Some(_) => 0,
        };
        // A peer that has crashed in between looks at a repeat as at a new one.
        let branch = used.entry(count).or_insert_with(|| request.branch());
        if count == 0 || *branch != request.branch() {
            return Err(format!("`{label}` has the nc `{}` after {used:?}", of("nc")));
        }
        Ok(used.len() > self.uses)
    }

    fn response(&self, request: &Text, shown: &BTreeMap<String, String>) -> String {
        let of = |name: &str| shown.get(name).map_or("", String::as_str);
        let hash = |text: &str| hash(of("algorithm"), text);
        let (nonce, cnonce, qop) = (of("nonce"), of("cnonce"), of("qop"));
        let mut key = hash(&format!("{}:{}:{}", self.username, self.realm, self.password));
        if of("algorithm").ends_with("-sess") {
            key = hash(&format!("{key}:{nonce}:{cnonce}"));
        }
        let mut of_request = format!("{}:{}", request.method(), of("uri"));
        if qop == "auth-int" {
            of_request = format!("{of_request}:{}", hash(&request.body));
        }
        match &self.qop {
            None => hash(&format!("{key}:{nonce}:{}", hash(&of_request))),
            Some(_) => hash(&format!(
                "{key}:{nonce}:{}:{cnonce}:{qop}:{}",
                of("nc"),
                hash(&of_request)
            )),
        }
    }

    fn challenge(&mut self, is_stale: bool) -> Vec<(String, String)> {
        let nonce = format!("{}-n{}", self.realm, self.nonces.len() + 1);
        let mut rest = format!("nonce=\"{nonce}\", opaque=\"o-{nonce}\"");
        if let Some(qop) = &self.qop {
            rest += &format!(", qop=\"{qop}\"");
        }
        for (is_there, parameter) in [(is_stale, ", stale=true"), (self.userhash, ", userhash=true")] {
            rest += if is_there { parameter } else { "" };
        }
        let name = if self.code == 401 {
            "WWW-Authenticate"
        } else {
            "Proxy-Authenticate"
        };
        let line = |algorithm: &String| {
            let algorithm = match algorithm.as_str() {
                "" => String::new(),
                named => format!(", algorithm={named}"),
            };
            (
                name.to_owned(),
                format!("Digest realm=\"{}\", {rest}{algorithm}", self.realm),
            )
        };
        let lines = self.algorithms.iter().map(line).collect();
        self.nonces.insert(nonce, BTreeMap::new());
        lines
    }
}

fn hash(algorithm: &str, text: &str) -> String {
    let digest = match algorithm.trim_end_matches("-sess") {
        "SHA-256" => Sha256::digest(text).to_vec(),
        "SHA-512-256" => Sha512_256::digest(text).to_vec(),
        _ => Md5::digest(text).to_vec(),
    };
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The parameters of digest credentials, without quotes. None of them has a quote in it here.
fn params(value: &str) -> BTreeMap<String, String> {
    let Some(mut rest) = value.strip_prefix("Digest ") else {
        return BTreeMap::new();
    };
    let mut params = BTreeMap::new();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        params.insert(name.trim().to_owned(), value.to_owned());
        rest = after.trim_start_matches([',', ' ']);
    }
    params
}
