//! `cargo xtask api`: writes the public API of each library as text in the tree, so that review
//! shows every change of it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use public_api::PublicApi;

use crate::ci::libraries;
use crate::command::{cargo, root, run as run_command};
use crate::tool::target;

const FOLDER: &str = "docs/api";
/// Crates whose names tell nothing about a dependency.
const OURS: [&str; 4] = ["std", "core", "alloc", "fcgi"];

/// The arguments of `cargo xtask api`.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Write nothing; fail if docs/api is out of date
    #[arg(long)]
    pub(crate) check: bool,
}

/// Writes or compares a page for each library.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = root().join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut different = Vec::new();
    for name in libraries()? {
        let page = page(&name, &public_api(&name)?);
        let path = folder.join(format!("{name}.txt"));
        if !options.check {
            fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
        } else if fs::read_to_string(&path).unwrap_or_default() != page {
            let tree = fs::read_to_string(&path).unwrap_or_default();
            different.push(format!("{name}:\n{}", difference(&tree, &page)));
        }
    }
    if !different.is_empty() {
        bail!(
            "{FOLDER} is not what the libraries offer; `cargo xtask api` writes it:\n{}",
            different.join("\n")
        );
    }
    Ok(())
}

/// rustdoc's JSON is unstable, hence the variable. Its format changes now and then, so the crate
/// `public-api` must match the compiler.
fn public_api(name: &str) -> Result<PublicApi> {
    let build = target().join("docs");
    let mut rustdoc = cargo(["rustdoc", "--lib", "--all-features", "--locked", "--package", name]);
    rustdoc.arg("--target-dir").arg(&build).env("RUSTC_BOOTSTRAP", "1");
    rustdoc.args(["--", "-Zunstable-options", "--output-format=json", "--cap-lints=allow"]);
    run_command(&mut rustdoc)?;
    let json: PathBuf = build.join("doc").join(format!("{}.json", name.replace('-', "_")));
    public_api::Builder::from_rustdoc_json(&json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()
        .with_context(|| format!("reading {}", json.display()))
}

fn page(name: &str, api: &PublicApi) -> String {
    let items: Vec<String> = api.items().map(ToString::to_string).collect();
    let foreign: BTreeSet<&str> = items.iter().flat_map(|item| foreign(item)).collect();
    let mut page = format!("{name} with all features. `cargo xtask api` writes this page.\n");
    page.push_str("\nTypes of other crates, a new major version of which is one of ours:\n\n");
    if foreign.is_empty() {
        page.push_str("none\n");
    }
    for path in foreign {
        // Writing to a String can't fail.
        let _ = writeln!(page, "{path}");
    }
    page.push_str("\nItems:\n\n");
    for item in items {
        let _ = writeln!(page, "{item}");
    }
    page
}

/// The paths in an item that lead into a crate outside of this workspace and of Rust itself.
fn foreign(item: &str) -> Vec<&str> {
    item.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .map(|path| path.trim_matches(':'))
        .filter(|path| {
            // A path to a type starts with a crate.
            let ends =
                path.rsplit("::").next().is_some_and(|last| last.starts_with(char::is_uppercase));
            let starts = path.split_once("::").is_some_and(|(name, _)| {
                !OURS.contains(&name)
                    && !name.starts_with("fcgi_")
                    && name.starts_with(char::is_lowercase)
            });
            starts && ends
        })
        .collect()
}

/// The lines that only one of the two has.
fn difference(tree: &str, page: &str) -> String {
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) =
        (tree.lines().collect(), page.lines().collect());
    let gone = old.difference(&new).map(|line| format!("- {line}"));
    let come = new.difference(&old).map(|line| format!("+ {line}"));
    gone.chain(come).take(40).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_other_crates_are_found() {
        let item = "pub fn fcgi_http::f(&bytes::bytes::Bytes, core::option::Option<Self::Body>) -> \
                    core::result::Result<http::header::HeaderMap, fcgi_proto::Error> where bytes::bytes::Bytes::from";
        assert_eq!(foreign(item), ["bytes::bytes::Bytes", "http::header::HeaderMap"]);
    }

    #[test]
    fn a_difference_names_what_came_and_what_went() {
        assert_eq!(difference("a\nb\n", "b\nc\n"), "- a\n+ c");
        assert_eq!(difference("a\n", "a\n"), "");
    }
}
