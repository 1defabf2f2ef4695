//! Runs a PHP script over a pool of connections: `programs/php.rs` on tokio.

#[path = "../../fcgi-testkit/programs/php.rs"]
mod program;
mod runtime;

use fcgi_tokio as fcgi;

fn main() -> std::process::ExitCode {
    program::main()
}
