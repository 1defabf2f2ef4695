//! Answers every request with `Hello, world`: `programs/hello.rs` on async-std.

#[path = "../../fcgi-testkit/programs/hello.rs"]
mod program;
mod runtime;

use fcgi_async_std as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
