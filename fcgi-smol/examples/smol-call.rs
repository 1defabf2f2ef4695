//! Sends one request to an application: `programs/call.rs` on smol.

#[path = "../../fcgi-testkit/programs/call.rs"]
mod program;
mod runtime;

use fcgi_smol as fcgi;

fn main() -> std::process::ExitCode {
    program::main()
}
