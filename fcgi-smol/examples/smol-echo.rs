//! An application that sends back what it got: `programs/echo.rs` on smol.

#[path = "../../fcgi-testkit/programs/echo.rs"]
mod program;
mod runtime;

use fcgi_smol as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
