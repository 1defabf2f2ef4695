//! Sends many small requests to an application: `programs/blast.rs` on async-std.

#[path = "../../fcgi-testkit/programs/blast.rs"]
mod program;
mod runtime;

use fcgi_async_std as fcgi;

fn main() -> std::process::ExitCode {
    program::main()
}
