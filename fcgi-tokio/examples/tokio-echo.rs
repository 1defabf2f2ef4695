//! An application that sends back what it got: `programs/echo.rs` on tokio.

#[path = "../../fcgi-testkit/programs/echo.rs"]
mod program;
mod runtime;

use fcgi_tokio as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
