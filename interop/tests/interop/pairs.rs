//! The pairs and their known differences, with the reasons.

use std::path::Path;

use anyhow::Result;
use fcgi_testkit::peers::{
    Application, ApplicationKind, Flup, Nginx, NginxOptions, Peer, PhpFpm, PhpFpmOptions,
    WebServer, WebServerKind,
};

use crate::{
    app::App,
    gateway::{Backend, Gateway},
    report::Report,
    run::Started,
};

/// Processes of php-fpm and of the application on libfcgi, each with one connection.
const WORKERS: usize = 4;

/// Which end of the wire is ours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// A web server calls our server.
    Server,
    /// A web server asks our server as its Authorizer, and has it as its Responder too.
    Authorizer,
    /// Our client calls an application.
    Client,
}

/// A web server and an application, one of them ours.
#[derive(Clone)]
pub(crate) struct Pair {
    /// The start of the tests' names.
    pub(crate) id: &'static str,
    /// What the table calls it.
    pub(crate) title: &'static str,
    pub(crate) side: Side,
    pub(crate) needs: &'static [Peer],
    /// Why something else that it needs is missing.
    pub(crate) missing: Option<String>,
    /// Values that a check has to come to, with ` or ` between those that chance decides.
    pub(crate) expected: &'static [(&'static str, &'static str)],
    pub(crate) deviations: &'static [Deviation],
    parts: Parts,
}

/// A check that a pair is known not to pass.
pub(crate) struct Deviation {
    pub(crate) check: &'static str,
    /// What the check's error must say.
    pub(crate) instead: &'static str,
    pub(crate) why: &'static str,
}

#[derive(Clone)]
enum Parts {
    /// The location.
    Nginx(&'static str),
    Web(WebServerKind),
    Authorizer(WebServerKind),
    /// Our client, with so many requests at once on a connection.
    Gateway(usize),
    PhpFpm,
    Application(ApplicationKind, usize),
    Flup(Option<Flup>),
}

impl Pair {
    /// Starts both ends.
    pub(crate) fn start(&self) -> Result<Started> {
        match &self.parts {
            Parts::Nginx(prefix) => {
                let app = App::start()?;
                let options = NginxOptions::new(app.unix_address()).extra(NGINX);
                let nginx = Nginx::start(options)?;
                Ok(Started::new(nginx.port(), prefix, Some(app))?.with(nginx, Nginx::log))
            }
            Parts::Web(kind) => {
                let app = App::start()?;
                let web = WebServer::start(*kind, &app.unix_address(), None)?;
                Ok(Started::new(web.port(), "", Some(app))?.with(web, WebServer::log))
            }
            Parts::Authorizer(kind) => {
                let app = App::start()?;
                let authorizer = app.tcp_address();
                let web = WebServer::start(*kind, &app.unix_address(), Some(&authorizer))?;
                Ok(Started::new(web.port(), "", Some(app))?.with(web, WebServer::log))
            }
            Parts::Gateway(multiplex) => {
                let app = App::start()?;
                let gateway = Gateway::start(Backend {
                    address: app.unix_address(),
                    connections: 64,
                    multiplex: *multiplex,
                    script: None,
                })?;
                Ok(Started::new(gateway.port(), "", Some(app))?.with(gateway, |_| String::new()))
            }
            Parts::PhpFpm => {
                let php = PhpFpm::start(PhpFpmOptions::default().children(WORKERS))?;
                let script = Some(php.script("interop.php"));
                client(php.unix_address(), WORKERS, 1, script.as_deref(), php, PhpFpm::log)
            }
            Parts::Application(kind, multiplex) => {
                let app = Application::start(*kind)?;
                client(app.address(), WORKERS, *multiplex, None, app, Application::log)
            }
            Parts::Flup(None) => anyhow::bail!("flup is not installed"),
            Parts::Flup(Some(flup)) => {
                let app = Application::start_flup(flup)?;
                client(app.address(), WORKERS, 1, None, app, Application::log)
            }
        }
    }
}

/// A head of more than the 4 KiB that nginx has room for by default; and it leaves a client whose
/// response was short after 5 s, not after 75.
const NGINX: &str = "fastcgi_buffer_size 32k; fastcgi_buffers 8 32k; keepalive_timeout 5s;";

fn client<P: Send + Sync + 'static>(
    address: String,
    connections: usize,
    multiplex: usize,
    script: Option<&Path>,
    peer: P,
    log: fn(&P) -> String,
) -> Result<Started> {
    let script = script.map(Path::to_owned);
    let gateway = Gateway::start(Backend { address, connections, multiplex, script })?;
    let started = Started::new(gateway.port(), "", None)?;
    Ok(started.with(gateway, |_| String::new()).with(peer, log))
}

impl Side {
    /// What the report calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Authorizer => "authorizer",
            Self::Client => "client",
        }
    }
}

impl Pair {
    fn new(
        id: &'static str,
        title: &'static str,
        side: Side,
        needs: &'static [Peer],
        parts: Parts,
    ) -> Self {
        Self { id, title, side, needs, missing: None, expected: &[], deviations: &[], parts }
    }

    fn expected(mut self, values: &'static [(&'static str, &'static str)]) -> Self {
        self.expected = values;
        self
    }

    fn deviations(mut self, deviations: &'static [Deviation]) -> Self {
        self.deviations = deviations;
        self
    }
}

/// Every pair, in the order of the table.
pub(crate) fn all(report: &Report) -> Vec<Pair> {
    let mut pairs = servers();
    pairs.extend(authorizers());
    pairs.extend(clients(report));
    pairs
}

fn servers() -> Vec<Pair> {
    let server = |id, title, needs, parts| Pair::new(id, title, Side::Server, needs, parts);
    let haproxy = |keep, multiplex| Parts::Web(WebServerKind::Haproxy { keep, multiplex });
    vec![
        server("nginx", "nginx", &[Peer::Nginx], Parts::Nginx("/kept")).expected(&[
            ("connections", "few"),
            ("content_length", "the length"),
            ("leave_download", "closing"),
            ("leave_upload", "not called"),
            ("leave_silent", "closing"),
            ("multiplexes", "no"),
            ("nothing", "500"),
            ("overloaded", "503"),
            ("values", "no"),
        ]),
        server("nginx_stream", "nginx, unbuffered", &[Peer::Nginx], Parts::Nginx("/unbuffered"))
            .expected(&[
                ("connections", "few"),
                ("content_length", "empty"),
                ("leave_download", "closing"),
                ("leave_upload", "closing"),
                ("leave_silent", "closing"),
                ("multiplexes", "no"),
                ("nothing", "500"),
                ("overloaded", "503"),
                ("values", "no"),
            ])
            .deviations(&[NGINX_BREAKS]),
        server("nginx_plain", "nginx, not kept", &[Peer::Nginx], Parts::Nginx("/plain"))
            .expected(&[
                ("connections", "200"),
                ("content_length", "the length"),
                ("leave_download", "closing"),
                ("leave_upload", "not called"),
                ("leave_silent", "closing"),
                ("multiplexes", "no"),
                ("nothing", "500"),
                ("overloaded", "503"),
                ("values", "no"),
            ])
            .deviations(&[
                Deviation {
                    check: "slow",
                    instead: "ended after \"piece 1\\n\"",
                    why: "nginx holds a response back in its buffers when it does not keep the \
                          connection; `fastcgi_buffering off` passes it on",
                },
                NGINX_BREAKS,
            ]),
        server("apache", "Apache", &[Peer::Apache], Parts::Web(WebServerKind::Apache)).expected(&[
            ("connections", "few"),
            ("content_length", "absent"),
            ("leave_download", "closing"),
            ("leave_upload", "closing"),
            ("leave_silent", "nobody"),
            ("multiplexes", "no"),
            ("nothing", "500"),
            ("overloaded", "503"),
            ("values", "no"),
        ]),
        server("lighttpd", "lighttpd", &[Peer::Lighttpd], Parts::Web(WebServerKind::Lighttpd))
            .expected(&[
                ("connections", "200"),
                ("content_length", "refused, 411"),
                ("leave_download", "closing"),
                ("leave_upload", "closing"),
                ("leave_silent", "nobody"),
                ("multiplexes", "no"),
                ("nothing", "500"),
                ("overloaded", "503"),
                ("values", "no"),
            ])
            .deviations(&[Deviation {
                check: "chunked",
                instead: "status 411",
                why: "lighttpd answers 411 to a chunked upload while it streams requests; \
                      `server.stream-request-body = 0` reads the body first",
            }]),
        server("haproxy_plain", "HAProxy, not kept", &[Peer::Haproxy], haproxy(false, false))
            .expected(&[
                ("connections", "200"),
                ("content_length", "refused, 400"),
                ("leave_download", "closing"),
                ("leave_upload", "closing"),
                ("leave_silent", "nobody"),
                ("multiplexes", "no"),
                ("nothing", "500"),
                ("overloaded", "503"),
                ("values", "no"),
            ])
            .deviations(HAPROXY_CHUNKED),
        server("haproxy_kept", "HAProxy, kept", &[Peer::Haproxy], haproxy(true, false))
            .expected(&[
                ("connections", "few"),
                ("content_length", "refused, 400"),
                ("leave_download", "closing"),
                ("leave_upload", "ABORT_REQUEST or closing"),
                ("leave_silent", "nobody"),
                ("multiplexes", "no"),
                ("nothing", "500"),
                ("overloaded", "503"),
                ("values", "no"),
            ])
            .deviations(HAPROXY_CHUNKED),
        server("haproxy_mpxs", "HAProxy, mpxs-conns", &[Peer::Haproxy], haproxy(true, true))
            .expected(&[
                ("connections", "few"),
                ("content_length", "refused, 400"),
                // It drops what comes, for the others on the connection.
                ("leave_download", "nobody"),
                ("leave_upload", "ABORT_REQUEST"),
                ("leave_silent", "nobody"),
                ("multiplexes", "yes"),
                ("nothing", "500"),
                ("overloaded", "503"),
                ("values", "yes"),
            ])
            .deviations(HAPROXY_CHUNKED),
        server("caddy", "Caddy", &[Peer::Caddy], Parts::Web(WebServerKind::Caddy))
            .expected(&[
                ("connections", "200"),
                ("content_length", "-1"),
                ("leave_download", "closing"),
                ("leave_upload", "closing"),
                ("leave_silent", "nobody"),
                ("multiplexes", "no"),
                ("nothing", "500"),
                ("overloaded", "503"),
                ("values", "no"),
            ])
            .deviations(&[BREAKS]),
        server("h2o", "h2o", &[Peer::H2o], Parts::Web(WebServerKind::H2o))
            .expected(&[
                ("connections", "few"),
                ("content_length", "the length"),
                ("leave_download", "closing"),
                ("leave_upload", "not called"),
                ("leave_silent", "nobody"),
                ("multiplexes", "no"),
                ("nothing", "500"),
                ("overloaded", "503"),
                ("values", "no"),
            ])
            .deviations(&[BREAKS]),
        server("ours", "our client", &[], Parts::Gateway(1)).expected(&[
            ("connections", "few"),
            ("content_length", "the length"),
            ("leave_download", "ABORT_REQUEST"),
            ("leave_upload", "ABORT_REQUEST"),
            ("leave_silent", "ABORT_REQUEST"),
            ("multiplexes", "no"),
            ("nothing", "500"),
            ("overloaded", "503"),
            ("values", "no"),
        ]),
        server("ours_mpxs", "our client, multiplexing", &[], Parts::Gateway(16)).expected(&[
            ("connections", "few"),
            ("content_length", "the length"),
            ("leave_download", "ABORT_REQUEST"),
            ("leave_upload", "ABORT_REQUEST"),
            ("leave_silent", "ABORT_REQUEST"),
            ("multiplexes", "yes"),
            ("nothing", "500"),
            ("overloaded", "503"),
            ("values", "yes"),
        ]),
    ]
}

/// The check of a response that breaks, where the web server makes a whole one of it.
const fn looks_whole(why: &'static str) -> Deviation {
    Deviation { check: "breaks", instead: "it looks whole", why }
}

const NGINX_BREAKS: Deviation = looks_whole(
    "nginx takes the end of a connection for the end of a response when it does not keep the \
     connection, or does not buffer; a response with Content-Length shows the break everywhere",
);

const BREAKS: Deviation = looks_whole(
    "Caddy and h2o take the end of a connection for the end of a response; one with Content-Length \
     shows the break",
);

const HAPROXY_CHUNKED: &[Deviation] = &[Deviation {
    check: "chunked",
    instead: "status 400",
    why: "HAProxy answers 400 to a chunked upload that is not whole in its buffer when it is \
          passed on",
}];

fn authorizers() -> Vec<Pair> {
    let pair = |id, title, needs, kind| {
        Pair::new(id, title, Side::Authorizer, needs, Parts::Authorizer(kind))
    };
    vec![
        pair("apache_authorizer", "Apache", &[Peer::Apache], WebServerKind::Apache)
            .expected(&[("deny", "403, the application's page")]),
        pair("lighttpd_authorizer", "lighttpd", &[Peer::Lighttpd], WebServerKind::Lighttpd)
            .expected(&[("deny", "403, the application's page")]),
    ]
}

fn clients(report: &Report) -> Vec<Pair> {
    let client = |id, title, needs, parts| Pair::new(id, title, Side::Client, needs, parts);
    // Once for all runs, beside the test's own program.
    let flup = Flup::install(Path::new(env!("CARGO_TARGET_TMPDIR")).join("flup"));
    let missing = flup.as_ref().err().map(|error| error.to_string().replace('\n', " "));
    if let Some(version) = flup.as_ref().ok().and_then(Flup::version) {
        report.version("flup", &version);
    }
    let mut python = client("flup", "flup", &[Peer::Pip], Parts::Flup(flup.ok()));
    python.missing = missing;
    let c = ApplicationKind::Libfcgi { workers: WORKERS };
    let go = |multiplex| Parts::Application(ApplicationKind::Go, multiplex);
    vec![
        client("php_fpm", "php-fpm", &[Peer::PhpFpm], Parts::PhpFpm),
        client("libfcgi", "libfcgi", &[Peer::Libfcgi, Peer::Gcc], Parts::Application(c, 1)),
        client("go", "Go net/http/fcgi", &[Peer::Go], go(1)),
        client("go_mpxs", "Go net/http/fcgi, multiplexed", &[Peer::Go], go(16)),
        python,
    ]
}
