//! The applications, and their requests.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use fcgi_testkit::peers::{self, Peer, PhpFpm, PhpFpmOptions};

use crate::compare::{Both, Process, Request, wait_for};

const PARAMS: &str = "/etc/nginx/fastcgi_params";

/// A front controller under php-fpm. The rest of a path that names it is PATH_INFO.
pub(crate) fn php() -> Result<()> {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let dir = peers::scratch()?;
    let root = dir.path().join("public");
    fs::create_dir_all(root.join("css")).context("creating the root")?;
    fs::write(root.join("css/site.css"), "body { color: black }\n").context("writing a file")?;
    fs::write(root.join("index.php"), include_str!("assets/index.php")).context("index.php")?;
    let site = format!(
        "root {root};\nindex index.php;\n\
         location / {{ try_files $uri $uri/ /index.php$is_args$args; }}\n\
         location ~ ^.+?\\.php(/|$) {{\n\
           fastcgi_split_path_info ^(.+?\\.php)(/.*)$;\n\
           set $path_info $fastcgi_path_info;\n\
           try_files $fastcgi_script_name =404;\n\
           include {PARAMS};\n\
           fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n\
           fastcgi_param PATH_INFO $path_info;\n\
           fastcgi_param HTTP_PROXY \"\";\n\
           fastcgi_pass {address};\n\
         }}",
        root = root.display(),
        address = php.unix_address(),
    );
    let root = root.display().to_string();
    let address = php.unix_address();
    let both = Both::start(&site, &[&address, "--root", &root, "--front", "index.php"])?;
    let form = "application/x-www-form-urlencoded";
    for request in [
        Request::new("GET /"),
        Request::new("GET /articles/7?page=2&tag=a%20b"),
        Request::new("GET /index.php"),
        Request::new("GET /index.php/articles/7?page=2"),
        Request::new("GET /index.php/a%20b"),
        Request::new("GET /caf%C3%A9"),
        Request::new("GET /a+b;c=d,e"),
        Request::new("GET /?"),
        Request::new("HEAD /articles/7"),
        Request::new("POST /articles").body(form, "name=Ann&age=7"),
        Request::new("PUT /articles/7").body("application/json", vec![b'7'; 300_000]),
        Request::new("DELETE /articles/7"),
        Request::new("GET /old"),
        Request::new("GET /missing"),
        Request::new("GET /cookies"),
        Request::new("GET /empty"),
        Request::new("GET /long"),
        Request::new("GET /fields").field("X-Several", "a").field("Accept", "text/html, */*"),
        Request::new("GET /fields").field("Proxy", "http://evil.example/"),
        Request::new("GET /css/site.css").file(),
        Request::new("GET /css/none.css"),
    ] {
        both.same(&request).with_context(|| php.log())?;
    }
    Ok(())
}

/// git's CGI program, run by fcgiwrap.
pub(crate) fn git() -> Result<()> {
    let dir = peers::scratch()?;
    let (socket, repositories) = (dir.path().join("fcgiwrap.sock"), dir.path().join("git"));
    let bare = repositories.join("project.git");
    repository(dir.path(), &bare)?;
    let mut command = Command::new(Peer::Fcgiwrap.find()?);
    command.args(["-c", "2", "-s"]).arg(format!("unix:{}", socket.display()));
    // git says what is wrong with a repository there.
    let _fcgiwrap = Process::start(
        command.env("HOME", dir.path()).stdout(Stdio::null()).stderr(Stdio::null()),
    )?;
    wait_for("fcgiwrap", || UnixStream::connect(&socket).is_ok())?;
    let backend = Peer::GitHttp.find()?;
    let site = format!(
        "location ~ ^/git(/.*)$ {{\n\
           include {PARAMS};\n\
           fastcgi_param SCRIPT_FILENAME {backend};\n\
           fastcgi_param SCRIPT_NAME /git;\n\
           fastcgi_param PATH_INFO $1;\n\
           fastcgi_param GIT_PROJECT_ROOT {root};\n\
           fastcgi_param GIT_HTTP_EXPORT_ALL 1;\n\
           fastcgi_pass unix:{socket};\n\
         }}",
        backend = backend.display(),
        root = repositories.display(),
        socket = socket.display(),
    );
    let both = Both::start(
        &site,
        &[
            format!("unix:{}", socket.display()).as_str(),
            "--mount",
            "/git",
            "--param",
            &format!("SCRIPT_FILENAME={}", backend.display()),
            "--param",
            &format!("GIT_PROJECT_ROOT={}", repositories.display()),
            "--param",
            "GIT_HTTP_EXPORT_ALL=1",
        ],
    )?;
    for request in [
        Request::new("GET /git/project.git/info/refs?service=git-upload-pack"),
        Request::new("GET /git/project.git/info/refs?service=git-upload-pack")
            .field("Git-Protocol", "version=2"),
        Request::new("GET /git/project.git/HEAD"),
        Request::new("GET /git/project.git/objects/info/packs"),
        Request::new("GET /git/none.git/HEAD"),
        Request::new("GET /git/project.git/info/refs?service=git-receive-pack"),
    ] {
        both.same(&request)?;
    }
    for (n, url) in both.urls().iter().enumerate() {
        let clone = dir.path().join(format!("clone{n}"));
        run(Command::new("git")
            .args(["clone", "--quiet", &format!("{url}/git/project.git")])
            .arg(&clone))?;
        let file = fs::read(clone.join("file")).context("the cloned file")?;
        ensure!(file == content(), "{url} gave another file");
    }
    Ok(())
}

/// More than one record, and nothing that can be compressed away.
fn content() -> Vec<u8> {
    (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn repository(dir: &Path, bare: &Path) -> Result<()> {
    let work = dir.join("work");
    run(Command::new("git").args(["init", "--quiet"]).arg(&work))?;
    fs::write(work.join("file"), content()).context("writing a file")?;
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&work).args(["-c", "user.name=x", "-c", "user.email=x@example.org"]);
        run(command.args(arguments))
    };
    git(&["add", "file"])?;
    git(&["commit", "--quiet", "--message", "One file"])?;
    run(Command::new("git").args(["clone", "--quiet", "--bare"]).arg(&work).arg(bare))?;
    run(Command::new("git").arg("-C").arg(bare).args(["update-server-info"]))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {said}");
    Ok(())
}

/// An application in Python under uWSGI, which speaks FastCGI on a socket of that kind.
pub(crate) fn uwsgi() -> Result<()> {
    let dir = peers::scratch()?;
    let (socket, script) = (dir.path().join("app.sock"), dir.path().join("app.py"));
    fs::write(&script, include_str!("assets/app.py")).context("writing app.py")?;
    let mut command = Command::new(Peer::Uwsgi.find()?);
    command.args(["--plugin", "python3", "--master", "--die-on-term", "--chmod-socket=666"]);
    command.arg("--fastcgi-socket").arg(&socket).arg("--wsgi-file").arg(&script);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let _uwsgi = Process::start(&mut command)?;
    wait_for("uWSGI", || UnixStream::connect(&socket).is_ok())?;
    let socket = socket.display();
    let site = format!(
        "location / {{\n\
           include {PARAMS};\n\
           fastcgi_param SCRIPT_NAME \"\";\n\
           fastcgi_param PATH_INFO $fastcgi_script_name;\n\
           fastcgi_pass unix:{socket};\n\
         }}"
    );
    let both = Both::start(&site, &[&format!("unix:{socket}"), "--mount", "/"])?;
    for request in [
        Request::new("GET /"),
        Request::new("GET /articles/7?page=2&tag=a%20b"),
        Request::new("GET /a%20b"),
        Request::new("GET /caf%C3%A9"),
        Request::new("HEAD /articles/7"),
        Request::new("POST /articles").body("application/json", "{\"name\": \"Ann\"}"),
        Request::new("PUT /articles/7").body("text/plain", vec![b'7'; 300_000]),
        Request::new("GET /old"),
        Request::new("GET /missing"),
        Request::new("GET /long"),
        Request::new("GET /fields").field("Accept", "text/html, */*"),
    ] {
        both.same(&request)?;
    }
    Ok(())
}
