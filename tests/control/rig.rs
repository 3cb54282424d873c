//! Two shards played by the test, the control API before them, and its client.

use referee::command::{CallView, Command, Refusal, Reply, TransferView};
use referee::config;
use referee::identifiers::{CallId, TransferId};
use referee::io::control::{self, Busy, Control, Events, Replies, Shards};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// Far more than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn accepted(transfer: u64) -> Reply {
    Reply::Accepted {
        call: CallId { shard: 0, number: 1 },
        transfer: Some(TransferId {
            shard: 0,
            number: transfer,
        }),
    }
}

pub fn refused(status: u16, code: &'static str) -> Reply {
    Reply::Refused(Refusal {
        status,
        code,
        field: None,
        detail: "No.".to_owned(),
    })
}

pub fn call_view(id: &str) -> CallView {
    CallView {
        id: id.to_owned(),
        call_id: "abc".to_owned(),
        state: "in-progress",
        from: "sip:a@x".to_owned(),
        to: "sip:b@x".to_owned(),
        from_trunk: "carrier".to_owned(),
        to_trunk: "platform".to_owned(),
        created_at: 1,
        answered_at: Some(2),
        transfer: None,
        customer_data: serde_json::Map::new(),
    }
}

pub fn transfer_view(created_at: u64) -> TransferView {
    TransferView {
        id: "transfer-x".to_owned(),
        call: "call-x".to_owned(),
        call_id: "abc".to_owned(),
        state: "done",
        verb_id: None,
        refer_to: "sip:c@x".to_owned(),
        referred_by: "sip:a@x".to_owned(),
        refer_status: Some(202),
        final_referred_call_status: Some(200),
        refer_result: Some("success"),
        refer_cause: Some("notify_final"),
        events: vec![100, 180, 200],
        late_status: None,
        created_at,
        ended_at: None,
    }
}

/// Two shards played by the test, and the API before them.
pub struct Rig {
    pub control: Control,
    pub asked: Receiver<Asked>,
    pub full: Arc<Mutex<bool>>,
    pub events: Events,
}

/// A command that reached a shard.
pub struct Asked {
    pub shard: u16,
    pub ticket: u64,
    pub command: Command,
    pub replies: Replies,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "shard {}: {:?}", self.shard, self.command)
    }
}

impl Asked {
    pub fn answer(&self, reply: Reply) {
        self.replies.reply(self.ticket, reply);
    }
}

struct Played {
    asked: Mutex<Sender<Asked>>,
    replies: Replies,
    full: Arc<Mutex<bool>>,
}

impl Shards for Played {
    fn count(&self) -> u16 {
        2
    }

    fn owner(&self, _: &[u8]) -> u16 {
        0
    }

    fn send(&self, shard: u16, ticket: u64, command: Command) -> Result<(), Busy> {
        if shard == 1 && *self.full.lock().unwrap() {
            return Err(Busy);
        }
        let replies = self.replies.clone();
        let asked = Asked {
            shard,
            ticket,
            command,
            replies,
        };
        self.asked.lock().unwrap().send(asked).map_err(|_| Busy)
    }
}

impl Rig {
    pub fn start() -> Rig {
        Rig::with_token(None)
    }

    pub fn with_token(token: Option<&str>) -> Rig {
        Rig::with(config::Control {
            token: token.map(str::to_owned),
            ..config::Control::default()
        })
    }

    pub fn with(mut config: config::Control) -> Rig {
        let (sender, asked) = mpsc::channel();
        let (replies, full) = (Replies::new(), Arc::new(Mutex::new(false)));
        let shards = Played {
            asked: Mutex::new(sender),
            replies: replies.clone(),
            full: Arc::clone(&full),
        };
        config.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let metrics = Arc::new(|| "referee_up 1\n".to_owned());
        let (events, heard) = control::events(&config);
        let control = Control::start(&config, Arc::new(shards), replies, heard, metrics).unwrap();
        Rig {
            control,
            asked,
            full,
            events,
        }
    }

    /// Sends a request and reads its answer in a thread, so that the test can be the shard meanwhile.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> JoinHandle<Answer> {
        let mut stream = TcpStream::connect(self.control.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A server that refuses a large body closes while it is still being written.
        let _ = stream.write_all(request(method, path, headers, body).as_bytes());
        thread::spawn(move || Answer::read(stream))
    }

    pub fn get(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask(method, path, headers, body).join().unwrap()
    }

    /// Asks with HEAD and makes sure that nothing follows the head.
    pub fn head(&self, path: &str) -> Answer {
        let mut stream = TcpStream::connect(self.control.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request("HEAD", path, &[], "").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "");
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: String::new(),
        }
    }

    pub fn asked(&self) -> Asked {
        self.asked.recv_timeout(PATIENCE).expect("a command")
    }

    pub fn asks_nothing(&self) {
        if let Ok(asked) = self.asked.try_recv() {
            panic!("unexpected: {asked:?}");
        }
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    if headers.iter().all(|(name, _)| *name != "Host") {
        text.push_str("Host: localhost\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    format!("{text}\r\n{body}")
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn read(stream: TcpStream) -> Answer {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(
                reader.read_line(&mut head).expect("an answer"),
                0,
                "closed after {head:?}"
            );
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer {
            status,
            head,
            body: String::new(),
        };
        let length = answer.header("content-length").parse().unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.header("content-type")),
            (status, "application/problem+json"),
            "{}",
            self.body
        );
        let body = self.json();
        assert_eq!((&body["status"], &body["code"]), (&json!(status), &json!(code)));
        assert!(body["title"].is_string() && body["detail"].is_string() && body["type"].is_string());
    }
}
