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

/// Replaces all that differs from run to run.
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
