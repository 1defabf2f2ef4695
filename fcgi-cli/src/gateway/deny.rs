//! Paths that nobody gets, even if there is a file.

use std::str::FromStr;

use glob::{MatchOptions, Pattern, PatternError};

/// One pattern. Without a slash inside it is for any name in a path, otherwise for paths from the
/// root on. Everything below a match is denied too.
#[derive(Clone, Debug)]
pub(super) struct Deny {
    pattern: Pattern,
    is_name: bool,
}

const EXACT: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl FromStr for Deny {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let inner = text.strip_suffix('/').unwrap_or(text);
        // `/` is the root.
        let is_name = !inner.contains('/') && text != "/";
        let pattern = match inner.strip_prefix('/') {
            _ if is_name => inner.to_owned(),
            Some(rest) => format!("/{rest}"),
            None => format!("/{inner}"),
        };
        Ok(Self { pattern: Pattern::new(&pattern)?, is_name })
    }
}

impl Deny {
    /// Whether there is no pattern at all.
    pub(super) fn is_empty(&self) -> bool {
        self.pattern.as_str().is_empty()
    }

    /// Whether a decoded path is denied.
    pub(super) fn denies(&self, path: &[u8]) -> bool {
        let text = String::from_utf8_lossy(path);
        if self.is_name {
            return text.split('/').any(|name| self.pattern.matches_with(name, EXACT));
        }
        let text = text.trim_end_matches('/');
        let inner = text.match_indices('/').map(|(at, _)| &text[..at]).skip(1);
        // The root is a folder too.
        inner.chain([text, "/"]).any(|path| self.pattern.matches_with(path, EXACT))
    }
}
