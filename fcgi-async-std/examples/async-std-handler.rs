//! A bare handler, with settings: `programs/handler.rs` on async-std.

#[path = "../../fcgi-testkit/programs/handler.rs"]
mod program;
mod runtime;

use fcgi_async_std as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
