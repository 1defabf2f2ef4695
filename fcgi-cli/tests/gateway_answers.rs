//! `fcgi gateway`: odd answers and odd requests, as clients and the logs see them.

mod common;

use std::io::Read;

use common::gateway::{App, Gateway, text, until};

fn mounted(more: &[&str]) -> (App, Gateway) {
    let app = App::start();
    let gateway = Gateway::start(&[&[&*app.address, "--mount", "/"], more].concat());
    (app, gateway)
}

/// Sends bytes as they are. Returns all that comes back until the gateway closes.
fn raw(gateway: &Gateway, request: &str) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", gateway.port)).expect("it accepts");
    std::io::Write::write_all(&mut stream, request.as_bytes()).expect("send");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("a reply");
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn an_answer_has_one_date() {
    let (_app, gateway) = mounted(&[]);
    let own = "Thu, 01 Jan 1970 00:00:00 GMT";
    let reply = gateway.get("/field?Date:%20Thu,%2001%20Jan%201970%2000:00:00%20GMT");
    assert_eq!(reply.head.all("date").collect::<Vec<_>>(), [own], "the application's own");
    assert_eq!(gateway.get("/x").head.all("date").count(), 1);
    assert_eq!(gateway.get("/-/ready").head.all("date").count(), 1);
}

/// A client would wait for the bytes that a Content-Length announces.
#[test]
fn an_answer_without_content_has_no_length_of_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("x.txt"), "of the file").expect("a file");
    let root = folder.path().display().to_string();
    let (_app, gateway) = mounted(&["--sendfile-root", &root]);
    let close = "HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let target = |status: &str| format!("/field?Status:%20{status}%0AX-Sendfile:%20x.txt");
    let reply = raw(&gateway, &format!("GET {} {close}", target("204")));
    assert!(reply.starts_with("HTTP/1.1 204 ") && reply.ends_with("\r\n\r\n"), "{reply}");
    assert!(!reply.contains("content-length") && !reply.contains("x-sendfile"), "{reply}");
    let reply = raw(&gateway, &format!("GET {} {close}", target("201")));
    assert!(reply.contains("content-length: 11\r\n") && reply.ends_with("of the file"), "{reply}");
}

/// Prometheus refuses a histogram with a bucket that holds more than the last one.
#[test]
fn metrics_count_every_status() {
    let (_app, gateway) = mounted(&[]);
    for status in ["600", "999", "299", "404"] {
        assert_eq!(gateway.get(&format!("/reason?{status}%20Odd")).head.status.to_string(), status);
    }
    let value = |page: &str, name: &str| -> u64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
    };
    until("all is counted", || {
        let page = text(&gateway.get("/-/metrics"));
        let buckets: Vec<u64> = page
            .lines()
            .filter(|line| line.starts_with("fcgi_gateway_request_seconds_bucket"))
            .map(|line| line.rsplit(' ').next().expect("a value").parse().expect("a number"))
            .collect();
        assert!(buckets.is_sorted(), "{page}");
        let all = value(&page, "fcgi_gateway_request_seconds_count");
        assert_eq!(buckets.last(), Some(&all), "{page}");
        let odd = ["600", "999"].map(|status| format!("{{status=\"{status}\"}} 1"));
        all >= 4 && odd.iter().all(|odd| page.contains(odd))
    });
}

#[test]
fn stderr_of_an_application_that_is_no_file_is_logged_with_the_path() {
    let (_app, gateway) = mounted(&[]);
    gateway.get("/some/stderr");
    until("STDERR is logged", || gateway.error_log().lines().count() == 2);
    let log = gateway.error_log();
    let title = "fcgi gateway: GET /some/stderr: STDERR: ";
    assert!(log.lines().all(|line| line.starts_with(title)), "{log}");
}

#[test]
fn targets_that_are_no_path_have_one_for_scripts_and_are_logged_as_they_came() {
    let (_app, gateway) = mounted(&[]);
    let close = "HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let reply = raw(&gateway, &format!("GET http://b?x=1 {close}"));
    for line in ["REQUEST_URI=/?x=1\n", "QUERY_STRING=x=1\n", "HTTP_HOST=b\n"] {
        assert!(reply.contains(line), "no {line} in {reply}");
    }
    assert!(raw(&gateway, &format!("CONNECT b:443 {close}")).starts_with("HTTP/1.1 405 "));
    assert!(raw(&gateway, &format!("OPTIONS * {close}")).starts_with("HTTP/1.1 400 "));
    until("all are logged", || gateway.access_log().lines().count() == 3);
    let log = gateway.access_log();
    for request in
        ["\"GET /?x=1 HTTP/1.1\"", "\"CONNECT b:443 HTTP/1.1\"", "\"OPTIONS * HTTP/1.1\""]
    {
        assert!(log.contains(request), "no {request} in {log}");
    }
}

/// A full disk is neither silent nor a reason to stop.
#[cfg(target_os = "linux")]
#[test]
fn a_log_that_can_not_be_written_is_reported_and_counted() {
    let (app, folder) = (App::start(), tempfile::tempdir().expect("a folder"));
    let errors = folder.path().join("errors");
    let socket = folder.path().join("http.sock");
    let listen = format!("unix:{}", socket.display());
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("a device");
    let mut command = common::fcgi();
    command.args(["gateway", &app.address, "--mount", "/", "--listen", &listen]);
    command.stdout(full()).stderr(std::fs::File::create(&errors).expect("a file"));
    let mut child = command.spawn().expect("it runs");
    let ask = |target: &str| {
        let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&socket) else {
            return String::new();
        };
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).expect("send");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("a reply");
        reply
    };
    until("it serves", || ask("/x").starts_with("HTTP/1.1 200 "));
    let lost = "fcgi_gateway_log_lines_dropped_total{log=\"access\"} ";
    until("the first line and a request's are counted", || {
        let page = ask("/-/metrics");
        let count = page.lines().find_map(|line| line.strip_prefix(lost)).expect("a count");
        count.parse::<u64>().expect("a number") >= 2
    });
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let log = std::fs::read_to_string(&errors).expect("a log");
    let expected = "fcgi gateway: lines of the access log are lost: write it: No space left";
    assert!(log.starts_with(expected) && log.lines().count() == 1, "{log}");
}
