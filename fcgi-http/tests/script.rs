//! From a path to a script: the rules and the hostile lines.

use fcgi_http::script::{
    ConfigError, EncodedSlashes, FileKind, Mount, Script, ScriptError, ScriptMap, Target,
};

const FILES: &[&str] = &[
    "/srv/index.php",
    "/srv/a.php",
    "/srv/x.jpg",
    "/srv/sub/index.php",
    "/srv/static/index.html",
    "/srv/dir.php/inner.php",
    "/srv/b.PHP",
    "/srv/.env",
    "/srv/.git/hook.php",
    "/srv/.well-known/token",
    "/srv/a b.php",
];

/// Whether `file` is somewhere below the directory `name`.
fn is_below(file: &str, name: &[u8]) -> bool {
    file.as_bytes().strip_prefix(name).is_some_and(|rest| rest.starts_with(b"/"))
}

fn files(name: &[u8]) -> FileKind {
    if FILES.iter().any(|file| file.as_bytes() == name) {
        FileKind::File
    } else if FILES.iter().any(|file| is_below(file, name)) {
        FileKind::Directory
    } else {
        FileKind::Missing
    }
}

fn map() -> ScriptMap {
    ScriptMap::builder("/srv").index(["index.php", "index.html"]).build().unwrap()
}

fn script(name: &str, info: &str) -> Script {
    let mut script = Script::new(name, info);
    script.script_filename = Some(format!("/srv{name}").into());
    script.document_root = Some("/srv".into());
    script
}

fn run(name: &str, info: &str) -> Result<Target, ScriptError> {
    Ok(Target::Script(script(name, info)))
}

fn file(name: &str) -> Result<Target, ScriptError> {
    Ok(Target::File { file_name: name.into() })
}

fn redirect(location: &str) -> Result<Target, ScriptError> {
    Ok(Target::Redirect { location: location.into() })
}

#[test]
fn cgi_4_1_5_1_the_path_is_decoded_and_split_at_a_script() {
    for (path, expected) in [
        ("/a.php", run("/a.php", "")),
        ("/a.php/", run("/a.php", "/")),
        ("/a.php/x/y", run("/a.php", "/x/y")),
        ("/a.php/x/", run("/a.php", "/x/")),
        ("/a.php/J%C3%BCrgen%20X", run("/a.php", "/Jürgen X")),
        ("/a.php/b.php", run("/a.php", "/b.php")),
        ("/a.php/.hidden", run("/a.php", "/.hidden")),
        ("/a%20b.php", run("/a b.php", "")),
        ("/", run("/index.php", "")),
        ("/sub/", run("/sub/index.php", "")),
        ("/static/", file("/srv/static/index.html")),
        ("/x.jpg", file("/srv/x.jpg")),
        ("/sub", redirect("/sub/")),
        // A directory whose name ends like a script's.
        ("/dir.php", redirect("/dir.php/")),
        ("/dir.php/", Err(ScriptError::NotFound)),
        ("/dir.php/inner.php/i", run("/dir.php/inner.php", "/i")),
        ("/missing.php", Err(ScriptError::NotFound)),
        ("/missing", Err(ScriptError::NotFound)),
        ("/x.jpg/", Err(ScriptError::NotFound)),
    ] {
        assert_eq!(map().resolve(path, files), expected, "{path}");
    }
}

#[test]
fn cgi_4_1_5_1_dots_and_slashes_are_resolved_once() {
    for (path, expected) in [
        ("//a.php", run("/a.php", "")),
        ("/sub//..///a.php//x", run("/a.php", "/x")),
        ("/./sub/.", run("/sub/index.php", "")),
        ("/sub/x/..", run("/sub/index.php", "")),
        ("/sub/%2e%2E/a.php", run("/a.php", "")),
        ("/a.php/x/../../index.php", run("/index.php", "")),
        ("/..", Err(ScriptError::AboveRoot)),
        ("/../srv/a.php", Err(ScriptError::AboveRoot)),
        ("/sub/../../etc/passwd", Err(ScriptError::AboveRoot)),
        ("/%2e%2e/etc/passwd", Err(ScriptError::AboveRoot)),
        // Decoded once: what is left is a name, and there is no such file.
        ("/%252e%252e/a.php", Err(ScriptError::NotFound)),
        ("/a.php/%252e%252e", run("/a.php", "/%2e%2e")),
        ("/...", Err(ScriptError::Hidden)),
    ] {
        assert_eq!(map().resolve(path, files), expected, "{path}");
    }
}

#[test]
fn h_14_hostile_paths_reach_no_other_script() {
    for (path, expected) in [
        // CVE-2019-11043: a line end made PATH_INFO empty.
        ("/a.php%0a", Err(ScriptError::ControlByte(b'\n'))),
        ("/a.php/%0Ax", Err(ScriptError::ControlByte(b'\n'))),
        ("/a.php/%0d", Err(ScriptError::ControlByte(b'\r'))),
        ("/a.php%00.jpg", Err(ScriptError::ControlByte(0))),
        ("/x.jpg%00.php", Err(ScriptError::ControlByte(0))),
        ("/x%7f", Err(ScriptError::ControlByte(0x7f))),
        // An upload that is made to run.
        ("/x.jpg/y.php", Err(ScriptError::NotFound)),
        ("/x.jpg/.php", Err(ScriptError::Hidden)),
        ("/x.jpg/a.php/../y.php", Err(ScriptError::NotFound)),
        // Case: another one is no script, and its source is not shown either.
        ("/b.PHP", Err(ScriptError::NotFound)),
        ("/a.pHp", Err(ScriptError::NotFound)),
        // U+023A is two bytes and its lower case three; U+212A folds to k, U+017F to s.
        ("/%C8%BA%C8%BA%C8%BAx.jpg.php/a.php", Err(ScriptError::NotFound)),
        ("/a.php%C5%BF", Err(ScriptError::NotFound)),
        // Encodings that are none.
        ("/a%", Err(ScriptError::BadEscape)),
        ("/a%2", Err(ScriptError::BadEscape)),
        ("/a%zz.php", Err(ScriptError::BadEscape)),
        ("/%+1", Err(ScriptError::BadEscape)),
        ("", Err(ScriptError::NotAbsolute)),
        ("*", Err(ScriptError::NotAbsolute)),
        ("a.php", Err(ScriptError::NotAbsolute)),
    ] {
        assert_eq!(map().resolve(path, files), expected, "{path}");
    }
}

#[test]
fn h_14_a_suffix_ends_a_segment() {
    let all_files = |_: &[u8]| FileKind::File;
    for (path, name, info) in [
        ("/a.phpx/b.php/c", "/a.phpx/b.php", "/c"),
        ("/a.php5/b.php", "/a.php5/b.php", ""),
        ("/%C8%BA.php/x.php", "/Ⱥ.php", "/x.php"),
    ] {
        assert_eq!(map().resolve(path, all_files), run(name, info), "{path}");
    }
    assert_eq!(map().resolve("/a.phpx", all_files), file("/srv/a.phpx"));
}

#[test]
fn h_14_slashes_that_two_programs_read_differently_are_refused_by_default() {
    let decode =
        ScriptMap::builder("/srv").encoded_slashes(EncodedSlashes::Decode).build().unwrap();
    for (path, decoded) in [
        ("/a.php/x%2Fy", run("/a.php", "/x/y")),
        ("/a.php/x%5Cy", run("/a.php", "/x\\y")),
        ("/a.php/x\\y", run("/a.php", "/x\\y")),
        ("/sub%2f..%2fa.php", run("/a.php", "")),
        ("/..%2f..%2fetc/passwd", Err(ScriptError::AboveRoot)),
        ("/..\\..\\etc\\passwd", Err(ScriptError::Hidden)),
    ] {
        assert_eq!(map().resolve(path, files), Err(ScriptError::EncodedSlash), "{path}");
        assert_eq!(decode.resolve(path, files), decoded, "{path}");
    }
}

#[test]
fn hidden_files_are_refused_unless_allowed() {
    let allowed = ScriptMap::builder("/srv").hidden_files(true).build().unwrap();
    for (path, when_allowed) in
        [("/.env", file("/srv/.env")), ("/.git/hook.php/x", run("/.git/hook.php", "/x"))]
    {
        assert_eq!(map().resolve(path, files), Err(ScriptError::Hidden), "{path}");
        assert_eq!(allowed.resolve(path, files), when_allowed, "{path}");
    }
    assert_eq!(map().resolve("/.well-known/token", files), file("/srv/.well-known/token"));
    assert_eq!(map().resolve("/sub/.well-known/token", files), Err(ScriptError::Hidden));
    let front = ScriptMap::builder("/srv").front_controller("/index.php").build().unwrap();
    assert_eq!(front.resolve("/.env", files), Err(ScriptError::Hidden), "not hidden by the front");
}

#[test]
fn a_front_controller_gets_what_is_no_file() {
    let builder = ScriptMap::builder("/srv").front_controller("/index.php");
    let plain = builder.clone().build().unwrap();
    let with_info = builder.clone().front_controller_path_info(true).build().unwrap();
    for (path, info) in [
        ("/users/7", "/users/7"),
        ("/missing.php/x", "/missing.php/x"),
        ("/missing.php/.x", "/missing.php/.x"),
        ("/x.jpg/y.php", "/x.jpg/y.php"),
        ("/static/", "/static/"),
        ("/b.PHP", "/b.PHP"),
    ] {
        assert_eq!(plain.resolve(path, files), run("/index.php", ""), "{path}");
        assert_eq!(with_info.resolve(path, files), run("/index.php", info), "{path}");
    }
    assert_eq!(plain.resolve("/a.php/x", files), run("/a.php", "/x"));
    assert_eq!(plain.resolve("/x.jpg", files), file("/srv/x.jpg"));
    let missing = ScriptMap::builder("/srv").front_controller("/front.php").build().unwrap();
    assert_eq!(missing.resolve("/users/7", files), Err(ScriptError::NotFound));
}

#[test]
fn files_may_be_seen_elsewhere_than_the_application_sees_them() {
    let map = ScriptMap::builder("/var/www/html/").local_root("/srv/").build().unwrap();
    let Ok(Target::Script(script)) = map.resolve("/a.php/i", files) else { panic!() };
    assert_eq!(script.script_filename.as_deref(), Some(&b"/var/www/html/a.php"[..]));
    assert_eq!(script.document_root.as_deref(), Some(&b"/var/www/html"[..]));
    assert_eq!(script.path_translated().as_deref(), Some(&b"/var/www/html/i"[..]));
    assert_eq!(map.resolve("/x.jpg", files), file("/srv/x.jpg"));

    let root = ScriptMap::builder("/").build().unwrap();
    let Ok(Target::Script(script)) = root.resolve("/srv/a.php/i", files) else { panic!() };
    assert_eq!(script.script_filename.as_deref(), Some(&b"/srv/a.php"[..]));
    assert_eq!(script.path_translated().as_deref(), Some(&b"/i"[..]));
}

#[test]
fn h_14_without_sight_of_the_files_what_may_be_one_is_refused() {
    let front = ScriptMap::builder("/srv").front_controller("/index.php").build().unwrap();
    let found = |name, info| Ok(script(name, info));
    for (path, plain, fronted) in [
        ("/a.php", found("/a.php", ""), found("/a.php", "")),
        ("/a.php/b.php/c", found("/a.php", "/b.php/c"), found("/a.php", "/b.php/c")),
        ("/sub/", found("/sub/index.php", ""), found("/index.php", "")),
        ("/users/7", Err(ScriptError::NotFound), found("/index.php", "")),
        ("/x.jpg/y.php", Err(ScriptError::Ambiguous), Err(ScriptError::Ambiguous)),
        ("/x.jpg/d/y.php/z", Err(ScriptError::Ambiguous), Err(ScriptError::Ambiguous)),
        ("/x.jpg/", Err(ScriptError::Ambiguous), found("/index.php", "")),
        ("/.git/a.php", Err(ScriptError::Hidden), Err(ScriptError::Hidden)),
        ("/a.php%00", Err(ScriptError::ControlByte(0)), Err(ScriptError::ControlByte(0))),
    ] {
        assert_eq!(map().resolve_unseen(path), plain, "{path}");
        assert_eq!(front.resolve_unseen(path), fronted, "{path}");
    }
}

#[test]
fn a_redirect_to_a_directory_stays_on_the_server_and_in_one_line() {
    let directories = |_: &[u8]| FileKind::Directory;
    for (path, location) in [
        ("//evil.example", "/evil.example/"),
        ("/%2e/%20%3F%23%25", "/%20%3F%23%25/"),
        ("/d%C3%BC", "/d%C3%BC/"),
    ] {
        assert_eq!(map().resolve(path, directories), redirect(location), "{path}");
    }
}

#[test]
fn a_file_system_is_asked_no_more_than_it_must() {
    let mut asked = Vec::new();
    let path = "/x.php".repeat(10_000);
    let result = map().resolve(&path, |name| {
        asked.push(name.to_vec());
        FileKind::Missing
    });
    assert_eq!(result, Err(ScriptError::NotFound));
    assert_eq!(asked, [b"/srv/x.php"]);
}

#[test]
fn a_mount_takes_the_paths_below_its_prefix() {
    let app = Mount::new("/app").unwrap();
    let root = Mount::new("").unwrap();
    for (path, in_app, in_root) in [
        ("/app", Ok(("/app", "")), Ok(("", "/app"))),
        ("/app/", Ok(("/app", "/")), Ok(("", "/app/"))),
        ("/app/x%2Fy/.z", Ok(("/app", "/x/y/.z")), Ok(("", "/app/x/y/.z"))),
        ("/%61pp/x", Ok(("/app", "/x")), Ok(("", "/app/x"))),
        ("/apple", Err(ScriptError::NotFound), Ok(("", "/apple"))),
        ("/app/../x", Err(ScriptError::NotFound), Ok(("", "/x"))),
        ("/app%0a", Err(ScriptError::ControlByte(b'\n')), Err(ScriptError::ControlByte(b'\n'))),
        ("/app/../..", Err(ScriptError::AboveRoot), Err(ScriptError::AboveRoot)),
    ] {
        let expect = |result: Result<(&str, &str), _>| result.map(|(n, i)| Script::new(n, i));
        assert_eq!(app.resolve(path), expect(in_app), "{path}");
        assert_eq!(root.resolve(path), expect(in_root), "{path}");
    }
    let strict = Mount::new("/app").unwrap().encoded_slashes(EncodedSlashes::Refuse);
    assert_eq!(strict.resolve("/app/x%2Fy"), Err(ScriptError::EncodedSlash));
}

#[test]
fn configurations_that_cant_be_meant_are_refused() {
    let builder = || ScriptMap::builder("/srv");
    for (result, expected) in [
        (ScriptMap::builder("").build(), ConfigError::Root("".into())),
        (ScriptMap::builder("/a\0").build(), ConfigError::Root("/a\\x00".into())),
        (builder().local_root("").build(), ConfigError::Root("".into())),
        (builder().index(["a/b"]).build(), ConfigError::Index("a/b".into())),
        (builder().split_path_info([""]).build(), ConfigError::Suffix("".into())),
        (builder().split_path_info([".php/"]).build(), ConfigError::Suffix(".php/".into())),
        (builder().front_controller("i.php").build(), ConfigError::FrontController("i.php".into())),
        (builder().front_controller("/").build(), ConfigError::FrontController("/".into())),
        (builder().front_controller("/../i").build(), ConfigError::FrontController("/../i".into())),
    ] {
        assert_eq!(result.map(drop), Err(expected));
    }
    for prefix in ["app", "/", "/app/", "/a//b", "/a/../b", "/a\n"] {
        assert!(matches!(Mount::new(prefix), Err(ConfigError::Prefix(_))), "{prefix:?}");
    }
}

#[test]
fn slashes_and_dots_in_what_is_no_file_are_for_scripts() {
    let files = |name: &[u8]| match name {
        b"/srv/a.php" | b"/srv/index.php" | b"/srv/.env" | b"/srv/d/x" => FileKind::File,
        b"/srv/.git" | b"/srv/d" => FileKind::Directory,
        _ => FileKind::Missing,
    };
    let builder = ScriptMap::builder("/srv").encoded_slashes(EncodedSlashes::AfterFiles);
    let plain = builder.clone().build().unwrap();
    let front =
        builder.front_controller("/index.php").front_controller_path_info(true).build().unwrap();
    let told = |map: &ScriptMap, path| match map.resolve(path, files) {
        Ok(Target::Script(script)) => Ok((script.script_name, script.path_info)),
        Ok(other) => panic!("{path}: {other:?}"),
        Err(error) => Err(error),
    };
    let script = |name: &[u8], info: &[u8]| Ok((name.to_vec(), info.to_vec()));
    for (path, with_front, without) in [
        ("/a.php/x%2Fy", script(b"/a.php", b"/x/y"), script(b"/a.php", b"/x/y")),
        ("/a.php/x%2F..%2F..%2Fz", script(b"/index.php", b"/z"), Err(ScriptError::EncodedSlash)),
        ("/a.php%2Fx", script(b"/index.php", b"/a.php/x"), Err(ScriptError::EncodedSlash)),
        ("/d%2Fx", script(b"/index.php", b"/d/x"), Err(ScriptError::EncodedSlash)),
        ("/d\\x", script(b"/index.php", b"/d\\x"), Err(ScriptError::EncodedSlash)),
        ("/..%2fx", Err(ScriptError::AboveRoot), Err(ScriptError::AboveRoot)),
        ("/.x/y.php", script(b"/index.php", b"/.x/y.php"), Err(ScriptError::Hidden)),
        ("/d/.x", script(b"/index.php", b"/d/.x"), Err(ScriptError::Hidden)),
        ("/.env", Err(ScriptError::Hidden), Err(ScriptError::Hidden)),
        ("/.env/x.php", Err(ScriptError::Hidden), Err(ScriptError::Hidden)),
        ("/.git/", Err(ScriptError::Hidden), Err(ScriptError::Hidden)),
        ("/.git/none", Err(ScriptError::Hidden), Err(ScriptError::Hidden)),
    ] {
        assert_eq!(told(&front, path), with_front, "{path}");
        assert_eq!(told(&plain, path), without, "{path}");
    }
}

#[test]
fn the_nearest_front_controller_answers() {
    let map = ScriptMap::builder("/srv")
        .front_controller("/index.php")
        .front_controller("/blog/index.php")
        .front_controller("/blog/none/index.php")
        .front_controller_path_info(true)
        .build()
        .unwrap();
    let files = |name: &[u8]| match name {
        b"/srv/index.php" | b"/srv/blog/index.php" => FileKind::File,
        _ => FileKind::Missing,
    };
    for (path, name, info) in [
        ("/blog/2026/x", "/blog/index.php", "/2026/x"),
        ("/blog/none/y", "/blog/index.php", "/none/y"),
        ("/blogs", "/index.php", "/blogs"),
        ("/x/", "/index.php", "/x/"),
    ] {
        let Ok(Target::Script(script)) = map.resolve(path, files) else { panic!("{path}") };
        assert_eq!(script.script_name, name.as_bytes(), "{path}");
        assert_eq!(script.path_info, info.as_bytes(), "{path}");
        let unseen = map.resolve_unseen(path).unwrap();
        assert_eq!(unseen.document_root.as_deref(), Some(&b"/srv"[..]));
    }
}

#[test]
fn each_refusal_has_its_status() {
    for (error, status) in [
        (ScriptError::BadEscape, 400),
        (ScriptError::ControlByte(0), 400),
        (ScriptError::AboveRoot, 400),
        (ScriptError::NotAbsolute, 400),
        (ScriptError::EncodedSlash, 404),
        (ScriptError::Hidden, 404),
        (ScriptError::Ambiguous, 404),
        (ScriptError::NotFound, 404),
    ] {
        assert_eq!(error.status(), status, "{error}");
    }
}
