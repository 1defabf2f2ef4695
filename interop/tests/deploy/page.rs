//! The page, and the files that it shows.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

const PAGE: &str = "docs/deploy.md";
const FILES: &str = "fcgi-cli/deploy";
/// Before each block that is a file.
const MARK: &str = "<!-- file: ";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// One of the files.
pub(crate) fn file(name: &str) -> Result<String> {
    let path = root().join(FILES).join(name);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// A file with other places in it; each has to be there.
pub(crate) fn adapted(name: &str, places: &[(&str, &str)]) -> Result<String> {
    let mut text = file(name)?;
    for (shown, real) in places {
        ensure!(text.contains(shown), "{FILES}/{name} has no {shown:?}");
        text = text.replace(shown, real);
    }
    Ok(text)
}

/// Each file stands in the page as it is, and no other is said to.
pub(crate) fn shows_the_files() -> Result<()> {
    let page = fs::read_to_string(root().join(PAGE)).context(PAGE)?;
    let mut shown = BTreeSet::new();
    for part in page.split(MARK).skip(1) {
        let (path, rest) = part.split_once(" -->\n```").context("a mark without a block")?;
        let (_, block) = rest.split_once('\n').context("a block without lines")?;
        let (block, _) = block.split_once("\n```").context("a block without an end")?;
        let name = path.strip_prefix(FILES).and_then(|name| name.strip_prefix('/'));
        let name = name.with_context(|| format!("{path} is not in {FILES}"))?;
        ensure!(format!("{block}\n") == file(name)?, "{PAGE} does not show {path} as it is");
        shown.insert(name.to_owned());
    }
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(root().join(FILES)).context(FILES)? {
        files.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    ensure!(files == shown, "{FILES} has {files:?}, and {PAGE} shows {shown:?}");
    Ok(())
}
