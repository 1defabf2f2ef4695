//! An application that can also run as a CGI program: `programs/auto.rs` on smol.

#[path = "../../fcgi-testkit/programs/auto.rs"]
mod program;
mod runtime;

use fcgi_smol as fcgi;

fn main() -> anyhow::Result<()> {
    program::main()
}
