//! What a SIP proxy carries: caller and answerer of many calls over UDP on loopback, with the proxy between them.
//!
//! Calls start at a fixed rate whatever becomes of them (an open loop). Every message is checked against the transaction
//! and the dialog it belongs to; requests within a dialog follow the Record-Route of the proxy. The result is one line of
//! JSON on standard output.
//!
//! `cargo bench --bench loopback -- --test`, or no proxy named, runs a few hundred calls of each kind through a proxy in
//! this process and fails if one of them is not perfect. Against a proxy that runs:
//!
//! ```sh
//! loopback --proxy 127.0.0.1:5060 --answerer 127.0.0.1:5070 --mode invite --rate 5000 --seconds 5
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "the ban on sockets and clocks is meant for the core"
)]

use clap::Parser;
use referee::config::Config;
use referee::io::udp::mmsg::{Receiver, Sender};
use referee::transport::Transport;
use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[path = "loopback/calls.rs"]
mod calls;
#[path = "loopback/received.rs"]
mod received;
#[path = "loopback/write.rs"]
mod write;

use calls::{Calls, Counts, Mode};
use write::{Party, Writer};

#[derive(Debug, Clone, Parser)]
struct Options {
    /// The proxy; without it, a quick check with one in this process.
    #[arg(long)]
    proxy: Option<SocketAddr>,
    /// Where the proxy sends calls.
    #[arg(long, default_value = "127.0.0.1:15070")]
    answerer: SocketAddr,
    /// Where calls come from.
    #[arg(long, default_value = "127.0.0.1:15080")]
    caller: SocketAddr,
    #[arg(long, value_enum, default_value_t = Mode::Invite)]
    mode: Mode,
    /// Who sends the REFER.
    #[arg(long, value_enum, default_value_t = Party::Callee)]
    refer_by: Party,
    /// Calls per second.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// How long calls are started.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds at the start that CPU time and messages of the window do not count.
    #[arg(long, default_value_t = 0.0)]
    warm_up: f64,
    /// Process ids whose CPU time over the window is reported.
    #[arg(long, value_delimiter = ',')]
    watch: Vec<u32>,
    /// Establish so many calls and keep them; after a line on standard input go on to the next number, at last end all.
    #[arg(long, value_delimiter = ',')]
    hold: Vec<u64>,
    /// The quick check.
    #[arg(long)]
    test: bool,
    /// What `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match options.proxy {
        Some(proxy) if !options.test && options.hold.is_empty() => measure(&options, proxy),
        Some(proxy) if !options.test => hold(&options, proxy),
        _ => quick_check(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loopback: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Calls at a rate for a time.
fn measure(options: &Options, proxy: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut driver = Driver::new(options, proxy)?;
    let micros = |seconds: f64| (seconds.max(0.0) * 1e6) as u64;
    driver.start_calls(options.rate, u64::MAX, micros(options.warm_up));
    let before = Mark::of(&driver, &options.watch)?;
    driver.start_calls(options.rate, u64::MAX, micros(options.seconds));
    let after = Mark::of(&driver, &options.watch)?;
    driver.finish();
    println!("{}", driver.report(before, after).json(options));
    Ok(())
}

/// Calls that are kept open.
fn hold(options: &Options, proxy: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut driver = Driver::new(options, proxy)?;
    for &number in &options.hold {
        driver.start_calls(options.rate, number, u64::MAX);
        let answered_by = driver.now() + FINISH_WITHIN;
        while driver.calls.counts.answered + driver.calls.counts.failed < number && driver.now() < answered_by {
            driver.turn();
        }
        let Counts { answered, failed, .. } = driver.calls.counts;
        println!("{{\"held\":{},\"failed\":{failed}}}", answered);
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
    }
    let (start, total) = (driver.now(), driver.calls.counts.started);
    let mut ended = 0;
    while ended < total {
        let due = ((driver.now() - start) as f64 * options.rate / 1e6) as u64;
        while ended < due.min(total) {
            ended += 1;
            let now = driver.now();
            driver.calls.hang_up(ended, now);
        }
        driver.turn();
    }
    driver.finish();
    let Counts { completed, failed, .. } = driver.calls.counts;
    println!("{{\"ended\":{completed},\"failed\":{failed}}}");
    Ok(())
}

/// Some hundred calls of every kind through a proxy in this process; nothing may go wrong.
fn quick_check() -> Result<(), Box<dyn Error>> {
    let cases = [
        (Mode::Invite, Party::Callee),
        (Mode::Refer, Party::Callee),
        (Mode::Refer, Party::Caller),
        (Mode::Options, Party::Callee),
    ];
    for (mode, refer_by) in cases {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        // The answerer's port must be known before the proxy starts.
        let answerer = UdpSocket::bind(any)?.local_addr()?;
        let mut config = Config::relay_all(&[any], &answerer.to_string())?;
        config.shards = Some(1);
        config.control.listen = None;
        let running = referee::io::start(config)?;
        let proxy = running
            .addresses()
            .iter()
            .find(|bind| bind.transport == Transport::Udp)
            .ok_or("no UDP")?;
        let options = Options {
            proxy: Some(proxy.address),
            answerer,
            caller: any,
            mode,
            refer_by,
            rate: 500.0,
            seconds: 1.0,
            warm_up: 0.0,
            watch: Vec::new(),
            hold: Vec::new(),
            test: true,
            bench: false,
        };
        let mut driver = Driver::new(&options, proxy.address)?;
        let before = Mark::of(&driver, &[])?;
        driver.start_calls(options.rate, CHECKED_CALLS, u64::MAX);
        let after = Mark::of(&driver, &[])?;
        driver.finish();
        running.finish(Duration::ZERO)?;
        let report = driver.report(before, after);
        println!("{}", report.json(&options));
        // On a busy machine something may be late and sent again; wrong it may not be.
        let Counts {
            completed, unexpected, ..
        } = report.counts;
        if completed != CHECKED_CALLS || unexpected > 0 {
            return Err(format!("{mode:?}: {:?}", report.counts).into());
        }
    }
    Ok(())
}

/// Calls of each kind in the quick check.
const CHECKED_CALLS: u64 = 300;

/// Both sockets and the calls on them.
struct Driver {
    epoch: Instant,
    sockets: [UdpSocket; 2],
    proxy: SocketAddr,
    receiver: Receiver,
    sender: Sender,
    calls: Calls,
    /// Datagrams sent, all of them to the proxy.
    sent: u64,
    /// Datagrams from anyone but the proxy.
    strangers: u64,
    /// The longest time between two turns: how long the machine held the generator up.
    longest_pause: u64,
    last_turn: u64,
    busy: u64,
}

/// How long open calls may take once no more are started.
const FINISH_WITHIN: u64 = 10_000_000;

/// A generator that was held up longer than this does not make up for it: no carrier would send the burst.
const CATCH_UP_MAX: u64 = 5_000;

/// Batches received from one socket before the other has its turn.
const BATCHES_PER_TURN: usize = 4;

impl Driver {
    fn new(options: &Options, proxy: SocketAddr) -> Result<Driver, Box<dyn Error>> {
        let caller = referee::io::udp::open(options.caller, false)?;
        let callee = referee::io::udp::open(options.answerer, false)?;
        let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let run = run.subsec_nanos() ^ run.as_secs() as u32 ^ std::process::id().rotate_left(16);
        let writer = Writer::new(caller.local_addr()?, callee.local_addr()?, run);
        let room = match options.hold.iter().max() {
            Some(held) => *held as usize + 1,
            None => ROOM,
        };
        let mut calls = Calls::new(
            writer,
            options.mode,
            options.refer_by,
            proxy,
            !options.hold.is_empty(),
            room,
        );
        let expected = options.rate * (options.seconds + options.warm_up) + 1.0;
        calls.setup_times.reserve((expected as usize).min(1 << 24));
        Ok(Driver {
            epoch: Instant::now(),
            sockets: [caller, callee],
            proxy,
            receiver: Receiver::new(),
            sender: Sender::new(),
            calls,
            sent: 0,
            strangers: 0,
            longest_pause: 0,
            last_turn: 0,
            busy: 0,
        })
    }

    /// Microseconds since the start.
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// Starts calls at `rate` per second for `time` microseconds or until `total` are started.
    fn start_calls(&mut self, rate: f64, total: u64, time: u64) {
        let gap = 1e6 / rate;
        let start = self.now();
        let mut due = start as f64;
        loop {
            let now = self.now();
            if now - start >= time || self.calls.counts.started >= total {
                return;
            }
            due = due.max(now.saturating_sub(CATCH_UP_MAX) as f64);
            while due <= now as f64 && self.calls.counts.started < total {
                self.calls.start(now);
                due += gap;
            }
            self.turn();
        }
    }

    /// Lets open calls end.
    fn finish(&mut self) {
        let end = self.now() + FINISH_WITHIN;
        while self.calls.active() > 0 && self.now() < end {
            self.turn();
        }
        self.calls.counts.failed += self.calls.active();
    }

    /// Receives a batch from either socket, sends what came of it.
    fn turn(&mut self) {
        let begin = self.now();
        self.longest_pause = self.longest_pause.max(begin - self.last_turn);
        self.last_turn = begin;
        let mut work = self.flush();
        for party in Party::BOTH {
            for _ in 0..BATCHES_PER_TURN {
                let Ok(count) = self.receiver.receive(self.sockets[party as usize].as_fd()) else {
                    break;
                };
                work = true;
                let now = self.epoch.elapsed().as_micros() as u64;
                for i in 0..count {
                    match self.receiver.datagram(i) {
                        Some((bytes, from)) if from == self.proxy => self.calls.on_datagram(party, bytes, now),
                        _ => self.strangers += 1,
                    }
                }
                if count < referee::io::udp::mmsg::RECEIVE_BATCH {
                    break;
                }
            }
            work |= self.flush();
        }
        self.calls.on_time(begin);
        if work {
            self.busy += self.now() - begin;
        }
    }

    fn flush(&mut self) -> bool {
        let mut work = false;
        for party in Party::BOTH {
            let socket = self.sockets[party as usize].as_fd();
            let out = &mut self.calls.out[party as usize];
            let mut done = 0;
            while done < out.datagrams.len() {
                work = true;
                let rest = out.datagrams[done..]
                    .iter()
                    .map(|range| (&out.bytes[range.clone()], self.proxy, None));
                match self.sender.send(socket, rest) {
                    Ok(sent) => {
                        done += sent;
                        self.sent += sent as u64;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // The proxy is not there: the loss shows as a retransmission.
                    Err(_) => done += 1,
                }
            }
            out.clear();
        }
        work
    }

    fn report(mut self, before: Mark, after: Mark) -> Report {
        self.calls.setup_times.sort_unstable();
        let times = &self.calls.setup_times;
        let percentile = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        let mut counts = self.calls.counts;
        counts.unexpected += self.strangers;
        Report {
            counts,
            messages: self.sent,
            seconds: (after.at - before.at) as f64 / 1e6,
            window_started: after.started - before.started,
            window_messages: after.sent - before.sent,
            window_cpu_micros: after.cpu_micros - before.cpu_micros,
            busy: (after.busy - before.busy) as f64 / (after.at - before.at).max(1) as f64,
            longest_pause: self.longest_pause,
            setup: [percentile(50), percentile(99)],
        }
    }
}

/// Calls at a time without `--hold`: at 10,000 a second some six seconds' worth of calls that get no answer.
const ROOM: usize = 1 << 16;

/// Where things stand at one end of the window.
struct Mark {
    at: u64,
    sent: u64,
    started: u64,
    busy: u64,
    cpu_micros: u64,
}

impl Mark {
    fn of(driver: &Driver, watch: &[u32]) -> Result<Mark, Box<dyn Error>> {
        let mut ticks = 0;
        for process in watch {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
            // proc(5): fields 14 and 15, user and system time; the name, field 2, may hold spaces.
            let after_name = stat.rsplit_once(')').ok_or("no stat")?.1;
            let times = after_name.split_whitespace().skip(11).take(2);
            for time in times {
                ticks += time.parse::<u64>()?;
            }
        }
        Ok(Mark {
            at: driver.now(),
            sent: driver.sent,
            started: driver.calls.counts.started,
            busy: driver.busy,
            // Linux counts 100 ticks a second towards user space on every common architecture.
            cpu_micros: ticks * 10_000,
        })
    }
}

/// What a run came to.
struct Report {
    counts: Counts,
    messages: u64,
    seconds: f64,
    window_started: u64,
    window_messages: u64,
    window_cpu_micros: u64,
    busy: f64,
    longest_pause: u64,
    setup: [u32; 2],
}

impl Report {
    fn json(&self, options: &Options) -> String {
        let Report { counts, setup, .. } = self;
        serde_json::json!({
            "mode": format!("{:?}", options.mode).to_lowercase(),
            "offered": options.rate,
            "rate": (self.window_started as f64 / self.seconds * 10.0).round() / 10.0,
            "started": counts.started,
            "completed": counts.completed,
            "failed": counts.failed,
            "retransmissions": counts.retransmissions,
            "repeats": counts.repeats,
            "unexpected": counts.unexpected,
            "messages": self.messages,
            "window_messages": self.window_messages,
            "window_cpu_us": self.window_cpu_micros,
            "setup_p50_us": setup[0],
            "setup_p99_us": setup[1],
            "generator_busy": (self.busy * 100.0).round() / 100.0,
            "generator_longest_pause_us": self.longest_pause,
        })
        .to_string()
    }
}
