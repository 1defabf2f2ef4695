//! An adapter's example programs, built and set aside: every adapter has programs of the same
//! names, which take each other's place in the target folder.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// The programs of one adapter, in a folder of their own, which is removed when this is dropped.
#[derive(Debug)]
pub struct Examples {
    folder: TempDir,
}

impl Examples {
    /// Has cargo build these examples of a package, as it has built the test that asks.
    ///
    /// # Errors
    /// What cargo said, or a file that can't be copied.
    pub fn build(package: &str, names: &[&str]) -> io::Result<Self> {
        let program = env::current_exe()?;
        let built = program.parent().and_then(Path::parent).ok_or(io::ErrorKind::NotFound)?;
        let profile = match built.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["build", "--locked", "--quiet", "--package", package, "--profile", profile])
            .args(names.iter().flat_map(|name| ["--example", name]))
            .arg("--target-dir")
            .arg(built.parent().ok_or(io::ErrorKind::NotFound)?)
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("build the examples of {package}: {said}")));
        }
        let folder = tempfile::tempdir()?;
        for name in names {
            fs::copy(built.join("examples").join(name), folder.path().join(name))?;
        }
        Ok(Self { folder })
    }

    /// Where one of them is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
