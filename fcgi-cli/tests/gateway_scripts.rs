//! `fcgi gateway`: front controllers, and what is kept from clients.

mod common;

use std::fs;

use common::gateway::{App, Gateway, PAGE, Root, SECRET, link, text, until};
use fcgi_testkit::http::Reply;

fn site(more: &[&str]) -> (App, Root, Gateway) {
    let (app, root) = (App::start(), Root::new());
    let gateway = start(&app, &root, more);
    (app, root, gateway)
}

fn start(app: &App, root: &Root, more: &[&str]) -> Gateway {
    Gateway::start(&[&[&*app.address, "--root", &root.arg()], more].concat())
}

fn has(reply: &Reply, lines: &[&str]) {
    let body = text(reply);
    for line in lines {
        assert!(body.lines().any(|found| found == *line), "no {line} in\n{body}");
    }
}

#[test]
fn front_controllers_answer_for_their_folders() {
    let (app, root) = (App::start(), Root::new());
    fs::write(root.path().join("index.php"), SECRET).expect("a file");
    let fronts = ["--front", "index.php", "--front", "sub/index.php"];
    let gateway = start(&app, &root, &fronts);
    has(&gateway.get("/none?x=1"), &["SCRIPT_NAME=/index.php", "REQUEST_URI=/none?x=1"]);
    has(&gateway.get("/sub/a/b"), &["SCRIPT_NAME=/sub/index.php"]);
    has(&gateway.get("/subway"), &["SCRIPT_NAME=/index.php"]);
    assert!(!text(&gateway.get("/sub/a/b")).contains("PATH_INFO="));
    assert_eq!(text(&gateway.get("/page.txt")), PAGE);

    let gateway = start(&app, &root, &[&fronts[..], &["--front-path-info"]].concat());
    has(&gateway.get("/none/x"), &["SCRIPT_NAME=/index.php", "PATH_INFO=/none/x"]);
    let name = format!("PATH_TRANSLATED={}/a/b", root.arg());
    has(&gateway.get("/sub/a/b"), &["SCRIPT_NAME=/sub/index.php", "PATH_INFO=/a/b", &name]);
    // A path that is not a file may mean something to the application.
    has(&gateway.get("/a%2Fb"), &["PATH_INFO=/a/b", "REQUEST_URI=/a%2Fb"]);
    has(&gateway.get("/.hidden/x"), &["PATH_INFO=/.hidden/x"]);
    has(&gateway.get("/app.php/a%2Fb"), &["SCRIPT_NAME=/app.php", "PATH_INFO=/a/b"]);
    for there in ["/.secret", "/.git/config", "/.git/", "/plain/../.secret", "/%2esecret"] {
        let reply = gateway.get(there);
        assert_eq!(reply.head.status, 404, "{there}");
        assert!(!text(&reply).contains(SECRET));
    }
    assert_eq!(gateway.get("/..%2fsecret.txt").head.status, 400);
}

#[test]
fn a_front_controller_that_is_not_there_is_an_error_at_the_start() {
    let root = Root::new();
    for (front, reason) in [
        ("none.php", "front controller none.php: there is no such file"),
        ("sub", "front controller sub: it is a folder"),
    ] {
        let args = ["gateway", "tcp:a:1", "--root", &root.arg(), "--front", front];
        let output = common::fcgi().args(args).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(reason) && stderr.contains(&root.arg()), "{stderr}");
    }
}

#[test]
fn a_site_that_needs_a_front_controller_is_told_once() {
    let (app, root) = (App::start(), Root::new());
    fs::write(root.path().join("index.php"), SECRET).expect("a file");
    let hint = "with --front index.php, index.php would answer all paths that are not files";
    let gateway = start(&app, &root, &[]);
    // These look like files.
    for target in ["/favicon.ico", "/articles/2.png", "/articles/1", "/articles/2"] {
        assert_eq!(gateway.get(target).head.status, 404, "{target}");
    }
    until("the log has the hint", || gateway.error_log().contains(hint));
    let log = gateway.error_log();
    assert_eq!(log.matches(hint).count(), 1, "{log}");
    assert!(log.contains("GET /articles/1: "), "{log}");

    let gateway = start(&app, &root, &["--front", "sub/index.php"]);
    assert_eq!(gateway.get("/articles/1").head.status, 404);
    assert!(!gateway.error_log().contains("--front"));
}

#[test]
fn an_address_alone_gets_an_explanation_once() {
    let app = App::start();
    let hint = "an application that is not a script needs --mount /; scripts need --root";
    let gateway = Gateway::start(&[&*app.address]);
    for target in ["/", "/users/7"] {
        assert_eq!(gateway.get(target).head.status, 404, "{target}");
    }
    until("the log has the hint", || gateway.error_log().contains(hint));
    assert_eq!(gateway.error_log().matches(hint).count(), 1, "{}", gateway.error_log());
    for more in [&["--mount", "/"][..], &["--root", "."]] {
        let gateway = Gateway::start(&[&[&*app.address], more].concat());
        gateway.get("/users/7");
        assert!(!gateway.error_log().contains(hint), "{more:?}");
    }
}

#[test]
fn a_link_out_of_the_root_is_named_in_the_log() {
    let (_app, root, gateway) = site(&[]);
    link(&root.path().join("../secret.txt"), &root.path().join("link.txt"));
    link(&root.path().join(".."), &root.path().join("up"));
    for (target, named) in [("/link.txt", "link.txt"), ("/up/secret.txt", "up")] {
        let reply = gateway.get(target);
        assert_eq!(reply.head.status, 404);
        assert!(!text(&reply).contains("link"), "clients are not told: {}", text(&reply));
        let line = format!("{named} is a link out of the root, which --follow-links allows");
        until("the log names it", || gateway.error_log().contains(&line));
        assert!(gateway.error_log().contains(&format!("GET {target}: ")));
    }
}

#[test]
fn a_folder_without_index_says_which_were_looked_for() {
    let (_app, root, gateway) = site(&["--index", "start.html", "--index", "start.php"]);
    fs::create_dir(root.path().join("empty")).expect("a folder");
    let reply = gateway.get("/empty/");
    assert_eq!(reply.head.status, 404);
    let page = text(&reply);
    assert!(page.contains("start.html") && page.contains("start.php"), "{page}");
    assert!(!text(&gateway.get("/none/")).contains("start.html"));
}

#[test]
fn denied_paths_are_for_nobody() {
    let (app, root) = (App::start(), Root::new());
    fs::create_dir_all(root.path().join("data/pages")).expect("a folder");
    for name in ["data/x.txt", "data/pages/y.txt", "dump.sql", "sub/dump.sql", "install.php"] {
        fs::write(root.path().join(name), SECRET).expect("a file");
    }
    fs::write(root.path().join("index.php"), SECRET).expect("a file");
    let denied = ["--deny", "/data", "--deny", "*.sql", "--deny", "/install.php"];
    for more in [&["--front", "index.php"][..], &["--mount", "/"], &[]] {
        let gateway = start(&app, &root, &[&denied[..], more].concat());
        let before = app.state.asked();
        for target in [
            "/data",
            "/data/",
            "/data/x.txt",
            "/data/pages/y.txt",
            "/data/none",
            "/%64ata/x.txt",
            "/data%2Fx.txt",
            "/plain/../data/x.txt",
            "/./data/x.txt",
            "//data/x.txt",
            "/plain/%2e%2e/data/x.txt",
            "/dump.sql",
            "/sub/dump.sql",
            "/dump.sq%6c",
            "/install.php",
            "/install.php/x",
            "/x/../install.php",
        ] {
            let reply = gateway.get(target);
            assert!(matches!(reply.head.status, 403), "{target}: {}", reply.head.status);
            assert!(!text(&reply).contains(SECRET));
        }
        assert_eq!(app.state.asked(), before, "none of it is the application's");
        assert_eq!(text(&gateway.get("/page.txt")), PAGE);
        assert_eq!(gateway.get("/database").head.status, if more.is_empty() { 404 } else { 200 });
    }
    // An index is a name too.
    let gateway = start(&app, &root, &["--deny", "/sub/index.php", "--deny", "/plain/*"]);
    assert_eq!(gateway.get("/sub/").head.status, 403);
    assert_eq!(gateway.get("/plain/").head.status, 403);
    assert_eq!(gateway.get("/").head.status, 200);
}

#[test]
fn a_prefix_may_have_only_files() {
    let (app, root) = (App::start(), Root::new());
    fs::create_dir_all(root.path().join("up/loads")).expect("a folder");
    for name in ["up/evil.php", "up/index.php", "up/loads/a.php5"] {
        fs::write(root.path().join(name), SECRET).expect("a file");
    }
    fs::write(root.path().join("up/a.txt"), PAGE).expect("a file");
    fs::write(root.path().join("up/index.html"), "index").expect("a file");
    fs::write(root.path().join("index.php"), SECRET).expect("a file");
    let gateway = start(&app, &root, &["--files", "/up", "--front", "index.php"]);
    assert_eq!(text(&gateway.get("/up/a.txt")), PAGE);
    assert_eq!(text(&gateway.get("/up/")), "index");
    assert_eq!(gateway.get("/up").head.status, 301);
    for target in ["/up/evil.php", "/up/evil.php/x", "/up/none", "/x/../up/evil.php", "/%75p/none"]
    {
        let reply = gateway.get(target);
        assert_eq!(reply.head.status, 404, "{target}");
        assert!(!text(&reply).contains(SECRET));
    }
    assert_eq!(app.state.asked(), 0);
    has(&gateway.get("/upper"), &["SCRIPT_NAME=/index.php"]);
}

#[test]
fn text_has_a_charset() {
    let (app, root) = (App::start(), Root::new());
    fs::write(root.path().join("a.css"), "a {}").expect("a file");
    fs::write(root.path().join("a.png"), "").expect("a file");
    let text_type = |gateway: &Gateway, target: &str| {
        gateway.get(target).head.field("content-type").expect("a type").to_owned()
    };
    for (args, html, css, plain) in [
        (&[][..], "text/html", "text/css", "text/plain; charset=utf-8"),
        (&["--charset", "off"], "text/html", "text/css", "text/plain"),
        (
            &["--charset", "iso-8859-1"],
            "text/html; charset=iso-8859-1",
            "text/css; charset=iso-8859-1",
            "text/plain; charset=iso-8859-1",
        ),
    ] {
        let gateway = start(&app, &root, args);
        assert_eq!(text_type(&gateway, "/"), html, "{args:?}");
        assert_eq!(text_type(&gateway, "/a.css"), css, "{args:?}");
        assert_eq!(text_type(&gateway, "/page.txt"), plain, "{args:?}");
        assert_eq!(text_type(&gateway, "/a.png"), "image/png");
    }
}

#[test]
fn files_that_were_compressed_ahead_are_sent_to_those_who_take_them() {
    let (app, root) = (App::start(), Root::new());
    for name in ["page.txt.gz", "page.txt.br", "only.js", "only.js.zst"] {
        fs::write(root.path().join(name), format!("{name} 0123456789")).expect("a file");
        common::gateway::set_modified(&root.path().join(name), common::gateway::MODIFIED);
    }
    let gateway = start(&app, &root, &[]);
    let ask = |target: &str, accept: &str, more: &[(&str, &str)]| {
        gateway.ask("GET", target, &[&[("Accept-Encoding", accept)], more].concat())
    };
    for (accept, coding, body) in [
        ("gzip", Some("gzip"), "page.txt.gz 0123456789"),
        ("gzip, br", Some("br"), "page.txt.br 0123456789"),
        ("gzip;q=1.0, br;q=0.5", Some("gzip"), "page.txt.gz 0123456789"),
        ("br;q=0, *", Some("gzip"), "page.txt.gz 0123456789"),
        ("zstd", None, PAGE),
        ("gzip;q=0", None, PAGE),
        ("identity", None, PAGE),
        ("identity, gzip;q=0.5", None, PAGE),
        ("*;q=0.1, identity;q=0.2", None, PAGE),
        ("identity;q=0.5, gzip;q=0.5", Some("gzip"), "page.txt.gz 0123456789"),
    ] {
        let reply = ask("/page.txt", accept, &[]);
        assert_eq!(reply.head.field("content-encoding"), coding, "{accept}");
        assert_eq!(text(&reply), body, "{accept}");
        assert_eq!(reply.head.field("vary"), Some("Accept-Encoding"), "{accept}");
        assert_eq!(reply.head.field("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(reply.head.field("content-length"), Some(&*body.len().to_string()));
    }
    assert_eq!(ask("/only.js", "zstd", &[]).head.field("content-encoding"), Some("zstd"));
    // Each version has its own tag, and ranges apply to the bytes that are sent.
    let tag = |accept| ask("/page.txt", accept, &[]).head.field("etag").expect("a tag").to_owned();
    let (plain, gzip, br) = (tag("x"), tag("gzip"), tag("br"));
    assert!(plain != gzip && gzip != br && plain != br, "{plain} {gzip} {br}");
    let reply = ask("/page.txt", "gzip", &[("If-None-Match", &gzip)]);
    assert_eq!((reply.head.status, reply.head.field("vary")), (304, Some("Accept-Encoding")));
    assert_eq!(ask("/page.txt", "gzip", &[("If-None-Match", &plain)]).head.status, 200);
    let reply = ask("/page.txt", "gzip", &[("Range", "bytes=5-7"), ("If-Range", &gzip)]);
    assert_eq!((reply.head.status, text(&reply)), (206, "txt".to_owned()));
    assert_eq!(reply.head.field("content-encoding"), Some("gzip"));
    assert_eq!(reply.head.field("content-range"), Some("bytes 5-7/22"));
    let reply = ask("/page.txt", "gzip", &[("Range", "bytes=5-7"), ("If-Range", &plain)]);
    assert_eq!(reply.head.status, 200, "a part of another representation");
    // Requested by their own names, they are ordinary files.
    let reply = ask("/page.txt.gz", "gzip", &[]);
    assert_eq!(reply.head.field("content-encoding"), None);
    assert_eq!(reply.head.field("content-type"), Some("application/gzip"));

    let gateway = start(&app, &root, &["--precompressed", "off"]);
    let reply = gateway.ask("GET", "/page.txt", &[("Accept-Encoding", "gzip")]);
    assert_eq!((text(&reply), reply.head.field("vary")), (PAGE.to_owned(), None));
}
