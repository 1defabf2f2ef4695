//! Programs that a test puts somewhere to be run there.
//!
//! Linux runs no file that somebody has open for writing. A process that another thread of the test
//! starts just then has a copy of all descriptors for a moment, so that a program that this process
//! writes may be "busy" though it was closed. Here another process writes it.

use std::{
    io::{self, Write},
    path::Path,
    process::Command,
};

/// Copies a program; everybody may run the copy.
///
/// # Errors
/// When `install` does not.
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let output = Command::new("install")
        .args(["-m", "755", "--"])
        .args([from.as_ref(), to.as_ref()])
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("copy a program: {said}")));
    }
    Ok(())
}

/// Writes a script that starts with `#!`; everybody may run it.
///
/// # Errors
/// When it can't be written, or [`copy`] fails.
pub fn script(text: &str, to: impl AsRef<Path>) -> io::Result<()> {
    let mut written = tempfile::NamedTempFile::new()?;
    written.write_all(text.as_bytes())?;
    copy(written.path(), to)
}
