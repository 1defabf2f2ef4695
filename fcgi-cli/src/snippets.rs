//! The configuration files of docs/deploy.md, for the user's address.

use std::{net::SocketAddr, process::ExitCode};

use clap::Args;
use fcgi_tokio::{Address, Target};

use crate::{complain, exit::Exit, place::Place, report::print};

const NGINX: &str = include_str!("../deploy/nginx.conf");
const APACHE: &str = include_str!("../deploy/apache.conf");
const SOCKET: &str = include_str!("../deploy/app.socket");
const SERVICE: &str = include_str!("../deploy/app.service");

/// The address in the files, to be replaced.
const ADDRESS: &str = "unix:/run/app/app.sock";
const ROOT: &str = "/srv/app/public";
const HOST: &str = "example.org";
const PROGRAM: &str = "/usr/local/bin/app";

/// Print a site for nginx in front of the application
#[derive(Args)]
pub(crate) struct NginxConf {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    site: Site,
}

/// Print a site for Apache in front of the application
#[derive(Args)]
pub(crate) struct ApacheConf {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    site: Site,
}

#[derive(Args)]
struct Site {
    /// The site's host
    #[arg(long, value_name = "HOST", default_value = HOST, value_parser = word)]
    server_name: String,
    /// The folder of static files, which the web server sends
    #[arg(long, value_name = "DIR", default_value = ROOT, value_parser = path)]
    root: String,
    /// A name for the application
    #[arg(long, value_name = "NAME", default_value = "app", value_parser = name)]
    name: String,
}

/// Print a socket unit and a service unit for systemd, which start the application
///
/// systemd listens on ADDR and passes the socket on; the program takes it with
/// `Listener::from_env`. The two files are printed one after the other; --socket or --service
/// prints only one of them.
#[derive(Args)]
pub(crate) struct SystemdUnit {
    #[command(flatten)]
    place: Place,
    /// The program, with its arguments
    #[arg(long, value_name = "COMMAND", default_value = PROGRAM, value_parser = path)]
    exec: String,
    /// The units' name
    #[arg(long, value_name = "NAME", default_value = "app", value_parser = name)]
    name: String,
    /// The web server's group, which may connect
    #[arg(long, value_name = "GROUP", default_value = "www-data", value_parser = name)]
    group: String,
    /// Print only the socket unit
    #[arg(long, conflicts_with = "service")]
    socket: bool,
    /// Print only the service unit
    #[arg(long)]
    service: bool,
}

impl NginxConf {
    pub(crate) fn run(self) -> ExitCode {
        let Some(address) = find(&self.place, "nginx-conf") else { return Exit::Usage.into() };
        let server = match at(&address) {
            Ok(At::Unix(path)) => quoted(format!("unix:{path}")),
            Ok(At::Tcp(host_port)) => host_port,
            Err(why) => return refused("nginx-conf", why),
        };
        let name = &self.site.name;
        let text = self.site.fill(NGINX);
        let text = text
            .replace(ADDRESS, &server)
            .replace("upstream app {", &format!("upstream {name} {{"))
            .replace("fastcgi_pass app;", &format!("fastcgi_pass {name};"))
            .replace("@app", &format!("@{name}"))
            .replace("sites-available/app,", &format!("sites-available/{name},"));
        done(&text)
    }
}

impl ApacheConf {
    pub(crate) fn run(self) -> ExitCode {
        let Some(address) = find(&self.place, "apache-conf") else { return Exit::Usage.into() };
        let name = &self.site.name;
        let whole = format!("{ADDRESS}|fcgi://app/");
        let (comment, url) = match at(&address) {
            Ok(At::Unix(path)) => (true, format!("unix:{path}|fcgi://{name}/")),
            Ok(At::Tcp(host_port)) => (false, format!("fcgi://{host_port}/")),
            Err(why) => return refused("apache-conf", why),
        };
        let text = self.site.fill(APACHE).replace(&whole, &url);
        let text =
            text.replace("sites-available/app.conf", &format!("sites-available/{name}.conf"));
        // A TCP address has no such name.
        let is_kept = |line: &&str| comment || !line.contains("# The name after fcgi://");
        let lines: Vec<&str> = text.lines().filter(is_kept).collect();
        done(&lines.join("\n"))
    }
}

impl Site {
    fn fill(&self, text: &str) -> String {
        text.replace(ROOT, &quoted(self.root.clone())).replace(HOST, &self.server_name)
    }
}

impl SystemdUnit {
    pub(crate) fn run(self) -> ExitCode {
        let Some(address) = find(&self.place, "systemd-unit") else { return Exit::Usage.into() };
        let name = &self.name;
        let (is_unix, stream) = match at(&address) {
            // systemd would replace `%n` and the like.
            Ok(At::Unix(path)) => (true, path.replace('%', "%%")),
            // A port on all interfaces.
            Ok(At::Tcp(host_port)) => match address.to_string().strip_prefix("tcp::") {
                Some(port) => (false, port.to_owned()),
                None if host_port.parse::<SocketAddr>().is_ok() => (false, host_port),
                None => {
                    return refused(
                        "systemd-unit",
                        "systemd listens at IP addresses, not at names",
                    );
                }
            },
            Err(why) => return refused("systemd-unit", why),
        };
        let named = |text: &str| {
            text.replace("system/app.", &format!("system/{name}."))
                .replace("app.socket", &format!("{name}.socket"))
        };
        let of_file = ["# The web server's group", "SocketUser=", "SocketGroup=", "SocketMode="];
        let socket: Vec<String> = named(SOCKET)
            .replace("/run/app/app.sock", &stream)
            .replace("SocketGroup=www-data", &format!("SocketGroup={}", self.group))
            .lines()
            .filter(|line| is_unix || !of_file.iter().any(|start| line.starts_with(start)))
            .map(str::to_owned)
            .collect();
        let service = named(SERVICE)
            .replace("/var/lib/app", &format!("/var/lib/{name}"))
            .replace("StateDirectory=app", &format!("StateDirectory={name}"))
            .replace(PROGRAM, &self.exec);
        let socket = socket.join("\n");
        done(&match (self.socket, self.service) {
            (true, _) => socket,
            (_, true) => service,
            _ => format!("{socket}\n\n{service}"),
        })
    }
}

fn find(place: &Place, command: &str) -> Option<Address> {
    let found = place.find();
    found.map_err(|error| complain(&format!("fcgi {command}: {error}"))).ok()
}

/// An address that can be written into a file.
enum At {
    Unix(String),
    Tcp(String),
}

fn at(address: &Address) -> Result<At, &'static str> {
    match address.target() {
        Target::Unix(path) => match path.to_str() {
            Some(path) if path.chars().all(|c| is_plain(c) && c != '|') => {
                Ok(At::Unix(path.to_owned()))
            }
            _ => Err("expected a socket's path without quotes, braces, semicolons and the like"),
        },
        Target::Tcp(host_port) => Ok(At::Tcp(host_port.to_owned())),
        _ => Err("expected a unix socket or a TCP port"),
    }
}

fn refused(command: &str, why: &str) -> ExitCode {
    complain(&format!("fcgi {command}: {why}"));
    Exit::Usage.into()
}

/// One word of nginx's or Apache's files.
fn quoted(plain: String) -> String {
    if plain.contains(char::is_whitespace) { format!("\"{plain}\"") } else { plain }
}

fn done(text: &str) -> ExitCode {
    match print(text.trim_end()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("fcgi: write to stdout: {error}"));
            Exit::Io.into()
        }
    }
}

/// A text that can be a name in a file.
fn name(text: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("expected letters, digits, and any of -_.")
    }
}

/// A text that can be one word in a file.
fn word(text: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\{};#$".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("expected one word, without quotes, braces, semicolons and the like")
    }
}

/// Whether a character means itself in all of these files, possibly between quotes.
fn is_plain(c: char) -> bool {
    !c.is_control() && !"\"'\\{};#$".contains(c)
}

/// A path, possibly with arguments.
fn path(text: &str) -> Result<String, &'static str> {
    if text.starts_with('/') && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("expected a whole path, without quotes, braces, semicolons and the like")
    }
}
