//! What outsiders send: requests from nowhere, messages in the name of others, recorded ones, bytes that are none.
//!
//! Each is wrong in one way at least by which referee can tell, since what cannot be told from the true thing is one.

use super::super::World;
use super::super::dice::Dice;
use super::super::peer::text::Text;
use super::super::tally::Fault;
use super::setting::Member;
use std::net::SocketAddr;

/// An address that is no trunk's.
const NOWHERE: &str = "192.0.2.66:5060";

/// Somebody sends something.
pub fn outsider(world: &mut World, dice: &mut Dice, members: &[Member]) {
    let member = &members[dice.below(members.len() as u64) as usize];
    let number = dice.below(1 << 40);
    let (to, address) = (socket(member.referee), world.peer(member.id).address);
    let nowhere = socket(NOWHERE);
    let uri = format!("sip:+4930123456@{to}");
    let alone = |method: &str, from: SocketAddr| {
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-forged-{number};rport\r\nMax-Forwards: 70\r\n\
            From: <sip:x@{from}>;tag=f{number}\r\nTo: <{uri}>\r\nCall-ID: forged-{number}@{from}\r\nCSeq: 1 {method}\r\n\
            Contact: <sip:x@{from}>\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let methods = [
        "INVITE", "OPTIONS", "BYE", "ACK", "REGISTER", "CANCEL", "NOTIFY", "REFER",
    ];
    let heard = known(world, member, dice);
    match (dice.below(8), heard) {
        (0 | 1, _) => {
            let text = alone(dice.one_of(&methods), nowhere);
            world.forge(Fault::Stranger, nowhere, to, &text);
        }
        (2, Some(heard)) => {
            let text = within(&heard, dice.one_of(&methods), nowhere, number, None);
            world.forge(Fault::Impostor, nowhere, to, &text);
        }
        (3, Some(heard)) => {
            let text = within(&heard, dice.one_of(&methods), address, number, Some("wrong"));
            world.forge(Fault::WrongTag, address, to, &text);
        }
        (4, _) => {
            let text = alone("BYE", address).replace(
                "Max-Forwards: 70\r\n",
                &format!("Max-Forwards: 70\r\nRoute: <sip:{to};lr;r=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA>\r\n"),
            );
            let text = text.replace(">\r\nCall-ID", ">;tag=nobody\r\nCall-ID");
            world.forge(Fault::WrongToken, address, to, &text);
        }
        (5, Some(heard)) => {
            let text = response(
                &heard,
                dice.one_of(&[100, 180, 200, 404, 603]),
                &format!("z9hG4bK{number:032x}"),
            );
            world.forge(Fault::StrayResponse, address, to, &text);
        }
        (6, Some(heard)) => {
            let mut branch = heard.branch();
            let last = branch.pop().unwrap_or('0');
            branch.push(if last == '0' { '1' } else { '0' });
            let text = response(&heard, dice.one_of(&[100, 180, 200, 404, 603]), &branch);
            world.forge(Fault::WrongBranch, address, to, &text);
        }
        _ => {
            let from = dice.one_of(&[nowhere, address]);
            let text = match dice.below(6) {
                0 => "\r\n\r\n".to_owned(),
                1 => "hello\r\n\r\n".to_owned(),
                2 => alone("OPTIONS", from).replace("CSeq: 1", "CSeq: x"),
                3 => alone("INVITE", from).replace("Call-ID", "X-Call-ID"),
                // As little as gets an answer, so that this may be larger by far.
                4 => format!("OPTIONS a SIP/2.0\r\nv:SIP/2.0/UDP {from};branch=z{number}\r\n\r\n"),
                _ => "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\n\r\n".to_owned(),
            };
            world.forge(Fault::Garbage, from, to, &text);
        }
    }
}

/// Somebody sends a recorded datagram once more.
pub fn replay(world: &mut World, dice: &mut Dice) {
    let from = dice.one_in(3).then(|| socket(NOWHERE));
    world.replay(dice.below(1 << 16), from);
}

/// A request that referee has sent to a member.
fn known(world: &World, member: &Member, dice: &mut Dice) -> Option<Text> {
    let heard = world.peer(member.id).heard("");
    let requests: Vec<&&Text> = heard
        .iter()
        .filter(|text| text.is_request() && text.tag("To").is_some())
        .collect();
    match requests.is_empty() {
        true => None,
        false => Some((*requests[dice.below(requests.len() as u64) as usize]).clone()),
    }
}

/// A request in the dialog of one that was heard, as its receiver would send it; with another tag of its sender's if said.
fn within(heard: &Text, method: &str, from: SocketAddr, number: u64, tag: Option<&str>) -> String {
    let value = |name: &str| heard.header(name).unwrap_or_default().to_owned();
    let sender = match tag {
        Some(tag) => format!("{};tag={tag}", value("To").split(";tag=").next().unwrap_or_default()),
        None => value("To"),
    };
    let uri = heard.request_uri();
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-forged-{number};rport\r\nMax-Forwards: 70\r\n\
        From: {sender}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\nContact: <sip:x@{from}>\r\nContent-Length: 0\r\n\r\n",
        value("From"),
        value("Call-ID"),
        900 + number % 100,
    )
}

/// A response to a request that was heard, with another branch.
fn response(heard: &Text, code: u16, branch: &str) -> String {
    let value = |name: &str| heard.header(name).unwrap_or_default().to_owned();
    let vias: String = heard
        .list("Via")
        .iter()
        .map(|via| format!("Via: {}\r\n", via.replace(&heard.branch(), branch)))
        .collect();
    format!(
        "SIP/2.0 {code} Forged\r\n{vias}From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {}\r\nContent-Length: 0\r\n\r\n",
        value("From"),
        value("To"),
        value("Call-ID"),
        value("CSeq"),
    )
}

fn socket(text: &str) -> SocketAddr {
    super::super::peer::script::address(text)
}
