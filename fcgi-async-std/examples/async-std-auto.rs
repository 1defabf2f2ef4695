//! An application that can also run as a CGI program: `programs/auto.rs` on async-std.

#[path = "../../fcgi-testkit/programs/auto.rs"]
mod program;
mod runtime;

use fcgi_async_std as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
