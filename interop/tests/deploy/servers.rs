//! Each web server with the page's file.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use fcgi_testkit::{
    peers::{WebServer, WebServerKind, apache_modules, user},
    program::copy,
};

use crate::{
    application::{Place, Process, get, is, program, serves},
    page::adapted,
};

pub(crate) fn nginx() -> Result<()> {
    let place = Place::new()?;
    let _app = Process::on_socket(&place.socket()?)?;
    let server = place.nginx(None)?;
    serves(&server)?;
    is(&get(server.port(), "/static/file.txt")?, 200, "a file\n")
}

/// `/ws` goes to a port of HTTP, and is upgraded; the rest stays with the application.
pub(crate) fn nginx_websocket() -> Result<()> {
    let place = Place::new()?;
    let _app = Process::on_socket(&place.socket()?)?;
    let listener = TcpListener::bind("127.0.0.1:0").context("a port")?;
    let port = listener.local_addr().context("its port")?.port();
    let more = adapted("nginx-websocket.conf", &[(":8081", &format!(":{port}"))])?;
    let server = place.nginx_with(None, &more)?;
    serves(&server)?;
    let upgraded = thread::spawn(move || -> Result<Vec<String>> {
        let (mut stream, _) = listener.accept().context("accept")?;
        let asked = head(&mut stream)?;
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
              Upgrade: websocket\r\n\r\n",
        )?;
        let mut message = [0; 4];
        stream.read_exact(&mut message).context("a message")?;
        stream.write_all(&message)?;
        Ok(asked)
    });
    let mut client = TcpStream::connect(("127.0.0.1", server.port())).context("connect")?;
    client.write_all(
        b"GET /ws HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\n\
          Upgrade: websocket\r\n\r\n",
    )?;
    let answered = head(&mut client)?;
    ensure!(answered[0].starts_with("HTTP/1.1 101 "), "{answered:?}");
    client.write_all(b"ping")?;
    let mut message = [0; 4];
    client.read_exact(&mut message).context("the message again")?;
    ensure!(&message == b"ping", "{message:?}");
    let asked = upgraded.join().map_err(|_| anyhow!("the other end panicked"))??;
    for line in ["GET /ws HTTP/1.1", "Host: example.org", "Upgrade: websocket"] {
        ensure!(asked.iter().any(|it| it == line), "no {line} in {asked:?}");
    }
    Ok(())
}

/// The lines of a head.
fn head(stream: &mut TcpStream) -> Result<Vec<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("a head")?;
        head.extend(byte);
    }
    let text = String::from_utf8(head).context("a head is text")?;
    Ok(text.lines().map(str::to_owned).collect())
}

pub(crate) fn apache() -> Result<()> {
    let place = Place::new()?;
    let _app = Process::on_socket(&place.socket()?)?;
    let site = adapted(
        "apache.conf",
        &[
            ("/run/app/app.sock", &place.text("app.sock")),
            ("/srv/app/public", &place.text("public")),
            ("*:80", "127.0.0.1:@PORT@"),
        ],
    )?;
    let server = WebServer::with_config(WebServerKind::Apache, |dir, port| {
        let modules = ["proxy", "proxy_fcgi"];
        apache_config(dir, port, &modules, &site.replace("@PORT@", &port.to_string()))
    })?;
    serves(&server)?;
    is(&get(server.port(), "/static/file.txt")?, 200, "a file\n")
}

pub(crate) fn fcgid() -> Result<()> {
    let place = Place::new()?;
    let public = place.path("public");
    let app = public.join("app.fcgi");
    copy(program(), &app).context("copying the application")?;
    fs::write(public.join(".htaccess"), adapted("fcgid.htaccess", &[])?).context(".htaccess")?;
    let server = WebServer::with_config(WebServerKind::Apache, |dir, port| {
        let site = format!(
            "FcgidIPCDir {dir}\nFcgidProcessTableFile {dir}/shm\nFcgidMaxRequestLen 16777216\n\
             DocumentRoot {public}\n\
             <Directory {public}>\nAllowOverride All\nRequire all granted\n</Directory>\n",
            dir = dir.display(),
            public = public.display(),
        );
        // mod_fcgid puts its sockets there, as the user of the workers.
        let opened = fs::set_permissions(dir, fs::Permissions::from_mode(0o777));
        let site = if opened.is_ok() { site } else { "no folder for the sockets".to_owned() };
        apache_config(dir, port, &["fcgid", "rewrite", "mime"], &site)
    })?;
    serves(&server)?;
    is(&get(server.port(), "/static/file.txt")?, 200, "a file\n")
}

pub(crate) fn lighttpd() -> Result<()> {
    let place = Place::new()?;
    let _app = Process::on_socket(&place.socket()?)?;
    let part = adapted("lighttpd.conf", &[("/run/app/app.sock", &place.text("app.sock"))])?;
    let server = WebServer::with_config(WebServerKind::Lighttpd, |dir, port| {
        lighttpd_config(dir, port, &part)
    })?;
    serves(&server)
}

pub(crate) fn lighttpd_spawns() -> Result<()> {
    let place = Place::new()?;
    let part = adapted(
        "lighttpd-spawn.conf",
        &[
            ("/run/lighttpd/app.sock", &place.text("app.sock")),
            ("/usr/local/bin/app", &program().display().to_string()),
        ],
    )?;
    let server = WebServer::with_config(WebServerKind::Lighttpd, |dir, port| {
        lighttpd_config(dir, port, &part)
    })?;
    serves(&server)
}

pub(crate) fn haproxy() -> Result<()> {
    let place = Place::new()?;
    let _app = Process::on_socket(&place.socket()?)?;
    let whole = adapted(
        "haproxy.cfg",
        &[
            ("/run/app/app.sock", &place.text("app.sock")),
            ("/srv/app/public", &place.text("public")),
            ("bind :80", "bind 127.0.0.1:@PORT@"),
        ],
    )?;
    let kind = WebServerKind::Haproxy { keep: true, multiplex: false };
    let server =
        WebServer::with_config(kind, |_, port| whole.replace("@PORT@", &port.to_string()))?;
    serves(&server)
}

fn apache_config(dir: &Path, port: u16, modules: &[&str], site: &str) -> String {
    let folder = apache_modules();
    let mut config = format!(
        "ServerRoot {dir}\nServerName localhost\nPidFile {dir}/pid\nDefaultRuntimeDir {dir}\n\
         Mutex file:{dir} default\nErrorLog {dir}/log\nListen 127.0.0.1:{port}\n{}\n",
        user(WebServerKind::Apache),
        dir = dir.display(),
    );
    let base = ["mpm_event", "authn_core", "authz_core"];
    for name in base.iter().chain(modules) {
        config += &format!("LoadModule {name}_module {}/mod_{name}.so\n", folder.display());
    }
    if modules.contains(&"mime") {
        config += "TypesConfig /etc/mime.types\n";
    }
    config + site
}

fn lighttpd_config(dir: &Path, port: u16, part: &str) -> String {
    let dir = dir.display();
    format!(
        "server.modules = ( \"mod_fastcgi\" )\nserver.document-root = \"{dir}\"\n\
         server.bind = \"127.0.0.1\"\nserver.port = {port}\nserver.errorlog = \"{dir}/log\"\n\
         server.upload-dirs = ( \"{dir}\" )\n{part}"
    )
}
