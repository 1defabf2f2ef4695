//! `fcgi gateway`: files that change while they are served.

mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use common::gateway::{
    App, Gateway, Http2, MODIFIED, PAGE, Root, SECRET, block_on, link, set_modified, text, until,
};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

fn site(args: &[&str]) -> (App, Root, Gateway) {
    let (app, root) = (App::start(), Root::new());
    let gateway = Gateway::start(&[&[&*app.address, "--root", &root.arg()], args].concat());
    (app, root, gateway)
}

/// Makes a pipe with a name.
fn pipe(name: &std::path::Path) {
    let made = Command::new("mkfifo").arg(name).status().expect("mkfifo runs");
    assert!(made.success());
}

/// A name is a page, a link out of the root and a pipe in turn. Nothing outside is shown, and nobody
/// waits for the pipe.
#[test]
fn a_file_that_is_swapped_under_way_shows_nothing() {
    let (_app, root, gateway) = site(&[]);
    let place = |name: &str| root.path().join(name);
    fs::create_dir(place("swap")).expect("a folder");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                let next = place(&format!("next-{n}"));
                match n % 3 {
                    0 => fs::write(&next, PAGE).expect("a file"),
                    1 => symlink("../../secret.txt", &next).expect("a link"),
                    _ => pipe(&next),
                }
                fs::rename(&next, place("swap/name.txt")).expect("a rename");
            }
        });
        let mut connection = gateway.connect();
        for _ in 0..1000 {
            let reply = connection.get("/swap/name.txt").expect("an answer");
            match reply.head.status {
                200 => assert_eq!(text(&reply), PAGE),
                status => assert_eq!(status, 404, "{}", text(&reply)),
            }
            assert!(!text(&reply).contains(SECRET));
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn links_that_stay_inside_are_followed() {
    let (_app, root, gateway) = site(&[]);
    let place = |name: &str| root.path().join(name);
    symlink("../page.txt", place("sub/relative.txt")).expect("a link");
    link(&place("page.txt"), &place("sub/absolute.txt"));
    link(&place("plain"), &place("folder"));
    for (target, expected) in [
        ("/sub/relative.txt", PAGE),
        ("/sub/absolute.txt", PAGE),
        ("/folder/", "<h1>plain</h1>"),
        ("/folder/index.html", "<h1>plain</h1>"),
    ] {
        assert_eq!(text(&gateway.get(target)), expected, "{target}");
    }
    // Out and in again, a circle, a pipe, nothing.
    link(&place("../www/page.txt"), &place("around.txt"));
    symlink("circle", place("circle")).expect("a link");
    symlink("none", place("dangling")).expect("a link");
    pipe(&place("pipe"));
    assert_eq!(text(&gateway.get("/around.txt")), PAGE, "it ends inside");
    for target in ["/circle", "/dangling", "/pipe"] {
        assert_eq!(gateway.get(target).head.status, 404, "{target}");
    }
}

#[test]
fn a_pipe_is_not_waited_for_where_links_are_followed() {
    let (_app, root, gateway) = site(&["--follow-links"]);
    pipe(&root.path().join("../pipe"));
    link(&root.path().join("../pipe"), &root.path().join("link"));
    assert_eq!(gateway.get("/link").head.status, 404);
}

/// The root is a link that is switched at a release.
#[test]
fn a_release_is_served_at_once() {
    let (app, folder) = (App::start(), tempfile::tempdir().expect("a folder"));
    let place = |name: &str| folder.path().join(name);
    for release in ["1", "2"] {
        fs::create_dir_all(place(release).join("public")).expect("a folder");
        fs::write(place(release).join("public/page.txt"), release).expect("a file");
        fs::write(place(release).join("public/app.php"), "").expect("a file");
    }
    let switch_to = |release: &str| {
        symlink(release, place("next")).expect("a link");
        fs::rename(place("next"), place("current")).expect("a rename");
    };
    switch_to("1");
    let root = place("current/public").display().to_string();
    let gateway = Gateway::start(&[&app.address, "--root", &root]);
    let mut connection = gateway.connect();
    for release in ["1", "2", "1"] {
        switch_to(release);
        assert_eq!(text(&connection.get("/page.txt").expect("an answer")), release);
        let parameters = text(&connection.get("/app.php").expect("an answer"));
        let real = fs::canonicalize(place(release).join("public")).expect("it is there");
        let real = real.display();
        for line in [format!("SCRIPT_FILENAME={real}/app.php"), format!("DOCUMENT_ROOT={real}")] {
            assert!(parameters.contains(&format!("{line}\n")), "no {line} in\n{parameters}");
        }
    }
    // While it leads nowhere, the last release stays.
    fs::remove_file(place("current")).expect("it is there");
    assert_eq!(text(&connection.get("/page.txt").expect("an answer")), "1");
    switch_to("2");
    assert_eq!(text(&connection.get("/page.txt").expect("an answer")), "2");
}

/// Without descriptors nothing can be looked up. That is not a 404.
#[test]
fn no_descriptor_is_503_and_logged() {
    let (_app, _root, gateway) = site(&[]);
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/page.txt").expect("an answer").head.status, 200);
    assert_eq!(connection.get("/app.php").expect("an answer").head.status, 200);
    let pid = Pid::from_raw(gateway.pid()).expect("a process");
    let none = Rlimit { current: Some(1), maximum: Some(1024) };
    let before = prlimit(Some(pid), Resource::Nofile, none).expect("a limit");
    for target in ["/page.txt", "/app.php", "/nope"] {
        let reply = connection.get(target).expect("an answer");
        assert_eq!(reply.head.status, 503, "{target}: {}", text(&reply));
        assert!(!text(&reply).contains("os error"), "{}", text(&reply));
        let line = format!("GET {target}: look for the file: Too many open files");
        until("it is logged", || gateway.error_log().contains(&line));
    }
    let enough = Rlimit { current: Some(1024), ..before };
    prlimit(Some(pid), Resource::Nofile, Rlimit { maximum: Some(1024), ..enough })
        .expect("a limit");
    assert_eq!(connection.get("/page.txt").expect("an answer").head.status, 200);
}

/// HTTP/2 clients that do not read their files take no descriptor from scripts and other clients.
#[test]
fn files_leave_descriptors_to_scripts() {
    let (app, root) = (App::start(), Root::new());
    fs::write(root.path().join("large.bin"), vec![b'x'; 4 << 20]).expect("a file");
    let gateway = Gateway::start_with_files(200, &[&app.address, "--root", &root.arg()]);
    until("it says so", || gateway.error_log().contains("at most 64 clients at once"));
    block_on(async {
        let mut held = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = Http2::connect(&gateway).await;
            for _ in 0..40 {
                held.push(client.get("/large.bin").await.expect("an answer"));
            }
            clients.push(client);
        }
        let refused = held.iter().filter(|answer| answer.status() == 503).count();
        let sent = held.iter().filter(|answer| answer.status() == 200).count();
        assert_eq!((sent, refused), (32, 88));
        for client in &mut clients {
            assert_eq!(client.get("/app.php").await.expect("an answer").status(), 200);
        }
        assert_eq!(text(&gateway.get("/app.php")).lines().last(), Some("STDIN=0"));
    });
    until("it is logged", || gateway.error_log().contains("as many files as may be open"));
}

/// RFC 9110, section 13: the conditional fields in their order, and their results.
#[test]
fn rfc_9110_13_conditional_requests() {
    let (_app, _root, gateway) = site(&[]);
    let head = gateway.get("/page.txt").head;
    let tag = head.field("etag").expect("a tag").to_owned();
    let date = "Sun, 09 Sep 2001 01:46:40 GMT";
    assert_eq!(head.field("last-modified"), Some(date));
    assert!(tag.starts_with('"') && tag.ends_with('"'), "strong: {tag}");
    let (weak, both) = (format!("W/{tag}"), format!("\"a,b\" , W/\"c\",{tag}"));
    let (tag, weak, both) = (&*tag, &*weak, &*both);
    let (before, after) = ("Sun, 09 Sep 2001 01:46:39 GMT", "Sun, 09 Sep 2001 01:46:41 GMT");
    for (fields, status) in [
        // If-Match compares strongly.
        (&[("If-Match", tag)][..], 200),
        (&[("If-Match", both)], 200),
        (&[("If-Match", "*")], 200),
        (&[("If-Match", weak)], 412),
        (&[("If-Match", "\"other\"")], 412),
        (&[("If-Match", "other")], 412),
        (&[("If-Match", "\"other\""), ("If-Match", tag)], 200),
        // If-Unmodified-Since, unless there is an If-Match.
        (&[("If-Unmodified-Since", date)], 200),
        (&[("If-Unmodified-Since", after)], 200),
        (&[("If-Unmodified-Since", before)], 412),
        (&[("If-Unmodified-Since", "yesterday")], 200),
        (&[("If-Match", tag), ("If-Unmodified-Since", before)], 200),
        // If-None-Match compares weakly.
        (&[("If-None-Match", tag)], 304),
        (&[("If-None-Match", weak)], 304),
        (&[("If-None-Match", both)], 304),
        (&[("If-None-Match", "*")], 304),
        (&[("If-None-Match", "\"other\"")], 200),
        // If-Modified-Since, unless there is an If-None-Match.
        (&[("If-Modified-Since", date)], 304),
        (&[("If-Modified-Since", after)], 304),
        (&[("If-Modified-Since", before)], 200),
        (&[("If-Modified-Since", "yesterday")], 200),
        (&[("If-None-Match", "\"other\""), ("If-Modified-Since", date)], 200),
        (&[("If-None-Match", tag), ("If-Modified-Since", before)], 304),
        // The order of both groups.
        (&[("If-Match", "\"other\""), ("If-None-Match", tag)], 412),
        (&[("If-Match", tag), ("If-None-Match", tag)], 304),
        // If-Range compares strongly, and dates exactly.
        (&[("Range", "bytes=0-1"), ("If-Range", tag)], 206),
        (&[("Range", "bytes=0-1"), ("If-Range", weak)], 200),
        (&[("Range", "bytes=0-1"), ("If-Range", "\"other\"")], 200),
        (&[("Range", "bytes=0-1"), ("If-Range", date)], 206),
        (&[("Range", "bytes=0-1"), ("If-Range", after)], 200),
        (&[("Range", "bytes=99-"), ("If-Range", "\"other\"")], 200),
        (&[("Range", "BYTES=0-1")], 206),
        (&[("Range", "bytes=0-1"), ("If-None-Match", tag)], 304),
        (&[("Range", "bytes=0-1"), ("If-Match", "\"other\"")], 412),
    ] {
        for method in ["GET", "HEAD"] {
            let reply = gateway.ask(method, "/page.txt", fields);
            let expected = if method == "HEAD" && status == 206 { 200 } else { status };
            assert_eq!(reply.head.status, expected, "{method} {fields:?}");
            if expected != 412 {
                assert_eq!(reply.head.field("etag"), Some(tag), "{fields:?}");
            }
            let is_page = reply.head.field("content-type").is_some();
            assert_eq!(is_page, expected != 304, "{fields:?}");
        }
    }
}

/// Two versions of one second and one length.
#[test]
fn an_edit_within_a_second_is_seen() {
    let (_app, root, gateway) = site(&[]);
    let file = root.path().join("page.txt");
    let tag = gateway.get("/page.txt").head.field("etag").expect("a tag").to_owned();
    let edited = PAGE.to_uppercase().replace('0', "X");
    fs::write(&file, &edited).expect("a file");
    set_modified(&file, MODIFIED + 1);
    let reply = gateway.ask("GET", "/page.txt", &[("If-None-Match", &tag)]);
    assert_eq!((reply.head.status, text(&reply)), (200, edited));
    assert_eq!(gateway.ask("GET", "/page.txt", &[("If-Match", &tag)]).head.status, 412);
    let stale = [("Range", "bytes=0-1"), ("If-Range", &*tag)];
    assert_eq!(gateway.ask("GET", "/page.txt", &stale).head.status, 200);
}

/// In a second that is not over there may be more versions: so none gets that date.
#[test]
fn a_date_that_is_not_over_is_not_told() {
    let (_app, root, gateway) = site(&[]);
    let hour = 3_600_000;
    let now = std::time::UNIX_EPOCH.elapsed().expect("a time after 1970").as_millis() as u64;
    set_modified(&root.path().join("page.txt"), now + hour);
    assert_eq!(gateway.get("/page.txt").head.field("last-modified"), None);
    set_modified(&root.path().join("page.txt"), now - hour);
    assert!(gateway.get("/page.txt").head.field("last-modified").is_some());
}

/// The application names a file, by a field that no client sees.
#[test]
fn an_application_hands_a_file_over() {
    let (app, root) = (App::start(), Root::new());
    let private = root.path().join("../private");
    fs::create_dir_all(private.join("sub dir")).expect("a folder");
    fs::write(private.join("sub dir/page.txt"), PAGE).expect("a file");
    set_modified(&private.join("sub dir/page.txt"), MODIFIED);
    link(&root.path().join("../secret.txt"), &private.join("out"));
    let private = fs::canonicalize(private).expect("it is there").display().to_string();
    let args = ["--mount", "/", "--sendfile-root", &private];
    let gateway = Gateway::start(&[&[&*app.address], &args[..]].concat());
    let sendfile = format!("X-Sendfile:%20{private}/sub%20dir/page.txt");
    for field in [
        "X-Accel-Redirect:%20/sub%2520dir/page.txt",
        "X-Sendfile:%20sub%20dir/page.txt",
        "X-LIGHTTPD-send-file:%20sub%20dir/page.txt",
        &sendfile,
    ] {
        let reply = gateway.get(&format!("/field?{field}"));
        assert_eq!((reply.head.status, text(&reply)), (200, PAGE.to_owned()), "{field}");
        let fields: Vec<_> = reply.head.fields.iter().map(|(name, _)| &**name).collect();
        assert!(!fields.iter().any(|name| name.starts_with("x-")), "{fields:?}");
        assert_eq!(reply.head.field("content-disposition"), Some("attachment"));
        assert_eq!(reply.head.field("set-cookie"), Some("a=b"));
        assert_eq!(reply.head.field("content-type"), Some("text/plain"));
        let tag = reply.head.field("etag").expect("the file's tag");
        assert_ne!(tag, "\"mine\"");
        // Ranges and conditions are those of the file.
        let target = format!("/field?{field}");
        let part = gateway.ask("GET", &target, &[("Range", "bytes=2-4"), ("If-Range", tag)]);
        assert_eq!((part.head.status, text(&part)), (206, "234".to_owned()));
        let several = gateway.ask("GET", &target, &[("Range", "bytes=2-4,6-7")]);
        let kind = several.head.field("content-type").expect("a type");
        assert!(kind.starts_with("multipart/byteranges; boundary="), "{kind}");
        assert_eq!(several.head.field("content-disposition"), Some("attachment"));
        let beyond = gateway.ask("GET", &target, &[("Range", "bytes=99-")]);
        assert_eq!(beyond.head.status, 416);
        assert_eq!(beyond.head.field("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(beyond.head.field("content-disposition"), None, "it is the page's");
        assert_eq!(beyond.head.field("set-cookie"), Some("a=b"));
        let known = gateway.ask("GET", &target, &[("If-None-Match", tag)]);
        assert_eq!(known.head.status, 304);
        let posted = gateway.connect().post(&target, 3).expect("an answer");
        assert_eq!((posted.head.status, text(&posted)), (200, PAGE.to_owned()));
        let head = gateway.connect().head(&target).expect("an answer");
        assert_eq!((head.head.field("content-length"), head.body.len()), (Some("11"), 0));
        // They are for an answer of 200 only (RFC 9110, 13.2.1).
        let failed = format!("/field?Status:%20404%0A{field}");
        for fields in [&[][..], &[("Range", "bytes=2-4")], &[("If-None-Match", tag)]] {
            let reply = gateway.ask("GET", &failed, fields);
            assert_eq!((reply.head.status, text(&reply)), (404, PAGE.to_owned()), "{fields:?}");
        }
        let head = gateway.connect().head(&failed).expect("an answer");
        assert_eq!((head.head.status, head.body.len()), (404, 0));
    }
    for path in [
        "/../secret.txt",
        "/sub%2520dir/%252e%252e/%252e%252e/secret.txt",
        "/out",
        "/none",
        "none",
        "/",
        "/sub%2520dir/page.txt/",
        "/sub%2520dir/page.txt/.",
        "sub%20dir/page.txt/",
        "sub%20dir/page.txt/./",
    ] {
        for field in ["X-Accel-Redirect", "X-Sendfile"] {
            let reply = gateway.get(&format!("/field?{field}:%20{path}"));
            assert_eq!(reply.head.status, 404, "{field}: {path}: {}", text(&reply));
            let line = format!("GET /field: {} names no file", field.to_ascii_lowercase());
            until("it is logged", || gateway.error_log().contains(&line));
        }
    }
    let outside = root.path().join("page.txt").display().to_string();
    assert_eq!(gateway.get(&format!("/field?X-Sendfile:%20{outside}")).head.status, 404);
}

#[test]
fn no_client_sees_the_fields_of_a_handover() {
    let app = App::start();
    let gateway = Gateway::start(&[&app.address, "--mount", "/"]);
    for field in ["X-Accel-Redirect", "X-Sendfile", "X-LIGHTTPD-send-file"] {
        let reply = gateway.get(&format!("/field?{field}:%20/srv/secret"));
        assert_eq!((reply.head.status, &*text(&reply)), (200, "of the application"));
        assert!(!reply.head.fields.iter().any(|(_, value)| value.contains("secret")));
        let line = format!("{} removed: there is no --sendfile-root", field.to_ascii_lowercase());
        until("it is logged", || gateway.error_log().contains(&line));
    }
    for field in ["X-Accel-Buffering", "X-Accel-Expires", "X-Accel-Limit-Rate"] {
        let reply = gateway.get(&format!("/field?{field}:%200"));
        assert!(reply.head.field(&field.to_ascii_lowercase()).is_none());
    }
}
