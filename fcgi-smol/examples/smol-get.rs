//! Requests a page from a PHP application: `programs/get.rs` on smol.

#[path = "../../fcgi-testkit/programs/get.rs"]
mod program;
mod runtime;

use fcgi_smol as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
