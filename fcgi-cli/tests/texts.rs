//! What the command prints about itself: help, completions, man pages, and files for web servers.

mod common;

use std::{fs, process::Command};

use common::pool::{command, run, seen};

fn text(args: &[&str]) -> String {
    let (status, stdout, stderr) = seen(&run(args));
    assert_eq!(status, 0, "{args:?}: {stderr}");
    stdout
}

/// php-fpm-healthcheck's options, which are those of --max under other names.
const ALIASES: [&str; 10] = [
    "accepted-conn",
    "listen-queue",
    "max-listen-queue",
    "listen-queue-len",
    "idle-processes",
    "active-processes",
    "total-processes",
    "max-active-processes",
    "max-children-reached",
    "slow-requests",
];

/// The subcommands, as completions have them.
fn subcommands() -> Vec<String> {
    let script = text(&["completions", "bash"]);
    let line =
        script.lines().find_map(|line| line.trim().strip_prefix("opts=\"-h -V --help --version "));
    let names = line.expect("the first level's words").trim_end_matches('"').split(' ');
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn the_first_page_fits_a_screen_and_names_every_subcommand() {
    let page = text(&["--help"]);
    assert_eq!(page, text(&["-h"]));
    assert!(page.lines().count() <= 24, "{page}");
    for line in page.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for name in subcommands() {
        let is_word = |word: &str| word.trim_end_matches(',') == name;
        assert!(page.split_whitespace().any(is_word), "{name}: {page}");
    }
}

#[test]
fn every_option_has_a_variable() {
    for name in subcommands() {
        let help = text(&[&name, "--help"]);
        let start = format!("[env: FCGI_{}_", name.to_uppercase().replace('-', "_"));
        let options = help
            .lines()
            // Examples are further to the right.
            .filter(|line| line.starts_with("  -") || line.starts_with("      -"))
            .filter_map(|line| line.split("--").nth(1)?.split([' ', '=', '[']).next())
            .filter(|option| *option != "help" && !ALIASES.contains(option))
            .count();
        // A line may be cut anywhere.
        let whole = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let variables = whole.matches("[env: FCGI_").count();
        // An argument may have one too.
        assert!(variables >= options, "{help}");
        assert!(options == 0 || whole.contains(&start), "{help}");
    }
}

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&["completions", shell]);
        assert!(script.contains("connect-only"), "{shell}");
        assert!(!script.contains("php-guard"), "{shell}: what is hidden is not offered");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("fcgi.bash");
    fs::write(&file, text(&["completions", "bash"])).expect("a file");
    // What bash offers after `fcgi pi` and `fcgi ping --con`.
    for (words, offered) in [("fcgi pi", "ping"), ("fcgi ping --con", "--connect-only")] {
        let count = words.split(' ').count() - 1;
        let script = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={count}; \
             _fcgi fcgi \"${{COMP_WORDS[$COMP_CWORD]}}\" fcgi; echo \"${{COMPREPLY[*]}}\"",
            file.display()
        );
        let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), offered, "{words}");
    }
}

#[test]
fn man_pages_are_there_for_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("man1").display().to_string();
    assert_eq!(text(&["man", "--dir", &path]), "");
    let read = |name: &str| fs::read_to_string(format!("{path}/{name}.1")).expect("a page");
    assert!(read("fcgi").contains(".TH fcgi 1"));
    for name in subcommands() {
        let page = read(&format!("fcgi-{name}"));
        let version = concat!("\"fcgi ", env!("CARGO_PKG_VERSION"), "\"");
        assert!(page.contains(&format!(".TH fcgi-{name} 1  {version}")), "{name}");
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
    }
    assert_eq!(read("fcgi-ping").trim_end(), text(&["man", "ping"]).trim_end());
    assert_eq!(seen(&run(&["man", "no-such"])).0, 2);
}

#[test]
fn a_text_that_can_not_be_written_is_a_failure() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["ping", "-h"],
        &["man"],
        &["completions", "zsh"],
        &["demo"],
    ] {
        let full = fs::File::create("/dev/full").expect("it opens");
        let output = command(args).stdout(full).output().expect("it runs");
        let (code, said) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
        assert_eq!(code, Some(5), "{args:?}: {said}");
        assert!(said.contains("No space left"), "{args:?}: {said}");
    }
}

/// The tests of docs/deploy.md run the files. This one checks what is inserted into them.
#[test]
fn files_for_web_servers_are_those_of_the_page() {
    const ADDRESS: &str = "unix:/run/app/app.sock";
    let file = |name: &str| {
        let path = format!("{}/deploy/{name}", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(path).expect("the file is there")
    };
    assert_eq!(text(&["nginx-conf", ADDRESS]), file("nginx.conf"));
    assert_eq!(text(&["apache-conf", ADDRESS]), file("apache.conf"));
    assert_eq!(text(&["systemd-unit", ADDRESS, "--socket"]), file("app.socket"));
    assert_eq!(text(&["systemd-unit", ADDRESS, "--service"]), file("app.service"));
    let both = format!("{}\n{}", file("app.socket"), file("app.service"));
    assert_eq!(text(&["systemd-unit", ADDRESS]), both);
}

#[test]
fn files_for_web_servers_have_what_is_given() {
    let given = ["--name", "shop", "--server-name", "shop.example", "--root", "/srv/shop"];
    let nginx = text(&[&["nginx-conf", "127.0.0.1:9000"], &given[..]].concat());
    for line in [
        "upstream shop {",
        "    server 127.0.0.1:9000;",
        "    server_name shop.example;",
        "    root /srv/shop;",
        "        try_files $uri @shop;",
        "    location @shop {",
        "        fastcgi_pass shop;",
    ] {
        assert!(nginx.lines().any(|it| it == line), "{line}: {nginx}");
    }
    let apache = text(&[&["apache-conf", "unix:/run/shop.sock"], &given[..]].concat());
    assert!(apache.contains("\"unix:/run/shop.sock|fcgi://shop/\""), "{apache}");
    let apache = text(&["apache-conf", ":9000"]);
    assert!(apache.contains("ProxyPass \"/\" \"fcgi://127.0.0.1:9000/\" "), "{apache}");
    let units = text(&["systemd-unit", ":9000", "--name", "shop", "--exec", "/opt/shop --fast"]);
    for line in ["ListenStream=9000", "Requires=shop.socket", "ExecStart=/opt/shop --fast"] {
        assert!(units.lines().any(|it| it == line), "{line}: {units}");
    }
    assert!(!units.contains("SocketMode"), "a port has no mode: {units}");
    // What needs quotes gets them.
    let nginx = text(&["nginx-conf", "unix:/run/my app.sock", "--root", "/srv/my app"]);
    for line in ["    server \"unix:/run/my app.sock\";", "    root \"/srv/my app\";"] {
        assert!(nginx.lines().any(|it| it == line), "{line}: {nginx}");
    }
    let apache = text(&["apache-conf", "unix:/run/my app.sock", "--root", "/srv/my app"]);
    for line in ["    DocumentRoot \"/srv/my app\"", "    <Directory \"/srv/my app\">"] {
        assert!(apache.lines().any(|it| it == line), "{line}: {apache}");
    }
    let socket = text(&["systemd-unit", "unix:/run/100%.sock", "--socket"]);
    assert!(socket.contains("ListenStream=/run/100%%.sock\n"), "{socket}");
    let socket = text(&["systemd-unit", "[::1]:9000", "--socket"]);
    assert!(socket.contains("ListenStream=[::1]:9000\n"), "{socket}");
    for args in [
        &["nginx-conf", "unix:/run/a;b.sock"][..],
        &["apache-conf", "unix:/run/a\"b.sock"],
        &["apache-conf", "unix:/run/a|b.sock"],
        &["systemd-unit", "unix:/run/a\nb.sock"],
        &["systemd-unit", "localhost:9000"],
        &["nginx-conf", "-"],
        &["nginx-conf", ":9000", "--server-name", "a;b"],
        &["systemd-unit", ":9000", "--exec", "relative"],
    ] {
        assert_eq!(seen(&run(args)).0, 2, "{args:?}");
    }
}
