//! Sends one request to an application: `programs/call.rs` on async-std.

#[path = "../../fcgi-testkit/programs/call.rs"]
mod program;
mod runtime;

use fcgi_async_std as fcgi;

fn main() -> std::process::ExitCode {
    program::main()
}
