//! An application that sends back what it got: `programs/echo.rs` on async-std.

#[path = "../../fcgi-testkit/programs/echo.rs"]
mod program;
mod runtime;

use fcgi_async_std as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
