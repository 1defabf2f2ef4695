//! `fcgi demo`: what it prints, to the byte, and what it leaves behind.

mod common;

use std::{
    io::Read,
    process::{Command, Stdio},
};

use common::{Pty, fcgi};

const EXPECTED: &str = include_str!("demo.txt");

fn demo() -> Command {
    let mut command = fcgi();
    command.arg("demo").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command
}

#[test]
fn prints_every_record_and_the_response() {
    for _ in 0..20 {
        let output = demo().output().expect("fcgi demo runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(String::from_utf8_lossy(&output.stdout), EXPECTED, "see tests/demo.txt");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn fits_a_terminal_of_80_columns() {
    for line in EXPECTED.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn the_readme_shows_it() {
    let table: Vec<_> = EXPECTED.lines().take_while(|line| !line.contains("STDERR,")).collect();
    assert!(include_str!("../README.md").contains(table.join("\n").trim_end()));
}

#[test]
fn leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = demo().env("TMPDIR", folder.path()).output().expect("fcgi demo runs");
    assert!(output.status.success());
    assert_eq!(std::fs::read_dir(folder.path()).expect("it can be listed").count(), 0);
}

#[test]
fn environment_of_an_application_does_not_matter() {
    let output = demo().env("FCGI_WEB_SERVER_ADDRS", "192.0.2.1").output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), EXPECTED);
}

#[test]
fn a_failure_is_one_line() {
    let output = demo().env("TMPDIR", "/nonexistent").output().expect("fcgi demo runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("fcgi demo: make a temporary folder: "), "{stderr}");
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let mut child =
        demo().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("fcgi demo runs");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("it can be read");
    assert_eq!(stderr, "");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_terminal_gets_colours_unless_told_not_to() {
    let on_terminal = |no_color: Option<&str>| {
        let pty = Pty::open();
        let mut command = demo();
        command.env("TERM", "xterm-256color").stdout(pty.end()).stderr(Stdio::null());
        command.envs(no_color.map(|value| ("NO_COLOR", value)));
        pty.run(command).0.replace("\r\n", "\n")
    };
    let coloured = on_terminal(None);
    assert!(coloured.contains("\x1b[36m"), "{coloured:?}");
    let mut plain = String::new();
    for (i, part) in coloured.split("\x1b[").enumerate() {
        plain.push_str(if i == 0 { part } else { part.split_once('m').map_or(part, |p| p.1) });
    }
    assert_eq!(plain, EXPECTED);
    assert_eq!(on_terminal(Some("1")), EXPECTED);
}
