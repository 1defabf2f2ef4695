//! `fcgi gateway` behind other proxies, in front of several applications, and its own pages.

mod common;

use std::{
    collections::HashSet,
    fs,
    net::TcpListener,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use common::gateway::{App, Gateway, Root, text, until};
use fcgi_testkit::http::Reply;
use serde_json::Value;

fn param<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

type Fields<'a> = &'a [(&'a str, &'a str)];

#[test]
fn only_trusted_proxies_say_who_asks() {
    let app = App::start();
    let args = [&*app.address, "--mount", "/"];
    let trusting = Gateway::start(
        &[&args[..], &["--trusted-proxy", "127.0.0.0/8", "--trusted-proxy", "10.1.0.0/16"]]
            .concat(),
    );
    let other = Gateway::start(&[&args[..], &["--trusted-proxy", "192.0.2.0/24"]].concat());
    let cases: [(Fields, &str, Option<&str>); 16] = [
        (&[], "127.0.0.1", None),
        (&[("X-Forwarded-For", "203.0.113.7")], "203.0.113.7", None),
        (&[("X-Forwarded-For", "6.6.6.6, 203.0.113.7, 10.1.2.3")], "203.0.113.7", None),
        (
            &[("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "203.0.113.7")],
            "203.0.113.7",
            None,
        ),
        (&[("X-Forwarded-For", "10.1.0.1, 10.1.0.2")], "10.1.0.1", None),
        (&[("X-Forwarded-For", "6.6.6.6, unknown, 10.1.0.2")], "10.1.0.2", None),
        (&[("X-Forwarded-For", "[2001:db8::7]:99")], "2001:db8::7", Some("99")),
        (&[("X-Forwarded-For", "203.0.113.7:1234")], "203.0.113.7", Some("1234")),
        (&[("Forwarded", "for=203.0.113.7")], "203.0.113.7", None),
        (
            &[("Forwarded", "for=6.6.6.6, For=\"[2001:db8::7]\";by=x, for=10.1.0.1")],
            "2001:db8::7",
            None,
        ),
        (&[("Forwarded", "for=\"203.0.113.7:80\";host=\"a,b\"")], "203.0.113.7", Some("80")),
        (&[("Forwarded", "for=_hidden")], "127.0.0.1", None),
        (&[("X-Forwarded-For", "")], "127.0.0.1", None),
        (&[("X-Forwarded-For", "203.0.113.7, ,")], "203.0.113.7", None),
        // The client's part is not valid text; the proxy's is.
        (&[("X-Forwarded-For", "\u{ff}, 203.0.113.7")], "203.0.113.7", None),
        (&[("Forwarded", "for=\u{ff}, for=203.0.113.7")], "203.0.113.7", None),
    ];
    for (fields, expected, port) in cases {
        let body = text(&trusting.ask("GET", "/x", fields));
        assert_eq!(param(&body, "REMOTE_ADDR"), Some(expected), "{fields:?}\n{body}");
        if expected != "127.0.0.1" {
            assert_eq!(param(&body, "REMOTE_PORT"), port, "{fields:?}");
        }
        let body = text(&other.ask("GET", "/x", fields));
        assert_eq!(param(&body, "REMOTE_ADDR"), Some("127.0.0.1"), "{fields:?}");
        let sent =
            fields.iter().find(|(name, value)| *name == "X-Forwarded-For" && !value.is_empty());
        if sent.is_some() {
            assert!(param(&body, "HTTP_X_FORWARDED_FOR").is_some(), "passed as they are: {body}");
        }
    }
    until("the log has whom they name", || trusting.access_log().contains("203.0.113.7 - - ["));
    assert!(!other.access_log().contains("203.0.113.7 - -"));
}

#[test]
fn trusted_proxies_say_how_and_for_whom() {
    let app = App::start();
    let args = [&app.address, "--mount", "/", "--trusted-proxy", "127.0.0.1"];
    let gateway = Gateway::start(&args);
    let own = gateway.port.to_string();
    let cases: [(Fields, Option<&str>, &str, &str, &str); 10] = [
        (&[], None, "http", &own, "127.0.0.1"),
        (&[("X-Forwarded-Proto", "https")], Some("on"), "https", "443", "127.0.0.1"),
        (&[("X-Forwarded-Proto", "http")], None, "http", "80", "127.0.0.1"),
        (&[("X-Forwarded-Proto", "gopher")], None, "http", &own, "127.0.0.1"),
        (
            &[("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "shop.example")],
            Some("on"),
            "https",
            "443",
            "shop.example",
        ),
        (
            &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "shop.example:8443")],
            Some("on"),
            "https",
            "8443",
            "shop.example",
        ),
        (
            &[("X-Forwarded-For", "203.0.113.7, 127.0.0.1"), ("X-Forwarded-Proto", "https, http")],
            Some("on"),
            "https",
            "443",
            "127.0.0.1",
        ),
        (
            &[("Forwarded", "for=203.0.113.7;proto=https;host=\"shop.example:99\"")],
            Some("on"),
            "https",
            "99",
            "shop.example",
        ),
        (
            &[("Forwarded", "for=\"203.0.113.7\";proto=\"htt\\ps\";host=\"shop\\.example\"")],
            Some("on"),
            "https",
            "443",
            "shop.example",
        ),
        (&[("X-Forwarded-Host", "a@b")], None, "http", &own, "127.0.0.1"),
    ];
    for (fields, https, scheme, port, name) in cases {
        let body = text(&gateway.ask("GET", "/x", fields));
        assert_eq!(param(&body, "HTTPS"), https, "{fields:?}");
        assert_eq!(param(&body, "REQUEST_SCHEME"), Some(scheme), "{fields:?}");
        assert_eq!(param(&body, "SERVER_PORT"), Some(port), "{fields:?}");
        assert_eq!(param(&body, "SERVER_NAME"), Some(name), "{fields:?}");
        for name in ["REMOTE_ADDR", "HTTPS", "SERVER_PORT", "SERVER_NAME"] {
            let lines = body.lines().filter(|line| line.starts_with(&format!("{name}=")));
            assert!(lines.count() <= 1, "{name} twice in\n{body}");
        }
    }
    // The operator's setting takes precedence.
    let gateway = Gateway::start(&[&args[..], &["--param", "SERVER_PORT=1"]].concat());
    let body = text(&gateway.ask("GET", "/x", &[("X-Forwarded-Proto", "https")]));
    assert_eq!(param(&body, "SERVER_PORT"), Some("1"));
}

/// A proxy writes one kind, and passes on the other as its client sent it. So what only one of them
/// says may come from the client.
#[test]
fn forwarded_and_x_forwarded_have_to_agree() {
    let app = App::start();
    let args = [&app.address, "--mount", "/", "--trusted-proxy", "127.0.0.1"];
    let gateway = Gateway::start(&args);
    let x_for = ("X-Forwarded-For", "203.0.113.7");
    let (x_http, x_host) = (("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "good.example"));
    let cases: [Fields; 12] = [
        &[("Forwarded", "for=6.6.6.6"), x_for],
        &[("Forwarded", "for=203.0.113.7;proto=https;host=evil.example"), x_for, x_http, x_host],
        &[("Forwarded", "for=203.0.113.7;proto=http;host=evil.example"), x_for, x_http, x_host],
        // Only one of them names scheme, host or client.
        &[("Forwarded", "for=203.0.113.7;proto=https"), x_for],
        &[("Forwarded", "for=203.0.113.7"), x_for, ("X-Forwarded-Proto", "https")],
        &[("Forwarded", "for=203.0.113.7"), x_for, x_host],
        &[("Forwarded", "proto=http"), x_for, x_http],
        &[("Forwarded", "for=203.0.113.7;proto=https"), ("X-Forwarded-Proto", "https")],
        &[("Forwarded", "for=unknown"), x_for],
        &[("Forwarded", "for=127.0.0.1"), x_for],
        // The client's open quotation must not hide the proxy's part after it.
        &[("Forwarded", "for=\", for=203.0.113.7")],
        &[("Forwarded", "for=\"\\\", for=203.0.113.7;proto=http")],
    ];
    for fields in cases {
        let reply = gateway.ask("GET", "/x", fields);
        assert_eq!(reply.head.status, 400, "{fields:?}\n{}", text(&reply));
    }
    assert_eq!(app.state.asked(), 0);
    let logged = || gateway.error_log().matches("--forwarded").count() >= 10;
    until("each is logged", logged);
    assert!(gateway.access_log().lines().all(|line| line.starts_with("127.0.0.1 - - [")));
    // Both may say the same, and one may be missing.
    let both = [
        ("Forwarded", "For=\"203.0.113.7:80\";proto=https;host=\"Shop.example:99\""),
        x_for,
        ("X-Forwarded-Proto", "HTTPS"),
        ("X-Forwarded-Host", "shop.example:99"),
    ];
    let cases: [(Fields, Option<&str>); 3] = [
        (&both, Some("on")),
        (&[("Forwarded", ""), x_for, x_http], None),
        (&[("Forwarded", "by=_x;secret=\"a\\\"b,c\""), x_for, x_http], None),
    ];
    for (fields, https) in cases {
        let body = text(&gateway.ask("GET", "/x", fields));
        assert_eq!(param(&body, "REMOTE_ADDR"), Some("203.0.113.7"), "{fields:?}\n{body}");
        assert_eq!(param(&body, "HTTPS"), https, "{fields:?}\n{body}");
    }
    // From other addresses the fields are ignored, and nothing is refused.
    let other = Gateway::start(&[&app.address, "--mount", "/", "--trusted-proxy", "192.0.2.1"]);
    let body = text(&other.ask("GET", "/x", &[("Forwarded", "for=6.6.6.6"), x_for]));
    assert_eq!(param(&body, "REMOTE_ADDR"), Some("127.0.0.1"));
}

#[test]
fn it_can_be_said_which_of_them_the_proxies_write() {
    let app = App::start();
    let args = [&app.address, "--mount", "/", "--trusted-proxy", "127.0.0.1", "--forwarded"];
    let fields = [
        ("Forwarded", "for=192.0.2.5;proto=https;host=standard.example"),
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "x.example"),
    ];
    for (which, remote, https, name) in [
        ("x", "203.0.113.7", None, "x.example"),
        ("standard", "192.0.2.5", Some("on"), "standard.example"),
    ] {
        let gateway = Gateway::start(&[&args[..], &[which]].concat());
        let body = text(&gateway.ask("GET", "/x", &fields));
        assert_eq!(param(&body, "REMOTE_ADDR"), Some(remote), "{which}\n{body}");
        assert_eq!(param(&body, "HTTPS"), https, "{which}\n{body}");
        assert_eq!(param(&body, "SERVER_NAME"), Some(name), "{which}\n{body}");
    }
}

#[test]
fn requests_go_to_several_applications() {
    let (one, two) = (App::start(), App::start());
    let gateway = Gateway::start(&[&one.address, &two.address, "--mount", "/"]);
    // A request that was just answered may still be counted for a moment.
    let get = |held: usize| {
        assert_eq!(gateway.get("/x").head.status, 200);
        until("its connection is closed", || {
            let page = text(&gateway.get("/-/metrics"));
            let lines = page.lines();
            let open = lines.filter_map(|it| {
                it.strip_prefix("fcgi_gateway_application_connections{")?.rsplit(' ').next()
            });
            open.map(|n| n.parse::<usize>().expect("a number")).sum::<usize>() == held
        });
    };
    (0..10).for_each(|_| get(0));
    assert_eq!((one.state.asked(), two.state.asked()), (5, 5));
    // An application with something to do gets fewer requests.
    let mut held = gateway.connect();
    held.send_head("GET", "/hold", &[]).expect("send");
    held.read_head().expect("a head");
    (0..4).for_each(|_| get(1));
    let mut asked = [one.state.asked(), two.state.asked()];
    asked.sort_unstable();
    assert_eq!(asked, [6, 9]);
    one.state.release();
    two.state.release();
}

#[test]
fn what_was_not_processed_goes_to_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let down = format!("unix:{}", folder.path().join("down").display());
    let up = App::start();
    for addresses in [[&*down, &*up.address], [&*up.address, &*down]] {
        let gateway = Gateway::start(&[&addresses[..], &["--mount", "/"]].concat());
        let started = Instant::now();
        for length in [0, 3, 100_000] {
            let reply = gateway.connect().post("/x", length).expect("an answer");
            assert_eq!(reply.head.status, 200, "{}", text(&reply));
            assert!(text(&reply).contains(&format!("STDIN={length}\n")));
        }
        let in_time = started.elapsed() < Duration::from_secs(1);
        until("it is said", || gateway.error_log().contains("it rests for 1s"));
        // On a machine under load its rest may have been over before the last request.
        if in_time {
            assert_eq!(gateway.error_log().lines().count(), 1, "and then it rests");
        }
    }
    // One that is full refuses, and another takes it.
    let full = App::start();
    let gateway = Gateway::start(&[&down, &full.address, "--mount", "/"]);
    assert_eq!(gateway.get("/overloaded").head.status, 503);
    assert_eq!(full.state.asked(), 1);
    let gateway = Gateway::start(&[&down, &down, "--mount", "/"]);
    assert_eq!(gateway.get("/x").head.status, 502);
}

#[test]
fn ready_says_whether_the_application_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let down = format!("unix:{}", folder.path().join("down").display());
    let app = App::start();
    let status = |args: &[&str], page: &str| {
        let gateway = Gateway::start(&[args, &["--mount", "/"]].concat());
        let Reply { head, body, .. } = gateway.get(page);
        (head.status, String::from_utf8_lossy(&body).into_owned())
    };
    assert_eq!(status(&[&app.address], "/-/ready"), (200, "ready\n".to_owned()));
    assert_eq!(status(&[&down, &app.address], "/-/ready").0, 200);
    let gateway = Gateway::start(&[&down, "--mount", "/"]);
    let reply = gateway.get("/-/ready");
    assert_eq!(reply.head.status, 503);
    assert_eq!(text(&reply), "not ready: the application can't be reached\n");
    let line = format!("fcgi gateway: ready: connect to {down}: No such file");
    until("why is in the log", || gateway.error_log().contains(&line));
    assert_eq!(app.state.asked(), 0, "nothing is asked");
    // Elsewhere, or nowhere.
    assert_eq!(status(&[&app.address, "--ready", "/healthz"], "/healthz").0, 200);
    assert!(
        status(&[&app.address, "--ready", "/healthz"], "/-/ready").1.contains("PATH_INFO=/-/ready")
    );
    assert!(status(&[&app.address, "--ready", "off"], "/-/ready").1.contains("PATH_INFO=/-/ready"));
    assert!(status(&[&app.address, "--metrics", "off"], "/-/metrics").1.contains("PATH_INFO"));
}

/// Requests for `/-/ready` must not keep the application busy.
#[test]
fn ready_asks_once_a_second_at_most() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("tcp:{}", listener.local_addr().expect("an address"));
    let (send, accepted) = mpsc::channel();
    thread::spawn(move || listener.incoming().try_for_each(|stream| send.send(stream)));
    let gateway = Gateway::start(&[&address, "--mount", "/"]);
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut connection = gateway.connect();
                for _ in 0..25 {
                    let reply = connection.get("/-/ready").expect("an answer");
                    assert_eq!(reply.head.status, 200, "{}", text(&reply));
                }
            });
        }
    });
    let most = started.elapsed().as_secs() as usize + 1;
    let probes = accepted.try_iter().count();
    assert!((1..=most).contains(&probes), "{probes} connections in {most} s");
}

#[test]
fn the_pages_inside_can_be_denied() {
    let app = App::start();
    let gateway = Gateway::start(&[&app.address, "--mount", "/", "--deny", "/-"]);
    for page in ["/-/ready", "/-/metrics", "/-/x"] {
        assert_eq!(gateway.get(page).head.status, 403, "{page}");
    }
    assert_eq!(gateway.get("/x").head.status, 200);
    let gateway = Gateway::start(&[&app.address, "--mount", "/", "--deny", "/-/m*"]);
    assert_eq!(gateway.get("/-/metrics").head.status, 403);
    assert_eq!(gateway.get("/-/ready").head.status, 200);
}

#[test]
fn metrics_are_text_for_prometheus() {
    let app = App::start();
    let gateway = Gateway::start(&[&app.address, "--mount", "/", "--metrics", "/numbers"]);
    let mut held = gateway.connect();
    held.send_head("GET", "/hold", &[]).expect("send");
    held.read_head().expect("a head");
    for _ in 0..3 {
        gateway.get("/x");
    }
    gateway.get("/no-head");
    let mut invalid = gateway.connect();
    invalid.send(b"no request\r\n\r\n").expect("send");
    assert_eq!(invalid.read_reply().expect("an answer").head.status, 400);
    let page = || {
        let reply = gateway.get("/numbers");
        let kind = reply.head.field("content-type").expect("a type").to_owned();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        text(&reply)
    };
    let address = "{application=\"1\"}";
    let wanted = [
        "fcgi_gateway_requests_total{status=\"200\"} ".to_owned(),
        "fcgi_gateway_requests_total{status=\"400\"} 1".to_owned(),
        "fcgi_gateway_requests_total{status=\"502\"} 1".to_owned(),
        "fcgi_gateway_requests_under_way 2".to_owned(),
        "fcgi_gateway_client_connections ".to_owned(),
        "fcgi_gateway_request_seconds_bucket{le=\"+Inf\"} ".to_owned(),
        "fcgi_gateway_request_seconds_count ".to_owned(),
        format!("fcgi_gateway_application_up{address} 1"),
        format!("fcgi_gateway_application_connections{address} 1"),
        format!("fcgi_gateway_application_requests_waiting{address} 0"),
    ];
    until("all is counted", || {
        let page = page();
        wanted.iter().all(|line| page.lines().any(|found| found.starts_with(line)))
    });
    let page = page();
    let (_, bare) = app.address.split_once(':').expect("a scheme");
    assert!(!page.contains(bare), "where the application is concerns nobody: {page}");
    let mut families = HashSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(rest.split(' ').next().expect("a name").to_owned()), "{line}");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = name.split('{').next().expect("a name");
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(
                families.contains(name) || base.is_some_and(|it| families.contains(it)),
                "{line}"
            );
        }
    }
    app.state.release();
}

#[test]
fn logs_can_be_json() {
    let (app, root) = (App::start(), Root::new());
    let gateway = Gateway::start(&[&app.address, "--root", &root.arg(), "--log", "json"]);
    gateway.ask(
        "GET",
        "/page.txt?q=%22",
        &[("User-Agent", "a \"b\" \\"), ("Referer", "http://r/")],
    );
    gateway.get("/app.php/stderr");
    gateway.get("/app.php/no-head");
    // The first line is one too.
    let first: Value = serde_json::from_str(&gateway.line).expect(&gateway.line);
    let message = first["message"].as_str().expect("a text");
    let start = format!("http://127.0.0.1:{}/ serves ", gateway.port);
    assert!(message.starts_with(&start) && first["level"] == "info", "{first}");
    until("all is logged", || {
        gateway.access_log().lines().count() == 3 && gateway.error_log().lines().count() == 3
    });
    let parse = |log: String| -> Vec<Value> {
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };
    let (access, errors) = (parse(gateway.access_log()), parse(gateway.error_log()));
    let page = access.iter().find(|line| line["target"] == "/page.txt?q=%22").expect("the page");
    for (name, value) in [
        ("remote", Value::from("127.0.0.1")),
        ("method", "GET".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("bytes", 11.into()),
        ("user_agent", "a \"b\" \\".into()),
        ("referer", "http://r/".into()),
    ] {
        assert_eq!(page[name], value, "{name} of {page}");
    }
    assert!(page["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0), "{page}");
    let time = page["time"].as_str().expect("a time");
    assert!(time.len() == 24 && time.ends_with('Z') && &time[10..11] == "T", "{time}");
    // One name for a request in all its lines.
    let ids: HashSet<_> = access.iter().map(|line| line["id"].as_str().expect("an id")).collect();
    assert_eq!(ids.len(), 3);
    let stderr = access.iter().find(|line| line["target"] == "/app.php/stderr").expect("it");
    let told: Vec<_> = errors.iter().filter(|line| line["id"] == stderr["id"]).collect();
    assert_eq!(told.len(), 2, "{errors:?}");
    assert!(told.iter().all(|line| line["message"].as_str().expect("text").contains("STDERR")));
    let failed = access.iter().find(|line| line["status"] == 502).expect("the failure");
    assert_eq!(errors.iter().filter(|line| line["id"] == failed["id"]).count(), 1);
}

#[test]
fn a_request_has_one_name_in_both_logs() {
    let (app, root) = (App::start(), Root::new());
    fs::write(root.path().join("x.php"), "").expect("a file");
    let gateway = Gateway::start(&[&app.address, "--root", &root.arg()]);
    gateway.get("/app.php/no-head");
    gateway.get("/x.php");
    until("both are logged", || gateway.access_log().lines().count() == 2);
    until("the failure is logged", || gateway.error_log().ends_with('\n'));
    let (access, errors) = (gateway.access_log(), gateway.error_log());
    let id = |line: &str| line.rsplit(' ').next().expect("an id").to_owned();
    let (first, second) = access.split_once('\n').expect("two lines");
    assert_ne!(id(first), id(second.trim_end()));
    assert!(errors.trim_end().ends_with(&format!("[{}]", id(first))), "{access}{errors}");
}
