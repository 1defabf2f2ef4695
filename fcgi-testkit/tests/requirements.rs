//! Every rule that code or documents cite has a line in docs/requirements.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What is read: the sources and the documents.
const READ: [&str; 3] = ["rs", "md", "toml"];
/// What is not the project's own text.
const LEFT_OUT: [&str; 4] = ["target", ".git", "corpus", "artifacts"];

#[test]
fn every_cited_rule_has_a_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = root.join("docs/requirements.md");
    let text = fs::read_to_string(&page).expect("docs/requirements.md can be read");
    let known: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|id| ids(id).next() == Some(id))
        .collect();
    assert!(known.len() > 90, "the page has only {} rules", known.len());

    let mut cited: BTreeMap<String, PathBuf> = BTreeMap::new();
    for file in files(&root) {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for id in ids(&text) {
            cited.entry(id.to_owned()).or_insert_with(|| file.clone());
        }
    }
    assert!(cited.len() > 60, "only {} rules are cited", cited.len());
    let missing: Vec<_> = cited.iter().filter(|(id, _)| !known.contains(id.as_str())).collect();
    assert!(missing.is_empty(), "not in docs/requirements.md: {missing:#?}");
}

#[test]
fn ids_are_found_where_they_stand_alone() {
    let text = "(FC-3.5-1), `Q-4`; W-8. See CGI-4.1.18-2. UTF-8, X-1Q-2, H-x, SHA-256, (H-9)";
    let found: Vec<_> = ids(text).collect();
    assert_eq!(found, ["FC-3.5-1", "Q-4", "W-8", "CGI-4.1.18-2", "H-9"]);
}

/// The files below a folder that may cite a rule.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder can be read").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().expect("a file has a type");
        if kind.is_dir() {
            if !LEFT_OUT.iter().any(|left_out| name == *left_out) {
                found.extend(files(&path));
            }
        } else if path.extension().is_some_and(|end| READ.iter().any(|read| end == *read)) {
            found.push(path);
        }
    }
    found
}

/// The rules' ids in a text: `FC-` and `CGI-` have a section before their number.
fn ids(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.')));
    words.filter_map(|word| {
        let word = word.trim_end_matches('.');
        let (kind, rest) = word.split_once('-')?;
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let is_id = match kind {
            "Q" | "W" | "H" => is_number(rest),
            "FC" | "CGI" => rest.split_once('-').is_some_and(|(section, number)| {
                section.split('.').all(is_number) && is_number(number)
            }),
            _ => false,
        };
        is_id.then_some(word)
    })
}
