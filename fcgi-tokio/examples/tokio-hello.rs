//! Answers every request with `Hello, world`: `programs/hello.rs` on tokio.

#[path = "../../fcgi-testkit/programs/hello.rs"]
mod program;
mod runtime;

use fcgi_tokio as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
