//! Real peers: our client calls php-fpm and libfcgi, nginx and cgi-fcgi call our server, and our
//! own two ends talk to each other. A case whose peer is missing shows as ignored.

mod app;
mod cgi;
mod haproxy;
mod http;
mod libfcgi;
mod nginx;
mod ours;
mod paths;
mod php_fpm;
mod relay;
mod support;

use std::process::ExitCode;

use fcgi_testkit::harness;

fn main() -> ExitCode {
    let cases = [
        php_fpm::cases(),
        nginx::cases(),
        haproxy::cases(),
        http::cases(),
        ours::cases(),
        paths::cases(),
        cgi::cases(),
        libfcgi::cases(),
    ];
    harness::run(cases.into_iter().flatten())
}
