//! Copies programs and scripts that a test runs.
//!
//! Linux does not run a file that somebody has open for writing. If another thread of the test
//! starts a process at that moment, that process has a copy of all descriptors for a short time. So
//! a program that this process writes may be "busy" even after it was closed. Therefore another
//! process writes it.

use std::{
    io::{self, Write},
    path::Path,
    process::Command,
};

/// Copies a program; everybody may run the copy.
///
/// # Errors
/// If `install` fails.
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
/// If the script can't be written, or [`copy`] fails.
pub fn script(text: &str, to: impl AsRef<Path>) -> io::Result<()> {
    let mut written = tempfile::NamedTempFile::new()?;
    written.write_all(text.as_bytes())?;
    copy(written.path(), to)
}
