//! Sends many small requests to an application: `programs/blast.rs` on smol.

#[path = "../../fcgi-testkit/programs/blast.rs"]
mod program;
mod runtime;

use fcgi_smol as fcgi;

fn main() -> std::process::ExitCode {
    program::main()
}
