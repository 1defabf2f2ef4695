//! A cause: its name, what is likely wrong, and what to do.

use std::fmt;

/// What is likely wrong, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cause {
    /// A stable name, for programs.
    pub(crate) id: &'static str,
    pub(crate) likely: String,
    pub(crate) remedy: String,
}

impl Cause {
    pub(crate) fn new(
        id: &'static str,
        likely: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { id, likely: likely.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.likely, self.remedy)
    }
}
