//! A table on standard output, in aligned Markdown, for a terminal or a document.

/// The most characters in the note of a row.
const NOTE: usize = 120;

/// Rows of cells under a line of headings; the first column is flush left, the others right.
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Notes of rows; they are the last column if there are any.
    notes: Vec<String>,
}

impl Table {
    /// An empty table with these headings.
    pub(crate) fn new(headings: &[impl AsRef<str>]) -> Table {
        let headings = headings.iter().map(|heading| heading.as_ref().to_owned()).collect();
        Table { headings, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row; it may have fewer cells than there are headings.
    pub(crate) fn row(&mut self, mut cells: Vec<String>, note: impl Into<String>) {
        cells.resize(self.headings.len(), "-".to_owned());
        self.rows.push(cells);
        // It may be the whole output of a compiler.
        let note = note.into().replace(['\n', '|'], " ");
        let mut note: String = note.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((at, _)) = note.char_indices().nth(NOTE) {
            note.replace_range(at.., "…");
        }
        self.notes.push(note);
    }

    /// Prints the table and an empty line.
    pub(crate) fn print(&self) {
        println!("{self}");
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut lines = vec![self.headings.clone()];
        lines.extend(self.rows.iter().cloned());
        if self.notes.iter().any(|note| !note.is_empty()) {
            lines[0].push(String::new());
            for (line, note) in lines[1..].iter_mut().zip(&self.notes) {
                line.push(note.clone());
            }
        }
        let columns = lines[0].len();
        let noted = columns > self.headings.len();
        let width = |column: usize| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let is_left = |column: usize| column == 0 || noted && column == columns - 1;
        let write = |f: &mut std::fmt::Formatter<'_>, line: &[String]| {
            for (column, cell) in line.iter().enumerate() {
                let width = widths[column];
                if is_left(column) {
                    write!(f, "| {cell:<width$} ")?;
                } else {
                    write!(f, "| {cell:>width$} ")?;
                }
            }
            writeln!(f, "|")
        };
        write(f, &lines[0])?;
        let dashes: Vec<String> = (0..columns)
            .map(|column| {
                let dashes = "-".repeat(widths[column] - 1);
                if is_left(column) { format!("{dashes}-") } else { format!("{dashes}:") }
            })
            .collect();
        write(f, &dashes)?;
        lines[1..].iter().try_for_each(|line| write(f, line))
    }
}

/// A number with `digits` after the point, or a dash.
pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// A whole number with its thousands set apart, or a dash.
pub(crate) fn thousands(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(&["", "requests/s"]);
        table.row(vec!["ours".to_owned(), thousands(Some(12345.6))], "");
        table.row(vec!["theirs".to_owned()], "not run: a | b\nc");
        assert_eq!(
            table.to_string(),
            "|        | requests/s |                |\n\
             | ------ | ---------: | -------------- |\n\
             | ours   |     12,346 |                |\n\
             | theirs |          - | not run: a b c |\n"
        );
    }
}
