//! The README's examples, compiled.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
