//! `referee inspect` as a command: a file or standard input, and its exit codes.
#![cfg(feature = "io")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn torture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture").join(name)
}

fn inspect(file: &Path, input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_referee"))
        .arg("inspect")
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It stops reading when it has seen that there is too much.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_file_is_explained_and_the_code_says_whether_it_would_be_forwarded() {
    let good = inspect(&torture("rfc4475/wsinv.dat"), b"");
    assert_eq!(good.status.code(), Some(0));
    assert!(text(&good.stdout).contains("A proxy would: forward it"));
    let refused = inspect(&torture("rfc4475/badinv01.dat"), b"");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).contains("A proxy would: answer 400 Malformed Via"));
}

#[test]
fn standard_input_is_explained_like_a_file() {
    let path = torture("transfer/19-notify-180.sip");
    let piped = inspect(Path::new("-"), &std::fs::read(&path).unwrap());
    assert_eq!(piped.status.code(), Some(0));
    assert_eq!(text(&piped.stdout), text(&inspect(&path, b"").stdout));
}

#[test]
fn what_cannot_be_read_is_a_usage_error() {
    let cases = [
        (inspect(Path::new("nowhere.sip"), b""), "nowhere.sip: "),
        (inspect(Path::new(env!("CARGO_MANIFEST_DIR")), b""), ": "),
        (inspect(Path::new("-"), b""), "standard input: empty"),
        (
            inspect(Path::new("-"), &[b'x'; 1 << 20]),
            "standard input: more than 65535 bytes",
        ),
    ];
    for (output, part) in cases {
        assert_eq!(output.status.code(), Some(2), "{part}");
        assert!(output.stdout.is_empty(), "{part}");
        assert!(text(&output.stderr).contains(part), "{part}: {}", text(&output.stderr));
    }
}
