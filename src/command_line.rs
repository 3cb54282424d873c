//! What the command line says, put together with the file and the environment: default < file < environment < flag.
//!
//! Everything here takes and gives values; reading arguments, files and variables is left to the program.

use crate::config::{self, Config, RouteMode, Side, value};
use crate::message::explain::explain;
use crate::message::parse::MESSAGE_BYTES_MAX;
use crate::spelling::shown;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// The program did what it was told.
pub const EXIT_FINE: u8 = 0;
/// It failed while running, or the inspected message would not be forwarded.
pub const EXIT_FAILED: u8 = 1;
/// The arguments or the configuration are wrong.
pub const EXIT_USAGE: u8 = 2;
/// An address could not be bound.
pub const EXIT_BIND: u8 = 3;

/// The arguments of `referee run`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// The configuration file's name and what is in it.
    pub file: Option<(String, Vec<u8>)>,
    /// Relay every call there. Not with a file.
    pub to: Option<String>,
    /// Where to listen, over UDP and TCP each; [`DEFAULT_LISTEN`] if empty. Not with a file.
    pub listen: Vec<SocketAddr>,
    pub shards: Option<u16>,
    pub control: Option<ControlListen>,
}

/// Where the control API listens: `ADDR:PORT`, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlListen(pub Option<SocketAddr>);

impl FromStr for ControlListen {
    type Err = String;

    fn from_str(text: &str) -> Result<ControlListen, String> {
        value::control_listen(text).map(ControlListen)
    }
}

/// What to run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    pub config: Config,
    /// What the log should say before the first message: that no call leads anywhere, and what would change it.
    pub notice: Option<&'static str>,
}

/// Puts together what runs.
///
/// # Errors
///
/// One line per mistake; those of the file start with its name, the line and the column.
pub fn effective(options: &RunOptions, environment: &dyn Fn(&str) -> Option<String>) -> Result<Effective, Vec<String>> {
    if let Some(address) = options.listen.iter().find(|address| address.port() == 0) {
        return Err(vec![format!(
            "--listen {address}: port 0 is any free port, which no peer would know"
        )]);
    }
    let default_listen = [DEFAULT_LISTEN];
    let listen = if options.listen.is_empty() {
        &default_listen[..]
    } else {
        &options.listen[..]
    };
    let mut config = match (&options.file, &options.to) {
        (Some(_), Some(_)) => {
            return Err(vec![
                "--to and --config: one of them says where calls go, not both".into(),
            ]);
        }
        (Some(_), None) if !options.listen.is_empty() => {
            return Err(vec![
                "--listen and --config: the trunks of a file name the listeners of the file".into(),
            ]);
        }
        (Some((name, bytes)), None) => read(name, bytes, environment)?,
        (None, Some(to)) => Config::relay_all(listen, to).map_err(|message| vec![format!("--to: {message}")])?,
        (None, None) => Config::without_routes(listen).map_err(|message| vec![format!("--listen: {message}")])?,
    };
    let mut mistakes: Vec<String> = match config.apply_environment(environment) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    };
    if let Some(shards) = options.shards {
        if shards == 0 || shards > config::SHARDS_MAX {
            mistakes.push(format!("--shards {shards}: must be 1 to {}", config::SHARDS_MAX));
        }
        config.shards = Some(shards);
    }
    if let Some(ControlListen(listen)) = options.control {
        config.control.listen = listen;
    }
    // A token that the environment has wrong is a mistake already.
    if mistakes.is_empty() {
        mistakes.extend(config.control.problem());
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let notice = config.routes.is_empty().then_some(NO_ROUTES);
    Ok(Effective { config, notice })
}

/// `referee check`: judges a file.
///
/// # Errors
///
/// Every mistake on its line, `edge.toml:3:7: …`.
pub fn check(name: &str, bytes: &[u8], environment: &dyn Fn(&str) -> Option<String>) -> Result<String, Vec<String>> {
    read(name, bytes, environment).map(|config| format!("{name}: fine\n{}", summary(&config)))
}

/// `referee inspect`: explains a message; the exit code is [`EXIT_FINE`] if a proxy would forward it or take it as its own,
/// and [`EXIT_FAILED`] if it would refuse or drop it.
///
/// # Errors
///
/// Nothing to explain: no bytes, or more than a message has.
pub fn inspect(name: &str, bytes: &[u8]) -> Result<(String, u8), String> {
    if bytes.is_empty() {
        return Err(format!("{name}: empty"));
    }
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(format!(
            "{name}: more than {MESSAGE_BYTES_MAX} bytes, which no SIP message has (RFC 3261 §18.1.1); \
             for a capture, give one message"
        ));
    }
    let explanation = explain(bytes);
    let code = if explanation.verdict.is_good() {
        EXIT_FINE
    } else {
        EXIT_FAILED
    };
    Ok((explanation.to_string(), code))
}

fn read(name: &str, bytes: &[u8], environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<String>> {
    let parsed = config::parse::decode(bytes).map_err(|error| vec![error]);
    parsed
        .and_then(|text| config::parse(text, environment))
        .map_err(|errors| {
            let line =
                |error: &config::ConfigError| format!("{name}:{}:{}: {}", error.line, error.column, error.message);
            errors.iter().map(line).collect()
        })
}

/// Listeners, trunks, applications and routes for people, a line each. Texts of the file are cut, and on one line.
fn summary(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {arguments}");
    };
    for binds in config.binds.chunk_by(|a, b| a.listen == b.listen) {
        let addresses = list(binds.iter().map(|bind| format!("{}:{}", bind.transport, bind.address)));
        let advertise = binds[0]
            .advertise
            .as_ref()
            .map_or_else(String::new, |host| format!(", known as {host}"));
        line(format_args!(
            "listener {}: {addresses}{advertise}",
            shown(&binds[0].listen)
        ));
    }
    match config.control.listen {
        Some(address) => line(format_args!("control API: {address}")),
        None => line(format_args!("control API: off")),
    }
    for trunk in &config.trunks {
        let side = match trunk.side {
            Some(Side::Carrier) => " (carrier)",
            Some(Side::Platform) => " (platform)",
            None => "",
        };
        let or = |text: String, empty: &str| if text.is_empty() { empty.to_owned() } else { text };
        let sources = list(trunk.sources.iter().map(ToString::to_string));
        let addresses = or(
            list(trunk.addresses.iter().map(|address| shown(&address.to_string()))),
            "nowhere",
        );
        let destinations = trunk.refer.destinations.iter();
        let transfers = or(list(destinations.map(|pattern| shown(&pattern.to_string()))), "nobody");
        line(format_args!(
            "trunk {}{side} on {}: calls from {sources}, to {addresses}, transfers to {transfers}",
            shown(&trunk.name),
            shown(&trunk.listen)
        ));
    }
    for application in &config.applications {
        // What follows the path may be a secret.
        let hook = application.call_hook.split(['?', '#']).next().unwrap_or_default();
        let (name, hook) = (shown(&application.name), shown(hook));
        line(format_args!("application {name}: call hook {hook}"));
    }
    for route in &config.routes {
        let mut conditions = Vec::new();
        conditions.extend(route.matches.user.as_ref().map(|user| format!("user {}", shown(user))));
        conditions.extend(route.matches.host.as_ref().map(|host| format!("host {}", shown(host))));
        conditions.extend(
            route
                .matches
                .header
                .as_ref()
                .map(|(name, value)| format!("{}: {}", shown(name), shown(value))),
        );
        let from = shown(&config.trunk(route.from).name);
        let weighted = route.mode == RouteMode::Weighted;
        let trunks = route.to.iter();
        let trunks = trunks.map(
            |target| match (shown(&config.trunk(target.trunk).name), target.weight) {
                (name, weight) if weighted => format!("{name} ({weight})"),
                (name, _) => name,
            },
        );
        let to = match route.application {
            Some(id) => format!("application {}", shown(&config.application(id).name)),
            None => list(trunks),
        };
        let mode = match (route.to.len(), route.mode) {
            (0 | 1, _) => "",
            (_, RouteMode::Parallel) => " in parallel",
            (_, RouteMode::Sequential) => " in turn",
            (_, RouteMode::Weighted) => " by weight",
        };
        let conditions = if conditions.is_empty() {
            "all calls".to_owned()
        } else {
            conditions.join(" and ")
        };
        line(format_args!("route {from} → {to}{mode}: {conditions}"));
    }
    if config.routes.is_empty() {
        line(format_args!("no routes: new calls get 404"));
    }
    text
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<String>>().join(", ")
}

/// Where referee listens, over UDP and TCP, when nothing says where (RFC 3261 §19.1.2: the port of sip:).
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5060);

const NO_ROUTES: &str = "no calls are relayed: OPTIONS get 200, new calls get 404; say where calls go with --to HOST:PORT, \
                         or with [[trunk]] and [[route]] in a file given by --config FILE";

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[[listen]]\nname = \"l\"\nbind = [\"udp:127.0.0.1:5060\", \"tcp:127.0.0.1:5060\"]\nadvertise = \"sip.example.net\"\n\
        [[listen]]\nname = \"m\"\nbind = [\"udp:[::1]:5060\"]\n\
        [control]\nlisten = \"127.0.0.1:9000\"\ntoken = \"file\"\n\
        [[trunk]]\nname = \"a\"\nside = \"carrier\"\nlisten = \"l\"\nsources = [\"10.0.0.0/8\"]\n\
        [trunk.refer]\ndestinations = [\"+49*\", \"sip:*@example.com\", \"sips:[::1]:5061\"]\n\
        [[trunk]]\nname = \"b\"\nlisten = \"m\"\naddresses = [\"udp:[::1]:5070\"]\n\
        [[route]]\nfrom = \"a\"\nmatch = { user = \"+49*\", header = { name = \"X\", value = \"y*\" } }\nto = \"b\"\n\
        [[route]]\nfrom = \"a\"\nto = \"b\"\n";

    fn none(_: &str) -> Option<String> {
        None
    }

    fn file() -> RunOptions {
        RunOptions {
            file: Some(("edge.toml".into(), FILE.into())),
            ..RunOptions::default()
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let environment = |name: &str| match name {
            "REFEREE_CONTROL_LISTEN" => Some("127.0.0.1:9001".to_owned()),
            "REFEREE_CONTROL_TOKEN" => Some("environment".to_owned()),
            "REFEREE_SHARDS" => Some("2".to_owned()),
            _ => None,
        };
        let plain = effective(&file(), &none).unwrap().config;
        assert_eq!((plain.shards, plain.control.token.as_deref()), (None, Some("file")));
        assert_eq!(plain.control.listen, Some("127.0.0.1:9000".parse().unwrap()));
        let with_environment = effective(&file(), &environment).unwrap().config;
        assert_eq!(
            (with_environment.shards, with_environment.control.token.as_deref()),
            (Some(2), Some("environment"))
        );
        assert_eq!(with_environment.control.listen, Some("127.0.0.1:9001".parse().unwrap()));
        let options = RunOptions {
            shards: Some(3),
            control: Some("off".parse().unwrap()),
            ..file()
        };
        let with_flags = effective(&options, &environment).unwrap().config;
        assert_eq!((with_flags.shards, with_flags.control.listen), (Some(3), None));
    }

    #[test]
    fn without_file_and_peer_no_call_is_relayed_and_the_log_says_so() {
        let Effective { config, notice } = effective(&RunOptions::default(), &none).unwrap();
        let binds: Vec<String> = config
            .binds
            .iter()
            .map(|bind| format!("{}:{}", bind.transport, bind.address))
            .collect();
        assert_eq!(binds, ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"]);
        assert!(config.trunks.is_empty() && config.routes.is_empty());
        assert!(notice.unwrap().contains("--to HOST:PORT"));
        assert_eq!(effective(&file(), &none).unwrap().notice, None);
    }

    #[test]
    fn a_peer_alone_is_enough() {
        let options = RunOptions {
            to: Some("127.0.0.1:5070".into()),
            listen: vec!["127.0.0.1:5060".parse().unwrap()],
            ..RunOptions::default()
        };
        let Effective { config, notice } = effective(&options, &none).unwrap();
        assert_eq!(
            (config.binds.len(), config.trunks.len(), config.routes.len(), notice),
            (2, 2, 1, None)
        );
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let address: SocketAddr = "10.0.0.1:8080".parse().unwrap();
        let cases = [
            (
                RunOptions {
                    to: Some("a".into()),
                    ..file()
                },
                "not both",
            ),
            (
                RunOptions {
                    listen: vec![address],
                    ..file()
                },
                "listeners of the file",
            ),
            (
                RunOptions {
                    shards: Some(0),
                    ..file()
                },
                "--shards 0",
            ),
            (
                RunOptions {
                    to: Some("a:b".into()),
                    ..RunOptions::default()
                },
                "--to: ",
            ),
            (
                RunOptions {
                    listen: vec![address, address],
                    ..RunOptions::default()
                },
                "--listen: ",
            ),
            (
                RunOptions {
                    listen: vec!["10.0.0.1:0".parse().unwrap()],
                    ..RunOptions::default()
                },
                "port 0",
            ),
            (
                RunOptions {
                    control: Some(ControlListen(Some(address))),
                    ..RunOptions::default()
                },
                "without a token",
            ),
        ];
        for (options, part) in cases {
            let mistakes = effective(&options, &none).unwrap_err();
            assert!(
                mistakes.len() == 1 && mistakes[0].contains(part),
                "{part}: {mistakes:?}"
            );
        }
        let mistakes = effective(&file(), &|name| (name == "REFEREE_SHARDS").then(|| "many".into())).unwrap_err();
        assert_eq!(mistakes, ["REFEREE_SHARDS: `many` is no number from 1 to 256"]);
        assert!("nowhere".parse::<ControlListen>().is_err());
    }

    #[test]
    fn a_good_file_is_summed_up() {
        let expected = "edge.toml: fine
  listener l: udp:127.0.0.1:5060, tcp:127.0.0.1:5060, known as sip.example.net
  listener m: udp:[::1]:5060
  control API: 127.0.0.1:9000
  trunk a (carrier) on l: calls from 10.0.0.0/8, to nowhere, transfers to +49*, sip:*@example.com, sips:[::1]:5061
  trunk b on m: calls from ::1/128, to udp:[::1]:5070, transfers to nobody
  route a → b: user +49* and X: y*
  route a → b: all calls
";
        assert_eq!(check("edge.toml", FILE.as_bytes(), &none).as_deref(), Ok(expected));
    }

    #[test]
    fn an_application_is_summed_up_with_the_hook_that_leads_its_calls() {
        let text = "[[listen]]\nname = \"l\"\nbind = [\"udp:127.0.0.1:5060\"]\n\
            [[trunk]]\nname = \"callers\"\nlisten = \"l\"\nsources = [\"10.0.0.0/8\"]\n\
            [[application]]\nname = \"ivr\"\ncall_hook = \"https://app.example.com/call?key=hush\"\n\
            [[route]]\nfrom = \"callers\"\nmatch = { user = \"USER\" }\napplication = \"ivr\"\n";
        let summed = |user: &str| check("e", text.replace("USER", user).as_bytes(), &none).unwrap();
        let expected = "e: fine
  listener l: udp:127.0.0.1:5060
  control API: 127.0.0.1:8080
  trunk callers on l: calls from 10.0.0.0/8, to nowhere, transfers to nobody
  application ivr: call hook https://app.example.com/call
  route callers → application ivr: user ivr*
";
        assert_eq!(summed("ivr*"), expected);
        let hostile = summed(&format!("\\u001b[2J{}", "9".repeat(100)));
        assert_eq!(
            hostile.lines().last().unwrap(),
            format!(
                "  route callers → application ivr: user \\u{{1b}}[2J{}…",
                "9".repeat(55)
            )
        );
    }

    #[test]
    fn a_message_is_inspected_and_the_code_says_whether_it_would_go_on() {
        let options = "OPTIONS sip:b@b.example SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\n\
            Call-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n";
        let (text, code) = inspect("-", options.as_bytes()).unwrap();
        assert!(
            code == EXIT_FINE && text.contains("A proxy would: forward it"),
            "{text}"
        );
        let (text, code) = inspect("-", options.replace("SIP/2.0\r\n", "SIP/7.0\r\n").as_bytes()).unwrap();
        assert!(code == EXIT_FAILED && text.contains("answer 505"), "{text}");
        assert_eq!(inspect("f", b"").unwrap_err(), "f: empty");
        let too_large = inspect("f", &[b'x'; MESSAGE_BYTES_MAX + 1]).unwrap_err();
        assert!(too_large.starts_with("f: more than 65535 bytes"));
        assert_eq!(inspect("f", &[b'x'; MESSAGE_BYTES_MAX]).unwrap().1, EXIT_FAILED);
    }

    #[test]
    fn each_mistake_of_a_bad_file_has_a_line() {
        let text = "[[listen]]\nname = \"l\"\nbind = [\"udp:nowhere\"]\n[limit]\n";
        assert_eq!(
            check("edge.toml", text.as_bytes(), &none).unwrap_err(),
            [
                "edge.toml:3:9: `nowhere` is no IP address with a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
                "edge.toml:4:2: unknown key `limit`; did you mean `limits`?"
            ]
        );
        assert_eq!(
            check("e", b"a = 1\n\xff", &none).unwrap_err(),
            ["e:2:1: this is not UTF-8 text"]
        );
        let options = RunOptions {
            file: Some(("edge.toml".into(), text.into())),
            ..RunOptions::default()
        };
        assert_eq!(effective(&options, &none).unwrap_err().len(), 2);
    }
}
