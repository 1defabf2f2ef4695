//! Parts of docs/cli.md that tests make.

use std::{env, fs, path::Path};

/// Set it to write the parts instead of comparing them.
const UPDATE: &str = "UPDATE_CLI";

/// Compares the part between `<!-- NAME -->` and `<!-- /NAME -->` with what was seen.
pub(crate) fn compare(name: &str, seen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = fs::read_to_string(&path).expect("docs/cli.md is there");
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = page.split_once(&start).expect("the part begins");
    let (written, after) = rest.split_once(&end).expect("the part ends");
    if env::var_os(UPDATE).is_some() {
        let page = format!("{before}{start}{seen}{end}{after}");
        fs::write(&path, page).expect("docs/cli.md can be written");
        return;
    }
    assert_eq!(written, seen, "the part {name} of docs/cli.md; {UPDATE}=1 writes it");
}

/// Compares the part with what was seen, except for figures, the width of columns and the length of
/// bars. A line `...` in the part stands for any number of lines.
pub(crate) fn compare_shape(name: &str, seen: &str, names: &[(&str, &str)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = fs::read_to_string(&path).expect("docs/cli.md is there");
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (_, rest) = page.split_once(&start).expect("the part begins");
    let (written, _) = rest.split_once(&end).expect("the part ends");
    let is_fence = |line: &&str| line.starts_with("```");
    let written: Vec<&str> = written.lines().filter(|line| !is_fence(line)).collect();
    let mut seen = seen.to_owned();
    for (name, stands_for) in names {
        seen = seen.replace(name, stands_for);
    }
    let shown: Vec<String> = seen.lines().map(shape).collect();
    let is_whole = written.iter().all(|line| line.trim() != "...");
    let written: Vec<String> =
        written.iter().filter(|line| line.trim() != "...").map(|line| shape(line)).collect();
    if is_whole {
        assert_eq!(written, shown, "the part {name} of docs/cli.md; seen was\n{seen}");
    }
    for line in written {
        assert!(shown.contains(&line), "{line:?} of the part {name} of docs/cli.md in\n{seen}");
    }
}

/// A line with `N` for figures and their units, with single spaces, and without bars.
fn shape(line: &str) -> String {
    let figure = |word: &str| {
        let mut out = String::new();
        let mut rest = word;
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
            out.push_str(&rest[..at]);
            out.push('N');
            let after = &rest[at..];
            let end = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
            let after = &after[end..];
            let unit = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
            const UNITS: [&str; 13] =
                ["s", "ms", "us", "µs", "m", "h", "K", "M", "G", "B", "KB", "MB", "GB"];
            rest = if UNITS.contains(&&after[..unit]) { &after[unit..] } else { after };
        }
        out + rest
    };
    let words = line.split_whitespace().filter(|word| !word.chars().all(|c| c == '#'));
    words.map(figure).collect::<Vec<_>>().join(" ")
}

/// Replaces everything that differs from run to run.
pub(crate) fn settled(text: &str, names: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (name, stands_for) in names {
        text = text.replace(name, stands_for);
    }
    // Durations in a success's message: `in 1.2ms`.
    let mut out = String::new();
    while let Some((before, after)) = text.split_once(" in ") {
        out.push_str(before);
        out.push_str(" in ");
        let number = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
        let unit =
            after[number..].find(|c: char| !c.is_alphabetic()).unwrap_or(after.len() - number);
        let is_duration = number > 0 && matches!(&after[number..number + unit], "s" | "ms" | "µs");
        if is_duration {
            out.push_str("1.2ms");
        }
        text = if is_duration { after[number + unit..].to_owned() } else { after.to_owned() };
    }
    out + &text
}
