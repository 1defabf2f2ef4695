//! Requests a page from a PHP application: `programs/get.rs` on async-std.

#[path = "../../fcgi-testkit/programs/get.rs"]
mod program;
mod runtime;

use fcgi_async_std as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
