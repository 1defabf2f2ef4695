//! An application that uses the sockets it was started with: `programs/app.rs` on async-std.

#[path = "../../fcgi-testkit/programs/app.rs"]
mod program;
mod runtime;

use fcgi_async_std as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
