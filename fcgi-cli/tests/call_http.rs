//! `fcgi call` with a URL's path, as curl is used: against php-fpm.

mod common;

use std::{
    fs,
    io::Write,
    process::{ExitCode, Stdio},
};

use common::{
    Pty,
    pages::settled,
    pool::{command, run, seen},
};
use fcgi_testkit::{
    harness::{self, Case, Failed},
    peers::{Peer, PhpFpm, PhpFpmOptions},
};
use serde_json::{Value, json};

type Result = std::result::Result<(), Failed>;
type Test = (&'static str, fn() -> Result);

/// Answers with what PHP knows of a request, as JSON.
const SHOW: &str = r#"<?php
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
$files = array_map(fn($f) => [$f['name'], $f['type'], file_get_contents($f['tmp_name'])], $_FILES);
$body = file_get_contents('php://input');
echo json_encode(['get' => $_GET, 'post' => $_POST, 'files' => $files, 'server' => $_SERVER,
    'body' => strlen($body) < 100 ? $body : strlen($body)], JSON_UNESCAPED_SLASHES);
"#;

fn main() -> ExitCode {
    let cases: [Test; 13] = [
        ("a_path_becomes_parameters", parameters),
        ("the_body_comes_without_its_head_unless_asked", head),
        ("fail_is_status_7_and_no_output", fail),
        ("methods", methods),
        ("header_fields", header_fields),
        ("data_as_curl_sends_it", data),
        ("forms_with_files", forms),
        ("verbose_shows_every_record", verbose),
        ("a_pipe_is_kept_within_a_limit", pipe),
        ("q_1_a_parameter_that_php_fpm_cannot_take", long_parameter),
        ("programs_read_json", json_output),
        ("one_argument_is_an_address_or_a_path", one_argument),
        ("progress_is_for_terminals", progress),
    ];
    harness::run(cases.map(|(name, run)| Case::new(name, run).needs(&[Peer::PhpFpm])))
}

struct Site {
    php: PhpFpm,
    address: String,
    root: String,
}

impl Site {
    fn start() -> std::result::Result<Self, Failed> {
        let php = PhpFpm::start(PhpFpmOptions::default())?;
        fs::write(php.script("show.php"), SHOW)?;
        let (address, root) = (php.unix_address(), php.document_root().display().to_string());
        Ok(Self { php, address, root })
    }

    fn call(&self, args: &[&str]) -> (i32, String, String) {
        seen(&run(&[&["call", &self.address], args, &["--root", &self.root]].concat()))
    }

    fn show(&self, args: &[&str]) -> std::result::Result<Value, Failed> {
        let (status, stdout, stderr) = self.call(args);
        assert_eq!((status, &*stderr), (0, ""), "{stdout}");
        Ok(serde_json::from_str(&stdout)?)
    }
}

fn parameters() -> Result {
    let site = Site::start()?;
    let server = |value: &Value, name: &str| value["server"][name].clone();
    let seen = site.show(&["/show.php/a%20b/c?page=2&x=%41"])?;
    assert_eq!(seen["get"], json!({"page": "2", "x": "A"}));
    assert_eq!(server(&seen, "SCRIPT_NAME"), "/show.php");
    assert_eq!(server(&seen, "PATH_INFO"), "/a b/c");
    assert_eq!(server(&seen, "REQUEST_URI"), "/show.php/a%20b/c?page=2&x=%41");
    assert_eq!(server(&seen, "DOCUMENT_ROOT"), site.root);
    assert_eq!(server(&seen, "SCRIPT_FILENAME"), format!("{}/show.php", site.root));
    assert_eq!(server(&seen, "SERVER_PROTOCOL"), "HTTP/1.1");
    assert_eq!(server(&seen, "REMOTE_ADDR"), "127.0.0.1");

    fs::copy(site.php.script("show.php"), site.php.script("index.php"))?;
    assert_eq!(server(&site.show(&["/"])?, "SCRIPT_NAME"), "/index.php");
    let path = site.php.script("show.php").display().to_string();
    let (status, stdout, _) = common::pool::seen(&run(&["call", &site.address, &path]));
    assert_eq!(status, 0, "without --root, a path is a file's");
    assert_eq!(serde_json::from_str::<Value>(&stdout)?["server"]["SCRIPT_FILENAME"], path);

    let seen = site.show(&["/show.php", "--param", "SCRIPT_NAME=/mine", "--param", "A=1"])?;
    assert_eq!(server(&seen, "SCRIPT_NAME"), "/mine", "in place of the one that is made");
    assert_eq!(server(&seen, "A"), "1");
    Ok(())
}

fn head() -> Result {
    let site = Site::start()?;
    assert_eq!(site.call(&["/hello.php"]).1, "Hello, world\n");
    let (status, stdout, _) = site.call(&["/hello.php", "-i"]);
    assert_eq!(status, 0);
    let (head, body) = stdout.split_once("\r\n\r\n").ok_or("an empty line")?;
    assert!(head.contains("Content-Type: text/plain") || head.contains("Content-type: text/plain"));
    assert_eq!(body, "Hello, world\n");
    let (status, stdout, _) = site.call(&["/err.php", "-i"]);
    assert_eq!(status, 0, "without --fail any answer is well");
    assert!(stdout.starts_with("Status: 418"), "as the application wrote it: {stdout}");
    let out = site.php.script("out");
    let out_arg = out.display().to_string();
    let (status, stdout, _) = site.call(&["/hello.php", "-o", &out_arg]);
    assert_eq!((status, &*stdout, &*fs::read_to_string(&out)?), (0, "", "Hello, world\n"));
    assert_eq!(site.call(&["/hello.php", "-o", "/no/such/folder/x"]).0, 2);
    let (status, stdout, _) = site.call(&["/hello.php", "-o", "-"]);
    assert_eq!((status, &*stdout), (0, "Hello, world\n"), "- is stdout");
    Ok(())
}

fn fail() -> Result {
    let site = Site::start()?;
    let out = site.php.script("out").display().to_string();
    for (path, cause) in [
        ("/err.php", "418"),
        ("/missing.php", "php-fpm finds no file"),
        ("/out.txt", "security.limit_extensions"),
    ] {
        fs::write(site.php.script("out.txt"), "")?;
        for option in [&["-f"][..], &["--fail", "-i"], &["-f", "-o", &out]] {
            let (status, stdout, stderr) = site.call(&[&[path], option].concat());
            assert_eq!((status, &*stdout), (7, ""), "{stderr}");
            let last = stderr.lines().last().unwrap_or_default();
            assert!(last.starts_with(&format!("fcgi call: {}: answered with 4", site.address)));
            assert!(last.contains(cause), "{stderr}");
        }
        assert!(!fs::exists(&out)?, "nothing is written");
    }
    assert_eq!(site.call(&["/hello.php", "--fail"]).0, 0);
    // With parameters alone too.
    let script = format!("SCRIPT_FILENAME={}", site.php.script("err.php").display());
    let (status, stdout, _) = seen(&run(&["call", &site.address, "--param", &script, "-f"]));
    assert_eq!((status, &*stdout), (7, ""));
    Ok(())
}

fn methods() -> Result {
    let site = Site::start()?;
    let method = |args: &[&str]| -> std::result::Result<Value, Failed> {
        Ok(site.show(&[&["/show.php"], args].concat())?["server"]["REQUEST_METHOD"].clone())
    };
    assert_eq!(method(&[])?, "GET");
    assert_eq!(method(&["-d", "a=1"])?, "POST");
    assert_eq!(method(&["-F", "a=1"])?, "POST");
    assert_eq!(method(&["--stdin", "/etc/hostname"])?, "POST");
    assert_eq!(method(&["-X", "PUT", "-d", "a=1"])?, "PUT");
    assert_eq!(method(&["--request", "DELETE"])?, "DELETE");
    assert_eq!(method(&["--param", "REQUEST_METHOD=PATCH"])?, "PATCH");
    // Q-18: php-fpm runs nothing without one.
    let script = format!("SCRIPT_FILENAME={}", site.php.script("hello.php").display());
    let (status, stdout, _) = seen(&run(&["call", &site.address, "--param", &script]));
    assert_eq!(status, 0);
    assert!(stdout.ends_with("\r\n\r\nHello, world\n"), "with its head: {stdout}");
    assert_eq!(seen(&run(&["call", &site.address, "/x", "-X", "NO METHOD"])).0, 2);
    Ok(())
}

fn header_fields() -> Result {
    let site = Site::start()?;
    let seen = site.show(&[
        "/show.php",
        "-H",
        "Host: www.example.org:8080",
        "-H",
        "X-One: 1",
        "--header",
        "Accept:",
        "-H",
        "X-Empty;",
        "-H",
        "User-Agent: mine/2",
    ])?;
    let server = &seen["server"];
    assert_eq!(server["HTTP_HOST"], "www.example.org:8080");
    assert_eq!(server["SERVER_NAME"], "www.example.org");
    assert_eq!(server["HTTP_X_ONE"], "1");
    assert_eq!(server["HTTP_X_EMPTY"], "");
    assert_eq!(server["HTTP_USER_AGENT"], "mine/2");
    assert_eq!(server["HTTP_ACCEPT"], Value::Null);
    assert_eq!(site.call(&["/show.php", "-H", "no field"]).0, 2);
    Ok(())
}

fn data() -> Result {
    let site = Site::start()?;
    let seen = site.show(&["/show.php", "-d", "name=Ann", "-d", "age=7"])?;
    assert_eq!(seen["post"], json!({"name": "Ann", "age": "7"}));
    assert_eq!(seen["server"]["CONTENT_LENGTH"], "14");
    let file = site.php.script("lines").display().to_string();
    fs::write(&file, "a\r\nb\n")?;
    let at = format!("@{file}");
    assert_eq!(site.show(&["/show.php", "-d", &at])?["body"], "ab");
    let binary = site.show(&["/show.php", "--data-binary", &at, "-H", "Content-Type: text/x"])?;
    assert_eq!(binary["body"], "a\r\nb\n");
    assert_eq!(binary["server"]["CONTENT_TYPE"], "text/x");
    let (status, _, stderr) = site.call(&["/show.php", "-d", "@/no/such"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("/no/such"), "{stderr}");
    Ok(())
}

fn forms() -> Result {
    let site = Site::start()?;
    let file = site.php.script("photo.png").display().to_string();
    fs::write(&file, "not really")?;
    let (upload, named) =
        (format!("one=@{file}"), format!("two=@{file};type=text/x;filename=a\"b.txt"));
    let text = format!("text=<{file}");
    let seen =
        site.show(&["/show.php", "-F", "title=A; b=c", "-F", &upload, "-F", &named, "-F", &text])?;
    assert_eq!(seen["post"], json!({"title": "A; b=c", "text": "not really"}));
    assert_eq!(seen["files"]["one"], json!(["photo.png", "image/png", "not really"]));
    assert_eq!(seen["files"]["two"][1], "text/x");
    assert_eq!(seen["files"]["two"][2], "not really");
    assert_eq!(site.call(&["/show.php", "-F", "nothing"]).0, 2);
    assert_eq!(site.call(&["/show.php", "-F", "a=1", "-d", "b=2"]).0, 2);
    Ok(())
}

fn verbose() -> Result {
    let site = Site::start()?;
    let (status, stdout, stderr) = site.call(&["/err.php", "-v", "-d", "a=1", "-H", "Accept:"]);
    assert_eq!((status, &*stdout), (0, "teapot\n"));
    let shown = settled(&stderr, &[(&site.root, "/srv/www")]);
    let expected = "\
web → app  BEGIN_REQUEST       1       8    0  Responder, no keep_conn
web → app  PARAMS              1  ";
    assert!(shown.starts_with(expected), "{shown}");
    let records: Vec<&str> = shown
        .lines()
        .filter(|line| line.starts_with("web "))
        .filter_map(|line| line.split_whitespace().nth(3))
        .collect();
    let expected =
        ["BEGIN_REQUEST", "PARAMS", "PARAMS", "STDIN", "STDIN", "STDERR", "STDOUT", "END_REQUEST"];
    assert_eq!(records, expected, "{shown}");
    assert!(shown.contains("  SCRIPT_FILENAME=/srv/www/err.php\n"), "{shown}");
    assert!(shown.contains("app status 0, REQUEST_COMPLETE"), "{shown}");
    Ok(())
}

fn pipe() -> Result {
    let site = Site::start()?;
    let call = |bytes: usize, args: &[&str]| {
        let args =
            [&["call", &site.address, "/show.php", "--root", &site.root, "--stdin", "-"], args];
        let mut command = command(&args.concat());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("fcgi call runs");
        let mut stdin = child.stdin.take().expect("piped");
        let writer = std::thread::spawn(move || {
            // It may close early.
            let _ = stdin.write_all(&vec![b'x'; bytes]);
        });
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("no panic");
        seen(&output)
    };
    // More than the limit for memory.
    let (status, stdout, stderr) = call(5_000_000, &["--param", "CONTENT_TYPE=text/plain"]);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(serde_json::from_str::<Value>(&stdout)?["body"], 5_000_000);
    let (status, _, stderr) = call(5_000_000, &["--max-stdin", "1M"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("more than 1048576 bytes"), "{stderr}");
    Ok(())
}

fn long_parameter() -> Result {
    let site = Site::start()?;
    let long = format!("LONG={}", "x".repeat(70_000));
    let (status, _, stderr) = site.call(&["/hello.php", "--param", &long]);
    assert_ne!(status, 0, "php-fpm closes");
    let first = stderr.lines().next().unwrap_or_default();
    assert!(first.contains("warning: the parameter LONG has 70000 bytes"), "{stderr}");
    let fits = format!("LONG={}", "x".repeat(60_000));
    let (status, _, stderr) = site.call(&["/hello.php", "--param", &fits]);
    assert_eq!((status, &*stderr), (0, ""));
    Ok(())
}

fn json_output() -> Result {
    let site = Site::start()?;
    let (status, stdout, stderr) = site.call(&["/err.php", "--json", "-f"]);
    assert_eq!((status, &*stderr, stdout.lines().count()), (7, "", 1));
    let value: Value = serde_json::from_str(&stdout)?;
    assert_eq!(value["v"], 1);
    assert_eq!(value["command"], "call");
    assert_eq!(value["exit_status"], 7);
    assert_eq!(value["status"], 418);
    assert_eq!(value["body"], "teapot\n");
    assert_eq!(value["body_bytes"], 7);
    assert!(value["stderr"].as_str().is_some_and(|text| text.contains("logged to STDERR")));
    assert!(value["headers"]["content-type"].is_string(), "{value}");
    assert!(value["first_byte_ms"].is_f64(), "{value}");
    Ok(())
}

fn one_argument() -> Result {
    let site = Site::start()?;
    let socket = site.address.trim_start_matches("unix:");
    let script = format!("SCRIPT_FILENAME={}", site.php.script("hello.php").display());
    let (status, stdout, _) = seen(&run(&["call", socket, "--param", &script]));
    assert_eq!(status, 0, "a path that is a socket is the address");
    assert!(stdout.ends_with("Hello, world\n"));
    let mut command = command(&["call", "/hello.php", "--root", &site.root]);
    let (status, stdout, _) = seen(&command.env("FCGI_ADDR", &site.address).output()?);
    assert_eq!((status, &*stdout), (0, "Hello, world\n"), "else it is the URL's");
    let (status, _, stderr) = seen(&run(&["call", &site.address, "hello.php"]));
    assert_eq!(status, 2);
    assert!(stderr.contains("URL-PATH"), "{stderr}");
    assert_eq!(seen(&run(&["call"])).0, 2);
    let (status, _, stderr) = seen(&run(&["call", &site.address, "/a b"]));
    assert_eq!(status, 2, "{stderr}");
    assert!(stderr.contains(r#"the URL-PATH "/a b""#) && stderr.contains("%20"), "{stderr}");
    let (status, _, stderr) = seen(&run(&["call", "/no/app.sock", "--param", "A=1"]));
    assert_eq!(status, 5, "{stderr}");
    Ok(())
}

fn progress() -> Result {
    let site = Site::start()?;
    let out = site.php.script("out").display().to_string();
    let args = ["call", &site.address, "/big.php?n=30000000", "--root", &site.root, "-o", &out];
    let (status, stdout, stderr) = seen(&run(&args));
    assert_eq!((status, &*stdout, &*stderr), (0, "", ""), "no terminal");
    assert_eq!(fs::metadata(&out)?.len(), 30_000_000);
    let pty = Pty::open();
    let mut command = command(&args);
    command.stdout(Stdio::null()).stderr(pty.end());
    let (shown, status) = pty.run(command);
    assert_eq!(status, 0);
    assert!(shown.contains("M received, "), "{shown:?}");
    assert!(shown.ends_with("\r\x1b[K"), "it is gone in the end: {shown:?}");
    Ok(())
}
