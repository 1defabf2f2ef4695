//! Follows docs/deploy.md with the files that it shows: each is given to the real program; only
//! paths and ports differ.

mod application;
mod logs;
mod page;
mod servers;
mod starters;

use std::process::ExitCode;

use fcgi_testkit::{
    harness::{self, Case, Failed},
    peers::Peer,
};

fn main() -> ExitCode {
    let case = |name: &str, needs: &[Peer], run: fn() -> anyhow::Result<()>| {
        let run = move || run().map_err(|error| Failed::from(format!("{error:#}")));
        Case::new(name, run).needs(needs)
    };
    harness::run([
        case("the_page_shows_the_files_as_they_are", &[], page::shows_the_files),
        case("nginx", &[Peer::Nginx], servers::nginx),
        case("nginx_websocket", &[Peer::Nginx], servers::nginx_websocket),
        case("apache", &[Peer::Apache], servers::apache),
        case("apache_fcgid", &[Peer::Apache, Peer::Fcgid], servers::fcgid),
        case("lighttpd", &[Peer::Lighttpd], servers::lighttpd),
        case("lighttpd_spawns", &[Peer::Lighttpd], servers::lighttpd_spawns),
        case("haproxy", &[Peer::Haproxy], servers::haproxy),
        case("systemd_units", &[Peer::Systemd], starters::units),
        case("systemd_socket", &[Peer::Systemd, Peer::Nginx], starters::socket_activation),
        case("spawn_fcgi", &[Peer::SpawnFcgi, Peer::Nginx], starters::spawn_fcgi),
        case("rolling_restart", &[Peer::Nginx], starters::rolling_restart),
        case("logs", &[Peer::Nginx], logs::stderr),
        case("process_1_of_a_container", &[Peer::Nginx], starters::container),
    ])
}
