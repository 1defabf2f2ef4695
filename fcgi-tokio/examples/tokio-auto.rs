//! An application that can also run as a CGI program: `programs/auto.rs` on tokio.

#[path = "../../fcgi-testkit/programs/auto.rs"]
mod program;
mod runtime;

use fcgi_tokio as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
