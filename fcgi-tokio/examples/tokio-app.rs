//! An application that uses the sockets it was started with: `programs/app.rs` on tokio.

#[path = "../../fcgi-testkit/programs/app.rs"]
mod program;
mod runtime;

use fcgi_tokio as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
