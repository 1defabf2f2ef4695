//! Requests a page from a PHP application: `programs/get.rs` on tokio.

#[path = "../../fcgi-testkit/programs/get.rs"]
mod program;
mod runtime;

use fcgi_tokio as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
