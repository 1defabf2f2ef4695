//! Sends one request to an application: `programs/call.rs` on tokio.

#[path = "../../fcgi-testkit/programs/call.rs"]
mod program;
mod runtime;

use fcgi_tokio as fcgi;

fn main() -> std::process::ExitCode {
    program::main()
}
