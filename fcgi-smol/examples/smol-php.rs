//! Runs a PHP script over a pool of connections: `programs/php.rs` on smol.

#[path = "../../fcgi-testkit/programs/php.rs"]
mod program;
mod runtime;

use fcgi_smol as fcgi;

fn main() -> std::process::ExitCode {
    program::main()
}
