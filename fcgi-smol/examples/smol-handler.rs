//! A bare handler, with settings: `programs/handler.rs` on smol.

#[path = "../../fcgi-testkit/programs/handler.rs"]
mod program;
mod runtime;

use fcgi_smol as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
