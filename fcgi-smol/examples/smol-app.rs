//! An application that uses the sockets it was started with: `programs/app.rs` on smol.

#[path = "../../fcgi-testkit/programs/app.rs"]
mod program;
mod runtime;

use fcgi_smol as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
