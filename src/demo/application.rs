//! The application: an HTTP server that takes hooks, and the client that asks for a transfer.

use super::trace::{Column, Event, Http, Trace, What};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::vec::IntoIter;

/// The running server.
#[derive(Debug)]
pub struct Application {
    address: SocketAddr,
    trace: Trace,
    /// The path of each hook as it comes.
    pub hooks: Receiver<String>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Application {
    /// Listens on a free port of the loopback interface. `replies`: what the call hook and the actionHooks get, one after the other; after that, and
    /// where one is empty, no further verbs.
    pub fn start(trace: &Trace, replies: Vec<String>) -> io::Result<Application> {
        let replies = Arc::new(Mutex::new(replies.into_iter()));
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (told, hooks) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let (flag, record) = (Arc::clone(&stopping), trace.clone());
        let thread = thread::Builder::new()
            .name("demo-application".to_owned())
            .spawn(move || {
                for stream in listener.incoming() {
                    if flag.load(Ordering::Relaxed) {
                        return;
                    }
                    let (told, record, replies) = (told.clone(), record.clone(), Arc::clone(&replies));
                    // One thread per connection; it ends when referee closes the connection, or after PATIENCE.
                    let served = stream.map(|stream| thread::spawn(move || serve(&stream, &record, &told, &replies)));
                    drop(served);
                }
            })?;
        Ok(Application {
            address,
            trace: trace.clone(),
            hooks,
            stopping,
            thread: Some(thread),
        })
    }

    /// Where relative hooks go.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks the control API to run a verb on a call. Its answer, with the status first.
    pub fn post_verb(&self, control: SocketAddr, call_id: &str, verb: &str) -> Result<Http, String> {
        let path = format!("/v1/calls/{}/verbs", percent_encoded(call_id));
        let record = |from, to, http: &Http| {
            self.trace.add(Event {
                at: self.trace.now(),
                from,
                to,
                what: What::Http(http.clone()),
                repeat: false,
            });
        };
        let request = Http {
            start: format!("POST {path}"),
            headers: vec![("content-type".into(), "application/json".into())],
            body: verb.to_owned(),
        };
        record(Column::Application, Column::Referee, &request);
        let exchange = || -> io::Result<Option<Http>> {
            let mut stream = TcpStream::connect(control)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            // In one write: a second small one would wait for the first one's acknowledgement.
            let text = format!(
                "POST {path} HTTP/1.1\r\nHost: {control}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{verb}",
                verb.len()
            );
            stream.write_all(text.as_bytes())?;
            read_http(&mut BufReader::new(&stream))
        };
        let mut response = exchange()
            .map_err(|error| format!("the control API did not answer: {error}"))?
            .ok_or("the control API closed the connection without an answer")?;
        response.start = response
            .start
            .strip_prefix("HTTP/1.1 ")
            .unwrap_or(&response.start)
            .to_owned();
        record(Column::Referee, Column::Application, &response);
        Ok(response)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // A connection wakes the thread, which then sees the flag.
        if TcpStream::connect(self.address).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A panic of its own has been printed.
            let _ = thread.join();
        }
    }
}

/// Takes hooks on one connection until it is closed.
fn serve(stream: &TcpStream, trace: &Trace, told: &Sender<String>, replies: &Mutex<IntoIter<String>>) {
    // Without a limit it is only waited longer.
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let mut reader = BufReader::new(stream);
    while let Ok(Some(mut hook)) = read_http(&mut reader) {
        hook.start = hook.start.trim_end_matches(" HTTP/1.1").to_owned();
        let path = hook.start.split(' ').nth(1).unwrap_or_default().to_owned();
        trace.add(Event {
            at: trace.now(),
            from: Column::Referee,
            to: Column::Application,
            what: What::Http(hook),
            repeat: false,
        });
        let verbs = match path.as_str() {
            "/call" | "/action" => replies.lock().unwrap_or_else(PoisonError::into_inner).next(),
            _ => None,
        };
        let verbs = verbs.unwrap_or_default();
        if !verbs.is_empty() {
            trace.add(Event {
                at: trace.now(),
                from: Column::Application,
                to: Column::Referee,
                what: What::Http(Http {
                    start: "200 OK".to_owned(),
                    headers: Vec::new(),
                    body: format!("[{verbs}]"),
                }),
                repeat: false,
            });
        }
        let body = format!("[{verbs}]");
        let reply = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let written = (&mut &*stream).write_all(reply.as_bytes());
        if told.send(path).is_err() || written.is_err() {
            return;
        }
    }
}

/// One request or response with a Content-Length; `None`: the connection was closed.
fn read_http(reader: &mut impl BufRead) -> io::Result<Option<Http>> {
    let mut line = String::new();
    if reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut http = Http {
        start: line.trim_end().to_owned(),
        headers: Vec::new(),
        body: String::new(),
    };
    loop {
        line.clear();
        reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        http.headers
            .push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length: u64 = http
        .header("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    reader
        .by_ref()
        .take(length.min(BODY_BYTES_MAX))
        .read_to_string(&mut http.body)?;
    Ok(Some(http))
}

/// What a receiver of hooks checks: who sent it, in both forms. `Err`: which one is missing or wrong.
pub fn verify(hook: &Http, secret: &[u8], jambonz_secret: &[u8]) -> Result<(), &'static str> {
    let header = |name| hook.header(name).unwrap_or_default();
    let signed = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), hook.body);
    let given = header("webhook-signature").strip_prefix("v1,").unwrap_or_default();
    if !is_hmac(secret, &signed, &STANDARD.decode(given).unwrap_or_default()) {
        return Err("webhook-signature");
    }
    let mut parts = header("jambonz-signature").split(',');
    let time = parts
        .next()
        .and_then(|part| part.strip_prefix("t="))
        .unwrap_or_default();
    let given = parts
        .next()
        .and_then(|part| part.strip_prefix("v1="))
        .unwrap_or_default();
    if !is_hmac(jambonz_secret, &format!("{time}.{}", hook.body), &from_hex(given)) {
        return Err("jambonz-signature");
    }
    Ok(())
}

fn is_hmac(key: &[u8], text: &str, given: &[u8]) -> bool {
    Hmac::<Sha256>::new_from_slice(key).is_ok_and(|mut mac| {
        mac.update(text.as_bytes());
        mac.verify_slice(given).is_ok()
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map_while(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// A path segment (RFC 3986 §3.3).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// Beyond the length of any scenario.
const PATIENCE: Duration = Duration::from_secs(10);
/// Above any header line that referee writes.
const LINE_BYTES_MAX: u64 = 8 * 1024;
const BODY_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Http {
        read_http(&mut text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_hook_is_read_to_its_length() {
        let hook = read("POST /event HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}POST");
        assert_eq!(
            (hook.start.as_str(), hook.body.as_str()),
            ("POST /event HTTP/1.1", "{}")
        );
        assert_eq!(hook.header("host"), Some("a"));
        assert_eq!(read_http(&mut "".as_bytes()).unwrap(), None);
    }

    // The vectors that the signing side is tested with.
    #[test]
    fn only_what_was_signed_is_accepted() {
        let mut hook = read(concat!(
            "POST /event HTTP/1.1\r\n",
            "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\r\n",
            "webhook-timestamp: 1614265330\r\n",
            "webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\r\n",
            "Content-Length: 20\r\n\r\n",
            r#"{"test": 2432232314}"#
        ));
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(verify(&hook, &secret, b"secret"), Err("jambonz-signature"));
        assert_eq!(verify(&hook, b"other", b"secret"), Err("webhook-signature"));
        hook.body.push(' ');
        assert_eq!(verify(&hook, &secret, b"secret"), Err("webhook-signature"));

        let text = format!("1700000000.{}", r#"{"a":1}"#);
        let given = from_hex("49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686");
        assert!(is_hmac(b"secret", &text, &given) && !is_hmac(b"secret", &text, &given[1..]));
    }

    #[test]
    fn a_call_id_fits_into_a_path() {
        assert_eq!(percent_encoded("a-1@127.0.0.1/x"), "a-1%40127.0.0.1%2Fx");
    }
}
