//! Each web server with the page's file.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result};
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
