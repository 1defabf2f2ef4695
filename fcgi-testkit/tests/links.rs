//! Every link of the documents leads somewhere: to a file of the project, and to a heading in it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut checked, mut dead) = (0, Vec::new());
    for page in pages(&root) {
        let text = read(&page);
        for link in links(&text).filter(|link| !link.contains("://")) {
            checked += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { beside(&page, file) };
            let found = target.exists()
                && (heading.is_empty() || headings(&read(&target)).contains(heading));
            if !found {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(checked > 30, "only {checked} links were found");
    assert!(dead.is_empty(), "links that lead nowhere: {dead:#?}");
}

#[test]
fn links_and_headings_are_found() {
    let text =
        "# A `b`: c, d\nsee [a](x.md#y) and [b\nc](#z)\n```toml\n# no\n[k](v)\n```\n## A b c d";
    assert_eq!(links(text).collect::<Vec<_>>(), ["x.md#y", "#z"]);
    let expected = ["a-b-c-d", "a-b-c-d-1"].map(str::to_owned);
    assert_eq!(headings(text), BTreeSet::from(expected));
}

/// The documents, in the project's own folders.
fn pages(root: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).expect("a folder can be read").flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut found = entries(root);
    for folder in found.clone().iter().filter(|path| path.is_dir() && !path.ends_with("target")) {
        found.extend(entries(folder));
    }
    found.retain(|path| path.is_file() && path.extension().is_some_and(|end| end == "md"));
    found
}

fn read(page: &Path) -> String {
    fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

fn beside(page: &Path, file: &str) -> PathBuf {
    page.parent().expect("a file is in a folder").join(file)
}

/// The text outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2)
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text)
        .flat_map(|prose| prose.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// The names by which links reach a page's headings. A repeated one has a number.
fn headings(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in prose(text).flat_map(str::lines) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let name: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let numbered = (1..).map(|n| format!("{name}-{n}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !names.contains(name));
        names.extend(free);
    }
    names
}
