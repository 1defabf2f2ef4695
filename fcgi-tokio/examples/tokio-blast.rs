//! Sends many small requests to an application: `programs/blast.rs` on tokio.

#[path = "../../fcgi-testkit/programs/blast.rs"]
mod program;
mod runtime;

use fcgi_tokio as fcgi;

fn main() -> std::process::ExitCode {
    program::main()
}
