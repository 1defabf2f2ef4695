//! Real applications through `fcgi gateway` and through nginx: the same requests must get the same
//! answers.

mod apps;
mod compare;

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
        case("php_front_controller", &[Peer::Nginx, Peer::PhpFpm], apps::php),
        case("git_http_backend", &[Peer::Nginx, Peer::Fcgiwrap, Peer::GitHttp], apps::git),
        case("uwsgi", &[Peer::Nginx, Peer::Uwsgi], apps::uwsgi),
    ])
}
