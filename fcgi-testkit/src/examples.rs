//! An adapter's example programs.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The programs of one adapter: `echo` of `fcgi-tokio` is the target `tokio-echo`.
#[derive(Debug)]
pub struct Examples {
    folder: PathBuf,
    prefix: String,
}

impl Examples {
    /// Makes cargo build these examples of a package, like the test that calls this.
    ///
    /// # Errors
    /// The output of cargo.
    pub fn build(package: &str, names: &[&str]) -> io::Result<Self> {
        let program = env::current_exe()?;
        let built = program.parent().and_then(Path::parent).ok_or(io::ErrorKind::NotFound)?;
        let profile = match built.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let adapter = package.strip_prefix("fcgi-").unwrap_or(package);
        let examples = Self { folder: built.join("examples"), prefix: format!("{adapter}-") };
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["build", "--locked", "--quiet", "--package", package, "--profile", profile])
            .args(names.iter().flat_map(|name| ["--example".to_owned(), examples.target(name)]))
            .arg("--target-dir")
            .arg(built.parent().ok_or(io::ErrorKind::NotFound)?)
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("build the examples of {package}: {said}")));
        }
        Ok(examples)
    }

    /// The path of one of them.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(self.target(name))
    }

    fn target(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}
