//! A peer's version, as the peer itself says it.

use std::fs;
use std::process::Command;

use super::Peer;

impl Peer {
    /// The version, such as `1.22.1`: what the program prints, or libfcgi's header says. `None`
    /// when the peer is missing or says none.
    pub fn version(self) -> Option<String> {
        let program = self.find().ok()?;
        let text = match self {
            Self::Libfcgi => {
                let header = fs::read_to_string(program.with_file_name("fcgi_config.h")).ok()?;
                header.lines().find(|line| line.contains("PACKAGE_VERSION "))?.to_owned()
            }
            _ => {
                let argument = match self {
                    Self::Nginx | Self::PhpFpm => "-v",
                    Self::Apache | Self::Lighttpd | Self::Haproxy => "-v",
                    Self::Caddy | Self::Go => "version",
                    _ => "--version",
                };
                let output = Command::new(program).arg(argument).output().ok()?;
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
            }
        };
        first_version(&text)
    }
}

/// The first numbers with a dot between them, such as `1.22.1` in `nginx/1.22.1`.
fn first_version(text: &str) -> Option<String> {
    text.split(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .map(|word| word.trim_matches('.'))
        .find(|word| word.contains('.'))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::first_version;

    #[test]
    fn finds_the_version_in_what_programs_print() {
        let said = [
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("Server version: Apache/2.4.71 (Debian)", "2.4.71"),
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17", "2.6.12"),
            ("PHP 8.2.36 (fpm-fcgi) (built: Nov 18 2026)", "8.2.36"),
            ("go version go1.19.8 linux/amd64", "1.19.8"),
            ("v2.6.2 h1:abc", "2.6.2"),
        ];
        for (text, version) in said {
            assert_eq!(first_version(text).as_deref(), Some(version), "{text}");
        }
        assert_eq!(first_version("no version. at all 7"), None);
    }
}
