//! `fcgi check`: what it prints, and how it reports faulty applications.

mod common;

use std::{fs, io::Write, net::TcpListener, process::Output, thread};

use common::fcgi;
use fcgi_testkit::wire::{Peer, RawApp, Type, answer, close, end, record, stream};
use serde_json::Value;

const PAGE: &[u8] = b"Content-Type: text/plain\r\n\r\nhello\n";

/// An application that reads whole requests and answers with `answer`, as often as asked.
fn application(answer: fn(u16) -> Vec<u8>) -> String {
    let serve = move |mut peer: Peer| {
        while let Some((id, _, _)) = peer.try_request() {
            if peer.try_send(answer(id)).is_err() {
                return;
            }
        }
    };
    RawApp::new().serve(serve).to_string()
}

fn well(id: u16) -> Vec<u8> {
    answer(id, PAGE)
}

fn check(address: &str, args: &[&str]) -> Output {
    fcgi().args(["check", address]).args(args).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_passes_exits_0() {
    let output =
        check(&application(well), &["--only", "FC-3.3-1,FC-3.3-7/2", "--only", "fc-6.1-1"]);
    let expected = "\
FC-3.3-1/1   pass  a request is answered
FC-3.3-1/2   pass  a request that comes byte by byte is answered
FC-3.3-7/2   pass  id 256 is accepted
FC-6.1-1/1   pass  STDOUT is closed by an empty record, and STDERR if there was any

4 cases: 4 passed, 0 failed, 0 skipped
";
    assert_eq!((text(&output.stdout), text(&output.stderr)), (expected.to_owned(), String::new()));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_fails_shows_the_bytes_and_exits_7() {
    // STDOUT is not closed.
    let address = application(|id| [stream(Type::Stdout, id, PAGE), end(id, 0, 0)].concat());
    let args = ["--only", "FC-6.1-1", "--param", "REQUEST_URI=/x", "--param", "SERVER_NAME=a"];
    let output = check(&address, &args);
    let shown = text(&output.stdout);
    for part in [
        "FC-6.1-1/1   FAIL  STDOUT is closed by an empty record, and STDERR if there was any\n",
        "                   STDOUT has no end before END_REQUEST\n",
        "                   sent      01 01 00 01 00 08 00 00 00 01 00 00 00 00 00 00  ................\n",
        "                   received  01 06 00 01 00 22 06 00 43 6f 6e 74 65 6e 74 2d  .....\"..Content-\n",
        "01 03 00 01 00 08 00 00 00 00 00 00 00 00 00 00",
        "\n1 cases: 0 passed, 1 failed, 0 skipped\n",
    ] {
        assert!(shown.contains(part), "{part}\nin\n{shown}");
    }
    assert_eq!(output.status.code(), Some(7));
}

/// A name, a case, an application's answers, and the expected message.
type Fault = (&'static str, &'static str, fn(u16) -> Vec<u8>, &'static str);

/// Each fault is found by the case that is about it.
#[test]
fn faults_are_found() {
    let faults: [Fault; 7] = [
        (
            "reserved bytes",
            "FC-3.3-3/2",
            |id| {
                let mut bytes = well(id);
                bytes.pop();
                bytes.push(1);
                bytes
            },
            "END_REQUEST's reserved bytes are not zero",
        ),
        (
            "an empty answer",
            "FC-3.3-1/1",
            |id| [close(Type::Stdout, id), end(id, 0, 0)].concat(),
            "expected an answer, and STDOUT is empty",
        ),
        (
            "another id",
            "FC-3.3-1/1",
            |id| answer(id + 1, PAGE),
            "STDOUT of id 2 came, which has no request",
        ),
        (
            "more after the end",
            "FC-3.3-1/1",
            |id| [close(Type::Stdout, id), answer(id, PAGE)].concat(),
            "STDOUT goes on after its end",
        ),
        (
            "a refusal",
            "FC-3.3-1/1",
            |id| [stream(Type::Stdout, id, PAGE), end(id, 0, 2)].concat(),
            "expected REQUEST_COMPLETE, and OVERLOADED came",
        ),
        ("no role is unknown", "FC-5.1-2/1", well, "expected protocol status 3, and 0 came"),
        (
            "a connection that is kept",
            "FC-3.5-1/1",
            well,
            "expected the end of the connection: it stays open",
        ),
    ];
    for (name, case, answer, why) in faults {
        let output = check(&application(answer), &["--only", case, "--timeout", "4"]);
        // Some faults show in a plain request already.
        let said = text(&[output.stdout, output.stderr].concat());
        assert!(said.contains(why), "{name}: {said}");
        assert!(matches!(output.status.code(), Some(4 | 7)), "{name}: {:?}", output.status);
    }
}

#[test]
fn other_answers_are_told_apart() {
    // It answers a padded request differently the second time.
    let serve = |mut peer: Peer| {
        let Some((id, params, _)) = peer.try_request() else { return };
        // It misreads a length in four bytes.
        let page: &[u8] = if params.contains(&0x80) { b"Status: 400\r\n\r\n" } else { PAGE };
        let _ = peer.try_send(answer(id, page));
    };
    let output = check(&RawApp::new().serve(serve).to_string(), &["--only", "FC-3.4-2"]);
    let said = text(&output.stdout);
    assert!(said.contains("expected status 200 as for a plain request, and 400 came"), "{said}");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn what_can_not_be_asked_is_skipped() {
    let serve = |mut peer: Peer| {
        if let Some((id, _, _)) = peer.try_request() {
            let _ = peer.try_send(well(id));
        }
    };
    // It closes after each request.
    let output = check(&RawApp::new().serve(serve).to_string(), &["--only", "FC-5.1-2/2"]);
    assert_eq!(
        text(&output.stdout).lines().next(),
        Some(
            "FC-5.1-2/2   skip  the connection can be used after an unknown role: it does not keep \
             connections (FC-3.5-1)"
        )
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn json_and_junit() {
    let folder = tempfile::tempdir().expect("a folder");
    let junit = folder.path().join("junit.xml");
    let junit_path = junit.display().to_string();
    let only = "FC-3.3-1/1,FC-5.1-2/1";
    let output = check(&application(well), &["--only", only, "--json", "--junit", &junit_path]);
    assert_eq!(output.status.code(), Some(7));
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["case"], &lines[0]["result"]), (&"FC-3.3-1/1".into(), &"pass".into()));
    assert!(lines[0]["time_ms"].is_number() && lines[0]["v"] == 1);
    assert_eq!(lines[1]["result"], "fail");
    let sent = lines[1]["sent_hex"].as_str().expect("the bytes");
    assert!(sent.starts_with("0101000100080000000900"), "{sent}");
    let end = &lines[2];
    assert_eq!(
        (&end["passed"], &end["failed"], &end["exit_status"]),
        (&1.into(), &1.into(), &7.into())
    );

    let xml = fs::read_to_string(&junit).expect("a file");
    assert!(xml.starts_with("<?xml version=\"1.0\""), "{xml}");
    assert!(xml.contains("tests=\"2\" failures=\"1\" skipped=\"0\""), "{xml}");
    assert!(
        xml.contains("<testcase classname=\"FC-3.3-1\" name=\"FC-3.3-1/1 a request is answered\"")
    );
    assert!(xml.contains("<failure message=\"expected protocol status 3, and 0 came\">sent 0101"));
}

#[test]
fn junit_to_stdout_and_to_files_that_take_nothing() {
    let address = application(well);
    let only = ["--only", "FC-3.3-1/1", "--junit"];
    let run = |rest: &[&str]| check(&address, &[&only[..], rest].concat());
    let output = run(&["-"]);
    assert_eq!(output.status.code(), Some(0));
    let xml = text(&output.stdout);
    assert!(xml.starts_with("<?xml ") && xml.trim_end().ends_with("</testsuites>"), "{xml}");
    for (rest, status) in [
        (&["-", "--json"][..], 2),
        (&["-", "--nagios"], 3),
        (&["/nonexistent/junit.xml"], 2),
        (&["/dev/full"], 5),
    ] {
        let output = run(rest);
        assert_eq!(output.status.code(), Some(status), "{rest:?}");
    }
    let output = run(&["/nonexistent/junit.xml"]);
    assert!(output.stdout.is_empty(), "no case ran: {}", text(&output.stdout));
}

#[test]
fn what_can_not_be_checked_says_why() {
    let output = check("/nonexistent.sock", &[]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("unix:/nonexistent.sock"), "{}", text(&output.stderr));
    let output = check("127.0.0.1:1", &["--only", "FC-none"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there is no case FC-none"));
    // An HTTP server.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.expect("a connection").write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let output = check(&address, &[]);
    assert_eq!(output.status.code(), Some(4));
    let said = text(&output.stderr);
    assert!(
        said.contains("a plain request is not answered") && said.contains("version 72"),
        "{said}"
    );
    // A silent one.
    let app = RawApp::new();
    let output = check(&app.address.to_string(), &["--timeout", "0.2"]);
    assert_eq!(output.status.code(), Some(6));
}

/// A socket whose queue is full.
#[test]
fn a_connection_that_is_not_made_in_time_exits_6() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("full");
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM);
    let socket = || rustix::net::socket_with(family, kind, flags, None).expect("a socket");
    let address = rustix::net::SocketAddrUnix::new(&path).expect("a path");
    let listener = socket();
    rustix::net::bind(&listener, &address).expect("it binds");
    rustix::net::listen(&listener, 0).expect("it listens");
    let mut waiting = Vec::new();
    loop {
        let one = socket();
        if rustix::net::connect(&one, &address).is_err() {
            break;
        }
        waiting.push(one);
    }
    let junit = folder.path().join("junit.xml");
    let args = ["--timeout", "0.3", "--junit", junit.to_str().expect("text")];
    let output = check(&path.display().to_string(), &args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("queue is full"), "{said}");
    let xml = fs::read_to_string(&junit).expect("it is written");
    assert!(xml.contains("errors=\"1\"") && xml.contains("<error message="), "{xml}");
    let output = check(&path.display().to_string(), &["--timeout", "0.3", "--json"]);
    let end: Value = serde_json::from_str(&text(&output.stdout)).expect("an object");
    assert_eq!((&end["event"], &end["cause"]), (&"end".into(), &"queue-full".into()), "{end}");
    assert_eq!(end["exit_status"], 6);
}

#[test]
fn a_cause_is_named() {
    let output = check("/nonexistent.sock", &[]);
    let said = text(&output.stderr);
    let doctor = fcgi().args(["ping", "/nonexistent.sock"]).output().expect("it runs");
    let (_, cause) = text(&doctor.stderr)
        .split_once("(os error 2)")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("a cause");
    assert!(said.ends_with(&cause), "{said}{cause}");
    // A silent one.
    let app = RawApp::new();
    let output = check(&app.address.to_string(), &["--timeout", "0.2"]);
    assert!(text(&output.stderr).contains("workers are busy"), "{}", text(&output.stderr));
}

#[test]
fn docker_and_nagios() {
    let address = application(well);
    let bad = application(|id| [stream(Type::Stdout, id, PAGE), end(id, 0, 0)].concat());
    let only = ["--only", "FC-6.1-1"];
    for (address, args, status) in [
        (&address, "--docker", 0),
        (&bad, "--docker", 1),
        (&address, "--nagios", 0),
        (&bad, "--nagios", 1),
        (&"/nonexistent.sock".to_owned(), "--docker", 1),
        (&"/nonexistent.sock".to_owned(), "--nagios", 2),
    ] {
        let output = check(address, &[&only[..], &[args]].concat());
        assert_eq!(output.status.code(), Some(status), "{address} {args}");
        let said = text(&output.stdout);
        if args == "--nagios" {
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.starts_with("CHECK "), "{said}");
        }
    }
    let output = check(&bad, &[&only[..], &["--nagios"]].concat());
    let said = text(&output.stdout);
    assert!(said.starts_with("CHECK WARNING - ") && said.contains(" | passed=0;"), "{said}");
}

#[test]
fn the_list_has_every_case_once() {
    let output = check("x:1", &["--list"]);
    let list = text(&output.stdout);
    let numbers: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(numbers.len() > 50 && numbers.contains(&"Q-9/1") && numbers.contains(&"H-1/1"));
    let mut unique = numbers.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), numbers.len());
    let objects = text(&check("x:1", &["--list", "--json"]).stdout);
    let object = |line: &str| serde_json::from_str::<Value>(line).expect("an object");
    let cases: Vec<Value> = objects.lines().map(|line| object(line)["case"].clone()).collect();
    assert_eq!(cases, numbers);
    // Each is a requirement that docs/requirements.md lists.
    let requirements = include_str!("../../docs/requirements.md");
    for number in numbers {
        let id = number.split('/').next().expect("an id");
        assert!(requirements.contains(&format!("| {id} |")), "{id} in docs/requirements.md");
    }
}

/// Time limits are for whole answers: what never ends is not waited for, nor kept in memory.
#[test]
fn an_answer_without_end_is_a_failure() {
    for (kind, code, why) in [
        (Type::Stdout, 4, "STDOUT has more than 64 MiB"),
        (Type::Stderr, 6, "END_REQUEST did not come in time"),
    ] {
        let address = RawApp::new()
            .serve(move |mut peer: Peer| {
                let Some((id, _, _)) = peer.try_request() else { return };
                let block = record(kind, id, &[b'x'; 60_000]);
                while peer.try_send(&block).is_ok() {}
            })
            .to_string();
        // Either may be first on a slow machine.
        let seconds = if code == 4 { "600" } else { "1" };
        let output = check(&address, &["--only", "FC-3.3-1/1", "--timeout", seconds]);
        let said = text(&output.stderr);
        assert!(said.contains(why), "{said}");
        assert_eq!(output.status.code(), Some(code));
    }
}
