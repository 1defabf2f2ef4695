//! Runs a PHP script over a pool of connections: `programs/php.rs` on async-std.

#[path = "../../fcgi-testkit/programs/php.rs"]
mod program;
mod runtime;

use fcgi_async_std as fcgi;

fn main() -> std::process::ExitCode {
    program::main()
}
