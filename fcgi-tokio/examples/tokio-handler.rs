//! A bare handler, with settings: `programs/handler.rs` on tokio.

#[path = "../../fcgi-testkit/programs/handler.rs"]
mod program;
mod runtime;

use fcgi_tokio as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
