//! The results of a run, and the page that shows them.

use std::collections::HashMap;
use std::fmt::Write;

use anyhow::{Result, bail};

const INTRODUCTION: &str = include_str!("introduction.md");

/// The tables: a side of the results, and the page's text above it.
const TABLES: [(&str, &str); 3] = [
    (
        "server",
        "## Our server behind each web server\n\nThe rows below the requests say what the web \
         server does with its application.",
    ),
    (
        "authorizer",
        "## Our server as Authorizer\n\nThe application behind it is ours too; the user is the one \
         that the Authorizer names.",
    ),
    ("client", "## Our client before each application"),
];

/// The results of one run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Peer and version.
    versions: Vec<(String, String)>,
    pairs: Vec<Pair>,
    /// Id and title.
    checks: Vec<(String, String)>,
    /// By pair and check.
    cells: HashMap<(String, String), Cell>,
}

#[derive(Debug)]
struct Pair {
    side: String,
    id: String,
    title: String,
}

#[derive(Debug)]
enum Cell {
    Passed,
    Value(String),
    Deviation(String),
    Failed,
}

impl Results {
    /// Reads the lines that the tests write.
    pub(crate) fn read(lines: &str) -> Result<Self> {
        let mut results = Self::default();
        for line in lines.lines() {
            let parts: Vec<&str> = line.split('\t').collect();
            match parts[..] {
                ["version", peer, version] => {
                    results.versions.push((peer.into(), version.into()));
                }
                ["pair", side, id, title] => results.pairs.push(Pair {
                    side: side.into(),
                    id: id.into(),
                    title: title.into(),
                }),
                ["check", id, title] => results.checks.push((id.into(), title.into())),
                ["result", pair, check, kind, text] => {
                    let cell = match kind {
                        "pass" => Cell::Passed,
                        "value" => Cell::Value(text.into()),
                        "deviation" => Cell::Deviation(text.into()),
                        "fail" => Cell::Failed,
                        _ => bail!("expected a kind of result, got {line:?}"),
                    };
                    results.cells.insert((pair.into(), check.into()), cell);
                }
                _ => bail!("expected a line of results, got {line:?}"),
            }
        }
        results.versions.sort_by_key(|(peer, _)| peer.to_lowercase());
        Ok(results)
    }

    /// Whether each pair has a result for each check that another pair of its side has.
    pub(crate) fn is_whole(&self) -> bool {
        !self.pairs.is_empty()
            && self.pairs.iter().all(|pair| {
                let rows = self.rows(&pair.side);
                !rows.is_empty() && rows.iter().all(|check| self.cell(pair, check).is_some())
            })
    }

    /// Whether there is such a pair.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.pairs.iter().any(|pair| pair.id == id)
    }

    /// docs/interop.md.
    pub(crate) fn page(&self) -> String {
        let mut page = format!("{}\n{}\n## Versions\n\n", INTRODUCTION.trim_end(), self.tables());
        page.push_str("| peer | version |\n| --- | --- |\n");
        for (peer, version) in &self.versions {
            page.push_str(&version_row(peer, version));
            page.push('\n');
        }
        page
    }

    /// A table for each side that has results, and the notes under it.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for (side, heading) in TABLES {
            if let Some(table) = self.table(side) {
                let _ = write!(text, "\n{heading}\n\n{table}");
            }
        }
        text
    }

    fn table(&self, side: &str) -> Option<String> {
        let (rows, pairs) = (self.rows(side), self.columns(side));
        if rows.is_empty() {
            return None;
        }
        let mut notes: Vec<&str> = Vec::new();
        let mut table = String::from("| |");
        for pair in &pairs {
            let _ = write!(table, " {} |", pair.title);
        }
        let _ = writeln!(table, "\n| --- |{}", " --- |".repeat(pairs.len()));
        for check in rows {
            let _ = write!(table, "| {} |", check.1);
            for pair in &pairs {
                let cell = match self.cell(pair, check) {
                    None => "not run".into(),
                    Some(Cell::Passed) => "yes".into(),
                    Some(Cell::Value(value)) => value.clone(),
                    Some(Cell::Failed) => "FAILED".into(),
                    Some(Cell::Deviation(why)) => {
                        let known = notes.iter().position(|note| note == why);
                        let number = known.unwrap_or_else(|| {
                            notes.push(why);
                            notes.len() - 1
                        });
                        format!("no ({})", number + 1)
                    }
                };
                let _ = write!(table, " {cell} |");
            }
            table.push('\n');
        }
        if !notes.is_empty() {
            table.push('\n');
        }
        for (number, note) in (1..).zip(notes) {
            let _ = writeln!(table, "{number}. {note}.");
        }
        Some(table)
    }

    /// The checks that a side has results of.
    fn rows(&self, side: &str) -> Vec<&(String, String)> {
        let pairs = self.columns(side);
        let has =
            |check: &&(String, String)| pairs.iter().any(|pair| self.cell(pair, check).is_some());
        self.checks.iter().filter(has).collect()
    }

    /// The pairs of a side that were run at all.
    fn columns(&self, side: &str) -> Vec<&Pair> {
        let was_run = |pair: &&Pair| self.cells.keys().any(|(id, _)| *id == pair.id);
        self.pairs.iter().filter(|pair| pair.side == side).filter(was_run).collect()
    }

    fn cell(&self, pair: &Pair, check: &(String, String)) -> Option<&Cell> {
        self.cells.get(&(pair.id.clone(), check.0.clone()))
    }
}

fn version_row(peer: &str, version: &str) -> String {
    format!("| {peer} | {version} |")
}

/// The difference of two pages, line by line; `None` if there is none. Of a version only the first
/// two numbers count, since distributions change the rest at any time.
pub(crate) fn difference(tree: &str, run: &str) -> Option<String> {
    let (tree, run) = (comparable(tree), comparable(run));
    if tree == run {
        return None;
    }
    let mut difference = String::new();
    for (sign, lines, others) in [('-', &tree, &run), ('+', &run, &tree)] {
        for line in lines.iter().filter(|line| !others.contains(line)) {
            let _ = writeln!(difference, "{sign} {line}");
        }
    }
    if difference.is_empty() {
        difference.push_str("the same lines, in another order or number\n");
    }
    Some(difference)
}

fn comparable(page: &str) -> Vec<String> {
    let mut versions = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        versions |= line == "## Versions";
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        lines.push(match cells[..] {
            ["", peer, version, ""] if versions => {
                let kept: Vec<&str> = version.splitn(3, '.').take(2).collect();
                version_row(peer, &kept.join("."))
            }
            _ => line.to_owned(),
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "version\tZebra\t1.2.3\nversion\tapple\t4.5.6\n\
        pair\tserver\ta\tweb A\npair\tserver\tb\tweb B\npair\tclient\tc\tapp C\n\
        check\tget\tGET\ncheck\told\tchunked\ncheck\ttold\ttold by\n\
        result\tb\tget\tpass\t\nresult\ta\tget\tpass\t\nresult\ta\told\tpass\t\n\
        result\tb\told\tdeviation\tB refuses it\nresult\ta\ttold\tvalue\tABORT\n\
        result\tb\ttold\tfail\tboom\nresult\tc\tget\tpass\t\n";

    fn results(lines: &str) -> Results {
        Results::read(lines).expect("the lines are well-formed")
    }

    #[test]
    fn shows_pairs_and_checks_in_their_order() {
        let tables = results(RUN).tables();
        let expected = "| | web A | web B |\n| --- | --- | --- |\n| GET | yes | yes |\n\
            | chunked | yes | no (1) |\n| told by | ABORT | FAILED |\n\n1. B refuses it.\n";
        assert!(tables.contains(expected), "{tables}");
        assert!(tables.contains("| | app C |\n| --- | --- |\n| GET | yes |\n"), "{tables}");
        let page = results(RUN).page();
        assert!(page.ends_with("| apple | 4.5.6 |\n| Zebra | 1.2.3 |\n"), "{page}");
    }

    #[test]
    fn is_whole_only_with_every_cell() {
        assert!(results(RUN).is_whole());
        assert!(!results(&RUN.replace("result\ta\told\tpass\t\n", "")).is_whole());
        assert!(!results(&RUN.replace("result\tc\tget\tpass\t\n", "")).is_whole());
        assert!(!results("").is_whole());
    }

    #[test]
    fn compares_all_but_the_end_of_versions() {
        let page = results(RUN).page();
        assert_eq!(difference(&page, &page), None);
        let patched = results(&RUN.replace("1.2.3", "1.2.4")).page();
        assert_eq!(difference(&page, &patched), None);
        let minor = results(&RUN.replace("1.2.3", "1.3.3")).page();
        let expected = "- | Zebra | 1.2 |\n+ | Zebra | 1.3 |\n";
        assert_eq!(difference(&page, &minor).as_deref(), Some(expected));
        let failing = results(&RUN.replace("a\tget\tpass\t", "a\tget\tfail\tno")).page();
        let difference = difference(&page, &failing).unwrap_or_default();
        assert_eq!(difference, "- | GET | yes | yes |\n+ | GET | FAILED | yes |\n");
    }

    #[test]
    fn refuses_what_is_no_result() {
        assert!(Results::read("result\ta\tget\tmaybe\t").is_err());
        assert!(Results::read("nonsense").is_err());
    }
}
