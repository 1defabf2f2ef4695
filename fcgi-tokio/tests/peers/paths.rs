//! An application below a path of a site: it is asked for the paths below, whatever web server and
//! rewrite are in front of it.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use axum::{Extension, Router, extract, routing::get};
use fcgi_testkit::{
    examples::Examples,
    harness::Case,
    http::HttpConnection,
    peers::{Nginx, NginxOptions, Peer, WebServer, scratch},
    program,
};
use fcgi_tokio::http::{MetaVariables, MountPoint, PathSource, RemoteAddr, Responder};
use tempfile::TempDir;

use crate::{
    app::App,
    support::{Kind, Outcome, text},
};

pub(crate) fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn() -> Outcome, peer| {
        Case::new(format!("below_a_path_{name}"), run).needs(&[peer])
    };
    vec![
        case("nginx_locations", nginx, Peer::Nginx),
        case("apache_proxy_pass", apache, Peer::Apache),
        case("apache_fcgid_htaccess", fcgid, Peer::Apache),
        case("haproxy", haproxy, Peer::Haproxy),
    ]
}

/// The application of the example `tokio-below`.
fn app() -> Result<App, fcgi_testkit::harness::Failed> {
    let index = async |Extension(mount): Extension<MountPoint>| format!("index of {mount}/\n");
    let user = async |extract::Path(name): extract::Path<String>| format!("user {name}\n");
    let who = async |client: RemoteAddr, meta: MetaVariables| {
        let server = meta.params().get_str("SERVER_SOFTWARE").unwrap_or_default();
        format!("{client} through {server}\n")
    };
    let app = Router::new()
        .route("/", get(index))
        .route("/users/{name}", get(user))
        .route("/who", get(who))
        .fallback(async |uri: http::Uri| (http::StatusCode::NOT_FOUND, format!("no {uri}\n")));
    // A socket that Apache's ordinary user may open.
    App::start(Kind::Tcp, Responder::new(app).path(PathSource::PathInfo))
}

/// Asks for the paths below `prefix`, of an application whose links begin with `mount`.
fn check(port: u16, prefix: &str, mount: &str) -> anyhow::Result<()> {
    let mut browser = HttpConnection::connect(("127.0.0.1", port))?;
    let mut page = |path: &str| -> anyhow::Result<String> {
        let reply = browser.get(&format!("{prefix}{path}"))?;
        Ok(format!("{} {}", reply.head.status, text(&reply.body)))
    };
    for (path, expected) in [
        ("/", format!("200 index of {mount}/\n")),
        ("/users/ann", "200 user ann\n".into()),
        ("/users/J%C3%BCrgen%20Q?x=/y", "200 user J\u{fc}rgen Q\n".into()),
        ("/users/50%25", "200 user 50%\n".into()),
        ("/none?id=7", "404 no /none?id=7\n".into()),
    ] {
        // mod_rewrite turns a path with a percent sign into one that Apache itself refuses.
        if prefix == "/hosted" && path.contains("%25") {
            continue;
        }
        let page = page(path).with_context(|| format!("{prefix}{path}"))?;
        ensure!(page.starts_with(&expected), "{prefix}{path} is {page:?} instead of {expected:?}");
    }
    let who = page("/who")?;
    ensure!(who.starts_with("200 127.0.0.1 through "), "{prefix}/who is {who:?}");
    Ok(())
}

fn nginx() -> Outcome {
    let app = app()?;
    let locations = "
    location /split/ {
      include @DIR@/params.conf;
      fastcgi_split_path_info ^(/split)(/.*)$;
      fastcgi_param SCRIPT_NAME $fastcgi_script_name;
      fastcgi_param PATH_INFO $fastcgi_path_info;
      fastcgi_pass application;
    }
    location /unsaid/ {
      include @DIR@/params.conf;
      fastcgi_split_path_info ^(/unsaid)(/.*)$;
      fastcgi_param SCRIPT_NAME $fastcgi_script_name;
      fastcgi_pass application;
    }
    location ~ ^/matched(?<below>/.*)$ {
      include @DIR@/params.conf;
      fastcgi_param SCRIPT_NAME /matched;
      fastcgi_param PATH_INFO $below;
      fastcgi_pass application;
    }
    location /rewritten/ {
      rewrite ^/rewritten(/.*)$ /split$1 last;
    }
    location / {
      include @DIR@/params.conf;
      fastcgi_param SCRIPT_NAME $fastcgi_script_name;
      fastcgi_pass application;
    }";
    // SCRIPT_NAME of a location replaces the one of params.conf.
    let options = NginxOptions::new(app.address().to_string())
        .server(format!("set $script \"\";\n{locations}"));
    let nginx = Nginx::start(options)?;
    for (prefix, mount) in [
        ("/split", "/split"),
        ("/unsaid", "/unsaid"),
        ("/matched", "/matched"),
        ("/rewritten", "/split"),
        ("", ""),
    ] {
        check(nginx.port(), prefix, mount)
            .map_err(|error| format!("{error:#}\n{}", nginx.log()))?;
    }
    drop(nginx);
    app.stop()
}

fn apache() -> Outcome {
    let app = app()?;
    let address = app.address().to_string();
    let at = address.strip_prefix("tcp:").context("it is TCP")?;
    let apache = WebServer::apache(&format!(
        r#"
LoadModule rewrite_module @MODULES@/mod_rewrite.so
LoadModule setenvif_module @MODULES@/mod_setenvif.so
LoadModule slotmem_shm_module @MODULES@/mod_slotmem_shm.so
LoadModule proxy_balancer_module @MODULES@/mod_proxy_balancer.so
LoadModule lbmethod_byrequests_module @MODULES@/mod_lbmethod_byrequests.so
ProxyPass "/passed/" "fcgi://{at}/"
ProxyPass "/full/" "fcgi://{at}/"
<Location "/full/">
  SetEnvIf Request_URI . proxy-fcgi-pathinfo=full
</Location>
<Proxy "balancer://app">
  BalancerMember "fcgi://{at}"
</Proxy>
ProxyPass "/balanced/" "balancer://app/"
RewriteEngine on
RewriteRule "^/rewritten/(.*)$" "/passed/$1" [PT]
ProxyPass "/" "fcgi://{at}/"
"#
    ))?;
    for (prefix, mount) in [
        ("/passed", "/passed"),
        ("/full", "/full"),
        ("/balanced", "/balanced"),
        ("/rewritten", "/passed"),
        ("", ""),
    ] {
        check(apache.port(), prefix, mount)
            .map_err(|error| format!("{error:#}\n{}", apache.log()))?;
    }
    drop(apache);
    app.stop()
}

/// A folder as on shared hosting: a program, and a .htaccess that sends every path to it.
fn hosted() -> anyhow::Result<TempDir> {
    let folder = scratch()?;
    let built = Examples::build("fcgi-tokio", &["below"])?.path("below");
    // Apache's user may not reach the folder that it was built in.
    let copy = folder.path().join("below");
    program::copy(built, &copy)?;
    let script = format!("#!/bin/sh\nexec {} -\n", copy.display());
    program::script(&script, folder.path().join("app.fcgi"))?;
    let rules = "RewriteEngine on\nRewriteCond %{REQUEST_FILENAME} !-f\n\
                 RewriteRule ^(.*)$ app.fcgi/$1 [QSA,L]\n";
    fs::write(folder.path().join(".htaccess"), rules)?;
    Ok(folder)
}

fn fcgid() -> Outcome {
    if !Path::new("/usr/lib/apache2/modules/mod_fcgid.so").exists() {
        return Err("libapache2-mod-fcgid is not installed".into());
    }
    let folder = hosted()?;
    let apache = WebServer::apache(&format!(
        r#"
LoadModule rewrite_module @MODULES@/mod_rewrite.so
LoadModule alias_module @MODULES@/mod_alias.so
LoadModule mime_module @MODULES@/mod_mime.so
LoadModule fcgid_module @MODULES@/mod_fcgid.so
TypesConfig /dev/null
FcgidIPCDir @DIR@/fcgid
FcgidProcessTableFile @DIR@/fcgid_shm
Alias "/hosted" "{0}"
<Directory "{0}">
  Options +ExecCGI +FollowSymLinks
  AllowOverride All
  AddHandler fcgid-script .fcgi
  Require all granted
</Directory>
"#,
        folder.path().display()
    ))?;
    for (prefix, mount) in
        [("/hosted/app.fcgi", "/hosted/app.fcgi"), ("/hosted", "/hosted/app.fcgi")]
    {
        check(apache.port(), prefix, mount)
            .map_err(|error| format!("{error:#}\n{}", apache.log()))?;
    }
    // The program's own name, with nothing behind it.
    let mut browser = HttpConnection::connect(("127.0.0.1", apache.port()))?;
    let index = browser.get("/hosted/app.fcgi")?;
    assert!(text(&index.body).starts_with("index of /hosted/app.fcgi/\n"));
    Ok(())
}

fn haproxy() -> Outcome {
    let app = app()?;
    let address = app.address().to_string();
    let at = address.strip_prefix("tcp:").context("it is TCP")?;
    for (path_info, prefix, mount) in
        [("path-info ^(/app)(/.*)$", "/app", "/app"), ("option keep-conn", "", "")]
    {
        let sections = format!(
            "backend app\n  use-fcgi-app app\n  server one {at} proto fcgi\n\
             fcgi-app app\n  docroot /srv\n  {path_info}\n"
        );
        let haproxy = WebServer::haproxy(&sections, "app")?;
        check(haproxy.port(), prefix, mount)
            .map_err(|error| format!("{error:#}\n{}", haproxy.log()))?;
    }
    app.stop()
}
