//! Answers every request with `Hello, world`: `programs/hello.rs` on smol.

#[path = "../../fcgi-testkit/programs/hello.rs"]
mod program;
mod runtime;

use fcgi_smol as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
